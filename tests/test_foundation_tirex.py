r"""TiRex of tirex-ts."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import pytest
import torch
from torch.testing import assert_close

from adapts import load_foundation_model
from adapts.foundation import FoundationModel
from adapts.testing import FoundationModelConformance
from adapts.testing.tiny_separate import tiny_tirex

pytest.importorskip("tirex", reason="tirex-ts has an environment of its own: make test-models")


class TestTiRex(FoundationModelConformance):
    #: The recurrence computes in bfloat16, whose precision is 2**-8.
    tolerance = 2e-2

    @pytest.fixture
    def foundation_model(self) -> FoundationModel:
        return load_foundation_model(tiny_tirex())


def test_forecasts_are_those_of_the_package() -> None:
    package = tiny_tirex()
    context = 3.0 * torch.randn(3, 128) + 5.0
    context[:, 20:23] = torch.nan
    expected, _ = package.forecast(context=context, prediction_length=64, max_accelerated_rollout_steps=8)
    assert_close(load_foundation_model(package)(context, 64), expected.mT.sort(1).values, rtol=0, atol=0)


def test_the_licence_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "adapts"):
        load_foundation_model(tiny_tirex())
    assert "Built with technology from NXAI" in caplog.text


def test_a_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "tirex"}))
    (tmp_path / "model.safetensors").touch()
    with pytest.raises(ValueError, match=r"load it with tirex\.load_model"):
        load_foundation_model(tmp_path)
