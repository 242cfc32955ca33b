r"""Conformance tests of adapter families, to inherit."""

from __future__ import annotations

__all__ = ["AdapterConformance"]

import copy
from typing import ClassVar

import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close

from ..adapters import AdapterModule, RegressionData, State
from ..foundation import FoundationModel, load_foundation_model
from .rows import ROWS, degenerate_rows
from .tiny import tiny_chronos_bolt


class AdapterConformance:
    r"""Tests of the contract of an adapter family.

    Subclass it as `Test...` and override the fixture `family`.
    """

    #: The number of observed channels that the family is built for.
    channels: ClassVar[int] = 3
    #: Whether an untrained adapter that keeps all channels returns the frozen model's own forecasts.
    starts_as_identity: ClassVar[bool] = True
    #: Whether a closed form has lower errors in sample than the frozen model.
    improves: ClassVar[bool] = True

    batch: ClassVar[int] = 5
    length: ClassVar[int] = 40
    horizon: ClassVar[int] = 6

    @pytest.fixture
    def family(self) -> AdapterModule:
        r"""The family under test with its hyperparameters, not yet built."""
        raise NotImplementedError("overwrite the fixture 'family'")

    @pytest.fixture
    def adapter(self, family: AdapterModule) -> AdapterModule:
        r"""The family, built and prepared."""
        adapter = family.build(self.channels)
        adapter.prepare(torch.randn(200, self.channels) @ torch.randn(self.channels, self.channels))
        return adapter.eval()

    @pytest.fixture
    def foundation_model(self) -> FoundationModel:
        r"""A tiny frozen model."""
        return load_foundation_model(tiny_chronos_bolt(), device="cpu")

    @pytest.fixture
    def past(self) -> Tensor:
        r"""Complete windows."""
        return torch.randn(self.batch, self.length, self.channels)

    def forecast(self, adapter: AdapterModule, model: FoundationModel, past: Tensor) -> Tensor:
        r"""Forecast as in training: encode, one call of the frozen model for medians, decode; shape (M, B, H, D)."""
        return self.forecast_and_state(adapter, model, past)[0]

    def forecast_and_state(self, adapter: AdapterModule, model: FoundationModel, past: Tensor) -> tuple[Tensor, State]:
        r"""Forecast as `forecast` does; also return the state of the windows."""
        z, state = self.encoded(adapter, past)  # (M, B, L, K), or M = 1
        quantiles = model(z.mT.flatten(0, 2), self.horizon, unroll="median")  # (M*B*K, Q, H)
        median = quantiles[:, model.median_index].reshape(*z.shape[:2], -1, self.horizon).mT  # (M, B, H, K)
        return adapter.decode(median.expand(state.draws, -1, -1, -1), state), state

    def encoded(
        self, adapter: AdapterModule, past: Tensor, draws: int = 1, seed: int | None = None
    ) -> tuple[Tensor, State]:
        r"""Encode, and complete the state with the forecasts that the family declares it needs."""
        generator = None if seed is None else torch.Generator().manual_seed(seed)
        z, state = adapter.encode(past, draws=draws, generator=generator)
        if adapter.capabilities.needs_forecast:
            state.forecast = past[:, -1:].nan_to_num().expand(-1, self.horizon, -1)
        if adapter.capabilities.needs_quantiles:
            state.quantiles = self.quantiles(past)
        return z, state

    def quantiles(self, past: Tensor) -> Tensor:
        r"""Return zero-shot quantiles of windows at three levels, with shape (B, H, D, 3)."""
        last = past[:, -1:].nan_to_num().expand(-1, self.horizon, -1)
        return last.unsqueeze(-1) + torch.tensor([-1.0, 0.1, 1.0])

    def regression_data(self, adapter: AdapterModule) -> tuple[RegressionData, State]:
        r"""Return regression data in four blocks of time, with missing targets and degenerate windows."""
        count = 60
        past = torch.randn(count, self.length, self.channels)
        past[3, :10], past[4, 1, 0], past[5] = torch.nan, torch.nan, 1.5
        forecast = torch.randn(count, self.horizon, self.channels)
        future = forecast + 0.3 * past[:, -1:].nan_to_num() + 0.1 * torch.randn_like(forecast)
        future[7, 2], future[8] = torch.nan, torch.nan
        fold = torch.arange(count) * 4 // count
        fold[::15] = -1
        _, state = adapter.encode(past)
        state.forecast = forecast
        state.quantiles = self.quantiles(past) if adapter.capabilities.needs_quantiles else None
        latent = adapter.encode_future(forecast, state)
        return RegressionData(past, future, latent, fold, state.quantiles), state

    # ------------------------------------------------------------------ construction

    def test_build_makes_a_copy(self, family: AdapterModule) -> None:
        r"""Building leaves the family unchanged; its options recreate it."""
        options = family.options()
        adapter = family.build(self.channels)
        assert adapter.channels == self.channels
        assert 1 <= adapter.latents
        assert family.channels == 0
        assert not list(family.parameters())
        assert adapter.options() == options == type(family)(**options).options()

    def test_wrong_use_is_refused(self, family: AdapterModule) -> None:
        r"""An unknown option, zero channels, or an adapter that is not built raise a clear error."""
        with pytest.raises(ValueError, match="'nonsense'"):
            type(family)(**family.options(), nonsense=1)
        with pytest.raises(ValueError, match="at least one channel"):
            family.build(0)
        with pytest.raises(ValueError, match=r"call build\(channels=...\) first"):
            family.encode(torch.zeros(1, self.length, self.channels))

    def test_wrong_shapes_are_refused(self, adapter: AdapterModule, past: Tensor) -> None:
        r"""Windows or paths of another shape raise an error with both shapes, and a remedy where it is clear."""
        with pytest.raises(ValueError, match=rf"encode takes 'x' of shape .*{self.channels}\), got .*pass x\.mT"):
            adapter.encode(past.mT)
        for wrong in (past[0], past[None], past[..., :-1]):
            with pytest.raises(ValueError, match="encode takes 'x' of shape"):
                adapter.encode(wrong)
        _, state = self.encoded(adapter, past)
        paths = torch.zeros(2, self.batch, self.horizon, adapter.latents)
        for wrong in (paths[0], paths[None], torch.cat([paths, paths], -1)):
            with pytest.raises(ValueError, match="decode takes 'paths' of shape"):
                adapter.decode(wrong, state)
        with pytest.raises(ValueError, match="prepare takes 'rows' of shape"):
            adapter.prepare(past)

    # ------------------------------------------------------------------ shapes

    def test_shapes(self, adapter: AdapterModule, past: Tensor) -> None:
        r"""The past has shape (M, B, L, K), decoded paths (S, B, H, D), latent targets (B, H, K)."""
        for requested in (1, 3):
            z, state = self.encoded(adapter, past, draws=requested)
            draws = adapter.count_draws(requested)
            assert state.draws == draws
            latents_drawn = draws if adapter.capabilities.stochastic_latents else 1
            assert z.shape == (latents_drawn, self.batch, self.length, adapter.latents)
            for samples in (draws, 4 * draws):
                paths = torch.randn(samples, self.batch, self.horizon, adapter.latents)
                decoded = adapter.decode(paths, state)
                assert decoded.shape == (samples, self.batch, self.horizon, self.channels)
                assert decoded.dtype == torch.float32
            future = torch.randn(self.batch, self.horizon, self.channels)
            assert adapter.encode_future(future, state).shape == (self.batch, self.horizon, adapter.latents)

    @pytest.mark.parametrize("length", [1, 2, 97])
    def test_any_context_length(self, adapter: AdapterModule, length: int) -> None:
        r"""Windows of one step and of many are encoded; decoding stays finite."""
        z, state = self.encoded(adapter, torch.randn(2, length, self.channels))
        assert z.shape[-2:] == (length, adapter.latents)
        paths = torch.randn(state.draws, 2, self.horizon, adapter.latents)
        assert adapter.decode(paths, state).isfinite().all()

    def test_one_channel(self, family: AdapterModule) -> None:
        r"""A single channel is supported, or rejected with the name of the option that does not fit."""
        try:
            adapter = family.build(1)
        except ValueError as error:
            assert "channels" in str(error)
            return
        adapter.prepare(torch.randn(200, 1))
        _, state = self.encoded(adapter, torch.randn(2, self.length, 1))
        paths = torch.randn(state.draws, 2, self.horizon, adapter.latents)
        assert adapter.decode(paths, state).shape == (state.draws, 2, self.horizon, 1)

    def test_known_covariates(self, family: AdapterModule, past: Tensor) -> None:
        r"""A family that reads known covariates decodes with them, each window by its own; others build alike."""
        adapter = family.build(self.channels, 2).eval()
        assert adapter.known == (2 if adapter.capabilities.needs_known else 0)
        if not adapter.known:
            return
        self.disturb(adapter)
        _, state = self.encoded(adapter, past)
        state.known = torch.randn(self.batch, self.length + self.horizon, 2)
        paths = torch.randn(state.draws, self.batch, self.horizon, adapter.latents)
        decoded = adapter.decode(paths, state)
        assert decoded.isfinite().all()
        state.known[0] += 1.0
        assert_close(adapter.decode(paths, state)[:, 1:], decoded[:, 1:])

    def test_calendar(self, family: AdapterModule, past: Tensor) -> None:
        r"""A family that reads the calendar decodes with it, each window by its own; others build alike."""
        adapter = family.build(self.channels, 0, 4).eval()
        assert adapter.calendar == (4 if adapter.capabilities.needs_calendar else 0)
        if not adapter.calendar:
            return
        self.disturb(adapter)
        _, state = self.encoded(adapter, past)
        state.calendar = torch.randn(self.batch, 4)
        paths = torch.randn(state.draws, self.batch, self.horizon, adapter.latents)
        decoded = adapter.decode(paths, state)
        state.calendar[0] += 1.0
        assert_close(adapter.decode(paths, state)[:, 1:], decoded[:, 1:])

    # ------------------------------------------------------------------ independence

    def test_windows_and_samples_stay_apart(self, adapter: AdapterModule, past: Tensor) -> None:
        r"""A window's draws and forecasts do not depend on other windows, nor a sample on other samples."""
        self.disturb(adapter)
        z, state = self.encoded(adapter, past, draws=2, seed=3)
        draws = state.draws
        paths = torch.randn(3 * draws, self.batch, self.horizon, adapter.latents)
        decoded = adapter.decode(paths, state)
        for row in range(self.batch):
            alone, state_alone = self.encoded(adapter, past[row : row + 1], draws=2, seed=3)
            assert_close(alone[:, 0], z[:, row])
            assert_close(adapter.decode(paths[:, row : row + 1], state_alone)[:, 0], decoded[:, row])
        for sample in range(3):  # one path of each draw
            assert_close(adapter.decode(paths[sample::3], state), decoded[sample::3])

    # ------------------------------------------------------------------ draws

    def disturb(self, adapter: AdapterModule) -> None:
        r"""Perturb every parameter, so that draws of the weights have an effect."""
        for parameter in adapter.parameters():
            parameter.data += 0.1 * torch.randn_like(parameter)

    def test_a_seed_makes_the_draws(self, adapter: AdapterModule, past: Tensor) -> None:
        r"""A seed determines the draws, decoding reuses those of encoding, and the global generator is unchanged."""
        if adapter.capabilities.closed_form:
            adapter.solve(self.regression_data(adapter)[0], choose=True)
        self.disturb(adapter)
        paths = torch.randn(1, self.batch, self.horizon, adapter.latents)
        generator_state = torch.get_rng_state()
        results = []
        for seed in (5, 5, 6):
            z, state = self.encoded(adapter, past, draws=64, seed=seed)
            same = paths.expand(state.draws, -1, -1, -1)
            decoded = adapter.decode(same, state)
            assert torch.equal(adapter.decode(same, state), decoded)
            results.append((z, decoded))
        assert torch.equal(torch.get_rng_state(), generator_state)
        (z, decoded), (again, decoded_again), other = results
        assert torch.equal(z, again)
        assert torch.equal(decoded, decoded_again)
        if state.draws == 1:
            assert torch.equal(z, other[0])
            assert torch.equal(decoded, other[1])
            return
        assert adapter.capabilities.stochastic
        assert any(bool((result != result[:1]).any()) for result in (z, decoded))

    def test_paths_are_shared_out_evenly(self, adapter: AdapterModule, past: Tensor) -> None:
        r"""A number of paths that is not a multiple of the draws is rejected."""
        _, state = self.encoded(adapter, past, draws=3)
        assert adapter.capabilities.stochastic or state.draws == 1
        if state.draws > 1:
            with pytest.raises(ValueError, match=f"expects a multiple of {state.draws} paths"):
                adapter.decode(torch.zeros(state.draws + 1, self.batch, self.horizon, adapter.latents), state)

    def test_shapes_in_training(self, adapter: AdapterModule, past: Tensor) -> None:
        r"""In training mode, where each window may have its own draw, shapes are the same."""
        z, state = self.encoded(adapter.train(), past)
        draws = adapter.count_draws(1)
        assert state.draws == draws
        assert len(z) in (1, draws)
        paths = torch.randn(2 * draws, self.batch, self.horizon, adapter.latents)
        assert adapter.decode(paths, state).shape == (2 * draws, self.batch, self.horizon, self.channels)

    def test_divergences_and_laws(self, adapter: AdapterModule, past: Tensor) -> None:
        r"""Divergences are non-negative, likelihoods have a value per cell and path, variances too."""
        self.disturb(adapter)
        for windows in (past, torch.stack([row[:, None].expand(-1, self.channels) for row in self.degenerate()])):
            _, state = self.encoded(adapter, windows)
            count = len(windows)
            assert adapter.divergence(state).shape == (count,)
            assert (adapter.divergence(state) >= 0).all()
            assert adapter.weight_divergence().shape == ()
            assert adapter.weight_divergence() >= 0
            prediction = torch.randn(2 * state.draws, count, self.horizon, self.channels)
            distribution = adapter.likelihood(prediction, state)
            if distribution is not None:
                log_densities = distribution.log_prob(torch.randn(count, self.horizon, self.channels))
                assert log_densities.shape == prediction.shape
                assert log_densities.isfinite().all()
            variances = adapter.reference_variance(windows)
            assert variances.shape == (count, self.channels)
            assert variances.isfinite().all()
            assert (variances >= 0).all()

    def degenerate(self) -> list[Tensor]:
        r"""Return the series of `degenerate_rows` at the windows' length."""
        return list(degenerate_rows(self.length).values())

    # ------------------------------------------------------------------ untrained adapters

    def test_starts_as_the_frozen_model(self, adapter: AdapterModule, past: Tensor) -> None:
        r"""Decoding inverts encoding before anything is fitted."""
        if not self.starts_as_identity or adapter.latents != self.channels:
            pytest.skip("the family does not start as the frozen model")
        z, state = self.encoded(adapter, past)
        z = z.expand(state.draws, -1, -1, -1)
        for rows in torch.arange(self.length).split(self.horizon):
            rows = torch.cat([rows, rows[-1:].expand(self.horizon - len(rows))])
            assert_close(adapter.decode(z[:, :, rows], state), past[:, rows].expand_as(z[:, :, rows]),
                         rtol=1e-4, atol=1e-5)  # fmt: skip
        future = 3 * torch.randn(self.batch, self.horizon, self.channels) + 1
        paths = adapter.encode_future(future, state).expand_as(z[:, :, : self.horizon])
        assert_close(adapter.decode(paths, state), future.expand_as(paths), rtol=1e-4, atol=1e-4)

    @pytest.mark.parametrize("name", ROWS)
    def test_missing_cells(self, adapter: AdapterModule, past: Tensor, name: str) -> None:
        r"""Latents are finite, except where the frozen model receives the channels' own NaN; decoding is finite."""
        for channels in ([0], list(range(self.channels))):
            window = past.clone()
            window[1][:, channels] = degenerate_rows(self.length)[name].unsqueeze(-1)
            z, state = self.encoded(adapter, window)
            if adapter.capabilities.observed_latents:
                assert_close(z[0], window, equal_nan=True, rtol=0, atol=0)
            else:
                assert z.isfinite().all()
            paths = torch.randn(state.draws, self.batch, self.horizon, adapter.latents)
            assert adapter.decode(paths, state).isfinite().all()

    # ------------------------------------------------------------------ fitting

    @pytest.mark.parametrize("name", ROWS)
    def test_gradients_are_finite(
        self, adapter: AdapterModule, foundation_model: FoundationModel, past: Tensor, name: str
    ) -> None:
        r"""Forecasts and gradients through the frozen model are finite, and parameters after a step as well."""
        free = [parameter for parameter in adapter.parameters() if parameter.requires_grad]
        fingerprint = foundation_model.fingerprint()
        past[1, :, 0] = degenerate_rows(self.length)[name]
        past[2] = degenerate_rows(self.length)[name].unsqueeze(-1)
        forecast, state = self.forecast_and_state(adapter.train(), foundation_model, past)
        assert forecast.isfinite().all()
        if not free:
            return
        optimiser = torch.optim.Adam(free, lr=0.01)
        loss = (forecast - 1).abs().mean() + adapter.divergence(state).mean() + adapter.weight_divergence()
        distribution = adapter.likelihood(forecast, state)
        if distribution is not None:
            loss = loss - distribution.log_prob(torch.ones_like(forecast)).mean()
        assert loss.isfinite()
        torch.autograd.backward(loss)
        for parameter in free:
            assert parameter.grad is not None
            assert parameter.grad.isfinite().all()
        assert any(bool((parameter.grad != 0).any()) for parameter in free if parameter.grad is not None)
        nn.utils.clip_grad_norm_(free, 1.0)
        optimiser.step()
        assert all(parameter.isfinite().all() for parameter in free)
        assert all(parameter.grad is None for parameter in foundation_model.parameters())
        assert foundation_model.fingerprint() == fingerprint

    def test_closed_form(self, adapter: AdapterModule) -> None:
        r"""A closed form handles imperfect windows, is reproducible, and improves the fit in sample (`improves`)."""
        if not adapter.capabilities.closed_form:
            pytest.skip("the family has no closed form")
        data, state = self.regression_data(adapter)

        def error() -> Tensor:
            decoded = adapter.decode(data.forecast.expand(state.draws, -1, -1, -1), state).mean(0)
            assert decoded.isfinite().all()
            return (decoded - data.future).square().nanmean()

        before = error()
        adapter.solve(data, choose=True)
        solved = copy.deepcopy(adapter.state_dict())
        assert error() < before or not self.improves
        adapter.solve(data, choose=True)
        assert_close(adapter.state_dict(), solved)
        adapter.solve(data, choose=False)  # refit with the selected strengths
        assert error() < before or not self.improves

    # ------------------------------------------------------------------ saving

    def test_state_round_trip(self, adapter: AdapterModule, family: AdapterModule, past: Tensor) -> None:
        r"""A new adapter with the saved tensors gives the same values."""
        if adapter.capabilities.closed_form:
            adapter.solve(self.regression_data(adapter)[0], choose=True)
        self.disturb(adapter)
        fresh = type(family)(**family.options()).build(self.channels).eval()
        fresh.load_state_dict(adapter.state_dict())
        torch.manual_seed(7)
        z, state = self.encoded(adapter, past)
        paths = torch.randn(state.draws, self.batch, self.horizon, adapter.latents)
        decoded = adapter.decode(paths, state)
        torch.manual_seed(7)
        again, state = self.encoded(fresh, past)
        paths = torch.randn(state.draws, self.batch, self.horizon, adapter.latents)
        assert torch.equal(again, z)
        assert torch.equal(fresh.decode(paths, state), decoded)
