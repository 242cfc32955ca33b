r"""Ensembles of any family."""

from __future__ import annotations

__all__ = ["Ensemble", "InTurn", "within"]

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributions import Distribution

from .. import checks
from ..errors import shown, unknown
from ..persistence.tensors import Kind
from ..registry import load_recipe, recipes
from .base import AdapterModule, Evidence, State, families, make, register

#: The blocks of consecutive windows that closed-form members draw from with replacement.
BLOCKS = 20
#: The most members: each is trained, and asked for each forecast.
MOST_MEMBERS = 1000
#: The windows whose latent channels the frozen model is asked about together, once members are trained.
AT_ONCE = 64
#: Where the members' own normalisation of the windows stands among what they drew.
_LOCATION, _SCALE = "window location", "window scale"


@register("ensemble")
class Ensemble(AdapterModule):
    r"""Holds several members of one family, each a draw of the adapter, so that their differences enter the law.

    Members trained by gradient start apart, the first where its family starts and the others at a small distance, and
    learn in one pass: their parameters are stacked, one call of the frozen model serves the latents of all, and one
    optimiser step moves all. Members with a closed form are solved in turn, each on the windows of blocks of time
    drawn with replacement; of those that learn from updates each learns all windows that came since. Families that draw
    themselves by a `seed` have one after the other. An ensemble of one is its member.

    Stochastic, in that draw :math:`m` is member :math:`m`; costs as many frozen passes as members, or one where no
    member changes the latent channels. Members that are stochastic themselves share the draws out. Mistaken for a
    posterior: members that all end in one optimum agree, however little the data say.

    References:
        | Deep Ensembles (Lakshminarayanan et al., 2017), https://arxiv.org/abs/1612.01474
        | The Jackknife and the Bootstrap for General Stationary Observations (Künsch, 1989), the blocks
        | https://doi.org/10.1214/aos/1176347265

    Arguments:
        member: The name of the members' family, or of a recipe on the shelf, such as `"pca"`.
        members: The number of members.
        member_options: The options of the members' family; its defaults where left out.
        distance: The standard deviation of what is added to each trained parameter of all members but the first.
        vectorised: Whether members trained by gradient are computed in one pass where `torch.vmap` takes their family;
            in turn otherwise, as it is for `flow`.

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

    stack: nn.ModuleList
    #: Whether `torch.vmap` takes the family; not, if it branches on values.
    _stackable = True

    def _check(self) -> None:
        self.member, self.member_options = within(self, "member")
        checks.integer("Ensemble expects members", self.members, most=MOST_MEMBERS)
        checks.number("Ensemble expects distance", self.distance, "a number in [0, 1)", lambda x: 0 <= x < 1)
        if self.member == self.family:
            raise ValueError("Ensemble expects members that are no ensembles: pass more members instead")
        checks.flag("Ensemble expects vectorised", self.vectorised)
        self._kind = (make(self.member, self.member_options),)  # in a tuple, so that it is no member

    @property
    def each(self) -> list[AdapterModule]:
        r"""The members; none before the ensemble is built."""
        stack = self._modules.get("stack")
        members = stack if isinstance(stack, nn.ModuleList) else ()
        return [member for member in members if isinstance(member, AdapterModule)]

    @property
    def first(self) -> AdapterModule:
        r"""The first member, or one of its kind before the ensemble is built."""
        return (self.each or self._kind)[0]

    # ------------------------------------------------------------------ what the members declare

    @property
    def observed_latents(self) -> bool:  # type: ignore[override]
        return self.first.observed_latents

    @property
    def mixes_channels(self) -> bool:  # type: ignore[override]
        return self.first.mixes_channels

    @property
    def recursive(self) -> bool:  # type: ignore[override]
        return self.first.recursive

    @property
    def penalised(self) -> bool:
        return self.first.penalised

    @property
    def unfinished(self) -> bool:
        return self.first.unfinished

    @property
    def undecayed(self) -> tuple[str, ...]:  # type: ignore[override]
        return tuple(f"stack.{number}.{name}" for number in range(self.members) for name in self.first.undecayed)

    @property
    def found_later(self) -> tuple[str, ...]:  # type: ignore[override]
        return tuple(f"stack.{number}.{name}" for number in range(self.members) for name in self.first.found_later)

    @property
    def unbounded(self) -> tuple[str, ...]:  # type: ignore[override]
        return self.first.unbounded

    @property
    def needs_forecast(self) -> bool:  # type: ignore[override]
        return self.first.needs_forecast

    @property
    def latents(self) -> int:
        return self.first.latents

    @property
    def closed_form(self) -> bool:
        return self.first.closed_form

    @property
    def fixed_latents(self) -> bool:
        return self.first.fixed_latents and not self._seeded

    @property
    def objective(self) -> str:  # type: ignore[override]
        return self.first.objective

    @property
    def beta(self) -> float:  # type: ignore[override]
        return self.first.beta

    @property
    def stochastic(self) -> bool:
        return self.members > 1 or self.first.stochastic

    @property
    def stochastic_latents(self) -> bool:
        same = self.fixed_latents or self.closed_form  # a closed form is solved on forecasts of the latent channels
        return self.first.stochastic_latents or (self.members > 1 and not same)

    @property
    def _seeded(self) -> bool:
        r"""Whether the family draws itself by a seed when it is built: each member then has its own."""
        return self.members > 1 and not self.closed_form and "seed" in self.first.fields()

    def count_draws(self, draws: int) -> int:
        r"""Returns the number of members times the draws of each; see `AdapterModule.count_draws`.

        Arguments:
            draws: The number asked for.

        Returns:
            The number of draws :math:`M`, at least the number of members.
        """
        return self.members * self.first.count_draws(max(1, draws // self.members))

    def latent_levels(self, u: Tensor) -> Tensor:
        return self.first.latent_levels(u)

    # ------------------------------------------------------------------ making

    def _count_weights(self, channels: int) -> int:
        return self.members * self.first._count_weights(channels)

    def _build(self, channels: int) -> None:
        members = []
        for number in range(self.members):
            options = self.first.options()
            if self._seeded:
                options["seed"] += number
            members.append(type(self.first)(**options).build(channels))
        self.stack = nn.ModuleList(members)

    def require_sizes(self, channels: int, kinds: Mapping[str, Kind]) -> None:
        super().require_sizes(channels, kinds)
        prefix = "stack.0."
        self.first.require_sizes(
            channels, {name.removeprefix(prefix): kind for name, kind in kinds.items() if name.startswith(prefix)}
        )

    def require_sound(self, context_length: int, prediction_length: int) -> None:
        super().require_sound(context_length, prediction_length)
        for member in self.each:
            member.require_sound(context_length, prediction_length)

    def _prepare(self, rows: Tensor) -> None:
        for number, member in enumerate(self.each):
            member.prepare(rows)
            generator = torch.Generator().manual_seed(number)
            for parameter in member.parameters():
                if number and parameter.requires_grad:
                    noise = torch.randn(parameter.shape, generator=generator, dtype=torch.float32)
                    parameter.data += self.distance * noise.to(parameter)

    def solve(self, evidence: Evidence, *, choose: bool) -> None:
        if self.members == 1:
            self.first.solve(evidence, choose=choose)
            return
        count = len(evidence.past)
        blocks = min(BLOCKS, count)
        block = torch.arange(count) * blocks // max(count, 1)
        for number, member in enumerate(self.each):
            generator = torch.Generator().manual_seed(number)
            drawn = torch.randint(blocks, (blocks,), generator=generator).sort().values
            rows = torch.cat([torch.where(block == one)[0] for one in drawn])
            fold = evidence.fold
            if choose:  # a fold of which no block was drawn is none
                kept, fold = fold[rows].unique(return_inverse=True)
                fold = fold - int((kept < 0).any())  # windows in no fold stay at -1
            part = Evidence(evidence.past[rows], evidence.future[rows], evidence.forecast[rows], fold)
            member.solve(part, choose=choose)

    def learn(self, evidence: Evidence) -> None:
        for member in self.each:
            member.learn(evidence)

    def settle(self) -> None:
        for member in self.each:
            member.settle()

    def after_training(
        self,
        evidence: Evidence,
        through: Callable[[Tensor], Tensor] | None = None,
        *,
        horizon_weights: float = 1.0,
    ) -> None:
        r"""Finds what each member needs beside gradients; see `AdapterModule.after_training`.

        Arguments:
            evidence: The train windows, with the frozen model's median forecasts of the first member's latent channels.
            through: The frozen model's median forecasts, with shape :math:`(b, H, K)`, of latent pasts
                :math:`(b, L, K)`, with gradients; needed where members have latent channels of their own.
            horizon_weights: The weight of each lead as a share of that of the lead before, as training had it.

        Raises:
            ValueError: If it is needed and missing.
        """
        if not self.unfinished:
            return
        if self.members > 1 and self.stochastic_latents and through is None:
            raise ValueError("the members have latent channels of their own: pass the frozen model as 'through'")
        for number, member in enumerate(self.each):
            own = evidence
            if number and not self.fixed_latents and not member.stochastic_latents:  # those ask the model themselves
                assert through is not None
                own = replace(evidence, forecast=_forecast(member, evidence.past, through))
            member.after_training(own, through, horizon_weights=horizon_weights)

    # ------------------------------------------------------------------ using

    def _statistics(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return self.first._statistics(x)

    def _draw(self, state: State) -> None:
        each = []
        for member in self.each:
            location, scale = member._statistics(state.past)
            own = State(state.past, location, scale, state.draws // self.members, generator=state.generator)
            member._draw(own)
            each.append({**own.drawn, _LOCATION: location, _SCALE: scale})
        state.drawn = {name: torch.stack([drawn[name] for drawn in each]) for name in each[0]}  # (members, ...)

    def _encode(self, x: Tensor, state: State) -> Tensor:
        # What the ensemble normalised as its first member does, each member has as it does itself.
        location, scale = state.drawn[_LOCATION], state.drawn[_SCALE]
        x = x * (state.scale / scale) + (state.location - location) / scale  # (members, B, L, D)
        z, state.drawn = self._call("_encode", x, state)
        if not self.stochastic_latents:
            return z[0]
        draws = state.draws // self.members
        return z.flatten(0, 1) if z.ndim == 5 else z.repeat_interleave(draws, 0)  # (M, B, L, K)

    def encode_future(self, y: Tensor, state: State) -> Tensor:
        r"""Maps observed targets to the latent targets of the first member; see `AdapterModule.encode_future`.

        Arguments:
            y: The standardised targets, with shape :math:`(B, H, D)`. NaN marks a missing step.
            state: The state of these windows.

        Returns:
            The latent targets, with shape :math:`(B, H, K)`.
        """
        return self.first.encode_future(y, self._states(state)[0])

    def _decode(self, z: Tensor, state: State) -> Tensor:
        decoded = self._call("_decode", z.unflatten(0, (self.members, -1)), state)[0]  # (members, S / members, ...)
        if not self.observed_latents:
            location, scale = state.drawn[_LOCATION].unsqueeze(1), state.drawn[_SCALE].unsqueeze(1)
            decoded = decoded * (scale / state.scale) + (location - state.location) / state.scale
        return decoded.flatten(0, 1)

    def divergence(self, state: State) -> Tensor:
        each = [member.divergence(own) for member, own in zip(self.each, self._states(state), strict=True)]
        return torch.stack(each).mean(0)

    def weight_divergence(self) -> Tensor:
        return torch.stack([member.weight_divergence() for member in self.each]).mean()

    def penalty(self, forecast: Tensor, future: Tensor, state: State) -> Tensor:
        each = zip(self.each, forecast.unflatten(0, (self.members, -1)), self._states(state), strict=True)
        return torch.stack([member.penalty(medians, future, own) for member, medians, own in each]).mean()

    def likelihood(self, prediction: Tensor, state: State) -> Distribution | None:
        parts = zip(self.each, prediction.unflatten(0, (self.members, -1)), self._states(state), strict=True)
        laws = [law for member, paths, own in parts if (law := member.likelihood(paths, own)) is not None]
        return InTurn(laws) if laws else None

    def spread(self, past: Tensor) -> Tensor:
        return torch.stack([member.spread(past) for member in self.each]).mean(0)

    # ------------------------------------------------------------------ members in one pass, or in turn

    def _states(self, state: State) -> list[State]:
        r"""Each member's own state of the windows."""
        each = range(self.members)
        return [self._state(state, {name: drawn[number] for name, drawn in state.drawn.items()}) for number in each]

    def _state(self, state: State, drawn: dict[str, Tensor]) -> State:
        draws = state.draws // self.members
        return State(state.past, drawn[_LOCATION], drawn[_SCALE], draws, drawn, state.generator, state.forecast)

    def _call(self, name: str, x: Tensor, state: State) -> tuple[Tensor, dict[str, Tensor]]:
        r"""Calls a method of each member on its share of `x`; what it returns and what it drew, both stacked."""
        # Only training pays for one pass: it binds the stacked weights to the first member for as long as it lasts,
        # which no other thread may see.
        if self.closed_form or not (self.vectorised and self._stackable and self.training):
            states = self._states(state)
            results = [getattr(member, name)(*both) for member, *both in zip(self.each, x, states, strict=True)]
            drawn = {key: torch.stack([own.drawn[key] for own in states]) for key in states[0].drawn}
            return torch.stack(results), drawn

        def one(
            weights: dict[str, Tensor], share: Tensor, drawn: dict[str, Tensor]
        ) -> tuple[Tensor, dict[str, Tensor]]:
            own = self._state(state, dict(drawn))
            return torch.func.functional_call(_Method(self.first, name), weights, (share, own)), own.drawn

        each = [{**dict(member.named_parameters()), **dict(member.named_buffers())} for member in self.each]
        weights = {f"member.{key}": torch.stack([tensors[key] for tensors in each]) for key in each[0]}
        try:
            result: tuple[Tensor, dict[str, Tensor]] = torch.vmap(one, randomness="different")(weights, x, state.drawn)
        except RuntimeError:  # of what vmap cannot batch; any other is raised again one by one
            self._stackable = False
            return self._call(name, x, state)
        return result


def within(owner: AdapterModule, option: str) -> tuple[str, dict[str, Any]]:
    r"""The family that an option names and its options, those of a recipe under those given."""
    what = f"{type(owner).__name__} expects {option}"
    name = owner._modules.get(option, getattr(owner, option))  # where PyTorch keeps it, were it a family itself
    given = getattr(owner, f"{option}_options")
    if isinstance(name, AdapterModule):
        default = type(name)().options()
        own = {key: value for key, value in name.options().items() if value != default[key]}
        raise ValueError(
            f"{what} to be the name of a family, got {shown(name)}: pass {option}={name.family!r}, "
            f"{option}_options={shown(own)}"
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
    r"""The frozen model's median forecasts of a member's own latent channels, (n, H, K)."""
    mode = member.training
    member.eval()
    forecasts = []
    for some in past.split(AT_ONCE):
        z, _ = member.encode(some, generator=torch.Generator().manual_seed(0))
        forecasts.append(through(z[0]))
    member.train(mode)
    return torch.cat(forecasts)


class _Method(nn.Module):
    r"""A method of a member as a module's forward pass, which `torch.func` calls with other weights."""

    def __init__(self, member: AdapterModule, name: str) -> None:
        super().__init__()
        self.member, self.name = member, name

    def forward(self, x: Tensor, state: State) -> Tensor:
        result: Tensor = getattr(self.member, self.name)(x, state)
        return result


class InTurn(Distribution):
    r"""The laws of several members, whose paths follow one another along the first axis."""

    def __init__(self, laws: list[Distribution]) -> None:
        self.laws = laws
        one = laws[0].batch_shape
        super().__init__(torch.Size([len(laws) * one[0], *one[1:]]), validate_args=False)

    def log_prob(self, value: Tensor) -> Tensor:
        values = value.expand(self.batch_shape).chunk(len(self.laws))
        return torch.cat([law.log_prob(own) for law, own in zip(self.laws, values, strict=True)])
