r"""Error messages: values shown within a bounded length, and exceptions of other libraries made ours."""

from __future__ import annotations

__all__ = ["in_memory", "quoted", "reading", "shown"]

import reprlib
from collections.abc import Iterator
from contextlib import contextmanager

_SHORT = reprlib.Repr()
_SHORT.maxlevel = 3
_SHORT.maxstring = _SHORT.maxother = 120


def shown(value: object) -> str:
    r"""Shows a value in one line of bounded length, however large or deep it is, and whatever its `repr` does.

    Arguments:
        value: Anything.

    Returns:
        Its shortened `repr`.

    Example:
        >>> shown("vae"), shown(list(range(1000))), shown(10**5000)
        ("'vae'", '[0, 1, 2, 3, 4, 5, ...]', '<int>')
    """
    try:
        text = " ".join(_SHORT.repr(value).split())
    except Exception:  # a number of more digits than Python prints, or an object whose repr fails
        return f"<{type(value).__name__}>"
    return text if len(text) <= 300 else f"{text[:200]} ... {text[-40:]}"


def quoted(text: str) -> str:
    r"""Shows a text as code that can be copied; one that is too long for a message as `shown` does.

    Arguments:
        text: A path or a name.

    Returns:
        Its `repr`.
    """
    return repr(text) if len(text) <= 400 else shown(text)


@contextmanager
def reading(what: str, remedy: str) -> Iterator[None]:
    r"""Turns whatever another library raises while it reads a damaged input into one `ValueError`.

    Wrap the other library's call alone: our own checks raise their own messages, outside.

    Arguments:
        what: What cannot be read, as it begins the message: `"sales.csv cannot be read as CSV"`.
        remedy: What to do about it, as it ends the message.

    Yields:
        Nothing.

    Raises:
        ValueError: If the call raises anything; that exception is its `__cause__`.
    """
    try:
        yield
    except Exception as error:
        reason = str(error).strip().partition("\n")[0][:200] or type(error).__name__
        if isinstance(error, RecursionError):
            reason = "it is nested too deeply"
        elif isinstance(error, MemoryError):
            reason = "it does not fit in memory"
        elif isinstance(error, KeyError):
            reason = f"it lacks {reason}"
        raise ValueError(f"{what} ({reason}): {remedy}") from error


@contextmanager
def in_memory(what: str, remedy: str) -> Iterator[None]:
    r"""Turns what an allocator raises, whosever it is, into one `ValueError`.

    Arguments:
        what: What may need too much, as it begins the message: `"fitting 300 channels"`.
        remedy: What to make smaller, as it ends the message.

    Yields:
        Nothing.

    Raises:
        ValueError: If memory runs out; the allocator's exception is its `__cause__`.
        RuntimeError: If it is raised for another reason.
    """
    try:
        yield
    except MemoryError as error:
        raise ValueError(f"{what} needs more memory than there is: {remedy}") from error
    except RuntimeError as error:  # that of PyTorch's allocators is told by its words
        if "allocate memory" not in str(error) and "out of memory" not in str(error):
            raise
        raise ValueError(f"{what} needs more memory than there is: {remedy}") from error
