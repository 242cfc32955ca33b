r"""Writes the tables of docs/families.md from `scores.csv` and `speed.csv`, between marks: no figure is typed by hand.

python -m benchmarks.families.table
"""

from pathlib import Path

import pandas as pd

from benchmarks import pages
from benchmarks.families.run import BASE, SETS

HERE = Path(__file__).parent


def table(scores: pd.DataFrame) -> str:
    r"""CRPS over that of `identity`, coverage, and seconds of a fit; the best family of a set in bold."""
    wide = scores[scores["metric"].isin(["crps", "coverage_80"])].pivot(
        index="model", columns=["metric", "data"], values="value"
    )
    seconds = scores.groupby(["model", "data"])["fit_seconds"].first()
    ratios = wide["crps"] / wide["crps"].loc[BASE]
    sets = [name for name in SETS if name in ratios]
    lines = [f"| family | {' | '.join(sets)} |", "|---" * (1 + len(sets)) + "|"]
    for family in sorted(ratios.index, key=lambda name: (name != BASE, name)):
        cells = []
        for data in sets:
            ratio = ratios.loc[family, data]
            if pd.isna(ratio):
                cells.append("")
                continue
            text = f"{ratio:.3f}"
            text = f"**{text}**" if text == f"{ratios[data].min():.3f}" and ratio < 1 else text
            cells.append(f"{text} / {wide.loc[family, ('coverage_80', data)]:.2f} / {seconds[family, data]:.0f} s")
        lines.append(f"| `{family}` | {' | '.join(cells)} |")
    runs = ", ".join(
        f"{data}: H = {rows.prediction_length.iloc[0]}, {rows.windows.iloc[0]} windows every {rows.stride.iloc[0]} rows"
        for data, rows in scores.groupby("data", sort=False)
    )
    lines += [
        "",
        f"{runs}. Fits by gradients through the frozen model have a time limit of {scores.time_limit.max():.0f} s. "
        "One seed. "
        f"{pages.each(scores.foundation_model)}. Commit {pages.each(scores.commit)}.",
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
