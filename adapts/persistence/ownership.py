r"""What this library writes, and how it replaces and removes it: nothing else is ever deleted, moved or replaced."""

from __future__ import annotations

__all__ = [
    "BACKTEST", "CONFIG", "GROUPED", "GROUPS", "PART", "PARTS", "PREDICTED", "PREDICTOR", "RECIPE", "RUN", "SAVED",
    "TENSORS", "TRIALS", "Busy", "File", "Folder", "Piece", "Unwritten", "as_path", "locked", "named", "remove",
    "replaced", "replaced_file", "require_ours", "require_replaceable", "standing", "why_foreign", "writing",
]  # fmt: skip

import ctypes
import errno
import json
import os
import re
import secrets
import stat
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from filelock import FileLock, Timeout

from .._logging import get_logger
from ..checks import flag
from ..errors import shown

logger = get_logger(__name__)

# ------------------------------------------------------------------------------------------------ what is ours


@dataclass(frozen=True)
class File:
    r"""A file that we write, told by its content; only the beginning of a file is read.

    Arguments:
        starts: How the content begins.
        holds: What stands near the beginning.
    """

    starts: bytes = b""
    holds: tuple[bytes, ...] = ()

    def wrote(self, path: Path, *, torn: bool = False) -> bool:
        r"""Whether a file is ours. A link, pipe or device is not, nor what cannot be read.

        Arguments:
            path: The file.
            torn: Whether a file that was not written to its end is ours as well.

        Returns:
            Whether it is.
        """
        if not stat.S_ISREG(_mode(path)):
            return False
        try:
            with path.open("rb") as file:
                return self._says(path.name, file.read(_HEAD), os.fstat(file.fileno()).st_size, torn)
        except PermissionError:
            return False

    def _says(self, name: str, head: bytes, size: int, torn: bool) -> bool:
        if torn and size < _HEAD:
            return head.startswith(self.starts[: len(head)])
        return head.startswith(self.starts) and all(part in head for part in self.holds)


class _Empty(File):
    r"""A file without content."""

    def _says(self, name: str, head: bytes, size: int, torn: bool) -> bool:
        return size == 0


class _Tensors(File):
    r"""A file of safetensors: the length of its header in eight bytes, then the header."""

    def _says(self, name: str, head: bytes, size: int, torn: bool) -> bool:
        header = int.from_bytes(head[:8], "little")
        return (torn and not size) or (head[8:9] == b"{" and (torn or 8 + header <= size))


class Piece(File):
    r"""A piece of checkpointed work: a file of safetensors whose metadata begin with its own name.

    A copy of it under another name is not ours.
    """

    KEY = "adapts"  # of the metadata

    def _says(self, name: str, head: bytes, size: int, torn: bool) -> bool:
        inner = json.dumps({"piece": name}).removesuffix("}")  # within the header's JSON, JSON once more
        starts = f'{{"__metadata__":{{"{self.KEY}":{json.dumps(inner)}'.removesuffix('"').encode()
        if torn:
            return not size or (size > 8 and starts.startswith(head[8 : 8 + len(starts)]))
        return head.startswith(starts, 8)


@dataclass(frozen=True)
class Folder:
    r"""A folder that we write.

    Arguments:
        entries: What it may hold, by patterns that match whole names.
        required: The names without which it is not ours.
    """

    entries: Mapping[str, File | Folder]
    required: frozenset[str] = field(default_factory=frozenset)

    def entry(self, name: str) -> File | Folder | None:
        r"""Returns what we write under a name; None if nothing.

        Arguments:
            name: The name.
        """
        return next((entry for pattern, entry in self.entries.items() if re.fullmatch(pattern, name)), None)


_HEAD = 1 << 16  # the bytes of a file that are looked at
CONFIG, TENSORS, GROUPS = "config.json", "adapter.safetensors", "groups"
_LOCK, _NEW, _OLD, _FILE = "lock", "new", "old", "file"
_PICTURE = File(b"\x89PNG\r\n\x1a\n", (b"Software\0adapts",))
_REPORT = File(b'{\n "settings": {')
_EMPTY = _Empty()
_COLUMNS = ",".join(["item_id", "timestamp", "channel", "mean", *(f"{step / 20:g}" for step in range(1, 20))]).encode()

#: What `Adapter.save` writes.
SAVED = Folder(
    {
        r"config\.json": File(b'{\n  "format": ', (b'"adapts"', b'"family"', b'"family_options"')),
        r"adapter\.safetensors": _Tensors(),
    },
    frozenset({CONFIG, TENSORS}),
)
#: What `GroupedAdapter.save` writes.
GROUPED = Folder(
    {
        r"config\.json": File(b'{\n  "format": ', (b'"adapts"', b'"group_column"')),
        "groups": Folder({"[0-9a-f]{16}": SAVED}),
    },
    frozenset({CONFIG, GROUPS}),
)
#: What `adapts forecast --from` writes.
PREDICTED = Folder({r"forecast\.csv": File(_COLUMNS + b"\n"), r"forecast\.png": _PICTURE})
#: What `adapts forecast` writes.
RUN = Folder({**PREDICTED.entries, r"scores\.json": _REPORT, r"reliability\.png": _PICTURE, "adapter": SAVED})
#: What `adapts backtest` writes.
BACKTEST = Folder(
    {
        r"scores\.csv": File(b"model,channel,lead_block,metric,value\n"),
        r"scores\.json": _REPORT,
        r"(scores_by_lead|reliability)\.png": _PICTURE,
    }
)
#: What `AdapterPredictor.serialize` writes, among what gluonts may have written beside.
PREDICTOR = Folder(
    {
        r"gluonts-config\.json": File(b"{", (b"adapts.gluonts.AdapterPredictor",)),
        r"predictor\.json": File(b"{", (b'"num_samples"', b'"batch_size"')),
        "adapter": SAVED,
    }
)
#: What `Tuned.write` writes.
RECIPE = File(b"# Written by adapts.tune\nfamily:")
#: The trials of a search, as Optuna writes them.
TRIALS = File(b'{"op_code"')
#: What a process writes of checkpoints before it is moved to its place.
PART = Folder({r"fit\.json": File(b"{"), r"lightning\.ckpt": File(b"PK"), r".+\.(safetensors|ckpt)": Piece()})
#: The hidden folder in a folder of checkpoints.
PARTS = Folder({_LOCK: _EMPTY, "[0-9a-f]{16}": PART})
_WHOLE = (SAVED, GROUPED, RUN, BACKTEST)
_ANY = Folder({name: entry for kind in _WHOLE for name, entry in kind.entries.items()})
#: The hidden folder beside an output, while this is written.
_BESIDE = Folder({_LOCK: _EMPTY, _NEW: _ANY, _OLD: _ANY}, frozenset({_LOCK}))


def why_foreign(place: Path, kind: Folder, *, torn: bool = False, within: str = "") -> str | None:
    r"""Says why a folder is not one that we wrote: what else it holds at any depth, or what it lacks.

    Arguments:
        place: The folder.
        kind: What it should be.
        torn: Whether it may have been written in part.
        within: The folder's place in another, as it begins the names that are said.

    Returns:
        The reason, as it follows "the folder"; None if all of it is ours.
    """
    try:
        names = sorted(os.listdir(place))
    except PermissionError:
        return "cannot be read"
    for name in names:
        entry, path = kind.entry(name), place / name
        if isinstance(entry, Folder) and stat.S_ISDIR(_mode(path)):
            if reason := why_foreign(path, entry, torn=torn, within=f"{within}{name}/"):
                return reason
        elif not isinstance(entry, File) or not entry.wrote(path, torn=torn):
            return f"holds {shown(within + name)}, which adapts did not write"
    lacking = sorted(kind.required - {*names})
    whole = torn and (_LOCK not in kind.required or not names)
    return None if whole or not lacking else f"lacks {shown(within + lacking[0])}"


def require_ours(path: Path, kind: File | Folder | None) -> None:
    r"""Raises where something that we did not write stands at a place where we are to write.

    Arguments:
        path: The place.
        kind: What we write there.

    Raises:
        ValueError: If something else is there.
    """
    if not os.path.lexists(path):
        return
    if isinstance(kind, Folder):
        ours = stat.S_ISDIR(_mode(path)) and why_foreign(path, kind) is None
    else:
        ours = kind is not None and kind.wrote(path)
    if not ours:
        raise ValueError(f"{named(path)} exists, and adapts did not write it: it is kept, choose another place")


def _is_whole(place: Path) -> bool:
    r"""Whether a folder is all that we write of one kind."""
    if not stat.S_ISDIR(_mode(place)):
        return False
    try:
        return bool(os.listdir(place)) and any(why_foreign(place, kind) is None for kind in _WHOLE)
    except OSError:  # it cannot be read, or has just been moved
        return False


def _mode(path: Path) -> int:
    r"""The kind of what stands at a place, of a link itself; 0 where there is nothing that can be seen."""
    try:
        return os.lstat(path).st_mode
    except (FileNotFoundError, NotADirectoryError, PermissionError):
        return 0


# ------------------------------------------------------------------------------------------------ paths


def as_path(name: str, value: object) -> Path:
    r"""Checks a path that a caller gave.

    Arguments:
        name: The option's name.
        value: What was given.

    Returns:
        The path.

    Raises:
        TypeError: If it is no path.
        ValueError: If no file can have that name.
    """
    text = os.fspath(value) if isinstance(value, os.PathLike) else value
    if not isinstance(text, str):
        raise TypeError(f"expected {name} to be a path, text or os.PathLike, got {shown(value)}: name a file or folder")
    try:
        encoded = os.fsencode(text)
    except UnicodeEncodeError as error:
        raise ValueError(f"expected {name} to be a path, got {shown(text)}, no name of a file: rename it") from error
    if not text or "\0" in text:
        raise ValueError(f"expected {name} to be a path, got {shown(text)}, no name of a file: name a file or folder")
    if len(encoded) > _PATH or any(len(part) > _NAME for part in encoded.split(os.sep.encode())):
        raise ValueError(
            f"expected {name} to be a path of at most {_PATH} bytes, {_NAME} a name, got {shown(text)}: choose a "
            "shorter one"
        )
    return Path(text)


_PATH, _NAME = 4095, 255  # the most bytes of a path and of a name in it
_SUFFIX = "-adapts-"


def _output(path: object) -> Path:
    r"""The place of a folder to write, links followed."""
    place = Path(os.path.realpath(as_path("path", path)))
    most = _NAME - len(f".{_SUFFIX}") - 16
    if not place.name or len(os.fsencode(place.name)) > most:
        raise ValueError(
            f"expected a folder with a name of 1 to {most} bytes to write to, got {named(place)}: choose another name"
        )
    return place


def named(path: object) -> str:
    r"""Names a path in a message.

    Arguments:
        path: The path.

    Returns:
        The path as it is, or shortened and quoted where it is long or not printable.
    """
    text = str(path)
    return text if len(text) <= 200 and text.isprintable() else shown(text)


class Unwritten(OSError):
    r"""A file or folder that cannot be written."""


@contextmanager
def writing(path: Path) -> Iterator[None]:
    r"""Makes one clear error of whatever the system answers while something is written.

    Arguments:
        path: What is written, as the caller named it: temporary names are not told.

    Yields:
        Nothing.

    Raises:
        Unwritten: If the system fails; its own error is the cause.
    """
    try:
        yield
    except Unwritten:
        raise
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            remedy = "free space there, or choose another place"
        elif error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
            remedy = "choose a place where you may write"
        else:
            remedy = "choose another place"
        raise Unwritten(f"{named(path)} cannot be written ({error.strerror or type(error).__name__}): {remedy}") from (
            error
        )


# ------------------------------------------------------------------------------------------------ locks


class Busy(ValueError):
    r"""Another process, or another thread of this one, holds a folder."""


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    r"""Holds a hidden folder of ours by a lock file in it, which the system releases when the process ends.

    Arguments:
        folder: The folder, made where there is none. It is removed at the end if nothing else is in it.

    Yields:
        Nothing.

    Raises:
        Busy: If it is held already.
        ValueError: If something of that name is not ours.
    """
    path = folder / _LOCK
    lock = FileLock(path, timeout=0, thread_local=False)
    while True:
        with suppress(FileExistsError):
            folder.mkdir()
        try:
            if not stat.S_ISDIR(folder.lstat().st_mode):
                raise ValueError(f"{named(folder)} is not the folder that adapts writes under this name: move it away")
            with suppress(FileNotFoundError):
                there = path.lstat()
                if not stat.S_ISREG(there.st_mode) or there.st_size:
                    raise ValueError(f"{named(path)} is not the lock that adapts writes under this name: move it away")
            lock.acquire()
            break
        except Timeout:
            raise Busy(f"{named(folder)} is in use") from None
        except (FileExistsError, FileNotFoundError):  # whoever held it is just removing it
            continue
    try:
        yield
    finally:
        # Removed while it is held: whoever opened it before sees that it has no name any more, and waits for another.
        if _EMPTY.wrote(path):
            path.unlink()
        lock.release()
        with suppress(OSError):
            folder.rmdir()


def remove(place: Path, kind: Folder) -> None:
    r"""Removes what is ours of a folder, file by file, and the folder if it is then empty; the rest stays.

    Arguments:
        place: The folder; nothing happens if there is none.
        kind: What it should be.
    """
    if not stat.S_ISDIR(_mode(place)):
        return
    for name in os.listdir(place):
        entry, path = kind.entry(name), place / name
        if isinstance(entry, Folder):
            remove(path, entry)
        elif isinstance(entry, File) and entry.wrote(path, torn=True):
            path.unlink()
    with suppress(OSError):  # not empty: what is left is not ours
        place.rmdir()


# ------------------------------------------------------------------------------------------------ outputs


@contextmanager
def replaced(path: str | os.PathLike[str], kind: Folder, *, overwrite: bool) -> Iterator[Path]:
    r"""Gives a new folder to write in, and moves it to its place when all is written.

    The new folder is made in a hidden one beside its place, `.NAME-adapts-` and 16 digits, which is locked as long
    as the process lives. On Linux and macOS the old and the new folder change places at once, so that one of them,
    whole, always stands there. Where the file system cannot do that, the old one stands in the hidden folder for an
    instant: `standing` finds it there, and the next call puts it back. The next call for the same place also removes
    the hidden folders of processes that were killed.

    Arguments:
        path: The place. Whatever stood there stays until the new folder is whole.
        kind: What is written. A folder that holds anything else, at any depth, is not replaced.
        overwrite: Whether a folder that stands there may be replaced.

    Yields:
        The folder to write in.

    Raises:
        OSError: If the folder cannot be written.
        ValueError: If something stands there and may not be replaced.
    """
    place = _output(path)
    with writing(place):
        require_replaceable(place, kind, overwrite=overwrite)
        place.parent.mkdir(parents=True, exist_ok=True)
        with _beside(place) as hidden:
            new = hidden / _NEW
            new.mkdir()
            try:
                yield new
                require_replaceable(place, kind, overwrite=overwrite)  # it may have been long
                if mode := stat.S_IMODE(_mode(place)):
                    new.chmod(mode)
                before = _put(new, place, hidden / _OLD)
            except BaseException:
                remove(new, _ANY)
                raise
            if before is None:
                return
            if os.listdir(before) and (reason := why_foreign(before, kind)):  # it came since it was checked
                logger.warning("the folder that %s replaced %s: it is kept as %s", named(place), reason, named(before))
            else:
                remove(before, kind)


@contextmanager
def replaced_file(path: str | os.PathLike[str], kind: File) -> Iterator[Path]:
    r"""Gives a file to write, and moves it to its place at once when all is written.

    Arguments:
        path: The place. What stood there stays until the new file is whole.
        kind: What is written. Another file is not replaced.

    Yields:
        The file to write, beside its place.

    Raises:
        OSError: If the file cannot be written.
        ValueError: If another file stands there.
    """
    place = as_path("path", path).absolute()
    with writing(place):
        require_ours(place, kind)
        _put_in_order(place, kind)
        with _beside(place) as hidden:
            part = hidden / _FILE
            try:
                yield part
                with part.open("r+b") as file:
                    os.fsync(file.fileno())
                require_ours(place, kind)
                os.replace(part, place)
            finally:
                part.unlink(missing_ok=True)


def _put(new: Path, place: Path, old: Path) -> Path | None:
    r"""Puts a new folder in its place, and returns where the one that stood there is then, if one did."""
    if not os.path.lexists(place):
        os.rename(new, place)
        return None
    if _exchanged(new, place):
        return new
    os.rename(place, old)
    try:
        os.rename(new, place)
    except OSError:
        os.rename(old, place)
        raise
    return old


@contextmanager
def _beside(place: Path) -> Iterator[Path]:
    r"""Makes and holds a hidden folder beside a place."""
    with ExitStack() as stack:
        while True:
            hidden = place.with_name(f".{place.name}{_SUFFIX}{secrets.token_hex(8)}")
            hidden.mkdir(mode=0o700)
            try:
                stack.enter_context(locked(hidden))
                break
            except Busy:  # another process has taken it, still empty, for one that was left behind
                continue
        yield hidden


def require_replaceable(path: str | os.PathLike[str], kind: Folder, *, overwrite: bool) -> None:
    r"""Raises where an output would replace what is not ours, or what is to stay.

    What killed processes left beside the place is put in order first.

    Arguments:
        path: The output's place.
        kind: What is to be written there.
        overwrite: Whether a folder that stands there may be replaced.

    Raises:
        OSError: If what is there cannot be read.
        ValueError: If a file stands there; or a folder, and it may not be replaced or holds anything else.
    """
    flag("expected overwrite", overwrite)
    place = _output(path)
    with writing(place):
        _put_in_order(place)
        if not os.path.lexists(place):
            if not overwrite and _is_whole(_aside(place)):
                raise ValueError(
                    f"{named(_aside(place))} is read in place of {named(path)}, which a killed process took away: move "
                    "it back, or to another name, or overwrite (--overwrite), which keeps it"
                )
            return
        if place in (here := Path.cwd(), *here.parents):
            raise ValueError(
                f"{named(place)} is or holds the folder that this process works in, and cannot be replaced: choose a "
                "folder in it"
            )
        if not stat.S_ISDIR(_mode(place)):
            raise ValueError(f"expected a folder to write to, but {named(path)} is a file: choose another place")
        if not os.listdir(place):
            return
        if not overwrite:
            raise ValueError(
                f"the folder {named(path)} exists and is kept: choose another, or overwrite it (--overwrite)"
            )
        if reason := _why_foreign_still(place, kind):
            raise ValueError(
                f"the whole folder {named(path)} would be replaced, and it {reason}: it is kept, choose another folder"
            )


def _why_foreign_still(place: Path, kind: Folder) -> str | None:
    r"""As `why_foreign`, which sees an old folder vanish where another process puts a new one there meanwhile."""
    while True:
        seen = os.stat(place).st_ino
        reason = why_foreign(place, kind)
        if reason is None or os.stat(place).st_ino == seen:
            return reason


def standing(path: str | os.PathLike[str]) -> Path:
    r"""Returns where the folder of a place stands: there, unless a killed process has left it beside.

    Arguments:
        path: The place.

    Returns:
        Its place, or that beside it; its place too where there is neither.
    """
    given = as_path("path", path)
    if os.path.exists(given):
        return given
    place = Path(os.path.realpath(given))
    asides = [_aside(place), *(hidden / _OLD for hidden in _hidden(place))]
    return next((aside for aside in asides if _is_whole(aside)), given)


def _put_in_order(place: Path, kind: File | None = None) -> None:
    r"""Puts back what killed processes took aside, and removes what they left; what is not ours stays."""
    beside = _BESIDE if kind is None else Folder({_LOCK: _EMPTY, _FILE: kind}, _BESIDE.required)
    for hidden in _hidden(place):
        with suppress(Busy, FileNotFoundError):  # a process works in it, or has just removed it
            if why_foreign(hidden, beside, torn=True):
                continue
            with locked(hidden):
                if kind is not None:
                    (hidden / _FILE).unlink(missing_ok=True)
                    continue
                old = hidden / _OLD
                if not os.path.lexists(place) and _is_whole(old):
                    os.rename(old, place)
                remove(old, _ANY)
                remove(hidden / _NEW, _ANY)


def _aside(place: Path) -> Path:
    r"""Where a killed process of an earlier version left the old folder, which is read, and never moved or replaced."""
    return place.with_name(f".{place.name}.old")


def _hidden(place: Path) -> list[Path]:
    r"""The hidden folders beside a place that were made to write it."""
    pattern = re.compile(re.escape(f".{place.name}{_SUFFIX}") + "[0-9a-f]{16}")
    try:
        names = sorted(name for name in os.listdir(place.parent) if pattern.fullmatch(name))
    except (FileNotFoundError, NotADirectoryError, PermissionError):
        return []
    return [path for name in names if stat.S_ISDIR(_mode(path := place.parent / name))]


def _exchanged(one: Path, other: Path) -> bool:
    r"""Lets two folders change places at once; False where the system cannot."""
    here, flag = -100, 2  # AT_FDCWD; RENAME_EXCHANGE of Linux, RENAME_SWAP of macOS
    try:
        library = ctypes.CDLL(None, use_errno=True)
        names = os.fsencode(one), os.fsencode(other)
        if sys.platform == "darwin":
            return bool(library.renamex_np(*names, flag) == 0)
        return bool(library.renameat2(here, names[0], here, names[1], flag) == 0)
    except (AttributeError, OSError, TypeError):
        return False
