r"""The command line: what a run writes and prints, that it repeats, and one line for every mistake."""

import json
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

import adapts
from adapts import Adapter
from adapts.cli import WRITTEN, app
from adapts.shelf import cards, recipes

H = 8


def run(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def forecast(data, output, *options, horizon=H):
    r"""Runs the main job with a context short enough to be quick."""
    quick = ["--prediction-length", horizon, "--context-length", 48]
    return run("forecast", data, "--output", output, *quick, *options)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    r"""A folder with one CSV: three channels that share a day, hourly, with a gap in one."""
    folder = tmp_path_factory.mktemp("cli")
    hours = np.arange(360)
    values = np.sin(2 * np.pi * hours[:, None] / 24 + np.arange(3)) * [1, 10, 100]
    values += np.random.default_rng(0).standard_normal(values.shape) * [0.1, 1, 10]
    values[100:104, 1] = np.nan
    index = pd.date_range("2024-03-01", periods=360, freq="h", name="date")
    pd.DataFrame(values, index, ["a", "b", "c"]).to_csv(folder / "series.csv")
    return folder


@pytest.fixture(scope="module")
def finished(folder):
    result = forecast(folder / "series.csv", folder / "run")
    assert result.exit_code == 0, result.stderr
    return folder / "run", result


class TestForecast:
    def test_writes_all_and_nothing_else(self, finished):
        output, _ = finished
        assert sorted(path.name for path in output.iterdir()) == sorted(WRITTEN)
        assert not [path for path in output.parent.iterdir() if path.name.startswith(".")]

    def test_prints_one_table(self, finished):
        output, result = finished
        header, *rows = result.stdout.splitlines()
        assert header.split() == "MSE MAE CRPS 80 % coverage 80 % width PIT-ECE (floor)".split()
        assert [row[:14].strip() for row in rows[:4]] == ["adapter", "frozen model", "last value", "seasonal naive"]
        assert f"Written: {output / 'forecast.csv'}" in rows[-1]

    def test_the_csv_is_the_forecast(self, finished):
        output, _ = finished
        table = pd.read_csv(output / "forecast.csv", parse_dates=["timestamp"])
        quantiles = [f"{0.05 * step:.2f}".rstrip("0") for step in range(1, 20)]
        assert list(table.columns) == ["item_id", "timestamp", "channel", "mean", *quantiles]
        assert sorted(set(table["timestamp"])) == list(pd.date_range("2024-03-16", periods=H, freq="h"))
        assert set(table["channel"]) == {"a", "b", "c"} and len(table) == 3 * H
        assert not table.isna().any().any()
        assert (np.diff(table[quantiles].to_numpy(), axis=1) >= 0).all()

    def test_the_adapter_is_the_one_that_forecast(self, finished):
        output, _ = finished
        forecast = Adapter.load(output / "adapter").predict()
        table = pd.read_csv(output / "forecast.csv")
        for number, channel in enumerate(["a", "b", "c"]):
            mean = table.loc[table["channel"] == channel, "mean"].to_numpy()
            assert mean == pytest.approx(forecast.mean[:, number], rel=1e-5)

    def test_the_scores_hold_what_was_done(self, finished, folder):
        output, result = finished
        report = json.loads((output / "scores.json").read_text())
        assert report["seed"] == 0 and report["settings"]["prediction_length"] == H
        assert report["versions"]["adapts"] == adapts.__version__
        assert report["versions"]["foundation_model"]["name"] == "bolt-nano"
        assert report["data"]["channels"] == ["a", "b", "c"] and report["data"]["rows"] == 360
        sha = subprocess.run(["sha256sum", folder / "series.csv"], capture_output=True, text=True, check=True).stdout
        assert report["data"]["sha256"] == sha.split()[0]
        assert report["held_back"]["first_target"] == "2024-03-13 00:00:00"  # the last fifth of fifteen days
        assert set(report["held_back"]["adapter"]["windows"]) == {"train", "validation", "calibration", "confirmation"}
        assert sum(report["adapter"]["windows"].values()) > sum(report["held_back"]["adapter"]["windows"].values())
        crps = report["scores"]["adapter"]["all"]["all"]["crps"]
        assert f"{crps:.3f}" in result.stdout.splitlines()[1]

    def test_pictures(self, finished):
        output, _ = finished
        for name in ("forecast.png", "reliability.png"):
            assert (output / name).read_bytes().startswith(b"\x89PNG") and (output / name).stat().st_size > 20_000

    def test_the_same_seed_gives_the_same_bytes(self, finished, folder):
        output, _ = finished
        again = forecast(folder / "series.csv", folder / "again", "--quiet")
        assert again.exit_code == 0 and len(again.stdout.splitlines()) == 5 and again.stderr == ""
        for name in ("forecast.csv", "scores.json", "adapter/adapter.safetensors"):
            assert (folder / "again" / name).read_bytes() == (output / name).read_bytes()

    def test_options_reach_the_run(self, folder):
        output = folder / "options"
        options = ["--family", "identity", "--columns", "c, a", "--num-samples", 20, "--seed", 3]
        result = forecast(folder / "series.csv", output, *options, horizon=4)
        assert result.exit_code == 0, result.stderr
        report = json.loads((output / "scores.json").read_text())
        assert report["adapter"]["family"] == "identity" and report["adapter"]["context_length"] == 48
        assert report["data"]["channels"] == ["c", "a"] and report["seed"] == 3
        assert len(pd.read_csv(output / "forecast.csv")) == 2 * 4

    def test_a_card_by_any_spelling(self, data_directory, tmp_path):
        result = forecast("ExchangeRate", tmp_path / "run", "--family", "identity", "--num-samples", 10)
        assert result.exit_code == 0, result.stderr
        report = json.loads((tmp_path / "run" / "scores.json").read_text())
        assert report["data"]["name"] == "exchange_rate" and len(report["data"]["sha256"][0]) == 64
        assert report["held_back"]["windows"] == 189 and report["held_back"]["stride"] == H

    def test_an_earlier_run_is_replaced_whole(self, finished, folder):
        output = folder / "replaced"
        output.mkdir()
        (output / "forecast.csv").write_text("old")
        options = ["--family", "identity", "--num-samples", 10]
        assert forecast(folder / "series.csv", output, *options, "--overwrite").exit_code == 0
        assert sorted(path.name for path in output.iterdir()) == sorted(WRITTEN)

    def test_small_changes_of_a_large_level_reach_the_csv(self, folder):
        values = 1e8 + np.random.default_rng(0).standard_normal(240)
        pd.DataFrame({"a": values}).to_csv(folder / "large.csv", index=False)
        result = forecast(folder / "large.csv", folder / "large", "--family", "identity", "--num-samples", 10)
        assert result.exit_code == 0, result.stderr
        table = pd.read_csv(folder / "large" / "forecast.csv")
        assert (0.5 < table["0.9"] - table["0.1"]).all() and (table["0.9"] - table["0.1"] < 6).all()
        expected = Adapter.load(folder / "large" / "adapter").predict().quantile(0.9)[:, 0]
        assert table["0.9"].to_numpy() - 1e8 == pytest.approx(expected - 1e8, abs=1e-6)

    def test_several_items_of_a_long_file(self, folder):
        wide = pd.read_csv(folder / "series.csv")
        pd.concat([wide.assign(shop="x"), wide.iloc[:300].assign(shop="y")]).to_csv(folder / "long.csv", index=False)
        options = ["--item-column", "shop", "--family", "identity", "--num-samples", 10]
        result = forecast(folder / "long.csv", folder / "long", *options)
        assert result.exit_code == 0, result.stderr
        table = pd.read_csv(folder / "long" / "forecast.csv")
        assert table.groupby("item_id")["timestamp"].min().to_dict() == {
            "x": "2024-03-16 00:00:00", "y": "2024-03-13 12:00:00",
        }  # fmt: skip


class TestMistakes:
    @pytest.mark.parametrize(
        ("arguments", "words"),
        [
            (["nowhere.csv", "--prediction-length", 8], "there is no file nowhere.csv"),
            (["greensborough", "--prediction-length", 8], "did you mean 'greensboro'?"),
            (["series.csv", "--prediction-length", 8, "--family", "residul"], "did you mean 'residual'?"),
            (["series.csv", "--prediction-length", 8, "--foundation-model", "bolt-nona"], "did you mean 'bolt-nano'?"),
            (["series.csv", "--prediction-length", 300], "the series has 360 steps, at least 1200 are needed"),
            (["series.csv", "--prediction-length", 8, "--columns", "a,z"], "there is no column z"),
            (["shuffled.csv", "--prediction-length", 8], "--regularise"),
            (["text.csv", "--prediction-length", 8], "'b'"),
            (["all.csv", "--prediction-length", 8], "give it another name"),
            (["series.csv", "--prediction-length", 8, "--device", "gpu7"], "gpu7"),
        ],
    )
    def test_one_line_and_nothing_written(self, folder, monkeypatch, arguments, words):
        monkeypatch.chdir(folder)
        frame = pd.read_csv("series.csv")
        frame.sample(frac=1, random_state=0).to_csv("shuffled.csv", index=False)
        frame.assign(b="text").to_csv("text.csv", index=False)
        frame.rename(columns={"b": "all"}).to_csv("all.csv", index=False)
        result = run("forecast", *arguments, "--output", "refused", "--quiet")
        assert result.exit_code == 2
        assert result.stderr.startswith("adapts: error: ") and words in result.stderr
        assert len(result.stderr.splitlines()) == 1 and result.stdout == ""
        assert not [path for path in folder.iterdir() if "refused" in path.name]

    @pytest.mark.parametrize("seed", [-1, 2**32])
    def test_seeds_out_of_range(self, folder, seed):
        given = ["--prediction-length", 8, "--output", folder / "no", "--seed", seed]
        result = run("forecast", folder / "series.csv", *given)
        assert result.exit_code == 2 and "--seed" in result.stderr and "Traceback" not in result.stderr

    def test_an_output_that_exists_is_kept(self, finished, folder):
        output, _ = finished
        before = (output / "scores.json").stat().st_mtime_ns
        result = run("forecast", folder / "series.csv", "--prediction-length", H, "--output", output)
        assert result.exit_code == 2 and "exists and is kept" in result.stderr and "--overwrite" in result.stderr
        assert (output / "scores.json").stat().st_mtime_ns == before

    def test_a_folder_of_other_things_is_never_replaced(self, folder):
        result = run("forecast", folder / "series.csv", "--prediction-length", H, "--output", folder, "--overwrite")
        assert result.exit_code == 2 and "nothing that adapts wrote" in result.stderr
        assert (folder / "series.csv").is_file()

    def test_a_run_that_fails_leaves_the_earlier_one(self, finished, folder):
        output, _ = finished
        before = {name: (output / name).stat().st_mtime_ns for name in WRITTEN}
        result = run("forecast", folder / "series.csv", "--prediction-length", 300, "--output", output, "--overwrite")
        assert result.exit_code == 2
        assert {name: (output / name).stat().st_mtime_ns for name in WRITTEN} == before

    def test_verbose_shows_where(self, folder):
        result = run("forecast", "nowhere.csv", "--prediction-length", 8, "--output", folder / "no", "--verbose")
        assert result.exit_code == 2 and "Traceback" in result.stderr
        assert result.stderr.splitlines()[-1].startswith("adapts: error: there is no file")

    def test_of_the_shell(self, tmp_path):
        command = [sys.executable, "-c", "from adapts.cli import main; main()", "forecast", "nowhere.csv"]
        done = subprocess.run(
            [*command, "--prediction-length", "8", "--output", "run"], cwd=tmp_path, capture_output=True, text=True
        )
        assert done.returncode == 2 and "Traceback" not in done.stderr
        assert subprocess.run(command, capture_output=True).returncode == 2  # a required option is missing


class TestLists:
    def test_every_name_stands_there(self):
        for what, names in (("families", recipes()), ("datasets", cards()), ("models", ["bolt-nano"])):
            result = run("list", what)
            assert result.exit_code == 0
            listed = [line.split("  ")[0] for line in result.stdout.splitlines()]
            assert listed[: len(names)] == list(names)

    def test_version(self):
        assert run("--version").stdout == f"adapts {adapts.__version__}\n"

    def test_help_names_every_option_and_an_example(self):
        text = run("forecast", "--help").stdout
        assert "Example: adapts forecast greensboro" in text
        assert all(f"--{option}" in text for option in ("prediction-length", "output", "family", "regularise", "seed"))
