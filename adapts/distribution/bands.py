r"""Bands that hold a whole path at once, with stated coverage."""

from __future__ import annotations

__all__ = ["JOINT", "JointBands", "least_tail_scale"]

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from torch import Tensor

from .law import Law
from .quantiles import QuantileFunction, reach_of_levels

#: Over what a band holds at once, and the axes of (n, H, D) that this is.
JOINT = {"time": (1,), "channels": (2,), "all": (1, 2)}

_SAMPLES = 1000  # draws that stand in where too few windows were kept
_FEWEST = 100  # windows that are kept at least, once they came
_USUAL = 0.9  # of a channel's scores are usual; what lies beyond shows how heavy their tail is
_FAR = 1e6  # in units of the usual excess
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

    A band over all cells compares channels by :math:`(m_d - a_d) / s_d`, with :math:`a_d` the 90 % quantile of channel
    :math:`d`'s scores in the fit and :math:`s_d` their mean excess over it, and each reaches as far as
    :math:`a_d + q s_d`: one channel whose law errs far now and then (rain where none was forecast) does not widen the
    others. It is the maximum of ranks, for windows too few to rank by.

    A law may be surer than it should be, hours of rain whose quantiles are all but zero: beyond its outer quantiles,
    no tail is taken to be thinner than the tails of the channel's laws are on the mean, of an item with small ones.

    Windows that overlap are not exchangeable: their number overstates the evidence, not the coverage on the mean.
    Where :math:`n` is too small for the level, the law's own joint samples stand in for the windows.

    References:
        | Copula Conformal Prediction for Multi-step Time Series Forecasting (Sun and Yu, 2024)
        | Conformal Prediction Bands for Multivariate Functional Data (Diquigiovanni et al., 2022)
        | Max-Rank: Efficient Multiple Testing for Conformal Prediction (Timans et al., 2025)

    Arguments:
        scores: The scores of calibration windows by what the band holds over jointly: over "time" of each channel with
            shape :math:`(n, 1, D)`, over "channels" of each lead with shape :math:`(n, H, 1)`; none without windows.
            NaN marks a path without any outcome.
        tail_scale: The least scale of tails, with shape :math:`(D,)`; none if None.
        units: The 90 % quantile of each channel's scores and their mean excess over it, with shape :math:`(2, D)`;
            those of the scores that are kept if None.
        memory: How many of the latest windows are kept once later ones come.
    """

    scores: Mapping[str, Tensor] = field(default_factory=dict)
    tail_scale: Tensor | None = None
    units: Tensor | None = None
    memory: int = _FEWEST

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
        scores = _scores(reach)
        return JointBands(scores, tail_scale, _units(scores), max(memory, _FEWEST))

    def follow(self, law: QuantileFunction, future: Tensor) -> JointBands:
        r"""Takes up the windows of one later date, and forgets the oldest beyond the memory.

        Arguments:
            law: What was forecast of them, with batch shape :math:`(n, H, D)`, one window an item. Of many items, more
                windows are remembered: those of 100 dates at least.
            future: What came true, with shape :math:`(n, H, D)`. NaN marks a missing outcome.

        Returns:
            The bands.
        """
        memory = max(self.memory, _FEWEST * len(future))
        least = self.tail_scale if self.scores else least_tail_scale(law.tail_scale, np.arange(len(future)))
        new = _scores(law.reach(future, least))
        scores = {joint: torch.cat([self.scores[joint], now])[-memory:] if self.scores else now
                  for joint, now in new.items()}  # fmt: skip
        return JointBands(scores, least, self.units, memory)

    def rescaled(self, factor: Tensor) -> JointBands:
        r"""The bands of the same laws in other units.

        Arguments:
            factor: What each channel was multiplied by, with shape :math:`(D,)`.

        Returns:
            The bands.
        """
        return self if self.tail_scale is None else replace(self, tail_scale=self.tail_scale * factor)

    def reach(self, law: Law, level: float, joint: str, generator: torch.Generator | None = None) -> Tensor:
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
        if joint not in JOINT:
            raise ValueError(f"a band holds jointly over 'time', 'channels' or 'all', got {joint!r}")
        if not 0 < level < 1:
            raise ValueError(f"levels lie within (0, 1), as 0.9 does; got {level}")
        found, enough = _ranked(self.scores, level, joint, self.units) if self.scores else (None, torch.tensor(False))
        if found is None or not bool(enough.all()):
            each = law.copula.windows or 1  # each window's own draws, where dependence differs
            drawn = law.copula.uniforms(1, generator, windows=_SAMPLES * each)[0].unflatten(0, (_SAMPLES, each))
            samples = (_scores(reach_of_levels(own)) for own in drawn.unbind(1))
            instead = torch.stack([_ranked(own, level, joint)[0] for own in samples])
            found = instead if found is None else torch.where(enough, found, instead)
        return found

    def band(
        self, law: Law, level: float = 0.9, joint: str = "all", generator: torch.Generator | None = None
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
        more = {"tail_scale": self.tail_scale, "units": self.units, "memory": torch.tensor(self.memory)}
        tensors = {**self.scores, **{name: x for name, x in more.items() if x is not None}}
        return tensors if self.scores else {}

    @staticmethod
    def from_state(state: Mapping[str, Tensor]) -> JointBands:
        r"""Makes bands again from their `state()`.

        Arguments:
            state: The tensors.

        Returns:
            The bands.
        """
        scores = {joint: state[joint] for joint in JOINT if joint in state}
        if not scores:
            return JointBands()
        return JointBands(scores, state.get("tail_scale"), state.get("units"), int(state["memory"]))


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


def _scores(reach: Tensor) -> dict[str, Tensor]:
    r"""How far the worst cell of each path lies in its tails, (n, 1, D) and (n, H, 1); NaN where a path has none."""
    worst = {joint: reach.nan_to_num(-1.0).amax(JOINT[joint], keepdim=True) for joint in ("time", "channels")}
    return {joint: m.where(m >= 0, torch.nan) for joint, m in worst.items()}


def _units(scores: Mapping[str, Tensor]) -> Tensor:
    r"""The 90 % quantile of each channel's scores and their mean excess over it, (2, D); NaN without any."""
    channels = scores["time"][:, 0].double()
    usual = channels.nanquantile(_USUAL, 0)
    excess = channels.sub(usual).where(channels > usual, torch.nan).nanmean(0)
    excess = excess.where(~excess.isnan() | usual.isnan(), 0.0)  # of one that is certain, say, which widens nothing
    return torch.stack([usual, excess])


def _ranked(
    scores: Mapping[str, Tensor], level: float, joint: str, units: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    r"""The conformal quantiles of scores over windows, and whether there are enough of these for them."""
    if joint != "all":
        return _quantile(scores[joint], level)
    usual, excess = _units(scores) if units is None else units
    far = ((scores["time"].double() - usual) / excess.clamp(min=1e-9)).clamp(min=-_FAR, max=_FAR)
    worst = far.nan_to_num(-torch.inf).amax(2, keepdim=True)
    found, enough = _quantile(worst.where(worst > -torch.inf, torch.nan), level)
    reach = (usual + found * excess).clamp(min=0.0)  # (1, D)
    return reach.where(~reach.isnan(), reach.nanmean()).to(scores["time"]), enough  # a channel without any: as others


def _quantile(scores: Tensor, level: float) -> tuple[Tensor, Tensor]:
    count = (~scores.isnan()).sum(0)
    rank = torch.ceil((count + 1) * level - 1e-9).long()
    ordered = scores.sort(0).values  # windows without an outcome last
    found = ordered.gather(0, (rank - 1).clamp(min=0, max=len(ordered) - 1).unsqueeze(0))[0]
    return found, rank <= count
