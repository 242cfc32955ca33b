r"""Benchmarks of coupled channels: processes whose law is known, and tables made of CSV files."""

from __future__ import annotations

import math
import os
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from adapts.data.panel import Panel
from adapts.data.windows import Windows
from adapts.evaluation.scores import crps_fair
from benchmarks import pages
from benchmarks.coupled import ablations, run, seconds, simulated, table
from benchmarks.coupled.processes import PROCESSES, Autoregression, Law, lead_lag, river, sinusoids, tensor

H = 24


def small(positive: bool = False) -> Autoregression:
    r"""A driver, and a channel that follows it three rows later."""
    return Autoregression({(1, 0, 3): 0.5}, np.array([0.8, 0.4]), np.array([1.0, 0.3]), np.array([2.0, -1.0]), positive)


def windows_of(values: np.ndarray, origins: np.ndarray, horizon: int) -> Windows:
    return Windows(Panel.of(values), np.zeros(len(origins), dtype=int), origins, 8, horizon)


# ---------------------------------------------------------------------------------------------------- processes


def test_the_law_of_an_autoregression_is_its_closed_form() -> None:
    process = small()
    drawn = process.simulate(60, seed=0)
    origins, steps = np.array([30, 41]), np.arange(1, 7)
    law = drawn.law(origins, 6)
    last = drawn.values[origins - 1] - process.level  # (n, D)
    driver = process.level[0] + 0.8**steps * last[:, :1]  # (n, H)
    np.testing.assert_allclose(law.mean[..., 0], driver)
    variance = (1 - 0.8 ** (2 * steps)) / (1 - 0.8**2)
    np.testing.assert_allclose(law.deviation[:, 0] ** 2, variance)
    np.testing.assert_allclose(law.covariance[1, 0, 4, 0], 0.8**3 * variance[1])
    # Up to three steps ahead, what the second channel follows has been observed: only its own noise is left.
    known = np.stack([drawn.values[origin - 3 : origin, 0] for origin in origins]) - process.level[0]
    noise = last[:, 1] - 0.5 * (drawn.values[origins - 4, 0] - process.level[0])
    follower = process.level[1] + 0.5 * known + 0.4 ** steps[:3] * noise[:, None]
    np.testing.assert_allclose(law.mean[:, :3, 1], follower)
    own = 0.3**2 * (1 - 0.4 ** (2 * steps)) / (1 - 0.4**2)
    np.testing.assert_allclose(law.deviation[:3, 1] ** 2, own[:3])
    np.testing.assert_allclose(law.covariance[3, 1, 0, 0], 0.5 * 1.0)  # the shock of step 1 arrives at step 4
    np.testing.assert_allclose(law.deviation[3, 1] ** 2, own[3] + 0.5**2)


@pytest.mark.parametrize("process", [lead_lag(), river()], ids=["lead-lag VAR", "river"])
def test_processes_are_stationary_and_their_lags_end_within_the_horizon(process: Autoregression) -> None:
    assert np.abs(np.linalg.eigvals(process.companion)).max() == pytest.approx(process.persistence.max(), abs=1e-6)
    assert max(lag for _, _, lag in process.follows) <= H


def test_channels_of_the_lead_lag_process_have_variance_one() -> None:
    _, covariance = lead_lag().moments(100)
    np.testing.assert_allclose(covariance[-1, :, -1].diagonal(), 1.0, atol=1e-9)


@pytest.mark.parametrize("name", [*PROCESSES])
def test_the_oracle_is_calibrated(name: str) -> None:
    drawn = PROCESSES[name](2500, 0)
    assert drawn.values.shape == (2500, 8) and np.isfinite(drawn.values).all()
    origins = np.arange(100, 2476, 24)
    law = drawn.law(origins, H)
    truth = np.stack([drawn.values[origin : origin + H] for origin in origins])
    pit = law.pit(truth)
    assert ((pit > 0.1) & (pit < 0.9)).mean() == pytest.approx(0.8, abs=0.02)
    assert np.sort(pit.ravel())[:: pit.size // 20] == pytest.approx(np.linspace(0, 1, 21), abs=0.03)


def test_the_river_is_positive() -> None:
    assert PROCESSES["river"](3000, 1).values.min() > 0


def test_a_seed_determines_the_rows() -> None:
    for process in PROCESSES.values():
        np.testing.assert_array_equal(process(50, 3).values, process(50, 3).values)
        assert not np.array_equal(process(50, 3).values, process(50, 4).values)


def test_sinusoids_have_the_stated_noise() -> None:
    drawn = sinusoids(4000, seed=0)
    law = drawn.law(np.arange(0, 4000 - H, H), H)
    truth = np.stack([drawn.values[origin : origin + H] for origin in range(0, 4000 - H, H)])
    assert (truth - law.mean).std() == pytest.approx(0.3, rel=0.01)
    assert drawn.values.var(0) == pytest.approx(1 + 0.3**2, rel=0.1)


# ---------------------------------------------------------------------------------------------------- laws


@pytest.mark.parametrize("positive", [False, True], ids=["normal", "log-normal"])
def test_the_crps_of_a_law_is_that_of_its_draws(positive: bool) -> None:
    drawn = small(positive).simulate(60, seed=1)
    origins = np.arange(30, 50, 4)
    law = drawn.law(origins, 5)
    truth = np.stack([drawn.values[origin : origin + 5] for origin in origins])
    closed = law.crps(truth)
    estimate = crps_fair(tensor(law.sample(8000, seed=0)), tensor(truth)).numpy()
    np.testing.assert_allclose(closed, estimate, atol=0.03 * law.sample(2000, seed=1).std(0).max())
    assert closed.mean() == pytest.approx(estimate.mean(), rel=0.01)


def test_the_crps_of_a_normal_law_at_its_mean() -> None:
    law = Law(np.zeros((1, 1, 1)), np.full((1, 1, 1, 1), 4.0), positive=False)
    assert law.crps(np.zeros((1, 1, 1))).item() == pytest.approx(2 * (math.sqrt(2 / math.pi) - 1 / math.sqrt(math.pi)))


@pytest.mark.parametrize("positive", [False, True], ids=["normal", "log-normal"])
def test_draws_of_a_law_have_its_moments_and_quantiles(positive: bool) -> None:
    law = small(positive).simulate(60, seed=1).law(np.array([40]), 5)
    draws = law.sample(40_000, seed=0)
    assert draws.mean(0) == pytest.approx(law.expectation(), rel=0.05, abs=0.03)
    levels = np.array([0.1, 0.5, 0.9])
    assert law.pit(law.quantiles(levels)[..., 2]) == pytest.approx(0.9)
    below = (draws[..., None] < law.quantiles(levels)).mean(0)
    assert below == pytest.approx(np.broadcast_to(levels, below.shape), abs=0.01)
    normal = (np.log(draws) if positive else draws).reshape(len(draws), -1)
    assert np.cov(normal.T) == pytest.approx(law.covariance.reshape(10, 10), abs=0.06)


def test_scores_of_the_oracle_are_divided_by_the_scale() -> None:
    drawn = small().simulate(400, seed=2)
    windows = windows_of(drawn.values, np.arange(50, 390, 6), 6)
    law = drawn.law(windows.origin, 6)
    location, scale = np.zeros(2), np.array([2.0, 0.5])
    found = simulated.oracle_scores(law, windows, location, scale)
    truth = windows.future(torch.float64).numpy()
    np.testing.assert_allclose(found["crps"].numpy(), law.crps(truth) / scale)
    np.testing.assert_allclose(found["mse"].numpy(), (law.mean - truth) ** 2 / scale**2)
    np.testing.assert_allclose(found["width_80"][0].numpy(), 2 * 1.2815516 * law.deviation / scale, rtol=1e-5)
    # One step ahead the law has the deviations of the shocks; the expected CRPS is a deviation over the root of pi.
    first = found["crps"][:, 0].mean(0).numpy() * scale
    assert first == pytest.approx(np.array([1.0, 0.3]) / math.sqrt(math.pi), rel=0.25)


# ---------------------------------------------------------------------------------------------------- scores


def test_the_interval_of_the_coverage() -> None:
    values = np.zeros((4000, 2))
    windows = windows_of(values, np.arange(100, 3900, 12), 12)
    inside = torch.full((len(windows), 12, 2), 0.8)
    assert run.coverage_interval(inside, windows) == pytest.approx((0.8, 0.8))
    generator, low, high = torch.Generator().manual_seed(0), [], []
    for _ in range(200):  # windows that are covered as a whole or not at all
        whole = (torch.rand(len(windows), 1, 1, generator=generator) < 0.8).float().expand(-1, 12, 2)
        bounds = run.coverage_interval(whole, windows)
        low.append(bounds[0])
        high.append(bounds[1])
    assert np.mean((np.array(low) < 0.8) & (np.array(high) > 0.8)) == pytest.approx(0.9, abs=0.06)
    half = np.mean(np.array(high) - np.array(low)) / 2
    assert half == pytest.approx(1.645 * math.sqrt(0.16 / len(windows)), rel=0.2)
    assert all(map(math.isnan, run.coverage_interval(inside[:2], windows[:2])))


def test_what_a_file_holds_is_not_computed_again(tmp_path: Path) -> None:
    jobs = [{"data": "a", "model": model, "seed": seed} for seed in (0, 1) for model in ("identity", "residual")]
    computed = []

    def compute(data: str, model: str, seed: int) -> pd.DataFrame:
        computed.append((model, seed))
        return pd.DataFrame(
            [{"model": name, "metric": "crps", "value": 0.5, "fit_seconds": 1.0, "data": data, "seed": seed}
             for name in (model, "last value")]
        )  # fmt: skip

    run.resumed(tmp_path / "scores.csv", jobs[:3], compute)
    run.resumed(tmp_path / "scores.csv", jobs, compute)
    assert computed == [("identity", 0), ("residual", 0), ("identity", 1), ("residual", 1)]
    assert len(pd.read_csv(tmp_path / "scores.csv")) == 8


def test_a_small_run_holds_oracle_baselines_and_intervals(tmp_path: Path) -> None:
    setting = run.Setting(prediction_length=8, context_length=32, stride=3)
    frame = simulated.score("river", 300, run.MODELS[0], 0, setting, origins=30)
    crps = frame.query("metric == 'crps' and lead_block == 'all'").set_index("model")["value"]
    assert list(crps.index) == [run.MODELS[0], *simulated.BASELINES, simulated.ORACLE]
    assert crps.idxmin() == simulated.ORACLE
    metrics = frame.query("lead_block == 'all'").pivot(index="metric", columns="model", values="value")
    assert (metrics.loc["coverage_80_low"] < metrics.loc["coverage_80"]).all()
    assert (metrics.loc["coverage_80"] < metrics.loc["coverage_80_high"]).all()
    for name in ("wql", "mse", "pit_ece", "energy_score", "variogram_channels", "variogram_time"):
        assert metrics.loc[name].notna().all()
    assert frame.query("model == 'identity'")[["fit_seconds", "predict_seconds"]].notna().all(axis=None)
    assert frame.query("model != 'identity'")[["fit_seconds", "predict_seconds"]].isna().all(axis=None)
    assert not frame[["windows", "rows", "seed", "prediction_length"]].isna().any(axis=None)
    frame.to_csv(tmp_path / "simulated.csv", index=False)
    text = table.known(pd.read_csv(tmp_path / "simulated.csv"))
    assert f"| river | 300 | {crps['identity']:.3f} | {crps['oracle']:.3f} |" in text


# ---------------------------------------------------------------------------------------------------- tables


def rows_of(data: str, seed: int, model: str, crps: float, **more: object) -> list[dict[str, object]]:
    metrics = {"crps": crps, "wql": crps, "mse": crps**2, "coverage_80": 0.79, "coverage_80_low": 0.75,
               "coverage_80_high": 0.83, "pit_ece": 0.02, "pit_ece_floor": 0.01, "energy_score": crps,
               "variogram_channels": crps, "variogram_time": crps}  # fmt: skip
    own = model in run.MODELS
    about = {"data": data, "seed": seed, "model": model, "prediction_length": 24, "windows": 150, "stride": 7,
             "fit_seconds": 12.0 if own else np.nan, "predict_seconds": 0.25 if own else np.nan,
             "foundation_model": "bolt-nano 1.6", "commit": "abc1234"}  # fmt: skip
    return [{**about, **more, "metric": metric, "value": value} for metric, value in metrics.items()]


@pytest.fixture
def scores(tmp_path: Path) -> pd.DataFrame:
    last = run.MODELS[-1]
    lines = []
    for seed in (0, 1):
        lines += rows_of("los_loop", seed, "identity", 0.5) + rows_of("los_loop", seed, last, 0.39 + 0.02 * seed)
        lines += rows_of("los_loop", seed, "residual", 0.45)
        lines += rows_of("etth1", seed, "identity", 0.2) + rows_of("etth1", seed, last, 0.202)
    lines += rows_of("los_loop", 0, "seasonal naive", 1.5)
    pd.DataFrame(lines).to_csv(tmp_path / "scores.csv", index=False)
    return pd.read_csv(tmp_path / "scores.csv")


def test_the_table_of_the_readme(scores: pd.DataFrame, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    begin = "<!-- {}: made by benchmarks/coupled/table.py -->\n"
    page = "\n".join(f"{begin.format(name)}\n<!-- /{name} -->" for name in ("claim", "coupled"))
    (tmp_path / "benchmarks" / "coupled").mkdir(parents=True)
    (tmp_path / "README.md").write_text(f"# adapts\n\n{page}\n")
    monkeypatch.setattr(pages, "ROOT", tmp_path)
    for _ in range(2):  # the second time over what the first one wrote
        pages.write("README.md", str(tmp_path / "benchmarks" / "coupled" / "table.py"), table.readme(scores))
    text = (tmp_path / "README.md").read_text()
    last = run.MODELS[-1]
    assert (
        f"On 2 real data sets (2 seeds), `{last}` changes the CRPS of the frozen model with the same calibration by "
        "-9.5 % on average, -20.0 % at best (los_loop) and +1.0 % at worst (etth1)."
    ) in text
    (line,) = re.findall(r"^\| los_loop .*$", text, flags=re.MULTILINE)
    cells = [cell.strip() for cell in line.strip("|").split("|")]
    heads = ["identity", *table.ADAPTERS, *run.BASELINES]
    found = dict(zip(heads, cells[2:], strict=True))
    assert found["identity"] == "0.500 ± 0.000" and found["residual"] == "0.900 ± 0.000"
    assert found[last] == "**0.800 ± 0.020**"
    assert found["seasonal naive"] == "3.000" and found["nlinear"] == ""
    assert "**" not in re.findall(r"^\| etth1 .*$", text, flags=re.MULTILINE)[0]  # no adapter gains
    assert text.count("| los_loop ") == 1 and "commit abc1234" in text


def test_tables_hold_every_model_and_skip_none(scores: pd.DataFrame) -> None:
    last = run.MODELS[-1]
    assert f"| los_loop | {last} | 0.790 [0.750, 0.830] | 0.020 (0.010) | 0.800 ± 0.020 |" in table.calibration(scores)
    assert "| los_loop | seasonal naive | -200.0 | -200.0 | -200.0 |" in table.joint(scores)
    assert f"| los_loop | {last} | 20.0 ± 2.0 |" in table.joint(scores)


TAKEN = {
    "data": "etth1", "model": "identity", "rows": 11520, "channels": 7, "prediction_length": 96, "threads": 1,
    "fit_seconds": 12.4, "predict_seconds": 0.251, "peak_gigabytes": 1.04, "commit": "abc1234",
}  # fmt: skip


def test_seconds_and_gigabytes_of_each_fit() -> None:
    assert "| etth1 | 11520 | 7 | 96 | 12 / 0.25 / 1.0 |  |  |  |" in table.seconds(pd.DataFrame([TAKEN]))


@pytest.mark.skipif("ADAPTS_DATA" not in os.environ, reason="ADAPTS_DATA names no folder of data sets")
@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="only Linux tells the peak of memory anew")
def test_a_fit_is_timed_on_the_rows_before_the_test_rows() -> None:
    row = seconds.timed("illness", "identity").iloc[0]
    panel, _, origins = run.series("illness")
    assert row["rows"] == panel.lengths[0] - (origins - 1) - 24
    assert row["fit_seconds"] > 0 and row["peak_gigabytes"] > 0


def test_wide_channels_follow_common_factors() -> None:
    panel = seconds.wide(channels=20, rows=400)
    values = panel.items[0].values
    assert values.shape == (400, 20)
    assert np.abs(np.corrcoef(values.T)).mean() > 0.2  # independent channels: near 0.05 + 1 / 20


def test_shares_of_the_attainable_gain() -> None:
    last, lines = run.MODELS[-1], []
    for seed in (0, 1):
        for block in ("all", "1-6", "7-12"):
            more = {"rows": 4000, "lead_block": block}
            for model, crps in (("identity", 0.6), (last, 0.44), ("oracle", 0.4), ("var", 0.7)):
                lines += [row for row in rows_of("river", seed, model, crps, **more) if row["metric"] == "crps"]
    frame = pd.DataFrame(lines)
    assert "| river | 4000 | 0.600 ± 0.000 | 0.400 ± 0.000 |" in (text := table.known(frame))
    assert "80 ± 0 % (0.733)" in text and "-50 ± 0 % (1.167)" in text
    assert f"| river | 4000 | {last} | 80 % | 80 % |" in table.leads(frame)


def test_each_number_of_windows_has_its_gain_and_its_seconds() -> None:
    lines = []
    for count, crps in ((250, 0.5), (1000, 0.4)):
        lines += rows_of("los_loop", 0, "identity", 0.5, max_windows=count)
        lines += rows_of("los_loop", 0, "residual", crps - 0.1, max_windows=count)
    text = table.by_max_windows(pd.DataFrame(lines))
    assert "| data | family | 250 | 1000 |" in text
    assert "| los_loop | residual | 0.800 / 12 s | 0.600 / 12 s |" in text


def frames(scores: pd.DataFrame) -> dict[str, pd.DataFrame]:
    r"""A file of each part of the tables."""
    lines = []
    for model, crps in (("identity", 0.6), (run.MODELS[-1], 0.5), ("oracle", 0.4)):
        for block in ("all", "1-6"):
            lines += rows_of("river", 0, model, crps, rows=300, lead_block=block)
    options = rows_of("los_loop", 0, run.MODELS[-1], 0.5, options="default", chosen="{}")
    variants = scores[scores["model"].isin(["identity", run.MODELS[-1]])].query("seed == 0")
    variants = variants.assign(variant=variants["model"].replace(run.MODELS[-1], "attention"))
    earlier = variants.assign(data=variants["data"] + ablations.BEFORE)
    return {
        "scores": scores,
        "seconds": pd.DataFrame([TAKEN]),
        "simulated": pd.DataFrame(lines).query("metric == 'crps'"),
        "ablations": pd.concat([variants, earlier], ignore_index=True),
        "max_windows": scores.query("seed == 0").assign(max_windows=500),
        "tuned": pd.DataFrame(options),
    }


def test_variants_are_relative_to_the_first_of_them(scores: pd.DataFrame) -> None:
    found = frames(scores)["ablations"].query("data == 'los_loop'")
    assert found["variant"].iloc[0] == "identity"
    values = found[found["metric"] == "crps"].set_index("variant")["value"]
    assert f"| attention | {values['attention'] / values['identity']:.3f} |" in table.ablations(found)


def test_the_page_of_the_docs_has_a_place_for_each_table(scores: pd.DataFrame) -> None:
    text = (pages.ROOT / "docs" / "coupled.md").read_text()
    names = [name for part, frame in frames(scores).items() for name in table.PARTS[part](frame)]
    assert len(names) == len(set(names))
    for name in names:
        assert text.count(f"<!-- {name}: made by benchmarks/coupled/table.py -->\n") == 1
        assert text.count(f"\n<!-- /{name} -->") == 1
    assert sorted(re.findall(r"<!-- (\w+): made by", text)) == sorted(names)
