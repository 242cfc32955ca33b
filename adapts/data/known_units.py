r"""Known covariates in units of the train rows."""

from __future__ import annotations

__all__ = ["KnownUnits"]

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from ..persistence.tensors import require_names, taken
from .panel import Panel
from .scaling import location_scale

_TENSORS = ("location", "scale")


@dataclass(frozen=True)
class KnownUnits:
    r"""Location and scale of the known covariates, by which they are standardised.

    Arguments:
        names: The :math:`C` time-varying known covariates, calendar features last.
        static: The :math:`S` static columns.
        location: The means of both, with shape :math:`(C + S,)`: over the train rows, for numeric static columns over
            the items, and 0 for indicators.
        scale: The standard deviations over the same, with shape :math:`(C + S,)`; 1 for indicators, and for constants
            their absolute value.
    """

    names: tuple[str, ...]
    static: tuple[str, ...]
    location: np.ndarray
    scale: np.ndarray

    @staticmethod
    def of(panel: Panel, rows: Callable[[Panel], np.ndarray]) -> KnownUnits:
        r"""Return the units of a panel's known covariates.

        Arguments:
            panel: The panel of the fit.
            rows: A function that returns the train rows of a panel, with shape :math:`(n, C)`.

        Returns:
            The units.
        """
        names, static = _columns(panel)
        location, scale = location_scale(rows(panel.select(names)))
        static_values = np.stack([item.values[0] for item in panel.select(static).items])  # each item counts once
        static_location, static_scale = location_scale(static_values)
        numeric = np.array([name in panel.static for name in static], dtype=bool)
        location = np.concatenate([location, np.where(numeric, static_location, 0.0)])
        scale = np.concatenate([scale, np.where(numeric, static_scale, 1.0)])
        return KnownUnits(names, static, location, scale)

    def standardised(self, panel: Panel) -> Panel:
        r"""Return the known covariates of a panel in units of the train rows, 0 where missing.

        Arguments:
            panel: A panel with all columns.

        Returns:
            The panel of these columns: time-varying ones first, then static ones.
        """
        known = panel.select((*self.names, *self.static)).standardised(self.location, self.scale)
        return replace(
            known, items=tuple(replace(item, values=np.nan_to_num(item.values, nan=0.0)) for item in known.items)
        )

    def state(self) -> dict[str, Tensor]:
        r"""Return the tensors of the units, without names."""
        return {name: torch.from_numpy(getattr(self, name)) for name in _TENSORS}

    @staticmethod
    def from_state(panel: Panel, state: Mapping[str, Tensor]) -> KnownUnits:
        r"""Restore units from their `state()`.

        Arguments:
            panel: The panel of the fit.
            state: The tensors.

        Returns:
            The units.

        Raises:
            ValueError: If a tensor does not fit the panel's known covariates.
        """
        require_names("the units of known covariates", state, _TENSORS)
        names, static = _columns(panel)
        location, scale = (taken(state, name, torch.float64, (len(names) + len(static),)).numpy() for name in _TENSORS)
        if not (scale > 0).all():
            raise ValueError("the tensor 'scale' is expected to hold a positive number for each known covariate")
        return KnownUnits(names, static, location, scale)


def _columns(panel: Panel) -> tuple[tuple[str, ...], tuple[str, ...]]:
    r"""Return the names of the time-varying known covariates and of the static columns."""
    static = panel.static_columns
    return tuple(name for name in panel.known_covariates if name not in static), static
