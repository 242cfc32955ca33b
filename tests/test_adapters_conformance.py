r"""Every adapter family that ships, by the conformance tests that a third party's inherits."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from adapts.adapters import AdapterModule, Identity, Linear, Projection, Residual, families
from adapts.testing import AdapterConformance

# A new family adds a line.
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


def test_every_family_is_in_the_roster() -> None:
    ours = {name for name, family in families().items() if family.__module__.startswith("adapts.")}
    assert ours == {make().family for make in ROSTER.values()}
