"""JsonlExporter: how do runs become a file with one JSON object for each value?"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from allogger.dtypes import dtype_to_json
from allogger.exporter import Exporter, Source, runs_of_kind
from allogger.exporters.text import is_plain, json_array, json_number, numbers, texts
from allogger.reader import objects

if TYPE_CHECKING:
    from allogger.series import Series

__all__ = ["JsonlExporter"]


class JsonlExporter(Exporter):
    """Writes ``{"key", "step", "time", "process", "kind", "value"}`` in each line, of several runs ``"run"`` in front.

    It is strict JSON: NaN and the infinities are the texts ``"NaN"``, ``"Infinity"`` and ``"-Infinity"``. Arrays are
    nested lists, with their ``"dtype"`` and ``"shape"`` beside them; of anything but real numbers it is their bytes.
    Attributes, such as the rate of a sound, are under ``"meta"``.
    """

    def export(self, sources: Sequence[Source], path: Path) -> None:
        """Write one line for each value."""
        with open(path, "x", encoding="ascii", newline="") as file:
            for source in sources:
                front = f'{{"run": {json.dumps(source.name)}, ' if source.name else "{"
                for key in source.keys:
                    for portion in source.portions(key):
                        file.writelines(self._lines(f'{front}"key": {json.dumps(key)}', portion))

    def _lines(self, front: str, portion: Series) -> Iterator[str]:
        meta = json.loads(json.dumps(dict(portion.meta)), parse_constant=str)
        end = f', "meta": {json.dumps(meta)}' if meta else ""
        for kind, rows in runs_of_kind(portion):
            steps = portion.step[rows].tolist()
            times = map(json_number, portion.time[rows].tolist())
            middle = f'"kind": {json.dumps(kind)}, "value": '
            labels = texts(portion.process[rows], json.dumps)
            values = self._values(portion, kind, rows)
            for step, time, process, value in zip(steps, times, labels, values, strict=True):
                if value is not None:
                    yield f'{front}, "step": {step}, "time": {time}, "process": {process}, {middle}{value}{end}}}\n'

    def _values(self, portion: Series, kind: str, rows: slice) -> Iterator[str | None]:
        values = portion.value[rows]
        if kind == "scalar" and is_plain(values):
            yield from map(json_number, numbers(values))
            return
        for item in objects(values):
            try:
                yield _value(item, kind)
            except (TypeError, ValueError) as error:
                self.reject(portion.key, 1, str(error))
                yield None


def _value(item: Any, kind: str) -> str:
    if isinstance(item, str):
        return json.dumps(item)
    array = np.asarray(item)
    if kind == "scalar":
        return json_number(numbers(array.reshape(1))[0])
    described = json.dumps(dtype_to_json(array.dtype))
    return f'{json_array(array)}, "dtype": {described}, "shape": {json.dumps(array.shape)}'
