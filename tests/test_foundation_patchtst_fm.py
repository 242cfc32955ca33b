r"""PatchTST-FM of granite-tsfm."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from saved_models import assert_config_is_checked, assert_damage_is_refused, assert_round_trip, save
from torch.testing import assert_close

from adapts import load_foundation_model
from adapts.foundation import FoundationModel
from adapts.testing import FoundationModelConformance
from adapts.testing.tiny_separate import tiny_patchtst_fm

pytest.importorskip("tsfm_public", reason="granite-tsfm has an environment of its own: make test-models")


class TestPatchTSTFM(FoundationModelConformance):
    @pytest.fixture
    def foundation_model(self) -> FoundationModel:
        return load_foundation_model(tiny_patchtst_fm())


@pytest.mark.parametrize("options", [{}, {"block_type": "conformer", "mlp_type": "swiglu"}], ids=["mlp", "conformer"])
def test_forecasts_are_those_of_the_package(options: dict[str, str]) -> None:
    package = tiny_patchtst_fm(**options).eval()
    model, context = load_foundation_model(package), 3.0 * torch.randn(3, 64) + 5.0
    context[:, 20:23] = torch.nan
    with torch.no_grad():
        expected = package(past_values=context.unsqueeze(-1), prediction_length=16).quantile_outputs[..., 0]
    assert_close(model(context, 16), expected.sort(1).values, rtol=0, atol=1e-4)


def test_of_99_levels_it_forecasts_21() -> None:
    package = tiny_patchtst_fm(num_quantile=99).eval()
    model, context = load_foundation_model(package), torch.randn(2, 64)
    assert len(model.quantile_levels) == 21
    assert model.quantile_levels[:3] == (0.01, 0.05, 0.1)
    rows = [round(100 * level) - 1 for level in model.quantile_levels]
    with torch.no_grad():
        expected = package(past_values=context.unsqueeze(-1), prediction_length=16).quantile_outputs[:, rows, :, 0]
    assert_close(model(context, 16), expected.sort(1).values, rtol=0, atol=1e-4)


def test_one_pass_is_as_long_as_the_longest_mask_of_pretraining() -> None:
    model = load_foundation_model(tiny_patchtst_fm(pretrain_mask_cont=3, prediction_length=8))
    assert (model.prediction_length, model.context_length) == (24, 56)


def test_checkpoints(tmp_path: Path) -> None:
    assert_round_trip(tiny_patchtst_fm(), tmp_path / "patchtst-fm")
    assert_damage_is_refused(tiny_patchtst_fm(), tmp_path / "damaged", "backbone.pos_embed.embedding.weight")
    assert_config_is_checked(tiny_patchtst_fm(), tmp_path / "foreign", "block_type", "mamba")
    folder = save(tiny_patchtst_fm(), tmp_path / "short")
    config = folder / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"context_length": 16}))
    with pytest.raises(ValueError, match="longer than a pass"):
        load_foundation_model(folder)
