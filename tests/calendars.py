r"""When the windows of made-up series begin."""

from __future__ import annotations

import numpy as np

from adapts.data.panel import Panel
from adapts.data.times import Times


def times(rows, item=None):
    r"""The times of windows that begin at rows of one long undated series, or of several of one length."""
    rows = np.asarray(rows)
    item = np.zeros(len(rows), dtype=int) if item is None else np.asarray(item)
    panel = Panel.of(np.zeros((int(item.max(initial=0)) + 1, int(rows.max(initial=0)) + 1, 1)))
    return Times(panel, item, rows)
