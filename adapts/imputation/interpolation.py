r"""Short gaps, interpolated; and contexts aligned at their last observation."""

from __future__ import annotations

__all__ = ["LONGEST_GAP", "aligned_to_end", "interpolated", "short_gaps"]

import torch
from torch import Tensor

#: The longest gap that is bridged by a line: of longer ones models themselves make as much.
LONGEST_GAP = 12


def interpolated(context: Tensor) -> Tensor:
    r"""Bridges short gaps within series by straight lines.

    Arguments:
        context: The series, with shape :math:`(N, L)`. NaN marks a missing step.

    Returns:
        The series, with a line in each of `short_gaps`; `context` itself where there is none.
    """
    gap, length = short_gaps(context), context.shape[1]
    if not bool(gap.any()):
        return context
    step = torch.arange(length, device=context.device)
    before, after = neighbours(~context.isnan())
    one, other = (context.gather(1, end.clamp(0, length - 1)) for end in (before, after))
    weight = ((step - before) / (after - before).clamp(min=1)).to(context)
    return torch.where(gap, torch.lerp(one, other, weight), context)


def short_gaps(context: Tensor) -> Tensor:
    r"""Tells which steps lie in gaps of `LONGEST_GAP` steps or fewer between two observations.

    Arguments:
        context: The series, with shape :math:`(N, L)`. NaN marks a missing step.

    Returns:
        Whether each step does, with shape :math:`(N, L)`.
    """
    missing = context.isnan()
    if not bool(missing.any()):
        return missing
    before, after = neighbours(~missing)
    return missing & (before >= 0) & (after < context.shape[1]) & (after - before <= LONGEST_GAP + 1)


def aligned_to_end(context: Tensor) -> tuple[Tensor, Tensor]:
    r"""Moves each series so that it ends with its last observation.

    Arguments:
        context: The series, with shape :math:`(N, L)`. NaN marks a missing step.

    Returns:
        The series, later by as many steps as are missing at the end, with NaN before; and how many these are, with
        shape :math:`(N,)`, 0 where nothing is observed.
    """
    gap = (~context.isnan()).flip(1).int().argmax(1)
    if not bool(gap.any()):
        return context, gap
    place = torch.arange(context.shape[1], device=context.device) - gap.unsqueeze(1)
    return context.gather(1, place.clamp(min=0)).masked_fill(place < 0, torch.nan), gap


def neighbours(seen: Tensor) -> tuple[Tensor, Tensor]:
    r"""The last step that is seen up to each step (N, L), -1 where there is none, and the next, :math:`L` for none."""
    length = seen.shape[1]
    steps = torch.arange(length, device=seen.device)
    before = torch.where(seen, steps, -1).cummax(1).values
    after = torch.where(seen, steps, length).flip(1).cummin(1).values.flip(1)
    return before, after
