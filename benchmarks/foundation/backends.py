r"""The table of known weights in docs/foundation_models.md, from the declarations of the library.

python -m benchmarks.foundation.backends
"""

from __future__ import annotations

import argparse
import inspect
from importlib import import_module

from adapts.foundation import FoundationModel
from adapts.foundation.backends import install_command
from adapts.foundation.names import WEIGHTS, Weights
from adapts.registry import FOUNDATION_MODELS
from benchmarks import pages

PAGE = "docs/foundation_models.md"
HEADER = ("name", "backend", "production use", "size", "context", "steps a pass", "levels", "gradient", "gaps", "joint",
          "installed by")  # fmt: skip


def model_class(backend: str) -> type[FoundationModel]:
    r"""The class of a backend."""
    module = import_module(FOUNDATION_MODELS[backend].module)
    (found,) = [
        value for value in vars(module).values()
        if inspect.isclass(value) and issubclass(value, FoundationModel) and value.__module__ == module.__name__
    ]  # fmt: skip
    return found


def _size(weights: Weights) -> str:
    count = weights.parameters
    if not count:
        return "?" if count is None else "none"
    return f"{count / 1e6:,.0f} M" if count >= 1e7 else f"{count / 1e6:.2g} M"


def _row(name: str, weights: Weights) -> list[str]:
    declared, backend = model_class(weights.backend), FOUNDATION_MODELS[weights.backend]
    use = {True: "yes", False: "**no**", None: "on conditions" if weights.weights else "not stated"}[weights.production]
    levels = "points" if declared.kind == "point" else f"{weights.levels or '?'}"
    if declared.kind == "samples":
        levels += ", of samples"
    command = install_command(backend)
    by = "adapts" if not command else f"`adapts[{backend.extra}]`" if backend.extra else "its own environment"
    numbers = [f"{number:,}" if number else "?" for number in (weights.context_length, weights.prediction_length)]
    return [
        f"`{name}`", weights.backend, use, _size(weights), *numbers, levels,
        "yes" if weights.differentiable else "no", "reads" if declared.reads_missing else "filled in",
        "yes" if declared.joint_mode else "no", by,
    ]  # fmt: skip


def table() -> str:
    r"""The table, a row for each name."""
    rows = [HEADER, ("---",) * len(HEADER), *(_row(name, weights) for name, weights in WEIGHTS.items())]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


if __name__ == "__main__":
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    pages.write(PAGE, __file__, {"known weights": table()})
