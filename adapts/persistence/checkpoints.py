r"""Checkpoints of a fit, backtest or search in a folder, so that an interrupted one resumes."""

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

#: The name of Lightning's checkpoint of the last epoch.
TRAINING = "training.ckpt"
_WHAT, _PARTS, _PIECE = "fit.json", ".adapts", Piece()


class Checkpoints:
    r"""Folder with the finished pieces of one job: a fit, a backtest or a search.

    As a context manager it locks the folder against other processes and threads; the lock ends with the process. Each
    piece is written completely in a hidden folder, flushed to disk and moved to its place atomically. A piece is thus
    complete whenever the process is killed; the next process removes unfinished files. Each piece stores a digest of
    its content, and is computed again if this does not match. Foreign files in the folder of a job are unchanged.

    Arguments:
        folder: The folder, created if missing. If None, nothing is kept and every piece is computed.
        fingerprint: Everything that determines the results of the job, as nested mappings of JSON values.
    """

    def __init__(self, folder: str | os.PathLike[str] | None, fingerprint: Mapping[str, Any]) -> None:
        self.folder = None if folder is None else as_path("checkpoint_dir", folder)
        self._fingerprint = fingerprint
        self._locks = ExitStack()
        self._parts: Path | None = None

    def __enter__(self) -> Checkpoints:
        r"""Lock the folder.

        Returns:
            The checkpoints themselves.

        Raises:
            OSError: If the folder cannot be written.
            ValueError: If the folder holds another job or foreign files, its record of the job cannot be read, or
                another process or thread uses it.
        """
        if self.folder is not None:
            require_usable(self.folder)
            with ExitStack() as stack, writing(self.folder):
                self.folder.mkdir(parents=True, exist_ok=True)
                self._parts = stack.enter_context(_hidden(self.folder))
                self._require_same()
                self._locks = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._locks.close()
        self._parts = None

    def __getstate__(self) -> dict[str, Any]:
        r"""Return the state for worker processes, which do not hold the lock."""
        return {**self.__dict__, "_locks": ExitStack()}

    def _require_same(self) -> None:
        r"""Record the job in an empty folder; raise an error if another job is recorded."""
        assert self.folder is not None
        recorded, text = require_usable(self.folder), json.dumps(self._fingerprint, indent=1)
        if recorded is None:
            self._write(self.folder / _WHAT, text.encode())
            return
        recorded_leaves, job_leaves = _flat(recorded), _flat(json.loads(text))
        names = [
            name for name in {**recorded_leaves, **job_leaves} if recorded_leaves.get(name) != job_leaves.get(name)
        ]
        if names:
            differences = [
                f"{name} ({_short(recorded_leaves.get(name))} there, {_short(job_leaves.get(name))} here)"
                for name in names
            ]
            raise ValueError(
                f"{named(self.folder)} holds the checkpoints of another job, which differs in "
                f"{', '.join(differences)}: "
                "choose another folder, or delete this one if it holds nothing else"
            )

    def path(self, name: str) -> Path | None:
        r"""Return the path of a file or folder that other code keeps here; None if nothing is kept.

        Arguments:
            name: The name of the file or folder.
        """
        return None if self.folder is None else self.folder / name

    def part(self, name: str) -> Path | None:
        r"""Return a path for an unfinished file; None if nothing is kept.

        Arguments:
            name: The file's name.
        """
        return None if self._parts is None else self._parts / name

    def kept(self, name: str, compute: Callable[[], dict[str, Tensor]]) -> dict[str, Tensor]:
        r"""Return a piece: read it if it is finished, otherwise compute and keep it.

        Arguments:
            name: The piece's name.
            compute: The function that computes its tensors.
        """
        piece = self.read(name)
        if piece is not None:
            return piece[0]
        tensors = compute()
        self.keep(name, tensors)
        return tensors

    def read(self, name: str) -> tuple[dict[str, Tensor], Any] | None:
        r"""Read a piece.

        Arguments:
            name: The piece's name.

        Returns:
            Its tensors and its metadata; None if it is not finished, or damaged.
        """
        from safetensors import safe_open

        path = self._place(name)
        if path is None or not os.path.lexists(path):
            return None
        try:
            with reading(f"{named(path)} is damaged", "it is computed again"), safe_open(path, framework="pt") as file:
                # Clone: the memory alignment is then that of a computed tensor, whatever the offset in the file.
                tensors = {key: file.get_tensor(key).clone() for key in file.keys()}  # noqa: SIM118
                metadata = json.loads(file.metadata()[Piece.KEY])
                about, digest = metadata["about"], metadata["sha256"]
            if digest == _digest(tensors, about):
                return tensors, about
            logger.info("%s is damaged (its content is not what was written): it is computed again", named(path))
        except ValueError as error:
            logger.info("%s", error)
        return None

    def keep(self, name: str, tensors: Mapping[str, Tensor], about: Any = None) -> None:
        r"""Keep a finished piece.

        Arguments:
            name: The piece's name; a piece of that name is replaced.
            tensors: Its tensors.
            about: Its metadata, as JSON values.

        Raises:
            OSError: If it cannot be written.
        """
        from safetensors.torch import save

        path = self._place(name)
        if path is not None:
            contiguous = {key: tensor.contiguous() for key, tensor in tensors.items()}
            metadata = {"piece": path.name, "sha256": _digest(contiguous, about), "about": about}
            with writing(path):
                self._write(path, save(contiguous, {Piece.KEY: json.dumps(metadata)}))

    def finish(self, kept: Iterable[str]) -> None:
        r"""Remove the pieces from the folder, except for some.

        Arguments:
            kept: The names of the pieces to keep.

        Raises:
            OSError: If they cannot be removed.
        """
        if self.folder is not None:
            kept_paths = {self._place(name) for name in kept}
            with writing(self.folder):
                for path in sorted(self.folder.iterdir()):
                    if path not in kept_paths and _PIECE.wrote(path):
                        path.unlink()

    def _place(self, name: str) -> Path | None:
        r"""Return the file of a piece: `NAME.safetensors`, with a number if foreign files have that name."""
        if self.folder is None:
            return None
        stem, suffix = os.path.splitext(name) if name.endswith(".ckpt") else (name, ".safetensors")
        for number in itertools.count(2):
            path = self.folder / f"{stem}{suffix}"
            if not os.path.lexists(path) or _PIECE.wrote(path):
                break
            stem = f"{name.removesuffix(suffix)} ({number})"
        return path

    def _write(self, path: Path, content: bytes) -> None:
        r"""Write a file to a temporary path, flush it to disk and move it to its place atomically."""
        assert self._parts is not None, "checkpoints are kept within `with`"
        temporary = self._parts / path.name
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)


def require_usable(folder: str | os.PathLike[str]) -> dict[str, Any] | None:
    r"""Check that a folder can keep checkpoints, without modifying it.

    Arguments:
        folder: The folder, which need not exist.

    Returns:
        The record of the job whose checkpoints the folder holds; None if it holds nothing yet.

    Raises:
        OSError: If it cannot be read.
        ValueError: If it is a file, holds other things than checkpoints, or its record of the job is damaged.
    """
    place = as_path("checkpoint_dir", folder)
    existing = next(path for path in (place, *place.absolute().parents) if os.path.lexists(path))
    if not os.path.isdir(existing):
        raise ValueError(f"expected a folder for checkpoints, but {named(existing)} is a file: choose another place")
    if existing != place:
        return None
    with writing(place):
        names = sorted({*os.listdir(place)} - {_PARTS})
        if not names:
            return None
        recorded = _recorded(place) if _WHAT in names else None
    if recorded is None:
        foreign = _WHAT if _WHAT in names else names[0]
        raise ValueError(f"{named(place)} holds {shown(foreign)}, which is no checkpoint: choose another folder")
    return recorded


@contextmanager
def _hidden(folder: Path) -> Iterator[Path]:
    r"""Lock a folder by a hidden folder within it, and yield a temporary folder there for unfinished files."""
    hidden = folder / _PARTS
    with ExitStack() as stack:
        try:
            stack.enter_context(locked(hidden))
        except Busy as error:
            raise Busy(
                f"another process or thread uses the checkpoints in {named(folder)}: wait until it has ended, or "
                "choose another folder"
            ) from error
        for leftover in os.listdir(hidden):  # of killed processes
            if PARTS.entry(leftover) is PART:
                remove(hidden / leftover, PART)
        temporary = hidden / secrets.token_hex(8)
        temporary.mkdir(mode=0o700)
        try:
            yield temporary
        finally:
            remove(temporary, PART)


def _recorded(folder: Path) -> dict[str, Any] | None:
    r"""Return the record of the job in a folder; None if adapts did not write it."""
    path = folder / _WHAT
    if not stat.S_ISREG(path.lstat().st_mode):
        return None
    remedy = f"delete the folder {named(folder)}, or choose another"
    message = f"{named(path)}, the record of the job of these checkpoints, is empty or damaged: {remedy}"
    try:
        with reading(named(path), remedy):
            recorded = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(message) from error.__cause__
    if not isinstance(recorded, dict):
        raise ValueError(message)
    return recorded if isinstance(recorded.get("versions"), dict) and "adapts" in recorded["versions"] else None


def _digest(tensors: Mapping[str, Tensor], about: Any) -> str:
    r"""Return the sha256 of a piece's content."""
    from safetensors.torch import save

    return hashlib.sha256(save(dict(tensors)) + json.dumps(about, sort_keys=True).encode()).hexdigest()


def _flat(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    r"""Return the leaves of nested mappings, under names such as "options seed"."""
    leaves: dict[str, Any] = {}
    for name, value in tree.items():
        leaves |= _flat(value, f"{prefix}{name} ") if isinstance(value, Mapping) else {f"{prefix}{name}": value}
    return leaves


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 40 else f"{text[:12]}..."
