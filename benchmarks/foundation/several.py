r"""Several foundation models at once: `auto` around bolt-nano, with Theta as a further member, and around Theta alone.

    python -m benchmarks.foundation.several                  # all; goes on where it stood
    python -m benchmarks.foundation.several --readme         # writes the table of docs/foundation_models.md

The protocol is that of `benchmarks.coupled.run`, with at most 200 windows a split, as Theta is fitted to each context.
"""

from typing import Any

import pandas as pd

from benchmarks.foundation.comparison import compare

SETS = ("exchange_rate", "illness")
FIRST, FURTHER = "bolt-nano", "theta"
MODELS: dict[str, Any] = {FIRST: FIRST, f"{FIRST} + {FURTHER}": [FIRST, FURTHER], FURTHER: FURTHER}
WINDOWS = 200


def table(scores: pd.DataFrame) -> list[str]:
    r"""CRPS of the first model alone, and those of the others relative to it."""
    own = scores[scores["metric"] == "crps"].pivot(index="data", columns="foundation", values="value")
    others = [name for name in MODELS if name != FIRST]
    lines = [f"| data | {FIRST}: CRPS | {' | '.join(others)} |", "|---" * (2 + len(others)) + "|"]
    for name, row in own.iterrows():
        lines.append(
            f"| {name} | {row[FIRST]:.3f} | {' | '.join(f'{row[each] / row[FIRST]:.3f}' for each in others)} |"
        )
    return lines


if __name__ == "__main__":
    compare(__file__, "auto", MODELS, SETS, WINDOWS, table)
