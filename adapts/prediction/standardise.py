r"""Windows as the adapter sees them: standardised, known effects subtracted, imputed."""

from __future__ import annotations

__all__ = ["Standardiser"]

from dataclasses import replace

import numpy as np

from ..data.panel import Panel
from ..data.windows import Preparation, Windows
from ..fitting.fitted import Fitted
from ..imputation.cross_channel import Imputation


class Standardiser:
    r"""Standardises windows as they were in the fit.

    Panels that were last asked of are kept standardised, so that batches of windows of one panel cost one pass.

    Arguments:
        fitted: What was fitted.
    """

    def __init__(self, fitted: Fitted) -> None:
        self.fitted = fitted
        # The panels last asked of, standardised, and what was subtracted; what imputes such a one; the targets alone.
        self._standard: tuple[Panel, Panel, Panel | None, Panel | None] | None = None
        self._imputation: tuple[Panel, Imputation | None] | None = None
        self._targets: tuple[Panel, Panel] | None = None

    def standardised(self, windows: Windows) -> Windows:
        r"""Return windows as the adapter sees them: in train units, the effect of known covariates subtracted.

        Arguments:
            windows: Windows of a panel in the caller's units, with all columns of the fit.

        Returns:
            The windows of the standardised targets and past covariates.
        """
        held = self._standard  # read once: another thread may ask of another panel meanwhile
        if held is None or held[0] is not windows.panel:
            self._standard = held = windows.panel, *self._seen(windows.panel)
        _, standard, shifts, factors = held
        preparation = Preparation(shifts, factors, self._imputed(standard), self.fitted.cold_start)
        return replace(windows, panel=standard, preparation=preparation)

    def plain(self, windows: Windows) -> Windows:
        r"""Return windows of the targets alone, in train units, without imputation: what a zero-shot forecast sees.

        Arguments:
            windows: Windows of a panel in the caller's units; other columns than the targets are not looked at.

        Returns:
            The windows of the standardised targets.
        """
        if self.fitted.effect is None and not self.fitted.panel.past_covariates:
            return replace(self.standardised(windows), preparation=Preparation())
        held = self._targets
        if held is None or held[0] is not windows.panel:
            targets = self.fitted.marks.without(windows.panel.select(self.fitted.panel.targets))
            count = targets.num_channels
            self._targets = held = (
                windows.panel,
                targets.standardised(self.fitted.location[:count], self.fitted.scale[:count]),
            )
        return replace(windows, panel=held[1], preparation=Preparation())

    def _imputed(self, standard: Panel) -> Imputation | None:
        r"""What imputes the missing cells of a standardised panel from the other channels."""
        if self.fitted.imputer is None:
            return None
        held = self._imputation
        if held is None or held[0] is not standard:
            self._imputation = held = standard, self.fitted.imputer.impute(standard)
        return held[1]

    def _seen(self, panel: Panel) -> tuple[Panel, Panel | None, Panel | None]:
        fitted = self.fitted
        targets, panel = fitted.panel.targets, fitted.marks.without(panel)
        standard = panel.select((*targets, *fitted.panel.past_covariates)).standardised(fitted.location, fitted.scale)
        if fitted.effect is None or not fitted.effect.used:
            return standard, None, None
        count = len(targets)
        shifts, factors = fitted.effect.shifts_and_divisors(
            panel, targets, fitted.location[:count] / fitted.scale[:count]
        )
        items = []
        every = zip(standard.items, shifts.items, factors.items, fitted.effect.unknown_cells(panel), strict=True)
        for item, shift, factor, unknown in every:
            rest = np.where(unknown, np.nan, (item.values[:, :count] - shift.values) / factor.values)
            items.append(replace(item, values=np.hstack([rest, item.values[:, count:]])))
        return replace(standard, items=tuple(items)), shifts, factors if fitted.effect.divides else None
