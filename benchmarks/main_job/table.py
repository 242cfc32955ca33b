r"""Writes the table of scores of docs/backtests.md from `scores.csv`, between its marks: no figure is typed by hand.

python -m benchmarks.main_job.table
"""

from pathlib import Path

import pandas as pd

from benchmarks import pages

HERE = Path(__file__).parent
COLUMNS = {
    "mse": "MSE", "mae": "MAE", "crps": "CRPS", "coverage_80": "80 % coverage", "width_80": "width",
    "pit_ece": "PIT-ECE", "pit_ece_floor": "its floor",
}  # fmt: skip


def table(scores: pd.DataFrame) -> str:
    lines = ["| data | forecast | " + " | ".join(COLUMNS.values()) + " |", "|---" * (len(COLUMNS) + 2) + "|"]
    for data, rows in scores.groupby("data", sort=False):
        values = rows.pivot(index="model", columns="metric", values="value")
        for model in rows["model"].unique():
            best = {m: f"{values[m].min():.3f}" for m in ("mse", "mae", "crps")}
            cells = []
            for metric in COLUMNS:
                cell = f"{values.loc[model, metric]:.3f}"
                cells.append(f"**{cell}**" if cell == best.get(metric) else cell)
            lines.append(f"| {data} | {model} | " + " | ".join(cells) + " |")
    first = scores.iloc[0]
    runs = ", ".join(
        f"{data} {rows.windows.iloc[0]} windows every {rows.stride.iloc[0]} rows"
        for data, rows in scores.groupby("data", sort=False)
    )
    model, commits = pages.each(scores["foundation_model"]), pages.each(scores["commit"])
    lines += ["", f"H = {first['prediction_length']}; {runs}; {model}; commit {commits}."]
    return "\n".join(lines)


def main() -> None:
    pages.write("docs/backtests.md", __file__, {"scores": table(pd.read_csv(HERE / "scores.csv"))})


if __name__ == "__main__":
    main()
