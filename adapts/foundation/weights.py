r"""Weights of checkpoints: loaded from safetensors files only, complete and finite."""

from __future__ import annotations

__all__ = ["fill", "load_pretrained"]

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from .._logging import quiet
from .._random import seeded
from ..errors import reading, shown
from .folders import INDEX, REMEDY, WEIGHTS, require_sound


def load_pretrained(model_class: Any, config: Any, folder: Path) -> Any:
    r"""Load a model of a class that follows transformers, from a folder whose config is checked.

    Arguments:
        model_class: The class, with `from_pretrained`.
        config: The config object of the model.
        folder: The folder.

    Returns:
        The model, float32 on the CPU.

    Raises:
        ValueError: If the weights do not fit the config, are not finite, or cannot be read.
    """
    with reading(f"the checkpoint in '{folder}' cannot be read", REMEDY), quiet(), seeded(0):
        model, info = model_class.from_pretrained(
            folder, config=config, dtype=torch.float32, use_safetensors=True, local_files_only=True,
            output_loading_info=True, ignore_mismatched_sizes=True,
        )  # fmt: skip  # mismatches are reported below, by name
    require_sound(model, info, folder)
    return model


def fill(model: nn.Module, folder: Path, *, unused: Sequence[str] = (), exact: bool = False) -> None:
    r"""Load the weights of a folder into a model. A weight that the model shares may be stored under any of its names.

    Arguments:
        model: The model, built from the folder's config.
        folder: The folder.
        unused: Names of weights that the files may lack, as no forecast reads them.
        exact: Whether further weights in the files are an error; otherwise they are ignored.

    Raises:
        ValueError: If the weights do not fit the model, are not finite, or cannot be read.
    """
    from safetensors.torch import load_file

    own = model.state_dict(keep_vars=True)
    with reading(f"the checkpoint in '{folder}' cannot be read", REMEDY):
        names = [WEIGHTS]
        if not (folder / WEIGHTS).is_file():
            names = sorted(set(json.loads((folder / INDEX).read_text())["weight_map"].values()))
        held = {key: tensor for name in names for key, tensor in load_file(folder / name).items()}
    if exact and (further := sorted(held.keys() - own.keys())):
        raise ValueError(
            f"the weights in '{folder}' do not fit its config.json: {len(further)} are unknown to "
            f"{type(model).__name__}, the first {shown(further[0])[1:-1]}"
        )
    mismatched = [key for key, tensor in held.items() if key in own and tensor.shape != own[key].shape]
    filled = {id(own[key]) for key in held if key in own}
    missing = {key for key, tensor in own.items() if id(tensor) not in filled}
    info = {"missing_keys": missing - set(unused), "mismatched_keys": mismatched}
    fitting = {key: tensor for key, tensor in held.items() if key in own and key not in mismatched}
    model.load_state_dict(fitting, strict=False)
    require_sound(model, info, folder)
