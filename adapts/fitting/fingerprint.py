r"""The fingerprint of a fit: everything that its results depend on."""

from __future__ import annotations

__all__ = ["rows_digest"]

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from .._version import __version__
from ..data.panel import Panel
from ..foundation import FoundationModel
from .fitted import Fitted


def rows_digest(panel: Panel, stops: Sequence[int] | None = None) -> str:
    r"""Return the sha256 of a panel's rows with their items and dates.

    Arguments:
        panel: The panel.
        stops: The number of rows of each item; all rows if None.
    """
    data = hashlib.sha256()
    for item, stop in zip(panel.items, stops or panel.lengths, strict=True):
        times = np.asarray(item.index) if panel.frequency is None else item.clock()
        values = item.values[:stop]
        data.update(f"{item.item_id} {values.shape} {getattr(item.index, 'tz', None)}".encode())
        data.update(times[:stop].tobytes() + values.tobytes())
    return data.hexdigest()


def fingerprint_of(
    fitted: Fitted, model: FoundationModel, borders: tuple[int, int] | None, settings: Mapping[str, Any]
) -> dict[str, Any]:
    r"""Return everything that the results of a fit depend on, in types that JSON can hold."""
    family, covered = fitted.module, ("family", "foundation_model", "support", "device")
    fingerprint = {
        "versions": {"adapts": __version__, "torch": torch.__version__},
        "data": {
            "sha256": rows_digest(fitted.panel),
            **fitted.panel.roles(),
            "frequency": fitted.panel.frequency,
            "borders": borders,
            "support": [bound.tolist() for bound in fitted.support],
            "season_length": fitted.season_length,
        },
        "family": {"name": family.family, **family.options()},
        "foundation model": {**model.fingerprint(), "device": str(model.device)},
        "option": {
            **{name: value for name, value in settings.items() if name not in covered},
            "trainer_options": dict(settings["trainer_options"] or {}),
            "context_length": fitted.context_length,
        },
    }
    # Callbacks and other objects are represented by their class.
    plain: dict[str, Any] = json.loads(json.dumps(fingerprint, default=_plain))
    return plain


def _plain(value: Any) -> Any:
    return value.item() if isinstance(value, np.generic) else type(value).__qualname__
