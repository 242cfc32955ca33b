r"""Yug on tiny random models: its cures, the package's own numbers, frequencies and checkpoints."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from damaged_checkpoints import assert_loads_the_same, assert_refuses_damage, saved
from torch import Tensor
from torch.testing import assert_close

pytest.importorskip("yug", reason="Yug needs the extra 'yug'")

from adapts.foundation import FoundationModel, load_foundation_model  # noqa: E402
from adapts.foundation.yug import Yug  # noqa: E402
from adapts.testing.foundation import FoundationModelConformance  # noqa: E402
from adapts.testing.rows import degenerate_rows  # noqa: E402
from adapts.testing.tiny_models import tiny_yug, tiny_yug_pipeline  # noqa: E402

LENGTH, STEPS, PATCH = 64, 16, 8


def tiny() -> Yug:
    return Yug(tiny_yug(), name="yug", context_length=LENGTH)


@pytest.fixture(scope="module")
def model() -> Yug:
    return tiny()


class TestYug(FoundationModelConformance):
    @pytest.fixture
    def foundation_model(self, model: FoundationModel) -> FoundationModel:
        return model


@cache
def pipeline() -> Any:
    return tiny_yug_pipeline()


def own(row: Tensor, frequency: tuple[int, int]) -> Tensor:
    r"""The quantiles of which the package's rollout draws paths."""
    patches, seen = row.nan_to_num().unflatten(0, (-1, PATCH))[None], (~row.isnan()).unflatten(0, (-1, PATCH))[None]
    index, multiple = (torch.tensor([number]) for number in frequency)
    return pipeline()._last_patch_qf(patches, seen.float(), index, multiple).detach().sort(dim=1).values


@pytest.mark.parametrize(("frequency", "index"), [(None, (8, 1)), ("15min", (1, 15)), ("h", (2, 1)), ("W-SUN", (4, 1)),
                                                  ("MS", (5, 1)), ("2D", (3, 2)), ("YE-DEC", (7, 1))])  # fmt: skip
def test_numbers_are_the_package_s(model: Yug, frequency: str | None, index: tuple[int, int]) -> None:
    told = model.with_frequency(frequency, 1)
    rows = degenerate_rows(LENGTH)
    for name in ("clean", "one missing", "left padded", "constant first half", "one spike", "large"):
        expected = own(rows[name], index)
        size = float(expected.abs().max())
        assert_close(told(rows[name][None], STEPS), expected, rtol=0, atol=1e-4 * size, msg=name)


def test_a_frequency_leaves_the_model_as_it_is_and_shares_its_weights(model: Yug) -> None:
    context = torch.randn(2, LENGTH)
    before = model(context, STEPS)
    hourly = model.with_frequency("h", 24)
    assert not torch.allclose(hourly(context, STEPS), before)
    assert torch.equal(model(context, STEPS), before)
    assert hourly.fingerprint() == model.fingerprint()
    assert all(a is b for a, b in zip(hourly.parameters(), model.parameters(), strict=True))
    assert model.with_frequency(None, 1) is model


def test_small_series_are_not_flattened(model: Yug) -> None:
    context = torch.randn(2, LENGTH)
    small = model(1e-5 * context, STEPS)
    assert_close(small * 1e5, model(context, STEPS), rtol=1e-4, atol=1e-4)
    stock = own(1e-5 * context[0], (8, 1))[0]  # the pass that the package never makes without rescaling
    assert not torch.allclose(stock * 1e5, model(context, STEPS)[0], rtol=0.1)


def test_rotation_tables_are_no_state(model: Yug) -> None:
    model(torch.randn(1, LENGTH), STEPS)
    ropes = [module for module in model.modules() if hasattr(module, "_update_cache")]
    assert ropes and all(rope._cos_cached is None for rope in ropes)


def test_checkpoint(tmp_path: Path) -> None:
    folder = saved(tiny_yug_pipeline(), tmp_path / "checkpoint")
    assert_loads_the_same(folder, tiny_yug())
    assert_refuses_damage(folder, "input_layer.residual_layer.weight", wider="d_model", unknown=False)


def test_live_models_stay_as_they_are() -> None:
    pipeline, before = tiny_yug_pipeline(), tiny_yug().state_dict()
    load_foundation_model(pipeline, device="cpu")(torch.randn(1, 20, requires_grad=True), 3).sum().backward()
    assert_close(pipeline.model.state_dict(), before, rtol=0, atol=0)
    assert isinstance(load_foundation_model(pipeline.model, device="cpu"), Yug)
