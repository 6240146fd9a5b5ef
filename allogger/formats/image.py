"""Image: how does a journal become a finished HDF5 file?"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from allogger.errors import DamagedFile
from allogger.formats import journal
from allogger.formats.hdf import ImageBuilder, SeriesPlan, converters
from allogger.reader import Columns, SeriesId
from allogger.record import normal_scope
from allogger.rundir import IMAGE, INDEX, atomic_write

__all__ = ["build_image"]

# Values are brought into the order of their series in portions of this size.
_ROWS_AT_ONCE = 1 << 19
_BYTES_AT_ONCE = 8 << 20


def build_image(source: Path, *, tolerate_damage: bool = False) -> dict[str, Any]:
    """Build, beside the journal *source*, the HDF5 file and the index that hold the same values; return the index.

    Memory stays bounded. The journal is left as it is. Raises `OSError` if the disk does not take the file, and, unless
    *tolerate_damage*, `DamagedFile` if the journal is damaged: then it is worth more than an image of what is left.
    """
    with open(source, "rb", buffering=1 << 20) as file:
        found, contents = _first_pass(file, source.stem)
        if found.damage and not tolerate_damage:
            raise DamagedFile(f"{source}: {found.damage[0]}")
        about = {**found.about, "name": source.stem}
        if found.damage:
            about["damage"] = found.damage
        plan = {
            _id(found, which): SeriesPlan(contents.count(which), contents.layout_count(which))
            for which in contents.series()
            if which[0] in found.names
        }
        with converters(), ImageBuilder(source.with_name(source.stem + IMAGE), about, plan) as builder:
            for which, columns in _pieces(file, source.stem, contents):
                if which[0] in found.names:
                    builder.append(_id(found, which), columns)
            index = builder.finish()
    atomic_write(source.with_name(source.stem + INDEX), json.dumps(index).encode())
    return index


def _id(found: journal.Scan, which: tuple[int, str]) -> SeriesId:
    scope, key = found.names[which[0]]
    return SeriesId(which[1], normal_scope(scope), key)


def _first_pass(file: IO[bytes], name: str) -> tuple[journal.Scan, journal.Contents]:
    found, contents = journal.Scan(name), journal.Contents(keep=False)
    for frame in journal.scan(file, found):
        try:
            contents.add(frame)
        except DamagedFile as error:
            found.damage.append(str(error))
    return found, contents


def _pieces(file: IO[bytes], name: str, plan: journal.Contents) -> Iterator[tuple[tuple[int, str], Columns]]:
    """Yield the values of all series, each series' in order, in portions of bounded size."""
    file.seek(0)
    # Numbers mixed with other scalars under one key are rare and wait for the end, where they are sorted.
    mixed = {index for index, kind in plan.objects if kind == "scalar"}
    late = journal.Contents()
    rows: list[journal.Rows] = []
    objects: dict[tuple[int, str], list[tuple[dict[str, Any], NDArray[Any] | str]]] = {}
    n_rows = n_bytes = 0
    for frame in journal.scan(file, journal.Scan(name)):
        try:
            if frame.type == journal.ROWS:
                part = journal.decode_rows(frame)
                if mixed:
                    apart = np.isin(part.series, list(mixed))
                    late.add(frame) if apart.any() else None
                    part = part.take(~apart)
                rows.append(part)
                n_rows += len(part.series)
            else:
                meta = journal.object_meta(frame)
                which = (meta["series"], str(meta["kind"]))
                if which[1] == "scalar":
                    late.add(frame)
                    continue
                objects.setdefault(which, []).append((meta, journal.object_payload(frame, meta)))
                n_bytes += len(frame.payload) + 500
        except DamagedFile:
            continue  # the first pass has told
        if n_rows >= _ROWS_AT_ONCE:
            yield from _numbers(rows, plan)
            rows, n_rows = [], 0
        if n_bytes >= _BYTES_AT_ONCE:
            yield from _objects(objects)
            objects, n_bytes = {}, 0
    yield from _numbers(rows, plan)
    yield from _objects(objects)
    for index in sorted(mixed):
        yield (index, "scalar"), journal.mixed_columns(file, late, index, [])


def _numbers(rows: list[journal.Rows], plan: journal.Contents) -> Iterator[tuple[tuple[int, str], Columns]]:
    for index, part in journal.in_series(rows):
        yield (index, "scalar"), Columns(part.step, part.time, journal.numbers(part, plan.dtype(index)))


def _objects(
    objects: dict[tuple[int, str], list[tuple[dict[str, Any], NDArray[Any] | str]]],
) -> Iterator[tuple[tuple[int, str], Columns]]:
    for which, items in objects.items():
        yield which, journal.object_columns(items)


if __name__ == "__main__":
    # A snapshot of a live journal, made beside the program that writes it and never in its way.
    os.nice(10)
    build_image(Path(sys.argv[1]), tolerate_damage=True)
