r"""An estimator as gluonts' own: fits an adapter on a gluonts data set."""

# No `from __future__ import annotations`: `validated` reads the annotations of the signature as they stand.

__all__ = ["AdapterEstimator"]

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
from ...errors import shown, unforeseen
from ...options import FIELDS
from .entries import (
    CAT,
    KNOWN,
    PAST,
    REAL,
    channel_names,
    dated_entry,
    few,
    numbered_names,
    read_feature,
    require_frequency,
    same_names,
    static_kinds,
    static_values,
)
from .predictor import AdapterPredictor

with quiet():  # gluonts has advice on JSON libraries
    from gluonts.core.component import validated
    from gluonts.model.estimator import Estimator
    from gluonts.pydantic import ValidationError


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


class AdapterEstimator(Estimator):  # type: ignore[misc]
    r"""Fits an adapter to a gluonts dataset: `Adapter` with the signature of gluonts' estimators.

    The options are those of `Adapter`, with the same defaults, all of a kind that JSON holds, so that gluonts' own
    `from_hyperparameters`, `dump_json` and `load_json` work. Nothing is cut into instances, padded or imputed by
    gluonts: the rows go into a `Panel` as they are, NaN included, and `Adapter.fit` does the rest.

    Arguments:
        prediction_length: The number of steps to forecast, :math:`H`.
        context_length: As in `Adapter`.
        family: The name of a preset or of a family, or the Path of your own preset.
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
        given = {name: value for name, value in locals().items() if name in FIELDS}
        super().__init__()
        checks.integer("expected num_samples", num_samples)
        require_frequency(freq)
        self.features = {PAST: num_past_feat_dynamic_real, KNOWN: num_feat_dynamic_real}
        self.static, self.calendar = {REAL: num_feat_static_real, CAT: num_feat_static_cat}, calendar
        for field, count in (self.features | self.static).items():
            checks.integer(f"expected num_{field}", count, 0, MOST_CHANNELS)
        self.prediction_length, self.num_samples, self.freq = prediction_length, num_samples, freq
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
        panel, made = Panel.of(entries), columns_of(static)
        names: list[str] = []
        for field, count in self._counts(panel.num_channels - len(made)).items():
            told = channel_names(dataset, field)
            names.extend(told if len(told) == count else numbered_names(field, count))
        return replace(panel, channels=(*names, *made), known_covariates=made, static=static)

    def _categories(self, dataset: Any, entries: Sequence[Mapping[str, Any]]) -> dict[str, Categories | None]:
        r"""The declared static features by name, with the categories that entries have."""
        found: dict[str, Categories | None] = {}
        for field, count in self.static.items():
            told = channel_names(dataset, field)
            names = told if len(told) == count else numbered_names(field, count)
            rows = [static_values(number, entry, field, names) for number, entry in enumerate(entries)] if count else []
            for place, name in enumerate(names):
                kinds = () if field == REAL else sorted({int(row[place]) for row in rows if row[place] >= 0})
                found[name] = None if field == REAL else tuple(kinds)  # -1 and NaN are none
        return found

    def _counts(self, width: int) -> dict[str, int]:
        r"""How many columns are targets, past and known covariates, which stand in this order, static ones aside."""
        return {"target": width - sum(self.features.values()), **self.features}


def _joined(
    training: Panel, validation: Panel, needed: int, counts: Mapping[str, int]
) -> tuple[Panel, tuple[int, int]]:
    r"""Puts the rows of validation data behind those of training data, and counts the dates where both end."""
    if (validation.frequency, validation.num_channels) != (training.frequency, training.num_channels):
        raise ValueError(
            f"validation_data holds {validation.num_channels} channels of frequency {validation.frequency!r}, "
            f"training_data {training.num_channels} of {training.frequency!r}: both must be alike"
        )
    numbered = tuple(name for field, count in counts.items() for name in numbered_names(field, count))
    if not same_names(validation.targets, training.targets, numbered):
        raise ValueError(
            f"validation_data's channels are {few(validation.targets)}, those of training_data "
            f"{few(training.targets)}: both must name the same, in the same order"
        )
    longer = {item.item_id: item for item in validation.items}
    names = {item.item_id for item in training.items}
    if not longer.keys() <= names or len(longer) < len(validation) or len(names) < len(training):
        raise ValueError(
            "validation_data must hold items of training_data, each once and under the same item_id; got "
            f"{few(item.item_id for item in validation.items)}, not {few(item.item_id for item in training.items)}"
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


#: As for `AdapterPredictor`.
AdapterEstimator.__module__ = "adapts.gluonts"
