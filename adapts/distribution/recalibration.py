r"""Recalibration of margins, by a monotone map of their levels."""

from __future__ import annotations

__all__ = ["Recalibration"]

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from .blocks import block_bootstrap, resampling_clock
from .quantiles import LEVELS, QuantileFunction

_CAUTION = 2.0  # how many times its noise a deviation must be before half of it is believed


@dataclass(frozen=True)
class Recalibration:
    r"""Reads each margin at other levels, :math:`Q'(u) = Q(g(u))`.

    With :math:`g` the quantile function of the PITs, the recalibrated margin is calibrated. It is monotone, so ranks,
    and with them the copula, stay. Between the levels of its grid, and beyond them, :math:`g` is interpolated on
    normal scores, where it goes on with a constant shift, hence continuously to 0 and 1.

    References:
        | Accurate Uncertainties for Deep Learning Using Calibrated Regression (Kuleshov et al., 2018)
        | https://arxiv.org/abs/1807.00263

    Arguments:
        maps: :math:`g` on the default level grid, a block of leads and channel, with shape :math:`(N, D, P)`; the
            identity if None.
        blocks: The block of each lead, with shape :math:`(H,)`; None for the identity.
    """

    maps: Tensor | None = None
    blocks: Tensor | None = None

    @staticmethod
    def identity() -> Recalibration:
        r"""The recalibration that changes nothing.

        Returns:
            The identity.
        """
        return Recalibration()

    @staticmethod
    def fit(
        pits: Tensor, blocks: Tensor, origin: np.ndarray, item: np.ndarray | None = None, *, seed: int = 0
    ) -> Recalibration:
        r"""Fits the maps, coarse to fine: all together, then a channel, then a channel and block of leads.

        Each step moves what the coarser one left towards the quantiles of its own PITs, by the James-Stein share
        :math:`(1 - 2 s^2 / d^2)^+`, where :math:`d` is how far both lie apart and :math:`s` how far they would by
        chance, by the circular block bootstrap. Twice the noise, as later windows are never quite like earlier ones.
        Hence calibrated margins, and few windows, are left alone.

        Arguments:
            pits: The transforms of :math:`n` windows, with shape :math:`(n, H, D)`. NaN marks a missing outcome.
            blocks: The block of each lead, with shape :math:`(H,)`.
            origin: The row of each window's first target, with shape :math:`(n,)`.
            item: The item of each window, with shape :math:`(n,)`; one item if None.
            seed: The seed of the bootstrap.

        Returns:
            The recalibration; the identity if nothing moved, or the windows make too few blocks (see
            `resampling_clock`).
        """
        clock = resampling_clock(origin, len(blocks), item)
        if clock is None:
            return Recalibration.identity()
        number, channels = int(blocks.max()) + 1, pits.shape[2]
        groups = [pits[:, blocks == block].flatten(0, 1) for block in range(number)]  # (n*h, D) each
        fine = torch.stack([_quantiles(group) for group in groups])  # (N, D, P)
        targets = (_quantiles(pits.reshape(-1, 1)), _quantiles(pits.flatten(0, 1)), fine)

        noise = torch.zeros(1 + channels + number * channels, dtype=torch.float64)
        generator = torch.Generator().manual_seed(seed)
        for level in LEVELS:
            below = torch.where(pits.isnan(), torch.nan, (pits <= level).double())
            cells = torch.stack([below[:, blocks == block].nanmean(1) for block in range(number)], 1)  # (n, N, D)
            shares = torch.cat([cells.nanmean((1, 2)).unsqueeze(1), cells.nanmean(1), cells.flatten(1)], 1)
            noise += block_bootstrap(shares, clock.time, clock.block_length, 200, generator).var(0) / len(LEVELS)
        noise *= clock.blocks / (clock.blocks - 1)

        levels = torch.tensor(LEVELS, dtype=torch.float64)
        maps = levels.expand(number, channels, -1)
        parts = noise[:1], noise[1 : 1 + channels], noise[1 + channels :].view(number, channels)
        for target, chance in zip(targets, parts, strict=True):
            apart = (target - maps).square().mean(-1)
            share = (1 - _CAUTION * chance / apart).nan_to_num(0.0, neginf=0.0).clamp(min=0).unsqueeze(-1)
            moved = torch.special.ndtr(torch.lerp(_score(maps), _score(target).expand_as(maps), share))
            maps = torch.where(share > 0, moved, maps)
        return Recalibration(maps, blocks) if bool((maps != levels).any()) else Recalibration.identity()

    @staticmethod
    def conformal(pits: Tensor, reach: int = 0) -> Recalibration:
        r"""Conformal quantiles, a channel and lead by itself: split conformal prediction on the scale of PITs.

        The level that is read for :math:`\tau` is the :math:`\lceil (n + 1) \tau \rceil`-th smallest of :math:`n` PITs
        above the median, the :math:`\lfloor (n + 1) \tau \rfloor`-th below: if the new window is exchangeable with
        these, its interval covers at least what it says, for any law and any :math:`n`. A level for which :math:`n` is
        too small is shifted as the outermost one that it tells of, on normal scores, and has no guarantee.

        References:
            | Conformalized Quantile Regression (Romano et al., 2019)
            | https://arxiv.org/abs/1905.03222

        Arguments:
            pits: The transforms of :math:`n` windows, with shape :math:`(n, H, D)`. NaN marks a missing outcome.
            reach: How many leads on either side share their shifts with a lead, evenly; what is gained in steadiness
                is lost in the guarantee, which holds for 0.

        Returns:
            The recalibration; the identity for fewer than two windows.
        """
        number, horizon, channels = pits.shape
        if number < 2:
            return Recalibration.identity()
        levels = torch.tensor(LEVELS, dtype=torch.float64)
        ordered = pits.double().movedim(0, -1).nan_to_num(nan=torch.inf).sort(-1).values  # (H, D, n)
        count = (~pits.isnan()).sum(0).unsqueeze(-1)  # (H, D, 1)
        place = (count + 1) * levels  # (H, D, P)
        rank = torch.where(levels > 0.5, (place - 1e-9).ceil(), (place + 1e-9).floor()).long()
        told = (rank >= 1) & (rank <= count)
        found = ordered.gather(-1, (rank - 1).clamp(0, number - 1))
        shift = torch.where(told, _score(found) - _score(levels), torch.nan)
        first, last = (edge.expand_as(told).gather(-1, at) for edge, at in _edges(shift, told))
        lower = torch.arange(len(LEVELS)) < len(LEVELS) // 2
        shift = torch.where(told, shift, torch.where(lower, first, last)).nan_to_num(0.0)
        if reach:
            near = (torch.arange(horizon).unsqueeze(-1) - torch.arange(horizon)).abs() <= reach
            weights = near.double() / near.sum(-1, keepdim=True)
            shift = (weights @ shift.flatten(1)).view_as(shift)
        maps = torch.special.ndtr((_score(levels) + shift).sort(-1).values)
        return Recalibration(maps, torch.arange(horizon))

    def apply(self, law: QuantileFunction) -> QuantileFunction:
        r"""Recalibrates margins.

        Arguments:
            law: The margins, with batch shape :math:`(n, H, D)`.

        Returns:
            The recalibrated margins, at the law's levels and those of the grid; `law` itself by the identity.
        """
        if self.maps is None or self.blocks is None:
            return law
        grid = torch.tensor(LEVELS, dtype=torch.float64)
        levels = torch.tensor(sorted({*LEVELS, *law.levels.tolist()}), dtype=torch.float64)
        shift = _score(self.maps) - _score(grid)  # (N, D, P)
        right = torch.searchsorted(grid, levels).clamp(1, len(grid) - 1)
        scores = _score(grid)
        weight = ((_score(levels) - scores[right - 1]) / (scores[right] - scores[right - 1])).clamp(0, 1)
        moved = torch.special.ndtr(_score(levels) + torch.lerp(shift[..., right - 1], shift[..., right], weight))
        return law.reread(levels, moved[self.blocks])  # (H, D, L)

    def state(self) -> dict[str, Tensor]:
        r"""What the recalibration is made of.

        Returns:
            Tensors only; none for the identity.
        """
        return {} if self.maps is None or self.blocks is None else {"maps": self.maps, "blocks": self.blocks}

    @staticmethod
    def from_state(state: Mapping[str, Tensor]) -> Recalibration:
        r"""Makes a recalibration again from its `state()`.

        Arguments:
            state: The tensors.

        Returns:
            The recalibration.
        """
        return Recalibration(state.get("maps"), state.get("blocks"))


def _edges(values: Tensor, told: Tensor) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
    r"""The values (*, P), and where along the last axis the first and the last that are told stand, (*, 1) each."""
    first = told.int().argmax(-1, keepdim=True)
    last = told.shape[-1] - 1 - told.flip(-1).int().argmax(-1, keepdim=True)
    return (values, first), (values, last)


def _score(levels: Tensor) -> Tensor:
    scores: Tensor = torch.special.ndtri(levels.clamp(1e-6, 1 - 1e-6))
    return scores


def _quantiles(pits: Tensor) -> Tensor:
    r"""The quantiles of each column (n, C) on the grid, (C, P) float64; the grid itself where nothing was seen."""
    levels = torch.tensor(LEVELS, dtype=torch.float64)
    ordered = pits.double().T.nan_to_num(nan=torch.inf).sort(dim=-1).values  # (C, n)
    count = (~pits.isnan()).sum(0).unsqueeze(-1)
    position = (levels * count - 0.5).clamp(min=0).minimum((count - 1).clamp(min=0))
    below = position.floor().long()
    above = (below + 1).minimum((count - 1).clamp(min=0))
    values = torch.lerp(ordered.gather(-1, below), ordered.gather(-1, above), position - below)
    return torch.where(count > 0, values, levels)
