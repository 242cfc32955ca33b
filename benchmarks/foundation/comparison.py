r"""One family around several foundation models by the protocol of `benchmarks.coupled.run`, for a table of the docs."""

from __future__ import annotations

__all__ = ["compare"]

import argparse
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from benchmarks import pages
from benchmarks.coupled.run import resumed, score

SEED = 0


def compare(
    script: str, family: str, models: Mapping[str, Any], sets: Sequence[str], windows: int,
    table: Callable[[pd.DataFrame], list[str]],
) -> None:  # fmt: skip
    r"""Scores a family around each model, unless told `--readme`, and writes the table of docs/foundation_models.md.

    Arguments:
        script: The `__file__` of the benchmark. Its name is that of the CSV file beside it and of the table.
        family: The family.
        models: The option `foundation_model` of each model, by its name in the table.
        sets: The names of settings of `benchmarks.coupled.run`.
        windows: The most train windows.
        table: What makes the lines of the table out of the scores.
    """
    parser = argparse.ArgumentParser(description=f"`{family}` around {', '.join(models)}.")
    parser.add_argument("--readme", action="store_true", help="write the table of docs/foundation_models.md alone")
    output = Path(script).with_suffix(".csv")

    def scored(data: str, model: str, foundation: str) -> pd.DataFrame:
        options = {"foundation_model": models[foundation], "max_windows": windows}
        return score(data, model, SEED, baselines=False, **options).assign(foundation=foundation)

    if not parser.parse_args().readme:
        jobs = [{"data": data, "model": family, "foundation": name} for data in sets for name in models]
        resumed(output, jobs, scored)
    scores = pd.read_csv(output)
    about = f"At most {windows} windows a split; seed {SEED}; commit {pages.each(scores['commit'])}."
    pages.write("docs/foundation_models.md", script, {output.stem: "\n".join([*table(scores), "", about])})
