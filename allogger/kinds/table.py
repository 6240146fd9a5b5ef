"""TableKind: how are the columns of a table stored, so that a DataFrame comes back?"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from allogger.dtypes import dtype_from_json
from allogger.kind import Kind
from allogger.plain import Unstorable, description, plain
from allogger.record import Payload

__all__ = ["Column", "TableKind", "columns_of"]

# Each cell of a field takes as much as the longest.
_LONGEST_TEXT = 64
# Those of pandas whose missing values are marked, and what holds the others.
_NULLABLE = {
    **{f"{sign}Int{bits}": f"{sign}int{bits}".lower() for sign in ("", "U") for bits in (8, 16, 32, 64)},
    "Float32": "float32",
    "Float64": "float64",
    "boolean": "bool",
    "string": "U",
    "str": "U",
}


class Column(NamedTuple):
    """A column: its *about*, and its cells as an array or as a list of what JSON holds.

    ``about`` has its ``name`` and, if the array does not say it, its ``dtype`` in the words of pandas: ``"object"``,
    ``"Int64"``, ``"datetime64[ns, UTC]"`` and the like. Of a ``"category"`` the cells are numbers of its
    ``categories``, which are ``is_ordered`` or not.
    """

    about: dict[str, Any]
    cells: NDArray[Any] | list[Any]


class TableKind(Kind):
    """A table: a dict of columns, a list of dicts, an array with fields, or a DataFrame of pandas or polars.

    It reads back as a DataFrame of pandas with the same names and dtypes. It is stored as an array with one field for
    each column or, with missing or mixed cells or texts of more than 64 characters, as JSON. The attributes are
    ``columns``, see `Column`, and how many of them, in front, are the ``index``.
    """

    name = "table"

    def accepts(self, value: Any) -> bool:
        """Return False: a table of which nobody says so is an array, and a dict one series for each leaf."""
        return False

    def encode(self, value: Any) -> tuple[Payload, Mapping[str, Any]]:
        """Return the cells and what is known of the columns; raises `Unstorable` for what would not read back."""
        try:
            index, columns = _table(value)
            lengths = {len(column.cells) for column in columns}
            if len(lengths) > 1:
                raise Unstorable(f"the columns of a table are of one length, not of {sorted(lengths)}")
            attrs = {"columns": [column.about for column in columns], "index": index}
            return _fields(columns) if _has_fields(columns) else _json(columns, _row_count(value, lengths)), attrs
        except Unstorable:
            raise
        except Exception as error:
            raise Unstorable(f"the table cannot be read: {type(error).__name__}") from error

    def decode(self, payload: Payload, attrs: Mapping[str, Any]) -> Any:
        """Return the table as a DataFrame of pandas."""
        from allogger.tables import frame_of

        rows = len(payload) if isinstance(payload, np.ndarray) else json.loads(payload)["rows"]
        return frame_of([(column.about, column.cells) for column in columns_of(payload, attrs)], attrs["index"], rows)


def columns_of(payload: Payload, attrs: Mapping[str, Any]) -> list[Column]:
    """Return the columns of a table as it is stored."""
    if isinstance(payload, np.ndarray):
        cells: Iterable[Any] = (payload[name] for name in payload.dtype.names or ())
    else:
        cells = map(_from_json, json.loads(payload)["cells"])
    return [Column(_about(about), its) for about, its in zip(attrs["columns"], cells, strict=True)]


def _about(stored: Mapping[str, Any]) -> dict[str, Any]:
    about = dict(stored)
    if "categories" in about:
        about["categories"] = _from_json(about["categories"])
    return about


# -------------------------------------------------------------------------------------------------------------- columns


def _table(value: Any) -> tuple[int, list[Column]]:
    """Return how many of the columns are the index, and the columns."""
    if isinstance(value, Mapping):
        return 0, [_column(name, cells) for name, cells in value.items()]
    if hasattr(type(value), "iloc") and hasattr(value, "columns"):
        return _of_pandas(value)
    if hasattr(type(value), "get_columns"):
        return 0, [_column(series.name, series) for series in value.get_columns()]
    if isinstance(value, np.ndarray) and value.dtype.names is not None:
        return 0, [_column(name, value[name]) for name in value.dtype.names]
    if isinstance(value, list | tuple) and all(isinstance(row, Mapping) for row in value):
        names = dict.fromkeys(name for row in value for name in row)
        return 0, [_column(name, [row.get(name) for row in value]) for name in names]
    raise Unstorable(f"a table is a dict of columns, a list of dicts or a DataFrame, not {description(value)}")


def _row_count(value: Any, lengths: set[int]) -> int:
    # Without columns the rows may be there all the same.
    return lengths.pop() if lengths else 0 if isinstance(value, Mapping) else len(value)


def _of_pandas(frame: Any) -> tuple[int, list[Column]]:
    index = frame.index
    is_counted = type(index).__name__ == "RangeIndex" and (index.start, index.step, index.name) == (0, 1, None)
    levels = [] if is_counted else [index.get_level_values(place).to_series() for place in range(index.nlevels)]
    series = [*levels, *(frame.iloc[:, place] for place in range(frame.shape[1]))]
    return len(levels), [_series(each.name, each) for each in series]


def _column(name: Any, cells: Any) -> Column:
    """Return a column of any library."""
    if hasattr(type(cells), "iloc"):
        return _series(name, cells)
    if hasattr(type(cells), "null_count") and (found := _of_polars(name, cells)) is not None:
        return found
    items = list(cells) if isinstance(cells, range | list | tuple) or hasattr(type(cells), "null_count") else None
    try:
        array = plain(cells if items is None else items, as_array=True)
    except Unstorable:
        if items is None:
            raise
        return _of_objects(name, items)
    if not isinstance(array, np.ndarray) or array.ndim != 1:
        raise Unstorable(f"the column {name!r:.80} of a table is {description(cells)}, not one of single cells")
    return _of_array(name, array)


def _of_polars(name: Any, series: Any) -> Column | None:
    """Return a column whose dtype pandas has too; None for one that is like any list."""
    dtype = str(series.dtype)
    if zone := getattr(series.dtype, "time_zone", None):
        cells = series.to_numpy()
        return Column({"name": _name(name), "dtype": f"datetime64[{np.datetime_data(cells.dtype)[0]}, {zone}]"}, cells)
    if dtype.startswith(("Date", "Duration")) or (dtype in _NULLABLE and not series.null_count()):
        return _of_array(name, series.to_numpy())
    nullable = {"Boolean": "boolean", "String": "string"}.get(dtype, dtype)
    if nullable not in _NULLABLE:
        return None
    return _of_nullable(name, nullable, series.to_list())


def _series(name: Any, series: Any) -> Column:
    """Return a column of pandas."""
    dtype = series.dtype
    if isinstance(dtype, np.dtype):
        return _of_objects(name, series.tolist()) if dtype.kind == "O" else _of_array(name, series.to_numpy())
    if str(dtype) == "category":
        categories = _series(None, series.cat.categories.to_series())
        about = {
            "categories": _to_json(categories.cells),
            "of": categories.about,
            "is_ordered": bool(series.cat.ordered),
        }
        return Column({"name": _name(name), "dtype": "category", **about}, series.cat.codes.to_numpy())
    if str(dtype).startswith("datetime64["):
        naive = series.dt.tz_convert("UTC").dt.tz_localize(None)
        return Column({"name": _name(name), "dtype": str(dtype)}, naive.to_numpy())
    if str(dtype) not in _NULLABLE:
        raise Unstorable(f"the column {name!r:.80} of a table is of dtype {dtype}, which is not known")
    return _of_nullable(name, str(dtype), series.astype(object).tolist())


def _of_array(name: Any, array: NDArray[Any]) -> Column:
    if array.dtype.kind not in "biufcmMUS":
        raise Unstorable(f"the column {name!r:.80} of a table is of dtype {array.dtype}")
    if array.dtype.kind == "U":
        return Column({"name": _name(name), "dtype": "text"}, _texts(array.tolist()))
    # pandas has no other byte order.
    return Column({"name": _name(name)}, np.array(array, array.dtype.newbyteorder("="), copy=True))


def _of_nullable(name: Any, dtype: str, items: list[Any]) -> Column:
    cells: NDArray[Any] | list[Any] = [_scalar(item) for item in items]
    if _NULLABLE[dtype] == "U":
        cells = _texts(cells)
    elif None not in cells:
        cells = np.array(cells, _NULLABLE[dtype])
    return Column({"name": _name(name), "dtype": dtype}, cells)


def _of_objects(name: Any, items: list[Any]) -> Column:
    return Column({"name": _name(name), "dtype": "object"}, _texts([_scalar(item) for item in items]))


def _texts(cells: Any) -> NDArray[Any] | list[Any]:
    """Return cells as an array if all of them are short texts, which an array keeps if they do not end in NUL."""
    is_short = all(type(cell) is str and len(cell) <= _LONGEST_TEXT and not cell.endswith("\0") for cell in cells)
    return np.array(cells, "U") if len(cells) and is_short else list(cells)


def _name(name: Any) -> Any:
    found = name.item() if isinstance(name, np.generic) else name
    if found is None or type(found) in (str, int, float, bool):
        return found
    raise Unstorable(f"the columns of a table are called by texts or numbers, not by {description(name)}")


def _scalar(item: Any) -> Any:
    """Return a cell as JSON holds it; pandas' NA is None."""
    if item is None or type(item).__name__ == "NAType":
        return None
    if isinstance(item, np.generic) and item.dtype.kind in "biufU" and item.dtype.itemsize <= 8:
        item = item.item()
    for own in (bool, int, float, str):
        if isinstance(item, own):
            return own(item) if own is not str else str.__str__(item)
    raise Unstorable(f"a cell of a table is a number, a text or None, not {description(item)}")


# ---------------------------------------------------------------------------------------------------------- the payload


def _has_fields(columns: Sequence[Column]) -> bool:
    return bool(columns) and all(isinstance(column.cells, np.ndarray) for column in columns)


def _fields(columns: Sequence[Column]) -> NDArray[Any]:
    names = [str(column.about["name"]) for column in columns]
    if len(set(names)) < len(names) or "" in names:
        names = [f"column{place}" for place in range(len(columns))]
    cells = [np.asarray(column.cells) for column in columns]
    rows = np.empty(len(cells[0]), [(name, its.dtype) for name, its in zip(names, cells, strict=True)])
    for name, its in zip(names, cells, strict=True):
        rows[name] = its
    return rows


def _json(columns: Sequence[Column], rows: int) -> str:
    return json.dumps({"rows": rows, "cells": [_to_json(column.cells) for column in columns]}, ensure_ascii=False)


def _to_json(cells: NDArray[Any] | list[Any]) -> Any:
    """Return cells as JSON holds them: a list, or the dtype of an array and its cells."""
    if isinstance(cells, list):
        return cells
    kind = cells.dtype.kind
    if kind == "S" or (kind in "fc" and cells.real.dtype.itemsize > 8):
        raise Unstorable(f"a table of which one column is of dtype {cells.dtype} and another has missing or long cells")
    items = cells.view("i8") if kind in "mM" else cells.view(cells.real.dtype) if kind == "c" else cells
    return {"dtype": cells.dtype.str, "cells": items.tolist()}


def _from_json(told: Any) -> NDArray[Any] | list[Any]:
    """Return what `_to_json` was given."""
    if isinstance(told, list):
        return told
    dtype = dtype_from_json(told["dtype"])
    # Times are written as integers, a complex number as two others.
    written = np.dtype("i8") if dtype.kind in "mM" else np.dtype(dtype.char.lower()) if dtype.kind == "c" else dtype
    cells: NDArray[Any] = np.array(told["cells"], written).view(dtype)
    return cells
