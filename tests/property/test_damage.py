"""Damage: whatever happens to the files of a run, readers show what was logged, or less, and say what is missing."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import allogger
from allogger.api.hdf import list_keys, read_from_key
from allogger.errors import DamagedFile, NoSuchKey
from allogger.rundir import RUN_FILE

ROWS = 40


def log(logger: allogger.Logger, sign: int) -> None:
    for n in range(1, ROWS + 1):
        logger.log(sign * n / 3, "loss")
        logger.log(f"note {sign * n}", "note")
        logger.log(np.arange(n % 5) * sign, "w")
        logger.log(complex(n, sign) if n % 3 else sign * n, "mixed")
        if not n % 8:
            allogger.flush()


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of which one attempt is finished and one was killed."""
    folder = tmp_path_factory.mktemp("damage")
    for sign, name in ((1, "first"), (-1, "second")):
        log(allogger.basic_configure(folder / "live", hdf_writer_params={"snapshot_seconds": None}), sign)
        allogger.flush()
        if name == "second":
            shutil.copytree(folder / "live", folder / "run")
        allogger.close()
    return folder / "run"


@st.composite
def changes(draw: st.DrawFn) -> Callable[[bytes], bytes]:
    """Return what an accident does to the bytes of a file."""
    what = draw(st.sampled_from(["flip", "cut", "zero", "noise", "delete", "double", "insert", "swap"]))
    a, b = sorted(draw(st.tuples(st.floats(0, 1), st.floats(0, 1))))
    length = draw(st.integers(1, 300))
    noise = draw(st.binary(min_size=1, max_size=300))
    bit = draw(st.integers(0, 7))

    def change(raw: bytes) -> bytes:
        at, to = int(a * len(raw)), int(b * len(raw))
        end = min(at + length, len(raw))
        if what == "flip":
            return raw[:at] + bytes([raw[at] ^ 1 << bit]) + raw[at + 1 :] if at < len(raw) else raw
        return {
            "cut": raw[:at],
            "zero": raw[:at] + bytes(end - at) + raw[end:],
            "noise": raw[:at] + noise + raw[at + len(noise) :],
            "delete": raw[:at] + raw[end:],
            "double": raw[:end] + raw[at:],
            "insert": raw[:at] + noise + raw[at:],
            "swap": raw[:at] + raw[end:to] + raw[at:end] + raw[max(to, end) :],
        }[what]

    return change


def damaged(run: Path, folder: Path, pattern: str, change: Callable[[bytes], bytes]) -> tuple[Path, bool]:
    """Return a copy of the run with one file changed, and whether that file is now only shorter."""
    copy = folder / "copy"
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(run, copy)
    (path,) = copy.glob(pattern)
    raw = path.read_bytes()
    new = change(raw)
    path.write_bytes(new)
    return copy, raw.startswith(new)


def values_of(run: allogger.Run, key: str) -> list[tuple[int, str, str]]:
    series = run.series(key, "all")
    shown = [str(v if isinstance(v, str) else np.asarray(v).tolist()) for v in series.value]
    return [(step, process, text) for step, process, text in zip(series.step, series.process, shown, strict=True)]


KEYS = ["root/loss", "root/mixed", "root/note", "root/w"]


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(change=changes())
def test_a_damaged_journal_costs_values_and_nothing_else(
    run: Path, tmp_path: Path, change: Callable[[bytes], bytes]
) -> None:
    whole = allogger.open_run(run)
    expected = {key: values_of(whole, key) for key in KEYS}

    copy, is_cut = damaged(run, tmp_path, "events/*.journal", change)
    found = allogger.open_run(copy)

    assert set(found.keys()) <= set(KEYS)
    lost = 0
    for key in KEYS:
        # The values of a key may get another dtype, and so look different, when those of one type are all lost.
        rows = [numbers(row) for row in values_of(found, key)] if key in found else []
        all_rows = [numbers(row) for row in expected[key]]
        rest = iter(all_rows)
        assert all(row in rest for row in rows), f"{key}: something was not logged so"
        lost += len(all_rows) - len(rows)
    assert not lost or found.damage or is_cut
    assert len(found.frame()) <= 8 * ROWS
    for name in list_keys(copy):
        assert len(read_from_key(copy, name, "all"))


def numbers(row: tuple[int, str, str]) -> tuple[int, str, object]:
    try:
        return (*row[:2], complex(row[2]))
    except ValueError:
        return row


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(change=changes(), pattern=st.sampled_from([RUN_FILE, "events/*.index.json"]))
def test_what_lies_beside_the_values_is_not_needed(
    run: Path, tmp_path: Path, change: Callable[[bytes], bytes], pattern: str
) -> None:
    copy, _ = damaged(run, tmp_path, pattern, change)

    found = allogger.open_run(copy)
    assert found.keys() == KEYS
    assert isinstance(dict(found.about), dict)
    assert found["root/loss"].step.tolist() == list(range(1, 2 * ROWS + 1))
    # And the next attempt goes on.
    allogger.basic_configure(copy).log(1.0, "loss")
    allogger.close()
    assert allogger.open_run(copy).damage == []
    assert len(allogger.open_run(copy).series("root/loss", "all")) == 2 * ROWS + 1


def check_all(logdir: str) -> None:
    """Read everything in a run; for a process of its own, because libhdf5 may crash."""
    run = allogger.open_run(logdir)
    for key in run.keys():  # noqa: SIM118  # no mapping
        for attempts in ("last", "all"):
            try:
                run.series(key, attempts)  # type: ignore[arg-type]
            except DamagedFile:
                assert run.damage
    run.frame()
    run.wide()
    for name in list_keys(logdir):
        with suppress(DamagedFile, NoSuchKey):
            read_from_key(logdir, name)


def test_a_damaged_hdf5_file_is_told_and_crashes_nobody(
    run: Path, tmp_path: Path, run_python: Callable[..., CompletedProcess[str]]
) -> None:
    done = run_python(
        f"""
        import logging, random, shutil, sys
        from pathlib import Path
        from tests.property.test_damage import check_all

        logging.disable()
        rng = random.Random(7)
        (path,) = Path({str(run)!r}).glob("events/*.h5")
        raw = path.read_bytes()
        copy = Path({str(tmp_path / "copy")!r})
        shutil.copytree({str(run)!r}, copy)
        for n in range(40):
            damaged = bytearray(raw)
            for _ in range(rng.choice([1, 1, 3, 30])):
                damaged[rng.randrange(len(raw))] ^= 1 << rng.randrange(8)
            if n % 5 == 0:
                del damaged[rng.randrange(len(raw)) :]
            (copy / "events" / path.name).write_bytes(damaged)
            print(n, flush=True)
            check_all(str(copy))
        """,
        timeout=110,
    )

    assert done.returncode == 0, done.stdout[-20:] + done.stderr[-3000:]


def test_a_file_of_the_one_state_under_the_name_of_the_other_is_told(run: Path, tmp_path: Path) -> None:
    copy: Any = shutil.copytree(run, tmp_path / "copy")
    (journal,) = copy.glob("events/*.journal")
    (image,) = copy.glob("events/*.h5")
    raw = journal.read_bytes(), image.read_bytes()
    journal.write_bytes(raw[1])
    image.write_bytes(raw[0])

    found = allogger.open_run(copy)

    assert found.keys() == []
    assert len(found.damage) >= 2
