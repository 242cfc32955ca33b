r"""Degenerate series for tests."""

from __future__ import annotations

__all__ = ["degenerate_rows"]

import torch
from torch import Tensor

ROWS = (
    "clean", "one missing", "one observed", "left padded", "end missing", "all missing", "constant", "all zero",
    "constant with gaps", "constant first half", "one spike", "large", "small",
)  # fmt: skip


def degenerate_rows(length: int) -> dict[str, Tensor]:
    r"""Create series that are difficult for a forecaster or encoder, by name, and a regular one.

    Arguments:
        length: The number of steps :math:`L`, at least eight.

    Returns:
        The series, each with shape :math:`(L,)`.
        The series, each with shape :math:`(L,)`.

    Example:
        >>> degenerate_rows(8)["left padded"].isnan().sum()
        tensor(6)
    """
    generator = torch.Generator().manual_seed(0)
    clean = torch.randn(length, generator=generator) + torch.linspace(0.0, 6.0, length).sin()
    rows = {name: clean.clone() for name in ROWS}
    rows["one missing"][length // 2] = torch.nan
    rows["one observed"][torch.arange(length) != length // 2] = torch.nan
    rows["left padded"][: 3 * length // 4] = torch.nan
    rows["end missing"][-length // 4 :] = torch.nan
    rows["all missing"][:] = torch.nan
    rows["constant"][:] = 3.0
    rows["all zero"][:] = 0.0
    rows["constant with gaps"][:] = -2.3
    rows["constant with gaps"][::3] = torch.nan
    rows["constant first half"][: length // 2] = 1.7
    rows["one spike"][:] = 0.0
    rows["one spike"][length // 3] = 1.0
    rows["large"] *= 1e6
    rows["small"] *= 1e-6
    return rows
