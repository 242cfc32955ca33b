r"""Our estimator beside gluonts' own, trained and evaluated by gluonts on the test rows of the data cards.

    python -m benchmarks.gluonts.run                                # all cards, all models, gluonts' own sizes
    python -m benchmarks.gluonts.run illness etth1 --models adapts itransformer --windows 20 --epochs 10

Each model gets the same call: train(rows up to the validation rows, validation_data=rows up to the test rows). One CSV
row a set, model and metric, written as they come; what is there with the same sizes is not run again.
"""

import argparse
import logging
import tempfile
import time
import warnings
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from gluonts.dataset.split import OffsetSplitter, TestData
from gluonts.ev.metrics import MASE, Coverage, MeanWeightedSumQuantileLoss
from gluonts.model.evaluation import evaluate_forecasts
from gluonts.model.forecast import SampleForecast
from gluonts.model.seasonal_naive import SeasonalNaivePredictor
from gluonts.torch.model.deepar import DeepAREstimator
from gluonts.torch.model.i_transformer import ITransformerEstimator
from lightning.pytorch import seed_everything

from adapts.data.cards import Dataset, read
from adapts.data.panel import Panel
from adapts.integrations.gluonts.estimator import AdapterEstimator
from adapts.registry import cards
from benchmarks.provenance import provenance

HERE = Path(__file__).parent
SAMPLES, SEED = 100, 0
CONTEXTS = 4  # the neural models look back this many prediction lengths; gluonts' own default is one
DECILES = [round(0.1 * level, 1) for level in range(1, 10)]
KEY = ["data", "model", "prediction_length", "windows", "stride", "epochs", "batches"]

Entries = Iterable[dict[str, Any]]
Trained = Callable[[Entries], Iterable[SampleForecast]]


def apart(entries: Entries) -> Iterator[dict[str, Any]]:
    r"""The channels of entries as entries of their own, told apart by a category."""
    for entry in entries:
        for channel, target in enumerate(np.atleast_2d(entry["target"])):
            yield {"start": entry["start"], "target": target, "feat_static_cat": [channel], "item_id": str(channel)}


def together(forecasts: Iterable[SampleForecast], channels: int) -> Iterator[SampleForecast]:
    r"""Forecasts of single channels as forecasts of all of them, each drawn by itself."""
    forecasts = iter(forecasts)
    for first in forecasts:
        paths = [first.samples, *(next(forecasts).samples for _ in range(channels - 1))]
        yield SampleForecast(np.stack(paths, axis=-1), start_date=first.start_date)


def adapts(training: Entries, validation: Entries, data: Dataset, options: argparse.Namespace) -> Trained:
    estimator = AdapterEstimator(prediction_length=options.horizon, family="residual", num_samples=SAMPLES, seed=SEED)
    return estimator.train(training, validation_data=validation).predict


def seasonal_naive(training: Entries, validation: Entries, data: Dataset, options: argparse.Namespace) -> Trained:
    predictor = SeasonalNaivePredictor(options.horizon, data.season_length or 1)
    return lambda entries: together(predictor.predict(list(apart(entries))), data.panel.num_channels)


def deepar(training: Entries, validation: Entries, data: Dataset, options: argparse.Namespace) -> Trained:
    estimator = DeepAREstimator(
        next(iter(training))["start"].freqstr, options.horizon, CONTEXTS * options.horizon, num_feat_static_cat=1,
        cardinality=[data.panel.num_channels], num_parallel_samples=SAMPLES, **trainer(options),
    )  # fmt: skip
    predictor = estimator.train(list(apart(training)), list(apart(validation)))
    return lambda entries: together(predictor.predict(list(apart(entries))), data.panel.num_channels)


def itransformer(training: Entries, validation: Entries, data: Dataset, options: argparse.Namespace) -> Trained:
    estimator = ITransformerEstimator(
        options.horizon, CONTEXTS * options.horizon, num_parallel_samples=SAMPLES, **trainer(options)
    )
    return estimator.train(training, validation).predict


def trainer(options: argparse.Namespace) -> dict[str, Any]:
    quiet = {"enable_progress_bar": False, "enable_model_summary": False, "logger": False}
    folder = {"default_root_dir": options.scratch}
    return {
        "num_batches_per_epoch": options.batches,
        "trainer_kwargs": {"max_epochs": options.epochs, **quiet, **folder},
    }


MODELS = {"adapts": adapts, "seasonal naive": seasonal_naive, "deepar": deepar, "itransformer": itransformer}


def scores(
    forecasts: list[SampleForecast], test: TestData, total: TestData, scale: np.ndarray, season: int
) -> dict[str, float]:
    r"""Means over channels; the sum is that of the channels, each in deviations of its train rows."""
    metrics = [MeanWeightedSumQuantileLoss(DECILES), MASE(), Coverage(0.1), Coverage(0.9)]
    by_channel = evaluate_forecasts(forecasts, test_data=test, metrics=metrics, axis=(0, 2), seasonality=season).mean()
    sums = [SampleForecast((each.samples / scale).sum(-1), start_date=each.start_date) for each in forecasts]
    crps_sum = evaluate_forecasts(sums, test_data=total, metrics=metrics[:1], seasonality=season)
    return {
        "mean_wql": by_channel["mean_weighted_sum_quantile_loss"],
        "crps_sum": crps_sum["mean_weighted_sum_quantile_loss"].item(),
        "mase": by_channel["MASE[0.5]"],
        "coverage_80": by_channel["coverage[0.9]"] - by_channel["coverage[0.1]"],
    }


def run(name: str, models: list[str], options: argparse.Namespace) -> None:
    data = read(name)
    assert data.borders is not None and len(data.panel) == 1
    (entry,) = panel_entries(data.panel, data.end)
    train, end = data.borders
    rows = entry["target"].shape[1] - end - options.horizon
    windows = min(options.windows, rows + 1)
    stride = max(1, rows // max(1, windows - 1))
    scale = np.nanstd(entry["target"][:, :train], axis=1)
    scale = np.where(scale > 0, scale, 1.0)

    def tests(target: np.ndarray) -> TestData:
        _, template = OffsetSplitter(offset=end).split([entry | {"target": target}])
        return template.generate_instances(options.horizon, windows=windows, distance=stride)

    test, total = tests(entry["target"]), tests((entry["target"] / scale[:, None]).sum(0))
    training, validation = ([entry | {"target": entry["target"][:, :stop]}] for stop in (train, end))
    for model in models:
        row = {
            "data": name, "model": model, "prediction_length": options.horizon, "windows": windows, "stride": stride,
            "epochs": options.epochs, "batches": options.batches,
        }  # fmt: skip
        if done(options.output, row):
            continue
        seed_everything(SEED)
        with tempfile.TemporaryDirectory() as options.scratch:
            started = time.perf_counter()
            predict = MODELS[model](training, validation, data, options)
            trained = time.perf_counter()
            forecasts = list(predict(test.input))
            seconds = {"train_s": trained - started, "predict_s": time.perf_counter() - trained}
        found = scores(forecasts, test, total, scale, data.season_length or 1) | seconds
        more = {"threads": torch.get_num_threads(), **provenance(data.panel, SEED)}
        new = pd.DataFrame([row | {"metric": metric, "value": value} | more for metric, value in found.items()])
        keep(options.output, new.astype(str))
        print(name, model, {metric: round(float(value), 4) for metric, value in found.items()}, flush=True)


def panel_entries(panel: Panel, end: int | None) -> list[dict[str, Any]]:
    entries = (panel if end is None else panel.rows(end)).to_gluonts()
    return [entry | {"target": np.atleast_2d(entry["target"]).astype(np.float32)} for entry in entries]


def done(path: Path, row: dict[str, Any]) -> bool:
    if not path.exists():
        return False
    old = pd.read_csv(path, dtype=str)
    return bool((old[KEY] == pd.Series({name: str(value) for name, value in row.items()})).all(axis=1).any())


def keep(path: Path, new: pd.DataFrame) -> None:
    r"""Puts the rows of a set and a model into the file, instead of those of other sizes."""
    if path.exists():
        old = pd.read_csv(path, dtype=str)
        same = (old["data"] == new["data"].iloc[0]) & (old["model"] == new["model"].iloc[0])
        new = pd.concat([old[~same], new])
    new.to_csv(path, index=False)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", nargs="*", help="cards, all if none is named")
    parser.add_argument("--models", nargs="+", choices=MODELS, default=list(MODELS))
    parser.add_argument("--horizon", type=int, default=24)
    parser.add_argument("--windows", type=int, default=40, help="the most test windows of a set, evenly strided")
    parser.add_argument("--epochs", type=int, default=100, help="of the neural models")
    parser.add_argument("--batches", type=int, default=50, help="an epoch of the neural models")
    parser.add_argument("--output", type=Path, default=HERE / "scores.csv")
    options = parser.parse_args()
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    warnings.simplefilter("ignore")
    for name in options.data or sorted(cards()):
        run(name, options.models, options)


if __name__ == "__main__":
    main()
