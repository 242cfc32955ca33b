r"""Command line: `adapts forecast` and `adapts backtest` run `Adapter`, `adapts list` lists what can be named."""

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

# Modules that need torch are imported when a command runs, so that help is fast.
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
    r"""Run the command line."""
    app(prog_name="adapts")


def _print_version(requested: bool) -> None:
    if requested:
        typer.echo(f"adapts {__version__}")
        raise typer.Exit


@app.callback(invoke_without_command=True)
def _options(
    context: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())
