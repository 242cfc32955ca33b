r"""Several foundation models at once: `auto` around bolt-nano, with Theta as a further member, and around Theta alone.

    python -m benchmarks.foundation.several                  # all; goes on where it stood
    python -m benchmarks.foundation.several --readme         # writes the table of docs/foundation_models.md

The protocol is that of `benchmarks.coupled.run`, with at most 200 windows a split, as Theta is fitted to each context.
"""

import argparse
from pathlib import Path
from typing import Any

import pandas as pd

from benchmarks import pages
from benchmarks.coupled.run import resumed, score

HERE = Path(__file__).parent
OUTPUT = HERE / "several.csv"
SETS = ("exchange_rate", "illness")
FIRST, FURTHER = "bolt-nano", "theta"
MODELS: dict[str, Any] = {FIRST: FIRST, f"{FIRST} + {FURTHER}": [FIRST, FURTHER], FURTHER: FURTHER}
WINDOWS, SEED = 200, 0


def scored(data: str, model: str, foundation: str) -> pd.DataFrame:
    r"""The scores of `auto` around one or several foundation models."""
    options = {"foundation_model": MODELS[foundation], "max_windows": WINDOWS}
    return score(data, model, SEED, baselines=False, **options).assign(foundation=foundation)


def table(scores: pd.DataFrame) -> dict[str, str]:
    r"""CRPS of the first model alone, and those of the others relative to it."""
    own = scores[scores["metric"] == "crps"].pivot(index="data", columns="foundation", values="value")
    others = [name for name in MODELS if name != FIRST]
    lines = [f"| data | {FIRST}: CRPS | {' | '.join(others)} |", "|---" * (2 + len(others)) + "|"]
    for name, row in own.iterrows():
        lines.append(
            f"| {name} | {row[FIRST]:.3f} | {' | '.join(f'{row[each] / row[FIRST]:.3f}' for each in others)} |"
        )
    about = f"At most {WINDOWS} windows a split; seed {SEED}; commit {pages.each(scores['commit'])}."
    return {"several": "\n".join([*lines, "", about])}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--readme", action="store_true", help="write the table of docs/foundation_models.md alone")
    options = parser.parse_args()
    if not options.readme:
        jobs = [{"data": data, "model": "auto", "foundation": name} for data in SETS for name in MODELS]
        resumed(OUTPUT, jobs, scored)
    pages.write("docs/foundation_models.md", __file__, table(pd.read_csv(OUTPUT)))


if __name__ == "__main__":
    main()
