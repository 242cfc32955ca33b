r"""Coupled channels: adapters beside the frozen model with calibration (`identity`) and baselines, on real sets.

    python -m benchmarks.coupled.run                              # all sets and seeds; goes on where it stood
    python -m benchmarks.coupled.run los_loop --model residual    # some of them

Each adapter is fitted with default splits on the rows before the card's test border, and scored at origins in the test
rows whose stride shares no factor with the season. One CSV row a set, seed, model and metric: those of
`adapts.evaluation.backtest.roll`, and the 90 % interval of the 80 % coverage, `coverage_80_low` and `coverage_80_high`.
All fits of a set share the zero-shot forecasts, so that nothing is timed here (see `benchmarks.coupled.seconds`).
"""

import argparse
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from torch import Tensor

from adapts import Adapter
from adapts.data.cards import Dataset, read
from adapts.data.panel import Panel
from adapts.data.windows import Windows
from adapts.evaluation.backtest import Backtest, roll
from adapts.foundation.cache import cached_forecasts
from adapts.statistics.bootstrap import block_scheme, student_t_quantile
from benchmarks.provenance import named, provenance

HERE = Path(__file__).parent
SEEDS = (0, 1, 2)
MODELS = ("identity", "residual", "attention", "auto")
BASELINES = ("frozen model", "last value", "seasonal naive", "nlinear")
TRAINER = {"enable_progress_bar": False}
SECONDS = ["fit_seconds", "predict_seconds"]
#: The bytes of the zero-shot forecasts that the fits of a set share.
BUDGET = 2**31


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


def coverage_interval(inside: Tensor, windows: Windows, level: float = 0.9) -> tuple[float, float]:
    r"""The interval of the coverage, mean over channels, by blocks of time (`BlockScheme`); NaN for too few windows.

    Arguments:
        inside: Whether each cell lies within, with shape (n, H, D); NaN is missing.
        windows: The n windows.
        level: The nominal coverage of the interval.
    """
    scheme = block_scheme(windows.time, windows.prediction_length)
    if scheme is None:
        return float("nan"), float("nan")
    error = scheme.projections(inside.double().nansum(1), (~inside.isnan()).sum(1), together=True)[:, 0]
    half = student_t_quantile((1 + level) / 2, scheme.degrees_of_freedom) * float(error.square().mean().sqrt())
    mean = float(inside.double().nanmean((0, 1)).nanmean())
    return mean - half, mean + half


def with_interval(frame: pd.DataFrame, model: str, inside: Tensor, windows: Windows) -> pd.DataFrame:
    r"""A frame of scores, and the interval of one model's coverage as two more metrics."""
    bounds = zip(("coverage_80_low", "coverage_80_high"), coverage_interval(inside, windows), strict=True)
    rows = [{"model": model, "channel": "all", "lead_block": "all", "metric": name, "value": x} for name, x in bounds]
    return pd.concat([frame, pd.DataFrame(rows)], ignore_index=True)


def measure(
    model: str, data: Panel | Dataset, setting: Setting, origins: int, seed: int, baselines: list[str] | bool,
    others: Callable[[Backtest], pd.DataFrame] | None = None, time_limit: float | None = None, **options: Any,
) -> pd.DataFrame:  # fmt: skip
    r"""The scores of a model fitted on the rows before the first of so many origins, and of baselines, as a tidy frame.

    Seconds are those of the adapter: of its fit, and of one forecast with 200 joint samples (the median of three).
    `others` makes the scores of further models out of the backtest, `options` are further options of the adapter
    and, as family__name, of its family.
    """
    support = {} if isinstance(data, Panel) else data.support
    targets = (data if isinstance(data, Panel) else data.panel).targets
    adapter = Adapter(
        model, prediction_length=setting.prediction_length, context_length=setting.context_length,
        support={channel: bounds for channel, bounds in support.items() if channel in targets} or None,
        seed=seed, trainer_options=TRAINER,
    ).set_params(**options)  # fmt: skip
    began: dict[str, float] = {}
    result = roll(
        {model: adapter}, data, windows=origins, stride=setting.stride, baselines=baselines, seed=0,
        time_limit=time_limit,
        on_progress=lambda stage: began.setdefault(stage, time.perf_counter()),
    )  # fmt: skip
    frame = result.frame
    for name, found in result.scores.items():
        frame = with_interval(frame, name, found["coverage_80"], result.windows)
    if others is not None:
        frame = pd.concat([frame, others(result)], ignore_index=True)
    panel, future, taken = data if isinstance(data, Panel) else data.panel, None, []
    if panel.given:
        rows = panel.select(panel.given)
        future = pd.DataFrame(rows.items[0].values, rows.items[0].index, list(rows.channels))
    for _ in range(3):
        start = time.perf_counter()
        _ = result.adapter.predict(num_samples=200, future=future).samples
        taken.append(time.perf_counter() - start)
    own = frame["model"] == model
    fitted: Any = result.adapter.fitted_
    return frame.assign(
        prediction_length=setting.prediction_length, context_length=setting.context_length, stride=setting.stride,
        windows=origins,
        fit_seconds=np.where(own, round(began[f"score {model}"] - began["fit"], 1), np.nan),
        predict_seconds=np.where(own, round(float(np.median(taken)), 4), np.nan),
        gate="" if fitted.gate is None else round(float(fitted.gate.mean()), 3),
        train=fitted.decisions.get("weights", fitted.decisions["train"]).reason,
        foundation_model=named(adapter.model),
    )  # fmt: skip


def score(name: str, model: str, seed: int, *, baselines: bool | None = None, **options: Any) -> pd.DataFrame:
    r"""The scores of a model on a real set, with those of the baselines beside the first model of the first seed."""
    panel, dataset, origins = series(name)
    if baselines is None:
        baselines = model == MODELS[0] and seed == SEEDS[0]
    data = replace(dataset, panel=panel, borders=None, end=None)
    frame = measure(model, data, SETTINGS[name], origins, seed, list(BASELINES) if baselines else False, **options)
    frame = frame.query("channel == 'all' and lead_block == 'all'").drop(columns=["channel", "lead_block"])
    return frame.assign(data=name, **provenance(panel, seed))


def resumed(
    output: Path, jobs: Iterable[dict[str, Any]], compute: Callable[..., pd.DataFrame], metric: str = "crps"
) -> None:
    r"""Writes the frames of jobs into a CSV file as they come, those it does not hold yet.

    Arguments:
        output: The file.
        jobs: The arguments of `compute` by name, which are columns of its frame and tell its rows from all others.
        compute: What returns the frame of a job.
        metric: The metric of the job's model that is printed.
    """
    for job in jobs:
        old = pd.read_csv(output, dtype=str) if output.exists() else pd.DataFrame()
        key = {name: str(value) for name, value in job.items()}
        if len(old) and (old[list(key)] == pd.Series(key)).all(axis=1).any():
            continue
        frame = compute(**job)
        pd.concat([old, frame.astype(str).replace("nan", "")]).to_csv(output, index=False)
        own = frame[frame["model"] == job["model"]]
        value = own.loc[own["metric"] == metric, "value"].iloc[0]
        print(f"{', '.join(key.values())}: {metric.upper()} {value:.4f}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("data", nargs="*", default=list(SETTINGS), help="names of settings")
    parser.add_argument("--model", nargs="+", default=list(MODELS))
    parser.add_argument("--seed", nargs="+", type=int, default=list(SEEDS))
    parser.add_argument("--output", type=Path, default=HERE / "scores.csv")
    options = parser.parse_args()
    for data in options.data:
        jobs = [{"data": data, "model": model, "seed": seed} for seed in options.seed for model in options.model]
        with cached_forecasts(BUDGET):
            resumed(options.output, jobs, lambda data, model, seed: score(data, model, seed).drop(columns=SECONDS))


if __name__ == "__main__":
    main()
