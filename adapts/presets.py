r"""Presets of families, and their options of training by gradient."""

from __future__ import annotations

__all__ = ["check_trainer_options", "check_training", "family_of", "is_trained"]

import inspect
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from . import checks
from ._random import seeded
from .adapters import AdapterModule, families, make
from .errors import one_line, shown, unknown
from .registry import load_recipe, recipes


def check_trainer_options(options: object) -> None:
    r"""Check options of Lightning's trainer, which must not change validation or single precision.

    Arguments:
        options: The given options.

    Raises:
        ValueError: If they are not a mapping, or an option is unknown or not supported.
    """
    if not isinstance(options, Mapping):
        raise ValueError(f"Adapter expects trainer_options to be a mapping of names to values, got {shown(options)}")
    if options:
        from lightning.pytorch import Callback, Trainer

        known = list(inspect.signature(Trainer.__init__).parameters)[1:]
        for name in options:
            if name not in known:
                raise ValueError(unknown("option of lightning.pytorch.Trainer", name, known))
        given = options.get("callbacks")
        callbacks = given if isinstance(given, list | tuple) else [] if given is None else [given]
        if not all(isinstance(callback, Callback) for callback in callbacks):
            raise ValueError(f"Adapter expects callbacks in trainer_options to be Lightning's, got {shown(given)}")
    prefix = "Adapter expects trainer_options"
    precision = options.get("precision")
    kinds = ("64", "64-true", "bf16-true", "16-true", "transformer-engine", "transformer-engine-float16")
    if isinstance(precision, str | int) and str(precision) in kinds:
        raise ValueError(
            f"{prefix} that keep weights in single precision, got precision={precision!r}: use precision='bf16-mixed'"
        )
    for name, unsupported in (("limit_val_batches", 0), ("barebones", True)):
        if isinstance(options.get(name), int | float) and options[name] == unsupported:
            raise ValueError(
                f"{prefix} that validate, to select the best epoch, got {name}={options[name]!r}: leave it out, or "
                "pass max_epochs for a shorter training"
            )
    if isinstance(options.get("overfit_batches"), int | float) and options["overfit_batches"]:
        raise ValueError(
            f"{prefix} that validate on separate windows, got overfit_batches={options['overfit_batches']!r}: "
            "use limit_train_batches"
        )
    every, epochs = options.get("check_val_every_n_epoch"), options.get("max_epochs", 20)
    if isinstance(every, int) and isinstance(epochs, int) and every > epochs > 0:
        raise ValueError(
            f"{prefix} that validate, to select the best epoch, got check_val_every_n_epoch={every} of {epochs} "
            f"epochs: pass check_val_every_n_epoch={epochs} or less"
        )


def family_of(family: str | Path | AdapterModule) -> tuple[AdapterModule, dict[str, Any]]:
    r"""Return the requested family, and the training options of its preset.

    Arguments:
        family: The name of a preset or of a family, a family, or the Path of your own preset.

    Returns:
        The family, and the options of training by gradient that the preset sets.

    Raises:
        ValueError: If there is no such preset or family, or the preset is invalid.
    """
    if isinstance(family, AdapterModule):
        return family, {}
    if not isinstance(family, str | Path):
        raise ValueError(f"Adapter expects a family or the name of a preset, got {type(family).__name__}")
    known = recipes()
    if family in known or isinstance(family, Path):
        recipe = load_recipe(family)
        built = make(recipe["family"], recipe["options"])
        check_training(recipe["training"], built, f"the preset {str(family)!r} sets ")
        return built, recipe["training"]
    if family in families():
        return make(family), {}
    raise ValueError(unknown("adapter", family, sorted({*known, *families()})))


def is_trained(family: AdapterModule) -> bool:
    r"""Return whether a family has parameters that are trained by gradient.

    Arguments:
        family: The family, built or not.
    """
    with seeded(0):
        probe = family.build(max(1, family.latents))
    return not probe.capabilities.closed_form and any(parameter.requires_grad for parameter in probe.parameters())


def check_training(training: Mapping[str, Any], family: AdapterModule, origin: str = "") -> None:
    r"""Check options of training by gradient, and that the family is trained this way.

    Arguments:
        training: The options, by name.
        family: The family.
        origin: What set them, as the beginning of the message.

    Raises:
        ValueError: If a value is invalid, or the family is not trained by gradient.
    """
    for name, value in training.items():
        if name != "objective" and not 0 < checks.real(value) <= 1000:
            raise ValueError(
                f"Adapter expects {name} to be a positive number, at most 1000, got {origin}{name}={shown(value)}"
            )
    if not training:
        return
    from .training.objectives import Objective  # lightning is slow to import

    Objective(training.get("objective", family.objective), training.get("horizon_weights", 1.0))
    if not is_trained(family):
        name, value = next(iter(training.items()))
        raise ValueError(
            f"{origin}{name}={shown(value)}{', which' if origin else ''} is for training by gradient, and nothing "
            f"trains {one_line(family)} by gradient: leave it out"
        )
