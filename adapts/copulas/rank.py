r"""Rank copulas: dependence from the ranks of past blocks, or of each window's own paths."""

from __future__ import annotations

__all__ = ["PathCopula", "RankCopula", "fit_empirical", "fit_schaake"]

from collections.abc import Mapping, Sequence
from typing import Self

import torch
from torch import Tensor

from ..batching import evenly_spaced
from ..distribution.pits import Pits
from ..persistence.tensors import require_names, taken
from .base import MANY_SAMPLES, Copula, order
from .independent import Independent
from .normal_scores import completed, ranked

BLOCKS = 500  # maximum number of past blocks


class RankCopula(Copula):
    r"""Empirical copula of past blocks: the Schaake shuffle.

    A sample picks a past block. In each cell it takes the stratum of the block's rank among the drawn blocks. Each
    round draws every block once, and ties are broken at random. The copula has no density.

    References:
        | The Schaake Shuffle: A Method for Reconstructing Space-Time Variability (Clark et al., 2004)
        | Uncertainty Quantification in Complex Simulation Models Using Ensemble Copula Coupling (Schefzik et al., 2013)

    Arguments:
        blocks: The blocks, with shape :math:`(n, H, D)`; only their ranks in each cell matter. NaN marks a missing
            value, which gets a random rank.

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
        picked = (
            torch.rand(windows, rounds, number, generator=generator, dtype=torch.float32).argsort(-1).flatten(1)
        )  # (n, rounds * blocks)
        ranks = self._taken(picked[:, :num_samples].T)  # (S, n, H, D)
        if rounds == 1 and num_samples >= MANY_SAMPLES:  # without ties, and only the order matters
            return ranks.float()
        return (ranks + torch.rand(ranks.shape, generator=generator, dtype=torch.float32)) / number

    def _taken(self, drawn: Tensor) -> Tensor:
        r"""Return the ranks (S, n, H, D) of the drawn blocks (S, n)."""
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
    r"""Empirical copula of each window's own paths: ensemble copula coupling (ECC).

    It works as `RankCopula`, with blocks that differ by window: the draws of a window follow the ranks of its own
    paths.

    References:
        | Uncertainty Quantification in Complex Simulation Models Using Ensemble Copula Coupling (Schefzik et al., 2013)

    Arguments:
        paths: The paths, with shape :math:`(S_0, n, H, D)`; only their ranks in each cell matter. NaN marks a missing
            value, which gets a random rank.

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
        self._set_ranks(_ranks(paths).to(_smallest(len(paths))))

    def _set_ranks(self, ranks: Tensor) -> None:
        Copula.__init__(self, *ranks.shape[2:])
        self.ranks, self.windows = ranks, ranks.shape[1]  # (S_0, n, H, D)

    def of(self, index: slice | Sequence[int] | Tensor) -> PathCopula:  # noqa: D102
        return self._from_state({"ranks": self.ranks[:, index]})

    @classmethod
    def joined(cls, parts: Sequence[PathCopula]) -> PathCopula:
        r"""Return the concatenation of copulas along the windows.

        Arguments:
            parts: Copulas with the same numbers of paths, horizon steps and channels.
        """
        return cls._from_state({"ranks": torch.cat([part.ranks for part in parts], 1)})

    def _taken(self, drawn: Tensor) -> Tensor:
        return self.ranks[drawn, torch.arange(drawn.shape[1]) % self.ranks.shape[1]]

    def state(self) -> dict[str, Tensor]:  # noqa: D102
        return {"paths.ranks": self.ranks}

    @classmethod
    def _from_state(cls, state: Mapping[str, Tensor]) -> Self:
        copula = cls.__new__(cls)
        require_names("the copula 'paths'", state, ["ranks"])
        number = len(state["ranks"]) if state["ranks"].ndim else 0
        kinds = (torch.uint8, torch.int16, torch.int32)
        copula._set_ranks(taken(state, "ranks", kinds, (number, None, None, None), low=0, high=number - 1))
        return copula


def fit_schaake(values: Tensor, prediction_length: int) -> Copula:
    r"""Fit a rank copula to past blocks of the observed series (Schaake shuffle).

    Arguments:
        values: The history, with shape :math:`(T, D)`. NaN marks a missing step. Blocks with fewer than half of their
            cells observed are dropped.
        prediction_length: The number of horizon steps :math:`H`.

    Returns:
        The copula; independence if there are fewer than two blocks.
    """
    if len(values) < prediction_length:
        return Independent(prediction_length, values.shape[1])
    blocks = values.unfold(0, prediction_length, 1).mT  # (T-H+1, H, D)
    return _of_ranks(ranked(blocks[_kept(blocks)]))


def fit_empirical(pits: Tensor | Pits) -> Copula:
    r"""Fit a rank copula to the errors of past forecasts.

    Arguments:
        pits: The PITs of :math:`n` windows, with shape :math:`(n, H, D)`. NaN marks a missing observation. Windows with
            fewer than half of their cells observed are dropped.

    Returns:
        The copula; independence if there are fewer than two windows.
    """
    pits = Pits.of(pits)
    return _of_ranks(pits[_kept(pits.lower)])


def _kept(blocks: Tensor) -> Tensor:
    r"""Select blocks (n, H, D) with at least half of their cells observed, evenly thinned if there are many."""
    observed = (~blocks.isnan()).float().mean((1, 2))
    usable = (observed >= 0.5).nonzero().squeeze(-1)
    picked = evenly_spaced(len(usable), BLOCKS)
    return usable[torch.from_numpy(picked)]


def _of_ranks(pits: Pits) -> Copula:
    r"""Return the rank copula of PITs (n, H, D), with missing values and atoms imputed."""
    if len(pits) < 2:
        return Independent(*pits.shape[1:])
    return RankCopula(completed(pits))


def _ranks(blocks: Tensor) -> Tensor:
    r"""Rank blocks (S, n, H, D) in each cell, int32; missing values and ties are broken at random."""
    generator = torch.Generator().manual_seed(0)  # the random order is the same for all windows
    shape = len(blocks), blocks[0, 0].numel()
    missing = torch.rand(shape, generator=generator, dtype=torch.float32)
    random_order = torch.rand(shape, generator=generator, dtype=torch.float32).argsort(0)  # (S, H*D)
    places = torch.arange(len(blocks), dtype=torch.int32).unsqueeze(-1).expand(shape)
    ranks = torch.empty(blocks.shape, dtype=torch.int32)
    for window in range(blocks.shape[1]):
        values = blocks[:, window].flatten(1)
        filled = torch.where(values.isnan(), missing.to(values), values) + 0.0  # a negative zero becomes a zero
        shuffled = filled.gather(0, random_order)
        single_precision = shuffled.dtype == torch.float32
        sorted_blocks = random_order.gather(
            0, order(shuffled.T).T if single_precision else shuffled.argsort(dim=0, stable=True)
        )
        ranks[:, window] = (
            torch.empty(shape, dtype=torch.int32).scatter_(0, sorted_blocks, places).view(blocks[:, 0].shape)
        )
    return ranks


def _smallest(number: int) -> torch.dtype:
    r"""Return the smallest integer type that holds so many ranks."""
    types = (torch.uint8, torch.int16, torch.int32)
    return next(dtype for dtype in types if number - 1 <= torch.iinfo(dtype).max)
