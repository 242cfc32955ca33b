r"""Ridge regression against numpy and by its own optimality."""

import numpy as np
import pytest
import torch

from adapts.statistics import ridge
from adapts.statistics.ridge import RidgePath, blocked_folds, cross_validated_error


def problem(n: int = 200, p: int = 6, q: int = 3) -> tuple[torch.Tensor, torch.Tensor]:
    x = torch.randn(n, p, dtype=torch.float64)
    return x, x @ torch.randn(p, q, dtype=torch.float64) + 0.1 * torch.randn(n, q, dtype=torch.float64)


def test_ridge_equals_numpy() -> None:
    x, y = problem()
    expected = np.linalg.solve((x.mT @ x + 3.0 * torch.eye(6)).numpy(), (x.mT @ y).numpy())
    torch.testing.assert_close(ridge(x, y, 3.0), torch.from_numpy(expected))


def test_ridge_is_between_zero_and_least_squares() -> None:
    x, y = problem()
    torch.testing.assert_close(ridge(x, y, 1e12), torch.zeros(6, 3, dtype=torch.float64), atol=1e-6, rtol=0)
    torch.testing.assert_close(ridge(x, y, 0.0), torch.linalg.lstsq(x, y).solution)


def test_infinite_strength_is_exactly_zero_and_targets_have_their_own() -> None:
    x, y = problem()
    path = RidgePath(x.mT @ x, x.mT @ y)
    assert not path.solve(torch.inf).any()
    mixed = path.solve(torch.tensor([0.5, 2.0, torch.inf], dtype=torch.float64))
    torch.testing.assert_close(mixed[:, 0], ridge(x, y, 0.5)[:, 0])
    torch.testing.assert_close(mixed[:, 1], ridge(x, y, 2.0)[:, 1])
    assert not mixed[:, 2].any()


def test_least_norm_where_regressors_repeat() -> None:
    x, y = problem()
    doubled = torch.cat([x, x], -1)
    torch.testing.assert_close(ridge(doubled, y, 0.0), torch.linalg.lstsq(doubled, y, driver="gelsd").solution)


def test_cross_validated_error_equals_leaving_folds_out_by_hand() -> None:
    x, y = problem(n=60)
    fold = torch.arange(60) // 20
    parts = [fold == number for number in range(3)]
    error = cross_validated_error(
        torch.stack([x[part].mT @ x[part] for part in parts]),
        torch.stack([x[part].mT @ y[part] for part in parts]),
        torch.stack([y[part].square().sum(0) for part in parts]),
        torch.tensor([0.3, 30.0], dtype=torch.float64),
    )
    for row, strength in enumerate((0.3, 30.0)):
        by_hand = sum((y[part] - x[part] @ ridge(x[~part], y[~part], strength)).square().sum(0) for part in parts)
        torch.testing.assert_close(error[row], by_hand)
    # of reduced rank, on a problem of that rank: the true one leaves out less noise than the full one
    x, y = torch.randn(3, 40, 6, dtype=torch.float64), torch.randn(3, 40, 3, dtype=torch.float64)
    y += x @ (torch.randn(6, 1, dtype=torch.float64) @ torch.randn(1, 3, dtype=torch.float64))
    statistics = x.mT @ x, x.mT @ y, y.square().sum(-2), torch.tensor([1.0], dtype=torch.float64)
    assert cross_validated_error(*statistics, rank=1).sum() < cross_validated_error(*statistics).sum()
    torch.testing.assert_close(cross_validated_error(*statistics, rank=3), cross_validated_error(*statistics))


@pytest.mark.parametrize("strength", [0.0, 3.0, 300.0])
@pytest.mark.parametrize("rank", [1, 2, 3])
def test_reduced_rank_equals_the_truncated_svd_of_the_augmented_fit(rank: int, strength: float) -> None:
    x, y = problem()
    augmented = np.vstack([x.numpy(), np.sqrt(strength) * np.eye(6)])
    targets = np.vstack([y.numpy(), np.zeros((6, 3))])
    full = np.linalg.lstsq(augmented, targets, rcond=None)[0]
    right = np.linalg.svd(augmented @ full, full_matrices=False)[2][:rank]
    found = RidgePath(x.mT @ x, x.mT @ y).solve(strength, rank)
    torch.testing.assert_close(found, torch.from_numpy(full @ right.T @ right))
    assert int(torch.linalg.matrix_rank(found)) == rank


def test_reduced_rank_is_the_best_of_its_rank() -> None:
    x, y = problem()

    def loss(weights: torch.Tensor) -> torch.Tensor:
        return (y - x @ weights).square().sum() + 3.0 * weights.square().sum()

    best = loss(RidgePath(x.mT @ x, x.mT @ y).solve(3.0, rank=1))
    left, right = (torch.randn(size, requires_grad=True, dtype=torch.float64) for size in ((6, 1), (1, 3)))
    optimiser = torch.optim.LBFGS([left, right], max_iter=500, tolerance_grad=1e-10, line_search_fn="strong_wolfe")

    def step() -> torch.Tensor:
        optimiser.zero_grad()
        value = loss(left @ right)
        value.backward()
        return value

    optimiser.step(step)
    torch.testing.assert_close(loss(left @ right).detach(), best, rtol=1e-8, atol=0)


def test_infinite_strength_is_zero_at_any_rank() -> None:
    x, y = problem()
    assert not RidgePath(x.mT @ x, x.mT @ y).solve(torch.inf, rank=2).any()


def test_folds_share_no_target() -> None:
    origin, horizon = torch.arange(50, 350, 3), 12
    fold = blocked_folds(origin, torch.zeros_like(origin), horizon, 5)
    targets = [
        {row for first in origin[fold == number].tolist() for row in range(first, first + horizon)}
        for number in range(5)
    ]
    assert all(targets)
    for one in range(5):
        for other in range(one):
            assert not targets[one] & targets[other]
    assert int((fold == -1).sum()) <= 4 * horizon // 3 + 4


def test_short_items_are_folds_in_turn() -> None:
    origin, item = torch.arange(14, 45).repeat(6), torch.arange(6).repeat_interleave(31)
    fold = blocked_folds(origin, item, 30, 5)
    torch.testing.assert_close(fold, (item % 5))
