r"""Writes the tables of docs/joint_law.md from `scores.csv` and `simulated.csv`, between marks: no figure is typed.

python -m benchmarks.joint_law.table
"""

from pathlib import Path

import pandas as pd

from benchmarks import pages

HERE = Path(__file__).parent
JOINT = {
    "energy": "energy",
    "variogram_channels": "channel variogram",
    "variogram_time": "time variogram",
    "crps_sum": "channel sum",
    "crps_max": "maximum over leads",
}
MARGINS = {
    "crps": "CRPS",
    "coverage_80": "80 % coverage",
    "coverage_80_worst_block": "worst quarter of leads",
    "pit_ece": "PIT-ECE",
    "pit_ece_floor": "floor",
    "pit_ece_cell": "a lead, a season apart",
    "pit_ece_cell_floor": "floor",
}
BANDS = {"band_90_time": "all leads", "band_90_channels": "all channels", "band_90_all": "both"}


def grid(heads: list[str], rows: list[list[str]]) -> list[str]:
    lines = [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    return [*lines, *(f"| {' | '.join(row)} |" for row in rows)]


def number(value: float, digits: int) -> str:
    return "" if pd.isna(value) else f"{value:.{digits}f}"


def copulas(scores: pd.DataFrame) -> list[str]:
    skills = [f"{metric}_skill" for metric in JOINT]
    wide = scores[scores["metric"].isin(skills)].pivot_table(
        index=["job", "law"], columns="metric", values="value", sort=False
    )[skills]
    mean = wide.groupby("law", sort=False).mean()
    mean.index = pd.MultiIndex.from_product([["mean"], mean.index])
    wide = pd.concat([mean, wide])
    rows = [
        [job, law, *(number(value, 1) for value in row)]
        for (job, law), row in zip(wide.index, wide.to_numpy(), strict=True)
        if law != "independent"
    ]
    return grid(["data", "copula", *JOINT.values()], rows)


def over(scores: pd.DataFrame) -> list[str]:
    rows = []
    for job, some in scores.groupby("job", sort=False):
        cells = [job]
        for other in ("history", "schaake"):
            row = some[(some["law"] == "default") & (some["metric"] == f"variogram_channels_skill_over_{other}")].iloc[
                0
            ]
            cells.append(f"{row['value']:.2f} [{row['low']:.2f}, {row['high']:.2f}]")
        rows.append(cells)
    return grid(["data", "over `gaussian-history`", "over `schaake`"], rows)


def margins(scores: pd.DataFrame, metrics: dict[str, str]) -> list[str]:
    wide = scores[scores["metric"].isin(metrics)].pivot_table(
        index=["job", "law"], columns="metric", values="value", sort=False
    )[list(metrics)]
    rows = [
        [job, law, *(number(value, 3) for value in row)]
        for (job, law), row in zip(wide.index, wide.to_numpy(), strict=True)
    ]
    return grid(["data", "law", *metrics.values()], rows)


def bands(scores: pd.DataFrame) -> list[str]:
    rows = []
    some = scores[scores["metric"].isin(BANDS)]
    for (job, law), each in some.groupby(["job", "law"], sort=False):
        found = each.set_index("metric")
        cells = [
            f"{row['value']:.2f} [{row['low']:.2f}, {row['high']:.2f}]" for _, row in found.loc[[*BANDS]].iterrows()
        ]
        rows.append([job, law, *cells])
    mean = some.groupby(["law", "metric"], sort=False)["value"].mean().unstack()
    rows += [["mean", law, *(number(row[metric], 2) for metric in BANDS)] for law, row in mean.iterrows()]
    return grid(["data", "law", *BANDS.values()], rows)


def known(simulated: pd.DataFrame) -> list[str]:
    some = simulated[(simulated["what"] == "known law") & (simulated["law"] != "true law")]
    wide = some.pivot_table(index=["data", "law"], columns="metric", values="excess", sort=False)[[*JOINT]]
    rows = [
        [*index, *(f"{value:+.1f}" for value in row)] for index, row in zip(wide.index, wide.to_numpy(), strict=True)
    ]
    return grid(["process", "copula", *JOINT.values()], rows)


def updates(simulated: pd.DataFrame) -> list[str]:
    some = simulated[simulated["what"].isin(["shift", "long run"])]
    rows = []
    for (what, law), each in some.groupby(["what", "law"], sort=False):
        rows.append([what, law, str(len(each)), f"{each['value'].mean():.3f}", number(each["value"].std(), 3)])
    head = ["series", "adapter", "seeds", "80 % coverage", "standard deviation over seeds"]
    return [*grid(head, rows), "", about(some)]


def large(simulated: pd.DataFrame) -> list[str]:
    some = simulated[simulated["what"] == "large"].set_index("metric")
    first = some.iloc[0]
    return [f"{first['data']}: {some.loc['seconds', 'value']:.1f} s, {some.loc['peak_gb', 'value']:.1f} GB in all."]


def about(frame: pd.DataFrame) -> str:
    models, torch, commits = (pages.each(frame[name]) for name in ("foundation_model", "torch", "commit"))
    return f"{f'{models}; ' if models else ''}torch {torch}; commit {commits}."


def main() -> None:
    scores, simulated = (pd.read_csv(HERE / name) for name in ("scores.csv", "simulated.csv"))
    scores["job"] = scores["data"] + ", H = " + scores["prediction_length"].astype(str)
    origins = "; ".join(
        f"{job}: {some.iloc[0]['windows']} every {some.iloc[0]['stride']} rows"
        for job, some in scores.groupby("job", sort=False)
    )
    tables = {
        "copulas": [*copulas(scores), "", f"Windows: {origins}. {scores.iloc[0]['samples']} samples; {about(scores)}"],
        "over": over(scores),
        "margins": margins(scores, MARGINS),
        "bands": bands(scores),
        "known": [*known(simulated), "", about(simulated[simulated["what"] == "known law"])],
        "updates": updates(simulated),
        "large": large(simulated),
    }
    pages.write("docs/joint_law.md", __file__, {name: "\n".join(lines) for name, lines in tables.items()})


if __name__ == "__main__":
    main()
