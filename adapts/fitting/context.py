r"""What the stages of a fit read and none of them changes: the splits, their windows, the options."""

from __future__ import annotations

__all__ = ["FitContext", "FitOptions", "begin", "rows_of", "times_of"]

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
from ..data.panel import Panel
from ..data.roles import require_tellable
from ..data.scaling import extent, location_scale
from ..data.splits import Split, split_panel
from ..data.times import Times
from ..data.windows import Windows, split_windows
from ..foundation import FoundationModel
from ..imputation.cold_start import ColdStart
from ..imputation.cross_channel import ChannelImputer
from ..persistence.checkpoints import Checkpoints
from ..prediction.standardise import Standardiser
from ..statistics.bootstrap import effective_sample_size, lead_blocks
from ..statistics.ridge import blocked_folds
from .fingerprint import fingerprint_of
from .fitted import Fitted

#: The most numbers that the zero-shot forecasts of one split may take: 256 MB.
MAX_NUMBERS = 2**26
#: The windows whose forecasts are kept together, and lost together when a fit is killed; at least one batch.
CHUNK = 64
#: Folds of the blocked cross-validation that chooses the strengths of closed forms.
FOLDS = 5


@dataclass(frozen=True)
class FitOptions:
    r"""How a panel is fitted.

    Arguments:
        borders: The rows where train and validation rows end; see `split_panel`.
        context_length: The number of context steps :math:`L`.
        prediction_length: The number of target steps :math:`H`.
        season_length: The season's length, or None.
        support: The lowest and highest possible value of each channel.
        settings: The adapter's options.
    """

    borders: tuple[int, int] | None
    context_length: int
    prediction_length: int
    season_length: int | None
    support: tuple[np.ndarray, np.ndarray]
    settings: Mapping[str, Any]


@dataclass(frozen=True)
class FitContext:
    r"""What a fit is made of; no stage changes it.

    Arguments:
        model: The frozen model as it was loaded.
        settings: The adapter's options.
        train: The train rows of each item.
        windows: The windows of each split, in the caller's units.
        checkpoints: Where finished pieces are kept.
        effects: The effects of known covariates found so far, by the columns of the panel, with the words for them.
            Fits of several families to the same panel share them.
    """

    model: FoundationModel
    settings: Mapping[str, Any]
    train: Split
    windows: Mapping[str, Windows]
    checkpoints: Checkpoints
    effects: dict[tuple[str, ...], tuple[KnownEffect, str]] = field(default_factory=dict)

    @property
    def seed(self) -> int:
        r"""The seed of everything that is drawn."""
        return int(self.settings["seed"])

    @property
    def horizon(self) -> int:
        r"""The number of target steps :math:`H`."""
        return self.windows["train"].prediction_length

    @property
    def blocks(self) -> Tensor:
        r"""The block of leads of each step, with shape :math:`(H,)`."""
        return lead_blocks(self.horizon)

    def effective_size(self, windows: Windows) -> float:
        r"""Returns the effective sample size of windows that overlap.

        Arguments:
            windows: The windows.
        """
        return effective_sample_size(windows.time, self.horizon) if len(windows) else 0.0

    def folds(self, windows: Windows) -> Tensor:
        r"""Returns the block of time that each window lies in, with shape :math:`(n,)`; -1 for those that straddle two.

        Arguments:
            windows: The windows.
        """
        time = windows.time
        return blocked_folds(torch.as_tensor(time.step), torch.as_tensor(time.item), self.horizon, FOLDS)

    def in_chunks(
        self, name: str, number: int, compute: Callable[[slice], dict[str, Tensor]]
    ) -> list[dict[str, Tensor]]:
        r"""Computes something of windows, some batches at a time, and keeps each piece as soon as it is there.

        Arguments:
            name: The name of the pieces.
            number: The number of windows.
            compute: What computes the tensors of some windows.

        Returns:
            The pieces, in order.
        """
        batch = int(self.settings["batch_size"])
        step = batch * max(1, CHUNK // batch)
        chunks = [slice(start, start + step) for start in range(0, number, step)]
        return [self.checkpoints.kept(f"{name}-{chunk.start}", partial(compute, chunk)) for chunk in chunks]

    def prepared(self, fitted: Fitted) -> Fitted:
        r"""Shows the adapter the train rows, and fits what imputes them.

        Arguments:
            fitted: What is fitted so far; known effects are taken off the rows.

        Returns:
            It with imputation across channels and the cold-start model. The family "identity" has neither: it is the
            frozen model, and leaves gaps and short contexts to it.
        """
        fitted = fitted.forgetting()
        panel = Standardiser(fitted).standardised(self.windows["train"]).panel
        fitted.module.prepare(torch.as_tensor(rows_of(panel, self.train), dtype=torch.float32))
        if fitted.module.family == "identity":
            return fitted
        apart = torch.from_numpy(rows_of(panel, self.train, apart=self.horizon))
        ranges = zip(panel.items, self.train.ranges, strict=True)
        items = [torch.from_numpy(item.values[start:stop]) for item, (start, stop) in ranges]
        levels = self.model.quantile_levels
        return replace(
            fitted,
            imputer=ChannelImputer.fit(apart, self.horizon),
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
    r"""Splits a panel and lays the windows of a fit.

    Arguments:
        panel: The panel, in the caller's units.
        module: The built adapter.
        model: The frozen model.
        options: How the panel is fitted.
        checkpoint_dir: The folder that keeps what is finished; none if None.
        effects: Effects of known covariates that other fits found.

    Returns:
        The context, and what is known before the first stage; `FitContext.prepared` shows the adapter the train rows.

    Raises:
        ValueError: If no train window has its targets inside the train rows, or `probe_head` is asked of a model whose
            head is trained, or the folder is another fit's.
    """
    settings, prediction_length = options.settings, options.prediction_length
    if settings.get("probe_head") and model.untrained_head() is None:
        raise ValueError(f"probe_head=True is for models whose head is untrained, {model.name} is none: leave it out")
    require_tellable(panel)
    parts = split_panel(panel, borders=options.borders)
    targets, known = panel.select(panel.targets), panel.known_covariates
    seen = panel.select((*panel.targets, *panel.past_covariates))
    location, scale, constant = _units(seen, parts["train"])
    fitted = Fitted(
        panel, options.context_length, options.season_length, options.support, location, scale,
        constant[: targets.num_channels], module,
        copula=Independent(prediction_length, targets.num_channels), recalibration=Recalibration.identity(),
        effect=KnownEffect.none(panel, lambda some: rows_of(some, parts["train"])) if known else None,
    )  # fmt: skip
    numbers = prediction_length * seen.num_channels * len(model.quantile_levels)  # of one window's forecast
    most = min(settings["max_windows"], max(50, MAX_NUMBERS // numbers))
    windows = {  # whether a window has targets, the targets tell
        name: replace(split_windows(
            targets, part, context_length=options.context_length, prediction_length=prediction_length,
            max_windows=most if name == "train" else (most + 1) // 2,  # of shorter parts, so denser
        ), panel=panel)
        for name, part in parts.items()
    }  # fmt: skip
    if len(windows["train"]) == 0:
        raise ValueError(
            f"too short a series: no item has {prediction_length} train targets after as many steps of context; "
            f"about {3 * prediction_length} steps are needed for prediction_length={prediction_length}, "
            f"the longest item has {max(panel.lengths)}"
        )
    fitted.windows = {name: len(part) for name, part in windows.items()}
    fitted.spans = {name: span for name, part in parts.items() if (span := _span(panel, part))}
    fingerprint = {} if checkpoint_dir is None else fingerprint_of(fitted, model, options.borders, settings)
    checkpoints = Checkpoints(checkpoint_dir, fingerprint)
    context = FitContext(model, settings, parts["train"], windows, checkpoints, {} if effects is None else effects)
    return context, fitted


def times_of(windows: Sequence[Windows]) -> Times:
    r"""Returns when windows of several splits begin, one split after the other.

    Arguments:
        windows: The windows of each split.
    """
    return Times.joined([some.time for some in windows])


def rows_of(panel: Panel, part: Split, *, apart: int = 0) -> np.ndarray:
    r"""Returns the rows of a split, item by item, with shape :math:`(n, D)`.

    Arguments:
        panel: The panel.
        part: The split.
        apart: The number of rows of NaN behind each item.
    """
    nothing = np.full((apart, panel.num_channels), np.nan)
    ranges = zip(panel.items, part.ranges, strict=True)
    return np.concatenate([rows for i, (start, stop) in ranges for rows in (i.values[start:stop], nothing)])


def _span(panel: Panel, part: Split) -> dict[str, Any]:
    r"""The first and the last row of a split over all items, and how many rows it has; nothing where it has none."""
    ranges = [(item.index, *rows) for item, rows in zip(panel.items, part.ranges, strict=True) if rows[0] < rows[1]]
    if not ranges:
        return {}
    first, last = min(index[start] for index, start, _ in ranges), max(index[stop - 1] for index, _, stop in ranges)
    return {"first": str(first), "last": str(last), "rows": sum(stop - start for _, start, stop in ranges)}


def _units(panel: Panel, train: Split) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    r"""Location and scale over the train rows, and whether each channel is constant over all rows; (D,) each."""
    whole, rows = panel.concatenated[0], rows_of(panel, train)
    location, scale = location_scale(rows)
    (low, high), (least, most) = extent(rows), extent(whole)
    constant: np.ndarray = least == most
    still = low >= high
    if still.any():  # constant, or not seen, over the train rows
        location[still], scale[still] = location_scale(whole[:, still])
    return location, scale, constant
