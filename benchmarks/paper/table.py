r"""Writes the tables of docs/paper.md from this folder's CSV files.

    python -m benchmarks.paper.table                    # all of them
    python -m benchmarks.paper.table linear_models      # those of one file

No figure is typed by hand; published ones are those of published.csv, marked by a dagger.
"""

import argparse
from pathlib import Path

import pandas as pd

from benchmarks import pages
from benchmarks.coupled.table import grid, number, spread
from benchmarks.neural import NEURAL
from benchmarks.paper.run import BASELINES, CELLS, FROZEN, OTHERS, PAPER, SEEDED, SHIPPED, TRAINED, WEAK_CELLS

HERE = Path(__file__).parent
STRONG, WEAK, FLAGSHIP, LINEAR = "bolt-nano", "patchtst", "auto", "NLinear"
DAGGER = "†"
ALONE = (*BASELINES, *NEURAL, FROZEN)
CLOSED = tuple(model for model in OTHERS if model not in ("identity", FLAGSHIP))
#: The adapters of the published table, and the linear baselines of the literature.
ADAPTERS, LINEARS = tuple(paper for _, paper in TRAINED.values()), ("NLinear", "DLinear", "Repeat")

Scores = pd.DataFrame


def read_scores(path: Path) -> Scores:
    r"""The scores of a file, with empty words for empty cells and for columns that it lacks."""
    scores = pd.read_csv(path)
    words = dict.fromkeys(("variant", "train", "gate_decision", "note"), "")
    return scores.reindex(columns=list(dict.fromkeys([*scores.columns, *words]))).fillna(words)


def cells(scores: Scores) -> list[str]:
    r"""The cells of the scores, in the order of the run."""
    held = set(scores["cell"])
    return [cell for cell in CELLS if cell in held]


def values(scores: Scores, cell: str, model: str, metric: str, variant: str = "", backbone: str = STRONG) -> pd.Series:
    r"""The values of a model, one a seed; none if it was not run."""
    own = (scores["cell"] == cell) & (scores["model"] == model) & (scores["metric"] == metric)
    own &= (scores["variant"] == variant) & (scores["backbone"] == backbone)
    return scores.loc[own, "value"].astype(float)


def of_run(scores: Scores, cell: str, model: str, metric: str, backbone: str = STRONG) -> pd.Series:
    r"""The values of a model, as shipped if it is an adapter."""
    return values(scores, cell, model, metric, "" if model in ALONE else SHIPPED, backbone)


def least(published: pd.DataFrame, cell: str, models: tuple[str, ...], metric: str) -> float:
    r"""The least published value of some models on a cell; NaN where there is none on the same scale."""
    setting = CELLS[cell]
    if setting.data == "weather" and not setting.literal:
        return float("nan")
    own = (published["data"] == setting.data) & (published["prediction_length"] == setting.prediction_length)
    return float(published.loc[own & published["model"].isin(models), metric].min())


def headline(scores: Scores, published: pd.DataFrame, metric: str) -> str:
    r"""One error of published and run models by cell, the least of the run in bold."""
    models = (*ALONE, "identity", FLAGSHIP)
    rows = []
    for cell in cells(scores):
        means = {model: round(of_run(scores, cell, model, metric).mean(), 3) for model in models}
        best = min((x for x in means.values() if not pd.isna(x)), default=None)
        run = [f"**{number(x)}**" if x == best else number(x) for x in means.values()]
        known = [number(least(published, cell, names, metric)) for names in (("MOMENT",), ADAPTERS, LINEARS)]
        rows.append([cell, *known, *run])
    marked = [f"{name} {DAGGER}" for name in ("MOMENT", "best adapter", "best linear")]
    ours = [f"`{model}`" for model in ("identity", FLAGSHIP)]
    return grid(["cell", *marked, *ALONE, *ours], rows)


def families(scores: Scores, published: pd.DataFrame) -> str:
    r"""The paper's families in both variants, beside the published error."""
    rows = []
    for cell in cells(scores):
        for model, (_, paper) in TRAINED.items():
            if not len(values(scores, cell, model, "mse", SHIPPED)):
                continue
            row = [cell, f"`{model}`", number(least(published, cell, (paper,), "mse"))]
            for metric in ("mse", "crps", "pit_ece", "coverage_80"):
                row += [spread(values(scores, cell, model, metric, variant)) for variant in (PAPER, SHIPPED)]
            rows.append(row)
    heads = [f"{name}, {how}" for name in ("MSE", "CRPS", "PIT-ECE", "coverage") for how in ("paper", "shipped")]
    return grid(["cell", "family", f"MSE {DAGGER}", *heads], rows)


def closed_forms(scores: Scores) -> str:
    r"""CRPS over that of the frozen model, of closed forms and the default: as shipped / in the paper's variant."""
    rows = []
    for cell in cells(scores):
        frozen = of_run(scores, cell, FROZEN, "crps").mean()
        row = [cell, number(frozen)]
        for model in ("identity", *CLOSED, FLAGSHIP):
            shipped, alone = (values(scores, cell, model, "crps", variant) / frozen for variant in (SHIPPED, PAPER))
            row.append(" / ".join(filter(None, [number(shipped.mean()), number(alone.mean())])))
        rows.append(row)
    return grid(["cell", f"{FROZEN}: CRPS", *(f"`{model}`" for model in ("identity", *CLOSED, FLAGSHIP))], rows)


def calibration(scores: Scores) -> str:
    r"""CRPS, PIT-ECE with its floor, and coverage with its interval; means over seeds."""
    rows = []
    for cell in cells(scores):
        for model in (*ALONE, *OTHERS):
            names = ("crps", "pit_ece", "pit_ece_floor", "coverage_80", "coverage_80_low", "coverage_80_high")
            found = [number(of_run(scores, cell, model, name).mean()) for name in names]
            crps, ece, floor, coverage, low, high = found
            if crps:
                interval = f" [{low}, {high}]" if low else ""
                rows.append([cell, model, crps, f"{ece} ({floor})", coverage + interval])
    return grid(["cell", "forecast", "CRPS", "PIT-ECE (floor)", "80 % coverage"], rows)


def bar(scores: Scores, published: pd.DataFrame) -> str:
    r"""How often the default is below the published adapters and below NLinear of the same run, in squared error."""
    found = []
    for cell in cells(scores):
        own, linear = (of_run(scores, cell, model, "mse").mean() for model in (FLAGSHIP, LINEAR))
        best = least(published, cell, ADAPTERS, "mse")
        if not (pd.isna(own) or pd.isna(linear) or pd.isna(best)):
            found.append((cell, own / best, own / linear))
    if not found:
        return "No cell holds both forecasts."
    of_paper, of_linear = [ratio for _, ratio, _ in found], [ratio for *_, ratio in found]
    worst = max(found, key=lambda entry: entry[2])
    return (
        f"In {sum(x < 1 for x in of_paper)} of {len(found)} cells the MSE of `{FLAGSHIP}` is below the best published "
        f"adapter, at most {max(of_paper):.2f} times it. In {sum(x < 1 for x in of_linear)} of {len(found)} it is "
        f"below {LINEAR} of the same run; at worst it is {100 * (worst[2] - 1):+.1f} % from it ({worst[0]})."
    )


def weak(scores: Scores) -> str:
    r"""CRPS and MSE of adapters over those of their own frozen model, around a weak and a strong one."""
    rows = []
    for cell in WEAK_CELLS:
        for backbone in (WEAK, STRONG):
            frozen = {name: values(scores, cell, FROZEN, name, "", backbone).mean() for name in ("mse", "crps")}
            if pd.isna(frozen["crps"]):
                continue
            row = [cell, backbone, number(frozen["mse"]), number(frozen["crps"])]
            for model in (*TRAINED, "residual", FLAGSHIP):
                cell_of = []
                for variant in (PAPER, SHIPPED):
                    ratio = values(scores, cell, model, "crps", variant, backbone).mean() / frozen["crps"]
                    cell_of.append(number(ratio))
                row.append(" / ".join(filter(None, cell_of)))
            rows.append(row)
    models = [f"`{model}`" for model in (*TRAINED, "residual", FLAGSHIP)]
    return grid(["cell", "frozen model", "its MSE", "its CRPS", *models], rows)


def verdict(scores: Scores) -> str:
    r"""What trained adapters change around each frozen model, in words with counts."""
    lines = []
    for backbone, kind in ((WEAK, "weak"), (STRONG, "strong")):
        ratios = []
        for cell in WEAK_CELLS:
            frozen = values(scores, cell, FROZEN, "crps", "", backbone).mean()
            for model in TRAINED:
                alone = values(scores, cell, model, "crps", PAPER, backbone).mean() / frozen
                ratios += [] if pd.isna(alone) else [alone]
        if ratios:
            change = pd.Series(ratios)
            lines.append(
                f"Around the {kind} frozen model ({backbone}), the paper's families without gate change the CRPS by "
                f"{100 * (change.mean() - 1):+.1f} % on average, {100 * (change.min() - 1):+.1f} % at best and "
                f"{100 * (change.max() - 1):+.1f} % at worst, over {len(change)} fits of a family to a cell."
            )
    return " ".join(lines) or "Nothing was run yet."


def linear_models(found: pd.DataFrame) -> str:
    r"""Medians over draws, and how many draws are below the frozen model."""
    names = {
        "paper": "closed form of the paper, with its pseudo-inverse", "invertible": "best invertible adapter",
        "ours": '`Linear(free="decoder")`', "least squares": "least squares on the train windows",
    }  # fmt: skip
    rows = []
    for name, words in names.items():
        row = [words]
        for part in ("train", "test"):
            ratios = found[f"{name}, {part}"]
            low, high = ratios.quantile([0.05, 0.95])
            row += [f"{number(ratios.median())} [{number(low)}, {number(high)}]", f"{100 * (ratios < 1).mean():.0f} %"]
        rows.append(row)
    heads = [
        f"{head}, {part}" for part in ("train", "test") for head in ("MSE over that of the frozen model", "below it")
    ]
    return f"{grid(['adapter', *heads], rows)}\n\n{len(found)} draws; commit {pages.each(found['commit'])}."


def about(scores: Scores) -> str:
    r"""How the scores were computed: windows, frozen models, commits, and fits that the time limit cut."""
    runs = []
    for cell in cells(scores):
        rows = scores[scores["cell"] == cell].iloc[0]
        runs.append(f"{cell} {rows['windows']} windows every {rows['stride']} rows")
    trained = scores[scores["model"].isin(SEEDED) & (scores["variant"] == SHIPPED) & (scores["metric"] == "crps")]
    cut = trained["train"].str.contains("time limit").sum()
    fits = f"; the limit stopped {cut} of {len(trained)} fits by gradient" if len(trained) else ""
    return (
        f"{', '.join(runs)}{fits}; seeds {pages.each(scores['seed'].drop_duplicates().sort_values())}; "
        f"{pages.each(scores['foundation_model'])}; commit {pages.each(scores['commit'])}."
    )


def missing(scores: Scores) -> str:
    r"""What could not be fitted, and why."""
    own = scores[(scores["metric"] == "crps") & (scores["note"] != "")]
    lines = [f"- {row['cell']}, {row['model']}: {row['note']}" for _, row in own.iterrows()]
    return "\n".join(lines) or "Every model that was run was fitted."


def gates(scores: Scores) -> str:
    r"""What became of the gate of the default, by cell."""
    own = scores[(scores["model"] == FLAGSHIP) & (scores["metric"] == "crps") & (scores["variant"] == SHIPPED)]
    words = {
        "skipped": "was left out for too few validation rows", "rejected": "stayed closed",
        "kept": "opened in some channels",
    }  # fmt: skip
    found = {text: [cell for cell in cells(scores) if own.set_index("cell")["gate_decision"].get(cell) == outcome]
             for outcome, text in words.items()}  # fmt: skip
    clauses = [f"{text}: {', '.join(held)}" for text, held in found.items() if held]
    return f"The gate of `{FLAGSHIP}` {'. It '.join(clauses)}." if clauses else "Nothing was run yet."


def of_scores(scores: Scores) -> dict[str, str]:
    published = pd.read_csv(HERE / "published.csv")
    strong = scores[scores["backbone"] == STRONG]
    sources = "; ".join(dict.fromkeys(published["source"].str.split(":").str[0]))
    return {
        "bar": bar(strong, published),
        "mse": f"{headline(strong, published, 'mse')}\n\n{about(strong)} {DAGGER}: {sources}.",
        "mae": headline(strong, published, "mae"),
        "families": families(strong, published),
        "closed": closed_forms(strong),
        "calibration": calibration(strong),
        "gates": gates(strong),
        "missing": missing(strong),
        "verdict": verdict(scores),
        "weak": weak(scores),
    }


PARTS = {
    "scores": lambda: of_scores(read_scores(HERE / "scores.csv")),
    "linear_models": lambda: {"linear_models": linear_models(pd.read_csv(HERE / "linear_models.csv"))},
}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("parts", nargs="*", default=list(PARTS), help=f"CSV files: {', '.join(PARTS)}")
    for part in parser.parse_args().parts:
        pages.write("docs/paper.md", __file__, PARTS[part]())


if __name__ == "__main__":
    main()
