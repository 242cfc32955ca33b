r"""Online recalibration: levels adapted after every observation, without retraining."""

from __future__ import annotations

__all__ = ["OnlineRecalibration"]

from collections.abc import Mapping

import torch
from torch import Tensor

from ..distribution.levels import LEVELS
from ..distribution.pits import Pits
from ..distribution.quantile_function import QuantileFunction
from ..persistence.tensors import require_names, taken
from .recalibration import Recalibration, inverse

_STEPS = (0.1, 0.15, 0.05)  # step sizes on normal scores: component of all cells, of a channel, of a single cell
_BOUND = 5.0  # bound on normal scores: a tail probability of one in three million
_RATES = (0.0, 0.4, 1.5)  # multipliers of the step sizes: static, slow and fast adaptation
_PRIOR_WEIGHTS = (0.60, 0.32, 0.08)  # initial weights of the rates, which favour slow adaptation
_LEARNING_RATE, _MEMORY = 20.0, 100  # learning rate of the weights, and memory of the losses in windows


class OnlineRecalibration:
    r"""Online tracking of the quantiles of PITs, per channel and horizon step.

    On normal scores, :math:`z = \Phi^{-1}(u)`, the quantile at level :math:`\tau` moves by

    .. math:: q_\tau \leftarrow q_\tau + \eta \, (\tau - 1[z \leq q_\tau])

    after each observation. This is adaptive conformal inference on quantiles (the P term of conformal PID control).
    Each :math:`q_\tau` is a sum of three components: one for all cells, one for the horizon steps of a channel, and one
    for a single cell. Each component has its own step size and follows the mean over its cells. A common shift is
    therefore tracked quickly, the noise of single cells is not.

    The best rate differs between series and over time, and in calm periods any adaptation adds noise. So several rates
    run in parallel, of which the slowest never moves. The levels are their average, weighted by the quantile losses of
    each rate on the latest windows. A window is scored by the levels at its origin. Windows that share targets count as
    one, since they share errors. Intervals stay finite.

    References:
        | Adaptive Conformal Inference Under Distribution Shift (Gibbs and Candès, 2021)
        | https://arxiv.org/abs/2106.00170
        | Conformal Inference for Online Prediction with Arbitrary Distribution Shifts (Gibbs and Candès, 2022)
        | https://arxiv.org/abs/2208.08401
        | Conformal PID Control for Time Series Prediction (Angelopoulos et al., 2023)
        | https://arxiv.org/abs/2307.16895

    Arguments:
        prediction_length: The number of horizon steps :math:`H`.
        channels: The number of channels :math:`D`.
        overlap: The number of successive windows that share targets: :math:`H`, for windows at every row, if None; 1
            for windows a prediction length apart.

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
            raise ValueError(f"overlap is the number of windows that share targets, 1 or more, got {overlap}")
        self.overlap = overlap
        self.count = 0
        grid = torch.special.ndtri(torch.tensor(LEVELS, dtype=torch.float64))
        self._tracked = grid.expand(len(_RATES), prediction_length, channels, -1).clone()  # (R, H, D, P)
        self._at_origin = self._tracked.clone()  # at the origin of the windows that are now observed
        self._losses = torch.zeros(len(_RATES), dtype=torch.float64)

    @property
    def weights(self) -> Tensor:
        r"""Return the weight of each rate, from the static to the fastest, with shape :math:`(R,)`."""
        return torch.softmax(torch.tensor(_PRIOR_WEIGHTS, dtype=torch.float64).log() - _LEARNING_RATE * self._losses, 0)

    @property
    def scores(self) -> Tensor:
        r"""Return the normal scores that replace those of `LEVELS`, with shape :math:`(H, D, P)`."""
        mixed: Tensor = torch.einsum("r,rhdp->hdp", self.weights, self._tracked)
        return mixed

    def update(self, pits: Pits | Tensor) -> None:
        r"""Update the levels with observed values.

        Arguments:
            pits: The PITs under the unadapted marginals. One window has shape :math:`(H, D)`, several in order of time
                have shape :math:`(n, H, D)`. Several series, :math:`m` at each time, have shape :math:`(n, m, H, D)`
                and count as one by their mean. NaN marks a step that is missing or not yet observed. A tensor implies
                marginals without atoms.

        Raises:
            ValueError: If the shape is invalid.
        """
        shape = tuple(self._tracked.shape[1:3])
        pits = Pits.of(pits)
        if pits.shape[-2:] != shape or len(pits.shape) not in (2, 3, 4):
            raise ValueError(f"pits have shape {shape} or (n, {shape[0]}, {shape[1]}), got {tuple(pits.shape)}")
        series = pits.shape[1] if len(pits.shape) == 4 else 1
        grid = torch.tensor(LEVELS, dtype=torch.float64)
        rates = torch.tensor(_RATES, dtype=torch.float64) / self.overlap
        common, channel, single = (rates.view(-1, 1, 1, 1) * step for step in _STEPS)
        stream = pits.reshape(-1, series, *shape)
        for window in (stream[number] for number in range(len(stream))):
            if bool(window.lower.isnan().all()):
                continue
            z = _scores(window.values)[:, None, ..., None]  # (m, 1, H, D, 1)
            self.count += 1
            if self.count % self.overlap == 0:
                error = z - self._at_origin  # (m, R, H, D, P)
                losses = torch.maximum(grid * error, (grid - 1) * error).nanmean((0, 2, 3, 4))
                self._losses = (1 - 1 / _MEMORY) * self._losses + losses
            below = self._below(z, window)
            gradient = (grid - below).nanmean(0)  # (R, H, D, P)
            channel_gradient = gradient.nanmean(1, keepdim=True)
            step_of_groups = common * gradient.nanmean((1, 2), keepdim=True) + channel * channel_gradient.nan_to_num(
                0.0
            )
            self._tracked = (self._tracked + step_of_groups + single * gradient.nan_to_num(0.0)).clamp(-_BOUND, _BOUND)
            if self.count % self.overlap == 0:
                self._at_origin = self._tracked.clone()

    def _below(self, z: Tensor, window: Pits) -> Tensor:
        r"""Indicate scores (m, 1, H, D, 1) below each level, (m, R, H, D, P); at atoms, fractions."""
        below: Tensor = (z <= self._tracked).double().where(~z.isnan(), torch.nan)
        with_atoms = window.jumps.flatten(0, 1).any(0)  # (D,)
        if not bool(with_atoms.any()):
            return below
        jumps = window[..., with_atoms]
        maps = self._tracked[..., with_atoms, :].sort(-1).values
        rates, horizon, channels, _ = maps.shape
        low, high = (
            torch.special.ndtr(inverse(maps.flatten(0, 2), _scores(end).flatten(1).T.repeat(rates, 1)))
            .view(rates, horizon, channels, -1)
            .movedim(-1, 0)
            .unsqueeze(-1)
            for end in (jumps.lower, jumps.upper)
        )  # (m, R, H, D', 1)
        fraction = ((torch.tensor(LEVELS, dtype=torch.float32) - low) / (high - low).clamp(min=1e-9)).clamp(0, 1)
        below[..., with_atoms, :] = below[..., with_atoms, :].where(~jumps.jumps[:, None, ..., None], fraction)
        return below

    def adapted(self, pits: Pits | Tensor) -> Pits:
        r"""Return PITs under the currently adapted marginals.

        Arguments:
            pits: The PITs under the unadapted marginals, with shape :math:`(*, H, D)`. NaN marks a missing step. A
                tensor implies marginals without atoms.

        Returns:
            The PITs under the adapted marginals, with the same shape.
        """
        return Pits.of(pits).through(self.recalibration.adapted)

    @property
    def recalibration(self) -> Recalibration:
        r"""Return the current map of levels; the identity before the first observation."""
        if self.count == 0:
            return Recalibration.identity()
        maps = torch.special.ndtr(self.scores.sort(-1).values)  # monotone rearrangement
        return Recalibration(maps.unsqueeze(1), torch.arange(len(maps)))

    def levels(self, level: float) -> Tensor:
        r"""Return the level that replaces a nominal one.

        Arguments:
            level: The nominal level.

        Returns:
            The adapted level of each cell, with shape :math:`(H, D)`.
        """
        grid = torch.tensor(LEVELS, dtype=torch.float64)
        normal = QuantileFunction(grid, torch.special.ndtri(grid).expand(*self._tracked.shape[1:3], -1))
        adapted: Tensor = torch.special.ndtr(self.recalibration.apply(normal)(level))
        return adapted

    def state(self) -> dict[str, Tensor]:
        r"""Return the tensors of the state.

        Returns:
            Tensors only.
        """
        return {
            "tracked": self._tracked,
            "before": self._at_origin,
            "losses": self._losses,
            "count": torch.tensor(self.count),
            "overlap": torch.tensor(self.overlap),
        }

    @staticmethod
    def from_state(state: Mapping[str, Tensor]) -> OnlineRecalibration:
        r"""Restore an instance from its `state()`.

        Arguments:
            state: The tensors.

        Returns:
            The online recalibration in its saved state.

        Raises:
            ValueError: If a tensor is invalid.
        """
        require_names("the online recalibration", state, ["tracked", "before", "losses", "count", "overlap"])
        shape = (len(_RATES), None, None, len(LEVELS))
        tracked, before = (
            taken(state, name, torch.float64, shape, low=-_BOUND, high=_BOUND) for name in ("tracked", "before")
        )
        if tracked.shape != before.shape:
            raise ValueError(f"the tensor 'before' is expected with the shape of 'tracked', {tuple(tracked.shape)}")
        count, overlap = (
            int(taken(state, name, torch.int64, (), low=low, high=2**53))
            for name, low in (("count", 0), ("overlap", 1))
        )
        online = OnlineRecalibration(tracked.shape[1], tracked.shape[2], overlap)
        online._tracked, online._at_origin, online.count = tracked.clone(), before.clone(), count
        online._losses = taken(state, "losses", torch.float64, (len(_RATES),), low=0.0).clone()
        return online


def _scores(levels: Tensor) -> Tensor:
    r"""Convert levels to normal scores, clipped at a bound; NaN stays."""
    scores: Tensor = torch.special.ndtri(levels.double()).clamp(-_BOUND, _BOUND)
    return scores
