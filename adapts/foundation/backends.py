r"""Backends of foundation models: which one reads a checkpoint, and what has to be installed for it."""

from __future__ import annotations

__all__ = ["backend_module", "install_command", "matching_backend", "may_hold", "missing_packages"]

import sys
from collections.abc import Mapping
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from ..errors import shown
from ..registry import FOUNDATION_MODELS, BackendEntry


def matching_backend(config: Mapping[str, Any], path: Path) -> str:
    r"""Return the name of the backend that reads a checkpoint.

    Arguments:
        config: The content of the checkpoint's `config.json`.
        path: The checkpoint's directory, for the message.

    Returns:
        The name of the matching entry of `adapts.registry.FOUNDATION_MODELS` with the most keys.

    Raises:
        ValueError: If no backend reads such checkpoints.
    """
    matches = [name for name, entry in FOUNDATION_MODELS.items() if _matches(entry, config)]
    if matches:
        return max(matches, key=lambda name: len(FOUNDATION_MODELS[name].config))
    kinds = config.get("architectures")
    kind = kinds[0] if isinstance(kinds, list) and kinds else config.get("model_type", "unknown")
    kind = kind if isinstance(kind, str) and len(kind) < 100 else shown(kind)
    raise ValueError(
        f"'{path}' holds a model of type {kind}, which no backend reads: expected a checkpoint of "
        f"{', '.join(FOUNDATION_MODELS)}. Load the model yourself and pass FoundationModel.wrap(model, ...)"
    )


def _matches(entry: BackendEntry, config: Mapping[str, Any]) -> bool:
    for key, expected in entry.config.items():
        if key not in config:
            return False
        value = config[key]
        if expected is not None and value not in (expected if isinstance(expected, tuple) else (expected,)):
            return False
    return True


def missing_packages(entry: BackendEntry) -> list[str]:
    r"""Return the packages that a backend needs and that are not installed.

    Arguments:
        entry: The entry of the backend.

    Returns:
        Their import names.
    """
    return [name for name in entry.requires if name not in sys.modules and not _installed(name)]


def _installed(package: str) -> bool:
    r"""Return whether a package can be imported; a folder of its name, such as that of a checkpoint, is none."""
    spec = find_spec(package)
    return spec is not None and spec.origin is not None


def install_command(entry: BackendEntry) -> str:
    r"""Return the command that installs what a backend needs.

    Arguments:
        entry: The entry of the backend.

    Returns:
        The command, or the commands of an environment of its own, one a line; empty if adapts itself suffices.
    """
    if entry.environment is not None:
        return entry.environment
    return f"pip install 'adapts[{entry.extra}]'" if entry.extra is not None else ""


def backend_module(name: str) -> Any:
    r"""Import the module of a backend.

    Arguments:
        name: The name of the backend.

    Returns:
        The module.

    Raises:
        ValueError: If a package that it needs is not installed.
    """
    entry = FOUNDATION_MODELS[name]
    if missing := missing_packages(entry):
        needs = f"the backend {name!r} needs {', '.join(missing)}, which this environment does not have"
        if entry.environment is not None:
            commands = "\n    ".join(entry.environment.splitlines())
            raise ValueError(f"{needs} and which conflicts with adapts. In a new one, run\n    {commands}")
        extra = f"install the extra {entry.extra!r}: {install_command(entry)}"
        raise ValueError(f"{needs}: {extra if entry.extra is not None else 'install it with pip'}")
    return import_module(entry.module)


def may_hold(name: str) -> bool:
    r"""Return whether an object in memory can be a model of a backend: whether all packages of it are imported.

    Arguments:
        name: The name of the backend.
    """
    return all(package in sys.modules for package in FOUNDATION_MODELS[name].requires)
