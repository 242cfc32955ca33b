r"""Generated inputs of every kind end in a result without NaN, or in one error of ours. `make fuzz` tries many more."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from random import Random

import numpy as np
import pytest
import torch
from hypothesis import given, note, reject, settings
from hypothesis import strategies as st

from generated.__main__ import surroundings
from generated.areas import AREAS
from generated.judge import judge

#: How many cases of an area make test tries, in hundredths of the profile's.
SHARES = {
    **{"reading": 400, "files": 200, "fits": 12, "fit-any": 12, "options": 40, "recipes": 12, "models": 8},
    **{"checkpoints": 6, "folders": 4, "grouped": 12},
    **{"config-old": 20, "config-new": 30, "config-bytes": 15, "tensors-old": 10, "tensors-new": 25},
}


@pytest.fixture(scope="module")
def prepare(tmp_path_factory: pytest.TempPathFactory):
    r"""Prepares an area, once for all areas that are prepared alike."""
    ready = {}

    def prepared(name: str) -> object:
        area = AREAS[name]
        if area.prepare not in ready:
            ready[area.prepare] = area.prepare(tmp_path_factory.mktemp("generated"))
        return ready[area.prepare]

    return prepared


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", SHARES)
def test_an_input_is_answered_with_a_result_or_with_an_error_of_ours(name: str, prepare, monkeypatch, tmp_path) -> None:
    ready = prepare(name)
    monkeypatch.chdir(tmp_path)

    @settings(max_examples=max(1, settings.default.max_examples * SHARES[name] // 100))
    @given(st.integers(0, 2**32 - 1))  # as `python -m generated AREA --seed N` takes it
    def answered(seed: int) -> None:
        torch.manual_seed(0)
        np.random.seed(0)
        try:
            case = AREAS[name].case(Random(f"{name} {seed}"), ready)
        except Exception:  # another library refuses to make such an input
            reject()
        note(case.what)
        verdict = judge(case)
        assert not verdict.fault, f"{verdict.kind} at {verdict.place}: {verdict.text}"

    answered()


def test_without_assertions_the_answers_are_the_same() -> None:
    command = [sys.executable, "-m", "generated", "--optimised", "reading=60", "fits=2"]
    folder = Path(__file__).parents[2]
    done = subprocess.run(command, cwd=folder, env=surroundings(), capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
