r"""Linear probing: the head of a frozen model that has no trained one."""

from __future__ import annotations

__all__ = ["probe"]

from dataclasses import replace

from ..foundation.point import ResidualDistribution
from .state import FitState, Step


def probe(state: FitState) -> Step:
    r"""Train the forecasting head of a frozen model with an untrained head, on the raw channels.

    Arguments:
        state: The fit before this stage. Training uses the train windows, early stopping the validation windows.

    Returns:
        The fit after this stage, and the decision.
    """
    model = state.context.model
    if model.untrained_head() is None or isinstance(model.members[0], ResidualDistribution):
        return state.fitted, None
    if state.settings.get("probe_head") is False:
        return state.with_decision("skipped", "probe_head=False, the head stays untrained")
    skipped = state.skip_unless_enough("probe", "train") or state.skip_unless_enough("probe", "validation")
    if skipped:
        return skipped
    from ..training.probing import probe as train

    head, losses = train(
        model, state.windows["train"], state.windows["validation"], batch_size=state.settings["batch_size"],
        seed=state.context.seed,
    )  # fmt: skip
    _, decision = state.with_decision(
        "kept",
        f"the head of {model.name} trained for {losses['epochs']:.0f} epochs; validation loss "
        f"{losses['before']:.4g} before, {losses['best']:.4g} at its best",
        **losses,
    )
    return replace(state.fitted, head={**state.fitted.head, **head}), decision
