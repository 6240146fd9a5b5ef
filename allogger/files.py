"""Files: how does a run keep files that are logged, each content once, whole or not at all?

A content is at ``artifacts/<first 2 digits>/<sha256>/<name>`` below the logdir, where ordinary tools find and open it.
It is written under a temporary name, hashed in the same pass, and gets its name when all of it is on the disk; so
whatever stands under such a name is complete, and several processes may store the same content at once. The names of
temporary files tell their process; what a killed one leaves is found by `verify` and removed by `repair`.
"""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import json
import mimetypes
import os
import re
import stat
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO

from allogger.names import file_name
from allogger.plain import Unstorable
from allogger.rundir import ARTIFACTS, sync_folder
from allogger.tensorfile import SUFFIX

__all__ = ["CHECKPOINTS", "FOLDER", "Files", "Request", "Stored", "digest_of", "temporary_name"]

CHECKPOINTS = f"{ARTIFACTS}/checkpoints"
#: The media type of a folder, whose stored file is a list of its contents.
FOLDER = "inode/directory"
_CHUNK_BYTES = 2**20
# Only the types that Python itself knows: those of the machine differ from one to the next.
_TYPES = mimetypes.MimeTypes()
_SUFFIX = re.compile(r"\.[A-Za-z0-9]{1,16}", re.ASCII)
_counter = itertools.count()


@dataclass(frozen=True, slots=True)
class Stored:
    """What the record of a stored file says: *path* is below the logdir, *mtime* that of the original (Unix seconds).

    Of a folder, *size* is that of its *files* together, and *sha256* that of the list of them.
    """

    name: str
    path: str
    size: int
    sha256: str
    media_type: str
    mtime: float | None = None
    files: int | None = None

    def about(self) -> dict[str, Any]:
        """Return what is known, as JSON values."""
        return {name: value for name, value in asdict(self).items() if value is not None}


@dataclass(slots=True)
class Request:
    """A *state* to be stored as a checkpoint, what its record says *about* it, and, once it is *stored*, its path."""

    state: Any
    about: dict[str, Any]
    stored: str = ""


class _Sink:
    """Writes into a temporary file and hashes what it writes."""

    def __init__(self, file: Any) -> None:
        self._file = file
        self._digest = hashlib.sha256()
        self.size = 0

    def write(self, data: Any, /) -> None:
        """Write all of *data*, in however many calls that takes."""
        self._digest.update(data)
        view = memoryview(data)
        self.size += len(view)
        while view:
            view = view[self._file.write(view) :]

    @property
    def sha256(self) -> str:
        """The hash of everything so far."""
        return self._digest.hexdigest()


class Files:
    """The files of one run, as the series with the full key *key* stores them.

    All methods that put something return when it is complete, and may be called by several threads and processes at
    once. They raise `OSError` for a disk or a file that refuses, and `Unstorable` for what is no ordinary file or
    folder; then nothing is left behind but, of a folder, the files that were complete.
    """

    def __init__(self, logdir: Path, key: str) -> None:
        self.logdir, self.key = logdir, key

    def put_file(self, path: Path, name: str | None = None) -> Stored:
        """Store what a file holds now; a link is followed."""
        with _opened(path) as file:
            mtime = os.fstat(file.fileno()).st_mtime
            return self._put(name or path.name, lambda sink: _copy(file, sink), mtime=mtime)

    def put_bytes(self, data: bytes | bytearray | memoryview, name: str) -> Stored:
        """Store bytes as a file."""
        flat = memoryview(data).cast("B")
        return self._put(name, lambda sink: sink.write(flat))

    def put_written(self, write: Callable[[Any], None], name: str) -> Stored:
        """Store what *write* writes to the file-like object that it is given."""
        return self._put(name, write)

    def put_checkpoint(self, write: Callable[[Any], None]) -> Stored:
        """Store what *write* writes as a file of its own, which `checkpoint` may remove again."""
        now = time.time()
        stamp = time.strftime("%Y%m%dT%H%M%S", time.gmtime(now)) + f".{int(now % 1 * 1e6):06d}"
        name = f"{stamp}-{os.getpid()}"
        folder = PurePosixPath(CHECKPOINTS, file_name(self.key))
        return self._put(name + SUFFIX, write, lambda sha256: folder / f"{name}-{sha256[:16]}{SUFFIX}")

    def put_folder(self, path: Path, name: str | None = None) -> Stored:
        """Store all that is in a folder, and a list of it; what is stored already is not copied.

        Links are stored as links, if they stay in the folder.
        """
        root = Path(os.path.realpath(path))
        if self.logdir.resolve().is_relative_to(root):
            raise Unstorable(f"{str(path)!r} holds the logdir itself, which would hold it")
        listing: dict[str, Any] = {"files": {}, "folders": [], "links": {}}
        size = 0
        for place, entry in _walk(root, ""):
            if entry.is_symlink():
                listing["links"][place] = _checked_link(root, entry, place)
            elif entry.is_dir():
                listing["folders"].append(place)
            else:
                with _opened(Path(entry.path), os.O_NOFOLLOW) as file:
                    stored = self._put_unless_known(file, entry.name)
                listing["files"][place] = {"path": stored.path, "size": stored.size, "sha256": stored.sha256}
                size += stored.size
        told = json.dumps(listing, indent=1, sort_keys=True).encode()
        name = name or Path(os.path.abspath(path)).name
        about = self._put(f"{name}.folder.json", lambda sink: sink.write(told), mtime=os.stat(root).st_mtime)
        return Stored(name, about.path, size, about.sha256, FOLDER, about.mtime, len(listing["files"]))

    def _put_unless_known(self, file: BinaryIO, name: str) -> Stored:
        """Store a file of a folder. Many are those of the last version: they are read, and nothing is written."""
        size, sha256 = digest_of(file)
        at = _content_path(sha256, name)
        if self._is_stored(at, size):
            return Stored(name, str(at), size, sha256, _media_type(name))
        file.seek(0)
        return self._put(name, lambda sink: _copy(file, sink))

    # ------------------------------------------------------------------------------------------------- what is on disk

    def _put(
        self,
        name: str,
        write: Callable[[_Sink], None],
        place: Callable[[str], PurePosixPath] | None = None,
        mtime: float | None = None,
    ) -> Stored:
        temporary = self._folder(PurePosixPath(ARTIFACTS)) / temporary_name()
        fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
        try:
            with os.fdopen(fd, "wb", buffering=0) as raw:
                sink = _Sink(raw)
                write(sink)
                os.fsync(raw.fileno())
            at = place(sink.sha256) if place else _content_path(sink.sha256, name)
            folder = self._folder(at.parent)
            if place or not self._is_linked(at, sink.size):
                os.replace(temporary, folder / at.name)
            for made in (folder, *folder.parents[:2]):
                sync_folder(made)
        finally:
            temporary.unlink(missing_ok=True)
        return Stored(name, str(at), sink.size, sink.sha256, _media_type(name), mtime)

    def _is_linked(self, at: PurePosixPath, size: int) -> bool:
        """Return whether a content is there under its name, or, at no cost, now is because it had another one."""
        if self._is_stored(at, size):
            return True
        for other in os.listdir(self.logdir / at.parent):
            with contextlib.suppress(OSError):
                if self._is_stored(at.with_name(other), size):
                    os.link(self.logdir / at.with_name(other), self.logdir / at)
                    return True
        return False

    def _is_stored(self, at: PurePosixPath, size: int) -> bool:
        try:
            info = os.lstat(self.logdir / at)
        except OSError:
            return False
        return stat.S_ISREG(info.st_mode) and info.st_size == size

    def _folder(self, at: PurePosixPath) -> Path:
        """Return a folder of the run, made if need be; a link in its place could lead anywhere and is refused."""
        path = self.logdir
        for part in at.parts:
            path = path / part
            path.mkdir(parents=True, exist_ok=True)
            if path.is_symlink():
                raise Unstorable(f"{str(path)!r} is a symbolic link, which is not followed")
        return path


def temporary_name() -> str:
    """Return a name that nobody else uses, for what is to get its own when it is complete."""
    return f".{os.getpid()}-{next(_counter)}.tmp"


def _opened(path: Path, flags: int = 0) -> BinaryIO:
    """Open a file to be stored; raises `Unstorable` for a pipe, a device and the like, which may never end."""
    fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | flags)
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise Unstorable(f"{str(path)!r} is no ordinary file")
    return os.fdopen(fd, "rb")


def _copy(file: BinaryIO, sink: _Sink) -> None:
    while chunk := file.read(_CHUNK_BYTES):
        sink.write(chunk)


def digest_of(file: Any) -> tuple[int, str]:
    """Return the length and the sha256 of the rest of an open file."""
    start, digest = file.tell(), hashlib.file_digest(file, "sha256")
    return file.tell() - start, digest.hexdigest()


def _walk(folder: Path, above: str) -> Iterator[tuple[str, os.DirEntry[str]]]:
    """Yield everything below a folder with its place in it, in alphabetical order."""
    for entry in sorted(os.scandir(folder), key=lambda entry: entry.name):
        place = above + entry.name
        yield place, entry
        if entry.is_dir(follow_symlinks=False):
            yield from _walk(Path(entry.path), f"{place}/")


def _checked_link(root: Path, entry: os.DirEntry[str], place: str) -> str:
    target = os.readlink(entry.path)
    if os.path.isabs(target) or not Path(os.path.realpath(entry.path)).is_relative_to(root):
        raise Unstorable(f"the symbolic link {place!r} leads out of the folder, to {target!r}")
    return target


def _content_path(sha256: str, name: str) -> PurePosixPath:
    return PurePosixPath(ARTIFACTS, sha256[:2], sha256, _stored_name(name))


def _stored_name(name: str) -> str:
    """Return a name for a file that every file system takes, with the suffix that tells programs what it is."""
    safe, suffix = file_name(name), PurePosixPath(name).suffix
    if safe.endswith(suffix) or not _SUFFIX.fullmatch(suffix):
        return safe
    return file_name(name, 120 - len(suffix)) + suffix


def _media_type(name: str) -> str:
    if name.endswith(SUFFIX):
        return "application/vnd.safetensors"
    return _TYPES.guess_type(f"x{PurePosixPath(name).suffix}")[0] or "application/octet-stream"
