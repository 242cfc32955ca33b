r"""Families that ship, by the conformance tests that a third party's inherits; the others have files of their own."""

from __future__ import annotations

import ast
from collections.abc import Callable
from pathlib import Path

import pytest

from adapts.adapters import AdapterModule, Identity, Linear, Projection, Residual, families
from adapts.testing.families import AdapterConformance

ROSTER: dict[str, Callable[[], AdapterModule]] = {
    "identity": Identity,
    "projection": Projection,
    "projection to two": lambda: Projection(latent_channels=2),
    "linear": Linear,
    "linear to two": lambda: Linear(latent_channels=2),
    "linear encoder": lambda: Linear(free="encoder"),
    "linear decoder": lambda: Linear(free="decoder"),
    "linear decoder of two": lambda: Linear(latent_channels=2, free="decoder"),
    "residual": Residual,
    "residual of few": lambda: Residual(lags=3, components=0, lead_blocks=1),
}


class TestFamilies(AdapterConformance):
    @pytest.fixture(params=ROSTER)
    def family(self, request: pytest.FixtureRequest) -> AdapterModule:
        return ROSTER[request.param]()


def test_every_family_conforms() -> None:
    r"""Each family stands in the roster above or has a class of its name, `Test<Name>`, in a file of its own."""
    conforming = {f"Test{type(make()).__name__}" for make in ROSTER.values()}
    for path in Path(__file__).parent.glob("test_*.py"):
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.ClassDef) and "AdapterConformance" in map(ast.unparse, node.bases):
                conforming.add(node.name)
    ours = [family for family in families().values() if family.__module__.startswith("adapts.")]
    assert ours
    for family in ours:
        assert f"Test{family.__name__}" in conforming, f"{family.__module__} has no class of AdapterConformance"
