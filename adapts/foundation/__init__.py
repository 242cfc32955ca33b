r"""Frozen univariate foundation models, and the loader that finds them."""

from __future__ import annotations

__all__ = ["KNOWN", "FoundationModel", "foundation_models", "load_foundation_model"]

import re
from pathlib import Path
from typing import Any

import torch

from ..errors import reading, shown, unknown
from ..persistence.ownership import as_path
from .base import FoundationModel
from .registry import KNOWN, foundation_models

#: The steps of the context on which a checkpoint of others is tried.
TRIED = 512


def load_foundation_model(model: str | Path | FoundationModel | Any, *, device: str = "auto") -> FoundationModel:
    r"""Loads a foundation model and freezes it.

    Arguments:
        model: The name of a bundled model ("bolt-nano"), a local directory (`config.json` and safetensors weights), a
            repository of the Hugging Face hub ("amazon/chronos-bolt-tiny"), a live `ChronosBoltPipeline` or
            `ChronosBoltModelForForecasting` or a PatchTST of Transformers' (copied, so that the caller's stays as it
            is), or a `FoundationModel` (taken as it is).
        device: The device to compute on, as torch names it. "auto" takes CUDA where there is one, the CPU otherwise
            (Apple's MPS only when named: this library is not tested on it), and leaves a `FoundationModel` where it is.

    Returns:
        The frozen model, in eval mode.

    Raises:
        ValueError: If there is no such model, or it is of a kind that is not supported.

    Example:
        >>> model = load_foundation_model("bolt-nano")
        >>> series = torch.randn(3, 100, requires_grad=True)
        >>> model(series, prediction_length=12).sum().backward()
        >>> series.grad.shape
        torch.Size([3, 100])
    """
    if isinstance(model, FoundationModel) and isinstance(device, str) and device == "auto":
        return model
    place = device_named(device)
    return (model if isinstance(model, FoundationModel) else _load(model)).to(place)


def device_named(device: str) -> torch.device:
    expected = f"device is 'auto', 'cpu' or one that torch can use here, got {shown(device)}"
    if not isinstance(device, str | torch.device) or str(device) == "meta":  # which computes nothing
        raise ValueError(expected)
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    with reading(expected, "pass another, or 'auto'"):
        place = torch.device(device)
        torch.empty(0, device=place, dtype=torch.float32)
    return place


def _load(model: object) -> FoundationModel:
    from . import chronos  # transformers is slow to import

    known = foundation_models()
    if isinstance(model, str) and model in known:
        return chronos.from_directory(known[model], name=model)
    if isinstance(model, str | Path):
        as_path("foundation_model", model)
        if Path(model).is_dir():
            return _from_directory(Path(model))
        if isinstance(model, str) and re.fullmatch(r"[\w-][\w.-]*/[\w.-]+", model):
            return chronos.from_hub(model, _from_directory)
        if isinstance(model, Path) or Path(model).name != model:
            raise ValueError(f"the foundation model '{model}' is no directory; bundled models: {', '.join(known)}")
        raise ValueError(f"{unknown('foundation model', model, known)}; a directory's path or a hub repository will do")
    from . import patchtst

    live = chronos.from_live(model) or patchtst.from_live(model)
    if live is None:
        raise ValueError(
            "a foundation model is a bundled name, a directory, a hub repository, a ChronosBoltPipeline, a "
            f"ChronosBoltModelForForecasting, a PatchTST or a FoundationModel, got {type(model).__name__}"
        )
    return live


def _from_directory(path: Path, **known: str) -> FoundationModel:
    r"""Loads a checkpoint by the type of model that its config.json names; Chronos-Bolt unless it is another."""
    from . import chronos, patchtst
    from .folders import REMEDY, read_config

    kind = read_config(path).get("model_type")
    load = patchtst.from_directory if kind == "patchtst" else chronos.from_directory
    model = load(path, **known)
    with reading(f"the model in '{path}' makes no forecast", REMEDY):  # of a config whose sizes do not go together
        forecast = model(torch.zeros(1, min(model.context_length, TRIED), dtype=torch.float32), 1)
    if not bool(forecast.isfinite().all()):
        raise ValueError(f"the model in '{path}' forecasts values that are not finite: {REMEDY}")
    return model
