r"""Bayesian adapters: the conformance of every guide, and posteriors whose answers are known."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from adapts.adapters import Bayesian
from adapts.testing import AdapterConformance

ROSTER: dict[str, Callable[[], Bayesian]] = {
    "exact residual": Bayesian,
    "exact residual of a given prior": lambda: Bayesian(prior_scale=0.5, base_options={"lead_blocks": 2}),
    "exact linear decoder": lambda: Bayesian(base="linear", base_options={"free": "decoder"}, sites="decoder"),
    "laplace decoder": lambda: Bayesian(base="linear", sites=("decoder",), guide="laplace"),
    "laplace everything": lambda: Bayesian(base="linear", sites=("*",), guide="laplace"),
    "mean field": lambda: Bayesian(base="linear", sites=("*",), guide="mean-field"),
    "low rank of two latents": lambda: Bayesian(
        base="linear", base_options={"latent_channels": 2}, sites=("encoder",), guide="low-rank", rank=2
    ),
    "mean field of a decoder alone": lambda: Bayesian(
        base="linear", base_options={"free": "decoder"}, sites=("decoder.*",), guide="mean-field"
    ),
    "mean field of dropout": lambda: Bayesian(base="dropout", sites=("encoder",), guide="mean-field"),
    "mean field of a vae": lambda: Bayesian(base="vae", sites=("decoder*", "encoder.*"), guide="mean-field"),
}


class TestBayesian(AdapterConformance):
    starts_as_identity = False

    @pytest.fixture(params=ROSTER)
    def family(self, request: pytest.FixtureRequest) -> Bayesian:
        return ROSTER[request.param]()
