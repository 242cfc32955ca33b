r"""The fractions of the splits, and families that are trained however few the windows are."""

from __future__ import annotations

import json
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from cli_files import forecast as run_forecast
from seasonal import SeasonalModel

from adapts import Adapter, tune
from adapts.adapters import Ensemble, Linear, RegressionData, Residual
from adapts.adapters.linear import STRENGTHS
from adapts.data.cards import Dataset
from adapts.data.panel import Panel
from adapts.data.splits import split_panel
from adapts.data.windows import last_windows
from adapts.fractions import FRACTIONS
from adapts.persistence.saved_schema import digest
from adapts.statistics.ridge import blocked_folds, count_folds
from adapts.training.module import UNVALIDATED_EPOCHS

H = 12


def series(rows: int = 300) -> pd.DataFrame:
    r"""Three channels with a season of twelve hours, and noise."""
    values = np.sin(2 * np.pi * np.arange(rows)[:, None] / 12 + np.arange(3))
    values = values + 0.3 * np.random.default_rng(0).standard_normal((rows, 3))
    return pd.DataFrame(values, pd.date_range("2024-01-01", periods=rows, freq="h"), list("abc"))


def adapter(family: object = "identity", **options: object) -> Adapter:
    options = {"foundation_model": SeasonalModel(), "prediction_length": H, "context_length": 36, **options}
    return Adapter(family, **options)


def spans(fitted: Adapter) -> dict[str, tuple[str, str]]:
    return {name: (span["first"], span["last"]) for name, span in fitted.summary().spans.items()}


class TestSplits:
    def test_fractions_divide_the_rows_by_date(self) -> None:
        fitted = adapter(splits=(0.5, 0.2, 0.2, 0.1)).fit(series(240))
        assert spans(fitted) == {
            "train": ("2024-01-01 00:00:00", "2024-01-05 23:00:00"),
            "validation": ("2024-01-06 00:00:00", "2024-01-07 23:00:00"),
            "calibration": ("2024-01-08 00:00:00", "2024-01-09 23:00:00"),
            "confirmation": ("2024-01-10 00:00:00", "2024-01-10 23:00:00"),
        }

    @pytest.mark.parametrize("of_card", [True, False])
    def test_fractions_divide_the_validation_rows_of_borders(self, of_card: bool) -> None:
        panel, borders = Panel.of(series(300)), (120, 216)
        given = Dataset("mine", panel, borders) if of_card else panel
        fitted = adapter(splits=(0.4, 0.3, 0.0, 0.3)).fit(given, borders=None if of_card else borders)
        rows = {name: span["rows"] for name, span in fitted.summary().spans.items()}
        assert rows == {"train": 120, "validation": 48, "confirmation": 48}
        thirds = adapter(splits=(0.1, 0.3, 0.3, 0.3)).fit(given, borders=None if of_card else borders)
        assert [span["rows"] for span in thirds.summary().spans.values()] == [120, 32, 32, 32]

    @pytest.mark.parametrize(
        "splits",
        [(0.7, 0.1, 0.2), (0.7, 0.2, 0.2, -0.1), (0.7, 0.1, 0.1, 0.2), (0, 0.5, 0.3, 0.2), (1, np.nan, 0, 0), "0.7",
         0.7, None, (True, 0, 0, 0), {0.7, 0.1, 0.2, 0.0}],
    )  # fmt: skip
    def test_other_values_are_refused(self, splits: object) -> None:
        with pytest.raises(ValueError, match=r"Adapter expects splits to be 4 fractions of rows .* that sum to 1.*got"):
            adapter(splits=splits)
        with pytest.raises(ValueError, match="expected fractions to be 4 fractions of rows"):
            split_panel(Panel.of(series()), fractions=splits)

    def test_borders_need_a_split_for_their_validation_rows(self) -> None:
        with pytest.raises(
            ValueError, match=r"\(200, 260\) state validation rows.*make one of the last three positive"
        ):
            adapter(splits=(1, 0, 0, 0)).fit(series(), borders=(200, 260))

    @pytest.mark.parametrize(
        ("splits", "declined"),
        [
            ((0.8, 0.0, 0.1, 0.1), {"few_values", "gate"}),
            ((0.5, 0.5, 0.0, 0.0), {"calibration", "confirmation"}),
            ((1.0, 0.0, 0.0, 0.0), {"few_values", "gate", "calibration", "confirmation"}),
        ],
    )
    def test_a_split_without_rows_leaves_out_its_stages_and_is_no_warning(
        self, splits: tuple[float, ...], declined: set[str]
    ) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            fitted = adapter("residual", splits=splits).fit(series(1200))
        (notice,) = fitted.summary().notices
        assert notice.kind == "splits" and set(notice.about) == declined
        assert ("the gate stays closed (gate=False uses it)" in notice.said) == ("gate" in declined)
        stages = fitted.summary().stages
        assert all("splits gives the" in stages[name] and "split no rows" in stages[name] for name in declined)
        assert not any("effective sample size of" in said and "needed" in said for said in stages.values())
        assert f"note: {notice.said}" in str(fitted.summary()) and notice in fitted.predict().notices

    def test_saved_adapters_keep_them_and_older_ones_had_the_default(self, tmp_path: Path) -> None:
        splits = np.array([0.6, 0.2, 0.1, 0.1])
        adapter(splits=splits).fit(series()).save(tmp_path / "run")
        assert Adapter.load(tmp_path / "run", foundation_model=SeasonalModel()).splits == (0.6, 0.2, 0.1, 0.1)
        config = json.loads((tmp_path / "run" / "config.json").read_text())
        del config["options"]["splits"]
        config["sha256"] = digest(config, (tmp_path / "run" / "adapter.safetensors").read_bytes())
        (tmp_path / "run" / "config.json").write_text(json.dumps(config))
        assert Adapter.load(tmp_path / "run", foundation_model=SeasonalModel()).splits == FRACTIONS

    def test_a_change_after_the_fit_needs_another(self) -> None:
        fitted = adapter().fit(series())
        fitted.splits = (0.6, 0.2, 0.1, 0.1)
        with pytest.raises(ValueError, match="splits was changed since fit.*fit again, or set it back"):
            fitted.predict()

    def test_checkpoints_belong_to_their_splits(self, tmp_path: Path) -> None:
        first = adapter(splits=(0.8, 0, 0.1, 0.1)).fit(series(), checkpoint_dir=tmp_path)
        again = adapter(splits=(0.8, 0, 0.1, 0.1)).fit(series(), checkpoint_dir=tmp_path)
        assert again.summary().notices == first.summary().notices != []
        with pytest.raises(ValueError, match="splits"):
            adapter().fit(series(), checkpoint_dir=tmp_path)

    def test_backtest_and_tune_use_them(self) -> None:
        one = adapter("residual", splits=(0.9, 0, 0.1, 0), recalibration="none")
        frame = one.backtest(series(), windows=2, baselines=["frozen model"], scale="none")
        scores = frame[(frame["metric"] == "mse") & (frame["channel"] == "all") & (frame["lead_block"] == "all")]
        assert scores["value"].nunique() == 1  # the gate stays closed
        with pytest.raises(ValueError, match="the validation rows hold no window"):
            tune(one, series(), {"family__lags": [3, 4]}, trials=1)

    def test_on_the_command_line(self, tmp_path: Path) -> None:
        series().to_csv(tmp_path / "series.csv")
        options = ["--family", "identity", "--num-samples", 10]
        result = run_forecast(tmp_path / "series.csv", tmp_path / "run", *options, "--splits", "0.5, 0.2,0.2,0.1")
        assert result.exit_code == 0, result.stderr
        config = json.loads((tmp_path / "run" / "adapter" / "config.json").read_text())
        assert config["options"]["splits"] == [0.5, 0.2, 0.2, 0.1]
        for given in ("0.5,0.5", "most"):
            result = run_forecast(tmp_path / "series.csv", tmp_path / "other", *options, "--splits", given)
            assert result.exit_code != 0 and "Adapter expects splits to be 4 fractions" in result.stderr


class TestTrained:
    def test_by_gradient_without_validation_for_the_stated_epochs(self, tmp_path: Path) -> None:
        few = series(60)
        options = {"gate": False, "recalibration": "none", "copula": "independent"}
        quiet = {"enable_progress_bar": False}
        fitted = adapter("linear", **options, trainer_options=quiet).fit(few)
        stage = fitted.summary().stages["train"]
        assert stage.startswith(f"trained by gradient for {UNVALIDATED_EPOCHS} epochs on 19 windows; there is no valid")
        stated = quiet | {"max_epochs": UNVALIDATED_EPOCHS}
        same = adapter("linear", **options, trainer_options=stated).fit(few, checkpoint_dir=tmp_path)
        longer = adapter("linear", **options, trainer_options=quiet | {"max_epochs": 12}).fit(few)
        weights = [dict(one.fitted_.module.named_parameters()) for one in (fitted, same, longer)]
        for name, parameter in weights[0].items():
            torch.testing.assert_close(parameter, weights[1][name], rtol=0, atol=0)
            assert not torch.equal(parameter, weights[2][name])
        frozen = adapter(**options).fit(few).predict().mean
        assert np.abs(fitted.predict().mean - frozen).max() > 1e-3

    @pytest.mark.parametrize("family", [Linear(free="decoder"), Residual()])
    def test_in_closed_form_with_the_strongest_shrinkage_where_there_is_one_fold(self, family: object) -> None:
        fitted = adapter(family, gate=False).fit(series(60))
        assert (
            "19 windows, too few for cross-validation: with the strongest shrinkage" in fitted.summary().stages["train"]
        )
        module = fitted.fitted_.module
        strongest = STRENGTHS[-1] if isinstance(module, Linear) else 1e5
        assert (module.strength == strongest).all()
        weights = module.decoder if isinstance(module, Linear) else module.weights
        assert weights.any() and weights.abs().max() < 0.01

    def test_folds_are_counted_without_windows_between_them(self) -> None:
        origin, item = torch.arange(20), torch.zeros(20, dtype=torch.long)
        assert count_folds(blocked_folds(origin, item, 12, 5)) == 1
        assert count_folds(blocked_folds(torch.arange(200), torch.zeros(200), 12, 5)) == 5
        assert count_folds(torch.tensor([-1, -1])) == 0

    def test_the_gate_stays_closed_where_validation_is_too_little(self) -> None:
        one = adapter("residual", copula="independent", recalibration="none").fit(series(150))
        assert "solved in closed form" in one.summary().stages["train"]
        assert "left out" in one.summary().stages["gate"] and not one.fitted_.gate.any()
        (notice,) = [each for each in one.summary().notices if each.kind == "stages"]
        assert notice.said.startswith("the adapter is trained but not used, as the gate stays closed")
        windows = last_windows(Panel.of(series(150)), context_length=36, prediction_length=H)
        ours, frozen = (law(windows).marginals.values for law in (one.joint_distribution, one.zero_shot_distribution))
        torch.testing.assert_close(ours, frozen, rtol=0, atol=0)

    def test_the_width_of_intervals_without_calibration_is_attributed(self) -> None:
        said = {}
        for gate in (True, False):
            notices = adapter("linear", gate=gate, trainer_options={"max_epochs": 1}).fit(series(60)).summary().notices
            (said[gate],) = [each.said for each in notices if each.kind == "stages"]
        assert "as wide as those of the frozen model" in said[True]
        assert "as wide as the adapter makes them" in said[False]

    def test_an_ensemble_is_refit_on_all_splits(self) -> None:
        fitted = adapter(Ensemble(member="residual", members=2), gate=False).fit(series(600))
        assert fitted.summary().stages["refit"].startswith("refit on the")
        data = RegressionData(*(torch.zeros(3, 2, 1) for _ in range(3)), torch.empty(0))
        assert len(data[torch.tensor([0, 2])].past) == 2 and len(data[torch.tensor([0, 2])].fold) == 0

    @pytest.mark.parametrize("family", ["linear", "vae"])
    def test_on_a_public_data_set(self, family: str, data_directory: Path) -> None:
        one = Adapter(
            family, gate=False, prediction_length=24, context_length=48, max_windows=16,
            trainer_options={"max_epochs": 1, "enable_progress_bar": False},
        ).fit("illness")  # fmt: skip
        summary = one.summary()
        assert summary.windows == {"train": 16, "validation": 8, "calibration": 8, "confirmation": 8}
        assert summary.stages["train"].startswith("trained by gradient for 1 epochs on 16 windows; validation loss")
        assert np.isfinite(one.predict().samples).all()
