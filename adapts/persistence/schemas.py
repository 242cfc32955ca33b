r"""What files of ours hold: read within bounds, and checked against a typed schema before anything is done with it."""

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

#: The largest config that is read, in bytes: of ten thousands of items and channels.
LARGEST = 2**26
#: The most entries and the deepest nesting of what a person writes by hand.
ENTRIES, DEPTH = 20_000, 16

#: The most characters of what is said of one stage of a fit.
MOST_SAID = 10_000

_Schema = TypeVar("_Schema", bound=BaseModel)


class Strict(BaseModel):
    r"""A schema that takes values of the types it names, as they are, and no further keys."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True, arbitrary_types_allowed=True)


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError("should be text")
    return value


def _said(value: Any) -> str:
    if len(_text(value)) > MOST_SAID:
        raise ValueError(f"should have {MOST_SAID} characters at most")
    return str(value)


#: Text; unlike pydantic's own, also such as is no valid Unicode, which names of columns may be.
Text = Annotated[Any, AfterValidator(_text)]
#: What is said of a fit, and printed.
Said = Annotated[Any, AfterValidator(_said)]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
#: A number of things.
Count = Annotated[int, Field(ge=0, le=2**53)]


def require_regular(path: Path, what: str) -> int:
    r"""Checks that a path leads to a regular file: no folder, no pipe and no device.

    Arguments:
        path: The path.
        what: What is there, for the message.

    Returns:
        The size of the file in bytes.

    Raises:
        ValueError: If there is none.
    """
    with reading(f"{what} cannot be read", "check that the file is there and may be read"):
        found = path.stat()
    if not stat.S_ISREG(found.st_mode):
        raise ValueError(f"{what} is no regular file: give one that is")
    return found.st_size


def read_text(path: Path, what: str, most: int) -> str:
    r"""Reads a text file whole.

    Only regular files are read, of a bounded size. A link to such a file is followed: the Hugging Face cache is made of
    them, and whoever can place one in the folder can place the file.

    Arguments:
        path: The file.
        what: What it is, for the message.
        most: The most bytes that it may have.

    Returns:
        The text.

    Raises:
        ValueError: If it cannot be read, is no regular file, is larger, or holds no UTF-8.
    """
    size = require_regular(path, what)
    if size > most:
        raise ValueError(f"{what} has {size} bytes, expected {most} at most: give one that adapts can have made")
    with reading(f"{what} cannot be read", "give a file of UTF-8 text"):
        return path.read_bytes()[: most + 1].decode("utf-8")


def read_json(path: Path, what: str, remedy: str, *, most: int = LARGEST) -> Any:
    r"""Reads a JSON file: strict JSON, without NaN and infinities, each key once.

    Arguments:
        path: The file.
        what: What it is, for the message.
        remedy: What to do where it is damaged, for the message.
        most: The most bytes that it may have.

    Returns:
        What it holds.

    Raises:
        ValueError: If it cannot be read, or holds no such JSON.
    """
    text = read_text(path, what, most)
    with reading(f"{what} is not valid JSON", remedy):
        return json.loads(text, parse_constant=_no_number, parse_float=_finite, object_pairs_hook=once)


def _no_number(name: str) -> NoReturn:
    raise ValueError(f"it holds {name}, which is no JSON")


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"it holds {text[:40]}, which is beyond all floating-point numbers")
    return number


def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    r"""Makes a mapping of the pairs of a JSON object, the hook of `json.loads`.

    Arguments:
        pairs: The keys and values.

    Returns:
        The mapping.

    Raises:
        ValueError: If a key comes twice, of which JSON's own reader keeps the last.
    """
    content = dict(pairs)
    if len(content) < len(pairs):
        name = next(name for name, times in Counter(name for name, _ in pairs).items() if times > 1)
        raise ValueError(f"it holds the key {shown(name)} twice")
    return content


def plain(content: Any, what: str) -> None:
    r"""Checks that what a person wrote has a size that a person writes, however its parts are repeated by reference.

    Arguments:
        content: What YAML holds.
        what: What it is, for the message.

    Raises:
        ValueError: If it is nested too deeply, or has too many entries.
    """
    level, left = [content], ENTRIES
    for _ in range(DEPTH):
        inner: list[Any] = []
        for value in level:
            part: Iterable[Any] = (
                value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
            )
            inner.extend(part)
            left -= 1
            if left < len(inner):
                raise ValueError(f"{what} has more than {ENTRIES} entries: write fewer, and repeat none by reference")
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
    r"""Checks content by a schema.

    Arguments:
        schema: The schema.
        content: What a file holds.
        what: What it is, for the message.
        remedy: What to do where it is not as the schema says, for the message.
        unknown: Makes the error for a key that there is not: `adapts.errors.unknown`.

    Returns:
        The content as the schema holds it.

    Raises:
        ValueError: If it is not as the schema says; the first fault is named.
    """
    if not isinstance(content, dict):
        raise ValueError(f"{what} must be a mapping of keys to values, got {type(content).__name__}: {remedy}")
    known = schema.model_fields
    if len(content) > len(known) and schema.model_config.get("extra") == "forbid":  # pydantic would list all of them
        strange = next(name for name in content if name not in known)
        raise ValueError(f"{unknown(f'key of {what}', strange, known)}: {remedy}")
    try:
        return schema.model_validate(content)
    except ValidationError as error:
        fault = error.errors(include_url=False, include_context=False)[0]
        where, known = ".".join(str(part)[:60] for part in fault["loc"]), _fields(schema, fault["loc"][:-1])
        if fault["type"] == "missing":
            needed = ", ".join(name for name, field in known.items() if field.is_required())
            said = f"{what} lacks the key {where!r}{f'; it needs {needed}' if needed else ''}"
        elif fault["type"] == "extra_forbidden" and known:
            said = str(unknown(f"key of {what}", str(fault["loc"][-1]), known))
        else:
            reason = fault["msg"].removeprefix("Value error, ").replace("Input should", "should", 1)
            said = f"{what} has the key {where!r}, which {reason}, got {shown(fault['input'])}"
            said += f" ({type(fault['input']).__name__})"
        raise ValueError(f"{said}: {remedy}") from error
    except RecursionError as error:
        raise ValueError(f"{what} is nested too deeply: {remedy}") from error


def _fields(schema: type[BaseModel], place: tuple[int | str, ...]) -> dict[str, FieldInfo]:
    r"""The fields of the schema at a place within another; none where there is no schema."""
    for part in place:
        field = schema.model_fields.get(str(part))
        inner = [] if field is None else [field.annotation, *get_args(field.annotation)]
        schemas = [each for each in inner if isinstance(each, type) and issubclass(each, BaseModel)]
        if not schemas:
            return {}
        schema = schemas[0]
    return schema.model_fields


class Training(Strict):
    r"""What a recipe says of training by gradient."""

    objective: Text | None = None
    horizon_weights: float | None = None
    learning_rate: float | None = None


class Paper(Strict):
    r"""The paper that a recipe is from."""

    title: Text
    year: int
    url: Text


class Recipe(Strict):
    r"""A recipe of one's own."""

    family: Text
    when: Text = ""
    options: dict[Text, Any] = {}
    training: Training = Training()
    paper: Paper | None = None


class ShelfRecipe(Recipe):
    r"""A recipe on the shelf, which says when to use it."""

    when: Text


Rows = Annotated[int, Field(ge=1, le=2**53)]
_Side = Annotated[float, Field(allow_inf_nan=True)]


class Borders(Strict):
    r"""The rows where the parts of a data set end."""

    train: Rows
    validation: Rows
    test: Rows


def _inside(name: str) -> str:
    parts = name.replace("\\", "/").split("/")
    if not name or name.startswith("/") or ".." in parts or ":" in parts[0]:
        raise ValueError("should be a path within a folder")
    return name


class DataCard(Strict):
    r"""A data card: where a data set is, and how it is read."""

    name: Text
    source: Text
    licence: Text
    file: Annotated[str, AfterValidator(_inside)]
    sha256: Annotated[list[Sha256], Field(min_length=1)]
    reader: Literal["csv", "tmy3"]
    timestamp_column: Text | None = None
    timestamps: Literal["as-rows"] | None = None
    frequency: Text
    coerce_year: Annotated[int, Field(ge=1678, le=2261)] | None = None
    channels: list[Text] | dict[Text, Text]
    borders: Borders
    season_length: Rows
    missing: list[float] = []
    support: dict[Text, Annotated[list[_Side], Field(min_length=2, max_length=2)]] = {}
    package: Text | None = None
    extra: Text | None = None
    repairs: list[Text] = []
    notes: list[Text] = []


class PredictorOptions(Strict):
    r"""The options of a serialised predictor, and the digest of the config of the adapter that they go with.

    Predictors of earlier versions name no adapter. While one is replaced, the options before are held too.
    """

    num_samples: Annotated[int, Field(ge=1, le=2**31)]
    batch_size: Annotated[int, Field(ge=1, le=2**31)]
    freq: Text | None
    adapter: Sha256 | None = None
    previous: PredictorOptions | None = None


class ModelCard(BaseModel):
    r"""The `card.json` of a checkpoint; what else it says is not looked at."""

    model_config = ConfigDict(strict=True, extra="ignore", frozen=True)

    name: Annotated[str, Field(min_length=1, max_length=200)] | None = None
    version: Annotated[str, Field(min_length=1, max_length=200)] | None = None
