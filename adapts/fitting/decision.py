r"""What a stage of a fit decided, as data: text is made of it and nothing is decided by text."""

from __future__ import annotations

__all__ = ["Decision", "Outcome", "hear", "heard"]

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Literal

Outcome = Literal["kept", "rejected", "skipped"]
Listener = Callable[[str, "Decision | None"], None]

_listener: ContextVar[Listener | None] = ContextVar("listener", default=None)


@dataclass(frozen=True)
class Decision:
    r"""The decision of one stage.

    Arguments:
        outcome: "kept" where what the stage fits is part of the adapter, "rejected" where the held-out rows did not
            support it, "skipped" where there were too few rows to decide on, or the options leave the stage out.
        reason: The decision and its reason, in words, for summaries and logs.
        figures: The numbers that it rests on, by name.
    """

    outcome: Outcome
    reason: str
    figures: Mapping[str, float] = field(default_factory=dict)

    def and_then(self, reason: str) -> Decision:
        r"""Returns the decision with a further clause in its reason.

        Arguments:
            reason: The clause.
        """
        return Decision(self.outcome, f"{self.reason}; {reason}", self.figures)


@contextmanager
def hear(listener: Listener) -> Iterator[None]:
    r"""Has each stage of the fits within the block told to a listener as soon as it is done.

    Arguments:
        listener: It takes the name of the stage, and its decision or None.

    Yields:
        Nothing.
    """
    token = _listener.set(listener)
    try:
        yield
    finally:
        _listener.reset(token)


def heard(stage: str, decision: Decision | None) -> None:
    r"""Tells the listener, if there is one, that a stage is done.

    Arguments:
        stage: The name of the stage.
        decision: Its decision; None where the fit had no use for the stage.
    """
    listener = _listener.get()
    if listener is not None:
        listener(stage, decision)
