"""Shards: which file holds the values of a shard, and with which steps does the next attempt go on?"""

from __future__ import annotations

import json
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from allogger.errors import DamagedFile
from allogger.reader import SeriesId
from allogger.readers.hdf import HdfReader
from allogger.readers.journal import JournalReader
from allogger.record import Series
from allogger.rundir import EVENTS, IMAGE, INDEX, JOURNAL, Shard, new_shard
from allogger.shards import last_steps, list_shards, open_shard, text_logs
from allogger.testing import Row, batch_of
from allogger.writers.hdf import HdfWriter

LOSS = SeriesId("scalar", "root.main", "loss")


@pytest.fixture
def events(tmp_path: Path) -> Path:
    (tmp_path / EVENTS).mkdir()
    return tmp_path / EVENTS


def a_writer(events: Path, steps: Sequence[int] = (1, 2), process: str = "MainProcess", attempt: str = "") -> HdfWriter:
    writer = HdfWriter(new_shard(events.parent, process, attempt), snapshot_seconds=None)
    names: list[Series] = []
    for step in steps:
        rows = [Row("main", "loss", step, step / 2), Row("main", "note", 10 * step, "x", "text")]
        writer.write(batch_of([*rows, Row("main", f"w{step}", step, [1, 2], "array")], names))
    return writer


def finished(writer: HdfWriter) -> Shard:
    writer.close()
    return writer.shard


def killed(writer: HdfWriter) -> Shard:
    writer.abandon()
    return writer.shard


# ---------------------------------------------------------------------------------------------------------------- files


def test_a_journal_counts_before_the_hdf5_file_of_its_shard(events: Path) -> None:
    shard = killed(a_writer(events))
    shard.path(IMAGE).write_bytes(b"an older image")

    (found,) = list_shards(events)

    assert (found.name, found.path, found.is_live) == (shard.name, shard.path(JOURNAL), True)
    assert isinstance(open_shard(events, shard.name), JournalReader)


def test_shards_are_listed_in_the_order_of_their_start(events: Path) -> None:
    shards = [finished(a_writer(events)), killed(a_writer(events)), finished(a_writer(events))]

    assert [file.name for file in list_shards(events)] == [shard.name for shard in shards]
    assert [file.is_live for file in list_shards(events)] == [False, True, False]
    assert isinstance(open_shard(events, shards[0].name), HdfReader)


def test_a_folder_that_is_none_has_no_shards(tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    assert list_shards(tmp_path / "nowhere") == list_shards(tmp_path / "file") == []


def test_a_shard_that_finishes_while_it_is_opened_is_opened(events: Path) -> None:
    writer = a_writer(events)
    shard = writer.shard
    # What a network filesystem shows for a moment: the journal is gone, and the new file is not there yet.
    raw, path = shard.path(JOURNAL), shard.path(".hidden")
    writer.close()
    shard.path(IMAGE).rename(path)
    thread = threading.Timer(0.05, path.rename, [shard.path(IMAGE)])
    thread.start()

    reader = open_shard(events, shard.name)

    thread.join()
    assert not raw.exists()
    assert reader.read(LOSS).step.tolist() == [1, 2]


def test_a_shard_that_is_gone_or_damaged_is_an_error(events: Path) -> None:
    with pytest.raises(FileNotFoundError, match="neither"):
        open_shard(events, "20240101T000000.000000-host-1-0", attempts=2)
    shard = finished(a_writer(events))
    shard.path(IMAGE).write_bytes(b"no HDF5")
    with pytest.raises(DamagedFile):
        open_shard(events, shard.name)


def test_text_logs_are_listed_in_the_order_of_their_start(events: Path) -> None:
    shards = [new_shard(events.parent) for _ in range(3)]
    for shard in reversed(shards):
        (events.parent / f"{shard.name}.log").touch()
    (events.parent / "notes.log").touch()

    assert [path.name for path in text_logs(events.parent)] == [f"{shard.name}.log" for shard in shards]


# ----------------------------------------------------------------------------------------------------------- last steps

ENDS = {("root.main", "loss"): 2, ("root.main", "note"): 20, ("root.main", "w1"): 1, ("root.main", "w2"): 2}


@pytest.mark.parametrize("end", [killed, finished])
def test_the_last_steps_are_those_of_the_last_values(events: Path, end: Any) -> None:
    end(a_writer(events, [5, 1, 2]))

    assert last_steps(events.parent, "MainProcess", "mine") == {**ENDS, ("root.main", "w5"): 5}


def test_the_last_steps_are_those_of_other_attempts_and_of_this_process(events: Path) -> None:
    finished(a_writer(events, [1], attempt="first"))
    killed(a_writer(events, [1, 2], attempt="second"))
    finished(a_writer(events, [7], attempt="mine"))
    finished(a_writer(events, [8], "Process-1", attempt="first"))

    assert last_steps(events.parent, "MainProcess", "mine") == ENDS
    assert last_steps(events.parent, "Process-1", "mine")["root.main", "loss"] == 8
    assert last_steps(events.parent, "Process-2", "mine") == {}


def test_of_several_attempts_the_last_one_counts_even_if_it_got_less_far(events: Path) -> None:
    finished(a_writer(events, [1, 50], attempt="first"))
    finished(a_writer(events, [10, 20], attempt="second"))

    assert last_steps(events.parent, "MainProcess", "mine")["root.main", "loss"] == 20


@pytest.mark.parametrize(
    "index",
    [
        None, [], {}, {"about": 5}, {"about": {}, "series": 5}, {"about": {}, "series": [5]},
        {"about": {}, "series": [{"scope": "root.main", "key": "loss", "last_step": "x"}]},
        {"about": {}, "series": [{"scope": "root.main", "key": "loss", "last_step": 10**30}]},
        {"about": {}, "series": [{"scope": "root.main", "key": "loss", "last_step": 1.5}]},
        {"about": {}, "series": [{"scope": "root.main", "key": "loss"}]},
    ],
)  # fmt: skip
def test_without_a_sound_index_the_file_itself_is_asked(events: Path, index: Any) -> None:
    shard = finished(a_writer(events))
    if index is None:
        shard.path(INDEX).unlink()
    else:
        shard.path(INDEX).write_text(json.dumps(index))

    assert last_steps(events.parent, "MainProcess", "mine") == ENDS


def test_the_last_steps_come_from_the_index_alone_if_there_is_one(events: Path) -> None:
    shard = finished(a_writer(events))
    shard.path(IMAGE).write_bytes(b"not looked at")

    assert last_steps(events.parent, "MainProcess", "mine") == ENDS


def test_a_shard_that_cannot_be_read_does_not_hide_the_others(events: Path) -> None:
    bad = finished(a_writer(events, [9], attempt="first"))
    bad.path(INDEX).unlink()
    bad.path(IMAGE).write_bytes(b"no HDF5")
    finished(a_writer(events, attempt="second"))

    assert last_steps(events.parent, "MainProcess", "mine") == ENDS


def test_a_damaged_value_does_not_let_the_other_keys_begin_anew(events: Path) -> None:
    shard = killed(a_writer(events))
    raw = shard.path(JOURNAL).read_bytes()
    shard.path(JOURNAL).write_bytes(raw.replace(b'"step":20', b'"step":99'))

    found = last_steps(events.parent, "MainProcess", "mine")

    assert found == {**ENDS, ("root.main", "note"): 10}
