r"""Checks of what the methods of `Adapter` are given."""

from __future__ import annotations

__all__ = ["check_borders", "require_samples", "support_of"]

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from . import checks
from .data.panel import Panel
from .errors import shown, unknown
from .options import check_options

#: The maximum size of the samples of one forecast, in bytes.
MOST_BYTES = 2**31


def check_borders(borders: Any, panel: Panel) -> None:
    r"""Check the borders of `fit(borders=)`.

    Arguments:
        borders: The rows where train and validation rows end.
        panel: The panel.

    Raises:
        ValueError: If they are not two numbers of rows in order.
    """
    clocks = [item.clock() if panel.frequency is not None else np.arange(len(item)) for item in panel.items]
    rows = len(np.unique(np.concatenate(clocks)))
    pair = checks.pair(borders)
    if pair is None or None in map(checks.whole, pair) or not 0 < pair[0] <= pair[1] <= rows:
        raise ValueError(
            "expected borders=(train end, validation end), two numbers of rows with 0 < train end <= validation end "
            f"<= {rows}, got {shown(borders)}"
        )


def require_samples(num_samples: object, horizon: int, channels: int) -> None:
    r"""Check a number of samples, which must fit into memory.

    Arguments:
        num_samples: The requested number.
        horizon: The number of steps of a forecast.
        channels: The number of its channels.

    Raises:
        ValueError: If it is not a positive integer, or too large.
    """
    most = max(1, MOST_BYTES // (8 * horizon * channels))
    hint = f"pass at most {most}, which take {MOST_BYTES / 2**30:.0f} GiB for {horizon} steps of {channels} channels"
    checks.integer("predict expects num_samples", num_samples, most=most, hint=hint)


def support_of(
    support: tuple[float, float] | Mapping[str, tuple[float, float]] | None,
    card: Mapping[str, tuple[float, float]],
    channels: Sequence[str],
) -> tuple[np.ndarray, np.ndarray]:
    r"""Return the lowest and the highest possible value of each channel.

    Arguments:
        support: The option of the caller, which overrides the data card.
        card: The bounds that the data card states.
        channels: The channels.

    Returns:
        The bounds, both with shape :math:`(D,)`; infinite where nothing is stated.

    Raises:
        ValueError: If a channel is unknown, or a bound is invalid.
    """
    if support is None:
        support = {}
    elif not isinstance(support, Mapping):
        support = dict.fromkeys(channels, support)
    for name in support:
        if name not in channels:
            raise ValueError(unknown("channel of support", name, channels))
    bounds = {**dict.fromkeys(channels, (-math.inf, math.inf)), **card, **support}
    check_options({"support": bounds})
    low, high = np.array([bounds[name] for name in channels], dtype=float).T
    return low, high
