r"""The zero-shot forecast without a fit: the frozen model's marginals, and a copula of each item's own history."""

from __future__ import annotations

__all__ = ["history_copula", "unfitted"]

import numpy as np
import torch

from ..adapters import AdapterModule
from ..calibration.recalibration import Recalibration
from ..copulas.base import Copula
from ..copulas.fits import Past
from ..copulas.independent import Independent
from ..data.marks import Marks
from ..data.panel import Panel
from ..data.splits import Split
from ..data.times import Times
from ..distribution.pits import Pits
from ..errors import few
from ..foundation import FoundationModel
from ..foundation.point import ResidualDistribution
from ..notices import Notice, collect
from ..registry import COPULAS, resolve
from .context import FitOptions, units
from .fitted import Fitted

#: The copula for the option "residual", as there are no past errors.
OF_HISTORY = "gaussian-history"


def unfitted(panel: Panel, module: AdapterModule, model: FoundationModel, options: FitOptions) -> Fitted:
    r"""Return what a zero-shot forecast of a panel needs: units and notices, with nothing fitted.

    Arguments:
        panel: The panel, in the caller's units.
        module: The built family "identity".
        model: The frozen model.
        options: The options; the splits are not used.

    Returns:
        The fit to the targets alone: covariates are not used, as a notice says. All rows of the panel give the units.
        Its copula is independence: see `history_copula`.

    Raises:
        ValueError: If the head of the frozen model is untrained, or the option `copula` names one of past errors.
    """
    if isinstance(model, ResidualDistribution):
        raise ValueError(
            f"{model.name} forecasts points, and the distribution of its errors is unknown without a fit: call "
            "fit(series) first, which estimates it"
        )
    if model.untrained_head() is not None:
        raise ValueError(
            f"the head of {model.name} is untrained, so that its zero-shot forecast means nothing: call fit(series) "
            "first, which trains it"
        )
    copula = options.settings["copula"]
    if copula in COPULAS and COPULAS[copula].of_errors and copula != "independent":
        raise ValueError(
            f"copula={copula!r} needs the errors of past forecasts, and predict without a fit has none: pass "
            f"copula={OF_HISTORY!r}, or call fit(series) first"
        )
    covariates = (*panel.past_covariates, *panel.known_covariates)
    panel = panel.select(panel.targets)
    marks, given = Marks.of(panel), panel
    panel = marks.without(panel)
    location, scale, constant = units(panel, Split("all", tuple((0, length) for length in panel.lengths)))
    fitted = Fitted(
        panel, options.context_length, options.season_length, options.support, location, scale, constant, module.eval(),
        copula=Independent(options.prediction_length, panel.num_channels), recalibration=Recalibration.identity(),
        marks=marks,
    )  # fmt: skip
    lengths = options.context_length, model.context_length
    notices = collect(panel, marks.on(given), options.support, scale, {}, {}, {}, lengths, only_frozen=True)
    dependence = f"the {OF_HISTORY if copula == 'residual' else copula} copula is fitted to each item's own history"
    unused = f"Covariates are not used ({few(covariates)}). " if covariates else ""
    said = (
        "zero-shot forecast: nothing is calibrated; the marginals are those of the frozen model, and "
        f"{'channels and steps are independent' if copula == 'independent' else dependence}. {unused}Fit the adapter "
        "for calibrated intervals"
    )
    fitted.notices = (*notices, Notice("zero-shot", (), said))
    return fitted


def history_copula(name: str, values: np.ndarray, prediction_length: int) -> Copula:
    r"""Fit the copula of a history alone.

    Arguments:
        name: The option `copula`: "residual" stands for "gaussian-history", as there are no past errors.
        values: The history of an item, with shape :math:`(T, D)`, in any units. NaN marks a missing value.
        prediction_length: The number of steps :math:`H`.

    Returns:
        The copula; its correlations are zero if the history is too short (fewer than 32 rows), and with them the
        dependence.
    """
    fit = resolve(COPULAS[OF_HISTORY if name == "residual" else name].fit)
    copula: Copula = fit(Past(torch.from_numpy(values), prediction_length, _no_errors))
    return copula


def _no_errors() -> tuple[Pits, Times]:
    raise AssertionError("a copula of the rows alone does not ask for errors")
