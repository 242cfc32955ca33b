r"""What each family's mathematics must satisfy."""

import numpy as np
import pytest
import torch
from sklearn.decomposition import PCA, TruncatedSVD
from torch import Tensor

from adapts.adapters import (
    VAE,
    AdapterModule,
    Autoencoder,
    Bayesian,
    Dropout,
    Flow,
    Identity,
    Linear,
    Projection,
    RegressionData,
    Residual,
    families,
    make,
)
from adapts.adapters.base import fill_missing, window_statistics
from adapts.statistics.ridge import blocked_folds


def windows(batch: int = 8, length: int = 48, channels: int = 5) -> Tensor:
    mixing = torch.randn(channels, channels)
    return torch.randn(batch, length, channels).cumsum(1) @ mixing


def regression_data(family: Residual, past: Tensor, future: Tensor, forecast: Tensor) -> RegressionData:
    origin = 10 * torch.arange(len(past))
    return RegressionData(past, future, forecast, blocked_folds(origin, torch.zeros_like(origin), 10, 5))


# ---------------------------------------------------------------------------------------------------- the base


@pytest.mark.parametrize("name", sorted(families()))
def test_an_unknown_option_is_named_with_the_nearest(name: str) -> None:
    with pytest.raises(ValueError, match="no option of .* is called 'latent_chanels'"):
        make(name, {"latent_chanels": 3})


def test_options_are_given_by_name() -> None:
    with pytest.raises(TypeError, match=r"Linear takes its options by name \(.*latent_channels.*\), got 2 without one"):
        Linear(2)


NUMBERED = [
    (name, option)
    for name, family in sorted(families().items())
    for option, (_, kind) in family._declared().items()
    if kind.startswith(("int", "float"))
]


@pytest.mark.parametrize(("name", "option"), NUMBERED)
def test_a_number_may_be_numpys_and_is_no_bool(name: str, option: str) -> None:
    for truth in (True, np.True_):
        with pytest.raises(ValueError, match=rf"expects {option} to be an? (integer|number).*got True"):
            make(name, {option: truth})
    value = make(name).options()[option]
    if value is not None:
        number = np.int64(value) if isinstance(value, int) else np.float64(value)
        taken = getattr(make(name, {option: number}), option)
        assert taken == value and type(taken) is type(value)


def test_every_family_with_latent_channels_takes_numpys_number_of_them() -> None:
    for name, option in NUMBERED:
        if option == "latent_channels":
            assert make(name, {option: np.int64(2)}).build(channels=3).latents == 2


def test_wrong_shapes_say_what_was_expected() -> None:
    linear = Linear().build(channels=7)
    with pytest.raises(
        ValueError, match=r"Linear.encode takes 'x' of shape \(batch, time, 7\), got \(32, 7, 512\). Axis -2"
    ):
        linear.encode(torch.zeros(32, 7, 512))
    with pytest.raises(ValueError, match=r"Projection.decode takes 'paths' of shape \(samples, batch, time, 3\)"):
        projection = Projection(latent_channels=3).build(channels=7)
        projection.decode(torch.zeros(1, 2, 4, 7), projection.encode(torch.zeros(2, 8, 7))[1])
    with pytest.raises(ValueError, match="needs a built adapter"):
        Linear().encode(torch.zeros(2, 8, 7))
    with pytest.raises(ValueError, match="at most as many latent channels as observed ones, got latent_channels=9"):
        Projection(latent_channels=9).build(channels=7)


def test_filling_gives_the_conditional_mean() -> None:
    root = torch.randn(4, 4, dtype=torch.float64)
    covariance = root @ root.mT + torch.eye(4)
    x = torch.randn(50, 4, dtype=torch.float64)
    x[:25, 1] = torch.nan
    x[:40, 3] = torch.nan
    x[49] = torch.nan
    filled = fill_missing(x, covariance)
    seen = [0, 2]
    expected = x[0, seen] @ torch.linalg.solve(covariance[seen][:, seen], covariance[seen][:, [1, 3]])
    torch.testing.assert_close(filled[0, [1, 3]], expected)
    seen = [0, 1, 2]
    torch.testing.assert_close(
        filled[30, 3], x[30, seen] @ torch.linalg.solve(covariance[seen][:, seen], covariance[seen][:, 3])
    )
    assert not filled[49].any()
    torch.testing.assert_close(filled[~x.isnan()], x[~x.isnan()], rtol=0, atol=0)


def test_window_statistics_ignore_missing_steps_and_guard_constants() -> None:
    x = torch.randn(3, 20, 2, dtype=torch.float64)
    x[0, :5, 0] = torch.nan
    x[1, :, 1] = 3.0
    x[2, :, 0] = torch.nan
    location, scale = window_statistics(x)
    torch.testing.assert_close(location[0, 0, 0], x[0, 5:, 0].mean())
    torch.testing.assert_close(scale[0, 0, 0], x[0, 5:, 0].std(correction=0))
    assert (location[1, 0, 1], scale[1, 0, 1]) == (3.0, 1.0)
    assert (location[2, 0, 0], scale[2, 0, 0]) == (0.0, 1.0)


# ---------------------------------------------------------------------------------------------------- families


def test_identity_returns_what_it_takes() -> None:
    x = windows()
    x[0, 3] = torch.nan
    z, state = Identity().build(channels=5).encode(x)
    torch.testing.assert_close(z[0], x, equal_nan=True, rtol=0, atol=0)
    torch.testing.assert_close(Identity().build(channels=5).decode(z, state), z, equal_nan=True, rtol=0, atol=0)


@pytest.mark.parametrize(("method", "reference"), [("pca", PCA(3)), ("svd", TruncatedSVD(3, algorithm="arpack"))])
def test_projections_equal_scikit_learn(method: str, reference: PCA | TruncatedSVD) -> None:
    rows = torch.randn(4000, 5) @ torch.randn(5, 5) + torch.tensor([9.0, 0.0, -4.0, 0.0, 1.0])  # not centred
    projection = Projection(latent_channels=3, method=method).build(channels=5)
    projection.prepare(rows)
    components = torch.from_numpy(reference.fit(rows.double().numpy()).components_.copy()).float()
    overlap = components @ projection.directions  # the same directions, up to their signs
    torch.testing.assert_close(overlap.abs(), torch.eye(3), atol=1e-4, rtol=0)


@pytest.mark.parametrize("latents", range(1, 6))
@pytest.mark.parametrize("family", [Projection, Linear, Dropout, VAE, Flow, Autoencoder])
def test_directions_of_little_variance_are_scikit_learns_too(family: type[AdapterModule], latents: int) -> None:
    r"""Variances from 1 down to 4e-6: none of them is a tie."""
    turned = np.linalg.qr(np.random.default_rng(0).normal(size=(6, 6)))[0].T
    rows = np.random.default_rng(1).normal(size=(5000, 6)) * [1, 0.5, 0.02, 0.01, 0.005, 0.002] @ turned
    rows -= rows.mean(0)
    adapter = make(family.family, {"latent_channels": latents}).build(channels=6)
    adapter.prepare(torch.from_numpy(rows).float())
    components = torch.from_numpy(PCA(latents).fit(rows).components_.copy()).float()
    torch.testing.assert_close((components @ adapter.directions).abs(), torch.eye(latents), atol=1e-3, rtol=0)
    least = torch.linalg.eigvalsh(adapter.covariance)[0]
    assert least > 5e-4  # what missing cells are filled by is positive definite all the same


def test_pca_equals_svd_on_centred_rows_and_not_elsewhere() -> None:
    rows = torch.randn(400, 4) @ torch.randn(4, 4)
    rows = rows - rows.mean(0)

    def directions(method: str, rows: Tensor) -> Tensor:
        projection = Projection(latent_channels=2, method=method).build(channels=4)
        projection.prepare(rows)
        return projection.directions

    torch.testing.assert_close(directions("pca", rows), directions("svd", rows), atol=1e-4, rtol=0)
    torch.testing.assert_close(directions("pca", rows + 30), directions("pca", rows), atol=1e-3, rtol=0)
    torch.testing.assert_close(directions("svd", rows + 30)[:, 0], torch.full((4,), 0.5), atol=0.1, rtol=0)


def test_random_projections_are_orthonormal_seeded_and_blind_to_the_rows() -> None:
    drawn = [Projection(latent_channels=3, method="random", seed=seed).build(channels=6) for seed in (0, 0, 1)]
    drawn[0].prepare(torch.randn(50, 6) * torch.arange(6.0))
    first, again, other = (projection.directions for projection in drawn)
    torch.testing.assert_close(first.mT @ first, torch.eye(3), atol=1e-6, rtol=0)
    torch.testing.assert_close(first.mT, torch.linalg.pinv(first), atol=1e-6, rtol=0)
    torch.testing.assert_close(first, again, rtol=0, atol=0)
    assert not torch.allclose(first, other, atol=0.1)


def test_projections_lose_what_lies_outside_of_their_directions() -> None:
    x = windows()
    projection = Projection(latent_channels=2, normalisation="train").build(channels=5)
    projection.prepare(x.flatten(0, 1))
    z, state = projection.encode(x)
    onto = projection.directions @ projection.directions.mT
    torch.testing.assert_close(projection.decode(z, state)[0], x @ onto, atol=1e-4, rtol=1e-4)


def test_latents_are_fixed_where_nothing_trains_them() -> None:
    fixed = {Projection(): True, Projection(affine=True): False, Linear(free="decoder"): True, Linear(): False}
    assert [family.capabilities.fixed_latents for family in fixed] == list(fixed.values())


def test_projection_refuses_what_it_does_not_know() -> None:
    with pytest.raises(ValueError, match="no method of Projection is called 'pac'.*did you mean 'pca'"):
        Projection(method="pac")
    with pytest.raises(ValueError, match="a seed is an integer"):
        Projection(method="random", seed=-1)
    with pytest.raises(ValueError, match="normalisation"):
        Projection(normalisation="batch")


@pytest.mark.parametrize(
    "family", [Projection(), Projection(method="svd"), Projection(method="random"), Linear(), Linear(free="decoder")]
)
def test_full_rank_families_invert_at_the_start(family: Projection | Linear) -> None:
    x = windows()
    adapter = family.build(channels=5)
    adapter.prepare(x.flatten(0, 1))
    z, state = adapter.encode(x)
    torch.testing.assert_close(adapter.decode(z, state)[0], x, atol=1e-4, rtol=1e-4)


def test_mixing_families_hand_no_missing_cell_to_the_frozen_model() -> None:
    x = windows()
    x[0, :, 2] = torch.nan
    x[1, 5:9] = torch.nan
    x[2] = torch.nan
    for family in (Projection(latent_channels=2), Linear()):
        adapter = family.build(channels=5)
        adapter.prepare(x.flatten(0, 1))
        assert adapter.encode(x)[0].isfinite().all()


def residual_problem(gain: float, n: int = 400) -> tuple[Tensor, Tensor, Tensor]:
    r"""Targets of channel 0 that the last value of channel 1 explains in part; the rest is noise."""
    past = torch.randn(n, 40, 3)
    forecast = 0.1 * torch.randn(n, 10, 3)
    future = forecast + torch.randn(n, 10, 3)
    future[..., 0] += gain * past[:, -1:, 1]
    return past, future, forecast


def correction(residual: Residual, past: Tensor, forecast: Tensor) -> Tensor:
    _, state = residual.encode(past)
    state.forecast = forecast
    return residual.decode(forecast.unsqueeze(0), state)[0] - forecast


def test_residual_finds_what_another_channel_tells() -> None:
    past, future, forecast = residual_problem(gain=2.0)
    residual = Residual(lags=8, components=24).build(channels=3)
    residual.prepare(past.flatten(0, 1))
    assert not correction(residual, past, forecast).any()  # it starts as the frozen model
    residual.solve(regression_data(residual, past, future, forecast), choose=True)
    new, truth, median = residual_problem(gain=2.0)
    found = correction(residual, new, median)[..., 0]
    expected = (2.0 * new[:, -1:, 1]).expand_as(found)
    assert (found - expected).square().mean() < 0.3 * expected.square().mean()
    assert (residual.share[0] > 0).all()


def test_residual_stays_near_zero_on_noise() -> None:
    past, future, forecast = residual_problem(gain=0.0)
    residual = Residual(lags=8).build(channels=3)
    residual.prepare(past.flatten(0, 1))
    residual.solve(regression_data(residual, past, future, forecast), choose=True)
    new, truth, median = residual_problem(gain=0.0)
    harm = (truth - median - correction(residual, new, median)).square().mean() / (truth - median).square().mean()
    assert harm < 1.01


def test_residual_scales_with_the_window() -> None:
    past, future, forecast = residual_problem(gain=2.0)
    residual = Residual(lags=8).build(channels=3)
    residual.prepare(past.flatten(0, 1))
    residual.solve(regression_data(residual, past, future, forecast), choose=True)
    moved = correction(residual, 10 * past + 5, 10 * forecast + 5)
    torch.testing.assert_close(moved, 10 * correction(residual, past, forecast), atol=1e-3, rtol=1e-3)


def echo(missing: float) -> RegressionData:
    r"""The targets are what the frozen model says and .8 of the last step but one; cells are missing at random."""
    generator = torch.Generator().manual_seed(0)
    past = torch.randn(800, 24, 2, generator=generator)
    forecast = past[:, -1:].expand(-1, 6, -1).contiguous()
    future = forecast + 0.8 * past[:, -2:-1] + 0.2 * torch.randn(800, 6, 2, generator=generator)
    future[torch.rand(future.shape, generator=generator) < missing] = torch.nan
    return RegressionData(past, future, forecast, torch.arange(800) * 5 // 800)


@pytest.mark.parametrize("missing", [0.0, 0.2, 0.5, 0.8])
def test_missing_targets_do_not_shrink_a_residual(missing: float) -> None:
    problem = echo(missing)
    for family in (Residual(lags=4, components=0), Bayesian(base_options={"lags": 4, "components": 0})):
        adapter = family.build(2).eval()
        adapter.solve(problem, choose=True)
        residual = adapter.inner if isinstance(adapter, Bayesian) else adapter
        _, state = residual.encode(problem.past)
        state.forecast = problem.forecast
        found = residual.decode(problem.forecast.unsqueeze(0), state)[0] - problem.forecast
        truth = 0.8 * problem.past[:, -2:-1].expand_as(found)
        assert 0.9 < float((found * truth).sum() / truth.square().sum()) < 1.02


@pytest.mark.parametrize("missing", [0.0, 0.2, 0.5])
def test_a_residual_is_the_ridge_of_the_cells_seen(missing: float) -> None:
    r"""To the cell on the windows that strengths are chosen on; nearly so with as many more."""
    problem, residual = echo(missing), Residual(lags=4, components=0).build(2)
    half = RegressionData(problem.past[:400], problem.future[:400], problem.forecast[:400], problem.fold[:400])
    for part, choose, near in ((half, True, 0.002), (problem, False, 0.03)):
        residual.solve(part, choose=choose)
        regressors = residual.regressors(part.past, part.forecast).projected(residual.basis)
        for channel in range(2):
            x = residual.equations(channel, regressors, part).x
            root = part.past.std(1, correction=0)[:, channel].double().sqrt()
            for lead in range(6):
                error = (part.future - part.forecast)[:, lead, channel].double() / root
                seen = ~error.isnan()
                gram = x[seen].mT @ x[seen]
                strength = float(residual.strength[channel, 0]) * residual._typical(x.mT @ x)
                strength = strength * x[seen, -1].square().sum() / x[:, -1].square().sum()
                exact = torch.linalg.solve(gram + strength * torch.eye(len(gram)), x[seen].mT @ error[seen])
                distance = (x @ (residual.weights[channel, :, lead].double() - exact)).norm() / (x @ exact).norm()
                assert float(distance) < (near if missing else 1e-4)


def test_what_a_bayesian_residual_knows_goes_by_the_targets_seen() -> None:
    spreads = []
    for missing in (0.0, 0.5, 0.8):
        adapter = Bayesian(base_options={"lags": 4, "components": 0}, prior_scale=0.3).build(2).eval()
        adapter.solve(echo(missing), choose=True)
        spreads.append(adapter.posterior.draw(4000, torch.Generator().manual_seed(0)).std(0).mean())
    torch.testing.assert_close(spreads[1] / spreads[0], torch.tensor(2**0.5), rtol=0.1, atol=0)
    torch.testing.assert_close(spreads[2] / spreads[0], torch.tensor(5**0.5), rtol=0.15, atol=0)


def test_windows_and_leads_of_which_nothing_is_seen_say_nothing_to_a_residual() -> None:
    problem = echo(0.0)
    outage = RegressionData(*(torch.cat([of, of[:200]]) for of in (problem.past, problem.future, problem.forecast)),
                      torch.cat([problem.fold, problem.fold[:200]]))  # fmt: skip
    outage.future[800:, :, 0] = torch.nan
    without = RegressionData(problem.past, problem.future.clone(), problem.forecast, problem.fold)
    without.future[:, 3, 0] = torch.nan
    every, some, but_one = (Residual(lags=4, components=0).build(2) for _ in range(3))
    every.solve(problem, choose=True)
    some.solve(outage, choose=True)
    torch.testing.assert_close(some.weights[0], every.weights[0])
    but_one.solve(without, choose=True)  # its strength is chosen by the errors of rows, not of sums
    assert not but_one.weights[0, :, 3].any()
    kept = [0, 1, 2, 4, 5]
    torch.testing.assert_close(but_one.strength[0], every.strength[0])
    torch.testing.assert_close(but_one.weights[0][:, kept], every.weights[0][:, kept])


def test_saved_tensors_restore_a_solved_residual() -> None:
    past, future, forecast = residual_problem(gain=1.0)
    residual = Residual(lags=8).build(channels=3)
    residual.solve(regression_data(residual, past, future, forecast), choose=True)
    other = Residual(lags=8).build(channels=3)
    other.load_state_dict(residual.state_dict())
    torch.testing.assert_close(correction(other, past, forecast), correction(residual, past, forecast), rtol=0, atol=0)
