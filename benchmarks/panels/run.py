r"""What a large panel costs: 2,000 items of 5 channels and 300 to 500 hours, 24 steps ahead.

    python -m benchmarks.panels.run

Simulated items with a daily season of their own size and hour, a level that wanders, and noise that the channels share;
they end at one date. The default adapter is fitted by `AdapterEstimator` and forecasts each item with 100 joint
samples. Seconds of each, on the clock and of all processors together (the latter hardly depend on what else the machine
does), and the most memory that the process holds from the fit on, imports and data included (Linux tells it). One CSV
row a run.
"""

import argparse
import time
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from adapts.data.panel import Panel
from adapts.integrations.gluonts.estimator import AdapterEstimator
from benchmarks import memory
from benchmarks.provenance import named, provenance

HERE = Path(__file__).parent
PREDICTION_LENGTH, SAMPLES, SEED = 24, 100, 0
CHANNELS, SHORTEST, LONGEST = 5, 300, 500


def simulated(items: int, seed: int = SEED) -> list[dict[str, object]]:
    r"""Entries as gluonts has them, channels first."""
    generator = np.random.default_rng(seed)
    end = pd.Period("2024-03-01 00:00", "h")
    entries = []
    for number in range(items):
        rows = int(generator.integers(SHORTEST, LONGEST + 1))
        hour = 2 * np.pi * (np.arange(-rows, 0) / 24 + generator.random())
        season = generator.lognormal(0, 0.5, (CHANNELS, 1)) * np.sin(hour + 0.3 * np.arange(CHANNELS)[:, None])
        level = 0.05 * generator.standard_normal((CHANNELS, rows)).cumsum(1)
        noise = 0.3 * (generator.standard_normal(rows) + generator.standard_normal((CHANNELS, rows)))
        scale = generator.lognormal(2, 1)
        entries.append(
            {"item_id": f"item {number}", "start": end - rows, "target": scale * (3 + season + level + noise)}
        )
    return entries


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--items", type=int, default=2000)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--output", type=Path, default=HERE / "scores.csv")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    entries = simulated(options.items)
    estimator = AdapterEstimator(PREDICTION_LENGTH, family="residual", seed=SEED, num_samples=SAMPLES)
    memory.begin()
    clocks = [(time.perf_counter(), time.process_time())]
    predictor = estimator.train(entries)
    clocks.append((time.perf_counter(), time.process_time()))
    shape, count = (SAMPLES, PREDICTION_LENGTH, CHANNELS), 0
    for forecast in predictor.predict(entries):  # one by one, as gluonts reads them: none is kept
        count += forecast.samples.shape == shape
    clocks.append((time.perf_counter(), time.process_time()))
    fit, predict = np.diff(clocks, axis=0)
    assert count == options.items
    row = {
        "items": options.items, "channels": CHANNELS, "rows": sum(entry["target"].shape[1] for entry in entries),
        "prediction_length": PREDICTION_LENGTH, "num_samples": SAMPLES, "fit_seconds": fit[0],
        "fit_cpu_seconds": fit[1], "predict_seconds": predict[0], "predict_cpu_seconds": predict[1],
        "peak_gigabytes": memory.peak(), "threads": options.threads,
        "foundation_model": named(predictor.adapter.model), **provenance(Panel.of(entries), SEED),
    }  # fmt: skip
    print(row)
    pd.DataFrame([row]).to_csv(options.output, index=False)


if __name__ == "__main__":
    main()
