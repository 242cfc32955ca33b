r"""Ensembles of any family."""

from __future__ import annotations

__all__ = ["Ensemble", "Concatenated", "resolve_family"]

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributions import Distribution

from .. import checks
from ..errors import shown, unknown
from ..persistence.tensors import Kind, nested
from ..registry import load_recipe, recipes
from ..statistics.ridge import count_folds
from .base import AdapterModule, RegressionData, State, families, make, register
from .capabilities import Capabilities, Optimisation
from .composite import Composite

#: The number of blocks of consecutive windows in the bootstrap of closed-form members.
BLOCKS = 20
#: The maximum number of members; each is trained, and used in each forecast.
MOST_MEMBERS = 1000
#: The batch size, in windows, of the frozen model's forecasts after training.
AT_ONCE = 64
#: The keys of `State.drawn` for the members' own normalisation of the windows.
_LOCATION, _SCALE = "window location", "window scale"


@register("ensemble")
class Ensemble(Composite):
    r"""Ensemble of members of one family, each a draw of the adapter.

    The differences between members enter the predictive distribution. Members trained by gradient start at different
    points: the first where its family starts, the others at a small random distance. They train in one pass: their
    parameters are stacked, one call of the frozen model serves all latents, and one optimiser step updates all
    members. Members with a closed form are solved in turn, each on a block bootstrap: windows of blocks of time drawn
    with replacement. In updates, each recursive member learns from all new windows. Families with a `seed` get
    consecutive seeds. An ensemble of one is its member.

    Stochastic: draw :math:`m` is member :math:`m`; members that are stochastic themselves divide the draws among them.
    Costs as many passes of the frozen model as members, or one where no member changes the latent channels. It is not
    a posterior: members that all reach one optimum agree, however little the data constrain it.

    References:
        | Deep Ensembles (Lakshminarayanan et al., 2017), https://arxiv.org/abs/1612.01474
        | The Jackknife and the Bootstrap for General Stationary Observations (Künsch, 1989), the blocks
        | https://doi.org/10.1214/aos/1176347265

    Arguments:
        member: The name of the members' family, or of a preset in the registry, such as `"pca"`.
        members: The number of members.
        member_options: The options of the members' family; its defaults for those left out.
        distance: The standard deviation of the noise added to each trained parameter of all members but the first.
        vectorised: Whether members trained by gradient are computed in one pass where `torch.vmap` supports their
            family; otherwise, as for `flow`, they are computed in turn.

    Example:
        >>> ensemble = Ensemble(member="linear", members=5, member_options={"latent_channels": 3}).build(channels=7)
        >>> z, state = ensemble.encode(torch.randn(32, 96, 7))
        >>> z.shape
        torch.Size([5, 32, 96, 3])
    """

    member: str = "linear"
    members: int = 5
    member_options: dict[str, Any] = {}
    distance: float = 0.02
    vectorised: bool = True

    #: Whether `torch.vmap` supports the family; it does not if the family branches on values.
    _stackable = True

    def _check(self) -> None:
        self.member, self.member_options = resolve_family(self, "member")
        checks.integer("Ensemble expects members", self.members, most=MOST_MEMBERS)
        checks.number("Ensemble expects distance", self.distance, "a number in [0, 1)", lambda x: 0 <= x < 1)
        if self.member == self.family:
            raise ValueError(
                "Ensemble expects a member that is no ensemble itself, got member='ensemble': pass more members instead"
            )
        checks.flag("Ensemble expects vectorised", self.vectorised)
        if self.member == "auto":
            raise ValueError(
                "Ensemble expects a member of one family, got member='auto', an average of several: pass member="
                "'attention', or several networks to Portfolio(members=['attention', 'attention'])"
            )
        self._kind = (make(self.member, self.member_options),)  # in a tuple, so that PyTorch registers no submodule

    @property
    def first(self) -> AdapterModule:
        r"""The first member, or an unbuilt one before the ensemble is built."""
        return (self.built_members or self._kind)[0]

    # ------------------------------------------------------------------ declarations of the members

    @property
    def capabilities(self) -> Capabilities:
        first = self.first.capabilities
        several, fixed = self.members > 1, first.fixed_latents and not self._seeded
        # a closed form is solved on forecasts of the latent channels
        own_latents = several and not (fixed or first.closed_form)
        return replace(
            first.inside(f"stack.{number}." for number in range(self.members)),
            fixed_latents=fixed,
            stochastic=several or first.stochastic,
            stochastic_latents=first.stochastic_latents or own_latents,
        )

    @property
    def optimisation(self) -> Optimisation:
        return self.first.optimisation

    @property
    def latents(self) -> int:
        return self.first.latents

    @property
    def objective(self) -> str:  # type: ignore[override]
        return self.first.objective

    @property
    def beta(self) -> float:  # type: ignore[override]
        return self.first.beta

    @property
    def _seeded(self) -> bool:
        r"""Whether each member is built with its own seed, as its family draws weights by a seed."""
        return self.members > 1 and not self.first.capabilities.closed_form and "seed" in self.first.fields()

    def count_draws(self, draws: int) -> int:
        r"""Return the number of members times the draws of each; see `AdapterModule.count_draws`.

        Arguments:
            draws: The number requested.

        Returns:
            The number of draws :math:`M`, at least the number of members.
        """
        return self.members * self.first.count_draws(max(1, draws // self.members))

    def latent_levels(self, u: Tensor) -> Tensor:
        return self.first.latent_levels(u)

    # ------------------------------------------------------------------ construction

    def _count_weights(self, channels: int) -> int:
        return self.members * self.first._count_weights(channels)

    def _build(self, channels: int) -> None:
        members = []
        for number in range(self.members):
            options = self.first.options()
            if self._seeded:
                options["seed"] += number
            members.append(type(self.first)(**options).build(channels, self.known, self.calendar))
        self.stack = nn.ModuleList(members)

    def require_sizes(self, channels: int, kinds: Mapping[str, Kind]) -> None:
        super().require_sizes(channels, kinds)
        self.first.require_sizes(channels, nested(kinds, "stack.0."))

    def _prepare(self, rows: Tensor) -> None:
        for number, member in enumerate(self.built_members):
            member.prepare(rows)
            generator = torch.Generator().manual_seed(number)
            for parameter in member.parameters():
                if number and parameter.requires_grad:
                    noise = torch.randn(parameter.shape, generator=generator, dtype=torch.float32)
                    parameter.data += self.distance * noise.to(parameter)

    def solve(self, data: RegressionData, *, choose: bool) -> None:
        if self.members == 1:
            self.first.solve(data, choose=choose)
            return
        count = len(data.past)
        blocks = min(BLOCKS, count)
        block = torch.arange(count) * blocks // max(count, 1)
        for number, member in enumerate(self.built_members):
            generator = torch.Generator().manual_seed(number)
            drawn = torch.randint(blocks, (blocks,), generator=generator).sort().values
            indices = torch.cat([torch.where(block == index)[0] for index in drawn])
            fold = data.fold
            if choose:  # folds of which no block was drawn are removed
                folds, fold = fold[indices].unique(return_inverse=True)
                fold = fold - int((folds < 0).any())  # windows in no fold stay at -1
                if count_folds(fold) == 0:  # only windows between two folds were drawn
                    fold = torch.zeros_like(fold)
            sample = replace(data[indices], fold=fold)
            member.solve(sample, choose=choose)

    def partial_fit(self, data: RegressionData) -> None:
        for member in self.built_members:
            member.partial_fit(data)

    def refit(self) -> None:
        for member in self.built_members:
            member.refit()

    def before_training(self, past: Tensor, quantiles: Tensor) -> None:
        for member in self.built_members:
            member.before_training(past, quantiles)

    def after_training(
        self,
        data: RegressionData,
        through: Callable[[Tensor], Tensor] | None = None,
        *,
        horizon_weights: float = 1.0,
    ) -> None:
        r"""Fit what gradients do not train in each member; see `AdapterModule.after_training`.

        Arguments:
            data: The train windows, with the frozen model's median forecasts of the first member's latent channels.
            through: The frozen model as a differentiable map from latent pasts, with shape :math:`(b, L, K)`, to their
                median forecasts, with shape :math:`(b, H, K)`; required where members have their own latent channels.
            horizon_weights: The weight of each horizon step relative to the step before, as in training.

        Raises:
            ValueError: If `through` is required and missing.
        """
        if not self.capabilities.fits_after_training:
            return
        if self.members > 1 and self.capabilities.stochastic_latents and through is None:
            raise ValueError(
                "Ensemble.after_training needs the frozen model, as each member has its own latent channels: "
                "pass it as 'through'"
            )
        for number, member in enumerate(self.built_members):
            member_data = data
            # members with stochastic latents call `through` themselves
            if number and not (self.capabilities.fixed_latents or member.capabilities.stochastic_latents):
                assert through is not None
                member_data = replace(data, forecast=_forecast(member, data.past, through))
            member.after_training(member_data, through, horizon_weights=horizon_weights)

    # ------------------------------------------------------------------ encoding and decoding

    def location_scale(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return self.first.location_scale(x)

    def _draw(self, state: State) -> None:
        member_draws = []
        for member in self.built_members:
            location, scale = member.location_scale(state.past)
            member_state = State(state.past, location, scale, state.draws // self.members, generator=state.generator)
            member._draw(member_state)
            member_draws.append({**member_state.drawn, _LOCATION: location, _SCALE: scale})
        # (members, ...)
        state.drawn = {name: torch.stack([drawn[name] for drawn in member_draws]) for name in member_draws[0]}

    def _encode(self, x: Tensor, state: State) -> Tensor:
        # Convert from the normalisation of the first member to that of each member.
        location, scale = state.drawn[_LOCATION], state.drawn[_SCALE]
        x = x * (state.scale / scale) + (state.location - location) / scale  # (members, B, L, D)
        z, state.drawn = self._call("_encode", x, state)
        if not self.capabilities.stochastic_latents:
            return z[0]
        draws = state.draws // self.members
        return z.flatten(0, 1) if z.ndim == 5 else z.repeat_interleave(draws, 0)  # (M, B, L, K)

    def encode_future(self, y: Tensor, state: State) -> Tensor:
        r"""Map observed targets to the latent targets of the first member; see `AdapterModule.encode_future`.

        Arguments:
            y: The standardised targets, with shape :math:`(B, H, D)`. NaN marks a missing step.
            state: The state of these windows.

        Returns:
            The latent targets, with shape :math:`(B, H, K)`.
        """
        return self.first.encode_future(y, self._states(state)[0])

    def _decode(self, z: Tensor, state: State) -> Tensor:
        decoded = self._call("_decode", z.unflatten(0, (self.members, -1)), state)[0]  # (members, S / members, ...)
        if not self.capabilities.observed_latents:
            location, scale = state.drawn[_LOCATION].unsqueeze(1), state.drawn[_SCALE].unsqueeze(1)
            decoded = decoded * (scale / state.scale) + (location - state.location) / state.scale
        return decoded.flatten(0, 1)

    def divergence(self, state: State) -> Tensor:
        divergences = [
            member.divergence(member_state)
            for member, member_state in zip(self.built_members, self._states(state), strict=True)
        ]
        return torch.stack(divergences).mean(0)

    def weight_divergence(self) -> Tensor:
        return torch.stack([member.weight_divergence() for member in self.built_members]).mean()

    def penalty(self, forecast: Tensor, future: Tensor, state: State) -> Tensor:
        members = zip(self.built_members, forecast.unflatten(0, (self.members, -1)), self._states(state), strict=True)
        return torch.stack(
            [member.penalty(medians, future, member_state) for member, medians, member_state in members]
        ).mean()

    def likelihood(self, prediction: Tensor, state: State) -> Distribution | None:
        members = zip(self.built_members, prediction.unflatten(0, (self.members, -1)), self._states(state), strict=True)
        distributions = [
            distribution
            for member, paths, member_state in members
            if (distribution := member.likelihood(paths, member_state)) is not None
        ]
        return Concatenated(distributions) if distributions else None

    def reference_variance(self, past: Tensor) -> Tensor:
        return torch.stack([member.reference_variance(past) for member in self.built_members]).mean(0)

    # ------------------------------------------------------------------ members, vectorised or in turn

    def _states(self, state: State) -> list[State]:
        r"""Return each member's own state of the windows."""
        numbers = range(self.members)
        return [self._state(state, {name: drawn[number] for name, drawn in state.drawn.items()}) for number in numbers]

    def _state(self, state: State, drawn: dict[str, Tensor]) -> State:
        draws = state.draws // self.members
        return replace(state, location=drawn[_LOCATION], scale=drawn[_SCALE], draws=draws, drawn=drawn)

    def _call(self, name: str, x: Tensor, state: State) -> tuple[Tensor, dict[str, Tensor]]:
        r"""Call a method of each member on its slice of `x`; return the stacked results and draws."""
        # Vectorise only in training: `functional_call` binds the stacked weights to the first member meanwhile, which
        # is not thread-safe.
        if self.capabilities.closed_form or not (self.vectorised and self._stackable and self.training):
            states = self._states(state)
            results = [
                getattr(member, name)(*inputs) for member, *inputs in zip(self.built_members, x, states, strict=True)
            ]
            drawn = {key: torch.stack([member_state.drawn[key] for member_state in states]) for key in states[0].drawn}
            return torch.stack(results), drawn

        def call_member(
            weights: dict[str, Tensor], member_input: Tensor, drawn: dict[str, Tensor]
        ) -> tuple[Tensor, dict[str, Tensor]]:
            member_state = self._state(state, dict(drawn))
            return torch.func.functional_call(
                _Method(self.first, name), weights, (member_input, member_state)
            ), member_state.drawn

        member_tensors = [
            {**dict(member.named_parameters()), **dict(member.named_buffers())} for member in self.built_members
        ]
        weights = {
            f"member.{key}": torch.stack([tensors[key] for tensors in member_tensors]) for key in member_tensors[0]
        }
        try:
            result: tuple[Tensor, dict[str, Tensor]] = torch.vmap(call_member, randomness="different")(
                weights, x, state.drawn
            )
        except RuntimeError:  # vmap cannot batch this family; any other error is raised again by the calls in turn
            self._stackable = False
            return self._call(name, x, state)
        return result


def resolve_family(owner: AdapterModule, option: str) -> tuple[str, dict[str, Any]]:
    r"""Resolve an option to a family name and its options; given options override those of a preset."""
    what = f"{type(owner).__name__} expects {option}"
    name = owner._modules.get(option, getattr(owner, option))  # PyTorch stores it there if it is a module
    given = getattr(owner, f"{option}_options")
    if isinstance(name, AdapterModule):
        default = type(name)().options()
        changed = {key: value for key, value in name.options().items() if value != default[key]}
        raise ValueError(
            f"{what} to be the name of a family, got {shown(name)}: pass {option}={name.family!r}, "
            f"{option}_options={shown(changed)}"
        )
    if not isinstance(name, str):
        raise ValueError(
            f"{what} to be the name of a family, such as {getattr(type(owner), option)!r}, got {shown(name)}"
        )
    if given is not None and not (isinstance(given, Mapping) and all(isinstance(key, str) for key in given)):
        raise ValueError(f"{what}_options to be a mapping of names to values, got {shown(given)}")
    options = dict(given or {})
    if name in families():
        return name, options
    if name not in recipes():
        raise unknown("adapter", name, sorted({*families(), *recipes()}))
    recipe = load_recipe(name)
    return recipe["family"], {**recipe["options"], **options}


@torch.no_grad()
def _forecast(member: AdapterModule, past: Tensor, through: Callable[[Tensor], Tensor]) -> Tensor:
    r"""Return the frozen model's median forecasts of a member's own latent channels, (n, H, K)."""
    mode = member.training
    member.eval()
    forecasts = []
    for windows in past.split(AT_ONCE):
        z, _ = member.encode(windows, generator=torch.Generator().manual_seed(0))
        forecasts.append(through(z[0]))
    member.train(mode)
    return torch.cat(forecasts)


class _Method(nn.Module):
    r"""Wraps a method of a member as a forward pass, so that `torch.func` can call it with other weights."""

    def __init__(self, member: AdapterModule, name: str) -> None:
        super().__init__()
        self.member, self.name = member, name

    def forward(self, x: Tensor, state: State) -> Tensor:
        result: Tensor = getattr(self.member, self.name)(x, state)
        return result


class Concatenated(Distribution):
    r"""Distributions of several members, whose paths are concatenated along the first axis."""

    def __init__(self, distributions: list[Distribution]) -> None:
        self.distributions = distributions
        shape = distributions[0].batch_shape
        super().__init__(torch.Size([len(distributions) * shape[0], *shape[1:]]), validate_args=False)

    def log_prob(self, value: Tensor) -> Tensor:
        chunks = value.expand(self.batch_shape).chunk(len(self.distributions))
        pairs = zip(self.distributions, chunks, strict=True)
        return torch.cat([distribution.log_prob(chunk) for distribution, chunk in pairs])
