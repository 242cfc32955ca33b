r"""Models of points: the distribution of their errors, and fits around them."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from adapts import Adapter, FoundationModel
from adapts.foundation.point import LEVELS, ResidualDistribution, context_scale, residual_quantiles, with_distribution
from adapts.testing.foundation import FoundationModelConformance

HORIZON, CONTEXT = 8, 64


class LastValue(FoundationModel):
    r"""The last observation, without any weights."""

    kind = "point"
    reads_missing = False

    def __init__(self, *, prediction_length: int = 4, differentiable: bool = True) -> None:
        super().__init__(name="last value", version="1", quantile_levels=[0.5], context_length=CONTEXT,
                         prediction_length=prediction_length, differentiable=differentiable)  # fmt: skip
        self.freeze()

    def _forecast(self, context: Tensor) -> Tensor:
        observed = ~context.isnan()
        last = torch.where(observed, torch.arange(context.shape[1]), 0).amax(1, keepdim=True)
        value = torch.where(observed, context, 0.0).gather(1, last)  # (N, 1)
        return value.unsqueeze(2).expand(-1, 1, self.prediction_length)


def simulated(persistence: float, count: int, seed: int) -> tuple[Tensor, Tensor]:
    r"""Contexts and targets of stationary AR(1) processes, or of random walks, each on a scale of its own."""
    generator = torch.Generator().manual_seed(seed)
    steps = torch.randn(count, 300 + CONTEXT + HORIZON, generator=generator)
    rows = [torch.zeros(count)]
    for step in steps.unbind(1):
        rows.append(persistence * rows[-1] + step)
    scale = torch.randn(count, 1, generator=generator).exp()
    values = torch.stack(rows, 1)[:, -CONTEXT - HORIZON :] * scale + 5.0
    return values[:, :CONTEXT], values[:, CONTEXT:]


def fitted_distribution(persistence: float) -> FoundationModel:
    model = ResidualDistribution(LastValue())
    quantiles = residual_quantiles(model, *simulated(persistence, 4000, seed=0))
    assert quantiles is not None
    return model.with_head({"quantiles": quantiles})


class TestLastValueWithErrors(FoundationModelConformance):
    @pytest.fixture
    def foundation_model(self) -> FoundationModel:
        # with a bias, so that the median reads the whole context: without one, only the last step
        quantiles = torch.linspace(-1.0, 2.0, 9)[:, None] * torch.arange(1.0, 9.0).sqrt()
        return ResidualDistribution(LastValue()).with_head({"quantiles": quantiles})

    @pytest.fixture
    def context(self) -> Tensor:  # a step between its neighbours has no slope, so that more rows are needed
        return torch.randn(12, CONTEXT - 5, generator=torch.Generator().manual_seed(1))


# ---------------------------------------------------------------------- known answers


@pytest.mark.parametrize("persistence", [0.5, 0.9, 1.0], ids=["AR(0.5)", "AR(0.9)", "random walk"])
def test_intervals_cover_what_they_promise(persistence: float) -> None:
    model, (past, future) = fitted_distribution(persistence), simulated(persistence, 4000, seed=1)
    quantiles = model.predict(past, HORIZON)
    covered = ((future > quantiles[:, 0]) & (future < quantiles[:, -1])).float().mean(0)
    assert_close(covered, torch.full((HORIZON,), 0.8), rtol=0, atol=0.03)
    below = (future[:, None] < quantiles).float().mean((0, 2))
    assert_close(below, torch.tensor(LEVELS), rtol=0, atol=0.03)


def test_errors_of_a_random_walk_have_the_quantiles_of_the_normal_law() -> None:
    # E|step| = sqrt(2 / pi), and the error of lead h has the variance h
    model = ResidualDistribution(LastValue())
    quantiles = residual_quantiles(model, *simulated(1.0, 20_000, seed=2))
    assert quantiles is not None
    scores = torch.special.ndtri(torch.tensor(LEVELS))
    expected = np.sqrt(np.pi / 2) * scores[:, None] * torch.arange(1, HORIZON + 1).sqrt()
    assert_close(quantiles, expected, rtol=0.05, atol=0.1)
    assert_close(model.residuals.quantiles, expected[:, :4])  # what an unfitted model has


def test_the_median_corrects_a_bias() -> None:
    model = ResidualDistribution(LastValue())
    past, future = simulated(1.0, 2000, seed=3)
    quantiles = residual_quantiles(model, past, future + 3 * context_scale(past)[:, None])
    plain = residual_quantiles(model, past, future)
    assert quantiles is not None
    assert plain is not None
    assert_close(quantiles, plain + 3, rtol=0, atol=1e-4)


def test_the_scale_of_a_context() -> None:
    nan = torch.nan
    rows = torch.tensor([[1.0, 3.0, 2.0, 2.0], [nan, 1.0, nan, 4.0], [nan, nan, nan, 2.0], [nan] * 4, [7.0] * 4])
    assert_close(context_scale(rows), torch.tensor([1.0, 3.0, 0.0, 0.0, 0.0]))
    assert_close(context_scale(-3 * rows + 2), torch.tensor([3.0, 9.0, 0.0, 0.0, 0.0]))


def test_too_few_errors_and_constant_contexts() -> None:
    model = ResidualDistribution(LastValue())
    past, future = simulated(1.0, 19, seed=4)
    assert residual_quantiles(model, past, future) is None
    constant = torch.ones(30, CONTEXT)
    assert residual_quantiles(model, constant, torch.ones(30, 3)) is None
    past, future = simulated(1.0, 40, seed=4)
    with_constant = residual_quantiles(model, torch.cat([past, constant]), torch.cat([future, torch.ones(30, HORIZON)]))
    assert_close(with_constant, residual_quantiles(model, past, future))
    future[:21, 2] = torch.nan
    assert residual_quantiles(model, past, future) is None


def test_only_models_of_points_are_changed() -> None:
    model = ResidualDistribution(LastValue())
    assert with_distribution(model) is model
    assert isinstance(with_distribution(LastValue()), ResidualDistribution)


DAMAGED = {
    "none": {},
    "too few levels": {"quantiles": torch.zeros(8, 3)},
    "no lead": {"quantiles": torch.zeros(9, 0)},
    "decreasing": {"quantiles": torch.arange(9.0, 0.0, -1)[:, None]},
    "missing": {"quantiles": torch.full((9, 3), torch.nan)},
    "others": {"quantiles": torch.zeros(9, 3), "other": torch.zeros(1)},
}


@pytest.mark.parametrize("state", DAMAGED.values(), ids=DAMAGED)
def test_damaged_quantiles_are_refused(state: dict[str, Tensor]) -> None:
    with pytest.raises(ValueError, match="quantiles|lacks the tensor|has no tensor"):
        ResidualDistribution(LastValue()).with_head(state)


# ---------------------------------------------------------------------- fits


def series(rows: int = 900, seed: int = 0) -> np.ndarray:
    generator = np.random.default_rng(seed)
    common = generator.standard_normal((rows, 1)).cumsum(0)
    return np.concatenate([common, 2 * common], 1) + 0.3 * generator.standard_normal((rows, 2)).cumsum(0)


def adapter(family: str = "identity", **options: object) -> Adapter:
    model = options.pop("model", None) or LastValue()
    return Adapter(family, foundation_model=model, prediction_length=HORIZON, context_length=32, **options)


@pytest.mark.parametrize("family", ["identity", "residual", "linear"])
def test_fit_predict_save_load_and_update(family: str, tmp_path: Path) -> None:
    options = {"trainer_options": {"max_epochs": 2, "enable_progress_bar": False}} if family == "linear" else {}
    rows = series()
    one = adapter(family, **options).fit(rows[:880])
    assert "forecasts points" in one.summary().stages["residuals"]
    assert one.model.quantile_levels == LEVELS
    forecast = one.predict()
    assert np.isfinite(forecast.samples).all()
    one.save(tmp_path / "saved")
    again = Adapter.load(tmp_path / "saved", foundation_model=LastValue())
    np.testing.assert_array_equal(again.predict().samples, forecast.samples)
    assert again.update(rows[880:]).predict().samples.shape == (200, HORIZON, 2)
    np.testing.assert_array_equal(again.predict().samples, one.update(rows[880:]).predict().samples)


def test_a_pickled_fit_forecasts_alike() -> None:
    one = adapter().fit(series())
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(one)).predict().samples, one.predict().samples)


def test_an_interrupted_fit_resumes(tmp_path: Path) -> None:
    one = adapter().fit(series(), checkpoint_dir=tmp_path / "checkpoints")
    again = adapter().fit(series(), checkpoint_dir=tmp_path / "checkpoints")
    np.testing.assert_array_equal(again.predict().samples, one.predict().samples)


def test_a_backtest_covers(tmp_path: Path) -> None:
    frame = adapter().backtest(series(3000), windows=150)
    value = frame.set_index(["model", "channel", "lead_block", "metric"])["value"]
    assert abs(value.loc["adapter", "all", "all", "coverage_80"] - 0.8) < 0.08
    # the distribution of a random walk beats a point, whose CRPS is its absolute error
    assert value.loc["adapter", "all", "all", "crps"] < 0.8 * value.loc["adapter", "all", "all", "mae"]


def test_a_model_of_points_needs_a_fit_and_has_no_head() -> None:
    with pytest.raises(ValueError, match="last value forecasts points, and the distribution of its errors is unknown"):
        adapter().predict(series())
    for probe_head in (True, False):
        with pytest.raises(ValueError, match="probe_head is for models whose head is untrained, and last value forec"):
            adapter(probe_head=probe_head).fit(series())


def test_too_few_windows_leave_the_intervals_of_a_random_walk() -> None:
    one = Adapter("identity", foundation_model=LastValue(), prediction_length=HORIZON, context_length=16)
    with pytest.warns(UserWarning):
        one.fit(series(60))
    assert one.summary().stages["residuals"].startswith("left out: ")
    assert np.isfinite(one.predict().samples).all()


# ---------------------------------------------------------------------- models without a gradient


def test_encoder_training_around_a_forward_only_model_is_refused() -> None:
    model = LastValue(differentiable=False)
    with pytest.raises(
        ValueError, match="'linear' trains an encoder.*last value has none: choose one of attention, au"
    ):
        adapter("linear", model=model).fit(series())


@pytest.mark.parametrize("family", ["identity", "residual", "context", "attention"])
def test_other_families_are_fitted_around_a_forward_only_model(family: str) -> None:
    options = {"trainer_options": {"max_epochs": 1, "enable_progress_bar": False}} if family == "attention" else {}
    one = adapter(family, model=LastValue(differentiable=False), **options).fit(series())
    assert np.isfinite(one.predict().samples).all()


# ---------------------------------------------------------------------- frequency and season


class Seasonal(LastValue):
    r"""The value one season ago; the last value if there is no season."""

    season = 1

    def with_frequency(self, frequency: str | None, season_length: int) -> FoundationModel:
        copied = type(self)(prediction_length=self.prediction_length)
        copied.season = season_length
        return copied

    def _forecast(self, context: Tensor) -> Tensor:
        step = torch.arange(self.prediction_length) % self.season
        filled = context.nan_to_num()
        filled = torch.nn.functional.pad(filled, (max(0, self.season - filled.shape[1]), 0))
        return filled[:, filled.shape[1] - self.season + step].unsqueeze(1)


def test_a_fit_tells_the_model_frequency_and_season(tmp_path: Path) -> None:
    import pandas as pd

    time = pd.date_range("2024-01-01", periods=1200, freq="h")
    season = np.sin(2 * np.pi * np.arange(1200)[:, None] / 24 + np.array([0.0, 1.0]))
    noise = 0.01 * np.random.default_rng(0).standard_normal((1200, 2))
    frame = pd.DataFrame(season + noise, index=time, columns=["a", "b"])
    one = adapter(model=Seasonal()).fit(frame)
    path = one.predict().mean
    ahead = np.sin(2 * np.pi * np.arange(1200, 1200 + HORIZON)[:, None] / 24 + np.array([0.0, 1.0]))
    np.testing.assert_allclose(path, ahead, atol=0.05)
    one.save(tmp_path / "saved")
    again = Adapter.load(tmp_path / "saved", foundation_model=Seasonal())
    np.testing.assert_array_equal(again.predict().samples, one.predict().samples)
    undated = adapter(model=Seasonal()).fit(frame.to_numpy())  # no frequency, no season: the last value
    assert np.abs(undated.predict().mean - ahead).max() > 0.2


def test_copies_for_two_seasons_do_not_share_forecasts() -> None:
    from adapts.foundation.cache import cached_forecasts
    from adapts.foundation.series import for_series

    context, model = torch.randn(2, 40), Seasonal()
    hourly, daily = for_series(model, "h", None), for_series(model, "D", None)
    assert (hourly.series, daily.series) == (("h", 24), ("D", 7))
    assert for_series(model, "h", 12).series == ("h", 12)
    assert for_series(LastValue(), "h", None).series is None
    with cached_forecasts():
        for one, season in ((hourly, 24), (daily, 7)):
            assert_close(one.predict(context, 4)[:, 0], context[:, 40 - season : 44 - season])
