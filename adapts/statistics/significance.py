r"""Selection restricted to significant gains."""

from __future__ import annotations

__all__ = ["choose"]

import torch
from torch import Tensor

from ..data.times import Times
from .bootstrap import block_scheme, student_t_quantile

#: The significance level: the probability of selecting a candidate for a target without any effect.
SIGNIFICANCE_LEVEL = 0.05


def choose(losses: Tensor, prediction_length: int, time: Times) -> tuple[Tensor, Tensor]:
    r"""Select the candidate of each target if it lowers the loss significantly.

    A gain is significant if its 95 % lower bound (see `BlockScheme`) is above zero. The bound allows for selecting the
    best of several candidates; perfectly correlated candidates count as one. Each target is tested separately.

    References:
        | A Reality Check for Data Snooping (White, 2000), https://doi.org/10.1111/1468-0262.00152

    Arguments:
        losses: The out-of-sample losses of each candidate, with shape :math:`(1 + k, n, D)`; the first is the loss
            without any candidate. NaN marks a window without targets.
        prediction_length: The number of horizon steps :math:`H`.
        time: The start times of the windows (`Windows.time`).

    Returns:
        The index of each target's candidate, 0 for none, and the relative gain of the best candidate, both with shape
        :math:`(D,)`.
    """
    unit = losses[0].nanmean(0)
    gains = (losses[0] - losses[1:]) / torch.where(unit > 0, unit, 1.0)  # (k, n, D)
    means = gains.nanmean(1).nan_to_num(0.0)
    best = means.argmax(0)  # (D,)
    mean = means.gather(0, best.unsqueeze(0))[0]
    scheme = block_scheme(time, prediction_length)
    if scheme is None:
        return torch.zeros_like(best), mean
    errors = scheme.errors(gains.transpose(0, 1).flatten(1), scaled=False).unflatten(1, gains.shape[::2])  # (J, k, D)
    deviation = errors.square().mean(0).sqrt()
    # The critical value grows by the ratio of simulated quantiles, of the maximum to the own statistic; Bonferroni's
    # correction for independent candidates is the upper bound.
    normal = torch.randn(1000, len(errors), generator=torch.Generator().manual_seed(0), dtype=errors.dtype)
    simulated = torch.einsum("rj,jkd->rkd", normal, errors / deviation / len(errors) ** 0.5).nan_to_num(0.0, 0.0, 0.0)
    maximum, marginal = (
        statistic.quantile(1 - SIGNIFICANCE_LEVEL, dim=0) for statistic in (simulated.amax(1), simulated)
    )
    ratio = maximum / marginal.gather(0, best.unsqueeze(0))[0].clamp(min=1e-9)
    single, bonferroni = (
        student_t_quantile(1 - SIGNIFICANCE_LEVEL / number, scheme.degrees_of_freedom) for number in (1, len(gains))
    )
    margin = (single * ratio).clamp(single, bonferroni) * deviation.gather(0, best.unsqueeze(0))[0]
    return torch.where(mean - margin > 0, best + 1, 0), mean
