r"""The copula of older adapters: draws against the dense correlation, tails, states."""

import math

import pytest
import torch

from adapts.copulas.base import Copula
from adapts.copulas.structured import StructuredCopula

HORIZON, CHANNELS = 5, 3


def structured(freedom=math.inf, factors=2):
    basis = torch.linalg.qr(torch.randn(CHANNELS, CHANNELS)).Q
    roots = torch.randn(CHANNELS, HORIZON, HORIZON).tril(-1) + torch.eye(HORIZON)
    return StructuredCopula(basis, roots, 0.5 * torch.rand(factors, HORIZON, CHANNELS), freedom)


def dense(copula):
    r"""The correlation (HD, HD) as the docstring's formula has it."""
    own = copula.roots.double() @ copula.roots.double().mT  # (K, H, H)
    joint = torch.einsum("dk,khj,ek->hdje", copula.basis.double(), own, copula.basis.double())
    joint *= copula.scale.view(HORIZON, CHANNELS, 1, 1) * copula.scale
    factors = (copula.factors.double() * copula.shrink).flatten(1)
    return joint.reshape(HORIZON * CHANNELS, -1) + factors.T @ factors


def test_variances_are_one():
    torch.testing.assert_close(dense(structured()).diagonal(), torch.ones(15, dtype=torch.float64))


def test_factors_that_hold_too_much_are_shrunk():
    copula = StructuredCopula(torch.eye(2), torch.eye(4).expand(2, -1, -1), 3 * torch.ones(1, 4, 2))
    u = copula.uniforms(4000)
    assert float(torch.corrcoef(u.flatten(1).T)[0, 1]) == pytest.approx(0.98, abs=0.01)


def test_draws_have_the_dense_correlation():
    copula = structured()
    z = torch.special.ndtri(copula.uniforms(1, windows=40_000))[0].flatten(1)
    torch.testing.assert_close(torch.corrcoef(z.T).double(), dense(copula), atol=0.03, rtol=0)


def test_student_extremes_coincide():
    def together(freedom):
        root = torch.linalg.cholesky(torch.tensor([[[1.0, 0.5], [0.5, 1.0]]]))
        u = StructuredCopula(torch.eye(1), root, freedom=freedom).uniforms(50_000)[..., 0]
        return float(((u > 0.99).all(1)).float().mean() / 0.01)

    # the limit for nu = 4 and rho = .5 is 2 t_5(-sqrt(5 * .5 / 1.5)) = .25
    assert together(4) > 0.24 > 0.18 > together(math.inf)


def test_errors():
    with pytest.raises(ValueError, match=r"go with a basis \(2, 2\) and factors \(R, 3, 2\)"):
        StructuredCopula(torch.eye(3), torch.eye(3).expand(2, -1, -1))
    with pytest.raises(ValueError, match="an even number or infinite, got 5"):
        StructuredCopula(torch.eye(2), torch.eye(3).expand(2, -1, -1), freedom=5)


@pytest.mark.parametrize("freedom", [math.inf, 4])
def test_state_and_back_draws_the_same(freedom):
    copula = structured(freedom)
    again = Copula.from_state(copula.state())
    draws = [each.uniforms(20, torch.Generator().manual_seed(0)) for each in (copula, again)]
    assert torch.equal(*draws)
