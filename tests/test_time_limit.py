r"""The time limit of a fit: what it leaves out and says, and that a limit that does not bind changes nothing."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from cli_files import forecast
from cli_files import series as file_rows
from seasonal import SeasonalModel

from adapts import Adapter, GroupedAdapter, Panel
from adapts.adapters import CrossChannelAttention, Portfolio
from adapts.evaluation.backtest import roll
from adapts.fitting.context import FitOptions, begin
from adapts.fitting.state import FitState
from adapts.fitting.time_limit import LEAST_WINDOWS, TimeLimit
from adapts.fitting.train_gradient import refitted
from adapts.gluonts import AdapterEstimator

H = 6
SHORT = 1e-6  # seconds that no fit keeps
TRAINER = {"max_epochs": 2, "enable_progress_bar": False}
SMALL: dict[str, Any] = {"attention": {"steps": 8, "width": 16, "heads": 2, "embedding": 4}}


def rows(number: int = 500) -> np.ndarray:
    r"""The second channel repeats the first, six steps later."""
    first = np.random.default_rng(0).standard_normal(number + 6)
    return np.stack([first[6:], first[:-6]], 1)


def adapter(family: Any, **options: Any) -> Adapter:
    return Adapter(
        family, foundation_model=SeasonalModel(), prediction_length=H, context_length=24,
        **{"max_windows": 300, "trainer_options": TRAINER, **options},
    )  # fmt: skip


def portfolio() -> Portfolio:
    return Portfolio(members=["residual", "attention"], member_options=SMALL)


@pytest.mark.parametrize("value", [0, -1, np.nan, np.inf])
def test_a_limit_is_a_positive_number_of_seconds(value: Any) -> None:
    for call in (
        lambda: TimeLimit(value),
        lambda: adapter("identity").fit(rows(), time_limit=value),
        lambda: roll(adapter("identity"), Panel.of(rows()), time_limit=value),
        lambda: AdapterEstimator(prediction_length=H, time_limit=value),
    ):
        with pytest.raises(ValueError, match="expected time_limit to be a positive number of seconds or None, got"):
            call()


def test_what_is_left_and_what_is_spent() -> None:
    free, long, over = TimeLimit(None), TimeLimit(1e6), TimeLimit(1e-9)
    assert not free.limited and not free.spent(1e-9) and free.allows(1e300) and free.allows_series(10**9, 1e-9)
    assert long.limited and not long.spent(0.5) and long.allows(1e5) and not long.allows(1e7)
    assert over.spent(1.0) and over.training_ended and not over.allows(0.0)
    assert TimeLimit(1e6).of_first_trial().training == TimeLimit(1e6).training / 2


def test_fits_share_a_limit(tmp_path: Path) -> None:
    half = TimeLimit(4e5).part(2)
    assert 1e5 < half.seconds <= 2e5 and str(half) == "the time limit of 400000 s"
    assert not TimeLimit(None).part(3).limited and TimeLimit(1e-9).part(2).training_ended
    frame = pd.DataFrame(np.r_[rows(200), rows(200)], columns=["a", "b"]).assign(
        item_id=np.repeat(["x", "y"], 200), kind=np.repeat(["p", "q"], 200), timestamp=[*range(200)] * 2
    )
    grouped, given = GroupedAdapter(adapter("residual"), "kind"), {"item_column": "item_id", "time_limit": SHORT}
    for _ in range(2):  # the second reads what the first kept
        grouped.fit(frame, checkpoint_dir=tmp_path, **given)
    assert all("time_limit" in each.summary().stages for each in grouped.adapters_.values())
    assert len(grouped.predict()) == 2 and not grouped.backtest(frame, windows=2).empty


def test_windows_are_taken_as_the_forecasts_of_a_batch_allow() -> None:
    counts, steps = {"train": 1000, "validation": 500, "calibration": 500, "confirmation": 0}, (24, H)
    given = {"counts": counts, "channels": 3, "given": 1000, "steps": steps}
    assert TimeLimit(1e6).most_windows(SeasonalModel(), **given, trained=True) == 1000
    assert TimeLimit(SHORT).most_windows(SeasonalModel(), **given, trained=False) == LEAST_WINDOWS
    assert TimeLimit(SHORT).most_windows(SeasonalModel(), **{**given, "given": 7}, trained=False) == 7
    limit = TimeLimit(1e6)
    limit.most_windows(SeasonalModel(), **given, trained=True)
    assert limit.per_series > 0 and limit.allows_series(1, 0.5)


@pytest.mark.parametrize("family", ["residual", "linear", portfolio()], ids=["residual", "linear", "auto"])
def test_a_limit_that_does_not_bind_changes_no_bit(family: Any) -> None:
    free, limited = adapter(family).fit(rows()), adapter(family).fit(rows(), time_limit=1e6)
    assert limited.summary().stages == free.summary().stages
    np.testing.assert_array_equal(limited.predict().samples, free.predict().samples)


def test_of_no_time_the_frozen_model_remains_and_the_summary_says_so(tmp_path: Path) -> None:
    fitted = adapter(portfolio()).fit(rows(), time_limit=SHORT)
    summary = fitted.summary()
    assert summary.windows["train"] == LEAST_WINDOWS and set(list(summary.windows.values())[1:]) == {10}
    assert summary.stages["time_limit"] == "at most 20 train windows instead of 300, the time limit of 1e-06 s"
    assert summary.stages["few_values"] == "left out: the time limit of 1e-06 s"
    assert "1.00 the frozen model; residual left out: the time limit of 1e-06 s" in summary.stages["train"]
    assert [member["weight"] for member in summary.members] == [0.0, 0.0]
    assert "member residual: weight 0.00\n" in str(summary)
    assert np.isfinite(fitted.predict().samples).all()
    fitted.save(tmp_path / "saved")
    again = Adapter.load(tmp_path / "saved", foundation_model=SeasonalModel())
    np.testing.assert_array_equal(again.predict().samples, fitted.predict().samples)


def test_training_stops_after_the_batch_and_keeps_the_best() -> None:
    fitted = adapter("linear").fit(rows(), time_limit=SHORT)
    decision = fitted.fitted_.decisions["train"]
    assert "for 1 epochs" in decision.reason and decision.reason.endswith("stopped by the time limit of 1e-06 s")
    assert decision.figures["best"] <= decision.figures["before"] and decision.figures["stopped"] == 1


def test_a_closed_form_is_solved_and_not_solved_again() -> None:
    stages = adapter("residual", gate=False).fit(rows(), time_limit=SHORT).summary().stages
    assert stages["train"] == "solved in closed form on 20 windows"
    assert stages["refit"] == "left out: the time limit of 1e-06 s"


def test_a_network_that_cannot_be_trained_anew_in_time_stays_as_it_is(tmp_path: Path) -> None:
    fitted = adapter(CrossChannelAttention(**SMALL["attention"]), gate=False).fit(rows()).fitted_
    options = FitOptions(None, 24, H, None, fitted.support, {**adapter("identity").get_params(deep=False)})
    late = replace(options, time_limit=TimeLimit(1e-9))
    context, begun = begin(fitted.panel, fitted.module, SeasonalModel(), late, checkpoint_dir=tmp_path)
    state = FitState.of(context, context.prepared(begun))
    with context.checkpoints as checkpoints:
        kept = checkpoints.kept("refit", lambda: refitted(state, fitted.module, 2, "refit.ckpt"))
        assert kept == {} == checkpoints.kept("refit", lambda: refitted(state, fitted.module, 2, "refit.ckpt"))


def test_covariates_are_left_out() -> None:
    frame = pd.DataFrame(np.c_[rows(), rows()[:, :1] ** 2], columns=["a", "b", "c"])
    known = adapter("identity").fit(frame, known_covariates=["c"], time_limit=SHORT)
    assert known.summary().stages["covariates"] == "left out: the time limit of 1e-06 s"
    past = adapter("residual").fit(frame, past_covariates=["c"], time_limit=SHORT)
    assert past.summary().stages["covariates"] == "past c: left out, the time limit of 1e-06 s"
    assert past.predict().mean.shape == (H, 2)


def test_a_fit_resumes_with_its_windows_and_under_the_same_limit(tmp_path: Path) -> None:
    one = adapter("residual").fit(rows(), time_limit=SHORT, checkpoint_dir=tmp_path)
    again = adapter("residual").fit(rows(), time_limit=SHORT, checkpoint_dir=tmp_path)
    assert again.summary() == one.summary()
    np.testing.assert_array_equal(again.predict().samples, one.predict().samples)
    with pytest.raises(ValueError, match=r"differs in time_limit \(1e-06 there, 60.0 here\)"):
        adapter("residual").fit(rows(), time_limit=60, checkpoint_dir=tmp_path)


def test_gluonts_and_the_command_line_take_it(tmp_path: Path) -> None:
    entries = [{"start": pd.Period("2024-01-01", "h"), "target": rows().T, "item_id": "a"}]
    options: dict[str, Any] = {"family": "residual", "foundation_model": SeasonalModel(), "context_length": 24}
    predictor = AdapterEstimator(prediction_length=H, time_limit=SHORT, **options).train(entries)
    assert "time_limit" in predictor.adapter.summary().stages
    file_rows().to_csv(tmp_path / "rows.csv")
    result = forecast(tmp_path / "rows.csv", tmp_path / "run", "--time-limit", SHORT, "--num-samples", 10)
    assert result.exit_code == 0, result.stderr
    content = json.loads((tmp_path / "run" / "scores.json").read_text())
    assert content["settings"]["time_limit"] == SHORT
    assert all("time_limit" in fit["stages"] for fit in (content["adapter"], content["held_back"]["adapter"]))
