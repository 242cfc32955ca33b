r"""Frozen models without a gradient: which families can be fitted around them."""

from __future__ import annotations

__all__ = ["needs_gradient", "require_gradient"]

from contextlib import suppress

from .._random import seeded
from ..adapters import AdapterModule, families
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
