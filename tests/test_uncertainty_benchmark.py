r"""Benchmark of uncertainty: conformal methods on errors of a known law, joint regions of known volume, tables."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
import torch

from adapts.data.panel import Panel
from adapts.data.windows import Windows
from adapts.distribution.quantile_function import QuantileFunction
from benchmarks import pages
from benchmarks.uncertainty import conformal, regions, run, table
from benchmarks.uncertainty.conformal import Forecasts

H, D = 3, 2
DECILES = torch.special.ndtri(torch.arange(1, 10, dtype=torch.float64) / 10)


def iid(n: int, seed: int, *, width: float = 1.0, shift: float = 0.0, first: int = 0) -> Forecasts:
    r"""Standard normal outcomes, forecast by normal distributions of a width and a shift, windows H rows apart."""
    future = np.random.default_rng(seed).standard_normal((n, H, D))
    deciles = np.broadcast_to(shift + width * DECILES.numpy(), (n, H, D, 9)).copy()
    return Forecasts(deciles, future, first + H * np.arange(n))


def shares(deciles: np.ndarray, future: np.ndarray) -> np.ndarray:
    r"""The share of outcomes below each decile."""
    return (future[..., None] <= deciles).mean((0, 1, 2))


# ---------------------------------------------------------------------------------------------------- conformal


@pytest.mark.parametrize("name", ["split", "cqr", "aci", "agaci"])
@pytest.mark.parametrize("width", [0.5, 2.0], ids=["too narrow", "too wide"])
def test_conformal_intervals_of_independent_errors_have_their_coverage(name: str, width: float) -> None:
    pytest.importorskip("conformalforecast")
    past, test = iid(400, 0, width=width), iid(800, 1, width=width, first=400 * H)
    found = conformal.calibrated(name, past, test)
    assert shares(found, test.future) == pytest.approx(np.arange(1, 10) / 10, abs=0.03)
    assert shares(test.deciles, test.future)[0] != pytest.approx(0.1, abs=0.05)


def test_split_conformal_quantiles_are_order_statistics_of_the_errors() -> None:
    pytest.importorskip("conformalforecast")
    past, test = iid(99, 0), iid(4, 1, shift=7.0, first=99 * H)
    found = conformal.calibrated("split", past, test)
    ordered = np.sort(past.future, axis=0)  # (99, H, D)
    for decile in (0, 3, 5, 8):
        # The k-th smallest of 99 errors, k = 10 (decile + 1): exact at n + 1 = 100.
        expected = 7.0 + ordered[10 * (decile + 1) - 1]
        np.testing.assert_allclose(found[..., decile], np.broadcast_to(expected, found.shape[:-1]))
    np.testing.assert_array_equal(found[..., 4], test.median)


def test_regression_on_residuals_covers_independent_errors() -> None:
    pytest.importorskip("conformalforecast")
    pytest.importorskip("quantile_forest")
    past, test = iid(200, 0), iid(100, 1, first=200 * H)
    found = conformal.calibrated("spci", past, test)
    inside = (test.future > found[..., 0]) & (test.future < found[..., 8])
    assert inside.mean() == pytest.approx(0.8, abs=0.1)


def test_online_methods_learn_a_shift_that_offline_methods_do_not_see() -> None:
    pytest.importorskip("conformalforecast")
    past, test = iid(200, 0), iid(600, 1, first=200 * H)
    wild = Forecasts(test.deciles, 3 * test.future, test.origin)
    late = slice(200, None)
    coverage = {}
    for name in ("split", "aci"):
        found = conformal.calibrated(name, past, wild)[late]
        coverage[name] = ((wild.future[late] > found[..., 0]) & (wild.future[late] < found[..., 8])).mean()
    assert coverage["split"] < 0.4
    assert coverage["aci"] == pytest.approx(0.8, abs=0.05)


def test_nothing_is_learned_from_outcomes_that_are_not_yet_observed() -> None:
    pytest.importorskip("conformalforecast")
    past, test = iid(50, 0), iid(40, 1, first=50 * H)
    close = Forecasts(test.deciles, test.future, 50 * H + np.arange(40))  # windows overlap: one row apart
    changed = Forecasts(close.deciles, close.future.copy(), close.origin)
    changed.future[20:] += 100.0
    for name in ("aci", "agaci"):
        first, second = (conformal.calibrated(name, past, each) for each in (close, changed))
        np.testing.assert_array_equal(first[: 20 + H], second[: 20 + H])
        assert not np.array_equal(first[20 + H :], second[20 + H :])


@pytest.mark.parametrize("name", ["split", "cqr", "aci", "agaci"])
def test_a_channel_with_missing_outcomes_changes_no_other_channel(name: str) -> None:
    pytest.importorskip("conformalforecast")
    past, test = iid(60, 0), iid(60, 1, first=60 * H)
    holes = [Forecasts(each.deciles, each.future.copy(), each.origin) for each in (past, test)]
    for each in holes:
        each.future[::3, 1, 0] = np.nan
    whole, gappy = conformal.calibrated(name, past, test), conformal.calibrated(name, *holes)
    np.testing.assert_array_equal(whole[:, :, 1], gappy[:, :, 1])
    observed = ~np.isnan(holes[1].future[:, :, 0])
    below = (holes[1].future[:, :, 0, None] <= gappy[:, :, 0])[observed].mean(0)
    assert below == pytest.approx(np.arange(1, 10) / 10, abs=0.12)


def test_each_window_is_learned_once_when_its_last_step_is_observed() -> None:
    assert conformal.feedback(np.array([10, 11, 13, 14, 20]), 3) == [[], [], [0], [1], [2, 3]]


def test_intervals_are_put_in_order_and_bounded() -> None:
    past = iid(50, 0)
    pairs = np.tile(np.array([-1e300, 1e300]), (4, 2, H, D, 1))
    pairs[0, 0] = [2.0, -2.0]  # an empty interval
    found = conformal.bounded(pairs, past, np.full((2, H, D), 0.25))
    np.testing.assert_array_equal(found[0, 0], np.full((H, D, 2), 0.25))
    spread = 5 * past.future.std((0, 1))
    np.testing.assert_allclose(found[1, 1, 0, :, 1], past.future.max((0, 1)) + spread)
    np.testing.assert_allclose(found[1, 1, 0, :, 0], past.future.min((0, 1)) - spread)


def test_deciles_keep_to_the_support() -> None:
    pytest.importorskip("conformalforecast")
    past, test = iid(50, 0), iid(5, 1, first=50 * H)
    found = conformal.calibrated("split", past, test, (np.array([-0.5, -np.inf]), np.array([np.inf, 0.5])))
    assert found[..., 0, :].min() == -0.5 and found[..., 1, :].max() == 0.5
    assert (np.diff(found, axis=-1) >= 0).all()


def test_an_unknown_method_is_named() -> None:
    pytest.importorskip("conformalforecast")
    with pytest.raises(ValueError, match="split, cqr, aci, agaci, spci, got 'spic'"):
        conformal.method("spic", 0.8)


# ---------------------------------------------------------------------------------------------------- scores


def test_scores_of_deciles_by_hand() -> None:
    deciles = torch.arange(1.0, 10.0, dtype=torch.float64).expand(1, 1, 2, 9)
    found = run.decile_scores(deciles, torch.tensor([[[5.0, math.nan]]], dtype=torch.float64), torch.tensor([2.0, 1.0]))
    # The pinball losses of levels .1 to .9 at distances 4, 3, 2, 1, 0, 1, 2, 3, 4.
    losses = [0.1 * 4, 0.2 * 3, 0.3 * 2, 0.4 * 1, 0, 0.4 * 1, 0.3 * 2, 0.2 * 3, 0.1 * 4]
    assert float(found["wql"][0, 0, 0]) == pytest.approx(2 * np.mean(losses) / 2)
    assert float(found["mae"][0, 0, 0]) == 0.0
    assert float(found["width_80"][0, 0, 0]) == 4.0 and float(found["interval_score_80"][0, 0, 0]) == 4.0
    assert all(float(found[f"coverage_{level}"][0, 0, 0]) == 1 for level in (20, 40, 60, 80))
    assert all(math.isnan(x[0, 0, 1]) for x in found.values())


def test_an_outcome_at_an_end_is_half_inside() -> None:
    deciles = torch.zeros(1, 1, 1, 9, dtype=torch.float64)
    found = run.decile_scores(deciles, torch.zeros(1, 1, 1, dtype=torch.float64), torch.ones(1))
    assert float(found["coverage_80"]) == 0.5


def test_the_coverage_error_of_calibrated_and_of_narrow_deciles() -> None:
    n = 600
    y = torch.from_numpy(np.random.default_rng(0).standard_normal((n, H, D)))
    windows = Windows(Panel.of(np.zeros((H * n + 8, D))), np.zeros(n, dtype=int), 8 + H * np.arange(n), 8, H)
    found = {}
    for name, width in (("true", 1.0), ("narrow", 0.5)):
        cells = run.decile_scores((width * DECILES).expand(n, H, D, 9), y, torch.ones(D))
        found[name] = run.summary(cells, windows)
    assert found["true"]["coverage_error"] < 0.02
    assert found["true"]["coverage_80_low"] < 0.8 < found["true"]["coverage_80_high"]
    # Intervals half as wide: a level p is held with probability 2 Phi(z / 2) - 1.
    held = 2 * torch.special.ndtr(DECILES[5:] / 2) - 1
    expected = float((torch.tensor(conformal.LEVELS[::-1]) - held).abs().mean())
    assert found["narrow"]["coverage_error"] == pytest.approx(expected, abs=0.02)
    assert found["narrow"]["wql"] > found["true"]["wql"]


def test_strides_leave_few_windows_and_meet_all_phases() -> None:
    assert run.stride_for(1000, 24, 5, 24, most=300) == 5
    assert run.stride_for(1000, 24, 5, None, most=50) == 20
    assert run.stride_for(10_000, 24, 37, 24) == 113  # 111 and 112 share a factor with 24


# ---------------------------------------------------------------------------------------------------- regions


def normal(scale: torch.Tensor) -> QuantileFunction:
    r"""Normal marginals of one window, with batch shape (1, d)."""
    levels = torch.linspace(0.0005, 0.9995, 1999, dtype=torch.float64)
    return QuantileFunction(levels, (scale[:, None] * torch.special.ndtri(levels)).unsqueeze(0))


def test_regions_of_normal_outcomes_have_the_volume_of_their_ellipsoid() -> None:
    scale, correlation = torch.tensor([2.0, 0.5], dtype=torch.float64), np.array([[1.0, 0.6], [0.6, 1.0]])
    region = regions.ellipsoid(normal(scale), torch.tensor([[0.5, 0.9]], dtype=torch.float64), correlation)
    z = np.array([0.0, 1.2815515655])
    assert region.ranks[0] == pytest.approx(math.sqrt(z @ np.linalg.solve(correlation, z)))
    assert region.stated**2 == pytest.approx(-2 * math.log(0.1))  # chi-squared with two degrees of freedom
    area = math.pi * region.stated**2 * math.sqrt(np.linalg.det(correlation)) * 2.0 * 0.5
    assert region.log_volume(region.stated) == pytest.approx(math.log(area), abs=0.03)


def test_a_box_has_the_product_of_its_widths() -> None:
    scale = torch.tensor([2.0, 0.5], dtype=torch.float64)
    region = regions.box(normal(scale), torch.tensor([[0.95, 0.3]], dtype=torch.float64), 0.9)
    assert region.ranks == pytest.approx([0.9])
    side = 2 * 1.6448536
    assert region.log_volume(0.9) == pytest.approx(math.log(side * 2.0 * side * 0.5), abs=1e-3)


def test_transported_regions_of_normal_errors_are_nearly_round() -> None:
    pytest.importorskip("yemale")
    generator = np.random.default_rng(0)
    errors, test = generator.standard_normal((200, 2)), generator.standard_normal((2000, 2))
    region = regions.transported(errors, test, np.full((len(test), 2), 3.0))
    assert (region.ranks <= region.stated).mean() == pytest.approx(0.9, abs=0.05)
    disc = math.log(math.pi * -2 * math.log(0.1)) + 2 * math.log(3.0)
    assert region.log_volume(region.stated) == pytest.approx(disc, abs=0.35)


def test_volumes_are_compared_where_all_regions_hold_as_many_outcomes() -> None:
    n = 40
    coarse = regions.Region(np.repeat([0.2, 0.4, 0.6, 0.8], 10), 0.6, lambda rank: 10 * rank)
    fine = regions.Region(np.arange(n) / n, 0.5, lambda rank: 20 * rank)
    found = regions.at_equal_coverage({"yemale": coarse, "yemale, scaled": coarse, "box": fine})
    assert found["yemale"]["held"] == 1.0  # the smallest region with 90 % holds them all
    assert found["box"]["held"] == 1.0 and found["box"]["log_volume"] == pytest.approx(20 * 39 / 40)
    assert found["box"]["coverage"] == pytest.approx(21 / 40) and found["yemale"]["coverage"] == 0.75


# ---------------------------------------------------------------------------------------------------- tables


def frame(values: dict[tuple[str, str], float], data: str = "illness") -> pd.DataFrame:
    rows = [{"data": data, "model": model, "metric": metric, "value": x} for (model, metric), x in values.items()]
    about = {"prediction_length": 24, "windows": 40, "calibration_windows": 90, "stride": 5, "seed": 0,
             "foundation_model": "bolt-nano 1.6", "commit": "abc", "package": ""}  # fmt: skip
    return pd.DataFrame(rows).assign(**about)


@pytest.fixture
def scores() -> pd.DataFrame:
    values = {("identity", "wql"): 0.5, ("split", "wql"): 0.55, ("cqr", "wql"): 0.52, ("aci", "wql"): math.nan}
    for model in ("identity", "split", "cqr"):
        values |= {(model, "coverage_80"): 0.79, (model, "coverage_80_low"): 0.77, (model, "coverage_80_high"): 0.81}
        values |= {(model, "coverage_error"): 0.01, (model, "width_80"): 1.0}
    values |= {("identity", "crps"): 0.48, ("identity, not recalibrated", "crps"): 0.5}
    return frame(values)


def test_wql_is_relative_to_the_calibrated_model_and_the_best_method_is_named(scores: pd.DataFrame) -> None:
    lines = table.wql(scores).splitlines()
    cells = dict(zip(lines[0].split(" | "), lines[2].split(" | "), strict=True))
    assert cells["`identity`: WQL"] == "0.500"
    assert cells["split"] == "1.100" and cells["cqr"] == "1.040"
    assert cells["best conformal"].startswith("cqr")
    assert "-3.8 %" in lines[2]  # .5 / .52 - 1


def test_the_price_of_recalibration_is_that_of_the_same_family(scores: pd.DataFrame) -> None:
    assert "| illness | identity | 0.500 | 0.480 | -4.0 % |" in table.recalibration(scores)


def test_volumes_stand_beside_what_the_stated_regions_hold() -> None:
    rows = []
    for model, value in (("yemale", math.inf), ("yemale, scaled", 1.5), ("box", 1.0), ("ellipsoid", 0.5)):
        for metric, x in (("log_volume", value), ("coverage", 0.9), ("held", 0.91)):
            rows.append({"data": "illness", "channels": 2, "lead": 13, "model": model, "metric": metric, "value": x})
    found = table.volumes(pd.DataFrame(rows).assign(outcomes=40, calibration_windows=90))
    cells = found.splitlines()[2].strip("| ").split(" | ")
    assert cells[1:6] == ["2", "13", "90", "40", "0.910"]
    assert cells[6:] == ["inf (0.900)", "1.50 (0.900)", "1.00 (0.900)", "0.50 (0.900)"]


def test_the_page_has_a_place_for_each_table(scores: pd.DataFrame) -> None:
    text = (pages.ROOT / table.PAGE).read_text(encoding="utf-8")
    for name in (*table.of_scores(scores), "volumes"):
        assert text.count(f"<!-- {name}: made by benchmarks/uncertainty/table.py -->\n") == 1
        assert text.count(f"\n<!-- /{name} -->") == 1
