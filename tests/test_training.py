r"""Training by gradient, through a frozen model whose forecasts are known."""

import copy
import io
import math
import signal
from pathlib import Path

import numpy as np
import pytest
import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback, ModelCheckpoint
from seasonal import SeasonalModel

from adapts.adapters import (
    VAE,
    Autoencoder,
    Bayesian,
    Dropout,
    Ensemble,
    Flow,
    Identity,
    Linear,
    Projection,
    Weave,
)
from adapts.data.panel import Panel
from adapts.data.splits import split_panel
from adapts.data.windows import split_windows
from adapts.distribution.quantile_function import QuantileFunction
from adapts.persistence.checkpoints import TRAINING, Checkpoints
from adapts.training.module import UNVALIDATED_EPOCHS, AdapterTraining, train
from adapts.training.objectives import OBJECTIVES, Objective, Outlook

NOTE = {"versions": {"adapts": "1"}}  # what a folder of checkpoints is of


def windows_of(rows: np.ndarray) -> dict:
    panel = Panel.of(rows)
    return {
        name: split_windows(panel, part, context_length=48, prediction_length=12, max_windows=200)
        for name, part in split_panel(panel).items()
    }


def seasonal_rows(noise: float) -> np.ndarray:
    time = np.arange(1200)[:, None]
    sources = np.sin(2 * np.pi * time / np.array([12.0, 6.0]))
    noisy = sources @ np.array([[1.0, 0.5, -0.5], [0.3, 1.0, 1.0]])
    return noisy + noise * np.random.default_rng(0).standard_normal(noisy.shape)


def outlook(path: torch.Tensor, spread: float = 0.0, **options: object) -> Outlook:
    r"""What is known of windows whose channels are forecast as a path (B, H, D) and deciles `spread` apart."""
    family = Identity().build(path.shape[-1])
    _, state = family.encode(torch.randn(len(path), 50, path.shape[-1]))
    levels = torch.arange(1, 10) / 10
    values = path.unsqueeze(-1) + spread * torch.arange(-4.0, 5.0)
    defaults = {"log_scale": torch.zeros(path.shape[-1]), "windows": 1}
    return Outlook(family, state, levels, values.unsqueeze(0), **{**defaults, **options})


def test_pointwise_objectives_skip_missing_cells_and_have_their_values() -> None:
    prediction, target = torch.tensor([[[0.0], [3.0]]]), torch.tensor([[[2.0], [torch.nan]]])
    for name, value in {"mse": 4.0, "mae": 2.0, "huber": 1.5}.items():
        assert float(Objective(name)(outlook(prediction), target)) == value
    prediction.requires_grad_(True)
    Objective("mse")(outlook(prediction), target).backward()
    torch.testing.assert_close(prediction.grad, torch.tensor([[[-4.0], [0.0]]]))
    with pytest.raises(ValueError, match=r"no objective is called 'hubber'; known: .*did you mean 'huber'"):
        Objective("hubber")
    with pytest.raises(ValueError, match=r"horizon_weights within \(0, 1\]"):
        Objective("mse", 0.0)


@pytest.mark.parametrize("name", sorted(OBJECTIVES))
def test_every_objective_has_finite_gradients_and_leaves_missing_targets_out(name: str) -> None:
    torch.manual_seed(0)
    path = torch.randn(4, 6, 2, requires_grad=True)
    future = torch.randn(4, 6, 2)
    future[0], future[1, 2, 0] = torch.nan, torch.nan
    loss = Objective(name)(outlook(path, 0.3, generator=torch.Generator().manual_seed(0)), future)
    loss.backward()
    assert loss.isfinite() and path.grad.isfinite().all()
    assert not path.grad[0].any() and path.grad[2].any()


def test_quantile_is_the_mean_pinball_loss_of_the_levels() -> None:
    path, future = torch.zeros(1, 1, 1), torch.tensor([[[2.0]]])
    levels, quantiles = torch.arange(1, 10) / 10, torch.arange(-4.0, 5.0)
    error = 2.0 - quantiles
    expected = (2 * torch.maximum(levels * error, (levels - 1) * error)).mean()
    torch.testing.assert_close(Objective("quantile")(outlook(path, 1.0), future), expected)


def test_nll_is_that_of_a_normal_law_in_units_of_the_window() -> None:
    path, future = torch.randn(3, 2, 2), torch.randn(3, 2, 2)
    known = outlook(path, log_scale=torch.tensor([0.3, -0.2]))
    law = torch.distributions.Normal(path, torch.tensor([0.3, -0.2]).exp() * known.state.scale)
    torch.testing.assert_close(Objective("nll")(known, future), -law.log_prob(future).mean())
    torch.testing.assert_close(Objective("elbo")(known, future), -law.log_prob(future).mean())  # nothing is drawn


def test_energy_of_a_certain_forecast_is_its_distance_and_a_spread_one_is_unbiased() -> None:
    path, future = torch.zeros(1, 2, 2), torch.tensor([[[3.0, 0.0], [0.0, 4.0]]])
    torch.testing.assert_close(Objective("energy")(outlook(path), future), torch.tensor(2.5))  # sqrt(25 / 4 cells)
    # One cell: the energy score is the CRPS, and of a law without tails worth speaking of the mean pinball loss.
    path, future = torch.zeros(20000, 1, 1), torch.full((20000, 1, 1), 0.7)
    crps = QuantileFunction(torch.arange(1, 10) / 10, torch.arange(-4.0, 5.0).expand(1, -1)).at(
        (torch.arange(4000) + 0.5) / 4000
    )
    levels, error = (torch.arange(4000) + 0.5) / 4000, 0.7 - crps[0]
    expected = (2 * torch.maximum(levels * error, (levels - 1) * error)).mean()
    torch.testing.assert_close(Objective("energy")(outlook(path, 1.0), future), expected, rtol=0.02, atol=0.0)


def test_horizon_weights_decay_by_one_factor() -> None:
    path, future = torch.zeros(1, 3, 1), torch.tensor([[[1.0], [2.0], [3.0]]])
    expected = (1 + 4 * 0.5 + 9 * 0.25) / 1.75
    torch.testing.assert_close(Objective("mse", 0.5)(outlook(path), future), torch.tensor(expected))
    torch.testing.assert_close(Objective("mse", 1.0)(outlook(path), future), torch.tensor(14 / 3))


def fit(
    free: str, seed: int = 0, checkpoints: Checkpoints | None = None, **options: object
) -> tuple[Linear, dict[str, float], SeasonalModel]:
    windows = windows_of(seasonal_rows(noise=0.5))
    model = SeasonalModel()
    linear = Linear(free=free).build(channels=3)
    linear.prepare(torch.randn(100, 3))
    losses = train(
        AdapterTraining(linear, model, loss="mse"), windows["train"], windows["validation"], batch_size=32, seed=seed,
        options={"max_epochs": 5, "enable_progress_bar": False, **options}, checkpoints=checkpoints,
    )  # fmt: skip
    return linear, losses, model


def test_training_lowers_the_validation_loss_and_leaves_the_frozen_model_alone() -> None:
    before = copy.deepcopy(SeasonalModel().state_dict())
    linear, losses, model = fit("both")
    assert losses["best"] < 0.95 * losses["before"]  # the noise of channels is averaged out
    assert linear.encoder.any() and linear.decoder.any()
    assert not model.training
    for name, tensor in model.state_dict().items():
        torch.testing.assert_close(tensor, before[name], rtol=0, atol=0)


def test_only_the_free_part_moves() -> None:
    linear, _, _ = fit("encoder")
    assert linear.encoder.any() and not linear.decoder.any()


def test_one_seed_gives_the_same_numbers() -> None:
    one, other = fit("both", seed=3)[0], fit("both", seed=3)[0]
    torch.testing.assert_close(one.encoder, other.encoder, rtol=0, atol=0)


TRAINED = {
    "linear": Linear(),
    "affine": Projection(affine=True),
    "dropout": Dropout(where="decoder"),
    "autoencoder": Autoencoder(hidden=4),
    "vae": VAE(),
    "vae, input": VAE(noise_scale="input", noise="student-t", freedom=None, depth=1, hidden=4),
    "vae, not drawn": VAE(beta=0, latent_scale=0),
    "flow": Flow(hidden=4),
    "weave": Weave(),
    "ensemble": Ensemble(member="vae", members=2),
    "bayesian": Bayesian(base="linear", sites=["decoder"], guide="mean-field"),
    "bayesian vae": Bayesian(base="vae", sites=["decoder*"], guide="low-rank"),
}


@pytest.mark.parametrize("loss", sorted(OBJECTIVES))
@pytest.mark.parametrize("name", TRAINED)
def test_every_parameter_that_trains_gets_a_finite_gradient_from_every_objective(name: str, loss: str) -> None:
    r"""Where processes train together, each waits for all of these gradients."""
    adapter = TRAINED[name].build(channels=3)
    adapter.prepare(torch.randn(100, 3))
    module = AdapterTraining(adapter, SeasonalModel(), loss=loss).train()
    past, future, forecast = torch.randn(5, 48, 3).cumsum(1), torch.randn(5, 12, 3), torch.randn(5, 12, 3)
    module._loss((past, future, {"forecast": forecast})).backward()
    free = {key: parameter for key, parameter in module.named_parameters() if parameter.requires_grad}
    assert free
    assert not [key for key, parameter in free.items() if parameter.grad is None]
    assert all(parameter.grad.isfinite().all() for parameter in free.values())
    if loss not in ("nll", "elbo"):
        assert not [key for key in free if "sigma" in key or "noise" in key or "freedom" in key]


class Counting(Callback):
    r"""Counts what was validated, and may be interrupted."""

    def __init__(self, interrupted: bool = False) -> None:
        self.validated, self.interrupted = [], interrupted

    def on_train_batch_end(self, *_: object) -> None:
        if self.interrupted:
            signal.raise_signal(signal.SIGINT)

    def on_validation_end(self, trainer: Trainer, _: LightningModule) -> None:
        self.validated.append(trainer.current_epoch)


def test_one_callback_many_or_none_are_taken_as_lightning_takes_them() -> None:
    plain = fit("both", max_epochs=1)[1]
    for callbacks in (None, Counting(), [Counting()], (Counting(), Counting())):
        assert fit("both", max_epochs=1, callbacks=callbacks)[1] == plain


def test_a_checkpoint_among_the_callbacks_is_written(tmp_path) -> None:
    fit("both", max_epochs=1, callbacks=ModelCheckpoint(dirpath=tmp_path, filename="best", monitor="val_loss"))
    assert (tmp_path / "best.ckpt").is_file()


def test_epochs_may_go_by_without_validation() -> None:
    counting = Counting()
    linear, losses, _ = fit("both", max_epochs=4, check_val_every_n_epoch=2, callbacks=counting)
    assert counting.validated == [1, 3]
    assert losses["epochs"] == 4 and losses["best"] < losses["before"] and linear.encoder.any()
    assert fit("both", max_epochs=2, val_check_interval=0.5)[1]["epochs"] == 2


def test_a_training_that_ends_before_validation_is_refused(tmp_path: Path) -> None:
    windows = windows_of(seasonal_rows(noise=0.5))

    def run(**options: object) -> dict[str, float]:
        with Checkpoints(tmp_path, NOTE) as checkpoints:
            return train(
                AdapterTraining(Linear().build(channels=3), SeasonalModel()), windows["train"], windows["validation"],
                batch_size=32, seed=0, options={"enable_progress_bar": False, **options}, checkpoints=checkpoints,
            )  # fmt: skip

    for _ in range(2):  # nor does the second go on from where the first ended
        with pytest.raises(
            ValueError, match=r"ended after 3 steps, before the first validation: allow one epoch of 7 batches with"
        ):
            run(max_steps=3)
    assert run(max_steps=7)["epochs"] == 1


def test_an_interrupt_from_the_keyboard_stays_one() -> None:
    handler = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        fit("both", callbacks=Counting(interrupted=True))
    assert signal.getsignal(signal.SIGINT) is handler


def test_two_processes_train_as_one_does(tmp_path: Path) -> None:
    _, alone, _ = fit("both", max_epochs=2)
    pair = {"strategy": "ddp_spawn", "devices": 2, "accelerator": "cpu"}
    with Checkpoints(tmp_path, NOTE) as checkpoints:
        linear, together, _ = fit("both", checkpoints=checkpoints, max_epochs=2, **pair)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["fit.json", TRAINING]
    assert together["before"] == alone["before"] and together["epochs"] == alone["epochs"] == 2
    assert linear.encoder.any() and together["best"] < together["before"]
    assert together["best"] == pytest.approx(alone["best"], rel=0.02)  # a mean of two halves' means


def test_training_never_ends_worse_than_it_began() -> None:
    windows = windows_of(np.random.default_rng(0).standard_normal((1200, 3)))
    linear = Linear().build(channels=3)
    module = AdapterTraining(linear, SeasonalModel(), loss="mse", learning_rate=10.0)  # far too large
    losses = train(
        module, windows["train"], windows["validation"], batch_size=32, seed=0,
        options={"max_epochs": 2, "enable_progress_bar": False},
    )  # fmt: skip
    assert losses["best"] <= losses["before"]
    if losses["best"] == losses["before"]:
        assert not linear.encoder.any()


def test_checkpoints_hold_the_adapter_alone() -> None:
    module = AdapterTraining(Linear().build(channels=3), SeasonalModel())
    assert all(key.startswith("adapter.") or key in ("log_scale", "outcome") for key in module.state_dict())
    assert all(not key.startswith("model") for key, _ in module.named_parameters())


class Noisy(AdapterTraining):
    r"""Draws in its steps, as stochastic adapters do."""

    def training_step(self, batch: tuple[torch.Tensor, ...], number: int) -> torch.Tensor:
        past, *rest = batch
        return super().training_step((past + 0.1 * torch.randn_like(past), *rest), number)


class SwitchedOff(Callback):
    r"""Ends a training in an epoch, after its validation or in its midst."""

    def __init__(self, epoch: int, after: bool) -> None:
        self.epoch, self.after = epoch, after

    def on_validation_end(self, trainer: Trainer, _: LightningModule) -> None:
        if self.after and trainer.current_epoch == self.epoch:
            raise RuntimeError("switched off")

    def on_train_batch_end(self, trainer: Trainer, _: LightningModule, *batch: object) -> None:
        if not self.after and trainer.current_epoch == self.epoch and batch[-1] == 1:
            raise RuntimeError("switched off")


@pytest.mark.parametrize("every", [1, 2])
def test_a_training_that_is_ended_goes_on_to_the_same_numbers(every: int, tmp_path) -> None:
    windows = windows_of(seasonal_rows(noise=0.5))

    def run(folder: Path | None = None, *callbacks: Callback) -> tuple[torch.Tensor, dict[str, float]]:
        linear = Linear().build(channels=3)
        linear.prepare(torch.ones(100, 3).cumsum(0))
        module = Noisy(linear, SeasonalModel(), loss="mse", learning_rate=0.3)  # so large that it soon stands still
        with Checkpoints(folder, NOTE) as checkpoints:
            losses = train(
                module, windows["train"], windows["validation"], batch_size=64, seed=0, checkpoints=checkpoints,
                options={"enable_progress_bar": False, "max_epochs": 30, "callbacks": list(callbacks),
                         "check_val_every_n_epoch": every},
            )  # fmt: skip
        return linear.encoder.detach().clone(), losses

    expected, losses = run()
    epochs = int(losses["epochs"])
    assert 4 <= epochs < 30  # stopped early
    for epoch in range(epochs):
        with pytest.raises(RuntimeError, match="switched off"):
            run(tmp_path, SwitchedOff(epoch, after=bool(epoch % 2)))
    for _ in range(2):  # the second time it is done already, and not a step is taken
        found, again = run(tmp_path)
        assert again == losses
        torch.testing.assert_close(found, expected, rtol=0, atol=0)
    piece = Checkpoints(tmp_path, NOTE).read(TRAINING)
    assert piece is not None
    held = torch.load(io.BytesIO(piece[0]["checkpoint"].numpy().tobytes()), weights_only=True)
    assert not [name for name in held["state_dict"] if name.startswith("model")]


def test_a_training_without_validation_keeps_the_last_epoch_and_goes_on_to_the_same_numbers(tmp_path) -> None:
    windows = windows_of(seasonal_rows(noise=0.5))

    def run(folder: Path | None = None, **options: object) -> tuple[torch.Tensor, dict[str, float]]:
        linear = Linear().build(channels=3)
        linear.prepare(torch.ones(100, 3).cumsum(0))
        module = AdapterTraining(linear, SeasonalModel(), loss="mse", learning_rate=0.01)
        with Checkpoints(folder, NOTE) as checkpoints:
            losses = train(
                module, windows["train"], windows["validation"][:0], batch_size=64, seed=0, checkpoints=checkpoints,
                options={"enable_progress_bar": False, **options},
            )  # fmt: skip
        return linear.encoder.detach().clone(), losses

    expected, losses = run()
    assert losses["epochs"] == UNVALIDATED_EPOCHS and math.isnan(losses["before"]) and math.isnan(losses["best"])
    assert not torch.equal(run(max_epochs=UNVALIDATED_EPOCHS - 1)[0], expected)
    for epoch in (0, 4):
        with pytest.raises(RuntimeError, match="switched off"):
            run(tmp_path, callbacks=[SwitchedOff(epoch, after=False)])
    for _ in range(2):
        found, again = run(tmp_path)
        assert again["epochs"] == UNVALIDATED_EPOCHS
        torch.testing.assert_close(found, expected, rtol=0, atol=0)
