r"""Items that have just begun: what the adapter says of a few rows, beside the frozen model alone.

    python -m benchmarks.missing.cold [--set etth1 ...]

The default adapter is fitted on the rows before the test rows. About 100 items are cut out of these, evenly strided,
each with a few rows before its origin; the frozen model alone sees the same rows. CRPS is twice the mean pinball loss
at 99 levels, in train standard deviations. One CSV row a set and number of rows.
"""

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from adapts import Adapter
from adapts.data.cards import read
from adapts.data.item import Item
from adapts.data.windows import Windows
from benchmarks.missing.run import LEVELS, ORIGINS, PREDICTION_LENGTH, SEED, Score, run
from benchmarks.provenance import named, provenance

HERE = Path(__file__).parent
SETS = ("etth1", "exchange_rate", "greensboro", "weather")
ROWS = (1, 2, 3, 6, 12, 24, 48, 96)


def measure(name: str) -> list[dict[str, object]]:
    dataset = read(name)
    first, end = dataset.borders[1], dataset.end or dataset.panel.lengths[0]
    panel = dataset.panel.rows([end])
    adapter = Adapter("residual", prediction_length=PREDICTION_LENGTH, seed=SEED).fit(
        replace(dataset, panel=panel, end=None)
    )
    stride = max(1, (end - first - PREDICTION_LENGTH) // ORIGINS)
    origins, (whole,) = np.arange(first, end - PREDICTION_LENGTH, stride), panel.items
    scale, found = torch.from_numpy(adapter.scale_), []
    for rows in ROWS:
        cut = [slice(origin - rows, origin + PREDICTION_LENGTH) for origin in origins]
        items = tuple(Item(str(part.start), whole.values[part], whole.index[part]) for part in cut)
        windows = Windows(
            replace(panel, items=items), np.arange(len(items)), np.full(len(items), rows), adapter.context_length_,
            PREDICTION_LENGTH,
        )  # fmt: skip
        truth = windows.future(torch.float64)
        ours, alone = (
            Score.of(law(windows).marginals.at(LEVELS.double()), truth, scale)
            for law in (adapter.joint_distribution, adapter.zero_shot_distribution)
        )
        found.append({"set": name, "rows": rows, **ours.means("ours"), **alone.means("frozen"), "items": len(items),
                      "foundation_model": named(adapter.model), **provenance(panel, SEED)})  # fmt: skip
    return found


if __name__ == "__main__":
    run(measure, SETS, HERE / "cold.csv", ["set", "rows"], (__doc__ or "").splitlines()[0])
