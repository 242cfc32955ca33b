r"""Channels that are not observed, imputed from those that are."""

from __future__ import annotations

__all__ = ["ChannelImputer", "Imputation"]

from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ..data.panel import Panel
from ..persistence.tensors import require_names, taken
from ..statistics.gaussian import conditional, persistence, shrunk_covariance
from .interpolation import neighbours

#: The values that a window must show of a channel for the frozen model to know more of its past than others may tell.
FEW = 24
#: What the others must leave untold of a gap at most, as a share of what a bridge between its ends does not know: the
#: frozen model knows more of a channel's own past than that.
UNTOLD = 0.5
#: The numbers of contexts that are filled at a time.
CELLS = 2**21


@dataclass(frozen=True)
class ChannelImputer:
    r"""What channels tell of each other at one step, and how long it lasts what they do not tell.

    Arguments:
        covariance: The covariance of the channels' levels, positive definite, with shape :math:`(D, D)`.
        own: How much of a channel's level is left a step later, with shape :math:`(D,)`, within [0, 1).
        rest: The same of what the others do not tell of it.
    """

    covariance: Tensor
    own: Tensor
    rest: Tensor

    @classmethod
    def fit(cls, rows: Tensor, lag: int) -> ChannelImputer:
        r"""Estimates them of train rows.

        Arguments:
            rows: Standardised rows in order of time, with shape :math:`(T, D)`, `lag` rows of NaN between items. NaN
                marks a missing cell.
            lag: The steps over which it is measured how long levels last: those of a forecast.

        Returns:
            The coupling; a single channel is told by nothing.
        """
        covariance = shrunk_covariance(rows)
        precision = torch.linalg.inv(covariance)
        own, rest = (
            persistence(rows, each, lag) for each in (torch.eye(len(precision), dtype=torch.float64), precision)
        )
        return cls(covariance, own, rest)

    def tell(self, panel: Panel) -> Imputation | None:
        r"""Says of each cell of a panel what the other channels tell of it.

        Arguments:
            panel: The standardised panel. NaN marks a missing cell.

        Returns:
            What is told; None where nothing is missing or nothing can be told: of a single channel, or of hundreds of
            channels that are missing in so many patterns that it would take minutes.
        """
        rows = torch.from_numpy(panel.concatenated[0])
        if panel.num_channels == 1 or not bool(rows.isnan().any()):
            return None
        told = conditional(rows, self.covariance)
        if told is None:
            return None
        means, variances = ([part.numpy() for part in each.split(list(panel.lengths))] for each in told)
        mean, variance = (
            replace(panel, items=tuple(replace(item, values=x) for item, x in zip(panel.items, parts, strict=True)))
            for parts in (means, variances)
        )
        return Imputation(self, mean, variance)

    def state(self) -> dict[str, Tensor]:
        r"""Returns the tensors, by name."""
        return {"covariance": self.covariance, "own": self.own, "rest": self.rest}

    @classmethod
    def from_state(cls, state: Mapping[str, Tensor]) -> ChannelImputer:
        r"""Makes it of its tensors.

        Arguments:
            state: What `state` returned.

        Returns:
            The coupling.

        Raises:
            ValueError: If a tensor is not as `state` makes it.
        """
        require_names("the coupling", state, ["covariance", "own", "rest"])
        count = len(state["own"]) if state["own"].ndim else 0
        covariance = taken(state, "covariance", torch.float64, (count, count))
        if not count or not torch.allclose(covariance, covariance.mT) or int(torch.linalg.cholesky_ex(covariance).info):
            raise ValueError("the tensor 'covariance' is expected to be symmetric and positive definite")
        own, rest = (taken(state, name, torch.float64, (count,), low=0.0, high=1.0) for name in ("own", "rest"))
        return cls(covariance, own, rest)


@dataclass(frozen=True, eq=False)
class Imputation:
    r"""What the channels that are seen tell of those that are not, at each step of a panel.

    Arguments:
        coupling: How the channels hang together.
        mean: The mean of each cell given the other channels at its step; 0, the train rows', where none is seen.
        variance: Its variance, infinite where none is seen.
    """

    imputer: ChannelImputer
    mean: Panel
    variance: Panel

    def fill(self, past: Tensor, mean: Tensor, variance: Tensor, prediction_length: int) -> tuple[Tensor, Tensor]:
        r"""Fills the gaps of contexts, where the others tell much more of a cell than the channel's own values do.

        A gap is what the others tell plus what they left untold at both its ends, which fades into it as an
        autoregression of first order does. Both variances, with the others and without, are those of a bridge between
        the ends, and the first must be less than half of the second. Before a channel's first value there is one end,
        and both are those of what fades backwards from it. Of a channel of fewer than `FEW` values the frozen model
        knows little: less than the whole of the second will do, and before the first value, or where there is none, a
        gap is filled wherever the others tell anything.

        What the others leave untold has a variance :math:`v` and a persistence :math:`\phi`. Of it a forecast of the
        filled series does not know what comes anew, as far as the series does not show how much that is, and what has
        come since the last value: :math:`g` steps after that, with a share :math:`s` of the context filled,

        .. math:: v \bigl(s (1 - \phi^{2h}) + (1 - \phi^{2g}) \phi^{2h}\bigr)

        Arguments:
            past: The contexts, with shape :math:`(n, L, D)`, in double precision. NaN marks a missing cell.
            mean: What the others tell of their cells, of the same shape. NaN outside of the items.
            variance: Its variance, of the same shape.
            prediction_length: The number of steps :math:`H` to forecast.

        Returns:
            The filled contexts, and the variance to be added to their forecasts, with shape :math:`(n, H, D)`: 0
            for channels of which nothing was filled.
        """
        filled, doubt = past.clone(), torch.zeros(len(past), prediction_length, past.shape[2], dtype=past.dtype)
        window, channel = past.isnan().any(1).nonzero().T
        for some in torch.arange(len(window)).split(max(1, CELLS // past.shape[1])):
            pairs = window[some], slice(None), channel[some]
            filled[pairs], doubt[pairs] = self._fill(
                past[pairs], mean[pairs], variance[pairs], channel[some], prediction_length
            )
        return filled, doubt

    def _fill(
        self, past: Tensor, mean: Tensor, variance: Tensor, channel: Tensor, prediction_length: int
    ) -> tuple[Tensor, Tensor]:
        r"""The same of contexts of one channel each, (p, L)."""
        own, rest = self.imputer.own[channel, None], self.imputer.rest[channel, None]  # (p, 1)
        level = self.imputer.covariance.diagonal()[channel, None]
        length = past.shape[1]
        steps = torch.arange(length)
        seen = ~past.isnan()
        before, after = neighbours(seen)
        first, last = before >= 0, after < length

        def left(kept: Tensor) -> tuple[Tensor, Tensor]:
            return torch.where(first, kept ** (steps - before), 0.0), torch.where(last, kept ** (after - steps), 0.0)

        def interpolated(kept: Tensor) -> Tensor:
            one, other = (share.square() for share in left(kept))
            return (1 - one) * (1 - other) / (1 - one * other).clamp(min=1e-12)

        few = seen.sum(1, keepdim=True) < FEW
        alone = level * torch.where(few, 1.0, UNTOLD) * torch.where(few & ~first, 1.0, interpolated(own))
        gap = ~seen & (variance * interpolated(rest) < alone)
        beside = torch.where(seen, past - mean, 0.0)
        ends = beside.gather(1, before.clamp(min=0)), beside.gather(1, after.clamp(max=length - 1))
        one, other = left(rest)
        weight = (1 - (one * other).square()).clamp(min=1e-12)
        fading = (one * (1 - other.square()) * ends[0] + other * (1 - one.square()) * ends[1]) / weight
        filled = torch.where(gap, mean + fading, past)

        count = gap.sum(1, keepdim=True)
        untold = torch.where(gap, variance, 0.0).sum(1, keepdim=True) / count.clamp(min=1)  # (p, 1)
        share = count.float() / (gap | seen).sum(1, keepdim=True).clamp(min=1)
        faded = rest ** (2 * torch.arange(1, prediction_length + 1))  # (p, H)
        new = (1 - one[:, -1:].square()) * (gap & ~last).any(1, keepdim=True)  # since the last value
        return filled, untold * (share * (1 - faded) + new * faded)
