r"""The calendar: its cycles, their phases, and families that read those the context does not hold."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from seasonal import SeasonalModel
from torch.testing import assert_close

from adapts import Adapter
from adapts.adapters import Bayesian, CrossChannelAttention, Ensemble, Portfolio
from adapts.data.calendar import count_waves, phases, unseen_cycles
from adapts.data.panel import Panel
from adapts.data.windows import last_windows

SMALL: dict[str, Any] = {"steps": 4, "width": 16, "heads": 2, "embedding": 4, "dropout": 0.0}


def dated(rows: int, frequency: str, start: str = "2024-01-01", zone: str | None = None) -> Panel:
    index = pd.date_range(start, periods=rows, freq=frequency, tz=zone)
    return Panel.of(pd.DataFrame({"a": np.arange(rows, dtype=float), "b": 1.0 * np.arange(rows)}, index=index))


@pytest.mark.parametrize(
    ("frequency", "rows", "context", "expected"),
    [
        ("5min", 288 * 6, 144, ("day",)),  # a week is not repeated four times
        ("5min", 288 * 28, 144, ("day", "week")),
        ("5min", 288 * 28, 288, ("week",)),  # the context holds a day
        ("5min", 288 * 4 - 1, 144, ()),
        ("h", 5000, 168, ()),
        ("h", 5000, 100, ("week",)),
        ("D", 3000, 6, ("week",)),
        ("D", 3000, 28, ()),  # years are left to `calendar=True`
        ("MS", 300, 6, ()),
        ("YS", 30, 6, ()),
    ],
)
def test_unseen_cycles(frequency: str, rows: int, context: int, expected: tuple[str, ...]) -> None:
    assert unseen_cycles(dated(rows, frequency), context) == expected


def test_no_cycle_without_dates_or_beside_a_calendar() -> None:
    assert unseen_cycles(Panel.of(np.zeros((5000, 2))), 24) == ()


def test_phases_are_those_of_local_time_and_reach_one_step_ahead() -> None:
    panel = dated(100, "h", zone="Europe/Berlin", start="2024-03-30")  # the clock changes on 31 March
    found = phases(panel, ("day",))
    item = found.items[0]
    assert item.values.shape == (101, count_waves(("day",))) == (101, 4)
    hours = np.asarray(item.index.hour)  # type: ignore[attr-defined]
    angles = 2 * np.pi * np.outer(hours, [1, 2]) / 24
    expected = np.sqrt(2) * np.stack([np.sin(angles), np.cos(angles)], -1).reshape(101, 4)
    np.testing.assert_allclose(item.values, expected, atol=1e-12)
    np.testing.assert_allclose((phases(dated(24, "h"), ("day",)).items[0].values[:24] ** 2).mean(0), 1.0)


def pulses(rows: int = 900, seed: int = 0) -> pd.DataFrame:
    r"""Two channels of noise with a pulse at noon and at one: 16 hours before, the context holds none."""
    rng = np.random.default_rng(seed)
    index = pd.date_range("2024-01-01", periods=rows, freq="h")
    level = np.where(index.hour.isin([12, 13]), 4.0, 0.0)
    return pd.DataFrame(level[:, None] + 0.3 * rng.standard_normal((rows, 2)), index, ["a", "b"])


def adapter(family: Any = None, epochs: int = 15) -> Adapter:
    family = CrossChannelAttention(**SMALL) if family is None else family
    options: dict[str, Any] = {"enable_progress_bar": False, "max_epochs": epochs}
    return Adapter(
        family, foundation_model=SeasonalModel(season=3), prediction_length=4, context_length=16, gate=False,
        recalibration="none", learning_rate=0.006, trainer_options=options,
    )  # fmt: skip


def fitted(series: Any, family: Any = None, epochs: int = 15) -> Adapter:
    return adapter(family, epochs).fit(series)


def error(series: Any) -> float:
    frame = adapter().backtest(series, windows=60, stride=1, baselines=False)
    assert isinstance(frame, pd.DataFrame)
    overall = frame.query("channel == 'all' and lead_block == 'all' and metric == 'mse'")
    return float(overall["value"].iloc[0])


def test_a_family_learns_a_cycle_that_the_context_does_not_hold() -> None:
    frame = pulses()
    with_dates, without = (error(series) for series in (frame, frame.reset_index(drop=True)))
    assert with_dates < 0.7 * without


@pytest.mark.parametrize(
    "family",
    [
        CrossChannelAttention(**SMALL),
        Ensemble(member="attention", members=2, member_options=SMALL),
        Bayesian(base="attention", base_options=SMALL, guide="laplace", sites=["output.bias"]),
        Portfolio(members=("residual", "attention"), member_options={"attention": SMALL}),
    ],
    ids=lambda family: str(family.family),
)
def test_saved_and_loaded_it_forecasts_alike(family: Any, tmp_path: Path) -> None:
    adapter = fitted(pulses(400), family, epochs=2)
    assert adapter.fitted_.cycles == ("day",)
    assert adapter.fitted_.module.calendar == 4
    adapter.save(tmp_path / "saved")
    loaded = Adapter.load(tmp_path / "saved", foundation_model=SeasonalModel(season=3))
    assert loaded.fitted_.cycles == ("day",)
    assert np.array_equal(loaded.predict().samples, adapter.predict().samples)
    series = pulses(500, seed=1)
    assert np.array_equal(loaded.predict(series).samples, adapter.predict(series).samples)


def test_the_forecast_after_the_end_reads_the_time_there() -> None:
    adapter = fitted(pulses(400), epochs=2)
    standardiser = adapter._predictor("predict").standardiser
    for rows in (400, 390):
        panel = Panel.of(pulses(rows))
        read = standardiser.standardised(last_windows(panel, context_length=16, prediction_length=4)).calendar()
        angle = 2 * np.pi * (rows % 24) / 24
        expected = np.sqrt(2) * np.array([np.sin(angle), np.cos(angle), np.sin(2 * angle), np.cos(2 * angle)])
        assert_close(read, torch.from_numpy(expected).float()[None])


def test_tensors_of_cycles_are_checked() -> None:
    adapter = fitted(pulses(400), epochs=1)
    state = adapter.fitted_.state()
    with pytest.raises(ValueError, match="cycles"):
        adapter.fitted_.restore({**state, "cycles": torch.tensor([True])})
    undated = fitted(pulses(400).reset_index(drop=True), epochs=1)
    with pytest.raises(ValueError, match="dated series only"):
        undated.fitted_.restore({**undated.fitted_.state(), "cycles": state["cycles"]})


def test_rows_without_dates_are_refused_where_the_time_is_read() -> None:
    frame = pulses(rows=300)
    adapter = fitted(frame, epochs=1)
    assert adapter.require_fitted("predict").cycles
    with pytest.raises(ValueError, match="reads the time of the day, .* expected rows with dates"):
        adapter.predict(frame.reset_index(drop=True))
