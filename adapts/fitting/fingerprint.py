r"""All that the numbers of a fit depend on."""

from __future__ import annotations

__all__ = ["rows_digest"]

import copy
import hashlib
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any
import numpy as np
import torch
from torch import Tensor
from .._logging import get_logger
from .._random import seeded
from .._version import __version__
from ..adapters import AdapterModule, Evidence, make
from ..calibration.gate import contradicted, fit_gate
from ..calibration.joint_bands import JointBands, least_tail_scale
from ..calibration.online import OnlineRecalibration
from ..calibration.recalibration import Recalibration
from ..calibration.tails import Tails
from ..copulas.base import Copula
from ..copulas.gaussian import fit_gaussian, fit_history
from ..copulas.independent import Independent
from ..copulas.normal_scores import completed
from ..copulas.rank import RankCopula, fit_empirical, fit_schaake
from ..copulas.selection import LAGS, choose_copula, mean_pinball
from ..covariate_effect import KnownEffect, foreseen, generalised_slopes, slopes, within_items
from ..data.frequency import phases
from ..data.marks import Marks
from ..data.panel import Panel
from ..data.roles import require_tellable
from ..data.scaling import extent, location_scale
from ..data.splits import PARTS, Part, split_parts
from ..data.times import Times
from ..data.windows import Windows, part_windows
from ..distribution.pits import Pits
from ..distribution.quantile_function import QuantileFunction
from ..foundation import FoundationModel
from ..imputation.cold_start import Kriging
from ..imputation.cross_channel import Coupling, Told
from ..imputation.interpolation import short_gaps
from ..notices import Notice, collect
from ..persistence.checkpoints import Checkpoints
from ..persistence.tensors import kind_of, taken
from ..pipeline import Pipeline, noise_ratio
from ..statistics.bootstrap import independent_windows, lead_blocks
from ..statistics.ridge import blocked_folds
from ..statistics.significance import choose
from .decision import Decision, Outcome, heard
from adapts.fitting.fitted import Fitted
from adapts.fitting.stages import fit



def rows_digest(panel: Panel, stops: Sequence[int] | None = None) -> str:
    r"""Returns the sha256 of a panel's rows with their items and dates.

    Arguments:
        panel: The panel.
        stops: The row of each item before which to stop; all rows if None.
    """
    data = hashlib.sha256()
    for item, stop in zip(panel.items, stops or panel.lengths, strict=True):
        clock = np.asarray(item.index) if panel.frequency is None else item.clock()
        values = item.values[:stop]
        data.update(f"{item.item_id} {values.shape} {getattr(item.index, 'tz', None)}".encode())
        data.update(clock[:stop].tobytes() + values.tobytes())
    return data.hexdigest()


def fingerprint_of(
    fitted: Fitted, model: FoundationModel, borders: tuple[int, int] | None, settings: Mapping[str, Any]
) -> dict[str, Any]:
    r"""All that the numbers of a fit depend on, as JSON can hold it."""
    family, elsewhere = fitted.module, ("family", "foundation_model", "support", "device")
    whole = {
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
            **{name: value for name, value in settings.items() if name not in elsewhere},
            "trainer_options": dict(settings["trainer_options"] or {}),
            "context_length": fitted.context_length,
        },
    }
    # Callbacks and their like are known by their class.
    plain: dict[str, Any] = json.loads(json.dumps(whole, default=_plain))
    return plain


def _plain(value: Any) -> Any:
    return value.item() if isinstance(value, np.generic) else type(value).__qualname__
