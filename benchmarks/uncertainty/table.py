r"""Writes the tables of docs/uncertainty.md from this folder's CSV files.

    python -m benchmarks.uncertainty.table            # from both
    python -m benchmarks.uncertainty.table scores     # from scores.csv alone

No figure is typed by hand.
"""

import argparse
from pathlib import Path

import pandas as pd

from benchmarks import pages
from benchmarks.coupled.run import SETTINGS
from benchmarks.coupled.table import grid, number
from benchmarks.uncertainty.conformal import METHODS
from benchmarks.uncertainty.regions import METHODS as REGIONS
from benchmarks.uncertainty.run import FROZEN, PLAIN, UPDATED

HERE = Path(__file__).parent
PAGE = "docs/uncertainty.md"
BASE = "identity"
OTHERS = ("auto", UPDATED, FROZEN, *METHODS)


def wide(found: pd.DataFrame, metric: str) -> pd.DataFrame:
    r"""One metric of each model, in columns, by data set."""
    rows = found[found["metric"] == metric]
    return rows.pivot(index="data", columns="model", values="value")


def sets(found: pd.DataFrame) -> list[str]:
    r"""The data sets, in the order of the settings."""
    held = set(found["data"])
    return [name for name in SETTINGS if name in held]


def at(values: pd.DataFrame, name: str, model: str) -> float:
    r"""A model's value on a data set; NaN if it was not measured."""
    return float(values.loc[name, model]) if model in values and name in values.index else float("nan")


def percent(ratio: float) -> str:
    return "" if pd.isna(ratio) else f"{100 * (ratio - 1):+.1f} %"


def wql(found: pd.DataFrame) -> str:
    r"""WQL of `identity`, that of all others relative to it, and ours against the best conformal method."""
    values, rows = wide(found, "wql"), []
    for name in sets(found):
        base = at(values, name, BASE)
        conformal = {method: at(values, name, method) for method in METHODS}
        measured = {method: x for method, x in conformal.items() if not pd.isna(x)}
        best = min(measured, key=measured.__getitem__) if measured else ""
        ours = [percent(at(values, name, model) / measured[best]) if best else "" for model in (BASE, "auto")]
        cells = [number(at(values, name, model) / base) for model in OTHERS]
        rows.append([name, number(base), *cells, best, *ours])
    heads = [f"`{BASE}`: WQL", "`auto`", "`identity`, updated", FROZEN, *METHODS, "best conformal"]
    return grid(["data", *heads, "`identity` against it", "`auto` against it"], rows)


def coverage(found: pd.DataFrame) -> str:
    r"""Coverage of the 80 % interval with its interval, its width, and the mean error of four coverages."""
    metrics = {
        name: wide(found, name)
        for name in ("coverage_80", "coverage_80_low", "coverage_80_high", "coverage_error", "width_80")
    }
    rows = []
    for name in sets(found):
        for model in (BASE, *OTHERS):
            mean, low, high, error, width = (number(at(values, name, model)) for values in metrics.values())
            if mean:
                rows.append([name, model, mean + (f" [{low}, {high}]" if low else ""), error, width])
    return grid(["data", "forecast", "80 % coverage", "mean coverage error", "width"], rows)


def means(found: pd.DataFrame) -> str:
    r"""The mean coverage error over the sets that all these models have."""
    values = wide(found, "coverage_error")
    models = [model for model in (BASE, *OTHERS) if model in values and values[model].notna().sum() > 1]
    common = values[models].dropna() if models else values
    if not len(common):
        return ""
    listed = ", ".join(f"{model} {common[model].mean():.3f}" for model in models)
    return f"Means of the coverage error over {len(common)} sets: {listed}."


def recalibration(found: pd.DataFrame) -> str:
    r"""CRPS without and with recalibration, and the mean coverage error of both."""
    crps, error, rows = wide(found, "crps"), wide(found, "coverage_error"), []
    for name in sets(found):
        for family in (BASE, "auto"):
            plain, own = (at(crps, name, model) for model in (family + PLAIN, family))
            if pd.isna(plain) or pd.isna(own):
                continue
            errors = [number(at(error, name, model)) for model in (family + PLAIN, family)]
            rows.append([name, family, number(plain), number(own), percent(own / plain), *errors])
    heads = ["CRPS without", "CRPS with", "change", "coverage error without", "coverage error with"]
    return grid(["data", "family", *heads], rows)


def volumes(found: pd.DataFrame) -> str:
    r"""Mean log-volumes at equal coverage; in parentheses what the regions stated to hold 90 % hold."""
    rows = []
    for (name, channels), of_set in found.groupby(["data", "channels"], sort=False):
        values = of_set.pivot(index="model", columns="metric", values="value")
        cells = [
            f"{values.loc[method, 'log_volume']:.2f} ({number(values.loc[method, 'coverage'])})" for method in REGIONS
        ]
        counts = [str(of_set[each].iloc[0]) for each in ("lead", "calibration_windows", "outcomes")]
        rows.append([str(name), str(channels), *counts, number(values.loc[REGIONS[0], "held"]), *cells])
    return grid(["data", "channels", "lead", "windows before", "outcomes", "held", *REGIONS], rows)


def about(found: pd.DataFrame) -> str:
    r"""How the figures were computed."""
    each = [found[found["data"] == name].iloc[0] for name in sets(found)]
    runs = ", ".join(
        f"{row['data']} {row['windows']} windows every {row['stride']} rows ({row['calibration_windows']} before)"
        for row in each
    )
    packages = pages.each(found["package"].replace("", pd.NA))
    return f"{runs}; {pages.each(found['foundation_model'])}; {packages}; commit {pages.each(found['commit'])}."


def of_scores(found: pd.DataFrame) -> dict[str, str]:
    return {
        "wql": f"{wql(found)}\n\n{about(found)}",
        "coverage": f"{coverage(found)}\n\n{means(found)}".rstrip(),
        "recalibration": recalibration(found),
    }


def of_regions(found: pd.DataFrame) -> dict[str, str]:
    return {"volumes": f"{volumes(found)}\n\n{pages.each(found['package'])}; commit {pages.each(found['commit'])}."}


#: The blocks of docs/uncertainty.md that each CSV file gives.
PARTS = {"scores": of_scores, "regions": of_regions}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("parts", nargs="*", default=list(PARTS), help=f"CSV files: {', '.join(PARTS)}")
    for part in parser.parse_args().parts:
        pages.write(PAGE, __file__, PARTS[part](pd.read_csv(HERE / f"{part}.csv")))


if __name__ == "__main__":
    main()
