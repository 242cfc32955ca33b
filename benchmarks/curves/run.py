r"""Learning curves: from how many rows on an adapter beats the frozen model and trained forecasters.

    python -m benchmarks.curves.run                               # all sets and models, in parts of an hour
    python -m benchmarks.curves.run etth1 --model auto NLinear    # some of them
    python -m benchmarks.curves.run --quick                       # one set, two numbers of rows, a quarter of an hour

Every call goes on where the file stands, and begins nothing after `--minutes`. The rows of a fit end at the card's
train border: the last 300, 600, 1200, 2400, 4800, or all of them. Adapters divide them by their default splits,
PatchTST validates on the last fifth, one horizon at least, and baselines take all. No rows are `identity` without a
fit, whose marginals are those of the frozen model. All forecasts are scored on the same windows of the card's test
rows, in standard deviations of all train rows, at a stride without a common factor with the season.

One CSV row a set, number of rows, model, seed and metric. `crps_difference` is the CRPS less that of the frozen model.
"""

import argparse
import warnings
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import pandas as pd
from torch import Tensor

from adapts import Adapter
from adapts.data.cards import Dataset, read
from adapts.data.panel import Panel
from adapts.foundation.cache import cached_forecasts
from adapts.notices import FitWarning
from benchmarks.coupled.run import BUDGET, TRAINER, Setting, resumed
from benchmarks.neural import Budget, neural_forecast
from benchmarks.provenance import named, provenance
from benchmarks.scoring import HeldOut, Jobs, baseline_forecast, not_scored

HERE = Path(__file__).parent
SIZES, SEED, SECONDS, MAX_WINDOWS = (300, 600, 1200, 2400, 4800), 0, 60.0, 8000
WEATHER = "weather, every sixth row"
SETTINGS = {
    "los_loop": Setting(12, 144, 5),
    "beijing_pm25": Setting(24, 168, 61),
    "greensboro": Setting(24, 336, 17),
    "etth1": Setting(96, 504, 23),
    WEATHER: Setting(24, 168, 17),
    "exchange_rate": Setting(24, 96, 13),
}
FROZEN = "frozen model"
BASELINES = {"NLinear": "nlinear", "VAR": "var"}
#: Our families, and whether they are trained through the frozen model, in at most `SECONDS`.
FAMILIES = {"auto": False, "residual": False, "attention": False, "linear": True, "vae": True}
MODELS = (FROZEN, *BASELINES, "patchtst", *FAMILIES)


@dataclass(frozen=True)
class Series:
    r"""A set with its borders and its season, and the windows that all models are scored on."""

    data: Dataset
    train: int
    held: HeldOut

    def history(self, rows: int) -> Dataset:
        r"""The last train rows, without borders.

        Arguments:
            rows: Their number.
        """
        panel = self.data.panel
        first = self.train - rows
        items = (
            replace(item, values=item.values[first : self.train], index=item.index[first : self.train])
            for item in panel.items
        )
        return replace(self.data, panel=replace(panel, items=tuple(items)), borders=None, end=None)


def every_sixth(data: Dataset) -> Dataset:
    r"""Every sixth row: hours instead of ten minutes."""
    (item,) = data.panel.items
    assert data.borders is not None and data.end is not None
    frame = pd.DataFrame(item.values[::6], item.index[::6], columns=list(data.panel.channels))
    borders = data.borders[0] // 6, data.borders[1] // 6
    return replace(
        data, panel=Panel.of(frame, frequency="h"), borders=borders, end=data.end // 6, season_length=24
    )  # fmt: skip


@lru_cache(maxsize=1)
def series(name: str) -> Series:
    r"""The rows of a set up to the end of its test rows."""
    setting = SETTINGS[name]
    data = every_sixth(read("weather")) if name == WEATHER else read(name)
    assert data.borders is not None
    data = replace(data, panel=data.panel.rows(data.end), end=None)
    train, first = data.borders
    steps = setting.context_length, setting.prediction_length
    return Series(data, train, HeldOut.of(data.panel, train, first, setting.stride, steps))


def sizes(train: int) -> list[int]:
    r"""The numbers of rows: those of `SIZES` that a set has, and all."""
    return [*(size for size in SIZES if size < train), train]


def adapter(family: str, name: str) -> Adapter:
    r"""The adapter of a family for a set, not fitted."""
    setting = SETTINGS[name]
    return Adapter(
        family, prediction_length=setting.prediction_length, context_length=setting.context_length, seed=SEED,
        trainer_options=TRAINER,
    )  # fmt: skip


@lru_cache(maxsize=1)
def zero_shot(name: str) -> tuple[Adapter, Tensor]:
    r"""An adapter that holds the frozen model, and the frozen model's CRPS of each cell of the held-out windows."""
    held = series(name)
    frozen = adapter("identity", name).fit(held.history(min(SIZES[0], held.train)))
    return frozen, held.held.cells(frozen.zero_shot_distribution)["crps"]


def frame_of(name: str, rows: int, model: str, seconds: float) -> pd.DataFrame:
    r"""The scores of a model fitted on so many rows."""
    given, setting = series(name), SETTINGS[name]
    frozen, against = zero_shot(name)
    if model == FROZEN:
        return given.held.scores(model, frozen.zero_shot_distribution, against)
    history = given.history(rows)
    steps = setting.context_length, setting.prediction_length
    if model in BASELINES:
        season = history.season_length or 1
        forecast = baseline_forecast(BASELINES[model], history.panel, season, steps, MAX_WINDOWS)
        return given.held.scores(model, forecast, against)
    if model == "patchtst":
        train = rows - max(setting.prediction_length, rows // 5)
        values = history.panel.items[0].values
        forecast, how = neural_forecast(model, values, train, steps, SEED, Budget(seconds))
        return given.held.scores(model, forecast, against).assign(train=how)
    fitted = adapter(model, name).fit(history, time_limit=seconds if FAMILIES[model] else None)
    assert fitted.fitted_ is not None
    decisions, gate = fitted.fitted_.decisions, fitted.fitted_.gate
    return given.held.scores(model, fitted.joint_distribution, against).assign(
        train=decisions.get("weights", decisions["train"]).reason,
        gate="" if gate is None else round(float(gate.mean()), 3),
    )


def score(data: str, rows: int, model: str, seed: int, *, seconds: float = SECONDS) -> pd.DataFrame:
    r"""The rows of a model on a set, fitted on so many rows.

    Arguments:
        data: The name of the set.
        rows: The number of rows of the fit; 0 for the frozen model.
        model: The name of the model.
        seed: The seed.
        seconds: The most seconds of a fit by gradient: by the clock for ours, of the processor for PatchTST.
    """
    setting, given = SETTINGS[data], series(data)
    try:
        frame = frame_of(data, rows, model, seconds)
    except ValueError as error:
        frame = not_scored(model, str(error))
    return frame.assign(
        data=data, rows=rows, prediction_length=setting.prediction_length, context_length=setting.context_length,
        stride=setting.stride, windows=len(given.held.windows), seconds=seconds,
        foundation_model=named(zero_shot(data)[0].model), **provenance(given.data.panel, seed),
    )  # fmt: skip


def jobs_of(data: str, models: list[str], rows: list[int] | None = None) -> list[dict[str, Any]]:
    r"""The jobs of a set: one a model and a number of rows; the frozen model has none."""
    counts = sizes(series(data).train) if rows is None else rows
    return [
        {"data": data, "rows": count, "model": model, "seed": SEED}
        for model in models
        for count in ([0] if model == FROZEN else counts)
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("data", nargs="*", help=f"sets: {', '.join(SETTINGS)}")
    parser.add_argument("--model", nargs="+", choices=MODELS, default=list(MODELS))
    parser.add_argument("--minutes", type=float, default=60.0, help="no job begins after so many minutes")
    parser.add_argument("--quick", action="store_true", help="one set, two numbers of rows, short fits")
    parser.add_argument("--output", type=Path)
    options = parser.parse_args()
    output, rows, short = options.output or HERE / "scores.csv", None, {}
    names = options.data or list(SETTINGS)
    if options.quick:
        names, rows, short = options.data or ["exchange_rate"], [300, 1200], {"seconds": 30.0}
        output = options.output or HERE / "quick.csv"
    warnings.simplefilter("ignore", FitWarning)  # the columns gate and train say what a fit left out
    end = Jobs([], options.minutes).end
    for data in names:
        jobs = Jobs(jobs_of(data, options.model, rows), options.minutes)
        jobs.end = end
        with cached_forecasts(BUDGET):
            resumed(output, jobs, partial(score, **short))


if __name__ == "__main__":
    main()
