r"""Bayesian treatment of the weights of any family."""

from __future__ import annotations

__all__ = ["Bayesian"]

import functools
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from fnmatch import fnmatchcase
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributions import Distribution

from .. import checks
from ..batching import slices
from ..errors import shown
from ..persistence.tensors import Kind, nested
from ._posteriors import FOUND, Exact, Laplace, Posterior, Variational, regressions, solved_weights
from .base import AdapterModule, RegressionData, State, fill_missing, make, register, require_size
from .capabilities import Capabilities, Optimisation
from .ensemble import Concatenated, resolve_family
from .linear import Linear
from .residual import Residual

#: The default standard deviation of the prior where weights are trained by gradient.
PRIOR_SCALE = 0.1
#: The maximum number of weights with a full curvature matrix; for more, only its diagonal is kept.
FULL = 1024
#: The maximum number of curvatures on the way to the mode, and the maximum number of steps with each.
TURNS, STEPS = 4, 8
#: The squared Newton decrement below which the steps end: a hundredth of a standard deviation in all.
NEGLIGIBLE = 1e-4
#: The number of random directions per batch of windows in the estimate of a diagonal curvature.
PROBES = 8
#: The maximum size of one batch of derivatives: 64 MB.
MAX_NUMBERS = 2**24
#: Hides drawn weights from other threads while `torch.func` binds them to the module.
_BOUND = threading.RLock()
#: The key of the weights' deviations in `State.drawn`.
_WEIGHTS = "weights"


@register("bayesian")
class Bayesian(AdapterModule):
    r"""Draws selected weights of another family from their posterior, to include parameter uncertainty.

    .. math:: W \sim q(W) \approx p(W | \text{train windows}), \quad p(W) = \mathcal N(W_0, s^2 I)

    where :math:`W_0` are the initial weights of the family: the frozen model itself. Encoding and decoding share each
    draw. The guide determines how :math:`q` is fitted:

    - `"exact"`: the posterior of linear regression with the noise integrated out, for weights that enter linearly:
      `decoder` of `Linear(free="decoder")`, `weights` of `Residual`. Its mean is the family's closed form.
    - `"mean-field"` and `"low-rank"`: a normal distribution with diagonal, or diagonal plus low-rank covariance (Pyro's
      `AutoDiagonalNormal` and `AutoLowRankMultivariateNormal`), trained by the objective `"elbo"`, with its divergence
      from the prior in closed form. Its initial standard deviations are narrow: 0.01, or a tenth of the prior's.
      Training ends with the validation loss: after few epochs the means have converged, but not the widths, which are
      then too small.
    - `"laplace"`: a normal distribution about the mode, with the inverse Gauss-Newton curvature as covariance. Up to
      1024 weights have a full matrix if no draw changes the latent channels. Gauss-Newton steps then find the mode
      from wherever training stopped. Otherwise the covariance is diagonal, at the point where training by `"elbo"`
      stopped. The mode is that of normal errors, whatever the objective, which then trains only the other weights.
      `horizon_weights` weigh the errors in both.

    These three use the objective `"elbo"` unless another is requested: no other includes the prior.

    Stochastic; as invertible as the family. Where no drawn weight changes the latent channels, one pass of the frozen
    model serves all draws; otherwise each draw needs its own passes. The posterior is not the whole uncertainty: with
    many windows that of the weights is the smaller part. All guides treat windows as independent, although overlapping
    windows are not. `Adapter` adds the missing noise, measured out of sample.

    References:
        | Do Bayesian Neural Networks Need To Be Fully Stochastic? (Sharma et al., 2023)
        | https://arxiv.org/abs/2211.06291
        | Weight Uncertainty in Neural Networks (Blundell et al., 2015), https://arxiv.org/abs/1505.05424
        | Laplace Redux (Daxberger et al., 2021), https://arxiv.org/abs/2106.14806
        | Pyro: Deep Universal Probabilistic Programming (Bingham et al., 2019), https://jmlr.org/papers/v20/18-403.html

    Arguments:
        base: The name of the family whose weights are drawn, or of a preset in the registry.
        base_options: The options of that family; its defaults for those left out.
        sites: Patterns of the names of the weights to draw, such as `"decoder*"` or `"encoder.0.bias"`. The others are
            fitted as in the family itself.
        guide: The approximation of the posterior: `"exact"`, `"mean-field"`, `"low-rank"` or `"laplace"`.
        prior_scale: The prior's standard deviation :math:`s`. With the exact guide it is in units of the noise's
            standard deviation, otherwise in those of the weights, so that one value means two priors. If None, 0.1, or
            with the exact guide the value selected by blocked cross-validation.
        rank: The rank of the low-rank guide; the square root of the number of weights if None.

    Example:
        >>> family = Bayesian(base="linear", sites=["decoder"], guide="mean-field")
        >>> bayesian = family.build(channels=7).eval()
        >>> z, state = bayesian.encode(torch.randn(32, 96, 7), draws=20)
        >>> z.shape, bayesian.decode(torch.randn(40, 32, 24, 7), state).shape
        (torch.Size([1, 32, 96, 7]), torch.Size([40, 32, 24, 7]))
    """

    base: str = "residual"
    base_options: Mapping[str, Any] = {}
    sites: Sequence[str] = ("weights",)
    guide: str = "exact"
    prior_scale: float | None = None
    rank: int | None = None

    inner: AdapterModule
    posterior: Posterior
    names: tuple[str, ...]  # of the drawn weights
    _trained: tuple[str, ...]  # of the weights that gradients train as point estimates
    _latent_weights: frozenset[str]  # of the weights that change the latent channels
    #: Whether `torch.vmap` supports the family; it does not if the family writes in place.
    _stackable = True

    def _check(self) -> None:
        self.names, self._trained, self._latent_weights = (), (), frozenset()
        self.base, self.base_options = resolve_family(self, "base")
        if self.base in ("bayesian", "ensemble"):
            raise ValueError(
                f"Bayesian expects a base that is neither 'bayesian' nor 'ensemble', got {self.base!r}: "
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
                f"{shown(self.base_options)}; guide='laplace' and 'mean-field' take any base that gradients train"
            )
        kind = "a positive number from 1e-9 to 1e6"
        checks.number("Bayesian expects prior_scale", self.prior_scale, kind, lambda x: 1e-9 <= x <= 1e6, none=True)
        checks.integer("Bayesian expects rank", self.rank, none=True)
        if self.rank is not None and self.guide != "low-rank":
            raise ValueError(
                f"Bayesian expects rank to be a positive integer with guide='low-rank' and None with any other, "
                f"got rank={self.rank!r} with guide={self.guide!r}"
            )

    # ------------------------------------------------------------------ declarations of the base

    @property
    def capabilities(self) -> Capabilities:
        inner = self.inner.capabilities.inside(["inner."])
        trained = self._latent_weights.intersection((*self.names, *self._trained))
        return replace(
            inner,
            fixed_latents=not (inner.stochastic_latents or trained),
            closed_form=self.guide == "exact",
            # before the posterior is fitted, the family's own weights are used
            stochastic=self.channels == 0 or inner.stochastic or self.posterior.is_fitted,
            stochastic_latents=inner.stochastic_latents or bool(self._latent_weights.intersection(self.names)),
            supports_updates=False,
            fits_after_training=self.guide == "laplace",
            found_later=(*inner.found_later, *(f"posterior.{name}" for name in FOUND)),
            undecayed=("posterior.",),
        )

    @property
    def beta(self) -> float:  # type: ignore[override]
        return self.inner.beta

    @property
    def objective(self) -> str:  # type: ignore[override]
        # no other objective includes the prior, so that the variance of the weights would vanish
        return self.inner.objective if self.guide == "exact" else "elbo"

    @property
    def optimisation(self) -> Optimisation:
        return self.inner.optimisation

    @property
    def latents(self) -> int:
        return self.inner.latents

    def latent_levels(self, u: Tensor) -> Tensor:
        return self.inner.latent_levels(u)

    def reference_variance(self, past: Tensor) -> Tensor:
        return self.inner.reference_variance(past)

    # ------------------------------------------------------------------ construction

    def _count_weights(self, channels: int) -> int:
        return self.inner._count_weights(channels)

    def _build(self, channels: int) -> None:
        self.inner = self.inner.build(channels, self.known, self.calendar)
        self._latent_weights, influential = self._trace_weights()
        self.names = self._select_sites(influential)
        self._trained = tuple(
            name for name, weight in self.inner.named_parameters() if weight.requires_grad and name not in self.names
        )
        for name in self.names:
            self._weight(name).requires_grad_(False)  # from here on it is the prior mean
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
        factor = "posterior.guide.cov_factor"
        self.inner.require_sizes(channels, nested(kinds, "inner."))
        if self.rank is not None and (factor not in kinds or kinds[factor][1][-1:] != (self.rank,)):
            raise ValueError(f"Bayesian has rank={shown(self.rank)}, but the tensor {factor!r} has another rank")

    def require_sound(self, context_length: int, prediction_length: int) -> None:
        super().require_sound(context_length, prediction_length)
        self.inner.require_sound(context_length, prediction_length)
        self.posterior.require_sound(self.inner)

    def _select_sites(self, influential: frozenset[str]) -> tuple[str, ...]:
        r"""Return the names of the weights that match `sites` and that the guide can draw, in the family's order."""
        linear = solved_weights(self.inner)
        if self.guide == "exact" and linear is not None:
            names = [linear]
        else:  # weights of the normalisation are not drawn: they apply before any draw
            names = [name for name, _ in self.inner.named_parameters() if name not in ("log_gain", "offset")]
        if self.guide == "laplace":  # forecasts have no curvature in weights that do not change them
            names = [name for name in names if name in influential]
        selected = set()
        for site in self.sites:
            # "decoder.*" matches the parameters of a module `decoder`, and a single matrix `decoder`
            matches = {name for name in names if fnmatchcase(name, site) or fnmatchcase(f"{name}.", site)}
            if not matches:
                drawable = ", ".join(names) or "none"
                raise ValueError(
                    f"the site {shown(site)} matches no weight that guide={self.guide!r} can draw of {self.base!r}; "
                    f"these are: {drawable}"
                )
            selected |= matches
        return tuple(name for name in names if name in selected)

    def _trace_weights(self) -> tuple[frozenset[str], frozenset[str]]:
        r"""Find by gradients which weights change the latent channels, and which change forecasts."""
        named = dict(self.inner.named_parameters())
        if self.inner.capabilities.observed_latents or not named:
            return frozenset(), frozenset(named)
        free = {name: weight.requires_grad for name, weight in named.items()}
        self.inner.requires_grad_(True)
        with torch.enable_grad():
            x = torch.zeros(1, 2, self.channels, dtype=torch.float32)
            state = State(x, *self.inner.location_scale(x), generator=torch.Generator().manual_seed(0), forecast=x)
            self.inner._draw(state)
            z = self.inner._encode((x - state.location) / state.scale, state)
            latent = _changing(z, named)
            paths = torch.zeros(1, 1, 2, self.inner.latents, dtype=torch.float32)
            forecast = latent | _changing(self.inner._decode(paths, state), named)
        for name, weight in named.items():
            weight.requires_grad_(free[name])
        return latent, forecast

    def _weight(self, name: str) -> Tensor:
        r"""Return the family's own value of a weight, a parameter or a buffer."""
        owner, _, attribute = name.rpartition(".")
        weight: Tensor = getattr(self.inner.get_submodule(owner), attribute)
        return weight

    def _prepare(self, rows: Tensor) -> None:
        self.inner.prepare(rows)

    @torch.no_grad()
    def solve(self, data: RegressionData, *, choose: bool) -> None:
        if not isinstance(self.posterior, Exact):
            super().solve(data, choose=choose)
            return
        self.inner.solve(data, choose=choose)
        assert isinstance(self.inner, Linear | Residual)
        if self.prior_scale is not None:
            for problem in regressions(self.inner, data):
                self.inner.strength[problem.channel] = self.prior_scale**-2 / problem.typical
            if isinstance(self.inner, Residual):
                self.inner.share.fill_(1.0)
        if choose or self.prior_scale is not None:  # refit, now also on windows in no fold
            self.inner.solve(data, choose=False)
        self.posterior.fit(regressions(self.inner, data))

    def before_training(self, past: Tensor, quantiles: Tensor) -> None:
        self.inner.before_training(past, quantiles)

    def after_training(
        self,
        data: RegressionData,
        through: Callable[[Tensor], Tensor] | None = None,
        *,
        horizon_weights: float = 1.0,
    ) -> None:
        r"""Fit mode and curvature of the Laplace approximation; other guides need nothing.

        The errors count as in the objective's likelihood: normal, with a scale per channel in units of the windows'
        own, here the maximum-likelihood scale at the current weights. With a full curvature matrix, Gauss-Newton
        steps find the mode from wherever training stopped.

        Arguments:
            data: The train windows, with the frozen model's median forecasts of the latent channels.
            through: The frozen model as a differentiable map from latent pasts, with shape :math:`(b, L, K)`, to their
                median forecasts, with shape :math:`(b, H, K)`; required where a drawn weight changes the latent
                channels.
            horizon_weights: The weight of each horizon step's error in the likelihood, relative to the step before, as
                in training.

        Raises:
            ValueError: If `through` is required and missing.
        """
        if not isinstance(self.posterior, Laplace):
            return
        if self.capabilities.stochastic_latents and through is None:
            raise ValueError(
                "Bayesian.after_training needs the frozen model, as drawn weights change the latent channels: "
                "pass it as 'through'"
            )
        was_training = self.training
        self.eval()
        location = self.posterior.location.data
        full = len(location) <= FULL and not self.capabilities.stochastic_latents
        numbers = data.future[0].numel() * len(location) if full else MAX_NUMBERS // 32
        batches = [data[part] for part in slices(len(data.past), numbers, MAX_NUMBERS)]
        horizon = data.future.shape[1]
        step_weights = horizon_weights ** torch.arange(horizon, dtype=torch.float64).unsqueeze(-1)  # (H, 1)
        step_weights = step_weights / step_weights.mean()
        energy, inverse_noise = self._energy(batches, location, through, step_weights)
        if full:
            for iteration in range(TURNS):
                curvature = self._curvature(batches, location, inverse_noise)
                if iteration == TURNS - 1:
                    break
                lower, inverse_noise = self._gauss_newton(
                    batches, location, curvature, energy, inverse_noise, step_weights
                )
                if lower >= energy:  # converged: the curvature is that at the mode
                    break
                energy = lower
        else:
            curvature = self._diagonal(batches, location, through, inverse_noise)
        self.posterior.fit(curvature)
        self.train(was_training)

    def _forecast_function(
        self, batch: RegressionData, through: Callable[[Tensor], Tensor] | None
    ) -> tuple[Callable[[Tensor], Tensor], Tensor]:
        r"""Return forecasts of train windows as a function of the weights' deviations, and the windows' scales."""
        state = self._state(batch)
        return functools.partial(self._forecast, state=state, latent=batch.forecast, through=through), state.scale

    @torch.no_grad()
    def _energy(
        self,
        batches: list[RegressionData],
        location: Tensor,
        through: Callable[[Tensor], Tensor] | None,
        step_weights: Tensor,
    ) -> tuple[Tensor, Tensor]:
        r"""Return the negative log density of errors and weights, and the inverse noise (H, D) that minimises it."""
        assert isinstance(self.posterior, Laplace)
        square, count = torch.zeros(2, self.channels, dtype=torch.float64)
        for batch in batches:
            forecast, scale = self._forecast_function(batch, through)
            error = (batch.future - forecast(location)) / scale
            square += (step_weights * error.double().square()).nansum((0, 1))
            count += (step_weights * ~error.isnan()).sum((0, 1))
        square = square.clamp(min=1e-12)
        distance = (location.double() / self.posterior.width).square().sum()
        return 0.5 * ((count * square.log()).sum() + distance), (step_weights * count / square).sqrt().to(location)

    def _gauss_newton(
        self,
        batches: list[RegressionData],
        location: Tensor,
        curvature: Tensor,
        energy: Tensor,
        inverse_noise: Tensor,
        step_weights: Tensor,
    ) -> tuple[Tensor, Tensor]:
        r"""Update `location` by Gauss-Newton steps with one curvature; return energy and inverse noise there."""
        assert isinstance(self.posterior, Laplace)
        precision = self.posterior.width**-2
        system = torch.linalg.cholesky(curvature + precision * torch.eye(len(location), dtype=torch.float32))
        for _ in range(STEPS):
            gradient = self._gradient(batches, location, inverse_noise) - precision * location
            step = torch.cholesky_solve(gradient.unsqueeze(-1), system).squeeze(-1)
            if gradient @ step < NEGLIGIBLE:
                break
            for step_size in (1.0, 0.5, 0.25, 0.125):
                lower, lower_inverse_noise = self._energy(
                    batches, (location + step_size * step).to(location), None, step_weights
                )
                if lower < energy:
                    break
            else:
                break
            location += step_size * step
            energy, inverse_noise = lower, lower_inverse_noise
        return energy, inverse_noise

    @torch.enable_grad()
    def _gradient(self, batches: list[RegressionData], location: Tensor, inverse_noise: Tensor) -> Tensor:
        r"""Return the gradient of the log likelihood in the weights' deviations, :math:`(P,)`."""
        gradient = torch.zeros(len(location), dtype=torch.float64)
        for batch in batches:
            forecast, scale = self._forecast_function(batch, None)
            cell_weights = _cells(batch, inverse_noise / scale)
            free = location.clone().requires_grad_()
            error = (batch.future.nan_to_num(0.0) - forecast(free)) * cell_weights  # missing cells have no gradient
            gradient -= torch.autograd.grad(0.5 * error.square().sum(), free)[0].double()
        return gradient

    def _curvature(self, batches: list[RegressionData], location: Tensor, inverse_noise: Tensor) -> Tensor:
        r"""Return the likelihood's Gauss-Newton curvature, :math:`(P, P)`."""
        curvature = torch.zeros(len(location), len(location), dtype=torch.float64)
        for batch in batches:
            forecast, scale = self._forecast_function(batch, None)
            cell_weights = _cells(batch, inverse_noise / scale)
            jacobian = torch.func.jacfwd(forecast)(location)  # (b, H, D, P)
            jacobian = (jacobian * cell_weights.unsqueeze(-1)).flatten(0, 2).double()
            curvature += jacobian.mT @ jacobian
        return curvature

    def _diagonal(
        self,
        batches: list[RegressionData],
        location: Tensor,
        through: Callable[[Tensor], Tensor] | None,
        inverse_noise: Tensor,
    ) -> Tensor:
        r"""Return an unbiased estimate of the diagonal of the Gauss-Newton curvature, :math:`(P,)`."""
        curvature = torch.zeros(len(location), dtype=torch.float64)
        generator = torch.Generator().manual_seed(0)
        for batch in batches:
            forecast, scale = self._forecast_function(batch, through)
            cell_weights = _cells(batch, inverse_noise / scale)
            with torch.enable_grad():
                free = location.clone().requires_grad_()
                predicted = forecast(free)
            for _ in range(PROBES):
                signs = torch.randint(0, 2, cell_weights.shape, generator=generator) * 2.0 - 1.0
                (gradient,) = torch.autograd.grad(
                    predicted, free, signs.to(cell_weights) * cell_weights, retain_graph=True
                )
                curvature += gradient.double().square() / PROBES
        return curvature

    def _state(self, batch: RegressionData) -> State:
        r"""Return the state of train windows, with the family's own draws but no drawn weights."""
        generator = torch.Generator().manual_seed(0)
        state = State(batch.past, *self.location_scale(batch.past), generator=generator, forecast=batch.forecast)
        state.quantiles, state.known, state.calendar = batch.quantiles, batch.known, batch.calendar
        self._draw_inner(state)
        return state

    def _forecast(
        self, location: Tensor, state: State, latent: Tensor, through: Callable[[Tensor], Tensor] | None
    ) -> Tensor:
        r"""Return point forecasts :math:`(b, H, D)` at given deviations of the weights, :math:`(P,)`."""
        assert isinstance(self.posterior, Laplace)
        weights = (location * self.posterior.unit).unsqueeze(0)
        state = replace(state, drawn={**state.drawn, _WEIGHTS: weights})
        if self.capabilities.stochastic_latents:
            assert through is not None
            rows = fill_missing((state.past - state.location) / state.scale, self.inner.covariance)
            latent = through(self._encode(rows, state)[0])
        return self.decode(latent.unsqueeze(0), state)[0]

    # ------------------------------------------------------------------ encoding and decoding

    def location_scale(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return self.inner.location_scale(x)

    def _draw_inner(self, state: State) -> None:
        if self.inner.capabilities.stochastic:
            for number in range(state.draws):
                draw_state = self._draw_state(state, number)
                self.inner._draw(draw_state)
                self._store_draws(state, number, draw_state)

    def _draw(self, state: State) -> None:
        self._draw_inner(state)
        state.drawn[_WEIGHTS] = self.posterior.draw(state.draws, state.generator).to(state.past)  # (M, P)

    def _encode(self, x: Tensor, state: State) -> Tensor:
        if not self.capabilities.stochastic_latents:
            return self.inner._encode(x, self._draw_state(state, 0))
        if self.inner.capabilities.stochastic or state.draws == 1:
            latents = [self._call_draw("_encode", state, number, x) for number in range(state.draws)]
            return torch.stack([z[0] if z.ndim == 4 else z for z in latents])
        return self._call_all("_encode", state, x, None)

    def encode_future(self, y: Tensor, state: State) -> Tensor:
        r"""Map observed targets to the latent targets of the first draw; see `AdapterModule.encode_future`.

        Arguments:
            y: The standardised targets, with shape :math:`(B, H, D)`. NaN marks a missing step.
            state: The state of these windows.

        Returns:
            The latent targets, with shape :math:`(B, H, K)`.
        """
        latent: Tensor = self._call_draw("encode_future", state, 0, y)
        return latent

    def _decode(self, z: Tensor, state: State) -> Tensor:
        z = z.unflatten(0, (state.draws, -1))  # (M, S / M, B, H, K)
        if self.inner.capabilities.stochastic or state.draws == 1:
            return torch.cat([self._call_draw("_decode", state, number, paths) for number, paths in enumerate(z)])
        return self._call_all("_decode", state, z, 0).flatten(0, 1)

    def source_weights(self, state: State) -> Tensor | None:
        r"""Return the weights of the closed form, the mean of the exact guide; None for other guides.

        Arguments:
            state: As for `AdapterModule.source_weights`.
        """
        return self.inner.source_weights(state) if self.guide == "exact" else None

    def divergence(self, state: State) -> Tensor:
        numbers = range(state.draws if self.inner.capabilities.stochastic else 1)
        return torch.stack([self._call_draw("divergence", state, number) for number in numbers]).mean(0)

    def weight_divergence(self) -> Tensor:
        return self.posterior.divergence()

    def penalty(self, forecast: Tensor, future: Tensor, state: State) -> Tensor:
        penalties = [
            self._call_draw("penalty", state, number, draw_forecast.unsqueeze(0), future)
            for number, draw_forecast in enumerate(forecast)
        ]
        return torch.stack(penalties).mean()

    def likelihood(self, prediction: Tensor, state: State) -> Distribution | None:
        paths = prediction.unflatten(0, (state.draws, -1))
        distributions = [
            self._call_draw("likelihood", state, number, draw_paths) for number, draw_paths in enumerate(paths)
        ]
        declared = [distribution for distribution in distributions if distribution is not None]
        return Concatenated(declared) if len(declared) > 1 else next(iter(declared), None)

    # ------------------------------------------------------------------ the family with drawn weights

    def _draw_state(self, state: State, number: int) -> State:
        r"""Return the family's own state of one draw."""
        prefix = f"{number}."
        drawn = {name.removeprefix(prefix): x for name, x in state.drawn.items() if name.startswith(prefix)}
        return replace(state, draws=1, drawn=drawn)

    def _store_draws(self, state: State, number: int, draw_state: State) -> None:
        state.drawn |= {f"{number}.{name}": x for name, x in draw_state.drawn.items()}

    def _weights(self, drawn: Tensor) -> dict[str, Tensor]:
        r"""Return the weights by name, with shapes :math:`(*, \ldots)`, from their deviations :math:`(*, P)`."""
        if drawn.shape[-1] == 0:  # drawn before the posterior was fitted
            return {}
        prior_means = [self._weight(name) for name in self.names]
        deviations = drawn.split([prior_mean.numel() for prior_mean in prior_means], -1)
        return {
            f"inner.{name}": prior_mean + deviation.unflatten(-1, prior_mean.shape)
            for name, prior_mean, deviation in zip(self.names, prior_means, deviations, strict=True)
        }

    def _call_draw(self, method: str, state: State, number: int, *values: Tensor) -> Any:
        r"""Call a method of the family with the weights of one draw."""
        draw_state = self._draw_state(state, number)
        with _BOUND:
            weights = self._weights(state.drawn[_WEIGHTS][number])
            result = torch.func.functional_call(_Method(self.inner, method), weights, (*values, draw_state))
        self._store_draws(state, number, draw_state)
        return result

    def _call_all(self, method: str, state: State, x: Tensor, dim: int | None) -> Tensor:
        r"""Call a method of the family with the weights of all draws, :math:`(M, \ldots)`, in one pass if possible."""
        draw_state, call = self._draw_state(state, 0), _Method(self.inner, method)

        def with_weights(drawn: Tensor, x: Tensor) -> Tensor:
            result: Tensor = torch.func.functional_call(call, self._weights(drawn), (x, draw_state))
            return result

        if self._stackable:
            try:
                with _BOUND:
                    result: Tensor = torch.vmap(with_weights, in_dims=(0, dim))(state.drawn[_WEIGHTS], x)
                return result
            except RuntimeError:  # vmap cannot batch this family; any other error is raised again by the calls in turn
                self._stackable = False
        numbers = range(state.draws)
        return torch.stack(
            [self._call_draw(method, state, number, x if dim is None else x[number]) for number in numbers]
        )


class _Method(nn.Module):
    r"""Wraps a method of a family as a forward pass, so that `torch.func` can call it with other weights."""

    def __init__(self, inner: AdapterModule, method: str) -> None:
        super().__init__()
        self.inner, self.method = inner, method

    def forward(self, *values: Any) -> Any:
        return getattr(self.inner, self.method)(*values)


def _changing(result: Tensor, named: Mapping[str, Tensor]) -> frozenset[str]:
    r"""Return the names of the weights that a result depends on."""
    if not result.requires_grad:
        return frozenset()
    gradients = torch.autograd.grad(result.sum(), list(named.values()), allow_unused=True)
    return frozenset(name for name, gradient in zip(named, gradients, strict=True) if gradient is not None)


def _cells(data: RegressionData, weight: Tensor) -> Tensor:
    r"""Return the factors of the cells' errors, (n, H, D): 0 where a target is missing."""
    return torch.where(data.future.isnan(), 0.0, weight)
