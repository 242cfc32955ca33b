r"""The options that commands share, under the names that `Adapter` gives them, and what their text means."""

from __future__ import annotations

__all__ = ["asked", "family_options", "support", "was_given"]

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

import typer

from ..errors import shown
from ..options import FIELDS, MODEL, RUN

#: The group of options that say how data are read.
READING = "How DATA is read"


def _recipes(incomplete: str) -> list[str]:
    from ..registry import recipes

    return [name for name in recipes() if name.startswith(incomplete)]


def _cards(incomplete: str) -> list[str]:
    from ..registry import cards

    return [name for name in cards() if name.startswith(incomplete)]


def _models(incomplete: str) -> list[str]:
    from ..foundation import foundation_models

    return [name for name in foundation_models() if name.startswith(incomplete)]


Data = Annotated[
    str,
    typer.Argument(
        metavar="DATA",
        help="A file (CSV, Parquet, ...), or the name of a card: see `adapts list datasets`.",
        autocompletion=_cards,
    ),
]
Columns = Annotated[
    list[str] | None,
    typer.Option(
        help="A column to forecast, or several separated by commas; may be repeated. All by default.",
        rich_help_panel=READING,
    ),
]
PastCovariates = Annotated[
    list[str] | None,
    typer.Option(help="Columns to read beside the targets, not forecast; as --columns.", rich_help_panel=READING),
]
KnownCovariates = Annotated[
    list[str] | None,
    typer.Option(help="Columns whose future values are known; as --columns.", rich_help_panel=READING),
]
Calendar = Annotated[
    bool,
    typer.Option("--calendar", help="Take the time of day, week and year as known.", rich_help_panel=READING),
]
Static = Annotated[
    list[str] | None,
    typer.Option(help="Columns that say something of each series as a whole; as --columns.", rich_help_panel=READING),
]
TimestampColumn = Annotated[
    str | None, typer.Option(help="The column of the dates; found by default.", rich_help_panel=READING)
]
ItemColumn = Annotated[
    list[str] | None,
    typer.Option(
        help="The column, or columns, that name the series of a long file; as --columns.", rich_help_panel=READING
    ),
]
Frequency = Annotated[
    str | None,
    typer.Option(help="The time step as pandas names it; inferred by default.", rich_help_panel=READING),
]
Regularise = Annotated[
    bool,
    typer.Option(
        "--regularise",
        help="Sort the dates, merge repeated ones, put NaN where some are missing.",
        rich_help_panel=READING,
    ),
]


def _shared(name: str, *flags: str, **more: Any) -> Any:
    r"""The option of a command that is one of `Adapter`'s: its help and its group are declared there."""
    about = FIELDS[name].metadata
    return typer.Option(*flags, **{"help": about["help"], "rich_help_panel": about["group"], **more})


FAMILY_HELP = FIELDS["family"].metadata["help"]
FAMILY = {"help": FAMILY_HELP, "autocompletion": _recipes, "rich_help_panel": MODEL}
RECIPE = {"metavar": "FILE", "rich_help_panel": MODEL}
FoundationModel = Annotated[str, _shared("foundation_model", autocompletion=_models)]
ContextLength = Annotated[int | None, _shared("context_length", min=1)]
Option = Annotated[
    list[str] | None,
    typer.Option(
        metavar="NAME=VALUE",
        help="An option of the family, such as lags=24; may be repeated. `adapts list families` names them.",
        rich_help_panel=MODEL,
    ),
]
Objective = Annotated[str | None, _shared("objective")]
HorizonWeights = Annotated[float | None, _shared("horizon_weights")]
LearningRate = Annotated[float | None, _shared("learning_rate")]
PosteriorDraws = Annotated[int, _shared("posterior_draws", min=1)]
ProbeHead = Annotated[bool | None, _shared("probe_head", "--probe-head/--no-probe-head", show_default=False)]
MaxWindows = Annotated[int, _shared("max_windows", min=1)]
Copula = Annotated[str, _shared("copula")]
Recalibration = Annotated[str, _shared("recalibration")]
Gate = Annotated[bool, _shared("gate", "--gate/--no-gate")]
Support = Annotated[
    list[str] | None,
    _shared(
        "support", metavar="[NAME=]LOW,HIGH",
        help="What values can be: 0, (at least 0) or 0,100 for all channels, ghi=0, for one; may be repeated.",
    ),
]  # fmt: skip
NumSamples = Annotated[
    int, typer.Option(min=2, help="How many joint samples the scores are taken on.", rich_help_panel=RUN)
]
Seed = Annotated[int, _shared("seed", min=0, max=2**32 - 1)]
Device = Annotated[str, _shared("device")]
CheckpointDir = Annotated[
    Path | None,
    typer.Option(
        metavar="FOLDER",
        help="Where to keep what is finished: after a break, the same command goes on from there.",
        rich_help_panel=RUN,
    ),
]
Overwrite = Annotated[
    bool, typer.Option("--overwrite", help="Replace the folder of an earlier run.", rich_help_panel=RUN)
]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Print the table alone, no progress.", rich_help_panel=RUN)]
Verbose = Annotated[
    bool, typer.Option("--verbose", "-v", help="Tell every stage, and errors in full.", rich_help_panel=RUN)
]
Json = Annotated[
    bool,
    typer.Option("--json", help="Print the result as JSON, errors too, and nothing else.", rich_help_panel=RUN),
]

# How a result is handed over; everything else decides what it is.
_HANDED_OVER = ("output", "checkpoint_dir", "overwrite", "quiet", "verbose", "as_json")


def asked(context: typer.Context) -> dict[str, Any]:
    r"""The options that decide a result, by name, in the order of the help."""
    names = [parameter.name for parameter in context.command.params if parameter.name in context.params]
    plain = {str(name): context.params[str(name)] for name in names if name not in _HANDED_OVER}
    return {name.removesuffix("_"): _plain(value) for name, value in plain.items()}


def _plain(value: Any) -> Any:
    r"""A value as JSON can hold it; an option that may be repeated and is not there is None."""
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value] or None
    return str(value) if isinstance(value, Path) else value


def was_given(context: typer.Context, name: str) -> bool:
    r"""Whether an option was typed, be it with the value that it has by default."""
    source = context.get_parameter_source(name)
    return source is not None and source.name != "DEFAULT"


def family_options(family: str, given: Sequence[str]) -> dict[str, Any]:
    r"""Reads the options of a family, each as the type that the family declares.

    Arguments:
        family: The family's registered name.
        given: Texts such as "lags=24".

    Returns:
        The values by name.

    Raises:
        ValueError: If a text names no value, no option of the family, or a value of another type.
    """
    from ..adapters import make
    from ..errors import unknown

    if not given:
        return {}
    declared = type(make(family))
    kinds = get_type_hints(declared)
    found = {}
    for text in given:
        name, equals, value = text.partition("=")
        name = name.strip()
        if not equals:
            raise ValueError(f"--option expects NAME=VALUE, such as lags=24, got {shown(text)}")
        if name not in declared.fields():
            raise ValueError(unknown(f"option of {declared.__name__}", name, declared.fields()))
        try:
            found[name] = _typed(value.strip(), kinds[name])
        except ValueError:
            kind = kinds[name].__name__ if isinstance(kinds[name], type) else str(kinds[name])
            raise ValueError(f"--option {name} expects {kind}, got {shown(value)}") from None
    return found


def _typed(text: str, kind: Any) -> Any:
    r"""A text as a type: None, a truth, a number, a text, or several of these."""
    origin, kinds = get_origin(kind), get_args(kind)
    if origin in (Union, UnionType):
        for each in sorted(kinds, key=lambda one: one is str):  # any text is a str
            with suppress(ValueError):
                return _typed(text, each)
    elif origin in (list, tuple):
        return origin(_typed(part.strip(), kinds[0]) for part in text.split(","))
    elif origin is Literal and text in kinds:
        return text
    elif kind is NoneType and text.lower() == "none":
        return None
    elif kind is bool and text.lower() in ("true", "false"):
        return text.lower() == "true"
    elif kind in (int, float, str):
        return kind(text)
    raise ValueError(text)


def support(given: Sequence[str]) -> tuple[float, float] | dict[str, tuple[float, float]] | None:
    r"""Reads the support as `Adapter` takes it.

    Arguments:
        given: Texts such as "0,100" for all channels, or "humidity=0,100" for one. A side left out has no bound.

    Returns:
        One support for all channels, or supports by channel; None where nothing is given.

    Raises:
        ValueError: If a text is neither, or one for all stands beside others.
    """
    form = "--support expects LOW,HIGH for all channels or NAME=LOW,HIGH for each (0, is at least 0)"
    by_channel: dict[str, tuple[float, float]] = {}
    for text in given:
        name, equals, bounds = text.rpartition("=")
        sides = [side.strip() for side in bounds.split(",")]
        try:
            low, high = (float(side or none) for side, none in zip(sides, ("-inf", "inf"), strict=True))
        except ValueError:
            raise ValueError(f"{form}, got {shown(text)}") from None
        if not low < high:
            raise ValueError(f"--support expects low < high, got {shown(text)}")
        if not equals and len(given) > 1:
            raise ValueError(f"{form}, got {shown(text)} beside others")
        if not equals:
            return low, high
        if name.strip() in by_channel:
            raise ValueError(f"--support names {shown(name.strip())} twice")
        by_channel[name.strip()] = low, high
    return by_channel or None
