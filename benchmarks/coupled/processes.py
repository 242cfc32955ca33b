r"""Simulated coupled channels whose conditional distribution, given all rows before the origin, is known exactly."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import scoringrules
import torch
from scipy.special import ndtr, ndtri
from torch import Tensor

BURN_IN = 1000  # rows before the first one that is kept


@dataclass(frozen=True, eq=False)
class Law:
    r"""Joint distribution of windows: normal, or the exponential of a normal distribution.

    Arguments:
        mean: The means of the normal distribution, with shape (n, H, D).
        covariance: Its covariance, the same for all windows, with shape (H, D, H, D).
        positive: Whether values are exponentials of it.
    """

    mean: np.ndarray
    covariance: np.ndarray
    positive: bool

    @cached_property
    def deviation(self) -> np.ndarray:
        r"""The standard deviations of the normal distribution, (H, D)."""
        _, horizon, channels = self.mean.shape
        square = self.covariance.reshape(horizon * channels, -1)
        deviation: np.ndarray = np.sqrt(square.diagonal()).reshape(horizon, channels)
        return deviation

    def expectation(self) -> np.ndarray:
        r"""The means of the values, (n, H, D)."""
        return np.exp(self.mean + 0.5 * self.deviation**2) if self.positive else self.mean

    def quantiles(self, levels: np.ndarray) -> np.ndarray:
        r"""The quantiles of each cell, (n, H, D, Q)."""
        normal = self.mean[..., None] + self.deviation[..., None] * ndtri(np.asarray(levels))
        return np.exp(normal) if self.positive else normal

    def pit(self, values: np.ndarray) -> np.ndarray:
        r"""The probability that a cell lies below its value, (n, H, D)."""
        normal = np.log(values) if self.positive else values
        below: np.ndarray = ndtr((normal - self.mean) / self.deviation)
        return below

    def crps(self, values: np.ndarray) -> np.ndarray:
        r"""The CRPS of each cell in closed form (Gneiting and Raftery, 2007; Baran and Lerch, 2015), (n, H, D)."""
        closed = scoringrules.crps_lognormal if self.positive else scoringrules.crps_normal
        return np.asarray(closed(values, self.mean, np.broadcast_to(self.deviation, values.shape)))

    def sample(self, number: int, seed: int) -> np.ndarray:
        r"""Independent joint paths, (S, n, H, D)."""
        windows, horizon, channels = self.mean.shape
        size = horizon * channels
        root = np.linalg.cholesky(self.covariance.reshape(size, size))
        shocks = np.random.default_rng(seed).standard_normal((number, windows, size)) @ root.T
        normal = self.mean + shocks.reshape(number, windows, horizon, channels)
        return np.exp(normal) if self.positive else normal


@dataclass(frozen=True, eq=False)
class Simulated:
    r"""Rows (T, D), and the law of the H rows from each origin on, given all rows before it."""

    values: np.ndarray
    law: Callable[[np.ndarray, int], Law]


# ---------------------------------------------------------------------------------------------------- autoregressions


@dataclass(frozen=True, eq=False)
class Autoregression:
    r"""Channels that follow others at lags, with autoregressive noise of their own: a stationary VAR(p).

    .. math:: y_t = \mu + \sum_j C_j (y_{t-j} - \mu) + u_t, \quad u_t = R u_{t-1} + \varepsilon_t

    so that :math:`A_j = C_j - R C_{j-1} + [j = 1] R`. No channel follows itself through others, so that it is
    stationary if the persistences lie within (-1, 1).

    Arguments:
        follows: The effect of one channel on another at a lag, by (channel, followed channel, lag).
        persistence: The diagonal of R, with shape (D,).
        deviation: The standard deviations of the independent shocks, with shape (D,).
        level: The means, with shape (D,).
        positive: Whether the rows are exponentials of y.
    """

    follows: Mapping[tuple[int, int, int], float]
    persistence: np.ndarray
    deviation: np.ndarray
    level: np.ndarray
    positive: bool = False

    @cached_property
    def lags(self) -> np.ndarray:
        r"""The matrices A of the VAR, with shape (p, D, D)."""
        channels = len(self.persistence)
        effects = np.zeros((max(lag for _, _, lag in self.follows) + 2, channels, channels))  # C of lag 0 first
        for (channel, followed, lag), effect in self.follows.items():
            effects[lag, channel, followed] = effect
        lags = effects[1:] - self.persistence[:, None] * effects[:-1]
        lags[0] += np.diag(self.persistence)
        return lags

    @property
    def companion(self) -> np.ndarray:
        r"""The companion matrix, (pD, pD): it maps the last p rows, the newest first, to the next ones."""
        order, channels, _ = self.lags.shape
        matrix = np.eye(order * channels, k=-channels)
        matrix[:channels] = self.lags.swapaxes(0, 1).reshape(channels, -1)
        return matrix

    def moments(self, horizon: int) -> tuple[np.ndarray, np.ndarray]:
        r"""The map from the last p rows (p, D) to the means of the next ones (H, D), and their covariance."""
        order, channels, _ = self.lags.shape
        power, maps, responses = np.eye(order * channels), [], []
        for _ in range(horizon):
            responses.append(power[:channels, :channels] * self.deviation)
            power = self.companion @ power
            maps.append(power[:channels].reshape(channels, order, channels))
        causes = np.zeros((horizon, channels, horizon, channels))  # of each step, by the shocks of each step
        for step in range(horizon):
            for shock in range(step + 1):
                causes[step, :, shock] = responses[step - shock]
        square = causes.reshape(horizon * channels, -1)
        return np.stack(maps), (square @ square.T).reshape(causes.shape)

    def simulate(self, rows: int, seed: int) -> Simulated:
        order, channels, _ = self.lags.shape
        generator = np.random.default_rng(seed)
        shocks = generator.standard_normal((BURN_IN + rows, channels)) * self.deviation
        y = np.zeros((order + BURN_IN + rows, channels))
        for step, shock in enumerate(shocks, start=order):
            y[step] = np.einsum("pdc,pc->d", self.lags, y[step - order : step][::-1]) + shock
        y = self.level + y[-rows:]

        def law(origins: np.ndarray, horizon: int) -> Law:
            maps, covariance = self.moments(horizon)
            past = np.stack([y[origin - order : origin][::-1] for origin in origins]) - self.level  # (n, p, D)
            return Law(self.level + np.einsum("hdpc,npc->nhd", maps, past), covariance, self.positive)

        return Simulated(np.exp(y) if self.positive else y, law)


def lead_lag() -> Autoregression:
    r"""Two drivers, AR(1), and six channels that follow one of them 6 to 24 rows later: 81 % of their variance."""
    drivers, lags, signs = (0, 1, 0, 1, 0, 1), (6, 10, 14, 18, 21, 24), (1, 1, -1, 1, 1, -1)
    follows = {
        (2 + n, driver, lag): 0.9 * sign for n, (driver, lag, sign) in enumerate(zip(drivers, lags, signs, strict=True))
    }
    persistence = np.array([0.8] * 2 + [0.5] * 6)
    variance = np.array([1.0] * 2 + [1 - 0.9**2] * 6)
    return Autoregression(follows, persistence, np.sqrt(variance * (1 - persistence**2)), np.zeros(8))


def river() -> Autoregression:
    r"""Logarithms of the flow at eight gauges: 0 and 1 are headwaters, whose waves meet at gauge 5.

    A wave reaches the next gauge 3 to 6 rows later, spread over three rows and attenuated to nine tenths; where two
    rivers meet, each contributes a part. Local inflow is autoregressive. Flow is positive.
    """
    reaches = {(2, 0): (4, 0.9), (3, 2): (5, 0.9), (4, 1): (6, 0.9), (5, 3): (3, 0.55), (5, 4): (4, 0.45),
               (6, 5): (5, 0.9), (7, 6): (6, 0.9)}  # fmt: skip
    follows = {
        (gauge, upstream, time + offset): part * weight
        for (gauge, upstream), (time, part) in reaches.items()
        for offset, weight in ((-1, 0.25), (0, 0.5), (1, 0.25))
    }
    persistence = np.array([0.95] * 2 + [0.8] * 6)
    stationary = np.array([0.6] * 2 + [0.12] * 6)  # standard deviations of inflow
    level = np.log([20.0, 15.0, 30.0, 40.0, 25.0, 80.0, 90.0, 100.0])
    return Autoregression(follows, persistence, stationary * np.sqrt(1 - persistence**2), level, positive=True)


# ---------------------------------------------------------------------------------------------------- sinusoids


def sinusoids(rows: int, seed: int, noise: float = 0.3) -> Simulated:
    r"""Five sinusoids mixed into eight channels (Benechehab et al., 2025), with white noise.

    Periods are log-uniform between 8 and 96 rows, phases uniform, the mixing matrix is standard normal and scaled so
    that each channel has variance one. `noise` is the standard deviation of the noise beside it; the paper states none.
    The law given the past knows periods, phases and mixture.
    """
    generator = np.random.default_rng(seed)
    periods = np.exp(generator.uniform(np.log(8), np.log(96), 5))
    phases, mixing = generator.uniform(0, 2 * np.pi, 5), generator.standard_normal((5, 8))
    mixing /= np.sqrt((mixing**2).sum(0) / 2)
    signal = np.sin(2 * np.pi * np.arange(rows)[:, None] / periods + phases) @ mixing
    values = signal + noise * generator.standard_normal(signal.shape)

    def law(origins: np.ndarray, horizon: int) -> Law:
        mean = np.stack([signal[origin : origin + horizon] for origin in origins])
        size = horizon * mean.shape[2]
        return Law(mean, noise**2 * np.eye(size).reshape(horizon, -1, horizon, mean.shape[2]), positive=False)

    return Simulated(values, law)


PROCESSES: dict[str, Callable[[int, int], Simulated]] = {
    "sinusoids": sinusoids,
    "lead-lag VAR": lambda rows, seed: lead_lag().simulate(rows, seed),
    "river": lambda rows, seed: river().simulate(rows, seed),
}


def tensor(values: np.ndarray) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(values, dtype=np.float64))
