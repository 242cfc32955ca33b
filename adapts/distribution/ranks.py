r"""Copulas that repeat how past blocks were ranked."""

from __future__ import annotations

__all__ = ["RankCopula", "fit_empirical", "fit_schaake"]

from collections.abc import Mapping
from typing import Self

import numpy as np
import torch
from torch import Tensor

from .copula import MANY, Copula, Independent

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
        generator = torch.Generator().manual_seed(0)
        filled = torch.where(blocks.isnan(), torch.rand(blocks.shape, generator=generator).to(blocks), blocks)
        chance = torch.rand(filled.shape, generator=generator).flatten(1).argsort(0)  # (n, H*D)  the order of ties
        order = chance.gather(0, filled.flatten(1).gather(0, chance).argsort(dim=0, stable=True))
        ranks = torch.empty(order.shape, dtype=torch.int32)
        ranks.scatter_(0, order, torch.arange(len(blocks), dtype=torch.int32).unsqueeze(-1).expand_as(order))
        self.ranks = ranks.view(blocks.shape)  # (n, H, D)

    def _scores(self, num_samples: int, windows: int, generator: torch.Generator | None) -> Tensor:
        number = len(self.ranks)
        rounds = -(-num_samples // number)
        drawn = torch.rand(windows, rounds, number, generator=generator).argsort(-1).flatten(1)  # (n, rounds * blocks)
        ranks = self.ranks[drawn[:, :num_samples].T]  # (S, n, H, D)
        if rounds == 1 and num_samples >= MANY:  # no ties, and the order alone is looked at
            return ranks.float()
        return (ranks + torch.rand(ranks.shape, generator=generator)) / number

    def _levels(self, scores: Tensor) -> Tensor:
        return scores

    def state(self) -> dict[str, Tensor]:  # noqa: D102
        return {"ranks.ranks": self.ranks}

    @classmethod
    def _from_state(cls, state: Mapping[str, Tensor]) -> Self:
        return cls(state["ranks"].double())


def fit_schaake(values: Tensor, prediction_length: int, max_blocks: int = BLOCKS) -> Copula:
    r"""Ranks past blocks of the observed series.

    Arguments:
        values: The history, with shape :math:`(T, D)`. NaN marks a missing step; a block shows a half of its cells, or
            is left out.
        prediction_length: The number of leads :math:`H`.
        max_blocks: The most blocks that are kept, evenly spread.

    Returns:
        The copula; independence if there are fewer than two blocks.
    """
    blocks = values.unfold(0, prediction_length, 1).mT if len(values) >= prediction_length else values[:0, None]
    return _fit(blocks, prediction_length, values.shape[1], max_blocks)


def fit_empirical(pits: Tensor, max_blocks: int = BLOCKS) -> Copula:
    r"""Ranks the errors of past forecasts.

    Arguments:
        pits: The transforms of :math:`n` windows, with shape :math:`(n, H, D)`. NaN marks a missing outcome; a window
            shows a half of its cells, or is left out.
        max_blocks: The most windows that are kept, evenly spread.

    Returns:
        The copula; independence if there are fewer than two windows.
    """
    return _fit(pits, pits.shape[1], pits.shape[2], max_blocks)


def _fit(blocks: Tensor, horizon: int, channels: int, most: int) -> Copula:
    seen = (~blocks.isnan()).float().mean((1, 2)) if blocks.numel() else torch.zeros(0)
    whole = (seen >= 0.5).nonzero().squeeze(-1)
    if len(whole) < 2:
        return Independent(horizon, channels)
    some = np.linspace(0, len(whole) - 1, min(len(whole), most)).round().astype(int)
    return RankCopula(blocks[whole[torch.from_numpy(some)]])
