r"""Scores a frozen foundation model on simulated series whose law is known, beside it and a fit of its kind.

A known law's score is the least that any forecast can have; a fit knows the kind (and a season's period), and learns
the rest from the context by moments or least squares. What a model lacks shows here apart from any data set.

    python -m benchmarks.foundation.known_laws                     # prints
    python -m benchmarks.foundation.known_laws --write             # and writes known_laws.csv and the page's table
    python -m benchmarks.foundation.known_laws --model DIRECTORY   # another Chronos-Bolt model
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import torch
from torch import Tensor

from benchmarks import pages
from benchmarks.foundation.zero_shot import BUNDLED, CONTEXT, LEVELS, loaded, made_by, naive, predict, scores
from benchmarks.provenance import named

HORIZON, SERIES = 96, 1000
STEPS = CONTEXT + HORIZON
AHEAD = torch.arange(1, HORIZON + 1)
OUTPUT = Path(__file__).with_name("known_laws.csv")

# a process draws series (N, STEPS) and gives the deciles (N, 9, HORIZON) of its law and of a fit to the contexts
Process = Callable[[torch.Generator], tuple[Tensor, Tensor, Tensor]]


def normal(mean: Tensor, variance: Tensor) -> Tensor:
    r"""Returns the deciles of normal laws, with shape (N, 9, H), of means and variances that broadcast to (N, H)."""
    mean, variance = torch.broadcast_tensors(mean, variance)
    return mean.unsqueeze(1) + torch.special.ndtri(LEVELS).view(-1, 1) * variance.clamp(min=0).sqrt().unsqueeze(1)


def remembered(deviation: Tensor, memory: Tensor, variance: Tensor) -> tuple[Tensor, Tensor]:
    r"""Returns mean and variance of what an AR(1) makes of its last deviation; memory is the autocorrelation at 1."""
    return deviation * memory**AHEAD, variance * (1 - memory ** (2 * AHEAD))


def draw_ar(generator: torch.Generator, memory: float) -> tuple[Tensor, Tensor]:
    r"""Draws AR(1) series of unit variance whose autocorrelation falls by e in `memory` steps, and returns it at 1."""
    phi = torch.tensor(math.exp(-1 / memory))
    x = torch.randn(SERIES, STEPS, generator=generator)
    x[:, 1:] *= (1 - phi**2).sqrt()
    for t in range(1, STEPS):
        x[:, t] += phi * x[:, t - 1]
    return x, phi


def fit_ar(past: Tensor) -> tuple[Tensor, Tensor]:
    r"""Returns mean and variance of the future of contexts of mean 0, by an AR(1) fitted to each by moments."""
    variance = past.square().mean(-1, keepdim=True)
    phi = ((past[:, 1:] * past[:, :-1]).mean(-1, keepdim=True) / variance.clamp(min=1e-12)).clamp(0, 0.9999)
    return remembered(past[:, -1:], phi, variance)


def autoregressive(memory: float, period: int | None = None, amplitude: float = 1.0, exponent: float = 0.0) -> Process:
    r"""An AR(1), alone, about a sinusoid, or exponentiated."""

    def draw(generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
        x, phi = draw_ar(generator, memory)
        t = torch.arange(STEPS)
        basis, season = torch.ones(STEPS, 1), torch.zeros(1, STEPS)
        if period:
            phase = torch.rand(SERIES, 1, generator=generator)
            season = amplitude * math.sqrt(2) * torch.cos(2 * math.pi * (t / period + phase))
            angle = 2 * math.pi * t[:, None] / period
            basis = torch.cat([basis, angle.cos(), angle.sin()], dim=1)
        known, variance = remembered(x[:, CONTEXT - 1 : CONTEXT], phi, torch.ones(1))
        law = normal(known + season[:, CONTEXT:], variance)
        y = x + season
        fit = (basis @ torch.linalg.lstsq(basis[:CONTEXT], y[:, :CONTEXT].mT).solution).mT
        mean, variance = fit_ar(y[:, :CONTEXT] - fit[:, :CONTEXT])
        fitted = normal(fit[:, CONTEXT:] + mean, variance)
        if exponent:
            y, law, fitted = (exponent * y).exp(), (exponent * law).exp(), (exponent * fitted).exp()
        return y, law, fitted

    return draw


def white(generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
    r"""Independent standard normal values."""
    x = torch.randn(SERIES, STEPS, generator=generator)
    past, ones = x[:, :CONTEXT], torch.ones(HORIZON)
    law = normal(torch.zeros(SERIES, HORIZON), ones)
    return x, law, normal(past.mean(-1, keepdim=True), past.var(-1, keepdim=True) * ones)


def walk(generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
    r"""A normal random walk."""
    x = torch.randn(SERIES, STEPS, generator=generator).cumsum(-1)
    past = x[:, :CONTEXT]
    step = past.diff(dim=-1).square().mean(-1, keepdim=True)
    return x, normal(past[:, -1:], AHEAD.float()), normal(past[:, -1:], step * AHEAD)


def two_states(share: float, stay: float) -> Process:
    r"""A chain of the states 0 and 1: in 1 for `stay` steps on average, and at `share` of the steps."""

    def bernoulli(chance: Tensor) -> Tensor:
        return (LEVELS.view(-1, 1) > 1 - chance.unsqueeze(1)).float()

    def ahead(now: Tensor, on: Tensor, off: Tensor) -> Tensor:
        settled = on / (on + off)
        return settled + (now - settled) * (1 - on - off) ** AHEAD

    def draw(generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
        off = torch.tensor(1 / stay)
        on = off * share / (1 - share)
        dice = torch.rand(SERIES, STEPS, generator=generator)
        x = (dice < share).float()
        for t in range(1, STEPS):
            x[:, t] = torch.where(x[:, t - 1] > 0, dice[:, t] >= off, dice[:, t] < on).float()
        past = x[:, :CONTEXT]
        before, after = past[:, :-1], past[:, 1:]
        # half a change each way beside what was counted (Jeffreys' prior), so that a still context is no certainty
        came = ((1 - before) * after).sum(-1, keepdim=True) + 0.5
        went = (before * (1 - after)).sum(-1, keepdim=True) + 0.5
        fitted = ahead(
            past[:, -1:],
            came / ((1 - before).sum(-1, keepdim=True) + 1),
            went / (before.sum(-1, keepdim=True) + 1),
        )
        return x, bernoulli(ahead(past[:, -1:], on, off)), bernoulli(fitted)

    return draw


PROCESSES: dict[str, Process] = {
    "white noise": white,
    "random walk": walk,
    **{f"AR(1), memory {m}": autoregressive(m) for m in (6, 24, 48, 200)},
    **{f"exp AR(1), memory {m}": autoregressive(m, exponent=0.8) for m in (12, 48)},
    **{
        f"season {period}, AR(1) of memory {m}, {ratio:g} of its size": autoregressive(m, period, 1 / ratio)
        for period, m, ratio in (
            (24, 3, 0.5), (24, 12, 1), (24, 36, 2), (96, 12, 1), (96, 36, 2), (144, 12, 1), (144, 36, 0.5),
            (144, 36, 1), (144, 36, 2),
        )
    },
    **{f"two states, {p:.0%} in one, {stay} steps": two_states(p, stay) for p, stay in ((0.06, 5), (0.2, 40))},
}  # fmt: skip


def table(rows: pd.DataFrame) -> str:
    r"""Renders the rows as a Markdown table."""
    model, series, seed, torch_version, at = (
        pages.each(rows[x]) for x in ("model", "series", "seed", "torch", "commit")
    )
    lines = [
        f"| process | known law, WQL | {model} | fit of its kind | last value | 80 % coverage, {model} |",
        "|" + "---|" * 6,
    ]
    for row in rows.itertuples():
        more = " | ".join(f"{x / row.wql_known - 1:+.1%}" for x in (row.wql, row.wql_fit, row.wql_last))
        lines.append(f"| {row.process} | {row.wql_known:.4f} | {more} | {row.coverage_80:.3f} |")
    return "\n".join([*lines, "", f"{series} series a row; seed {seed}; torch {torch_version}; commit {at}."])


def main() -> None:
    r"""Reads the options, scores, prints and writes."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--model", type=Path, default=BUNDLED, help="a Chronos-Bolt directory")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--write", action="store_true", help="write the CSV and the page's table")
    options = parser.parse_args()
    if options.write and options.model != BUNDLED:
        parser.error("--write makes the page's table, which is of the bundled model: leave --model out")
    frozen = loaded(parser, options.model, HORIZON)
    rows, versions = [], made_by(options.model, options.seed)
    for number, (name, process) in enumerate(PROCESSES.items()):
        x, law, fitted = process(torch.Generator().manual_seed(1000 * options.seed + number))
        past, future = x[:, :CONTEXT], x[:, CONTEXT:]
        laws = {"": predict(frozen.model, past, HORIZON), "_known": law, "_fit": fitted}
        results = {label: scores(future, quantiles) for label, quantiles in laws.items()}
        rows.append({
            "process": name, "model": named(frozen), "series": SERIES,
            **{f"{key}{label}": result[key] for label, result in results.items() for key in ("wql", "mse_of_mean")},
            "wql_last": scores(future, naive(past, HORIZON, 1))["wql"], "coverage_80": results[""]["coverage_80"],
            **versions,
        })  # fmt: skip
    frame = pd.DataFrame(rows)
    print(table(frame))
    if options.write:
        frame.to_csv(OUTPUT, index=False, lineterminator="\n")
        pages.write("docs/foundation_models.md", __file__, {"known laws": table(pd.read_csv(OUTPUT))})


if __name__ == "__main__":
    main()
