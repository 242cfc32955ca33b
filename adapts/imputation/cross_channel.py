r"""Imputation of missing channels from observed ones."""

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

#: Below this number of observed values of a channel, the criterion for imputation is weaker.
FEW = 24
#: The maximum ratio of the variance given other channels to that of interpolation between the ends of a gap. It is
#: below one because the frozen model predicts a channel from its past better than such an interpolation does.
MAX_VARIANCE_RATIO = 0.5
#: The maximum number of cells that are filled at a time.
CELLS = 2**21


@dataclass(frozen=True)
class ChannelImputer:
    r"""Covariance of channels at one step, and the persistence of their residuals.

    Arguments:
        covariance: The covariance of the channels, positive definite, with shape :math:`(D, D)`.
        channel_persistence: The autocorrelation of each channel at lag one, with shape :math:`(D,)`, within [0, 1).
        residual_persistence: The same for the residual given the other channels.
    """

    covariance: Tensor
    channel_persistence: Tensor
    residual_persistence: Tensor

    @classmethod
    def fit(cls, rows: Tensor, lag: int) -> ChannelImputer:
        r"""Estimate covariance and persistence from train rows.

        Arguments:
            rows: Standardised rows in order of time, with shape :math:`(T, D)`, with `lag` rows of NaN between items.
                NaN marks a missing cell.
            lag: The lag at which persistence is measured: the prediction length.

        Returns:
            The imputer; a single channel has nothing to be imputed from.
        """
        covariance = shrunk_covariance(rows)
        precision = torch.linalg.inv(covariance)
        channel_persistence, residual_persistence = (
            persistence(rows, matrix, lag) for matrix in (torch.eye(len(precision), dtype=torch.float64), precision)
        )
        return cls(covariance, channel_persistence, residual_persistence)

    def impute(self, panel: Panel) -> Imputation | None:
        r"""Return the conditional mean and variance of each cell of a panel given the other channels.

        Arguments:
            panel: The standardised panel. NaN marks a missing cell.

        Returns:
            The imputation; None if nothing is missing, for a single channel, or for so many channels and missing
            patterns that it would take minutes.
        """
        rows = torch.from_numpy(panel.concatenated[0])
        if panel.num_channels == 1 or not bool(rows.isnan().any()):
            return None
        moments = conditional(rows, self.covariance)
        if moments is None:
            return None
        means, variances = ([part.numpy() for part in moment.split(list(panel.lengths))] for moment in moments)
        mean, variance = (
            replace(panel, items=tuple(replace(item, values=x) for item, x in zip(panel.items, parts, strict=True)))
            for parts in (means, variances)
        )
        return Imputation(self, mean, variance)

    def state(self) -> dict[str, Tensor]:
        r"""Return the tensors by name."""
        return {"covariance": self.covariance, "own": self.channel_persistence, "rest": self.residual_persistence}

    @classmethod
    def from_state(cls, state: Mapping[str, Tensor]) -> ChannelImputer:
        r"""Restore the imputer from its tensors.

        Arguments:
            state: The result of `state`.

        Returns:
            The imputer.

        Raises:
            ValueError: If a tensor is invalid.
        """
        require_names("the channel imputer", state, ["covariance", "own", "rest"])
        count = len(state["own"]) if state["own"].ndim else 0
        covariance = taken(state, "covariance", torch.float64, (count, count))
        if not count or not torch.allclose(covariance, covariance.mT) or int(torch.linalg.cholesky_ex(covariance).info):
            raise ValueError("the tensor 'covariance' is expected to be symmetric and positive definite")
        channel_persistence, residual_persistence = (
            taken(state, name, torch.float64, (count,), low=0.0, high=1.0) for name in ("own", "rest")
        )
        return cls(covariance, channel_persistence, residual_persistence)


@dataclass(frozen=True, eq=False)
class Imputation:
    r"""Conditional means and variances of a panel's cells given the other channels.

    Arguments:
        imputer: The covariance and persistence of the channels.
        mean: The mean of each cell given the other channels at its step; 0, the mean of the train rows, if none is
            observed.
        variance: The corresponding variance, infinite if none is observed.
    """

    imputer: ChannelImputer
    mean: Panel
    variance: Panel

    def fill(self, past: Tensor, mean: Tensor, variance: Tensor, prediction_length: int) -> tuple[Tensor, Tensor]:
        r"""Fill gaps of contexts where other channels are more informative than the channel's own values.

        An imputed value is the mean given the other channels plus an interpolated residual. The residuals at both ends
        of the gap decay into it like a first-order autoregression. Two variances are compared, with and without the
        other channels. Both are those of an interpolation between the ends, and the first must be less than half of the
        second. Before a channel's first value there is only one end, from which both decay backwards.

        With fewer than `FEW` values, the frozen model knows little of a channel, and the first variance need only be
        smaller than the second. Before the first value, or without any, a gap is filled wherever the others are
        informative at all.

        The residual has variance :math:`v` and persistence :math:`\phi`. A forecast of the filled series lacks its
        future innovations, in proportion to the filled fraction :math:`s` of the context, which hides them. It also
        lacks the innovations since the last value, :math:`g` steps before the end. The imputation variance to add is

        .. math:: v \bigl(s (1 - \phi^{2h}) + (1 - \phi^{2g}) \phi^{2h}\bigr)

        Arguments:
            past: The contexts, with shape :math:`(n, L, D)`, in double precision. NaN marks a missing cell.
            mean: The conditional means of the cells, of the same shape. NaN outside of the items.
            variance: The corresponding variances, of the same shape.
            prediction_length: The number of horizon steps :math:`H`.

        Returns:
            The filled contexts, and the imputation variance to add to their forecasts, with shape :math:`(n, H, D)`: 0
            for channels without filled gaps.
        """
        filled, added = past.clone(), torch.zeros(len(past), prediction_length, past.shape[2], dtype=past.dtype)
        window, channel = past.isnan().any(1).nonzero().T
        for batch in torch.arange(len(window)).split(max(1, CELLS // past.shape[1])):
            pairs = window[batch], slice(None), channel[batch]
            filled[pairs], added[pairs] = self._fill(
                past[pairs], mean[pairs], variance[pairs], channel[batch], prediction_length
            )
        return filled, added

    def _fill(
        self, past: Tensor, mean: Tensor, variance: Tensor, channel: Tensor, prediction_length: int
    ) -> tuple[Tensor, Tensor]:
        r"""Fill contexts of one channel each, (p, L)."""
        channel_persistence, residual_persistence = (
            self.imputer.channel_persistence[channel, None],
            self.imputer.residual_persistence[channel, None],
        )  # (p, 1)
        total = self.imputer.covariance.diagonal()[channel, None]
        length = past.shape[1]
        steps = torch.arange(length)
        observed = ~past.isnan()
        before, after = neighbours(observed)
        has_before, has_after = before >= 0, after < length

        def decay(rate: Tensor) -> tuple[Tensor, Tensor]:
            return torch.where(has_before, rate ** (steps - before), 0.0), torch.where(
                has_after, rate ** (after - steps), 0.0
            )

        def bridge_variance(rate: Tensor) -> Tensor:
            from_before, from_after = (fraction.square() for fraction in decay(rate))
            return (1 - from_before) * (1 - from_after) / (1 - from_before * from_after).clamp(min=1e-12)

        few = observed.sum(1, keepdim=True) < FEW
        interpolation_variance = (
            total
            * torch.where(few, 1.0, MAX_VARIANCE_RATIO)
            * torch.where(few & ~has_before, 1.0, bridge_variance(channel_persistence))
        )
        gap = ~observed & (variance * bridge_variance(residual_persistence) < interpolation_variance)
        residual = torch.where(observed, past - mean, 0.0)
        ends = residual.gather(1, before.clamp(min=0)), residual.gather(1, after.clamp(max=length - 1))
        from_before, from_after = decay(residual_persistence)
        weight = (1 - (from_before * from_after).square()).clamp(min=1e-12)
        interpolated_residual = (
            from_before * (1 - from_after.square()) * ends[0] + from_after * (1 - from_before.square()) * ends[1]
        ) / weight
        filled = torch.where(gap, mean + interpolated_residual, past)

        count = gap.sum(1, keepdim=True)
        residual_variance = torch.where(gap, variance, 0.0).sum(1, keepdim=True) / count.clamp(min=1)  # (p, 1)
        fraction = count.float() / (gap | observed).sum(1, keepdim=True).clamp(min=1)
        decay_ahead = residual_persistence ** (2 * torch.arange(1, prediction_length + 1))  # (p, H)
        # Innovations since the last value.
        since_last = (1 - from_before[:, -1:].square()) * (gap & ~has_after).any(1, keepdim=True)
        return filled, residual_variance * (fraction * (1 - decay_ahead) + since_last * decay_ahead)
