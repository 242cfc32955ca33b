r"""Known covariates as inputs of a family: what it learns, what it is blind to, how they reach it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from seasonal import SeasonalModel
from torch import Tensor
from torch.testing import assert_close

from adapts import Adapter
from adapts.adapters import Bayesian, CrossChannelAttention, Ensemble, Portfolio, Residual
from adapts.adapters.attention import LEADS
from adapts.data.known_units import KnownUnits
from adapts.data.panel import Panel
from adapts.data.windows import Windows
from adapts.persistence.tensors import kind_of
from adapts.prediction.standardise import Standardiser

SMALL: dict[str, Any] = {"steps": 8, "width": 16, "heads": 2, "embedding": 4}
OPTIONS: dict[str, Any] = {
    "foundation_model": SeasonalModel(),
    "prediction_length": 6,
    "context_length": 24,
    "gate": False,
    "recalibration": "none",
}
QUIET = {"enable_progress_bar": False, "max_epochs": 15}
SHORT = {**QUIET, "max_epochs": 2}


def trained(family: Any, known: int = 3, channels: int = 2) -> Any:
    r"""A built family whose weights are random, so that it reads the known covariates."""
    torch.manual_seed(0)
    built = family.build(channels, known).eval()
    for parameter in built.parameters():
        parameter.data += 0.2 * torch.randn_like(parameter)
    return built


def windows(known: int = 3, channels: int = 2, horizon: int = 6, count: int = 5) -> tuple[Tensor, Tensor, Tensor]:
    r"""The past, the zero-shot quantiles, and the known covariates."""
    generator = torch.Generator().manual_seed(1)
    past = torch.randn(count, 20, channels, generator=generator)
    middle = past[:, -1:] + torch.randn(count, horizon, channels, generator=generator)
    quantiles = middle.unsqueeze(-1) + torch.tensor([-1.3, -0.5, 0.0, 0.4, 1.1])
    return past, quantiles, torch.randn(count, 20 + horizon, known, generator=generator)


def decoded(family: Any, past: Tensor, quantiles: Tensor, known: Tensor) -> Tensor:
    r"""The corrected quantiles, (B, H, D, Q)."""
    _, state = family.encode(past)
    state.quantiles, state.known = quantiles, known
    with torch.no_grad():
        paths: Tensor = family.decode(quantiles.movedim(-1, 0), state)
    return paths.movedim(0, -1)


def product(rows: int = 900, seed: int = 0) -> pd.DataFrame:
    r"""A target that only the product of two known covariates moves; each alone tells nothing."""
    rng = np.random.default_rng(seed)
    a, b, noise = rng.choice([-1.0, 1.0], rows), rng.choice([-1.0, 1.0], rows), rng.standard_normal((rows, 3))
    index = pd.date_range("2024-01-01", periods=rows, freq="h", name="time")
    frame = {"y": 5 + 2 * a * b + 0.5 * noise[:, 0], "other": noise[:, 1], "a": a, "b": b, "idle": noise[:, 2]}
    return pd.DataFrame(frame, index=index)


def fitted(frame: pd.DataFrame, known: list[str], family: Any = None, **options: Any) -> Adapter:
    family = CrossChannelAttention(**SMALL, dropout=0.0) if family is None else family
    adapter = Adapter(family, **{**OPTIONS, "trainer_options": QUIET, **options})
    return adapter.fit(frame, target=["y", "other"], known_covariates=known)


# ---------------------------------------------------------------------- the family


def test_untrained_it_is_the_frozen_model() -> None:
    past, quantiles, known = windows()
    assert torch.equal(decoded(CrossChannelAttention().build(2, 3).eval(), past, quantiles, known), quantiles)


def test_quantiles_keep_their_order() -> None:
    past, quantiles, known = windows()
    corrected = decoded(trained(CrossChannelAttention(**SMALL)), past, quantiles, 3 * known)
    assert (corrected.diff(dim=-1) > 0).all()


def test_a_step_is_corrected_by_the_covariates_at_this_step() -> None:
    past, quantiles, known = windows()
    family = trained(CrossChannelAttention(**SMALL))
    other = known.clone()
    other[:, 20 + 2] += 1.0
    change = (decoded(family, past, quantiles, other) - decoded(family, past, quantiles, known)).abs().amax((0, 2, 3))
    assert change[2] > 1e-2
    assert not change[[0, 1, 3, 4, 5]].any()


def test_the_context_is_averaged_over_conditions_like_those_ahead() -> None:
    r"""Where only one step of the context has the covariates of the step ahead, the kernels return its value."""
    past, quantiles, _ = windows(known=1)
    known = torch.full((5, 26, 1), -5.0)
    known[:, 3], known[:, 20:] = 5.0, 5.0
    head = CrossChannelAttention(**SMALL).build(2, 1).known_head
    assert head is not None
    similar = head.similar_values(known[:, :20], known[:, 20:], past)  # (B, D, J, 4)
    assert_close(similar, past[:, 3, :, None, None].expand_as(similar))
    past[:, 3] = torch.nan
    similar = head.similar_values(torch.zeros(5, 20, 1), torch.zeros(5, 6, 1), past)
    assert_close(similar, past.nanmean(1)[:, :, None, None].expand_as(similar))


def test_the_order_of_covariates_does_not_matter() -> None:
    past, quantiles, known = windows()
    family, order = trained(CrossChannelAttention(**SMALL)), [2, 0, 1]
    before = decoded(family, past, quantiles, known)
    state = family.state_dict()
    for name in ("known_head.precision", "known_head.covariates.weight"):
        state[name] = state[name][:, order]
    family.load_state_dict(state)
    assert_close(decoded(family, past, quantiles, known[..., order]), before)


def test_a_channel_is_equivariant_to_scale_and_location() -> None:
    r"""Up to the level, mean and width that a token holds, whose weights are zero here."""
    past, quantiles, known = windows()
    family = trained(CrossChannelAttention(**SMALL))
    family.input.weight.data[:, -SMALL["embedding"] - 3 : -SMALL["embedding"]] = 0.0
    corrected = decoded(family, past, quantiles, known)
    assert (corrected - quantiles).abs().max() > 0.1
    assert_close(decoded(family, 3 * past + 7, 3 * quantiles + 7, known), 3 * corrected + 7, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("horizon", [1, LEADS, LEADS + 30])
def test_any_horizon(horizon: int) -> None:
    past, quantiles, known = windows(horizon=horizon)
    corrected = decoded(trained(CrossChannelAttention(**SMALL)), past, quantiles, known)
    assert corrected.shape == quantiles.shape
    assert corrected.isfinite().all()


@pytest.mark.parametrize("wrapper", ["ensemble", "mean-field", "laplace", "portfolio"])
def test_wrappers_hand_them_on(wrapper: str) -> None:
    past, quantiles, known = windows()
    family: Any = Portfolio(members=["residual", "attention"], member_options={"attention": SMALL})
    if wrapper == "ensemble":
        family = Ensemble(member="attention", members=2, member_options=SMALL)
    elif wrapper != "portfolio":
        family = Bayesian(base="attention", base_options=SMALL, guide=wrapper, sites=["known_head.output.bias"])
    built = trained(family)
    if wrapper == "portfolio":
        built.weights.copy_(torch.tensor([0.5, 0.0, 0.5]))
    assert built.known == 3
    assert built.capabilities.needs_known
    assert any("known_head.covariates" in name for name, _ in built.named_parameters())
    _, state = built.encode(past, draws=4, generator=torch.Generator().manual_seed(0))
    state.quantiles, state.forecast = quantiles, quantiles[..., 2]
    paths = quantiles[..., 2].expand(state.draws, -1, -1, -1)
    forecasts = []
    for covariates in (known, known + 1):
        state.known = covariates
        forecasts.append(built.decode(paths, state))
    assert forecasts[0].shape == (state.draws, 5, 6, 2)
    assert (forecasts[0] - forecasts[1]).abs().max() > 1e-3


def test_other_families_read_none() -> None:
    assert Residual().build(2, 3).known == 0
    assert Ensemble(member="residual").build(2, 3).known == 0
    with pytest.raises(ValueError, match=r"Residual.build expects known to be .*, got -1"):
        Residual().build(2, -1)


# ---------------------------------------------------------------------- fits


@pytest.fixture(scope="module")
def adapter() -> Adapter:
    return fitted(product().iloc[:500], ["a", "b"])


def error(adapter: Adapter, frame: pd.DataFrame) -> float:
    r"""The mean absolute error of the first target after row 500."""
    errors = []
    for stop in range(500, 590, 6):
        ahead = frame.iloc[stop : stop + 6] if adapter.fitted_.panel.given else None
        forecast = adapter.predict(frame.iloc[:stop], future=ahead)
        errors.append(np.abs(forecast.mean[:, 0] - frame["y"].to_numpy()[stop : stop + 6]).mean())
    return float(np.mean(errors))


def test_it_learns_a_product_that_no_slope_explains(adapter: Adapter) -> None:
    frame = product()
    assert adapter.fitted_.effect is not None
    assert not adapter.fitted_.effect.used  # neither covariate has an effect of its own
    assert error(adapter, frame) < 0.5 * error(fitted(frame.iloc[:500], ["a", "b"], "identity"), frame)


def test_other_values_ahead_give_another_forecast(adapter: Adapter) -> None:
    future = product().iloc[500:506].assign(a=1.0)
    same, opposite = (adapter.predict(future=future.assign(b=b)).mean[:, 0].mean() for b in (1.0, -1.0))
    assert same - opposite > 2.0  # 4 in truth


def test_a_covariate_of_noise_does_no_harm() -> None:
    frame = product().assign(y=lambda frame: frame["y"] - 2 * frame["a"] * frame["b"])
    family = CrossChannelAttention(**SMALL)
    read, unread = (fitted(frame.iloc[:500], known, family, gate=True) for known in (["idle"], []))
    assert error(read, frame) < 1.05 * error(unread, frame)


def test_neither_units_nor_signs_nor_the_order_of_covariates_matter(adapter: Adapter) -> None:
    frame = product()
    scaled = frame.assign(a=1000 * frame["a"] - 30, b=-0.001 * frame["b"])
    other = fitted(scaled.iloc[:500], ["b", "a"])
    expected, found = (one.predict(future=rows.iloc[500:506]).mean for one, rows in ((adapter, frame), (other, scaled)))
    np.testing.assert_allclose(found, expected, rtol=5e-3, atol=5e-3)


def test_missing_values_in_the_past_are_their_mean(adapter: Adapter) -> None:
    known = adapter.fitted_.known
    assert known is not None
    frame, future = product().iloc[:500].copy(), product().iloc[500:506]
    frame.iloc[-24:, 2] = np.nan  # longer than a short gap
    missing, filled = (adapter.predict(rows, future=future) for rows in (frame, frame.fillna({"a": known.location[0]})))
    assert np.array_equal(missing.samples, filled.samples)


def test_windows_hold_context_and_horizon(adapter: Adapter) -> None:
    panel = replace(Panel.of(product()[["y", "other", "a", "b"]]), known_covariates=("a", "b"))
    windows = Standardiser(adapter.fitted_).standardised(Windows(panel, np.array([0, 0]), np.array([10, 100]), 24, 6))
    known, units = windows.known(), adapter.fitted_.known
    assert units is not None
    assert known.shape == (2, 30, 2)
    assert not known[0, :14].any()  # before the item begins
    rows = (product()[["a", "b"]].to_numpy()[76:106] - units.location) / units.scale
    assert_close(known[1], torch.from_numpy(rows).float())


def test_a_saved_adapter_forecasts_alike(adapter: Adapter, tmp_path: Path) -> None:
    future = product().iloc[500:506]
    adapter.save(tmp_path / "saved")
    loaded = Adapter.load(tmp_path / "saved", foundation_model=SeasonalModel())
    assert loaded.fitted_.module.known == 2
    assert np.array_equal(loaded.predict(future=future).samples, adapter.predict(future=future).samples)


def test_tensors_of_another_number_of_covariates_are_refused(adapter: Adapter) -> None:
    panel, state = adapter.fitted_.panel, adapter.fitted_.state()
    with pytest.raises(ValueError, match="'location'"):
        adapter.fitted_.restore({**state, "known.location": torch.zeros(3, dtype=torch.float64)})
    zeros = torch.zeros(2, dtype=torch.float64)
    with pytest.raises(ValueError, match="positive number for each known covariate"):
        KnownUnits.from_state(panel, {"location": zeros, "scale": zeros})
    family = CrossChannelAttention(**SMALL)
    kinds = {name: kind_of(tensor) for name, tensor in family.build(2, 3).state_dict().items()}
    with pytest.raises(ValueError, match="'known_head.precision'"):
        family.build(2, 2).require_kinds(kinds)


def test_without_known_covariates_nothing_is_read() -> None:
    adapter = fitted(product(300), [], trainer_options=SHORT)
    assert adapter.fitted_.known is None
    assert not any("known" in name for name in adapter.fitted_.state())


def test_updates_and_backtests_pass_them() -> None:
    frame = product(420)
    adapter = fitted(frame.iloc[:400], ["a", "b"], trainer_options=SHORT)
    adapter.update(frame.iloc[400:410])
    samples = [adapter.predict(future=frame.iloc[410:416].assign(b=b)).samples for b in (-1.0, 1.0)]
    assert not np.array_equal(*samples)
    scores = adapter.backtest(frame, windows=3, baselines=False)
    assert scores["value"].notna().all()


def test_a_panel_of_items_with_static_columns_and_a_calendar() -> None:
    items = []
    for number, kind in enumerate(("up", "down", "up")):
        frame = product(300, number).reset_index()
        items.append(frame.assign(y=frame["y"] * (1 if kind == "up" else -1), item_id=f"item {number}", kind=kind))
    rows = pd.concat(items)
    last = np.sort(rows["time"].unique())[-6]
    adapter = Adapter(CrossChannelAttention(**SMALL), trainer_options=SHORT, **OPTIONS)
    adapter.fit(rows[rows["time"] < last], target=["y"], known_covariates=["a", "b"], static=["kind"], calendar=True)
    known = adapter.fitted_.known
    assert known is not None
    assert known.names[:2] == ("a", "b")
    assert known.static == ("kind=down", "kind=up")
    assert adapter.fitted_.module.known == len(known.names) + 2
    forecasts = adapter.predict(future=rows[rows["time"] >= last])
    assert isinstance(forecasts, list)
    assert all(np.isfinite(forecast.samples).all() for forecast in forecasts)
