r"""fracast: the numbers of its package, with random weights and with those that it ships."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from checkpoints import assert_damage_is_refused, rewrite
from safetensors.torch import save_file
from torch.testing import assert_close

from adapts.foundation import FoundationModel, load_foundation_model
from adapts.foundation.fracast import Fracast
from adapts.testing.foundation import FoundationModelConformance
from adapts.testing.tiny import fracast_config, tiny_fracast

package = pytest.importorskip("fracast", reason="needs fracast: pip install 'adapts[fracast]'")


@pytest.fixture(scope="module")
def model() -> FoundationModel:
    return load_foundation_model(tiny_fracast())


@pytest.fixture(scope="module")
def pretrained() -> FoundationModel:
    return load_foundation_model("fracast-0")


class TestFracast(FoundationModelConformance):
    gradient_tolerance: ClassVar[float] = 0.01  # single precision

    @pytest.fixture
    def foundation_model(self, model: FoundationModel) -> FoundationModel:
        return model


def saved(folder: Path) -> Path:
    r"""Save a tiny model as its package lays checkpoints out."""
    folder.mkdir(exist_ok=True)
    tiny = tiny_fracast()
    weights = {
        f"{part}.{key}": tensor for part in ("core", "head") for key, tensor in getattr(tiny, part).state_dict().items()
    }
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    (folder / "config.json").write_text(json.dumps(fracast_config()))
    return folder


@pytest.mark.parametrize("length", [10, 32, 50])
def test_numbers_are_the_package_s(length: int, model: FoundationModel) -> None:
    context = 3 * torch.randn(5, length) + 7
    context[1, 3:5] = torch.nan
    expected = torch.from_numpy(tiny_fracast().forecast_batch(context.numpy()))  # (N, P, Q)
    assert_close(model(context, 8), expected.mT.float().sort(dim=1).values, rtol=0, atol=1e-4)


def test_fewer_observations_than_the_package_takes(model: FoundationModel) -> None:
    with pytest.raises(ValueError, match="at least 8 finite"):
        tiny_fracast().forecast(np.r_[np.full(10, np.nan), 1.0])
    assert model(torch.tensor([[torch.nan] * 10 + [1.0]]), 8).isfinite().all()


# ---------------------------------------------------------------------- the weights that the package ships


def test_the_pretrained_model_forecasts_as_in_its_package(pretrained: FoundationModel) -> None:
    assert isinstance(pretrained, Fracast)
    assert (pretrained.context_length, pretrained.prediction_length) == (2048, 48)
    assert sum(parameter.numel() for parameter in pretrained.parameters()) == 85_001
    steps = torch.arange(300.0)
    season = torch.stack(
        [torch.sin(2 * torch.pi * steps / 24), 5 + 0.02 * steps + torch.cos(2 * torch.pi * steps / 12)]
    )
    context = season + 0.1 * torch.randn(season.shape, generator=torch.Generator().manual_seed(0))
    forecast = pretrained(context, 48)
    expected = package.FracastModel.from_pretrained(weights="fp32").forecast_batch(context.numpy())
    assert_close(forecast, torch.from_numpy(expected).mT.float().sort(dim=1).values, rtol=0, atol=1e-4)

    # A trained model: the median follows the season better than the season's own mean does.
    future = torch.arange(300.0, 348.0)
    truth = torch.sin(2 * torch.pi * future / 24)
    assert (forecast[0, 4] - truth).square().mean() < 0.1 * truth.var()


def test_the_pretrained_model_has_a_gradient(pretrained: FoundationModel) -> None:
    context = torch.randn(1, 60, requires_grad=True)
    pretrained(context, 48)[:, 4].sum().backward()
    assert context.grad is not None
    assert context.grad.isfinite().all()
    assert (context.grad != 0).any()


def test_memory_is_that_of_the_padded_context(pretrained: FoundationModel) -> None:
    assert pretrained.chunk_rows(10, 48) == pretrained.chunk_rows(2048, 48)


# ---------------------------------------------------------------------- checkpoints


def test_checkpoints(tmp_path: Path) -> None:
    folder = saved(tmp_path / "tiny")
    loaded, live = load_foundation_model(folder), load_foundation_model(tiny_fracast())
    context = torch.randn(3, 20)
    assert torch.equal(loaded(context, 9), live(context, 9))
    assert loaded.fingerprint()["sha256"] == live.fingerprint()["sha256"]
    assert loaded.fingerprint()["name"] == "tiny"
    assert_damage_is_refused(folder, "head.out_proj")


def test_loading_draws_nothing(tmp_path: Path) -> None:
    folder = saved(tmp_path)
    state = torch.get_rng_state()
    load_foundation_model(folder)
    assert torch.equal(torch.get_rng_state(), state)


def test_a_live_model_is_copied() -> None:
    tiny = tiny_fracast()
    before = copy.deepcopy(tiny.head.state_dict())
    frozen = load_foundation_model(tiny)
    assert all(parameter.requires_grad for parameter in tiny.head.parameters())
    kept = frozen.fingerprint()
    tiny.head.queries.data += 1
    assert frozen.fingerprint() == kept
    assert not torch.equal(tiny.head.queries, before["queries"])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model": {"W": 64}}, "should have level_widths with the one entry W"),
        ({"model": {"n_stages": 20, "dilation_base": 16}}, r"should have dilations of at most 2\*\*20 steps"),
        ({"model": {"future_patch": 5}}, "cannot be read .*horizon"),
        ({"model": {"quantiles": [0.1, 2.0]}}, "'model.quantiles.1', which should be less than 1"),
        ({"model": {"d_model": 2**12, "head_d_ff": 2**12}}, "do not fit its config.json: it describes at least"),
        ({"pyramid": {"ratios": [2]}}, "'pyramid.ratios', which"),
    ],
)
def test_a_config_is_checked_before_it_is_used(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    folder = saved(tmp_path)
    rewrite(folder, changes)
    with pytest.raises(ValueError, match=message):
        load_foundation_model(folder)
