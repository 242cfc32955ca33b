r"""How large the tables of an Arrow file are, told by its messages alone: batches may be packed a thousandfold."""

from __future__ import annotations

__all__ = ["size_of_arrow"]

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

_MAGIC = b"ARROW1"


def size_of_arrow(path: Path) -> tuple[int, int]:
    r"""Counts what an Arrow file holds, without unpacking it.

    References:
        | The IPC format: Message, RecordBatch and Footer are tables of FlatBuffers
        | https://github.com/apache/arrow/tree/main/format

    Arguments:
        path: A file in Arrow's file format (Feather) or stream format.

    Returns:
        The number of values of its arrays, and how many bytes these take once they are unpacked.

    Raises:
        struct.error: If the file is damaged; pyarrow raises exceptions of its own.
    """
    import pyarrow
    from pyarrow import ipc

    values = size = 0
    with pyarrow.memory_map(str(path)) as file:
        magic = file.read(len(_MAGIC))
        if magic == _MAGIC:
            messages = _messages(file)
        else:
            file.seek(0)
            messages = iter(ipc.MessageReader.open_stream(file))
        for message in messages:
            if message.type in ("record batch", "dictionary"):
                more = _size_of_batch(message)
                values, size = values + more[0], size + more[1]
    return values, size


def _messages(file: Any) -> Iterator[Any]:
    r"""The messages that the footer of a file names."""
    from pyarrow import ipc

    file.seek(file.size() - len(_MAGIC) - 4)
    (length,) = struct.unpack("<i", file.read(4))
    file.seek(file.size() - len(_MAGIC) - 4 - length)
    footer = file.read(length)
    for number in (2, 3):  # dictionaries, record batches
        for (offset,) in _structs(footer, _field(footer, _follow(footer, 0), number), "<q16x"):
            file.seek(offset)
            yield ipc.read_message(file)


def _size_of_batch(message: Any) -> tuple[int, int]:
    about, body = message.metadata, message.body
    batch = _follow(about, _field(about, _follow(about, 0), 2))
    if message.type == "dictionary":
        batch = _follow(about, _field(about, batch, 1))
    values = sum(length for (length,) in _structs(about, _field(about, batch, 1), "<q8x"))
    packed, size = _field(about, batch, 3), 0
    for start, length in _structs(about, _field(about, batch, 2), "<qq"):
        # The length of a packed buffer stands before it, -1 where it is as it was.
        whole = struct.unpack_from("<q", body, start)[0] if packed and length else -1
        size += length if whole < 0 else whole
    return values, size


def _follow(table: Any, place: int) -> int:
    return place + int(struct.unpack_from("<I", table, place)[0])


def _field(table: Any, start: int, number: int) -> int:
    r"""Where a field of the FlatBuffers table at `start` stands, 0 where it is left out."""
    fields = start - struct.unpack_from("<i", table, start)[0]
    if 4 + 2 * number >= struct.unpack_from("<H", table, fields)[0]:
        return 0
    place = struct.unpack_from("<H", table, fields + 4 + 2 * number)[0]
    return start + int(place) if place else 0


def _structs(table: Any, place: int, form: str) -> Iterator[tuple[int, ...]]:
    r"""The entries of a vector of structs."""
    if not place:
        return
    start = _follow(table, place)
    (count,) = struct.unpack_from("<I", table, start)
    yield from struct.iter_unpack(form, memoryview(table)[start + 4 : start + 4 + count * struct.calcsize(form)])
