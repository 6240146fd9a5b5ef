"""JournalChecker: what is in a journal, and how does it become an image when its process is gone?

A journal is read twice, in portions: the first time tells of which type a series is, the second time gives the values.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from allogger.checker import Checker, FileCheck
from allogger.checkers.digest import Digest
from allogger.checkers.hdf import digests_of
from allogger.errors import DamagedFile
from allogger.formats import journal
from allogger.formats.image import build_image
from allogger.reader import SeriesId
from allogger.readers.hdf import HdfReader
from allogger.rundir import IMAGE, JOURNAL, shard_name_of, sync_folder

__all__ = ["JournalChecker"]


class JournalChecker(Checker):
    """Looks after a journal and the image that is, or will be, beside it."""

    kind = "journal"

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self._image = path.with_name(path.stem + IMAGE)
        self._damaged = path.with_name(path.name + ".damaged")
        self._snapshot = path.with_name(self._image.name + ".snapshot")

    @staticmethod
    def shard_name(path: Path) -> str | None:
        """Return the name of the shard whose journal it is."""
        return shard_name_of(path.name, JOURNAL)

    def check(self) -> FileCheck:
        """Read all frames and compare the values with those of the image, which may be older."""
        # The image first: of a live journal it may be replaced by a newer one, never by an older one.
        image = self._image_digests()
        found, digests = self._read(image or {})
        if image is not None:
            what = _comparison(self._image.name, image, digests)
            (found.notes if _is_covered(image, digests) else found.damage).append(what)
        return found

    # -- mending

    def mend(self, *, dry_run: bool) -> list[str]:
        """Make the image, compare every value, and only then remove the journal; keep it aside if it is damaged."""
        before = self._image_digests()
        found, digests = self._read(before or {})
        if not digests and not found.damage:
            if not dry_run:
                self._remove()
            return [f"{self.path.name} removed: it holds no values"]
        # What damage took away may still be in an image that was made earlier.
        keeps_snapshot = bool(found.damage) and before is not None and not _is_covered(before, digests)
        done = [f"{self._snapshot.name} keeps an earlier image with other values"] if keeps_snapshot else []
        if digests:
            done.append(f"{self._image.name} made of {self.path.name}: {len(digests)} series, {found.values:,} values")
        if found.damage:
            done.append(f"{self._damaged.name} keeps the journal, which is damaged: {'; '.join(found.damage)}")
        if not dry_run:
            self._finish(found, digests, keeps_snapshot)
        return done

    def _finish(self, found: FileCheck, digests: Mapping[SeriesId, Digest], keeps_snapshot: bool) -> None:
        if keeps_snapshot and not self._snapshot.exists():
            os.link(self._image, self._snapshot)
        if digests:
            build_image(self.path, tolerate_damage=bool(found.damage))
            image = self._image_digests() or {}
            if not _are_same(image, digests):
                raise DamagedFile(f"{self._image.name} does not hold the values of {self.path.name}, which is kept")
        if found.damage:
            os.rename(self.path, self._damaged)
            sync_folder(self.path.parent)
        else:
            self._remove()

    def _remove(self) -> None:
        self.path.unlink(missing_ok=True)
        sync_folder(self.path.parent)

    # -- reading

    def _image_digests(self) -> dict[SeriesId, Digest] | None:
        """Return what stands for the values of the image, None without one; what is damaged in it is left out."""
        try:
            reader = HdfReader(self._image)
        except (FileNotFoundError, DamagedFile):
            return None
        try:
            return digests_of(reader, [])
        finally:
            reader.close()

    def _read(self, marks: Mapping[SeriesId, Digest]) -> tuple[FileCheck, dict[SeriesId, Digest]]:
        """Return what is in the journal, and what stands for its values; *marks* are those of the image."""
        with open(self.path, "rb", buffering=1 << 20) as file:
            scan, contents = journal.Scan(self.path.stem), journal.Contents(keep=False)
            damage = []
            for frame in journal.scan(file, scan):
                try:
                    contents.add(frame)
                except DamagedFile as error:
                    damage.append(str(error))
            named, trouble = contents.named(scan)
            names = {which: series for series, which in named.items()}
            digests: dict[SeriesId, Digest] = {}
            for which, columns in journal.portions(file, scan, contents):
                series = names.get(which)
                if series is not None:
                    mark = marks[series].count if series in marks else -1
                    digests.setdefault(series, Digest(mark)).update(columns)
        # Counted in the first pass, which puts nothing in order.
        for which, series in names.items():
            count = contents.count(which) - (digests[series].count if series in digests else 0)
            if count:
                damage.append(f"{count} values of {series.scope}/{series.key} cannot be read")
        found = FileCheck(self.path.name, self.kind, scan.offset + scan.torn_bytes, len(digests))
        found.values = sum(digest.count for digest in digests.values())
        found.torn_bytes = scan.torn_bytes
        found.damage = [*scan.damage, *dict.fromkeys(damage), *trouble]
        found.about = scan.about
        if scan.closed is not None:
            found.notes.append("its process had written everything")
        return found, digests


def _is_covered(image: Mapping[SeriesId, Digest], digests: Mapping[SeriesId, Digest]) -> bool:
    """Return whether every series of the image is the beginning of that of the journal."""
    return all(series in digests and digests[series].at_mark == digest.values for series, digest in image.items())


def _are_same(image: Mapping[SeriesId, Digest], digests: Mapping[SeriesId, Digest]) -> bool:
    def shown(all_: Mapping[SeriesId, Digest]) -> dict[SeriesId, tuple[int, bytes, bytes]]:
        return {series: (digest.count, digest.values, digest.layouts) for series, digest in all_.items()}

    return shown(image) == shown(digests)


def _comparison(name: str, image: Mapping[SeriesId, Digest], digests: Mapping[SeriesId, Digest]) -> str:
    if _are_same(image, digests):
        return f"{name} holds all of it"
    if _is_covered(image, digests):
        mine, all_ = (sum(digest.count for digest in one.values()) for one in (image, digests))
        return f"{name} is older: it holds {mine:,} of {all_:,} values"
    other = [s for s, digest in image.items() if s not in digests or digests[s].at_mark != digest.values]
    return f"{name} holds other values than the journal, of {len(other)} series ({other[0].scope}/{other[0].key})"
