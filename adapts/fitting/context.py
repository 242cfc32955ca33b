r"""The constant inputs of all stages of a fit: splits, windows, options."""

from __future__ import annotations

__all__ = ["FitContext", "FitOptions", "begin", "rows_of", "times_of", "units", "window_limits", "within_limit"]

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..adapters import AdapterModule
from ..calibration.recalibration import Recalibration
from ..copulas.independent import Independent
from ..covariate_effect import KnownEffect
from ..data.calendar import unseen_cycles
from ..data.known_units import KnownUnits
from ..data.panel import Panel
from ..data.roles import require_tellable
from ..data.scaling import extent, location_scale
from ..data.splits import Split, split_panel
from ..data.times import Times
from ..data.windows import Windows, split_windows
from ..foundation import FoundationModel
from ..foundation.point import ResidualDistribution
from ..imputation.cold_start import ColdStart
from ..imputation.cross_channel import ChannelImputer
from ..persistence.checkpoints import Checkpoints
from ..prediction.standardise import Standardiser
from ..statistics.bootstrap import effective_sample_size, lead_blocks
from ..statistics.ridge import blocked_folds
from .build import require_gradient
from .decision import Decision
from .fingerprint import fingerprint_of
from .fitted import Fitted
from .time_limit import TimeLimit

#: The maximum size of the zero-shot forecasts of one split: 256 MB.
MAX_NUMBERS = 2**26
#: By default, the numbers in contexts and forecasts of train windows: as many as this within 1000 to 2000 windows, and
#: at most the second. More windows are more accurate, and take longer.
AMPLE, AMPLE_AT_MOST, WINDOWS = 6_600_000, 2**25, (1000, 2000)
#: Or so many windows for each horizon that fits into the train rows, if these are more.
DENSITY = 5
#: The number of windows per checkpoint of forecasts; at least one batch.
CHUNK = 64
#: The number of folds of the blocked cross-validation that selects the strengths of closed forms.
FOLDS = 5


@dataclass(frozen=True)
class FitOptions:
    r"""Options of a fit.

    Arguments:
        borders: The rows where train and validation rows end; see `split_panel`.
        context_length: The number of context steps :math:`L`.
        prediction_length: The number of target steps :math:`H`.
        season_length: The season's length, or None.
        support: The lowest and highest possible value of each channel.
        settings: The adapter's options.
        time_limit: The time that the fit may take.
        most_windows: The maximum number of train windows under this limit; None for the option `max_windows`.
    """

    borders: tuple[int, int] | None
    context_length: int
    prediction_length: int
    season_length: int | None
    support: tuple[np.ndarray, np.ndarray]
    settings: Mapping[str, Any]
    time_limit: TimeLimit = field(default_factory=TimeLimit)
    most_windows: int | None = None


@dataclass(frozen=True)
class FitContext:
    r"""Inputs of a fit, which no stage changes.

    Arguments:
        model: The frozen model as loaded.
        settings: The adapter's options.
        train: The train rows of each item.
        windows: The windows of each split, in the caller's units.
        checkpoints: The store of intermediate results.
        effects: A cache of the effects of known covariates and their decisions in words, by the columns of the panel.
            Fits of several families to the same panel share it.
        time_limit: The time that the fit may take.
        most_windows: The maximum number of train windows under this limit; None for the option `max_windows`.
    """

    model: FoundationModel
    settings: Mapping[str, Any]
    train: Split
    windows: Mapping[str, Windows]
    checkpoints: Checkpoints
    effects: dict[tuple[str, ...], tuple[KnownEffect, str]] = field(default_factory=dict)
    time_limit: TimeLimit = field(default_factory=TimeLimit)
    most_windows: int | None = None

    @property
    def seed(self) -> int:
        r"""The seed of all random draws."""
        return int(self.settings["seed"])

    @property
    def horizon(self) -> int:
        r"""The number of target steps :math:`H`."""
        return self.windows["train"].prediction_length

    @property
    def blocks(self) -> Tensor:
        r"""The block of each horizon step, with shape :math:`(H,)`."""
        return lead_blocks(self.horizon)

    def effective_size(self, windows: Windows) -> float:
        r"""Return the effective sample size of overlapping windows.

        Arguments:
            windows: The windows.
        """
        return effective_sample_size(windows.time, self.horizon) if len(windows) else 0.0

    def folds(self, windows: Windows) -> Tensor:
        r"""Return the fold of each window, a block of time, with shape :math:`(n,)`; -1 for windows that straddle two.

        Arguments:
            windows: The windows.
        """
        time = windows.time
        return blocked_folds(torch.as_tensor(time.step), torch.as_tensor(time.item), self.horizon, FOLDS)

    def in_chunks(
        self, name: str, number: int, compute: Callable[[slice], dict[str, Tensor]]
    ) -> list[dict[str, Tensor]]:
        r"""Compute a result for windows in chunks, with a checkpoint of each chunk.

        Arguments:
            name: The name of the result.
            number: The number of windows.
            compute: The function that computes the tensors of a chunk.

        Returns:
            The tensors of the chunks, in order.
        """
        batch = int(self.settings["batch_size"])
        step = batch * max(1, CHUNK // batch)
        chunks = [slice(start, start + step) for start in range(0, number, step)]
        return [self.checkpoints.kept(f"{name}-{chunk.start}", partial(compute, chunk)) for chunk in chunks]

    def prepared(self, fitted: Fitted) -> Fitted:
        r"""Prepare the adapter with the train rows, and fit imputation and the cold-start model.

        Arguments:
            fitted: The fit so far; its covariate effects are subtracted from the rows.

        Returns:
            The fit with imputation across channels and the cold-start model. The family "identity" has neither: the
            frozen model itself handles gaps and short contexts.
        """
        fitted = fitted.without_imputation()
        panel = Standardiser(fitted).standardised(self.windows["train"]).panel
        fitted.module.prepare(torch.as_tensor(rows_of(panel, self.train), dtype=torch.float32))
        if fitted.module.family == "identity":
            return fitted
        rows = torch.from_numpy(rows_of(panel, self.train, gap=self.horizon))
        ranges = zip(panel.items, self.train.ranges, strict=True)
        items = [torch.from_numpy(item.values[start:stop]) for item, (start, stop) in ranges]
        levels = self.model.quantile_levels
        return replace(
            fitted,
            imputer=ChannelImputer.fit(rows, self.horizon),
            cold_start=ColdStart.fit(items, fitted.context_length, self.blocks, levels),
        )


def begin(
    panel: Panel,
    module: AdapterModule,
    model: FoundationModel,
    options: FitOptions,
    *,
    checkpoint_dir: str | Path | None,
    effects: dict[tuple[str, ...], tuple[KnownEffect, str]] | None = None,
) -> tuple[FitContext, Fitted]:
    r"""Split a panel and create the windows of a fit.

    Arguments:
        panel: The panel, in the caller's units.
        module: The built adapter.
        model: The frozen model.
        options: The options of the fit.
        checkpoint_dir: The folder for checkpoints; none if None.
        effects: A cache of effects of known covariates, shared with other fits.

    Returns:
        The context, and the fit before the first stage; `FitContext.prepared` then prepares the adapter.

    Raises:
        ValueError: If the train rows are too few for one window, `probe_head` is set for a model with a trained head,
            the family needs a gradient that the model lacks, or the folder belongs to another fit.
    """
    settings, prediction_length = options.settings, options.prediction_length
    if settings.get("probe_head") is not None and isinstance(model.members[0], ResidualDistribution):
        raise ValueError(
            f"probe_head is for models whose head is untrained, and {model.name} forecasts points, without a head: "
            "leave it out"
        )
    if settings.get("probe_head") and model.untrained_head() is None:
        raise ValueError(
            f"probe_head=True is for models whose head is untrained, {model.name} has no such head: leave it out"
        )
    require_gradient(module, model)
    require_tellable(panel)
    splits = split_panel(panel, borders=options.borders, fractions=settings["splits"])
    targets, known = panel.select(panel.targets), panel.known_covariates
    seen = panel.select((*panel.targets, *panel.past_covariates))
    location, scale, constant = units(seen, splits["train"])

    def train_rows(columns: Panel) -> np.ndarray:
        return rows_of(columns, splits["train"])

    fitted = Fitted(
        panel, options.context_length, options.season_length, options.support, location, scale,
        constant[: targets.num_channels], module,
        copula=Independent(prediction_length, targets.num_channels), recalibration=Recalibration.identity(),
        effect=KnownEffect.none(panel, train_rows) if known else None,
        known=KnownUnits.of(panel, train_rows) if module.known else None,
        cycles=unseen_cycles(panel, options.context_length) if module.calendar else (),
    )  # fmt: skip
    windows = _windows(panel, splits, model, options)
    if len(windows["train"]) == 0:
        raise ValueError(
            f"too short a series: no item has {prediction_length} train targets after as many steps of context. The "
            f"longest item has {max(panel.lengths)} steps, prediction_length={prediction_length} needs about "
            f"{3 * prediction_length}: pass longer series, a smaller prediction_length or "
            f"{'splits' if options.borders is None else 'borders'} with more train rows"
        )
    fitted.windows = {name: len(batch) for name, batch in windows.items()}
    fitted.spans = {name: span for name, split in splits.items() if (span := _span(panel, split))}
    limit, fewer = options.time_limit, options.most_windows
    if fewer is not None:
        reason = f"at most {fewer} train windows instead of {_limits(panel, splits, model, options)[0]}, {limit}"
        fitted = fitted.with_decision("time_limit", Decision("kept", reason, {"windows": fewer}))
    fingerprint = {} if checkpoint_dir is None else fingerprint_of(fitted, model, options.borders, settings)
    fingerprint |= {"time_limit": limit.stated} if fingerprint and limit.limited else {}
    checkpoints = Checkpoints(checkpoint_dir, fingerprint)
    context = FitContext(
        model, settings, splits["train"], windows, checkpoints, {} if effects is None else effects, limit, fewer
    )
    return context, fitted


def within_limit(
    panel: Panel,
    module: AdapterModule,
    model: FoundationModel,
    options: FitOptions,
    checkpoint_dir: str | Path | None,
) -> FitOptions:
    r"""Choose as many windows as the time limit of a fit allows; an interrupted fit keeps its number.

    Arguments:
        panel: The panel, in the caller's units.
        module: The built adapter.
        model: The frozen model.
        options: The options of the fit.
        checkpoint_dir: The folder for checkpoints; none if None.

    Returns:
        The options with the number of windows; unchanged without a limit.
    """
    limit = options.time_limit
    if not limit.limited:
        return options
    splits = split_panel(panel, borders=options.borders, fractions=options.settings["splits"])
    most, _ = _limits(panel, splits, model, options)
    counts = {name: len(windows) for name, windows in _windows(panel, splits, model, options).items()}
    channels = len(panel.targets) + len(panel.past_covariates)
    trained = not module.capabilities.closed_form and any(each.requires_grad for each in module.parameters())
    steps = options.context_length, options.prediction_length
    fewer = limit.most_windows(model, counts, channels, most, steps, trained=trained)
    saved = Checkpoints(checkpoint_dir, {}).read("stages")
    found = (fewer if fewer < most else None) if saved is None else saved[1].get("most_windows")
    return replace(options, most_windows=found)


def _limits(panel: Panel, splits: Mapping[str, Split], model: FoundationModel, options: FitOptions) -> tuple[int, int]:
    r"""Return the maximum numbers of train windows and of windows of each other split, without a time limit."""
    channels, levels = len(panel.targets) + len(panel.past_covariates), len(model.quantile_levels)
    steps = options.context_length, options.prediction_length
    return window_limits(options.settings["max_windows"], channels, *steps, levels, splits["train"].num_rows)


def _windows(
    panel: Panel, splits: Mapping[str, Split], model: FoundationModel, options: FitOptions
) -> dict[str, Windows]:
    r"""Return the windows of each split, fewer if the time limit has it so."""
    most, others = _limits(panel, splits, model, options)
    if options.most_windows is not None:
        most, others = options.most_windows, min(others, (options.most_windows + 1) // 2)
    targets = panel.select(panel.targets)  # which alone determine whether a window is used
    return {
        name: replace(split_windows(
            targets, split, context_length=options.context_length, prediction_length=options.prediction_length,
            max_windows=most if name == "train" else others,
        ), panel=panel)
        for name, split in splits.items()
    }  # fmt: skip


def window_limits(
    max_windows: int | None, channels: int, context_length: int, prediction_length: int, levels: int, rows: int
) -> tuple[int, int]:
    r"""Return the maximum number of train windows, and of windows of each other split.

    Arguments:
        max_windows: The number that the caller gave. If None, it is between 1000 and 2000, such that contexts and
            zero-shot forecasts of the train windows together hold some 6.6 million numbers, or five windows for each
            horizon that fits into the rows, if these are more. In any case they hold at most 33.5 million, which
            matters beyond some hundred channels.
        channels: The number of channels that the adapter sees.
        context_length: The number of context steps :math:`L`.
        prediction_length: The number of target steps :math:`H`.
        levels: The number of quantile levels :math:`Q`.
        rows: The number of train rows of all items.

    Returns:
        The two numbers. The zero-shot forecasts of a split take at most 256 MB, unless there are only 50 windows. Other
        splits are shorter, so that half as many windows are denser there; by default at most 500.
    """
    forecast = prediction_length * channels * levels
    most = max(50, MAX_NUMBERS // forecast)
    if max_windows is not None:
        train = min(max_windows, most)
        return train, (train + 1) // 2
    size = forecast + channels * context_length
    ample = max(WINDOWS[0], AMPLE // size, DENSITY * rows // prediction_length)
    train = min(ample, WINDOWS[1], max(50, AMPLE_AT_MOST // size), most)
    return train, min((train + 1) // 2, WINDOWS[0] // 2)


def times_of(windows: Sequence[Windows]) -> Times:
    r"""Return the times of windows of several splits, one split after the other.

    Arguments:
        windows: The windows of each split.
    """
    return Times.joined([batch.time for batch in windows])


def rows_of(panel: Panel, split: Split, *, gap: int = 0) -> np.ndarray:
    r"""Return the rows of a split, item by item, with shape :math:`(n, D)`.

    Arguments:
        panel: The panel.
        split: The split.
        gap: The number of NaN rows after each item.
    """
    separator = np.full((gap, panel.num_channels), np.nan)
    ranges = zip(panel.items, split.ranges, strict=True)
    return np.concatenate([rows for item, (start, stop) in ranges for rows in (item.values[start:stop], separator)])


def _span(panel: Panel, split: Split) -> dict[str, Any]:
    r"""Return the first and last row of a split over all items and the number of rows; empty if it has none."""
    ranges = [(item.index, *rows) for item, rows in zip(panel.items, split.ranges, strict=True) if rows[0] < rows[1]]
    if not ranges:
        return {}
    first, last = min(index[start] for index, start, _ in ranges), max(index[stop - 1] for index, _, stop in ranges)
    return {"first": str(first), "last": str(last), "rows": sum(stop - start for _, start, stop in ranges)}


def units(panel: Panel, train: Split) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    r"""Return location and scale of channels over the train rows, and whether they are constant over all rows.

    Arguments:
        panel: The panel.
        train: The train rows of each item. A channel that is constant there has the location and scale of all rows.

    Returns:
        Location, scale and whether constant, each with shape :math:`(D,)`.
    """
    all_rows, rows = panel.concatenated[0], rows_of(panel, train)
    location, scale = location_scale(rows)
    (low, high), (least, most) = extent(rows), extent(all_rows)
    constant: np.ndarray = least == most
    constant_in_train = low >= high
    if constant_in_train.any():  # or without observations there
        location[constant_in_train], scale[constant_in_train] = location_scale(all_rows[:, constant_in_train])
    return location, scale, constant
