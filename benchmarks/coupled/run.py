r"""Coupled channels: adapters beside the frozen model with calibration (`identity`) and baselines, on real sets.

    python -m benchmarks.coupled.run                              # all sets and seeds; goes on where it stood
    python -m benchmarks.coupled.run los_loop --model residual    # some of them

Each adapter is fitted with default splits on the rows before the card's test border, and scored at origins in the test
rows whose stride shares no factor with the season. One CSV row a set, seed, model and metric.
"""

import argparse
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd

from adapts import Adapter
from adapts.data.cards import Dataset, read
from adapts.data.panel import Panel
from adapts.evaluation.backtest import roll
from benchmarks.provenance import named, provenance

HERE = Path(__file__).parent
SEEDS = (0, 1, 2)
MODELS = ("identity", "residual", "attention", "auto")
BASELINES = ("frozen model", "last value", "seasonal naive", "nlinear")


@dataclass(frozen=True)
class Setting:
    r"""How a set is forecast: horizon, context, stride of test origins, and the first channels of how many."""

    prediction_length: int
    context_length: int
    stride: int
    channels: int | None = None


SETTINGS = {
    "los_loop 60": Setting(12, 144, 5, 60),
    "los_loop": Setting(12, 144, 5),
    "beijing_pm25": Setting(24, 168, 37),
    "bike_sharing": Setting(24, 336, 37),
    "greensboro": Setting(24, 336, 17),
    "weather": Setting(96, 504, 95),
    "etth1": Setting(96, 504, 23),
    "ettm1": Setting(96, 504, 101),
    "exchange_rate": Setting(96, 504, 16),
    "illness": Setting(24, 156, 1),
}


def series(name: str) -> tuple[Panel, Dataset, int]:
    r"""The rows up to the last target of the last test origin, the data set, and the number of test origins."""
    setting, dataset = SETTINGS[name], read(name.split()[0])
    panel = dataset.panel
    if setting.channels is not None:
        panel = panel.select(panel.channels[: setting.channels])
    first, end = dataset.borders[1], dataset.end
    origins = (end - first - setting.prediction_length) // setting.stride + 1
    stop = first + (origins - 1) * setting.stride + setting.prediction_length
    return panel.rows(stop), dataset, origins


def score(name: str, model: str, seed: int) -> pd.DataFrame:
    setting = SETTINGS[name]
    panel, dataset, origins = series(name)
    adapter = Adapter(
        model, prediction_length=setting.prediction_length, context_length=setting.context_length,
        support={channel: bounds for channel, bounds in dataset.support.items() if channel in panel.targets} or None,
        seed=seed, trainer_options={"enable_progress_bar": False} if model in ("attention", "auto") else None,
    )  # fmt: skip
    began: dict[str, float] = {}
    result = roll(
        {model: adapter}, replace(dataset, panel=panel, borders=None, end=None), windows=origins,
        stride=setting.stride, baselines=list(BASELINES) if model == "identity" and seed == SEEDS[0] else False, seed=0,
        on_progress=lambda stage: began.setdefault(stage, time.perf_counter()),
    )  # fmt: skip
    fit, scored, *_ = [*began.values(), time.perf_counter()]
    frame = result.frame.query("channel == 'all' and lead_block == 'all'").drop(columns=["channel", "lead_block"])
    fitted: Any = result.adapter.fitted_
    return frame.assign(
        data=name, prediction_length=setting.prediction_length, context_length=setting.context_length,
        stride=setting.stride, windows=origins, fit_seconds=round(scored - fit, 1),
        gate="" if fitted.gate is None else round(float(fitted.gate.mean()), 3),
        train=fitted.decisions.get("weights", fitted.decisions["train"]).reason,
        foundation_model=named(adapter.model), **provenance(panel, seed),
    )  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("data", nargs="*", default=list(SETTINGS), help="names of settings")
    parser.add_argument("--model", nargs="+", default=list(MODELS))
    parser.add_argument("--seed", nargs="+", type=int, default=list(SEEDS))
    parser.add_argument("--output", type=Path, default=HERE / "scores.csv")
    options = parser.parse_args()
    for seed in options.seed:
        for name in options.data:
            for model in options.model:
                old = pd.read_csv(options.output, dtype=str) if options.output.exists() else pd.DataFrame()
                if len(old) and ((old[["data", "model", "seed"]] == [name, model, str(seed)]).all(axis=1)).any():
                    continue
                frame = score(name, model, seed)
                pd.concat([old, frame.astype(str)]).to_csv(options.output, index=False)
                rows = frame[frame["metric"] == "crps"].set_index("model")["value"]
                print(f"{name} {model} {seed}: CRPS {rows[model]:.4f}, {frame['fit_seconds'].iloc[0]} s", flush=True)


if __name__ == "__main__":
    main()
