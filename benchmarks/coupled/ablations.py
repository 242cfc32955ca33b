r"""What the parts of `attention` and the members of `auto` gain, and what channels of noise cost.

    python -m benchmarks.coupled.ablations                # all sets; goes on where it stood
    python -m benchmarks.coupled.ablations beijing_pm25   # one of them

The protocol is that of `benchmarks.coupled.run`, with one seed.
"""

import argparse
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from adapts.foundation.cache import cached_forecasts
from benchmarks.coupled.run import BUDGET, MODELS, SECONDS, SETTINGS, measure, resumed, score, series
from benchmarks.provenance import provenance

HERE = Path(__file__).parent
SETS = ("greensboro", "beijing_pm25")
SEED = 0
#: The variant whose scores are those of the real channels alone.
NOISY = "auto beside as many channels of noise"
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
    NOISY: ("auto", {}),
}


def ablated(data: str, model: str, variant: str) -> pd.DataFrame:
    r"""The scores of a variant on a real set."""
    if variant == NOISY:
        return beside_noise(data, model).assign(variant=variant)
    return score(data, model, SEED, baselines=False, **VARIANTS[variant][1]).assign(variant=variant)


def beside_noise(data: str, model: str) -> pd.DataFrame:
    r"""The scores of the targets of a real set, with as many channels of white noise beside them."""
    panel, dataset, origins = series(data)
    noise = np.random.default_rng(SEED)
    names = tuple(f"noise {number}" for number in range(len(panel.targets)))
    items = tuple(
        replace(item, values=np.hstack([noise.standard_normal((len(item), len(names))), item.values]))
        for item in panel.items
    )
    wider = replace(panel, items=items, channels=(*names, *panel.channels))
    frame = measure(
        model, replace(dataset, panel=wider, borders=None, end=None), SETTINGS[data], origins, SEED, baselines=False
    )
    own = frame[(frame["lead_block"] == "all") & frame["channel"].isin(panel.targets)]
    constant = own.drop(columns=["channel", "lead_block", "value", "metric"]).drop_duplicates()
    means = own.groupby("metric", as_index=False)["value"].mean()
    return means.merge(constant, how="cross").assign(data=data, **provenance(panel, SEED))


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("data", nargs="*", default=list(SETS), help="names of settings of benchmarks.coupled.run")
    parser.add_argument("--output", type=Path, default=HERE / "ablations.csv")
    options = parser.parse_args()
    for data in options.data:
        jobs = [{"data": data, "model": VARIANTS[each][0], "variant": each} for each in VARIANTS]
        with cached_forecasts(BUDGET):
            resumed(options.output, jobs, lambda **job: ablated(**job).drop(columns=SECONDS))


if __name__ == "__main__":
    main()
