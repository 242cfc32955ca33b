r"""From windows to marginal laws: encode, the frozen model, draw, decode, noise, gate."""

from __future__ import annotations

__all__ = ["MarginalPredictor"]

from dataclasses import dataclass

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

#: The values that a window must show of a channel for the frozen model to be asked of it.
KNOWN = 3
#: Latent paths decoded for the margins where levels do not stay levels, all draws of the adapter together.
DRAWS = 256
#: The most numbers that the paths decoded at a time may hold: 128 MB.
MAX_PATHS = 2**25


@dataclass
class MarginalPredictor:
    r"""A built adapter around a frozen model: what it says of standardised windows, margin by margin.

    Arguments:
        module: The built adapter.
        model: The frozen model.
        support: The lowest and highest possible value of each channel, standardised, each of shape :math:`(D,)`.
        batch_size: Windows decoded at a time.
        seed: The seed of the latent draws; the same draws serve every window.
        latent_copula: The joint law of the latent channels, for families that mix channels.
        noise: What is added to the decoded variance, as a share of the window's own, with shape :math:`(H, D)`.
        gate: The adapter's share of the law, the frozen model's being the rest, with shape :math:`(H, D)`.
        posterior_draws: How often a stochastic adapter draws itself, :math:`M`.
        targets: How many of the channels are forecast, the first ones; the others are covariates. All if None.
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
        r"""Make the predictor of what was fitted so far.

        Arguments:
            fitted: What was fitted.
            model: The frozen model, with its trained head where one was trained.
            batch_size: Windows decoded at a time.
            seed: The seed of the latent draws.
            posterior_draws: How often a stochastic adapter draws itself.

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

    def frozen(self, windows: Windows) -> QuantileFunction:
        r"""The frozen model's law: values of shape :math:`(n, H, D, Q)`, of covariates too, known effects taken off."""
        levels = torch.tensor(self.model.quantile_levels, dtype=torch.float32)
        laws = [_doubted(QuantileFunction(levels, self._frozen(batch)), batch) for batch in self._batches(windows)]
        return QuantileFunction(levels, torch.cat([law.values for law in laws]), self.bounds(windows))

    def bounds(self, windows: Windows) -> tuple[Tensor, Tensor] | None:
        r"""The support of the frozen model's law; none where that is of more or other than the targets themselves."""
        itself = windows.preparation.shifts is None and windows.panel.num_channels == self._targets
        return self.support if itself else None

    def observed(self, windows: Windows, law: QuantileFunction) -> QuantileFunction:
        r"""The law of the targets as they are observed: covariates left out, known effects added back."""
        if windows.preparation.shifts is None and law.shape[-1] == self._targets:
            return law
        values = law.values[..., : self._targets, :]
        if windows.preparation.shifts is not None:
            values = values * windows.factor().unsqueeze(-1) + windows.shift().unsqueeze(-1)
        return QuantileFunction(law.levels, values, self.support)

    def truth(self, windows: Windows) -> Tensor:
        r"""The targets of windows as they are observed, with shape :math:`(n, H, D)`."""
        if windows.preparation.shifts is None:
            return windows.future()[..., : self._targets]
        double = torch.float64
        inner = windows.future(double)[..., : self._targets]
        exact = inner * windows.factor(double) + windows.shift(double)
        return exact.float()  # to the bit what stands on the bounds of the support

    @property
    def _targets(self) -> int:
        return self.module.channels if self.targets is None else self.targets

    def adapted(self, windows: Windows, frozen: QuantileFunction) -> QuantileFunction:
        r"""The adapter's law, without noise, given the frozen model's, whose pass serves both where one can."""
        return self._decoded(windows, frozen)[0]

    def law(self, windows: Windows, frozen: QuantileFunction | None = None) -> tuple[QuantileFunction, VarianceParts]:
        r"""The adapter's law as fitted, noise added, gated against the frozen model; and where its variance is from.

        Arguments:
            windows: Standardised windows.
            frozen: The frozen model's law of them, where it is at hand.

        Returns:
            The law and the parts of its variance.
        """
        law, parts, _ = self._law(windows, frozen)
        return law, parts

    def joint(
        self, windows: Windows, errors: Copula, frozen: QuantileFunction | None = None
    ) -> tuple[QuantileFunction, VarianceParts, PathCopula]:
        r"""The law as `law` has it, with the dependence that the decoder tells of each window.

        Every window is ranked as its decoded latent paths are, to which the noise is added as normals. The gate moves
        margins alone. Only where `tells_dependence`.

        Arguments:
            windows: As for `law`.
            errors: The dependence of the noise, for which that of past errors stands.
            frozen: As for `law`.

        Returns:
            The law, the parts of its variance, and the copula of these windows.
        """
        law, parts, copula = self._law(windows, frozen, errors)
        assert copula is not None, "a closed gate or a family that mixes no channels tells no dependence"
        return law, parts, copula

    def _law(
        self, windows: Windows, frozen: QuantileFunction | None, errors: Copula | None = None
    ) -> tuple[QuantileFunction, VarianceParts, PathCopula | None]:
        windows = windows.imputed()
        frozen = self.frozen(windows) if frozen is None else frozen
        around = self.observed(windows, frozen)
        if self.closed:
            none = torch.zeros(around.shape, dtype=torch.float32)
            return around, VarianceParts.of(around, none, none), None
        adapter, posterior, copula = self._decoded(windows, frozen, errors)
        noise = self._noise(windows)
        law = self._gated(adapter.add_noise(noise), around)
        share = torch.ones((), dtype=torch.float32) if self.gate is None else self.gate.square()
        return law, VarianceParts.of(law, share * posterior, share * noise), copula

    @property
    def closed(self) -> bool:
        r"""Whether the gate leaves the frozen model alone."""
        return is_closed(self.gate)

    @property
    def tells_dependence(self) -> bool:
        r"""Whether the law is made of joint paths, so that `joint` says how cells go together."""
        return self.module.mixes_channels and not self.module.observed_latents and not self.closed

    def mixed(self, windows: Windows, adapter: QuantileFunction, frozen: QuantileFunction) -> QuantileFunction:
        r"""Adds the noise to the adapter's law and mixes it with the frozen one, level by level."""
        return self._gated(self.noisy(windows, adapter), frozen)

    def noisy(self, windows: Windows, adapter: QuantileFunction) -> QuantileFunction:
        r"""Adds the noise to the adapter's law."""
        return adapter.add_noise(self._noise(windows))

    def _noise(self, windows: Windows) -> Tensor:
        r"""The variance that is added, with shape :math:`(n, H, D)`."""
        if self.noise is None or not bool(self.noise.any()):
            return torch.zeros(len(windows), windows.prediction_length, self._targets, dtype=torch.float32)
        return self.noise * self.spread(windows)

    def _gated(self, adapter: QuantileFunction, frozen: QuantileFunction) -> QuantileFunction:
        return adapter if self.gate is None else QuantileFunction.mix(self.gate, adapter, frozen)

    def spread(self, windows: Windows) -> Tensor:
        r"""The variance that noise is a share of, with shape :math:`(n, H, D)`, or a single lead for all alike."""
        with torch.no_grad():
            spread = torch.cat([self.module.reference_variance(batch.past()) for batch in self._batches(windows)])
        return spread[:, None, : self._targets] * windows.factor().square()

    # ------------------------------------------------------------------ what training needs

    def latent_quantiles(self, windows: Windows) -> Tensor:
        r"""The frozen model's quantiles of the latent channels, of one draw, with shape :math:`(n, H, K, Q)`."""
        return torch.cat([self._latents(batch)[0][0] for batch in self._batches(windows)])

    def fit_latent_copula(self, windows: Windows) -> Copula:
        r"""Fits the dependence of the latent channels, which a mixing decoder turns into observed margins."""
        pits = []
        generator = torch.Generator().manual_seed(self.seed)
        for batch in self._batches(windows):
            values, state = self._latents(batch)
            with torch.no_grad():
                truth = self.module.encode_future(batch.future(), state)
            law = QuantileFunction(torch.tensor(self.model.quantile_levels, dtype=torch.float32), values[0])
            pits.append(law.pit(truth, generator))
        return fit_gaussian(torch.cat(pits))

    # ------------------------------------------------------------------ steps

    @torch.no_grad()
    def continued(self, windows: Windows) -> Tensor:
        r"""The contexts (n, L, D) that an adapter reads: bridged, and gone on as medians do behind a last value."""
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
            for some in (passes == number).nonzero().squeeze(1).split(self.model.chunk_rows(length, 1)):
                told = self.model(ended[some], int(gap[some].max()), unroll="median")[:, self.model.median_index]
                onward = told.to(past).gather(1, ahead[some].clamp(0, told.shape[1] - 1))
                series[some] = torch.where(ahead[some] < 0, series[some], onward)
        gone_on: Tensor = past.clone()
        gone_on[window, :, channel] = series
        return gone_on

    def _batches(self, windows: Windows, size: int | None = None) -> list[Windows]:
        size = size or self.batch_size
        return [windows[start : start + size].imputed() for start in range(0, len(windows), size)]

    def _decoded_at_a_time(self, windows: Windows) -> int:
        r"""The windows whose paths fit into memory together."""
        width = max(self.module.latents, self.module.channels)
        return max(1, min(self.batch_size, MAX_PATHS // (DRAWS * windows.prediction_length * width)))

    def raw(self, past: Tensor, prediction_length: int) -> Tensor:
        r"""The frozen model's quantiles of series :math:`(B, L, K)`: :math:`(B, H, K, Q)`. One call for all."""
        quantiles = self.model.predict(past.mT.flatten(0, 1), prediction_length)  # (B*K, Q, H)
        values = quantiles.view(len(past), -1, *quantiles.shape[1:]).permute(0, 3, 1, 2)  # (B, H, K, Q)
        # One or two values tell no spread, and a model would take them for a constant: they get that of the train rows.
        known = _known(past)  # (B, K)
        if bool(known.all()):
            return values
        spread = torch.special.ndtri(torch.tensor(self.model.quantile_levels, dtype=torch.float32))
        centre = window_moments(past)[0][:, 0, :, None]  # (B, K, 1), the train rows' mean where nothing was seen
        return torch.where(known[:, None, :, None], values, (centre + spread).unsqueeze(1))

    def _frozen(self, batch: Windows) -> Tensor:
        r"""The frozen model's quantiles (B, H, D, Q), mixed with what the train rows know where values are few."""
        past = batch.past()
        values = self.raw(past, batch.prediction_length)
        part = _left(batch, past)
        if part is None:
            return values
        levels, told = (
            torch.tensor(self.model.quantile_levels, dtype=torch.float32),
            self._told(batch, past, part, values),
        )
        return QuantileFunction.mix(
            part.unsqueeze(1), QuantileFunction(levels, values), QuantileFunction(levels, told)
        ).values

    def _told(self, batch: Windows, past: Tensor, part: Tensor, values: Tensor) -> Tensor:
        r"""Quantiles (B, H, D, Q), those that the train rows know in place of them where values are few."""
        assert batch.preparation.cold_start is not None
        window, channel = (part < 1).nonzero().T
        known = QuantileFunction(
            batch.preparation.cold_start.levels, batch.preparation.cold_start.law(past[window, :, channel], channel)
        )
        told = values.clone()
        told[window, :, channel] = known.at(torch.tensor(self.model.quantile_levels, dtype=torch.float32))
        return told

    def _latents(self, batch: Windows, draws: int = 1) -> tuple[Tensor, State]:
        r"""The quantiles of the latent channels, :math:`(M, B, H, K, Q)`, and the state that decoding needs."""
        generator = torch.Generator().manual_seed(self.seed)  # the same draws for every batch
        with torch.no_grad():
            z, state = self.module.encode(self.continued(batch), draws=draws, generator=generator)
            z = z.masked_fill(batch.past().isnan().all(-1)[..., None], torch.nan)  # rows that show nothing
        values = self.raw(z.flatten(0, 1), batch.prediction_length)
        return values.unflatten(0, z.shape[:2]), state

    def _decoded(
        self, windows: Windows, frozen: QuantileFunction, errors: Copula | None = None
    ) -> tuple[QuantileFunction, Tensor, PathCopula | None]:
        r"""The adapter's law, the variance over its draws of itself (n, H, D), and how its paths rank with `errors`."""
        laws, variances, copulas, start = [], [], [], 0
        for batch in self._batches(windows, self._decoded_at_a_time(windows)):
            raw, past = frozen.values[start : start + len(batch)], batch.past()
            part = _left(batch, past)
            if part is not None:  # the adapter is around the frozen model alone, and shares in its share
                few = (part < 1).any(1)
                raw = raw.index_copy(0, few.nonzero().flatten(), self.raw(past[few], batch.prediction_length))
            law, variance, paths = self._adapted(batch, raw)
            if not self.module.observed_latents:
                law = _doubted(self._widened(past, law, raw), batch)
            if part is not None:
                told = QuantileFunction(frozen.levels, self._told(batch, past, part, raw))
                law = QuantileFunction.mix(part.unsqueeze(1), law, told)
                variance = variance * part.unsqueeze(1).square()
            laws.append(law)
            variances.append(variance)
            if errors is not None and paths is not None:
                copulas.append(PathCopula(self._noisy_paths(batch, paths, errors)))
            start += len(batch)
        values = torch.cat([law.values for law in laws])
        law = self.observed(windows, QuantileFunction(laws[0].levels, values, self.bounds(windows)))
        variance = torch.cat(variances)[..., : self._targets] * windows.factor().square()
        return law, variance, PathCopula.joined(copulas) if copulas else None

    def _noisy_paths(self, batch: Windows, paths: Tensor, errors: Copula) -> Tensor:
        r"""The targets' share of decoded paths, (S, B, H, D), with the noise of the law; shifts move no rank."""
        variance, doubt = self._noise(batch), batch.imputation_variance()
        factor = batch.factor()
        if doubt is not None:
            variance = variance + doubt[..., : self._targets] * factor.square()
        # The same draws for every window, and others than those of the latent paths.
        generator = torch.Generator().manual_seed(self.seed + 1)
        noise = torch.special.ndtri(errors.uniforms(len(paths), generator).clamp(1e-6, 1 - 1e-6)).unsqueeze(1)
        noisy: Tensor = paths[..., : self._targets] * factor + variance.sqrt() * noise
        return noisy

    def _widened(self, past: Tensor, law: QuantileFunction, raw: Tensor) -> QuantileFunction:
        r"""The law of a batch, as wide as the raw one in channels that are not observed to the end."""
        # What was filled in for them before encoding knows no spread; where all end early, so do the latent series.
        late = past[:, -1].isnan()
        known = _known(past) & (~late | late.all(-1, keepdim=True))  # (B, D)
        if bool(known.all()):
            return law
        middle = self.model.median_index
        moved = law.values[..., middle, None] + raw - raw[..., middle, None]
        return QuantileFunction(law.levels, torch.where(known[:, None, :, None], law.values, moved))

    @torch.no_grad()
    def _adapted(self, batch: Windows, raw: Tensor) -> tuple[QuantileFunction, Tensor, Tensor | None]:
        r"""The decoded law of a batch, given the frozen model's quantiles of its raw channels.

        Arguments:
            batch: The windows.
            raw: The quantiles, with shape :math:`(B, H, D, Q)`.

        Returns:
            The law, the variance over the adapter's draws of itself, with shape :math:`(B, H, D)`, and the joint paths
            that the law is made of, with shape :math:`(S, B, H, D)`; None where each level is a path.
        """
        module, levels = self.module, torch.tensor(self.model.quantile_levels, dtype=torch.float32)
        if module.observed_latents:
            generator = torch.Generator().manual_seed(self.seed)
            state = module.encode(self.continued(batch), draws=self.posterior_draws, generator=generator)[1]
            values = raw.unsqueeze(0)
        else:
            values, state = self._latents(batch, self.posterior_draws)  # (M, B, H, K, Q), or M = 1
        if module.needs_forecast:
            state.forecast = raw[..., self.model.median_index]
        if not (module.mixes_channels or module.stochastic):  # each level is a path that stays one
            law = QuantileFunction(levels, self._level_paths(values[0], levels, state).movedim(0, -1))
            return law, torch.zeros(law.shape, dtype=torch.float32), None
        latent = QuantileFunction(levels, values)
        u = self._uniforms(state.draws, batch.prediction_length).unsqueeze(2)  # (S / M, M, 1, H, K): of all windows
        if len(values) < state.draws:
            latent = QuantileFunction(levels, values.expand(state.draws, *values.shape[1:]))
        paths = latent(u).transpose(0, 1).flatten(0, 1)  # (S, B, H, K), draw by draw
        decoded = module.decode(paths, state)
        law = QuantileFunction.from_samples(decoded, levels)
        if state.draws == 1:
            return law, torch.zeros(law.shape, dtype=torch.float32), decoded
        means = QuantileFunction(levels, values).mean.expand(state.draws, *values.shape[1:-1])  # (M, B, H, K)
        variance = module.decode(means, state).var(0, correction=0)  # of the draws that the law is the mixture of
        return law, variance, decoded

    def _level_paths(self, values: Tensor, levels: Tensor, state: State) -> Tensor:
        r"""The decoded paths :math:`(Q, B, H, D)` of a family that mixes no channels: one a level."""
        wanted = self.module.latent_levels(levels[:, None].expand(-1, self.module.channels))  # (Q, K)
        if self.module.latents == self.module.channels and torch.equal(wanted, levels[:, None].expand_as(wanted)):
            return self.module.decode(values.movedim(-1, 0), state)
        u = wanted[:, None, None].expand(-1, *values.shape[:2], -1)  # (Q, B, H, K)
        return self.module.decode(QuantileFunction(levels, values)(u), state)

    def _uniforms(self, draws: int, horizon: int) -> Tensor:
        r"""Levels of latent paths, :math:`(S / M, M, H, K)`: each draw's are stratified by themselves."""
        module = self.module
        if not module.mixes_channels:  # the paths of a draw are its levels
            each = max(9, -(-DRAWS // draws))
            level = (torch.arange(each) + 0.5) / each
            wanted = module.latent_levels(level[:, None].expand(-1, module.channels))
            return wanted[:, None, None].expand(-1, draws, horizon, -1)
        copula = self.latent_copula or Independent(horizon, module.latents)
        generator = torch.Generator().manual_seed(self.seed)
        each = -(-DRAWS // draws)
        return torch.stack([copula.uniforms(each, generator) for _ in range(draws)], dim=1)


def _doubted(law: QuantileFunction, windows: Windows) -> QuantileFunction:
    r"""The law of windows whose contexts were filled, with what that does not tell."""
    doubt = windows.imputation_variance()
    return law if doubt is None else law.add_noise(doubt)


def _left(windows: Windows, past: Tensor) -> Tensor | None:
    r"""The shares (B, D) of laws that the few values of windows leave to the frozen model; None where all is left."""
    if windows.preparation.cold_start is None:
        return None
    left = windows.preparation.cold_start.left(past)
    return left if bool((left < 1).any()) else None


def _known(past: Tensor) -> Tensor:
    r"""Whether windows (B, L, C) show enough of each channel for a forecast of its spread, (B, C)."""
    return (~past.isnan()).sum(1) >= KNOWN
