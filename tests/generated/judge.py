r"""Judges what came of one case: a result, an error of ours, or a fault."""

from __future__ import annotations

import dis
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

import numpy as np

import adapts
from adapts.forecast.forecast import Forecast

LIBRARY = os.path.join(os.path.dirname(adapts.__file__), "")
#: The longest message that still reads as one.
LONGEST, LINES = 2000, 20
FAULTS = ("foreign", "wrong", "crash", "hang")


class Unbuilt(Exception):
    r"""The input of a case cannot be built: another library refuses to make it."""


class Wrong(Exception):
    r"""A result that is no answer: NaN, another forecast than before, a lost file."""


@dataclass(frozen=True)
class Case:
    r"""One input.

    Arguments:
        what: What is tried, for whoever reads of its failure.
        run: Tries it.
    """

    what: str
    run: Callable[[], object]


@dataclass(frozen=True)
class Verdict:
    r"""What came of a case.

    Arguments:
        kind: "result", "refused" (an error of ours), "unclear" (one that reads badly), "unbuilt", or a fault:
            "foreign" or "wrong"; the harness adds "crash" and "hang".
        place: The innermost line of the library, which failures are grouped by.
        text: The error.
    """

    kind: str
    place: str = ""
    text: str = ""

    @property
    def fault(self) -> bool:
        return self.kind in FAULTS


def judge(case: Case) -> Verdict:
    r"""Tries a case.

    Arguments:
        case: The case.

    Returns:
        What came of it.
    """
    try:
        case.run()
    except (KeyboardInterrupt, SystemExit):
        raise
    except Unbuilt:
        return Verdict("unbuilt")
    except Wrong as error:
        return Verdict("wrong", str(error).partition(":")[0], str(error))
    except BaseException as error:  # panics of Rust are no Exception
        return _of_error(error)
    return Verdict("result")


def _of_error(error: BaseException) -> Verdict:
    steps = list(_steps(error.__traceback__))
    ours = [step for step in steps if step.tb_frame.f_code.co_filename.startswith(LIBRARY)]
    place = _place(ours[-1]) if ours else "outside"
    try:
        message = str(error)
    except Exception as failed:
        return Verdict("foreign", place, f"{type(error).__name__}, whose text fails: {type(failed).__name__}")
    text = f"{type(error).__name__}: {message[:300]}"
    raised = ours and ours[-1] is steps[-1] and _is_raised(steps[-1])
    if not (raised and isinstance(error, ValueError | TypeError | OSError)):
        last = steps[-1].tb_frame.f_code
        where = "" if raised else f" (in {Path(last.co_filename).name}, {last.co_name})"
        return Verdict("foreign", place, text + where)
    if fault := unclear(message):
        return Verdict("unclear", place, f"{fault}: {text}")
    return Verdict("refused", place, text)


def _steps(step: TracebackType | None) -> Iterable[TracebackType]:
    while step is not None:
        yield step
        step = step.tb_next


def _is_raised(step: TracebackType) -> bool:
    r"""Whether an error left a frame by a `raise` statement; one while its message was made did not."""
    return step.tb_frame.f_code.co_code[step.tb_lasti] == dis.opmap["RAISE_VARARGS"]


def _place(step: TracebackType) -> str:
    code = step.tb_frame.f_code
    return f"{code.co_filename.removeprefix(LIBRARY)}:{step.tb_lineno} {code.co_name}"


def unclear(message: str) -> str:
    r"""What a message lacks; nothing if it reads well.

    Arguments:
        message: The message.

    Returns:
        The fault, or an empty text.
    """
    if len(message.split()) < 4:
        return "a message of hardly a word"
    if len(message) > LONGEST:
        return f"a message of {len(message)} characters"
    if message.count("\n") > LINES:
        return f"a message of {message.count(chr(10))} lines"
    try:
        message.encode()
    except UnicodeEncodeError:
        return "a message that cannot be printed"
    return ""


def require_whole(forecasts: Forecast | list[Forecast]) -> None:
    r"""Checks that forecasts hold numbers only, in order.

    Arguments:
        forecasts: What `predict` returned.

    Raises:
        Wrong: If there is a NaN or an infinity, or quantiles cross.
    """
    for forecast in forecasts if isinstance(forecasts, list) else [forecasts]:
        quantiles = forecast.quantile([0.05, 0.3, 0.5, 0.7, 0.95])
        for name, values in (("mean", forecast.mean), ("quantiles", quantiles), ("samples", forecast.samples)):
            if not np.isfinite(values).all():
                raise Wrong(f"a forecast with NaN or infinite {name}")
        if (np.diff(quantiles, axis=-1) < 0).any():
            raise Wrong("a forecast whose quantiles cross")
