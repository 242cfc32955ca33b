r"""A predictor as gluonts' own: an adapter behind its interface."""

__all__ = ["AdapterPredictor"]

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pandas as pd
from pandas.tseries.frequencies import to_offset

from ... import checks
from ..._logging import quiet
from ..._version import __version__
from ...adapter import Adapter, require_samples
from ...data.frequency import date_grid, period_of
from ...data.item import Categories
from ...data.panel import Panel
from ...data.regular_dates import steps_from
from ...data.schema import Schema
from ...errors import quoted, unknown
from ...persistence import schemas
from ...persistence.ownership import (
    CONFIG,
    PREDICTOR,
    SAVED,
    File,
    as_path,
    replaced,
    replaced_file,
    require_ours,
    writing,
)
from ...persistence.saving import load, write
from .entries import (
    KNOWN,
    PAST,
    channel_names,
    dated_entry,
    few,
    numbered_names,
    read_feature,
    require_finite,
    require_frequency,
    same_names,
    static_fields,
    static_kinds,
)

with quiet():  # gluonts has advice on JSON libraries
    from gluonts.model.forecast import SampleForecast
    from gluonts.model.predictor import Predictor

ADAPTER, OPTIONS, NOTE = "adapter", "predictor.json", "gluonts-config.json"


class AdapterPredictor(Predictor):  # type: ignore[misc]
    r"""Forecasts gluonts datasets with a fitted adapter, whichever way it was fitted.

    Channels and features go by their position, for gluonts has no names of them; where a dataset has, as PandasDataset,
    they must be those of the fit, in that order. Items that were not in training are taken too.

    Arguments:
        adapter: The fitted adapter.
        num_samples: The number of joint samples :math:`S` of a forecast, unless `predict` is told otherwise.
        batch_size: The number of entries that are read and forecast together.
        freq: The frequency of entries whose start is text or a date, as those of a bare `JsonLinesFile` are.

    Raises:
        ValueError: If it is no fitted adapter, a number is not positive, or the categories of a static column stand in
            one order as numbers and in another as text.
    """

    __version__: str = __version__

    def __init__(self, adapter: Adapter, num_samples: int = 200, batch_size: int = 64, freq: str | None = None) -> None:
        if not isinstance(adapter, Adapter):
            raise ValueError(
                f"AdapterPredictor expects a fitted Adapter, got {type(adapter).__name__}"
                + (": each of its adapters_ is one, of a group" if hasattr(adapter, "adapters_") else "")
            )
        super().__init__(prediction_length=adapter.prediction_length)
        checks.integer("expected batch_size", batch_size)
        require_samples(num_samples, int(adapter.prediction_length), len(adapter.channels))
        require_frequency(freq)
        for name, categories in adapter.require_fitted("predict").panel.static.items():
            _require_countable(name, categories)
        self.adapter, self.num_samples, self.batch_size, self.freq = adapter, num_samples, batch_size, freq
        self.context_length = adapter.context_length_

    def predict(
        self, dataset: Iterable[Mapping[str, Any]], num_samples: int | None = None, **kwargs: Any
    ) -> Iterator[SampleForecast]:
        r"""Forecasts the steps after the end of each entry.

        Arguments:
            dataset: The entries, with the fitted channels in their order: `target` has shape :math:`(D, T)`, or
                :math:`(T,)` for a single channel. NaN marks a missing value. Where the adapter was fitted with known
                covariates, `feat_dynamic_real` holds them in their order, :math:`(C, T + H)`, its last :math:`H` steps
                without NaN; with past ones, `past_feat_dynamic_real`, :math:`(C, T)`. Both may be longer. With static
                columns, `feat_static_real` holds those of numbers and `feat_static_cat` the codes of categories: those
                of its training where an `AdapterEstimator` fitted the adapter, else their places, from 0, among the
                sorted categories of the fit, as pandas counts them. A code that the fit did not see is no category, and
                so are -1 and NaN. Other fields are not looked at.
            num_samples: The number of joint samples :math:`S`; the predictor's own if None.
            **kwargs: What gluonts passes to predictors of other kinds, and means nothing here.

        Yields:
            One forecast an entry, in order, with the entry's `item_id` and dated from the period after its end.
            Its samples have shape :math:`(S, H, D)`, and :math:`(S, H)` where the target is one-dimensional.

        Raises:
            ValueError: If the dataset has other channels, covariates or another frequency than the adapter was fitted
                on, lacks a known covariate at a step ahead, or has a code of a category that is no whole number.
        """
        samples = self.num_samples if num_samples is None else num_samples
        require_samples(samples, self.prediction_length, len(self.adapter.channels))
        fitted = self.adapter.require_fitted("predict").panel
        features = _fields(fitted)
        for field, fitted_names in {"target": fitted.targets, **features, **static_fields(fitted.static)}.items():
            names = channel_names(dataset, field)
            if not same_names(names, fitted_names, numbered_names(field, len(fitted_names))):
                what = "channels" if field == "target" else field
                raise ValueError(
                    f"the dataset's {what} are {few(names)}, the adapter was fitted on {few(fitted_names)}: "
                    "name these in the dataset, in that order"
                )
        numbered = enumerate(dataset)
        while batch := list(islice(numbered, self.batch_size)):
            entries = {number: self._checked(fitted, number, entry) for number, entry in batch}
            ahead = self._ahead(fitted, features, entries)
            panel = ahead.rows([length - self.prediction_length for length in ahead.lengths])
            forecasts = self.adapter.forecast_panel(panel, ahead, num_samples=samples)
            for entry, forecast in zip(entries.values(), forecasts, strict=True):
                yield SampleForecast(
                    samples=forecast.samples[..., 0] if entry["target"].ndim == 1 else forecast.samples,
                    start_date=entry["start"] + entry["target"].shape[-1],
                    item_id=entry.get("item_id"),
                    info=entry.get("info"),
                )

    def _ahead(
        self, fitted: Panel, features: Mapping[str, tuple[str, ...]], entries: Mapping[int, Mapping[str, Any]]
    ) -> Panel:
        r"""The last rows of entries and, behind them, the steps ahead, in which known covariates alone have values."""
        horizon, arrays, starts = self.prediction_length, [], []
        for number, entry in entries.items():
            target = np.atleast_2d(entry["target"])
            rows = [target]
            for field, names in features.items():
                rows.append(
                    read_feature(number, entry, field, names, target.shape[1], horizon if field == KNOWN else 0)
                )
            kinds = np.array(static_kinds(number, entry, fitted.static))
            rows.append(np.tile(kinds[:, None], (1, target.shape[1] + horizon)))
            first = max(0, target.shape[1] - self.context_length)
            ends = [((0, 0), (0, target.shape[1] + horizon - row.shape[1])) for row in rows]
            padded = [np.pad(row, end, constant_values=np.nan) for row, end in zip(rows, ends, strict=True)]
            arrays.append(np.concatenate(padded)[:, first:].T)
            starts.append(entry["start"] + first)
        panel = Panel.of(arrays)
        ids = [
            f"entry {number}" if entry.get("item_id") is None else str(entry["item_id"])  # its place is no item's name
            for number, entry in entries.items()
        ]
        items = [replace(item, item_id=name) for item, name in zip(panel.items, ids, strict=True)]
        # In local time where the fit is dated, for the calendar and the season; what comes out is dated by periods.
        if fitted.frequency is not None:
            panel = replace(panel, frequency=fitted.frequency)
            items = [
                replace(item, index=dates_following(fitted, start, len(item)))
                for item, start in zip(items, starts, strict=True)
            ]
        names = tuple(name for name in fitted.channels if name not in fitted.calendar)
        panel = replace(
            panel, items=tuple(items), channels=names, known_covariates=fitted.static_columns, static=fitted.static
        )
        if fitted.targets != fitted.channels:
            panel = Schema(fitted).assigned(panel)
        ids = [str(number if entry.get("item_id") is None else entry["item_id"]) for number, entry in entries.items()]
        return replace(
            panel, items=tuple(replace(item, item_id=name) for item, name in zip(panel.items, ids, strict=True))
        )

    def _checked(self, fitted: Panel, number: int, entry: Mapping[str, Any]) -> dict[str, Any]:
        r"""An entry of the fitted channels and frequency."""
        entry, channels = dated_entry(number, entry, self.freq), fitted.targets
        require_finite(number, "target", channels, np.atleast_2d(entry["target"]))
        shape = np.atleast_2d(entry["target"]).shape
        if len(shape) != 2 or shape[0] != len(channels) or not shape[1]:
            raise ValueError(
                f"entry {number} has a target of shape {shape}, expected one or more steps of the {len(channels)} "
                f"channels of the fit ({few(channels)})"
            )
        if not _in_steps_of(fitted, entry["start"]):
            raise ValueError(
                f"entry {number} has periods of {entry['start'].freqstr!r}, the adapter was fitted on rows of "
                f"{fitted.frequency!r}: resample, or fit another"
            )
        return entry

    def serialize(self, path: Path) -> None:
        r"""Writes gluonts' note of the class, the options, and the adapter's own folder, `adapter`.

        Arguments:
            path: The folder. A predictor that stands there is replaced; other files there are kept.

        Raises:
            OSError: If the folder cannot be written.
            ValueError: If files that no predictor wrote have the names of ours there.
        """
        path = as_path("path", path)
        for name in (NOTE, OPTIONS, ADAPTER):
            require_ours(path / name, PREDICTOR.entry(name))
        with TemporaryDirectory() as folder:
            super().serialize(Path(folder))
            note = (Path(folder) / NOTE).read_text(encoding="utf-8")
        with writing(path):
            path.mkdir(parents=True, exist_ok=True)
        _write(path / NOTE, note)
        options: dict[str, Any] = {name: getattr(self, name) for name in ("num_samples", "batch_size", "freq")}
        with replaced(path / ADAPTER, SAVED, overwrite=True) as new:
            write(self.adapter.require_fitted("serialize"), self.adapter, new)
            options["adapter"] = _config_digest(new)
            # Until the new adapter is in its place, the options of both are there: each knows which adapter is its own.
            before = None
            with suppress(ValueError):  # none are there, or damaged ones
                before = _options(path).model_dump(exclude={"previous"})
            _write(path / OPTIONS, json.dumps({**options, "previous": before}, indent=2) + "\n")
        _write(path / OPTIONS, json.dumps(options, indent=2) + "\n")

    @classmethod
    def deserialize(
        cls, path: Path, *, device: Any = None, foundation_model: Any = None, **kwargs: Any
    ) -> "AdapterPredictor":
        r"""Reads what `serialize` wrote; forecasts are the same to the bit.

        Arguments:
            path: The folder.
            device: Where the foundation model runs; where there is a GPU, on it, if None.
            foundation_model: The frozen model, if it is neither bundled nor a known one: see `Adapter.load`.
            **kwargs: What gluonts passes to predictors of other kinds.

        Returns:
            The predictor.

        Raises:
            ValueError: If the folder's adapter is missing or corrupt, or its foundation model is not found.
        """
        path = Path(path)
        options = _options(path)

        def call(model: str) -> str:
            return f"{cls.__name__}.deserialize(Path({quoted(str(path))}), foundation_model={model})"

        device = "auto" if device is None else str(device)
        adapter = load(Adapter, path / ADAPTER, foundation_model=foundation_model, device=device, call=call)
        return cls(adapter, num_samples=options.num_samples, batch_size=options.batch_size, freq=options.freq)


def _write(path: Path, text: str) -> None:
    r"""Replaces one file of a serialised predictor at once."""
    kind = PREDICTOR.entry(path.name)
    assert isinstance(kind, File)
    with replaced_file(path, kind) as file:
        file.write_text(text, encoding="utf-8")


def _config_digest(folder: Path) -> str:
    r"""Tells saved adapters apart: their configs hold the digest of all else."""
    return hashlib.sha256(
        schemas.read_text(folder / CONFIG, str(folder / CONFIG), schemas.LARGEST).encode()
    ).hexdigest()


def _options(path: Path) -> schemas.PredictorOptions:
    r"""The options in the folder of a serialised predictor that go with the adapter there."""
    what, remedy = str(path / OPTIONS), "serialize the predictor again"
    content = schemas.read_json(path / OPTIONS, what, remedy, most=2**16)
    options = schemas.validated(schemas.PredictorOptions, content, what, remedy, unknown=unknown)
    if options.adapter is None:  # written by an earlier version
        return options
    there = _config_digest(path / ADAPTER)
    for each in (options, options.previous):
        if each is not None and each.adapter in (None, there):
            return each
    raise ValueError(f"{what} goes with another adapter than the one in {path / ADAPTER}: {remedy}")


def _in_steps_of(panel: Panel, start: pd.Period) -> bool:
    r"""Whether periods go on as a panel's dates do, under whatever name; undated panels go with all."""
    if panel.frequency is None:
        return True
    period = period_of(panel.items[0].index[:1], panel.frequency, "the fit")
    return bool(start.freq == period.freq) or steps_from(start, None, 1)[1] == panel.frequency


def _fields(fitted: Panel) -> dict[str, tuple[str, ...]]:
    r"""The fitted covariates that entries hold, by their field."""
    return {field: names for field, names in ((PAST, fitted.past_covariates), (KNOWN, fitted.given)) if names}


def dates_following(fitted: Panel, start: pd.Period, periods: int) -> pd.DatetimeIndex:
    r"""Dates of periods, in local time, that stand to them as the fitted dates to theirs."""
    first, frequency = fitted.items[0].index[:1], str(fitted.frequency)
    begin = period_of(first, frequency, "the fit")
    if start.freq != begin.freq:
        return steps_from(start, None, periods)[0]
    steps = (start.ordinal - begin.ordinal) // start.freq.n
    return date_grid(first[0].tz_localize(None) + steps * to_offset(frequency), frequency, periods=periods, unit="ns")


def _require_countable(name: str, categories: Categories | None) -> None:
    r"""Checks that categories that were fitted by their names have one order, in which codes count them."""
    if categories is None or any(isinstance(each, int) for each in categories):
        return
    try:
        numbers = [float(each) for each in categories]
    except ValueError:
        return
    if numbers != sorted(numbers):
        raise ValueError(
            f"codes of {name!r} cannot be told: its categories ({few(map(str, categories))}) stand in one order as "
            "numbers and in another as text; give them names that are none in the fit, or fit by AdapterEstimator"
        )


#: Saved predictors name the class by this module, which stays importable.
AdapterPredictor.__module__ = "adapts.gluonts"
