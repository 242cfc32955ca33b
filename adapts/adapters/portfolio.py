r"""Portfolio: quantile functions of several adapters and the frozen model, averaged with selected weights."""

from __future__ import annotations

__all__ = ["Portfolio"]

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor, nn

from .. import checks
from ..errors import shown
from ..persistence.tensors import Kind, nested
from .base import AdapterModule, RegressionData, State, make, register
from .capabilities import Capabilities
from .composite import Composite
from .further import FurtherModel

#: The maximum number of members; each is fitted, and used in each forecast.
MOST_MEMBERS = 16


@register("auto")
class Portfolio(Composite):
    r"""Averages the quantile functions of several adapters and of the frozen model.

    .. math:: \hat q(\tau) = w_0 q(\tau) + \sum_m w_m \hat q_m(\tau), \quad \sum_m w_m = 1

    `Adapter` fits each member on the train windows, by its own closed form or by gradient. Greedy forward selection on
    the validation and calibration windows gives the weights (`adapts.calibration.selection.forward_selection`). Members
    without a weight are not evaluated in forecasts.

    Deterministic; quantile functions are averaged at equal levels, so that marginals stay monotone. All members use the
    observed channels as latent channels: one pass of the frozen model serves all of them. `Adapter.update` refits
    members with a closed form, and leaves others as they are. With `Adapter(foundation_model=[...])`, the first model
    is the frozen one, and the forecasts of the others are further members.

    References:
        | Ensemble Selection from Libraries of Models (Caruana et al., 2004)
        | https://doi.org/10.1145/1015330.1015432
        | Combining probability forecasts by quantile averaging (Lichtendahl et al., 2013)
        | https://doi.org/10.1287/mnsc.1120.1667

    Arguments:
        members: The names of the members' families. A name may repeat: such members start from other parameters.
        member_options: The options of members, by family.
        shares: The weights of the frozen model, of each member and of each further foundation model, in this order;
            non-negative, with the sum 1. None selects them. Members with a share of 0 are not fitted.

    Example:
        >>> portfolio = Portfolio(members=["residual", "attention"]).build(channels=7)
        >>> z, state = portfolio.encode(torch.randn(32, 96, 7))
        >>> z.shape
        torch.Size([1, 32, 96, 7])
    """

    members: Sequence[str] = ("residual", "context", "var", "attention", "attention")
    member_options: Mapping[str, Any] = {}
    shares: Sequence[float] | None = None

    weights: Tensor  # (1 + M,), the first of the frozen model

    def _check(self) -> None:
        names = self.members
        listed = isinstance(names, Sequence) and not isinstance(names, str)
        if not listed or not 1 <= len(names) <= MOST_MEMBERS or not all(isinstance(name, str) for name in names):
            raise ValueError(
                f'Portfolio expects members to be 1 to {MOST_MEMBERS} names of families, such as ["residual", '
                f'"attention"], got {shown(names)}'
            )
        options = self.member_options
        if not isinstance(options, Mapping) or not all(name in names for name in options):
            raise ValueError(
                f"Portfolio expects member_options to be options by the name of a member ({', '.join(map(str, names))}"
                f"), got {shown(options)}"
            )
        self.members = tuple(names)
        self.shares = _read_shares(self.shares, self.members)
        self._families = tuple(make(name, options.get(name)) for name in names)  # a tuple registers no submodules
        for name, family in zip(names, self._families, strict=True):
            wanted = family.capabilities
            if name == "identity":
                raise ValueError("Portfolio holds the frozen model beside its members: leave out 'identity'")
            if (
                isinstance(family, Portfolio)
                or not wanted.observed_latents
                or wanted.mixes_channels
                or wanted.stochastic
            ):
                raise ValueError(
                    f"Portfolio averages deterministic members that keep the observed channels, such as residual and "
                    f"attention, got {shown(name)}: leave it out"
                )

    @property
    def with_its_weights(self) -> Portfolio:
        r"""An unbuilt portfolio with the same members, whose shares are the weights of this one."""
        return Portfolio(**{**self.options(), "shares": tuple(self.weights.tolist())})

    @property
    def active(self) -> list[tuple[float, AdapterModule]]:
        r"""The members with a positive weight, and their weights; empty before the portfolio is built."""
        if not self.built_members:
            return []
        pairs = zip(self.weights[1:].tolist(), self.built_members, strict=True)
        return [(weight, member) for weight, member in pairs if weight > 0]

    @property
    def capabilities(self) -> Capabilities:
        every = [member.capabilities for member in self.built_members or self._families]
        return replace(
            super().capabilities,
            observed_latents=True,
            fixed_latents=True,
            mixes_channels=False,
            closed_form=bool(self.active) and all(member.capabilities.closed_form for _, member in self.active),
            supports_updates=any(member.supports_updates for member in every),
            needs_forecast=any(member.needs_forecast for member in every),
            needs_quantiles=any(member.needs_quantiles for member in every),
            needs_known=any(member.needs_known for member in every),
            needs_further=any(member.needs_further for member in every),
            takes_further=True,
            needs_calendar=any(member.needs_calendar for member in every),
            found_later=tuple(f"stack.{n}.{name}" for n, member in enumerate(every) for name in member.found_later),
            unbounded=tuple(dict.fromkeys(name for member in every for name in member.unbounded)),
        )

    # ------------------------------------------------------------------ construction

    def _count_weights(self, channels: int) -> int:
        return sum(family._count_weights(channels) for family in self._families)

    def build(self, channels: int, known: int = 0, calendar: int = 0, further: Sequence[str] = ()) -> Self:
        if self.shares is not None and len(self.shares) != 1 + len(self._families) + len(further):
            names = ", ".join((*self.members, *further))
            raise ValueError(
                f"Portfolio expects shares of the frozen model, {names}, got {len(self.shares)} numbers: give one each"
            )
        return super().build(channels, known, calendar, further)

    def _build(self, channels: int) -> None:
        members = [family.build(channels, self.known, self.calendar) for family in self._families]
        for number, name in enumerate(self.further):
            members.append(FurtherModel(name=name, number=number).build(channels))
        self.stack = nn.ModuleList(members)
        self.register_buffer("weights", torch.eye(1 + len(members), dtype=torch.float32)[0])

    def require_sizes(self, channels: int, kinds: Mapping[str, Kind]) -> None:
        super().require_sizes(channels, kinds)
        for number, family in enumerate(self._families):
            family.require_sizes(channels, nested(kinds, f"stack.{number}."))

    def require_sound(self, context_length: int, prediction_length: int) -> None:
        super().require_sound(context_length, prediction_length)
        if not bool((self.weights >= 0).all()) or abs(float(self.weights.sum()) - 1) > 1e-5:
            raise ValueError("the weights of Portfolio are expected to be non-negative with the sum 1")

    def _prepare(self, rows: Tensor) -> None:
        for member in self.built_members:
            member.prepare(rows)

    def solve(self, data: RegressionData, *, choose: bool) -> None:
        for weight, member in zip(self.weights[1:].tolist(), self.built_members, strict=True):
            if member.capabilities.closed_form and (choose or weight > 0):  # those without a weight may not be solved
                member.solve(data, choose=choose)

    def partial_fit(self, data: RegressionData) -> None:
        for _, member in self.active:
            if member.capabilities.supports_updates:
                member.partial_fit(data)

    def refit(self) -> None:
        for _, member in self.active:
            if member.capabilities.supports_updates:
                member.refit()

    # ------------------------------------------------------------------ decoding

    def _decode(self, z: Tensor, state: State) -> Tensor:
        total = self.weights[0] * z
        for weight, member in self.active:
            total = total + weight * member.decode(z, state)
        return total


def _read_shares(shares: Any, members: Sequence[str]) -> tuple[float, ...] | None:
    r"""Return the option `shares` as numbers with the sum 1."""
    if shares is None:
        return None
    listed = (
        isinstance(shares, Sequence | np.ndarray) and not isinstance(shares, str) and getattr(shares, "ndim", 1) == 1
    )
    numbers = [checks.real(share) for share in shares] if listed else []
    if len(numbers) < 1 + len(members) or not min(numbers) >= 0 or not abs(sum(numbers) - 1) <= 1e-5:
        raise ValueError(
            f"Portfolio expects shares to be {1 + len(members)} non-negative numbers with the sum 1, of the frozen "
            f"model, {', '.join(members)}; got {shown(shares)}: leave it out to select them"
        )
    return tuple(numbers)
