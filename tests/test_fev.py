r"""The benchmark of fev: local tasks, baselines in closed form, results in fev's format, and the page."""

from __future__ import annotations

import math
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as parquet
import pytest
import yaml

from adapts.data.cards import Dataset, read
from adapts.data.panel import Panel
from benchmarks.fev import naive, table, tasks

ROOT = Path(__file__).parents[1]


# ---------------------------------------------------------------------------------------------------- baselines


def test_the_naive_methods_are_exact_where_their_model_holds() -> None:
    season = np.tile([1.0, 5.0, 3.0], 20)
    point, deviation = naive.seasonal_naive(season, 7, 3)
    assert point.tolist() == [1, 5, 3, 1, 5, 3, 1] and not deviation.any()
    point, deviation = naive.drift(2.0 * np.arange(50) + 1, 4, 3)
    assert point == pytest.approx([101, 103, 105, 107]) and deviation == pytest.approx(0, abs=1e-9)
    point, deviation = naive.naive(np.array([0.0, 3.0, -1.0]), 3, 3)
    # Steps of 3 and -4: their root mean square times the root of the lead.
    assert point.tolist() == [-1, -1, -1] and deviation == pytest.approx(math.sqrt(12.5) * np.sqrt([1, 2, 3]))


def test_their_deviations_by_hand() -> None:
    values = np.array([0.0, 1.0, 2.0, 4.0, 2.0, 8.0])
    _, deviation = naive.seasonal_naive(values, 5, 2)
    assert deviation == pytest.approx(math.sqrt((4 + 9 + 0 + 16) / 4) * np.sqrt([1, 1, 2, 2, 3]))
    _, deviation = naive.drift(values, 2, 2)
    errors = np.diff(values) - 8 / 5
    steps = np.array([1, 2])
    assert deviation == pytest.approx(math.sqrt((errors**2).sum() / 4) * np.sqrt(steps * (1 + steps / 5)))


@pytest.mark.parametrize("method", [*naive.METHODS])
def test_they_cover_a_random_walk(method: str) -> None:
    rng, inside = np.random.default_rng(0), []
    for _ in range(3000):
        walk = rng.standard_normal(220).cumsum()
        low, high = naive.quantiles(*naive.METHODS[method](walk[:212], 8, 1), [0.1, 0.9]).T
        inside.append((low <= walk[212:]) & (walk[212:] <= high))
    assert np.mean(inside, axis=0) == pytest.approx(0.8, abs=0.03)


def test_gaps_and_long_or_short_series() -> None:
    assert naive.filled(np.array([np.nan, 2.0, np.nan, np.nan, 5.0])).tolist() == [0, 2, 2, 2, 5]
    assert naive.filled(np.arange(1500.0)).tolist() == list(range(500, 1500))
    for method in naive.METHODS.values():
        for rows in (1, 2):
            point, deviation = method(np.full(rows, 4.0), 3, 24)
            assert point.tolist() == [4, 4, 4] and deviation.tolist() == [0, 0, 0]
    normal = naive.quantiles(np.array([1.0]), np.array([2.0]), [0.1, 0.5, 0.9])
    assert normal == pytest.approx(np.array([[1 - 2.5631031, 1, 1 + 2.5631031]]))


# ---------------------------------------------------------------------------------------------------- tasks


def test_a_task_holds_the_rows_of_its_card(data_directory: Path, tmp_path: Path) -> None:
    definition = tasks.task_of("illness", 24, 4, tmp_path)
    data = read("illness")
    (row,) = parquet.read_table(tmp_path / "illness.parquet").to_pylist()
    assert row["id"].startswith("illness") and len(row["timestamp"]) == data.end == 966
    values = np.array([row[channel] for channel in definition["target"]]).T
    np.testing.assert_array_equal(values, data.panel.items[0].values[:966])
    assert list(pd.DatetimeIndex(row["timestamp"])) == list(data.panel.items[0].index[:966])
    assert definition["seasonality"] == 52 and definition["num_windows"] == 4
    # The first window begins with the test rows or later, the last one ends with them.
    first = 966 + definition["initial_cutoff"]
    assert data.borders is not None and first >= data.borders[1]
    assert definition["initial_cutoff"] + 3 * definition["window_step_size"] + 24 == 0


@pytest.mark.parametrize(
    ("windows", "expected"), [(1, (1, 73)), (4, (4, 25)), (5, (5, 19)), (20, (16, 5)), (500, (77, 1))]
)
def test_windows_are_spread_over_the_test_rows(windows: int, expected: tuple[int, int]) -> None:
    dates = pd.date_range("2024-01-01", periods=400, freq="h")
    data = Dataset("card", Panel.of(pd.DataFrame(np.zeros((400, 1)), dates)), borders=(200, 300), end=400)
    number, stride = tasks.windows_of(data, 24, windows)
    assert (number, stride) == expected
    assert (number - 1) * stride + 24 <= 100 and math.gcd(stride, 24) == 1


# ---------------------------------------------------------------------------------------------------- the page


def scores() -> pd.DataFrame:
    rows = []
    for task, sql in (("a", (0.5, 0.4)), ("b", (1.0, 1.5))):
        for model, value in zip(("seasonal_naive", "adapts"), sql, strict=True):
            about = {"horizon": 24, "num_windows": 4, "window_step_size": 25, "threads": 1,
                     "fev": "0.10.0", "datasets": "4.8.5", "time_limit": 60.0,
                     "adapts": "0.1.0", "torch": "2.13.0", "commit": "abc1234", "seed": 0}  # fmt: skip
            rows += [{"task": task, "model": model, "metric": metric, "value": value + number, **about}
                     for number, metric in enumerate(table.METRICS)]  # fmt: skip
    return pd.DataFrame(rows)


def test_the_table_of_scores() -> None:
    text = table.table(scores())
    assert "| a | adapts | **0.400** | **1.400** | **2.400** |" in text
    assert "| b | seasonal_naive | **1.000** | **2.000** | **3.000** |" in text
    assert "a 4 windows every 25 rows, b 4 windows every 25 rows; at most 60 s a fit" in text
    assert "fev 0.10.0" in text and "commit abc1234" in text


def test_the_table_of_skill_scores() -> None:
    row = {"model": "adapts", "metric": "fev_sql", "skill_score": 0.123, "skill_score_lower": -0.05,
           "skill_score_upper": 0.2, "win_rate": 0.5, "win_rate_lower": 0.0, "win_rate_upper": 1.0}  # fmt: skip
    text = table.leaderboard(pd.DataFrame([row]), 2)
    assert "| SQL | adapts | 12.3 [-5.0, 20.0] | 50.0 [0.0, 100.0] |" in text
    assert "2 tasks. Intervals over so few tasks say little." in text


def test_the_page_holds_the_stored_figures() -> None:
    page = (ROOT / "docs" / "fev.md").read_text(encoding="utf-8")
    stored = pd.read_csv(table.HERE / "scores.csv")
    board = pd.read_csv(table.HERE / "leaderboard.csv")
    assert table.table(stored) in page
    assert table.leaderboard(board, stored["task"].nunique()) in page
    for task, rows in stored.groupby("task"):
        assert set(rows["metric"]) == set(table.METRICS) and rows["value"].notna().all(), task
    names = {path.stem for path in (table.HERE / "results").glob("*.csv")}
    assert names == set(stored["model"]) == set(board["model"])


def test_results_have_the_format_of_fev() -> None:
    defined = yaml.safe_load((table.HERE / "tasks.yaml").read_text(encoding="utf-8"))["tasks"]
    stored = pd.read_csv(table.HERE / "scores.csv").set_index(["model", "task", "metric"])["value"]
    for path in (table.HERE / "results").glob("*.csv"):
        frame = pd.read_csv(path)
        assert set(frame["model_name"]) == {path.stem}
        assert set(frame["task_name"]) == {task["task_name"] for task in defined}
        assert (frame["test_error"] == frame["SQL"]).all()  # the metric of the board
        for row in frame.itertuples(index=False):
            values = [stored[path.stem, row.task_name, metric] for metric in table.METRICS]
            assert values == [row.SQL, row.MASE, row.WQL]


# ---------------------------------------------------------------------------------------------------- fev itself


def test_a_run_with_fev(data_directory: Path, tmp_path: Path) -> None:
    pytest.importorskip("fev", reason="fev is installed into a folder of its own, see benchmarks/fev/run.py")
    paths = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    code = (
        "from benchmarks.fev import run, naive; import sys\n"
        "run.models = lambda limit: {m: run.NaiveModel(m) for m in naive.METHODS} "
        "| {'bolt-nano': run.AdaptsModel('zero-shot')}\n"
        "sys.argv = ['run', 'illness', '--windows', '1', '--output', 'out']\n"
        "run.main()"
    )
    for _ in range(2):  # the second time nothing is computed
        done = subprocess.run(
            [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True,
            env={**os.environ, "PYTHONPATH": paths},
        )  # fmt: skip
        assert not done.returncode, done.stderr
    assert not re.search(r"^illness", done.stdout, flags=re.MULTILINE)
    frame = pd.read_csv(tmp_path / "out" / "scores.csv").set_index(["model", "metric"])["value"]
    # fev's SQL, MASE and WQL of the seasonal naive by hand, as the means over channels.
    values = read("illness").panel.items[0].values[:966]
    past, future = values[:-24], values[-24:]
    naive_error = np.abs(past[52:] - past[:-52]).mean(0)
    point = past[-52:][:24]
    assert frame["seasonal_naive", "fev_mase"] == pytest.approx((np.abs(future - point).mean(0) / naive_error).mean())
    recent = past[-1000:]
    deviation = np.sqrt(np.square(recent[52:] - recent[:-52]).mean(0))
    losses = []
    for level in tasks.LEVELS:
        error = future - naive.quantiles(point.ravel(), np.tile(deviation, 24), [level])[:, 0].reshape(24, 7)
        losses.append(2 * np.maximum(level * error, (level - 1) * error).mean(0))
    loss = np.mean(losses, axis=0)
    assert frame["seasonal_naive", "fev_sql"] == pytest.approx((loss / naive_error).mean())
    assert frame["seasonal_naive", "fev_wql"] == pytest.approx((loss / np.abs(future).mean(0)).mean())
    board = pd.read_csv(tmp_path / "out" / "leaderboard.csv").query("metric == 'fev_sql'").set_index("model")
    skill = 1 - frame["bolt-nano", "fev_sql"] / frame["seasonal_naive", "fev_sql"]
    assert board.loc["bolt-nano", "skill_score"] == pytest.approx(skill)
