r"""Copulas that repeat how blocks were ranked: past ones, or the paths of each window."""

from __future__ import annotations

__all__ = ["PathCopula", "RankCopula", "fit_empirical", "fit_schaake"]

from collections.abc import Mapping, Sequence
from typing import Self

import numpy as np
import torch
from torch import Tensor

from ..distribution.pits import Pits
from ..persistence.tensors import require_names, taken
from .base import MANY, Copula, order
from .independent import Independent
from .normal_scores import completed, ranked

BLOCKS = 500  # past blocks that are kept


class RankCopula(Copula):
    r"""The dependence of past blocks, cell by cell as they were ranked: the Schaake shuffle.

    A sample takes a past block and, in each cell, the stratum of its rank among the blocks that were drawn. Blocks are
    drawn in rounds, each block once a round, and those of one rank in an order of chance. There is no density.

    References:
        | The Schaake Shuffle: A Method for Reconstructing Space-Time Variability (Clark et al., 2004)
        | Uncertainty Quantification in Complex Simulation Models Using Ensemble Copula Coupling (Schefzik et al., 2013)

    Arguments:
        blocks: The blocks, with shape :math:`(n, H, D)`; only their order in a cell matters. NaN marks a missing value,
            which gets a rank of chance.

    Example:
        >>> past = torch.randn(100, 1, 1).expand(-1, 24, 8)
        >>> u = RankCopula(past).uniforms(50)
        >>> bool((u[:, 0, 0].argsort() == u[:, 9, 5].argsort()).all())
        True
    """

    name = "ranks"

    def __init__(self, blocks: Tensor) -> None:
        if blocks.ndim != 3 or len(blocks) < 2:
            raise ValueError(f"blocks have shape (n, H, D) with n of two or more, got {tuple(blocks.shape)}")
        super().__init__(*blocks.shape[1:])
        self.ranks = _ranks(blocks.unsqueeze(1))[:, 0]  # (n, H, D)

    def _scores(self, num_samples: int, windows: int, generator: torch.Generator | None) -> Tensor:
        number = len(self.ranks)
        rounds = -(-num_samples // number)
        drawn = (
            torch.rand(windows, rounds, number, generator=generator, dtype=torch.float32).argsort(-1).flatten(1)
        )  # (n, rounds * blocks)
        ranks = self._taken(drawn[:, :num_samples].T)  # (S, n, H, D)
        if rounds == 1 and num_samples >= MANY:  # no ties, and the order alone is looked at
            return ranks.float()
        return (ranks + torch.rand(ranks.shape, generator=generator, dtype=torch.float32)) / number

    def _taken(self, drawn: Tensor) -> Tensor:
        r"""The ranks of the blocks (S, n) that were drawn, (S, n, H, D)."""
        return self.ranks[drawn]

    def _levels(self, scores: Tensor) -> Tensor:
        return scores

    def state(self) -> dict[str, Tensor]:  # noqa: D102
        return {"ranks.ranks": self.ranks}

    @classmethod
    def _from_state(cls, state: Mapping[str, Tensor]) -> Self:
        require_names("the copula 'ranks'", state, ["ranks"])
        number = len(state["ranks"]) if state["ranks"].ndim else 0
        return cls(taken(state, "ranks", torch.int32, (number, None, None), low=0, high=number - 1).double())


class PathCopula(RankCopula):
    r"""The dependence of each window's own paths, cell by cell as they are ranked: ensemble copula coupling.

    As `RankCopula`, with blocks that differ by window: each window is drawn as its paths lie among each other, whatever
    the other windows' do.

    References:
        | Uncertainty Quantification in Complex Simulation Models Using Ensemble Copula Coupling (Schefzik et al., 2013)

    Arguments:
        paths: The paths, with shape :math:`(S_0, n, H, D)`; only their order in a cell matters. NaN marks a missing
            value, which gets a rank of chance.

    Example:
        >>> rising = torch.randn(100, 1, 1, 1).expand(-1, 2, 24, 8) * torch.tensor([1.0, -1.0]).view(-1, 1, 1)
        >>> u = PathCopula(rising).uniforms(50, windows=2)
        >>> bool((u[:, 1, 0, 0].argsort() == u[:, 1, 9, 5].argsort()).all())
        True
    """

    name = "paths"

    def __init__(self, paths: Tensor) -> None:
        if paths.ndim != 4 or len(paths) < 2 or paths.shape[1] < 1:
            raise ValueError(
                f"paths have shape (S, n, H, D) with S of two or more and n of one or more, got {tuple(paths.shape)}"
            )
        self._hold(_ranks(paths).to(_smallest(len(paths))))

    def _hold(self, ranks: Tensor) -> None:
        Copula.__init__(self, *ranks.shape[2:])
        self.ranks, self.windows = ranks, ranks.shape[1]  # (S_0, n, H, D)

    def of(self, some: slice | Sequence[int] | Tensor) -> PathCopula:  # noqa: D102
        return self._from_state({"ranks": self.ranks[:, some]})

    @classmethod
    def joined(cls, parts: Sequence[PathCopula]) -> PathCopula:
        r"""Returns the copula of the windows of several, in their order.

        Arguments:
            parts: Copulas of as many paths, leads and channels.
        """
        return cls._from_state({"ranks": torch.cat([part.ranks for part in parts], 1)})

    def _taken(self, drawn: Tensor) -> Tensor:
        return self.ranks[drawn, torch.arange(drawn.shape[1]) % self.ranks.shape[1]]

    def state(self) -> dict[str, Tensor]:  # noqa: D102
        return {"paths.ranks": self.ranks}

    @classmethod
    def _from_state(cls, state: Mapping[str, Tensor]) -> Self:
        held = cls.__new__(cls)
        require_names("the copula 'paths'", state, ["ranks"])
        number = len(state["ranks"]) if state["ranks"].ndim else 0
        kinds = (torch.uint8, torch.int16, torch.int32)
        held._hold(taken(state, "ranks", kinds, (number, None, None, None), low=0, high=number - 1))
        return held


def fit_schaake(values: Tensor, prediction_length: int) -> Copula:
    r"""Ranks past blocks of the observed series.

    Arguments:
        values: The history, with shape :math:`(T, D)`. NaN marks a missing step; a block shows a half of its cells, or
            is left out.
        prediction_length: The number of leads :math:`H`.

    Returns:
        The copula; independence if there are fewer than two blocks.
    """
    if len(values) < prediction_length:
        return Independent(prediction_length, values.shape[1])
    blocks = values.unfold(0, prediction_length, 1).mT  # (T-H+1, H, D)
    return _of_ranks(ranked(blocks[_kept(blocks)]))


def fit_empirical(pits: Tensor | Pits) -> Copula:
    r"""Ranks the errors of past forecasts.

    Arguments:
        pits: The transforms of :math:`n` windows, with shape :math:`(n, H, D)`. NaN marks a missing outcome; a window
            shows a half of its cells, or is left out.

    Returns:
        The copula; independence if there are fewer than two windows.
    """
    pits = Pits.of(pits)
    return _of_ranks(pits[_kept(pits.lower)])


def _kept(blocks: Tensor) -> Tensor:
    r"""Which blocks (n, H, D) are kept: those that show a half of their cells, evenly spread where they are many."""
    seen = (~blocks.isnan()).float().mean((1, 2))
    whole = (seen >= 0.5).nonzero().squeeze(-1)
    some = np.linspace(0, len(whole) - 1, min(len(whole), BLOCKS)).round().astype(int)
    return whole[torch.from_numpy(some)]


def _of_ranks(pits: Pits) -> Copula:
    r"""The copula of the ranks of transforms (n, H, D), those that are missing or on atoms drawn given the others."""
    if len(pits) < 2:
        return Independent(*pits.shape[1:])
    return RankCopula(completed(pits))


def _ranks(blocks: Tensor) -> Tensor:
    r"""The ranks of blocks (S, n, H, D) in each cell, int32; missing ones and ties by chance, the same for all n."""
    generator = torch.Generator().manual_seed(0)
    shape = len(blocks), blocks[0, 0].numel()
    missing = torch.rand(shape, generator=generator, dtype=torch.float32)
    chance = torch.rand(shape, generator=generator, dtype=torch.float32).argsort(0)  # (S, H*D)
    places = torch.arange(len(blocks), dtype=torch.int32).unsqueeze(-1).expand(shape)
    ranks = torch.empty(blocks.shape, dtype=torch.int32)
    for window in range(blocks.shape[1]):
        values = blocks[:, window].flatten(1)
        filled = torch.where(values.isnan(), missing.to(values), values) + 0.0  # a negative zero becomes a zero
        mixed = filled.gather(0, chance)
        exact = mixed.dtype == torch.float32
        ordered = chance.gather(0, order(mixed.T).T if exact else mixed.argsort(dim=0, stable=True))
        ranks[:, window] = torch.empty(shape, dtype=torch.int32).scatter_(0, ordered, places).view(blocks[:, 0].shape)
    return ranks


def _smallest(number: int) -> torch.dtype:
    r"""The smallest type of integers that holds as many ranks."""
    kinds = (torch.uint8, torch.int16, torch.int32)
    return next(kind for kind in kinds if number - 1 <= torch.iinfo(kind).max)
