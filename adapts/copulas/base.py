r"""Base class of all copulas over channels and horizon steps."""

from __future__ import annotations

__all__ = ["Copula"]

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from typing import ClassVar, Self

import numpy as np
import torch
from torch import Tensor

from ..batching import slices
from ..errors import shown
from ..registry import COPULAS, resolve

CHUNK = 2**18  # levels drawn at once, so that they fit into the processor's cache
MANY_SAMPLES = 100  # from so many samples on, the position within a stratum carries no information on dependence


class Copula(ABC):
    r"""Copula of :math:`H` horizon steps (lead times) and :math:`D` channels.

    It is the joint distribution of ranks, separate from the marginals. A cell is one horizon step of one channel.

    Arguments:
        prediction_length: The number of horizon steps :math:`H`.
        channels: The number of channels :math:`D`.
    """

    name: str
    #: The number of windows, if their dependence differs; None if one dependence holds for all windows.
    windows: int | None = None
    _families: ClassVar[list[type[Copula]]] = []

    def __init_subclass__(cls) -> None:
        Copula._families.append(cls)

    def __init__(self, prediction_length: int, channels: int) -> None:
        self.prediction_length = prediction_length
        self.channels = channels

    def of(self, index: slice | Sequence[int] | Tensor) -> Copula:
        r"""Return the copula of selected windows; the copula itself if it is the same for all.

        Arguments:
            index: A slice, or indices with shape :math:`(n',)`.
        """
        return self

    def uniforms(
        self, num_samples: int, generator: torch.Generator | None = None, windows: int | None = None
    ) -> Tensor:
        r"""Draw joint uniform levels with stratified marginals.

        In each cell, the levels are a permutation of :math:`(i + v_i) / S` with uniform :math:`v_i`: one level in each
        of the :math:`S` strata. The ranks are those of a draw from the copula. The positions :math:`v` come from a
        second draw, so that a single sample follows the copula as well. From 100 samples on, a stratum is too thin to
        carry dependence, and :math:`v` is independent.

        The jitter makes every level uniform. Averages over the samples are therefore unbiased for any :math:`S`, tails
        included; midpoints would never exceed :math:`1 - .5 / S`.

        Arguments:
            num_samples: The number of samples :math:`S`.
            generator: The random number generator.
            windows: The number of independent windows :math:`n`; if None, one window without an axis of its own. A
                copula that differs by window accepts multiples of its own number of windows, and cycles through its
                windows.

        Returns:
            The levels, with shape :math:`(S, H, D)`, or :math:`(S, n, H, D)`.

        Raises:
            ValueError: If `windows` is not a multiple of the copula's own number of windows.
        """
        count = 1 if windows is None else windows
        levels = torch.empty(num_samples, count, self.prediction_length, self.channels, dtype=torch.float32)
        for cells, order, place in self.strata(num_samples, generator, windows=count):
            sorted_levels = (torch.arange(num_samples) + place).div_(num_samples)
            levels.flatten(1)[:, cells] = torch.empty_like(sorted_levels).scatter_(1, order, sorted_levels).T
        return levels[:, 0] if windows is None else levels

    def strata(
        self, num_samples: int, generator: torch.Generator | None = None, *, windows: int
    ) -> Iterator[tuple[slice, Tensor, Tensor]]:
        r"""Yield the draws of `uniforms` in chunks of cells, sorted within each cell.

        Arguments:
            num_samples: The number of samples :math:`S`.
            generator: The random number generator.
            windows: The number of independent windows :math:`n`, as for `uniforms`.

        Yields:
            Three items: the slice of :math:`C` of the :math:`n H D` cells; the sample that holds each stratum; and its
            position :math:`v` within the stratum. The last two have shape :math:`(C, S)`: in the `c`-th of the cells,
            sample `order[c, i]` has the level `(i + place[c, i]) / S`.

        Raises:
            ValueError: If `windows` is not a multiple of the copula's own number of windows.
        """
        if windows % (self.windows or 1):
            raise ValueError(
                f"a copula of {self.windows} windows expects a multiple of that number, got windows={windows}: select "
                "windows with copula.of(index)"
            )
        scores, positions = self._scores(num_samples, windows, generator).flatten(1).T, None  # (n*H*D, S)
        if num_samples < MANY_SAMPLES:
            positions = self._levels(self._scores(num_samples, windows, generator)).flatten(1).T
        for cells in slices(len(scores), num_samples, CHUNK):
            ranking = order(scores[cells])
            position = (
                torch.rand(ranking.shape, generator=generator, dtype=torch.float32)
                if positions is None
                else positions[cells].gather(1, ranking)
            )
            yield cells, ranking, position

    @abstractmethod
    def _scores(self, num_samples: int, windows: int, generator: torch.Generator | None) -> Tensor:
        r"""Draw independent scores whose ranks follow the copula, with shape (S, n, H, D)."""

    @abstractmethod
    def _levels(self, scores: Tensor) -> Tensor:
        r"""Map scores to uniform levels."""

    def log_density(self, pits: Tensor) -> Tensor:
        r"""Return the log density at observed values, 0 for independence.

        A missing cell is set to the median, which favours independence.

        Arguments:
            pits: The probability integral transforms (PITs) of observed values, with shape :math:`(n, H, D)`. NaN marks
                a missing step.

        Returns:
            The log density of each window, with shape :math:`(n,)`, float64; NaN if the copula has no density.
        """
        return torch.full((len(pits),), torch.nan, dtype=torch.float64)

    @abstractmethod
    def state(self) -> dict[str, Tensor]:
        r"""Return the tensors that define the copula.

        Returns:
            Tensors only, under keys that begin with the copula's name.
        """

    @staticmethod
    def from_state(state: Mapping[str, Tensor]) -> Copula:
        r"""Restore a copula from its `state()`.

        Arguments:
            state: The tensors.

        Returns:
            The copula.

        Raises:
            ValueError: If the keys belong to no copula, or a tensor is invalid.
        """
        for entry in COPULAS.values():  # those of files that nothing has imported yet
            resolve(entry.fit)
        for family in Copula._families:
            if all(key.startswith(f"{family.name}.") for key in state) and state:
                return family._from_state({key.removeprefix(f"{family.name}."): x for key, x in state.items()})
        raise ValueError(f"no copula has a state with the keys {shown(sorted(state))}")

    @classmethod
    @abstractmethod
    def _from_state(cls, state: Mapping[str, Tensor]) -> Self:
        r"""Restore the copula from a state whose keys lack the copula's name."""


def order(x: Tensor) -> Tensor:
    r"""Return the indices that sort each row of finite numbers (C, S); ties keep their order."""
    # An `argsort` through numpy's integer sort, which is ten times as fast. The bits of floats sort as the floats do
    # once those of negative numbers are flipped; the low half of each key holds the entry's index.
    bits = x.float().contiguous().numpy().view(np.int32)
    keys = (bits ^ ((bits >> 31) & np.int32(2**31 - 1))).astype(np.int64)
    keys <<= 32
    keys |= np.arange(x.shape[1])
    keys.sort(axis=-1)
    keys &= 2**32 - 1
    return torch.from_numpy(keys)


def normal_scores(x: Tensor) -> Tensor:
    r"""Return normal scores of ranks along the first axis, (n, C) float64; ties share one, NaN stays."""
    x = x.double().T.contiguous()
    ordered = x.nan_to_num(nan=torch.inf).sort(dim=-1).values
    rank = (torch.searchsorted(ordered, x) + torch.searchsorted(ordered, x, right=True)).double() / 2
    scores = torch.special.ndtri(rank / (~x.isnan()).sum(-1, keepdim=True))
    return torch.where(x.isnan(), torch.nan, scores).T
