r"""Families that hold other families as members."""

from __future__ import annotations

__all__ = ["Composite"]

from torch import nn

from .base import AdapterModule


class Composite(AdapterModule):
    r"""Base of families with members, which `_build` stores in `stack`."""

    stack: nn.ModuleList

    @property
    def built_members(self) -> list[AdapterModule]:
        r"""The members; empty before the family is built."""
        stack = self._modules.get("stack")
        members = stack if isinstance(stack, nn.ModuleList) else ()
        return [member for member in members if isinstance(member, AdapterModule)]

    def require_sound(self, context_length: int, prediction_length: int) -> None:
        super().require_sound(context_length, prediction_length)
        for member in self.built_members:
            member.require_sound(context_length, prediction_length)
