"""HdfChecker: is a finished HDF5 file whole, and does its index say the same?"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from allogger.checker import Checker, FileCheck
from allogger.checkers.digest import Digest
from allogger.errors import DamagedFile
from allogger.reader import SeriesId
from allogger.readers.hdf import HdfReader
from allogger.rundir import IMAGE, INDEX, JOURNAL, atomic_write, load_json, shard_name_of

__all__ = ["HdfChecker", "digests_of"]


class HdfChecker(Checker):
    """Looks after an image and the index beside it; reads one series after the other.

    The image of a shard that has a journal is a snapshot. Its index is of no use to anybody, and nobody expects one.
    """

    kind = "hdf"

    @staticmethod
    def shard_name(path: Path) -> str | None:
        """Return the name of the shard whose image it is."""
        return shard_name_of(path.name, IMAGE)

    def check(self) -> FileCheck:
        """Read all series."""
        found = FileCheck(self.path.name, self.kind, self.path.stat().st_size)
        try:
            reader = HdfReader(self.path)
        except DamagedFile as error:
            found.damage.append(str(error))
            return found
        try:
            digests = digests_of(reader, found.damage)
            found.about = dict(reader.about)
            found.series, found.values = len(digests), sum(digest.count for digest in digests.values())
            index = self._index(reader, found.damage)
        finally:
            reader.close()
        lost = found.about.get("damage")
        found.damage += [f"before this file was made: {what}" for what in lost] if isinstance(lost, list) else []
        found.damage += _contradictions(index, digests)
        if index and not self._is_snapshot:
            found.notes += [f"{self._index_path.name} {what}" for what in self._trouble_of_index(index)]
        return found

    def mend(self, *, dry_run: bool) -> list[str]:
        """Write the index anew if it is missing or not that of the file."""
        if self._is_snapshot:
            return []
        reader = HdfReader(self.path)
        try:
            index = self._index(reader, [])
        finally:
            reader.close()
        trouble = self._trouble_of_index(index) if index else []
        if trouble and not dry_run:
            atomic_write(self._index_path, json.dumps(index).encode())
        return [f"{self._index_path.name} written anew: it {what}" for what in trouble]

    @property
    def _index_path(self) -> Path:
        return self.path.with_name(self.path.stem + INDEX)

    @property
    def _is_snapshot(self) -> bool:
        return self.path.with_name(self.path.stem + JOURNAL).exists()

    def _index(self, reader: HdfReader, damage: list[str]) -> Mapping[str, Any]:
        """Return the index inside the file, empty if there is none that can be used."""
        try:
            return reader.index
        except Exception as error:  # it may hold anything
            damage.append(f"the index in the file is damaged: {error}")
            return {}

    def _trouble_of_index(self, index: Mapping[str, Any]) -> list[str]:
        if not self._index_path.exists():
            return ["was missing"]
        # As texts, because NaN is not equal to itself.
        found, expected = (json.dumps(one, sort_keys=True) for one in (load_json(self._index_path), index))
        return [] if found == expected else ["was not that of this file"]


def digests_of(reader: HdfReader, damage: list[str]) -> dict[SeriesId, Digest]:
    """Return what stands for the values of each series that can be read; tell in *damage* about the others."""
    found = {}
    for series in reader.keys():  # noqa: SIM118  # no mapping
        try:
            columns = reader.read(series)
        except DamagedFile:
            continue  # the reader notes it
        found[series] = Digest()
        found[series].update(columns)
    damage += reader.damage
    return found


def _contradictions(index: Mapping[str, Any], digests: Mapping[SeriesId, Digest]) -> list[str]:
    """Return which series have fewer or more values than the index of the same file says."""
    try:
        counts = {SeriesId(one["kind"], one["scope"], one["key"]): one["count"] for one in index.get("series", ())}
    except (LookupError, TypeError) as error:
        return [f"the index in the file is damaged: {error!r}"]
    return [
        f"{series.scope}/{series.key}: {digest.count} of {counts[series]} values"
        for series, digest in digests.items()
        if counts.get(series, digest.count) != digest.count
    ]
