"""TensorboardExporter: how do runs become event files that TensorBoard shows?"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from allogger.exporter import Exporter, Source, by_process, runs_of_kind
from allogger.names import file_name, split_full_key
from allogger.reader import objects
from allogger.record import FLOAT, Batch, Record
from allogger.record import Series as Name
from allogger.registry import writers
from allogger.rundir import EVENTS, new_shard
from allogger.writer import Writer

if TYPE_CHECKING:
    from allogger.series import Series

__all__ = ["TensorboardExporter"]

# Each has a file open.
_MOST_WRITERS = 64


class TensorboardExporter(Exporter):
    """Writes a folder with one folder for each process, of several runs one folder for each run around them.

    Scalars become float32, histograms are binned and images become PNG, as by the output ``tensorboard``; steps and
    times are exact. Arrays have no place in it.
    """

    makes_folder = True

    def export(self, sources: Sequence[Source], path: Path) -> None:
        """Write the event files."""
        path.mkdir()
        for source in sources:
            folder = path / file_name(source.name) if source.name else path
            folder.mkdir(exist_ok=True)
            # No process has a folder of that name.
            scratch = folder / "%"
            self._write(source, scratch)
            if (scratch / EVENTS).is_dir():
                for made in os.listdir(scratch / EVENTS):
                    os.rename(scratch / EVENTS / made, folder / made)
                (scratch / EVENTS).rmdir()
                scratch.rmdir()

    def _write(self, source: Source, logdir: Path) -> None:
        made: dict[str, Writer] = {}
        # Only to be asked: a writer makes no file before it writes.
        accepts = writers["tensorboard"](new_shard(logdir)).accepts
        try:
            for key in source.keys:
                for portion in source.portions(key):
                    for label, batch in self._batches(portion, accepts):
                        if label not in made and len(made) >= _MOST_WRITERS:
                            self._close(made)
                        if label not in made:
                            made[label] = writers["tensorboard"](new_shard(logdir, label))
                        made[label].write(batch)
        finally:
            self._close(made)

    def _close(self, made: dict[str, Writer]) -> None:
        for writer in made.values():
            for key, (count, why) in writer.rejected.items():
                self.reject(key, count, why)
            writer.close()
        made.clear()

    def _batches(self, portion: Series, accepts: Callable[[str], bool]) -> Iterator[tuple[str, Batch]]:
        for kind, rows in runs_of_kind(portion):
            if not accepts(kind):
                why = f"TensorBoard has no place for values of kind {kind!r}"
                self.reject(portion.key, rows.stop - rows.start, why)
                continue
            for label, mine in by_process(portion, rows):
                yield label, _batch(portion, kind, mine)


def _batch(portion: Series, kind: str, rows: Any) -> Batch:
    name = Name(0, *split_full_key(portion.key))
    step, time, value = portion.step[rows], portion.time[rows], portion.value[rows]
    if kind == "scalar" and value.dtype.kind in "biuf" and value.ndim == 1:
        zeros = np.zeros(len(step), np.uint32)
        bits = value.astype(np.float64).view(np.int64)
        return Batch([name], zeros, np.full(len(step), FLOAT, np.uint8), step, time, bits)
    items = zip(step.tolist(), time.tolist(), objects(value), strict=True)
    records = [Record(name, kind, at, when, _payload(item), portion.meta) for at, when, item in items]
    ints, floats = np.empty(0, np.int64), np.empty(0, np.float64)
    return Batch([name], np.empty(0, np.uint32), np.empty(0, np.uint8), ints, floats, ints, tuple(records))


def _payload(item: Any) -> Any:
    return item if isinstance(item, str) else np.asarray(item)
