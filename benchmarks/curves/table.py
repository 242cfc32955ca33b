r"""Writes the tables of docs/learning_curves.md and its picture from this folder's CSV file.

    python -m benchmarks.curves.table                  # the page, and docs/learning_curves.png
    python -m benchmarks.curves.table --scores PATH    # from another file

No figure is typed by hand.
"""

import argparse
import math
from pathlib import Path
from typing import Any

import pandas as pd

from benchmarks import pages
from benchmarks.coupled.table import grid, number
from benchmarks.curves.run import BASELINES, FAMILIES, FROZEN, MODELS, SETTINGS

HERE = Path(__file__).parent
FLAGSHIP = "auto"
TRAINED = (*BASELINES, "patchtst")
#: From so many rows on, the mean gain is counted.
ENOUGH = 600
#: The highest ratio that the picture shows.
CUT = 1.4
#: The colour of each model: baselines are dashed.
COLOURS = {
    "NLinear": "tab:brown", "VAR": "tab:gray", "patchtst": "tab:olive", "auto": "tab:blue", "residual": "tab:cyan",
    "attention": "tab:green", "linear": "tab:orange", "vae": "tab:red",
}  # fmt: skip


def sets(scores: pd.DataFrame) -> list[str]:
    r"""The sets of the scores, in the order of the run."""
    held = set(scores["data"])
    return [name for name in SETTINGS if name in held]


def wide(scores: pd.DataFrame, data: str, metric: str) -> pd.DataFrame:
    r"""A metric of a set by number of rows, with a column for each model."""
    own = scores[(scores["data"] == data) & (scores["metric"] == metric)]
    return own.pivot(index="rows", columns="model", values="value").reindex(columns=list(MODELS))


def counts(table: pd.DataFrame) -> list[int]:
    r"""The numbers of rows of fits."""
    return [rows for rows in table.index if rows > 0]


def crps(scores: pd.DataFrame) -> str:
    r"""CRPS over that of the frozen model by number of rows, with its interval; the least of a row in bold."""
    lines = []
    for data in sets(scores):
        values, low, high = (wide(scores, data, f"crps{end}") for end in ("", "_difference_low", "_difference_high"))
        if 0 not in values.index:
            continue
        frozen = values.loc[0, FROZEN]
        for rows in counts(values):
            ratios = (values.loc[rows] / frozen).round(3)
            cells = []
            for model in MODELS[1:]:
                text = number(ratios[model])
                ends = [1 + end.loc[rows, model] / frozen for end in (low, high)]
                text = f"**{text}**" if text and ratios[model] == min(1.0, ratios.min()) else text
                cells.append(text + (f" [{number(ends[0])}, {number(ends[1])}]" if text and number(ends[0]) else ""))
            lines.append([data, str(rows), number(frozen), *cells])
    heads = [f"`{model}`" if model in FAMILIES else model for model in MODELS[1:]]
    return grid(["data", "rows", f"{FROZEN}: CRPS", *heads], lines)


def coverage(scores: pd.DataFrame) -> str:
    r"""Coverage of the 80 % interval by number of rows, with its own 90 % interval."""
    lines = []
    for data in sets(scores):
        values, low, high = (wide(scores, data, f"coverage_80{end}") for end in ("", "_low", "_high"))
        for rows in values.index:
            cells = []
            for model in MODELS:
                texts = [number(each.loc[rows, model], 2) for each in (values, low, high)]
                cells.append(texts[0] + (f" [{texts[1]}, {texts[2]}]" if texts[1] else ""))
            lines.append([data, str(rows), *cells])
    heads = [f"`{model}`" if model in FAMILIES else model for model in MODELS]
    return grid(["data", "rows", *heads], lines)


def against_better(scores: pd.DataFrame, data: str) -> pd.Series:
    r"""The CRPS of the default over the least of the frozen model and the trained forecasters, by number of rows."""
    values = wide(scores, data, "crps")
    if 0 not in values.index:
        return pd.Series(dtype=float)
    better = values[list(TRAINED)].min(axis=1).clip(upper=values.loc[0, FROZEN]).fillna(values.loc[0, FROZEN])
    return (values[FLAGSHIP] / better).loc[counts(values)].dropna()


def claim(scores: pd.DataFrame) -> str:
    r"""From how many rows on the default is below the frozen model and all trained forecasters, and by how much."""
    lines = []
    for data in sets(scores):
        ratios = against_better(scores, data)
        if not len(ratios):
            continue
        worse = ratios.index[ratios >= 1]
        below = ratios.index[ratios.index > (worse.max() if len(worse) else 0)]
        first = f"is below all of them from {below.min()} rows on" if len(below) else "is not below all of them"
        later = ratios[ratios.index >= ENOUGH]
        mean = f", {100 * (later.mean() - 1):+.1f} % on average from {ENOUGH} rows on" if len(later) else ""
        lines.append(
            f"- {data}: `{FLAGSHIP}` {first}; at worst {100 * (ratios.max() - 1):+.1f} % from the best of them "
            f"({ratios.idxmax()} rows){mean}."
        )
    return "\n".join(lines) or "Nothing was run yet."


def about(scores: pd.DataFrame) -> str:
    r"""How the scores were computed."""
    runs = []
    for data in sets(scores):
        rows = scores[scores["data"] == data].iloc[0]
        runs.append(
            f"{data} H = {rows['prediction_length']}, L = {rows['context_length']}, {rows['windows']} windows every "
            f"{rows['stride']} rows"
        )
    return f"{'; '.join(runs)}; {pages.each(scores['foundation_model'])}; commit {pages.each(scores['commit'])}."


def missing(scores: pd.DataFrame) -> str:
    r"""What could not be fitted, and why."""
    if "note" not in scores:
        return "Every model that was run was fitted."
    own = scores[(scores["metric"] == "crps") & scores["note"].notna()]
    lines = [f"- {row['data']}, {row['rows']} rows, {row['model']}: {row['note']}" for _, row in own.iterrows()]
    return "\n".join(lines) or "Every model that was run was fitted."


def tables(scores: pd.DataFrame) -> dict[str, str]:
    r"""The blocks of the page by name."""
    return {
        "claim": claim(scores),
        "crps": f"{crps(scores)}\n\n{about(scores)}",
        "coverage": coverage(scores),
        "missing": missing(scores),
    }


def draw(scores: pd.DataFrame, path: Path) -> None:
    r"""Draws the CRPS over that of the frozen model against the number of rows, one panel a set.

    Arguments:
        scores: The scores.
        path: The PNG file to write.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    names = [name for name in sets(scores) if 0 in wide(scores, name, "crps").index]
    columns = min(3, max(1, len(names)))
    rows = max(1, -(-len(names) // columns))
    figure = Figure(figsize=(4.2 * max(2, columns), 3.2 * rows + 0.6), layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(rows, columns, squeeze=False).ravel()
    handles: dict[str, Any] = {}
    for panel, name in zip(panels, names, strict=False):
        handles |= _panel(panel, scores, name)
    for panel in panels[len(names) :]:
        panel.set_visible(False)
    figure.legend(list(handles.values()), list(handles), loc="outside lower center", ncols=5, frameon=False)
    figure.savefig(path, dpi=110, metadata={"Software": None})


def _panel(panel: Any, scores: pd.DataFrame, name: str) -> dict[str, Any]:
    r"""Draws the curves of a set; returns its lines by model."""
    values, low, high = (wide(scores, name, f"crps{end}") for end in ("", "_difference_low", "_difference_high"))
    frozen = values.loc[0, FROZEN]
    handles = {FROZEN: panel.axhline(1.0, color="black", linewidth=1)}
    for model in MODELS[1:]:
        curve = (values.loc[counts(values), model] / frozen).dropna()
        if not len(curve):
            continue
        style = "--" if model in TRAINED else "-"
        (handles[model],) = panel.plot(curve.index, curve, style, color=COLOURS[model], marker=".", linewidth=1.4)
        if model == FLAGSHIP:
            ends = [1 + end.loc[curve.index, model] / frozen for end in (low, high)]
            panel.fill_between(curve.index, *ends, color=COLOURS[model], alpha=0.15, linewidth=0)
    panel.set_xscale("log")
    ticks = counts(values)
    apart = [tick for tick, later in zip(ticks, [*ticks[1:], math.inf], strict=True) if later > 1.4 * tick]
    panel.set_xticks(apart, [str(tick) for tick in apart], fontsize=7)
    panel.minorticks_off()
    ratios = (values.loc[ticks] / frozen).stack()
    low_end, high_end = (ratios.min(), ratios.max()) if len(ratios) else (1.0, 1.0)
    panel.set_ylim(min(0.9, low_end - 0.05), min(CUT, max(1.1, high_end + 0.05)))
    setting = SETTINGS[name]
    panel.set_title(f"{name}, {setting.prediction_length} steps ahead", fontsize=9)
    panel.set_xlabel("rows of the fit", fontsize=8)
    panel.set_ylabel("CRPS / frozen model's", fontsize=8)
    return handles


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--scores", type=Path, default=HERE / "scores.csv")
    scores = pd.read_csv(parser.parse_args().scores)
    pages.write("docs/learning_curves.md", __file__, tables(scores))
    draw(scores, pages.ROOT / "docs" / "learning_curves.png")


if __name__ == "__main__":
    main()
