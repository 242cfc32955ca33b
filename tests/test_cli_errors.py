r"""How commands end: exit codes, one line for every mistake, and no incomplete output."""

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from cli_files import H, forecast, run, series

from adapts import Adapter


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    r"""Files with mistakes in them, beside one without; and a saved adapter."""
    folder = tmp_path_factory.mktemp("errors")
    frame = series()
    frame.to_csv(folder / "series.csv")
    frame.sample(frac=1, random_state=0).to_csv(folder / "shuffled.csv")
    frame.assign(b="text").to_csv(folder / "text.csv")
    frame.rename(columns={"b": "all"}).to_csv(folder / "all.csv")
    frame[["a", "b"]].to_csv(folder / "narrow.csv")
    (folder / "list.yaml").write_text("- residual\n")
    (folder / "key.yaml").write_text("family: residual\noption: {lags: 3}\n")
    (folder / "training.yaml").write_text("family: linear\ntraining: {objectiv: mse}\n")
    (folder / "family.yaml").write_text("family: residul\n")
    (folder / "broken.yaml").write_text("family: [\n")
    (folder / "untrained.yaml").write_text("family: pca\ntraining: {learning_rate: 0.1}\n")
    (folder / "drift.yaml").write_text("family: identity\n")
    identity = Adapter("identity", prediction_length=H, context_length=48)
    identity.fit(frame).save(folder / "run" / "adapter")
    return folder


EIGHT = ["series.csv", "--prediction-length", 8]
FROM = ["--from", "run/adapter"]

#: What is typed after `adapts forecast`, and words of the answer.
FORECASTS = [
    (["nowhere.csv", "--prediction-length", 8], "there is no file nowhere.csv"),
    (["serie.csv", "--prediction-length", 8], "did you mean 'series.csv'?"),
    (["greensborough", "--prediction-length", 8], "did you mean 'greensboro'?"),
    ([".", "--prediction-length", 8], "is a folder"),
    (["series.csv"], "needs --prediction-length, the number of steps to forecast, or --from RUN/adapter"),
    ([*EIGHT, "--family", "residul"], "did you mean 'residual'?"),
    ([*EIGHT, "--foundation-model", "bolt-nona"], "did you mean 'bolt-nano'?"),
    ([*EIGHT, "--familly", "linear"], "No such option: --familly"),
    ([*EIGHT, "--seed", -1], "--seed"),
    ([*EIGHT, "--seed", 2**32], "--seed"),
    ([*EIGHT, "--prediction-length", "eight"], "Invalid value for '--prediction-length'"),
    (["series.csv", "--prediction-length", 300], "the series has 360 steps, at least 1200 are needed"),
    ([*EIGHT, "--columns", "a,z"], "there is no column z"),
    (["shuffled.csv", "--prediction-length", 8], "--regularise"),
    (["text.csv", "--prediction-length", 8], "'b'"),
    (["all.csv", "--prediction-length", 8], "give it another name"),
    ([*EIGHT, "--device", "gpu7"], "gpu7"),
    ([*EIGHT, "--copula", "residul"], "did you mean 'residual'?"),
    ([*EIGHT, "--recalibration", "never"], "known: auto, conformal, none"),
    ([*EIGHT, "--family", "residual", "--objective", "mse"], "nothing trains"),
    ([*EIGHT, "--family", "linear", "--objective", "mes"], "did you mean 'mse'?"),
    ([*EIGHT, "--support", "low"], "LOW,HIGH for all channels or NAME=LOW,HIGH for each"),
    ([*EIGHT, "--support", "3,2"], "--support expects low < high, got '3,2'"),
    ([*EIGHT, "--support", "0,", "--support", "a=0,1"], "got '0,' beside others"),
    ([*EIGHT, "--support", "a=0,1", "--support", "a=0,"], "names 'a' twice"),
    ([*EIGHT, "--support", "z=0,1"], "'z'"),
    ([*EIGHT, "--option", "lags"], "--option expects NAME=VALUE, such as lags=24, got 'lags'"),
    ([*EIGHT, "--family", "residual", "--option", "lag=3"], "did you mean 'lags'?"),
    ([*EIGHT, "--family", "residual", "--option", "lags=three"], "--option lags expects int | None, got 'three'"),
    ([*EIGHT, "--family", "residual", "--option", "lags=2.5"], "--option lags expects int | None, got '2.5'"),
    ([*EIGHT, "--recipe", "mine.yaml"], "there is no file mine.yaml"),
    ([*EIGHT, "--recipe", "list.yaml"], "must be a mapping of keys to values, got list"),
    ([*EIGHT, "--recipe", "broken.yaml"], "is not valid YAML"),
    ([*EIGHT, "--recipe", "key.yaml"], "did you mean 'options'?"),
    ([*EIGHT, "--recipe", "training.yaml"], "did you mean 'objective'?"),
    ([*EIGHT, "--recipe", "family.yaml"], "did you mean 'residual'?"),
    (
        [*EIGHT, "--recipe", "untrained.yaml"],
        "the preset 'untrained.yaml' sets learning_rate=0.1, which is for training",
    ),
    ([*EIGHT, "--probe-head"], "probe_head=True is for models whose head is untrained"),
    ([*EIGHT, "--recipe", "series.csv"], "the preset 'series.csv' must be a mapping"),
    ([*EIGHT, "--recipe", "drift.yaml", "--family", "linear"], "give one of them"),
    (["series.csv", "--from", "run"], "expected a folder that Adapter.save wrote"),
    (["series.csv", "--from", "nowhere"], "nowhere is no folder"),
    (["narrow.csv", *FROM], "there is no column c"),
    (["series.csv", *FROM, "--prediction-length", 9], "run/adapter was fitted to forecast 8 steps"),
    (["series.csv", *FROM, "--family", "residual"], "takes no --family"),
    (["series.csv", *FROM, "--no-gate"], "takes no --no-gate"),
    (["series.csv", *FROM, "--no-probe-head"], "takes no --no-probe-head"),
    (["series.csv", *FROM, "--context-length", 3], "takes no --context-length"),
    (["series.csv", *FROM, "--num-samples", 3], "takes no --num-samples"),
]

#: The same for `adapts backtest`.
BACKTESTS = [
    (["series.csv"], "Missing option '--prediction-length'"),
    ([*EIGHT, "--family", "residul"], "did you mean 'residual'?"),
    ([*EIGHT, "--baselines", "drif"], "did you mean 'drift'?"),
    (
        [*EIGHT, "--baselines", "foo"],
        "known: frozen-model, joint-frozen-model, last-value, seasonal-naive, drift, nlinear, dlinear, var, all, none",
    ),
    ([*EIGHT, "--baselines", "frozen-modle"], "did you mean 'frozen-model'?"),
    (
        [*EIGHT, "--baselines", "none,all"],
        "--baselines none excludes all others, got none,all: leave out none, or the others",
    ),
    ([*EIGHT, "--scale", "test"], "'train' or 'none'"),
    ([*EIGHT, "--windows", 0], "--windows"),
    ([*EIGHT, "--windows", 500], "at least"),
    ([*EIGHT, "--family", "identity", "--family", "identity"], "two models are called 'identity'"),
    ([*EIGHT, "--family", "identity", "--family", "linear", "--option", "free=both"], "a recipe of its own"),
    ([*EIGHT, "--recipe", "drift.yaml", "--baselines", "drift"], "drift"),
    ([*EIGHT, "--output", "series.csv"], "series.csv is a file"),
    ([*EIGHT, "--output", "refused", "--checkpoint-dir", "refused/kept"], "lies in refused"),
]


class TestMistakes:
    @pytest.mark.parametrize(("arguments", "words"), FORECASTS)
    def test_forecast(self, folder, monkeypatch, arguments, words):
        monkeypatch.chdir(folder)
        self.check(folder, words, "forecast", *arguments, "--output", "refused")

    @pytest.mark.parametrize(("arguments", "words"), BACKTESTS)
    def test_backtest(self, folder, monkeypatch, arguments, words):
        monkeypatch.chdir(folder)
        self.check(folder, words, "backtest", *arguments)

    @pytest.mark.parametrize(
        ("arguments", "words"),
        [
            (["list", "family"], "'what': 'family' is not one of 'families'"),
            (["list"], "Missing argument"),
            (["forecats"], "forecats"),
            (["-x"], "-x"),
        ],
    )
    def test_others(self, folder, monkeypatch, arguments, words):
        monkeypatch.chdir(folder)
        self.check(folder, words, *arguments)

    def check(self, folder, words, *arguments):
        before = sorted(folder.iterdir())
        result = run(*arguments)
        assert result.exit_code == 2
        assert result.stderr.startswith("adapts: error: ") and words in result.stderr
        assert len(result.stderr.splitlines()) == 1 and result.stdout == ""
        assert sorted(folder.iterdir()) == before

    @pytest.mark.parametrize(
        "arguments",
        [["list", "x" * 5000], ["forecast", "a.csv", "--prediction-length", "x" * 5000, "--output", "run"],
         ["backtest", "a.csv", "--prediction-length", "8", "--baselines", "x" * 5000],
         ["backtest", "a.csv", "--prediction-length", "8", "--option", "x" * 5000],
         ["backtest", "a.csv", "--prediction-length", "8", "--support", "x" * 5000]],
    )  # fmt: skip
    def test_what_was_typed_is_shortened(self, arguments):
        result = run(*arguments)
        assert result.exit_code == 2 and len(result.stderr) < 1100 and len(result.stderr.splitlines()) == 1

    def test_sizes_beyond_use(self, folder, monkeypatch):
        monkeypatch.chdir(folder)
        self.check(
            folder, "prediction_length to be at most 131072", "backtest", "series.csv", "--prediction-length", 10**30
        )
        self.check(folder, "num_samples to be at most", "backtest", *EIGHT, "--num-samples", 10**30)

    def test_as_json(self, folder):
        for command in (["forecast", folder / "nowhere.csv", "--json"], ["list", "models", "--jsn", "--json"]):
            result = run(*command)
            assert result.exit_code == 2 and result.stderr == ""
            assert set(json.loads(result.stdout)) == {"error"}

    def test_an_output_that_exists_is_kept(self, folder, tmp_path):
        (tmp_path / "scores.json").write_text("{}")
        result = run("forecast", folder / "series.csv", "--prediction-length", H, "--output", tmp_path)
        assert result.exit_code == 2 and "exists and is kept" in result.stderr and "--overwrite" in result.stderr
        assert (tmp_path / "scores.json").read_text() == "{}"

    @pytest.mark.parametrize(
        ("output", "words"),
        [
            ("/proc/x", "/proc/x cannot be written, as /proc takes no new folder"),
            ("series.csv/run", "series.csv takes no new folder (Not a directory): choose another place"),
            ("series.csv", "expected a folder to write to, but series.csv is a file"),
        ],
    )
    def test_an_output_that_cannot_be_written(self, folder, monkeypatch, output, words):
        monkeypatch.chdir(folder)
        given = ["--prediction-length", H, "--context-length", 48, "--family", "identity", "--output", output]
        result = run("forecast", "series.csv", *given)
        assert result.exit_code == 2 and result.stdout == "" and len(result.stderr.splitlines()) == 1
        assert result.stderr.startswith("adapts: error: ") and words in result.stderr

    def test_a_folder_of_other_things_is_never_replaced(self, folder):
        for output in (folder, folder.parent):
            result = run("forecast", "greensboro", "--prediction-length", H, "--output", output, "--overwrite")
            assert result.exit_code == 2 and "would be replaced" in result.stderr
        assert (folder / "series.csv").is_file()

    def test_what_is_read_is_never_replaced(self, folder):
        given = ["--from", folder / "run" / "adapter", "--output", folder / "run", "--overwrite"]
        result = run("forecast", folder / "series.csv", *given)
        assert result.exit_code == 2 and "choose another output folder" in result.stderr
        assert (folder / "run" / "adapter" / "config.json").is_file()

    def test_a_run_that_fails_leaves_the_earlier_one(self, folder, tmp_path):
        levels = [f"{step / 20:g}" for step in range(1, 20)]
        (tmp_path / "forecast.csv").write_text(",".join(["item_id", "timestamp", "channel", "mean", *levels]) + "\n")
        shutil.copytree(folder / "run" / "adapter", tmp_path / "adapter")
        before = {path: path.read_bytes() for path in tmp_path.rglob("*.*")}
        result = run("forecast", folder / "series.csv", "--prediction-length", 300, "--output", tmp_path, "--overwrite")
        assert result.exit_code == 2 and "at least 1200 are needed" in result.stderr
        assert {path: path.read_bytes() for path in tmp_path.rglob("*.*")} == before

    @pytest.mark.parametrize("command", ["forecast", "backtest"])
    def test_a_folder_of_checkpoints_that_holds_anything_else_is_refused_first(self, command, folder, tmp_path):
        kept = tmp_path / "kept" / "all rows" if command == "forecast" else tmp_path / "kept"
        kept.mkdir(parents=True)
        (kept / "thesis.tex").write_text("years of work")
        given = ["--prediction-length", H, "--checkpoint-dir", tmp_path / "kept", "--output", tmp_path / "run"]
        result = run(command, "nowhere.csv", *given)
        assert result.exit_code == 2 and "holds 'thesis.tex', which is no checkpoint" in result.stderr
        assert os.listdir(tmp_path) == ["kept"] and os.listdir(kept) == ["thesis.tex"]

    def test_verbose_shows_where(self, folder):
        result = run("forecast", "nowhere.csv", "--prediction-length", 8, "--output", folder / "no", "--verbose")
        assert result.exit_code == 2 and "Traceback" in result.stderr
        assert result.stderr.splitlines()[-1].startswith("adapts: error: there is no file")


class TestTheUnexpected:
    @pytest.fixture
    def broken(self, monkeypatch):
        r"""A reader that fails as none should."""

        def read(*_, **__):
            raise RuntimeError("the reader\nbroke")

        monkeypatch.setattr("adapts.data.schema.read_dataset", read)

    def test_one_line_and_how_to_see_more(self, broken, folder, tmp_path):
        result = forecast(folder / "series.csv", tmp_path / "run", "--family", "identity")
        assert result.exit_code == 1
        assert result.stderr == "adapts: error: RuntimeError: the reader broke (--verbose shows the traceback)\n"
        assert list(tmp_path.iterdir()) == []

    def test_verbose(self, broken, folder, tmp_path):
        result = forecast(folder / "series.csv", tmp_path / "run", "--family", "identity", "-qv")
        assert result.exit_code == 1 and "Traceback" in result.stderr
        assert result.stderr.splitlines()[-1] == "adapts: error: RuntimeError: the reader broke"


class TestTheShell:
    def test_exit_codes(self, tmp_path):
        command = [sys.executable, "-m", "adapts.cli"]
        done = subprocess.run([*command, "list", "datasets"], capture_output=True, text=True)
        assert done.returncode == 0 and "greensboro" in done.stdout
        command += ["forecast", "nowhere.csv"]
        given = ["--prediction-length", "8", "--output", str(tmp_path / "run")]
        done = subprocess.run([*command, *given], capture_output=True, text=True)
        assert done.returncode == 2 and "Traceback" not in done.stderr

    @pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is full")
    @pytest.mark.parametrize("given", [["models"], ["models", "--json"], ["families", "--json"], ["nothing", "--json"]])
    def test_an_output_that_takes_nothing_is_told_in_one_line_on_stderr(self, given):
        with Path("/dev/full").open("w") as full:
            command = [sys.executable, "-m", "adapts.cli", "list", *given]
            done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True)
        assert done.returncode == 2 and len(done.stderr.splitlines()) == 1
        assert done.stderr.startswith("adapts: error: ")

    def test_names_that_the_terminal_cannot_write_are_told_by_their_codes(self, tmp_path):
        command = [sys.executable, "-m", "adapts.cli", "forecast", "\udcff\xe9.csv", "--output", str(tmp_path / "run")]
        environment = {**os.environ, "LC_ALL": "C", "PYTHONIOENCODING": "ascii"}
        for given in ([], ["--json"]):
            done = subprocess.run([*command, "--prediction-length", "8", *given], capture_output=True, env=environment)
            assert done.returncode == 2 and b"Traceback" not in done.stderr
            assert b"udcff" in (done.stdout if given else done.stderr)

    @pytest.mark.parametrize("stage", ["train:", "calibration:"])
    def test_an_interrupt_leaves_nothing(self, folder, tmp_path, stage):
        command = [sys.executable, "-m", "adapts.cli", "forecast", folder / "series.csv", "--output", tmp_path / "run"]
        given = ["--prediction-length", "8", "--context-length", "48", "--verbose"]
        with subprocess.Popen([*map(str, command), *given], stderr=subprocess.PIPE, text=True) as process:
            for line in process.stderr:  # until the fit has come so far
                if line.startswith(stage):
                    process.send_signal(signal.SIGINT)
                    break
            last = process.stderr.read().splitlines()[-1]
        assert process.returncode == 130 and last == "adapts: error: interrupted, without incomplete output"
        assert list(tmp_path.iterdir()) == []
