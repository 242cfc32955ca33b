r"""Schema of a saved adapter's config, the table of its tensors, and the digest of both."""

from __future__ import annotations

__all__ = [
    "ALONE",
    "FORMAT",
    "REMEDY",
    "ROLES",
    "Fit",
    "GroupedConfig",
    "Saved",
    "canonical",
    "digest",
    "panel_of",
    "read_config",
    "read_grouped",
    "read_tensors",
    "require_listed",
]

import hashlib
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import pandas as pd
import torch
from pydantic import AfterValidator, BeforeValidator, Field, model_validator
from torch import Tensor

from .._version import __version__
from ..checks import LONGEST
from ..data.frequency import alias, date_grid
from ..data.item import Item, columns_of
from ..data.panel import Panel
from ..data.roles import calendar_columns
from ..errors import reading, shown, unknown
from .ownership import CONFIG, TENSORS
from .schemas import Count, Rows, Said, Sha256, Strict, Text, read_json, require_regular, validated
from .tensors import kind_of, require_names, taken, written

FORMAT, FORMER = 3, 2
ROLES = ("past_covariates", "known_covariates", "calendar")
REMEDY = "save the adapter again, or fit again"
#: The names of single tensors of a fit, and the prefixes of the tensors of its components (before a dot).
ALONE = ("location", "scale", "support", "noise", "gate", "latent_ranks", "constant", "tails", "cycles")
COMPONENTS = (
    "module",
    "copula",
    "recalibration",
    "bands",
    "online",
    "latent_copula",
    "head",
    "effect",
    "known",
    "coupling",
    "kriging",
)

Split = Literal["train", "validation", "calibration", "confirmation"]


def _zone(name: str) -> str:
    if name.startswith("dateutil") or ".." in name or name.startswith("/"):  # pandas would read such a file
        raise ValueError("should be a time zone")
    with reading(f"{shown(name)} is no time zone", "name one such as 'Europe/Paris' or 'UTC+01:00'"):
        pd.DatetimeIndex([]).tz_localize("UTC").tz_convert(name)
    return name


def _frequency(name: str) -> str:
    with reading(f"{shown(name)} is no frequency", "name one such as 'h' or '15min'"):
        known = alias(name)
    if known != name:
        raise ValueError(f"should be written as {known!r}")
    return name


class Model(Strict):
    r"""Frozen model of an adapter."""

    name: Text
    version: Text
    sha256: Sha256


class ItemConfig(Strict):
    r"""Index of an item's rows: unit and time zone of its timestamps, or the number after the last row."""

    item_id: Text
    unit: Literal["s", "ms", "us", "ns"] | None = None
    zone: Annotated[str, AfterValidator(_zone)] | None = None
    stop: Rows | None = None


class Span(Strict):
    r"""First and last target row of a split, and its number of rows."""

    first: Text
    last: Text
    rows: Rows


class NoticeConfig(Strict):
    r"""Notice to the user of a fit."""

    kind: Text
    about: list[Text]
    said: Text


class DecisionConfig(Strict):
    r"""Decision of a stage of the fit."""

    outcome: Literal["kept", "rejected", "skipped"]
    reason: Said
    figures: dict[Text, float]


def _decision(value: Any) -> Any:
    r"""Convert the decisions of older saved adapters, which hold only the reason."""
    return {"outcome": "kept", "reason": value, "figures": {}} if isinstance(value, str) else value


class Fit(Strict):
    r"""Description of a fit in a config."""

    channels: Annotated[list[Text], Field(min_length=1)]
    past_covariates: list[Text]
    known_covariates: list[Text]
    calendar: list[Text]
    static: dict[Text, list[Text] | list[int] | None]
    frequency: Annotated[str, AfterValidator(_frequency)] | None
    single: bool
    items: Annotated[list[ItemConfig], Field(min_length=1)]
    context_length: Annotated[int, Field(ge=1, le=LONGEST)]
    season_length: Rows | None
    windows: dict[Split, Count]
    spans: dict[Split, Span]
    stages: dict[Text, Annotated[DecisionConfig, BeforeValidator(_decision)]]
    marks: dict[Text, Annotated[list[float], Field(min_length=2, max_length=2)]] = {}  # absent in older saved adapters
    notices: list[NoticeConfig] = []
    further: list[Text] = []
    tensors: dict[Text, Text]

    @model_validator(mode="after")
    def _agrees(self) -> Fit:
        static_columns = columns_of(
            {name: None if levels is None else tuple(levels) for name, levels in self.static.items()}
        )
        targets = len(self.channels) - len(self.past_covariates) - len(self.known_covariates)
        if len(set(self.channels)) < len(self.channels):
            raise ValueError("should name each channel once")
        if targets < 1 or self.channels[targets:] != [*self.past_covariates, *self.known_covariates]:
            raise ValueError("should name the targets among the channels, then the past and the known covariates")
        given_count = len(self.known_covariates) - len(static_columns) - len(self.calendar)
        if given_count < 0 or self.known_covariates[given_count:] != [*static_columns, *self.calendar]:
            raise ValueError("should name static columns and the calendar after the other known covariates")
        if self.calendar and (self.frequency is None or self.calendar != list(calendar_columns(self.frequency))):
            raise ValueError("should name the columns of the calendar that its frequency has")
        if len({item.item_id for item in self.items}) < len(self.items):
            raise ValueError("should name each item once")
        if self.single and len(self.items) > 1:
            raise ValueError("should hold one item for a single series")
        dated = self.frequency is not None
        if any((item.unit is not None, item.stop is None) != (dated, dated) for item in self.items):
            raise ValueError("should give each item a unit if it has a frequency, and a stop if it has none")
        if not dated and any(item.zone is not None for item in self.items):
            raise ValueError("should give no zone to items without dates")
        return self


class Saved(Fit):
    r"""Config of a saved adapter."""

    format: Literal[2, 3]
    adapts: Text
    family: Text
    family_options: dict[Text, Any]
    options: dict[Text, Any]
    foundation_model: Model
    sha256: Sha256


Role = Literal["target", "past_covariates", "known_covariates", "calendar", "static"]


class GroupedConfig(Strict):
    r"""Config of a saved grouped adapter."""

    format: Literal[2, 3]
    adapts: Text
    group_column: Text
    item_column: Text | None
    roles: dict[Role, Text | bool | list[Text]]
    groups: Annotated[dict[Text, Text], Field(min_length=1)]
    items: list[tuple[Text, Text]]
    sha256: Sha256 | None = None


def canonical(config: Mapping[str, Any]) -> bytes:
    r"""Serialise a config without its digest, in the canonical form that the digest is computed from.

    Arguments:
        config: The config, of JSON values.

    Returns:
        The bytes.
    """
    without_digest = {name: value for name, value in config.items() if name != "sha256"}
    return json.dumps(without_digest, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()


def digest(config: Mapping[str, Any], data: bytes = b"") -> str:
    r"""Return the sha256 of a config and its tensor file.

    Arguments:
        config: The config, of JSON values; its own digest is ignored.
        data: The content of the tensor file; empty for a config without tensors.
    """
    return hashlib.sha256(canonical(config) + b"\n" + data).hexdigest()


def read_config(folder: Path, path: str | Path) -> tuple[Saved, dict[str, Any]]:
    r"""Read and validate the config of a saved adapter, before its tensors are opened.

    Arguments:
        folder: The folder.
        path: Its name, for messages.

    Returns:
        The config, and its JSON content.

    Raises:
        ValueError: If it is not the config of an adapter in a supported format.
    """
    what = f"{path}/{CONFIG}"
    content = read_json(folder / CONFIG, what, REMEDY)
    if not isinstance(content, dict) or "format" not in content or "family" not in content:
        raise ValueError(f"{what} is not the config of an adapter: it has no format and family")
    _require_format(content, path)
    if content["format"] == FORMER:
        content = _upgraded(content, folder, path)
    return validated(Saved, content, what, REMEDY, unknown=unknown), content


def _require_format(content: Mapping[str, Any], path: str | Path) -> None:
    found = content.get("format")
    if type(found) is not int or found not in (FORMER, FORMAT):
        raise ValueError(
            f"{path} was saved in format {shown(found)} by adapts {shown(content.get('adapts'))}; adapts {__version__} "
            f"reads the formats {FORMER} and {FORMAT}: load it with that version, or fit again"
        )


def _upgraded(content: dict[str, Any], folder: Path, path: str | Path) -> dict[str, Any]:
    r"""Convert a config of format 2 to format 3: add the table of tensors, and roles that were left out."""
    absent: dict[str, Any] = {role: [] for role in ROLES} | {"static": {}, "spans": {}}
    return {**absent, **content, "tensors": _header(folder, path)}


def _header(folder: Path, path: str | Path) -> dict[str, str]:
    r"""Return the dtype and shape of each tensor of a saved adapter from the file's header, without reading tensors."""
    from safetensors import safe_open

    require_regular(folder / TENSORS, f"{path}/{TENSORS}")
    with (
        reading(f"{path} is a corrupt adapter: {TENSORS} cannot be read", REMEDY),
        safe_open(folder / TENSORS, framework="pt") as file,
    ):
        slices = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118  not a mapping
        return {name: f"{tensor_slice.get_dtype()}{tensor_slice.get_shape()}" for name, tensor_slice in slices.items()}


def read_tensors(folder: Path, path: str | Path, saved: Saved, content: Mapping[str, Any]) -> dict[str, Tensor]:
    r"""Read the tensors of a saved adapter, and check that they were saved together with the config.

    Arguments:
        folder: The folder.
        path: Its name, for messages.
        saved: The config.
        content: Its JSON content.

    Returns:
        The tensors, as listed in the config's table.

    Raises:
        ValueError: If the file is damaged, holds other tensors, or either was changed since they were saved.
    """
    from safetensors.torch import load

    corrupt = f"{path} is a corrupt adapter"
    header = _header(folder, path)
    require_listed(corrupt, header, saved.tensors)
    with reading(f"{corrupt}: {TENSORS} cannot be read", REMEDY):
        data = (folder / TENSORS).read_bytes()
        tensors: dict[str, Tensor] = load(data)
    actual_digest = hashlib.sha256(data).hexdigest() if saved.format == FORMER else digest(content, data)
    if actual_digest != saved.sha256:
        mismatch = f"{TENSORS} is not the file that {CONFIG} was saved with"
        changed = mismatch if saved.format == FORMER else f"{CONFIG} or {TENSORS} was changed since both were saved"
        raise ValueError(f"{corrupt}: {changed}: {REMEDY}")
    require_listed(corrupt, {name: written(kind_of(tensor)) for name, tensor in tensors.items()}, saved.tensors)
    return tensors


def require_listed(what: str, tensors: Mapping[str, str], listed: Mapping[str, str]) -> None:
    r"""Check that tensors match the table in a config.

    Arguments:
        what: The object that they belong to, for the message.
        tensors: The dtype and shape of each tensor.
        listed: The same, as the config lists them.

    Raises:
        ValueError: If a tensor is missing, has another dtype or shape, or is not listed.
    """
    for name in {**listed, **tensors}:
        if tensors.get(name) != listed.get(name):
            expected, found = (shown(table[name]) if name in table else "none" for table in (listed, tensors))
            raise ValueError(f"{what}: its config lists the tensor {shown(name)} as {expected}, got {found}")


def panel_of(fit: Fit, tensors: Mapping[str, Tensor]) -> Panel:
    r"""Reconstruct the panel of a saved adapter.

    Arguments:
        fit: The description of the fit in the config.
        tensors: The tensors.

    Returns:
        The panel.

    Raises:
        ValueError: If the rows do not match the channels, or the timestamps the frequency.
    """
    numbers = range(len(fit.items))
    rows, clocks = ([f"{kind}.{number}" for number in numbers] for kind in ("rows", "clock"))
    component_names = [name for name in tensors if name in ALONE or name.partition(".")[0] in COMPONENTS]
    dated = fit.frequency is not None
    require_names("the adapter", tensors, [*rows, *(clocks if dated else [])], component_names)
    items = []
    for number, entry in enumerate(fit.items):
        values = taken(tensors, rows[number], torch.float64, (None, len(fit.channels)), missing=True)
        if not len(values):
            raise ValueError(f"the tensor {rows[number]!r} is expected to hold at least one row")
        index: pd.Index[Any]
        if dated:
            clock = taken(tensors, clocks[number], torch.int64, (len(values),))
            index = _dates(clock.numpy(), entry, str(fit.frequency), clocks[number])
        else:
            stop = int(entry.stop or 0)
            if stop < len(values):
                raise ValueError(
                    f"item {shown(entry.item_id)} ends at row {stop}, expected at least its {len(values)} rows"
                )
            index = pd.RangeIndex(stop - len(values), stop)
        items.append(Item(entry.item_id, values.numpy(), index))
    static = {name: None if levels is None else tuple(levels) for name, levels in fit.static.items()}
    past, known, calendar_names = (tuple(getattr(fit, role)) for role in ROLES)
    return Panel(
        tuple(items), tuple(fit.channels), fit.frequency, fit.single,
        past_covariates=past, known_covariates=known, calendar=calendar_names, static=static,
    )  # fmt: skip


def _dates(clock: np.ndarray, entry: ItemConfig, frequency: str, name: str) -> pd.DatetimeIndex:
    r"""Return the timestamps of an item's rows, and check that they follow the frequency."""
    wrong = f"the tensor {name!r} holds dates that do not follow each other by the frequency {frequency!r}"
    if (clock == np.iinfo(np.int64).min).any() or (np.diff(clock) <= 0).any():
        raise ValueError(wrong)
    unit = entry.unit or "ns"
    with reading(f"the tensor {name!r} holds no dates of the unit {unit!r}", REMEDY):
        index = pd.DatetimeIndex(clock).as_unit(unit)
        if entry.zone:
            index = index.tz_localize("UTC").tz_convert(entry.zone)
        expected = date_grid(index[0], frequency, periods=len(index), unit=unit).as_unit("ns").asi8
    # At clock changes, steps of a day or more may shift by the hour that is skipped or repeated.
    largest_shift = math.inf if len(expected) != len(clock) else int(np.abs(expected - clock).max())
    if largest_shift > (2 * 3_600_000_000_000 if entry.zone else 0):
        raise ValueError(wrong)
    return index


def read_grouped(folder: Path, path: str | Path) -> GroupedConfig:
    r"""Read and validate the config of a saved grouped adapter.

    Arguments:
        folder: The folder.
        path: Its name, for messages.

    Returns:
        The config.

    Raises:
        ValueError: If it is not the config of a grouped adapter, or was changed since it was saved.
    """
    remedy, what = "save the adapters again, or fit again", f"{path}/{CONFIG}"
    content = read_json(folder / CONFIG, what, remedy) if (folder / CONFIG).exists() else None
    if not isinstance(content, dict) or "groups" not in content:
        raise ValueError(
            f"expected a folder that GroupedAdapter.save wrote, but {path} holds no {CONFIG} that names groups: "
            "Adapter.load reads a single adapter"
        )
    _require_format(content, path)
    # JSON has no tuples.
    pairs = content.get("items")
    if isinstance(pairs, list):
        content = {**content, "items": [tuple(pair) if isinstance(pair, list) else pair for pair in pairs]}
    saved = validated(GroupedConfig, content, what, remedy, unknown=unknown)
    if saved.format == FORMAT and digest(content) != saved.sha256:
        raise ValueError(f"{path} is a corrupt grouped adapter: {CONFIG} was changed since it was saved: {remedy}")
    items = dict(saved.items)
    if len(items) < len(saved.items) or set(items.values()) != set(saved.groups):
        raise ValueError(f"{what} is expected to name each item once, in one of its groups: {remedy}")
    return saved
