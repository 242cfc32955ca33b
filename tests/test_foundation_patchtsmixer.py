r"""PatchTSMixer: the points of Transformers, with a true gradient."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from checkpoints import (
    assert_damage_is_refused,
    assert_the_checkpoint_is_the_model,
    assert_the_schema_is_complete,
    assert_untouched,
    rewrite,
    saved,
)
from torch.testing import assert_close
from transformers import PatchTSMixerConfig, PatchTSMixerForPrediction

from adapts.foundation import FoundationModel, load_foundation_model
from adapts.foundation.patchtsmixer import Config, PatchTSMixer
from adapts.testing.foundation import FoundationModelConformance
from adapts.testing.tiny import tiny_patchtsmixer


@pytest.fixture(scope="module")
def model() -> FoundationModel:
    return load_foundation_model(tiny_patchtsmixer())


class TestPatchTSMixer(FoundationModelConformance):
    double: ClassVar[bool] = True

    @pytest.fixture
    def foundation_model(self, model: FoundationModel) -> FoundationModel:
        return model


def test_numbers_are_those_of_transformers(model: FoundationModel) -> None:
    context = torch.randn(5, 32)
    context = context / context.std(1, correction=0, keepdim=True) + torch.randn(5, 1)  # of unit variance
    with torch.no_grad():
        expected = tiny_patchtsmixer()(past_values=context.unsqueeze(-1)).prediction_outputs.mT
    assert_close(model(context, 8), expected, rtol=0, atol=1e-5)


def test_a_shift_carries_over_to_series_with_gaps(model: FoundationModel) -> None:
    # Transformers reads a missing step as the value 0.
    context = torch.randn(4, 25)
    context[:, ::3] = torch.nan
    assert_close(model(context + 100, 8), model(context, 8) + 100, rtol=0, atol=1e-3)


def test_a_point_is_the_only_level(model: FoundationModel) -> None:
    assert model.kind == "point"
    assert model.quantile_levels == (0.5,)
    assert model(torch.randn(3, 20), 11).shape == (3, 1, 11)


def test_one_of_several_channels_of_a_model_that_shares_its_weights() -> None:
    sizes = {"context_length": 32, "d_model": 8, "num_layers": 1, "prediction_length": 8}
    config = PatchTSMixerConfig(num_input_channels=3, prediction_channel_indices=[0, 2], **sizes)
    stock = PatchTSMixerForPrediction(config).eval()
    context = torch.randn(4, 32, 3)
    context = (context - context.mean(1, keepdim=True)) / context.std(1, correction=0, keepdim=True)
    with torch.no_grad():
        expected = stock(past_values=context).prediction_outputs[..., 1]  # the third channel
    assert_close(load_foundation_model(stock)(context[..., 2], 8)[:, 0], expected, rtol=0, atol=1e-5)
    assert stock.prediction_channel_indices == [0, 2]


def test_checkpoints(tmp_path: Path) -> None:
    folder = saved(tiny_patchtsmixer(), tmp_path / "tiny")
    assert_the_checkpoint_is_the_model(tiny_patchtsmixer(), folder)
    assert_damage_is_refused(folder, "head.base_forecast_block")


def test_no_key_of_a_config_is_dropped() -> None:
    pretraining = {
        "channel_consistent_masking", "mask_type", "mask_value", "masked_loss", "num_forecast_mask_patches",
        "random_mask_ratio", "unmasked_channel_indices",
    }  # fmt: skip
    other_heads = {"distribution_output", "head_aggregation", "num_parallel_samples", "num_targets", "output_range"}
    derived = {"init_std", "num_patches", "patch_last", "prediction_channel_indices"}
    assert_the_schema_is_complete(PatchTSMixerConfig, Config, pretraining | other_heads | derived)


def test_live_models() -> None:
    model = tiny_patchtsmixer()
    assert_untouched(model, model)
    assert isinstance(load_foundation_model(model), PatchTSMixer)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"loss": "nll"}, "loss='nll'"),
        ({"mode": "mix_channel", "num_input_channels": 2}, "mode='mix_channel'"),
        ({"scaling": None}, "scaling=None"),
    ],
)
def test_models_of_another_kind_are_refused(options: dict[str, Any], message: str) -> None:
    model = PatchTSMixerForPrediction(PatchTSMixerConfig(context_length=32, d_model=8, num_layers=1, **options))
    with pytest.raises(ValueError, match=f"{message}.*expected a univariate one that forecasts points"):
        load_foundation_model(model)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"loss": "nll"}, "'loss', which should be 'mse'"),
        ({"mode": "mix_channel"}, "'mode', which should be 'common_channel'"),
        ({"scaling": "mean"}, "'scaling', which should be 'std'"),
        ({"patch_length": 32}, "should have a context_length larger than patch_length"),
        ({"d_model": 2**15}, "do not fit its config.json: it describes at least"),
    ],
)
def test_a_config_is_checked_before_it_is_used(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    folder = saved(tiny_patchtsmixer(), tmp_path)
    rewrite(folder, changes)
    with pytest.raises(ValueError, match=message):
        load_foundation_model(folder)
