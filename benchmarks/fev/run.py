r"""Our cards as tasks of fev, the benchmark of univariate and multivariate forecasts, without its hub.

    pip install --no-deps --target run/fev/packages fev==0.10.0 datasets==4.8.5 dill==0.4.1 multiprocess==0.70.19 \
        xxhash==4.1.0 httpx==0.28.1 httpcore==1.0.9
    export PYTHONPATH=run/fev/packages
    python -m benchmarks.fev.run --quick            # four windows a card, 30 seconds a fit, into run/fev/quick
    python -m benchmarks.fev.run                    # all cards, twenty windows, no limit
    python -m benchmarks.fev.run illness etth1      # these cards, kept beside what stands

The packages go into a folder of their own: datasets asks for a huggingface_hub below 2.0, which the lock file of this
repository does not hold. It reads local files with the later one just as well. Run from the root of the repository.

Each model gets what fev gives it: the rows before a window, and known covariates ahead. fev computes the metrics:
SQL (quantile loss over the in-sample error of the seasonal naive), MASE and its own WQL (quantile loss over the sum of
absolute values), here `fev_wql`, as the `wql` of a backtest is defined otherwise. `results/MODEL.csv` holds the
summaries in fev's format, one row a task; `scores.csv` the metrics with versions, commit, seed and the sha256 of the
data; `leaderboard.csv` fev's skill scores and win rates against the seasonal naive, with its bootstrap intervals over
tasks. What is there is not run again.
"""

from __future__ import annotations

import os

os.environ["HF_HUB_OFFLINE"] = os.environ["HF_DATASETS_OFFLINE"] = "1"
os.environ.setdefault("HF_DATASETS_CACHE", "run/fev/cache")

import argparse
import io
import warnings
from importlib.metadata import version
from pathlib import Path
from typing import Any

import datasets
import fev
import numpy as np
import pandas as pd
import torch
import yaml
from fev.constants import PREDICTIONS

from adapts.data.cards import read
from adapts.registry import cards
from benchmarks.fev import naive, tasks
from benchmarks.fev.models.adapts.model import AdaptsModel
from benchmarks.provenance import provenance

HERE = Path(__file__).parent
HORIZON, SEED = 24, 0
BASELINE, RESAMPLES = "seasonal_naive", 1000
METRICS = {"SQL": "fev_sql", "MASE": "fev_mase", "WQL": "fev_wql"}


class NaiveModel(fev.ForecastingModel):
    r"""A naive method: each channel by itself, with normal errors.

    Arguments:
        method: One of `naive.METHODS`.
    """

    model_name = "normal-naive"

    def __init__(self, method: str = BASELINE) -> None:
        super().__init__()
        self.method = naive.METHODS[method]

    def _fit_predict(self, task: fev.Task) -> list[datasets.DatasetDict]:
        found = []
        for window in task.iter_windows():
            past, _ = window.get_input_data()
            with self._record_inference_time():
                found.append(
                    datasets.DatasetDict({name: self.column(past, name, task) for name in task.target_columns})
                )
        return found

    def column(self, past: datasets.Dataset, name: str, task: fev.Task) -> datasets.Dataset:
        r"""The predictions of one target."""
        rows = []
        for values in past.with_format("numpy")[name]:
            point, deviation = self.method(naive.filled(np.asarray(values, float)), task.horizon, task.seasonality)
            levels = naive.quantiles(point, deviation, task.quantile_levels).T
            rows.append({PREDICTIONS: point} | dict(zip(map(str, task.quantile_levels), levels, strict=True)))
        return datasets.Dataset.from_list(rows)


def models(time_limit: float | None) -> dict[str, fev.ForecastingModel]:
    r"""The models by the name of their results."""
    ours = {"bolt-nano": "zero-shot", "adapts-residual": "residual", "adapts": "auto"}
    adapters = {name: AdaptsModel(family, time_limit=time_limit, seed=SEED) for name, family in ours.items()}
    return {method: NaiveModel(method) for method in naive.METHODS} | adapters


def evaluate(model: fev.ForecastingModel, name: str, task: fev.Task) -> dict[str, Any]:
    r"""fev's summary of a model on a task."""
    np.random.seed(SEED)
    torch.manual_seed(SEED)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = model.fit_predict(task)
    seconds = {"training_time_s": model.training_time, "inference_time_s": model.inference_time}
    return task.evaluation_summary(found, model_name=name, **seconds)


def run(names: list[str], options: argparse.Namespace) -> None:
    r"""Evaluate every model on every task, and write each summary as it comes."""
    results = options.output / "results"
    results.mkdir(parents=True, exist_ok=True)
    definitions = [tasks.task_of(name, HORIZON, options.windows) for name in names]
    for name, definition in zip(names, definitions, strict=True):
        task = fev.Task(**definition)
        about = {"threads": torch.get_num_threads(), "fev": fev.__version__, "datasets": version("datasets"),
                 "time_limit": options.time_limit, **provenance(read(name).panel, SEED)}  # fmt: skip
        for model_name, model in models(options.time_limit).items():
            key = {column: definition[column] for column in ("horizon", "num_windows", "window_step_size")}
            if stands(options.output / "scores.csv", name, model_name, key, options.time_limit):
                continue
            summary = evaluate(model, model_name, task)
            keep(results / f"{model_name}.csv", pd.DataFrame([summary]), ["task_name"])
            rows = [{"task": name, "model": model_name, "metric": ours, "value": summary[theirs]}
                    for theirs, ours in METRICS.items()]  # fmt: skip
            more = {**key, **{column: summary[column] for column in ("training_time_s", "inference_time_s")}, **about}
            keep(options.output / "scores.csv", pd.DataFrame(rows).assign(**more), ["task", "model"])
            print(name, model_name, {ours: round(summary[theirs], 4) for theirs, ours in METRICS.items()}, flush=True)
    define(options.output / "tasks.yaml", definitions)
    board(options.output)


def define(path: Path, definitions: list[dict[str, Any]]) -> None:
    r"""Write the tasks into a file that `fev.Benchmark.from_yaml` reads, beside the other tasks that it holds."""
    old = yaml.safe_load(path.read_text(encoding="utf-8"))["tasks"] if path.exists() else []
    by_name = {task["task_name"]: task for task in [*old, *definitions]}
    path.write_text(yaml.safe_dump({"tasks": [by_name[name] for name in sorted(by_name)]}, sort_keys=False), "utf-8")


def stands(path: Path, task: str, model: str, key: dict[str, int], time_limit: float | None) -> bool:
    r"""Whether a file holds the scores of a model on a task, with the same windows and limit."""
    if not path.exists():
        return False
    frame = pd.read_csv(path)
    rows = frame[(frame["task"] == task) & (frame["model"] == model)]
    same = (rows[list(key)] == pd.Series(key)).all(axis=1)
    limit = rows["time_limit"].isna() if time_limit is None else rows["time_limit"] == time_limit
    return bool((same & limit).any())


def keep(path: Path, new: pd.DataFrame, key: list[str]) -> None:
    r"""Put rows into a file, in place of those with the same key."""
    new = pd.read_csv(io.StringIO(new.to_csv(index=False)), dtype=str, keep_default_na=False)  # as it is written
    if path.exists():
        old = pd.read_csv(path, dtype=str, keep_default_na=False)
        new = pd.concat([old[~(old[key] == new[key].iloc[0]).all(axis=1)], new])
    new.to_csv(path, index=False)


def board(folder: Path) -> None:
    r"""Write fev's skill scores and win rates of all models, with bootstrap intervals over tasks."""
    paths = [str(path) for path in sorted((folder / "results").glob("*.csv"))]
    frames = [
        fev.leaderboard(paths, metric, baseline_model=BASELINE, n_resamples=RESAMPLES, seed=SEED)
        .rename_axis("model").reset_index().assign(metric=name)
        for metric, name in METRICS.items()
    ]  # fmt: skip
    pd.concat(frames).to_csv(folder / "leaderboard.csv", index=False)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", nargs="*", help="cards, all if none is named")
    parser.add_argument("--windows", type=int, default=20, help="the most windows of a card, spread over its test rows")
    parser.add_argument("--time-limit", type=float, help="seconds of each fit")
    parser.add_argument("--output", type=Path, default=HERE)
    parser.add_argument("--quick", action="store_true", help="4 windows, 30 seconds a fit, into run/fev/quick")
    options = parser.parse_args()
    if options.quick:
        options.windows, options.time_limit, options.output = 4, 30.0, Path("run/fev/quick")
    run(options.data or sorted(cards()), options)


if __name__ == "__main__":
    main()
