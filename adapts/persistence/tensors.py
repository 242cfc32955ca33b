r"""Validation of tensors from files: names, types, shapes and values."""

from __future__ import annotations

__all__ = ["Kind", "kind_of", "nested", "require_names", "taken", "written"]

import math
from collections.abc import Collection, Mapping

import torch
from torch import Tensor

from ..errors import shown

#: The dtype and the shape of a tensor.
Kind = tuple[torch.dtype, tuple[int, ...]]
#: The dtypes in saved files, by their names in safetensors.
TYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}
_NAMES = {dtype: name for name, dtype in TYPES.items()}


def kind_of(tensor: Tensor) -> Kind:
    r"""Return the dtype and the shape of a tensor.

    Arguments:
        tensor: The tensor.
    """
    return tensor.dtype, tuple(tensor.shape)


def written(kind: Kind) -> str:
    r"""Format a dtype and a shape as in configs and messages.

    Arguments:
        kind: The dtype and the shape.

    Returns:
        A text such as `"F64[54, 3]"`.
    """
    dtype, shape = kind
    return f"{_NAMES.get(dtype, str(dtype))}{list(shape)}"


def nested(kinds: Mapping[str, Kind], prefix: str) -> dict[str, Kind]:
    r"""Return the kinds of the tensors whose names begin with a prefix, by their names without it.

    Arguments:
        kinds: The type and shape of each tensor.
        prefix: The prefix.

    Example:
        >>> nested({"inner.a": (torch.float32, (2,)), "b": (torch.float32, ())}, "inner.")
        {'a': (torch.float32, (2,))}
    """
    return {name.removeprefix(prefix): kind for name, kind in kinds.items() if name.startswith(prefix)}


def require_names(what: str, names: Collection[str], required: Collection[str], optional: Collection[str] = ()) -> None:
    r"""Check that the required tensors are present, and no others but optional ones.

    Arguments:
        what: The object made of the tensors, for the message.
        names: The names of the tensors.
        required: The required names.
        optional: The optional names.

    Raises:
        ValueError: If a required tensor is missing, or there is any other.
    """
    absent = [name for name in required if name not in names]
    if absent:
        raise ValueError(f"{what} lacks the tensor {absent[0]!r}")
    unexpected = sorted(set(names) - {*required, *optional})
    if unexpected:
        raise ValueError(
            f"{what} has no tensor {shown(unexpected[0])}, only {', '.join([*required, *optional]) or 'none'}"
        )


def taken(
    state: Mapping[str, Tensor],
    name: str,
    dtype: torch.dtype | tuple[torch.dtype, ...],
    shape: tuple[int | None, ...],
    *,
    low: float = -math.inf,
    high: float = math.inf,
    missing: bool = False,
    infinite: bool = False,
) -> Tensor:
    r"""Return a tensor of a state after validation.

    Arguments:
        state: The tensors by name.
        name: The tensor's name.
        dtype: Its dtype, or the allowed ones.
        shape: Its shape; None stands for any size.
        low: The minimum allowed value.
        high: The maximum allowed value.
        missing: Whether NaN is allowed.
        infinite: Whether infinite values are allowed.

    Returns:
        The tensor.

    Raises:
        ValueError: If it is missing, has another dtype or shape, or holds other values.
    """
    if name not in state:
        raise ValueError(f"the tensor {name!r} is missing")
    x, dtypes = state[name], dtype if isinstance(dtype, tuple) else (dtype,)
    sizes = zip(x.shape, shape, strict=False)
    if (
        x.dtype not in dtypes
        or x.ndim != len(shape)
        or any(actual != expected_size for actual, expected_size in sizes if expected_size is not None)
    ):
        names = " or ".join(_NAMES[each] for each in dtypes)
        expected = ", ".join("any" if size is None else str(size) for size in shape)
        raise ValueError(f"the tensor {name!r} is expected as {names}[{expected}], got {written(kind_of(x))}")
    if x.is_floating_point():
        if not missing and bool(x.isnan().any()):
            raise ValueError(f"the tensor {name!r} holds NaN, and numbers are expected")
        if not infinite and bool(x.isinf().any()):
            raise ValueError(f"the tensor {name!r} holds infinite values, and finite ones are expected")
    if (low > -math.inf or high < math.inf) and bool(((x < low) | (x > high)).any()):
        raise ValueError(f"the tensor {name!r} holds values outside of [{low:g}, {high:g}]")
    return x
