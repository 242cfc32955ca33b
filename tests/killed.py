r"""What runs in processes that are killed: fits that keep checkpoints, and saves."""

import itertools
import json
import time
from multiprocessing.connection import Connection
from pathlib import Path

import lightning.pytorch  # noqa: F401  imported before a process is forked, so that what is killed is the work itself
import numpy as np
import pytest
from safetensors.torch import load_file

from adapts import Adapter
from adapts.adapters import Linear
from adapts.fitting import run
from adapts.fitting.state import FitState, Step
from adapts.testing.tiny import tiny_chronos_bolt

FAMILIES = {"residual": "residual", "decoder": Linear(free="decoder", latent_channels=2), "gradient": Linear()}


def kill_before(stage: str, monkeypatch: pytest.MonkeyPatch) -> None:
    r"""Has fits of this process interrupted where a stage would begin."""

    def killed(state: FitState) -> Step:
        raise KeyboardInterrupt

    killed.__name__ = stage
    stages = tuple(killed if each.__name__ == stage else each for each in run.STAGES)
    assert killed in stages
    monkeypatch.setattr(run, "STAGES", stages)


def series() -> np.ndarray:
    time = np.arange(800)[:, None]
    sources = np.sin(2 * np.pi * time / np.array([12.0, 6.0]))
    values = sources @ np.array([[1.0, 0.5, -0.5], [0.3, 1.0, 1.0]])
    return values + 0.3 * np.random.default_rng(0).standard_normal(values.shape)


def adapter(family: str, seed: int = 0) -> Adapter:
    return Adapter(
        FAMILIES[family], foundation_model=tiny_chronos_bolt(), prediction_length=8, context_length=32, max_windows=100,
        seed=seed, batch_size=16, trainer_options={"max_epochs": 6, "enable_progress_bar": False},
    )  # fmt: skip


def fit(pipe: Connection, family: str, checkpoints: Path | None, output: Path) -> None:
    r"""Fits and saves; tells when it begins, and how long it took."""
    pipe.send("begins")
    began = time.perf_counter()
    one = adapter(family).fit(series(), checkpoint_dir=checkpoints)
    pipe.send(time.perf_counter() - began)
    one.save(output)


def saves(pipe: Connection, output: Path) -> None:
    r"""Saves one of two adapters after the other over the same folder, until it is killed."""
    both = [adapter("residual", seed).fit(series()) for seed in (0, 1)]
    for one in both:
        one.save(output, overwrite=True)
        pipe.send(one.predict().samples)
    for one in itertools.cycle(both):
        one.save(output, overwrite=True)


def numbers(folder: Path) -> dict[str, object]:
    r"""All that was fitted, as it was saved."""
    config = json.loads((folder / "config.json").read_text())
    tensors = {name: tensor.numpy().tobytes() for name, tensor in load_file(folder / "adapter.safetensors").items()}
    return {**config, **tensors}
