r"""The two shelves: finds and checks the recipes of the families and the cards of the data sets."""

from __future__ import annotations

__all__ = ["cards", "load_card", "load_recipe", "recipes", "unknown"]

from collections.abc import Iterable
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from .errors import shown

# The keys of a recipe, with their types; the first two must be there.
_RECIPE: dict[str, type] = {"family": str, "when": str, "options": dict, "training": dict, "paper": dict}
_TRAINING: dict[str, type] = {"objective": str, "horizon_weights": float, "learning_rate": float}
_PAPER: dict[str, type] = {"title": str, "year": int, "url": str}


def recipes() -> dict[str, Path]:
    r"""Returns the recipes on the shelf `adapters/`, by name.

    Example:
        >>> "linear" in adapts.shelf.recipes()
        True
    """
    return _find("adapters")


def cards() -> dict[str, Path]:
    r"""Returns the data cards on the shelf `datasets/`, by name.

    Example:
        >>> "greensboro" in adapts.shelf.cards()
        True
    """
    return _find("datasets")


def load_recipe(name: str | Path) -> dict[str, Any]:
    r"""Reads a recipe and checks it.

    Arguments:
        name: The recipe's name, its file's without the ending; or, as a Path, a recipe file of your own, which need
            not say when to use it. Its family may be the name of a recipe, whose options and training then stand under
            those of the file.

    Returns:
        The keys `family` (a registered name), `when` (when to use it), `options` (fields of the family's class),
        `training` (objective) and `paper` (title, year, url); all but the family empty where the recipe leaves them
        out.

    Raises:
        ValueError: If there is no such recipe, or it is not written as a recipe is.
    """
    where = f"the recipe {str(name)!r}"
    if isinstance(name, Path):
        recipe = _read(where, name)
        _check(where, recipe, _RECIPE, required=("family",))
    else:
        recipe = _load("adapter", name, recipes())
        _check(where, recipe, _RECIPE, required=("family", "when"))
    recipe = {"when": "", "options": {}, "training": {}, "paper": {}, **recipe}
    base = recipe["family"]
    if base != name and base in recipes() and (other := load_recipe(base))["family"] != base:
        merged = {key: {**other[key], **recipe[key]} for key in ("options", "training")}
        recipe = {**recipe, **merged, "family": other["family"]}
    for option in recipe["options"]:
        if not isinstance(option, str):
            raise ValueError(f"{where} takes options by name, got {option!r}")
    _check(f"the training of {where}", recipe["training"], _TRAINING, required=())
    if recipe["paper"]:
        _check(f"the paper of {where}", recipe["paper"], _PAPER, required=_PAPER)
    return recipe


def load_card(name: str) -> dict[str, Any]:
    r"""Reads the data card of that name; what its keys mean is known to `adapts.readers`.

    Arguments:
        name: The card's name, its file's without the ending.

    Returns:
        The card's keys and values.

    Raises:
        ValueError: If there is no such card, or it is no mapping.
    """
    return _load("data card", name, cards())


def unknown(kind: str, name: object, known: Iterable[str]) -> ValueError:
    r"""Makes the error for a name that nothing bears: it lists those known and suggests the nearest.

    Arguments:
        kind: What was looked for, as in "adapter".
        name: The name that was given.
        known: The names there are, in the order in which to list them.

    Returns:
        The error, for the caller to raise.

    Example:
        >>> print(unknown("adapter", "vea", ["linear", "vae"]))
        no adapter is called 'vea'; known: linear, vae (did you mean 'vae'?)
    """
    known = list(known)
    by_case = {candidate.lower(): candidate for candidate in known}
    nearest = get_close_matches(name.lower(), by_case, n=1) if isinstance(name, str) and len(name) < 100 else []
    hint = f" (did you mean {by_case[nearest[0]]!r}?)" if nearest else ""
    listed = ", ".join(known[:50]) + (f" and {len(known) - 50} more" if len(known) > 50 else "")
    return ValueError(f"no {kind} is called {shown(name)}; known: {listed or 'none'}{hint}")


def _find(shelf: str) -> dict[str, Path]:
    r"""Returns the files of a shelf by name: of the wheel's copy, or of the checkout's where there is none."""
    package = Path(__file__).parent
    shipped = package / "_shelf" / shelf
    folder = shipped if shipped.is_dir() else package.parent / shelf
    return {path.stem: path for path in sorted(folder.glob("*.yaml"))}


def _load(kind: str, name: str, known: dict[str, Path]) -> dict[str, Any]:
    if name not in known:
        raise unknown(kind, name, known)
    return _read(f"the {kind} {name!r} ({known[name]})", known[name])


def _read(where: str, path: Path) -> dict[str, Any]:
    import yaml

    if not path.is_file():
        raise ValueError(f"{where} is a folder, expected a YAML file" if path.is_dir() else f"there is no file {path}")
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f"{where} is not valid YAML: {error}") from error
    if not isinstance(content, dict):
        raise ValueError(f"{where} must be a mapping of keys to values, got {type(content).__name__}")
    return content


def _check(where: str, content: dict[str, Any], keys: dict[str, type], *, required: Iterable[str]) -> None:
    r"""Checks a mapping's keys and the types of their values."""
    for key in content:
        if key not in keys:
            raise unknown(f"key of {where}", key, keys)
    for key in required:
        if key not in content:
            raise ValueError(f"{where} lacks the key {key!r}; it needs {', '.join(required)}")
    for key, value in content.items():
        if not isinstance(value, keys[key]):
            raise ValueError(
                f"{where} takes a {keys[key].__name__} for the key {key!r}, got {value!r} ({type(value).__name__})"
            )
