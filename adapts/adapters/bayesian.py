r"""Bayesian weights for any family."""

from __future__ import annotations

__all__ = ["Bayesian"]

import functools
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from fnmatch import fnmatchcase
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.distributions import Distribution

from .. import checks
from ..errors import shown
from ..persistence.tensors import Kind
from ._posteriors import FOUND, Exact, Laplace, Posterior, Variational, regressions, solved_weights
from .base import AdapterModule, Evidence, State, fill_missing, make, register, require_size
from .ensemble import InTurn, within
from .linear import Linear
from .residual import Residual

#: The prior's standard deviation where gradients train, unless one is given.
PRIOR_SCALE = 0.1
#: The most weights whose curvature is kept as a matrix; of more only its diagonal.
FULL = 1024
#: The most curvatures on the way to the mode where they are kept whole, and the most steps that each is good for.
TURNS, STEPS = 4, 8
#: The gain of such a step, in nats, that ends them: a hundredth of a standard deviation in all.
NEGLIGIBLE = 1e-4
#: The random directions a batch of windows from which a diagonal curvature is estimated.
PROBES = 8
#: The most numbers that one batch of derivatives may hold: 64 MB.
MAX_NUMBERS = 2**24
#: `torch.func` binds drawn weights to the module for as long as a call lasts, which no other thread may see.
_BOUND = threading.RLock()
#: Where the deviations of the weights stand among what is drawn.
_WEIGHTS = "weights"


@register("bayesian")
class Bayesian(AdapterModule):
    r"""Draws chosen weights of another family from their posterior, so that what the data leave open enters the law.

    .. math:: W \sim q(W) \approx p(W | \text{train windows}), \quad p(W) = \mathcal N(W_0, s^2 I)

    where :math:`W_0` are the weights that the family starts from: the frozen model itself. A draw is used by encoding
    and decoding alike. How :math:`q` is found, the guide says:

    - `"exact"`: the posterior of linear regression with the noise integrated out, for weights that enter linearly:
      `decoder` of `Linear(free="decoder")`, `weights` of `Residual`. Its mean is the family's own closed form.
    - `"mean-field"` and `"low-rank"`: a normal law with diagonal, or diagonal and low-rank covariance (Pyro's
      `AutoDiagonalNormal` and `AutoLowRankMultivariateNormal`), trained by the objective `"elbo"`; its divergence from
      the prior is taken in closed form. It starts narrow, with standard deviations of 0.01 or a tenth of the prior's,
      and training ends where the validation loss does: after few epochs its means are right sooner than its widths,
      which are then too small.
    - `"laplace"`: a normal law about the most probable weights, with the inverse of the Gauss-Newton curvature there
      as covariance: of all weights together up to 1024 of them behind latent channels that no draw changes, the mode
      found from wherever training stopped; otherwise its diagonal, where training by the objective `"elbo"` stopped.
      The mode sought is that of normal errors, whatever the objective, which then trains the other weights alone;
      `horizon_weights` weigh the errors of either.

    These three are trained by `"elbo"` unless another objective is asked for: no other knows of the prior.

    Stochastic; as invertible as the family. Where no drawn weight changes the latent channels one frozen pass serves
    all draws; otherwise each draw pays for latent channels of its own. Mistaken for the whole uncertainty: that of
    the weights is the smaller part where windows are many, and all guides count windows as independent, which
    overlapping ones are not. `Adapter` adds the missing noise as measured out of sample.

    References:
        | Do Bayesian Neural Networks Need To Be Fully Stochastic? (Sharma et al., 2023)
        | https://arxiv.org/abs/2211.06291
        | Weight Uncertainty in Neural Networks (Blundell et al., 2015), https://arxiv.org/abs/1505.05424
        | Laplace Redux (Daxberger et al., 2021), https://arxiv.org/abs/2106.14806
        | Pyro: Deep Universal Probabilistic Programming (Bingham et al., 2019), https://jmlr.org/papers/v20/18-403.html

    Arguments:
        base: The name of the family whose weights are drawn, or of a recipe on the shelf.
        base_options: The options of that family; its defaults where left out.
        sites: Patterns of the names of the weights to draw, such as `"decoder*"` or `"encoder.0.bias"`; the others are
            fitted as in the family itself.
        guide: How their posterior is found: `"exact"`, `"mean-field"`, `"low-rank"` or `"laplace"`.
        prior_scale: The prior's standard deviation :math:`s`: of the weights as they stand, or, where the guide is
            exact, in units of the noise's, so that one scale means two priors. If None, 0.1 or, where the guide is
            exact, as blocked cross-validation chooses it.
        rank: The rank of the low-rank guide; the root of the number of weights if None.

    Example:
        >>> family = Bayesian(base="linear", sites=["decoder"], guide="mean-field")
        >>> bayesian = family.build(channels=7).eval()
        >>> z, state = bayesian.encode(torch.randn(32, 96, 7), draws=20)
        >>> z.shape, bayesian.decode(torch.randn(40, 32, 24, 7), state).shape
        (torch.Size([1, 32, 96, 7]), torch.Size([40, 32, 24, 7]))
    """

    undecayed: ClassVar[tuple[str, ...]] = ("posterior.",)

    base: str = "residual"
    base_options: Mapping[str, Any] = {}
    sites: Sequence[str] = ("weights",)
    guide: str = "exact"
    prior_scale: float | None = None
    rank: int | None = None

    inner: AdapterModule
    posterior: Posterior
    names: tuple[str, ...]  # of the drawn weights
    _trained: tuple[str, ...]  # of the weights that gradients train as they are
    _reached: frozenset[str]  # of the weights that change the latent channels
    #: Whether `torch.vmap` takes the family; not, if it writes in place.
    _stackable = True

    def _check(self) -> None:
        self.names, self._trained, self._reached = (), (), frozenset()
        self.base, self.base_options = within(self, "base")
        if self.base in ("bayesian", "ensemble"):
            raise ValueError(
                f"Bayesian expects a base of weights of its own, got {self.base!r}: "
                "for an ensemble of Bayesian adapters pass member='bayesian' to Ensemble"
            )
        self.inner = make(self.base, self.base_options)
        sites = (self.sites,) if isinstance(self.sites, str) else self.sites
        if not isinstance(sites, Sequence) or not sites or not all(isinstance(site, str) for site in sites):
            raise ValueError(
                f'Bayesian expects sites to be patterns of names, such as ["decoder*"], got {shown(sites)}'
            )
        self.sites = tuple(sites)
        checks.choice("guide", self.guide, ["exact", "mean-field", "low-rank", "laplace"])
        if self.guide == "exact" and solved_weights(self.inner) is None:
            raise ValueError(
                f"the exact guide needs weights that enter linearly: base='residual', or base='linear' with "
                f"base_options={{'free': 'decoder'}} and no rank, got base={self.base!r} with "
                f"{shown(self.base_options)}; guide='laplace' and 'mean-field' take any"
            )
        kind = "a positive number from 1e-9 to 1e6"
        checks.number("Bayesian expects prior_scale", self.prior_scale, kind, lambda x: 1e-9 <= x <= 1e6, none=True)
        checks.integer("Bayesian expects rank", self.rank, none=True)
        if self.rank is not None and self.guide != "low-rank":
            raise ValueError(
                f"Bayesian expects rank to be a positive integer with guide='low-rank' and None with any other, "
                f"got rank={self.rank!r} with guide={self.guide!r}"
            )

    # ------------------------------------------------------------------ what the base declares

    @property
    def observed_latents(self) -> bool:  # type: ignore[override]
        return self.inner.observed_latents

    @property
    def mixes_channels(self) -> bool:  # type: ignore[override]
        return self.inner.mixes_channels

    @property
    def needs_forecast(self) -> bool:  # type: ignore[override]
        return self.inner.needs_forecast

    @property
    def found_later(self) -> tuple[str, ...]:  # type: ignore[override]
        return (*(f"inner.{name}" for name in self.inner.found_later), *(f"posterior.{name}" for name in FOUND))

    @property
    def unbounded(self) -> tuple[str, ...]:  # type: ignore[override]
        return self.inner.unbounded

    @property
    def beta(self) -> float:  # type: ignore[override]
        return self.inner.beta

    @property
    def objective(self) -> str:  # type: ignore[override]
        # under any other, the prior is not heard, and nothing keeps the variance of the weights from vanishing
        return self.inner.objective if self.guide == "exact" else "elbo"

    @property
    def penalised(self) -> bool:
        return self.inner.penalised

    @property
    def unfinished(self) -> bool:
        return self.guide == "laplace"

    @property
    def latents(self) -> int:
        return self.inner.latents

    @property
    def closed_form(self) -> bool:
        return self.guide == "exact"

    @property
    def stochastic(self) -> bool:
        # a posterior that is still to be found is the weights that the family holds
        return self.channels == 0 or self.inner.stochastic or self.posterior.known

    @property
    def stochastic_latents(self) -> bool:
        return self.inner.stochastic_latents or bool(self._reached.intersection(self.names))

    @property
    def fixed_latents(self) -> bool:
        return not (self.inner.stochastic_latents or self._reached.intersection((*self.names, *self._trained)))

    def latent_levels(self, u: Tensor) -> Tensor:
        return self.inner.latent_levels(u)

    def spread(self, past: Tensor) -> Tensor:
        return self.inner.spread(past)

    # ------------------------------------------------------------------ making

    def _count_weights(self, channels: int) -> int:
        return self.inner._count_weights(channels)

    def _build(self, channels: int) -> None:
        self.inner = self.inner.build(channels)
        self._reached, told = self._reaching()
        self.names = self._chosen(told)
        self._trained = tuple(
            name for name, weight in self.inner.named_parameters() if weight.requires_grad and name not in self.names
        )
        for name in self.names:
            self._weight(name).requires_grad_(False)  # from here on it is the prior's mean
        size = sum(self._weight(name).numel() for name in self.names)
        scale = self.prior_scale or PRIOR_SCALE
        if self.guide == "exact":
            self.posterior = Exact(transposed=isinstance(self.inner, Linear))
        elif self.guide == "laplace":
            self.posterior = Laplace(size, scale)
        else:
            require_size(self, size * (self.rank or 1))
            self.posterior = Variational(self.guide, size, scale, self.rank)

    def require_sizes(self, channels: int, kinds: Mapping[str, Kind]) -> None:
        prefix, factor = "inner.", "posterior.guide.cov_factor"
        self.inner.require_sizes(
            channels, {name.removeprefix(prefix): kind for name, kind in kinds.items() if name.startswith(prefix)}
        )
        if self.rank is not None and (factor not in kinds or kinds[factor][1][-1:] != (self.rank,)):
            raise ValueError(f"Bayesian has rank={shown(self.rank)}, and the tensor {factor!r} another")

    def require_sound(self, context_length: int, prediction_length: int) -> None:
        super().require_sound(context_length, prediction_length)
        self.inner.require_sound(context_length, prediction_length)
        self.posterior.require_sound(self.inner)

    def _chosen(self, told: frozenset[str]) -> tuple[str, ...]:
        r"""The names of the weights that the patterns mean, in the family's order, of those that forecasts tell of."""
        linear = solved_weights(self.inner)
        if self.guide == "exact" and linear is not None:
            names = [linear]
        else:  # what normalises windows is not drawn: it stands before all draws
            names = [name for name, _ in self.inner.named_parameters() if name not in ("log_gain", "offset")]
        if self.guide == "laplace":  # a curvature of forecasts says nothing of weights that change none of them
            names = [name for name in names if name in told]
        chosen = set()
        for site in self.sites:
            # "decoder.*" means the parts of a decoder, and a decoder that is one matrix
            found = {name for name in names if fnmatchcase(name, site) or fnmatchcase(f"{name}.", site)}
            if not found:
                known = ", ".join(names) or "none"
                raise ValueError(
                    f"the site {shown(site)} matches no weight that guide={self.guide!r} can draw of {self.base!r}; "
                    f"these are: {known}"
                )
            chosen |= found
        return tuple(name for name in names if name in chosen)

    def _reaching(self) -> tuple[frozenset[str], frozenset[str]]:
        r"""Finds by their gradients which weights change the latent channels, and which these or their decoding."""
        named = dict(self.inner.named_parameters())
        if self.observed_latents or not named:
            return frozenset(), frozenset(named)
        free = {name: weight.requires_grad for name, weight in named.items()}
        self.inner.requires_grad_(True)
        with torch.enable_grad():
            x = torch.zeros(1, 2, self.channels, dtype=torch.float32)
            part = State(x, *self.inner._statistics(x), generator=torch.Generator().manual_seed(0), forecast=x)
            self.inner._draw(part)
            z = self.inner._encode((x - part.location) / part.scale, part)
            latent = _changing(z, named)
            paths = torch.zeros(1, 1, 2, self.inner.latents, dtype=torch.float32)
            forecast = latent | _changing(self.inner._decode(paths, part), named)
        for name, weight in named.items():
            weight.requires_grad_(free[name])
        return latent, forecast

    def _weight(self, name: str) -> Tensor:
        r"""The family's own value of a weight, a parameter or a buffer."""
        owner, _, own = name.rpartition(".")
        weight: Tensor = getattr(self.inner.get_submodule(owner), own)
        return weight

    def _prepare(self, rows: Tensor) -> None:
        self.inner.prepare(rows)

    @torch.no_grad()
    def solve(self, evidence: Evidence, *, choose: bool) -> None:
        if not isinstance(self.posterior, Exact):
            super().solve(evidence, choose=choose)
            return
        self.inner.solve(evidence, choose=choose)
        assert isinstance(self.inner, Linear | Residual)
        if self.prior_scale is not None:
            for problem in regressions(self.inner, evidence):
                self.inner.strength[problem.channel] = self.prior_scale**-2 / problem.typical
            if isinstance(self.inner, Residual):
                self.inner.share.fill_(1.0)
        if choose or self.prior_scale is not None:  # once more: on windows that are in no fold too
            self.inner.solve(evidence, choose=False)
        self.posterior.settle(regressions(self.inner, evidence))

    def after_training(
        self,
        evidence: Evidence,
        through: Callable[[Tensor], Tensor] | None = None,
        *,
        horizon_weights: float = 1.0,
    ) -> None:
        r"""Finds what the weights' law needs beside gradients: mode and curvature of the Laplace approximation.

        The errors count as the objective's likelihood counts them: normal, with a scale a channel in units of the
        windows' own, here that which they have at the weights found. Where the whole curvature is kept, steps of
        Gauss-Newton lead to the mode from wherever training stopped.

        Arguments:
            evidence: The train windows, with the frozen model's median forecasts of the latent channels.
            through: The frozen model's median forecasts, with shape :math:`(b, H, K)`, of latent pasts
                :math:`(b, L, K)`, with gradients; needed where a drawn weight changes the latent channels.
            horizon_weights: The weight of each lead as a share of that of the lead before, as training had it: what
                the likelihood of its errors counts.

        Raises:
            ValueError: If it is needed and missing.
        """
        if not isinstance(self.posterior, Laplace):
            return
        if self.stochastic_latents and through is None:
            raise ValueError("the weights drawn change the latent channels: pass the frozen model as 'through'")
        mode = self.training
        self.eval()
        location = self.posterior.location.data
        full = len(location) <= FULL and not self.stochastic_latents
        size = max(1, MAX_NUMBERS // (evidence.future[0].numel() * len(location))) if full else 32
        parts = [_rows(evidence, slice(first, first + size)) for first in range(0, len(evidence.past), size)]
        horizon = evidence.future.shape[1]
        leads = horizon_weights ** torch.arange(horizon, dtype=torch.float64).unsqueeze(-1)  # (H, 1)
        leads = leads / leads.mean()
        energy, weight = self._energy(parts, location, through, leads)
        if full:
            for turn in range(TURNS):
                curvature = self._curvature(parts, location, weight)
                if turn == TURNS - 1:
                    break
                lower, weight = self._climb(parts, location, curvature, energy, weight, leads)
                if lower >= energy:  # the mode is here, and so is the curvature
                    break
                energy = lower
        else:
            curvature = self._diagonal(parts, location, through, weight)
        self.posterior.settle(curvature)
        self.train(mode)

    def _at(
        self, part: Evidence, through: Callable[[Tensor], Tensor] | None
    ) -> tuple[Callable[[Tensor], Tensor], Tensor]:
        r"""Forecasts of train windows as a function of the weights' place, and the windows' scales."""
        state = self._state(part)
        return functools.partial(self._forecast, state=state, latent=part.forecast, through=through), state.scale

    @torch.no_grad()
    def _energy(
        self, parts: list[Evidence], location: Tensor, through: Callable[[Tensor], Tensor] | None, leads: Tensor
    ) -> tuple[Tensor, Tensor]:
        r"""Minus the log density of errors and weights, and one over the noise, (H, D), that makes it least."""
        assert isinstance(self.posterior, Laplace)
        square, count = torch.zeros(2, self.channels, dtype=torch.float64)
        for part in parts:
            forecast, scale = self._at(part, through)
            error = (part.future - forecast(location)) / scale
            square += (leads * error.double().square()).nansum((0, 1))
            count += (leads * ~error.isnan()).sum((0, 1))
        square = square.clamp(min=1e-12)
        distance = (location.double() / self.posterior.width).square().sum()
        return 0.5 * ((count * square.log()).sum() + distance), (leads * count / square).sqrt().to(location)

    def _climb(
        self,
        parts: list[Evidence],
        location: Tensor,
        curvature: Tensor,
        energy: Tensor,
        weight: Tensor,
        leads: Tensor,
    ) -> tuple[Tensor, Tensor]:
        r"""Moves the weights' place, by steps of one curvature, as far as they lead: the energy there and its noise."""
        assert isinstance(self.posterior, Laplace)
        precision = self.posterior.width**-2
        system = torch.linalg.cholesky(curvature + precision * torch.eye(len(location), dtype=torch.float32))
        for _ in range(STEPS):
            slope = self._slope(parts, location, weight) - precision * location
            step = torch.cholesky_solve(slope.unsqueeze(-1), system).squeeze(-1)
            if slope @ step < NEGLIGIBLE:
                break
            for share in (1.0, 0.5, 0.25, 0.125):
                lower, other = self._energy(parts, (location + share * step).to(location), None, leads)
                if lower < energy:
                    break
            else:
                break
            location += share * step
            energy, weight = lower, other
        return energy, weight

    @torch.enable_grad()
    def _slope(self, parts: list[Evidence], location: Tensor, weight: Tensor) -> Tensor:
        r"""The slope of the log likelihood in the weights' place, :math:`(P,)`."""
        slope = torch.zeros(len(location), dtype=torch.float64)
        for part in parts:
            forecast, scale = self._at(part, None)
            cells = _cells(part, weight / scale)
            free = location.clone().requires_grad_()
            error = (part.future.nan_to_num(0.0) - forecast(free)) * cells  # no gradient comes from a missing cell
            slope -= torch.autograd.grad(0.5 * error.square().sum(), free)[0].double()
        return slope

    def _curvature(self, parts: list[Evidence], location: Tensor, weight: Tensor) -> Tensor:
        r"""The likelihood's Gauss-Newton curvature, :math:`(P, P)`."""
        curvature = torch.zeros(len(location), len(location), dtype=torch.float64)
        for part in parts:
            forecast, scale = self._at(part, None)
            cells = _cells(part, weight / scale)
            slopes = torch.func.jacfwd(forecast)(location)  # (b, H, D, P)
            slopes = (slopes * cells.unsqueeze(-1)).flatten(0, 2).double()
            curvature += slopes.mT @ slopes
        return curvature

    def _diagonal(
        self, parts: list[Evidence], location: Tensor, through: Callable[[Tensor], Tensor] | None, weight: Tensor
    ) -> Tensor:
        r"""An unbiased estimate of the diagonal of the likelihood's Gauss-Newton curvature, :math:`(P,)`."""
        curvature = torch.zeros(len(location), dtype=torch.float64)
        generator = torch.Generator().manual_seed(0)
        for part in parts:
            forecast, scale = self._at(part, through)
            cells = _cells(part, weight / scale)
            with torch.enable_grad():
                free = location.clone().requires_grad_()
                made = forecast(free)
            for _ in range(PROBES):
                signs = torch.randint(0, 2, cells.shape, generator=generator) * 2.0 - 1.0
                (slope,) = torch.autograd.grad(made, free, signs.to(cells) * cells, retain_graph=True)
                curvature += slope.double().square() / PROBES
        return curvature

    def _state(self, part: Evidence) -> State:
        r"""The state of train windows, with what the family itself draws but no weights."""
        generator = torch.Generator().manual_seed(0)
        state = State(part.past, *self._statistics(part.past), generator=generator, forecast=part.forecast)
        self._draw_inner(state)
        return state

    def _forecast(
        self, location: Tensor, state: State, latent: Tensor, through: Callable[[Tensor], Tensor] | None
    ) -> Tensor:
        r"""Point forecasts :math:`(b, H, D)` with the weights at a place of the posterior's, :math:`(P,)`."""
        assert isinstance(self.posterior, Laplace)
        weights = (location * self.posterior.unit).unsqueeze(0)
        state = replace(state, drawn={**state.drawn, _WEIGHTS: weights})
        if self.stochastic_latents:
            assert through is not None
            rows = fill_missing((state.past - state.location) / state.scale, self.inner.covariance)
            latent = through(self._encode(rows, state)[0])
        return self.decode(latent.unsqueeze(0), state)[0]

    # ------------------------------------------------------------------ using

    def _statistics(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return self.inner._statistics(x)

    def _draw_inner(self, state: State) -> None:
        if self.inner.stochastic:
            for number in range(state.draws):
                part = self._part(state, number)
                self.inner._draw(part)
                self._keep(state, number, part)

    def _draw(self, state: State) -> None:
        self._draw_inner(state)
        state.drawn[_WEIGHTS] = self.posterior.draw(state.draws, state.generator).to(state.past)  # (M, P)

    def _encode(self, x: Tensor, state: State) -> Tensor:
        if not self.stochastic_latents:
            return self.inner._encode(x, self._part(state, 0))
        if self.inner.stochastic or state.draws == 1:
            each = [self._one("_encode", state, number, x) for number in range(state.draws)]
            return torch.stack([z[0] if z.ndim == 4 else z for z in each])
        return self._all("_encode", state, x, None)

    def encode_future(self, y: Tensor, state: State) -> Tensor:
        r"""Maps observed targets to latent targets, by the first draw; see `AdapterModule.encode_future`.

        Arguments:
            y: The standardised targets, with shape :math:`(B, H, D)`. NaN marks a missing step.
            state: The state of these windows.

        Returns:
            The latent targets, with shape :math:`(B, H, K)`.
        """
        latent: Tensor = self._one("encode_future", state, 0, y)
        return latent

    def _decode(self, z: Tensor, state: State) -> Tensor:
        z = z.unflatten(0, (state.draws, -1))  # (M, S / M, B, H, K)
        if self.inner.stochastic or state.draws == 1:
            return torch.cat([self._one("_decode", state, number, own) for number, own in enumerate(z)])
        return self._all("_decode", state, z, 0).flatten(0, 1)

    def divergence(self, state: State) -> Tensor:
        each = range(state.draws if self.inner.stochastic else 1)
        return torch.stack([self._one("divergence", state, number) for number in each]).mean(0)

    def weight_divergence(self) -> Tensor:
        return self.posterior.divergence()

    def penalty(self, forecast: Tensor, future: Tensor, state: State) -> Tensor:
        each = [self._one("penalty", state, number, own.unsqueeze(0), future) for number, own in enumerate(forecast)]
        return torch.stack(each).mean()

    def likelihood(self, prediction: Tensor, state: State) -> Distribution | None:
        paths = prediction.unflatten(0, (state.draws, -1))
        each = [self._one("likelihood", state, number, own) for number, own in enumerate(paths)]
        laws = [law for law in each if law is not None]
        return InTurn(laws) if len(laws) > 1 else next(iter(laws), None)

    # ------------------------------------------------------------------ the family at drawn weights

    def _part(self, state: State, number: int) -> State:
        r"""The family's own state of one draw."""
        prefix = f"{number}."
        drawn = {name.removeprefix(prefix): x for name, x in state.drawn.items() if name.startswith(prefix)}
        return replace(state, draws=1, drawn=drawn)

    def _keep(self, state: State, number: int, part: State) -> None:
        state.drawn |= {f"{number}.{name}": x for name, x in part.drawn.items()}

    def _weights(self, drawn: Tensor) -> dict[str, Tensor]:
        r"""The weights by name, with shapes :math:`(*, \ldots)`, from all of their deviations :math:`(*, P)`."""
        if drawn.shape[-1] == 0:  # drawn before they were solved for
            return {}
        own = [self._weight(name) for name in self.names]
        parts = drawn.split([weight.numel() for weight in own], -1)
        return {
            f"inner.{name}": weight + part.unflatten(-1, weight.shape)
            for name, weight, part in zip(self.names, own, parts, strict=True)
        }

    def _one(self, method: str, state: State, number: int, *values: Tensor) -> Any:
        r"""What a method of the family gives at one draw."""
        part = self._part(state, number)
        with _BOUND:
            weights = self._weights(state.drawn[_WEIGHTS][number])
            result = torch.func.functional_call(_Method(self.inner, method), weights, (*values, part))
        self._keep(state, number, part)
        return result

    def _all(self, method: str, state: State, x: Tensor, dim: int | None) -> Tensor:
        r"""What a method of the family gives at all draws, with shape :math:`(M, \ldots)`: in one pass if it can."""
        part, call = self._part(state, 0), _Method(self.inner, method)

        def one(drawn: Tensor, x: Tensor) -> Tensor:
            result: Tensor = torch.func.functional_call(call, self._weights(drawn), (x, part))
            return result

        if self._stackable:
            try:
                with _BOUND:
                    result: Tensor = torch.vmap(one, in_dims=(0, dim))(state.drawn[_WEIGHTS], x)
                return result
            except RuntimeError:  # of what vmap cannot batch; any other is raised again one by one
                self._stackable = False
        each = range(state.draws)
        return torch.stack([self._one(method, state, number, x if dim is None else x[number]) for number in each])


class _Method(nn.Module):
    r"""A method of a family as a module's forward pass, which `torch.func` calls with other weights."""

    def __init__(self, inner: AdapterModule, method: str) -> None:
        super().__init__()
        self.inner, self.method = inner, method

    def forward(self, *values: Any) -> Any:
        return getattr(self.inner, self.method)(*values)


def _changing(result: Tensor, named: Mapping[str, Tensor]) -> frozenset[str]:
    r"""The names of the weights that a result is a function of."""
    if not result.requires_grad:
        return frozenset()
    gradients = torch.autograd.grad(result.sum(), list(named.values()), allow_unused=True)
    return frozenset(name for name, gradient in zip(named, gradients, strict=True) if gradient is not None)


def _cells(evidence: Evidence, weight: Tensor) -> Tensor:
    r"""What the errors of cells are multiplied by, (n, H, D): 0 where a target is missing."""
    return torch.where(evidence.future.isnan(), 0.0, weight)


def _rows(evidence: Evidence, rows: slice) -> Evidence:
    return Evidence(evidence.past[rows], evidence.future[rows], evidence.forecast[rows], evidence.fold[rows])
