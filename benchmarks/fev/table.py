r"""Writes the tables of docs/fev.md from `scores.csv` and `leaderboard.csv`, between their marks.

python -m benchmarks.fev.table
"""

from pathlib import Path

import pandas as pd

from benchmarks import pages

HERE = Path(__file__).parent
METRICS = {"fev_sql": "SQL", "fev_mase": "MASE", "fev_wql": "fev's WQL"}


def table(scores: pd.DataFrame) -> str:
    r"""The metrics of each task and model; the best of a task is bold."""
    lines = ["| data | model | " + " | ".join(METRICS.values()) + " |", "|---" * 5 + "|"]
    for task, rows in scores.groupby("task", sort=True):
        values = rows.pivot(index="model", columns="metric", values="value")
        for model in rows["model"].unique():
            cells = []
            for metric in METRICS:
                cell = f"{values.loc[model, metric]:.3f}"
                cells.append(f"**{cell}**" if cell == f"{values[metric].min():.3f}" else cell)
            lines.append(f"| {task} | {model} | " + " | ".join(cells) + " |")
    return "\n".join([*lines, "", about(scores)])


def about(scores: pd.DataFrame) -> str:
    r"""What the figures were computed with."""
    firsts = scores.groupby("task", sort=True).first()
    windows = ", ".join(
        f"{task} {row.num_windows} window{'s' * (row.num_windows > 1)}"
        + f" every {row.window_step_size} rows" * (row.num_windows > 1)
        for task, row in firsts.iterrows()
    )
    limits = scores["time_limit"].dropna().unique()
    limit = f"; at most {', '.join(f'{seconds:g}' for seconds in sorted(limits))} s a fit" if len(limits) else ""
    packages = ", ".join(f"{name} {pages.each(scores[name])}" for name in ("adapts", "fev", "datasets", "torch"))
    threads, commit, seed = (pages.each(scores[name]) for name in ("threads", "commit", "seed"))
    horizon = pages.each(scores["horizon"])
    return f"H = {horizon}; {windows}{limit}; threads: {threads}; seed {seed}; {packages}; commit {commit}."


def leaderboard(frame: pd.DataFrame, tasks: int) -> str:
    r"""Skill scores and win rates in percent, with 95 % intervals of the bootstrap over tasks."""
    lines = ["| metric | model | skill score, % | win rate, % |", "|---" * 4 + "|"]
    for row in frame.itertuples(index=False):
        cells = [
            f"{100 * point:.1f} [{100 * low:.1f}, {100 * high:.1f}]"
            for point, low, high in (
                (row.skill_score, row.skill_score_lower, row.skill_score_upper),
                (row.win_rate, row.win_rate_lower, row.win_rate_upper),
            )
        ]
        lines.append(f"| {METRICS[row.metric]} | {row.model} | {cells[0]} | {cells[1]} |")
    few = " Intervals over so few tasks say little." if tasks < 10 else ""
    return "\n".join([*lines, "", f"{tasks} task{'s' * (tasks > 1)}.{few}"])


def main() -> None:
    scores = pd.read_csv(HERE / "scores.csv")
    board = leaderboard(pd.read_csv(HERE / "leaderboard.csv"), scores["task"].nunique())
    pages.write("docs/fev.md", __file__, {"scores": table(scores), "leaderboard": board})


if __name__ == "__main__":
    main()
