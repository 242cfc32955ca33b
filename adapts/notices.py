r"""Notices to the user of a fit: collected once, then shown in warnings, summaries, the command line and plots."""

from __future__ import annotations

__all__ = ["FitWarning", "Notice", "collect", "say"]

import logging
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ._logging import get_logger, warn
from .data.marks import frequent
from .errors import few, shown

if TYPE_CHECKING:
    from .data.marks import Mark
    from .data.panel import Panel
    from .data.windows import Windows

logger = get_logger(__name__)

#: The kinds of notices on what the user asked for, which are no warnings.
ASKED = ("context", "splits", "zero-shot")
#: The minimum fraction of zeros among a channel's values for zero to be a possible bound.
OFTEN = 0.1
#: How a notice on a skipped gate begins.
UNUSED = "the adapter is trained but not used, as the gate stays closed (gate=False uses it): "
#: The tolerance beyond a bound of the support, in scales of the channel, for rounding errors.
ROUNDING = 1e-9


class FitWarning(UserWarning):
    r"""Warning to the user of a fit: see `Notice`."""


@dataclass(frozen=True)
class Notice:
    r"""Notice to the user of a fit.

    Arguments:
        kind: "marks" (values that count as missing, or may have to), "support" (history outside of the support),
            "bound" (zero may be a bound, but no support is given), "stages" (skipped, as rows are too few), "splits"
            (stages skipped, as the option `splits` gives their split no rows), "items" (without values), "calibration"
            (based on the rows of one item of several), "context" (longer than the frozen model reads), "time" (members
            left out for a time limit), "zero-shot" (forecast without a fit).
        about: The channels, stages or items concerned.
        said: The message in a sentence, and what can be done.
    """

    kind: str
    about: tuple[str, ...]
    said: str


def say(notices: Iterable[Notice], whose: str = "") -> None:
    r"""Issue warnings for notices, at the line of the user's program; none at verbosity "error".

    Notices of the kinds `ASKED` are no warnings.

    Arguments:
        notices: The notices.
        whose: The prefix of the messages, which names the owner.
    """
    if logger.isEnabledFor(logging.WARNING):
        for notice in (each for each in notices if each.kind not in ASKED):
            warn(whose + notice.said, FitWarning)


def collect(
    panel: Panel,
    marks: Sequence[Mark],
    support: tuple[np.ndarray, np.ndarray],
    scale: np.ndarray,
    left_out: Mapping[str, str],
    declined: Mapping[str, str],
    windows: Mapping[str, Windows],
    context_lengths: tuple[int, int],
    *,
    only_frozen: bool,
    fewer: str = "",
    late: str = "",
) -> tuple[Notice, ...]:
    r"""Collect all notices of a fit; no other code decides on them.

    Arguments:
        panel: The panel of the fit, without marks.
        marks: The marks in the panel: numbers that stand for missing values.
        support: The minimum and maximum possible value of each target.
        scale: The scale of each target.
        left_out: The reasons for stages skipped for too few rows, by stage.
        declined: The splits that the option `splits` gives no rows, by skipped stage.
        windows: The windows of each split.
        context_lengths: The number of context steps, and the most that the frozen model reads.
        only_frozen: Whether the forecast is that of the frozen model alone, without the adapter.
        fewer: The option that limits the number of windows below what the rows allow; empty if none.
        late: What the time limit left out of a portfolio, so that its weights are others; empty if nothing.

    Returns:
        The notices.
    """
    values = panel.select(panel.targets).concatenated[0]
    found = [
        *_of_marks(panel, marks),
        *_of_frequent(panel),
        *_of_support(panel.targets, values, support, scale),
        *_of_bounds(panel.targets, values, support),
        *_of_items(panel),
        *_of_stages(left_out, fewer, only_frozen=only_frozen),
        *_of_splits(declined),
        *_of_calibration(panel, windows),
        *_of_context(*context_lengths),
        *([Notice("time", (), late)] if late else []),
    ]
    return tuple(found)


def _of_marks(panel: Panel, marks: Sequence[Mark]) -> list[Notice]:
    notices = []
    for name in dict.fromkeys(mark.channel for mark in marks):
        found = [mark for mark in marks if mark.channel == name]
        values = ", ".join(f"{value:g}" for value in dict.fromkeys(mark.value for mark in found))
        first = [
            f"{mark.row}" if len(panel) == 1 else f"{mark.row} of item {shown(panel.items[mark.item].item_id)}"
            for mark in found[:5]
        ]
        rows = f"row{'s' * (len(found) > 1)} {', '.join(first)}" + f" and {len(found) - 5} more" * (len(found) > 5)
        message = (
            f"column {shown(name)} holds {values} in {rows}, far beyond all other values, which would dominate its "
            "standard deviation: they count as missing. Write NaN there if that is what they mean"
        )
        notices.append(Notice("marks", (name,), message))
    return notices


def _of_frequent(panel: Panel) -> list[Notice]:
    return [
        Notice(
            "marks",
            (name,),
            f"column {shown(name)} holds {value:g} in {count} rows, far beyond all other values. Write NaN there if "
            "nothing was measured: as numbers they make up most of its variance",
        )
        for name, (value, count) in frequent(panel).items()
    ]


def _of_support(
    names: Sequence[str], values: np.ndarray, support: tuple[np.ndarray, np.ndarray], scale: np.ndarray
) -> list[Notice]:
    notices = []
    for number, name in enumerate(names):
        x, rounding = values[:, number], ROUNDING * scale[number]
        texts = []
        for bound, side, outside in (
            (support[0][number], "begins", x < support[0][number] - rounding),
            (support[1][number], "ends", x > support[1][number] + rounding),
        ):
            if outside.any():
                where = "below" if side == "begins" else "above"
                first = f"{x[outside.argmax()]:g}"
                texts.append(
                    f"{side} at {bound:g}, and {outside.sum()} of its {(~np.isnan(x)).sum()} values lie {where} "
                    f"(the first is {first})"
                )
        if texts:
            low, high = np.nanmin(x), np.nanmax(x)
            message = (
                f"the support of {shown(name)} {' and '.join(texts)}: no forecast will lie there. Its values go from "
                f"{low:g} to {high:g}: is the support in other units?"
            )
            notices.append(Notice("support", (name,), message))
    return notices


def _of_bounds(names: Sequence[str], values: np.ndarray, support: tuple[np.ndarray, np.ndarray]) -> list[Notice]:
    r"""Return a notice on channels that are often zero and never cross it, without a support that says so."""
    pairs: dict[str, tuple[float, float]] = {}
    texts = []
    for number, name in enumerate(names):
        x = values[:, number][~np.isnan(values[:, number])]
        low, high = (float(side[number]) for side in support)
        zero_fraction = float((x == 0).mean()) if len(x) else 0.0
        if zero_fraction < OFTEN or zero_fraction == 1:
            continue
        if x.min() == 0 and low == -math.inf:
            pairs[name] = (0.0, high)
            texts.append(f"{shown(name)} is never below 0 and is 0 in {zero_fraction:.0%} of its values")
        elif x.max() == 0 and high == math.inf:
            pairs[name] = (low, 0.0)
            texts.append(f"{shown(name)} is never above 0 and is 0 in {zero_fraction:.0%} of its values")
    if not texts:
        return []
    limit = 8
    summary = ", ".join(texts[:limit]) + f" and {len(texts) - limit} more channels likewise" * (len(texts) > limit)
    if len(pairs) == len(names) and len(set(pairs.values())) == 1:
        remedy = f"support={_pair(next(iter(pairs.values())))}"
    else:
        entries = [f"{name!r}: {_pair(pair)}" for name, pair in list(pairs.items())[:limit]]
        remedy = f"support={{{', '.join(entries)}{', ...' * (len(pairs) > limit)}}}"
    message = f"{summary}, and without a support forecasts may cross 0: pass {remedy} if 0 is a bound"
    return [Notice("bound", tuple(pairs), message)]


def _pair(pair: tuple[float, float]) -> str:
    r"""Format a support as code that can be copied."""
    low, high = (f"{bound:g}" if math.isfinite(bound) else f"float('{bound}')" for bound in pair)
    return f"({low}, {high})"


def _of_items(panel: Panel) -> list[Notice]:
    targets = panel.select(panel.targets)
    empty = tuple(item.item_id for item in targets.items if np.isnan(item.values).all())
    if not empty:
        return []
    message = (
        f"{len(empty)} of {len(panel)} items have no value in any target channel ({few(empty)}): their "
        "forecasts are based on all other items. Leave them out, or add their values"
    )
    return [Notice("items", empty, message)]


def _of_stages(left_out: Mapping[str, str], fewer: str, *, only_frozen: bool) -> list[Notice]:
    if not left_out:
        return []
    reasons: dict[str, list[str]] = {}
    for name, why in left_out.items():
        reasons.setdefault(why, []).append(name)
    whose = "those of the frozen model" if only_frozen else "the adapter makes them"
    widths = f"; the intervals are not calibrated, and as wide as {whose}"
    message = (
        f"{UNUSED * ('gate' in left_out)}{'windows' if fewer else 'rows'} are too few for the stages "
        + "; ".join(f"{', '.join(names)} ({why})" for why, names in reasons.items())
        + widths * {"calibration", "recalibration"}.issubset(left_out)
        + (f", as {fewer} allows no more: raise it" if fewer else ". Fit more rows or a shorter prediction_length")
    )
    return [Notice("stages", tuple(left_out), message)]


def _of_splits(declined: Mapping[str, str]) -> list[Notice]:
    if not declined:
        return []
    stages: dict[str, list[str]] = {}
    for name, split in declined.items():
        stages.setdefault(split, []).append(name)
    listed = " and ".join(f"the {split} split ({', '.join(names)})" for split, names in stages.items())
    message = f"{UNUSED * ('gate' in declined)}splits gives no rows to {listed}: these stages are left out"
    return [Notice("splits", tuple(declined), message)]


def _of_calibration(panel: Panel, windows: Mapping[str, Windows]) -> list[Notice]:
    r"""Return a notice if intervals of several items are calibrated on the rows of one."""
    calibration_items = [
        windows[part].item for part in ("calibration", "confirmation") if part in windows and len(windows[part])
    ]
    unique_items = np.unique(np.concatenate(calibration_items)) if calibration_items else np.empty(0, dtype=int)
    if len(panel) == 1 or len(unique_items) != 1:
        return []
    name = panel.items[int(unique_items[0])].item_id
    message = (
        f"the intervals are calibrated on item {shown(name)} only, because the other {len(panel) - 1} items end "
        "earlier: the coverage of their intervals is unknown. Fit items that end at about the same date together, or "
        "fit these separately"
    )
    return [Notice("calibration", (name,), message)]


def _of_context(asked: int, read: int) -> list[Notice]:
    if asked <= read:
        return []
    return [Notice("context", (), f"the frozen model reads the last {read} of the {asked} context steps")]
