r"""Damaged and foreign checkpoints, each of which a backend must refuse."""

from __future__ import annotations

import json
import shutil
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load, save_file
from torch import nn

from adapts.foundation import FoundationModel, load_foundation_model


def saved(model: Any, folder: Path, config: Mapping[str, Any] | None = None) -> Path:
    r"""Write the checkpoint of a model, by its own `save_pretrained` if `config` is None."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if config is None:
            model.save_pretrained(folder)
        else:
            from safetensors.torch import save_model

            folder.mkdir()
            (folder / "config.json").write_text(json.dumps(dict(config)))
            save_model(model, str(folder / "model.safetensors"))
    return folder


def assert_loads_the_same(folder: Path, live: nn.Module | FoundationModel) -> None:
    r"""Assert that a checkpoint and the model that it was saved from forecast the same numbers."""
    models = [load_foundation_model(source, device="cpu") for source in (folder, live)]
    context = torch.randn(2, 40, generator=torch.Generator().manual_seed(0))
    assert torch.equal(*(model(context, 20) for model in models))
    assert type(models[0]) is type(models[1])
    assert models[0].name == folder.name
    assert models[0].fingerprint()["sha256"] == models[1].fingerprint()["sha256"]


def assert_refuses_damage(folder: Path, key: str, *, wider: str, unknown: bool = True) -> None:
    r"""Assert that truncated, incomplete, infinite and foreign weights, and another config, are refused by name.

    Arguments:
        folder: The checkpoint.
        key: A weight that is stored once.
        wider: The key of a size in the config; when it is doubled, the weights have another shape.
        unknown: Whether a further weight is refused.
    """
    weights, config = folder / "model.safetensors", folder / "config.json"
    content, options = weights.read_bytes(), json.loads(config.read_text())
    tensors = load(content)  # not `load_file`, which maps the file that is overwritten below

    def refused(message: str) -> None:
        with pytest.raises(ValueError, match=message):
            load_foundation_model(folder, device="cpu")

    weights.write_bytes(content[: len(content) // 2])
    refused("cannot be read")
    save_file({name: tensor for name, tensor in tensors.items() if name != key}, weights)
    refused(f"1 missing or of another shape, the first {key}")
    save_file(tensors | {key: tensors[key][:1]}, weights)
    refused(f"1 missing or of another shape, the first {key}")
    save_file(tensors | {key: torch.full_like(tensors[key], torch.inf)}, weights)
    refused(f"not finite, the first {key}")
    if unknown:
        save_file(tensors | {"strange.weight": torch.zeros(2)}, weights)
        refused("1 are unknown to .*, the first strange.weight")
    weights.write_bytes(content)
    config.write_text(json.dumps(options | {wider: 2 * options[wider]}))
    refused("do not fit its config.json")
    config.write_text(json.dumps(options | {wider: "wide"}))
    refused(f"{wider}")
    config.write_text(json.dumps({name: value for name, value in options.items() if name != wider}))
    refused("lacks the key|which no backend reads|do not fit its config.json")  # the package has defaults
    shutil.rmtree(folder)
