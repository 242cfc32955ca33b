r"""Conformance tests: a foundation model or an adapter family of your own inherits them; needs pytest.

>>> from adapts.testing import FoundationModelConformance
>>> class TestMyModel(FoundationModelConformance):
...     @pytest.fixture
...     def foundation_model(self):
...         return MyModel()
"""

from __future__ import annotations

__all__ = ["AdapterConformance", "FoundationModelConformance", "degenerate_rows", "tiny_chronos_bolt"]

import copy
from collections.abc import Sequence
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close

from ._random import seeded
from .adapters import AdapterModule, Evidence, State
from .foundation import FoundationModel, load_foundation_model
from .foundation.base import Unroll

_ROWS = (
    "clean", "one missing", "one observed", "left padded", "end missing", "all missing", "constant", "all zero",
    "constant with gaps", "constant first half", "one spike", "large", "small",
)  # fmt: skip


def degenerate_rows(length: int) -> dict[str, Tensor]:
    r"""Makes series at which a careless forecaster or encoder breaks, by name; a clean one among them.

    Arguments:
        length: The number of steps :math:`L`, eight or more.

    Returns:
        The series, each with shape :math:`(L,)`.

    Example:
        >>> degenerate_rows(8)["left padded"].isnan().sum()
        tensor(6)
    """
    generator = torch.Generator().manual_seed(0)
    clean = torch.randn(length, generator=generator) + torch.linspace(0.0, 6.0, length).sin()
    rows = {name: clean.clone() for name in _ROWS}
    rows["one missing"][length // 2] = torch.nan
    rows["one observed"][torch.arange(length) != length // 2] = torch.nan
    rows["left padded"][: 3 * length // 4] = torch.nan
    rows["end missing"][-length // 4 :] = torch.nan
    rows["all missing"][:] = torch.nan
    rows["constant"][:] = 3.0
    rows["all zero"][:] = 0.0
    rows["constant with gaps"][:] = -2.3
    rows["constant with gaps"][::3] = torch.nan
    rows["constant first half"][: length // 2] = 1.7
    rows["one spike"][:] = 0.0
    rows["one spike"][length // 3] = 1.0
    rows["large"] *= 1e6
    rows["small"] *= 1e-6
    return rows


def tiny_chronos_bolt(
    *,
    context_length: int = 64,
    prediction_length: int = 8,
    patch: int = 8,
    quantile_levels: Sequence[float] = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9),
    use_reg_token: bool = True,
    seed: int = 0,
) -> Any:
    r"""Makes a Chronos-Bolt of 9000 random weights: a real frozen model that costs nothing.

    Arguments:
        context_length: The number of steps that it reads.
        prediction_length: The number of steps that one pass gives.
        patch: The number of steps that make one token.
        quantile_levels: The levels that it forecasts; they cross, as random weights have it.
        use_reg_token: Whether a token follows the patches.
        seed: The seed of the weights.

    Returns:
        The `ChronosBoltModelForForecasting`; `save_pretrained(directory)` writes its checkpoint.

    Example:
        >>> model = load_foundation_model(tiny_chronos_bolt())
        >>> model(torch.randn(2, 30), prediction_length=5).shape
        torch.Size([2, 9, 5])
    """
    from chronos.chronos_bolt import ChronosBoltModelForForecasting
    from transformers import T5Config

    settings: dict[str, Any] = {
        "decoder_start_token_id": 0,
        "chronos_pipeline_class": "ChronosBoltPipeline",
        "chronos_config": {
            "context_length": context_length,
            "prediction_length": prediction_length,
            "input_patch_size": patch,
            "input_patch_stride": patch,
            "quantiles": list(quantile_levels),
            "use_reg_token": use_reg_token,
        },
    }
    config = T5Config(
        d_model=16,
        d_kv=4,
        d_ff=32,
        num_layers=1,
        num_decoder_layers=1,
        num_heads=2,
        feed_forward_proj="relu",
        vocab_size=2,
        pad_token_id=0,
        eos_token_id=1,
        is_encoder_decoder=True,
        initializer_factor=0.3,
        architectures=["ChronosBoltModelForForecasting"],
        **settings,
    )
    with seeded(seed):
        return ChronosBoltModelForForecasting(config)


class FoundationModelConformance:
    r"""What `adapts` expects of a frozen foundation model.

    Subclass it as `Test...` and overwrite the fixture `foundation_model`.
    """

    #: The error of float32 that is allowed, relative to the size of the forecasts.
    tolerance: ClassVar[float] = 1e-4
    #: Whether shift and positive scale of a series carry over to its forecast.
    affine_equivariant: ClassVar[bool] = True

    @pytest.fixture
    def foundation_model(self) -> FoundationModel:
        r"""The model under test, loaded as a user would."""
        raise NotImplementedError("overwrite the fixture 'foundation_model'")

    @pytest.fixture
    def context(self, foundation_model: FoundationModel) -> Tensor:
        r"""Series without any trouble, shorter than the model's context."""
        length = max(8, foundation_model.context_length - 5)
        return torch.randn(3, length, generator=torch.Generator().manual_seed(1))

    @pytest.fixture(params=["quantile", "median"])
    def unroll(self, request: pytest.FixtureRequest) -> Unroll:
        r"""Each way to go beyond one pass of the model."""
        return "median" if request.param == "median" else "quantile"

    def assert_near(self, actual: Tensor, expected: Tensor) -> None:
        r"""Asserts equality up to `tolerance`, relative to the largest number expected."""
        size = float(expected.abs().max().clamp(min=1e-30))
        assert_close(actual, expected, rtol=0, atol=self.tolerance * size)

    # ------------------------------------------------------------------ what comes out

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
        r"""The levels rise strictly inside (0, 1), the median among them."""
        levels = torch.tensor((0.0, *foundation_model.quantile_levels, 1.0))
        assert (levels.diff() > 0).all()
        assert foundation_model.quantile_levels[foundation_model.median_index] == 0.5

    def test_no_series(self, foundation_model: FoundationModel) -> None:
        r"""No series in, no forecast out."""
        shape = (0, len(foundation_model.quantile_levels), 3)
        assert foundation_model(torch.zeros(0, 9), 3).shape == shape
        assert foundation_model.predict(torch.zeros(0, 9), 3).shape == shape

    def test_wrong_contexts_are_refused(self, foundation_model: FoundationModel, context: Tensor) -> None:
        r"""A context of another shape or type, or a horizon below one, gets a clear error."""
        for wrong, message in (
            (context[0], r"pass context\[None\]"),
            (context[None], "one row a series"),
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
        r"""Steps before the last `context_length` change nothing."""
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
        r"""A longer horizon appends steps and leaves the first ones alone."""
        block = foundation_model.prediction_length
        longest = foundation_model(context, 2 * block + 1, unroll=unroll)
        for horizon in {1, block, block + 1}:
            self.assert_near(foundation_model(context, horizon, unroll=unroll), longest[..., :horizon])

    def test_median_unrolling_appends_the_median(self, foundation_model: FoundationModel, context: Tensor) -> None:
        r"""The second block is the forecast of the context with the first median behind it."""
        block = foundation_model.prediction_length
        both = foundation_model(context, 2 * block, unroll="median")
        extended = torch.cat([context, both[:, foundation_model.median_index, :block]], dim=1)
        self.assert_near(both[..., block:], foundation_model(extended, block))

    # ------------------------------------------------------------------ series alone, whatever they hold

    def test_series_are_forecast_alone(self, foundation_model: FoundationModel, context: Tensor) -> None:
        r"""A series' forecast does not depend on its neighbours, degenerate ones included."""
        horizon = foundation_model.prediction_length + 1
        company = torch.stack(list(degenerate_rows(context.shape[1]).values()))
        together = foundation_model(torch.cat([company, context]), horizon)[len(company) :]
        for row in range(len(context)):
            self.assert_near(together[row], foundation_model(context[row : row + 1], horizon)[0])
        self.assert_near(foundation_model(context.flip(0), horizon).flip(0), together)

    def test_padding_changes_nothing(self, foundation_model: FoundationModel, unroll: Unroll) -> None:
        r"""A short context is the same series when missing steps fill it up on the left."""
        short = torch.randn(3, max(1, foundation_model.context_length // 3))
        padded = nn.functional.pad(short, (foundation_model.context_length - short.shape[1], 0), value=torch.nan)
        horizon = foundation_model.prediction_length + 1
        forecast = foundation_model(short, horizon, unroll=unroll)
        self.assert_near(foundation_model(padded, horizon, unroll=unroll), forecast)

    def test_predict_is_forward_in_chunks(self, foundation_model: FoundationModel, context: Tensor) -> None:
        r"""`predict` gives the numbers of `forward` for any chunk size, and no gradient."""
        horizon = foundation_model.prediction_length + 1
        many = torch.cat([context, torch.stack(list(degenerate_rows(context.shape[1]).values()))])
        many = many[~many.isnan().any(1) | many.isnan().all(1)]  # no gap that would be bridged, or lie at the end
        many = many[many.amax(1) != many.amin(1)]  # constant series have a test of their own
        whole = foundation_model(many, horizon)
        kept = foundation_model.memory_budget
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
            foundation_model.memory_budget = kept

    def test_predict_gives_a_constant_series_its_constant(self, foundation_model: FoundationModel) -> None:
        r"""A series of equal values is forecast as this value, exactly, whatever its size and its gaps."""
        values = torch.tensor([0.0, 5.0, -0.1, 1e-12, 1e-30, 3e15]).unsqueeze(1)
        context = values.repeat(1, 40)
        context[:, 7], context[:3, -5:] = torch.nan, torch.nan
        forecast = foundation_model.predict(context, foundation_model.prediction_length + 1)
        assert torch.equal(forecast, values.unsqueeze(2).expand_as(forecast))

    def test_predict_bridges_short_gaps(self, foundation_model: FoundationModel, context: Tensor) -> None:
        r"""What lies on a line between its neighbours may be missing."""
        steps = torch.arange(context.shape[1])
        even = torch.where(steps % 3 == 0, context, torch.nan)[:, : 1 + 3 * ((context.shape[1] - 1) // 3)]
        left, right = even[:, :-3:3], even[:, 3::3]
        whole = even.clone()
        whole[:, 1::3], whole[:, 2::3] = torch.lerp(left, right, 1 / 3), torch.lerp(left, right, 2 / 3)
        self.assert_near(foundation_model.predict(even, 3), foundation_model(whole, 3).detach())

    def test_predict_looks_past_a_gap_at_the_end(self, foundation_model: FoundationModel, context: Tensor) -> None:
        r"""Behind missing last steps `predict` goes on from the last observation; without any, from nothing."""
        block, number = foundation_model.prediction_length, len(foundation_model.quantile_levels)
        gaps = torch.tensor([0, 1, block, 0][: len(context)])
        holed = context.clone()
        for row, gap in enumerate(gaps.tolist()):
            holed[row, context.shape[1] - gap :] = torch.nan
        holed = torch.cat([holed, torch.full_like(context[:1], torch.nan)])
        forecasts = foundation_model.predict(holed, 3)
        assert forecasts.shape == (len(holed), number, 3)
        for row, gap in enumerate(gaps.tolist()):
            known = context[row : row + 1, : context.shape[1] - gap]
            self.assert_near(forecasts[row], foundation_model(known, gap + 3)[0, :, gap:].detach())
        self.assert_near(forecasts[-1], foundation_model(holed[-1:], 3)[0].detach())

    @pytest.mark.parametrize("name", _ROWS)
    def test_every_row_has_a_finite_forecast_and_gradient(
        self, foundation_model: FoundationModel, unroll: Unroll, name: str
    ) -> None:
        r"""Missing, constant or empty: forecast and gradient are finite, the latter zero at missing steps."""
        row = degenerate_rows(max(8, foundation_model.context_length - 3))[name]
        context = torch.stack([row, row.nan_to_num() + torch.randn(len(row))])
        self._assert_finite(foundation_model, context, unroll)

    def test_shortest_contexts(self, foundation_model: FoundationModel, unroll: Unroll) -> None:
        r"""One or two steps, observed or not, are a context."""
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

    def test_gradient_is_the_slope(self, foundation_model: FoundationModel, context: Tensor, unroll: Unroll) -> None:
        r"""The directional derivative is that of central differences; each step is reached."""
        if not foundation_model.differentiable:
            with pytest.raises(ValueError, match="no gradient with respect to its context"):
                foundation_model(context.requires_grad_(), 1, unroll=unroll)
            return
        horizon = foundation_model.prediction_length + 1
        generator = torch.Generator().manual_seed(2)
        direction = torch.randn(context.shape, generator=generator)
        shape = (len(context), len(foundation_model.quantile_levels), horizon)
        weights = torch.randn(shape, generator=generator)

        context.requires_grad_()
        (gradient,) = torch.autograd.grad((weights * foundation_model(context, horizon, unroll=unroll)).sum(), context)
        assert (gradient != 0).any(0).all()
        with torch.no_grad():
            step = 1e-3 * direction
            ahead = foundation_model(context + step, horizon, unroll=unroll).double()
            behind = foundation_model(context - step, horizon, unroll=unroll).double()
        slope = (weights * (ahead - behind)).sum() / 2e-3
        terms = (weights * (ahead - behind)).abs().sum() / 2e-3
        assert (slope - (gradient * direction).sum()).abs() < 1e-2 * terms

    @pytest.mark.parametrize("name", _ROWS)
    def test_encoder_survives_a_training_step(self, foundation_model: FoundationModel, name: str) -> None:
        r"""One clipped optimiser step on a batch with such a row leaves an encoder's weights finite, and moved."""
        if not foundation_model.differentiable:
            pytest.skip("the model has no gradient with respect to its context")
        length = max(8, foundation_model.context_length - 3)
        row = degenerate_rows(length)[name]
        windows = torch.randn(4, length, 2)  # (B, L, D)
        windows[0] = row.nan_to_num().unsqueeze(-1)
        seen = torch.ones(4, length, 2, dtype=torch.bool)
        seen[0] = ~row.isnan().unsqueeze(-1)

        encoder = nn.Linear(2, 2, bias=False)
        before = encoder.weight.detach().clone()
        optimiser = torch.optim.Adam(encoder.parameters(), lr=0.1)
        z = torch.where(seen, encoder(windows), torch.nan)
        forecast = foundation_model(z.mT.flatten(0, 1), foundation_model.prediction_length + 1, unroll="median")
        forecast.abs().mean().backward()
        nn.utils.clip_grad_norm_(encoder.parameters(), 1.0)
        optimiser.step()
        assert encoder.weight.isfinite().all()
        assert (encoder.weight != before).all()

    # ------------------------------------------------------------------ frozen

    def test_weights_never_change(self, foundation_model: FoundationModel, context: Tensor) -> None:
        r"""The weights ask for no gradient, get none, and are the same after training through them."""
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
        r"""No `train()`, its own or of a module around it, wakes dropout."""
        forecast = foundation_model(context, 3)
        nn.ModuleList([foundation_model]).train()
        foundation_model.train()
        assert not any(module.training for module in foundation_model.modules())
        assert_close(foundation_model(context, 3), forecast, rtol=0, atol=0)

    def test_forecasts_draw_nothing(self, foundation_model: FoundationModel, context: Tensor) -> None:
        r"""The same context gives the same numbers, and the global generator stays where it was."""
        state = torch.get_rng_state()
        forecast = foundation_model(context, 3)
        assert torch.equal(torch.get_rng_state(), state)
        torch.rand(5)
        assert_close(foundation_model(context, 3), forecast, rtol=0, atol=0)

    def test_context_is_left_alone(self, foundation_model: FoundationModel, context: Tensor) -> None:
        r"""The caller's tensor is not written to."""
        kept = context.clone()
        foundation_model(context, foundation_model.prediction_length + 1)
        assert torch.equal(context, kept)

    def test_fingerprint_tells_the_weights_apart(self, foundation_model: FoundationModel) -> None:
        r"""A copy has the same fingerprint, one other weight another."""
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


class AdapterConformance:
    r"""What `adapts` expects of an adapter family.

    Subclass it as `Test...` and overwrite the fixture `family`.
    """

    #: The number of observed channels that the family is built for.
    channels: ClassVar[int] = 3
    #: Whether a fresh adapter that keeps all channels hands the frozen model's own forecasts back.
    starts_as_identity: ClassVar[bool] = True

    batch: ClassVar[int] = 5
    length: ClassVar[int] = 40
    horizon: ClassVar[int] = 6

    @pytest.fixture
    def family(self) -> AdapterModule:
        r"""The family under test with its hyperparameters, not yet built."""
        raise NotImplementedError("overwrite the fixture 'family'")

    @pytest.fixture
    def adapter(self, family: AdapterModule) -> AdapterModule:
        r"""The family, built and prepared."""
        adapter = family.build(self.channels)
        adapter.prepare(torch.randn(200, self.channels) @ torch.randn(self.channels, self.channels))
        return adapter.eval()

    @pytest.fixture
    def foundation_model(self) -> FoundationModel:
        r"""A tiny frozen model."""
        return load_foundation_model(tiny_chronos_bolt(), device="cpu")

    @pytest.fixture
    def past(self) -> Tensor:
        r"""Complete windows."""
        return torch.randn(self.batch, self.length, self.channels)

    def forecast(self, adapter: AdapterModule, model: FoundationModel, past: Tensor) -> Tensor:
        r"""Forecasts as training does: encode, the frozen model's median in one call, decode; (M, B, H, D)."""
        return self.forecast_and_state(adapter, model, past)[0]

    def forecast_and_state(self, adapter: AdapterModule, model: FoundationModel, past: Tensor) -> tuple[Tensor, State]:
        r"""Forecasts as `forecast` does; also the state of the windows."""
        z, state = self.encoded(adapter, past)  # (M, B, L, K), or M = 1
        quantiles = model(z.mT.flatten(0, 2), self.horizon, unroll="median")  # (M*B*K, Q, H)
        median = quantiles[:, model.median_index].reshape(*z.shape[:2], -1, self.horizon).mT  # (M, B, H, K)
        return adapter.decode(median.expand(state.draws, -1, -1, -1), state), state

    def encoded(
        self, adapter: AdapterModule, past: Tensor, draws: int = 1, seed: int | None = None
    ) -> tuple[Tensor, State]:
        r"""Encodes, and gives the state what the family declares that decoding needs."""
        generator = None if seed is None else torch.Generator().manual_seed(seed)
        z, state = adapter.encode(past, draws=draws, generator=generator)
        if adapter.needs_forecast:
            state.forecast = past[:, -1:].nan_to_num().expand(-1, self.horizon, -1)
        return z, state

    def evidence(self, adapter: AdapterModule) -> tuple[Evidence, State]:
        r"""Windows to solve on, in four blocks of time; some targets are missing, some windows degenerate."""
        count = 60
        past = torch.randn(count, self.length, self.channels)
        past[3, :10], past[4, 1, 0], past[5] = torch.nan, torch.nan, 1.5
        forecast = torch.randn(count, self.horizon, self.channels)
        future = forecast + 0.3 * past[:, -1:].nan_to_num() + 0.1 * torch.randn_like(forecast)
        future[7, 2], future[8] = torch.nan, torch.nan
        fold = torch.arange(count) * 4 // count
        fold[::15] = -1
        _, state = adapter.encode(past)
        state.forecast = forecast
        return Evidence(past, future, adapter.encode_future(forecast, state), fold), state

    # ------------------------------------------------------------------ making

    def test_build_makes_a_copy(self, family: AdapterModule) -> None:
        r"""Building leaves the family as it is; its options make the same one again."""
        options = family.options()
        adapter = family.build(self.channels)
        assert adapter.channels == self.channels
        assert 1 <= adapter.latents
        assert family.channels == 0
        assert not list(family.parameters())
        assert adapter.options() == options == type(family)(**options).options()

    def test_wrong_use_is_refused(self, family: AdapterModule) -> None:
        r"""An unknown option, no channels, or an adapter that is not built get a clear error."""
        with pytest.raises(ValueError, match="'nonsense'"):
            type(family)(**family.options(), nonsense=1)
        with pytest.raises(ValueError, match="at least one channel"):
            family.build(0)
        with pytest.raises(ValueError, match=r"call build\(channels=...\) first"):
            family.encode(torch.zeros(1, self.length, self.channels))

    def test_wrong_shapes_are_refused(self, adapter: AdapterModule, past: Tensor) -> None:
        r"""Windows or paths of another shape get an error with both shapes, and the remedy where it is plain."""
        with pytest.raises(ValueError, match=rf"encode takes 'x' of shape .*{self.channels}\), got .*pass x\.mT"):
            adapter.encode(past.mT)
        for wrong in (past[0], past[None], past[..., :-1]):
            with pytest.raises(ValueError, match="encode takes 'x' of shape"):
                adapter.encode(wrong)
        _, state = self.encoded(adapter, past)
        paths = torch.zeros(2, self.batch, self.horizon, adapter.latents)
        for wrong in (paths[0], paths[None], torch.cat([paths, paths], -1)):
            with pytest.raises(ValueError, match="decode takes 'paths' of shape"):
                adapter.decode(wrong, state)
        with pytest.raises(ValueError, match="prepare takes 'rows' of shape"):
            adapter.prepare(past)

    # ------------------------------------------------------------------ shapes

    def test_shapes(self, adapter: AdapterModule, past: Tensor) -> None:
        r"""The past becomes (M, B, L, K), latent paths become (S, B, H, D), latent targets are (B, H, K)."""
        for asked in (1, 3):
            z, state = self.encoded(adapter, past, draws=asked)
            draws = adapter.count_draws(asked)
            assert state.draws == draws
            latents_drawn = draws if adapter.stochastic_latents else 1
            assert z.shape == (latents_drawn, self.batch, self.length, adapter.latents)
            for samples in (draws, 4 * draws):
                paths = torch.randn(samples, self.batch, self.horizon, adapter.latents)
                decoded = adapter.decode(paths, state)
                assert decoded.shape == (samples, self.batch, self.horizon, self.channels)
                assert decoded.dtype == torch.float32
            future = torch.randn(self.batch, self.horizon, self.channels)
            assert adapter.encode_future(future, state).shape == (self.batch, self.horizon, adapter.latents)

    @pytest.mark.parametrize("length", [1, 2, 97])
    def test_any_context_length(self, adapter: AdapterModule, length: int) -> None:
        r"""Windows of one step and of many are encoded; decoding stays finite."""
        z, state = self.encoded(adapter, torch.randn(2, length, self.channels))
        assert z.shape[-2:] == (length, adapter.latents)
        paths = torch.randn(state.draws, 2, self.horizon, adapter.latents)
        assert adapter.decode(paths, state).isfinite().all()

    def test_one_channel(self, family: AdapterModule) -> None:
        r"""A single channel is adapted, or refused with the option that does not fit it."""
        try:
            adapter = family.build(1)
        except ValueError as error:
            assert "channels" in str(error)
            return
        adapter.prepare(torch.randn(200, 1))
        _, state = self.encoded(adapter, torch.randn(2, self.length, 1))
        paths = torch.randn(state.draws, 2, self.horizon, adapter.latents)
        assert adapter.decode(paths, state).shape == (state.draws, 2, self.horizon, 1)

    # ------------------------------------------------------------------ what the numbers must be

    def test_windows_and_samples_stay_apart(self, adapter: AdapterModule, past: Tensor) -> None:
        r"""A window's draws and forecasts do not depend on its neighbours, nor a sample on the others."""
        self.disturb(adapter)
        z, state = self.encoded(adapter, past, draws=2, seed=3)
        draws = state.draws
        paths = torch.randn(3 * draws, self.batch, self.horizon, adapter.latents)
        decoded = adapter.decode(paths, state)
        for row in range(self.batch):
            alone, state_alone = self.encoded(adapter, past[row : row + 1], draws=2, seed=3)
            assert_close(alone[:, 0], z[:, row])
            assert_close(adapter.decode(paths[:, row : row + 1], state_alone)[:, 0], decoded[:, row])
        for sample in range(3):  # the first of each draw, then the second
            assert_close(adapter.decode(paths[sample::3], state), decoded[sample::3])

    # ------------------------------------------------------------------ what is drawn

    def disturb(self, adapter: AdapterModule) -> None:
        r"""Moves every parameter from where it started, so that what is drawn of it shows."""
        for parameter in adapter.parameters():
            parameter.data += 0.1 * torch.randn_like(parameter)

    def test_a_seed_makes_the_draws(self, adapter: AdapterModule, past: Tensor) -> None:
        r"""The same seed draws the same, encoding and decoding use one draw, and the global generator stays."""
        if adapter.closed_form:
            adapter.solve(self.evidence(adapter)[0], choose=True)
        self.disturb(adapter)
        paths = torch.randn(1, self.batch, self.horizon, adapter.latents)
        kept = torch.get_rng_state()
        results = []
        for seed in (5, 5, 6):
            z, state = self.encoded(adapter, past, draws=64, seed=seed)
            same = paths.expand(state.draws, -1, -1, -1)
            decoded = adapter.decode(same, state)
            assert torch.equal(adapter.decode(same, state), decoded)
            results.append((z, decoded))
        assert torch.equal(torch.get_rng_state(), kept)
        (z, decoded), (again, decoded_again), other = results
        assert torch.equal(z, again)
        assert torch.equal(decoded, decoded_again)
        if state.draws == 1:
            assert torch.equal(z, other[0])
            assert torch.equal(decoded, other[1])
            return
        assert adapter.stochastic
        assert any(bool((each != each[:1]).any()) for each in (z, decoded))

    def test_paths_are_shared_out_evenly(self, adapter: AdapterModule, past: Tensor) -> None:
        r"""A number of paths that is no multiple of the draws is refused."""
        _, state = self.encoded(adapter, past, draws=3)
        assert adapter.stochastic or state.draws == 1
        if state.draws > 1:
            with pytest.raises(ValueError, match=f"shares paths out over {state.draws} draws"):
                adapter.decode(torch.zeros(state.draws + 1, self.batch, self.horizon, adapter.latents), state)

    def test_shapes_in_training(self, adapter: AdapterModule, past: Tensor) -> None:
        r"""In training mode, where a draw may be a window's own, shapes are the same."""
        z, state = self.encoded(adapter.train(), past)
        draws = adapter.count_draws(1)
        assert state.draws == draws
        assert len(z) in (1, draws)
        paths = torch.randn(2 * draws, self.batch, self.horizon, adapter.latents)
        assert adapter.decode(paths, state).shape == (2 * draws, self.batch, self.horizon, self.channels)

    def test_divergences_and_laws(self, adapter: AdapterModule, past: Tensor) -> None:
        r"""Divergences are at least zero, a likelihood judges every cell of every path, the spread is a variance."""
        self.disturb(adapter)
        for windows in (past, torch.stack([row[:, None].expand(-1, self.channels) for row in self.degenerate()])):
            _, state = self.encoded(adapter, windows)
            count = len(windows)
            assert adapter.divergence(state).shape == (count,)
            assert (adapter.divergence(state) >= 0).all()
            assert adapter.weight_divergence().shape == ()
            assert adapter.weight_divergence() >= 0
            prediction = torch.randn(2 * state.draws, count, self.horizon, self.channels)
            law = adapter.likelihood(prediction, state)
            if law is not None:
                judged = law.log_prob(torch.randn(count, self.horizon, self.channels))
                assert judged.shape == prediction.shape
                assert judged.isfinite().all()
            spread = adapter.spread(windows)
            assert spread.shape == (count, self.channels)
            assert spread.isfinite().all()
            assert (spread >= 0).all()

    def degenerate(self) -> list[Tensor]:
        r"""The series of `degenerate_rows` at the windows' length."""
        return list(degenerate_rows(self.length).values())

    # ------------------------------------------------------------------ where it starts

    def test_starts_as_the_frozen_model(self, adapter: AdapterModule, past: Tensor) -> None:
        r"""Decoding undoes encoding before anything is fitted."""
        if not self.starts_as_identity or adapter.latents != self.channels:
            pytest.skip("the family does not start as the frozen model")
        z, state = self.encoded(adapter, past)
        z = z.expand(state.draws, -1, -1, -1)
        assert_close(adapter.decode(z, state), past.expand_as(z), rtol=1e-4, atol=1e-5)
        future = 3 * torch.randn(self.batch, self.horizon, self.channels) + 1
        paths = adapter.encode_future(future, state).expand_as(z[:, :, : self.horizon])
        assert_close(adapter.decode(paths, state), future.expand_as(paths), rtol=1e-4, atol=1e-4)

    @pytest.mark.parametrize("name", _ROWS)
    def test_missing_cells(self, adapter: AdapterModule, past: Tensor, name: str) -> None:
        r"""Latents are finite, but where the frozen model is handed the channels' own NaN; decoding is finite."""
        for channels in ([0], list(range(self.channels))):
            window = past.clone()
            window[1][:, channels] = degenerate_rows(self.length)[name].unsqueeze(-1)
            z, state = self.encoded(adapter, window)
            if adapter.observed_latents:
                assert_close(z[0], window, equal_nan=True, rtol=0, atol=0)
            else:
                assert z.isfinite().all()
            paths = torch.randn(state.draws, self.batch, self.horizon, adapter.latents)
            assert adapter.decode(paths, state).isfinite().all()

    # ------------------------------------------------------------------ fitting

    @pytest.mark.parametrize("name", _ROWS)
    def test_gradients_are_finite(
        self, adapter: AdapterModule, foundation_model: FoundationModel, past: Tensor, name: str
    ) -> None:
        r"""Forecasts are finite, so is every free parameter's gradient through the frozen model, and a step after."""
        free = [parameter for parameter in adapter.parameters() if parameter.requires_grad]
        fingerprint = foundation_model.fingerprint()
        past[1, :, 0] = degenerate_rows(self.length)[name]
        past[2] = degenerate_rows(self.length)[name].unsqueeze(-1)
        forecast, state = self.forecast_and_state(adapter.train(), foundation_model, past)
        assert forecast.isfinite().all()
        if not free:
            return
        optimiser = torch.optim.Adam(free, lr=0.01)
        loss = (forecast - 1).abs().mean() + adapter.divergence(state).mean() + adapter.weight_divergence()
        law = adapter.likelihood(forecast, state)
        if law is not None:
            loss = loss - law.log_prob(torch.ones_like(forecast)).mean()
        assert loss.isfinite()
        torch.autograd.backward(loss)
        for parameter in free:
            assert parameter.grad is not None
            assert parameter.grad.isfinite().all()
        assert any(bool((parameter.grad != 0).any()) for parameter in free if parameter.grad is not None)
        nn.utils.clip_grad_norm_(free, 1.0)
        optimiser.step()
        assert all(parameter.isfinite().all() for parameter in free)
        assert all(parameter.grad is None for parameter in foundation_model.parameters())
        assert foundation_model.fingerprint() == fingerprint

    def test_closed_form(self, adapter: AdapterModule) -> None:
        r"""A closed form is solved on imperfect windows, repeats itself, and gains on what it saw."""
        if not adapter.closed_form:
            pytest.skip("the family has no closed form")
        evidence, state = self.evidence(adapter)

        def error() -> Tensor:
            decoded = adapter.decode(evidence.forecast.expand(state.draws, -1, -1, -1), state).mean(0)
            assert decoded.isfinite().all()
            return (decoded - evidence.future).square().nanmean()

        before = error()
        adapter.solve(evidence, choose=True)
        solved = copy.deepcopy(adapter.state_dict())
        assert error() < before
        adapter.solve(evidence, choose=True)
        assert_close(adapter.state_dict(), solved)
        adapter.solve(evidence, choose=False)  # again, with the strengths chosen
        assert error() < before

    # ------------------------------------------------------------------ saving

    def test_state_round_trip(self, adapter: AdapterModule, family: AdapterModule, past: Tensor) -> None:
        r"""A fresh adapter with the saved tensors gives the same numbers."""
        if adapter.closed_form:
            adapter.solve(self.evidence(adapter)[0], choose=True)
        self.disturb(adapter)
        fresh = type(family)(**family.options()).build(self.channels).eval()
        fresh.load_state_dict(adapter.state_dict())
        torch.manual_seed(7)
        z, state = self.encoded(adapter, past)
        paths = torch.randn(state.draws, self.batch, self.horizon, adapter.latents)
        decoded = adapter.decode(paths, state)
        torch.manual_seed(7)
        again, state = self.encoded(fresh, past)
        paths = torch.randn(state.draws, self.batch, self.horizon, adapter.latents)
        assert torch.equal(again, z)
        assert torch.equal(fresh.decode(paths, state), decoded)
