r"""Dependence between channels and leads."""

from __future__ import annotations

__all__ = ["Copula", "GaussianCopula", "Independent", "fit_gaussian", "fit_history"]

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from typing import ClassVar, Self

import numpy as np
import torch
from torch import Tensor

from ..errors import shown
from ..persistence.tensors import require_names, taken
from .latent import autoregression, completed, correlation, kronecker
from .pits import Pits

_SMALLEST = 1e-6  # the smallest eigenvalue of a correlation matrix
CHUNK = 2**18  # levels drawn at once: few enough for a cache
MANY = 100  # samples from which on the place within a stratum tells nothing of dependence


class Copula(ABC):
    r"""The joint law of the ranks of :math:`H` leads and :math:`D` channels, margins aside.

    Arguments:
        prediction_length: The number of leads :math:`H`.
        channels: The number of channels :math:`D`.
    """

    name: str
    #: The number of windows that it is of, where their dependence differs; None where it is the same for all.
    windows: int | None = None
    _families: ClassVar[list[type[Copula]]] = []

    def __init_subclass__(cls) -> None:
        Copula._families.append(cls)

    def __init__(self, prediction_length: int, channels: int) -> None:
        self.prediction_length = prediction_length
        self.channels = channels

    def of(self, some: slice | Sequence[int] | Tensor) -> Copula:
        r"""Returns the copula of some of the windows: itself, where it is the same for all.

        Arguments:
            some: A slice, or indices with shape :math:`(n',)`.
        """
        return self

    def uniforms(
        self, num_samples: int, generator: torch.Generator | None = None, windows: int | None = None
    ) -> Tensor:
        r"""Draws joint levels whose margins are stratified.

        Each margin is a permutation of :math:`(i + v_i) / S` with uniform :math:`v_i`: one level in each of the
        :math:`S` strata. The ranks are those of a draw from the copula, and :math:`v` is another draw, so that a
        single sample follows the copula as well; from a hundred samples on, where a stratum is too thin to tell of
        dependence, :math:`v` is independent. With jitter, every level is uniform: what is averaged over the samples is
        unbiased for any :math:`S`, tails included; the midpoints would never go beyond :math:`1 - .5 / S`.

        Arguments:
            num_samples: The number of samples :math:`S`.
            generator: The source of randomness.
            windows: The number of independent windows :math:`n`; one, without an axis for it, if None. A copula that
                differs by window takes a multiple of its own number of windows, which then come in turn.

        Returns:
            The levels, with shape :math:`(S, H, D)`, or :math:`(S, n, H, D)`.

        Raises:
            ValueError: If `windows` is no multiple of the copula's own number of windows.
        """
        count = 1 if windows is None else windows
        levels = torch.empty(num_samples, count, self.prediction_length, self.channels, dtype=torch.float32)
        for cells, order, place in self.strata(num_samples, generator, windows=count):
            sorted_levels = (torch.arange(num_samples) + place).div_(num_samples)
            levels.flatten(1)[:, cells] = torch.empty_like(sorted_levels).scatter_(1, order, sorted_levels).T
        return levels[:, 0] if windows is None else levels

    def strata(
        self, num_samples: int, generator: torch.Generator | None = None, *, windows: int
    ) -> Iterator[tuple[slice, Tensor, Tensor]]:
        r"""The draws of `uniforms`, a cell's from its lowest to its highest, some cells at a time.

        Arguments:
            num_samples: The number of samples :math:`S`.
            generator: The source of randomness.
            windows: The number of independent windows :math:`n`, as for `uniforms`.

        Yields:
            Which :math:`C` of the :math:`n H D` cells these are, which sample has the level of each stratum, and its
            place :math:`v` within the stratum, both with shape :math:`(C, S)`: sample `order[c, i]` has the level
            `(i + place[c, i]) / S` in the `c`-th of the cells.

        Raises:
            ValueError: If `windows` is no multiple of the copula's own number of windows.
        """
        if windows % (self.windows or 1):
            raise ValueError(
                f"a copula of {self.windows} windows draws for a multiple of them, got windows={windows}: take the "
                "copula of some of them with copula.of(some)"
            )
        scores, second = self._scores(num_samples, windows, generator).flatten(1).T, None  # (n*H*D, S)
        if num_samples < MANY:
            second = self._levels(self._scores(num_samples, windows, generator)).flatten(1).T
        step = max(1, CHUNK // num_samples)
        for start in range(0, len(scores), step):
            cells = slice(start, start + step)
            lowest = order(scores[cells])
            chance = (
                torch.rand(lowest.shape, generator=generator, dtype=torch.float32)
                if second is None
                else second[cells].gather(1, lowest)
            )
            yield cells, lowest, chance

    @abstractmethod
    def _scores(self, num_samples: int, windows: int, generator: torch.Generator | None) -> Tensor:
        r"""Independent draws whose ranks follow the copula, (S, n, H, D)."""

    @abstractmethod
    def _levels(self, scores: Tensor) -> Tensor:
        r"""The uniform levels of scores."""

    def log_density(self, pits: Tensor) -> Tensor:
        r"""The log density at what came true, 0 for independence.

        A missing cell counts as the median, which speaks for independence rather than against it.

        Arguments:
            pits: The transforms of what came true, with shape :math:`(n, H, D)`. NaN marks a missing step.

        Returns:
            The log density of each window, with shape :math:`(n,)`, float64; NaN where the copula has no density.
        """
        return torch.full((len(pits),), torch.nan, dtype=torch.float64)

    @abstractmethod
    def state(self) -> dict[str, Tensor]:
        r"""What the copula is made of.

        Returns:
            Tensors only, under keys that begin with the copula's name.
        """

    @staticmethod
    def from_state(state: Mapping[str, Tensor]) -> Copula:
        r"""Makes a copula again from its `state()`.

        Arguments:
            state: The tensors.

        Returns:
            The copula.

        Raises:
            ValueError: If the keys are those of no copula, or a tensor is not as the copula needs it.
        """
        for family in Copula._families:
            if all(key.startswith(f"{family.name}.") for key in state) and state:
                return family._from_state({key.removeprefix(f"{family.name}."): x for key, x in state.items()})
        raise ValueError(f"no copula has a state with the keys {shown(sorted(state))}")

    @classmethod
    @abstractmethod
    def _from_state(cls, state: Mapping[str, Tensor]) -> Self:
        r"""The copula of a state, whose keys come without the copula's name."""


class Independent(Copula):
    r"""No dependence at all.

    Arguments:
        prediction_length: The number of leads :math:`H`.
        channels: The number of channels :math:`D`.

    Example:
        >>> Independent(24, 8).uniforms(200).shape
        torch.Size([200, 24, 8])
    """

    name = "independent"

    def _scores(self, num_samples: int, windows: int, generator: torch.Generator | None) -> Tensor:
        return torch.rand(
            num_samples, windows, self.prediction_length, self.channels, generator=generator, dtype=torch.float32
        )

    def _levels(self, scores: Tensor) -> Tensor:
        return scores

    def log_density(self, pits: Tensor) -> Tensor:  # noqa: D102
        return torch.zeros(len(pits), dtype=torch.float64)

    def state(self) -> dict[str, Tensor]:  # noqa: D102
        return {"independent.shape": torch.tensor([self.prediction_length, self.channels])}

    @classmethod
    def _from_state(cls, state: Mapping[str, Tensor]) -> Self:
        require_names("the copula 'independent'", state, ["shape"])
        horizon, channels = taken(state, "shape", torch.int64, (2,), low=1).tolist()
        return cls(horizon, channels)


class GaussianCopula(Copula):
    r"""A Gaussian copula whose correlation is the Kronecker product of one over time and one over channels.

    Only the two factors are ever formed: a draw is :math:`L_H E L_D^\top` with :math:`E` white, at a cost of
    :math:`O(HD(H + D))`.

    References:
        | Interweaving Marginals into Multivariate Sample Paths (2026)

    Arguments:
        channel_correlation: The correlation between channels, with shape :math:`(D, D)`.
        time_correlation: The correlation between leads, with shape :math:`(H, H)`.

    Example:
        >>> near = torch.tensor([[1.0, 0.9], [0.9, 1.0]])
        >>> u = GaussianCopula(near, torch.eye(3)).uniforms(1000)
        >>> torch.corrcoef(u[:, 0].T)[0, 1] > 0.8
        tensor(True)
    """

    name = "gaussian"

    def __init__(self, channel_correlation: Tensor, time_correlation: Tensor) -> None:
        for label, matrix in (("channel", channel_correlation), ("time", time_correlation)):
            if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1]:
                raise ValueError(f"the {label} correlation must be a square matrix, got {tuple(matrix.shape)}")
        super().__init__(len(time_correlation), len(channel_correlation))
        self.channel_correlation = as_correlation(channel_correlation)
        self.time_correlation = as_correlation(time_correlation)

    def _scores(self, num_samples: int, windows: int, generator: torch.Generator | None) -> Tensor:
        shape = (num_samples, windows, self.prediction_length, self.channels)
        channel, time = (
            torch.linalg.cholesky(matrix.double()).float()
            for matrix in (self.channel_correlation, self.time_correlation)
        )
        white = torch.randn(shape, generator=generator, dtype=torch.float32)
        scores: Tensor = time @ (white @ channel.T)
        return scores

    def _levels(self, scores: Tensor) -> Tensor:
        levels: Tensor = torch.special.ndtr(scores)
        return levels

    def log_density(self, pits: Tensor) -> Tensor:
        r"""The log density at what came true, 0 for independence.

        .. math:: \log c(u) = -\tfrac12 \bigl(D \ln |R_H| + H \ln |R_D|\bigr)
            - \tfrac12 \bigl(\operatorname{tr}(R_H^{-1} Z R_D^{-1} Z^\top) - \lVert Z \rVert^2\bigr),
            \quad Z = \Phi^{-1}(u)

        A missing cell counts as the median, which speaks for independence rather than against it.

        Arguments:
            pits: The transforms of what came true, with shape :math:`(n, H, D)`. NaN marks a missing step.

        Returns:
            The log density of each window, with shape :math:`(n,)`, float64.
        """
        scores = torch.special.ndtri(pits.double().clamp(1e-4, 1 - 1e-4)).nan_to_num(0.0)  # (n, H, D)
        time, channel = (
            torch.linalg.cholesky(each.double()) for each in (self.time_correlation, self.channel_correlation)
        )
        white = torch.linalg.solve_triangular(time, scores, upper=False)
        white = torch.linalg.solve_triangular(channel, white.mT, upper=False)  # (n, D, H)
        logarithms = [2 * factor.diagonal().log().sum() for factor in (time, channel)]
        determinant = self.channels * logarithms[0] + self.prediction_length * logarithms[1]
        score: Tensor = -0.5 * (determinant + white.square().sum((1, 2)) - scores.square().sum((1, 2)))
        return score

    def state(self) -> dict[str, Tensor]:  # noqa: D102
        return {"gaussian.channel": self.channel_correlation, "gaussian.time": self.time_correlation}

    @classmethod
    def _from_state(cls, state: Mapping[str, Tensor]) -> Self:
        require_names("the copula 'gaussian'", state, ["channel", "time"])
        return cls(*(_taken_correlation(state, name) for name in ("channel", "time")))


def as_correlation(matrix: Tensor) -> Tensor:
    r"""Makes a correlation matrix of a symmetric one: eigenvalues clipped, then a unit diagonal.

    Arguments:
        matrix: A symmetric matrix with a positive diagonal, with shape :math:`(N, N)`.

    Returns:
        The correlation matrix, float32; the matrix itself if it is one.
    """
    exact = matrix.double()
    values, vectors = torch.linalg.eigh((exact + exact.T) / 2)
    if values[0] < _SMALLEST:
        exact = (vectors * values.clamp(min=_SMALLEST)) @ vectors.T
    scale = exact.diagonal().rsqrt()
    exact = scale.unsqueeze(-1) * exact * scale
    exact.fill_diagonal_(1.0)
    return exact.float()


def _taken_correlation(state: Mapping[str, Tensor], name: str) -> Tensor:
    r"""The correlation matrix of that name."""
    size = len(state[name]) if state[name].ndim else 0
    matrix = taken(state, name, torch.float32, (size, size))
    if (
        not size
        or not torch.allclose(matrix.diagonal(), torch.ones(size, dtype=torch.float32))
        or not torch.allclose(matrix, matrix.mT)
    ):
        raise ValueError(f"the tensor {name!r} is no correlation matrix: expected a symmetric one with a unit diagonal")
    return matrix


def fit_gaussian(pits: Tensor | Pits, independent: float | None = None) -> GaussianCopula:
    r"""Fits a Gaussian copula to the probability integral transforms of past forecasts.

    Missing outcomes and atoms are completed (see `completed`), and the correlations are those of `kronecker`.

    Arguments:
        pits: The transforms of :math:`n` windows, with shape :math:`(n, H, D)`. NaN marks a missing outcome.
        independent: How many windows without overlap these are worth (see `independent_windows`), fewer of which
            mean more shrinkage; :math:`n` if None.

    Returns:
        The copula; independence if these are worth three windows or fewer, and where nothing was seen to vary.
    """
    weight = float(len(pits) if independent is None else independent)
    return GaussianCopula(*kronecker(completed(pits, weight), weight))


def fit_history(values: Tensor, prediction_length: int) -> GaussianCopula:
    r"""A Gaussian copula from the past alone, without any forecast: the recipe of "Interweaving Marginals".

    Channels are as correlated as the normal scores of the history are; leads are an AR(1) process with the median
    lag-1 correlation, held within [0, .99].

    References:
        | Interweaving Marginals into Multivariate Sample Paths (2026)

    Arguments:
        values: The history, with shape :math:`(T, D)`. NaN marks a missing step.
        prediction_length: The number of leads :math:`H`.

    Returns:
        The copula; independence for what fewer than 32 rows tell of.
    """
    scores = normal_scores(values)
    seen = (~scores.isnan()).double()
    channel = torch.where(seen.T @ seen >= 32, correlation(scores), torch.eye(values.shape[1], dtype=torch.float64))
    successive = torch.stack([scores[:-1], scores[1:]], -1)  # (T-1, D, 2)
    enough = (~successive.isnan().any(-1)).sum(0) >= 32
    lagged = [float(correlation(pairs)[0, 1]) for pairs in successive.unbind(1)]
    rho = float(torch.tensor(lagged, dtype=torch.float64)[enough].median()) if bool(enough.any()) else 0.0
    return GaussianCopula(channel, autoregression(min(max(rho, 0.0), 0.99), prediction_length))


def order(x: Tensor) -> Tensor:
    r"""Which entry is the smallest, the next, ... of each row (C, S) of finite numbers; the earlier one where equal."""
    # `argsort` by numpy's sort of integers, which is ten times as fast: the bits of a float order as it does once those
    # of negative ones are flipped, and behind them comes the entry's number.
    bits = x.float().contiguous().numpy().view(np.int32)
    keys = (bits ^ ((bits >> 31) & np.int32(2**31 - 1))).astype(np.int64)
    keys <<= 32
    keys |= np.arange(x.shape[1])
    keys.sort(axis=-1)
    keys &= 2**32 - 1
    return torch.from_numpy(keys)


def normal_scores(x: Tensor) -> Tensor:
    r"""Normal scores of the ranks along the first axis, (n, C) float64; ties share a score, NaN stays."""
    x = x.double().T.contiguous()
    ordered = x.nan_to_num(nan=torch.inf).sort(dim=-1).values
    rank = (torch.searchsorted(ordered, x) + torch.searchsorted(ordered, x, right=True)).double() / 2
    scores = torch.special.ndtri(rank / (~x.isnan()).sum(-1, keepdim=True))
    return torch.where(x.isnan(), torch.nan, scores).T
