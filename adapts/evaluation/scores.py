r"""Scores of probabilistic forecasts, with formulas and references.

All functions here are pure functions of tensors. The score of a missing (NaN) observation is NaN, and a joint score
is computed over the observed cells. Lower is better for all scores but the coverage.
"""

from __future__ import annotations

__all__ = [
    "DECILES",
    "band_coverage",
    "bootstrap_inflation",
    "by_regime",
    "coverage",
    "crps_fair",
    "crps_sum",
    "dawid_sebastiani",
    "energy_score",
    "interval_score",
    "naive_error",
    "pinball",
    "pit_deviations",
    "pit_ece",
    "pit_ece_floor",
    "pit_ks",
    "pit_ks_floor",
    "recent_volatility",
    "variogram_score",
    "wql",
]

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from ..batching import slices
from ..calibration.joint_bands import JOINT
from ..data.times import Times, require_times
from ..statistics import losses
from ..statistics.losses import pinball_loss

#: The number of bootstrap resamples of windows that estimate random deviations.
RESAMPLES = 200
DECILES = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)

_CHUNK = 2**22  # float64 numbers in one temporary array: 32 MiB, small relative to the samples
_ROUNDING = 1e-12  # the fraction of the largest value up to which differences are rounding errors
_SINGULAR = 1e-10  # the least fraction of an entry's variance that the entries before it do not explain


def crps_fair(samples: Tensor, y: Tensor) -> Tensor:
    r"""Continuous ranked probability score (CRPS), fair (unbiased) estimate from samples.

    .. math:: \frac{1}{S} \sum_s |x_s - y| - \frac{1}{2 S (S - 1)} \sum_{s, t} |x_s - x_t|

    Its expectation is the CRPS of the predictive distribution, for any number of independent samples. On stratified
    samples it is too low, by less than the scale of the distribution over :math:`S`.

    References:
        | Fair scores for ensemble forecasts (Ferro, 2014)
        | https://doi.org/10.1002/qj.2270

    Arguments:
        samples: Samples of the predictive distribution, with shape :math:`(S, *)`, :math:`S \geq 2`.
        y: The observations, with shape :math:`(*)`. NaN is missing.

    Returns:
        The scores in the units of `y`, with shape :math:`(*)`, float64; NaN where `y` is.

    Example:
        >>> crps_fair(torch.tensor([0.0, 1.0, 3.0]), torch.tensor(1.0))
        tensor(0., dtype=torch.float64)
    """
    import scoringrules

    num_samples = len(samples)
    flat, truth = samples.reshape(num_samples, -1), y.double().reshape(-1)
    scores = torch.empty_like(truth)
    for chunk in slices(len(truth), num_samples, _CHUNK):
        # Subtract the observations: the moments below would suffer cancellation for channels far from zero.
        errors = (flat[:, chunk].double() - truth[chunk]).mT
        zero = errors.new_zeros(()).expand(errors.shape[0])
        # Probability weighted moments give the fair estimate by sorting, instead of all pairs.
        scores[chunk] = scoringrules.crps_ensemble(zero, errors, estimator="pwm", backend="torch")
    return scores.reshape(y.shape)


def pinball(quantiles: Tensor, y: Tensor, levels: Tensor) -> Tensor:
    r"""Pinball loss of quantiles, :math:`\max(\tau (y - q), (\tau - 1) (y - q))`.

    References:
        | Regression quantiles (Koenker and Bassett, 1978)
        | https://doi.org/10.2307/1913643

    Arguments:
        quantiles: The quantiles, with shape :math:`(*, Q)`.
        y: The observations, with shape :math:`(*)`. NaN is missing.
        levels: The levels :math:`\tau`, with shape :math:`(Q,)`.

    Returns:
        The losses in the units of `y`, with shape :math:`(*, Q)`, float64; NaN where `y` is.
    """
    return pinball_loss(y.double()[..., None] - quantiles.double(), levels.double())


def wql(quantiles: Tensor, y: Tensor, levels: Tensor | None = None) -> Tensor:
    r"""Quantile loss: twice the mean pinball loss over levels, by default the deciles.

    It converges to the CRPS as levels are added. Weights (division by the sum of :math:`|y|` in the M-competitions) are
    left to the caller.

    Arguments:
        quantiles: The quantiles, with shape :math:`(*, Q)`.
        y: The observations, with shape :math:`(*)`. NaN is missing.
        levels: The levels, with shape :math:`(Q,)`; the nine deciles if None.

    Returns:
        The losses in the units of `y`, with shape :math:`(*)`, float64; NaN where `y` is.
    """
    return 2 * pinball(quantiles, y, torch.tensor(DECILES, dtype=torch.float32) if levels is None else levels).mean(-1)


def interval_score(lower: Tensor, upper: Tensor, y: Tensor, level: float = 0.8) -> Tensor:
    r"""Interval score: the width of a central interval, plus a penalty for observations outside.

    .. math:: (u - l) + \frac{2}{\alpha} (l - y)^+ + \frac{2}{\alpha} (y - u)^+, \qquad \alpha = 1 - level

    Proper for the two quantiles: it is :math:`2 / \alpha` times the sum of their `pinball` losses.

    References:
        | Strictly proper scoring rules, prediction, and estimation (Gneiting and Raftery, 2007), section 6.2
        | https://doi.org/10.1198/016214506000001437

    Arguments:
        lower: The lower ends, the quantiles of level :math:`\alpha / 2`, with shape :math:`(*)`.
        upper: The upper ends, the quantiles of level :math:`1 - \alpha / 2`, with shape :math:`(*)`.
        y: The observations, with shape :math:`(*)`. NaN is missing.
        level: The nominal coverage, within (0, 1).

    Returns:
        The scores in the units of `y`, with shape :math:`(*)`, float64; NaN where `y` is.

    Example:
        >>> interval_score(torch.tensor(0.0), torch.tensor(2.0), torch.tensor(2.5), level=0.8)
        tensor(7.0000, dtype=torch.float64)
    """
    lower, upper, y = lower.double(), upper.double(), y.double()
    outside = (lower - y).clamp(min=0) + (y - upper).clamp(min=0)
    return upper - lower + 2 / (1 - level) * outside


def coverage(pit: Tensor, level: float = 0.8) -> Tensor:
    r"""Indicator of observations in the central interval, from their randomised PITs.

    The mean over cells is the coverage. PITs are randomised where the predictive distribution has atoms, as irradiance
    at night. A calibrated distribution then covers exactly `level` there too; "lower <= y <= upper" would cover more.

    References:
        | Predictive model assessment for count data (Czado, Gneiting and Held, 2009)
        | https://doi.org/10.1111/j.1541-0420.2009.01191.x

    Arguments:
        pit: Randomised PITs, of any shape. NaN is missing.
        level: The nominal coverage.

    Returns:
        One inside, zero outside, NaN where `pit` is, float64.
    """
    tail = (1 - level) / 2
    return ((pit >= tail) & (pit <= 1 - tail)).double().masked_fill(pit.isnan(), math.nan)


def band_coverage(lower: Tensor, upper: Tensor, y: Tensor, joint: str = "all") -> Tensor:
    r"""Indicator of paths that lie inside a joint prediction band in every cell.

    The mean over windows estimates the coverage that `Forecast.band` states. The ends count as inside, so that a band
    covers more than stated where the predictive distribution has atoms.

    Arguments:
        lower: The lower ends, with shape :math:`(n, H, D)`.
        upper: The upper ends, with shape :math:`(n, H, D)`.
        y: The observations, with shape :math:`(n, H, D)`. NaN is missing; only observed cells of a path count.
        joint: The cells of a path, as for the band: "time" (all steps of a channel), "channels" (all channels at a
            step) or "all".

    Returns:
        One inside, zero outside, NaN if no cell of a path is observed, float64; with shape :math:`(n, D)` for "time",
        :math:`(n, H)` for "channels", and :math:`(n,)` for "all".

    Raises:
        ValueError: If `joint` is none of these.
    """
    if joint not in JOINT:
        raise ValueError(f"band_coverage expects joint to be 'time', 'channels' or 'all', got {joint!r}")
    missing = y.isnan()
    outside = ((y < lower) | (y > upper)).double()  # False for NaN
    return (1 - outside.amax(JOINT[joint])).masked_fill(missing.double().amin(JOINT[joint]) > 0, math.nan)


def naive_error(rows: np.ndarray, season_length: int) -> np.ndarray:
    r"""Mean absolute error of the seasonal naive forecast within a sample, the unit of the MASE.

    .. math:: \frac{1}{T - m} \sum_{t = m + 1}^T |x_t - x_{t - m}|

    References:
        | Another look at measures of forecast accuracy (Hyndman and Koehler, 2006)
        | https://doi.org/10.1016/j.ijforecast.2006.03.001

    Arguments:
        rows: The rows before the forecasts, with shape :math:`(T, D)`, oldest first. NaN is missing; only pairs of
            observed values count.
        season_length: The number of rows in a season, :math:`m`.

    Returns:
        The error of each channel, with shape :math:`(D,)`; NaN if no two observed values are a season apart, or all of
        them are equal up to rounding, as in a constant channel.

    Example:
        >>> naive_error(np.array([[1.0, 5.0], [2.0, 5.0], [4.0, 5.0]]), season_length=1)
        array([1.5, nan])
    """
    differences = np.abs(rows[season_length:] - rows[:-season_length])
    observed = ~np.isnan(differences)
    error: np.ndarray = np.nansum(differences, axis=0) / np.maximum(observed.sum(axis=0), 1)
    largest = np.fmax.reduce(np.abs(rows), axis=0, initial=0.0)
    return np.where(error > _ROUNDING * largest, error, math.nan)


def recent_volatility(past: Tensor, steps: int) -> Tensor:
    r"""Recent volatility of each channel: the root mean square of its last differences between rows.

    Arguments:
        past: The rows before each window's origin, with shape :math:`(n, L, D)`. NaN is missing.
        steps: The number of differences, the last ones.

    Returns:
        The volatilities, with shape :math:`(n, D)`, float64; NaN where no difference is observed.
    """
    return past[:, -(steps + 1) :].double().diff(dim=1).square().nanmean(1).sqrt()


def by_regime(scores: Tensor, volatility: Tensor) -> tuple[Tensor, Tensor]:
    r"""Separate the scores of calm windows from those of volatile windows.

    A window is calm for a channel if its volatility is at most the median of that channel over all windows, and
    volatile if it is above. A predictive distribution whose width follows the volatility covers equally in both. One
    that is calibrated on average only covers too much in calm regimes, and too little in volatile ones.

    References:
        | Evaluating interval forecasts (Christoffersen, 1998)
        | https://doi.org/10.2307/2527341

    Arguments:
        scores: Scores of cells, such as those of `coverage`, with shape :math:`(n, H, D)`.
        volatility: The volatility before each window (see `recent_volatility`), with shape :math:`(n, D)`. NaN is
            unknown, and belongs to neither.

    Returns:
        The scores of the calm and of the volatile windows, each with shape :math:`(n, H, D)`; NaN for other windows.
    """
    median = volatility.nanmedian(0).values
    calm, volatile = (volatility <= median)[:, None], (volatility > median)[:, None]  # (n, 1, D)
    return scores.where(calm, math.nan), scores.where(volatile, math.nan)


def pit_ece(pit: Tensor) -> Tensor:
    r"""Expected calibration error of PITs: the mean distance of the sorted PITs from evenly spaced ones.

    .. math:: \frac{1}{n} \sum_{i = 1}^n \left| u_{(i)} - \frac{i - .5}{n} \right|

    It is zero at best, 0.25 for a point forecast with half of the observations on either side, and 0.5 at worst. A
    finite sample gives a positive value by chance alone: see `pit_ece_floor`.

    References:
        | Accurate uncertainties for deep learning using calibrated regression (Kuleshov et al., 2018)
        | https://arxiv.org/abs/1807.00263

    Arguments:
        pit: Randomised PITs, with shape :math:`(n, *)`. NaN is missing.

    Returns:
        The error of each column, with shape :math:`(*)`, float64; NaN without observations.

    Example:
        >>> pit_ece(torch.tensor([0.5, 0.0, 1.0, 0.5]))
        tensor(0.1250, dtype=torch.float64)
    """
    count = (~pit.isnan()).sum(0)
    even = torch.arange(len(pit), dtype=torch.float64, device=pit.device) + 0.5
    even = even.reshape(-1, *[1] * (pit.ndim - 1)) / count
    return (pit.double().sort(dim=0).values - even).abs().nansum(0) / count  # NaN are sorted last


def pit_ks(pit: Tensor) -> Tensor:
    r"""Kolmogorov-Smirnov distance of PITs: the largest distance of their distribution function from the uniform one.

    .. math:: \max_i \max \left( \frac{i}{n} - u_{(i)}, u_{(i)} - \frac{i - 1}{n} \right)

    It is the error at the worst level, where `pit_ece` is the mean over all. Tables of the Kolmogorov-Smirnov test are
    invalid for dependent windows: see `pit_ks_floor` for the value by chance.

    References:
        | Evaluating density forecasts (Diebold, Gunther and Tay, 1998)
        | https://doi.org/10.2307/2527342

    Arguments:
        pit: Randomised PITs, with shape :math:`(n, *)`. NaN is missing.

    Returns:
        The distance of each column, with shape :math:`(*)`, float64; NaN without observations.

    Example:
        >>> pit_ks(torch.tensor([0.5, 0.75]))
        tensor(0.5000, dtype=torch.float64)
    """
    count = (~pit.isnan()).sum(0)
    rank = torch.arange(1, len(pit) + 1, dtype=torch.float64, device=pit.device).reshape(-1, *[1] * (pit.ndim - 1))
    ordered = pit.double().sort(dim=0).values  # NaN last
    distance = torch.maximum(rank / count - ordered, ordered - (rank - 1) / count)
    return distance.nan_to_num(0.0).amax(0).masked_fill(count == 0, math.nan)


def pit_deviations(
    pit: Tensor,
    time: Times,
    *,
    last_lead: int | None = None,
    levels: Sequence[float] | np.ndarray | None = None,
    seed: int = 0,
) -> Tensor:
    r"""Bootstrap deviations of a calibrated distribution's PIT curve from the diagonal, by chance, on the same windows.

    PITs are dependent: the steps of one window share shocks, and so do windows whose targets overlap. PITs of a
    calibrated distribution are independent only beyond :math:`H` rows. Hence the PITs of each step are replaced by
    their ranks over the windows, with uniform noise within ranks. This makes them uniform, as under calibration, and
    keeps the dependence of steps and windows. Blocks of windows that span :math:`H` rows are then drawn with
    replacement from the circle of origins (the circular block bootstrap of the empirical process).

    The deviations are multiplied by `bootstrap_inflation`, because this bootstrap underestimates them. Calibrated
    distributions were simulated with white, autoregressive and random-walk shocks. The mean absolute deviation was
    within 10 % of the true one for ten or more windows without overlap, and for overlapping windows whose origins span
    at least :math:`10 H` rows.

    References:
        | A circular block-resampling procedure for stationary data (Politis and Romano, 1992)
        | The jackknife and the bootstrap for general stationary observations (Künsch, 1989)

    Arguments:
        pit: Randomised PITs of the windows, with shape :math:`(n, H, *)`. NaN is missing.
        time: The origin times of the windows (`Windows.time`). Windows of several items that begin together stay
            together.
        last_lead: The number of rows from a window's origin to the end of its last step, :math:`H` if None. Required
            if `pit` holds only a block of the steps.
        levels: The levels at which the curves are compared, with shape :math:`(G,)`, increasing within (0, 1); the
            midpoints of 100 equal bins if None.
        seed: The seed of the resampling.

    Returns:
        Deviations of the fraction of PITs below a level from the level, with shape :math:`(R, G, *)` for
        :math:`R = 200` resamples, float64; NaN if there is only one origin.
    """
    rng = np.random.default_rng(seed)
    num_windows, leads, *channel_shape = pit.shape
    cells = pit.detach().cpu().double().reshape(num_windows, leads, -1).numpy()
    channels = cells.shape[-1]
    rows, origin = np.unique(require_times(time).step, return_inverse=True)
    num_origins = len(rows)

    observed = ~np.isnan(cells)
    rank = cells.argsort(axis=0).argsort(axis=0) + rng.random(cells.shape)
    even = rank / observed.sum(axis=0).clip(1)  # (n, H, D) uniform
    thresholds = (np.arange(100) + 0.5) / 100 if levels is None else np.asarray(levels, dtype=float)
    grid = len(thresholds)
    bins = np.searchsorted(thresholds, even)  # first level at or above it
    cell = (np.arange(channels) * num_origins + origin[:, None, None]) * (grid + 1) + bins
    below = np.bincount(cell[observed], minlength=channels * num_origins * (grid + 1))
    below = below.reshape(channels, num_origins, grid + 1).cumsum(-1)
    num_cells = below[..., -1:]  # (D, origins, 1)
    below = below[..., :-1]  # (D, origins, G)

    span = leads if last_lead is None else last_lead
    block = max(1, min(num_origins, int((np.abs(rows[:, None] - rows) < span).sum(axis=1).max() + 1) // 2))
    inflation = bootstrap_inflation(rows, span, block)

    starts = rng.integers(0, num_origins, (RESAMPLES, -(-num_origins // block)))
    drawn = ((starts[..., None] + np.arange(block)) % num_origins).reshape(RESAMPLES, -1)[:, :num_origins]
    drawn += num_origins * np.arange(RESAMPLES)[:, None]
    weights = np.bincount(drawn.ravel(), minlength=RESAMPLES * num_origins).reshape(RESAMPLES, num_origins)
    with np.errstate(invalid="ignore"):
        curves = (weights @ below) / (weights @ num_cells)  # (D, R, G)
        deviations = (curves - below.sum(1, keepdims=True) / num_cells.sum(1, keepdims=True)) * inflation
    return torch.from_numpy(deviations.transpose(1, 2, 0).reshape(RESAMPLES, grid, *channel_shape))


def bootstrap_inflation(rows: np.ndarray, span: int, block: int) -> float:
    r"""Factor by which a circular block bootstrap underestimates the standard deviation of a mean over windows.

    Block borders cut dependence, and centring on the mean of few blocks removes variance. Both losses have closed forms
    if the correlation of windows is their overlap, :math:`r(\Delta) = \max(0, 1 - \Delta / H)`.

    Arguments:
        rows: The distinct rows at which windows begin, with shape :math:`(n,)`.
        span: The number of rows from a window's origin to its last step, :math:`H`.
        block: The number of origins in a block.

    Returns:
        The ratio of the true standard deviation to that of the bootstrap; NaN if there is only one block.

    Example:
        >>> round(bootstrap_inflation(np.arange(10), 1, 1), 3)  # independent: the square root of 10 / 9
        1.054
    """
    num_origins = len(rows)
    overlap = (1 - np.abs(rows[:, None] - rows) / span).clip(0)
    distance = np.abs(np.arange(num_origins)[:, None] - np.arange(num_origins))
    retained = (1 - np.minimum(distance, num_origins - distance) / block).clip(0)  # the dependence within blocks
    centred = overlap - overlap.mean(0) - overlap.mean(1)[:, None] + overlap.mean()
    variance = (retained * centred).mean()
    return math.sqrt(overlap.mean() / variance) if variance > 1e-9 else math.nan


def pit_ece_floor(pit: Tensor, time: Times, *, last_lead: int | None = None, seed: int = 0) -> Tensor:
    r"""Expected `pit_ece` of a calibrated distribution on the same windows, by chance.

    It is the mean absolute value of `pit_deviations`, which describes the method. A PIT-ECE near its floor cannot be
    distinguished from calibration on these windows.

    Arguments:
        pit: Randomised PITs of the windows, with shape :math:`(n, H, *)`, as scored. NaN is missing.
        time: The origin times of the windows (`Windows.time`).
        last_lead: The number of rows from a window's origin to the end of its last step, :math:`H` if None.
        seed: The seed of the resampling.

    Returns:
        The floor of the PIT-ECE over windows and horizon steps, with shape :math:`(*)`, float64; NaN if there is only
        one origin.
    """
    return pit_deviations(pit, time, last_lead=last_lead, seed=seed).abs().mean((0, 1))


def pit_ks_floor(pit: Tensor, time: Times, *, last_lead: int | None = None, seed: int = 0) -> Tensor:
    r"""Expected `pit_ks` of a calibrated distribution on the same windows, by chance.

    It is the mean over resamples of the largest absolute value of `pit_deviations` on their 100 levels.

    Arguments:
        pit: Randomised PITs of the windows, with shape :math:`(n, H, *)`, as scored. NaN is missing.
        time: The origin times of the windows (`Windows.time`).
        last_lead: The number of rows from a window's origin to the end of its last step, :math:`H` if None.
        seed: The seed of the resampling.

    Returns:
        The floor of the distance over windows and horizon steps, with shape :math:`(*)`, float64; NaN if there is only
        one origin.
    """
    return pit_deviations(pit, time, last_lead=last_lead, seed=seed).abs().amax(1).mean(0)


def energy_score(samples: Tensor, y: Tensor) -> Tensor:
    r"""Energy score, the multivariate CRPS, fair (unbiased) estimate from samples.

    .. math:: \frac{1}{S} \sum_s \|x_s - y\| - \frac{1}{2 S (S - 1)} \sum_{s, t} \|x_s - x_t\|

    Proper for the joint distribution, but hardly sensitive to dependence: report `variogram_score` as well.

    References:
        | Strictly proper scoring rules, prediction, and estimation (Gneiting and Raftery, 2007)
        | https://doi.org/10.1198/016214506000001437

    Arguments:
        samples: Samples of each window's vector, with shape :math:`(S, n, V)`, :math:`S \geq 2`.
        y: The observed vectors, with shape :math:`(n, V)`. NaN is missing; norms are over the observed entries.

    Returns:
        The scores, with shape :math:`(n,)`, float64; NaN if no entry of a vector is observed.
    """
    num_samples, num_windows, entries = samples.shape
    scores = y.new_empty(num_windows, dtype=torch.float64)
    for chunk in slices(num_windows, num_samples * max(entries, num_samples), _CHUNK):
        errors = (samples[:, chunk].double() - y[chunk].double()).nan_to_num(0.0).transpose(0, 1)  # (n, S, V)
        scores[chunk] = losses.energy_score(errors)
    return scores.masked_fill(y.isnan().all(-1), math.nan)


def crps_sum(samples: Tensor, y: Tensor) -> Tensor:
    r"""CRPS of the sum of the channels, fair (unbiased) estimate from joint samples.

    Neither channels nor score are scaled: convert the channels to comparable units first. Dependence of channels makes
    the distribution of the total wider or narrower than under independence. The score is blind to dependence that does
    not affect the total.

    References:
        | High-dimensional multivariate forecasting with low-rank Gaussian copula processes (Salinas et al., 2019)
        | https://arxiv.org/abs/1910.03002

    Arguments:
        samples: Joint samples, with shape :math:`(S, *, D)`, :math:`S \geq 2`.
        y: The observations, with shape :math:`(*, D)`. NaN is missing; the sum is over the observed channels.

    Returns:
        The scores in the units of `y`, with shape :math:`(*)`, float64; NaN if no channel is observed.

    Example:
        >>> crps_sum(torch.tensor([[0.0, 0.0], [1.0, 0.0], [1.0, 2.0]]), torch.tensor([2.0, 3.0]))
        tensor(2.6667, dtype=torch.float64)
    """
    missing = y.isnan()
    total = samples.masked_fill(missing, 0.0).sum(-1, dtype=torch.float64)
    return crps_fair(total, y.double().nansum(-1)).masked_fill(missing.all(-1), math.nan)


def dawid_sebastiani(samples: Tensor, y: Tensor) -> Tensor:
    r"""Dawid-Sebastiani score of the mean and the covariance of vectors, estimated from samples.

    .. math:: \log \det C + \frac{S - V - 2}{S - 1} (y - m)^\top C^{-1} (y - m)

    with :math:`m` and :math:`C` the mean and the unbiased covariance of the samples. It is strictly proper for the
    first two moments, and blind to all others. For normal distributions it is the logarithmic score, up to scale and a
    constant. The factor, which tends to one, makes the inverse of :math:`C` unbiased for normal samples. Without it,
    few samples would favour distributions that are too wide. Compare only scores from equal numbers of samples.

    References:
        | Coherent dispersion criteria for optimal experimental design (Dawid and Sebastiani, 1999)
        | https://doi.org/10.1214/aos/1018031101
        | Why your model parameter confidences might be too optimistic (Hartlap, Simon and Schneider, 2007)
        | https://doi.org/10.1051/0004-6361:20066170

    Arguments:
        samples: Samples of each window's vector, with shape :math:`(S, n, V)`, :math:`S \geq V + 3`; ten times
            :math:`V` or more for scores with little noise.
        y: The observed vectors, with shape :math:`(n, V)`. NaN is missing; the moments are of the observed entries.

    Returns:
        The scores, with shape :math:`(n,)`, float64; NaN if no entry of a vector is observed.

    Raises:
        ValueError: If there are too few samples, or the covariance is singular because entries of a vector are
            constant or determined by the others.
    """
    num_samples, num_windows, _ = samples.shape
    scores = y.new_full((num_windows,), math.nan, dtype=torch.float64)
    patterns, pattern_of_window = (~y.isnan()).unique(dim=0, return_inverse=True)
    for number, observed in enumerate(patterns):
        entries, members = int(observed.sum()), (pattern_of_window == number).nonzero()[:, 0]
        if entries and num_samples < entries + 3:
            raise ValueError(
                f"dawid_sebastiani inverts a covariance of {entries} entries, for which {entries + 3} samples are "
                f"needed, got {num_samples}: draw more samples, or score fewer entries at a time"
            )
        for chunk in slices(len(members) if entries else 0, num_samples * entries, _CHUNK):
            windows = members[chunk]
            errors = (samples[:, windows].double() - y[windows].double())[..., observed].transpose(0, 1)  # (n, S, V)
            mean, deviation = errors.mean(1), errors.std(1)
            standard = (errors - mean[:, None]) / deviation[:, None]
            factor, _ = torch.linalg.cholesky_ex(standard.mT @ standard / (num_samples - 1))
            pivots = factor.diagonal(dim1=-2, dim2=-1)
            if not bool((pivots.square() > _SINGULAR).all()):
                raise ValueError(
                    "dawid_sebastiani inverts the covariance of the samples, which is singular: remove entries that "
                    "are constant or determined by the others"
                )
            error = torch.linalg.solve_triangular(factor, (mean / deviation)[..., None], upper=False)[..., 0]
            correction = (num_samples - entries - 2) / (num_samples - 1)
            scores[windows] = 2 * (pivots.log() + deviation.log()).sum(-1) + correction * error.square().sum(-1)
    return scores


def variogram_score(samples: Tensor, y: Tensor) -> Tensor:
    r"""Variogram score of order 0.5, which is sensitive to dependence between the entries of a vector.

    .. math:: \sum_{i, j} \Bigl( \sqrt{|y_i - y_j|} - \frac{1}{S} \sum_s \sqrt{|x_{s, i} - x_{s, j}|} \Bigr)^2

    It is proper, but not strictly: it is blind to a common shift of all entries. Entries should have comparable units.
    In single precision, in which the score is then computed, they should be standardised.

    References:
        | Variogram-based proper scoring rules for probabilistic forecasts of multivariate quantities
        | (Scheuerer and Hamill, 2015)
        | https://doi.org/10.1175/MWR-D-14-00269.1

    Arguments:
        samples: Samples of each window's vector, with shape :math:`(S, n, V)`.
        y: The observed vectors, with shape :math:`(n, V)`. NaN is missing; pairs with it are left out.

    Returns:
        The scores, with shape :math:`(n,)`, float64; NaN if no pair is observed.
    """
    num_samples, num_windows, entries = samples.shape
    scores = y.new_zeros(num_windows, dtype=torch.float64)
    for chunk in slices(num_windows, num_samples * entries, _CHUNK):
        x = samples[:, chunk].movedim(-1, 0).contiguous()  # (V, S, n)
        truth = y[chunk].mT  # (V, n)
        for lag in range(1, entries):
            expected = (x[lag:] - x[:-lag]).abs_().sqrt_().mean(1)
            scores[chunk] += 2 * ((truth[lag:] - truth[:-lag]).abs().sqrt() - expected).square().nansum(0)
    return scores.masked_fill((~y.isnan()).sum(-1) < 2, math.nan)
