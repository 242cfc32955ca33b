r"""Windows show what lies before and after their origin, and nothing leaks from one part into another."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch

from adapts.data.loaders import window_loader
from adapts.data.panel import Panel
from adapts.data.splits import Split, split_panel
from adapts.data.times import Times
from adapts.data.windows import Windows, last_windows, split_windows
from adapts.fitting.context import window_limits

NAMES = ["train", "validation", "calibration", "confirmation"]
L, H = 12, 4


def undated(*lengths: int, channels: int = 2) -> Panel:
    r"""Items whose values tell item, row and channel: 10 000 item + row + channel / 10."""
    channel = np.arange(channels) / 10
    return Panel.of([1e4 * n + np.arange(rows)[:, None] + channel for n, rows in enumerate(lengths)])


def dated(*spans: tuple[str, int], frequency: str = "D") -> Panel:
    return Panel.of(
        [
            pd.DataFrame({"a": np.arange(n, dtype=float)}, index=pd.date_range(s, periods=n, freq=frequency))
            for s, n in spans
        ]
    )


def poison(panel: Panel, item: int, start: int, value: float = 1e9) -> Panel:
    items = list(panel.items)
    values = items[item].values.copy()
    values[start:] = value
    items[item] = replace(items[item], values=values)
    return replace(panel, items=tuple(items))


def windows_of(panel: Panel, part: Split, max_windows: int = 10**6, stride: int = 1) -> Windows:
    return split_windows(panel, part, context_length=L, prediction_length=H, max_windows=max_windows, stride=stride)


# --------------------------------------------------------------------------------------------------------- parts


def test_parts_follow_one_another_and_take_their_shares() -> None:
    parts = split_panel(undated(1000))
    assert list(parts) == NAMES and [part.name for part in parts.values()] == NAMES
    assert [part.ranges for part in parts.values()] == [((0, 700),), ((700, 800),), ((800, 900),), ((900, 1000),)]


@pytest.mark.parametrize("rows", range(1, 60))
def test_parts_hold_each_row_once(rows: int) -> None:
    ranges = [part.ranges[0] for part in split_panel(undated(rows)).values()]
    assert ranges[0][0] == 0 and ranges[-1][1] == rows
    assert all(
        before[1] == after[0] and before[0] <= before[1] for before, after in zip(ranges, ranges[1:], strict=False)
    )


def test_a_card_s_borders_give_the_train_rows_and_thirds_of_the_validation_rows() -> None:
    parts = split_panel(undated(1000), borders=(600, 700))
    assert [part.ranges[0] for part in parts.values()] == [(0, 600), (600, 633), (633, 667), (667, 700)]
    with pytest.raises(ValueError, match=r"expected borders \(train end, validation end\).*got \(700, 600\)"):
        split_panel(undated(1000), borders=(700, 600))


def test_dated_items_are_cut_at_the_same_dates() -> None:
    panel = dated(("2024-01-01", 1000), ("2024-06-01", 500), ("2020-01-01", 30), ("2026-09-01", 20))
    union = sorted(set().union(*(item.index for item in panel.items)))
    parts = split_panel(panel)
    for cut, name in zip((0.7, 0.8, 0.9), NAMES[1:], strict=True):
        date = union[round(cut * len(union))]
        for item, (start, _) in zip(panel.items, parts[name].ranges, strict=True):
            assert start == (item.index < date).sum()
    assert parts["train"].ranges[2] == (0, 30) and parts["confirmation"].ranges[2] == (30, 30)
    assert parts["train"].ranges[3] == (0, 0) and parts["confirmation"].ranges[3][1] == 20


def test_undated_items_are_cut_each_at_its_own_rows() -> None:
    assert split_panel(undated(100, 10))["train"].ranges == ((0, 70), (0, 7))


# ------------------------------------------------------------------------------------------------------- windows


def test_a_window_shows_the_rows_around_its_origin() -> None:
    panel = undated(50, 40, channels=3)
    windows = Windows(panel, np.array([0, 1]), np.array([20, 30]), L, H)
    past, future = windows.past(), windows.future()
    assert past.shape == (2, L, 3) and future.shape == (2, H, 3) and past.dtype == future.dtype == torch.float32
    assert torch.equal(past[0, :, 0], torch.arange(8.0, 20.0)) and torch.equal(
        future[0, :, 0], torch.arange(20.0, 24.0)
    )
    assert torch.equal(past[1, :, 0], 10_000 + torch.arange(18.0, 30.0))
    assert torch.allclose(past[0, :, 2], torch.arange(8.0, 20.0) + 0.2)


def test_what_an_item_does_not_have_is_missing_and_never_another_item_s() -> None:
    panel = undated(5, 3, 50)
    windows = Windows(panel, np.array([0, 1, 1, 2]), np.array([5, 3, 1, 48]), L, H)
    past, future = windows.past()[..., 0], windows.future()[..., 0]
    assert past[0].isnan().tolist() == [True] * 7 + [False] * 5 and future[0].isnan().all()
    assert torch.equal(past[1, 9:], 10_000 + torch.arange(3.0)) and past[1, :9].isnan().all()
    assert torch.equal(future[2, :2], 10_001 + torch.arange(2.0)) and future[2, 2:].isnan().all()
    assert torch.equal(future[3, :2], 20_048 + torch.arange(2.0)) and future[3, 2:].isnan().all()


def test_slices_and_arrays_of_windows_are_the_same_rows() -> None:
    panel = undated(200, 90)
    windows = windows_of(panel, split_panel(panel)["train"])
    which = np.array([3, 0, len(windows) - 1])
    torch.testing.assert_close(windows[which].past(), windows.past()[which], rtol=0, atol=0, equal_nan=True)
    assert torch.equal(windows[5:9].future(), windows.future()[5:9])
    assert len(windows[5:9]) == 4 and len(windows[[]]) == 0 and windows[[]].past().shape == (0, L, 2)


def test_precision():
    panel = Panel.of(1e8 + np.arange(40.0)[:, None])
    windows = last_windows(panel, context_length=L, prediction_length=H)
    assert windows.past().dtype == windows.future().dtype == torch.float32
    assert torch.equal(windows.past(torch.float64)[0, :, 0] - 1e8, torch.arange(40.0 - L, 40.0, dtype=torch.float64))


def test_last_windows_end_where_the_items_end() -> None:
    panel = undated(50, 6)
    windows = last_windows(panel, context_length=L, prediction_length=H)
    assert torch.equal(windows.past()[0, :, 0], torch.arange(38.0, 50.0))
    assert torch.equal(windows.past()[1, 6:, 0], 10_000 + torch.arange(6.0)) and windows.future().isnan().all()


@pytest.mark.parametrize("seed", range(20))
def test_targets_stay_in_their_part_and_thinning_is_even(seed: int) -> None:
    dice = np.random.default_rng(seed)
    panel = undated(*dice.integers(1, 400, size=dice.integers(1, 6)))
    limit = int(dice.integers(1, 300))
    for part in split_panel(panel).values():
        every = windows_of(panel, part)
        for item, origin in zip(every.item, every.origin, strict=True):
            start, stop = part.ranges[item]
            assert start <= origin and origin + H <= stop
        for number, (start, stop) in enumerate(part.ranges):  # complete: each origin with enough history is there
            first = max(start, min(L, max(H, min(L // 2, stop // 4))))
            assert every.origin[every.item == number].tolist() == list(range(first, stop - H + 1))
        few = windows_of(panel, part, max_windows=limit)
        assert len(few) == min(limit, len(every))
        assert (np.diff(few.item) >= 0).all() and (np.diff(few.origin)[np.diff(few.item) == 0] > 0).all()
        keys = (every.item * 1000 + every.origin).tolist()
        places = [keys.index(key) for key in few.item * 1000 + few.origin]
        assert len(places) < 2 or np.ptp(np.diff(places)) <= 1


def test_stride_is_the_distance_of_origins() -> None:
    panel = undated(100)
    assert windows_of(panel, Split("train", ((0, 70),)), stride=7).origin.tolist() == list(range(L // 2, 67, 7))


def test_windows_whose_target_is_wholly_missing_are_left_out() -> None:
    values = np.ones((60, 2))
    values[30:40] = np.nan
    values[20:50, 1] = np.nan
    windows = windows_of(Panel.of(values), Split("train", ((0, 60),)))
    assert not windows.future().isnan().all(dim=2).all(dim=1).any()
    assert sorted(set(range(12, 57)) - set(windows.origin.tolist())) == list(range(30, 37))


@pytest.mark.parametrize("seed", range(20))
def test_poison_from_the_origin_on_does_not_reach_the_past(seed: int) -> None:
    dice = np.random.default_rng(seed)
    panel = undated(*dice.integers(30, 90, size=3))
    for part in split_panel(panel).values():
        windows = windows_of(panel, part)
        for number in dice.permutation(len(windows))[:5]:
            window = windows[[number]]
            poisoned = replace(window, panel=poison(panel, int(window.item[0]), int(window.origin[0])))
            assert torch.equal(poisoned.past().nan_to_num(-1), window.past().nan_to_num(-1))
            assert (poisoned.future() == 1e9).all()


@pytest.mark.parametrize("later", NAMES[1:])
def test_poison_in_a_later_part_does_not_reach_an_earlier_one(later: str) -> None:
    panel = undated(300, 120)
    parts = split_panel(panel)
    poisoned = panel
    for number, (start, _) in enumerate(parts[later].ranges):
        poisoned = poison(poisoned, number, start)
    for name in NAMES[: NAMES.index(later)]:
        clean, dirty = windows_of(panel, parts[name]), windows_of(poisoned, parts[name])
        assert len(clean) and np.array_equal(clean.origin, dirty.origin)
        assert torch.equal(clean.past().nan_to_num(-1), dirty.past().nan_to_num(-1))
        assert torch.equal(clean.future(), dirty.future())


def test_contexts_look_back_across_a_border() -> None:
    panel = undated(300)
    windows = windows_of(panel, split_panel(panel)["validation"])
    assert windows.origin[0] == 210 and torch.equal(windows.past()[0, :, 0], torch.arange(198.0, 210.0))


# ------------------------------------------------------------------------------------------------ the loader


def test_the_loader_shuffles_by_seed_and_epoch_and_shows_each_window_once() -> None:
    panel = undated(100)
    parts = split_panel(panel)
    train, validation = windows_of(panel, parts["train"]), windows_of(panel, parts["validation"])

    def epoch(seed: int, number: int) -> list[float]:
        loader = window_loader(train, 16, seed)
        loader.sampler.set_epoch(number)
        assert len(loader) == -(-len(train) // 16)
        return torch.cat([future[:, 0, 0] for _, future, _ in loader]).tolist()

    assert epoch(0, 0) == epoch(0, 0) != epoch(0, 1) and epoch(0, 0) != epoch(1, 0)
    assert sorted(epoch(0, 3)) == train.future()[:, 0, 0].tolist()
    batches = list(window_loader(validation, 4, None))
    assert torch.equal(torch.cat([past for past, _, _ in batches]), validation.past())


def test_what_goes_with_each_window_is_shuffled_with_it() -> None:
    panel = undated(100)
    train = windows_of(panel, split_panel(panel)["train"])
    for _, future, known in window_loader(train, 16, 0, {"first": train.future()[:, 0]}):
        assert torch.equal(known["first"], future[:, 0])


# ------------------------------------------------------------------------------------------------- season indices


def test_season_indices_are_those_of_the_dates_also_beyond_the_end():
    index = pd.date_range("2024-03-30 05:00", periods=60, freq="h", tz="Europe/Berlin")  # the clocks skip an hour
    panel = Panel.of(pd.DataFrame({"a": np.arange(60.0)}, index=index))
    ahead = index.append(panel.future_index(panel.items[0], H))
    windows = Windows(panel, np.zeros(4, dtype=int), np.array([60, 0, 19, 58]), L, H)
    assert windows.num_seasons == 24
    assert windows.season_index().tolist() == [[ahead[o + h].hour for h in range(H)] for o in windows.origin]
    assert (
        undated(30).frequency is None and windows_of(undated(30), Split("train", ((0, 30),))).season_index().any() == 0
    )


def test_season_indices_of_several_items_go_by_their_own_dates():
    panel = dated(("2024-01-01", 20), ("2024-01-03", 20))  # a Monday, a Wednesday
    windows = Windows(panel, np.array([1, 0, 1]), np.array([20, 7, 0]), L, H)
    assert windows.season_index().tolist() == [[1, 2, 3, 4], [0, 1, 2, 3], [2, 3, 4, 5]]


def test_items_that_begin_at_different_dates_have_one_clock():
    panel = dated(("2024-01-01", 20), ("2024-01-06", 15))
    windows = Windows(panel, np.array([0, 1, 1]), np.array([5, 0, 7]), L, H)
    assert windows.time.step.tolist() == [5, 5, 12]
    assert Windows(dated(("2024-01-01", 20)), np.zeros(2, dtype=int), np.array([3, 9]), L, H).time.step.tolist() == [
        3,
        9,
    ]


class TestTimes:
    def test_are_steps_of_the_frequency(self):
        # Hours that begin at half past are an hour apart, like those of the others; months are months.
        hourly = dated(("2024-01-01 00:00", 20), ("2024-01-01 05:30", 20), frequency="h")
        found = Times(hourly, np.array([0, 0, 1, 1]), np.array([0, 9, 0, 4]))
        assert found.step.tolist() == [0, 9, 5, 9] and len(hourly.steps) == 25
        monthly = dated(("2023-12-31", 20), ("2024-02-29", 20), frequency="ME")
        assert Times(monthly, np.array([0, 1]), np.array([2, 0])).step.tolist() == [2, 2]

    def test_of_local_days_across_a_change_of_clocks(self):
        whole = pd.date_range("2024-03-25", periods=20, freq="D", tz="Europe/Berlin")
        panel = Panel.of([pd.DataFrame({"a": np.arange(20.0 - k)}, whole[k:]) for k in (0, 9)])
        assert panel.begins.tolist() == [0, 9] and len(panel.steps) == 20

    def test_undated_items_end_together(self):
        panel = Panel.of([np.zeros((30, 1)), np.zeros((12, 1))])
        assert Times(panel, np.array([0, 1]), np.array([29, 11])).step.tolist() == [29, 29]

    def test_of_parts_are_joined(self):
        panel = dated(("2024-01-01", 20), ("2024-01-03", 20))
        some = Times(panel, np.array([0, 1]), np.array([4, 2]))
        joined = Times.joined([some, some[1:]])
        assert joined.step.tolist() == [4, 4, 4] and joined.item.tolist() == [0, 1, 1]
        with pytest.raises(ValueError, match="Times.of_panels"):
            Times.joined([some, Times(dated(("2024-01-02", 20)), np.array([0]), np.array([3]))])

    def test_of_several_panels_have_one_calendar(self):
        first, second = dated(("2024-01-01", 40)), dated(("2024-01-21", 30), ("2024-01-11", 30))
        windows = [Windows(first, np.array([0]), np.array([25]), L, H),
                   Windows(second, np.array([0, 1]), np.array([5, 15]), L, H)]  # fmt: skip
        found = Times.of_panels(windows)
        assert len(set(found.step)) == 1 and found.item.tolist() == [0, 1, 2]
        weekly = dated(("2024-01-01", 8), frequency="W-MON")
        mixed = Times.of_panels([windows[0], Windows(weekly, np.array([0, 0]), np.array([3, 4]), L, H)])
        assert mixed.step.tolist() == [3, 3, 4]  # in weeks: the 26th of January is in the one that began on the 22nd
        days = [Windows(dated(("2024-01-01", 40), frequency=day), np.array([0]), np.array([5]), L, H)
                for day in ("W-MON", "W-TUE")]  # fmt: skip
        assert {Times.of_panels(order).calendar[0] for order in (days, days[::-1])} == {"W-TUE"}  # of two as long
        bare = [Windows(undated(rows), np.array([0]), np.array([rows - 5]), L, H) for rows in (30, 50)]
        assert len(set(Times.of_panels(bare).step)) == 1
        with pytest.raises(ValueError, match="all have dates, or none"):
            Times.of_panels([windows[0], bare[0]])


@pytest.mark.parametrize(("channels", "context_length", "prediction_length", "expected"), [
    (2, 336, 24, (2000, 500)),  # few channels
    (12, 168, 24, (1432, 500)),
    (7, 504, 96, (1000, 500)),
    (120, 144, 12, (1000, 500)),
    (1000, 96, 24, (107, 54)),  # many
    (10**5, 96, 24, (50, 25)),
])  # fmt: skip
def test_by_default_windows_are_fewer_the_larger_they_are(
    channels: int, context_length: int, prediction_length: int, expected: tuple[int, int]
) -> None:
    assert window_limits(None, channels, context_length, prediction_length, 9, 2000) == expected


@pytest.mark.parametrize(("channels", "rows", "expected"), [
    (12, 4000, 1432),  # by size
    (12, 8000, 1666),  # five for each horizon
    (12, 10**6, 2000),
    (300, 10**6, 2**25 // (300 * (24 * 9 + 168))),  # memory
])  # fmt: skip
def test_by_default_windows_are_more_the_more_rows_there_are(channels: int, rows: int, expected: int) -> None:
    assert window_limits(None, channels, 168, 24, 9, rows) == (expected, 146 if channels == 300 else 500)


def test_the_number_given_is_the_limit_within_the_memory() -> None:
    assert window_limits(5000, 7, 504, 96, 9, 10**6) == (5000, 2500)
    assert window_limits(1, 7, 504, 96, 9, 10**6) == (1, 1)
    assert window_limits(5000, 1000, 96, 24, 9, 10**6)[0] == 2**26 // (1000 * 24 * 9)
