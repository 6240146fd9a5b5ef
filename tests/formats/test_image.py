"""Image: the HDF5 file of a journal holds exactly what the journal does, whatever the journal's size."""

from __future__ import annotations

import importlib
import json
import threading
from collections.abc import Callable, Iterable
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from allogger.errors import DamagedFile
from allogger.formats import journal
from allogger.formats.image import build_image
from allogger.reader import Columns, SeriesId
from allogger.readers.hdf import HdfReader
from allogger.readers.journal import JournalReader
from allogger.record import Batch, Series
from allogger.rundir import IMAGE, INDEX, JOURNAL, Shard, load_json, new_shard
from allogger.testing import Row, batch_of
from allogger.testing.rows import ODD_NAMES, ODD_VALUES
from allogger.testing.strategies import batches

# The package shows the function of that name.
portions = importlib.import_module("allogger.formats.journal.portions")

examples = settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture
def shard(tmp_path: Path) -> Shard:
    (tmp_path / "events").mkdir()
    return new_shard(tmp_path, "Process-1")


def write(shard: Shard, parts: Iterable[Batch], end: float | None = None) -> Path:
    salt = journal.salt_of(shard.name)
    frames = [journal.encode_head(shard.about())]
    number = 0
    for batch in parts:
        frames.append(journal.encode_names([(s.index, s.scope, s.key) for s in batch.names], salt))
        buffers, count = journal.encode_batch(batch, number, salt)
        frames += map(bytes, buffers)
        number += count
    if end is not None:
        frames.append(journal.encode_end({"values": number, "time": end}, salt))
    shard.path(JOURNAL).write_bytes(b"".join(frames))
    return shard.path(JOURNAL)


def assert_same_columns(one: Columns, other: Columns) -> None:
    assert one.step.tolist() == other.step.tolist()
    assert one.time.tolist() == other.time.tolist()
    assert (one.value.dtype, one.value.shape) == (other.value.dtype, other.value.shape)
    for a, b in zip(one.value, other.value, strict=True):
        if isinstance(a, str) or isinstance(b, str):
            assert a == b
        else:
            a, b = np.asarray(a), np.asarray(b)
            assert (a.dtype, a.shape, a.tobytes()) == (b.dtype, b.shape, b.tobytes())
    assert [one.attrs.get(row, {}) for row in range(len(one))] == [
        other.attrs.get(row, {}) for row in range(len(other))
    ]


def assert_image_equals_journal(path: Path) -> None:
    live, finished = JournalReader(path), HdfReader(path.with_suffix(IMAGE))
    assert set(live.keys()) == set(finished.keys())
    for series in live.keys():  # noqa: SIM118  # no mapping
        assert_same_columns(finished.read(series), live.read(series))
    assert finished.damage == []
    assert {name: finished.about[name] for name in live.about} == dict(live.about)
    finished.close()


@examples
@given(parts=st.lists(batches(max_size=15), min_size=1, max_size=3))
def test_everything_is_in_the_image_as_in_the_journal(
    tmp_path_factory: pytest.TempPathFactory, parts: list[Batch]
) -> None:
    folder = tmp_path_factory.mktemp("run")
    (folder / "events").mkdir()
    names: list[Series] = []
    rows = [Row(r.scope, r.key, r.step, r.payload, r.kind, r.time) for batch in parts for r in batch]
    path = write(new_shard(folder), [batch_of(rows[: len(rows) // 2], names), batch_of(rows[len(rows) // 2 :], names)])

    build_image(path)

    assert_image_equals_journal(path)


def test_odd_values_under_odd_names_are_in_the_image_as_in_the_journal(shard: Shard) -> None:
    rows = [Row("main", "all", n, value, kind) for n, (kind, value) in enumerate(ODD_VALUES)]
    rows += [Row("main", f"{kind} {n % 3}", n, value, kind) for n, (kind, value) in enumerate(ODD_VALUES)]
    rows += [Row(scope, key, 1, 0.5) for scope in ODD_NAMES for key in ODD_NAMES[:12]]
    path = write(shard, [batch_of(rows)])

    build_image(path)

    assert_image_equals_journal(path)


NUMBERS = st.lists(
    st.floats()
    | st.integers(-(2**63), 2**63 - 1)
    | st.booleans()
    | st.complex_numbers()
    | st.just(np.longdouble("1.1")),
    min_size=1,
    max_size=12,
)


@examples
@given(columns=st.lists(NUMBERS, min_size=1, max_size=3), portion=st.sampled_from([1, 3, 1 << 19]))
def test_numbers_of_all_types_under_one_key_are_in_the_image_as_in_the_journal(
    tmp_path_factory: pytest.TempPathFactory, columns: list[list[Any]], portion: int
) -> None:
    folder = tmp_path_factory.mktemp("run")
    (folder / "events").mkdir()
    names: list[Series] = []
    rows = [Row("main", str(n), step, value) for n, values in enumerate(columns) for step, value in enumerate(values)]
    rows.sort(key=lambda row: row.step)
    path = write(new_shard(folder), [batch_of(rows[at : at + 4], names) for at in range(0, len(rows), 4)])

    # Small portions, so that few values show what many would.
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(portions, "_ROWS_AT_ONCE", portion)
        patch.setattr(portions, "_BYTES_AT_ONCE", portion)
        build_image(path)

    assert_image_equals_journal(path)


def test_the_index_lies_beside_the_image_and_says_what_is_in_it(shard: Shard) -> None:
    path = write(shard, [batch_of([Row("main", "loss", 3, 0.5), Row("main", "loss", 4, 1.5)])], end=2e9)

    index = build_image(path)

    assert load_json(shard.path(INDEX)) == json.loads(json.dumps(index))
    (entry,) = index["series"]
    assert [entry[name] for name in ("key", "count", "first_step", "last_step", "max")] == ["loss", 2, 3, 4, 1.5]
    assert index["about"] == {**shard.about(), "end": 2e9}


def test_the_image_is_the_same_each_time_it_is_built(shard: Shard) -> None:
    path = write(shard, [batch_of([Row("main", str(n % 7), n, float(n)) for n in range(5000)])])

    build_image(path)
    first = shard.path(IMAGE).read_bytes()
    build_image(path)

    assert shard.path(IMAGE).read_bytes() == first


# --------------------------------------------------------------------------------------------------------------- damage


def test_a_damaged_journal_becomes_no_image_and_stays_as_it_is(shard: Shard) -> None:
    path = write(shard, [batch_of([Row("main", "note", n, f"text {n}", "text")]) for n in range(5)])
    raw = path.read_bytes().replace(b"text 2", b"text ?")
    path.write_bytes(raw)

    with pytest.raises(DamagedFile, match="wrong checksum"):
        build_image(path)

    assert path.read_bytes() == raw
    assert [p.name for p in path.parent.iterdir()] == [path.name]


def test_a_journal_that_has_lost_names_becomes_no_image(shard: Shard) -> None:
    salt = journal.salt_of(shard.name)
    buffers, _ = journal.encode_batch(batch_of([Row("main", "loss", 1, 0.5)]), 0, salt)
    shard.path(JOURNAL).write_bytes(journal.encode_head(shard.about()) + b"".join(buffers))

    with pytest.raises(DamagedFile, match=r"names of the series \[0\] are lost"):
        build_image(shard.path(JOURNAL))


def test_what_is_left_of_a_damaged_journal_is_in_the_image_if_that_is_wanted(shard: Shard) -> None:
    names: list[Series] = []
    rows = [Row("main", key, n, float(n)) for n in range(9) for key in "ab"]
    path = write(shard, [batch_of(rows[at : at + 2], names) for at in range(0, 18, 2)])
    raw = bytearray(path.read_bytes())
    raw[len(raw) // 2] ^= 1
    path.write_bytes(raw)
    damage = JournalReader(path).damage

    index = build_image(path, tolerate_damage=True)

    assert index["about"]["damage"] == damage != []
    assert_image_equals_journal(path)


@pytest.mark.parametrize("limit", [0, 1000, 30_000, 90_000])
def test_a_disk_that_does_not_take_the_image_costs_nothing(
    tmp_path: Path, run_python: Callable[..., CompletedProcess[str]], limit: int
) -> None:
    (tmp_path / "events").mkdir()
    shard = new_shard(tmp_path)
    noise = np.random.default_rng(1)
    path = write(shard, [batch_of([Row("main", "w", n, noise.random(1000), "array") for n in range(20)])])
    raw = path.read_bytes()

    # The limit of the size of files makes a write fail as a full disk does.
    done = run_python(f"""
        import resource, signal
        from pathlib import Path
        from allogger.formats.image import build_image
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, {limit}))
        try:
            build_image(Path({str(path)!r}))
        except OSError as error:
            print("refused")
    """)

    assert done.stdout == "refused\n", done.stderr
    assert path.read_bytes() == raw
    assert [p.name for p in path.parent.iterdir()] == [path.name]


# ----------------------------------------------------------------------------------------------------------------- live


def test_an_image_of_a_journal_that_grows_has_what_was_there_when_it_began(shard: Shard) -> None:
    names: list[Series] = []
    rows = [Row("main", "loss", n, float(n)) for n in range(1000)]
    path = write(shard, [batch_of(rows, names)])
    salt = journal.salt_of(shard.name)

    def go_on() -> None:
        number = 1
        with open(path, "ab", buffering=0) as file:
            while number < 4000:
                more = batch_of([Row("main", "loss", 1000 + number, 0.0), Row("main", "n", number, "x", "text")], names)
                buffers, count = journal.encode_batch(more, number, salt)
                new = journal.encode_names([(s.index, s.scope, s.key) for s in names], salt)
                file.write(new + b"".join(buffers))
                number += count

    thread = threading.Thread(target=go_on)
    thread.start()
    while thread.is_alive():
        build_image(path)
        step = HdfReader(shard.path(IMAGE)).read(SeriesId("scalar", "root.main", "loss")).step.tolist()
        assert step[:1000] == list(range(1000))
        assert step[1000:] == sorted(step[1000:])
    thread.join()
    build_image(path)
    assert_image_equals_journal(path)


MANY = """
    import resource, sys
    from pathlib import Path
    import numpy as np
    from allogger.formats import image, journal
    from allogger.record import Batch, Series
    from allogger.rundir import JOURNAL, new_shard

    def batches(total):
        names = [Series(n, "root.main", f"key {{n}}") for n in range(20)]
        rng = np.random.default_rng(0)
        for first in range(0, total, 50_000):
            n = min(50_000, total - first)
            series = rng.integers(0, 20, n).astype(np.uint32)
            step = np.arange(first, first + n)
            yield Batch(names, series, np.zeros(n, np.uint8), step, step / 7, rng.random(n).view(np.int64))

    (Path({folder!r}) / "events").mkdir()
    shard = new_shard(Path({folder!r}))
    salt = journal.salt_of(shard.name)
    number = 0
    with open(shard.path(JOURNAL), "wb") as file:
        file.write(journal.encode_head(shard.about()))
        for batch in batches({total}):
            if not number:
                file.write(journal.encode_names([(s.index, s.scope, s.key) for s in batch.names], salt))
            buffers, count = journal.encode_batch(batch, number, salt)
            file.writelines(buffers)
            number += count
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    index = image.build_image(shard.path(JOURNAL))
    assert sum(entry["count"] for entry in index["series"]) == {total}
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


def test_the_memory_that_building_takes_does_not_grow_with_the_journal(
    tmp_path: Path, run_python: Callable[..., CompletedProcess[str]]
) -> None:
    grown = []
    for total in (600_000, 2_000_000):
        folder = tmp_path / str(total)
        folder.mkdir()
        done = run_python(MANY.format(folder=str(folder), total=total))
        assert done.returncode == 0, done.stderr
        grown.append(int(done.stdout) / 1024)

    # In MB; two million rows are 58 MB in the journal.
    assert max(grown) < 160
    assert grown[1] < grown[0] + 25
