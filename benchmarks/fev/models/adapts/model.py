r"""Wrapper of `adapts` for fev: a folder to put into `models/` of fev's repository.

It needs nothing but fev and adapts, and holds no figure of this repository's data.
"""

import datasets
import fev
import numpy as np
import pandas as pd
from fev.constants import PREDICTIONS

from adapts import Adapter
from adapts.forecast.forecast import Forecast


class AdaptsModel(fev.ForecastingModel):
    r"""One adapter for each task, fitted on the rows before the first window.

    The adapter forecasts every window from the rows before it, without another fit. All targets of an item are forecast
    together, with the covariates that the task states; covariates that are no numbers are left out. The point forecast
    is the median.

    Arguments:
        family: The adapter family, or "zero-shot" for the frozen model alone, without a fit and covariates.
        foundation_model: The frozen model, in any form that `Adapter` accepts.
        context_length: The number of context steps; that of `Adapter` if None.
        time_limit: The seconds that a fit may take; any if None.
        seed: The seed of the fit.
    """

    model_name = "adapts"

    def __init__(
        self, family: str = "auto", foundation_model: str = "bolt-nano", context_length: int | None = None,
        time_limit: float | None = None, seed: int = 0,
    ) -> None:  # fmt: skip
        super().__init__()
        self.zero_shot, self.time_limit = family == "zero-shot", time_limit
        self.options = {
            "family": "identity" if self.zero_shot else family, "foundation_model": foundation_model,
            "context_length": context_length, "seed": seed, "trainer_options": {"enable_progress_bar": False},
        }  # fmt: skip

    def _fit_predict(self, task: fev.Task) -> list[datasets.DatasetDict]:
        adapter, found = Adapter(prediction_length=task.horizon, **self.options), []
        reading = {"item_column": task.id_column, "timestamp_column": task.timestamp_column}
        for number, window in enumerate(task.iter_windows()):
            past, ahead = (long_frame(part, task) for part in window.get_input_data())
            known, seen, static = (
                [name for name in names if is_numeric(past[name])]
                for names in (task.known_dynamic_columns, task.past_dynamic_columns, task.static_columns)
            )
            if self.zero_shot:
                past, known = past[[*reading.values(), *task.target_columns]], []
            elif number == 0:
                with self._record_training_time():
                    adapter.fit(
                        past, target=task.target_columns, known_covariates=known, past_covariates=seen,
                        static=static if known else (), time_limit=self.time_limit, **reading,
                    )  # fmt: skip
            with self._record_inference_time():
                future = ahead[[*reading.values(), *known]] if known else None
                forecasts = adapter.predict(past, future=future, **reading)
                found.append(predictions(forecasts, past[task.id_column].unique(), task))
        return found


def long_frame(part: datasets.Dataset, task: fev.Task) -> pd.DataFrame:
    r"""The rows of all items, one after another; static columns are repeated."""
    frames = []
    for entry in part.with_format("numpy"):
        frame = pd.DataFrame({task.timestamp_column: pd.DatetimeIndex(entry[task.timestamp_column])})
        columns = {name: values for name, values in entry.items() if name != task.timestamp_column}
        frames.append(frame.assign(**columns))
    return pd.concat(frames, ignore_index=True)


def is_numeric(column: pd.Series) -> bool:
    return pd.api.types.is_numeric_dtype(column)


def predictions(forecasts: Forecast | list[Forecast], items: np.ndarray, task: fev.Task) -> datasets.DatasetDict:
    r"""Medians and quantiles in the order of the items, one data set a target."""
    several = forecasts if isinstance(forecasts, list) else [forecasts]
    by_item = {forecast.item_id: forecast for forecast in several}
    levels = task.quantile_levels
    cells = np.stack([by_item[str(item)].quantile([0.5, *levels]) for item in items]).astype(float)  # (N, H, D, 1 + Q)
    columns = [PREDICTIONS, *map(str, levels)]
    channels = list(by_item[str(items[0])].channels)
    return datasets.DatasetDict(
        {
            target: datasets.Dataset.from_dict(
                dict(zip(columns, np.moveaxis(cells[:, :, channel], -1, 0), strict=True))
            )
            for target in task.target_columns
            for channel in [channels.index(target)]
        }
    )
