r"""Channels as jointly normal: covariances and conditional distributions."""

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

#: The candidate shrinkage intensities of the correlations.
SHRINKAGE = (1e-5, 1e-4, 1e-3, 3e-3, 0.01, 0.03, 0.1, 0.3, 1.0)
#: The number of cross-validation folds (blocks of time).
FOLDS = 5
#: The maximum number of multiplications for conditioning: a matter of seconds.
MAX_MULTIPLICATIONS = 2**38
#: The minimum number of pairs for a lag's covariance, as a fraction of those at lag 0.
MIN_PAIRS = 0.1
#: The maximum number of elements, of matrices or spectra, in memory at a time.
MAX_ELEMENTS = 2**22


def pairwise_covariance(rows: Tensor) -> Tensor:
    r"""Return the covariance about zero over pairwise complete cells, unmodified, in double precision.

    Arguments:
        rows: Centred rows, with shape :math:`(T, D)`. NaN marks a missing cell.

    Returns:
        The covariance, with shape :math:`(D, D)`; possibly indefinite if cells are missing, and singular for collinear
        channels.
    """
    return _covariance([_moments(rows, rows)])


def made_definite(covariance: Tensor, ridge: float = 1e-3) -> Tensor:
    r"""Raise the small eigenvalues of a covariance, so that any of its channels can be conditioned on.

    Arguments:
        covariance: The covariance, with shape :math:`(D, D)`.
        ridge: The minimum eigenvalue, relative to the largest.

    Returns:
        The positive definite covariance, of the same shape.
    """
    eigenvalues, vectors = torch.linalg.eigh(covariance)
    floor = ridge * eigenvalues.max().clamp(min=1e-6)
    definite: Tensor = (vectors * eigenvalues.clamp(min=float(floor))) @ vectors.mT
    return definite


def shrunk_covariance(rows: Tensor) -> Tensor:
    r"""Estimate a covariance that predicts each channel from the others.

    .. math:: \Sigma = (1 - \rho) S + \rho \operatorname{diag}(S)

    The intensity :math:`\rho` maximises the cross-validated pseudo-likelihood over blocks of time: that of each channel
    given all others.

    References:
        | Statistical Analysis of Non-Lattice Data (Besag, 1975), the pseudo-likelihood
        | A Shrinkage Approach to Large-Scale Covariance Matrix Estimation (Schäfer and Strimmer, 2005)

    Arguments:
        rows: Centred rows in order of time, with shape :math:`(T, D)`. NaN marks a missing cell.

    Returns:
        The positive definite covariance, with shape :math:`(D, D)`, in double precision; the diagonal of variances for
        fewer rows than twice the folds.
    """
    blocks = [_moments(block, block) for block in rows.tensor_split(FOLDS)]
    pooled = _covariance(blocks)
    if len(rows) < 2 * FOLDS:
        return torch.diag(pooled.diagonal().clamp(min=1e-6))
    likelihood = torch.zeros(len(SHRINKAGE), dtype=torch.float64)
    for number, fold in enumerate(blocks):
        correlation, scale = _correlation(_covariance([*blocks[:number], *blocks[number + 1 :]]))
        eigenvalues, vectors = torch.linalg.eigh(correlation)
        fold_covariance = made_definite(_covariance([fold]), SHRINKAGE[0]) / scale[:, None] / scale
        observed = fold[1].diagonal()
        for index, intensity in enumerate(SHRINKAGE):
            precision = (vectors / ((1 - intensity) * eigenvalues.clamp(min=0) + intensity)) @ vectors.mT
            conditional_precision = precision.diagonal()  # of each channel given the others
            conditional_variance = ((precision @ fold_covariance) * precision).sum(1) / conditional_precision.square()
            likelihood[index] += (
                observed * (conditional_precision.log() - conditional_variance * conditional_precision)
            ).sum()
    correlation, scale = _correlation(pooled)
    eigenvalues, vectors = torch.linalg.eigh(correlation)
    intensity = SHRINKAGE[int(likelihood.argmax())]
    shrunk: Tensor = (vectors * ((1 - intensity) * eigenvalues.clamp(min=0) + intensity)) @ vectors.mT
    return shrunk * scale[:, None] * scale


def persistence(rows: Tensor, precision: Tensor, lag: int) -> Tensor:
    r"""Return the autocorrelation of each channel's residual given the other channels.

    Arguments:
        rows: Centred rows in order of time, with shape :math:`(T, D)`, with `lag` rows of NaN between items. NaN marks
            a missing cell.
        precision: The inverse covariance, with shape :math:`(D, D)`; a diagonal one gives the autocorrelation of the
            channels themselves.
        lag: The lag of the measurement in steps.

    Returns:
        The autocorrelations, converted to one step as for a first-order autoregression, with shape :math:`(D,)`, within
        :math:`[0, 1)`.
    """
    sums = [_moments(*pair) for pair in ((rows, rows), (rows[:-lag], rows[lag:]))]
    variance, lagged_covariance = (((precision @ _covariance([moments])) * precision).sum(1) for moments in sums)
    return (lagged_covariance / variance.clamp(min=1e-12)).clamp(0, 0.9999) ** (1 / lag)


def autocovariance(items: Sequence[Tensor], lags: int) -> Tensor:
    r"""Return each channel's autocovariance about zero, pooled over all items.

    It averages over pairs of observed cells. Negative spectral values are set to zero, so that the covariance matrix of
    cells at any steps is positive semidefinite. A lag with few pairs takes the value of the longest shorter lag with
    more.

    References:
        | Spectral Analysis and Time Series (Priestley, 1981), the spectrum of a positive semidefinite function

    Arguments:
        items: Centred rows of each item in order of time, each with shape :math:`(T_i, D)`. NaN marks a missing cell.
        lags: The maximum lag :math:`M`.

    Returns:
        The autocovariances at lags 0 to :math:`M`, with shape :math:`(M + 1, D)`, in double precision.
    """
    total, count = torch.zeros(2, lags + 1, items[0].shape[1], dtype=torch.float64)
    for rows in items:
        if not len(rows):
            continue
        last_lag = min(lags, len(rows) - 1)
        length = 2 ** (len(rows) + last_lag).bit_length()  # padded against circular wrap-around
        for channels in torch.arange(rows.shape[1]).split(max(1, MAX_ELEMENTS // length)):
            observed = ~rows[:, channels].isnan()
            for sums, values in ((total, torch.where(observed, rows[:, channels], 0.0)), (count, observed)):
                spectrum = torch.fft.rfft(values.double(), n=length, dim=0)
                products = torch.fft.irfft(spectrum.abs().square(), n=length, dim=0)
                sums[: last_lag + 1, channels] += products[: last_lag + 1]
    count = count.round()
    valid_lag = torch.where(count > MIN_PAIRS * count[0], torch.arange(lags + 1)[:, None], 0).cummax(0).values
    covariance = (total / count.clamp(min=1)).gather(0, valid_lag)
    power = torch.fft.rfft(torch.cat([covariance, covariance[1:-1].flip(0)]), dim=0).real.clamp(min=0)
    definite = torch.fft.irfft(power, n=2 * lags, dim=0)[: lags + 1]
    scaled: Tensor = definite * (covariance[0] / definite[0].clamp(min=1e-12))
    return scaled


def conditional(rows: Tensor, covariance: Tensor) -> tuple[Tensor, Tensor] | None:
    r"""Return the mean and variance of each cell given the observed cells of other channels at the same step.

    .. math:: \mu_c = \Sigma_{co} \Sigma_{oo}^{-1} x_o, \qquad
        \sigma_c^2 = \Sigma_{cc} - \Sigma_{co} \Sigma_{oo}^{-1} \Sigma_{oc}, \qquad o \not\ni c

    Arguments:
        rows: Centred rows, with shape :math:`(T, D)`. NaN marks a missing cell.
        covariance: The covariance :math:`\Sigma`, with shape :math:`(D, D)`, positive definite, in double precision.

    Returns:
        The means and the variances, both of shape :math:`(T, D)`; 0 and infinity where no channel is observed. None if
        there are too many channels and missing patterns to compute within minutes.
    """
    rows, channels = rows.double(), rows.shape[1]
    patterns, pattern_of_row = torch.unique(~rows.isnan(), dim=0, return_inverse=True)
    if len(patterns) * channels**3 > MAX_MULTIPLICATIONS:
        return None
    mean, variance = torch.zeros(2, *rows.shape, dtype=torch.float64)
    sorted_rows = pattern_of_row.argsort(stable=True)
    for batch in sorted_rows.split(max(1, MAX_ELEMENTS // channels**2)):
        distinct, pattern = torch.unique(pattern_of_row[batch], return_inverse=True)
        observed = patterns[distinct].double()  # (k, D)
        # Missing channels get unit variance and no covariance, so that one batched inverse serves every pattern.
        observed_pairs = observed[:, :, None] * observed[:, None, :]
        inverse = torch.linalg.inv(covariance * observed_pairs + torch.diag_embed(1 - observed))
        conditional_precision = inverse.diagonal(
            dim1=1, dim2=2
        )  # one over the variance given the others, where observed
        explained = ((covariance @ (inverse * observed_pairs)) * covariance).sum(2)  # of missing cells
        missing_variance = torch.where(observed.any(1, keepdim=True), covariance.diagonal() - explained, torch.inf)
        x = rows[batch].nan_to_num(0.0)
        weighted = (inverse[pattern] @ x.unsqueeze(2)).squeeze(2)  # zero where unseen
        observed_cells = observed[pattern].bool()
        mean[batch] = torch.where(observed_cells, x - weighted / conditional_precision[pattern], weighted @ covariance)
        variance[batch] = torch.where(observed.bool(), 1 / conditional_precision, missing_variance.clamp(min=0))[
            pattern
        ]
    return mean, variance


def _moments(first: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:
    r"""Return sums of products over pairs of observed cells, and their counts, both (D, D)."""
    observed = [(~rows.isnan()).double() for rows in (first, second)]
    values = [torch.where(rows.isnan(), 0.0, rows).double() for rows in (first, second)]
    return values[0].mT @ values[1], observed[0].mT @ observed[1]


def _covariance(moments: Sequence[tuple[Tensor, Tensor]]) -> Tensor:
    total, count = (torch.stack(group).sum(0) for group in zip(*moments, strict=True))
    covariance: Tensor = total / count.clamp(min=1)
    return covariance


def _correlation(covariance: Tensor) -> tuple[Tensor, Tensor]:
    r"""Return the correlations and scales of a covariance; a constant channel has scale 1."""
    variance = covariance.diagonal()
    scale = torch.where(variance > 1e-12, variance, 1.0).sqrt()
    return (covariance / scale[:, None] / scale).fill_diagonal_(1.0), scale
