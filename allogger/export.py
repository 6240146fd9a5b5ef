"""Export: how does a file of another format come from runs, whole or not at all?"""

from __future__ import annotations

import contextlib
import itertools
import logging
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from allogger.errors import ConfigError, DamagedFile, NoSuchKey, UnknownName
from allogger.exporter import Exporter, Source
from allogger.kind import MEDIA, Kind
from allogger.plain import Unstorable
from allogger.reader import objects
from allogger.registry import exporters, kinds

if TYPE_CHECKING:
    from allogger.media import Media
    from allogger.series import Series
    from allogger.store import Run

__all__ = ["export"]

_SUFFIXES = {".csv": "csv", ".parquet": "parquet", ".jsonl": "jsonl", ".npz": "npz", ".h5": "hdf", ".hdf5": "hdf"}
_MAX_NAMED = 5
# What is read is stored in this form too, unless its kind shows it as something else.
_STORED = (str, np.ndarray, np.generic, bool, int, float, complex)
_counter = itertools.count()

Progress = Callable[[float, str], object]


def export(
    runs: Run | Sequence[Run],
    path: str | os.PathLike[str],
    format: str | None = None,
    pattern: str | None = None,
    *,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> Path:
    """Write all values of one or several runs to *path* and return it.

    *format*: ``csv`` (a row for each value), ``csv-wide`` (a row for each step), ``parquet``, ``jsonl``, ``npz``,
    ``hdf`` or ``tensorboard`` (a folder); without it, the suffix of *path* tells. *pattern* chooses the full keys.
    *progress* is called with the share that is done (0 to 1) and the key.

    The file appears when it is complete. What is there already stays, unless *overwrite*. Values that a format cannot
    hold are left out, and named in a warning of the standard `logging`. Raises `ConfigError`, `NoSuchKey` if there is
    no such key, `MissingDependency`, or the `OSError` of the disk.
    """
    target = Path(path)
    exporter = exporters[format or _format_of(target)]()
    found = [runs] if not isinstance(runs, Sequence) else list(runs)
    names = _names(found) if isinstance(runs, Sequence) else [""]
    keys = [run.keys(pattern) for run in found]
    if not any(keys):
        raise NoSuchKey(f"no key matches {pattern!r}" if pattern else "there is no value to export")
    count = sum(map(len, keys))
    rows = exporter.portion_rows(count)
    share = _Share(count * exporter.passes, progress)
    sources = [
        Source(name, _start(run), its, partial(_portions, run, rows=rows, share=share))
        for name, run, its in zip(names, found, keys, strict=True)
    ]
    _refuse(target, exporter, overwrite)
    temporary = target.with_name(f".{target.name}.{os.getpid()}-{next(_counter)}.tmp")
    try:
        exporter.export(sources, temporary)
        _install(temporary, target, overwrite)
    except BaseException:
        _remove(temporary)
        raise
    _tell(target, exporter)
    if progress is not None:
        progress(1.0, "")
    return target


def _format_of(path: Path) -> str:
    if path.suffix.lower() not in _SUFFIXES:
        raise ConfigError(
            f"the suffix of {str(path)!r} tells no format; give format= one of: {', '.join(exporters.names())}"
        )
    return _SUFFIXES[path.suffix.lower()]


def _names(runs: Sequence[Run]) -> list[str]:
    """Return a name for each run: as much of the end of its path as tells it from the others."""
    paths = [run.logdir.absolute().parts for run in runs]
    for length in range(1, max(map(len, paths), default=1) + 1):
        names = ["/".join(parts[-length:]) for parts in paths]
        if len(set(names)) == len(names):
            return names
    raise ConfigError("the same run is given twice")


def _start(run: Run) -> float:
    created = run.about.get("created")
    return created if isinstance(created, float) else 0.0


class _Share:
    """How much of an export is done."""

    def __init__(self, keys: int, progress: Progress | None) -> None:
        self._keys, self._progress = keys, progress
        self._done = 0

    def tell(self, key: str, part: float) -> None:
        if self._progress is not None:
            self._progress(min((self._done + part) / self._keys, 1.0), key)

    def key_is_done(self, key: str) -> None:
        self._done += 1
        self.tell(key, 0.0)


def _portions(run: Run, key: str, *, rows: int, share: _Share) -> Iterator[Series]:
    # One key that is lost must not cost the others; the loss has been told.
    with contextlib.suppress(DamagedFile):
        done = 0
        told = _Told(run, key)
        for portion in run.portions(key, rows):
            for part in told.of(portion):
                yield from _as_stored(part)
            done += len(portion)
            if len(portion) == rows:
                share.tell(key, min(done / max(run.summary(key).count, 1), 1.0))
    share.key_is_done(key)


class _Told:
    """What portions do not tell: which values of a mixed series are media, and attributes that differ among values."""

    def __init__(self, run: Run, key: str) -> None:
        self._run, self._key = run, key
        self._media: Media | None = None
        # Their order is another one than that of the series where only these are sorted by their steps.
        self._numbers: dict[tuple[int, float, str], list[int]] = {}

    def of(self, portion: Series) -> Iterator[Series]:
        """Yield *portion*, or its values with the kind and the attributes, such as a rate, that each of them has."""
        if portion.kind not in (*MEDIA, "mixed") or portion.meta or (media := self._known()) is None:
            yield portion
            return
        start = 0
        for row, place in enumerate(_places(portion)):
            if numbers := self._numbers.get(place):
                number = numbers.pop(0)
                attrs = media.attrs(number)
                if portion.kind != "mixed" and not attrs:
                    break  # nor do the others of this kind have any
                if start < row:
                    yield portion[start:row]
                yield replace(portion[row : row + 1], kind=media.kind(number), meta=attrs)
                start = row + 1
        if start < len(portion):
            yield portion[start:]

    def _known(self) -> Media | None:
        if self._media is None:
            with contextlib.suppress(ConfigError):  # a mixed series without any
                self._media = self._run.media(self._key)
                for number, place in enumerate(_places(self._media)):
                    self._numbers.setdefault(place, []).append(number)
        return self._media


def _places(values: Series | Media) -> Iterator[tuple[int, float, str]]:
    return zip(values.step.tolist(), values.time.tolist(), values.process.tolist(), strict=True)


def _as_stored(portion: Series) -> Iterator[Series]:
    """Yield *portion* itself or, of values that are shown as objects, such as tables, each as it is stored."""
    values = portion.value
    if values.dtype != object or all(isinstance(value, _STORED) for value in values):
        yield portion
        return
    names = list(kinds.builtin) if portion.kind == "mixed" else [portion.kind]
    for row, value in enumerate(values):
        one = portion[row : row + 1]
        yield one if isinstance(value, _STORED) else _encoded(one, value, names)


def _encoded(one: Series, value: Any, names: Sequence[str]) -> Series:
    for name in names:
        # Of a mixed series nobody knows of which kind a value is.
        with contextlib.suppress(Unstorable, UnknownName):
            if kinds[name].decode is not Kind.decode:
                payload, attrs = kinds[name]().encode(value)
                return replace(one, kind=name, value=objects([payload]), meta=attrs)
    return one


# ---------------------------------------------------------------------------------------------------------- the target


def _refuse(target: Path, exporter: Exporter, overwrite: bool) -> None:
    if not os.path.lexists(target):
        return
    if not overwrite:
        raise ConfigError(f"{str(target)!r} exists; choose another path, or overwrite=True")
    if target.is_dir() != exporter.makes_folder or target.is_symlink():
        raise ConfigError(f"{str(target)!r} is not what this export makes, so it is not overwritten")
    if exporter.makes_folder and any(
        not name.startswith("events.out.tfevents.") for _, _, files in os.walk(target) for name in files
    ):
        raise ConfigError(f"{str(target)!r} holds other files than event files, so it is not overwritten")


def _install(temporary: Path, target: Path, overwrite: bool) -> None:
    if temporary.is_dir():
        if overwrite and target.is_dir():
            shutil.rmtree(target)
        os.rename(temporary, target)
        return
    with open(temporary, "rb") as file:
        os.fsync(file.fileno())
    if overwrite:
        os.replace(temporary, target)
        return
    try:
        # Unlike a rename, this does not replace what has appeared there meanwhile.
        os.link(temporary, target)
    except FileExistsError:
        raise ConfigError(f"{str(target)!r} exists; choose another path, or overwrite=True") from None
    except OSError:  # a file system without hard links
        _refuse_late(target)
        os.rename(temporary, target)
    else:
        temporary.unlink()


def _refuse_late(target: Path) -> None:
    if os.path.lexists(target):
        raise ConfigError(f"{str(target)!r} exists; choose another path, or overwrite=True")


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    path.unlink(missing_ok=True)


def _tell(target: Path, exporter: Exporter) -> None:
    lost = [f"{count} values of {key!r} ({why})" for key, (count, why) in sorted(exporter.rejected.items())]
    if lost:
        more = f"; and values of {len(lost) - _MAX_NAMED} more keys" if len(lost) > _MAX_NAMED else ""
        logging.getLogger("allogger").warning(
            "%s does not hold everything: %s%s", target, "; ".join(lost[:_MAX_NAMED]), more
        )
