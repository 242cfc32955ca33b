r"""`adapts list`: what can be named."""

from __future__ import annotations

__all__ = ["EXAMPLES", "Roster", "list_"]

import json
from enum import StrEnum
from typing import Annotated, Any

import typer

from .options import Json

EXAMPLES = """\
**Examples**

- adapts list families

- adapts list datasets --json
"""


class Roster(StrEnum):
    r"""What `adapts list` can list."""

    families = "families"
    models = "models"
    datasets = "datasets"


def list_(
    what: Annotated[Roster, typer.Argument(help="Which roster.")],
    as_json: Json = False,
) -> None:
    r"""List the families (recipes), foundation models or data sets that can be named."""
    rows = {Roster.families: _families, Roster.models: _models, Roster.datasets: _datasets}[what]()
    if as_json:
        typer.echo(json.dumps([row for row, _ in rows], indent=1))
        return
    wide = max(len(row["name"]) for row, _ in rows)
    for row, about in rows:
        typer.echo(f"{row['name'].ljust(wide)}  {about}")
    if what is Roster.models:
        typer.echo("A folder with a Chronos-Bolt checkpoint, or its name on the Hugging Face hub, will do as well.")


def _families() -> list[tuple[dict[str, Any], str]]:
    from ..adapters import make
    from ..registry import load_recipe, recipes

    found = []
    for name in recipes():
        recipe = load_recipe(name)
        options = make(recipe["family"], recipe["options"]).options()
        when = " ".join(recipe["when"].split())
        row = {"name": name, **recipe, "when": when, "options": options}
        values = ", ".join(f"{option}={value}" for option, value in options.items())
        found.append((row, f"{when} Options: {values or 'none'}."))
    return found


def _models() -> list[tuple[dict[str, Any], str]]:
    from ..foundation import foundation_models

    return [({"name": name, "path": str(path)}, f"bundled, {path}") for name, path in foundation_models().items()]


def _datasets() -> list[tuple[dict[str, Any], str]]:
    from ..registry import cards, load_card

    found = []
    for name in cards():
        card = load_card(name)
        row = {
            "name": name,
            "channels": list(card["channels"]),
            **{key: card[key] for key in ("frequency", "season_length", "source", "licence")},
        }
        found.append((row, f"{len(row['channels'])} channels, every {card['frequency']}; {card['source']}"))
    return found
