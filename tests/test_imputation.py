import numpy as np
import pandas as pd
import pytest
import torch
from seasonal import SeasonalModel

from adapts import Adapter
from adapts.data.panel import Panel
from adapts.data.windows import Preparation, Windows
from adapts.imputation.cross_channel import FEW, ChannelImputer
from adapts.statistics.gaussian import conditional, persistence, shrunk_covariance

H, L = 12, 48


def factors(rows: int = 1500, noise: float = 0.5, seed: int = 0) -> pd.DataFrame:
    r"""Two daily factors in four channels: three that show them with noise, and the exact sum of the first two."""
    generator = np.random.default_rng(seed)
    hour = 2 * np.pi * np.arange(rows)[:, None] / 12
    shown = np.hstack([np.sin(hour), np.cos(hour)]) + 0.3 * generator.standard_normal((rows, 2))
    values = shown @ generator.standard_normal((2, 3)) + noise * generator.standard_normal((rows, 3))
    values = np.hstack([values, values[:, :1] + values[:, 1:2]])
    return pd.DataFrame(values, pd.date_range("2024-01-01", periods=rows, freq="h"), columns=["a", "b", "c", "sum"])


def adapter(family: object = "residual", **options: object) -> Adapter:
    options = {"foundation_model": SeasonalModel(), "prediction_length": H, "context_length": L, **options}
    return Adapter(family, max_windows=150, **options)


@pytest.fixture(scope="module")
def fitted() -> Adapter:
    return adapter().fit(factors())


def width(forecast: object) -> np.ndarray:
    low, high = forecast.interval(0.8)
    return high - low


# ------------------------------------------------------------------------------------------------ conditioning


def test_conditional_moments_are_those_of_a_regression_on_what_is_seen() -> None:
    root = torch.randn(4, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    covariance, row = root @ root.mT + torch.eye(4), torch.tensor([[1.0, torch.nan, -2.0, torch.nan]]).double()
    mean, variance = conditional(row, covariance)
    for channel, others in ((0, [2]), (1, [0, 2]), (2, [0]), (3, [0, 2])):
        weights = torch.linalg.solve(covariance[others][:, others], covariance[others, channel])
        assert mean[0, channel] == pytest.approx(float(row[0, others] @ weights))
        left = covariance[channel, channel] - covariance[channel, others] @ weights
        assert variance[0, channel] == pytest.approx(float(left))


def test_nothing_is_told_where_nothing_is_seen() -> None:
    mean, variance = conditional(torch.full((2, 3), torch.nan), torch.eye(3).double())
    assert bool((mean == 0).all()) and bool(variance.isinf().all())


def test_a_wide_panel_with_countless_patterns_is_left_alone() -> None:
    rows = torch.where(torch.rand(400, 900, generator=torch.Generator().manual_seed(0)) < 0.2, torch.nan, 1.0)
    assert conditional(rows, torch.eye(900).double()) is None
    assert conditional(rows[:3], torch.eye(900).double()) is not None


def test_the_shrunk_covariance_keeps_what_holds_in_blocks_left_out_and_no_more() -> None:
    generator = torch.Generator().manual_seed(0)
    apart = torch.randn(60, 20, generator=generator)
    shrunk = shrunk_covariance(apart)
    assert (shrunk - torch.diag(shrunk.diagonal())).abs().max() < 0.1 < (apart.mT @ apart / 60).triu(1).abs().max()
    one = torch.randn(500, 1, generator=generator)
    rows = torch.cat([one, 2 * one], 1)
    torch.testing.assert_close(shrunk_covariance(rows), (rows.mT @ rows / 500).double(), rtol=1e-3, atol=0.0)


def test_persistence_is_that_of_an_autoregression() -> None:
    generator = np.random.default_rng(0)
    values = np.zeros((40_000, 2))
    for step in range(1, len(values)):
        values[step] = np.array([0.9, 0.0]) * values[step - 1] + generator.standard_normal(2)
    found = persistence(torch.from_numpy(values), torch.eye(2).double(), lag=5)
    assert float(found[0]) == pytest.approx(0.9, abs=0.01)
    assert float(found[1]) < 0.6  # of a correlation of about 0.01 five steps later


# ------------------------------------------------------------------------------------------------ gaps of contexts


def filled(values: np.ndarray, imputer: ChannelImputer) -> tuple[torch.Tensor, torch.Tensor | None]:
    panel = Panel.of(values)
    windows = Windows(
        panel, np.zeros(1, int), np.array([len(values)]), len(values), 3, Preparation(imputation=imputer.impute(panel))
    )
    return windows.past(torch.float64)[0], windows.imputation_variance()


def imputer(own: float = 0.0, rest: float = 0.0, correlation: float = 0.8) -> ChannelImputer:
    covariance = torch.tensor([[1.0, correlation], [correlation, 1.0]]).double()
    return ChannelImputer(covariance, torch.full((2,), own).double(), torch.full((2,), rest).double())


def test_a_gap_is_what_the_other_tells_and_what_it_leaves_untold_fades_from_both_ends() -> None:
    values = np.array([[1.0, 1.0], [1.0, np.nan], [1.0, np.nan], [1.0, 2.0], [1.0, 2.0]])
    alone = filled(values, imputer())[0]
    torch.testing.assert_close(alone[1:3, 1], torch.tensor([0.8, 0.8]).double())
    lasting = filled(values, imputer(rest=0.999999))[0]
    torch.testing.assert_close(lasting[:, 1], torch.tensor([1.0, 4 / 3, 5 / 3, 2.0, 2.0]).double(), rtol=1e-4, atol=0)
    half = filled(np.array([[1.0, 1.8]] * 3 + [[1.0, np.nan]] * 2), imputer(rest=0.5))[0]
    torch.testing.assert_close(half[3:, 1], torch.tensor([0.8 + 0.5, 0.8 + 0.25]).double())


def test_a_channel_that_tells_more_by_itself_is_left_to_the_frozen_model() -> None:
    values = np.array([[1.0, 1.0]] * 4 + [[1.0, np.nan]])
    assert bool(filled(values, imputer(own=0.99))[0][-1, 1].isnan())
    assert not bool(filled(values, imputer(own=0.1))[0][-1, 1].isnan())


def test_rows_without_any_value_stay_missing() -> None:
    values = np.array([[1.0, np.nan], [1.0, 1.0], [np.nan, np.nan], [1.0, 1.0], [1.0, 1.0]])
    past = filled(values, imputer())[0]
    assert bool(past[2].isnan().all()) and not bool(past[[0, 1, 3, 4]].isnan().any())


def test_before_the_first_value_what_the_other_leaves_untold_fades_backwards() -> None:
    past = filled(np.array([[1.0, np.nan]] * 3 + [[1.0, 1.8]] * 4), imputer(rest=0.5))[0]
    torch.testing.assert_close(past[:3, 1], torch.tensor([0.8 + 0.125, 0.8 + 0.25, 0.8 + 0.5]).double())


@pytest.mark.parametrize("values", [1, 3, FEW - 1, FEW, 2 * FEW])
def test_of_few_values_the_beginning_is_filled_by_whatever_the_other_tells(values: int) -> None:
    rows = np.array([[1.0, np.nan]] * 5 + [[1.0, 1.0]] * values)
    assert bool(filled(rows, imputer(own=0.9, correlation=0.5))[0][:5, 1].isnan().all()) == (values >= FEW)
    assert not bool(filled(rows, imputer(correlation=0.9))[0].isnan().any())


def test_the_doubt_falls_with_every_value_seen() -> None:
    doubts = []
    for seen in range(0, 49, 3):
        doubt = filled(np.array([[1.0, np.nan]] * (48 - seen) + [[1.0, 1.0]] * seen), imputer(rest=0.5))[1]
        doubts.append(torch.zeros(3) if doubt is None else doubt[0, :, 1])
    assert bool((torch.stack(doubts).diff(dim=0) < 0).all())
    torch.testing.assert_close(doubts[0], torch.full((3,), 0.36))
    assert not bool(doubts[-1].any())


def test_doubt_is_all_that_is_untold_of_a_channel_never_seen_and_fades_after_short_gaps() -> None:
    never = np.array([[1.0, np.nan]] * 6)
    torch.testing.assert_close(filled(never, imputer())[1][0], torch.tensor([[0.0, 0.36]] * 3))
    short = np.array([[1.0, 1.0]] * 9 + [[1.0, np.nan]])
    torch.testing.assert_close(
        filled(short, imputer(rest=0.5))[1][0, :, 1],
        torch.tensor([0.36 * (0.1 * (1 - 0.25**h) + 0.75 * 0.25**h) for h in (1, 2, 3)]),
    )
    inside = np.array([[1.0, 1.0]] * 8 + [[1.0, np.nan]] + [[1.0, 1.0]])
    torch.testing.assert_close(filled(inside, imputer())[1][0, :, 1], torch.full((3,), 0.036))
    assert filled(inside, imputer(own=0.99))[1] is None


def test_several_channels_at_once_are_told_by_those_that_are_left() -> None:
    covariance = torch.tensor([[1.0, 0.5, 0.5], [0.5, 1.0, 0.5], [0.5, 0.5, 1.0]]).double()
    three = ChannelImputer(covariance, torch.zeros(3).double(), torch.zeros(3).double())
    past, doubt = filled(np.array([[2.0, np.nan, np.nan]] * 5), three)
    torch.testing.assert_close(past, torch.tensor([[2.0, 1.0, 1.0]] * 5).double())
    torch.testing.assert_close(doubt[0, 0], torch.tensor([0.0, 0.75, 0.75]))


# ------------------------------------------------------------------------------------------------ forecasts


def test_a_channel_that_follows_from_others_is_forecast_like_them(fitted: Adapter) -> None:
    frame = factors(seed=1)
    seen, dark = fitted.predict(frame), fitted.predict(frame.assign(sum=np.nan))
    unit = fitted.scale_[3]
    np.testing.assert_allclose(dark.mean[:, 3], seen.mean[:, 3], atol=0.05 * unit)
    np.testing.assert_allclose(width(dark)[:, 3], width(seen)[:, 3], rtol=0.1)
    np.testing.assert_allclose(dark.mean[:, :3], seen.mean[:, :3], atol=0.1 * unit)


def test_a_channel_that_nothing_tells_gets_the_mean_and_spread_of_its_train_rows() -> None:
    frame = factors(seed=2).assign(alone=5 + 2 * np.random.default_rng(3).standard_normal(1500))
    forecast = adapter(recalibration="none").fit(frame).predict(frame.assign(alone=np.nan))
    np.testing.assert_allclose(forecast.mean[:, 4], 5.0, atol=0.25)
    np.testing.assert_allclose(width(forecast)[:, 4], 2 * 1.2816 * 2, rtol=0.1)


@pytest.mark.parametrize("family", ["residual", "projection", "weave"])
def test_intervals_of_a_channel_that_is_not_seen_are_wider_and_hold_what_they_say(family: str) -> None:
    options = {"trainer_options": {"max_epochs": 1, "enable_progress_bar": False}} if family == "weave" else {}
    frame = factors(3000, noise=1.0)[["a", "b", "c"]]
    one = adapter(family, recalibration="none", **options).fit(frame, borders=(1500, 2000))
    origins = np.arange(2060, 2980, 10)
    windows = [
        Windows(Panel.of(each), np.zeros(len(origins), int), origins, L, H) for each in (frame, frame.assign(b=np.nan))
    ]
    seen, dark = (one.joint_distribution(each).marginals.at([0.1, 0.9])[..., 1, :] for each in windows)
    truth, (low, high) = windows[0].future(torch.float64)[..., 1], dark.unbind(-1)
    assert bool((high - low).mean() > (seen[..., 1] - seen[..., 0]).mean())
    assert float(((truth > low) & (truth < high)).double().mean()) == pytest.approx(0.8, abs=0.06)


def test_a_channel_that_is_back_is_forecast_about_as_well_as_one_that_was_never_seen() -> None:
    frame = factors(3000, noise=1.0)[["a", "b", "c"]]
    one = adapter(recalibration="none").fit(frame, borders=(1500, 2000))
    origins = np.arange(2060, 2980, 10)
    truth = torch.stack([torch.from_numpy(frame.iloc[o : o + H, 1].to_numpy()) for o in origins])
    errors = []
    for seen, off in {0: 0.08, 3: 0.08, 6: 0.08, 12: 0.08, L: 0.03}.items():
        contexts = [frame.iloc[o - L : o].copy() for o in origins]
        for context in contexts:
            context.iloc[: L - seen, 1] = np.nan
        forecasts = one.predict(contexts)
        low, high = (torch.stack([torch.from_numpy(f.interval(0.8)[end][:, 1]) for f in forecasts]) for end in (0, 1))
        assert float(((truth > low) & (truth < high)).double().mean()) == pytest.approx(0.8, abs=off)
        mean = torch.stack([torch.as_tensor(f.mean[:, 1]) for f in forecasts])
        errors.append(float((truth - mean).abs().mean()))
    assert max(errors[1:4]) < 1.1 * errors[0] and errors[3] < errors[0]


def test_nothing_changes_where_nothing_is_missing(fitted: Adapter) -> None:
    frame = factors(seed=4)
    before = fitted.predict(frame).samples
    held, fitted.fitted_.imputer = fitted.fitted_.imputer, None
    try:
        np.testing.assert_array_equal(fitted.predict(frame.copy()).samples, before)
    finally:
        fitted.fitted_.imputer = held


def test_a_saved_adapter_fills_alike(fitted: Adapter, tmp_path: object) -> None:
    frame = factors(seed=5).assign(b=np.nan)
    fitted.save(tmp_path / "run")
    again = Adapter.load(tmp_path / "run", foundation_model=SeasonalModel())
    np.testing.assert_array_equal(again.predict(frame).samples, fitted.predict(frame).samples)


def test_a_past_covariate_tells_a_target_that_is_not_seen() -> None:
    frame = factors(noise=0.0)[["a", "b", "sum"]]
    one = adapter(gate=False).fit(frame, past_covariates=["sum", "b"])
    later = factors(noise=0.0, seed=0).iloc[:1400][["a", "b", "sum"]]
    seen, dark = one.predict(later), one.predict(later.assign(a=np.nan))
    np.testing.assert_allclose(dark.mean, seen.mean, atol=0.1 * one.scale_[0])


def test_the_frozen_model_alone_is_told_nothing(fitted: Adapter) -> None:
    panel = Panel.of(factors(seed=6).assign(b=np.nan))
    windows = Windows(panel, np.zeros(1, int), np.array([1000]), L, H)
    law = fitted.zero_shot_distribution(windows).marginals
    np.testing.assert_allclose(law.mean[0, :, 1], fitted.location_[1], atol=1e-4)


# ------------------------------------------------------------------------------------------------ what no channel tells


def test_a_value_every_third_row_is_enough() -> None:
    steps = np.arange(1200)
    line = pd.DataFrame({"a": 0.5 * steps, "b": 100 - 0.2 * steps})
    whole = adapter(gate=False).fit(line)
    thin = line.copy()
    thin[steps % 3 != 2] = np.nan  # but for the first rows of the context, what is left says the same
    np.testing.assert_allclose(whole.predict(thin).quantile(0.5), whole.predict(line).quantile(0.5), rtol=2e-3)


@pytest.mark.parametrize("family", ["identity", "residual", "projection"])
def test_behind_missing_last_rows_forecasts_go_on_from_the_last_value(family: str) -> None:
    steps = np.random.default_rng(0).standard_normal((2000, 3))
    walks = 100 + 0.1 * np.cumsum(steps, 0)
    model = adapter(family, foundation_model="bolt-nano", context_length=128, gate=False).fit(walks)
    for gap in (1, 12):
        late = walks.copy()
        late[-gap:] = np.nan
        low, high = model.predict(late).interval(0.8)
        assert (np.abs((low + high)[0] / 2 - walks[-gap - 1]) < 0.5).all()  # the windows' means are up to 3 away
        assert ((high - low)[0] > 0.8 * width(model.predict(walks))[0]).all()


def test_an_adapter_reads_the_medians_behind_a_last_value() -> None:
    model = adapter()
    model.fit(factors())
    panel = Panel.of(factors(seed=3).iloc[: L + H])
    panel.items[0].values[L - 5 : L] = np.nan
    windows = Windows(panel, np.array([0]), np.array([L]), L, H)
    read = model._predictor("predict").marginals.completed_context(windows)[0]
    ended = torch.from_numpy(panel.items[0].values[: L - 5].T).float()
    told = model.model(ended, 5, unroll="median")[:, model.model.median_index].T
    torch.testing.assert_close(read[-5:], told.to(read))
    torch.testing.assert_close(read[:-5], windows.past()[0, :-5])
