r"""Saved adapters: a readable config and the adapter's own tensors, without pickle and without frozen weights."""

from __future__ import annotations

__all__ = ["load", "pack", "save", "unpack", "unpickled", "write"]

import inspect
import json
import math
import os
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from .._random import seeded
from .._version import __version__
from ..adapters import AdapterModule, make
from ..calibration.recalibration import Recalibration
from ..copulas.independent import Independent
from ..data.calendar import count_waves
from ..data.marks import Marks
from ..errors import quoted, reading, shown, unknown
from ..fitting.decision import Decision
from ..fitting.fitted import Fitted, saved_cycles
from ..foundation import KNOWN
from ..foundation.base import CALLABLE
from ..foundation.several import joined
from ..fractions import FRACTIONS
from ..notices import Notice
from .ownership import CONFIG, GROUPS, SAVED, TENSORS, as_path, replaced, standing
from .tensors import Kind, kind_of, taken, written

if TYPE_CHECKING:
    from ..adapter import Adapter
    from ..foundation import FoundationModel
    from .saved_schema import Fit, Saved


def pack(fitted: Fitted) -> tuple[dict[str, Any], dict[str, Tensor]]:
    r"""Convert the result of a fit to a config and tensors.

    Arguments:
        fitted: The result of the fit.

    Returns:
        The config, of JSON values, and the tensors.
    """
    from .saved_schema import ROLES

    # Plots show four prediction lengths of history, updates score windows that were incomplete at the fit, and
    # explanations read windows outside of the train rows.
    keep = max(fitted.context_length + fitted.copula.prediction_length, 4 * fitted.copula.prediction_length)
    starts = [
        max(0, min(len(item) - keep, start - fitted.context_length))
        for item, start in zip(fitted.panel.items, fitted.held_back, strict=True)
    ]
    latest = [(item, slice(start, None)) for item, start in zip(fitted.panel.items, starts, strict=True)]
    tensors: dict[str, Tensor] = {
        "location": torch.from_numpy(fitted.location),
        "scale": torch.from_numpy(fitted.scale),
        "support": torch.from_numpy(np.stack(fitted.support)),
        **fitted.state(),
        **{f"rows.{n}": torch.from_numpy(item.values[rows].copy()) for n, (item, rows) in enumerate(latest)},
    }
    if fitted.panel.frequency is not None:
        tensors |= {f"clock.{n}": torch.from_numpy(item.clock()[rows].copy()) for n, (item, rows) in enumerate(latest)}
    config = {
        "channels": fitted.panel.channels,
        **{role: getattr(fitted.panel, role) for role in ROLES},
        "static": dict(fitted.panel.static),
        "frequency": fitted.panel.frequency,
        "single": fitted.panel.single,
        "items": [{"item_id": i.item_id, **_index_config(i.index)} for i in fitted.panel.items],
        "context_length": fitted.context_length,
        "season_length": fitted.season_length,
        "windows": fitted.windows,
        "spans": fitted.spans,
        "stages": {name: asdict(decision) for name, decision in fitted.decisions.items()},
        "marks": dict(fitted.marks.bounds),
        "notices": [asdict(notice) for notice in fitted.notices],
        "further": fitted.module.further,
        "tensors": {name: written(kind_of(tensor)) for name, tensor in sorted(tensors.items())},
    }
    plain_config: dict[str, Any] = json.loads(_json(config))
    return plain_config, tensors


def save(fitted: Fitted, adapter: Adapter, path: str | os.PathLike[str], *, overwrite: bool) -> None:
    r"""Save a fitted adapter to a folder.

    Arguments:
        fitted: The result of its fit.
        adapter: The adapter, for its options.
        path: The folder.
        overwrite: Whether to replace the folder if it exists.

    Raises:
        OSError: If the folder cannot be written.
        ValueError: If the folder exists and may not be replaced, or holds foreign files.
    """
    with replaced(path, SAVED, overwrite=overwrite) as folder:
        write(fitted, adapter, folder)


def write(fitted: Fitted, adapter: Adapter, folder: Path) -> None:
    r"""Write a fitted adapter into a temporary folder, such as that of `replaced`, which is moved to its place later.

    Arguments:
        fitted: The result of its fit.
        adapter: The adapter, for its options.
        folder: The folder, created if missing.
    """
    from safetensors.torch import save as as_bytes

    from .saved_schema import FORMAT, digest

    fit, tensors = pack(fitted)
    options = {**adapter.get_params(deep=False), **adapter.training_}
    options["foundation_model"] = _addresses(options["foundation_model"])
    for name in ("family", "trainer_options"):  # the family is saved separately; trainer options matter only to `fit`
        del options[name]
    config = {
        "format": FORMAT,
        "adapts": __version__,
        "family": adapter.family.family,
        "family_options": adapter.family.options(),
        "options": {
            **options,
            "support": _finite(options["support"]),
            "splits": list(map(float, options["splits"])),
            "device": "auto",
        },
        "foundation_model": adapter.model.fingerprint(),
        **fit,
    }
    config = json.loads(_json(config))
    folder.mkdir(parents=True, exist_ok=True)
    content = as_bytes({name: tensor.contiguous() for name, tensor in tensors.items()})
    (folder / TENSORS).write_bytes(content)
    config["sha256"] = digest(config, content)
    (folder / CONFIG).write_text(_json(config) + "\n", encoding="utf-8")


def _addresses(model: Any) -> str | list[str] | None:
    r"""Return the names or paths of frozen models; None if one is in memory, which has no address."""
    if isinstance(model, list | tuple):
        named = all(isinstance(each, str | Path) for each in model)
        return [str(each) for each in model] if named else None
    return str(model) if isinstance(model, str | Path) else None


def load(
    adapter_class: type[Adapter],
    path: str | Path,
    *,
    foundation_model: Any,
    device: str,
    call: Callable[[str], str],
    loaded: FoundationModel | None = None,
) -> Adapter:
    r"""Load a saved adapter.

    Arguments:
        adapter_class: The class to create.
        path: The folder.
        foundation_model: The frozen model; if None, the one that the config names, if it is a known one.
        device: The device of the frozen model.
        call: A function that formats the call with a given frozen model in the caller's terms, for the message.
        loaded: The frozen model, if it is already loaded.

    Returns:
        The fitted adapter.

    Raises:
        ValueError: If the folder is not a saved adapter, is corrupt, or its foundation model does not match.
    """
    from .saved_schema import REMEDY, read_config, read_tensors

    folder = _require_folder(path)
    saved, content = read_config(folder, path)
    if foundation_model is None:
        _require_known(saved, path, call)
    tensors = read_tensors(folder, path, saved, content)
    with reading(f"{path} is a corrupt adapter, or another version's", REMEDY):
        family = make(saved.family, saved.family_options)
        columns = len(saved.channels) - len(saved.known_covariates)
        family.require_sizes(columns, _part("module", {name: kind_of(x) for name, x in tensors.items()}))
        options = _options(adapter_class, saved, device)
        if foundation_model is not None:
            options["foundation_model"] = foundation_model
        adapter = adapter_class(family, **options)
        if saved.context_length != int(adapter.context_length or saved.context_length):
            raise ValueError(f"context_length is {adapter.context_length} and {saved.context_length}")
        fitted = unpack(saved, tensors, family, int(adapter.prediction_length))
    if loaded is not None:
        adapter.model = loaded
    adapter.take(fitted, saved.foundation_model.model_dump(), named=foundation_model is not None, call=call)
    return adapter


def _options(adapter_class: type[Adapter], saved: Saved, device: str) -> dict[str, Any]:
    r"""Return the options of an adapter in a config, and check that they are complete."""
    from .saved_schema import FORMAT

    known = set(inspect.signature(adapter_class.__init__).parameters) - {"self", "family", "trainer_options"}
    absent = sorted(known - {"splits"} - set(saved.options))  # those saved before there were splits have the default
    if absent and saved.format == FORMAT:
        raise ValueError(f"the options lack {absent[0]!r}")
    if saved.options.get("device") != "auto":
        raise ValueError(f"the option device is 'auto' in a saved adapter, got {shown(saved.options.get('device'))}")
    address = saved.options.get("foundation_model")
    listed = isinstance(address, list) and all(isinstance(each, str) for each in address)
    if not (listed or isinstance(address, str | None)):
        raise ValueError(f"the option foundation_model is a name or names in a saved adapter, got {shown(address)}")
    splits = saved.options.get("splits", FRACTIONS)
    return {
        **saved.options,
        "device": device,
        "support": _support_option(saved.options.get("support")),
        "splits": tuple(splits) if isinstance(splits, list) else splits,
    }


def _require_known(saved: Saved, path: str | Path, call: Callable[[str], str]) -> None:
    r"""Check that a config's frozen model is a known one, as files must not cause any other to load."""
    from .saved_schema import REMEDY

    address, model = saved.options.get("foundation_model"), saved.foundation_model
    if address is None and model.version == CALLABLE:
        raise ValueError(
            f"{path} was fitted with a function ({shown(model.name)[1:-1]}), which no file can hold: wrap the same one "
            f"with FoundationModel.wrap and pass it, {call('model')}"
        )
    if address is None:
        several = joined(["", ""]) in model.name
        remedy = f"these models, {call('[model, ...]')}" if several else f"that model, {call('model')}"
        raise ValueError(f"{path} was fitted with a live model ({shown(model.name)[1:-1]}): pass {remedy}")
    names = address if isinstance(address, list) else [address]
    if any(name not in KNOWN for name in names):
        raise ValueError(
            f"{path} was fitted with the foundation model {shown(address)}, which is none of those that `adapts list "
            f"models` prints, and is not loaded because a file names it: if you trust it, name it with "
            f"{call(quoted(str(address)))}"
        )
    if joined(names) != model.name:
        raise ValueError(
            f"{path} is a corrupt adapter: it names the foundation model {address!r}, and was fitted with "
            f"{shown(model.name)}: {REMEDY}"
        )


def _require_folder(path: str | Path) -> Path:
    r"""Return the folder of a saved adapter."""
    folder = standing(as_path("path", path))
    for name in (CONFIG, TENSORS):
        if not (folder / name).exists():
            what = "is no folder" if not folder.is_dir() else f"has no {name}"
            if (folder / GROUPS).is_dir():
                what = "is a grouped one: GroupedAdapter.load reads it"
            raise ValueError(f"expected a folder that Adapter.save wrote ({CONFIG} and {TENSORS}), but {path} {what}")
    return folder


def unpack(fit: Fit, tensors: Mapping[str, Tensor], family: AdapterModule, prediction_length: int) -> Fitted:
    r"""Reconstruct the result of a fit; the inverse of `pack`.

    Arguments:
        fit: The description of the fit in the config.
        tensors: The tensors.
        family: The adapter's family.
        prediction_length: The number of target steps :math:`H`.

    Returns:
        The result of the fit, with only the rows that prediction needs.

    Raises:
        ValueError: If the tensors do not match each other and the config.
    """
    from .saved_schema import panel_of

    panel = panel_of(fit, tensors)
    targets, columns = len(panel.targets), len(panel.targets) + len(panel.past_covariates)
    low, high = taken(tensors, "support", torch.float64, (2, targets), infinite=True).numpy()
    scale = taken(tensors, "scale", torch.float64, (columns,)).numpy()
    if not (low < high).all() or not (low < math.inf).all() or not (high > -math.inf).all():
        raise ValueError("the tensor 'support' is expected to hold minimum values below the maximum values")
    if not (scale > 0).all():
        raise ValueError("the tensor 'scale' is expected to hold positive numbers")
    with seeded(0):  # initial parameters may be random; they are overwritten
        known = len(panel.known_covariates) if "known.location" in tensors else 0
        module = family.build(columns, known, count_waves(saved_cycles(tensors, panel)), fit.further)
    fitted = Fitted(
        panel=panel,
        context_length=fit.context_length,
        season_length=fit.season_length,
        support=(low, high),
        location=taken(tensors, "location", torch.float64, (columns,)).numpy(),
        scale=scale,
        constant=np.zeros(targets, dtype=bool),  # until `restore`
        module=module,
        copula=Independent(prediction_length, targets),
        recalibration=Recalibration.identity(),
        windows={part: count for part, count in fit.windows.items()},  # noqa: C416  of plain text
        spans={part: span.model_dump() for part, span in fit.spans.items()},
        decisions={name: Decision(**entry.model_dump()) for name, entry in fit.stages.items()},
        marks=Marks({name: (low, high) for name, (low, high) in fit.marks.items()}),
        notices=tuple(Notice(entry.kind, tuple(entry.about), entry.said) for entry in fit.notices),
    )
    fitted.restore(tensors)
    fitted.module.requires_grad_(False)
    return fitted


def unpickled(
    config: Mapping[str, Any], tensors: Mapping[str, Tensor], family: AdapterModule, prediction_length: int
) -> Fitted:
    r"""Reconstruct the result of a fit from a pickle, with the same checks as for a file.

    Arguments:
        config: The config from `pack`.
        tensors: The tensors.
        family: The adapter's family.
        prediction_length: The number of target steps :math:`H`.

    Returns:
        The result of the fit.

    Raises:
        ValueError: If the config or the tensors do not match the format of `pack`.
    """
    from .saved_schema import Fit, require_listed
    from .schemas import validated

    what = "the pickled adapter"
    fit = validated(Fit, config, what, "pickle it again with this version of adapts", unknown=unknown)
    require_listed(what, {name: written(kind_of(tensor)) for name, tensor in tensors.items()}, fit.tensors)
    return unpack(fit, tensors, family, prediction_length)


def _part(name: str, kinds: Mapping[str, Kind]) -> dict[str, Kind]:
    return {key.removeprefix(f"{name}."): kind for key, kind in kinds.items() if key.startswith(f"{name}.")}


def _index_config(index: pd.Index[Any]) -> dict[str, Any]:
    r"""Return what reconstructs the index: unit and time zone of the timestamps, or the number after the last row."""
    if isinstance(index, pd.DatetimeIndex):
        return {"unit": index.unit, "zone": str(index.tz) if index.tz else None}
    return {"stop": int(index.stop) if isinstance(index, pd.RangeIndex) else len(index)}


def _json(config: Mapping[str, Any]) -> str:
    return json.dumps(config, indent=2, default=_plain, allow_nan=False)


def _plain(value: Any) -> Any:
    r"""Convert a numpy scalar to a JSON value."""
    if isinstance(value, np.generic):
        return value.item()
    raise TypeError(f"a config cannot hold a {type(value).__name__}")


def _finite(support: Any) -> Any:
    r"""Convert a support to JSON values, with None for infinite bounds."""
    if isinstance(support, Mapping):
        return {name: _finite(bounds) for name, bounds in support.items()}
    return None if support is None else [float(bound) if math.isfinite(bound) else None for bound in support]


def _support_option(support: Any) -> Any:
    r"""Invert `_finite`; invalid values are returned as they are, for `Adapter` to reject."""
    if isinstance(support, Mapping):
        return {name: _support_option(bounds) for name, bounds in support.items()}
    if not isinstance(support, list) or len(support) != 2:
        return support
    low, high = support
    return (-math.inf if low is None else low, math.inf if high is None else high)
