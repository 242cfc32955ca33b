r"""Scores of forecasts: what each measures, its formula, where it comes from.

Everything here is a pure function of tensors. A NaN observation is skipped: the score of a missing cell is NaN, and a
joint score is taken over the cells that were observed. Lower is better for all but the coverage.
"""

from __future__ import annotations

__all__ = [
    "DECILES",
    "bootstrap_inflation",
    "coverage",
    "crps_fair",
    "energy_score",
    "pinball",
    "pit_deviations",
    "pit_ece",
    "pit_ece_floor",
    "variogram_score",
    "wql",
]

import math
from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

DECILES = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)

_CHUNK = 2**22  # float64 numbers of one temporary: 32 MiB, so that a few of them stay small beside the samples


def _chunks(length: int, numbers_each: int) -> Iterator[slice]:
    r"""Slices of an axis such that a temporary with so many numbers an entry stays within the chunk size."""
    step = max(1, _CHUNK // max(1, numbers_each))
    return (slice(start, start + step) for start in range(0, length, step))


def crps_fair(samples: Tensor, y: Tensor) -> Tensor:
    r"""Continuous ranked probability score, the fair estimate from samples.

    .. math:: \frac{1}{S} \sum_s |x_s - y| - \frac{1}{2 S (S - 1)} \sum_{s, t} |x_s - x_t|

    Its expectation is the CRPS of the law that the samples come from, for any number of independent samples; on
    stratified ones it reads low, by less than the law's own scale over :math:`S`.

    References:
        | Fair scores for ensemble forecasts (Ferro, 2014)
        | https://doi.org/10.1002/qj.2270

    Arguments:
        samples: Samples of the law, with shape :math:`(S, *)`, :math:`S \geq 2`.
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
    for chunk in _chunks(len(truth), num_samples):
        # Differences to the truth: the moments below would cancel badly for channels far from zero, such as pressure.
        errors = (flat[:, chunk].double() - truth[chunk]).mT
        zero = errors.new_zeros(()).expand(errors.shape[0])
        # The probability weighted moments are the fair estimate, by sorting instead of all pairs.
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
    error = y.double()[..., None] - quantiles.double()
    levels = levels.double()
    return torch.maximum(levels * error, (levels - 1) * error)


def wql(quantiles: Tensor, y: Tensor, levels: Tensor | None = None) -> Tensor:
    r"""Twice the mean pinball loss over levels, by default the deciles; it tends to the CRPS as levels are added.

    The weights (a division by the sum of :math:`|y|` in the M-competitions) are left to the caller.

    Arguments:
        quantiles: The quantiles, with shape :math:`(*, Q)`.
        y: The observations, with shape :math:`(*)`. NaN is missing.
        levels: The levels, with shape :math:`(Q,)`; the nine deciles if None.

    Returns:
        The losses in the units of `y`, with shape :math:`(*)`, float64; NaN where `y` is.
    """
    return 2 * pinball(quantiles, y, torch.tensor(DECILES) if levels is None else levels).mean(-1)


def coverage(pit: Tensor, level: float = 0.8) -> Tensor:
    r"""Whether each observation lies in the central interval, read off its randomised PIT.

    The mean over cells is the coverage. The PIT is randomised where the law has an atom (irradiance at night), so
    that a law that is right covers `level` exactly there too, where "lower <= y <= upper" would count every hit.

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


def pit_ece(pit: Tensor) -> Tensor:
    r"""Expected calibration error of PITs, the mean distance of the sorted PITs from where even ones would lie.

    .. math:: \frac{1}{n} \sum_{i = 1}^n \left| u_{(i)} - \frac{i - .5}{n} \right|

    Zero at best, 0.25 for a point forecast with half of the observations on either side, 0.5 at worst. Chance alone
    gives some: see `pit_ece_floor`.

    References:
        | Accurate uncertainties for deep learning using calibrated regression (Kuleshov et al., 2018)
        | https://arxiv.org/abs/1807.00263

    Arguments:
        pit: Randomised PITs, with shape :math:`(n, *)`. NaN is missing.

    Returns:
        The error of each column, with shape :math:`(*)`, float64; NaN where nothing was observed.

    Example:
        >>> pit_ece(torch.tensor([0.5, 0.0, 1.0, 0.5]))
        tensor(0.1250, dtype=torch.float64)
    """
    count = (~pit.isnan()).sum(0)
    even = torch.arange(len(pit), dtype=torch.float64, device=pit.device) + 0.5
    even = even.reshape(-1, *[1] * (pit.ndim - 1)) / count
    return (pit.double().sort(dim=0).values - even).abs().nansum(0) / count  # NaN are sorted last


def pit_deviations(
    pit: Tensor,
    origin: np.ndarray,
    *,
    last_lead: int | None = None,
    resamples: int = 200,
    grid: int = 100,
    seed: int = 0,
) -> Tensor:
    r"""How far the PIT curve of a perfect law strays from the diagonal by chance on these very windows.

    PITs are not independent. Leads of one window share their shocks, and so do windows whose targets overlap; only
    beyond :math:`H` rows are those of a law that knows the past perfectly unrelated. Hence: the PITs of each lead are
    replaced by their ranks over the windows, spread evenly within their places, which makes them uniform (a perfect
    law) and keeps how leads and windows hang together. Blocks of windows that span :math:`H` rows are then drawn with
    replacement, around the circle of origins (the circular block bootstrap of the empirical process).

    The deviations are scaled up by what such a bootstrap loses (`bootstrap_inflation`). On simulated perfect laws
    (white, autoregressive and random-walk shocks) the mean absolute deviation is within 10 % of the true one for ten
    windows and more that do not overlap, and for origins that range over ten times :math:`H` rows where they do.

    References:
        | A circular block-resampling procedure for stationary data (Politis and Romano, 1992)
        | The jackknife and the bootstrap for general stationary observations (Künsch, 1989)

    Arguments:
        pit: Randomised PITs of the windows, with shape :math:`(n, H, *)`. NaN is missing.
        origin: The row of each window's first target, with shape :math:`(n,)`. Windows of several items that share an
            origin stay together.
        last_lead: The number of rows from a window's origin to the end of its last lead, :math:`H` if None. Needed
            where `pit` holds a block of the leads.
        resamples: The number of resamples :math:`R`.
        grid: The number of levels :math:`G` at which the curves are compared, :math:`(j - .5) / G`.
        seed: The seed of the resampling.

    Returns:
        Deviations of the share of PITs below a level from the level, with shape :math:`(R, G, *)`, float64; NaN where
        there is one origin only, which says nothing of chance.
    """
    rng = np.random.default_rng(seed)
    num_windows, leads, *rest = pit.shape
    cells = pit.detach().cpu().double().reshape(num_windows, leads, -1).numpy()
    channels = cells.shape[-1]
    rows, which = np.unique(origin, return_inverse=True)
    num_origins = len(rows)

    observed = ~np.isnan(cells)
    rank = cells.argsort(axis=0).argsort(axis=0) + rng.random(cells.shape)
    even = rank / observed.sum(axis=0).clip(1)  # (n, H, D) uniform
    bins = np.clip(np.ceil(even * grid - 0.5), 0, grid).astype(np.int64)  # first level at or above it
    place = (np.arange(channels) * num_origins + which[:, None, None]) * (grid + 1) + bins
    below = np.bincount(place[observed], minlength=channels * num_origins * (grid + 1))
    below = below.reshape(channels, num_origins, grid + 1).cumsum(-1)
    share = below[..., -1:]  # cells of an origin
    below = below[..., :-1]  # (D, origins, G)

    span = leads if last_lead is None else last_lead
    block = max(1, min(num_origins, int((np.abs(rows[:, None] - rows) < span).sum(axis=1).max() + 1) // 2))
    inflation = bootstrap_inflation(rows, span, block)

    starts = rng.integers(0, num_origins, (resamples, -(-num_origins // block)))
    drawn = ((starts[..., None] + np.arange(block)) % num_origins).reshape(resamples, -1)[:, :num_origins]
    drawn += num_origins * np.arange(resamples)[:, None]
    weights = np.bincount(drawn.ravel(), minlength=resamples * num_origins).reshape(resamples, num_origins)
    with np.errstate(invalid="ignore"):
        curves = (weights @ below) / (weights @ share)  # (D, R, G)
        deviations = (curves - below.sum(1, keepdims=True) / share.sum(1, keepdims=True)) * inflation
    return torch.from_numpy(deviations.transpose(1, 2, 0).reshape(resamples, grid, *rest))


def bootstrap_inflation(rows: np.ndarray, span: int, block: int) -> float:
    r"""By how much a circular block bootstrap of few blocks, or of overlapping windows, shows too little deviation.

    Blocks cut some dependence, and centring on a mean of few blocks removes variance. Both losses are known where
    windows depend by their overlap, :math:`r(\Delta) = \max(0, 1 - \Delta / H)`.

    Arguments:
        rows: The rows where the windows begin, each once, with shape :math:`(n,)`.
        span: The number of rows from where a window begins to its last lead, :math:`H`.
        block: The number of origins that a block holds.

    Returns:
        The true deviation of a mean over the bootstrap's; NaN where there is one block only.

    Example:
        >>> round(bootstrap_inflation(np.arange(10), 1, 1), 3)  # independent: the square root of 10 / 9
        1.054
    """
    num_origins = len(rows)
    overlap = (1 - np.abs(rows[:, None] - rows) / span).clip(0)
    around = np.abs(np.arange(num_origins)[:, None] - np.arange(num_origins))
    kept = (1 - np.minimum(around, num_origins - around) / block).clip(0)
    centred = overlap - overlap.mean(0) - overlap.mean(1)[:, None] + overlap.mean()
    variance = (kept * centred).mean()
    return math.sqrt(overlap.mean() / variance) if variance > 1e-9 else math.nan


def pit_ece_floor(pit: Tensor, origin: np.ndarray, *, last_lead: int | None = None, seed: int = 0) -> Tensor:
    r"""The `pit_ece` that a perfect law would show on the same windows, by chance.

    It is the mean absolute deviation of `pit_deviations`, where the method is told. A PIT-ECE near its floor is as
    good as the windows can tell.

    Arguments:
        pit: Randomised PITs of the windows, with shape :math:`(n, H, *)`, as scored. NaN is missing.
        origin: The row of each window's first target, with shape :math:`(n,)`.
        last_lead: The number of rows from a window's origin to the end of its last lead, :math:`H` if None.
        seed: The seed of the resampling.

    Returns:
        The floor of the PIT-ECE over windows and leads, with shape :math:`(*)`, float64; NaN where there is one
        origin only.
    """
    return pit_deviations(pit, origin, last_lead=last_lead, seed=seed).abs().mean((0, 1))


def energy_score(samples: Tensor, y: Tensor) -> Tensor:
    r"""Energy score, the CRPS of vectors; the fair estimate from samples.

    .. math:: \frac{1}{S} \sum_s \|x_s - y\| - \frac{1}{2 S (S - 1)} \sum_{s, t} \|x_s - x_t\|

    Proper for the whole joint law, but it hardly sees dependence: report `variogram_score` beside it.

    References:
        | Strictly proper scoring rules, prediction, and estimation (Gneiting and Raftery, 2007)
        | https://doi.org/10.1198/016214506000001437

    Arguments:
        samples: Samples of each window's vector, with shape :math:`(S, n, V)`, :math:`S \geq 2`.
        y: The observed vectors, with shape :math:`(n, V)`. NaN is missing; norms are over the entries seen.

    Returns:
        The scores, with shape :math:`(n,)`, float64; NaN where nothing of a vector was seen.
    """
    num_samples, num_windows, entries = samples.shape
    scores = y.new_empty(num_windows, dtype=torch.float64)
    for chunk in _chunks(num_windows, num_samples * max(entries, num_samples)):
        errors = (samples[:, chunk].double() - y[chunk].double()).nan_to_num(0.0).transpose(0, 1)  # (n, S, V)
        spread = torch.cdist(errors, errors).sum((-2, -1)) / (2 * num_samples * (num_samples - 1))
        scores[chunk] = errors.norm(dim=-1).mean(-1) - spread
    return scores.masked_fill(y.isnan().all(-1), math.nan)


def variogram_score(samples: Tensor, y: Tensor, p: float = 0.5) -> Tensor:
    r"""Variogram score, which sees dependence: how far entries of a vector lie from each other.

    .. math:: \sum_{i, j} \left( |y_i - y_j|^p - \frac{1}{S} \sum_s |x_{s, i} - x_{s, j}|^p \right)^2

    Proper, not strictly: it is blind to a shift of all entries. Entries should be in like units, and standardised ones
    where they come in single precision, in which the score is then computed.

    References:
        | Variogram-based proper scoring rules for probabilistic forecasts of multivariate quantities
        | (Scheuerer and Hamill, 2015)
        | https://doi.org/10.1175/MWR-D-14-00269.1

    Arguments:
        samples: Samples of each window's vector, with shape :math:`(S, n, V)`.
        y: The observed vectors, with shape :math:`(n, V)`. NaN is missing; pairs with it are left out.
        p: The order.

    Returns:
        The scores, with shape :math:`(n,)`, float64; NaN where no pair was seen.
    """
    num_samples, num_windows, entries = samples.shape
    scores = y.new_zeros(num_windows, dtype=torch.float64)
    for chunk in _chunks(num_windows, num_samples * entries):
        x = samples[:, chunk].movedim(-1, 0).contiguous()  # (V, S, n)
        truth = y[chunk].mT  # (V, n)
        for lag in range(1, entries):
            expected = (x[lag:] - x[:-lag]).abs_().pow_(p).mean(1)
            scores[chunk] += 2 * ((truth[lag:] - truth[:-lag]).abs() ** p - expected).square().nansum(0)
    return scores.masked_fill((~y.isnan()).sum(-1) < 2, math.nan)
