r"""GroupedAdapter: one adapter a group of a panel, behind the same door."""

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
from .data.columns import listed
from .data.frames import as_pandas
from .data.groups import Grouped, split
from .data.options import column_names
from .data.schema import read_dataset
from .data.times import Times
from .errors import few, quoted, shown, unknown
from .fitting.summary import Summary
from .foundation import load_foundation_model
from .persistence import saving
from .persistence.ownership import CONFIG, GROUPED, GROUPS, as_path, replaced, standing

if TYPE_CHECKING:
    import pandas as pd

    from .forecast.forecast import Forecast

logger = get_logger(__name__)

_ALL = "all"  # stands where a group does, for the scores over all of them
_OF_READING = ("frequency", "regularise", "borders")  # the options of `Adapter.fit` that give no column its role


class GroupedAdapter:
    r"""Fits one adapter a group of a long frame, around one frozen model that all share.

    For panels whose items are of different kinds or sizes: an `Adapter` shares its parameters, units, dependence and
    calibration over all items, a `GroupedAdapter` over those of a group. Each group is fitted as if it came alone.

    Arguments:
        adapter: The adapter to fit a clone of to each group; it stays as it is.
        group_column: The column that names the group of each row, the same in all rows of an item. The item column
            makes each item a group.

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
        self._roles: dict[str, Any] = {}  # what `fit` was told of columns

    # ------------------------------------------------------------------ fit, predict, update

    def fit(
        self,
        series: Any,
        *,
        item_column: str | Sequence[str] | None = None,
        timestamp_column: str | None = None,
        checkpoint_dir: str | Path | None = None,
        **options: Any,
    ) -> GroupedAdapter:
        r"""Fits an adapter to the items of each group.

        Arguments:
            series: A long frame with the group column, of pandas or any library that `Panel.of` takes, or the path of
                its file. NaN marks a missing value; every row has an item and a group.
            item_column: As for `Adapter.fit`.
            timestamp_column: As for `Adapter.fit`.
            checkpoint_dir: As for `Adapter.fit`; each group has a folder of its own in it.
            **options: Further options of `Adapter.fit`, the same for each group: target, covariates, frequency, ...

        Returns:
            The grouped adapter itself.

        Raises:
            ValueError: If it is no long frame with these columns, a row has no group, or an item is in two; or if a
                group cannot be fitted (see `Adapter.fit`), which the error names. What was fitted before then stays.
        """
        if self.group_column in column_names("static", options.get("static", ())):
            raise ValueError(
                f"column {self.group_column!r} names the groups, and is the same for all items of one: leave it out of "
                "static="
            )
        given = self._split(series, item_column, timestamp_column)
        self.adapter.model  # noqa: B018  loaded once, before it is cloned with the adapter
        fitted = {}
        for group, rows in given.frames.items():
            logger.info("group %s", group)
            folder = _below(checkpoint_dir, group)
            with _naming(group):
                clone = self.adapter.clone()
                clone._warning_prefix = f"group {group!r}: "
                fitted[group] = clone.fit(rows, item_column=given.item_column, checkpoint_dir=folder, **options)
        self.adapters_, self.items_ = fitted, given.group_of
        self._item_column = given.item_column
        roles = {name: value for name, value in options.items() if name not in _OF_READING}
        self._roles = {name: _plain(value) for name, value in roles.items() if value is not None}
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
        r"""Forecasts the steps after the end of series, each item by the adapter of its group.

        Arguments:
            series: A long frame with the fitted channels and covariates; the fitted ones if None. Where it has no group
                column, its items are fitted ones, and their groups those of the fit.
            future: The known covariates at the :math:`H` steps after the end of each item, in a long frame; rows of
                other dates, and of items that are not forecast, are not looked at.
            item_column: As for `Adapter.fit`; that of the fit, where the frame has it, if None.
            timestamp_column: As for `Adapter.fit`.
            **options: Further options of `Adapter.predict`: num_samples, quantile_levels, seed, ...

        Returns:
            One forecast for one item, a list for several, in the order in which the items first come.

        Raises:
            ValueError: If nothing is fitted, a group is unknown, the group of an item is not told or has changed since
                the fit, or a group cannot be forecast (see `Adapter.predict`), which the error names.
        """
        adapters = self._require_fitted("predict")
        group_of: Mapping[str, str] = self.items_
        frames: Mapping[str, pd.DataFrame | None] = dict.fromkeys(adapters)
        column: str | None = None
        if series is not None:
            given = self._later(series, item_column, timestamp_column)
            group_of, frames, column = given.group_of, given.frames, given.item_column
        ahead: Mapping[str, pd.DataFrame] = {}
        if future is not None:
            try:
                later = self._split(future, item_column, timestamp_column, {**self.items_, **group_of})
            except ValueError as error:
                raise ValueError(f"future: {error}") from error
            column = column or later.item_column
            ahead = {group: rows.rename(columns={later.item_column: column}) for group, rows in later.frames.items()}
        found: dict[str, Forecast] = {}
        for group, rows in frames.items():
            with _naming(group):
                forecast = adapters[group].predict(rows, future=ahead.get(group), item_column=column, **options)
            found |= {each.item_id: each for each in (forecast if isinstance(forecast, list) else [forecast])}
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
        r"""Takes up rows that came after the fitted ones, each group's by its adapter: see `Adapter.update`.

        Arguments:
            series: The new rows of fitted items, in a long frame, with the group column or without. Groups that get no
                new row are forecast from their own end, which a warning tells.
            item_column: As for `predict`.
            timestamp_column: As for `predict`.
            **options: Further options of `Adapter.update`: frequency, regularise.

        Returns:
            The grouped adapter itself.

        Raises:
            ValueError: If nothing is fitted, an item was not fitted or has changed its group, or a group cannot be
                updated (see `Adapter.update`), which the error names; all groups then stay as they are.
        """
        adapters = self._require_fitted("update")
        given = self._later(series, item_column, timestamp_column)
        for item in given.group_of:
            if item not in self.items_:
                raise ValueError(
                    f"update expects rows of the fitted items, got rows of {item!r}: predict(series) forecasts other "
                    "items, fit(series) takes them in"
                )
        before = {group: adapters[group].fitted_ for group in given.frames}
        try:
            for group, rows in given.frames.items():
                with _naming(group):
                    adapters[group].update(rows, item_column=given.item_column, **options)
        except BaseException:
            for group, fitted in before.items():
                if adapters[group].fitted_ is not fitted:
                    adapters[group].fitted_ = fitted
            raise
        still = [group for group in adapters if group not in given.frames]
        if still:
            logger.warning(
                "no new rows of %d of %d groups (%s): their forecasts stay", len(still), len(adapters), few(still)
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
        r"""Scores each group as `Adapter.backtest` does, and all groups together.

        The rows held back are those that each group alone would hold back: of groups with the same dates, the same.

        Arguments:
            series: As for `fit`.
            windows: As for `Adapter.backtest`, of each group.
            stride: As for `Adapter.backtest`.
            scale: As for `Adapter.backtest`; the train rows are those of the group.
            baselines: As for `Adapter.backtest`.
            models: As for `Adapter.backtest`; they too are fitted to each group.
            refit: As for `Adapter.backtest`.
            return_forecasts: As for `Adapter.backtest`.
            checkpoint_dir: As for `Adapter.backtest`; each group has a folder of its own in it.
            progress: As for `Adapter.backtest`.
            item_column: As for `Adapter.fit`.
            timestamp_column: As for `Adapter.fit`.
            **options: Further options of `Adapter.backtest`: target, covariates, frequency, ... Where neither targets
                nor covariates are named, those of the fit are taken.

        Returns:
            A tidy frame: group, model, channel, lead_block, metric, value. Group "all" scores the windows of all groups
            as one set, so that a group counts by its windows. With `return_forecasts` also the forecasts of each model,
            group by group.

        Raises:
            ValueError: If it is no long frame with these columns, a group is called "all", or a group cannot be scored
                (see `Adapter.backtest`), which the error names.
        """
        import pandas as pd

        from .evaluation.backtest import beside, count_stages, roll
        from .evaluation.progress import progress_bar
        from .evaluation.tables import joined, summarise

        contestants = beside(self.adapter, models)
        given = self._split(series, item_column, timestamp_column)
        if _ALL in given.frames:
            raise ValueError(
                f"scores name all groups together {_ALL!r}, and a group is called so too: give it another name"
            )
        roles = {name: value for name, value in options.items() if name not in _OF_READING}
        if not any(len(value) if np.ndim(value) else value for value in roles.values()):
            options = {**options, **self._roles}
        stages = count_stages(contestants, baselines, refit=refit)
        results = {}
        with progress_bar(None if stages is None else stages * len(given.frames), shown=progress) as tell:
            for group, rows in given.frames.items():
                folder = _below(checkpoint_dir, group)
                with _naming(group):
                    dataset = read_dataset(rows, item_column=given.item_column, **options)
                    results[group] = roll(
                        contestants, dataset, windows=windows, stride=stride, scale=scale, baselines=baselines,
                        refit=refit, forecasts=return_forecasts, checkpoint_dir=folder,
                        on_progress=partial(_tell, tell, group),
                    )  # fmt: skip
        each = list(results.values())
        time = Times.of_panels([result.windows for result in each])
        frames = {group: result.frame for group, result in results.items()}
        frames[_ALL] = pd.concat(
            [
                summarise(model, joined([result.scores[model] for result in each]), time, each[0].adapter.channels)
                for model in each[0].scores
            ]
        )
        frame = pd.concat(frames, names=["group"]).reset_index("group").reset_index(drop=True)
        if not return_forecasts:
            return frame
        told = [result.forecasts or {} for result in each]
        return frame, {model: [forecast for some in told for forecast in some[model]] for model in told[0]}

    # ------------------------------------------------------------------ keep

    def save(self, path: str | Path, *, overwrite: bool = False) -> None:
        r"""Saves the fitted adapters: `config.json`, and under `groups` what `Adapter.save` writes of each.

        The folder is made whole beside its place and moved there at once, as by `Adapter.save`.

        Arguments:
            path: The folder.
            overwrite: Whether to replace the folder if it exists. One that holds anything that no grouped adapter
                wrote, at any depth, is never replaced.

        Raises:
            OSError: If the folder cannot be written.
            ValueError: If nothing is fitted, or the folder exists, or holds what no grouped adapter wrote.
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
        r"""Loads a saved grouped adapter; the frozen model is loaded once.

        Arguments:
            path: The folder that `save` wrote.
            foundation_model: As for `Adapter.load`.
            device: Where the foundation model runs.

        Returns:
            The fitted grouped adapter.

        Raises:
            ValueError: If the folder is not a saved grouped adapter or is corrupt, or for what `Adapter.load` refuses.
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
                    f"{path} is a corrupt grouped adapter: group {shown(group)} lies in {_folder(group)!r}, got "
                    f"{shown(name)}: save the adapters again, or fit again"
                )
            shared = next(iter(adapters.values())).model if adapters else None
            with _naming(group):
                place = folder / GROUPS / name
                adapter = saving.load(
                    Adapter, place, foundation_model=foundation_model, device=device, call=call, loaded=shared
                )
                held = {item.item_id for item in adapter.require_fitted("load").panel.items}
                if held != {item for item, of in items.items() if of == group}:
                    raise ValueError(f"{place} holds other items than those that {path} names of the group")
            adapters[group] = adapter
        made = cls(next(iter(adapters.values())).clone(), saved.group_column)
        made.adapters_, made.items_ = adapters, items
        made._item_column, made._roles = saved.item_column, {str(role): named for role, named in saved.roles.items()}
        return made

    def use_foundation_model(self, model: Any) -> GroupedAdapter:
        r"""Forecasts with a frozen model that is named, and keeps the fits: see `Adapter.use_foundation_model`.

        Arguments:
            model: The frozen model, as `Adapter` takes it; it is loaded once.

        Returns:
            The grouped adapter itself.

        Raises:
            ValueError: If nothing is fitted, or for what `Adapter.use_foundation_model` refuses.
        """
        if not self.adapters_:
            raise ValueError("GroupedAdapter.use_foundation_model needs a fitted one: call fit(series) first")
        loaded = load_foundation_model(model, device=next(iter(self.adapters_.values())).device)
        for adapter in self.adapters_.values():
            adapter.use_loaded(model, loaded)
        return self

    # ------------------------------------------------------------------ what it is

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        r"""Returns the options as they were given, as scikit-learn's estimators do.

        Arguments:
            deep: Whether to add the adapter's own options, as `adapter__prediction_length`.

        Returns:
            The options by name.
        """
        params: dict[str, Any] = {"adapter": self.adapter, "group_column": self.group_column}
        if deep:
            params |= {f"adapter__{name}": value for name, value in self.adapter.get_params().items()}
        return params

    def set_params(self, **params: Any) -> GroupedAdapter:
        r"""Changes options. What was fitted with others is forgotten: fit again.

        Arguments:
            **params: Options by name; the adapter's own as `adapter__prediction_length`. The adapter that was given
                stays as it is, a clone of it changes.

        Returns:
            The grouped adapter itself.

        Raises:
            ValueError: If there is no such option, or a value is not fit for it; nothing has then changed.
        """
        if not params:
            return self
        inner = {name.removeprefix("adapter__"): x for name, x in params.items() if name.startswith("adapter__")}
        outer = {name: value for name, value in params.items() if not name.startswith("adapter__")}
        own = self.get_params(deep=False)
        for name in outer:
            if name not in own:
                raise ValueError(unknown("option of GroupedAdapter", name, self.get_params()))
        new = type(self)(**{**own, **outer})
        if inner:
            new.adapter = new.adapter.clone().set_params(**inner)
        vars(self).update(vars(new))
        return self

    def clone(self) -> GroupedAdapter:
        r"""Returns a grouped adapter with the same options, not fitted; the loaded foundation model is shared."""
        return type(self)(self.adapter.clone(), self.group_column)

    __sklearn_clone__ = clone  # what `sklearn.base.clone` calls

    def summary(self) -> GroupedSummary:
        r"""Returns what was fitted to each group: see `Adapter.summary`."""
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

    # ------------------------------------------------------------------ inside

    def _require_fitted(self, what: str) -> dict[str, Adapter]:
        if not self.adapters_:
            raise ValueError(f"GroupedAdapter.{what} needs a fitted one: call fit(series) first")
        first, *others = self.adapters_.values()
        for other in others:  # unpickled ones have none yet
            other.share_model(first)
        return self.adapters_

    def _split(
        self,
        series: Any,
        item_column: str | Sequence[str] | None,
        timestamp_column: str | None,
        known: Mapping[str, str] | None = None,
    ) -> Grouped:
        r"""Cuts a long frame into groups; where these are known, it may be without the group column."""
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
        r"""Cuts further rows into fitted groups."""
        given = self._split(series, item_column, timestamp_column, self.items_)
        for group in given.frames:
            if group not in self.adapters_:
                raise ValueError(
                    f"group {group!r} was not fitted; the groups are {listed(self.adapters_)}: leave its rows out, or "
                    "fit(series) with it"
                )
        for item, group in given.group_of.items():
            if group != self.items_.get(item, group):
                raise ValueError(
                    f"item {item!r} was fitted in group {self.items_[item]!r}, got rows of it in {group!r}: only "
                    "fit(series) moves items"
                )
        return given


@dataclass(frozen=True, repr=False)
class GroupedSummary:
    r"""What a fit did to each group: `str` reads well, `to_dict` goes into a report.

    Arguments:
        group_column: The column that names the groups.
        items: The items of each group.
        groups: What was fitted to each.
    """

    group_column: str
    items: dict[str, list[str]]
    groups: dict[str, Summary]

    def to_dict(self) -> dict[str, Any]:
        r"""Returns the same as a dictionary that JSON can hold."""
        groups = {group: summary.to_dict() for group, summary in self.groups.items()}
        return {**asdict(self), "groups": groups}

    def __str__(self) -> str:
        told = [
            f"{self.group_column} {group!r}, items {few(self.items[group])}: {summary}"
            for group, summary in self.groups.items()
        ]
        return "\n\n".join(told)

    __repr__ = __str__


@contextmanager
def _naming(group: str) -> Iterator[None]:
    r"""Says of which group an error is."""
    try:
        yield
    except ValueError as error:
        raise ValueError(f"group {group!r}: {error}") from error


def _tell(tell: Callable[[str], None], group: str, stage: str) -> None:
    tell(f"{group}: {stage}")


def _folder(group: str) -> str:
    r"""The name of a group's folder: that of a group may be none that a file can bear."""
    return hashlib.sha256(group.encode("utf-8", "surrogatepass")).hexdigest()[:16]


def _below(checkpoint_dir: str | Path | None, group: str) -> Path | None:
    r"""A group's folder in the folder of checkpoints."""
    return None if checkpoint_dir is None else as_path("checkpoint_dir", checkpoint_dir) / _folder(group)


def _plain(value: Any) -> Any:
    r"""The names of columns, or a switch, as JSON can hold them."""
    return value if isinstance(value, str | bool) else [str(name) for name in value]
