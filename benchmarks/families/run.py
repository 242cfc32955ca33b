r"""Every family as it is trained, on channels that inform each other and on some that do not: scores and seconds.

    python -m benchmarks.families.run                               # all sets and families; goes on where it stood
    python -m benchmarks.families.run greensboro --family vae flow  # some of them

The protocol is that of `benchmarks.coupled.run`, with one seed and `gate=False`: scores are those of the family, not of
the frozen model that a closed gate leaves. Fits by gradients through the frozen model have a time limit, by the clock:
run this on an otherwise idle machine. `identity` is the frozen model with the same calibration.
"""

import argparse
from pathlib import Path

import pandas as pd

from adapts.foundation.cache import cached_forecasts
from adapts.registry import recipes
from benchmarks.coupled.run import BUDGET, resumed, score

HERE = Path(__file__).parent
SETS = ("greensboro", "beijing_pm25", "exchange_rate")
BASE, SEED, SECONDS = "identity", 0, 120.0
#: The families that gradients train through the frozen model.
THROUGH_MODEL = ("autoencoder", "dropout", "flow", "linear", "vae", "weave")


def trained(data: str, model: str, seed: int) -> pd.DataFrame:
    r"""The scores of a family without a gate."""
    limit = SECONDS if model in THROUGH_MODEL else None
    frame = score(data, model, seed, baselines=False, time_limit=limit, gate=False)
    return frame.assign(time_limit="" if limit is None else limit).drop(columns="gate")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("data", nargs="*", default=list(SETS), help="names of settings of benchmarks.coupled.run")
    parser.add_argument("--family", nargs="+", default=[BASE, *(name for name in recipes() if name != BASE)])
    parser.add_argument("--output", type=Path, default=HERE / "scores.csv")
    options = parser.parse_args()
    for data in options.data:
        jobs = [{"data": data, "model": family, "seed": SEED} for family in options.family]
        with cached_forecasts(BUDGET):
            resumed(options.output, jobs, trained)


if __name__ == "__main__":
    main()
