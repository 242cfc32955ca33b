r"""Models for series of one frequency."""

from __future__ import annotations

__all__ = ["for_series"]

from ..data.frequency import season_length as likely_season
from .base import FoundationModel


def for_series(model: FoundationModel, frequency: str | None, season_length: int | None) -> FoundationModel:
    r"""Return a model for series of a frequency, as the model has it (`FoundationModel.with_frequency`).

    Arguments:
        model: The model, which is unchanged.
        frequency: The frequency of the series; None if it is unknown.
        season_length: The season length that a data card states; that of the frequency if None.

    Returns:
        The model itself, unless it reads the frequency or the season length.
    """
    season = likely_season(frequency) if season_length is None else season_length
    adjusted = model.with_frequency(frequency, season)
    if adjusted is not model:
        adjusted.series = frequency, season
    return adjusted
