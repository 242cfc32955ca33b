r"""Adapter: the one door. Fits an adapter around a frozen model, and predicts one joint, calibrated law."""

from __future__ import annotations

__all__ = ["Adapter"]

import inspect
import math
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import wraps
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import numpy as np
import pandas as pd
import torch

from . import checks
from ._logging import get_logger
from ._random import seeded
from .adapters import AdapterModule, families, make
from .checks import LONGEST
from .copulas.base import Copula
from .copulas.independent import Independent
from .data.cards import Dataset, read_with
from .data.frames import as_pandas
from .data.frequency import calendar, frequency_name
from .data.from_memory import read_series
from .data.future import followed, require_one_value
from .data.options import column_names, label, reading_options
from .data.panel import Panel, require_length
from .data.roles import assign
from .data.static import as_fitted
from .data.windows import Windows, last_windows
from .distribution.joint import JointDistribution
from .distribution.quantile_function import QuantileFunction
from .distribution.variance import VarianceParts
from .errors import in_memory, quoted, shown, unknown
from .fitting.fitted import Fitted
from .fitting.run import fit
from .fitting.update import Forecasts, extend, follow
from .forecast.forecast import LEVELS, Forecast
from .foundation import FoundationModel, load_foundation_model
from .foundation.cache import cached_forecasts
from .notices import Notice, say
from .persistence import saving
from .predictor import Predictor
from .registry import load_recipe, recipes

logger = get_logger(__name__)

COPULAS = ("residual", "gaussian-history", "schaake", "empirical", "independent")
RECALIBRATIONS = ("auto", "conformal", "none")
#: The options of training by gradient, which a recipe may set too.
TRAINING = ("objective", "horizon_weights", "learning_rate")
#: The options that `predict` reads as they are; it takes no others than those of the fit.
_OF_PREDICT = ("posterior_draws", "seed", "batch_size", "device", "trainer_options")
#: The longest context that is used by default.
CONTEXT = 512
#: The most draws of itself that a stochastic family is asked for: more than any law needs, each a forecast.
MOST_DRAWS = 10_000
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


class Adapter:
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
            confirmation windows.
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
        self.family = family
        self.foundation_model = foundation_model
        self.prediction_length = prediction_length
        self.context_length = context_length
        self.objective = objective
        self.horizon_weights = horizon_weights
        self.learning_rate = learning_rate
        self.copula = copula
        self.recalibration = recalibration
        self.gate = gate
        self.probe_head = probe_head
        self.support = support
        self.posterior_draws = posterior_draws
        self.max_windows = max_windows
        self.seed = seed
        self.batch_size = batch_size
        self.device = device
        self.trainer_options = trainer_options
        self._model: FoundationModel | None = None
        self._expected: str | None = None  # the sha256 of the model that a pickled adapter was fitted around
        self._fitted = None
        self._check()

    def _check(self) -> None:
        self._check_values()
        given = {name: value for name in TRAINING if (value := getattr(self, name)) is not None}
        _check_training(given, self.family)

    def _check_values(self) -> None:
        r"""Checks each option by itself, those of training aside."""
        checks.integer("Adapter expects prediction_length", self.prediction_length, most=LONGEST)
        hint = f"leave it out for as many as the frozen model reads, {CONTEXT} at most"
        checks.integer("Adapter expects context_length", self.context_length, most=LONGEST, none=True, hint=hint)
        checks.integer("Adapter expects posterior_draws", self.posterior_draws, most=MOST_DRAWS)
        checks.integer("Adapter expects max_windows", self.max_windows)
        checks.integer("Adapter expects batch_size", self.batch_size)
        checks.flag("Adapter expects gate", self.gate)
        checks.flag("Adapter expects probe_head", self.probe_head, none=True)
        checks.seed(self.seed)
        checks.choice("copula", self.copula, COPULAS)
        checks.choice("recalibration", self.recalibration, RECALIBRATIONS)
        _check_support(self.support)
        _check_trainer_options(self.trainer_options)

    def __setattr__(self, name: str, value: Any) -> None:
        if name in ("foundation_model", "device") and vars(self).get(name, value) is not value:
            self._model, self._expected = None, None  # it is another's, or lies elsewhere
        super().__setattr__(name, value)

    @property
    def _fitted(self) -> Fitted | None:
        return self._of_fit

    @_fitted.setter
    def _fitted(self, fitted: Fitted | None) -> None:
        self._of_fit = fitted
        self._options_of_fit = self.get_params(deep=False)

    @property
    def family(self) -> AdapterModule:
        r"""The family, with its hyperparameters: that of the recipe where a name was given."""
        return self._family

    @family.setter
    def family(self, family: str | Path | AdapterModule) -> None:
        self._family, self._recipe_training = _family(family)
        self._given_family = family

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
        dataset = self._dataset(
            series, target=target, past_covariates=past_covariates, known_covariates=known_covariates,
            calendar=calendar, static=static, item_column=item_column, timestamp_column=timestamp_column,
            frequency=frequency, regularise=regularise,
        )  # fmt: skip
        self._fitted = self._through(fit, dataset, borders, checkpoint_dir=checkpoint_dir)
        say(self._fitted.notices, self._whose)
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
        fitted = self._require_fitted("predict")
        require_samples(num_samples, int(self.prediction_length), len(fitted.panel.targets))
        checks.seed(self.seed if seed is None else seed)
        quantile_levels = checks.levels(quantile_levels, "quantile_levels")
        panel, columns = fitted.panel, {"item_column": item_column, "timestamp_column": timestamp_column}
        if series is not None:
            panel = self._later(series, frequency=frequency, regularise=regularise, **columns).panel
        ahead = self._ahead(panel, future, **columns)
        forecasts = self._forecasts(panel, ahead, num_samples=num_samples, quantile_levels=quantile_levels, seed=seed)
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
        changed (`adapts.distribution.OnlineRecalibration`), joint bands are those of the latest outcomes, and the
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
        fitted = self._require_fitted("update")
        later = self._later(
            series, item_column=item_column, timestamp_column=timestamp_column, frequency=frequency,
            regularise=regularise,
        ).panel  # fmt: skip

        def forecast(live: Fitted, windows: Windows) -> Forecasts:
            pipeline, windows = self._pipeline(live), live.standardised(windows)
            frozen = pipeline.frozen(windows)
            law = live.recalibrated(pipeline.law(windows, frozen)[0], windows)
            medians = frozen.values[..., pipeline.model.median_index]
            return Forecasts(windows, pipeline.continued, medians, law, pipeline.truth(windows), self.seed)

        self._fitted = follow(fitted, extend(fitted.panel, later, filled=bool(regularise)), forecast)
        return self

    def joint_distribution(self, windows: Windows) -> JointDistribution:
        r"""Returns the joint law of windows of a raw panel, in the channels' own units.

        Arguments:
            windows: Windows of a panel with the fitted channels and covariates, not standardised. Where known
                covariates are missing ahead, their means are taken.

        Returns:
            The law of these windows' :math:`H` steps.
        """
        fitted = self._require_fitted("joint_distribution")
        pipeline, standard = self._pipeline(fitted), fitted.standardised(windows)
        copula: Copula = fitted.copula
        if fitted.latent_ranks and pipeline.tells_dependence:
            marginals, parts, copula = pipeline.joint(standard, fitted.copula)
        else:
            marginals, parts = pipeline.law(standard)
        marginals = fitted.recalibrated(marginals, windows)
        if fitted.online is not None:
            marginals = fitted.online.recalibration.apply(marginals)
        return self._units(windows, marginals, copula, parts)

    def zero_shot_distribution(self, windows: Windows) -> JointDistribution:
        r"""Returns what the frozen model alone says of windows: its margins, independent, nothing fitted.

        Arguments:
            windows: Windows of a panel with the fitted channels, not standardised.

        Returns:
            The law of these windows' :math:`H` steps, in the channels' own units.
        """
        fitted = self._require_fitted("zero_shot_distribution")
        marginals = self._pipeline(fitted).frozen(fitted.plain(windows))
        none = torch.zeros(marginals.shape, dtype=torch.float32)
        parts = VarianceParts.of(marginals, none, none)
        return self._units(windows, marginals, Independent(self.prediction_length, len(fitted.panel.targets)), parts)

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
        from .evaluation.backtest import count_stages, roll
        from .evaluation.progress import progress_bar

        for name, value in (("refit", refit), ("return_forecasts", return_forecasts), ("progress", progress)):
            checks.flag(f"backtest expects {name}", value)
        contestants = _contestants(self, models)
        past_covariates = column_names("past_covariates", past_covariates)
        known_covariates = column_names("known_covariates", known_covariates)
        static = column_names("static", static)
        checks.flag("expected calendar", calendar)
        named = target is not None or calendar or past_covariates or known_covariates or static
        if not named and self._fitted is not None and "covariates" in self._fitted.decisions:
            target, past_covariates, known_covariates, calendar = _roles(self._fitted.panel)
            static = list(self._fitted.panel.static)
        dataset = self._dataset(
            series, target=target, past_covariates=past_covariates, known_covariates=known_covariates,
            calendar=calendar, static=static, item_column=item_column, timestamp_column=timestamp_column,
            frequency=frequency, regularise=regularise,
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
        saving.save(self._require_fitted("save"), self, path, overwrite=overwrite)

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

    def use_foundation_model(self, model: Any) -> Adapter:
        r"""Forecasts with a frozen model that is named, and keeps the fit.

        For an unpickled adapter whose model has moved: a pickle is code, and its model is looked for where it was.

        Arguments:
            model: The frozen model, as `Adapter` takes it. A warning tells where its weights differ from those of the
                fit.

        Returns:
            The adapter itself.

        Raises:
            ValueError: If the adapter is not fitted, there is no such model, or the trained head does not fit it.
        """
        self._require_fitted("use_foundation_model")
        self._use(model, load_foundation_model(model, device=self.device))
        return self

    # ------------------------------------------------------------------ what it is

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        r"""Returns the options as they were given, as scikit-learn's estimators do.

        Arguments:
            deep: Whether to add the family's own options, as `family__latent_channels`.

        Returns:
            The options by name.
        """
        checks.flag("get_params expects deep", deep)
        names = list(inspect.signature(type(self).__init__).parameters)[1:]
        params = {name: self._given_family if name == "family" else getattr(self, name) for name in names}
        if deep:
            params |= {f"family__{name}": value for name, value in self.family.options().items()}
        return params

    def set_params(self, **params: Any) -> Adapter:
        r"""Changes options. What was fitted with others is forgotten: fit again.

        Arguments:
            **params: Options by name; the family's own as `family__latent_channels`.

        Returns:
            The adapter itself.

        Raises:
            ValueError: If there is no such option, or a value is not fit for it; the adapter then stays as it is.
        """
        if not params:
            return self
        own = self.get_params(deep=False)
        inner = {name.removeprefix("family__"): x for name, x in params.items() if name.startswith("family__")}
        outer = {name: value for name, value in params.items() if not name.startswith("family__")}
        for name in outer:
            if name not in own:
                raise ValueError(unknown("option of Adapter", name, self.get_params()))
        new = type(self)(**{**own, **outer})
        if inner:
            family = make(new.family.family, {**new.family.options(), **inner})
            training = new._training if _trained(family) else {name: getattr(new, name) for name in TRAINING}
            new = type(self)(**{**own, **outer, **training, "family": family})
        if all(getattr(new, name) is getattr(self, name) for name in ("foundation_model", "device")):
            new._model, new._expected = self._model, self._expected
        vars(self).update(vars(new))
        return self

    def clone(self) -> Adapter:
        r"""Returns an adapter with the same options, not fitted; the loaded foundation model is shared."""
        other = type(self)(**self.get_params(deep=False))
        other._model = self._model
        return other

    __sklearn_clone__ = clone  # what `sklearn.base.clone` calls

    def __getstate__(self) -> dict[str, Any]:
        r"""What is pickled: options, and the saved form. A model that has an address is found again, not pickled."""
        if self._fitted is None:
            return {"params": self.get_params(deep=False), "packed": None}
        expected = self._expected or self.model.fingerprint()["sha256"]
        packed = *saving.pack(self._require_fitted("pickle")), expected
        return {"params": self.get_params(deep=False), "packed": packed}

    def __setstate__(self, state: dict[str, Any]) -> None:
        type(self).__init__(self, **state["params"])
        if state["packed"] is not None:
            config, tensors, expected = state["packed"]
            self._fitted = saving.unpickled(config, tensors, self.family, int(self.prediction_length))
            self._expected = expected

    @property
    def model(self) -> FoundationModel:
        r"""The frozen foundation model, loaded when it is first needed."""
        if self._model is None:
            with _LOADING:
                if self._model is None:
                    self._model = self._found()
        return self._model

    def _found(self) -> FoundationModel:
        r"""The frozen model at its address; for an unpickled adapter the very one that it was fitted around."""
        if self._expected is None:
            return load_foundation_model(self.foundation_model, device=self.device)
        remedy = "name the model to use with adapter.use_foundation_model(model), or fit again"
        try:
            model = load_foundation_model(self.foundation_model, device=self.device)
        except ValueError as error:
            raise ValueError(
                f"the adapter was unpickled, and its foundation model is gone ({error}): {remedy}"
            ) from error
        if model.fingerprint()["sha256"] != self._expected:
            raise ValueError(
                f"the adapter was fitted around another foundation model than {shown(self.foundation_model)} is here "
                f"and now: {remedy}"
            )
        return model

    def _use(self, model: Any, loaded: FoundationModel) -> None:
        r"""Takes another frozen model for the fit, loaded from what names it."""
        fitted = self._require_fitted("use_foundation_model")
        expected = self._expected if self._model is None else self._model.fingerprint()["sha256"]
        fitted.headed(loaded)  # it may have no place for the head
        if loaded.fingerprint()["sha256"] != expected:
            _warn_of_another(loaded)
        self.foundation_model, self._model, self._expected = model, loaded, None
        self._options_of_fit = {**self._options_of_fit, "foundation_model": model}

    def _take(self, fitted: Fitted, expected: Mapping[str, str], *, named: bool, call: Callable[[str], str]) -> None:
        r"""Takes what was loaded of a fit, around the frozen model that it was fitted around or one that is named."""
        found = self.model.fingerprint()
        if found["sha256"] != expected["sha256"]:
            if not named:
                raise ValueError(
                    f"the adapter was fitted around the foundation model {expected['name']} {expected['version']} "
                    f"(sha256 {expected['sha256'][:12]}), found {found['name']} {found['version']} (sha256 "
                    f"{found['sha256'][:12]}): fit again, or name the model to use with {call('model')}"
                )
            _warn_of_another(self.model)
        fitted.headed(self.model)  # another model may have no place for the head
        self._fitted = fitted

    @property
    def _training(self) -> dict[str, Any]:
        r"""The options of training by gradient: what the recipe says, unless told otherwise."""
        given = {name: getattr(self, name) for name in TRAINING}
        return {name: self._recipe_training.get(name) if value is None else value for name, value in given.items()}

    @property
    def channels(self) -> tuple[str, ...]:
        r"""The names of the fitted channels, covariates aside."""
        return self._require_fitted("channels").panel.targets

    @property
    def context_length_(self) -> int:
        r"""The number of context steps in use."""
        return self._require_fitted("context_length_").context_length

    @property
    def season_length_(self) -> int | None:
        r"""The season's length, where the data's card states one."""
        return self._require_fitted("season_length_").season_length

    @property
    def location_(self) -> np.ndarray:
        r"""The channels' means over the train rows, with shape :math:`(D,)`, a copy; see `scale_`."""
        return self._require_fitted("location_").location[: len(self.channels)].copy()

    @property
    def scale_(self) -> np.ndarray:
        r"""The channels' population standard deviations over the train rows, with shape :math:`(D,)`, a copy.

        They are at least 1e-9 of the means. A channel that the train rows do not show to vary has the mean and the
        deviation of all rows; a constant one has its absolute value, or 1 where it is zero.
        """
        return self._require_fitted("scale_").scale[: len(self.channels)].copy()

    def summary(self) -> Summary:
        r"""Returns what was fitted, on how many windows a part, and what each stage decided."""
        fitted = self._require_fitted("summary")
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
        if self._fitted is not None:
            channels = self._fitted.panel.targets
            state = f"fitted on {len(channels)} channels, {_some(channels)}"
        family = _one_line(self.family)
        return (
            f"Adapter({family}, foundation_model={str(model)!r}, prediction_length={self.prediction_length}; {state})"
        )

    # ------------------------------------------------------------------ inside

    def _require_fitted(self, what: str) -> Fitted:
        if self._fitted is None:
            raise ValueError(f"Adapter.{what} needs a fitted adapter: call fit(series) first")
        self._check_values()  # attributes may have been set
        for name, now in self.get_params(deep=False).items():
            then = self._options_of_fit[name]
            if name not in _OF_PREDICT and not _alike(now, then):
                change = f"from {shown(then)} to {shown(now)}"
                raise ValueError(f"{name} was changed since fit, {change}: fit again, or set it back")
        return self._fitted

    def _dataset(
        self,
        series: Any,
        *,
        target: str | Sequence[str] | None = None,
        past_covariates: str | Sequence[str] = (),
        known_covariates: str | Sequence[str] = (),
        calendar: bool = False,
        static: str | Sequence[str] = (),
        **options: Any,
    ) -> Dataset:
        r"""Reads series, and gives their columns their roles."""
        checks.flag("expected calendar", calendar)
        past = column_names("past_covariates", past_covariates)
        known = column_names("known_covariates", known_covariates)
        kinds = column_names("static", static)
        if not (past or known or calendar or kinds):
            return self._read(series, target=target, **options)
        if (past or known or kinds) and not _has_names(series):
            raise ValueError(f"covariates are columns with names, and {type(series).__name__} has none: pass a frame")
        columns = None if target is None else [*dict.fromkeys([*column_names("target", target), *past, *known])]
        dataset = self._read(series, covariates=[*past, *known], target=columns, static=kinds, **options)
        panel = assign(dataset.panel, target=target, past_covariates=past, known_covariates=known, calendar=calendar)
        return replace(dataset, panel=panel)

    def _read(self, series: Any, covariates: Sequence[str] = (), **options: Any) -> Dataset:
        options = {name: value for name, value in reading_options(**options).items() if name in options}
        if isinstance(series, Dataset):
            target, static = options.pop("target", None), options.pop("static", ())
            given = [name for name, value in options.items() if value not in (None, False)]
            if given:
                raise ValueError(
                    f"a Dataset is read already, {given[0]}= cannot change it: give it to adapts.data.cards.read"
                )
            if target is None and not static:
                return series
            return replace(series, panel=Panel.of(series.panel, target=target, static=static))
        if isinstance(series, str | Path):
            return read_with(series, covariates, **options)
        panel = read_series(series, Panel, covariates=covariates, **options)
        return Dataset(name="series", panel=panel)

    def _through(
        self, stages: Callable[..., _Result], dataset: Dataset, borders: tuple[int, int] | None, **more: Any
    ) -> _Result:
        r"""Takes a data set through stages of `adapts.fitting`, with these options."""
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
            return stages(
                panel,
                module,
                model,
                borders=dataset.borders if borders is None else borders,
                context_length=int(self.context_length or min(model.context_length, CONTEXT)),
                prediction_length=horizon,
                season_length=dataset.season_length,
                support=_bounds(self.support, dataset.support, panel.targets),
                settings={**self.get_params(deep=False), **self._training},
                **more,
            )

    def _later(self, series: Any, **options: Any) -> Dataset:
        r"""Reads further series with the fitted channels, where these have names, and the fitted frequency."""
        panel = self._require_fitted("predict").panel
        if isinstance(series, list | tuple):
            series = [as_pandas(entry) for entry in series]
        elif not isinstance(series, Path | Dataset | Panel):
            series = as_pandas(series)
        columns = tuple(name for name in panel.channels if name not in (*panel.static_columns, *panel.calendar))
        named = columns != tuple(map(str, range(len(columns))))
        entries = series if isinstance(series, list) else [series]
        frames = [entry for entry in entries if isinstance(entry, pd.DataFrame)]
        whole = [{label(column) for column in frame.columns}.issuperset(columns) for frame in frames]
        others_aside = named and isinstance(series, str | Path) or frames and all(whole)
        target = list(columns) if others_aside else None
        steps = [frequency_name(options.pop("frequency"))]
        if steps == [None] and not isinstance(series, Dataset | Panel):
            steps.append(panel.frequency)  # a few rows do not tell their frequency, the fitted ones did
        problem = None
        for number, step in enumerate(dict.fromkeys(steps)):
            try:
                later = self._read(series, target=target, frequency=step, static=panel.static, **options)
                kept = (*columns, *later.panel.static_columns)
                if named and set(later.panel.channels).issuperset(columns):
                    later = replace(later, panel=later.panel.select(kept))
                later = replace(later, panel=later.panel.require_channels(kept))
                later = replace(later, panel=_in_steps_of(panel, later.panel, given=number == 0 and step is not None))
                return later if panel.targets == panel.channels else replace(later, panel=_assigned(panel, later.panel))
            except ValueError as error:
                problem = problem or error
        assert problem is not None
        raise problem

    def _ahead(self, panel: Panel, future: Any, **columns: Any) -> Panel:
        r"""A panel with the steps ahead behind it, in which known covariates have values; itself where none are."""
        given = list(panel.given)
        if future is not None and not given:
            raise ValueError("future holds known covariates, and the adapter was fitted with none: leave it out")
        if given and future is None:
            raise ValueError(
                f"the adapter was fitted with known covariates ({_some(given)}): predict(future=...) needs their "
                f"values at the {self.prediction_length} steps ahead"
            )
        if not panel.known_covariates:
            return panel
        read = None
        if given:
            try:
                read = self._future(panel, given, future, **columns)
            except ValueError as error:
                raise ValueError(f"future: {error}") from error
        return followed(panel, read, int(self.prediction_length))

    def _forecasts(
        self,
        panel: Panel,
        ahead: Panel,
        *,
        num_samples: int,
        quantile_levels: Sequence[float] = LEVELS,
        seed: int | None = None,
    ) -> list[Forecast]:
        r"""The forecasts of the steps after each item's end; `ahead` holds the known covariates of these steps too."""
        fitted = self._require_fitted("predict")
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

    def _future(self, panel: Panel, given: list[str], future: Any, **columns: Any) -> Panel:
        r"""Reads the known covariates of the steps ahead."""
        if not isinstance(future, str | Path | Dataset | Panel):
            future = as_pandas(future)
        if hasattr(future, "to_frame") and not hasattr(future, "columns"):
            future = future.to_frame(given[0] if future.name is None else future.name)
        if not _has_names(future):
            read = Panel.of(future)
            if panel.frequency is not None or read.num_channels != len(given):
                raise ValueError(
                    f"expected a frame with the columns {_some(given)}"
                    + ("" if panel.frequency is None else " and the dates")
                    + f", got {type(future).__name__}"
                )
            return replace(read, channels=tuple(given))
        options = {} if isinstance(future, Dataset | Panel) else columns
        if options and not panel.single and panel.item_column in getattr(future, "columns", ()):
            options = {**options, "item_column": options["item_column"] or panel.item_column}
        if options and panel.frequency is not None:
            options = {**options, "frequency": panel.frequency, "regularise": True}
            read_by = {name: options[name] for name in ("item_column", "timestamp_column")}
            require_one_value(panel, given, future, int(self.prediction_length), **read_by)
        read = self._read(future, target=given, **options).panel
        return _in_steps_of(panel, read, given=True)

    def _pipeline(self, fitted: Fitted) -> Predictor:
        return fitted.pipeline(self.model, self.batch_size, self.seed, self.posterior_draws)

    def _units(
        self, windows: Windows, marginals: QuantileFunction, copula: Copula, parts: VarianceParts
    ) -> JointDistribution:
        r"""The law in the channels' own units, in double precision: a location may be large beside its scale."""
        fitted = self._require_fitted("joint_distribution")
        exact = QuantileFunction(marginals.levels, marginals.values.double())
        location, scale = (torch.from_numpy(unit[: marginals.shape[-1]]) for unit in (fitted.location, fitted.scale))
        low, high = (torch.from_numpy(bound) for bound in fitted.support)
        exact, constant = fitted.held(exact.rescaled(location, scale), windows)
        parts = parts.scaled(torch.where(constant, 0.0, scale).unsqueeze(1))
        return JointDistribution(exact.supported(low, high), copula, parts)


@dataclass(frozen=True, repr=False)
class Summary:
    r"""What a fit did: `str` reads well, `to_dict` goes into a report.

    Arguments:
        family: The family's name.
        options: Its hyperparameters.
        foundation_model: The frozen model's name.
        channels: The names of the channels.
        context_length: The number of context steps.
        prediction_length: The number of steps forecast.
        windows: The number of windows a part.
        stages: What each stage decided, in words.
        spans: The first and the last target row of each part that has any, and how many rows it has.
        notices: What the user must know, of which `fit` warned too.
    """

    family: str
    options: dict[str, Any]
    foundation_model: str
    channels: list[str]
    context_length: int
    prediction_length: int
    windows: dict[str, int]
    stages: dict[str, str]
    spans: dict[str, dict[str, Any]] = field(default_factory=dict)
    notices: list[Notice] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        r"""Returns the same as a dictionary that JSON can hold."""
        notices = [{**asdict(notice), "about": list(notice.about)} for notice in self.notices]
        return {**asdict(self), "notices": notices}

    def __str__(self) -> str:
        options = ", ".join(f"{name}={value!r}" for name, value in self.options.items())
        lines = [
            f"{self.family} adapter around {self.foundation_model}: {len(self.channels)} channels, "
            f"{self.context_length} steps back, {self.prediction_length} ahead",
            f"channels: {_some(self.channels)}",
            *([f"options: {options}"] if options else []),
            "windows:",
        ]
        for name, count in self.windows.items():
            span = self.spans.get(name)
            rows = f", targets {span['first']} to {span['last']} ({span['rows']} rows)" if span else ""
            lines.append(f"  {name.ljust(max(map(len, self.windows)))}  {count:>5}{rows}")
        lines += [f"{name}: {said}" for name, said in self.stages.items()]
        return "\n".join([*lines, *(f"note: {notice.said}" for notice in self.notices)])

    __repr__ = __str__


def _family(family: str | Path | AdapterModule) -> tuple[AdapterModule, dict[str, Any]]:
    r"""The family that was asked for, and what its recipe says of training."""
    if isinstance(family, AdapterModule):
        return family, {}
    if not isinstance(family, str | Path):
        raise ValueError(f"Adapter expects a family or the name of a recipe, got {type(family).__name__}")
    known = recipes()
    if family in known or isinstance(family, Path):
        recipe = load_recipe(family)
        made = make(recipe["family"], recipe["options"])
        _check_training(recipe["training"], made, f"the recipe {str(family)!r} says ")
        return made, recipe["training"]
    if family in families():
        return make(family), {}
    raise unknown("adapter", family, sorted({*known, *families()}))


def _contestants(adapter: Adapter, models: Mapping[str, Adapter] | None) -> dict[str, Adapter]:
    r"""The models of a backtest by name, the adapter first."""
    models = {} if models is None else models
    if not isinstance(models, Mapping) or "adapter" in models:
        raise ValueError(
            "backtest expects models to map names to Adapters, and this one is called 'adapter'; got "
            + (shown(list(models)) if isinstance(models, Mapping) else type(models).__name__)
        )
    return {"adapter": adapter, **models}


def _has_names(series: Any) -> bool:
    r"""Whether the columns of what holds series have names of the caller's."""
    entries = series if isinstance(series, list | tuple) else [series]
    kinds = (str, Path, Dataset, Panel)
    return bool(len(entries)) and all(isinstance(entry, kinds) or hasattr(entry, "columns") for entry in entries)


def _roles(panel: Panel) -> tuple[Sequence[str], Sequence[str], Sequence[str], bool]:
    r"""What gave the columns of a panel their roles: target, past and known covariates, calendar."""
    return list(panel.targets), list(panel.past_covariates), list(panel.given), bool(panel.calendar)


def _assigned(fitted: Panel, later: Panel) -> Panel:
    r"""Gives the columns of later rows the roles that they had in the fit."""
    target, past, known, calendar = _roles(fitted)
    later = as_fitted(later, fitted) if fitted.static else later
    return assign(later, target=target, past_covariates=past, known_covariates=known, calendar=calendar)


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "")


def _in_steps_of(fitted: Panel, later: Panel, *, given: bool) -> Panel:
    r"""Later rows under the name of the fitted frequency, which must be theirs: the same dates may have many names."""
    # A frequency that the caller gives means all its dates; one found in rows may mean less, as days from Monday to
    # Friday, which may be business days.
    if fitted.frequency is None or later.frequency is None:
        return later
    steps = later.frequency, fitted.frequency
    ours, theirs = (getattr(panel.items[0].index, "tz", None) for panel in (fitted, later))
    if ours is not None and theirs is None:
        raise ValueError(
            f"the adapter was fitted on dates in the time zone {ours}, and these dates have none: "
            f"frame.tz_localize({str(ours)!r}), or the zone that they are in"
        )
    if ours is None and theirs is not None:
        raise ValueError(
            f"the adapter was fitted on dates without a time zone, and these are in {theirs}: "
            "frame.tz_convert(zone).tz_localize(None), with the zone whose local time was fitted"
        )
    if ours != theirs:  # hours of the day are those of the fitted zone
        later = later.in_zone(ours)
    if later.frequency == fitted.frequency:
        return later
    for item in later.items:
        rows = max(len(item), 60) if given or len(item) == 1 else len(item)
        dates = [calendar(item.index[0], step, periods=rows, unit="ns") for step in steps]
        if not np.array_equal(dates[0].asi8, dates[1].asi8):
            raise ValueError(
                f"expected rows of the fitted frequency, {fitted.frequency!r}, got {later.frequency!r}: "
                "resample them, or fit another adapter"
            )
    return replace(later, frequency=fitted.frequency)


def _trained(family: AdapterModule) -> bool:
    r"""Whether a family has parameters that gradients find."""
    with seeded(0):
        probe = family.build(max(1, family.latents))
    return not probe.closed_form and any(parameter.requires_grad for parameter in probe.parameters())


def _check_training(training: Mapping[str, Any], family: AdapterModule, said: str = "") -> None:
    r"""Checks options of training by gradient, and that there is any for them to be of."""
    for name, value in training.items():
        if name != "objective" and not 0 < checks.real(value) <= 1000:
            raise ValueError(
                f"Adapter expects {name} to be a positive number, 1000 at most, got {said}{name}={shown(value)}"
            )
    if not training:
        return
    from .training.objectives import Objective

    Objective(training.get("objective", family.objective), training.get("horizon_weights", 1.0))
    if not _trained(family):
        name, value = next(iter(training.items()))
        raise ValueError(
            f"{said}{name}={shown(value)}{', which' if said else ''} is for training by gradient, and nothing trains "
            f"{_one_line(family)} by gradient: leave it out"
        )


def _check_trainer_options(options: object) -> None:
    if options is None:
        return
    if not isinstance(options, Mapping):
        raise ValueError(f"Adapter expects trainer_options to be a mapping of names to values, got {shown(options)}")
    if options:
        from lightning.pytorch import Callback, Trainer

        known = list(inspect.signature(Trainer.__init__).parameters)[1:]
        for name in options:
            if name not in known:
                raise unknown("option of lightning.pytorch.Trainer", name, known)
        given = options.get("callbacks")
        each = given if isinstance(given, list | tuple) else [] if given is None else [given]
        if not all(isinstance(callback, Callback) for callback in each):
            raise ValueError(f"Adapter expects callbacks in trainer_options to be Lightning's, got {shown(given)}")
    said = "Adapter expects trainer_options"
    precision = options.get("precision")
    kinds = ("64", "64-true", "bf16-true", "16-true", "transformer-engine", "transformer-engine-float16")
    if isinstance(precision, str | int) and str(precision) in kinds:
        raise ValueError(
            f"{said} to leave weights in single precision, got precision={precision!r}: use precision='bf16-mixed'"
        )
    for name, unfit in (("limit_val_batches", 0), ("barebones", True)):
        if isinstance(options.get(name), int | float) and options[name] == unfit:
            raise ValueError(
                f"{said} that validate, for the best epoch is kept, got {name}={options[name]!r}: leave it out, or "
                "pass max_epochs for a shorter training"
            )
    if isinstance(options.get("overfit_batches"), int | float) and options["overfit_batches"]:
        raise ValueError(
            f"{said} that validate on windows of their own, got overfit_batches={options['overfit_batches']!r}: "
            "use limit_train_batches"
        )
    every, epochs = options.get("check_val_every_n_epoch"), options.get("max_epochs", 20)
    if isinstance(every, int) and isinstance(epochs, int) and every > epochs > 0:
        raise ValueError(
            f"{said} that validate, for the best epoch is kept, got check_val_every_n_epoch={every} of {epochs} "
            f"epochs: pass check_val_every_n_epoch={epochs} or less"
        )


def _check_support(support: Any) -> None:
    for bounds in [] if support is None else support.values() if isinstance(support, Mapping) else [support]:
        low, high = map(checks.real, _pair(bounds) or (math.nan, math.nan))
        if not low < high:
            raise ValueError(
                "Adapter expects support=(low, high) of two numbers with low < high, infinite where there is no bound, "
                f"or a mapping of channels to such, got {shown(support)}"
            )


def _check_borders(borders: Any, panel: Panel) -> None:
    clocks = [item.clock() if panel.frequency is not None else np.arange(len(item)) for item in panel.items]
    rows = len(np.unique(np.concatenate(clocks)))
    pair = _pair(borders)
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


def _pair(value: Any) -> tuple[Any, Any] | None:
    r"""The two members of a tuple, a list or an array; None of anything else."""
    several = isinstance(value, tuple | list) or (isinstance(value, np.ndarray) and value.ndim == 1)
    return (value[0], value[1]) if several and len(value) == 2 else None


def _alike(one: Any, other: Any) -> bool:
    r"""Whether two values of an option are the same."""
    if one is other:
        return True
    try:
        return bool(np.all(one == other))
    except Exception:  # arrays of unlike shapes, or objects that cannot be compared
        return False


def _warn_of_another(model: FoundationModel) -> None:
    logger.warning(
        "%s has other weights than the foundation model that the adapter was fitted around: its forecasts are "
        "corrected for another model's errors", model.name,
    )  # fmt: skip


def _one_line(value: object) -> str:
    return " ".join(repr(value).split())


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
    _check_support(bounds)
    low, high = np.array([bounds[name] for name in channels], dtype=float).T
    return low, high


def _frame(values: np.ndarray, index: pd.Index[Any], channels: Sequence[str]) -> pd.DataFrame:
    return pd.DataFrame(values, index=index, columns=list(channels))
