r"""Joint predictive distribution of windows."""

from __future__ import annotations

__all__ = ["JointDistribution"]

from dataclasses import dataclass

import torch
from torch import Tensor

from ..batching import slices
from ..copulas.base import CHUNK, Copula
from .quantile_function import QuantileFunction
from .variance import VarianceParts


@dataclass(frozen=True)
class JointDistribution:
    r"""Joint predictive distribution of :math:`n` independent windows: marginals and a copula.

    Arguments:
        marginals: The marginal of each window, horizon step and channel, with batch shape :math:`(n, H, D)`.
        copula: The dependence over :math:`H` horizon steps (lead times) and :math:`D` channels, common to all windows
            or one per window.
        parts: The decomposition of the marginals' variance, if known.
    """

    marginals: QuantileFunction
    copula: Copula
    parts: VarianceParts | None = None

    def __post_init__(self) -> None:
        expected = (self.copula.prediction_length, self.copula.channels)
        if len(self.marginals.shape) != 3 or self.marginals.shape[1:] != expected:
            raise ValueError(
                f"a copula over {expected[0]} horizon steps and {expected[1]} channels expects marginals of shape "
                f"(n, {expected[0]}, {expected[1]}), got {tuple(self.marginals.shape)}"
            )
        if self.copula.windows not in (None, len(self)):
            raise ValueError(
                f"a copula of {self.copula.windows} windows expects the marginals of as many, got {len(self)}: select "
                "windows with copula.of(index)"
            )

    def __len__(self) -> int:
        return self.marginals.shape[0]

    def __getitem__(self, index: int | slice | Tensor) -> JointDistribution:
        r"""Return the joint distribution of selected windows.

        Arguments:
            index: The index of a window, a slice, or indices with shape :math:`(n',)`.

        Returns:
            Their joint distribution.
        """
        selected = [index] if isinstance(index, int) else index
        return JointDistribution(
            self.marginals[selected], self.copula.of(selected), None if self.parts is None else self.parts[selected]
        )

    @property
    def mean(self) -> Tensor:
        r"""Return the mean of the marginals, with shape :math:`(n, H, D)`."""
        return self.marginals.mean

    def sample(self, num_samples: int, generator: torch.Generator | None = None, *, stratified: bool = True) -> Tensor:
        r"""Draw joint sample paths.

        Stratified paths (see `Copula.uniforms`) match the marginals up to jitter, so averages over them are more
        precise. They are not independent: fair scores assume independent samples and are biased low on them.

        Arguments:
            num_samples: The number of paths :math:`S` per window.
            generator: The random number generator.
            stratified: Whether the paths of a window are stratified; otherwise they are independent.

        Returns:
            The paths, with shape :math:`(S, n, H, D)`.
        """
        paths = self.marginals.values.new_empty(num_samples, *self.marginals.shape)
        for chunk in slices(len(self), paths[:, :1].numel(), CHUNK):
            marginals, copula = self.marginals[chunk], self.copula.of(chunk)
            part = paths[:, chunk]
            if stratified:
                variables = marginals.flatten()
                for cells, order, place in copula.strata(num_samples, generator, windows=len(part[0])):
                    ordered = variables[cells].stratified(place)
                    part.flatten(1)[:, cells].T.scatter_(1, order, ordered)
            else:  # one sample of S times as many windows
                levels = copula.uniforms(1, generator, windows=num_samples * len(part[0]))
                part.copy_(marginals(levels.view(part.shape)))
        return paths
