r"""Which copulas earn their lines: each on every data set and on laws that are known, and the choice among fewer.

    python -m benchmarks.joint_law.ablation                   # all sets that ADAPTS_DATA names, and the known laws
    python -m benchmarks.joint_law.ablation greensboro-24

The frozen model's margins on test windows; a copula only ranks their samples. All are fitted on the errors of train,
validation and calibration windows; `choice` is the one that `choose_copula` picks on confirmation windows, and `choice
without X` the one that it picks where X is no candidate. One CSV row a job, copula and score.
"""

import argparse
import os
from collections.abc import Iterator
from pathlib import Path
from time import perf_counter

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from adapts import Panel
from adapts.copulas.base import Copula
from adapts.copulas.gaussian import fit_gaussian, fit_history
from adapts.copulas.independent import Independent
from adapts.copulas.rank import fit_empirical, fit_schaake
from adapts.copulas.selection import choose_copula
from adapts.data.cards import read
from adapts.data.times import Times
from adapts.distribution.quantile_function import QuantileFunction
from adapts.foundation import load_foundation_model
from adapts.statistics.bootstrap import effective_sample_size
from benchmarks.joint_law.run import JOINT, SEED, laid_out, reranked
from benchmarks.joint_law.simulated import CHANNELS, FIT, HORIZON, KEPT, processes, times, windows
from benchmarks.provenance import named, provenance

HERE = Path(__file__).parent
CARDS = (
    ("etth1", 24), ("etth1", 96), ("ettm1", 96), ("weather", 96), ("exchange_rate", 24), ("illness", 24),
    ("greensboro", 24),
)  # fmt: skip
TEST_WINDOWS = 130
CHOSEN = ("independent", "kronecker", "empirical")  # what the default chooses among, the simplest first


def further() -> dict[str, tuple[pd.DataFrame, int, tuple[int, int], tuple[float, float]]]:
    r"""The sets without a card: their frame, horizon, borders and bounds."""
    folder = Path(os.environ["ADAPTS_DATA"])
    beijing = pd.read_csv(folder / "BeijingPM25.csv", index_col=0, parse_dates=True)
    roads = pd.read_csv(folder / "LosLoop.csv", index_col=0, parse_dates=True).iloc[:, ::6]
    bikes = pd.read_csv(folder / "BikeSharing.csv")
    dates = pd.to_datetime(bikes["dteday"], format="%m/%d/%Y") + pd.to_timedelta(bikes["hr"], unit="h")
    bikes = bikes[["casual", "registered"]].set_index(dates).asfreq("h")
    return {
        "beijing_pm25": (beijing, 24, (24544, 28052), (0, np.inf)),
        "los_loop": (roads, 12, (1411, 1612), (0, np.inf)),
        "bike_sharing": (bikes, 24, (int(0.7 * len(bikes)), int(0.8 * len(bikes))), (0, np.inf)),
    }


def copulas(early: Tensor, time: Times, history: Tensor | None, horizon: int) -> dict[str, Copula]:
    r"""All copulas, fitted on PITs (n, H, D) of earlier windows and on the train rows."""
    channels = early.shape[2]
    found: dict[str, Copula] = {"independent": Independent(horizon, channels)}
    if history is not None:
        found |= {"gaussian-history": fit_history(history, horizon), "schaake": fit_schaake(history, horizon)}
    return found | {
        "kronecker": fit_gaussian(early, effective_sample_size(time, horizon)),
        "empirical": fit_empirical(early),
    }


def scored(
    about: dict[str, object], found: dict[str, Copula], kept: Tensor, law: QuantileFunction, future: Tensor
) -> Iterator[dict[str, object]]:
    r"""The five scores of each copula, and of the choices among them, in % below independence."""
    choices = {"choice": CHOSEN, **{f"choice without {out}": [x for x in CHOSEN if x != out] for out in CHOSEN[1:]}}
    picked = {label: choose_copula({name: found[name] for name in names}, kept)[0] for label, names in choices.items()}
    values = {name: reranked(copula, law, future).nanmean(0) for name, copula in found.items()}
    for label, each in [*((name, name) for name in found), *picked.items()]:
        for number, metric in enumerate(JOINT):
            gain = 1 - float(values[each][number] / values["independent"][number])
            yield {**about, "copula": label, "is": each, "metric": metric, "skill": 100 * gain}


def real(name: str, horizon: int) -> Iterator[dict[str, object]]:
    model = load_foundation_model("bolt-nano")
    if name in (sets := {} if (name, horizon) in CARDS else further()):
        frame, _, borders, bound = sets[name]
        panel = Panel.of(frame)
        bounds = [bound] * panel.num_channels
    else:
        dataset = read(name)
        panel = dataset.panel if dataset.end is None else dataset.panel.rows(dataset.end)
        borders = dataset.borders
        bounds = [dataset.support.get(channel, (-np.inf, np.inf)) for channel in panel.channels]
    _, train, _, _, laid, pipeline = laid_out(panel, borders, bounds, model, horizon, TEST_WINDOWS)
    laws = {part: pipeline.zero_shot(each) for part, each in laid.items() if len(each)}
    pits = {part: law.pit(laid[part].future(), torch.Generator().manual_seed(SEED)) for part, law in laws.items()}
    early = [part for part in ("train", "validation", "calibration") if part in pits]
    time = Times.joined([laid[part].time for part in early])
    found = copulas(torch.cat([pits[part] for part in early]), time, train, horizon)
    about = {"data": name, "prediction_length": horizon, "windows": len(laid["test"]), "foundation_model": named(model)}
    about |= provenance(panel, SEED)
    yield from scored(about, found, pits["confirmation"], laws["test"], laid["test"].future())


def known() -> Iterator[dict[str, object]]:
    from adapts.distribution.levels import LEVELS

    for name, (start, step) in processes().items():
        values, _, outcome = (torch.stack(each) for each in zip(*windows(start, step), strict=True))
        margins = QuantileFunction(LEVELS, values)
        pits = margins.pit(outcome, torch.Generator().manual_seed(0))
        found = copulas(pits[:FIT], times(FIT, HORIZON), None, HORIZON)
        about = {"data": name, "prediction_length": HORIZON, "windows": len(pits) - FIT - KEPT, "foundation_model": ""}
        about |= provenance(Panel.of(outcome.flatten(0, 1).double().numpy()), 0)
        assert outcome.shape[2] == CHANNELS
        yield from scored(about, found, pits[FIT : FIT + KEPT], margins[FIT + KEPT :], outcome[FIT + KEPT :])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("jobs", nargs="*", help="NAME-HORIZON, or known; all by default")
    parser.add_argument("--output", type=Path, default=HERE / "ablation.csv")
    asked = parser.parse_args()
    everything = [f"{name}-{horizon}" for name, horizon in CARDS]
    everything += [f"{name}-{horizon}" for name, (_, horizon, *_) in further().items()]
    rows: list[dict[str, object]] = []
    for job in asked.jobs or [*everything, "known"]:
        began = perf_counter()
        name, _, horizon = job.rpartition("-")
        rows += list(known() if job == "known" else real(name, int(horizon)))
        pd.DataFrame(rows).to_csv(asked.output, index=False)
        print(f"{job}: {perf_counter() - began:.0f} s", flush=True)


if __name__ == "__main__":
    main()
