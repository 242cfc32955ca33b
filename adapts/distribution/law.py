r"""The joint predictive law of windows."""

from __future__ import annotations

__all__ = ["Law"]

from dataclasses import dataclass

import torch
from torch import Tensor

from .copula import Copula
from .quantiles import QuantileFunction

_CHUNK = 2**18  # levels drawn at once: few enough for a cache


@dataclass(frozen=True)
class Law:
    r"""The joint predictive law of :math:`n` windows: marginals, and one copula for all windows.

    Windows are independent of each other.

    Arguments:
        marginals: The law a window, lead and channel, with batch shape :math:`(n, H, D)`.
        copula: The dependence over :math:`H` leads and :math:`D` channels.
    """

    marginals: QuantileFunction
    copula: Copula

    def __post_init__(self) -> None:
        expected = (self.copula.prediction_length, self.copula.channels)
        if len(self.marginals.shape) != 3 or self.marginals.shape[1:] != expected:
            raise ValueError(
                f"a copula over {expected[0]} leads and {expected[1]} channels takes marginals of shape "
                f"(n, {expected[0]}, {expected[1]}), got {tuple(self.marginals.shape)}"
            )

    def __len__(self) -> int:
        return self.marginals.shape[0]

    def __getitem__(self, index: int | slice | Tensor) -> Law:
        r"""The law of some of the windows.

        Arguments:
            index: The number of a window, a slice, or indices with shape :math:`(n',)`.

        Returns:
            Their law.
        """
        return Law(self.marginals[[index] if isinstance(index, int) else index], self.copula)

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
        cells = num_samples * self.copula.prediction_length * self.copula.channels
        paths = self.marginals.values.new_empty(num_samples, *self.marginals.shape)
        step = max(1, _CHUNK // cells)
        for start in range(0, len(self), step):
            marginals = self.marginals[start : start + step]
            number = marginals.shape[0]
            if stratified:
                order, place = self.copula.strata(num_samples, generator, windows=number)
                ordered = marginals.stratified(place.view(*marginals.shape, num_samples)).flatten(0, -2)
                drawn = torch.empty_like(ordered).scatter_(1, order, ordered).T
            else:  # one sample each of S times as many windows
                levels = self.copula.uniforms(1, generator, windows=num_samples * number)
                drawn = marginals(levels.view(num_samples, *marginals.shape))
            paths[:, start : start + step] = drawn.view(num_samples, *marginals.shape)
        return paths

    def rescaled(self, location: Tensor | float, scale: Tensor | float) -> Law:
        r"""The law in other units, :math:`location + scale \cdot Y` a channel.

        Arguments:
            location: The shift, with shape :math:`(D,)`.
            scale: The positive factor, with shape :math:`(D,)`.

        Returns:
            The law in these units.
        """
        return Law(self.marginals.rescaled(location, scale), self.copula)
