r"""What importing costs: `import adapts`, and what it takes to hold an Adapter, beside `import torch`.

    python -m benchmarks.doors.import_time

Each import runs in fresh processes, one after the other, in turns, so that what else the machine does falls on all
alike; the first turn, which reads the files into memory, does not count. The median is written.
"""

import subprocess
import sys
from pathlib import Path
from statistics import median

import numpy as np
import pandas as pd

from adapts.data.panel import Panel
from benchmarks.provenance import provenance

TURNS = 9
IMPORTS = ("import torch", "import adapts", "import torch, pandas", "from adapts import Adapter")
TIMED = "import time; began = time.perf_counter(); {}; print(time.perf_counter() - began)"


def seconds(statement: str) -> float:
    done = subprocess.run([sys.executable, "-c", TIMED.format(statement)], capture_output=True, text=True, check=True)
    return float(done.stdout)


def main() -> None:
    turns = [[seconds(statement) for statement in IMPORTS] for _ in range(1 + TURNS)]
    medians = [median(times) for times in zip(*turns[1:], strict=True)]
    frame = pd.DataFrame({"import": IMPORTS, "seconds": np.round(medians, 3)})
    frame["ratio_to_torch"] = (frame["seconds"] / frame["seconds"].iloc[0]).round(3)
    about = provenance(Panel.of(np.zeros((4, 1))), 0)
    frame = frame.assign(
        processes=TURNS, **{name: x for name, x in about.items() if name not in ("seed", "data_sha256")}
    )
    frame.to_csv(Path(__file__).with_suffix(".csv"), index=False)
    print(frame[["import", "seconds", "ratio_to_torch"]].to_string(index=False))


if __name__ == "__main__":
    main()
