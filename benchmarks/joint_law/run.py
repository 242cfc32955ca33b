r"""Dependence and calibration of the joint law: same margins, only the copula differs; and the margins by themselves.

    python -m benchmarks.joint_law.run                        # all six jobs, 130 origins each
    python -m benchmarks.joint_law.run etth1-24 --origins 200

The frozen model on rolling origins over the test rows. Whatever is fitted sees earlier rows only, but for the ceiling,
whose copula is fitted on the test errors themselves. `default` is what `Adapter("identity")` chose on the rows before
the test rows, `updated` the same adapter when `update` has seen every row before the origin. One CSV row a job, law and
metric.
"""

import argparse
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from adapts import Adapter
from adapts.adapters.identity import Identity
from adapts.copulas.base import Copula
from adapts.copulas.gaussian import fit_gaussian, fit_history
from adapts.copulas.independent import Independent
from adapts.copulas.rank import fit_empirical, fit_schaake
from adapts.data.cards import read
from adapts.data.item import Item
from adapts.data.panel import Panel
from adapts.data.splits import Split, split_panel
from adapts.data.times import Times
from adapts.data.windows import Windows, split_windows
from adapts.distribution.quantile_function import QuantileFunction
from adapts.evaluation import scores
from adapts.foundation import FoundationModel, load_foundation_model
from adapts.prediction.marginals import MarginalPredictor
from adapts.statistics.bootstrap import block_scheme, effective_sample_size, lead_blocks, student_t_quantile
from benchmarks.provenance import named, provenance

HERE = Path(__file__).parent
JOBS = (("etth1", 24), ("etth1", 96), ("weather", 96), ("exchange_rate", 24), ("illness", 24), ("greensboro", 24))
SAMPLES, SEED = 200, 0
FIT_WINDOWS = 300  # a part
JOINT = ("energy", "variogram_channels", "variogram_time", "crps_sum", "crps_max")
BATCH = 8


def joint_scores(samples: Tensor, y: Tensor) -> Tensor:
    r"""The five scores of windows, (n, 5), of samples (S, n, H, D)."""
    by_lead = scores.variogram_score(samples.flatten(1, 2), y.flatten(0, 1)).view(len(y), -1)
    by_channel = scores.variogram_score(samples.mT.flatten(1, 2), y.mT.flatten(0, 1)).view(len(y), -1)
    seen = y.nan_to_num(-torch.inf)
    columns = [
        scores.energy_score(samples.flatten(2), y.flatten(1)),
        by_lead.nanmean(1),
        by_channel.nanmean(1),
        scores.crps_fair(samples.sum(-1), y.sum(-1)).nanmean(1),
        scores.crps_fair(samples.amax(2), seen.amax(1).where(~y.isnan().any(1), torch.nan)).nanmean(1),
    ]
    return torch.stack(columns, 1)


def reranked(copula: Copula, margins: QuantileFunction, future: Tensor) -> Tensor:
    r"""The five scores of each window, (n, 5): every copula ranks the very same samples."""
    parts = []
    for start in range(0, len(future), BATCH):
        law, y = margins[start : start + BATCH], future[start : start + BATCH]
        generator = torch.Generator().manual_seed(SEED + start)
        levels = Independent(*law.shape[1:]).uniforms(SAMPLES, generator, windows=len(y))
        sorted_samples = law(levels.to(law.values)).sort(0).values
        ranks = copula.uniforms(SAMPLES, generator, windows=len(y)).argsort(0).argsort(0)
        parts.append(joint_scores(sorted_samples.gather(0, ranks), y))
    return torch.cat(parts)


def marginal_scores(law: QuantileFunction, future: Tensor, time: Times, scale: Tensor) -> dict[str, float]:
    r"""The scores of margins in the channels' own units, where bounds are what they are."""
    pits = law.pit(future, torch.Generator().manual_seed(SEED))
    covered = scores.coverage(pits)
    found = {
        "crps": float((2 * scores.pinball(law.at(_LEVELS), future, _LEVELS).mean(-1) / scale).nanmean()),
        "coverage_80": float(covered.nanmean()),
        "pit_ece": float(scores.pit_ece(pits.flatten(0, 1)).nanmean()),
        "pit_ece_floor": float(scores.pit_ece_floor(pits, time).nanmean()),
    }
    blocks = lead_blocks(future.shape[1])
    found["coverage_80_worst_block"] = min(float(covered[:, blocks == each].nanmean()) for each in blocks.unique())
    return found


_LEVELS = (torch.arange(99) + 1) / 100


def laid_out(
    panel: Panel,
    borders: tuple[int, int],
    bounds: list[tuple[float, float]],
    model: FoundationModel,
    horizon: int,
    origins: int,
) -> tuple[dict[str, Split], Tensor, Tensor, int, dict[str, Windows], MarginalPredictor]:
    r"""The parts, the train rows and their deviations, the stride of test windows, all windows and the way to laws."""
    parts = split_panel(panel, borders=borders)
    train = torch.as_tensor(panel.items[0].values[slice(*parts["train"].ranges[0])])
    location, scale = train.nanmean(0), (train - train.nanmean(0)).square().nanmean(0).sqrt()
    scale = torch.where(scale > 0, scale, 1.0)
    standard = panel.standardised(location.numpy(), scale.numpy())
    support = tuple(
        ((torch.tensor(each, dtype=torch.float64) - location) / scale).float() for each in zip(*bounds, strict=True)
    )
    parts["test"] = Split("test", tuple((borders[1], stop) for stop in panel.lengths))
    stride = max(1, (panel.lengths[0] - borders[1] - horizon) // origins)
    windows = {
        part: split_windows(
            standard, parts[part], context_length=model.context_length, prediction_length=horizon,
            max_windows=10**6 if part == "test" else FIT_WINDOWS, stride=stride if part == "test" else 1,
        )
        for part in parts
    }  # fmt: skip
    pipeline = MarginalPredictor(Identity().build(panel.num_channels), model, support, 64, SEED)
    return parts, train, scale, stride, windows, pipeline


def rows(name: str, horizon: int, origins: int) -> Iterator[dict[str, object]]:
    dataset, model = read(name), load_foundation_model("bolt-nano")
    panel = dataset.panel if dataset.end is None else dataset.panel.rows(dataset.end)
    bounds = [dataset.support.get(channel, (-np.inf, np.inf)) for channel in panel.channels]
    parts, train, scale, stride, windows, pipeline = laid_out(panel, dataset.borders, bounds, model, horizon, origins)
    laws = {part: pipeline.zero_shot(each) for part, each in windows.items()}
    futures = {part: each.future() for part, each in windows.items()}
    pits = {part: laws[part].pit(futures[part], torch.Generator().manual_seed(SEED)) for part in parts}
    about = {"data": name, "prediction_length": horizon, "stride": stride, "windows": len(windows["test"]),
             "samples": SAMPLES, "foundation_model": named(model), **provenance(panel, SEED)}  # fmt: skip

    # --- margins
    borders = dataset.borders[1]
    before = replace(dataset, panel=panel.rows(borders), end=None)
    adapter = Adapter("identity", foundation_model=model, prediction_length=horizon, seed=SEED).fit(before)
    raw = Windows(panel, windows["test"].item, windows["test"].origin, model.context_length, horizon)
    truth = raw.future(torch.float64)
    default = adapter.joint_distribution(raw)
    chosen, bands = adapter.fitted_.copula, {"default": [adapter.fitted_.joint_bands] * len(raw)}
    latest, bands["updated"] = [], []
    for number, origin in enumerate(raw.origin):
        new = slice(int(raw.origin[number - 1]) if number else borders, int(origin))
        if new.start < new.stop:
            rows_since = Item(panel.items[0].item_id, panel.items[0].values[new], panel.items[0].index[new])
            adapter.update(replace(panel, items=(rows_since,)))
        latest.append(adapter.joint_distribution(raw[[number]]))
        bands["updated"].append(adapter.fitted_.joint_bands)
    margins = {
        "frozen model": adapter.zero_shot_distribution(raw).marginals,
        "default": default.marginals,
        "updated": QuantileFunction(
            _LEVELS, torch.cat([each.marginals.at(_LEVELS) for each in latest]), default.marginals.support
        ),
    }
    season = dataset.season_length or 1
    apart = split_windows(panel, parts["test"], context_length=model.context_length, prediction_length=horizon,
                         max_windows=10**6, stride=season)  # fmt: skip
    first = Adapter("identity", foundation_model=model, prediction_length=horizon, seed=SEED).fit(before)
    for law, each in (
        ("frozen model", first.zero_shot_distribution(apart)),
        ("default", first.joint_distribution(apart)),
    ):
        pit = each.marginals.pit(apart.future(torch.float64), torch.Generator().manual_seed(SEED))
        cells = [(scores.pit_ece(pit[:, lead]), scores.pit_ece_floor(pit[:, [lead]], apart.time, last_lead=lead + 1))
                 for lead in range(horizon)]  # fmt: skip
        for metric, values in zip(("pit_ece_cell", "pit_ece_cell_floor"), zip(*cells, strict=True), strict=True):
            yield {**about, "law": law, "metric": metric, "value": float(torch.stack(values).nanmean())}
    for law, each in margins.items():
        for metric, value in marginal_scores(each, truth, raw.time, scale).items():
            yield {**about, "law": law, "metric": metric, "value": value}

    # --- dependence
    early = ("train", "validation", "calibration")
    known = torch.cat([pits[part] for part in early])
    time = Times.joined([windows[part].time for part in early])
    worth = effective_sample_size(time, horizon)
    history = fit_history(train, horizon)
    copulas: dict[str, Copula] = {
        "independent": Independent(horizon, panel.num_channels),
        "gaussian-history": history,
        "schaake": fit_schaake(train, horizon),
        "empirical": fit_empirical(known),
        "kronecker": fit_gaussian(known, worth),
        "default": chosen,
        "ceiling": fit_gaussian(pits["test"], effective_sample_size(windows["test"].time, horizon)),
    }
    values = {copula: reranked(each, laws["test"], futures["test"]) for copula, each in copulas.items()}
    base = values["independent"].nanmean(0)
    clock = block_scheme(windows["test"].time, horizon)
    sure = student_t_quantile(0.95, clock.degrees_of_freedom)
    for copula, found in values.items():
        for number, metric in enumerate(JOINT):
            against = {
                "": values["independent"],
                "_over_history": values["gaussian-history"],
                "_over_schaake": values["schaake"],
            }
            yield {**about, "law": copula, "metric": metric, "value": float(found[:, number].nanmean())}
            for label, other in against.items():
                gain = (other - found)[:, number, None] / base[number]
                mean, half = float(gain.nanmean()), sure * float(clock.errors(gain).square().mean().sqrt())
                yield {**about, "law": copula, "metric": f"{metric}_skill{label}", "value": 100 * mean,
                       "low": 100 * (mean - half), "high": 100 * (mean + half)}  # fmt: skip

    # --- joint bands
    told = {"default": [default[number] for number in range(len(raw))], "updated": latest}
    slack = 1e-6 * scale  # what stands on a bound of the support lies within
    for law, mine in bands.items():
        for joint, axes in (("time", (1,)), ("channels", (2,)), ("all", (1, 2))):
            shares = []
            for band, each, y in zip(mine, told[law], truth, strict=True):
                low, high = band.band(each, 0.9, joint, torch.Generator().manual_seed(SEED))  # (1, H, D)
                outside = (
                    ((y < low - slack) | (y > high + slack)).double().amax(axes)
                )  # of a whole path: (1), (1, D) or (1, H)
                shares.append(1 - outside.mean())
            share = torch.stack(shares).unsqueeze(1)
            mean, half = float(share.mean()), sure * float(clock.errors(share).square().mean().sqrt())
            yield {**about, "law": law, "metric": f"band_90_{joint}", "value": mean, "low": mean - half,
                   "high": mean + half}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("jobs", nargs="*", help="such as etth1-24; all if none")
    parser.add_argument("--origins", type=int, default=130)
    options = parser.parse_args()
    torch.set_num_threads(1)
    for name, horizon in JOBS:
        job = f"{name}-{horizon}"
        if options.jobs and job not in options.jobs:
            continue
        frame, path = pd.DataFrame(rows(name, horizon, options.origins)), HERE / "scores.csv"
        if path.exists():
            old = pd.read_csv(path)
            frame = pd.concat([old[(old["data"] != name) | (old["prediction_length"] != horizon)], frame])
        frame.to_csv(path, index=False, float_format="%.6g")
        print(job, "written", flush=True)


if __name__ == "__main__":
    main()
