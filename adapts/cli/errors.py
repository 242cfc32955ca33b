r"""How a command ends: the exit codes, and one line for each error."""

from __future__ import annotations

__all__ = ["EXIT_CODES", "Told"]

import errno
import json
import re
import sys
import traceback
from collections.abc import Sequence
from typing import Any

import typer
from typer.core import TyperGroup

EXIT_CODES = """\
**Exit codes**: 0 done; 2 a mistake in what was asked, told in one line; 1 anything else, told in one line \
(--verbose shows where); 130 stopped by Ctrl-C, with nothing half written."""

_UsageError: Any = typer.BadParameter.__mro__[1]  # typer gives it no name of its own


class Told(TyperGroup):
    r"""The commands, and the one place where their errors end: one line to stderr, or JSON to stdout by --json."""

    def main(self, args: Sequence[str] | None = None, *rest: Any, **options: Any) -> Any:
        given = list(sys.argv[1:] if args is None else args)
        try:
            code = super().main(args, *rest, **{**options, "standalone_mode": False})
        except SystemExit as end:
            if not isinstance(end.__context__, KeyboardInterrupt):
                raise
            code = 130  # Lightning makes its own end of an interrupted training
        except Exception as error:
            if isinstance(error, OSError) and error.errno == errno.EPIPE:
                sys.exit(1)  # whoever read the output has closed it
            sys.exit(_tell(error, given))
        if code == 130:
            _say("interrupted, with nothing half written", given)
        sys.exit(code if isinstance(code, int) else 0)


def _tell(error: Exception, given: Sequence[str]) -> int:
    r"""Tells an error in one line and returns the exit code."""
    verbose = any(re.fullmatch("--verbose|-q*vq*", word) for word in given)
    if verbose:
        traceback.print_exception(error)
    if isinstance(error, _UsageError):
        command = error.ctx.command_path if error.ctx else "adapts"
        message = error.format_message().rstrip(".").replace("Value error, ", "")  # pydantic's name for it
        _say(f"{message}: see {command} --help", given)
        return 2
    if isinstance(error, ValueError | OSError):
        _say(str(error), given)
        return 2
    _say(f"{type(error).__name__}: {error}" + ("" if verbose else " (--verbose shows where)"), given)
    return 1


def _say(message: str, given: Sequence[str]) -> None:
    line = " ".join(message.split())
    if "--json" in given:
        typer.echo(json.dumps({"error": line}))
    else:
        typer.echo(f"adapts: error: {line}", err=True)
