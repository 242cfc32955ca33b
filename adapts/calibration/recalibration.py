r"""Recalibration of marginals by monotone maps of their levels."""

from __future__ import annotations

__all__ = ["Recalibration", "inverse"]

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from ..batching import evenly_spaced
from ..data.times import Times
from ..distribution.levels import LEVELS
from ..distribution.pits import Pits
from ..distribution.quantile_function import QuantileFunction
from ..persistence.tensors import require_names, taken
from ..statistics.bootstrap import BlockScheme, block_scheme, student_t_quantile

_NOISE_FACTOR = 2.0  # factor on the noise variance in the James-Stein weight: half weight at twice the standard error
_NOISE_LEVELS = LEVELS[1::3]  # the levels at which the noise is estimated
_SPANS, _FIRST_SCORED = 6, 2  # spans of time; each after the first two is scored by maps fitted on the spans before it
_CONFIDENCE = 0.8
_GRID = torch.tensor(LEVELS, dtype=torch.float64)
_CHUNK = 2**22  # levels evaluated at once
_BINS = 1024  # bins of PITs, finer than the level grid
_NUMBERS, _FEWEST = 2**20, 64  # maximum number of PITs to fit and select maps on, and minimum number of windows
_ROUNDS = 30  # self-consistency iterations: the remaining error at atoms is far below the noise


@dataclass(frozen=True)
class Recalibration:
    r"""Recalibration map of marginal levels, :math:`Q'(u) = Q(g(u))`.

    With :math:`g` the quantile function of the PITs, the recalibrated marginal is calibrated. The map is monotone, so
    it preserves ranks and thus the copula. Between grid levels, :math:`g` is interpolated on normal scores. Beyond the
    grid it continues with a constant shift there, hence continuously to 0 and 1.

    References:
        | Accurate Uncertainties for Deep Learning Using Calibrated Regression (Kuleshov et al., 2018)
        | https://arxiv.org/abs/1807.00263

    Arguments:
        maps: The map :math:`g` on the default level grid, per block of horizon steps, season index and channel, with
            shape :math:`(N, F, D, P)`; the identity if None. :math:`F = 1` without seasonality.
        blocks: The block of each horizon step, with shape :math:`(H,)`; None for the identity.
    """

    maps: Tensor | None = None
    blocks: Tensor | None = None

    @staticmethod
    def identity() -> Recalibration:
        r"""Return the identity map.

        Returns:
            The identity.
        """
        return Recalibration()

    @property
    def num_seasons(self) -> int:
        r"""Return the number of season indices of the maps."""
        return 1 if self.maps is None else self.maps.shape[1]

    @property
    def seasonal(self) -> bool:
        r"""Return whether the maps differ by season index."""
        return self.num_seasons > 1

    @staticmethod
    def fit(
        pits: Pits | Tensor,
        blocks: Tensor,
        time: Times,
        *,
        season_index: Tensor | None = None,
        num_seasons: int = 1,
    ) -> Recalibration:
        r"""Fit the maps from coarse to fine.

        The stages are: all cells together, each channel, each channel and block of horizon steps, each channel and
        season index. Each stage moves the PITs left by the coarser one towards their own quantiles. The step is the
        James-Stein weight :math:`(1 - 2 s^2 / d^2)^+`, where :math:`d` is the distance and :math:`s` its standard error
        from low-frequency projections (see `BlockScheme`). The noise counts twice, as later windows never match earlier
        ones exactly. Hence calibrated marginals, and few windows, lead to the identity. The seasonal stage comes last
        and corrects what the others leave.

        An observation on an atom (a night without sun, a day without rain) only restricts its level to an interval, the
        jump. The quantiles then come from the nonparametric maximum-likelihood estimate for interval-censored levels,
        by self-consistency. PITs drawn uniformly from their jumps would calibrate the result only if all windows had
        the same jumps.

        References:
            | The Empirical Distribution Function with Arbitrarily Grouped, Censored and Truncated Data (Turnbull, 1976)

        Arguments:
            pits: The PITs of :math:`n` windows, with shape :math:`(n, H, D)`. NaN marks a missing observation. A tensor
                implies marginals without atoms.
            blocks: The block of each horizon step, with shape :math:`(H,)`.
            time: The start times of the windows (`Windows.time`), in any order.
            season_index: The season index of each step, with shape :math:`(n, H)`; ignored if None.
            num_seasons: The number of season indices :math:`F`.

        Returns:
            The recalibration; the identity if no map moved or there are too few blocks of time (see `block_scheme`).
        """
        pits, scheme = Pits.of(pits), block_scheme(time, len(blocks))
        if scheme is None:
            return Recalibration.identity()
        number = int(blocks.max()) + 1
        together, by_block = torch.zeros(pits.shape[:2], dtype=torch.long), blocks.expand(pits.shape[:2])
        maps = _shrunk_towards(_GRID, pits.reshape(len(pits), -1, 1), together.repeat(1, pits.shape[2]), 1, scheme)
        maps = _shrunk_towards(maps, pits, together, 1, scheme)
        maps = _shrunk_towards(maps, pits, by_block, number, scheme)  # (N, D, P)
        recalibration = Recalibration(maps.unsqueeze(1), blocks)
        if season_index is not None and num_seasons > 1:
            mapped = pits.through(partial(recalibration.adapted, season_index=season_index))
            seasonal = _shrunk_towards(_GRID, mapped, season_index, num_seasons, scheme)
            recalibration = recalibration._compose(seasonal.unsqueeze(0))
        return (
            Recalibration.identity()
            if recalibration.maps is not None and bool((recalibration.maps == _GRID).all())
            else recalibration
        )

    @staticmethod
    def select(
        pits: Pits | Tensor,
        blocks: Tensor,
        time: Times,
        *,
        season_index: Tensor | None = None,
        num_seasons: int = 1,
    ) -> tuple[Recalibration, str]:
        r"""Fit maps with and without seasonality, and select out of sample.

        Time is divided into six spans. Maps fitted on the earlier windows score each span but the first two. A
        candidate is significant if the 80 % lower bound of its mean log-score gain (see `BlockScheme`) is above zero
        and the last span shows a gain. The best significant candidate is refitted on all windows. If windows are
        blocked by item (see `block_scheme`), the spans consist of items.

        References:
            | Present Position and Potential Developments: Some Personal Views (Dawid, 1984), for the prequential way

        Arguments:
            pits: As for `fit`.
            blocks: As for `fit`.
            time: As for `fit`.
            season_index: As for `fit`.
            num_seasons: As for `fit`.

        Returns:
            The recalibration, the identity without a significant gain; and the decision in words.
        """
        pits = Pits.of(pits)
        season_index = torch.zeros(pits.shape[:2], dtype=torch.long) if season_index is None else season_index
        thinned = _enough(pits)
        pits, time, season_index = pits[thinned], time[thinned], season_index[thinned]
        scheme = block_scheme(time, len(blocks))
        if scheme is None:
            return Recalibration.identity(), "left out: too few windows"
        candidates = {"by blocks of leads": 1}
        if num_seasons > 1:
            candidates["by blocks of leads and the season"] = num_seasons
        gains: dict[str, list[Tensor]] = {candidate: [] for candidate in candidates}
        scored = []
        for span, before, _ in _spans(scheme)[_FIRST_SCORED:]:
            if not (before.any() and span.any()):
                continue
            scored.append(np.flatnonzero(span))
            for candidate, number in candidates.items():
                recalibration = Recalibration.fit(
                    pits[before], blocks, time[before], season_index=season_index[before], num_seasons=number
                )
                gains[candidate].append(recalibration.log_score(pits[span], season_index[span]))
        scored_scheme = scheme[np.concatenate(scored)] if scored else scheme
        if not scored or scored_scheme.degrees_of_freedom >= scored_scheme.bins:
            return Recalibration.identity(), "left out: too few windows"
        significant: dict[str, float] = {}
        for candidate, parts in gains.items():
            gain = torch.cat(parts).unsqueeze(1)  # (m, 1)
            standard_error = float(scored_scheme.errors(gain, scaled=False).square().mean().sqrt())
            mean = float(gain.nanmean())
            if (
                mean > student_t_quantile(_CONFIDENCE, scored_scheme.degrees_of_freedom) * standard_error
                and float(parts[-1].nanmean()) > 0
            ):
                significant[candidate] = mean
        if not significant:
            return Recalibration.identity(), "left out: no significant gain"
        best = max(significant, key=significant.__getitem__)
        selected = Recalibration.fit(pits, blocks, time, season_index=season_index, num_seasons=candidates[best])
        return selected, f"{best} (log score {significant[best]:+.3f} per step, out of sample)"

    @staticmethod
    def cross_fitted(
        pits: Pits | Tensor,
        blocks: Tensor,
        time: Times,
        *,
        season_index: Tensor | None = None,
        num_seasons: int = 1,
    ) -> list[tuple[np.ndarray, Recalibration]]:
        r"""Fit cross-fitted maps: for each of six spans of time, on windows that share no target with it.

        Scores under these maps (joint bands) are out of sample, as those of later windows are.

        Arguments:
            pits: As for `fit`.
            blocks: As for `fit`.
            time: As for `fit`.
            season_index: As for `fit`.
            num_seasons: As for `fit`.

        Returns:
            For each span, the indices of its windows and their maps. With too few blocks of time, one entry: all
            windows and the identity.
        """
        pits, scheme = Pits.of(pits), block_scheme(time, len(blocks))
        if scheme is None:
            return [(np.arange(len(pits)), Recalibration.identity())]
        fits = []
        for span, before, after in _spans(scheme):
            indices, others = np.flatnonzero(span), np.flatnonzero(before | after)
            if not len(indices):
                continue
            train = others[_enough(pits[others])] if len(others) else others
            maps = Recalibration.identity()
            if len(train):
                maps = Recalibration.fit(
                    pits[train], blocks, time[train], num_seasons=num_seasons,
                    season_index=None if season_index is None else season_index[train],
                )  # fmt: skip
            fits.append((indices, maps))
        return fits

    @staticmethod
    def conformal(pits: Tensor) -> Recalibration:
        r"""Fit split-conformal quantiles of PITs, per channel and horizon step.

        The level that replaces :math:`\tau` is the :math:`\lceil (n + 1) \tau \rceil`-th smallest of :math:`n` PITs
        above the median, and the :math:`\lfloor (n + 1) \tau \rfloor`-th below. If the new window is exchangeable with
        these, its interval has at least the nominal coverage, for any distribution and any :math:`n`. Intervals include
        atoms as a whole and so may cover more. The probability of an atom itself is not corrected; `fit` does that. A
        level for which :math:`n` is too small takes the shift of the outermost available level, on normal scores,
        without guarantee.

        References:
            | Conformalized Quantile Regression (Romano et al., 2019)
            | https://arxiv.org/abs/1905.03222

        Arguments:
            pits: The PITs of :math:`n` windows, with shape :math:`(n, H, D)`. NaN marks a missing observation.

        Returns:
            The recalibration; the identity for fewer than two windows.
        """
        number, horizon, channels = pits.shape
        if number < 2:
            return Recalibration.identity()
        levels = torch.tensor(LEVELS, dtype=torch.float64)
        ordered = pits.double().movedim(0, -1).nan_to_num(nan=torch.inf).sort(-1).values  # (H, D, n)
        count = (~pits.isnan()).sum(0).unsqueeze(-1)  # (H, D, 1)
        position = (count + 1) * levels  # (H, D, P)
        rank = torch.where(levels > 0.5, (position - 1e-9).ceil(), (position + 1e-9).floor()).long()
        available = (rank >= 1) & (rank <= count)
        quantiles = ordered.gather(-1, (rank - 1).clamp(0, number - 1))
        shift = torch.where(available, _score(quantiles) - _score(levels), torch.nan)
        first, last = (edge.expand_as(available).gather(-1, index) for edge, index in _edges(shift, available))
        lower = torch.arange(len(LEVELS)) < len(LEVELS) // 2
        shift = torch.where(available, shift, torch.where(lower, first, last)).nan_to_num(0.0)
        maps = torch.special.ndtr((_score(levels) + shift).sort(-1).values)
        return Recalibration(maps.unsqueeze(1), torch.arange(horizon))

    def apply(self, marginals: QuantileFunction, season_index: Tensor | None = None) -> QuantileFunction:
        r"""Recalibrate marginals.

        Arguments:
            marginals: The marginals, with batch shape :math:`(n, H, D)`.
            season_index: The season index of each step, with shape :math:`(n, H)`; if None, seasonal maps are averaged
                on normal scores.

        Returns:
            The recalibrated marginals, at their own levels and those of the grid; the identity
                returns `marginals` itself.
        """
        if self.maps is None or self.blocks is None:
            return marginals
        levels = torch.tensor(sorted({*LEVELS, *marginals.levels.tolist()}), dtype=torch.float64)
        moved = _interpolate(self.maps, levels.expand(*self.maps.shape[:3], -1))
        if season_index is None or not self.seasonal:
            mean = torch.special.ndtr(_score(moved).mean(1)) if self.seasonal else moved[:, 0]
            return marginals.remap_levels(levels, mean[self.blocks])  # (H, D, L)
        step = max(1, _CHUNK // (marginals.shape[1:].numel() * len(levels)))
        parts = [
            marginals[start : start + step].remap_levels(levels, moved[self.blocks, season_index[start : start + step]])
            for start in range(0, max(1, len(season_index)), step)
        ]
        return QuantileFunction(parts[0].levels, torch.cat([part.values for part in parts]), marginals.support)

    def adapted(self, pits: Tensor, season_index: Tensor | None = None) -> Tensor:
        r"""Return PITs under the recalibrated marginals, :math:`g^{-1}(u)`.

        Arguments:
            pits: The PITs under the original marginals, with shape :math:`(*, H, D)`. NaN marks a missing step.
            season_index: The season index of each step, with shape :math:`(*, H)`; required for seasonal maps.

        Returns:
            The PITs under the recalibrated marginals, with the same shape.
        """
        if self.maps is None or self.blocks is None:
            return pits
        mapped, maps = torch.empty_like(pits), _score(self.maps).to(pits.dtype)
        for block in range(len(maps)):
            steps = (self.blocks == block).nonzero().flatten()
            block_pits = pits.index_select(-2, steps)
            if not self.seasonal:
                mapped.index_copy_(-2, steps, _apply_inverse(maps[block, 0], block_pits))
                continue
            assert season_index is not None
            season = season_index.index_select(-1, steps)
            for index in season.unique():
                selected = season == index
                block_pits[selected] = _apply_inverse(maps[block, index], block_pits[selected])
            mapped.index_copy_(-2, steps, block_pits)
        return mapped

    def log_score(self, pits: Pits | Tensor, season_index: Tensor | None = None) -> Tensor:
        r"""Return the gain in log score over the original marginals, for observations binned by the grid levels.

        Arguments:
            pits: The PITs under the original marginals, with shape :math:`(n, H, D)`. NaN marks a missing step.
            season_index: As for `adapted`.

        Returns:
            The mean log probability ratio of each window, over its steps and channels, with shape :math:`(n,)`,
            float64; NaN without observations. The ratio compares the probabilities of the bin between neighbouring grid
            levels that holds the PIT: recalibrated over original. At an atom, it compares the probabilities of the
            atom.
        """
        pits = Pits.of(pits)
        if self.maps is None or self.blocks is None:
            return torch.where(pits.lower.isnan(), torch.nan, 0.0).double().nanmean((1, 2))
        z = _score(_GRID).expand(self.maps.shape)
        below = torch.special.ndtr(inverse(_score(self.maps).flatten(0, 2), z.flatten(0, 2)).view(z.shape))
        recalibrated, original = (
            torch.cat([edge[..., :1], edge.diff(dim=-1), 1 - edge[..., -1:]], -1) for edge in (below, _GRID)
        )
        scores = (recalibrated.clamp(min=1e-4) / original).log()  # (N, F, D, P + 1)
        bin_index = torch.searchsorted(_GRID, pits.values.double().nan_to_num(0.5).contiguous())
        season = (
            torch.zeros(pits.shape[:2], dtype=torch.long) if not self.seasonal or season_index is None else season_index
        )
        scores_of_cells = scores[self.blocks[:, None], season.unsqueeze(-1), torch.arange(pits.shape[2]), bin_index]
        with_atoms = pits.jumps.flatten(0, 1).any(0)  # (D,)
        if bool(with_atoms.any()):
            jumps = pits[..., with_atoms]
            mapped_jumps = jumps.through(
                partial(Recalibration(self.maps[:, :, with_atoms], self.blocks).adapted, season_index=season_index)
            )
            atom = ((mapped_jumps.upper - mapped_jumps.lower).clamp(min=1e-4) / (jumps.upper - jumps.lower)).log()
            scores_of_cells[..., with_atoms] = scores_of_cells[..., with_atoms].where(~jumps.jumps, atom.double())
        mean: Tensor = torch.where(pits.lower.isnan(), torch.nan, scores_of_cells).nanmean((1, 2))
        return mean

    def _compose(self, maps: Tensor) -> Recalibration:
        r"""Compose these maps with further ones, whose shape (N, F, D, P) broadcasts."""
        assert self.maps is not None
        shape = torch.broadcast_shapes(self.maps.shape, maps.shape)
        return Recalibration(_interpolate(self.maps.expand(shape), maps.expand(shape)), self.blocks)

    def state(self) -> dict[str, Tensor]:
        r"""Return the tensors that define the recalibration.

        Returns:
            Tensors only; none for the identity.
        """
        return {} if self.maps is None or self.blocks is None else {"maps": self.maps, "blocks": self.blocks}

    @staticmethod
    def from_state(state: Mapping[str, Tensor]) -> Recalibration:
        r"""Restore a recalibration from its `state()`.

        Arguments:
            state: The tensors.

        Returns:
            The recalibration.

        Raises:
            ValueError: If a tensor does not hold valid maps.
        """
        if not state:
            return Recalibration.identity()
        require_names("the recalibration", state, ["maps", "blocks"])
        maps = taken(state, "maps", torch.float64, (None, None, None, len(LEVELS)), low=0.0, high=1.0)
        if not maps.numel() or bool((maps.diff(dim=-1) < 0).any()):
            raise ValueError("the tensor 'maps' is expected to hold increasing levels")
        return Recalibration(maps, taken(state, "blocks", torch.int64, (None,), low=0, high=len(maps) - 1))


def _edges(values: Tensor, available: Tensor) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
    r"""Return values (*, P) with the index of the first, and of the last, available entry, (*, 1) each."""
    first = available.int().argmax(-1, keepdim=True)
    last = available.shape[-1] - 1 - available.flip(-1).int().argmax(-1, keepdim=True)
    return (values, first), (values, last)


def _spans(scheme: BlockScheme) -> list[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    r"""Return masks (n,) of the windows in each span of time, and before and after it without shared targets."""
    edges = np.quantile(np.unique(scheme.time), np.linspace(0, 1, _SPANS + 1))
    return [
        (
            (scheme.time >= first) & ((scheme.time < stop) | (stop == edges[-1])),
            scheme.time <= first - scheme.dependence_length,
            (scheme.time >= stop + scheme.dependence_length) & (stop != edges[-1]),
        )
        for first, stop in pairwise(edges)
    ]


def _enough(pits: Pits) -> np.ndarray:
    r"""Return indices of evenly thinned windows (n, H, D): as many as the cost bound permits."""
    limit = max(_FEWEST, _NUMBERS // max(1, pits.shape[1:].numel()))
    return evenly_spaced(len(pits), limit)


def _consistent(points: Tensor, below: Tensor, above: Tensor) -> Tensor:
    r"""Return counts (C, B) with censored ones distributed over the bins by self-consistency.

    Arguments:
        points: The counts in each bin.
        below: The counts known to lie in a bin or below it.
        above: The counts known to lie in a bin or above it.
    """
    censored = ((below + above).sum(-1) > 0).nonzero().squeeze(-1)
    exact, low, high = points[censored], below[censored], above[censored]
    total = (exact + low + high).sum(-1, keepdim=True)
    estimate = (total / exact.shape[-1]).expand_as(exact)
    for _ in range(_ROUNDS):
        cumulative, reverse_cumulative = estimate.cumsum(-1), estimate.flip(-1).cumsum(-1).flip(-1)
        weights = (low / cumulative.clamp(min=1e-9)).flip(-1).cumsum(-1).flip(-1) + (
            high / reverse_cumulative.clamp(min=1e-9)
        ).cumsum(-1)
        estimate = exact + estimate * weights
    counts: Tensor = points.index_copy(0, censored, estimate)
    return counts


def _shrunk_towards(maps: Tensor, pits: Pits, group: Tensor, groups: int, scheme: BlockScheme) -> Tensor:
    r"""Shrink maps towards the quantiles (G, D, P) of PITs (n, H, D) in groups of steps (n, H)."""
    target = _quantiles(pits, group, groups)
    member = torch.nn.functional.one_hot(group, groups).float()  # (n, H, G)
    values = pits.values
    count = torch.einsum("nhd,nhg->ngd", (~values.isnan()).float(), member).flatten(1)
    noise = torch.zeros(count.shape[1], dtype=torch.float64)
    for level in _NOISE_LEVELS:
        total = torch.einsum("nhd,nhg->ngd", (values <= level).float(), member).flatten(1)
        noise += scheme.projections(total, count, scaled=False).square().mean(0) / len(_NOISE_LEVELS)
    distance = (target - maps).square().mean(-1)
    weight = (
        (1 - _NOISE_FACTOR * noise.view(distance.shape) / distance)
        .nan_to_num(0.0, neginf=0.0)
        .clamp(min=0)
        .unsqueeze(-1)
    )
    moved = torch.special.ndtr(torch.lerp(_score(maps).expand_as(target), _score(target), weight))
    return torch.where(weight > 0, moved, maps)


def _interpolate(maps: Tensor, levels: Tensor) -> Tensor:
    r"""Return maps (*, P) at levels (*, Q), by interpolating their shifts on normal scores.

    The shift is constant beyond the grid.
    """
    grid, z = _score(_GRID), _score(levels).contiguous()
    shift = _score(maps) - grid
    right = torch.searchsorted(grid, z).clamp(1, len(grid) - 1)
    weight = ((z - grid[right - 1]) / (grid[right] - grid[right - 1])).clamp(0, 1)
    values: Tensor = torch.special.ndtr(z + torch.lerp(shift.gather(-1, right - 1), shift.gather(-1, right), weight))
    return values


def inverse(maps: Tensor, z: Tensor) -> Tensor:
    r"""Return normal scores that increasing maps of the level grid send to given ones.

    Arguments:
        maps: The maps on the default level grid, as normal scores, with shape :math:`(C, P)`.
        z: The mapped normal scores, with shape :math:`(C, m)`. NaN stays.
    """
    grid, maps, z = _score(_GRID).to(maps.dtype), maps.contiguous(), z.contiguous()
    right = torch.searchsorted(maps, z).clamp_(1, len(grid) - 1)
    low, high = maps.gather(1, right - 1), maps.gather(1, right)
    weight = ((z - low) / (high - low).clamp(min=1e-9)).clamp(0, 1)
    interpolated = torch.lerp(grid[right - 1], grid[right], weight)
    preimages: Tensor = interpolated + (z - maps[:, :1]).clamp(max=0) + (z - maps[:, -1:]).clamp(min=0)
    return preimages


def _apply_inverse(maps: Tensor, pits: Tensor) -> Tensor:
    r"""Apply inverse maps (D, P) of normal scores to PITs (*, D)."""
    # Not clipped away from 0 and 1: joint bands use the maximum over thousands of cells.
    levels: Tensor = torch.special.ndtr(inverse(maps, torch.special.ndtri(pits).flatten(0, -2).T))
    return levels.T.reshape(pits.shape)


def _score(levels: Tensor) -> Tensor:
    scores: Tensor = torch.special.ndtri(levels.clamp(1e-6, 1 - 1e-6))
    return scores


def _quantiles(pits: Pits, group: Tensor, groups: int) -> Tensor:
    r"""Return the quantiles (G, D, P), float64, of PITs (n, H, D) in groups of steps (n, H).

    Groups without observations keep the level grid.
    """
    channels = pits.shape[2]
    cell = group.unsqueeze(-1) * channels + torch.arange(channels)  # (n, H, D)

    def histogram(values: Tensor, mask: Tensor) -> Tensor:
        bins = (values.nan_to_num(0.0) * _BINS).long().clamp_(0, _BINS - 1)
        return torch.bincount((cell * _BINS + bins)[mask], minlength=groups * channels * _BINS).view(-1, _BINS).double()

    lowest, highest = (pits.jumps & side for side in (pits.lower <= 0, pits.upper >= 1))  # atoms on bounds
    counts = histogram(pits.values, ~(pits.lower.isnan() | lowest | highest))
    if bool((lowest | highest).any()):
        counts = _consistent(counts, histogram(pits.upper, lowest & ~highest), histogram(pits.lower, highest & ~lowest))
    below = counts.cumsum(-1)
    total = below[:, -1:]
    target_counts = _GRID * total  # (G * D, P)
    bin_index = torch.searchsorted(below, target_counts.contiguous()).clamp_(max=_BINS - 1)
    counts_in_bin = counts.gather(1, bin_index)
    fraction = ((target_counts - below.gather(1, bin_index) + counts_in_bin) / counts_in_bin.clamp(min=1)).clamp(0, 1)
    return torch.where(total > 0, (bin_index + fraction) / _BINS, _GRID).view(groups, channels, -1)
