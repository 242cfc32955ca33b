r"""What `Adapter.fit` does with its rows, stage by stage, and what it leaves behind."""

from __future__ import annotations

__all__ = ["Found", "Shared", "fit", "validate"]

import copy
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .._logging import get_logger
from .._random import seeded
from ..adapters import AdapterModule, Evidence, make
from ..calibration.gate import contradicted, fit_gate
from ..calibration.joint_bands import JointBands, least_tail_scale
from ..calibration.recalibration import Recalibration
from ..calibration.tails import Tails
from ..copulas.base import Copula
from ..copulas.gaussian import fit_gaussian, fit_history
from ..copulas.independent import Independent
from ..copulas.normal_scores import completed
from ..copulas.rank import RankCopula, fit_empirical, fit_schaake
from ..copulas.selection import LAGS, choose_copula, mean_pinball
from ..covariate_effect import KnownEffect, foreseen, generalised_slopes, slopes, within_items
from ..data.marks import Marks
from ..data.panel import Panel
from ..data.roles import require_tellable
from ..data.scaling import extent, location_scale
from ..data.splits import PARTS, Part, split_parts
from ..data.times import Times
from ..data.windows import Windows, part_windows
from ..distribution.pits import Pits
from ..distribution.quantile_function import QuantileFunction
from ..foundation import FoundationModel
from ..imputation.cold_start import Kriging
from ..imputation.cross_channel import Coupling
from ..imputation.interpolation import short_gaps
from ..notices import collect
from ..persistence.checkpoints import Checkpoints
from ..pipeline import Pipeline, noise_ratio
from ..statistics.bootstrap import independent_windows, lead_blocks
from ..statistics.ridge import blocked_folds
from ..statistics.significance import choose
from .decision import Decision, Outcome, heard
from .fingerprint import fingerprint_of
from .fitted import Fitted

logger = get_logger(__name__)
#: The most numbers that the frozen model's forecasts of one part may take: 256 MB.
MAX_NUMBERS = 2**26
#: The windows of a part that dependence is fitted on, the calibration part's aside, and that covariates are tried on.
FEW = 300
#: The most known covariates that are tried as divisors.
MOST_RATIOS = 8
#: The numbers of quantile functions that the losses of covariates are computed of at a time.
TRIED = 2**18
#: The most windows that copulas are compared on, and the pairs of cells that these may hold together, eight aside.
COMPARED, NUMBERS = 60, 2**23
#: The share of outcomes on atoms of their laws from which on no correlation is taken for their dependence.
ATOMS = 0.25
#: Folds of the blocked cross-validation that chooses the strengths of closed forms.
FOLDS = 5
#: The contexts of one channel that are cut short, to find how many values are enough for the frozen model.
SHORT = 400
#: How many windows without overlap those of a part must be worth for its stage to decide anything.
ENOUGH = 8
#: How many it takes to tell how many values are few.
SOME = 2
#: The windows whose forecasts are kept together, and lost together when a fit is killed; at least one batch.
CHUNK = 64


def fit(
    panel: Panel,
    module: AdapterModule,
    model: FoundationModel,
    *,
    borders: tuple[int, int] | None,
    context_length: int,
    prediction_length: int,
    season_length: int | None,
    support: tuple[np.ndarray, np.ndarray],
    settings: Mapping[str, Any],
    checkpoint_dir: str | Path | None = None,
) -> Fitted:
    r"""Fits everything that stands around a frozen model, in order of time.

    Arguments:
        panel: The panel, in the caller's units.
        module: The built adapter.
        model: The frozen model.
        borders: The rows where train and validation rows end; see `split_parts`.
        context_length: The number of context steps :math:`L`.
        prediction_length: The number of target steps :math:`H`.
        season_length: The season's length, or None.
        support: The lowest and highest possible value of each channel.
        settings: The adapter's options.
        checkpoint_dir: The folder that keeps what is finished, so that a killed fit goes on; none if None.

    Returns:
        What was fitted.

    Raises:
        ValueError: If no train window has its targets inside the train rows, or the folder is another fit's, or holds
            what no fit wrote, or another process works in it.
    """
    options: dict[str, Any] = {
        "borders": borders, "context_length": context_length, "prediction_length": prediction_length,
        "season_length": season_length, "support": support, "settings": settings,
    }  # fmt: skip
    marks, given = Marks.of(panel), panel
    panel = marks.without(panel)
    said = []
    if panel.past_covariates:
        named = f"past {_few(panel.past_covariates)}: "
        if settings["gate"] and _tried_both_ways(panel, module, model, {}, **options).fitted.panel is not panel:
            panel, module = _without_past(panel, module, settings["seed"])
            said.append(named + "left out, for no gain is sure")
        else:
            said.append(named + "encoded beside the targets")
    stages = _begin(panel, module, model, checkpoint_dir=checkpoint_dir, **options)
    stages.said, fitted = said, stages.fitted
    fitted.marks = marks
    with stages.checkpoints:
        stages.run()
    scale = fitted.scale[: len(fitted.panel.targets)]
    found = marks.on(given)
    fitted.notices = collect(
        fitted.panel, found, fitted.support, scale, fitted.left_out, stages.laid, fitted.module.family
    )
    return fitted


def _without_past(panel: Panel, module: AdapterModule, seed: int) -> tuple[Panel, AdapterModule]:
    r"""The panel without past covariates, and a module as it would have been built for it."""
    with seeded(seed):
        fresh = make(module.family, module.options()).build(len(panel.targets))
    return panel.select((*panel.targets, *panel.known_covariates)), fresh


def _tried_both_ways(
    panel: Panel, module: AdapterModule, model: FoundationModel, shared: Shared, **options: Any
) -> _Stages:
    r"""The stages as trained with past covariates, if these surely make any target better on validation windows."""
    seed = options["settings"]["seed"]
    try:
        alone = _without_past(panel, module, seed)
    except ValueError:  # more latent channels than there are targets: it was meant for both
        return _trial(panel, module, model, shared, **options)
    without = _trial(*alone, model, shared, **options)
    windows = without.windows["validation"]
    if not len(windows):
        return without
    with seeded(seed):
        fresh = make(module.family, module.options()).build(module.channels)
    both = without, _trial(panel, fresh, model, shared, **options)
    losses = [mean_pinball(each.ungated[0], each.truth(each.windows["validation"])).nanmean(1) for each in both]
    chosen, _ = choose(torch.stack(losses), without.horizon, windows.time)  # of (2, n, D)
    return both[int(chosen.any())]


@dataclass
class Found:
    r"""What fits of several families to the same windows have in common: all that the frozen model says of them.

    Arguments:
        effect: What known covariates explain, and the words for it; None as long as nobody has looked.
        laws: The frozen model's laws by part, of the windows that are left when the effect is taken off.
        raw: The frozen model's law of the raw targets of the validation windows.
    """

    effect: tuple[KnownEffect, str] | None = None
    laws: dict[str, QuantileFunction] = field(default_factory=dict)
    raw: QuantileFunction | None = None


#: Some windows, and their law.
Outcomes = tuple[Windows, QuantileFunction]
#: What was found, by the columns that the adapter was shown.
Shared = dict[tuple[str, ...], Found]


def validate(
    panel: Panel, module: AdapterModule, model: FoundationModel, *, shared: Shared, **options: Any
) -> tuple[float, float]:
    r"""Fits the parameters alone, and scores the adapter on the validation windows; no later row is read.

    Covariates are used where `fit` would use them, which the train and validation rows tell.

    Arguments:
        panel: As for `fit`.
        module: As for `fit`.
        model: As for `fit`.
        shared: What was found in earlier calls with the same panel, frozen model and options, those of the family and
            of its training aside; what is found is added.
        **options: As for `fit`.

    Returns:
        Twice the quantile loss, a coarse CRPS, averaged over our levels, windows, leads and channels in units of the
        train rows: of the law that the gate would see, and of the frozen model's, which sees no covariates.

    Raises:
        ValueError: If there is no train or no validation window.
    """
    panel = Marks.of(panel).without(panel)
    tried = _tried_both_ways if panel.past_covariates and options["settings"]["gate"] else _trial
    return tried(panel, module, model, shared, **options).validate()


def _trial(panel: Panel, module: AdapterModule, model: FoundationModel, shared: Shared, **options: Any) -> _Stages:
    r"""The stages of a fit that is to be scored on the validation windows, and goes no further."""
    stages = _begin(panel, module, model, checkpoint_dir=None, **options)
    stages.found = shared.setdefault(panel.channels, Found())
    return stages


def _begin(
    panel: Panel,
    module: AdapterModule,
    model: FoundationModel,
    *,
    borders: tuple[int, int] | None,
    context_length: int,
    prediction_length: int,
    season_length: int | None,
    support: tuple[np.ndarray, np.ndarray],
    settings: Mapping[str, Any],
    checkpoint_dir: str | Path | None,
) -> _Stages:
    r"""Lays the windows of a fit and makes its stages ready."""
    if settings.get("probe_head") and model.untrained_head() is None:
        raise ValueError(f"probe_head=True is for models whose head is untrained, {model.name} is none: leave it out")
    require_tellable(panel)
    parts = split_parts(panel, borders=borders)
    targets, known = panel.select(panel.targets), panel.known_covariates
    seen = panel.select((*panel.targets, *panel.past_covariates))
    location, scale, constant = _units(seen, parts["train"])
    effect = KnownEffect.none(panel, lambda some: _rows(some, parts["train"])) if known else None
    fitted = Fitted(
        panel, context_length, season_length, support, location, scale, constant[: targets.num_channels], module,
        copula=Independent(prediction_length, targets.num_channels), recalibration=Recalibration.identity(),
        effect=effect,
    )  # fmt: skip
    numbers = prediction_length * seen.num_channels * len(model.quantile_levels)  # of one window's forecast
    most = min(settings["max_windows"], max(50, MAX_NUMBERS // numbers))
    laid = {  # whether a window has targets, the targets tell
        name: part_windows(
            targets, part, context_length=context_length, prediction_length=prediction_length,
            max_windows=most if name == "train" else (most + 1) // 2,  # of shorter parts, so denser
        )
        for name, part in parts.items()
    }  # fmt: skip
    windows = {name: replace(part, panel=panel) for name, part in laid.items()}
    if len(windows["train"]) == 0:
        raise ValueError(
            f"too short a series: no item has {prediction_length} train targets after as many steps of context; "
            f"about {3 * prediction_length} steps are needed for prediction_length={prediction_length}, "
            f"the longest item has {max(panel.lengths)}"
        )
    fitted.windows = {name: len(part) for name, part in windows.items()}
    fitted.spans = {name: span for name, part in parts.items() if (span := _span(panel, part))}
    fingerprint = {} if checkpoint_dir is None else fingerprint_of(fitted, model, borders, settings)
    checkpoints = Checkpoints(checkpoint_dir, fingerprint)
    return _Stages(fitted, model, parts["train"], windows, settings, checkpoints)


class _Stages:
    r"""The stages of one fit, in their order; each reads its own part of the windows."""

    def __init__(
        self,
        fitted: Fitted,
        model: FoundationModel,
        train_part: Part,
        windows: dict[str, Windows],
        settings: Mapping[str, Any],
        checkpoints: Checkpoints,
    ) -> None:
        self.checkpoints, self.stage = checkpoints, ""
        self.fitted, self.loaded, self.train_part, self.laid = fitted, model, train_part, windows
        self.said: list[str] = []  # of covariates, before the first stage
        self.found = Found()
        self.adapted_laws: dict[str, QuantileFunction] = {}
        self.some_laws: dict[str, QuantileFunction] = {}
        self.settings, self.seed = settings, int(settings["seed"])
        self.horizon = windows["train"].prediction_length
        self.blocks = lead_blocks(self.horizon)
        self.decided = settings["gate"] and fitted.module.family != "identity"
        self.channels = len(fitted.panel.targets)
        self.lay()

    def lay(self) -> None:
        r"""Makes the windows and rows that the adapter sees."""
        fitted = self.fitted
        fitted._standard, fitted._told, fitted.coupling, fitted.kriging = None, None, None, None
        panel = fitted.standardised(self.laid["train"]).panel
        self.rows = torch.as_tensor(_rows(panel, self.train_part), dtype=torch.float32)
        fitted.module.prepare(self.rows)
        if fitted.module.family != "identity":  # which is the frozen model, and leaves gaps and few values to it
            apart = torch.from_numpy(_rows(panel, self.train_part, apart=self.horizon))
            fitted.coupling = Coupling.fit(apart, self.horizon)
            ranges = zip(panel.items, self.train_part.ranges, strict=True)
            items = [torch.from_numpy(item.values[start:stop]) for item, (start, stop) in ranges]
            fitted.kriging = Kriging.fit(items, fitted.context_length, self.blocks, self.loaded.quantile_levels)
        self.lay_windows()

    def lay_windows(self) -> None:
        self.windows = {name: self.fitted.standardised(windows) for name, windows in self.laid.items()}

    def run(self) -> None:
        stages = (
            self.probe,
            self.covariates,
            self.few_values,
            self.train,
            self.gate,
            self.calibration,
            self.confirmation,
            self.refit,
        )
        done = self.done()
        for number, stage in enumerate(stages, 1):
            if number > done:
                self.stage = stage.__name__
                stage()
                self.keep(number)
            decision = self.fitted.decisions.get(stage.__name__)
            heard(stage.__name__, decision)
            if decision is not None:
                logger.info("%s: %s", stage.__name__, decision.reason)
        self.fitted.module.requires_grad_(False)
        self.checkpoints.finish(["stages"])

    def done(self) -> int:
        r"""How many stages are finished; what they left behind is taken up."""
        held = self.checkpoints.read("stages")
        if held is None:
            return 0
        tensors, about = held
        self.fitted.restore(tensors)
        if self.fitted.effect is not None:
            self.lay()  # without what is explained; the module shows itself the rows, so it comes back once more
            self.fitted.restore(tensors)
        self.lay_windows()
        self.fitted.decisions = {name: Decision(**each) for name, each in about["decisions"].items()}
        self.fitted.left_out = about["left_out"]
        return int(about["done"])

    def keep(self, done: int) -> None:
        r"""Keeps what the stages have left behind, and goes on from the very copies that would be read back."""
        tensors = self.fitted.state()
        self.fitted.restore(tensors)
        decisions = {name: asdict(each) for name, each in self.fitted.decisions.items()}
        about = {"done": done, "decisions": decisions, "left_out": self.fitted.left_out}
        self.checkpoints.keep("stages", tensors, about)

    @property
    def pipeline(self) -> Pipeline:
        settings = self.settings
        return self.fitted.pipeline(self.loaded, settings["batch_size"], self.seed, settings["posterior_draws"])

    @property
    def model(self) -> FoundationModel:
        r"""The frozen model, with its head as trained where it came without one."""
        return self.fitted.headed(self.loaded)

    # ------------------------------------------------------------------ train rows: the head

    def probe(self) -> None:
        if self.loaded.untrained_head() is None:
            return
        if self.settings.get("probe_head") is False:
            self.decide("probe", "skipped", "probe_head=False, the head stays as it came")
            return
        if not (self.enough("train", "probe") and self.enough("validation", "probe")):
            return
        from ..training.probing import probe

        self.fitted.head, losses = probe(
            self.loaded, self.windows["train"], self.windows["validation"], batch_size=self.settings["batch_size"],
            seed=self.seed,
        )  # fmt: skip
        self.decide(
            "probe", "kept",
            f"the head of {self.loaded.name} trained for {losses['epochs']:.0f} epochs; validation loss "
            f"{losses['before']:.4g} before, {losses['best']:.4g} at its best",
            **losses,
        )  # fmt: skip

    # ------------------------------------------------------------------ validation rows: how many values are few

    def few_values(self) -> None:
        r"""Finds from how many values on the frozen model is asked alone, on contexts cut short."""
        fitted, windows = self.fitted, self.windows["validation"]
        if fitted.kriging is None or not self.enough("validation", "few_values", SOME):
            return
        width = windows.panel.num_channels  # past covariates too
        some = replace(windows[_evenly(len(windows), max(1, SHORT // width))], told=None)
        past, future = (x.mT.flatten(0, 1) for x in (some.past(), some.future()))
        channel = torch.arange(width).repeat(len(some))
        few = torch.from_numpy(_evenly(len(past), SHORT))

        def forecast(context: Tensor) -> Tensor:
            return self.model.predict(context, self.horizon).mT

        fitted.kriging = fitted.kriging.handed_over(past[few], future[few], channel[few], forecast)
        self.decide(
            "few_values", "kept",
            f"of fewer than {fitted.kriging.enough} values of a channel, the train rows' correlations tell too",
            enough=fitted.kriging.enough,
        )  # fmt: skip
        self.lay_windows()

    # ------------------------------------------------------------------ train and validation rows: covariates

    def covariates(self) -> None:
        panel, said = self.fitted.panel, [*self.said]
        if self.fitted.effect is not None and self.enough("train", "covariates"):
            names = [*panel.given, "the calendar"] if panel.calendar else panel.given
            said.append(f"known {_few(names)}: {self.known()}")
            effect = self.fitted.effect
            if panel.given and panel.calendar and effect.used and not effect.reads[len(panel.given) :].any():
                said.append("the calendar: not used beside them, for no further gain is sure")
            if panel.static and not effect.tells_apart:
                said.append(f"static {_few(tuple(panel.static))}: not used, for no gain is sure")
        if said:
            used = (
                self.fitted.effect is not None and self.fitted.effect.used or len(self.fitted.panel.past_covariates) > 0
            )
            self.decide("covariates", "kept" if used else "rejected", "; ".join(said))

    def known(self) -> str:
        r"""Takes off what known covariates explain, as it was found before, or as it is found now; says what it is."""
        if self.found.effect is None:
            assert self.fitted.effect is not None
            said = self.regress(self.fitted.effect)
            self.found.effect = self.fitted.effect, said
        elif self.found.effect[0].used:
            self.fitted.effect = self.found.effect[0]
            self.lay()
        return self.found.effect[1]

    def regress(self, effect: KnownEffect) -> str:
        r"""Takes off each target what known covariates explain, where that surely helps; says where and how much."""
        fitted, train, later = self.fitted, self.laid["train"], self.laid["validation"]
        known = effect.standardised(fitted.panel)
        fold = self.folds(train)
        inside = np.flatnonzero(fold.numpy() >= 0)
        some = inside[_evenly(len(inside), FEW)]
        layers = self.candidates(effect, known, fold, some)
        candidates = [each for layer in layers for each in layer]
        few = later[_evenly(len(later), FEW)] if len(later) else later
        losses = torch.cat([
            self.tried(train[some], known, candidates, fold[some], effect),  # as found without their fold
            self.tried(few, known, candidates, torch.full((len(few),), -1), effect),
        ], 1)  # fmt: skip
        lowest = np.nanmin(_rows(fitted.panel.select(fitted.panel.targets), self.train_part), axis=0, initial=np.inf)
        negative = torch.from_numpy(lowest < 0)  # such targets are no ratios
        for number, candidate in enumerate(candidates, 1):
            if isinstance(candidate, int):
                losses[number][:, negative] = losses[0][:, negative]
        time = Times.joined([train[some].time, few.time])

        def surest(losses: Tensor) -> Tensor:
            chosen, _ = choose(losses, self.horizon, time)
            means = losses[:, len(some) :].nanmean(1)  # NaN without validation windows
            return torch.where(means.gather(0, chosen.unsqueeze(0))[0] >= means[0], 0, chosen)

        chosen, before = torch.zeros(self.channels, dtype=torch.long), 0
        for layer in filter(None, layers):
            best = losses.gather(0, chosen.expand(1, *losses.shape[1:]))
            better = surest(torch.cat([best, losses[1 + before : 1 + before + len(layer)]]))
            chosen, before = torch.where(better > 0, better + before, chosen), before + len(layer)
        if not bool(chosen.any()):
            return "not used, for no gain is sure"
        count = len(effect.names)
        used = [candidates[number - 1] for number in chosen.tolist() if number]
        width = max([count, *(each.shape[1] for each in used if isinstance(each, Tensor))])
        weights = np.zeros((width, self.channels))
        divisor, told = effect.divisor.copy(), []
        gains = 1 - losses.gather(0, chosen.expand(1, *losses.shape[1:]))[0].nanmean(0) / losses[0].nanmean(0)
        for number, name in enumerate(fitted.panel.targets):
            if not chosen[number]:
                continue
            candidate = candidates[int(chosen[number]) - 1]
            told.append(f"{name} {100 * float(gains[number]):.1f} %")
            if isinstance(candidate, int):
                divisor[number] = candidate
                told[-1] += f" (as a ratio to {effect.names[candidate]})"
                continue
            weights[: candidate.shape[1], number] = candidate[-1, :, number].numpy()
            if candidate.shape[1] > count:
                told[-1] += f" (apart by {_few(tuple(fitted.panel.static))})"
        fitted.effect = effect.with_slopes(weights, divisor)
        self.lay()
        return f"used for {len(told)} of {self.channels} channels; quantile loss lower by {_few(told)}"

    def candidates(self, effect: KnownEffect, known: Panel, fold: Tensor, some: np.ndarray) -> list[list[Tensor | int]]:
        r"""What each target may be given, in layers: slopes, perhaps of products too, or the covariate that divides."""
        # A layer is chosen from only where it is surely better than the best of those before, so that more to choose
        # from costs no gain: the given covariates, the calendar beside them, and items that differ.
        panel, train = self.fitted.panel, self.laid["train"]
        target, covariate = self.fitted.plain(train), replace(train, panel=known.select(effect.names))
        item, kind = torch.as_tensor(train.item), replace(train, panel=known.select(effect.static)).future()
        folds, count = int(fold.max()) + 1, len(effect.names)

        def seen(way: Callable[[Windows], Tensor], part: slice | np.ndarray) -> tuple[Tensor, Tensor]:
            x, y = (within_items(way(windows[part]), item[part]) for windows in (covariate, target))
            return x, y

        # What they add, seen in two ways: in distances from the context's mean, and in what the frozen model misses of
        # both, which is right where a target wanders. What they multiply has nothing to be found.
        above, missed = seen(self.above, slice(None)), seen(self.missed, some)
        all_told, told = torch.ones(count, dtype=torch.bool), ~foreseen(above[0], missed[0])
        ways = [
            (slopes, *above, all_told, kind, fold),
            (slopes, *missed, told, kind[some], fold[some]),
            (generalised_slopes, *missed, told, kind[some], fold[some]),
        ]

        surest, rest = ways[2:], ways[:2]

        def regressed(first: int, last: int, ways: list[Any], *, apart: bool) -> list[Tensor | int]:
            r"""The slopes of the covariates up to the last, in those ways that tell any of them from the first on."""
            found: list[Tensor | int] = []
            for solve, x, y, told, kind, which in ways:
                if not bool(told[first:last].any()):
                    continue
                x = effect.crossed(torch.cat([x, kind], -1)) if apart else x
                columns = [n for n in range(x.shape[-1]) if n % count < last and told[n % count]]  # and their products
                weights = torch.zeros(folds + 1, x.shape[-1], self.channels, dtype=torch.float64)
                weights[:, columns] = solve(x[..., columns], y, which, folds)
                found.append(weights)
            return found

        given = len(panel.given)
        sets = [(0, given), (given, count)] if panel.given and panel.calendar else [(0, count)]
        # The surest slopes come first: others may look better by the same chance that made them.
        layers = [
            [*regressed(*sets[0], surest, apart=False), *self.ratios(effect)],
            regressed(*sets[0], rest, apart=False),
        ]
        layers += [regressed(*of, ways, apart=False) for of in sets[1:]]
        if effect.static:  # a forecast of what is multiplied by a constant is multiplied by it
            layers.append([each for of in sets for each in regressed(*of, ways, apart=True)])
        return layers

    def ratios(self, effect: KnownEffect) -> list[int]:
        r"""The covariates that targets may be divided by: given ones that are never negative."""
        panel = self.fitted.panel
        lowest = np.nanmin(_rows(panel.select(panel.given), self.train_part), axis=0, initial=np.inf)
        return [n for n, low in enumerate(lowest) if low >= 0 and effect.location[n] > 0][:MOST_RATIOS]

    def above(self, windows: Windows) -> Tensor:
        r"""The steps ahead as distances from the context's mean, (n, H, D)."""
        parts = (windows[start : start + CHUNK] for start in range(0, len(windows), CHUNK))
        means = torch.cat([part.past().nanmean(1, keepdim=True) for part in parts])
        return windows.future() - means.nan_to_num(0.0)

    def missed(self, windows: Windows) -> Tensor:
        r"""The steps ahead as distances from the means of the frozen model's law, (n, H, D)."""
        # Of a binary covariate the median is 0 or 1: what is missed of it hangs on the past, and of the mean does not.
        missed = []
        for part in (windows[start : start + CHUNK] for start in range(0, len(windows), CHUNK)):
            law = self.pipeline.frozen(part)
            missed.append(part.future() - QuantileFunction(law.levels, law.values).mean)  # no bounds: covariates too
        return torch.cat(missed)

    def tried(
        self,
        windows: Windows,
        known: Panel,
        candidates: Sequence[Tensor | int],
        which: Tensor,
        effect: KnownEffect,
    ) -> Tensor:
        r"""The frozen model's quantile loss of each target, alone and around each candidate, (1 + k, n, D)."""
        # A candidate is either slopes, of covariates and perhaps of their products, or the covariate that divides.
        pipeline, levels = self.pipeline, torch.tensor(self.model.quantile_levels, dtype=torch.float32)
        offset = torch.from_numpy(self.fitted.location / self.fitted.scale)[: self.channels].float()
        target, covariate = self.fitted.plain(windows), replace(windows, panel=known)
        losses = [torch.zeros(1 + len(candidates), 0, self.channels, dtype=torch.float32)]
        step = max(1, min(CHUNK, TRIED // (self.horizon * self.channels)))
        for part in (slice(start, start + step) for start in range(0, len(windows), step)):
            past, future = target[part].past(), target[part].future()
            # Covariates that are missing for a short while leave the rows of the past unknown, as where the effect is
            # taken off; those of the future are always given, and say nothing where they are not.
            before, ahead, count = covariate[part].past(), covariate[part].future(), len(effect.names)
            short = short_gaps(before.mT.flatten(0, 1)).view_as(before.mT).mT[..., :count]
            absent = ahead.isnan()[..., :count]
            before, ahead = before.nan_to_num(0.0), ahead.nan_to_num(0.0)
            behind, onward = effect.crossed(before), effect.crossed(ahead)

            def lost(law: Tensor, future: Tensor = future) -> Tensor:
                return mean_pinball(QuantileFunction(levels, law, pipeline.support), future)

            alone = lost(pipeline.raw(past, self.horizon))
            each = [alone]
            for candidate in candidates:
                if isinstance(candidate, int):
                    unknown, untold = (some[..., candidate, None] for some in (short, absent))
                    over, under = (effect.ratio(c)[..., candidate, None] for c in (ahead, before))
                    rest = ((past + offset) / under).where(~unknown, torch.nan)
                    law = pipeline.raw(rest, self.horizon) * over.unsqueeze(-1) - offset.unsqueeze(-1)
                else:
                    weights, width = candidate[which[part]].float(), candidate.shape[1]  # (b, C, D)
                    reads = (weights.unflatten(1, (-1, count)) != 0).any(1).float()
                    unknown, untold = (some.float() @ reads > 0 for some in (short, absent))
                    rest = (past - behind[..., :width] @ weights).where(~unknown, torch.nan)
                    law = pipeline.raw(rest, self.horizon) + (onward[..., :width] @ weights).unsqueeze(-1)
                each.append(lost(law).where(~untold, alone))
            losses.append(torch.stack(each).nanmean(2))
        return torch.cat(losses, 1)

    # ------------------------------------------------------------------ train rows: parameters

    def train(self) -> None:
        module, windows = self.fitted.module, self.windows["train"]
        if module.closed_form:
            if self.enough("train", "train"):
                module.solve(self.evidence(["train"], self.folds(windows)), choose=True)
                self.decide("train", "kept", f"solved in closed form on {len(windows)} windows", windows=len(windows))
        elif any(parameter.requires_grad for parameter in module.parameters()):
            if self.enough("train", "train") and self.enough("validation", "train"):
                self.train_by_gradient()
        else:
            self.decide("train", "kept", "nothing to train")
        module.requires_grad_(False).eval()
        if module.mixes_channels:
            self.fitted.latent_copula = self.latent_dependence()

    def train_by_gradient(self) -> None:
        from ..training.module import AdapterTraining, train

        module, windows, settings = self.fitted.module, self.windows["train"], self.settings
        known: tuple[dict[str, Tensor], dict[str, Tensor]] = ({}, {})
        for part, about in zip(("train", "validation"), known, strict=True):
            if module.fixed_latents:
                about["latents"] = self.latent_quantiles(part)
            if module.needs_forecast or module.penalised:
                about["forecast"] = self.frozen(part).values[..., self.model.median_index]
        training = AdapterTraining(
            module, self.model, loss=settings["objective"] or module.objective,
            horizon_weights=settings["horizon_weights"] or 1.0, learning_rate=settings["learning_rate"] or 3e-3,
            windows=len(windows), seed=self.seed,
            copula=self.latent_dependence() if module.mixes_channels else None,
        )  # fmt: skip
        losses = train(
            training, windows, self.windows["validation"], batch_size=settings["batch_size"], seed=self.seed,
            known=known, options=dict(settings["trainer_options"] or {}), checkpoints=self.checkpoints,
        )  # fmt: skip
        module.eval()
        if module.unfinished:
            fold = torch.zeros(len(windows), dtype=torch.long)
            module.after_training(
                self.evidence(["train"], fold), self.medians, horizon_weights=settings["horizon_weights"] or 1.0
            )
        self.decide(
            "train", "kept",
            f"{losses['epochs']:.0f} epochs by gradient on {len(windows)} windows; validation loss "
            f"{losses['before']:.4g} before, {losses['best']:.4g} at its best",
            windows=len(windows), **losses,
        )  # fmt: skip

    def latent_dependence(self) -> Copula:
        r"""The joint law of the latent channels, from some of the train windows."""
        windows = self.windows["train"]
        return self.pipeline.fit_latent_copula(windows[_evenly(len(windows), FEW)])

    def medians(self, past: Tensor) -> Tensor:
        r"""The frozen model's median forecasts (b, H, K) of latent pasts (b, L, K), with gradients."""
        quantiles = self.model(past.mT.flatten(0, 1), self.horizon, unroll="median")  # (b*K, Q, H)
        median: Tensor = quantiles[:, self.model.median_index].unflatten(0, (len(past), -1)).mT
        return median

    # ------------------------------------------------------------------ validation rows: the gate

    def gate(self) -> None:
        if not self.decided:
            identity = self.fitted.module.family == "identity"
            why = "the family is the frozen model itself" if identity else "gate=False, the adapter stands alone"
            self.decide("gate", "skipped", f"none: {why}")
            return
        self.fitted.gate = torch.zeros(self.horizon, self.channels, dtype=torch.float32)
        if not self.enough("validation", "gate"):
            return
        windows = self.windows["validation"]
        adapter, frozen = self.both("validation")
        # The noise of the calibration rows is not known yet; that of these rows stands in for it here.
        self.fitted.noise = self.noise("train", "validation")
        gate = fit_gate(
            self.pipeline.noisy(windows, adapter), frozen, self.truth(windows), windows.time
        )  # fmt: skip
        self.fitted.gate = gate.values
        outcome: Outcome = "kept" if bool(gate.values.any()) else "rejected"
        self.decide("gate", outcome, gate.reason, gain=gate.gain, bound=gate.bound)

    def validate(self) -> tuple[float, float]:
        r"""Trains, and scores the law that `gate` sees and the frozen model's on the validation windows."""
        windows = self.windows["validation"]
        if len(windows) == 0:
            raise ValueError(
                f"too short a series: the validation rows hold no target of {self.horizon} steps, and nothing can be "
                "chosen on them"
            )
        laws, future = (self.ungated[0], self.raw()), self.truth(windows)
        ours, theirs = (2 * float(mean_pinball(law, future).nanmean()) for law in laws)
        return ours, theirs

    def raw(self) -> QuantileFunction:
        r"""The frozen model's law of the validation windows, of the raw targets alone."""
        windows = self.windows["validation"]
        if windows.shifts is None and windows.told is None:  # nothing taken off, nothing filled
            return self.ungated[1]
        if self.found.raw is None:
            self.found.raw = self.frozen_law("raw", self.fitted.plain(self.laid["validation"]))
        return self.found.raw

    @cached_property
    def ungated(self) -> tuple[QuantileFunction, QuantileFunction]:
        r"""Trains, and returns the law that `gate` sees and the frozen model's on the validation windows."""
        for stage in (self.probe, self.covariates, self.train):
            stage()
        windows = self.windows["validation"]
        adapter, frozen = self.both("validation")
        self.fitted.noise = self.noise("train", "validation")
        return self.pipeline.noisy(windows, adapter), frozen

    def noise(self, *parts: str) -> Tensor:
        r"""What variance the adapter's law lacks on some windows of some parts, those aside that it was fitted on."""
        if self.fitted.module.family == "identity":
            return torch.zeros(self.horizon, self.channels, dtype=torch.float32)
        windows, laws, futures = [], [], []
        for part in parts:
            if part == "train":
                told = self.untrained()
                if told is None:
                    continue
                some, law, _ = told
                future = self.truth(some).masked_fill(self.explained, torch.nan)
            else:
                few = _evenly(len(self.windows[part]), FEW)
                some, law = self.windows[part][few], self.both(part)[0][torch.from_numpy(few)]
                future = self.truth(some)
            windows.append(some)
            laws.append(law)
            futures.append(future)
        law = QuantileFunction(laws[0].levels, torch.cat([each.values for each in laws]), self.pipeline.support)
        spread = torch.cat([
            self.pipeline.spread(some).expand(len(some), -1 if some.factors is None else self.horizon, -1)
            for some in windows
        ])  # fmt: skip
        return noise_ratio(law, torch.cat(futures), spread, self.blocks, _times(windows))

    def untrained(self) -> tuple[Windows, QuantileFunction, QuantileFunction] | None:
        r"""Asks an adapter of train windows on which it was not fitted.

        Returns:
            Some train windows, the adapter's law without noise, and the frozen model's of all that the adapter sees;
            None where it was fitted on them.
        """
        module = self.fitted.module
        if self.crossable:
            return self.without_their_block
        trained = self.fitted.decisions["train"]
        if self.fitted.head or module.closed_form or trained.outcome == "skipped" or "epochs" in trained.figures:
            return None
        few = torch.from_numpy(_evenly(len(self.windows["train"]), FEW))
        windows, _ = self.some("train")
        frozen = self.some_laws["train"]
        if "some-train" not in self.adapted_laws:
            law = self.law_in_chunks(
                "adapted-some-train", len(few), lambda some: self.pipeline.adapted(windows[some], frozen[some])
            )
            self.adapted_laws["some-train"] = QuantileFunction(law.levels, law.values, self.pipeline.support)
        return windows, self.adapted_laws["some-train"], frozen

    # ------------------------------------------------------------------ calibration rows: noise, copula, levels

    def calibration(self) -> None:
        if not self.enough("calibration", "calibration"):
            self.dependence_alone()
            return
        windows = self.windows["calibration"]
        said = []
        if not self.pipeline.closed:
            self.fitted.noise = self.noise("train", "validation", "calibration")
            share = 100 * float(self.fitted.noise.mean())
            said.append(f"noise adds {share:.1f} % of the windows' variance on the mean")
        self.fitted.copula = self.copula()
        said.append(f"{self.settings['copula']} copula fitted on {len(windows)} windows")
        if self.settings["recalibration"] == "conformal":
            self.fitted.recalibration = Recalibration.conformal(self.pits(self.law("calibration"), windows).values)
            said[-1] += ", and conformal levels"
        self.decide("calibration", "kept", "; ".join(said), windows=len(windows))

    def dependence_alone(self) -> None:
        r"""Fits the copula where calibration rows are too few: it hardly needs them, and it is shrunk by itself."""
        time = self.errors[1]
        known = self.settings["copula"] in ("gaussian-history", "schaake")
        if known or independent_windows(time, self.horizon) >= ENOUGH:
            self.fitted.copula = self.copula()
            told = "the train rows" if known else f"the {len(time)} windows of all parts before the confirmation rows"
            self.add("calibration", f"{self.settings['copula']} copula fitted on {told}")

    def copula(self) -> Copula:
        r"""The dependence that was asked for."""
        named = self.settings["copula"]
        if named == "gaussian-history":
            return fit_history(self.target_rows, self.horizon)
        if named == "schaake":
            return fit_schaake(self.target_rows, self.horizon)
        if named == "independent":
            return Independent(self.horizon, self.channels)
        pits, time = self.errors
        if named == "empirical":
            return fit_empirical(pits)
        return fit_gaussian(pits, independent_windows(time, self.horizon))

    @property
    def target_rows(self) -> Tensor:
        return self.rows[:, : self.channels]

    @cached_property
    def errors(self) -> tuple[Pits, Times]:
        r"""The PITs of windows before the confirmation rows, and when these begin."""
        # The law's own on calibration rows; before them, where it was trained and gated, the frozen model's.
        windows, pits = [], []
        for part in ("train", "validation"):
            some, law = self.some(part)
            if law is not None:
                windows.append(some)
                pits.append(self.pits(law, some))
        if len(self.windows["calibration"]):
            windows.append(self.windows["calibration"])
            pits.append(self.pits(self.law("calibration"), windows[-1]))
        if not windows:
            nothing = torch.empty(0, self.horizon, len(self.fitted.panel.targets), dtype=torch.float32)
            return Pits.of(nothing), self.windows["train"][:0].time
        season = torch.cat([some.phase() for some in windows]) if self.fitted.recalibration.seasonal else None
        # Where a law misjudges an atom, its levels tell of the window that they are of, and not of the outcome.
        mapped = Pits.cat(pits).through(partial(self.fitted.recalibration.adapted, phase=season))
        return mapped, _times(windows)

    def told_apart(self, pits: Pits, time: Times) -> Tensor:
        r"""Ranks PITs (n, H, D) within their cells; those that are missing or on atoms are drawn given the others."""
        levels: Tensor = torch.special.ndtr(completed(pits, independent_windows(time, self.horizon)))
        return levels.float()

    def some(self, part: str) -> tuple[Windows, QuantileFunction | None]:
        r"""Some windows of the train or the validation part, and the frozen model's law of them; None without any."""
        some = _evenly(len(self.windows[part]), FEW)
        windows = self.windows[part][some]
        if not len(some):
            return windows, None
        if part in self.some_laws:
            return windows, self.pipeline.observed(windows, self.some_laws[part])
        solved = self.fitted.module.closed_form and self.fitted.module.observed_latents
        if solved if part == "train" else self.decided:  # by an earlier stage
            law = self.frozen(part)[torch.from_numpy(some)]
        else:
            law = self.frozen_law(f"some-{part}", windows)
        self.some_laws[part] = law
        return windows, self.pipeline.observed(windows, law)

    def pits(self, law: QuantileFunction, windows: Windows) -> Pits:
        return law.pits(self.truth(windows), torch.Generator().manual_seed(self.seed))

    def truth(self, windows: Windows) -> Tensor:
        return self.pipeline.truth(windows)

    # ------------------------------------------------------------------ confirmation rows: what stays

    def confirmation(self) -> None:
        self.look_again()
        fitted, said = self.fitted, []
        told = self.outcomes()
        if told and independent_windows(time := _times([some for some, _ in told]), self.horizon) >= ENOUGH:
            if self.settings["recalibration"] == "auto":
                told, tails = self.lengthened(told, independent_windows(time, self.horizon))
                said.append(tails)
            honest = self.honest(told)
            if self.settings["recalibration"] == "auto":
                said.append(f"recalibration {self.recalibrate(told, honest, time)}")
            self.band(told, honest, time)
            if fitted.recalibration.maps is not None and not isinstance(fitted.copula, Independent):
                vars(self).pop("errors", None)  # they were those of levels before their map
                fitted.copula = self.copula()
        elif self.settings["recalibration"] == "auto":
            fitted.left_out["recalibration"] = "the windows of all parts are too few"
        if self.settings["copula"] != "independent":
            if self.enough("confirmation", "confirmation"):
                windows = self.windows["confirmation"]
                law = fitted.recalibrated(self.law("confirmation"), windows)
                said.append(self.compare(law, windows))
            else:
                said.append(f"comparison of copulas {fitted.decisions['confirmation'].reason}")
                if self.settings["copula"] == "residual" and not isinstance(fitted.copula, Independent):
                    fitted.copula = Independent(self.horizon, self.channels)
                    said.append("independent copula kept, as no rows held back support another")
        outcome: Outcome = "skipped" if "confirmation" in fitted.left_out else "kept"
        self.decide("confirmation", outcome, "; ".join(said) or "nothing to confirm")

    def lengthened(self, told: list[Outcomes], worth: float) -> tuple[list[Outcomes], str]:
        r"""Fits the tails; the outcomes by laws that have them, and what was decided."""
        futures = [self.truth(some) for some, _ in told]
        futures[0] = futures[0].masked_fill(~self.foretold, torch.nan)
        law = QuantileFunction(told[0][1].levels, torch.cat([each.values for _, each in told]), self.pipeline.support)
        tails = self.fitted.tails = Tails.fit(law, torch.cat(futures), worth)
        if tails is None:
            return told, "tails as the outer quantiles tell them"
        low, high = tails.values.median(0).values.tolist()
        said = (
            f"tails of shape {low[0]:.2f} and {low[1]:.2f} times the scale below, {high[0]:.2f} and {high[1]:.2f} above"
        )
        if len(tails.values) > 1 and bool((tails.values != tails.values[0]).any()):
            said += " (medians over channels)"
        return [(some, tails.apply(each)) for some, each in told], said

    def recalibrate(self, told: Sequence[Outcomes], honest: Pits, time: Times) -> str:
        r"""Fits the map of the levels; says what was decided."""
        self.fitted.recalibration, said = Recalibration.chosen(
            honest, self.blocks, time, phase=torch.cat([some.phase() for some, _ in told]),
            phases=told[0][0].phases,
        )  # fmt: skip
        return said

    def band(self, told: Sequence[Outcomes], honest: Pits, time: Times) -> None:
        r"""Scores joint bands, under maps that did not see what is scored."""
        whole = 0 if bool(self.foretold.all()) else len(told[0][0])  # from which window on all channels are honest
        spans = [(np.arange(len(time)), self.fitted.recalibration)]
        if self.settings["recalibration"] == "auto" and self.fitted.recalibration.maps is not None:
            season = torch.cat([some.phase() for some, _ in told]) if self.fitted.recalibration.seasonal else None
            spans = Recalibration.crossed(
                honest, self.blocks, time, phase=season, phases=self.fitted.recalibration.phases
            )
        least = least_tail_scale(torch.cat([law.tail_scale for _, law in told]), time.item)
        reach, order, first = [], [], 0
        for some, law in told:
            for inside, maps in spans:
                mine = inside[(inside >= max(first, whole)) & (inside < first + len(some))] - first
                if len(mine):
                    windows = some[mine]
                    mapped = maps.apply(law[torch.from_numpy(mine)], windows.phase())
                    reach.append(mapped.reach(self.truth(windows), least))
                    order.append(first + mine)
            first += len(some)
        if order:
            later = sum(len(self.windows[part]) for part in ("calibration", "confirmation"))
            number = np.concatenate(order)
            dated = torch.from_numpy(np.lexsort((number, time[number])))
            self.fitted.bands = JointBands.fit(torch.cat(reach)[dated], least, memory=later)

    def honest(self, told: Sequence[Outcomes]) -> Pits:
        r"""The PITs (n, H, D) of `outcomes`; NaN on train rows in channels whose law was fitted on them."""
        pits = [self.pits(law, some) for some, law in told]
        pits[0] = pits[0].through(lambda levels: levels.where(self.foretold, torch.nan))
        return Pits.cat(pits)

    def outcomes(self) -> list[Outcomes]:
        r"""Takes some windows of each part, the train part first.

        Returns:
            The windows and their laws: on train rows that of a closed form solved without them, else the frozen
            model's.
        """
        told = []
        for part in PARTS:
            few = _evenly(len(self.windows[part]), FEW)
            if not len(few):
                continue
            if part == "train" and self.crossed:
                some, adapter, frozen = self.without_their_block
                told.append((some, self.pipeline.mixed(some, adapter, self.pipeline.observed(some, frozen))))
            elif part == "train" or (part == "validation" and self.frozen_alone):
                some, law = self.some(part)
                assert law is not None
                told.append((some, law))
            else:
                told.append((self.windows[part][few], self.law(part)[torch.from_numpy(few)]))
        return told

    @cached_property
    def without_their_block(self) -> tuple[Windows, QuantileFunction, QuantileFunction]:
        r"""Leaves each block of time out of a closed form.

        Returns:
            As `untrained`: some train windows, block by block, and the law of the closed form that was solved without
            the block that they lie in.
        """
        windows, frozen, pipeline = self.windows["train"], self.frozen("train"), self.pipeline
        fold = self.folds(windows)
        whole = self.evidence(["train"], fold)
        inside = (fold >= 0).nonzero().flatten()
        few = inside[torch.from_numpy(_evenly(len(inside), FEW))]
        order, laws = [], []
        for one in fold[few].unique():
            mine, rest = few[fold[few] == one], (fold >= 0) & (fold != one)
            module = copy.deepcopy(self.fitted.module)
            module.solve(Evidence(*(x[rest] for x in (whole.past, whole.future, whole.forecast, fold))), choose=False)
            laws.append(replace(pipeline, module=module).adapted(windows[mine.numpy()], frozen[mine]))
            order.append(mine)
        chosen = torch.cat(order)
        adapter = QuantileFunction(laws[0].levels, torch.cat([law.values for law in laws]), pipeline.support)
        return windows[chosen.numpy()], adapter, frozen[chosen]

    @property
    def frozen_alone(self) -> bool:
        r"""Whether the law is the frozen model's in all channels, as it came."""
        return not self.fitted.head and (self.fitted.module.family == "identity" or self.pipeline.closed)

    @property
    def crossable(self) -> bool:
        r"""Whether the adapter's law on train rows can be had of a closed form that did not see them."""
        module = self.fitted.module
        solved = module.closed_form and module.observed_latents and self.fitted.decisions["train"].outcome == "kept"
        return solved and not self.fitted.head

    @property
    def crossed(self) -> bool:
        r"""Whether the law on train rows is taken of a closed form that did not see them."""
        return self.crossable and not self.frozen_alone

    @property
    def explained(self) -> Tensor:
        r"""The channels (D,) of which covariates explain a part by slopes that were fitted on the train rows."""
        effect = self.fitted.effect
        if effect is None:
            return torch.zeros(self.channels, dtype=torch.bool)
        return torch.from_numpy(effect.weights.any(0))  # a ratio has no slopes

    @property
    def foretold(self) -> Tensor:
        r"""The channels (D,) whose law on train rows, as `outcomes` has it, was not fitted on them."""
        fitted = self.fitted
        if fitted.head:
            return torch.zeros(self.channels, dtype=torch.bool)
        if self.frozen_alone or self.crossed:
            alone = torch.ones(self.channels, dtype=torch.bool)
        else:
            alone = torch.zeros(self.channels, dtype=torch.bool) if fitted.gate is None else ~fitted.gate.any(0)
        return alone & ~self.explained

    def look_again(self) -> None:
        r"""Closes the gate in channels where the rows after those that it was fitted on speak against it."""
        fitted = self.fitted
        later = [part for part in ("calibration", "confirmation") if len(self.windows[part])]
        if fitted.gate is None or self.pipeline.closed or not later:
            return
        windows = [self.windows[part] for part in later]
        laws = [self.both(part) for part in later]
        noisy = [self.pipeline.noisy(some, adapter) for some, (adapter, _) in zip(windows, laws, strict=True)]
        adapter, frozen = (
            QuantileFunction(each[0].levels, torch.cat([law.values for law in each]), self.pipeline.support)
            for each in (noisy, [law for _, law in laws])
        )
        future = torch.cat([self.truth(some) for some in windows])
        closed = contradicted(fitted.gate, adapter, frozen, future, _times(windows))
        if not bool(closed.any()):
            return
        fitted.gate = fitted.gate * ~closed
        names = [name for name, shut in zip(fitted.panel.targets, closed.tolist(), strict=True) if shut]
        self.add(
            "gate",
            f"closed again in {len(names)} channels ({', '.join(names[:8])}{', ...' * (len(names) > 8)}), which the "
            "adapter makes worse on calibration and confirmation rows",
        )
        vars(self).pop("errors", None)  # they were those of the law before
        self.calibration()

    def compare(self, law: QuantileFunction, windows: Windows) -> str:
        r"""Keeps the copula that tells best what came true; says which, and by how much."""
        fitted, named, channels = self.fitted, self.settings["copula"], self.channels
        affordable = NUMBERS // (self.horizon * channels * (min(self.horizon, LAGS) + min(channels, LAGS)))
        candidates: dict[str, Copula] = {"independent": Independent(self.horizon, channels)}
        # Of outcomes that are mostly zero together or apart, ranks know more than any correlation does.
        if named != "residual" or float(self.errors[0].jumps.float().mean()) < ATOMS:
            candidates["kronecker" if named == "residual" else named] = fitted.copula
        if named == "residual":
            candidates["empirical"] = fit_empirical(self.errors[0])
        # Ranks, as the fits see them: margins that are too narrow would speak for independence.
        ranked = self.told_apart(self.pits(law, windows), windows.time)
        some = _evenly(len(windows), max(ENOUGH, min(COMPARED, affordable)))
        outcomes = ranked[torch.from_numpy(some)]
        told = law[torch.from_numpy(some)], self.truth(windows[some])
        chosen, gains = choose_copula(candidates, outcomes, told)
        fitted.copula = candidates[chosen]
        if named == "residual" and self.pipeline.tells_dependence:
            frozen = self.frozen("confirmation")[torch.from_numpy(some)]
            candidates["latent"] = self.pipeline.joint(windows[some], fitted.copula, frozen)[2]
            chosen, gains = choose_copula(candidates, outcomes, told)
        fitted.latent_ranks = chosen == "latent"
        if not fitted.latent_ranks:
            fitted.copula = candidates[chosen]
        sampled = any(isinstance(each, RankCopula) for each in candidates.values())
        listed = [
            f"{name} {100 * gain:+.1f} %" if sampled else f"{name} {gain:+.3g}"
            for name, gain in gains.items()
            if name != "independent"
        ]
        score = "joint score" if sampled else "log score a window"
        return f"{chosen} copula kept ({score} on {len(some)} windows against independence: {', '.join(listed)})"

    # ------------------------------------------------------------------ all rows: closed forms once more

    def refit(self) -> None:
        module = self.fitted.module
        if not module.closed_form or self.pipeline.closed or not self.enough("train", "refit"):
            return
        parts = [name for name in PARTS if len(self.windows[name])]
        module.solve(self.evidence(parts, torch.empty(0, dtype=torch.float32)), choose=False)
        count = sum(len(self.windows[name]) for name in parts)
        self.decide(
            "refit", "kept", f"solved again on the {count} windows of all parts, with the strengths chosen",
            windows=count,
        )  # fmt: skip

    # ------------------------------------------------------------------ shared

    def folds(self, windows: Windows) -> Tensor:
        r"""The block of time that each window lies in, (n,), -1 for those that straddle two."""
        time = windows.time
        return blocked_folds(torch.as_tensor(time.step), torch.as_tensor(time.item), self.horizon, FOLDS)

    def frozen(self, part: str) -> QuantileFunction:
        r"""The frozen model's law of a part, of all that the adapter sees; computed once."""
        laws = self.found.laws
        if part not in laws:
            laws[part] = self.frozen_law(f"frozen-{part}", self.windows[part])
        return laws[part]

    def frozen_law(self, name: str, windows: Windows) -> QuantileFunction:
        law = self.law_in_chunks(name, len(windows), lambda some: self.pipeline.frozen(windows[some]))
        return QuantileFunction(law.levels, law.values, self.pipeline.bounds(windows))

    def both(self, part: str) -> tuple[QuantileFunction, QuantileFunction]:
        r"""The adapter's law of a part, without noise, and the frozen model's; each computed once."""
        windows, frozen = self.windows[part], self.frozen(part)
        if part not in self.adapted_laws:
            law = self.law_in_chunks(
                f"adapted-{part}", len(windows), lambda some: self.pipeline.adapted(windows[some], frozen[some])
            )
            self.adapted_laws[part] = QuantileFunction(law.levels, law.values, self.pipeline.support)
        return self.adapted_laws[part], self.pipeline.observed(windows, frozen)

    def law(self, part: str) -> QuantileFunction:
        r"""The law of a part as far as it is fitted: noise and gate, levels not yet mapped."""
        windows, pipeline = self.windows[part], self.pipeline
        return (
            pipeline.observed(windows, self.frozen(part))
            if pipeline.closed
            else pipeline.mixed(windows, *self.both(part))
        )

    def evidence(self, parts: list[str], fold: Tensor) -> Evidence:
        r"""The windows of some parts with the forecasts of their latent channels: what a closed form is solved on."""
        windows = [self.windows[part] for part in parts]
        forecasts = [self.latent_quantiles(part)[..., self.model.median_index] for part in parts]
        past = torch.cat([self.pipeline.continued(some) for some in windows])
        future = torch.cat([some.future() for some in windows])
        return Evidence(past, future, torch.cat(forecasts), fold)

    def latent_quantiles(self, part: str) -> Tensor:
        r"""The frozen model's quantiles of a part's latent channels, (n, H, K, Q)."""
        if self.fitted.module.observed_latents:
            return self.frozen(part).values
        windows = self.windows[part]

        def compute(some: slice) -> dict[str, Tensor]:
            return {"values": self.pipeline.latent_quantiles(windows[some])}

        return torch.cat([piece["values"] for piece in self.in_chunks(f"{self.stage}-{part}", len(windows), compute)])

    def law_in_chunks(self, name: str, number: int, compute: Callable[[slice], QuantileFunction]) -> QuantileFunction:
        def tensors(some: slice) -> dict[str, Tensor]:
            law = compute(some)
            return {"levels": law.levels, "values": law.values}

        pieces = self.in_chunks(name, number, tensors)
        return QuantileFunction(pieces[0]["levels"], torch.cat([piece["values"] for piece in pieces]))

    def in_chunks(
        self, name: str, number: int, compute: Callable[[slice], dict[str, Tensor]]
    ) -> list[dict[str, Tensor]]:
        r"""What is computed of windows, some batches at a time, each kept as soon as it is there."""
        batch = int(self.settings["batch_size"])
        step = batch * max(1, CHUNK // batch)
        chunks = [slice(start, start + step) for start in range(0, number, step)]
        return [self.checkpoints.kept(f"{name}-{chunk.start}", partial(compute, chunk)) for chunk in chunks]

    def enough(self, part: str, stage: str, least: int = ENOUGH) -> bool:
        r"""Whether a part's windows hold enough to decide on; if not, says that the stage is left out."""
        windows = self.windows[part]
        worth = independent_windows(windows.time, self.horizon) if len(windows) else 0.0
        if worth >= least:
            return True
        why = f"the {len(windows)} windows of the {part} part are worth {worth:.1f} without overlap"
        self.fitted.left_out[stage] = why
        self.decide(stage, "skipped", f"left out: {why}, {least} are needed", worth=worth, needed=least)
        return False

    def decide(self, stage: str, outcome: Outcome, reason: str, **figures: float) -> None:
        r"""Writes down the decision of a stage."""
        self.fitted.decisions[stage] = Decision(
            outcome, reason, {name: float(each) for name, each in figures.items() if math.isfinite(each)}
        )

    def add(self, stage: str, reason: str) -> None:
        r"""Writes a further clause behind the reason of a stage's decision."""
        self.fitted.decisions[stage] = self.fitted.decisions[stage].and_then(reason)


def _few(names: Sequence[str]) -> str:
    r"""Names as a sentence holds them, at most eight."""
    return ", ".join(names[:8]) + f" and {len(names) - 8} more" * (len(names) > 8)


def _times(windows: Sequence[Windows]) -> Times:
    r"""When windows of several parts begin, one part after the other."""
    return Times.joined([some.time for some in windows])


def _evenly(number: int, most: int) -> np.ndarray:
    r"""Which of a number of windows to take, that lie evenly among all."""
    return np.linspace(0, number - 1, min(number, most)).round().astype(int)


def _span(panel: Panel, part: Part) -> dict[str, Any]:
    r"""The first and the last row of a part over all items, and how many rows it has; nothing where it has none."""
    ranges = [(item.index, *rows) for item, rows in zip(panel.items, part.ranges, strict=True) if rows[0] < rows[1]]
    if not ranges:
        return {}
    first, last = min(index[start] for index, start, _ in ranges), max(index[stop - 1] for index, _, stop in ranges)
    return {"first": str(first), "last": str(last), "rows": sum(stop - start for _, start, stop in ranges)}


def _units(panel: Panel, train: Part) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    r"""Location and scale over the train rows, and whether each channel is constant over all rows; (D,) each."""
    whole, rows = panel.concatenated[0], _rows(panel, train)
    location, scale = location_scale(rows)
    (low, high), (least, most) = extent(rows), extent(whole)
    constant: np.ndarray = least == most
    still = low >= high
    if still.any():  # constant, or not seen, over the train rows
        location[still], scale[still] = location_scale(whole[:, still])
    return location, scale, constant


def _rows(panel: Panel, part: Part, *, apart: int = 0) -> np.ndarray:
    r"""The rows of a part, item by item, as many rows of NaN behind each."""
    nothing = np.full((apart, panel.num_channels), np.nan)
    ranges = zip(panel.items, part.ranges, strict=True)
    return np.concatenate([rows for i, (start, stop) in ranges for rows in (i.values[start:stop], nothing)])
