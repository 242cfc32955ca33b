r"""Fits that are killed at random moments and go on: do they end with the numbers of one that was not?

    python -m benchmarks.doors.resume [kills]      # 20 if not said

Families in closed form and by gradient take turns, around bolt-nano, on series made from the seed. Each fit runs in a
process of its own, gets SIGKILL at a moment drawn evenly over the time that an unbroken one takes, and is called again
with the same folder; then every saved number is compared. One CSV row a kill.
"""

import json
import multiprocessing
import random
import sys
import tempfile
import time
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path

import numpy as np
import pandas as pd
from safetensors.torch import load_file

from adapts import Adapter, Panel
from adapts.adapters import Linear
from benchmarks.provenance import provenance

SEED = 0
CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(["adapts.adapter", "chronos", "lightning.pytorch", "pandas"])  # once for all fits
FAMILIES = {"residual": "residual", "linear, decoder": Linear(free="decoder"), "linear, both": Linear()}


def series() -> np.ndarray:
    time = np.arange(2500)[:, None]
    sources = np.sin(2 * np.pi * time / np.array([24.0, 168.0, 12.0]))
    generator = np.random.default_rng(SEED)
    return sources @ generator.standard_normal((3, 4)) + 0.3 * generator.standard_normal((2500, 4))


def fit(pipe: Connection, family: str, checkpoints: Path | None, output: Path) -> None:
    adapter = Adapter(
        FAMILIES[family], prediction_length=24, context_length=128, max_windows=200, seed=SEED,
        trainer_options={"max_epochs": 3, "enable_progress_bar": False},
    )  # fmt: skip
    adapter.model  # noqa: B018  loaded before the clock runs
    pipe.send(None)
    began = time.perf_counter()
    adapter.fit(series(), checkpoint_dir=checkpoints)
    pipe.send(time.perf_counter() - began)
    adapter.save(output)


def begin(*arguments: object) -> tuple[BaseProcess, Connection]:
    here, there = CONTEXT.Pipe()
    process = CONTEXT.Process(target=fit, args=(there, *arguments))
    process.start()
    here.recv()
    return process, here


def numbers(folder: Path) -> dict[str, object]:
    tensors = load_file(folder / "adapter.safetensors")
    config = json.loads((folder / "config.json").read_text())
    return {**config, **{name: tensor.numpy().tobytes() for name, tensor in tensors.items()}}


def main(kills: int) -> None:
    moments = random.Random(SEED)
    unbroken: dict[str, tuple[float, dict[str, object]]] = {}
    rows = []
    about = provenance(Panel.of(series()), SEED)
    for number in range(kills):
        family = list(FAMILIES)[number % len(FAMILIES)]
        with tempfile.TemporaryDirectory() as folder:
            place = Path(folder)
            if family not in unbroken:
                process, pipe = begin(family, None, place / "unbroken")
                duration = pipe.recv()
                process.join()
                unbroken[family] = duration, numbers(place / "unbroken")
            duration, expected = unbroken[family]
            moment = moments.uniform(0, duration)
            process, _ = begin(family, place / "checkpoints", place / "run")
            time.sleep(moment)
            process.kill()
            process.join()
            left = [path.name for path in (place / "checkpoints").iterdir()] if (place / "checkpoints").exists() else []
            done = (place / "run").exists()
            process, pipe = begin(family, place / "checkpoints", place / "again")
            rest = pipe.recv()
            process.join()
            same = numbers(place / "again") == expected
        rows.append({
            "kill": number + 1, "family": family, "unbroken_seconds": round(duration, 2), "killed_at": round(moment, 2),
            "pieces_left": len(left), "was_done": done, "rest_seconds": round(rest, 2), "same_numbers": same, **about,
        })  # fmt: skip
        print({name: rows[-1][name] for name in list(rows[-1])[:8]}, flush=True)
        pd.DataFrame(rows).to_csv(Path(__file__).with_suffix(".csv"), index=False)
    print(
        f"{sum(row['same_numbers'] for row in rows)} of {len(rows)} killed fits end with the numbers of an unbroken one"
    )


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 20)
