r"""gluonts estimator that fits an adapter."""

# No `from __future__ import annotations`: `validated` evaluates the annotations of the signature.

__all__ = ["AdapterEstimator"]

import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import wraps
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from ... import checks
from ..._logging import quiet
from ..._version import __version__
from ...adapter import Adapter
from ...data.from_memory import MOST_CHANNELS
from ...data.item import Categories, Item, columns_of
from ...data.panel import Panel
from ...errors import few, shown, unforeseen
from ...fractions import FRACTIONS
from ...options import FIELDS
from .entries import (
    CAT,
    KNOWN,
    PAST,
    REAL,
    channel_names,
    dated_entry,
    numbered_names,
    read_feature,
    require_frequency,
    same_names,
    static_kinds,
    static_values,
)
from .predictor import AdapterPredictor

with quiet():  # gluonts warns about JSON libraries
    from gluonts.core.component import validated
    from gluonts.model.estimator import Estimator
    from gluonts.pydantic import ValidationError


def _by_our_error(init: Callable[..., None]) -> Callable[..., None]:
    r"""Convert errors of gluonts' type checks to those of other options, and check what they would change silently."""
    fields = list(inspect.signature(init).parameters.values())[1:]
    whole = [field.name for field in fields if field.annotation in (int, int | None)]

    @wraps(init)
    def checked(self: Any, *args: Any, **options: Any) -> None:
        by_place = dict(zip((field.name for field in fields), args, strict=False))
        for name, value in by_place.items():
            if name in options:
                raise ValueError(
                    f"AdapterEstimator got {name} twice, {shown(value)} by its place and {shown(options[name])} by its "
                    "name: name all options, as in AdapterEstimator(family='identity', prediction_length=24)"
                )
        for name, value in (by_place | options).items():
            if name in whole and isinstance(value, float) and not value.is_integer():
                raise ValueError(f"AdapterEstimator expects {name} to be an integer, got {shown(value)}")
        with unforeseen("AdapterEstimator cannot read its options", "pass plain numbers, text and switches"):
            try:
                init(self, *args, **options)
            except ValidationError as error:
                name, reason = error.errors()[0]["loc"][0], error.errors()[0]["msg"]
                raise ValueError(
                    f"AdapterEstimator got an invalid {name}, {shown(options.get(name))}: {reason}"
                ) from error

    return checked


class AdapterEstimator(Estimator):  # type: ignore[misc]
    r"""Estimator that fits an adapter to a gluonts dataset, with the interface of gluonts' estimators.

    The options are those of `Adapter`, with the same defaults. JSON can represent all of them, so that gluonts'
    `from_hyperparameters`, `dump_json` and `load_json` work. gluonts neither samples instances nor pads or imputes: all
    rows are passed unchanged to `Adapter.fit`, including NaN.

    Arguments:
        prediction_length: The number of steps to forecast, :math:`H`.
        context_length: As in `Adapter`.
        family: The name of a preset or of a family, or the Path of your own preset.
        family_options: The family's own options, as `{"latent_channels": 4}`; the recipe's where left out.
        foundation_model: A known name, a local folder or a hub id. A live model works, but JSON cannot hold it.
        objective: As in `Adapter`.
        horizon_weights: As in `Adapter`.
        learning_rate: As in `Adapter`.
        copula: As in `Adapter`.
        recalibration: As in `Adapter`.
        gate: As in `Adapter`.
        probe_head: As in `Adapter`.
        support: As in `Adapter`; channels are called "0", "1", ... unless a PandasDataset names them.
        posterior_draws: As in `Adapter`.
        splits: As in `Adapter`.
        max_windows: As in `Adapter`.
        seed: As in `Adapter`.
        batch_size: As in `Adapter`; also the number of entries that the predictor reads at a time.
        device: As in `Adapter`.
        trainer_kwargs: Options of `lightning.pytorch.Trainer`, for families trained by gradient.
        num_samples: The number of joint samples of a forecast.
        freq: The frequency of entries whose start is text or a date, as in a bare `JsonLinesFile`.
        num_feat_dynamic_real: The number of known covariates in `feat_dynamic_real`, :math:`(C, T)` in training and
            :math:`(C, T + H)` in prediction; ignored if 0. See `known_covariates` of `Adapter.fit`. They are called
            "feat_dynamic_real 0", ... unless a PandasDataset names them.
        num_past_feat_dynamic_real: The number of past covariates in `past_feat_dynamic_real`, :math:`(C, T)`.
        calendar: Whether to derive known covariates from the dates, as for `Adapter.fit`.
        num_feat_static_real: The number of static real features in `feat_static_real`, :math:`(S,)`; ignored if 0. See
            `static` of `Adapter.fit`.
        num_feat_static_cat: The number of static categorical features in `feat_static_cat`.
        time_limit: The seconds that `train` may take, as for `Adapter.fit`.

    Raises:
        ValueError: If an option is invalid.

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
        family: str | Path = "auto",
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
        splits: Any = FRACTIONS,
        max_windows: int | None = None,
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
        time_limit: float | None = None,
    ) -> None:
        given = {name: value for name, value in locals().items() if name in FIELDS}
        super().__init__()
        checks.integer("expected num_samples", num_samples)
        require_frequency(freq)
        self.features = {PAST: num_past_feat_dynamic_real, KNOWN: num_feat_dynamic_real}
        self.static, self.calendar = {REAL: num_feat_static_real, CAT: num_feat_static_cat}, calendar
        for field, count in (self.features | self.static).items():
            checks.integer(f"expected num_{field}", count, 0, MOST_CHANNELS)
        checks.time_limit(time_limit)
        self.prediction_length, self.num_samples, self.freq = prediction_length, num_samples, freq
        self.time_limit = time_limit
        self.adapter = Adapter(**given, trainer_options=trainer_kwargs).set_params(
            **{f"family__{name}": value for name, value in (family_options or {}).items()}
        )

    def train(
        self,
        training_data: Iterable[Mapping[str, Any]],
        validation_data: Iterable[Mapping[str, Any]] | None = None,
        *,
        checkpoint_dir: str | Path | None = None,
    ) -> AdapterPredictor:
        r"""Fit an adapter. The estimator is not modified, and errors in training are raised.

        Arguments:
            training_data: The entries: `start`, a Period, and `target`, :math:`(D, T)` or :math:`(T,)`; NaN marks a
                missing value. The declared features have a value for each of its steps, and may be longer. Without
                `validation_data`, the last rows, 30 % by default, are held out for validation, calibration and
                selection.
            validation_data: The same items, longer than or continuing the training data. Only rows after its end are
                read: their first third is for validation, the second for calibration, the last for selection, or the
                fractions in proportion to the last three of `splits`.
            checkpoint_dir: As for `Adapter.fit`.

        Returns:
            The predictor.

        Raises:
            ValueError: If the data are invalid, see `Panel.of` and `Adapter.fit`, or if `validation_data` has other
                items or channels, a gap, fewer than :math:`3 H` rows, or items that end at different dates.
        """
        panel, borders = self._panel(training_data), None
        if validation_data is not None:
            validation = self._panel(validation_data, panel.static)
            panel, borders = _joined(panel, validation, 3 * self.prediction_length, self._counts(len(panel.targets)))
        ends = np.cumsum([0, *self._counts(len(panel.targets)).values()])  # static columns already have their role
        targets, past, known = (panel.channels[start:end] for start, end in pairwise(ends))
        adapter = self.adapter.clone().fit(
            panel, target=targets, past_covariates=past, known_covariates=known, calendar=self.calendar,
            borders=borders, checkpoint_dir=checkpoint_dir, time_limit=self.time_limit,
        )  # fmt: skip
        return AdapterPredictor(adapter, self.num_samples, adapter.batch_size, self.freq)

    def _panel(
        self, dataset: Iterable[Mapping[str, Any]], static: Mapping[str, Categories | None] | None = None
    ) -> Panel:
        r"""Return the targets of a dataset, followed by its declared features; `static` holds any known categories."""
        entries = [dated_entry(number, entry, self.freq) for number, entry in enumerate(dataset)]
        static = self._categories(dataset, entries) if static is None else static
        for number, entry in enumerate(entries):
            target = np.atleast_2d(entry["target"])
            rows = [
                read_feature(number, entry, field, numbered_names(field, count), target.shape[-1], 0)
                for field, count in self.features.items() if count and target.ndim == 2
            ]  # fmt: skip
            if static and target.ndim == 2:
                rows.append(np.tile(np.array(static_kinds(number, entry, static))[:, None], (1, target.shape[-1])))
            known: dict[str, Any] = {
                name: entry[name] for name in ("start", "item_id") if name in entry
            }  # features are among the rows
            entries[number] = {**known, "target": np.concatenate([target, *rows])}
        panel, static_channels = Panel.of(entries), columns_of(static)
        names: list[str] = []
        for field, count in self._counts(panel.num_channels - len(static_channels)).items():
            given_names = channel_names(dataset, field)
            names.extend(given_names if len(given_names) == count else numbered_names(field, count))
        return replace(panel, channels=(*names, *static_channels), known_covariates=static_channels, static=static)

    def _categories(self, dataset: Any, entries: Sequence[Mapping[str, Any]]) -> dict[str, Categories | None]:
        r"""Return the declared static features by name, with the categories in the entries."""
        found: dict[str, Categories | None] = {}
        for field, count in self.static.items():
            given_names = channel_names(dataset, field)
            names = given_names if len(given_names) == count else numbered_names(field, count)
            rows = [static_values(number, entry, field, names) for number, entry in enumerate(entries)] if count else []
            for position, name in enumerate(names):
                kinds = () if field == REAL else sorted({int(row[position]) for row in rows if row[position] >= 0})
                found[name] = None if field == REAL else tuple(kinds)  # -1 and NaN are no categories
        return found

    def _counts(self, width: int) -> dict[str, int]:
        r"""Return the numbers of targets, past and known covariates, in the order of columns, without static ones."""
        return {"target": width - sum(self.features.values()), **self.features}


def _joined(
    training: Panel, validation: Panel, min_rows: int, counts: Mapping[str, int]
) -> tuple[Panel, tuple[int, int]]:
    r"""Append the rows of validation data to training data; return the numbers of dates at which both end."""
    if (validation.frequency, validation.num_channels) != (training.frequency, training.num_channels):
        raise ValueError(
            f"validation_data holds {validation.num_channels} channels of frequency {validation.frequency!r}, "
            f"training_data {training.num_channels} of {training.frequency!r}: pass data with the same of both"
        )
    numbered = tuple(name for field, count in counts.items() for name in numbered_names(field, count))
    if not same_names(validation.targets, training.targets, numbered):
        raise ValueError(
            f"validation_data's channels are {few(validation.targets)}, those of training_data "
            f"{few(training.targets)}: pass the same channels in the same order"
        )
    validation_items = {item.item_id: item for item in validation.items}
    names = {item.item_id for item in training.items}
    if not validation_items.keys() <= names or len(validation_items) < len(validation) or len(names) < len(training):
        raise ValueError(
            "validation_data must hold items of training_data, each once and under the same item_id; got "
            f"{few(item.item_id for item in validation.items)}, not {few(item.item_id for item in training.items)}"
        )
    items, first_new_dates = [], []
    for item in training.items:
        validation_item = validation_items.get(item.item_id, item)
        new_rows = validation_item.index > item.index[-1]
        if new_rows.any():
            first_new_dates.append(validation_item.index[new_rows][0])
            if first_new_dates[-1] != training.future_index(item, 1)[0]:
                raise ValueError(
                    f"validation_data of item {item.item_id!r} continues at {first_new_dates[-1]}, training_data end "
                    f"at {item.index[-1]}: the rows between are missing"
                )
        values = np.concatenate([item.values, validation_item.values[new_rows]])
        items.append(Item(item.item_id, values, item.index.append(validation_item.index[new_rows])))
    end = max(item.index[-1] for item in training.items)
    if first_new_dates and min(first_new_dates) <= end:
        raise ValueError(
            f"validation_data cannot serve where items end at different dates: training_data end at {end}, but "
            f"validation rows begin at {min(first_new_dates)}. Cut all at one date, as split(dataset, date=...) does"
        )
    dates = np.unique(np.concatenate([item.clock() for item in items]))
    train = int(np.searchsorted(dates, end.as_unit("ns").value, side="right"))
    if len(dates) - train < min_rows:
        raise ValueError(
            f"validation_data goes on for {len(dates) - train} rows after the end of training_data, at least "
            f"{min_rows} are needed, three prediction lengths: pass more, or leave validation_data out"
        )
    return replace(training, items=tuple(items)), (train, len(dates))


#: As for `AdapterPredictor`.
AdapterEstimator.__module__ = "adapts.gluonts"
