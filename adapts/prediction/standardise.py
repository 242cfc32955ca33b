r"""Windows as the adapter sees them: standardised, known effects subtracted, imputed."""

from __future__ import annotations

__all__ = ["Standardiser"]

from dataclasses import replace

import numpy as np

from ..data.calendar import phases
from ..data.panel import Panel
from ..data.windows import Preparation, Windows
from ..fitting.fitted import Fitted
from ..imputation.cross_channel import Imputation


class Standardiser:
    r"""Standardises windows as in the fit.

    The latest panel is cached in standardised form, so that batches of its windows cost one pass.

    Arguments:
        fitted: The fit.
    """

    def __init__(self, fitted: Fitted) -> None:
        self.fitted = fitted
        # Caches of the latest panel: standardised, with what was subtracted; its known covariates; the phases of its
        # cycles; its imputation; its targets alone.
        self._standard: tuple[Panel, Panel, Panel | None, Panel | None] | None = None
        self._known: tuple[Panel, Panel] | None = None
        self._calendar: tuple[Panel, Panel] | None = None
        self._imputation: tuple[Panel, Imputation | None] | None = None
        self._targets: tuple[Panel, Panel] | None = None

    def standardised(self, windows: Windows) -> Windows:
        r"""Return windows as the adapter sees them: in train units, the effect of known covariates subtracted.

        Arguments:
            windows: Windows of a panel in the caller's units, with all columns of the fit.

        Returns:
            The windows of the standardised targets and past covariates.
        """
        cached = self._standard  # read once, as another thread may replace it meanwhile
        if cached is None or cached[0] is not windows.panel:
            self._standard = cached = windows.panel, *self._prepared(windows.panel)
        _, standard, shifts, factors = cached
        known, calendar = self._known_covariates(windows.panel), self._phases(windows.panel)
        preparation = Preparation(shifts, factors, self._imputed(standard), self.fitted.cold_start, known, calendar)
        return replace(windows, panel=standard, preparation=preparation)

    def plain(self, windows: Windows) -> Windows:
        r"""Return windows of the targets alone, in train units, without imputation: the input of a zero-shot forecast.

        Arguments:
            windows: Windows of a panel in the caller's units; columns other than the targets are ignored.

        Returns:
            The windows of the standardised targets.
        """
        if self.fitted.effect is None and not self.fitted.panel.past_covariates:
            return replace(self.standardised(windows), preparation=Preparation())
        cached = self._targets
        if cached is None or cached[0] is not windows.panel:
            targets = self.fitted.marks.without(windows.panel.select(self.fitted.panel.targets))
            count = targets.num_channels
            self._targets = cached = (
                windows.panel,
                targets.standardised(self.fitted.location[:count], self.fitted.scale[:count]),
            )
        return replace(windows, panel=cached[1], preparation=Preparation())

    def _known_covariates(self, panel: Panel) -> Panel | None:
        r"""Return the known covariates that the adapter reads, in units of the train rows."""
        if self.fitted.known is None:
            return None
        cached = self._known
        if cached is None or cached[0] is not panel:
            self._known = cached = panel, self.fitted.known.standardised(panel)
        return cached[1]

    def _phases(self, panel: Panel) -> Panel | None:
        r"""Return the phases of the cycles that the adapter reads."""
        if not self.fitted.cycles:
            return None
        if panel.frequency is None:
            raise ValueError(
                f"the adapter reads the time of the {' and the '.join(self.fitted.cycles)}, as the fitted rows had "
                f"dates: expected rows with dates, got rows without: pass them with dates"
            )
        cached = self._calendar
        if cached is None or cached[0] is not panel:
            self._calendar = cached = panel, phases(panel, self.fitted.cycles)
        return cached[1]

    def _imputed(self, standard: Panel) -> Imputation | None:
        r"""Return the imputation of a standardised panel's missing cells from the other channels."""
        if self.fitted.imputer is None:
            return None
        cached = self._imputation
        if cached is None or cached[0] is not standard:
            self._imputation = cached = standard, self.fitted.imputer.impute(standard)
        return cached[1]

    def _prepared(self, panel: Panel) -> tuple[Panel, Panel | None, Panel | None]:
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
        effects = zip(standard.items, shifts.items, factors.items, fitted.effect.unknown_cells(panel), strict=True)
        for item, shift, factor, unknown in effects:
            residual = np.where(unknown, np.nan, (item.values[:, :count] - shift.values) / factor.values)
            items.append(replace(item, values=np.hstack([residual, item.values[:, count:]])))
        return replace(standard, items=tuple(items)), shifts, factors if fitted.effect.divides else None
