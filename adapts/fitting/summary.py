r"""The summary of a fit, as text and as data."""

from __future__ import annotations

__all__ = ["Summary"]

from dataclasses import asdict, dataclass, field
from typing import Any

from ..adapters import AdapterModule, Portfolio
from ..errors import few
from ..notices import Notice
from .fitted import Fitted


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
        members: The members of a portfolio: "family" (the name of a further foundation model), "weight", "gain" (by
            which fraction its quantile loss alone is below the frozen model's, on the windows that selected the
            weights) and "seconds" of its training or forecasts. Members that were left out have no gain, and loaded
            adapters no seconds: None.
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
    members: list[dict[str, Any]] = field(default_factory=list)

    @classmethod
    def of(cls, fitted: Fitted, family: AdapterModule, foundation_model: str) -> Summary:
        r"""Summarise a fit.

        Arguments:
            fitted: The fit.
            family: The family, with its hyperparameters.
            foundation_model: The frozen model's name.

        Returns:
            The summary.
        """
        return cls(
            family=family.family,
            options=family.options(),
            foundation_model=foundation_model,
            channels=list(fitted.panel.targets),
            context_length=fitted.context_length,
            prediction_length=fitted.copula.prediction_length,
            windows=dict(fitted.windows),
            stages={name: decision.reason for name, decision in fitted.decisions.items()},
            spans={name: dict(span) for name, span in fitted.spans.items()},
            notices=list(fitted.notices),
            members=_members(fitted),
        )

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
        lines += [f"member {_line(member)}" for member in self.members]
        lines += [f"{name}: {reason}" for name, reason in self.stages.items()]
        return "\n".join([*lines, *(f"note: {notice.said}" for notice in self.notices)])

    __repr__ = __str__


def _members(fitted: Fitted) -> list[dict[str, Any]]:
    r"""Return family, weight, gain and seconds of each member of a portfolio."""
    portfolio = fitted.module
    if not isinstance(portfolio, Portfolio):
        return []
    figures = {name: x for stage in ("train", "weights") if stage in fitted.decisions
               for name, x in fitted.decisions[stage].figures.items()}  # fmt: skip
    return [
        {
            "family": member.label,
            "weight": float(portfolio.weights[number + 1]),
            "gain": figures.get(f"gain of member {number}"),
            "seconds": fitted.seconds.get(f"member {number}"),
        }
        for number, member in enumerate(portfolio.built_members)
    ]


def _line(member: dict[str, Any]) -> str:
    r"""Return a member as a line of the summary."""
    gain, seconds = member["gain"], member["seconds"]
    parts = [f"weight {member['weight']:.2f}"]
    parts += [] if gain is None else [f"gain alone {100 * gain:+.1f} %"]
    parts += [] if seconds is None else [f"{seconds:.1f} s"]
    return f"{member['family']}: {', '.join(parts)}"
