r"""The Lightning module that trains an adapter around a frozen model: steps and logs, nothing else."""

from __future__ import annotations

__all__ = ["AdapterTraining", "train"]

import copy
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import numpy as np
import torch
from lightning.pytorch.callbacks import Callback, EarlyStopping
from torch import Tensor

from .._logging import quiet
from ..adapters import AdapterModule
from ..checkpoints import into_place
from ..foundation import FoundationModel
from ..windows import Windows, window_module
from .objectives import objective


class AdapterTraining(pl.LightningModule):
    r"""Trains an adapter's parameters through the frozen model.

    The frozen model is held outside of the module tree: checkpoints and `parameters()` know the adapter alone.

    Arguments:
        adapter: The built and prepared adapter.
        model: The frozen model; gradients must reach its context.
        loss: The objective's name.
        learning_rate: Adam's learning rate.
        weight_decay: The decay of the parameters towards zero, where an adapter is the frozen model itself.
    """

    def __init__(
        self,
        adapter: AdapterModule,
        model: FoundationModel,
        *,
        loss: str = "huber",
        learning_rate: float = 3e-3,
        weight_decay: float = 1e-2,
    ) -> None:
        super().__init__()
        self.adapter = adapter
        self.loss = objective(loss)
        self.learning_rate = learning_rate
        self.weight_decay = weight_decay
        self._model = (model,)  # in a tuple, so that its weights are none of ours

    @property
    def model(self) -> FoundationModel:
        r"""The frozen model."""
        return self._model[0]

    def forward(self, past: Tensor, prediction_length: int) -> Tensor:
        r"""Returns the adapter's median forecasts, with shape :math:`(B, H, D)`."""
        z, state = self.adapter.encode(past)  # (1, B, L, K)
        latents = z[0].mT.flatten(0, 1)  # (B*K, L)  all latents in one call
        quantiles = self.model(latents, prediction_length, unroll="median")  # (B*K, Q, H)
        median = quantiles[:, self.model.median_index].unflatten(0, (len(past), -1)).mT  # (B, H, K)
        return self.adapter.decode(median.unsqueeze(0), state)[0]

    def training_step(self, batch: tuple[Tensor, Tensor], _: int) -> Tensor:
        past, future = batch
        loss = self.loss(self(past, future.shape[1]), future)
        self.log("train_loss", loss, prog_bar=True)
        return loss

    def validation_step(self, batch: tuple[Tensor, Tensor], _: int) -> None:
        past, future = batch
        self.log("val_loss", self.loss(self(past, future.shape[1]), future), prog_bar=True, batch_size=len(past))

    def configure_optimizers(self) -> torch.optim.Optimizer:
        free = [parameter for parameter in self.adapter.parameters() if parameter.requires_grad]
        return torch.optim.AdamW(free, lr=self.learning_rate, weight_decay=self.weight_decay)


class _KeepBest(Callback):
    r"""Keeps the adapter of the lowest validation loss, the untrained one among them."""

    def __init__(self, loss: float, adapter: AdapterModule) -> None:
        self.before = self.loss = loss
        self.state = copy.deepcopy(adapter.state_dict())

    def on_validation_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        assert isinstance(pl_module, AdapterTraining)
        loss = float(trainer.callback_metrics["val_loss"])
        if not trainer.sanity_checking and loss < self.loss:
            self.loss = loss
            self.state = copy.deepcopy(pl_module.adapter.state_dict())

    def state_dict(self) -> dict[str, Any]:
        return {"before": self.before, "loss": self.loss, "adapter": self.state}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.before, self.loss, self.state = state_dict["before"], state_dict["loss"], state_dict["adapter"]


class _EpochByEpoch(EarlyStopping):
    r"""Stops early, makes an epoch depend on the seed and its number alone, and keeps each that is done.

    It stops and keeps in one, and last of all callbacks: Lightning has those that stop speak after the others, and a
    checkpoint is to know whether they stopped.

    Arguments:
        seed: The seed of what is drawn in training.
        checkpoint: The place of Lightning's checkpoint, replaced after each epoch; nothing is kept if None.
    """

    def __init__(self, seed: int, checkpoint: Path | None) -> None:
        super().__init__("val_loss", patience=3)
        self.seed, self.checkpoint, self.epochs, self.ended = seed, checkpoint, 0, False

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        if batch_idx == 0:
            state = np.random.SeedSequence([self.seed, trainer.current_epoch]).generate_state(1)
            torch.manual_seed(int(state[0]))

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        super().on_train_epoch_end(trainer, pl_module)
        self.epochs, self.ended = trainer.current_epoch + 1, trainer.should_stop
        if self.checkpoint is not None:
            part = self.checkpoint.with_name(f"{self.checkpoint.name}.part")
            trainer.save_checkpoint(part)
            into_place(part, self.checkpoint)

    def state_dict(self) -> dict[str, Any]:
        return {**super().state_dict(), "epochs": self.epochs, "ended": self.ended}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        super().load_state_dict(state_dict)
        self.epochs, self.ended = state_dict["epochs"], state_dict["ended"]


def train(
    module: AdapterTraining,
    training: Windows,
    validation: Windows,
    *,
    batch_size: int,
    seed: int,
    options: dict[str, Any] | None = None,
    checkpoint: Path | None = None,
) -> dict[str, float]:
    r"""Trains until the validation loss stops falling; the adapter ends with its best parameters.

    Arguments:
        module: The Lightning module.
        training: The standardised train windows.
        validation: The standardised validation windows, for early stopping.
        batch_size: Windows a step.
        seed: The seed of the order of windows, and of what the adapter draws.
        options: Options of `lightning.pytorch.Trainer`, over our defaults.
        checkpoint: Where Lightning's checkpoint of the last epoch is kept. A training that was ended goes on from it,
            to the same numbers.

    Returns:
        The validation loss before training and at its best, and the epochs run.
    """
    data = window_module(training, validation, batch_size=batch_size, seed=seed)
    device = module.model.device
    settings: dict[str, Any] = {
        "max_epochs": 20,
        "gradient_clip_val": 1.0,
        "logger": False,
        "enable_checkpointing": False,
        "enable_model_summary": False,
        "num_sanity_val_steps": 0,
        "accelerator": device.type,
        "devices": 1 if device.index is None else [device.index],
    }
    keep = _EpochByEpoch(seed, checkpoint)
    held = checkpoint if checkpoint is not None and checkpoint.is_file() else None
    with quiet(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        best = _KeepBest(0.0, module.adapter)
        if held is None:
            first = pl.Trainer(**settings, enable_progress_bar=False)
            best.before = best.loss = first.validate(module, data, verbose=False)[0]["val_loss"]
        else:
            states = torch.load(held, weights_only=True)["callbacks"]
            best.load_state_dict(states[best.state_key])
            keep.load_state_dict(states[keep.state_key])
        if not keep.ended:
            callbacks = [*(options or {}).get("callbacks", []), best, keep]
            trainer = pl.Trainer(**{**settings, **(options or {}), "callbacks": callbacks})
            trainer.fit(module, data, ckpt_path=held, weights_only=True)
    module.adapter.load_state_dict(best.state)
    return {"before": best.before, "best": best.loss, "epochs": keep.epochs}
