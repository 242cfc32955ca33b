r"""Coupled channels where the best forecast is known: how much of the attainable gain each adapter reaches.

    python -m benchmarks.coupled.simulated                                       # everything; goes on where it stood
    python -m benchmarks.coupled.simulated river --rows 4000 --model residual    # a part

Each series is drawn with the seed of the adapter. Models are fitted on its last 4,000 or 300 rows before the test rows,
which are the same for both. `oracle` is the true conditional distribution given all earlier rows: exact, but the sample
scores. One CSV row a process, number of rows, seed, model and metric; the CRPS by block of leads too.

The attainable gain is CRPS(identity) - CRPS(oracle), the share of a model (CRPS(identity) - CRPS(model)) / attainable.
"""

import argparse
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from adapts.copulas.independent import Independent
from adapts.data.panel import Panel
from adapts.data.windows import Windows
from adapts.distribution.joint import JointDistribution
from adapts.distribution.levels import LEVELS
from adapts.distribution.quantile_function import QuantileFunction
from adapts.evaluation.backtest import Backtest
from adapts.evaluation.tables import scores_of, summarise
from adapts.evaluation.window_scores import Scored
from benchmarks.coupled.processes import PROCESSES, Law, tensor
from benchmarks.coupled.run import MODELS, SEEDS, Setting, measure, resumed, with_interval
from benchmarks.provenance import provenance

HERE = Path(__file__).parent
ROWS = (4000, 300)
SETTING = Setting(prediction_length=24, context_length=96, stride=7)
ORIGINS = 160
BASELINES = ("frozen model", "last value", "nlinear", "var")
ORACLE = "oracle"
SAMPLES = 100


def oracle_scores(law: Law, windows: Windows, location: np.ndarray, scale: np.ndarray) -> dict[str, torch.Tensor]:
    r"""The scores of windows by the true law, as `adapts.evaluation.tables.window_scores` returns them.

    CRPS, squared error, PITs and deciles are exact; joint scores use independent samples.

    Arguments:
        law: The law of the windows.
        windows: The windows.
        location: The location of each channel, with shape (D,).
        scale: The scale of each channel, with shape (D,), which divides the scores.
    """
    future = windows.future(torch.float64)
    truth = future.numpy()
    marginals = QuantileFunction(LEVELS, tensor(law.quantiles(np.asarray(LEVELS))))
    joint = JointDistribution(marginals, Independent(*truth.shape[1:]))
    samples, pit = tensor(law.sample(SAMPLES, seed=0)), tensor(law.pit(truth))
    scored = Scored(joint, future, pit, samples, tensor(location), tensor(scale))
    exact = {"crps": law.crps(truth) / scale, "mse": ((law.expectation() - truth) / scale) ** 2}
    return scores_of(scored) | {name: tensor(values) for name, values in exact.items()}


def oracle_frame(law: Law, result: Backtest) -> pd.DataFrame:
    r"""The scores of the true law on the windows of a backtest, in the units of its first adapter."""
    found = oracle_scores(law, result.windows, result.adapter.location_, result.adapter.scale_)
    frame = summarise(ORACLE, found, result.windows.time, result.windows.panel.channels)
    return with_interval(frame, ORACLE, found["coverage_80"], result.windows)


def score(
    data: str, rows: int, model: str, seed: int, setting: Setting = SETTING, origins: int = ORIGINS
) -> pd.DataFrame:
    r"""The scores of a model on one series; beside the first of the models, those of the oracle and the baselines."""
    test = (origins - 1) * setting.stride + setting.prediction_length
    first = max(*ROWS, rows)  # up to 4,000 rows to fit on, the test rows are the same
    simulated = PROCESSES[data](first + test, seed)
    panel = Panel.of(simulated.values[first - rows :])

    def oracle(result: Backtest) -> pd.DataFrame:
        law = simulated.law(result.windows.origin + first - rows, setting.prediction_length)
        return oracle_frame(law, result)

    beside = (list(BASELINES), oracle) if model == MODELS[0] else (False, None)
    frame = measure(model, panel, setting, origins, seed, *beside)
    frame = frame.query("channel == 'all' and (lead_block == 'all' or metric == 'crps')").drop(columns="channel")
    return frame.assign(data=data, rows=rows, **provenance(panel, seed))


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("data", nargs="*", default=list(PROCESSES), help=f"processes: {', '.join(PROCESSES)}")
    parser.add_argument("--rows", nargs="+", type=int, default=list(ROWS))
    parser.add_argument("--model", nargs="+", default=list(MODELS))
    parser.add_argument("--seed", nargs="+", type=int, default=list(SEEDS))
    parser.add_argument("--output", type=Path, default=HERE / "simulated.csv")
    options = parser.parse_args()
    jobs = [
        {"data": data, "rows": rows, "model": model, "seed": seed}
        for seed in options.seed for data in options.data for rows in options.rows for model in options.model
    ]  # fmt: skip
    resumed(options.output, jobs, score)


if __name__ == "__main__":
    main()
