r"""Base class of frozen foundation models: checks, unrolling, chunking and the fingerprint."""

from __future__ import annotations

__all__ = ["CALLABLE", "FoundationModel", "Unroll"]

import copy
import hashlib
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from itertools import chain
from typing import Any, ClassVar, Literal, Self

import torch
from torch import Tensor, nn

from ..imputation.interpolation import aligned_to_end, interpolated
from ..registry import resolve
from .cache import current_cache

Unroll = Literal["quantile", "median"]
#: The version of a model that `FoundationModel.wrap` makes of a function: its fingerprint tells only its declarations.
CALLABLE = "function"
MODERATE = 20  # series whose maximum exceeds this power of two, or is below its inverse, are rescaled to be forecast
PATHS = 12  # sample paths per series beyond one pass of the model
STRATA = 20  # equiprobable strata, at whose midpoints the forecasts of paths are evaluated for their mixture
SMOOTH = 1e-4  # bounds the slope of a square root
LARGEST = 1e17  # maximum absolute value in a context, so that its sum of squares is finite in float32


class FoundationModel(nn.Module, ABC):
    r"""Abstract frozen univariate forecaster: each row of the context is a separate series.

    A subclass implements `_forecast`, one pass of the model, and declares by class attributes what the model can do.
    The weights are frozen and the model stays in eval mode: call `freeze` at the end of `__init__`. To keep its weights
    out of another module's `parameters()` and `state_dict()`, store the model in a tuple,
    `self._foundation_model = (model,)`: a plain attribute would register it.

    Arguments:
        name: The checkpoint's name.
        version: The checkpoint's version.
        quantile_levels: The levels of the forecast quantiles, increasing, including the median.
        context_length: The maximum number of context steps; of a longer context only the last steps are used.
        prediction_length: The number of steps that one pass forecasts.
        differentiable: Whether gradients reach the context.
        step_bytes: The memory of one pass per step and context, in bytes, without gradients.
    """

    #: The memory in bytes for the activations of one chunk of `predict`; may be set on the instance. On a CPU larger
    #: chunks are slower, as they exceed the caches.
    memory_budget: int = 64 * 2**20
    #: What one pass of the model gives: quantiles; samples, of which `_forecast` returns the quantiles; or one point,
    #: which `_forecast` returns as the only level 0.5.
    kind: ClassVar[Literal["quantiles", "samples", "point"]] = "quantiles"
    #: Whether the model itself reads missing steps; otherwise `_forecast` fills them in.
    reads_missing: ClassVar[bool] = True
    #: Whether the model can forecast the channels of a series in one group, by `predict_jointly`.
    joint_mode: ClassVar[bool] = False
    #: Frequency and season length of the series that a copy by `with_frequency` is for; None for a model of any series.
    series: tuple[str | None, int] | None = None

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
                f"the foundation model {name!r} needs increasing quantile levels within (0, 1), with the median 0.5, "
                f"got {levels}"
            )
        self.name = name
        self.version = version
        self.quantile_levels = levels
        self.context_length = context_length
        self.prediction_length = prediction_length
        self.differentiable = differentiable
        self.step_bytes = step_bytes
        self.half_precision = self.compiled = False
        self._compiled_passes: dict[tuple[int, bool], Callable[[Tensor], Tensor]] = {}

    @abstractmethod
    def _forecast(self, context: Tensor) -> Tensor:
        r"""Forecast one block of steps, with gradients if the model is differentiable.

        Arguments:
            context: The series, with shape :math:`(N, L)`; float32, on the model's device, :math:`L` at most
                `context_length`. NaN marks a missing step; a row may be constant or all NaN.

        Returns:
            The quantiles, with shape :math:`(N, Q, P)`, where :math:`P` is `self.prediction_length`. They are finite,
            with finite gradients, for every such context, and may cross.
        """

    def _forecast_jointly(self, context: Tensor) -> Tensor:
        r"""Forecast one block of steps of the channels of each series in one group; for models with `joint_mode`.

        Arguments:
            context: The series, with shape :math:`(B, D, L)`; otherwise as for `_forecast`.

        Returns:
            The quantiles of each channel, with shape :math:`(B, D, Q, P)`; they may cross.
        """
        raise NotImplementedError(f"{type(self).__name__} declares joint_mode and needs _forecast_jointly")

    def with_frequency(self, frequency: str | None, season_length: int) -> Self:
        r"""Return the model for series of a frequency; by default the model itself.

        `Adapter.fit` calls it once and uses the result. A copy shares its weights with this model, which is unchanged.

        Arguments:
            frequency: The frequency of the series, as pandas names it; None if it is unknown.
            season_length: The number of steps of a season, 1 if there is none.

        Returns:
            The model.
        """
        return self

    def to_half_precision(self) -> Self:
        r"""Convert the weights of linear layers, convolutions and embeddings to bfloat16.

        Contexts and forecasts stay float32, and so does an untrained head, which `Adapter.fit` trains. The forecast is
        then a staircase, and the model declares no gradient.

        Returns:
            The model.
        """
        head = self.untrained_head()
        trained = set() if head is None else set(head.modules())
        for module in self.modules():
            if isinstance(module, nn.Linear | nn.Embedding | nn.Conv1d) and module not in trained:
                module.to(torch.bfloat16)
        self.half_precision, self.differentiable = True, False
        return self

    def compile_pass(self) -> None:
        r"""Let `torch.compile` compile the pass of the model, when it is first called."""
        self.compiled = True

    def _run_pass(self, context: Tensor, *, jointly: bool = False) -> Tensor:
        r"""Call `_forecast` or `_forecast_jointly`, compiled and in half precision if so."""
        function: Callable[[Tensor], Tensor] = self._forecast_jointly if jointly else self._forecast
        if self.compiled:
            key = (id(self), jointly)  # a copy has functions of its own
            if key not in self._compiled_passes:
                self._compiled_passes[key] = torch.compile(function)
            function = self._compiled_passes[key]
        if not self.half_precision:
            return function(context)
        with torch.autocast(context.device.type, torch.bfloat16):
            return function(context).float()

    def with_horizon(self, prediction_length: int) -> Self:
        r"""Return the model for a horizon; itself by default.

        A model whose pass can be shorter overrides it and returns a copy that shares its weights.

        Arguments:
            prediction_length: The number of steps :math:`H` to forecast.

        Returns:
            The model.
        """
        return self

    def forward(self, context: Tensor, prediction_length: int, *, unroll: Unroll = "quantile") -> Tensor:
        r"""Forecast each series separately, :math:`(N, L) \to (N, Q, H)`; gradients reach the context.

        Longer horizons are unrolled in blocks. `"quantile"` draws 12 sample paths from the predictive distribution of a
        block, appends them to the context, and takes the quantiles of the mixture of their forecasts. From the second
        block on, the batch is 12 times larger. The dependence between the steps of a path follows from the growth of
        the forecast intervals: white noise has none, and a random walk has variances that grow in proportion to the
        lead time. The next block thus reads a series as noisy as the observed one. Smooth paths of one level each, as
        in `ChronosBoltPipeline.predict`, make later blocks too narrow. The draws are the same for every series and
        call. `"median"` appends the median: one row per series, for training.

        Arguments:
            context: The series, oldest step first, with shape :math:`(N, L)`; any floating type and device. They may
                vary on any scale from 1e-17 to 1e17 (models square them in float32). NaN marks a missing step and gets
                a zero gradient. Only the last `context_length` steps are used. A row without any observation gets a
                finite forecast, with location 0 and scale 1.
            prediction_length: The number of steps :math:`H` to forecast; any.
            unroll: How to forecast beyond the model's own prediction length.

        Returns:
            The quantiles at `quantile_levels`, with shape :math:`(N, Q, H)`; float32, on the context's device, sorted
            along :math:`Q` (monotone rearrangement; Chernozhukov et al., 2010).

        Raises:
            ValueError: If an argument is invalid, or if a gradient is required of a model that is not differentiable.
        """
        self._require(context, prediction_length)
        if unroll not in ("quantile", "median"):
            raise ValueError(f"{self.name}: unroll is 'quantile' or 'median', got {unroll!r}")
        if context.requires_grad and torch.is_grad_enabled() and not self.differentiable:
            raise ValueError(
                f"{self.name} has no gradient with respect to its context: fit a family that needs none, such as "
                f"'context', 'residual' or 'attention', or use a differentiable foundation model"
            )
        if len(context) == 0:
            return context.new_zeros(0, len(self.quantile_levels), prediction_length, dtype=torch.float32)
        series = context[:, -self.context_length :].to(self.device, torch.float32)
        return self.unrolled(series, prediction_length, unroll).to(context.device)

    @torch.no_grad()
    def predict(self, context: Tensor, prediction_length: int) -> Tensor:
        r"""Forecast any number of series without gradients, in chunks that fit in `memory_budget` bytes.

        Differences from `forward`:

        - A series whose last :math:`g` steps are missing is forecast from its last observation on, :math:`g` steps
          further, as models forecast much worse after a gap.
        - Short gaps within the context are interpolated (see `adapts.imputation.interpolation`): models misread a
          series of which every other step is missing.
        - A constant series is forecast as that constant, with zero variance: models add noise of a fixed size.
        - Very large and very small series are rescaled.

        Otherwise the values equal those of `forward`, up to rounding due to another batch size.

        Arguments:
            context: The series, with shape :math:`(N, L)`, as for `forward`.
            prediction_length: The number of steps :math:`H` to forecast; any.

        Returns:
            The sorted quantiles, with shape :math:`(N, Q, H)`; float32, on the context's device.

        Raises:
            ValueError: If the context or the prediction length is invalid, or a value is infinite or too large.
        """
        self._require(context, prediction_length)
        cache = current_cache()
        if cache is None or len(context) == 0:
            return self._predict_any(context, prediction_length)
        return cache.predict(self, context, prediction_length, lambda rows: self._predict_any(rows, prediction_length))

    def _predict_any(self, context: Tensor, prediction_length: int) -> Tensor:
        r"""Compute `predict` without the cache."""
        if len(context) == 0:
            return self.forward(context, prediction_length)
        return self._predict_moderate(context, lambda rows: self._predict(rows, prediction_length))

    def _predict_moderate(self, context: Tensor, predict: Callable[[Tensor], Tensor]) -> Tensor:
        r"""Forecast series (N, L) rescaled to moderate sizes, and each constant series as its constant."""
        high = context.nan_to_num(-math.inf, posinf=math.inf, neginf=-math.inf).amax(1)  # (N,), -inf of a row of NaN
        low = context.nan_to_num(math.inf, posinf=math.inf, neginf=-math.inf).amin(1)
        sizes = torch.where(context.isnan().all(1), 0.0, torch.maximum(high.abs(), low.abs()))
        if float(sizes.max()) > LARGEST:
            raise ValueError(
                f"{self.name} takes absolute values of at most {LARGEST:g}, or NaN, got {float(sizes.max()):g}: "
                f"divide the series, and multiply its forecast"
            )
        exponent = torch.frexp(sizes)[1].clamp(-120, 120)  # scaling by a power of two is exact
        exponent = torch.where(exponent.abs() > MODERATE, exponent, 0).unsqueeze(1)  # (N, 1)
        quantiles = predict(torch.ldexp(context, -exponent))
        quantiles = torch.ldexp(quantiles, exponent.unsqueeze(2))
        if not bool(quantiles.isfinite().all()):
            raise ValueError(
                f"the foundation model {self.name} returned NaN or infinite forecasts, expected finite ones: its "
                "weights are damaged, or it does not support such series"
            )
        constant = (low == high)[:, None, None]
        return torch.where(constant, high.to(quantiles)[:, None, None], quantiles)

    def _predict(self, context: Tensor, prediction_length: int) -> Tensor:
        r"""Compute `predict` for series of moderate size."""
        context = interpolated(context)
        aligned, gap = aligned_to_end(context)
        if not bool(gap.any()):
            rows = self.chunk_rows(context.shape[1], prediction_length)
            starts = range(0, max(1, len(context)), rows)
            return torch.cat([self.forward(context[start : start + rows], prediction_length) for start in starts])
        step_indices = gap.unsqueeze(1) + torch.arange(prediction_length, device=context.device)  # (N, H)
        passes = step_indices[:, -1] // self.prediction_length
        quantiles = aligned.new_empty(len(aligned), len(self.quantile_levels), prediction_length, dtype=torch.float32)
        for number in passes.unique():  # each series is unrolled only as far as it needs
            mask = passes == number
            longer = self._predict(aligned[mask], int(step_indices[mask].max()) + 1)
            quantiles[mask] = longer.gather(2, step_indices[mask].unsqueeze(1).expand(-1, longer.shape[1], -1))
        return quantiles

    @torch.no_grad()
    def predict_jointly(self, context: Tensor, prediction_length: int) -> Tensor:
        r"""Forecast the channels of each series in one group, without gradients.

        The model reads all channels of a series together; its quantiles are those of each channel. Beyond one pass the
        medians are appended to the context. Very large and very small channels are rescaled. A constant channel is
        forecast as its constant. Short gaps are interpolated. A gap at the end remains: channels share one clock.

        Arguments:
            context: The series, with shape :math:`(B, D, L)`, as for `predict`. NaN marks a missing step.
            prediction_length: The number of steps :math:`H` to forecast; any.

        Returns:
            The sorted quantiles, with shape :math:`(B, D, Q, H)`; float32, on the context's device.

        Raises:
            ValueError: If the model has no joint mode, or as for `predict`.
        """
        if not self.joint_mode:
            raise ValueError(
                f"{self.name} forecasts each channel alone and has no joint mode: call predict with one row per channel"
            )
        if context.ndim != 3 or context.shape[1] == 0:
            raise ValueError(
                f"{self.name}.predict_jointly takes 'context' of shape (series, channels, time), with at least one "
                f"channel, got {tuple(context.shape)}"
            )
        self._require(context.flatten(0, 1), prediction_length)
        if len(context) == 0:
            return context.new_zeros(
                0, context.shape[1], len(self.quantile_levels), prediction_length, dtype=torch.float32
            )
        shape, levels = context.shape[:2], len(self.quantile_levels)

        def forecast(rows: Tensor) -> Tensor:
            series = interpolated(rows)[:, -self.context_length :].unflatten(0, shape)  # (B, D, L)
            series = series.to(self.device, torch.float32)
            chunk = max(1, self.chunk_rows(series.shape[2], 1) // shape[1])
            blocks = [self._unroll_jointly(part, prediction_length) for part in series.split(chunk)]
            return torch.cat(blocks).flatten(0, 1).to(context.device)  # (B * D, Q, H)

        return self._predict_moderate(context.flatten(0, 1), forecast).reshape(*shape, levels, prediction_length)

    def _unroll_jointly(self, context: Tensor, prediction_length: int) -> Tensor:
        blocks = [self._run_pass(context, jointly=True).sort(dim=2).values]  # (B, D, Q, P)
        while sum(block.shape[-1] for block in blocks) < prediction_length:
            median = blocks[-1][:, :, self.median_index]  # (B, D, P)
            context = torch.cat([context, median], dim=-1)[..., -self.context_length :]
            blocks.append(self._run_pass(context, jointly=True).sort(dim=2).values)
        return torch.cat(blocks, dim=-1)[..., :prediction_length].float()

    def chunk_rows(self, length: int, prediction_length: int) -> int:
        r"""Return the number of series per chunk of `predict`, at least one.

        Arguments:
            length: The number of context steps :math:`L`.
            prediction_length: The number of steps :math:`H` to forecast.
        """
        steps = min(length, self.context_length)
        if prediction_length > self.prediction_length:
            steps = PATHS * min(length + prediction_length, self.context_length)
        return max(1, self.memory_budget // (self.step_bytes * steps))

    def fingerprint(self) -> dict[str, str]:
        r"""Return name, version and the sha256 of the current weights, as stored with a saved adapter."""
        digest = hashlib.sha256()
        for key, tensor in sorted(self.state_dict().items()):
            digest.update(f"{key} {tensor.dtype} {tuple(tensor.shape)}".encode())
            digest.update(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy())
        return {"name": self.name, "version": self.version, "sha256": digest.hexdigest()}

    @property
    def members(self) -> tuple[FoundationModel, ...]:
        r"""The models that it consists of: itself, or several (`adapts.foundation.several.SeveralModels`)."""
        return (self,)

    def cache_key(self) -> str:
        r"""Return what tells the forecasts of this model from those of others within this process."""
        return self.fingerprint()["sha256"]

    @staticmethod
    def wrap(
        function: Callable[..., Any],
        *,
        quantile_levels: Sequence[float],
        context_length: int,
        prediction_length: int,
        name: str,
        differentiable: bool | None = None,
        reads_missing: bool = False,
    ) -> FoundationModel:
        r"""Make a foundation model of a function or module of your own.

        Arguments:
            function: A callable or `torch.nn.Module`, which is copied and frozen. It takes the series, with shape
                :math:`(N, L)`, and returns quantiles, with shape :math:`(N, Q, H)`, or points, with shape
                :math:`(N, H)`, for the one level 0.5. It takes and returns tensors, or numpy arrays. Constant series
                are forecast without it.
            quantile_levels: The levels of the forecast quantiles, increasing, including 0.5; `[0.5]` for points.
            context_length: The maximum number of context steps :math:`L`.
            prediction_length: The number of steps :math:`H` that one call forecasts.
            name: The model's name.
            differentiable: Whether its gradient with respect to the series is right. If None, finite differences
                decide; a function of numpy arrays has no gradient.
            reads_missing: Whether the function reads NaN as missing steps. Otherwise the last observation is carried
                forward, and the first one backward. Series shorter than the function takes, which fits forecast too,
                are extended likewise: by their first value, or by NaN.

        Returns:
            The model. A file cannot hold a function: `Adapter.load(path, foundation_model=...)` needs it again.

        Raises:
            ValueError: If an argument is invalid, the function fails on random series or returns another shape, or it
                is declared differentiable and its gradient differs from finite differences.

        Example:
            >>> def last_value(context):
            ...     return context[:, -1:].expand(-1, 4)
            >>> model = adapts.FoundationModel.wrap(
            ...     last_value, quantile_levels=[0.5], context_length=64, prediction_length=4, name="last value"
            ... )
            >>> model.differentiable, model(torch.randn(3, 64), prediction_length=6).shape
            (True, torch.Size([3, 1, 6]))
        """
        wrapped: FoundationModel = resolve("adapts.foundation.wrapped:wrapped")(
            function, quantile_levels=quantile_levels, context_length=context_length, name=name,
            prediction_length=prediction_length, differentiable=differentiable, reads_missing=reads_missing,
        )  # fmt: skip
        return wrapped

    @property
    def device(self) -> torch.device:
        r"""The device that the model computes on."""
        return next(chain(self.parameters(), self.buffers()), torch.empty(0, dtype=torch.float32)).device

    @property
    def median_index(self) -> int:
        r"""The index of the median among the quantile levels."""
        return self.quantile_levels.index(0.5)

    def untrained_head(self) -> nn.Module | None:
        r"""Return the forecasting head if it is untrained; None by default.

        `Adapter.fit` trains such a head on the original channels before the adapter (`adapts.training.probing`).
        """
        return None

    def with_head(self, state: Mapping[str, Tensor]) -> Self:
        r"""Return a frozen copy with another head; all other tensors are shared, and this model is unchanged.

        Arguments:
            state: The tensors of the head, by the names of its `state_dict`.

        Returns:
            The frozen copy.

        Raises:
            ValueError: If the model declares no untrained head, or the tensors do not fit it.
        """
        head = self.untrained_head()
        if head is None:
            raise ValueError(
                f"{self.name} has no trainable head, got the tensors of one: use the model that the head belongs to"
            )
        head_tensors = {id(tensor) for tensor in chain(head.parameters(), head.buffers())}
        shared = {id(x): x for x in chain(self.parameters(), self.buffers()) if id(x) not in head_tensors}
        copied = copy.deepcopy(self, dict(shared))
        new_head = copied.untrained_head()
        assert new_head is not None
        try:
            new_head.load_state_dict(dict(state))
        except RuntimeError as error:
            raise ValueError(f"the trained head does not fit the head of {self.name}: {error}") from error
        return copied

    def freeze(self) -> Self:
        r"""Freeze the weights, set eval mode and return the model."""
        self.zero_grad(set_to_none=True)
        self.requires_grad_(False)
        return self.eval()

    def train(self, mode: bool = True) -> Self:
        r"""Keep the model in eval mode, also in training loops that switch modes.

        Arguments:
            mode: Ignored.

        Returns:
            The model.
        """
        return super().train(False)

    def extra_repr(self) -> str:
        return f"{self.name!r}, context_length={self.context_length}, prediction_length={self.prediction_length}"

    def unrolled(self, series: Tensor, prediction_length: int, unroll: Unroll) -> Tensor:
        r"""Forecast series on the model's device and in its precision, as `forward` does.

        Arguments:
            series: The series, with shape :math:`(N, L)`, at most `context_length` steps.
            prediction_length: The number of steps :math:`H`.
            unroll: As for `forward`.

        Returns:
            The sorted quantiles, with shape :math:`(N, Q, H)`.
        """
        blocks = self._unroll_median if unroll == "median" else self._unroll_quantiles
        return blocks(series, prediction_length)[..., :prediction_length].sort(dim=1).values

    def _unroll_median(self, context: Tensor, prediction_length: int) -> Tensor:
        blocks = [self._run_pass(context)]  # (N, Q, P)
        while sum(block.shape[-1] for block in blocks) < prediction_length:
            median = blocks[-1].sort(dim=1).values[:, self.median_index]  # (N, P)
            context = torch.cat([context, median], dim=-1)[:, -self.context_length :]
            blocks.append(self._run_pass(context))
        return torch.cat(blocks, dim=-1)

    def _unroll_quantiles(self, context: Tensor, prediction_length: int) -> Tensor:
        if len(self.quantile_levels) == 1:  # no uncertainty to propagate
            return self._unroll_median(context, prediction_length)
        block = self._run_pass(context)  # (N, Q, P)
        blocks, steps = [block], block.shape[-1]
        knots = torch.special.ndtri(torch.tensor(self.quantile_levels, dtype=torch.float64)).to(context)
        midpoints = torch.special.ndtri((torch.arange(STRATA, dtype=torch.float64) + 0.5) / STRATA).to(context)
        paths = context.unsqueeze(1).expand(-1, PATHS, -1)  # (N, S, L)
        path_quantiles = block.sort(dim=1).values.mT.unsqueeze(1).expand(-1, PATHS, -1, -1)  # (N, S, P, Q)
        while steps * len(blocks) < prediction_length:
            noise = _stratified_scores(PATHS, steps, len(blocks)).to(context)
            scores = _standardise_scores(
                _markov_scores(path_quantiles, noise), paths[..., -1:] if len(blocks) > 1 else None
            )
            drawn = _interpolate_quantiles(path_quantiles, knots, scores.unsqueeze(-1)).squeeze(-1)
            paths = torch.cat([paths, drawn], dim=-1)[..., -self.context_length :]
            block = self._run_pass(paths.flatten(0, 1)).unflatten(0, (-1, PATHS))  # (N, S, Q, P)
            path_quantiles = block.sort(dim=2).values.mT
            # (N, S, P, M)
            points = _interpolate_quantiles(path_quantiles, knots, midpoints.expand(*path_quantiles.shape[:-1], -1))
            blocks.append(_empirical_quantiles(points.mT.flatten(1, 2), self.quantile_levels))
        return torch.cat(blocks, dim=-1)

    def _require(self, context: Tensor, prediction_length: int) -> None:
        if context.ndim != 2 or context.shape[1] == 0 or not context.is_floating_point():
            hint = {1: ": pass context[None]", 3: ": pass context.mT.flatten(0, 1), one row per series"}
            raise ValueError(
                f"{self.name} takes a floating-point 'context' of shape (series, time), got {context.dtype} of shape "
                f"{tuple(context.shape)}{hint.get(context.ndim, '')}"
            )
        if prediction_length < 1:
            raise ValueError(f"{self.name} forecasts at least one step, got prediction_length={prediction_length}")


def _stratified_scores(paths: int, steps: int, seed: int) -> Tensor:
    r"""Return stratified normal scores (S, P), shuffled at each step; the same draws for every series."""
    generator = torch.Generator().manual_seed(seed)
    order = torch.rand(paths, steps, generator=generator).argsort(0)
    scores: Tensor = torch.special.ndtri((order + 0.5) / paths)
    return scores


def _interpolate_quantiles(quantiles: Tensor, knots: Tensor, scores: Tensor) -> Tensor:
    r"""Interpolate quantiles (*, Q) at normal scores (*, M), linearly between the levels' scores (Q,) and beyond."""
    right = torch.searchsorted(knots, scores.contiguous()).clamp(1, len(knots) - 1)
    weight = (scores - knots[right - 1]) / (knots[right] - knots[right - 1])
    return torch.lerp(quantiles.gather(-1, right - 1), quantiles.gather(-1, right), weight)


def _empirical_quantiles(values: Tensor, levels: Sequence[float]) -> Tensor:
    r"""Return empirical quantiles (N, Q, P) of values (N, J, P) along J, the i-th at level (i - 1/2) / J."""
    ordered = values.sort(dim=1).values
    ranks = (torch.tensor(levels, device=values.device) * values.shape[1] - 0.5).clamp(0, values.shape[1] - 1)
    below = ranks.floor().long().clamp(max=values.shape[1] - 2)
    return torch.lerp(ordered[:, below], ordered[:, below + 1], (ranks - below).unsqueeze(-1).to(values))


def _markov_scores(quantiles: Tensor, noise: Tensor) -> Tensor:
    r"""Return sample paths of normal scores with the dependence implied by the forecast widths.

    The model: each step adds an innovation with the variance of the first step's error, and the rest of the error is
    carried over from the step before. Adjacent steps then have the correlation :math:`\sqrt{1 - \sigma_1^2 /
    \sigma_h^2}`: zero for white noise, whose widths do not grow, and that of a random walk where the variance is
    proportional to the lead time.

    Arguments:
        quantiles: The quantiles of each path's forecast, with shape (N, S, P, Q).
        noise: Independent normal scores, with shape (S, P).

    Returns:
        Normal scores, with shape (N, S, P).
    """
    width = quantiles[..., -1] - quantiles[..., 0]  # (N, S, P)
    positive = width > 0
    innovation_variance = torch.where(
        positive, (width[..., :1] / torch.where(positive, width, 1.0)).square(), 1.0
    ).clamp(1e-3, 1.0)
    autocorrelation, innovation_scale = (1 - innovation_variance + SMOOTH).sqrt(), (innovation_variance + SMOOTH).sqrt()
    scores = [noise[..., 0].expand(width.shape[:-1])]
    for step in range(1, width.shape[-1]):
        scores.append(autocorrelation[..., step] * scores[-1] + innovation_scale[..., step] * noise[..., step])
    return torch.stack(scores, -1)


def _standardise_scores(scores: Tensor, last: Tensor | None) -> Tensor:
    r"""Standardise normal scores (N, S, P) over paths, and decorrelate them from the last values (N, S, 1).

    In a sample of a few paths, variance and correlation differ from their expectation by chance, which would add up
    over many blocks. Before the first block all paths share their last value: pass None.

    Returns:
        The scores, with shape (N, S, P).
    """
    scores = scores - scores.mean(1, keepdim=True)
    if last is not None:
        last = last - last.mean(1, keepdim=True)
        last = last / (last.abs().amax(1, keepdim=True) + torch.finfo(last.dtype).tiny)
        scores = scores - last * (last * scores).sum(1, keepdim=True) / (last.square().sum(1, keepdim=True) + SMOOTH)
    return scores / scores.square().mean(1, keepdim=True).sqrt()
