r"""Several foundation models: the first is frozen, the others are members of the portfolio."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from seasonal import SeasonalModel
from torch import Tensor
from torch.testing import assert_close

from adapts import Adapter, FoundationModel, load_foundation_model
from adapts.adapters import Portfolio
from adapts.data.windows import last_windows
from adapts.foundation.several import SeveralModels, load_models
from adapts.testing.tiny import tiny_chronos_bolt

SEASON = 12


def seasonal(rows: int = 700, seed: int = 0) -> pd.DataFrame:
    r"""Two seasonal channels: a model of this season forecasts them, one of another does not."""
    rng = np.random.default_rng(seed)
    index = pd.date_range("2024-01-01", periods=rows, freq="h")
    wave = np.sin(2 * np.pi * np.arange(rows) / SEASON)
    return pd.DataFrame(np.stack([wave, -2 * wave], 1) + 0.2 * rng.standard_normal((rows, 2)), index, ["a", "b"])


def adapter(models: Any, family: Any = None, **options: Any) -> Adapter:
    family = Portfolio(members=["residual"]) if family is None else family
    defaults = {"prediction_length": 6, "context_length": 48}
    return Adapter(family, foundation_model=models, **{**defaults, **options})


def last_value(context: Tensor) -> Tensor:
    return context[:, -1:].expand(-1, 6)


def weights(fitted: Adapter) -> dict[str, float]:
    return {member["family"]: member["weight"] for member in fitted.summary().members}


def test_the_better_model_gets_the_weight() -> None:
    good, bad = SeasonalModel(SEASON), SeasonalModel(7)
    fitted = adapter([bad, good]).fit(seasonal())
    found = weights(fitted)
    assert list(found) == ["residual", "seasonal-12"]
    assert found["seasonal-12"] > 0.5
    gains = {member["family"]: member["gain"] for member in fitted.summary().members}
    assert gains["seasonal-12"] > 0.5
    assert weights(adapter([good, bad]).fit(seasonal()))["seasonal-7"] < 0.1


def test_with_all_weight_on_it_the_forecast_is_that_of_the_other_model() -> None:
    models = [SeasonalModel(7), SeasonalModel(SEASON)]
    family = Portfolio(members=["residual"], shares=[0.0, 0.0, 1.0])
    options = {"gate": False, "recalibration": "none"}
    fitted = adapter(models, family, **options).fit(seasonal())
    windows = fitted.fitted_.panel.rows(300)
    batch = last_windows(windows, context_length=48, prediction_length=6)
    predictor = fitted._predictor("predict")
    standard = predictor.standardiser.standardised(batch)
    found = predictor.marginals.adapted(standard, predictor.marginals.zero_shot(standard))
    alone = adapter(models[1], "identity").fit(seasonal())
    expected = alone._predictor("predict").marginals.zero_shot(
        alone._predictor("predict").standardiser.standardised(batch)
    )
    assert_close(found.values, expected.values)


def test_levels_are_those_of_the_first_model() -> None:
    first = load_foundation_model(tiny_chronos_bolt(quantile_levels=(0.25, 0.5, 0.9), prediction_length=8))
    fitted = adapter([first, SeasonalModel(SEASON)]).fit(seasonal())
    assert fitted.model.quantile_levels == (0.25, 0.5, 0.9)
    assert np.isfinite(fitted.predict().samples).all()
    assert weights(fitted)["seasonal-12"] > 0.5


def test_a_model_of_points_gets_the_quantiles_of_its_errors() -> None:
    points = FoundationModel.wrap(
        last_value, quantile_levels=[0.5], context_length=48, prediction_length=6, name="last value"
    )
    fitted = adapter([SeasonalModel(SEASON), points]).fit(seasonal())
    (name,) = fitted.fitted_.head
    assert name == "further-1.quantiles"
    assert fitted.fitted_.head[name].shape == (9, 6)
    assert "last value forecasts points" in fitted.fitted_.decisions["residuals"].reason
    model = fitted._predictor("predict").model.members[1]
    assert_close(model.residuals.quantiles, fitted.fitted_.head[name])  # type: ignore[union-attr]


def test_saved_and_loaded_it_forecasts_alike(tmp_path: Path) -> None:
    models = [SeasonalModel(7), SeasonalModel(SEASON)]
    fitted = adapter(models).fit(seasonal())
    fitted.save(tmp_path / "saved")
    with pytest.raises(ValueError, match=r"fitted with a live model .*: pass these models, .*\[model, \.\.\.\]"):
        Adapter.load(tmp_path / "saved")
    for wrong in (models[0], models[::-1], [models[0], SeasonalModel(5)]):
        with pytest.raises(ValueError, match="2 foundation models, the first followed by seasonal-12"):
            Adapter.load(tmp_path / "saved", foundation_model=wrong)
    loaded = Adapter.load(tmp_path / "saved", foundation_model=models)
    assert np.array_equal(loaded.predict().samples, fitted.predict().samples)
    assert loaded.fitted_.module.further == ("seasonal-12",)


def test_updates_and_backtests_use_them() -> None:
    frame = seasonal()
    fitted = adapter([SeasonalModel(7), SeasonalModel(SEASON)]).fit(frame.iloc[:680])
    before = fitted.predict(frame).quantile(0.5)
    fitted.update(frame.iloc[680:])
    assert np.isfinite(fitted.predict().samples).all()
    assert np.abs(fitted.predict().quantile(0.5) - before).max() < 0.5
    scores = fitted.backtest(frame, windows=4, baselines=["frozen model"])
    assert isinstance(scores, pd.DataFrame)
    overall = scores.query("channel == 'all' and lead_block == 'all' and metric == 'crps'").set_index("model")["value"]
    assert overall.iloc[0] < 0.7 * overall["frozen model"]


@pytest.mark.parametrize("call", ["fit", "predict"])
def test_other_families_take_one_model(call: str) -> None:
    with pytest.raises(ValueError, match="members of the family 'auto', got family 'identity'"):
        getattr(adapter([SeasonalModel(7), SeasonalModel(SEASON)], "identity"), call)(seasonal(200))


def test_wrong_lists_are_refused() -> None:
    with pytest.raises(ValueError, match="different names"):
        load_models([SeasonalModel(7), SeasonalModel(7)], "auto")
    with pytest.raises(ValueError, match="empty list"):
        load_models([], "auto")
    with pytest.raises(ValueError, match="shares of the frozen model, residual, seasonal-12"):
        family = Portfolio(members=["residual"], shares=[0.5, 0.5])
        adapter([SeasonalModel(7), SeasonalModel(SEASON)], family).fit(seasonal(300))


def test_one_in_a_list_is_the_model_itself() -> None:
    assert not isinstance(load_models(["bolt-nano"], "cpu"), SeveralModels)


def test_forecasts_and_cache_are_those_of_the_first() -> None:
    first, second = SeasonalModel(7), SeasonalModel(SEASON)
    several = SeveralModels([first, second])
    context = torch.randn(3, 60)
    assert torch.equal(several.predict(context, 30), first.predict(context, 30))
    assert torch.equal(several(context, 30), first(context, 30))
    assert several.cache_key() == first.cache_key()
    assert several.fingerprint()["sha256"] != SeveralModels([second, first]).fingerprint()["sha256"]
    assert several.fingerprint()["name"] == "seasonal-7 + seasonal-12"


def test_explain_names_them() -> None:
    fitted = adapter([SeasonalModel(7), SeasonalModel(SEASON)]).fit(seasonal())
    members = fitted.explain().members
    assert list(members["member"]) == ["frozen model", "residual", "seasonal-12"]
    assert abs(members["weight"].sum() - 1) < 1e-5
