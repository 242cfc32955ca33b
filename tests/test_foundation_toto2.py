r"""Toto 2 on tiny random models: its cures, the package's own numbers, joint forecasts and checkpoints."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path

import pytest
import torch
from damaged_checkpoints import assert_loads_the_same, assert_refuses_damage, saved
from torch import Tensor
from torch.testing import assert_close

pytest.importorskip("toto2", reason="Toto 2 needs the extra 'toto'")

from adapts.foundation import FoundationModel, load_foundation_model, toto2  # noqa: E402
from adapts.foundation.toto2 import Toto2  # noqa: E402
from adapts.testing.foundation import FoundationModelConformance  # noqa: E402
from adapts.testing.rows import degenerate_rows  # noqa: E402
from adapts.testing.tiny_models import tiny_toto2  # noqa: E402

LENGTH, STEPS = 64, 16


def tiny() -> Toto2:
    return Toto2(tiny_toto2(), name="toto-2", context_length=LENGTH, prediction_length=STEPS)


def inputs(context: Tensor, groups: Tensor) -> dict[str, Tensor]:
    return {"target": context.nan_to_num(), "target_mask": ~context.isnan(), "series_ids": groups}


@pytest.fixture(scope="module")
def model() -> Toto2:
    return tiny()


class TestToto2(FoundationModelConformance):
    @pytest.fixture
    def foundation_model(self, model: FoundationModel) -> FoundationModel:
        return model


def test_numbers_are_the_package_s() -> None:
    rows = degenerate_rows(LENGTH)
    for name in ("clean", "one missing", "left padded", "constant first half", "one spike", "large", "small"):
        own = tiny_toto2().forecast(inputs(rows[name][None, None], torch.zeros(1, 1, dtype=torch.long)), STEPS)
        assert_close(tiny()(rows[name][None], STEPS), own[:, 0, 0][None], rtol=1e-5, atol=1e-5 * float(own.abs().max()))


def test_joint_numbers_are_the_package_s() -> None:
    context = torch.randn(2, 3, LENGTH)
    own = tiny_toto2().forecast(inputs(context, torch.zeros(2, 3, dtype=torch.long)), STEPS)  # (Q, B, D, P)
    assert_close(tiny().predict_jointly(context, STEPS), own.movedim(0, 2), rtol=1e-5, atol=1e-5)


def test_channels_of_a_group_see_each_other_and_no_other_group() -> None:
    context = torch.randn(2, 3, LENGTH, requires_grad=True)
    (gradient,) = torch.autograd.grad(tiny()._forecast_jointly(context)[0, 0].sum(), context)
    assert (gradient[0].abs().amax(1) > 0).all()
    assert (gradient[1] == 0).all()
    alone = context.detach()[:, :1]
    assert_close(tiny().predict_jointly(alone, STEPS)[:, 0], tiny().predict(alone[:, 0], STEPS))


def test_stock_model_has_no_such_gradient() -> None:
    # What the cures are for: should this ever fail, the package has mended its forward pass and they may go.
    model, context = tiny_toto2(), torch.randn(1, 1, LENGTH, requires_grad=True)
    forecast = type(model).forecast.__wrapped__(model, inputs(context, torch.zeros(1, 1, dtype=torch.long)), STEPS)
    (gradient,) = torch.autograd.grad(forecast.sum(), context)
    assert gradient.isnan().any()


def test_unit_scaled_gradient_is_another_one(monkeypatch: pytest.MonkeyPatch) -> None:
    # With finite statistics alone, an encoder would be trained on a wrong gradient.
    model, context = tiny(), torch.randn(4, LENGTH, requires_grad=True)
    weights = torch.randn(4, 9, STEPS, generator=torch.Generator().manual_seed(0))
    forecast = model(context, STEPS)
    (true,) = torch.autograd.grad((weights * forecast).sum(), context)
    monkeypatch.setattr(toto2, "_true_gradients", nullcontext)
    stock = model(context, STEPS)
    (scaled,) = torch.autograd.grad((weights * stock).sum(), context)
    assert torch.equal(stock, forecast)
    assert torch.cosine_similarity(true.flatten(), scaled.flatten(), dim=0) < 0.99


def test_an_empty_row_is_forecast_at_location_0_and_scale_1() -> None:
    context = torch.full((1, LENGTH), torch.nan)
    forecast = tiny()(context, STEPS)
    standard = torch.cat([torch.full((1, LENGTH - 2), torch.nan), torch.tensor([[-1.0, 1.0]])], dim=1) / 2**0.5
    assert 0.1 < float(forecast.std() / tiny()(standard, STEPS).std()) < 10  # of two values with deviation 1


def test_checkpoint(tmp_path: Path) -> None:
    folder = saved(tiny_toto2(), tmp_path / "checkpoint")
    assert_loads_the_same(folder, tiny_toto2())
    assert_refuses_damage(folder, "patch_proj.linear1.weight", wider="d_model")


def test_live_model_stays_as_it_is() -> None:
    model, before = tiny_toto2(), tiny_toto2().state_dict()
    wrapped = load_foundation_model(model, device="cpu")
    wrapped(torch.randn(1, 20, requires_grad=True), 3).sum().backward()
    assert_close(model.state_dict(), before, rtol=0, atol=0)
    assert all(parameter.requires_grad for parameter in model.parameters())
    assert "_compute_loc_scale" not in vars(model.scaler)
