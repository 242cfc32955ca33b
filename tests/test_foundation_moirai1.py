r"""Moirai 1 of uni2ts."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from saved_models import assert_config_is_checked, assert_damage_is_refused, assert_round_trip, save
from torch.testing import assert_close

from adapts import load_foundation_model
from adapts._random import seeded
from adapts.foundation import FoundationModel
from adapts.testing import FoundationModelConformance
from adapts.testing.tiny_separate import tiny_moirai1

for package in ("uni2ts", "hydra", "jax"):
    pytest.importorskip(package, reason="uni2ts has an environment of its own: make test-models")


class TestMoirai1(FoundationModelConformance):
    #: A constant is added to the variance, and the samples of one law have a fixed scale.
    affine_equivariant = False

    @pytest.fixture
    def foundation_model(self) -> FoundationModel:
        model = load_foundation_model(tiny_moirai1())
        model.context_length, model.prediction_length = 48, 16
        return model


@pytest.mark.parametrize("length", [64, 61])
def test_forecasts_are_the_deciles_of_the_samples_of_the_package(length: int) -> None:
    from uni2ts.model.moirai import MoiraiForecast

    module = tiny_moirai1().eval()
    context = 3.0 * torch.randn(2, length) + 5.0
    context[:, 20:23] = torch.nan
    package = MoiraiForecast(
        module=module, prediction_length=64, context_length=length, patch_size=16, num_samples=100, target_dim=1,
        feat_dynamic_real_dim=0, past_feat_dynamic_real_dim=0,
    )  # fmt: skip
    forecast = load_foundation_model(module)(context, 64)
    for row, actual in zip(context.split(1), forecast, strict=True):
        with torch.no_grad(), seeded(0):
            samples = package(
                past_target=row.nan_to_num().unsqueeze(-1), past_observed_target=~row.isnan().unsqueeze(-1),
                past_is_pad=torch.zeros_like(row, dtype=torch.bool),
            )  # fmt: skip
        expected = torch.quantile(samples[0], torch.arange(0.1, 0.95, 0.1), dim=0)
        assert_close(actual, expected, rtol=0, atol=1e-4)


def test_the_patch_is_that_of_the_frequency() -> None:
    model = load_foundation_model(tiny_moirai1())
    assert (model.patch, model.context_length) == (16, 192)
    monthly = model.with_frequency("ME", 12)
    assert (monthly.patch, monthly.context_length) == (8, 64)
    assert model.with_frequency("15min", 96).patch == 16
    assert model.with_frequency(None, 1) is model
    assert monthly.fingerprint() == model.fingerprint()


def test_checkpoints(tmp_path: Path) -> None:
    assert_round_trip(tiny_moirai1(), tmp_path / "moirai-1")
    assert_damage_is_refused(tiny_moirai1(), tmp_path / "damaged", "mask_encoding.weight")
    assert_config_is_checked(tiny_moirai1(), tmp_path / "foreign", "num_layers", 0)


def test_a_config_that_names_another_class_is_refused(tmp_path: Path) -> None:
    config = save(tiny_moirai1(), tmp_path / "model") / "config.json"
    content = json.loads(config.read_text())
    content["distr_output"]["components"][0]["_target_"] = "os.system"
    config.write_text(json.dumps(content))
    with pytest.raises(ValueError, match=r"has the key 'distr_output\.components\.0\._target_'"):
        load_foundation_model(tmp_path / "model")
