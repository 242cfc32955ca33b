r"""A family built for a panel, and which families suit a frozen model: one without a gradient, or several."""

from __future__ import annotations

__all__ = ["built", "needs_gradient", "require_gradient"]

from contextlib import suppress

from .._random import seeded
from ..adapters import AdapterModule, families
from ..data.calendar import count_waves, unseen_cycles
from ..data.panel import Panel
from ..foundation import FoundationModel


def needs_gradient(module: AdapterModule) -> bool:
    r"""Return whether training a family needs the gradient of the frozen model with respect to its context.

    This is so for an encoder that is trained. A closed form needs none, and neither does a family that forecasts fixed
    latent channels, such as the observed ones, and trains only what comes after.

    Arguments:
        module: The built adapter.
    """
    family = module.capabilities
    if family.closed_form or family.fixed_latents:
        return False
    return any(parameter.requires_grad for parameter in module.parameters())


def require_gradient(module: AdapterModule, model: FoundationModel) -> None:
    r"""Check that a frozen model has the gradient that a family needs.

    Arguments:
        module: The built adapter.
        model: The frozen model.

    Raises:
        ValueError: If the family trains an encoder, and the model has no gradient; the message names other families.
    """
    if model.differentiable or not needs_gradient(module):
        return
    others = []
    for name, family in families().items():
        with suppress(Exception), seeded(0):  # a family may need an optional package or options of its own
            if not needs_gradient(family().build(2)):
                others.append(name)
    raise ValueError(
        f"the family {module.family!r} trains an encoder, through the gradient of the frozen model, and {model.name} "
        f"has none: choose one of {', '.join(others)}, or a differentiable foundation model"
    )


def built(family: AdapterModule, panel: Panel, model: FoundationModel, context_length: int, seed: int) -> AdapterModule:
    r"""Build a family for the columns of a panel.

    Arguments:
        family: The family.
        panel: The panel.
        model: The frozen model, or several.
        context_length: The number of context steps :math:`L`, on which it depends what the calendar adds.
        seed: The seed of the initial parameters.

    Returns:
        The built family.

    Raises:
        ValueError: If there are several models, and the family is not the portfolio, or the hyperparameters do not fit
            the number of channels.
    """
    if len(model.members) > 1 and not family.capabilities.takes_further:
        raise ValueError(
            f"several foundation models are members of the family 'auto', got family {family.family!r} and the models "
            f"{model.name}: name one foundation model, or the family 'auto'"
        )
    waves = count_waves(unseen_cycles(panel, context_length))
    further = [member.name for member in model.members[1:]]
    with seeded(seed):
        return family.build(
            len(panel.targets) + len(panel.past_covariates), len(panel.known_covariates), waves, further
        )
