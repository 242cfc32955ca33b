r"""Options that commands share, with the names of `Adapter`, and the parsing of their values."""

from __future__ import annotations

__all__ = ["arguments_of", "family_options", "support", "was_given"]

import os
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

import typer

from ..errors import shown
from ..fractions import FRACTIONS
from ..options import FIELDS, MODEL, RUN

#: The group of the options for reading data.
READING = "How DATA is read"


def _recipes(incomplete: str) -> list[str]:
    from ..registry import recipes

    return [name for name in recipes() if name.startswith(incomplete)]


def _cards(incomplete: str) -> list[str]:
    from ..registry import cards

    return [name for name in cards() if name.startswith(incomplete)]


def _models(incomplete: str) -> list[str]:
    from ..foundation.names import WEIGHTS

    return [name for name in WEIGHTS if name.startswith(incomplete)]


Data = Annotated[
    str,
    typer.Argument(
        metavar="DATA",
        help="A file (CSV, Parquet, ...), or the name of a data card: see `adapts list datasets`.",
        autocompletion=_cards,
    ),
]
Columns = Annotated[
    list[str] | None,
    typer.Option(
        help="A column to forecast, or several, comma-separated; may be repeated. All by default.",
        rich_help_panel=READING,
    ),
]
PastCovariates = Annotated[
    list[str] | None,
    typer.Option(help="Covariates that are known up to the forecast origin; as --columns.", rich_help_panel=READING),
]
KnownCovariates = Annotated[
    list[str] | None,
    typer.Option(help="Covariates whose future values are known; as --columns.", rich_help_panel=READING),
]
Calendar = Annotated[
    bool,
    typer.Option("--calendar", help="Use the time of day, week and year as known covariates.", rich_help_panel=READING),
]
Static = Annotated[
    list[str] | None,
    typer.Option(help="Static covariates, constant within each series; as --columns.", rich_help_panel=READING),
]
TimestampColumn = Annotated[
    str | None, typer.Option(help="The column of the dates; detected by default.", rich_help_panel=READING)
]
ItemColumn = Annotated[
    list[str] | None,
    typer.Option(
        help="The column, or columns, that name the series in a long file; as --columns.", rich_help_panel=READING
    ),
]
Frequency = Annotated[
    str | None,
    typer.Option(help="The pandas alias of the time step; inferred by default.", rich_help_panel=READING),
]
Regularise = Annotated[
    bool,
    typer.Option(
        "--regularise",
        help="Sort the dates, average repeated ones, and insert NaN for missing ones.",
        rich_help_panel=READING,
    ),
]


def _shared(name: str, *flags: str, **more: Any) -> Any:
    r"""Return the command-line option for an option of `Adapter`, with its help and its group."""
    about = FIELDS[name].metadata
    return typer.Option(*flags, **{"help": about["help"], "rich_help_panel": about["group"], **more})


def _fractions(given: Any) -> Any:
    r"""Parse comma-separated numbers; other texts are returned as they are, for `Adapter` to reject."""
    with suppress(ValueError, AttributeError):
        return tuple(float(part) for part in given.split(","))
    return given


def _names(given: Any) -> Any:
    r"""Split comma-separated names, unless the whole is a path."""
    return (
        [name.strip() for name in given.split(",")]
        if isinstance(given, str) and "," in given and not os.path.exists(given)
        else given
    )


DEFAULT = ",".join(map(str, FRACTIONS))
FAMILY_HELP = FIELDS["family"].metadata["help"]
FAMILY = {"help": FAMILY_HELP, "autocompletion": _recipes, "rich_help_panel": MODEL}
RECIPE = {"metavar": "FILE", "rich_help_panel": MODEL}
FoundationModel = Annotated[
    Any, _shared("foundation_model", metavar="NAME[,NAME...]", parser=_names, autocompletion=_models)
]
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
Splits = Annotated[
    Any, _shared("splits", metavar="TRAIN,VALIDATION,CALIBRATION,SELECTION", parser=_fractions, show_default=DEFAULT)
]
MaxWindows = Annotated[int | None, _shared("max_windows", min=1)]
Copula = Annotated[str, _shared("copula")]
Recalibration = Annotated[str, _shared("recalibration")]
Gate = Annotated[bool, _shared("gate", "--gate/--no-gate")]
Support = Annotated[
    list[str] | None,
    _shared(
        "support", metavar="[NAME=]LOW,HIGH",
        help="Bounds of the values: 0, (at least 0) or 0,100 for all channels, ghi=0, for one; may be repeated.",
    ),
]  # fmt: skip
NumSamples = Annotated[
    int, typer.Option(min=2, help="The number of joint samples for the scores.", rich_help_panel=RUN)
]
Seed = Annotated[int, _shared("seed", min=0, max=2**32 - 1)]
Device = Annotated[str, _shared("device")]
CheckpointDir = Annotated[
    Path | None,
    typer.Option(
        metavar="FOLDER",
        help="The folder for checkpoints, from which the same command resumes after an interruption.",
        rich_help_panel=RUN,
    ),
]
TimeLimit = Annotated[
    float | None,
    typer.Option(metavar="SECONDS", help="The seconds that each fit may take; any by default.", rich_help_panel=RUN),
]
Overwrite = Annotated[
    bool, typer.Option("--overwrite", help="Replace the folder of an earlier run.", rich_help_panel=RUN)
]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Print only the table, no progress.", rich_help_panel=RUN)]
Verbose = Annotated[
    bool, typer.Option("--verbose", "-v", help="Log every stage, and show tracebacks.", rich_help_panel=RUN)
]
Json = Annotated[
    bool,
    typer.Option("--json", help="Print only JSON: the result, or the error.", rich_help_panel=RUN),
]

# Options of the output; all others determine the result.
_OUTPUT_OPTIONS = ("output", "checkpoint_dir", "overwrite", "quiet", "verbose", "as_json")


def arguments_of(context: typer.Context) -> dict[str, Any]:
    r"""Return the options that determine the result, by name, in the order of the help."""
    names = [parameter.name for parameter in context.command.params if parameter.name in context.params]
    plain = {str(name): context.params[str(name)] for name in names if name not in _OUTPUT_OPTIONS}
    return {name.removesuffix("_"): _plain(value) for name, value in plain.items()}


def _plain(value: Any) -> Any:
    r"""Return an option as JSON values; a repeatable option that is absent is None."""
    if isinstance(value, list | tuple):
        return [_plain(entry) for entry in value] or None
    return str(value) if isinstance(value, Path) else value


def was_given(context: typer.Context, name: str) -> bool:
    r"""Return whether an option was passed, possibly with its default value."""
    source = context.get_parameter_source(name)
    return source is not None and source.name != "DEFAULT"


def family_options(family: str, given: Sequence[str]) -> dict[str, Any]:
    r"""Parse the options of a family as the types that the family declares.

    Arguments:
        family: The family's registered name.
        given: The texts, such as "lags=24".

    Returns:
        The values by name.

    Raises:
        ValueError: If a text has no value, names no option of the family, or has a value of another type.
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
    r"""Parse a text as a type: None, a boolean, a number, text, or several of these."""
    origin, kinds = get_origin(kind), get_args(kind)
    if origin in (Union, UnionType):
        for candidate in sorted(kinds, key=lambda option_type: option_type is str):  # last, as any text is a str
            with suppress(ValueError):
                return _typed(text, candidate)
    elif origin in (list, tuple, Sequence):
        parts = [_typed(part.strip(), kinds[0]) for part in text.split(",")]
        return parts if origin is list else tuple(parts)
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
    r"""Parse the support for `Adapter`.

    Arguments:
        given: The texts, such as "0,100" for all channels, or "humidity=0,100" for one. An empty side has no bound.

    Returns:
        One support for all channels, or supports by channel; None if nothing is given.

    Raises:
        ValueError: If a text is neither, or one for all channels is combined with others.
    """
    expected = "--support expects LOW,HIGH for all channels or NAME=LOW,HIGH for each (0, is at least 0)"
    by_channel: dict[str, tuple[float, float]] = {}
    for text in given:
        name, equals, bounds = text.rpartition("=")
        sides = [side.strip() for side in bounds.split(",")]
        try:
            low, high = (float(side or none) for side, none in zip(sides, ("-inf", "inf"), strict=True))
        except ValueError:
            raise ValueError(f"{expected}, got {shown(text)}") from None
        if not low < high:
            raise ValueError(f"--support expects low < high, got {shown(text)}")
        if not equals and len(given) > 1:
            raise ValueError(f"{expected}, got {shown(text)} beside others")
        if not equals:
            return low, high
        if name.strip() in by_channel:
            raise ValueError(f"--support names {shown(name.strip())} twice")
        by_channel[name.strip()] = low, high
    return by_channel or None
