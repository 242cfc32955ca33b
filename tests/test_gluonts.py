r"""The estimator and the predictor inside gluonts' own pipelines: one implementation, two doors."""

from __future__ import annotations

import inspect
import itertools
import json
import pickle
import re
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from gluonts.core.serde import dump_json, load_json
from gluonts.dataset.common import FileDataset, ListDataset
from gluonts.dataset.jsonl import JsonLinesFile, JsonLinesWriter
from gluonts.dataset.pandas import PandasDataset
from gluonts.dataset.split import OffsetSplitter, split
from gluonts.ev.metrics import MAE, MASE, MSE, Coverage, MeanWeightedSumQuantileLoss
from gluonts.evaluation import Evaluator, MultivariateEvaluator, backtest_metrics, make_evaluation_predictions
from gluonts.model.evaluation import evaluate_forecasts, evaluate_model
from gluonts.model.predictor import Predictor
from lightning.pytorch import Callback
from seasonal import SeasonalModel

from adapts import Adapter
from adapts.data.panel import Panel
from adapts.integrations.gluonts.estimator import AdapterEstimator
from adapts.integrations.gluonts.predictor import AdapterPredictor, dates_following
from adapts.testing.tiny import tiny_chronos_bolt

H = 6
DECILES = [round(0.1 * level, 1) for level in range(1, 10)]
QUICK = {"max_epochs": 2, "enable_progress_bar": False, "accelerator": "cpu"}


def rows(length: int = 240, channels: int = 3, seed: int = 0) -> np.ndarray:
    r"""Seasons of 12 steps and a common shock, as numbers that float32 holds exactly; two of them missing."""
    rng = np.random.default_rng(seed)
    step = np.arange(length)[:, None]
    values = 4 * np.sin(2 * np.pi * (step + 2 * np.arange(channels)) / 12) + rng.normal(size=(length, 1))
    values += 0.5 * rng.normal(size=values.shape)
    values = np.round(256 * values) / 256
    values[50, 0] = values[length - 3, -1] = np.nan
    return values


def entries(items: int = 2, length: int = 240, channels: int = 3, freq: str = "h") -> list[dict[str, Any]]:
    start = pd.Period("2024-01-01", freq)
    targets = [rows(length, channels, seed).T.astype(np.float32) for seed in range(items)]
    return [{"start": start, "target": target, "item_id": f"item{n}"} for n, target in enumerate(targets)]


def frame(length: int = 240, seed: int = 0) -> pd.DataFrame:
    index = pd.date_range("2024-01-01", periods=length, freq="h", name="timestamp")
    return pd.DataFrame(rows(length, seed=seed), index=index, columns=["x", "y", "z"])


def long() -> pd.DataFrame:
    return pd.concat([frame(seed=n).reset_index().assign(item_id=f"item{n}") for n in range(2)], ignore_index=True)


def make(**options: Any) -> AdapterEstimator:
    return AdapterEstimator(
        **{"prediction_length": H, "context_length": 48, "foundation_model": SeasonalModel(), "num_samples": 60}
        | {"family": "residual"}
        | options
    )


@pytest.fixture(scope="module")
def predictor() -> AdapterPredictor:
    return make().train(entries())


# ---------------------------------------------------------------------------------------------------- two doors


@pytest.mark.parametrize(
    ("family", "family_options", "trainer"),
    [
        ("residual", {}, None),
        ("linear", {"latent_channels": 2}, QUICK),
        ("vae", {"latent_channels": 2}, QUICK),
        ("identity", {}, None),
    ],
)
def test_the_same_data_through_both_doors_give_the_same_bits(
    family: str, family_options: dict[str, Any], trainer: dict[str, Any] | None
) -> None:
    options = {"prediction_length": H, "context_length": 48, "foundation_model": SeasonalModel(), "seed": 3}
    adapter = Adapter(family, trainer_options=trainer, **options)
    adapter.set_params(**{f"family__{name}": value for name, value in family_options.items()})
    adapter.fit(frame(600))
    dataset = PandasDataset(frame(600), target=["x", "y", "z"])
    estimator = AdapterEstimator(family=family, family_options=family_options, trainer_kwargs=trainer, **options)
    predictor = estimator.train(dataset)
    assert predictor.adapter.channels == ("x", "y", "z")
    assert predictor.adapter.summary().to_dict() == adapter.summary().to_dict()
    assert ("epochs" in adapter.summary().stages["train"]) == (trainer is not None)
    (forecast,) = predictor.predict(dataset)
    np.testing.assert_array_equal(forecast.samples, adapter.predict().samples)
    assert forecast.start_date == adapter.predict().to_gluonts().start_date


def test_options_are_those_of_adapter() -> None:
    ours = dict(inspect.signature(AdapterEstimator).parameters)
    theirs = dict(inspect.signature(Adapter).parameters)
    theirs["trainer_kwargs"] = theirs.pop("trainer_options")
    assert set(ours) - set(theirs) == {
        "family_options", "num_samples", "freq", "num_feat_dynamic_real", "num_past_feat_dynamic_real", "calendar",
        "num_feat_static_real", "num_feat_static_cat", "time_limit",
    }  # fmt: skip
    assert set(theirs) <= set(ours), "AdapterEstimator lacks options of Adapter"
    assert {name: option.default for name, option in theirs.items()} == {name: ours[name].default for name in theirs}
    default = inspect.signature(Adapter.predict).parameters["num_samples"].default
    assert ours["num_samples"].default == inspect.signature(AdapterPredictor).parameters["num_samples"].default
    assert ours["num_samples"].default == default


def test_json_holds_an_estimator() -> None:
    estimator = AdapterEstimator(
        prediction_length=H, family="vae", family_options={"latent_channels": 2}, support={"0": [0, 9]}, freq="h",
        trainer_kwargs={"max_epochs": 2},
    )  # fmt: skip
    again = load_json(dump_json(estimator))
    assert repr(again) == repr(estimator)
    assert again.adapter.get_params()["family__latent_channels"] == 2
    texts = AdapterEstimator.from_hyperparameters(prediction_length="6", family="pca", num_samples="50", gate="false")
    assert (texts.prediction_length, texts.num_samples, texts.adapter.gate) == (6, 50, False)
    assert repr(pickle.loads(pickle.dumps(estimator))) == repr(estimator)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"family": "vaee"}, "did you mean 'vae'"),
        ({"family": "vae", "family_options": {"latent_chanels": 2}}, "did you mean 'latent_channels'"),
        ({"num_samples": 0}, "num_samples to be a positive integer, got 0"),
        ({"copula": "gauss"}, "no copula"),
        ({"context_length": 24.5}, "expects context_length to be an integer, got 24.5"),
        ({"max_windows": 6.7}, "expects max_windows to be an integer, got 6.7"),
    ],
)
def test_unfit_options_are_refused_when_the_estimator_is_made(options: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        make(**options)


def test_an_option_given_twice_is_refused() -> None:
    with pytest.raises(ValueError, match="got prediction_length twice, 'identity' by its place and 6 by its name"):
        AdapterEstimator("identity", prediction_length=6)


# ---------------------------------------------------------------------------------------------------- datasets


def written(folder: Path) -> Path:
    JsonLinesWriter(use_gzip=False).write_to_folder(entries(), folder)
    return next(folder.glob("*.json"))


DATASETS: dict[str, Callable[[Path], Any]] = {
    "ListDataset": lambda folder: ListDataset(entries(), freq="h", one_dim_target=False),
    "PandasDataset": lambda folder: PandasDataset(
        {f"item{n}": frame(seed=n) for n in range(2)}, target=["x", "y", "z"]
    ),
    "long frame": lambda folder: PandasDataset.from_long_dataframe(
        long(), target=["x", "y", "z"], item_id="item_id", timestamp="timestamp", freq="h"
    ),
    "FileDataset": lambda folder: FileDataset(written(folder), freq="h", one_dim_target=False),
    "JsonLinesFile": lambda folder: JsonLinesFile(written(folder)),
}


@pytest.mark.parametrize("kind", DATASETS)
def test_every_dataset_of_gluonts(kind: str, tmp_path: Path, predictor: AdapterPredictor) -> None:
    dataset = DATASETS[kind](tmp_path)
    trained = make(freq="h" if kind == "JsonLinesFile" else None).train(dataset)
    found = list(trained.predict(dataset))
    for forecast, expected, entry in zip(found, predictor.predict(entries()), entries(), strict=True):
        np.testing.assert_array_equal(forecast.samples, expected.samples)
        assert forecast.item_id == expected.item_id == entry["item_id"]
        assert forecast.start_date == expected.start_date == entry["start"] + 240


def test_a_start_that_is_no_period_asks_for_freq(tmp_path: Path, predictor: AdapterPredictor) -> None:
    with pytest.raises(ValueError, match=r"entry 0 starts at '2024-01-01 00:00', no Period.*FileDataset.*freq="):
        make().train(JsonLinesFile(written(tmp_path)))
    with pytest.raises(ValueError, match="entry 0 has periods of 'h', not of freq='D'"):
        make(freq="D").train(entries())
    with pytest.raises(ValueError, match="'target' and 'start'; entry 0 has start"):
        next(predictor.predict([{"start": pd.Period("2024", "h")}]))


@pytest.mark.parametrize(
    "freq", ["5min", "h", "2h", "24h", "D", "7D", "B", "W", "W-TUE", "2W", "M", "2M", "3M", "Q", "Q-NOV", "Y", "Y-JUN"]
)
@pytest.mark.filterwarnings("ignore:Period with BDay freq is deprecated:FutureWarning")
@pytest.mark.filterwarnings("ignore:PeriodDtype\\[B\\] is deprecated:FutureWarning")
def test_forecasts_begin_where_entries_end(freq: str) -> None:
    dataset = entries(items=1, length=120, freq=freq)
    predictor = make().train(dataset)
    for length in (120, 119, 20):
        (forecast,) = predictor.predict([dataset[0] | {"target": dataset[0]["target"][:, :length]}])
        assert forecast.start_date == dataset[0]["start"] + length
        assert forecast.start_date.freq == dataset[0]["start"].freq
        assert forecast.index[-1] == dataset[0]["start"] + length + H - 1


@pytest.mark.parametrize(("old", "new"), [("H", "h"), ("T", "min"), ("M", "ME"), ("Q", "QE"), ("A", "YE")])
def test_old_names_of_frequencies_are_the_new_ones(old: str, new: str) -> None:
    raw = [{"start": "2000-01-01", "target": entry["target"]} for entry in entries(1, 120)]
    with pytest.warns(FutureWarning, match="deprecated") if old not in "MQ" else pytest.warns():
        dataset = ListDataset(raw, freq=old, one_dim_target=False)
        (one,) = make().train(dataset).predict(dataset)
    (other,) = make(freq=new).train(raw).predict(raw)
    np.testing.assert_array_equal(one.samples, other.samples)
    assert one.start_date == other.start_date


# ---------------------------------------------------------------------------------------------------- pipelines


def test_predictions_are_the_adapters_own_in_any_batches(predictor: AdapterPredictor) -> None:
    r"""Entry by entry, whatever stands before the context, with seeds by the entries' names."""
    _, template = split(entries(), offset=-30)
    test = template.generate_instances(H, windows=5, distance=5)
    forecasts = list(predictor.predict(test.input))
    others = in_batches(predictor, 3).predict(test.input)
    direct = predictor.adapter.predict(list(test.input), num_samples=60)
    assert len(forecasts) == 10
    for forecast, other, same, entry in zip(forecasts, others, direct, test.input, strict=True):
        np.testing.assert_array_equal(forecast.samples, same.samples)
        np.testing.assert_allclose(forecast.samples, other.samples, atol=0.01)
        assert (forecast.item_id, forecast.start_date) == (entry["item_id"], entry["start"] + entry["target"].shape[1])
        assert forecast.samples.shape == (60, H, 3)


def in_batches(predictor: AdapterPredictor, batch_size: int) -> AdapterPredictor:
    return AdapterPredictor(predictor.adapter, predictor.num_samples, batch_size=batch_size)


def test_entries_are_read_as_they_are_asked_for(predictor: AdapterPredictor) -> None:
    endless = in_batches(predictor, 2).predict(itertools.cycle(entries()), num_samples=7)
    assert [next(endless).item_id for _ in range(5)] == ["item0", "item1", "item0", "item1", "item0"]
    assert next(endless).samples.shape == (7, H, 3)
    assert list(predictor.predict([])) == []
    with pytest.raises(ValueError, match="num_samples to be a positive integer, got 0"):
        next(predictor.predict(entries(), num_samples=0))


def test_entries_without_names_keep_none_and_get_paths_of_their_own(predictor: AdapterPredictor) -> None:
    same = [{name: value for name, value in entries(1)[0].items() if name != "item_id"}] * 4
    forecasts = list(in_batches(predictor, 2).predict(same))
    assert [forecast.item_id for forecast in forecasts] == [None] * 4
    assert all((one.samples != two.samples).any() for one, two in itertools.combinations(forecasts, 2))


def test_evaluate_model_and_evaluate_forecasts(predictor: AdapterPredictor) -> None:
    training, template = OffsetSplitter(offset=-24).split(entries())
    test = template.generate_instances(H, windows=4)
    model = make().train(training)
    metrics = [MSE(), MAE(), MASE(), MeanWeightedSumQuantileLoss(DECILES), *(Coverage(level) for level in DECILES)]
    scores = evaluate_model(model, test_data=test, metrics=metrics, seasonality=12)
    forecasts = list(model.predict(test.input))
    pd.testing.assert_frame_equal(
        scores, evaluate_forecasts(forecasts, test_data=test, metrics=metrics, seasonality=12)
    )
    truth = np.stack([label["target"] for label in test.label])  # (n, D, H)
    mean = np.stack([forecast.samples.mean(0).T for forecast in forecasts])
    assert scores["MSE[mean]"].item() == pytest.approx(np.nanmean((truth - mean) ** 2), rel=1e-4)
    assert 0.6 < scores["coverage[0.9]"].item() - scores["coverage[0.1]"].item() < 0.95
    channels = evaluate_model(model, test_data=test, metrics=metrics, axis=(0, 2), seasonality=12)
    assert channels.shape == (3, len(metrics))
    assert scores["MASE[0.5]"].item() < 1


@pytest.mark.filterwarnings("ignore:The provided callable:FutureWarning")  # between gluonts and pandas
def test_crps_of_the_sum_is_read_from_joint_paths(predictor: AdapterPredictor) -> None:
    whole = [entry | {"target": entry["target"][:, :234]} for entry in entries()]  # gluonts takes a missing cell for 0
    forecasts, series = make_evaluation_predictions(whole, predictor, num_samples=80)
    forecasts, series = list(forecasts), list(series)
    assert all(forecast.samples.shape == (80, H, 3) for forecast in forecasts)
    evaluator = MultivariateEvaluator(quantiles=DECILES, target_agg_funcs={"sum": np.sum}, num_workers=0)
    scores, _ = evaluator(series, forecasts)
    truth = np.stack([observed.to_numpy()[-H:].sum(1) for observed in series])  # (n, H)
    paths = np.stack([forecast.samples.sum(-1) for forecast in forecasts])  # (n, S, H)
    losses = []
    for level in DECILES:
        quantile = np.sort(paths, axis=1)[:, round(79 * level)]
        losses.append(2 * np.abs((quantile - truth) * ((truth <= quantile) - level)).sum())
    expected = np.mean(losses) / np.abs(truth).sum()
    assert scores["m_sum_mean_wQuantileLoss"] == pytest.approx(expected, rel=1e-5)
    assert {f"{channel}_mean_wQuantileLoss" for channel in range(3)} <= set(scores)


def test_backtest_metrics(predictor: AdapterPredictor) -> None:
    evaluator = MultivariateEvaluator(quantiles=DECILES, num_workers=0)
    total, by_item = backtest_metrics(entries(), predictor, evaluator=evaluator, num_samples=50)
    assert np.isfinite(total["mean_wQuantileLoss"]) and total["mean_wQuantileLoss"] > 0
    assert list(by_item["item_id"]) == ["item0", "item1"] * 3  # channel by channel


def test_one_channel_is_univariate_where_its_target_is() -> None:
    dataset = [entry | {"target": entry["target"][0]} for entry in entries()]
    predictor = make().train(dataset)
    scores, by_item = backtest_metrics(dataset, predictor, evaluator=Evaluator(DECILES, num_workers=0), num_samples=50)
    assert np.isfinite(scores["mean_wQuantileLoss"]) and list(by_item["item_id"]) == ["item0", "item1"]
    assert [forecast.samples.shape for forecast in predictor.predict(dataset)] == [(60, H)] * 2
    wide = [entry | {"target": entry["target"][None]} for entry in dataset]
    assert [forecast.samples.shape for forecast in predictor.predict(wide)] == [(60, H, 1)] * 2
    test = split(dataset, offset=-H)[1].generate_instances(H)
    assert evaluate_model(predictor, test_data=test, metrics=[MSE()]).shape == (1, 1)


def test_items_unseen_in_training_short_ones_and_missing_cells(predictor: AdapterPredictor) -> None:
    new = entries(items=4, length=200)[2:]
    new[0]["target"] = new[0]["target"][:, :15]
    new[1]["target"][:, ::5] = np.nan
    new[1]["target"][1] = np.nan
    forecasts = list(predictor.predict(new))
    assert [forecast.item_id for forecast in forecasts] == ["item2", "item3"]
    assert all(np.isfinite(forecast.samples).all() for forecast in forecasts)


def test_an_adapter_fitted_elsewhere_takes_channels_by_position() -> None:
    adapter = Adapter("residual", prediction_length=H, context_length=48, foundation_model=SeasonalModel()).fit(frame())
    (forecast,) = AdapterPredictor(adapter).predict([entries(1)[0] | {"item_id": "0"}])
    np.testing.assert_array_equal(forecast.samples, adapter.predict().samples)


@pytest.mark.parametrize(
    ("dates", "start"),
    [
        (pd.date_range("2000-01-31", periods=240, freq="ME"), pd.Period("2000-01", "M")),
        (pd.date_range("2000-03-31", periods=240, freq="QE"), pd.Period("2000Q1", "Q")),
        (pd.date_range("2024-03-01", periods=240, freq="h", tz="Europe/Paris"), pd.Period("2024-03-01 00:00", "h")),
        (None, pd.Period("2024", "D")),
    ],
)
def test_an_adapter_fitted_elsewhere_takes_the_periods_of_its_dates(dates: Any, start: pd.Period) -> None:
    adapter = Adapter("residual", prediction_length=H, context_length=48, foundation_model=SeasonalModel())
    adapter.fit(rows() if dates is None else frame().set_axis(dates))
    (forecast,) = AdapterPredictor(adapter).predict([{"start": start, "target": rows().T, "item_id": "0"}])
    np.testing.assert_array_equal(forecast.samples, adapter.predict().samples)
    assert forecast.start_date == start + 240


def test_channels_in_another_order_are_refused_where_the_dataset_names_them() -> None:
    r"""gluonts itself goes by position, and would take one channel for another without a word."""
    right, wrong = (PandasDataset(frame(), target=list(names)) for names in ("xyz", "zyx"))
    training, template = split(right, offset=-24)
    trained = make(support={"z": (-100.0, 100.0)}).train(training)
    assert trained.adapter.channels == ("x", "y", "z")
    test = split(wrong, offset=-24)[1].generate_instances(H)
    assert len(list(trained.predict(template.generate_instances(H).input))) == 1
    for dataset in (wrong, test.input):
        with pytest.raises(ValueError, match=r"channels are z, y, x, the adapter was fitted on x, y, z"):
            next(trained.predict(dataset))
    with pytest.raises(ValueError, match=r"validation_data's channels are z, y, x, those of training_data x, y, z"):
        make().train(training, validation_data=wrong)
    assert len(list(trained.predict([entries(1)[0]]))) == 1  # no names: by position


def test_other_data_than_the_fitted_are_refused(predictor: AdapterPredictor) -> None:
    two = entries(channels=2)
    empty = [two[0] | {"target": np.zeros((3, 0))}]
    for data, shape in ((two, r"\(2, 240\)"), (empty, r"\(3, 0\)")):
        with pytest.raises(ValueError, match=rf"entry 0 has a target of shape {shape}, .* the 3 channels .*0, 1, 2"):
            next(predictor.predict(data))
    with pytest.raises(ValueError, match="entry 1 has periods of 'D', the adapter was fitted on rows of 'h'"):
        next(predictor.predict([entries()[0], entries(freq="D")[0]]))
    with pytest.raises(ValueError, match=r"needs a fitted adapter: call fit\(series\) first"):
        AdapterPredictor(Adapter(prediction_length=H))


# ---------------------------------------------------------------------------------------------------- training


class Fails(Callback):  # type: ignore[misc]
    r"""Counts the epochs, and fails in one of them."""

    def __init__(self, epoch: int) -> None:
        self.epoch, self.epochs = epoch, 0

    def on_train_epoch_start(self, trainer: Any, module: Any) -> None:
        self.epochs += 1
        if trainer.current_epoch == self.epoch:
            raise RuntimeError("the disk is full")


def test_an_error_in_training_is_raised_and_trainer_options_outlive_a_training(tmp_path: Path) -> None:
    r"""gluonts' own estimators return a half-trained predictor, and lose their callbacks."""
    callback = Fails(epoch=1)
    trainer = {**QUICK, "max_epochs": 3, "callbacks": [callback], "default_root_dir": str(tmp_path)}
    estimator = make(family="linear", trainer_kwargs=trainer)
    for epochs in (2, 4):
        with pytest.raises(RuntimeError, match="the disk is full"):
            estimator.train(entries(1, length=600))
        assert callback.epochs == epochs
    assert trainer["callbacks"] == [callback]


def test_training_twice_gives_the_same_and_leaves_the_estimator_alone() -> None:
    estimator = make(family="linear", trainer_kwargs=QUICK)
    before = repr(estimator.adapter)
    one, two = (next(estimator.train(entries(1, 600)).predict(entries(1))) for _ in range(2))
    np.testing.assert_array_equal(one.samples, two.samples)
    assert repr(estimator.adapter) == before


def test_a_training_that_was_ended_goes_on(tmp_path: Path, predictor: AdapterPredictor) -> None:
    for _ in range(2):
        trained = make().train(entries(), checkpoint_dir=tmp_path / "run")
        for one, other in zip(trained.predict(entries()), predictor.predict(entries()), strict=True):
            np.testing.assert_array_equal(one.samples, other.samples)
    assert (tmp_path / "run" / "fit.json").is_file()


@pytest.mark.parametrize("form", ["longer", "going on"])
def test_validation_data_become_the_validation_rows(form: str) -> None:
    whole = entries()
    training = [entry | {"target": entry["target"][:, :180]} for entry in whole]
    later = [entry | {"start": entry["start"] + 180, "target": entry["target"][:, 180:]} for entry in whole]
    trained = make().train(training, whole if form == "longer" else later)
    adapter = Adapter("residual", prediction_length=H, context_length=48, foundation_model=SeasonalModel())
    adapter.fit(whole, borders=(180, 240))
    assert trained.adapter.summary().to_dict() == adapter.summary().to_dict()
    spans = trained.adapter.summary().spans
    assert [spans[part]["rows"] for part in ("train", "validation", "calibration", "confirmation")] == [360, 40, 40, 40]
    for forecast, direct in zip(trained.predict(whole), adapter.predict(num_samples=60), strict=True):
        np.testing.assert_array_equal(forecast.samples, direct.samples)


def test_validation_data_that_cannot_serve_are_refused() -> None:
    whole = entries()
    training = [entry | {"target": entry["target"][:, :180]} for entry in whole]
    uneven = [training[0], whole[1] | {"target": whole[1]["target"][:, :170]}]
    for data, validation, says in [
        (whole, whole, r"goes on for 0 rows after the end of training_data, at least 18 are needed"),
        (training, [entry | {"target": entry["target"][:, :190]} for entry in whole], "goes on for 10 rows"),
        (
            training,
            [entry | {"item_id": "other"} for entry in whole[:1]],
            "under the same item_id; got other, not item0",
        ),
        (training, whole + whole, "each once"),
        (training, entries(channels=2), "holds 2 channels of frequency 'h', training_data 3 of 'h'"),
        (training, entries(freq="D"), "holds 3 channels of frequency 'D', training_data 3 of 'h'"),
        (training, [entry | {"start": entry["start"] + 200} for entry in whole], "the rows between are missing"),
        (uneven, whole, "cannot serve where items end at different dates"),
    ]:
        with pytest.raises(ValueError, match=says):
            make().train(data, validation_data=validation)


# ---------------------------------------------------------------------------------------------------- covariates

FEATURES = {"num_feat_dynamic_real": 2, "num_past_feat_dynamic_real": 1}
ROLES = {"target": ["x", "y"], "past_covariates": ["z"], "known_covariates": ["price", "holiday"]}


def driven(length: int = 600, ahead: int = H, seed: int = 0) -> pd.DataFrame:
    r"""Channels x and y, of which the price moves the first, and z, which tells x a few steps before."""
    table = frame(length + ahead, seed)
    rng = np.random.default_rng(seed + 100)
    table["price"] = np.round(64 * rng.normal(size=len(table))) / 64 + 3
    table["holiday"] = (rng.random(len(table)) < 0.1).astype(float)
    table["x"] += 4 * table["price"]
    table["z"] = table["x"].shift(-H, fill_value=0.0)
    table.iloc[20:25, -2:] = np.nan
    return table


def driven_dataset(length: int = 600, **options: Any) -> PandasDataset:
    return PandasDataset(
        {f"item{n}": driven(length, seed=n) for n in range(2)}, target=["x", "y"], past_feat_dynamic_real=["z"],
        feat_dynamic_real=["price", "holiday"], future_length=H, **options,
    )  # fmt: skip


def driven_frame(length: int = 600) -> pd.DataFrame:
    tables = [driven(length, seed=n).reset_index().assign(item_id=f"item{n}") for n in range(2)]
    return pd.concat(tables, ignore_index=True)


def before_end(table: pd.DataFrame, length: int = 600) -> pd.DataFrame:
    return table[table["timestamp"] < table["timestamp"].iloc[0] + pd.Timedelta(hours=length)]


@pytest.fixture(scope="module")
def with_features() -> AdapterPredictor:
    return make(**FEATURES).train(driven_dataset())


@pytest.mark.parametrize("calendar", [False, True])
def test_covariates_through_both_doors_give_the_same_bits(calendar: bool, tmp_path: Path) -> None:
    adapter = Adapter("residual", prediction_length=H, context_length=48, foundation_model=SeasonalModel())
    adapter.fit(before_end(driven_frame()), calendar=calendar, **ROLES)
    predictor = make(**FEATURES, calendar=calendar).train(driven_dataset())
    assert predictor.adapter.summary().to_dict() == adapter.summary().to_dict()
    assert "used for 1 of 2 channels; quantile loss lower by x" in adapter.summary().stages["covariates"]
    direct = adapter.predict(future=driven_frame(), num_samples=60)
    for one, other in zip(predictor.predict(driven_dataset()), direct, strict=True):
        np.testing.assert_array_equal(one.samples, other.samples)
    for one, other in zip(AdapterPredictor(adapter, 60).predict(driven_dataset()), direct, strict=True):
        np.testing.assert_array_equal(one.samples, other.samples)
    predictor.serialize(tmp_path)
    again = Predictor.deserialize(tmp_path, foundation_model=SeasonalModel())
    for one, other in zip(again.predict(driven_dataset()), direct, strict=True):
        np.testing.assert_allclose(one.samples, other.samples, atol=1e-5)
    shorter = driven_dataset(400)  # an earlier end, with its own dates
    past = before_end(driven_frame(400), 400)
    direct = adapter.predict(past, future=driven_frame(400), num_samples=60)
    for one, other in zip(predictor.predict(shorter), direct, strict=True):
        np.testing.assert_array_equal(one.samples, other.samples)


def test_datasets_without_names_hold_the_same_features(tmp_path: Path, with_features: AdapterPredictor) -> None:
    plain = [{name: value.copy() if name != "start" and name != "item_id" else value for name, value in entry.items()}
             for entry in driven_dataset()]  # fmt: skip
    JsonLinesWriter(use_gzip=False).write_to_folder(plain, tmp_path)
    file = next(tmp_path.glob("*.json"))
    for dataset in (
        plain,
        ListDataset(plain, freq="h", one_dim_target=False),
        FileDataset(file, freq="h", one_dim_target=False),
    ):
        trained = make(**FEATURES).train(dataset)
        panel = trained.adapter.fitted_.panel
        assert panel.known_covariates == ("feat_dynamic_real 0", "feat_dynamic_real 1") and panel.targets == ("0", "1")
        for one, other in zip(trained.predict(dataset), with_features.predict(driven_dataset()), strict=True):
            np.testing.assert_allclose(one.samples, other.samples, rtol=1e-4, atol=1e-4)  # float32
    for one, other in zip(with_features.predict(plain), trained.predict(driven_dataset()), strict=True):
        np.testing.assert_allclose(one.samples, other.samples, rtol=1e-4, atol=1e-4)


def test_features_in_gluonts_pipelines() -> None:
    dataset = driven_dataset(660)
    training, template = split(dataset, offset=-60)
    test = template.generate_instances(H, windows=6, distance=H)
    metrics = [MeanWeightedSumQuantileLoss(DECILES)]
    trained = make(**FEATURES).train(training)
    with_them = evaluate_model(trained, test_data=test, metrics=metrics)
    without = evaluate_model(make().train(training), test_data=test, metrics=metrics)
    assert with_them.iloc[0, 0] < 0.8 * without.iloc[0, 0]
    window, label = next(iter(test))
    alone, batched = next(trained.predict([window])), next(trained.predict(test.input))
    np.testing.assert_allclose(alone.samples, batched.samples, atol=1e-3)
    assert batched.start_date == label["start"]
    forecasts, _ = make_evaluation_predictions(dataset, trained, num_samples=20)
    assert [forecast.samples.shape for forecast in forecasts] == [(20, H, 2)] * 2
    whole = make(**FEATURES).train(training, validation_data=dataset)
    assert whole.adapter.summary().spans["train"]["rows"] == 1200


def test_features_that_nobody_declared_are_not_looked_at() -> None:
    bare = [{name: entry[name] for name in ("start", "target", "item_id")} for entry in driven_dataset()]
    one, other = (next(make().train(dataset).predict(bare)) for dataset in (driven_dataset(), bare))
    np.testing.assert_array_equal(one.samples, other.samples)


def test_features_that_the_other_door_does_not_read_are_told() -> None:
    entries = [
        {"start": pd.Period("2024-01-01", freq="D"), "target": np.arange(60.0), "feat_static_cat": [0, 3]},
        {"start": pd.Period("2024-01-01", freq="D"), "target": np.arange(60.0), "feat_dynamic_real": np.ones((2, 67))},
    ]
    with pytest.warns(UserWarning, match="hold feat_static_cat, feat_dynamic_real, and only their targets") as said:
        panel = Panel.of(entries)
    assert len(said) == 1 and panel.num_channels == 1 and len(panel) == 2
    assert "AdapterEstimator(..., num_feat_static_cat=2, num_feat_dynamic_real=2) of adapts" in str(said[0].message)
    with pytest.warns(UserWarning, match="past_feat_dynamic_cat.*: use columns of a frame"):
        Panel.of([{**entry, "past_feat_dynamic_cat": [["x"]]} for entry in entries])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        Panel.of([{name: entry[name] for name in ("start", "target")} | {"item_id": 3, "info": 1} for entry in entries])


def test_features_that_are_missing_short_or_unknown_ahead_are_refused(with_features: AdapterPredictor) -> None:
    first, entry = driven_dataset()
    known = entry["feat_dynamic_real"]
    hole = known.copy()
    hole[1, 601:604] = np.nan
    steps = r"expected 2 rows \(price, holiday\) of 606 steps or more, the 600 of its target and the 6 ahead"
    for change, says in [
        ({"feat_dynamic_real": None}, rf"entry 1 has no feat_dynamic_real: {steps}"),
        ({"feat_dynamic_real": known[:, :603]}, rf"entry 1 has feat_dynamic_real of shape \(2, 603\): {steps}"),
        ({"feat_dynamic_real": known[:1]}, rf"entry 1 has feat_dynamic_real of shape \(1, 606\): {steps}"),
        (
            {"feat_dynamic_real": hole},
            r"entry 1 lacks 3 of the 6 steps ahead of 'holiday' \(row 1 of feat_dynamic_real",
        ),
    ]:
        with pytest.raises(ValueError, match=says):
            list(with_features.predict([first, entry | change]))
    with pytest.raises(ValueError, match=r"entry 0 has past_feat.* of shape \(1, 9\): expected 1 rows .* of 600 steps"):
        make(**FEATURES).train([first | {"past_feat_dynamic_real": np.zeros((1, 9))}, entry])
    swapped = PandasDataset(driven(), target=["x", "y"], feat_dynamic_real=["holiday", "price"], future_length=H)
    with pytest.raises(ValueError, match=r"dataset's feat_dynamic_real are holiday, price, the adapter .* price, holi"):
        next(with_features.predict(swapped))
    with pytest.raises(ValueError, match="num_feat_dynamic_real to be an integer of at least 0, got -1"):
        make(num_feat_dynamic_real=-1)
    with pytest.raises(ValueError, match="num_feat_static_cat to be at most 5000, got 1000000000"):
        make(num_feat_static_cat=10**9)


@pytest.mark.parametrize(
    ("freq", "period"), [("ME", "M"), ("MS", "M"), ("QE-NOV", "Q-NOV"), ("W-TUE", "W-TUE"), ("D", "D"), ("15min", None)]
)
def test_calendars_of_periods_are_those_of_the_fitted_dates(freq: str, period: str | None) -> None:
    dates = pd.date_range("2001-01-31 00:05", periods=100, freq=freq)
    for fitted in (0, 60):
        panel = Panel.of(pd.DataFrame({"x": np.arange(40.0)}, dates[fitted : fitted + 40]), frequency=freq)
        for first in (0, 37, 80):
            start = pd.Period(dates[first], period or freq)
            pd.testing.assert_index_equal(
                dates_following(panel, start, 20), dates[first : first + 20], check_exact=True
            )


# ---------------------------------------------------------------------------------------------------- kept


def test_a_predictor_is_kept_to_the_bit(tmp_path: Path) -> None:
    tiny_chronos_bolt().save_pretrained(tmp_path / "bolt")
    tmp_path, bolt = tmp_path / "predictor", str(tmp_path / "bolt")
    estimator = AdapterEstimator(
        prediction_length=H, context_length=48, family="vae", family_options={"latent_channels": 2}, num_samples=30,
        trainer_kwargs=QUICK, batch_size=5, foundation_model=bolt,
    )  # fmt: skip
    predictor = estimator.train(entries(length=400))
    predictor.serialize(tmp_path)
    predictor.serialize(tmp_path)  # gluonts' predictors write over what stands there
    assert {path.name for path in tmp_path.iterdir()} == {"adapter", "gluonts-config.json", "predictor.json"}
    with pytest.raises(ValueError, match=r"name it with AdapterPredictor.deserialize\(.*foundation_model="):
        Predictor.deserialize(tmp_path)
    again = Predictor.deserialize(tmp_path, foundation_model=bolt)
    assert isinstance(again, AdapterPredictor)
    assert (again.prediction_length, again.num_samples, again.batch_size) == (H, 30, 5)
    for one, other in zip(predictor.predict(entries()), again.predict(entries()), strict=True):
        np.testing.assert_array_equal(one.samples, other.samples)
    direct = Adapter.load(tmp_path / "adapter", foundation_model=bolt).predict(entries(), num_samples=30)
    np.testing.assert_array_equal(direct[1].samples, other.samples)


def test_a_predictor_replaces_no_file_of_others(tmp_path: Path, predictor: AdapterPredictor) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    predictor.serialize(tmp_path)
    predictor.serialize(tmp_path)
    assert (tmp_path / "notes.txt").read_text() == "mine"
    for name in ("predictor.json", "gluonts-config.json", "adapter/config.json"):
        ours = (tmp_path / name).read_bytes()
        (tmp_path / name).write_text("mine")
        with pytest.raises(ValueError, match=f"{name.partition('/')[0]} exists, and adapts did not write it: it is ke"):
            predictor.serialize(tmp_path)
        assert (tmp_path / name).read_text() == "mine"
        (tmp_path / name).write_bytes(ours)


def test_a_predictor_that_was_not_written_to_its_end_is_the_old_or_the_new_one(
    tmp_path: Path, predictor: AdapterPredictor
) -> None:
    old = AdapterPredictor(predictor.adapter, num_samples=11)
    new = AdapterPredictor(Adapter.load(_saved(predictor, tmp_path), foundation_model=SeasonalModel()), num_samples=22)
    new.adapter.fit(frame(500))
    for name, each in (("old", old), ("new", new)):
        each.serialize(tmp_path / name)
    options = {name: json.loads((tmp_path / name / "predictor.json").read_text()) for name in ("old", "new")}
    between = json.dumps({**options["new"], "previous": options["old"]})
    for name, samples in (("old", 11), ("new", 22)):
        (tmp_path / name / "predictor.json").write_text(between)
        assert Predictor.deserialize(tmp_path / name, foundation_model=SeasonalModel()).num_samples == samples
    (tmp_path / "old" / "predictor.json").write_text(json.dumps(options["new"]))
    with pytest.raises(
        ValueError, match="belongs to another adapter than the one in .*: serialize the predictor again"
    ):
        Predictor.deserialize(tmp_path / "old", foundation_model=SeasonalModel())
    old.serialize(tmp_path / "old")
    assert Predictor.deserialize(tmp_path / "old", foundation_model=SeasonalModel()).num_samples == 11


def _saved(predictor: AdapterPredictor, folder: Path) -> Path:
    predictor.adapter.save(folder / "saved")
    return folder / "saved"


def test_a_live_model_is_handed_in_again(tmp_path: Path, predictor: AdapterPredictor) -> None:
    predictor.serialize(tmp_path)
    with pytest.raises(ValueError, match="fitted with a live model"):
        Predictor.deserialize(tmp_path)
    again = Predictor.deserialize(tmp_path, foundation_model=SeasonalModel())
    for one, other in zip(predictor.predict(entries()), again.predict(entries()), strict=True):
        np.testing.assert_array_equal(one.samples, other.samples)


# ---------------------------------------------------------------------------------------------------- told


@pytest.mark.filterwarnings("ignore:The provided callable:FutureWarning")  # between gluonts and pandas
def test_the_examples_of_the_documentation_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = Path(__file__).parents[1] / "docs" / "gluonts.md"
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    for block in re.findall(r"```python\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL):
        exec(block, names)
    (forecast,), (again,) = names["predictor"].predict(names["dataset"], 200), names["again"].predict(names["dataset"])
    np.testing.assert_array_equal(forecast.samples, again.samples)
    assert forecast.samples.shape == (200, 12, 3)
    assert 0 < names["scores"]["m_sum_mean_wQuantileLoss"] < 0.1
