r"""Writes the tables of docs/families.md from `scores.csv` and `speed.csv`, between marks: no figure is typed by hand.

python -m benchmarks.families.table
"""

from pathlib import Path

import pandas as pd

from benchmarks import pages

HERE = Path(__file__).parent


def spread(values: pd.Series) -> str:
    r"""The mean over seeds, and how far apart they lie where they do."""
    text = f"{values.mean():.3f}"
    return text if values.max() - values.min() < 0.0005 else f"{text} ± {(values.max() - values.min()) / 2:.3f}"


def table(scores: pd.DataFrame) -> str:
    head = "| data | family | MSE | CRPS | CRPS v. frozen | PIT-ECE (floor) | fit, s of a processor |"
    lines = [head, "|---" * 7 + "|"]
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
        f"± half the range over seeds; {pages.each(scores.foundation_model)}; commit {pages.each(scores.commit)}.",
    ]
    return "\n".join(lines)


def speed(figures: pd.DataFrame) -> str:
    times = figures[figures["unit"] == "s"]
    wide = times.pivot_table(index="family", columns=["what", "model", "prediction_length"], values="ratio")
    columns = [
        (what, model, horizon)
        for what in ("training step", "closed form", "prediction")
        for model in times["model"].unique()
        for horizon in sorted(times["prediction_length"].unique())
    ]
    heads = [f"{what}, {model}, H = {horizon}" for what, model, horizon in columns]
    lines = [f"| family | {' | '.join(heads)} |", "|---" * (1 + len(columns)) + "|"]
    for family, row in wide.iterrows():
        cells = ["" if pd.isna(ratio := row.get(column, float("nan"))) else f"{ratio:.2f}" for column in columns]
        lines.append(f"| {family} | {' | '.join(cells)} |")
    memory = figures[figures["what"] == "peak memory"]
    taken = ", ".join(f"{row.value:.0f} MB for {row.num_samples:,.0f}" for row in memory.itertuples())
    commits = ", ".join(figures["commit"].unique())
    lines += [
        "",
        f"{figures.iloc[0].threads} threads; commit {commits}. Peak memory beyond the joint paths of 32 windows "
        f"themselves: {taken}.",
    ]
    return "\n".join(lines)


def main() -> None:
    scores, figures = (pd.read_csv(HERE / name) for name in ("scores.csv", "speed.csv"))
    pages.write("docs/families.md", __file__, {"families": table(scores), "speed": speed(figures)})


if __name__ == "__main__":
    main()
