r"""What the library says, and what it keeps the libraries below it from saying."""

from __future__ import annotations

__all__ = ["get_logger", "quiet", "set_verbosity", "warn", "without_warnings"]

import logging
import os
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from typing import TextIO

from . import checks

_LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}
_CHATTY = ("chronos", "gluonts", "huggingface_hub", "lightning.fabric", "lightning.pytorch", "optuna", "transformers")

_logger = logging.getLogger("adapts")


class _Speaker(logging.StreamHandler[TextIO]):
    r"""Writes to the standard error of the moment, unless the application handles all logs itself."""

    def emit(self, record: logging.LogRecord) -> None:
        if not logging.getLogger().handlers:
            self.stream = sys.stderr
            super().emit(record)


def get_logger(name: str) -> logging.Logger:
    r"""Returns the logger of one of our modules.

    Arguments:
        name: The module's `__name__`.

    Returns:
        A logger below "adapts", whose level `set_verbosity` sets.
    """
    return logging.getLogger(name)


def warn(message: str, category: type[Warning] = UserWarning) -> None:
    r"""Warns at the line of the caller's program that called this library, however deep within it the warning is.

    Arguments:
        message: What is said.
        category: The kind of the warning.
    """
    home, depth, frame = str(Path(__file__).parent), 1, sys._getframe(1)
    while frame.f_back is not None and frame.f_code.co_filename.startswith(home + os.sep):
        depth, frame = depth + 1, frame.f_back
    warnings.warn(message, category, stacklevel=depth + 1)


def set_verbosity(level: str) -> None:
    r"""Sets how much is said: by this library, and by those it stands on while it calls them.

    At "warning", where it begins, only what needs attention is said, and nothing of Lightning's, Transformers' and
    Chronos' own notes. At "info" the stages of `fit` are told and theirs come through; "debug" tells more; "error"
    is silent. The environment variable `ADAPTS_VERBOSITY` sets the level at the start.

    Arguments:
        level: One of "debug", "info", "warning", "error".

    Raises:
        ValueError: If there is no such level.
    """
    checks.choice("verbosity", level, _LEVELS)
    _logger.setLevel(_LEVELS[level])


class _Shared:
    r"""A change to the whole process for as long as any thread wants it: the first makes it, the last undoes it.

    Arguments:
        change: Makes the change, and leaves in the stack what undoes it.
    """

    def __init__(self, change: Callable[[ExitStack], None]) -> None:
        self.change, self.undo, self.users, self.lock = change, ExitStack(), list[int](), threading.Lock()
        if hasattr(os, "register_at_fork"):  # not on Windows, which has no fork
            os.register_at_fork(before=self.lock.acquire, after_in_parent=self.lock.release, after_in_child=self._alone)

    @contextmanager
    def open(self) -> Iterator[None]:
        with self.lock:
            if not self.users:
                with ExitStack() as stack:
                    self.change(stack)
                    self.undo = stack.pop_all()
            self.users.append(threading.get_ident())
        try:
            yield
        finally:
            with self.lock:
                self.users.remove(threading.get_ident())
                if not self.users:
                    self.undo.close()

    def _alone(self) -> None:
        r"""Counts the users in a forked child, in which the other threads are not."""
        self.users, before = [user for user in self.users if user == threading.get_ident()], self.users
        if before and not self.users:
            self.undo.close()
        self.lock.release()


def _ignore_warnings(stack: ExitStack) -> None:
    stack.enter_context(warnings.catch_warnings())
    warnings.simplefilter("ignore")


def _silence_libraries(stack: ExitStack) -> None:
    for logger in map(logging.getLogger, _CHATTY):
        stack.callback(logger.setLevel, logger.level)
        logger.setLevel(logging.ERROR)
    bars = sys.modules.get("transformers.utils.logging")  # its loading bars, where it is imported
    if bars is not None and bars.is_progress_bar_enabled():
        stack.callback(bars.enable_progress_bar)
        bars.disable_progress_bar()


_unwarned, _silenced = _Shared(_ignore_warnings), _Shared(_silence_libraries)


def without_warnings() -> AbstractContextManager[None]:
    r"""Ignores all warnings while it is open, and restores Python's filters after, whatever threads do in between.

    Returns:
        The context.
    """
    return _unwarned.open()


@contextmanager
def quiet() -> Iterator[None]:
    r"""Silences the notes, warnings and loading bars of the libraries below while it is open, and restores them after.

    At verbosity "info" or "debug" it lets everything through. Import what is to be silenced before it opens: a
    library sets its own level when it is imported. Our own warnings belong outside of it. Where several threads have
    it open, all is as before once the last has left.

    Yields:
        Nothing.
    """
    if _logger.getEffectiveLevel() <= logging.INFO:
        yield
        return
    with _silenced.open(), without_warnings():
        yield


_logger.addHandler(_Speaker())
set_verbosity(os.environ.get("ADAPTS_VERBOSITY", "warning"))
