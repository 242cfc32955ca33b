r"""The main job on every data set that has a card: the default adapter beside the frozen model and naive forecasts.

    python -m benchmarks.main_job.run greensboro etth1 illness     # all cards if none is named

Each set's test rows, at rolling origins, nothing chosen on them; one CSV row a model and metric, written as they come.
"""

import sys
from pathlib import Path

import pandas as pd

from adapts import Adapter
from adapts.data.cards import read
from adapts.evaluation.backtest import format_table, roll
from adapts.registry import cards
from benchmarks.provenance import named, provenance

HERE = Path(__file__).parent
PREDICTION_LENGTH = 24
SEED = 0


def main(names: list[str]) -> None:
    for name in names or sorted(cards()):
        dataset = read(name)
        adapter = Adapter(prediction_length=PREDICTION_LENGTH, support=dataset.support or None, seed=SEED)
        result = roll(adapter, dataset, seed=SEED)
        overall = result.frame.query("channel == 'all' and lead_block == 'all'")
        frame = overall.drop(columns=["channel", "lead_block"]).assign(
            data=name,
            prediction_length=PREDICTION_LENGTH,
            windows=len(result.windows),
            stride=result.stride,
            foundation_model=named(adapter.model),
            **provenance(dataset.panel, SEED),
        )
        path = HERE / "scores.csv"
        if path.exists():
            old = pd.read_csv(path, dtype=str)
            frame = pd.concat([old[old["data"] != name], frame.astype(str)])
        frame.to_csv(path, index=False)
        print(f"{name}\n{format_table(result.frame)}\n{result.adapter.summary()}\n", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
