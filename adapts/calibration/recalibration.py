r"""Recalibration of margins, by a monotone map of their levels."""

from __future__ import annotations

__all__ = ["Recalibration", "inverse"]

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from ..data.times import Times
from ..distribution.pits import Pits
from ..distribution.quantile_function import LEVELS, QuantileFunction
from ..persistence.tensors import require_names, taken
from ..statistics.bootstrap import BlockScheme, block_scheme, student

_CAUTION = 2.0  # how many times its noise a deviation must be before half of it is believed
_NOISED = LEVELS[1::3]  # the levels at which noise is taken
_SPANS, _FIRST = 6, 2  # of time, each foretold from those before it, but for the first ones
_SURE = 0.8
_GRID = torch.tensor(LEVELS, dtype=torch.float64)
_CHUNK = 2**22  # levels read at once
_BINS = 1024  # of PITs, finer than any level
_NUMBERS, _FEWEST = 2**20, 64  # PITs that maps are chosen and fitted on, and windows at least
_ROUNDS = 30  # of self-consistency: the most that atoms are off by then is far below the noise


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
        maps: :math:`g` on the default level grid, a block of leads, phase of the season and channel, with shape
            :math:`(N, F, D, P)`; the identity if None. :math:`F = 1` where the season has no say.
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

    @property
    def phases(self) -> int:
        r"""How many phases of the season the maps differ by."""
        return 1 if self.maps is None else self.maps.shape[1]

    @property
    def seasonal(self) -> bool:
        r"""Whether the maps differ by the phase of the season."""
        return self.phases > 1

    @staticmethod
    def fit(
        pits: Pits | Tensor,
        blocks: Tensor,
        time: Times,
        *,
        phase: Tensor | None = None,
        phases: int = 1,
    ) -> Recalibration:
        r"""Fits the maps, coarse to fine: all together, a channel, a channel and block of leads, a channel and phase.

        Each step moves what the coarser one left towards the quantiles of its own PITs, by the James-Stein share
        :math:`(1 - 2 s^2 / d^2)^+`, where :math:`d` is how far both lie apart and :math:`s` how far they would by
        chance, by slow waves (see `BlockScheme`). Twice the noise, as later windows are never quite like earlier ones.
        Hence calibrated margins, and few windows, are left alone. The phases come last, for what the others left.

        At an atom of its law (a night without sun, a day without rain) an outcome only tells that its level lies within
        a jump. The quantiles then are those of the nonparametric maximum-likelihood law of levels that are known up to
        intervals, by self-consistency; quantiles of transforms drawn evenly from their jumps would not make the
        recalibrated law calibrated unless all windows jumped alike.

        References:
            | The Empirical Distribution Function with Arbitrarily Grouped, Censored and Truncated Data (Turnbull, 1976)

        Arguments:
            pits: The transforms of :math:`n` windows, with shape :math:`(n, H, D)`. NaN marks a missing outcome. A
                tensor is of laws without atoms.
            blocks: The block of each lead, with shape :math:`(H,)`.
            time: When the windows begin (`Windows.time`), in any order.
            phase: The phase of the season of each step, with shape :math:`(n, H)`; not looked at if None.
            phases: How many phases :math:`F` there are.

        Returns:
            The recalibration; the identity if nothing moved, or the windows make too few blocks (see
            `block_scheme`).
        """
        pits, clock = Pits.of(pits), block_scheme(time, len(blocks))
        if clock is None:
            return Recalibration.identity()
        number = int(blocks.max()) + 1
        together, by_block = torch.zeros(pits.shape[:2], dtype=torch.long), blocks.expand(pits.shape[:2])
        maps = _towards(_GRID, pits.reshape(len(pits), -1, 1), together.repeat(1, pits.shape[2]), 1, clock)
        maps = _towards(maps, pits, together, 1, clock)
        maps = _towards(maps, pits, by_block, number, clock)  # (N, D, P)
        found = Recalibration(maps.unsqueeze(1), blocks)
        if phase is not None and phases > 1:
            found = found._after(
                _towards(_GRID, pits.through(partial(found.adapted, phase=phase)), phase, phases, clock).unsqueeze(0)
            )
        return Recalibration.identity() if found.maps is not None and bool((found.maps == _GRID).all()) else found

    @staticmethod
    def chosen(
        pits: Pits | Tensor,
        blocks: Tensor,
        time: Times,
        *,
        phase: Tensor | None = None,
        phases: int = 1,
    ) -> tuple[Recalibration, str]:
        r"""Fits maps with and without the season, and takes what would have told the future better.

        Time is cut into six spans. Each but the first two is foretold by maps that are fitted on what lies before it;
        the better of the candidates, by the mean log score, is fitted on all windows if the 80 % lower bound of its
        gain, by slow waves (see `BlockScheme`), lies above zero, and the last span shows a gain. Where windows are cut
        by items (see `block_scheme`), spans are of items.

        References:
            | Present Position and Potential Developments: Some Personal Views (Dawid, 1984), for the prequential way

        Arguments:
            pits: As for `fit`.
            blocks: As for `fit`.
            time: As for `fit`.
            phase: As for `fit`.
            phases: As for `fit`.

        Returns:
            The recalibration, the identity if no gain is sure; and what was decided, in words.
        """
        pits = Pits.of(pits)
        phase = torch.zeros(pits.shape[:2], dtype=torch.long) if phase is None else phase
        some = _enough(pits)
        pits, time, phase = pits[some], time[some], phase[some]
        clock = block_scheme(time, len(blocks))
        if clock is None:
            return Recalibration.identity(), "left out, for windows are too few"
        ways = {"by blocks of leads": 1}
        if phases > 1:
            ways["by blocks of leads and the season"] = phases
        gains: dict[str, list[Tensor]] = {way: [] for way in ways}
        later = []
        for now, before, _ in _spans(clock)[_FIRST:]:
            if not (before.any() and now.any()):
                continue
            later.append(np.flatnonzero(now))
            for way, number in ways.items():
                found = Recalibration.fit(pits[before], blocks, time[before], phase=phase[before], phases=number)
                gains[way].append(found.log_score(pits[now], phase[now]))
        told = clock[np.concatenate(later)] if later else clock
        if not later or told.freedom >= told.bins:
            return Recalibration.identity(), "left out, for windows are too few"
        sure: dict[str, float] = {}
        for way, parts in gains.items():
            gain = torch.cat(parts).unsqueeze(1)  # (m, 1)
            spread = float(told.errors(gain, scaled=False).square().mean().sqrt())
            mean = float(gain.nanmean())
            if mean > student(_SURE, told.freedom) * spread and float(parts[-1].nanmean()) > 0:
                sure[way] = mean
        if not sure:
            return Recalibration.identity(), "left out, for no gain is sure"
        best = max(sure, key=sure.__getitem__)
        kept = Recalibration.fit(pits, blocks, time, phase=phase, phases=ways[best])
        return kept, f"{best} (log score {sure[best]:+.3f} a step on what came after)"

    @staticmethod
    def crossed(
        pits: Pits | Tensor,
        blocks: Tensor,
        time: Times,
        *,
        phase: Tensor | None = None,
        phases: int = 1,
    ) -> list[tuple[np.ndarray, Recalibration]]:
        r"""Fits maps for each of six spans of time on the windows outside it that share no target with it.

        What is scored under them (joint bands) is scored as later windows will be: by maps that did not see it.

        Arguments:
            pits: As for `fit`.
            blocks: As for `fit`.
            time: As for `fit`.
            phase: As for `fit`.
            phases: As for `fit`.

        Returns:
            Of each span, the numbers of its windows, and their maps; the identity for all of them where windows make
            too few blocks.
        """
        pits, clock = Pits.of(pits), block_scheme(time, len(blocks))
        if clock is None:
            return [(np.arange(len(pits)), Recalibration.identity())]
        found = []
        for now, before, behind in _spans(clock):
            inside, apart = np.flatnonzero(now), np.flatnonzero(before | behind)
            if not len(inside):
                continue
            rest = apart[_enough(pits[apart])] if len(apart) else apart
            maps = Recalibration.identity()
            if len(rest):
                maps = Recalibration.fit(
                    pits[rest], blocks, time[rest], phase=None if phase is None else phase[rest], phases=phases,
                )  # fmt: skip
            found.append((inside, maps))
        return found

    @staticmethod
    def conformal(pits: Tensor) -> Recalibration:
        r"""Conformal quantiles, a channel and lead by itself: split conformal prediction on the scale of PITs.

        The level that is read for :math:`\tau` is the :math:`\lceil (n + 1) \tau \rceil`-th smallest of :math:`n` PITs
        above the median, the :math:`\lfloor (n + 1) \tau \rfloor`-th below: if the new window is exchangeable with
        these, its interval covers at least what it says, for any law and any :math:`n`. An atom is covered whole, so
        that with atoms intervals cover more, and the weight of the atom itself is not made right: `fit` does that. A
        level for which :math:`n` is too small is shifted as the outermost one that it tells of, on normal scores, and
        has no guarantee.

        References:
            | Conformalized Quantile Regression (Romano et al., 2019)
            | https://arxiv.org/abs/1905.03222

        Arguments:
            pits: The transforms of :math:`n` windows, with shape :math:`(n, H, D)`. NaN marks a missing outcome.

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
        maps = torch.special.ndtr((_score(levels) + shift).sort(-1).values)
        return Recalibration(maps.unsqueeze(1), torch.arange(horizon))

    def apply(self, law: QuantileFunction, phase: Tensor | None = None) -> QuantileFunction:
        r"""Recalibrates margins.

        Arguments:
            law: The margins, with batch shape :math:`(n, H, D)`.
            phase: The phase of the season of each step, with shape :math:`(n, H)`; the mean over the season is taken
                if None.

        Returns:
            The recalibrated margins, at the law's levels and those of the grid; `law` itself by the identity.
        """
        if self.maps is None or self.blocks is None:
            return law
        levels = torch.tensor(sorted({*LEVELS, *law.levels.tolist()}), dtype=torch.float64)
        moved = _read(self.maps, levels.expand(*self.maps.shape[:3], -1))
        if phase is None or not self.seasonal:
            mean = torch.special.ndtr(_score(moved).mean(1)) if self.seasonal else moved[:, 0]
            return law.reread(levels, mean[self.blocks])  # (H, D, L)
        step = max(1, _CHUNK // (law.shape[1:].numel() * len(levels)))
        parts = [
            law[start : start + step].reread(levels, moved[self.blocks, phase[start : start + step]])
            for start in range(0, max(1, len(phase)), step)
        ]
        return QuantileFunction(parts[0].levels, torch.cat([part.values for part in parts]), law.support)

    def adapted(self, pits: Tensor, phase: Tensor | None = None) -> Tensor:
        r"""What PITs are under the recalibrated law, :math:`g^{-1}(u)`.

        Arguments:
            pits: The PITs under the law itself, with shape :math:`(*, H, D)`. NaN marks a missing step.
            phase: The phase of the season of each step, with shape :math:`(*, H)`; needed where the maps are seasonal.

        Returns:
            Those under the recalibrated law, with the same shape.
        """
        if self.maps is None or self.blocks is None:
            return pits
        found, maps = torch.empty_like(pits), _score(self.maps).to(pits.dtype)
        for block in range(len(maps)):
            leads = (self.blocks == block).nonzero().flatten()
            own = pits.index_select(-2, leads)
            if not self.seasonal:
                found.index_copy_(-2, leads, _through(maps[block, 0], own))
                continue
            assert phase is not None
            when = phase.index_select(-1, leads)
            for one in when.unique():
                some = when == one
                own[some] = _through(maps[block, one], own[some])
            found.index_copy_(-2, leads, own)
        return found

    def log_score(self, pits: Pits | Tensor, phase: Tensor | None = None) -> Tensor:
        r"""How much likelier than under the law itself is what came true, between which levels.

        Arguments:
            pits: The PITs under the law itself, with shape :math:`(n, H, D)`. NaN marks a missing step.
            phase: As for `adapted`.

        Returns:
            The mean over the steps and channels of each window of the logarithm of how much of the recalibrated law
            lies between the two levels of the grid that the PIT lies between, over how much of the law itself, with
            shape :math:`(n,)`, float64; NaN for a window without outcomes. At an atom it is how much of each law lies
            on it.
        """
        pits = Pits.of(pits)
        if self.maps is None or self.blocks is None:
            return torch.where(pits.lower.isnan(), torch.nan, 0.0).double().nanmean((1, 2))
        z = _score(_GRID).expand(self.maps.shape)
        below = torch.special.ndtr(inverse(_score(self.maps).flatten(0, 2), z.flatten(0, 2)).view(z.shape))
        inside, own = (torch.cat([edge[..., :1], edge.diff(dim=-1), 1 - edge[..., -1:]], -1) for edge in (below, _GRID))
        scores = (inside.clamp(min=1e-4) / own).log()  # (N, F, D, P + 1)
        place = torch.searchsorted(_GRID, pits.values.double().nan_to_num(0.5).contiguous())
        cell = torch.zeros(pits.shape[:2], dtype=torch.long) if not self.seasonal or phase is None else phase
        mine = scores[self.blocks[:, None], cell.unsqueeze(-1), torch.arange(pits.shape[2]), place]
        some = pits.jumps.flatten(0, 1).any(0)  # (D,)
        if bool(some.any()):
            jumps = pits[..., some]
            mapped = jumps.through(partial(Recalibration(self.maps[:, :, some], self.blocks).adapted, phase=phase))
            atom = ((mapped.upper - mapped.lower).clamp(min=1e-4) / (jumps.upper - jumps.lower)).log()
            mine[..., some] = mine[..., some].where(~jumps.jumps, atom.double())
        mean: Tensor = torch.where(pits.lower.isnan(), torch.nan, mine).nanmean((1, 2))
        return mean

    def _after(self, maps: Tensor) -> Recalibration:
        r"""What reads these maps at the levels of further ones, whose shape (N, F, D, P) broadcasts."""
        assert self.maps is not None
        shape = torch.broadcast_shapes(self.maps.shape, maps.shape)
        return Recalibration(_read(self.maps.expand(shape), maps.expand(shape)), self.blocks)

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

        Raises:
            ValueError: If a tensor is not as maps of levels are.
        """
        if not state:
            return Recalibration.identity()
        require_names("the recalibration", state, ["maps", "blocks"])
        maps = taken(state, "maps", torch.float64, (None, None, None, len(LEVELS)), low=0.0, high=1.0)
        if not maps.numel() or bool((maps.diff(dim=-1) < 0).any()):
            raise ValueError("the tensor 'maps' is expected to hold levels that rise")
        return Recalibration(maps, taken(state, "blocks", torch.int64, (None,), low=0, high=len(maps) - 1))


def _edges(values: Tensor, told: Tensor) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
    r"""The values (*, P), and where along the last axis the first and the last that are told stand, (*, 1) each."""
    first = told.int().argmax(-1, keepdim=True)
    last = told.shape[-1] - 1 - told.flip(-1).int().argmax(-1, keepdim=True)
    return (values, first), (values, last)


def _spans(clock: BlockScheme) -> list[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    r"""Which windows (n,) lie in each span of time, and which before and behind it share no target with these."""
    edges = np.quantile(np.unique(clock.time), np.linspace(0, 1, _SPANS + 1))
    return [
        (
            (clock.time >= first) & ((clock.time < stop) | (stop == edges[-1])),
            clock.time <= first - clock.reach,
            (clock.time >= stop + clock.reach) & (stop != edges[-1]),
        )
        for first, stop in pairwise(edges)
    ]


def _enough(pits: Pits) -> np.ndarray:
    r"""Which windows (n, H, D) to look at, evenly: as many as bound the cost, which maps do not feel."""
    most = max(_FEWEST, _NUMBERS // max(1, pits.shape[1:].numel()))
    return np.linspace(0, len(pits) - 1, min(len(pits), most)).round().astype(int)


def _consistent(points: Tensor, below: Tensor, above: Tensor) -> Tensor:
    r"""Counts (C, B) in bins, of which some are only known to lie in a bin or below it, others there or above it."""
    seen = ((below + above).sum(-1) > 0).nonzero().squeeze(-1)
    own, low, high = points[seen], below[seen], above[seen]
    total = (own + low + high).sum(-1, keepdim=True)
    found = (total / own.shape[-1]).expand_as(own)
    for _ in range(_ROUNDS):
        under, over = found.cumsum(-1), found.flip(-1).cumsum(-1).flip(-1)
        told = (low / under.clamp(min=1e-9)).flip(-1).cumsum(-1).flip(-1) + (high / over.clamp(min=1e-9)).cumsum(-1)
        found = own + found * told
    counts: Tensor = points.index_copy(0, seen, found)
    return counts


def _towards(maps: Tensor, pits: Pits, group: Tensor, groups: int, clock: BlockScheme) -> Tensor:
    r"""Maps, moved towards the quantiles (G, D, P) of PITs (n, H, D) in groups of steps (n, H), as noise allows."""
    target = _quantiles(pits, group, groups)
    member = torch.nn.functional.one_hot(group, groups).float()  # (n, H, G)
    values = pits.values
    count = torch.einsum("nhd,nhg->ngd", (~values.isnan()).float(), member).flatten(1)
    noise = torch.zeros(count.shape[1], dtype=torch.float64)
    for level in _NOISED:
        total = torch.einsum("nhd,nhg->ngd", (values <= level).float(), member).flatten(1)
        noise += clock.waves(total, count, scaled=False).square().mean(0) / len(_NOISED)
    apart = (target - maps).square().mean(-1)
    share = (1 - _CAUTION * noise.view(apart.shape) / apart).nan_to_num(0.0, neginf=0.0).clamp(min=0).unsqueeze(-1)
    moved = torch.special.ndtr(torch.lerp(_score(maps).expand_as(target), _score(target), share))
    return torch.where(share > 0, moved, maps)


def _read(maps: Tensor, levels: Tensor) -> Tensor:
    r"""Maps (*, P) at levels (*, Q): their shift on normal scores is interpolated, and goes on beyond the grid."""
    grid, z = _score(_GRID), _score(levels).contiguous()
    shift = _score(maps) - grid
    right = torch.searchsorted(grid, z).clamp(1, len(grid) - 1)
    weight = ((z - grid[right - 1]) / (grid[right] - grid[right - 1])).clamp(0, 1)
    found: Tensor = torch.special.ndtr(z + torch.lerp(shift.gather(-1, right - 1), shift.gather(-1, right), weight))
    return found


def inverse(maps: Tensor, z: Tensor) -> Tensor:
    r"""Returns the normal scores that increasing maps of the grid send to others.

    Arguments:
        maps: The maps on the default level grid, as normal scores, with shape :math:`(C, P)`.
        z: The normal scores that are sent to, with shape :math:`(C, m)`. NaN stays.
    """
    grid, maps, z = _score(_GRID).to(maps.dtype), maps.contiguous(), z.contiguous()
    right = torch.searchsorted(maps, z).clamp_(1, len(grid) - 1)
    low, high = maps.gather(1, right - 1), maps.gather(1, right)
    weight = ((z - low) / (high - low).clamp(min=1e-9)).clamp(0, 1)
    inner = torch.lerp(grid[right - 1], grid[right], weight)
    found: Tensor = inner + (z - maps[:, :1]).clamp(max=0) + (z - maps[:, -1:]).clamp(min=0)
    return found


def _through(maps: Tensor, pits: Tensor) -> Tensor:
    r"""What maps (D, P) of normal scores sent to PITs (*, D)."""
    # Not held away from 0 and 1: joint bands look at the outermost of thousands of cells.
    levels: Tensor = torch.special.ndtr(inverse(maps, torch.special.ndtri(pits).flatten(0, -2).T))
    return levels.T.reshape(pits.shape)


def _score(levels: Tensor) -> Tensor:
    scores: Tensor = torch.special.ndtri(levels.clamp(1e-6, 1 - 1e-6))
    return scores


def _quantiles(pits: Pits, group: Tensor, groups: int) -> Tensor:
    r"""The quantiles of PITs (n, H, D) in groups of steps (n, H), (G, D, P) float64; the grid where nothing is seen."""
    channels = pits.shape[2]
    cell = group.unsqueeze(-1) * channels + torch.arange(channels)  # (n, H, D)

    def histogram(of: Tensor, some: Tensor) -> Tensor:
        fine = (of.nan_to_num(0.0) * _BINS).long().clamp_(0, _BINS - 1)
        return torch.bincount((cell * _BINS + fine)[some], minlength=groups * channels * _BINS).view(-1, _BINS).double()

    lowest, highest = (pits.jumps & side for side in (pits.lower <= 0, pits.upper >= 1))  # atoms on bounds
    counts = histogram(pits.values, ~(pits.lower.isnan() | lowest | highest))
    if bool((lowest | highest).any()):
        counts = _consistent(counts, histogram(pits.upper, lowest & ~highest), histogram(pits.lower, highest & ~lowest))
    below = counts.cumsum(-1)
    total = below[:, -1:]
    wanted = _GRID * total  # (G * D, P)
    place = torch.searchsorted(below, wanted.contiguous()).clamp_(max=_BINS - 1)
    inside = counts.gather(1, place)
    part = ((wanted - below.gather(1, place) + inside) / inside.clamp(min=1)).clamp(0, 1)
    return torch.where(total > 0, (place + part) / _BINS, _GRID).view(groups, channels, -1)
