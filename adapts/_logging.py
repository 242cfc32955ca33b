r"""What the library says, and what it keeps the libraries below it from saying."""

from __future__ import annotations

__all__ = ["get_logger", "quiet", "set_verbosity"]

import logging
import os
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO

from .shelf import unknown

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
    if level not in _LEVELS:
        raise ValueError(unknown("verbosity", level, _LEVELS))
    _logger.setLevel(_LEVELS[level])


@contextmanager
def quiet() -> Iterator[None]:
    r"""Silences the notes, warnings and loading bars of the libraries below while it is open, and restores them after.

    At verbosity "info" or "debug" it lets everything through. Import what is to be silenced before it opens: a
    library sets its own level when it is imported. Our own warnings belong outside of it.

    Yields:
        Nothing.
    """
    if _logger.getEffectiveLevel() <= logging.INFO:
        yield
        return
    loggers = [logging.getLogger(name) for name in _CHATTY]
    levels = [logger.level for logger in loggers]
    bars = _silence_bars()
    try:
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
        if bars:
            sys.modules["transformers.utils.logging"].enable_progress_bar()


def _silence_bars() -> bool:
    r"""Switches off Transformers' loading bars where it is imported; says whether they had been on."""
    module = sys.modules.get("transformers.utils.logging")
    if module is None or not module.is_progress_bar_enabled():
        return False
    module.disable_progress_bar()
    return True


_logger.addHandler(_Speaker())
set_verbosity(os.environ.get("ADAPTS_VERBOSITY", "warning"))
