r"""What a family costs beside the frozen model alone: ratios of times taken in one run.

    python -m benchmarks.families.speed --output speed.csv

A training step is one batch of 32 windows of 7 channels, 504 steps back: encode, the frozen model, decode, loss,
gradients, Adam; beside it the frozen model's forward and backward of the same latent series, nothing around it. As in a
fit, the frozen model's forecasts are cached where training leaves the latent series as they are. A closed form is
solved on 1,000 windows, the default, their forecasts included; beside it the frozen forward of the same series. A
prediction is the law of 32 windows with 200 joint samples; beside it the frozen forwards that cannot be avoided. Both
alternate, and the ratio is that of the medians. Models: bolt-nano, and a Chronos-Bolt of 9 M random weights.

Peak memory is what drawing the joint paths of those windows takes beyond the paths themselves, in a process of its own
(Linux tells it).
"""

import argparse
import multiprocessing
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from lightning.pytorch import Trainer

from adapts import Adapter, Panel
from adapts.adapters import Portfolio
from adapts.data.cards import Dataset
from adapts.data.windows import Windows
from adapts.fitting.context import begin
from adapts.fitting.state import FitState
from adapts.fitting.train_adapter import train
from adapts.foundation import load_foundation_model
from adapts.registry import load_recipe, recipes
from adapts.training import AdapterTraining
from benchmarks import memory
from benchmarks.provenance import provenance
from pretraining.bolt_nano.pretrain import build_model

HERE = Path(__file__).parent
BATCH, CHANNELS, CONTEXT, REPEATS, SAMPLES = 32, 7, 504, 3, 200
STEPS = 1000  # of the schedule of the learning rate


def models() -> dict[str, object]:
    nine = build_model(d_model=256, d_kv=64, d_ff=1024, num_layers=4, num_decoder_layers=4, num_heads=4)
    return {"bolt-nano": "bolt-nano", "9 M random": nine}


def medians(*calls: Callable[[], object]) -> list[float]:
    r"""The median seconds of calls that take turns, after one round to warm up."""
    taken = np.empty((REPEATS + 1, len(calls)))
    for turn in taken:
        for number, call in enumerate(calls):
            start = time.perf_counter()
            call()
            turn[number] = time.perf_counter() - start
    return np.median(taken[1:], axis=0).tolist()


def training_step(adapter: Adapter, past: torch.Tensor, future: torch.Tensor, recipe: dict) -> list[float]:
    module = adapter.family.build(CHANNELS)
    module.prepare(past.flatten(0, 1))
    training = AdapterTraining(module.train(), adapter.model, loss=recipe["training"].get("objective") or "huber")
    training.trainer = Trainer(accelerator="cpu", logger=False, enable_checkpointing=False, max_steps=STEPS)
    training.log = lambda *args, **kwargs: None  # a step by itself is none of the trainer's
    optimiser = training.configure_optimizers()["optimizer"]
    horizon = future.shape[1]
    quantiles = adapter.model.predict(past.mT.flatten(0, 1), horizon).unflatten(0, (BATCH, -1))  # (B, D, Q, H)
    known = {"forecast": quantiles[:, :, adapter.model.median_index].mT}
    if module.capabilities.needs_quantiles:
        known["quantiles"] = quantiles.movedim(-1, 1)  # (B, H, D, Q)
        module.before_training(past, known["quantiles"])
    if module.capabilities.fixed_latents:
        latents = adapter.model.predict(module.encode(past)[0].mT.flatten(0, 2), horizon)
        known["latents"] = latents.unflatten(0, (BATCH, -1)).movedim(-1, 1)  # (B, H, K, Q)

    def step() -> None:
        optimiser.zero_grad()
        training.training_step((past, future, known), 0).backward()
        optimiser.step()

    with torch.no_grad():
        latent = module.encode(past)[0].mT.flatten(0, 2)

    def bare() -> None:
        x = latent.clone().requires_grad_()
        adapter.model(x, horizon, unroll="median").sum().backward()

    return medians(step, bare)


def closed_form(adapter: Adapter, rows: np.ndarray) -> list[float]:
    whole = adapter.clone().set_params(max_windows=1000)
    context, fitted = whole.apply(begin, Dataset("rows", Panel.of(rows)), checkpoint_dir=None)
    state = FitState.of(context, context.prepared(fitted))
    windows, module = state.windows["train"], state.fitted.module
    series = torch.randn(len(windows) * module.latents, CONTEXT)

    def solve() -> None:
        state.memory.clear()
        train(state)

    return medians(solve, lambda: adapter.model.predict(series, adapter.prediction_length))


def peak(rows: np.ndarray, num_samples: int) -> float:
    r"""Megabytes that drawing so many paths takes at its peak, beyond these."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(_peak, (rows, num_samples))


def _peak(rows: np.ndarray, num_samples: int) -> float:
    adapter = Adapter("residual", prediction_length=24, context_length=CONTEXT, max_windows=100).fit(rows)
    law = adapter.joint_distribution(batch(rows, 24))
    law.sample(10)
    before = memory.begin()
    paths = law.sample(num_samples)
    return 1024 * (memory.peak() - before) - paths.numel() * paths.element_size() / 2**20


def batch(rows: np.ndarray, horizon: int) -> Windows:
    origins = np.linspace(CONTEXT, len(rows) - horizon, BATCH).astype(int)
    return Windows(Panel.of(rows), np.zeros(BATCH, dtype=int), origins, CONTEXT, horizon)


def prediction(adapter: Adapter, rows: np.ndarray, past: torch.Tensor, horizon: int) -> list[float]:
    windows = batch(rows, horizon)
    fitted = adapter.fit(rows)
    module = fitted.fitted_.module
    draws = module.count_draws(fitted.posterior_draws) if module.capabilities.stochastic_latents else 1
    series = past.mT.flatten(0, 1)
    latent = torch.randn(draws * BATCH * module.latents, CONTEXT)
    avoidable = module.capabilities.observed_latents or fitted._predictor("predict").marginals.closed

    def predict() -> None:
        fitted.joint_distribution(windows).sample(SAMPLES, torch.Generator().manual_seed(0))

    def bare() -> None:
        adapter.model.predict(series, horizon)
        if not avoidable:
            adapter.model.predict(latent, horizon)

    return medians(predict, bare)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--family", nargs="+", default=list(recipes()))
    parser.add_argument("--horizon", nargs="+", type=int, default=[24, 64])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--output", type=Path, default=HERE / "speed.csv")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    time_axis = np.arange(2400)[:, None]
    generator = np.random.default_rng(0)
    sources = np.sin(2 * np.pi * time_axis / np.array([24.0, 168.0, 12.0]))
    rows = sources @ generator.standard_normal((3, CHANNELS)) + 0.3 * generator.standard_normal((2400, CHANNELS))
    past = torch.from_numpy(rows[: BATCH * 40 + CONTEXT]).float().unfold(0, CONTEXT, 40)[:BATCH].mT.contiguous()
    lines = []
    for name, model in models().items():
        model = load_foundation_model(model, device="cpu")
        for horizon in options.horizon:
            future = torch.randn(BATCH, horizon, CHANNELS)
            for family in options.family:
                adapter = Adapter(
                    family, foundation_model=model, prediction_length=horizon, context_length=CONTEXT, max_windows=100,
                    trainer_options={"max_epochs": 1, "enable_progress_bar": False},
                )  # fmt: skip
                about = {"family": family, "model": name, "prediction_length": horizon}
                probe = adapter.family.build(CHANNELS)
                measured = {}
                if probe.capabilities.closed_form:
                    measured["closed form"] = closed_form(adapter, rows)
                elif not isinstance(probe, Portfolio) and any(each.requires_grad for each in probe.parameters()):
                    measured["training step"] = training_step(adapter, past, future, load_recipe(family))
                measured["prediction"] = prediction(adapter, rows, past, horizon)
                for what, (mine, bare) in measured.items():
                    lines.append(
                        {"what": what, "value": mine, "bare": bare, "ratio": mine / bare, "unit": "s", **about}
                    )
                    print(f"{name} {horizon} {family} {what}: {mine:.3f} s, {mine / bare:.2f} times", flush=True)
                write(lines, rows, options)
    for number in (200, 2000, 20000):
        about = {"family": "residual", "model": "bolt-nano", "prediction_length": 24, "num_samples": number}
        lines.append({"what": "peak memory", "value": peak(rows, number), "unit": "MB", **about})
    write(lines, rows, options)


def write(lines: list[dict], rows: np.ndarray, options: argparse.Namespace) -> None:
    frame = pd.DataFrame(lines).assign(threads=options.threads, **provenance(Panel.of(rows), 0))
    frame.to_csv(options.output, index=False)


if __name__ == "__main__":
    main()
