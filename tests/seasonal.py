r"""A small frozen model with a known law, for tests that need one that can forecast: the season again, plus noise."""

import torch
from torch import Tensor

from adapts.foundation import FoundationModel

LEVELS = tuple(round(0.1 * level, 1) for level in range(1, 10))


class SeasonalModel(FoundationModel):
    r"""Forecasts the mean of the last two seasons, with the spread of their differences; differentiable, no weights."""

    def __init__(self, season: int = 12, prediction_length: int = 24) -> None:
        super().__init__(
            name=f"seasonal-{season}",
            version="1",
            quantile_levels=LEVELS,
            context_length=96,
            prediction_length=prediction_length,
        )
        self.season = season
        self.register_buffer("levels", torch.special.ndtri(torch.tensor(LEVELS, dtype=torch.float64)).float())
        self.freeze()

    def _forecast(self, context: Tensor) -> Tensor:
        context = torch.where(context.isnan(), context.nanmean(-1, keepdim=True).nan_to_num(0.0), context)
        missing = max(0, 2 * self.season - context.shape[-1])
        context = torch.nn.functional.pad(context, (missing, 0))
        last, before = context[:, -self.season :], context[:, -2 * self.season : -self.season]
        spread = (0.5 * (last - before).square().mean(-1) + 1e-12).sqrt()  # (N,)
        step = torch.arange(self.prediction_length) % self.season
        return ((last + before) / 2)[:, None, step] + spread[:, None, None] * self.levels[:, None]
