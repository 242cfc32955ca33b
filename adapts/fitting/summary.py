r"""The summary of a fit, as text and as data."""

from __future__ import annotations

__all__ = ["Summary"]

from dataclasses import asdict, dataclass, field
from typing import Any

from ..errors import few
from ..notices import Notice


@dataclass(frozen=True, repr=False)
class Summary:
    r"""Summary of a fit: `str` for readers, `to_dict` for reports.

    Arguments:
        family: The family's name.
        options: Its hyperparameters.
        foundation_model: The frozen model's name.
        channels: The names of the channels.
        context_length: The number of context steps.
        prediction_length: The number of steps forecast.
        windows: The number of windows per split.
        stages: The decision of each stage, in words.
        spans: The first and the last target row of each split that has any, and the number of rows.
        notices: What the user must know; `fit` warns of the same.
    """

    family: str
    options: dict[str, Any]
    foundation_model: str
    channels: list[str]
    context_length: int
    prediction_length: int
    windows: dict[str, int]
    stages: dict[str, str]
    spans: dict[str, dict[str, Any]] = field(default_factory=dict)
    notices: list[Notice] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        r"""Return the summary as a dictionary that can be written as JSON."""
        notices = [{**asdict(notice), "about": list(notice.about)} for notice in self.notices]
        return {**asdict(self), "notices": notices}

    def __str__(self) -> str:
        options = ", ".join(f"{name}={value!r}" for name, value in self.options.items())
        lines = [
            f"{self.family} adapter around {self.foundation_model}: {len(self.channels)} channels, "
            f"context of {self.context_length} steps, horizon of {self.prediction_length}",
            f"channels: {few(self.channels)}",
            *([f"options: {options}"] if options else []),
            "windows:",
        ]
        for name, count in self.windows.items():
            span = self.spans.get(name)
            rows = f", targets {span['first']} to {span['last']} ({span['rows']} rows)" if span else ""
            lines.append(f"  {name.ljust(max(map(len, self.windows)))}  {count:>5}{rows}")
        lines += [f"{name}: {reason}" for name, reason in self.stages.items()]
        return "\n".join([*lines, *(f"note: {notice.said}" for notice in self.notices)])

    __repr__ = __str__
