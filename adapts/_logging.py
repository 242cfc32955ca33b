r"""Logging of adapts, and silencing of the libraries that it uses."""

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
_CHATTY = (
    "chronos", "gluonts", "huggingface_hub", "lightning.fabric", "lightning.pytorch", "optuna", "transformers",
    "tsfm_public",
)  # fmt: skip

_logger = logging.getLogger("adapts")


class _Speaker(logging.StreamHandler[TextIO]):
    r"""Writes to the current `sys.stderr`, unless the application handles logs itself."""

    def emit(self, record: logging.LogRecord) -> None:
        if not logging.getLogger().handlers:
            self.stream = sys.stderr
            super().emit(record)


def get_logger(name: str) -> logging.Logger:
    r"""Return the logger of a module of adapts.

    Arguments:
        name: The module's `__name__`.

    Returns:
        A logger below "adapts", whose level `set_verbosity` sets.
    """
    return logging.getLogger(name)


def warn(message: str, category: type[Warning] = UserWarning) -> None:
    r"""Issue a warning that points to the line of user code that called adapts, at any depth.

    Arguments:
        message: The message.
        category: The category of the warning.
    """
    home, depth, frame = str(Path(__file__).parent), 1, sys._getframe(1)
    while frame.f_back is not None and frame.f_code.co_filename.startswith(home + os.sep):
        depth, frame = depth + 1, frame.f_back
    warnings.warn(message, category, stacklevel=depth + 1)


def set_verbosity(level: str) -> None:
    r"""Set the verbosity of adapts, and of the libraries that it calls.

    At "warning", the default, only what needs attention is shown, and no logs of Lightning, Transformers and Chronos.
    "info" shows the stages of `fit` and the logs of those libraries, "debug" more, "error" nothing. The environment
    variable `ADAPTS_VERBOSITY` sets the initial level.

    Arguments:
        level: One of "debug", "info", "warning", "error".

    Raises:
        ValueError: If there is no such level.
    """
    checks.choice("verbosity", level, _LEVELS)
    _logger.setLevel(_LEVELS[level])


class _Shared:
    r"""Process-wide change, shared by threads: made by the first user and undone by the last.

    Arguments:
        change: A function that makes the change, and registers in a stack how to undo it.
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
        r"""Reset the users in a forked child, in which the other threads do not exist."""
        self.users, previous = [user for user in self.users if user == threading.get_ident()], self.users
        if previous and not self.users:
            self.undo.close()
        self.lock.release()


def _ignore_warnings(stack: ExitStack) -> None:
    stack.enter_context(warnings.catch_warnings())
    warnings.simplefilter("ignore")


def _silence_libraries(stack: ExitStack) -> None:
    for logger in map(logging.getLogger, _CHATTY):
        stack.callback(logger.setLevel, logger.level)
        logger.setLevel(logging.ERROR)
    bars = sys.modules.get("transformers.utils.logging")  # progress bars, if transformers is imported
    if bars is not None and bars.is_progress_bar_enabled():
        stack.callback(bars.enable_progress_bar)
        bars.disable_progress_bar()


_unwarned, _silenced = _Shared(_ignore_warnings), _Shared(_silence_libraries)


def without_warnings() -> AbstractContextManager[None]:
    r"""Ignore all warnings within the context, and restore Python's filters afterwards, thread-safely.

    Returns:
        The context.
    """
    return _unwarned.open()


@contextmanager
def quiet() -> Iterator[None]:
    r"""Silence logs, warnings and progress bars of the libraries below within the context, and restore them after.

    At verbosity "info" or "debug" nothing is silenced. Import the libraries before: they set their own level at
    import. Issue warnings of adapts outside of the context. If several threads use it, the last one to leave restores
    everything.

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
