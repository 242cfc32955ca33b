r"""The joint predictive law of windows."""

from __future__ import annotations

__all__ = ["JointDistribution"]

from dataclasses import dataclass

import torch
from torch import Tensor

from ..copulas.base import CHUNK, Copula
from .quantile_function import QuantileFunction
from .variance import VarianceParts


@dataclass(frozen=True)
class JointDistribution:
    r"""The joint predictive law of :math:`n` windows: marginals, and a copula.

    Windows are independent of each other.

    Arguments:
        marginals: The law a window, lead and channel, with batch shape :math:`(n, H, D)`.
        copula: The dependence over :math:`H` leads and :math:`D` channels, one for all windows or one a window.
        parts: Where the margins' variance comes from, if that is known.
    """

    marginals: QuantileFunction
    copula: Copula
    parts: VarianceParts | None = None

    def __post_init__(self) -> None:
        expected = (self.copula.prediction_length, self.copula.channels)
        if len(self.marginals.shape) != 3 or self.marginals.shape[1:] != expected:
            raise ValueError(
                f"a copula over {expected[0]} leads and {expected[1]} channels takes marginals of shape "
                f"(n, {expected[0]}, {expected[1]}), got {tuple(self.marginals.shape)}"
            )
        if self.copula.windows not in (None, len(self)):
            raise ValueError(
                f"a copula of {self.copula.windows} windows takes the marginals of as many, got {len(self)}: take the "
                "copula of some of them with copula.of(some)"
            )

    def __len__(self) -> int:
        return self.marginals.shape[0]

    def __getitem__(self, index: int | slice | Tensor) -> JointDistribution:
        r"""The law of some of the windows.

        Arguments:
            index: The number of a window, a slice, or indices with shape :math:`(n',)`.

        Returns:
            Their law.
        """
        some = [index] if isinstance(index, int) else index
        return JointDistribution(
            self.marginals[some], self.copula.of(some), None if self.parts is None else self.parts[some]
        )

    @property
    def mean(self) -> Tensor:
        r"""The mean of the law, with shape :math:`(n, H, D)`."""
        return self.marginals.mean

    def sample(self, num_samples: int, generator: torch.Generator | None = None, *, stratified: bool = True) -> Tensor:
        r"""Draws joint paths.

        Stratified ones (see `Copula.uniforms`) have the law's margins but for the jitter: what is averaged over them
        is exact to more digits. They are not independent: fair scores, which count on that, read low on them.

        Arguments:
            num_samples: The number of paths :math:`S` a window.
            generator: The source of randomness.
            stratified: Whether the paths of a window are stratified, or independent of each other.

        Returns:
            The paths, with shape :math:`(S, n, H, D)`.
        """
        paths = self.marginals.values.new_empty(num_samples, *self.marginals.shape)
        step = max(1, CHUNK // paths[:, :1].numel())
        for start in range(0, len(self), step):
            some = slice(start, start + step)
            marginals, copula = self.marginals[some], self.copula.of(some)
            part = paths[:, some]
            if stratified:
                variables = marginals.flatten()
                for cells, order, place in copula.strata(num_samples, generator, windows=len(part[0])):
                    ordered = variables[cells].stratified(place)
                    part.flatten(1)[:, cells].T.scatter_(1, order, ordered)
            else:  # one sample each of S times as many windows
                levels = copula.uniforms(1, generator, windows=num_samples * len(part[0]))
                part.copy_(marginals(levels.view(part.shape)))
        return paths
