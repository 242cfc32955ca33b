import pickle
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from seasonal import LEVELS, SeasonalModel

from adapts import Adapter
from adapts.data.panel import Panel
from adapts.data.windows import Windows
from adapts.imputation.cold_start import MIN_ERRORS, THRESHOLDS, ColdStart
from adapts.statistics.bootstrap import lead_blocks
from adapts.statistics.gaussian import autocovariance

H, L = 12, 48
NORMAL = torch.special.ndtri(torch.tensor(LEVELS, dtype=torch.float64))


def autoregression(items: int, rows: int, kept: float = 0.9, own: float = 0.0, seed: int = 0) -> np.ndarray:
    r"""Items of two channels of unit variance, (items, rows, 2), each about a level of its own with that spread."""
    generator = np.random.default_rng(seed)
    values = generator.standard_normal((items, rows, 2))
    for step in range(1, rows):
        values[:, step] = kept * values[:, step - 1] + np.sqrt(1 - kept**2) * values[:, step]
    return values + own * generator.standard_normal((items, 1, 2))


def long(values: np.ndarray) -> pd.DataFrame:
    frames = [pd.DataFrame(item, columns=["a", "b"]).assign(item_id=f"{n:03}") for n, item in enumerate(values)]
    return pd.concat(frames, ignore_index=True)


def adapter(family: object = "residual", **options: object) -> Adapter:
    options = {"foundation_model": SeasonalModel(), "prediction_length": H, "context_length": L, **options}
    return Adapter(family, max_windows=150, **options)


def starting(panel: Panel, rows: int) -> Windows:
    r"""The windows of items that have begun so many rows ago."""
    return Windows(panel, np.arange(len(panel)), np.full(len(panel), rows), L, H)


def forgetful(fitted: Adapter) -> Adapter:
    r"""The same adapter without what the train rows know of few values."""
    other = pickle.loads(pickle.dumps(fitted))
    other.fitted_.cold_start = None
    return other


@pytest.fixture(scope="module", params=[0.0, 3.0], ids=["common-level", "own-levels"])
def spread(request: pytest.FixtureRequest) -> float:
    return float(request.param)


@pytest.fixture(scope="module")
def fitted(spread: float) -> Adapter:
    return adapter().fit(long(autoregression(30, 120, own=spread)))


@pytest.fixture(scope="module")
def cold(spread: float) -> Panel:
    return Panel.of(long(autoregression(200, L + H, own=spread, seed=1)))


# ------------------------------------------------------------------------------------------------ correlations in time


def test_the_autocovariance_is_the_mean_over_pairs_of_the_same_item() -> None:
    rows = [torch.from_numpy(item) for item in autoregression(2, 3000)]
    found = autocovariance(rows, 6)
    for lag in range(7):
        pairs = [item[: len(item) - lag] * item[lag:] for item in rows]
        torch.testing.assert_close(found[lag], torch.cat(pairs).mean(0), rtol=1e-6, atol=1e-8)


def test_missing_cells_are_left_out_of_the_autocovariance() -> None:
    values = torch.from_numpy(autoregression(1, 40_000)[0])
    holes = torch.where(torch.rand(values.shape, generator=torch.Generator().manual_seed(0)) < 0.4, torch.nan, values)
    torch.testing.assert_close(autocovariance([holes], 10), autocovariance([values], 10), rtol=0.0, atol=0.02)


def test_the_autocovariance_is_positive_semidefinite_even_of_few_rows_with_holes() -> None:
    generator = torch.Generator().manual_seed(0)
    rows = [torch.randn(9, 3, generator=generator).cumsum(0) for _ in range(3)]
    rows = [torch.where(torch.rand(9, 3, generator=generator) < 0.3, torch.nan, item) for item in rows]
    found = autocovariance(rows, 20)
    lag = (torch.arange(21)[:, None] - torch.arange(21)).abs()
    assert float(torch.linalg.eigvalsh(found[lag].permute(2, 0, 1)).min()) > -1e-9
    mean = torch.cat(rows).double().square().nanmean(0)
    torch.testing.assert_close(found[0], mean)


def test_levels_of_their_own_stay_correlated_beyond_the_longest_item() -> None:
    items = [torch.full((5, 1), level) for level in (1.0, -1.0, 2.0)]
    torch.testing.assert_close(autocovariance(items, 30), torch.full((31, 1), 2.0).double())


# ------------------------------------------------------------------------------------------------ the law of few values


def cold_start(correlation: torch.Tensor, variance: float = 1.0) -> ColdStart:
    return ColdStart(
        correlation[:, None].double(), torch.tensor([variance]).double(), torch.tensor(LEVELS).double(),
        NORMAL.expand(H, 1, -1),
    )  # fmt: skip


def told(of: ColdStart, past: list[float]) -> torch.Tensor:
    r"""The law of one context, (H, Q)."""
    return of.quantiles(torch.tensor([past]).double(), torch.zeros(1, dtype=torch.long))[0]


def test_one_value_fades_with_its_age_as_the_correlations_do() -> None:
    rho = 0.9 ** torch.arange(40).double()
    for age in (0, 3):
        law = told(cold_start(rho, variance=4.0), [torch.nan, 2.0] + [torch.nan] * age)
        kept = rho[age + 1 : age + 1 + H]
        torch.testing.assert_close(law[:, 4], 2 * kept, rtol=2e-3, atol=0.0)
        spread = 2 * (1 - kept.square()).sqrt()
        torch.testing.assert_close(law - law[:, 4:5], spread[:, None] * NORMAL, rtol=5e-3, atol=1e-6)


def test_of_an_autoregression_the_last_value_tells_all() -> None:
    of = cold_start(0.8 ** torch.arange(40).double())
    torch.testing.assert_close(told(of, [3.0, -1.0, 2.0, 0.5]), told(of, [0.5]), rtol=0.0, atol=0.01)


@pytest.mark.parametrize("count", [1, 4, 15])
def test_of_noise_about_a_level_of_its_own_the_mean_tells_all(count: int) -> None:
    between = 0.7  # of two values of an item, however far apart
    rho = torch.full((40,), between)
    rho[0] = 1.0
    values = torch.linspace(-1.0, 3.0, count + 1)[1:]
    law = told(cold_start(rho), values.tolist())
    share = count * between / (1 + (count - 1) * between)
    torch.testing.assert_close(law[:, 4], (share * values.mean()).double().expand(H), rtol=5e-3, atol=0.0)
    assert float(law[0, 8] - law[0, 4]) == pytest.approx(float(NORMAL[8]) * (1 - share * between) ** 0.5, rel=5e-3)


def test_what_is_missing_between_does_not_matter_and_ages_do() -> None:
    of = cold_start(torch.cos(torch.arange(60) / 4).double() * 0.97 ** torch.arange(60))
    whole = told(of, [1.0, torch.nan, torch.nan, -0.5, 2.0])
    torch.testing.assert_close(told(of, [torch.nan] * 9 + [1.0, torch.nan, torch.nan, -0.5, 2.0]), whole)
    assert not torch.allclose(told(of, [1.0, -0.5, torch.nan, torch.nan, 2.0]), whole, atol=0.1)


def test_values_far_from_the_train_rows_have_a_level_of_their_own() -> None:
    r"""From two deviations off the forecast goes back to the train rows' level, from twenty it does not."""
    of = cold_start(0.8 ** torch.arange(200).double())
    noise = torch.from_numpy(autoregression(1, 48, kept=0.8)[0, :, 0])
    near, far = (told(of, (shift + noise).tolist()) for shift in (0.0, 20.0))
    torch.testing.assert_close(far[..., 4] - 20, near[..., 4], rtol=0.0, atol=0.35)  # all but for the level's own error
    assert bool((far[..., -1] - far[..., 0] >= near[..., -1] - near[..., 0]).all())
    one = told(of, [2.0])
    assert float(one[-1, 4]) == pytest.approx(2 * 0.8**H, rel=0.02)
    assert float(told(of, [20.0])[-1, 4]) > 19


def test_short_series_leave_more_values_to_the_frozen_model() -> None:
    r"""Without validation windows nothing tells how many values are few: no more than 16 are."""
    short = adapter().fit(long(autoregression(1, 70)))
    assert short.fitted_.cold_start.threshold == 16
    assert short.summary().stages["few_values"].startswith("left out: the ")


def test_a_channel_that_never_changes_stays_as_it_is_with_no_width() -> None:
    still = ColdStart.fit([torch.zeros(80, 1)], L, lead_blocks(H), LEVELS)
    law = still.quantiles(torch.tensor([[torch.nan, 2.0, 2.0]]), torch.zeros(1, dtype=torch.long))
    torch.testing.assert_close(law, torch.full((1, H, len(LEVELS)), 2.0), rtol=1e-3, atol=0.0)
    assert not bool(law.diff(dim=-1).any())


def test_intervals_hold_of_values_that_are_far_from_normal() -> None:
    r"""A channel that mostly hardly moves and then jumps: the errors' own quantiles, not those of a normal law."""
    generator = np.random.default_rng(0)
    steps = generator.standard_normal((2, 4000, 1)) * np.where(generator.random((2, 4000, 1)) < 0.05, 5.0, 0.05)
    values = np.zeros_like(steps)
    for step in range(1, 4000):
        values[:, step] = 0.9 * values[:, step - 1] + steps[:, step]
    train, test = torch.from_numpy(values / values.std())
    of = ColdStart.fit([train], L, lead_blocks(H), LEVELS)
    law = of.quantiles(test[:-H], torch.zeros(len(test) - H, dtype=torch.long))
    truth = test[1:].unfold(0, H, 1)[:, 0]
    inside = (truth > law[..., 0]) & (truth < law[..., -1])
    assert float(inside.double().mean()) == pytest.approx(0.8, abs=0.04)


def test_too_few_errors_are_taken_for_normal() -> None:
    rows = torch.randn(5, 1, generator=torch.Generator().manual_seed(0))
    of = ColdStart.fit([rows], L, lead_blocks(H), LEVELS)
    assert len(rows) * H < MIN_ERRORS * 4
    torch.testing.assert_close(of.errors, NORMAL.expand(H, 1, -1))


# ------------------------------------------------------------------------------------------------ around a frozen model


def test_of_enough_values_and_where_none_is_seen_no_bit_changes(fitted: Adapter, cold: Panel) -> None:
    threshold = fitted.fitted_.cold_start.threshold
    assert threshold in THRESHOLDS and threshold <= L / 2
    assert f"fewer than {threshold} values" in fitted.summary().stages["few_values"]
    before = forgetful(fitted)
    for rows in (threshold, threshold + 1, L):
        windows = starting(cold, rows)
        assert torch.equal(
            fitted.joint_distribution(windows).marginals.values, before.joint_distribution(windows).marginals.values
        )
    empty = replace(cold, items=tuple(replace(i, values=np.full_like(i.values, np.nan)) for i in cold.items))
    windows = starting(empty, 5)
    assert torch.equal(
        fitted.joint_distribution(windows).marginals.values, before.joint_distribution(windows).marginals.values
    )


@pytest.mark.parametrize("rows", [1, 2, 9, 15])
def test_the_frozen_model_gets_its_share_of_few_values(fitted: Adapter, cold: Panel, rows: int) -> None:
    windows = fitted._predictor("predict").standardiser.standardised(starting(cold, rows))
    pipeline = fitted._predictor("predict").marginals
    ours, theirs = (
        pipeline.zero_shot(some).values
        for some in (windows, replace(windows, preparation=replace(windows.preparation, cold_start=None)))
    )
    past = windows.past()
    known = torch.stack(
        [windows.preparation.cold_start.quantiles(past[..., n], torch.full((len(past),), n)) for n in range(2)], 2
    )
    share = max(0, rows - 2) / (windows.preparation.cold_start.threshold - 2)
    torch.testing.assert_close(ours, share * theirs + (1 - share) * known)


def test_intervals_of_items_that_have_just_begun_hold(fitted: Adapter, cold: Panel, spread: float) -> None:
    before = forgetful(fitted)
    for rows in (1, 2, 3, 6, 10):
        windows = starting(cold, rows)
        truth = windows.future()
        laws = [each.joint_distribution(windows).marginals for each in (fitted, before)]
        held = [float(((truth > law(0.1)) & (truth < law(0.9))).double().mean()) for law in laws]
        assert held[0] == pytest.approx(0.8, abs=0.075)
        assert abs(held[0] - 0.8) < abs(held[1] - 0.8)
        levels = torch.arange(1, 20) / 20
        errors = [truth[..., None] - law.at(levels) for law in laws]
        losses = [float(torch.maximum(levels * error, (levels - 1) * error).mean()) for error in errors]
        assert losses[0] < losses[1]


def test_a_context_with_nearly_everything_missing_is_one_of_few_values(fitted: Adapter, cold: Panel) -> None:
    holes = np.ones((L + H, 2), dtype=bool)
    holes[[2, 17, 30, 41]] = False
    items = tuple(replace(i, values=np.where(holes, np.nan, i.values)) for i in cold.items)
    truth = starting(cold, L).future()
    law = fitted.joint_distribution(starting(replace(cold, items=items), L)).marginals
    assert float(((truth > law(0.1)) & (truth < law(0.9))).double().mean()) == pytest.approx(0.8, abs=0.07)


@pytest.mark.parametrize("family", ["residual", "pca"])
def test_an_adapter_is_around_the_frozen_model_alone(family: str, cold: Panel) -> None:
    ours = adapter(family, gate=False).fit(long(autoregression(30, 120)))
    windows = ours._predictor("predict").standardiser.standardised(starting(cold, 9))
    pipeline, alone = (
        ours._predictor("predict").marginals,
        replace(windows, preparation=replace(windows.preparation, cold_start=None)),
    )
    adapted = pipeline.adapted(windows, pipeline.zero_shot(windows)).at(LEVELS)
    around = pipeline.adapted(alone, pipeline.zero_shot(alone)).at(LEVELS)
    past, share = windows.past(), 7 / (windows.preparation.cold_start.threshold - 2)
    known = torch.stack(
        [windows.preparation.cold_start.quantiles(past[..., n], torch.full((len(past),), n)) for n in range(2)], 2
    )
    torch.testing.assert_close(adapted, share * around + (1 - share) * known.to(around), rtol=1e-4, atol=1e-4)


def test_the_frozen_model_takes_over_where_it_is_better() -> None:
    r"""Of a frozen model that knows nothing never before the most values, of one that knows all from the fewest on."""
    rows = torch.from_numpy(autoregression(1, 4000)[0]).float()
    of = ColdStart.fit([rows[:2000]], 400, lead_blocks(H), LEVELS)
    at = torch.arange(2400, 3900, 25)
    past = torch.stack([rows[i - 400 : i, 0] for i in at])
    future = torch.stack([rows[i : i + H, 0] for i in at])
    channel = torch.zeros(len(at), dtype=torch.long)
    width = 2.0 * NORMAL.float()
    for forecast, threshold in (
        (lambda context: (100 + width).expand(len(context), H, -1), 192),
        (lambda context: future[..., None] + 1e-3 * NORMAL.float(), 16),
    ):
        found = of.with_selected_threshold(past, future, channel, forecast)
        assert found.threshold == threshold
        assert ColdStart.from_state(found.state()).threshold == threshold
    short = of.with_selected_threshold(
        past[:, -60:], future, channel, lambda context: (100 + width).expand(len(context), H, -1)
    )
    assert short.threshold == 24  # no more than half of a context


@pytest.mark.parametrize("family", ["residual", "pca"])
def test_no_adapter_knows_more_of_one_or_two_values(family: str) -> None:
    ours = adapter(family, gate=False).fit(long(autoregression(20, 120, own=3.0)))
    windows = starting(Panel.of(long(autoregression(30, L + H, own=3.0, seed=1))), 2)
    standard, pipeline = (
        ours._predictor("predict").standardiser.standardised(windows),
        ours._predictor("predict").marginals,
    )
    frozen = pipeline.zero_shot(standard)
    assert torch.equal(pipeline.adapted(standard, frozen).values, frozen.values)


def test_the_frozen_model_alone_is_told_nothing(cold: Panel, fitted: Adapter) -> None:
    windows = starting(cold, 5)
    before = forgetful(fitted).zero_shot_distribution(windows).marginals.values
    assert torch.equal(fitted.zero_shot_distribution(windows).marginals.values, before)
    identity = adapter("identity").fit(long(autoregression(20, 120)))
    assert identity.fitted_.cold_start is None


def test_saved_and_loaded_it_says_the_same(fitted: Adapter, cold: Panel, tmp_path: Path) -> None:
    fitted.save(tmp_path / "saved")
    again = Adapter.load(tmp_path / "saved", foundation_model=SeasonalModel())
    for rows in (1, 5, 12):
        windows = starting(cold, rows)
        assert torch.equal(
            fitted.joint_distribution(windows).marginals.values, again.joint_distribution(windows).marginals.values
        )
