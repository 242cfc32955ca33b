r"""At home in gluonts: an estimator and a predictor that stand wherever gluonts takes one. The work is Adapter's."""

# No `from __future__ import annotations`: `validated` reads the annotations of the signature as they stand.

__all__ = ["AdapterEstimator", "AdapterPredictor"]

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import wraps
from itertools import islice, pairwise
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pandas as pd
from pandas.tseries.frequencies import to_offset

from . import checks
from ._logging import quiet
from ._version import __version__
from .adapter import Adapter, _assigned, require_samples
from .data.columns import as_array, listed
from .data.frequency import calendar as dates_from
from .data.frequency import period_of
from .data.from_memory import MOST_CHANNELS
from .data.item import Categories, Item, columns_of
from .data.panel import Panel
from .data.regular_dates import steps_from
from .errors import quoted, reading, shown, unforeseen, unknown
from .persistence import schemas
from .persistence.ownership import (
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
from .persistence.saving import load, write

with quiet():  # gluonts has advice on JSON libraries
    from gluonts.core.component import validated
    from gluonts.model.estimator import Estimator
    from gluonts.model.forecast import SampleForecast
    from gluonts.model.predictor import Predictor
    from gluonts.pydantic import ValidationError

ADAPTER, OPTIONS, NOTE = "adapter", "predictor.json", "gluonts-config.json"
#: The fields of entries that hold past and known covariates, and static numbers and categories.
PAST, KNOWN = "past_feat_dynamic_real", "feat_dynamic_real"
REAL, CAT = "feat_static_real", "feat_static_cat"


def _by_our_error(init: Callable[..., None]) -> Callable[..., None]:
    r"""Answers what gluonts' check of types refuses as every other option is answered."""

    @wraps(init)
    def checked(self: Any, *args: Any, **options: Any) -> None:
        with unforeseen("AdapterEstimator cannot read its options", "pass plain numbers, text and switches"):
            try:
                init(self, *args, **options)
            except ValidationError as error:
                name, reason = error.errors()[0]["loc"][0], error.errors()[0]["msg"]
                raise ValueError(
                    f"AdapterEstimator takes no such {name}, got {shown(options.get(name))}: {reason}"
                ) from error

    return checked


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
        _require_frequency(freq)
        for name, categories in adapter._require_fitted("predict").panel.static.items():
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
        fitted = self.adapter._require_fitted("predict").panel
        features = _fields(fitted)
        for field, fitted_names in {"target": fitted.targets, **features, **_static_fields(fitted.static)}.items():
            names = _names(dataset, field)
            if not _alike(names, fitted_names, _numbered(field, len(fitted_names))):
                what = "channels" if field == "target" else field
                raise ValueError(
                    f"the dataset's {what} are {_some(names)}, the adapter was fitted on {_some(fitted_names)}: "
                    "name these in the dataset, in that order"
                )
        numbered = enumerate(dataset)
        while batch := list(islice(numbered, self.batch_size)):
            entries = {number: self._checked(fitted, number, entry) for number, entry in batch}
            ahead = self._ahead(fitted, features, entries)
            panel = ahead.rows([length - self.prediction_length for length in ahead.lengths])
            forecasts = self.adapter._forecasts(panel, ahead, num_samples=samples)
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
                rows.append(_feature(number, entry, field, names, target.shape[1], horizon if field == KNOWN else 0))
            kinds = np.array(_kinds(number, entry, fitted.static))
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
                replace(item, index=_dates(fitted, start, len(item))) for item, start in zip(items, starts, strict=True)
            ]
        names = tuple(name for name in fitted.channels if name not in fitted.calendar)
        panel = replace(
            panel, items=tuple(items), channels=names, known_covariates=fitted.static_columns, static=fitted.static
        )
        if fitted.targets != fitted.channels:
            panel = _assigned(fitted, panel)
        ids = [str(number if entry.get("item_id") is None else entry["item_id"]) for number, entry in entries.items()]
        return replace(
            panel, items=tuple(replace(item, item_id=name) for item, name in zip(panel.items, ids, strict=True))
        )

    def _checked(self, fitted: Panel, number: int, entry: Mapping[str, Any]) -> dict[str, Any]:
        r"""An entry of the fitted channels and frequency."""
        entry, channels = _dated(number, entry, self.freq), fitted.targets
        _require_finite(number, "target", channels, np.atleast_2d(entry["target"]))
        shape = np.atleast_2d(entry["target"]).shape
        if len(shape) != 2 or shape[0] != len(channels) or not shape[1]:
            raise ValueError(
                f"entry {number} has a target of shape {shape}, expected one or more steps of the {len(channels)} "
                f"channels of the fit ({_some(channels)})"
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
            write(self.adapter._require_fitted("serialize"), self.adapter, new)
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


class AdapterEstimator(Estimator):  # type: ignore[misc]
    r"""Fits an adapter to a gluonts dataset: `Adapter` with the signature of gluonts' estimators.

    The options are those of `Adapter`, with the same defaults, all of a kind that JSON holds, so that gluonts' own
    `from_hyperparameters`, `dump_json` and `load_json` work. Nothing is cut into instances, padded or imputed by
    gluonts: the rows go into a `Panel` as they are, NaN included, and `Adapter.fit` does the rest.

    Arguments:
        prediction_length: The number of steps to forecast, :math:`H`.
        context_length: As in `Adapter`.
        family: The name of a recipe or of a family, or the Path of a recipe of your own.
        family_options: The family's own options, as `{"latent_channels": 4}`; the recipe's where left out.
        foundation_model: A bundled name, a local folder or a hub id. A live model works, but JSON cannot hold it.
        objective: As in `Adapter`.
        horizon_weights: As in `Adapter`.
        learning_rate: As in `Adapter`.
        copula: As in `Adapter`.
        recalibration: As in `Adapter`.
        gate: As in `Adapter`.
        probe_head: As in `Adapter`.
        support: As in `Adapter`; channels are called "0", "1", ... unless a PandasDataset names them.
        posterior_draws: As in `Adapter`.
        max_windows: As in `Adapter`.
        seed: As in `Adapter`.
        batch_size: As in `Adapter`, and the entries that the predictor reads together.
        device: As in `Adapter`.
        trainer_kwargs: Options of `lightning.pytorch.Trainer`, for families trained by gradient.
        num_samples: The number of joint samples of a forecast.
        freq: The frequency of entries whose start is text or a date, as those of a bare `JsonLinesFile` are.
        num_feat_dynamic_real: How many known covariates entries have in `feat_dynamic_real`, :math:`(C, T)` in training
            and :math:`(C, T + H)` to predict; not looked at if 0. See `known_covariates` of `Adapter.fit`. They are
            called "feat_dynamic_real 0", ... unless a PandasDataset names them.
        num_past_feat_dynamic_real: The same of past covariates in `past_feat_dynamic_real`, :math:`(C, T)`.
        calendar: Whether the dates are known covariates too, as for `Adapter.fit`.
        num_feat_static_real: How many static numbers entries have in `feat_static_real`, :math:`(S,)`; not looked at if
            0. See `static` of `Adapter.fit`.
        num_feat_static_cat: The same of categories in `feat_static_cat`.

    Raises:
        ValueError: If an option is not fit for its purpose.

    Example:
        >>> series = np.random.randn(200, 3).cumsum(0)
        >>> dataset = [{"start": pd.Period("2024-01-01", "D"), "target": series.T, "item_id": "a"}]
        >>> predictor = AdapterEstimator(prediction_length=7, context_length=64).train(dataset)
        >>> forecast = next(predictor.predict(dataset))
        >>> forecast.samples.shape, forecast.start_date, forecast.item_id
        ((200, 7, 3), Period('2024-07-19', 'D'), 'a')
    """

    __version__: str = __version__

    @_by_our_error
    @validated()  # type: ignore[no-untyped-call, untyped-decorator]
    def __init__(
        self,
        prediction_length: int,
        context_length: int | None = None,
        family: str | Path = "residual",
        family_options: dict[str, Any] | None = None,
        foundation_model: Any = "bolt-nano",
        objective: str | None = None,
        horizon_weights: float | None = None,
        learning_rate: float | None = None,
        copula: str = "residual",
        recalibration: str = "auto",
        gate: bool = True,
        probe_head: bool | None = None,
        support: Any = None,
        posterior_draws: int = 20,
        max_windows: int = 1000,
        seed: int = 0,
        batch_size: int = 64,
        device: str = "auto",
        trainer_kwargs: dict[str, Any] | None = None,
        num_samples: int = 200,
        freq: str | None = None,
        num_feat_dynamic_real: int = 0,
        num_past_feat_dynamic_real: int = 0,
        calendar: bool = False,
        num_feat_static_real: int = 0,
        num_feat_static_cat: int = 0,
    ) -> None:
        super().__init__()
        checks.integer("expected num_samples", num_samples)
        _require_frequency(freq)
        self.features = {PAST: num_past_feat_dynamic_real, KNOWN: num_feat_dynamic_real}
        self.static, self.calendar = {REAL: num_feat_static_real, CAT: num_feat_static_cat}, calendar
        for field, count in (self.features | self.static).items():
            checks.integer(f"expected num_{field}", count, 0, MOST_CHANNELS)
        self.prediction_length, self.num_samples, self.freq = prediction_length, num_samples, freq
        self.adapter = Adapter(
            family, foundation_model=foundation_model, prediction_length=prediction_length,
            context_length=context_length, objective=objective, horizon_weights=horizon_weights,
            learning_rate=learning_rate, copula=copula, recalibration=recalibration, gate=gate, probe_head=probe_head,
            support=support, posterior_draws=posterior_draws, max_windows=max_windows, seed=seed, batch_size=batch_size,
            device=device, trainer_options=trainer_kwargs,
        ).set_params(**{f"family__{name}": value for name, value in (family_options or {}).items()})  # fmt: skip

    def train(
        self,
        training_data: Iterable[Mapping[str, Any]],
        validation_data: Iterable[Mapping[str, Any]] | None = None,
        *,
        checkpoint_dir: str | Path | None = None,
    ) -> AdapterPredictor:
        r"""Fits an adapter. The estimator stays as it is, and an error in training is raised.

        Arguments:
            training_data: The entries: `start`, a Period, and `target`, :math:`(D, T)` or :math:`(T,)`; NaN marks a
                missing value. The declared features hold a value for each of its steps, and may go on behind them. The
                last 30 % of the rows are held back from the parameters to validate and to calibrate, unless there is
                `validation_data`.
            validation_data: The same items, grown longer or going on where training data end: only the rows after that
                end are read, and their first third validates, the second calibrates, the last confirms.
            checkpoint_dir: As for `Adapter.fit`.

        Returns:
            The predictor.

        Raises:
            ValueError: If the data are unfit, see `Panel.of` and `Adapter.fit`, or if `validation_data` cannot serve:
                other items or channels, a gap, fewer than :math:`3 H` rows, or items that end at different dates.
        """
        panel, borders = self._panel(training_data), None
        if validation_data is not None:
            later = self._panel(validation_data, panel.static)
            panel, borders = _joined(panel, later, 3 * self.prediction_length, self._counts(len(panel.targets)))
        ends = np.cumsum([0, *self._counts(len(panel.targets)).values()])  # static columns have their role already
        targets, past, known = (panel.channels[start:end] for start, end in pairwise(ends))
        adapter = self.adapter.clone().fit(
            panel, target=targets, past_covariates=past, known_covariates=known, calendar=self.calendar,
            borders=borders, checkpoint_dir=checkpoint_dir,
        )  # fmt: skip
        return AdapterPredictor(adapter, self.num_samples, adapter.batch_size, self.freq)

    def _panel(
        self, dataset: Iterable[Mapping[str, Any]], static: Mapping[str, Categories | None] | None = None
    ) -> Panel:
        r"""The targets of a dataset and, behind them, its declared features; `static` are the categories, if known."""
        entries = [_dated(number, entry, self.freq) for number, entry in enumerate(dataset)]
        static = self._categories(dataset, entries) if static is None else static
        for number, entry in enumerate(entries):
            target = np.atleast_2d(entry["target"])
            rows = [
                _feature(number, entry, field, _numbered(field, count), target.shape[-1], 0)
                for field, count in self.features.items() if count and target.ndim == 2
            ]  # fmt: skip
            if static and target.ndim == 2:
                rows.append(np.tile(np.array(_kinds(number, entry, static))[:, None], (1, target.shape[-1])))
            known: dict[str, Any] = {
                name: entry[name] for name in ("start", "item_id") if name in entry
            }  # features are among the rows
            entries[number] = {**known, "target": np.concatenate([target, *rows])}
        panel, made = Panel.of(entries), columns_of(static)
        names: list[str] = []
        for field, count in self._counts(panel.num_channels - len(made)).items():
            told = _names(dataset, field)
            names.extend(told if len(told) == count else _numbered(field, count))
        return replace(panel, channels=(*names, *made), known_covariates=made, static=static)

    def _categories(self, dataset: Any, entries: Sequence[Mapping[str, Any]]) -> dict[str, Categories | None]:
        r"""The declared static features by name, with the categories that entries have."""
        found: dict[str, Categories | None] = {}
        for field, count in self.static.items():
            told = _names(dataset, field)
            names = told if len(told) == count else _numbered(field, count)
            rows = [_static(number, entry, field, names) for number, entry in enumerate(entries)] if count else []
            for place, name in enumerate(names):
                kinds = () if field == REAL else sorted({int(row[place]) for row in rows if row[place] >= 0})
                found[name] = None if field == REAL else tuple(kinds)  # -1 and NaN are none
        return found

    def _counts(self, width: int) -> dict[str, int]:
        r"""How many columns are targets, past and known covariates, which stand in this order, static ones aside."""
        return {"target": width - sum(self.features.values()), **self.features}


def _in_steps_of(panel: Panel, start: pd.Period) -> bool:
    r"""Whether periods go on as a panel's dates do, under whatever name; undated panels go with all."""
    if panel.frequency is None:
        return True
    period = period_of(panel.items[0].index[:1], panel.frequency, "the fit")
    return bool(start.freq == period.freq) or steps_from(start, None, 1)[1] == panel.frequency


def _fields(fitted: Panel) -> dict[str, tuple[str, ...]]:
    r"""The fitted covariates that entries hold, by their field."""
    return {field: names for field, names in ((PAST, fitted.past_covariates), (KNOWN, fitted.given)) if names}


def _dates(fitted: Panel, start: pd.Period, periods: int) -> pd.DatetimeIndex:
    r"""Dates of periods, in local time, that stand to them as the fitted dates to theirs."""
    first, frequency = fitted.items[0].index[:1], str(fitted.frequency)
    begin = period_of(first, frequency, "the fit")
    if start.freq != begin.freq:
        return steps_from(start, None, periods)[0]
    steps = (start.ordinal - begin.ordinal) // start.freq.n
    return dates_from(first[0].tz_localize(None) + steps * to_offset(frequency), frequency, periods=periods, unit="ns")


def _names(dataset: Any, field: str) -> tuple[str, ...]:
    r"""What the rows of a field are called, where the dataset, or the one it was cut from, is a PandasDataset."""
    for wrapped in ("test_data", "dataset"):
        dataset = getattr(dataset, wrapped, dataset)
    if field in (REAL, CAT):  # PandasDataset keeps them in frames of its own, a row a feature
        field = {REAL: "_static_reals", CAT: "_static_cats"}[field]
        return tuple(str(name) for name in getattr(getattr(dataset, field, None), "index", ()))
    names = getattr(dataset, field, None)
    names = [names] if isinstance(names, str) else names
    return tuple(str(name) for name in names) if isinstance(names, list | tuple) else ()


def _numbered(field: str, count: int) -> tuple[str, ...]:
    r"""What the rows of a field are called where nothing names them."""
    return tuple(str(number) if field == "target" else f"{field} {number}" for number in range(count))


def _alike(names: tuple[str, ...], others: tuple[str, ...], numbered: tuple[str, ...]) -> bool:
    r"""Whether rows are the same in the same order, as far as both have names and not only numbers."""
    return not names or names in (others, numbered) or others == numbered


def _feature(
    number: int, entry: Mapping[str, Any], field: str, names: tuple[str, ...], steps: int, ahead: int
) -> np.ndarray:
    r"""The covariates that an entry has in a field, at the steps of its target and at those ahead, (C, T + H)."""
    expected = f"expected {len(names)} rows ({_some(names)}) of {steps + ahead} steps or more"
    if ahead:
        expected += f", the {steps} of its target and the {ahead} ahead"
    if entry.get(field) is None:
        raise ValueError(f"entry {number} has no {field}: {expected}")
    values = np.atleast_2d(as_array(entry[field]))
    if values.ndim != 2 or len(values) != len(names) or values.shape[1] < steps + ahead:
        raise ValueError(f"entry {number} has {field} of shape {values.shape}: {expected}")
    values = values[:, : steps + ahead]
    _require_finite(number, field, names, values)
    lacking = np.isnan(values[:, steps:]).sum(1)
    if lacking.any():
        row = int(lacking.argmax())
        raise ValueError(
            f"entry {number} lacks {lacking[row]} of the {ahead} steps ahead of {names[row]!r} (row {row} of {field}): "
            "known covariates need a value at each"
        )
    return values


def _dated(number: int, entry: Mapping[str, Any], freq: str | None) -> dict[str, Any]:
    r"""An entry that starts with a Period and whose target is an array, as gluonts' own datasets give it."""
    if not isinstance(entry, Mapping):
        raise ValueError(f"expected gluonts entries with 'target' and 'start'; entry {number} is {shown(entry)}")
    if not {"start", "target"} <= entry.keys():
        raise ValueError(f"expected gluonts entries with 'target' and 'start'; entry {number} has {listed(entry)}")
    start, target = entry["start"], np.atleast_1d(as_array(entry["target"]))
    if isinstance(start, pd.Period):
        if freq is not None and start.freq != to_offset(freq):
            raise ValueError(f"entry {number} has periods of {start.freqstr!r}, not of freq={freq!r}: leave freq out")
        return {**entry, "target": target}
    if freq is None:
        raise ValueError(
            f"entry {number} starts at {shown(start)}, no Period: read it through gluonts' FileDataset or "
            "ListDataset, or give freq="
        )
    with reading(f"the start {shown(start)} of entry {number} is no period of freq={freq!r}", "write it as 2024-01-31"):
        period = pd.Period(start, to_offset(freq))  # type: ignore[arg-type]
    return {**entry, "start": period, "target": target}


def _static(number: int, entry: Mapping[str, Any], field: str, names: Sequence[str]) -> np.ndarray:
    r"""The static features that an entry has in a field, (S,)."""
    values = np.zeros(0) if entry.get(field) is None else np.atleast_1d(as_array(entry[field]))
    if values.shape != (len(names),):
        raise ValueError(
            f"entry {number} has {field} of shape {values.shape}, expected ({len(names)},): {_some(names)}"
        )
    if field == REAL:
        _require_finite(number, field, names, values[:, None])
    for name, value in zip(names, values, strict=True):
        if field == CAT and not (np.isnan(value) or value >= -1 and float(value).is_integer()):
            raise ValueError(
                f"entry {number} has {value:g} in {field} for {name!r}: expected the code of a category, a whole "
                "number from 0, or -1 for none"
            )
    return values


def _require_finite(number: int, field: str, names: Sequence[str], values: np.ndarray) -> None:
    r"""Checks that rows (C, T) of an entry hold no infinity."""
    rows, steps = np.nonzero(np.isinf(values))
    if len(rows):
        name = names[rows[0]] if rows[0] < len(names) else str(rows[0])
        raise ValueError(
            f"entry {number} has an infinite value of {name!r} (row {rows[0]} of {field}), first at step {steps[0]}: a "
            "missing value is NaN"
        )


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
            f"codes of {name!r} cannot be told: its categories ({_some(map(str, categories))}) stand in one order as "
            "numbers and in another as text; give them names that are none in the fit, or fit by AdapterEstimator"
        )


def _static_fields(static: Mapping[str, Categories | None]) -> dict[str, tuple[str, ...]]:
    r"""The static columns that entries hold, by their field."""
    numbers = tuple(name for name, categories in static.items() if categories is None)
    kinds = tuple(name for name in static if name not in numbers)
    return {field: names for field, names in ((REAL, numbers), (CAT, kinds)) if names}


def _kinds(number: int, entry: Mapping[str, Any], static: Mapping[str, Categories | None]) -> list[float]:
    r"""The static columns of an entry: numbers as they are, an indicator a category."""
    values: dict[str, float] = {}
    for field, names in _static_fields(static).items():
        values |= dict(zip(names, _static(number, entry, field, names), strict=True))
    row: list[float] = []
    for name, categories in static.items():
        if categories is None:
            row.append(values[name])
        else:  # an estimator knows the codes of its categories; those of a fit that had names count their places
            codes = [each if isinstance(each, int) else place for place, each in enumerate(categories)]
            row += [float(values[name] == code) for code in codes]
    return row


def _joined(
    training: Panel, validation: Panel, needed: int, counts: Mapping[str, int]
) -> tuple[Panel, tuple[int, int]]:
    r"""Puts the rows of validation data behind those of training data, and counts the dates where both end."""
    if (validation.frequency, validation.num_channels) != (training.frequency, training.num_channels):
        raise ValueError(
            f"validation_data holds {validation.num_channels} channels of frequency {validation.frequency!r}, "
            f"training_data {training.num_channels} of {training.frequency!r}: both must be alike"
        )
    numbered = tuple(name for field, count in counts.items() for name in _numbered(field, count))
    if not _alike(validation.targets, training.targets, numbered):
        raise ValueError(
            f"validation_data's channels are {_some(validation.targets)}, those of training_data "
            f"{_some(training.targets)}: both must name the same, in the same order"
        )
    longer = {item.item_id: item for item in validation.items}
    names = {item.item_id for item in training.items}
    if not longer.keys() <= names or len(longer) < len(validation) or len(names) < len(training):
        raise ValueError(
            "validation_data must hold items of training_data, each once and under the same item_id; got "
            f"{_some(item.item_id for item in validation.items)}, not {_some(item.item_id for item in training.items)}"
        )
    items, later = [], []
    for item in training.items:
        other = longer.get(item.item_id, item)
        behind = other.index > item.index[-1]
        if behind.any():
            later.append(other.index[behind][0])
            if later[-1] != training.future_index(item, 1)[0]:
                raise ValueError(
                    f"validation_data of item {item.item_id!r} goes on at {later[-1]}, training_data end at "
                    f"{item.index[-1]}: the rows between are missing"
                )
        values = np.concatenate([item.values, other.values[behind]])
        items.append(Item(item.item_id, values, item.index.append(other.index[behind])))
    end = max(item.index[-1] for item in training.items)
    if later and min(later) <= end:
        raise ValueError(
            f"validation_data cannot serve where items end at different dates: training_data end at {end}, but "
            f"validation rows begin at {min(later)}. Cut all at one date, as split(dataset, date=...) does"
        )
    dates = np.unique(np.concatenate([item.clock() for item in items]))
    train = int(np.searchsorted(dates, end.as_unit("ns").value, side="right"))
    if len(dates) - train < needed:
        raise ValueError(
            f"validation_data goes on for {len(dates) - train} rows after the end of training_data, at least {needed} "
            "are needed, three prediction lengths: give more, or leave it out"
        )
    return replace(training, items=tuple(items)), (train, len(dates))


def _require_frequency(freq: object) -> None:
    r"""Checks the frequency of entries whose start is no Period."""
    if freq is None:
        return
    with reading(f"freq is the alias of a frequency of pandas, got {shown(freq)}", "pass one, such as 'h'"):
        to_offset(freq)  # type: ignore[call-overload]


def _some(names: Iterable[str]) -> str:
    shown = list(names)
    return ", ".join(shown if len(shown) <= 4 else [*shown[:3], "...", shown[-1]])
