r"""Schemas of files, and readers with bounds on size and nesting."""

from __future__ import annotations

__all__ = [
    "Count",
    "ModelCard",
    "Said",
    "Strict",
    "Text",
    "once",
    "plain",
    "read_json",
    "read_text",
    "require_regular",
    "validated",
]

import json
import math
import stat
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Annotated, Any, Literal, NoReturn, TypeVar, get_args

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError
from pydantic.fields import FieldInfo

from ..errors import reading, shown

#: The maximum size of a config in bytes, enough for tens of thousands of items and channels.
LARGEST = 2**26
#: The maximum number of entries and the maximum nesting of handwritten files.
ENTRIES, DEPTH = 20_000, 16

#: The maximum length of the text on one stage of a fit, in characters.
MOST_SAID = 10_000

_Schema = TypeVar("_Schema", bound=BaseModel)


class Strict(BaseModel):
    r"""Schema that accepts only values of the declared types, without conversion, and no other keys."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True, arbitrary_types_allowed=True)


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError("should be text")
    return value


def _said(value: Any) -> str:
    if len(_text(value)) > MOST_SAID:
        raise ValueError(f"should have at most {MOST_SAID} characters")
    return str(value)


#: Text; unlike pydantic's own type, also invalid Unicode, which column names may contain.
Text = Annotated[Any, AfterValidator(_text)]
#: A printable text about a fit.
Said = Annotated[Any, AfterValidator(_said)]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
#: A non-negative count.
Count = Annotated[int, Field(ge=0, le=2**53)]


def require_regular(path: Path, what: str) -> int:
    r"""Check that a path is a regular file, and no folder, pipe or device.

    Arguments:
        path: The path.
        what: The name of the file, for the message.

    Returns:
        The size of the file in bytes.

    Raises:
        ValueError: If it is not a regular file.
    """
    with reading(f"{what} cannot be read", "check that the file is there and may be read"):
        file_stat = path.stat()
    if not stat.S_ISREG(file_stat.st_mode):
        raise ValueError(f"{what} is no regular file: pass a regular file")
    return file_stat.st_size


def read_text(path: Path, what: str, most: int) -> str:
    r"""Read a text file completely.

    Only regular files of a bounded size are read. Links to such files are followed: the Hugging Face cache uses them,
    and whoever can place a link in the folder can place the file.

    Arguments:
        path: The file.
        what: Its name, for the message.
        most: The maximum size in bytes.

    Returns:
        The text.

    Raises:
        ValueError: If it cannot be read, is not a regular file, is too large, or is not UTF-8.
    """
    size = require_regular(path, what)
    if size > most:
        raise ValueError(f"{what} has {size} bytes, expected at most {most}: pass a file that adapts wrote")
    with reading(f"{what} cannot be read", "give a file of UTF-8 text"):
        return path.read_bytes()[: most + 1].decode("utf-8")


def read_json(path: Path, what: str, remedy: str, *, most: int = LARGEST) -> Any:
    r"""Read a JSON file: strict JSON, without NaN, infinities and duplicate keys.

    Arguments:
        path: The file.
        what: Its name, for the message.
        remedy: The advice for a damaged file, for the message.
        most: The maximum size in bytes.

    Returns:
        The content.

    Raises:
        ValueError: If it cannot be read, or is not such JSON.
    """
    text = read_text(path, what, most)
    with reading(f"{what} is not valid JSON", remedy):
        return json.loads(text, parse_constant=_no_number, parse_float=_finite, object_pairs_hook=once)


def _no_number(name: str) -> NoReturn:
    raise ValueError(f"it holds {name}, which is no JSON")


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"it holds {text[:40]}, which exceeds the range of floating-point numbers")
    return number


def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    r"""Convert the pairs of a JSON object to a dict, as a hook of `json.loads`.

    Arguments:
        pairs: The keys and values.

    Returns:
        The dict.

    Raises:
        ValueError: If a key is duplicate; JSON's own reader would keep the last value.
    """
    content = dict(pairs)
    if len(content) < len(pairs):
        name = next(name for name, times in Counter(name for name, _ in pairs).items() if times > 1)
        raise ValueError(f"it holds the key {shown(name)} twice")
    return content


def plain(content: Any, what: str) -> None:
    r"""Check that handwritten content is not too large or deep, counting repeated references each time.

    Arguments:
        content: The content of a YAML file.
        what: Its name, for the message.

    Raises:
        ValueError: If it is nested too deeply, or has too many entries.
    """
    level, remaining = [content], ENTRIES
    for _ in range(DEPTH):
        inner: list[Any] = []
        for value in level:
            children: Iterable[Any] = (
                value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
            )
            inner.extend(children)
            remaining -= 1
            if remaining < len(inner):
                raise ValueError(
                    f"{what} has more than {ENTRIES} entries: write fewer entries, without repeated references"
                )
        if not inner:
            return
        level = inner
    raise ValueError(f"{what} is nested more than {DEPTH} levels deep: write it flatter")


def validated(
    schema: type[_Schema],
    content: Any,
    what: str,
    remedy: str,
    *,
    unknown: Callable[[str, str, Iterable[str]], ValueError],
) -> _Schema:
    r"""Validate content against a schema.

    Arguments:
        schema: The schema.
        content: The content of a file.
        what: Its name, for the message.
        remedy: The advice for invalid content, for the message.
        unknown: The function that creates the error for an unknown key: `adapts.errors.unknown`.

    Returns:
        The validated content.

    Raises:
        ValueError: If it does not match the schema; the message names the first error.
    """
    if not isinstance(content, dict):
        raise ValueError(f"{what} must be a mapping of keys to values, got {type(content).__name__}: {remedy}")
    known = schema.model_fields
    if len(content) > len(known) and schema.model_config.get("extra") == "forbid":  # pydantic would report all keys
        strange = next(name for name in content if name not in known)
        raise ValueError(f"{unknown(f'key of {what}', strange, known)}: {remedy}")
    try:
        return schema.model_validate(content)
    except ValidationError as error:
        fault = error.errors(include_url=False, include_context=False)[0]
        where, known = ".".join(str(part)[:60] for part in fault["loc"]), _fields(schema, fault["loc"][:-1])
        if fault["type"] == "missing":
            needed = ", ".join(name for name, field in known.items() if field.is_required())
            message = f"{what} lacks the key {where!r}{f'; it needs {needed}' if needed else ''}"
        elif fault["type"] == "extra_forbidden" and known:
            message = str(unknown(f"key of {what}", str(fault["loc"][-1]), known))
        else:
            reason = fault["msg"].removeprefix("Value error, ").replace("Input should", "should", 1)
            message = f"{what} has the key {where!r}, which {reason}, got {shown(fault['input'])}"
            message += f" ({type(fault['input']).__name__})"
        raise ValueError(f"{message}: {remedy}") from error
    except RecursionError as error:
        raise ValueError(f"{what} is nested too deeply: {remedy}") from error


def _fields(schema: type[BaseModel], place: tuple[int | str, ...]) -> dict[str, FieldInfo]:
    r"""Return the fields of the nested schema at a location; none if there is no schema."""
    for part in place:
        field = schema.model_fields.get(str(part))
        inner = [] if field is None else [field.annotation, *get_args(field.annotation)]
        schemas = [candidate for candidate in inner if isinstance(candidate, type) and issubclass(candidate, BaseModel)]
        if not schemas:
            return {}
        schema = schemas[0]
    return schema.model_fields


class Training(Strict):
    r"""Settings of training by gradient in a preset."""

    objective: Text | None = None
    horizon_weights: float | None = None
    learning_rate: float | None = None


class Paper(Strict):
    r"""Paper that a preset is based on."""

    title: Text
    year: int
    url: Text


class Recipe(Strict):
    r"""User-defined preset."""

    family: Text
    when: Text = ""
    options: dict[Text, Any] = {}
    training: Training = Training()
    paper: Paper | None = None


class ShelfRecipe(Recipe):
    r"""Preset in the registry; `when` is required."""

    when: Text


Rows = Annotated[int, Field(ge=1, le=2**53)]
_Side = Annotated[float, Field(allow_inf_nan=True)]


class Borders(Strict):
    r"""Row numbers at which the splits of a data set end."""

    train: Rows
    validation: Rows
    test: Rows


def _inside(name: str) -> str:
    parts = name.replace("\\", "/").split("/")
    if not name or name.startswith("/") or ".." in parts or ":" in parts[0]:
        raise ValueError("should be a path within a folder")
    return name


class DataCard(Strict):
    r"""Data card: the location of a data set, and how to read it."""

    name: Text
    source: Text
    licence: Text
    file: Annotated[str, AfterValidator(_inside)]
    sha256: Annotated[list[Sha256], Field(min_length=1)]
    reader: Literal["csv", "tmy3"]
    timestamp_column: Text | None = None
    timestamps: Literal["as-rows"] | None = None
    date_format: Text | None = None
    hour_column: Text | None = None
    frequency: Text
    coerce_year: Annotated[int, Field(ge=1678, le=2261)] | None = None
    channels: list[Text] | dict[Text, Text]
    known_covariates: list[Text] = []
    calendar: bool = False
    borders: Borders
    season_length: Rows
    missing: list[float] = []
    support: dict[Text, Annotated[list[_Side], Field(min_length=2, max_length=2)]] = {}
    package: Text | None = None
    extra: Text | None = None
    repairs: list[Text] = []
    notes: list[Text] = []


class PredictorOptions(Strict):
    r"""Options of a serialised predictor, and the digest of the config of its adapter.

    Predictors of earlier versions name no adapter. While a predictor is replaced, its previous options are kept too.
    """

    num_samples: Annotated[int, Field(ge=1, le=2**31)]
    batch_size: Annotated[int, Field(ge=1, le=2**31)]
    freq: Text | None
    adapter: Sha256 | None = None
    previous: PredictorOptions | None = None


class ModelCard(BaseModel):
    r"""The `card.json` of a checkpoint; other keys are ignored."""

    model_config = ConfigDict(strict=True, extra="ignore", frozen=True)

    name: Annotated[str, Field(min_length=1, max_length=200)] | None = None
    version: Annotated[str, Field(min_length=1, max_length=200)] | None = None
