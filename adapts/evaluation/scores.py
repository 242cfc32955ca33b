r"""Scores of forecasts: what each measures, its formula, where it comes from.

Everything here is a pure function of tensors. A NaN observation is skipped: the score of a missing cell is NaN, and a
joint score is taken over the cells that were observed. Lower is better for all but the coverage.
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
    "pinball",
    "pit_deviations",
    "pit_ece",
    "pit_ece_floor",
    "pit_ks",
    "pit_ks_floor",
    "step_spread",
    "variogram_score",
    "wql",
]

import math
from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from ..calibration.joint_bands import JOINT
from ..data.times import Times, require_times

#: How often windows are drawn anew to show what chance does.
RESAMPLES = 200
DECILES = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)

_CHUNK = 2**22  # float64 numbers of one temporary: 32 MiB, so that a few of them stay small beside the samples
_SINGULAR = 1e-10  # the share of an entry's variance that the entries before it leave, below which none is left


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
    return 2 * pinball(quantiles, y, torch.tensor(DECILES, dtype=torch.float32) if levels is None else levels).mean(-1)


def interval_score(lower: Tensor, upper: Tensor, y: Tensor, level: float = 0.8) -> Tensor:
    r"""Interval score: the width of a central interval, and a fine for what lies outside.

    .. math:: (u - l) + \frac{2}{\alpha} (l - y)^+ + \frac{2}{\alpha} (y - u)^+, \qquad \alpha = 1 - level

    Proper for the two quantiles; it is :math:`2 / \alpha` times the sum of their `pinball` losses.

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


def band_coverage(lower: Tensor, upper: Tensor, y: Tensor, joint: str = "all") -> Tensor:
    r"""Whether each path lies inside a joint band, every cell of it.

    The mean over windows is the share that a band of `Forecast.band` states. Ends count as inside, so that a band
    covers more than it states where the law has atoms.

    Arguments:
        lower: The lower ends, with shape :math:`(n, H, D)`.
        upper: The upper ends, with shape :math:`(n, H, D)`.
        y: The observations, with shape :math:`(n, H, D)`. NaN is missing; a path is judged by the cells seen.
        joint: What a path is, as for the band: "time" (all leads of a channel), "channels" (all channels at a lead) or
            "all".

    Returns:
        One inside, zero outside, NaN where nothing of a path was seen, float64; with shape :math:`(n, D)` for "time",
        :math:`(n, H)` for "channels", and :math:`(n,)` for "all".

    Raises:
        ValueError: If `joint` is none of these.
    """
    if joint not in JOINT:
        raise ValueError(f"a path is of all 'time', 'channels' or 'all', got {joint!r}")
    missing = y.isnan()
    outside = ((y < lower) | (y > upper)).double()  # NaN is neither
    return (1 - outside.amax(JOINT[joint])).masked_fill(missing.double().amin(JOINT[joint]) > 0, math.nan)


def step_spread(past: Tensor, steps: int) -> Tensor:
    r"""How much a channel moved of late: the root mean square of its last steps from row to row.

    Arguments:
        past: The rows before each window's origin, with shape :math:`(n, L, D)`. NaN is missing.
        steps: The number of steps looked at, the last ones.

    Returns:
        The spreads, with shape :math:`(n, D)`, float64; NaN where no step was seen.
    """
    return past[:, -(steps + 1) :].double().diff(dim=1).square().nanmean(1).sqrt()


def by_regime(scores: Tensor, spread: Tensor) -> tuple[Tensor, Tensor]:
    r"""Parts the scores of calm windows from those of volatile ones.

    A channel's window is calm where its spread is at most the median of that channel's spreads over all windows, and
    volatile where it is above. A law whose width follows the series covers as much in one as in the other; one that
    is right on the mean only covers too much in calm regimes and too little in volatile ones.

    References:
        | Evaluating interval forecasts (Christoffersen, 1998)
        | https://doi.org/10.2307/2527341

    Arguments:
        scores: Scores of cells, such as `coverage` gives, with shape :math:`(n, H, D)`.
        spread: The spread that each window was forecast from (see `step_spread`), with shape :math:`(n, D)`. NaN is
            unknown, and in neither.

    Returns:
        The scores of the calm and of the volatile windows, each with shape :math:`(n, H, D)`; NaN at the others.
    """
    middle = spread.nanmedian(0).values
    calm, volatile = (spread <= middle)[:, None], (spread > middle)[:, None]  # (n, 1, D)
    return scores.where(calm, math.nan), scores.where(volatile, math.nan)


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


def pit_ks(pit: Tensor) -> Tensor:
    r"""Kolmogorov-Smirnov distance of PITs, the largest distance of their distribution from the uniform one.

    .. math:: \max_i \max \left( \frac{i}{n} - u_{(i)}, u_{(i)} - \frac{i - 1}{n} \right)

    The worst level, where `pit_ece` is the mean of all. The tables of the test do not hold for windows that share
    shocks: see `pit_ks_floor` for what chance gives.

    References:
        | Evaluating density forecasts (Diebold, Gunther and Tay, 1998)
        | https://doi.org/10.2307/2527342

    Arguments:
        pit: Randomised PITs, with shape :math:`(n, *)`. NaN is missing.

    Returns:
        The distance of each column, with shape :math:`(*)`, float64; NaN where nothing was observed.

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
        time: When the windows begin (`Windows.time`). Those of several items that begin together stay together.
        last_lead: The number of rows from a window's origin to the end of its last lead, :math:`H` if None. Needed
            where `pit` holds a block of the leads.
        levels: The levels at which the curves are compared, with shape :math:`(G,)`, rising within (0, 1); the middles
            of 100 even steps if None.
        seed: The seed of the resampling.

    Returns:
        Deviations of the share of PITs below a level from the level, with shape :math:`(R, G, *)` of :math:`R = 200`
        resamples, float64; NaN where
        there is one origin only, which says nothing of chance.
    """
    rng = np.random.default_rng(seed)
    num_windows, leads, *rest = pit.shape
    cells = pit.detach().cpu().double().reshape(num_windows, leads, -1).numpy()
    channels = cells.shape[-1]
    rows, which = np.unique(require_times(time).step, return_inverse=True)
    num_origins = len(rows)

    observed = ~np.isnan(cells)
    rank = cells.argsort(axis=0).argsort(axis=0) + rng.random(cells.shape)
    even = rank / observed.sum(axis=0).clip(1)  # (n, H, D) uniform
    at = (np.arange(100) + 0.5) / 100 if levels is None else np.asarray(levels, dtype=float)
    grid = len(at)
    bins = np.searchsorted(at, even)  # first level at or above it
    place = (np.arange(channels) * num_origins + which[:, None, None]) * (grid + 1) + bins
    below = np.bincount(place[observed], minlength=channels * num_origins * (grid + 1))
    below = below.reshape(channels, num_origins, grid + 1).cumsum(-1)
    share = below[..., -1:]  # cells of an origin
    below = below[..., :-1]  # (D, origins, G)

    span = leads if last_lead is None else last_lead
    block = max(1, min(num_origins, int((np.abs(rows[:, None] - rows) < span).sum(axis=1).max() + 1) // 2))
    inflation = bootstrap_inflation(rows, span, block)

    starts = rng.integers(0, num_origins, (RESAMPLES, -(-num_origins // block)))
    drawn = ((starts[..., None] + np.arange(block)) % num_origins).reshape(RESAMPLES, -1)[:, :num_origins]
    drawn += num_origins * np.arange(RESAMPLES)[:, None]
    weights = np.bincount(drawn.ravel(), minlength=RESAMPLES * num_origins).reshape(RESAMPLES, num_origins)
    with np.errstate(invalid="ignore"):
        curves = (weights @ below) / (weights @ share)  # (D, R, G)
        deviations = (curves - below.sum(1, keepdims=True) / share.sum(1, keepdims=True)) * inflation
    return torch.from_numpy(deviations.transpose(1, 2, 0).reshape(RESAMPLES, grid, *rest))


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


def pit_ece_floor(pit: Tensor, time: Times, *, last_lead: int | None = None, seed: int = 0) -> Tensor:
    r"""The `pit_ece` that a perfect law would show on the same windows, by chance.

    It is the mean absolute deviation of `pit_deviations`, where the method is told. A PIT-ECE near its floor is as
    good as the windows can tell.

    Arguments:
        pit: Randomised PITs of the windows, with shape :math:`(n, H, *)`, as scored. NaN is missing.
        time: When the windows begin (`Windows.time`).
        last_lead: The number of rows from a window's origin to the end of its last lead, :math:`H` if None.
        seed: The seed of the resampling.

    Returns:
        The floor of the PIT-ECE over windows and leads, with shape :math:`(*)`, float64; NaN where there is one
        origin only.
    """
    return pit_deviations(pit, time, last_lead=last_lead, seed=seed).abs().mean((0, 1))


def pit_ks_floor(pit: Tensor, time: Times, *, last_lead: int | None = None, seed: int = 0) -> Tensor:
    r"""The `pit_ks` that a perfect law would show on the same windows, by chance.

    It is the mean over resamples of the largest of `pit_deviations`, on their 100 levels.

    Arguments:
        pit: Randomised PITs of the windows, with shape :math:`(n, H, *)`, as scored. NaN is missing.
        time: When the windows begin (`Windows.time`).
        last_lead: The number of rows from a window's origin to the end of its last lead, :math:`H` if None.
        seed: The seed of the resampling.

    Returns:
        The floor of the distance over windows and leads, with shape :math:`(*)`, float64; NaN where there is one
        origin only.
    """
    return pit_deviations(pit, time, last_lead=last_lead, seed=seed).abs().amax(1).mean(0)


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


def crps_sum(samples: Tensor, y: Tensor) -> Tensor:
    r"""CRPS of the sum of the channels, the fair estimate from joint samples: does the joint law get totals right?

    Channels are summed as they come, and the score is divided by nothing: bring them into like units before. Channels
    that depend on each other make the total wider (or narrower) than independent ones do; of dependence that leaves
    the total alone, it tells nothing.

    References:
        | High-dimensional multivariate forecasting with low-rank Gaussian copula processes (Salinas et al., 2019)
        | https://arxiv.org/abs/1910.03002

    Arguments:
        samples: Joint samples, with shape :math:`(S, *, D)`, :math:`S \geq 2`.
        y: The observations, with shape :math:`(*, D)`. NaN is missing; the sum is over the channels seen.

    Returns:
        The scores in the units of `y`, with shape :math:`(*)`, float64; NaN where no channel was seen.

    Example:
        >>> crps_sum(torch.tensor([[0.0, 0.0], [1.0, 0.0], [1.0, 2.0]]), torch.tensor([2.0, 3.0]))
        tensor(2.6667, dtype=torch.float64)
    """
    missing = y.isnan()
    total = samples.masked_fill(missing, 0.0).sum(-1, dtype=torch.float64)
    return crps_fair(total, y.double().nansum(-1)).masked_fill(missing.all(-1), math.nan)


def dawid_sebastiani(samples: Tensor, y: Tensor) -> Tensor:
    r"""Dawid-Sebastiani score, of the mean and the covariance of vectors; the fair estimate from samples.

    .. math:: \log \det C + \frac{S - V - 2}{S - 1} (y - m)^\top C^{-1} (y - m)

    with :math:`m` and :math:`C` the mean and the unbiased covariance of the samples. Proper, strictly for the first two
    moments, and blind to all else; of normal laws it is the logarithmic score, but for constants. The factor, which
    tends to one, makes the inverse of :math:`C` unbiased for normal samples: without it few samples reward laws that
    are too wide. Compare scores of one number of samples only.

    References:
        | Coherent dispersion criteria for optimal experimental design (Dawid and Sebastiani, 1999)
        | https://doi.org/10.1214/aos/1018031101
        | Why your model parameter confidences might be too optimistic (Hartlap, Simon and Schneider, 2007)
        | https://doi.org/10.1051/0004-6361:20066170

    Arguments:
        samples: Samples of each window's vector, with shape :math:`(S, n, V)`, :math:`S \geq V + 3`; ten times
            :math:`V` and more for scores of little noise.
        y: The observed vectors, with shape :math:`(n, V)`. NaN is missing; the moments are of the entries seen.

    Returns:
        The scores, with shape :math:`(n,)`, float64; NaN where nothing of a vector was seen.

    Raises:
        ValueError: If there are too few samples, or entries of a vector follow from the others (or never vary), so
            that the covariance cannot be inverted.
    """
    num_samples, num_windows, _ = samples.shape
    scores = y.new_full((num_windows,), math.nan, dtype=torch.float64)
    patterns, which = (~y.isnan()).unique(dim=0, return_inverse=True)
    for number, seen in enumerate(patterns):
        entries, mine = int(seen.sum()), (which == number).nonzero()[:, 0]
        if entries and num_samples < entries + 3:
            raise ValueError(
                f"dawid_sebastiani inverts a covariance of {entries} entries, for which {entries + 3} samples are "
                f"needed, got {num_samples}: draw more, or score fewer entries at a time"
            )
        for chunk in _chunks(len(mine) if entries else 0, num_samples * entries):
            at = mine[chunk]
            errors = (samples[:, at].double() - y[at].double())[..., seen].transpose(0, 1)  # (n, S, V)
            mean, deviation = errors.mean(1), errors.std(1)
            standard = (errors - mean[:, None]) / deviation[:, None]
            factor, _ = torch.linalg.cholesky_ex(standard.mT @ standard / (num_samples - 1))
            pivots = factor.diagonal(dim1=-2, dim2=-1)
            if not bool((pivots.square() > _SINGULAR).all()):
                raise ValueError(
                    "dawid_sebastiani inverts the covariance of the samples, in which an entry never varies or follows "
                    "from the others: leave such entries out"
                )
            error = torch.linalg.solve_triangular(factor, (mean / deviation)[..., None], upper=False)[..., 0]
            share = (num_samples - entries - 2) / (num_samples - 1)
            scores[at] = 2 * (pivots.log() + deviation.log()).sum(-1) + share * error.square().sum(-1)
    return scores


def variogram_score(samples: Tensor, y: Tensor) -> Tensor:
    r"""Variogram score, which sees dependence: how far entries of a vector lie from each other.

    .. math:: \sum_{i, j} \Bigl( \sqrt{|y_i - y_j|} - \frac{1}{S} \sum_s \sqrt{|x_{s, i} - x_{s, j}|} \Bigr)^2

    Proper, not strictly: it is blind to a shift of all entries. Entries should be in like units, and standardised ones
    where they come in single precision, in which the score is then computed.

    References:
        | Variogram-based proper scoring rules for probabilistic forecasts of multivariate quantities
        | (Scheuerer and Hamill, 2015)
        | https://doi.org/10.1175/MWR-D-14-00269.1

    Arguments:
        samples: Samples of each window's vector, with shape :math:`(S, n, V)`.
        y: The observed vectors, with shape :math:`(n, V)`. NaN is missing; pairs with it are left out.

    Returns:
        The scores, with shape :math:`(n,)`, float64; NaN where no pair was seen.
    """
    num_samples, num_windows, entries = samples.shape
    scores = y.new_zeros(num_windows, dtype=torch.float64)
    for chunk in _chunks(num_windows, num_samples * entries):
        x = samples[:, chunk].movedim(-1, 0).contiguous()  # (V, S, n)
        truth = y[chunk].mT  # (V, n)
        for lag in range(1, entries):
            expected = (x[lag:] - x[:-lag]).abs_().sqrt_().mean(1)
            scores[chunk] += 2 * ((truth[lag:] - truth[:-lag]).abs().sqrt() - expected).square().nansum(0)
    return scores.masked_fill((~y.isnan()).sum(-1) < 2, math.nan)
