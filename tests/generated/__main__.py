r"""Tries generated cases by the thousand, in processes that may crash or hang; prints a table and what failed.

PYTHONPATH=tests python -m generated --minutes 60        all areas in turn, until the time is up
PYTHONPATH=tests python -m generated reading=100000      so many cases of one area
PYTHONPATH=tests python -m generated reading --seed 17   one case, with its traceback
"""

from __future__ import annotations

import argparse
import json
import os
import select
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

HANG, WAIT = 20.0, 60.0  # seconds that a case may compute, and that it may take
MEMORY = 6 * 2**30  # bytes of addresses that a worker may use beyond its own
ROUND = {"reading": 4000, "bombs": 4, "fits": 60, "options": 150, "checkpoints": 40, "folders": 40}


@dataclass
class Failure:
    r"""Cases that failed in one way."""

    count: int = 0
    seed: int = 0
    what: str = ""
    text: str = ""


@dataclass
class Tally:
    r"""What came of the cases of one area."""

    kinds: Counter[str] = field(default_factory=Counter)
    failures: dict[tuple[str, str, str], Failure] = field(default_factory=dict)
    seconds: float = 0.0

    def add(self, told: dict[str, Any]) -> None:
        self.kinds[told["kind"]] += 1
        if told["kind"] in ("result", "refused", "unbuilt"):
            return
        key = told["kind"], told["text"].partition(":")[0][:60], told["place"]
        failure = self.failures.setdefault(key, Failure())
        failure.count += 1
        if not failure.what or len(told["what"]) < len(failure.what):
            failure.seed, failure.what, failure.text = told["seed"], told["what"], told["text"]


def main() -> int:
    r"""Runs the command; 1 if a case failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("areas", nargs="*", metavar="AREA[=CASES]", help="which areas, all by default")
    parser.add_argument("--minutes", type=float, default=None, help="go round the areas until so much time is gone")
    parser.add_argument("--start", type=int, default=0, help="the first seed")
    parser.add_argument("--seed", type=int, default=None, help="run this one case here, with its traceback")
    parser.add_argument("--optimised", action="store_true", help="run the cases under python -O")
    parser.add_argument("--failures", type=Path, default=None, help="a file to write failures to, a JSON record a line")
    parser.add_argument("--worker", nargs=3, metavar=("AREA", "FIRST", "LAST"), help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.worker:
        return work(asked.worker[0], int(asked.worker[1]), int(asked.worker[2]))
    from .areas import AREAS

    counts = {name: int(count or 0) for name, _, count in (text.partition("=") for text in asked.areas or AREAS)}
    if strange := [name for name in counts if name not in AREAS]:
        parser.error(f"no area is called {strange[0]!r}; known: {', '.join(AREAS)}")
    if asked.seed is not None:
        return alone(next(iter(counts)), asked.seed)
    tallies = {name: Tally() for name in counts}
    ends = time.monotonic() + 60 * (asked.minutes or 0)
    start = asked.start
    while True:
        for name, count in counts.items():
            count = count or ROUND.get(name, 250)
            run(
                name,
                start,
                start + count,
                tallies[name],
                asked.optimised,
                ends if asked.minutes else None,
                asked.failures,
            )
            print(f"{name}: {line(tallies[name])}", file=sys.stderr)
        start += max(counts.values()) or max(ROUND.values())
        if not asked.minutes or time.monotonic() > ends:
            break
    return report(tallies)


def run(
    name: str, first: int, last: int, tally: Tally, optimised: bool, ends: float | None, record: Path | None
) -> None:
    r"""Tries cases in a worker, and in another where one crashes or hangs."""
    began = time.monotonic()
    while first < last and (ends is None or time.monotonic() < ends):
        command = [sys.executable, *(["-O"] if optimised else []), "-m", "generated"]
        command += ["--worker", name, str(first), str(last)]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=surroundings())
        for told in verdicts(process, first):
            tally.add(told)
            if record is not None and told["kind"] not in ("result", "refused", "unbuilt"):
                with record.open("a", encoding="utf-8") as file:
                    file.write(json.dumps({"area": name, **told}) + "\n")
            first = told["seed"] + 1
            if ends is not None and time.monotonic() > ends:
                break
        process.kill()
        process.wait()
    tally.seconds += time.monotonic() - began


def verdicts(process: subprocess.Popen[bytes], first: int) -> Iterator[dict[str, Any]]:
    r"""What a worker says of its cases, and of the one that ends it."""
    assert process.stdout is not None and process.stderr is not None
    os.set_blocking(process.stderr.fileno(), False)
    buffer, errors, seed, what, making = b"", b"", first, "", False
    last, computed, begun = time.monotonic(), 0.0, False
    while True:
        ready, _, _ = select.select([process.stdout, process.stderr], [], [], 1.0)
        if process.stderr in ready:
            errors = (errors + (process.stderr.read() or b""))[-3000:]
        if process.stdout in ready:
            chunk = os.read(process.stdout.fileno(), 1 << 16)
            if not chunk:
                break
            *lines, buffer = (buffer + chunk).split(b"\n")
            for text in lines:
                told = json.loads(text)
                seed, last, computed, begun = told["seed"], time.monotonic(), seconds(process.pid), True
                making = told["kind"] == "making"
                if making:
                    what = ""
                elif told["kind"] == "begins":
                    what = told["what"]
                else:
                    what = ""
                    yield told
                    seed += 1
        elif (
            time.monotonic() - last > (WAIT if begun else 5 * WAIT) or begun and seconds(process.pid) - computed > HANG
        ):
            kind = "unbuilt" if making else "hang"
            yield {"seed": seed, "kind": kind, "place": "", "text": f"over {HANG:g} s", "what": what}
            return
    code = process.wait()
    if code:
        said = errors.decode(errors="replace").strip().splitlines()[-1:] or [""]
        kind = "unbuilt" if making else "crash"  # another library crashed over the input before we had it
        yield {"seed": seed, "kind": kind, "place": "", "text": f"exit code {code}: {said[0][:200]}", "what": what}


def seconds(pid: int) -> float:
    r"""The processor's time that a process has taken."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def surroundings() -> dict[str, str]:
    r"""The environment of a worker."""
    here = str(Path(__file__).parents[1])
    path = os.pathsep.join(filter(None, [here, os.environ.get("PYTHONPATH")]))
    fixed = {
        "PYTHONPATH": path,
        "HF_HUB_OFFLINE": "1",
        "OMP_NUM_THREADS": "1",
        "MPLBACKEND": "Agg",
        "PYTHONHASHSEED": "0",
    }
    return {**os.environ, **fixed}


def work(name: str, first: int, last: int) -> int:
    r"""Tries the cases of some seeds, and tells of each in a line before and after it."""
    from .areas import prepared
    from .judge import judge

    out = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # what is printed is no verdict

    def tell(**told: Any) -> None:
        out.write(json.dumps(told) + "\n")
        out.flush()

    with prepared(name, MEMORY) as make:
        for seed in range(first, last):
            tell(seed=seed, kind="making")
            case = make(seed)
            if case is None:
                tell(seed=seed, kind="unbuilt", place="", text="", what="")
                continue
            tell(seed=seed, kind="begins", what=case.what[:600])
            verdict = judge(case)
            tell(seed=seed, kind=verdict.kind, place=verdict.place, text=verdict.text[:600], what=case.what[:600])
    return 0


def alone(name: str, seed: int) -> int:
    r"""Tries one case here, and shows what it raised."""
    import traceback

    from .areas import prepared
    from .judge import judge

    with prepared(name, MEMORY) as make:
        case = make(seed)
        if case is None:
            print("this case cannot be built")
            return 0
        print(case.what)
        try:
            print("result:", repr(case.run())[:1000])
        except Exception:
            traceback.print_exc()
        case = make(seed)
        verdict = judge(case) if case is not None else None
    print(verdict)
    return int(verdict is not None and verdict.fault)


def line(tally: Tally) -> str:
    r"""The counts of one area."""
    kinds = tally.kinds
    names = ("result", "refused", "unclear", "foreign", "wrong", "crash", "hang")
    return f"{sum(kinds.values()) - kinds['unbuilt']} cases ({kinds['unbuilt']} could not be built), " + ", ".join(
        f"{kinds[name]} {name}" for name in names
    )


def report(tallies: dict[str, Tally]) -> int:
    r"""Prints the table, and an example of each failure; 1 if there is one."""
    from .judge import FAULTS

    names = ("result", "refused", "unclear", "foreign", "wrong", "crash", "hang")
    print(f"| area | cases | {' | '.join(names)} | places | seconds |")
    print("|---" * (len(names) + 4) + "|")
    failed = 0
    for area, tally in tallies.items():
        faults = [key for key in tally.failures if key[0] in FAULTS]
        failed += len(faults)
        cases = sum(tally.kinds.values()) - tally.kinds["unbuilt"]
        counts = " | ".join(str(tally.kinds[name]) for name in names)
        print(f"| {area} | {cases} | {counts} | {len(faults)} | {tally.seconds:.0f} |")
    for area, tally in tallies.items():
        for (kind, _, place), failure in sorted(tally.failures.items(), key=lambda pair: (pair[0][0], -pair[1].count)):
            print(f"\n{area}: {failure.count} {kind} at {place or '?'}, such as --seed {failure.seed}")
            print(f"    {failure.text[:400]}\n    {failure.what[:500]}")
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
