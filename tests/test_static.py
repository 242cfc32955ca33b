r"""Static columns: items of different kinds that react differently to what is known."""

from __future__ import annotations

import math
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from gluonts.dataset.pandas import PandasDataset
from gluonts.model.predictor import Predictor
from killed import kill_before
from seasonal import SeasonalModel

from adapts import Adapter
from adapts.data.cards import read
from adapts.data.panel import Panel
from adapts.integrations.gluonts.estimator import AdapterEstimator
from adapts.integrations.gluonts.predictor import AdapterPredictor

H, ROWS = 12, 360
ROLES = {"target": ["sales"], "known_covariates": ["price"]}


def shops(items: int = 8, rows: int = ROWS, effect: float = 1.0, seed: int = 0) -> pd.DataFrame:
    r"""Items with a season of 12 steps; the price raises one half of them and lowers the other. And noise."""
    generator = np.random.default_rng(seed)
    tables = []
    for number in range(items):
        price, noise = generator.standard_normal((2, rows))
        sign = 1 if number % 2 else -1
        season = np.sin(2 * np.pi * np.arange(rows) / 12)
        columns = {
            "item_id": f"shop{number}",
            "timestamp": pd.date_range("2024-01-01", periods=rows, freq="h"),
            "sales": season + sign * effect * price + 0.3 * noise + number,
            "price": price + 4,
            "kind": "down" if sign < 0 else "up",
            "slope": 10.0 + 3 * sign,
            "luck": "abc"[number // 2 % 3],  # as often with one kind as with the other
        }
        tables.append(pd.DataFrame(columns))
    return pd.concat(tables, ignore_index=True)


def until(table: pd.DataFrame, row: int) -> pd.DataFrame:
    return table[table["timestamp"] < table["timestamp"].iloc[0] + pd.Timedelta(hours=row)]


def adapter(**options: Any) -> Adapter:
    return Adapter("residual", foundation_model=SeasonalModel(), prediction_length=H, **{"max_windows": 300, **options})


def score(table: pd.DataFrame, **roles: Any) -> float:
    found = adapter().backtest(table, baselines=False, **{**ROLES, **roles})
    return float(found.query("metric == 'crps' and lead_block == 'all' and channel == 'all'")["value"].iloc[0])


def samples(predicted: Any) -> np.ndarray:
    return np.stack([forecast.samples for forecast in predicted])


@pytest.fixture(scope="module")
def fitted() -> Adapter:
    return adapter().fit(until(shops(), 300), static=["kind"], **ROLES)


# ---------------------------------------------------------------------- what they are good for


@pytest.mark.parametrize("column", ["kind", "slope"])
def test_what_tells_two_kinds_apart_lowers_the_crps(column: str) -> None:
    without, with_it = score(shops()), score(shops(), static=column)
    assert without == pytest.approx(score(shops(), known_covariates=()), rel=0.02)  # their mean effect is none
    assert with_it < 0.4 * without


def test_the_slopes_of_both_kinds_are_found(fitted: Adapter) -> None:
    effect = fitted.fitted_.effect
    assert effect.names == ("price",) and effect.static == ("kind=down", "kind=up")
    common, down, up = (effect.weights[:, 0] / effect.scale[0] * fitted.scale_[0]).tolist()
    assert common + up == pytest.approx(1, abs=0.05) and common + down == pytest.approx(-1, abs=0.05)
    assert str(fitted.summary()).count("(differs by kind)") == 1
    ahead = shops()
    dearer = ahead.assign(price=ahead["price"] + 1)
    moved = samples(fitted.predict(future=dearer)) - samples(fitted.predict(future=ahead))
    for number in range(8):
        np.testing.assert_allclose(moved[number], (common + (up if number % 2 else down)), atol=1e-4)


def test_the_calendar_may_act_apart() -> None:
    table = shops(effect=0.0, rows=800)
    weekend = table["timestamp"].dt.dayofweek >= 5
    table["sales"] += 2.0 * weekend * np.where(table["kind"] == "up", 1, -1)
    roles = {"known_covariates": (), "calendar": True}
    assert score(table, static=["kind"], **roles) < 0.9 * score(table, **roles)


@pytest.mark.parametrize("effect", [1.0, 0.0])
def test_noise_changes_no_bit(effect: float) -> None:
    table = until(shops(effect=effect, seed=1), 300)
    table.loc[table["kind"] == "down", "sales"] += 2 * effect * (table["price"] - 4)  # all react alike
    table["noise"] = table["item_id"].map(dict(zip(table["item_id"].unique(), [3, 1, 4, 1, 5, 9, 2, 6], strict=True)))
    one, other = adapter().fit(table, **ROLES), adapter().fit(table, static=["luck", "noise"], **ROLES)
    said = other.summary().stages["covariates"]
    assert said == one.summary().stages["covariates"] + "; static luck, noise: not used, no significant gain"
    assert said.startswith("known price: used for 1 of 1" if effect else "known price: not used")
    ahead = {"future": shops()}
    np.testing.assert_array_equal(samples(other.predict(**ahead)), samples(one.predict(**ahead)))


# ---------------------------------------------------------------------- how items get theirs


def test_new_items_bring_theirs_and_those_of_the_fit_need_not(fitted: Adapter) -> None:
    later, ahead = until(shops(), 320), shops()
    direct = samples(fitted.predict(later, future=ahead))
    np.testing.assert_array_equal(samples(fitted.predict(later.drop(columns="kind"), future=ahead)), direct)
    new, plan = (table[table["item_id"] == "shop3"].assign(item_id="new") for table in (later, ahead))
    forecast, known = fitted.predict(new, future=plan), fitted.predict(later, future=ahead)[3]
    np.testing.assert_allclose(forecast.quantile(0.5), known.quantile(0.5), atol=1e-4)
    with pytest.raises(ValueError, match="item 'new' was not in the fit, which read static columns: give its kind"):
        fitted.predict(new.drop(columns="kind"), future=plan)


@pytest.mark.parametrize("kind", ["sideways", None])
def test_an_unseen_or_missing_category_reacts_as_none(fitted: Adapter, kind: str | None) -> None:
    new, ahead = until(shops(), 320), shops()
    new = new[new["item_id"] == "shop3"].assign(item_id="new", kind=kind)
    ahead = ahead[ahead["item_id"] == "shop3"].assign(item_id="new")
    dearer = ahead.assign(price=ahead["price"] + 1)
    moved = fitted.predict(new, future=dearer).samples - fitted.predict(new, future=ahead).samples
    common = fitted.fitted_.effect.weights[0, 0] / fitted.fitted_.effect.scale[0] * fitted.scale_[0]
    np.testing.assert_allclose(moved, common, atol=1e-4)


def test_items_of_the_fit_keep_what_was_said_of_them(fitted: Adapter, tmp_path: Path) -> None:
    later, ahead = until(shops(), 320), shops()
    for kind, said in (("down", "kind='down'"), ("sideways", "no kind of the fit"), (None, "no kind of the fit")):
        other = later.assign(kind=later["kind"].where(later["item_id"] != "shop3", kind))
        with pytest.raises(ValueError, match=f"item 'shop3' was fitted with kind='up', and now has {said}: pass"):
            fitted.predict(other, future=ahead)
        with pytest.raises(ValueError, match="item 'shop3' was fitted with kind='up', and now has"):
            fitted.update(other)
    table = shops().assign(slope=lambda x: x["slope"] / 7)
    adapter().fit(until(table, 300), static="slope", **ROLES).save(tmp_path / "run")
    one = Adapter.load(tmp_path / "run", foundation_model=SeasonalModel())
    one.predict(until(table, 320), future=ahead)
    with pytest.raises(ValueError, match="item 'shop0' was fitted with slope=1, and now has slope=1.5"):
        one.predict(until(table, 320).replace({"slope": {1.0: 1.5}}), future=ahead)
    lists = [[shop.drop(columns="item_id") for _, shop in rows.groupby("item_id")] for rows in (later, ahead)]
    unnamed = adapter().fit(lists[0], static="kind", **ROLES)
    swapped = unnamed.predict(lists[0][1::-1], future=lists[1][1::-1])  # places in a list name nothing
    np.testing.assert_allclose(swapped[0].quantile(0.5), unnamed.predict(future=lists[1])[1].quantile(0.5), atol=1e-4)


def test_numbers_beyond_the_fit_are_the_nearest_of_it() -> None:
    table, ahead = until(shops(), 300), shops()
    one = adapter().fit(table, static="slope", **ROLES)  # 7 and 13
    new = [rows[rows["item_id"] == "shop3"].assign(item_id="new") for rows in (until(shops(), 320), ahead)]
    for number, nearest in ((1e9, 13), (13.5, 13), (-1e9, 7)):
        beyond, within = (one.predict(new[0].assign(slope=each), future=new[1]) for each in (number, nearest))
        np.testing.assert_array_equal(beyond.samples, within.samples)


def test_a_missing_number_is_the_mean_over_items_each_once() -> None:
    table = until(shops(), 300)
    table = table[(table["item_id"] != "shop7") | (table["timestamp"].dt.day < 6)]
    table.loc[table["item_id"] == "shop0", "slope"] = math.nan
    table.loc[table.index[table["item_id"] == "shop1"][5:], "slope"] = math.nan  # the other rows have it
    one = adapter().fit(table, static="slope", **ROLES)
    effect = one.fitted_.effect
    assert effect.location[-1] == pytest.approx(10 + 3 / 7) and effect.static == ("slope",)  # 4 above, 3 below
    values = effect.standardised(one.fitted_.panel).items
    assert values[0].values[0, -1] == 0 and len(np.unique(values[1].values[:, -1])) == 1


def test_whole_numbers_as_categories() -> None:
    table = shops(4).assign(code=lambda x: x["kind"].map({"down": 1, "up": 2}).astype("category"))
    panel = Panel.of(table, target=["sales", "price"], static="code")
    assert panel.channels == ("sales", "price", "code=1", "code=2") and panel.static == {"code": ("1", "2")}
    for code in (1, 1.0, "1"):
        again = Panel.of(table.assign(code=code), target=["sales", "price"], static=panel.static)
        np.testing.assert_array_equal(again.items[0].values[:, 2:], np.tile([1.0, 0.0], (ROWS, 1)))


def test_lists_files_and_other_frames(tmp_path: Path) -> None:
    table = shops(4)
    wanted = Panel.of(table, target=["sales", "price"], static=["slope", "kind"])
    assert wanted.static == {"slope": None, "kind": ("down", "up")} and wanted.targets == ("sales", "price")
    assert [item.values[0, -3:].tolist() for item in wanted.items] == [[7, 1, 0], [13, 0, 1]] * 2
    frames = [shop.drop(columns=["item_id", "luck"]) for _, shop in table.groupby("item_id")]
    table.to_csv(tmp_path / "shops.csv", index=False)
    for panel in (
        Panel.of(frames, target=["sales", "price"], static=["slope", "kind"]),
        read(tmp_path / "shops.csv", columns=["sales", "price"], static=["slope", "kind"]).panel,
        Panel.of(Panel.of(wanted, static=["kind"]), target=["sales", "price"]),
    ):
        assert (panel.channels, panel.static) == (wanted.channels, wanted.static)
        for one, other in zip(panel.items, wanted.items, strict=True):
            np.testing.assert_array_equal(one.values, other.values)
    numbers = Panel.of(Panel.of(table, target=["sales", "slope"]), static=["slope"])
    assert (numbers.targets, numbers.static) == (("sales",), {"slope": None})


# ---------------------------------------------------------------------- kept


def test_round_trips(fitted: Adapter, tmp_path: Path) -> None:
    ahead = {"future": shops()}
    fitted.save(tmp_path / "run")
    loaded = Adapter.load(tmp_path / "run", foundation_model=SeasonalModel())
    wanted = samples(fitted.predict(**ahead))
    for again in (loaded, pickle.loads(pickle.dumps(fitted))):
        np.testing.assert_allclose(samples(again.predict(**ahead)), wanted, atol=1e-6)
    rows = until(shops(), 330)
    updated = [one.update(rows).predict(**ahead) for rows, one in ((rows, loaded), (rows.drop(columns="kind"), again))]
    np.testing.assert_array_equal(*map(samples, updated))
    assert updated[0][0].index[0] == shops()["timestamp"][330]
    cloned = fitted.clone().fit(until(shops(), 300), static=["kind"], **ROLES)
    np.testing.assert_array_equal(samples(cloned.predict(**ahead)), wanted)
    remembered = fitted.backtest(shops(), windows=2, baselines=False)
    named = adapter().backtest(shops(), windows=2, baselines=False, static="kind", **ROLES)
    pd.testing.assert_frame_equal(remembered, named)


@pytest.mark.parametrize("stage", ["covariates", "gate"])
def test_a_killed_fit_goes_on(fitted: Adapter, stage: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    roles = {"static": ["kind"], **ROLES}
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        kill_before(stage, patch)
        adapter().fit(until(shops(), 300), checkpoint_dir=tmp_path, **roles)
    again = adapter().fit(until(shops(), 300), checkpoint_dir=tmp_path, **roles)
    wanted = samples(fitted.predict(future=shops()))
    np.testing.assert_array_equal(samples(again.predict(future=shops())), wanted)
    with pytest.raises(ValueError, match="static|covariates"):
        adapter().fit(until(shops(), 300), checkpoint_dir=tmp_path, **{**roles, "static": ["slope"]})


# ---------------------------------------------------------------------- gluonts


def test_static_features_of_gluonts_are_the_same_columns(tmp_path: Path) -> None:
    table = shops()
    kinds = table.groupby("item_id")[["slope", "kind"]].first().astype({"kind": "category"})
    frames = {
        name: shop.set_index("timestamp")[["sales", "price"]] for name, shop in until(table, 312).groupby("item_id")
    }
    dataset = PandasDataset(
        frames, target="sales", feat_dynamic_real=["price"], static_features=kinds, future_length=H, dtype=np.float64
    )
    counts = {"num_feat_dynamic_real": 1, "num_feat_static_real": 1, "num_feat_static_cat": 1}
    options = {"prediction_length": H, "max_windows": 300, "foundation_model": SeasonalModel(), "num_samples": 50}
    predictor = AdapterEstimator(family="residual", **options, **counts).train(dataset)
    direct = adapter().fit(until(table, 300), static=["slope", "kind"], **ROLES)
    assert predictor.adapter.summary().to_dict() == direct.summary().to_dict()
    assert predictor.adapter.fitted_.panel.static == {"slope": None, "kind": (0, 1)}
    predictor.serialize(tmp_path)
    again = Predictor.deserialize(tmp_path, foundation_model=SeasonalModel())
    wanted = [forecast.samples[..., 0] for forecast in direct.predict(future=table, num_samples=50)]
    for each in (predictor, AdapterPredictor(direct, 50)):
        np.testing.assert_array_equal(samples(each.predict(dataset)), wanted)
    np.testing.assert_allclose(samples(again.predict(dataset)), wanted, atol=1e-5)
    entries = [dict(entry) for entry in dataset]
    np.testing.assert_array_equal(samples(predictor.predict(entries)), wanted)
    later = AdapterEstimator(family="residual", **options, **counts).train(
        [entry | {"target": entry["target"][:200]} for entry in entries], validation_data=entries
    )
    assert later.adapter.fitted_.panel.static == {"feat_static_real 0": None, "feat_static_cat 0": (0, 1)}
    unseen = next(predictor.predict([entries[0] | {"item_id": None, "feat_static_cat": np.array([7])}]))
    assert np.isfinite(unseen.samples).all()
    with pytest.raises(ValueError, match="dataset's feat_static_cat are luck, the adapter was fitted on kind"):
        luck = shops().groupby("item_id")[["slope", "luck"]].first().astype({"luck": "category"})
        next(
            predictor.predict(PandasDataset(frames, target="sales", feat_dynamic_real=["price"], static_features=luck))
        )
    for change, says in (
        ({"feat_static_cat": None}, r"entry 0 has feat_static_cat of shape \(0,\), expected \(1,\): kind"),
        ({"feat_static_real": np.zeros(2)}, r"entry 0 has feat_static_real of shape \(2,\), expected \(1,\): slope"),
    ):
        with pytest.raises(ValueError, match=says):
            next(predictor.predict([entries[0] | change]))


def test_codes_are_places_of_names_and_themselves_after_an_estimator(tmp_path: Path) -> None:
    table = shops(4).assign(kind=lambda x: x["kind"].map({"down": 1, "up": 2}).astype("category"))
    frames = {name: one.set_index("timestamp") for name, one in until(table, 312).groupby("item_id")}
    kinds = table.groupby("item_id")[["kind"]].first()
    dataset = PandasDataset(
        frames, target="sales", feat_dynamic_real=["price"], static_features=kinds, future_length=H, dtype=np.float64
    )
    entries = [dict(entry) for entry in dataset]
    assert [int(entry["feat_static_cat"][0]) for entry in entries] == [0, 1, 0, 1]
    named = adapter().fit(until(table, 300), static="kind", **ROLES)
    wanted = samples(named.predict(future=table, num_samples=50))
    np.testing.assert_array_equal(samples(AdapterPredictor(named, 50).predict(dataset))[..., None], wanted)

    counted = [entry | {"feat_static_cat": entry["feat_static_cat"] + 1} for entry in entries]
    trained = AdapterEstimator(
        H,
        family="residual",
        foundation_model=SeasonalModel(),
        max_windows=300,
        num_feat_dynamic_real=1,
        num_feat_static_cat=1,
    ).train(counted)
    trained.adapter.save(tmp_path / "run")
    loaded = Adapter.load(tmp_path / "run", foundation_model=SeasonalModel())
    assert loaded.fitted_.panel.static == {"feat_static_cat 0": (1, 2)}
    for predictor in (trained, AdapterPredictor(loaded)):
        np.testing.assert_allclose(samples(predictor.predict(counted, 50))[..., None], wanted, atol=1e-5)
        new = counted[0] | {"item_id": "new"}
        none = [samples(predictor.predict([new | {"feat_static_cat": [code]}])) for code in (-1, math.nan, 7)]
        np.testing.assert_array_equal(none[0], none[1])
        np.testing.assert_array_equal(none[0], none[2])
        assert not np.allclose(none[0], samples(predictor.predict(counted[:1])))
        with pytest.raises(
            ValueError, match="item 'shop0' was fitted with .*=1, and now has .*=2: pass the fitted value"
        ):
            next(predictor.predict([counted[0] | {"feat_static_cat": [2]}]))


def test_codes_that_cannot_be_told_are_refused() -> None:
    table = shops(4)
    ten = table.assign(kind=table["kind"].map({"down": 2, "up": 10}).astype("category"))
    with pytest.raises(ValueError, match=r"codes of 'kind' are ambiguous: its categories \(10, 2\) sort differently"):
        AdapterPredictor(adapter().fit(until(ten, 300), static="kind", **ROLES))
    named = AdapterPredictor(adapter().fit(until(table, 300), static="kind", **ROLES))
    estimator = AdapterEstimator(H, foundation_model=SeasonalModel(), num_feat_dynamic_real=1, num_feat_static_cat=1)
    for code in (0.5, -2, math.inf):
        entry = {
            "start": pd.Period("2024-01-01", "h"), "target": np.zeros(40), "feat_dynamic_real": np.zeros((1, 40 + H)),
            "feat_static_cat": [code],
        }  # fmt: skip
        with pytest.raises(ValueError, match=rf"entry 0 has {code:g} in feat_static_cat for 'kind': expected the code"):
            next(named.predict([entry]))
        with pytest.raises(ValueError, match=f"entry 0 has {code:g} in feat_static_cat for 'feat_static_cat 0'"):
            estimator.train([entry])


def test_infinities_are_named_by_entry_row_and_step() -> None:
    predictor = AdapterPredictor(adapter().fit(until(shops(4), 300), static="slope", **ROLES))
    entry = {
        "start": pd.Period("2024-01-01", "h"), "target": np.zeros(40), "feat_dynamic_real": np.zeros((1, 40 + H)),
        "feat_static_real": [7.0],
    }  # fmt: skip
    for field, shape, place, says in (
        ("target", (40,), 5, r"'sales' \(row 0 of target\), first at step 5"),
        ("feat_dynamic_real", (1, 40 + H), (0, 45), r"'price' \(row 0 of feat_dynamic_real\), first at step 45"),
        ("feat_static_real", (1,), 0, r"'slope' \(row 0 of feat_static_real\), first at step 0"),
    ):
        values = np.zeros(shape)
        values[place] = math.inf
        with pytest.raises(ValueError, match=f"entry 1 has an infinite value of {says}: a missing value is NaN"):
            list(predictor.predict([entry, entry | {field: values}]))


# ---------------------------------------------------------------------- errors


@pytest.mark.parametrize(
    ("roles", "says"),
    [
        ({"static": "slope", "known_covariates": "slope"}, "'slope' is named twice, in static and known_covariates"),
        ({"static": "price", "known_covariates": (), "calendar": True},
         r"'price' is static, one value an item, and item 'shop0' has .* and .*: name it in known_covariates="),
        ({"static": "kinds"}, "there is no column kinds; the columns are item_id"),
        ({"static": "kind", "known_covariates": ()}, r"\(kind\) interact with known covariates, got none"),
        ({"static": "same"}, "static column 'same' is the same in all 8 items: leave it out"),
        ({"static": "item"}, r"8 .* categories; with 47 known covariates these make 423 interactions, .* at most 256"),
        ({"static": 3}, "expected static to name columns, as .*, got 3"),
    ],
)  # fmt: skip
def test_errors_of_fit(roles: dict[str, Any], says: str) -> None:
    table = until(shops(), 200).assign(same="x", item=lambda x: x["item_id"])
    if roles["static"] == "item":
        more = {f"k{number}": np.random.default_rng(number).standard_normal(len(table)) for number in range(47)}
        table, roles = table.assign(**more), roles | {"known_covariates": list(more)}
    with pytest.raises(ValueError, match=says):
        adapter().fit(table, **{**ROLES, **roles})


def test_errors_of_one_item_of_rows_and_of_arrays(fitted: Adapter) -> None:
    table = until(shops(), 200)
    with pytest.raises(ValueError, match=r"static columns \(kind\) need several items, got one"):
        adapter().fit(table[table["item_id"] == "shop0"], static="kind", **ROLES)
    with pytest.raises(ValueError, match="covariates are columns with names, and ndarray has none: pass a frame"):
        adapter().fit(np.zeros((3, 100, 2)), static=["1"])
    table.loc[7, "kind"] = "up"
    with pytest.raises(ValueError, match="'kind' is static, one value an item, and item 'shop0' has 'down' and 'up'"):
        adapter().fit(table, static="kind", **ROLES)
    one = adapter().fit(until(shops(), 200), static="slope", **ROLES)
    with pytest.raises(ValueError, match="column 'slope' holds"):
        one.predict(until(shops(), 200).assign(slope="steep"), future=shops())
    with pytest.raises(ValueError, match="static column 'slope' holds text, and held numbers in the fit"):
        one.predict(Panel.of(until(shops(), 200).assign(slope="steep"), target=["sales", "price"], static="slope"))
