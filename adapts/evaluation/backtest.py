r"""Rolling-origin backtests: the adapter beside the frozen model and the naive forecasts, on windows held back."""

from __future__ import annotations

__all__ = ["Backtest", "backtest", "format_table", "roll", "rolling_windows", "score_table"]

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from ..dates import season_length as guess_season
from ..distribution.blocks import lead_blocks
from ..distribution.law import Law
from ..panel import Panel, require_length
from ..windows import Part, Windows, part_windows
from . import scores
from .baselines import LastValue, SeasonalNaive

if TYPE_CHECKING:
    from ..adapter import Adapter
    from ..readers import Dataset

HELD_BACK = 0.2  # the share of rows held back where nothing else says how many
FEW, MANY = 20, 200  # origins that the default stride tries to reach, and those it never exceeds
_MEAN = "all"  # stands where a channel does, for the mean over channels
_BATCH = 64  # windows forecast and sampled at a time
_FIT_WINDOWS = 2000  # of the fit part, for the errors of the baselines

_CELL = ("mse", "mae", "crps", "wql", "coverage_80", "width_80")  # scores of one window, lead and channel
_JOINT = ("energy_score", "variogram_channels", "variogram_time")  # scores of one window
_UNITS = {"mse": 2, "mae": 1, "crps": 1, "wql": 1, "width_80": 1}  # the power of the scale that divides a score


def window_scores(
    law: Law,
    future: Tensor,
    *,
    location: Tensor,
    scale: Tensor,
    varies: Tensor,
    num_samples: int,
    generator: torch.Generator,
) -> dict[str, Tensor]:
    r"""Scores each window by itself, before any mean is taken.

    Arguments:
        law: The law of :math:`n` windows.
        future: What came true, with shape :math:`(n, H, D)`. NaN is missing.
        location: The location of each channel, with shape :math:`(D,)`; the joint scores compare channels.
        scale: The scale of each channel, with shape :math:`(D,)`.
        varies: Whether each channel ever changes, with shape :math:`(D,)`; the PITs of one that does not are NaN.
        num_samples: The number of samples :math:`S` of the sample scores.
        generator: The source of the samples and of what randomises PITs.

    Returns:
        By name the scores of a cell and the randomised "pit", with shape :math:`(n, H, D)`, and the joint scores, with
        shape :math:`(n,)`.
    """
    quantiles = law.marginals.at([*scores.DECILES])  # (n, H, D, 9)
    pit = law.marginals.pit(future, generator).where(varies, torch.nan)  # of a constant: rounding noise
    samples = law.sample(num_samples, generator)  # (S, n, H, D)
    cells = {
        "mse": (law.mean.double() - future.double()).square(),
        "mae": (quantiles[..., 4].double() - future.double()).abs(),
        "crps": scores.crps_fair(samples, future),
        "wql": scores.wql(quantiles, future),
        "coverage_80": scores.coverage(pit),
        "width_80": (quantiles[..., -1] - quantiles[..., 0]).double().where(~future.isnan(), torch.nan),
    }
    for name, power in _UNITS.items():
        cells[name] = cells[name] / scale**power
    samples, y = (((x - location) / scale).float() for x in (samples, future))
    by_lead = scores.variogram_score(samples.flatten(1, 2), y.flatten(0, 1)).view(len(y), -1)
    by_channel = scores.variogram_score(samples.mT.flatten(1, 2), y.mT.flatten(0, 1)).view(len(y), -1)
    joint = {
        "energy_score": scores.energy_score(samples.flatten(2), y.flatten(1)),
        "variogram_channels": by_lead.nanmean(1),
        "variogram_time": by_channel.nanmean(1),
    }
    return {**cells, "pit": pit, **joint}


def summarise(model: str, windows: Mapping[str, Tensor], origin: np.ndarray, channels: Sequence[str]) -> pd.DataFrame:
    r"""Takes the means of window scores: a channel, and a block of leads.

    Arguments:
        model: The name of the model.
        windows: What `window_scores` gives, for all windows.
        origin: The row of each window's first target, with shape :math:`(n,)`.
        channels: The names of the channels.

    Returns:
        The tidy frame of one model: model, channel, lead_block, metric, value.
    """
    rows: list[tuple[str, str, str, str, float]] = []
    horizon = windows["pit"].shape[1]
    for block, leads in _blocks(horizon):
        values = {name: windows[name][:, leads].nanmean((0, 1)) for name in _CELL}  # (D,) each
        pit = windows["pit"][:, leads]
        values["pit_ece"] = scores.pit_ece(pit.flatten(0, 1))
        values["pit_ece_floor"] = scores.pit_ece_floor(pit, origin, last_lead=leads.stop)
        for name, value in values.items():
            rows.append((model, _MEAN, block, name, value.nanmean().item()))
            rows.extend((model, c, block, name, v) for c, v in zip(channels, value.tolist(), strict=True))
    rows.extend((model, _MEAN, "all", name, windows[name].nanmean().item()) for name in _JOINT)
    return pd.DataFrame(rows, columns=["model", "channel", "lead_block", "metric", "value"])


def _require_names(channels: Sequence[str]) -> None:
    if _MEAN in channels:
        raise ValueError(
            f"scores name the mean over channels {_MEAN!r}, and a channel is called so too: give it another name"
        )


def _blocks(horizon: int) -> list[tuple[str, slice]]:
    r"""All leads, and then the blocks of leads under names such as "1-6", if there is more than one."""
    _, sizes = lead_blocks(horizon).unique_consecutive(return_counts=True)
    stops = sizes.cumsum(0).tolist()
    blocks = [(f"{start + 1}-{stop}", slice(start, stop)) for start, stop in zip([0, *stops], stops, strict=False)]
    return [("all", slice(0, horizon)), *(blocks if len(blocks) > 1 else [])]


def score_table(
    laws: Mapping[str, Law],
    future: Tensor,
    *,
    channels: Sequence[str],
    scale: np.ndarray,
    origin: np.ndarray,
    location: np.ndarray | None = None,
    varies: np.ndarray | None = None,
    num_samples: int = 100,
    seed: int = 0,
) -> pd.DataFrame:
    r"""Scores laws on the same windows, all through the same code and with the same random numbers.

    The metrics: "mse" of the mean, "mae" of the median, "crps" (fair, of samples), "wql" (twice the mean pinball loss
    of the deciles), "coverage_80" (randomised PITs inside [.1, .9]), "width_80" (of the interval between the outer
    deciles), "pit_ece" and "pit_ece_floor"; and for the joint law, under channel and lead block "all" only,
    "energy_score" over all cells, "variogram_channels" (of each lead, mean over leads) and "variogram_time" (of each
    channel, mean over channels), which are NaN where there is but one channel or one lead.

    Arguments:
        laws: The law of the :math:`n` windows for each model.
        future: What came true, with shape :math:`(n, H, D)`, in the units of the laws. NaN cells are skipped.
        channels: The names of the channels.
        scale: The scale of each channel, with shape :math:`(D,)`; scores with units are divided by it ("mse" by its
            square).
        origin: The row of each window's first target, with shape :math:`(n,)`.
        location: The location of each channel, with shape :math:`(D,)`, for the joint scores; the mean of what came
            true if None.
        varies: Whether each channel ever changes, with shape :math:`(D,)`, all if None. PITs of a constant channel are
            the rounding noise of a law without width: its calibration ("coverage_80", "pit_ece", "pit_ece_floor") is
            NaN, and left out of the mean over channels.
        num_samples: The number of samples of the sample scores.
        seed: The seed of the samples and of what randomises PITs.

    Returns:
        The tidy frame: model, channel, lead_block, metric, value. Channel "all" is the mean over channels.

    Raises:
        ValueError: If a channel is called "all".
    """
    _require_names(channels)
    if location is None:
        location = future.double().nanmean((0, 1)).nan_to_num(0.0).numpy()
    varies = np.ones(len(channels), dtype=bool) if varies is None else varies
    frames = []
    for model, law in laws.items():
        batches = ((law[at], future[at]) for at in _slices(len(future)))
        windows = _score_batches(batches, location, scale, varies, num_samples, seed)
        frames.append(summarise(model, windows, origin, channels))
    return pd.concat(frames, ignore_index=True)


def _slices(length: int) -> Iterator[slice]:
    return (slice(start, start + _BATCH) for start in range(0, length, _BATCH))


def _score_batches(
    batches: Iterable[tuple[Law, Tensor]],
    location: np.ndarray,
    scale: np.ndarray,
    varies: np.ndarray,
    num_samples: int,
    seed: int,
) -> dict[str, Tensor]:
    r"""Scores the windows of one model batch by batch: only a batch's samples are held at a time."""
    generator = torch.Generator().manual_seed(seed)
    where, by = torch.from_numpy(np.asarray(location, float)), torch.from_numpy(np.asarray(scale, float))
    vary = torch.from_numpy(np.asarray(varies, bool))
    parts = [
        window_scores(law, future, location=where, scale=by, varies=vary, num_samples=num_samples, generator=generator)
        for law, future in batches
    ]
    return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}


def rolling_windows(
    panel: Panel,
    first_origin: int | Sequence[int],
    windows: int | None,
    stride: int,
    context_length: int,
    prediction_length: int,
) -> Windows:
    r"""Lays windows from an origin on, one every `stride` rows, whose targets lie inside the series.

    Arguments:
        panel: The panel.
        first_origin: The row of the first target of the first window, one for all items or one each.
        windows: The most windows an item, as many as fit if None.
        stride: The number of rows from one origin to the next.
        context_length: The number of context steps :math:`L`.
        prediction_length: The number of target steps :math:`H`.

    Returns:
        The windows, item by item, each in order of time. Those whose target is wholly missing are left out.
    """
    firsts = [first_origin] * len(panel) if isinstance(first_origin, int) else first_origin
    stops = panel.lengths
    if windows is not None:
        reach = (windows - 1) * stride + prediction_length
        stops = tuple(min(stop, first + reach) for stop, first in zip(stops, firsts, strict=True))
    part = Part("held back", tuple(zip(firsts, stops, strict=True)))
    return part_windows(
        panel,
        part,
        context_length=context_length,
        prediction_length=prediction_length,
        max_windows=max(1, sum(stops)),
        stride=stride,
    )


@dataclass(frozen=True)
class Backtest:
    r"""A backtest with what its figures were made of.

    Arguments:
        frame: The tidy scores: model, channel, lead_block, metric, value.
        windows: The windows held back, in order of time.
        pits: The randomised PITs of each model, with shape :math:`(n, H, D)`; NaN for a channel that never changes.
        adapter: The adapter fitted on the rows before them.
        stride: The number of rows from one origin to the next.
    """

    frame: pd.DataFrame
    windows: Windows
    pits: dict[str, Tensor]
    adapter: Adapter
    stride: int


def backtest(
    adapter: Adapter,
    series: Panel | Dataset,
    *,
    windows: int | None = None,
    stride: int | None = None,
    scale: str = "train",
    baselines: bool = True,
    refit: bool = False,
    season_length: int | None = None,
    num_samples: int = 100,
    seed: int = 0,
) -> pd.DataFrame:
    r"""Scores an adapter on windows held back at the end of a series: the frame of `roll`, which tells the rest.

    Arguments:
        adapter: The adapter; it is cloned and stays as it is.
        series: The series, as a panel or a data set with borders.
        windows: The number of origins, counted from the end.
        stride: The number of rows from one origin to the next.
        scale: "train" divides scores by the population standard deviation of the fit part, "none" by nothing.
        baselines: Whether to score the frozen model and the naive forecasts as well.
        refit: Whether to fit again before every origin.
        season_length: The season of the seasonal naive; the adapter's, or one that goes with the frequency, if None.
        num_samples: The number of samples of the sample scores.
        seed: The seed of the samples and of what randomises PITs.

    Returns:
        The tidy frame of `score_table`: model, channel, lead_block, metric, value.
    """
    return roll(
        adapter,
        series,
        windows=windows,
        stride=stride,
        scale=scale,
        baselines=baselines,
        refit=refit,
        season_length=season_length,
        num_samples=num_samples,
        seed=seed,
    ).frame


def roll(
    adapter: Adapter,
    series: Panel | Dataset,
    *,
    windows: int | None = None,
    stride: int | None = None,
    scale: str = "train",
    baselines: bool = True,
    refit: bool = False,
    season_length: int | None = None,
    num_samples: int = 100,
    seed: int = 0,
    on_progress: Callable[[str], None] | None = None,
) -> Backtest:
    r"""Fits a clone of an adapter on the rows before the first origin, rolls over the rest, and scores.

    Held back is what `windows` origins need; without it the test rows of a data set with borders, or else the last
    fifth of the rows. The items of a dated panel are cut at the same date. Without a `stride`, origins are :math:`H`
    rows apart, so that each row is forecast once; closer where that gives fewer than 20 of them, farther where it
    gives more than 200.

    A channel that never changes, neither in the fit part nor in what is held back, has no calibration to measure: its
    "coverage_80", "pit_ece" and "pit_ece_floor" are NaN, and left out of the mean over channels.

    Arguments:
        adapter: The adapter; it is cloned and stays as it is.
        series: The series, as a panel or a data set with borders.
        windows: The number of origins, counted from the end.
        stride: The number of rows from one origin to the next.
        scale: "train" divides scores by the population standard deviation of the fit part, "none" by nothing.
        baselines: Whether to score the frozen model and the naive forecasts as well.
        refit: Whether to fit the adapter again before every origin, on all rows before it, which it then cuts into
            parts as it does without borders. The baselines take their errors from the rows before the first.
        season_length: The season of the seasonal naive; the adapter's, or one that goes with the frequency, if None.
        num_samples: The number of samples of the sample scores.
        seed: The seed of the samples and of what randomises PITs.
        on_progress: Called with the name of each stage as it begins.

    Returns:
        The scores, with windows, PITs and the fitted adapter.

    Raises:
        ValueError: If `scale`, `windows` or `stride` make no sense, the series is too short, or a channel is called
            "all".
    """
    if scale not in ("train", "none"):
        raise ValueError(f"a backtest expects scale to be 'train' or 'none', got {scale!r}")
    for name, value in (("windows", windows), ("stride", stride)):
        if value is not None and value < 1:
            raise ValueError(f"a backtest expects {name} to be a positive integer, got {value!r}")
    horizon = adapter.prediction_length
    tell = on_progress or (lambda stage: None)
    panel, firsts, stride = _held_back(series, horizon, windows, stride)

    _require_names(panel.channels)
    varies = _varies(panel)

    tell("fit")
    fitted = adapter.clone().fit(_before(series, panel, firsts))
    held_back = rolling_windows(panel, firsts, windows, stride, fitted.context_length_, horizon)
    step = (held_back.origin - np.asarray(firsts)[held_back.item]) // stride
    held_back, step = held_back[np.argsort(step, kind="stable")], np.sort(step)
    if len(held_back) == 0:
        raise ValueError("there is no value to score in the rows held back: all targets are missing")
    location, divisor = fitted.location_, fitted.scale_ if scale == "train" else np.ones_like(fitted.scale_)

    batches = {"adapter": _by_batch(fitted.law, held_back)}
    if refit:
        batches["adapter"] = _by_origin(fitted, series, held_back, step, np.asarray(firsts), stride)
    if baselines:
        season = season_length or fitted.season_length_ or guess_season(panel.frequency)
        past = max(fitted.context_length_, 2 * season)  # a short context must not cost the naive forecast its season
        fit_part = Part("fit", tuple((0, first) for first in firsts))
        fit_windows = part_windows(
            panel, fit_part, context_length=past, prediction_length=horizon, max_windows=_FIT_WINDOWS
        )
        with_past = replace(held_back, context_length=past)
        batches["frozen model"] = _by_batch(fitted.frozen_law, held_back)
        batches["last value"] = _by_batch(LastValue().fit(fit_windows).law, with_past)
        batches["seasonal naive"] = _by_batch(SeasonalNaive(season).fit(fit_windows).law, with_past)

    frames, pits = [], {}
    for model, each in batches.items():
        tell(f"score {model}")
        windows_scored = _score_batches(each, location, divisor, varies, num_samples, seed)
        frames.append(summarise(model, windows_scored, held_back.origin, panel.channels))
        pits[model] = windows_scored["pit"]
    return Backtest(pd.concat(frames, ignore_index=True), held_back, pits, fitted, stride)


def _held_back(
    series: Panel | Dataset, horizon: int, windows: int | None, stride: int | None
) -> tuple[Panel, list[int], int]:
    r"""The panel up to the last row to score, the first origin of each item, and the stride."""
    panel, borders = series, None
    if not isinstance(series, Panel):
        panel = series.panel if series.end is None else series.panel.rows(series.end)
        borders = series.borders
    assert isinstance(panel, Panel)
    dated = panel.frequency is not None
    clocks = [item.clock() if dated else np.arange(len(item)) for item in panel.items]
    clock = np.unique(np.concatenate(clocks)) if dated else max(clocks, key=len)
    if windows is not None:
        stride = stride or horizon
        held = (windows - 1) * stride + horizon
    elif borders is not None:
        held = len(clock) - borders[1]
    else:
        held = max(horizon, round(HELD_BACK * len(clock)))
    if len(clock) < held + 3 * horizon:
        count = "windows" if windows is None else f"{windows} window{'s' * (windows > 1)}"
        require_length(
            panel, held + 3 * horizon, f"{count} of {horizon} steps held back, and rows before them to fit on"
        )
    if held < horizon:
        raise ValueError(
            f"the {held} rows held back hold no window of prediction_length={horizon}: "
            "ask for a shorter one, or for a number of windows"
        )
    if dated:
        firsts = [int(np.searchsorted(each, clock[len(clock) - held])) for each in clocks]
    else:
        firsts = [max(0, len(each) - held) for each in clocks]  # no common clock: counted from each item's own end
    free = held - horizon
    if stride is None:
        stride = max(horizon, -(-(free + 1) // MANY))
        if free // stride + 1 < FEW:
            stride = max(1, free // (FEW - 1))
    return panel, firsts, stride


def _varies(panel: Panel) -> np.ndarray:
    r"""Whether each channel changes by more than rounding noise, with shape (D,)."""
    rows, _ = panel.concatenated
    low, high = np.fmin.reduce(rows, axis=0), np.fmax.reduce(rows, axis=0)
    constant: np.ndarray = high - low <= 1e-9 * np.maximum(np.abs(low), np.abs(high))  # the scale of a fit is then 1
    return ~constant


def _before(series: Panel | Dataset, panel: Panel, stops: Sequence[int]) -> Panel | Dataset:
    r"""The rows before some origins, one an item, in the form that the series came in."""
    before = panel.rows(stops)
    before = replace(before, items=tuple(item for item in before.items if len(item)))
    if isinstance(series, Panel):
        return before
    borders = series.borders if series.borders is not None and max(stops) >= series.borders[1] else None
    return replace(series, panel=before, borders=borders, end=None)


def _by_batch(law: Callable[[Windows], Law], windows: Windows) -> Iterator[tuple[Law, Tensor]]:
    r"""The laws of windows with what came true, some windows at a time."""
    for at in _slices(len(windows)):
        yield law(windows[at]), windows[at].future(torch.float64)


def _by_origin(
    fitted: Adapter, series: Panel | Dataset, windows: Windows, step: np.ndarray, firsts: np.ndarray, stride: int
) -> Iterator[tuple[Law, Tensor]]:
    r"""The same, from an adapter that is fitted anew before each origin after the first."""
    lengths = np.asarray(windows.panel.lengths)
    for number in np.unique(step):
        if number > 0:
            before = _before(series, windows.panel, np.minimum(firsts + number * stride, lengths).tolist())
            fitted = fitted.clone().fit(before if isinstance(before, Panel) else replace(before, borders=None))
        batch = windows[step == number]
        yield fitted.law(batch), batch.future(torch.float64)


def format_table(frame: pd.DataFrame) -> str:
    r"""Writes the scores over all channels and leads as a table to print, one row a model.

    Arguments:
        frame: What `backtest` or `score_table` returned.

    Returns:
        The lines of the table.
    """
    overall = frame[(frame["channel"] == "all") & (frame["lead_block"] == "all")]
    values = overall.pivot(index="model", columns="metric", values="value").loc[overall["model"].unique()]
    header = ["", "MSE", "MAE", "CRPS", "80 % coverage", "80 % width", "PIT-ECE (floor)"]
    lines = [header]
    for model, row in values.iterrows():
        plain = [f"{row[name]:.3f}" for name in ("mse", "mae", "crps", "coverage_80", "width_80")]
        lines.append([str(model), *plain, f"{row['pit_ece']:.3f} ({row['pit_ece_floor']:.3f})"])
    wide = [max(len(line[column]) for line in lines) for column in range(len(header))]
    return "\n".join(
        "  ".join([line[0].ljust(wide[0]), *(c.rjust(w) for c, w in zip(line[1:], wide[1:], strict=True))])
        for line in lines
    )
