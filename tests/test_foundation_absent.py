r"""Backends whose packages are absent: one error that says how to install them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from adapts import load_foundation_model
from adapts.foundation.backends import missing_packages
from adapts.registry import ENVIRONMENTS, FOUNDATION_MODELS

CONFIGS: dict[str, tuple[str, dict[str, Any]]] = {
    "flowstate": ("granite", {"model_type": "flowstate"}),
    "moirai-1": ("moirai-1", {"distr_output": {}, "patch_sizes": []}),
    "moirai-2": ("moirai", {"num_predict_token": 4, "max_seq_len": 512}),
    "moment": ("moment", {"model_name": "MOMENT"}),
    "patchtst-fm": ("granite", {"model_type": "patchtst_fm"}),
    "tirex": ("tirex", {"model_type": "tirex"}),
    "ttm": ("granite", {"model_type": "tinytimemixer"}),
}


@pytest.mark.parametrize("name", CONFIGS)
def test_an_absent_package_names_the_commands_of_its_environment(name: str, tmp_path: Path) -> None:
    environment, config = CONFIGS[name]
    missing = missing_packages(FOUNDATION_MODELS[name])
    if not missing:
        pytest.skip(f"{name} has its package")
    (tmp_path / "config.json").write_text(json.dumps(config))
    (tmp_path / "model.safetensors").touch()
    with pytest.raises(ValueError, match=f"'{name}' needs {missing[0]}.*which conflicts") as caught:
        load_foundation_model(tmp_path)
    assert f"pip install --no-deps {ENVIRONMENTS[environment]}" in str(caught.value)


def test_an_absent_extra_is_named() -> None:
    if not missing_packages(FOUNDATION_MODELS["statsforecast"]):
        pytest.skip("statsforecast is installed")
    with pytest.raises(ValueError, match=r"needs statsforecast.*pip install 'adapts\[statsforecast\]'"):
        load_foundation_model("theta")
