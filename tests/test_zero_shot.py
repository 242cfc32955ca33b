r"""Zero-shot forecasts without a fit: the frozen model's marginals, and a copula of the history."""

from __future__ import annotations

import json
import re
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from cli_files import forecast as run_forecast
from seasonal import LEVELS, SeasonalModel

from adapts import Adapter
from adapts.copulas.gaussian import GaussianCopula, fit_history
from adapts.copulas.independent import Independent
from adapts.copulas.rank import fit_schaake
from adapts.data.panel import Panel
from adapts.data.windows import last_windows
from adapts.forecast import Forecast
from adapts.foundation import load_foundation_model
from adapts.testing.tiny import tiny_chronos_bolt

H = 12


def series(rows: int = 300, seed: int = 0) -> pd.DataFrame:
    r"""Two channels that move together, the second a hundred times the first, and a third by itself."""
    generator = np.random.default_rng(seed)
    noise = generator.standard_normal((rows, 3)) @ np.array([[1, 90, 0], [0, 40, 0], [0, 0, 1]])
    return pd.DataFrame(noise + 5, pd.date_range("2024-01-01", periods=rows, freq="h"), list("abc"))


def adapter(family: str = "identity", **options: object) -> Adapter:
    return Adapter(family, **{"foundation_model": SeasonalModel(), "prediction_length": H, **options})


def frozen(values: np.ndarray, model: SeasonalModel | None = None) -> np.ndarray:
    r"""The frozen model's own forecast (H, D, Q) of the last rows of a history (T, D)."""
    model = model or SeasonalModel()
    context = torch.from_numpy(values[-model.context_length :].T.copy()).float()
    return model.predict(context, H).permute(2, 0, 1).numpy()


def test_the_marginals_are_the_frozen_model_s_own() -> None:
    frame = series()
    frame.iloc[-200, 0] = np.nan
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        forecast = adapter().predict(frame)
    assert (
        isinstance(forecast, Forecast)
        and (forecast.index == pd.date_range(frame.index[-1], periods=H + 1, freq="h")[1:]).all()
    )
    np.testing.assert_allclose(forecast.quantile(LEVELS), frozen(frame.to_numpy()), rtol=1e-4, atol=1e-4)
    model = load_foundation_model(tiny_chronos_bolt())
    found = adapter(foundation_model=model, context_length=48).predict(frame).quantile(list(model.quantile_levels))
    expected = model.predict(torch.from_numpy(frame.to_numpy()[-48:].T.copy()).float(), H).permute(2, 0, 1)
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-3)


def test_it_is_the_zero_shot_distribution_of_a_fit() -> None:
    frame = series(1000)
    forecast, fitted = adapter().predict(frame), adapter().fit(frame)
    windows = last_windows(Panel.of(frame), context_length=96, prediction_length=H)
    expected = fitted.zero_shot_distribution(windows).marginals.values[0]
    torch.testing.assert_close(forecast.joint_distribution.marginals.values[0], expected, rtol=1e-5, atol=1e-4)


def test_the_copula_is_that_of_the_history_of_each_item() -> None:
    frames = [series(300), series(40, seed=1), series(20, seed=2)]
    forecasts = adapter().predict(frames)
    assert [forecast.item_id for forecast in forecasts] == ["0", "1", "2"]
    for forecast, frame in zip(forecasts, frames, strict=True):
        alone = adapter().predict([frame])[0]
        copula, expected = alone.joint_distribution.copula, fit_history(torch.from_numpy(frame.to_numpy()), H)
        assert isinstance(copula, GaussianCopula)
        torch.testing.assert_close(copula.state(), expected.state(), rtol=0, atol=0)
        torch.testing.assert_close(forecast.joint_distribution.copula.state(), expected.state(), rtol=0, atol=0)
    correlation = forecasts[0].joint_distribution.copula.channel_correlation
    assert correlation[0, 1] > 0.8 and abs(correlation[0, 2]) < 0.2
    torch.testing.assert_close(forecasts[2].joint_distribution.copula.channel_correlation, torch.eye(3))  # too short
    errors = adapter().predict(frames[0], num_samples=2000)
    errors = errors.samples - errors.mean
    assert np.corrcoef(errors[:, 0, 0], errors[:, 0, 1])[0, 1] > 0.75
    independent = adapter(copula="independent").predict(frames[0])
    assert isinstance(independent.joint_distribution.copula, Independent)
    schaake = adapter(copula="schaake").predict(frames[0])
    expected = fit_schaake(torch.from_numpy(frames[0].to_numpy()), H).state()
    torch.testing.assert_close(schaake.joint_distribution.copula.state(), expected, rtol=0, atol=0)


def test_one_note_says_that_nothing_is_calibrated_and_nothing_is_kept() -> None:
    one, frame = adapter(), series(1000)
    forecast = one.predict(frame)
    (notice,) = forecast.notices
    assert (
        notice.kind == "zero-shot"
        and "nothing is calibrated" in notice.said
        and "gaussian-history copula" in notice.said
    )
    assert one.fitted_ is None and one.get_params() == adapter(foundation_model=one.foundation_model).get_params()
    fitted = one.fit(frame).predict()
    np.testing.assert_array_equal(fitted.samples, adapter().fit(frame).predict().samples)
    assert not [each for each in fitted.notices if each.kind == "zero-shot"]
    with pytest.raises(ValueError, match="expected the 3 channels of the fit"):
        one.predict(frame[["a"]])  # fitted now


@pytest.mark.parametrize("form", ["array", "three axes", "long", "path", "panel", "channel"])
def test_every_form_that_fit_takes(form: str, tmp_path) -> None:
    frame = series()
    values = frame.to_numpy()
    long = pd.concat({"x": frame, "y": frame + 1}, names=["item_id", "timestamp"]).reset_index()
    frame.rename_axis("timestamp").to_csv(tmp_path / "series.csv")
    given = {"array": values, "three axes": np.stack([values, values + 1]), "long": long,
             "path": tmp_path / "series.csv", "panel": Panel.of(frame), "channel": frame["a"]}[form]  # fmt: skip
    found = adapter().predict(given)
    assert isinstance(found, list) == (form in ("three axes", "long"))
    for number, forecast in enumerate(found if isinstance(found, list) else [found]):
        expected = frozen(values[:, :1] if form == "channel" else values + number)
        np.testing.assert_allclose(forecast.quantile(LEVELS), expected, rtol=1e-4, atol=1e-3)


def test_missing_values_support_and_fill_values() -> None:
    frame = series()
    frame.iloc[::7, 1] = np.nan
    frame.iloc[-30:, 2] = np.nan
    frame.iloc[5, 0] = 1e20
    forecast = adapter(support={"a": (4, np.inf)}).predict(frame)
    assert np.isfinite(forecast.samples).all() and (forecast.samples[..., 0] >= 4).all()
    assert {notice.kind for notice in forecast.notices} == {"marks", "support", "zero-shot"}
    one_row = adapter().predict(series(1), frequency="h")
    assert np.isfinite(one_row.samples).all() and one_row.mean.shape == (H, 3)
    two = adapter().predict([series(100), series(100) * np.nan])  # an item without values has the mean of the others
    assert np.isfinite(two[1].samples).all()


def test_options_of_predict_keep_their_meaning() -> None:
    frame = series()
    first, again, other = (adapter().predict(frame, seed=seed, num_samples=50) for seed in (3, 3, 4))
    assert first.samples.shape == (50, H, 3)
    np.testing.assert_array_equal(first.samples, again.samples)
    assert not np.array_equal(first.samples, other.samples)
    assert "0.05" in first.to_pandas(quantile_levels=[0.05]).columns.astype(str)
    assert "0.25" in adapter().predict(frame, quantile_levels=[0.25]).to_pandas().columns.astype(str)
    with pytest.raises(ValueError, match="num_samples"):
        adapter().predict(frame, num_samples=0)
    named = frame.rename_axis("when").reset_index()
    assert (adapter().predict(named, timestamp_column="when").index == first.index).all()


@pytest.mark.parametrize("role", ["past_covariates", "known_covariates"])
def test_covariates_of_a_panel_are_not_used_and_a_notice_says_so(role: str) -> None:
    frame = series()
    panel = replace(Panel.of(frame), **{role: ("c",)})
    forecast, alone = adapter().predict(panel), adapter().predict(frame.drop(columns="c"))
    assert np.array_equal(forecast.samples, alone.samples)  # type: ignore[union-attr]
    assert "Covariates are not used (c)" in forecast.notices[-1].said  # type: ignore[union-attr]


def test_what_needs_a_fit_is_refused() -> None:
    frame = series()
    for family in ("residual", "linear"):
        with pytest.raises(
            ValueError, match=re.escape('call fit(series) first; without a fit, only Adapter("identity"')
        ):
            adapter(family).predict(frame)
    with pytest.raises(ValueError, match=r"needs a fitted adapter: call fit\(series\) first"):
        adapter().predict()
    with pytest.raises(ValueError, match="takes no covariates, got future="):
        adapter().predict(frame, future=frame)
    with pytest.raises(ValueError, match="copula='empirical' needs the errors of past forecasts"):
        adapter(copula="empirical").predict(frame)
    with pytest.raises(ValueError, match="expected a value in every channel, but column 'c' is NaN throughout"):
        adapter().predict(frame.assign(c=np.nan))


def test_the_example_of_the_docs_runs() -> None:
    text = (Path(__file__).parents[1] / "docs" / "how_it_works.md").read_text(encoding="utf-8")
    section = text.partition("## A forecast without a fit")[2]
    found: dict[str, object] = {"Adapter": Adapter, "frame": series()}
    exec(re.search(r"```python\n(.*?)```", section, re.DOTALL).group(1), found)
    assert found["forecast"].mean.shape == (24, 3) and len(found["forecast"].notices) == 1


def test_on_the_command_line(tmp_path: Path) -> None:
    series().rename_axis("date").to_csv(tmp_path / "series.csv")
    result = run_forecast(tmp_path / "series.csv", tmp_path / "run", "--zero-shot", "--family", "identity", "--json")
    assert result.exit_code == 0, result.stderr
    assert sorted(path.name for path in (tmp_path / "run").iterdir()) == ["forecast.csv", "forecast.png"]
    told = json.loads(result.stdout)
    assert [notice["kind"] for notice in told["adapter"]["notices"]] == ["zero-shot"]
    expected = Adapter("identity", prediction_length=8, context_length=48).predict(series())
    table = pd.read_csv(tmp_path / "run" / "forecast.csv")
    for number, channel in enumerate("abc"):
        found = table.loc[table["channel"] == channel, "0.9"]
        np.testing.assert_allclose(found, expected.quantile(0.9)[:, number], rtol=1e-5, atol=1e-5)
    for given in (["--no-gate"], ["--known-covariates", "c", "--future", "x.csv"], ["--family", "residual"]):
        family = [] if given[0] == "--family" else ["--family", "identity"]
        refused = run_forecast(tmp_path / "series.csv", tmp_path / "other", "--zero-shot", *family, *given)
        assert refused.exit_code != 0 and f"and takes no {given[0]}: leave it out" in " ".join(refused.stderr.split())
