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
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from adapts import Adapter
from adapts.data.cards import Dataset, read
from adapts.data.panel import Panel
from adapts.data.windows import Windows
from adapts.evaluation.differences import difference_table
from adapts.evaluation.rolling import rolling_windows
from adapts.evaluation.scores import wql
from benchmarks.provenance import named, provenance

HERE = Path(__file__).parent
SETS = ("etth1", "ettm1", "exchange_rate", "greensboro", "illness", "weather")
PREDICTION_LENGTH, ORIGINS, SEED, SHARE = 24, 100, 0, 0.2
LEVELS = torch.arange(1, 100) / 100
KINDS = ("crps", "coverage", "width")


@dataclass(frozen=True)
class Score:
    r"""The scores of margins, a cell each, (n, H, D), in train standard deviations."""

    crps: Tensor
    coverage: Tensor
    width: Tensor

    @classmethod
    def of(cls, quantiles: Tensor, truth: Tensor, scale: Tensor) -> "Score":
        quantiles, truth = quantiles / scale[:, None], truth / scale  # (n, H, D, 99), (n, H, D)
        low, high = quantiles[..., 9], quantiles[..., 89]
        inside = ((truth > low) & (truth < high)).double()
        inside = torch.where((truth == low) | (truth == high), 0.5, inside)  # of an atom, half
        return cls(wql(quantiles, truth, LEVELS), torch.where(truth.isnan(), torch.nan, inside), high - low)

    @classmethod
    def diagonal(cls, scores: "list[Score]") -> "Score":
        r"""Of each channel the scores by the entry of its number."""
        parts = [[getattr(each, kind)[..., n] for n, each in enumerate(scores)] for kind in KINDS]
        return cls(*(torch.stack(part, -1) for part in parts))

    def means(self, name: str) -> dict[str, float]:
        return {f"{kind}_{name}": float(getattr(self, kind).nanmean((0, 1)).nanmean()) for kind in KINDS}


def lacking(panel: Panel, missing: np.ndarray) -> Panel:
    r"""A panel of one item without some of its cells."""
    (item,) = panel.items
    return replace(panel, items=(replace(item, values=np.where(missing, np.nan, item.values)),))


def scored(adapter: Adapter, panel: Panel, windows: Windows, truth: Tensor) -> Score:
    law = adapter.joint_distribution(replace(windows, panel=panel))
    return Score.of(law.marginals.at(LEVELS.double()), truth, torch.from_numpy(adapter.scale_))


def climate(adapter: Adapter, dataset: Dataset, truth: Tensor) -> Score:
    location, scale = torch.from_numpy(adapter.location_), torch.from_numpy(adapter.scale_)
    quantiles = location[:, None] + scale[:, None] * torch.special.ndtri(LEVELS.double())
    for number, name in enumerate(dataset.panel.targets):
        quantiles[number].clamp_(*dataset.support.get(name, (-np.inf, np.inf)))
    return Score.of(quantiles.expand(*truth.shape, -1), truth, scale)


def change(ours: Score, against: Score, windows: Windows) -> dict[str, float]:
    r"""The change of the mean CRPS over channels, in percent of another's, with its 90 % interval."""
    cells = {"ours": {"crps": ours.crps}, "against": {"crps": against.crps}}
    found = difference_table(cells, windows, against="against", metrics=["crps"])
    found = found.query("channel == 'all'").iloc[0]
    percent = 100 / against.means("")["crps_"]
    names = {"change_percent": "difference", "low": "low", "high": "high"}
    return {name: percent * float(found[column]) for name, column in names.items()}


def measure(name: str) -> list[dict[str, object]]:
    dataset = read(name)
    first, end = dataset.borders[1], dataset.end or dataset.panel.lengths[0]
    panel = dataset.panel.rows([end])
    dataset = replace(dataset, panel=panel, end=None)
    adapter = Adapter("residual", prediction_length=PREDICTION_LENGTH, seed=SEED).fit(dataset)
    stride = max(1, (end - first - PREDICTION_LENGTH) // ORIGINS)
    windows = rolling_windows(panel, first, None, stride, adapter.context_length_, PREDICTION_LENGTH)
    truth, (rows, channels) = windows.future(torch.float64), panel.items[0].values.shape
    observed = scored(adapter, panel, windows, truth)
    about = {"windows": len(windows), "stride": stride, "channels": channels, "foundation_model": named(adapter.model),
             **provenance(panel, SEED)}  # fmt: skip

    holes = lacking(panel, np.random.default_rng(SEED).random((rows, channels)) < SHARE)
    again = Adapter("residual", prediction_length=PREDICTION_LENGTH, seed=SEED).fit(replace(dataset, panel=holes))
    partly = scored(again, holes, windows, truth)

    each = [lacking(panel, np.arange(channels) == channel) for channel in range(channels)]
    dark = Score.diagonal([scored(adapter, one, windows, truth) for one in each])
    base = climate(adapter, dataset, truth)
    worse = int((dark.crps.nanmean((0, 1)) > base.crps.nanmean((0, 1))).sum())
    return [
        {"set": name, "kind": "cells", **partly.means("missing"), **observed.means("observed"),
         **change(partly, observed, windows), **about},
        {"set": name, "kind": "channel", **dark.means("missing"), **observed.means("observed"), **base.means("climate"),
         **change(dark, base, windows), "worse_than_climate": worse, **about},
    ]  # fmt: skip


def run(
    measure: Callable[[str], list[dict[str, object]]], sets: Sequence[str], path: Path, order: list[str], about: str
) -> None:
    r"""Measures the sets that the command line names, and writes the rows of each as they come."""
    parser = argparse.ArgumentParser(description=about)
    parser.add_argument("--set", nargs="+", default=sets, choices=sets)
    held = pd.read_csv(path) if path.exists() else pd.DataFrame(columns=order)
    for name in parser.parse_args().set:
        rows = measure(name)
        for row in rows:
            print({key: x for key, x in row.items() if not isinstance(x, str) or key in order}, flush=True)
        others = held[held["set"] != name]
        held = pd.concat([each for each in (others, pd.DataFrame(rows)) if len(each)]).sort_values(order)
        held.to_csv(path, index=False)


if __name__ == "__main__":
    run(measure, SETS, HERE / "scores.csv", ["kind", "set"], (__doc__ or "").splitlines()[0])
