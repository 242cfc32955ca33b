r"""The door: fit, predict, backtest, save and load, on series whose law is known."""

import json
import re
import warnings

import numpy as np
import pandas as pd
import pytest
import torch
from seasonal import SeasonalModel

from adapts import Adapter
from adapts.adapters import Linear, Projection, families
from adapts.copulas.independent import Independent
from adapts.data.cards import Dataset
from adapts.data.panel import Panel
from adapts.data.windows import last_windows
from adapts.distribution.joint import JointDistribution
from adapts.notices import FitWarning
from adapts.testing.tiny import tiny_chronos_bolt

H, D = 12, 3


def series(rows: int = 1200, noise: float = 0.3, seed: int = 0) -> pd.DataFrame:
    r"""Two seasons mixed into three channels, with noise that the channels share in part."""
    generator = np.random.default_rng(seed)
    time = np.arange(rows)[:, None]
    sources = np.sin(2 * np.pi * time / np.array([12.0, 6.0]))
    shared = generator.standard_normal((rows, 1))
    values = sources @ np.array([[1.0, 0.5, -0.5], [0.3, 1.0, 1.0]])
    values = values + noise * (shared + 0.5 * generator.standard_normal((rows, D)))
    index = pd.date_range("2024-01-01", periods=rows, freq="h")
    return pd.DataFrame(100 + 20 * values, index=index, columns=["a", "b", "c"])


def adapter(family: object = "residual", **options: object) -> Adapter:
    options = {"foundation_model": SeasonalModel(), "prediction_length": H, "max_windows": 150, **options}
    if family == "linear":
        options["trainer_options"] = {"max_epochs": 1, "enable_progress_bar": False}
    return Adapter(family, **options)


@pytest.fixture(scope="module")
def fitted() -> Adapter:
    return adapter().fit(series())


# ------------------------------------------------------------------------------------------------ forecasts


@pytest.mark.parametrize("family", ["residual", "bayesian"])
def test_parts_of_the_variance(family: str) -> None:
    fitted = adapter(family, gate=False).fit(series(), borders=(700, 1000))
    table = fitted.predict().variance_parts()
    np.testing.assert_allclose(table.iloc[:, 3:7].sum(axis=1), table["total"], rtol=1e-9)
    np.testing.assert_allclose(table["total"], np.square(fitted.predict().samples.std(0)).ravel(), rtol=0.25)
    assert (table["posterior"] == 0).all() if family == "residual" else (table["posterior"] > 0).all()
    assert (table["foundation_model"] > 0).all() and (table["noise"] >= 0).all()


def test_parts_of_the_variance_of_the_frozen_model(fitted: Adapter) -> None:
    windows = last_windows(Panel.of(series()), context_length=100, prediction_length=H)
    law = fitted.zero_shot_distribution(windows)
    assert not law.parts.posterior.any() and not law.parts.noise.any()
    torch.testing.assert_close(law.parts.foundation_model.double(), law.marginals.variance, rtol=1e-4, atol=0)


@pytest.mark.parametrize("family", sorted(families()))
def test_every_family_forecasts_without_nan(family: str) -> None:
    forecast = adapter(family).fit(series(400)).predict(num_samples=50)
    assert forecast.mean.shape == (H, D)
    assert forecast.samples.shape == (50, H, D)
    assert np.isfinite(forecast.mean).all() and np.isfinite(forecast.samples).all()
    lower, upper = forecast.interval(0.8)
    assert (lower < upper).all()
    assert forecast.to_pandas()["timestamp"].iloc[0] == series(400).index[-1] + pd.Timedelta("1h")


def test_samples_have_the_margins_of_the_law(fitted: Adapter) -> None:
    forecast = fitted.predict(num_samples=4000)
    lower, upper = forecast.interval(0.8)
    inside = ((forecast.samples >= lower) & (forecast.samples <= upper)).mean(0)
    np.testing.assert_allclose(inside, 0.8, atol=2e-3)  # stratified: far closer than the 0.006 of independent draws
    np.testing.assert_allclose(forecast.samples.mean(0), forecast.mean, atol=0.02 * (upper - lower).max())


def test_one_seed_gives_one_forecast_and_another_seed_other_paths(fitted: Adapter) -> None:
    again = adapter().fit(series())
    np.testing.assert_array_equal(fitted.predict().samples, again.predict().samples)
    assert (fitted.predict(seed=1).samples != fitted.predict().samples).any()
    np.testing.assert_array_equal(fitted.predict(seed=1).mean, fitted.predict().mean)


def test_the_copula_sees_that_channels_err_together(fitted: Adapter) -> None:
    samples = fitted.predict(num_samples=2000).samples
    correlation = np.corrcoef(samples[:, 3].T)
    assert (correlation[np.triu_indices(D, 1)] > 0.4).all()  # the noise is shared: .8 in truth


class Decay(SeasonalModel):
    r"""The law of an AR(1) process with coefficient .8 and unit variance."""

    def _forecast(self, context: torch.Tensor) -> torch.Tensor:
        share = 0.8 ** torch.arange(1, self.prediction_length + 1)
        return context[:, -1, None, None] * share + (1 - share**2).sqrt() * self.levels[:, None]


def test_sums_over_all_cells_of_a_vector_autoregression_are_covered() -> None:
    generator = np.random.default_rng(2)
    shocks = 0.6 * generator.standard_normal((5000, D)) @ np.linalg.cholesky(0.5 * np.eye(D) + 0.5).T
    rows = np.zeros((5000, D))
    for now in range(1, len(rows)):
        rows[now] = 0.8 * rows[now - 1] + shocks[now]
    one = adapter(foundation_model=Decay()).fit(rows[:2500])
    windows = last_windows(Panel.of(rows), context_length=96, prediction_length=H)
    origins = np.arange(2500, 5000 - H, 7)
    windows = type(windows)(windows.panel, np.zeros_like(origins), origins, 96, H)
    law, truth = one.joint_distribution(windows), windows.future().sum((1, 2))
    covered = []
    for each in (law, JointDistribution(law.marginals, Independent(H, D))):
        sums = each.sample(200, torch.Generator().manual_seed(0)).sum((2, 3))
        low, high = sums.quantile(torch.tensor([0.1, 0.9], dtype=sums.dtype), 0)
        covered.append(float(((low <= truth) & (truth <= high)).float().mean()))
    assert 0.72 < covered[0] < 0.88 and covered[1] < 0.5  # of independence


@pytest.mark.parametrize("copula", ["residual", "gaussian-history", "schaake", "empirical"])
def test_every_copula_is_chosen_by_name_and_saved(copula: str, tmp_path) -> None:
    one = adapter("identity", copula=copula).fit(series())
    said = one.summary().stages["confirmation"]
    kept, gains = re.search(
        r"(\S+) copula selected \((?:joint|log) score .* against independence: (.*)\)", said
    ).groups()
    gain = {name: float(value) for name, value in re.findall(r"([a-z-]+) ([+-][\d.]+)", gains)}
    assert set(gain) == ({"kronecker", "empirical"} if copula == "residual" else {copula})
    assert kept == max({"independent": 0.0, **gain}, key={"independent": 0.0, **gain}.get)
    samples = one.predict(num_samples=500).samples
    # What the channels share is noise, .8 of it in truth, and not the seasons that past values are correlated by.
    shared = np.corrcoef(samples[:, 3, 0], samples[:, 3, 1])[0, 1]
    assert shared > 0.3 if kept != "independent" else abs(shared) < 0.15
    assert (kept == "independent") == (copula == "gaussian-history")
    one.save(tmp_path / "run")
    again = Adapter.load(tmp_path / "run", foundation_model=SeasonalModel())
    assert again.copula == copula
    np.testing.assert_array_equal(again.predict(num_samples=500).samples, samples)
    np.testing.assert_array_equal(again.predict().band(0.9, "time"), one.predict().band(0.9, "time"))


def test_intervals_cover_on_fresh_data(fitted: Adapter) -> None:
    panel = Panel.of(series(2000, seed=7))
    windows = last_windows(panel, context_length=96, prediction_length=H)
    origins = np.arange(200, 1980, 7)
    windows = type(windows)(panel, np.zeros_like(origins), origins, 96, H)
    law = fitted.joint_distribution(windows)
    pit = law.marginals.pit(windows.future(), torch.Generator().manual_seed(0))
    assert abs(float(((pit > 0.1) & (pit < 0.9)).float().mean()) - 0.8) < 0.05


@pytest.mark.parametrize("joint", ["time", "channels", "all"])
def test_bands_hold_whole_paths_of_fresh_data(fitted: Adapter, joint: str) -> None:
    rows = series(5000, seed=8)
    inside = []
    for stop in range(200, 5000 - H, 40):
        forecast, truth = fitted.predict(rows[:stop], num_samples=1), rows[stop : stop + H].to_numpy()
        low, high = forecast.band(0.8, joint)
        inside.append(((low <= truth) & (truth <= high)).all({"time": 0, "channels": 1, "all": (0, 1)}[joint]))
    assert 0.74 < np.mean(inside) < 0.9


def test_the_units_do_not_matter(fitted: Adapter) -> None:
    moved = adapter().fit(series() * 1000 - 5e8).predict()  # half a billion beside a standard deviation of 20,000
    np.testing.assert_allclose((moved.mean + 5e8) / 1000, fitted.predict().mean, atol=1e-2)


def test_the_order_of_columns_and_later_rows(fitted: Adapter) -> None:
    later = series(1000)
    expected = fitted.predict(later)
    np.testing.assert_array_equal(fitted.predict(later[["c", "a", "b"]]).mean, expected.mean)
    assert expected.to_pandas()["timestamp"].iloc[0] == later.index[-1] + pd.Timedelta("1h")


def test_a_panel_gives_a_list_in_order() -> None:
    frames = [series(500, seed=seed).assign(item_id=name) for seed, name in ((0, "x"), (1, "y"))]
    long = pd.concat(frames).rename_axis("timestamp").reset_index()
    forecasts = adapter().fit(long).predict()
    assert [forecast.item_id for forecast in forecasts] == ["x", "y"]
    array = np.random.default_rng(0).standard_normal((2, 300, 2))
    assert len(adapter().fit(array).predict()) == 2


def test_a_constant_channel_is_forecast_as_itself() -> None:
    frame = series(500).assign(flat=7.0)
    forecast = adapter().fit(frame).predict()
    flat = forecast.to_pandas().query("channel == 'flat'")
    np.testing.assert_allclose(flat["mean"], 7.0, atol=1e-3)
    np.testing.assert_allclose(flat["0.95"] - flat["0.05"], 0.0, atol=1e-2)


def test_missing_values_are_forecast_over() -> None:
    frame = series(600)
    frame[np.random.default_rng(0).random(frame.shape) < 0.1] = np.nan
    frame.iloc[-30:, 1] = np.nan
    for family in ("residual", Projection(latent_channels=2)):
        forecast = adapter(family).fit(frame).predict()
        assert np.isfinite(forecast.samples).all()


@pytest.mark.parametrize("family", ["linear", "autoencoder", "flow", "weave", "vae", Projection(latent_channels=2)])
@pytest.mark.parametrize("left", [0, 2])
def test_a_channel_that_was_not_observed_is_as_uncertain_as_it_ever_was(family: object, left: int) -> None:
    r"""Where the others tell nothing of it, its width is that of its train rows."""
    options = {"max_epochs": 1, "enable_progress_bar": False}
    whole = series(600).assign(b=100 + 20 * np.random.default_rng(1).standard_normal(600))
    one = adapter(family, context_length=36, gate=False, trainer_options=options).fit(whole)
    dark = whole.copy()
    dark.iloc[-36 : 600 - left, 1] = np.nan
    for steps in (dark, whole.assign(b=np.nan).iloc[-36:] if left == 0 else dark):
        out = one.predict(steps).interval(0.8)
        width = (out[1] - out[0])[:, 1] / whole["b"][:420].std()
        assert (width > 1.5).all() and (width < 4.5).all()


def test_support_clips_the_law() -> None:
    free = adapter().fit(series()).predict()
    clipped = adapter(support={"a": (90.0, np.inf)}).fit(series()).predict(num_samples=500)
    assert free.samples[..., 0].min() < 90.0
    assert clipped.samples[..., 0].min() == 90.0
    assert clipped.mean[..., 0].min() >= 90.0
    assert clipped.samples[..., 1].min() < 90.0


# ------------------------------------------------------------------------------------------------ stages


def test_no_stage_reads_rows_of_a_later_part() -> None:
    r"""Poisoned validation rows leave the train side alone, poisoned calibration rows the gate, and so on."""
    clean = adapter(Linear(free="decoder")).fit(series()).fitted_
    rows = len(series())
    borders = {"validation": 0.7, "calibration": 0.8, "confirmation": 0.9}
    for part, share in borders.items():
        frame = series()
        frame.iloc[round(share * rows) :] *= -3.0
        poisoned = adapter(Linear(free="decoder")).fit(frame).fitted_
        np.testing.assert_array_equal(poisoned.location, clean.location)
        torch.testing.assert_close(poisoned.module.strength, clean.module.strength, rtol=0, atol=0)
        torch.testing.assert_close(poisoned.module.covariance, clean.module.covariance, rtol=0, atol=0)
        if part != "validation":  # it may still be closed where these rows speak against it
            assert ((poisoned.gate == clean.gate) | (poisoned.gate == 0)).all()
        if part == "confirmation":
            torch.testing.assert_close(poisoned.noise, clean.noise, rtol=0, atol=0)


def test_a_closed_gate_gives_the_frozen_model_to_the_bit() -> None:
    frame = series(150)  # too few validation windows to open it
    one = adapter(copula="independent", recalibration="none").fit(frame)
    assert not one.fitted_.gate.any()
    windows = last_windows(Panel.of(frame), context_length=96, prediction_length=H)
    torch.testing.assert_close(
        one.joint_distribution(windows).marginals.values,
        one.zero_shot_distribution(windows).marginals.values,
        rtol=0,
        atol=0,
    )


def test_short_parts_leave_their_stages_out_and_say_so() -> None:
    one = adapter().fit(series(60))
    said = str(one.summary())
    assert re.search(r"gate: left out: .* windows of the validation split", said)
    assert np.isfinite(one.predict().mean).all()


def test_rows_too_few_to_compare_copulas_keep_the_shrunk_one() -> None:
    r"""A tenth of few rows is too little to compare copulas on; past errors are enough for one that is shrunk."""
    one = adapter().fit(series(300))
    assert "left out" in one.summary().stages["calibration"]
    assert "residual copula fitted on the" in one.summary().stages["calibration"]
    errors = one.predict(num_samples=1000).samples - one.predict().mean  # (S, H, D)
    assert np.corrcoef(errors[:, 0].T)[0, 1] > 0.4
    assert "kronecker copula retained, shrunk by the effective sample size" in one.summary().stages["confirmation"]
    schaake = adapter(copula="schaake").fit(series(300))
    errors = schaake.predict(num_samples=1000).samples - schaake.predict().mean
    assert np.corrcoef(errors[:, 0].T)[0, 1] > 0.4
    assert "schaake copula fitted on the train rows" in schaake.summary().stages["calibration"]


def test_summary_counts_windows_and_tells_what_was_decided(fitted: Adapter) -> None:
    summary = fitted.summary()
    assert set(summary.windows) == {"train", "validation", "calibration", "confirmation"}
    assert set(summary.stages) >= {"train", "gate", "calibration", "confirmation"}
    json.dumps(summary.to_dict())
    assert "residual adapter around seasonal-12: 3 channels" in str(summary)
    assert "fitted on 3 channels" in repr(fitted) and "not fitted" in repr(fitted.clone())


def test_summary_dates_the_parts_and_tells_what_was_not_asked_for(fitted: Adapter) -> None:
    summary = fitted.summary()
    assert summary.spans["train"] == {"first": "2024-01-01 00:00:00", "last": "2024-02-04 23:00:00", "rows": 840}
    assert summary.spans["confirmation"]["last"] == str(series().index[-1])
    assert "targets 2024-01-01 00:00:00 to 2024-02-04 23:00:00 (840 rows)" in str(summary)
    assert repr(summary) == str(summary)
    plain = adapter(gate=False, copula="independent", recalibration="none").fit(series(400).to_numpy()).summary()
    assert plain.stages["gate"] == "none: gate=False, the adapter is used alone"
    assert plain.spans["validation"] == {"first": "280", "last": "319", "rows": 40}
    items = adapter("identity").fit([series(400), series(500).iloc[100:]]).summary()
    assert items.spans["train"]["rows"] == 350 + 250 and "the frozen model itself" in items.stages["gate"]


def test_a_break_after_the_gate_was_fitted_closes_it_again() -> None:
    r"""What one channel told of the other until the validation rows end turns into its opposite."""
    generator = np.random.default_rng(0)
    news = generator.standard_normal(1201)
    values = np.stack([news[:-1], news[1:]], 1) + 0.1 * generator.standard_normal((1200, 2))
    kept = adapter(prediction_length=2).fit(values)
    assert "weight set to zero" not in kept.summary().stages["gate"] and kept.fitted_.gate.any()
    values[960:, 1] *= -1  # 70 % train, 10 % validation
    broken = adapter(prediction_length=2).fit(values)
    assert "weight set to zero in 2 channels (0, 1)" in broken.summary().stages["gate"]
    assert not broken.fitted_.gate.any()


def test_backtest_scores_beside_the_baselines(fitted: Adapter) -> None:
    before = fitted.predict().mean
    frame = fitted.backtest(series(), windows=5, stride=H)
    assert {"adapter", "frozen model", "last value", "seasonal naive"} <= set(frame["model"])
    assert set(frame.columns) >= {"model", "channel", "lead_block", "metric", "value"}
    np.testing.assert_array_equal(fitted.predict().mean, before)


# ------------------------------------------------------------------------------------------------ save and load


@pytest.mark.parametrize("family", ["residual", "identity", Projection(latent_channels=2), Linear(free="decoder")])
def test_a_loaded_adapter_forecasts_the_same(family: object, tmp_path) -> None:
    one = adapter(family).fit(series())
    one.save(tmp_path / "run")
    assert sorted(path.name for path in (tmp_path / "run").iterdir()) == ["adapter.safetensors", "config.json"]
    with pytest.raises(ValueError, match=r"was fitted with a live model \(seasonal-12\): pass that model"):
        Adapter.load(tmp_path / "run")
    other = Adapter.load(tmp_path / "run", foundation_model=SeasonalModel())
    np.testing.assert_array_equal(other.predict().samples, one.predict().samples)
    np.testing.assert_array_equal(other.predict(series(1000)).mean, one.predict(series(1000)).mean)
    pd.testing.assert_frame_equal(other.predict().to_pandas(), one.predict().to_pandas())
    assert str(other.summary()) == str(one.summary())


def test_dates_and_zones_survive_a_save(tmp_path) -> None:
    frame = series(400).tz_localize("UTC").tz_convert("Europe/Paris")
    one = adapter().fit(frame)
    one.save(tmp_path / "run")
    loaded = Adapter.load(tmp_path / "run", foundation_model=SeasonalModel()).predict().to_pandas()
    pd.testing.assert_frame_equal(loaded, one.predict().to_pandas())


def test_a_support_survives_a_save_as_strict_json(tmp_path) -> None:
    one = adapter("identity", support={"a": (90.0, np.inf)}).fit(series(400))
    one.save(tmp_path / "run")
    text = (tmp_path / "run" / "config.json").read_text()
    json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))
    other = Adapter.load(tmp_path / "run", foundation_model=SeasonalModel())
    assert other.support == {"a": (90.0, np.inf)}
    np.testing.assert_array_equal(other.predict().samples, one.predict().samples)


def test_an_existing_folder_is_kept_unless_told(fitted: Adapter, tmp_path) -> None:
    fitted.save(tmp_path / "run")
    with pytest.raises(ValueError, match="exists and is kept: choose another, or overwrite"):
        fitted.save(tmp_path / "run")
    fitted.save(tmp_path / "run", overwrite=True)
    assert [path.name for path in tmp_path.iterdir()] == ["run"]
    (tmp_path / "run" / "thesis.tex").write_text("years of work")
    with pytest.raises(ValueError, match="holds .thesis.tex., which adapts did not write"):
        fitted.save(tmp_path / "run", overwrite=True)


def test_another_foundation_model_at_load_must_be_asked_for(tmp_path, caplog: pytest.LogCaptureFixture) -> None:
    model = tmp_path / "model"
    tiny_chronos_bolt(seed=0).save_pretrained(model)
    one = adapter("identity", foundation_model=model).fit(series(300))
    one.save(tmp_path / "run")
    call = f"Adapter.load({str(tmp_path / 'run')!r}, foundation_model={str(model)!r})"
    with pytest.raises(ValueError, match=re.escape(call)):
        Adapter.load(tmp_path / "run")
    np.testing.assert_array_equal(
        Adapter.load(tmp_path / "run", foundation_model=model).predict().mean, one.predict().mean
    )
    assert not caplog.records
    tiny_chronos_bolt(seed=1).save_pretrained(model)
    other = Adapter.load(tmp_path / "run", foundation_model=model)
    assert (other.predict().mean != one.predict().mean).any()
    assert "model has other weights than the foundation model that the adapter was fitted around" in caplog.text


def test_corrupt_and_foreign_folders_are_refused(fitted: Adapter, tmp_path) -> None:
    with pytest.raises(ValueError, match=r"expected a folder that Adapter.save wrote .* is no folder"):
        Adapter.load(tmp_path / "nowhere")
    fitted.save(tmp_path / "run")
    tensors = tmp_path / "run" / "adapter.safetensors"
    whole = tensors.read_bytes()
    tensors.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match="is a corrupt adapter"):
        Adapter.load(tmp_path / "run", foundation_model=SeasonalModel())
    tensors.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    with pytest.raises(ValueError, match="config.json or adapter.safetensors was changed since both were saved"):
        Adapter.load(tmp_path / "run", foundation_model=SeasonalModel())
    tensors.write_bytes(whole)
    config = tmp_path / "run" / "config.json"
    config.write_text('{"model_type": "t5"}')
    with pytest.raises(ValueError, match="is not the config of an adapter"):
        Adapter.load(tmp_path / "run", foundation_model=SeasonalModel())
    config.unlink()
    with pytest.raises(ValueError, match="has no config.json"):
        Adapter.load(tmp_path / "run")


# ------------------------------------------------------------------------------------------------ bad input


def test_wrong_options_name_what_is_known() -> None:
    for options, words in {
        ("vea",): "no adapter is called 'vea'; known: .*residual",
        ("residul",): "did you mean 'residual'",
        (3,): "expects a family or the name of a preset, got int",
    }.items():
        with pytest.raises(ValueError, match=words):
            Adapter(*options, prediction_length=H)
    for options, words in {
        "copula": "no copula is called 'x'; known: residual",
        "recalibration": "no recalibration is called 'x'; known: auto, conformal, none",
        "objective": "no objective is called 'x'; known: mse",
    }.items():
        with pytest.raises(ValueError, match=words):
            Adapter(prediction_length=H, **{options: "x"})
    for value in (0, -1, 2.5, "24", True):
        with pytest.raises(ValueError, match="expects prediction_length to be a positive integer"):
            Adapter(prediction_length=value)
    with pytest.raises(ValueError, match="no foundation model is called 'bolt-nono'.*did you mean 'bolt-nano'"):
        Adapter(prediction_length=H, foundation_model="bolt-nono").fit(series())


def test_unfit_series_are_refused() -> None:
    with pytest.raises(ValueError, match="too short a series: the series has 20 steps, at least 36 are needed"):
        adapter().fit(series(20))
    with pytest.raises(ValueError, match="NaN throughout"):
        adapter().fit(series().assign(empty=np.nan))
    with pytest.raises(ValueError, match="call fit"):
        adapter().predict()
    with pytest.raises(ValueError, match="no channel of support is called 'z'"):
        adapter(support={"z": (0.0, 1.0)}).fit(series())
    with pytest.raises(ValueError, match="low < high"):
        adapter(support=(1.0, 0.0)).fit(series())


def test_options_that_would_do_nothing_are_refused() -> None:
    with pytest.raises(ValueError, match="nothing trains Residual.* by gradient: leave it out"):
        adapter(objective="mse")
    for options, words in (({"seed": -1}, "a seed is an integer"), ({"gate": "no"}, "gate to be True or False")):
        with pytest.raises(ValueError, match=words):
            adapter(**options)
    with pytest.raises(ValueError, match="two numbers"):
        adapter(support=(0.0, 1.0, 2.0)).fit(series())
    dataset = Dataset("a data set", Panel.of(series()))
    assert adapter("identity").fit(dataset, target=["b"]).channels == ("b",)
    with pytest.raises(ValueError, match="a Dataset is already read, frequency= cannot change it"):
        adapter().fit(dataset, frequency="D")


def test_a_flat_window_is_forecast_as_itself_in_a_panel_that_varies(fitted: Adapter) -> None:
    varying = series(500)
    items = [varying, varying * 2, varying.assign(a=4.0, b=4.0, c=4.0)]
    forecast = adapter(gate=False).fit(items).predict()[2]
    np.testing.assert_allclose(forecast.mean, 4.0, atol=1e-3)


def test_a_small_item_among_large_ones_keeps_its_scale() -> None:
    small = series(500)
    forecast = adapter().fit([small, small * 1e4, small * 1e4 + 1e5]).predict()[0]
    alone = adapter().fit([small, small, small]).predict()[0]
    assert np.abs(forecast.mean - alone.mean).max() < 30  # the channels' standard deviation is about 20


def test_what_is_hardly_seen_is_uncertain(fitted: Adapter) -> None:
    rows = series(1000)
    lower, upper = fitted.predict(rows.iloc[-1:]).interval(0.8)
    assert (upper - lower > 20).all()
    rows.iloc[:-1, 1] = np.nan
    lower, upper = fitted.predict(rows).interval(0.8)
    assert (upper - lower > 20)[:, 1].all()


def test_later_rows_keep_the_fitted_frequency(fitted: Adapter) -> None:
    weekdays = series(600).set_axis(pd.bdate_range("2020-01-01", periods=600))
    one = adapter().fit(weekdays)
    index = one.predict(weekdays.iloc[-8:-3]).index
    assert (index == pd.bdate_range(weekdays.index[-3], periods=H)).all()
    assert (one.predict([weekdays.iloc[-3:-2]])[0].index == pd.bdate_range(weekdays.index[-2], periods=H)).all()
    with pytest.raises(ValueError, match="frequency|regular"):
        fitted.predict(series(40).set_axis(pd.date_range("2024-01-01", periods=40, freq="D")))
    with pytest.raises(ValueError, match="expected rows of the fitted frequency, 'h', got 'D'"):
        fitted.predict(Panel.of(series(40).set_axis(pd.date_range("2024-01-01", periods=40, freq="D"))))


def test_other_channels_at_predict_are_refused(fitted: Adapter) -> None:
    with pytest.raises(ValueError, match="expected the 3 channels of the fit .*missing: c"):
        fitted.predict(series()[["a", "b"]])
    with pytest.raises(ValueError, match="num_samples"):
        fitted.predict(num_samples=0)


@pytest.mark.parametrize(("family", "told"), [("linear", True), ("residual", True), ("identity", False)])
def test_an_adapter_that_is_trained_but_not_used_says_so(family: str, told: bool) -> None:
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        fitted = adapter(family).fit(series(150))
    unused = [str(each.message) for each in said if "the adapter is trained but not used" in str(each.message)]
    assert len(unused) == told and fitted.fitted_.decisions["train"].outcome == "kept"
    assert {each.category for each in said} == {FitWarning} and {each.filename for each in said} == {__file__}


@pytest.mark.parametrize("default", [torch.float64, torch.bfloat16])
@pytest.mark.parametrize(
    "options",
    [
        {"family": "residual", "support": (-5.0, 5.0)},
        {"family": "projection", "copula": "schaake", "recalibration": "conformal"},
        {"family": "identity", "copula": "gaussian-history"},
    ],
    ids=lambda options: options["family"],
)
def test_the_default_type_of_torch_changes_no_number(default: torch.dtype, options: dict) -> None:
    def forecasts() -> list[np.ndarray]:
        fitted = Adapter(prediction_length=6, context_length=24, max_windows=60, **options).fit(series(420))
        forecast = fitted.predict()
        parts = forecast.variance_parts()["total"].to_numpy()
        return [forecast.samples, forecast.mean, forecast.quantile([0.001, 0.5, 0.9]), *forecast.band(0.5), parts]

    expected = forecasts()
    torch.set_default_dtype(default)
    try:
        found = forecasts()
    finally:
        torch.set_default_dtype(torch.float32)
    assert all(np.array_equal(one, other) for one, other in zip(expected, found, strict=True))


def test_units_are_copies() -> None:
    fitted = adapter("identity").fit(series(200))
    before = fitted.predict().mean.copy()
    for values in (fitted.location_, fitted.scale_, fitted.predict().history.to_numpy(copy=False)):
        values.flags.writeable = True
        values[:] = 99
    assert np.array_equal(fitted.predict().mean, before)


@pytest.mark.parametrize("correlation", [0.0, 0.7])
def test_few_rows_tell_the_dependence_of_channels(correlation: float) -> None:
    r"""150 rows of white noise, no selection rows to speak of: the shrunk copula has the true correlation."""
    found = []
    for seed in range(3):
        noise = np.random.default_rng(seed).standard_normal((150, 5))
        rows = np.sqrt(1 - correlation) * noise[:, :4] + np.sqrt(correlation) * noise[:, 4:]
        one = Adapter("identity", prediction_length=6, context_length=48).fit(rows)
        samples = one.predict(num_samples=2000).samples[:, 0]
        found.append(np.corrcoef(samples.T)[0, 1:].mean())
    assert abs(np.mean(found) - correlation) < 0.1
