r"""Frozen univariate foundation models, and their loader."""

from __future__ import annotations

__all__ = ["KNOWN", "FoundationModel", "foundation_models", "load_foundation_model"]

import re
from pathlib import Path
from typing import Any

import torch

from ..errors import reading, shown, unknown
from ..persistence.ownership import as_path
from ..registry import FOUNDATION_MODELS
from .backends import backend_module, matching_backend, may_hold
from .base import FoundationModel
from .registry import KNOWN, PACKAGED, STATISTICAL, foundation_models

#: The maximum context length of the test forecast with a loaded checkpoint.
TRIED = 512


def load_foundation_model(model: str | Path | FoundationModel | Any, *, device: str = "auto") -> FoundationModel:
    r"""Load a foundation model and freeze it.

    Arguments:
        model: One of the following. The name of a bundled model ("bolt-nano"), of one within an extra's package
            ("fracast-0"), or of a statistical one ("theta", "auto-ets"); a local directory (`config.json` and
            safetensors weights); a repository of the Hugging Face hub ("amazon/chronos-bolt-tiny"); a model in memory
            of a class that a backend takes, such as a `Chronos2Pipeline`, a TimesFM of Transformers or a predictor of
            gluonts, which is copied; a `FoundationModel`, which is used directly.
        device: The device to compute on, as torch names it. "auto" selects CUDA if available, otherwise the CPU, and
            leaves a `FoundationModel` on its device. Apple's MPS is used only if named: the library is not tested on
            it.

    Returns:
        The frozen model, in eval mode.

    Raises:
        ValueError: If there is no such model, or its type is not supported.

    Example:
        >>> model = load_foundation_model("bolt-nano")
        >>> series = torch.randn(3, 100, requires_grad=True)
        >>> model(series, prediction_length=12).sum().backward()
        >>> series.grad.shape
        torch.Size([3, 100])
    """
    if isinstance(model, FoundationModel) and isinstance(device, str) and device == "auto":
        return model
    torch_device = device_named(device)
    return (model if isinstance(model, FoundationModel) else _load(model)).to(torch_device)


def device_named(device: str) -> torch.device:
    expected = f"expected device to be 'auto', 'cpu' or a device that torch can use here, got {shown(device)}"
    if not isinstance(device, str | torch.device) or str(device) == "meta":  # the meta device computes nothing
        raise ValueError(expected)
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    with reading(expected, "pass another, or 'auto'"):
        torch_device = torch.device(device)
        torch.empty(0, device=torch_device, dtype=torch.float32)
    return torch_device


def _load(model: object) -> FoundationModel:
    known = foundation_models()
    if isinstance(model, str) and model in known:
        bundled: FoundationModel = _module_of(known[model]).from_directory(known[model], name=model)
        return bundled
    if isinstance(model, str) and model in PACKAGED:
        backend = backend_module(PACKAGED[model])
        packaged: FoundationModel = backend.from_directory(backend.packaged_checkpoint(), name=model)
        return packaged
    if isinstance(model, str) and model in STATISTICAL:
        statistical: FoundationModel = backend_module("statsforecast").from_name(model)
        return statistical
    if isinstance(model, str | Path):
        as_path("foundation_model", model)
        if Path(model).is_dir():
            return _from_directory(Path(model))
        if isinstance(model, str) and re.fullmatch(r"[\w-][\w.-]*/[\w.-]+", model):
            from .hub import from_hub

            return from_hub(model, _from_directory)
        if isinstance(model, Path) or Path(model).name != model:
            raise ValueError(f"the foundation model '{model}' is no directory; bundled models: {', '.join(known)}")
        raise ValueError(
            f"{unknown('foundation model', model, [*known, *STATISTICAL])}; a directory's path and a hub repository are"
            " accepted too"
        )
    for name in FOUNDATION_MODELS:
        if not may_hold(name):  # an object of a package that was never imported cannot exist
            continue
        live: FoundationModel | None = backend_module(name).from_live(model)  # slow to import
        if live is not None:
            return live
    raise ValueError(
        f"a foundation model is a name, a directory, a hub repository, a model in memory of a backend "
        f"({', '.join(FOUNDATION_MODELS)}) or a FoundationModel, got {type(model).__name__}: "
        f"FoundationModel.wrap(model, ...) makes one of a function or module"
    )


def _module_of(path: Path) -> Any:
    r"""Return the module that loads a checkpoint."""
    from .folders import read_config

    return backend_module(matching_backend(read_config(path), path))


def _from_directory(path: Path, **known: str) -> FoundationModel:
    r"""Load a checkpoint, and check that it makes a finite forecast."""
    from .folders import REMEDY

    model: FoundationModel = _module_of(path).from_directory(path, **known)
    with reading(f"the model in '{path}' cannot forecast", REMEDY):  # sizes in the config may be inconsistent
        forecast = model(torch.zeros(1, min(model.context_length, TRIED), dtype=torch.float32), 1)
    if not bool(forecast.isfinite().all()):
        raise ValueError(f"the model in '{path}' forecasts values that are not finite: {REMEDY}")
    return model
