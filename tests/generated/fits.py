r"""Numbers of every size and pattern, and what is missing of them: fitted, forecast, updated."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pandas as pd

from adapts import Adapter, load_foundation_model
from adapts.foundation import FoundationModel
from adapts.testing.tiny import tiny_chronos_bolt

from . import odd
from .judge import Case, require_whole
from .series import frame, reading_options, series, shown

#: Families that are fitted in the blink of an eye.
QUICK = ("residual", "identity", "linear", "projection", "weave")
TRAINER = {"max_epochs": 1, "enable_progress_bar": False}


def tiny(_: Path | None = None) -> FoundationModel:
    r"""The frozen model of every case."""
    return load_foundation_model(tiny_chronos_bolt(context_length=32, prediction_length=4, patch=4), device="cpu")


def small(model: Any, family: Any = "residual", **options: Any) -> Adapter:
    r"""An adapter that fits in an instant."""
    quick = {"prediction_length": 3, "context_length": 16, "max_windows": 12, "trainer_options": TRAINER}
    return Adapter(**{"family": family, "foundation_model": model, **quick, **options})


def channel(random: Random, rows: int) -> np.ndarray:
    r"""A channel of some pattern and size."""
    rng = np.random.default_rng(random.randrange(2**32))
    noise, time = rng.normal(size=rows), np.arange(rows)
    patterns: Sequence[Callable[[], np.ndarray]] = (
        lambda: noise,
        lambda: noise.cumsum(),
        lambda: np.sin(time / 3) + 0.1 * noise,
        lambda: np.full(rows, random.choice([0.0, 1.0, -3.5, 0.1])),
        lambda: np.where(time < rows // random.choice([2, 3, 10]), 1.0, noise),
        lambda: np.where(time == random.randrange(rows), 1e6, noise),
        lambda: (noise > 1).astype(float),
        lambda: np.rint(3 * noise),
        lambda: time.astype(float),
        lambda: np.exp(time / 3.0),
        lambda: np.exp(20 * noise),
        lambda: 1 + 1e-15 * np.rint(5 * noise),
        lambda: np.maximum(noise, 0) * (rng.random(rows) < 0.2),
        lambda: rng.standard_cauchy(rows),
        lambda: (-1.0) ** time,
        lambda: np.where(time == rows - 1, 1.0, 0.0),
    )
    values = random.choice(patterns)()
    how = random.random()
    if how < 0.35:
        values = values * 10.0 ** random.choice([*range(-12, 13), *range(-300, 301, 7)])
    elif how < 0.45:
        values = values + 10.0 ** random.choice([3, 8, 15, 17, 30, 100, 150, 300])
    elif how < 0.5:
        values = values * 10.0 ** rng.integers(-320, 308, size=rows)
    elif how < 0.53:
        values = values * 5e-324
    elif how < 0.6:
        values[random.randrange(rows)] = random.choice(
            [1e38, 1e100, 1e150, 1e155, 1e200, 1e300, 1.7e308, -1.7e308, 1e-310]
        )
    return np.where(np.isfinite(values), values, 1.7e308)


def missing(random: Random, values: np.ndarray) -> np.ndarray:
    r"""Takes out cells: single ones, blocks, channels, the ends."""
    rows, channels = values.shape
    rng = np.random.default_rng(random.randrange(2**32))
    column = random.randrange(channels)
    patterns: Sequence[Callable[[], np.ndarray]] = (
        lambda: rng.random(values.shape) < random.choice([0.05, 0.3, 0.8, 0.97]),
        lambda: np.arange(rows)[:, None] >= rows - random.choice([1, 3, 16, 20, rows]),
        lambda: np.arange(rows)[:, None] < random.choice([1, 16, rows // 2, rows - 3]),
        lambda: (np.arange(channels) == column) & (rng.random((rows, 1)) < 0.9),
        lambda: (np.arange(channels) == column) & (np.arange(rows)[:, None] > random.choice([1, rows // 2])),
        lambda: (np.arange(channels) == column) & (np.arange(rows)[:, None] % 2 == 0),
        lambda: (np.arange(rows) % random.choice([2, 3, 5]) != 0)[:, None] | np.zeros(channels, bool),
        lambda: np.arange(rows)[:, None] % channels != np.arange(channels),
    )
    return np.where(random.choice(patterns)(), np.nan, values)


def table(random: Random, rows: int | None = None) -> np.ndarray:
    r"""Channels beside each other, with shape (T, D)."""
    rows = rows or random.choice([20, 30, 45, 60, 60, 80, 120])
    columns = [channel(random, rows) for _ in range(random.choice([1, 2, 2, 3, 4]))]
    if len(columns) > 1 and random.random() < 0.15:
        columns[1] = columns[0] * random.choice([1.0, -1.0, 1e-200, 2.0])
    values = np.column_stack(columns)
    if random.random() < 0.4:
        values = missing(random, values)
    return values


def data(random: Random) -> Any:
    r"""What is fitted: an array, a frame, a panel."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        values = table(random)
    names = list("abcd"[: values.shape[1]])
    how = random.random()
    if how < 0.5:
        return values if random.random() < 0.8 else values.astype(random.choice([np.float32, np.longdouble]))
    dates = pd.date_range("2024-03-20", periods=len(values), freq=random.choice(["h", "D", "15min", "W", "MS", "B"]))
    if how < 0.7:
        frame = pd.DataFrame(values, dates, names)
        return (
            frame.tz_localize("Europe/Berlin", nonexistent="shift_forward", ambiguous="NaT")
            if random.random() < 0.2
            else frame
        )
    if how < 0.85:
        return [values, *(missing(random, values)[: random.choice([20, 40, 60])] for _ in range(random.choice([1, 2])))]
    parts = [
        pd.DataFrame(values, dates, names),
        pd.DataFrame(values * random.choice([1.0, 2.0, 1e-9, 1e9]), dates, names),
    ]
    return pd.concat(parts, keys=["u", "v"], names=["item_id", "timestamp"]).reset_index()


def options(random: Random) -> dict[str, Any]:
    r"""Options of an adapter as they should be."""
    free: dict[str, Sequence[Any]] = {
        "copula": ("residual", "gaussian-history", "schaake", "empirical", "independent"),
        "recalibration": ("auto", "conformal", "none"),
        "gate": (True, False),
        "support": (None, (0.0, np.inf), (-np.inf, 0.0), (0.0, 1.0), (-1e300, 1e300)),
        "prediction_length": (1, 2, 3, 6),
        "context_length": (1, 4, 16, 32, 40),
        "seed": (0, 5),
    }
    return {name: random.choice(values) for name, values in free.items() if random.random() < 0.3}


def fits(random: Random, model: FoundationModel) -> Case:
    r"""A case of `fit(...).predict()`, and of an update and another series behind it."""
    family = (
        random.choice(QUICK)
        if random.random() < 0.93
        else random.choice(["vae", "dropout", "bayesian", "ensemble", "flow"])
    )
    given, chosen = data(random), options(random)
    later = (
        table(random, random.choice([1, 5, 40])) if random.random() < 0.3 and isinstance(given, np.ndarray) else None
    )
    reading = {"calendar": True} if isinstance(given, pd.DataFrame) and random.random() < 0.15 else {}
    span = _span(given)
    what = f"{family} {chosen} {reading} on {shown(given)} {span}{'' if later is None else ', then ' + shown(later)}"

    def run() -> object:
        adapter = small(model, family, **chosen).fit(given, **reading)
        require_whole(adapter.predict(num_samples=20))
        str(adapter.summary())
        if later is not None and later.shape[1] == given.shape[1]:
            require_whole(adapter.predict(later, num_samples=20))
            require_whole(adapter.update(later).predict(num_samples=20))
        return adapter

    return Case(what, run)


def _span(given: Any) -> str:
    parts = given if isinstance(given, list) else [given]
    values = np.concatenate(
        [
            np.asarray(part.select_dtypes("number") if isinstance(part, pd.DataFrame) else part, dtype=float)
            for part in parts
        ]
    )
    size = np.abs(values[np.isfinite(values) & (values != 0)])
    gone = np.isnan(values).mean()
    return (
        f"(sizes {size.min():.0e} to {size.max():.0e}, {gone:.0%} missing)"
        if size.size
        else f"(zeros, {gone:.0%} missing)"
    )


def odd_series(random: Random, model: FoundationModel) -> Case:
    r"""Whatever `Panel.of` may be given, handed to `fit` or to `predict` of what was fitted before."""
    given = frame(random, random.choice([40, 60])) if random.random() < 0.7 else series(random)
    chosen = reading_options(random, given)
    if random.random() < 0.3:
        chosen[random.choice(["past_covariates", "known_covariates", "calendar", "borders"])] = odd.value(random)

    def run() -> object:
        forecasts = small(model).fit(given, **chosen).predict(num_samples=5)
        require_whole(forecasts)
        return forecasts

    return Case(f"fit({shown(given)}{''.join(f', {name}={shown(value)}' for name, value in chosen.items())})", run)
