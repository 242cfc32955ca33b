r"""Aggregates, event probabilities and representative paths from joint samples, for decisions."""

from __future__ import annotations

__all__ = ["Scenarios", "aggregate", "probability", "scenarios"]

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from .. import checks
from ..errors import reading, shown

MAX_SAMPLES = 2**14  # maximum number of samples: their distance matrix takes 2 GiB
_ROUNDS = 50  # maximum number of k-medoids iterations, which converge much earlier


@dataclass(frozen=True)
class Scenarios:
    r"""Representative joint paths with probabilities.

    Arguments:
        paths: The paths, the most probable first, with shape :math:`(k, H, D)`.
        weights: The probability that each represents, with shape :math:`(k,)`; they sum to one.
        members: The index of each path among the samples, with shape :math:`(k,)`.
    """

    paths: np.ndarray
    weights: np.ndarray
    members: np.ndarray


def aggregate(
    samples: np.ndarray, how: Sequence[float] | np.ndarray | Callable[[np.ndarray], np.ndarray]
) -> np.ndarray:
    r"""Return samples of an aggregate of joint paths.

    Arguments:
        samples: The joint paths, with shape :math:`(S, H, D)`.
        how: Weights of the channels, with shape :math:`(D,)`, for their sum at each step; or of all cells, with shape
            :math:`(H, D)`, for one number per path. Or a function of one path :math:`(H, D)`, such as
            `lambda path: path.sum(1).max()`.

    Returns:
        The samples, with shape :math:`(S, H)`, :math:`(S,)` or :math:`(S, *)`, as the function returns.

    Raises:
        ValueError: If the weights have another shape, or the function does not return numbers.

    Example:
        >>> paths = np.arange(12.0).reshape(2, 3, 2)
        >>> aggregate(paths, [1, 1])
        array([[ 1.,  5.,  9.],
               [13., 17., 21.]])
        >>> aggregate(paths, lambda path: path.max())
        array([ 5., 11.])
    """
    if callable(how):
        aggregates = _each("aggregate", how, samples)
        if aggregates.dtype.kind not in "biuf":
            raise ValueError(
                f"aggregate expects a function that returns numbers, got {aggregates.dtype}: return floats"
            )
        return aggregates
    _, horizon, channels = samples.shape
    try:
        weights = np.asarray(how, dtype=float)
    except Exception:  # whatever numpy raises for non-numeric input
        weights = np.empty((), dtype=float)
    if weights.shape == (channels,):
        return np.asarray(samples @ weights)
    if weights.shape == (horizon, channels):
        return np.tensordot(samples, weights, 2)
    raise ValueError(
        f"weights have shape ({channels},), one per channel, or ({horizon}, {channels}), one per cell, got "
        f"{weights.shape or shown(how)}: pass a function of a path for anything else"
    )


def probability(samples: np.ndarray, event: Callable[[np.ndarray], bool | np.ndarray]) -> float | np.ndarray:
    r"""Return the fraction of joint paths on which an event occurs.

    Arguments:
        samples: The joint paths, with shape :math:`(S, H, D)`.
        event: A function that returns whether the event occurs on a path :math:`(H, D)`: one boolean or an array of
            them.

    Returns:
        The probability; an array of them if the event is one. Its standard error is :math:`\sqrt{p (1 - p) / S}` at
        most.

    Raises:
        ValueError: If the event is not boolean.

    Example:
        >>> probability(np.arange(12.0).reshape(2, 3, 2), lambda path: path.sum(1).max() > 10)
        0.5
    """
    if not callable(event):
        raise ValueError(
            f"probability expects a function of a path, such as lambda path: path.max() > 3, got {shown(event)}"
        )
    occurred = _each("probability", event, samples)
    if occurred.dtype != bool:
        raise ValueError(
            f"the event must return true or false for a path, got {occurred.dtype}: compare, as in path.max() > 3"
        )
    fraction = occurred.mean(0)
    return float(fraction) if fraction.ndim == 0 else fraction


def _each(name: str, function: Callable[[np.ndarray], object], samples: np.ndarray) -> np.ndarray:
    r"""Return the results of a user function for all paths, in one array."""
    with reading(f"{name} calls the function with each path, an array (H, D), and it failed", "try it on samples[0]"):
        results = [np.asarray(function(path)) for path in samples]
    shapes = {result.shape for result in results}
    if len(shapes) > 1:
        raise ValueError(
            f"{name} expects a function that returns arrays of one shape, got {shown(sorted(shapes))}: pad them"
        )
    return np.stack(results)


def scenarios(samples: np.ndarray, k: int, seed: int = 0) -> Scenarios:
    r"""Select representative joint paths by k-medoids.

    The medoids are samples. So each is a possible path, with the ramps and coincidences of the distribution; a mean of
    paths would be too smooth. The start is spread out by k-means++, and medoids are updated until none changes.

    References:
        | Finding Groups in Data (Kaufman and Rousseeuw, 1990)
        | k-means++: The Advantages of Careful Seeding (Arthur and Vassilvitskii, 2007)

    Arguments:
        samples: The joint paths, with shape :math:`(S, H, D)`.
        k: The number of scenarios, from 1 to :math:`S`.
        seed: The seed of the initialisation.

    Returns:
        The scenarios.

    Raises:
        ValueError: If `k` is invalid.
    """
    number = len(samples)
    if not 1 <= (checks.whole(k) or 0) <= number:
        raise ValueError(f"scenarios expects k from 1 to {number}, the number of samples, got k={shown(k)}")
    if number > MAX_SAMPLES:
        raise ValueError(
            f"scenarios compares all pairs of samples, at most {MAX_SAMPLES}, got {number}: predict with "
            f"num_samples={MAX_SAMPLES} or less"
        )
    deviation = samples.std(0)
    flat = ((samples - samples.mean(0)) / np.where(deviation > 0, deviation, 1.0)).reshape(number, -1).astype(float)
    square = (flat**2).sum(1)
    distances = np.sqrt(np.maximum(square[:, None] + square - 2 * flat @ flat.T, 0.0))  # (S, S)
    rng = np.random.default_rng(seed)
    medoids = [int(distances.sum(0).argmin())]
    while len(medoids) < k:
        costs = distances[:, medoids].min(1) ** 2
        costs[medoids] = 0.0
        remaining = np.setdiff1d(np.arange(number), medoids)
        medoids.append(int(rng.choice(number, p=costs / costs.sum()) if costs.sum() > 0 else remaining[0]))
    chosen = np.array(medoids)
    for _ in range(_ROUNDS):
        owner = distances[:, chosen].argmin(1)
        owner[chosen] = np.arange(k)  # duplicates of a medoid keep their own cluster
        groups = [np.flatnonzero(owner == cluster) for cluster in range(k)]
        moved = np.array([group[distances[np.ix_(group, group)].sum(0).argmin()] for group in groups])
        if (moved == chosen).all():
            break
        chosen = moved
    weights = np.array([len(group) for group in groups]) / number
    order = np.argsort(-weights, kind="stable")
    return Scenarios(samples[chosen[order]], weights[order], chosen[order])
