r"""What every test and every example in a docstring finds prepared."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

os.environ.setdefault("MPLBACKEND", "Agg")
os.environ.setdefault("HF_HUB_OFFLINE", "1")  # no test waits for a hub
os.environ.setdefault("OMP_NUM_THREADS", "1")  # what a test computes is too small to share out

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import HealthCheck, Phase, settings

import adapts

# Generated inputs: few, the same each time, none made smaller; or many and others, and what fails is made smaller
# (`pytest tests/generated --hypothesis-profile fuzz`).
settings.register_profile(
    "ci", derandomize=True, database=None, deadline=None, max_examples=100, phases=[Phase.explicit, Phase.generate],
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large],
)  # fmt: skip
settings.register_profile("fuzz", settings.get_profile("ci"), derandomize=False, max_examples=5000, phases=list(Phase))
settings.load_profile("ci")


@pytest.fixture(autouse=True)
def _examples(doctest_namespace: dict[str, Any]) -> None:
    doctest_namespace.update(adapts=adapts, np=np, pd=pd, torch=torch)


@pytest.fixture(autouse=True)
def _alike() -> None:
    r"""One seed, and one verbosity, whatever ran before."""
    torch.manual_seed(0)
    np.random.seed(0)
    adapts.set_verbosity("warning")


@pytest.fixture
def data_directory() -> Path:
    r"""The folder of the public data sets; a test that needs it is skipped where there is none."""
    folder = os.environ.get("ADAPTS_DATA")
    if not folder:
        pytest.skip("ADAPTS_DATA is unset: it names the folder of the public data sets")
    if not Path(folder).is_dir():
        pytest.skip(f"ADAPTS_DATA is {folder!r}, which is no folder")
    return Path(folder)
