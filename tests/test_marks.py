r"""Fill values and glitches count as missing; ordinary data hold none, whatever their tails."""

from __future__ import annotations

import warnings

import numpy as np
import pandas as pd
import pytest

from adapts import Adapter
from adapts.data.marks import Marks, frequent
from adapts.data.panel import Panel
from adapts.notices import FitWarning

N, H = 600, 12
ROWS = 1013 + 8 * np.random.default_rng(0).normal(size=(N, 2))


def marked(cells: dict[int, float], values: np.ndarray = ROWS[:, 0]) -> np.ndarray:
    held = values.copy()
    held[list(cells)] = list(cells.values())
    return held


def found(values: np.ndarray) -> list[int]:
    panel = Panel.of(values)
    return [mark.row for mark in Marks.of(panel).on(panel)]


class TestMarks:
    @pytest.mark.parametrize(
        "cells",
        [
            {40: 9.97e36},
            {40: -1e30, 41: -1e30, 599: -1e30},
            {7: -9999.0, 8: -9999.0, 300: 1e20},
            {row: 2.147e9 for row in range(100, 106)},
            {0: 1e12, 1: 3e12, 2: 5e12, 3: 9e12},
        ],
    )
    def test_fill_values_and_glitches(self, cells):
        assert found(marked(cells)) == sorted(cells)
        panel = Panel.of(np.column_stack([marked(cells), ROWS[:, 1]]))
        whole = Marks.of(panel).without(panel).items[0].values
        assert np.isnan(whole[:, 0]).sum() == len(cells) and np.array_equal(whole[:, 1], ROWS[:, 1])

    @pytest.mark.parametrize(
        "values",
        [
            ROWS[:, 0],
            np.random.default_rng(1).standard_t(2, 3000),
            np.random.default_rng(2).lognormal(0, 2, 3000),
            np.random.default_rng(3).poisson(0.05, 3000).astype(float),
            marked({9: 1.0}, np.zeros(N)),  # a flag that is raised once
            marked({row: 5.0 + row for row in range(200, 206)}, 1e-3 * np.sin(np.arange(N))),  # rare events
            marked({row: -9999.0 for row in range(0, N, 20)}),  # 5 %: too many to be a few
            np.full(N, 5.0),
            np.array([1.0, 1e20]),
        ],
        ids=["normal", "t2", "lognormal", "counts", "flag", "events", "many", "constant", "two rows"],
    )
    def test_ordinary_data_hold_none(self, values):
        assert found(values) == []
        panel = Panel.of(values)
        assert Marks.of(panel).without(panel) is panel  # so no bit of a fit changes

    def test_of_panels(self):
        panel = Panel.of([ROWS[:300, 0], marked({5: 1e15}, ROWS[300:, 0])])
        assert [(mark.item, mark.row, mark.value) for mark in Marks.of(panel).on(panel)] == [(1, 5, 1e15)]


@pytest.fixture(scope="module")
def frame() -> pd.DataFrame:
    time = np.arange(N)[:, None]
    values = 20 + 5 * np.sin(2 * np.pi * time / 24 + np.arange(2)) + np.random.default_rng(4).normal(size=(N, 2))
    return pd.DataFrame(values, pd.date_range("2024-01-01", periods=N, freq="h"), ["heat", "wind"])


def test_a_fit_is_that_of_missing_values(frame: pd.DataFrame) -> None:
    r"""What is fitted around marks is to the bit what is fitted around NaN, and it goes on so."""
    filled, missing = frame[-350:].copy(), frame[-350:].copy()
    filled.iloc[[30, 200, 345], [0]] = -1e25
    missing.iloc[[30, 200, 345], [0]] = np.nan
    options = {"family": "residual", "prediction_length": 6, "max_windows": 50, "context_length": 48}
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        of_filled = Adapter(**options).fit(filled)
    (told,) = [notice for notice in of_filled.summary().notices if notice.kind == "marks"]
    assert told.about == ("heat",) and "'heat' holds -1e+25 in rows 30, 200, 345" in told.said
    assert told.said in [str(each.message) for each in said if each.category is FitWarning]
    of_missing = Adapter(**options).fit(missing)
    assert np.array_equal(of_filled.scale_, of_missing.scale_)
    right = of_missing.predict().samples
    assert np.array_equal(of_filled.predict().samples, right)
    assert np.array_equal(of_filled.predict(filled).samples, right)  # contexts of other panels hold them too


def test_a_saved_adapter_knows_marks(frame: pd.DataFrame, tmp_path) -> None:
    filled = frame.copy()
    filled.iloc[[100, 598], 1] = 32767e6
    fitted = Adapter("identity", prediction_length=H, max_windows=40).fit(filled)
    fitted.save(tmp_path / "saved")
    loaded = Adapter.load(tmp_path / "saved")
    assert loaded.summary().notices == fitted.summary().notices
    assert np.array_equal(loaded.predict(filled).mean, fitted.predict().mean)


@pytest.mark.parametrize("role", ["past_covariates", "known_covariates"])
def test_covariates_may_hold_marks(frame: pd.DataFrame, role: str) -> None:
    filled = frame.copy()
    filled.iloc[[50, 51], 1] = 1e20
    fitted = Adapter("identity", prediction_length=H, max_windows=40).fit(filled, **{role: "wind"})
    assert "'wind' holds 1e+20 in rows 50, 51" in str(fitted.summary())
    assert np.isnan(fitted.fitted_.panel.items[0].values).sum() == (2 if "wind" in fitted.fitted_.panel.channels else 0)


@pytest.mark.parametrize(("count", "value"), [(18, -9999.0), (90, 1e20), (270, -9999.0)])
def test_fill_values_that_are_too_many_for_marks_are_warned_of(count: int, value: float) -> None:
    values = np.random.default_rng(0).normal(size=(900, 2))
    values[np.random.default_rng(1).choice(900, count, replace=False), 0] = value
    assert frequent(Panel.of(values)) == {"0": (value, count)}
    with pytest.warns(FitWarning, match=f"column '0' holds .* in {count} rows, far beyond all other values"):
        Adapter("identity", prediction_length=6, context_length=48, max_windows=60).fit(values)


def test_ordinary_columns_hold_no_fill_value() -> None:
    rng = np.random.default_rng(0)
    for column in (rng.poisson(0.2, 900), rng.standard_t(2, 900), rng.gamma(0.3, 1, 900) * (rng.random(900) < 0.1)):
        assert frequent(Panel.of(np.asarray(column, dtype=float)[:, None])) == {}
