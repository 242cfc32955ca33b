r"""The check of gradients: it passes true ones, and detects each way in which models have had wrong ones."""

from __future__ import annotations

import threading
import types

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from adapts.foundation import FoundationModel
from adapts.foundation.cures import by_leading_gap, carried_forward, guarded_sqrt, replaced, zeros_where_missing
from adapts.foundation.gradient import gradient_error
from adapts.testing import require_true_gradient
from adapts.testing.foundation import FoundationModelConformance

LEVELS = (0.1, 0.5, 0.9)


class Smooth(FoundationModel):
    r"""The last value, the mean and the deviation of the context, in a smooth function with a known gradient."""

    double = True

    def __init__(self, fault: str = "", *, differentiable: bool = True) -> None:
        super().__init__(name="smooth", quantile_levels=LEVELS, context_length=24, prediction_length=4,
                         differentiable=differentiable)  # fmt: skip
        self.fault = fault
        self.register_buffer("scores", torch.tensor([-1.0, 0.0, 1.0]))
        self.freeze()

    @by_leading_gap
    def _forecast(self, context: Tensor) -> Tensor:
        context = carried_forward(context)
        if self.fault == "cut":
            context = torch.cat([context[:, :5].detach(), context[:, 5:]], 1)
        mean = context.mean(1, keepdim=True)
        scale = guarded_sqrt((context - mean).square().mean(1, keepdim=True), 1e-3)
        if self.fault == "detached statistics":
            mean, scale = mean.detach(), scale.detach()
        if self.fault == "stock root":
            scale = (context.cumsum(1)[:, :1] * 0).sqrt() + scale
        standard = (context - mean) / scale  # (N, L)
        if self.fault == "scaled":  # as in parametrisations that scale gradients otherwise than values
            standard = standard.detach() + 0.3 * (standard - standard.detach())
        if self.fault == "rounded":
            standard = standard.to(torch.bfloat16).to(context)
        step = torch.arange(1, 5).to(context)
        path = (standard.sin().cumsum(1)[:, -1:] + standard[:, -1:] * step).tanh()  # (N, P)
        quantiles = path[:, None] + self.scores.to(context)[:, None] * step.sqrt()
        return mean.unsqueeze(2) + scale.unsqueeze(2) * quantiles


class TestSmooth(FoundationModelConformance):
    double = True

    @pytest.fixture
    def foundation_model(self) -> FoundationModel:
        return Smooth()


class TestForwardOnly(FoundationModelConformance):
    @pytest.fixture
    def foundation_model(self) -> FoundationModel:
        return Smooth("rounded", differentiable=False)


def test_a_true_gradient_has_a_small_error() -> None:
    context = torch.randn(3, 20, generator=torch.Generator().manual_seed(0))
    assert gradient_error(Smooth(), context, 5) < 0.01
    assert gradient_error(Smooth(), context, 5, double=True) < 1e-6
    assert gradient_error(Smooth(), 1e3 * context + 5e3, 5) < 0.01


def test_double_precision_leaves_the_weights_as_they_were() -> None:
    model = Smooth()
    before, fingerprint = model.scores.clone(), model.fingerprint()
    gradient_error(model, torch.randn(2, 20), 5, double=True)
    assert model.scores.dtype == torch.float32
    assert_close(model.scores, before, rtol=0, atol=0)
    assert model.fingerprint() == fingerprint


@pytest.mark.parametrize("fault", ["detached statistics", "scaled"])
def test_wrong_gradients_are_detected(fault: str) -> None:
    context = torch.randn(3, 20, generator=torch.Generator().manual_seed(0))
    leaf = context.clone().requires_grad_()
    Smooth(fault)(leaf, 5).sum().backward()  # finite and not zero: nothing else tells
    assert leaf.grad is not None
    assert leaf.grad.isfinite().all()
    assert (leaf.grad != 0).any()
    assert gradient_error(Smooth(fault), context, 5) > 0.1
    with pytest.raises(AssertionError, match="the gradient of smooth differs from finite differences by"):
        require_true_gradient(Smooth(fault))


def test_a_gradient_of_nan_is_detected() -> None:
    with pytest.raises(AssertionError, match="differs from finite differences by nan"):
        require_true_gradient(Smooth("stock root"))


def test_steps_without_a_gradient_are_detected() -> None:
    with pytest.raises(AssertionError, match="is zero at 5 steps in all rows"):
        require_true_gradient(Smooth("cut"), tolerance=10.0)


def test_a_model_without_any_gradient_has_an_infinite_error() -> None:
    class Constant(Smooth):
        def _forecast(self, context: Tensor) -> Tensor:
            return super()._forecast(context).detach()

    assert gradient_error(Constant(), torch.randn(2, 20), 5) == float("inf")


# ---------------------------------------------------------------------- joint mode


class Joint(Smooth):
    r"""Each channel's own forecast, and a tenth of the mean over the channels of their last values."""

    joint_mode = True

    def _forecast_jointly(self, context: Tensor) -> Tensor:
        alone = self._forecast(context.flatten(0, 1)).unflatten(0, context.shape[:2])  # (B, D, Q, P)
        return alone + 0.1 * carried_forward(context)[..., -1].mean(1)[:, None, None, None]


class TestJoint(FoundationModelConformance):
    double = True

    @pytest.fixture
    def foundation_model(self) -> FoundationModel:
        return Joint()


def test_joint_forecasts_are_unrolled_by_the_median_and_rescaled() -> None:
    model, generator = Joint(), torch.Generator().manual_seed(0)
    context = torch.randn(2, 3, 20, generator=generator)
    both = model.predict_jointly(context, 8)
    extended = torch.cat([context, both[:, :, 1, :4]], dim=2)
    assert_close(both[..., 4:], model.predict_jointly(extended, 4))
    alone = model.predict_jointly(context[:, :1], 4)[:, 0]
    expected = model(context[:, 0], 4) + 0.1 * context[:, 0, -1][:, None, None]
    assert_close(alone, expected)
    huge = 2.0**40
    assert_close(model.predict_jointly(huge * context[:, :1], 4), huge * model.predict_jointly(context[:, :1], 4))
    assert model.predict_jointly(context[:0], 8).shape == (0, 3, 3, 8)
    model.memory_budget = 1  # one series at a time
    assert_close(model.predict_jointly(context, 8), both)


# ---------------------------------------------------------------------- helpers of backends


def test_zeros_where_missing() -> None:
    context = torch.tensor([[torch.nan, 2.0, 3.0]], requires_grad=True)
    values, observed = zeros_where_missing(context, multiple=2)
    assert_close(values, torch.tensor([[0.0, 0.0, 2.0, 3.0]]))
    assert observed.tolist() == [[False, False, True, True]]
    values.square().sum().backward()
    assert_close(context.grad, torch.tensor([[0.0, 4.0, 6.0]]))
    assert zeros_where_missing(context, multiple=3)[0].shape == (1, 3)
    assert zeros_where_missing(context, length=7)[0].shape == (1, 7)


def test_carried_forward() -> None:
    nan = torch.nan
    context = torch.tensor([[nan, 1.0, nan, 2.0, nan], [nan] * 5, [3.0, 1.0, 4.0, 1.0, 5.0]])
    expected = torch.tensor([[1.0, 1.0, 1.0, 2.0, 2.0], [0.0] * 5, [3.0, 1.0, 4.0, 1.0, 5.0]])
    assert_close(carried_forward(context), expected)
    leaf = context.clone().requires_grad_()
    carried_forward(leaf).sum().backward()
    assert_close(leaf.grad, torch.tensor([[0.0, 3.0, 0.0, 2.0, 0.0], [0.0] * 5, [1.0] * 5]))


@pytest.mark.parametrize("floor", [0.0, 0.5])
def test_guarded_sqrt_is_the_root_with_finite_slopes(floor: float) -> None:
    x = torch.tensor([-1e-9, 0.0, 0.04, 1.0, 9.0], requires_grad=True)
    root = guarded_sqrt(x, floor)
    assert_close(root.detach(), x.detach().clamp(min=0).sqrt().clamp(min=floor))
    root.sum().backward()
    slope = torch.where(x.detach() > floor**2, 0.5 / root.detach(), 0.0)
    assert_close(x.grad, slope)


def test_rows_with_equal_leading_gaps_are_run_together() -> None:
    lengths: list[tuple[int, ...]] = []

    class Recorder:
        @by_leading_gap
        def forecast(self, context: Tensor) -> Tensor:
            lengths.append(tuple(context.shape))
            assert not context[~context.isnan().all(1), 0].isnan().any()
            return context.nan_to_num().sum(1)[:, None, None] * torch.ones(1, 2, 3)

    nan = torch.nan
    rows = [[nan, 1.0, 2.0], [3.0, nan, 4.0], [nan, 5.0, nan], [nan, nan, 6.0], [nan] * 3]
    context = torch.tensor(rows, requires_grad=True)
    forecast = Recorder().forecast(context)
    assert_close(forecast[:, 0, 0].detach(), torch.tensor([3.0, 7.0, 5.0, 6.0, 0.0]))
    assert sorted(lengths) == [(1, 1), (2, 2), (2, 3)]
    forecast.sum().backward()
    assert context.grad is not None
    assert_close(context.grad, torch.where(context.isnan(), 0.0, 6.0))
    Recorder().forecast(torch.tensor([[nan, 1.0], [nan, 2.0]]))
    assert lengths[-1] == (2, 1)


def test_replaced_functions_are_restored_and_threads_wait() -> None:
    module = types.ModuleType("somewhere")
    module.value = 0  # type: ignore[attr-defined]
    seen: list[bool] = []

    def work(number: int) -> None:
        for _ in range(50):
            with replaced(module, value=number):
                seen.append(module.value == number)  # type: ignore[attr-defined]

    threads = [threading.Thread(target=work, args=(number,)) for number in range(1, 5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(seen) == 200
    assert all(seen)
    assert module.value == 0
    with pytest.raises(RuntimeError), replaced(module, value=3):
        raise RuntimeError
    assert module.value == 0
    with pytest.raises(ValueError, match=r"the installed version of 'somewhere' has no somewhere.other"):
        with replaced(module, other=1):
            pass
