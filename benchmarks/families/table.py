r"""Writes the table of docs/families.md from `scores.csv`, between its two marks: no figure is typed by hand.

python -m benchmarks.families.table
"""

from pathlib import Path

import pandas as pd

HERE = Path(__file__).parent
PAGE = HERE.parent.parent / "docs" / "families.md"
BEGIN, END = "<!-- families: made by benchmarks/families/table.py -->", "<!-- /families -->"


def spread(values: pd.Series) -> str:
    r"""The mean over seeds, and how far apart they lie where they do."""
    text = f"{values.mean():.3f}"
    return text if values.max() - values.min() < 0.0005 else f"{text} ± {(values.max() - values.min()) / 2:.3f}"


def table(scores: pd.DataFrame) -> str:
    lines = ["| data | family | MSE | CRPS | CRPS v. frozen | PIT-ECE (floor) | fit, s |", "|---" * 7 + "|"]
    for data, rows in scores.groupby("data", sort=False):
        wide = rows.pivot_table(index=["family", "seed", "model"], columns="metric", values="value")
        frozen = wide.xs("frozen model", level="model")
        first = frozen.iloc[0]
        lines.append(
            f"| {data} | *frozen model* | {first.mse:.3f} | {first.crps:.3f} | | {first.pit_ece:.3f} "
            f"({first.pit_ece_floor:.3f}) | |"
        )
        adapted = wide.xs("adapter", level="model")
        for family in sorted(rows["family"].unique()):
            mine, base = adapted.loc[family], frozen.loc[family]
            change = (100 * (mine["crps"] / base["crps"] - 1)).mean()
            seconds = rows[rows["family"] == family].groupby("seed")["fit_seconds"].first().mean()
            lines.append(
                f"| {data} | {family} | {spread(mine['mse'])} | {spread(mine['crps'])} | {change:+.1f} % | "
                f"{spread(mine['pit_ece'])} ({mine['pit_ece_floor'].mean():.3f}) | {seconds:.0f} |"
            )
    first = scores.iloc[0]
    runs = ", ".join(
        f"{data} {rows.windows.iloc[0]} windows every {rows.stride.iloc[0]} rows, "
        f"{rows.seed.nunique()} seed{'s' * (rows.seed.nunique() > 1)}"
        for data, rows in scores.groupby("data", sort=False)
    )
    lines += [
        "",
        f"H = {first.prediction_length}; {runs}; at most {first.max_windows} train windows and {first.epochs} epochs; "
        f"± half the range over seeds; {first.foundation_model}; commit {first.commit}.",
    ]
    return "\n".join(lines)


def main() -> None:
    scores = pd.read_csv(HERE / "scores.csv")
    text = PAGE.read_text(encoding="utf-8")
    before, rest = text.split(BEGIN)
    after = rest.split(END)[1]
    PAGE.write_text(f"{before}{BEGIN}\n{table(scores)}\n{END}{after}", encoding="utf-8")


if __name__ == "__main__":
    main()
