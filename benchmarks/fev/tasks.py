r"""The data cards as local tasks of fev: a parquet file each, in fev's format, and their definitions.

Files go to `run/fev/tasks`, which git ignores: the data are not ours to publish.
"""

from __future__ import annotations

from itertools import count
from math import gcd
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as parquet

from adapts.data.cards import Dataset, read

FOLDER = Path("run/fev/tasks")  # from the root of the repository, for fev stores the path with each result
LEVELS = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9]


def rows_of(data: Dataset) -> pa.Table:
    r"""One row an item, with a list for the dates and each column; up to the end of the test rows."""
    panel = data.panel if data.end is None else data.panel.rows(data.end)
    columns: dict[str, list[Any]] = {"id": [], "timestamp": [], **{name: [] for name in panel.channels}}
    for item in panel.items:
        assert isinstance(item.index, pd.DatetimeIndex)
        columns["id"].append(f"{data.name}-{item.item_id}")
        columns["timestamp"].append(item.index.tz_localize(None).as_unit("ms").to_numpy())  # fev knows no time zones
        for number, name in enumerate(panel.channels):
            columns[name].append(item.values[:, number])
    return pa.table(columns)


def windows_of(data: Dataset, horizon: int, windows: int) -> tuple[int, int]:
    r"""The number of windows and the rows between them, which spread the windows over the test rows.

    Arguments:
        data: The data set, of one item or of items that end together.
        horizon: The number of steps.
        windows: The most windows.
    """
    assert data.borders is not None
    last = len(data.panel.steps) if data.end is None else data.end
    free = last - data.borders[1] - horizon  # rows between the first and the last possible window
    wanted, season = max(1, free // max(1, windows - 1)), data.season_length or 1
    # Without a common factor with the season, windows begin at every hour of the day. A somewhat shorter stride keeps
    # the number of windows; one that is much shorter would leave out the first of the test rows.
    shorter = next(n for n in range(wanted, 0, -1) if gcd(n, season) == 1)
    stride = shorter if 4 * shorter >= 3 * wanted else next(n for n in count(wanted) if gcd(n, season) == 1)
    return min(windows, free // stride + 1), stride


def task_of(name: str, horizon: int, windows: int, folder: Path = FOLDER) -> dict[str, Any]:
    r"""Write the rows of a card, and return the definition of its task, the options of `fev.Task`."""
    data = read(name)
    path = folder / f"{name}.parquet"
    folder.mkdir(parents=True, exist_ok=True)
    parquet.write_table(rows_of(data), path)
    windows, stride = windows_of(data, horizon, windows)
    return {
        "dataset_path": path.as_posix(), "task_name": name, "horizon": horizon, "num_windows": windows,
        "window_step_size": stride, "initial_cutoff": -horizon - (windows - 1) * stride,
        "seasonality": data.season_length or 1, "eval_metric": "SQL", "extra_metrics": ["MASE", "WQL"],
        "quantile_levels": LEVELS, "target": list(data.panel.targets),
        "known_dynamic_columns": list(data.panel.known_covariates),
    }  # fmt: skip
