r"""The order of the stages; fits, and trials of a family's parameters alone."""

from __future__ import annotations

__all__ = ["Shared", "fit", "validate"]

from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

import torch

from .._logging import get_logger
from .._random import seeded
from ..adapters import AdapterModule, make
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
from .context import FitContext, FitOptions, begin
from .decision import Decision, heard
from .explain_covariates import covariates, with_past
from .fitted import Fitted
from .gate import gate
from .noise import missing_variance
from .state import FitState, Step
from .train_adapter import refit, train
from .train_head import probe

logger = get_logger(__name__)

#: The stages that fit the adapter's parameters; a trial ends with them.
PARAMETERS: tuple[Callable[[FitState], Step], ...] = (probe, covariates, few_values, train)
#: All stages, in order.
STAGES = (*PARAMETERS, gate, calibration, confirmation, refit)
#: The effects of known covariates that were found, by the columns of the panel.
Shared = dict[tuple[str, ...], tuple[KnownEffect, str]]


def fit(
    panel: Panel,
    module: AdapterModule,
    model: FoundationModel,
    options: FitOptions,
    *,
    checkpoint_dir: str | Path | None = None,
) -> Fitted:
    r"""Fits everything that stands around a frozen model, in order of time.

    Past covariates are encoded beside the targets where that is a significant gain on validation windows, or where
    there is no gate.

    Arguments:
        panel: The panel, in the caller's units.
        module: The built adapter.
        model: The frozen model.
        options: How the panel is fitted.
        checkpoint_dir: The folder that keeps what is finished, so that a killed fit goes on; none if None.

    Returns:
        What was fitted.

    Raises:
        ValueError: If no train window has its targets inside the train rows, or the folder is another fit's, or holds
            what no fit wrote, or another process works in it.
    """
    marks, given = Marks.of(panel), panel
    panel, trial, clause = marks.without(panel), None, ""
    if panel.past_covariates:
        clause, kept = f"past {few(panel.past_covariates)}: ", True
        if options.settings["gate"]:
            trial, kept = _tried_both_ways(panel, module, model, {}, options)
            panel, module = trial.fitted.panel, trial.fitted.module
        clause += "encoded beside the targets" if kept else "left out, for no gain is sure"
    context, fitted = begin(panel, module, model, options, checkpoint_dir=checkpoint_dir)
    fitted = context.prepared(fitted) if trial is None else trial.fitted
    fitted.marks = marks
    with context.checkpoints:
        fitted = _run(context, fitted, clause, len(PARAMETERS) if trial is not None else 0)
    scale = fitted.scale[: len(fitted.panel.targets)]
    fitted.notices = collect(
        fitted.panel, marks.on(given), fitted.support, scale, fitted.left_out, context.windows, fitted.module.family
    )
    return fitted


def validate(
    panel: Panel, module: AdapterModule, model: FoundationModel, options: FitOptions, *, shared: Shared
) -> tuple[float, float]:
    r"""Fits the parameters alone, and scores the adapter on the validation windows; no later row is read.

    Covariates are used where `fit` would use them, which the train and validation rows tell.

    Arguments:
        panel: As for `fit`.
        module: As for `fit`.
        model: As for `fit`.
        options: As for `fit`.
        shared: The effects of known covariates found in earlier calls with the same panel, frozen model and options,
            those of the family and of its training aside; what is found is added.

    Returns:
        Twice the quantile loss, a coarse CRPS, averaged over our levels, windows, leads and channels in units of the
        train rows: of the distribution that the gate would see, and of the zero-shot forecast without covariates.

    Raises:
        ValueError: If there is no train or no validation window.
    """
    panel = Marks.of(panel).without(panel)
    if panel.past_covariates and options.settings["gate"]:
        state, _ = _tried_both_ways(panel, module, model, shared, options)
    else:
        state = _trial(panel, module, model, shared, options)
    windows = state.windows["validation"]
    if len(windows) == 0:
        raise ValueError(
            f"too short a series: the validation rows hold no target of {state.context.horizon} steps, and nothing can "
            "be chosen on them"
        )
    plain = state.standardiser.plain(state.context.windows["validation"])
    laws, future = (_ungated(state), state.frozen_law("raw", plain)), state.truth(windows)
    ours, theirs = (2 * float(mean_pinball(law, future).nanmean()) for law in laws)
    return ours, theirs


def _run(context: FitContext, fitted: Fitted, clause: str, before: int) -> Fitted:
    r"""Takes a fit through its stages, from where it stands.

    Arguments:
        context: The splits, windows and options.
        fitted: What is fitted before the first stage that is to be run.
        clause: What was decided on past covariates, in words.
        before: How many stages a trial has finished.

    Returns:
        What was fitted.
    """
    state, done = _resumed(context, fitted)
    decision: Decision | None
    if before > done:
        decision = with_past(fitted, fitted.decisions.get("covariates"), clause)
        state = FitState.of(context, fitted.deciding("covariates", decision))
        _keep(state, before)
        done = before
    for number, stage in enumerate(STAGES, 1):
        name = stage.__name__
        if number > done:
            fitted, decision = _step(state, stage)
            if clause and name == "covariates":
                decision = with_past(fitted, decision, clause)
            state = state.after(fitted.deciding(name, decision))
            _keep(state, number)
        decision = state.fitted.decisions.get(name)
        heard(name, decision)
        if decision is not None:
            logger.info("%s: %s", name, decision.reason)
    state.fitted.module.requires_grad_(False)
    context.checkpoints.finish(["stages"])
    return state.fitted


def _step(state: FitState, stage: Callable[[FitState], Step]) -> Step:
    return stage(replace(state, stage=stage.__name__))


def _resumed(context: FitContext, fitted: Fitted) -> tuple[FitState, int]:
    r"""The state that a killed fit left behind, and how many stages it finished."""
    held = context.checkpoints.read("stages")
    if held is None:
        return FitState.of(context, fitted), 0
    tensors, about = held
    fitted.restore(tensors)
    if fitted.effect is not None:
        fitted = context.prepared(fitted)  # without what is explained; the module shows itself the rows,
        fitted.restore(tensors)  # so it comes back once more
    fitted.decisions = {name: Decision(**each) for name, each in about["decisions"].items()}
    fitted.left_out = about["left_out"]
    return FitState.of(context, fitted), int(about["done"])


def _keep(state: FitState, done: int) -> None:
    r"""Keeps what the stages have left behind, and goes on from the very copies that would be read back."""
    fitted = state.fitted
    tensors = fitted.state()
    fitted.restore(tensors)
    decisions = {name: asdict(each) for name, each in fitted.decisions.items()}
    state.context.checkpoints.keep(
        "stages", tensors, {"done": done, "decisions": decisions, "left_out": fitted.left_out}
    )


# ---------------------------------------------------------------------- trials


def _trial(
    panel: Panel, module: AdapterModule, model: FoundationModel, shared: Shared, options: FitOptions
) -> FitState:
    r"""A fit of the adapter's parameters, to be scored on the validation windows."""
    context, fitted = begin(panel, module, model, options, checkpoint_dir=None, effects=shared)
    state = FitState.of(context, context.prepared(fitted))
    for stage in PARAMETERS:
        fitted, decision = _step(state, stage)
        state = state.after(fitted.deciding(stage.__name__, decision))
    return state


def _tried_both_ways(
    panel: Panel, module: AdapterModule, model: FoundationModel, shared: Shared, options: FitOptions
) -> tuple[FitState, bool]:
    r"""The trial with past covariates, if these make any target significantly better; and whether they do."""
    seed = options.settings["seed"]
    try:
        alone = _without_past(panel, module, seed)
    except ValueError:  # more latent channels than there are targets: it was meant for both
        return _trial(panel, module, model, shared, options), True
    without = _trial(*alone, model, shared, options)
    windows = without.windows["validation"]
    if not len(windows):
        return without, False
    beside = _trial(panel, module, model, shared, options)
    losses = [
        mean_pinball(_ungated(each), each.truth(each.windows["validation"])).nanmean(1) for each in (without, beside)
    ]
    chosen, _ = choose(torch.stack(losses), without.context.horizon, windows.time)  # of (2, n, D)
    return (beside, True) if bool(chosen.any()) else (without, False)


def _without_past(panel: Panel, module: AdapterModule, seed: int) -> tuple[Panel, AdapterModule]:
    r"""The panel without past covariates, and a module as it would have been built for it."""
    with seeded(seed):
        fresh = make(module.family, module.options()).build(len(panel.targets))
    return panel.select((*panel.targets, *panel.known_covariates)), fresh


def _ungated(state: FitState) -> QuantileFunction:
    r"""The predictive distribution of the validation windows that the gate would see."""
    adapter, _ = state.both("validation")
    noise = missing_variance(state, "train", "validation")
    return state.after(replace(state.fitted, noise=noise)).predictor.noisy(state.windows["validation"], adapter)
