r"""Writes the tables of docs/reference.md from this folder's CSV file.

    python -m benchmarks.reference.table

No figure is typed by hand.
"""

from pathlib import Path

import numpy as np
import pandas as pd

from benchmarks import pages
from benchmarks.coupled.table import grid, number, spread
from benchmarks.reference.run import FAMILIES, FROZEN, WAYS, to_the_same

HERE = Path(__file__).parent
PAGE = "docs/reference.md"
PUBLIC, PAPER, SHIPPED = WAYS[0], WAYS[2], WAYS[3]
SCORES = ("mse", "crps", "pit_ece", "coverage_80")
COSTS = ("seconds_per_epoch", "seconds_to_best", "fit_seconds", "predict_seconds", "peak_gigabytes")
NAMES = {"linearAE": "LinearAE", "dropoutLinearAE": "dropout LinearAE", "linearVAE": "linear VAE", "VAE": "VAE"}


def values(found: pd.DataFrame, data: str, model: str, metric: str) -> pd.Series:
    r"""A figure of each seed, by seed; none if it was not measured."""
    rows = found[(found["data"] == data) & (found["model"] == model) & (found["metric"] == metric)]
    return rows.set_index("seed")["value"]


def models(found: pd.DataFrame, data: str) -> list[tuple[str, str, str]]:
    r"""The models of a set as they are named in the file, with family and way, in the order of the families."""
    held = set(found.loc[found["data"] == data, "model"])
    each = [(FROZEN, FROZEN, "zero-shot")]
    each += [(f"{family}: {way}", NAMES[family], way) for family in FAMILIES for way in WAYS]
    return [entry for entry in each if entry[0] in held]


def scored(found: pd.DataFrame) -> str:
    r"""The scores of each model by set."""
    rows = []
    for data in found["data"].unique():
        for model, family, way in models(found, data):
            cells = [spread(values(found, data, model, metric)) for metric in SCORES]
            rows.append([data, family, way, *cells])
    return grid(["data", "family", "", "MSE", "CRPS", "PIT-ECE", "80 % coverage"], rows)


def costs(found: pd.DataFrame) -> str:
    r"""Seconds and gigabytes of each model by set, and the lowest validation loss."""
    rows = []
    for data in found["data"].unique():
        for model, family, way in models(found, data):
            cells = [spread(values(found, data, model, metric), 2) for metric in COSTS]
            epochs = spread(values(found, data, model, "epochs"), 0)
            rows.append([data, family, way, epochs, *cells, spread(values(found, data, model, "validation_mse"))])
    heads = ["s / epoch", "s to best", "s to fit", "s for 200 samples", "GB", "validation MSE"]
    return grid(["data", "family", "", "epochs", *heads], rows)


def traced(found: pd.DataFrame, data: str, model: str, seed: int) -> dict[str, float]:
    r"""All figures of one run by name."""
    rows = found[(found["data"] == data) & (found["model"] == model) & (found["seed"] == seed)]
    return dict(zip(rows["metric"], rows["value"], strict=True))


def faster(found: pd.DataFrame, data: str, family: str) -> list[float]:
    r"""Of each seed how many times sooner ours reaches the public implementation's best validation loss.

    NaN where ours never reaches it.
    """
    ratios = []
    for seed in values(found, data, f"{family}: {PUBLIC}", "mse").index:
        theirs, own = (traced(found, data, f"{family}: {way}", seed) for way in (PUBLIC, PAPER))
        if own:
            ratios.append(theirs["seconds_to_best"] / to_the_same(own, theirs["validation_mse"]))
    return ratios


def compared(found: pd.DataFrame) -> str:
    r"""Of each family how ours compares with the public implementation."""
    rows = []
    for data in found["data"].unique():
        for family, name in NAMES.items():
            crps = {way: values(found, data, f"{family}: {way}", "crps") for way in (PUBLIC, PAPER, SHIPPED)}
            taken = {way: values(found, data, f"{family}: {way}", "predict_seconds") for way in (PUBLIC, SHIPPED)}
            if not len(crps[PUBLIC]):
                continue
            times = np.array(faster(found, data, family))
            reached = times[~np.isnan(times)]
            seeds = f"{len(reached)} of {len(times)} seeds"
            sooner = f"{np.median(reached):.0f} ({seeds})" if len(reached) else "not reached"
            changes = [number(100 * float((crps[way] / crps[PUBLIC] - 1).mean()), 0) for way in (PAPER, SHIPPED)]
            quicker = number(float((taken[PUBLIC] / taken[SHIPPED]).mean()), 0)
            moved = spread(values(found, data, f"{family}: {PUBLIC}", "encoder_change"), 3)
            rows.append([data, name, sooner if len(times) else "", quicker, *changes, moved])
    heads = ["times sooner at its best validation loss", "times faster for 200 samples",
             "CRPS, as in the paper, %", "CRPS, as shipped, %", "change of its encoder"]  # fmt: skip
    return grid(["data", "family", *heads], rows)


def about(found: pd.DataFrame) -> str:
    r"""How the figures were computed."""
    parts = []
    for data, rows in found.groupby("data", sort=False):
        one = rows.iloc[0]
        parts.append(
            f"{data}: H = {one['prediction_length']}, L = {one['context_length']}, {one['train_windows']} train, "
            f"{one['validation_windows']} validation and {one['windows']} test windows every {one['stride']} rows, at "
            f"most {one['epochs_at_most']} epochs, {rows['seed'].nunique()} "
            f"seed{'s' * (rows['seed'].nunique() > 1)}"
        )
    return (
        f"{'; '.join(parts)}. Public implementation at {pages.each(found['reference'])}; "
        f"{pages.each(found['foundation_model'])}; threads: {pages.each(found['threads'])}; torch "
        f"{pages.each(found['torch'])}; commit {pages.each(found['commit'])}."
    )


def tables(found: pd.DataFrame) -> dict[str, str]:
    r"""The blocks of the page by name."""
    return {"compared": f"{compared(found)}\n\n{about(found)}", "scores": scored(found), "costs": costs(found)}


def main() -> None:
    pages.write(PAGE, __file__, tables(pd.read_csv(HERE / "scores.csv")))


if __name__ == "__main__":
    main()
