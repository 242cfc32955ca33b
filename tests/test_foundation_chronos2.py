r"""Chronos-2: the pipeline's numbers, alone and in groups, with a true gradient."""

from __future__ import annotations

from pathlib import Path
from typing import Any

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
from chronos import BaseChronosPipeline, Chronos2Pipeline
from chronos.chronos2.config import Chronos2CoreConfig
from chronos.chronos_bolt import InstanceNorm
from torch.testing import assert_close

from adapts import Adapter
from adapts.foundation import FoundationModel, load_foundation_model
from adapts.foundation.chronos import GuardedInstanceNorm
from adapts.foundation.chronos2 import MOST_ROWS, Chronos2, Config
from adapts.testing.foundation import FoundationModelConformance
from adapts.testing.rows import degenerate_rows
from adapts.testing.tiny import tiny_chronos_2


@pytest.fixture(scope="module")
def model() -> FoundationModel:
    return load_foundation_model(tiny_chronos_2())


class TestChronos2(FoundationModelConformance):
    @pytest.fixture
    def foundation_model(self, model: FoundationModel) -> FoundationModel:
        return model


def assert_equal(actual: torch.Tensor, expected: torch.Tensor) -> None:
    size = float(expected.abs().max().clamp(min=1.0))
    assert_close(actual, expected, rtol=0, atol=1e-5 * size)


@pytest.mark.parametrize("horizon", [3, 8, 16])
def test_numbers_are_the_pipeline_s(horizon: int) -> None:
    # The pipeline forecasts as many patches as the horizon needs.
    module = tiny_chronos_2()
    model, pipeline = Chronos2(module, name="tiny", prediction_length=horizon), Chronos2Pipeline(module.eval())
    for row in degenerate_rows(70).values():  # one row a call: others' forecasts may be much larger
        (expected,) = pipeline.predict(row[None, None], prediction_length=horizon)
        assert_equal(model(row[None], horizon), expected.sort(dim=1).values)


@pytest.mark.parametrize("horizon", [8, 16])
def test_joint_numbers_are_the_pipeline_s(horizon: int) -> None:
    module = tiny_chronos_2()
    model, pipeline = Chronos2(module, name="tiny", prediction_length=horizon), Chronos2Pipeline(module.eval())
    series = torch.randn(5, 3, 60)
    expected = torch.stack(pipeline.predict(series, prediction_length=horizon)).sort(dim=2).values
    assert_equal(model.predict_jointly(series, horizon), expected)
    alone = model.predict(series.flatten(0, 1), horizon).unflatten(0, (5, 3))
    assert not torch.allclose(alone, expected, atol=1e-2)


def test_gradients_stay_within_a_group(model: Chronos2) -> None:
    series = torch.randn(2, 3, 40, requires_grad=True)
    model._forecast_jointly(series)[0, 0].sum().backward()
    assert (series.grad[0].abs().sum(1) > 0).all()
    assert (series.grad[1] == 0).all()
    series.grad = None
    model(series.flatten(0, 1), 8)[0].sum().backward()
    assert (series.grad.flatten(0, 1)[0] != 0).all()
    assert (series.grad.flatten(0, 1)[1:] == 0).all()


def test_a_large_batch_is_split(model: Chronos2) -> None:
    context = torch.randn(MOST_ROWS + 3, 20)
    quantiles = model(context, 8)
    assert_close(quantiles[-3:], model(context[-3:], 8), rtol=0, atol=1e-5)
    jointly = model.predict_jointly(context.unflatten(0, (1, -1)), 8)  # one group is never split
    assert jointly.shape == (1, MOST_ROWS + 3, 11, 8)


def test_the_length_of_a_pass_belongs_to_the_fingerprint(model: Chronos2) -> None:
    module = tiny_chronos_2()
    short, rounded, whole = (Chronos2(module, name="m", prediction_length=n) for n in (8, 5, None))
    assert (short.prediction_length, rounded.prediction_length, whole.prediction_length) == (8, 8, 16)
    assert short.fingerprint() == rounded.fingerprint() != whole.fingerprint()
    assert whole.fingerprint()["sha256"] == model.fingerprint()["sha256"]
    for wrong in (0, 17):
        with pytest.raises(ValueError, match=f"forecasts 1 to 16 steps in one pass, got prediction_length={wrong}"):
            Chronos2(module, name="m", prediction_length=wrong)


@pytest.mark.parametrize("name", degenerate_rows(8))
def test_guarded_norm_with_arcsinh_is_the_norm(name: str) -> None:
    row = degenerate_rows(61)[name][None].requires_grad_()
    expected, statistics = InstanceNorm(use_arcsinh=True)(row.detach())
    actual, guarded = GuardedInstanceNorm(use_arcsinh=True)(row)
    assert_close(actual, expected, rtol=0, atol=0, equal_nan=True)
    assert_close(guarded, statistics, rtol=0, atol=0)
    (gradient,) = torch.autograd.grad(actual.nansum() + guarded[0].sum() + guarded[1].sum(), row)
    assert gradient.isfinite().all()


def test_the_stock_module_has_no_such_gradient() -> None:
    # What the guard is for: should this ever fail, Chronos has mended it and the guard may go.
    for name in ("constant", "one missing"):
        row = degenerate_rows(64)[name][None].requires_grad_()
        tiny_chronos_2().eval()(context=row).quantile_preds.sum().backward()
        assert row.grad.isnan().any()


def test_checkpoints(tmp_path: Path) -> None:
    folder = saved(tiny_chronos_2(), tmp_path / "tiny")
    assert_the_checkpoint_is_the_model(tiny_chronos_2(), folder)
    assert isinstance(BaseChronosPipeline.from_pretrained(folder), Chronos2Pipeline)
    assert_damage_is_refused(folder, "output_patch_embedding")


def test_no_key_of_a_config_is_dropped() -> None:
    # The two are derived from others; a token for padding is never read.
    assert_the_schema_is_complete(Chronos2CoreConfig, Config, {"dense_act_fn", "is_gated_act", "pad_token_id"})


def test_live_models() -> None:
    module = tiny_chronos_2()
    assert_untouched(module, module)
    assert isinstance(load_foundation_model(Chronos2Pipeline(module)), Chronos2)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"chronos_config": {"output_patch_size": 4}}, "'chronos_config', which should have patches of one size"),
        ({"chronos_config": {"use_reg_token": False}}, "'chronos_config.use_reg_token', which should be True"),
        ({"chronos_config": {"other": 1}}, "no key of .* 'other'"),
        ({"feed_forward_proj": "gated-gelu"}, "'feed_forward_proj', which should be 'relu'"),
        ({"d_kv": 5}, "'d_kv', which should be a multiple of 2"),
        ({"d_model": 2**15}, "do not fit its config.json: it describes at least"),
        ({"chronos_pipeline_class": "ChronosBoltPipeline"}, "lacks the key 'chronos_config.prediction_length'"),
    ],
)
def test_a_config_is_checked_before_it_is_used(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    folder = saved(tiny_chronos_2(), tmp_path)
    rewrite(folder, changes)
    with pytest.raises(ValueError, match=message):
        load_foundation_model(folder)


def test_an_adapter_takes_the_shortest_pass_that_holds_its_horizon() -> None:
    whole = load_foundation_model(tiny_chronos_2())
    short = whole.with_horizon(5)
    assert (short.prediction_length, whole.prediction_length) == (8, 16)
    assert next(short.parameters()) is next(whole.parameters())
    assert int(whole.patches) == 2 and int(short.patches) == 1
    assert whole.with_horizon(16) is whole and short.with_horizon(40) is short
    context = torch.randn(3, 48)
    expected = Chronos2(tiny_chronos_2(), name="m", prediction_length=8).predict(context, 5)
    assert_close(short.predict(context, 5), expected, rtol=0, atol=0)
    fitted = Adapter("identity", foundation_model=whole, prediction_length=5, context_length=48)
    fitted.fit(torch.randn(200, 2).numpy())
    assert fitted._predictor("predict").model.prediction_length == 8
    assert fitted.model.prediction_length == 16
