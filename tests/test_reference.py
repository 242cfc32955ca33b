r"""Forecasts keep their values when code moves: first mean, last 90 % quantile, spread of the total."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

from adapts import Adapter, Forecast

OPTIONS: dict[str, Any] = {"prediction_length": 6, "context_length": 48, "max_windows": 150}
EXPECTED = {
    "residual": [-2.91221, -3.31329, -3.08952, -3.06232, -2.67821, -1.28989, 3.13451],
    "pca": [-2.59348, -3.27426, -3.10582, -1.09521, -2.57852, -1.26016, 3.45502],
    "missing values": [-2.919, -3.30317, -3.08676, -3.04991, -2.62981, -1.31342, 3.08835],
    "known covariates": [-2.82919, -3.07744, -1.40278, -1.22177, 1.97976],
    "update": [-2.90382, -3.34152, -3.1168, -3.3074, -2.77329, -1.36561, 3.16756],
    "vae": [-2.59348, -3.27426, -3.10582, -1.09521, -2.57852, -1.26016, 3.45502],
}


def series() -> pd.DataFrame:
    rng, time = np.random.default_rng(0), np.arange(900)[:, None]
    shared = rng.standard_normal((900, 1)).cumsum(0)
    values = np.sin(2 * np.pi * time / 24 + np.arange(3)) + 0.1 * shared + 0.3 * rng.standard_normal((900, 3))
    frame = pd.DataFrame(values, pd.date_range("2024-01-01", periods=900, freq="h"), list("abc"))
    frame["d"] = np.sin(time[:, 0] / 5.0)
    frame["a"] += frame["d"]
    return frame


def forecast(case: str) -> Forecast:
    frame = series()
    rows = frame[["a", "b", "c"]].copy()
    if case == "missing values":
        rows.loc[rows.index[::5], "b"] = np.nan
    if case == "known covariates":
        roles = {"target": ["a", "b"], "known_covariates": "d"}
        return Adapter("residual", **OPTIONS).fit(frame.iloc[:880], **roles).predict(future=frame[["d"]])
    if case == "update":
        return Adapter("residual", **OPTIONS).fit(rows.iloc[:860]).update(rows.iloc[860:]).predict()
    trainer = {"max_epochs": 2, "enable_progress_bar": False} if case == "vae" else None
    family = case if case in ("pca", "vae") else "residual"
    return Adapter(family, trainer_options=trainer, **OPTIONS).fit(rows).predict()


@pytest.mark.parametrize("case", EXPECTED)
def test_forecasts_keep_their_values(case: str) -> None:
    made = forecast(case)
    found = [*made.mean[0], *np.asarray(made.quantile(0.9))[-1], made.samples.sum(1).std()]
    np.testing.assert_allclose(found, EXPECTED[case], rtol=1e-4, atol=1e-4)
