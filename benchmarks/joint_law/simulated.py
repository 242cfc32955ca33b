r"""The joint law where the truth is known, under a shift, and large: what real data cannot tell.

    python -m benchmarks.joint_law.simulated

*Laws*: series of four processes; each window's margins are those of the true law given its past, the copula is fitted
on the errors of earlier windows, as the default does; beside it, draws from the true joint law, on the same windows.
*Shift*: level, scale and dependence change on 20 series; the adapter is updated every 12 rows, beside one that is not.
*Long run*: 5,000 rows of one series whose volatility wanders. *Large*: 1,000 joint samples of 321 channels over 96
leads.
"""

import argparse
import math
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from adapts import Adapter, Panel
from adapts.copulas.base import Copula
from adapts.copulas.gaussian import fit_gaussian
from adapts.copulas.independent import Independent
from adapts.copulas.rank import fit_empirical
from adapts.copulas.selection import choose_copula
from adapts.data.times import Times
from adapts.distribution.joint import JointDistribution
from adapts.distribution.levels import LEVELS
from adapts.distribution.quantile_function import QuantileFunction
from adapts.foundation import FoundationModel, load_foundation_model
from adapts.statistics.bootstrap import effective_sample_size
from benchmarks import memory
from benchmarks.joint_law.run import JOINT, joint_scores
from benchmarks.provenance import named, provenance

HERE = Path(__file__).parent
CHANNELS, HORIZON, SAMPLES, DRAWS = 6, 12, 200, 2000
FIT, KEPT, TEST = 400, 60, 300  # windows that the copula is fitted on, chosen on, and scored on
Step = Callable[[tuple[Tensor, ...], torch.Generator], tuple[tuple[Tensor, ...], Tensor]]

# ---------------------------------------------------------------------------------------------------- known laws


def processes() -> dict[str, tuple[tuple[Tensor, ...], Step]]:
    r"""The start, and the step from a state (its first axis: paths) to the next one and its row (paths, D)."""
    generator = torch.Generator().manual_seed(1)
    matrix = torch.randn(CHANNELS, CHANNELS, generator=generator)
    near = 0.7 * torch.eye(CHANNELS) + 0.12 * matrix / math.sqrt(CHANNELS)
    loadings = torch.randn(CHANNELS, 2, generator=generator)
    correlation = 0.6 * torch.ones(CHANNELS, CHANNELS) + 0.4 * torch.eye(CHANNELS)
    root = torch.linalg.cholesky(correlation)
    zero = torch.zeros(1, CHANNELS)

    def noise(paths: int, generator: torch.Generator, width: int = CHANNELS) -> Tensor:
        return torch.randn(paths, width, generator=generator)

    def var(state: tuple[Tensor, ...], generator: torch.Generator) -> tuple[tuple[Tensor, ...], Tensor]:
        x = state[0] @ near.T + noise(len(state[0]), generator) @ root.T
        return (x,), x

    def factors(state: tuple[Tensor, ...], generator: torch.Generator) -> tuple[tuple[Tensor, ...], Tensor]:
        shocks = noise(len(state[0]), generator, 2) @ loadings.T + 0.5 * noise(len(state[0]), generator)
        x = 0.8 * state[0] + shocks
        return (x,), x

    def garch(state: tuple[Tensor, ...], generator: torch.Generator) -> tuple[tuple[Tensor, ...], Tensor]:
        variance = 0.05 + 0.15 * state[0].square() + 0.8 * state[1]
        x = variance.sqrt() * (noise(len(variance), generator) @ root.T)
        return (x, variance), x

    def student(state: tuple[Tensor, ...], generator: torch.Generator) -> tuple[tuple[Tensor, ...], Tensor]:
        normal = noise(len(state[0]), generator) @ root.T
        chi = noise(len(normal), generator, 4).square().mean(-1, keepdim=True)  # four degrees of freedom, shared
        x = 0.6 * state[0] + normal / chi.sqrt()
        return (x,), x

    return {
        "VAR(1)": ((zero,), var),
        "factor model": ((zero,), factors),
        "GARCH": ((zero, zero + 1), garch),
        "Student copula": ((zero,), student),
    }


def windows(start: tuple[Tensor, ...], step: Step) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    r"""The true law's margins, draws and outcome of successive windows, each from the state at its origin."""
    generator = torch.Generator().manual_seed(0)
    state = start
    for _ in range(100):
        state, _ = step(state, generator)
    for _ in range(FIT + KEPT + TEST):
        ahead, paths = tuple(x.expand(DRAWS, -1) for x in state), []
        for _ in range(HORIZON):
            ahead, row = step(ahead, generator)
            paths.append(row)
        outcome = []
        for _ in range(HORIZON):
            state, row = step(state, generator)
            outcome.append(row[0])
        drawn = torch.stack(paths, 1)  # (S, H, D)
        yield QuantileFunction.from_samples(drawn, LEVELS).values, drawn[:SAMPLES], torch.stack(outcome)


def times(windows: int, horizon: int) -> Times:
    r"""When successive windows of one series begin."""
    rows = np.arange(windows) * horizon
    return Times(Panel.of(np.zeros((len(rows) * horizon, 1))), 0 * rows, rows)


def default_copula(pits: Tensor, kept: Tensor) -> Copula:
    r"""The candidates and the choice of `copula="residual"`."""
    begin = times(len(pits), HORIZON)
    candidates = {
        "independent": Independent(HORIZON, CHANNELS),
        "kronecker": fit_gaussian(pits, effective_sample_size(begin, HORIZON)),
        "empirical": fit_empirical(pits),
    }
    return candidates[choose_copula(candidates, kept)[0]]


def known(name: str, start: tuple[Tensor, ...], step: Step) -> Iterator[dict[str, object]]:
    values, draws, outcome = (torch.stack(each) for each in zip(*windows(start, step), strict=True))
    margins = QuantileFunction(LEVELS, values)
    pits = margins.pit(outcome, torch.Generator().manual_seed(0))
    copula = default_copula(pits[:FIT], pits[FIT : FIT + KEPT])
    test = slice(FIT + KEPT, None)
    generator = torch.Generator().manual_seed(0)
    laws = {
        "true law": draws[test].transpose(0, 1),
        "default": JointDistribution(margins[test], copula).sample(SAMPLES, generator, stratified=False),
        "independent": JointDistribution(margins[test], Independent(HORIZON, CHANNELS)).sample(
            SAMPLES, generator, stratified=False
        ),
    }
    about = {"what": "known law", "data": name, **provenance(Panel.of(outcome.flatten(0, 1).double().numpy()), 0)}
    found = {law: joint_scores(samples, outcome[test]).nanmean(0) for law, samples in laws.items()}
    for law, each in found.items():
        for metric, value, best in zip(JOINT, each.tolist(), found["true law"].tolist(), strict=True):
            yield {**about, "law": law, "metric": metric, "value": value, "excess": 100 * (value / best - 1)}


# ---------------------------------------------------------------------------------------------------- updates


def season(rows: int, seed: int, shift: int | None = None) -> np.ndarray:
    r"""Three seasonal channels with correlated noise; from `shift` on, another level, scale and dependence."""
    generator = np.random.default_rng(seed)
    correlation = np.full((3, 3), 0.7) + 0.3 * np.eye(3)
    noise = generator.standard_normal((rows, 3)) @ np.linalg.cholesky(correlation).T
    values = np.sin(2 * np.pi * np.arange(rows)[:, None] / 24 + np.arange(3))
    if shift is not None:
        noise[shift:, 1] *= -1.0
        noise[shift:] = 1.0 + 2.0 * noise[shift:]
    return values + 0.5 * noise


def followed(model: FoundationModel, values: np.ndarray, start: int, stops: range) -> dict[str, Tensor]:
    r"""Which cells of the 80 % interval of each forecast, (n, H, D), held what came, with updates and without."""
    adapters = {
        law: Adapter("identity", foundation_model=model, prediction_length=HORIZON) for law in ("updated", "left")
    }
    fitted = {law: adapter.fit(values[:start]) for law, adapter in adapters.items()}
    inside: dict[str, list[Tensor]] = {law: [] for law in fitted}
    for stop in stops:
        truth = values[stop : stop + HORIZON]
        if stop > start:
            fitted["updated"].update(values[stop - stops.step : stop])
        for law, forecast in (
            ("updated", fitted["updated"].predict(num_samples=1)),
            ("left", fitted["left"].predict(values[:stop], num_samples=1)),
        ):
            low, high = forecast.interval(0.8)
            assert np.isfinite(high - low).all()
            inside[law].append(torch.from_numpy((low <= truth) & (truth <= high)))
    return {law: torch.stack(each).double() for law, each in inside.items()}


def shifts(seeds: int) -> Iterator[dict[str, object]]:
    model = load_foundation_model("bolt-nano")
    start, shift = 1500, 1500 + 10 * HORIZON
    for seed in range(seeds):
        values = season(shift + 301 * HORIZON, seed, shift)
        about = {"what": "shift", "data": "season", "foundation_model": named(model),
                 **provenance(Panel.of(values), seed)}  # fmt: skip
        for law, inside in followed(model, values, start, range(start, shift + 300 * HORIZON + 1, HORIZON)).items():
            after = inside[10 + 101 :]  # updates 101 to 300 after the shift
            yield {**about, "law": law, "metric": "coverage_80", "value": float(after.mean())}


def long_run(steps: int) -> Iterator[dict[str, object]]:
    model = load_foundation_model("bolt-nano")
    generator = np.random.default_rng(0)
    rows = 1500 + steps + HORIZON
    wander = np.cumsum(0.03 * generator.standard_normal(rows))
    values = season(rows, 0) * np.exp(wander - np.linspace(0, wander[-1], rows))[:, None]
    about = {"what": "long run", "data": "season", "foundation_model": named(model),
             **provenance(Panel.of(values), 0)}  # fmt: skip
    for law, inside in followed(model, values, 1500, range(1500, 1500 + steps, HORIZON)).items():
        yield {**about, "law": law, "metric": "coverage_80", "value": float(inside.mean())}


# ---------------------------------------------------------------------------------------------------- large laws


def large(channels: int = 321, horizon: int = 96, number: int = 1000) -> Iterator[dict[str, object]]:
    generator = torch.Generator().manual_seed(0)
    common = torch.randn(300, horizon, 8, generator=generator).cumsum(1) @ torch.randn(8, channels, generator=generator)
    errors = common + 4 * torch.randn(300, horizon, channels, generator=generator)
    pits = torch.special.ndtr((errors - errors.mean(0)) / errors.std(0))
    copula = fit_gaussian(pits)
    values = torch.special.ndtri(torch.tensor(LEVELS)).double().expand(1, horizon, channels, -1)
    law = JointDistribution(QuantileFunction(LEVELS, values), copula)
    law.sample(2)
    memory.begin()
    start = time.perf_counter()
    law.sample(number, generator)
    taken = time.perf_counter() - start
    about = {"what": "large", "data": f"{channels} channels, {horizon} leads, {number} samples",
             "law": type(copula).__name__, **provenance(Panel.of(errors[0].double().numpy()), 0)}  # fmt: skip
    yield {**about, "metric": "seconds", "value": taken}
    yield {**about, "metric": "peak_gb", "value": memory.peak()}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("parts", nargs="*", default=["known", "shift", "long", "large"])
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--steps", type=int, default=5000)
    parser.add_argument("--output", type=Path, default=HERE / "simulated.csv")
    options = parser.parse_args()
    parts: dict[str, Callable[[], Iterator[dict[str, object]]]] = {
        "known": lambda: (row for name, process in processes().items() for row in known(name, *process)),
        "shift": lambda: shifts(options.seeds),
        "long": lambda: long_run(options.steps),
        "large": large,
    }
    frame = pd.read_csv(options.output) if options.output.exists() else pd.DataFrame()
    for part in options.parts:
        new = pd.DataFrame(parts[part]())
        if len(frame):
            frame = frame[~frame["what"].isin(new["what"])]
        frame = pd.concat([frame, new])
        frame.to_csv(options.output, index=False, float_format="%.6g")
        print(part, "written", flush=True)


if __name__ == "__main__":
    main()
