r"""Proper scores that decide whether what was fitted on earlier rows stays: cheap ones, free of sampling noise."""

from __future__ import annotations

__all__ = ["choose_copula", "copula_sample_score", "mean_pinball"]

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from ..distribution.quantile_function import LEVELS, QuantileFunction
from .base import Copula
from .independent import Independent

Outcomes = tuple[QuantileFunction, Tensor]
_LEAST = 0.005  # the gain in joint score that a copula must bring: independent samples differ by .002
_CHUNK = 2**22  # numbers of one draw
#: How many samples a window a copula is scored by.
SAMPLES = 100
#: The most distances between channels, or leads, at which variogram scores look at all pairs; beyond, half as many.
LAGS = 64


def mean_pinball(law: QuantileFunction, future: Tensor) -> Tensor:
    r"""Returns each cell's quantile loss, averaged over our levels: a coarse half of the CRPS.

    Arguments:
        law: The law, with values :math:`(n, H, D, Q)`.
        future: What came true, with shape :math:`(n, H, D)`. NaN marks a missing step and stays NaN.
    """
    levels = torch.tensor(LEVELS, dtype=torch.float32)
    error = future.unsqueeze(-1) - law.at(levels)  # (n, H, D, Q)
    return torch.maximum(levels * error, (levels - 1) * error).mean(-1)


def copula_sample_score(copula: Copula, pits: Tensor, told: Outcomes | None = None) -> Tensor:
    r"""Scores a copula, with or without a density, by samples on the scale of normal scores, or of margins.

    The mean of three ratios to what independence scores on the same windows: the energy score over all cells, and the
    variogram score (order .5) over channels and over leads, of which the energy score sees little. Of more than 64
    channels or leads, the variogram score takes pairs at some 30 distances. Every copula ranks the same margins.

    References:
        | Strictly proper scoring rules, prediction, and estimation (Gneiting and Raftery, 2007)
        | Variogram-based proper scoring rules (Scheuerer and Hamill, 2015)

    Arguments:
        copula: The copula, of these windows where it differs by window.
        pits: The transforms of what came true, with shape :math:`(n, H, D)`. A missing step (NaN) counts as the median.
        told: The margins of these windows and what came true, with shape :math:`(n, H, D)`: samples are theirs then,
            which tells atoms as they are.

    Returns:
        The score of each window, with shape :math:`(n,)`; its mean is 1 for independence, lower is better.
    """
    base, found = (
        _sample_scores(each, pits, told) for each in (Independent(copula.prediction_length, copula.channels), copula)
    )
    return _against(base, found)


def _sample_scores(copula: Copula, pits: Tensor, told: Outcomes | None) -> Tensor:
    r"""The three scores (3, n) whose ratios `copula_sample_score` averages."""
    if told is None:
        truth = torch.special.ndtri(pits.double().clamp(1e-3, 1 - 1e-3)).nan_to_num(0.0).float()  # (n, H, D)
    else:
        margins, future = told
        truth = torch.where(future.isnan(), margins.at([0.5])[..., 0], future).float()
    generator = torch.Generator().manual_seed(0)
    step = max(1, _CHUNK // (SAMPLES * truth[0].numel()))
    parts = []
    for start in range(0, len(truth), step):
        some = slice(start, start + step)
        outcome = truth[some]
        levels = copula.of(some).uniforms(SAMPLES, generator, windows=len(outcome))
        if told is None:
            samples = torch.special.ndtri(levels.clamp(1e-3, 1 - 1e-3))
        else:
            samples = margins[some](levels.to(margins.values)).float()
        parts.append(_joint_scores(samples, outcome))
    return torch.cat(parts, 1)


def _against(base: Tensor, found: Tensor) -> Tensor:
    r"""The mean ratio (n,) of scores (3, n) to the mean of those of independence."""
    unit = base.mean(1, keepdim=True)
    seen = unit.squeeze(-1) > 0  # one channel, or one lead, has no variogram
    return (found / unit)[seen].mean(0)


def choose_copula(
    candidates: Mapping[str, Copula], pits: Tensor, told: Outcomes | None = None
) -> tuple[str, dict[str, float]]:
    r"""Chooses the copula that told best what came true: by the log density where all have one, by samples otherwise.

    Arguments:
        candidates: The copulas by name, the simplest first: it stays unless another one's joint score is .5 % better.
        pits: The transforms of what came true on windows that no candidate saw, with shape :math:`(n, H, D)`.
        told: The margins of these windows and what came true, which samples are scored by: see `copula_sample_score`.

    Returns:
        The name of the best, and the mean score of each: higher is better, 0 is independence's.
    """
    gains = {name: copula.log_density(pits) for name, copula in candidates.items()}
    sampled = any(bool(each.isnan().all()) for each in gains.values())
    if sampled:
        first = next(iter(candidates.values()))
        base = _sample_scores(Independent(first.prediction_length, first.channels), pits, told)
        for name, copula in candidates.items():
            found = base if isinstance(copula, Independent) else _sample_scores(copula, pits, told)
            gains[name] = 1 - _against(base, found)
    means = {name: float(gain.mean()) for name, gain in gains.items()}
    simplest, best = next(iter(means)), max(means, key=means.__getitem__)
    return best if means[best] - means[simplest] > (_LEAST if sampled else 0.0) else simplest, means


def _joint_scores(samples: Tensor, truth: Tensor) -> Tensor:
    r"""The energy score and the variogram scores over channels and over leads of windows, (3, n)."""
    number = len(samples)
    error = (samples - truth).flatten(2).transpose(0, 1)  # (n, S, H*D)
    spread = torch.cdist(error, error).sum((1, 2)) / (2 * number * (number - 1))
    energy = error.norm(dim=-1).mean(-1) - spread
    variograms = []
    for axis in (-1, -2):  # over channels, over leads
        total = torch.zeros(len(truth), dtype=torch.float32)
        for lag in _lags(truth.shape[axis]):
            expected = (samples - samples.roll(lag, axis)).abs_().sqrt_().mean(0)
            apart = (truth - truth.roll(lag, axis)).abs().sqrt()
            total += (apart - expected).square().sum((1, 2))
        variograms.append(total)
    return torch.stack([energy, *variograms])


def _lags(size: int) -> list[int]:
    r"""The distances, round a circle, at which pairs of channels or of leads are looked at: near and far ones."""
    if size <= LAGS:
        return list(range(1, size))
    return sorted({round(float(lag)) for lag in np.geomspace(1, size // 2, LAGS // 2)})
