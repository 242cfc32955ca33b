r"""Bayesian linear regression with the noise variance integrated out."""

from __future__ import annotations

__all__ = ["BayesianRegression"]

from typing import NamedTuple

import torch
from torch import Tensor


class StudentT(NamedTuple):
    r"""Predictive distribution of targets: Student's t with location and scale."""

    location: Tensor
    scale: Tensor
    degrees_of_freedom: Tensor

    @property
    def variance(self) -> Tensor:
        r"""Return the variance, infinite for at most two degrees of freedom."""
        inflation = torch.where(
            self.degrees_of_freedom > 2, self.degrees_of_freedom / (self.degrees_of_freedom - 2), torch.inf
        )
        return self.scale.square() * inflation


class BayesianRegression:
    r"""Exact posterior of linear regression under the conjugate prior with unknown noise variance.

    .. math:: y_j = X w_j + \varepsilon_j, \quad \varepsilon_j \sim \mathcal N(0, \sigma_j^2 I), \quad
        w_j | \sigma_j^2 \sim \mathcal N(w_{0j}, \sigma_j^2 \Lambda_0^{-1}), \quad \sigma_j^2 \sim \mathrm{IG}(a_0, b_0)

    Targets share their regressors and :math:`\Lambda_0`, and have separate noise variances. The posterior of this
    matrix-normal inverse-gamma model is

    .. math:: \Lambda_n = \Lambda_0 + X^\top X, \quad
        \Lambda_n w_{nj} = \Lambda_0 w_{0j} + X^\top y_j, \quad a_n = a_0 + \tfrac n2, \quad
        b_{nj} = b_{0} + \tfrac12 \bigl(y_j^\top y_j + w_{0j}^\top \Lambda_0 w_{0j} - w_{nj}^\top \Lambda_n w_{nj}\bigr)

    The posterior mean is the ridge solution of strength :math:`\Lambda_0` around :math:`W_0`. The rows count as
    independent. Where errors are dependent, as for overlapping windows, the posterior is overconfident.

    References:
        | Bayesian Data Analysis (Gelman et al., 2013), chapter 14
        | Machine Learning: A Probabilistic Perspective (Murphy, 2012), section 7.6.3

    Arguments:
        gram: The matrix :math:`X^\top X`, with shape :math:`(*, p, p)`.
        cross: The matrix :math:`X^\top Y`, with shape :math:`(*, p, q)`.
        square: The sums :math:`y_j^\top y_j`, with shape :math:`(*, q)`.
        count: The number of rows :math:`n`; a tensor broadcasts against :math:`(*, q)`.
        precision: The diagonal of :math:`\Lambda_0`: positive, with a shape that broadcasts against :math:`(*, p)`.
            Infinity fixes a coefficient at its prior mean.
        prior: The prior means :math:`W_0`, with shape :math:`(*, p, q)`; zero if None.
        shape: The prior's :math:`a_0`; positive. The defaults of shape and rate are almost non-informative.
        rate: The prior's :math:`b_0`; positive.

    Example:
        >>> x, y = torch.randn(100, 3).double(), torch.randn(100, 2).double()
        >>> posterior = BayesianRegression.fit(x, y, precision=2.0)
        >>> posterior.mean.shape, posterior.draw(20).shape, posterior.predict(x).location.shape
        (torch.Size([3, 2]), torch.Size([20, 3, 2]), torch.Size([100, 2]))
    """

    def __init__(
        self,
        gram: Tensor,
        cross: Tensor,
        square: Tensor,
        count: float | Tensor,
        precision: float | Tensor,
        *,
        prior: Tensor | None = None,
        shape: float = 1e-6,
        rate: float = 1e-6,
    ) -> None:
        prior = torch.zeros_like(cross) if prior is None else prior
        self.prior, self.count = prior, torch.as_tensor(count).to(square)
        square = square - 2 * (prior * cross).sum(-2) + (prior * (gram @ prior)).sum(-2)
        cross = cross - gram @ prior
        # In units of the prior: w = w_0 + s v, v with unit precision, and s = 0 where the precision is infinite.
        size = torch.as_tensor(precision).to(gram).rsqrt().expand(gram.shape[:-1]).unsqueeze(-1)  # (*, p, 1)
        unit = torch.eye(gram.shape[-1], dtype=torch.float32).to(gram)
        lower = torch.linalg.cholesky(unit + size * gram * size.mT)
        whitened = torch.linalg.solve_triangular(lower, size * cross, upper=False)  # (*, p, q)
        #: A square root :math:`F` of the posterior's unit covariance, :math:`F F^\top = \Lambda_n^{-1}`, (*, p, p).
        self.factor: Tensor = size * torch.linalg.solve_triangular(lower.mT, unit.expand_as(lower), upper=True)
        #: The posterior means :math:`W_n`, of shape (*, p, q).
        self.mean: Tensor = prior + self.factor @ whitened
        #: The posterior's :math:`a_n` and :math:`b_n`, of shape (*, q).
        self.shape: Tensor = (shape + 0.5 * self.count).expand(square.shape)
        self.rate: Tensor = rate + 0.5 * (square - whitened.square().sum(-2)).clamp(min=0)
        self._prior_shape: Tensor = torch.tensor(shape, dtype=torch.float32).to(gram)
        self._prior_rate: Tensor = torch.tensor(rate, dtype=torch.float32).to(gram)
        self._root: Tensor = torch.linalg.solve_triangular(lower, unit.expand_as(lower), upper=False)
        # log |Λ_0| / |Λ_n|
        self._log_shrinkage: Tensor = -2 * lower.diagonal(dim1=-2, dim2=-1).log().sum(-1, keepdim=True)
        self._pull: Tensor = (self._root.mT @ whitened).square().sum(-2)  # (w_n - w_0)' Λ_0 (w_n - w_0)

    @classmethod
    def fit(cls, x: Tensor, y: Tensor, precision: float | Tensor, *, prior: Tensor | None = None) -> BayesianRegression:
        r"""Return the posterior given the rows.

        Arguments:
            x: The regressors, with shape :math:`(*, n, p)`.
            y: The targets, with shape :math:`(*, n, q)`.
            precision: The diagonal of :math:`\Lambda_0`.
            prior: The prior means :math:`W_0`; zero if None.
        """
        return cls(x.mT @ x, x.mT @ y, y.square().sum(-2), x.shape[-2], precision, prior=prior)

    @property
    def noise(self) -> Tensor:
        r"""Return the posterior mean of the noise variance, :math:`b_n / (a_n - 1)`, of shape :math:`(*, q)`."""
        return torch.where(self.shape > 1, self.rate / (self.shape - 1), torch.inf)

    @property
    def covariance(self) -> Tensor:
        r"""Return the covariance of each target's coefficients, of shape :math:`(*, q, p, p)`."""
        covariance: Tensor = self.noise[..., None, None] * (self.factor @ self.factor.mT).unsqueeze(-3)
        return covariance

    @property
    def divergence(self) -> Tensor:
        r"""Return the KL divergence of the posterior from the prior, in nats, of shape :math:`(*, q)`."""
        a, b, a0, b0 = self.shape, self.rate, self._prior_shape, self._prior_rate
        noise = (a - a0) * a.digamma() - a.lgamma() + a0.lgamma() + a0 * (b / b0).log() + a * (b0 - b) / b
        trace = self._root.square().sum((-2, -1)).unsqueeze(-1) - self._root.shape[-1]  # tr Λ_0 Λ_n^-1 - p
        return noise + 0.5 * (trace + self._pull * a / b - self._log_shrinkage)

    def draw(self, count: int, generator: torch.Generator | None = None) -> Tensor:
        r"""Draw coefficients from the posterior.

        Arguments:
            count: The number of draws :math:`M`.
            generator: The random number generator; PyTorch's own if None.

        Returns:
            The draws, with shape :math:`(M, *, p, q)`.
        """
        return self.mean + draw_deviation(count, self.factor, self.shape, self.rate, generator)

    def predict(self, x: Tensor) -> StudentT:
        r"""Return the predictive distribution of new targets, noise included.

        Arguments:
            x: The regressors, with shape :math:`(*, m, p)`.

        Returns:
            Location, scale and degrees of freedom, with shape :math:`(*, m, q)`, and the variance.
        """
        width = 1 + (x @ self.factor).square().sum(-1, keepdim=True)  # (*, m, 1)
        scale = (width * (self.rate / self.shape).unsqueeze(-2)).sqrt()
        return StudentT(x @ self.mean, scale, (2 * self.shape).unsqueeze(-2).expand_as(scale))


def draw_deviation(
    count: int, factor: Tensor, shape: Tensor, rate: Tensor, generator: torch.Generator | None = None
) -> Tensor:
    r"""Draw deviations of coefficients from their posterior mean.

    The noise variance is drawn first, then the coefficients given it.

    Arguments:
        count: The number of draws :math:`M`.
        factor: The square root :math:`F`, with shape :math:`(*, p, p)`.
        shape: The posterior's :math:`a_n`, with shape :math:`(*, q)`.
        rate: The posterior's :math:`b_n`, with shape :math:`(*, q)`.
        generator: The random number generator; PyTorch's own if None.

    Returns:
        The deviations, with shape :math:`(M, *, p, q)`.
    """
    device = factor.device if generator is None else generator.device
    size = count, *factor.shape[:-1], rate.shape[-1]
    normal = torch.randn(size, generator=generator, device=device, dtype=factor.dtype)
    gamma = torch._standard_gamma(shape.expand(count, *rate.shape).to(device).contiguous(), generator=generator)
    noise = (rate / gamma.to(rate).clamp(min=torch.finfo(rate.dtype).tiny)).sqrt()  # (M, *, q)
    return (factor @ normal.to(factor)) * noise.unsqueeze(-2)
