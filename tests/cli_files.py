r"""What the tests of the command line share: a small file to read, and short runs on it."""

import numpy as np
import pandas as pd
from typer.testing import CliRunner

from adapts.cli import app

H = 8


def run(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def forecast(data, output, *options, horizon=H):
    r"""Runs the main job with a context short enough to be quick."""
    quick = ["--prediction-length", horizon, "--context-length", 48]
    if not {"--family", "--recipe"} & set(options):
        quick += ["--family", "residual"]
    return run("forecast", data, "--output", output, *quick, *options)


def series() -> pd.DataFrame:
    r"""Three channels that share a day, hourly, with a gap in one."""
    hours = np.arange(360)
    values = np.sin(2 * np.pi * hours[:, None] / 24 + np.arange(3)) * [1, 10, 100]
    values += np.random.default_rng(0).standard_normal(values.shape) * [0.1, 1, 10]
    values[100:104, 1] = np.nan
    index = pd.date_range("2024-03-01", periods=360, freq="h", name="date")
    return pd.DataFrame(values, index, ["a", "b", "c"])
