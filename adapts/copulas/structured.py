r"""Structured copula of adapters saved by older versions, for loading and sampling."""

from __future__ import annotations

__all__ = ["StructuredCopula"]

import math
from collections.abc import Mapping
from typing import Self

import torch
from scipy.special import stdtr
from torch import Tensor

from ..persistence.tensors import require_names, taken
from .base import Copula

_MAX_EXPLAINED = 0.98  # maximum fraction of a cell's variance that the factors may explain
_MIN_VARIANCE = 1e-6  # minimum variance of the scores in a file, before they are scaled to one
_MAX_ENTRY = 1.001  # bound on the entries of an orthonormal matrix, with rounding
_MAX_FREEDOM = 1024  # maximum degrees of freedom in a file: a draw takes as many random numbers


class StructuredCopula(Copula):
    r"""Gaussian or Student t copula with separate temporal correlations and latent factors.

    It only serves to load older adapters: nothing fits it any more, as it gained nothing over a Kronecker product and
    the ranks of past errors. The scores of :math:`H` horizon steps and :math:`D` channels are

    .. math:: Z = \sum_r w_r F_r + s \odot \Bigl(\sum_k L_k E_k v_k^\top\Bigr), \qquad w, E \sim N(0, 1)

    Each component :math:`v_k` of the channels has its own correlation over time, unlike in a Kronecker product: the sum
    of all channels may persist longer than their differences. The factors :math:`F` model the remaining dependence. The
    scale :math:`s` sets all variances to one. With finite degrees of freedom, all scores of a draw share one inverse
    chi variable, which creates tail dependence.

    References:
        | The t Copula and Related Copulas (Demarta and McNeil, 2005)

    Arguments:
        basis: The components of the channels as orthonormal columns, with shape :math:`(D, D)`.
        roots: The Cholesky factor of each component's covariance over time, lower triangular, with shape
            :math:`(D, H, H)`.
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
        # Correlations that fade over many steps would leave denormal numbers, which slow a draw tenfold.
        parts = (x.float().where(x.abs() > 1e-12, 0.0).contiguous() for x in (basis, roots, factors))
        self.basis, self.roots, self.factors = parts
        self.freedom = float(freedom)
        factor_variance = self.factors.double().square().sum(0)  # (H, D)
        component_variance = torch.einsum("dk,khj->hd", self.basis.double().square(), self.roots.double().square())
        self.scale = ((1 - factor_variance).clamp(min=1 - _MAX_EXPLAINED) / component_variance).sqrt()
        self.shrink = (
            (_MAX_EXPLAINED / factor_variance.clamp(min=1e-12)).sqrt().clamp(max=1.0)
        )  # limits the variance that the factors explain

    def _scores(self, num_samples: int, windows: int, generator: torch.Generator | None) -> Tensor:
        white = torch.randn(
            num_samples * windows, self.channels, self.prediction_length, generator=generator, dtype=torch.float32
        )
        component_scores = torch.bmm(self.roots, white.permute(1, 2, 0))  # (K, H, S*n)
        mixed = (self.basis @ component_scores.flatten(1)).view(-1, *component_scores.shape[1:])  # (D, H, S*n)
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
        if self.freedom == math.inf:
            normal: Tensor = torch.special.ndtr(scores)
            return normal
        return torch.from_numpy(stdtr(self.freedom, scores.numpy()))

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
        basis = taken(state, "basis", torch.float32, (channels, channels), low=-_MAX_ENTRY, high=_MAX_ENTRY)
        deviation = (basis.double().mT @ basis.double() - torch.eye(channels, dtype=torch.float32)).abs()
        if bool((deviation > _MAX_ENTRY - 1).any()):
            raise ValueError("the tensor 'basis' is expected to hold orthonormal columns")
        factors = taken(state, "factors", torch.float32, (None, horizon, channels))
        variance = torch.einsum("dk,khl->hd", basis.double().square(), roots.double().square())
        if not bool(((variance > _MIN_VARIANCE) & (variance < 1 / _MIN_VARIANCE)).all()):  # (H, D)
            raise ValueError("the tensor 'roots' is expected to give scores with a variance near one")
        freedom = float(taken(state, "freedom", torch.float64, (), low=2, infinite=True))
        if _MAX_FREEDOM < freedom < math.inf:
            raise ValueError(f"the tensor 'freedom' is expected to be at most {_MAX_FREEDOM}, or infinite")
        return cls(basis, roots, factors, freedom)
