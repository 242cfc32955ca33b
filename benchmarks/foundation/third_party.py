r"""A third party's pretrained model beside bolt-nano: `identity` around each, with weights that a package holds.

    python -m benchmarks.foundation.third_party              # all; goes on where it stood
    python -m benchmarks.foundation.third_party --readme     # writes the table of docs/foundation_models.md alone

The protocol is that of `benchmarks.coupled.run`, with at most 100 windows a split: fracast-0 pads each context to 2,048
steps.
"""

import argparse
from pathlib import Path

import pandas as pd

from benchmarks import pages
from benchmarks.coupled.run import resumed, score

HERE = Path(__file__).parent
OUTPUT = HERE / "third_party.csv"
SETS = ("greensboro", "illness")
MODELS = ("bolt-nano", "fracast-0")
WINDOWS, SEED = 100, 0


def scored(data: str, model: str, foundation: str) -> pd.DataFrame:
    r"""The scores of `identity` around a foundation model."""
    frame = score(data, model, SEED, baselines=False, foundation_model=foundation, max_windows=WINDOWS)
    return frame.assign(foundation=foundation)


def table(scores: pd.DataFrame) -> dict[str, str]:
    r"""CRPS, MSE and coverage around each model."""
    metrics = {"crps": "CRPS", "mse": "MSE", "coverage_80": "80 % coverage"}
    values = scores.pivot(index=["data", "foundation"], columns="metric", values="value")
    lines = [f"| data | model | {' | '.join(metrics.values())} |", "|---" * (2 + len(metrics)) + "|"]
    for (data, name), row in values.iterrows():
        lines.append(f"| {data} | {name} | {' | '.join(f'{row[metric]:.3f}' for metric in metrics)} |")
    about = f"At most {WINDOWS} windows a split; seed {SEED}; commit {pages.each(scores['commit'])}."
    return {"third_party": "\n".join([*lines, "", about])}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--readme", action="store_true", help="write the table of docs/foundation_models.md alone")
    options = parser.parse_args()
    if not options.readme:
        jobs = [{"data": data, "model": "identity", "foundation": name} for data in SETS for name in MODELS]
        resumed(OUTPUT, jobs, scored)
    pages.write("docs/foundation_models.md", __file__, table(pd.read_csv(OUTPUT)))


if __name__ == "__main__":
    main()
