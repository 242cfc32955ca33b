r"""The synthetic prior: what univariate series look like, drawn many at a time.

A series is a level that wanders, seasons of the calendar whose shape, amplitude and phase drift, and noise that is
correlated, uneven and heavy-tailed; a part of them are random walks, coloured noise, Gaussian processes, sensors,
states, spells, angles, bursts, counts. Sensors and clerks then clip, round, hold and mix them. Nothing here is fitted
to any data set.
"""

from __future__ import annotations

__all__ = ["draw_series", "draw_windows"]

import math
from collections.abc import Callable

import torch
from torch import Tensor

# steps a cycle and how often: days in hours, quarters, ten and five minutes; weeks; years in days, weeks, months
PERIODS = {
    24: 18, 96: 12, 144: 11, 48: 6, 288: 4, 12: 8, 52: 9, 7: 9, 168: 4, 365: 2, 4: 2, 60: 2, 30: 2, 5: 1, 8: 1, 336: 1,
    10: 1, 20: 1, 72: 1,
}  # fmt: skip
DAYS = {24: 0.3, 96: 0.22, 144: 0.25, 48: 0.1, 288: 0.1, 72: 0.03}  # and how often sensors have them
YEARS = (4, 12, 52, 365.25 / 7, 365)
VERSION = "1.17"  # of what series look like; a run's history says which it saw
GRID = 384  # phases at which a season's shape is tabulated
CYCLES = 256


class Dice:
    r"""A seeded source of parameters on one device; `n` draws, one a series, as a column.

    Arguments:
        seed: The seed.
        device: Where the numbers are drawn.
    """

    def __init__(self, seed: int, device: str | torch.device = "cpu") -> None:
        self.generator = torch.Generator(device).manual_seed(seed)
        self.device = self.generator.device

    def uniform(self, *shape: int, low: float = 0.0, high: float = 1.0) -> Tensor:
        return low + (high - low) * torch.rand(*shape, generator=self.generator, device=self.device)

    def log_uniform(self, *shape: int, low: float, high: float) -> Tensor:
        return self.uniform(*shape, low=math.log(low), high=math.log(high)).exp()

    def normal(self, *shape: int) -> Tensor:
        return torch.randn(*shape, generator=self.generator, device=self.device)

    def gamma(self, shape: Tensor) -> Tensor:
        return torch._standard_gamma(shape, generator=self.generator)

    def poisson(self, rate: Tensor) -> Tensor:
        return torch.poisson(rate, generator=self.generator)

    def coin(self, *shape: int, chance: float) -> Tensor:
        return self.uniform(*shape) < chance

    def choice(self, n: int, weights: list[float]) -> Tensor:
        table = torch.tensor(weights, dtype=torch.float32, device=self.device)
        return torch.multinomial(table, n, replacement=True, generator=self.generator)

    def heavy(self, *shape: int) -> Tensor:
        r"""Heavy-tailed noise of unit variance: normal, its scale log-normal; kurtosis 3 to 160, drawn a row."""
        s = self.uniform(shape[0], 1, high=1.0)
        return self.normal(*shape) * (s * self.normal(*shape) - s.square()).exp()


def standardised(x: Tensor) -> Tensor:
    r"""Returns rows of mean 0 and standard deviation 1 (near 0 where constant, up to rounding)."""
    x = x - x.mean(-1, keepdim=True)
    return x / x.square().mean(-1, keepdim=True).sqrt().clamp(min=1e-6)


def switch(dice: Dice, n: int, length: int, makers: dict[Callable[[Dice, int, int], Tensor], float]) -> Tensor:
    r"""Draws each row by one of several makers, by weight, in shuffled order."""
    kind = dice.choice(n, list(makers.values()))
    rows = torch.empty(n, length, device=dice.device)
    for i, maker in enumerate(makers):
        where = (kind == i).nonzero().squeeze(-1)
        if len(where):
            rows[where] = maker(dice, len(where), length)
    return rows


# ---------------------------------------------------------------------------------------------- noise and levels


def coloured(dice: Dice, n: int, length: int, *, slope: Tensor | None = None, corner: Tensor | None = None) -> Tensor:
    r"""Stationary Gaussian noise with spectrum :math:`(f_0^2 + f^2)^{-\beta/2}`: white to smoother than a walk."""
    size = 2 * length
    f = torch.fft.rfftfreq(size, device=dice.device)
    slope = dice.uniform(n, 1, low=0.2, high=3.0) if slope is None else slope
    corner = dice.log_uniform(n, 1, low=0.3 / length, high=0.3) if corner is None else corner
    gain = (corner.square() + f.square()).pow(-slope / 4)
    noise = torch.complex(dice.normal(n, len(f)), dice.normal(n, len(f)))
    return standardised(torch.fft.irfft(gain * noise, n=size)[:, :length])


def reverting(dice: Dice, n: int, length: int) -> Tensor:
    r"""Comes back to its mean: Ornstein-Uhlenbeck, or rougher or smoother, of 4 steps' memory to half the window's."""
    memory = dice.log_uniform(n, 1, low=4, high=length / 2)
    slope = torch.where(dice.coin(n, 1, chance=0.5), 2.0, dice.uniform(n, 1, low=1.4, high=3.5))
    x = coloured(dice, n, length, slope=slope, corner=1 / (2 * math.pi * memory))
    x = torch.where(dice.coin(n, 1, chance=0.25), standardised((dice.uniform(n, 1, low=0.2) * x).exp()), x)
    return x + dice.log_uniform(n, 1, low=0.05, high=1.0) * dice.coin(n, 1, chance=0.4) * dice.normal(n, length)


def smooth(dice: Dice, n: int, length: int) -> Tensor:
    r"""A Gaussian process, squared-exponential kernel, variance about .9; its length scale 5 steps to the window."""
    size = 2 * length
    f = torch.fft.rfftfreq(size, device=dice.device)
    scale = dice.log_uniform(n, 1, low=5, high=length)
    gain = (-((math.pi * f * scale) ** 2)).exp() * (scale * math.sqrt(2 * math.pi) * size / 4).sqrt()
    noise = torch.complex(dice.normal(n, len(f)), dice.normal(n, len(f)))
    x: Tensor = torch.fft.irfft(gain * noise, n=size)[:, :length] * math.sqrt(2)
    return x


def volatility(dice: Dice, n: int, length: int) -> Tensor:
    r"""A positive scale that wanders: the exponential of coloured noise; half of the rows stay at 1."""
    amount = dice.uniform(n, 1) * dice.coin(n, 1, chance=0.5)
    return (amount * coloured(dice, n, length, slope=dice.uniform(n, 1, low=1.0, high=3.0))).exp()


def walk(dice: Dice, n: int, length: int) -> Tensor:
    r"""A random walk: plain, heavy-tailed or of uneven volatility, a tenth with a slight drift that may stop."""
    steps = torch.where(dice.coin(n, 1, chance=0.6), dice.normal(n, length), dice.heavy(n, length))
    steps = steps * volatility(dice, n, length)
    stop = dice.uniform(n, 1, low=0.2, high=2.0) * length
    drift = dice.normal(n, 1) * 1.5 / math.sqrt(length) * dice.coin(n, 1, chance=0.1)
    steps = steps + drift * (torch.arange(length, device=dice.device) < stop)
    return standardised(steps.cumsum(-1))


def weather(dice: Dice, n: int, length: int, day: Tensor) -> Tensor:
    r"""A level that remembers an hour to some days, then is back at its mean: Ornstein-Uhlenbeck, rougher, smoother."""
    memory = dice.log_uniform(n, 1, low=0.04, high=6.0) * day
    slope = torch.where(dice.coin(n, 1, chance=0.5), 2.0, dice.uniform(n, 1, low=1.4, high=4.0))
    return coloured(dice, n, length, slope=slope, corner=1 / (2 * math.pi * memory))


def yearly_steps(dice: Dice, n: int, length: int, cycle: Tensor) -> Tensor:
    r"""A level that is set anew at each cycle's border, either way or mostly one: reporting, tariffs, enrolment."""
    steps = dice.heavy(n, CYCLES) * dice.coin(n, CYCLES, chance=0.7)
    set_to = (steps + dice.normal(n, 1) * dice.coin(n, 1, chance=0.5)).cumsum(-1)
    number = (cycle + dice.uniform(n, 1)).floor().long().clamp(max=CYCLES - 1)
    return set_to.gather(1, number) - set_to.gather(1, number[:, :1])


def damped_trend(dice: Dice, n: int, length: int) -> Tensor:
    r"""A walk whose slope is itself correlated and decays: momentum that fades."""
    slope = coloured(dice, n, length, slope=torch.full((n, 1), 2.0, device=dice.device))
    return standardised((slope + dice.uniform(n, 1) * dice.normal(n, length)).cumsum(-1))


def broken_line(dice: Dice, n: int, length: int) -> Tensor:
    r"""A trend with up to five breaks: its slope changes there; a half of the slopes return to zero."""
    t = torch.arange(length, device=dice.device) / length
    at = dice.uniform(n, 5, 1, low=0.0, high=1.3)
    bend = dice.normal(n, 5, 1) * dice.coin(n, 5, 1, chance=0.4)
    line = dice.normal(n, 1) * t
    flat = dice.coin(n, 1, chance=0.3)
    stop = dice.uniform(n, 1)
    line = torch.where(flat, line.gather(1, (stop * (length - 1)).long()).clamp(-9, 9) * (t / stop).clamp(max=1), line)
    return line + (bend * (t - at).clamp(min=0)).sum(1)


def shifts(dice: Dice, n: int, length: int) -> Tensor:
    r"""A level that jumps now and then, some jumps undone after a while."""
    rate = dice.log_uniform(n, 1, low=0.5, high=10) / length
    jump = dice.normal(n, length) * (dice.uniform(n, length) < rate)
    back = (dice.uniform(n, 1) * length / 2).long().clamp(min=1)
    index = torch.arange(length, device=dice.device) - back
    undone = torch.where(index >= 0, jump.gather(1, index.clamp(min=0)), 0.0) * dice.coin(n, 1, chance=0.4)
    return (jump - undone).cumsum(-1)


def growth(dice: Dice, n: int, length: int) -> Tensor:
    r"""Logistic or exponential growth, or decay, somewhere in the window."""
    t = torch.arange(length, device=dice.device) / length
    rate = dice.log_uniform(n, 1, low=1, high=20) * torch.where(dice.coin(n, 1, chance=0.3), -1.0, 1.0)
    curve = torch.sigmoid(rate * (t - dice.uniform(n, 1, low=-0.2, high=1.4)))
    return standardised(curve) * dice.uniform(n, 1, low=0.3, high=1.0)


def level(dice: Dice, n: int, length: int) -> Tensor:
    r"""What a series moves about: of unit size where it moves at all."""
    makers: dict[Callable[[Dice, int, int], Tensor], float] = {
        coloured: 0.20,
        reverting: 0.22,
        walk: 0.18,
        broken_line: 0.12,
        smooth: 0.08,
        shifts: 0.08,
        damped_trend: 0.06,
        growth: 0.06,
    }
    return switch(dice, n, length, makers)


def white(dice: Dice, n: int, length: int) -> Tensor:
    r"""Independent noise, normal or heavy-tailed."""
    return torch.where(dice.coin(n, 1, chance=0.5), dice.normal(n, length), dice.heavy(n, length))


def autoregressive(dice: Dice, n: int, length: int) -> Tensor:
    r"""A stationary AR(2), real roots or a quasi-cycle, through its spectrum; unit variance."""
    size = 2 * length
    w = 2 * math.pi * torch.fft.rfftfreq(size, device=dice.device)
    cyclic = dice.coin(n, 1, chance=0.3)
    first = 1 - dice.log_uniform(n, 1, low=0.01, high=1.0)
    second = torch.where(cyclic, first, dice.uniform(n, 1, low=-0.3, high=0.6))
    angle = 2 * math.pi / dice.log_uniform(n, 1, low=4, high=120)
    a = torch.where(cyclic, 2 * first * angle.cos(), first + second)
    b = torch.where(cyclic, -first * first, -first * second)
    z = torch.polar(torch.ones_like(w), -w)
    noise = torch.complex(dice.normal(n, len(w)), dice.normal(n, len(w)))
    return standardised(torch.fft.irfft(noise / (1 - a * z - b * z * z), n=size)[:, :length])


def noise(dice: Dice, n: int, length: int) -> Tensor:
    r"""Noise of about unit variance: independent, correlated, of uneven scale, with outliers in a tenth of the rows."""
    x = switch(dice, n, length, {white: 0.45, autoregressive: 0.35, coloured: 0.2})
    x = x * volatility(dice, n, length)
    hit = (dice.uniform(n, length) < 0.01) & dice.coin(n, 1, chance=0.1)
    return x + hit * dice.normal(n, length) * dice.uniform(n, 1, low=2, high=8)


def states(dice: Dice, n: int, length: int) -> Tensor:
    r"""Two to six levels that take turns: machines, tariffs, sectors of the wind; neighbours in turn, or any."""
    rate = dice.log_uniform(n, 1, low=3, high=120) / length
    turn = (dice.uniform(n, length) < rate).cumsum(-1)
    choices = 2 + (dice.uniform(n, 1) * 5).long()
    any_state = (dice.uniform(n, length) * choices).long().gather(1, turn)
    near = torch.special.ndtr(autoregressive(dice, n, length)) * choices
    at = torch.where(dice.coin(n, 1, chance=0.5), any_state, near.long()).clamp(0, 5)
    x = dice.normal(n, 6).gather(1, at)
    return x + dice.log_uniform(n, 1, low=0.01, high=1.0) * white(dice, n, length)


def spells(dice: Dice, n: int, length: int) -> Tensor:
    r"""Nothing, and now and then a while of something: showers, outages, gusts; some at most full."""
    # a mood above a threshold, or visits that come at random and stay
    mood = standardised(switch(dice, n, length, {coloured: 0.15, autoregressive: 0.5, reverting: 0.35}))
    mood = mood + dice.uniform(n, 1, high=0.6) * dice.coin(n, 1, chance=0.5) * autoregressive(dice, n, length)
    over = mood - dice.uniform(n, 1, low=0.0, high=2.2)
    t = torch.arange(length, device=dice.device)
    comes = dice.uniform(n, length) < dice.log_uniform(n, 1, low=0.5, high=30) / length
    stay = -dice.log_uniform(n, 1, low=3, high=120) * (1 - dice.uniform(n, length)).log()
    there = t < torch.where(comes, t + stay, 0.0).cummax(-1).values
    ragged = dice.uniform(n, 1, low=-1.0, high=2.5) + mood > 0
    over = torch.where(dice.coin(n, 1, chance=0.5), over, torch.where(there & ragged, mood.abs(), -1.0))
    size = dice.gamma(dice.log_uniform(n, 1, low=0.3, high=10.0).expand(n, length))
    size = size / size.mean(-1, keepdim=True)
    held = torch.where(dice.coin(n, 1, chance=0.3), 1.0, over.clamp(min=0))
    x = torch.where(over > 0, held * torch.where(dice.coin(n, 1, chance=0.6), size, 1.0), 0.0)
    full = dice.log_uniform(n, 1, low=0.05, high=1.0) * x.amax(-1, keepdim=True)
    return torch.where(dice.coin(n, 1, chance=0.4), torch.minimum(x, full), x)


def angles(dice: Dice, n: int, length: int) -> Tensor:
    r"""A direction in turns, 0 to 1: it wanders about one or two, some with the day, and jumps where it closes."""
    two = dice.uniform(n, 1) + 0.3 * dice.normal(n, 1) * (autoregressive(dice, n, length) > 0)
    swing = dice.log_uniform(n, 1, low=0.03, high=0.4) * switch(
        dice, n, length, {coloured: 0.25, autoregressive: 0.25, reverting: 0.4, walk: 0.1}
    )
    breeze = dice.log_uniform(n, 1, low=0.03, high=0.3) * dice.coin(n, 1, chance=0.4)
    swing = swing + breeze * standardised(season(dice, n, length, draw_period(dice, n)))
    return (two + swing + dice.log_uniform(n, 1, low=0.003, high=0.15) * noise(dice, n, length)) % 1


# --------------------------------------------------------------------------------------------------------- seasons


def _harmonics(dice: Dice, n: int) -> Tensor:
    phase = torch.arange(GRID, device=dice.device) / GRID * 2 * math.pi
    k = torch.arange(1, 13, device=dice.device)
    decay = k.pow(-dice.uniform(n, 1, low=0.5, high=3.0)) * (k <= dice.log_uniform(n, 1, low=1, high=13))
    waves = torch.cat([torch.cos(k[:, None] * phase), torch.sin(k[:, None] * phase)])
    return (dice.normal(n, 24) * torch.cat([decay, decay], dim=1)) @ waves


def _bumps(dice: Dice, n: int) -> Tensor:
    phase = torch.arange(GRID, device=dice.device) / GRID
    shape = torch.zeros(n, GRID, device=dice.device)
    signed = dice.coin(n, 1, chance=0.3)
    for i in range(3):
        height = dice.normal(n, 1)
        height = torch.where(signed, height, height.abs()) * (dice.coin(n, 1, chance=0.6) | (i == 0))
        sharp = dice.log_uniform(n, 1, low=1.0, high=200.0)
        shape += height * (sharp * (torch.cos(2 * math.pi * (phase - dice.uniform(n, 1))) - 1)).exp()
    return shape


def _plateau(dice: Dice, n: int) -> Tensor:
    phase = torch.arange(GRID, device=dice.device) / GRID
    steep = dice.log_uniform(n, 1, low=10, high=300)
    width = dice.uniform(n, 1, low=0.1, high=0.7)
    centre = (phase - dice.uniform(n, 1)) % 1 - 0.5
    shape = torch.sigmoid(steep * (width / 2 - centre.abs()))
    dip = (-((centre / 0.04) ** 2)).exp() * dice.uniform(n, 1, high=0.5) * dice.coin(n, 1, chance=0.4)
    return shape * (1 - dip + dice.normal(n, 1) * 0.3 * centre)


def _daylight(dice: Dice, n: int) -> Tensor:
    phase = torch.arange(GRID, device=dice.device) / GRID
    sun = torch.cos(2 * math.pi * (phase - dice.uniform(n, 1))) - dice.uniform(n, 1, low=-0.6, high=0.5)
    return sun.clamp(min=0).pow(dice.uniform(n, 1, low=0.6, high=2.0))


def _saw(dice: Dice, n: int) -> Tensor:
    phase = (torch.arange(GRID, device=dice.device) / GRID + dice.uniform(n, 1)) % 1
    peak = dice.uniform(n, 1, low=0.03, high=0.97)
    return torch.minimum(phase / peak, (1 - phase) / (1 - peak)).pow(dice.log_uniform(n, 1, low=0.5, high=2.0))


def shape_of(dice: Dice, period: Tensor) -> Tensor:
    r"""Draws one cycle a row, tabulated at `GRID` phases: unit standard deviation."""
    n = len(period)
    makers = [_harmonics, _bumps, _plateau, _daylight, _saw]

    def one(weights: list[float]) -> Tensor:
        kind = dice.choice(n, weights)
        table = torch.empty(n, GRID, device=dice.device)
        for i, maker in enumerate(makers):
            where = (kind == i).nonzero().squeeze(-1)
            if len(where):
                table[where] = standardised(maker(dice, len(where)))
        return table

    share = dice.uniform(n, 1) * dice.coin(n, 1, chance=0.5)
    table = one([0.45, 0.2, 0.13, 0.12, 0.1]) + share * one([0.5, 0.2, 0.1, 0.1, 0.1])
    # each slot of the cycle with a value of its own: months, days of the week, hours with habits
    slot = (torch.arange(GRID, device=dice.device) / GRID * period).long()
    slots = standardised(dice.normal(n, GRID)).gather(1, slot.clamp(max=GRID - 1))
    amount = torch.where(dice.coin(n, 1, chance=0.15) | (period < 13) & dice.coin(n, 1, chance=0.5), 1.0, 0.0)
    amount = amount * dice.uniform(n, 1, low=0.1, high=1.0)
    return standardised((1 - amount) * standardised(table) + amount * slots)


def _per_cycle(dice: Dice, n: int, cycle: Tensor) -> Tensor:
    r"""A value a cycle, normal, correlated from cycle to cycle, read at (fractional) cycle numbers."""
    slope = dice.uniform(n, 1, low=0.0, high=2.0)
    values = coloured(dice, n, CYCLES, slope=slope)
    low = cycle.floor()
    first = values.gather(1, low.long().clamp(0, CYCLES - 2))
    second = values.gather(1, low.long().clamp(0, CYCLES - 2) + 1)
    glide = dice.coin(n, 1, chance=0.5)  # else the value jumps at the cycle's border
    return torch.where(glide, first + (cycle - low) * (second - first), first)


def draw_period(dice: Dice, n: int) -> Tensor:
    r"""Draws cycle lengths (n, 1): seven in eight off the calendar, else any, log-uniform from 3 to 400 steps."""
    table = torch.tensor(list(PERIODS), dtype=torch.float32, device=dice.device)
    calendar = table[dice.choice(n, [float(w) for w in PERIODS.values()])].unsqueeze(1)
    calendar = torch.where((calendar == 52) & dice.coin(n, 1, chance=0.7), 365.25 / 7, calendar)
    return torch.where(dice.coin(n, 1, chance=0.88), calendar, dice.log_uniform(n, 1, low=3, high=400))


def _read(table: Tensor, cycle: Tensor) -> Tensor:
    r"""Reads a tabulated cycle at (fractional) cycle numbers, between two entries on the line from one to the other."""
    where = (cycle % 1) * GRID
    low = where.long().clamp(max=GRID - 1)
    return torch.lerp(table.gather(1, low), table.gather(1, (low + 1) % GRID), where - low)


def season(dice: Dice, n: int, length: int, period: Tensor, *, restless: bool = True) -> Tensor:
    r"""A season of unit size with drifting shape, amplitude and phase, and a rhythm of the week over daily cycles."""
    t = torch.arange(length, device=dice.device)
    cycle = t / period + dice.uniform(n, 1)  # (n, length), of which the whole part numbers the cycle
    phase = cycle
    table = shape_of(dice, period)
    amplitude = torch.ones(n, length, device=dice.device)
    if restless:
        jitter = dice.log_uniform(n, 1, low=0.003, high=0.08) * dice.coin(n, 1, chance=0.25)
        phase = cycle + jitter * _per_cycle(dice, n, cycle)
        uneven = dice.log_uniform(n, 1, low=0.05, high=0.8) * dice.coin(n, 1, chance=0.5)
        amplitude = (uneven * _per_cycle(dice, n, cycle)).exp()
        drift = dice.log_uniform(n, 1, low=0.05, high=0.8) * dice.coin(n, 1, chance=0.4)
        amplitude = amplitude * (drift * level(dice, n, length)).clamp(-3, 2).exp()
    x = _read(table, phase)
    other = dice.coin(n, 1, chance=0.25).squeeze(1).nonzero().squeeze(-1)
    if restless and len(other):  # the shape itself turns into another
        fade = torch.sigmoid(2 * level(dice, len(other), length))
        x[other] = torch.lerp(x[other], _read(shape_of(dice, period[other]), phase[other]), fade)
    x = x * amplitude
    # days of the week: a weekend, or seven habits, times or plus the daily shape
    daily = (period == torch.tensor(list(DAYS), device=dice.device)).any(-1, keepdim=True) & dice.coin(n, 1, chance=0.5)
    rest = dice.uniform(n, 2, low=0.0, high=1.2)
    weekend = torch.cat([torch.ones(n, 5, device=dice.device), rest], dim=1)
    habits = (dice.normal(n, 7) * dice.log_uniform(n, 1, low=0.03, high=0.5)).exp()
    week = torch.where(dice.coin(n, 1, chance=0.6), weekend, habits)
    day = week.gather(1, ((cycle + dice.uniform(n, 1) * 7).floor() % 7).long())
    plus = dice.coin(n, 1, chance=0.5) * dice.uniform(n, 1, high=1.5)
    return torch.where(daily, x * day + plus * (day - 1), x)


# ---------------------------------------------------------------------------------------------------- whole series


def structural(dice: Dice, n: int, length: int) -> Tensor:
    r"""Level, one or two seasons and noise; added, multiplied or exponentiated."""
    period = draw_period(dice, n)
    x = standardised(season(dice, n, length, period))
    factor = torch.tensor([7.0, 2.0, 0.5, 12.0], device=dice.device)[dice.choice(n, [0.5, 0.2, 0.2, 0.1])].unsqueeze(1)
    second = torch.where(dice.coin(n, 1, chance=0.6), period * factor, draw_period(dice, n)).clamp(3, 800)
    two = dice.coin(n, 1, chance=0.3) * dice.log_uniform(n, 1, low=0.1, high=1.5)
    with_two = (two > 0).squeeze(1).nonzero().squeeze(-1)
    if len(with_two):
        x[with_two] += two[with_two] * season(dice, len(with_two), length, second[with_two])
    # a season may be faint beside what else moves: a few cycles then tell little of it
    x = x * torch.where(dice.coin(n, 1, chance=0.3), dice.log_uniform(n, 1, low=0.05, high=1.0), 1.0)
    moves = dice.coin(n, 1, chance=0.75) * dice.log_uniform(n, 1, low=0.05, high=4.0)
    base = level(dice, n, length)
    # what is measured many times a day follows the weather, or what follows it: it comes back within days
    often = ((period >= 24) & (period <= 288) & dice.coin(n, 1, chance=0.75)).squeeze(1).nonzero().squeeze(-1)
    if len(often):
        base[often] = weather(dice, len(often), length, period[often])
    base = moves * base
    yearly = (period[..., None] == torch.tensor(YEARS, device=dice.device)).any(-1)
    steps = (dice.uniform(n, 1) < torch.where(yearly, 0.2, 0.03)) * dice.log_uniform(n, 1, low=0.1, high=1.0)
    base = base + steps * yearly_steps(dice, n, length, torch.arange(length, device=dice.device) / period)
    rough = dice.log_uniform(n, 1, low=0.02, high=2.0) * noise(dice, n, length)
    # the noise is louder where the season is high, in a third of the rows
    rough = rough * (dice.coin(n, 1, chance=0.33) * dice.uniform(n, 1, high=0.8) * standardised(x).clamp(-3, 3)).exp()
    added = base + x + rough
    # the season is proportional to a positive level
    height = (base * dice.uniform(n, 1, low=0.1, high=0.6)).clamp(-4, 4).exp()
    tall = height * (dice.uniform(n, 1, low=0.3, high=3.0) + (x - x.amin(-1, keepdim=True)) + 0.7 * rough)
    steep = (dice.log_uniform(n, 1, low=0.1, high=1.2) * standardised(added)).clamp(-6, 5).exp()
    kind = dice.uniform(n, 1)
    return torch.where(kind < 0.62, added, torch.where(kind < 0.82, tall, steep))


def sensors(dice: Dice, n: int, length: int) -> Tensor:
    r"""What follows day and weather: a cycle that keeps its shape, and what is forgotten in hours or days."""
    day = torch.tensor(list(DAYS), device=dice.device)[dice.choice(n, list(DAYS.values()))].unsqueeze(1).float()
    cycle = torch.arange(length, device=dice.device) / day + dice.uniform(n, 1)
    uneven = dice.log_uniform(n, 1, low=0.05, high=0.5) * dice.coin(n, 1, chance=0.4)
    x = _read(shape_of(dice, day), cycle) * (uneven * _per_cycle(dice, n, cycle)).exp()
    x = x + dice.log_uniform(n, 1, low=0.2, high=4.0) * weather(dice, n, length, day)
    x = x + dice.log_uniform(n, 1, low=0.01, high=0.5) * dice.coin(n, 1, chance=0.6) * dice.normal(n, length)
    positive = (dice.uniform(n, 1, low=0.2) * standardised(x)).exp()
    return torch.where(dice.coin(n, 1, chance=0.3), positive, x)


def wandering(dice: Dice, n: int, length: int) -> Tensor:
    r"""Prices and the like: walks, plain or of their exponential, with a little measurement noise at times."""
    x = switch(dice, n, length, {walk: 0.86, damped_trend: 0.08, shifts: 0.06})
    x = torch.where(dice.coin(n, 1, chance=0.25), (dice.uniform(n, 1, low=0.05, high=0.8) * x).exp(), x)
    faint = dice.log_uniform(n, 1, low=0.01, high=0.3) * dice.coin(n, 1, chance=0.2)
    return standardised(x) + faint * noise(dice, n, length)


def stationary(dice: Dice, n: int, length: int) -> Tensor:
    r"""What comes back to its mean: noise of all colours, states, spells, angles; sums and products of two."""
    makers: dict[Callable[[Dice, int, int], Tensor], float] = {
        reverting: 0.34,
        coloured: 0.07,
        autoregressive: 0.07,
        smooth: 0.06,
        states: 0.12,
        spells: 0.17,
        angles: 0.17,
    }
    x, y = switch(dice, n, length, makers), switch(dice, n, length, makers)
    kind = dice.uniform(n, 1)
    x = torch.where(kind < 0.3, x + y, torch.where(kind < 0.4, x * y, x))
    faint = dice.log_uniform(n, 1, low=0.01, high=0.7) * dice.coin(n, 1, chance=0.5)
    return standardised(x) + faint * noise(dice, n, length)


def bursts(dice: Dice, n: int, length: int) -> Tensor:
    r"""Epidemics and floods: a peak a cycle, of uneven height and date, or events at any time that decay."""
    yearly = torch.where(dice.coin(n, 1, chance=0.7), 365.25 / 7, 52.0)  # in weeks
    period = torch.where(dice.coin(n, 1, chance=0.35), yearly, draw_period(dice, n).clamp(min=12))
    cycle = torch.arange(length, device=dice.device) / period + dice.uniform(n, 1)
    late = dice.log_uniform(n, 1, low=0.005, high=0.12)
    number = cycle.floor().long().clamp(max=CYCLES - 1)
    memory = coloured(dice, n, CYCLES, slope=dice.uniform(n, 1, high=1.5))
    memory = torch.where(dice.coin(n, 1, chance=0.35), dice.heavy(n, CYCLES).clamp(-4, 4), memory)
    tall = (dice.log_uniform(n, 1, low=0.15, high=1.2) * memory).exp().gather(1, number)
    when = 0.5 + late * dice.normal(n, CYCLES).clamp(-2.5, 2.5).gather(1, number)
    gap = cycle % 1 - when
    rise = dice.log_uniform(n, 1, low=0.02, high=0.2)
    fall = rise * dice.log_uniform(n, 1, low=0.7, high=2.5)
    bell = (-((gap / torch.where(gap < 0, rise, fall)) ** 2)).exp()
    peaks = tall * bell
    # events at random times, each rising at once and decaying: a first-order filter of sparse shocks
    events = dice.gamma(dice.uniform(n, 1, low=0.5, high=2.0).expand(n, length))
    events = events * (dice.uniform(n, length) < dice.log_uniform(n, 1, low=0.005, high=0.1))
    f = torch.fft.rfftfreq(2 * length, device=dice.device)
    decay = 1 - dice.log_uniform(n, 1, low=0.01, high=0.5)
    z = torch.polar(torch.ones_like(f), -2 * math.pi * f)
    shots = torch.fft.irfft(torch.fft.rfft(events, n=2 * length) / (1 - decay * z), n=2 * length)[:, :length]
    regular = dice.coin(n, 1, chance=0.6)
    x = torch.where(regular, peaks, shots / shots.amax(-1, keepdim=True).clamp(min=1e-3) * 2)
    grown = dice.coin(n, 1, chance=0.6) * dice.uniform(n, 1, high=0.8) * level(dice, n, length)
    steps = dice.coin(n, 1, chance=0.25) * dice.log_uniform(n, 1, low=0.03, high=0.3)
    grown = (grown + steps * yearly_steps(dice, n, length, cycle)).clamp(-3, 2).exp()
    floor = dice.coin(n, 1, chance=0.6) * dice.uniform(n, 1, high=0.5)
    winter = floor * standardised(season(dice, n, length, period)).clamp(-2, 3)
    rough = dice.log_uniform(n, 1, low=0.01, high=0.3) * noise(dice, n, length)
    return (x + 0.1 + 0.2 * winter) * grown * (1 + rough.clamp(-0.9, 3)) + 0.3 * rough


def counts(dice: Dice, n: int, length: int) -> Tensor:
    r"""Sales, visits, failures: Poisson or over-dispersed counts of a rate with level and season; many zeros."""
    period = draw_period(dice, n)
    x = standardised(season(dice, n, length, period)) * dice.uniform(n, 1, high=1.2) * dice.coin(n, 1, chance=0.7)
    x = x + level(dice, n, length).clamp(-4, 4) * dice.uniform(n, 1, high=0.8) * dice.coin(n, 1, chance=0.6)
    rate = dice.log_uniform(n, 1, low=0.1, high=60) * x.clamp(-5, 3).exp()
    spread = dice.log_uniform(n, 1, low=0.3, high=30).expand(n, length)
    rate = torch.where(dice.coin(n, 1, chance=0.5), rate, rate * dice.gamma(spread) / spread)
    number = dice.poisson(rate.clamp(max=1e4))
    # what is counted comes in lots, or is a sum of money, or rests for days on end
    money = number * (dice.uniform(n, 1) * dice.normal(n, length)).exp()
    number = torch.where(dice.coin(n, 1, chance=0.3), money, number)
    idle = coloured(dice, n, length) > dice.uniform(n, 1, low=-0.5, high=1.5)
    return torch.where(dice.coin(n, 1, chance=0.25) & idle, 0.0, number)


def _handled(dice: Dice, x: Tensor) -> Tensor:
    r"""What sensors and clerks do to a series: clip, fold, round, hold, upset."""
    n, length = x.shape
    y = standardised(x)
    low, high = dice.uniform(n, 1, low=-2.0, high=0.6), dice.uniform(n, 1, low=-0.2, high=2.0)
    kind = dice.uniform(n, 1)
    y = torch.where(kind < 0.04, y.clamp(min=low), y)
    y = torch.where((kind > 0.04) & (kind < 0.06), torch.minimum(y, high), y)
    y = torch.where((kind > 0.06) & (kind < 0.07), torch.sigmoid(2 * y), y)
    y = torch.where((kind > 0.07) & (kind < 0.08), (y - low).abs(), y)
    y = torch.where((kind > 0.08) & (kind < 0.09), (y - low).square(), y)
    y = torch.where((kind > 0.09) & (kind < 0.10), torch.where(y > low, y, low - 1), y)
    step = dice.log_uniform(n, 1, low=0.01, high=0.7)
    y = torch.where(dice.coin(n, 1, chance=0.12), (y / step).round() * step, y)
    # a stuck sensor repeats its last value for a while
    start = (dice.uniform(n, 1) * length).long()
    t = torch.arange(length, device=x.device)
    stuck = (t >= start) & (t < start + dice.log_uniform(n, 1, low=3, high=length / 4)) & dice.coin(n, 1, chance=0.03)
    y = torch.where(stuck, y.gather(1, start), y)
    spike = (dice.uniform(n, length) < 0.004) & dice.coin(n, 1, chance=0.05)
    return torch.where(spike, y + dice.normal(n, length) * 5, y)


KINDS: dict[Callable[[Dice, int, int], Tensor], float] = {
    structural: 0.32,
    wandering: 0.15,
    stationary: 0.14,
    sensors: 0.14,
    reverting: 0.07,
    spells: 0.05,
    bursts: 0.08,
    counts: 0.05,
}


def draw_series(dice: Dice, n: int, length: int) -> Tensor:
    r"""Draws series from the prior.

    Arguments:
        dice: The source of randomness; it also fixes the device.
        n: How many.
        length: Their number of steps.

    Returns:
        The series, of zero mean and unit standard deviation a row, with shape (n, length).
    """
    return standardised(_handled(dice, switch(dice, n, length, KINDS)))


def draw_windows(
    dice: Dice, pool: Tensor, n: int, *, flipped: float = 0.2, short: float = 0.1, missing: float = 0.15
) -> Tensor:
    r"""Draws training windows from a pool of series: mixed, flipped, cut short, with gaps.

    What peaks in nature mostly peaks upwards (epidemics, rain, sales), so most windows keep their sign.

    Arguments:
        dice: The source of randomness.
        pool: Series, with shape (N, length).
        n: How many windows.
        flipped: The share of windows that are turned upside down.
        short: The share of windows that begin late, by up to four fifths of their length.
        missing: The share of windows with missing stretches or steps.

    Returns:
        The windows, with shape (n, length). NaN marks a missing step.
    """
    length = pool.shape[1]
    pick = (dice.uniform(2, n) * len(pool)).long()
    share = dice.uniform(n, 1, low=0.0, high=0.5) * dice.coin(n, 1, chance=0.35)
    x = pool[pick[0]] * (1 - share) + share * pool[pick[1]]
    x = torch.where(dice.coin(n, 1, chance=flipped), -x, x)
    t = torch.arange(length, device=pool.device)
    few = dice.coin(n, 1, chance=missing)
    lone = dice.uniform(n, length) < dice.uniform(n, 1, high=0.4) * dice.coin(n, 1, chance=0.5)
    start = dice.uniform(n, 1) * length
    gap = (t >= start) & (t < start + dice.log_uniform(n, 1, low=2, high=length / 3))
    # measured less often than dated: every second to twelfth step alone
    every = 2 + (dice.uniform(n, 1) * 11).long()
    coarse = t % every != 0
    gone = torch.where(dice.coin(n, 1, chance=0.2), coarse, lone | gap)
    late = t < dice.uniform(n, 1, high=0.8) * length * dice.coin(n, 1, chance=short)
    return torch.where(late | few & gone, float("nan"), x)
