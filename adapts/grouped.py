r"""One adapter for each group of a panel, with the interface of `Adapter`."""

from __future__ import annotations

__all__ = ["GroupedAdapter", "GroupedSummary"]

import hashlib
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ._logging import get_logger
from ._version import __version__
from .adapter import Adapter
from .data.cards import read_table
from .data.frames import as_pandas
from .data.groups import Grouped, split
from .data.options import column_names
from .data.schema import read_dataset
from .data.times import Times
from .errors import few, quoted, shown, unknown
from .fitting.summary import Summary
from .fitting.time_limit import TimeLimit
from .foundation.several import load_models
from .persistence import saving
from .persistence.ownership import CONFIG, GROUPED, GROUPS, as_path, replaced, standing

if TYPE_CHECKING:
    import pandas as pd

    from .forecast.forecast import Forecast

logger = get_logger(__name__)

_ALL = "all"  # the name of the scores over all groups
_READING_OPTIONS = (
    "frequency",
    "regularise",
    "borders",
)  # the options of `Adapter.fit` that assign no roles to columns


class GroupedAdapter:
    r"""One adapter for each group of a long frame, all with the same frozen model.

    For panels with items of different kinds or sizes: an `Adapter` shares its parameters, units, dependence and
    calibration over all items, a `GroupedAdapter` over the items of a group. Each group is fitted separately.

    Arguments:
        adapter: The adapter whose clones are fitted to the groups; it is not modified.
        group_column: The column that names the group of each row, constant within each item. With the item column,
            each item is a group.

    Attributes:
        adapters_: The fitted adapter of each group, by its name as text; empty before `fit`.
        items_: The group of each fitted item, in the order of the fit.

    Example:
        >>> time = np.arange(400)
        >>> frame = pd.DataFrame({
        ...     "region": np.repeat(["north", "south"], 200), "item_id": np.repeat(["a", "b"], 200),
        ...     "timestamp": np.tile(pd.date_range("2024-01-01", periods=200, freq="h"), 2),
        ...     "load": np.sin(time / 4) + 0.1 * np.random.randn(400),
        ... })
        >>> grouped = adapts.GroupedAdapter(adapts.Adapter(prediction_length=12), "region").fit(frame)
        >>> [forecast.item_id for forecast in grouped.predict()], list(grouped.adapters_)
        (['a', 'b'], ['north', 'south'])
    """

    def __init__(self, adapter: Adapter, group_column: str) -> None:
        if not isinstance(adapter, Adapter):
            raise ValueError(f"GroupedAdapter expects an Adapter to fit to each group, got {type(adapter).__name__}")
        if not isinstance(group_column, str):
            raise ValueError(f"GroupedAdapter expects group_column to name a column, got {shown(group_column)}")
        self.adapter = adapter
        self.group_column = group_column
        self.adapters_: dict[str, Adapter] = {}
        self.items_: dict[str, str] = {}
        self._item_column: str | Sequence[str] | None = None
        self._roles: dict[str, Any] = {}  # the roles of columns that were passed to `fit`

    # ------------------------------------------------------------------ fit, predict, update

    def fit(
        self,
        series: Any,
        *,
        item_column: str | Sequence[str] | None = None,
        timestamp_column: str | None = None,
        checkpoint_dir: str | Path | None = None,
        time_limit: float | None = None,
        **options: Any,
    ) -> GroupedAdapter:
        r"""Fit an adapter to the items of each group.

        Arguments:
            series: A long frame with the group column, of pandas or any library that `Panel.of` supports, or the path
                of its file. NaN marks a missing value; every row has an item and a group.
            item_column: As for `Adapter.fit`.
            timestamp_column: As for `Adapter.fit`.
            checkpoint_dir: As for `Adapter.fit`; each group has its own folder in it.
            time_limit: As for `Adapter.fit`, for all groups together: each may take an equal part of the time left.
            **options: Further options of `Adapter.fit`, the same for each group: target, covariates, frequency, ...

        Returns:
            The grouped adapter itself.

        Raises:
            ValueError: If it is no long frame with these columns, a row has no group, or an item is in two; or if a
                group cannot be fitted (see `Adapter.fit`), which the error names. Earlier fits are then kept.
        """
        if self.group_column in column_names("static", options.get("static", ())):
            raise ValueError(
                f"column {self.group_column!r} names the groups, and is constant within each group: leave it out of "
                "static="
            )
        limit = TimeLimit(time_limit)
        given = self._split(series, item_column, timestamp_column)
        self.adapter.model  # noqa: B018  load it once, before the adapter is cloned
        fitted: dict[str, Adapter] = {}
        for group, rows in given.frames.items():
            logger.info("group %s", group)
            folder = _checkpoint_folder(checkpoint_dir, group)
            with _errors_of(group):
                clone = self.adapter.clone()
                clone._warning_prefix = f"group {group!r}: "
                part = limit.part(len(given.frames) - len(fitted))
                fitted[group] = clone.fit(
                    rows, item_column=given.item_column, checkpoint_dir=folder, time_limit=part, **options
                )
        self.adapters_, self.items_ = fitted, given.group_of
        self._item_column = given.item_column
        roles = {name: value for name, value in options.items() if name not in _READING_OPTIONS}
        self._roles = {name: _as_json(value) for name, value in roles.items() if value is not None}
        return self

    def predict(
        self,
        series: Any = None,
        *,
        future: Any = None,
        item_column: str | Sequence[str] | None = None,
        timestamp_column: str | None = None,
        **options: Any,
    ) -> Forecast | list[Forecast]:
        r"""Forecast the steps after the end of series, each item with the adapter of its group.

        Arguments:
            series: A long frame with the fitted channels and covariates; the fitted rows if None. Without a group
                column, it may hold fitted items only, in the groups of the fit.
            future: The known covariates at the :math:`H` steps after the end of each item, in a long frame; rows with
                other dates, and of items that are not forecast, are ignored.
            item_column: As for `Adapter.fit`; if None, that of the fit if the frame has it.
            timestamp_column: As for `Adapter.fit`.
            **options: Further options of `Adapter.predict`: num_samples, quantile_levels, seed, ...

        Returns:
            One forecast for one item, a list for several, in the order of the items' first rows.

        Raises:
            ValueError: If nothing is fitted, a group is unknown, the group of an item is missing or has changed since
                the fit, or a group cannot be forecast (see `Adapter.predict`), which the error names.
        """
        adapters = self._require_fitted("predict")
        group_of: Mapping[str, str] = self.items_
        frames: Mapping[str, pd.DataFrame | None] = dict.fromkeys(adapters)
        column: str | None = None
        if series is not None:
            given = self._later(series, item_column, timestamp_column)
            group_of, frames, column = given.group_of, given.frames, given.item_column
        future_rows: Mapping[str, pd.DataFrame] = {}
        if future is not None:
            try:
                future_groups = self._split(future, item_column, timestamp_column, {**self.items_, **group_of})
            except ValueError as error:
                raise ValueError(f"future: {error}") from error
            column = column or future_groups.item_column
            future_rows = {
                group: rows.rename(columns={future_groups.item_column: column})
                for group, rows in future_groups.frames.items()
            }
        found: dict[str, Forecast] = {}
        for group, rows in frames.items():
            with _errors_of(group):
                forecast = adapters[group].predict(rows, future=future_rows.get(group), item_column=column, **options)
            group_forecasts = forecast if isinstance(forecast, list) else [forecast]
            found |= {item_forecast.item_id: item_forecast for item_forecast in group_forecasts}
        forecasts = [found[item] for item in group_of]
        return forecasts[0] if len(forecasts) == 1 else forecasts

    def update(
        self,
        series: Any,
        *,
        item_column: str | Sequence[str] | None = None,
        timestamp_column: str | None = None,
        **options: Any,
    ) -> GroupedAdapter:
        r"""Update the adapter of each group with rows after the fitted ones; see `Adapter.update`.

        Arguments:
            series: The new rows of fitted items, in a long frame with or without the group column. A warning names
                groups without new rows; these are forecast from their own end.
            item_column: As for `predict`.
            timestamp_column: As for `predict`.
            **options: Further options of `Adapter.update`: frequency, regularise.

        Returns:
            The grouped adapter itself.

        Raises:
            ValueError: If nothing is fitted, an item was not fitted or has changed its group, or a group cannot be
                updated (see `Adapter.update`), which the error names; then no group is updated.
        """
        adapters = self._require_fitted("update")
        given = self._later(series, item_column, timestamp_column)
        for item in given.group_of:
            if item not in self.items_:
                raise ValueError(
                    f"update expects rows of the fitted items, got rows of {item!r}: forecast other items with "
                    "predict(series), or fit(series) with them"
                )
        before = {group: adapters[group].fitted_ for group in given.frames}
        try:
            for group, rows in given.frames.items():
                with _errors_of(group):
                    adapters[group].update(rows, item_column=given.item_column, **options)
        except BaseException:
            for group, fitted in before.items():
                if adapters[group].fitted_ is not fitted:
                    adapters[group].fitted_ = fitted
            raise
        unchanged = [group for group in adapters if group not in given.frames]
        if unchanged:
            logger.warning(
                "no new rows of %d of %d groups (%s): their forecasts are unchanged",
                len(unchanged),
                len(adapters),
                few(unchanged),
            )
        return self

    def backtest(
        self,
        series: Any,
        *,
        windows: int | None = None,
        stride: int | None = None,
        scale: str = "train",
        baselines: bool | str | Sequence[str] = True,
        models: Mapping[str, Adapter] | None = None,
        refit: bool = False,
        return_forecasts: bool = False,
        checkpoint_dir: str | Path | None = None,
        progress: bool = False,
        item_column: str | Sequence[str] | None = None,
        timestamp_column: str | None = None,
        **options: Any,
    ) -> pd.DataFrame | tuple[pd.DataFrame, dict[str, list[Forecast]]]:
        r"""Score each group as `Adapter.backtest` does, and all groups together.

        The held-back rows of each group are those of a separate backtest, and the same for groups with the same dates.

        Arguments:
            series: As for `fit`.
            windows: As for `Adapter.backtest`, of each group.
            stride: As for `Adapter.backtest`.
            scale: As for `Adapter.backtest`, with the train rows of the group.
            baselines: As for `Adapter.backtest`.
            models: As for `Adapter.backtest`; they are fitted to each group as well.
            refit: As for `Adapter.backtest`.
            return_forecasts: As for `Adapter.backtest`.
            checkpoint_dir: As for `Adapter.backtest`; each group has a folder of its own in it.
            progress: As for `Adapter.backtest`.
            item_column: As for `Adapter.fit`.
            timestamp_column: As for `Adapter.fit`.
            **options: Further options of `Adapter.backtest`: target, covariates, frequency, ... Without targets and
                covariates, those of the fit are used.

        Returns:
            A tidy frame: group, model, channel, lead_block, metric, value. Group "all" scores the windows of all groups
            together: each group is weighted by its number of windows. With `return_forecasts` also the forecasts of
            each model, group by group.

        Raises:
            ValueError: If it is no long frame with these columns, a group is called "all", or a group cannot be scored
                (see `Adapter.backtest`), which the error names.
        """
        import pandas as pd

        from .evaluation.backtest import count_stages, roll, with_models
        from .evaluation.progress import progress_bar
        from .evaluation.tables import joined, summarise

        contestants = with_models(self.adapter, models)
        given = self._split(series, item_column, timestamp_column)
        if _ALL in given.frames:
            raise ValueError(f"a group is called {_ALL!r}, the name of the scores over all groups: rename it")
        roles = {name: value for name, value in options.items() if name not in _READING_OPTIONS}
        if not any(len(value) if np.ndim(value) else value for value in roles.values()):
            options = {**options, **self._roles}
        stages = count_stages(contestants, baselines, refit=refit)
        results = {}
        with progress_bar(None if stages is None else stages * len(given.frames), shown=progress) as report:
            for group, rows in given.frames.items():
                folder = _checkpoint_folder(checkpoint_dir, group)
                with _errors_of(group):
                    dataset = read_dataset(rows, item_column=given.item_column, **options)
                    results[group] = roll(
                        contestants, dataset, windows=windows, stride=stride, scale=scale, baselines=baselines,
                        refit=refit, forecasts=return_forecasts, checkpoint_dir=folder,
                        on_progress=partial(_report, report, group),
                    )  # fmt: skip
        backtests = list(results.values())
        time = Times.of_panels([result.windows for result in backtests])
        frames = {group: result.frame for group, result in results.items()}
        frames[_ALL] = pd.concat(
            [
                summarise(
                    model, joined([result.scores[model] for result in backtests]), time, backtests[0].adapter.channels
                )
                for model in backtests[0].scores
            ]
        )
        frame = pd.concat(frames, names=["group"]).reset_index("group").reset_index(drop=True)
        if not return_forecasts:
            return frame
        forecasts = [result.forecasts or {} for result in backtests]
        return frame, {model: [forecast for group in forecasts for forecast in group[model]] for model in forecasts[0]}

    # ------------------------------------------------------------------ save and load

    def save(self, path: str | Path, *, overwrite: bool = False) -> None:
        r"""Save the fitted adapters: `config.json`, and under `groups` a saved adapter for each.

        The folder is written completely in a temporary place and then moved, as by `Adapter.save`.

        Arguments:
            path: The folder.
            overwrite: Whether to replace the folder if it exists. A folder with foreign files, at any depth, is never
                replaced.

        Raises:
            OSError: If the folder cannot be written.
            ValueError: If nothing is fitted, or the folder exists, or holds foreign files.
        """
        from .persistence.saved_schema import FORMAT, digest

        adapters = self._require_fitted("save")
        config = {
            "format": FORMAT,
            "adapts": __version__,
            "group_column": self.group_column,
            "item_column": self._item_column,
            "roles": self._roles,
            "groups": {group: _folder(group) for group in adapters},
            "items": list(self.items_.items()),
        }
        config["sha256"] = digest(config)
        with replaced(path, GROUPED, overwrite=overwrite) as folder:
            for group, adapter in adapters.items():
                saving.write(adapter.require_fitted("save"), adapter, folder / GROUPS / _folder(group))
            (folder / CONFIG).write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, path: str | Path, *, foundation_model: Any = None, device: str = "auto") -> GroupedAdapter:
        r"""Load a saved grouped adapter; the frozen model is loaded once.

        Arguments:
            path: The folder that `save` wrote.
            foundation_model: As for `Adapter.load`.
            device: The device of the foundation model.

        Returns:
            The fitted grouped adapter.

        Raises:
            ValueError: If the folder is not a saved grouped adapter or is corrupt, or as for `Adapter.load`.
        """
        from .persistence.saved_schema import read_grouped

        def call(model: str) -> str:
            return f"{cls.__name__}.load({quoted(str(path))}, foundation_model={model})"

        folder = standing(path)
        saved = read_grouped(folder, path)
        items = dict(saved.items)
        adapters: dict[str, Adapter] = {}
        for group, name in saved.groups.items():
            if name != _folder(group):
                raise ValueError(
                    f"{path} is a corrupt grouped adapter: the folder of group {shown(group)} is "
                    f"{_folder(group)!r}, got {shown(name)}: save the adapters again, or fit again"
                )
            shared = next(iter(adapters.values())).model if adapters else None
            with _errors_of(group):
                folder_of_group = folder / GROUPS / name
                adapter = saving.load(
                    Adapter, folder_of_group, foundation_model=foundation_model, device=device, call=call, loaded=shared
                )
                item_ids = {item.item_id for item in adapter.require_fitted("load").panel.items}
                if item_ids != {item for item, item_group in items.items() if item_group == group}:
                    raise ValueError(
                        f"{folder_of_group} holds other items than the config of {path} names for the group: "
                        "save the adapters again, or fit again"
                    )
            adapters[group] = adapter
        grouped = cls(next(iter(adapters.values())).clone(), saved.group_column)
        grouped.adapters_, grouped.items_ = adapters, items
        grouped._item_column, grouped._roles = (
            saved.item_column,
            {str(role): columns for role, columns in saved.roles.items()},
        )
        return grouped

    def use_foundation_model(self, model: Any) -> GroupedAdapter:
        r"""Set the frozen model and keep the fits; see `Adapter.use_foundation_model`.

        Arguments:
            model: The frozen model, as for `Adapter`; it is loaded once.

        Returns:
            The grouped adapter itself.

        Raises:
            ValueError: If nothing is fitted, or as for `Adapter.use_foundation_model`.
        """
        if not self.adapters_:
            raise ValueError("GroupedAdapter.use_foundation_model needs a fitted adapter: call fit(series) first")
        loaded = load_models(model, next(iter(self.adapters_.values())).device)
        for adapter in self.adapters_.values():
            adapter.use_loaded(model, loaded)
        return self

    # ------------------------------------------------------------------ options and summary

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        r"""Return the options, as scikit-learn's estimators do.

        Arguments:
            deep: Whether to include the options of the adapter, as `adapter__prediction_length`.

        Returns:
            The options by name.
        """
        params: dict[str, Any] = {"adapter": self.adapter, "group_column": self.group_column}
        if deep:
            params |= {f"adapter__{name}": value for name, value in self.adapter.get_params().items()}
        return params

    def set_params(self, **params: Any) -> GroupedAdapter:
        r"""Change options and discard earlier fits.

        Arguments:
            **params: The options by name; those of the adapter as `adapter__prediction_length`, which are set on a
                clone of it.

        Returns:
            The grouped adapter itself.

        Raises:
            ValueError: If there is no such option, or a value is invalid; then nothing is changed.
        """
        if not params:
            return self
        inner = {name.removeprefix("adapter__"): x for name, x in params.items() if name.startswith("adapter__")}
        outer = {name: value for name, value in params.items() if not name.startswith("adapter__")}
        current = self.get_params(deep=False)
        for name in outer:
            if name not in current:
                raise ValueError(unknown("option of GroupedAdapter", name, self.get_params()))
        new = type(self)(**{**current, **outer})
        if inner:
            new.adapter = new.adapter.clone().set_params(**inner)
        vars(self).update(vars(new))
        return self

    def clone(self) -> GroupedAdapter:
        r"""Return an unfitted grouped adapter with the same options; the loaded foundation model is shared."""
        return type(self)(self.adapter.clone(), self.group_column)

    __sklearn_clone__ = clone  # what `sklearn.base.clone` calls

    def summary(self) -> GroupedSummary:
        r"""Return the summary of the fit of each group; see `Adapter.summary`."""
        adapters = self._require_fitted("summary")
        members: dict[str, list[str]] = {group: [] for group in adapters}
        for item, group in self.items_.items():
            members[group].append(item)
        return GroupedSummary(
            self.group_column, members, {group: adapter.summary() for group, adapter in adapters.items()}
        )

    def __repr__(self) -> str:
        groups = list(self.adapters_)
        state = f"fitted on {len(groups)} groups, {few(groups)}" if groups else "not fitted"
        return f"GroupedAdapter({self.adapter!r}, group_column={self.group_column!r}; {state})"

    # ------------------------------------------------------------------ internal

    def _require_fitted(self, what: str) -> dict[str, Adapter]:
        if not self.adapters_:
            raise ValueError(f"GroupedAdapter.{what} needs a fitted adapter: call fit(series) first")
        first, *others = self.adapters_.values()
        for adapter in others:  # unpickled adapters have no model yet
            adapter.share_model(first)
        return self.adapters_

    def _split(
        self,
        series: Any,
        item_column: str | Sequence[str] | None,
        timestamp_column: str | None,
        known: Mapping[str, str] | None = None,
    ) -> Grouped:
        r"""Split a long frame by group; if the groups are known, the group column may be missing."""
        remembered = None if known is None else self._item_column
        if isinstance(series, str | Path):
            if not os.path.isfile(series):
                raise ValueError(
                    f"there is no file {shown(str(series))}: expected a long frame with a column "
                    f"{self.group_column!r}, or its file"
                )
            series = read_table(Path(series), item_column or remembered).series
        frame = as_pandas(series)
        if item_column is None and remembered in [str(name) for name in getattr(frame, "columns", ())]:
            item_column = remembered
        return split(frame, self.group_column, item_column=item_column, timestamp_column=timestamp_column, known=known)

    def _later(self, series: Any, item_column: str | Sequence[str] | None, timestamp_column: str | None) -> Grouped:
        r"""Split further rows by fitted group."""
        given = self._split(series, item_column, timestamp_column, self.items_)
        for group in given.frames:
            if group not in self.adapters_:
                raise ValueError(
                    f"group {group!r} was not fitted; the groups are {few(self.adapters_)}: leave its rows out, or "
                    "fit(series) with it"
                )
        for item, group in given.group_of.items():
            if group != self.items_.get(item, group):
                raise ValueError(
                    f"item {item!r} was fitted in group {self.items_[item]!r}, got rows of it in {group!r}: "
                    "correct the group, or fit(series) again"
                )
        return given


@dataclass(frozen=True, repr=False)
class GroupedSummary:
    r"""Summary of the fit of each group: text by `str`, JSON values by `to_dict`.

    Arguments:
        group_column: The column that names the groups.
        items: The items of each group.
        groups: The summary of each group.
    """

    group_column: str
    items: dict[str, list[str]]
    groups: dict[str, Summary]

    def to_dict(self) -> dict[str, Any]:
        r"""Return the summary as JSON values."""
        groups = {group: summary.to_dict() for group, summary in self.groups.items()}
        return {**asdict(self), "groups": groups}

    def __str__(self) -> str:
        texts = [
            f"{self.group_column} {group!r}, items {few(self.items[group])}: {summary}"
            for group, summary in self.groups.items()
        ]
        return "\n\n".join(texts)

    __repr__ = __str__


@contextmanager
def _errors_of(group: str) -> Iterator[None]:
    r"""Prefix errors with the name of the group."""
    try:
        yield
    except ValueError as error:
        raise ValueError(f"group {group!r}: {error}") from error


def _report(report: Callable[[str], None], group: str, stage: str) -> None:
    report(f"{group}: {stage}")


def _folder(group: str) -> str:
    r"""Return the name of a group's folder, a hash: the group's name may be invalid as a file name."""
    return hashlib.sha256(group.encode("utf-8", "surrogatepass")).hexdigest()[:16]


def _checkpoint_folder(checkpoint_dir: str | Path | None, group: str) -> Path | None:
    r"""Return a group's folder in the folder of checkpoints."""
    return None if checkpoint_dir is None else as_path("checkpoint_dir", checkpoint_dir) / _folder(group)


def _as_json(value: Any) -> Any:
    r"""Return names of columns, or a boolean, as JSON values."""
    return value if isinstance(value, str | bool) else [str(name) for name in value]
