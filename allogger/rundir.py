"""RunDir: which names are there inside a logdir, and who wrote what?

A logdir holds ``run.json`` (about the run), ``*.log`` (text messages) and ``events/`` with the shards: for each process
a *journal* while it runs, an HDF5 file and a small index when it has finished, and the files of the other outputs.
Every shard's name carries start time, host and process id, so that no two processes ever share a file. In
``artifacts/`` are the files that were logged: by their content, and the checkpoints of each key. In ``plots/`` are
pictures of what was posted.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import re
import stat
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from allogger.errors import ConfigError, LogdirExists
from allogger.names import MAIN_PROCESS, file_name

__all__ = [
    "ARTIFACTS",
    "EVENTS",
    "PLOTS",
    "PLOT_MARK",
    "RUN_FILE",
    "Shard",
    "atomic_write",
    "clear",
    "event_shard_of",
    "has_outputs",
    "is_here",
    "is_live",
    "is_running",
    "is_stored_path",
    "load_json",
    "new_shard",
    "prepare",
    "record_attempt",
    "shard_name_of",
    "shard_names",
    "shard_of",
    "stored_files",
    "sync_folder",
    "temporary_pid",
]

EVENTS = "events"
ARTIFACTS = "artifacts"
PLOTS = "plots"
#: Stands near the beginning of each picture that is saved there.
PLOT_MARK = "drawn by allogger"
RUN_FILE = "run.json"
JOURNAL, IMAGE, INDEX = ".journal", ".h5", ".index.json"
# Files that grow while their process runs.
_GROWING = (JOURNAL, ".csv")
# A hostile file must not eat the memory; ten thousand keys take about 3 MB.
MAX_JSON_BYTES = 256 * 2**20

# Patterns are compiled, and cached, by the calls that need them: that is not for the start of a program.
_SHARD_NAME = r"(?a:\d{8}T\d{6}\.\d{6}-[A-Za-z0-9._@+=%~-]+-\d+-\d+)"
# Of a shard, whatever its suffix; in front of temporary files there is a dot.
_SHARD_FILE = rf"\.?{_SHARD_NAME}(\.[A-Za-z0-9_-]+)+"
_EVENT_FILE = rf"(?a:events\.out\.tfevents\.\d+\..+?\.({_SHARD_NAME}))"
_TEMPORARY = rf"(?a:\.(?:(?:{_SHARD_NAME}\.[a-z0-9.]+|run\.json)\.)?(\d+)-\d+\.tmp)"
# Below ``artifacts``: folders that are named by a content, and one for each key that has checkpoints.
_CONTENT = re.compile(r"([0-9a-f]{2})/\1[0-9a-f]{62}/(?!\.)[A-Za-z0-9._@+=~%-]{1,200}", re.ASCII)
_CHECKPOINT = re.compile(
    r"checkpoints/(?!\.)[A-Za-z0-9._@+=~%-]{1,200}/(latest|best|\d{8}T\d{6}\.\d{6}-\d+-[0-9a-f]{16})\.safetensors",
    re.ASCII,
)
_counter = itertools.count()


@dataclass(frozen=True, slots=True)
class Shard:
    """What one process writes into one logdir.

    *process* is the label of the process (``MainProcess``, ``Process-1``, ``rank3``), *attempt* names the start of the
    program that it belongs to, *start* is the Unix time in seconds of the shard's beginning.
    """

    logdir: Path
    name: str
    process: str = MAIN_PROCESS
    attempt: str = ""
    start: float = 0.0
    host: str = ""
    pid: int = 0

    @property
    def events(self) -> Path:
        """The folder of the shards."""
        return self.logdir / EVENTS

    def path(self, suffix: str) -> Path:
        """Return the path of this shard's file with that suffix, such as ``.h5``."""
        return self.events / (self.name + suffix)

    def about(self) -> dict[str, Any]:
        """Return what the files of the shard say about it: JSON values, without the path of the logdir."""
        about = asdict(self)
        del about["logdir"]
        return about


def new_shard(logdir: Path, process: str = MAIN_PROCESS, attempt: str | None = None) -> Shard:
    """Return a shard of the calling process with a name that no other process has; makes no file."""
    now = time.time()
    host, pid = host_name(), os.getpid()
    stamp = time.strftime("%Y%m%dT%H%M%S", time.gmtime(now)) + f".{int(now % 1 * 1e6):06d}"
    name = f"{stamp}-{file_name(host, 60)}-{pid}-{next(_counter)}"
    return Shard(logdir, name, process, attempt or name, now, host, pid)


def shard_names(events: Path, suffix: str) -> Iterator[str]:
    """Yield, in the order of their start, the names of the shards that have a file with that suffix."""
    try:
        files = sorted(os.listdir(events))
    except (FileNotFoundError, NotADirectoryError):
        return
    for file in files:
        if (name := shard_name_of(file, suffix)) is not None:
            yield name


def has_outputs(events: Path) -> bool:
    """Return whether any output of any process has written something there."""
    try:
        with os.scandir(events) as entries:
            return any(entries)
    except (FileNotFoundError, NotADirectoryError):
        return False


def shard_name_of(file: str, suffix: str) -> str | None:
    """Return the name of the shard whose file with that suffix is called *file*, None if that is no such name."""
    name = file.removesuffix(suffix)
    return name if name != file and _is_shard_name(name) else None


def _is_shard_name(name: str) -> bool:
    try:
        return re.fullmatch(_SHARD_NAME, name) is not None and shard_of(name) is not None
    except ValueError:  # a thirteenth month
        return False


def event_shard_of(file: str) -> str | None:
    """Return the name of the shard that wrote an event file for TensorBoard, None if allogger did not write it."""
    found = re.fullmatch(_EVENT_FILE, file)
    return found[1] if found and _is_shard_name(found[1]) else None


def shard_of(name: str) -> tuple[float, str, int]:
    """Return ``(start, host, pid)`` out of a shard's name; start in Unix seconds."""
    stamp, _, rest = name.partition("-")
    host, pid, _ = rest.rsplit("-", 2)
    # Not strptime: that takes a lock, and a child forked at that moment by another thread would never get it.
    start = datetime.fromisoformat(stamp + "+00:00")
    return start.timestamp(), host, int(pid)


def host_name() -> str:
    """Return the name of this machine."""
    return os.uname().nodename or "host"


def is_here(name: str) -> bool:
    """Return whether the shard *name* is written on this host."""
    return shard_of(name)[1] == file_name(host_name(), 60)


def is_live(events: Path, name: str, quiet_seconds: float = 60.0) -> bool:
    """Return whether the process that writes the shard *name* may still be running.

    On this host the process table knows. Of another host we only see whether the files grew lately.
    """
    start, _, pid = shard_of(name)
    if is_here(name):
        return is_running(pid, start)
    return any(_is_fresh(events / (name + suffix), quiet_seconds) for suffix in _GROWING)


def _is_fresh(path: Path, quiet_seconds: float) -> bool:
    try:
        return time.time() - os.stat(path).st_mtime < quiet_seconds
    except OSError:
        return False


def is_running(pid: int, since: float) -> bool:
    """Return whether a process of this host with that number exists and did so at the Unix time *since*."""
    born = _process_start(pid)
    # One that began later has only inherited the number.
    return born is not None and born <= since + 1.0


def _process_start(pid: int) -> float | None:
    """Return when the process *pid* of this host began (Unix seconds; 0 if unknown), or None if there is none."""
    if pid <= 0:
        return None  # `os.kill` would take it for a group
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            fields = file.read().rpartition(b")")[2].split()
        with open("/proc/stat", "rb") as file:
            boot = next(float(line.split()[1]) for line in file if line.startswith(b"btime"))
    except FileNotFoundError:
        pass  # no such process, or no /proc, or one that hides the processes of others
    except (OSError, StopIteration, ValueError):
        return 0.0
    else:
        return None if fields[0] in (b"Z", b"X") else boot + int(fields[19]) / os.sysconf("SC_CLK_TCK")
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return None
    except OSError:
        pass
    return 0.0


def atomic_write(path: Path, data: bytes, *, durable: bool = True) -> None:
    """Replace the file at *path* by *data*, so that a reader sees the old or the new content, whole.

    Raises `OSError` and leaves the old file as it was when the disk does not take the data.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}-{next(_counter)}.tmp")
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
    try:
        try:
            view = memoryview(data)
            while view:
                view = view[os.write(fd, view) :]
            if durable:
                os.fsync(fd)
        finally:
            os.close(fd)
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    if durable:
        sync_folder(path.parent)


def temporary_pid(file: str) -> int | None:
    """Return the number of the process that made a temporary file of that name, None if it is none of allogger's."""
    found = re.fullmatch(_TEMPORARY, file)
    return int(found[1]) if found else None


def sync_folder(folder: Path) -> None:
    """Force the names in *folder* onto the disk, where the file system can."""
    try:
        fd = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return
    try:
        os.fsync(fd)
    except OSError:
        pass
    finally:
        os.close(fd)


def is_stored_path(path: str) -> bool:
    """Return whether *path*, below a logdir, is one that allogger chooses for a file that is logged."""
    top, _, rest = path.partition("/")
    return top == ARTIFACTS and bool(_CONTENT.fullmatch(rest) or _CHECKPOINT.fullmatch(rest))


def stored_files(logdir: Path) -> Iterator[os.DirEntry[str]]:
    """Yield what `is_stored_path` says of each thing that is no folder, and temporary files; links are not followed."""
    top = os.path.join(logdir, ARTIFACTS)
    if os.path.islink(top) or not os.path.isdir(top):
        return
    for entry in _entries(top):
        if temporary_pid(entry.name) is not None and not entry.is_dir(follow_symlinks=False):
            yield entry
    for first in _folders(top):
        for second in _folders(first):
            for entry in _entries(second):
                path = f"{ARTIFACTS}/{first.name}/{second.name}/{entry.name}"
                if is_stored_path(path) and not entry.is_dir(follow_symlinks=False):
                    yield entry


def _entries(folder: str | os.PathLike[str]) -> list[os.DirEntry[str]]:
    try:
        return sorted(os.scandir(folder), key=lambda entry: entry.name)
    except OSError:
        return []  # it was removed meanwhile, or is not ours to read


def _folders(folder: str | os.PathLike[str]) -> Iterator[os.DirEntry[str]]:
    return (entry for entry in _entries(folder) if entry.is_dir(follow_symlinks=False))


def load_json(path: Path) -> dict[str, Any]:
    """Return the object in a JSON file; an empty one if it is missing, damaged, too large or no object."""
    try:
        # Without O_NONBLOCK a pipe would keep us waiting for its other end.
        with open(path, "rb", opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK)) as file:
            is_regular = stat.S_ISREG(os.fstat(file.fileno()).st_mode)
            raw = file.read(MAX_JSON_BYTES + 1) if is_regular else b""
        found = json.loads(raw) if len(raw) <= MAX_JSON_BYTES else {}
    except (OSError, ValueError, RecursionError, MemoryError):
        return {}
    return found if isinstance(found, dict) else {}


# ----------------------------------------------------------------------------------------------------- opening a logdir


def prepare(logdir: Path, policy: str) -> Path:
    """Make *logdir*, as *policy* says where it exists, and return the path to use; raises `ConfigError`.

    *policy* is ``continue``, ``clear``, ``abort``, ``ask`` or ``unique``.
    """
    if policy in ("abort", "unique") and _made(logdir):
        policy = "continue"
    elif os.path.lexists(logdir):
        if not logdir.is_dir():
            raise ConfigError(f"logdir {str(logdir)!r} is not a folder; choose another path")
        if policy == "ask":
            policy = _ask(logdir)
        if policy == "abort":
            raise LogdirExists(
                f"logdir {str(logdir)!r} exists; choose another one, "
                "or default_path_exists='continue', 'clear' or 'unique'"
            )
        if policy == "clear":
            clear(logdir)
        elif policy == "unique":
            return _unique(logdir)
    _refuse_link(logdir / EVENTS)
    try:
        (logdir / EVENTS).mkdir(parents=True, exist_ok=True)
        trial = logdir / EVENTS / f".{os.getpid()}-{next(_counter)}.tmp"
        os.close(os.open(trial, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666))
        trial.unlink()
    except OSError as error:
        raise ConfigError(f"logdir {str(logdir)!r} cannot be written ({error}); choose another path") from error
    return logdir


def _made(logdir: Path) -> bool:
    """Make *logdir* and return True, or return False because somebody else has: of several, one is told True."""
    try:
        logdir.mkdir(parents=True)
    except OSError:
        return False  # what else may be wrong comes to light when it is used
    return True


def _refuse_link(events: Path) -> None:
    if events.is_symlink():
        raise ConfigError(f"{str(events)!r} is a symbolic link, which is not followed; choose another logdir")


def record_attempt(logdir: Path, shard: Shard, more: Mapping[str, Any]) -> None:
    """Note in ``run.json`` the attempt that *shard* began, or *more* about it; a disk that refuses is no error here."""
    path = logdir / RUN_FILE
    # What a link leads to is replaced by a file of ours, and must not become part of it.
    about = {} if path.is_symlink() else load_json(path)
    attempts = about.get("attempts")
    entries = [a for a in attempts if isinstance(a, dict)] if isinstance(attempts, list) else []
    entry = next((a for a in entries if a.get("attempt") == shard.attempt), None)
    if entry is None:
        restarts = os.environ.get("SLURM_RESTART_COUNT")
        entry = {**shard.about(), **({"restart_count": restarts} if restarts else {})}
        entries.append(entry)
    entry.update(more)
    about = {"allogger_format": 1, "created": shard.start, **about, "attempts": entries}
    with contextlib.suppress(OSError, RecursionError):
        atomic_write(path, json.dumps(about, indent=1, default=str).encode(), durable=False)


def _ask(logdir: Path) -> str:
    if sys.stdin is None or not sys.stdin.isatty():
        return "abort"
    answers = {"": "continue", "c": "continue", "cl": "clear", "a": "abort", "u": "unique"}
    while True:
        try:
            answer = input(f"{logdir} exists: (C)ontinue, (cl)ear, (u)nique new folder or (a)bort? ").strip().lower()
        except EOFError:
            return "abort"
        for short, policy in answers.items():
            if answer in (short, policy):
                return policy


def _unique(logdir: Path) -> Path:
    for number in itertools.count(1):
        path = logdir.with_name(f"{logdir.name}_{number}")
        try:
            path.mkdir(parents=True)
        except FileExistsError:
            continue
        except OSError as error:
            raise ConfigError(f"logdir {str(path)!r} cannot be made ({error})") from error
        return prepare(path, "continue")
    raise AssertionError


def clear(logdir: Path, *, even_live: bool = False) -> None:
    """Remove what allogger made in *logdir*, and nothing else; raises `ConfigError` if that is not a run of allogger's.

    Symbolic links are not followed. Strangers' files stay, and so do the folders that hold them. A run that is being
    written is refused unless *even_live*.
    """
    if not any(logdir.iterdir()):
        return
    if (logdir / RUN_FILE).is_symlink() or "allogger_format" not in load_json(logdir / RUN_FILE):
        raise ConfigError(
            f"{str(logdir)!r} was not made by allogger (no {RUN_FILE} of its own), so it is not cleared; "
            "choose another logdir or remove it yourself"
        )
    events = logdir / EVENTS
    _refuse_link(events)
    live = [name for name in shard_names(events, JOURNAL) if is_live(events, name)]
    if live and not even_live:
        host, pid = shard_of(live[0])[1:]
        raise ConfigError(f"{str(logdir)!r} is being written by process {pid} on {host}, so it is not cleared")
    _remove_shards(events)
    _remove_stored(logdir)
    _remove_plots(logdir)
    for name in os.listdir(logdir):
        if name == RUN_FILE or (name.endswith(".log") and re.fullmatch(_SHARD_NAME, name[: -len(".log")])):
            (logdir / name).unlink(missing_ok=True)


def _remove_stored(logdir: Path) -> None:
    for entry in stored_files(logdir):
        os.unlink(entry.path)
        # The last one takes its folders along, unless a stranger's file is in them.
        with contextlib.suppress(OSError):
            for folder in Path(entry.path).relative_to(logdir).parents[:-1]:
                os.rmdir(logdir / folder)


def _remove_plots(logdir: Path) -> None:
    for folder in _folders(logdir):
        if folder.name != PLOTS:
            continue
        for entry in _entries(folder):
            if entry.name.endswith(".png") and entry.is_file(follow_symlinks=False):
                with open(entry.path, "rb") as file:
                    is_ours = PLOT_MARK.encode() in file.read(256)
                if is_ours:
                    os.unlink(entry.path)
        with contextlib.suppress(OSError):
            os.rmdir(folder)


def _remove_shards(events: Path) -> None:
    try:
        entries = list(os.scandir(events))
    except FileNotFoundError:
        return
    for entry in entries:
        if entry.is_dir(follow_symlinks=False):
            for file in os.scandir(entry.path):
                # What the TensorBoard writer makes; never what another program put there, or a folder's whole tree.
                if event_shard_of(file.name) is not None and not file.is_dir(follow_symlinks=False):
                    os.unlink(file.path)
            with contextlib.suppress(OSError):
                os.rmdir(entry.path)
        elif re.fullmatch(_SHARD_FILE, entry.name):
            os.unlink(entry.path)
    with contextlib.suppress(OSError):
        events.rmdir()
