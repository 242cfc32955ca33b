r"""Training by gradient, through a frozen model whose forecasts are known."""

import copy

import numpy as np
import pytest
import torch
from seasonal import SeasonalModel

from adapts.adapters import Linear
from adapts.panel import Panel
from adapts.training.module import AdapterTraining, train
from adapts.training.objectives import OBJECTIVES, objective
from adapts.windows import part_windows, split_parts


def windows_of(rows: np.ndarray) -> dict:
    panel = Panel.of(rows)
    return {
        name: part_windows(panel, part, context_length=48, prediction_length=12, max_windows=200)
        for name, part in split_parts(panel).items()
    }


def seasonal_rows(noise: float) -> np.ndarray:
    time = np.arange(1200)[:, None]
    sources = np.sin(2 * np.pi * time / np.array([12.0, 6.0]))
    noisy = sources @ np.array([[1.0, 0.5, -0.5], [0.3, 1.0, 1.0]])
    return noisy + noise * np.random.default_rng(0).standard_normal(noisy.shape)


def test_objectives_skip_missing_cells_and_have_their_values() -> None:
    prediction, target = torch.tensor([[[0.0], [3.0]]]), torch.tensor([[[2.0], [torch.nan]]])
    for name, value in {"mse": 4.0, "mae": 2.0, "huber": 1.5}.items():
        assert float(objective(name)(prediction, target)) == value
    prediction.requires_grad_(True)
    objective("mse")(prediction, target).backward()
    torch.testing.assert_close(prediction.grad, torch.tensor([[[-4.0], [0.0]]]))
    with pytest.raises(ValueError, match=r"no objective is called 'hubber'; known: .*did you mean 'huber'"):
        objective("hubber")
    assert set(OBJECTIVES) == {"mse", "mae", "huber"}


def fit(free: str, seed: int = 0) -> tuple[Linear, dict[str, float], SeasonalModel]:
    windows = windows_of(seasonal_rows(noise=0.5))
    model = SeasonalModel()
    linear = Linear(free=free).build(channels=3)
    linear.prepare(torch.randn(100, 3))
    losses = train(
        AdapterTraining(linear, model, loss="mse"), windows["train"], windows["validation"], batch_size=32, seed=seed,
        options={"max_epochs": 5, "enable_progress_bar": False},
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
    assert all(key.startswith("adapter.") for key in module.state_dict())
    assert all(not key.startswith("model") for key, _ in module.named_parameters())
