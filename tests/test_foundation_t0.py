r"""t0 on tiny random models: its cure, the package's own numbers, joint forecasts and checkpoints."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
from damaged_checkpoints import assert_loads_the_same, assert_refuses_damage, saved
from torch.testing import assert_close

pytest.importorskip("t0", reason="t0 needs the extra 't0'")

from adapts.foundation import FoundationModel, load_foundation_model  # noqa: E402
from adapts.foundation.t0 import T0  # noqa: E402
from adapts.testing.foundation import FoundationModelConformance  # noqa: E402
from adapts.testing.rows import degenerate_rows  # noqa: E402
from adapts.testing.tiny_models import tiny_t0  # noqa: E402

LENGTH, STEPS = 64, 16
FLOORS = ("std_clamp", "variance_offset")


def tiny(**options: str) -> T0:
    return T0(tiny_t0(**options), name="t0", context_length=LENGTH, prediction_length=STEPS)


@pytest.fixture(scope="module")
def model() -> T0:
    return tiny()


class TestT0(FoundationModelConformance):
    affine_equivariant = False  # the deviation is bounded by a constant
    double = True

    @pytest.fixture
    def foundation_model(self, model: FoundationModel) -> FoundationModel:
        return model


@pytest.mark.parametrize("floor", FLOORS)
def test_numbers_are_the_package_s(floor: str) -> None:
    model, own = tiny(scale_floor=floor), tiny_t0(scale_floor=floor)
    for name, row in degenerate_rows(LENGTH).items():
        if row.isnan().all():
            continue
        expected = own.predict(row[None], STEPS, model.quantile_levels, trim_leading_missing=True).quantiles
        size = float(expected.abs().max())
        assert_close(model(row[None], STEPS), expected.mT, rtol=0, atol=1e-5 * size, msg=name)


def test_joint_numbers_are_the_package_s() -> None:
    context = torch.randn(2, 3, LENGTH)
    context[0, 1, 5:9] = torch.nan
    expected = tiny_t0().predict(context, STEPS, tiny().quantile_levels).quantiles  # (B, D, P, Q)
    assert_close(tiny()._forecast_jointly(context), expected.mT, rtol=1e-5, atol=1e-5)


def test_channels_of_a_group_see_each_other_and_no_other_group() -> None:
    context = torch.randn(2, 3, LENGTH, requires_grad=True)
    (gradient,) = torch.autograd.grad(tiny()._forecast_jointly(context)[0, 0].sum(), context)
    assert (gradient[0].abs().amax(1) > 0).all()
    assert (gradient[1] == 0).all()


def test_stock_model_has_no_such_gradient() -> None:
    # What the cure is for: should this ever fail, the package has mended its scaler and it may go.
    from t0.data import TimeSeries

    context = torch.randn(1, LENGTH, requires_grad=True)
    forecast = tiny_t0()._single_pass(TimeSeries.from_array(context, horizon=STEPS))
    (gradient,) = torch.autograd.grad(forecast.sum(), context)
    assert gradient.isnan().any()


def test_model_can_be_copied() -> None:
    with pytest.raises(TypeError, match="staticmethod"):  # the package's own cannot: the cure is needed
        copy.deepcopy(tiny_t0())
    context = torch.randn(2, 20)
    assert torch.equal(copy.deepcopy(tiny())(context, 20), tiny()(context, 20))


def test_horizon_of_one_pass() -> None:
    with pytest.raises(ValueError, match="at most 1024 steps, got prediction_length=1032"):
        T0(tiny_t0(), name="t0", prediction_length=1032)


@pytest.mark.parametrize("floor", FLOORS)
def test_checkpoint(tmp_path: Path, floor: str) -> None:
    folder = saved(tiny_t0(scale_floor=floor), tmp_path / "checkpoint")
    assert_loads_the_same(folder, tiny_t0(scale_floor=floor))
    assert_refuses_damage(folder, "decoder.residual_layer.weight", wider="embed_dim")


def test_live_model_stays_as_it_is() -> None:
    model, before = tiny_t0(), tiny_t0().state_dict()
    load_foundation_model(model, device="cpu")(torch.randn(1, 20, requires_grad=True), 3).sum().backward()
    assert_close(model.state_dict(), before, rtol=0, atol=0)
    assert "scale_input" not in vars(model.scaler)
