r"""The order of the stages: whole fits, and trials of a family's parameters alone."""

from __future__ import annotations

__all__ = ["EffectCache", "fit", "validate"]

import time
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

import torch

from .._logging import get_logger
from .._random import seeded
from ..adapters import AdapterModule, Portfolio, make
from ..calibration.gate import is_closed
from ..copulas.selection import mean_pinball
from ..covariate_effect import KnownEffect
from ..data.marks import Marks
from ..data.panel import Panel
from ..distribution.quantile_function import QuantileFunction
from ..errors import few
from ..foundation import FoundationModel
from ..notices import collect
from ..statistics.significance import choose
from .calibrate import calibration
from .cold_start import few_values
from .confirm import confirmation
from .context import FitContext, FitOptions, begin, within_limit
from .decision import Decision, notify
from .explain_covariates import covariates, with_past
from .fitted import Fitted
from .gate import gate
from .noise import missing_variance
from .point_residuals import residuals
from .state import FitState, Step
from .time_limit import TimeLimit
from .train_adapter import refit, train
from .train_head import probe
from .train_members import weights

logger = get_logger(__name__)

#: The stages that fit the adapter's parameters; a trial ends with them.
PARAMETERS: tuple[Callable[[FitState], Step], ...] = (residuals, probe, covariates, few_values, train)
#: All stages, in order.
STAGES = (*PARAMETERS, weights, gate, calibration, confirmation, refit)
#: What a fit says of past covariates that it uses, and of those that it does not use.
ENCODED = "encoded with the targets"
NO_GAIN = "left out, no significant gain"
#: A cache of effects of known covariates with their decisions in words, by the columns of the panel.
EffectCache = dict[tuple[str, ...], tuple[KnownEffect, str]]


def fit(
    panel: Panel,
    module: AdapterModule,
    model: FoundationModel,
    options: FitOptions,
    *,
    checkpoint_dir: str | Path | None = None,
    time_limit: TimeLimit | None = None,
) -> Fitted:
    r"""Fit an adapter and its predictive distribution around a frozen model, in temporal order.

    Past covariates are encoded with the targets if this is a significant gain on validation windows, or without a
    gate.

    Arguments:
        panel: The panel, in the caller's units.
        module: The built adapter.
        model: The frozen model.
        options: The options of the fit.
        checkpoint_dir: The folder for checkpoints, from which an interrupted fit resumes; none if None.
        time_limit: The time that the fit may take; any if None.

    Returns:
        The fit.

    Raises:
        ValueError: If the train rows are too few for one window, or the folder belongs to another fit, holds other
            files, or is in use by another process.
    """
    marks, given = Marks.of(panel), panel
    panel, trial, clause = marks.without(panel), None, ""
    if time_limit is not None:
        options = within_limit(panel, module, model, replace(options, time_limit=time_limit), checkpoint_dir)
    if panel.past_covariates:
        clause, outcome = f"past {few(panel.past_covariates)}: ", ENCODED
        if options.settings["gate"]:
            trial, outcome = _with_and_without_past(panel, module, model, {}, options)
            panel, module = trial.fitted.panel, trial.fitted.module
        clause += outcome
    context, fitted = begin(panel, module, model, options, checkpoint_dir=checkpoint_dir)
    fitted = context.prepared(fitted) if trial is None else trial.fitted
    fitted.marks = marks
    with context.checkpoints:
        fitted = _run(context, fitted, clause, len(PARAMETERS) if trial is not None else 0)
    scale = fitted.scale[: len(fitted.panel.targets)]
    fitted.notices = collect(
        fitted.panel, marks.on(given), fitted.support, scale, fitted.left_out, fitted.declined, context.windows,
        (fitted.context_length, model.context_length),
        only_frozen=fitted.module.family == "identity" or is_closed(fitted.gate), fewer=_fewer(context, fitted),
        late=_late(context, fitted),
    )  # fmt: skip
    return fitted


def _fewer(context: FitContext, fitted: Fitted) -> str:
    r"""Return the option that limits the windows of the later splits below what the rows allow; empty if none."""
    later = [windows for name, windows in context.windows.items() if name != "train" and len(windows)]
    if all(2 * context.effective_size(windows) < len(windows) for windows in later):  # dense: more would add nothing
        return ""
    if "time_limit" in fitted.decisions:
        return str(context.time_limit)
    most = context.settings["max_windows"]
    return f"max_windows={most}" if most is not None and max(map(len, later)) >= (most + 1) // 2 else ""


def _late(context: FitContext, fitted: Fitted) -> str:
    r"""Return what the time limit left out of a portfolio whose weights it changes; empty if nothing."""
    count = int(fitted.decisions["train"].figures.get("members without time", 0))
    if not count or not isinstance(fitted.module, Portfolio):
        return ""
    rest = ", and the others have their weight" if fitted.module.active else ": the forecast is the frozen model's"
    members = f"{count} member{'s' * (count > 1)}"
    return f"{context.time_limit} leaves no time for {members} of the portfolio{rest}. Raise it"


def validate(
    panel: Panel, module: AdapterModule, model: FoundationModel, options: FitOptions, *, effects: EffectCache
) -> tuple[float, float]:
    r"""Fit the parameters alone, and score the adapter on the validation windows; later rows are not used.

    Covariates are used exactly where `fit` would use them, as train and validation rows decide.

    Arguments:
        panel: As for `fit`.
        module: As for `fit`.
        model: As for `fit`.
        options: As for `fit`.
        effects: A cache of effects of known covariates for calls with the same panel, frozen model and options, except
            those of the family and its training; updated in place.

    Returns:
        Twice the quantile loss, a coarse CRPS, averaged over levels, windows, horizon steps and channels, in units of
        the train rows: of the distribution before gating, and of the zero-shot forecast without covariates.

    Raises:
        ValueError: If there is no train or no validation window.
    """
    panel = Marks.of(panel).without(panel)
    if panel.past_covariates and options.settings["gate"]:
        state, _ = _with_and_without_past(panel, module, model, effects, options)
    else:
        state = _trial(panel, module, model, effects, options)
    windows = state.windows["validation"]
    if len(windows) == 0:
        raise ValueError(
            f"too short a series: the validation rows hold no window of {state.context.horizon} target steps to select "
            "on: pass longer series, other borders or splits, or a smaller prediction_length"
        )
    plain = state.standardiser.plain(state.context.windows["validation"])
    forecasts, future = (_before_gating(state), state.zero_shot_forecast("raw", plain)), state.truth(windows)
    adapter, zero_shot = (2 * float(mean_pinball(forecast, future).nanmean()) for forecast in forecasts)
    return adapter, zero_shot


def _run(context: FitContext, fitted: Fitted, clause: str, before: int) -> Fitted:
    r"""Run the remaining stages of a fit.

    Arguments:
        context: The splits, windows and options.
        fitted: The fit before the first stage to run.
        clause: The decision on past covariates, in words.
        before: The number of stages that a trial has completed.

    Returns:
        The fit.
    """
    state, done = _resumed(context, fitted)
    decision: Decision | None
    if context.time_limit.limited and not done and not before:
        _keep(state, 0)  # the number of windows, for an interrupted fit
    if before > done:
        decision = with_past(fitted, fitted.decisions.get("covariates"), clause)
        state = FitState.of(context, fitted.with_decision("covariates", decision))
        _keep(state, before)
        done = before
    for number, stage in enumerate(STAGES, 1):
        name = stage.__name__
        if number > done:
            fitted, decision = _step(state, stage)
            if clause and name == "covariates":
                decision = with_past(fitted, decision, clause)
            state = state.after(fitted.with_decision(name, decision))
            _keep(state, number)
        decision = state.fitted.decisions.get(name)
        notify(name, decision)
        if decision is not None:
            logger.info("%s: %s", name, decision.reason)
    state.fitted.module.requires_grad_(False)
    context.checkpoints.finish(["stages"])
    return state.fitted


def _step(state: FitState, stage: Callable[[FitState], Step]) -> Step:
    return stage(replace(state, stage=stage.__name__))


def _resumed(context: FitContext, fitted: Fitted) -> tuple[FitState, int]:
    r"""Return the state of an interrupted fit, and the number of completed stages."""
    saved = context.checkpoints.read("stages")
    if saved is None:
        return FitState.of(context, fitted), 0
    tensors, record = saved
    fitted.restore(tensors)
    if fitted.effect is not None:
        fitted = context.prepared(fitted)  # with the effect subtracted; this prepares the module anew,
        fitted.restore(tensors)  # so restore it again
    fitted.decisions = {name: Decision(**decision) for name, decision in record["decisions"].items()}
    fitted.left_out, fitted.declined = record["left_out"], record["declined"]
    fitted.seconds = record["seconds"]
    return FitState.of(context, fitted), int(record["done"])


def _keep(state: FitState, done: int) -> None:
    r"""Save a checkpoint of the fit, and continue with the tensors that a resumed fit would read."""
    fitted = state.fitted
    tensors = fitted.state()
    fitted.restore(tensors)
    decisions = {name: asdict(decision) for name, decision in fitted.decisions.items()}
    record = {
        "done": done, "decisions": decisions, "left_out": fitted.left_out, "declined": fitted.declined,
        "seconds": fitted.seconds, "most_windows": state.context.most_windows,
    }  # fmt: skip
    state.context.checkpoints.keep("stages", tensors, record)


# ---------------------------------------------------------------------- trials


def _trial(
    panel: Panel, module: AdapterModule, model: FoundationModel, effects: EffectCache, options: FitOptions
) -> FitState:
    r"""Fit the adapter's parameters, to score it on the validation windows."""
    context, fitted = begin(panel, module, model, options, checkpoint_dir=None, effects=effects)
    state = FitState.of(context, context.prepared(fitted))
    for stage in PARAMETERS:
        fitted, decision = _step(state, stage)
        state = state.after(fitted.with_decision(stage.__name__, decision))
    return state


def _with_and_without_past(
    panel: Panel, module: AdapterModule, model: FoundationModel, effects: EffectCache, options: FitOptions
) -> tuple[FitState, str]:
    r"""Return the trial with past covariates if any target gains significantly, else that without; and what it is."""
    seed = options.settings["seed"]
    try:
        targets_only = _without_past(panel, module, seed)
    except ValueError:  # more latent channels than targets: the family expects the past covariates
        return _trial(panel, module, model, effects, options), ENCODED
    limit, began = options.time_limit, time.monotonic()
    without = _trial(*targets_only, model, effects, replace(options, time_limit=limit.of_first_trial()))
    windows = without.windows["validation"]
    if not len(windows):
        return without, NO_GAIN
    if limit.training_ended or not limit.allows(time.monotonic() - began):
        return without, f"left out, {limit}"
    encoded = _trial(panel, module, model, effects, options)
    losses = [
        mean_pinball(_before_gating(trial), trial.truth(trial.windows["validation"])).nanmean(1)
        for trial in (without, encoded)
    ]
    selected, _ = choose(torch.stack(losses), without.context.horizon, windows.time)  # of (2, n, D)
    return (encoded, ENCODED) if bool(selected.any()) else (without, NO_GAIN)


def _without_past(panel: Panel, module: AdapterModule, seed: int) -> tuple[Panel, AdapterModule]:
    r"""Return the panel without past covariates, and the module built for it."""
    with seeded(seed):
        fresh = make(module.family, module.options()).build(len(panel.targets), module.known, module.calendar)
    return panel.select((*panel.targets, *panel.known_covariates)), fresh


def _before_gating(state: FitState) -> QuantileFunction:
    r"""Return the predictive distribution of the validation windows before gating, with noise."""
    adapter, _ = state.adapted_and_zero_shot("validation")
    noise = missing_variance(state, "train", "validation")
    return state.after(replace(state.fitted, noise=noise)).predictor.noisy(state.windows["validation"], adapter)
