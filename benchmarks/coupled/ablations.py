r"""What the parts of `attention` and the members of `auto` gain, and what channels of noise cost.

    python -m benchmarks.coupled.ablations                # all sets; goes on where it stood
    python -m benchmarks.coupled.ablations beijing_pm25   # one of them
    python -m benchmarks.coupled.ablations --before-test  # one network or two, on rows before the test rows

The protocol is that of `benchmarks.coupled.run`, with one seed. Defaults are chosen before the test rows: adapters are
fitted on the first 80 % of the rows that the former fits see, and scored on the others.
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
#: The sets that compare one network with two before the test rows, and how these are called.
SETS_BEFORE, BEFORE = (*SETS, "bike_sharing", "los_loop 60"), ", before test"
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
#: Those that are compared before the test rows.
NETWORKS = "the frozen model, calibrated", "auto", "auto with one network"


def ablated(data: str, model: str, variant: str) -> pd.DataFrame:
    r"""The scores of a variant on a real set, or on its rows before the test rows."""
    if data.endswith(BEFORE):
        return before_test(data, model, VARIANTS[variant][1]).assign(variant=variant)
    if variant == NOISY:
        return beside_noise(data, model).assign(variant=variant)
    return score(data, model, SEED, baselines=False, **VARIANTS[variant][1]).assign(variant=variant)


def before_test(data: str, model: str, options: dict[str, Any]) -> pd.DataFrame:
    r"""The scores on the last fifth of the rows before the test rows, of an adapter fitted on those before."""
    name = data.removesuffix(BEFORE)
    panel, dataset, origins = series(name)
    setting = SETTINGS[name]
    border = dataset.borders[1]
    first = 4 * border // 5
    origins = (border - first - setting.prediction_length) // setting.stride + 1
    rows = panel.rows(first + (origins - 1) * setting.stride + setting.prediction_length)
    given = replace(dataset, panel=rows, borders=None, end=None)
    frame = measure(model, given, setting, origins, SEED, baselines=False, **options)
    frame = frame.query("channel == 'all' and lead_block == 'all'").drop(columns=["channel", "lead_block"])
    return frame.assign(data=data, **provenance(rows, SEED))


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
    parser.add_argument("data", nargs="*", help="names of settings of benchmarks.coupled.run")
    parser.add_argument("--before-test", action="store_true", help="one network or two, before the test rows")
    parser.add_argument("--output", type=Path, default=HERE / "ablations.csv")
    options = parser.parse_args()
    before = options.before_test
    for name in options.data or (SETS_BEFORE if before else SETS):
        data, variants = (name + BEFORE, NETWORKS) if before else (name, tuple(VARIANTS))
        jobs = [{"data": data, "model": VARIANTS[each][0], "variant": each} for each in variants]
        with cached_forecasts(BUDGET):
            resumed(options.output, jobs, lambda **job: ablated(**job).drop(columns=SECONDS))


if __name__ == "__main__":
    main()
