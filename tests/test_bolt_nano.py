r"""Facts about the bundled model, its prior and its training."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from adapts.foundation import foundation_models
from pretraining.bolt_nano import pretrain, prior
from pretraining.bolt_nano.pretrain import (
    CONTEXT,
    HORIZON,
    LEVELS,
    Settings,
    Trainer,
    build_model,
    ends_apart,
    export,
    orthogonal,
    quantile_loss,
    scaled_quantiles,
    taught_quantiles,
)
from pretraining.bolt_nano.prior import Dice, draw_series, draw_windows

FOLDER = foundation_models()["bolt-nano"]
TINY = {"d_model": 16, "d_kv": 8, "d_ff": 24, "num_layers": 1, "num_decoder_layers": 2, "num_heads": 2}


def contexts() -> Tensor:
    x = torch.randn(6, CONTEXT).cumsum(-1)
    x[0, :100] = torch.nan
    x[1, 200:230] = torch.nan
    x[2] = 3.0
    return x


def settings(steps: int = 4) -> Settings:
    return Settings(steps=steps, decay=2, warmup=1, batch=8, seed=3)


@pytest.fixture(autouse=True)
def small_pool(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Trainer, "POOL", 4)
    monkeypatch.setattr(Trainer, "CHECK", 128)


# ------------------------------------------------------------------------------------------------------- the prior


@pytest.mark.parametrize("kind", prior.KINDS, ids=lambda kind: kind.__name__)
def test_every_kind_is_finite_and_moves(kind) -> None:
    x = kind(Dice(0), 256, CONTEXT + HORIZON)
    assert x.shape == (256, CONTEXT + HORIZON)
    assert x.isfinite().all()
    assert (x.std(-1) > 0).float().mean() > (0.85 if kind is prior.spells else 0.95)  # some spells never come


def test_series_are_standardised_and_follow_the_seed() -> None:
    x, y, z = (draw_series(Dice(seed), 128, 600) for seed in (0, 0, 1))
    assert torch.equal(x, y) and not torch.equal(x, z)
    assert x.mean(-1).abs().max() < 1e-3
    moving = x.std(-1) > 0
    torch.testing.assert_close(x[moving].std(-1, correction=0), torch.ones(int(moving.sum())), atol=1e-3, rtol=0)


def test_heavy_noise_has_unit_variance_and_heavy_tails() -> None:
    x = Dice(0).heavy(500, 2000)
    assert x.var() == pytest.approx(1, abs=0.05)
    assert x.pow(4).mean() > 5


def test_white_end_of_coloured_noise_is_white_and_red_end_is_not() -> None:
    def lag_one(slope: float) -> float:
        x = prior.coloured(Dice(0), 400, 600, slope=torch.full((400, 1), slope))
        return float((x[:, 1:] * x[:, :-1]).mean())

    assert abs(lag_one(0.0)) < 0.02
    assert lag_one(3.0) > 0.9


def test_a_walk_has_the_variogram_of_a_walk() -> None:
    x = prior.walk(Dice(0), 4000, 600)
    lags = torch.tensor([4, 16])
    near, far = ((x[:, lag:] - x[:, :-lag]).square().mean() for lag in lags)
    assert far / near == pytest.approx(4, rel=0.15)  # grows like the lag


def test_what_reverts_follows_its_last_value_for_a_while_and_then_its_mean() -> None:
    x = prior.standardised(prior.reverting(Dice(0), 4000, 6000))
    near, far = (float((x[:, lag:] * x[:, :-lag]).mean()) for lag in (1, 5999 // 2))
    assert near > 0.7
    assert abs(far) < 0.1


def test_a_calm_season_repeats() -> None:
    period = torch.full((64, 1), 24.0)
    dice = Dice(0)
    x = prior.season(dice, 64, 600, period, restless=False)
    still = (x[:, 168:] - x[:, :-168]).abs().amax(-1)  # a week of 24-step days, whatever the weekend does
    assert still.max() < 0.05


def test_a_tabulated_cycle_is_read_between_its_entries_and_round_its_end() -> None:
    table = torch.randn(3, prior.GRID)
    phase = torch.tensor([[0, 7, 7.25, prior.GRID - 0.5, prior.GRID + 7]]) / prior.GRID
    expected = torch.stack(
        [
            table[:, 0],
            table[:, 7],
            0.75 * table[:, 7] + 0.25 * table[:, 8],
            (table[:, -1] + table[:, 0]) / 2,
            table[:, 7],
        ],
        dim=1,
    )
    torch.testing.assert_close(prior._read(table, phase.expand(3, -1)), expected, rtol=1e-3, atol=1e-3)


def test_what_sensors_measure_repeats_by_the_day_and_forgets_the_weather() -> None:
    x = prior.standardised(prior.sensors(Dice(0), 2000, 6000))
    like = {lag: float((x[:, lag:] * x[:, :-lag]).mean()) for lag in (1, 2880, 2880 + 12, 2880 + 72)}
    assert like[1] > 0.7
    assert like[2880] > 0.3  # ten days on or more, whatever the day's length: the cycle alone is left
    assert max(like[2880 + 12], like[2880 + 72]) < 0.15


def test_counts_are_never_negative_and_often_zero() -> None:
    x = prior.counts(Dice(0), 512, 600)
    assert x.min() == 0
    assert 0.1 < (x == 0).float().mean() < 0.7


def test_spells_are_over_most_of_the_time_and_never_negative() -> None:
    x = prior.spells(Dice(0), 512, 600)
    assert x.min() == 0
    assert 0.5 < (x == 0).float().mean() < 0.95
    full = (x == x.amax(-1, keepdim=True)) & (x > 0)
    assert (full.sum(-1) > 10).float().mean() > 0.2  # at the most that can be, and for a while
    first = (x[:, :480] == 0).all(-1) & (x[:, 480:504] > 0).any(-1)
    assert first.any()  # the first comes when the context ends


def test_angles_stay_on_the_circle_and_states_stay_a_while() -> None:
    x = prior.angles(Dice(0), 256, 600)
    assert x.min() >= 0 and x.max() <= 1
    y = prior.states(Dice(0), 512, 600)
    y = prior.standardised(y)
    still = (y[:, 1:] - y[:, :-1]).abs().median(-1).values
    assert (still < 0.1).float().mean() > 0.25  # the level alone moves, and rarely


def test_a_yearly_level_moves_at_the_cycles_border_alone() -> None:
    dice = Dice(0)
    cycle = torch.arange(600) / 52 + dice.uniform(64, 1)
    x = prior.yearly_steps(dice, 64, 600, cycle)
    assert bool((x[:, 0] == 0).all()) and x.std() > 0.5
    for row in x:
        moves = row.diff().nonzero().squeeze(-1)
        assert len(moves) <= 12 and bool(((moves.diff() % 52) == 0).all())


def test_windows_lose_the_asked_share() -> None:
    pool = draw_series(Dice(0), 64, 600)
    assert not draw_windows(Dice(1), pool, 64, short=0, missing=0).isnan().any()
    late = draw_windows(Dice(1), pool, 64, short=1, missing=0).isnan()
    assert torch.equal(late.int().cummin(-1).values, late.int())  # only ever at the left
    gaps = draw_windows(Dice(1), pool, 640, short=0, missing=1).isnan()
    assert gaps.any(-1).float().mean() > 0.9
    seen = [(~row).nonzero().squeeze(-1).diff() for row in gaps]
    coarse = [bool((step == step[0]).all() & (step[0] > 1)) for step in seen]  # every second to twelfth step alone
    assert 0.13 < sum(coarse) / len(coarse) < 0.27


@pytest.mark.parametrize("flipped", [0.0, 0.2, 1.0])
def test_windows_are_turned_upside_down_in_the_asked_share(flipped: float) -> None:
    pool = draw_series(Dice(0), 64, 600).abs() + 0.1  # also where two are mixed
    x = draw_windows(Dice(1), pool, 4096, flipped=flipped, short=0, missing=0)
    assert bool(((x > 0).all(-1) | (x < 0).all(-1)).all())
    share = (x < 0).all(-1).float().mean()
    assert abs(float(share) - flipped) <= 4 * (flipped * (1 - flipped) / 4096) ** 0.5


# ---------------------------------------------------------------------------------------------- the choice of windows


def test_what_ends_apart_is_measured_in_what_was_observed() -> None:
    nan = torch.nan
    x = torch.tensor([[0, 0, 0, 4.0], [nan, 1, -1, nan], [2, 2, 2, 2.0], [nan, nan, nan, nan], [nan, nan, 5, nan]])
    torch.testing.assert_close(ends_apart(x), torch.tensor([3**0.5, 1.0, 0, 0, 0]))
    y = torch.randn(50, 30).cumsum(-1)
    torch.testing.assert_close(ends_apart(7 - 0.01 * y), ends_apart(y), rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(ends_apart(torch.stack([y, y * nan], -1).flatten(1)), ends_apart(y))


@pytest.mark.parametrize("full", [0.0, 1.0])  # contexts of any length, of full length alone
def test_the_asked_share_of_windows_is_chosen_by_its_past(full: float, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = torch.randn(3, 2048, CONTEXT + HORIZON).cumsum(-1)
    for eventful in (0.0, 0.5, 1.0):
        trainer = Trainer(dataclasses.replace(settings(), batch=2048, full=full, eventful=eventful), TINY)
        trainer.step, trainer.pool = 1, drawn[0]
        with monkeypatch.context() as patch:
            patch.setattr(pretrain, "draw_windows", lambda dice, pool, n: drawn.flatten(0, 1))
            past, future = trainer.batch()
        candidates = drawn[..., CONTEXT - past.shape[1] :]
        first = (past == candidates[0, :, : past.shape[1]]).all(-1)
        farthest = ends_apart(candidates[..., : past.shape[1]]).argmax(0)
        for i in range(2048):  # past and future of one window, the first or that of the three
            assert torch.equal(torch.cat([past[i], future[i]]), candidates[0 if first[i] else farthest[i], i])
        share = float((~first).float().mean())  # the farthest is the first itself once in three
        expected = 2 / 3 * eventful
        assert abs(share - expected) <= 4 * (expected * (1 - expected) / 2048) ** 0.5


# ------------------------------------------------------------------------------------------------- the forward pass


def test_lean_forward_equals_the_stock_one() -> None:
    model = build_model(**TINY).eval()
    x = contexts()
    quantiles, location, scale = scaled_quantiles(model, x)
    expected = model(context=x).quantile_preds
    torch.testing.assert_close(quantiles * scale[:, None] + location[:, None], expected, atol=1e-4, rtol=1e-4)


def test_loss_equals_the_stock_one_where_nothing_is_clamped() -> None:
    model = build_model(**TINY).eval()
    x, y = contexts()[3:], torch.randn(3, HORIZON)
    y[0, 5] = y[1, 90:] = torch.nan
    seen = ~y.isnan()
    stock = model(context=x, target=y.clone()).loss * 3  # a sum over steps, a mean over windows
    ours = quantile_loss(model, x, y) * seen.sum(-1)
    torch.testing.assert_close(ours.sum(), stock)


def test_teachers_are_averaged_and_met_where_nothing_is_lost() -> None:
    model, other, x = build_model(**TINY), build_model(seed=1, **TINY), contexts()
    with torch.no_grad():
        alone = taught_quantiles([model], x)
        assert torch.equal(alone, scaled_quantiles(model, x)[0].sort(1).values)
        both = taught_quantiles([model, other], x)
        torch.testing.assert_close(2 * both, alone + taught_quantiles([other], x))
        assert bool((both.diff(dim=1) >= 0).all())
        own, target = scaled_quantiles(model, x)[0], torch.randn(len(x), HORIZON)
        assert float(quantile_loss(model, x, target, own, 1.0).abs().max()) == 0
        apart = quantile_loss(model, x, target, own + 0.5, 1.0)
        torch.testing.assert_close(apart, torch.full_like(apart, 0.5))
        half = quantile_loss(model, x, target, own + 0.5, 0.5)
        torch.testing.assert_close(half, (quantile_loss(model, x, target) + 0.5) / 2)


@pytest.mark.parametrize("number", [1, 2, 3])
def test_what_is_taught_is_learnt_of_all_teachers(number: int) -> None:
    teachers = [build_model(seed=1 + i, **TINY) for i in range(number)]
    trainer = Trainer(Settings(steps=30, decay=1, warmup=1, batch=32, full=1.0, teaching=1.0), TINY, teachers=teachers)
    x = torch.randn(64, CONTEXT).cumsum(-1)

    def apart() -> float:
        with torch.no_grad():
            return float((scaled_quantiles(trainer.model, x)[0] - taught_quantiles(teachers, x)).abs().mean())

    before = apart()
    for _ in range(30):
        trainer.advance()
    assert apart() < 0.7 * before


def test_a_blurred_loss_is_the_expectation_over_noisy_targets() -> None:
    model, x = build_model(**TINY), torch.randn(4, CONTEXT).cumsum(-1)
    target = x[:, -1:] + torch.randn(4, HORIZON)
    scale = x.std(-1, keepdim=True, correction=0)
    node, weight = np.polynomial.hermite_e.hermegauss(99)
    with torch.no_grad():
        noisy = [quantile_loss(model, x, target + 0.3 * float(z) * scale) for z in node]
        expected = sum(float(w) * loss for w, loss in zip(weight / weight.sum(), noisy, strict=True))
        blurred = quantile_loss(model, x, target, blur=0.3)
        torch.testing.assert_close(blurred, expected, atol=2e-3, rtol=0)
        assert bool((blurred > quantile_loss(model, x, target)).all())
        torch.testing.assert_close(quantile_loss(model, x, target, blur=1e-6), quantile_loss(model, x, target))


def test_far_targets_have_a_bounded_loss_and_constant_contexts_finite_gradients() -> None:
    model = build_model(**TINY)
    loss = quantile_loss(model, contexts(), torch.full((6, HORIZON), 1e6))
    loss.mean().backward()
    assert loss.max() < 20
    assert all(p.grad is None or p.grad.isfinite().all() for p in model.parameters())


def test_first_forecast_is_near_a_standard_normal() -> None:
    quantiles, _, _ = scaled_quantiles(build_model(), torch.randn(16, CONTEXT))
    expected = torch.special.ndtri(torch.tensor(LEVELS))
    torch.testing.assert_close(quantiles.mean((0, 2)), expected, atol=0.25, rtol=0)


# ------------------------------------------------------------------------------------------------------ the training


def test_newton_schulz_flattens_the_singular_values() -> None:
    x = torch.randn(3, 12, 40)
    values = torch.linalg.svdvals(orthogonal(x))
    assert values.min() > 0.5 and values.max() < 1.4
    assert torch.linalg.svdvals(orthogonal(x.mT)).max() < 1.4


def test_rate_is_constant_and_falls_at_the_end() -> None:
    run = Settings(steps=100, decay=20, warmup=10)
    assert [run.factor(s) for s in (0, 9, 50, 80)] == [0.1, 1, 1, 1]
    assert run.factor(85) == pytest.approx(0.5)
    assert run.factor(100) == 0


def test_resume_is_exact(tmp_path: Path) -> None:
    straight = Trainer(settings(), TINY)
    for _ in range(4):
        straight.advance()
    first = Trainer(settings(), TINY)
    for _ in range(2):
        first.advance()
    first.save(tmp_path / "last.pt")
    second = Trainer(settings(), TINY)
    second.load(tmp_path / "last.pt")
    for _ in range(2):
        second.advance()
    for name, weight in straight.average.items():
        assert torch.equal(weight, second.average[name]), name


def test_a_run_begins_with_exported_weights_and_warms_up_again(tmp_path: Path) -> None:
    trainer = Trainer(settings(), TINY)
    trainer.history.append({"from": 0, "steps": 4, "decay": 2, "prior": prior.VERSION})
    trainer.advance()
    trainer.save(tmp_path / "last.pt")
    (tmp_path / "log.jsonl").write_text(json.dumps({"step": 1, "validation": 0.5}) + "\n")
    export(tmp_path, tmp_path / "model", "9.9", torch.float32)
    second = Trainer(settings(), TINY)
    assert second.begin(tmp_path / "model") == "9.9"
    assert second.step == 1 and second.history == trainer.history
    for name, weight in second.model.named_parameters():
        assert torch.equal(weight, trainer.average[name]) and torch.equal(second.average[name], weight), name
    for other in ({"d_ff": 32}, {"num_decoder_layers": 1}):
        with pytest.raises(ValueError, match="is of the architecture"):
            Trainer(settings(), {**TINY, **other}).begin(tmp_path / "model")
    run = Settings(steps=100, decay=20, warmup=10)
    assert run.factor(40, begun=40) == 0.1 and run.factor(49, begun=40) == 1


@pytest.mark.parametrize("depths", [(2, 3), (3, 4), (5, 6)])
def test_a_grown_network_forecasts_what_it_grew_from_and_learns_with_every_layer(depths, tmp_path: Path) -> None:
    small = {**TINY, "num_layers": 2, "num_decoder_layers": 3}
    trainer = Trainer(settings(), small)
    trainer.advance()
    trainer.save(tmp_path / "last.pt")
    export(tmp_path, tmp_path / "model", "1", torch.float32)
    grown = Trainer(settings(), {**TINY, **dict(zip(("num_layers", "num_decoder_layers"), depths, strict=True))})
    assert grown.begin(tmp_path / "model") == ("1" if depths == (2, 3) else "1, grown from 2 + 3 layers")
    model, _ = pretrain._averaged(tmp_path)
    for x in (contexts(), contexts()[:, -96:]):
        expected, location, scale = scaled_quantiles(model, x)
        quantiles, *units = scaled_quantiles(grown.model, x)
        torch.testing.assert_close(quantiles, expected, rtol=1e-6, atol=1e-6)
        assert torch.equal(units[0], location) and torch.equal(units[1], scale)
    grown.loss(*grown.batch()).backward()
    for part in (grown.model.encoder, grown.model.decoder):
        for block in part.block:
            assert all(x.weight.grad.abs().sum() > 0 for n, x in block.named_modules() if n.endswith((".o", ".wo")))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--begin", "nowhere"], "nowhere holds no exported model"),
        (["--begin", str(FOLDER), "--steps", "5"], "--steps 5: the weights stand at step"),
        (["--teacher", str(FOLDER), "--teacher", "nowhere"], "nowhere can not teach"),
        (["--export", "folder"], "run holds no run"),
        (["--architecture", "{bad"], "expected JSON of some of d_model"),
        (["--architecture", '{"depth": 3}'], 'got {"depth": 3}'),
        (["--architecture", '{"d_ff": 0}'], "expected whole numbers from 1"),
        (["--architecture", '{"relative_attention_num_buckets": 3}'], "expected 4 buckets or more"),
        (["--architecture", '{"relative_attention_max_distance": 16}'], "above a quarter of them, got 64 and 16"),
        (["--steps", "0"], "steps must be from 1"),
        (["--rate", "inf"], "rate must be from 0 to 1, got inf"),
        (["--blur", "nan"], "blur must be from 0 to 10, got nan"),
        (["--reuse", "40", "--batch", "2"], "reuse must be from 1 to 24"),
        (["--every", "0"], "expected a whole number from 1, got 0"),
        (["--device", "tpu"], "expected device to be 'auto', 'cpu' or a device that torch can use here, got 'tpu'"),
        (["--eventful", "-1"], "eventful must be from 0 to 1, got -1.0"),
        (["--teaching", "2"], "teaching must be from 0 to 1, got 2.0"),
    ],
)
def test_wrong_options_are_told_before_anything_is_written(options, said, tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["pretrain", "run", *options])
    with pytest.raises(SystemExit):
        pretrain.main()
    assert said in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_a_run_and_the_model_exported_of_it_teach_the_same_by_their_names(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(Trainer, "CHECK", 32)
    run, shape = tmp_path / "run", json.dumps(TINY)
    common = ["--steps", "2", "--decay", "1", "--batch", "8", "--full", "1", "--device", "cpu", "--architecture", shape]
    monkeypatch.setattr("sys.argv", ["pretrain", str(run), *common])
    pretrain.main()
    export(run, tmp_path / "model", "9.9", torch.float32)
    histories = []
    for teachers in ([run, tmp_path / "model"], [tmp_path / "model", run]):
        taught = tmp_path / f"taught by {teachers[0].name}"
        options = [part for folder in teachers for part in ("--teacher", str(folder))]
        monkeypatch.setattr("sys.argv", ["pretrain", str(taught), *common, *options])
        pretrain.main()
        histories.append(torch.load(taught / "last.pt", weights_only=True))
    assert [state["history"][-1]["teacher"] for state in histories] == [
        "step 2 and version 9.9",
        "version 9.9 and step 2",
    ]
    for name, weight in histories[0]["model"].items():
        assert torch.equal(weight, histories[1]["model"][name]), name


def spoil(folder: Path, what: str) -> Path:
    r"""Spoils a run in `folder/run` or a model in `folder/model`, and returns it."""
    run, model = folder / "run", folder / "model"
    card = json.loads((model / "card.json").read_text())
    if what == "garbage":
        (run / "last.pt").write_bytes(b"garbage")
    elif what == "other checkpoint":
        torch.save({"weights": torch.ones(2)}, run / "last.pt")
    elif what == "no json":
        (model / "card.json").write_text("no json")
    elif what == "other card":
        (model / "card.json").write_text('{"title": "another"}')
    elif what == "no weights":
        (model / "model.safetensors").unlink()
    elif what == "cut weights":
        data = (model / "model.safetensors").read_bytes()
        (model / "model.safetensors").write_bytes(data[: len(data) // 2])
    else:
        weights = load_file(model / "model.safetensors")
        if what == "changed weights":
            weights["shared.weight"] += 1
        else:
            del weights["shared.weight"]
        save_file(weights, model / "model.safetensors")
        if what == "lacking weights":
            data = (model / "model.safetensors").read_bytes()
            (model / "card.json").write_text(json.dumps({**card, "sha256": hashlib.sha256(data).hexdigest()}))
    return run if what in ("garbage", "other checkpoint") else model


@pytest.mark.parametrize(
    ("what", "said"),
    [
        ("garbage", "can not be read as a checkpoint"),
        ("other checkpoint", "is no checkpoint of a run"),
        ("no json", "card.json is no JSON"),
        ("other card", "is no card that --export writes"),
        ("no weights", "expected config.json and model.safetensors in it"),
        ("cut weights", "model' cannot be read"),
        ("changed weights", "have another sha256"),
        ("lacking weights", "do not fit its config.json: 3 missing or of another shape"),
    ],
)
def test_a_spoilt_run_or_model_is_told_by_its_name_and_never_taught_from(what, said, tmp_path, monkeypatch, capsys):
    trainer = Trainer(settings(), TINY)
    trainer.advance()
    (tmp_path / "run").mkdir()
    trainer.save(tmp_path / "run" / "last.pt")
    export(tmp_path / "run", tmp_path / "model")  # without a log, which a copied checkpoint lacks
    folder = spoil(tmp_path, what)
    monkeypatch.setattr("sys.argv", ["pretrain", str(tmp_path / "new"), "--teacher", str(folder), "--device", "cpu"])
    with pytest.raises(SystemExit):
        pretrain.main()
    assert said in capsys.readouterr().err
    assert not (tmp_path / "new").exists()


def test_a_run_cut_off_goes_on_as_if_it_had_not_been(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(Trainer, "CHECK", 32)
    common = ["--steps", "4", "--decay", "2", "--batch", "8", "--every", "2", "--device", "cpu"]
    states, advance = [], Trainer.advance

    def cut(trainer: Trainer) -> float:
        if trainer.step == 3:
            raise KeyboardInterrupt
        return advance(trainer)

    for name in ("straight", "cut"):
        run = tmp_path / name
        monkeypatch.setattr("sys.argv", ["pretrain", str(run), *common, "--architecture", json.dumps(TINY)])
        if name == "cut":
            with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
                patch.setattr(Trainer, "advance", cut)
                pretrain.main()
        pretrain.main()
        states.append(torch.load(run / "last.pt", weights_only=True))
    assert states[0]["history"] == states[1]["history"] and len(states[0]["history"]) == 1
    for name, weight in states[0]["average"].items():
        assert torch.equal(weight, states[1]["average"][name]), name


def test_nothing_that_is_not_finite_is_written(tmp_path: Path) -> None:
    lost = Trainer(settings(), TINY)
    weight = next(iter(lost.model.parameters()))
    weight.data.fill_(torch.nan)
    with pytest.raises(FloatingPointError, match="the loss of step 0 is nan"):
        lost.advance()
    averaged = Trainer(settings(), TINY)
    next(iter(averaged.average.values())).fill_(torch.nan)
    with pytest.raises(FloatingPointError, match="the weights of step 1 are lost"):
        pretrain._train(averaged, tmp_path, 1)
    assert not list(tmp_path.iterdir())


def test_a_run_goes_on_with_the_decay_of_weights_that_it_is_given(tmp_path: Path) -> None:
    Trainer(settings(), TINY).save(tmp_path / "last.pt")
    trainer = Trainer(dataclasses.replace(settings(), weight_decay=0.9), TINY)
    trainer.load(tmp_path / "last.pt")
    assert {group["weight_decay"] for _, optimiser in trainer.optimisers for group in optimiser.param_groups} == {0.9}


def test_the_card_counts_the_windows_of_every_part(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(Trainer, "CHECK", 32)
    run = tmp_path / "run"
    for steps, batch in ((3, 16), (5, 8)):
        options = ["--steps", str(steps), "--batch", str(batch), "--decay", "1", "--device", "cpu"]
        monkeypatch.setattr("sys.argv", ["pretrain", str(run), *options, "--architecture", json.dumps(TINY)])
        pretrain.main()
    export(run, tmp_path / "model", "9.9", torch.float32)
    card = json.loads((tmp_path / "model" / "card.json").read_text())
    assert card["windows"] == 3 * 16 + 2 * 8
    assert [part["batch"] for part in card["history"]] == [16, 8]


def test_weights_to_begin_with_are_refused_where_a_run_began_with_others(tmp_path: Path, monkeypatch, capsys) -> None:
    monkeypatch.setattr(Trainer, "CHECK", 32)
    common = ["--decay", "1", "--batch", "8", "--device", "cpu", "--architecture", json.dumps(TINY)]

    def train(name: str, steps: int, *options: str) -> None:
        monkeypatch.setattr("sys.argv", ["pretrain", str(tmp_path / name), "--steps", str(steps), *common, *options])
        pretrain.main()

    train("old", 1)
    export(tmp_path / "old", tmp_path / "model", "9.9", torch.float32)
    train("new", 2, "--begin", str(tmp_path / "model"))
    train("new", 3, "--begin", str(tmp_path / "model"))  # goes on, as the same command does after a cut
    before = (tmp_path / "old" / "last.pt").read_bytes()
    with pytest.raises(SystemExit):
        train("old", 2, "--begin", str(tmp_path / "model"))
    assert "began with weights of its own, not with version 9.9" in capsys.readouterr().err
    assert (tmp_path / "old" / "last.pt").read_bytes() == before


def test_weights_that_are_not_finite_are_not_exported(tmp_path: Path) -> None:
    trainer = Trainer(settings(), TINY)
    next(iter(trainer.average.values())).fill_(float("nan"))
    trainer.save(tmp_path / "last.pt")
    with pytest.raises(ValueError, match="not finite"):
        export(tmp_path, tmp_path / "model")
    assert not (tmp_path / "model").exists()


def test_a_torn_log_is_named(tmp_path: Path) -> None:
    Trainer(settings(), TINY).save(tmp_path / "last.pt")
    (tmp_path / "log.jsonl").write_text('{"step": 1')
    with pytest.raises(ValueError, match=r"log\.jsonl holds a line that is no JSON"):
        export(tmp_path, tmp_path / "model")
    assert not (tmp_path / "model").exists()


def test_a_run_goes_on_with_its_seed_alone(tmp_path: Path) -> None:
    trainer = Trainer(settings(), TINY)
    trainer.save(tmp_path / "last.pt")
    with pytest.raises(ValueError, match="is of the seed 3, not 7"):
        Trainer(dataclasses.replace(settings(), seed=7), TINY).load(tmp_path / "last.pt")


def test_pool_is_the_same_after_a_resume_later_on() -> None:
    straight, late = Trainer(settings(60), TINY), Trainer(settings(60), TINY)
    for straight.step in range(40):
        context, target = straight.batch()
    late.step = 39
    assert torch.equal(late.batch()[1].nan_to_num(), target.nan_to_num())


def test_training_lowers_the_loss_and_export_loads(tmp_path: Path) -> None:
    from chronos import BaseChronosPipeline

    run = Settings(steps=120, decay=40, warmup=5, batch=48, rate=0.01, outer_rate=0.01, averaging=0.9)
    trainer = Trainer(run, TINY)
    before = trainer.validate()
    for _ in range(120):
        trainer.advance()
    assert trainer.validate() < before - 0.01
    trainer.save(tmp_path / "last.pt")
    (tmp_path / "log.jsonl").write_text(json.dumps({"step": 120, "validation": 0.5}) + "\n")
    export(tmp_path, tmp_path / "model", "9.9")
    card = json.loads((tmp_path / "model" / "card.json").read_text())
    assert card["version"] == "9.9" and card["windows"] == 120 * 48 and card["validation_loss"] == {"120": 0.5}
    model = BaseChronosPipeline.from_pretrained(tmp_path / "model", dtype=torch.float32).inner_model
    weight = model.state_dict()["encoder.block.0.layer.0.SelfAttention.q.weight"]
    trained = trainer.average["encoder.block.0.layer.0.SelfAttention.q.weight"]
    assert torch.equal(weight, trained.half().float())


# ----------------------------------------------------------------------------------------------- the shipped weights


@pytest.fixture(scope="module")
def shipped() -> torch.nn.Module:
    from chronos import BaseChronosPipeline

    return BaseChronosPipeline.from_pretrained(FOLDER, dtype=torch.float32).inner_model.eval()


def test_card_names_the_weights() -> None:
    card = json.loads((FOLDER / "card.json").read_text())
    data = (FOLDER / "model.safetensors").read_bytes()
    assert card["sha256"] == hashlib.sha256(data).hexdigest()
    assert len(data) <= 10_000_000
    assert card["version"] in (FOLDER / "card.md").read_text()


@torch.no_grad()
def forecast(model: torch.nn.Module, series: Tensor) -> Tensor:
    return model(context=series).quantile_preds.sort(1).values


def test_a_clean_season_is_continued(shipped: torch.nn.Module) -> None:
    t = torch.arange(CONTEXT + HORIZON)
    for period in (24, 48, 96, 144):
        x = torch.sin(2 * torch.pi * t / period) + 0.5 * torch.cos(4 * torch.pi * t / period)
        median = forecast(shipped, x[None, :CONTEXT])[0, 4]
        assert (median - x[CONTEXT:]).square().mean() < 0.1 * x.var(), period


def test_a_walk_is_forecast_by_its_last_value_with_widening_fans(shipped: torch.nn.Module) -> None:
    x = torch.randn(200, CONTEXT + HORIZON).cumsum(-1)
    q = forecast(shipped, x[:, :CONTEXT])
    future = x[:, CONTEXT:]
    last = (future - x[:, CONTEXT - 1 : CONTEXT]).square().mean()
    assert (future - q[:, 4]).square().mean() < 1.15 * last
    width = (q[:, 8] - q[:, 0]).mean(0)
    assert width[-1] > 2 * width[2]
    inside = ((future > q[:, 0]) & (future < q[:, 8])).float().mean()
    assert 0.7 < inside < 0.9


def test_white_noise_has_calibrated_deciles(shipped: torch.nn.Module) -> None:
    x = torch.randn(200, CONTEXT + HORIZON)
    q = forecast(shipped, x[:, :CONTEXT])
    below = (x[:, None, CONTEXT:] <= q).float().mean((0, 2))
    torch.testing.assert_close(below, torch.tensor(LEVELS), atol=0.04, rtol=0)


def test_forecast_follows_a_change_of_units(shipped: torch.nn.Module) -> None:
    x = torch.randn(4, 300).cumsum(-1)
    torch.testing.assert_close(forecast(shipped, 50 * x + 7), 50 * forecast(shipped, x) + 7, atol=0.05, rtol=1e-3)
