r"""Explanations: on series whose dependence is known, and weights in closed form."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from seasonal import SeasonalModel
from torch.testing import assert_close

from adapts import Adapter
from adapts.adapters import (
    ContextLinear,
    CrossChannelAttention,
    Linear,
    Portfolio,
    Projection,
    Residual,
    VectorAutoregression,
)
from adapts.adapters.attention import MOST_PAIRED
from adapts.adapters.base import State, shares
from adapts.explanation import MOST_SOURCES, Explanation

H = 8
FRAMES = ("channels", "weights", "members", "gate", "covariates")


def lead_lag(rows: int = 900, seed: int = 0) -> pd.DataFrame:
    r"""White noise "a", "b" that repeats it eight steps later with noise of its own, and "c" independent of both."""
    noise = np.random.default_rng(seed).standard_normal((rows + H, 3))
    values = {"a": noise[H:, 0], "b": noise[:-H, 0] + 0.5 * noise[H:, 1], "c": noise[H:, 2]}
    return pd.DataFrame(values, pd.date_range("2024-01-01", periods=rows, freq="h"))


def made(family: Any = "residual", **options: Any) -> Adapter:
    options = {"prediction_length": H, "context_length": 24, "max_windows": 300, **options}
    return Adapter(family, foundation_model=SeasonalModel(), **options)


@pytest.fixture(scope="module")
def adapter() -> Adapter:
    return made(Portfolio(members=["residual", "residual"])).fit(lead_lag())


@pytest.fixture(scope="module")
def explanation(adapter: Adapter) -> Explanation:
    return adapter.explain()


def increases(explanation: Explanation, lead_block: str = "all") -> pd.DataFrame:
    rows = explanation.channels.query("lead_block == @lead_block")
    return rows.pivot(index="channel", columns="source", values="loss_increase")


# ---------------------------------------------------------------------- channels


def test_a_channel_that_follows_another_names_it(explanation: Explanation) -> None:
    table = increases(explanation)
    assert table.loc["b", "a"] > 0.3
    assert table.loc["b"].drop("b").idxmax() == "a"
    assert "b: a +" in str(explanation) and "c: no source but its own past" in str(explanation)


def test_independent_channels_have_no_increase_beyond_chance(explanation: Explanation) -> None:
    rows = explanation.channels.query("channel != source and not (channel == 'b' and source == 'a')")
    assert (rows["loss_increase"].abs() < 0.05).all()


def test_blocks_are_those_of_the_gate_and_average_to_all(explanation: Explanation) -> None:
    blocks = ["1-2", "3-4", "5-6", "7-8"]
    assert list(dict.fromkeys(explanation.channels["lead_block"])) == ["all", *blocks]
    each = [increases(explanation, block).loc["b", "a"] for block in blocks]
    assert min(each) <= increases(explanation).loc["b", "a"] <= max(each)


def test_weights_of_the_ridge_are_shares(explanation: Explanation) -> None:
    weights = explanation.weights.query("member == 'residual 1'")
    total = weights.groupby(["channel", "lead_block"])["weight"].sum()
    assert ((total - 1).abs() < 1e-5).where(total > 0, total == 0).all()
    table = weights.query("lead_block == 'all'").pivot(index="channel", columns="source", values="weight")
    assert table.loc["b"].idxmax() == "a"


def test_members_are_those_of_the_portfolio(adapter: Adapter, explanation: Explanation) -> None:
    module = adapter.fitted_.module
    assert isinstance(module, Portfolio)
    assert explanation.members["member"].tolist() == ["frozen model", "residual 1", "residual 2"]
    assert explanation.members["weight"].tolist() == pytest.approx(module.weights.tolist())
    gains = adapter.fitted_.decisions["weights"].figures
    assert explanation.members["gain"].tolist() == pytest.approx([0.0, *(gains[f"gain of member {n}"] for n in (0, 1))])


def test_the_gate_is_averaged_by_block(adapter: Adapter, explanation: Explanation) -> None:
    gate = explanation.gate.query("lead_block == 'all'").set_index("channel")["weight"]
    assert gate.tolist() == pytest.approx(adapter.fitted_.gate.mean(0).tolist())


def test_a_saved_adapter_explains_alike(adapter: Adapter, explanation: Explanation, tmp_path: Path) -> None:
    adapter.save(tmp_path / "saved")
    again = Adapter.load(tmp_path / "saved", foundation_model=SeasonalModel()).explain()
    for name in FRAMES:
        pd.testing.assert_frame_equal(getattr(again, name), getattr(explanation, name), check_exact=True)
    assert str(again) == str(explanation)


def test_windows_lie_after_the_train_rows_and_follow_updates(adapter: Adapter, tmp_path: Path) -> None:
    adapter.save(tmp_path / "saved")
    live = Adapter.load(tmp_path / "saved", foundation_model=SeasonalModel())
    explanation, index = live.explain(windows=20, sources=["a"]), lead_lag().index
    assert explanation.windows == 20
    assert explanation.first > live.fitted_.spans["train"]["last"] and explanation.last <= str(index[-1])
    live.update(lead_lag(950)[900:])
    held_back = live.fitted_.held_back
    assert live.fitted_.panel.items[0].index[held_back[0]] == index[630]


def test_given_series_and_sources(adapter: Adapter) -> None:
    later = lead_lag(1000, seed=1)
    explanation = adapter.explain(later, windows=50, sources="a")
    assert explanation.windows == 50 and explanation.first == str(later.index[12])
    assert set(explanation.channels["source"]) == set(explanation.weights["source"]) == {"a"}
    assert increases(explanation).loc["b", "a"] > 0.3


def test_left_out_is_not_observed(adapter: Adapter) -> None:
    series = lead_lag()[:800]
    hidden = series.assign(a=np.nan)
    change = adapter.predict(hidden).quantile(0.5)[:, 1] - adapter.predict(series).quantile(0.5)[:, 1]
    assert np.abs(change).mean() > 0.1  # the forecast of "b" misses what "a" tells
    future = lead_lag()[800 : 800 + H]["b"].to_numpy()
    losses = [np.abs(future - adapter.predict(rows).quantile(0.5)[:, 1]).mean() for rows in (series, hidden)]
    assert losses[0] < losses[1]


# ---------------------------------------------------------------------- other families, panels, covariates


def test_the_frozen_model_alone_has_no_sources() -> None:
    explanation = made("identity").fit(lead_lag(400)).explain()
    assert (explanation.channels.query("channel != source")["loss_increase"] == 0).all()
    assert explanation.weights.empty and explanation.gate.empty and explanation.covariates.empty
    assert list(explanation.weights) == ["member", "channel", "source", "lead_block", "weight"]
    assert "no adapter" in str(explanation)


def test_families_with_latent_channels_are_explained() -> None:
    explanation = made(Projection(latent_channels=2), gate=False).fit(lead_lag(400)).explain(sources=["a", "c"])
    assert increases(explanation).notna().all(axis=None) and list(increases(explanation)) == ["a", "c"]
    assert (explanation.gate["weight"] == 1).all()
    assert explanation.members["member"].tolist() == ["projection"]


def test_a_panel_of_undated_items(tmp_path: Path) -> None:
    adapter = made(max_windows=100).fit(np.stack([lead_lag(200, seed=seed).to_numpy() for seed in range(4)]))
    explanation = adapter.explain()
    assert explanation.windows == 4 * 53 - 12  # 60 rows after the train rows, at most 200 windows
    adapter.save(tmp_path / "saved")
    again = Adapter.load(tmp_path / "saved", foundation_model=SeasonalModel()).explain()
    pd.testing.assert_frame_equal(again.channels, explanation.channels, check_exact=True)


def test_known_covariates_have_slopes_and_contributions() -> None:
    generator = np.random.default_rng(0)
    noise = generator.standard_normal((800, 3))
    values = {"a": 2 * noise[:, 0] + 0.3 * noise[:, 1], "b": noise[:, 2], "driver": 10 + 4 * noise[:, 0]}
    series = pd.DataFrame(values, pd.date_range("2024-01-01", periods=800, freq="h"))
    explanation = made().fit(series, target=["a", "b"], known_covariates="driver").explain()
    rows = explanation.covariates.query("lead_block == 'all'").set_index("channel")
    assert rows["kind"].to_dict() == {"a": "slope", "b": "none"}
    assert rows.loc["a", "slope"] == pytest.approx(0.5, abs=0.02) and rows.loc["b", "slope"] == 0
    assert rows.loc["a", "contribution"] == pytest.approx(2 * np.sqrt(2 / np.pi), rel=0.15)  # E|2 z|
    assert rows.loc["a", "loss_increase"] > 1 > abs(rows.loc["b", "loss_increase"]) + 0.9
    assert set(explanation.channels["source"]) == {"a", "b"}
    assert "a: driver +" in str(explanation)


def test_of_many_channels_those_with_the_largest_weights_are_left_out() -> None:
    rows = np.random.default_rng(0).standard_normal((200, MOST_SOURCES + 2))
    options = {"gate": False, "copula": "independent", "recalibration": "none", "splits": (0.8, 0.2, 0, 0)}
    explanation = made("pca", max_windows=20, **options).fit(rows).explain(windows=2)
    assert explanation.channels["source"].nunique() == MOST_SOURCES
    assert explanation.channels["channel"].nunique() == MOST_SOURCES + 2


def test_plot_shows_channels_by_sources(explanation: Explanation) -> None:
    axes = explanation.plot().axes[0]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["a", "b", "c"]
    image = np.ma.filled(axes.images[0].get_array().astype(float), np.nan)
    assert np.isnan(np.diag(image)).all() and image[1, 0] == pytest.approx(increases(explanation).loc["b", "a"])


# ---------------------------------------------------------------------- errors


def test_an_adapter_that_is_not_fitted_says_so() -> None:
    with pytest.raises(ValueError, match=r"Adapter\.explain needs a fitted adapter: call fit\(series\) first"):
        made().explain()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"sources": "d"}, "no channel or past covariate is called 'd'; known: a, b, c"),
        ({"windows": 0}, "explain expects windows to be a positive integer"),
        ({"series": lead_lag(12)}, "explain needs series of at least 16 rows.*got at most 12 rows: pass longer series"),
    ],
)
def test_what_cannot_be_explained_is_refused(adapter: Adapter, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        adapter.explain(**options)


def test_a_fit_on_all_rows_needs_series() -> None:
    adapter = made(splits=(1, 0, 0, 0), gate=False).fit(lead_lag(300))
    with pytest.raises(ValueError, match=r"after the train rows, and the fitted series hold none: pass series"):
        adapter.explain()
    assert adapter.explain(lead_lag(300), windows=10).windows == 10


# ---------------------------------------------------------------------- weights of families


def state_of(past: torch.Tensor, horizon: int = 6) -> State:
    last, shape = past[:, -1:, :, None].nan_to_num(0.0), (len(past), horizon, past.shape[-1], 3)
    quantiles = last + torch.tensor([-1.0, 0.0, 1.0]).expand(shape)
    location = torch.zeros(len(past), 1, past.shape[-1])
    return State(past, location, torch.ones_like(location), forecast=quantiles[..., 1], quantiles=quantiles)


@pytest.mark.parametrize("channels", [5, MOST_PAIRED + 1])
def test_attention_weights_sum_to_one_and_leave_out_what_is_not_observed(channels: int) -> None:
    torch.manual_seed(0)
    module = CrossChannelAttention(steps=8, width=16, heads=2, embedding=4).build(channels).eval()
    past = torch.randn(3, 20, channels)
    past[..., 2] = torch.nan
    (weights,) = module.source_weights(state_of(past))
    assert_close(weights.sum(-1), torch.ones(channels))
    others = torch.arange(channels) != 2
    assert (weights >= 0).all() and float(weights[others][:, 2].max()) < 1e-6
    assert float(weights[0, 1]) > 0


def test_attention_weights_are_those_of_the_forward_pass() -> None:
    torch.manual_seed(0)
    layer = CrossChannelAttention(width=16, heads=1).build(4).layers[0].attention
    keys, observed = torch.randn(2, 4, 16), torch.tensor([[True, True, False, True]]).expand(2, -1)
    values = layer.key_value(keys)[..., 16:]
    assert_close(layer.output(layer.weights(keys, keys, observed) @ values), layer(keys, keys, observed))


def test_without_attention_all_weight_is_a_channels_own() -> None:
    module = CrossChannelAttention(attends=False).build(3).eval()
    assert torch.equal(module.source_weights(state_of(torch.randn(2, 20, 3)))[0], torch.eye(3))


def test_a_ridge_on_own_regressors_has_all_weight_there() -> None:
    torch.manual_seed(0)
    residual = Residual(lags=4).build(3)
    assert not residual.source_weights(state_of(torch.randn(2, 20, 3))).any()  # not solved: corrects nothing
    own, joint = 4 + 6 + 1, (4 + 6) * 3
    residual.basis = torch.eye(joint)
    residual.weights = torch.randn(3, own + joint, 6)
    residual.weights[:, own:] = 0
    state = state_of(torch.randn(5, 20, 3))
    assert_close(residual.source_weights(state), torch.eye(3).expand(6, -1, -1))
    residual.weights[0] = 0
    residual.weights[0, own + 2 :: 3] = 1.0  # the first channel uses the regressors of the third alone
    assert_close(residual.source_weights(state)[:, 0], torch.tensor([0.0, 0.0, 1.0]).expand(6, -1))


def test_linear_weights_are_shares_of_the_matrix() -> None:
    torch.manual_seed(0)
    linear = Linear(free="encoder").build(3)
    matrix = torch.randn(3, 3)
    linear.encoder.data = matrix - torch.eye(3)
    (weights,) = linear.source_weights(state_of(torch.randn(2, 20, 3)))
    assert_close(weights, matrix.abs().mT / matrix.abs().sum(0)[:, None])


def test_shares_of_nothing_are_zero() -> None:
    assert torch.equal(shares(torch.tensor([[1.0, 3.0], [0.0, 0.0]])), torch.tensor([[0.25, 0.75], [0.0, 0.0]]))


def test_a_vector_autoregression_tells_whose_lags_change_a_channel() -> None:
    torch.manual_seed(0)
    var = VectorAutoregression(lags=2).build(3)
    past = torch.randn(4, 20, 3)
    assert not var.source_weights(state_of(past)).any()  # not solved: changes nothing
    var.weights = torch.zeros(7, 3)
    var.weights[4, 0] = 0.5  # the first channel changes by half the second's last value
    var.weights[6] = 1.0  # constants have no source
    weights = var.source_weights(state_of(past))  # (H, D, D)
    assert_close(weights[:, 0], torch.tensor([0.0, 1.0, 0.0]).expand(6, -1))
    assert not weights[:, 1:].any()  # the others do not change
    assert_close(ContextLinear().build(3).source_weights(state_of(past)), torch.zeros(1, 3, 3))
