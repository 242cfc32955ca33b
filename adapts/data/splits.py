r"""Chronological splits of a panel."""

from __future__ import annotations

__all__ = ["SPLITS", "Split", "split_panel"]

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..fractions import FRACTIONS, SPLITS, read_fractions, require_divisible
from .panel import Panel


@dataclass(frozen=True)
class Split:
    r"""One chronological split of a panel.

    Arguments:
        name: The name of the split.
        ranges: For each item the rows `[start, stop)` that may be targets. Contexts may look back before `start`.
    """

    name: str
    ranges: tuple[tuple[int, int], ...]

    @property
    def num_rows(self) -> int:
        r"""The number of rows that may be targets, over all items."""
        return sum(stop - start for start, stop in self.ranges)


def split_panel(
    panel: Panel,
    *,
    borders: tuple[int, int] | None = None,
    fractions: Sequence[float] = FRACTIONS,
) -> dict[str, Split]:
    r"""Split a panel into train, validation, calibration and selection ("confirmation"), in this order in time.

    The items of a dated panel are split at the same dates. Rows are counted over the dates at which any item has a row;
    an item that ends before a split point, or begins after it, has an empty range on the other side. The items of an
    undated panel share no calendar, and each is split at its own rows.

    Arguments:
        panel: The panel to split.
        borders: The rows where the train and the validation rows end, as a data card states them. The validation rows
            are then divided among the last three splits in proportion to their fractions, and later rows belong to no
            split.
        fractions: The fractions of the four splits, which sum to one; a split of fraction 0 is empty. With borders,
            only the ratios of the last three count: thirds by default.

    Returns:
        The four splits by name.

    Raises:
        ValueError: If the borders are not in order, the fractions do not sum to 1, or there are borders and the last
            three fractions are 0.
    """
    if borders is not None and not 0 < borders[0] <= borders[1]:
        raise ValueError(
            f"expected borders (train end, validation end), 0 < train end <= validation end, got {borders}"
        )
    fractions = read_fractions("expected fractions", fractions)
    require_divisible(fractions, borders)
    later = np.cumsum(fractions[1:])

    def cuts(rows: int) -> list[int]:
        if borders is None:
            return [0, *(round(rows * fraction) for fraction in np.cumsum(fractions))]
        train, stop = (min(border, rows) for border in borders)
        return [0, train, *(train + round((stop - train) * (part / later[-1])) for part in later)]

    if panel.frequency is None:
        item_cuts = [cuts(length) for length in panel.lengths]
    else:
        steps = np.append(panel.steps, panel.steps[-1] + 1)
        at = steps[cuts(len(panel.steps))]
        item_cuts = [
            np.clip(at - begin, 0, length).tolist() for begin, length in zip(panel.begins, panel.lengths, strict=True)
        ]
    return {
        name: Split(name, tuple((cut[number], cut[number + 1]) for cut in item_cuts))
        for number, name in enumerate(SPLITS)
    }
