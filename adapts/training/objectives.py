r"""What training minimises, by name."""

from __future__ import annotations

__all__ = ["OBJECTIVES", "Objective", "objective"]

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

from ..shelf import unknown

Objective = Callable[[Tensor, Tensor], Tensor]

#: Element-wise losses of a prediction and a target, both standardised.
OBJECTIVES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "mse": lambda prediction, target: functional.mse_loss(prediction, target, reduction="none"),
    "mae": lambda prediction, target: functional.l1_loss(prediction, target, reduction="none"),
    "huber": lambda prediction, target: functional.huber_loss(prediction, target, reduction="none"),
}


def objective(name: str) -> Objective:
    r"""Returns a training objective: a loss averaged over the cells that were seen.

    Arguments:
        name: `"mse"`, the squared error; `"mae"`, the absolute error; `"huber"`, quadratic within one standard
            deviation and linear beyond (Huber, 1964).

    Returns:
        A function of prediction and target, with shapes :math:`(B, H, D)`, standardised; NaN in the target marks a
        missing step, which is left out.

    Raises:
        ValueError: If no objective has that name.
    """
    if name not in OBJECTIVES:
        raise ValueError(unknown("objective", name, OBJECTIVES))
    loss = OBJECTIVES[name]

    def mean_loss(prediction: Tensor, target: Tensor) -> Tensor:
        seen = ~target.isnan()
        cells = loss(prediction, torch.where(seen, target, prediction.detach()))
        return torch.where(seen, cells, 0.0).sum() / seen.sum().clamp(min=1)

    return mean_loss
