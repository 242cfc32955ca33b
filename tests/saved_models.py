r"""Checks of backends that load checkpoints."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch.testing import assert_close

from adapts.foundation import FoundationModel, load_foundation_model


def save(model: Any, folder: Path) -> Path:
    r"""Write the checkpoint of a model with its package's own function."""
    model.save_pretrained(folder)
    return folder


def assert_round_trip(model: Any, folder: Path, head: str | None = None) -> FoundationModel:
    r"""Assert that a saved model is recognised by its config, and forecasts as the one in memory does."""
    live, loaded = load_foundation_model(model), load_foundation_model(save(model, folder))
    assert type(loaded) is type(live)
    assert loaded.name == folder.name
    context = torch.randn(2, live.context_length)
    if head is None:
        assert loaded.fingerprint()["sha256"] == live.fingerprint()["sha256"]
        horizon = live.prediction_length + 1
        assert_close(loaded(context, horizon), live(context, horizon), rtol=0, atol=0)
    for key, tensor in loaded.state_dict().items():
        if head is None or not key.startswith(head):
            assert_close(tensor, live.state_dict()[key], rtol=0, atol=0)
    return loaded


def assert_damage_is_refused(model: Any, folder: Path, weight: str) -> None:
    r"""Assert that a truncated file, an absent, misshapen or infinite weight, and a foreign config are refused."""
    file, config = save(model, folder) / "model.safetensors", folder / "config.json"
    whole, content = file.read_bytes(), json.loads(config.read_text())
    weights = load_file(file)
    weights = {key: tensor.clone() for key, tensor in weights.items()}

    file.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match="save the model again"):
        load_foundation_model(folder)

    save_file({key: tensor for key, tensor in weights.items() if key != weight}, file, {"format": "pt"})
    with pytest.raises(ValueError, match=f"1 missing or of another shape, the first {weight}"):
        load_foundation_model(folder)

    save_file(weights | {weight: torch.zeros(3, 2, 1)}, file, {"format": "pt"})
    with pytest.raises(ValueError, match=f"1 missing or of another shape, the first {weight}"):
        load_foundation_model(folder)

    save_file(weights | {weight: torch.full_like(weights[weight], torch.inf)}, file, {"format": "pt"})
    with pytest.raises(ValueError, match=f"are not finite, the first .*{weight}"):
        load_foundation_model(folder)

    file.write_bytes(whole)
    config.write_text(json.dumps({"model_type": "bert"}))
    with pytest.raises(ValueError, match="holds a model of type bert"):
        load_foundation_model(folder)
    config.write_text(json.dumps(content))


def assert_config_is_checked(model: Any, folder: Path, key: str, value: Any) -> None:
    r"""Assert that a value of a config that the backend does not support is refused by the name of its key."""
    config = save(model, folder) / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {key: value}))
    with pytest.raises(ValueError, match=f"has the key '{key}"):
        load_foundation_model(folder)


def standardised(context: torch.Tensor) -> torch.Tensor:
    r"""Series less their mean, divided by their standard deviation."""
    return (context - context.mean(1, keepdim=True)) / context.std(1, correction=0, keepdim=True)
