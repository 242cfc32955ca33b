r"""Gain and time of a fit as functions of the option `max_windows`, and a search by `tune` over other options.

    python -m benchmarks.coupled.max_windows                       # both; goes on where it stood
    python -m benchmarks.coupled.max_windows curve beijing_pm25    # a part
    python -m benchmarks.coupled.max_windows tune --trials 20

The protocol is that of `benchmarks.coupled.run`. `max_windows` also bounds the windows that `identity` is calibrated
on, so `identity` is fitted for each number too. `tune` refuses `max_windows`, which changes the windows that it
compares trials on, hence the curve. It searches the members of the last model and their options, on the rows before
the test rows; what it finds is then scored on the test rows. Its trials are kept in a folder beside the output.
"""

import argparse
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd

from adapts import Adapter, tune
from benchmarks.coupled.run import MODELS, SETTINGS, TRAINER, resumed, score, series

HERE = Path(__file__).parent
SETS = ("greensboro",)
WINDOWS = (250, 500, 1000, 2000, 4000)
SEED = 0
#: What `tune` searches for the last of the models.
SPACE: dict[str, Any] = {
    "family__members": [
        ["residual", "context", "var", "attention", "attention"],
        ["residual", "attention"],
        ["residual", "residual", "attention"],
        ["residual", "attention", "attention"],
        ["residual", "attention", "attention", "attention"],
    ],
    "family__member_options": [
        {},
        {"residual": {"lags": 48}},
        {"residual": {"components": 96}},
        {"attention": {"width": 128}},
    ],
    "learning_rate": [0.0007, 0.0015, 0.003],
}


def curve(data: str, model: str, max_windows: int) -> pd.DataFrame:
    r"""The scores of a model with at most so many train windows."""
    return score(data, model, SEED, baselines=False, max_windows=max_windows).assign(max_windows=max_windows)


def searched(data: str, model: str, trials: int, folder: Path, space: dict[str, Any]) -> pd.DataFrame:
    r"""The scores of the options that `tune` finds, and of the default ones, on the test rows; one row a metric.

    Arguments:
        data: The name of a setting.
        model: The family.
        trials: The number of trials.
        folder: The folder of the trials, where an interrupted search resumes.
        space: The search space.
    """
    panel, dataset, origins = series(data)
    setting = SETTINGS[data]
    before = panel.rows(panel.lengths[0] - (origins - 1) * setting.stride - setting.prediction_length)
    support = {channel: bounds for channel, bounds in dataset.support.items() if channel in panel.targets}
    adapter = Adapter(
        model, prediction_length=setting.prediction_length, context_length=setting.context_length,
        support=support or None, seed=SEED, trainer_options=TRAINER,
    )  # fmt: skip
    found = tune(
        adapter, replace(dataset, panel=before, borders=None, end=None), space, trials,
        folder=folder, on_trial=lambda text: print(f"{data}: {text}", flush=True),
    )  # fmt: skip
    frames = []
    for options, chosen in (("default", {}), ("tuned", found.params)):
        frame = score(data, model, SEED, baselines=False, **chosen)
        frames.append(frame.assign(options=options, chosen=str(chosen), trials=trials, loss=found.loss,
                                   frozen_loss=found.frozen_loss))  # fmt: skip
    return pd.concat(frames, ignore_index=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("part", nargs="?", choices=["curve", "tune", "all"], default="all")
    parser.add_argument("data", nargs="*", default=list(SETS), help="names of settings of benchmarks.coupled.run")
    parser.add_argument("--model", nargs="+", default=list(MODELS))
    parser.add_argument("--windows", nargs="+", type=int, default=list(WINDOWS))
    parser.add_argument("--trials", type=int, default=12)
    parser.add_argument("--output", type=Path, default=HERE, help="the folder of max_windows.csv and tuned.csv")
    options = parser.parse_args()
    if options.part != "tune":
        jobs = [
            {"data": data, "model": model, "max_windows": windows}
            for data in options.data for windows in options.windows for model in options.model
        ]  # fmt: skip
        resumed(options.output / "max_windows.csv", jobs, curve)
    if options.part != "curve":
        found = [{"data": data, "model": MODELS[-1], "trials": options.trials} for data in options.data]
        resumed(
            options.output / "tuned.csv", found,
            lambda data, model, trials: searched(data, model, trials, options.output / f"trials {data}", SPACE),
        )  # fmt: skip


if __name__ == "__main__":
    main()
