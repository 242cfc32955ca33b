r"""Adapter: the one door. Fits an adapter around a frozen model, and predicts one joint, calibrated law."""

from __future__ import annotations

__all__ = ["Adapter"]

import inspect
import math
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import wraps
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import numpy as np
import pandas as pd

from . import checks
from ._logging import get_logger
from ._random import seeded
from .adapters import AdapterModule
from .data.cards import Dataset
from .data.options import column_names
from .data.panel import Panel, require_length
from .data.schema import Schema, read_dataset
from .data.windows import Windows, last_windows
from .distribution.joint import JointDistribution
from .errors import few, in_memory, one_line, quoted, shown, unknown
from .estimator import Estimator
from .fitting.context import FitOptions
from .fitting.fitted import Fitted
from .fitting.run import fit
from .fitting.summary import Summary
from .fitting.update import Forecasts, extend, follow
from .forecast.forecast import LEVELS, Forecast
from .foundation.cache import cached_forecasts
from .notices import say
from .options import CONTEXT, FIELDS, check_options
from .persistence import saving
from .prediction.predictor import Predictor, recalibrated

logger = get_logger(__name__)

#: The bytes that the samples of one forecast may take.
MOST_BYTES = 2**31

_Options = ParamSpec("_Options")
_Result = TypeVar("_Result")
_LOADING = threading.Lock()  # one thread loads a frozen model, the others wait for it


def _by_name(init: Callable[_Options, None]) -> Callable[_Options, None]:
    r"""Answers an option that there is not as every unknown name is answered: with the nearest that there is."""

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
    r"""Forecasts coupled channels with a frozen univariate foundation model.

    An adapter family encodes :math:`D` channels to :math:`K` latent series, the frozen model forecasts each alone, the
    family decodes; what comes out is corrected where it was wrong on held-back rows, and drawn jointly.
    `fit` uses its rows in order of time: train (parameters), validation (early stopping, gate), calibration (noise,
    copula), confirmation (whether gate and copula stay). Levels are recalibrated by the errors of all of them.

    References:
        | AdaPTS: Adapting Univariate Foundation Models to Probabilistic Multivariate Time Series Forecasting
        | (Benechehab et al., 2025), https://arxiv.org/abs/2502.10235

    Arguments:
        family: The name of a recipe or of a family, or a family: `"residual"` or `Linear(latent_channels=4)`; or the
            Path of a recipe of your own.
        foundation_model: A bundled name, a local folder, a hub id, a live pipeline or module.
        prediction_length: The number of steps to forecast, :math:`H`.
        context_length: The number of steps that a forecast looks back on, :math:`L`; as many as the foundation model
            takes, at most 512, if None.
        objective: What training by gradient minimises: `"mse"`, `"mae"`, `"huber"`, `"quantile"`, `"nll"`, `"elbo"`
            or `"energy"` (see `adapts.training.Objective`); the recipe's, else the family's, if None.
            Families that nothing trains by gradient take None.
        horizon_weights: The weight of each lead in training as a share of that of the lead before it, within (0, 1];
            the recipe's, else 1, all leads alike, if None.
        learning_rate: The learning rate of training by gradient; the recipe's, else 0.003, if None.
        copula: The dependence over channels and leads: `"residual"`, that of past forecast errors, as a Gaussian
            copula (a Kronecker product of one correlation over channels and one over leads), as the ranks of past
            blocks or, of a family that mixes channels, as the ranks of each window's decoded latent paths, whichever
            is best on the confirmation windows; `"gaussian-history"`, that of the channels' past values, with no
            forecast needed; `"schaake"`, the ranks of past blocks of the series; `"empirical"`, the ranks of past
            blocks of forecast errors; `"independent"`. Each is kept only where it beats independence on the
            confirmation windows; where these are too few to tell, `"residual"` keeps its Gaussian copula, which is
            shrunk by the effective sample size.
        recalibration: `"auto"`, tails beyond the frozen model's outer quantiles as past exceedances tell them, and a
            monotone map of the levels, by channel, block of leads and, where rows have dates, phase of the season, as
            far as later rows were surely told better by what earlier ones taught;
            `"conformal"`, the levels that held as often as they say on the calibration windows, a channel and lead by
            itself, always kept; `"none"`.
        gate: Whether to mix the adapter's law with the frozen model's, a channel and block of leads, where validation
            does not show that the adapter is better.
        probe_head: Whether a frozen model that declares its forecasting head untrained has it trained first, by linear
            probing on the raw channels: yes if None.
        support: The lowest and highest possible value (low, high), of all channels or in a mapping by channel;
            infinite where there is none.
        posterior_draws: How often a stochastic family draws itself, :math:`M`, for a forecast.
        max_windows: The most train windows that `fit` looks at, evenly strided, and half as many of each other part;
            fewer where the forecasts of a part would take more than 256 MB.
        seed: The seed of everything random.
        batch_size: Windows a step of training, and of decoding.
        device: Where the foundation model runs: `"auto"`, `"cpu"`, `"cuda"`, ...
        trainer_options: Options of `lightning.pytorch.Trainer` for families trained by gradient.

    Example:
        >>> time = np.arange(600.0)[:, None]
        >>> series = np.sin(2 * np.pi * time / 24 + np.array([0.0, 1.0])) + 0.1 * np.random.randn(600, 2)
        >>> forecast = adapts.Adapter(prediction_length=12).fit(series).predict()
        >>> forecast.mean.shape, forecast.quantile(0.9).shape, forecast.samples.shape
        ((12, 2), (12, 2), (200, 12, 2))
    """

    _whose = ""  # what warnings of a fit begin with: that of a group names it

    @_by_name
    def __init__(
        self,
        family: str | Path | AdapterModule = "residual",
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
        max_windows: int = 1000,
        seed: int = 0,
        batch_size: int = 64,
        device: str = "auto",
        trainer_options: Mapping[str, Any] | None = None,
    ) -> None:
        self._made: Predictor | None = None
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
    ) -> Adapter:
        r"""Fits the adapter to series.

        What there is to know of the fit (values that count as missing, history outside of the support, stages left out
        for want of rows, ...) is said in a warning, `adapts.notices.FitWarning`, once; it stands in `summary()` and
        below `Forecast.plot` as well.

        Arguments:
            series: A wide frame, a long frame, an array :math:`(T, D)` or :math:`(N, T, D)`, a path, the name of a
                data card, a Dataset or a Panel: see `Panel.of` and `adapts.data.cards.read`. NaN marks a missing value.
            target: The columns to forecast; all that are no covariates if None.
            past_covariates: Columns that are known up to now only: the adapter reads them beside the targets, unless
                its gate finds no sure gain in that, and they are not forecast.
            known_covariates: Columns whose future values `predict(future=...)` will be given, such as a planned action:
                what they explain of a target, linearly or as a ratio, is taken out of it before all else and put back
                into its law, where train and validation rows show for sure that this helps. A missing value counts as
                the mean.
            calendar: Whether the dates are known covariates too: the time of day, the day of the week and the time of
                the year, as far as steps are shorter than these.
            static: Columns that say something of each item of a panel as a whole, in numbers, text or categories, such
                as the kind of a shop: what the known covariates and the calendar explain may differ by them, where
                train and validation rows show for sure that this helps. A missing number counts as the mean over the
                items, a missing category as none.
            item_column: The column of a long frame that names the item, or a list of those that do together; recognised
                by its name if None.
            timestamp_column: The column that holds the dates; recognised if None.
            frequency: The pandas alias of the time step, inferred if None.
            regularise: Whether to mend dates that are not regular.
            borders: The rows where the train and the validation rows end; those of the card if the series have one,
                and 70 % train, then three parts of 10 %, if None.
            checkpoint_dir: A folder that keeps what is finished. A fit that was ended, however it was, goes on from
                there when it is called again with the same series and options, to the same numbers as one that was
                not. When it is done, `fit.json` (what was fitted) and `stages.safetensors` (what came of it) are left
                there.

        Returns:
            The adapter itself.

        Raises:
            ValueError: If the series are unfit: see `Panel.of`; or too short, or a channel is NaN throughout; or if
                covariates are no columns or have two roles; or if static columns change within an item, tell no items
                apart, or have no known covariate to act through; or if the folder holds another fit or other files, or
                another process works in it.
        """
        dataset = read_dataset(
            series, target=target, past_covariates=past_covariates, known_covariates=known_covariates,
            calendar=calendar, static=static, item_column=item_column, timestamp_column=timestamp_column,
            frequency=frequency, regularise=regularise,
        )  # fmt: skip
        self.fitted_ = self.apply(fit, dataset, borders, checkpoint_dir=checkpoint_dir)
        say(self.fitted_.notices, self._whose)
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
        r"""Forecasts the steps after the end of series.

        Arguments:
            series: Later or other series with the fitted channels and covariates, in any form that `fit` takes; the
                fitted ones if None. Where channels have names, others are not looked at. Items of the fit need no
                static columns, and where they have them these are those of the fit; of other items, a category that the
                fit did not see counts as none, and a number beyond those of the fit as the nearest of these.
            future: The known covariates at the :math:`H` steps after the end of each series, in any form that `fit`
                takes, such as a frame with their dates, in any order; rows of other dates are not looked at.
            num_samples: The number of joint samples :math:`S` that each forecast draws.
            quantile_levels: The levels that `Forecast.to_pandas` writes.
            seed: The seed of the samples; the adapter's if None.
            item_column: As for `fit`.
            timestamp_column: As for `fit`.
            frequency: The pandas alias of the time step, which must be the fitted one; the fitted one if None.
            regularise: As for `fit`.

        Returns:
            One forecast for one series, a list for a panel, in its order, dated in the fitted time zone. No NaN is in
            them. Threads may share an adapter: each gets what it would get alone.

        Raises:
            ValueError: If the adapter is not fitted, or the series do not have the fitted channels and frequency, or
                have a time zone where the fitted ones have none, or none where they have one; or if a future value of
                a known covariate is missing, or a date has two; or if a static column says something else of an item
                than in the fit.
        """
        fitted = self.require_fitted("predict")
        require_samples(num_samples, int(self.prediction_length), len(fitted.panel.targets))
        checks.seed(self.seed if seed is None else seed)
        quantile_levels = checks.levels(quantile_levels, "quantile_levels")
        schema, panel, columns = (
            Schema(fitted.panel),
            fitted.panel,
            {"item_column": item_column, "timestamp_column": timestamp_column},
        )
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
        r"""Takes up rows that came after the fitted ones, without training: `predict()` then forecasts what follows.

        The forecasts whose last step has now come are made again and scored on what came true. By these scores the
        levels of each channel and lead move, so that intervals go on to cover what they say after the series has
        changed (`adapts.calibration.OnlineRecalibration`), joint bands are those of the latest outcomes, and the
        `residual` family solves its ridge again with the new windows, every :math:`H` steps. This costs one forecast a
        new row. `save` keeps it all, `fit` starts afresh.

        Arguments:
            series: The new rows with the fitted channels and covariates, in any form that `fit` takes. Of dated
                series a whole history may come: of rows up to the fitted end those values are taken that were missing
                there, the others stay as they are, and a warning tells where they differ; rows behind it must follow
                without a gap. Undated ones hold new rows alone. NaN marks a missing value, which is not scored. Items
                of a panel that get no new row are forecast from their own end, which a warning tells.
            item_column: As for `fit`.
            timestamp_column: As for `fit`.
            frequency: As for `fit`.
            regularise: As for `fit`.

        Returns:
            The adapter itself.

        Raises:
            ValueError: If the adapter is not fitted, the series lack fitted channels or have items that were not
                fitted, or static columns that say something else of an item than in the fit, or rows are missing in
                between; the adapter then stays as it is.
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
            law = recalibrated(live, marginals.predict(windows, frozen)[0], windows)
            medians = frozen.values[..., predictor.model.median_index]
            return Forecasts(windows, marginals.completed_context, medians, law, marginals.truth(windows), self.seed)

        self.fitted_ = follow(fitted, extend(fitted.panel, later, filled=bool(regularise)), forecast)
        return self

    def joint_distribution(self, windows: Windows) -> JointDistribution:
        r"""Returns the joint law of windows of a raw panel, in the channels' own units.

        Arguments:
            windows: Windows of a panel with the fitted channels and covariates, not standardised. Where known
                covariates are missing ahead, their means are taken.

        Returns:
            The law of these windows' :math:`H` steps.
        """
        return self._predictor("joint_distribution").joint_distribution(windows)

    def zero_shot_distribution(self, windows: Windows) -> JointDistribution:
        r"""Returns what the frozen model alone says of windows: its margins, independent, nothing fitted.

        Arguments:
            windows: Windows of a panel with the fitted channels, not standardised.

        Returns:
            The law of these windows' :math:`H` steps, in the channels' own units.
        """
        return self._predictor("zero_shot_distribution").zero_shot_distribution(windows)

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
        r"""Scores the adapter on held-back rows beside the frozen model and the baselines, at rolling origins.

        A clone is fitted once on the rows before the first origin; this adapter stays as it is.
        `adapts.evaluation.backtest.roll` does the same and hands out more: windows, PITs, scores by lead, differences
        with intervals.

        Arguments:
            series: As for `fit`.
            windows: The number of origins; as many as the last fifth of the rows (or the card's test rows) holds,
                at most 200, if None.
            stride: The rows from one origin to the next; if None the nearest number to the prediction length that has
                no common factor with the season (see `adapts.evaluation.backtest.roll`), such as 23 hours for a day.
            scale: `"train"` divides the scores by the channels' standard deviation on the train rows; `"none"`.
            baselines: Whether to score the frozen model, last value and seasonal naive too; or the names of those to
                score: `"frozen model"`, `"last value"`, `"seasonal naive"`, `"drift"`, `"nlinear"`, `"var"`; or
                `"all"`.
            models: Further adapters by name, to be cloned, fitted and scored on the same rows; this one is called
                `"adapter"`.
            refit: Whether to fit anew before each origin.
            return_forecasts: Whether to return the forecasts as well.
            checkpoint_dir: A folder that keeps what is finished: a backtest that was ended, however it was, goes on
                from there when it is called again, to the same numbers.
            progress: Whether to show a progress bar on the standard error.
            target: As for `fit`. Where neither targets nor covariates are named, those of an adapter that was fitted
                with covariates are read.
            past_covariates: As for `fit`.
            known_covariates: As for `fit`; the values that came are given as those of the steps ahead. One that is
                missing there counts as the mean, where `predict` would refuse it.
            calendar: As for `fit`.
            static: As for `fit`.
            item_column: As for `fit`.
            timestamp_column: As for `fit`.
            frequency: As for `fit`.
            regularise: As for `fit`.

        Returns:
            A tidy frame: model, channel, lead_block, metric, value. With `return_forecasts` also, for each model, its
            forecasts in order of time, one a window, dated as the rows that they forecast.

        Raises:
            ValueError: If the series are too short for that many windows, an option makes no sense, or the folder
                holds another backtest.
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

    # ------------------------------------------------------------------ keep

    def save(self, path: str | Path, *, overwrite: bool = False) -> None:
        r"""Saves the fitted adapter: `config.json` and `adapter.safetensors`, without the frozen model's weights.

        The last context rows of the fitted series are saved with it, so that `predict()` still follows their end.
        The folder is made whole beside its place and moved there at once: whenever the process ends, `load` finds the
        old one or the new one, whole.

        Arguments:
            path: The folder.
            overwrite: Whether to replace the folder if it exists. One that holds anything that no adapter wrote is
                never replaced.

        Raises:
            OSError: If the folder cannot be written.
            ValueError: If the adapter is not fitted, or the folder exists, or holds what no adapter wrote.
        """
        saving.save(self.require_fitted("save"), self, path, overwrite=overwrite)

    @classmethod
    def load(cls, path: str | Path, *, foundation_model: Any = None, device: str = "auto") -> Adapter:
        r"""Loads a saved adapter.

        Arguments:
            path: The folder that `save` wrote.
            foundation_model: The frozen model, as `Adapter` takes it. It must be named here unless the adapter was
                fitted around a bundled model or one of Amazon's Chronos-Bolt checkpoints (`adapts.foundation.KNOWN`):
                no file makes us open another folder or ask for another repository. Of a known repository that the local
                cache does not hold, the Hugging Face hub is asked. One whose weights differ from those of the fit is
                taken only when named, and a warning tells.
            device: Where the foundation model runs.

        Returns:
            The fitted adapter.

        Raises:
            ValueError: If the folder is not a saved adapter, is corrupt, or its foundation model is not the one found,
                or is to be named.
        """

        def call(model: str) -> str:
            return f"{cls.__name__}.load({quoted(str(path))}, foundation_model={model})"

        return saving.load(cls, path, foundation_model=foundation_model, device=device, call=call)

    # ------------------------------------------------------------------ what it is

    @property
    def channels(self) -> tuple[str, ...]:
        r"""The names of the fitted channels, covariates aside."""
        return self.require_fitted("channels").panel.targets

    @property
    def context_length_(self) -> int:
        r"""The number of context steps in use."""
        return self.require_fitted("context_length_").context_length

    @property
    def season_length_(self) -> int | None:
        r"""The season's length, where the data's card states one."""
        return self.require_fitted("season_length_").season_length

    @property
    def location_(self) -> np.ndarray:
        r"""The channels' means over the train rows, with shape :math:`(D,)`, a copy; see `scale_`."""
        return self.require_fitted("location_").location[: len(self.channels)].copy()

    @property
    def scale_(self) -> np.ndarray:
        r"""The channels' population standard deviations over the train rows, with shape :math:`(D,)`, a copy.

        They are at least 1e-9 of the means. A channel that the train rows do not show to vary has the mean and the
        deviation of all rows; a constant one has its absolute value, or 1 where it is zero.
        """
        return self.require_fitted("scale_").scale[: len(self.channels)].copy()

    def summary(self) -> Summary:
        r"""Returns what was fitted, on how many windows a part, and what each stage decided."""
        fitted = self.require_fitted("summary")
        return Summary(
            family=self.family.family,
            options=self.family.options(),
            foundation_model=self.model.name,
            channels=list(fitted.panel.targets),
            context_length=fitted.context_length,
            prediction_length=int(self.prediction_length),
            windows=dict(fitted.windows),
            stages={name: decision.reason for name, decision in fitted.decisions.items()},
            spans={name: dict(span) for name, span in fitted.spans.items()},
            notices=list(fitted.notices),
        )

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

    # ------------------------------------------------------------------ inside

    def _predictor(self, what: str) -> Predictor:
        return self._predictor_of(self.require_fitted(what))

    def _predictor_of(self, fitted: Fitted) -> Predictor:
        r"""What forecasts windows, made once for a fit, a model and options."""
        options, held = (self.batch_size, self.seed, self.posterior_draws), self._made
        if held is None or held.fitted is not fitted or held.loaded is not self.model or held.options != options:
            self._made = held = Predictor(fitted, self.model, *options)
        return held

    def apply(
        self, stages: Callable[..., _Result], dataset: Dataset, borders: tuple[int, int] | None = None, **more: Any
    ) -> _Result:
        r"""Hand a data set and these options to a function of `adapts.fitting`, as `fit` and `tune` do.

        Arguments:
            stages: The function, such as `adapts.fitting.run.validate`.
            dataset: The data set.
            borders: The rows where the train and the validation rows end; those of the data set if None.
            **more: Further arguments of the function.

        Returns:
            What the function returns.

        Raises:
            ValueError: If the series are too short, a channel is NaN throughout, or borders or options are not fit.
        """
        self._check()  # attributes may have been set
        panel = dataset.panel
        if borders is not None:
            _check_borders(borders, panel)
        panel.require_observed()
        horizon = int(self.prediction_length)
        if panel.single:
            require_length(panel, 3 * horizon, f"prediction_length={horizon}")
        model = self.model
        with seeded(self.seed):
            module = self.family.build(len(panel.targets) + len(panel.past_covariates))
        remedy = "fit fewer channels, or make batch_size, max_windows, context_length or the family's options smaller"
        with cached_forecasts(), in_memory(f"fitting {len(panel.targets)} channels by {shown(self.family)}", remedy):
            options = FitOptions(
                borders=dataset.borders if borders is None else borders,
                context_length=int(self.context_length or min(model.context_length, CONTEXT)),
                prediction_length=horizon,
                season_length=dataset.season_length,
                support=_bounds(self.support, dataset.support, panel.targets),
                settings={**self.get_params(deep=False), **self.training_},
            )
            return stages(panel, module, model, options, **more)

    def forecast_panel(
        self,
        panel: Panel,
        ahead: Panel,
        *,
        num_samples: int,
        quantile_levels: Sequence[float] = LEVELS,
        seed: int | None = None,
    ) -> list[Forecast]:
        r"""Forecast the steps after the end of each item of a panel that is read already.

        Arguments:
            panel: The panel, its columns in their fitted roles.
            ahead: The same with the known covariates of the steps ahead behind it.
            num_samples: The number of joint samples that each forecast draws.
            quantile_levels: The levels that its table shows.
            seed: The seed of the samples; the adapter's if None.

        Returns:
            One forecast an item, in the panel's order.
        """
        fitted = self.require_fitted("predict")
        windows = last_windows(panel, context_length=fitted.context_length, prediction_length=self.prediction_length)
        law = self.joint_distribution(replace(windows, panel=ahead))
        panel = panel.select(panel.targets)
        forecasts = []
        for number, item in enumerate(panel.items):
            tail = slice(max(0, len(item) - 4 * self.prediction_length), None)
            forecasts.append(
                Forecast(
                    item_id=item.item_id,
                    index=panel.future_index(item, self.prediction_length),
                    channels=panel.channels,
                    frequency=panel.frequency,
                    joint_distribution=law[number],
                    num_samples=num_samples,
                    seed=self.seed if seed is None else seed,
                    quantile_levels=tuple(quantile_levels),
                    history=_frame(item.values[tail].copy(), item.index[tail], panel.channels),
                    bands=fitted.joint_bands,
                    notices=fitted.notices,
                )
            )
        return forecasts


def _check_borders(borders: Any, panel: Panel) -> None:
    clocks = [item.clock() if panel.frequency is not None else np.arange(len(item)) for item in panel.items]
    rows = len(np.unique(np.concatenate(clocks)))
    pair = checks.pair(borders)
    if pair is None or None in map(checks.whole, pair) or not 0 < pair[0] <= pair[1] <= rows:
        raise ValueError(
            "expected borders=(train end, validation end), two numbers of rows with 0 < train end <= validation end "
            f"<= {rows}, got {shown(borders)}"
        )


def require_samples(num_samples: object, horizon: int, channels: int) -> None:
    r"""Checks a number of samples, for which there must be memory.

    Arguments:
        num_samples: The number asked for.
        horizon: The number of steps of a forecast.
        channels: The number of its channels.

    Raises:
        ValueError: If it is no positive integer, or too large.
    """
    most = max(1, MOST_BYTES // (8 * horizon * channels))
    hint = f"pass {most} or less, which for {horizon} steps of {channels} channels take {MOST_BYTES / 2**30:.0f} GiB"
    checks.integer("predict expects num_samples", num_samples, most=most, hint=hint)


def _bounds(
    wanted: tuple[float, float] | Mapping[str, tuple[float, float]] | None,
    card: Mapping[str, tuple[float, float]],
    channels: Sequence[str],
) -> tuple[np.ndarray, np.ndarray]:
    r"""The support of each channel: what the caller says, else the card, else the whole line."""
    if wanted is None:
        wanted = {}
    elif not isinstance(wanted, Mapping):
        wanted = dict.fromkeys(channels, wanted)
    for name in wanted:
        if name not in channels:
            raise unknown("channel of support", name, channels)
    bounds = {**dict.fromkeys(channels, (-math.inf, math.inf)), **card, **wanted}
    check_options({"support": bounds})
    low, high = np.array([bounds[name] for name in channels], dtype=float).T
    return low, high


def _frame(values: np.ndarray, index: pd.Index[Any], channels: Sequence[str]) -> pd.DataFrame:
    return pd.DataFrame(values, index=index, columns=list(channels))
