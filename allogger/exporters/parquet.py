"""ParquetExporter: how do runs become one Parquet file with a row for each value?"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from allogger.dtypes import dtype_to_json
from allogger.exporter import Exporter, Source, runs_of_kind
from allogger.formats.csv import escape
from allogger.reader import objects

if TYPE_CHECKING:
    from allogger.series import Series

__all__ = ["ParquetExporter"]

_GROUP_ROWS, _GROUP_BYTES = 2**18, 32 * 2**20
_NAME = pa.dictionary(pa.int32(), pa.string())
_COLUMNS = [
    ("key", _NAME),
    ("step", pa.int64()),
    ("time", pa.float64()),
    ("process", _NAME),
    ("kind", _NAME),
    ("value", pa.float64()),
    ("integer", pa.int64()),
    ("text", pa.string()),
    ("dtype", _NAME),
    ("shape", pa.list_(pa.int64())),
    ("data", pa.binary()),
]


class ParquetExporter(Exporter):
    """Writes columns ``key, step, time, process, kind`` and the value in those columns that can hold it, else null.

    ``value``: every real number as float64. ``integer``: integers and bools, exactly. ``text``: texts; what UTF-8
    cannot carry is escaped, and the exact bytes stand in ``data``. ``dtype`` says what a number or array was.
    ``data``: the bytes of arrays, of ``shape`` (C order), and of numbers that neither column holds exactly.
    """

    def export(self, sources: Sequence[Source], path: Path) -> None:
        """Write one row for each value, a quarter of a million of them at once."""
        several = any(source.name for source in sources)
        schema = pa.schema([("run", _NAME)] * several + _COLUMNS)
        with pq.ParquetWriter(path, schema) as writer:
            waiting: list[pa.Table] = []
            for source in sources:
                for key in source.keys:
                    for portion in source.portions(key):
                        waiting += self._tables(source.name, portion, schema)
                        if sum(map(len, waiting)) >= _GROUP_ROWS or sum(t.nbytes for t in waiting) >= _GROUP_BYTES:
                            _write(writer, waiting)
            _write(writer, waiting)

    def _tables(self, run: str, portion: Series, schema: pa.Schema) -> list[pa.Table]:
        tables = []
        for kind, rows in runs_of_kind(portion):
            count = rows.stop - rows.start
            labels, codes = np.unique(portion.process[rows].astype(str), return_inverse=True)
            columns: dict[str, Any] = {
                "run": _repeated(run, count),
                "key": _repeated(escape(portion.key), count),
                "step": portion.step[rows],
                "time": portion.time[rows],
                "process": pa.DictionaryArray.from_arrays(
                    codes.astype(np.int32), [escape(str(label)) for label in labels]
                ),
                "kind": _repeated(escape(kind), count),
                **_values(portion.value[rows]),
            }
            arrays = [
                pa.array(columns[field.name], field.type) if field.name in columns else pa.nulls(count, field.type)
                for field in schema
            ]
            tables.append(pa.Table.from_arrays(arrays, schema=schema))
        return tables


def _write(writer: pq.ParquetWriter, waiting: list[pa.Table]) -> None:
    if waiting:
        writer.write_table(pa.concat_tables(waiting).unify_dictionaries())
        waiting.clear()


def _repeated(text: str, count: int) -> pa.DictionaryArray:
    return pa.DictionaryArray.from_arrays(np.zeros(count, np.int32), [text])


def _values(value: NDArray[Any]) -> dict[str, Any]:
    """Return the columns that hold the values."""
    if value.ndim == 1 and value.dtype in (np.float64, np.int64, np.bool_):
        columns: dict[str, Any] = {"value": value.astype(np.float64)}
        if value.dtype != np.float64:
            columns["integer"] = value.astype(np.int64)
        return columns | {"dtype": _repeated(value.dtype.str, len(value))}
    rows = [_cells(item) for item in objects(value)]
    return {name: [row.get(name) for row in rows] for name in ("value", "integer", "text", "dtype", "shape", "data")}


def _cells(item: Any) -> dict[str, Any]:
    if isinstance(item, str):
        readable = escape(item)
        return {"text": item} if readable == item else {"text": readable, "data": item.encode("utf-8", "surrogatepass")}
    array = np.asarray(item)
    descr = dtype_to_json(array.dtype)
    cells: dict[str, Any] = {"dtype": descr if isinstance(descr, str) else json.dumps(descr)}
    if array.ndim == 0 and array.dtype.kind in "biuf":
        cells["value"] = float(array)
        if array.dtype.kind != "f" and -(2**63) <= int(array) < 2**63:
            cells["integer"] = int(array)
            return cells
        if array.dtype.kind == "f" and array.dtype.itemsize <= 8:
            return cells
    return cells | {"shape": list(array.shape), "data": array.tobytes()}
