r"""Decisions of the stages of a fit, as data; texts are only for readers."""

from __future__ import annotations

__all__ = ["Decision", "Outcome", "listen", "notify"]

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
        outcome: "kept" if the adapter uses what the stage fits, "rejected" if held-out rows do not support it,
            "skipped" if there are too few rows or an option disables the stage.
        reason: The decision and its reason, in words, for summaries and logs.
        figures: The numbers behind it, by name.
    """

    outcome: Outcome
    reason: str
    figures: Mapping[str, float] = field(default_factory=dict)

    def with_clause(self, reason: str) -> Decision:
        r"""Return the decision with a further clause in its reason.

        Arguments:
            reason: The clause.
        """
        return Decision(self.outcome, f"{self.reason}; {reason}", self.figures)


@contextmanager
def listen(listener: Listener) -> Iterator[None]:
    r"""Call a listener after each stage of the fits within the block.

    Arguments:
        listener: A function of the name of the stage and its decision, or None.

    Yields:
        Nothing.
    """
    token = _listener.set(listener)
    try:
        yield
    finally:
        _listener.reset(token)


def notify(stage: str, decision: Decision | None) -> None:
    r"""Notify the listener, if there is one, that a stage is complete.

    Arguments:
        stage: The name of the stage.
        decision: Its decision; None if the stage does not apply.
    """
    listener = _listener.get()
    if listener is not None:
        listener(stage, decision)
