"""Checker: does what is on disk agree with what the programs told?"""

from __future__ import annotations

import shutil
import tempfile
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import h5py
import numpy as np
import pandas as pd
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import allogger
from allogger.formats import csv
from allogger.record import file_name
from tests.kill import acks, values

__all__ = ["Checked", "Death", "check"]

# What each output takes, of what the programs log; of histograms TensorBoard keeps no values.
# Which outputs do not take arrays.
_IS_NEWS = "(INFO)"
_TAKES = {"hdf": set(values.KINDS), "csv": {"scalar", "text"}, "tensorboard": {"scalar", "text"}}


class Death(NamedTuple):
    """When a program died (monotonic seconds), and for how many seconds before that it may have lost values."""

    at: float
    seconds: float


class Found(NamedTuple):
    """One value as an output shows it; *where* is a place in which values have an order."""

    where: str
    name: str
    process: str
    step: int
    time: float
    value: Any


@dataclass
class Checked:
    """What was counted, and everything that must not be."""

    counts: Counter[str] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)
    #: The values of each output.
    origins: dict[str, set[values.Origin]] = field(default_factory=dict)
    #: The last step in HDF5 by attempt, process, kind and key: where the next attempt goes on, in every output.
    ends: dict[tuple[int, int, int, int], int] = field(default_factory=dict)

    def blame(self, kind: str, what: str) -> None:
        """Note a fault of some kind: its number counts, a few are spelt out."""
        self.counts[kind] += 1
        if self.counts[kind] <= 3:
            self.faults.append(f"{kind}: {what}")


def check(
    logdir: Path,
    acks_folder: Path,
    outputs: Iterable[str],
    deaths: Mapping[int, Death | None],
    before: Checked | None = None,
) -> Checked:
    """Read the run with all readers and compare.

    *deaths* says for each attempt how it died, None if it ended by itself. *before* is what an earlier check found: of
    attempts that had died by then, exactly that must be there now.
    """
    written = {_process_and_attempt(path): acks.read(path) for path in sorted(acks_folder.iterdir())}
    checked = Checked()
    # The console shows a selection, which nobody reads back.
    for output in sorted(set(outputs) & _READERS.keys(), key=lambda name: (name != "hdf", name)):
        found = _READERS[output](logdir, checked)
        origins = _compare(output, found, written, checked)
        checked.origins[output] = origins
        _look_for_losses(output, origins, written, deaths, checked)
        if before is not None:
            was, old = before.origins[output], {attempt for attempt in deaths if attempt < max(deaths)}
            now = {origin for origin in origins if origin.attempt in old}
            for origin in sorted(was ^ now)[:3]:
                checked.blame("changed later", f"{output}: {origin}")
    for log in sorted(logdir.glob("*.log")):
        lines = log.read_text(errors="replace").splitlines(keepends=True)
        # Nor one that the kill has cut.
        if text := "".join(line for line in lines if _IS_NEWS not in line and line.endswith("\n")):
            checked.blame("warned", text)
    return checked


def _process_and_attempt(path: Path) -> tuple[int, int]:
    attempt, _, process = path.name.partition("-")
    return int(process), int(attempt)


# ------------------------------------------------------------------------------------------------------------ comparing


def _compare(
    output: str, found: Iterable[Found], written: Mapping[tuple[int, int], acks.Written], checked: Checked
) -> set[values.Origin]:
    """Blame every value that is not what was logged; return whose the others are."""
    series: dict[tuple[int, int, int, int, str], list[tuple[int, Found]]] = {}
    origins: set[values.Origin] = set()
    for one in found:
        checked.counts["values read"] += 1
        kind, key = values.KIND_AND_NUMBER.get(one.name, (-1, -1))
        origin = values.origin_of(kind, key, one.value) if kind >= 0 else None
        about = written.get((origin.process, origin.attempt)) if origin is not None else None
        if origin is None or about is None or origin.number not in about.begun.get((kind, key), ()):
            checked.blame("never logged", f"{output}: {one}"[:300])
            continue
        if one.process != values.name_of(origin.process):
            checked.blame("wrong process", f"{output}: {one}"[:300])
        earliest, latest = about.times.get(origin.number, (0.0, np.inf))
        if not earliest <= one.time <= latest:
            checked.blame("wrong time", f"{output}: {one} not in {earliest} to {latest}"[:300])
        if origin in origins:
            checked.blame("double", f"{output}: {one}"[:300])
        origins.add(origin)
        series.setdefault((origin.attempt, origin.process, kind, key, one.where), []).append((origin.number, one))
    _compare_series(output, series, written, checked)
    return origins


def _compare_series(
    output: str,
    series: Mapping[tuple[int, int, int, int, str], list[tuple[int, Found]]],
    written: Mapping[tuple[int, int], acks.Written],
    checked: Checked,
) -> None:
    """Blame gaps, a wrong order and wrong steps; the attempts come in their order."""
    for (attempt, process, kind, key, _), items in sorted(series.items(), key=lambda item: item[0]):
        begun = written[process, attempt].begun[kind, key]
        numbers = [number for number, _ in items]
        if numbers != begun[: len(numbers)]:
            what = "reordered" if sorted(numbers) == begun[: len(numbers)] else "hole"
            checked.blame(what, f"{output}: {values.key_of(kind, key)} of process {process}: {numbers[:20]}...")
            continue
        steps = [one.step for _, one in items]
        given = [values.step_of(kind, key, count) for count in range(len(steps))]
        first = checked.ends.get((attempt - 1, process, kind, key), 0) + 1
        expected = [first + count if step is None else step for count, step in enumerate(given)]
        if steps != expected:
            checked.blame("wrong step", f"{output}: {values.key_of(kind, key)}: {steps[:9]}, not {expected[:9]}")
        if output == "hdf":
            checked.ends[attempt, process, kind, key] = steps[-1]


def _look_for_losses(
    output: str,
    origins: set[values.Origin],
    written: Mapping[tuple[int, int], acks.Written],
    deaths: Mapping[int, Death | None],
    checked: Checked,
) -> None:
    there: dict[tuple[int, int], set[int]] = {}
    for origin in origins:
        there.setdefault((origin.process, origin.attempt), set()).add(origin.number)
    for (process, attempt), about in written.items():
        death = deaths[attempt] or Death(np.inf, 0.0)
        taken = {
            number
            for (kind, _), numbers in about.begun.items()
            for number in numbers
            if values.KINDS[kind] in _TAKES[output]
        }
        must = about.must_be_there(*death) & taken
        checked.counts["values that must be there"] += len(must)
        for number in must - there.get((process, attempt), set()):
            seconds = death.at - about.logged_at[number]
            flushed = ", and flushed" if number < about.flushed else ""
            checked.blame("lost", f"{output}: number {number} of process {process}, {seconds:.2f} s old{flushed}")


# -------------------------------------------------------------------------------------------------------------- readers


def _read_hdf(logdir: Path, checked: Checked) -> Iterator[Found]:
    if not (logdir / "events").is_dir():
        return  # killed before it began
    with warnings.catch_warnings():
        # A shard that cannot be read is told by a warning.
        warnings.simplefilter("error", RuntimeWarning)
        run = allogger.open_run(logdir, attempts="all")
    for damage in run.damage:
        checked.blame("damage", damage)
    for full_key in run:
        series = run[full_key]
        name = full_key.removeprefix(values.SCOPE + "/")
        for process, step, time, value in zip(
            series.process.tolist(), series.step.tolist(), series.time.tolist(), series.value, strict=True
        ):
            yield Found("", name, process, step, time, value)
    _compare_apis(logdir, run, checked)
    for file in sorted((logdir / "events").glob("*.h5")):
        _read_with_h5py(file, checked)


def _compare_apis(logdir: Path, run: allogger.Run, checked: Checked) -> None:
    """Blame `allogger.api.hdf` where it does not show what the run shows; some of the names stand for all."""
    names = allogger.api.hdf.list_keys(logdir) if len(run) else []
    if {_split(name)[0] for name in names} != set(run):
        checked.blame("api differs", f"{names} and {run.keys()}")
    for name in names[:: max(len(names) // 5, 1)]:
        full_key, process = _split(name)
        rows = allogger.api.hdf.read_from_key(logdir, name, "all")
        series = run[full_key]
        mine = series.process == process
        # Among the values of several processes the run goes by steps.
        if sorted(rows[["time", "step"]].tolist()) != sorted(zip(series.time[mine], series.step[mine], strict=True)):
            checked.blame("api differs", name)


def _split(name: str) -> tuple[str, str]:
    """Return the full key and the process in a name of `allogger.api.hdf`."""
    _, place, key = name.split("/", 2)
    scope, _, process = place.partition("@")
    return f"{scope}/{key}", process or "MainProcess"


def _read_with_h5py(file: Path, checked: Checked) -> None:
    checked.counts["files opened by h5py"] += 1

    def read(name: str, node: Any) -> None:
        if isinstance(node, h5py.Dataset):
            node[()]

    try:
        with h5py.File(file) as opened:
            opened.visititems(read)
    except (OSError, RuntimeError, KeyError) as error:
        checked.blame("unreadable", f"{file}: {error}")


def _read_csv(logdir: Path, checked: Checked) -> Iterator[Found]:
    for file in sorted((logdir / "events").glob("*.csv")):
        rows = list(csv.rows(file))
        for row in rows:
            name = row.key.removeprefix(values.SCOPE + "/")
            yield Found(file.name, name, row.process, row.step, row.time, row.value)
        _read_with_pandas(file, rows, checked)


def _read_with_pandas(file: Path, rows: list[csv.Row], checked: Checked) -> None:
    checked.counts["tables read by pandas"] += 1
    with tempfile.TemporaryDirectory() as folder:
        whole = Path(folder, file.name)
        shutil.copyfile(file, whole)
        # Of a row that is not complete pandas makes one with less in it, or, within a text, an error.
        if csv.mend(whole):
            checked.counts["tables with a torn row"] += 1
        if not whole.stat().st_size:
            return
        try:
            table = pd.read_csv(whole, keep_default_na=False)
        except ValueError as error:
            checked.blame("unreadable", f"{file}: {error}")
            return
    if len(table) != len(rows) or table["step"].tolist() != [row.step for row in rows]:
        checked.blame("unreadable", f"{file}: pandas finds {len(table)} of {len(rows)} rows")


def _read_events(logdir: Path, checked: Checked) -> Iterator[Found]:
    labels = {file_name(values.name_of(process)): values.name_of(process) for process in range(8)}
    for folder in sorted({file.parent for file in (logdir / "events").glob("*/*tfevents*")}):
        checked.counts["folders read by TensorBoard"] += 1
        reader = EventAccumulator(
            str(folder), size_guidance={"scalars": 0, "tensors": 0}, purge_orphaned_data=False
        ).Reload()
        process = labels.get(folder.name.partition("@")[0], folder.name)
        for tag in reader.Tags()["scalars"]:
            for event in reader.Scalars(tag):
                yield Found(folder.name, _name(tag), process, event.step, event.wall_time, event.value)
        for tag in reader.Tags()["tensors"]:
            for event in reader.Tensors(tag):
                text = event.tensor_proto.string_val[0].decode()
                yield Found(folder.name, _name(tag), process, event.step, event.wall_time, text)


def _name(tag: str) -> str:
    return tag.removeprefix(values.SCOPE + "/")


_READERS = {"hdf": _read_hdf, "csv": _read_csv, "tensorboard": _read_events}
