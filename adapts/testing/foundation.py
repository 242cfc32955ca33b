r"""Conformance tests of foundation models, to inherit."""

from __future__ import annotations

__all__ = ["FoundationModelConformance", "require_true_gradient"]

import copy
from typing import ClassVar

import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close

from ..foundation import FoundationModel
from ..foundation.base import Unroll
from ..foundation.gradient import gradient_error
from .rows import ROWS, degenerate_rows

UNROLLS: tuple[Unroll, ...] = ("quantile", "median")
#: The tolerated error of a gradient in single precision, and in double precision.
SINGLE, DOUBLE = 0.05, 1e-3


def require_true_gradient(
    model: FoundationModel, context: Tensor | None = None, *, double: bool = False, tolerance: float | None = None
) -> None:
    r"""Assert that the gradient of a foundation model is the slope of its forecast, for both ways to unroll.

    An encoder can be trained on a wrong gradient without any other sign, as when a model detaches the statistics of
    its normalisation. A model that fails declares `differentiable=False`.

    Arguments:
        model: The model.
        context: The series, with shape :math:`(N, L)`, without constant rows; three regular ones if None.
        double: Whether to compute in double precision, for models that do not convert to single precision inside.
        tolerance: The largest error of `adapts.foundation.gradient.gradient_error`; 0.05 if None, 0.001 in double
            precision.

    Raises:
        AssertionError: If the gradient differs from finite differences, is NaN, or does not reach each step.
    """
    if context is None:
        length = max(8, model.context_length - 5)
        context = torch.randn(3, length, generator=torch.Generator().manual_seed(1))
    limit = tolerance if tolerance is not None else DOUBLE if double else SINGLE
    horizon = model.prediction_length + 1
    for unroll in UNROLLS:
        error = gradient_error(model, context, horizon, unroll=unroll, double=double)
        assert error <= limit, (  # NaN fails too
            f"the gradient of {model.name} differs from finite differences by {error:.2g}, relative to their size, "
            f"with unroll={unroll!r}; at most {limit:g} is tolerated"
        )
        leaf = context.detach().clone().requires_grad_()
        weights = torch.randn(
            len(leaf), len(model.quantile_levels), horizon, generator=torch.Generator().manual_seed(2)
        )
        quantiles = model(leaf, horizon, unroll=unroll)
        (gradient,) = torch.autograd.grad((weights * quantiles).sum(), leaf)
        unread = int((gradient == 0).all(0).sum())
        assert not unread, f"the gradient of {model.name} is zero at {unread} steps in all rows, with {unroll=}"


class FoundationModelConformance:
    r"""Tests of the contract of a frozen foundation model.

    Subclass it as `Test...` and override the fixture `foundation_model`.
    """

    #: The tolerated float32 error, relative to the size of the forecasts.
    tolerance: ClassVar[float] = 1e-4
    #: Whether the forecast is equivariant to shift and positive scale of a series.
    affine_equivariant: ClassVar[bool] = True
    #: Whether the model computes in double precision if its weights and its context are converted.
    double: ClassVar[bool] = False
    #: The tolerated error of the gradient against finite differences; that of `require_true_gradient` if None.
    gradient_tolerance: ClassVar[float | None] = None

    @pytest.fixture
    def foundation_model(self) -> FoundationModel:
        r"""The model under test, loaded as a user would."""
        raise NotImplementedError("overwrite the fixture 'foundation_model'")

    @pytest.fixture
    def context(self, foundation_model: FoundationModel) -> Tensor:
        r"""Regular series, shorter than the model's context."""
        length = max(8, foundation_model.context_length - 5)
        return torch.randn(3, length, generator=torch.Generator().manual_seed(1))

    @pytest.fixture(params=["quantile", "median"])
    def unroll(self, request: pytest.FixtureRequest) -> Unroll:
        r"""Each way to forecast beyond one pass of the model."""
        return "median" if request.param == "median" else "quantile"

    def assert_near(self, actual: Tensor, expected: Tensor) -> None:
        r"""Assert equality up to `tolerance`, relative to the largest expected value."""
        size = float(expected.abs().max().clamp(min=1e-30))
        assert_close(actual, expected, rtol=0, atol=self.tolerance * size)

    # ------------------------------------------------------------------ output

    @pytest.mark.parametrize("blocks", [0.0, 0.5, 1.0, 1.5, 2.5])
    def test_shape_type_and_order(
        self, foundation_model: FoundationModel, context: Tensor, unroll: Unroll, blocks: float
    ) -> None:
        r"""Any horizon gives (N, Q, H), float32, finite, sorted along the levels."""
        horizon = max(1, int(blocks * foundation_model.prediction_length))
        levels = foundation_model.quantile_levels
        for dtype in (torch.float32, torch.float64, torch.float16):
            quantiles = foundation_model(context.to(dtype), horizon, unroll=unroll)
            assert quantiles.shape == (len(context), len(levels), horizon)
            assert quantiles.dtype == torch.float32
            assert quantiles.isfinite().all()
            assert (quantiles.diff(dim=1) >= 0).all()

    def test_levels(self, foundation_model: FoundationModel) -> None:
        r"""The levels increase strictly within (0, 1) and include the median."""
        levels = torch.tensor((0.0, *foundation_model.quantile_levels, 1.0))
        assert (levels.diff() > 0).all()
        assert foundation_model.quantile_levels[foundation_model.median_index] == 0.5

    def test_no_series(self, foundation_model: FoundationModel) -> None:
        r"""An empty batch gives an empty forecast."""
        shape = (0, len(foundation_model.quantile_levels), 3)
        assert foundation_model(torch.zeros(0, 9), 3).shape == shape
        assert foundation_model.predict(torch.zeros(0, 9), 3).shape == shape

    def test_wrong_contexts_are_refused(self, foundation_model: FoundationModel, context: Tensor) -> None:
        r"""A context of another shape or type, or a horizon below one, raises a clear error."""
        for wrong, message in (
            (context[0], r"pass context\[None\]"),
            (context[None], "one row per series"),
            (context[:, :0], r"\(series, time\)"),
            (context.long(), "floating-point"),
        ):
            for call in (foundation_model, foundation_model.predict):
                with pytest.raises(ValueError, match=message):
                    call(wrong, 3)
        with pytest.raises(ValueError, match="at least one step"):
            foundation_model(context, 0)
        with pytest.raises(ValueError, match="'quantile' or 'median'"):
            foundation_model(context, 1, unroll="mean")

    def test_only_the_last_steps_are_read(self, foundation_model: FoundationModel, unroll: Unroll) -> None:
        r"""Steps before the last `context_length` have no effect."""
        length = foundation_model.context_length
        context = torch.randn(2, length + 7)
        other = torch.cat([context[:, :7] * 100, context[:, 7:]], dim=1)
        horizon = foundation_model.prediction_length + 1
        expected = foundation_model(context[:, -length:], horizon, unroll=unroll)
        assert_close(foundation_model(context, horizon, unroll=unroll), expected, rtol=0, atol=0)
        assert_close(foundation_model(other, horizon, unroll=unroll), expected, rtol=0, atol=0)

    def test_shorter_horizon_is_a_prefix(
        self, foundation_model: FoundationModel, context: Tensor, unroll: Unroll
    ) -> None:
        r"""A longer horizon appends steps and leaves the first ones unchanged."""
        block = foundation_model.prediction_length
        longest = foundation_model(context, 2 * block + 1, unroll=unroll)
        for horizon in {1, block, block + 1}:
            self.assert_near(foundation_model(context, horizon, unroll=unroll), longest[..., :horizon])

    def test_median_unrolling_appends_the_median(self, foundation_model: FoundationModel, context: Tensor) -> None:
        r"""The second block is the forecast of the context extended by the first median."""
        block = foundation_model.prediction_length
        both = foundation_model(context, 2 * block, unroll="median")
        extended = torch.cat([context, both[:, foundation_model.median_index, :block]], dim=1)
        self.assert_near(both[..., block:], foundation_model(extended, block))

    # ------------------------------------------------------------------ separate series, degenerate contexts

    def test_series_are_forecast_alone(self, foundation_model: FoundationModel, context: Tensor) -> None:
        r"""A series' forecast does not depend on other series in the batch, including degenerate ones."""
        horizon = foundation_model.prediction_length + 1
        degenerate = torch.stack(list(degenerate_rows(context.shape[1]).values()))
        together = foundation_model(torch.cat([degenerate, context]), horizon)[len(degenerate) :]
        for row in range(len(context)):
            self.assert_near(together[row], foundation_model(context[row : row + 1], horizon)[0])
        self.assert_near(foundation_model(context.flip(0), horizon).flip(0), together)

    def test_padding_changes_nothing(self, foundation_model: FoundationModel, unroll: Unroll) -> None:
        r"""Padding with missing steps on the left does not change the forecast of a short context."""
        short = torch.randn(3, max(1, foundation_model.context_length // 3))
        padded = nn.functional.pad(short, (foundation_model.context_length - short.shape[1], 0), value=torch.nan)
        horizon = foundation_model.prediction_length + 1
        forecast = foundation_model(short, horizon, unroll=unroll)
        self.assert_near(foundation_model(padded, horizon, unroll=unroll), forecast)

    def test_predict_is_forward_in_chunks(self, foundation_model: FoundationModel, context: Tensor) -> None:
        r"""`predict` gives the values of `forward` for any chunk size, without gradients."""
        horizon = foundation_model.prediction_length + 1
        many = torch.cat([context, torch.stack(list(degenerate_rows(context.shape[1]).values()))])
        many = many[~many.isnan().any(1) | many.isnan().all(1)]  # `predict` handles gaps differently
        many = many[many.amax(1) != many.amin(1)]  # constant series are tested separately
        whole = foundation_model(many, horizon)
        default_budget = foundation_model.memory_budget
        try:
            for budget in (1, 2**40):
                foundation_model.memory_budget = budget
                chunked = foundation_model.predict(many.requires_grad_(), horizon)
                assert not chunked.requires_grad
                for row in range(len(many)):
                    self.assert_near(chunked[row], whole[row].detach())
            foundation_model.memory_budget = 1
            assert foundation_model.chunk_rows(100, horizon) == 1
        finally:
            foundation_model.memory_budget = default_budget

    def test_predict_gives_a_constant_series_its_constant(self, foundation_model: FoundationModel) -> None:
        r"""A constant series is forecast as exactly this constant, for any magnitude and with gaps."""
        values = torch.tensor([0.0, 5.0, -0.1, 1e-12, 1e-30, 3e15]).unsqueeze(1)
        context = values.repeat(1, 40)
        context[:, 7], context[:3, -5:] = torch.nan, torch.nan
        forecast = foundation_model.predict(context, foundation_model.prediction_length + 1)
        assert torch.equal(forecast, values.unsqueeze(2).expand_as(forecast))

    def test_predict_bridges_short_gaps(self, foundation_model: FoundationModel, context: Tensor) -> None:
        r"""Short gaps are interpolated linearly."""
        steps = torch.arange(context.shape[1])
        even = torch.where(steps % 3 == 0, context, torch.nan)[:, : 1 + 3 * ((context.shape[1] - 1) // 3)]
        left, right = even[:, :-3:3], even[:, 3::3]
        whole = even.clone()
        whole[:, 1::3], whole[:, 2::3] = torch.lerp(left, right, 1 / 3), torch.lerp(left, right, 2 / 3)
        self.assert_near(foundation_model.predict(even, 3), foundation_model(whole, 3).detach())

    def test_predict_looks_past_a_gap_at_the_end(self, foundation_model: FoundationModel, context: Tensor) -> None:
        r"""With missing last steps `predict` starts after the last observation; an empty series is passed as it is."""
        block, levels = foundation_model.prediction_length, len(foundation_model.quantile_levels)
        gaps = torch.tensor([0, 1, block, 0][: len(context)])
        with_gaps = context.clone()
        for row, gap in enumerate(gaps.tolist()):
            with_gaps[row, context.shape[1] - gap :] = torch.nan
        with_gaps = torch.cat([with_gaps, torch.full_like(context[:1], torch.nan)])
        forecasts = foundation_model.predict(with_gaps, 3)
        assert forecasts.shape == (len(with_gaps), levels, 3)
        for row, gap in enumerate(gaps.tolist()):
            known = context[row : row + 1, : context.shape[1] - gap]
            self.assert_near(forecasts[row], foundation_model(known, gap + 3)[0, :, gap:].detach())
        self.assert_near(forecasts[-1], foundation_model(with_gaps[-1:], 3)[0].detach())

    @pytest.mark.parametrize("name", ROWS)
    def test_every_row_has_a_finite_forecast_and_gradient(
        self, foundation_model: FoundationModel, unroll: Unroll, name: str
    ) -> None:
        r"""Forecast and gradient are finite for degenerate rows; the gradient is zero at missing steps."""
        row = degenerate_rows(max(8, foundation_model.context_length - 3))[name]
        context = torch.stack([row, row.nan_to_num() + torch.randn(len(row))])
        self._assert_finite(foundation_model, context, unroll)

    def test_shortest_contexts(self, foundation_model: FoundationModel, unroll: Unroll) -> None:
        r"""Contexts of one or two steps, observed or missing, are valid."""
        for context in (torch.tensor([[1.3], [0.0], [torch.nan]]), torch.tensor([[1.3, torch.nan], [2.0, 2.0]])):
            self._assert_finite(foundation_model, context, unroll)

    def _assert_finite(self, model: FoundationModel, context: Tensor, unroll: Unroll) -> None:
        context = context.clone().requires_grad_(model.differentiable)
        quantiles = model(context, model.prediction_length + 1, unroll=unroll)
        assert quantiles.isfinite().all()
        if model.differentiable:
            quantiles.abs().mean().backward()
            assert context.grad is not None
            assert context.grad.isfinite().all()
            assert (context.grad[context.isnan()] == 0).all()

    def test_shift_and_scale_carry_over(self, foundation_model: FoundationModel, context: Tensor) -> None:
        r"""The forecast of a x + b is a f(x) + b, for positive a."""
        if not self.affine_equivariant:
            pytest.skip("the model declares that shift and scale do not carry over")
        horizon = foundation_model.prediction_length + 1
        forecast = foundation_model(context, horizon)
        for scale, shift in ((10.0, 0.0), (0.1, 0.0), (1.0, 5.0), (3.0, -7.0)):
            self.assert_near(foundation_model(scale * context + shift, horizon), scale * forecast + shift)

    # ------------------------------------------------------------------ gradients

    def test_gradient_is_the_slope(self, foundation_model: FoundationModel, context: Tensor) -> None:
        r"""Directional derivatives match central differences; every step has a non-zero gradient."""
        if not foundation_model.differentiable:
            pytest.skip("the model has no gradient with respect to its context")
        require_true_gradient(foundation_model, context, double=self.double, tolerance=self.gradient_tolerance)

    def test_a_gradient_is_refused_where_there_is_none(
        self, foundation_model: FoundationModel, context: Tensor, unroll: Unroll
    ) -> None:
        r"""A forward-only model raises an error for a context that requires a gradient, and forecasts without one."""
        if foundation_model.differentiable:
            assert foundation_model(context.requires_grad_(), 1, unroll=unroll).requires_grad
            return
        leaf = context.clone().requires_grad_()
        with pytest.raises(ValueError, match="no gradient with respect to its context"):
            foundation_model(leaf, 1, unroll=unroll)
        assert not foundation_model.predict(leaf, 1).requires_grad
        with torch.no_grad():
            assert_close(foundation_model(leaf, 1, unroll=unroll), foundation_model(context, 1, unroll=unroll))

    @pytest.mark.parametrize("name", ROWS)
    def test_encoder_survives_a_training_step(self, foundation_model: FoundationModel, name: str) -> None:
        r"""A clipped optimiser step with a degenerate row moves an encoder's weights and keeps them finite."""
        if not foundation_model.differentiable:
            pytest.skip("the model has no gradient with respect to its context")
        length = max(8, foundation_model.context_length - 3)
        row = degenerate_rows(length)[name]
        windows = torch.randn(4, length, 2)  # (B, L, D)
        windows[0] = row.nan_to_num().unsqueeze(-1)
        observed = torch.ones(4, length, 2, dtype=torch.bool)
        observed[0] = ~row.isnan().unsqueeze(-1)

        encoder = nn.Linear(2, 2, bias=False)
        before = encoder.weight.detach().clone()
        optimiser = torch.optim.Adam(encoder.parameters(), lr=0.1)
        z = torch.where(observed, encoder(windows), torch.nan)
        forecast = foundation_model(z.mT.flatten(0, 1), foundation_model.prediction_length + 1, unroll="median")
        forecast.abs().mean().backward()
        nn.utils.clip_grad_norm_(encoder.parameters(), 1.0)
        optimiser.step()
        assert encoder.weight.isfinite().all()
        assert (encoder.weight != before).all()

    # ------------------------------------------------------------------ joint mode

    def test_joint_forecasts(self, foundation_model: FoundationModel, context: Tensor) -> None:
        r"""A joint forecast of a channel depends on the other channels of its series, and on no other series."""
        horizon, levels = foundation_model.prediction_length + 1, len(foundation_model.quantile_levels)
        series = torch.stack([context, context.roll(3, dims=1)])  # (B, D, L)
        if not foundation_model.joint_mode:
            with pytest.raises(ValueError, match="has no joint mode: call predict with one row per channel"):
                foundation_model.predict_jointly(series, horizon)
            return
        quantiles = foundation_model.predict_jointly(series, horizon)
        assert quantiles.shape == (*series.shape[:2], levels, horizon)
        assert quantiles.isfinite().all()
        assert (quantiles.diff(dim=2) >= 0).all()
        for number in range(len(series)):
            self.assert_near(foundation_model.predict_jointly(series[[number]], horizon)[0], quantiles[number])
        others = series.clone()
        others[:, 1:] = others[:, 1:].flip(-1)
        changed = foundation_model.predict_jointly(others, horizon)[:, 0]
        assert not torch.equal(changed, quantiles[:, 0])
        with pytest.raises(ValueError, match=r"shape \(series, channels, time\)"):
            foundation_model.predict_jointly(context, horizon)

    def test_joint_forecasts_of_degenerate_channels(self, foundation_model: FoundationModel) -> None:
        r"""Degenerate channels beside regular ones have finite joint forecasts, and a constant one its constant."""
        if not foundation_model.joint_mode:
            pytest.skip("the model has no joint mode")
        rows = degenerate_rows(max(8, foundation_model.context_length - 3))
        series = torch.stack(list(rows.values())).unflatten(0, (1, -1))
        quantiles = foundation_model.predict_jointly(series, foundation_model.prediction_length + 1)
        assert quantiles.isfinite().all()
        constant = list(rows).index("constant")
        assert (quantiles[0, constant] == rows["constant"][0]).all()

    # ------------------------------------------------------------------ frozen weights

    def test_weights_never_change(self, foundation_model: FoundationModel, context: Tensor) -> None:
        r"""The weights require no gradient, receive none, and are unchanged by training through them."""
        before = copy.deepcopy(foundation_model.state_dict())
        name = foundation_model.fingerprint()
        assert not any(parameter.requires_grad for parameter in foundation_model.parameters())
        if foundation_model.differentiable:
            foundation_model(context.requires_grad_(), 3).sum().backward()
        foundation_model.predict(context, 3)
        assert all(parameter.grad is None for parameter in foundation_model.parameters())
        assert_close(foundation_model.state_dict(), before, rtol=0, atol=0)
        assert foundation_model.fingerprint() == name

    def test_mode_never_changes(self, foundation_model: FoundationModel, context: Tensor) -> None:
        r"""`train()`, of the model or of a module that contains it, does not activate dropout."""
        forecast = foundation_model(context, 3)
        nn.ModuleList([foundation_model]).train()
        foundation_model.train()
        assert not any(module.training for module in foundation_model.modules())
        assert_close(foundation_model(context, 3), forecast, rtol=0, atol=0)

    def test_forecasts_draw_nothing(self, foundation_model: FoundationModel, context: Tensor) -> None:
        r"""The same context gives the same values, and the global generator is unchanged."""
        state = torch.get_rng_state()
        forecast = foundation_model(context, 3)
        assert torch.equal(torch.get_rng_state(), state)
        torch.rand(5)
        assert_close(foundation_model(context, 3), forecast, rtol=0, atol=0)

    def test_context_is_left_alone(self, foundation_model: FoundationModel, context: Tensor) -> None:
        r"""The caller's tensor is not modified."""
        original = context.clone()
        foundation_model(context, foundation_model.prediction_length + 1)
        assert torch.equal(context, original)

    def test_fingerprint_tells_the_weights_apart(self, foundation_model: FoundationModel) -> None:
        r"""A copy has the same fingerprint; a changed weight changes it."""
        fingerprint = foundation_model.fingerprint()
        assert list(fingerprint) == ["name", "version", "sha256"]
        assert fingerprint["name"] == foundation_model.name
        assert len(fingerprint["sha256"]) == 64
        other = copy.deepcopy(foundation_model)
        assert other.fingerprint() == fingerprint
        for parameter in other.parameters():
            parameter.data.view(-1)[0] += 1
            assert other.fingerprint()["sha256"] != fingerprint["sha256"]
            break
