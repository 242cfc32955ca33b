r"""Models for the series of one fit."""

from __future__ import annotations

__all__ = ["for_series"]

from ..data.frequency import season_length as likely_season
from .base import FoundationModel


def for_series(
    model: FoundationModel, frequency: str | None, season_length: int | None, prediction_length: int
) -> FoundationModel:
    r"""Return a model for series of a frequency and a horizon, as the model has it.

    Arguments:
        model: The model, which is unchanged.
        frequency: The frequency of the series; None if it is unknown.
        season_length: The season length that a data card states; that of the frequency if None.
        prediction_length: The number of steps :math:`H` to forecast.

    Returns:
        The model itself, unless it reads any of them (`FoundationModel.with_frequency`, `with_horizon`).
    """
    season = likely_season(frequency) if season_length is None else season_length
    adjusted = model.with_frequency(frequency, season)
    if adjusted is not model:
        adjusted.series = frequency, season
    return adjusted.with_horizon(prediction_length)
