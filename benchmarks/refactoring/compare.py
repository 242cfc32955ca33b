r"""Whether two commits make the same adapters: nine fits on each, their saved tensors and 50 samples compared.

    python -m benchmarks.refactoring.compare 2dc978f HEAD              # equal bits
    python -m benchmarks.refactoring.compare 2dc978f HEAD --within 1e-6

Each commit runs in a process of its own, from a copy of its files, on simulated series. A commit that moves code and
changes no behaviour prints nine times "equal", and the exit status is 0.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]


def series() -> Any:
    r"""A frame of three daily channels, a price that moves the first, and hours."""
    import numpy as np
    import pandas as pd

    generator = np.random.default_rng(0)
    hours = np.arange(1600)
    day = np.stack([np.sin(2 * np.pi * (hours + 5 * number) / 24) for number in range(3)], 1)
    noise = generator.standard_normal((1600, 3)) @ np.array([[1.0, 0.6, 0.3], [0.0, 0.8, 0.4], [0.0, 0.0, 0.9]])
    price = generator.standard_normal(1600)
    values = day + 0.4 * noise + 0.7 * price[:, None] * np.array([1.0, 0.0, 0.0])
    frame = pd.DataFrame(values, pd.date_range("2024-01-01", periods=1600, freq="h"), ["a", "b", "c"])
    return frame.assign(price=price)


def fits() -> dict[str, Callable[[], Any]]:
    r"""The nine fits by name; each returns an adapter and its forecasts."""
    import numpy as np
    import pandas as pd

    from adapts import Adapter

    frame = series()
    targets, ahead = frame[["a", "b", "c"]].iloc[:1500], frame[["price"]].iloc[1500:1512]
    trained = {"gate": False, "max_windows": 200}

    def fit(family: Any, given: Any, options: dict[str, Any], **roles: Any) -> Any:
        return Adapter(family, prediction_length=12, context_length=96, seed=0, **options).fit(given, **roles)

    def known() -> Any:
        adapter = fit("residual", frame.iloc[:1500], {}, known_covariates=["price"])
        return adapter, adapter.predict(num_samples=50, future=ahead)

    def missing() -> Any:
        holes = np.random.default_rng(1).random(targets.shape) < 0.2
        return plain("residual", targets.mask(holes))

    def ragged() -> Any:
        items = [targets.iloc[start:].assign(item_id=str(start)) for start in (0, 400, 1200)]
        return plain("residual", pd.concat(items).rename_axis("timestamp").reset_index())

    def updated() -> Any:
        adapter = fit("residual", targets.iloc[:1300], {})
        adapter.update(targets.iloc[1300:])
        return adapter, adapter.predict(num_samples=50)

    def plain(family: Any, given: Any = targets, **options: Any) -> Any:
        adapter = fit(family, given, options)
        return adapter, adapter.predict(num_samples=50)

    return {
        "residual": lambda: plain("residual"),
        "linear": lambda: plain("linear", **trained),
        "vae": lambda: plain("vae", **trained),
        "bayesian": lambda: plain("bayesian", posterior_draws=4, **trained),
        "ensemble": lambda: plain("ensemble", **trained),
        "known covariates": known,
        "20 % missing": missing,
        "ragged panel": ragged,
        "update": updated,
    }


def write(folder: Path) -> None:
    r"""Makes the fits of the code that Python finds, and writes their tensors, decisions and samples into a folder."""
    import numpy as np
    import torch
    from safetensors.torch import load_file, save_file

    torch.set_num_threads(1)
    for name, make in fits().items():
        adapter, forecasts = make()
        forecasts = forecasts if isinstance(forecasts, list) else [forecasts]
        with tempfile.TemporaryDirectory() as held:
            adapter.save(Path(held) / "saved")
            state = load_file(Path(held) / "saved" / "adapter.safetensors")
        for number, forecast in enumerate(forecasts):
            state[f"samples of forecast {number}"] = torch.from_numpy(np.array(forecast.samples)).contiguous()
        save_file(state, folder / f"{name}.safetensors")
        (folder / f"{name}.json").write_text(json.dumps(dict(adapter.summary().stages)))


def made_by(commit: str, folder: Path) -> None:
    r"""Runs `write` with the code of a commit."""
    code = folder / "code"
    code.mkdir(parents=True)
    packed = subprocess.run(["git", "archive", commit, "adapts"], cwd=ROOT, check=True, capture_output=True).stdout
    subprocess.run(["tar", "-x", "-C", str(code)], input=packed, check=True)
    environment = {**os.environ, "PYTHONPATH": str(code), "OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore"}
    command = [sys.executable, str(Path(__file__).resolve()), "--write", str(folder)]
    subprocess.run(command, cwd=code, env=environment, check=True)


def differences(before: Path, after: Path, within: float) -> list[str]:
    r"""What differs between the tensors of two fits: names, shapes, or numbers by more than a share of their scale."""
    from safetensors.torch import load_file

    first, second = load_file(before), load_file(after)
    said = [f"only before: {name}" for name in sorted(first.keys() - second.keys())]
    said += [f"only after: {name}" for name in sorted(second.keys() - first.keys())]
    for name in sorted(first.keys() & second.keys()):
        x, y = first[name], second[name]
        if x.shape != y.shape or x.dtype != y.dtype:
            said.append(f"{name}: {x.dtype} {tuple(x.shape)} became {y.dtype} {tuple(y.shape)}")
        elif x.numel() and not (x.isnan() == y.isnan()).all():
            said.append(f"{name}: other cells are missing")
        elif x.numel():
            x, y = x.double().nan_to_num(), y.double().nan_to_num()
            apart, scale = float((x - y).abs().max()), max(float(x.abs().max()), 1e-30)
            if apart > within * scale:
                said.append(f"{name}: differs by {apart / scale:.1e} of its scale")
    return said


def main() -> int:
    r"""Runs the command; 1 if a fit differs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("commits", nargs="*", metavar="COMMIT", help="the one before and the one after")
    parser.add_argument("--within", type=float, default=0.0, help="a share of a tensor's scale, 0 for equal bits")
    parser.add_argument("--decisions", action="store_true", help="compare what stages decided as well, word by word")
    parser.add_argument("--write", type=Path, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.write:
        write(asked.write)
        return 0
    if len(asked.commits) != 2:
        parser.error(f"expected two commits, got {len(asked.commits)}")
    status = 0
    with tempfile.TemporaryDirectory() as held:
        folders = [Path(held) / label for label in ("before", "after")]
        for commit, folder in zip(asked.commits, folders, strict=True):
            made_by(commit, folder)
        for path in sorted(folders[0].glob("*.safetensors")):
            said = differences(path, folders[1] / path.name, asked.within)
            told = [json.loads((folder / f"{path.stem}.json").read_text()) for folder in folders]
            if asked.decisions and told[0] != told[1]:
                said += [f"{key}: {told[0].get(key)} | {told[1].get(key)}" for key in told[0] | told[1]
                         if told[0].get(key) != told[1].get(key)]  # fmt: skip
            status |= bool(said)
            print(f"{path.stem}: {'equal' if not said else f'{len(said)} differences'}", *said[:12], sep="\n    ")
    return status


if __name__ == "__main__":
    raise SystemExit(main())
