r"""The quantile head of backbones that are pretrained without a forecasting head."""

from __future__ import annotations

__all__ = ["LEVELS", "QuantileHead"]

import torch
from torch import Tensor, nn

from .._random import seeded

#: The quantile levels of the head.
LEVELS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)


class QuantileHead(nn.Linear):
    r"""Untrained linear map from the features of a window to the quantiles of all its target steps.

    It is initialised to a standard normal distribution for every window, in units of the window's location and scale.
    `Adapter.fit` trains it before the adapter (`adapts.training.probing`).

    Arguments:
        features: The number of features of a window.
        prediction_length: The number of target steps :math:`P`.

    Example:
        >>> from adapts.foundation.heads import QuantileHead
        >>> QuantileHead(features=32, prediction_length=5)(torch.randn(2, 32)).shape
        torch.Size([2, 9, 5])
    """

    def __init__(self, features: int, prediction_length: int) -> None:
        with seeded(0):  # the weights are zeroed below; the caller's generator must not advance
            super().__init__(features, len(LEVELS) * prediction_length, dtype=torch.float32)
        nn.init.zeros_(self.weight)
        normal_quantiles = torch.special.ndtri(torch.tensor(LEVELS, dtype=torch.float64)).float()
        with torch.no_grad():
            self.bias.copy_(normal_quantiles.repeat_interleave(prediction_length))

    def forward(self, features: Tensor) -> Tensor:
        r"""Return the quantiles of each window.

        Arguments:
            features: The features, with shape :math:`(N, F)`.

        Returns:
            The quantiles, with shape :math:`(N, Q, P)`; they may cross.
        """
        quantiles: Tensor = super().forward(features).unflatten(1, (len(LEVELS), -1))
        return quantiles  # (N, Q, P)
