r"""Training objectives by name: losses of the adapter's decoded forecasts."""

from __future__ import annotations

__all__ = ["OBJECTIVES", "Objective", "Outlook"]

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.distributions import Normal
from torch.nn import functional

from .. import checks
from ..adapters import AdapterModule, State
from ..copulas.base import Copula
from ..copulas.independent import Independent
from ..distribution.quantile_function import QuantileFunction
from ..errors import shown
from ..statistics.losses import pinball_loss

#: The number of joint samples per window for "energy" and, where decoding mixes channels, for "quantile".
SAMPLES = 16


@dataclass(frozen=True)
class Outlook:
    r"""Latent forecast of a batch in a training step, to be decoded by an objective.

    Arguments:
        adapter: The adapter.
        state: Its state for these windows, with its :math:`M` draws; usually one.
        levels: The quantile levels, with shape :math:`(Q,)`.
        values: The latent quantiles of each draw, with shape :math:`(M, B, H, K, Q)`.
        log_scale: The logarithms of the normal likelihood's scales, in units of the windows' own, with shape
            :math:`(D,)`; for families that declare no likelihood.
        windows: The number of train windows, by which the divergence of the weights is divided.
        copula: The copula of the latent channels in joint samples; independence if None.
        generator: The random generator of joint samples; PyTorch's own if None.
    """

    adapter: AdapterModule
    state: State
    levels: Tensor
    values: Tensor
    log_scale: Tensor
    windows: int
    copula: Copula | None = None
    generator: torch.Generator | None = None

    def median(self) -> Tensor:
        r"""Return each draw's decoded median path, with shape :math:`(M, B, H, D)`."""
        median_index = int((self.levels - 0.5).abs().argmin())
        return self.adapter.decode(self.values[..., median_index], self.state)

    def samples(self, *, stratified: bool = False) -> Tensor:
        r"""Return decoded joint samples, differentiable in the parameters, with shape :math:`(S, M, B, H, D)`.

        Arguments:
            stratified: Whether the samples of a window are stratified, as for its quantiles, or independent, as for
                the fair estimate of a score.
        """
        draws, batch, horizon, latents, _ = self.values.shape
        copula = self.copula or Independent(horizon, latents)
        if stratified:
            u = copula.uniforms(SAMPLES, self.generator, windows=draws * batch)  # (S, M*B, H, K)
        else:
            u = copula.uniforms(1, self.generator, windows=SAMPLES * draws * batch)  # (1, S*M*B, H, K)
        return self._decoded(u.to(self.values).reshape(SAMPLES, *self.values.shape[:-1]))

    def quantiles(self) -> tuple[Tensor, Tensor]:
        r"""Return levels :math:`(Q,)` and the decoded quantiles at them, :math:`(Q, M, B, H, D)`."""
        if self.adapter.capabilities.mixes_channels:
            levels = (torch.arange(SAMPLES) + 0.5) / SAMPLES
            return levels.to(self.values), self.samples(stratified=True).sort(0).values
        level = self.levels[:, None].expand(-1, self.adapter.channels)
        latent_levels = self.adapter.latent_levels(level)  # (Q, K)
        if torch.equal(latent_levels, level):
            return self.levels, self._decode_paths(self.values.movedim(-1, 0))
        u = latent_levels[:, None, None, None].expand(-1, *self.values.shape[:-1]).to(self.values)
        return self.levels, self._decoded(u)

    def _decoded(self, u: Tensor) -> Tensor:
        r"""Return the decoded latent quantiles at levels :math:`(S, M, B, H, K)`."""
        return self._decode_paths(QuantileFunction(self.levels, self.values)(u))

    def _decode_paths(self, paths: Tensor) -> Tensor:
        r"""Return decoded latent paths (S, M, B, H, K)."""
        paths = paths.transpose(0, 1)  # (M, S, B, H, K)
        decoded: Tensor = self.adapter.decode(paths.flatten(0, 1), self.state).unflatten(0, paths.shape[:2])
        return decoded.transpose(0, 1)

    def log_likelihood(self, future: Tensor) -> Tensor:
        r"""Return the log densities of targets without NaN under each draw, with shape :math:`(M, B, H, D)`."""
        path = self.median()
        distribution = self.adapter.likelihood(path, self.state)
        if distribution is None:
            distribution = Normal(path, self.log_scale.exp() * self.state.scale)
        density: Tensor = distribution.log_prob(future.expand_as(path))
        return density


#: A function of an outlook, targets without NaN, and the weights of their cells, 0 where missing; both (B, H, D).
_Loss = Callable[[Outlook, Tensor, Tensor], Tensor]


def _mean(losses: Tensor, weights: Tensor) -> Tensor:
    r"""Return the weighted mean of the cells' losses :math:`(M, B, H, D)`."""
    return (losses.mean(0) * weights).sum() / weights.sum().clamp(min=1e-9)


def _pointwise(loss: Callable[..., Tensor]) -> _Loss:
    def mean_loss(outlook: Outlook, future: Tensor, weights: Tensor) -> Tensor:
        path = outlook.median()
        return _mean(loss(path, future.expand_as(path), reduction="none"), weights)

    return mean_loss


def _quantile(outlook: Outlook, future: Tensor, weights: Tensor) -> Tensor:
    levels, values = outlook.quantiles()
    losses = pinball_loss(future - values, levels.view(-1, 1, 1, 1, 1))  # (Q, M, B, H, D)
    return _mean(2 * losses.mean(0), weights)


def _nll(outlook: Outlook, future: Tensor, weights: Tensor) -> Tensor:
    return _mean(-outlook.log_likelihood(future), weights)


def _elbo(outlook: Outlook, future: Tensor, weights: Tensor) -> Tensor:
    adapter, state = outlook.adapter, outlook.state
    negative_log_likelihood = -(outlook.log_likelihood(future).mean(0) * weights).sum((1, 2))  # (B,)
    divergence = adapter.beta * adapter.divergence(state) + adapter.weight_divergence() / outlook.windows
    # Divide by the number of cells: the magnitude is comparable to other objectives for any horizon.
    return (negative_log_likelihood + divergence).mean() / math.prod(future.shape[1:])


def _energy(outlook: Outlook, future: Tensor, weights: Tensor) -> Tensor:
    samples = outlook.samples()  # (S, M, B, H, D)
    total = weights.sum((1, 2))  # (B,)
    root_weights = (weights / total.clamp(min=1e-9).view(-1, 1, 1)).sqrt()
    x, y = (samples * root_weights).flatten(-2), (future * root_weights).flatten(-2)  # (S, M, B, H*D), (B, H*D)
    first, second = torch.triu_indices(len(x), len(x), 1)  # distinct pairs, for the fair estimate
    score = _distance(x - y).mean(0) - _distance(x[first] - x[second]).mean(0) / 2  # (M, B)
    return (score.mean(0) * (total > 0)).sum() / (total > 0).sum().clamp(min=1)


def _distance(x: Tensor) -> Tensor:
    r"""Return the Euclidean norm over the last axis, with a finite gradient at 0."""
    square = x.square().sum(-1)
    return torch.where(square > 0, square, 1.0).sqrt() * (square > 0)


#: The training objectives by name, on standardised targets.
OBJECTIVES: dict[str, _Loss] = {
    "mse": _pointwise(functional.mse_loss),
    "mae": _pointwise(functional.l1_loss),
    "huber": _pointwise(functional.huber_loss),
    "quantile": _quantile,
    "nll": _nll,
    "elbo": _elbo,
    "energy": _energy,
}


@dataclass(frozen=True)
class Objective:
    r"""Training objective: a weighted mean over windows and observed cells.

    With :math:`\hat y` the decoded median path, and the cells weighted by :math:`w_h`:

    - `"mse"`: :math:`(y - \hat y)^2`; `"mae"`: :math:`|y - \hat y|`;
    - `"huber"`: quadratic within one standard deviation of the train rows, linear beyond (Huber, 1964);
    - `"quantile"`: :math:`2 \max(\tau e, (\tau - 1) e)`, :math:`e = y - q_\tau`, averaged over the levels
      (Koenker and Bassett, 1978); of the decoded quantiles, or of ordered joint samples if decoding mixes channels;
    - `"nll"`: :math:`-\log p(y | \hat y)`, by the family's own likelihood or a normal one with a learned scale per
      channel;
    - `"elbo"`: the same plus :math:`\beta\, KL(q(Z|X) \| p(Z)) + KL(q(W) \| p(W)) / n`, the negative evidence lower
      bound (AdaPTS, Prop. 4.1), per cell;
    - `"energy"`: :math:`E\|Y' - y\| - \tfrac12 E\|Y' - Y''\|`, the fair estimate from joint samples (Gneiting and
      Raftery, 2007), reparameterised.

    Arguments:
        name: The objective's name.
        horizon_weights: The weight of each horizon step relative to the step before it, :math:`w_h \propto a^h` (the
            multi-step loss of Benechehab et al., 2023, arXiv 2310.05672); 1 gives equal weights.

    Raises:
        ValueError: If no objective has that name, or `horizon_weights` is not within (0, 1].
    """

    name: str
    horizon_weights: float = 1.0

    def __post_init__(self) -> None:
        checks.choice("objective", self.name, OBJECTIVES)
        if not 0 < checks.real(self.horizon_weights) <= 1:
            raise ValueError(
                f"expected horizon_weights within (0, 1], 1 for equal weights, got {shown(self.horizon_weights)}"
            )

    def __call__(self, outlook: Outlook, future: Tensor) -> Tensor:
        r"""Return the objective of a batch.

        Arguments:
            outlook: The latent forecast of the windows.
            future: The standardised targets, with shape :math:`(B, H, D)`. NaN marks a missing target, which is
                ignored.
        """
        observed = ~future.isnan()
        horizon = future.shape[1]
        step_weights = self.horizon_weights ** torch.arange(horizon, dtype=future.dtype, device=future.device)
        weights = torch.where(observed, (step_weights * horizon / step_weights.sum()).unsqueeze(-1), 0.0)
        return OBJECTIVES[self.name](outlook, torch.where(observed, future, 0.0), weights)
