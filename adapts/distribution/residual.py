r"""Dependence over all cells, channels x leads, learnt from past forecast errors."""

from __future__ import annotations

__all__ = ["StructuredCopula", "fit_residual"]

import math
from collections.abc import Mapping
from itertools import pairwise
from typing import Self

import numpy as np
import torch
from torch import Tensor

from ..tensors import require_names, taken
from ..windows import Times, require_times
from .blocks import independent_windows
from .copula import Copula, GaussianCopula, fit_gaussian, normal_scores
from .student import student_cdf, student_log_density, student_scores

_RANK, _NUMBERS = (64, 256), 2**21  # the factors kept of the sample correlation: as many numbers, within these bounds
_NUGGET = 1e-4  # the share of white noise in each component, so that its correlation has an inverse
_MOST = 0.98  # of a cell's variance, what the factors may hold
_FOLDS = 4  # blocks of time, each held out once
_WINDOWS, _CELLS = 600, 2**24  # windows that a fit looks at, and the numbers that they may hold
_SEARCHED = 5000  # cells, the most for which shares are chosen: beyond, the first ones of what would be tried stand
_ROOT = math.gamma(0.75) * 2**0.25 / math.sqrt(math.pi)  # the mean of |Z|^.5

_LEAST = 1e-6  # the smallest variance of scores that a file may hold, before they are scaled to one
_UNIT = 1.001  # the entries of an orthonormal matrix, up to rounding
_MOST_FREEDOM = 1024  # degrees of freedom that a file may ask for: a draw makes as many numbers

# What is tried, in order; the first stands unless another is better by a margin.
_SHAPES = ((0.8, 0.5), (0.8, 0.25), (0.4, 0.0), (0.0, 0.0))  # shares of the components' own time, and of the sample
_HISTORY = (0.0, 0.25, 0.5)  # shares of the history in the correlation of channels
_FREEDOMS = (math.inf, 16, 8, 4)  # degrees of freedom


class StructuredCopula(Copula):
    r"""A Gaussian or Student copula with a correlation of its own for every pair of cells, and no dense matrix.

    The scores of :math:`H` leads and :math:`D` channels are

    .. math:: Z = \sum_r w_r F_r + s \odot \Bigl(\sum_k L_k E_k v_k^\top\Bigr), \qquad w, E \sim N(0, 1)

    Each component :math:`v_k` of the channels has a correlation over time of its own, which a Kronecker product has
    not (the sum of all channels may well last longer than their differences), and the factors :math:`F` hold what
    no such structure tells. The scale :math:`s` makes all variances one. A draw costs :math:`O(HD(H + D + R))`, and so
    does a density. With degrees of freedom, all scores of a draw share one inverse chi variable, so that extremes
    coincide.

    References:
        | The t Copula and Related Copulas (Demarta and McNeil, 2005)

    Arguments:
        basis: The components of the channels, orthonormal, a column each, with shape :math:`(D, D)`.
        roots: The lower triangular root of each component's covariance over time, with shape :math:`(D, H, H)`.
        factors: The factors, with shape :math:`(R, H, D)`; none if None.
        freedom: The degrees of freedom, even; infinite for a Gaussian copula.

    Example:
        >>> copula = StructuredCopula(torch.eye(2), torch.eye(3).expand(2, -1, -1), 0.9 * torch.ones(1, 3, 2))
        >>> u = copula.uniforms(1000)
        >>> torch.corrcoef(u.flatten(1).T).min() > 0.7
        tensor(True)
    """

    name = "structured"

    def __init__(self, basis: Tensor, roots: Tensor, factors: Tensor | None = None, freedom: float = math.inf) -> None:
        channels, horizon = roots.shape[:2]
        factors = torch.zeros(0, horizon, channels, dtype=torch.float32) if factors is None else factors
        if basis.shape != (channels, channels) or factors.shape[1:] != (horizon, channels):
            raise ValueError(
                f"roots of shape {tuple(roots.shape)} go with a basis ({channels}, {channels}) and factors "
                f"(R, {horizon}, {channels}), got {tuple(basis.shape)} and {tuple(factors.shape)}"
            )
        if not (freedom == math.inf or (freedom >= 2 and freedom % 2 == 0)):
            raise ValueError(f"the degrees of freedom are an even number or infinite, got {freedom}")
        super().__init__(horizon, channels)
        # Denormal numbers, of correlations that fade over many leads, would slow a draw tenfold.
        parts = (x.float().where(x.abs() > 1e-12, 0.0).contiguous() for x in (basis, roots, factors))
        self.basis, self.roots, self.factors = parts
        self.freedom = float(freedom)
        held = self.factors.double().square().sum(0)  # (H, D)
        own = torch.einsum("dk,khj->hd", self.basis.double().square(), self.roots.double().square())
        self.scale = ((1 - held).clamp(min=1 - _MOST) / own).sqrt()
        self.shrink = (_MOST / held.clamp(min=1e-12)).sqrt().clamp(max=1.0)  # of factors that would hold too much

    def _scores(self, num_samples: int, windows: int, generator: torch.Generator | None) -> Tensor:
        white = torch.randn(
            num_samples * windows, self.channels, self.prediction_length, generator=generator, dtype=torch.float32
        )
        own = torch.bmm(self.roots, white.permute(1, 2, 0))  # (K, H, S*n)
        mixed = (self.basis @ own.flatten(1)).view(-1, *own.shape[1:])  # (D, H, S*n)
        scores = mixed.permute(2, 1, 0).contiguous().mul_(self.scale.float())
        if len(self.factors):
            weights = torch.randn(len(scores), len(self.factors), generator=generator, dtype=torch.float32)
            scores += (weights @ (self.factors * self.shrink.float()).flatten(1)).view_as(scores)
        if self.freedom < math.inf:
            chi = (
                torch.randn(len(scores), int(self.freedom), generator=generator, dtype=torch.float32).square().mean(-1)
            )
            scores /= chi.sqrt().view(-1, 1, 1)
        return scores.view(num_samples, windows, self.prediction_length, self.channels)

    def _levels(self, scores: Tensor) -> Tensor:
        return student_cdf(scores, self.freedom)

    def log_density(self, pits: Tensor) -> Tensor:  # noqa: D102
        normal = torch.special.ndtri(pits.double().clamp(1e-4, 1 - 1e-4)).nan_to_num(0.0)  # (n, H, D)
        scores = student_scores(normal, self.freedom)
        white = self._whiten(scores)  # (n, D*H)
        square = white.square().sum(1)
        determinant = 2 * (self.roots.double().diagonal(dim1=1, dim2=2).log().sum() + self.scale.log().sum())
        if len(self.factors):  # the Woodbury identity
            factors = self._whiten(self.factors.double() * self.shrink)
            inner = torch.linalg.cholesky(torch.eye(len(factors), dtype=white.dtype) + factors @ factors.T)
            determinant = determinant + 2 * inner.diagonal().log().sum()
            square = square - torch.linalg.solve_triangular(inner, factors @ white.T, upper=False).square().sum(0)
        joint = -0.5 * determinant + student_log_density(square, white.shape[1], self.freedom)
        density: Tensor = joint - student_log_density(scores.square(), 1, self.freedom).sum((1, 2))
        return density

    def _whiten(self, scores: Tensor) -> Tensor:
        r"""What the components' noise would have to be, (n, D*H), for scores (n, H, D)."""
        own = ((scores / self.scale) @ self.basis.double()).permute(2, 1, 0)  # (K, H, n)
        white: Tensor = torch.linalg.solve_triangular(self.roots.double(), own, upper=False)
        return white.permute(2, 0, 1).flatten(1)

    def correlations(self) -> tuple[Tensor, Tensor]:
        r"""The correlations of the scores within a lead and within a channel.

        Returns:
            Those between the channels, with shape :math:`(H, D, D)`, and those between the leads, with shape
            :math:`(D, H, H)`.
        """
        basis, roots = self.basis.double(), self.roots.double()
        covariance = roots @ roots.mT  # (K, H, H)
        factors = self.factors.double() * self.shrink
        channel = torch.einsum("dk,kh,ek->hde", basis, covariance.diagonal(dim1=1, dim2=2), basis)
        channel = channel * self.scale.unsqueeze(-1) * self.scale.unsqueeze(-2)
        time = (basis.square() @ covariance.flatten(1)).view_as(covariance)
        time = time * self.scale.T.unsqueeze(-1) * self.scale.T.unsqueeze(-2)
        by_lead, by_channel = factors.permute(1, 2, 0), factors.permute(2, 1, 0)
        return channel + by_lead @ by_lead.mT, time + by_channel @ by_channel.mT

    def state(self) -> dict[str, Tensor]:  # noqa: D102
        freedom = torch.tensor(self.freedom, dtype=torch.float64)
        parts = {"basis": self.basis, "roots": self.roots, "factors": self.factors, "freedom": freedom}
        return {f"structured.{name}": tensor for name, tensor in parts.items()}

    @classmethod
    def _from_state(cls, state: Mapping[str, Tensor]) -> Self:
        require_names("the copula 'structured'", state, ["basis", "roots", "factors", "freedom"])
        roots = taken(state, "roots", torch.float32, (None, None, None))
        channels, horizon = roots.shape[:2]
        roots = taken(state, "roots", torch.float32, (channels, horizon, horizon))
        if bool((roots.diagonal(dim1=1, dim2=2) <= 0).any()) or bool(roots.triu(1).any()):
            raise ValueError("the tensor 'roots' is expected to hold lower triangular matrices of positive diagonals")
        basis = taken(state, "basis", torch.float32, (channels, channels), low=-_UNIT, high=_UNIT)
        apart = (basis.double().mT @ basis.double() - torch.eye(channels, dtype=torch.float32)).abs()
        if bool((apart > _UNIT - 1).any()):
            raise ValueError("the tensor 'basis' is expected to hold orthonormal columns")
        factors = taken(state, "factors", torch.float32, (None, horizon, channels))
        within = torch.einsum("dk,khl->hd", basis.double().square(), roots.double().square())
        if not bool(((within > _LEAST) & (within < 1 / _LEAST)).all()):  # (H, D)
            raise ValueError("the tensor 'roots' is expected to hold scores of a variance near one")
        freedom = float(taken(state, "freedom", torch.float64, (), low=2, infinite=True))
        if _MOST_FREEDOM < freedom < math.inf:
            raise ValueError(f"the tensor 'freedom' is expected to be at most {_MOST_FREEDOM}, or infinite")
        return cls(basis, roots, factors, freedom)


def fit_residual(
    pits: Tensor,
    time: Times,
    *,
    history: GaussianCopula | None = None,
    student: bool = True,
) -> Copula:
    r"""Fits the dependence of past forecast errors over all channels and leads.

    Each cell is turned into normal scores by its ranks, so miscalibrated margins do not matter. From the simple to the
    rich: a Kronecker product of one correlation over channels and one over leads, both pooled and shrunk as
    `fit_gaussian` does; the channels' part moved towards that of the history; a correlation over time for each
    component of the channels; the sample correlation of all cells, by its leading factors; heavier tails. How far to
    go, and back, is chosen on windows held out, a block of time at a time, whose neighbours that share targets with
    them are left out as well: the shares by the variogram scores over channels and over leads (order .5, of normal
    scores, in closed form), for the log score looks at the directions of least variance most, the tails by the log
    score.

    References:
        | A Shrinkage Approach to Large-Scale Covariance Matrix Estimation (Schäfer and Strimmer, 2005)
        | Variogram-based proper scoring rules (Scheuerer and Hamill, 2015)
        | Interweaving Marginals into Multivariate Sample Paths (2026), for the history's part

    Arguments:
        pits: The transforms of :math:`n` windows, with shape :math:`(n, H, D)`. NaN marks a missing outcome.
        time: When the windows begin (`Windows.time`), in any order.
        history: The copula of the history (see `fit_history`); none is blended in if None.
        student: Whether degrees of freedom are tried.

    Returns:
        The copula; the Kronecker product of `fit_gaussian` where the windows are worth too few to hold any out.
    """
    number, horizon, channels = pits.shape
    require_times(time)
    most = min(_WINDOWS, max(64, _CELLS // (horizon * channels)))
    if number > most:
        some = np.linspace(0, number - 1, most).round().astype(int)
        pits, time = pits[some], time[some]
    worth = independent_windows(time, horizon)
    if worth < 2 * _FOLDS or horizon * channels < 2:
        return fit_gaussian(pits, worth)
    shares = {"history": 0.0, "components": _SHAPES[0][0], "sample": _SHAPES[0][1], "freedom": math.inf}
    if horizon * channels > _SEARCHED:
        return _Moments(pits, worth, history).copula(**shares)
    pairs = []
    edges = np.quantile(np.unique(time.step), np.linspace(0, 1, _FOLDS + 1))
    for first, last in pairwise(edges):
        held = (time.step >= first) & ((time.step < last) | (last == edges[-1]))
        rest = (time.step <= first - horizon) | (time.step >= last + horizon)
        if held.any() and rest.sum() > 1:
            kept = independent_windows(time[rest], horizon)
            pairs.append((_Moments(pits[rest], kept, history), _HeldOut(pits[held])))

    grids: list[tuple[str, float, list[dict[str, float]]]] = [
        ("variogram_score", 1e-3, [{"components": own, "sample": sample} for own, sample in _SHAPES]),
        ("variogram_score", 1e-2, [{"history": share} for share in _HISTORY if history is not None and channels > 1]),
        ("log_score", 1e-2, [{"freedom": freedom} for freedom in _FREEDOMS if student]),
    ]
    for score, margin, tries in grids:
        means: list[float] = []
        for each in tries:
            gains = [getattr(held, score)(moments.copula(**{**shares, **each})) for moments, held in pairs]
            means.append(float(np.mean(gains)) - margin * (len(means) > 0))
        shares |= tries[int(np.argmax(means))] if tries else {}
    return _Moments(pits, worth, history).copula(**shares)


class _HeldOut:
    r"""Windows that scores are taken on; higher is better, independence gets 0."""

    def __init__(self, pits: Tensor) -> None:
        self.pits = pits
        scores = torch.special.ndtri(pits.double().clamp(1e-3, 1 - 1e-3))  # (n, H, D)
        self.apart = _roots_apart(scores), _roots_apart(scores.mT)  # (H, D, D), (D, H, H)

    def log_score(self, copula: StructuredCopula) -> float:
        return float(copula.log_density(self.pits).mean()) / self.pits[0].numel()

    def variogram_score(self, copula: StructuredCopula) -> float:
        gains = []
        for (mean, square), correlation in zip(self.apart, copula.correlations(), strict=True):
            away = 1 - torch.eye(mean.shape[-1], dtype=mean.dtype)
            expected = _ROOT * (2 - 2 * correlation).clamp(min=0) ** 0.25
            none = _ROOT * 2**0.25 * away
            scores = [(square - 2 * mean * each + each.square()).mul(away).nansum() for each in (none, expected)]
            gains.append(float(1 - scores[1] / scores[0]) if scores[0] > 0 else 0.0)
        return sum(gains)


def _roots_apart(scores: Tensor) -> tuple[Tensor, Tensor]:
    r"""The mean of :math:`|z_i - z_j|^{.5}` and of its square over windows (n, A, B), each (A, B, B)."""
    mean, square, seen = torch.zeros(3, *scores.shape[1:], scores.shape[2], dtype=scores.dtype)
    for window in scores:
        distance = (window.unsqueeze(-1) - window.unsqueeze(-2)).abs()
        mean += distance.sqrt().nan_to_num(0.0)
        square += distance.nan_to_num(0.0)
        seen += ~distance.isnan()
    return mean / seen, square / seen


class _Moments:
    r"""What a fit looks at, computed once for all shares: correlations on the scale of normal scores."""

    def __init__(self, pits: Tensor, worth: float, history: GaussianCopula | None) -> None:
        self.scores = normal_scores(pits.flatten(1)).nan_to_num(0.0).view_as(pits)  # (n, H, D)
        pooled = fit_gaussian(pits, worth)
        self.channel, self.time = pooled.channel_correlation.double(), pooled.time_correlation.double()
        self.history = None if history is None else history.channel_correlation.double()
        unit = self.scores / self.scores.square().mean(0).sqrt().clamp(min=1e-6)
        rows = unit.flatten(1) / math.sqrt(len(unit))  # (n, H*D), whose Gram matrix is the sample correlation
        rank = min(max(_NUMBERS // rows.shape[1], _RANK[0]), _RANK[1])
        vectors = torch.linalg.eigh(rows @ rows.T)[1][:, -rank:]
        self.leading = (vectors.T @ rows).view(-1, *unit.shape[1:])  # (R, H, D)

    def copula(self, history: float, components: float, sample: float, freedom: float) -> StructuredCopula:
        channel = self.channel if self.history is None else torch.lerp(self.channel, self.history, history)
        values, basis = torch.linalg.eigh(channel)
        shape = self.time.expand(len(values), -1, -1)
        if components:
            own = (self.scores @ basis).permute(2, 1, 0)  # (K, H, n)
            own = own @ own.mT / own.shape[-1]
            size = own.diagonal(dim1=1, dim2=2).mean(1).clamp(min=1e-9)
            shape = torch.lerp(shape, own / size.view(-1, 1, 1), components)
        white = torch.eye(len(self.time), dtype=torch.float64)
        covariance = values.clamp(min=1e-6).view(-1, 1, 1) * torch.lerp(shape, white, _NUGGET)
        # What the leading factors leave of the sample's variances is noise of the cells.
        covariance = (1 - sample) * covariance + sample * float(1 - self.leading.square().sum(0).mean()) * white
        roots = torch.linalg.cholesky(covariance)
        factors = math.sqrt(sample) * self.leading if sample else None
        return StructuredCopula(basis, roots, factors, freedom)
