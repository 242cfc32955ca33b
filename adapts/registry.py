r"""Registry of presets and data cards: finds and validates their YAML files."""

from __future__ import annotations

__all__ = ["cards", "load_card", "load_recipe", "recipes"]

from pathlib import Path
from typing import Any

from .errors import reading, shown, unknown

#: The maximum size of a preset or card in bytes.
LARGEST = 2**17


def recipes() -> dict[str, Path]:
    r"""Return the files of the presets in `adapters/`, by name.

    Example:
        >>> "linear" in adapts.registry.recipes()
        True
    """
    return _find("adapters")


def cards() -> dict[str, Path]:
    r"""Return the files of the data cards in `datasets/`, by name.

    Example:
        >>> "greensboro" in adapts.registry.cards()
        True
    """
    return _find("datasets")


def load_recipe(name: str | Path) -> dict[str, Any]:
    r"""Read and validate a preset of an adapter family.

    Arguments:
        name: The preset's name, its file name without the suffix; or, as a Path, a preset file of your own, which
            needs no `when`. Its family may be the name of another preset; the options and training of the file then
            override those of that preset.

    Returns:
        The keys `family` (a registered name), `when` (when to use it), `options` (fields of the family's class),
        `training` (objective) and `paper` (title, year, url). All but the family are empty if the preset omits them.

    Raises:
        ValueError: If there is no such preset, or it is invalid.
    """
    from .persistence.schemas import Recipe, ShelfRecipe, validated

    where = f"the recipe {shown(str(name))}"
    if isinstance(name, Path):
        schema: type[Recipe] = Recipe
        content = _read(where, name)
    else:
        schema, content = ShelfRecipe, _load("adapter", name, recipes())
    validated_preset = validated(schema, content, where, "write it as the recipes on the shelf are", unknown=unknown)
    recipe = {"when": "", "options": {}, "training": {}, "paper": {}, **validated_preset.model_dump(exclude_unset=True)}
    base = recipe["family"]
    if base != name and base in recipes() and (other := load_recipe(base))["family"] != base:
        merged = {key: {**other[key], **recipe[key]} for key in ("options", "training")}
        recipe = {**recipe, **merged, "family": other["family"]}
    return recipe


def load_card(name: str) -> dict[str, Any]:
    r"""Read and validate a data card; `adapts.data.cards` interprets its keys.

    Arguments:
        name: The card's name, its file name without the suffix.

    Returns:
        The card's keys and values.

    Raises:
        ValueError: If there is no such card, or it is invalid.
    """
    from .persistence.schemas import DataCard, validated

    where = f"the data card {shown(name)}"
    content = _load("data card", name, cards())
    return validated(DataCard, content, where, "write it as the other cards are", unknown=unknown).model_dump(
        exclude_unset=True
    )


def _find(folder_name: str) -> dict[str, Path]:
    r"""Return the files of a registry folder by name, from the wheel if possible, otherwise from the checkout."""
    package = Path(__file__).parent
    shipped = package / "_shelf" / folder_name
    folder = shipped if shipped.is_dir() else package.parent / folder_name
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
