r"""Calibrated distributions beside conformal methods around the same frozen model: WQL and coverage.

    python -m benchmarks.uncertainty.run                                # all sets; goes on where it stood
    python -m benchmarks.uncertainty.run illness --model identity cqr   # some of them
    python -m benchmarks.uncertainty.run --quick                        # 15 minutes: two small sets, without `auto`

Everything sees the rows before the card's test border, targets only, and is scored on the same test windows. Their
stride is that of `benchmarks.coupled`, or a multiple for at most 100 windows. Conformal methods are calibrated on the
frozen model's forecasts of all earlier windows at that stride (`benchmarks.uncertainty.conformal`), online ones learn
from test windows too. "identity" and "auto" are fitted once. "identity, updated" has seen every row before an origin
(`Adapter.update`), as the online methods have. "not recalibrated" is the option `recalibration="none"`.

One CSV row a set, model, seed and metric. Scores with units are divided by the standard deviation of the rows before
the border. "coverage_error" is the mean distance of the coverage from its level over 20, 40, 60 and 80 %.
"""

import argparse
import math
from dataclasses import dataclass, replace
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from adapts import Adapter
from adapts.data.cards import Dataset, read
from adapts.data.item import Item
from adapts.data.panel import Panel
from adapts.data.windows import Windows
from adapts.evaluation import scores
from adapts.evaluation.rolling import rolling_windows
from adapts.foundation.cache import cached_forecasts
from adapts.statistics.bootstrap import lead_blocks
from benchmarks.coupled.run import BUDGET, SETTINGS, TRAINER, coverage_interval, resumed
from benchmarks.provenance import named, provenance
from benchmarks.uncertainty import conformal
from benchmarks.uncertainty.conformal import MOST_FORESTS, Forecasts

HERE = Path(__file__).parent
FROZEN = "frozen model"
PLAIN = ", not recalibrated"
UPDATED = "identity, updated"
MODELS = ("identity", FROZEN, *conformal.METHODS, UPDATED, f"identity{PLAIN}", "auto", f"auto{PLAIN}")
QUICK = ("illness", "exchange_rate")
SEED, SAMPLES, MOST_WINDOWS, LEAST_CALIBRATION = 0, 200, 100, 30
DECILES = torch.tensor(scores.DECILES, dtype=torch.float64)


@dataclass(frozen=True)
class Job:
    r"""A set, laid out.

    Arguments:
        dataset: The data set of its targets, without borders.
        border: The row of the first test target.
        windows: The test windows.
        past: The windows before them, at the same stride.
        scale: The standard deviation of each channel before the border, with shape (D,).
        support: The lowest and highest possible value of each channel, with shape (D,) each.
    """

    dataset: Dataset
    border: int
    windows: Windows
    past: Windows
    scale: np.ndarray
    support: tuple[np.ndarray, np.ndarray]


def stride_for(rows: int, horizon: int, stride: int, season: int | None, most: int = MOST_WINDOWS) -> int:
    r"""The smallest multiple of a stride, or a number after it, that leaves so many windows at most.

    It shares no factor with the season, so that windows begin at all its phases.
    """
    found = stride
    while (rows - horizon) // found + 1 > most:
        found += stride
    while found > 1 and math.gcd(found, season or 1) > 1:
        found += 1
    return found


def laid_out(name: str) -> Job:
    r"""The windows of a set. The last channels are left out where its setting says so."""
    setting, dataset = SETTINGS[name], read(name.split()[0])
    panel = dataset.panel.select(dataset.panel.targets)
    panel = panel.select(panel.channels[: setting.channels]).rows(dataset.end or len(dataset.panel.items[0]))
    horizon, length, border = setting.prediction_length, setting.context_length, dataset.borders[1]
    stride = stride_for(panel.lengths[0] - border, horizon, setting.stride, dataset.season_length)
    windows = rolling_windows(panel, [border], None, stride, length, horizon)
    # The last window of the past ends at the border; the first has a whole context.
    last = border - horizon
    origins = np.arange(last, length - 1, -stride)[::-1]
    past = Windows(panel, np.zeros(len(origins), dtype=int), origins, length, horizon)
    scale = np.nanstd(panel.items[0].values[:border], axis=0)
    bounds = [dataset.support.get(channel, (-np.inf, np.inf)) for channel in panel.channels]
    support = tuple(np.array(each, dtype=float) for each in zip(*bounds, strict=True))
    whole = replace(dataset, panel=panel, borders=None, end=None)
    return Job(whole, border, windows[np.argsort(windows.origin)], past, np.where(scale > 0, scale, 1.0), support)


# ---------------------------------------------------------------------------------------------------- scores


def decile_scores(deciles: Tensor, y: Tensor, scale: Tensor) -> dict[str, Tensor]:
    r"""Scores of cells by their deciles, with shape (n, H, D) each; NaN where the observation is missing.

    The ends of an interval count half, so that coverage is right in expectation where the distribution has an atom at
    an end, and neither all in nor all out.

    Arguments:
        deciles: The deciles, with shape (n, H, D, 9).
        y: The observed values, with shape (n, H, D).
        scale: The divisor of each channel, with shape (D,).
    """
    missing = y.isnan()
    found = {"wql": scores.wql(deciles, y) / scale, "mae": (deciles[..., 4] - y).abs() / scale}
    for outer, level in enumerate(conformal.LEVELS):
        low, high = deciles[..., outer], deciles[..., 8 - outer]
        inside = ((y > low) & (y < high)).double() + 0.5 * ((y == low) | (y == high)).double()
        found[f"coverage_{level:.0%}".rstrip("%")] = inside.masked_fill(missing, math.nan)
    low, high = deciles[..., 0], deciles[..., 8]
    found["width_80"] = ((high - low) / scale).masked_fill(missing, math.nan)
    found["interval_score_80"] = scores.interval_score(low, high, y, 0.8) / scale
    return found


def summary(cells: dict[str, Tensor], windows: Windows) -> dict[str, float]:
    r"""The mean scores over cells of a channel and then over channels, with what is made of them."""
    found = {name: float(x.nanmean((0, 1)).nanmean()) for name, x in cells.items()}
    levels = {level: found[f"coverage_{round(100 * level)}"] for level in conformal.LEVELS}
    found["coverage_error"] = float(np.mean([abs(share - level) for level, share in levels.items()]))
    blocks = lead_blocks(windows.prediction_length)
    shares = [float(cells["coverage_80"][:, blocks == each].nanmean()) for each in blocks.unique()]
    found["coverage_80_worst_block"] = min(shares)
    low, high = coverage_interval(cells["coverage_80"], windows)
    return found | {"coverage_80_low": low, "coverage_80_high": high}


# ---------------------------------------------------------------------------------------------------- models


def before(job: Job) -> Dataset:
    r"""The rows before the border."""
    return replace(job.dataset, panel=job.dataset.panel.rows(job.border))


def fitted(name: str, family: str, recalibration: str) -> Adapter:
    r"""An adapter fitted on the rows before the border."""
    job = laid_out(name)
    channels = job.dataset.panel.channels
    support = {channel: bounds for channel, bounds in job.dataset.support.items() if channel in channels}
    adapter = Adapter(
        family, prediction_length=job.windows.prediction_length, context_length=job.windows.context_length,
        recalibration=recalibration, support=support or None, seed=SEED, trainer_options=TRAINER,
    )  # fmt: skip
    return adapter.fit(before(job))


@lru_cache(maxsize=1)
def base(name: str) -> Adapter:
    r"""The adapter of the frozen model by itself."""
    return fitted(name, "identity", "auto")


def updated(name: str, job: Job) -> Tensor:
    r"""The deciles of test windows by the frozen model's adapter, which has seen all rows before each."""
    adapter, panel, parts = fitted(name, "identity", "auto"), job.dataset.panel, []
    item, first = panel.items[0], job.border
    for number, origin in enumerate(job.windows.origin.tolist()):
        if first < origin:
            rows = Item(item.item_id, item.values[first:origin], item.index[first:origin])
            adapter.update(replace(panel, items=(rows,)))
            first = origin
        window = replace(job.windows[[number]], context_length=adapter.context_length_)
        parts.append(adapter.joint_distribution(window).marginals.at(DECILES))
    return torch.cat(parts)


def zero_shot(adapter: Adapter, windows: Windows) -> Forecasts:
    r"""The frozen model's deciles of windows, with their outcomes."""
    deciles = adapter.zero_shot_distribution(windows).marginals.at(DECILES).double().numpy()
    return Forecasts(deciles, windows.future(torch.float64).numpy(), windows.origin)


def by_conformal(name: str, job: Job, method: str) -> Tensor:
    r"""The deciles of a conformal method. Channels are divided by their scale, as AgACI pools them."""
    past, test = (zero_shot(base(name), windows) for windows in (job.past, job.windows))
    if len(job.past) < LEAST_CALIBRATION:
        raise ValueError(f"expected {LEAST_CALIBRATION} calibration windows or more, got {len(job.past)}")
    past, test = (
        Forecasts(each.deciles / job.scale[:, None], each.future / job.scale, each.origin) for each in (past, test)
    )
    support = tuple(bound / job.scale for bound in job.support)
    return torch.from_numpy(conformal.calibrated(method, past, test, support) * job.scale[:, None])


def by_adapter(model: str, name: str, job: Job) -> tuple[Tensor, dict[str, Tensor]]:
    r"""The deciles of an adapter, and its CRPS of cells in units of the scale."""
    plain = model.endswith(PLAIN)
    family = model.removesuffix(PLAIN)
    adapter = base(name) if model == "identity" else fitted(name, family, "none" if plain else "auto")
    law = adapter.joint_distribution(replace(job.windows, context_length=adapter.context_length_))
    samples = law.sample(SAMPLES, torch.Generator().manual_seed(SEED), stratified=False)
    errors = scores.crps_fair(samples, job.windows.future(torch.float64)) / torch.from_numpy(job.scale)
    return law.marginals.at(DECILES), {"crps": errors}


def score(data: str, model: str, seed: int) -> pd.DataFrame:
    r"""The scores of a model on a set, as a frame with one row a metric."""
    job, extra = laid_out(data), {}
    y, scale = job.windows.future(torch.float64), torch.from_numpy(job.scale)
    if model == FROZEN:
        deciles = torch.from_numpy(zero_shot(base(data), job.windows).deciles)
    elif model == UPDATED:
        deciles = updated(data, job)
    elif model in conformal.METHODS:
        deciles = by_conformal(data, job, model)
    else:
        deciles, extra = by_adapter(model, data, job)
    found = summary(decile_scores(deciles.double(), y, scale), job.windows)
    found = {name: float(x.nanmean((0, 1)).nanmean()) for name, x in extra.items()} | found
    about = described(data, job) | {"package": packages(model)}
    return pd.DataFrame({"metric": list(found), "value": list(found.values())}).assign(data=data, model=model, **about)


def described(data: str, job: Job) -> dict[str, Any]:
    r"""What each row of a set says of it."""
    panel: Panel = job.dataset.panel
    return {
        "prediction_length": job.windows.prediction_length, "context_length": job.windows.context_length,
        "channels": panel.num_channels, "windows": len(job.windows), "calibration_windows": len(job.past),
        "stride": int(np.diff(job.windows.origin[:2])[0]), "foundation_model": named(base(data).model),
        **provenance(panel, SEED),
    }  # fmt: skip


def packages(model: str) -> str:
    r"""The packages that a model is of besides adapts, with their versions."""
    if model not in conformal.METHODS:
        return ""
    names = ["conformalforecast", *(["quantile-forest"] if model == "spci" else [])]
    return ", ".join(f"{name} {version(name)}" for name in names)


def affordable(name: str, model: str) -> bool:
    r"""Whether a model is run on a set: SPCI fits a forest for each channel and lead."""
    if model != "spci":
        return True
    job = laid_out(name)
    return job.dataset.panel.num_channels * job.windows.prediction_length <= MOST_FORESTS


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("data", nargs="*", default=list(SETTINGS), help="names of settings")
    parser.add_argument("--model", nargs="+", default=list(MODELS))
    parser.add_argument("--quick", action="store_true", help="two small sets, without auto")
    parser.add_argument("--output", type=Path, default=HERE / "scores.csv")
    options = parser.parse_args()
    models = [model for model in options.model if not (options.quick and model.startswith("auto"))]
    for data in QUICK if options.quick else options.data:
        wanted = [model for model in models if affordable(data, model)]
        with cached_forecasts(BUDGET):
            jobs = [{"data": data, "model": model, "seed": SEED} for model in wanted]
            resumed(options.output, jobs, score, metric="wql")


if __name__ == "__main__":
    main()
