r"""Frozen univariate foundation models, and their loader."""

from __future__ import annotations

__all__ = ["KNOWN", "FoundationModel", "foundation_models", "load_foundation_model"]

import re
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch

from ..errors import reading, shown, unknown
from ..persistence.ownership import as_path
from ..registry import FOUNDATION_MODELS
from .backends import backend_module, matching_backend, may_hold
from .base import FoundationModel
from .names import WEIGHTS
from .registry import KNOWN, foundation_models

#: The maximum context length of the test forecast with a loaded checkpoint.
TRIED = 512
#: A repository of the hub.
REPOSITORY = re.compile(r"[\w-][\w.-]*/[\w.-]+")


def load_foundation_model(
    model: str | Path | FoundationModel | Any,
    *,
    device: str = "auto",
    revision: str | None = None,
    dtype: Literal["float32", "bfloat16"] = "float32",
    compile: bool = False,
) -> FoundationModel:
    r"""Load a foundation model and freeze it.

    Arguments:
        model: One of the following. A short name ("bolt-nano", "chronos-2", "theta": see `adapts list models`); a local
            directory (`config.json` and safetensors weights); a repository of the Hugging Face hub
            ("amazon/chronos-bolt-tiny"); a model in memory of a class that a backend takes, such as a
            `ChronosBoltPipeline`, a TimesFM of Transformers or a predictor of gluonts, which is copied; a
            `FoundationModel`, which is used directly.
        device: The device to compute on, as torch names it. "auto" selects CUDA if available, otherwise the CPU, and
            leaves a `FoundationModel` on its device. Apple's MPS is used only if named: the library is not tested on
            it.
        revision: The commit, branch or tag of a repository on the hub; its main branch if None.
        dtype: The precision of the weights. With "bfloat16", matrix products have half precision and need half the
            memory; contexts and forecasts stay float32. Rounding to 8 bits makes a staircase of the forecast, whose
            slope is not its gradient: such a model has none.
        compile: Whether `torch.compile` compiles the pass of the model, which takes a minute or so at its first
            forecast and again for other shapes.

    Returns:
        The frozen model, in eval mode.

    Raises:
        ValueError: If there is no such model, its type is not supported, a package that it needs is not installed, or
            an option does not apply to it.

    Example:
        >>> model = load_foundation_model("bolt-nano")
        >>> series = torch.randn(3, 100, requires_grad=True)
        >>> model(series, prediction_length=12).sum().backward()
        >>> series.grad.shape
        torch.Size([3, 100])
    """
    _require_options(model, revision, dtype, compile)
    if isinstance(model, FoundationModel) and isinstance(device, str) and device == "auto":
        return model
    torch_device = device_named(device)
    loaded = (model if isinstance(model, FoundationModel) else _load(model, revision)).to(torch_device)
    if dtype == "bfloat16":
        loaded.to_half_precision()
    if compile:
        loaded.compile_pass()
        _try(loaded, f"{loaded.name} cannot be compiled", "leave out compile=True, or install a C++ compiler")
    return loaded


def _require_options(model: object, revision: object, dtype: object, compile: object) -> None:
    if dtype not in ("float32", "bfloat16"):
        raise ValueError(f"expected dtype to be 'float32' or 'bfloat16', got {shown(dtype)}")
    if not isinstance(compile, bool):
        raise ValueError(f"expected compile to be True or False, got {shown(compile)}")
    if isinstance(model, FoundationModel) and (dtype != "float32" or compile):
        raise ValueError(
            f"dtype and compile are for models that are loaded here, got the loaded {model.name}: pass its name, "
            f"directory or module"
        )
    if revision is None:
        return
    on_hub = isinstance(model, str) and (
        WEIGHTS[model].hub is not None if model in WEIGHTS else REPOSITORY.fullmatch(model) and not Path(model).is_dir()
    )
    if not isinstance(revision, str) or not on_hub:
        raise ValueError(
            f"revision is the commit, branch or tag of a repository on the hub, got {shown(revision)} for "
            f"{shown(model) if isinstance(model, str | Path) else type(model).__name__}: leave it out"
        )


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


def _load(model: object, revision: str | None) -> FoundationModel:
    if isinstance(model, str) and model in WEIGHTS:
        return _by_name(model, revision)
    if isinstance(model, str | Path):
        as_path("foundation_model", model)
        if Path(model).is_dir():
            return _from_directory(Path(model))
        if isinstance(model, str) and REPOSITORY.fullmatch(model):
            from .hub import from_hub

            return from_hub(model, _from_directory, revision=revision)
        if isinstance(model, Path) or Path(model).name != model:
            raise ValueError(
                f"the foundation model '{model}' is no directory; expected one with config.json and model.safetensors, "
                f"or a known name, such as {', '.join([*foundation_models(), 'chronos-2'])}"
            )
        raise ValueError(
            f"{unknown('foundation model', model, WEIGHTS)}; a directory's path and a hub repository are accepted too"
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


def _by_name(name: str, revision: str | None) -> FoundationModel:
    r"""Load known weights by their short name."""
    entry = WEIGHTS[name]
    backend = backend_module(entry.backend)  # before anything is downloaded, as a package may be absent
    loaded: FoundationModel
    if entry.source == "fitted":
        loaded = backend.from_name(name)
        return loaded
    if entry.source == "hub":
        from .hub import from_hub

        assert entry.hub is not None
        return from_hub(entry.hub, partial(_from_directory, backend=backend), name=name, revision=revision)
    folder = foundation_models()[name] if entry.source == "adapts" else backend.packaged_checkpoint()
    loaded = backend.from_directory(folder, name=name)
    return loaded


def _from_directory(path: Path, *, backend: Any = None, **known: str) -> FoundationModel:
    r"""Load a checkpoint, and check that it makes a finite forecast."""
    from .folders import REMEDY, read_config

    if backend is None:
        backend = backend_module(matching_backend(read_config(path), path))
    model: FoundationModel = backend.from_directory(path, **known)
    _try(model, f"the model in '{path}' cannot forecast", REMEDY)  # sizes in the config may be inconsistent
    return model


def _try(model: FoundationModel, what: str, remedy: str) -> None:
    r"""Check that a model makes a finite forecast."""
    with reading(what, remedy):
        forecast = model(torch.zeros(1, min(model.context_length, TRIED), dtype=torch.float32), 1)
    if not bool(forecast.isfinite().all()):
        raise ValueError(f"{what}: its values are not finite: {remedy}")
