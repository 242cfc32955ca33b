r"""What a fit leaves behind."""

from __future__ import annotations

__all__ = ["Fitted"]

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
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
from ..data.frequency import num_seasons
from ..data.marks import Marks
from ..data.panel import Panel
from ..imputation.cold_start import ColdStart
from ..imputation.cross_channel import ChannelImputer
from ..notices import Notice
from ..persistence.tensors import kind_of, taken
from .decision import Decision

logger = get_logger(__name__)


@dataclass
class Fitted:
    r"""What a fit leaves behind: all that prediction needs beside the frozen model.

    Arguments:
        panel: The fitted panel, in the caller's units; predictions without a series follow its end.
        context_length: The number of context steps :math:`L`.
        season_length: The season's length, where a data card states one.
        support: The lowest and highest possible value of each channel, each with shape :math:`(D,)`.
        location: The means of the targets and, behind them, the past covariates over the train rows.
        scale: Their population standard deviations over the train rows. The units of channels that these do not show
            to vary are those of all rows (see `location_scale`).
        constant: Whether each target is constant over all rows, with shape :math:`(D,)`.
        module: The built adapter.
        copula: The dependence of channels and leads.
        recalibration: The map of the levels.
        tails: What lies beyond the outer quantiles, before levels are mapped; None where they are the law's own.
        bands: The joint bands, made of the outcomes of the calibration and confirmation rows.
        online: How the levels have moved since the fit; None before the first update.
        latent_copula: The dependence of the latent channels, where the family mixes channels.
        latent_ranks: Whether each window is ranked as its decoded latent paths are (see
            `MarginalPredictor.predict_joint`), to which
            `copula` adds the noise, as long as the gate is not closed; by `copula` alone otherwise.
        noise: The variance added, as a share of the window's own, with shape :math:`(H, D)`.
        gate: The adapter's share of the law, with shape :math:`(H, D)`; None where no gate stands.
        windows: The number of windows a part.
        spans: The first and the last target row of each part, by their dates or numbers, and how many rows it has;
            a part without rows is left out.
        decisions: What each stage decided, by its name.
        head: The tensors of the frozen model's head, where it was trained for these series.
        effect: What known covariates explain of the targets; None where there are none.
        imputer: What imputes missing cells from the other channels; None where nothing is imputed.
        cold_start: What forecasts contexts of few values; None where they are left to the frozen model.
        marks: Which values of a panel count as missing, however it came.
        left_out: Why stages were left out for want of rows, by their name.
        notices: What the user must know.
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
    imputer: ChannelImputer | None = None
    cold_start: ColdStart | None = None
    marks: Marks = field(default_factory=Marks)
    left_out: dict[str, str] = field(default_factory=dict)
    notices: tuple[Notice, ...] = ()

    @property
    def joint_bands(self) -> JointBands:
        r"""The joint bands in the caller's units; `bands` is in those of the train rows' deviations."""
        return self.bands.rescaled(torch.from_numpy(self.scale[: len(self.panel.targets)]))

    def forgetting(self) -> Fitted:
        r"""Returns a copy without what imputes its windows."""
        return replace(self, imputer=None, cold_start=None)

    def deciding(self, stage: str, decision: Decision | None) -> Fitted:
        r"""Returns a copy with the decision of a stage.

        Arguments:
            stage: The name of the stage.
            decision: Its decision; a copy as it is if None.
        """
        return self if decision is None else replace(self, decisions={**self.decisions, stage: decision})

    def state(self) -> dict[str, Tensor]:
        r"""Returns copies of the tensors that the stages leave behind, under names such as "module.weights"."""
        parts: dict[str, Mapping[str, Tensor]] = {
            "module": self.module.state_dict(),
            "copula": self.copula.state(),
            "recalibration": self.recalibration.state(),
            "bands": self.bands.state(),
            "online": {} if self.online is None else self.online.state(),
            "latent_copula": {} if self.latent_copula is None else self.latent_copula.state(),
            "head": self.head,
            "effect": {} if self.effect is None else self.effect.state(),
            "coupling": {} if self.imputer is None else self.imputer.state(),
            "kriging": {} if self.cold_start is None else self.cold_start.state(),
        }
        tensors = {f"{part}.{name}": tensor for part, state in parts.items() for name, tensor in state.items()}
        tensors |= {name: tensor for name in ("noise", "gate") if (tensor := getattr(self, name)) is not None}
        if self.tails is not None:
            tensors["tails"] = self.tails.values
        if self.latent_ranks:
            tensors["latent_ranks"] = torch.tensor(True)
        if self.constant.any():
            tensors["constant"] = torch.from_numpy(self.constant)
        return {name: tensor.detach().clone(memory_format=torch.contiguous_format) for name, tensor in tensors.items()}

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        r"""Takes what `state` returned.

        Arguments:
            tensors: The tensors; other names among them are not looked at.

        Raises:
            ValueError: If a tensor does not fit the panel, the module and the numbers of steps, or holds what no fit
                leaves behind.
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
            own = (maps.shape[1], maps.shape[2], len(blocks))
            _require_size(
                "recalibration", own, (num_seasons(self.panel.frequency) if seasonal else 1, targets, horizon)
            )
        self.tails = None
        if "tails" in tensors:  # shapes of either sign, positive scales
            common = tensors["tails"].ndim == 2  # of adapters that were saved before channels had their own
            tails = taken(tensors, "tails", torch.float64, (2, 2) if common else (targets, 2, 2))
            taken({"tails": tails[..., 1]}, "tails", torch.float64, tails.shape[:-1], low=1e-9)
            self.tails = Tails.of(tails, targets) if common else Tails(tails)
        self.bands = JointBands.from_state(part("bands"))
        if self.bands.scores:
            found = self.bands.scores["channels"].shape[1], self.bands.scores["time"].shape[2]
            _require_size("joint bands", found, shape)
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
        self.imputer = ChannelImputer.from_state(part("coupling")) if part("coupling") else None
        if self.imputer is not None:
            _require_size("coupling", (len(self.imputer.channel_persistence),), (seen,))
        self.cold_start = ColdStart.from_state(part("kriging")) if part("kriging") else None
        if self.cold_start is not None:
            _require_size("correlations over time", tuple(self.cold_start.errors.shape[:2]), (horizon, seen))


def _copula(state: Mapping[str, Tensor], shape: tuple[int, int]) -> Copula:
    r"""The copula of a state, for so many leads and channels, the same for all windows."""
    copula = Copula.from_state(state)
    _require_size("copula", (copula.prediction_length, copula.channels), shape)
    if copula.windows is not None:
        raise ValueError(f"the copula {copula.name!r} is of {copula.windows} windows, expected the same for all")
    return copula


def _require_size(what: str, found: tuple[int, ...], expected: tuple[int, ...]) -> None:
    if found != expected:
        raise ValueError(f"the tensors of the {what} are of size {found}, expected {expected}")
