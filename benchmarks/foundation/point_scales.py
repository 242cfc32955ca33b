r"""Scales of a context for the errors of models of points: which one makes the sharpest distribution.

The deciles of the errors of the last value, or of the value one season ago, are estimated on half of the simulated
series, in units of each candidate. They are scored on the other half by the quantile loss, in units of the series' mean
absolute step.

    python -m benchmarks.foundation.point_scales
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from adapts.foundation.point import LEVELS, context_scale
from adapts.statistics.losses import pinball_loss

CONTEXT, HORIZON, SERIES, SEASON, SEED = 64, 12, 6000, 12, 0
SCALES: dict[str, Callable[[Tensor], Tensor]] = {
    "mean absolute step": context_scale,
    "root mean square step": lambda context: context.diff(dim=1).square().mean(1).sqrt(),
    "median absolute step": lambda context: context.diff(dim=1).abs().median(1).values,
    "mean absolute step of the last half": lambda context: context_scale(context[:, CONTEXT // 2 :]),
    "standard deviation": lambda context: context.std(1),
    "none": lambda context: torch.ones(len(context)),
}


def autoregressive(steps: Tensor, persistence: float) -> Tensor:
    r"""Paths of an AR(1) process, or a random walk, of given steps; the last rows alone."""
    rows = [torch.zeros(len(steps))]
    for step in steps.unbind(1):
        rows.append(persistence * rows[-1] + step)
    return torch.stack(rows, 1)[:, -CONTEXT - HORIZON :]


def simulated() -> Iterator[tuple[str, Tensor, int]]:
    r"""The name, the series and the lag of the point forecast of each process; every series has a scale of its own."""
    shape = (SERIES, 200 + CONTEXT + HORIZON)
    scale = torch.randn(SERIES, 1).exp()
    for persistence in (0.0, 0.5, 0.9, 1.0):
        yield f"AR(1), persistence {persistence:g}", scale * autoregressive(torch.randn(shape), persistence), 1
    volatility = autoregressive(0.25 * torch.randn(shape), 0.97).exp()
    yield "random walk, stochastic volatility", (scale * volatility * torch.randn(volatility.shape)).cumsum(1), 1
    heavy = torch.distributions.StudentT(3.0).sample(torch.Size(shape))
    yield "random walk, Student's t (3)", scale * autoregressive(heavy, 1.0), 1
    time, phase, size = torch.arange(CONTEXT + HORIZON), 6.3 * torch.rand(SERIES, 1), torch.randn(SERIES, 1).exp()
    season = 3 * size * torch.sin(2 * torch.pi * time / SEASON + phase)
    yield "season and AR(1), seasonal naive", season + scale * autoregressive(torch.randn(shape), 0.5), SEASON


def losses(series: Tensor, lag: int) -> list[float]:
    r"""Twice the mean quantile loss of held-out series with each scale."""
    past, future = series[:, :CONTEXT], series[:, CONTEXT:]
    points = past[:, -lag:].repeat(1, -(-HORIZON // lag))[:, :HORIZON]
    unit, half, levels = series.diff(dim=1).abs().mean(1), SERIES // 2, torch.tensor(LEVELS)
    found = []
    for scale in SCALES.values():
        sizes = scale(past).clamp(min=1e-9)[:, None]
        quantiles = torch.quantile((future - points)[:half] / sizes[:half], levels, dim=0)  # (Q, H)
        error = (future - points)[half:, None] - quantiles * sizes[half:, None]  # (n, Q, H)
        loss = pinball_loss(error, levels[:, None]).mean((1, 2)) / unit[half:]
        found.append(2 * float(loss.mean()))
    return found


def main() -> None:
    r"""Print a row for each process."""
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    torch.manual_seed(SEED)
    print(f"{'':36s}", *(f"{name:>36s}" for name in SCALES))
    for name, series, lag in simulated():
        print(f"{name:36s}", *(f"{loss:36.4f}" for loss in losses(series, lag)))


if __name__ == "__main__":
    main()
