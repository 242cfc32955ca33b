r"""Rolling-origin backtests: models against the frozen model and baselines, on held-out windows."""

from __future__ import annotations

__all__ = ["Backtest", "count_stages", "format_table", "roll", "score_table", "with_models"]

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from .. import checks
from .._logging import get_logger
from .._version import __version__
from ..calibration.joint_bands import JointBands
from ..copulas.base import Copula
from ..data.frequency import season_length as guess_season
from ..data.panel import Panel
from ..data.splits import Split
from ..data.windows import Windows, split_windows
from ..distribution.joint import JointDistribution
from ..distribution.levels import LEVELS
from ..distribution.quantile_function import QuantileFunction
from ..distribution.variance import VarianceParts
from ..errors import shown
from ..forecast.forecast import Forecast
from ..foundation.cache import cached_forecasts
from ..persistence.checkpoints import Checkpoints
from .baselines import BASELINES, VAR, Baseline
from .differences import difference_table
from .rolling import hold_out, naive_errors, rolling_windows, rows_before, varying
from .tables import (
    BATCH,
    CELL_SCORES,
    REGIMES,
    WINDOW_SCORES,
    cell_mean,
    format_table,
    joined,
    require_names,
    score_table,
    slices,
    summarise,
    window_scores,
    with_regimes,
)

if TYPE_CHECKING:
    from ..adapter import Adapter
    from ..data.cards import Dataset

logger = get_logger(__name__)

FROZEN = "frozen model"
JOINT = "joint frozen model"  # with all channels in one group
DEFAULT_BASELINES = (FROZEN, "last value", "seasonal naive")  # the default baselines
ALL_BASELINES = (FROZEN, JOINT, *BASELINES)

_FIT_WINDOWS = 2000  # maximum number of windows for the residuals of the baselines
_MOST_SAMPLES = 2**14  # maximum number of samples, as scores compare all pairs
_MOST_DRAWN = 2**28  # maximum number of elements drawn at a time: 2 GiB
_MOST_BYTES = 2**32  # maximum size of the quantiles of the stored forecasts


@dataclass(frozen=True)
class Backtest:
    r"""A backtest: mean scores, and the window scores behind them.

    Arguments:
        frame: The tidy scores: model, channel, lead_block, metric, value.
        windows: The held-out windows, in order of time.
        scores: The scores of each model by metric: of cells, with shape :math:`(n, H, D)`, and of the joint
            distribution of each window, with shape :math:`(n,)`; with the randomised "pit" of each cell. For "wape",
            the absolute errors and, as "wape_weight", the absolute values whose sums it divides.
        adapters: The adapters fitted on the rows before the windows, by name.
        stride: The number of rows from one origin to the next.
        forecasts: The forecasts of each model in the order of the windows, if requested.
    """

    frame: pd.DataFrame
    windows: Windows
    scores: dict[str, dict[str, Tensor]]
    adapters: dict[str, Adapter]
    stride: int
    forecasts: dict[str, list[Forecast]] | None = None

    @property
    def adapter(self) -> Adapter:
        r"""Return the first adapter."""
        return next(iter(self.adapters.values()))

    @property
    def pits(self) -> dict[str, Tensor]:
        r"""Return the randomised PITs of each model, with shape (n, H, D); NaN for a constant channel."""
        return {model: scores["pit"] for model, scores in self.scores.items()}

    def by_lead(self, metric: str = "crps") -> dict[str, Tensor]:
        r"""Return the mean score of each horizon step (lead time), over windows and then over channels.

        Arguments:
            metric: A score of cells, such as "crps" or "coverage_80".

        Returns:
            The scores of each model, with shape :math:`(H,)`.

        Raises:
            ValueError: If there is no such score of cells.
        """
        checks.choice("score by lead", metric, sorted((*CELL_SCORES, *REGIMES)))
        return {model: cell_mean(scores, metric, 0).nanmean(-1) for model, scores in self.scores.items()}

    def differences(
        self, against: str = FROZEN, metrics: Sequence[str] | None = None, level: float = 0.9
    ) -> pd.DataFrame:
        r"""Return the differences of all models' scores to those of one model, with confidence intervals.

        `difference_table` describes the method.

        Arguments:
            against: The model that the others are compared to.
            metrics: The metrics; if None, all that are means over windows.
            level: The nominal coverage of the intervals.

        Returns:
            A tidy frame: model, against, channel, metric, difference, low, high. A negative difference means that the
            model scores lower.

        Raises:
            ValueError: If a model or metric is unknown, or the level lies outside (0, 1).
        """
        return difference_table(self.scores, self.windows, against=against, metrics=metrics, level=level)


def roll(
    models: Adapter | Mapping[str, Adapter],
    series: Panel | Dataset,
    *,
    windows: int | None = None,
    stride: int | None = None,
    scale: str = "train",
    baselines: bool | str | Sequence[str] = True,
    refit: bool = False,
    season_length: int | None = None,
    num_samples: int = 100,
    seed: int = 0,
    forecasts: bool = False,
    time_limit: float | None = None,
    checkpoint_dir: str | Path | None = None,
    on_progress: Callable[[str], None] | None = None,
) -> Backtest:
    r"""Fit clones of adapters on the rows before the first origin, and score them at rolling origins.

    The rows of `windows` origins are held out. If it is None, these are the test rows of a data set with borders, else
    the last fifth of the rows. The items of a dated panel are split at the same date. Items that end too early for a
    window after it are used for fitting but not scored, with a warning. Without a `stride`, origins are about :math:`H`
    rows apart, so that each row is forecast once. They are closer if there would be fewer than 20, and further apart if
    more than 200. The stride is the nearest number coprime to the season, so that windows begin at every hour of the
    day: 23 for 24 hours ahead.

    All models are fitted on the same rows and scored on the same windows with the same seed. The first model determines
    the context length at the start of an item, the scale of the scores, and the frozen model to compare with.

    A constant channel has no calibration to measure. Its coverages, PIT-ECE, PIT-KS and their floors are NaN, and left
    out of the mean over channels. So is the MASE of a channel without a seasonal naive error to divide by: it is
    constant on the rows before the first origin, or these rows span no season. The WAPE is NaN where all observed
    values are zero.

    Arguments:
        models: The adapter, called "adapter" in the frame, or several by name. They are cloned, not changed.
        series: The series, as a panel or a data set with borders.
        windows: The number of origins, counted from the end.
        stride: The number of rows from one origin to the next; if None, about :math:`H`, as described above.
        scale: "train" divides scores by the population standard deviation of the rows of the fit, "none" by nothing.
            MASE and WAPE have units of their own.
        baselines: Whether to score the frozen model, the last value and the seasonal naive as well. Or the names of the
            baselines, among "frozen model", "last value", "seasonal naive", "drift", "nlinear", "dlinear" and "var"
            (which requires statsmodels), or "all".
        refit: Whether to refit the adapters before every origin, on all earlier rows, which they then split as without
            borders. The baselines are fitted once, on the rows before the first origin.
        season_length: The season length of the seasonal naive, of the MASE and of the default stride; if None, that of
            the data set, or one derived from the frequency.
        num_samples: The number of samples for scores that are computed from samples.
        seed: The seed of the samples and of randomised PITs.
        forecasts: Whether to return the forecasts of all models.
        time_limit: The seconds that each fit may take, as for `Adapter.fit`.
        checkpoint_dir: A folder for finished work (fits, and the scores of batches of windows). An interrupted backtest
            resumes there if called again with the same series and options, with the same results. Models and baselines
            may be added.
        on_progress: A function called with the name of each stage as it begins.

    Returns:
        The scores, with windows, PITs, the fitted adapters, and the forecasts if requested.

    Raises:
        ValueError: If an option is invalid, the series is too short, a channel is called "all", the forecasts would
            take too much memory, or the folder holds another backtest.
    """
    named = _named(models)
    baseline_names = _baseline_names(baselines, next(iter(named.values())))
    horizon = next(iter(named.values())).prediction_length
    _require_series(series, named, baseline_names)
    _require_options(series, int(horizon), windows, stride, season_length, scale, num_samples)
    checks.seed(seed)
    checks.flag("a backtest expects refit", refit)
    checks.flag("a backtest expects forecasts", forecasts)
    checks.time_limit(time_limit)
    if on_progress is not None and not callable(on_progress):
        raise ValueError(f"a backtest expects on_progress to be a function of a text, got {shown(on_progress)}")
    report = on_progress or (lambda stage: None)
    stated_season = season_length or (None if isinstance(series, Panel) else series.season_length)
    stride_season = stated_season or guess_season((series if isinstance(series, Panel) else series.panel).frequency)
    panel, firsts, stride = hold_out(series, horizon, windows, stride, stride_season)
    with_covariates, panel = panel, panel.select(panel.targets)  # scores and baselines see no covariates
    require_names(panel.channels)
    if forecasts:
        _require_memory(panel, firsts, stride, horizon, len(named) + len(baseline_names))

    options = {"windows": windows, "stride": stride, "scale": scale, "refit": refit, "season_length": season_length,
             "num_samples": num_samples, "seed": seed, "first model": next(iter(named)),
             **({} if time_limit is None else {"time_limit": time_limit})}  # fmt: skip
    facts = {} if checkpoint_dir is None else {**_facts(series, with_covariates), "option": options}
    with Checkpoints(checkpoint_dir, facts) as checkpoints, cached_forecasts():
        evaluated = {
            name: _EvaluatedModel(
                name, adapter, series, with_covariates, firsts, stride, refit, time_limit, checkpoints, report
            )
            for name, adapter in named.items()
        }
        for name, model in evaluated.items():
            report("fit" if len(named) == 1 else f"fit {name}")
            model.fit()
        first = next(iter(evaluated.values())).fitted
        test = rolling_windows(panel, firsts, windows, stride, first.context_length_, horizon)
        step = (test.origin - np.asarray(firsts)[test.item]) // stride
        test, step = test[np.argsort(step, kind="stable")], np.sort(step)
        _warn_unscored(test)
        if len(test) == 0:
            raise ValueError("the held-out rows have no value to score: all targets are missing")
        forecasters: dict[str, _Forecaster] = {name: model.forecast for name, model in evaluated.items()}
        season = season_length or first.season_length_ or guess_season(panel.frequency)
        past = max(first.context_length_, 2 * season)  # the seasonal naive needs a season
        for name in baseline_names:
            forecasters[name] = (
                _zero_shot(first, joint=name == JOINT)
                if name in (FROZEN, JOINT)
                else _baseline(name, season, panel, firsts, past, horizon)
            )
        scoring = _Scoring(
            test, step, evaluated, checkpoints, refit, forecasts, num_samples, seed,
            first.location_, first.scale_ if scale == "train" else np.ones_like(first.scale_), varying(panel),
            naive_errors(panel, firsts, season),
        )  # fmt: skip
        before_each = replace(test, context_length=horizon + 1).past(torch.float64)  # (n, H + 1, D)
        scores: dict[str, dict[str, Tensor]] = {}
        stored: dict[str, list[Forecast]] = {}
        for name, forecaster in forecasters.items():
            report(f"score {name}")
            of_windows, stored[name] = scoring.score(name, forecaster)
            scores[name] = with_regimes(of_windows, before_each)
        frames = [summarise(name, of_windows, test.time, panel.channels) for name, of_windows in scores.items()]
        adapters = {name: model.fitted for name, model in evaluated.items()}
        frame = pd.concat(frames, ignore_index=True)
        return Backtest(frame, test, scores, adapters, stride, stored if forecasts else None)


@dataclass
class _Scoring:
    r"""Scores forecasts batch by batch, and stores finished batches."""

    test: Windows
    step: np.ndarray
    evaluated: Mapping[str, _EvaluatedModel]
    checkpoints: Checkpoints
    refit: bool
    forecasts: bool
    num_samples: int
    seed: int
    location: np.ndarray
    scale: np.ndarray
    varies: np.ndarray
    naive_errors: np.ndarray  # (N, D)

    def score(self, name: str, forecaster: _Forecaster) -> tuple[dict[str, Tensor], list[Forecast]]:
        r"""Return one model's scores of all windows, and its forecasts if requested."""
        generator = torch.Generator().manual_seed(self.seed)
        needed = {*WINDOW_SCORES, "law.values"} if self.forecasts else {*WINDOW_SCORES}
        scores, forecasts = [], []
        for batch in _batches(self.step, self.refit):
            key = _file_name(f"score {name} {batch.start}")
            checkpoint = self.checkpoints.read(key)
            if checkpoint is None or not needed <= checkpoint[0].keys():
                distribution = forecaster(int(self.step[batch.start]), self.test[batch])
                tensors = self._scored(name, distribution, batch, generator)
                self.checkpoints.keep(key, tensors)
            else:
                tensors = checkpoint[0]
                generator.set_state(tensors[_STATE])
            scores.append({metric: x for metric, x in tensors.items() if "." not in metric})
            if self.forecasts:
                forecasts += self._forecasts(name, tensors, batch)
        return joined(scores), forecasts

    def _scored(
        self, name: str, distribution: JointDistribution, batch: slice, generator: torch.Generator
    ) -> dict[str, Tensor]:
        r"""Return the scores of a batch, its forecasts if requested, and the state of the generator."""
        scores = window_scores(
            distribution, self.test[batch].future(torch.float64), location=self.location, scale=self.scale,
            varies=self.varies, num_samples=self.num_samples, generator=generator,
            naive_error=self.naive_errors[self.test.item[batch]],
        )  # fmt: skip
        bands = self.evaluated[name].bands if name in self.evaluated else JointBands()
        return {**scores, **(_tensors(distribution, bands) if self.forecasts else {}), _STATE: generator.get_state()}

    def _forecasts(self, name: str, tensors: Mapping[str, Tensor], batch: slice) -> list[Forecast]:
        r"""Return the forecasts of a batch."""
        joint, windows = (_distribution(tensors), _bands(tensors)), self.test[batch]
        notices = tuple(self.evaluated[name].latest.summary().notices) if name in self.evaluated else ()
        return [
            replace(_forecast(windows, *joint, n, self.num_samples, self.seed + batch.start + n), notices=notices)
            for n in range(len(windows))
        ]


def _require_series(series: object, named: Mapping[str, Adapter], baselines: Sequence[str]) -> None:
    r"""Check the type of the series, and that no model has the name of a requested baseline."""
    from ..data.cards import Dataset

    if not isinstance(series, Panel | Dataset):
        raise ValueError(
            f"roll expects a Panel or a Dataset, got {type(series).__name__}: convert data in memory with "
            "Panel.of(series), and read a file or a data card with adapts.data.cards.read"
        )
    for name in named:
        if name in baselines:
            raise ValueError(f"a model has the name of the baseline {name!r}: give it another name")


def _require_options(
    series: Panel | Dataset, horizon: int, windows: object, stride: object, season_length: object, scale: object,
    num_samples: object,
) -> None:  # fmt: skip
    r"""Check the options of a backtest."""
    if not isinstance(scale, str) or scale not in ("train", "none"):
        raise ValueError(f"a backtest expects scale to be 'train' or 'none', got {shown(scale)}")
    checks.integer("a backtest expects windows", windows, none=True)
    checks.integer("a backtest expects stride", stride, none=True)
    checks.integer("a backtest expects season_length", season_length, most=checks.LONGEST, none=True)
    width = (series if isinstance(series, Panel) else series.panel).num_channels
    most = max(2, min(_MOST_SAMPLES, _MOST_DRAWN // (BATCH * horizon * width)))
    checks.integer("a backtest expects num_samples", num_samples, least=2, most=most)


def with_models(adapter: Adapter, models: Mapping[str, Adapter] | None) -> dict[str, Adapter]:
    r"""Return the models of a backtest by name, the adapter first.

    Arguments:
        adapter: The adapter of the backtest, called "adapter".
        models: Further adapters, by name.

    Raises:
        ValueError: If `models` is not a mapping, or one of them is called "adapter".
    """
    models = {} if models is None else models
    if not isinstance(models, Mapping) or "adapter" in models:
        raise ValueError(
            "backtest expects models to map names other than 'adapter' to Adapters, got "
            + (shown(list(models)) if isinstance(models, Mapping) else type(models).__name__)
        )
    return {"adapter": adapter, **models}


def count_stages(
    models: Adapter | Mapping[str, Adapter], baselines: bool | str | Sequence[str] = True, *, refit: bool = False
) -> int | None:
    r"""Count the stages that `roll` reports: fit and scores of each model, scores of each baseline.

    Arguments:
        models: As for `roll`.
        baselines: As for `roll`.
        refit: As for `roll`. The number of origins is unknown in advance.

    Returns:
        The number, None if unknown.

    Raises:
        ValueError: If a baseline is unknown, or there are no models.
    """
    checks.flag("a backtest expects refit", refit)
    named = _named(models)
    return None if refit else 2 * len(named) + len(_baseline_names(baselines, next(iter(named.values()))))


#: The joint distribution of windows, given the index of their origin (any without refit).
_Forecaster = Callable[[int, Windows], JointDistribution]
_STATE = "generator.state"  # a key of a checkpoint; keys of scores have no dot


@dataclass
class _EvaluatedModel:
    r"""An adapter under evaluation, fitted on the rows before the first origin, or before each origin."""

    name: str
    adapter: Adapter
    series: Panel | Dataset
    panel: Panel
    firsts: list[int]
    stride: int
    refit: bool
    time_limit: float | None
    checkpoints: Checkpoints
    report: Callable[[str], None]

    def fit(self, number: int = 0) -> None:
        r"""Fit a clone on the rows before an origin."""
        rows = rows_before(self.series, self.panel, [first + number * self.stride for first in self.firsts])
        if number > 0 and not isinstance(rows, Panel):
            rows = replace(rows, borders=None)
        folder = self.checkpoints.path(_file_name(f"fit {self.name} {number}"))
        clone = self.adapter.clone()
        options: dict[str, Any] = {"checkpoint_dir": folder, "time_limit": self.time_limit}
        fitted = clone.fit(rows, **{name: value for name, value in options.items() if value is not None})
        if number == 0:
            self.fitted = fitted
        self.latest, self.number = fitted, number

    def forecast(self, number: int, windows: Windows) -> JointDistribution:
        if self.refit and number != self.number:
            self.report(f"fit {self.name}, origin {number + 1}")
            self.fit(number)
        # The same context length as in `predict`.
        windows = replace(windows, panel=self.panel, context_length=self.latest.context_length_)
        return self.latest.joint_distribution(windows)

    @property
    def bands(self) -> JointBands:
        r"""Return the joint bands of the latest fit."""
        fitted = getattr(self.latest, "fitted_", None)
        return JointBands() if fitted is None else fitted.joint_bands


def _zero_shot(adapter: Adapter, *, joint: bool) -> _Forecaster:
    options = {"joint": True} if joint else {}
    return lambda number, windows: adapter.zero_shot_distribution(windows, **options)


def _baseline(name: str, season: int, panel: Panel, firsts: Sequence[int], past: int, horizon: int) -> _Forecaster:
    r"""Return the forecaster of a baseline, which is fitted on its first call."""

    @cache
    def fitted() -> Baseline:
        split = Split("fit", tuple((0, stop) for stop in np.clip(firsts, 0, panel.lengths).tolist()))
        windows = split_windows(panel, split, context_length=past, prediction_length=horizon, max_windows=_FIT_WINDOWS)
        return BASELINES[name](season).fit(windows)

    return lambda number, windows: fitted().joint_distribution(replace(windows, context_length=past))


def _named(models: Adapter | Mapping[str, Adapter]) -> dict[str, Adapter]:
    r"""Return the adapters by name, and check that their prediction lengths are equal."""
    named = dict(models) if isinstance(models, Mapping) else {"adapter": models}
    if not named:
        raise ValueError("a backtest expects an Adapter, or a mapping of names to Adapters, got an empty mapping")
    for name, model in named.items():
        if (
            not isinstance(name, str)
            or isinstance(model, type)
            or not callable(getattr(model, "zero_shot_distribution", None))
        ):
            given = f"{model.__name__}, which is a class" if isinstance(model, type) else type(model).__name__
            where = f" for {shown(name)}" if isinstance(models, Mapping) else ""
            raise ValueError(f"a backtest expects an Adapter, or a mapping of names to Adapters, got {given}{where}")
    lengths = {name: model.prediction_length for name, model in named.items()}
    if len(set(lengths.values())) > 1:
        listed = ", ".join(f"{name!r} {length}" for name, length in lengths.items())
        raise ValueError(f"models are scored on the same windows, but their prediction_length differs: {listed}")
    return named


def _baseline_names(baselines: bool | str | Sequence[str], adapter: Adapter) -> list[str]:
    r"""Return the names of the requested baselines; the joint mode is one where the adapter's frozen model has it."""
    if isinstance(baselines, bool) and not baselines:
        return []
    if not isinstance(baselines, bool | str | Sequence):
        raise ValueError(f"a backtest expects baselines to be True, False or names, got {shown(baselines)}")
    requested = DEFAULT_BASELINES if isinstance(baselines, bool) else baselines
    for name in (requested := [requested] if isinstance(requested, str) else requested):
        checks.choice("baseline", name, (*ALL_BASELINES, "all"))
    names = list(ALL_BASELINES) if "all" in requested else list(dict.fromkeys(requested))
    model = getattr(adapter, "model", None)  # anything with the methods of Adapter is scored, with a model or without
    joint = model is not None and model.members[0].joint_mode
    if joint and isinstance(baselines, bool):
        names.insert(1, JOINT)
    elif not joint and JOINT in names:
        names.remove(JOINT)
        if JOINT in requested:
            raise ValueError(f"the frozen model has no joint mode, got the baseline {JOINT!r}: leave it out")
    if "var" in names:
        VAR()  # fails early if statsmodels is missing
    return names


def _batches(step: np.ndarray, refit: bool) -> Iterator[slice]:
    r"""Split windows, sorted by origin, into batches; with refit, each batch has one origin."""
    starts = np.flatnonzero(np.diff(step, prepend=-1)).tolist() if refit else [0]
    for start, stop in zip(starts, [*starts[1:], len(step)], strict=True):
        for batch in slices(stop - start):
            yield slice(start + batch.start, min(start + batch.stop, stop))


def _forecast(
    windows: Windows, distribution: JointDistribution, bands: JointBands, index: int, num_samples: int, seed: int
) -> Forecast:
    r"""Return the forecast of one of several windows."""
    panel, origin, horizon = windows.panel, int(windows.origin[index]), windows.prediction_length
    item = panel.items[windows.item[index]]
    tail = slice(max(0, origin - 4 * horizon), origin)
    return Forecast(
        item_id=item.item_id,
        index=item.index[origin : origin + horizon],
        channels=panel.channels,
        frequency=panel.frequency,
        joint_distribution=distribution[index],
        num_samples=num_samples,
        seed=seed,  # differs by window, the same for all models
        history=pd.DataFrame(item.values[tail].copy(), item.index[tail], list(panel.channels)),
        bands=bands,
    )


def _warn_unscored(windows: Windows) -> None:
    r"""Warn of items without a window."""
    items = windows.panel.items
    absent = [items[number].item_id for number in sorted(set(range(len(items))) - set(windows.item.tolist()))]
    if absent and len(absent) < len(items):
        named = ", ".join(absent[:8]) + (f" and {len(absent) - 8} more" if len(absent) > 8 else "")
        logger.warning(
            "%d of %d items are not scored, as they have no held-out window: %s", len(absent), len(items), named
        )


def _require_memory(panel: Panel, firsts: Sequence[int], stride: int, horizon: int, models: int) -> None:
    r"""Check that the requested forecasts fit into memory."""
    rows = np.asarray(panel.lengths) - np.maximum(firsts, 0) - horizon
    windows = int((rows[rows >= 0] // stride + 1).sum())
    size = models * windows * horizon * panel.num_channels * len(LEVELS) * 8
    if size > _MOST_BYTES:
        raise ValueError(
            f"the forecasts of {windows} windows by {models} models would take {size / 2**30:.1f} GB, at most "
            f"{_MOST_BYTES / 2**30:.0f} GB are allowed: use fewer windows, a longer stride, or forecasts=False"
        )


def _facts(series: Panel | Dataset, panel: Panel) -> dict[str, Any]:
    r"""Return the facts that determine a backtest besides its options and models; fits record their own."""
    data = hashlib.sha256()
    for item in panel.items:
        times = np.asarray(item.index) if panel.frequency is None else item.clock()
        data.update(f"{item.item_id} {item.values.shape} {getattr(item.index, 'tz', None)}".encode())
        data.update(times.tobytes() + item.values.tobytes())
    return {
        "versions": {"adapts": __version__, "torch": str(torch.__version__)},
        "data": {
            "sha256": data.hexdigest(),
            **panel.roles(),
            "frequency": panel.frequency,
            "borders": None if isinstance(series, Panel) or series.borders is None else list(series.borders),
        },
    }


def _file_name(name: str) -> str:
    r"""Return a name quoted for use as a file name."""
    return quote(name, safe=" ")


def _tensors(distribution: JointDistribution, bands: JointBands) -> dict[str, Tensor]:
    r"""Return the tensors that define a joint distribution and its joint bands."""
    marginals = distribution.marginals
    support = {} if marginals.support is None else dict(zip(("law.low", "law.high"), marginals.support, strict=True))
    copula = {f"copula.{name}": x for name, x in distribution.copula.state().items()}
    parts = {} if distribution.parts is None else {f"parts.{name}": x for name, x in distribution.parts.state().items()}
    of_bands = {f"bands.{name}": x for name, x in bands.state().items()}
    return {"law.levels": marginals.levels, "law.values": marginals.values, **support, **copula, **parts, **of_bands}


def _distribution(tensors: Mapping[str, Tensor]) -> JointDistribution:
    r"""Restore the joint distribution from the result of `_tensors`."""
    support = (tensors["law.low"], tensors["law.high"]) if "law.low" in tensors else None
    marginals = QuantileFunction(tensors["law.levels"], tensors["law.values"], support)
    state = {name.removeprefix("copula."): x for name, x in tensors.items() if name.startswith("copula.")}
    parts = {name.removeprefix("parts."): x for name, x in tensors.items() if name.startswith("parts.")}
    return JointDistribution(marginals, Copula.from_state(state), VarianceParts(**parts) if parts else None)


def _bands(tensors: Mapping[str, Tensor]) -> JointBands:
    r"""Restore the joint bands from the result of `_tensors`."""
    state = {name.removeprefix("bands."): x for name, x in tensors.items() if name.startswith("bands.")}
    return JointBands.from_state(state)
