r"""Choices that are made only where a gain is significant."""

from __future__ import annotations

__all__ = ["choose"]

import torch
from torch import Tensor

from ..data.times import Times
from .bootstrap import block_scheme, student

#: How likely a target without any effect may be given one.
DOUBT = 0.05


def choose(losses: Tensor, prediction_length: int, time: Times) -> tuple[Tensor, Tensor]:
    r"""Chooses the candidate of each target where it surely lowers the loss.

    A gain is significant if its 95 % lower bound (see `BlockScheme`) is above zero. The bound allows for the choice of
    the best of several candidates; candidates that gain and lose together count once. Each target is tested alone.

    References:
        | A Reality Check for Data Snooping (White, 2000), https://doi.org/10.1111/1468-0262.00152

    Arguments:
        losses: The losses of each candidate on windows that it did not see, with shape :math:`(1 + k, n, D)`, first
            those without any. NaN marks a window without targets.
        prediction_length: The number of leads :math:`H`.
        time: When the windows begin (`Windows.time`).

    Returns:
        The number of each target's candidate, 0 for none, and the gains of the best ones as shares of the loss, both
        with shape :math:`(D,)`.
    """
    unit = losses[0].nanmean(0)
    gains = (losses[0] - losses[1:]) / torch.where(unit > 0, unit, 1.0)  # (k, n, D)
    means = gains.nanmean(1).nan_to_num(0.0)
    best = means.argmax(0)  # (D,)
    mean = means.gather(0, best.unsqueeze(0))[0]
    clock = block_scheme(time, prediction_length)
    if clock is None:
        return torch.zeros_like(best), mean
    errors = clock.errors(gains.transpose(0, 1).flatten(1), scaled=False).unflatten(1, gains.shape[::2])  # (J, k, D)
    spread = errors.square().mean(0).sqrt()
    # The bound rises as that of the best of all by chance does over one's own, at most as if all were strangers.
    white = torch.randn(1000, len(errors), generator=torch.Generator().manual_seed(0), dtype=errors.dtype)
    chance = torch.einsum("rj,jkd->rkd", white, errors / spread / len(errors) ** 0.5).nan_to_num(0.0, 0.0, 0.0)
    highest, own = (each.quantile(1 - DOUBT, dim=0) for each in (chance.amax(1), chance))
    rise = highest / own.gather(0, best.unsqueeze(0))[0].clamp(min=1e-9)
    one, strangers = (student(1 - DOUBT / number, clock.freedom) for number in (1, len(gains)))
    least = (one * rise).clamp(one, strangers) * spread.gather(0, best.unsqueeze(0))[0]
    return torch.where(mean - least > 0, best + 1, 0), mean
