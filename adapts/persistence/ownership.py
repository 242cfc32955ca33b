r"""Files and folders that adapts writes: only these are ever deleted, moved or replaced, no foreign ones."""

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

# ------------------------------------------------------------------------------------------------ own files and folders


@dataclass(frozen=True)
class File:
    r"""File that adapts writes, identified by the beginning of its content.

    Arguments:
        starts: The prefix of the content.
        holds: Byte strings that occur near the beginning.
    """

    starts: bytes = b""
    holds: tuple[bytes, ...] = ()

    def wrote(self, path: Path, *, torn: bool = False) -> bool:
        r"""Return whether adapts wrote a file; False for links, pipes, devices and unreadable files.

        Arguments:
            path: The file.
            torn: Whether to accept an incomplete file.

        Returns:
            Whether it did.
        """
        if not stat.S_ISREG(_mode(path)):
            return False
        try:
            with path.open("rb") as file:
                return self._matches(path.name, file.read(_HEAD), os.fstat(file.fileno()).st_size, torn)
        except PermissionError:
            return False

    def _matches(self, name: str, head: bytes, size: int, torn: bool) -> bool:
        if torn and size < _HEAD:
            return head.startswith(self.starts[: len(head)])
        return head.startswith(self.starts) and all(part in head for part in self.holds)


class _Empty(File):
    r"""Empty file."""

    def _matches(self, name: str, head: bytes, size: int, torn: bool) -> bool:
        return size == 0


class _Tensors(File):
    r"""Safetensors file: the length of the header in eight bytes, then the header."""

    def _matches(self, name: str, head: bytes, size: int, torn: bool) -> bool:
        header = int.from_bytes(head[:8], "little")
        return (torn and not size) or (head[8:9] == b"{" and (torn or 8 + header <= size))


class Piece(File):
    r"""Piece of a checkpointed job: a safetensors file whose metadata begin with its own name.

    A copy under another name does not count as written by adapts.
    """

    KEY = "adapts"  # key of the metadata

    def _matches(self, name: str, head: bytes, size: int, torn: bool) -> bool:
        inner = json.dumps({"piece": name}).removesuffix("}")  # a JSON text within the header's JSON
        starts = f'{{"__metadata__":{{"{self.KEY}":{json.dumps(inner)}'.removesuffix('"').encode()
        if torn:
            return not size or (size > 8 and starts.startswith(head[8 : 8 + len(starts)]))
        return head.startswith(starts, 8)


@dataclass(frozen=True)
class Folder:
    r"""Folder that adapts writes.

    Arguments:
        entries: The allowed entries, by regular expressions that match whole names.
        required: The required names.
    """

    entries: Mapping[str, File | Folder]
    required: frozenset[str] = field(default_factory=frozenset)

    def entry(self, name: str) -> File | Folder | None:
        r"""Return the entry for a name; None if adapts writes nothing under it.

        Arguments:
            name: The name.
        """
        return next((entry for pattern, entry in self.entries.items() if re.fullmatch(pattern, name)), None)


_HEAD = 1 << 16  # the number of bytes read from the beginning of a file
CONFIG, TENSORS, GROUPS = "config.json", "adapter.safetensors", "groups"
_LOCK, _NEW, _OLD, _FILE = "lock", "new", "old", "file"
_PICTURE = File(b"\x89PNG\r\n\x1a\n", (b"Software\0adapts",))
_REPORT = File(b'{\n "settings": {')
_EMPTY = _Empty()
_COLUMNS = ",".join(["item_id", "timestamp", "channel", "mean", *(f"{step / 20:g}" for step in range(1, 20))]).encode()

#: The output of `Adapter.save`.
SAVED = Folder(
    {
        r"config\.json": File(b'{\n  "format": ', (b'"adapts"', b'"family"', b'"family_options"')),
        r"adapter\.safetensors": _Tensors(),
    },
    frozenset({CONFIG, TENSORS}),
)
#: The output of `GroupedAdapter.save`.
GROUPED = Folder(
    {
        r"config\.json": File(b'{\n  "format": ', (b'"adapts"', b'"group_column"')),
        "groups": Folder({"[0-9a-f]{16}": SAVED}),
    },
    frozenset({CONFIG, GROUPS}),
)
#: The output of `adapts forecast --from`.
PREDICTED = Folder({r"forecast\.csv": File(_COLUMNS + b"\n"), r"forecast\.png": _PICTURE})
#: The output of `adapts forecast`.
RUN = Folder({**PREDICTED.entries, r"scores\.json": _REPORT, r"reliability\.png": _PICTURE, "adapter": SAVED})
#: The output of `adapts backtest`.
BACKTEST = Folder(
    {
        r"scores\.csv": File(b"model,channel,lead_block,metric,value\n"),
        r"scores\.json": _REPORT,
        r"(scores_by_lead|reliability)\.png": _PICTURE,
    }
)
#: The output of `AdapterPredictor.serialize`, apart from further files of gluonts.
PREDICTOR = Folder(
    {
        r"gluonts-config\.json": File(b"{", (b"adapts.gluonts.AdapterPredictor",)),
        r"predictor\.json": File(b"{", (b'"num_samples"', b'"batch_size"')),
        "adapter": SAVED,
    }
)
#: The output of `Tuned.write`.
RECIPE = File(b"# Written by adapts.tune\nfamily:")
#: The trials of a search, in Optuna's format.
TRIALS = File(b'{"op_code"')
#: The temporary folder of a process that writes checkpoints.
PART = Folder({r"fit\.json": File(b"{"), r"lightning\.ckpt": File(b"PK"), r".+\.(safetensors|ckpt)": Piece()})
#: The hidden folder in a folder of checkpoints.
PARTS = Folder({_LOCK: _EMPTY, "[0-9a-f]{16}": PART})
_WHOLE = (SAVED, GROUPED, RUN, BACKTEST)
_ANY = Folder({name: entry for kind in _WHOLE for name, entry in kind.entries.items()})
#: The hidden folder beside an output while it is written.
_BESIDE = Folder({_LOCK: _EMPTY, _NEW: _ANY, _OLD: _ANY}, frozenset({_LOCK}))


def why_foreign(place: Path, kind: Folder, *, torn: bool = False, within: str = "") -> str | None:
    r"""Return why adapts did not write a folder: a foreign entry at any depth, or a missing one.

    Arguments:
        place: The folder.
        kind: The expected content.
        torn: Whether to accept an incomplete folder.
        within: The prefix of reported names: the folder's path within another.

    Returns:
        The reason, phrased to follow "the folder"; None if adapts wrote everything in it.
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
    absent = sorted(kind.required - {*names})
    may_be_partial = torn and (_LOCK not in kind.required or not names)
    return None if may_be_partial or not absent else f"lacks {shown(within + absent[0])}"


def require_ours(path: Path, kind: File | Folder | None) -> None:
    r"""Raise an error if a file or folder at a path is not one that adapts wrote.

    Arguments:
        path: The path.
        kind: What adapts writes there.

    Raises:
        ValueError: If anything else is there.
    """
    if not os.path.lexists(path):
        return
    if isinstance(kind, Folder):
        ours = stat.S_ISDIR(_mode(path)) and why_foreign(path, kind) is None
    else:
        ours = kind is not None and kind.wrote(path)
    if not ours:
        raise ValueError(f"{named(path)} exists, and adapts did not write it: it is kept, choose another place")


def _is_complete(place: Path) -> bool:
    r"""Return whether a folder is a complete output of one kind."""
    if not stat.S_ISDIR(_mode(place)):
        return False
    try:
        return bool(os.listdir(place)) and any(why_foreign(place, kind) is None for kind in _WHOLE)
    except OSError:  # unreadable, or just moved by another process
        return False


def _mode(path: Path) -> int:
    r"""Return the mode of a path, without following links; 0 if it does not exist or is not accessible."""
    try:
        return os.lstat(path).st_mode
    except (FileNotFoundError, NotADirectoryError, PermissionError):
        return 0


# ------------------------------------------------------------------------------------------------ paths


def as_path(name: str, value: object) -> Path:
    r"""Validate a path that a caller passed.

    Arguments:
        name: The option's name.
        value: The value.

    Returns:
        The path.

    Raises:
        TypeError: If it is not a path.
        ValueError: If no file can have that name.
    """
    text = os.fspath(value) if isinstance(value, os.PathLike) else value
    if not isinstance(text, str):
        raise TypeError(f"expected {name} to be a path, text or os.PathLike, got {shown(value)}: name a file or folder")
    try:
        encoded = os.fsencode(text)
    except UnicodeEncodeError as error:
        raise ValueError(f"expected {name} to be a path, got {shown(text)}, an invalid file name: rename it") from error
    if not text or "\0" in text:
        raise ValueError(
            f"expected {name} to be a path, got {shown(text)}, an invalid file name: name a file or folder"
        )
    if len(encoded) > _PATH or any(len(part) > _NAME for part in encoded.split(os.sep.encode())):
        raise ValueError(
            f"expected {name} to be a path of at most {_PATH} bytes, {_NAME} a name, got {shown(text)}: choose a "
            "shorter one"
        )
    return Path(text)


_PATH, _NAME = 4095, 255  # maximum length in bytes of a path, and of a name in it
_SUFFIX = "-adapts-"


def _output(path: object) -> Path:
    r"""Return the resolved path of an output folder."""
    place = Path(os.path.realpath(as_path("path", path)))
    most = _NAME - len(f".{_SUFFIX}") - 16
    if not place.name or len(os.fsencode(place.name)) > most:
        raise ValueError(
            f"expected a folder with a name of 1 to {most} bytes to write to, got {named(place)}: choose another name"
        )
    return place


def named(path: object) -> str:
    r"""Format a path for a message.

    Arguments:
        path: The path.

    Returns:
        The path, shortened and quoted if it is long or not printable.
    """
    text = str(path)
    return text if len(text) <= 200 and text.isprintable() else shown(text)


class Unwritten(OSError):
    r"""Raised if a file or folder cannot be written."""


@contextmanager
def writing(path: Path) -> Iterator[None]:
    r"""Convert system errors during writing to one clear error.

    Arguments:
        path: The output, as the caller named it; temporary names are not reported.

    Yields:
        Nothing.

    Raises:
        Unwritten: If the system raises an error, which is the cause.
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
    r"""Raised if another process or thread holds the lock of a folder."""


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    r"""Lock a hidden folder by a lock file in it, which the system releases when the process ends.

    Arguments:
        folder: The folder, created if missing. It is removed at the end if nothing else is in it.

    Yields:
        Nothing.

    Raises:
        Busy: If it is locked already.
        ValueError: If adapts did not write the file or folder of that name.
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
                lock_stat = path.lstat()
                if not stat.S_ISREG(lock_stat.st_mode) or lock_stat.st_size:
                    raise ValueError(f"{named(path)} is not the lock that adapts writes under this name: move it away")
            lock.acquire()
            break
        except Timeout:
            raise Busy(f"{named(folder)} is in use") from None
        except (FileExistsError, FileNotFoundError):  # the process that held it is removing it
            continue
    try:
        yield
    finally:
        # Unlink before the release: a process that has the file open notices, and creates a new lock.
        if _EMPTY.wrote(path):
            path.unlink()
        lock.release()
        with suppress(OSError):
            folder.rmdir()


def remove(place: Path, kind: Folder) -> None:
    r"""Remove the files that adapts wrote in a folder, and the folder if it is then empty; keep everything else.

    Arguments:
        place: The folder; nothing happens if there is none.
        kind: The expected content.
    """
    if not stat.S_ISDIR(_mode(place)):
        return
    for name in os.listdir(place):
        entry, path = kind.entry(name), place / name
        if isinstance(entry, Folder):
            remove(path, entry)
        elif isinstance(entry, File) and entry.wrote(path, torn=True):
            path.unlink()
    with suppress(OSError):  # not empty: foreign files remain
        place.rmdir()


# ------------------------------------------------------------------------------------------------ outputs


@contextmanager
def replaced(path: str | os.PathLike[str], kind: Folder, *, overwrite: bool) -> Iterator[Path]:
    r"""Yield a new folder to write to, and move it to its place on success.

    The new folder is created in a hidden one beside its place, `.NAME-adapts-` and 16 digits, which is locked while
    the process lives. On Linux and macOS the old and the new folder are exchanged atomically: a complete folder always
    exists at the place. On file systems that do not support this, the old folder is for a moment in the hidden one:
    `standing` finds it there, and the next call restores it. The next call for the same place also removes the hidden
    folders of killed processes.

    Arguments:
        path: The place. An existing folder stays until the new one is complete.
        kind: The content. A folder that holds anything else, at any depth, is not replaced.
        overwrite: Whether an existing folder may be replaced.

    Yields:
        The folder to write to.

    Raises:
        OSError: If the folder cannot be written.
        ValueError: If something exists there and may not be replaced.
    """
    place = _output(path)
    with writing(place):
        require_replaceable(place, kind, overwrite=overwrite)
        place.parent.mkdir(parents=True, exist_ok=True)
        with _locked_beside(place) as hidden:
            new = hidden / _NEW
            new.mkdir()
            try:
                yield new
                require_replaceable(place, kind, overwrite=overwrite)  # again, as writing may have taken long
                if mode := stat.S_IMODE(_mode(place)):
                    new.chmod(mode)
                previous = _move_into_place(new, place, hidden / _OLD)
            except BaseException:
                remove(new, _ANY)
                raise
            if previous is None:
                return
            # Foreign files may have been added since the check.
            if os.listdir(previous) and (reason := why_foreign(previous, kind)):
                logger.warning(
                    "the folder that %s replaced %s: it is kept as %s", named(place), reason, named(previous)
                )
            else:
                remove(previous, kind)


@contextmanager
def replaced_file(path: str | os.PathLike[str], kind: File) -> Iterator[Path]:
    r"""Yield a temporary file to write, and move it to its place atomically on success.

    Arguments:
        path: The place. An existing file stays until the new one is complete.
        kind: The content. Another file is not replaced.

    Yields:
        The temporary file, beside its place.

    Raises:
        OSError: If the file cannot be written.
        ValueError: If another file exists there.
    """
    place = as_path("path", path).absolute()
    with writing(place):
        require_ours(place, kind)
        _clean_up(place, kind)
        with _locked_beside(place) as hidden:
            temporary = hidden / _FILE
            try:
                yield temporary
                with temporary.open("r+b") as file:
                    os.fsync(file.fileno())
                require_ours(place, kind)
                os.replace(temporary, place)
            finally:
                temporary.unlink(missing_ok=True)


def _move_into_place(new: Path, place: Path, old: Path) -> Path | None:
    r"""Move a new folder to its place, and return the current path of the replaced one, if any."""
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
def _locked_beside(place: Path) -> Iterator[Path]:
    r"""Create and lock a hidden folder beside a path."""
    with ExitStack() as stack:
        while True:
            hidden = place.with_name(f".{place.name}{_SUFFIX}{secrets.token_hex(8)}")
            hidden.mkdir(mode=0o700)
            try:
                stack.enter_context(locked(hidden))
                break
            except Busy:  # another process locked it while empty, to clean it up
                continue
        yield hidden


def require_replaceable(path: str | os.PathLike[str], kind: Folder, *, overwrite: bool) -> None:
    r"""Check that an output replaces nothing but a folder that adapts wrote and that may be replaced.

    First it cleans up after killed processes.

    Arguments:
        path: The output's place.
        kind: The content to be written there.
        overwrite: Whether an existing folder may be replaced.

    Raises:
        OSError: If the existing folder cannot be read.
        ValueError: If a file exists there; or a folder that may not be replaced or holds anything else.
    """
    flag("expected overwrite", overwrite)
    place = _output(path)
    with writing(place):
        _clean_up(place)
        if not os.path.lexists(place):
            if not overwrite and _is_complete(_aside(place)):
                raise ValueError(
                    f"{named(_aside(place))} is read in place of {named(path)}, which a killed process moved: move it "
                    "back, rename it, or overwrite (--overwrite), which keeps it"
                )
            return
        if place in (here := Path.cwd(), *here.parents):
            raise ValueError(
                f"{named(place)} is or contains the working directory, and cannot be replaced: choose a folder in it"
            )
        if not stat.S_ISDIR(_mode(place)):
            raise ValueError(f"expected a folder to write to, but {named(path)} is a file: choose another place")
        if not os.listdir(place):
            return
        if not overwrite:
            raise ValueError(
                f"the folder {named(path)} exists and is kept: choose another, or overwrite it (--overwrite)"
            )
        if reason := _why_foreign_stable(place, kind):
            raise ValueError(
                f"the whole folder {named(path)} would be replaced, and it {reason}: it is kept, choose another folder"
            )


def _why_foreign_stable(place: Path, kind: Folder) -> str | None:
    r"""Call `why_foreign` again while other processes replace the folder."""
    while True:
        inode = os.stat(place).st_ino
        reason = why_foreign(place, kind)
        if reason is None or os.stat(place).st_ino == inode:
            return reason


def standing(path: str | os.PathLike[str]) -> Path:
    r"""Return the current path of an output folder, which a killed process may have left beside its place.

    Arguments:
        path: The place.

    Returns:
        Its place, or the folder beside it; also its place if neither exists.
    """
    given = as_path("path", path)
    if os.path.exists(given):
        return given
    place = Path(os.path.realpath(given))
    asides = [_aside(place), *(hidden / _OLD for hidden in _hidden(place))]
    return next((aside for aside in asides if _is_complete(aside)), given)


def _clean_up(place: Path, kind: File | None = None) -> None:
    r"""Restore what killed processes moved aside, and remove their temporary files; keep foreign files."""
    expected = _BESIDE if kind is None else Folder({_LOCK: _EMPTY, _FILE: kind}, _BESIDE.required)
    for hidden in _hidden(place):
        with suppress(Busy, FileNotFoundError):  # a process uses it, or has just removed it
            if why_foreign(hidden, expected, torn=True):
                continue
            with locked(hidden):
                if kind is not None:
                    (hidden / _FILE).unlink(missing_ok=True)
                    continue
                old = hidden / _OLD
                if not os.path.lexists(place) and _is_complete(old):
                    os.rename(old, place)
                remove(old, _ANY)
                remove(hidden / _NEW, _ANY)


def _aside(place: Path) -> Path:
    r"""Return where earlier versions left the old folder if killed; it is read, but never moved or replaced."""
    return place.with_name(f".{place.name}.old")


def _hidden(place: Path) -> list[Path]:
    r"""Return the hidden folders beside a path that were created to write it."""
    pattern = re.compile(re.escape(f".{place.name}{_SUFFIX}") + "[0-9a-f]{16}")
    try:
        names = sorted(name for name in os.listdir(place.parent) if pattern.fullmatch(name))
    except (FileNotFoundError, NotADirectoryError, PermissionError):
        return []
    return [path for name in names if stat.S_ISDIR(_mode(path := place.parent / name))]


def _exchanged(one: Path, other: Path) -> bool:
    r"""Exchange two folders atomically; return False if the system does not support it."""
    here, flag = -100, 2  # AT_FDCWD; RENAME_EXCHANGE on Linux, RENAME_SWAP on macOS
    try:
        library = ctypes.CDLL(None, use_errno=True)
        names = os.fsencode(one), os.fsencode(other)
        if sys.platform == "darwin":
            return bool(library.renamex_np(*names, flag) == 0)
        return bool(library.renameat2(here, names[0], here, names[1], flag) == 0)
    except (AttributeError, OSError, TypeError):
        return False
