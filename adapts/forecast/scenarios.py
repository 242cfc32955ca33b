r"""What users decide on: sums, events and a few representative paths, from joint samples."""

from __future__ import annotations

__all__ = ["Scenarios", "aggregate", "probability", "scenarios"]

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from .. import checks
from ..errors import reading, shown

MOST_COMPARED = 2**14  # samples: their distances take 2 GiB
_ROUNDS = 50  # of the exchange of medoids, which settles long before


@dataclass(frozen=True)
class Scenarios:
    r"""A few joint paths that stand for all.

    Arguments:
        paths: The paths, the likeliest first, with shape :math:`(k, H, D)`.
        weights: The share of the law that each stands for, with shape :math:`(k,)`; they sum to one.
        members: The sample that each path is, with shape :math:`(k,)`.
    """

    paths: np.ndarray
    weights: np.ndarray
    members: np.ndarray


def aggregate(
    samples: np.ndarray, how: Sequence[float] | np.ndarray | Callable[[np.ndarray], np.ndarray]
) -> np.ndarray:
    r"""Turns joint paths into samples of what is made of them.

    Arguments:
        samples: Joint paths, with shape :math:`(S, H, D)`.
        how: Weights of the channels, with shape :math:`(D,)` (their sum at each step), or of all cells, with shape
            :math:`(H, D)` (one number a path); or a function of one path :math:`(H, D)`, such as
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
        made = _each("aggregate", how, samples)
        if made.dtype.kind not in "biuf":
            raise ValueError(f"aggregate expects a function that returns numbers, got {made.dtype}: return floats")
        return made
    _, horizon, channels = samples.shape
    try:
        weights = np.asarray(how, dtype=float)
    except Exception:  # whatever numpy raises for what holds no numbers
        weights = np.empty((), dtype=float)
    if weights.shape == (channels,):
        return np.asarray(samples @ weights)
    if weights.shape == (horizon, channels):
        return np.tensordot(samples, weights, 2)
    raise ValueError(
        f"weights have shape ({channels},), one a channel, or ({horizon}, {channels}), one a cell, got "
        f"{weights.shape or shown(how)}: pass a function of a path for anything else"
    )


def probability(samples: np.ndarray, event: Callable[[np.ndarray], bool | np.ndarray]) -> float | np.ndarray:
    r"""The share of joint paths on which an event happens.

    Arguments:
        samples: Joint paths, with shape :math:`(S, H, D)`.
        event: Whether it happens on a path :math:`(H, D)`: true or false, or an array of such.

    Returns:
        The probability; an array of them where the event is one. Its standard error is
        :math:`\sqrt{p (1 - p) / S}` at most.

    Raises:
        ValueError: If the event is neither true nor false.

    Example:
        >>> probability(np.arange(12.0).reshape(2, 3, 2), lambda path: path.sum(1).max() > 10)
        0.5
    """
    if not callable(event):
        raise ValueError(f"an event is a function of a path, as lambda path: path.max() > 3 is; got {shown(event)}")
    happened = _each("probability", event, samples)
    if happened.dtype != bool:
        raise ValueError(f"an event tells true or false of a path, got {happened.dtype}: compare, as in path.max() > 3")
    share = happened.mean(0)
    return float(share) if share.ndim == 0 else share


def _each(name: str, function: Callable[[np.ndarray], object], samples: np.ndarray) -> np.ndarray:
    r"""What a function of the caller's makes of each path, one array."""
    with reading(f"{name} calls the function with each path, an array (H, D), and it failed", "try it on samples[0]"):
        made = [np.asarray(function(path)) for path in samples]
    shapes = {each.shape for each in made}
    if len(shapes) > 1:
        raise ValueError(
            f"{name} expects a function that returns arrays of one shape, got {shown(sorted(shapes))}: fill them up"
        )
    return np.stack(made)


def scenarios(samples: np.ndarray, k: int, seed: int = 0) -> Scenarios:
    r"""Picks the joint paths that stand for all others: k-medoids.

    The medoids are samples, so each is a possible path, with ramps and coincidences as the law has them; a mean of
    paths would be too smooth. Begun with far apart paths (k-means++), then exchanged in turn until none moves.

    References:
        | Finding Groups in Data (Kaufman and Rousseeuw, 1990)
        | k-means++: The Advantages of Careful Seeding (Arthur and Vassilvitskii, 2007)

    Arguments:
        samples: Joint paths, with shape :math:`(S, H, D)`.
        k: The number of scenarios, from 1 to :math:`S`.
        seed: The seed of the start.

    Returns:
        The scenarios.

    Raises:
        ValueError: If `k` is no number of scenarios.
    """
    number = len(samples)
    if not 1 <= (checks.whole(k) or 0) <= number:
        raise ValueError(f"of {number} samples, 1 to {number} scenarios can be picked, got k={shown(k)}")
    if number > MOST_COMPARED:
        raise ValueError(
            f"scenarios compare each sample with each, of at most {MOST_COMPARED}, got {number}: predict with "
            f"num_samples={MOST_COMPARED} or less"
        )
    spread = samples.std(0)
    flat = ((samples - samples.mean(0)) / np.where(spread > 0, spread, 1.0)).reshape(number, -1).astype(float)
    square = (flat**2).sum(1)
    apart = np.sqrt(np.maximum(square[:, None] + square - 2 * flat @ flat.T, 0.0))  # (S, S)
    rng = np.random.default_rng(seed)
    medoids = [int(apart.sum(0).argmin())]
    while len(medoids) < k:
        near = apart[:, medoids].min(1) ** 2
        near[medoids] = 0.0
        left = np.setdiff1d(np.arange(number), medoids)
        medoids.append(int(rng.choice(number, p=near / near.sum()) if near.sum() > 0 else left[0]))
    chosen = np.array(medoids)
    for _ in range(_ROUNDS):
        owner = apart[:, chosen].argmin(1)
        owner[chosen] = np.arange(k)  # a path that equals another keeps its own
        groups = [np.flatnonzero(owner == one) for one in range(k)]
        moved = np.array([group[apart[np.ix_(group, group)].sum(0).argmin()] for group in groups])
        if (moved == chosen).all():
            break
        chosen = moved
    weights = np.array([len(group) for group in groups]) / number
    order = np.argsort(-weights, kind="stable")
    return Scenarios(samples[chosen[order]], weights[order], chosen[order])
