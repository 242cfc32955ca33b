r"""Checkpoints: the finished pieces of a piece of work, in a folder, so that a killed one goes on where it stood."""

from __future__ import annotations

__all__ = ["TRAINING", "Checkpoints", "require_usable"]

import hashlib
import itertools
import json
import os
import secrets
import stat
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from torch import Tensor

from .._logging import get_logger
from ..errors import reading, shown
from .ownership import PART, PARTS, Busy, Piece, as_path, locked, named, remove, writing

logger = get_logger(__name__)

#: The piece that holds Lightning's checkpoint of the last epoch.
TRAINING = "training.ckpt"
_WHAT, _PARTS, _PIECE = "fit.json", ".adapts", Piece()


class Checkpoints:
    r"""A folder of finished pieces of one piece of work: a fit, a backtest or a search.

    As a context manager it holds the folder: a lock keeps other processes and threads out, and ends with the process.
    Each piece is written whole in a hidden folder, flushed to the disk and moved to its place at once, so that what
    stands there is whole whenever the process ends; what a killed process left half written is removed by the next.
    A piece holds a digest of its content, and is computed again where this does not fit. Files of others that stand in
    the folder of a piece of work stay as they are.

    Arguments:
        folder: The folder, made where there is none. Without one nothing is kept, and every piece is computed.
        fingerprint: Whatever the numbers of the work depend on, in nested mappings of what JSON can hold.
    """

    def __init__(self, folder: str | os.PathLike[str] | None, fingerprint: Mapping[str, Any]) -> None:
        self.folder = None if folder is None else as_path("checkpoint_dir", folder)
        self._fingerprint = fingerprint
        self._held = ExitStack()
        self._parts: Path | None = None

    def __enter__(self) -> Checkpoints:
        r"""Holds the folder.

        Returns:
            The checkpoints themselves.

        Raises:
            OSError: If the folder cannot be written.
            ValueError: If the folder holds other work, or what none wrote, or its note of the work cannot be read; or
                if another process or thread works in it.
        """
        if self.folder is not None:
            require_usable(self.folder)
            with ExitStack() as stack, writing(self.folder):
                self.folder.mkdir(parents=True, exist_ok=True)
                self._parts = stack.enter_context(_hidden(self.folder))
                self._require_same()
                self._held = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._held.close()
        self._parts = None

    def __getstate__(self) -> dict[str, Any]:
        r"""What a process that helps with the work is handed: the lock stays where it is."""
        return {**self.__dict__, "_held": ExitStack()}

    def _require_same(self) -> None:
        r"""Notes what the work is, in a folder that was empty; raises where another is noted."""
        assert self.folder is not None
        noted, text = require_usable(self.folder), json.dumps(self._fingerprint, indent=1)
        if noted is None:
            self._write(self.folder / _WHAT, text.encode())
            return
        there, here = _flat(noted), _flat(json.loads(text))
        names = [name for name in {**there, **here} if there.get(name) != here.get(name)]
        if names:
            said = [f"{name} ({_short(there.get(name))} there, {_short(here.get(name))} here)" for name in names]
            raise ValueError(
                f"{named(self.folder)} holds the checkpoints of other work, which differs in {', '.join(said)}: "
                "choose another folder, or delete this one if nothing of yours is in it"
            )

    def path(self, name: str) -> Path | None:
        r"""Returns the place of what someone else keeps in the folder; None where nothing is kept.

        Arguments:
            name: The name of the file or folder.
        """
        return None if self.folder is None else self.folder / name

    def part(self, name: str) -> Path | None:
        r"""Returns a place to write what is not finished; None where nothing is kept.

        Arguments:
            name: The file's name.
        """
        return None if self._parts is None else self._parts / name

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
            Its tensors and what was said about them; None where it is not finished, or damaged.
        """
        from safetensors import safe_open

        path = self._place(name)
        if path is None or not os.path.lexists(path):
            return None
        try:
            with reading(f"{named(path)} is damaged", "it is computed again"), safe_open(path, framework="pt") as file:
                # A copy stands in memory as a computed tensor does, whatever its place in the file.
                tensors = {key: file.get_tensor(key).clone() for key in file.keys()}  # noqa: SIM118
                noted = json.loads(file.metadata()[Piece.KEY])
                about, digest = noted["about"], noted["sha256"]
            if digest == _digest(tensors, about):
                return tensors, about
            logger.info("%s is damaged (its content is not what was written): it is computed again", named(path))
        except ValueError as error:
            logger.info("%s", error)
        return None

    def keep(self, name: str, tensors: Mapping[str, Tensor], about: Any = None) -> None:
        r"""Keeps a finished piece.

        Arguments:
            name: The piece's name; one of that name is replaced.
            tensors: Its tensors.
            about: What else is to be known of it, as JSON can hold it.

        Raises:
            OSError: If it cannot be written.
        """
        from safetensors.torch import save

        path = self._place(name)
        if path is not None:
            whole = {key: tensor.contiguous() for key, tensor in tensors.items()}
            noted = {"piece": path.name, "sha256": _digest(whole, about), "about": about}
            with writing(path):
                self._write(path, save(whole, {Piece.KEY: json.dumps(noted)}))

    def finish(self, kept: Iterable[str]) -> None:
        r"""Removes our pieces from the folder, but for some.

        Arguments:
            kept: The names of the pieces to keep.

        Raises:
            OSError: If they cannot be removed.
        """
        if self.folder is not None:
            stay = {self._place(name) for name in kept}
            with writing(self.folder):
                for path in sorted(self.folder.iterdir()):
                    if path not in stay and _PIECE.wrote(path):
                        path.unlink()

    def _place(self, name: str) -> Path | None:
        r"""The file of a piece: `NAME.safetensors`, with a number where others have files of that name there."""
        if self.folder is None:
            return None
        stem, suffix = os.path.splitext(name) if name == TRAINING else (name, ".safetensors")
        for number in itertools.count(2):
            path = self.folder / f"{stem}{suffix}"
            if not os.path.lexists(path) or _PIECE.wrote(path):
                break
            stem = f"{name.removesuffix(suffix)} ({number})"
        return path

    def _write(self, path: Path, content: bytes) -> None:
        r"""Writes a file beside its place, flushes it to the disk and moves it there, at once."""
        assert self._parts is not None, "checkpoints are kept within `with`"
        part = self._parts / path.name
        with part.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, path)


def require_usable(folder: str | os.PathLike[str]) -> dict[str, Any] | None:
    r"""Raises where a folder cannot keep checkpoints; it is not touched.

    Arguments:
        folder: The folder, which need not exist.

    Returns:
        What the work is that the folder holds checkpoints of; None where it holds nothing yet.

    Raises:
        OSError: If it cannot be read.
        ValueError: If it is a file, or holds other things than checkpoints, or its note of the work is damaged.
    """
    place = as_path("checkpoint_dir", folder)
    above = next(path for path in (place, *place.absolute().parents) if os.path.lexists(path))
    if not os.path.isdir(above):
        raise ValueError(f"expected a folder for checkpoints, but {named(above)} is a file: choose another place")
    if above != place:
        return None
    with writing(place):
        names = sorted({*os.listdir(place)} - {_PARTS})
        if not names:
            return None
        noted = _noted(place) if _WHAT in names else None
    if noted is None:
        other = _WHAT if _WHAT in names else names[0]
        raise ValueError(f"{named(place)} holds {shown(other)}, which is no checkpoint: choose another folder")
    return noted


@contextmanager
def _hidden(folder: Path) -> Iterator[Path]:
    r"""Holds a folder, by a lock in a hidden folder in it, and gives a place there for what is not finished."""
    hidden = folder / _PARTS
    with ExitStack() as stack:
        try:
            stack.enter_context(locked(hidden))
        except Busy as error:
            raise Busy(
                f"another process or thread works with the checkpoints in {named(folder)}: wait until it has ended, or "
                "choose another folder"
            ) from error
        for left in os.listdir(hidden):  # by processes that were killed
            if PARTS.entry(left) is PART:
                remove(hidden / left, PART)
        part = hidden / secrets.token_hex(8)
        part.mkdir(mode=0o700)
        try:
            yield part
        finally:
            remove(part, PART)


def _noted(folder: Path) -> dict[str, Any] | None:
    r"""What the work was that a folder holds; None if its note is not ours."""
    path = folder / _WHAT
    if not stat.S_ISREG(path.lstat().st_mode):
        return None
    remedy = f"delete the folder {named(folder)}, or choose another"
    lost = f"{named(path)}, which says what the checkpoints beside it are of, is empty or broken: {remedy}"
    try:
        with reading(named(path), remedy):
            noted = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(lost) from error.__cause__
    if not isinstance(noted, dict):
        raise ValueError(lost)
    return noted if isinstance(noted.get("versions"), dict) and "adapts" in noted["versions"] else None


def _digest(tensors: Mapping[str, Tensor], about: Any) -> str:
    r"""The sha256 of a piece's content."""
    from safetensors.torch import save

    return hashlib.sha256(save(dict(tensors)) + json.dumps(about, sort_keys=True).encode()).hexdigest()


def _flat(tree: Mapping[str, Any], above: str = "") -> dict[str, Any]:
    r"""The leaves of nested mappings, under names such as "options seed"."""
    leaves: dict[str, Any] = {}
    for name, value in tree.items():
        leaves |= _flat(value, f"{above}{name} ") if isinstance(value, Mapping) else {f"{above}{name}": value}
    return leaves


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 40 else f"{text[:12]}..."
