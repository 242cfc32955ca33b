r"""Conversion of frames of other libraries (polars, Arrow, modin, ...) to pandas."""

from __future__ import annotations

__all__ = ["as_pandas"]

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch

from ..errors import reading

if TYPE_CHECKING:
    import narwhals as nw


def as_pandas(series: Any) -> Any:
    r"""Convert another library's frame or series to a pandas frame; return anything else as is.

    Numbers keep their bits, dates their unit and time zone. Text, lists and objects become Python objects.

    Arguments:
        series: Any object. An Arrow table is converted, and so is a frame of polars or another library that narwhals
            supports; lazy frames are collected.

    Returns:
        The pandas frame, or `series` itself.

    Raises:
        ValueError: If the other library fails to convert it.
    """
    if isinstance(series, pd.DataFrame | pd.Series | np.ndarray | torch.Tensor | list | tuple | Mapping | str):
        return series
    with reading(f"the {type(series).__name__} cannot be read as a pandas frame", "pass a pandas frame of it"):
        return _as_pandas(series)


def _as_pandas(series: Any) -> Any:
    r"""Convert as `as_pandas` does; exceptions of the other library pass."""
    if str(type(series).__module__).split(".")[0] == "pyarrow" and hasattr(series, "to_pandas"):
        return series.to_pandas()  # keeps an index that pandas stored in the metadata
    import narwhals as nw

    frame = nw.from_native(series, pass_through=True, allow_series=True)
    if isinstance(frame, nw.LazyFrame):
        frame = frame.collect()
    if isinstance(frame, nw.Series):
        frame = frame.alias(frame.name or "0").to_frame()
    if not isinstance(frame, nw.DataFrame):
        return series
    if not frame.implementation.is_polars():
        return frame.to_pandas()
    return pd.DataFrame({name: _column(frame[name]) for name in frame.columns})  # polars' to_pandas needs pyarrow


def _column(series: nw.Series[Any]) -> Any:
    r"""Convert a polars column to an index, array or series that a pandas frame can hold."""
    import narwhals as nw

    kind = series.dtype
    if isinstance(kind, nw.Datetime):
        if kind.time_zone is None:
            return pd.DatetimeIndex(series.to_numpy())
        utc = series.dt.convert_time_zone("UTC").dt.replace_time_zone(None)
        return pd.DatetimeIndex(utc.to_numpy()).tz_localize("UTC").tz_convert(kind.time_zone)
    if kind.is_integer() and series.null_count():
        return pd.array(series.to_list(), dtype="Int64" if kind.is_signed_integer() else "UInt64")
    if kind.is_numeric() or kind == nw.Boolean:
        needs_float = kind.is_decimal() or kind in (nw.Int128, nw.UInt128) or series.null_count()
        return (series.cast(nw.Float64) if needs_float else series).to_numpy()
    if isinstance(kind, nw.Date):
        return pd.DatetimeIndex(series.to_numpy())
    return pd.Series(series.to_list(), dtype=object)
