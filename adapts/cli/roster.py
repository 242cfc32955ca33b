r"""`adapts list`: families, foundation models and data sets."""

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
    r"""Rosters that `adapts list` can print."""

    families = "families"
    models = "models"
    datasets = "datasets"


def list_(
    what: Annotated[Roster, typer.Argument(help="The roster to print.")],
    as_json: Json = False,
) -> None:
    r"""List the families (recipes), foundation models or data sets."""
    rows = {Roster.families: _families, Roster.models: _models, Roster.datasets: _datasets}[what]()
    if as_json:
        typer.echo(json.dumps([row for row, _ in rows], indent=1))
        return
    width = max(len(row["name"]) for row, _ in rows)
    for row, description in rows:
        typer.echo(f"{row['name'].ljust(width)}  {description}")
    if what is Roster.models:
        typer.echo(
            "A folder with a checkpoint of any of these backends, or its name on the Hugging Face hub, is accepted"
        )
        typer.echo("as well. Licences are as publishers state them; read them before use.")


def _families() -> list[tuple[dict[str, Any], str]]:
    from ..adapters import make
    from ..registry import load_recipe, recipes

    entries = []
    for name in recipes():
        recipe = load_recipe(name)
        options = make(recipe["family"], recipe["options"]).options()
        when = " ".join(recipe["when"].split())
        row = {"name": name, **recipe, "when": when, "options": options}
        values = ", ".join(f"{option}={value}" for option, value in options.items())
        entries.append((row, f"{when} Options: {values or 'none'}."))
    return entries


def _models() -> list[tuple[dict[str, Any], str]]:
    from dataclasses import asdict

    from ..foundation.backends import install_command, missing_packages
    from ..foundation.names import WEIGHTS, licence_words, size_words
    from ..registry import FOUNDATION_MODELS

    entries = []
    for name, weights in WEIGHTS.items():
        backend = FOUNDATION_MODELS[weights.backend]
        command = install_command(backend)
        installed = not missing_packages(backend)
        row = {"name": name, **asdict(weights), "installed": installed, "install": command}
        where = "an environment of its own: " if backend.environment is not None else ""
        status = "installed" if installed else f"to install, {where}{' && '.join(command.splitlines())}"
        about = [f"backend {weights.backend}", size_words(weights), licence_words(weights), status]
        entries.append((row, "; ".join(about)))
    return entries


def _datasets() -> list[tuple[dict[str, Any], str]]:
    from ..registry import cards, load_card

    entries = []
    for name in cards():
        card = load_card(name)
        row = {
            "name": name,
            "channels": list(card["channels"]),
            **{key: card[key] for key in ("frequency", "season_length", "source", "licence")},
        }
        entries.append((row, f"{len(row['channels'])} channels, every {card['frequency']}; {card['source']}"))
    return entries
