r"""Options are declared once; signatures, the command line and the docs repeat them."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from dataclasses import MISSING
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.main import get_command

from adapts import Adapter
from adapts.cli import app
from adapts.gluonts import AdapterEstimator
from adapts.options import FIELDS, check_options, options_table
from adapts.tuning import tune

ROOT = Path(__file__).parents[1]
# What an entry point calls otherwise, because its host does, or takes in parts of its own.
OTHERWISE = {
    "adapter": {},
    "gluonts": {"trainer_options": "trainer_kwargs"},
    "command line": {"batch_size": None, "trainer_options": None},
}


def defaults(function: Callable[..., Any]) -> dict[str, Any]:
    signature = inspect.signature(function).parameters
    return {
        name: MISSING if each.default is inspect.Parameter.empty else each.default for name, each in signature.items()
    }


def of_command(name: str) -> dict[str, Any]:
    command = get_command(app)
    assert isinstance(command, typer.core.TyperGroup)
    return {str(each.name): each.default for each in command.commands[name].params}


@pytest.mark.parametrize(
    ("where", "found"),
    [
        ("adapter", defaults(Adapter.__init__)),
        ("gluonts", defaults(inspect.unwrap(AdapterEstimator.__init__))),
        ("command line", of_command("forecast")),
        ("command line", of_command("backtest")),
    ],
)
def test_every_entry_point_has_every_option_with_its_default(where: str, found: dict[str, Any]) -> None:
    for name, each in FIELDS.items():
        called = OTHERWISE[where].get(name, name)
        if called is None:
            continue
        assert called in found, name
        several = name == "family" and found[called] is None
        if where == "command line" and (name == "prediction_length" or several):  # may be left out, or be several
            continue
        assert found[called] == each.default, name


def test_the_command_line_shows_the_help_of_the_options() -> None:
    command = get_command(app)
    assert isinstance(command, typer.core.TyperGroup)
    for each in command.commands["forecast"].params:
        if each.name in FIELDS and each.name not in ("prediction_length", "support"):
            assert each.help == FIELDS[each.name].metadata["help"]  # type: ignore[attr-defined]


def test_what_is_not_searched_says_why() -> None:
    data = [[0.0]] * 100
    for name, each in FIELDS.items():
        if why := each.metadata["unsearched"]:
            with pytest.raises(ValueError, match=re.escape(f"{name} is not searched, {why}")):
                tune(Adapter("residual", prediction_length=4), data, {name: [1, 2]}, trials=1)


def test_each_check_refuses_what_is_no_value() -> None:
    for name, each in FIELDS.items():
        if each.metadata["check"] is not None:
            with pytest.raises(ValueError, match=r"got|called"):
                check_options({name: object()})


def test_the_docs_show_the_table_of_options() -> None:
    assert options_table() in (ROOT / "docs" / "options.md").read_text()
