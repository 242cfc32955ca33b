r"""What every copula of channels and leads shares."""

from __future__ import annotations

__all__ = ["Copula"]

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from typing import ClassVar, Self

import numpy as np
import torch
from torch import Tensor

from ..errors import shown

CHUNK = 2**18  # levels drawn at once: few enough for a cache
MANY = 100  # samples from which on the place within a stratum tells nothing of dependence


class Copula(ABC):
    r"""The joint law of the ranks of :math:`H` leads and :math:`D` channels, margins aside.

    Arguments:
        prediction_length: The number of leads :math:`H`.
        channels: The number of channels :math:`D`.
    """

    name: str
    #: The number of windows that it is of, where their dependence differs; None where it is the same for all.
    windows: int | None = None
    _families: ClassVar[list[type[Copula]]] = []

    def __init_subclass__(cls) -> None:
        Copula._families.append(cls)

    def __init__(self, prediction_length: int, channels: int) -> None:
        self.prediction_length = prediction_length
        self.channels = channels

    def of(self, some: slice | Sequence[int] | Tensor) -> Copula:
        r"""Returns the copula of some of the windows: itself, where it is the same for all.

        Arguments:
            some: A slice, or indices with shape :math:`(n',)`.
        """
        return self

    def uniforms(
        self, num_samples: int, generator: torch.Generator | None = None, windows: int | None = None
    ) -> Tensor:
        r"""Draws joint levels whose margins are stratified.

        Each margin is a permutation of :math:`(i + v_i) / S` with uniform :math:`v_i`: one level in each of the
        :math:`S` strata. The ranks are those of a draw from the copula, and :math:`v` is another draw, so that a
        single sample follows the copula as well; from a hundred samples on, where a stratum is too thin to tell of
        dependence, :math:`v` is independent. With jitter, every level is uniform: what is averaged over the samples is
        unbiased for any :math:`S`, tails included; the midpoints would never go beyond :math:`1 - .5 / S`.

        Arguments:
            num_samples: The number of samples :math:`S`.
            generator: The source of randomness.
            windows: The number of independent windows :math:`n`; one, without an axis for it, if None. A copula that
                differs by window takes a multiple of its own number of windows, which then come in turn.

        Returns:
            The levels, with shape :math:`(S, H, D)`, or :math:`(S, n, H, D)`.

        Raises:
            ValueError: If `windows` is no multiple of the copula's own number of windows.
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
        r"""The draws of `uniforms`, a cell's from its lowest to its highest, some cells at a time.

        Arguments:
            num_samples: The number of samples :math:`S`.
            generator: The source of randomness.
            windows: The number of independent windows :math:`n`, as for `uniforms`.

        Yields:
            Which :math:`C` of the :math:`n H D` cells these are, which sample has the level of each stratum, and its
            place :math:`v` within the stratum, both with shape :math:`(C, S)`: sample `order[c, i]` has the level
            `(i + place[c, i]) / S` in the `c`-th of the cells.

        Raises:
            ValueError: If `windows` is no multiple of the copula's own number of windows.
        """
        if windows % (self.windows or 1):
            raise ValueError(
                f"a copula of {self.windows} windows draws for a multiple of them, got windows={windows}: take the "
                "copula of some of them with copula.of(some)"
            )
        scores, second = self._scores(num_samples, windows, generator).flatten(1).T, None  # (n*H*D, S)
        if num_samples < MANY:
            second = self._levels(self._scores(num_samples, windows, generator)).flatten(1).T
        step = max(1, CHUNK // num_samples)
        for start in range(0, len(scores), step):
            cells = slice(start, start + step)
            lowest = order(scores[cells])
            chance = (
                torch.rand(lowest.shape, generator=generator, dtype=torch.float32)
                if second is None
                else second[cells].gather(1, lowest)
            )
            yield cells, lowest, chance

    @abstractmethod
    def _scores(self, num_samples: int, windows: int, generator: torch.Generator | None) -> Tensor:
        r"""Independent draws whose ranks follow the copula, (S, n, H, D)."""

    @abstractmethod
    def _levels(self, scores: Tensor) -> Tensor:
        r"""The uniform levels of scores."""

    def log_density(self, pits: Tensor) -> Tensor:
        r"""The log density at what came true, 0 for independence.

        A missing cell counts as the median, which speaks for independence rather than against it.

        Arguments:
            pits: The transforms of what came true, with shape :math:`(n, H, D)`. NaN marks a missing step.

        Returns:
            The log density of each window, with shape :math:`(n,)`, float64; NaN where the copula has no density.
        """
        return torch.full((len(pits),), torch.nan, dtype=torch.float64)

    @abstractmethod
    def state(self) -> dict[str, Tensor]:
        r"""What the copula is made of.

        Returns:
            Tensors only, under keys that begin with the copula's name.
        """

    @staticmethod
    def from_state(state: Mapping[str, Tensor]) -> Copula:
        r"""Makes a copula again from its `state()`.

        Arguments:
            state: The tensors.

        Returns:
            The copula.

        Raises:
            ValueError: If the keys are those of no copula, or a tensor is not as the copula needs it.
        """
        for family in Copula._families:
            if all(key.startswith(f"{family.name}.") for key in state) and state:
                return family._from_state({key.removeprefix(f"{family.name}."): x for key, x in state.items()})
        raise ValueError(f"no copula has a state with the keys {shown(sorted(state))}")

    @classmethod
    @abstractmethod
    def _from_state(cls, state: Mapping[str, Tensor]) -> Self:
        r"""The copula of a state, whose keys come without the copula's name."""


def order(x: Tensor) -> Tensor:
    r"""Which entry is the smallest, the next, ... of each row (C, S) of finite numbers; the earlier one where equal."""
    # `argsort` by numpy's sort of integers, which is ten times as fast: the bits of a float order as it does once those
    # of negative ones are flipped, and behind them comes the entry's number.
    bits = x.float().contiguous().numpy().view(np.int32)
    keys = (bits ^ ((bits >> 31) & np.int32(2**31 - 1))).astype(np.int64)
    keys <<= 32
    keys |= np.arange(x.shape[1])
    keys.sort(axis=-1)
    keys &= 2**32 - 1
    return torch.from_numpy(keys)


def normal_scores(x: Tensor) -> Tensor:
    r"""Normal scores of the ranks along the first axis, (n, C) float64; ties share a score, NaN stays."""
    x = x.double().T.contiguous()
    ordered = x.nan_to_num(nan=torch.inf).sort(dim=-1).values
    rank = (torch.searchsorted(ordered, x) + torch.searchsorted(ordered, x, right=True)).double() / 2
    scores = torch.special.ndtri(rank / (~x.isnan()).sum(-1, keepdim=True))
    return torch.where(x.isnan(), torch.nan, scores).T
