r"""The result of a fit."""

from __future__ import annotations

__all__ = ["Fitted", "saved_cycles"]

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from .._logging import get_logger
from ..adapters import AdapterModule
from ..calibration.joint_bands import JointBands
from ..calibration.online import OnlineRecalibration
from ..calibration.recalibration import Recalibration
from ..calibration.tails import Tails
from ..copulas.base import Copula
from ..covariate_effect import KnownEffect
from ..data.calendar import CYCLES
from ..data.frequency import num_seasons
from ..data.known_units import KnownUnits
from ..data.marks import Marks
from ..data.panel import Panel
from ..errors import reading, shown
from ..imputation.cold_start import ColdStart
from ..imputation.cross_channel import ChannelImputer
from ..notices import Notice
from ..persistence.tensors import kind_of, taken
from .decision import Decision

logger = get_logger(__name__)

#: The last rows that explanations read, over all items: at least so many, and as many as hold so many numbers.
LATEST_ROWS, LATEST_NUMBERS = 512, 2**15


@dataclass
class Fitted:
    r"""Result of a fit: everything that prediction needs apart from the frozen model.

    Arguments:
        panel: The fitted panel, in the caller's units; predictions start at its end by default.
        context_length: The number of context steps :math:`L`.
        season_length: The season's length, where a data card states one.
        support: The lowest and highest possible value of each channel, each with shape :math:`(D,)`.
        location: The means of the targets, followed by the past covariates, over the train rows.
        scale: Their population standard deviations over the train rows. Location and scale of channels that are
            constant there are those of all rows (see `location_scale`).
        constant: Whether each target is constant over all rows, with shape :math:`(D,)`.
        module: The built adapter.
        copula: The dependence over channels and horizon steps.
        recalibration: The recalibration map of quantile levels.
        tails: The tails beyond the outer quantiles, before recalibration; None for the extrapolated ones.
        bands: The joint bands, fitted on outcomes of the calibration and confirmation rows.
        online: The online recalibration since the fit; None before the first update.
        latent_copula: The copula of the latent channels, if the family mixes channels.
        latent_ranks: Whether samples take the ranks of each window's decoded latent paths (see `Predictor.joint`), with
            `copula` for the noise, unless the gate is zero; otherwise `copula` alone gives the dependence.
        noise: The noise variance, relative to that of the window, with shape :math:`(H, D)`.
        gate: The adapter's weight in the predictive distribution, with shape :math:`(H, D)`; None without a gate.
        windows: The number of windows per split.
        spans: The first and last target row of each split, as dates or numbers, and the number of rows; splits without
            rows are omitted.
        decisions: The decision of each stage, by its name.
        head: The tensors of the frozen model's head, if it was trained for these series.
        effect: The effect of known covariates on the targets; None if there are none.
        known: The units of the known covariates that the adapter reads; None if it reads none.
        cycles: The names of the cycles whose phases the adapter reads.
        imputer: The model that imputes missing cells from the other channels; None if nothing is imputed.
        cold_start: The model for contexts of few values; None if the frozen model forecasts them alone.
        marks: The values of a panel that count as missing.
        left_out: The reasons for stages skipped for too few rows, by stage.
        declined: The splits without rows, as `splits` has it, of the stages skipped for it, by stage.
        notices: What the user must know.
        seconds: How long parts of the training took, by name; no part of a saved adapter.
    """

    panel: Panel
    context_length: int
    season_length: int | None
    support: tuple[np.ndarray, np.ndarray]
    location: np.ndarray
    scale: np.ndarray
    constant: np.ndarray
    module: AdapterModule
    copula: Copula
    recalibration: Recalibration
    tails: Tails | None = None
    bands: JointBands = field(default_factory=JointBands)
    online: OnlineRecalibration | None = None
    latent_copula: Copula | None = None
    latent_ranks: bool = False
    noise: Tensor | None = None
    gate: Tensor | None = None
    windows: dict[str, int] = field(default_factory=dict)
    spans: dict[str, dict[str, Any]] = field(default_factory=dict)
    decisions: dict[str, Decision] = field(default_factory=dict)
    head: dict[str, Tensor] = field(default_factory=dict)
    effect: KnownEffect | None = None
    known: KnownUnits | None = None
    cycles: tuple[str, ...] = ()
    imputer: ChannelImputer | None = None
    cold_start: ColdStart | None = None
    marks: Marks = field(default_factory=Marks)
    left_out: dict[str, str] = field(default_factory=dict)
    declined: dict[str, str] = field(default_factory=dict)
    notices: tuple[Notice, ...] = ()
    seconds: dict[str, float] = field(default_factory=dict)

    @property
    def probed(self) -> bool:
        r"""Whether the frozen model's head was trained on the train windows, whose forecasts are then in-sample.

        The quantiles of the errors of a model of points (`adapts.foundation.point`) are too few to overfit.
        """
        return any(not name.endswith("quantiles") for name in self.head)

    @property
    def joint_bands(self) -> JointBands:
        r"""The joint bands in the caller's units; `bands` is in units of the train rows' standard deviations."""
        return self.bands.rescaled(torch.from_numpy(self.scale[: len(self.panel.targets)]))

    @property
    def held_back(self) -> list[int]:
        r"""The first row of each item that is a target of windows outside of the train rows, for `Adapter.explain`.

        These rows follow the last train row of any item. Of these, only the last ones count, 512 over all items, or as
        many as hold 32,768 numbers, and at least one horizon of an item, four of a single one: with their contexts, a
        saved adapter holds them too. An item without such rows has its number of rows.
        """
        horizon, count = self.copula.prediction_length, len(self.panel)
        most = max(LATEST_ROWS, LATEST_NUMBERS // self.panel.num_channels, 4 * horizon)
        rows = max(horizon, -(-most // count))
        starts = [max(0, len(item) - rows) for item in self.panel.items]
        if "train" not in self.spans:
            return starts
        last = self.spans["train"]["last"]
        with reading(f"the last train row of the fit, {shown(last)}, cannot be read", "fit again"):
            dated = self.panel.frequency is not None
            label: Any = pd.Timestamp(last) if dated else int(last)
            after = [int(item.index.searchsorted(label, side="right")) for item in self.panel.items]
        return [max(pair) for pair in zip(starts, after, strict=True)]

    def without_imputation(self) -> Fitted:
        r"""Return a copy without imputation and cold-start model."""
        return replace(self, imputer=None, cold_start=None)

    def with_decision(self, stage: str, decision: Decision | None) -> Fitted:
        r"""Return a copy with the decision of a stage.

        Arguments:
            stage: The name of the stage.
            decision: Its decision; the fit is returned unchanged if None.
        """
        return self if decision is None else replace(self, decisions={**self.decisions, stage: decision})

    def with_seconds(self, **seconds: float) -> Fitted:
        r"""Return a copy that adds to the seconds of parts of the training.

        Arguments:
            **seconds: The seconds by part.
        """
        added = {name: self.seconds.get(name, 0.0) + value for name, value in seconds.items()}
        return replace(self, seconds={**self.seconds, **added})

    def state(self) -> dict[str, Tensor]:
        r"""Return copies of all fitted tensors, under names such as "module.weights"."""
        parts: dict[str, Mapping[str, Tensor]] = {
            "module": self.module.state_dict(),
            "copula": self.copula.state(),
            "recalibration": self.recalibration.state(),
            "bands": self.bands.state(),
            "online": {} if self.online is None else self.online.state(),
            "latent_copula": {} if self.latent_copula is None else self.latent_copula.state(),
            "head": self.head,
            "effect": {} if self.effect is None else self.effect.state(),
            "known": {} if self.known is None else self.known.state(),
            "coupling": {} if self.imputer is None else self.imputer.state(),
            "kriging": {} if self.cold_start is None else self.cold_start.state(),
        }
        tensors = {f"{part}.{name}": tensor for part, state in parts.items() for name, tensor in state.items()}
        tensors |= {name: tensor for name in ("noise", "gate") if (tensor := getattr(self, name)) is not None}
        if self.tails is not None:
            tensors["tails"] = self.tails.values
        if self.cycles:
            tensors["cycles"] = torch.tensor([name in self.cycles for name, *_ in CYCLES])
        if self.latent_ranks:
            tensors["latent_ranks"] = torch.tensor(True)
        if self.constant.any():
            tensors["constant"] = torch.from_numpy(self.constant)
        return {name: tensor.detach().clone(memory_format=torch.contiguous_format) for name, tensor in tensors.items()}

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        r"""Restore the tensors that `state` returned.

        Arguments:
            tensors: The tensors; other names are ignored.

        Raises:
            ValueError: If a tensor does not match the panel, the module and the numbers of steps, or holds values that
                no fit produces.
        """

        def part(name: str) -> dict[str, Tensor]:
            return {key.removeprefix(f"{name}."): x for key, x in tensors.items() if key.startswith(f"{name}.")}

        horizon, targets = self.copula.prediction_length, len(self.panel.targets)
        seen = targets + len(self.panel.past_covariates)
        module, real = part("module"), (torch.float32, torch.float64)
        self.module.require_kinds({name: kind_of(tensor) for name, tensor in module.items()})
        self.module.load_state_dict(module)
        self.module.eval()
        self.module.require_sound(self.context_length, horizon)
        shape = (horizon, targets)
        self.copula = _copula(part("copula"), shape)
        self.recalibration = Recalibration.from_state(part("recalibration"))
        if self.recalibration.maps is not None and self.recalibration.blocks is not None:
            maps, blocks, seasonal = self.recalibration.maps, self.recalibration.blocks, self.recalibration.seasonal
            found = (maps.shape[1], maps.shape[2], len(blocks))
            _require_size(
                "recalibration", found, (num_seasons(self.panel.frequency) if seasonal else 1, targets, horizon)
            )
        self.tails = None
        if "tails" in tensors:  # shapes of either sign, positive scales
            common = tensors["tails"].ndim == 2  # of adapters saved before each channel had its own
            tails = taken(tensors, "tails", torch.float64, (2, 2) if common else (targets, 2, 2))
            taken({"tails": tails[..., 1]}, "tails", torch.float64, tails.shape[:-1], low=1e-9)
            self.tails = Tails.of(tails, targets) if common else Tails(tails)
        self.bands = JointBands.from_state(part("bands"))
        if self.bands.scores:
            band_size = self.bands.scores["channels"].shape[1], self.bands.scores["time"].shape[2]
            _require_size("joint bands", band_size, shape)
        self.online = OnlineRecalibration.from_state(part("online")) if part("online") else None
        if self.online is not None:
            _require_size("online recalibration", tuple(self.online.scores.shape[:2]), shape)
        latent = part("latent_copula")
        self.latent_copula = _copula(latent, (horizon, self.module.latents)) if latent else None
        self.latent_ranks = "latent_ranks" in tensors and bool(taken(tensors, "latent_ranks", torch.bool, ()))
        self.noise = taken(tensors, "noise", real, shape, low=0.0) if "noise" in tensors else None
        self.gate = taken(tensors, "gate", real, shape, low=0.0, high=1.0) if "gate" in tensors else None
        if "constant" in tensors:
            self.constant = taken(tensors, "constant", torch.bool, (targets,)).numpy()
        self.head = part("head")
        for name in self.head:
            taken(self.head, name, torch.float32, (None,) * self.head[name].ndim)
        self.effect = KnownEffect.from_state(self.panel, part("effect")) if part("effect") else None
        self.known = KnownUnits.from_state(self.panel, part("known")) if part("known") else None
        self.cycles = saved_cycles(tensors, self.panel)
        self.imputer = ChannelImputer.from_state(part("coupling")) if part("coupling") else None
        if self.imputer is not None:
            _require_size("coupling", (len(self.imputer.channel_persistence),), (seen,))
        self.cold_start = ColdStart.from_state(part("kriging")) if part("kriging") else None
        if self.cold_start is not None:
            _require_size("correlations over time", tuple(self.cold_start.errors.shape[:2]), (horizon, seen))


def saved_cycles(tensors: Mapping[str, Tensor], panel: Panel) -> tuple[str, ...]:
    r"""Return the names of the cycles in the tensors of a fit.

    Arguments:
        tensors: The tensors that `Fitted.state` returned.
        panel: The fitted panel.

    Raises:
        ValueError: If the panel has no dates, or the tensor is another.
    """
    if "cycles" not in tensors:
        return ()
    read = taken(tensors, "cycles", torch.bool, (len(CYCLES),)).tolist()
    if panel.frequency is None:
        raise ValueError("the tensor 'cycles' is expected of dated series only")
    return tuple(name for (name, *_), used in zip(CYCLES, read, strict=True) if used)


def _copula(state: Mapping[str, Tensor], shape: tuple[int, int]) -> Copula:
    r"""Restore a copula of given size, the same for all windows."""
    copula = Copula.from_state(state)
    _require_size("copula", (copula.prediction_length, copula.channels), shape)
    if copula.windows is not None:
        raise ValueError(
            f"the copula {copula.name!r} is specific to {copula.windows} windows, expected one for all windows"
        )
    return copula


def _require_size(what: str, found: tuple[int, ...], expected: tuple[int, ...]) -> None:
    if found != expected:
        raise ValueError(f"the tensors of the {what} are of size {found}, expected {expected}")
