r"""gluonts predictor that forecasts with an adapter."""

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
from ...adapter import Adapter
from ...arguments import require_samples
from ...data.frequency import date_grid, period_of
from ...data.item import Categories
from ...data.panel import Panel
from ...data.regular_dates import steps_from
from ...data.schema import Schema
from ...errors import few, quoted, unknown
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
    numbered_names,
    read_feature,
    require_finite,
    require_frequency,
    same_names,
    static_fields,
    static_kinds,
)

with quiet():  # gluonts warns about JSON libraries
    from gluonts.model.forecast import SampleForecast
    from gluonts.model.predictor import Predictor

ADAPTER, OPTIONS, GLUONTS_CONFIG = "adapter", "predictor.json", "gluonts-config.json"


class AdapterPredictor(Predictor):  # type: ignore[misc]
    r"""Predictor that forecasts gluonts datasets with a fitted adapter.

    Channels and features are identified by position, as gluonts has no names for them. If a dataset has names, as a
    PandasDataset, they must be those of the fit, in that order. Items that were not in training are accepted.

    Arguments:
        adapter: The fitted adapter.
        num_samples: The number of joint samples :math:`S` of a forecast; `predict` can override it.
        batch_size: The number of entries that are read and forecast at a time.
        freq: The frequency of entries whose start is text or a date, as in a bare `JsonLinesFile`.

    Raises:
        ValueError: If it is no fitted adapter, a number is not positive, or the categories of a static column sort
            differently as numbers and as text.
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
            _require_one_order(name, categories)
        self.adapter, self.num_samples, self.batch_size, self.freq = adapter, num_samples, batch_size, freq
        self.context_length = adapter.context_length_

    def predict(
        self, dataset: Iterable[Mapping[str, Any]], num_samples: int | None = None, **kwargs: Any
    ) -> Iterator[SampleForecast]:
        r"""Forecast the steps after the end of each entry.

        Arguments:
            dataset: The entries, with the fitted channels in their order: `target` has shape :math:`(D, T)`, or
                :math:`(T,)` for a single channel. NaN marks a missing value. If the adapter was fitted with known
                covariates, `feat_dynamic_real` holds them in their order, :math:`(C, T + H)`, without NaN in the last
                :math:`H` steps; past covariates are in `past_feat_dynamic_real`, :math:`(C, T)`. Both may be longer.
                Static numbers are in `feat_static_real`, and codes of categories in `feat_static_cat`. The codes are
                those of training if an `AdapterEstimator` fitted the adapter. Otherwise they are positions, from 0,
                among the sorted categories of the fit, as in pandas. A code unknown to the fit, -1 and NaN stand for no
                category. Other fields are ignored.
            num_samples: The number of joint samples :math:`S`; the predictor's own if None.
            **kwargs: Options of other predictors, which gluonts may pass; ignored.

        Yields:
            One forecast per entry, in order, with the entry's `item_id`, starting at the period after its end. Its
            samples have shape :math:`(S, H, D)`, or :math:`(S, H)` if the target is one-dimensional.

        Raises:
            ValueError: If the dataset has other channels, covariates or another frequency than the adapter was fitted
                on, lacks a known covariate at a prediction step, or has a category code that is no integer.
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
            extended = self._extended(fitted, features, entries)
            panel = extended.rows([length - self.prediction_length for length in extended.lengths])
            forecasts = self.adapter.forecast_panel(panel, extended, num_samples=samples)
            for entry, forecast in zip(entries.values(), forecasts, strict=True):
                yield SampleForecast(
                    samples=forecast.samples[..., 0] if entry["target"].ndim == 1 else forecast.samples,
                    start_date=entry["start"] + entry["target"].shape[-1],
                    item_id=entry.get("item_id"),
                    info=entry.get("info"),
                )

    def _extended(
        self, fitted: Panel, features: Mapping[str, tuple[str, ...]], entries: Mapping[int, Mapping[str, Any]]
    ) -> Panel:
        r"""Return the last rows of entries, followed by prediction steps with values of known covariates only."""
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
            f"entry {number}"
            if entry.get("item_id") is None
            else str(entry["item_id"])  # its position is not the name of an item
            for number, entry in entries.items()
        ]
        items = [replace(item, item_id=name) for item, name in zip(panel.items, ids, strict=True)]
        # If the fit is dated, in local time for the calendar and the season; forecasts are dated by periods.
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
        r"""Return an entry after checks of its channels and frequency."""
        entry, channels = dated_entry(number, entry, self.freq), fitted.targets
        require_finite(number, "target", channels, np.atleast_2d(entry["target"]))
        shape = np.atleast_2d(entry["target"]).shape
        if len(shape) != 2 or shape[0] != len(channels) or not shape[1]:
            raise ValueError(
                f"entry {number} has a target of shape {shape}, expected one or more steps of the {len(channels)} "
                f"channels of the fit ({few(channels)})"
            )
        if not _has_frequency_of(fitted, entry["start"]):
            raise ValueError(
                f"entry {number} has periods of {entry['start'].freqstr!r}, the adapter was fitted on rows of "
                f"{fitted.frequency!r}: resample them, or fit another adapter"
            )
        return entry

    def serialize(self, path: Path) -> None:
        r"""Write gluonts' config of the class, the options, and the saved adapter in the folder `adapter`.

        Arguments:
            path: The folder. An existing predictor there is replaced; other files there are kept.

        Raises:
            OSError: If the folder cannot be written.
            ValueError: If foreign files there have names that a predictor uses.
        """
        path = as_path("path", path)
        for name in (GLUONTS_CONFIG, OPTIONS, ADAPTER):
            require_ours(path / name, PREDICTOR.entry(name))
        with TemporaryDirectory() as folder:
            super().serialize(Path(folder))
            config_text = (Path(folder) / GLUONTS_CONFIG).read_text(encoding="utf-8")
        with writing(path):
            path.mkdir(parents=True, exist_ok=True)
        _write(path / GLUONTS_CONFIG, config_text)
        options: dict[str, Any] = {name: getattr(self, name) for name in ("num_samples", "batch_size", "freq")}
        with replaced(path / ADAPTER, SAVED, overwrite=True) as new:
            write(self.adapter.require_fitted("serialize"), self.adapter, new)
            options["adapter"] = _config_digest(new)
            # Until the new adapter is in its place, the file holds the options of both, each with its adapter's digest.
            before = None
            with suppress(ValueError):  # there are none, or they are damaged
                before = _options(path).model_dump(exclude={"previous"})
            _write(path / OPTIONS, json.dumps({**options, "previous": before}, indent=2) + "\n")
        _write(path / OPTIONS, json.dumps(options, indent=2) + "\n")

    @classmethod
    def deserialize(
        cls, path: Path, *, device: Any = None, foundation_model: Any = None, **kwargs: Any
    ) -> "AdapterPredictor":
        r"""Load a serialised predictor; its forecasts are bitwise identical.

        Arguments:
            path: The folder.
            device: The device of the foundation model; if None, a GPU if available.
            foundation_model: The frozen model, if it is no known one: see `Adapter.load`.
            **kwargs: Options of other predictors, which gluonts may pass; ignored.

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
    r"""Replace one file of a serialised predictor atomically."""
    kind = PREDICTOR.entry(path.name)
    assert isinstance(kind, File)
    with replaced_file(path, kind) as file:
        file.write_text(text, encoding="utf-8")


def _config_digest(folder: Path) -> str:
    r"""Return the digest of an adapter's config, which contains the digest of its other files."""
    return hashlib.sha256(
        schemas.read_text(folder / CONFIG, str(folder / CONFIG), schemas.LARGEST).encode()
    ).hexdigest()


def _options(path: Path) -> schemas.PredictorOptions:
    r"""Return the options in the folder of a serialised predictor that belong to its adapter."""
    what, remedy = str(path / OPTIONS), "serialize the predictor again"
    content = schemas.read_json(path / OPTIONS, what, remedy, most=2**16)
    options = schemas.validated(schemas.PredictorOptions, content, what, remedy, unknown=unknown)
    if options.adapter is None:  # written by an earlier version
        return options
    saved_digest = _config_digest(path / ADAPTER)
    for candidate in (options, options.previous):
        if candidate is not None and candidate.adapter in (None, saved_digest):
            return candidate
    raise ValueError(f"{what} belongs to another adapter than the one in {path / ADAPTER}: {remedy}")


def _has_frequency_of(panel: Panel, start: pd.Period) -> bool:
    r"""Return whether periods have the frequency of a panel's dates, under any alias; always for undated panels."""
    if panel.frequency is None:
        return True
    period = period_of(panel.items[0].index[:1], panel.frequency, "the fit")
    return bool(start.freq == period.freq) or steps_from(start, None, 1)[1] == panel.frequency


def _fields(fitted: Panel) -> dict[str, tuple[str, ...]]:
    r"""Return the names of the fitted covariates, by the field of entries that holds them."""
    return {field: names for field, names in ((PAST, fitted.past_covariates), (KNOWN, fitted.given)) if names}


def dates_following(fitted: Panel, start: pd.Period, periods: int) -> pd.DatetimeIndex:
    r"""Return the dates of periods in local time, with the same position in their periods as the fitted dates."""
    first, frequency = fitted.items[0].index[:1], str(fitted.frequency)
    begin = period_of(first, frequency, "the fit")
    if start.freq != begin.freq:
        return steps_from(start, None, periods)[0]
    steps = (start.ordinal - begin.ordinal) // start.freq.n
    return date_grid(first[0].tz_localize(None) + steps * to_offset(frequency), frequency, periods=periods, unit="ns")


def _require_one_order(name: str, categories: Categories | None) -> None:
    r"""Check that categories sort equally as numbers and as text, so that codes identify them."""
    if categories is None or any(isinstance(category, int) for category in categories):
        return
    try:
        numbers = [float(category) for category in categories]
    except ValueError:
        return
    if numbers != sorted(numbers):
        raise ValueError(
            f"the codes of {name!r} are ambiguous: its categories ({few(map(str, categories))}) sort differently as "
            "numbers and as text; rename them to other text before the fit, or fit with AdapterEstimator"
        )


#: Saved predictors name the class by this module, which stays importable.
AdapterPredictor.__module__ = "adapts.gluonts"
