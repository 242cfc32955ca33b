r"""TimesFM 2.0 and 2.5: the numbers of Transformers, with a true gradient."""

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
from transformers import TimesFm2_5Config, TimesFmConfig, TimesFmModel

from adapts.foundation import FoundationModel, load_foundation_model
from adapts.foundation.timesfm import (
    Config20,
    Config25,
    TimesFM,
    _frequency_class,
    _running_statistics,
    _statistics_of_first_patch,
)
from adapts.testing.foundation import FoundationModelConformance
from adapts.testing.rows import degenerate_rows
from adapts.testing.tiny import tiny_timesfm

VERSIONS = ("2.0", "2.5")


@pytest.fixture(scope="module")
def models() -> dict[str, FoundationModel]:
    return {version: load_foundation_model(tiny_timesfm(version)) for version in VERSIONS}


class TestTimesFM20(FoundationModelConformance):
    gradient_tolerance: ClassVar[float] = 0.01  # single precision

    @pytest.fixture
    def foundation_model(self, models: dict[str, FoundationModel]) -> FoundationModel:
        return models["2.0"]


class TestTimesFM25(FoundationModelConformance):
    gradient_tolerance: ClassVar[float] = 0.01  # single precision

    @pytest.fixture
    def foundation_model(self, models: dict[str, FoundationModel]) -> FoundationModel:
        return models["2.5"]


def stock(version: str, context: torch.Tensor, **options: Any) -> torch.Tensor:
    r"""Quantiles (N, Q, P) of Transformers, which forecasts series of any lengths."""
    with torch.no_grad():
        output = tiny_timesfm(version)(past_values=list(context), truncate_negative=False, **options)
    return output.full_predictions[..., 1:].mT.sort(dim=1).values


@pytest.mark.parametrize("version", VERSIONS)
def test_numbers_are_those_of_transformers(version: str, models: dict[str, FoundationModel]) -> None:
    for context in (torch.randn(5, 64), 100 + 30 * torch.randn(3, 64)):
        expected = stock(version, context)
        size = float(expected.abs().max())
        assert_close(models[version](context, 8), expected, rtol=0, atol=1e-5 * size)


@pytest.mark.parametrize("length", [8, 24, 40])
def test_a_short_context_of_2_5_is_padded_to_whole_patches_only(
    length: int, models: dict[str, FoundationModel]
) -> None:
    # By default Transformers pads each series with zeros to the longest context, and standardises it with them.
    context = torch.randn(4, length)
    expected = stock("2.5", context, forecast_context_len=length)
    assert_close(models["2.5"](context, 8), expected, rtol=0, atol=1e-5 * float(expected.abs().max()))


@pytest.mark.parametrize("version", VERSIONS)
def test_missing_steps_are_filled_in(version: str, models: dict[str, FoundationModel]) -> None:
    context = torch.tensor([[torch.nan, 1.0, torch.nan, 3.0, 2.0, torch.nan]])
    filled = torch.tensor([[1.0, 1.0, 3.0, 2.0, 2.0]])
    assert torch.equal(models[version](context, 8), models[version](filled, 8))


def test_forecasts_of_positive_series_are_not_cut_at_zero(models: dict[str, FoundationModel]) -> None:
    # Stock 2.5 cuts them unless any series of the batch has a negative value: no series would be forecast alone.
    context = torch.rand(4, 64)
    with torch.no_grad():
        cut = tiny_timesfm()(past_values=list(context)).full_predictions
    assert (cut >= 0).all()
    assert (models["2.5"](context, 8) < 0).any()


def test_running_statistics_are_those_of_all_values_so_far() -> None:
    x = torch.randn(3, 6, 8, dtype=torch.float64)
    masked = torch.rand(3, 6, 8) < 0.3
    masked[0, 0] = masked[1] = True  # a patch and a row without observations
    count = mean = deviation = torch.zeros(3, dtype=torch.float64)
    for n in range(6):
        count, mean, deviation = _running_statistics(count, mean, deviation, x[:, n], masked[:, n])
        for row in range(3):
            seen = x[row, : n + 1][~masked[row, : n + 1]]
            assert count[row] == len(seen)
            if len(seen):
                assert_close(mean[row], seen.mean())
                assert_close(deviation[row], seen.std(correction=0))
    assert mean[1] == deviation[1] == 0


def test_statistics_of_the_first_patch_are_those_of_transformers() -> None:
    values, padding = torch.randn(40, 5, 8), (torch.rand(40, 5, 1) < torch.rand(40, 5, 8)).float()
    padding[0] = 1
    expected = TimesFmModel._timesfm_masked_mean_std(values, padding)
    assert_close(_statistics_of_first_patch(values, padding), expected)


@pytest.mark.parametrize("version", VERSIONS)
def test_transformers_has_no_finite_gradient_for_constant_rows(version: str) -> None:
    # What the replaced statistics are for: should this ever fail, Transformers has mended them.
    context = degenerate_rows(64)["constant"].requires_grad_()
    tiny_timesfm(version)(past_values=[context]).full_predictions.sum().backward()
    assert context.grad is not None
    assert context.grad.isnan().any()


# ---------------------------------------------------------------------- frequency


@pytest.mark.parametrize(
    ("frequency", "expected"),
    [("s", 0), ("15min", 0), ("h", 0), ("D", 0), ("B", 0), ("2D", 0), ("7D", 1), ("W-SUN", 1), ("W-WED", 1), ("MS", 1),
     ("ME", 1), ("2MS", 1), ("QS", 2), ("QE-DEC", 2), ("3MS", 2), ("YS", 2), ("YE-JUN", 2)],
)  # fmt: skip
def test_classes_of_frequency(frequency: str, expected: int) -> None:
    assert _frequency_class(frequency) == expected


def test_2_0_reads_the_frequency_and_2_5_does_not(models: dict[str, FoundationModel]) -> None:
    model, context = models["2.0"], torch.randn(3, 64)
    before = model(context, 8)
    monthly, yearly = model.with_frequency("MS", 12), model.with_frequency("YS", 1)
    assert_close(monthly(context, 8), stock("2.0", context, freq=[1] * 3), rtol=0, atol=1e-5)
    assert_close(yearly(context, 8), stock("2.0", context, freq=[2] * 3), rtol=0, atol=1e-5)
    assert torch.equal(model(context, 8), before)
    assert torch.equal(model.with_frequency("h", 24)(context, 8), before)
    assert monthly.fingerprint() == model.fingerprint()
    assert monthly.model is model.model
    assert model.with_frequency(None, 1) is model
    assert models["2.5"].with_frequency("MS", 12) is models["2.5"]


# ---------------------------------------------------------------------- checkpoints


@pytest.mark.parametrize("version", VERSIONS)
def test_checkpoints(version: str, tmp_path: Path) -> None:
    folder = saved(tiny_timesfm(version), tmp_path / "tiny")
    assert_the_checkpoint_is_the_model(tiny_timesfm(version), folder)
    assert_damage_is_refused(folder, "horizon_ff_layer" if version == "2.0" else "output_projection_point")


def test_no_key_of_a_config_is_dropped() -> None:
    assert_the_schema_is_complete(TimesFmConfig, Config20, {"initializer_range"})
    assert_the_schema_is_complete(TimesFm2_5Config, Config25, {"initializer_range"})


@pytest.mark.parametrize("version", VERSIONS)
def test_live_models(version: str) -> None:
    model = tiny_timesfm(version)
    assert_untouched(model, model)
    assert isinstance(load_foundation_model(model), TimesFM)


def test_other_checkpoints_are_refused(tmp_path: Path) -> None:
    sizes = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    folder = saved(TimesFmModel(TimesFmConfig(head_dim=8, **sizes)), tmp_path)  # without a head
    with pytest.raises(ValueError, match="do not fit its config.json: 6 missing .* horizon_ff_layer"):
        load_foundation_model(folder)
    rewrite(folder, {"model_type": "timesfm3"})
    with pytest.raises(ValueError, match="TimesFmModel, which no backend reads"):
        load_foundation_model(folder)


@pytest.mark.parametrize(
    ("version", "changes", "message"),
    [
        ("2.0", {"freq_size": 1}, "'freq_size', which should be greater than or equal to 3"),
        ("2.0", {"quantiles": [0.5, 2.0]}, "'quantiles.1', which should be less than 1"),
        ("2.0", {"hidden_size": 2**15}, "do not fit its config.json: it describes at least"),
        ("2.5", {"rope_parameters": {"rope_type": "yarn"}}, "'rope_parameters.rope_type', which should be 'default'"),
        ("2.5", {"activation": "os.system"}, "'activation', which should be"),
        ("2.5", {"patch_length": 0}, "'patch_length', which should be greater than"),
    ],
)
def test_a_config_is_checked_before_it_is_used(
    version: str, tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    folder = saved(tiny_timesfm(version), tmp_path)
    rewrite(folder, changes)
    with pytest.raises(ValueError, match=message):
        load_foundation_model(folder)
