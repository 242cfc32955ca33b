r"""A fit between two stages: what is fitted so far, and forecasts of the windows."""

from __future__ import annotations

__all__ = ["ENOUGH", "SUBSAMPLE", "FitState", "Outcomes", "Step"]

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from ..adapters import RegressionData
from ..data.windows import Windows
from ..distribution.pits import Pits
from ..distribution.quantile_function import QuantileFunction
from ..foundation import FoundationModel
from ..prediction.marginals import MarginalPredictor
from ..prediction.standardise import Standardiser
from .context import FitContext, evenly, rows_of
from .decision import Decision, Outcome
from .fitted import Fitted

#: The windows of a split that dependence is fitted on, the calibration split aside, and that covariates are tried on.
SUBSAMPLE = 300
#: The effective sample size that a split needs for its stage to decide anything.
ENOUGH = 8

#: Some windows, and their predictive distribution.
Outcomes = tuple[Windows, QuantileFunction]
#: What a stage returns: what is fitted after it, and its decision; None where the fit has no use for the stage.
Step = tuple[Fitted, Decision | None]


@dataclass(frozen=True)
class FitState:
    r"""A fit between two stages.

    Arguments:
        context: The splits, windows and options.
        fitted: What is fitted so far.
        windows: The windows of each split as the adapter sees them: standardised, known effects subtracted.
        standardiser: What standardised them.
        stage: The name of the stage that reads it.
        memory: What was computed of these windows and this adapter, by name.
    """

    context: FitContext
    fitted: Fitted
    windows: dict[str, Windows]
    standardiser: Standardiser
    stage: str = ""
    memory: dict[str, Any] = field(default_factory=dict, repr=False)

    @classmethod
    def of(cls, context: FitContext, fitted: Fitted) -> FitState:
        r"""Lays the windows as the adapter sees them.

        Arguments:
            context: The splits, windows and options.
            fitted: What is fitted so far.

        Returns:
            The state, its windows laid.
        """
        standardiser = Standardiser(fitted)
        windows = {name: standardiser.standardised(windows) for name, windows in context.windows.items()}
        return cls(context, fitted, windows, standardiser)

    def after(self, fitted: Fitted) -> FitState:
        r"""Returns the state after something was fitted; the windows are laid anew where they look otherwise.

        Arguments:
            fitted: What is fitted now.
        """
        old = self.fitted
        same = fitted.effect is old.effect and fitted.cold_start is old.cold_start and fitted.imputer is old.imputer
        return replace(self, fitted=fitted) if same else FitState.of(self.context, fitted)

    # ------------------------------------------------------------------ decisions

    def decided(self, outcome: Outcome, reason: str, **figures: float) -> Step:
        r"""Returns what is fitted so far with a decision.

        Arguments:
            outcome: What came of the stage.
            reason: The decision and its reason, in words.
            **figures: The numbers that it rests on; those that are not finite are left out.
        """
        finite = {name: float(each) for name, each in figures.items() if math.isfinite(each)}
        return self.fitted, Decision(outcome, reason, finite)

    def lacks(self, stage: str, split: str, least: int = ENOUGH) -> Step | None:
        r"""Returns what a stage comes to where a split holds too little to decide on; None where it holds enough.

        Arguments:
            stage: The name of the stage.
            split: The name of the split.
            least: The effective sample size that the stage needs.
        """
        windows = self.windows[split]
        size = self.context.effective_size(windows)
        if size >= least:
            return None
        why = f"the {len(windows)} windows of the {split} part are worth {size:.1f} without overlap"
        fitted = replace(self.fitted, left_out={**self.fitted.left_out, stage: why})
        decision = Decision(
            "skipped", f"left out: {why}, {least} are needed", {"worth": float(size), "needed": float(least)}
        )
        return fitted, decision

    # ------------------------------------------------------------------ options and parts

    @property
    def settings(self) -> Any:
        r"""The adapter's options."""
        return self.context.settings

    @property
    def channels(self) -> int:
        r"""The number of targets :math:`D`."""
        return len(self.fitted.panel.targets)

    @property
    def gated(self) -> bool:
        r"""Whether the adapter has to prove itself against the frozen model."""
        return self.settings["gate"] and self.fitted.module.family != "identity"

    @property
    def model(self) -> FoundationModel:
        r"""The frozen model, with its head as trained where it came without one."""
        head = self.fitted.head
        if head and "model" not in self.memory:
            self.memory["model"] = self.context.model.with_head(head)
        model: FoundationModel = self.memory["model"] if head else self.context.model
        return model

    @property
    def predictor(self) -> MarginalPredictor:
        r"""What forecasts the marginals of these windows, as far as it is fitted."""
        batch, draws = self.settings["batch_size"], self.settings["posterior_draws"]
        return MarginalPredictor.of(self.fitted, self.model, batch, self.context.seed, draws)

    @property
    def target_rows(self) -> Tensor:
        r"""The standardised train rows of the targets, with shape :math:`(n, D)`."""
        rows = torch.as_tensor(rows_of(self.windows["train"].panel, self.context.train), dtype=torch.float32)
        return rows[:, : self.channels]

    # ------------------------------------------------------------------ forecasts of the windows

    def truth(self, windows: Windows) -> Tensor:
        r"""Returns the targets of windows as they are observed, with shape :math:`(n, H, D)`.

        Arguments:
            windows: The windows.
        """
        return self.predictor.truth(windows)

    def pits(self, law: QuantileFunction, windows: Windows) -> Pits:
        r"""Returns the probability integral transforms of the targets of windows.

        Arguments:
            law: The predictive distribution of the windows.
            windows: The windows.
        """
        return law.pits(self.truth(windows), torch.Generator().manual_seed(self.context.seed))

    def frozen(self, split: str) -> QuantileFunction:
        r"""Returns the zero-shot forecast of a split, of all channels that the adapter sees; computed once.

        Arguments:
            split: The name of the split.
        """
        name = f"frozen-{split}"
        if name not in self.memory:
            self.memory[name] = self.frozen_law(name, self.windows[split])
        law: QuantileFunction = self.memory[name]
        return law

    def frozen_law(self, name: str, windows: Windows) -> QuantileFunction:
        r"""Computes a zero-shot forecast.

        Arguments:
            name: The name of its pieces among the checkpoints.
            windows: The windows.

        Returns:
            The forecast, with batch shape :math:`(n, H, C)` of all channels that the adapter sees.
        """
        law = self._law_in_chunks(name, len(windows), lambda some: self.predictor.frozen(windows[some]))
        return QuantileFunction(law.levels, law.values, self.predictor.bounds(windows))

    def both(self, split: str) -> tuple[QuantileFunction, QuantileFunction]:
        r"""Returns the adapter's predictive distribution of a split, without noise, and the zero-shot one.

        Arguments:
            split: The name of the split.
        """
        windows, frozen = self.windows[split], self.frozen(split)
        return self.adapted(split, windows, frozen), self.predictor.observed(windows, frozen)

    def adapted(self, name: str, windows: Windows, frozen: QuantileFunction) -> QuantileFunction:
        r"""Returns the adapter's predictive distribution, without noise; computed once.

        Arguments:
            name: The name of the windows.
            windows: The windows.
            frozen: Their zero-shot forecast.
        """
        name = f"adapted-{name}"
        if name not in self.memory:
            law = self._law_in_chunks(
                name, len(windows), lambda some: self.predictor.adapted(windows[some], frozen[some])
            )
            self.memory[name] = QuantileFunction(law.levels, law.values, self.predictor.support)
        found: QuantileFunction = self.memory[name]
        return found

    def law(self, split: str) -> QuantileFunction:
        r"""Returns the predictive distribution of a split so far: with noise and gate, levels not yet mapped.

        Arguments:
            split: The name of the split.
        """
        windows, predictor = self.windows[split], self.predictor
        if predictor.closed:
            return predictor.observed(windows, self.frozen(split))
        return predictor.mixed(windows, *self.both(split))

    def sampled(self, split: str) -> tuple[Windows, QuantileFunction] | None:
        r"""Returns some windows of the train or the validation split and their zero-shot forecast; None without any.

        Arguments:
            split: The name of the split.
        """
        which = evenly(len(self.windows[split]), SUBSAMPLE)
        windows = self.windows[split][which]
        if not len(which):
            return None
        name = f"some-{split}"
        if name not in self.memory:
            module = self.fitted.module
            solved = module.closed_form and module.observed_latents
            if solved if split == "train" else self.gated:  # by an earlier stage
                law = self.frozen(split)[torch.from_numpy(which)]
            else:
                law = self.frozen_law(name, windows)
            self.memory[name] = law
        return windows, self.memory[name]

    def latent_quantiles(self, split: str) -> Tensor:
        r"""Returns the frozen model's quantiles of a split's latent channels, with shape :math:`(n, H, K, Q)`.

        Arguments:
            split: The name of the split.
        """
        if self.fitted.module.observed_latents:
            return self.frozen(split).values
        windows, predictor = self.windows[split], self.predictor

        def compute(some: slice) -> dict[str, Tensor]:
            return {"values": predictor.latent_quantiles(windows[some])}

        pieces = self.context.in_chunks(f"{self.stage}-{split}", len(windows), compute)
        return torch.cat([piece["values"] for piece in pieces])

    def regression_data(self, splits: list[str], fold: Tensor) -> RegressionData:
        r"""Returns the windows of some splits with the forecasts of their latent channels, to solve a closed form on.

        Arguments:
            splits: The names of the splits.
            fold: The fold of each window; empty where no strength is to be chosen.
        """
        windows = [self.windows[split] for split in splits]
        forecasts = [self.latent_quantiles(split)[..., self.model.median_index] for split in splits]
        past = torch.cat([self.predictor.continued(some) for some in windows])
        future = torch.cat([some.future() for some in windows])
        return RegressionData(past, future, torch.cat(forecasts), fold)

    def _law_in_chunks(self, name: str, number: int, compute: Callable[[slice], QuantileFunction]) -> QuantileFunction:
        def tensors(some: slice) -> dict[str, Tensor]:
            law = compute(some)
            return {"levels": law.levels, "values": law.values}

        pieces = self.context.in_chunks(name, number, tensors)
        return QuantileFunction(pieces[0]["levels"], torch.cat([piece["values"] for piece in pieces]))
