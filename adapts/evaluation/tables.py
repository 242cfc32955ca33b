r"""Tables of scores: of each window, their means by channel and block of horizon steps, and as text."""

from __future__ import annotations

__all__ = [
    "CELL_SCORES",
    "JOINT_SCORES",
    "REGIMES",
    "WEIGHTS",
    "WINDOW_SCORES",
    "block_slices",
    "cell_mean",
    "cell_weights",
    "format_table",
    "joined",
    "require_names",
    "score_table",
    "scores_of",
    "slices",
    "summarise",
    "varying_columns",
    "window_scores",
    "with_regimes",
]

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from ..data.times import Times, require_times
from ..distribution.joint import JointDistribution
from ..registry import SCORES, resolve
from ..statistics.bootstrap import lead_blocks
from . import scores
from .window_scores import Scored

BATCH = 64  # windows forecast and sampled at a time
_MEAN = "all"  # the channel name of the mean over channels

CELL_SCORES = tuple(name for name, entry in SCORES.items() if not entry.of_windows)
JOINT_SCORES = tuple(name for name, entry in SCORES.items() if entry.of_windows)
#: Scores of cells that need the rows before each window.
REGIMES = ("coverage_80_calm", "coverage_80_volatile")
#: The keys of the weights of scores that are ratios of sums, by score.
WEIGHTS = {name: f"{name}_weight" for name, entry in SCORES.items() if entry.weight is not None}
#: The keys that `window_scores` returns.
WINDOW_SCORES = (*CELL_SCORES, *JOINT_SCORES, *WEIGHTS.values(), "pit")


def window_scores(
    distribution: JointDistribution,
    future: Tensor,
    *,
    location: np.ndarray,
    scale: np.ndarray,
    varies: np.ndarray,
    num_samples: int,
    generator: torch.Generator,
    naive_error: np.ndarray | None = None,
) -> dict[str, Tensor]:
    r"""Return the scores of each window, before any mean is taken.

    Arguments:
        distribution: The joint distribution of :math:`n` windows.
        future: The observed values, with shape :math:`(n, H, D)`. NaN is missing.
        location: The location of each channel, with shape :math:`(D,)`, to standardise for the joint scores.
        scale: The scale of each channel, with shape :math:`(D,)`.
        varies: Whether each channel varies, with shape :math:`(D,)`; the PITs of a constant channel are NaN.
        num_samples: The number of samples :math:`S` for scores that are computed from samples.
        generator: The random generator of the samples and of randomised PITs.
        naive_error: The in-sample error of the seasonal naive for each window, with shape :math:`(n, D)`; unknown if
            None.

    Returns:
        The scores by name: those of cells, their weights and the randomised "pit", with shape :math:`(n, H, D)`, and
        the joint scores, with shape :math:`(n,)`.
    """
    locations, scales = torch.from_numpy(np.asarray(location, float)), torch.from_numpy(np.asarray(scale, float))
    is_varying = torch.from_numpy(np.asarray(varies, bool))
    pit = distribution.marginals.pit(future, generator).where(is_varying, torch.nan)  # of a constant: rounding noise
    # Independent samples, for fair scores.
    samples = distribution.sample(num_samples, generator, stratified=False)  # (S, n, H, D)
    errors = None if naive_error is None else torch.from_numpy(np.asarray(naive_error, float))
    return scores_of(Scored(distribution, future, pit, samples, locations, scales, errors))


def scores_of(scored: Scored) -> dict[str, Tensor]:
    r"""Return the scores of forecasts, in units of the channels' scales, with weights and PITs.

    Arguments:
        scored: The forecasts, with the observed values.

    Returns:
        As `window_scores`.
    """
    values = {name: resolve(entry.compute)(scored) for name, entry in SCORES.items()}
    for name, entry in SCORES.items():
        if entry.power:
            values[name] = values[name] / scored.scale**entry.power
        if entry.weight is not None:
            values[WEIGHTS[name]] = resolve(entry.weight)(scored)
    return {**values, "pit": scored.pit}


def cell_weights(windows: Mapping[str, Tensor], name: str) -> Tensor:
    r"""Return the weights of the cells of a score.

    Arguments:
        windows: The scores of `window_scores`.
        name: A score of cells.

    Returns:
        The weights, with shape :math:`(n, H, D)`; zero where the score is missing.
    """
    missing = windows[name].isnan()
    if name not in WEIGHTS:
        return (~missing).double()
    return windows[WEIGHTS[name]].double().masked_fill(missing, 0.0)


def cell_mean(windows: Mapping[str, Tensor], name: str, dim: int | tuple[int, ...] = (0, 1)) -> Tensor:
    r"""Return the mean of a score of cells, or its ratio of sums if it has weights.

    Arguments:
        windows: The scores of `window_scores`.
        name: A score of cells.
        dim: The axes to sum over.

    Returns:
        The means, without these axes; NaN where the weights sum to zero.
    """
    if name not in WEIGHTS:
        return windows[name].nanmean(dim)
    weight = cell_weights(windows, name).sum(dim)
    return (windows[name].nansum(dim) / weight).masked_fill(weight == 0, math.nan)


def with_regimes(windows: Mapping[str, Tensor], past: Tensor) -> dict[str, Tensor]:
    r"""Add the coverage in calm and in volatile regimes (see `scores.by_regime`).

    Arguments:
        windows: The scores of `window_scores`, for all windows.
        past: The rows before each window, with shape :math:`(n, L, D)`; the last :math:`H` steps among them determine
            the regime. NaN is missing.

    Returns:
        The scores with "coverage_80_calm" and "coverage_80_volatile", each with shape :math:`(n, H, D)`.
    """
    inside = windows["coverage_80"]
    by_regime = scores.by_regime(inside, scores.recent_volatility(past, inside.shape[1]))
    return {**windows, **dict(zip(REGIMES, by_regime, strict=True))}


def summarise(model: str, windows: Mapping[str, Tensor], time: Times | None, channels: Sequence[str]) -> pd.DataFrame:
    r"""Return the means of window scores by channel and block of horizon steps.

    Arguments:
        model: The name of the model.
        windows: The scores of `window_scores`, for all windows.
        time: The origin times of the windows (`Windows.time`); if None, as for a single window, the floors of the
            calibration errors are left out.
        channels: The names of the channels.

    Returns:
        The tidy frame of one model: model, channel, lead_block, metric, value.
    """
    rows: list[tuple[str, str, str, str, float]] = []
    horizon = windows["pit"].shape[1]
    for block, leads in block_slices(horizon):
        cells = {name: x[:, leads] for name, x in windows.items() if x.ndim == 3}
        values = {name: cell_mean(cells, name) for name in (*CELL_SCORES, *REGIMES) if name in cells}  # (D,) each
        pit = cells["pit"]
        values["pit_ece"], values["pit_ks"] = scores.pit_ece(pit.flatten(0, 1)), scores.pit_ks(pit.flatten(0, 1))
        if time is not None:
            chance = scores.pit_deviations(pit, time, last_lead=leads.stop).abs()  # (R, G, D)
            values["pit_ece_floor"], values["pit_ks_floor"] = chance.mean((0, 1)), chance.amax(1).mean(0)
        for name, value in values.items():
            rows.append((model, _MEAN, block, name, value.nanmean().item()))
            rows.extend((model, c, block, name, v) for c, v in zip(channels, value.tolist(), strict=True))
    rows.extend((model, _MEAN, "all", name, windows[name].nanmean().item()) for name in JOINT_SCORES)
    return pd.DataFrame(rows, columns=["model", "channel", "lead_block", "metric", "value"])


def varying_columns(rows: np.ndarray) -> np.ndarray:
    r"""Return which channels vary by more than rounding errors.

    Arguments:
        rows: The rows, with shape :math:`(T, D)`. NaN is missing.

    Returns:
        Whether each channel varies, with shape :math:`(D,)`.
    """
    low, high = np.fmin.reduce(rows, axis=0), np.fmax.reduce(rows, axis=0)
    constant: np.ndarray = high - low <= 1e-9 * np.maximum(np.abs(low), np.abs(high))  # the scale of a fit is then 1
    return ~constant


def require_names(channels: Sequence[str]) -> None:
    r"""Check that no channel has the name of the mean over channels.

    Arguments:
        channels: The names of the channels.

    Raises:
        ValueError: If one is called "all".
    """
    if _MEAN in channels:
        raise ValueError(
            f"scores name the mean over channels {_MEAN!r}, which is the name of a channel too: give it another name"
        )


def block_slices(horizon: int) -> list[tuple[str, slice]]:
    r"""Return the blocks of horizon steps (lead times) over which scores are averaged.

    Arguments:
        horizon: The number of horizon steps :math:`H`.

    Returns:
        All steps, as "all", and then the blocks, with names such as "1-6", if there is more than one.
    """
    _, sizes = lead_blocks(horizon).unique_consecutive(return_counts=True)
    stops = sizes.cumsum(0).tolist()
    blocks = [(f"{start + 1}-{stop}", slice(start, stop)) for start, stop in zip([0, *stops], stops, strict=False)]
    return [("all", slice(0, horizon)), *(blocks if len(blocks) > 1 else [])]


def score_table(
    distributions: Mapping[str, JointDistribution],
    future: Tensor,
    *,
    channels: Sequence[str],
    scale: np.ndarray,
    time: Times,
    location: np.ndarray | None = None,
    varies: np.ndarray | None = None,
    past: Tensor | None = None,
    naive_error: np.ndarray | None = None,
    num_samples: int = 100,
    seed: int = 0,
) -> pd.DataFrame:
    r"""Score joint distributions on the same windows, with the same code and the same random numbers.

    The metrics of each channel and block of horizon steps are:

    - "mse" of the mean, "mae" of the median, "crps" (fair, from samples), "wql" (twice the mean pinball loss of the
      deciles);
    - "coverage_80" (randomised PITs inside [.1, .9]), "width_80" and "interval_score_80" (of the interval between the
      outer deciles);
    - "mase" (absolute error of the median over the in-sample error of the seasonal naive, `scores.naive_error`) and
      "wape" (sum of absolute errors of the median over the sum of absolute values), neither of which `scale` divides;
    - "pit_ece" and "pit_ks", with "pit_ece_floor" and "pit_ks_floor";
    - "coverage_80_calm" and "coverage_80_volatile", if `past` is given.

    Those of the joint distribution, for channel and lead block "all" only, are:

    - "energy_score" over all cells;
    - "variogram_channels" (of each step, mean over steps) and "variogram_time" (of each channel, mean over channels),
      which are NaN with a single channel or a single step;
    - "crps_sum" (of the sum of the channels, each in units of its scale, mean over steps).

    Arguments:
        distributions: The joint distribution of the :math:`n` windows for each model.
        future: The observed values, with shape :math:`(n, H, D)`, in the units of the distributions. NaN cells are
            skipped.
        channels: The names of the channels.
        scale: The scale of each channel, with shape :math:`(D,)`; scores with units are divided by it ("mse" by its
            square).
        time: The origin times of the windows (`Windows.time`).
        location: The location of each channel, with shape :math:`(D,)`, for the joint scores; the mean of the observed
            values if None.
        varies: Whether each channel varies, with shape :math:`(D,)`, all if None. PITs of a constant channel are the
            rounding noise of a distribution without width. Its calibration scores (coverages, PIT-ECE, PIT-KS and their
            floors) are NaN, and left out of the mean over channels.
        past: The rows before each window, with shape :math:`(n, L, D)`, which determine the regime; unknown if None.
        naive_error: The in-sample error of the seasonal naive for each window's item, with shape :math:`(n, D)`. If
            None, all MASE are NaN. A NaN, as of a constant channel, is left out of the MASE.
        num_samples: The number of samples for scores that are computed from samples.
        seed: The seed of the samples and of randomised PITs.

    Returns:
        The tidy frame: model, channel, lead_block, metric, value. Channel "all" is the mean over channels.

    Raises:
        ValueError: If a channel is called "all".
        TypeError: If `time` is no `Times`.
    """
    require_names(channels)
    require_times(time)
    if location is None:
        location = future.double().nanmean((0, 1)).nan_to_num(0.0).numpy()
    varies = np.ones(len(channels), dtype=bool) if varies is None else varies
    options: dict[str, Any] = {"location": location, "scale": scale, "varies": varies, "num_samples": num_samples}
    frames = []
    for model, distribution in distributions.items():
        generator = torch.Generator().manual_seed(seed)
        batches = [
            window_scores(
                distribution[batch],
                future[batch],
                generator=generator,
                naive_error=None if naive_error is None else naive_error[batch],
                **options,
            )  # fmt: skip
            for batch in slices(len(future))
        ]
        windows = joined(batches) if past is None else with_regimes(joined(batches), past)
        frames.append(summarise(model, windows, time, channels))
    return pd.concat(frames, ignore_index=True)


def slices(length: int) -> Iterator[slice]:
    r"""Split windows into batches, so that only the samples of one batch are in memory.

    Arguments:
        length: The number of windows.

    Returns:
        The batches, in order.
    """
    return (slice(start, start + BATCH) for start in range(0, length, BATCH))


def joined(parts: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
    r"""Concatenate the scores of batches of windows.

    Arguments:
        parts: The scores of `window_scores` for each batch.

    Returns:
        The scores of all windows.
    """
    return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}


def format_table(frame: pd.DataFrame, differences: pd.DataFrame | None = None) -> str:
    r"""Format the scores over all channels and horizon steps as a table of text, one row per model.

    Arguments:
        frame: The scores that `roll` or `score_table` returned.
        differences: The frame of `Backtest.differences`, for one more column: the difference of the CRPS, or of the
            frame's first metric if it lacks the CRPS, with its interval.

    Returns:
        The lines of the table.
    """
    overall = frame[(frame["channel"] == "all") & (frame["lead_block"] == "all")]
    values = overall.pivot(index="model", columns="metric", values="value").loc[overall["model"].unique()]
    header = ["", "MSE", "MAE", "CRPS", "80 % coverage", "80 % width", "PIT-ECE (floor)"]
    versus: dict[str, str] = {}
    if differences is not None and len(differences):
        metrics = list(differences["metric"].unique())
        metric = "crps" if "crps" in metrics else metrics[0]
        header.append(f"{metric.upper() if metric == 'crps' else metric} v. {differences['against'].iloc[0]}")
        chosen = differences[(differences["channel"] == "all") & (differences["metric"] == metric)]
        for model, difference, low, high in chosen[["model", "difference", "low", "high"]].itertuples(index=False):
            interval = "" if math.isnan(low) else f" [{low:+.3f}, {high:+.3f}]"
            versus[model] = f"{difference:+.3f}{interval}"
    lines = [header]
    for model, row in values.iterrows():
        cells = [f"{row[name]:.3f}" for name in ("mse", "mae", "crps", "coverage_80", "width_80")]
        lines.append([str(model), *cells, f"{row['pit_ece']:.3f} ({row['pit_ece_floor']:.3f})"])
        if len(header) > len(lines[-1]):
            lines[-1].append(versus.get(str(model), ""))
    widths = [max(len(line[column]) for line in lines) for column in range(len(header))]
    return "\n".join(
        "  ".join([line[0].ljust(widths[0]), *(c.rjust(w) for c, w in zip(line[1:], widths[1:], strict=True))])
        for line in lines
    )
