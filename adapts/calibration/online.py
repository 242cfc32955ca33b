r"""Recalibration that follows the stream: levels adapted after every outcome, without retraining."""

from __future__ import annotations

__all__ = ["OnlineRecalibration"]

from collections.abc import Mapping

import torch
from torch import Tensor

from ..distribution.pits import Pits
from ..distribution.quantile_function import LEVELS, QuantileFunction
from ..persistence.tensors import require_names, taken
from .recalibration import Recalibration, inverse

_STEPS = (0.1, 0.15, 0.05)  # on normal scores, of what all cells share, a channel's leads share, a cell has alone
_REACH = 5.0  # normal scores beyond which nothing is asked: one in three million
_RATES = (0.0, 0.4, 1.5)  # what the steps are multiplied by: standing still, following, and following fast
_PRIOR = (0.60, 0.32, 0.08)  # their weights before anything is seen: haste has to earn its place
_DECISION, _MEMORY = 20.0, 100  # by how much a loss moves the weights, and the windows that it is remembered for


class OnlineRecalibration:
    r"""Tracks the quantiles of the PITs, a channel and lead, as outcomes come in.

    On the scale of normal scores, :math:`z = \Phi^{-1}(u)`, the level that stands for :math:`\tau` moves by

    .. math:: q_\tau \leftarrow q_\tau + \eta \, (\tau - 1[z \leq q_\tau])

    after each outcome, which is adaptive conformal inference on quantiles (the P term of conformal PID control). Each
    :math:`q_\tau` is a sum of what all cells share, what the leads of a channel share and what a cell has alone, each
    with a step of its own on the mean over its cells: a shift that strikes all is followed at once, and the noise of
    single cells is not. How fast to follow differs from series to series and from time to time, and in calm times
    following is noise: several rates run side by side, the slowest of which never moves, and the levels are their mean,
    weighted by the quantile losses that each made on the latest windows. A window is judged by the levels as they
    stood at its origin, and windows that share targets count as one: their errors are the same errors. Widths stay
    finite.

    References:
        | Adaptive Conformal Inference Under Distribution Shift (Gibbs and Candès, 2021)
        | https://arxiv.org/abs/2106.00170
        | Conformal Inference for Online Prediction with Arbitrary Distribution Shifts (Gibbs and Candès, 2022)
        | https://arxiv.org/abs/2208.08401
        | Conformal PID Control for Time Series Prediction (Angelopoulos et al., 2023)
        | https://arxiv.org/abs/2307.16895

    Arguments:
        prediction_length: The number of leads :math:`H`.
        channels: The number of channels :math:`D`.
        overlap: How many successive windows share targets: :math:`H`, as of windows at every row, if None; 1 for
            windows a prediction length apart.

    Example:
        >>> online = OnlineRecalibration(prediction_length=4, channels=2, overlap=1)
        >>> for pits in torch.rand(200, 4, 2).pow(0.5):  # outcomes lie too high
        ...     online.update(pits)
        >>> bool((online.levels(0.5) > 0.6).all())
        True
    """

    def __init__(self, prediction_length: int, channels: int, overlap: int | None = None) -> None:
        overlap = prediction_length if overlap is None else overlap
        if not overlap >= 1:
            raise ValueError(f"the overlap is the number of windows that share targets, 1 or more, got {overlap}")
        self.overlap = overlap
        self.count = 0
        grid = torch.special.ndtri(torch.tensor(LEVELS, dtype=torch.float64))
        self._tracked = grid.expand(len(_RATES), prediction_length, channels, -1).clone()  # (R, H, D, P)
        self._before = self._tracked.clone()  # as they stood when the windows that now come true began
        self._losses = torch.zeros(len(_RATES), dtype=torch.float64)

    @property
    def weights(self) -> Tensor:
        r"""How much each rate counts, from standing still to the fastest, with shape :math:`(R,)`."""
        return torch.softmax(torch.tensor(_PRIOR, dtype=torch.float64).log() - _DECISION * self._losses, 0)

    @property
    def scores(self) -> Tensor:
        r"""The normal scores that are read for the levels `LEVELS`, with shape :math:`(H, D, P)`."""
        mixed: Tensor = torch.einsum("r,rhdp->hdp", self.weights, self._tracked)
        return mixed

    def update(self, pits: Pits | Tensor) -> None:
        r"""Takes up what came true.

        Arguments:
            pits: The PITs under the law that is not adapted, of one window, with shape :math:`(H, D)`, of several in
                order of time, with shape :math:`(n, H, D)`, or of those of :math:`m` series at each time, which count
                as one on their mean, with shape :math:`(n, m, H, D)`. NaN marks a step that is missing or still to
                come. A tensor is of laws without atoms.

        Raises:
            ValueError: If the shape is another.
        """
        shape = tuple(self._tracked.shape[1:3])
        pits = Pits.of(pits)
        if pits.shape[-2:] != shape or len(pits.shape) not in (2, 3, 4):
            raise ValueError(f"pits have shape {shape} or (n, {shape[0]}, {shape[1]}), got {tuple(pits.shape)}")
        series = pits.shape[1] if len(pits.shape) == 4 else 1
        grid = torch.tensor(LEVELS, dtype=torch.float64)
        rates = torch.tensor(_RATES, dtype=torch.float64) / self.overlap
        common, channel, alone = (rates.view(-1, 1, 1, 1) * step for step in _STEPS)
        stream = pits.reshape(-1, series, *shape)
        for window in (stream[number] for number in range(len(stream))):
            if bool(window.lower.isnan().all()):
                continue
            z = _scores(window.values)[:, None, ..., None]  # (m, 1, H, D, 1)
            self.count += 1
            if self.count % self.overlap == 0:
                error = z - self._before  # (m, R, H, D, P)
                losses = torch.maximum(grid * error, (grid - 1) * error).nanmean((0, 2, 3, 4))
                self._losses = (1 - 1 / _MEMORY) * self._losses + losses
            below = self._below(z, window)
            lack = (grid - below).nanmean(0)  # (R, H, D, P)
            shared = lack.nanmean(1, keepdim=True)
            move = common * lack.nanmean((1, 2), keepdim=True) + channel * shared.nan_to_num(0.0)
            self._tracked = (self._tracked + move + alone * lack.nan_to_num(0.0)).clamp(-_REACH, _REACH)
            if self.count % self.overlap == 0:
                self._before = self._tracked.clone()

    def _below(self, z: Tensor, window: Pits) -> Tensor:
        r"""Whether normal scores (m, 1, H, D, 1) lie below each level, (m, R, H, D, P); at an atom, how much of it."""
        below: Tensor = (z <= self._tracked).double().where(~z.isnan(), torch.nan)
        some = window.jumps.flatten(0, 1).any(0)  # (D,)
        if not bool(some.any()):
            return below
        jumps = window[..., some]
        maps = self._tracked[..., some, :].sort(-1).values
        rates, horizon, channels, _ = maps.shape
        low, high = (
            torch.special.ndtr(inverse(maps.flatten(0, 2), _scores(end).flatten(1).T.repeat(rates, 1)))
            .view(rates, horizon, channels, -1)
            .movedim(-1, 0)
            .unsqueeze(-1)
            for end in (jumps.lower, jumps.upper)
        )  # (m, R, H, D', 1)
        inside = ((torch.tensor(LEVELS, dtype=torch.float32) - low) / (high - low).clamp(min=1e-9)).clamp(0, 1)
        below[..., some, :] = below[..., some, :].where(~jumps.jumps[:, None, ..., None], inside)
        return below

    def adapted(self, pits: Pits | Tensor) -> Pits:
        r"""What PITs are under the law as it is adapted now.

        Arguments:
            pits: The PITs under the law that is not adapted, with shape :math:`(*, H, D)`. NaN marks a missing step. A
                tensor is of laws without atoms.

        Returns:
            Those under the adapted law, with the same shape.
        """
        return Pits.of(pits).through(self.recalibration.adapted)

    @property
    def recalibration(self) -> Recalibration:
        r"""The map of the levels as it stands; the identity before the first outcome."""
        if self.count == 0:
            return Recalibration.identity()
        maps = torch.special.ndtr(self.scores.sort(-1).values)  # monotone rearrangement
        return Recalibration(maps.unsqueeze(1), torch.arange(len(maps)))

    def levels(self, level: float) -> Tensor:
        r"""The level that is read for one that is wanted.

        Arguments:
            level: The level wanted.

        Returns:
            The level read of each cell, with shape :math:`(H, D)`.
        """
        grid = torch.tensor(LEVELS, dtype=torch.float64)
        law = QuantileFunction(grid, torch.special.ndtri(grid).expand(*self._tracked.shape[1:3], -1))
        read: Tensor = torch.special.ndtr(self.recalibration.apply(law)(level))
        return read

    def state(self) -> dict[str, Tensor]:
        r"""What has been learnt.

        Returns:
            Tensors only.
        """
        return {
            "tracked": self._tracked,
            "before": self._before,
            "losses": self._losses,
            "count": torch.tensor(self.count),
            "overlap": torch.tensor(self.overlap),
        }

    @staticmethod
    def from_state(state: Mapping[str, Tensor]) -> OnlineRecalibration:
        r"""Makes it again from its `state()`.

        Arguments:
            state: The tensors.

        Returns:
            The recalibration as it stood.

        Raises:
            ValueError: If a tensor is not as `state` makes it.
        """
        require_names("the online recalibration", state, ["tracked", "before", "losses", "count", "overlap"])
        shape = (len(_RATES), None, None, len(LEVELS))
        tracked, before = (
            taken(state, name, torch.float64, shape, low=-_REACH, high=_REACH) for name in ("tracked", "before")
        )
        if tracked.shape != before.shape:
            raise ValueError(f"the tensor 'before' is expected in the shape of 'tracked', {tuple(tracked.shape)}")
        count, overlap = (
            int(taken(state, name, torch.int64, (), low=low, high=2**53))
            for name, low in (("count", 0), ("overlap", 1))
        )
        online = OnlineRecalibration(tracked.shape[1], tracked.shape[2], overlap)
        online._tracked, online._before, online.count = tracked.clone(), before.clone(), count
        online._losses = taken(state, "losses", torch.float64, (len(_RATES),), low=0.0).clone()
        return online


def _scores(levels: Tensor) -> Tensor:
    r"""Levels as normal scores, of which none is asked beyond a reach; NaN stays."""
    scores: Tensor = torch.special.ndtri(levels.double()).clamp(-_REACH, _REACH)
    return scores
