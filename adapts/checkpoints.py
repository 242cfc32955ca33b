r"""Checkpoints: the finished pieces of a piece of work, in a folder, so that a killed one goes on where it stood."""

from __future__ import annotations

__all__ = ["Checkpoints", "into_place"]

import json
import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

_WHAT, _PIECE, _PART = "fit.json", ".safetensors", ".part"


class Checkpoints:
    r"""A folder of finished pieces of one piece of work: a fit, a backtest or a search.

    Each piece is written whole beside its place, flushed to the disk and moved there at once, so that what stands
    there is whole whenever the process ends. One process at a time may use a folder.

    Arguments:
        folder: The folder, made where there is none. Without one nothing is kept, and every piece is computed.
        fingerprint: Whatever the numbers of the work depend on, in nested mappings of what JSON can hold.

    Raises:
        ValueError: If the folder holds other work, or what none wrote, or its note of the work cannot be read.
    """

    def __init__(self, folder: str | Path | None, fingerprint: Mapping[str, Any]) -> None:
        self.folder = None if folder is None else Path(folder)
        if self.folder is None:
            return
        if self.folder.exists() and not self.folder.is_dir():
            raise ValueError(f"expected a folder for checkpoints, but {self.folder} is a file: choose another place")
        self.folder.mkdir(parents=True, exist_ok=True)
        for left in self.folder.glob(f"*{_PART}"):  # a killed process was writing it
            left.unlink()
        what, text = self.folder / _WHAT, json.dumps(fingerprint, indent=1)
        if what.is_file():
            self._require_same(_flat(_noted(what)), _flat(json.loads(text)))
        elif foreign := sorted(path.name for path in self.folder.iterdir()):
            raise ValueError(f"{self.folder} holds {foreign[0]!r}, which is no checkpoint: choose another folder")
        else:
            _write(what, text.encode())

    def _require_same(self, there: dict[str, Any], here: dict[str, Any]) -> None:
        names = [name for name in {**there, **here} if there.get(name) != here.get(name)]
        if names:
            said = [f"{name} ({_short(there.get(name))} there, {_short(here.get(name))} here)" for name in names]
            raise ValueError(
                f"{self.folder} holds the checkpoints of other work, which differs in {', '.join(said)}: "
                "choose another folder, or delete this one"
            )

    def path(self, name: str) -> Path | None:
        r"""Returns the place of a piece that someone else writes; None where nothing is kept.

        Arguments:
            name: The file's name.
        """
        return None if self.folder is None else self.folder / name

    def kept(self, name: str, compute: Callable[[], dict[str, Tensor]]) -> dict[str, Tensor]:
        r"""Returns a piece: read where it is finished, computed and kept where it is not.

        Arguments:
            name: The piece's name.
            compute: What gives its tensors.
        """
        held = self.read(name)
        if held is not None:
            return held[0]
        tensors = compute()
        self.keep(name, tensors)
        return tensors

    def read(self, name: str) -> tuple[dict[str, Tensor], Any] | None:
        r"""Reads a piece.

        Arguments:
            name: The piece's name.

        Returns:
            Its tensors and what was said about them; None where it is not finished.
        """
        from safetensors import SafetensorError, safe_open

        if self.folder is None or not (path := self.folder / f"{name}{_PIECE}").is_file():
            return None
        try:
            with safe_open(path, framework="pt") as file:
                # A copy stands in memory as a computed tensor does, whatever its place in the file.
                return {key: file.get_tensor(key).clone() for key in file.keys()}, json.loads(file.metadata()["about"])  # noqa: SIM118
        except SafetensorError:  # the disk lost it
            return None

    def keep(self, name: str, tensors: Mapping[str, Tensor], about: Any = None) -> None:
        r"""Keeps a finished piece.

        Arguments:
            name: The piece's name; one of that name is replaced.
            tensors: Its tensors.
            about: What else is to be known of it, as JSON can hold it.
        """
        from safetensors.torch import save

        if self.folder is not None:
            whole = {key: tensor.contiguous() for key, tensor in tensors.items()}
            _write(self.folder / f"{name}{_PIECE}", save(whole, {"about": json.dumps(about)}))

    def finish(self, kept: Iterable[str]) -> None:
        r"""Empties the folder of all but what the work was and some of its pieces.

        Arguments:
            kept: The names of the pieces to keep.
        """
        if self.folder is not None:
            stay = {_WHAT, *(f"{name}{_PIECE}" for name in kept)}
            for path in self.folder.iterdir():
                if path.name not in stay:
                    path.unlink()


def into_place(part: Path, path: Path) -> None:
    r"""Flushes a written file to the disk and moves it to its place, over what stands there, at once.

    Arguments:
        part: The file, in the folder of its place.
        path: The place.
    """
    with part.open("r+b") as file:
        os.fsync(file.fileno())
    os.replace(part, path)


def _noted(path: Path) -> dict[str, Any]:
    r"""What the work was that a folder holds."""
    try:
        noted = json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        noted = None
    if not isinstance(noted, dict):
        raise ValueError(
            f"{path}, which says what the checkpoints beside it are of, is empty or broken: delete the folder "
            f"{path.parent}, or choose another"
        )
    return noted


def _write(path: Path, content: bytes) -> None:
    part = path.with_name(path.name + _PART)
    part.write_bytes(content)
    into_place(part, path)


def _flat(tree: Mapping[str, Any], above: str = "") -> dict[str, Any]:
    r"""The leaves of nested mappings, under names such as "options seed"."""
    leaves: dict[str, Any] = {}
    for name, value in tree.items():
        leaves |= _flat(value, f"{above}{name} ") if isinstance(value, Mapping) else {f"{above}{name}": value}
    return leaves


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 40 else f"{text[:12]}..."
