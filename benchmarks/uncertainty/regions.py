r"""Joint regions of a few channels at one lead, beside yemale's: their volumes at equal coverage.

    pip install --no-deps --target FOLDER yemale==0.1.0a2 "numba<0.68" "llvmlite<0.50"    # and FOLDER on PYTHONPATH
    python -m benchmarks.uncertainty.regions              # all sets; goes on where it stood
    python -m benchmarks.uncertainty.regions --quick      # 15 minutes: two small sets

At the middle lead of a horizon, for the first 2, 3 and 4 channels. Each method orders all outcomes from the centre
outwards, so that a rank bounds a region:

- "box": the largest of the channels' distances of the PIT from 1/2, in the joint distribution of `identity`: the shape
  of the bands of `Forecast.band(joint="channels")`, stated by its copula's samples;
- "ellipsoid": the Mahalanobis distance of the channels' normal scores in the same distribution, with the correlation of
  its joint samples;
- "yemale": its centre-outward rank of the frozen model's errors at 400 windows before the border (optimal transport);
- "yemale, scaled": the same, with errors divided by the width of the frozen model's 80 % interval.

Volumes are compared where all regions hold the same number of test outcomes, at least 90 % of them; as ranks of yemale
are discrete, that number is the one that its region holds. "coverage" is that of the region stated to hold 90 %.
"""

import argparse
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from adapts.data.windows import Windows
from adapts.distribution.joint import JointDistribution
from adapts.distribution.quantile_function import QuantileFunction
from adapts.foundation.cache import cached_forecasts
from benchmarks.coupled.run import BUDGET, SETTINGS, resumed
from benchmarks.uncertainty.run import QUICK, SEED, Job, base, described, laid_out, zero_shot

HERE = Path(__file__).parent
CHANNELS = (2, 3, 4)
LEVEL = 0.9
METHODS = ("yemale", "yemale, scaled", "box", "ellipsoid")
POINTS, SAMPLES, PAST_WINDOWS = 4000, 1000, 400
EDGE = 1e-6  # the lowest level of a PIT


@dataclass(frozen=True)
class Region:
    r"""Regions of test windows that grow with a rank.

    Arguments:
        ranks: The rank of each test outcome, with shape (n,).
        stated: The rank that bounds the regions stated to hold 90 %.
        log_volume: The mean logarithm of the volumes of the regions up to a rank, infinite if unbounded.
    """

    ranks: np.ndarray
    stated: float
    log_volume: Callable[[float], float]


# ---------------------------------------------------------------------------------------------------- ours


def ball(count: int, dimension: int, generator: np.random.Generator) -> np.ndarray:
    r"""Points that are uniform in the unit ball, with shape (count, dimension)."""
    directions = generator.standard_normal((count, dimension))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    return directions * generator.random((count, 1)) ** (1 / dimension)


def log_ball(dimension: int) -> float:
    r"""The logarithm of the volume of the unit ball."""
    return dimension / 2 * math.log(math.pi) - math.lgamma(dimension / 2 + 1)


def box(marginals: QuantileFunction, pits: Tensor, stated: float) -> Region:
    r"""Central intervals of the same level in each channel.

    Arguments:
        marginals: The marginals of n windows, with batch shape (n, d).
        pits: The PITs of their outcomes, with shape (n, d).
        stated: The level of the intervals whose box is stated to hold 90 %.
    """

    def log_volume(rank: float) -> float:
        low, high = (marginals.at([level])[..., 0].double() for level in ((1 - rank) / 2, (1 + rank) / 2))
        return float((high - low).log().sum(-1).mean())

    return Region((2 * pits - 1).abs().amax(-1).numpy(), stated, log_volume)


def ellipsoid(marginals: QuantileFunction, pits: Tensor, correlation: np.ndarray) -> Region:
    r"""Ellipsoids of normal scores, mapped back by the marginals.

    The volume is that of the ellipsoid times the mean derivative of the map, at points that are uniform in it.

    Arguments:
        marginals: The marginals of n windows, with batch shape (n, d).
        pits: The PITs of their outcomes, with shape (n, d).
        correlation: The correlation of the normal scores, with shape (d, d).
    """
    from scipy.stats import chi2

    size, factor = len(correlation), np.linalg.cholesky(correlation)
    z = torch.special.ndtri(pits.clamp(EDGE, 1 - EDGE)).double().numpy()
    ranks = np.linalg.norm(np.linalg.solve(factor, z.T), axis=0)
    points = ball(POINTS, size, np.random.default_rng(SEED))

    def of_scores(scores: Tensor) -> Tensor:
        levels = torch.special.ndtr(scores)[:, None].expand(-1, *pits.shape)
        return marginals(levels.to(marginals.values))

    def log_volume(rank: float) -> float:
        scores = torch.from_numpy(rank * points @ factor.T)  # (P, d)
        step = 1e-3
        ends = [of_scores(scores + sign * step) for sign in (-1, 1)]
        slopes = (ends[1] - ends[0]).double().clamp(min=0) / (2 * step)  # (P, n, d)
        volumes = slopes.prod(-1).mean(0).log()
        return float(volumes.mean()) + log_ball(size) + size * math.log(rank) + float(np.log(np.diag(factor)).sum())

    return Region(ranks, math.sqrt(chi2.ppf(LEVEL, size)), log_volume)


def joint_levels(law: JointDistribution, lead: int, channels: int) -> Tensor:
    r"""Draws of the copula of the first channels at a lead, with shape (S, d)."""
    windows = law.copula.windows or 1
    levels = law.copula.uniforms(SAMPLES, torch.Generator().manual_seed(SEED), windows=windows)
    return levels[:, :, lead, :channels].flatten(0, 1).double()


def correlation_of(levels: Tensor) -> np.ndarray:
    r"""The correlation of the normal scores of levels (S, d)."""
    return np.corrcoef(torch.special.ndtri(levels.clamp(EDGE, 1 - EDGE)).numpy().T)


# ---------------------------------------------------------------------------------------------------- yemale


def transported(errors: np.ndarray, test_errors: np.ndarray, test_scale: np.ndarray, seed: int = SEED) -> Region:
    r"""The centre-outward regions of errors.

    Arguments:
        errors: The errors of calibration windows, with shape (m, d), divided by their scale.
        test_errors: Those of test windows, with shape (n, d).
        test_scale: The scale of each test window, with shape (n, d), which multiplies its region.
        seed: The seed of the points that a volume is estimated from.
    """
    import yemale

    transport = yemale.conformalize(np.zeros_like(errors), errors).predict(np.zeros(errors.shape[1]))
    low, high = errors.min(0), errors.max(0)
    low, high = low - 0.5 * (high - low), high + 0.5 * (high - low)
    points = np.random.default_rng(seed).uniform(low, high, (4 * POINTS, errors.shape[1]))
    of_points, far = transport.rank(points), transport.rank(1e3 * (points - points.mean(0)))

    def log_volume(rank: float) -> float:
        if (far <= rank).any():
            return math.inf
        share = float((of_points <= rank).mean())
        return math.log(share) + float(np.log(high - low).sum()) + float(np.log(test_scale).sum(1).mean())

    own = np.sort(transport.rank(errors))
    stated = float(own[min(math.ceil((len(own) + 1) * LEVEL), len(own)) - 1])
    return Region(transport.rank(test_errors), stated, log_volume)


# ---------------------------------------------------------------------------------------------------- runs


def many(job: Job) -> Windows:
    r"""Evenly spaced windows before the border."""
    length, horizon = job.windows.context_length, job.windows.prediction_length
    origins = np.unique(np.linspace(length, job.border - horizon, PAST_WINDOWS).astype(int))
    return Windows(job.windows.panel, np.zeros(len(origins), dtype=int), origins, length, horizon)


def regions(name: str, channels: int) -> tuple[dict[str, Region], dict[str, Any]]:
    r"""The regions of each method for the first channels of a set, and what each row says of it."""
    job, adapter = laid_out(name), base(name)
    lead, scale = job.windows.prediction_length // 2, job.scale[:channels]
    law = adapter.joint_distribution(replace(job.windows, context_length=adapter.context_length_))
    future = job.windows.future(torch.float64)[:, lead, :channels]
    seen = ~future.isnan().any(1)
    marginals = law.marginals[seen][:, lead, :channels].rescaled(0.0, torch.from_numpy(1 / scale).float())
    pits = law.marginals[:, lead, :channels].pit(future, torch.Generator().manual_seed(SEED))[seen].double()
    drawn = joint_levels(law, lead, channels)
    found = {
        "box": box(marginals, pits, float((2 * drawn - 1).abs().amax(1).quantile(LEVEL))),
        "ellipsoid": ellipsoid(marginals, pits, correlation_of(drawn)),
    }
    past, test = zero_shot(adapter, many(job)), zero_shot(adapter, job.windows)
    parts = []
    for each in (past, test):
        deciles = each.deciles[:, lead, :channels] / scale[:, None]
        errors = each.future[:, lead, :channels] / scale - deciles[..., 4]
        whole = ~np.isnan(errors).any(1)
        parts.append((errors[whole], np.maximum(deciles[..., 8] - deciles[..., 0], 1e-6)[whole]))
    (errors, widths), (test_errors, test_widths) = parts
    found["yemale"] = transported(errors, test_errors, np.ones_like(test_errors))
    found["yemale, scaled"] = transported(errors / widths, test_errors / test_widths, test_widths)
    about = described(name, job) | {"calibration_windows": len(errors), "package": f"yemale {version('yemale')}"}
    return found, about | {"lead": lead + 1, "outcomes": int(seen.sum())}


def at_equal_coverage(found: dict[str, Region]) -> dict[str, dict[str, float]]:
    r"""Of each method its log-volume where all hold as many outcomes, and what its stated region holds."""
    count, n = 0, len(found["yemale"].ranks)
    for name in ("yemale", "yemale, scaled"):
        ordered = np.sort(found[name].ranks)
        bound = ordered[math.ceil(LEVEL * n) - 1]
        count = max(count, int((ordered <= bound).sum()))
    figures = {}
    for name, region in found.items():
        bound = np.sort(region.ranks)[count - 1]
        figures[name] = {
            "log_volume": region.log_volume(float(bound)),
            "held": float((region.ranks <= bound).mean()),
            "coverage": float((region.ranks <= region.stated).mean()),
            "log_volume_stated": region.log_volume(region.stated),
        }
    return figures


def score(data: str, channels: int, seed: int, model: str) -> pd.DataFrame:
    r"""The figures of all methods for so many channels of a set; `model` names the first of them."""
    found, about = regions(data, channels)
    figures = at_equal_coverage({name: found[name] for name in METHODS})
    rows = [(name, metric, value) for name, each in figures.items() for metric, value in each.items()]
    frame = pd.DataFrame(rows, columns=["model", "metric", "value"])
    return frame.assign(**{**about, "data": data, "channels": channels, "seed": seed})


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("data", nargs="*", default=list(SETTINGS), help="names of settings")
    parser.add_argument("--quick", action="store_true", help="two small sets")
    parser.add_argument("--output", type=Path, default=HERE / "regions.csv")
    options = parser.parse_args()
    for data in QUICK if options.quick else options.data:
        most = laid_out(data).dataset.panel.num_channels
        jobs = [{"data": data, "channels": count, "seed": SEED, "model": METHODS[0]}
                for count in CHANNELS if count <= most]  # fmt: skip
        with cached_forecasts(BUDGET):
            resumed(options.output, jobs, score, metric="log_volume")


if __name__ == "__main__":
    main()
