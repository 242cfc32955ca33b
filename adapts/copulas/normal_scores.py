r"""Normal scores of transforms, where outcomes are missing or lie on atoms: drawn given the others."""

from __future__ import annotations

__all__ = ["autoregression", "completed", "correlation", "kronecker", "ranked"]

import torch
from torch import Tensor

from ..distribution.pits import JUMP, Pits

_ROUNDS = 20  # of drawing what is not known, and estimating the correlations anew
_STEPS = 40_000  # cells that are drawn in all rounds together: fewer rounds for larger laws
_FEWEST = 4  # rounds
_WHITE = 0.01  # the share of white noise that is drawn with, so that the sampler moves
_PAIRS = 2**24  # numbers compared at once


def ranked(values: Tensor) -> Pits:
    r"""The ranks of values in each column as transforms: a value that many rows share is an atom.

    Arguments:
        values: The values, with shape :math:`(n, *)`. NaN marks a missing one.

    Returns:
        The transforms, with the same shape, float64.
    """
    flat = values.double().flatten(1).T.contiguous()  # (C, n)
    ordered = flat.nan_to_num(nan=torch.inf).sort(dim=-1).values
    number = (~flat.isnan()).sum(-1, keepdim=True)
    below, upto = (torch.searchsorted(ordered, flat, right=right).double() / number for right in (False, True))
    atom = upto - below > (1.5 / number).clamp(min=JUMP)
    middle = (below + upto) / 2
    bounds = (torch.where(flat.isnan(), torch.nan, torch.where(atom, x, middle)) for x in (below, upto))
    lower, upper = (x.T.reshape(values.shape) for x in bounds)
    return Pits(lower, upper, torch.full_like(lower, 0.5))


def completed(pits: Tensor | Pits, independent: float | None = None, seed: int = 0) -> Tensor:
    r"""Turns transforms into normal scores, and draws those that are not known given those that are.

    Each cell (a lead of a channel) is mapped by the ranks of its windows first, so that miscalibrated margins do not
    matter. An outcome on an atom tells an interval of scores only, a missing one nothing. Such scores are drawn from a
    Gaussian law given all others, by Gibbs' sampler; the law's correlation, a Kronecker product, is estimated anew
    after each round. Ties that were parted by chance, or a median in place of what is missing, would speak for
    independence instead.

    References:
        | Efficient Bayesian Inference for Gaussian Copula Regression Models (Pitt, Chan and Kohn, 2006)
        | Extending the Rank Likelihood for Semiparametric Copula Estimation (Hoff, 2007)

    Arguments:
        pits: The transforms of :math:`n` windows, with shape :math:`(n, H, D)`. NaN marks a missing outcome.
        independent: How many windows without overlap these are worth; :math:`n` if None.
        seed: The seed of the draws.

    Returns:
        The normal scores, with the same shape, float64; NaN in cells without any outcome.
    """
    pits = Pits.of(pits)
    lower, upper = _mapped(pits)
    middle = torch.special.ndtri((lower + upper) / 2)
    missing = lower.isnan()
    scores = middle.nan_to_num()  # (n, H, D)
    seen = ~missing.all(0)
    open_ = (missing & seen) | (upper > lower)
    if not bool(open_.any()):
        return torch.where(seen, scores, torch.nan)
    low, high = (torch.special.ndtri(x.nan_to_num(fill)) for x, fill in ((lower, 0.0), (upper, 1.0)))
    generator = torch.Generator().manual_seed(seed)
    _, horizon, channels = scores.shape
    weight = float(len(scores) if independent is None else independent)
    cells = [(lead, channel, open_[:, lead, channel].nonzero()[:, 0]) for lead, channel in open_.any(0).nonzero()]
    for _ in range(max(_FEWEST, min(_ROUNDS, _STEPS // len(cells)))):
        across, along = (
            torch.linalg.inv((1 - _WHITE) * each + _WHITE * torch.eye(len(each), dtype=torch.float64))
            for each in kronecker(scores, weight)
        )
        for lead, channel, rows in cells:
            own = scores[rows]  # (m, H, D)
            precision = along[lead, lead] * across[channel, channel]
            pulled = (along[lead] @ own) @ across[channel]
            mean = own[:, lead, channel] - pulled / precision
            scores[rows, lead, channel] = _truncated(
                mean, float(precision) ** -0.5, low[rows, lead, channel], high[rows, lead, channel], generator
            )
    return torch.where(seen, scores, torch.nan)


def _truncated(mean: Tensor, spread: float, low: Tensor, high: Tensor, generator: torch.Generator) -> Tensor:
    r"""Draws from normal laws between bounds, each of shape (m,)."""
    flip = (low > mean).double() * -2 + 1  # far up, levels lose their digits: from below they keep them
    ends = (flip * (low - mean) / spread, flip * (high - mean) / spread)
    first, last = (torch.special.ndtr(end) for end in (ends[0].minimum(ends[1]), ends[0].maximum(ends[1])))
    level = first + (last - first) * torch.rand(len(mean), generator=generator, dtype=mean.dtype)
    drawn = mean + flip * spread * torch.special.ndtri(level)
    within: Tensor = drawn.maximum(low).minimum(high).clamp(-8, 8)
    return within


def _mapped(pits: Pits) -> tuple[Tensor, Tensor]:
    r"""The ends of the transforms, mapped by the distribution of each cell's transforms over the windows, float64."""
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
    r"""How many windows' jumps lie below ends (C, n): the covered share of each jump, summed over the windows."""
    total = torch.empty_like(ends)
    step = max(1, _PAIRS // max(1, ends.shape[1] ** 2))
    for start in range(0, len(ends), step):
        some = slice(start, start + step)
        wide = (upper[some] - lower[some]).unsqueeze(1)  # (c, 1, n)
        share = ((ends[some].unsqueeze(-1) - lower[some].unsqueeze(1)) / wide).clamp(0, 1)
        total[some] = share.where(wide > 0, 0.0).nan_to_num().sum(-1)
    return total


def kronecker(scores: Tensor, weight: float) -> tuple[Tensor, Tensor]:
    r"""The correlation between channels and that between leads, each shrunk with its best intensity.

    The first is pooled over leads and shrunk towards none, the second over channels and towards the nearest AR(1).
    The intensity minimises the expected squared error.

    References:
        | A Shrinkage Approach to Large-Scale Covariance Matrix Estimation (Schäfer and Strimmer, 2005)

    Arguments:
        scores: Normal scores of :math:`n` windows, with shape :math:`(n, H, D)`. NaN marks a missing one.
        weight: How many windows without overlap these are worth.

    Returns:
        Two correlation matrices, with shapes :math:`(D, D)` and :math:`(H, H)`, float64; none where the windows are
        worth three or fewer.
    """
    _, horizon, channels = scores.shape
    channel = correlation(scores.reshape(-1, channels))
    time = correlation(scores.mT.reshape(-1, horizon))
    # Leads (channels) that move together bring less evidence on channels (leads): the exact count of a matrix normal.
    # Three windows are lost to the scores' location and scale, as in the variance of Fisher's transform.
    left = max(weight - 3, 0.0)
    if left == 0:
        return torch.eye(channels, dtype=torch.float64), torch.eye(horizon, dtype=torch.float64)
    evidence = left * horizon**2 / time.square().sum(), left * channels**2 / channel.square().sum()
    channel = _shrink(channel, torch.eye(channels, dtype=channel.dtype), evidence[0])
    return channel, _shrink(time, _nearest_autoregression(time), evidence[1])


def correlation(x: Tensor) -> Tensor:
    r"""The correlation of centred columns (R, N), over the rows that both show; 0 where there is nothing to see."""
    seen = (~x.isnan()).to(x)
    x = x.nan_to_num()
    square = x.square().T @ seen  # (N, N)  of the first of a pair, over the rows of both
    correlation = (x.T @ x / (square * square.T).sqrt()).nan_to_num(0.0, 0.0, 0.0).clamp(-1, 1)
    return correlation.fill_diagonal_(1.0)


def autoregression(rho: float, length: int) -> Tensor:
    r"""Returns the correlation of an AR(1) process over `length` steps."""
    steps = torch.arange(length, dtype=torch.float64)
    return rho ** (steps.unsqueeze(-1) - steps).abs()


def _nearest_autoregression(correlation: Tensor) -> Tensor:
    r"""The AR(1) correlation nearest to a matrix (H, H), in squares of the entries."""
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


def _shrink(correlation: Tensor, target: Tensor, evidence: Tensor) -> Tensor:
    r"""Moves a correlation (N, N) towards a target by the noise's share in what lies between them."""
    away = ~torch.eye(len(correlation), dtype=torch.bool)
    noise = (1 - correlation.square()).square()[away].sum() / evidence
    gap = (correlation - target).square()[away].sum()
    share = (noise / gap).nan_to_num(1.0).clamp(0, 1)
    return share * target + (1 - share) * correlation
