"""CsvExporter: how do runs become one CSV table with a row for each value?"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from allogger.exporter import Exporter, Source, runs_of_kind
from allogger.exporters.text import is_plain, json_array, numbers, texts
from allogger.formats.csv import HEADER, escape
from allogger.reader import objects

if TYPE_CHECKING:
    from allogger.series import Series

__all__ = ["CsvExporter", "cell", "quoted"]

_NEEDS_QUOTES = re.compile('[,"\r\n]')


class CsvExporter(Exporter):
    """Writes the columns of the output ``csv`` (``allogger.formats.csv``), of several runs with ``run`` in front.

    Numbers are spelt so that they read back to the last bit. An array is a JSON list in its cell; the dtype is lost,
    but for arrays of anything else than real numbers, which are a JSON object with their bytes.
    """

    def export(self, sources: Sequence[Source], path: Path) -> None:
        """Write one row for each value."""
        with open(path, "x", encoding="utf-8", newline="") as file:
            several = any(source.name for source in sources)
            file.write("run," * several + HEADER.decode())
            for source in sources:
                front = f"{quoted(source.name)}," * several
                for key in source.keys:
                    for portion in source.portions(key):
                        file.writelines(self._lines(front + quoted(key), portion))

    def _lines(self, front: str, portion: Series) -> Iterator[str]:
        for kind, rows in runs_of_kind(portion):
            columns = (portion.step[rows].tolist(), portion.time[rows].tolist())
            middle = quoted(kind)
            labels = texts(portion.process[rows], quoted)
            for step, time, process, value in zip(*columns, labels, self._cells(portion, kind, rows), strict=True):
                if value is not None:
                    yield f"{front},{step},{time!r},{process},{middle},{value}\n"

    def _cells(self, portion: Series, kind: str, rows: slice) -> Iterator[str | None]:
        values = portion.value[rows]
        if kind == "scalar" and is_plain(values):
            yield from map(repr, values.tolist())
            return
        for item in objects(values):
            try:
                yield cell(item) if kind == "scalar" else array_cell(item)
            except (TypeError, ValueError) as error:
                self.reject(portion.key, 1, str(error))
                yield None


def cell(item: Any) -> str:
    """Return a number, or a text, as a cell."""
    if isinstance(item, str):
        return quoted(item)
    (number,) = numbers(np.asarray(item).reshape(1))
    return repr(number) if isinstance(number, bool | int | float | complex) else str(number)


def array_cell(item: Any) -> str:
    """Return an array, or a text, as a cell."""
    return quoted(item if isinstance(item, str) else json_array(np.asarray(item)))


def quoted(text: str) -> str:
    """Return a text as a cell; what a reader of CSV cannot take is escaped."""
    text = escape(text)
    return '"' + text.replace('"', '""') + '"' if _NEEDS_QUOTES.search(text) else text
