r"""What every frozen foundation model shares: checks, unrolling, chunks, the fingerprint."""

from __future__ import annotations

__all__ = ["FoundationModel", "Unroll"]

import copy
import hashlib
import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from itertools import chain
from typing import Literal, Self

import torch
from torch import Tensor, nn

from ..imputation.interpolation import aligned_to_end, interpolated
from .cache import current_cache

Unroll = Literal["quantile", "median"]
MODERATE = 20  # series whose largest value lies beyond this power of two, or its inverse, are forecast in other units
PATHS = 12  # drawn of each series to go beyond one pass of the model
STRATA = 20  # of even probability, in whose middles laws of paths are read to be mixed
SMOOTH = 1e-4  # keeps the slope of a square root finite
LARGEST = 1e17  # of the values of a context: the sum of their squares is a float32 number


class FoundationModel(nn.Module, ABC):
    r"""Abstract frozen univariate forecaster: each row of the context is a series of its own.

    A subclass writes `_forecast`, one pass of the model. The weights are frozen and the mode is eval, for good: call
    `freeze` at the end of `__init__`. Hold the model in a tuple, `self._foundation_model = (model,)`, where its
    weights must stay out of a module's `parameters()` and `state_dict()`: a plain attribute would register it.

    Arguments:
        name: The checkpoint's name.
        version: The checkpoint's version.
        quantile_levels: The levels that the model forecasts, increasing, with the median among them.
        context_length: The number of steps that the model reads; of a longer context the last ones are used.
        prediction_length: The number of steps that one pass gives.
        differentiable: Whether gradients reach the context.
        step_bytes: The memory that one pass takes for each step of each context, without gradients.
    """

    #: The memory in bytes that one chunk of `predict` may take for activations; may be set on the instance. On a CPU
    #: larger chunks are slower: they leave the caches.
    memory_budget: int = 64 * 2**20

    def __init__(
        self,
        *,
        name: str,
        version: str = "unknown",
        quantile_levels: Sequence[float],
        context_length: int,
        prediction_length: int,
        differentiable: bool = True,
        step_bytes: int = 32 * 2**10,
    ) -> None:
        super().__init__()
        levels = tuple(float(level) for level in quantile_levels)
        if list(levels) != sorted(set(levels)) or 0.5 not in levels or levels[0] <= 0 or levels[-1] >= 1:
            raise ValueError(
                f"the foundation model {name!r} needs increasing quantile levels between 0 and 1, the median (0.5) "
                f"among them, got {levels}"
            )
        self.name = name
        self.version = version
        self.quantile_levels = levels
        self.context_length = context_length
        self.prediction_length = prediction_length
        self.differentiable = differentiable
        self.step_bytes = step_bytes

    @abstractmethod
    def _forecast(self, context: Tensor) -> Tensor:
        r"""Forecasts one block, differentiably where the model is.

        Arguments:
            context: The series, with shape :math:`(N, L)`; float32, on the model's device, :math:`L` at most
                `context_length`. NaN marks a missing step; a row may hold nothing else, or be constant.

        Returns:
            The quantiles, with shape :math:`(N, Q, P)`, :math:`P` being `self.prediction_length`; finite, crossing or
            not, with finite gradients for every such context.
        """

    def forward(self, context: Tensor, prediction_length: int, *, unroll: Unroll = "quantile") -> Tensor:
        r"""Forecasts each series alone, :math:`(N, L) \to (N, Q, H)`; gradients reach the context.

        Beyond one pass of the model, blocks are unrolled. `"quantile"` appends paths drawn of the block's law, and
        takes the levels of the mixture of all the forecasts that come of them, at 12 times the batch from the second
        block on. Steps of a path hang together as the growth of the widths along the block tells (white noise has none,
        a random walk's variance grows with the lead), so that what follows reads a series as noisy as the one before;
        smooth paths of one level each, as `ChronosBoltPipeline.predict` appends them, make later blocks ever narrower.
        The draws are the same for every series and call. `"median"` appends the median: one row a series, for training.

        Arguments:
            context: The series, oldest step first, with shape :math:`(N, L)`; any floating type, any device, any
                units in which they move by 1e-17 to 1e17 (models square them in float32). NaN marks a missing step
                and gets a zero gradient. Of more than `context_length` steps the last are used. What a row without
                any observation gets is finite: the forecast of a series of which nothing is known, in units of
                location 0 and scale 1.
            prediction_length: The number of steps :math:`H` to forecast; any.
            unroll: How to go beyond the model's own prediction length.

        Returns:
            The quantiles at `quantile_levels`, with shape :math:`(N, Q, H)`; float32, on the context's device, sorted
            along :math:`Q` (monotone rearrangement; Chernozhukov et al., 2010).

        Raises:
            ValueError: If the context, the prediction length or the way to unroll is not as said, or if a gradient is
                asked of a model that has none.
        """
        self._require(context, prediction_length)
        if unroll not in ("quantile", "median"):
            raise ValueError(f"{self.name}: unroll is 'quantile' or 'median', got {unroll!r}")
        if context.requires_grad and torch.is_grad_enabled() and not self.differentiable:
            raise ValueError(
                f"{self.name} has no gradient with respect to its context: fit only what comes after it (a decoder), "
                f"or take a differentiable foundation model"
            )
        if len(context) == 0:
            return context.new_zeros(0, len(self.quantile_levels), prediction_length, dtype=torch.float32)
        series = context[:, -self.context_length :].to(self.device, torch.float32)
        steps = self._unroll_median if unroll == "median" else self._unroll_quantiles
        quantiles = steps(series, prediction_length)[..., :prediction_length]  # (N, Q, H)
        return quantiles.sort(dim=1).values.to(context.device)

    @torch.no_grad()
    def predict(self, context: Tensor, prediction_length: int) -> Tensor:
        r"""Forecasts any number of series without gradients, in chunks that fit in `memory_budget` bytes.

        A series whose last :math:`g` steps are missing is forecast from its last observation on, :math:`g` steps
        further: models are made for contexts that end with a value, and forecast much worse behind a gap. Short gaps
        within are interpolated (see `adapts.imputation.interpolation`): models take a series of which every other step
        is missing for another one. A series that is constant is forecast as that constant, without spread: models add a
        little of a fixed size to any scale. Very large and very small series are forecast in other units. Otherwise the
        numbers are those of `forward`, up to the rounding of matrix products of another batch size.

        Arguments:
            context: The series, with shape :math:`(N, L)`, as `forward` takes them.
            prediction_length: The number of steps :math:`H` to forecast; any.

        Returns:
            The sorted quantiles, with shape :math:`(N, Q, H)`; float32, on the context's device.

        Raises:
            ValueError: If the context or the prediction length is not as `forward` takes them, or a value is infinite
                or too large.
        """
        self._require(context, prediction_length)
        cache = current_cache()
        if cache is None or len(context) == 0:
            return self._predict_any(context, prediction_length)
        return cache.predict(self, context, prediction_length, lambda some: self._predict_any(some, prediction_length))

    def _predict_any(self, context: Tensor, prediction_length: int) -> Tensor:
        r"""`predict` without what was forecast before."""
        if len(context) == 0:
            return self.forward(context, prediction_length)
        high = context.nan_to_num(-math.inf, posinf=math.inf, neginf=-math.inf).amax(1)  # (N,), -inf of a row of NaN
        low = context.nan_to_num(math.inf, posinf=math.inf, neginf=-math.inf).amin(1)
        sizes = torch.where(context.isnan().all(1), 0.0, torch.maximum(high.abs(), low.abs()))
        if float(sizes.max()) > LARGEST:
            raise ValueError(
                f"{self.name} takes values of at most {LARGEST:g} in size, NaN where one is missing, got "
                f"{float(sizes.max()):g}: divide the series, and multiply its forecast"
            )
        exponent = torch.frexp(sizes)[1].clamp(-120, 120)  # a power of two changes no digit
        exponent = torch.where(exponent.abs() > MODERATE, exponent, 0).unsqueeze(1)  # (N, 1)
        quantiles = self._predict(torch.ldexp(context, -exponent), prediction_length)
        quantiles = torch.ldexp(quantiles, exponent.unsqueeze(2))
        if not bool(quantiles.isfinite().all()):
            raise ValueError(
                f"the foundation model {self.name} gave forecasts that are NaN or infinite, expected finite ones: its "
                "weights are damaged, or it does not take such series"
            )
        constant = (low == high)[:, None, None]
        return torch.where(constant, high.to(quantiles)[:, None, None], quantiles)

    def _predict(self, context: Tensor, prediction_length: int) -> Tensor:
        r"""`predict` of series of moderate size."""
        context = interpolated(context)
        ended, gap = aligned_to_end(context)
        if not bool(gap.any()):
            rows = self.chunk_rows(context.shape[1], prediction_length)
            starts = range(0, max(1, len(context)), rows)
            return torch.cat([self.forward(context[start : start + rows], prediction_length) for start in starts])
        leads = gap.unsqueeze(1) + torch.arange(prediction_length, device=context.device)  # (N, H)
        passes = leads[:, -1] // self.prediction_length
        quantiles = ended.new_empty(len(ended), len(self.quantile_levels), prediction_length, dtype=torch.float32)
        for number in passes.unique():  # no series is unrolled for the sake of another
            some = passes == number
            further = self._predict(ended[some], int(leads[some].max()) + 1)
            quantiles[some] = further.gather(2, leads[some].unsqueeze(1).expand(-1, further.shape[1], -1))
        return quantiles

    def chunk_rows(self, length: int, prediction_length: int) -> int:
        r"""Returns how many series of that length `predict` puts through the model at a time, one at least.

        Arguments:
            length: The number of context steps :math:`L`.
            prediction_length: The number of steps :math:`H` to forecast.
        """
        steps = min(length, self.context_length)
        if prediction_length > self.prediction_length:
            steps = PATHS * min(length + prediction_length, self.context_length)
        return max(1, self.memory_budget // (self.step_bytes * steps))

    def fingerprint(self) -> dict[str, str]:
        r"""Returns name, version and the sha256 of the weights as they stand: what a saved adapter remembers."""
        digest = hashlib.sha256()
        for key, tensor in sorted(self.state_dict().items()):
            digest.update(f"{key} {tensor.dtype} {tuple(tensor.shape)}".encode())
            digest.update(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy())
        return {"name": self.name, "version": self.version, "sha256": digest.hexdigest()}

    @property
    def device(self) -> torch.device:
        r"""The device that the model computes on."""
        return next(chain(self.parameters(), self.buffers()), torch.empty(0, dtype=torch.float32)).device

    @property
    def median_index(self) -> int:
        r"""The place of the median among the quantile levels."""
        return self.quantile_levels.index(0.5)

    def untrained_head(self) -> nn.Module | None:
        r"""Returns the forecasting head of a model whose head holds no trained weights; None, as here, of any other.

        `Adapter.fit` trains such a head first, on the raw channels (`adapts.training.probing`).
        """
        return None

    def with_head(self, state: Mapping[str, Tensor]) -> Self:
        r"""Returns a copy with another head, on which this model stays as it is; all other tensors are shared.

        Arguments:
            state: The tensors of the head, by the names of its `state_dict`.

        Returns:
            The frozen copy.

        Raises:
            ValueError: If the model declares no untrained head, or the tensors do not fit it.
        """
        head = self.untrained_head()
        if head is None:
            raise ValueError(f"{self.name} has no head to be trained, and one was trained: take the model it was for")
        own = {id(tensor) for tensor in chain(head.parameters(), head.buffers())}
        shared = {id(x): x for x in chain(self.parameters(), self.buffers()) if id(x) not in own}
        other = copy.deepcopy(self, dict(shared))
        placed = other.untrained_head()
        assert placed is not None
        try:
            placed.load_state_dict(dict(state))
        except RuntimeError as error:
            raise ValueError(f"the trained head does not fit the head of {self.name}: {error}") from error
        return other

    def freeze(self) -> Self:
        r"""Freezes the weights and the mode; returns the model."""
        self.zero_grad(set_to_none=True)
        self.requires_grad_(False)
        return self.eval()

    def train(self, mode: bool = True) -> Self:
        r"""Does nothing but keep the model in eval mode: a training loop that switches modes must not reach it.

        Arguments:
            mode: Disregarded.

        Returns:
            The model.
        """
        return super().train(False)

    def extra_repr(self) -> str:
        return f"{self.name!r}, context_length={self.context_length}, prediction_length={self.prediction_length}"

    def _unroll_median(self, context: Tensor, prediction_length: int) -> Tensor:
        blocks = [self._forecast(context)]  # (N, Q, P)
        while sum(block.shape[-1] for block in blocks) < prediction_length:
            median = blocks[-1].sort(dim=1).values[:, self.median_index]  # (N, P)
            context = torch.cat([context, median], dim=-1)[:, -self.context_length :]
            blocks.append(self._forecast(context))
        return torch.cat(blocks, dim=-1)

    def _unroll_quantiles(self, context: Tensor, prediction_length: int) -> Tensor:
        if len(self.quantile_levels) == 1:  # no spread to be carried on
            return self._unroll_median(context, prediction_length)
        block = self._forecast(context)  # (N, Q, P)
        blocks, steps = [block], block.shape[-1]
        knots = torch.special.ndtri(torch.tensor(self.quantile_levels, dtype=torch.float64)).to(context)
        middles = torch.special.ndtri((torch.arange(STRATA, dtype=torch.float64) + 0.5) / STRATA).to(context)
        paths = context.unsqueeze(1).expand(-1, PATHS, -1)  # (N, S, L)
        law = block.sort(dim=1).values.mT.unsqueeze(1).expand(-1, PATHS, -1, -1)  # (N, S, P, Q): each path's
        while steps * len(blocks) < prediction_length:
            noise = _stratified_scores(PATHS, steps, len(blocks)).to(context)
            scores = _spread(_markov_scores(law, noise), paths[..., -1:] if len(blocks) > 1 else None)
            drawn = _at_scores(law, knots, scores.unsqueeze(-1)).squeeze(-1)
            paths = torch.cat([paths, drawn], dim=-1)[..., -self.context_length :]
            block = self._forecast(paths.flatten(0, 1)).unflatten(0, (-1, PATHS))  # (N, S, Q, P)
            law = block.sort(dim=2).values.mT
            points = _at_scores(law, knots, middles.expand(*law.shape[:-1], -1))  # (N, S, P, M)
            blocks.append(_empirical_quantiles(points.mT.flatten(1, 2), self.quantile_levels))
        return torch.cat(blocks, dim=-1)

    def _require(self, context: Tensor, prediction_length: int) -> None:
        if context.ndim != 2 or context.shape[1] == 0 or not context.is_floating_point():
            hint = {1: ": pass context[None]", 3: ": pass context.mT.flatten(0, 1), one row a series"}
            raise ValueError(
                f"{self.name} takes a floating-point 'context' of shape (series, time), got {context.dtype} of shape "
                f"{tuple(context.shape)}{hint.get(context.ndim, '')}"
            )
        if prediction_length < 1:
            raise ValueError(f"{self.name} forecasts at least one step, got prediction_length={prediction_length}")


def _stratified_scores(paths: int, steps: int, seed: int) -> Tensor:
    r"""Normal scores (S, P), at each step the same ones in an order of its own: the same draws for every series."""
    generator = torch.Generator().manual_seed(seed)
    order = torch.rand(paths, steps, generator=generator).argsort(0)
    scores: Tensor = torch.special.ndtri((order + 0.5) / paths)
    return scores


def _at_scores(law: Tensor, knots: Tensor, scores: Tensor) -> Tensor:
    r"""Laws (*, Q) at normal scores (*, M), linear in the scores between those of the levels (Q,) and beyond."""
    right = torch.searchsorted(knots, scores.contiguous()).clamp(1, len(knots) - 1)
    weight = (scores - knots[right - 1]) / (knots[right] - knots[right - 1])
    return torch.lerp(law.gather(-1, right - 1), law.gather(-1, right), weight)


def _empirical_quantiles(values: Tensor, levels: Sequence[float]) -> Tensor:
    r"""The quantiles (N, Q, P) of values (N, J, P) along J, the i-th smallest standing at the level (i - 1/2) / J."""
    ordered = values.sort(dim=1).values
    ranks = (torch.tensor(levels, device=values.device) * values.shape[1] - 0.5).clamp(0, values.shape[1] - 1)
    below = ranks.floor().long().clamp(max=values.shape[1] - 2)
    return torch.lerp(ordered[:, below], ordered[:, below + 1], (ranks - below).unsqueeze(-1))


def _markov_scores(law: Tensor, noise: Tensor) -> Tensor:
    r"""Makes paths of noise (S, P) whose steps hang together as the widths of their laws (N, S, P, Q) tell.

    Where an error of the first step's size is added at each step, and the rest of a step's error is that of the step
    before, carried on, neighbours have the correlation :math:`\sqrt{1 - \sigma_1^2 / \sigma_h^2}`: none in white
    noise, whose widths do not grow, that of the steps of a random walk where variances grow in proportion to leads.

    Returns:
        Normal scores, with shape (N, S, P).
    """
    width = law[..., -1] - law[..., 0]  # (N, S, P)
    wide = width > 0
    share = torch.where(wide, (width[..., :1] / torch.where(wide, width, 1.0)).square(), 1.0).clamp(1e-3, 1.0)
    kept, fresh = (1 - share + SMOOTH).sqrt(), (share + SMOOTH).sqrt()
    scores = [noise[..., 0].expand(width.shape[:-1])]
    for step in range(1, width.shape[-1]):
        scores.append(kept[..., step] * scores[-1] + fresh[..., step] * noise[..., step])
    return torch.stack(scores, -1)


def _spread(scores: Tensor, last: Tensor | None) -> Tensor:
    r"""Gives normal scores (N, S, P) mean 0 and variance 1 over paths, and no correlation with last values (N, S, 1).

    A few paths hold by chance more or less than the spread that is meant, and what they have and what they get may
    cancel; over many blocks that would add up. Before the first block, all paths have one last value: None.

    Returns:
        The scores, with shape (N, S, P).
    """
    scores = scores - scores.mean(1, keepdim=True)
    if last is not None:
        last = last - last.mean(1, keepdim=True)
        last = last / (last.abs().amax(1, keepdim=True) + torch.finfo(last.dtype).tiny)
        scores = scores - last * (last * scores).sum(1, keepdim=True) / (last.square().sum(1, keepdim=True) + SMOOTH)
    return scores / scores.square().mean(1, keepdim=True).sqrt()
