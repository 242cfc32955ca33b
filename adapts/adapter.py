r"""`Adapter`, the entry point: fits an adapter around a frozen model, and predicts calibrated joint distributions."""

from __future__ import annotations

__all__ = ["Adapter"]

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import wraps
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import numpy as np
import pandas as pd

from . import checks
from .adapters import AdapterModule
from .arguments import check_borders, require_samples, support_of
from .data.cards import Dataset
from .data.options import column_names
from .data.panel import Panel, require_length
from .data.schema import Schema, read_dataset
from .data.windows import Windows, last_windows
from .distribution.joint import JointDistribution
from .errors import few, in_memory, one_line, quoted, shown, unknown
from .estimator import Estimator
from .explanation import Explanation, explain, held_back_windows, windows_of
from .fitting.build import built
from .fitting.context import FitOptions
from .fitting.fitted import Fitted
from .fitting.run import fit
from .fitting.summary import Summary
from .fitting.time_limit import TimeLimit
from .fitting.update import Forecasts, extend, follow
from .fitting.zero_shot import history_copula, unfitted
from .forecast.forecast import LEVELS, Forecast
from .foundation.cache import cached_forecasts
from .foundation.series import for_series
from .fractions import FRACTIONS, require_divisible
from .notices import say
from .options import CONTEXT, FIELDS
from .persistence import saving
from .prediction.forecasts import made_forecasts
from .prediction.predictor import Predictor, recalibrated

_Options = ParamSpec("_Options")
_Result = TypeVar("_Result")


def _by_name(init: Callable[_Options, None]) -> Callable[_Options, None]:
    r"""Raise an error with the closest match for an unknown keyword argument."""

    @wraps(init)
    def checked(*args: _Options.args, **options: _Options.kwargs) -> None:
        known = list(inspect.signature(init).parameters)[1:]
        for name in options:
            if name not in known:
                raise unknown("option of Adapter", name, known)
        if "prediction_length" not in options:
            raise TypeError("Adapter needs prediction_length=, the number of steps to forecast, such as 24")
        init(*args, **options)

    return checked


class Adapter(Estimator):
    r"""Forecasts related channels with a frozen univariate foundation model.

    An adapter family encodes :math:`D` channels to :math:`K` latent series, the frozen model forecasts each separately,
    and the family decodes the forecasts. These are recalibrated on held-out rows and joined by a copula. `fit` splits
    rows in temporal order: train (parameters), validation (early stopping, gate), calibration (noise, copula) and
    confirmation (validates the gate, selects the copula). Recalibration uses the errors of all splits.

    References:
        | AdaPTS: Adapting Univariate Foundation Models to Probabilistic Multivariate Time Series Forecasting
        | (Benechehab et al., 2025), https://arxiv.org/abs/2502.10235

    Arguments:
        family: The name of a preset or family, such as `"residual"`; a family, such as `Linear(latent_channels=4)`; or
            the Path of your own preset. `"auto"` averages several (`adapts.adapters.Portfolio`).
        foundation_model: A known name (`adapts list models`), a local folder, a hub id, a live pipeline or module, or a
            `FoundationModel`, such as one that `load_foundation_model` loaded with options of its own. Of a list of
            these, the first is the frozen model, and `auto` weighs the forecasts of the others as further members.
        prediction_length: The number of steps to forecast, :math:`H`.
        context_length: The number of context steps of a forecast, :math:`L`; if None, that of the foundation model, at
            most 512.
        objective: The objective of training by gradient: `"mse"`, `"mae"`, `"huber"`, `"quantile"`, `"nll"`, `"elbo"`
            or `"energy"` (see `adapts.training.Objective`); that of the preset or family if None. Families that are
            not trained by gradient accept only None.
        horizon_weights: The weight of each horizon step in training relative to the step before it, within (0, 1];
            that of the preset if None, by default 1, equal weights.
        learning_rate: The learning rate of training by gradient; that of the preset if None, else the family's, which
            is 0.003 for most.
        copula: The dependence over channels and horizon steps. `"residual"`: that of past forecast errors, selected on
            the confirmation windows: a Gaussian copula (a Kronecker product of a correlation over channels and one
            over horizon steps), the ranks of past blocks of errors or, for families that mix channels, the ranks of
            each window's decoded latent paths. `"gaussian-history"`: a Gaussian copula of the channels' past values,
            without forecasts. `"schaake"`: the ranks of past blocks of the series. `"empirical"`: the ranks of past
            blocks of forecast errors. `"independent"`: none. Each is retained only if it beats independence on the
            confirmation windows. If these are too few, `"residual"` retains its Gaussian copula, which is shrunk by
            the effective sample size.
        recalibration: `"auto"`: tails fitted to past exceedances beyond the frozen model's outer quantiles, and a
            monotone map of quantile levels, by channel, block of horizon steps and, if rows have dates, season index,
            if it significantly improves forecasts of later rows. `"conformal"`: the conformal levels of the calibration
            windows, by channel and horizon step, without a test. `"none"`.
        gate: Whether to weight the adapter against the zero-shot forecast, by channel and block of horizon steps; the
            adapter's weight is positive only where validation shows a significant gain.
        probe_head: Whether to first train the head of a frozen model that declares it untrained, by linear probing on
            the raw channels; yes if None.
        support: The lowest and highest possible value (low, high), for all channels or in a mapping by channel;
            infinite without a bound.
        posterior_draws: The number of draws :math:`M` of a stochastic family per forecast.
        splits: The fractions of rows, in order of time, for training, validation, calibration and selection (the split
            "confirmation"). With borders (see `fit`), the last three divide the validation rows in their ratios. A
            fraction of 0 leaves out the stages that need that split: without validation rows there is no gate (the
            adapter is used only with `gate=False`) and no early stopping.
        max_windows: The maximum number of train windows, evenly spaced; half as many for each other split, at most 500
            by default. If None, 1000 to 2000: more for few channels, short contexts and many rows, and below 1000 only
            beyond some hundred channels (see `adapts.fitting.context.window_limits`). Fewer if the forecasts of a split
            would take more than 256 MB.
        seed: The seed of all random numbers.
        batch_size: The number of windows per training step, and in decoding.
        device: The device of the foundation model: `"auto"`, `"cpu"`, `"cuda"`, ...
        trainer_options: Options of `lightning.pytorch.Trainer` for families trained by gradient. Members of `auto` and
            refits show no progress bar, unless `enable_progress_bar` is set here.

    Example:
        >>> time = np.arange(600.0)[:, None]
        >>> series = np.sin(2 * np.pi * time / 24 + np.array([0.0, 1.0])) + 0.1 * np.random.randn(600, 2)
        >>> forecast = adapts.Adapter(prediction_length=12).fit(series).predict()
        >>> forecast.mean.shape, forecast.quantile(0.9).shape, forecast.samples.shape
        ((12, 2), (12, 2), (200, 12, 2))
    """

    _warning_prefix = ""  # begins the warnings of a fit, such as the name of a group

    @_by_name
    def __init__(
        self,
        family: str | Path | AdapterModule = "auto",
        *,
        foundation_model: Any = "bolt-nano",
        prediction_length: int,
        context_length: int | None = None,
        objective: str | None = None,
        horizon_weights: float | None = None,
        learning_rate: float | None = None,
        copula: str = "residual",
        recalibration: str = "auto",
        gate: bool = True,
        probe_head: bool | None = None,
        support: tuple[float, float] | Mapping[str, tuple[float, float]] | None = None,
        posterior_draws: int = 20,
        splits: tuple[float, float, float, float] = FRACTIONS,
        max_windows: int | None = None,
        seed: int = 0,
        batch_size: int = 64,
        device: str = "auto",
        trainer_options: Mapping[str, Any] | None = None,
    ) -> None:
        self._cached_predictor: Predictor | None = None
        given = locals()
        super().__init__(**{name: given[name] for name in FIELDS})

    # ------------------------------------------------------------------ fit

    def fit(
        self,
        series: Any,
        *,
        target: str | Sequence[str] | None = None,
        past_covariates: str | Sequence[str] = (),
        known_covariates: str | Sequence[str] = (),
        calendar: bool = False,
        static: str | Sequence[str] = (),
        item_column: str | Sequence[str] | None = None,
        timestamp_column: str | None = None,
        frequency: str | None = None,
        regularise: bool = False,
        borders: tuple[int, int] | None = None,
        checkpoint_dir: str | Path | None = None,
        time_limit: float | TimeLimit | None = None,
    ) -> Adapter:
        r"""Fit the adapter to series.

        One warning, `adapts.notices.FitWarning`, lists what the user must know of the fit, such as values that count as
        missing, history outside the support, or stages skipped for too few rows. `summary()` and `Forecast.plot` repeat
        it.

        Arguments:
            series: A wide frame, a long frame, an array :math:`(T, D)` or :math:`(N, T, D)`, a path, the name of a
                data card, a Dataset or a Panel: see `Panel.of` and `adapts.data.cards.read`. NaN marks a missing value.
            target: The columns to forecast; if None, all except covariates.
            past_covariates: Columns known only up to the forecast origin. They are not forecast. The adapter encodes
                them with the targets, unless its gate finds no significant gain.
            known_covariates: Columns with known future values, to be passed as `predict(future=...)`, such as a planned
                action. Their effect on a target, additive or as a ratio, is subtracted before all else and added back
                to the predictive distribution, if train and validation rows show a significant gain. A missing value
                counts as the mean.
            calendar: Whether to use the dates as known covariates: time of day, day of the week and time of the year,
                as far as the time step is shorter than these.
            static: Columns that are constant within each item of a panel, as numbers, text or categories, such as the
                type of a shop. The effects of known covariates and the calendar may depend on them, if train and
                validation rows show a significant gain. A missing number counts as the mean over the items, a missing
                category as none.
            item_column: The column of a long frame that names the item, or a list of columns that do so together;
                recognised by its name if None.
            timestamp_column: The column of the dates; recognised if None.
            frequency: The pandas alias of the time step; inferred if None.
            regularise: Whether to repair irregular dates.
            borders: The rows where the train and the validation rows end. If None, those of the data card, or none:
                then the fractions of `splits` divide all rows.
            checkpoint_dir: A folder for checkpoints. An interrupted fit resumes from them when called again with the
                same series and options, with identical results. A completed fit leaves `fit.json` (its inputs) and
                `stages.safetensors` (its results) there.
            time_limit: The seconds that the fit may take; any if None. If it binds, fewer windows are used, stages and
                members of `"auto"` are left out, and training stops early with the best parameters so far; the summary
                says so. Not interrupted are reading, linear probing, closed forms and passes over validation windows;
                gate, calibration and confirmation always run. So a fit may take somewhat longer, and always does if
                the limit is too short for 20 train windows. A limit that does not bind changes no bit of the result.

        Returns:
            The adapter itself.

        Raises:
            ValueError: If the series are invalid (see `Panel.of`), too short, or have a channel without values; if
                covariates are not columns or have two roles; if static columns vary within an item, do not vary across
                items, or have no known covariate to interact with; if the time limit is not positive; or if the folder
                holds another fit or other files, or is in use by another process.
        """
        limit = TimeLimit.of(time_limit)
        dataset = read_dataset(
            series, target=target, past_covariates=past_covariates, known_covariates=known_covariates,
            calendar=calendar, static=static, item_column=item_column, timestamp_column=timestamp_column,
            frequency=frequency, regularise=regularise,
        )  # fmt: skip
        self.fitted_ = self.apply(fit, dataset, borders, checkpoint_dir=checkpoint_dir, time_limit=limit)
        say(self.fitted_.notices, self._warning_prefix)
        return self

    # ------------------------------------------------------------------ predict

    def predict(
        self,
        series: Any = None,
        *,
        future: Any = None,
        num_samples: int = 200,
        quantile_levels: Sequence[float] = LEVELS,
        seed: int | None = None,
        item_column: str | Sequence[str] | None = None,
        timestamp_column: str | None = None,
        frequency: str | None = None,
        regularise: bool = False,
    ) -> Forecast | list[Forecast]:
        r"""Forecast the steps after the end of series.

        The family `identity` needs no fit: `Adapter("identity", prediction_length=24).predict(series)` is the zero-shot
        forecast, with the frozen model's marginals and, for `copula="residual"`, a Gaussian copula of each item's own
        history. Nothing is calibrated, as `Forecast.notices` says, and nothing is kept for later calls.

        Arguments:
            series: Later or other series with the fitted channels and covariates, in any form that `fit` accepts; the
                fitted ones if None. Other named columns are ignored. Fitted items need no static columns; if given,
                they must equal those of the fit. For other items, an unseen category counts as none, and a number
                outside the fitted range as the nearest fitted one.
            future: The known covariates at the :math:`H` steps after the end of each series, in any form that `fit`
                accepts, such as a frame with dates, in any order; rows with other dates are ignored.
            num_samples: The number of joint samples :math:`S` per forecast.
            quantile_levels: The quantile levels in `Forecast.to_pandas`.
            seed: The seed of the samples; the adapter's if None.
            item_column: As for `fit`.
            timestamp_column: As for `fit`.
            frequency: The pandas alias of the time step, which must be the fitted one; the fitted one if None.
            regularise: As for `fit`.

        Returns:
            One forecast for a single series, a list in the panel's order otherwise, dated in the fitted time zone and
            without NaN. Threads may share an adapter; their results are independent.

        Raises:
            ValueError: If the adapter is not fitted; if the series lack the fitted channels or frequency, or only one
                of them and the fitted series has a time zone; if a future value of a known covariate is missing or
                duplicated; or if a static column of a fitted item differs from the fit. Without a fit, if the family is
                not `identity`, there are covariates, the series are invalid, or the frozen model or the copula needs a
                fit.

        Example:
            >>> series = np.sin(np.arange(100.0)[:, None] / 4 + np.arange(3.0))
            >>> forecast = adapts.Adapter("identity", prediction_length=12).predict(series)
            >>> forecast.samples.shape, [notice.kind for notice in forecast.notices]
            ((200, 12, 3), ['zero-shot'])
        """
        if self.fitted_ is None and self.family.family == "identity" and series is not None:
            return self._zero_shot(
                series, future, num_samples=num_samples, quantile_levels=quantile_levels, seed=seed,
                item_column=item_column, timestamp_column=timestamp_column, frequency=frequency, regularise=regularise,
            )  # fmt: skip
        fitted = self.require_fitted("predict")
        require_samples(num_samples, int(self.prediction_length), len(fitted.panel.targets))
        checks.seed(self.seed if seed is None else seed)
        quantile_levels = checks.levels(quantile_levels, "quantile_levels")
        schema, panel = Schema(fitted.panel), fitted.panel
        columns: dict[str, Any] = {"item_column": item_column, "timestamp_column": timestamp_column}
        if series is not None:
            panel = schema.read(series, frequency=frequency, regularise=regularise, **columns).panel
        ahead = schema.read_ahead(panel, future, int(self.prediction_length), **columns)
        forecasts = self.forecast_panel(
            panel, ahead, num_samples=num_samples, quantile_levels=quantile_levels, seed=seed
        )
        return forecasts[0] if panel.single else forecasts

    def update(
        self,
        series: Any,
        *,
        item_column: str | Sequence[str] | None = None,
        timestamp_column: str | None = None,
        frequency: str | None = None,
        regularise: bool = False,
    ) -> Adapter:
        r"""Append new rows without training again; `predict()` then forecasts the steps after them.

        Forecasts whose last step is now observed are recomputed and scored. With these scores, recalibration adapts for
        each channel and horizon step, so that intervals keep their coverage after changes of the series
        (`adapts.calibration.OnlineRecalibration`). Joint bands follow the latest outcomes, and closed forms, also as
        members of `auto`, are refit with the new windows every :math:`H` steps; networks stay. The cost is one forecast
        per new row. `save` saves all of this, `fit` starts anew.

        Arguments:
            series: The new rows with the fitted channels and covariates, in any form that `fit` accepts. Dated series
                may include history: up to the fitted end, only missing values are filled in, and a warning names values
                that differ. Later rows must follow without a gap. Undated series hold only new rows. NaN marks a
                missing value, which is not scored. Items without new rows are forecast from their own end, with a
                warning.
            item_column: As for `fit`.
            timestamp_column: As for `fit`.
            frequency: As for `fit`.
            regularise: As for `fit`.

        Returns:
            The adapter itself.

        Raises:
            ValueError: If the adapter is not fitted, the series lack fitted channels, have items that were not fitted
                or static columns that differ from the fit, or rows in between are missing. The adapter is then
                unchanged.
        """
        fitted = self.require_fitted("update")
        later = Schema(fitted.panel).read(
            series, item_column=item_column, timestamp_column=timestamp_column, frequency=frequency,
            regularise=regularise,
        ).panel  # fmt: skip

        def forecast(live: Fitted, windows: Windows) -> Forecasts:
            predictor = self._predictor_of(live)
            marginals, windows = predictor.marginals, predictor.standardiser.standardised(windows)
            frozen = marginals.zero_shot(windows)
            distribution = recalibrated(live, marginals.predict(windows, frozen)[0], windows)
            medians = frozen.values[..., predictor.model.median_index]
            return Forecasts(
                windows, marginals.completed_context, medians, distribution, marginals.truth(windows), self.seed
            )

        self.fitted_ = follow(fitted, extend(fitted.panel, later, filled=bool(regularise)), forecast)
        return self

    def joint_distribution(self, windows: Windows) -> JointDistribution:
        r"""Return the joint predictive distribution of windows, in the channels' own units.

        Arguments:
            windows: Windows of a panel with the fitted channels and covariates, not standardised. Missing future values
                of known covariates count as their means.

        Returns:
            The distribution of these windows' :math:`H` steps.
        """
        return self._predictor("joint_distribution").joint_distribution(windows)

    def zero_shot_distribution(self, windows: Windows, *, joint: bool = False) -> JointDistribution:
        r"""Return the zero-shot forecast of windows: independent marginals of the frozen model, without any fit.

        Arguments:
            windows: Windows of a panel with the fitted channels, not standardised.
            joint: Whether the model reads all channels in one group (`FoundationModel.predict_jointly`).

        Returns:
            The distribution of these windows' :math:`H` steps, in the channels' own units.
        """
        return self._predictor("zero_shot_distribution").zero_shot_distribution(windows, joint=joint)

    def backtest(
        self,
        series: Any,
        *,
        windows: int | None = None,
        stride: int | None = None,
        scale: str = "train",
        baselines: bool | str | Sequence[str] = True,
        models: Mapping[str, Adapter] | None = None,
        refit: bool = False,
        return_forecasts: bool = False,
        checkpoint_dir: str | Path | None = None,
        progress: bool = False,
        target: str | Sequence[str] | None = None,
        past_covariates: str | Sequence[str] = (),
        known_covariates: str | Sequence[str] = (),
        calendar: bool = False,
        static: str | Sequence[str] = (),
        item_column: str | Sequence[str] | None = None,
        timestamp_column: str | None = None,
        frequency: str | None = None,
        regularise: bool = False,
    ) -> pd.DataFrame | tuple[pd.DataFrame, dict[str, list[Forecast]]]:
        r"""Score the adapter, the frozen model and baselines on held-out rows, at rolling origins.

        A clone is fitted once on the rows before the first origin; this adapter is unchanged.
        `adapts.evaluation.backtest.roll` also returns windows, PITs, scores by horizon step, and differences with
        confidence intervals.

        Arguments:
            series: As for `fit`.
            windows: The number of origins; if None, as many as fit into the last fifth of the rows (or the card's test
                rows), at most 200.
            stride: The number of rows between origins; if None, the number nearest to the prediction length without a
                common factor with the season (see `adapts.evaluation.backtest.roll`), such as 23 hours for a day.
            scale: `"train"` divides the scores by the channels' standard deviation on the train rows; `"none"` does
                not.
            baselines: Whether to score the frozen model, last value and seasonal naive too; or the names of the
                baselines: `"frozen model"`, `"last value"`, `"seasonal naive"`, `"drift"`, `"nlinear"`, `"dlinear"`,
                `"var"`; or `"all"`.
            models: Further adapters by name, which are cloned, fitted and scored on the same rows; this one is named
                `"adapter"`.
            refit: Whether to fit again before each origin.
            return_forecasts: Whether to return the forecasts as well.
            checkpoint_dir: A folder for checkpoints, from which an interrupted backtest resumes when called again, with
                identical results.
            progress: Whether to show a progress bar on the standard error.
            target: As for `fit`. If neither targets nor covariates are named, an adapter that was fitted with
                covariates uses its own.
            past_covariates: As for `fit`.
            known_covariates: As for `fit`; their future values are the observed ones. A missing one counts as the mean,
                whereas `predict` raises an error.
            calendar: As for `fit`.
            static: As for `fit`.
            item_column: As for `fit`.
            timestamp_column: As for `fit`.
            frequency: As for `fit`.
            regularise: As for `fit`.

        Returns:
            A tidy frame with the columns model, channel, lead_block, metric, value. With `return_forecasts` also the
            forecasts of each model in temporal order, one per window, with the dates of the forecast rows.

        Raises:
            ValueError: If the series are too short for that many windows, an option is invalid, or the folder holds
                another backtest.
        """
        from .evaluation.backtest import count_stages, roll, with_models
        from .evaluation.progress import progress_bar

        for name, value in (("refit", refit), ("return_forecasts", return_forecasts), ("progress", progress)):
            checks.flag(f"backtest expects {name}", value)
        contestants = with_models(self, models)
        checks.flag("expected calendar", calendar)
        roles: dict[str, Any] = {
            "target": target, "past_covariates": column_names("past_covariates", past_covariates),
            "known_covariates": column_names("known_covariates", known_covariates), "calendar": calendar,
            "static": column_names("static", static),
        }  # fmt: skip
        named = target is not None or calendar or any(roles[name] for name in list(roles)[1:])
        if not named and self.fitted_ is not None and "covariates" in self.fitted_.decisions:
            roles = {**Schema(self.fitted_.panel).roles, "static": list(self.fitted_.panel.static)}
        dataset = read_dataset(
            series, item_column=item_column, timestamp_column=timestamp_column, frequency=frequency,
            regularise=regularise, **roles,
        )  # fmt: skip
        with progress_bar(count_stages(contestants, baselines, refit=refit), shown=progress) as tell:
            result = roll(
                contestants, dataset, windows=windows, stride=stride, scale=scale, baselines=baselines, refit=refit,
                forecasts=return_forecasts, checkpoint_dir=checkpoint_dir, on_progress=tell,
            )  # fmt: skip
        return result.frame if result.forecasts is None else (result.frame, result.forecasts)

    def explain(
        self,
        series: Any = None,
        *,
        windows: int = 200,
        sources: str | Sequence[str] | None = None,
        item_column: str | Sequence[str] | None = None,
        timestamp_column: str | None = None,
        frequency: str | None = None,
        regularise: bool = False,
    ) -> Explanation:
        r"""Explain what forecasts rest on: other channels, the members of the adapter, known covariates.

        Each channel is left out in turn, as if it had not been observed, and the losses are compared. The windows are
        the latest ones after the train rows, after `load` too (`Fitted.held_back`). Families that `fit` solves or
        trains once more on all splits have seen them: pass later series to see what helps on new rows. The cost is two
        passes of the frozen model over the windows, or one per channel for families with their own latent channels, and
        decoding once per channel.

        Arguments:
            series: Series with the fitted channels and covariates, in any form that `fit` accepts; the fitted ones if
                None. Windows come from all of their rows.
            windows: The maximum number of windows, evenly spaced.
            sources: The targets and past covariates to leave out; if None, all, or of more than 64 those with the
                largest weights, the first 64 for families without weights.
            item_column: As for `fit`.
            timestamp_column: As for `fit`.
            frequency: As for `predict`.
            regularise: As for `fit`.

        Returns:
            The explanation: a printable summary, tidy frames, and `plot()`.

        Raises:
            ValueError: If the adapter is not fitted, a source is no target or past covariate, the series lack fitted
                channels or are too short, or the fitted ones hold no window after the train rows.
        """
        predictor, fitted = self._predictor("explain"), self.require_fitted("explain")
        checks.integer("explain expects windows", windows)
        names = None if sources is None else column_names("sources", sources)
        if series is None:
            return explain(predictor, held_back_windows(fitted, windows), names)
        panel = Schema(fitted.panel).read(
            series, item_column=item_column, timestamp_column=timestamp_column, frequency=frequency,
            regularise=regularise,
        ).panel  # fmt: skip
        return explain(predictor, windows_of(fitted, panel, windows), names)

    # ------------------------------------------------------------------ save and load

    def save(self, path: str | Path, *, overwrite: bool = False) -> None:
        r"""Save the fitted adapter: `config.json` and `adapter.safetensors`, without the frozen model's weights.

        The last context rows of the fitted series are saved too, so that `predict()` still forecasts the steps after
        them. Saving is atomic: after an interruption, `load` finds either the old folder or the complete new one.

        Arguments:
            path: The folder.
            overwrite: Whether to replace the folder if it exists. A folder with files not written by an adapter is
                never replaced.

        Raises:
            OSError: If the folder cannot be written.
            ValueError: If the adapter is not fitted, or the folder exists or holds files not written by an adapter.
        """
        saving.save(self.require_fitted("save"), self, path, overwrite=overwrite)

    @classmethod
    def load(cls, path: str | Path, *, foundation_model: Any = None, device: str = "auto") -> Adapter:
        r"""Load a saved adapter.

        Arguments:
            path: The folder that `save` wrote.
            foundation_model: The frozen model, as for `Adapter`. It is required unless the adapter was fitted around a
                known one (`adapts.foundation.KNOWN`, which `adapts list models` prints). A file never causes another
                folder or repository to be read. A known repository is downloaded from the Hugging Face hub if it is not
                in the local cache. A model with other weights than that of the fit is accepted only if
                given here, with a warning.
            device: The device of the foundation model.

        Returns:
            The fitted adapter.

        Raises:
            ValueError: If the folder is not a saved adapter or is corrupt, or its foundation model is required here or
                has changed.
        """

        def call(model: str) -> str:
            return f"{cls.__name__}.load({quoted(str(path))}, foundation_model={model})"

        return saving.load(cls, path, foundation_model=foundation_model, device=device, call=call)

    # ------------------------------------------------------------------ attributes

    @property
    def channels(self) -> tuple[str, ...]:
        r"""The names of the fitted channels, without covariates."""
        return self.require_fitted("channels").panel.targets

    @property
    def context_length_(self) -> int:
        r"""The number of context steps in use."""
        return self.require_fitted("context_length_").context_length

    @property
    def season_length_(self) -> int | None:
        r"""The season's length, if the data card states one."""
        return self.require_fitted("season_length_").season_length

    @property
    def location_(self) -> np.ndarray:
        r"""The channels' means over the train rows, with shape :math:`(D,)`, a copy; see `scale_`."""
        return self.require_fitted("location_").location[: len(self.channels)].copy()

    @property
    def scale_(self) -> np.ndarray:
        r"""The channels' population standard deviations over the train rows, with shape :math:`(D,)`, a copy.

        They are at least 1e-9 of the means. A channel that is constant in the train rows has mean and deviation of all
        rows; the deviation of a constant channel is its absolute value, or 1 if it is zero.
        """
        return self.require_fitted("scale_").scale[: len(self.channels)].copy()

    def summary(self) -> Summary:
        r"""Return a summary of the fit: windows per split, and the decision of each stage."""
        return Summary.of(self.require_fitted("summary"), self.family, self.model.name)

    def __repr__(self) -> str:
        model = self.foundation_model if self._model is None else self._model.name
        model = model if isinstance(model, str | Path) else type(model).__name__
        state = "not fitted"
        if self.fitted_ is not None:
            channels = self.fitted_.panel.targets
            state = f"fitted on {len(channels)} channels, {few(channels)}"
        family = one_line(self.family)
        return (
            f"Adapter({family}, foundation_model={str(model)!r}, prediction_length={self.prediction_length}; {state})"
        )

    # ------------------------------------------------------------------ internals

    def _predictor(self, what: str) -> Predictor:
        return self._predictor_of(self.require_fitted(what))

    def _predictor_of(self, fitted: Fitted) -> Predictor:
        r"""Return the predictor, cached for a fit, a model and options."""
        options, cached = (self.batch_size, self.seed, self.posterior_draws), self._cached_predictor
        if (
            cached is None
            or cached.fitted is not fitted
            or cached.loaded is not self.model
            or cached.options != options
        ):
            self._cached_predictor = cached = Predictor(fitted, self.model, *options)
        return cached

    def apply(
        self, stages: Callable[..., _Result], dataset: Dataset, borders: tuple[int, int] | None = None, **more: Any
    ) -> _Result:
        r"""Call a function of `adapts.fitting` with a data set and these options, for `fit` and `tune`.

        Arguments:
            stages: The function, such as `adapts.fitting.run.validate`.
            dataset: The data set.
            borders: The rows where the train and the validation rows end; those of the data set if None.
            **more: Further arguments of the function.

        Returns:
            What the function returns.

        Raises:
            ValueError: If the series are too short, a channel has no values, or borders or options are invalid.
        """
        self._check()  # attributes may have been set
        panel = dataset.panel
        if borders is not None:
            check_borders(borders, panel)
        borders, splits = dataset.borders if borders is None else borders, tuple(map(float, self.splits))
        require_divisible(splits, borders)
        panel.require_observed()
        horizon = int(self.prediction_length)
        if panel.single:
            require_length(panel, 3 * horizon, f"prediction_length={horizon}")
        options = self._fit_options(dataset, borders, splits)
        model = for_series(self.model, panel.frequency, options.season_length, horizon)
        module = built(self.family, panel, model, options.context_length, self.seed)
        remedy = "fit fewer channels, or reduce batch_size, max_windows, context_length or the family's options"
        with cached_forecasts(), in_memory(f"fitting {len(panel.targets)} channels by {shown(self.family)}", remedy):
            return stages(panel, module, model, options, **more)

    def _fit_options(self, dataset: Dataset, borders: tuple[int, int] | None, splits: tuple[float, ...]) -> FitOptions:
        return FitOptions(
            borders=borders,
            context_length=int(self.context_length or min(self.model.context_length, CONTEXT)),
            prediction_length=int(self.prediction_length),
            season_length=dataset.season_length,
            support=support_of(self.support, dataset.support, dataset.panel.targets),
            settings={**self.get_params(deep=False), **self.training_, "splits": splits},
        )

    def forecast_panel(
        self,
        panel: Panel,
        ahead: Panel,
        *,
        num_samples: int,
        quantile_levels: Sequence[float] = LEVELS,
        seed: int | None = None,
    ) -> list[Forecast]:
        r"""Forecast the steps after the end of each item of a panel.

        Arguments:
            panel: The panel, with its columns in their fitted roles.
            ahead: The same panel, followed by the known covariates of the forecast steps.
            num_samples: The number of joint samples per forecast.
            quantile_levels: The quantile levels in its table.
            seed: The seed of the samples; the adapter's if None.

        Returns:
            One forecast per item, in the panel's order.
        """
        fitted = self.require_fitted("predict")
        windows = last_windows(panel, context_length=fitted.context_length, prediction_length=self.prediction_length)
        distribution = self.joint_distribution(replace(windows, panel=ahead))
        distributions = [distribution[number] for number in range(len(panel))]
        seed = self.seed if seed is None else seed
        return made_forecasts(fitted, panel, distributions, num_samples, quantile_levels, seed)

    def _zero_shot(
        self,
        series: Any,
        future: Any,
        *,
        num_samples: int,
        quantile_levels: Sequence[float],
        seed: int | None,
        **reading: Any,
    ) -> Forecast | list[Forecast]:
        r"""Forecast series without a fit, each item with the copula of its own history."""
        self._check()
        if future is not None:
            raise ValueError(
                "predict without a fit takes no covariates, got future=: leave it out, or call fit(series) with "
                "known_covariates first"
            )
        checks.seed(self.seed if seed is None else seed)
        quantile_levels = checks.levels(quantile_levels, "quantile_levels")
        dataset, horizon = read_dataset(series, **reading), int(self.prediction_length)
        panel = dataset.panel
        require_samples(num_samples, horizon, len(panel.targets))
        panel.require_observed()
        options = self._fit_options(dataset, None, FRACTIONS)
        module = built(self.family, panel, self.model, options.context_length, self.seed)
        fitted = unfitted(panel, module, self.model, options)
        windows = last_windows(panel, context_length=options.context_length, prediction_length=horizon)
        predictor = Predictor(fitted, self.model, self.batch_size, self.seed, self.posterior_draws)
        distribution = predictor.zero_shot_distribution(windows)
        distributions = [
            replace(distribution[number], copula=history_copula(self.copula, item.values, horizon))
            for number, item in enumerate(fitted.panel.items)
        ]
        seed = self.seed if seed is None else seed
        forecasts = made_forecasts(fitted, panel, distributions, num_samples, quantile_levels, seed)
        return forecasts[0] if panel.single else forecasts
