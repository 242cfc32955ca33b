r"""`adapts backtest`: one table of models and baselines, what it writes, and that it goes on where it stopped."""

import json

import pandas as pd
import pytest
from cli_files import H, run, series

from adapts import Adapter
from adapts.adapters import Residual
from adapts.cli.backtest import WRITTEN
from adapts.data.cards import read
from adapts.evaluation.backtest import roll


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("backtest")
    series().to_csv(folder / "series.csv")
    (folder / "short.yaml").write_text("family: residual\noptions: {lags: 2}\n")
    return folder


def backtest(folder, *options):
    quick = ["--prediction-length", H, "--context-length", 48, "--num-samples", 10]
    return run("backtest", folder / "series.csv", *quick, *options)


@pytest.fixture(scope="module")
def finished(folder):
    models = ["--family", "identity", "--recipe", folder / "short.yaml", "--baselines", "frozen-model, drift"]
    result = backtest(folder, *models, "--windows", 6, "--stride", 5, "--output", folder / "scores")
    assert result.exit_code == 0, result.stderr
    return folder / "scores", result


def test_one_table_with_differences(finished):
    output, result = finished
    header, *rows = result.stdout.splitlines()
    assert header.split() == "MSE MAE CRPS 80 % coverage 80 % width PIT-ECE (floor) CRPS v. frozen model".split()
    assert [row[:12].strip() for row in rows[:4]] == ["identity", "short", "frozen model", "drift"]
    assert "[" in rows[3] and "[" not in rows[2]  # an interval for all but the one compared to
    assert rows[4].startswith(f"6 windows of {H} steps held back, from 2024-03-14 15:00:00 on")
    assert rows[-1] == f"Written: {', '.join(str(output / name) for name in WRITTEN)}"


def test_the_scores_are_those_of_python(finished, folder):
    output, _ = finished
    assert sorted(path.name for path in output.iterdir()) == sorted(WRITTEN)
    scores = pd.read_csv(output / "scores.csv", float_precision="round_trip")
    options = {"prediction_length": H, "context_length": 48}
    models = {"identity": Adapter("identity", **options), "short": Adapter(Residual(lags=2), **options)}
    given = {"windows": 6, "stride": 5, "num_samples": 10, "baselines": ["frozen model", "drift"]}
    expected = roll(models, read(folder / "series.csv"), **given)
    pd.testing.assert_frame_equal(scores, expected.frame, check_exact=True)


def test_the_report_tells_what_was_done(finished):
    output, result = finished
    report = json.loads((output / "scores.json").read_text())
    assert report["settings"]["windows"] == 6 and report["settings"]["family"] == ["identity"]
    assert report["held_back"]["windows"] == 6 and report["held_back"]["stride"] == 5
    assert len(report["data"]["sha256"]) == 64 and report["versions"]["foundation_model"]["name"] == "bolt-nano"
    crps = report["scores"]["drift"]["all"]["all"]["crps"]
    assert f"{crps:.3f}" in result.stdout.splitlines()[4]
    rows = [row for row in report["differences"] if row["channel"] == "all" and row["metric"] == "crps"]
    assert {row["model"] for row in rows} == {"identity", "short", "drift"}
    frozen = report["scores"]["frozen model"]["all"]["all"]["crps"]
    drift = next(row for row in rows if row["model"] == "drift")
    assert drift["difference"] == pytest.approx(crps - frozen) and drift["low"] < drift["difference"] < drift["high"]


def test_pictures(finished):
    output, _ = finished
    for name in ("scores_by_lead.png", "reliability.png"):
        assert (output / name).read_bytes().startswith(b"\x89PNG") and (output / name).stat().st_size > 15_000


def test_the_default_family_and_the_usual_baselines_unless_told(folder):
    result = backtest(folder, "--windows", 2, "--quiet")
    _, *rows = result.stdout.splitlines()
    assert [row[:14].strip() for row in rows] == ["auto", "frozen model", "last value", "seasonal naive"]


def test_without_an_output_nothing_is_written(folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = backtest(folder, "--family", "identity", "--baselines", "none", "--windows", 3, "--json")
    printed = json.loads(result.stdout)
    assert result.exit_code == 0 and result.stderr == "" and list(tmp_path.iterdir()) == []
    assert printed["written"] == [] and list(printed["scores"]) == ["identity"] and printed["differences"] == []


def test_scale_and_units(folder):
    given = ["--family", "identity", "--windows", 3, "--baselines", "none", "--json"]
    divided, plain = (json.loads(backtest(folder, *given, "--scale", scale).stdout) for scale in ("train", "none"))
    ratio = {
        channel: plain["scores"]["identity"][channel]["all"]["mae"]
        / divided["scores"]["identity"][channel]["all"]["mae"]
        for channel in "abc"
    }
    assert ratio["b"] / ratio["a"] == pytest.approx(10, rel=0.2) and ratio["c"] / ratio["a"] == pytest.approx(
        100, rel=0.2
    )


def test_refit_and_what_is_finished_is_kept(folder, tmp_path):
    given = ["--windows", 3, "--stride", 40, "--baselines", "none", "--refit", "--checkpoint-dir", tmp_path / "kept"]
    first = backtest(folder, *given, "--output", tmp_path / "first", "--quiet")
    assert first.exit_code == 0, first.stderr
    assert any((tmp_path / "kept").iterdir())
    again = backtest(folder, *given, "--output", tmp_path / "again", "--quiet")
    assert again.stdout == first.stdout and len(first.stdout.splitlines()) == 2
    for name in ("scores.csv", "scores.json"):
        assert (tmp_path / "first" / name).read_bytes() == (tmp_path / "again" / name).read_bytes()
    other = backtest(folder, *given, "--seed", 1)
    assert other.exit_code == 2 and "kept" in other.stderr
