r"""Rolling-origin backtests: models beside the frozen model and the baselines, on windows held back."""

from __future__ import annotations

__all__ = ["Backtest", "beside", "count_stages", "format_table", "roll", "score_table"]

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
from .rolling import before, held_back, rolling_windows, varying
from .tables import (
    BATCH,
    WINDOW_SCORES,
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
USUAL = (FROZEN, "last value", "seasonal naive")  # beside every adapter unless others are asked for
KNOWN = (FROZEN, *BASELINES)

_FIT_WINDOWS = 2000  # of the fit part, for the errors of the baselines
_MOST_SAMPLES = 2**14  # of which scores compare each with each
_MOST_DRAWN = 2**28  # numbers drawn at a time: 2 GiB
_MOST_KEPT = 2**32  # bytes of quantiles that the forecasts of one backtest may take


@dataclass(frozen=True)
class Backtest:
    r"""A backtest with what its figures were made of.

    Arguments:
        frame: The tidy scores: model, channel, lead_block, metric, value.
        windows: The windows held back, in order of time.
        scores: The scores of each model by metric, of each cell, with shape :math:`(n, H, D)`, and of each window
            where they are of the joint law, with shape :math:`(n,)`; with the randomised "pit" of each cell.
        adapters: The adapters fitted on the rows before the windows, by name.
        stride: The number of rows from one origin to the next.
        forecasts: Of each model the forecasts of the windows, in their order, if they were asked for.
    """

    frame: pd.DataFrame
    windows: Windows
    scores: dict[str, dict[str, Tensor]]
    adapters: dict[str, Adapter]
    stride: int
    forecasts: dict[str, list[Forecast]] | None = None

    @property
    def adapter(self) -> Adapter:
        r"""The first of the adapters."""
        return next(iter(self.adapters.values()))

    @property
    def pits(self) -> dict[str, Tensor]:
        r"""The randomised PITs of each model, with shape (n, H, D); NaN for a channel that never changes."""
        return {model: scores["pit"] for model, scores in self.scores.items()}

    def by_lead(self, metric: str = "crps") -> dict[str, Tensor]:
        r"""The mean score of each lead over windows, and then over channels.

        Arguments:
            metric: A score of single cells, such as "crps" or "coverage_80".

        Returns:
            The scores of each model, with shape :math:`(H,)`.

        Raises:
            ValueError: If there is no such score of single cells.
        """
        cells = {name for scores in self.scores.values() for name, x in scores.items() if x.ndim == 3} - {"pit"}
        checks.choice("score by lead", metric, sorted(cells))
        return {model: scores[metric].nanmean(0).nanmean(-1) for model, scores in self.scores.items()}

    def differences(
        self, against: str = FROZEN, metrics: Sequence[str] | None = None, level: float = 0.9
    ) -> pd.DataFrame:
        r"""The differences of all models' scores to those of one, with intervals.

        See `difference_table`, which tells how.

        Arguments:
            against: The model that the others are compared to.
            metrics: The metrics; all that are means over windows if None.
            level: The probability that an interval covers.

        Returns:
            A tidy frame: model, against, channel, metric, difference, low, high; below zero, the model scores lower.

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
    checkpoint_dir: str | Path | None = None,
    on_progress: Callable[[str], None] | None = None,
) -> Backtest:
    r"""Fits clones of adapters on the rows before the first origin, rolls over the rest, and scores.

    Held back is what `windows` origins need; without it the test rows of a data set with borders, or else the last
    fifth of the rows. The items of a dated panel are cut at the same date; those that end too early for a window behind
    it are fitted on and not scored, which a warning tells. Without a `stride`, origins are about :math:`H` rows apart,
    so that each row is forecast once; closer where that gives fewer than 20 of them, farther where it gives more than
    200. The stride is the nearest number to that which has no common factor with the season, so that windows begin at
    every hour of the day, and not all at the one at which the first does: 23 for 24 hours ahead.

    All models are fitted on the same rows and scored on the same windows with the same seed. The first of them says
    how far contexts reach back where an item begins late, what scores are divided by, and which frozen model stands
    beside it.

    A channel that never changes, neither in the fit part nor in what is held back, has no calibration to measure: its
    coverages, PIT-ECE, PIT-KS and their floors are NaN, and left out of the mean over channels.

    Arguments:
        models: The adapter, called "adapter" in the frame, or several by name; they are cloned and stay as they are.
        series: The series, as a panel or a data set with borders.
        windows: The number of origins, counted from the end.
        stride: The number of rows from one origin to the next; about :math:`H` if None, as told above.
        scale: "train" divides scores by the population standard deviation of the fit part, "none" by nothing.
        baselines: Whether to score the frozen model, the last value and the seasonal naive as well; or the names of
            those to score, among "frozen model", "last value", "seasonal naive", "drift", "nlinear" and "var" (which
            needs statsmodels), or "all".
        refit: Whether to fit the adapters again before every origin, on all rows before it in time, which they then cut
            into parts as they do without borders. The baselines learn from the rows before the first.
        season_length: The season of the seasonal naive and of the default stride; the data set's, or one that goes with
            the frequency, if None.
        num_samples: The number of samples of the sample scores.
        seed: The seed of the samples and of what randomises PITs.
        forecasts: Whether to keep the forecasts of all models.
        checkpoint_dir: A folder that keeps what is finished (fits, and the scores of some windows at a time). A
            backtest that was ended, however it was, goes on from there when it is called again with the same series
            and options, to the same numbers; models and baselines may be added.
        on_progress: Called with the name of each stage as it begins.

    Returns:
        The scores, with windows, PITs, the fitted adapters, and the forecasts if they were asked for.

    Raises:
        ValueError: If an option makes no sense, the series is too short, a channel is called "all", the forecasts
            would take too much memory, or the folder holds another backtest.
    """
    named, others = _named(models), _beside(baselines)
    horizon = next(iter(named.values())).prediction_length
    _require_series(series, named, others)
    _require_options(series, int(horizon), windows, stride, season_length, scale, num_samples)
    checks.seed(seed)
    checks.flag("a backtest expects refit", refit)
    checks.flag("a backtest expects forecasts", forecasts)
    if on_progress is not None and not callable(on_progress):
        raise ValueError(f"a backtest expects on_progress to be a function of a text, got {shown(on_progress)}")
    tell = on_progress or (lambda stage: None)
    stated = season_length or (None if isinstance(series, Panel) else series.season_length)
    of_rows = stated or guess_season((series if isinstance(series, Panel) else series.panel).frequency)
    panel, firsts, stride = held_back(series, horizon, windows, stride, of_rows)
    entire, panel = panel, panel.select(panel.targets)  # scores and baselines see no covariates
    require_names(panel.channels)
    if forecasts:
        _require_memory(panel, firsts, stride, horizon, len(named) + len(others))

    asked = {"windows": windows, "stride": stride, "scale": scale, "refit": refit, "season_length": season_length,
             "num_samples": num_samples, "seed": seed, "first model": next(iter(named))}  # fmt: skip
    facts = {} if checkpoint_dir is None else {**_facts(series, entire), "option": asked}
    with Checkpoints(checkpoint_dir, facts) as checkpoints, cached_forecasts():
        contestants = {
            name: _Contestant(name, adapter, series, entire, firsts, stride, refit, checkpoints, tell)
            for name, adapter in named.items()
        }
        for name, contestant in contestants.items():
            tell("fit" if len(named) == 1 else f"fit {name}")
            contestant.fit()
        first = next(iter(contestants.values())).fitted
        test = rolling_windows(panel, firsts, windows, stride, first.context_length_, horizon)
        step = (test.origin - np.asarray(firsts)[test.item]) // stride
        test, step = test[np.argsort(step, kind="stable")], np.sort(step)
        _tell_unscored(test)
        if len(test) == 0:
            raise ValueError("there is no value to score in the rows held back: all targets are missing")
        laws: dict[str, _Laws] = {name: contestant.law for name, contestant in contestants.items()}
        season = season_length or first.season_length_ or guess_season(panel.frequency)
        past = max(first.context_length_, 2 * season)  # a short context must not cost the naive forecast its season
        for name in others:
            laws[name] = _frozen(first) if name == FROZEN else _baseline(name, season, panel, firsts, past, horizon)
        scoring = _Scoring(
            test, step, contestants, checkpoints, refit, forecasts, num_samples, seed,
            first.location_, first.scale_ if scale == "train" else np.ones_like(first.scale_), varying(panel),
        )  # fmt: skip
        before_each = replace(test, context_length=horizon + 1).past(torch.float64)  # (n, H + 1, D)
        scored: dict[str, dict[str, Tensor]] = {}
        kept: dict[str, list[Forecast]] = {}
        for name, law in laws.items():
            tell(f"score {name}")
            found, kept[name] = scoring.score(name, law)
            scored[name] = with_regimes(found, before_each)
        frames = [summarise(name, found, test.time, panel.channels) for name, found in scored.items()]
        adapters = {name: contestant.fitted for name, contestant in contestants.items()}
        frame = pd.concat(frames, ignore_index=True)
        return Backtest(frame, test, scored, adapters, stride, kept if forecasts else None)


@dataclass
class _Scoring:
    r"""What forecasts are scored on, batch by batch; finished batches are kept."""

    test: Windows
    step: np.ndarray
    contestants: Mapping[str, _Contestant]
    checkpoints: Checkpoints
    refit: bool
    forecasts: bool
    num_samples: int
    seed: int
    location: np.ndarray
    scale: np.ndarray
    varies: np.ndarray

    def score(self, name: str, law: _Laws) -> tuple[dict[str, Tensor], list[Forecast]]:
        r"""The scores of all windows by one model, and its forecasts where they are asked for."""
        generator = torch.Generator().manual_seed(self.seed)
        needed = {*WINDOW_SCORES, "law.values"} if self.forecasts else {*WINDOW_SCORES}
        parts, kept = [], []
        for at in _batches(self.step, self.refit):
            piece = _file(f"score {name} {at.start}")
            held = self.checkpoints.read(piece)
            if held is None or not needed <= held[0].keys():
                tensors = self._scored(name, law(int(self.step[at.start]), self.test[at]), at, generator)
                self.checkpoints.keep(piece, tensors)
            else:
                tensors = held[0]
                generator.set_state(tensors[_STATE])
            parts.append({metric: x for metric, x in tensors.items() if "." not in metric})
            if self.forecasts:
                kept += self._forecasts(name, tensors, at)
        return joined(parts), kept

    def _scored(self, name: str, law: JointDistribution, at: slice, generator: torch.Generator) -> dict[str, Tensor]:
        r"""The scores of a batch, with its forecasts where they are asked for, and where the generator stands."""
        part = window_scores(
            law, self.test[at].future(torch.float64), location=self.location, scale=self.scale, varies=self.varies,
            num_samples=self.num_samples, generator=generator,
        )  # fmt: skip
        bands = self.contestants[name].bands if name in self.contestants else JointBands()
        return {**part, **(_tensors(law, bands) if self.forecasts else {}), _STATE: generator.get_state()}

    def _forecasts(self, name: str, tensors: Mapping[str, Tensor], at: slice) -> list[Forecast]:
        r"""The forecasts of a batch, as a user sees them."""
        joint, windows = (_law(tensors), _bands(tensors)), self.test[at]
        notices = tuple(self.contestants[name].latest.summary().notices) if name in self.contestants else ()
        return [
            replace(_forecast(windows, *joint, n, self.num_samples, self.seed + at.start + n), notices=notices)
            for n in range(len(windows))
        ]


def _require_series(series: object, named: Mapping[str, Adapter], others: Sequence[str]) -> None:
    r"""Checks what is scored, and that no model has the name of a baseline beside it."""
    from ..data.cards import Dataset

    if not isinstance(series, Panel | Dataset):
        raise ValueError(
            f"roll expects a Panel or a Dataset, got {type(series).__name__}: Panel.of(series) makes one of what is in "
            "memory, adapts.data.cards.read of a file or a data card"
        )
    for name in named:
        if name in others:
            raise ValueError(f"a model is called {name!r}, as a baseline beside it is: give it another name")


def _require_options(
    series: Panel | Dataset, horizon: int, windows: object, stride: object, season_length: object, scale: object,
    num_samples: object,
) -> None:  # fmt: skip
    r"""Checks the numbers of a backtest."""
    if not isinstance(scale, str) or scale not in ("train", "none"):
        raise ValueError(f"a backtest expects scale to be 'train' or 'none', got {shown(scale)}")
    checks.integer("a backtest expects windows", windows, none=True)
    checks.integer("a backtest expects stride", stride, none=True)
    checks.integer("a backtest expects season_length", season_length, most=checks.LONGEST, none=True)
    width = (series if isinstance(series, Panel) else series.panel).num_channels
    most = max(2, min(_MOST_SAMPLES, _MOST_DRAWN // (BATCH * horizon * width)))
    checks.integer("a backtest expects num_samples", num_samples, least=2, most=most)


def beside(adapter: Adapter, models: Mapping[str, Adapter] | None) -> dict[str, Adapter]:
    r"""Return the models of a backtest by name, the adapter first.

    Arguments:
        adapter: The adapter whose backtest it is, called "adapter".
        models: Further adapters, by name.

    Raises:
        ValueError: If the models are no mapping, or one has the adapter's name.
    """
    models = {} if models is None else models
    if not isinstance(models, Mapping) or "adapter" in models:
        raise ValueError(
            "backtest expects models to map names to Adapters, and this one is called 'adapter'; got "
            + (shown(list(models)) if isinstance(models, Mapping) else type(models).__name__)
        )
    return {"adapter": adapter, **models}


def count_stages(
    models: Adapter | Mapping[str, Adapter], baselines: bool | str | Sequence[str] = True, *, refit: bool = False
) -> int | None:
    r"""Counts the stages that `roll` tells of: of each model its fit and its scores, of each baseline its scores.

    Arguments:
        models: As for `roll`.
        baselines: As for `roll`.
        refit: As for `roll`; how many origins there are is not known beforehand.

    Returns:
        The number, None if it is not known.

    Raises:
        ValueError: If a baseline is unknown, or the models are none.
    """
    checks.flag("a backtest expects refit", refit)
    return None if refit else 2 * len(_named(models)) + len(_beside(baselines))


_Laws = Callable[
    [int, Windows], JointDistribution
]  # of windows of one origin (without refit: of any), by the number of the origin
_STATE = "generator.state"  # among the tensors of a piece; those of scores have no dot


@dataclass
class _Contestant:
    r"""An adapter under test, fitted on the rows before the first origin, or before each."""

    name: str
    adapter: Adapter
    series: Panel | Dataset
    panel: Panel
    firsts: list[int]
    stride: int
    refit: bool
    checkpoints: Checkpoints
    tell: Callable[[str], None]

    def fit(self, number: int = 0) -> None:
        r"""Fits a clone on the rows before an origin."""
        rows = before(self.series, self.panel, [first + number * self.stride for first in self.firsts])
        if number > 0 and not isinstance(rows, Panel):
            rows = replace(rows, borders=None)
        folder = self.checkpoints.path(_file(f"fit {self.name} {number}"))
        clone = self.adapter.clone()
        fitted = clone.fit(rows) if folder is None else clone.fit(rows, checkpoint_dir=folder)
        if number == 0:
            self.fitted = fitted
        self.latest, self.number = fitted, number

    def law(self, number: int, windows: Windows) -> JointDistribution:
        if self.refit and number != self.number:
            self.tell(f"fit {self.name}, origin {number + 1}")
            self.fit(number)
        own = replace(windows, panel=self.panel, context_length=self.latest.context_length_)  # as `predict` looks back
        return self.latest.joint_distribution(own)

    @property
    def bands(self) -> JointBands:
        r"""The joint bands of the latest fit, as `predict` hands them out."""
        fitted = getattr(self.latest, "fitted_", None)
        return JointBands() if fitted is None else fitted.joint_bands


def _frozen(adapter: Adapter) -> _Laws:
    return lambda number, windows: adapter.zero_shot_distribution(windows)


def _baseline(name: str, season: int, panel: Panel, firsts: Sequence[int], past: int, horizon: int) -> _Laws:
    r"""A baseline's laws; it is fitted when the first of them is asked for."""

    @cache
    def fitted() -> Baseline:
        part = Split("fit", tuple((0, stop) for stop in np.clip(firsts, 0, panel.lengths).tolist()))
        windows = split_windows(panel, part, context_length=past, prediction_length=horizon, max_windows=_FIT_WINDOWS)
        return BASELINES[name](season).fit(windows)

    return lambda number, windows: fitted().joint_distribution(replace(windows, context_length=past))


def _named(models: Adapter | Mapping[str, Adapter]) -> dict[str, Adapter]:
    r"""The adapters by name, all of one prediction length."""
    named = dict(models) if isinstance(models, Mapping) else {"adapter": models}
    if not named:
        raise ValueError("a backtest expects an Adapter, or a mapping of names to Adapters, got an empty one")
    for name, model in named.items():
        if (
            not isinstance(name, str)
            or isinstance(model, type)
            or not callable(getattr(model, "zero_shot_distribution", None))
        ):
            what = f"{model.__name__}, which is a class" if isinstance(model, type) else type(model).__name__
            where = f" for {shown(name)}" if isinstance(models, Mapping) else ""
            raise ValueError(f"a backtest expects an Adapter, or a mapping of names to Adapters, got {what}{where}")
    lengths = {name: model.prediction_length for name, model in named.items()}
    if len(set(lengths.values())) > 1:
        said = ", ".join(f"{name!r} {length}" for name, length in lengths.items())
        raise ValueError(f"models are scored on the same windows, but their prediction_length differs: {said}")
    return named


def _beside(baselines: bool | str | Sequence[str]) -> list[str]:
    r"""The names of the baselines asked for."""
    if isinstance(baselines, bool):
        return list(USUAL) if baselines else []
    if not isinstance(baselines, str | Sequence):
        raise ValueError(f"a backtest expects baselines to be True, False or names, got {shown(baselines)}")
    for name in (asked := [baselines] if isinstance(baselines, str) else baselines):
        checks.choice("baseline", name, (*KNOWN, "all"))
    names = list(KNOWN) if "all" in asked else list(dict.fromkeys(asked))
    if "var" in names:
        VAR()  # what is not installed is told before any work
    return names


def _batches(step: np.ndarray, refit: bool) -> Iterator[slice]:
    r"""Cuts windows in order of their origin's number into batches; with refit, none holds two origins."""
    starts = np.flatnonzero(np.diff(step, prepend=-1)).tolist() if refit else [0]
    for start, stop in zip(starts, [*starts[1:], len(step)], strict=True):
        for at in slices(stop - start):
            yield slice(start + at.start, min(start + at.stop, stop))


def _forecast(
    windows: Windows, law: JointDistribution, bands: JointBands, place: int, num_samples: int, seed: int
) -> Forecast:
    r"""The forecast of one of some windows."""
    panel, origin, horizon = windows.panel, int(windows.origin[place]), windows.prediction_length
    item = panel.items[windows.item[place]]
    tail = slice(max(0, origin - 4 * horizon), origin)
    return Forecast(
        item_id=item.item_id,
        index=item.index[origin : origin + horizon],
        channels=panel.channels,
        frequency=panel.frequency,
        joint_distribution=law[place],
        num_samples=num_samples,
        seed=seed,  # another for each window, the same for all models
        history=pd.DataFrame(item.values[tail].copy(), item.index[tail], list(panel.channels)),
        bands=bands,
    )


def _tell_unscored(windows: Windows) -> None:
    r"""Warns of items without a window."""
    items = windows.panel.items
    absent = [items[number].item_id for number in sorted(set(range(len(items))) - set(windows.item.tolist()))]
    if absent and len(absent) < len(items):
        named = ", ".join(absent[:8]) + (f" and {len(absent) - 8} more" if len(absent) > 8 else "")
        logger.warning(
            "%d of %d items are not scored, for no window of theirs is held back: %s", len(absent), len(items), named
        )


def _require_memory(panel: Panel, firsts: Sequence[int], stride: int, horizon: int, models: int) -> None:
    r"""Checks that the forecasts to be kept fit into memory."""
    rows = np.asarray(panel.lengths) - np.maximum(firsts, 0) - horizon
    windows = int((rows[rows >= 0] // stride + 1).sum())
    size = models * windows * horizon * panel.num_channels * len(LEVELS) * 8
    if size > _MOST_KEPT:
        raise ValueError(
            f"the forecasts of {windows} windows by {models} models would take {size / 2**30:.1f} GB, at most "
            f"{_MOST_KEPT / 2**30:.0f} GB are kept: ask for fewer windows or a longer stride, or for the scores alone"
        )


def _facts(series: Panel | Dataset, panel: Panel) -> dict[str, Any]:
    r"""What the numbers of any backtest depend on beside its options and its models, whose fits tell theirs."""
    data = hashlib.sha256()
    for item in panel.items:
        clock = np.asarray(item.index) if panel.frequency is None else item.clock()
        data.update(f"{item.item_id} {item.values.shape} {getattr(item.index, 'tz', None)}".encode())
        data.update(clock.tobytes() + item.values.tobytes())
    return {
        "versions": {"adapts": __version__, "torch": str(torch.__version__)},
        "data": {
            "sha256": data.hexdigest(),
            **panel.roles(),
            "frequency": panel.frequency,
            "borders": None if isinstance(series, Panel) or series.borders is None else list(series.borders),
        },
    }


def _file(name: str) -> str:
    r"""A name as a file may bear it."""
    return quote(name, safe=" ")


def _tensors(law: JointDistribution, bands: JointBands) -> dict[str, Tensor]:
    r"""What a law and its joint bands are made of."""
    marginals = law.marginals
    support = {} if marginals.support is None else dict(zip(("law.low", "law.high"), marginals.support, strict=True))
    copula = {f"copula.{name}": x for name, x in law.copula.state().items()}
    parts = {} if law.parts is None else {f"parts.{name}": x for name, x in law.parts.state().items()}
    outcomes = {f"bands.{name}": x for name, x in bands.state().items()}
    return {"law.levels": marginals.levels, "law.values": marginals.values, **support, **copula, **parts, **outcomes}


def _law(tensors: Mapping[str, Tensor]) -> JointDistribution:
    r"""The law made of what `_tensors` returned."""
    support = (tensors["law.low"], tensors["law.high"]) if "law.low" in tensors else None
    marginals = QuantileFunction(tensors["law.levels"], tensors["law.values"], support)
    state = {name.removeprefix("copula."): x for name, x in tensors.items() if name.startswith("copula.")}
    parts = {name.removeprefix("parts."): x for name, x in tensors.items() if name.startswith("parts.")}
    return JointDistribution(marginals, Copula.from_state(state), VarianceParts(**parts) if parts else None)


def _bands(tensors: Mapping[str, Tensor]) -> JointBands:
    r"""The joint bands made of what `_tensors` returned."""
    state = {name.removeprefix("bands."): x for name, x in tensors.items() if name.startswith("bands.")}
    return JointBands.from_state(state)
