r"""The table of the paper of AdaPTS in one run: its eight cells, its five families, ours, and forecasters beside them.

    python -m benchmarks.paper.run                                    # all cells, models and seeds, in parts of an hour
    python -m benchmarks.paper.run "etth1 96" --model auto --seed 0   # some of them
    python -m benchmarks.paper.run --backbone patchtst                # two cells around a weak frozen model
    python -m benchmarks.paper.run --quick                            # two cells, one seed, in a quarter of an hour

Every call goes on where the file stands, and begins nothing after `--minutes`. Train, validation and test rows are
those of the literature; errors are in train standard deviations. Test windows begin at a stride without a common factor
with the season, not at every row. Adapters are fitted on train and validation rows with the borders of the cards.
Baselines take all these rows, gluonts' models train on the train rows and choose their epoch on the validation rows.

One CSV row a cell, model, variant, backbone, seed and metric. A family that gradients train is fitted once a seed, in
at most two minutes. The variant "as shipped" has gate and recalibration, "as in the paper" has the same parameters
without them (`benchmarks.paper.variants`). Closed forms are solved for each variant.
"""

import argparse
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from adapts import Adapter, load_foundation_model
from adapts.adapters import VAE, AdapterModule, Linear
from adapts.data.cards import Dataset, read
from adapts.foundation import FoundationModel
from adapts.foundation.cache import cached_forecasts
from adapts.notices import FitWarning
from benchmarks.coupled.run import BUDGET, TRAINER, resumed
from benchmarks.neural import NEURAL, Budget, neural_forecast
from benchmarks.paper.backbone import weak_backbone
from benchmarks.paper.variants import ungated, without_gate
from benchmarks.provenance import named, provenance
from benchmarks.scoring import HeldOut, Jobs, baseline_forecast, not_scored

HERE = Path(__file__).parent
CONTEXT, SEEDS, SECONDS = 512, (0, 1, 2), 120.0
SHIPPED, PAPER = "as shipped", "as in the paper"


@dataclass(frozen=True)
class Cell:
    r"""A data set and a horizon.

    Arguments:
        data: The card.
        prediction_length: The horizon.
        stride: The rows from one test origin to the next, without a common factor with the season.
        literal: Whether values that the card declares missing are left in, as in the literature.
        max_windows: The most train windows of a fit; the default if None. Beyond 96 steps bolt-nano takes a second
            pass for twelve paths, fourteen times as long.
        draws: The draws of a stochastic family.
    """

    data: str
    prediction_length: int
    stride: int
    literal: bool = False
    max_windows: int | None = None
    draws: int = 20

    @property
    def steps(self) -> tuple[int, int]:
        r"""The numbers of context and target steps."""
        return CONTEXT, self.prediction_length


LONG: dict[str, Any] = {"max_windows": 500, "draws": 5}
CELLS = {
    "etth1 96": Cell("etth1", 96, 23),
    "etth1 192": Cell("etth1", 192, 47, **LONG),
    "illness 24": Cell("illness", 24, 1),
    "illness 60": Cell("illness", 60, 1),
    "weather 96": Cell("weather", 96, 127, literal=True),
    "weather 192": Cell("weather", 192, 191, literal=True, **LONG),
    "exchange_rate 96": Cell("exchange_rate", 96, 13),
    "exchange_rate 192": Cell("exchange_rate", 192, 23, **LONG),
    "weather 96, missing values": Cell("weather", 96, 127),
    "weather 192, missing values": Cell("weather", 192, 191, **LONG),
}
#: The value that marks missing ones in the file of a card.
SENTINEL = -9999.0

#: Baselines of `adapts.evaluation.baselines`, by the names that they have here, with the most windows of their fit.
BASELINES = {
    "last value": ("last value", 2000), "seasonal naive": ("seasonal naive", 2000), "NLinear": ("nlinear", 8000),
    "DLinear": ("dlinear", 8000), "VAR": ("var", 2000),
}  # fmt: skip
#: The paper's families: our preset or family, and the paper's name.
TRAINED: dict[str, tuple[str | AdapterModule, str]] = {
    "pca": ("pca", "PCA"),
    "linear": ("linear", "LinearAE"),
    "dropout": ("dropout", "dropoutLAE"),
    "linear vae": (VAE(), "LinearVAE"),
    "vae": (VAE(depth=2, hidden=128), "VAE"),
}
#: Those that gradients train.
SEEDED = tuple(name for name in TRAINED if name != "pca")
#: Families in closed form, and the default, with one seed.
OTHERS: dict[str, str | AdapterModule] = {
    "identity": "identity", "residual": "residual", "context": "context", "var": "var",
    "linear, closed form": Linear(free="decoder"), "auto": "auto",
}  # fmt: skip
MODELS = (*OTHERS, *BASELINES, *NEURAL, *TRAINED)
FROZEN = "frozen model"
#: The cells and models around a weak frozen model: those whose validation rows suffice to train its head, and models.
WEAK_CELLS = "etth1 96", "weather 96, missing values"
WEAK_MODELS = ("identity", "residual", "linear, closed form", "auto", *TRAINED)
BACKBONES: dict[str, Callable[[], FoundationModel]] = {
    "bolt-nano": cache(partial(load_foundation_model, "bolt-nano")),  # once, as the cache of forecasts holds it
    "patchtst": weak_backbone,
}


def series(cell: Cell) -> Dataset:
    r"""The rows of a cell up to the end of its test rows, with the card's borders."""
    data = read(cell.data)
    panel = data.panel.rows(data.end)
    if not cell.literal:
        return replace(data, panel=panel, end=None)
    items = (replace(item, values=np.where(np.isnan(item.values), SENTINEL, item.values)) for item in panel.items)
    return replace(data, panel=replace(panel, items=tuple(items)), end=None, support={})


def held_out(cell: Cell, data: Dataset) -> HeldOut:
    r"""The test windows of a cell."""
    assert data.borders is not None
    return HeldOut.of(data.panel, *data.borders, cell.stride, cell.steps)


def before_test(data: Dataset) -> Dataset:
    r"""The train and validation rows."""
    assert data.borders is not None
    return replace(data, panel=data.panel.rows(data.borders[1]))


def make(model: str, cell: Cell, backbone: FoundationModel, seed: int) -> Adapter:
    r"""The adapter of a model around a frozen model, not fitted."""
    family = TRAINED[model][0] if model in TRAINED else OTHERS[model]
    return Adapter(
        family, foundation_model=backbone, prediction_length=cell.prediction_length, context_length=CONTEXT,
        max_windows=cell.max_windows, posterior_draws=cell.draws, seed=seed, trainer_options=TRAINER,
    )  # fmt: skip


def fitted_frame(
    model: str, cell: Cell, data: Dataset, held: HeldOut, backbone: FoundationModel, seed: int, seconds: float
) -> pd.DataFrame:
    r"""The scores of an adapter in its variants; beside `identity`, those of the frozen model."""
    adapter = make(model, cell, backbone, seed)
    limit = seconds if model in SEEDED else None
    rows = before_test(data)
    adapter.fit(rows, time_limit=limit)
    assert adapter.fitted_ is not None
    fitted = adapter.fitted_
    about = {
        "gate": "" if fitted.gate is None else round(float(fitted.gate.mean()), 3),
        "gate_decision": fitted.decisions["gate"].outcome,
        "train": fitted.decisions.get("weights", fitted.decisions["train"]).reason,
        "train_windows": fitted.windows["train"],
    }
    frames = [held.scores(model, adapter.joint_distribution).assign(variant=SHIPPED, **about)]
    if model not in ("identity", "auto"):
        alone = without_gate(adapter, rows) if model in TRAINED else ungated(adapter).fit(rows)
        frames.append(
            held.scores(model, alone.joint_distribution).assign(
                variant=PAPER, **about | {"gate": "", "gate_decision": ""}
            )
        )
    if model == "identity":
        frames.append(held.scores(FROZEN, adapter.zero_shot_distribution).assign(variant=""))
    return pd.concat(frames, ignore_index=True)


def beside_frame(model: str, cell: Cell, data: Dataset, held: HeldOut, seed: int, budget: Budget) -> pd.DataFrame:
    r"""The scores of a baseline or of a model of gluonts."""
    rows = before_test(data).panel
    assert data.borders is not None
    if model in BASELINES:
        name, most = BASELINES[model]
        forecast = baseline_forecast(name, rows, data.season_length or 1, cell.steps, most)
        return held.scores(model, forecast).assign(variant="")
    forecast, how = neural_forecast(model, rows.items[0].values, data.borders[0], cell.steps, seed, budget)
    return held.scores(model, forecast).assign(variant="", train=how)


def score(
    cell: str, model: str, seed: int, backbone: str, *, seconds: float = SECONDS, windows: int | None = None
) -> pd.DataFrame:
    r"""The rows of a model on a cell.

    Arguments:
        cell: The cell's name.
        model: The model's name.
        seed: The seed.
        backbone: The name of the frozen model.
        seconds: The most seconds of a fit by gradient: by the clock for ours, of the processor for gluonts' models.
        windows: The most test windows, the first ones; all if None.
    """
    setting, frozen = CELLS[cell], BACKBONES[backbone]()
    data = series(setting)
    held = held_out(setting, data)
    held = held if windows is None else replace(held, windows=held.windows[:windows])
    try:
        if model in NEURAL or model in BASELINES:
            frame = beside_frame(model, setting, data, held, seed, Budget(seconds))
        else:
            frame = fitted_frame(model, setting, data, held, frozen, seed, seconds)
    except ValueError as error:
        frame = not_scored(model, str(error)).assign(variant="")
    return frame.assign(
        cell=cell, prediction_length=setting.prediction_length, context_length=CONTEXT, stride=setting.stride,
        windows=len(held.windows), seconds=seconds, backbone=backbone, foundation_model=named(frozen),
        **provenance(data.panel, seed),
    )  # fmt: skip


def jobs_of(cells: list[str], models: list[str], seeds: list[int], backbone: str) -> list[dict[str, Any]]:
    r"""The jobs: one a cell, a model and a seed; what no random number enters has one seed."""
    return [
        {"cell": cell, "model": model, "seed": seed, "backbone": backbone}
        for seed in seeds
        for cell in cells
        for model in models
        if seed == SEEDS[0] or model in SEEDED
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("cell", nargs="*", help=f"cells: {', '.join(CELLS)}")
    parser.add_argument("--model", nargs="+", choices=MODELS)
    parser.add_argument("--seed", nargs="+", type=int, default=list(SEEDS))
    parser.add_argument("--backbone", choices=BACKBONES, default="bolt-nano")
    parser.add_argument("--minutes", type=float, default=60.0, help="no job begins after so many minutes")
    parser.add_argument("--quick", action="store_true", help="two cells, few windows, short fits")
    parser.add_argument("--output", type=Path)
    options = parser.parse_args()
    weak = options.backbone == "patchtst"
    cells = options.cell or list(WEAK_CELLS if weak else CELLS)
    models, seeds, short = options.model or list(WEAK_MODELS if weak else MODELS), options.seed, {}
    output = options.output or HERE / "scores.csv"
    if options.quick:
        cells, seeds = options.cell or ["illness 24", "exchange_rate 96"], list(SEEDS[:1])
        short, output = {"seconds": 15.0, "windows": 30}, options.output or HERE / "quick.csv"
    jobs = Jobs(jobs_of(cells, models, seeds, options.backbone), options.minutes)
    warnings.simplefilter("ignore", FitWarning)  # the columns gate and train say what a fit left out
    with cached_forecasts(BUDGET):
        resumed(output, jobs, partial(score, **short))


if __name__ == "__main__":
    main()
