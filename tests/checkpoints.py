r"""What holds for the checkpoints of every backend."""

from __future__ import annotations

import copy
import json
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import BaseModel
from safetensors.torch import load_file, save_file
from transformers import PreTrainedConfig

from adapts.foundation import FoundationModel, load_foundation_model


def saved(model: Any, folder: Path) -> Path:
    r"""Save a model as its users do."""
    with warnings.catch_warnings():
        model.save_pretrained(folder)
    return folder


def assert_the_checkpoint_is_the_model(model: Any, folder: Path) -> None:
    r"""A checkpoint has the forecasts and weights of the model in memory; loading draws no random number."""
    state = torch.get_rng_state()
    loaded, live = load_foundation_model(folder, device="cpu"), load_foundation_model(model, device="cpu")
    assert torch.equal(torch.get_rng_state(), state)
    assert type(loaded) is type(live)
    context = torch.randn(3, 30)
    horizon = live.prediction_length + 1
    assert torch.equal(loaded(context, horizon), live(context, horizon))
    assert loaded.fingerprint()["sha256"] == live.fingerprint()["sha256"]
    assert loaded.fingerprint()["name"] == folder.name


def assert_damage_is_refused(folder: Path, first: str) -> None:
    r"""Truncated, missing, misshapen and infinite weights raise errors; `first` begins the name of a weight."""
    weights = load_file(folder / "model.safetensors")
    name = next(key for key in sorted(weights) if key.startswith(first))
    for content, message in (
        ({key: tensor for key, tensor in weights.items() if key != name}, f"do not fit its config.json: 1 .* {name}"),
        (weights | {name: weights[name][..., :-1].clone()}, f"do not fit its config.json: 1 .* {name}"),
        (weights | {name: weights[name] * torch.nan}, f"are not finite, the first .*{name}"),
    ):
        save_file(content, folder / "model.safetensors", metadata={"format": "pt"})
        with pytest.raises(ValueError, match=message):
            load_foundation_model(folder)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    load_foundation_model(folder)
    whole = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match="cannot be read"):
        load_foundation_model(folder)


def assert_the_schema_is_complete(config: Any, schema: type[BaseModel], without: set[str]) -> None:
    r"""A schema declares each key of a config of Transformers, apart from some that forecasts do not depend on."""
    own = vars(config()).keys() - vars(PreTrainedConfig()).keys()
    assert own - schema.model_fields.keys() == without


def rewrite(folder: Path, changes: dict[str, Any]) -> None:
    r"""Change entries of a config; those of a mapping within it are changed one by one."""
    config = json.loads((folder / "config.json").read_text())
    for key, value in changes.items():
        config[key] = config[key] | value if isinstance(value, dict) else value
    (folder / "config.json").write_text(json.dumps(config))


def assert_untouched(model: Any, module: torch.nn.Module) -> None:
    r"""Wrapping a model in memory copies it: gradients, mode and weights of the caller's stay as they are."""
    module.train()
    before = copy.deepcopy(module.state_dict())
    frozen: FoundationModel = load_foundation_model(model)
    frozen(torch.randn(2, 20), 3)
    assert module.training
    assert all(parameter.requires_grad for parameter in module.parameters())
    torch.testing.assert_close(module.state_dict(), before, rtol=0, atol=0)
    kept = frozen.fingerprint()
    next(module.parameters()).data += 1
    assert frozen.fingerprint() == kept
    next(module.parameters()).data.copy_(next(iter(before.values())))
    module.eval()
