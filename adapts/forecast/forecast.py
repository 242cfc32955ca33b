r"""Forecast of one item, the result that users work with."""

from __future__ import annotations

__all__ = ["Forecast"]

import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from textwrap import wrap
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch

from .. import checks
from .._logging import quiet
from ..batching import evenly_spaced
from ..calibration.joint_bands import JointBands
from ..data.frequency import period_of
from ..distribution.joint import JointDistribution
from ..errors import reading, shown
from . import scenarios

if TYPE_CHECKING:
    from gluonts.model.forecast import SampleForecast
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from ..notices import Notice
    from .scenarios import Scenarios

LEVELS = (0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95)
r"""The default quantile levels of `to_pandas`."""

_PANELS, _FEWER = 24, 12  # up to so many channels are all plotted by default, and so many of more
_TOLERANCE = 1e-9  # tolerance between a level and its name of six digits: (1 - 0.9) / 2 still counts as 0.05
_FANS = ((0.95, 0.18), (0.8, 0.3), (0.5, 0.5))  # level and opacity, widest first
_BLUE, _ORANGE, _GREY = "#0072B2", "#D55E00", "#4D4D4D"  # Okabe and Ito's palette, safe for colour blindness


@dataclass(frozen=True, eq=False, repr=False)
class Forecast:
    r"""Joint predictive distribution of the :math:`H` steps after an item's end, with names and dates.

    All results are numpy arrays in the units of the series, free of NaN. `mean`, `quantile` and `interval` derive from
    the distribution itself; `samples` are joint paths with matching marginals. `mean` and `samples` are computed once
    and cached, so they are read-only: change a copy, `forecast.mean.copy()`.

    Arguments:
        item_id: The item's name.
        index: The dates of the steps, or their numbers for undated series, with length :math:`H`.
        channels: The names of the :math:`D` channels.
        frequency: The pandas alias of the step, None for undated data.
        joint_distribution: The joint distribution of one window, over :math:`(1, H, D)`.
        num_samples: The number of paths :math:`S` in `samples`.
        seed: The seed of the paths; items with different names get different paths.
        quantile_levels: The default levels of `to_pandas`.
        history: The last observed rows, one column per channel, for plots. NaN marks a missing value.
        bands: The calibration of joint bands; if empty, they rest on samples of the joint distribution.
        notices: Notices about the fit, shown below plots.
    """

    item_id: str
    index: pd.Index[Any]
    channels: tuple[str, ...]
    frequency: str | None
    joint_distribution: JointDistribution
    num_samples: int = 200
    seed: int = 0
    quantile_levels: tuple[float, ...] = LEVELS
    history: pd.DataFrame | None = None
    bands: JointBands = field(default_factory=JointBands)
    notices: tuple[Notice, ...] = ()

    def __post_init__(self) -> None:
        shape, expected = tuple(self.joint_distribution.marginals.shape), (1, len(self.index), len(self.channels))
        if shape != expected:
            raise ValueError(f"Forecast expects marginals of one window, of shape {expected}, got {shape}")
        if not bool(self.joint_distribution.marginals.values.isfinite().all()):
            raise ValueError(
                f"the forecast of item {shown(self.item_id)} has missing or infinite quantiles: the series or the "
                "rows of the fit hold values too large to compute with; divide them by a constant and fit again"
            )

    def __repr__(self) -> str:
        steps = f"{len(self.index)} steps from {self.index[0]} to {self.index[-1]}"
        more = f" and {len(self.channels) - 8} more" if len(self.channels) > 8 else ""
        return f"Forecast({self.item_id!r}: {steps}; {', '.join(self.channels[:8])}{more})"

    @cached_property
    def mean(self) -> np.ndarray:
        r"""Return the mean, with shape :math:`(H, D)`; read-only."""
        return _read_only(self.joint_distribution.mean[0].numpy())

    def quantile(self, level: float | Sequence[float]) -> np.ndarray:
        r"""Return quantiles.

        Arguments:
            level: A level within (0, 1), or several.

        Returns:
            The quantiles, with shape :math:`(H, D)`, or :math:`(H, D, Q)` for several levels.
        """
        is_sequence = isinstance(level, Sequence | np.ndarray) and not (
            isinstance(level, np.ndarray) and level.ndim == 0
        )
        values = self.joint_distribution.marginals.at(checks.levels(level if is_sequence else [level]))[0].numpy()
        return values if is_sequence else values[..., 0]

    def interval(self, level: float) -> tuple[np.ndarray, np.ndarray]:
        r"""Return the central interval of each step and channel.

        Arguments:
            level: The coverage, within (0, 1): .8 gives the outer deciles.

        Returns:
            The lower and the upper bound, each with shape :math:`(H, D)`.
        """
        checks.levels([level])
        bounds = self.quantile([round((1 - level) / 2, 12), round((1 + level) / 2, 12)])
        return bounds[..., 0], bounds[..., 1]

    def band(self, level: float = 0.9, joint: str = "all") -> tuple[np.ndarray, np.ndarray]:
        r"""Return the simultaneous prediction band of whole paths.

        It is usually wider than `interval`, which covers each cell separately. The level is calibrated on past
        observations (see `adapts.calibration.JointBands`), or on samples of the joint distribution if these are too
        few.

        Arguments:
            level: The probability that all cells of a path lie inside, within (0, 1).
            joint: The scope of a path: "time" (all horizon steps of a channel), "channels" (all channels at a step), or
                "all".

        Returns:
            The lower and the upper bound, each with shape :math:`(H, D)`.

        Raises:
            ValueError: If `level` or `joint` is invalid.
        """
        low, high = self.bands.band(self.joint_distribution, checks.levels([level])[0], joint, self._generator())
        return low[0].numpy(), high[0].numpy()

    def variance_parts(self) -> pd.DataFrame:
        r"""Decompose the variance of each step and channel (see `adapts.distribution.VarianceParts`).

        Returns:
            One row per step and channel, as in `to_pandas`: item_id, timestamp, channel, and the components in squared
            units of the channel. These are "posterior" (the adapter's own uncertainty), "foundation_model" (the
            variance of the frozen model's forecasts), "noise" (added for past residuals), "correction" and "total",
            their sum. The correction is the change by recalibration, updates and the bounds of the support, negative
            where they narrow the distribution.

        Raises:
            ValueError: If the components are unknown, as for a baseline's forecast.
        """
        if self.joint_distribution.parts is None:
            raise ValueError(
                "variance_parts expects the forecast of an Adapter: other forecasts lack variance components"
            )
        return self._cells().join(self.joint_distribution.parts.table(self.joint_distribution.marginals.variance))

    @cached_property
    def samples(self) -> np.ndarray:
        r"""Return joint paths, with shape :math:`(S, H, D)`; cached, read-only and reproducible by the seed."""
        return _read_only(self.joint_distribution.sample(self.num_samples, self._generator())[:, 0].numpy())

    def _generator(self) -> torch.Generator:
        # Hashed to 32 bits, as torch's CPU generator ignores the higher ones.
        seed = np.random.SeedSequence([self.seed, zlib.crc32(self.item_id.encode())]).generate_state(1)[0]
        return torch.Generator().manual_seed(int(seed))

    def aggregate(self, how: Sequence[float] | np.ndarray | Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
        r"""Return samples of an aggregate of the joint paths: a total, a maximum, a ramp.

        Arguments:
            how: Weights of the channels, with shape :math:`(D,)`, for their sum at each step; or of all cells, with
                shape :math:`(H, D)`, for one number per path. Or a function of one path :math:`(H, D)`, such as
                `lambda path: path.sum(1).max()`.

        Returns:
            The samples, in the units of the aggregate, with shape :math:`(S, H)`, :math:`(S,)` or :math:`(S, *)`, as
            the function returns. Their quantiles are those of the aggregate: `np.quantile(samples, 0.9, axis=0)`.

        Raises:
            ValueError: If the weights have another shape, or the function does not return numbers.
        """
        return scenarios.aggregate(self.samples, how)

    def probability(self, event: Callable[[np.ndarray], bool | np.ndarray]) -> float | np.ndarray:
        r"""Return the probability of an event on joint paths.

        Arguments:
            event: A function that returns whether the event occurs on a path :math:`(H, D)`: one boolean or an array of
                them, such as `lambda path: path.min(0) < 0`.

        Returns:
            The fraction of the paths on which it occurs; an array of fractions if the event is one. Its standard error
            is :math:`\sqrt{p (1 - p) / S}` at most.

        Raises:
            ValueError: If the event is not boolean.
        """
        return scenarios.probability(self.samples, event)

    def scenarios(self, k: int) -> Scenarios:
        r"""Select representative joint paths (see `adapts.forecast.Scenarios`).

        Arguments:
            k: The number of scenarios, from 1 to :math:`S`.

        Returns:
            The paths, the most probable first, with shape :math:`(k, H, D)`, and the probability that each represents.

        Raises:
            ValueError: If `k` is invalid.
        """
        return scenarios.scenarios(self.samples, k, seed=self.seed)

    def score(
        self,
        actual: Any,
        *,
        scale: Any = None,
        location: Any = None,
        season_length: int | None = None,
        history: Any = None,
        item_column: str | Sequence[str] | None = None,
        timestamp_column: str | None = None,
    ) -> pd.DataFrame:
        r"""Score the forecast against observed values, with the metrics of `Adapter.backtest`.

        A backtest with one window gives the same numbers if `scale`, `location` and `history` are those of its fit.
        Scores of one window vary much; compare models by means over many.

        Arguments:
            actual: The observed values of the :math:`H` steps, in any form that `Adapter.fit` accepts. Rows with dates
                are matched by date, and other dates are ignored. Rows without dates are the first steps of the forecast
                in their order; there may be fewer than :math:`H`. Of several items, that of the forecast is taken;
                further columns of a frame are ignored. NaN marks a missing value, which is not scored.
            scale: Positive divisors of scores with units, such as `adapter.scale_`: a number, one for each channel, or
                a mapping of names. If None, scores keep the units of the series.
            location: Numbers that the joint scores subtract, in the same forms, such as `adapter.location_`. If None,
                the means of the history, or of the observed values without history.
            season_length: The season length of the MASE; if None, one derived from the frequency, 1 for undated series.
            history: The rows before the forecast, in the forms of `actual`. They give the in-sample error of the MASE
                and tell constant channels. If None, the forecast's own `history`, which is its last four horizons.
                Later rows are ignored.
            item_column: The column of a long frame that names the item; recognised by its name if None.
            timestamp_column: The column of the dates; recognised if None.

        Returns:
            A tidy frame: channel, lead_block, metric, value, as `adapts.evaluation.backtest.score_table` describes it.
            Channel "all" is the mean over channels. Metrics that need several windows are left out: coverage by regime
            and the floors of PIT-ECE and PIT-KS. A value is NaN where a score is undefined: a channel or block without
            observed values, the calibration of a constant channel, and the MASE without a naive error to divide by.

        Raises:
            ValueError: If the rows lack channels of the forecast, its item, or all of its steps; if they have another
                frequency or no common time zone, two values at one step, no value at all, or more than :math:`H` rows
                without dates; or if `scale`, `location` or `season_length` is invalid.

        Example:
            >>> series = np.sin(np.arange(112.0)[:, None] / 4 + np.arange(3.0))
            >>> forecast = adapts.Adapter("identity", prediction_length=12).predict(series[:100])
            >>> frame = forecast.score(series[100:]).set_index(["metric", "channel", "lead_block"])["value"]
            >>> bool(frame.loc["crps", "all", "all"] < frame.loc["mae", "all", "all"])
            True
        """
        from .scoring import score

        return score(
            self, actual, scale=scale, location=location, season_length=season_length, history=history,
            item_column=item_column, timestamp_column=timestamp_column,
        )  # fmt: skip

    def to_pandas(self, quantile_levels: Sequence[float] | None = None) -> pd.DataFrame:
        r"""Convert the forecast to a long data frame.

        Arguments:
            quantile_levels: The levels to include; those of the forecast if None.

        Returns:
            One row per step and channel: item_id, timestamp (the number of the step for undated data), channel, mean,
            and one column per level, named like "0.05". A name has up to six digits, or all digits if six would give
            another number or another level's name. Equal levels share a column.
        """
        levels = checks.levels(self.quantile_levels if quantile_levels is None else quantile_levels)
        values = self.quantile(levels).reshape(-1, len(levels))
        columns = {name: values[:, i] for i, name in enumerate(_names(levels))}
        return self._cells().assign(mean=self.mean.reshape(-1), **columns)

    def _cells(self) -> pd.DataFrame:
        r"""Return one row per step and channel, grouped by step."""
        steps, width = len(self.index), len(self.channels)
        timestamps, channels = self.index.repeat(width), list(self.channels) * steps
        return pd.DataFrame({"item_id": self.item_id, "timestamp": timestamps, "channel": channels})

    def to_gluonts(self) -> SampleForecast:
        r"""Convert the joint paths to a gluonts forecast.

        Returns:
            A sample forecast, with samples of shape :math:`(S, H, D)`, and :math:`(S, H)` for a single channel: gluonts
            recognises univariate forecasts by their shape, and its `Evaluator` accepts no others.

        Raises:
            ValueError: If the series has no dates, gluonts has no periods of its frequency, or a daylight-saving change
                falls into the forecast.
        """
        with quiet():  # gluonts warns about JSON libraries
            from gluonts.model.forecast import SampleForecast

        if not isinstance(self.index, pd.DatetimeIndex):
            raise ValueError(
                f"to_gluonts expects a dated series, the steps of {self.item_id!r} are numbered {self.index[0]} to "
                f"{self.index[-1]}: give the series a DatetimeIndex or a timestamp column"
            )
        start = period_of(self.index, self.frequency, f"the forecast of item {self.item_id!r}")
        samples = self.samples[..., 0] if len(self.channels) == 1 else self.samples
        return SampleForecast(samples.copy(), start, self.item_id)

    def plot(
        self,
        channels: str | Sequence[str] | None = None,
        history: pd.DataFrame | None = None,
        axes: Axes | Sequence[Axes] | np.ndarray | None = None,
        scenarios: int = 0,
    ) -> np.ndarray:
        r"""Plot a fan chart per channel: observed values, the median, and the 50, 80 and 95 % intervals.

        A new figure shows the notices about the fit (`notices`) below.

        Arguments:
            channels: The channels to plot, or the name of one; if None, all, or twelve evenly spaced ones of more than
                24.
            history: The observed rows, one column per channel; those of the forecast if None. Rows from the forecast's
                first step on are plotted as well, to compare with known observations.
            axes: The axes to plot on, one per channel; a new figure if None. Nothing is shown or saved.
            scenarios: The number of `scenarios` to plot over the fans, as paths that show the dependence. Line width
                grows with the probability that a path represents.

        Returns:
            The axes, one per channel.

        Raises:
            ValueError: If a channel is unknown, there are too few axes, or more scenarios than samples.
        """
        from matplotlib import pyplot as plt
        from matplotlib.axes import Axes

        figure = None
        names = self._drawn() if channels is None else checks.several("plot expects channels", channels)
        if not names or not all(isinstance(name, str) and name in self.channels for name in names):
            raise ValueError(f"plot expects channels among {shown(list(self.channels))}, got {shown(channels)}")
        checks.integer("plot expects scenarios", scenarios, least=0)
        observed = self.history if history is None else history
        if observed is not None and not (isinstance(observed, pd.DataFrame) and {*names} <= {*observed.columns}):
            raise ValueError(
                f"plot expects history to be a frame with the columns {shown(names)}, got {shown(history)}"
            )
        selected = self.scenarios(scenarios) if scenarios else None
        if axes is None:
            columns = 1 if len(names) <= 3 else 2 if len(names) <= 8 else 3
            rows = -(-len(names) // columns)
            size = (12 if columns > 1 else 9, max(3.2, 2.3 * rows))
            figure, grid = plt.subplots(rows, columns, figsize=size, layout="constrained", squeeze=False)
            cells = list(grid.flat)
            for spare in cells[len(names) :]:
                spare.remove()
            if channels is None and len(names) < len(self.channels):
                selection = f"{len(names)} of {len(self.channels)} channels, evenly spaced"
                figure.suptitle(f"{selection}; select others with plot(channels=...)")
        else:
            with reading("axes cannot be read", "pass those that matplotlib's subplots returns"):
                cells = list(np.atleast_1d(np.asarray(axes, dtype=object)).flat)
            if not all(isinstance(cell, Axes) for cell in cells):
                raise ValueError(f"plot expects axes of matplotlib, one per channel, got {shown(axes)}")
            if len(cells) < len(names):
                raise ValueError(f"plot expects {len(names)} axes, one per channel, got {len(cells)}")
        for name, cell in zip(names, cells, strict=False):
            self._fan(cell, name, None if observed is None else observed[name], selected)
        handles, labels = cells[0].get_legend_handles_labels()
        if figure is None:
            cells[0].legend(loc="upper left", fontsize="small", framealpha=0.8)
        else:
            figure.legend(handles, labels, loc="outside lower center", ncols=len(labels), frameon=False)
            add_notes(figure, [notice.said for notice in self.notices])
        return np.array(cells[: len(names)], dtype=object)

    def _drawn(self) -> list[str]:
        count = len(self.channels)
        indices = evenly_spaced(count, count if count <= _PANELS else _FEWER)
        return [self.channels[index] for index in indices]

    def _fan(self, cell: Axes, name: str, observed: pd.Series[float] | None, selected: Scenarios | None) -> None:
        channel = self.channels.index(name)
        index, start = self.index, None
        if observed is not None:
            cell.plot(observed.index, observed.to_numpy(), color=_GREY, linewidth=1.2, label="observed")
            before = observed[observed.index < index[0]]
            if len(before) and np.isfinite(before.iloc[-1]):  # the fan opens at the last observed value
                index, start = before.index[-1:].append(index), before.iloc[-1]

        def path(values: np.ndarray) -> np.ndarray:
            return values[:, channel] if start is None else np.append(start, values[:, channel])

        for level, opacity in _FANS:
            low, high = (path(end) for end in self.interval(level))
            label = f"{100 * level:g} %"
            cell.fill_between(index, low, high, color=_BLUE, alpha=opacity, linewidth=0, label=label)
        marker = "." if len(self.index) == 1 else None
        cell.plot(index, path(self.quantile(0.5)), color=_BLUE, linewidth=1.5, marker=marker, label="median")
        if selected is not None:
            for number, (scenario, weight) in enumerate(zip(selected.paths, selected.weights, strict=True)):
                width = 0.4 + 1.2 * weight / selected.weights.max()
                label = "_" if number else f"{len(selected.paths)} scenario{'s' * (len(selected.paths) > 1)}"
                cell.plot(index, path(scenario), color=_ORANGE, linewidth=width, marker=marker, zorder=1.5, label=label)
        cell.set_title(name, loc="left", fontsize="medium", parse_math=False)
        cell.spines[["top", "right"]].set_visible(False)
        cell.tick_params(labelsize="small")
        plain_ticks(cell)
        cell.margins(x=0.01)
        if isinstance(index, pd.DatetimeIndex):
            from matplotlib.dates import AutoDateLocator, ConciseDateFormatter

            locator = AutoDateLocator(tz=index.tz, minticks=3, maxticks=7)  # type: ignore[no-untyped-call]
            cell.xaxis.set_major_locator(locator)
            formatter = ConciseDateFormatter(locator, tz=index.tz)  # type: ignore[no-untyped-call]
            cell.xaxis.set_major_formatter(formatter)


def add_notes(figure: Figure, notes: Sequence[str]) -> None:
    r"""Write notes below the axes of a figure, above the legend at its lower edge.

    Arguments:
        figure: The figure, with constrained layout; changed in place: it grows by the height of the notes.
        notes: The notes, one sentence each.
    """
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    if not notes:
        return
    layout = figure.get_layout_engine()
    assert isinstance(layout, ConstrainedLayoutEngine)
    characters = int(15 * figure.get_figwidth())  # per line
    lines = [line for note in notes for line in wrap(f"Note: {note}{'' if note[-1:] in '.?' else '.'}", characters)]
    height, legend = 0.14 * len(lines) + 0.15, 0.38  # inches; the layout reserves separate space for the legend
    total = figure.get_figheight() + height
    figure.set_figheight(total)
    layout.set(rect=(0.0, height / total, 1.0, 1 - height / total))
    text = "\n".join(lines)
    figure.text(0.01, legend / total, text, fontsize=8, va="bottom", color=_GREY, parse_math=False)


def _read_only(values: np.ndarray) -> np.ndarray:
    r"""Return a read-only copy of an array that is cached."""
    values = values.copy()  # the distribution may share the memory
    values.flags.writeable = False
    return values


def _names(levels: Sequence[float]) -> list[str]:
    r"""Return the column names of levels: six digits if these identify the level, else all digits."""
    short_names = [f"{level:g}" for level in levels]
    levels_of_name: dict[str, set[float]] = {}
    for name, level in zip(short_names, levels, strict=True):
        levels_of_name.setdefault(name, set()).add(level)
    return [
        name
        if abs(float(name) - level) <= _TOLERANCE and (levels_of_name[name] == {level} or float(name) == level)
        else repr(level)
        for name, level in zip(short_names, levels, strict=True)
    ]


def plain_ticks(axes: Axes, which: str = "y") -> None:
    r"""Format the ticks of an axis as full numbers, as matplotlib puts offsets and exponents in the title's place.

    Arguments:
        axes: The axes, changed in place.
        which: The axis, "x" or "y".
    """
    from matplotlib.ticker import FuncFormatter

    axis = axes.xaxis if which == "x" else axes.yaxis

    def write(value: float, _: int | None = None) -> str:
        ticks = np.asarray(axis.get_majorticklocs(), dtype=float)
        step = np.diff(ticks).min(initial=np.inf)
        if not 0 < step < np.inf:
            return f"{value:.5g}"
        digits = max(7, int(np.log10(np.abs(ticks).max() / step)) + 3)  # enough to distinguish neighbours
        return formatter.fix_minus(f"{0.0 if abs(value) < step / 1000 else value:.{digits}g}")

    formatter = FuncFormatter(write)
    axis.set_major_formatter(formatter)
