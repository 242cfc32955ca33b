r"""TTM of granite-tsfm."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from saved_models import assert_config_is_checked, assert_damage_is_refused, assert_round_trip, standardised
from torch.testing import assert_close

from adapts import load_foundation_model
from adapts.foundation import FoundationModel
from adapts.testing import FoundationModelConformance
from adapts.testing.tiny_separate import tiny_ttm

pytest.importorskip("tsfm_public", reason="granite-tsfm has an environment of its own: make test-models")


class TestTTM(FoundationModelConformance):
    @pytest.fixture
    def foundation_model(self) -> FoundationModel:
        return load_foundation_model(tiny_ttm())


def test_standardised_windows_have_the_forecasts_of_the_package() -> None:
    model = tiny_ttm().eval()
    context = standardised(torch.randn(3, 64))
    with torch.no_grad():
        expected = model(past_values=context.unsqueeze(-1)).prediction_outputs.mT
    assert_close(load_foundation_model(model)(context, 16), expected, rtol=0, atol=1e-5)


def test_a_filtered_horizon_is_the_length_of_a_pass() -> None:
    model = tiny_ttm(prediction_filter_length=5).eval()
    frozen = load_foundation_model(model)
    assert frozen.prediction_length == 5
    context = standardised(torch.randn(3, 64))
    expected = model(past_values=context.unsqueeze(-1)).prediction_outputs.mT
    assert_close(frozen(context, 5), expected, rtol=0, atol=1e-5)


def test_missing_steps_are_read_as_the_location() -> None:
    model, context = load_foundation_model(tiny_ttm()), torch.randn(2, 64)
    gaps = context.clone()
    gaps[:, 10:15] = torch.nan
    assert_close(model(gaps + 100.0, 16), model(gaps, 16) + 100.0, rtol=0, atol=1e-4)


def test_the_frequency_token_is_that_of_the_data() -> None:
    package = tiny_ttm(resolution_prefix_tuning=True, frequency_token_vocab_size=10).eval()
    model, context = load_foundation_model(package), standardised(torch.randn(2, 64))
    for frequency, token in (("W-SUN", 9), ("h", 7), ("30min", 6), ("7min", 0), (None, 0)):
        with torch.no_grad():
            expected = package(past_values=context.unsqueeze(-1), freq_token=torch.full((2,), token))
        actual = model.with_frequency(frequency, 1)(context, 16)
        assert_close(actual, expected.prediction_outputs.mT, rtol=0, atol=1e-5)
    assert model.with_frequency("h", 24).fingerprint() == model.fingerprint()
    plain = load_foundation_model(tiny_ttm())
    assert plain.with_frequency("h", 24) is plain


def test_checkpoints(tmp_path: Path) -> None:
    assert_round_trip(tiny_ttm(), tmp_path / "ttm")
    assert_damage_is_refused(tiny_ttm(), tmp_path / "damaged", "backbone.encoder.patcher.weight")
    assert_config_is_checked(tiny_ttm(), tmp_path / "mixing", "mode", "mix_channel")
    assert_config_is_checked(tiny_ttm(), tmp_path / "quantiles", "multi_quantile_head", True)


def test_a_model_that_mixes_channels_is_refused() -> None:
    with pytest.raises(ValueError, match="has the key 'num_input_channels'.*use a univariate TTM"):
        load_foundation_model(tiny_ttm(num_input_channels=3))
