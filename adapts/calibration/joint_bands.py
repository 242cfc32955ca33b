r"""Bands that hold a whole path at once, with stated coverage."""

from __future__ import annotations

__all__ = ["JOINT", "JointBands", "least_tail_scale"]

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from torch import Tensor

from .. import checks
from ..distribution.joint import JointDistribution
from ..distribution.quantile_function import QuantileFunction, reach_of_levels
from ..errors import shown
from ..persistence.tensors import require_names, taken

#: Over what a band holds at once, and the axes of (n, H, D) that this is.
JOINT = {"time": (1,), "channels": (2,), "all": (1, 2)}

_SAMPLES = 1000  # draws that stand in where too few windows were kept
_FEWEST = 100  # windows that are kept at least, once they came
_APART = 8  # windows without overlap that tell something
_USUAL = 0.9  # of a channel's scores are usual; what lies beyond shows how heavy their tail is
_LEAST = 0.1  # of the channels' mean excess, for one that exceeded nothing so far
_SMALL = 0.1  # the share of items whose tails may be smaller than the least scale


@dataclass(frozen=True)
class JointBands:
    r"""Simultaneous bands, by the largest score of a path (max-statistic conformal prediction).

    A cell's score is how far its outcome reaches into the tails of its own margin (`QuantileFunction.reach`), a path's
    score :math:`m` that of its worst cell, over the leads of a channel or the channels at a lead. The band is every
    cell's central interval that reaches as far as :math:`q`, the :math:`\lceil (n + 1) p \rceil`-th smallest of
    :math:`n` scores: if the new window is exchangeable with those, the band holds a whole path with probability
    :math:`p` at least and :math:`p + 1 / (n + 1)` at most. Scores are kept, not levels, so that any level can be asked
    for. Missing cells are left out of the maximum.

    A band over all cells compares channels by :math:`r_d = (m_d - a_d) / s_d`, with :math:`a_d` the 90 % quantile of a
    channel's scores and :math:`s_d` their mean excess over it, and each reaches as far as :math:`a_d + q s_d`: one
    channel whose law errs far now and then (rain where none was forecast) does not widen the others. The older half of
    the calibration windows tells :math:`a` and :math:`s`, the later one :math:`q`, so that the guarantee stays; of
    fewer than 100 windows all channels reach alike. Later windows move :math:`q` alone.

    A law may be surer than it should be, hours of rain whose quantiles are all but zero: beyond its outer quantiles,
    no tail is taken to be thinner than the tails of the channel's laws are on the mean, of an item with small ones.

    Windows that overlap are not exchangeable: their number overstates the evidence, not the coverage on the mean.
    Where :math:`n` is too small for the level, the law's own joint samples stand in for the windows, but no band
    reaches less far than the largest score, or than the cell's own interval of that level.

    References:
        | Copula Conformal Prediction for Multi-step Time Series Forecasting (Sun and Yu, 2024)
        | Conformal Prediction Bands for Multivariate Functional Data (Diquigiovanni et al., 2022)
        | Max-Rank: Efficient Multiple Testing for Conformal Prediction (Timans et al., 2025)

    Arguments:
        scores: The scores of calibration windows by what the band holds over jointly: over "time" of each channel with
            shape :math:`(n, 1, D)`, over "channels" of each lead with shape :math:`(n, H, 1)`, over "all" with shape
            :math:`(n', 1, 1)`, in units; none without windows. NaN marks a path without any outcome.
        tail_scale: The least scale of tails, with shape :math:`(D,)`; none if None.
        units: What channels are compared by, :math:`a` and :math:`s`, with shape :math:`(2, D)`; 0 and 1 if None.
        memory: How many of the latest windows are kept once later ones come.
        needed: How many windows must have come before they are looked at.
    """

    scores: Mapping[str, Tensor] = field(default_factory=dict)
    tail_scale: Tensor | None = None
    units: Tensor | None = None
    memory: int = _FEWEST
    needed: int = 0

    @staticmethod
    def fit(reach: Tensor, tail_scale: Tensor | None = None, memory: int = 0) -> JointBands:
        r"""Scores calibration windows.

        Arguments:
            reach: The `QuantileFunction.reach` of what came true in :math:`n` windows in order of time, with shape
                :math:`(n, H, D)`. NaN marks a missing outcome.
            tail_scale: The least scale of tails that it was taken with, with shape :math:`(D,)`.
            memory: How many windows are kept once later ones come, 100 at least.

        Returns:
            The bands.
        """
        scores, units, half = _scores(reach, None), None, len(reach) // 2
        if len(reach) >= _FEWEST:
            units = _units(scores["time"][:half, 0])
            scores["all"] = _together(scores["time"][half:], units)
        return JointBands(scores, tail_scale, units, max(memory, _FEWEST))

    def follow(self, law: QuantileFunction, future: Tensor) -> JointBands:
        r"""Takes up the windows of one later date, and forgets the oldest beyond the memory.

        Arguments:
            law: What was forecast of them, with batch shape :math:`(n, H, D)`, one window an item. Windows of 100 dates
                are remembered at least, and of :math:`8 H`, for they overlap; bands that were not fitted wait for so
                many.
            future: What came true, with shape :math:`(n, H, D)`. NaN marks a missing outcome.

        Returns:
            The bands.
        """
        apart = _APART * future.shape[1]
        memory, needed = max(self.memory, max(_FEWEST, apart) * len(future)), self.needed if self.scores else apart
        least = self.tail_scale if self.scores else least_tail_scale(law.tail_scale, np.arange(len(future)))
        new = _scores(law.reach(future, least), self.units)
        scores = {joint: torch.cat([self.scores[joint], now])[-memory:] if self.scores else now
                  for joint, now in new.items()}  # fmt: skip
        return JointBands(scores, least, self.units, memory, needed)

    def rescaled(self, factor: Tensor) -> JointBands:
        r"""The bands of the same laws in other units.

        Arguments:
            factor: What each channel was multiplied by, with shape :math:`(D,)`.

        Returns:
            The bands.
        """
        return self if self.tail_scale is None else replace(self, tail_scale=self.tail_scale * factor)

    def reach(
        self, law: JointDistribution, level: float, joint: str, generator: torch.Generator | None = None
    ) -> Tensor:
        r"""How far each cell's interval reaches.

        Arguments:
            law: The law of :math:`n'` windows; only its copula is looked at, where the calibration windows are too few.
            level: The probability that the band holds all of a path, within (0, 1).
            joint: "time" (all leads of a channel), "channels" (all channels at a lead) or "all".
            generator: The source of the samples that stand in.

        Returns:
            The reach, as `QuantileFunction.central` takes it, with a shape that broadcasts to :math:`(n', H, D)`.

        Raises:
            ValueError: If `joint` or `level` is none of these.
        """
        if not isinstance(joint, str) or joint not in JOINT:
            raise ValueError(f"a band holds jointly over 'time', 'channels' or 'all', got {shown(joint)}")
        checks.levels([level])
        found, enough = _quantile(self.scores[joint], level) if self.scores else (None, torch.tensor(False))
        enough = enough & (len(self.scores.get("time", ())) >= self.needed)
        if found is not None and joint == "all" and self.units is not None:
            usual, excess = self.units
            found = (usual + found * excess).clamp(min=0.0)  # (1, D)
        if found is None or not bool(enough.all()):
            each = law.copula.windows or 1  # each window's own draws, where dependence differs
            drawn = law.copula.uniforms(1, generator, windows=_SAMPLES * each)[0].unflatten(0, (_SAMPLES, each))
            samples = (_scores(reach_of_levels(own), None)[joint] for own in drawn.unbind(1))
            cell = reach_of_levels(torch.tensor((1 + level) / 2, dtype=torch.float64))
            instead = torch.stack([_quantile(own, level)[0] for own in samples]).clamp(min=float(cell))
            found = instead if found is None else torch.where(enough, found, torch.fmax(found, instead))
        return found

    def band(
        self, law: JointDistribution, level: float = 0.9, joint: str = "all", generator: torch.Generator | None = None
    ) -> tuple[Tensor, Tensor]:
        r"""The band of each window.

        Arguments:
            law: The law of :math:`n'` windows.
            level: The probability that the band holds all of a path.
            joint: "time" (all leads of a channel), "channels" (all channels at a lead) or "all".
            generator: The source of the samples that stand in where the calibration windows are too few.

        Returns:
            The lower and the upper end, each with shape :math:`(n', H, D)`.
        """
        return law.marginals.central(self.reach(law, level, joint, generator), self.tail_scale)

    def state(self) -> dict[str, Tensor]:
        r"""What the bands are made of.

        Returns:
            Tensors only; none without calibration windows.
        """
        if not self.scores:
            return {}
        told = {"tail_scale": self.tail_scale, "units": self.units}
        counts = {"memory": torch.tensor(self.memory), "needed": torch.tensor(self.needed)}
        return {**self.scores, **{name: x for name, x in told.items() if x is not None}, **counts}

    @staticmethod
    def from_state(state: Mapping[str, Tensor]) -> JointBands:
        r"""Makes bands again from their `state()`.

        Arguments:
            state: The tensors.

        Returns:
            The bands.

        Raises:
            ValueError: If a tensor is not as `state` makes it.
        """
        if not state:
            return JointBands()
        require_names("the joint bands", state, [*JOINT, "memory", "needed"], ["tail_scale", "units"])
        real = (torch.float32, torch.float64)
        time = taken(state, "time", real, (None, 1, None), missing=True)
        channels = time.shape[2]
        scores = {
            "time": time,
            "channels": taken(state, "channels", real, (len(time), None, 1), missing=True),
            "all": taken(state, "all", real, (None, 1, 1), missing=True),
        }
        if not all(part.numel() for part in scores.values()):
            raise ValueError("the joint bands are expected to have scores of one window at least")
        tail_scale = taken(state, "tail_scale", real, (channels,), low=0.0) if "tail_scale" in state else None
        units = taken(state, "units", torch.float64, (2, channels)) if "units" in state else None
        if units is not None and bool((units[1] <= 0).any()):
            raise ValueError("the tensor 'units' is expected to hold positive excesses in its second row")
        memory, needed = (int(taken(state, name, torch.int64, (), low=0, high=2**53)) for name in ("memory", "needed"))
        return JointBands(scores, tail_scale, units, memory, needed)


def least_tail_scale(scale: Tensor, item: np.ndarray) -> Tensor:
    r"""The scale below which bands take no tail of a channel to be.

    Arguments:
        scale: The `QuantileFunction.tail_scale` of :math:`n` windows, with shape :math:`(n, H, D)`.
        item: The item of each window, with shape :math:`(n,)`.

    Returns:
        The mean over the windows and leads of an item, of one with small tails, with shape :math:`(D,)`.
    """
    _, place, count = np.unique(item, return_inverse=True, return_counts=True)
    total = torch.zeros(len(count), scale.shape[2], dtype=torch.float64)
    total.index_add_(0, torch.from_numpy(place), scale.mean(1).double())
    return (total / torch.from_numpy(count).unsqueeze(1)).quantile(_SMALL, 0).to(scale)


def _scores(reach: Tensor, units: Tensor | None) -> dict[str, Tensor]:
    r"""How far the worst cell of each path lies in its tails, by what bands hold; NaN where a path has no cell."""
    channels, leads = (_worst(reach, JOINT[joint]) for joint in ("time", "channels"))
    return {"time": channels, "channels": leads, "all": _together(channels, units)}


def _together(channels: Tensor, units: Tensor | None) -> Tensor:
    r"""The worst of the scores of a path's channels (n, 1, D), in units where there are some, (n, 1, 1)."""
    far = channels if units is None else ((channels - units[0]) / units[1]).to(channels)
    return _worst(far, JOINT["channels"])


def _worst(scores: Tensor, axes: tuple[int, ...]) -> Tensor:
    worst = scores.nan_to_num(-torch.inf).amax(axes, keepdim=True)
    return worst.where(worst > -torch.inf, torch.nan)


def _units(scores: Tensor) -> Tensor:
    r"""The 90 % quantile of each channel's scores (n, D) and their mean excess over it, (2, D) float64."""
    scores = scores.double()
    usual = scores.nanquantile(_USUAL, 0)
    excess = scores.sub(usual).where(scores > usual, torch.nan).nanmean(0)
    excess = excess.where(~excess.isnan() | usual.isnan(), 0.0)
    usual, excess = (x.where(~x.isnan(), x.nanmean()).nan_to_num(0.0) for x in (usual, excess))  # none seen: as others
    return torch.stack([usual, excess.clamp(min=max(_LEAST * float(excess.mean()), 1e-6))])


def _quantile(scores: Tensor, level: float) -> tuple[Tensor, Tensor]:
    r"""The conformal quantiles of scores over windows, and whether there are enough of these for them."""
    count = (~scores.isnan()).sum(0)
    rank = torch.ceil((count + 1) * level - 1e-9).long()
    ordered = scores.sort(0).values  # windows without an outcome last
    found = ordered.gather(0, (rank - 1).clamp(min=0, max=len(ordered) - 1).unsqueeze(0))[0]
    return found, rank <= count
