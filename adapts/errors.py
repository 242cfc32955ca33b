r"""Error messages: bounded representations of values, and conversion of other libraries' exceptions."""

from __future__ import annotations

__all__ = ["few", "in_memory", "one_line", "quoted", "reading", "shown", "unforeseen", "unknown"]

import reprlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from difflib import get_close_matches
from dis import opmap

_SHORT = reprlib.Repr()
_SHORT.maxlevel = 3
_SHORT.maxstring = _SHORT.maxother = 120


def shown(value: object) -> str:
    r"""Return a one-line representation of bounded length, for any value, even if its `repr` fails.

    Arguments:
        value: Any value.

    Returns:
        Its shortened `repr`.

    Example:
        >>> shown("vae"), shown(list(range(1000))), shown(10**5000)
        ("'vae'", '[0, 1, 2, 3, 4, 5, ...]', '<int>')
    """
    try:
        text = " ".join(_SHORT.repr(value).split())
    except Exception:  # an integer with more digits than Python prints, or an object whose repr fails
        return f"<{type(value).__name__}>"
    return text if len(text) <= 300 else f"{text[:200]} ... {text[-40:]}"


def quoted(text: str) -> str:
    r"""Return a text as Python code that can be copied; a very long one as by `shown`.

    Arguments:
        text: A path or a name.

    Returns:
        Its `repr`.
    """
    return repr(text) if len(text) <= 400 else shown(text)


@contextmanager
def reading(what: str, remedy: str) -> Iterator[None]:
    r"""Convert any exception of another library that reads a damaged input to a `ValueError`.

    Wrap only the other library's call: checks of adapts raise their own messages outside.

    Arguments:
        what: The beginning of the message, such as `"sales.csv cannot be read as CSV"`.
        remedy: The end of the message: what to do about it.

    Yields:
        Nothing.

    Raises:
        ValueError: If the call raises anything; that exception is its `__cause__`.
    """
    try:
        yield
    except Exception as error:
        raise ValueError(f"{what} ({_reason(error)}): {remedy}") from error


@contextmanager
def unforeseen(what: str, remedy: str) -> Iterator[None]:
    r"""Convert any unexpected exception while arbitrary objects are read to a `ValueError`.

    Errors from `raise` statements of adapts are passed on unchanged.

    Arguments:
        what: As for `reading`.
        remedy: As for `reading`.

    Yields:
        Nothing.

    Raises:
        ValueError: If anything else is raised; that exception is its `__cause__`.
    """
    try:
        yield
    except BaseException as error:  # a panic of a Rust library is not an Exception
        if isinstance(error, ValueError | TypeError | OSError) and _is_ours(error):
            raise
        if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
            raise
        raise ValueError(f"{what} ({_reason(error)}): {remedy}") from error


def _is_ours(error: BaseException) -> bool:
    r"""Return whether a `raise` statement of adapts raised an exception, and not a call within one of its lines."""
    traceback = error.__traceback__
    while traceback is not None and traceback.tb_next is not None:
        traceback = traceback.tb_next
    if traceback is None or traceback.tb_frame.f_globals.get("__name__", "").partition(".")[0] != __package__:
        return False
    return traceback.tb_frame.f_code.co_code[traceback.tb_lasti] == opmap["RAISE_VARARGS"]


def _reason(error: BaseException) -> str:
    r"""Return the reason of a failure in one line."""
    if isinstance(error, RecursionError):
        return "it is nested too deeply"
    if isinstance(error, MemoryError):
        return "it does not fit in memory"
    try:
        reason = str(error).strip().partition("\n")[0][:200]
    except Exception:  # a user's exception whose text fails
        reason = ""
    reason = reason.encode("utf-8", "backslashreplace").decode() or type(error).__name__
    return f"it lacks {reason}" if isinstance(error, KeyError) else reason


def unknown(kind: str, name: object, known: Iterable[str]) -> ValueError:
    r"""Create the error for an unknown name; it lists the known names and suggests the closest one.

    Arguments:
        kind: The kind of object, such as "adapter".
        name: The unknown name.
        known: The known names, in the order in which to list them.

    Returns:
        The error, for the caller to raise.

    Example:
        >>> print(unknown("adapter", "vea", ["linear", "vae"]))
        no adapter is called 'vea'; known: linear, vae (did you mean 'vae'?)
    """
    known = list(known)
    by_case = {candidate.lower(): candidate for candidate in known}
    nearest = get_close_matches(name.lower(), by_case, n=1) if isinstance(name, str) and len(name) < 100 else []
    hint = f" (did you mean {by_case[nearest[0]]!r}?)" if nearest else ""
    listed = ", ".join(known[:50]) + (f" and {len(known) - 50} more" if len(known) > 50 else "")
    return ValueError(f"no {kind} is called {shown(name)}; known: {listed or 'none'}{hint}")


@contextmanager
def in_memory(what: str, remedy: str) -> Iterator[None]:
    r"""Convert out-of-memory errors of any allocator to a `ValueError`.

    Arguments:
        what: The beginning of the message: the operation, such as `"fitting 300 channels"`.
        remedy: The end of the message: what to reduce.

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
    except RuntimeError as error:  # PyTorch's allocators are recognised only by the message
        if "allocate memory" not in str(error) and "out of memory" not in str(error):
            raise
        raise ValueError(f"{what} needs more memory than there is: {remedy}") from error


def few(names: Iterable[object], most: int = 8) -> str:
    r"""Join names as a sentence holds them.

    Arguments:
        names: The names.
        most: How many are named at most.

    Returns:
        The first names, and how many more there are. Names of over 80 characters are cut.

    Example:
        >>> few(["load", "wind", "price"], most=2)
        'load, wind and 1 more'
    """
    listed = [name if len(name) <= 80 else f"{name[:60]} ..." for name in map(str, names)]
    return ", ".join(listed[:most]) + (f" and {len(listed) - most} more" if len(listed) > most else "")


def one_line(value: object) -> str:
    r"""Return the `repr` of a value in one line.

    Arguments:
        value: The value.
    """
    return " ".join(repr(value).split())
