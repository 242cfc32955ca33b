r"""The forecast of one item, as a user sees it."""

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
r"""The quantile levels of `to_pandas` unless others are asked for."""

_PANELS, _FEWER = 24, 12  # the most channels that are all drawn, and how many are drawn of more, unless they are named
_SAME = 1e-9  # how far a level may lie from the six digits that name it: what (1 - 0.9) / 2 misses 0.05 by is less
_FANS = ((0.95, 0.18), (0.8, 0.3), (0.5, 0.5))  # level and opacity, widest first
_BLUE, _ORANGE, _GREY = "#0072B2", "#D55E00", "#4D4D4D"  # Okabe and Ito's, told apart by all


@dataclass(frozen=True, eq=False, repr=False)
class Forecast:
    r"""The joint predictive law of the :math:`H` steps after an item's end, with names and dates.

    Everything is in the units of the series, as numpy arrays free of NaN. `mean`, `quantile` and `interval` read the
    law itself; `samples` are joint paths whose margins match it. `mean` and `samples` are computed once and kept, so
    they are read-only: `forecast.mean.copy()` is yours to change.

    Arguments:
        item_id: The item's name.
        index: The dates of the steps, or their numbers where the series has none, with length :math:`H`.
        channels: The names of the :math:`D` channels.
        frequency: The pandas alias of the step, None for undated data.
        joint_distribution: The joint distribution of one window, over :math:`(1, H, D)`.
        num_samples: The number of paths :math:`S` that `samples` holds.
        seed: The seed of the paths; items of other names get other paths.
        quantile_levels: The levels that `to_pandas` writes unless told otherwise.
        history: The last rows observed, a column a channel, for plots. NaN marks a missing value.
        bands: The outcomes that joint bands are made of; the law's own draws if there are none.
        notices: What there is to know of the fit, which stands below plots.
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
                f"the forecast of item {shown(self.item_id)} has missing or infinite quantiles: the series, or what "
                "was fitted, holds values too large to compute with; divide the series and fit again"
            )

    def __repr__(self) -> str:
        steps = f"{len(self.index)} steps from {self.index[0]} to {self.index[-1]}"
        more = f" and {len(self.channels) - 8} more" if len(self.channels) > 8 else ""
        return f"Forecast({self.item_id!r}: {steps}; {', '.join(self.channels[:8])}{more})"

    @cached_property
    def mean(self) -> np.ndarray:
        r"""The mean of the law, with shape :math:`(H, D)`; read-only."""
        return _kept(self.joint_distribution.mean[0].numpy())

    def quantile(self, level: float | Sequence[float]) -> np.ndarray:
        r"""Reads quantiles off the law.

        Arguments:
            level: A level within (0, 1), or several.

        Returns:
            The quantiles, with shape :math:`(H, D)`, or :math:`(H, D, Q)` for several levels.
        """
        several = isinstance(level, Sequence | np.ndarray) and not (isinstance(level, np.ndarray) and level.ndim == 0)
        values = self.joint_distribution.marginals.at(checks.levels(level if several else [level]))[0].numpy()
        return values if several else values[..., 0]

    def interval(self, level: float) -> tuple[np.ndarray, np.ndarray]:
        r"""The central interval of each step and channel.

        Arguments:
            level: The probability that it covers, within (0, 1): .8 gives the outer deciles.

        Returns:
            The lower and the upper end, each with shape :math:`(H, D)`.
        """
        checks.levels([level])
        both = self.quantile([round((1 - level) / 2, 12), round((1 + level) / 2, 12)])
        return both[..., 0], both[..., 1]

    def band(self, level: float = 0.9, joint: str = "all") -> tuple[np.ndarray, np.ndarray]:
        r"""The band that holds whole paths, as a rule wider than `interval`, which holds each cell by itself.

        Its level is that of past outcomes (see `adapts.distribution.JointBands`), or, where these are too few, of the
        law's own joint draws.

        Arguments:
            level: The probability that no cell of a path lies outside, within (0, 1).
            joint: What a path is: "time" (all leads of a channel), "channels" (all channels at a step), or "all".

        Returns:
            The lower and the upper end, each with shape :math:`(H, D)`.

        Raises:
            ValueError: If `level` or `joint` is none of these.
        """
        low, high = self.bands.band(self.joint_distribution, checks.levels([level])[0], joint, self._generator())
        return low[0].numpy(), high[0].numpy()

    def variance_parts(self) -> pd.DataFrame:
        r"""Tells where the variance of each step and channel comes from (see `adapts.distribution.VarianceParts`).

        Returns:
            One row a step and channel, as of `to_pandas`: item_id, timestamp, channel, and in squared units of the
            channel "posterior" (the adapter's uncertainty of itself), "foundation_model" (the spread of the frozen
            model's forecasts), "noise" (added for past residuals), "correction" (what recalibration, updates and the
            bounds of the support made of the sum, negative where they narrow the law), and "total", their sum.

        Raises:
            ValueError: If the forecast is of a law whose parts are not known: a baseline's.
        """
        if self.joint_distribution.parts is None:
            raise ValueError("variance_parts expects the forecast of an Adapter, the parts of this law are not known")
        return self._cells().join(self.joint_distribution.parts.table(self.joint_distribution.marginals.variance))

    @cached_property
    def samples(self) -> np.ndarray:
        r"""Joint paths, with shape :math:`(S, H, D)`, drawn once, read-only; the same seed gives the same paths."""
        return _kept(self.joint_distribution.sample(self.num_samples, self._generator())[:, 0].numpy())

    def _generator(self) -> torch.Generator:
        # Mixed to 32 bits, for torch's generator on the CPU disregards the higher ones.
        seed = np.random.SeedSequence([self.seed, zlib.crc32(self.item_id.encode())]).generate_state(1)[0]
        return torch.Generator().manual_seed(int(seed))

    def aggregate(self, how: Sequence[float] | np.ndarray | Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
        r"""Turns the joint paths into samples of what is made of them: a total, a maximum, a ramp.

        Arguments:
            how: Weights of the channels, with shape :math:`(D,)` (their sum at each step), or of all cells, with shape
                :math:`(H, D)` (one number a path); or a function of one path :math:`(H, D)`, such as
                `lambda path: path.sum(1).max()`.

        Returns:
            The samples, in the units that `how` makes, with shape :math:`(S, H)`, :math:`(S,)` or :math:`(S, *)`, as
            the function returns. Their quantiles are those of the aggregate: `np.quantile(samples, 0.9, axis=0)`.

        Raises:
            ValueError: If the weights have another shape, or the function does not return numbers.
        """
        return scenarios.aggregate(self.samples, how)

    def probability(self, event: Callable[[np.ndarray], bool | np.ndarray]) -> float | np.ndarray:
        r"""The probability of an event on joint paths.

        Arguments:
            event: Whether it happens on a path :math:`(H, D)`: true or false, or an array of such, such as
                `lambda path: path.min(0) < 0`.

        Returns:
            The share of the paths on which it happens; an array of shares where the event is one. Its standard error
            is :math:`\sqrt{p (1 - p) / S}` at most.

        Raises:
            ValueError: If the event is neither true nor false.
        """
        return scenarios.probability(self.samples, event)

    def scenarios(self, k: int) -> Scenarios:
        r"""Picks the joint paths that stand for all others (see `adapts.distribution.Scenarios`).

        Arguments:
            k: The number of scenarios, from 1 to :math:`S`.

        Returns:
            The paths, the likeliest first, with shape :math:`(k, H, D)`, and the share of the law that each stands for.

        Raises:
            ValueError: If `k` is no such number.
        """
        return scenarios.scenarios(self.samples, k, seed=self.seed)

    def to_pandas(self, quantile_levels: Sequence[float] | None = None) -> pd.DataFrame:
        r"""Writes the forecast as a long frame.

        Arguments:
            quantile_levels: The levels to write; those of the forecast if None.

        Returns:
            One row a step and channel: item_id, timestamp (the number of the step for undated data), channel, mean,
            and one column a level, named "0.05": by six digits, and by as many as there are where six would be another
            number, or that of another level. Equal levels share a column.
        """
        levels = checks.levels(self.quantile_levels if quantile_levels is None else quantile_levels)
        values = self.quantile(levels).reshape(-1, len(levels))
        columns = {name: values[:, i] for i, name in enumerate(_names(levels))}
        return self._cells().assign(mean=self.mean.reshape(-1), **columns)

    def _cells(self) -> pd.DataFrame:
        r"""One row a step and channel, the channels of a step together."""
        steps, width = len(self.index), len(self.channels)
        timestamps, channels = self.index.repeat(width), list(self.channels) * steps
        return pd.DataFrame({"item_id": self.item_id, "timestamp": timestamps, "channel": channels})

    def to_gluonts(self) -> SampleForecast:
        r"""Hands the joint paths to gluonts.

        Returns:
            A sample forecast, with samples of shape :math:`(S, H, D)`, and :math:`(S, H)` for a single channel: gluonts
            tells univariate forecasts by their shape, and its `Evaluator` takes no others.

        Raises:
            ValueError: If the series has no dates, gluonts has no periods of its frequency, or the clocks change within
                the forecast.
        """
        with quiet():  # gluonts has advice on JSON libraries
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
        r"""Draws a fan chart a channel: what was observed, the median, and the 50, 80 and 95 % intervals.

        What there is to know of the fit (`notices`) stands below, in a figure of its own.

        Arguments:
            channels: The channels to draw, or the name of one; all if None, and of more than 24 twelve that lie evenly
                among them.
            history: The rows observed, a column a channel; those that the forecast keeps if None. Rows from the
                forecast's first step on are drawn as well, so that the truth shows where it is known.
            axes: The axes to draw on, one a channel; a new figure if None. Nothing is shown or saved.
            scenarios: How many of `scenarios` to draw over the fans, paths that show how cells go together; the more of
                the law a path stands for, the thicker its line.

        Returns:
            The axes, one a channel.

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
        picked = self.scenarios(scenarios) if scenarios else None
        if axes is None:
            columns = 1 if len(names) <= 3 else 2 if len(names) <= 8 else 3
            rows = -(-len(names) // columns)
            size = (12 if columns > 1 else 9, max(3.2, 2.3 * rows))
            figure, grid = plt.subplots(rows, columns, figsize=size, layout="constrained", squeeze=False)
            cells = list(grid.flat)
            for spare in cells[len(names) :]:
                spare.remove()
            if channels is None and len(names) < len(self.channels):
                which = f"{len(names)} of {len(self.channels)} channels, evenly among them"
                figure.suptitle(f"{which}; name others with plot(channels=...)")
        else:
            with reading("axes cannot be read", "pass those that matplotlib's subplots returns"):
                cells = list(np.atleast_1d(np.asarray(axes, dtype=object)).flat)
            if not all(isinstance(cell, Axes) for cell in cells):
                raise ValueError(f"plot expects axes of matplotlib, one a channel, got {shown(axes)}")
            if len(cells) < len(names):
                raise ValueError(f"plot expects {len(names)} axes, one a channel, got {len(cells)}")
        for name, cell in zip(names, cells, strict=False):
            self._fan(cell, name, None if observed is None else observed[name], picked)
        handles, labels = cells[0].get_legend_handles_labels()
        if figure is None:
            cells[0].legend(loc="upper left", fontsize="small", framealpha=0.8)
        else:
            figure.legend(handles, labels, loc="outside lower center", ncols=len(labels), frameon=False)
            noted(figure, [notice.said for notice in self.notices])
        return np.array(cells[: len(names)], dtype=object)

    def _drawn(self) -> list[str]:
        width = len(self.channels)
        places = np.linspace(0, width - 1, width if width <= _PANELS else _FEWER).round().astype(int)
        return [self.channels[place] for place in places]

    def _fan(self, cell: Axes, name: str, observed: pd.Series[float] | None, picked: Scenarios | None) -> None:
        channel = self.channels.index(name)
        index, start = self.index, None
        if observed is not None:
            cell.plot(observed.index, observed.to_numpy(), color=_GREY, linewidth=1.2, label="observed")
            before = observed[observed.index < index[0]]
            if len(before) and np.isfinite(before.iloc[-1]):  # the fan opens at the last value seen
                index, start = before.index[-1:].append(index), before.iloc[-1]

        def path(values: np.ndarray) -> np.ndarray:
            return values[:, channel] if start is None else np.append(start, values[:, channel])

        for level, opacity in _FANS:
            low, high = (path(end) for end in self.interval(level))
            label = f"{100 * level:g} %"
            cell.fill_between(index, low, high, color=_BLUE, alpha=opacity, linewidth=0, label=label)
        marker = "." if len(self.index) == 1 else None
        cell.plot(index, path(self.quantile(0.5)), color=_BLUE, linewidth=1.5, marker=marker, label="median")
        if picked is not None:
            for number, (one, weight) in enumerate(zip(picked.paths, picked.weights, strict=True)):
                width = 0.4 + 1.2 * weight / picked.weights.max()
                label = "_" if number else f"{len(picked.paths)} scenario{'s' * (len(picked.paths) > 1)}"
                cell.plot(index, path(one), color=_ORANGE, linewidth=width, marker=marker, zorder=1.5, label=label)
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


def noted(figure: Figure, notes: Sequence[str]) -> None:
    r"""Writes notes below the axes of a figure, above the legend that stands at its lower edge.

    Arguments:
        figure: The figure, of constrained layout, changed in place: it grows by the height of the notes.
        notes: The notes, a sentence each.
    """
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    if not notes:
        return
    layout = figure.get_layout_engine()
    assert isinstance(layout, ConstrainedLayoutEngine)
    room = int(15 * figure.get_figwidth())  # letters in a line
    lines = [line for note in notes for line in wrap(f"Note: {note}{'' if note[-1:] in '.?' else '.'}", room)]
    height, legend = 0.14 * len(lines) + 0.15, 0.38  # inches; the legend below has room of its own in the layout
    whole = figure.get_figheight() + height
    figure.set_figheight(whole)
    layout.set(rect=(0.0, height / whole, 1.0, 1 - height / whole))
    text = "\n".join(lines)
    figure.text(0.01, legend / whole, text, fontsize=8, va="bottom", color=_GREY, parse_math=False)


def _kept(values: np.ndarray) -> np.ndarray:
    r"""An array that is handed out each time it is asked for: nobody may change it."""
    values = values.copy()  # the law may hold the same memory
    values.flags.writeable = False
    return values


def _names(levels: Sequence[float]) -> list[str]:
    r"""The names of columns of levels: six digits where they tell a level from all others, else all digits."""
    short = [f"{level:g}" for level in levels]
    of: dict[str, set[float]] = {}
    for name, level in zip(short, levels, strict=True):
        of.setdefault(name, set()).add(level)
    return [
        name if abs(float(name) - level) <= _SAME and (of[name] == {level} or float(name) == level) else repr(level)
        for name, level in zip(short, levels, strict=True)
    ]


def plain_ticks(axes: Axes, which: str = "y") -> None:
    r"""Writes each number of an axis in full: matplotlib puts a common offset or exponent where the title stands.

    Arguments:
        axes: The axes, changed in place.
        which: Which of them, "x" or "y".
    """
    from matplotlib.ticker import FuncFormatter

    axis = axes.xaxis if which == "x" else axes.yaxis

    def write(value: float, _: int | None = None) -> str:
        ticks = np.asarray(axis.get_majorticklocs(), dtype=float)
        step = np.diff(ticks).min(initial=np.inf)
        if not 0 < step < np.inf:
            return f"{value:.5g}"
        digits = max(7, int(np.log10(np.abs(ticks).max() / step)) + 3)  # so many tell neighbours apart
        return formatter.fix_minus(f"{0.0 if abs(value) < step / 1000 else value:.{digits}g}")

    formatter = FuncFormatter(write)
    axis.set_major_formatter(formatter)
