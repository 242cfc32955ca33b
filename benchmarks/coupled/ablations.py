r"""What the parts of `attention` gain: each left out in turn, and one network instead of the two of `auto`.

    python -m benchmarks.coupled.ablations                # all sets; goes on where it stood
    python -m benchmarks.coupled.ablations beijing_pm25   # one of them

The protocol is that of `benchmarks.coupled.run`, with one seed.
"""

import argparse
from pathlib import Path
from typing import Any

import pandas as pd

from benchmarks.coupled.run import MODELS, resumed, score

HERE = Path(__file__).parent
SETS = ("los_loop 60", "beijing_pm25", "greensboro")
SEED = 0
#: The variants: a family and its options.
VARIANTS: dict[str, tuple[str, dict[str, Any]]] = {
    "the frozen model, calibrated": (MODELS[0], {}),
    "attention": ("attention", {}),
    "without attention": ("attention", {"family__attends": False}),
    "without embedding": ("attention", {"family__embedding": 0}),
    "without stretching": ("attention", {"family__stretches": False}),
    "auto": ("auto", {}),
    "auto with one network": ("auto", {"family__members": ["residual", "context", "var", "attention"]}),
    "auto without residual": ("auto", {"family__members": ["context", "var", "attention", "attention"]}),
    "auto without context": ("auto", {"family__members": ["residual", "var", "attention", "attention"]}),
    "auto without var": ("auto", {"family__members": ["residual", "context", "attention", "attention"]}),
}


def ablated(data: str, model: str, variant: str) -> pd.DataFrame:
    r"""The scores of a variant on a real set."""
    return score(data, model, SEED, baselines=False, **VARIANTS[variant][1]).assign(variant=variant)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("data", nargs="*", default=list(SETS), help="names of settings of benchmarks.coupled.run")
    parser.add_argument("--output", type=Path, default=HERE / "ablations.csv")
    options = parser.parse_args()
    jobs = [{"data": data, "model": VARIANTS[each][0], "variant": each} for data in options.data for each in VARIANTS]
    resumed(options.output, jobs, ablated)


if __name__ == "__main__":
    main()
