r"""The state of a fit between two stages, with forecasts of its windows."""

from __future__ import annotations

__all__ = ["ENOUGH", "SUBSAMPLE", "FitState", "Outcomes", "Step"]

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from ..adapters import Portfolio, RegressionData
from ..batching import evenly_spaced
from ..data.windows import Windows
from ..distribution.pits import Pits
from ..distribution.quantile_function import QuantileFunction
from ..foundation import FoundationModel
from ..fractions import SPLITS
from ..prediction.marginals import MarginalPredictor
from ..prediction.standardise import Standardiser
from .context import FitContext, rows_of
from .decision import Decision, Outcome
from .fitted import Fitted
from .time_limit import TimeLimit

#: The maximum number of windows per split for copulas (except in the calibration split) and covariate candidates.
SUBSAMPLE = 300
#: The minimum effective sample size of a split for its stage.
ENOUGH = 8

#: Windows and their predictive distribution.
Outcomes = tuple[Windows, QuantileFunction]
#: What a stage returns: the fit after it and its decision, or None if the stage does not apply.
Step = tuple[Fitted, Decision | None]


@dataclass(frozen=True)
class FitState:
    r"""State of a fit between two stages.

    Arguments:
        context: The splits, windows and options.
        fitted: What is fitted so far.
        windows: The windows of each split as the adapter sees them: standardised, known effects subtracted.
        standardiser: The transform that standardised them.
        stage: The name of the current stage.
        memory: A cache of results for these windows and this adapter, by name.
    """

    context: FitContext
    fitted: Fitted
    windows: dict[str, Windows]
    standardiser: Standardiser
    stage: str = ""
    memory: dict[str, Any] = field(default_factory=dict, repr=False)

    @classmethod
    def of(cls, context: FitContext, fitted: Fitted) -> FitState:
        r"""Create the state, with the windows as the adapter sees them.

        Arguments:
            context: The splits, windows and options.
            fitted: What is fitted so far.

        Returns:
            The state.
        """
        standardiser = Standardiser(fitted)
        windows = {name: standardiser.standardised(windows) for name, windows in context.windows.items()}
        return cls(context, fitted, windows, standardiser)

    def after(self, fitted: Fitted) -> FitState:
        r"""Return the state after a further fit; windows are computed again if their preparation changed.

        Arguments:
            fitted: The new fit.
        """
        old = self.fitted
        same = fitted.effect is old.effect and fitted.cold_start is old.cold_start and fitted.imputer is old.imputer
        return replace(self, fitted=fitted) if same else FitState.of(self.context, fitted)

    # ------------------------------------------------------------------ decisions

    def with_decision(self, outcome: Outcome, reason: str, **figures: float) -> Step:
        r"""Return the fit so far with a decision.

        Arguments:
            outcome: The outcome of the stage.
            reason: The decision and its reason, in words.
            **figures: The numbers behind it; those that are not finite are omitted.
        """
        finite = {name: float(figure) for name, figure in figures.items() if math.isfinite(figure)}
        return self.fitted, Decision(outcome, reason, finite)

    def skip_unless_enough(self, stage: str, split: str, least: int = ENOUGH) -> Step | None:
        r"""Return the result of a skipped stage if a split has too few independent windows, otherwise None.

        A split that the option `splits` gives no rows is no lack of rows: its stages are recorded as declined.

        Arguments:
            stage: The name of the stage.
            split: The name of the split.
            least: The minimum effective sample size of the stage.
        """
        if self.settings["splits"][SPLITS.index(split)] == 0:
            fitted = replace(self.fitted, declined={**self.fitted.declined, stage: split})
            return fitted, Decision("skipped", f"left out: splits gives the {split} split no rows")
        windows = self.windows[split]
        size = self.context.effective_size(windows)
        if size >= least:
            return None
        reason = f"the {len(windows)} windows of the {split} split have an effective sample size of {size:.1f}"
        fitted = replace(self.fitted, left_out={**self.fitted.left_out, stage: reason})
        decision = Decision(
            "skipped", f"left out: {reason}, {least} are needed", {"worth": float(size), "needed": float(least)}
        )
        return fitted, decision

    def skip_for_time(self) -> Step:
        r"""Return the result of a stage that the time limit leaves out."""
        return self.with_decision("skipped", f"left out: {self.time_limit}")

    # ------------------------------------------------------------------ options and components

    @property
    def time_limit(self) -> TimeLimit:
        r"""The time that the fit may take."""
        return self.context.time_limit

    @property
    def settings(self) -> Any:
        r"""The adapter's options."""
        return self.context.settings

    @property
    def channels(self) -> int:
        r"""The number of targets :math:`D`."""
        return len(self.fitted.panel.targets)

    @property
    def observed_splits(self) -> list[str]:
        r"""Return the names of the splits that have windows."""
        return [name for name in SPLITS if len(self.windows[name])]

    @property
    def trained_by_gradient(self) -> bool:
        r"""Return whether gradients fitted the adapter, or a member with a weight, to the train windows."""
        module = self.fitted.module
        if isinstance(module, Portfolio):
            return any(not member.capabilities.closed_form for _, member in module.active)
        return "epochs" in self.fitted.decisions["train"].figures

    @property
    def gated(self) -> bool:
        r"""Whether a gate weights the adapter against the frozen model."""
        return self.settings["gate"] and self.fitted.module.family != "identity"

    @property
    def model(self) -> FoundationModel:
        r"""The frozen model, with the trained head if it came with an untrained one."""
        head = self.fitted.head
        if head and "model" not in self.memory:
            self.memory["model"] = self.context.model.with_head(head)
        model: FoundationModel = self.memory["model"] if head else self.context.model
        return model

    @property
    def predictor(self) -> MarginalPredictor:
        r"""The predictor of the marginals of these windows, as fitted so far."""
        batch, draws = self.settings["batch_size"], self.settings["posterior_draws"]
        return MarginalPredictor.of(self.fitted, self.model, batch, self.context.seed, draws)

    @property
    def target_rows(self) -> Tensor:
        r"""The standardised train rows of the targets, with shape :math:`(n, D)`."""
        rows = torch.as_tensor(rows_of(self.windows["train"].panel, self.context.train), dtype=torch.float32)
        return rows[:, : self.channels]

    # ------------------------------------------------------------------ forecasts of the windows

    def truth(self, windows: Windows) -> Tensor:
        r"""Return the observed targets of windows, with shape :math:`(n, H, D)`.

        Arguments:
            windows: The windows.
        """
        return self.predictor.truth(windows)

    def pits(self, distribution: QuantileFunction, windows: Windows) -> Pits:
        r"""Return the probability integral transforms of the targets of windows.

        Arguments:
            distribution: The predictive distribution of the windows.
            windows: The windows.
        """
        return distribution.pits(self.truth(windows), torch.Generator().manual_seed(self.context.seed))

    def zero_shot(self, split: str) -> QuantileFunction:
        r"""Return the zero-shot forecast of a split, for all channels that the adapter sees; computed once.

        Arguments:
            split: The name of the split.
        """
        name = f"frozen-{split}"
        if name not in self.memory:
            self.memory[name] = self.zero_shot_forecast(name, self.windows[split])
        forecast: QuantileFunction = self.memory[name]
        return forecast

    def zero_shot_forecast(self, name: str, windows: Windows) -> QuantileFunction:
        r"""Compute a zero-shot forecast.

        Arguments:
            name: The name of its pieces among the checkpoints.
            windows: The windows.

        Returns:
            The forecast, with batch shape :math:`(n, H, C)`, for all channels that the adapter sees.
        """
        forecast = self._in_chunks(name, len(windows), lambda chunk: self.predictor.zero_shot(windows[chunk]))
        return QuantileFunction(forecast.levels, forecast.values, self.predictor.bounds(windows))

    def adapted_and_zero_shot(self, split: str) -> tuple[QuantileFunction, QuantileFunction]:
        r"""Return the adapter's predictive distribution of a split, without noise, and the zero-shot one.

        Arguments:
            split: The name of the split.
        """
        windows, frozen = self.windows[split], self.zero_shot(split)
        return self.adapted(split, windows, frozen), self.predictor.observed(windows, frozen)

    def adapted(self, name: str, windows: Windows, frozen: QuantileFunction) -> QuantileFunction:
        r"""Return the adapter's predictive distribution, without noise; computed once.

        Arguments:
            name: The name of the windows.
            windows: The windows.
            frozen: Their zero-shot forecast.
        """
        name = f"adapted-{name}"
        if name not in self.memory:
            adapted = self._in_chunks(
                name, len(windows), lambda chunk: self.predictor.adapted(windows[chunk], frozen[chunk])
            )
            self.memory[name] = QuantileFunction(adapted.levels, adapted.values, self.predictor.support)
        distribution: QuantileFunction = self.memory[name]
        return distribution

    def predictive(self, split: str) -> QuantileFunction:
        r"""Return the predictive distribution of a split so far: with noise and gate, before recalibration.

        Arguments:
            split: The name of the split.
        """
        windows, predictor = self.windows[split], self.predictor
        if predictor.closed:
            return predictor.observed(windows, self.zero_shot(split))
        return predictor.mixed(windows, *self.adapted_and_zero_shot(split))

    def sampled(self, split: str) -> tuple[Windows, QuantileFunction] | None:
        r"""Return a subsample of the train or validation windows with its zero-shot forecast; None if there are none.

        Arguments:
            split: The name of the split.
        """
        indices = evenly_spaced(len(self.windows[split]), SUBSAMPLE)
        windows = self.windows[split][indices]
        if not len(indices):
            return None
        name = f"some-{split}"
        if name not in self.memory:
            module = self.fitted.module
            solved = module.capabilities.closed_form and module.capabilities.observed_latents
            if solved if split == "train" else self.gated:  # computed by an earlier stage
                forecast = self.zero_shot(split)[torch.from_numpy(indices)]
            else:
                forecast = self.zero_shot_forecast(name, windows)
            self.memory[name] = forecast
        return windows, self.memory[name]

    def latent_quantiles(self, split: str) -> Tensor:
        r"""Return the frozen model's quantiles of a split's latent channels, with shape :math:`(n, H, K, Q)`.

        Arguments:
            split: The name of the split.
        """
        if self.fitted.module.capabilities.observed_latents:
            return self.zero_shot(split).values
        windows, predictor = self.windows[split], self.predictor

        def compute(chunk: slice) -> dict[str, Tensor]:
            return {"values": predictor.latent_quantiles(windows[chunk])}

        pieces = self.context.in_chunks(f"{self.stage}-{split}", len(windows), compute)
        return torch.cat([piece["values"] for piece in pieces])

    def regression_data(self, splits: list[str], fold: Tensor) -> RegressionData:
        r"""Return the regression data of a closed form: windows of splits with forecasts of their latent channels.

        Arguments:
            splits: The names of the splits.
            fold: The fold of each window; empty if no strength is selected.
        """
        windows = [self.windows[split] for split in splits]
        forecasts = [self.latent_quantiles(split)[..., self.model.median_index] for split in splits]
        past = torch.cat([self.predictor.completed_context(batch) for batch in windows])
        future = torch.cat([batch.future() for batch in windows])
        quantiles = None
        if self.fitted.module.capabilities.needs_quantiles:
            quantiles = torch.cat([self.zero_shot(split).values for split in splits])
        known = torch.cat([batch.known() for batch in windows]) if self.fitted.module.known else None
        calendar = torch.cat([batch.calendar() for batch in windows]) if self.fitted.module.calendar else None
        return RegressionData(past, future, torch.cat(forecasts), fold, quantiles, known, calendar)

    def _in_chunks(self, name: str, number: int, compute: Callable[[slice], QuantileFunction]) -> QuantileFunction:
        def tensors(chunk: slice) -> dict[str, Tensor]:
            distribution = compute(chunk)
            return {"levels": distribution.levels, "values": distribution.values}

        pieces = self.context.in_chunks(name, number, tensors)
        return QuantileFunction(pieces[0]["levels"], torch.cat([piece["values"] for piece in pieces]))
