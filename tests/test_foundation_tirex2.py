r"""TiRex-2 on tiny random models: its cures, the package's own numbers, joint forecasts and checkpoints."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch
from damaged_checkpoints import assert_loads_the_same, assert_refuses_damage, saved
from torch import Tensor
from torch.testing import assert_close

with pytest.MonkeyPatch.context() as patch:  # the package compiles two blocks at their first call, for about 20 s
    patch.setenv("TORCHDYNAMO_DISABLE", os.environ.get("TORCHDYNAMO_DISABLE", "1"))
    pytest.importorskip("tirex2", reason="TiRex-2 needs its own commands to install", exc_type=ImportError)

from adapts.foundation import FoundationModel, load_foundation_model  # noqa: E402
from adapts.foundation.tirex2 import TiRex2  # noqa: E402
from adapts.testing.foundation import FoundationModelConformance  # noqa: E402
from adapts.testing.rows import degenerate_rows  # noqa: E402
from adapts.testing.tiny_models import tiny_tirex2, tiny_tirex2_config  # noqa: E402

LENGTH, STEPS = 64, 16


def tiny(**options: bool) -> TiRex2:
    return TiRex2(tiny_tirex2(**options), name="tirex-2")


def own(model: object, rows: Tensor) -> Tensor:
    r"""The package's forecasts of series (B, D, L)."""
    from tirex2 import TimeseriesType

    series = [TimeseriesType(target=row, past_covariates=None, future_covariates=None) for row in rows]
    return torch.stack(model.predict(series, STEPS))  # (B, D, Q, P)


@pytest.fixture(scope="module")
def model() -> TiRex2:
    return tiny()


class TestTiRex2(FoundationModelConformance):
    @pytest.fixture
    def foundation_model(self, model: FoundationModel) -> FoundationModel:
        return model


def trend() -> Tensor:
    return torch.arange(float(LENGTH))[None] + torch.randn(3, LENGTH, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("difference", [False, True])
def test_numbers_are_the_package_s(difference: bool) -> None:
    model, stock = tiny(difference=difference), tiny_tirex2(difference=difference)
    for name, row in [*degenerate_rows(LENGTH).items(), ("trend", trend()[0])]:
        expected = own(stock, row[None, None])[:, 0].sort(dim=1).values
        size = float(expected.abs().max())
        assert_close(model(row[None], STEPS), expected, rtol=0, atol=1e-5 * size, msg=name)


def test_a_trend_is_differenced_where_the_config_says_so() -> None:
    differenced, plain = tiny(difference=True), tiny()
    assert not torch.allclose(differenced(trend(), STEPS), plain(trend(), STEPS), rtol=1e-3)
    noise = torch.randn(3, LENGTH)
    assert torch.equal(differenced(noise, STEPS), plain(noise, STEPS))


def test_gradient_of_a_differenced_trend_is_the_slope() -> None:
    model, context = tiny(difference=True), trend().requires_grad_()
    generator = torch.Generator().manual_seed(3)
    weights, direction = (torch.randn(3, *shape, generator=generator) for shape in ((9, STEPS), (LENGTH,)))
    (gradient,) = torch.autograd.grad((weights * model(context, STEPS)).sum(), context)
    errors = []
    with torch.no_grad():
        for step in (1e-2, 3e-3, 1e-3, 3e-4, 1e-4):
            ahead, behind = (model(context + sign * step * direction, STEPS).double() for sign in (1, -1))
            slope = (weights * (ahead - behind)).sum() / (2 * step)
            errors.append(float((slope - (gradient * direction).sum()).abs() / slope.abs()))
    assert min(errors) < 1e-2, errors


def test_negated_series_are_averaged_where_the_config_says_so() -> None:
    stock = tiny_tirex2()
    stock.tta_sign_flip = True
    context = torch.randn(2, LENGTH)
    model = TiRex2(stock, name="flip")
    expected = own(stock, context[:, None])[:, 0].sort(dim=1).values
    assert_close(model(context, STEPS), expected, rtol=1e-5, atol=1e-5)
    assert_close(model(-context, STEPS), -model(context, STEPS).flip(1), rtol=1e-5, atol=1e-5)


def test_joint_numbers_are_the_package_s(model: TiRex2) -> None:
    context = torch.randn(2, 3, LENGTH)
    expected = own(tiny_tirex2(), context).sort(dim=2).values
    assert_close(model.predict_jointly(context, STEPS), expected, rtol=1e-5, atol=1e-5)


def test_channels_of_a_group_see_each_other_and_no_other_group(model: TiRex2) -> None:
    context = torch.randn(2, 3, LENGTH, requires_grad=True)
    (gradient,) = torch.autograd.grad(model._forecast_jointly(context)[0, 0].sum(), context)
    assert (gradient[0].abs().amax(1) > 0).all()
    assert (gradient[1] == 0).all()


def test_stock_model_has_no_such_gradient() -> None:
    # What the cure is for: should this ever fail, the package has mended its scaler and it may go.
    context = torch.randn(1, LENGTH, requires_grad=True)
    padded = torch.nn.functional.pad(context, (0, STEPS), value=torch.nan)
    groups = {"group_vector": torch.ones(1), "target_mask": torch.ones(1, dtype=torch.bool)}
    (gradient,) = torch.autograd.grad(tiny_tirex2()({"x": padded, **groups}).sum(), context)
    assert gradient.isnan().any()


def test_chunks_count_the_padded_context(model: TiRex2) -> None:
    assert model.chunk_rows(1, 1) == model.chunk_rows(LENGTH, 1)


def test_checkpoint(tmp_path: Path) -> None:
    folder = saved(tiny_tirex2(), tmp_path / "checkpoint", tiny_tirex2_config())
    assert_loads_the_same(folder, tiny_tirex2())
    assert_refuses_damage(folder, "input_patch_embedding.hidden_layer.weight", wider="input_ff_dim")


@pytest.mark.parametrize("activation", ["os.getcwd", "torch.nn.Identity", "builtins.exit", "torch.nn.SiLU.x"])
def test_a_config_names_no_function_to_call(tmp_path: Path, activation: str) -> None:
    folder = saved(tiny_tirex2(), tmp_path / "checkpoint", tiny_tirex2_config() | {"act_func": activation})
    with pytest.raises(ValueError, match="act_func"):
        load_foundation_model(folder, device="cpu")


def test_a_config_changes_no_precision_of_the_process(tmp_path: Path) -> None:
    before = torch.get_float32_matmul_precision()
    folder = saved(tiny_tirex2(), tmp_path / "checkpoint", tiny_tirex2_config() | {"matmul_precision": "medium"})
    load_foundation_model(folder, device="cpu")
    assert torch.get_float32_matmul_precision() == before
