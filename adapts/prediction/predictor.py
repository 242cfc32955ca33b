r"""From windows of the caller's panel to their joint distribution."""

from __future__ import annotations

__all__ = ["Predictor", "recalibrated"]

from dataclasses import replace

import torch
from torch import Tensor

from .._logging import get_logger
from ..copulas.base import Copula
from ..copulas.independent import Independent
from ..data.windows import Windows
from ..distribution.joint import JointDistribution
from ..distribution.quantile_function import QuantileFunction
from ..distribution.variance import VarianceParts
from ..fitting.fitted import Fitted
from ..foundation import FoundationModel
from ..foundation.series import for_series
from .marginals import MarginalPredictor
from .standardise import Standardiser

logger = get_logger(__name__)


class Predictor:
    r"""Forecasts windows of panels in the caller's units; made once per fit.

    Arguments:
        fitted: The fit.
        model: The loaded frozen model.
        batch_size: The number of windows per batch.
        seed: The seed of the latent draws.
        posterior_draws: The number of draws of a stochastic adapter.
    """

    def __init__(
        self, fitted: Fitted, model: FoundationModel, batch_size: int, seed: int, posterior_draws: int
    ) -> None:
        self.fitted, self.loaded = fitted, model
        self.options = batch_size, seed, posterior_draws
        model = for_series(model, fitted.panel.frequency, fitted.season_length, fitted.copula.prediction_length)
        self.model = model.with_head(fitted.head) if fitted.head else model
        self.standardiser = Standardiser(fitted)

    @property
    def marginals(self) -> MarginalPredictor:
        r"""Return the predictor of the marginals of standardised windows."""
        return MarginalPredictor.of(self.fitted, self.model, *self.options)

    def standardised_marginals(self, windows: Windows) -> QuantileFunction:
        r"""Return the marginals of `joint_distribution` in train units.

        Arguments:
            windows: The windows of a panel in the caller's units.

        Returns:
            The marginals of their :math:`H` steps, with batch shape :math:`(n, H, D)`.
        """
        return self._recalibrated(self.marginals.predict(self.standardiser.standardised(windows))[0], windows)

    def _recalibrated(self, marginals: QuantileFunction, windows: Windows) -> QuantileFunction:
        r"""Apply the recalibration of the fit and of updates."""
        marginals = recalibrated(self.fitted, marginals, windows)
        return marginals if self.fitted.online is None else self.fitted.online.recalibration.apply(marginals)

    def joint_distribution(self, windows: Windows) -> JointDistribution:
        r"""Return the joint distribution of windows, in the channels' units.

        Arguments:
            windows: The windows of a panel in the caller's units.

        Returns:
            The distribution of their :math:`H` steps.
        """
        fitted, predictor, standard = self.fitted, self.marginals, self.standardiser.standardised(windows)
        copula: Copula = fitted.copula
        if fitted.latent_ranks and predictor.models_dependence:
            marginals, parts, copula = predictor.predict_joint(standard, fitted.copula)
        else:
            marginals, parts = predictor.predict(standard)
        return self._in_units(windows, self._recalibrated(marginals, windows), copula, parts)

    def zero_shot_distribution(self, windows: Windows, *, joint: bool = False) -> JointDistribution:
        r"""Return the zero-shot forecast of windows: the frozen model's marginals, independent, without any fit.

        Arguments:
            windows: The windows.
            joint: Whether the model reads all channels of a window in one group.

        Returns:
            The distribution of their :math:`H` steps, in the channels' units.
        """
        plain = self.standardiser.plain(windows)
        marginals = self.marginals.zero_shot_jointly(plain) if joint else self.marginals.zero_shot(plain)
        none = torch.zeros(marginals.shape, dtype=torch.float32)
        copula = Independent(windows.prediction_length, len(self.fitted.panel.targets))
        return self._in_units(windows, marginals, copula, VarianceParts.of(marginals, none, none))

    def _in_units(
        self, windows: Windows, marginals: QuantileFunction, copula: Copula, parts: VarianceParts
    ) -> JointDistribution:
        r"""Convert to the channels' units in double precision, as a location may be large relative to its scale."""
        fitted = self.fitted
        exact = QuantileFunction(marginals.levels, marginals.values.double())
        location, scale = (torch.from_numpy(x[: marginals.shape[-1]]) for x in (fitted.location, fitted.scale))
        low, high = (torch.from_numpy(bound) for bound in fitted.support)
        exact, constant = self._constants_restored(exact.rescaled(location, scale), windows)
        parts = parts.scaled(torch.where(constant, 0.0, scale).unsqueeze(1))
        return JointDistribution(exact.supported(low, high), copula, parts)

    def _constants_restored(self, marginals: QuantileFunction, windows: Windows) -> tuple[QuantileFunction, Tensor]:
        r"""Replace the marginals of constant series by exactly the constant.

        A channel that is constant over all fitted rows and over a window's context has one possible value. Families
        that mix channels, and rounding, would give it a width. If the marginals of another channel have no width, their
        value is that of a constant context up to rounding in single precision, which is removed.

        Arguments:
            marginals: The marginals of windows, in the caller's units, with batch shape :math:`(n, H, D)`.
            windows: The windows of the panel in the caller's units.

        Returns:
            The marginals, and which channels of the windows are constant, with shape :math:`(n, D)`.
        """
        constant_in_fit = torch.from_numpy(self.fitted.constant)
        certain = (marginals.values[..., 0] == marginals.values[..., -1]).all(1)  # (n, D)
        if not bool(certain.any() | constant_in_fit.any()):
            return marginals, certain
        past = replace(windows, panel=windows.panel.select(self.fitted.panel.targets)).past(torch.float64)  # (n, L, D)
        missing = past.isnan()
        low, high = past.masked_fill(missing, torch.inf).amin(1), past.masked_fill(missing, -torch.inf).amax(1)
        location, scale = (
            torch.from_numpy(x[: len(constant_in_fit)]) for x in (self.fitted.location, self.fitted.scale)
        )
        error = (marginals.values[..., 0] - low.unsqueeze(1)).abs().amax(1)
        rounded = certain & (low == high) & (error <= 1e-6 * (low.abs() + location.abs() + scale))
        constant = rounded | (constant_in_fit & (low >= high))  # (n, D)
        value = torch.where(low > high, location, low)  # without observations: as fitted
        value = torch.where(constant, value, 0.0)[:, None, :, None]
        return QuantileFunction(
            marginals.levels, torch.where(constant[:, None, :, None], value, marginals.values)
        ), constant


def recalibrated(fitted: Fitted, marginals: QuantileFunction, windows: Windows) -> QuantileFunction:
    r"""Apply the fitted tails and the recalibration of levels to marginals.

    Arguments:
        fitted: The fit.
        marginals: The marginals of windows, with batch shape :math:`(n, H, D)`.
        windows: The windows; their dates give the season indices. Without dates, seasonal maps are averaged.

    Returns:
        The recalibrated marginals.
    """
    marginals = marginals if fitted.tails is None else fitted.tails.apply(marginals)
    if not fitted.recalibration.seasonal:
        return fitted.recalibration.apply(marginals)
    if windows.panel.frequency is None:
        logger.warning("rows without dates after a fit with dates: seasonal recalibration maps are averaged")
        return fitted.recalibration.apply(marginals)
    return fitted.recalibration.apply(marginals, windows.season_index())
