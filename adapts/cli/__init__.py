r"""The command line: `adapts forecast` and `adapts backtest` do what `Adapter` does, `adapts list` what there is."""

from __future__ import annotations

__all__ = ["app", "main"]

from typing import Annotated

import typer

from .._version import __version__
from .backtest import EXAMPLES as BACKTESTS
from .backtest import backtest
from .errors import EXIT_CODES, Reported
from .forecast import EXAMPLES as FORECASTS
from .forecast import forecast
from .roster import EXAMPLES as LISTS
from .roster import list_

# Whatever needs torch is imported when a command runs, so that help comes at once.
app = typer.Typer(
    cls=Reported,
    help="Joint, calibrated multivariate forecasts from a frozen univariate foundation model.",
    epilog=EXIT_CODES,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
)
app.command("forecast", epilog=FORECASTS)(forecast)
app.command("backtest", epilog=BACKTESTS)(backtest)
app.command("list", epilog=LISTS)(list_)


def main() -> None:
    r"""Runs the command line."""
    app(prog_name="adapts")


def _say_version(asked: bool) -> None:
    if asked:
        typer.echo(f"adapts {__version__}")
        raise typer.Exit


@app.callback(invoke_without_command=True)
def _options(
    context: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", callback=_say_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())
