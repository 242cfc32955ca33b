r"""Selection of the members of an average of quantile functions."""

from __future__ import annotations

__all__ = ["SELECTIONS", "forward_selection"]

from collections.abc import Sequence

import torch
from torch import Tensor

from ..distribution.quantile_function import QuantileFunction
from ..statistics.losses import pinball_loss

#: The number of steps of the forward selection.
SELECTIONS = 20
#: A later average is selected if its loss is lower by this fraction: more members cost time in every fit and forecast.
LEAST_GAIN = 1e-3


@torch.no_grad()
def forward_selection(candidates: Sequence[QuantileFunction], future: Tensor, steps: int = SELECTIONS) -> Tensor:
    r"""Select weights of an average of quantile functions by greedy forward selection with replacement.

    Starting from nothing, at each step the candidate joins with which the average has the lowest loss. Of the averages
    of all steps the one with the lowest loss is selected, or an earlier one within 0.1 %. The weight of a candidate is
    the fraction of the steps up to it at which the candidate joined. The loss is the mean pinball loss over the levels,
    in units of the first candidate's loss on the channel.

    References:
        | Ensemble Selection from Libraries of Models (Caruana et al., 2004)
        | https://doi.org/10.1145/1015330.1015432

    Arguments:
        candidates: The predictive distributions of the same windows, with batch shape :math:`(n, H, D)` and equal
            levels. The first is preferred where losses are equal.
        future: The targets, with shape :math:`(n, H, D)`. NaN marks a missing step.
        steps: The number of steps.

    Returns:
        The weights, with shape :math:`(M,)`, non-negative with the sum 1.

    Example:
        >>> law = QuantileFunction((0.1, 0.5, 0.9), torch.tensor([[[[-1.0, 0.0, 1.0]]]]))
        >>> worse = QuantileFunction((0.1, 0.5, 0.9), torch.tensor([[[[3.0, 4.0, 5.0]]]]))
        >>> forward_selection([law, worse], torch.zeros(1, 1, 1))
        tensor([1., 0.])
    """
    levels = candidates[0].levels.to(future)
    values = [candidate.values for candidate in candidates]
    unit = _channel_losses(values[0], future, levels)  # (D,)
    unit = torch.where(unit > 0, unit, 1.0)
    counts, total = torch.zeros(len(values)), torch.zeros_like(values[0])
    selected, lowest = counts, torch.inf
    for step in range(1, steps + 1):
        losses = [float((_channel_losses((total + value) / step, future, levels) / unit).nanmean()) for value in values]
        index = min(range(len(values)), key=losses.__getitem__)
        counts[index] += 1
        total = total + values[index]
        if losses[index] < lowest * (1 - LEAST_GAIN):  # not at every step: halves may be worse than thirds
            selected, lowest = counts.clone(), losses[index]
    return selected / selected.sum()


def _channel_losses(values: Tensor, future: Tensor, levels: Tensor) -> Tensor:
    r"""Return the mean pinball losses (D,) of quantiles (n, H, D, Q)."""
    return pinball_loss(future.unsqueeze(-1) - values, levels).mean(-1).nanmean((0, 1))
