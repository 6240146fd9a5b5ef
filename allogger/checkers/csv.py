"""CsvChecker: can every row of a CSV file be read?"""

from __future__ import annotations

from pathlib import Path

from allogger.checker import Checker, FileCheck
from allogger.errors import DamagedFile
from allogger.formats.csv import mend, rows, torn_bytes
from allogger.rundir import shard_name_of

__all__ = ["CsvChecker"]


class CsvChecker(Checker):
    """Looks after the table of one process. Rows behind a damaged one are not looked at."""

    kind = "csv"

    @staticmethod
    def shard_name(path: Path) -> str | None:
        """Return the name of the shard whose table it is."""
        return shard_name_of(path.name, ".csv")

    def check(self) -> FileCheck:
        """Read all rows."""
        found = FileCheck(self.path.name, self.kind, self.path.stat().st_size, torn_bytes=torn_bytes(self.path))
        keys = set()
        try:
            for row in rows(self.path):
                keys.add((row.kind, row.key))
                found.values += 1
                found.about = {"process": row.process}
        except DamagedFile as error:
            found.damage.append(str(error))
        found.series = len(keys)
        return found

    def mend(self, *, dry_run: bool) -> list[str]:
        """Cut off a last row that is not complete: pandas refuses a file that ends inside quotes."""
        cut = torn_bytes(self.path) if dry_run else mend(self.path)
        return [f"{self.path.name} rid of {cut} bytes of a row that is not complete"] if cut else []
