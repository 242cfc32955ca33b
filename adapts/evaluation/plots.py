r"""Plots: fan charts with observations, calibration, joint samples, and scores by horizon step (lead time)."""

from __future__ import annotations

__all__ = ["Fan", "fan_chart", "pit_histogram", "reliability", "sample_pairs", "scores_by_lead"]

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from .. import checks
from ..batching import evenly_spaced
from ..data.times import Times
from ..distribution.joint import JointDistribution
from ..errors import shown, unknown
from ..forecast.forecast import Forecast, add_notes, plain_ticks
from .scores import coverage, pit_deviations, pit_ece, pit_ece_floor
from .tables import block_slices

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.legend import Legend

# The colour-blind safe palette of Okabe and Ito: blue, vermillion, green, purple.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7")
LINES = ("-", "--", ":")
INK, GREY = "#222222", "#8a8a8a"
BANDS = ((0.05, 0.95, 0.18), (0.25, 0.75, 0.32))  # lower and upper level, opacity
NAMES = {"mse": "MSE", "mae": "MAE", "crps": "CRPS", "wql": "WQL", "pit_ece": "PIT-ECE", "pit_ks": "PIT-KS",
         "coverage_80": "coverage of the 80% interval", "width_80": "width of the 80% interval",
         "coverage_80_calm": "coverage of the 80% interval, calm",
         "coverage_80_volatile": "coverage of the 80% interval, volatile",
         "interval_score_80": "interval score, 80%"}  # fmt: skip
MAX_CHANNELS = 24  # maximum number of readable channels in one chart
_MAX_CELLS, _FEW_CELLS = 8, 6  # maximum number of cells of a pair plot, and of cells chosen by default


@dataclass(frozen=True)
class Fan:
    r"""One forecast to draw.

    Arguments:
        label: Its name in the legend.
        index: Its :math:`H` dates or row numbers.
        distribution: The joint distribution of one window.
    """

    label: str
    index: pd.Index[Any]
    distribution: JointDistribution


def fan_chart(
    observed: pd.DataFrame, fans: Sequence[Fan], *, title: str | None = None, notes: Sequence[str] = ()
) -> Figure:
    r"""Draw forecasts as fan charts, one panel per channel: the median and the 50 % and 90 % intervals.

    Arguments:
        observed: The observations, history and target, one column per channel, over the dates to draw. NaN leaves a
            gap.
        fans: The forecasts, each in its own colour.
        title: The title of the figure.
        notes: Sentences to print below the figure.

    Returns:
        The figure; no window opens. It shows the first 24 channels, and says so if there are more.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    channels = [str(channel) for channel in observed.columns]
    shown = channels[:MAX_CHANNELS]
    columns = 1 if len(shown) <= 3 else 2 if len(shown) <= 10 else 3
    rows = -(-len(shown) // columns)
    size = (7.5 if columns == 1 else 5.2 * columns, 0.9 + (2.2 if columns == 1 else 1.75) * rows)
    figure = Figure(figsize=size, layout="constrained", dpi=130)
    FigureCanvasAgg(figure)
    grid = figure.subplots(rows, columns, sharex=True, squeeze=False)
    for unused in grid.flat[len(shown) :]:
        unused.set_visible(False)
        above = grid[-2, list(grid[-1]).index(unused)]
        above.tick_params(labelbottom=True)
    for number, (axes, channel) in enumerate(zip(grid.flat, shown, strict=False)):
        _draw_channel(axes, observed.iloc[:, number], fans, number)
        axes.set_title(channel, loc="left", fontsize=9, pad=3, parse_math=False)
    _label_dates(grid.flat[0], observed.index)

    handles = _legend_handles(fans)
    truncated = f"first {MAX_CHANNELS} of {len(channels)} channels" if len(channels) > MAX_CHANNELS else ""
    text = ", ".join(part for part in (title, truncated) if part)
    if text:
        figure.suptitle(text, fontsize=11, parse_math=False)
    as_written(
        figure.legend(handles=handles, loc="outside lower center", ncols=len(handles), frameon=False, fontsize=8.5)
    )
    add_notes(figure, notes)
    return figure


def as_written(legend: Legend) -> None:
    r"""Show the names in a legend literally: matplotlib would parse text between dollar signs as a formula.

    Arguments:
        legend: The legend, changed in place.
    """
    for text in legend.get_texts():
        text.set_parse_math(False)


def _draw_channel(axes: Axes, observed: pd.Series[Any], fans: Sequence[Fan], channel: int) -> None:
    r"""Draw the fans and the observations of one channel."""
    for fan, colour in zip(fans, COLOURS, strict=False):
        x = _axis_values(fan.index)
        marginals = fan.distribution.marginals[0]
        for low, high, opacity in BANDS:
            band = marginals.at((low, high))[:, channel]
            axes.fill_between(x, band[:, 0].numpy(), band[:, 1].numpy(), color=colour, alpha=opacity, lw=0)
        axes.plot(x, marginals(0.5)[:, channel].numpy(), color=colour, lw=1.4)
        axes.axvline(x[0], color=GREY, lw=0.7, ls=(0, (2, 2)), zorder=0)
    axes.plot(_axis_values(observed.index), observed.to_numpy(), color=INK, lw=1.0)
    _bare(axes)
    plain_ticks(axes)


def _legend_handles(fans: Sequence[Fan]) -> list[Any]:
    r"""Return the legend entries of a fan chart."""
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    handles: list[Any] = [Line2D([], [], color=INK, lw=1.0, label="observed")]
    for fan, colour in zip(fans, COLOURS, strict=False):
        handles.append(Line2D([], [], color=colour, lw=1.4, label=fan.label))
    for low, high, opacity in reversed(BANDS):
        handles.append(Patch(color=GREY, alpha=opacity + 0.2, lw=0, label=f"{high - low:.0%} interval"))
    return handles


def reliability(pits: Mapping[str, Tensor], time: Times, *, level: float = 0.8, confidence: float = 0.9) -> Figure:
    r"""Draw calibration: a reliability diagram for each model, and the coverage at each horizon step.

    The diagram shows the fraction of PITs below a level against the level. The curve is the diagonal for a calibrated
    distribution, flat in the middle for one that is too narrow, and steep for one that is too wide. The grey band
    contains, level by level, the curve of a calibrated distribution on the same windows with probability `confidence`.
    It accounts for overlapping windows and the dependence of steps and channels (`pit_deviations`).

    Arguments:
        pits: The randomised PITs of each model on the same windows, with shape :math:`(n, H, D)`. NaN is missing. A
            channel of NaN only, as `roll` returns for a constant channel, is left out.
        time: The origin times of the windows (`Windows.time`, as of `Backtest.windows`).
        level: The nominal coverage of the interval whose coverage is drawn.
        confidence: The pointwise probability of the grey bands.

    Returns:
        The figure; no window opens.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(3.7 * len(pits) + 4.6, 4.0), layout="constrained", dpi=130)
    FigureCanvasAgg(figure)
    axes = figure.subplots(1, len(pits) + 1, width_ratios=[*[1.0] * len(pits), 1.25])
    for number, (model, pit) in enumerate(pits.items()):
        _draw_reliability(axes[number], pit, time, _colour(number), confidence)
        axes[number].set_title(model, loc="left", fontsize=10, parse_math=False)
    axes[0].set_ylabel("fraction of observations below")
    _draw_coverage(axes[-1], pits, time, level, confidence)
    axes[-1].set_box_aspect(1 / 1.25)
    return figure


def _colour(number: int) -> str:
    r"""Return the colour of a model; colours repeat after the last one."""
    return COLOURS[number % len(COLOURS)]


def _draw_reliability(axes: Axes, pit: Tensor, time: Times, colour: str, confidence: float) -> None:
    r"""Draw the reliability diagram of one model."""
    levels = (np.arange(100) + 0.5) / 100
    by_channel = _fractions_below(pit, levels)  # (G, D)
    chance = pit_deviations(pit, time, levels=levels).nanmean(-1)  # (R, G)
    low, high = _band(chance, confidence)
    axes.fill_between(
        levels, levels + low, levels + high, color=GREY, alpha=0.35, lw=0, label=f"calibrated, {confidence:.0%}"
    )
    axes.plot([0, 1], [0, 1], color=GREY, lw=0.8)
    axes.plot(levels, by_channel, color=colour, lw=0.7, alpha=0.35)
    axes.plot([], [], color=colour, lw=0.7, alpha=0.5, label="each channel")
    mean = torch.from_numpy(by_channel).nanmean(1).numpy()  # unlike numpy's, no warning without channels
    axes.plot(levels, mean, color=colour, lw=1.8, label="mean of channels")
    error = pit_ece(pit.flatten(0, 1)).nanmean().item()
    floor = pit_ece_floor(pit, time).nanmean().item()
    floor_text = "" if math.isnan(floor) else f"\nby chance {floor:.3f}"
    axes.text(0.97, 0.05, f"PIT-ECE {error:.3f}{floor_text}", ha="right", fontsize=8.5)
    axes.set(xlim=(0, 1), ylim=(0, 1), xlabel="level", aspect="equal")
    axes.legend(loc="upper left", frameon=False, fontsize=8)
    _bare(axes)


def _draw_coverage(axes: Axes, pits: Mapping[str, Tensor], time: Times, level: float, confidence: float) -> None:
    r"""Draw the coverage of an interval at each horizon step, one line per model."""
    first = next(iter(pits.values()))
    leads = np.arange(1, first.shape[1] + 1)
    tail = (1 - level) / 2
    edges = []
    for lead in leads:
        chance = pit_deviations(first[:, lead - 1 : lead], time, last_lead=int(lead), levels=(tail, 1 - tail))
        edges.append(_band(chance.nanmean(-1).diff(dim=1), confidence))
    low, high = np.asarray(edges)[..., 0].T
    axes.fill_between(
        leads, level + low, level + high, color=GREY, alpha=0.35, lw=0, label=f"calibrated, {confidence:.0%}"
    )
    axes.axhline(level, color=GREY, lw=0.8)
    for number, (model, pit) in enumerate(pits.items()):
        covered = coverage(pit, level).nanmean((0, 2)).numpy()
        style = ("-", "--", "-.", ":")[number % 4]
        axes.plot(leads, covered, style, color=_colour(number), lw=1.6, marker="o", ms=2.5, label=model)
    lowest = min(float(np.nanmin(line.get_ydata(), initial=level)) for line in axes.lines)
    axes.set(xlabel="lead time", ylim=(max(0.0, min(lowest, level + float(np.nanmin(low, initial=0))) - 0.05), 1.0))
    axes.set_title(f"coverage of the {level:.0%} interval", loc="left", fontsize=10)
    as_written(axes.legend(loc="best", frameon=False, fontsize=8))
    _bare(axes)


def _fractions_below(pit: Tensor, levels: np.ndarray) -> np.ndarray:
    r"""Return the fraction of each channel's PITs at or below the levels, with shape (G, D)."""
    cells = pit.flatten(0, 1).numpy()
    fractions = []
    for channel in cells.T:
        observed = np.sort(channel[~np.isnan(channel)])
        below = np.searchsorted(observed, levels, side="right")
        fractions.append(below / len(observed) if len(observed) else np.full(len(levels), math.nan))
    return np.stack(fractions, axis=1)


def _band(chance: Tensor, confidence: float) -> tuple[np.ndarray, np.ndarray]:
    r"""Return the lower and upper ends of the central interval of resamples, which lie along the first axis."""
    tail = (1 - confidence) / 2
    low, high = torch.quantile(chance.double(), torch.tensor([tail, 1 - tail], dtype=torch.float64), dim=0)
    return low.numpy(), high.numpy()


def _axis_values(index: pd.Index[Any]) -> np.ndarray:
    r"""Return dates in local time, or row numbers: matplotlib would draw dates with a time zone in UTC."""
    if isinstance(index, pd.DatetimeIndex):
        return index.tz_localize(None).to_numpy()
    return index.to_numpy()


def _label_dates(axes: Axes, index: pd.Index[Any]) -> None:
    r"""Set concise date labels if the index holds dates."""
    if isinstance(index, pd.DatetimeIndex):
        from matplotlib.dates import AutoDateLocator, ConciseDateFormatter

        locator = AutoDateLocator(minticks=3, maxticks=7)  # type: ignore[no-untyped-call]
        axes.xaxis.set_major_locator(locator)
        axes.xaxis.set_major_formatter(ConciseDateFormatter(locator))  # type: ignore[no-untyped-call]


def _bare(axes: Axes) -> None:
    r"""Remove the upper and right spines, and use small labels."""
    axes.xaxis.get_offset_text().set_fontsize(8)
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=8)
    axes.margins(x=0.01)


def pit_histogram(pits: Mapping[str, Tensor], time: Times, *, bins: int = 10, confidence: float = 0.9) -> Figure:
    r"""Draw histograms of PITs, one row per model and one column per block of horizon steps.

    Bars of equal height mean calibration. A valley means too narrow distributions, a hill too wide ones, a slope
    forecasts that are too low (rising) or too high (falling). The band contains, bar by bar, the histogram of a
    calibrated distribution on the same windows with probability `confidence` (`pit_deviations`). Heights are means over
    channels.

    References:
        | Probabilistic forecasts, calibration and sharpness (Gneiting, Balabdaoui and Raftery, 2007)
        | https://doi.org/10.1111/j.1467-9868.2007.00587.x

    Arguments:
        pits: The randomised PITs of each model on the same windows, with shape :math:`(n, H, D)`. NaN is missing; a
            channel of NaN only is left out.
        time: The origin times of the windows (`Windows.time`, as of `Backtest.windows`).
        bins: The number of bars, two or more.
        confidence: The pointwise probability of the grey bands.

    Returns:
        The figure; no window opens. There are no bars without observations.

    Raises:
        ValueError: If there are fewer than two bars.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    if bins < 2:
        raise ValueError(f"pit_histogram expects bins to be 2 or more, got bins={bins!r}")
    whole, *parts = block_slices(next(iter(pits.values())).shape[1])
    blocks = parts or [whole]
    figure = Figure(figsize=(2.3 * len(blocks) + 1.0, 1.7 * len(pits) + 1.1), layout="constrained", dpi=130)
    FigureCanvasAgg(figure)
    grid = figure.subplots(len(pits), len(blocks), sharex=True, sharey=True, squeeze=False)
    edges = np.arange(bins + 1) / bins
    for number, (row, (model, pit)) in enumerate(zip(grid, pits.items(), strict=True)):
        for axes, (block, leads) in zip(row, blocks, strict=True):
            _draw_histogram(axes, pit[:, leads], time, leads.stop, edges, _colour(number), confidence)
            if number == 0:
                title = "all leads" if block == "all" else f"leads {block.replace('-', ' to ')}"
                axes.set_title(title, loc="left", fontsize=9)
        row[0].set_ylabel(model, fontsize=9, parse_math=False)
    grid[0, 0].set(xlim=(0, 1), ylim=(0, None), xticks=[0, 0.5, 1])
    figure.supxlabel("PIT", fontsize=9)
    figure.supylabel("density", fontsize=9)
    _, labels = grid[0, 0].get_legend_handles_labels()
    if labels:
        figure.legend(*grid[0, 0].get_legend_handles_labels(), loc="outside upper right", frameon=False, fontsize=8)
    return figure


def _draw_histogram(
    axes: Axes, pit: Tensor, time: Times, last_lead: int, edges: np.ndarray, colour: str, confidence: float
) -> None:
    r"""Draw the PIT histogram of one model and block, with the band of a calibrated distribution."""
    inner, bins = edges[1:-1], len(edges) - 1
    below = _fractions_below(pit, inner)  # (B - 1, D)
    below = np.concatenate([0 * below[:1], below, 0 * below[:1] + 1])  # multiplied, so that NaN stays
    heights = torch.from_numpy(bins * np.diff(below, axis=0)).nanmean(1).numpy()
    axes.bar(edges[:-1], heights, 1 / bins, align="edge", color=colour, alpha=0.4, lw=0)
    axes.stairs(heights, edges, color=colour, lw=1.4, zorder=5)
    chance = pit_deviations(pit, time, last_lead=last_lead, levels=inner).nanmean(-1)  # (R, B - 1)
    low, high = _band(bins * torch.nn.functional.pad(chance, (1, 1)).diff(dim=1), confidence)
    if not np.isnan(low).any():
        label = f"calibrated, {confidence:.0%}"
        axes.stairs(1 + high, edges, baseline=1 + low, fill=True, color=GREY, alpha=0.45, lw=0, zorder=3, label=label)
    axes.axhline(1, color=INK, lw=0.6, zorder=4)
    _bare(axes)


def sample_pairs(
    forecast: Forecast,
    truth: pd.DataFrame | None = None,
    *,
    channels: str | Sequence[str] | None = None,
    leads: int | Sequence[int] | None = None,
) -> Figure:
    r"""Draw a scatter plot of joint samples for each pair of cells, with the observed values.

    A cell is a channel at a horizon step. The diagonal shows a histogram of each cell; each scatter plot states the
    correlation of its samples. Observations outside of the point clouds, but inside the histograms, indicate a wrong
    dependence in the predictive distribution.

    Arguments:
        forecast: The forecast.
        truth: The observed values at the dates of the forecast, one column per channel; not drawn if None. NaN is
            missing, and not drawn.
        channels: The channels, or the name of one. If None, all or, of many, an evenly spaced selection.
        leads: The horizon steps, from 1 to :math:`H`, or one of them. If None, the last, or for a single channel up to
            six evenly spaced ones.

    Returns:
        The figure; no window opens.

    Raises:
        ValueError: If a channel or step is unknown, the cells are fewer than two or more than eight, or `truth` lacks a
            channel or shares no row with the forecast.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

    names, steps = _chosen_cells(forecast, channels, leads)
    cells = [(name, step) for name in names for step in steps]
    if not 2 <= len(cells) <= _MAX_CELLS:
        raise ValueError(
            f"sample_pairs draws 2 to {_MAX_CELLS} cells, got {len(cells)}: {', '.join(names)} at lead "
            f"{', '.join(map(str, steps))}; select others with channels=[...] and leads=[...]"
        )
    if truth is not None:
        _require_truth(truth, forecast, names)
    drawn = [forecast.samples[:, step - 1, forecast.channels.index(name)] for name, step in cells]
    rows = None if truth is None else truth.reindex(forecast.index)
    observed = [math.nan if rows is None else float(rows[name].iloc[step - 1]) for name, step in cells]
    labels = [name if len(steps) == 1 else f"lead {step}" if len(names) == 1 else f"{name}, {step}"
              for name, step in cells]  # fmt: skip

    count = len(cells)
    figure = Figure(figsize=(1.55 * count + 0.8, 1.55 * count + 0.8), layout="constrained", dpi=130)
    FigureCanvasAgg(figure)
    grid = figure.subplots(count, count, squeeze=False)
    limits = [_limits(np.append(x, y)) for x, y in zip(drawn, observed, strict=True)]
    for down in range(count):
        for across in range(count):
            axes = grid[down, across]
            if across > down:
                axes.remove()
                continue
            if across == down:
                axes.hist(drawn[down], bins=20, range=limits[down], color=COLOURS[0], alpha=0.55)
                axes.axvline(observed[down], color=COLOURS[1], lw=1.4)
                axes.set(yticks=[])
            else:
                _draw_pair(axes, drawn[across], drawn[down])
                axes.plot(observed[across], observed[down], "P", color=COLOURS[1], ms=7, mec="white", mew=0.7)
                axes.set_ylim(limits[down])
            axes.set_xlim(limits[across])
            _tidy_pair(axes, left=across == 0 < down, bottom=down == count - 1)
            if across == 0:
                axes.set_ylabel(labels[down], fontsize=8, parse_math=False)
            if down == count - 1:
                axes.set_xlabel(labels[across], fontsize=8, parse_math=False)
    stamp = str(forecast.index[steps[0] - 1]).removesuffix(" 00:00:00")
    at = f"lead {steps[0]}, {'' if isinstance(forecast.index, pd.DatetimeIndex) else 'row '}{stamp}"
    where = names[0] if len(names) == 1 else at if len(steps) == 1 else "channels, leads"
    figure.suptitle(where, fontsize=10, ha="left", x=0.02, parse_math=False)
    figure.align_ylabels()
    handles: list[Any] = [Line2D([], [], color=COLOURS[0], marker="o", ls="", ms=4, label="joint samples")]
    if not np.isnan(observed).all():
        handles.append(Line2D([], [], color=COLOURS[1], marker="P", ls="", label="observed"))
    figure.legend(handles=handles, loc="upper right", frameon=False, fontsize=8.5)
    return figure


def _require_truth(truth: pd.DataFrame, forecast: Forecast, names: Sequence[str]) -> None:
    r"""Check that observed values have the channels, and a row of the forecast."""
    for name in names:
        if name not in truth.columns:
            raise ValueError(unknown("column of the truth", name, [str(column) for column in truth.columns]))
    if not truth.index.isin(forecast.index).any():
        raise ValueError(
            f"the truth must share rows with the forecast, {forecast.index[0]} to {forecast.index[-1]}, and goes from "
            f"{truth.index[0]} to {truth.index[-1]}"
        )


def _chosen_cells(
    forecast: Forecast, channels: str | Sequence[str] | None, leads: int | Sequence[int] | None
) -> tuple[list[str], list[int]]:
    r"""Return the channels and horizon steps to draw: the requested ones, or an evenly spaced selection."""
    horizon = len(forecast.index)
    steps = None if leads is None else checks.several("expected leads", leads)
    for step in steps or ():
        if not 1 <= (checks.whole(step) or 0) <= horizon:
            raise ValueError(f"leads are horizon steps from 1 to {horizon}, got {shown(step)}")
    names = list(forecast.channels) if channels is None else checks.several("expected channels", channels)
    for name in names:
        if not isinstance(name, str) or name not in forecast.channels:
            raise ValueError(unknown("channel of the forecast", name, forecast.channels))
    if channels is None:
        names = [names[place] for place in evenly_spaced(len(names), max(1, _FEW_CELLS // max(1, len(steps or [1]))))]
    if steps is None:
        steps = [horizon] if len(names) > 1 else [place + 1 for place in evenly_spaced(horizon, _FEW_CELLS)]
    return names, steps


def _limits(values: np.ndarray) -> tuple[float, float]:
    r"""Return axis limits around the values, with a margin of 5 %."""
    low, high = float(np.nanmin(values)), float(np.nanmax(values))
    margin = 0.05 * (high - low) or 0.5
    return low - margin, high + margin


def _draw_pair(axes: Axes, x: np.ndarray, y: np.ndarray) -> None:
    r"""Draw a scatter plot of two cells with their correlation."""
    axes.scatter(x, y, s=5, color=COLOURS[0], alpha=0.35, lw=0)
    if min(np.ptp(x), np.ptp(y)) > 0:
        box = {"facecolor": "white", "edgecolor": "none", "alpha": 0.75, "pad": 1.0}
        text = f"r = {round(np.corrcoef(x, y)[0, 1], 2) + 0:.2f}"  # no -0.00
        axes.text(0.05, 0.95, text, fontsize=7, va="top", transform=axes.transAxes, bbox=box)


def _tidy_pair(axes: Axes, *, left: bool, bottom: bool) -> None:
    r"""Reduce the ticks of one plot of the grid; label only those at its left and bottom."""
    from matplotlib.ticker import MaxNLocator

    axes.xaxis.set_major_locator(MaxNLocator(3))
    plain_ticks(axes, "x")
    if len(axes.get_yticks()):
        axes.yaxis.set_major_locator(MaxNLocator(3))
        plain_ticks(axes)
    axes.tick_params(labelleft=left, labelbottom=bottom, labelsize=7)
    axes.spines[["top", "right"]].set_visible(False)


def scores_by_lead(
    scores: pd.DataFrame | Mapping[str, Tensor], metric: str = "crps", *, title: str | None = None
) -> Figure:
    r"""Draw scores against the horizon step (lead time), one line per model.

    Arguments:
        scores: For each model the score at each step, with shape :math:`(H,)`, as returned by `Backtest.by_lead`. Or
            the tidy frame of a backtest, whose means over channels by block of steps are drawn as a step function.
        metric: The metric: it selects the rows of a frame, and labels the axis.
        title: The title of the figure.

    Returns:
        The figure; no window opens.

    Raises:
        ValueError: If the frame has no such metric by block of steps.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    curves = _by_block(scores, metric) if isinstance(scores, pd.DataFrame) else {
        model: (np.arange(1, len(values) + 1), np.asarray(values)) for model, values in scores.items()
    }  # fmt: skip
    figure = Figure(figsize=(7.0, 4.0), layout="constrained", dpi=130)
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    for number, (model, (leads, values)) in enumerate(curves.items()):
        # colours repeat after the last one, with another line style
        colour, style = COLOURS[number % len(COLOURS)], LINES[number // len(COLOURS) % len(LINES)]
        axes.plot(leads, values, style, color=colour, lw=1.6, marker="o" if len(leads) == 1 else None, label=model)
    axes.set_xlabel("lead time")
    axes.set_ylabel(NAMES.get(metric, metric), parse_math=False)
    if isinstance(scores, pd.DataFrame) and set(scores["lead_block"]) == {"all"}:  # fewer than eight steps: one block
        axes.set(xlabel="all leads", xticks=[])
    if title:
        axes.set_title(title, loc="left", fontsize=10, parse_math=False)
    if metric.startswith("coverage_80"):
        axes.axhline(0.8, color=GREY, lw=0.8)
    else:
        axes.set_ylim(bottom=0)
    as_written(axes.legend(loc="best", frameon=False, fontsize=8))
    _bare(axes)
    return figure


def _by_block(frame: pd.DataFrame, metric: str) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    r"""Return the step function of each model over blocks of horizon steps."""
    rows = frame[(frame["channel"] == "all") & (frame["metric"] == metric)]
    if len(rows) == 0 or metric not in set(frame.loc[frame["channel"] != "all", "metric"]):
        known = frame.loc[frame["channel"] != "all", "metric"].unique()
        raise ValueError(unknown("score by lead", metric, known))
    curves = {}
    for model, group in rows.groupby("model", sort=False):
        blocks = group[group["lead_block"] != "all"] if len(group) > 1 else group.assign(lead_block="1-1")  # one block
        edges = blocks["lead_block"].str.split("-", expand=True).astype(int).to_numpy()  # (blocks, 2)
        steps = edges + np.array([-0.5, 0.5])
        curves[str(model)] = steps.ravel(), blocks["value"].to_numpy().repeat(2)
    return curves
