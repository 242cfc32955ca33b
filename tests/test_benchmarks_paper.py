r"""Benchmarks of the paper's cells and of learning curves: known answers, shared training, tables made of CSV files."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from adapts import Adapter
from adapts.data.cards import Dataset, read
from adapts.data.panel import Panel
from adapts.evaluation.baselines import BASELINES
from adapts.evaluation.tables import score_table
from adapts.registry import cards, load_card
from adapts.testing import tiny_chronos_bolt
from benchmarks import pages
from benchmarks.curves import run as curves
from benchmarks.curves import table as curves_table
from benchmarks.neural import NEURAL, Budget, neural_forecast
from benchmarks.paper import linear_models, run, table
from benchmarks.paper.backbone import weak_backbone
from benchmarks.paper.variants import ungated, without_gate
from benchmarks.scoring import METRICS, HeldOut, Jobs, baseline_forecast, not_scored

needs_data = pytest.mark.skipif("ADAPTS_DATA" not in os.environ, reason="ADAPTS_DATA names no folder of data sets")
H, L = 8, 32


def rows(steps: int = 500, channels: int = 2, seed: int = 0) -> np.ndarray:
    noise = np.random.default_rng(seed).standard_normal((steps, channels))
    time = np.arange(float(steps))[:, None]
    return np.sin(2 * np.pi * time / 12 + np.arange(float(channels))) + 0.3 * noise


def held_out(values: np.ndarray, train: int = 300, first: int = 400, stride: int = 5) -> HeldOut:
    return HeldOut.of(Panel.of(values), train, first, stride, (L, H))


# ---------------------------------------------------------------------------------------------------- linear models


def drawn(draw: int = 0) -> tuple[np.ndarray, ...]:
    (x, y), (weights, offset) = linear_models.windows(draw), linear_models.frozen_model(draw)
    return x, y, weights, offset, *linear_models.errors(y, x, weights, offset)


def test_the_best_invertible_adapter_has_the_error_of_the_closed_form() -> None:
    x, y, weights, offset, a, b = drawn()
    matrix = linear_models.best_decoding(a, b)
    column = b[:, 0]
    least = (np.square(a).sum() - np.square(column @ a).sum() / (column @ column)) / a.size
    assert linear_models.invertible_error(a, b, matrix) == pytest.approx(least)
    # The adapter itself: encode, forecast each channel by the frozen model, decode.
    latent = np.einsum("nld,lh->nhd", x @ np.linalg.inv(matrix), weights) + offset[:, None]
    assert np.square(y - latent @ matrix).mean() == pytest.approx(least)


def test_no_invertible_adapter_is_better() -> None:
    *_, a, b = drawn(1)
    matrix = linear_models.best_decoding(a, b)
    least, generator = linear_models.invertible_error(a, b, matrix), np.random.default_rng(0)
    for _ in range(20):
        other = matrix + 0.1 * generator.standard_normal(matrix.shape)
        assert linear_models.invertible_error(a, b, other) >= least
    # The channels are not mixed: matrices with the same column sums have the same error.
    shift = generator.standard_normal(matrix.shape)
    assert linear_models.invertible_error(a, b, matrix + shift - shift.mean(0)) == pytest.approx(least)


def test_the_closed_form_of_the_paper_has_rank_one() -> None:
    *_, a, b = drawn()
    values = np.linalg.svd(linear_models.paper_matrix(a, b), compute_uv=False)
    assert values[1] < 1e-6 * values[0]


def test_a_decoder_is_a_regression_and_ours_is_near_its_optimum() -> None:
    for draw in range(3):
        found = linear_models.compare(draw)
        least = found["least squares, train"]
        assert all(least <= found[f"{name}, train"] + 1e-9 for name in ("paper", "invertible", "ours"))
        assert least <= found["ours, train"] <= 1.01 * least
        assert found["invertible, train"] < 1 and found["frozen, train"] > 0


def test_the_table_of_linear_models() -> None:
    frame = pd.DataFrame([linear_models.compare(draw) for draw in range(2)]).assign(commit="abc1234")
    text = table.linear_models(frame)
    median = frame["ours, test"].median()
    (line,) = re.findall(r'^\| `Linear\(free="decoder"\)`.*$', text, flags=re.MULTILINE)
    assert f"| {median:.3f} [" in line and line.count("100 %") == 2
    assert "2 draws; commit abc1234." in text


# ---------------------------------------------------------------------------------------------------- scoring


def test_scores_are_those_of_a_backtest() -> None:
    values = rows()
    held = held_out(values)
    baseline = baseline_forecast("last value", Panel.of(values[:400]), 12, (L, H), 100)
    frame = held.scores("last value", baseline)
    known = score_table(
        {"last value": baseline(held.windows)}, held.windows.future(torch.float64), channels=["0", "1"],
        scale=values[:300].std(0), location=values[:300].mean(0), time=held.windows.time,
    )  # fmt: skip
    known = known.query("channel == 'all' and lead_block == 'all'").set_index("metric")["value"]
    found = frame.set_index("metric")["value"]
    for metric in METRICS:
        assert found[metric] == pytest.approx(known[metric]), metric
    assert found["crps_low"] < found["crps"] < found["crps_high"]
    assert held.windows.origin[0] == 400 and np.diff(held.windows.origin).tolist() == [5] * (len(held.windows) - 1)


def test_the_difference_to_itself_is_zero() -> None:
    held = held_out(rows())
    baseline = baseline_forecast("nlinear", Panel.of(rows()[:400]), 12, (L, H), 400)
    found = held.scores("nlinear", baseline, held.cells(baseline)["crps"]).set_index("metric")["value"]
    assert [found[f"crps_difference{end}"] for end in ("", "_low", "_high")] == [0.0, 0.0, 0.0]
    other = held.scores("nlinear", baseline, held.cells(baseline)["crps"] - 0.25).set_index("metric")["value"]
    assert other["crps_difference"] == pytest.approx(0.25)
    assert other["crps_difference_low"] == pytest.approx(0.25) == other["crps_difference_high"]


def test_the_seasonal_naive_looks_back_two_seasons() -> None:
    values = np.tile(np.arange(40.0), 15)[:, None] + np.zeros((1, 2))
    held = held_out(values, stride=7)
    baseline = baseline_forecast("seasonal naive", Panel.of(values[:400]), 40, (L, H), 300)
    assert held.scores("seasonal naive", baseline).set_index("metric")["value"]["mse"] == pytest.approx(0.0)


def test_no_job_begins_after_the_minutes(capsys: pytest.CaptureFixture[str]) -> None:
    jobs = [{"model": "a"}, {"model": "b"}]
    assert list(Jobs(jobs, minutes=60)) == jobs
    assert list(Jobs(jobs, minutes=-1)) == []
    assert "2 jobs are left for the next call" in capsys.readouterr().out


@pytest.mark.parametrize("name", NEURAL)
def test_forecasts_of_gluonts_have_no_units_and_no_gaps(name: str) -> None:
    values = rows()
    values[330:340, 0] = np.nan
    laws = []
    for factor, shift in ((1.0, 0.0), (100.0, 500.0)):
        scaled = values * factor + shift
        forecast, how = neural_forecast(name, scaled[:400], 300, (L, H), budget=Budget(60, epochs=2, batches=3))
        assert how == "2 epochs of 3 batches"
        laws.append((forecast(held_out(scaled).windows).marginals.values - shift) / factor)
    assert laws[0].shape == (19, H, 2, 23) and laws[0].isfinite().all()
    assert (laws[0].diff(dim=-1) >= 0).all()
    assert laws[1].numpy() == pytest.approx(laws[0].numpy(), abs=1e-3)


def test_training_ends_with_its_processor_seconds() -> None:
    _, how = neural_forecast("patchtst", rows()[:400], 300, (L, H), budget=Budget(0.0, epochs=50, batches=1))
    assert how == "1 epochs of 1 batches"


# ---------------------------------------------------------------------------------------------------- variants


@pytest.fixture(scope="module")
def dataset() -> Dataset:
    return Dataset("sines", Panel.of(rows(600)), borders=(400, 600), season_length=12)


def test_the_paper_s_variant_is_a_fit_without_gate_and_recalibration(dataset: Dataset) -> None:
    options: dict[str, Any] = {
        "foundation_model": tiny_chronos_bolt(), "prediction_length": H, "context_length": L, "max_windows": 60,
        "trainer_options": {"max_epochs": 2, "enable_progress_bar": False}, "posterior_draws": 3,
    }  # fmt: skip
    windows = held_out(rows(600), 400, 500).windows
    for family in ("linear", "dropout"):
        shipped = Adapter(family, **options).fit(dataset)
        alone = without_gate(shipped, dataset)
        direct = ungated(shipped).fit(dataset)
        for name, tensor in direct.fitted_.state().items():
            torch.testing.assert_close(alone.fitted_.state()[name], tensor, msg=name)
        found, known = (each.joint_distribution(windows).marginals.values for each in (alone, direct))
        assert torch.equal(found, known)
        assert alone.fitted_.gate is None and shipped.fitted_.gate is not None
        assert alone.fitted_.recalibration.maps is None and alone.fitted_.tails is None


def test_the_weak_model_is_always_the_same_and_probed_first(dataset: Dataset) -> None:
    build: Callable[..., Any] = weak_backbone.__wrapped__
    one, other = build(steps=2), build(steps=2)
    assert one.fingerprint() == other.fingerprint() != build(steps=3).fingerprint()
    assert one.untrained_head() is not None and one.context_length == 512
    more_rows = replace(dataset, borders=(300, 600))
    fitted = Adapter("identity", foundation_model=one, prediction_length=H, max_windows=200).fit(more_rows)
    losses = fitted.fitted_.decisions["probe"].figures
    assert losses["best"] < losses["before"]


# ---------------------------------------------------------------------------------------------------- the paper's run


def test_strides_share_no_factor_with_the_season() -> None:
    for cell in run.CELLS.values():
        assert math.gcd(cell.stride, load_card(cell.data)["season_length"]) == 1
    for name, setting in curves.SETTINGS.items():
        season = 24 if name == curves.WEATHER else load_card(name)["season_length"]
        assert math.gcd(setting.stride, season) == 1


def test_only_what_random_numbers_enter_has_several_seeds() -> None:
    jobs = run.jobs_of(["illness 24"], list(run.MODELS), list(run.SEEDS), "bolt-nano")
    several = {job["model"] for job in jobs if job["seed"] > 0}
    assert several == {"linear", "dropout", "linear vae", "vae"}
    assert len(jobs) == len(run.MODELS) + 2 * len(several)


def test_every_model_is_made() -> None:
    for model in (*run.OTHERS, *run.TRAINED):
        made = run.make(model, run.CELLS["weather 192"], tiny_chronos_bolt(), 3)
        assert (made.prediction_length, made.context_length, made.posterior_draws, made.seed) == (192, 512, 5, 3)
    assert {name for name, _ in run.BASELINES.values()} <= set(BASELINES)
    assert {cell.data for cell in run.CELLS.values()} <= set(cards())


@needs_data
def test_sentinels_are_left_in_or_missing() -> None:
    literal, missing = (run.series(run.CELLS[name]) for name in ("weather 96", "weather 96, missing values"))
    assert (literal.panel.items[0].values == -9999).sum() == 81 and not np.isnan(literal.panel.items[0].values).any()
    assert np.isnan(missing.panel.items[0].values).sum() == 81
    assert not literal.support and missing.support
    scales = [run.held_out(run.CELLS["weather 96"], data).scale[11] for data in (literal, missing)]  # of the wind
    assert scales == pytest.approx([52.1, 1.67], rel=0.01)


@needs_data
def test_a_cell_is_scored_after_its_train_and_validation_rows() -> None:
    cell = run.CELLS["illness 24"]
    data = run.series(cell)
    held = run.held_out(cell, data)
    assert held.windows.origin[0] == 773 == len(run.before_test(data).panel.items[0].values)
    assert held.windows.origin[-1] + 24 == 966 and len(held.windows) == 170
    train = read("illness").panel.items[0].values[:676]
    assert held.scale == pytest.approx(train.std(0))
    frame = run.score("illness 24", "last value", 0, "bolt-nano", windows=5)
    assert set(frame["metric"]) >= {*METRICS, "crps_low", "crps_high"}
    assert frame["windows"].unique().tolist() == [5] and frame["backbone"].unique().tolist() == ["bolt-nano"]


# ---------------------------------------------------------------------------------------------------- tables


def scored(cell: str, model: str, crps: float, variant: str = "", **more: Any) -> list[dict[str, Any]]:
    values = {"mse": 2 * crps, "mae": crps, "crps": crps, "pit_ece": 0.02, "pit_ece_floor": 0.01, "coverage_80": 0.79,
              "coverage_80_low": 0.75, "coverage_80_high": 0.83}  # fmt: skip
    about = {"cell": cell, "model": model, "variant": variant, "seed": 0, "backbone": "bolt-nano", "windows": 99,
             "stride": 7, "train": "", "note": "", "foundation_model": "bolt-nano 1.6", "gate_decision": "kept",
             "commit": "abc1234"}  # fmt: skip
    return [{**about, **more, "metric": metric, "value": value} for metric, value in values.items()]


@pytest.fixture
def scores(tmp_path: Path) -> pd.DataFrame:
    lines = []
    for cell, auto, linear in (("illness 24", 0.8, 0.88), ("exchange_rate 96", 0.066, 0.08)):
        lines += scored(cell, "frozen model", 1.25 * auto) + scored(cell, "NLinear", linear)
        lines += scored(cell, "auto", auto, run.SHIPPED) + scored(cell, "identity", 1.2 * auto, run.SHIPPED)
        lines += scored(cell, "residual", auto, run.SHIPPED) + scored(cell, "residual", 2 * auto, run.PAPER)
    for seed in (0, 1):
        for variant, crps in ((run.PAPER, 1.1 + 0.1 * seed), (run.SHIPPED, 0.9)):
            words = "trained; stopped by the time limit of 240 s" if seed else "trained"
            lines += scored("illness 24", "linear", crps, variant, seed=seed, train=words)
    weak = {"backbone": "patchtst", "foundation_model": "small PatchTST unknown"}
    for backbone, crps in ((weak, 2.0), ({}, 1.0)):
        lines += scored("etth1 96", "frozen model", crps, **backbone)
        lines += scored("etth1 96", "linear", 1.0, run.PAPER, **backbone)
    frame = not_scored("VAR", "too short\na series").assign(
        **{name: value for name, value in lines[0].items() if name not in ("model", "metric", "value", "note")}
    )
    pd.concat([pd.DataFrame(lines), frame]).to_csv(tmp_path / "scores.csv", index=False)
    return table.read_scores(tmp_path / "scores.csv")


def test_published_numbers_are_marked_and_least_of_their_kind(scores: pd.DataFrame) -> None:
    text = table.of_scores(scores)["mse"]
    head, _, _, illness, exchange, *_ = text.splitlines()
    assert head.startswith("| cell | MOMENT † | best adapter † | best linear † |")
    assert illness.startswith("| illness 24 | 2.902 | 2.461 | 1.683 |") and "| **1.600** |" in illness
    assert exchange.startswith("| exchange_rate 96 | 0.130 | 0.130 | 0.081 |")
    assert "illness 24 99 windows every 7 rows" in text and "the limit stopped 1 of 2 fits" in text
    assert "Zeng et al. (2023)" in text and "abc1234" in text


def test_no_published_number_where_the_scale_differs() -> None:
    published = pd.read_csv(table.HERE / "published.csv")
    assert table.least(published, "weather 96", table.ADAPTERS, "mse") == pytest.approx(0.156)
    assert math.isnan(table.least(published, "weather 96, missing values", table.ADAPTERS, "mse"))
    for cell in run.CELLS.values():
        own = published[(published["data"] == cell.data) & (published["prediction_length"] == cell.prediction_length)]
        assert {"MOMENT", *table.ADAPTERS} <= set(own["model"]) and own["source"].notna().all()


def test_variants_stand_beside_each_other_with_their_spread(scores: pd.DataFrame) -> None:
    texts = table.of_scores(scores)
    (line,) = re.findall(r"^\| illness 24 \| `linear` .*$", texts["families"], flags=re.MULTILINE)
    assert line.startswith("| illness 24 | `linear` | 2.624 | 2.300 ± 0.100 | 1.800 ± 0.000 | 1.150 ± 0.050 |")
    assert "| illness 24 | 1.000 | 0.960 | 0.800 / 1.600 |" in texts["closed"]
    assert "| illness 24 | NLinear | 0.880 | 0.020 (0.010) | 0.790 [0.750, 0.830] |" in texts["calibration"]
    assert texts["missing"] == "- illness 24, VAR: too short a series"


def test_the_bar_counts_cells(scores: pd.DataFrame) -> None:
    assert table.of_scores(scores)["bar"] == (
        "In 1 of 2 cells the MSE of `auto` is below the best published adapter, at most 1.02 times it. In 2 of 2 it is "
        "below NLinear of the same run; at worst it is -9.1 % from it (illness 24)."
    )


def test_cells_without_a_gate_are_named(scores: pd.DataFrame) -> None:
    scores.loc[(scores["cell"] == "illness 24") & (scores["model"] == "auto"), "gate_decision"] = "skipped"
    assert table.of_scores(scores)["gates"] == (
        "The gate of `auto` was left out for too few validation rows: illness 24. It opened in some channels: "
        "exchange_rate 96."
    )


def test_adapters_are_compared_with_their_own_frozen_model(scores: pd.DataFrame) -> None:
    texts = table.of_scores(scores)
    assert "(patchtst), the paper's families without gate change the CRPS by -50.0 % on average" in texts["verdict"]
    assert "| etth1 96 | patchtst | 4.000 | 2.000 |  | 0.500 |" in texts["weak"]
    assert "| etth1 96 | bolt-nano | 2.000 | 1.000 |  | 1.000 |" in texts["weak"]


# ---------------------------------------------------------------------------------------------------- learning curves


def curve(data: str, model: str, values: dict[int, float]) -> list[dict[str, Any]]:
    about = {"data": data, "model": model, "seed": 0, "prediction_length": 24, "context_length": 96, "windows": 99,
             "stride": 7, "foundation_model": "bolt-nano 1.6", "commit": "abc1234"}  # fmt: skip
    metrics = {"crps": 0.0, "crps_difference_low": -0.6, "crps_difference_high": -0.4, "coverage_80": 0.3,
               "coverage_80_low": 0.25, "coverage_80_high": 0.35}  # fmt: skip
    return [
        {**about, "rows": count, "metric": metric, "value": value + add}
        for count, value in values.items()
        for metric, add in metrics.items()
    ]


@pytest.fixture
def learned() -> pd.DataFrame:
    lines = curve("etth1", "frozen model", {0: 0.5}) + curve("etth1", "NLinear", {300: 0.8, 600: 0.4, 1200: 0.4})
    lines += curve("etth1", "auto", {300: 0.5, 600: 0.42, 1200: 0.36})
    return pd.DataFrame(lines)


def test_the_default_is_compared_with_the_better_one(learned: pd.DataFrame) -> None:
    assert curves_table.against_better(learned, "etth1").to_dict() == pytest.approx({300: 1.0, 600: 1.05, 1200: 0.9})
    assert curves_table.claim(learned) == (
        "- etth1: `auto` is below all of them from 1200 rows on; at worst +5.0 % from the best of them (600 rows), "
        "-2.5 % on average from 600 rows on."
    )


def test_curves_are_relative_to_the_frozen_model(learned: pd.DataFrame) -> None:
    texts = curves_table.tables(learned)
    (line,) = re.findall(r"^\| etth1 \| 600 .*$", texts["crps"], flags=re.MULTILINE)
    assert line.startswith("| etth1 | 600 | 0.500 | **0.800** [0.600, 1.000] |")  # 1 + (0.4 - 0.6) / 0.5
    assert "| 0.840 [0.640, 1.040] |" in line
    assert "| etth1 | 0 | 0.80 [0.75, 0.85] |" in texts["coverage"]
    assert texts["missing"] == "Every model that was run was fitted."


def test_the_picture_shows_every_set(learned: pd.DataFrame, tmp_path: Path) -> None:
    three = pd.concat([learned, *(learned.assign(data=name) for name in ("greensboro", "exchange_rate"))])
    curves_table.draw(three, tmp_path / "curves.png")
    curves_table.draw(three, tmp_path / "again.png")
    content = (tmp_path / "curves.png").read_bytes()
    assert content.startswith(b"\x89PNG") and content == (tmp_path / "again.png").read_bytes()
    one = tmp_path / "one.png"
    curves_table.draw(learned, one)
    width = [int.from_bytes(path.read_bytes()[16:20], "big") for path in (tmp_path / "curves.png", one)]
    assert width[0] == pytest.approx(1.5 * width[1], abs=2)  # a single panel leaves room for the names


def test_no_rows_are_identity_without_a_fit() -> None:
    values = rows()
    held = held_out(values)
    options: dict[str, Any] = {"foundation_model": tiny_chronos_bolt(), "prediction_length": H, "context_length": L}
    fitted = Adapter("identity", **options).fit(values[:300])
    frozen = fitted.zero_shot_distribution(held.windows[:3])
    for number, origin in enumerate(held.windows.origin[:3]):
        plain = Adapter("identity", **options).predict(values[origin - L : origin])
        found = plain.joint_distribution.marginals(0.9)[0].numpy()
        assert found == pytest.approx(frozen.marginals(0.9)[number].numpy(), rel=1e-4, abs=1e-4)


@needs_data
def test_histories_end_at_the_train_border() -> None:
    given = curves.series("exchange_rate")
    values = given.data.panel.items[0].values
    for count in curves.sizes(given.train):
        history = given.history(count)
        assert np.array_equal(history.panel.items[0].values, values[5311 - count : 5311]) and history.borders is None
    assert curves.sizes(given.train) == [300, 600, 1200, 2400, 4800, 5311]
    assert curves.sizes(1411) == [300, 600, 1200, 1411]
    assert given.held.windows.origin[0] == 6071
    jobs = curves.jobs_of("exchange_rate", ["frozen model", "NLinear"])
    assert [job["rows"] for job in jobs] == [0, *curves.sizes(given.train)]


@needs_data
def test_weather_is_taken_every_sixth_row() -> None:
    whole = read("weather")
    hourly = curves.every_sixth(whole)
    assert np.array_equal(hourly.panel.items[0].values, whole.panel.items[0].values[::6], equal_nan=True)
    assert hourly.panel.frequency == "h" and hourly.borders == (6147, 7026) and hourly.season_length == 24


@needs_data
def test_a_model_that_cannot_be_fitted_says_why() -> None:
    frame = curves.score("exchange_rate", 30, "residual", 0)
    assert frame["metric"].tolist() == ["crps"] and frame["value"].isna().all()
    assert "prediction_length=24" in frame["note"].iloc[0]


# ---------------------------------------------------------------------------------------------------- pages


@pytest.mark.parametrize(
    ("page", "script", "names"),
    [
        ("paper.md", "benchmarks/paper/table.py", None),
        ("learning_curves.md", "benchmarks/curves/table.py", ["claim", "crps", "coverage", "missing"]),
    ],
)
def test_pages_have_a_place_for_each_table(
    page: str, script: str, names: list[str] | None, scores: pd.DataFrame
) -> None:
    text = (pages.ROOT / "docs" / page).read_text()
    names = [*table.of_scores(scores), "linear_models"] if names is None else names
    for name in names:
        assert text.count(f"<!-- {name}: made by {script} -->\n") == 1
        assert text.count(f"\n<!-- /{name} -->") == 1
    assert sorted(re.findall(r"<!-- (\w+): made by", text)) == sorted(names)
