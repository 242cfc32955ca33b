r"""Writes the table of docs/gluonts.md from `scores.csv`, between its two marks: no figure is typed by hand.

python -m benchmarks.gluonts.table
"""

from pathlib import Path

import pandas as pd

from benchmarks import pages

HERE = Path(__file__).parent
COLUMNS = {
    "mean_wql": "mean wQL", "crps_sum": "CRPS-sum", "mase": "MASE", "coverage_80": "80 % coverage",
    "train_s": "train s", "predict_s": "predict s",
}  # fmt: skip
DIGITS = {"mean_wql": 4, "crps_sum": 4, "train_s": 1, "predict_s": 1}
LOWER_IS_BETTER = ("mean_wql", "crps_sum", "mase")


def table(scores: pd.DataFrame) -> str:
    lines = ["| data | model | " + " | ".join(COLUMNS.values()) + " |", "|---" * (len(COLUMNS) + 2) + "|"]
    for data, rows in scores.groupby("data", sort=False):
        values = rows.pivot(index="model", columns="metric", values="value")
        for model in rows["model"].unique():
            cells = []
            for metric in COLUMNS:
                digits = DIGITS.get(metric, 3)
                cell = f"{values.loc[model, metric]:.{digits}f}"
                best = metric in LOWER_IS_BETTER and cell == f"{values[metric].min():.{digits}f}"
                cells.append(f"**{cell}**" if best else cell)
            lines.append(f"| {data} | {model} | " + " | ".join(cells) + " |")
    runs = ", ".join(
        f"{data} {rows['windows'].iloc[0]} windows every {rows['stride'].iloc[0]} rows"
        for data, rows in scores.groupby("data", sort=False)
    )
    sizes = "; ".join(
        f"H = {horizon}, {epochs} epochs of {batches} batches, {threads} thread{'s' if threads > 1 else ''}, gluonts "
        f"{version}"
        for horizon, epochs, batches, threads, version in scores[
            ["prediction_length", "epochs", "batches", "threads", "gluonts"]
        ].drop_duplicates().itertuples(index=False)
    )  # fmt: skip
    commits = "; ".join(
        f"{', '.join(rows['model'].unique())} on {', '.join(rows['data'].unique())} at commit {commit}"
        for commit, rows in scores.groupby("commit", sort=False)
    )
    return "\n".join([*lines, "", f"{runs}; {sizes}; {commits}."])


def main() -> None:
    pages.write("docs/gluonts.md", __file__, {"scores": table(pd.read_csv(HERE / "scores.csv"))})


if __name__ == "__main__":
    main()
