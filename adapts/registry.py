r"""The two shelves: finds and checks the recipes of the families and the cards of the data sets."""

from __future__ import annotations

__all__ = ["cards", "load_card", "load_recipe", "recipes"]

from pathlib import Path
from typing import Any

from .errors import reading, shown, unknown

#: The largest recipe or card that is read, in bytes.
LARGEST = 2**17


def recipes() -> dict[str, Path]:
    r"""Returns the recipes on the shelf `adapters/`, by name.

    Example:
        >>> "linear" in adapts.registry.recipes()
        True
    """
    return _find("adapters")


def cards() -> dict[str, Path]:
    r"""Returns the data cards on the shelf `datasets/`, by name.

    Example:
        >>> "greensboro" in adapts.registry.cards()
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
    from .persistence.schemas import Recipe, ShelfRecipe, validated

    where = f"the recipe {shown(str(name))}"
    if isinstance(name, Path):
        schema: type[Recipe] = Recipe
        content = _read(where, name)
    else:
        schema, content = ShelfRecipe, _load("adapter", name, recipes())
    held = validated(schema, content, where, "write it as the recipes on the shelf are", unknown=unknown)
    recipe = {"when": "", "options": {}, "training": {}, "paper": {}, **held.model_dump(exclude_unset=True)}
    base = recipe["family"]
    if base != name and base in recipes() and (other := load_recipe(base))["family"] != base:
        merged = {key: {**other[key], **recipe[key]} for key in ("options", "training")}
        recipe = {**recipe, **merged, "family": other["family"]}
    return recipe


def load_card(name: str) -> dict[str, Any]:
    r"""Reads the data card of that name; what its keys mean is known to `adapts.data.cards`.

    Arguments:
        name: The card's name, its file's without the ending.

    Returns:
        The card's keys and values.

    Raises:
        ValueError: If there is no such card, or it is not written as a card is.
    """
    from .persistence.schemas import DataCard, validated

    where = f"the data card {shown(name)}"
    content = _load("data card", name, cards())
    return validated(DataCard, content, where, "write it as the other cards are", unknown=unknown).model_dump(
        exclude_unset=True
    )


def _find(shelf: str) -> dict[str, Path]:
    r"""Returns the files of a shelf by name: of the wheel's copy, or of the checkout's where there is none."""
    package = Path(__file__).parent
    shipped = package / "_shelf" / shelf
    folder = shipped if shipped.is_dir() else package.parent / shelf
    return {path.stem: path for path in sorted(folder.glob("*.yaml"))}


def _load(kind: str, name: str, known: dict[str, Path]) -> dict[str, Any]:
    if not isinstance(name, str) or name not in known:
        raise unknown(kind, name, known)
    return _read(f"the {kind} {name!r} ({known[name]})", known[name])


def _read(where: str, path: Path) -> dict[str, Any]:
    import yaml

    from .persistence.schemas import plain, read_text

    with reading(f"{where} cannot be looked for", "give its file another name"):
        is_file, is_folder = path.is_file(), path.is_dir()
    if not is_file:
        raise ValueError(f"{where} is a folder, expected a YAML file" if is_folder else f"there is no file {path}")
    text = read_text(path, where, LARGEST)
    with reading(f"{where} is not valid YAML", "write keys and values as the recipes and cards of the shelves do"):
        content = yaml.safe_load(text)
    if not isinstance(content, dict):
        raise ValueError(f"{where} must be a mapping of keys to values, got {type(content).__name__}")
    plain(content, where)
    return content
