r"""Prints the tables of `scores.csv`: no figure is typed by hand.

python -m benchmarks.joint_law.table
"""

from pathlib import Path

import pandas as pd

HERE = Path(__file__).parent
JOINT = {"energy": "energy", "variogram_channels": "channel variogram", "variogram_time": "time variogram",
         "crps_sum": "channel sum", "crps_max": "maximum over leads"}  # fmt: skip
MARGINS = {"crps": "CRPS", "coverage_80": "80 % coverage", "coverage_80_worst_block": "worst block of leads",
           "pit_ece": "PIT-ECE", "pit_ece_floor": "its floor"}  # fmt: skip
BANDS = ("band_90_time", "band_90_channels", "band_90_all")


def lines(frame: pd.DataFrame, columns: dict[str, str], digits: int) -> list[str]:
    out = ["| data | law | " + " | ".join(columns.values()) + " |", "|---" * (len(columns) + 2) + "|"]
    for (data, law), row in frame.iterrows():
        out.append(f"| {data} | {law} | " + " | ".join(f"{row[metric]:.{digits}f}" for metric in columns) + " |")
    return out


def main() -> None:
    scores = pd.read_csv(HERE / "scores.csv")
    scores["data"] = scores["data"] + "-" + scores["prediction_length"].astype(str)
    wide = scores.pivot_table(index=["data", "law"], columns="metric", values="value", sort=False)
    skills = {f"{metric}_skill": name for metric, name in JOINT.items()}
    joint = wide[list(skills)].dropna()
    joint = joint[joint.index.get_level_values("law") != "independent"]
    mean = joint.groupby("law", sort=False).mean()
    mean.index = pd.MultiIndex.from_product([["mean"], mean.index])
    print("Skill against independent draws, %:\n", *lines(pd.concat([joint, mean]), skills, 1), sep="\n")
    print("\nMargins:\n", *lines(wide[list(MARGINS)].dropna(), MARGINS, 3), sep="\n")
    print(
        "\nJoint 90 % bands:\n", *lines(wide[list(BANDS)].dropna(), dict(zip(BANDS, BANDS, strict=True)), 3), sep="\n"
    )
    over = scores[(scores.law == "residual") & scores.metric.str.startswith("variogram_channels_skill_over")]
    print("\nChannel variogram of the residual copula, skill over:\n")
    for row in over.itertuples():
        print(f"{row.data} {row.metric.rsplit('_')[-1]}: {row.value:.2f} [{row.low:.2f}, {row.high:.2f}]")
    first = scores.iloc[0]
    print(f"\n{first['samples']} samples; 90 % block-bootstrap intervals; commit {first['commit']}.")


if __name__ == "__main__":
    main()
