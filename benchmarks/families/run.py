r"""Every family on four data sets: scores beside the frozen model's, and what a fit costs.

    python -m benchmarks.families.run                        # all sets, families and seeds; goes on where it stood
    python -m benchmarks.families.run illness --family vae   # some of them

Test rows at rolling origins, nothing chosen on them. All families get the same windows, and those that gradients train
the same few epochs, so that the whole runs on a laptop: options of theirs that would do better are left to `tune`.
One CSV row a set, family, seed and metric, written as they come.
"""

import argparse
import time
from pathlib import Path

import pandas as pd

from adapts import Adapter
from adapts.data.cards import read
from adapts.evaluation.backtest import roll
from adapts.registry import recipes
from benchmarks.provenance import named, provenance

HERE = Path(__file__).parent
SETS = ("etth1", "illness", "exchange_rate", "weather")
PREDICTION_LENGTH, MAX_WINDOWS, EPOCHS, SEEDS, WINDOWS = 24, 200, 6, (0, 1, 2), 60
METRICS = ("mse", "crps", "pit_ece", "pit_ece_floor", "coverage_80")


def score(data: str, family: str, seed: int) -> pd.DataFrame:
    dataset = read(data)
    adapter = Adapter(
        family,
        prediction_length=PREDICTION_LENGTH,
        support=dataset.support or None,
        max_windows=MAX_WINDOWS,
        seed=seed,
        trainer_options={"max_epochs": EPOCHS, "enable_progress_bar": False},
    )
    before = dataset.borders[1]
    stride = (dataset.end - before - PREDICTION_LENGTH) // (WINDOWS - 1)
    begun = {}
    result = roll(
        adapter, dataset, stride=max(stride, 1), baselines=["frozen model"], seed=0,
        on_progress=lambda stage: begun.setdefault(stage, time.process_time()),
    )  # fmt: skip
    fit, scored, *_ = begun.values()
    frame = result.frame.query("channel == 'all' and lead_block == 'all'")
    frame = frame[frame["metric"].isin(METRICS)].drop(columns=["channel", "lead_block"])
    return frame.assign(
        data=data, family=family, prediction_length=PREDICTION_LENGTH, max_windows=MAX_WINDOWS, epochs=EPOCHS,
        windows=len(result.windows), stride=result.stride, fit_seconds=round(scored - fit, 2),
        gate=result.adapter.summary().stages.get("gate", ""),
        foundation_model=named(adapter.model),
        **provenance(dataset.panel, seed),
    )  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("data", nargs="*", default=list(SETS))
    parser.add_argument("--family", nargs="+", default=[name for name in recipes() if name != "identity"])
    parser.add_argument("--seed", nargs="+", type=int, default=list(SEEDS))
    parser.add_argument("--output", type=Path, default=HERE / "scores.csv")
    options = parser.parse_args()
    for seed in options.seed:
        for data in options.data:
            for family in options.family:
                old = pd.read_csv(options.output, dtype=str) if options.output.exists() else pd.DataFrame()
                if len(old) and ((old[["data", "family", "seed"]] == [data, family, str(seed)]).all(axis=1)).any():
                    continue
                frame = score(data, family, seed)
                pd.concat([old, frame.astype(str)]).to_csv(options.output, index=False)
                crps = frame[frame["metric"] == "crps"].set_index("model")["value"]
                print(
                    f"{data} {family} {seed}: CRPS {crps['adapter']:.4f} v. {crps['frozen model']:.4f}, "
                    f"{frame['fit_seconds'].iloc[0]} s; {frame['gate'].iloc[0]}", flush=True,
                )  # fmt: skip


if __name__ == "__main__":
    main()
