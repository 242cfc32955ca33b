r"""TimesFM 3 on tiny random models: its cure, the package's own numbers, joint forecasts and checkpoints."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from damaged_checkpoints import assert_loads_the_same, assert_refuses_damage, saved
from torch.testing import assert_close

pytest.importorskip("timesfm3", reason="TimesFM 3 needs the extra 'timesfm3'")

from adapts.foundation import FoundationModel, load_foundation_model  # noqa: E402
from adapts.foundation.timesfm3 import TimesFM3  # noqa: E402
from adapts.testing.foundation import FoundationModelConformance  # noqa: E402
from adapts.testing.rows import degenerate_rows  # noqa: E402
from adapts.testing.tiny_models import tiny_timesfm3  # noqa: E402

LENGTH, STEPS = 64, 24


def tiny() -> TimesFM3:
    return TimesFM3(tiny_timesfm3(), name="timesfm-3", context_length=LENGTH, prediction_length=STEPS)


@pytest.fixture(scope="module")
def model() -> TimesFM3:
    return tiny()


class TestTimesFM3(FoundationModelConformance):
    @pytest.fixture
    def foundation_model(self, model: FoundationModel) -> FoundationModel:
        return model


def test_numbers_are_the_package_s(model: TimesFM3) -> None:
    for name, row in degenerate_rows(LENGTH).items():
        own = tiny_timesfm3().decode(row.nan_to_num()[None, None], STEPS, target_mask=row.isnan()[None, None])
        expected = own[:, 0].mT.sort(dim=1).values
        context = row[None].requires_grad_()
        size = float(expected.abs().max())
        assert_close(model(context, STEPS).detach(), expected, rtol=0, atol=1e-5 * size, msg=name)  # with the cure
        assert_close(model(context.detach(), STEPS), expected, rtol=0, atol=1e-5 * size, msg=name)


def test_joint_numbers_are_the_package_s(model: TimesFM3) -> None:
    context = torch.randn(2, 3, LENGTH)
    expected = tiny_timesfm3().decode(context, STEPS).mT.sort(dim=2).values
    assert_close(model.predict_jointly(context, STEPS), expected, rtol=1e-5, atol=1e-5)


def test_channels_of_a_group_see_each_other_and_no_other_group(model: TimesFM3) -> None:
    context = torch.randn(2, 3, LENGTH, requires_grad=True)
    (gradient,) = torch.autograd.grad(model._forecast_jointly(context)[0, 0].sum(), context)
    assert (gradient[0].abs().amax(1) > 0).all()
    assert (gradient[1] == 0).all()


@pytest.mark.parametrize("name", ["left padded", "constant"])
def test_stock_model_has_no_such_gradient(name: str) -> None:
    # What the cure is for: should this ever fail, the package has mended its statistics and it may go.
    row = degenerate_rows(LENGTH)[name][None, None]
    context = row.nan_to_num().requires_grad_()
    decode = type(tiny_timesfm3()).decode.__wrapped__
    (gradient,) = torch.autograd.grad(decode(tiny_timesfm3(), context, STEPS, target_mask=row.isnan()).sum(), context)
    assert gradient.isnan().any()


def test_checkpoint(tmp_path: Path) -> None:
    folder = saved(tiny_timesfm3(), tmp_path / "checkpoint")
    assert_loads_the_same(folder, tiny_timesfm3())
    assert_refuses_damage(folder, "output_head.weight", wider="output_patch_len")


def test_live_model_stays_as_it_is() -> None:
    model, before = tiny_timesfm3(), tiny_timesfm3().state_dict()
    load_foundation_model(model, device="cpu")(torch.randn(1, 20, requires_grad=True), 3).sum().backward()
    assert_close(model.state_dict(), before, rtol=0, atol=0)
