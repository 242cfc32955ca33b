r"""Proper scores for the selection of what was fitted on earlier rows."""

from __future__ import annotations

__all__ = ["choose_copula", "copula_sample_score", "mean_pinball"]

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from ..batching import slices
from ..distribution.levels import LEVELS
from ..distribution.quantile_function import QuantileFunction
from ..statistics.losses import energy_score, pinball_loss
from .base import Copula
from .independent import Independent

Outcomes = tuple[QuantileFunction, Tensor]
_MIN_GAIN = 0.005  # the minimum gain in joint score of a copula; sampling noise is about .002
_CHUNK = 2**22  # numbers per draw
#: The number of samples per window that score a copula.
SAMPLES = 100
#: Up to so many channels (or horizon steps) the variogram score uses all lags; beyond, about half as many lags.
LAGS = 64


def mean_pinball(marginals: QuantileFunction, future: Tensor) -> Tensor:
    r"""Return each cell's quantile loss averaged over `LEVELS`: a discrete approximation to half of the CRPS.

    Arguments:
        marginals: The marginals, with values :math:`(n, H, D, Q)`.
        future: The observed values, with shape :math:`(n, H, D)`. NaN marks a missing step and stays NaN.
    """
    levels = torch.tensor(LEVELS, dtype=torch.float32)
    return pinball_loss(future.unsqueeze(-1) - marginals.at(levels), levels).mean(-1)  # of (n, H, D, Q)


def copula_sample_score(copula: Copula, pits: Tensor, outcomes: Outcomes | None = None) -> Tensor:
    r"""Score a copula, with or without a density, by samples.

    The score is the mean of three ratios to the scores of independence on the same windows: the energy score over all
    cells, and the variogram scores (order .5) over channels and over horizon steps. The energy score alone is weakly
    sensitive to dependence. For more than 64 channels or horizon steps, the variogram score uses pairs at some 30 lags.
    All copulas are scored with the same marginals.

    References:
        | Strictly proper scoring rules, prediction, and estimation (Gneiting and Raftery, 2007)
        | Variogram-based proper scoring rules (Scheuerer and Hamill, 2015)

    Arguments:
        copula: The copula, restricted to these windows if it differs by window.
        pits: The PITs of observed values, with shape :math:`(n, H, D)`. A missing step (NaN) is set to the median.
        outcomes: The marginals of these windows and the observed values, with shape :math:`(n, H, D)`. If given, the
            samples follow these marginals, which represents atoms correctly; if None, they are normal scores.

    Returns:
        The score of each window, with shape :math:`(n,)`. Its mean is 1 for independence; lower is better.
    """
    reference, scores = (
        _sample_scores(candidate, pits, outcomes)
        for candidate in (Independent(copula.prediction_length, copula.channels), copula)
    )
    return _against(reference, scores)


def _sample_scores(copula: Copula, pits: Tensor, outcomes: Outcomes | None) -> Tensor:
    r"""Return the three scores (3, n) whose ratios `copula_sample_score` averages."""
    if outcomes is None:
        truth = torch.special.ndtri(pits.double().clamp(1e-3, 1 - 1e-3)).nan_to_num(0.0).float()  # (n, H, D)
    else:
        marginals, future = outcomes
        truth = torch.where(future.isnan(), marginals.at([0.5])[..., 0], future).float()
    generator = torch.Generator().manual_seed(0)
    parts = []
    for chunk in slices(len(truth), SAMPLES * truth[0].numel(), _CHUNK):
        observed = truth[chunk]
        levels = copula.of(chunk).uniforms(SAMPLES, generator, windows=len(observed))
        if outcomes is None:
            samples = torch.special.ndtri(levels.clamp(1e-3, 1 - 1e-3))
        else:
            samples = marginals[chunk](levels.to(marginals.values)).float()
        parts.append(_joint_scores(samples, observed))
    return torch.cat(parts, 1)


def _against(reference: Tensor, scores: Tensor) -> Tensor:
    r"""Return the mean ratio (n,) of scores (3, n) to the mean scores of independence."""
    unit = reference.mean(1, keepdim=True)
    defined = unit.squeeze(-1) > 0  # one channel, or one horizon step, has no variogram
    return (scores / unit)[defined].mean(0)


def choose_copula(
    candidates: Mapping[str, Copula], pits: Tensor, outcomes: Outcomes | None = None
) -> tuple[str, dict[str, float]]:
    r"""Select the best copula out of sample, by log density or by sample scores.

    The log density decides if every candidate has one, the sample score otherwise.

    Arguments:
        candidates: The copulas by name, the simplest first. The simplest is retained unless the gain of another one is
            positive, or above .5 % for sample scores.
        pits: The PITs of observed values on windows that no candidate was fitted on, with shape :math:`(n, H, D)`.
        outcomes: The marginals of these windows and the observed values, for sample scores: see `copula_sample_score`.

    Returns:
        The name of the selected copula, and the mean score of each candidate: higher is better, independence scores 0.
    """
    gains = {name: copula.log_density(pits) for name, copula in candidates.items()}
    sampled = any(bool(gain_of_windows.isnan().all()) for gain_of_windows in gains.values())
    if sampled:
        first = next(iter(candidates.values()))
        reference = _sample_scores(Independent(first.prediction_length, first.channels), pits, outcomes)
        for name, copula in candidates.items():
            scores = reference if isinstance(copula, Independent) else _sample_scores(copula, pits, outcomes)
            gains[name] = 1 - _against(reference, scores)
    means = {name: float(gain.mean()) for name, gain in gains.items()}
    simplest, best = next(iter(means)), max(means, key=means.__getitem__)
    return best if means[best] - means[simplest] > (_MIN_GAIN if sampled else 0.0) else simplest, means


def _joint_scores(samples: Tensor, truth: Tensor) -> Tensor:
    r"""Return the energy score and both variogram scores of windows, (3, n)."""
    energy = energy_score((samples - truth).flatten(2).transpose(0, 1))  # of (n, S, H*D)
    variograms = []
    for axis in (-1, -2):  # over channels, over horizon steps
        total = torch.zeros(len(truth), dtype=torch.float32)
        for lag in _lags(truth.shape[axis]):
            expected = (samples - samples.roll(lag, axis)).abs_().sqrt_().mean(0)
            observed = (truth - truth.roll(lag, axis)).abs().sqrt()
            total += (observed - expected).square().sum((1, 2))
        variograms.append(total)
    return torch.stack([energy, *variograms])


def _lags(size: int) -> list[int]:
    r"""Return the circular lags between channels, or horizon steps, for the variogram score."""
    if size <= LAGS:
        return list(range(1, size))
    return sorted({round(float(lag)) for lag in np.geomspace(1, size // 2, LAGS // 2)})
