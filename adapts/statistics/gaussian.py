r"""Channels as jointly normal: their covariance, and what some of them tell of the others."""

from __future__ import annotations

__all__ = [
    "autocovariance",
    "conditional",
    "made_definite",
    "pairwise_covariance",
    "persistence",
    "shrunk_covariance",
]

from collections.abc import Sequence

import torch
from torch import Tensor

#: Shares of the correlations that are given up, as they are tried.
SHRINKAGE = (1e-5, 1e-4, 1e-3, 3e-3, 0.01, 0.03, 0.1, 0.3, 1.0)
#: Blocks of time, each held out once.
FOLDS = 5
#: The most multiplications that conditioning may take: seconds.
MOST = 2**38
#: The pairs that a lag must have, as a share of those that the lag 0 has, for a covariance to be taken of them.
PAIRS = 0.1
#: The numbers of matrices, or of spectra, that are held at a time.
HELD = 2**22


def pairwise_covariance(rows: Tensor) -> Tensor:
    r"""Returns the covariance about zero of the pairs of cells seen together, as it is, in double precision.

    Arguments:
        rows: Centred rows, with shape :math:`(T, D)`. NaN marks a missing cell.

    Returns:
        The covariance, with shape :math:`(D, D)`; not positive definite where cells are missing, or channels follow
        from others.
    """
    return _covariance([_moments(rows, rows)])


def made_definite(covariance: Tensor, ridge: float = 1e-3) -> Tensor:
    r"""Raises a covariance's small eigenvalues, so that it can be conditioned on any of its channels.

    Arguments:
        covariance: The covariance, with shape :math:`(D, D)`.
        ridge: The least eigenvalue, as a share of the largest.

    Returns:
        The positive definite covariance, of the same shape.
    """
    eigenvalues, vectors = torch.linalg.eigh(covariance)
    floor = ridge * eigenvalues.max().clamp(min=1e-6)
    definite: Tensor = (vectors * eigenvalues.clamp(min=float(floor))) @ vectors.mT
    return definite


def shrunk_covariance(rows: Tensor) -> Tensor:
    r"""Estimates a covariance that tells each channel from the others as well as can be.

    .. math:: \Sigma = (1 - \rho) S + \rho \operatorname{diag}(S)

    The share :math:`\rho` is the one by which blocks of time left out are most likely, each channel given all others.

    References:
        | Statistical Analysis of Non-Lattice Data (Besag, 1975), the pseudo-likelihood
        | A Shrinkage Approach to Large-Scale Covariance Matrix Estimation (Schäfer and Strimmer, 2005)

    Arguments:
        rows: Centred rows in order of time, with shape :math:`(T, D)`. NaN marks a missing cell.

    Returns:
        The positive definite covariance, with shape :math:`(D, D)`, in double precision; the variances alone where
        there are fewer rows than twice the folds.
    """
    blocks = [_moments(block, block) for block in rows.tensor_split(FOLDS)]
    whole = _covariance(blocks)
    if len(rows) < 2 * FOLDS:
        return torch.diag(whole.diagonal().clamp(min=1e-6))
    likelihood = torch.zeros(len(SHRINKAGE), dtype=torch.float64)
    for number, held in enumerate(blocks):
        correlation, scale = _correlation(_covariance([*blocks[:number], *blocks[number + 1 :]]))
        eigenvalues, vectors = torch.linalg.eigh(correlation)
        outside = made_definite(_covariance([held]), SHRINKAGE[0]) / scale[:, None] / scale
        counts = held[1].diagonal()
        for place, share in enumerate(SHRINKAGE):
            precision = (vectors / ((1 - share) * eigenvalues.clamp(min=0) + share)) @ vectors.mT
            exact = precision.diagonal()  # one over the variance of each channel given the others
            error = ((precision @ outside) * precision).sum(1) / exact.square()
            likelihood[place] += (counts * (exact.log() - error * exact)).sum()
    correlation, scale = _correlation(whole)
    eigenvalues, vectors = torch.linalg.eigh(correlation)
    share = SHRINKAGE[int(likelihood.argmax())]
    shrunk: Tensor = (vectors * ((1 - share) * eigenvalues.clamp(min=0) + share)) @ vectors.mT
    return shrunk * scale[:, None] * scale


def persistence(rows: Tensor, precision: Tensor, lag: int) -> Tensor:
    r"""Returns how much of what one channel is beside the others is left a step later.

    Arguments:
        rows: Centred rows in order of time, with shape :math:`(T, D)`, `lag` rows of NaN between items. NaN marks a
            missing cell.
        precision: The inverse covariance, with shape :math:`(D, D)`; a diagonal one asks for the channels themselves.
        lag: The steps over which it is measured.

    Returns:
        The correlations, taken to one step as of an autoregression of first order, with shape :math:`(D,)`, within
        :math:`[0, 1)`.
    """
    sums = [_moments(*pair) for pair in ((rows, rows), (rows[:-lag], rows[lag:]))]
    now, later = (((precision @ _covariance([each])) * precision).sum(1) for each in sums)
    return (later / now.clamp(min=1e-12)).clamp(0, 0.9999) ** (1 / lag)


def autocovariance(items: Sequence[Tensor], lags: int) -> Tensor:
    r"""Returns each channel's covariance about zero with itself some steps later, over all items together.

    It is the mean over the pairs of cells that are both seen, its negative frequencies set to zero, so that the
    covariances of cells at any steps are a positive semidefinite matrix. A lag that few pairs show takes the covariance
    of the longest one before it that more do.

    References:
        | Spectral Analysis and Time Series (Priestley, 1981), the spectrum of a positive semidefinite function

    Arguments:
        items: Centred rows of each item in order of time, each with shape :math:`(T_i, D)`. NaN marks a missing cell.
        lags: The longest lag :math:`M`.

    Returns:
        The covariances at the lags from 0 to :math:`M`, with shape :math:`(M + 1, D)`, in double precision.
    """
    total, count = torch.zeros(2, lags + 1, items[0].shape[1], dtype=torch.float64)
    for rows in items:
        if not len(rows):
            continue
        reach = min(lags, len(rows) - 1)
        length = 2 ** (len(rows) + reach).bit_length()  # longer than both, so that the ends do not meet
        for some in torch.arange(rows.shape[1]).split(max(1, HELD // length)):
            seen = ~rows[:, some].isnan()
            for sums, values in ((total, torch.where(seen, rows[:, some], 0.0)), (count, seen)):
                spectrum = torch.fft.rfft(values.double(), n=length, dim=0)
                found = torch.fft.irfft(spectrum.abs().square(), n=length, dim=0)
                sums[: reach + 1, some] += found[: reach + 1]
    count = count.round()
    told = torch.where(count > PAIRS * count[0], torch.arange(lags + 1)[:, None], 0).cummax(0).values
    covariance = (total / count.clamp(min=1)).gather(0, told)
    power = torch.fft.rfft(torch.cat([covariance, covariance[1:-1].flip(0)]), dim=0).real.clamp(min=0)
    definite = torch.fft.irfft(power, n=2 * lags, dim=0)[: lags + 1]
    scaled: Tensor = definite * (covariance[0] / definite[0].clamp(min=1e-12))
    return scaled


def conditional(rows: Tensor, covariance: Tensor) -> tuple[Tensor, Tensor] | None:
    r"""Returns what the other channels tell of each cell, those at the same step that are seen.

    .. math:: \mu_c = \Sigma_{co} \Sigma_{oo}^{-1} x_o, \qquad
        \sigma_c^2 = \Sigma_{cc} - \Sigma_{co} \Sigma_{oo}^{-1} \Sigma_{oc}, \qquad o \not\ni c

    Arguments:
        rows: Centred rows, with shape :math:`(T, D)`. NaN marks a missing cell.
        covariance: The covariance :math:`\Sigma`, with shape :math:`(D, D)`, positive definite, in double precision.

    Returns:
        The means and the variances, both of shape :math:`(T, D)`; 0 and infinity where no channel is seen. None where
        so many channels are missing in so many patterns that it would take minutes.
    """
    rows, channels = rows.double(), rows.shape[1]
    patterns, which = torch.unique(~rows.isnan(), dim=0, return_inverse=True)
    if len(patterns) * channels**3 > MOST:
        return None
    mean, variance = torch.zeros(2, *rows.shape, dtype=torch.float64)
    order = which.argsort(stable=True)
    for some in order.split(max(1, HELD // channels**2)):
        kinds, kind = torch.unique(which[some], return_inverse=True)
        seen = patterns[kinds].double()  # (k, D)
        # The unseen channels get unit variance and no covariance, so that one batched inverse serves every pattern.
        both = seen[:, :, None] * seen[:, None, :]
        inverse = torch.linalg.inv(covariance * both + torch.diag_embed(1 - seen))
        exact = inverse.diagonal(dim1=1, dim2=2)  # one over the variance given the others, where seen
        told = ((covariance @ (inverse * both)) * covariance).sum(2)  # of those not seen
        unseen = torch.where(seen.any(1, keepdim=True), covariance.diagonal() - told, torch.inf)
        x = rows[some].nan_to_num(0.0)
        weighted = (inverse[kind] @ x.unsqueeze(2)).squeeze(2)  # zero where unseen
        known = seen[kind].bool()
        mean[some] = torch.where(known, x - weighted / exact[kind], weighted @ covariance)
        variance[some] = torch.where(seen.bool(), 1 / exact, unseen.clamp(min=0))[kind]
    return mean, variance


def _moments(one: Tensor, other: Tensor) -> tuple[Tensor, Tensor]:
    r"""The sums of the products of pairs of cells seen together, and their numbers, both (D, D)."""
    seen = [(~rows.isnan()).double() for rows in (one, other)]
    values = [torch.where(rows.isnan(), 0.0, rows).double() for rows in (one, other)]
    return values[0].mT @ values[1], seen[0].mT @ seen[1]


def _covariance(moments: Sequence[tuple[Tensor, Tensor]]) -> Tensor:
    total, count = (torch.stack(each).sum(0) for each in zip(*moments, strict=True))
    covariance: Tensor = total / count.clamp(min=1)
    return covariance


def _correlation(covariance: Tensor) -> tuple[Tensor, Tensor]:
    r"""The correlations and the scales of a covariance; a channel that never changes has scale 1."""
    variance = covariance.diagonal()
    scale = torch.where(variance > 1e-12, variance, 1.0).sqrt()
    return (covariance / scale[:, None] / scale).fill_diagonal_(1.0), scale
