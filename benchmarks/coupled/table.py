r"""Writes the tables of docs/coupled.md, and the README's table and first claim, from this folder's CSV files.

    python -m benchmarks.coupled.table                      # docs/coupled.md
    python -m benchmarks.coupled.table scores --readme      # its tables from scores.csv alone, and README.md

No figure is typed by hand. Scores are relative to `identity`, the frozen model with the same calibration, by seed.
"""

import argparse
from pathlib import Path

import pandas as pd

from benchmarks import pages
from benchmarks.coupled.ablations import BEFORE
from benchmarks.coupled.run import BASELINES, MODELS, SETTINGS
from benchmarks.coupled.simulated import BASELINES as SIMULATED_BASELINES
from benchmarks.coupled.simulated import ORACLE, PROCESSES

HERE = Path(__file__).parent
BASE, ADAPTERS, FLAGSHIP = MODELS[0], MODELS[1:], MODELS[-1]
SKILLS = {"energy_score": "energy", "variogram_channels": "variogram, channels", "variogram_time": "variogram, time"}


def grid(heads: list[str], rows: list[list[str]]) -> str:
    lines = [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    return "\n".join([*lines, *(f"| {' | '.join(row)} |" for row in rows)])


def number(value: float, digits: int = 3) -> str:
    return "" if pd.isna(value) else f"{value:.{digits}f}"


def spread(values: pd.Series, digits: int = 3) -> str:
    r"""The mean over seeds, and half their range if there are several; empty without values."""
    values = values.dropna()
    if not len(values):
        return ""
    half = (values.max() - values.min()) / 2
    return number(values.mean(), digits) + (f" ± {half:.{digits}f}" if len(values) > 1 else "")


def wide(scores: pd.DataFrame, metric: str, by: tuple[str, ...] = ("data", "seed")) -> pd.DataFrame:
    r"""One metric of each model, in columns, by data set and seed."""
    rows = scores[scores["metric"] == metric]
    return rows.pivot(index=list(by), columns="model", values="value")


def relative(scores: pd.DataFrame, metric: str, by: tuple[str, ...] = ("data", "seed")) -> pd.DataFrame:
    r"""The same, divided by that of `identity` for the same data and seed."""
    values = wide(scores, metric, by)
    return values.div(values[BASE], axis=0)


def of(values: pd.DataFrame, name: str, model: str) -> pd.Series:
    r"""The values of a model on a data set, one for each seed; none if it was not measured."""
    return values.loc[name, model] if model in values else pd.Series(dtype=float)


def sets(scores: pd.DataFrame) -> list[str]:
    r"""The data sets of the scores, in the order of the settings."""
    held = set(scores["data"])
    return [name for name in (*SETTINGS, *PROCESSES) if name in held]


def crps(scores: pd.DataFrame) -> str:
    r"""The CRPS of `identity`, and of all others relative to it; the best adapter of a set in bold."""
    absolute, ratios = wide(scores, "crps"), relative(scores, "crps")
    rows = []
    for name in sets(scores):
        horizon = scores.loc[scores["data"] == name, "prediction_length"].iloc[0]
        means = {model: of(ratios, name, model).mean() for model in MODELS}
        best = min(value for value in means.values() if not pd.isna(value))
        cells = [spread(of(ratios, name, model)) for model in ADAPTERS]
        for place, model in enumerate(ADAPTERS):
            if round(means[model], 3) == round(best, 3) < 1:
                cells[place] = f"**{cells[place]}**"
        others = [spread(of(ratios, name, model)) for model in BASELINES]
        rows.append([name, str(horizon), spread(of(absolute, name, BASE)), *cells, *others])
    heads = ["data", "H", f"`{BASE}`: CRPS", *(f"`{model}`" for model in ADAPTERS), *BASELINES]
    return grid(heads, rows)


def calibration(scores: pd.DataFrame) -> str:
    r"""Coverage with its interval (means over seeds), PIT-ECE and its floor, and WQL and MSE relative to `identity`."""
    names = ("coverage_80", "coverage_80_low", "coverage_80_high", "pit_ece", "pit_ece_floor")
    metrics = {name: wide(scores, name) for name in names}
    wql, mse = relative(scores, "wql"), relative(scores, "mse")
    rows = []
    for name in sets(scores):
        for model in (*MODELS, *BASELINES):
            if not len(of(wql, name, model).dropna()):
                continue
            coverage, low, high, ece, floor = (number(of(metrics[each], name, model).mean()) for each in names)
            interval = f" [{low}, {high}]" if low else ""
            errors = [spread(of(each, name, model)) for each in (wql, mse)]
            rows.append([name, model, coverage + interval, f"{ece} ({floor})", *errors])
    return grid(["data", "forecast", "80 % coverage", "PIT-ECE (floor)", "WQL", "MSE"], rows)


def joint(scores: pd.DataFrame) -> str:
    r"""Skill over `identity` in the scores of the joint distribution, in percent."""
    skills = {metric: 100 * (1 - relative(scores, metric)) for metric in SKILLS}
    rows = []
    for name in sets(scores):
        for model in (*ADAPTERS, *BASELINES):
            cells = [spread(of(skill, name, model), 1) for skill in skills.values()]
            if any(cells):
                rows.append([name, model, *cells])
    return grid(["data", "forecast", *SKILLS.values()], rows)


def seconds(taken: pd.DataFrame) -> str:
    r"""Seconds of a fit and of a forecast, and gigabytes."""
    cells = taken.set_index(["data", "model"])
    rows = []
    for name in taken["data"].unique():
        size = taken[taken["data"] == name].iloc[0]
        row = [name, *(str(size[each]) for each in ("rows", "channels", "prediction_length"))]
        for model in MODELS:
            one = cells.loc[(name, model)] if (name, model) in cells.index else None
            row.append("" if one is None else f"{one['fit_seconds']:.0f} / {one['predict_seconds']:.2f} / "
                       f"{one['peak_gigabytes']:.1f}")  # fmt: skip
        rows.append(row)
    return grid(["data", "rows", "channels", "H", *(f"`{model}`" for model in MODELS)], rows)


# ---------------------------------------------------------------------------------------------------- simulated


def shares(simulated: pd.DataFrame, by: tuple[str, ...]) -> pd.DataFrame:
    r"""The percentage of the attainable gain that each model reaches."""
    values = wide(simulated, "crps", by)
    attainable = values[BASE] - values[ORACLE]
    return 100 * values.rsub(values[BASE], axis=0).div(attainable, axis=0)


def known(simulated: pd.DataFrame) -> str:
    r"""CRPS of `identity` and of the oracle; of all others the share of the attainable gain, and the relative CRPS."""
    scores, by = simulated[simulated["lead_block"] == "all"], ("data", "rows", "seed")
    absolute, ratios, parts = wide(scores, "crps", by), relative(scores, "crps", by), shares(scores, by)
    rows = []
    for name in sets(scores):
        for number_of_rows in sorted(scores.loc[scores["data"] == name, "rows"].unique(), reverse=True):
            key = (name, number_of_rows)
            cells = [
                f"{spread(of(parts, key, model), 0)} % ({number(of(ratios, key, model).mean())})"
                if len(of(parts, key, model).dropna()) else ""
                for model in (*ADAPTERS, *SIMULATED_BASELINES)
            ]  # fmt: skip
            ends = [spread(of(absolute, key, model)) for model in (BASE, ORACLE)]
            rows.append([name, str(number_of_rows), *ends, *cells])
    adapters = [f"`{model}`" for model in ADAPTERS]
    return grid(["process", "rows", f"`{BASE}`: CRPS", "oracle: CRPS", *adapters, *SIMULATED_BASELINES], rows)


def leads(simulated: pd.DataFrame) -> str:
    r"""The share of the attainable gain by block of leads, means over seeds."""
    scores = simulated[(simulated["lead_block"] != "all") & (simulated["metric"] == "crps")]
    parts = shares(scores, ("data", "rows", "lead_block", "seed"))
    rows = []
    for name in sets(scores):
        for number_of_rows in sorted(scores.loc[scores["data"] == name, "rows"].unique(), reverse=True):
            for model in (*ADAPTERS, SIMULATED_BASELINES[-1]):
                blocks = scores["lead_block"].unique()
                means = [of(parts, (name, number_of_rows, block), model).mean() for block in blocks]
                if not all(map(pd.isna, means)):
                    rows.append([name, str(number_of_rows), model, *(f"{mean:.0f} %" for mean in means)])
    return grid(["process", "rows", "forecast", *(f"leads {block}" for block in scores["lead_block"].unique())], rows)


# ---------------------------------------------------------------------------------------------------- options


def by_max_windows(curve: pd.DataFrame) -> str:
    r"""CRPS over that of `identity` with its smallest number of windows, and seconds of a fit, by `max_windows`."""
    own = curve[curve["metric"] == "crps"]
    counts = sorted(own["max_windows"].unique())
    rows = []
    for name in sets(curve):
        of_set = own[own["data"] == name].set_index(["model", "max_windows"])
        for model in MODELS:
            cells = []
            for count in counts:
                if (model, count) not in of_set.index or (BASE, counts[0]) not in of_set.index:
                    cells.append("")
                    continue
                ratio = of_set.loc[(model, count), "value"] / of_set.loc[(BASE, counts[0]), "value"]
                cells.append(f"{number(ratio)} / {number(of_set.loc[(model, count), 'fit_seconds'], 0)} s")
            if any(cells):
                rows.append([name, model, *cells])
    return grid(["data", "family", *(str(count) for count in counts)], rows)


def tuned(found: pd.DataFrame) -> str:
    r"""CRPS on the test rows of default and tuned options."""
    rows = []
    for _, run in found[found["metric"] == "crps"].iterrows():
        cells = [run["data"], run["options"], f"`{run['chosen']}`", number(run["value"]), number(run["fit_seconds"], 0)]
        rows.append(cells)
    return grid(["data", "options", "chosen", "CRPS", "fit, s"], rows)


def ablations(found: pd.DataFrame) -> str:
    r"""The CRPS of variants over that of `identity`, by data set."""
    own = found[found["metric"] == "crps"]
    values = own.pivot(index="variant", columns="data", values="value").loc[list(own["variant"].unique())]
    names = list(values)
    ratios = values / values.loc[values.index[0]]
    return grid(["variant", *names], [[name, *(number(x) for x in row[names])] for name, row in ratios.iterrows()])


# ---------------------------------------------------------------------------------------------------- pages


def about(scores: pd.DataFrame) -> str:
    r"""How the scores were computed: windows, seeds, frozen model, commit."""
    each = [scores[scores["data"] == name] for name in sets(scores)]
    runs = " ".join(
        f"`{rows['data'].iloc[0]}`: {rows['windows'].iloc[0]} windows every {rows['stride'].iloc[0]} rows."
        for rows in each
    )
    seeds = scores["seed"].nunique()
    return (
        f"{runs} {seeds} seed{'s' * (seeds > 1)}{', ± half their range' * (seeds > 1)}; "
        f"{pages.each(scores['foundation_model'])}; commit {pages.each(scores['commit'])}."
    )


def claim(scores: pd.DataFrame) -> str:
    r"""The README's first claim: what the flagship gains over the calibrated frozen model, and where it gains least."""
    ratios = relative(scores, "crps")[FLAGSHIP].dropna()
    changes = 100 * (ratios.groupby("data").mean() - 1)
    best, worst = changes.idxmin(), changes.idxmax()
    seeds = ratios.index.get_level_values("seed").nunique()
    return (
        f"On {len(changes)} real data sets ({seeds} seed{'s' * (seeds > 1)}), `{FLAGSHIP}` changes the CRPS of the "
        f"frozen model with the same calibration by {changes.mean():+.1f} % on average, {changes[best]:+.1f} % at best "
        f"({best}) and {changes[worst]:+.1f} % at worst ({worst})."
    )


def readme(scores: pd.DataFrame) -> dict[str, str]:
    r"""The blocks of the README by name."""
    return {"claim": claim(scores), "coupled": f"{crps(scores)}\n\n{about(scores)}"}


def of_scores(scores: pd.DataFrame) -> dict[str, str]:
    return {
        "crps": f"{crps(scores)}\n\n{about(scores)}",
        "calibration": calibration(scores),
        "joint": joint(scores),
    }


def of_seconds(taken: pd.DataFrame) -> dict[str, str]:
    about = f"Threads: {pages.each(taken['threads'])}; commit {pages.each(taken['commit'])}."
    return {"seconds": f"{seconds(taken)}\n\n{about}"}


def of_simulated(simulated: pd.DataFrame) -> dict[str, str]:
    return {"simulated": f"{known(simulated)}\n\n{about(simulated)}", "leads": leads(simulated)}


def of_max_windows(curve: pd.DataFrame) -> dict[str, str]:
    return {"max_windows": f"{by_max_windows(curve)}\n\n{about(curve)}"}


def of_tuned(found: pd.DataFrame) -> dict[str, str]:
    return {"tuned": f"{tuned(found)}\n\n{about(found)}"}


def of_ablations(found: pd.DataFrame) -> dict[str, str]:
    before = found["data"].str.endswith(BEFORE)
    networks = found[before].assign(data=found["data"].str.removesuffix(BEFORE))
    return {
        "ablations": f"{ablations(found[~before])}\n\n{about(found[~before])}",
        "networks": f"{ablations(networks)}\n\n{about(networks)}",
    }


#: The blocks of docs/coupled.md that each CSV file gives.
PARTS = {
    "scores": of_scores, "seconds": of_seconds, "simulated": of_simulated, "ablations": of_ablations,
    "max_windows": of_max_windows, "tuned": of_tuned,
}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("parts", nargs="*", default=list(PARTS), help=f"CSV files: {', '.join(PARTS)}")
    parser.add_argument("--readme", action="store_true", help="write README.md too")
    options = parser.parse_args()
    for part in options.parts:
        pages.write("docs/coupled.md", __file__, PARTS[part](pd.read_csv(HERE / f"{part}.csv")))
    if options.readme:
        pages.write("README.md", __file__, readme(pd.read_csv(HERE / "scores.csv")))


if __name__ == "__main__":
    main()
