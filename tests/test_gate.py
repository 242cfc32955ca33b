r"""The gate: open where the adapter is surely better, closed where it is not."""

import math

import numpy as np
import pytest
import torch
from calendars import times

from adapts.calibration.gate import WEIGHTS, fit_gate, rejected_channels, smooth_weights
from adapts.distribution.levels import LEVELS
from adapts.distribution.quantile_function import QuantileFunction
from adapts.statistics.bootstrap import lead_blocks, student_t_quantile

HORIZON, CHANNELS = 12, 4
NORMAL = torch.special.ndtri(torch.tensor(LEVELS, dtype=torch.float64)).float()


def normal_law(mean, support=None):
    return QuantileFunction(LEVELS, mean.unsqueeze(-1) + NORMAL, support)


def smooth(rows, scale=1.0):
    r"""A stationary AR(1) series a channel, of unit variance times scale."""
    x = torch.randn(rows, CHANNELS)
    for t in range(1, rows):
        x[t] = 0.9 * x[t - 1] + math.sqrt(1 - 0.81) * x[t]
    return scale * x


def windows(series, origin):
    return torch.stack([series[i : i + HORIZON] for i in origin])


def simulate(knows, noise, number=150, stride=4):
    r"""Windows of unit variance, a frozen model that knows their mean only, and an adapter that knows more.

    The adapter says `knows` of the truth, plus `noise`, each a number or one a channel.
    """
    rows, origin = number * stride + HORIZON, np.arange(number) * stride
    truth = windows(smooth(rows), origin)
    adapter = torch.as_tensor(knows) * truth + windows(smooth(rows), origin) * torch.as_tensor(noise)
    return normal_law(adapter), normal_law(torch.zeros_like(truth)), truth, times(origin)


def loss(law, y):
    levels = law.levels.float()
    error = y.unsqueeze(-1) - law.at(LEVELS)
    return torch.maximum(levels * error, (levels - 1) * error).mean(-1)


def test_open_on_a_clearly_better_adapter():
    adapter, frozen, y, time = simulate(0.3, 0.2)
    gate = fit_gate(adapter, frozen, y, time)
    assert gate.values.shape == (HORIZON, CHANNELS) and (gate.values >= 0.5).all()
    assert gate.gain > 0.1 and 0 < gate.bound < gate.gain and "open in 16 of 16 cells" in gate.reason


def test_a_small_gain_that_all_cells_share_is_found():
    opened = [float((fit_gate(*simulate(0.05, 0.1)).values > 0).float().mean()) for _ in range(5)]
    assert np.mean(opened) > 0.8


@pytest.mark.parametrize("noise", [0.05, 0.3, 1.0])
def test_closed_on_noise(noise):
    opened = [float((fit_gate(*simulate(0.0, noise)).values > 0).float().mean()) for _ in range(6)]
    assert np.mean(opened) < 0.1


def test_closed_on_a_harmful_adapter_and_on_the_frozen_model_itself():
    gate = fit_gate(*simulate(-0.3, 0.2))
    assert not gate.values.any() and gate.gain == 0
    assert "closed: no significant gain over the frozen model" in gate.reason
    _, frozen, y, time = simulate(0.0, 0.0)
    assert not fit_gate(frozen, frozen, y, time).values.any()


def test_channels_are_told_apart():
    knows, noise = torch.tensor([0.3, 0.3, 0.0, 0.0]), torch.tensor([0.1, 0.1, 0.5, 0.5])
    gate = fit_gate(*simulate(knows, noise))
    assert (gate.values[:, :2] > 0).all() and not gate.values[:, 2:].any()


def test_blocks_of_leads_are_told_apart():
    adapter, frozen, y, time = simulate(0.3, 0.1)
    harm = torch.where(lead_blocks(HORIZON) < 2, 0.0, -3.0).view(1, -1, 1, 1)
    gate = fit_gate(QuantileFunction(LEVELS, adapter.values + harm), frozen, y, time)
    assert (gate.values[:6] > 0).all() and not gate.values[6:].any()


def test_noisy_gains_take_a_part():
    # the error (1 - .5 g) y + g e has its least variance at g = .4
    gate = fit_gate(*simulate(0.5, 1.0, number=300))
    assert gate.values.min() >= 0.25 and gate.values.max() <= 0.5


def test_never_harmful_on_its_own_windows():
    for _ in range(6):
        knows, noise = 0.2 * torch.rand(CHANNELS), torch.rand(CHANNELS)
        adapter, frozen, y, time = simulate(knows, noise, number=60)
        gate = fit_gate(adapter, frozen, y, time)
        gated, alone = loss(QuantileFunction.mix(gate.values, adapter, frozen), y), loss(frozen, y)
        gain = torch.zeros(4, CHANNELS).index_add_(0, lead_blocks(HORIZON), (alone - gated).mean(0))
        assert (gain >= -1e-6).all()


def test_little_harm_on_later_windows():
    gains = []
    for _ in range(6):
        adapter, frozen, y, time = simulate(0.1, 0.4, number=160)
        early, late = slice(0, 80), slice(83, 160)
        gate = fit_gate(adapter[early], frozen[early], y[early], time[early])
        gated = loss(QuantileFunction.mix(gate.values, adapter[late], frozen[late]), y[late]).mean()
        gains.append(1 - float(gated / loss(frozen[late], y[late]).mean()))
    assert min(gains) > -0.02 and np.mean(gains) >= 0


def test_too_little_time():
    adapter, frozen, y, time = simulate(0.5, 0.0, number=30, stride=1)
    gate = fit_gate(adapter, frozen, y, time)
    assert not gate.values.any() and "too little time" in gate.reason and "48 rows" in gate.reason


def test_many_short_items_stand_in_for_time():
    parts = [simulate(0.5, 0.1, number=6, stride=1) for _ in range(20)]
    adapter, frozen = (QuantileFunction(LEVELS, torch.cat([p[i].values for p in parts])) for i in (0, 1))
    y, time = torch.cat([p[2] for p in parts]), times(np.tile(np.arange(6), 20), np.repeat(np.arange(20), 6))
    assert (fit_gate(adapter, frozen, y, time).values > 0).all()


def test_order_of_windows_does_not_matter():
    adapter, frozen, y, time = simulate(0.1, 0.3)
    gate = fit_gate(adapter, frozen, y, time)
    mixed = torch.randperm(len(y))
    again = fit_gate(adapter[mixed], frozen[mixed], y[mixed], time[mixed.numpy()])
    assert torch.equal(gate.values, again.values)


def test_units_do_not_matter():
    adapter, frozen, y, time = simulate(torch.tensor([0.3, 0.0, 0.3, 0.0]), 0.3)
    scale = torch.tensor([1.0, 1000.0, 0.001, 10.0])
    a, b = (law.rescaled(0.0, scale) for law in (adapter, frozen))
    assert torch.equal(fit_gate(adapter, frozen, y, time).values, fit_gate(a, b, y * scale, time).values)


def test_missing_targets_are_skipped():
    adapter, frozen, y, time = simulate(0.3, 0.1)
    y[torch.rand_like(y) < 0.3] = math.nan
    y[..., 3] = math.nan
    gate = fit_gate(adapter, frozen, y, time)
    assert (gate.values[:, :3] > 0).all() and not gate.values[:, 3].any()


def test_a_constant_channel_stays_closed():
    adapter, frozen, y, time = simulate(0.3, 0.1)
    y[..., 0] = 0.0
    values = frozen.values.clone()
    values[..., 0, :] = 0.0
    gate = fit_gate(adapter, QuantileFunction(LEVELS, values), y, time)
    assert not gate.values[:, 0].any() and (gate.values[:, 1:] > 0).all()


def test_shares_lie_among_those_offered_and_mix_laws_of_other_levels():
    adapter, frozen, y, time = simulate(0.3, 0.3)
    frozen = frozen.resample(tuple(i / 10 for i in range(1, 10)))
    gate = fit_gate(adapter, frozen, y, time)
    assert gate.values.min() >= WEIGHTS[0] and gate.values.max() <= WEIGHTS[-1]
    assert QuantileFunction.mix(gate.values, adapter, frozen).shape == y.shape


@pytest.mark.parametrize(
    ("probability", "freedom", "point"),
    [(0.9, 2, 1.8856), (0.95, 4, 2.1318), (0.99, 6, 3.1427), (0.975, 30, 2.0423), (0.5, 8, 0.0)],
)
def test_student(probability, freedom, point):
    assert student_t_quantile(probability, freedom) == pytest.approx(point, abs=1e-4)


class TestSmoothShares:
    def test_open_blocks_fall_to_their_closed_neighbours_and_those_stay_closed(self):
        shares = smooth_weights(torch.tensor([[0.0], [1.0], [1.0], [0.0]]), lead_blocks(24))[:, 0]
        assert not shares[:6].any() and not shares[18:].any()
        assert torch.equal(shares, shares.flip(0)) and (shares[6:18] > 0).all()
        assert float(shares.diff().abs().max()) < 0.34

    def test_no_share_is_larger_than_its_block_s(self):
        steps = torch.rand(4, CHANNELS)
        assert (smooth_weights(steps, lead_blocks(30)) <= steps[lead_blocks(30)] + 1e-6).all()

    def test_equal_blocks_stay_as_they_are(self):
        assert torch.equal(smooth_weights(torch.full((4, 2), 0.75), lead_blocks(12)), torch.full((12, 2), 0.75))
        assert torch.equal(smooth_weights(torch.full((1, 2), 0.25), lead_blocks(5)), torch.full((5, 2), 0.25))

    def test_a_fitted_gate_passes_from_block_to_block(self):
        adapter, frozen, y, time = simulate(0.3, 0.1)
        harm = torch.where(lead_blocks(HORIZON) < 2, 0.0, -3.0).view(1, -1, 1, 1)
        values = fit_gate(QuantileFunction(LEVELS, adapter.values + harm), frozen, y, time).values
        assert (values[5] < values[3]).all() and not values[6:].any()


class TestContradicted:
    def test_a_channel_that_got_worse(self):
        adapter, frozen, y, time = simulate(torch.tensor([0.3, 0.3, -0.6, 0.3]), 0.2)
        shares = torch.ones(HORIZON, CHANNELS)
        assert rejected_channels(shares, adapter, frozen, y, time).tolist() == [False, False, True, False]
        shares[:, 2] = 0  # closed already
        assert not rejected_channels(shares, adapter, frozen, y, time).any()

    def test_what_each_channel_tells_too_little_of_all_tell_together(self):
        shares = torch.ones(HORIZON, CHANNELS)
        shut = [rejected_channels(shares, *simulate(-0.05, 0.1)) for _ in range(5)]
        assert torch.stack(shut).float().mean() > 0.8

    def test_a_gain_is_hardly_ever_taken_back(self):
        shares = torch.ones(HORIZON, CHANNELS)
        shut = [rejected_channels(shares, *simulate(0.05, 0.05)) for _ in range(10)]
        assert torch.stack(shut).float().mean() < 0.1

    def test_too_little_time_to_tell(self):
        adapter, frozen, y, time = simulate(-0.5, 0.2, number=6)
        assert not rejected_channels(torch.ones(HORIZON, CHANNELS), adapter, frozen, y, time).any()


def test_many_channels_with_gains_too_small_to_show_alone_open_together():
    r"""Of the gain that one weight for all has on later windows, most is kept, and channels that lose are closed."""
    generator, number, channels = torch.Generator().manual_seed(0), 60, 40
    knows = torch.linspace(0.0, 0.3, channels)
    knows[:4] = -0.3

    def simulated(first):
        truth = torch.randn(number, HORIZON, channels, generator=generator)
        adapter = knows * truth + 0.3 * torch.randn(number, 1, channels, generator=generator)
        origin = first + np.arange(number) * HORIZON
        return normal_law(adapter), normal_law(torch.zeros_like(truth)), truth, times(origin)

    gate = fit_gate(*simulated(0))
    adapter, frozen, truth, _ = simulated(2 * number * HORIZON)
    reference = loss(frozen, truth).mean()
    gained = reference - loss(QuantileFunction.mix(gate.values, adapter, frozen), truth).mean()
    alike = max(float(reference - loss(QuantileFunction.mix(w, adapter, frozen), truth).mean()) for w in WEIGHTS)
    assert gained > 0.95 * alike > 0
    assert (gate.values[:, :4] == 0).float().mean() > 0.9
    assert "pooled gain out of sample" in gate.reason
