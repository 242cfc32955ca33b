r"""Functions and modules of the user's own as foundation models: `FoundationModel.wrap`."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close

from adapts import Adapter, Forecast, FoundationModel, GroupedAdapter, load_foundation_model
from adapts.foundation.cache import cached_forecasts
from adapts.foundation.point import with_distribution
from adapts.testing.foundation import FoundationModelConformance

LEVELS, CONTEXT, HORIZON = (0.1, 0.5, 0.9), 32, 4


def wrap(function: Callable[..., Any], **changes: Any) -> FoundationModel:
    options = {"quantile_levels": LEVELS, "context_length": CONTEXT, "prediction_length": HORIZON, "name": "mine"}
    return FoundationModel.wrap(function, **{**options, **changes})


def quantiles(context: Tensor) -> Tensor:
    r"""The last value, and the deviation of the context times the square root of the lead."""
    location, scale = context[:, -1:], context.std(1, keepdim=True)  # NaN for a single step
    width = scale * torch.arange(1, HORIZON + 1).to(context).sqrt()  # (N, H)
    return location[:, None] + torch.tensor([-1.28, 0.0, 1.28]).to(context)[:, None] * width[:, None]


def in_numpy(context: np.ndarray) -> np.ndarray:
    assert isinstance(context, np.ndarray)
    location, scale = context[:, -1:], context.std(1, ddof=1, keepdims=True)
    width = scale * np.sqrt(np.arange(1, HORIZON + 1))
    return location[:, None] + np.array([-1.28, 0.0, 1.28])[:, None] * width[:, None]


def detached(context: Tensor) -> Tensor:
    location, scale = context.mean(1, keepdim=True).detach(), context.std(1, keepdim=True).detach()
    return (location + scale * ((context - location) / scale).tanh().cumsum(1)[:, -1:])[:, None].expand(-1, 3, HORIZON)


def points(context: Tensor) -> Tensor:
    return context[:, -1:].expand(-1, HORIZON)


class Network(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.weight = nn.Parameter(torch.randn(CONTEXT, 3 * HORIZON, generator=generator) / CONTEXT)
        self.dropout = nn.Dropout(0.5)

    def forward(self, context: Tensor) -> Tensor:
        context = nn.functional.pad(context, (CONTEXT - context.shape[1], 0), mode="replicate")
        location, scale = context[:, -1:], context.std(1, keepdim=True, correction=0)
        standard = self.dropout((context - location) / scale)
        change = (standard @ self.weight).tanh().unflatten(1, (3, HORIZON))
        return location[:, None] + scale[:, None] * change


class TestFunction(FoundationModelConformance):
    @pytest.fixture
    def foundation_model(self) -> FoundationModel:
        return wrap(quantiles)

    def test_padding_changes_nothing(self, foundation_model: FoundationModel) -> None:  # type: ignore[override]
        pytest.skip("the function itself counts filled steps")

    test_predict_looks_past_a_gap_at_the_end = test_padding_changes_nothing  # type: ignore[assignment]


class TestArrays(TestFunction):
    @pytest.fixture
    def foundation_model(self) -> FoundationModel:
        return wrap(in_numpy)


class TestModule(FoundationModelConformance):
    @pytest.fixture
    def foundation_model(self) -> FoundationModel:
        return wrap(Network())

    def test_predict_looks_past_a_gap_at_the_end(self, foundation_model: FoundationModel) -> None:  # type: ignore[override]
        pytest.skip("the network pads by itself")


# ---------------------------------------------------------------------- what is found out


def test_tensors_and_arrays_give_the_same_forecast() -> None:
    context = torch.randn(5, 20)
    context[1, 3] = context[2, :4] = torch.nan
    assert_close(wrap(in_numpy)(context, 9), wrap(quantiles)(context, 9))


GRADIENTS: dict[str, tuple[Callable[..., Any], bool]] = {
    "tensors": (quantiles, True),
    "module": (Network(), True),
    "arrays": (in_numpy, False),
    "detached statistics": (detached, False),
    "detached": (lambda c: quantiles(c).detach(), False),
    "tensors or arrays in, arrays out": (lambda c: quantiles(torch.as_tensor(c)).numpy(), False),
    "tensors in, arrays out": (lambda c: quantiles(c + 0 * c.abs()).numpy(), False),
}


@pytest.mark.parametrize(("function", "differentiable"), GRADIENTS.values(), ids=GRADIENTS)
def test_finite_differences_decide_on_the_gradient(function: Callable[..., Any], differentiable: bool) -> None:
    model = wrap(function)
    assert model.differentiable == differentiable
    assert not wrap(function, differentiable=False).differentiable
    if differentiable:
        assert wrap(function, differentiable=True).differentiable
        return
    with pytest.raises(ValueError, match="declared differentiable, and its gradient differs from finite differences"):
        wrap(function, differentiable=True)
    with pytest.raises(ValueError, match="no gradient with respect to its context"):
        model(torch.randn(2, 20, requires_grad=True), 3)


def test_points_are_one_level() -> None:
    context = torch.randn(3, 20)
    for function in (points, lambda c: points(c)[:, None]):
        model = wrap(function, quantile_levels=[0.5])
        assert_close(model(context, 6), context[:, -1:, None].expand(-1, 1, 6))


def test_missing_steps_are_filled_unless_the_function_reads_them() -> None:
    seen: list[Tensor] = []

    def function(context: Tensor) -> Tensor:
        seen.append(context.detach())
        return quantiles(context.nan_to_num())

    context = torch.tensor([[1.0, torch.nan, 3.0, torch.nan]])
    wrap(function, differentiable=False)(context, 1)
    assert_close(seen[-1], torch.tensor([[1.0, 1.0, 3.0, 3.0]]))
    model = wrap(function, differentiable=False, reads_missing=True)
    assert model.reads_missing
    assert not wrap(function, differentiable=False).reads_missing
    model(context, 1)
    assert_close(seen[-1], context, equal_nan=True)


def test_a_module_is_copied_and_frozen() -> None:
    network = Network()
    model = wrap(network)
    assert not model.training
    before = model(torch.ones(1, 5).cumsum(1), 3)
    with torch.no_grad():
        network.weight.zero_()
    assert network.weight.requires_grad
    assert network.training
    assert_close(model(torch.ones(1, 5).cumsum(1), 3), before, rtol=0, atol=0)
    assert model.fingerprint()["sha256"] != wrap(network).fingerprint()["sha256"]


def test_functions_of_one_name_do_not_share_forecasts() -> None:
    context = torch.randn(2, 20)
    with cached_forecasts():
        first = wrap(points, quantile_levels=[0.5]).predict(context, 3)
        second = wrap(lambda c: points(c) + 1, quantile_levels=[0.5]).predict(context, 3)
    assert_close(second, first + 1)


def test_functions_of_points_do_not_share_forecasts() -> None:
    context = torch.randn(2, 20)
    with cached_forecasts():
        first, second = (
            with_distribution(wrap(function, quantile_levels=[0.5])).predict(context, 3)
            for function in (points, lambda c: points(c) + 1)
        )
    assert_close(second, first + 1)


@pytest.mark.parametrize("context_length", [np.int64(24), 600])
def test_short_series_are_extended(context_length: int) -> None:
    def fixed(context: Tensor) -> Tensor:
        return context @ torch.eye(int(context_length))[:, :HORIZON]  # the first values

    model = wrap(fixed, quantile_levels=[0.5], context_length=context_length)
    context = torch.randn(2, 20)
    assert_close(model(context, HORIZON), context[:, :1, None].expand(-1, -1, HORIZON))
    assert model.differentiable

    def number_missing(context: Tensor) -> Tensor:
        assert context.shape[1] >= 8
        return context.isnan().sum(1, keepdim=True).expand(-1, HORIZON)

    model = wrap(number_missing, quantile_levels=[0.5], reads_missing=True)
    assert model(torch.arange(5.0)[None], 1).tolist() == [[[3.0]]]


# ---------------------------------------------------------------------- fits


def test_the_function_of_the_documentation_is_fitted() -> None:
    model = wrap(lambda context: context[:, -24:], quantile_levels=[0.5], context_length=64, prediction_length=24)
    forecast = (
        Adapter("residual", foundation_model=model, prediction_length=24, context_length=48).fit(series()).predict()
    )
    assert isinstance(forecast, Forecast)
    assert np.isfinite(forecast.samples).all()


def test_another_function_of_points_is_noticed(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    adapter(wrap(points, quantile_levels=[0.5])).fit(series()).save(tmp_path / "saved")
    for changes, noticed in (({}, False), ({"name": "other"}, True), ({"context_length": 16}, True)):
        caplog.clear()
        model = wrap(points, quantile_levels=[0.5], **changes)
        with caplog.at_level(logging.WARNING):
            Adapter.load(tmp_path / "saved", foundation_model=model)
        assert ("has other weights" in caplog.text) == noticed


def series(rows: int = 500) -> np.ndarray:
    generator = np.random.default_rng(0)
    return generator.standard_normal((rows, 2)).cumsum(0) @ np.array([[1.0, 0.5], [0.0, 1.0]])


def adapter(model: FoundationModel, family: str = "identity", **options: Any) -> Adapter:
    return Adapter(family, foundation_model=model, prediction_length=HORIZON, context_length=CONTEXT, **options)


@pytest.mark.parametrize("family", ["identity", "residual", "linear"])
def test_fit_save_and_load(family: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    options = {"trainer_options": {"max_epochs": 1, "enable_progress_bar": False}} if family == "linear" else {}
    one = adapter(wrap(quantiles), family, **options).fit(series())
    one.save(tmp_path / "saved")
    with pytest.raises(ValueError, match=r"fitted with a function \(mine\), which no file can hold: wrap the same one"):
        Adapter.load(tmp_path / "saved")
    with caplog.at_level(logging.WARNING, logger="adapts"):
        again = Adapter.load(tmp_path / "saved", foundation_model=wrap(quantiles))
    assert not caplog.records
    np.testing.assert_array_equal(again.predict().samples, one.predict().samples)
    with caplog.at_level(logging.WARNING, logger="adapts"):
        Adapter.load(tmp_path / "saved", foundation_model=wrap(quantiles, context_length=40))
    assert "has other weights than the foundation model that the adapter was fitted around" in caplog.text


def test_a_module_is_asked_for_as_any_live_model(tmp_path: Path) -> None:
    one = adapter(wrap(Network())).fit(series())
    one.save(tmp_path / "saved")
    with pytest.raises(ValueError, match=r"was fitted with a live model \(mine\): pass that model"):
        Adapter.load(tmp_path / "saved")
    again = Adapter.load(tmp_path / "saved", foundation_model=wrap(Network()))
    np.testing.assert_array_equal(again.predict().samples, one.predict().samples)


def test_groups_share_a_function(tmp_path: Path) -> None:
    import pandas as pd

    time = pd.date_range("2024-01-01", periods=300, freq="h")
    frames = [pd.DataFrame({"item": name, "time": time, "a": x[:, 0], "b": x[:, 1], "region": name})
              for name, x in (("x", series(300)), ("y", series(300)[::-1]))]  # fmt: skip
    one = GroupedAdapter(adapter(wrap(quantiles)), group_column="region").fit(pd.concat(frames), item_column="item")
    one.save(tmp_path / "saved")
    again = GroupedAdapter.load(tmp_path / "saved", foundation_model=wrap(quantiles))
    assert len(again.predict()) == 2


# ---------------------------------------------------------------------- what is refused


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"function": "chronos"}, r"expects a function or module that takes series \(N, L\), got 'chronos'"),
        ({"name": ""}, "expects name to be text, got ''"),
        ({"context_length": 0}, "expects context_length to be a number of steps, at least 1, got 0"),
        ({"prediction_length": True}, "expects prediction_length to be a number of steps, at least 1, got True"),
        ({"quantile_levels": "half"}, "expects quantile_levels to be numbers"),
        ({"quantile_levels": [0.1, 0.9]}, "needs increasing quantile levels within .* with the median 0.5"),
        ({"differentiable": "maybe"}, "expects differentiable to be True, False or None, got 'maybe'"),
        ({"prediction_length": 5}, r"expected to return an array of shape \(3, 3, 5\).*got \(3, 3, 4\)"),
        ({"quantile_levels": [0.5]}, r"array of shape \(3, 1, 4\) or \(3, 4\), .*got \(3, 3, 4\)"),
        ({"function": lambda c: c.missing}, r"fails on series of shape \(3, 32\), as a tensor \(.*missing"),
        ({"function": lambda c: [1.0]}, "expected to return a tensor or an array, got list"),
        ({"function": lambda c: quantiles(c) * torch.nan}, "returns values that are not finite for random series"),
    ],
)
def test_invalid_functions_and_options(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        wrap(**{"function": quantiles, **changes})


def test_a_function_that_fails_says_what_it_was_given() -> None:
    def whole_patches(context: Tensor) -> Tensor:
        assert context.shape[1] % 8 == 0
        return points(context)

    model = wrap(whole_patches, quantile_levels=[0.5])
    with pytest.raises(ValueError, match=r"the function of 'mine' fails on series of shape \(2, 20\) .* 8 to 32 steps"):
        model(torch.randn(2, 20), 3)


def test_a_bare_function_is_no_model() -> None:
    for model in (quantiles, Network()):
        with pytest.raises(ValueError, match=r"FoundationModel.wrap\(.*\) makes one of a function or module"):
            load_foundation_model(model)
