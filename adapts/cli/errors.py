r"""How a command ends: the exit codes, and one line for each error."""

from __future__ import annotations

__all__ = ["EXIT_CODES", "Reported"]

import errno
import json
import os
import re
import sys
import traceback
from collections.abc import Sequence
from io import TextIOWrapper
from typing import Any, NoReturn

import typer
from typer.core import TyperGroup

EXIT_CODES = """\
**Exit codes**: 0 done; 2 a mistake in what was asked, told in one line; 1 anything else, told in one line \
(--verbose shows where); 130 stopped by Ctrl-C, with nothing half written."""

LONGEST = 1000  # letters of a message

_UsageError: Any = typer.BadParameter.__mro__[1]  # typer gives it no name of its own


class Reported(TyperGroup):
    r"""The commands, and the one place where their errors end: one line to stderr, or JSON to stdout by --json."""

    def main(self, args: Sequence[str] | None = None, *rest: Any, **options: Any) -> Any:
        given = list(sys.argv[1:] if args is None else args)
        if isinstance(sys.stdout, TextIOWrapper):  # a name that the terminal's encoding lacks is written as its code
            sys.stdout.reconfigure(errors="backslashreplace")
        try:
            code = super().main(args, *rest, **{**options, "standalone_mode": False})
            _flush()
        except SystemExit as end:
            if not isinstance(end.__context__, KeyboardInterrupt):
                raise
            code = 130  # Lightning makes its own end of an interrupted training
        except Exception as error:
            if isinstance(error, OSError) and error.errno == errno.EPIPE:
                _leave(1)  # whoever read the output has closed it
            _leave(_tell(error, given))
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
    if isinstance(error, OSError) and error.errno is not None and error.filename is None:
        _say(f"input or output failed ({error.strerror}): free its place, or name another", given)
        return 2
    if isinstance(error, ValueError | OSError):
        _say(str(error), given)
        return 2
    if isinstance(error, MemoryError):
        _say(f"this needs more memory than there is: ask for less {error}", given)
        return 1
    _say(f"{type(error).__name__}: {error}" + ("" if verbose else " (--verbose shows where)"), given)
    return 1


def _say(message: str, given: Sequence[str]) -> None:
    line = " ".join(message.split())
    if len(line) > LONGEST:  # it echoes what was typed
        line = f"{line[: LONGEST // 2]} ... {line[-LONGEST // 2 :]}"
    if "--json" in given:
        try:
            typer.echo(json.dumps({"error": line}))
            _flush()
        except OSError:  # stdout takes nothing: perhaps that is the error
            pass
        else:
            return
    typer.echo(f"adapts: error: {line}".encode(errors="backslashreplace").decode(), err=True)


def _flush() -> None:
    if sys.stdout is not None:  # as where it was closed before the command began
        sys.stdout.flush()


def _leave(code: int) -> NoReturn:
    r"""Ends the process; what stdout did not take is given up, for Python would try it once more, and complain."""
    try:
        _flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    sys.exit(code)
