r"""From windows to marginals: encode, forecast with the frozen model, draw, decode, add noise, gate."""

from __future__ import annotations

__all__ = ["MarginalPredictor"]

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ..adapters import AdapterModule, State
from ..adapters.base import window_moments
from ..calibration.gate import is_closed
from ..copulas.base import Copula
from ..copulas.gaussian import fit_gaussian
from ..copulas.independent import Independent
from ..copulas.rank import PathCopula
from ..data.windows import Windows
from ..distribution.quantile_function import QuantileFunction
from ..distribution.variance import VarianceParts
from ..fitting.fitted import Fitted
from ..foundation import FoundationModel
from ..imputation.interpolation import aligned_to_end, interpolated

#: The minimum number of observed values of a channel in a context for a zero-shot forecast.
MIN_OBSERVED = 3
#: The number of decoded latent paths over all draws of the adapter, where levels cannot be decoded one by one.
DRAWS = 256
#: The maximum number of elements of the paths decoded at a time: 128 MB.
MAX_PATHS = 2**25


@dataclass
class MarginalPredictor:
    r"""Marginals of standardised windows, from a built adapter and a frozen model.

    Arguments:
        module: The built adapter.
        model: The frozen model.
        support: The bounds of each channel, standardised, each with shape :math:`(D,)`.
        batch_size: The number of windows decoded at a time.
        seed: The seed of the latent draws; the same draws serve every window.
        latent_copula: The copula of the latent channels, for families that mix channels.
        noise: The added variance, as a fraction of the window's variance, with shape :math:`(H, D)`.
        gate: The adapter's weight; the frozen model has the remainder, with shape :math:`(H, D)`.
        posterior_draws: The number of draws :math:`M` of a stochastic adapter.
        targets: The number of target channels, the first ones; the others are covariates. All if None.
    """

    module: AdapterModule
    model: FoundationModel
    support: tuple[Tensor, Tensor]
    batch_size: int
    seed: int
    latent_copula: Copula | None = None
    noise: Tensor | None = None
    gate: Tensor | None = None
    posterior_draws: int = 20
    targets: int | None = None

    @classmethod
    def of(
        cls, fitted: Fitted, model: FoundationModel, batch_size: int, seed: int, posterior_draws: int
    ) -> MarginalPredictor:
        r"""Make the predictor of a fit, finished or not.

        Arguments:
            fitted: The fit.
            model: The frozen model, with its trained head if there is one.
            batch_size: The number of windows decoded at a time.
            seed: The seed of the latent draws.
            posterior_draws: The number of draws of a stochastic adapter.

        Returns:
            The predictor.
        """
        count = len(fitted.panel.targets)
        location, scale = fitted.location[:count], fitted.scale[:count]
        low, high = (torch.as_tensor((bound - location) / scale).float() for bound in fitted.support)
        return cls(
            fitted.module, model, (low, high), batch_size, seed, fitted.latent_copula, fitted.noise, fitted.gate,
            posterior_draws, count,
        )  # fmt: skip

    # ------------------------------------------------------------------ the two distributions

    def zero_shot(self, windows: Windows) -> QuantileFunction:
        r"""Return the zero-shot marginals, :math:`(n, H, D, Q)`, of covariates too, with known effects removed."""
        levels = torch.tensor(self.model.quantile_levels, dtype=torch.float32)
        batches = [
            _with_imputation_variance(QuantileFunction(levels, self._zero_shot(batch)), batch)
            for batch in self._batches(windows)
        ]
        return QuantileFunction(levels, torch.cat([marginals.values for marginals in batches]), self.bounds(windows))

    def zero_shot_jointly(self, windows: Windows) -> QuantileFunction:
        r"""Return zero-shot marginals of a model that reads all channels of a window in one group."""
        levels, model = torch.tensor(self.model.quantile_levels, dtype=torch.float32), self.model.members[0]
        batches = [model.predict_jointly(batch.past().mT, batch.prediction_length) for batch in self._batches(windows)]
        return QuantileFunction(levels, torch.cat(batches).permute(0, 3, 1, 2), self.bounds(windows))

    def bounds(self, windows: Windows) -> tuple[Tensor, Tensor] | None:
        r"""Return the support of the zero-shot marginals; None with covariates or known effects removed."""
        only_targets = windows.preparation.shifts is None and windows.panel.num_channels == self._targets
        return self.support if only_targets else None

    def observed(self, windows: Windows, marginals: QuantileFunction) -> QuantileFunction:
        r"""Return the marginals of the observed targets: covariates dropped, known effects added back."""
        if windows.preparation.shifts is None and marginals.shape[-1] == self._targets:
            return marginals
        values = marginals.values[..., : self._targets, :]
        if windows.preparation.shifts is not None:
            values = values * windows.factor().unsqueeze(-1) + windows.shift().unsqueeze(-1)
        return QuantileFunction(marginals.levels, values, self.support)

    def truth(self, windows: Windows) -> Tensor:
        r"""Return the observed targets of windows, with shape :math:`(n, H, D)`."""
        if windows.preparation.shifts is None:
            return windows.future()[..., : self._targets]
        double = torch.float64
        inner = windows.future(double)[..., : self._targets]
        exact = inner * windows.factor(double) + windows.shift(double)
        return exact.float()  # values on the bounds of the support stay bitwise equal to them

    @property
    def _targets(self) -> int:
        return self.module.channels if self.targets is None else self.targets

    def adapted(self, windows: Windows, frozen: QuantileFunction) -> QuantileFunction:
        r"""Return the adapter's marginals without noise, given the zero-shot marginals, which it reuses if possible."""
        return self._decoded(windows, frozen)[0]

    def predict(
        self, windows: Windows, frozen: QuantileFunction | None = None
    ) -> tuple[QuantileFunction, VarianceParts]:
        r"""Return the marginals with noise and gate, and the decomposition of their variance.

        Arguments:
            windows: Standardised windows.
            frozen: Their zero-shot marginals, computed if None.

        Returns:
            The marginals and the components of their variance.
        """
        marginals, parts, _ = self._predict(windows, frozen)
        return marginals, parts

    def predict_joint(
        self, windows: Windows, errors: Copula, frozen: QuantileFunction | None = None
    ) -> tuple[QuantileFunction, VarianceParts, PathCopula]:
        r"""Return the marginals of `predict`, with the dependence that the decoder gives to each window.

        The copula of a window has the ranks of its decoded latent paths with normal noise added. The gate changes
        marginals only. It requires `models_dependence`.

        Arguments:
            windows: As for `predict`.
            errors: The copula of the noise; that of past errors is used.
            frozen: As for `predict`.

        Returns:
            The marginals, the components of their variance, and the copula of these windows.
        """
        marginals, parts, copula = self._predict(windows, frozen, errors)
        assert copula is not None, "a closed gate, or a family that mixes no channels, gives no dependence"
        return marginals, parts, copula

    def _predict(
        self, windows: Windows, frozen: QuantileFunction | None, errors: Copula | None = None
    ) -> tuple[QuantileFunction, VarianceParts, PathCopula | None]:
        windows = windows.imputed()
        frozen = self.zero_shot(windows) if frozen is None else frozen
        zero_shot = self.observed(windows, frozen)
        if self.closed:
            none = torch.zeros(zero_shot.shape, dtype=torch.float32)
            return zero_shot, VarianceParts.of(zero_shot, none, none), None
        adapter, posterior, copula = self._decoded(windows, frozen, errors)
        noise = self._noise(windows)
        marginals = self._gated(adapter.add_noise(noise), zero_shot)
        squared_weight = torch.ones((), dtype=torch.float32) if self.gate is None else self.gate.square()
        return marginals, VarianceParts.of(marginals, squared_weight * posterior, squared_weight * noise), copula

    @property
    def closed(self) -> bool:
        r"""Return whether the gate gives the adapter no weight."""
        return is_closed(self.gate)

    @property
    def models_dependence(self) -> bool:
        r"""Return whether the marginals derive from joint paths, as `predict_joint` requires."""
        family = self.module.capabilities
        return family.mixes_channels and not (family.observed_latents or self.closed)

    def mixed(self, windows: Windows, adapter: QuantileFunction, frozen: QuantileFunction) -> QuantileFunction:
        r"""Add the noise to the adapter's marginals, and average them with the zero-shot ones by quantile."""
        return self._gated(self.noisy(windows, adapter), frozen)

    def noisy(self, windows: Windows, adapter: QuantileFunction) -> QuantileFunction:
        r"""Add the noise to the adapter's marginals."""
        return adapter.add_noise(self._noise(windows))

    def _noise(self, windows: Windows) -> Tensor:
        r"""Return the variance of the noise, with shape :math:`(n, H, D)`."""
        if self.noise is None or not bool(self.noise.any()):
            return torch.zeros(len(windows), windows.prediction_length, self._targets, dtype=torch.float32)
        return self.noise * self.window_variance(windows)

    def _gated(self, adapter: QuantileFunction, frozen: QuantileFunction) -> QuantileFunction:
        return adapter if self.gate is None else QuantileFunction.mix(self.gate, adapter, frozen)

    def window_variance(self, windows: Windows) -> Tensor:
        r"""Return the variance that scales the noise, :math:`(n, H, D)`, or with one horizon step that serves all."""
        with torch.no_grad():
            spread = torch.cat([self.module.reference_variance(batch.past()) for batch in self._batches(windows)])
        return spread[:, None, : self._targets] * windows.factor().square()

    # ------------------------------------------------------------------ inputs of training

    def latent_quantiles(self, windows: Windows) -> Tensor:
        r"""Return zero-shot quantiles of the latent channels for one draw, with shape :math:`(n, H, K, Q)`."""
        return torch.cat([self._latents(batch)[0][0] for batch in self._batches(windows)])

    def fit_latent_copula(self, windows: Windows) -> Copula:
        r"""Fit the copula of the latent channels, which a mixing decoder needs for the observed marginals."""
        pits = []
        generator = torch.Generator().manual_seed(self.seed)
        for batch in self._batches(windows):
            values, state = self._latents(batch)
            with torch.no_grad():
                truth = self.module.encode_future(batch.future(), state)
            marginals = QuantileFunction(torch.tensor(self.model.quantile_levels, dtype=torch.float32), values[0])
            pits.append(marginals.pit(truth, generator))
        return fit_gaussian(torch.cat(pits))

    # ------------------------------------------------------------------ steps

    @torch.no_grad()
    def completed_context(self, windows: Windows) -> Tensor:
        r"""Return contexts (n, L, D) for the adapter: gaps interpolated, missing ends filled by median forecasts."""
        past = windows.past()
        if not bool(past.isnan().any()):
            return past
        past = interpolated(past.mT.flatten(0, 1)).view(len(past), -1, past.shape[1]).mT
        late = past[:, -1].isnan() & ~past.isnan().all(1)  # (n, D)
        window, channel = late.nonzero().T
        if not len(window):
            return past
        series, length = past[window, :, channel], past.shape[1]  # (p, L)
        ended, gap = aligned_to_end(series)
        missing = gap.unsqueeze(1)
        ahead = torch.arange(length) - (length - missing)
        passes = (gap - 1) // self.model.prediction_length
        for number in passes.unique():
            for rows in (passes == number).nonzero().squeeze(1).split(self.model.chunk_rows(length, 1)):
                median = self.model(ended[rows], int(gap[rows].max()), unroll="median")[:, self.model.median_index]
                forecast = median.to(past).gather(1, ahead[rows].clamp(0, median.shape[1] - 1))
                series[rows] = torch.where(ahead[rows] < 0, series[rows], forecast)
        completed: Tensor = past.clone()
        completed[window, :, channel] = series
        return completed

    def _batches(self, windows: Windows, size: int | None = None) -> list[Windows]:
        size = size or self.batch_size
        return [windows[start : start + size].imputed() for start in range(0, len(windows), size)]

    def _decoded_at_a_time(self, windows: Windows) -> int:
        r"""Return the number of windows whose paths fit into memory together."""
        width = max(self.module.latents, self.module.channels)
        return max(1, min(self.batch_size, MAX_PATHS // (DRAWS * windows.prediction_length * width)))

    def zero_shot_quantiles(self, past: Tensor, prediction_length: int) -> Tensor:
        r"""Return zero-shot quantiles :math:`(B, H, K, Q)` of series :math:`(B, L, K)`, in one call."""
        quantiles = self.model.predict(past.mT.flatten(0, 1), prediction_length)  # (B*K, Q, H)
        values = quantiles.view(len(past), -1, *quantiles.shape[1:]).permute(0, 3, 1, 2)  # (B, H, K, Q)
        # One or two values determine no variance, and look constant to the model: they get that of the train rows.
        sufficient = _sufficient(past)  # (B, K)
        if bool(sufficient.all()):
            return values
        normal = torch.special.ndtri(torch.tensor(self.model.quantile_levels, dtype=torch.float32))
        centre = window_moments(past)[0][:, 0, :, None]  # (B, K, 1), the mean of the train rows without observations
        return torch.where(sufficient[:, None, :, None], values, (centre + normal).unsqueeze(1))

    def further(self, windows: Windows) -> Tensor:
        r"""Return quantiles (n, H, D, Q, F) of further frozen models at the levels of the first, one for each."""
        levels, found = torch.tensor(self.model.quantile_levels, dtype=torch.float32), []
        for model in self.model.members[1:]:
            own = torch.tensor(model.quantile_levels, dtype=torch.float32)
            other = replace(self, model=model)
            batches = [
                other.zero_shot_quantiles(batch.past(), batch.prediction_length) for batch in self._batches(windows)
            ]
            found.append(QuantileFunction(own, torch.cat(batches)).at(levels))
        return torch.stack(found, -1)

    def _zero_shot(self, batch: Windows) -> Tensor:
        r"""Return zero-shot quantiles (B, H, D, Q), averaged with the cold start if observations are few."""
        past = batch.past()
        values = self.zero_shot_quantiles(past, batch.prediction_length)
        weight = _zero_shot_weight(batch, past)
        if weight is None:
            return values
        levels, cold_start = (
            torch.tensor(self.model.quantile_levels, dtype=torch.float32),
            self._with_cold_start(batch, past, weight, values),
        )
        return QuantileFunction.mix(
            weight.unsqueeze(1), QuantileFunction(levels, values), QuantileFunction(levels, cold_start)
        ).values

    def _with_cold_start(self, batch: Windows, past: Tensor, weight: Tensor, values: Tensor) -> Tensor:
        r"""Return the quantiles (B, H, D, Q), with those of the cold start where observations are few."""
        assert batch.preparation.cold_start is not None
        window, channel = (weight < 1).nonzero().T
        cold_start = QuantileFunction(
            batch.preparation.cold_start.levels,
            batch.preparation.cold_start.quantiles(past[window, :, channel], channel),
        )
        mixed = values.clone()
        mixed[window, :, channel] = cold_start.at(torch.tensor(self.model.quantile_levels, dtype=torch.float32))
        return mixed

    def _latents(self, batch: Windows, draws: int = 1) -> tuple[Tensor, State]:
        r"""Return the quantiles of the latent channels, :math:`(M, B, H, K, Q)`, and the state for decoding."""
        with torch.no_grad():
            z, state = self._encoded(batch, draws)
            z = z.masked_fill(batch.past().isnan().all(-1)[..., None], torch.nan)  # rows without observations
        values = self.zero_shot_quantiles(z.flatten(0, 1), batch.prediction_length)
        return values.unflatten(0, z.shape[:2]), state

    @torch.no_grad()
    def source_weights(self, windows: Windows, frozen: QuantileFunction) -> Tensor | None:
        r"""Return the family's weights of channels in each other's forecasts, averaged over windows.

        Arguments:
            windows: Standardised windows.
            frozen: Their zero-shot marginals.

        Returns:
            The weights, as `AdapterModule.source_weights` has them; None if the family tells none.
        """
        total, start = None, 0
        for batch in self._batches(windows):
            state = self._encoded(batch, self.posterior_draws)[1]
            self._inform(batch, state, frozen.values[start : start + len(batch)])
            weights = self.module.source_weights(state)
            if weights is None:
                return None
            part = weights * (len(batch) / len(windows))
            total, start = part if total is None else total + part, start + len(batch)
        return total

    def _encoded(self, batch: Windows, draws: int) -> tuple[Tensor, State]:
        r"""Return the latent pasts of a batch, and their state; the draws are the same for every batch."""
        generator = torch.Generator().manual_seed(self.seed)
        return self.module.encode(self.completed_context(batch), draws=draws, generator=generator)

    def _inform(self, batch: Windows, state: State, zero_shot: Tensor) -> None:
        r"""Add what the family needs to a state: zero-shot quantiles (B, H, D, Q), known covariates, the calendar."""
        if self.module.capabilities.needs_forecast:
            state.forecast = zero_shot[..., self.model.median_index]
        if self.module.capabilities.needs_quantiles:
            state.quantiles = zero_shot
        if self.module.known:
            state.known = batch.known()
        if self.module.calendar:
            state.calendar = batch.calendar()
        if self.module.capabilities.needs_further:
            state.further = self.further(batch)

    def _decoded(
        self, windows: Windows, frozen: QuantileFunction, errors: Copula | None = None
    ) -> tuple[QuantileFunction, Tensor, PathCopula | None]:
        r"""Return the adapter's marginals, the variance over its draws (n, H, D), and the copula of its noisy paths."""
        batches, variances, copulas, start = [], [], [], 0
        for batch in self._batches(windows, self._decoded_at_a_time(windows)):
            quantiles, past = frozen.values[start : start + len(batch)], batch.past()
            weight = _zero_shot_weight(batch, past)
            if weight is not None:  # the adapter decodes the zero-shot forecast before it is mixed with the cold start
                few = (weight < 1).any(1)
                zero_shot = self.zero_shot_quantiles(past[few], batch.prediction_length)
                quantiles = quantiles.index_copy(0, few.nonzero().flatten(), zero_shot)
            marginals, variance, paths = self._adapted(batch, quantiles)
            if not self.module.capabilities.observed_latents:
                marginals = _with_imputation_variance(self._widened(past, marginals, quantiles), batch)
            if weight is not None:
                cold_start = QuantileFunction(frozen.levels, self._with_cold_start(batch, past, weight, quantiles))
                marginals = QuantileFunction.mix(weight.unsqueeze(1), marginals, cold_start)
                variance = variance * weight.unsqueeze(1).square()
            batches.append(marginals)
            variances.append(variance)
            if errors is not None and paths is not None:
                copulas.append(PathCopula(self._noisy_paths(batch, paths, errors)))
            start += len(batch)
        values = torch.cat([marginals.values for marginals in batches])
        marginals = self.observed(windows, QuantileFunction(batches[0].levels, values, self.bounds(windows)))
        variance = torch.cat(variances)[..., : self._targets] * windows.factor().square()
        return marginals, variance, PathCopula.joined(copulas) if copulas else None

    def _noisy_paths(self, batch: Windows, paths: Tensor, errors: Copula) -> Tensor:
        r"""Return the targets of decoded paths, (S, B, H, D), with noise; shifts are omitted, as they keep ranks."""
        variance, imputation_variance = self._noise(batch), batch.imputation_variance()
        factor = batch.factor()
        if imputation_variance is not None:
            variance = variance + imputation_variance[..., : self._targets] * factor.square()
        # The same draws for every window, different from those of the latent paths.
        generator = torch.Generator().manual_seed(self.seed + 1)
        noise = torch.special.ndtri(errors.uniforms(len(paths), generator).clamp(1e-6, 1 - 1e-6)).unsqueeze(1)
        noisy: Tensor = paths[..., : self._targets] * factor + variance.sqrt() * noise
        return noisy

    def _widened(self, past: Tensor, marginals: QuantileFunction, zero_shot: Tensor) -> QuantileFunction:
        r"""Give marginals of channels without recent observations the width of the zero-shot forecast."""
        # Values filled in before encoding have no variance. If all channels end early, so do the latent series.
        late = past[:, -1].isnan()
        sufficient = _sufficient(past) & (~late | late.all(-1, keepdim=True))  # (B, D)
        if bool(sufficient.all()):
            return marginals
        middle = self.model.median_index
        moved = marginals.values[..., middle, None] + zero_shot - zero_shot[..., middle, None]
        return QuantileFunction(marginals.levels, torch.where(sufficient[:, None, :, None], marginals.values, moved))

    @torch.no_grad()
    def _adapted(self, batch: Windows, zero_shot: Tensor) -> tuple[QuantileFunction, Tensor, Tensor | None]:
        r"""Return the decoded marginals of a batch, given the zero-shot quantiles of its channels.

        Arguments:
            batch: The windows.
            zero_shot: The quantiles, with shape :math:`(B, H, D, Q)`.

        Returns:
            The marginals, the variance over the adapter's draws, with shape :math:`(B, H, D)`, and the joint paths,
            with shape :math:`(S, B, H, D)`; None if levels are decoded one by one.
        """
        module, levels = self.module, torch.tensor(self.model.quantile_levels, dtype=torch.float32)
        if module.capabilities.observed_latents:
            values, state = zero_shot.unsqueeze(0), self._encoded(batch, self.posterior_draws)[1]
        else:
            values, state = self._latents(batch, self.posterior_draws)  # (M, B, H, K, Q), or M = 1
        self._inform(batch, state, zero_shot)
        family = module.capabilities
        if not (family.mixes_channels or family.stochastic):  # the decoded path of a level is a quantile again
            marginals = QuantileFunction(levels, self._level_paths(values[0], levels, state).movedim(0, -1))
            return marginals, torch.zeros(marginals.shape, dtype=torch.float32), None
        latent = QuantileFunction(levels, values)
        u = self._uniforms(state.draws, batch.prediction_length).unsqueeze(2)  # (S / M, M, 1, H, K): for all windows
        if len(values) < state.draws:
            latent = QuantileFunction(levels, values.expand(state.draws, *values.shape[1:]))
        paths = latent(u).transpose(0, 1).flatten(0, 1)  # (S, B, H, K), draw by draw
        decoded = module.decode(paths, state)
        marginals = QuantileFunction.from_samples(decoded, levels)
        if state.draws == 1:
            return marginals, torch.zeros(marginals.shape, dtype=torch.float32), decoded
        means = QuantileFunction(levels, values).mean.expand(state.draws, *values.shape[1:-1])  # (M, B, H, K)
        variance = module.decode(means, state).var(0, correction=0)  # over the draws
        return marginals, variance, decoded

    def _level_paths(self, values: Tensor, levels: Tensor, state: State) -> Tensor:
        r"""Return decoded paths :math:`(Q, B, H, D)` of a family that mixes no channels, one per level."""
        latent_levels = self.module.latent_levels(levels[:, None].expand(-1, self.module.channels))  # (Q, K)
        if self.module.latents == self.module.channels and torch.equal(
            latent_levels, levels[:, None].expand_as(latent_levels)
        ):
            return self.module.decode(values.movedim(-1, 0), state)
        u = latent_levels[:, None, None].expand(-1, *values.shape[:2], -1)  # (Q, B, H, K)
        return self.module.decode(QuantileFunction(levels, values)(u), state)

    def _uniforms(self, draws: int, horizon: int) -> Tensor:
        r"""Return the levels of latent paths, :math:`(S / M, M, H, K)`, stratified within each draw."""
        module = self.module
        if not module.capabilities.mixes_channels:  # levels are decoded one by one
            paths = max(9, -(-DRAWS // draws))
            level = (torch.arange(paths, dtype=torch.float32) + 0.5) / paths
            latent_levels = module.latent_levels(level[:, None].expand(-1, module.channels))
            return latent_levels[:, None, None].expand(-1, draws, horizon, -1)
        copula = self.latent_copula or Independent(horizon, module.latents)
        generator = torch.Generator().manual_seed(self.seed)
        paths = -(-DRAWS // draws)
        return torch.stack([copula.uniforms(paths, generator) for _ in range(draws)], dim=1)


def _with_imputation_variance(marginals: QuantileFunction, windows: Windows) -> QuantileFunction:
    r"""Add the imputation variance to the marginals of windows with imputed contexts."""
    imputation_variance = windows.imputation_variance()
    return marginals if imputation_variance is None else marginals.add_noise(imputation_variance)


def _zero_shot_weight(windows: Windows, past: Tensor) -> Tensor | None:
    r"""Return the weights (B, D) of the zero-shot forecast against the cold start; None if all are 1."""
    if windows.preparation.cold_start is None:
        return None
    weight = windows.preparation.cold_start.zero_shot_weight(past)
    return weight if bool((weight < 1).any()) else None


def _sufficient(past: Tensor) -> Tensor:
    r"""Return whether windows (B, L, C) have enough observations of each channel for a forecast, (B, C)."""
    return (~past.isnan()).sum(1) >= MIN_OBSERVED
