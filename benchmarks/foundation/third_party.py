r"""A third party's pretrained model beside bolt-nano: `identity` around each, with weights that a package holds.

    python -m benchmarks.foundation.third_party              # all; goes on where it stood
    python -m benchmarks.foundation.third_party --readme     # writes the table of docs/foundation_models.md alone

The protocol is that of `benchmarks.coupled.run`, with at most 100 windows a split: fracast-0 pads each context to 2,048
steps.
"""

import pandas as pd

from benchmarks.foundation.comparison import compare

SETS = ("greensboro", "illness")
MODELS = {name: name for name in ("bolt-nano", "fracast-0")}
WINDOWS = 100


def table(scores: pd.DataFrame) -> list[str]:
    r"""CRPS, MSE and coverage around each model."""
    metrics = {"crps": "CRPS", "mse": "MSE", "coverage_80": "80 % coverage"}
    values = scores.pivot(index=["data", "foundation"], columns="metric", values="value")
    lines = [f"| data | model | {' | '.join(metrics.values())} |", "|---" * (2 + len(metrics)) + "|"]
    for (data, name), row in values.iterrows():
        lines.append(f"| {data} | {name} | {' | '.join(f'{row[metric]:.3f}' for metric in metrics)} |")
    return lines


if __name__ == "__main__":
    compare(__file__, "identity", MODELS, SETS, WINDOWS, table)
