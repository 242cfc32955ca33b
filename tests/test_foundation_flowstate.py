r"""FlowState of granite-tsfm."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from saved_models import assert_config_is_checked, assert_damage_is_refused, assert_round_trip
from torch.testing import assert_close

from adapts import load_foundation_model
from adapts.foundation import FoundationModel
from adapts.testing import FoundationModelConformance
from adapts.testing.tiny_separate import tiny_flowstate

pytest.importorskip("tsfm_public", reason="granite-tsfm has an environment of its own: make test-models")


class TestFlowState(FoundationModelConformance):
    @pytest.fixture
    def foundation_model(self) -> FoundationModel:
        return load_foundation_model(tiny_flowstate())


def test_levels_are_the_models_own_and_the_median_that_of_the_package() -> None:
    package = tiny_flowstate().eval()
    model, context = load_foundation_model(package), 3.0 * torch.randn(3, 64) + 5.0
    context[:, 20:23] = torch.nan
    with torch.no_grad():
        expected = package(past_values=context.unsqueeze(-1), prediction_length=12).quantile_outputs[..., 0]
    quantiles = model(context, 12)
    assert_close(quantiles[:, 4], expected[:, 4], rtol=0, atol=1e-4)
    levels = torch.tensor(model.quantile_levels)
    assert_close(torch.quantile(quantiles, levels, 1).transpose(0, 1), expected, rtol=0, atol=1e-4)
    assert (quantiles[:, 0] <= expected[:, 0] + 1e-4).all()


@pytest.mark.parametrize(("season", "block", "context_length"), [(7, 3, 18), (168, 84, 448)])
def test_a_season_scales_context_and_pass(season: int, block: int, context_length: int) -> None:
    package = tiny_flowstate().eval()
    plain = load_foundation_model(package)
    model = plain.with_frequency(None, season)
    assert (model.prediction_length, model.context_length) == (block, context_length)
    assert (plain.prediction_length, plain.context_length) == (12, 64)
    assert plain.with_frequency("h", 24) is plain
    context = torch.randn(2, context_length)
    with torch.no_grad():
        expected = package(past_values=context.unsqueeze(-1), scale_factor=24 / season).quantile_outputs[..., 0]
    assert_close(model(context, block)[:, 4], expected[:, 4], rtol=0, atol=1e-4)


def test_checkpoints(tmp_path: Path) -> None:
    assert_round_trip(tiny_flowstate(), tmp_path / "flowstate")
    assert_damage_is_refused(tiny_flowstate(), tmp_path / "damaged", "model.embed.embed.weight")
    assert_config_is_checked(tiny_flowstate(), tmp_path / "foreign", "decoder_type", "spline")
