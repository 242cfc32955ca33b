r"""What training minimises, by name: losses of what an adapter makes of the frozen model's forecasts."""

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

#: Joint samples a window that "energy" and, where channels are mixed, "quantile" are estimated on.
SAMPLES = 16


@dataclass(frozen=True)
class Outlook:
    r"""What a training step knows of a batch: the frozen model's quantiles of the latent channels, to be decoded.

    Arguments:
        adapter: The adapter.
        state: Its state for these windows, with its :math:`M` draws; one, mostly.
        levels: The quantile levels, with shape :math:`(Q,)`.
        values: The latent quantiles of each draw, with shape :math:`(M, B, H, K, Q)`.
        log_scale: The logarithms of the normal likelihood's scales, in units of the windows' own, with shape
            :math:`(D,)`; for families that declare no likelihood.
        windows: The number of train windows, which share the divergence of the weights.
        copula: The dependence of the latent channels, from which joint samples are drawn; independence if None.
        generator: The source of joint samples; PyTorch's own if None.
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
        r"""Returns each draw's decoded median path, with shape :math:`(M, B, H, D)`."""
        middle = int((self.levels - 0.5).abs().argmin())
        return self.adapter.decode(self.values[..., middle], self.state)

    def samples(self, *, stratified: bool = False) -> Tensor:
        r"""Returns decoded joint samples, functions of the parameters at fixed levels: :math:`(S, M, B, H, D)`.

        Arguments:
            stratified: Whether the samples of a window are stratified, for its quantiles; independent, for the fair
                estimate of a score, if not.
        """
        draws, batch, horizon, latents, _ = self.values.shape
        copula = self.copula or Independent(horizon, latents)
        if stratified:
            u = copula.uniforms(SAMPLES, self.generator, windows=draws * batch)  # (S, M*B, H, K)
        else:
            u = copula.uniforms(1, self.generator, windows=SAMPLES * draws * batch)  # (1, S*M*B, H, K)
        return self._decoded(u.to(self.values).reshape(SAMPLES, *self.values.shape[:-1]))

    def quantiles(self) -> tuple[Tensor, Tensor]:
        r"""Returns levels :math:`(Q,)` and the decoded quantiles at them, :math:`(Q, M, B, H, D)`."""
        if self.adapter.mixes_channels:
            levels = (torch.arange(SAMPLES) + 0.5) / SAMPLES
            return levels.to(self.values), self.samples(stratified=True).sort(0).values
        wanted = self.adapter.latent_levels(self.levels[:, None].expand(-1, self.adapter.channels))  # (Q, K)
        u = wanted[:, None, None, None].expand(-1, *self.values.shape[:-1]).to(self.values)
        return self.levels, self._decoded(u)

    def _decoded(self, u: Tensor) -> Tensor:
        r"""The decoded latent quantiles at levels :math:`(S, M, B, H, K)`."""
        paths = QuantileFunction(self.levels, self.values)(u).transpose(0, 1)  # (M, S, B, H, K)
        decoded: Tensor = self.adapter.decode(paths.flatten(0, 1), self.state).unflatten(0, paths.shape[:2])
        return decoded.transpose(0, 1)

    def log_likelihood(self, future: Tensor) -> Tensor:
        r"""Returns the log densities of targets without NaN under each draw, with shape :math:`(M, B, H, D)`."""
        path = self.median()
        law = self.adapter.likelihood(path, self.state)
        if law is None:
            law = Normal(path, self.log_scale.exp() * self.state.scale)
        density: Tensor = law.log_prob(future.expand_as(path))
        return density


#: Takes an outlook, targets without NaN, and the weights of their cells, 0 where missing; both (B, H, D).
_Loss = Callable[[Outlook, Tensor, Tensor], Tensor]


def _mean(losses: Tensor, weights: Tensor) -> Tensor:
    r"""The mean of the cells' losses :math:`(M, B, H, D)`, by weight."""
    return (losses.mean(0) * weights).sum() / weights.sum().clamp(min=1e-9)


def _pointwise(loss: Callable[..., Tensor]) -> _Loss:
    def mean_loss(outlook: Outlook, future: Tensor, weights: Tensor) -> Tensor:
        path = outlook.median()
        return _mean(loss(path, future.expand_as(path), reduction="none"), weights)

    return mean_loss


def _quantile(outlook: Outlook, future: Tensor, weights: Tensor) -> Tensor:
    levels, values = outlook.quantiles()
    error = future - values  # (Q, M, B, H, D)
    levels = levels.view(-1, 1, 1, 1, 1)
    return _mean(2 * torch.maximum(levels * error, (levels - 1) * error).mean(0), weights)


def _nll(outlook: Outlook, future: Tensor, weights: Tensor) -> Tensor:
    return _mean(-outlook.log_likelihood(future), weights)


def _elbo(outlook: Outlook, future: Tensor, weights: Tensor) -> Tensor:
    adapter, state = outlook.adapter, outlook.state
    fit = -(outlook.log_likelihood(future).mean(0) * weights).sum((1, 2))  # (B,)
    cost = adapter.beta * adapter.divergence(state) + adapter.weight_divergence() / outlook.windows
    # A window's bound, a cell: of the order of the other objectives whatever the horizon.
    return (fit + cost).mean() / math.prod(future.shape[1:])


def _energy(outlook: Outlook, future: Tensor, weights: Tensor) -> Tensor:
    samples = outlook.samples()  # (S, M, B, H, D)
    size = weights.sum((1, 2))  # (B,)
    root = (weights / size.clamp(min=1e-9).view(-1, 1, 1)).sqrt()
    x, y = (samples * root).flatten(-2), (future * root).flatten(-2)  # (S, M, B, H*D), (B, H*D)
    first, second = torch.triu_indices(len(x), len(x), 1)  # distinct pairs: the fair estimate
    score = _distance(x - y).mean(0) - _distance(x[first] - x[second]).mean(0) / 2  # (M, B)
    return (score.mean(0) * (size > 0)).sum() / (size > 0).sum().clamp(min=1)


def _distance(x: Tensor) -> Tensor:
    r"""The Euclidean norm over the last axis, with a finite gradient at 0."""
    square = x.square().sum(-1)
    return torch.where(square > 0, square, 1.0).sqrt() * (square > 0)


#: What training can minimise, standardised.
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
    r"""A training objective: a mean over windows and the cells that were seen.

    With :math:`\hat y` the decoded median path, and the cells weighted by :math:`w_h`:

    - `"mse"`: :math:`(y - \hat y)^2`; `"mae"`: :math:`|y - \hat y|`;
    - `"huber"`: quadratic within one standard deviation of the train rows, linear beyond (Huber, 1964);
    - `"quantile"`: :math:`2 \max(\tau e, (\tau - 1) e)`, :math:`e = y - q_\tau`, the mean over the levels
      (Koenker and Bassett, 1978), of the decoded levels, or of ordered joint samples where channels are mixed;
    - `"nll"`: :math:`-\log p(y | \hat y)`, the family's own likelihood or a normal one with a learned scale a channel;
    - `"elbo"`: the same plus :math:`\beta\, KL(q(Z|X) \| p(Z)) + KL(q(W) \| p(W)) / n`, the negative evidence lower
      bound (AdaPTS, Prop. 4.1), a cell;
    - `"energy"`: :math:`E\|Y' - y\| - \tfrac12 E\|Y' - Y''\|` of joint samples, its fair estimate (Gneiting and
      Raftery, 2007), reparameterised.

    Arguments:
        name: The objective's name.
        horizon_weights: The weight of each lead as a share of that of the lead before it, :math:`w_h \propto a^h` (the
            multi-step loss of Benechehab et al., 2023, arXiv 2310.05672); 1 weighs all leads alike.

    Raises:
        ValueError: If no objective has that name, or the weights are not within (0, 1].
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
        r"""Returns the objective of a batch.

        Arguments:
            outlook: What is known of the windows.
            future: The targets, standardised, with shape :math:`(B, H, D)`. NaN marks a missing one, which is left
                out.
        """
        seen = ~future.isnan()
        horizon = future.shape[1]
        leads = self.horizon_weights ** torch.arange(horizon, dtype=future.dtype, device=future.device)
        weights = torch.where(seen, (leads * horizon / leads.sum()).unsqueeze(-1), 0.0)
        return OBJECTIVES[self.name](outlook, torch.where(seen, future, 0.0), weights)
