r"""The options of `Adapter`, declared once: default, check, and help for the command line and the docs."""

from __future__ import annotations

__all__ = [
    "CONTEXT",
    "COPULAS",
    "MOST_DRAWS",
    "RECALIBRATIONS",
    "TRAINING",
    "Options",
    "check_options",
    "options_table",
]

import math
from collections.abc import Callable, Mapping
from dataclasses import MISSING, dataclass, field, fields
from typing import Any

from . import checks, registry
from .checks import LONGEST
from .errors import shown
from .fractions import FRACTIONS, read_fractions

COPULAS = ("residual", *registry.COPULAS)
RECALIBRATIONS = ("auto", "conformal", "none")
#: The options of training by gradient, which a preset may set too.
TRAINING = ("objective", "horizon_weights", "learning_rate")
#: The longest context that is used by default.
CONTEXT = 512
#: The maximum number of draws of a stochastic family.
MOST_DRAWS = 10_000

#: Groups of options in the help of the command line.
MODEL, DISTRIBUTION, RUN = "What is fitted", "Its predictive distribution", "The run"
#: Why an option is not searched by `tune`.
_OTHER_QUESTION = "trials with different values are not comparable"
_LATER = "it applies after the scored step, the predictive distribution before the gate"


def option(
    group: str,
    help: str,  # noqa: A002  the word that typer and argparse use
    *,
    default: Any = MISSING,
    check: Callable[[Any], object] | None = None,
    frozen: bool = True,
    unsearched: str = "",
) -> Any:
    r"""Declare an option.

    Arguments:
        group: The group that the help shows it in.
        help: Its meaning, in one sentence.
        default: Its default; none if it is required.
        check: A function that raises a `ValueError` for invalid values.
        frozen: Whether a change after the fit requires another fit.
        unsearched: Why `tune` does not search it; empty if it does.

    Returns:
        The field of a dataclass.
    """
    metadata = {"group": group, "help": help, "check": check, "frozen": frozen, "unsearched": unsearched}
    return field(default=default, metadata=metadata)


def _integer(name: str, **bounds: Any) -> Callable[[Any], object]:
    return lambda value: checks.integer(f"Adapter expects {name}", value, **bounds)


def _check_support(support: Any) -> None:
    for bounds in [] if support is None else support.values() if isinstance(support, Mapping) else [support]:
        low, high = map(checks.real, checks.pair(bounds) or (math.nan, math.nan))
        if not low < high:
            raise ValueError(
                "Adapter expects support=(low, high) of two numbers with low < high, infinite without a bound, or a "
                f"mapping of channels to such pairs, got {shown(support)}"
            )


def _check_trainer_options(options: object) -> None:
    from .presets import check_trainer_options

    if options is not None:
        check_trainer_options(options)


@dataclass(frozen=True, kw_only=True)
class Options:
    r"""The options of `Adapter`; its docstring describes them in full."""

    family: Any = option(MODEL, "The preset of the adapter: see `adapts list families`.", default="auto")
    foundation_model: Any = option(
        MODEL, "A known name, a folder or a hub id: see `adapts list models`.", default="bolt-nano"
    )
    prediction_length: int = option(
        MODEL, "The number of steps to forecast.", check=_integer("prediction_length", most=LONGEST),
        unsearched=_OTHER_QUESTION,
    )  # fmt: skip
    context_length: int | None = option(
        MODEL, "The number of context steps; by default that of the foundation model, at most 512.",
        default=None, check=_integer("context_length", most=LONGEST, none=True,
                                     hint=f"leave it out for that of the frozen model, at most {CONTEXT}"),
    )  # fmt: skip
    objective: str | None = option(
        MODEL,
        "The objective of training by gradient: mse, mae, huber, quantile, nll, elbo or energy; by default that of "
        "the preset or family.",
        default=None,
    )
    horizon_weights: float | None = option(
        MODEL, "The weight of each horizon step in training relative to the step before; by default 1.",
        default=None,
    )  # fmt: skip
    learning_rate: float | None = option(
        MODEL, "The learning rate of training by gradient; by default the family's, 0.003 for most.", default=None
    )
    copula: str = option(
        DISTRIBUTION, f"The dependence over channels and horizon: {', '.join(COPULAS[:-1])} or {COPULAS[-1]}.",
        default="residual", check=lambda value: checks.choice("copula", value, COPULAS), unsearched=_LATER,
    )  # fmt: skip
    recalibration: str = option(
        DISTRIBUTION, "How quantile levels are recalibrated: auto, conformal or none.", default="auto",
        check=lambda value: checks.choice("recalibration", value, RECALIBRATIONS), unsearched=_LATER,
    )  # fmt: skip
    gate: bool = option(
        DISTRIBUTION, "Whether to fall back to the frozen model where validation does not show a significant gain.",
        default=True, check=lambda value: checks.flag("Adapter expects gate", value), unsearched=_LATER,
    )  # fmt: skip
    probe_head: bool | None = option(
        MODEL, "Whether to train the head of a model that declares it untrained; by default yes.",
        default=None, check=lambda value: checks.flag("Adapter expects probe_head", value, none=True),
    )  # fmt: skip
    support: Any = option(
        DISTRIBUTION, "The lowest and highest possible value, for all channels or by channel.", default=None,
        check=_check_support, unsearched=_OTHER_QUESTION,
    )  # fmt: skip
    posterior_draws: int = option(
        MODEL, "The number of draws of a stochastic family per forecast.", default=20,
        check=_integer("posterior_draws", most=MOST_DRAWS), frozen=False,
    )  # fmt: skip
    splits: tuple[float, float, float, float] = option(
        MODEL, "The fractions of rows for training, validation, calibration and selection; 0 leaves out their stages.",
        default=FRACTIONS, check=lambda value: read_fractions("Adapter expects splits", value),
        unsearched=_OTHER_QUESTION,
    )  # fmt: skip
    max_windows: int | None = option(
        MODEL, "The maximum number of train windows; 1000 to 2000 by size if None.", default=None,
        check=_integer("max_windows", none=True),
        unsearched=_OTHER_QUESTION,
    )  # fmt: skip
    seed: int = option(
        RUN, "The seed of all random numbers.", default=0, check=checks.seed, frozen=False, unsearched=_OTHER_QUESTION
    )
    batch_size: int = option(
        RUN, "The number of windows per batch.", default=64, check=_integer("batch_size"), frozen=False
    )
    device: str = option(
        RUN, "The device of the foundation model: auto, cpu, cuda.", default="auto", frozen=False,
        unsearched="it does not change forecasts",
    )  # fmt: skip
    trainer_options: Mapping[str, Any] | None = option(
        RUN, "Options of `lightning.pytorch.Trainer`, for training by gradient.", default=None,
        check=_check_trainer_options, frozen=False,
    )  # fmt: skip


#: The options by name.
FIELDS = {entry.name: entry for entry in fields(Options)}


def check_options(values: Mapping[str, Any]) -> None:
    r"""Check each option separately, except those of training.

    Arguments:
        values: The options by name.

    Raises:
        ValueError: If a value is invalid.
    """
    for name, value in values.items():
        check = FIELDS[name].metadata["check"]
        if check is not None:
            check(value)


def same_value(first: Any, second: Any) -> bool:
    r"""Return whether two values of an option are the same.

    Arguments:
        first: A value.
        second: Another.
    """
    if first is second:
        return True
    import numpy as np

    try:
        return bool(np.all(first == second))
    except Exception:  # arrays of different shapes, or objects that cannot be compared
        return False


def options_table() -> str:
    r"""Return the options as a table in Markdown: name, default, meaning."""
    rows = ["| option | default | meaning |", "|---|---|---|"]
    for name, entry in FIELDS.items():
        default = "" if entry.default is MISSING else f"`{entry.default!r}`"
        rows.append(f"| `{name}` | {default} | {entry.metadata['help']} |")
    return "\n".join(rows)


if __name__ == "__main__":
    print(options_table())
