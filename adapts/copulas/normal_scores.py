r"""Normal scores of PITs, with missing values and atoms imputed, and their correlations."""

from __future__ import annotations

__all__ = ["autoregression", "completed", "correlation", "kronecker", "ranked"]

import torch
from torch import Tensor
from torch.nn import functional

from ..distribution.pits import JUMP, Pits

_MAX_ROUNDS = 20  # maximum number of rounds of imputing the unknown scores and re-estimating the correlations
_MAX_DRAWS = 40_000  # cells drawn over all rounds: fewer rounds for more cells
_MIN_ROUNDS = 4  # minimum number of rounds
_NOISE_WEIGHT = 0.01  # weight of white noise in the sampler's correlation, so that the chain mixes


def ranked(values: Tensor) -> Pits:
    r"""Convert the values of each column to ranks as PITs, with repeated values as atoms.

    Arguments:
        values: The values, with shape :math:`(n, *)`. NaN marks a missing one.

    Returns:
        The PITs, with the same shape, float64.
    """
    flat = values.double().flatten(1).T.contiguous()  # (C, n)
    ordered = flat.nan_to_num(nan=torch.inf).sort(dim=-1).values
    number = (~flat.isnan()).sum(-1, keepdim=True).double()
    below, upto = (torch.searchsorted(ordered, flat, right=right).double() / number for right in (False, True))
    atom = upto - below > (1.5 / number).clamp(min=JUMP)
    middle = (below + upto) / 2
    bounds = (torch.where(flat.isnan(), torch.nan, torch.where(atom, x, middle)) for x in (below, upto))
    lower, upper = (x.T.reshape(values.shape) for x in bounds)
    return Pits(lower, upper, torch.full_like(lower, 0.5))


def completed(pits: Tensor | Pits, num_effective: float | None = None, seed: int = 0) -> Tensor:
    r"""Convert PITs to normal scores, and impute the unknown ones by Gibbs sampling.

    First, each cell is mapped by the ranks of its windows, so that miscalibrated marginals do not matter. An
    observation on an atom only restricts its score to an interval, and a missing one does not restrict it at all. The
    Gibbs sampler draws such scores from a Gaussian distribution given all others. The correlation of this distribution,
    a Kronecker product, is re-estimated after each round. Random tie-breaking, or the median in place of missing
    values, would bias the result towards independence.

    References:
        | Efficient Bayesian Inference for Gaussian Copula Regression Models (Pitt, Chan and Kohn, 2006)
        | Extending the Rank Likelihood for Semiparametric Copula Estimation (Hoff, 2007)

    Arguments:
        pits: The PITs of :math:`n` windows, with shape :math:`(n, H, D)`. NaN marks a missing observation.
        num_effective: The effective sample size in windows; :math:`n` if None.
        seed: The seed of the Gibbs sampler.

    Returns:
        The normal scores, with the same shape, float64; NaN in cells without any observation.
    """
    pits = Pits.of(pits)
    lower, upper = _mapped(pits)
    middle = torch.special.ndtri((lower + upper) / 2)
    missing = lower.isnan()
    scores = middle.nan_to_num()  # (n, H, D)
    observed = ~missing.all(0)
    unknown = (missing & observed) | (upper > lower)
    if not bool(unknown.any()):
        return torch.where(observed, scores, torch.nan)
    low, high = (torch.special.ndtri(x.nan_to_num(fill)) for x, fill in ((lower, 0.0), (upper, 1.0)))
    generator = torch.Generator().manual_seed(seed)
    _, horizon, channels = scores.shape
    weight = float(len(scores) if num_effective is None else num_effective)
    cells = [(step, channel, unknown[:, step, channel].nonzero()[:, 0]) for step, channel in unknown.any(0).nonzero()]
    for _ in range(max(_MIN_ROUNDS, min(_MAX_ROUNDS, _MAX_DRAWS // len(cells)))):
        channel_precision, time_precision = (
            torch.linalg.inv((1 - _NOISE_WEIGHT) * matrix + _NOISE_WEIGHT * torch.eye(len(matrix), dtype=torch.float64))
            for matrix in kronecker(scores, weight)
        )
        across = scores @ channel_precision  # (n, H, D), kept up to date: a draw then costs H + D numbers, not H D
        for step, channel, rows in cells:
            current = scores[rows, step, channel]  # (m,)
            precision = time_precision[step, step] * channel_precision[channel, channel]
            mean = current - across[rows, :, channel] @ time_precision[step] / precision
            drawn = _truncated(
                mean, float(precision) ** -0.5, low[rows, step, channel], high[rows, step, channel], generator
            )
            scores[rows, step, channel] = drawn
            across[rows, step] += (drawn - current).unsqueeze(1) * channel_precision[channel]
    return torch.where(observed, scores, torch.nan)


def _truncated(mean: Tensor, deviation: float, low: Tensor, high: Tensor, generator: torch.Generator) -> Tensor:
    r"""Draw from truncated normal distributions; each tensor has shape (m,)."""
    flip = (low > mean).double() * -2 + 1  # levels lose digits near one, not near zero
    ends = (flip * (low - mean) / deviation, flip * (high - mean) / deviation)
    first, last = (torch.special.ndtr(end) for end in (ends[0].minimum(ends[1]), ends[0].maximum(ends[1])))
    level = first + (last - first) * torch.rand(len(mean), generator=generator, dtype=mean.dtype)
    drawn = mean + flip * deviation * torch.special.ndtri(level)
    clipped: Tensor = drawn.maximum(low).minimum(high).clamp(-8, 8)
    return clipped


def _mapped(pits: Pits) -> tuple[Tensor, Tensor]:
    r"""Map both ends of the PITs by each cell's empirical distribution over the windows, float64."""
    lower, upper = (x.double().flatten(1).T.contiguous() for x in (pits.lower, pits.upper))  # (C, n)
    number = (~lower.isnan()).sum(-1, keepdim=True)
    exact = torch.where(upper > lower, torch.nan, lower)
    ordered = exact.nan_to_num(nan=torch.inf).sort(dim=-1).values
    jumps = (upper > lower).any(-1)
    ends = []
    for end in (lower, upper):
        count = (torch.searchsorted(ordered, end) + torch.searchsorted(ordered, end, right=True)).double() / 2
        if bool(jumps.any()):
            count[jumps] += _covered(end[jumps], lower[jumps], upper[jumps])
        mapped = torch.where(end.isnan(), torch.nan, count / number)
        ends.append(mapped.T.reshape(pits.shape))
    return ends[0].clamp(0, 1), ends[1].clamp(0, 1)


def _covered(ends: Tensor, lower: Tensor, upper: Tensor) -> Tensor:
    r"""Sum, over windows, the fraction of each jump that lies below each of the ends (C, n)."""
    jumps = upper > lower
    rates = torch.where(jumps, 1 / (upper - lower), 0.0)

    def risen(starts: Tensor) -> Tensor:
        r"""Sum lines that rise from these starts on, one a jump, at each of the ends."""
        ordered, order = torch.where(jumps, starts, torch.inf).sort(dim=-1)
        slopes = rates.gather(-1, order)
        offsets = slopes * ordered.where(slopes > 0, 0.0)
        number = torch.searchsorted(ordered, ends)
        slope, offset = (functional.pad(x.cumsum(-1), (1, 0)).gather(-1, number) for x in (slopes, offsets))
        return ends * slope - offset

    return risen(lower) - risen(upper)


def kronecker(scores: Tensor, weight: float) -> tuple[Tensor, Tensor]:
    r"""Estimate the channel and time correlation matrices with optimal shrinkage.

    The channel correlation is pooled over horizon steps and shrunk towards the identity. The time correlation is pooled
    over channels and shrunk towards the nearest AR(1) correlation. The shrinkage intensities minimise the expected
    squared error.

    References:
        | A Shrinkage Approach to Large-Scale Covariance Matrix Estimation (Schäfer and Strimmer, 2005)

    Arguments:
        scores: The normal scores of :math:`n` windows, with shape :math:`(n, H, D)`. NaN marks a missing one.
        weight: The effective sample size in windows.

    Returns:
        Two correlation matrices, with shapes :math:`(D, D)` and :math:`(H, H)`, float64; identities if the effective
        sample size is three or less.
    """
    _, horizon, channels = scores.shape
    channel = correlation(scores.reshape(-1, channels))
    time = correlation(scores.mT.reshape(-1, horizon))
    # Correlated horizon steps carry less information on channels, and the reverse: the exact effective sample size of
    # a matrix normal. Three windows are lost to location and scale, as in the variance of Fisher's transformation.
    windows = max(weight - 3, 0.0)
    if windows == 0:
        return torch.eye(channels, dtype=torch.float64), torch.eye(horizon, dtype=torch.float64)
    sample_sizes = windows * horizon**2 / time.square().sum(), windows * channels**2 / channel.square().sum()
    channel = _shrink(channel, torch.eye(channels, dtype=channel.dtype), sample_sizes[0])
    return channel, _shrink(time, _nearest_autoregression(time), sample_sizes[1])


def correlation(x: Tensor) -> Tensor:
    r"""Return pairwise correlations of centred columns (R, N) over complete pairs; 0 without any."""
    observed = (~x.isnan()).to(x)
    x = x.nan_to_num()
    square = x.square().T @ observed  # (N, N)  of the first column of a pair, over the rows that both observe
    correlation = (x.T @ x / (square * square.T).sqrt()).nan_to_num(0.0, 0.0, 0.0).clamp(-1, 1)
    return correlation.fill_diagonal_(1.0)


def autoregression(rho: float, length: int) -> Tensor:
    r"""Return the correlation matrix of an AR(1) process over `length` steps."""
    steps = torch.arange(length, dtype=torch.float64)
    return rho ** (steps.unsqueeze(-1) - steps).abs()


def _nearest_autoregression(correlation: Tensor) -> Tensor:
    r"""Return the AR(1) correlation nearest to a matrix (H, H) in squared distance."""
    length = len(correlation)
    lags = torch.arange(1, length)
    means = (
        torch.stack([correlation.diagonal(int(lag)).mean() for lag in lags])
        if length > 1
        else torch.zeros(0, dtype=torch.float64)
    )
    grid = torch.linspace(0, 0.999, 1000, dtype=torch.float64)
    distance = ((grid.unsqueeze(-1) ** lags - means).square() * (length - lags)).sum(-1)
    return autoregression(float(grid[distance.argmin()]), length)


def _shrink(correlation: Tensor, target: Tensor, sample_size: Tensor) -> Tensor:
    r"""Shrink a correlation matrix (N, N) towards a target with the optimal intensity."""
    off_diagonal = ~torch.eye(len(correlation), dtype=torch.bool)
    noise = (1 - correlation.square()).square()[off_diagonal].sum() / sample_size
    distance = (correlation - target).square()[off_diagonal].sum()
    intensity = (noise / distance).nan_to_num(1.0).clamp(0, 1)
    return intensity * target + (1 - intensity) * correlation
