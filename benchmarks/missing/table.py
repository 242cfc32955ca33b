r"""Writes the tables of docs/data.md from `scores.csv` and `cold.csv`, between marks: no figure is typed by hand.

python -m benchmarks.missing.table
"""

from pathlib import Path

import pandas as pd

from benchmarks import pages

SCORES, COLD = (Path(__file__).parent / name for name in ("scores.csv", "cold.csv"))


def cells(scores: pd.DataFrame) -> str:
    lines = [
        "| data | windows | CRPS, all seen | 20 % missing | rise, %, and its interval | 80 % coverage, all seen | "
        "20 % missing |",
        "|---" * 7 + "|",
    ]
    for row in scores.query("kind == 'cells'").itertuples():
        lines.append(
            f"| {row.set} | {row.windows:.0f} | {row.crps_observed:.4f} | {row.crps_missing:.4f} | "
            f"{row.change_percent:+.1f} ({row.low:+.1f} to {row.high:+.1f}) | {row.coverage_observed:.3f} | "
            f"{row.coverage_missing:.3f} |"
        )
    return "\n".join([*lines, "", told(scores)])


def channel(scores: pd.DataFrame) -> str:
    lines = [
        "| data | CRPS, seen | missing | train mean and spread | change, %, and its interval | 80 % width, "
        "seen | missing | coverage, seen | missing | channels worse than that mean |",
        "|---" * 10 + "|",
    ]
    for row in scores.query("kind == 'channel'").itertuples():
        lines.append(
            f"| {row.set} | {row.crps_observed:.4f} | {row.crps_missing:.4f} | {row.crps_climate:.4f} | "
            f"{row.change_percent:+.1f} ({row.low:+.1f} to {row.high:+.1f}) | {row.width_observed:.3f} | "
            f"{row.width_missing:.3f} | {row.coverage_observed:.3f} | {row.coverage_missing:.3f} | "
            f"{row.worse_than_climate:.0f} of {row.channels:.0f} |"
        )
    return "\n".join([*lines, "", told(scores)])


def cold(scores: pd.DataFrame) -> str:
    lines = [
        "| data | rows | CRPS, frozen model | adapter | 80 % coverage, frozen model | adapter | 80 % width, "
        "frozen model | adapter |",
        "|---" * 8 + "|",
    ]
    for row in scores.itertuples():
        lines.append(
            f"| {row.set} | {row.rows} | {row.crps_frozen:.4f} | {row.crps_ours:.4f} | {row.coverage_frozen:.3f} | "
            f"{row.coverage_ours:.3f} | {row.width_frozen:.3f} | {row.width_ours:.3f} |"
        )
    return "\n".join([*lines, "", told(scores)])


def told(scores: pd.DataFrame) -> str:
    model, seed, torch, commits = (pages.each(scores[x]) for x in ("foundation_model", "seed", "torch", "commit"))
    return f"{model}; seed {seed}; torch {torch}; commit {commits}."


def main() -> None:
    scores = pd.read_csv(SCORES)
    tables = {"cells": cells(scores), "channel": channel(scores), "cold": cold(pd.read_csv(COLD))}
    pages.write("docs/data.md", __file__, tables)


if __name__ == "__main__":
    main()
