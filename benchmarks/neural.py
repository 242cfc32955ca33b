r"""Neural forecasters of gluonts, trained from nothing on one series within a budget of processor seconds."""

from __future__ import annotations

__all__ = ["NEURAL", "Budget", "neural_forecast"]

import logging
import tempfile
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from gluonts.torch.model.i_transformer import ITransformerEstimator
from gluonts.torch.model.patch_tst import PatchTSTEstimator
from lightning.pytorch import Callback, LightningModule, Trainer, seed_everything
from torch import Tensor

from adapts.copulas.independent import Independent
from adapts.data.windows import Windows
from adapts.distribution.joint import JointDistribution
from adapts.distribution.levels import LEVELS
from adapts.distribution.quantile_function import QuantileFunction

#: The lengths of a patch and of the step from one to the next, those of the paper of PatchTST.
PATCH, STRIDE = 16, 8
#: The most windows that choose the epoch.
VALIDATION = 16
#: The number of windows that are forecast at a time.
BATCH = 16


@dataclass(frozen=True)
class Budget:
    r"""What a training may take.

    Arguments:
        seconds: The processor seconds after which no further epoch begins.
        epochs: The most epochs.
        batches: The batches of an epoch, of 32 windows each (PatchTST: of 32 windows of single channels).
    """

    seconds: float = 240.0
    epochs: int = 100
    batches: int = 50


class _Stop(Callback):
    r"""Ends the training once the processor seconds are spent."""

    def __init__(self, seconds: float) -> None:
        self.end = time.process_time() + seconds
        self.epochs = 0

    def on_train_epoch_end(self, trainer: Trainer, module: LightningModule) -> None:
        self.epochs += 1
        if time.process_time() > self.end:
            trainer.should_stop = True


def _patchtst(horizon: int, context: int, **options: Any) -> Any:
    return PatchTSTEstimator(horizon, min(PATCH, context), context, min(STRIDE, context), scaling="std", **options)


def _itransformer(horizon: int, context: int, **options: Any) -> Any:
    return ITransformerEstimator(horizon, context, scaling="std", **options)


#: The estimator of each model by name, and whether it sees one channel at a time.
NEURAL: dict[str, tuple[Callable[..., Any], bool]] = {
    "patchtst": (_patchtst, True),
    "itransformer": (_itransformer, False),
}


def neural_forecast(
    name: str, rows: np.ndarray, train: int, steps: tuple[int, int], seed: int = 0, budget: Budget | None = None
) -> tuple[Callable[[Windows], JointDistribution], str]:
    r"""Trains a model of gluonts on the train rows; up to 16 windows of the later rows choose the epoch.

    The rows are standardised by the train rows, and each window by its own mean and deviation. The predictive
    distribution is a Student-t law of each cell. Sizes are those of gluonts.

    Arguments:
        name: The name of the model.
        rows: The rows of the fit, with shape (T, D). NaN is missing.
        train: The number of train rows; the rest validates.
        steps: The numbers of context and target steps.
        seed: The seed.
        budget: What the training may take; 240 seconds if None.

    Returns:
        What forecasts windows, and how long it was trained, in words.
    """
    context, horizon = steps
    budget = budget or Budget()
    create, single = NEURAL[name]
    location, scale = np.nanmean(rows[:train], axis=0), np.nanstd(rows[:train], axis=0)
    scale = np.where(scale > 0, scale, 1.0)
    standard = ((rows - location) / scale).astype(np.float32)
    limit = _Stop(budget.seconds)
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    seed_everything(seed, verbose=False)
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        quiet = {"enable_progress_bar": False, "enable_model_summary": False, "logger": False}
        options = {"max_epochs": budget.epochs, "callbacks": [limit], "default_root_dir": folder, **quiet}
        estimator = create(horizon, context, num_batches_per_epoch=budget.batches, trainer_kwargs=options)
        stops = np.unique(np.linspace(min(train + horizon, len(rows)), len(rows), VALIDATION).astype(int))
        validation = [entry for stop in stops for entry in _entries(standard[:stop], single)]
        network = estimator.train(_entries(standard[:train], single), validation).prediction_net.model.eval()
    law = _law(network, single, torch.from_numpy(location), torch.from_numpy(scale))
    return law, f"{limit.epochs} epochs of {budget.batches} batches"


def _entries(rows: np.ndarray, single: bool) -> list[dict[str, Any]]:
    r"""The series as gluonts has them: one a channel, or one of all channels. Their dates are not read."""
    start = pd.Period("2000-01-01", freq="h")
    return [{"start": start, "target": target} for target in (rows.T if single else [rows.T])]


def _law(network: Any, single: bool, location: Tensor, scale: Tensor) -> Callable[[Windows], JointDistribution]:
    @torch.no_grad()
    def forecast(windows: Windows) -> JointDistribution:
        parts = []
        for start in range(0, len(windows), BATCH):
            past = (windows[start : start + BATCH].past(torch.float64) - location) / scale  # (n, L, D)
            inputs = past.mT.flatten(0, 1) if single else past
            arguments, centre, width = network(inputs.nan_to_num(0.0).float(), (~inputs.isnan()).float())
            law = network.distr_output.distribution(arguments, centre, width)
            values = torch.stack([law.icdf(torch.tensor(level)) for level in LEVELS], dim=-1).double()
            parts.append(values.unflatten(0, (len(past), -1)).transpose(1, 2) if single else values)  # (n, H, D, Q)
        quantiles = torch.cat(parts) * scale.unsqueeze(-1) + location.unsqueeze(-1)
        return JointDistribution(QuantileFunction(LEVELS, quantiles), Independent(*quantiles.shape[1:3]))

    return forecast
