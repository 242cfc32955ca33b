r"""Writes the table of docs/covariates.md from `scores.csv`, between marks: no figure is typed by hand.

python -m benchmarks.covariates.table
"""

from pathlib import Path

import pandas as pd

from benchmarks import pages

HERE = Path(__file__).parent


def table(scores: pd.DataFrame) -> str:
    lines = [
        "| data, covariate | channel | windows | CRPS without | with | change, %, and its interval | decision |",
        "|---" * 7 + "|",
    ]
    for row in scores.itertuples():
        change = "0" if row.difference == 0 else f"{row.change_percent:+.1f}"
        if row.difference != 0:
            low, high = (100 * end / row.crps_without for end in (row.low, row.high))
            change += f" ({low:+.1f} to {high:+.1f})"
        decision = row.stage.rpartition(": ")[2].partition(";")[0]
        lines.append(
            f"| {row.set} | {row.channel} | {row.windows} | {row.crps_without:.4f} | {row.crps_with:.4f} | {change} | "
            f"{decision} |"
        )
    model, torch, commits = (pages.each(scores[name]) for name in ("foundation_model", "torch", "commit"))
    return "\n".join([*lines, "", f"{model}; torch {torch}; commit {commits}."])


def main() -> None:
    pages.write("docs/covariates.md", __file__, {"scores": table(pd.read_csv(HERE / "scores.csv"))})


if __name__ == "__main__":
    main()
