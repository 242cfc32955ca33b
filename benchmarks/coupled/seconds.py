r"""Seconds and memory of a fit and of a forecast, each fit in a process of its own. For an otherwise idle machine.

    python -m benchmarks.coupled.seconds                          # all; goes on where it stood
    python -m benchmarks.coupled.seconds etth1 --model auto       # a part

The sets and options are those of `benchmarks.coupled.run`, and `wide`: 1,000 channels of 3,000 rows that follow a few
common autoregressions, with H = 24. One CSV row a set and model: the seconds of the fit, those of one forecast with 200
joint samples (the median of three), and the most memory that the process holds from the fit on.
"""

import argparse
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from scipy.signal import lfilter

from adapts import Adapter
from adapts.data.cards import Dataset
from adapts.data.panel import Panel
from benchmarks import memory
from benchmarks.coupled.run import MODELS, SETTINGS, TRAINER, Setting, series
from benchmarks.provenance import named, provenance

HERE = Path(__file__).parent
WIDE = "wide"
SEED = 0


def wide(channels: int = 1000, rows: int = 3000, factors: int = 8) -> Panel:
    r"""Channels that follow a few common autoregressions, and one of their own."""
    draws = np.random.default_rng(SEED)
    common = lfilter([1.0], [1.0, -0.95], draws.standard_normal((rows, factors)), axis=0)
    own = lfilter([1.0], [1.0, -0.8], draws.standard_normal((rows, channels)), axis=0)
    return Panel.of(common @ draws.standard_normal((factors, channels)) + own)


def timed(data: str, model: str) -> pd.DataFrame:
    r"""The seconds and gigabytes of one model on one set, with the rows that `benchmarks.coupled.run` fits on."""
    support = None
    if data == WIDE:
        setting, source, panel = Setting(24, 96, 7), wide(), wide()
    else:
        setting = SETTINGS[data]
        panel, dataset, _ = series(data)
        panel = panel.rows(dataset.borders[1])
        source = replace(dataset, panel=panel, borders=None, end=None)
        support = {channel: bounds for channel, bounds in dataset.support.items() if channel in panel.targets} or None
    adapter = Adapter(
        model, prediction_length=setting.prediction_length, context_length=setting.context_length, support=support,
        seed=SEED, trainer_options=TRAINER,
    )  # fmt: skip
    future = None
    if panel.given:  # the last rows stand in for those ahead, which nothing here scores
        last = panel.items[0].values[-setting.prediction_length :, [panel.channels.index(name) for name in panel.given]]
        future = pd.DataFrame(last, panel.future_index(panel.items[0], setting.prediction_length), list(panel.given))
    memory.begin()
    start = time.perf_counter()
    adapter.fit(source if isinstance(source, Dataset) else source)
    fit, taken = time.perf_counter() - start, []
    for _ in range(3):
        start = time.perf_counter()
        _ = adapter.predict(num_samples=200, future=future).samples
        taken.append(time.perf_counter() - start)
    row = {
        "data": data, "model": model, "rows": panel.lengths[0], "channels": len(panel.targets),
        "prediction_length": setting.prediction_length, "context_length": setting.context_length,
        "fit_seconds": round(fit, 1), "predict_seconds": round(float(np.median(taken)), 4),
        "peak_gigabytes": round(memory.peak(), 2), "threads": torch.get_num_threads(),
        "foundation_model": named(adapter.model), **provenance(panel, SEED),
    }  # fmt: skip
    return pd.DataFrame([row])


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("data", nargs="*", default=[*SETTINGS, WIDE], help="names of settings")
    parser.add_argument("--model", nargs="+", default=list(MODELS))
    parser.add_argument("--output", type=Path, default=HERE / "seconds.csv")
    options = parser.parse_args()
    for data in options.data:
        for model in options.model:
            old = pd.read_csv(options.output, dtype=str) if options.output.exists() else pd.DataFrame()
            if len(old) and ((old["data"] == data) & (old["model"] == model)).any():
                continue
            command = [sys.executable, "-c", ONE, data, model, str(options.output)]
            subprocess.run(command, check=True, cwd=HERE.parents[1])
            last = pd.read_csv(options.output, dtype=str).iloc[-1]
            print(f"{data}, {model}: {last['fit_seconds']} s, {last['peak_gigabytes']} GB", flush=True)


ONE = """
import sys
from pathlib import Path
import pandas as pd
from benchmarks.coupled.seconds import timed
data, model, output = sys.argv[1:]
frame, output = timed(data, model), Path(output)
old = [pd.read_csv(output, dtype=str)] if output.exists() else []
pd.concat([*old, frame.astype(str)]).to_csv(output, index=False)
"""

if __name__ == "__main__":
    main()
