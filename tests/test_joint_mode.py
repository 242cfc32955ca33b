r"""Joint modes of frozen models as rows of a backtest."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
import pandas as pd
import pytest
import torch
from seasonal import LEVELS, SeasonalModel
from torch import Tensor
from torch.testing import assert_close

from adapts import Adapter, load_foundation_model
from adapts.data.panel import Panel
from adapts.data.windows import last_windows
from adapts.evaluation.backtest import JOINT, roll
from adapts.testing.tiny import tiny_chronos_2


class LeaderModel(SeasonalModel):
    r"""Alone it forecasts the last value; jointly the second channel is the first one, six steps later."""

    joint_mode: ClassVar[bool] = True

    def _forecast(self, context: Tensor) -> Tensor:
        middle = context.nan_to_num()[:, -1:].expand(-1, self.prediction_length)
        return middle[:, None] + 0.3 * self.levels[:, None]

    def _forecast_jointly(self, context: Tensor) -> Tensor:
        leader, steps = context.nan_to_num()[:, 0], self.prediction_length
        follower = (
            leader[:, -6:] if steps <= 6 else torch.cat([leader[:, -6:], leader[:, -1:].expand(-1, steps - 6)], 1)
        )
        last = leader[:, -1:].expand(-1, steps)
        return torch.stack([last, follower[:, :steps]], 1)[:, :, None] + 0.3 * self.levels[:, None]


def following(rows: int = 400) -> pd.DataFrame:
    walk = np.random.default_rng(0).standard_normal(rows + 6).cumsum()
    return pd.DataFrame({"leader": walk[6:], "follower": walk[:-6]})


def adapter(model: Any, **options: Any) -> Adapter:
    return Adapter("identity", foundation_model=model, **{"prediction_length": 6, "context_length": 24, **options})


def crps(frame: pd.DataFrame, model: str, channel: str) -> float:
    return float(frame.query("model == @model and channel == @channel and lead_block == 'all' and metric == 'crps'")
                 ["value"].iloc[0])  # fmt: skip


def test_a_model_with_a_joint_mode_has_a_row_of_its_own() -> None:
    frame = roll(adapter(LeaderModel(prediction_length=6)), Panel.of(following()), windows=10).frame
    assert list(frame["model"].unique()) == ["adapter", "frozen model", JOINT, "last value", "seasonal naive"]
    assert crps(frame, JOINT, "follower") < 0.7 * crps(frame, "frozen model", "follower")
    assert crps(frame, JOINT, "leader") == pytest.approx(crps(frame, "frozen model", "leader"))


def test_models_without_one_have_none() -> None:
    named = adapter(SeasonalModel(12, 6)), Panel.of(following())
    assert JOINT not in set(roll(*named, windows=3, baselines="all").frame["model"])
    with pytest.raises(ValueError, match="the frozen model has no joint mode"):
        roll(*named, windows=3, baselines=[JOINT])
    assert JOINT not in set(roll(adapter(LeaderModel()), named[1], windows=3, baselines=["last value"]).frame["model"])


def test_its_marginals_are_those_of_the_model_in_the_caller_s_units() -> None:
    model = load_foundation_model(tiny_chronos_2())
    frame = 100 + 7 * following()
    fitted = adapter(model).fit(frame)
    windows = last_windows(Panel.of(frame), context_length=24, prediction_length=6)
    law = fitted.zero_shot_distribution(windows, joint=True)
    expected = model.predict_jointly(windows.past().mT, 6).permute(0, 3, 1, 2)
    assert_close(law.marginals.values.float(), expected, rtol=1e-3, atol=1e-2)
    assert tuple(law.marginals.levels.tolist()) == pytest.approx(model.quantile_levels)
    assert len(LEVELS) == 9
