r"""Every family through the one door: fitted around a frozen model, with missing values, saved and loaded."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightning.pytorch import Callback
from seasonal import SeasonalModel

from adapts import Adapter
from adapts.adapters import VAE, AdapterModule, Autoencoder, Bayesian, Dropout, Ensemble, Linear
from adapts.registry import recipes
from adapts.training import OBJECTIVES

FAMILIES: dict[str, str | AdapterModule] = {
    **{name: name for name in recipes()},
    "mean field": Bayesian(base="linear", sites=["decoder"], guide="mean-field"),
    "low rank, both ways": Bayesian(base="linear", sites=["decoder*", "encoder*"], guide="low-rank"),
    "laplace": Bayesian(base="linear", sites=["decoder"], guide="laplace"),
    "laplace, encoder": Bayesian(base="linear", sites=["encoder"], guide="laplace"),
    "exact, linear": Bayesian(base="linear", base_options={"free": "decoder"}, sites=["decoder"], guide="exact"),
    "mean field, deep": Bayesian(base="autoencoder", sites=["decoder*"], guide="mean-field"),
    "ensemble by gradient": Ensemble(member="linear", members=3),
    "ensemble of Bayesian ones": Ensemble(member="bayesian", members=2),
    "student-t": VAE(latent_channels=2, noise="student-t", noise_scale="input", depth=1),
    "affine": Linear(affine=True),
    "affine on train statistics": Dropout(normalisation="train", affine=True),
    "reduced": Autoencoder(latent_channels=1),
}


@pytest.fixture(scope="module")
def series() -> np.ndarray:
    r"""Two seasons in three channels and noise, a twentieth of the cells missing."""
    generator = np.random.default_rng(0)
    sources = np.sin(2 * np.pi * np.arange(1300)[:, None] / np.array([12.0, 6.0]))
    rows = sources @ np.array([[1.0, 0.5, -0.5], [0.3, 1.0, 1.0]]) + 0.3 * generator.standard_normal((1300, 3))
    return np.where(generator.random(rows.shape) < 0.05, np.nan, rows)


def adapter(family: str | AdapterModule, **options: object) -> Adapter:
    return Adapter(
        family, foundation_model=SeasonalModel(), prediction_length=12, context_length=48, max_windows=200,
        trainer_options={"max_epochs": 2, "enable_progress_bar": False}, **options,
    )  # fmt: skip


def without_seconds(fitted: Adapter) -> dict[str, Any]:
    r"""The summary, but for the seconds of members, which no file holds."""
    summary = fitted.summary().to_dict()
    return {**summary, "members": [{**member, "seconds": None} for member in summary["members"]]}


@pytest.mark.parametrize("name", FAMILIES)
def test_every_family_fits_forecasts_and_comes_back_from_its_folder(
    name: str, series: np.ndarray, tmp_path: Path
) -> None:
    fitted = adapter(FAMILIES[name], posterior_draws=6).fit(series)
    forecast = fitted.predict()
    assert np.isfinite(forecast.samples).all() and np.isfinite(forecast.mean).all()
    # The truth goes on as the seasons do: the law must not lie far from it.
    step = np.arange(1300, 1312)[:, None]
    truth = np.sin(2 * np.pi * step / np.array([12.0, 6.0])) @ np.array([[1.0, 0.5, -0.5], [0.3, 1.0, 1.0]])
    assert np.abs(forecast.mean - truth).mean() < 0.25
    fitted.save(tmp_path / "adapter")
    loaded = Adapter.load(tmp_path / "adapter", foundation_model=SeasonalModel())
    np.testing.assert_array_equal(loaded.predict().samples, forecast.samples)
    assert without_seconds(loaded) == without_seconds(fitted)


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_every_objective_trains(objective: str, series: np.ndarray) -> None:
    state = torch.get_rng_state()
    fitted = adapter(Linear(latent_channels=2), objective=objective, horizon_weights=0.9).fit(series)
    said = fitted.summary().stages["train"]
    before, best = (float(re.search(rf"(\S+) {mark}", said)[1]) for mark in ("before,", "at its best"))
    assert best < before
    assert torch.equal(torch.get_rng_state(), state)  # a caller's own random numbers stay as they were


class Modes(Callback):
    r"""Notes the adapter's mode."""

    def __init__(self) -> None:
        self.trained, self.validated = set(), set()

    def on_train_batch_start(self, trainer, module, *args) -> None:  # noqa: ANN001, ANN002
        self.trained.add(module.adapter.training)

    def on_validation_batch_start(self, trainer, module, *args) -> None:  # noqa: ANN001, ANN002
        self.validated.add(module.adapter.training)


def test_adapters_train_in_training_mode_and_are_left_in_the_other(series: np.ndarray) -> None:
    modes = Modes()
    quick = {"max_epochs": 1, "enable_progress_bar": False, "callbacks": [modes]}
    fitted = adapter("dropout").set_params(trainer_options=quick).fit(series)
    assert (modes.trained, modes.validated) == ({True}, {False})
    module = fitted.fitted_.module
    assert not module.training and not any(parameter.requires_grad for parameter in module.parameters())
