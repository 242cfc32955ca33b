r"""Simultaneous prediction bands over whole paths, with stated coverage."""

from __future__ import annotations

__all__ = ["JOINT", "JointBands", "least_tail_scale"]

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from torch import Tensor

from .. import checks
from ..distribution.joint import JointDistribution
from ..distribution.levels import nonconformity_of_levels
from ..distribution.quantile_function import QuantileFunction
from ..errors import shown
from ..persistence.tensors import require_names, taken

#: The scope of a band's joint coverage, and the corresponding axes of (n, H, D).
JOINT = {"time": (1,), "channels": (2,), "all": (1, 2)}

_SAMPLES = 1000  # draws that replace calibration windows where these are too few
_MIN_WINDOWS = 100  # minimum number of windows in memory
_MIN_HORIZONS = 8  # minimum number of windows without overlap
_UNITS_LEVEL = 0.9  # the quantile of a channel's scores beyond which their excess is measured
_MIN_EXCESS = 0.1  # lower bound of a channel's mean excess, relative to the mean of all channels
_TAIL_SCALE_LEVEL = 0.1  # the quantile, over items, of the mean tail scale that bounds tail scales from below


@dataclass(frozen=True)
class JointBands:
    r"""Simultaneous prediction bands from the maximum score of a path (max-statistic conformal prediction).

    The nonconformity score of a cell measures how far its observation lies in the tails of its marginal
    (`QuantileFunction.nonconformity`). The score :math:`m` of a path is the maximum over its cells: the horizon steps
    of a channel, or the channels at a horizon step. The band consists of the central intervals with score :math:`q`,
    the :math:`\lceil (n + 1) p \rceil`-th smallest of :math:`n` scores. If the new window is exchangeable with the
    calibration windows, the band covers a whole path with a probability between :math:`p` and :math:`p + 1 / (n + 1)`.
    The bands store scores, not quantiles of them, so that any level is available. The maximum ignores missing cells.

    A band over all cells standardises the channels: :math:`r_d = (m_d - a_d) / s_d`, with :math:`a_d` the 90 % quantile
    of a channel's scores and :math:`s_d` their mean excess over it. The interval of channel :math:`d` has the score
    :math:`a_d + q s_d`. So a channel with rare but large errors (rain where none was forecast) does not widen the bands
    of the others. The older half of the calibration windows determines :math:`a` and :math:`s`, the later half
    :math:`q`, which preserves the guarantee. With fewer than 100 windows, all channels share one score. Later windows
    update :math:`q` alone.

    Some marginals are overconfident, such as hours of rain whose quantiles are almost zero. Beyond the outer quantiles,
    the scale of a tail is therefore bounded from below. The bound is the mean tail scale of an item, at the 10 %
    quantile over items, per channel.

    Overlapping windows are not exchangeable: their number overstates the information, but not the mean coverage. Where
    :math:`n` is too small for the level, joint samples of the predictive distribution replace the windows. Even then,
    no score is below the largest observed one or that of the cell's own interval at that level.

    References:
        | Copula Conformal Prediction for Multi-step Time Series Forecasting (Sun and Yu, 2024)
        | Conformal Prediction Bands for Multivariate Functional Data (Diquigiovanni et al., 2022)
        | Max-Rank: Efficient Multiple Testing for Conformal Prediction (Timans et al., 2025)

    Arguments:
        scores: The scores of calibration windows by scope; empty without windows. "time" (jointly over the horizon of
            each channel) has shape :math:`(n, 1, D)`, "channels" (jointly over the channels at each horizon step) has
            shape :math:`(n, H, 1)`, and "all" has shape :math:`(n', 1, 1)`, in `units`. NaN marks a path without
            observations.
        tail_scale: The lower bound of tail scales, with shape :math:`(D,)`; no bound if None.
        units: The location :math:`a` and the scale :math:`s` of the channels' scores, with shape :math:`(2, D)`; 0 and
            1 if None.
        memory: The number of latest windows retained when later ones are added.
        needed: The number of windows required before their scores are used.
    """

    scores: Mapping[str, Tensor] = field(default_factory=dict)
    tail_scale: Tensor | None = None
    units: Tensor | None = None
    memory: int = _MIN_WINDOWS
    needed: int = 0

    @staticmethod
    def fit(cell_scores: Tensor, tail_scale: Tensor | None = None, memory: int = 0) -> JointBands:
        r"""Compute the scores of calibration windows.

        Arguments:
            cell_scores: The nonconformity scores (`QuantileFunction.nonconformity`) of the observed values of :math:`n`
                windows in order of time, with shape :math:`(n, H, D)`. NaN marks a missing observation.
            tail_scale: The lower bound of tail scales used for these scores, with shape :math:`(D,)`.
            memory: The number of windows retained when later ones are added, 100 at least.

        Returns:
            The bands.
        """
        scores, units, half = _scores(cell_scores, None), None, len(cell_scores) // 2
        if len(cell_scores) >= _MIN_WINDOWS:
            units = _units(scores["time"][:half, 0])
            scores["all"] = _together(scores["time"][half:], units)
        return JointBands(scores, tail_scale, units, max(memory, _MIN_WINDOWS))

    def follow(self, marginals: QuantileFunction, future: Tensor) -> JointBands:
        r"""Add the windows of one later date, and drop the oldest beyond the memory.

        Arguments:
            marginals: The marginals forecast for them, with batch shape :math:`(n, H, D)`, one window per item. The
                memory holds at least the windows of 100 dates, and of :math:`8 H` dates since windows overlap. Bands
                without a fit are used once :math:`8 H` dates are known.
            future: The observed values, with shape :math:`(n, H, D)`. NaN marks a missing observation.

        Returns:
            The bands.
        """
        fewest = _MIN_HORIZONS * future.shape[1]
        memory, needed = max(self.memory, max(_MIN_WINDOWS, fewest) * len(future)), self.needed
        if not self.scores:
            needed = fewest * len(future)  # windows of one date are simultaneous
        tail_scale = self.tail_scale if self.scores else least_tail_scale(marginals.tail_scale, np.arange(len(future)))
        new = _scores(marginals.nonconformity(future, tail_scale), self.units)
        scores = {joint: torch.cat([self.scores[joint], latest])[-memory:] if self.scores else latest
                  for joint, latest in new.items()}  # fmt: skip
        return JointBands(scores, tail_scale, self.units, memory, needed)

    def rescaled(self, factor: Tensor) -> JointBands:
        r"""Return the bands in other units.

        Arguments:
            factor: The factor of each channel, with shape :math:`(D,)`.

        Returns:
            The bands.
        """
        return self if self.tail_scale is None else replace(self, tail_scale=self.tail_scale * factor)

    def score(
        self, distribution: JointDistribution, level: float, joint: str, generator: torch.Generator | None = None
    ) -> Tensor:
        r"""Return the nonconformity score that bounds each cell's interval.

        Arguments:
            distribution: The joint distribution of :math:`n'` windows; only its copula is used, if the calibration
                windows are too few.
            level: The probability that the band covers a whole path, within (0, 1).
            joint: "time" (all horizon steps of a channel), "channels" (all channels at a horizon step) or "all".
            generator: The random number generator for the replacement samples.

        Returns:
            The score, as `QuantileFunction.central` expects it, with a shape that broadcasts to :math:`(n', H, D)`.

        Raises:
            ValueError: If `joint` or `level` is invalid.
        """
        if not isinstance(joint, str) or joint not in JOINT:
            raise ValueError(f"a band expects joint to be 'time', 'channels' or 'all', got {shown(joint)}")
        checks.levels([level])
        score, sufficient = _quantile(self.scores[joint], level) if self.scores else (None, torch.tensor(False))
        sufficient = sufficient & (len(self.scores.get("time", ())) >= self.needed)
        if score is not None and joint == "all" and self.units is not None:
            location, scale = self.units
            score = (location + score * scale).clamp(min=0.0)  # (1, D)
        if score is None or not bool(sufficient.all()):
            windows = distribution.copula.windows or 1  # separate draws for each window, if dependence differs
            draws = distribution.copula.uniforms(1, generator, windows=_SAMPLES * windows)[0]
            draws = draws.unflatten(0, (_SAMPLES, windows))
            samples = (_scores(nonconformity_of_levels(cell_scores), None)[joint] for cell_scores in draws.unbind(1))
            marginal_score = nonconformity_of_levels(torch.tensor((1 + level) / 2, dtype=torch.float64))
            replacement = torch.stack([_quantile(cell_scores, level)[0] for cell_scores in samples]).clamp(
                min=float(marginal_score)
            )
            score = replacement if score is None else torch.where(sufficient, score, torch.fmax(score, replacement))
        return score

    def band(
        self,
        distribution: JointDistribution,
        level: float = 0.9,
        joint: str = "all",
        generator: torch.Generator | None = None,
    ) -> tuple[Tensor, Tensor]:
        r"""Return the band of each window.

        Arguments:
            distribution: The joint distribution of :math:`n'` windows.
            level: The probability that the band covers a whole path.
            joint: "time" (all horizon steps of a channel), "channels" (all channels at a horizon step) or "all".
            generator: The random number generator for samples that replace calibration windows if these are too few.

        Returns:
            The lower and the upper bound, each with shape :math:`(n', H, D)`.
        """
        return distribution.marginals.central(self.score(distribution, level, joint, generator), self.tail_scale)

    def state(self) -> dict[str, Tensor]:
        r"""Return the tensors that define the bands.

        Returns:
            Tensors only; none without calibration windows.
        """
        if not self.scores:
            return {}
        optional = {"tail_scale": self.tail_scale, "units": self.units}
        counts = {"memory": torch.tensor(self.memory), "needed": torch.tensor(self.needed)}
        return {**self.scores, **{name: x for name, x in optional.items() if x is not None}, **counts}

    @staticmethod
    def from_state(state: Mapping[str, Tensor]) -> JointBands:
        r"""Restore bands from their `state()`.

        Arguments:
            state: The tensors.

        Returns:
            The bands.

        Raises:
            ValueError: If a tensor is invalid.
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
            raise ValueError("the joint bands are expected to hold the scores of one window or more")
        tail_scale = taken(state, "tail_scale", real, (channels,), low=0.0) if "tail_scale" in state else None
        units = taken(state, "units", torch.float64, (2, channels)) if "units" in state else None
        if units is not None and bool((units[1] <= 0).any()):
            raise ValueError("the tensor 'units' is expected to hold positive excesses in its second row")
        memory, needed = (int(taken(state, name, torch.int64, (), low=0, high=2**53)) for name in ("memory", "needed"))
        return JointBands(scores, tail_scale, units, memory, needed)


def least_tail_scale(scale: Tensor, item: np.ndarray) -> Tensor:
    r"""Return the lower bound of the tail scales of each channel.

    Arguments:
        scale: The `QuantileFunction.tail_scale` of :math:`n` windows, with shape :math:`(n, H, D)`.
        item: The item of each window, with shape :math:`(n,)`.

    Returns:
        The 10 % quantile over items of an item's mean scale over windows and horizon steps, with shape :math:`(D,)`.
    """
    _, index, count = np.unique(item, return_inverse=True, return_counts=True)
    total = torch.zeros(len(count), scale.shape[2], dtype=torch.float64)
    total.index_add_(0, torch.from_numpy(index), scale.mean(1).double())
    return (total / torch.from_numpy(count).unsqueeze(1)).quantile(_TAIL_SCALE_LEVEL, 0).to(scale)


def _scores(cell_scores: Tensor, units: Tensor | None) -> dict[str, Tensor]:
    r"""Return the maximum scores of each path, by scope; NaN where a path has no observed cell."""
    channels, steps = (_worst(cell_scores, JOINT[joint]) for joint in ("time", "channels"))
    return {"time": channels, "channels": steps, "all": _together(channels, units)}


def _together(channels: Tensor, units: Tensor | None) -> Tensor:
    r"""Return the maximum of a path's channel scores (n, 1, D), standardised if units are given, (n, 1, 1)."""
    standardised = channels if units is None else ((channels - units[0]) / units[1]).to(channels)
    return _worst(standardised, JOINT["channels"])


def _worst(scores: Tensor, axes: tuple[int, ...]) -> Tensor:
    worst = scores.nan_to_num(-torch.inf).amax(axes, keepdim=True)
    return worst.where(worst > -torch.inf, torch.nan)


def _units(scores: Tensor) -> Tensor:
    r"""Return the 90 % quantile of each channel's scores (n, D) and the mean excess over it, (2, D) float64."""
    scores = scores.double()
    quantile = scores.nanquantile(_UNITS_LEVEL, 0)
    excess = scores.sub(quantile).where(scores > quantile, torch.nan).nanmean(0)
    excess = excess.where(~excess.isnan() | quantile.isnan(), 0.0)
    quantile, excess = (
        x.where(~x.isnan(), x.nanmean()).nan_to_num(0.0) for x in (quantile, excess)
    )  # unobserved channels take the mean
    return torch.stack([quantile, excess.clamp(min=max(_MIN_EXCESS * float(excess.mean()), 1e-6))])


def _quantile(scores: Tensor, level: float) -> tuple[Tensor, Tensor]:
    r"""Return conformal quantiles of scores over windows, and whether the windows suffice for them."""
    count = (~scores.isnan()).sum(0)
    rank = torch.ceil((count.double() + 1) * level - 1e-9).long()
    ordered = scores.sort(0).values  # windows without observations come last
    quantile = ordered.gather(0, (rank - 1).clamp(min=0, max=len(ordered) - 1).unsqueeze(0))[0]
    return quantile, rank <= count
