r"""Linear interpolation of short gaps, and alignment of contexts at their last observation."""

from __future__ import annotations

__all__ = ["LONGEST_GAP", "aligned_to_end", "interpolated", "short_gaps"]

import torch
from torch import Tensor

#: The longest gap that is interpolated; models handle longer ones as well by themselves.
LONGEST_GAP = 12


def interpolated(context: Tensor) -> Tensor:
    r"""Interpolate short gaps within series linearly.

    Arguments:
        context: The series, with shape :math:`(N, L)`. NaN marks a missing step.

    Returns:
        The series, interpolated in each of `short_gaps`; `context` itself if there are none.
    """
    gap, length = short_gaps(context), context.shape[1]
    if not bool(gap.any()):
        return context
    step = torch.arange(length, device=context.device)
    before, after = neighbours(~context.isnan())
    left, right = (context.gather(1, position.clamp(0, length - 1)) for position in (before, after))
    weight = (step - before).to(context) / (after - before).clamp(min=1)
    return torch.where(gap, torch.lerp(left, right, weight), context)


def short_gaps(context: Tensor) -> Tensor:
    r"""Return which steps lie in gaps of at most `LONGEST_GAP` steps between two observations.

    Arguments:
        context: The series, with shape :math:`(N, L)`. NaN marks a missing step.

    Returns:
        A mask of these steps, with shape :math:`(N, L)`.
    """
    missing = context.isnan()
    if not bool(missing.any()):
        return missing
    before, after = neighbours(~missing)
    return missing & (before >= 0) & (after < context.shape[1]) & (after - before <= LONGEST_GAP + 1)


def aligned_to_end(context: Tensor) -> tuple[Tensor, Tensor]:
    r"""Shift each series so that it ends with its last observation.

    Arguments:
        context: The series, with shape :math:`(N, L)`. NaN marks a missing step.

    Returns:
        The series, shifted by the number of missing steps at the end and padded with NaN at the start; and these
        numbers, with shape :math:`(N,)`, 0 where nothing is observed.
    """
    gap = (~context.isnan()).flip(1).int().argmax(1)
    if not bool(gap.any()):
        return context, gap
    position = torch.arange(context.shape[1], device=context.device) - gap.unsqueeze(1)
    return context.gather(1, position.clamp(min=0)).masked_fill(position < 0, torch.nan), gap


def neighbours(observed: Tensor) -> tuple[Tensor, Tensor]:
    r"""Return the last observed step up to each step (N, L), else -1, and the next, else :math:`L`."""
    length = observed.shape[1]
    steps = torch.arange(length, device=observed.device)
    before = torch.where(observed, steps, -1).cummax(1).values
    after = torch.where(observed, steps, length).flip(1).cummin(1).values.flip(1)
    return before, after
