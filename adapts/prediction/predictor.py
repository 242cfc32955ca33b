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
from .marginals import MarginalPredictor
from .standardise import Standardiser

logger = get_logger(__name__)


class Predictor:
    r"""Forecasts windows of raw panels; made once for a fit.

    Arguments:
        fitted: What was fitted.
        model: The frozen model as loaded.
        batch_size: The number of windows that are computed together.
        seed: The seed of the latent draws.
        posterior_draws: How often a stochastic adapter draws itself.
    """

    def __init__(
        self, fitted: Fitted, model: FoundationModel, batch_size: int, seed: int, posterior_draws: int
    ) -> None:
        self.fitted, self.loaded = fitted, model
        self.options = batch_size, seed, posterior_draws
        self.model = model.with_head(fitted.head) if fitted.head else model
        self.standardiser = Standardiser(fitted)

    @property
    def marginals(self) -> MarginalPredictor:
        r"""What forecasts the marginals of standardised windows."""
        return MarginalPredictor.of(self.fitted, self.model, *self.options)

    def joint_distribution(self, windows: Windows) -> JointDistribution:
        r"""Return the joint distribution of windows of a raw panel, in the channels' own units.

        Arguments:
            windows: The windows.

        Returns:
            The distribution of their :math:`H` steps.
        """
        fitted, predictor, standard = self.fitted, self.marginals, self.standardiser.standardised(windows)
        copula: Copula = fitted.copula
        if fitted.latent_ranks and predictor.tells_dependence:
            marginals, parts, copula = predictor.joint(standard, fitted.copula)
        else:
            marginals, parts = predictor.law(standard)
        marginals = recalibrated(fitted, marginals, windows)
        if fitted.online is not None:
            marginals = fitted.online.recalibration.apply(marginals)
        return self._in_units(windows, marginals, copula, parts)

    def zero_shot_distribution(self, windows: Windows) -> JointDistribution:
        r"""Return the zero-shot forecast of windows: the frozen model's marginals, independent, nothing fitted.

        Arguments:
            windows: The windows.

        Returns:
            The distribution of their :math:`H` steps, in the channels' own units.
        """
        marginals = self.marginals.frozen(self.standardiser.plain(windows))
        none = torch.zeros(marginals.shape, dtype=torch.float32)
        copula = Independent(windows.prediction_length, len(self.fitted.panel.targets))
        return self._in_units(windows, marginals, copula, VarianceParts.of(marginals, none, none))

    def _in_units(
        self, windows: Windows, marginals: QuantileFunction, copula: Copula, parts: VarianceParts
    ) -> JointDistribution:
        r"""The distribution in the channels' units, in double precision: a location may be large beside its scale."""
        fitted = self.fitted
        exact = QuantileFunction(marginals.levels, marginals.values.double())
        location, scale = (torch.from_numpy(unit[: marginals.shape[-1]]) for unit in (fitted.location, fitted.scale))
        low, high = (torch.from_numpy(bound) for bound in fitted.support)
        exact, constant = self._held(exact.rescaled(location, scale), windows)
        parts = parts.scaled(torch.where(constant, 0.0, scale).unsqueeze(1))
        return JointDistribution(exact.supported(low, high), copula, parts)

    def _held(self, law: QuantileFunction, windows: Windows) -> tuple[QuantileFunction, Tensor]:
        r"""The margins of windows, of which those of constant series are exactly the constant.

        A channel that is constant over all fitted rows and over a window's context has one possible value. Families
        that mix channels, and rounding, would make a law about it. Where a law of another channel has no width, its
        value is that of a constant context up to rounding in single precision, which is taken out.

        Arguments:
            law: The margins of windows, in the caller's units, with batch shape :math:`(n, H, D)`.
            windows: The windows of the panel in the caller's units.

        Returns:
            The margins, and which channels of the windows are constant, with shape :math:`(n, D)`.
        """
        always = torch.from_numpy(self.fitted.constant)
        certain = (law.values[..., 0] == law.values[..., -1]).all(1)  # (n, D)
        if not bool(certain.any() | always.any()):
            return law, certain
        past = replace(windows, panel=windows.panel.select(self.fitted.panel.targets)).past(torch.float64)  # (n, L, D)
        missing = past.isnan()
        low, high = past.masked_fill(missing, torch.inf).amin(1), past.masked_fill(missing, -torch.inf).amax(1)
        location, scale = (torch.from_numpy(unit[: len(always)]) for unit in (self.fitted.location, self.fitted.scale))
        error = (law.values[..., 0] - low.unsqueeze(1)).abs().amax(1)
        rounded = certain & (low == high) & (error <= 1e-6 * (low.abs() + location.abs() + scale))
        constant = rounded | (always & (low >= high))  # (n, D)
        value = torch.where(low > high, location, low)  # unseen: as fitted
        value = torch.where(constant, value, 0.0)[:, None, :, None]
        return QuantileFunction(law.levels, torch.where(constant[:, None, :, None], value, law.values)), constant


def recalibrated(fitted: Fitted, law: QuantileFunction, windows: Windows) -> QuantileFunction:
    r"""The margins of windows with their tails as fitted, and their levels mapped.

    Arguments:
        fitted: What was fitted.
        law: The margins of windows, with batch shape :math:`(n, H, D)`.
        windows: The windows, whose dates tell the season. Without dates the mean over the season is taken.

    Returns:
        The recalibrated margins.
    """
    law = law if fitted.tails is None else fitted.tails.apply(law)
    if not fitted.recalibration.seasonal:
        return fitted.recalibration.apply(law)
    if windows.panel.frequency is None:
        logger.warning("rows without dates, and the fit had some: recalibration by the phase of the season is averaged")
        return fitted.recalibration.apply(law)
    return fitted.recalibration.apply(law, windows.season_index())
