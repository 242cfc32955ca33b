r"""Files of every kind, written as they should be and then damaged; and paths that are no files."""

from __future__ import annotations

import gzip
import io
import itertools
import json
import os
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
from pyarrow import feather, ipc, parquet

from adapts.data import cards

from . import odd
from .damage import altered, damaged
from .judge import Case, Unbuilt
from .series import NAMES, require_sound, shown, sizes

_NUMBER = itertools.count()
ENDINGS = (
    ".csv",
    ".csv.gz",
    ".tsv",
    ".parquet",
    ".pq",
    ".arrow",
    ".feather",
    ".jsonl",
    ".json",
    ".jsonl.gz",
    ".tsf",
    ".tsf.gz",
)


def table(random: Random) -> pd.DataFrame:
    r"""A wide or a long table."""
    rows = random.choice([2, 4, 8, 15])
    dates = pd.date_range("2024-03-01", periods=rows, freq=random.choice(["h", "D", "MS", "15min", "W"]))
    if random.random() < 0.2:
        dates = dates.tz_localize(random.choice(["UTC", "Europe/Berlin", "Asia/Kathmandu"]))
    names = random.sample(["a", "b", "load", "x y", "ä", "0"], k=random.choice([1, 2, 3]))
    values = sizes(random, (rows, len(names)))
    if random.random() < 0.4:
        values.reshape(-1)[random.randrange(values.size)] = np.nan
    wide = pd.DataFrame(values, columns=names)
    wide.insert(0, random.choice(["date", "timestamp", "ds", "when"]), dates)
    if random.random() < 0.5:
        return wide
    ids = random.choice([["u", "v"], [1, 2], ["001", "1"], ["1e5", "2e6"]])
    long = pd.concat([wide, wide], ignore_index=True)
    long.insert(0, random.choice(["item_id", "id", "shop"]), np.repeat(np.array(ids, dtype=object), rows))
    if random.random() < 0.3:
        long["kind"] = np.repeat(["p", "q"], rows)
    return long.infer_objects()


def _delimited(random: Random, frame: pd.DataFrame, kind: str) -> bytes:
    separator = "\t" if kind == ".tsv" else random.choice([",", ",", ";", "\t", "|"])
    decimal = "," if separator == ";" and random.random() < 0.5 else "."
    form = random.choice([None, None, "%d.%m.%Y %H:%M", "%m/%d/%Y", "%Y-%m-%dT%H:%M:%SZ"])
    text = frame.to_csv(sep=separator, decimal=decimal, index=random.random() < 0.2, date_format=form)
    if random.random() < 0.45:
        text = _with_odd_cells(random, text, separator)
    how = random.choice(["utf-8"] * 8 + ["utf-8-sig", "utf-16", "latin-1", "utf-32"])
    return text.encode(how, "surrogatepass" if how.startswith("utf") else "replace")


def _with_odd_cells(random: Random, text: str, separator: str) -> str:
    r"""A table of text with a few cells, or a line, that do not belong there."""
    lines = [line.split(separator) for line in text.splitlines()]
    for _ in range(random.choice([1, 1, 2, 6])):
        line = random.choice(lines)
        how = random.random()
        if how < 0.55:
            line[random.randrange(len(line))] = random.choice(
                [odd.text(random), odd.text(random), random.choice(odd.DATES)]
            )
        elif how < 0.65:
            lines[0][random.randrange(len(lines[0]))] = random.choice([*NAMES, odd.text(random)])
        elif how < 0.75:
            line.insert(random.randint(0, len(line)), odd.text(random))
        elif how < 0.85 and len(line) > 1:
            line.pop(random.randrange(len(line)))
        elif how < 0.9:
            lines.insert(random.randint(0, len(lines)), [random.choice(["", "#", odd.text(random), '"'])])
        elif how < 0.95:  # a whole column
            place, cell = random.randrange(len(lines[0])), odd.text(random)
            lines[1:] = [[*each[:place], cell, *each[place + 1 :]] for each in lines[1:]]
        else:
            random.shuffle(lines)
    return random.choice(["\n", "\n", "\r\n", "\r"]).join(separator.join(map(str, line)) for line in lines)


def _arrow_table(random: Random, frame: pd.DataFrame) -> pa.Table:
    made = pa.Table.from_pandas(frame.astype({name: str for name in frame if frame[name].dtype == object}))
    if random.random() < 0.3:
        kinds: Sequence[Callable[[], pa.Array]] = (
            lambda: pa.array([[1.0]] * len(frame)),
            lambda: pa.array([{"x": 1.0}] * len(frame)),
            lambda: pa.array([None] * len(frame)),
            lambda: pa.array(["1e33694426776"] * len(frame)),
            lambda: pa.array(["x"] * len(frame)).dictionary_encode(),
            lambda: pa.array([2**63 - 1] * len(frame)).cast(pa.timestamp(random.choice(["s", "ms", "us", "ns"]))),
            lambda: pa.array([10] * len(frame)).cast(pa.date32()),
            lambda: pa.array([1] * len(frame)).cast(pa.decimal128(38, 5)),
            lambda: pa.array([10**30] * len(frame), pa.decimal256(60, 0)),
            lambda: pa.array([b"\xff"] * len(frame)),
            lambda: pa.array([1.0] * len(frame)).cast(pa.float16()),
            lambda: pa.array([5] * len(frame)).cast(pa.duration("ns")),
            lambda: pa.array([True] * len(frame)),
        )
        made = made.append_column(random.choice(NAMES), random.choice(kinds)())
    if random.random() < 0.15:
        made = made.replace_schema_metadata(
            {b"pandas": random.choice([b"", b"{}", b"[]", b"\xff", b'{"index_columns": ["x"]}'])}
        )
    if random.random() < 0.1:
        made = made.slice(0, random.choice([0, 1]))
    return made


def _binary(random: Random, frame: pd.DataFrame, kind: str) -> bytes:
    made, out = _arrow_table(random, frame), io.BytesIO()
    if kind in (".parquet", ".pq"):
        parquet.write_table(made, out, compression=random.choice(["snappy", "zstd", "none", "gzip"]), version="2.6")
    elif kind == ".feather" or random.random() < 0.4:
        feather.write_feather(made, out, compression=random.choice(["uncompressed", "lz4", "zstd"]))
    else:
        with ipc.new_stream(out, made.schema) as stream:
            stream.write_table(made)
    return out.getvalue()


def _records(random: Random, frame: pd.DataFrame) -> list[Any]:
    if random.random() < 0.5:
        return list(json.loads(frame.to_json(orient="records", date_format="iso")))
    entries = []
    for number in range(random.choice([1, 2, 3])):
        target = sizes(random, (random.choice([5, 9]),)).tolist()
        if random.random() < 0.3:
            target = [target, target]
        entries.append({"start": "2024-01-01 00:00", "target": target, "item_id": f"u{number}", "freq": "D"})
    return entries


def _json(random: Random, frame: pd.DataFrame, kind: str) -> bytes:
    records = _records(random, frame)
    if random.random() < 0.5:
        records, _ = altered(random, records)
    if random.random() < 0.15 and isinstance(records, list):
        records = [*records, odd_json(random)]
    if kind == ".json" and random.random() < 0.6 or not isinstance(records, list):
        return json.dumps(records, indent=random.choice([None, 1])).encode()
    return "\n".join(json.dumps(record, ensure_ascii=random.random() < 0.8) for record in records).encode(
        "utf-8", "surrogatepass"
    )


def odd_json(random: Random) -> Any:
    r"""A record that is none, or that is like no other."""
    return random.choice(
        [
            None,
            1,
            "x",
            [],
            {},
            [[]],
            {"target": 5},
            {"start": 5, "target": [1]},
            {"a": {"b": 1}},
            {"item_id": [1]},
            {"": ""},
            {"start": "2024", "target": "x"},
            {"start": "2024", "target": [[1, 2], [3]]},
            {"start": "0001", "target": [1]},
            {"start": {"$date": 1}, "target": []},
            {"a": 10**400},
            {"a": "9" * 5000},
            {"start": "2024", "target": [True, None]},
        ]
    )


def _tsf(random: Random) -> bytes:
    lines = ["# a comment", "@relation test", "@attribute series_name string", "@attribute start_timestamp date"]
    lines += [
        f"@frequency {random.choice(['daily', 'hourly', '10_minutes', 'weekly', 'monthly', 'yearly', 'half_hourly'])}"
    ]
    lines += ["@horizon 4", f"@missing {random.choice(['true', 'false'])}", "@equallength false", "@data"]
    for number in range(random.choice([1, 2, 3])):
        values = ",".join(random.choice(["1", "2.5", "?", "-3e2"]) for _ in range(random.choice([1, 5, 9])))
        lines.append(f"T{number}:2024-01-01 00-00-00:{values}")
    for _ in range(random.choice([0, 0, 1, 2])):
        place = random.randrange(len(lines))
        words = lines[place].replace(":", " : ").replace(",", " , ").split(" ")
        words[random.randrange(len(words))] = random.choice(
            [odd.text(random), random.choice(odd.DATES), "@data", ":", "?", ""]
        )
        lines[place] = "".join(words) if ":" in lines[place] else " ".join(words)
        if random.random() < 0.2:
            lines.pop(random.randrange(len(lines)))
    return "\n".join(lines).encode("utf-8", "surrogatepass")


def content(random: Random, kind: str) -> bytes:
    r"""A file's content before it is damaged."""
    plain = kind.removesuffix(".gz")
    frame = table(random)
    if plain in (".csv", ".tsv"):
        made = _delimited(random, frame, plain)
    elif plain in (".json", ".jsonl"):
        made = _json(random, frame, plain)
    elif plain == ".tsf":
        made = _tsf(random)
    else:
        made = _binary(random, frame, plain)
    if kind.endswith(".gz"):
        if random.random() < 0.3:
            made = damaged(random, made)
        made = (
            gzip.compress(made)
            if random.random() < 0.9
            else random.choice([zlib.compress(made), made, gzip.compress(made) * 2])
        )
    return made


def _options(random: Random) -> dict[str, Any]:
    options: dict[str, Any] = {}
    for option in ("timestamp_column", "item_column", "columns", "frequency", "regularise", "static"):
        if random.random() < 0.9:
            continue
        name = random.choice(["a", "b", "date", "item_id", "id", "shop", "kind", "nope", "load"])
        options[option] = {"frequency": random.choice(odd.FREQUENCIES), "regularise": True, "columns": [name]}.get(
            option, name
        )
    return options


def files(random: Random, folder: Path) -> Case:
    r"""A case of a damaged file."""
    kind = random.choice(ENDINGS)
    made = content(random, kind)
    told = "as written"
    if random.random() < 0.55:
        made, told = damaged(random, made), "damaged"
    if random.random() < 0.03:
        kind, told = random.choice(ENDINGS), f"a {kind} called otherwise"
    path = folder / f"{next(_NUMBER)}{kind}"
    path.write_bytes(made)
    options = _options(random)

    def run() -> object:
        try:
            dataset = cards.read(path, **options)
        finally:
            path.unlink()
        require_sound(dataset.panel)
        return dataset

    return Case(f"{kind} {told}, {len(made)} bytes: {made[:60]!r} {options}", run)


# ------------------------------------------------------------------------------------------------------ paths


def paths(random: Random, folder: Path) -> Case:
    r"""A case of a path that is no file, or of a file that is none of its kind."""
    place = folder / str(next(_NUMBER))
    place.mkdir()
    (place / "fine.csv").write_text("date,a\n2024-01-01,1\n2024-01-02,2\n2024-01-03,3\n")
    ending = random.choice(ENDINGS)
    path = place / f"x{ending}"
    choices: dict[str, Callable[[], Any]] = {
        "a FIFO": lambda: os.mkfifo(path),
        "a folder": lambda: path.mkdir(),
        "a link to itself": lambda: path.symlink_to(path),
        "a link to nothing": lambda: path.symlink_to(place / "nope"),
        "a link to a folder": lambda: path.symlink_to(place),
        "a device": lambda: path.symlink_to(random.choice(["/dev/null", "/dev/full"])),
        "empty": lambda: path.write_bytes(b""),
        "blank": lambda: path.write_bytes(
            random.choice([b"\n" * 50, b" ", b"\xef\xbb\xbf", b"\x00" * 100, b",,,\n,,,\n", b'"'])
        ),
        "a header alone": lambda: path.write_bytes(b"date,a,b\n"),
        "nothing": lambda: None,
        "a folder between": lambda: (place / "fine.csv.d").mkdir(),
    }
    what = random.choice(list(choices))
    choices[what]()
    named = random.random()
    given: Any = path
    if named < 0.15:
        given = random.choice(
            [f"{path}\x00", f"{place}/{'x' * 300}.csv", "x" * 5000, f"{path}/", f"{place}/fine.csv/x.csv", "", "."]
        )
    elif named < 0.3:
        given = odd.value(random)
    elif named < 0.5:
        given = str(path)

    def run() -> object:
        dataset = cards.read(given)
        require_sound(dataset.panel)
        return dataset

    return Case(f"read({shown(given)}), which is {what}", run)


# ------------------------------------------------------------------------------------------------------ bombs


@dataclass(frozen=True)
class Bomb:
    r"""A small file that is large when it is read."""

    ending: str
    write: Callable[[Path], Any]


def _packed(path: Path, line: bytes, megabytes: int) -> None:
    path.write_bytes(gzip.compress(line * (10**6 // len(line))) * megabytes)  # what is packed in parts is one text


def _deep(path: Path, left: str, right: str, depth: int) -> None:
    path.write_text(left * depth + "1" + right * depth)


def _wide_records(path: Path, count: int) -> None:
    path.write_text("\n".join(json.dumps({f"k{number}": 1}) for number in range(count)))


def _runs(path: Path, rows: int) -> None:
    column = pa.DictionaryArray.from_arrays(pa.array(np.zeros(10**6, dtype="int8")), pa.array([1.0]))
    with parquet.ParquetWriter(path, pa.schema([("a", column.type)]), compression="zstd") as writer:
        for _ in range(rows // 10**6):
            writer.write_table(pa.table([column], names=["a"]), row_group_size=10**6)


BOMBS = (
    Bomb(".csv.gz", lambda path: _packed(path, b"1,2\n", 6000)),
    Bomb(".csv.gz", lambda path: _packed(path, b"aaaa", 6000)),
    Bomb(".jsonl.gz", lambda path: _packed(path, b'{"a": 1}\n', 3000)),
    Bomb(".json", lambda path: _deep(path, "[", "]", 10**5)),
    Bomb(".jsonl", lambda path: _deep(path, '{"a":', "}", 10**5)),
    Bomb(".jsonl", lambda path: _wide_records(path, 20000)),
    Bomb(".json", lambda path: path.write_text("[" + ",".join(["{}"] * 10**6) + "]")),
    Bomb(
        ".jsonl", lambda path: path.write_text('{"start": "2024", "freq": "D", "target": [' + "1e999," * 10**5 + "1]}")
    ),
    Bomb(
        ".csv", lambda path: path.write_text(",".join(f"c{n}" for n in range(10**5)) + "\n" + ",".join(["1"] * 10**5))
    ),
    Bomb(".csv", lambda path: path.write_text('a,b\n"' + "x\n" * 10**6)),
    Bomb(".csv", lambda path: path.write_text("date,a\n0001-01-01,1\n9999-12-31,2\n")),
    Bomb(".csv", lambda path: path.write_text("date,a\n2024-01-01 00:00:00,1\n2024-01-01 00:00:01,1\n2262-01-01,2\n")),
    Bomb(
        ".csv", lambda path: path.write_text("item_id,a\n" + "".join(f"{n:x},1\n" for n in range(10**6, 10**6 + 40000)))
    ),
    Bomb(".parquet", lambda path: _runs(path, 5 * 10**8)),
    Bomb(".tsf", lambda path: path.write_text("@attribute series_name string\n@data\n" + "T:" + "1," * 10**7 + "1\n")),
    Bomb(".tsf", lambda path: path.write_text("@attribute a string\n" * 10**5 + "@data\n:1\n")),
)


def bombs(random: Random, folder: Path) -> Case:
    r"""A case of a file that grows when it is read, or of dates that span centuries of seconds."""
    bomb = random.choice(BOMBS)
    path = folder / f"{next(_NUMBER)}{bomb.ending}"
    options = random.choice([{}, {}, {"regularise": True}, {"frequency": "s", "regularise": True}])
    try:
        bomb.write(path)
    except MemoryError as error:
        raise Unbuilt("no memory to write it") from error

    def run() -> object:
        try:
            return cards.read(path, **options)
        finally:
            path.unlink()

    return Case(f"bomb {BOMBS.index(bomb)} {bomb.ending} of {path.stat().st_size} bytes {options}", run)
