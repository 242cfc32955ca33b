r"""Tensors of a file, checked before they are used: their names, types, shapes and values."""

from __future__ import annotations

__all__ = ["Kind", "kind_of", "require_names", "taken", "written"]

import math
from collections.abc import Collection, Mapping

import torch
from torch import Tensor

from ..errors import shown

#: The type and the shape of a tensor.
Kind = tuple[torch.dtype, tuple[int, ...]]
#: The types that we write, by their names in a safetensors file.
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
    r"""Returns the type and the shape of a tensor.

    Arguments:
        tensor: The tensor.
    """
    return tensor.dtype, tuple(tensor.shape)


def written(kind: Kind) -> str:
    r"""Writes a type and a shape as a config and our messages hold them.

    Arguments:
        kind: The type and the shape.

    Returns:
        Such as `"F64[54, 3]"`.
    """
    dtype, shape = kind
    return f"{_NAMES.get(dtype, str(dtype))}{list(shape)}"


def require_names(what: str, names: Collection[str], required: Collection[str], optional: Collection[str] = ()) -> None:
    r"""Checks that the tensors are those that something is made of.

    Arguments:
        what: What is made of them, for the message.
        names: The names of the tensors.
        required: The names that must be there.
        optional: The names that may be there.

    Raises:
        ValueError: If one is missing, or there is another.
    """
    absent = [name for name in required if name not in names]
    if absent:
        raise ValueError(f"{what} lacks the tensor {absent[0]!r}")
    others = sorted(set(names) - {*required, *optional})
    if others:
        raise ValueError(f"{what} has no tensor {shown(others[0])}, only {', '.join([*required, *optional]) or 'none'}")


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
    r"""Returns a tensor of a state, checked.

    Arguments:
        state: The tensors by name.
        name: The name of the one to take.
        dtype: Its type, or those that it may have.
        shape: Its shape; None stands for any size.
        low: The lowest value that it may hold.
        high: The highest value that it may hold.
        missing: Whether it may hold NaN.
        infinite: Whether it may hold infinite values.

    Returns:
        The tensor.

    Raises:
        ValueError: If it is missing, or is of another type or shape, or holds such values.
    """
    if name not in state:
        raise ValueError(f"the tensor {name!r} is missing")
    x, dtypes = state[name], dtype if isinstance(dtype, tuple) else (dtype,)
    sizes = zip(x.shape, shape, strict=False)
    if x.dtype not in dtypes or x.ndim != len(shape) or any(have != want for have, want in sizes if want is not None):
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
