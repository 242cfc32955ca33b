r"""`adapts forecast`: what a run writes and prints, that it repeats, and what a saved adapter does with new rows."""

import json
import subprocess

import numpy as np
import pandas as pd
import pytest
from cli_files import H, forecast, run, series

import adapts
from adapts import Adapter
from adapts.cli.forecast import PREDICTED, WRITTEN


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cli")
    series().to_csv(folder / "series.csv")
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
        assert report["settings"]["seed"] == 0 and report["settings"]["prediction_length"] == H
        assert report["settings"]["columns"] is None and "overwrite" not in report["settings"]
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
        assert report["data"]["channels"] == ["c", "a"] and report["settings"]["seed"] == 3
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
        (output / "forecast.csv").write_text("item_id,timestamp,channel,mean,0.5\n")  # columns of someone else
        result = forecast(folder / "series.csv", output, "--overwrite")
        assert result.exit_code == 2 and "'forecast.csv', which adapts did not write" in result.stderr
        header = (finished[0] / "forecast.csv").read_text().partition("\n")[0]
        (output / "forecast.csv").write_text(f"{header}\n")
        options = ["--family", "identity", "--num-samples", 10]
        assert forecast(folder / "series.csv", output, *options, "--overwrite").exit_code == 0
        assert sorted(path.name for path in output.iterdir()) == sorted(WRITTEN)

    def test_numbers_of_the_csv_are_those_of_the_forecast(self, folder):
        values = 1e8 + np.random.default_rng(0).standard_normal(240)  # ten digits would leave one behind the point
        pd.DataFrame({"a": values}).to_csv(folder / "large.csv", index=False)
        result = forecast(folder / "large.csv", folder / "large", "--family", "identity", "--num-samples", 10)
        assert result.exit_code == 0, result.stderr
        table = pd.read_csv(folder / "large" / "forecast.csv", float_precision="round_trip")
        expected = Adapter.load(folder / "large" / "adapter").predict()
        assert (table["mean"] == expected.mean[:, 0]).all()
        assert (table["0.9"] == expected.quantile(0.9)[:, 0]).all()
        assert (0.5 < table["0.9"] - table["0.1"]).all() and (table["0.9"] - table["0.1"] < 6).all()

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

    def test_items_that_two_columns_name(self, folder):
        wide = pd.read_csv(folder / "series.csv")
        parts = [wide.assign(shop=shop, kind=kind) for shop in "xy" for kind in ("a, b", "c")]
        pd.concat(parts).rename(columns={"kind": "kind, sort"}).to_csv(folder / "keys.csv", index=False)
        plain = pd.read_csv(folder / "keys.csv").rename(columns={"kind, sort": "kind"})
        plain.to_csv(folder / "plain_keys.csv", index=False)
        typed = {
            "keys.csv": ["--item-column", "shop", "--item-column", "kind, sort"],
            "plain_keys.csv": ["--item-column", "shop, kind"],
        }
        for file, options in typed.items():
            output = folder / f"run_{file}"
            result = forecast(folder / file, output, *options, "--family", "identity", "--num-samples", 10, horizon=4)
            assert result.exit_code == 0, result.stderr
            items = pd.read_csv(output / "forecast.csv")["item_id"].unique().tolist()
            assert items == ["x/a, b", "x/c", "y/a, b", "y/c"]

    def test_columns_whose_names_hold_commas(self, folder):
        series().rename(columns={"b": "wind, m/s"}).to_csv(folder / "commas.csv")
        options = ["--columns", "wind, m/s", "--columns", "c, a", "--family", "identity", "--num-samples", 10]
        result = forecast(folder / "commas.csv", folder / "commas", *options, horizon=4)
        assert result.exit_code == 0, result.stderr
        report = json.loads((folder / "commas" / "scores.json").read_text())
        assert report["data"]["channels"] == ["wind, m/s", "c", "a"]

    def test_json_and_nothing_else_on_stdout(self, folder):
        output = folder / "json"
        result = forecast(folder / "series.csv", output, "--family", "identity", "--num-samples", 10, "--json")
        printed = json.loads(result.stdout)
        assert printed.pop("written") == [str(output / name) for name in WRITTEN] and result.stderr == ""
        assert printed == json.loads((output / "scores.json").read_text())


@pytest.fixture(scope="module")
def config(folder):
    r"""The saved options of a run with a recipe of one's own, one of whose options the command line changes."""
    recipe = "family: residual\noptions: {lags: 4, components: 0}\n"
    (folder / "mine.yaml").write_text(recipe)
    options = ["--recipe", folder / "mine.yaml", "--option", "lags=6", "--support", "b=-5,", "--support", "a=,0.5",
               "--copula", "independent", "--recalibration", "none", "--no-gate", "--max-windows", 40]  # fmt: skip
    result = forecast(folder / "series.csv", folder / "mine", "--num-samples", 10, *options)
    assert result.exit_code == 0, result.stderr
    return json.loads((folder / "mine" / "adapter" / "config.json").read_text())


def test_the_second_fit_has_the_weights_of_the_first(folder, tmp_path):
    given = ["--family", "auto", "--option", "members=residual,context", "--num-samples", 10]
    assert forecast(folder / "series.csv", tmp_path / "run", *given).exit_code == 0
    content = json.loads((tmp_path / "run" / "scores.json").read_text())
    first, second = content["held_back"]["adapter"], content["adapter"]
    selected = [member["weight"] for member in first["members"]]
    assert first["options"]["shares"] is None and second["options"]["shares"][1:] == selected
    assert second["stages"]["train"].startswith("given weights: ")
    config = json.loads((tmp_path / "run" / "adapter" / "config.json").read_text())
    assert config["family"] == "auto" and config["family_options"]["shares"] == second["options"]["shares"]


class TestWhatIsFitted:
    def test_a_recipe_and_its_options(self, config):
        assert config["family"] == "residual"
        assert config["family_options"].items() >= {"lags": 6, "components": 0}.items()

    def test_options_of_the_law(self, config):
        given = {"copula": "independent", "recalibration": "none", "gate": False, "max_windows": 40}
        assert config["options"].items() >= given.items()

    def test_the_support_holds(self, config, folder):
        table = pd.read_csv(folder / "mine" / "forecast.csv")
        assert table.loc[table["channel"] == "b", "0.05"].min() >= -5
        assert table.loc[table["channel"] == "a", "0.95"].max() <= 0.5
        assert table.loc[table["channel"] == "c", "0.05"].min() < -5

    def test_the_training_is_the_recipes_unless_given(self, tmp_path):
        from adapts.cli.run import adapter_of

        asked = {"option": None, "support": None, "foundation_model": "bolt-nano", "prediction_length": 4,
                 "context_length": 48, "copula": "residual", "recalibration": "auto", "gate": True, "max_windows": 9,
                 "seed": 0, "device": "cpu", "objective": None, "horizon_weights": None, "learning_rate": None,
                 "posterior_draws": 7, "probe_head": False}  # fmt: skip
        mine = tmp_path / "mine.yaml"
        mine.write_text("family: linear\ntraining: {objective: mse, learning_rate: 0.01}\n")
        params = adapter_of(asked | {"horizon_weights": 0.9}, mine).get_params()
        assert params.items() >= {"objective": "mse", "learning_rate": 0.01, "horizon_weights": 0.9}.items()
        assert params["posterior_draws"] == 7 and params["probe_head"] is False
        assert adapter_of(asked | {"objective": "mae"}, mine).objective == "mae"
        assert adapter_of(asked | {"option": ["free=decoder"]}, mine).objective is None  # nothing to train


class TestFrom:
    def test_forecasts_what_follows_new_rows(self, finished, folder):
        output, _ = finished
        frame = series()
        later = frame.set_axis(frame.index + pd.Timedelta(days=30)).assign(note="not looked at")
        later.to_csv(folder / "later.csv")
        result = run("forecast", folder / "later.csv", "--from", output / "adapter", "--output", folder / "later")
        assert result.exit_code == 0, result.stderr
        assert sorted(path.name for path in (folder / "later").iterdir()) == sorted(PREDICTED)
        assert (folder / "later" / "forecast.png").read_bytes().startswith(b"\x89PNG")
        table = pd.read_csv(folder / "later" / "forecast.csv", parse_dates=["timestamp"])
        assert table["timestamp"].min() == pd.Timestamp("2024-04-15")
        expected = Adapter.load(output / "adapter").predict(later[["a", "b", "c"]])
        assert table["mean"].to_numpy().reshape(H, 3) == pytest.approx(expected.mean)

    def test_the_fitted_rows_give_the_forecast_of_the_fit(self, finished, folder):
        output, _ = finished
        given = ["--from", output / "adapter", "--prediction-length", H, "--quiet"]
        result = run("forecast", folder / "series.csv", "--output", folder / "same", *given)
        assert result.exit_code == 0 and result.output == ""
        assert (folder / "same" / "forecast.csv").read_bytes() == (output / "forecast.csv").read_bytes()

    def test_json(self, finished, folder):
        output, _ = finished
        result = run(
            "forecast", folder / "series.csv", "--from", output / "adapter", "--output", folder / "told", "--json"
        )
        printed = json.loads(result.stdout)
        assert printed["adapter"]["channels"] == ["a", "b", "c"] and "scores" not in printed
        assert printed["written"] == [str(folder / "told" / name) for name in PREDICTED]


def test_a_run_that_was_broken_off_goes_on(folder, tmp_path, monkeypatch):
    given = ["--family", "identity", "--num-samples", 10, "--checkpoint-dir", tmp_path / "kept"]

    def broken(*_):
        raise RuntimeError("broken off")

    with monkeypatch.context() as patch:
        patch.setattr(Adapter, "predict", broken)
        assert forecast(folder / "series.csv", tmp_path / "run", *given).exit_code == 1
    assert sorted(path.name for path in (tmp_path / "kept").iterdir()) == ["all rows", "held back"]
    assert not (tmp_path / "run").exists()
    assert forecast(folder / "series.csv", tmp_path / "run", *given).exit_code == 0
    assert forecast(folder / "series.csv", tmp_path / "whole", *given[:-2]).exit_code == 0
    for name in ("forecast.csv", "scores.json"):
        assert (tmp_path / "run" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("covariates")
    frame = series()
    frame["plan"] = np.random.default_rng(1).standard_normal(len(frame))
    frame["a"] += frame["plan"]
    frame[:-H].to_csv(folder / "rows.csv")
    frame[["plan"]][-H:].to_csv(folder / "plan.csv")
    frame.to_csv(folder / "all.csv")
    return folder


class TestCovariates:
    def test_a_run_and_a_saved_adapter(self, files):
        roles = ["--columns", "a", "--past-covariates", "b,c", "--known-covariates", "plan", "--calendar"]
        result = forecast(files / "rows.csv", files / "run", *roles, "--future", files / "plan.csv")
        assert result.exit_code == 0, result.stderr
        table = pd.read_csv(files / "run" / "forecast.csv")
        assert set(table["channel"]) == {"a"} and len(table) == H
        about = json.loads((files / "run" / "scores.json").read_text())
        assert about["data"]["channels"] == ["a"] and about["settings"]["known_covariates"] == ["plan"]
        assert about["adapter"]["stages"]["covariates"].startswith("past b, c: ")
        saved = ["--from", files / "run" / "adapter", "--future", files / "plan.csv", "--output", files / "again"]
        again = run("forecast", files / "rows.csv", *saved)
        assert again.exit_code == 0, again.stderr
        pd.testing.assert_frame_equal(pd.read_csv(files / "again" / "forecast.csv"), table, rtol=1e-4)

    def test_static_columns(self, files):
        rows = pd.read_csv(files / "rows.csv", index_col=0)
        other = rows.assign(a=rows["a"] - 2 * rows["plan"])
        names = {"up": rows, "down": other}
        long = pd.concat([table.assign(item_id=f"{name} 1", kind=name) for name, table in names.items()])
        long.to_csv(files / "long.csv")
        ahead = pd.read_csv(files / "plan.csv", index_col=0)
        pd.concat([ahead.assign(item_id=f"{name} 1") for name in names]).to_csv(files / "long plan.csv")
        roles = ["--columns", "a", "--known-covariates", "plan", "--static", "kind"]
        result = forecast(files / "long.csv", files / "static", *roles, "--future", files / "long plan.csv")
        assert result.exit_code == 0, result.stderr
        about = json.loads((files / "static" / "scores.json").read_text())
        assert about["settings"]["static"] == ["kind"]
        assert "(differs by kind)" in about["adapter"]["stages"]["covariates"]
        saved = [
            "--from",
            files / "static" / "adapter",
            "--future",
            files / "long plan.csv",
            "--output",
            files / "more",
        ]
        long.drop(columns="kind").to_csv(files / "later.csv")  # items of the fit
        assert run("forecast", files / "later.csv", *saved).exit_code == 0
        tables = (pd.read_csv(files / folder / "forecast.csv") for folder in ("static", "more"))
        pd.testing.assert_frame_equal(*tables, rtol=1e-4)
        refused = run("forecast", files / "long.csv", *saved, "--static", "kind")
        assert refused.exit_code == 2 and "takes no --static" in " ".join(refused.stderr.split())

    def test_errors(self, files):
        for options, error in (
            (["--known-covariates", "plan"], "--future the file of their future values"),
            (["--future", files / "plan.csv"], "--known-covariates names the columns"),
            (["--known-covariates", "plan", "--future", files / "rows.csv"], "future lacks 8 of the 8 steps ahead"),
            (["--known-covariates", "pla", "--future", files / "plan.csv"], "did you mean 'plan'?"),
        ):
            result = forecast(files / "rows.csv", files / "refused", *options)
            assert result.exit_code == 2 and error in " ".join(result.stderr.split())
            assert not (files / "refused").exists()

    def test_a_backtest(self, files):
        roles = ["--columns", "a,b", "--known-covariates", "plan", "--past-covariates", "c"]
        length = ["--prediction-length", H, "--context-length", 48, "--windows", 4]
        result = run("backtest", files / "all.csv", *length, *roles, "--family", "residual", "--json")
        assert result.exit_code == 0, result.stderr
        assert set(json.loads(result.stdout)["scores"]["residual"]) == {"all", "a", "b"}
