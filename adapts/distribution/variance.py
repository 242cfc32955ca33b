r"""Decomposition of the predictive variance."""

from __future__ import annotations

__all__ = ["VarianceParts"]

from dataclasses import dataclass, fields

import pandas as pd
import torch
from torch import Tensor

from .quantile_function import QuantileFunction


@dataclass(frozen=True)
class VarianceParts:
    r"""Components of the predictive variance, by the law of total variance.

    .. math:: \operatorname{Var}(Y) = \underbrace{\operatorname{Var}_W \operatorname{E}(Y | W)}_\text{posterior}
        + \underbrace{\operatorname{E}_W \operatorname{Var}(Y | W)}_\text{foundation model}
        + \text{noise} + \text{correction}

    Here :math:`W` is a random draw of the adapter, and :math:`\operatorname{E}(Y | W)` is the decoded mean of the
    latent forecasts, which is exact for linear decoders. Where a gate averages the adapter and the frozen model,
    posterior and noise are multiplied by the square of the adapter's weight. The correction is the change of the sum by
    recalibration, updates and the bounds of the support. It is negative where they narrow the distribution.

    Arguments:
        posterior: The variance of the conditional mean over draws of the adapter, with shape :math:`(n, H, D)`; 0 for
            deterministic adapters.
        foundation_model: The variance of the frozen model's forecasts, decoded by the adapter.
        noise: The added noise: the residual variance on the calibration rows beyond that.
    """

    posterior: Tensor
    foundation_model: Tensor
    noise: Tensor

    @classmethod
    def of(cls, marginals: QuantileFunction, posterior: Tensor, noise: Tensor) -> VarianceParts:
        r"""Decompose the variance of marginals, given posterior and noise.

        Arguments:
            marginals: The marginals before any correction, with batch shape :math:`(n, H, D)`. Their support is a
                correction and is ignored here.
            posterior: As for the class.
            noise: As for the class.

        Returns:
            The components.
        """
        unbounded = QuantileFunction(marginals.levels, marginals.values)
        return cls(posterior, (unbounded.variance - posterior - noise).clamp(min=0), noise)

    def __getitem__(self, index: slice | Tensor | list[int]) -> VarianceParts:
        r"""Return the components of selected windows."""
        return VarianceParts(*(getattr(self, part.name)[index] for part in fields(self)))

    def scaled(self, scale: Tensor | float) -> VarianceParts:
        r"""Return the components in other units.

        Arguments:
            scale: The factor of each channel, with shape :math:`(D,)`.

        Returns:
            The components in these units, squared.
        """
        return VarianceParts(*(getattr(self, part.name) * torch.as_tensor(scale) ** 2 for part in fields(self)))

    def state(self) -> dict[str, Tensor]:
        r"""Return the components by name, for storage."""
        return {part.name: getattr(self, part.name) for part in fields(self)}

    def table(self, total: Tensor) -> pd.DataFrame:
        r"""Return the components of one window as a table, with the correction of their sum.

        Arguments:
            total: The variance of the final marginals, with shape :math:`(1, H, D)`.

        Returns:
            One row per step and channel, one column per component, and the columns "correction" and "total". The other
            columns sum to "total".
        """
        parts = {name: part[0].double() for name, part in self.state().items()}
        total_variance = total[0].double()
        parts["correction"] = total_variance - torch.stack(list(parts.values())).sum(0)
        return pd.DataFrame({name: part.flatten().numpy() for name, part in {**parts, "total": total_variance}.items()})
