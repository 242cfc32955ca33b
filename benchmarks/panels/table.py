r"""Writes the line of docs/gluonts.md from `scores.csv`, between marks: no figure is typed by hand.

python -m benchmarks.panels.table
"""

from pathlib import Path

import pandas as pd

from benchmarks import pages

SCORES = Path(__file__).parent / "scores.csv"


def line(scores: pd.DataFrame) -> str:
    (row,) = scores.itertuples()
    return (
        f"| items x channels | rows | fit s, clock (processors) | predict s, {row.num_samples} samples each | "
        "peak memory, GB |\n|---|---|---|---|---|\n"
        f"| {row.items} x {row.channels} | {row.rows} | {row.fit_seconds:.0f} ({row.fit_cpu_seconds:.0f}) | "
        f"{row.predict_seconds:.0f} ({row.predict_cpu_seconds:.0f}) | {row.peak_gigabytes:.1f} |\n\n"
        f"{row.foundation_model}; H = {row.prediction_length}; threads: {row.threads}; gluonts {row.gluonts}; torch "
        f"{row.torch}; commit {row.commit}."
    )


def main() -> None:
    pages.write("docs/gluonts.md", __file__, {"panels": line(pd.read_csv(SCORES))})


if __name__ == "__main__":
    main()
