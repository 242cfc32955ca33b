r"""NanoForecast on tiny random models: the package's own numbers, other lengths, frequencies and checkpoints."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from damaged_checkpoints import assert_loads_the_same, assert_refuses_damage, saved
from torch.testing import assert_close

pytest.importorskip("nanoforecast", reason="NanoForecast needs the extra 'nanoforecast'")

from adapts.foundation import FoundationModel, load_foundation_model  # noqa: E402
from adapts.foundation.nanoforecast import NanoForecast  # noqa: E402
from adapts.testing.foundation import FoundationModelConformance  # noqa: E402
from adapts.testing.rows import degenerate_rows  # noqa: E402
from adapts.testing.tiny_models import tiny_nanoforecast  # noqa: E402

LENGTH, STEPS = 64, 16


@pytest.fixture(scope="module")
def model() -> NanoForecast:
    return NanoForecast(tiny_nanoforecast(), name="nanoforecast")


class TestNanoForecast(FoundationModelConformance):
    affine_equivariant = False  # the interquartile range is bounded by a constant

    @pytest.fixture
    def foundation_model(self, model: FoundationModel) -> FoundationModel:
        return model


@pytest.mark.parametrize(("frequency", "own"), [(None, "H"), ("15min", "15min"), ("h", "H"), ("D", "D"),
                                                ("W-SUN", "W"), ("MS", "M"), ("QE-DEC", "H")])  # fmt: skip
def test_numbers_are_the_package_s(model: NanoForecast, frequency: str | None, own: str) -> None:
    told = model.with_frequency(frequency, 1)
    for name in ("clean", "constant", "constant first half", "one spike", "large", "small"):
        row = degenerate_rows(LENGTH)[name]
        expected = torch.from_numpy(tiny_nanoforecast().predict(row[None], STEPS, own)["quantiles"])
        size = float(expected.abs().max())
        assert_close(told(row[None], STEPS), expected, rtol=0, atol=1e-5 * size, msg=name)


def test_short_and_broken_contexts_are_filled_in(model: NanoForecast) -> None:
    row = torch.tensor([[2.0, torch.nan, 5.0, 4.0]])
    whole = torch.cat([torch.full((1, LENGTH - 3), 2.0), torch.tensor([[2.0, 5.0, 4.0]])], dim=1)
    assert torch.equal(model(row, STEPS), model(whole, STEPS))


def test_a_frequency_leaves_the_model_as_it_is_and_shares_its_weights(model: NanoForecast) -> None:
    context = torch.randn(2, LENGTH)
    before = model(context, STEPS)
    daily = model.with_frequency("D", 7)
    assert not torch.allclose(daily(context, STEPS), before)
    assert torch.equal(model(context, STEPS), before)
    assert daily.fingerprint() == model.fingerprint()
    assert all(a is b for a, b in zip(daily.parameters(), model.parameters(), strict=True))
    assert model.with_frequency("h", 24) is model


def test_checkpoint(tmp_path: Path) -> None:
    folder = saved(tiny_nanoforecast(), tmp_path / "checkpoint")
    assert_loads_the_same(folder, tiny_nanoforecast())
    assert_refuses_damage(folder, "quantile_head.p50_proj.weight", wider="prediction_length")


def test_live_model_stays_as_it_is() -> None:
    model, before = tiny_nanoforecast(), tiny_nanoforecast().state_dict()
    load_foundation_model(model, device="cpu")(torch.randn(1, 20, requires_grad=True), 3).sum().backward()
    assert_close(model.state_dict(), before, rtol=0, atol=0)
