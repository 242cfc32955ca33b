r"""Exit codes and error messages of the commands."""

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
**Exit codes**: 0 success; 2 invalid options or data, reported in one line; 1 any other error, reported in one line \
(--verbose shows the traceback); 130 interrupted by Ctrl-C, without incomplete output."""

MAX_LENGTH = 1000  # characters of a message

_UsageError: Any = typer.BadParameter.__mro__[1]  # typer exports no name for it


class Reported(TyperGroup):
    r"""Group of the commands that reports their errors: in one line on stderr, or with --json as JSON on stdout."""

    def main(self, args: Sequence[str] | None = None, *extra: Any, **options: Any) -> Any:
        given = list(sys.argv[1:] if args is None else args)
        if isinstance(sys.stdout, TextIOWrapper):  # characters that the terminal cannot encode are escaped
            sys.stdout.reconfigure(errors="backslashreplace")
        try:
            code = super().main(args, *extra, **{**options, "standalone_mode": False})
            _flush()
        except SystemExit as end:
            if not isinstance(end.__context__, KeyboardInterrupt):
                raise
            code = 130  # Lightning exits by itself if training is interrupted
        except Exception as error:
            if isinstance(error, OSError) and error.errno == errno.EPIPE:
                _exit(1)  # the reader of the output has closed it
            _exit(_report(error, given))
        if code == 130:
            _print_error("interrupted, without incomplete output", given)
        sys.exit(code if isinstance(code, int) else 0)


def _report(error: Exception, given: Sequence[str]) -> int:
    r"""Report an error in one line and return the exit code."""
    verbose = any(re.fullmatch("--verbose|-q*vq*", word) for word in given)
    if verbose:
        traceback.print_exception(error)
    if isinstance(error, _UsageError):
        command = error.ctx.command_path if error.ctx else "adapts"
        message = error.format_message().rstrip(".").replace("Value error, ", "")  # the prefix of pydantic
        _print_error(f"{message}: see {command} --help", given)
        return 2
    if isinstance(error, OSError) and error.errno is not None and error.filename is None:
        _print_error(f"input or output failed ({error.strerror}): free disk space, or choose another place", given)
        return 2
    if isinstance(error, ValueError | OSError):
        _print_error(str(error), given)
        return 2
    if isinstance(error, MemoryError):
        _print_error(f"the memory is not sufficient: reduce the amount of data or samples {error}", given)
        return 1
    _print_error(f"{type(error).__name__}: {error}" + ("" if verbose else " (--verbose shows the traceback)"), given)
    return 1


def _print_error(message: str, given: Sequence[str]) -> None:
    line = " ".join(message.split())
    if len(line) > MAX_LENGTH:  # it repeats the input
        line = f"{line[: MAX_LENGTH // 2]} ... {line[-MAX_LENGTH // 2 :]}"
    if "--json" in given:
        try:
            typer.echo(json.dumps({"error": line}))
            _flush()
        except OSError:  # stdout is not writable: perhaps that is the error
            pass
        else:
            return
    typer.echo(f"adapts: error: {line}".encode(errors="backslashreplace").decode(), err=True)


def _flush() -> None:
    if sys.stdout is not None:  # None if it was closed before the command began
        sys.stdout.flush()


def _exit(code: int) -> NoReturn:
    r"""End the process; discard unwritten output, which Python would otherwise try to write again."""
    try:
        _flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    sys.exit(code)
