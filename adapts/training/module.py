r"""Lightning module that trains an adapter around a frozen model."""

from __future__ import annotations

__all__ = ["UNVALIDATED_EPOCHS", "AdapterTraining", "train"]

import copy
import signal
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import numpy as np
import torch
from lightning.pytorch.callbacks import Callback, Checkpoint, EarlyStopping
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn

from .._logging import quiet
from .._random import seeded
from ..adapters import AdapterModule
from ..copulas.base import Copula
from ..data.loaders import window_loader
from ..data.windows import Windows
from ..errors import reading
from ..foundation import FoundationModel
from ..persistence.checkpoints import TRAINING, Checkpoints
from ..persistence.ownership import writing
from .objectives import Objective, Outlook

#: The number of draws in validation, for adapters whose draws share their latent channels.
VALIDATION_DRAWS = 8
#: The number of epochs where no validation window tells when to stop, at most the family's own: half of the default
#: maximum, as early stopping often ends there.
UNVALIDATED_EPOCHS = 10
_LIGHTNING = "lightning.ckpt"  # the file that Lightning writes and reads


class AdapterTraining(pl.LightningModule):
    r"""Trains an adapter's parameters through the frozen model.

    The frozen model is kept outside of the module tree: checkpoints and `parameters()` contain only the adapter. Each
    step calls it once, for all windows and latent channels together, or not at all if its forecasts are in the batch.

    Arguments:
        adapter: The built and prepared adapter.
        model: The frozen model; gradients must reach its context, unless the latent channels are fixed.
        loss: The objective's name.
        horizon_weights: The weight of each horizon step relative to the step before; see `Objective`.
        learning_rate: AdamW's learning rate; the family's own if None, see `Optimisation`.
        windows: The number of train windows, by which the divergence of the weights is divided.
        copula: The copula of the latent channels in joint samples; independence if None.
        seed: The seed of the draws in validation.
    """

    outcome: Tensor

    def __init__(
        self,
        adapter: AdapterModule,
        model: FoundationModel,
        *,
        loss: str = "huber",
        horizon_weights: float = 1.0,
        learning_rate: float | None = None,
        windows: int = 1,
        copula: Copula | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.adapter = adapter
        self.loss = Objective(loss, horizon_weights)
        self.learning_rate = learning_rate or adapter.optimisation.learning_rate
        self.windows, self.copula, self.seed = windows, copula, seed
        #: The moving average of the adapter over the steps, where its family asks for one.
        self.average = copy.deepcopy(adapter).requires_grad_(False) if adapter.optimisation.averaging else None
        self._losses: list[Tensor] = []  # of the steps of this epoch
        self._model = (model,)  # in a tuple, so that PyTorch does not register its weights
        likely = loss in ("nll", "elbo")
        if not likely:  # distributed training waits for the gradient of every parameter that requires one
            for parameter in _of_likelihood(adapter):
                parameter.requires_grad_(False)
        # Scales of the default likelihood: nuisance parameters, dropped after training.
        scales = likely and not _declares_likelihood(adapter)
        self.log_scale = nn.Parameter(torch.zeros(adapter.channels, dtype=torch.float32), requires_grad=scales)
        #: The validation loss before training and its minimum (NaN without validation), the epochs and the best one.
        self.register_buffer("outcome", torch.zeros(4, dtype=torch.float64))

    @property
    def model(self) -> FoundationModel:
        r"""The frozen model."""
        return self._model[0]

    @property
    def evaluated(self) -> AdapterModule:
        r"""The adapter that is evaluated and kept: the moving average where there is one."""
        return self.adapter if self.average is None else self.average

    def on_train_start(self) -> None:
        averaging = self.adapter.optimisation.averaging
        self._update_average = get_ema_multi_avg_fn(averaging) if averaging else None
        self._averaged = (
            [] if self.average is None else list(self.average.parameters()),
            list(self.adapter.parameters()),
        )

    def on_train_batch_end(self, *_: Any) -> None:
        if self._update_average is not None:
            self._update_average(*self._averaged, 1)

    def on_train_epoch_start(self) -> None:
        self._losses = []

    def on_train_epoch_end(self) -> None:
        self.log("train_loss", torch.stack(self._losses).mean(), prog_bar=True, sync_dist=True)

    def forward(self, past: Tensor, prediction_length: int, precomputed: Mapping[str, Tensor]) -> Outlook:
        r"""Forecast the latent channels with the frozen model.

        Arguments:
            past: The standardised past, with shape :math:`(B, L, D)`. NaN marks a missing step.
            prediction_length: The number of steps :math:`H`.
            precomputed: Forecasts of the frozen model. "latents": its quantiles of the latent channels, with
                shape :math:`(B, H, K, Q)`, if training does not change these. "forecast" and "quantiles": its
                medians and quantiles of the observed channels, with shapes :math:`(B, H, D)` and
                :math:`(B, H, D, Q)`, for families that need them. "known" and "calendar": the known covariates,
                :math:`(B, L + H, C)`, and the phases of cycles, for families that need them.

        Returns:
            The latent forecast, for an objective to decode.
        """
        generator = None
        if not self.training:  # the same draws at every epoch, so that validation losses are comparable
            generator = torch.Generator(past.device).manual_seed(self.seed)
        adapter = self.adapter if self.training else self.evaluated
        draws = VALIDATION_DRAWS if generator is not None and not adapter.capabilities.stochastic_latents else 1
        z, state = adapter.encode(past, draws=draws, generator=generator)  # (M, B, L, K)
        if "latents" not in precomputed:
            quantiles = self.model(z.mT.flatten(0, 2), prediction_length, unroll="median")  # (M*B*K, Q, H)
            latent = quantiles.unflatten(0, (*z.shape[:2], -1)).permute(0, 1, 4, 2, 3)  # (M, B, H, K, Q)
        else:
            latent = precomputed["latents"].unsqueeze(0)
        state.forecast, state.quantiles = precomputed.get("forecast"), precomputed.get("quantiles")
        state.known, state.calendar = precomputed.get("known"), precomputed.get("calendar")
        latent = latent.expand(state.draws, *latent.shape[1:])
        levels = torch.tensor(self.model.quantile_levels, device=past.device, dtype=torch.float32)
        return Outlook(adapter, state, levels, latent, self.log_scale, self.windows, self.copula, generator)

    def _loss(self, batch: tuple[Tensor, Tensor, dict[str, Tensor]]) -> Tensor:
        past, future, precomputed = batch
        outlook = self(past, future.shape[1], precomputed)
        loss = self.loss(outlook, future)
        if self.adapter.capabilities.penalised:
            loss = loss + outlook.adapter.penalty(outlook.values[..., self.model.median_index], future, outlook.state)
        return loss

    def training_step(self, batch: tuple[Tensor, Tensor, dict[str, Tensor]], _: int) -> Tensor:
        loss = self._loss(batch)
        self._losses.append(loss.detach())  # logged once an epoch: each call of `log` takes as long as a small step
        return loss

    def validation_step(self, batch: tuple[Tensor, Tensor, dict[str, Tensor]], _: int) -> None:
        self.log("val_loss", self._loss(batch), prog_bar=True, batch_size=len(batch[0]), sync_dist=True)

    def configure_optimizers(self) -> Any:
        free = {name: parameter for name, parameter in self.adapter.named_parameters() if parameter.requires_grad}
        prefixes = self.adapter.capabilities.undecayed
        undecayed = [parameter for name, parameter in free.items() if name.startswith(prefixes)]
        decayed = [parameter for name, parameter in free.items() if not name.startswith(prefixes)]
        undecayed += [self.log_scale] if self.log_scale.requires_grad else []
        groups: list[dict[str, Any]] = [{"params": decayed}, {"params": undecayed, "weight_decay": 0.0}]
        optimisation = self.adapter.optimisation
        optimiser = torch.optim.AdamW(groups, lr=self.learning_rate, weight_decay=optimisation.weight_decay, fused=True)
        if optimisation.one_cycle:
            steps = int(self.trainer.estimated_stepping_batches)
            cycle = torch.optim.lr_scheduler.OneCycleLR(optimiser, self.learning_rate, total_steps=steps)
            return {"optimizer": optimiser, "lr_scheduler": {"scheduler": cycle, "interval": "step"}}
        schedule = torch.optim.lr_scheduler.ReduceLROnPlateau(optimiser, factor=0.3, patience=1)
        interval = self.trainer.check_val_every_n_epoch or 1
        schedules = {"scheduler": schedule, "monitor": "val_loss", "frequency": interval, "strict": False}
        return {"optimizer": optimiser, "lr_scheduler": schedules}


def _of_likelihood(adapter: AdapterModule) -> list[nn.Parameter]:
    r"""Return the parameters that only the likelihood of a family, or of a nested family, reads."""
    return [
        parameter
        for family in adapter.modules()
        if isinstance(family, AdapterModule)
        for name, parameter in family.named_parameters()
        if name.startswith(family.capabilities.of_likelihood)
    ]


def _declares_likelihood(adapter: AdapterModule) -> bool:
    r"""Return whether a family has its own likelihood, by evaluating one window."""
    with torch.no_grad():
        _, state = adapter.encode(
            torch.zeros(1, 8, adapter.channels, dtype=torch.float32), generator=torch.Generator().manual_seed(0)
        )
        return (
            adapter.likelihood(torch.zeros(state.draws, 1, 1, adapter.channels, dtype=torch.float32), state) is not None
        )


class _KeepBest(Callback):
    r"""Restores the adapter with the lowest validation loss at the end, the untrained one included.

    Without validation windows it keeps the adapter of the last epoch.

    Arguments:
        adapter: The untrained adapter.
        validated: Whether there are validation windows.
    """

    def __init__(self, adapter: AdapterModule, *, validated: bool) -> None:
        self.best, self.validated = copy.deepcopy(adapter.state_dict()), validated

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        assert isinstance(pl_module, AdapterTraining)
        if not self.validated:
            self.best = copy.deepcopy(pl_module.evaluated.state_dict())

    def on_validation_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        assert isinstance(pl_module, AdapterTraining)
        loss = trainer.callback_metrics["val_loss"]
        if not trainer.sanity_checking and float(loss) < float(pl_module.outcome[1]):
            pl_module.outcome[1], pl_module.outcome[3] = loss, trainer.current_epoch + 1
            self.best = copy.deepcopy(pl_module.evaluated.state_dict())

    def on_fit_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        # Load into the module: spawned processes return only its tensors.
        assert isinstance(pl_module, AdapterTraining)
        pl_module.adapter.load_state_dict(self.best)

    def state_dict(self) -> dict[str, Any]:
        return {"best": self.best}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.best = state_dict["best"]


class _Ends(Callback):
    r"""Stops training after a batch, once a function says so; Lightning then validates.

    Arguments:
        ended: The function. Any process for which it is true stops all.
    """

    def __init__(self, ended: Callable[[], bool]) -> None:
        self.ended, self.stopped = ended, False

    def on_train_batch_end(self, trainer: pl.Trainer, *_: Any) -> None:
        if trainer.strategy.reduce_boolean_decision(self.ended(), all=False):
            trainer.should_stop = self.stopped = True


class _EpochByEpoch(EarlyStopping):
    r"""Stops early, seeds each epoch by its number, and saves a checkpoint after each.

    One callback does all of this and runs last: Lightning calls early stopping after other callbacks, and a checkpoint
    must record whether training stopped.

    Arguments:
        seed: The seed of the draws in training.
        checkpoints: The store of Lightning's checkpoint, which is replaced after each epoch.
        patience: The number of epochs without a lower validation loss after which training stops.
        validated: Whether there are validation windows.
        piece: The name of that checkpoint in the store.
        last_epoch: The number of epochs after which training stops; None for no such number.
    """

    def __init__(
        self, seed: int, checkpoints: Checkpoints, patience: int, *, validated: bool, piece: str, last_epoch: int | None
    ) -> None:
        super().__init__("val_loss", patience=patience, strict=False)
        self.seed, self.checkpoints, self.piece, self.last_epoch = seed, checkpoints, piece, last_epoch
        self.validated, self.ended = validated, False
        self.last: float | None = None  # the validation loss of the last epoch, if it was validated

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if self.last is not None:  # Lightning saves the checkpoint before the schedules receive this loss
            for schedule in trainer.lr_scheduler_configs:
                if isinstance(schedule.scheduler, torch.optim.lr_scheduler.ReduceLROnPlateau):
                    schedule.scheduler.step(self.last)

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        if batch_idx == 0:
            state = np.random.SeedSequence([self.seed, trainer.current_epoch]).generate_state(1)
            torch.manual_seed(int(state[0]))

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        super().on_train_epoch_end(trainer, pl_module)
        assert isinstance(pl_module, AdapterTraining)
        if self.last_epoch is not None and trainer.current_epoch + 1 >= self.last_epoch:
            trainer.should_stop = True
        pl_module.outcome[2], self.ended = trainer.current_epoch + 1, trainer.should_stop
        if self.validated and "val_loss" not in trainer.callback_metrics:  # nothing to resume from yet
            return
        validated = self.validated and (trainer.current_epoch + 1) % (trainer.check_val_every_n_epoch or 1) == 0
        self.last = float(trainer.callback_metrics["val_loss"]) if validated else None
        path = self.checkpoints.part(_LIGHTNING)
        if path is not None:
            with writing(path.parent):
                trainer.save_checkpoint(path)
            if trainer.is_global_zero:
                content = torch.frombuffer(bytearray(path.read_bytes()), dtype=torch.uint8)
                self.checkpoints.keep(self.piece, {"checkpoint": content})

    def state_dict(self) -> dict[str, Any]:
        return {**super().state_dict(), "ended": self.ended, "last": self.last}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        super().load_state_dict(state_dict)
        self.ended, self.last = state_dict["ended"], state_dict["last"]


@contextmanager
def _interruptible() -> Iterator[None]:
    r"""Re-raise a keyboard interrupt, which Lightning turns into an exit, and restore the signal handler."""
    handler = signal.getsignal(signal.SIGINT)
    try:
        yield
    except SystemExit as exit_error:
        if not isinstance(exit_error.__context__, KeyboardInterrupt):
            raise
        signal.signal(signal.SIGINT, handler)
        raise KeyboardInterrupt from None


def _resumed(checkpoints: Checkpoints, piece: str) -> tuple[Path | None, dict[str, Any]]:
    r"""Return the checkpoint of the last epoch, as Lightning's file and its content, or None and an empty dict."""
    path, saved = checkpoints.part(_LIGHTNING), checkpoints.read(piece)
    if path is None or saved is None:
        return None, {}
    path.write_bytes(saved[0]["checkpoint"].numpy().tobytes())
    with reading(f"{checkpoints.path(piece)} cannot be read as Lightning's checkpoint", "delete it"):
        return path, torch.load(path, weights_only=True)


def train(
    module: AdapterTraining,
    training: Windows,
    validation: Windows,
    *,
    batch_size: int,
    seed: int,
    precomputed: tuple[Mapping[str, Tensor], Mapping[str, Tensor]] = ({}, {}),
    options: dict[str, Any] | None = None,
    checkpoints: Checkpoints | None = None,
    piece: str = TRAINING,
    epochs: int | None = None,
    ended: Callable[[], bool] | None = None,
) -> dict[str, float]:
    r"""Train until the validation loss stops decreasing, and restore the best parameters.

    Without validation windows, train for `epochs`, or for `UNVALIDATED_EPOCHS`, and keep the last parameters.

    Arguments:
        module: The Lightning module.
        training: The standardised train windows.
        validation: The standardised validation windows, for early stopping; possibly none.
        batch_size: The maximum number of windows per step, over all processes.
        seed: The seed of the order of windows, and of the adapter's draws.
        precomputed: Forecasts of the frozen model for both sets of windows, by name, with shape :math:`(n, *)`; see
            `AdapterTraining.forward`.
        options: Options of `lightning.pytorch.Trainer`, which override the defaults here.
        checkpoints: The store of Lightning's checkpoint of the last epoch. An interrupted training resumes from it,
            with identical results; a damaged one is ignored.
        piece: The name of that checkpoint in the store.
        epochs: The number of epochs without validation windows. The learning rate goes as if the family's maximum
            number of epochs were run.
        ended: A function that is called after each batch; training stops once it returns True.

    Returns:
        The validation loss before training and its minimum, NaN without validation windows, the number of epochs, and
        the best epoch, 0 if the untrained adapter is best. Also "stopped", which is 1, if `ended` stopped it.

    Raises:
        ValueError: If training ended before the first validation.
    """
    optimisation, validated = module.adapter.optimisation, len(validation) > 0
    batch_size = min(batch_size, optimisation.batch_size)
    loader = window_loader(training, batch_size, seed, precomputed[0])
    validation_loader = window_loader(validation, batch_size, None, precomputed[1]) if validated else None
    device = module.model.device
    settings: dict[str, Any] = {
        "max_epochs": optimisation.epochs if validated or epochs else min(optimisation.epochs, UNVALIDATED_EPOCHS),
        "gradient_clip_val": 1.0,
        "logger": False,
        "enable_checkpointing": False,
        "enable_model_summary": False,
        "num_sanity_val_steps": 0,
        "use_distributed_sampler": False,  # the loaders divide a batch among processes themselves
        "accelerator": device.type,
        "devices": 1 if device.index is None else [device.index],
    }
    checkpoints = checkpoints or Checkpoints(None, {})
    resume_path, state = _resumed(checkpoints, piece)
    best = _KeepBest(module.adapter, validated=validated)
    progress = _EpochByEpoch(
        seed, checkpoints, optimisation.patience, validated=validated, piece=piece, last_epoch=epochs
    )
    limit = None if ended is None else _Ends(ended)
    with quiet(), _interruptible(), seeded(seed):
        if resume_path is None and validated:
            trainer = pl.Trainer(**settings, enable_progress_bar=False)
            module.outcome[:2] = trainer.validate(module, validation_loader, verbose=False)[0]["val_loss"]
        elif resume_path is None:
            module.outcome[:2] = torch.nan
        else:
            module.load_state_dict(state["state_dict"])
            best.load_state_dict(state["callbacks"][best.state_key])
            progress.load_state_dict(state["callbacks"][progress.state_key])
        if progress.ended:
            module.adapter.load_state_dict(best.best)
        else:
            given = (options or {}).get("callbacks") or []
            callbacks = [*([given] if isinstance(given, Callback) else given), *filter(None, [limit]), best, progress]
            settings["enable_checkpointing"] = any(isinstance(callback, Checkpoint) for callback in callbacks)
            with reading(
                "trainer_options cannot be used", "leave out the one that is named, or see Lightning's Trainer"
            ):
                trainer = pl.Trainer(**{**settings, **(options or {}), "callbacks": callbacks})
            trainer.fit(  # Lightning keeps this mode
                module.train(), loader, validation_loader, ckpt_path=resume_path, weights_only=True
            )
            unseen = validated and "val_loss" not in trainer.callback_metrics
            stopped = limit is not None and limit.stopped
            if resume_path is None and module.outcome[2] > 0 and unseen and not stopped:
                raise ValueError(
                    f"training ended after {trainer.global_step} steps, before the first validation: allow one "
                    f"epoch of {len(loader)} batches with max_epochs, max_steps or max_time in trainer_options"
                )
    losses = dict(zip(("before", "best", "epochs", "best_epoch"), module.outcome.tolist(), strict=True))
    return {**losses, **({"stopped": 1.0} if limit is not None and limit.stopped else {})}
