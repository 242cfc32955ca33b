r"""Tuning: what is searched, on which rows, and how a search goes on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from seasonal import SeasonalModel
from test_static import shops

import adapts
from adapts import Adapter, Panel, tune
from adapts.adapters import Portfolio
from adapts.distribution.levels import LEVELS
from adapts.evaluation.scores import pinball
from adapts.registry import load_recipe

SPACE: dict[str, Any] = {"family": ["residual", "pca"], "family__latent_channels": [1, 2], "context_length": (36, 48)}


def series(steps: int = 600, channels: int = 3) -> np.ndarray:
    time = np.arange(float(steps))[:, None]
    noise = np.random.default_rng(0).standard_normal((steps, channels))
    return np.sin(2 * np.pi * time / 12 + np.arange(float(channels))) + 0.2 * noise


def adapter(family: str = "residual", **options: Any) -> Adapter:
    return Adapter(family, foundation_model=SeasonalModel(), prediction_length=8, max_windows=100, **options)


def test_the_best_of_a_list_is_found_and_nothing_else_is_changed() -> None:
    base = adapter("pca")
    tuned = tune(base, series(), {"family__latent_channels": [1, 2, 3]}, trials=8)
    losses = tuned.trials.groupby("family__latent_channels")["loss"]
    assert set(losses.groups) == {1, 2, 3}
    assert (losses.max() == losses.min()).all()  # the same options, the same loss
    assert tuned.loss == losses.min().min()
    assert tuned.params == {"family__latent_channels": losses.min().idxmin()}
    assert tuned.adapter.family.options()["latent_channels"] == tuned.params["family__latent_channels"]
    assert tuned.adapter.get_params()["max_windows"] == 100
    assert base.get_params()["family__latent_channels"] is None
    assert base.fitted_ is tuned.adapter.fitted_ is None


def test_the_loss_of_the_identity_is_the_frozen_models_quantile_loss() -> None:
    rows = series()
    tuned = tune(adapter("identity"), rows, {"context_length": [48]}, trials=1)
    assert tuned.loss == tuned.frozen_loss
    fitted = adapter("identity", context_length=48).fit(rows)
    panel = Panel.of(rows)
    windows = adapts.data.windows.split_windows(
        panel,
        adapts.data.splits.split_panel(panel)["validation"],
        context_length=48,
        prediction_length=8,
        max_windows=50,
    )
    law = fitted.zero_shot_distribution(windows)
    future = windows.future(torch.float64)
    levels = torch.tensor(LEVELS, dtype=torch.float64)
    loss = 2 * pinball(law.marginals.at(levels), future, levels) / torch.from_numpy(fitted.scale_)[:, None]
    assert tuned.loss == pytest.approx(float(loss.mean()), rel=1e-3)


def test_by_default_auto_is_searched_among_others() -> None:
    rows = series(200)  # too few windows for networks in auto
    tuned = tune(adapter(trainer_options={"max_epochs": 1, "enable_progress_bar": False}), rows, trials=3)
    assert set(tuned.trials["family"]) <= {"auto", "residual", "attention"} == set(adapts.tuning.SPACE["family"])
    assert (tuned.trials["state"] == "complete").all()
    members = tuned.trials.get("family__members", pd.Series([None] * 3))
    assert (members.notna() == (tuned.trials["family"] == "auto")).all()


def test_the_first_trial_is_the_adapter_as_it_is() -> None:
    trainer = {"max_epochs": 1, "enable_progress_bar": False}
    for family, members in (("auto", Portfolio.members), ("residual", None)):
        tuned = tune(adapter(family, trainer_options=trainer), series(200), trials=1)
        (first,) = tuned.trials.to_dict("records")
        assert (first["family"], first.get("family__members")) == (family, members)
    space = {"family__latent_channels": [2, 3], "learning_rate": (1e-4, 1e-2)}
    tuned = tune(adapter("linear", learning_rate=0.00123, trainer_options=trainer), series(200), space, trials=1)
    assert tuned.params["learning_rate"] == 0.00123


def test_no_row_behind_the_validation_rows_is_read() -> None:
    rows = series()
    whole, changed = rows.copy(), rows.copy()
    changed[480:] = np.random.default_rng(1).standard_normal((120, 3)) * 100
    one, other = (tune(adapter(), values, SPACE, trials=4) for values in (whole, changed))
    assert one.trials.equals(other.trials)
    assert one.recipe == other.recipe
    changed[440:480] += 1  # validation rows are
    assert not tune(adapter(), changed, SPACE, trials=4).trials["loss"].equals(one.trials["loss"])


def test_with_borders_only_the_first_third_behind_them_is_read() -> None:
    rows = series()
    changed = rows.copy()
    changed[440:] *= 100
    one, other = (tune(adapter(), values, SPACE, trials=3, borders=(400, 520)) for values in (rows, changed))
    assert one.trials.equals(other.trials)


def test_a_search_that_was_ended_goes_on_to_the_same_trials(tmp_path: Path) -> None:
    class Killed(Exception):
        pass

    def kill(said: str) -> None:
        if said.startswith("trial 7 "):
            raise Killed

    rows = series()
    whole = tune(adapter(), rows, SPACE, trials=13)  # more than the ten that are drawn at random
    with pytest.raises(Killed):
        tune(adapter(), rows, SPACE, trials=13, folder=tmp_path, on_trial=kill)
    said: list[str] = []
    resumed = tune(adapter(), rows, SPACE, trials=13, folder=tmp_path, on_trial=said.append)
    assert len(said) == 6
    assert resumed.trials.equals(whole.trials)
    assert resumed.params == whole.params
    assert tune(adapter(), rows, SPACE, trials=13, folder=tmp_path, on_trial=pytest.fail).loss == whole.loss


def test_a_trial_that_a_killed_process_was_at_is_done_again(tmp_path: Path) -> None:
    import optuna

    rows = series()
    tune(adapter(), rows, SPACE, trials=2, folder=tmp_path)
    backend = optuna.storages.journal.JournalFileBackend(str(tmp_path / "trials.log"))
    optuna.load_study(study_name="adapts", storage=optuna.storages.JournalStorage(backend)).ask()
    resumed = tune(adapter(), rows, SPACE, trials=4, folder=tmp_path)
    assert resumed.trials.equals(tune(adapter(), rows, SPACE, trials=4).trials)


def test_a_folder_of_another_search_is_refused(tmp_path: Path) -> None:
    rows = series()
    tune(adapter(), rows, {"context_length": [48]}, trials=1, folder=tmp_path)
    with pytest.raises(ValueError, match="another job, which differs in space context_length"):
        tune(adapter(), rows, {"context_length": [36, 48]}, trials=1, folder=tmp_path)
    with pytest.raises(ValueError, match="differs in option seed"):
        tune(adapter(seed=1), rows, {"context_length": [48]}, trials=1, folder=tmp_path)
    rows[-1] += 1  # is not read
    tune(adapter(), rows, {"context_length": [48]}, trials=1, folder=tmp_path)
    rows[0] += 1
    with pytest.raises(ValueError, match="differs in data sha256"):
        tune(adapter(), rows, {"context_length": [48]}, trials=1, folder=tmp_path)
    rows = series()
    log = (tmp_path / "trials.log").read_bytes()
    for content, words in ((b"mine", "does not hold the trials"), (log[:-9] + b"\n\n", "cannot be read as the trials")):
        (tmp_path / "trials.log").write_bytes(content)
        with pytest.raises(ValueError, match=f"trials.log {words} of a search"):
            tune(adapter(), rows, {"context_length": [48]}, trials=2, folder=tmp_path)
        assert (tmp_path / "trials.log").read_bytes() == content


def test_seeds() -> None:
    rows = series()
    space = {"context_length": (24, 96)}
    one, same, other = (tune(adapter(seed=seed), rows, space, trials=3).trials for seed in (3, 3, 4))
    assert one.equals(same)
    assert not one["context_length"].equals(other["context_length"])


def test_options_of_other_families_are_left_out() -> None:
    space = {**SPACE, "learning_rate": (1e-3, 1e-1, "log"), "family": ["residual", "pca", "linear"]}
    base = adapter(trainer_options={"max_epochs": 1})
    frame = tune(base, series(), space, trials=8).trials
    assert (frame["learning_rate"].notna() == (frame["family"] == "linear")).all()
    assert (frame["family__latent_channels"].notna() == (frame["family"] != "residual")).all()
    assert frame["learning_rate"].dropna().between(1e-3, 1e-1).all()
    assert frame["context_length"].isin(range(36, 49)).all()
    assert (frame["state"] == "complete").all()


def test_options_that_do_not_go_together_are_refused_trials() -> None:
    space = {"family__free": ["both", "encoder"], "family__tied": [False, True]}
    base = adapter("linear", trainer_options={"max_epochs": 1})
    frame = tune(base, series(), space, trials=8).trials
    refused = frame["state"] == "refused"
    both = (frame["family__free"] == "encoder") & frame["family__tied"]
    assert refused.any()
    assert (refused == both).all()
    assert frame.loc[refused, "error"].str.contains("with tied=True expects free='both'").all()
    assert frame.loc[refused, "loss"].isna().all()


def test_the_recipe_makes_the_same_adapter(tmp_path: Path) -> None:
    rows = series()
    base = adapter("linear", trainer_options={"max_epochs": 1})
    space = {"family__latent_channels": [2], "learning_rate": (1e-3, 1e-1, "log"), "context_length": [36]}
    tuned = tune(base, rows, space, trials=2)
    tuned.write(tmp_path / "tuned.yaml")
    tuned.write(tmp_path / "tuned.yaml")
    (tmp_path / "notes.yaml").write_text("mine: all")
    with pytest.raises(ValueError, match=r"notes.yaml exists, and adapts did not write it: it is kept, choose another"):
        tuned.write(tmp_path / "notes.yaml")
    assert (tmp_path / "notes.yaml").read_text() == "mine: all"
    recipe = load_recipe(tmp_path / "tuned.yaml")
    assert recipe["family"] == "linear"
    assert recipe["options"] == {"latent_channels": 2}
    assert recipe["training"]["learning_rate"] == tuned.params["learning_rate"]
    assert "Use it with context_length=36." in recipe["when"]
    again = base.clone().set_params(family=tmp_path / "tuned.yaml", context_length=36)
    np.testing.assert_array_equal(again.fit(rows).predict().mean, tuned.adapter.fit(rows).predict().mean)


# ---------------------------------------------------------------------- covariates


def driven(rows: int = 700) -> pd.DataFrame:
    r"""Two targets: `a` driven by a column that is known ahead, and led by another by more steps than are forecast."""
    noise = np.random.default_rng(0).standard_normal((rows + 10, 5))
    season = np.sin(2 * np.pi * np.arange(rows) / 12)
    lead, driver = noise[:, 0], noise[:rows, 1]
    values = {
        "a": season + 2 * driver + 1.5 * lead[:rows] + 0.3 * noise[:rows, 2] + 5, "b": season + 0.3 * noise[:rows, 3],
        "driver": driver, "ahead": lead[10:], "noise": noise[:rows, 4],
    }  # fmt: skip
    return pd.DataFrame(values, pd.date_range("2024-01-01", periods=rows, freq="h"))


TARGETS = {"target": ["a", "b"]}


def test_covariates_lower_the_loss_and_leave_the_frozen_models() -> None:
    rows, space = driven(), {"context_length": [48]}
    without = tune(adapter(), rows, space, trials=1, **TARGETS)
    known = tune(adapter(), rows, space, trials=1, known_covariates="driver", **TARGETS)
    both = tune(
        adapter(), rows, space, trials=1, known_covariates=["driver"], past_covariates=["ahead"], calendar=True,
        **TARGETS,
    )  # fmt: skip
    assert known.loss < 0.8 * without.loss
    assert both.loss < 0.9 * known.loss
    assert known.frozen_loss == pytest.approx(without.frozen_loss, rel=1e-5)
    assert both.frozen_loss == pytest.approx(without.frozen_loss, rel=1e-5)


def test_gaps_that_are_filled_leave_the_frozen_models_loss() -> None:
    r"""The frozen model's loss is that of the targets as they came, whether or not they tell of each other's gaps."""
    rows = driven()
    rows["b"] = rows["a"] + 0.1 * rows["noise"]
    rows = rows.drop(columns="noise").mask(np.random.default_rng(1).random((len(rows), 4)) < [0.0, 0.2, 0.0, 0.0])
    raw = tune(adapter("identity"), rows, {"context_length": [48]}, trials=1, **TARGETS)  # fills nothing
    assert raw.loss == raw.frozen_loss
    for roles in ({}, {"known_covariates": "driver"}, {"past_covariates": ["ahead"]}):
        tuned = tune(adapter(), rows, {"context_length": [48]}, trials=1, **TARGETS, **roles)
        assert tuned.frozen_loss == pytest.approx(raw.loss, rel=1e-5)


def test_covariates_that_fit_would_not_use_change_nothing() -> None:
    rows, space = driven(), {"context_length": [48], "family": ["residual", "autoencoder"]}
    options = {"trainer_options": {"max_epochs": 1}}
    without = tune(adapter(**options), rows, space, trials=3, **TARGETS)
    noise = tune(adapter(**options), rows, space, trials=3, past_covariates=["noise"], **TARGETS)
    assert noise.trials.equals(without.trials)
    known = tune(adapter(**options), rows, space, trials=3, known_covariates=["noise"], **TARGETS)
    assert known.trials.equals(without.trials)
    unasked = tune(adapter(gate=False), rows, {"context_length": [48]}, trials=1, past_covariates=["noise"], **TARGETS)
    assert unasked.loss != without.trials["loss"][0]  # without a gate past covariates stay


def test_trials_share_only_what_is_the_same() -> None:
    r"""Each loss is that of a search of its own, whatever trials came before."""
    rows = driven()
    roles = {**TARGETS, "known_covariates": ["driver"], "past_covariates": ["ahead", "noise"]}
    space = {
        "family": ["residual", "pca", "identity"], "family__latent_channels": [1, 3], "context_length": [36, 48],
        "family__lags": [4, 12], "batch_size": [32, 64],
    }  # fmt: skip
    frame = tune(adapter(), rows, space, trials=9, **roles).trials
    assert frame["family"].nunique() == 3 and frame["context_length"].nunique() == 2
    for trial in frame.to_dict("records"):
        options = {name: int(x) if isinstance(x, float) else x for name, x in trial.items() if name in space and x == x}
        family = options.pop("family")
        alone = tune(adapter(family), rows, {name: [value] for name, value in options.items()}, trials=1, **roles)
        assert alone.loss == trial["loss"], options


def test_static_columns_tell_items_apart_in_each_trial() -> None:
    rows, space = shops(rows=300), {"family": ["residual", "identity"], "context_length": [36]}
    roles = {"target": ["sales"], "known_covariates": ["price"]}
    without = tune(adapter(), rows.drop(columns=["kind", "slope", "luck"]), space, trials=1, **roles)
    apart = tune(adapter(), rows, space, trials=3, static=["kind"], **roles)
    assert apart.loss < 0.7 * without.loss
    assert apart.frozen_loss == pytest.approx(without.frozen_loss, rel=1e-5)
    for family, loss in apart.trials[["family", "loss"]].itertuples(index=False):
        alone = tune(adapter(), rows, {**space, "family": [family]}, trials=1, static=["kind"], **roles)
        assert alone.loss == loss


def test_a_trial_scores_what_fit_would_fit() -> None:
    r"""The identity's loss with a known driver is that of the fitted law, which nothing else has touched."""
    rows, roles = driven(), {**TARGETS, "known_covariates": ["driver"]}
    tuned = tune(adapter("identity"), rows, {"context_length": [48]}, trials=1, **roles)
    fitted = adapter("identity", context_length=48, recalibration="none").fit(rows, **roles)
    panel = fitted.fitted_.panel
    windows = adapts.data.windows.split_windows(
        panel,
        adapts.data.splits.split_panel(panel)["validation"],
        context_length=48,
        prediction_length=8,
        max_windows=50,
    )
    future, levels = windows.future(torch.float64)[..., :2], torch.tensor(LEVELS, dtype=torch.float64)
    for law, loss in (
        (fitted.joint_distribution(windows), tuned.loss),
        (fitted.zero_shot_distribution(windows), tuned.frozen_loss),
    ):
        found = 2 * pinball(law.marginals.at(levels), future, levels) / torch.from_numpy(fitted.scale_)[:, None]
        assert loss == pytest.approx(float(found.mean()), rel=1e-3)


def test_a_search_with_other_covariates_is_another_search(tmp_path: Path) -> None:
    rows, space = driven(), {"context_length": [48]}
    tune(adapter(), rows, space, trials=1, folder=tmp_path, known_covariates="noise", **TARGETS)
    with pytest.raises(ValueError, match="differs in .*past_covariates"):
        tune(adapter(), rows, space, trials=1, folder=tmp_path, past_covariates="noise", **TARGETS)
    later = rows.copy()
    later.iloc[-100:] += 100  # calibration rows and those behind them are not read
    tune(adapter(), later, space, trials=1, folder=tmp_path, known_covariates="noise", **TARGETS)


def test_the_latent_channels_of_past_covariates_are_searched_too() -> None:
    space = {"family__latent_channels": [2, 3]}
    assert tune(adapter("pca"), driven(), space, trials=2, past_covariates=["ahead"], **TARGETS).loss > 0
    with pytest.raises(ValueError, match="at most as many latent channels as observed ones, got latent_channels=3"):
        tune(adapter("pca"), driven(), space, trials=2, known_covariates=["driver"], **TARGETS)


@pytest.mark.parametrize(
    ("space", "message"),
    [
        ({"learnin_rate": [0.1]}, r"no option of Adapter is called 'learnin_rate'.*did you mean 'learning_rate'\?"),
        ({"family__latent_channel": [2]}, r"called 'family__latent_channel'.*did you mean 'family__latent_channels'\?"),
        ({"family": ["vaee"]}, r"no adapter is called 'vaee'.*did you mean 'vae'\?"),
        (
            {"family__latent_channels": [2, 8]},
            "at most as many latent channels as observed ones, got latent_channels=8",
        ),
        ({"objective": ["msee"]}, r"'msee'.*did you mean 'mse'\?"),
        ({"learning_rate": (-1.0, 0.1)}, "learning_rate to be a positive number"),
        ({"context_length": (96, 24)}, r"context_length a list of values, or a range .* low < high, got \(96, 24\)"),
        ({"context_length": 96}, r"got 96"),
        ({"context_length": []}, r"got \[\]"),
        ({"learning_rate": (1e-4, 1e-2, "lin")}, r"\(low, high, 'log'\)"),
        ({"context_length": (0, 8, "log")}, "to lie above 0"),
        (
            {"prediction_length": [8, 24]},
            "prediction_length is not searched, trials with different values are not comparable",
        ),
        ({"gate": [True, False]}, "gate is not searched, it applies after the scored step"),
        ({"family": ["pca"], "learning_rate": [0.1]}, "nothing trains .* by gradient"),
        ({}, "expects space to map options"),
    ],
)
def test_what_cannot_be_searched(space: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        tune(adapter("linear"), series(120), space)


def test_other_mistakes() -> None:
    with pytest.raises(ValueError, match="trials to be a positive integer, got 0"):
        tune(adapter(), series(), {"context_length": [48]}, trials=0)
    with pytest.raises(ValueError, match="the validation rows hold no window of 8 target steps"):
        tune(adapter(), series(60), {"context_length": [48]}, trials=1)
