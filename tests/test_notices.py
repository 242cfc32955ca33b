r"""What the user of a fit must know is the same in warnings, summaries, saved adapters, JSON and below plots."""

from __future__ import annotations

import json
import re
import warnings
from pathlib import Path

import matplotlib
import numpy as np
import pandas as pd
import pytest
from gluonts.dataset.pandas import PandasDataset
from typer.testing import CliRunner

from adapts import Adapter, GroupedAdapter, load_foundation_model, set_verbosity
from adapts.cli import app
from adapts.data.panel import Panel
from adapts.evaluation.backtest import roll
from adapts.integrations.gluonts.estimator import AdapterEstimator
from adapts.notices import FitWarning, Notice

matplotlib.use("Agg")
N, H = 400, 8
DATES = pd.date_range("2024-01-01", periods=N, freq="h")
NOISE = np.random.default_rng(0).normal(size=N)
DEMAND = np.where(np.random.default_rng(1).random(N) < 0.3, np.round(np.abs(NOISE) * 5 + 1), 0.0)


def fitted(values: object, **options: object) -> tuple[Adapter, list[str]]:
    r"""An adapter, and what its fit warned of."""
    adapter = Adapter("identity", prediction_length=H, max_windows=60, **options)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        adapter.fit(values)
    return adapter, [str(each.message) for each in said if each.category is FitWarning]


def of_kind(adapter: Adapter, kind: str) -> list[Notice]:
    return [notice for notice in adapter.summary().notices if notice.kind == kind]


class TestSupport:
    @pytest.mark.parametrize(
        ("values", "support", "said"),
        [
            (NOISE, (0, np.inf), f"begins at 0, and {(NOISE < 0).sum()} of its 400 values lie below"),
            (50 + NOISE, (0, 1), "ends at 1, and 400 of its 400 values lie above"),
            (NOISE, {"load": (-np.inf, 2.0)}, f"ends at 2, and {(NOISE > 2).sum()} of its 400 values lie above"),
        ],
    )
    def test_history_outside(self, values, support, said):
        adapter, warned = fitted(pd.DataFrame({"load": values}, DATES), support=support)
        (notice,) = of_kind(adapter, "support")
        assert notice.about == ("load",) and said in notice.said and notice.said in warned

    def test_history_inside_or_beyond_by_rounding(self):
        values = np.maximum(NOISE, 0.0)
        values[::7] = -1e-16
        assert not of_kind(fitted(pd.DataFrame({"load": values}, DATES), support=(0, np.inf))[0], "support")


class TestBound:
    @pytest.mark.parametrize(
        ("values", "remedy"),
        [
            (DEMAND, "support=(0, float('inf'))"),
            (-DEMAND, "support=(float('-inf'), 0)"),
            (np.maximum(0, np.sin(np.arange(N) / 4)), "support=(0, float('inf'))"),
        ],
    )
    def test_zero_may_be_one(self, values, remedy):
        adapter, warned = fitted(pd.DataFrame({"shop $": values}, DATES))
        (notice,) = of_kind(adapter, "bound")
        assert notice.about == ("shop $",) and remedy in notice.said and notice.said in warned
        support = eval(remedy.removeprefix("support="))
        again, _ = fitted(pd.DataFrame({"shop $": values}, DATES), support=support)
        assert not of_kind(again, "bound")  # the remedy works on this very input
        samples = again.predict().samples
        assert ((samples >= support[0]) & (samples <= support[1])).all()

    def test_of_some_channels(self):
        frame = pd.DataFrame({"a": NOISE, "b": DEMAND, "c": DEMAND + 1, "d": np.zeros(N)}, DATES)
        adapter, _ = fitted(frame, support={"c": (0, 100)})
        (notice,) = of_kind(adapter, "bound")
        assert notice.about == ("b",) and "support={'b': (0, float('inf'))}" in notice.said


class TestStages:
    def test_left_out(self):
        adapter, warned = fitted(pd.DataFrame({"a": NOISE[:60]}, DATES[:60]))
        (notice,) = of_kind(adapter, "stages")
        assert set(notice.about) == {"calibration", "recalibration", "confirmation"} and notice.said in warned
        assert "the intervals are not calibrated, and as wide as those of the frozen model" in notice.said
        left = [name for name, said in adapter.summary().stages.items() if "left out: the" in said]
        assert set(left) <= set(notice.about)

    @pytest.mark.parametrize(
        ("options", "said"),
        [
            ({"max_windows": 2}, "windows are too few for the stages .*max_windows=2 allows no more: raise it"),
            (
                {"family": "linear", "splits": (1, 0, 0, 0), "gate": False},
                "splits gives no rows to .* the confirmation split .recalibration",
            ),
            (
                {"splits": (0.8, 0.2, 0, 0), "recalibration": "conformal"},
                r"splits gives no rows to the calibration split \(.*conformal levels",
            ),
        ],
    )
    def test_the_cause_and_its_remedy(self, options, said):
        trainer = {"max_epochs": 1, "enable_progress_bar": False}
        usual = {"family": "residual", "prediction_length": H, "max_windows": 60, "context_length": 32}
        adapter = Adapter(**usual | options, trainer_options=trainer)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FitWarning)
            adapter.fit(np.stack([NOISE, np.roll(NOISE, 3)], 1))
        assert re.search(said, " ".join(notice.said for notice in adapter.summary().notices))

    def test_none(self):
        rows = np.random.default_rng(2).normal(size=3000)
        assert not of_kind(fitted(pd.DataFrame({"a": rows}))[0], "stages")

    def test_a_fit_that_goes_on_says_the_same(self, tmp_path):
        frame = pd.DataFrame({"a": NOISE[:60]}, DATES[:60])
        adapters = [
            Adapter("linear", prediction_length=H).fit(frame, checkpoint_dir=tmp_path / "kept") for _ in range(2)
        ]
        assert adapters[0].summary().notices == adapters[1].summary().notices != []


class TestItems:
    def test_without_values(self):
        entries = [pd.DataFrame({"a": rows}, DATES) for rows in (NOISE, np.full(N, np.nan), NOISE[::-1])]
        adapter, warned = fitted(entries)
        (notice,) = of_kind(adapter, "items")
        assert notice.about == ("1",) and "1 of 3 items have no value" in notice.said and notice.said in warned

    def test_calibration_on_one(self):
        entries = [pd.DataFrame({"a": NOISE[:n]}, DATES[:n]) for n in (200, N, 220)]
        (notice,) = of_kind(fitted(entries)[0], "calibration")
        assert notice.about == ("1",) and "because the other 2 items end earlier" in notice.said
        assert not of_kind(fitted([entries[1], entries[1]])[0], "calibration")


class TestTold:
    frame = pd.DataFrame({"a": DEMAND[:100], "b": NOISE[:100]}, DATES[:100])

    def test_everywhere_the_same(self, tmp_path):
        adapter, warned = fitted(self.frame, support={"b": (0, np.inf)})
        notices = adapter.summary().notices
        assert [notice.said for notice in notices] == warned and {notice.kind for notice in notices} >= {
            "support",
            "bound",
        }
        assert all(f"note: {said}" in str(adapter.summary()) for said in warned)
        held = json.loads(json.dumps(adapter.summary().to_dict()))["notices"]
        assert [(one["kind"], tuple(one["about"]), one["said"]) for one in held] == [
            (notice.kind, notice.about, notice.said) for notice in notices
        ]
        adapter.save(tmp_path / "saved")
        assert Adapter.load(tmp_path / "saved").summary().notices == notices
        (axes, *_) = adapter.predict().plot()
        (below,) = [text.get_text() for text in axes.figure.texts]
        flat = " ".join(below.split())
        assert all(" ".join(said.split()) in flat for said in warned)

    def test_a_clean_fit_says_nothing(self):
        rows = np.random.default_rng(3).normal(size=(3000, 2))
        adapter, warned = fitted(Panel.of(rows))
        assert warned == [] == adapter.summary().notices and not adapter.predict().plot()[0].figure.texts

    def test_a_context_longer_than_the_frozen_model_reads_is_told_without_a_warning(self):
        rows = Panel.of(np.random.default_rng(3).normal(size=(3000, 2)))
        model = load_foundation_model("bolt-nano")
        longer = {"foundation_model": model, "context_length": model.context_length + 8}
        adapter, warned = fitted(rows, **longer)
        (notice,) = adapter.summary().notices
        assert warned == [] and notice.kind == "context"
        assert notice.said == f"the frozen model reads the last {model.context_length} of the 512 context steps"
        assert notice in Adapter("identity", prediction_length=H, **longer).predict(rows).notices

    def test_verbosity_error_is_silent(self):
        set_verbosity("error")
        try:
            adapter, warned = fitted(self.frame)
        finally:
            set_verbosity("warning")
        assert warned == [] and adapter.summary().notices

    def test_groups_are_named(self):
        long = (
            pd.concat([self.frame.assign(shop=name) for name in ("north", "south")]).rename_axis("date").reset_index()
        )
        with pytest.warns(FitWarning, match="^group 'south': 'a' is never below 0"):
            GroupedAdapter(Adapter("identity", prediction_length=H), "shop").fit(long, item_column="shop")

    def test_on_the_command_line(self, tmp_path):
        self.frame.to_csv(tmp_path / "short.csv")
        typed = ["forecast", str(tmp_path / "short.csv"), "--prediction-length", "8", "--family", "identity"]
        with warnings.catch_warnings():
            warnings.simplefilter("error", FitWarning)  # told once, in words of the command line
            said = CliRunner().invoke(app, [*typed, "--output", str(tmp_path / "run")])
            told = CliRunner().invoke(app, [*typed, "--output", str(tmp_path / "json"), "--json"])
        notices = json.loads(told.stdout)["adapter"]["notices"]
        assert {"bound", "stages"} <= {notice["kind"] for notice in notices} and told.stderr == ""
        assert said.stderr.splitlines() == [f"adapts: note: {notice['said']}" for notice in notices]
        assert json.loads(Path(tmp_path / "run" / "scores.json").read_text())["adapter"]["notices"] == notices
        back = CliRunner().invoke(app, ["backtest", *typed[1:], "--windows", "2", "--json"])
        assert {"bound", "stages"} <= {notice["kind"] for notice in json.loads(back.stdout)["notices"]["identity"]}


def test_warnings_point_at_the_line_of_the_program_that_fitted():
    frame = pd.DataFrame({"load": DEMAND}, DATES)
    items = pd.concat([frame.assign(item_id=name, region=name) for name in "ab"])
    options = {"prediction_length": H, "max_windows": 60}
    fits = (
        lambda: Adapter("identity", **options).fit(frame),
        lambda: Adapter("identity", **options).backtest(frame, windows=2),
        lambda: GroupedAdapter(Adapter("identity", **options), group_column="region").fit(items),
        lambda: AdapterEstimator(family="identity", **options).train(PandasDataset(frame, target="load")),
        lambda: Panel.of([{"start": DATES[0].to_period("h"), "target": DEMAND, "feat_dynamic_real": [DEMAND]}]),
    )
    for fit in fits:
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            fit()
        ours = {each.filename for each in said if each.category is FitWarning or "gluonts entries" in str(each.message)}
        assert ours == {__file__}


def test_forecasts_of_a_backtest_hold_the_notices_of_their_fit():
    adapter = Adapter("identity", prediction_length=H, max_windows=60)
    result = roll(adapter, Panel.of(pd.DataFrame({"load": DEMAND}, DATES)), windows=2, forecasts=True)
    kept = result.forecasts
    assert kept is not None and kept["adapter"][0].notices == tuple(result.adapter.summary().notices) != ()
    assert kept["last value"][0].notices == ()
