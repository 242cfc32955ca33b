r"""Bands that hold a whole path at once, with stated coverage."""

from __future__ import annotations

__all__ = ["JOINT", "JointBands"]

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from .law import Law
from .pits import Pits
from .quantiles import QuantileFunction

#: Over what a band holds at once, and the axes of (n, H, D) that this is.
JOINT = {"time": (1,), "channels": (2,), "all": (1, 2)}

_SAMPLES = 1000  # draws that stand in where too few windows were kept
_FEWEST = 100  # windows that are kept at least, once they came


@dataclass(frozen=True)
class JointBands:
    r"""Simultaneous bands, by the largest score of a path (max-statistic conformal prediction).

    A window's score is how far its worst cell lies in the tails of its own margin,
    :math:`m = \max |2 u - 1|` over leads, channels or both, with :math:`u` its PIT; at an atom, that level of the
    atom's jump which is nearest to the median, for an interval that reaches this holds the atom. The band is every
    cell's central interval of level :math:`q`, the :math:`\lceil (n + 1) p \rceil`-th smallest of :math:`n` scores: if
    the new window is exchangeable with those, the band holds a whole path with probability :math:`p` at least and
    :math:`p + 1 / (n + 1)` at most. Scores are kept, not levels, so that any level can be asked for. Missing cells are
    left out of the maximum.

    Windows that overlap are not exchangeable: their number overstates the evidence, not the coverage on the mean.
    Where :math:`n` is too small for the level, the law's own joint samples stand in for the windows.

    References:
        | Copula Conformal Prediction for Multi-step Time Series Forecasting (Sun and Yu, 2024)
        | Conformal Prediction Bands for Multivariate Functional Data (Diquigiovanni et al., 2022)

    Arguments:
        scores: The scores of calibration windows by what the band holds over jointly: of each channel with shape
            :math:`(n, 1, D)`, of each lead :math:`(n, H, 1)`, of all :math:`(n, 1, 1)`; none without windows. NaN
            marks a path without any outcome.
        memory: How many of the latest windows are kept once later ones come.
    """

    scores: Mapping[str, Tensor] = field(default_factory=dict)
    memory: int = _FEWEST

    @staticmethod
    def fit(pits: Pits | Tensor, memory: int = 0) -> JointBands:
        r"""Scores calibration windows.

        Arguments:
            pits: Their PITs, with shape :math:`(n, H, D)`, in order of time. NaN marks a missing outcome. A tensor is
                of laws without atoms.
            memory: How many windows are kept once later ones come, 100 at least.

        Returns:
            The bands.
        """
        levels = Pits.of(pits).innermost
        return JointBands({joint: _scores(levels, joint) for joint in JOINT}, max(memory, _FEWEST))

    def follow(self, pits: Pits | Tensor) -> JointBands:
        r"""Takes up the windows of one later date, and forgets the oldest beyond the memory.

        Arguments:
            pits: Their PITs under the law as it was forecast, with shape :math:`(n, H, D)`, one window an item. Of
                many items, more windows are remembered: those of 100 dates at least. A tensor is of laws without atoms.

        Returns:
            The bands.
        """
        levels = Pits.of(pits).innermost
        new = {joint: _scores(levels, joint) for joint in JOINT}
        if self.scores:
            new = {joint: torch.cat([self.scores[joint], new[joint]]) for joint in JOINT}
        memory = max(self.memory, _FEWEST * len(pits))
        return JointBands({joint: scores[-memory:] for joint, scores in new.items()}, memory)

    def levels(self, law: Law, level: float, joint: str, generator: torch.Generator | None = None) -> Tensor:
        r"""The level of each cell's interval.

        Arguments:
            law: The law of :math:`n'` windows; only its copula is looked at, where the calibration windows are too few.
            level: The probability that the band holds all of a path, within (0, 1).
            joint: "time" (all leads of a channel), "channels" (all channels at a lead) or "all".
            generator: The source of the samples that stand in.

        Returns:
            The levels, which broadcast to :math:`(n', H, D)`.

        Raises:
            ValueError: If `joint` or `level` is none of these.
        """
        if joint not in JOINT:
            raise ValueError(f"a band holds jointly over 'time', 'channels' or 'all', got {joint!r}")
        if not 0 < level < 1:
            raise ValueError(f"levels lie within (0, 1), as 0.9 does; got {level}")
        found, enough = _ranked(self.scores[joint], level) if self.scores else (None, torch.tensor(False))
        if found is None or not bool(enough.all()):
            each = law.copula.windows or 1  # each window's own draws, where dependence differs
            drawn = law.copula.uniforms(1, generator, windows=_SAMPLES * each)[0].unflatten(0, (_SAMPLES, each))
            instead = torch.stack([_ranked(_scores(own, joint), level)[0] for own in drawn.unbind(1)])
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
        inner = self.levels(law, level, joint, generator).expand(law.marginals.shape).to(law.marginals.values)
        lower, upper = (_read(law.marginals, u) for u in ((1 - inner) / 2, (1 + inner) / 2))
        return lower, upper

    def state(self) -> dict[str, Tensor]:
        r"""What the bands are made of.

        Returns:
            Tensors only; none without calibration windows.
        """
        return {**self.scores, "memory": torch.tensor(self.memory)} if self.scores else {}

    @staticmethod
    def from_state(state: Mapping[str, Tensor]) -> JointBands:
        r"""Makes bands again from their `state()`.

        Arguments:
            state: The tensors.

        Returns:
            The bands.
        """
        scores = {joint: state[joint] for joint in JOINT if joint in state}
        return JointBands(scores, int(state["memory"])) if scores else JointBands()


def _scores(levels: Tensor, joint: str) -> Tensor:
    r"""How far the worst cell of each path lies in its tails, (n, 1 or H, 1 or D); NaN where a path has none."""
    worst = (2 * levels - 1).abs().nan_to_num(-1.0).amax(JOINT[joint], keepdim=True)
    return worst.where(worst >= 0, torch.nan)


def _ranked(scores: Tensor, level: float) -> tuple[Tensor, Tensor]:
    r"""The conformal quantile of scores over windows, and whether there are enough of these for it."""
    count = (~scores.isnan()).sum(0)
    rank = torch.ceil((count + 1) * level - 1e-9).long()
    ordered = scores.sort(0).values  # windows without an outcome last
    found = ordered.gather(0, (rank - 1).clamp(min=0, max=len(ordered) - 1).unsqueeze(0))[0]
    return found, rank <= count


def _read(marginals: QuantileFunction, level: Tensor) -> Tensor:
    r"""The quantiles (n, H, D) at a level a cell (n, H, D)."""
    return marginals(level.contiguous())
