r"""Flows: exact inverses, whatever the weights and the windows."""

from __future__ import annotations

import sys

import pytest
import torch
from test_autoencoder import bent, train
from test_linear import HORIZON, Oscillator, cut, error

from adapts.adapters import AdapterModule, Flow, Identity, Projection
from adapts.testing.families import AdapterConformance
from adapts.testing.rows import degenerate_rows

VARIANTS = {
    "all": Flow(),
    "to two": Flow(latent_channels=2, depth=2, hidden=5),
    # A gain and an offset of its own change nothing where the frozen model follows both: the channels' gains do.
    "to one": Flow(latent_channels=1, affine=True),
    "one coupling, train statistics": Flow(transforms=1, normalisation="train"),
}


class TestFlow(AdapterConformance):
    @pytest.fixture(params=VARIANTS)
    def family(self, request: pytest.FixtureRequest) -> AdapterModule:
        return VARIANTS[request.param]


def shaken(flow: Flow, channels: int, size: float) -> Flow:
    r"""A flow far from where it started."""
    built = flow.build(channels)
    for parameter in built.parameters():
        parameter.data += size * torch.randn_like(parameter)
    return built


@pytest.mark.parametrize("channels", [1, 2, 7])
@pytest.mark.parametrize("normalisation", ["window", "train"])
@pytest.mark.parametrize("size", [0.0, 0.1, 0.3])
def test_flows_invert(channels: int, normalisation: str, size: float) -> None:
    flow = shaken(Flow(normalisation=normalisation), channels, size)
    x = torch.randn(8, 40, channels)
    z, state = flow.encode(x)
    torch.testing.assert_close(flow.decode(z, state)[0], x, atol=1e-4, rtol=0)
    assert torch.allclose(z[0], (x - state.location) / state.scale, atol=1e-5) is (size == 0.0)
    paths = torch.randn(3, 8, 6, channels)  # and the other way about
    back = flow.encode_future(flow.decode(paths, state)[1], state)
    torch.testing.assert_close(back, paths[1], atol=1e-4, rtol=0)


@pytest.mark.parametrize("factor", [1e-6, 1e-3, 30.0, 1e3, 1e6])
def test_flows_invert_extreme_values_to_the_precision_of_their_size(factor: float) -> None:
    flow = shaken(Flow(normalisation="train"), 5, 0.1)
    x = factor * torch.randn(8, 40, 5)
    z, state = flow.encode(x)
    assert z.isfinite().all()
    torch.testing.assert_close(flow.decode(z, state)[0], x, atol=1e-4 * max(1.0, factor), rtol=0)


@pytest.mark.parametrize("name", degenerate_rows(8))
def test_flows_invert_degenerate_windows(name: str) -> None:
    flow = shaken(Flow(), 3, 0.1)
    x = torch.randn(4, 40, 3)
    x[1, :, 0] = degenerate_rows(40)[name]
    x[2] = degenerate_rows(40)[name].unsqueeze(-1)
    z, state = flow.encode(x)
    back = flow.decode(z, state)[0]
    seen = ~x.isnan()
    size = x[seen].abs().max().clamp(min=1.0)
    torch.testing.assert_close((back / size)[seen], (x / size)[seen], atol=1e-4, rtol=0)


def test_a_coupling_stretches_within_bounds_and_far_out_as_elsewhere() -> None:
    flow = shaken(Flow(transforms=1, normalisation="train"), 4, 30.0)  # absurd weights
    _, state = flow.encode(torch.zeros(1, 2, 4))
    for size in (1.0, 1e3):
        point = size * torch.randn(1, 1, 1, 4)
        jacobian = torch.autograd.functional.jacobian(lambda z: flow.decode(z, state)[0, 0, 0], point)[:, 0, 0, 0]
        diagonal = jacobian.diagonal()
        assert ((diagonal > 0.1) & (diagonal < 10)).all()
    far = 1e5 * torch.ones(1, 1, 1, 4)
    jacobian = torch.autograd.functional.jacobian(lambda z: flow.decode(z, state)[0, 0, 0], far)[:, 0, 0, 0]
    torch.testing.assert_close(jacobian, torch.diag(jacobian.diagonal()))  # the channels no longer bend each other


def test_a_reduction_loses_what_the_projection_loses() -> None:
    rows = torch.randn(500, 5) @ torch.randn(5, 5)
    rows = rows - rows.mean(0)
    x = rows[:400].view(10, 40, 5)
    flow, projection = Flow(latent_channels=2), Projection(latent_channels=2)
    flow, projection = (family.build(channels=5) for family in (flow, projection))
    for adapter in (flow, projection):
        adapter.prepare(rows)
    for parameter in flow.parameters():
        parameter.data += 0.1 * torch.randn_like(parameter)
    (z, state), (expected, expected_state) = flow.encode(x), projection.encode(x)
    assert not torch.allclose(z, expected, atol=0.01)
    torch.testing.assert_close(flow.decode(z, state), projection.decode(expected, expected_state), atol=1e-3, rtol=1e-3)


def test_it_unbends_what_linear_adapters_cannot() -> None:
    rows, model = bent(), Oscillator(HORIZON)
    past, future = cut(rows, torch.arange(1600, 1980, 7))
    flow = train(Flow(normalisation="train").build(channels=2), model, rows[:1500])
    frozen = error(Identity().build(channels=2), model, past, future)
    assert error(flow, model, past, future) < 0.02 * frozen
    z, state = flow.encode(past)
    torch.testing.assert_close(flow.decode(z, state)[0], past, atol=1e-4, rtol=0)  # still


def test_without_zuko_the_error_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "zuko.flows.coupling", None)
    family = Flow()  # its recipe can be listed, saved and shown
    with pytest.raises(ValueError, match=r"pip install 'adapts\[flow\]'"):
        family.build(channels=3)


def test_wrong_options_are_refused() -> None:
    with pytest.raises(ValueError, match="transforms to be a positive integer, got 0"):
        Flow(transforms=0)
    with pytest.raises(ValueError, match="at most as many latent channels"):
        Flow(latent_channels=4).build(channels=3)
