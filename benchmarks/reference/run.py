r"""The public implementation of AdaPTS beside our families of the same names, on the same windows.

    git clone https://github.com/abenechehab/AdaPTS /tmp/reference && git -C /tmp/reference checkout df9182a
    python -m benchmarks.reference.run --repository /tmp/reference           # goes on where it stood
    python -m benchmarks.reference.run --repository /tmp/reference --quick   # 15 minutes: one seed of Illness

All run around the same frozen model (bolt-nano), with the same train, validation and test windows and the same seeds,
on the same machine; each run has a process of its own and one thread, and seconds are those of its processor. The
public implementation cannot read missing values: it gets the train windows that have none. Of each family:

- "reference": the public implementation as it is, with the options of its documented command (`--use_revin --supervised
  True`: Adam, learning rate .001, batches of 32, patience of 10 epochs);
- "reference, gradient": the same, but with gradients through the frozen model, which it does not get from Chronos;
- "as in the paper": ours, trained on the same squared error, without gate and recalibration;
- "as shipped": ours, with all defaults.

One CSV row a set, model, seed and metric. Scores are those of 200 samples, in units of the train rows' standard
deviation; a validation loss is the mean squared error of single draws in these units.
"""

import argparse
import json
import multiprocessing
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor

from adapts import Adapter
from adapts.data.cards import Dataset, read
from adapts.data.times import Times
from adapts.data.windows import Windows
from adapts.evaluation import scores
from adapts.evaluation.rolling import rolling_windows
from adapts.fitting.context import begin
from adapts.fitting.state import FitState
from adapts.foundation import bolt_nano
from benchmarks import memory
from benchmarks.coupled.run import resumed
from benchmarks.provenance import named, provenance

HERE, ROOT = Path(__file__).parent, Path(__file__).parents[2]
COMMIT = "df9182a"
SEEDS = (0, 1, 2)
SAMPLES = 200
FROZEN = "frozen model"
#: Of each public adapter our family, with its options of that name.
FAMILIES: dict[str, tuple[str, dict[str, Any]]] = {
    "linearAE": ("linear", {}),
    "dropoutLinearAE": ("dropout", {}),
    "linearVAE": ("vae", {}),
    "VAE": ("vae", {"family__depth": 2, "family__hidden": 128}),
}
WAYS = ("reference", "reference, gradient", "as in the paper", "as shipped")
PAPER = {"objective": "mse", "gate": False, "recalibration": "none"}


@dataclass(frozen=True)
class Setting:
    r"""How a set is forecast: horizon, context, number of train windows, stride of test origins, most epochs."""

    prediction_length: int
    context_length: int
    max_windows: int
    stride: int
    epochs: int


SETTINGS = {"illness": Setting(24, 104, 128, 10, 30), "etth1": Setting(96, 512, 64, 401, 10)}


def models() -> list[str]:
    r"""The names of all models: each family in each way, and the frozen model."""
    return [FROZEN, *(f"{family}: {way}" for family in FAMILIES for way in WAYS)]


# ---------------------------------------------------------------------------------------------------- windows


def adapter_of(setting: Setting, family: str = "identity", seed: int = 0, **options: Any) -> Adapter:
    return Adapter(
        family, prediction_length=setting.prediction_length, context_length=setting.context_length,
        max_windows=setting.max_windows, seed=seed,
    ).set_params(**options)  # fmt: skip


def held_out(dataset: Dataset, setting: Setting) -> Windows:
    r"""The test windows: origins from the test border on, a stride apart."""
    first = dataset.borders[1]
    count = (dataset.end - first - setting.prediction_length) // setting.stride + 1
    windows = rolling_windows(
        dataset.panel, [first], count, setting.stride, setting.context_length, setting.prediction_length
    )
    return windows[np.argsort(windows.origin, kind="stable")]


def before(dataset: Dataset) -> Dataset:
    r"""The rows before the test border."""
    return replace(dataset, panel=dataset.panel.rows(dataset.borders[1]), end=None)


def standardised(windows: Windows, location: np.ndarray, scale: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    r"""The contexts (n, L, D) and targets (n, H, D) of windows, in units of the train rows' standard deviation."""
    return tuple((each(torch.float64).numpy() - location) / scale for each in (windows.past, windows.future))


def shared_windows(dataset: Dataset, setting: Setting) -> dict[str, np.ndarray]:
    r"""The windows of a fit of ours and the test windows, as all models get them: "train_past" and so on."""
    context, fitted = adapter_of(setting).apply(begin, before(dataset), checkpoint_dir=None)
    state = FitState.of(context, context.prepared(fitted))
    found = {}
    for split in ("train", "validation"):
        for name, part in zip(("past", "future"), (state.windows[split].past(), state.windows[split].future()),
                              strict=True):  # fmt: skip
            found[f"{split}_{name}"] = part.double().numpy()
    test = standardised(held_out(dataset, setting), fitted.location, fitted.scale)
    return {**found, **dict(zip(("test_past", "test_future"), test, strict=True))}


def complete(windows: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    r"""The windows without a missing value, of each split."""
    found = {}
    for split in ("train", "validation", "test"):
        parts = [windows[f"{split}_{part}"] for part in ("past", "future")]
        whole = ~np.isnan(np.concatenate(parts, axis=1)).any((1, 2))
        found |= {f"{split}_{part}": each[whole] for part, each in zip(("past", "future"), parts, strict=True)}
    return found


# ---------------------------------------------------------------------------------------------------- scores


def pits(samples: Tensor, y: Tensor, seed: int = 0) -> Tensor:
    r"""The randomised ranks of observed values among samples.

    Arguments:
        samples: The samples, with shape (S, n, H, D).
        y: The observed values, with shape (n, H, D).
        seed: The seed of the randomisation.
    """
    below, ties = (samples < y).sum(0), (samples == y).sum(0)
    uniform = torch.rand(y.shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return ((below + uniform * (ties + 1)) / (len(samples) + 1)).where(~y.isnan(), torch.nan)


def sample_scores(samples: Tensor, y: Tensor, time_of: Times) -> dict[str, float]:
    r"""The scores of samples: squared error of their mean, CRPS (fair), calibration.

    Arguments:
        samples: The samples, with shape (S, n, H, D).
        y: The observed values, with shape (n, H, D).
        time_of: The origin times of the windows.
    """
    ranks = pits(samples, y)
    return {
        "mse": float((samples.mean(0) - y).square().nanmean()),
        "crps": float(scores.crps_fair(samples, y).nanmean()),
        "pit_ece": float(scores.pit_ece(ranks.flatten(0, 1)).nanmean()),
        "pit_ece_floor": float(scores.pit_ece_floor(ranks, time_of).nanmean()),
        "coverage_80": float(scores.coverage(ranks).nanmean()),
    }


# ---------------------------------------------------------------------------------------------------- runs

_LOSSES: list[tuple[float, float]] = []  # validation losses of this process, with their times


class _Clock(Callback):
    r"""Notes each epoch's validation loss and the time."""

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        _LOSSES.append((float(trainer.callback_metrics["val_loss"]), time.process_time()))


def ours(name: str, family: str, seed: int, options: dict[str, Any]) -> tuple[dict[str, float], np.ndarray]:
    r"""The figures of a fit of ours, and its samples of the test windows in standardised units, (S, n, H, D)."""
    dataset, setting = read(name), SETTINGS[name]
    adapter = adapter_of(
        setting, family, seed, support=dataset.support or None,
        trainer_options={"enable_progress_bar": False, "max_epochs": setting.epochs, "callbacks": [_Clock()]},
        **options,
    )  # fmt: skip
    windows, rows = held_out(dataset, setting), before(dataset)
    _LOSSES.clear()
    held, began = memory.begin(), time.process_time()
    adapter.fit(rows)
    found = {"fit_seconds": time.process_time() - began}
    if adapter.fitted_.gate is not None:
        found["gate"] = float(adapter.fitted_.gate.mean())
    if _LOSSES:
        losses, times = np.array([x for x, _ in _LOSSES]), np.array([at for _, at in _LOSSES]) - began
        figures = adapter.fitted_.decisions["train"].figures
        found |= {
            "epochs": float(len(losses)),
            "seconds_per_epoch": float(np.median(np.diff(times, prepend=0.0))),
            "seconds_to_best": float(times[losses.argmin()]) if losses.min() < figures["before"] else 0.0,
        }
        if options.get("objective") == "mse":
            found["validation_mse"] = min(float(losses.min()), figures["before"])
            found |= {f"validation_mse_{number}": x for number, x in enumerate(losses.tolist())}
            found |= {f"validation_seconds_{number}": x for number, x in enumerate(times.tolist())}
    start = time.process_time()
    law = adapter.zero_shot_distribution(windows) if family == "identity" else adapter.joint_distribution(windows)
    samples = law.sample(SAMPLES, torch.Generator().manual_seed(seed))
    found |= {"predict_seconds": time.process_time() - start, "peak_gigabytes": memory.peak() - held}
    return found, ((samples.double().numpy() - adapter.location_) / adapter.scale_)


def reference(
    name: str, adapter: str, seed: int, repository: Path, *, gradient: bool
) -> tuple[dict[str, float], np.ndarray]:
    r"""The figures of a run of the public implementation, and its samples, as for `ours`."""
    dataset, setting = read(name), SETTINGS[name]
    windows = complete(shared_windows(dataset, setting))
    job = {
        "repository": str(repository.resolve()), "checkpoint": str(Path(bolt_nano.__file__).parent),
        "adapter": adapter, "gradient": gradient, "seed": seed, "epochs": setting.epochs, "samples": SAMPLES,
        "prediction_length": setting.prediction_length, "context_length": setting.context_length,
        "channels": dataset.panel.num_channels,
    }  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "job.json").write_text(json.dumps(job))
        np.savez(Path(folder) / "windows.npz", **windows)
        command = [sys.executable, "-m", "benchmarks.reference.worker", folder]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(f"the public implementation failed:\n{done.stderr[-2000:]}")
        found = json.loads((Path(folder) / "found.json").read_text())
        with np.load(Path(folder) / "samples.npz") as arrays:
            return found, arrays["samples"]


def apart(*arguments: Any) -> tuple[dict[str, float], np.ndarray]:
    r"""A run of ours in a new process, so that its peak of memory is its own."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(ours, arguments)


def to_the_same(found: dict[str, float], target: float) -> float:
    r"""The seconds after which the validation loss was first at most a target; NaN if it never was."""
    number = 0
    while f"validation_mse_{number}" in found:
        if found[f"validation_mse_{number}"] <= target:
            return found[f"validation_seconds_{number}"]
        number += 1
    return float("nan")


def score(data: str, model: str, seed: int, repository: Path) -> pd.DataFrame:
    r"""All figures of a model on a set, as a frame with one row a metric."""
    dataset, setting = read(data), SETTINGS[data]
    public, _, way = model.partition(": ")
    if model == FROZEN:
        found, samples = apart(data, "identity", seed, {})
    elif way.startswith("reference"):
        found, samples = reference(data, public, seed, repository, gradient=way.endswith("gradient"))
    else:
        family, options = FAMILIES[public]
        found, samples = apart(data, family, seed, options | (PAPER if way == "as in the paper" else {}))
    windows, shared = held_out(dataset, setting), shared_windows(dataset, setting)
    y = torch.from_numpy(shared["test_future"])
    found |= sample_scores(torch.from_numpy(samples), y, windows.time)
    frame = pd.DataFrame({"metric": list(found), "value": list(found.values())})
    return frame.assign(
        data=data, model=model, prediction_length=setting.prediction_length, context_length=setting.context_length,
        train_windows=len(shared["train_past"]), validation_windows=len(shared["validation_past"]),
        windows=len(windows), stride=setting.stride, epochs_at_most=setting.epochs, reference=COMMIT,
        threads=os.environ.get("OMP_NUM_THREADS", ""), foundation_model=named(adapter_of(setting).model),
        **provenance(dataset.panel, seed),
    )  # fmt: skip


def require_repository(repository: Path) -> None:
    r"""Checks that the clone stands at the commit that is compared.

    Raises:
        ValueError: If the folder is no clone, or stands at another commit.
    """
    command = ["git", "-c", "safe.directory=*", "-C", str(repository), "rev-parse", "HEAD"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode or not done.stdout.startswith(COMMIT):
        raise ValueError(
            f"--repository expects a clone of the public implementation at {COMMIT}, got {repository} at "
            f"{done.stdout.strip() or 'no commit'}: clone it and check this commit out"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("data", nargs="*", default=list(SETTINGS))
    parser.add_argument("--repository", type=Path, required=True, help=f"a clone at {COMMIT}")
    parser.add_argument("--model", nargs="+", default=models())
    parser.add_argument("--seed", nargs="+", type=int, default=list(SEEDS))
    parser.add_argument("--quick", action="store_true", help="one seed of Illness")
    parser.add_argument("--output", type=Path, default=HERE / "scores.csv")
    options = parser.parse_args()
    require_repository(options.repository)
    data, seeds = (["illness"], [0]) if options.quick else (options.data, options.seed)
    jobs = [{"data": name, "model": model, "seed": seed} for seed in seeds for name in data for model in options.model]
    resumed(options.output, jobs, lambda **job: score(**job, repository=options.repository))


if __name__ == "__main__":
    main()
