r"""Posteriors of weights, fitted by the guides of `Bayesian`."""

from __future__ import annotations

__all__ = ["FOUND", "Exact", "Laplace", "Posterior", "Problem", "Variational", "regressions", "solved_weights"]

import functools
from abc import abstractmethod
from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.distributions import kl_divergence

from .._random import seeded
from ..persistence.tensors import taken
from ..statistics.bayesian import BayesianRegression, draw_deviation
from .base import AdapterModule, RegressionData
from .linear import Linear
from .residual import Residual

#: Buffers whose sizes are known only once the posterior is fitted.
FOUND = ("factor", "shape", "rate", "block", "distance")
#: The initial standard deviation of the guides, in their units.
START = 0.01
#: The prior's standard deviation below which the guides' unit shrinks with it, and so the training steps.
NARROW = 0.1


class Posterior(nn.Module):
    r"""Abstract posterior of the deviations of weights from the values that the family holds."""

    @property
    def is_fitted(self) -> bool:
        r"""Whether the posterior is available: fitted, or trained from the start."""
        return True

    def draw(self, count: int, generator: torch.Generator | None) -> Tensor:
        r"""Draw deviations of the :math:`P` weights, with shape :math:`(M, P)`."""
        # Antithetic pairs: the sample mean of an even number of draws is the posterior mean.
        mean, half = self._draw(-(-count // 2), generator)
        return mean + torch.cat([half, -half])[:count]

    @abstractmethod
    def _draw(self, count: int, generator: torch.Generator | None) -> tuple[Tensor, Tensor]:
        r"""Return the posterior mean :math:`(P,)` and centred draws :math:`(M, P)`."""

    @abstractmethod
    def divergence(self) -> Tensor:
        r"""Return the divergence from the prior, in nats."""

    def require_sound(self, family: AdapterModule) -> None:
        r"""Check the tensors of a posterior loaded from a file, for the family whose weights are drawn."""

    def _load_from_state_dict(self, state_dict: dict[str, Tensor], prefix: str, *rest: Any) -> None:
        for name, _ in self.named_buffers(recurse=False):  # the saved tensors determine their sizes
            if prefix + name in state_dict:
                setattr(self, name, torch.empty_like(state_dict[prefix + name]))
        super()._load_from_state_dict(state_dict, prefix, *rest)


def _units(scale: float) -> tuple[float, float]:
    r"""Return the unit of the trained parameters, and the prior's standard deviation in that unit."""
    # Training starts from the same posterior with the same step size for any wide prior; a narrow prior shrinks both.
    unit = min(1.0, scale / NARROW)
    return unit, scale / unit


class Variational(Posterior):
    r"""Pyro guide over the weights in its unit; its parameters belong to this module."""

    def __init__(self, kind: str, size: int, scale: float, rank: int | None) -> None:
        super().__init__()
        import pyro
        from pyro.infer import autoguide

        self.unit, self.width = _units(scale)
        self.guide: Any
        settings: dict[str, Any] = {"init_loc_fn": autoguide.init_to_mean, "init_scale": START}
        # The guide creates its parameters in a first run. They stay out of Pyro's global store, and the draws of that
        # run do not affect PyTorch's global generator.
        with seeded(0), pyro.settings.context(module_local_params=True):
            prior = functools.partial(_prior, size, self.width)
            if kind == "mean-field":
                self.guide = autoguide.AutoDiagonalNormal(prior, **settings)
            else:
                self.guide = autoguide.AutoLowRankMultivariateNormal(prior, rank=rank, **settings)
            self.guide()

    def _draw(self, count: int, generator: torch.Generator | None) -> tuple[Tensor, Tensor]:
        posterior, loc = self.guide.get_posterior(), self.guide.loc
        normal = _normal((count, len(loc)), loc, generator)
        if hasattr(posterior, "cov_factor"):
            shared = _normal((count, posterior.cov_factor.shape[-1]), loc, generator)
            drawn = normal * posterior.cov_diag.sqrt() + shared @ posterior.cov_factor.mT
        else:
            drawn = normal * posterior.stddev
        return self.unit * loc, self.unit * drawn

    def divergence(self) -> Tensor:
        import pyro.distributions as dist

        posterior = self.guide.get_posterior()
        zero, width = torch.zeros_like(self.guide.loc), torch.full_like(self.guide.loc, self.width)
        prior: Any
        if hasattr(posterior, "cov_factor"):
            prior = dist.LowRankMultivariateNormal(zero, zero.unsqueeze(-1), width.square())
        else:
            prior = dist.Normal(zero, width).to_event(1)
        return kl_divergence(posterior, prior)


def _normal(shape: tuple[int, ...], like: Tensor, generator: torch.Generator | None) -> Tensor:
    r"""Draw standard normal numbers from a generator on any device."""
    device = like.device if generator is None else generator.device
    return torch.randn(shape, generator=generator, device=device, dtype=torch.float32).to(like)


def _prior(size: int, width: float) -> None:
    r"""Pyro model of the weights in the guide's unit."""
    import pyro
    import pyro.distributions as dist

    location = torch.zeros(size, dtype=torch.float32)
    pyro.sample("weights", dist.Normal(location, torch.full_like(location, width)).to_event(1))


class Laplace(Posterior):
    r"""Laplace approximation: the mode in its unit, and the root of the inverse curvature there."""

    factor: Tensor

    def __init__(self, size: int, scale: float) -> None:
        super().__init__()
        self.unit, self.width = _units(scale)
        self.location = nn.Parameter(torch.zeros(size, dtype=torch.float32))
        # (P, P), (P,) if diagonal, or empty before it is fitted
        self.register_buffer("factor", torch.empty(0, dtype=torch.float32))

    def fit(self, curvature: Tensor) -> None:
        r"""Set the curvature of the likelihood, with shape :math:`(P, P)`, or its diagonal, :math:`(P,)`."""
        precision = self.width**-2
        if curvature.ndim == 1:
            factor = (precision + curvature).rsqrt()
        else:
            unit = torch.eye(len(curvature), dtype=torch.float32).to(curvature)
            lower = torch.linalg.cholesky(precision * unit + curvature)
            factor = torch.linalg.solve_triangular(lower.mT, unit, upper=True)
        self.factor = factor.to(self.location)

    def require_sound(self, family: AdapterModule) -> None:
        size = len(self.location)
        shape = {1: (size,), 2: (size, size)}.get(self.factor.ndim, ())
        taken({"factor": self.factor}, "factor", torch.float32, shape if self.is_fitted else (0,))

    @property
    def is_fitted(self) -> bool:
        return self.factor.numel() > 0

    def _draw(self, count: int, generator: torch.Generator | None) -> tuple[Tensor, Tensor]:
        location = self.unit * self.location
        if not self.is_fitted:
            return location, location.new_zeros(count, len(location))
        normal = _normal((count, len(location)), location, generator)
        return location, self.unit * (normal @ self.factor.mT if self.factor.ndim == 2 else normal * self.factor)

    def divergence(self) -> Tensor:
        square = (self.location / self.width).square().sum()
        if not self.is_fitted:  # minus the prior's log density, so that training finds the mode
            return 0.5 * square
        diagonal = self.factor.diagonal() if self.factor.ndim == 2 else self.factor
        variance_term = (
            (self.factor / self.width).square().sum() - len(diagonal) - 2 * (diagonal / self.width).log().sum()
        )
        return 0.5 * (square + variance_term)


class Exact(Posterior):
    r"""Exact posterior of each channel's regression, in blocks of one strength; the family holds the mean."""

    factor: Tensor
    shape: Tensor
    rate: Tensor
    block: Tensor
    distance: Tensor

    def __init__(self, *, transposed: bool) -> None:
        super().__init__()
        self.transposed = transposed  # the family holds (p, D), not (D, p, q)
        for name in ("factor", "shape", "rate", "distance"):
            self.register_buffer(name, torch.empty(0, dtype=torch.float32))
        self.register_buffer("block", torch.empty(0, dtype=torch.long))

    def fit(self, problems: Iterator[Problem]) -> None:
        r"""Compute the posterior of each channel's regression."""
        factors, shapes, rates, distance = [], [], [], 0.0
        for problem in problems:
            fits = [
                BayesianRegression(problem.gram, problem.cross, problem.square, problem.rows, precision)
                for precision in problem.precision
            ]
            target_fit = problem.block, torch.arange(len(problem.block))
            factors.append(torch.stack([fit.factor for fit in fits]))
            shapes.append(torch.stack([fit.shape for fit in fits])[target_fit])
            rates.append(torch.stack([fit.rate for fit in fits])[target_fit])
            distance += float(torch.stack([fit.divergence for fit in fits])[target_fit].sum())
            self.block = problem.block
        self.factor = torch.stack(factors).float()  # (D, blocks, p, p)
        self.shape, self.rate = torch.stack(shapes).float(), torch.stack(rates).float()  # (D, q)
        self.distance = torch.tensor(distance, dtype=torch.float32)

    def require_sound(self, family: AdapterModule) -> None:
        state = dict(self.named_buffers())
        if not any(tensor.numel() for tensor in state.values()):  # not fitted
            return
        assert isinstance(family, Linear | Residual)
        if isinstance(family, Linear):
            targets, regressors, blocks = 1, family.latents, 1
        else:
            targets, regressors, blocks = family.weights.shape[2], family.weights.shape[1], family.strength.shape[1]
        taken(state, "factor", torch.float32, (family.channels, blocks, regressors, regressors))
        for name in ("shape", "rate"):
            if bool((taken(state, name, torch.float32, (family.channels, targets)) <= 0).any()):
                raise ValueError(f"the tensor {name!r} is expected to hold positive numbers")
        taken(state, "block", torch.long, (targets,), low=0, high=blocks - 1)
        taken(state, "distance", torch.float32, ())

    @property
    def is_fitted(self) -> bool:
        return self.factor.numel() > 0

    def _draw(self, count: int, generator: torch.Generator | None) -> tuple[Tensor, Tensor]:
        if not self.is_fitted:
            return self.factor.new_zeros(0), self.factor.new_empty(count, 0)
        drawn = self.factor.new_empty(count, len(self.factor), self.factor.shape[-1], len(self.block))  # (M, D, p, q)
        for number in range(self.factor.shape[1]):
            targets = self.block == number
            drawn[..., targets] = draw_deviation(
                count, self.factor[:, number], self.shape[:, targets], self.rate[:, targets], generator
            )
        drawn = (drawn[..., 0].mT if self.transposed else drawn).flatten(1)
        return drawn.new_zeros(drawn.shape[1]), drawn

    def divergence(self) -> Tensor:
        return self.distance if self.is_fitted else self.factor.new_zeros(())


class Problem(NamedTuple):
    r"""Regression of one channel, given by its sufficient statistics.

    Arguments:
        channel: The channel.
        gram: :math:`X^\top X`, with shape :math:`(p, p)`.
        cross: :math:`X^\top Y`, with shape :math:`(p, q)`.
        square: The sums of squares of the targets, with shape :math:`(q,)`.
        rows: The numbers of rows, with shape :math:`(q,)`.
        typical: The reference of the relative ridge strengths.
        precision: The prior precisions that correspond to each strength, with shape :math:`(blocks, p)`.
        block: The index of each target's strength, with shape :math:`(q,)`.
    """

    channel: int
    gram: Tensor
    cross: Tensor
    square: Tensor
    rows: Tensor
    typical: Tensor
    precision: Tensor
    block: Tensor


def solved_weights(family: AdapterModule) -> str | None:
    r"""Return the name of the weights that a family's closed form solves by ridge regression, or None."""
    if isinstance(family, Linear) and family.free == "decoder" and family.rank is None:
        return "decoder"
    return "weights" if isinstance(family, Residual) else None


def regressions(family: Linear | Residual, data: RegressionData) -> Iterator[Problem]:
    r"""Yield the regressions of a family's `solve`, with the strengths selected there."""
    if isinstance(family, Linear):
        location, scale = family.location_scale(data.past)
        latent = data.forecast.double()
        residual = (data.future.double() - location) / scale - latent @ family.directions.mT.double()  # (n, H, D)
        for channel in range(family.channels):
            observed = ~residual[..., channel].isnan()
            weight = torch.where(observed, scale[..., channel].double(), 0.0).unsqueeze(-1)  # (n, H, 1)
            x = (weight * latent).flatten(0, 1)
            y = (weight * torch.where(observed, residual[..., channel], 0.0).unsqueeze(-1)).flatten(0, 1)
            gram = x.mT @ x
            typical = gram.diagonal().mean().clamp(min=1e-12)
            precision = (family.strength[channel] * typical).expand(1, len(gram))
            yield Problem(channel, gram, x.mT @ y, y.square().sum(0), observed.sum().expand(1), typical, precision,
                           torch.zeros(1, dtype=torch.long))  # fmt: skip
        return
    regressors = family.regressors(data.past, data.forecast).projected(family.basis)
    own = regressors.own
    horizon, blocks = data.future.shape[1], family.strength.shape[1]
    block = torch.arange(horizon) * blocks // horizon
    for channel in range(family.channels):
        equations = family.equations(channel, regressors, data)
        gram, cross, gap = equations.sums()
        # For a horizon step observed a fraction r of the time, data and prior precision count r times: as if all were
        # observed with a noise of variance 1 / r.
        inflation = family.inflation(gram, gap)
        observed = (~data.future[..., channel].isnan()).sum(0)
        typical = gram.diagonal()[: own.shape[-1]].mean().clamp(min=1e-12)
        fractions = family.share[channel].unsqueeze(-1).repeat(1, len(gram))
        fractions[:, : own.shape[-1]] = 1.0
        precision = family.strength[channel].unsqueeze(-1) * typical / fractions.square()  # (blocks, p)
        filled = equations.filled(family.guess[channel].double())
        cross, square = family.completed(channel, gram, cross, gap, filled)[1], equations.y.square().sum(0)
        if bool(gap.any()):  # the noise from observed errors, as the sums cover different windows
            weights = family.weights[channel].double()
            square = inflation * equations.error(weights) + (weights * (2 * cross - gram @ weights)).sum(0)
        yield Problem(channel, gram, cross, square, observed, typical, precision, block)
