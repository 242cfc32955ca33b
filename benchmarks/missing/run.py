r"""What missing values cost: 20 % of all cells at random, and each channel in turn wholly missing at predict.

    python -m benchmarks.missing.run [--set etth1 ...]

The default adapter is fitted on the rows before the test rows and scored at about 100 evenly strided origins of these,
always on the complete series. "Cells": a fifth of all cells, of all rows, is missing in fit and predict; beside it the
adapter that saw everything. "Channel": an adapter that was fitted on everything forecasts each channel without a value
of it in the context, as far back as the series goes; beside it the same forecast with the channel observed, and the
mean and spread of its train rows (a normal law, clipped to the channel's support). CRPS is twice the mean pinball loss
at 99 levels, in train standard deviations. One CSV row a set and kind.
"""

import argparse
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from adapts import Adapter
from adapts.evaluation.differences import difference_table
from adapts.evaluation.rolling import rolling_windows
from adapts.evaluation.scores import wql
from adapts.panel import Panel
from adapts.readers import Dataset, read
from adapts.windows import Windows
from benchmarks.provenance import provenance

HERE = Path(__file__).parent
SETS = ("etth1", "ettm1", "exchange_rate", "greensboro", "illness", "weather")
PREDICTION_LENGTH, ORIGINS, SEED, SHARE = 24, 100, 0, 0.2
LEVELS = torch.arange(1, 100) / 100


class Score:
    r"""The scores of margins, a cell each, in train standard deviations."""

    def __init__(self, quantiles: Tensor, truth: Tensor, scale: Tensor) -> None:
        quantiles, truth = quantiles / scale[:, None], truth / scale  # (n, H, D, 99), (n, H, D)
        low, high = quantiles[..., 9], quantiles[..., 89]
        self.crps = wql(quantiles, truth, LEVELS)
        inside = ((truth > low) & (truth < high)).double()
        # What lies on an end is inside as often as the law says: of atoms, half.
        inside = torch.where((truth == low) | (truth == high), 0.5, inside)
        self.coverage = torch.where(truth.isnan(), torch.nan, inside)
        self.width = high - low


def lacking(panel: Panel, missing: np.ndarray) -> Panel:
    r"""A panel of one item without some of its cells."""
    (item,) = panel.items
    return replace(panel, items=(replace(item, values=np.where(missing, np.nan, item.values)),))


def scored(adapter: Adapter, panel: Panel, windows: Windows, truth: Tensor) -> Score:
    law = adapter.law(replace(windows, panel=panel))
    return Score(law.marginals.at(LEVELS.double()), truth, torch.from_numpy(adapter.scale_))


def climate(adapter: Adapter, dataset: Dataset, truth: Tensor) -> Score:
    location, scale = torch.from_numpy(adapter.location_), torch.from_numpy(adapter.scale_)
    quantiles = location[:, None] + scale[:, None] * torch.special.ndtri(LEVELS.double())
    for number, name in enumerate(dataset.panel.targets):
        quantiles[number].clamp_(*dataset.support.get(name, (-np.inf, np.inf)))
    return Score(quantiles.expand(*truth.shape, -1), truth, scale)


def compared(scores: dict[str, Tensor], windows: Windows, against: str) -> dict[str, float]:
    r"""Mean CRPS by name, and the change of the first in percent of another's, with its 90 % interval."""
    first = next(iter(scores))
    cells = {name: {"crps": score} for name, score in scores.items()}
    found = difference_table(cells, windows, against=against, metrics=["crps"], seed=SEED)
    found = found.query("model == @first and channel == 'all'").iloc[0]
    mean = {name: float(score.nanmean((0, 1)).nanmean()) for name, score in scores.items()}
    change = {name: 100 * found[column] / mean[against] for name, column in
              (("change_percent", "difference"), ("low", "low"), ("high", "high"))}  # fmt: skip
    return {**{f"crps_{name}": value for name, value in mean.items()}, **change}


def measure(name: str) -> list[dict[str, object]]:
    dataset = read(name)
    panel, first = dataset.panel, dataset.borders[1]
    end = dataset.end or panel.lengths[0]
    panel = panel.rows([end])
    dataset = replace(dataset, panel=panel, end=None)
    adapter = Adapter(prediction_length=PREDICTION_LENGTH, seed=SEED).fit(dataset)
    stride = max(1, (end - first - PREDICTION_LENGTH) // ORIGINS)
    windows = rolling_windows(panel, first, None, stride, adapter.context_length_, PREDICTION_LENGTH)
    truth = windows.future(torch.float64)
    whole = scored(adapter, panel, windows, truth)
    shape = panel.items[0].values.shape
    about = {"set": name, "windows": len(windows), "stride": stride, "foundation_model": adapter.model.name,
             **provenance(panel, SEED)}  # fmt: skip

    holes = lacking(panel, np.random.default_rng(SEED).random(shape) < SHARE)
    again = Adapter(prediction_length=PREDICTION_LENGTH, seed=SEED).fit(replace(dataset, panel=holes))
    partly = scored(again, holes, windows, truth)
    crps = compared({"missing": partly.crps, "observed": whole.crps}, windows, "observed")
    rows = [{"kind": "cells", **crps, **summed("missing", partly), **summed("observed", whole), **about}]

    dark = [
        scored(adapter, lacking(panel, np.arange(shape[1]) == channel), windows, truth) for channel in range(shape[1])
    ]
    alone = Score.__new__(Score)  # of each channel the scores where it was missing
    for kind in ("crps", "coverage", "width"):
        setattr(alone, kind, torch.stack([getattr(each, kind)[..., n] for n, each in enumerate(dark)], -1))
    base = climate(adapter, dataset, truth)
    scores = {"missing": alone.crps, "observed": whole.crps, "climate": base.crps}
    rows.append({
        "kind": "channel", **compared(scores, windows, "climate"), **summed("missing", alone),
        **summed("observed", whole), **summed("climate", base),
        "worse_than_climate": int((alone.crps.nanmean((0, 1)) > base.crps.nanmean((0, 1))).sum()),
        "channels": shape[1], **about,
    })  # fmt: skip
    return rows


def summed(name: str, score: Score) -> dict[str, float]:
    return {
        f"{kind}_{name}": float(getattr(score, kind).nanmean((0, 1)).nanmean()) for kind in ("coverage", "width")
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--set", nargs="+", default=SETS, choices=SETS)
    path = HERE / "scores.csv"
    held = pd.read_csv(path) if path.exists() else pd.DataFrame(columns=["set", "kind"])
    for name in parser.parse_args().set:
        rows = measure(name)
        for row in rows:
            print({key: row[key] for key in list(row)[:14]}, flush=True)
        held = pd.concat([held[held["set"] != name], pd.DataFrame(rows)]).sort_values(["kind", "set"])
        held.to_csv(path, index=False)


if __name__ == "__main__":
    main()
