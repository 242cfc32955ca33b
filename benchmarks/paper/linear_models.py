r"""Linear adapters around linear frozen models, where the best adapter is known.

    python -m benchmarks.paper.linear_models               # 1000 draws, a minute

The frozen model is f(X) = W'X + b 1' of a window X (L, D): one map W (L, H) of each channel, and one offset b (H,). The
squared error of an invertible adapter, f(X M^-1) M, is |A - b 1'M|^2 with A = Y - W'X: only the column sums r = 1'M
matter. The best are r = b'A / |b|^2, reached by M = I + (1/D) 1 (r - 1'), with error |A|^2 - |b'A|^2 / |b|^2. The
closed form of the paper has rank one, so that it has no inverse. A decoder of its own, Y = f(X) N, is a regression.

The series is that of the paper, five sinusoids mixed into eight channels, here with noise. Each draw is another series,
W and b. Errors are divided by those of the frozen model. One CSV row a draw.
"""

import argparse
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from adapts.adapters import Linear
from adapts.adapters.state import RegressionData
from benchmarks.coupled.processes import sinusoids
from benchmarks.provenance import commit

HERE = Path(__file__).parent
DRAWS, CONTEXT, HORIZON, WINDOWS, FOLDS = 1000, 96, 24, 60, 5
#: The ridge of the paper's closed form, which makes its matrix solvable.
RIDGE = 1e-6

Array = NDArray[np.float64]


def windows(seed: int) -> tuple[Array, Array]:
    r"""Contexts (2n, L, D) and targets (2n, H, D) without common targets, train windows first."""
    values = sinusoids(CONTEXT + 2 * WINDOWS * HORIZON, seed).values
    origins = CONTEXT + HORIZON * np.arange(2 * WINDOWS)
    return tuple(  # type: ignore[return-value]  # two arrays
        np.stack([values[origin + start : origin + stop] for origin in origins])
        for start, stop in ((-CONTEXT, 0), (0, HORIZON))
    )


def frozen_model(seed: int) -> tuple[Array, Array]:
    r"""A map W (L, H) and an offset b (H,), standard normal and scaled so that forecasts vary as the series do."""
    generator = np.random.default_rng(seed)
    return generator.standard_normal((CONTEXT, HORIZON)) / np.sqrt(CONTEXT), generator.standard_normal(HORIZON)


def errors(y: Array, x: Array, weights: Array, offset: Array) -> tuple[Array, Array]:
    r"""The errors A of the map without its offset, and the offset B of each window in each channel, both (nH, D)."""
    linear = np.einsum("nld,lh->nhd", x, weights)
    residual = (y - linear).reshape(-1, y.shape[2])
    return residual, np.tile(offset, len(y))[:, None].repeat(y.shape[2], axis=1)


def paper_matrix(a: Array, b: Array, ridge: float = RIDGE) -> Array:
    r"""The closed form of the paper, (B'A + ridge I)^-1 B'B, with shape (D, D): of rank one."""
    solved: Array = np.linalg.solve(b.T @ a + ridge * np.eye(a.shape[1]), b.T @ b)
    return solved


def best_decoding(a: Array, b: Array) -> Array:
    r"""The decoder M of the best invertible adapter, with shape (D, D)."""
    sums = b[:, 0] @ a / (b[:, 0] @ b[:, 0])  # r
    channels = a.shape[1]
    matrix: Array = np.eye(channels) + (sums - 1) / channels
    return matrix


def invertible_error(a: Array, b: Array, matrix: Array) -> float:
    r"""The mean squared error of the adapter with decoder M and encoder M^-1."""
    return float(np.square(a - b @ matrix).mean())


def pseudo_inverse_error(y: Array, a: Array, b: Array, encoder: Array) -> float:
    r"""The mean squared error of an encoder W and its pseudo-inverse as a decoder."""
    decoder = np.linalg.pinv(encoder)
    forecast = (y - a) @ encoder @ decoder + b @ decoder
    return float(np.square(y - forecast).mean())


def closed_form(x: Array, y: Array, forecast: Array) -> Array:
    r"""The decoder N of `Linear(free="decoder")`, with the strength that cross-validation selects, (D, D)."""
    family = Linear(free="decoder", normalisation="train").build(channels=y.shape[2])
    fold = torch.arange(len(y)) * FOLDS // len(y)
    family.solve(RegressionData(*(torch.from_numpy(part).float() for part in (x, y, forecast)), fold), choose=True)
    return (family.directions.mT + family.correction).detach().double().numpy()


def compare(draw: int) -> dict[str, float]:
    r"""The errors of all adapters for one draw: of the frozen model in squared units, of all others relative to it."""
    (x, y), (weights, offset) = windows(draw), frozen_model(draw)
    forecast = np.einsum("nld,lh->nhd", x, weights) + offset[:, None]
    parts = {"train": slice(None, WINDOWS), "test": slice(WINDOWS, None)}
    a, b = errors(y[parts["train"]], x[parts["train"]], weights, offset)
    paper, best = paper_matrix(a, b), best_decoding(a, b)
    flat = {
        name: (y[part].reshape(-1, y.shape[2]), forecast[part].reshape(-1, y.shape[2])) for name, part in parts.items()
    }
    target, regressor = flat["train"]
    decoders = {
        "ours": closed_form(x[parts["train"]], y[parts["train"]], forecast[parts["train"]]),
        "least squares": np.linalg.lstsq(regressor, target, rcond=None)[0],
    }
    row: dict[str, float] = {"draw": draw}
    for name, part in parts.items():
        a, b = errors(y[part], x[part], weights, offset)
        target, regressor = flat[name]
        frozen = float(np.square(target - regressor).mean())
        row[f"frozen, {name}"] = frozen
        row[f"paper, {name}"] = pseudo_inverse_error(target, a, b, paper) / frozen
        row[f"invertible, {name}"] = invertible_error(a, b, best) / frozen
        row |= {
            f"{key}, {name}": float(np.square(target - regressor @ n).mean()) / frozen for key, n in decoders.items()
        }
    return row


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--draws", type=int, default=DRAWS)
    parser.add_argument("--output", type=Path, default=HERE / "linear_models.csv")
    options = parser.parse_args()
    frame = pd.DataFrame([compare(draw) for draw in range(options.draws)]).round(6)
    frame.assign(torch=str(torch.__version__), commit=commit()).to_csv(options.output, index=False)
    print(frame.drop(columns="draw").median().to_string())


if __name__ == "__main__":
    main()
