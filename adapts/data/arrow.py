r"""Size of an Arrow file's tables, read from its messages alone: compressed batches may expand a thousandfold."""

from __future__ import annotations

__all__ = ["size_of_arrow"]

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

_MAGIC = b"ARROW1"


def size_of_arrow(path: Path) -> tuple[int, int]:
    r"""Return the size of an Arrow file's content without decompressing it.

    References:
        | The IPC format: Message, RecordBatch and Footer are tables of FlatBuffers
        | https://github.com/apache/arrow/tree/main/format

    Arguments:
        path: A file in Arrow's file format (Feather) or stream format.

    Returns:
        The number of values in its arrays, and the number of bytes that these take once decompressed.

    Raises:
        struct.error: If the file is damaged. pyarrow may raise its own exceptions.
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
    r"""Yield the messages listed in the footer of a file."""
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
    r"""Return the number of values in a record batch or dictionary, and their decompressed size in bytes."""
    metadata, body = message.metadata, message.body
    batch = _follow(metadata, _field(metadata, _follow(metadata, 0), 2))
    if message.type == "dictionary":
        batch = _follow(metadata, _field(metadata, batch, 1))
    values = sum(length for (length,) in _structs(metadata, _field(metadata, batch, 1), "<q8x"))
    compression, size = _field(metadata, batch, 3), 0
    for start, length in _structs(metadata, _field(metadata, batch, 2), "<qq"):
        # The decompressed length stands before a compressed buffer; it is -1 if the buffer is not compressed.
        decompressed = struct.unpack_from("<q", body, start)[0] if compression and length else -1
        size += length if decompressed < 0 else decompressed
    return values, size


def _follow(table: Any, place: int) -> int:
    r"""Return the position that the offset at `place` refers to."""
    return place + int(struct.unpack_from("<I", table, place)[0])


def _field(table: Any, start: int, number: int) -> int:
    r"""Return the position of a field of the FlatBuffers table at `start`, 0 if the field is absent."""
    fields = start - struct.unpack_from("<i", table, start)[0]
    if 4 + 2 * number >= struct.unpack_from("<H", table, fields)[0]:
        return 0
    place = struct.unpack_from("<H", table, fields + 4 + 2 * number)[0]
    return start + int(place) if place else 0


def _structs(table: Any, place: int, form: str) -> Iterator[tuple[int, ...]]:
    r"""Yield the entries of a vector of structs."""
    if not place:
        return
    start = _follow(table, place)
    (count,) = struct.unpack_from("<I", table, start)
    yield from struct.iter_unpack(form, memoryview(table)[start + 4 : start + 4 + count * struct.calcsize(form)])
