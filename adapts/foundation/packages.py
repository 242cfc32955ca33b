r"""Checkpoints of other packages' models: their configs validated by what the package itself declares."""

from __future__ import annotations

__all__ = ["built", "is_live", "schema_of"]

import dataclasses
import inspect
import sys
import types
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

from pydantic import Field, create_model
from torch import nn

from .._random import seeded
from ..errors import reading
from .folders import REMEDY, Checkpoint, checked, read_config
from .weights import fill

#: The largest number in a config, and the largest number of layers.
LARGEST, MOST_LAYERS = 2**20, 512


def schema_of(declared: Callable[..., Any], **fields: Any) -> type[Checkpoint]:
    r"""Create the schema of a config from the annotations of the class that takes it.

    Numbers are bounded, so that no config asks for a model of unlimited size. Arguments of other types than numbers,
    text, sequences, mappings and dataclasses of these are left out, as are keys that the class does not take.

    Arguments:
        declared: A dataclass, or a class with an annotated `__init__`.
        fields: The types of arguments with another annotation, or a narrower one; None leaves an argument out.

    Returns:
        The schema.

    Example:
        >>> from adapts.foundation.packages import schema_of
        >>> @dataclasses.dataclass
        ... class Config:
        ...     d_model: int
        ...     dropout: float = 0.1
        >>> schema_of(Config).model_validate({"d_model": 8, "unknown": 1}).model_dump(exclude_unset=True)
        {'d_model': 8}
    """
    initialise = declared.__init__ if inspect.isclass(declared) else declared
    hints = get_type_hints(initialise)
    content: dict[str, Any] = {}
    for name, parameter in inspect.signature(declared).parameters.items():
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            continue
        field = fields[name] if name in fields else _field(name, hints.get(name))
        if field is not None:
            default = parameter.default if isinstance(parameter.default, int | float | str) else None
            content[name] = field, ... if parameter.default is parameter.empty else default
    return create_model(f"{getattr(declared, '__name__', 'config')}Schema", __base__=Checkpoint, **content)


def _field(name: str, hint: Any) -> Any:
    r"""Return the bounded type of an annotation; None if no config can hold it."""
    layers = "layer" in name or "block" in name
    simple = {
        bool: bool,
        int: Annotated[int, Field(ge=-1, le=MOST_LAYERS if layers else LARGEST)],
        float: Annotated[float, Field(ge=0, le=1e30)],
        str: Annotated[str, Field(max_length=100)],
    }
    if hint in simple:
        return simple[hint]
    if dataclasses.is_dataclass(hint):
        return schema_of(hint)  # type: ignore[arg-type]  # a class, as annotations are
    origin, parts = get_origin(hint), get_args(hint)
    if origin is Literal:
        return hint
    if origin in (Union, types.UnionType):
        found = [field for part in parts if part is not types.NoneType and (field := _field(name, part)) is not None]
        return Union[(*found, *(types.NoneType for part in parts if part is types.NoneType))] if found else None
    if origin in (list, tuple, Sequence) and (item := _field(name, parts[0])) is not None:
        return Annotated[list[item], Field(min_length=1, max_length=1000)]  # type: ignore[valid-type]
    if origin in (dict, Mapping) and (item := _field(name, parts[1])) is not None:
        return Annotated[dict[str, item], Field(max_length=100)]  # type: ignore[valid-type]
    return None


def built(
    path: Path,
    schema: type[Checkpoint],
    build: Callable[[dict[str, Any]], nn.Module],
    numbers: Callable[[Any], float],
    *,
    exact: bool = True,
) -> Any:
    r"""Load a checkpoint, `config.json` and safetensors weights, into the model that its package builds.

    Arguments:
        path: The checkpoint's directory.
        schema: The schema of its config.
        build: A function that makes the model from the options that the config holds.
        numbers: A function that returns a lower bound of the number of weights of a validated config. A config of a
            much larger model than the weights is refused before anything is allocated.
        exact: Whether further weights in the files are an error; otherwise they are ignored.

    Returns:
        The model, on the CPU.

    Raises:
        ValueError: If the config is invalid, or the weights do not fit it, are not finite or cannot be read.
    """
    counting = type(schema.__name__, (schema,), {"numbers": lambda config: int(numbers(config))})
    options = checked(counting, read_config(path), path)
    with reading(f"the checkpoint in '{path}' cannot be read", REMEDY), seeded(0):
        model = build(options)
    fill(model, path, exact=exact)
    return model


def is_live(model: object, module: str, name: str) -> bool:
    r"""Return whether an object is an instance of a package's class, without importing the package.

    Arguments:
        model: Any object.
        module: The full name of the module that has the class.
        name: The name of the class.
    """
    package = sys.modules.get(module)
    return package is not None and isinstance(model, getattr(package, name))
