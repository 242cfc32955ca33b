r"""Benchmark of the public implementation: scores of samples, windows that both get, tables."""

from __future__ import annotations

import math
import subprocess
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from chronos import BaseChronosPipeline

from adapts.data.panel import Panel
from adapts.data.windows import Windows
from adapts.foundation import bolt_nano, load_foundation_model
from benchmarks import pages
from benchmarks.reference import run, table
from benchmarks.reference.worker import Pipeline

SAMPLES, N, H, D = 200, 60, 4, 2


def windows() -> Windows:
    return Windows(Panel.of(np.zeros((8 + H * N, D))), np.zeros(N, dtype=int), 8 + H * np.arange(N), 8, H)


def drawn(scale: float) -> tuple[torch.Tensor, torch.Tensor]:
    r"""Standard normal outcomes, and normal samples of a scale."""
    generator = torch.Generator().manual_seed(0)
    y = torch.randn(N, H, D, generator=generator, dtype=torch.float64)
    return scale * torch.randn(SAMPLES, N, H, D, generator=generator, dtype=torch.float64), y


def test_samples_of_the_true_law_are_calibrated() -> None:
    samples, y = drawn(1.0)
    found = run.sample_scores(samples, y, windows().time)
    assert found["crps"] == pytest.approx(1 / math.sqrt(math.pi), rel=0.1)
    assert found["mse"] == pytest.approx(1 + 1 / SAMPLES, rel=0.15)
    assert found["coverage_80"] == pytest.approx(0.8, abs=0.05)
    assert found["pit_ece"] < 0.05


def test_a_point_forecast_has_the_absolute_error_and_covers_nothing() -> None:
    _, y = drawn(1.0)
    found = run.sample_scores(torch.zeros(SAMPLES, N, H, D, dtype=torch.float64), y, windows().time)
    assert found["crps"] == pytest.approx(float(y.abs().mean()))
    assert found["coverage_80"] == 0.0 and found["pit_ece"] > 0.2


def test_ranks_are_uniform_within_ties() -> None:
    y = torch.zeros(500, 1, 1, dtype=torch.float64)
    ranks = run.pits(torch.zeros(9, 500, 1, 1, dtype=torch.float64), y)
    assert ranks.flatten().sort().values.numpy() == pytest.approx(np.linspace(0, 1, 500), abs=0.08)
    y[0] = math.nan
    assert run.pits(torch.zeros(9, 500, 1, 1, dtype=torch.float64), y)[0].isnan().all()


def test_windows_with_missing_values_are_left_out() -> None:
    found = {f"{split}_{part}": np.ones((3, 2, 1)) for split in ("train", "validation", "test")
             for part in ("past", "future")}  # fmt: skip
    found["train_past"][0, 1] = np.nan
    found["validation_future"][2, 0] = np.nan
    kept = run.complete(found)
    assert {name: len(x) for name, x in kept.items()} == {
        "train_past": 2, "train_future": 2, "validation_past": 2, "validation_future": 2, "test_past": 3,
        "test_future": 3,
    }  # fmt: skip


def test_seconds_to_a_loss() -> None:
    trace = {"validation_mse_0": 3.0, "validation_mse_1": 1.0, "validation_mse_2": 2.0,
             "validation_seconds_0": 0.5, "validation_seconds_1": 0.7, "validation_seconds_2": 0.9}  # fmt: skip
    assert run.to_the_same(trace, 3.5) == 0.5 and run.to_the_same(trace, 2.0) == 0.7
    assert math.isnan(run.to_the_same(trace, 0.5))


class _Median(torch.nn.Module):
    r"""A model of two steps: twice the last value, at three levels."""

    def forward(self, context: torch.Tensor) -> _Median:
        self.quantile_preds = (2 * context[:, -1:, None]).expand(-1, 3, 2)
        return self


def test_the_frozen_model_carries_gradients_where_asked_and_prolongs_its_context() -> None:
    class Chronos:
        quantiles = [0.1, 0.5, 0.9]  # noqa: RUF012
        model_context_length = 8
        inner_model = _Median()

    context = torch.tensor([[1.0, 3.0]], requires_grad=True)
    _, path = Pipeline(Chronos(), gradient=True).predict_quantiles(context, 5, [0.5])
    assert path.tolist() == [[6.0, 6.0, 12.0, 12.0, 24.0]]
    path.sum().backward()
    assert context.grad is not None and context.grad.tolist() == [[0.0, 20.0]]


def test_the_public_implementation_gets_the_forecasts_of_our_frozen_model() -> None:
    pipeline = Pipeline(
        BaseChronosPipeline.from_pretrained(Path(bolt_nano.__file__).parent, dtype=torch.float32), gradient=True
    )
    model = load_foundation_model("bolt-nano", device="cpu")
    context = torch.randn(3, 104, generator=torch.Generator().manual_seed(0)).cumsum(1)
    median = model.predict(context, 24)[:, model.median_index]
    with torch.no_grad():
        _, without = pipeline.predict_quantiles(context, 24, [0.5])
    _, path = pipeline.predict_quantiles(context.requires_grad_(), 24, [0.5])
    for found in (without, path.detach()):
        torch.testing.assert_close(found, median, rtol=1e-4, atol=1e-4)
    path.sum().backward()
    assert context.grad is not None and bool(context.grad.isfinite().all()) and bool(context.grad.any())


def test_another_commit_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="at df9182a, got .* at no commit: clone it"):
        run.require_repository(tmp_path)
    subprocess.run(["git", "init", "-q", str(tmp_path)], check=True)
    subprocess.run(
        ["git", "-C", str(tmp_path), "-c", "user.name=a", "-c", "user.email=a@b.c", "commit", "-q", "--allow-empty",
         "-m", "x"], check=True,
    )  # fmt: skip
    with pytest.raises(ValueError, match="at df9182a, got"):
        run.require_repository(tmp_path)


# ---------------------------------------------------------------------------------------------------- tables


@pytest.fixture
def found() -> pd.DataFrame:
    rows = []

    def add(model: str, **figures: float) -> None:
        rows.extend({"model": model, "metric": name, "value": x} for name, x in figures.items())

    scores = {"mse": 2.0, "pit_ece": 0.2, "coverage_80": 0.1}
    costs = {
        "seconds_per_epoch": 2.0,
        "seconds_to_best": 20.0,
        "fit_seconds": 30.0,
        "peak_gigabytes": 0.5,
        "epochs": 10.0,
    }
    add("frozen model", crps=0.6, **scores, fit_seconds=1.0, predict_seconds=1.0, peak_gigabytes=0.1)
    public = {"validation_mse": 0.5, "predict_seconds": 20.0, "encoder_change": 0.0}
    add("linearAE: reference", crps=1.0, **scores, **costs, **public)
    traced = {
        "validation_mse_0": 0.8,
        "validation_mse_1": 0.4,
        "validation_seconds_0": 0.5,
        "validation_seconds_1": 1.0,
    }
    add("linearAE: as in the paper", crps=0.7, predict_seconds=2.0, **scores, **costs, **traced)
    add("linearAE: as shipped", crps=0.5, predict_seconds=2.0, **scores, **costs)
    about = {"data": "illness", "seed": 0, "prediction_length": 24, "context_length": 104, "train_windows": 128,
             "validation_windows": 9, "windows": 17, "stride": 10, "epochs_at_most": 30, "reference": "df9182a",
             "threads": 1, "torch": "2", "commit": "abc", "foundation_model": "bolt-nano 1.6"}  # fmt: skip
    return pd.DataFrame(rows).assign(**about)


def test_ours_is_compared_family_by_family(found: pd.DataFrame) -> None:
    assert table.faster(found, "illness", "linearAE") == [20.0]
    assert "| illness | LinearAE | 20 (1 of 1 seeds) | 10 | -30 | -50 | 0.000 |" in table.compared(found)
    never = found.assign(value=found["value"].where(found["metric"] != "validation_mse", 0.1))
    assert "| illness | LinearAE | not reached |" in table.compared(never)


def test_tables_hold_each_run_once(found: pd.DataFrame) -> None:
    assert [line.split(" | ")[1:3] for line in table.scored(found).splitlines()[2:]] == [
        ["frozen model", "zero-shot"], ["LinearAE", "reference"], ["LinearAE", "as in the paper"],
        ["LinearAE", "as shipped"],
    ]  # fmt: skip
    assert "| illness | LinearAE | reference | 10 | 2.00 | 20.00 | 30.00 | 20.00 | 0.50 | 0.500 |" in table.costs(found)


def test_the_page_has_a_place_for_each_table(found: pd.DataFrame) -> None:
    text = (pages.ROOT / table.PAGE).read_text(encoding="utf-8")
    for name in table.tables(found):
        assert text.count(f"<!-- {name}: made by benchmarks/reference/table.py -->\n") == 1
        assert text.count(f"\n<!-- /{name} -->") == 1
