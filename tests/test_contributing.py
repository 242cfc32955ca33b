r"""The worked example of CONTRIBUTING.md: a family, a copula, a score, a foundation model and a file format."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SCRIPT = """
import json
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from safetensors.torch import save_file

from adapts import Adapter
from adapts.adapters import make

Path("model").mkdir()
Path("model/config.json").write_text(json.dumps({"model_type": "last-value"}))
save_file({"none": torch.zeros(1)}, "model/model.safetensors")
rows = np.random.default_rng(0).standard_normal((400, 1)).cumsum(0)
rows = rows + 0.1 * np.random.default_rng(1).standard_normal((400, 2))
Path("sales.fwf").write_text(pd.DataFrame(rows, columns=["a", "b"]).to_string(index=False))

one = Adapter(
    "identity", foundation_model=Path("model"), prediction_length=4, context_length=32, copula="comonotonic"
)
frame = one.backtest("sales.fwf", windows=10).set_index(["model", "channel", "lead_block", "metric"])["value"]
assert frame.loc["adapter", "all", "all", "bias"] ** 2 < frame.loc["adapter", "all", "all", "mse"]
one.fit("sales.fwf")
assert one.fitted_.copula.name == "comonotonic"
one.save("saved")
again = Adapter.load("saved", foundation_model=Path("model"))
np.testing.assert_array_equal(again.predict().samples, one.predict().samples)
ranks = one.predict().samples.argsort(0).argsort(0)
assert (ranks == ranks[:, :1, :1]).all()

scaling = Adapter(
    "scaling", foundation_model=Path("model"), prediction_length=4, context_length=32,
    trainer_options={"max_epochs": 1},
)
assert scaling.fit(rows).fitted_.module.family == "scaling"
built = make("scaling", {"factor": 2.0}).build(channels=2)
z, state = built.encode(torch.as_tensor(rows[None], dtype=torch.float32))
torch.testing.assert_close(built.decode(z, state)[0], torch.as_tensor(rows[None], dtype=torch.float32))
assert z.std() > 1.9
"""


def test_one_file_and_one_line_add_a_family_a_copula_a_score_a_model_and_a_format(tmp_path: Path) -> None:
    if shutil.which("git") is None:
        pytest.skip("git applies the diff, and there is none")
    (diff,) = re.findall(r"```diff\n(.+?)```", (ROOT / "CONTRIBUTING.md").read_text(), flags=re.DOTALL)
    for name in ("adapts", "adapters", "datasets"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    subprocess.run(["git", "apply", "-"], cwd=tmp_path, input=diff, text=True, check=True)
    changed = [line.removeprefix("+++ b/") for line in diff.splitlines() if line.startswith("+++ ")]
    old = [name for name in changed if (ROOT / name).exists()]
    assert old == ["adapts/registry.py"]
    added = [line for line in diff.split("+++ b/adapts/registry.py")[1].splitlines() if line.startswith("+")]
    assert len(added) == 5
    paths = os.pathsep.join([str(tmp_path), *filter(None, [os.environ.get("PYTHONPATH")])])
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", SCRIPT], cwd=tmp_path, capture_output=True, text=True,
        env={**os.environ, "PYTHONPATH": paths},
    )  # fmt: skip
    assert not done.returncode, done.stderr
