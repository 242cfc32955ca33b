r"""Joint samples that are ranked as the decoded latent paths of each window are, and when they are."""

import math
import pickle
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from seasonal import SeasonalModel

from adapts import Adapter
from adapts.adapters import AdapterModule, Linear, Projection, Residual
from adapts.calibration.joint_bands import JointBands
from adapts.copulas.gaussian import GaussianCopula
from adapts.copulas.independent import Independent
from adapts.copulas.rank import PathCopula
from adapts.data.panel import Panel
from adapts.data.splits import split_panel
from adapts.data.windows import Preparation, last_windows, split_windows
from adapts.distribution.joint import JointDistribution
from adapts.distribution.quantile_function import QuantileFunction
from adapts.prediction.marginals import MarginalPredictor

HORIZON = 6
INDEPENDENT = Independent(HORIZON, 2)


def alternating(rows=3000, seed=0):
    r"""Two independent latents, the louder of which changes every 60 rows or so, seen as their sum and difference."""
    rng = np.random.default_rng(seed)
    first = np.repeat(rng.random(rows // 60) < 0.5, 60)
    loud = np.where(first[:, None], [1.5, 0.2], [0.2, 1.0])
    return (loud * rng.standard_normal((rows, 2))) @ np.array([[1, 1], [1, -1]]) / np.sqrt(2)


def in_pairs(rows=3000, seed=0):
    r"""Channels that go together two by two, always: more than one latent channel can tell."""
    rng = np.random.default_rng(seed)
    shared = rng.standard_normal((rows, 2)) @ np.array([[1, 1, 0, 0], [0, 0, 0.9, 0.9]])
    return shared + 0.4 * rng.standard_normal((rows, 4))


def fit(family, series, **options):
    options = {"gate": False, "max_windows": 400, **options}
    return Adapter(family, foundation_model=SeasonalModel(), prediction_length=HORIZON, **options).fit(series)


@pytest.fixture(scope="module")
def chosen():
    return fit(Projection(), alternating())


def windows_of(adapter, number=5):
    panel = Panel.of(alternating(600, seed=9))
    part = split_panel(panel)["train"]
    length = adapter.context_length_
    return split_windows(panel, part, context_length=length, prediction_length=HORIZON, max_windows=number)


class Shifted(AdapterModule):
    r"""Shifts all channels and leads alike, by what each draw of itself says, by far more than they spread."""

    @property
    def capabilities(self):
        return replace(super().capabilities, stochastic=True)

    def _draw(self, state):
        state.drawn["shift"] = 100 * torch.linspace(-1, 1, state.draws)

    def _encode(self, x, state):
        return x

    def _decode(self, z, state):
        return z + state.drawn["shift"].repeat_interleave(len(z) // state.draws).view(-1, 1, 1, 1)


def pipeline_of(family, series, noise=None, **options):
    panel = Panel.of(series)
    windows = split_windows(
        panel, split_panel(panel)["train"], context_length=48, prediction_length=HORIZON, max_windows=7
    )
    unbounded = torch.full((series.shape[1],), -torch.inf), torch.full((series.shape[1],), torch.inf)
    module = family.build(series.shape[1])
    module.prepare(torch.from_numpy(series).float())
    pipeline = MarginalPredictor(
        module.eval(), SeasonalModel(), unbounded, batch_size=3, seed=0, noise=noise, **options
    )
    return pipeline, windows


def rank_correlation(paths):
    r"""Of the first channel with the second one, (n, H)."""
    ranks = paths.argsort(0).argsort(0).double()
    centred = (ranks - ranks.mean(0)) / ranks.std(0, correction=0)
    return centred[..., 0].mul(centred[..., 1]).mean(0)


def correlation(paths):
    centred = (paths - paths.mean(0)) / paths.std(0, correction=0)
    return centred[..., 0].mul(centred[..., 1]).mean(0)


class TestPipeline:
    def test_samples_correlate_as_the_decoded_paths_do(self):
        pipeline, windows = pipeline_of(Projection(), alternating(600))
        marginals, _, copula = pipeline.predict_joint(windows, INDEPENDENT)
        frozen = pipeline.zero_shot(windows)
        parts = [pipeline._adapted(windows[[n]], frozen.values[[n]])[2] for n in range(len(windows))]
        decoded = torch.cat(parts, 1)  # (S, n, H, D)
        samples = JointDistribution(marginals, copula).sample(len(decoded))
        torch.testing.assert_close(rank_correlation(samples), rank_correlation(decoded), atol=1e-3, rtol=0)

    @pytest.mark.parametrize(("noise", "common"), [(None, 0.0), (0.25, 0.0), (0.25, 0.9)])
    def test_a_rotation_of_independent_normals_correlates_as_their_variances_say(self, noise, common, monkeypatch):
        monkeypatch.setattr("adapts.prediction.marginals.DRAWS", 8000)
        series = alternating(600)
        series /= series.std(0)
        pipeline, windows = pipeline_of(
            Projection(), series, None if noise is None else torch.full((HORIZON, 2), noise),
            latent_copula=Independent(HORIZON, 2),
        )  # fmt: skip
        latent = QuantileFunction(pipeline.model.quantile_levels, pipeline.latent_quantiles(windows))
        # A channel's share of the latent variances, in its own unit; noise is a share of that unit squared.
        spread = pipeline.window_variance(windows).expand(-1, HORIZON, -1)  # (n, H, D)
        directions = pipeline.module.directions
        scale = pipeline.module.encode(windows.past())[1].scale
        covariance = torch.einsum("nhk,ik,jk->nhij", latent.variance, directions, directions)
        covariance = covariance * scale.unsqueeze(-1) * scale.unsqueeze(-2)
        variance = covariance.diagonal(dim1=-2, dim2=-1) + (noise or 0.0) * spread
        errors = GaussianCopula(torch.tensor([[1.0, common], [common, 1.0]]), torch.eye(HORIZON))
        shared = covariance[..., 0, 1] + (noise or 0.0) * common * spread.prod(-1).sqrt()
        expected = shared / variance.prod(-1).sqrt()
        assert float(expected.min()) < -0.2 and float(expected.max()) > 0.2
        marginals, _, copula = pipeline.predict_joint(windows, errors)
        torch.testing.assert_close(
            correlation(JointDistribution(marginals, copula).sample(8000)), expected, atol=0.05, rtol=0
        )

    def test_the_margins_are_those_of_the_law(self):
        pipeline, windows = pipeline_of(Linear(latent_channels=1), in_pairs(600), torch.full((HORIZON, 4), 0.3))
        (law, parts), (marginals, same, copula) = (
            pipeline.predict(windows),
            pipeline.predict_joint(windows, Independent(HORIZON, 4)),
        )
        assert torch.equal(law.values, marginals.values) and torch.equal(parts.noise, same.noise)
        samples = JointDistribution(marginals, copula).sample(400, torch.Generator().manual_seed(0)).sort(0).values
        other = (
            JointDistribution(marginals, Independent(HORIZON, 4))
            .sample(400, torch.Generator().manual_seed(1))
            .sort(0)
            .values
        )
        inside = slice(20, -20)
        torch.testing.assert_close(samples[inside], other[inside], atol=0.1, rtol=0)

    def test_a_window_is_ranked_alike_whatever_the_batch(self):
        pipeline, windows = pipeline_of(Projection(), alternating(600), torch.full((HORIZON, 2), 0.1))
        ranks = pipeline.predict_joint(windows, INDEPENDENT)[2].ranks
        for number in range(len(windows)):
            alone = pipeline.predict_joint(windows[[number]], INDEPENDENT)[2].ranks[:, 0]
            assert float((alone == ranks[:, number]).double().mean()) > 0.99  # but for a digit of a batch's product

    def test_draws_of_a_stochastic_family_are_kept_apart(self):
        pipeline, windows = pipeline_of(Shifted(), in_pairs(600), posterior_draws=20)
        marginals, _, copula = pipeline.predict_joint(windows, Independent(HORIZON, 4))
        assert copula.ranks.shape == (260, 7, HORIZON, 4)
        assert float(rank_correlation(JointDistribution(marginals, copula).sample(260)).min()) > 0.95

    def test_who_tells_no_dependence(self):
        pipeline, _ = pipeline_of(Projection(), alternating(600))
        assert pipeline.models_dependence
        assert not replace(pipeline, gate=torch.zeros(HORIZON, 2)).models_dependence
        assert not pipeline_of(Residual(), alternating(600))[0].models_dependence

    def test_missing_cells_leave_no_nan(self):
        series = alternating(600)
        series[40:90, 0], series[200:, 1] = np.nan, np.nan
        adapter = fit(Projection(), alternating(1200))
        adapter.fitted_.latent_ranks = True
        paths = adapter.joint_distribution(replace(windows_of(adapter), panel=Panel.of(series))).sample(50)
        assert paths.isfinite().all()

    @pytest.mark.parametrize("ratio", [False, True])
    def test_covariates_are_left_out_and_what_is_known_moves_no_rank(self, ratio):
        targets, rng = alternating(1200), np.random.default_rng(1)
        past, known = rng.standard_normal((1200, 1)), rng.gamma(2, 50, (1200, 1))
        season = 2 + np.sin(2 * np.pi * np.arange(1200) / 12)[:, None]
        targets = (season + 0.3 * targets) * known if ratio else targets + 0.05 * known
        frame = pd.DataFrame(np.hstack([targets, past, known]), columns=["a", "b", "past", "known"])
        roles = {"past_covariates": "past", "known_covariates": "known"}
        adapter = Adapter(
            Projection(), foundation_model=SeasonalModel(), prediction_length=HORIZON, gate=False, max_windows=200
        ).fit(frame, **roles)
        fitted = adapter.fitted_
        assert fitted.effect.divides if ratio else fitted.effect.used
        fitted.latent_ranks = True
        windows = last_windows(fitted.panel, context_length=48, prediction_length=HORIZON)
        windows = replace(windows, origin=windows.origin - HORIZON)
        predictor = adapter._predictor("predict")
        pipeline, standard = predictor.marginals, predictor.standardiser.standardised(windows)
        ranks = pipeline.predict_joint(standard, INDEPENDENT)[2].ranks
        plain = replace(standard, preparation=Preparation())
        decoded = pipeline._noisy_paths(
            plain, pipeline._adapted(plain, pipeline.zero_shot(plain).values)[2], INDEPENDENT
        )
        assert ranks.shape == (256, 1, HORIZON, 2)
        assert float((PathCopula(decoded).ranks == ranks).double().mean()) > 0.99


class TestChoice:
    def test_dependence_that_differs_by_window_is_told_by_the_latent_paths(self, chosen):
        assert chosen.fitted_.latent_ranks
        said = chosen.summary().stages["confirmation"]
        assert "latent copula selected (joint score on 60 windows against independence: kronecker" in said
        law = chosen.joint_distribution(windows_of(chosen, 40))
        assert law.copula.windows == 40
        found = rank_correlation(law.sample(200)).mean(1)
        assert float(found.min()) < -0.5 and float(found.max()) > 0.5

    def test_dependence_that_the_decoder_does_not_know_is_told_by_past_errors(self):
        adapter = fit(Projection(latent_channels=1), in_pairs())
        said = adapter.summary().stages["confirmation"]
        assert not adapter.fitted_.latent_ranks and " latent +" in said and "latent copula selected" not in said
        last = last_windows(adapter.fitted_.panel, context_length=adapter.context_length_, prediction_length=HORIZON)
        assert adapter.joint_distribution(last).copula is adapter.fitted_.copula

    @pytest.mark.parametrize("options", [{"copula": "empirical"}, {"copula": "independent"}])
    def test_it_is_no_candidate_where_another_was_asked_for(self, options):
        adapter = fit(Projection(), alternating(), **options)
        assert not adapter.fitted_.latent_ranks and "latent" not in adapter.summary().stages["confirmation"]

    @pytest.mark.parametrize("family", ["identity", "residual"])
    def test_families_that_mix_no_channels_have_no_such_candidate(self, family):
        assert "latent" not in fit(family, alternating(1500)).summary().stages["confirmation"]

    def test_the_copula_of_past_errors_stays_at_hand(self, chosen):
        fitted = chosen.fitted_
        assert fitted.copula.windows is None
        closed = replace(fitted, gate=torch.zeros(HORIZON, 2))
        other = chosen.clone()
        other.fitted_ = closed
        assert other.joint_distribution(windows_of(other)).copula is closed.copula


class TestKept:
    def test_a_save_and_a_pickle_give_the_same_samples(self, chosen, tmp_path):
        chosen.save(tmp_path / "run")
        again = Adapter.load(tmp_path / "run", foundation_model=SeasonalModel())
        assert again.fitted_.latent_ranks
        samples = chosen.predict().samples
        np.testing.assert_array_equal(again.predict().samples, samples)
        np.testing.assert_array_equal(pickle.loads(pickle.dumps(chosen)).predict().samples, samples)

    def test_a_fit_in_a_folder_is_taken_up_again(self, chosen, tmp_path):
        samples = chosen.predict().samples
        for _ in range(2):
            adapter = chosen.clone().fit(alternating(), checkpoint_dir=tmp_path / "fit")
            assert adapter.fitted_.latent_ranks
            np.testing.assert_array_equal(adapter.predict().samples, samples)

    def test_an_update_keeps_the_choice(self, chosen):
        later = pickle.loads(pickle.dumps(chosen)).update(alternating(600, seed=5)[:60])
        assert later.fitted_.latent_ranks
        windows = last_windows(later.fitted_.panel, context_length=later.context_length_, prediction_length=HORIZON)
        assert later.joint_distribution(windows).copula.windows == 1
        low, high = later.predict().band(0.9)
        assert (low < high).all()

    def test_the_forecasts_of_a_backtest_are_drawn_from_it(self, chosen, tmp_path):
        series, folder = alternating(), tmp_path / "backtest"
        options = {"windows": 20, "baselines": False, "return_forecasts": True, "checkpoint_dir": folder}
        _, first = chosen.backtest(series, **options)
        _, again = chosen.backtest(series, **options)
        assert all(isinstance(forecast.joint_distribution.copula, PathCopula) for forecast in first["adapter"])
        for one, other in zip(first["adapter"], again["adapter"], strict=True):
            np.testing.assert_array_equal(one.samples, other.samples)


def test_bands_of_several_windows_are_each_windows_own():
    together = torch.randn(200, 1, 1, 1).expand(-1, 1, HORIZON, 2)
    copula = PathCopula(torch.cat([together, torch.randn(200, 1, HORIZON, 2)], 1))
    marginals = QuantileFunction((0.1, 0.5, 0.9), torch.tensor([-1.0, 0.0, 1.0]).expand(2, HORIZON, 2, -1))
    scores = JointBands().score(JointDistribution(marginals, copula), 0.9, "all")
    assert scores.shape == (2, 1, 1)
    for level, one in zip((0.9, 0.9 ** (1 / (2 * HORIZON))), scores, strict=True):  # all cells as one, each alone
        far = 0.8 + 0.2 * math.log(0.2 / (1 - level))
        assert one.numpy() == pytest.approx(far, abs=0.06)
    low, high = JointBands().band(JointDistribution(marginals, copula), 0.9)
    assert bool((high[0] < high[1]).all()) and bool((low[0] > low[1]).all())
