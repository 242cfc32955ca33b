r"""Moirai 2 of uni2ts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from saved_models import assert_config_is_checked, assert_damage_is_refused, assert_round_trip
from torch import Tensor
from torch.testing import assert_close

from adapts import load_foundation_model
from adapts.foundation import FoundationModel
from adapts.testing import FoundationModelConformance
from adapts.testing.tiny_separate import tiny_moirai2

pytest.importorskip("uni2ts", reason="uni2ts has an environment of its own: make test-models")


class TestMoirai2(FoundationModelConformance):
    #: The model adds 1e-5 to the variance, so that scale does not carry over exactly.
    affine_equivariant = False

    @pytest.fixture
    def foundation_model(self) -> FoundationModel:
        return load_foundation_model(tiny_moirai2())


def forecast_of_the_package(module: Any, past: Tensor, horizon: int) -> Tensor:
    r"""Forecasts (B, D, Q, H) of windows (B, D, L)."""
    from uni2ts.model.moirai2 import Moirai2Forecast

    model = Moirai2Forecast(
        module=module, prediction_length=horizon, context_length=past.shape[2], target_dim=past.shape[1],
        feat_dynamic_real_dim=0, past_feat_dynamic_real_dim=0,
    )  # fmt: skip
    observed = ~past.isnan()
    with torch.no_grad():
        quantiles: Tensor = model(
            past_target=past.nan_to_num().mT, past_observed_target=observed.mT,
            past_is_pad=torch.zeros(len(past), past.shape[2], dtype=torch.bool),
        )  # (B, Q, H) or (B, Q, H, D)  # fmt: skip
    return (quantiles.unsqueeze(-1) if past.shape[1] == 1 else quantiles).permute(0, 3, 1, 2)


@pytest.mark.parametrize("length", [64, 61])
def test_forecasts_are_those_of_the_package(length: int) -> None:
    module = tiny_moirai2().eval()
    past = 3.0 * torch.randn(3, 1, length) + 5.0
    past[:, :, 20:23] = torch.nan
    expected = forecast_of_the_package(module, past, 16)
    assert_close(load_foundation_model(module)(past[:, 0], 16), expected[:, 0].sort(1).values, rtol=0, atol=1e-4)


def test_joint_forecasts_are_those_of_the_package() -> None:
    module = tiny_moirai2().eval()
    model, past = load_foundation_model(module), torch.randn(2, 3, 60)
    joint = model.predict_jointly(past, 16)
    assert_close(joint, forecast_of_the_package(module, past, 16).sort(2).values, rtol=0, atol=1e-4)
    assert_close(model.predict_jointly(past[:, :1], 16)[:, 0], model.predict(past[:, 0], 16), rtol=0, atol=1e-5)
    other = torch.cat([past[:, :1], torch.randn(2, 2, 60)], 1)
    assert not torch.allclose(model.predict_jointly(other, 16)[:, 0], joint[:, 0], atol=1e-3)


def test_a_forecaster_is_taken_as_its_module() -> None:
    from uni2ts.model.moirai2 import Moirai2Forecast

    module = tiny_moirai2()
    whole = Moirai2Forecast(
        module=module, prediction_length=4, context_length=8, target_dim=1, feat_dynamic_real_dim=0,
        past_feat_dynamic_real_dim=0,
    )  # fmt: skip
    assert load_foundation_model(whole).fingerprint() == load_foundation_model(module).fingerprint()


def test_checkpoints(tmp_path: Path) -> None:
    assert_round_trip(tiny_moirai2(), tmp_path / "moirai-2")
    assert_damage_is_refused(tiny_moirai2(), tmp_path / "damaged", "in_proj.hidden_layer.weight")
    assert_config_is_checked(tiny_moirai2(), tmp_path / "foreign", "patch_size", 0)
