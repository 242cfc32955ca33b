r"""Where the variance of a law comes from."""

from __future__ import annotations

__all__ = ["VarianceParts"]

from dataclasses import dataclass, fields

import pandas as pd
import torch
from torch import Tensor

from .quantile_function import QuantileFunction


@dataclass(frozen=True)
class VarianceParts:
    r"""The parts of a law's variance, by the law of total variance.

    .. math:: \operatorname{Var}(Y) = \underbrace{\operatorname{Var}_W \operatorname{E}(Y | W)}_\text{posterior}
        + \underbrace{\operatorname{E}_W \operatorname{Var}(Y | W)}_\text{foundation model}
        + \text{noise} + \text{correction}

    where :math:`W` are the adapter's draws of itself, and :math:`\operatorname{E}(Y | W)` decodes the mean of the
    latent forecasts, which is exact where decoding is linear. Where a gate mixes the adapter's law with the frozen
    model's, the posterior and the noise count with the square of the adapter's share. What the margins' corrections
    made of the sum (recalibration, updates, the bounds of the support) is its own part, which is negative where they
    narrow the law.

    Arguments:
        posterior: What the adapter's draws of itself differ by on the mean, with shape :math:`(n, H, D)`; 0 for
            deterministic adapters.
        foundation_model: The spread of the frozen model's forecasts, through the adapter.
        noise: The noise added for what the residuals of the calibration rows hold beyond that.
    """

    posterior: Tensor
    foundation_model: Tensor
    noise: Tensor

    @classmethod
    def of(cls, law: QuantileFunction, posterior: Tensor, noise: Tensor) -> VarianceParts:
        r"""Tells apart what a law's variance holds beside posterior and noise.

        Arguments:
            law: The law before any correction, with batch shape :math:`(n, H, D)`; its bounds are such a one.
            posterior: As for the class.
            noise: As for the class.

        Returns:
            The parts.
        """
        free = QuantileFunction(law.levels, law.values)
        return cls(posterior, (free.variance - posterior - noise).clamp(min=0), noise)

    def __getitem__(self, index: slice | Tensor | list[int]) -> VarianceParts:
        r"""The parts of some windows."""
        return VarianceParts(*(getattr(self, each.name)[index] for each in fields(self)))

    def scaled(self, scale: Tensor | float) -> VarianceParts:
        r"""The parts in other units.

        Arguments:
            scale: The factor of the units, with shape :math:`(D,)`.

        Returns:
            The parts in these units, squared.
        """
        return VarianceParts(*(getattr(self, each.name) * torch.as_tensor(scale) ** 2 for each in fields(self)))

    def state(self) -> dict[str, Tensor]:
        r"""The parts by name, to be stored."""
        return {each.name: getattr(self, each.name) for each in fields(self)}

    def table(self, total: Tensor) -> pd.DataFrame:
        r"""The parts of one window, and what corrections made of their sum.

        Arguments:
            total: The variance of the law as it is forecast, with shape :math:`(1, H, D)`.

        Returns:
            One row a step and channel, one column a part, and "correction" and "total": the other columns add up to
            this one.
        """
        parts = {name: part[0].double() for name, part in self.state().items()}
        whole = total[0].double()
        parts["correction"] = whole - torch.stack(list(parts.values())).sum(0)
        return pd.DataFrame({name: part.flatten().numpy() for name, part in {**parts, "total": whole}.items()})
