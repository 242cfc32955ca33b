r"""The noise that is added to an adapter's law: none where the law is right, what lacks where it is too narrow."""

import numpy as np
import torch
from calendars import times
from seasonal import SeasonalModel
from torch.special import ndtri

from adapts import Adapter
from adapts.calibration.noise import missing_variance_ratio
from adapts.copulas.selection import mean_pinball
from adapts.distribution.levels import LEVELS
from adapts.distribution.quantile_function import QuantileFunction
from adapts.fitting.context import FitOptions, begin
from adapts.fitting.noise import missing_variance
from adapts.fitting.state import FitState
from adapts.statistics.bootstrap import lead_blocks

HORIZON, CHANNELS, WINDOWS = 8, 2, 400
NORMAL = ndtri(torch.tensor(LEVELS, dtype=torch.float64)).float()


def outcomes(seed, windows=WINDOWS):
    r"""Windows at every second row of moving averages over three rows, of unit variance, and their places."""
    rows = torch.randn(2 * windows + HORIZON + 2, CHANNELS, generator=torch.Generator().manual_seed(seed))
    series = (rows[2:] + rows[1:-1] + rows[:-2]) / 3**0.5
    origin = np.arange(windows) * 2
    return torch.stack([series[start : start + HORIZON] for start in origin]), origin


def law(scale, like):
    r"""Normal laws of mean 0, each of its standard deviation."""
    scale = torch.as_tensor(scale).expand(like.shape)
    return QuantileFunction(LEVELS, scale.unsqueeze(-1) * NORMAL)


def ratio(scale, future, origin, item=None):
    spread = torch.ones(len(future), 1, CHANNELS)
    return missing_variance_ratio(law(scale, future), future, spread, lead_blocks(HORIZON), times(origin, item))


def test_a_law_that_is_right_gets_no_noise_on_the_mean():
    found = [float(ratio(1.0, *outcomes(seed)).mean()) for seed in range(60)]
    assert np.mean(found) < 0.01
    assert np.median(found) < 0.002


def test_a_law_that_is_too_narrow_gets_what_lacks():
    found = [float(ratio(0.75, *outcomes(seed)).mean()) for seed in range(20)]
    lacks = 1 - 0.75**2
    assert 0.85 * lacks < np.mean(found) < 1.05 * lacks


def test_one_channel_that_is_too_narrow_is_told_from_one_that_is_right():
    found = torch.stack([ratio(torch.tensor([1.0, 0.5]), *outcomes(seed)) for seed in range(10)]).mean((0, 1))
    assert float(found[0]) < 0.1
    assert 0.6 < float(found[1]) < 0.8  # 0.75 lacks


def test_leads_that_are_too_narrow_are_told_from_others():
    scale = torch.where(torch.arange(HORIZON) < 4, 1.0, 0.5).unsqueeze(-1)
    found = torch.stack([ratio(scale, *outcomes(seed)) for seed in range(10)]).mean((0, 2))
    assert float(found[:4].max()) < 0.2
    assert float(found[4:].min()) > 0.55


def test_a_law_that_is_too_wide_gets_no_noise():
    assert not ratio(1.5, *outcomes(0)).any()


def test_one_outlier_is_no_evidence():
    future, origin = outcomes(1)
    future[200, 3, 0] = 200.0
    assert float(ratio(1.0, future, origin).max()) < 0.05


def test_missing_outcomes_say_nothing():
    future, origin = outcomes(2)
    part = future.clone()
    part[:, :, 1] = torch.nan
    part[::3] = torch.nan
    found = ratio(0.5, part, origin)
    assert found.isfinite().all()
    assert 0.6 < float(found[:, 0].mean()) < 0.9  # 0.75 lacks
    assert not ratio(0.5, torch.full_like(future, torch.nan), origin).any()


def test_windows_too_few_to_tell_chance_add_what_lacks_as_it_comes():
    future, origin = outcomes(3, windows=40)
    found = ratio(0.5, future, origin)
    blocks = lead_blocks(HORIZON)
    for block in blocks.unique():
        lacks = (future[:, blocks == block].square() - law(0.5, future).variance[:, blocks == block]).mean((0, 1))
        torch.testing.assert_close(found[blocks == block], lacks.clamp(min=0).expand(int((blocks == block).sum()), -1))


def test_items_stand_in_for_blocks_of_time():
    parts = [outcomes(seed, windows=3) for seed in range(60)]
    future, origin = torch.cat([part for part, _ in parts]), np.concatenate([start for _, start in parts])
    found = ratio(0.5, future, origin, np.repeat(np.arange(60), 3))
    assert 0.6 < float(found.mean()) < 0.9  # 0.75 lacks


def test_a_channel_whose_windows_never_vary_tells_nothing_of_others():
    future, origin = outcomes(4)
    future[:, :, 1] = 5.0
    spread = torch.ones(len(future), 1, CHANNELS)
    spread[:, :, 1] = 0.0
    for some in (slice(None), slice(0, 40)):  # with errors that can be told, and without
        at, blocks = times(origin[some]), lead_blocks(HORIZON)
        found = missing_variance_ratio(law(0.5, future[some]), future[some], spread[some], blocks, at)
        alone = missing_variance_ratio(
            law(0.5, future[some, :, :1]), future[some, :, :1], spread[some, :, :1], blocks, at
        )
        assert found.isfinite().all()
        torch.testing.assert_close(found[:, :1], alone)


def test_noise_never_raises_the_loss_of_a_channel_that_rests_and_bursts():
    draws = np.random.default_rng(0)
    rain = np.where(draws.random(900) < 0.02, draws.exponential(50, 900), 0.0)
    rows = np.stack([draws.standard_normal(900).cumsum(), rain], 1)
    adapter = Adapter(
        "residual", foundation_model=SeasonalModel(), prediction_length=6, context_length=24, gate=False
    ).fit(rows)
    options = FitOptions(None, 24, 6, None, adapter.fitted_.support, adapter.get_params(deep=False))
    context, _ = begin(adapter.fitted_.panel, adapter.fitted_.module, adapter.model, options, checkpoint_dir=None)
    state = FitState.of(context, adapter.fitted_)
    windows, law = state.windows["validation"], state.adapted_and_zero_shot("validation")[0]
    variance = state.predictor.window_variance(windows)
    ratio = missing_variance(state, "validation")
    losses = [mean_pinball(each, state.truth(windows)).mean((0, 1)) for each in (law, law.add_noise(ratio * variance))]
    assert (losses[1] <= losses[0]).all()
