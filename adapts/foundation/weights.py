r"""Weights of checkpoints: loaded from safetensors files only, complete and finite."""

from __future__ import annotations

__all__ = ["fill"]

import json
from collections.abc import Sequence
from pathlib import Path

from torch import nn

from ..errors import reading, shown
from .folders import INDEX, REMEDY, WEIGHTS, require_sound


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
