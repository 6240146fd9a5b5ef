"""Foreign: which other system, or other output of ours, wrote what lies under a path, and how is it opened?"""

from __future__ import annotations

import itertools
import os
import re
import stat
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from allogger.errors import ConfigError, DamagedFile
from allogger.reader import Reader
from allogger.readers.csv import CsvReader
from allogger.readers.mlflow import MlflowDatabaseReader, MlflowReader, runs_in_database
from allogger.readers.table import TableReader, head_of
from allogger.readers.tensorboard import TensorboardReader
from allogger.readers.wandb import WandbReader
from allogger.readers.wrapped import ReaderWithout, UnreadableReader
from allogger.record import MAIN_PROCESS
from allogger.rundir import EVENTS, IMAGE, RUN_FILE, event_shard_of, load_json, shard_name_of, shard_names, shard_of

__all__ = ["OpenForeign", "foreign_shards", "holds_foreign", "other_outputs"]

# Nobody means all of a disk.
_MOST_ENTRIES = 200_000
_TABLES = (".csv", ".tsv", ".log", ".txt")
_ONE_OF_A_RUN = ("metrics.csv", "progress.csv", "monitor.csv", ".monitor.csv")
_OWN_TABLE = b"key,step,time,process,kind,value\n"
# Of ALLogger 0.2; a first version put the host in front.
_OLD_FILE = re.compile(r"(?:(\d{9,10})_.+|.+_(\d{9,10}))\.h5")


@dataclass(frozen=True)
class OpenForeign:
    """What one process, or one run of another system, has written: the file and its reader."""

    name: str
    path: Path
    reader: Reader

    @property
    def process(self) -> str:
        """The label of the process."""
        return str(self.reader.about.get("process") or MAIN_PROCESS)

    @property
    def params(self) -> Mapping[str, Any]:
        """The parameters that lie with the values, empty if none do."""
        found = getattr(self.reader, "params", {})
        return found if isinstance(found, Mapping) else {}


def foreign_shards(path: Path) -> list[OpenForeign] | None:
    """Return what can be read under a path that is no run of allogger's, None if nothing is known there.

    *path* is a file, or a folder: of ALLogger 0.2, MLflow or W&B, or of CSV tables and event files for TensorBoard; the
    latter are found at any depth. A file that cannot be opened is a shard without keys, and its `damage` says why.
    Raises `OSError` or `DamagedFile` if *path* itself is a file that cannot be opened, `ConfigError` if the folder
    holds far too many files.
    """
    if path.is_dir():
        return _in_folder(path) or None
    return _in_file(path) if path.exists() else None


def holds_foreign(path: Path) -> bool:
    """Return whether a folder is itself a run of another system; those below do not count. Opens CSV files only."""
    # W&B keeps a link to its latest run, which would be there twice.
    if path.name == EVENTS or not path.is_dir() or (path.is_symlink() and path.name == "latest-run"):
        return False
    try:
        names = {entry.name for entry in os.scandir(path) if entry.is_file(follow_symlinks=True)}
    except OSError:
        return False
    if any(_is_events(name) and event_shard_of(name) is None for name in names) or any(_old_files(path)):
        return True
    return any(_is_wandb(name) for name in names) or _is_mlflow(path) or any(_tables(path))


def other_outputs(events: Path, known: Collection[str]) -> list[OpenForeign]:
    """Return what our outputs ``csv`` and ``tensorboard`` hold of those shards that are not among the *known*.

    Of a shard that has both, the table goes first, because its numbers are exact.
    """
    attempt_of = _attempts(events.parent)
    tables = {
        name: _opened(partial(CsvReader, attempt=attempt_of(name)), events / f"{name}.csv")
        for name in shard_names(events, ".csv")
        if name not in known
    }
    found = list(tables.values())
    for folder in sorted(_folders(events)):
        try:
            paths = sorted(folder.iterdir())
        except OSError as error:
            found.append(OpenForeign(folder.name, folder, UnreadableReader(folder, error)))
            continue
        for path in paths:
            shard = event_shard_of(path.name)
            if shard is None or shard in known:
                continue
            # The folder of a process that shared its name has more behind it.
            label = folder.name.removesuffix("@" + shard.partition("-")[2])
            process = "" if label == "%_" else unquote(label)
            opened = _opened(partial(TensorboardReader, process=process, attempt=attempt_of(shard)), path)
            found.append(_without(opened, tables[shard]) if shard in tables else opened)
    return found


def _attempts(logdir: Path) -> Callable[[str], str]:
    """Return what tells to which attempt a shard belongs: to the last one that began before it, as ``run.json`` says.

    Without it, a process that was started twice under the same name would replace what it did the first time.
    """
    told = load_json(logdir / RUN_FILE).get("attempts")
    entries = [entry for entry in told if isinstance(entry, dict)] if isinstance(told, list) else []
    # Whatever else than a float it says is none of our times.
    starts = sorted((e["start"], str(e.get("attempt"))) for e in entries if isinstance(e.get("start"), float))

    def attempt_of(shard: str) -> str:
        if not starts or any(name == shard for _, name in starts):
            return shard
        # Clocks of several hosts differ.
        return max((one for one in starts if one[0] <= shard_of(shard)[0]), default=starts[0])[1]

    return attempt_of


# ----------------------------------------------------------------------------------------------------------- what it is


def _in_file(path: Path) -> list[OpenForeign] | None:
    if not stat.S_ISREG(path.stat().st_mode):
        return None
    with open(path, "rb") as file:
        head = file.read(64)
    if _is_events(path.name):
        return [_open(TensorboardReader, path)]
    if head.startswith(b":W&B"):
        return [_open(WandbReader, path)]
    if head.startswith(b"SQLite format 3\0"):
        return _labelled([_open(partial(MlflowDatabaseReader, run=run), path) for run in runs_in_database(path)])
    if head.startswith(b"\x89HDF"):
        return _of_processes(path)
    if head.startswith(_OWN_TABLE):
        return [_open(CsvReader, path)]
    return [_open(TableReader, path)] if path.suffix in _TABLES and _has_head(path) else None


def _in_folder(path: Path) -> list[OpenForeign]:
    if old := sorted(_old_files(path)):
        return [shard for file in old for shard in _tolerant(file)]
    if runs := _mlflow_runs(path):
        return _labelled([_opened(MlflowReader, run) for run in runs])
    if runs := sorted(file for file in path.iterdir() if _is_wandb(file.name)):
        return [_opened(WandbReader, run) for run in runs]
    tables = _opened_tables(list(_tables(path)))
    events = []
    for file in _event_files(path):
        parts = file.relative_to(path).parts[:-1]
        scope, process = (".".join(parts), "/".join(parts)) if parts else ("root", MAIN_PROCESS)
        events.append(_opened(partial(TensorboardReader, scope=scope, process=process), file))
    for table in tables:
        # stable-baselines3 writes the same numbers into both.
        events = [_without(shard, table) if shard.path.parent == path else shard for shard in events]
    return tables + events


def _old_files(path: Path) -> Iterator[Path]:
    """Yield the files of ALLogger 0.2 in the folder of a run, or in its ``events``."""
    for folder in (path, path / EVENTS):
        for file in folder.glob("*.h5"):
            if _OLD_FILE.fullmatch(file.name):
                yield file


def _is_events(name: str) -> bool:
    return ".tfevents." in name and not name.endswith(".profile-empty")


def _is_wandb(name: str) -> bool:
    return name.startswith("run-") and name.endswith(".wandb")


def _is_mlflow(path: Path) -> bool:
    return (path / "meta.yaml").is_file() and (path / "metrics").is_dir()


def _mlflow_runs(path: Path) -> list[Path]:
    """Return the folders of runs: of MLflow's store, of an experiment in it, or of one run."""
    if _is_mlflow(path):
        return [path]
    experiments = [path] if (path / "meta.yaml").is_file() else [e.parent for e in path.glob("*/meta.yaml")]
    found = (run for experiment in sorted(experiments) for run in sorted(experiment.iterdir()) if _is_mlflow(run))
    return list(itertools.islice(found, _MOST_ENTRIES))


def _tables(path: Path) -> Iterator[Path]:
    for file in sorted(path.iterdir()):
        if file.suffix in _TABLES and shard_name_of(file.name, file.suffix) is None and _has_head(file):
            yield file


def _has_head(path: Path) -> bool:
    try:
        return path.is_file() and head_of(path) is not None
    except (OSError, DamagedFile):
        return False


def _event_files(path: Path) -> Iterator[Path]:
    """Yield the event files below a folder; those that allogger wrote are part of other runs, unless right here."""
    entries = 0
    for place, folders, names in os.walk(path):
        folders[:] = sorted(folder for folder in folders if not folder.startswith("."))
        entries += len(folders) + len(names)
        if entries > _MOST_ENTRIES:
            raise ConfigError(f"{str(path)!r} holds more than {_MOST_ENTRIES:,} files; give the folder of a run")
        for name in sorted(names):
            if _is_events(name) and (Path(place) == path or event_shard_of(name) is None):
                yield Path(place, name)


def _folders(path: Path) -> list[Path]:
    try:
        return [Path(entry.path) for entry in os.scandir(path) if entry.is_dir(follow_symlinks=False)]
    except (FileNotFoundError, NotADirectoryError):
        return []


# -------------------------------------------------------------------------------------------------------------- opening


def _open(kind: Callable[[Path], Reader], path: Path) -> OpenForeign:
    reader = kind(path)
    return OpenForeign(str(reader.about.get("name", path.name)), path, reader)


def _opened(kind: Callable[[Path], Reader], path: Path) -> OpenForeign:
    try:
        return _open(kind, path)
    except (OSError, DamagedFile) as error:
        return OpenForeign(path.name, path, UnreadableReader(path, error))


def _of_processes(path: Path) -> list[OpenForeign]:
    """Return a shard for each process in an HDF5 file: of ALLogger 0.2, or one of ours that stands alone."""
    # These import h5py.
    from allogger.readers.allogger02 import Allogger02Reader
    from allogger.readers.hdf import HdfReader

    if shard_name_of(path.name, IMAGE) is not None:
        return [_open(HdfReader, path)]
    found = _OLD_FILE.fullmatch(path.name)
    start = float(found[1] or found[2]) if found else None
    first = Allogger02Reader(path, start)
    more = (Allogger02Reader(path, start, process) for process in first.processes[1:])
    return [OpenForeign(path.stem, path, reader) for reader in (first, *more)]


def _tolerant(path: Path) -> list[OpenForeign]:
    try:
        return _of_processes(path)
    except (OSError, DamagedFile) as error:
        return [OpenForeign(path.name, path, UnreadableReader(path, error))]


def _labelled(runs: list[OpenForeign]) -> list[OpenForeign]:
    """Tell several runs of a store apart: each is shown as a process under its own name."""
    names = [str(run.reader.about.get("label", run.name)) for run in runs]
    for run, name in zip(runs, names, strict=True):
        if len(runs) > 1 and isinstance(run.reader, MlflowReader | MlflowDatabaseReader):
            run.reader.process = name if names.count(name) == 1 else f"{name}@{run.name[:8]}"
    return runs


def _opened_tables(files: list[Path]) -> list[OpenForeign]:
    """Open the tables of a folder; several, such as one for each fold, stay apart by their names."""
    labels = [MAIN_PROCESS if len(files) == 1 or file.name in _ONE_OF_A_RUN else file.stem for file in files]
    return [_opened(partial(TableReader, process=its), file) for its, file in zip(labels, files, strict=True)]


def _without(shard: OpenForeign, other: OpenForeign) -> OpenForeign:
    return OpenForeign(shard.name, shard.path, ReaderWithout(shard.reader, other.reader))
