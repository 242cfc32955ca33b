r"""One adapter a group: what each says is what it says alone, whatever way it is asked, kept and carried."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from seasonal import SeasonalModel
from sklearn.base import clone
from test_static import shops, until

from adapts import Adapter, Forecast, GroupedAdapter
from adapts.integrations.gluonts.predictor import AdapterPredictor
from adapts.testing.tiny import tiny_chronos_bolt

H = 6
#: Items in the order of the frame, and their groups, whose names no file can bear.
ITEMS = {"a": "../north", "b": "south/1", "c": "../north", "d": "", "e": "south/1"}


def long(rows: int = 300, seed: int = 0) -> pd.DataFrame:
    r"""Five items of two channels, one driven by a column that is known; rows lie by date, items side by side."""
    generator = np.random.default_rng(seed)
    frames = []
    for number, (item, group) in enumerate(ITEMS.items()):
        noise = generator.standard_normal((rows, 3))
        season = np.sin(2 * np.pi * np.arange(rows) / 12 + number)
        dates = pd.date_range("2024-01-01", periods=rows, freq="h")
        columns = {"x": season + noise[:, 2] + 0.2 * noise[:, 0], "y": 10.0**number * (season + 0.2 * noise[:, 1])}
        frames.append(
            pd.DataFrame({"region": group, "item_id": item, "timestamp": dates, **columns, "driver": noise[:, 2]})
        )
    return pd.concat(frames).sort_values("timestamp", kind="stable", ignore_index=True)


def plain(rows: int = 300, seed: int = 0) -> pd.DataFrame:
    return long(rows, seed).drop(columns="driver")


def adapter(**options: object) -> Adapter:
    options = {"foundation_model": SeasonalModel(), "max_windows": 60, **options}
    return Adapter("residual", prediction_length=H, **options)


def grouped(**options: object) -> GroupedAdapter:
    return GroupedAdapter(adapter(**options), "region")


def alone(frame: pd.DataFrame, group: str) -> pd.DataFrame:
    return frame[frame["region"] == group].drop(columns="region")


def few(forecasts: Forecast | list[Forecast]) -> list[Forecast]:
    return forecasts if isinstance(forecasts, list) else [forecasts]


def assert_same(ours: list[Forecast], theirs: list[Forecast]) -> None:
    assert [each.item_id for each in ours] == [each.item_id for each in theirs]
    for one, other in zip(ours, theirs, strict=True):
        pd.testing.assert_index_equal(one.index, other.index)
        np.testing.assert_array_equal(one.samples, other.samples)


@pytest.fixture(scope="module")
def fitted() -> GroupedAdapter:
    return grouped().fit(plain())


# ---------------------------------------------------------------------- what is fitted


def test_each_group_is_fitted_as_if_it_came_alone(fitted: GroupedAdapter) -> None:
    assert list(fitted.adapters_) == ["../north", "south/1", ""]
    assert list(fitted.items_.items()) == list(ITEMS.items())
    forecasts = {forecast.item_id: forecast for forecast in fitted.predict()}
    for group in fitted.adapters_:
        theirs = few(adapter().fit(alone(plain(), group)).predict())
        if group == "":  # a series that comes alone bears its name too
            assert [each.item_id for each in theirs] == ["d"]
        assert_same([forecasts[each.item_id] for each in theirs], theirs)


def test_forecasts_come_in_the_order_of_the_items(fitted: GroupedAdapter) -> None:
    assert [forecast.item_id for forecast in fitted.predict()] == list(ITEMS)
    turned = pd.concat([rows for _, rows in plain(320).groupby("item_id")][::-1])
    later = fitted.predict(turned)
    assert [forecast.item_id for forecast in later] == list(ITEMS)[::-1]
    expected = {forecast.item_id: forecast for forecast in fitted.predict(plain(320))}
    for one in later:  # a batch in another order rounds otherwise
        np.testing.assert_allclose(one.mean, expected[one.item_id].mean, rtol=1e-4)


def test_a_single_group_is_the_plain_adapter() -> None:
    frame = plain().assign(region="one")
    ours, theirs = grouped().fit(frame), adapter().fit(frame.drop(columns="region"))
    assert_same(ours.predict(), theirs.predict())
    one, other = ours.backtest(frame, windows=3), theirs.backtest(frame.drop(columns="region"), windows=3)
    for group in ("one", "all"):
        found = one[one["group"] == group].drop(columns="group").reset_index(drop=True)
        pd.testing.assert_frame_equal(found, other)


def test_an_item_a_group() -> None:
    frame = plain()[["item_id", "timestamp", "x"]]
    ours = GroupedAdapter(adapter(), "item_id").fit(frame, item_column="item_id")
    assert ours.items_ == {item: item for item in ITEMS}
    alone = adapter().fit(frame[frame["item_id"] == "c"]).predict()
    assert_same([ours.predict()[2]], [alone])
    one = ours.predict(frame[frame["item_id"] == "c"])
    assert isinstance(one, Forecast)  # one item in, one forecast out
    assert_same([one], [alone])


@pytest.mark.parametrize("form", ["indexed", "text", "polars", "named", "file"])
def test_the_form_of_the_frame_does_not_matter(form: str, fitted: GroupedAdapter, tmp_path: Path) -> None:
    frame, columns = plain(), {}
    if form == "indexed":
        frame = frame.set_index(["item_id", "timestamp"])
    if form == "text":
        frame["timestamp"] = frame["timestamp"].dt.strftime("%d/%m/%Y %H:%M")
    if form == "polars":
        frame = pytest.importorskip("polars").from_dict({name: frame[name].to_numpy() for name in frame})
    if form == "named":
        frame, columns = frame.rename(columns={"item_id": "shop"}), {"item_column": "shop"}
    if form == "file":
        frame = frame.assign(region=frame["region"].replace("", "none"))
        frame.to_csv(tmp_path / "sales.csv", index=False)
        frame = tmp_path / "sales.csv"
    ours = grouped().fit(frame, **columns)
    assert_same(ours.predict(), fitted.predict())
    if form == "named":  # the name of the column is remembered
        assert_same(ours.predict(frame), fitted.predict())


def test_dates_are_read_in_one_order_in_all_groups() -> None:
    r"""The first eleven days of a month do not tell by themselves which number is the day."""
    dates = pd.date_range("2024-01-01", periods=40, freq="D")
    frame = pd.DataFrame({
        "region": ["early"] * 11 + ["late"] * 40, "item_id": ["a"] * 11 + ["b"] * 40,
        "timestamp": [*dates[:11].strftime("%d/%m/%Y"), *dates.strftime("%d/%m/%Y")], "x": np.arange(51.0),
    })  # fmt: skip
    early, late = (
        GroupedAdapter(Adapter("residual", prediction_length=2, foundation_model=SeasonalModel()), "region")
        .fit(frame)
        .predict()
    )
    assert early.index[0] == dates[11]
    assert late.index[0] == dates[-1] + pd.Timedelta(days=1)


def test_groups_of_numbers_are_named_by_their_text() -> None:
    frame = plain().assign(region=lambda rows: rows["item_id"].map({"a": 1, "b": 2, "c": 1, "d": 2, "e": 2}))
    assert list(grouped().fit(frame).adapters_) == ["1", "2"]
    frame["region"] = frame["region"].astype("category")
    assert list(grouped().fit(frame).adapters_) == ["1", "2"]


def test_undated_rows() -> None:
    frame = plain().drop(columns="timestamp")
    forecasts = grouped().fit(frame).predict()
    theirs = adapter().fit(alone(frame, "../north")).predict()
    assert_same([forecasts[0], forecasts[2]], theirs)
    assert forecasts[0].index[0] == 300


def test_the_frozen_model_is_one_for_all(fitted: GroupedAdapter, tmp_path: Path) -> None:
    tiny_chronos_bolt().save_pretrained(tmp_path / "model")
    ours = grouped(foundation_model=tmp_path / "model", context_length=48).fit(plain())
    ours.save(tmp_path / "saved")
    unpickled = pickle.loads(pickle.dumps(ours))
    expected = ours.predict()
    loaded = GroupedAdapter.load(tmp_path / "saved", foundation_model=tmp_path / "model")
    for each in (ours, unpickled, loaded):
        assert_same(each.predict(), expected)
        assert len({id(adapter.model) for adapter in each.adapters_.values()}) == 1


# ---------------------------------------------------------------------- what is routed


def test_items_find_their_group_by_the_column_or_by_what_was_fitted(fitted: GroupedAdapter) -> None:
    later = plain(320)
    assert_same(fitted.predict(later.drop(columns="region")), fitted.predict(later))
    cold = later[later["item_id"] == "a"].assign(item_id="new", region="south/1")
    theirs = fitted.adapters_["south/1"].predict(cold.drop(columns="region"))
    assert_same([fitted.predict(cold)], [theirs])
    with pytest.raises(ValueError, match="item 'new' was not fitted, and there is no column 'region' for its gr"):
        fitted.predict(cold.drop(columns="region"))
    with pytest.raises(ValueError, match=r"group 'west' was not fitted; the groups are \.\./north, south/1, : leave"):
        fitted.predict(cold.assign(region="west"))


def test_covariates_go_through() -> None:
    frame, roles = long(), {"target": ["x", "y"], "known_covariates": ["driver"], "calendar": True}
    past, ahead = frame[frame["timestamp"] < "2024-01-12"], frame[frame["timestamp"] >= "2024-01-12"]
    ours = grouped().fit(past, **roles)
    forecasts = ours.predict(future=ahead.drop(columns=["x", "y"]))
    for group in ("../north", ""):
        one = adapter().fit(alone(past, group), **roles)
        theirs = few(one.predict(future=alone(ahead, group)))
        assert_same([each for each in forecasts if ITEMS[each.item_id] == group], theirs)
    assert_same(ours.predict(future=ahead.drop(columns="region")), forecasts)
    renamed = past.rename(columns={"item_id": "unique_id", "timestamp": "when"})  # the future has names of its own
    assert_same(ours.predict(renamed, future=ahead), forecasts)
    some = past[past["item_id"].isin(["b", "d"])]
    for one, other in zip(ours.predict(some, future=ahead), [forecasts[1], forecasts[3]], strict=True):
        np.testing.assert_allclose(one.samples, other.samples, rtol=1e-4)  # alone in a batch, products round otherwise
    with pytest.raises(ValueError, match=r"group 'south/1': the adapter was fitted with known covariates \(driver\)"):
        ours.predict(future=ahead[ahead["region"] == "../north"])
    # a backtest reads the columns that the fit was told of, unless it is told of others
    scores = ours.backtest(frame, windows=2, baselines=False)
    pd.testing.assert_frame_equal(scores, grouped().backtest(frame, windows=2, baselines=False, **roles))
    others = ours.backtest(frame, windows=2, baselines=False, target=np.array(["x"]), known_covariates=pd.Index([]))
    assert set(others["channel"]) == {"all", "x"}


def test_static_columns_go_through(tmp_path: Path) -> None:
    frame = shops(rows=200).assign(region=lambda rows: np.where(rows["item_id"] < "shop4", "west", "east"))
    roles = {"target": ["sales"], "known_covariates": ["price"], "static": ["kind"]}
    past, ahead = until(frame, 180), frame[["item_id", "timestamp", "price"]]
    ours = grouped().fit(past, **roles)
    ours.save(tmp_path / "grouped")
    loaded = GroupedAdapter.load(tmp_path / "grouped", foundation_model=SeasonalModel())
    one = adapter().fit(alone(past, "west"), **roles)
    assert_same(ours.predict(future=ahead)[:4], one.predict(future=ahead))
    known = past.drop(columns=["region", "kind"])  # what the fit knows of its items
    for each in (ours, loaded):
        assert_same(each.predict(known, future=ahead), ours.predict(future=ahead))
    with pytest.raises(ValueError, match="group 'east': static column 'kind' is the same in all"):
        grouped().fit(past[(past["region"] == "west") | (past["kind"] == "up")], **roles)


def test_an_update_goes_to_each_group_or_to_none(fitted: GroupedAdapter, caplog: pytest.LogCaptureFixture) -> None:
    ours = pickle.loads(pickle.dumps(fitted))
    frame = plain(310)
    assert ours.update(frame.drop(columns="region")) is ours
    one = adapter().fit(alone(plain(), "../north")).update(alone(frame, "../north"))
    assert_same([each for each in ours.predict() if ITEMS[each.item_id] == "../north"], one.predict())
    before = ours.predict()
    gap = plain(330)
    gap = gap[(gap["region"] != "") | (gap["timestamp"] > "2024-01-14 03:00")]
    with pytest.raises(ValueError, match="group '': update expects the rows of 'd' to continue at"):
        ours.update(gap)
    assert_same(ours.predict(), before)
    with pytest.raises(ValueError, match="got rows of 'z'"):
        ours.update(frame[frame["item_id"] == "d"].assign(item_id="z"))
    with pytest.raises(ValueError, match="item 'd' was fitted in group '', got rows of it in 'south/1'"):
        ours.update(frame[frame["item_id"] == "d"].assign(region="south/1"))
    with pytest.raises(ValueError, match="item 'd' was fitted in group '', got rows of it in 'south/1'"):
        ours.predict(frame[frame["item_id"] == "d"].assign(region="south/1"))
    ours.update(plain(312).query("item_id == 'd'"))
    assert "no new rows of 2 of 3 groups (../north, south/1): their forecasts are unchanged" in caplog.text
    assert [each.index[0].hour for each in ours.predict()] == [22, 22, 22, 0, 22]


def test_whole_floats_name_the_groups_of_integers() -> None:
    numbers = plain().assign(region=lambda x: x["region"].map({"../north": 1, "south/1": 2, "": 3}))
    ours = grouped().fit(numbers)
    assert list(ours.adapters_) == ["1", "2", "3"]
    assert_same(ours.predict(numbers.assign(region=numbers["region"].astype(float))), ours.predict())


def test_a_group_is_no_static_column_and_goes_through_no_door_of_gluonts(fitted: GroupedAdapter) -> None:
    for static in ("region", ["region"]):
        with pytest.raises(ValueError, match="column 'region' names the groups, .*: leave it out of static="):
            grouped().fit(plain(), static=static)
    with pytest.raises(ValueError, match="expects a fitted Adapter, got GroupedAdapter: each of its adapters_ is one"):
        AdapterPredictor(fitted)


# ---------------------------------------------------------------------- how it is scored


def test_a_backtest_scores_each_group_and_all_windows() -> None:
    frame, forecasts = grouped().backtest(
        plain(), windows=4, return_forecasts=True, models={"raw": adapter(gate=False)}
    )
    groups = ["../north", "south/1", ""]
    assert frame["group"].unique().tolist() == [*groups, "all"]
    assert frame.columns.tolist() == ["group", "model", "channel", "lead_block", "metric", "value"]
    assert frame["model"].unique().tolist() == ["adapter", "raw", "frozen model", "last value", "seasonal naive"]
    for group in groups:
        found = frame[frame["group"] == group].drop(columns="group").reset_index(drop=True)
        theirs = adapter().backtest(alone(plain(), group), windows=4, models={"raw": adapter(gate=False)})
        pd.testing.assert_frame_equal(found, theirs)
    keys = ["group", "model", "channel", "lead_block", "metric"]
    value = frame.set_index(keys)["value"]
    for metric in ("crps", "mse", "coverage_80", "energy_score"):  # means over windows, of which a group has 4 an item
        parts = [value[group, "adapter", "all", "all", metric] for group in groups]
        assert value["all", "adapter", "all", "all", metric] == pytest.approx(np.average(parts, weights=[2, 2, 1]))
    assert {model: len(each) for model, each in forecasts.items()} == dict.fromkeys(frame["model"].unique(), 20)
    with pytest.raises(ValueError, match="a group is called 'all', the name of the scores over all groups"):
        grouped().backtest(plain().assign(region="all"))


# ---------------------------------------------------------------------- how it is kept


def test_saved_and_loaded(fitted: GroupedAdapter, tmp_path: Path) -> None:
    fitted.save(tmp_path / "run" / "grouped")
    assert {path.name for path in (tmp_path / "run").rglob("*")} >= {"grouped", "groups", "config.json"}
    assert len(list((tmp_path / "run" / "grouped" / "groups").iterdir())) == 3
    with pytest.raises(ValueError, match="exists and is kept"):
        fitted.save(tmp_path / "run" / "grouped")
    loaded = GroupedAdapter.load(tmp_path / "run" / "grouped", foundation_model=SeasonalModel())
    assert_same(loaded.predict(), fitted.predict())
    assert_same(loaded.predict(plain(310)), fitted.predict(plain(310)))
    assert loaded.summary().to_dict() == json.loads(json.dumps(fitted.summary().to_dict()))
    fewer = grouped().fit(plain().query("region == ''"))
    fewer.save(tmp_path / "run" / "grouped", overwrite=True)
    assert len(list((tmp_path / "run" / "grouped" / "groups").iterdir())) == 1
    (tmp_path / "run" / "grouped" / "notes.txt").write_text("mine")
    with pytest.raises(ValueError, match=r"'notes.txt', which adapts did not write"):
        fitted.save(tmp_path / "run" / "grouped", overwrite=True)


def test_what_cannot_be_loaded(fitted: GroupedAdapter, tmp_path: Path) -> None:
    fitted.adapters_[""].save(tmp_path / "single")
    with pytest.raises(
        ValueError, match=r"holds no config.json that names groups: Adapter.load reads a single adapter"
    ):
        GroupedAdapter.load(tmp_path / "single", foundation_model=SeasonalModel())
    with pytest.raises(ValueError, match="expected a folder that GroupedAdapter.save wrote"):
        GroupedAdapter.load(tmp_path / "nowhere")
    fitted.save(tmp_path / "grouped")
    with pytest.raises(ValueError, match="is a grouped one: GroupedAdapter.load reads it"):
        Adapter.load(tmp_path / "grouped")
    next((tmp_path / "grouped" / "groups").glob("*/adapter.safetensors")).write_bytes(b"")
    with pytest.raises(ValueError, match="group .* is a corrupt adapter"):
        GroupedAdapter.load(tmp_path / "grouped", foundation_model=SeasonalModel())


def test_pickles_and_clones(fitted: GroupedAdapter) -> None:
    again = pickle.loads(pickle.dumps(fitted))
    assert_same(again.predict(), fitted.predict())
    for made in (fitted.clone(), clone(fitted)):
        assert made.adapters_ == {} and made.group_column == "region"
        assert made.adapter is not fitted.adapter and made.adapter.model is fitted.adapter.model
    assert repr(fitted.clone()).endswith("not fitted), group_column='region'; not fitted)")
    assert repr(fitted).endswith("group_column='region'; fitted on 3 groups, ../north, south/1, )")


def test_a_fit_goes_on_from_its_folder(tmp_path: Path) -> None:
    one = grouped().fit(plain(), checkpoint_dir=tmp_path)
    folders = sorted(path.name for path in tmp_path.iterdir())
    assert len(folders) == 3 and all((tmp_path / name / "fit.json").is_file() for name in folders)
    turned = pd.concat([rows for _, rows in plain().groupby("item_id")][::-1])
    again = grouped().fit(turned.query("region == ''"), checkpoint_dir=tmp_path)  # found by name, not by place
    assert sorted(path.name for path in tmp_path.iterdir()) == folders
    assert_same([again.predict()], [one.predict()[3]])
    with pytest.raises(ValueError, match="group '': .* holds the checkpoints of another job, which differs in data"):
        grouped().fit(plain(200).query("region == ''"), checkpoint_dir=tmp_path)


def test_options_are_read_and_set() -> None:
    one = adapter()
    ours = GroupedAdapter(one, "region")
    assert ours.get_params(deep=False) == {"adapter": one, "group_column": "region"}
    assert ours.get_params()["adapter__prediction_length"] == H
    assert ours.set_params(adapter__seed=3, group_column="kind") is ours
    assert (ours.adapter.seed, ours.group_column, one.seed) == (3, "kind", 0)
    with pytest.raises(ValueError, match=r"called 'group_colum'.*did you mean 'group_column'\?"):
        ours.set_params(group_colum="x")
    with pytest.raises(ValueError, match=r"called 'sed'.*did you mean 'seed'\?"):
        ours.set_params(adapter__sed=1)
    assert ours.group_column == "kind"
    fitted = grouped().fit(plain().query("region == ''"))
    with pytest.raises(ValueError, match=r"GroupedAdapter.predict needs a fitted adapter"):
        fitted.set_params(adapter__seed=1).predict()


def test_a_summary_tells_of_each_group(fitted: GroupedAdapter) -> None:
    summary = fitted.summary()
    assert summary.items == {"../north": ["a", "c"], "south/1": ["b", "e"], "": ["d"]}
    assert "region '../north', items a, c: residual adapter around seasonal-12" in str(summary)
    assert summary.groups[""].to_dict() == fitted.adapters_[""].summary().to_dict()


# ---------------------------------------------------------------------- what is refused


def mixed(frame: pd.DataFrame) -> pd.DataFrame:
    return frame.assign(region=frame["region"].where(frame.index != 50, "elsewhere"))


@pytest.mark.parametrize(
    ("series", "message"),
    [
        (mixed(plain()), r"item 'a' is in two groups, '\.\./north' and 'elsewhere': column 'region' needs the same"),
        (plain().assign(region=lambda rows: rows["region"].replace("", None)), "'region' names no group in row 3"),
        (plain().drop(columns="region"), "there is no group column 'region'; the columns are item_id, timestamp, x, y"),
        (plain().drop(columns="item_id"), "item_column='region' where each group is one item"),
        (np.zeros((100, 2)), "expected a long frame with a column 'region', got ndarray"),
        ("sales.csv", "there is no file 'sales.csv': expected a long frame with a column 'region', or its file"),
        (plain()[:0], "an empty frame"),
        (plain(300).query("item_id != 'd' or timestamp < '2024-01-01 05:00'"), "group '': too short a series"),
    ],
)
def test_what_cannot_be_fitted(series: object, message: str) -> None:
    ours = grouped()
    with pytest.raises(ValueError, match=message):
        ours.fit(series)
    assert ours.adapters_ == {}


def test_other_mistakes() -> None:
    with pytest.raises(ValueError, match="expects an Adapter to fit to each group, got str"):
        GroupedAdapter("residual", "region")
    with pytest.raises(ValueError, match="expects group_column to name a column, got 3"):
        GroupedAdapter(adapter(), 3)
    with pytest.raises(TypeError, match="unexpected keyword argument 'targets'"):
        grouped().fit(plain(), targets=["x"])
