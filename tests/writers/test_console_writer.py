from __future__ import annotations

import fcntl
import io
import os
import pty
import re
import struct
import subprocess
import sys
import termios
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from allogger.errors import ConfigError
from allogger.record import BOOL, INT, Batch, Record, Series
from allogger.rundir import Shard, new_shard
from allogger.writers.console import ConsoleWriter

NAMES = [
    Series(0, "root.agent.critic", "loss"),
    Series(1, "root.agent.critic", "acc"),
    Series(2, "root.main", "train/reward"),
    Series(3, "root", "note"),
    *(Series(index, "root.many", f"key{index}") for index in range(4, 100)),
]
LOSS, ACC, REWARD, NOTE = range(4)


def batch_of(*values: tuple[int, int, float], texts: tuple[str, ...] = (), names: list[Series] = NAMES) -> Batch:
    """Return a batch of numbers, each given as series, step and value, and of texts under the key ``note``."""
    columns = [np.array([value[n] for value in values]) for n in range(3)]
    return Batch(
        names=names,
        series=columns[0].astype(np.uint32),
        code=np.zeros(len(values), np.uint8),
        step=columns[1].astype(np.int64),
        time=np.zeros(len(values)),
        bits=columns[2].astype(np.float64).view(np.int64),
        objects=tuple(Record(names[NOTE], "text", 1, 0.0, text) for text in texts),
    )


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def shard(tmp_path: Path) -> Shard:
    return new_shard(tmp_path)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def writer(shard: Shard, clock: Clock) -> ConsoleWriter:
    return ConsoleWriter(shard, clock=clock)


@pytest.fixture
def quiet_writer(writer: ConsoleWriter, capsys: pytest.CaptureFixture[str]) -> ConsoleWriter:
    """A writer that has just printed an update."""
    writer.write(batch_of((LOSS, 1, 1.0)))
    capsys.readouterr()
    return writer


Capture = pytest.CaptureFixture[str]


def test_it_takes_numbers_and_texts_on_a_lane_of_its_own_without_a_logdir(writer: ConsoleWriter) -> None:
    assert [kind for kind in ("scalar", "text", "array", "image") if writer.accepts(kind)] == ["scalar", "text"]
    assert ConsoleWriter.lane == "console"
    assert not ConsoleWriter.needs_logdir


@pytest.mark.parametrize("wrong", [-1, float("nan"), "1", None])
def test_a_wrong_interval_is_refused_at_configuration(shard: Shard, wrong: Any) -> None:
    with pytest.raises(ConfigError, match=re.escape(repr(wrong))):
        ConsoleWriter(shard, interval_seconds=wrong)


def test_each_scope_has_a_line_with_the_latest_value_of_each_key(writer: ConsoleWriter, capsys: Capture) -> None:
    writer.write(
        batch_of((LOSS, 119, 9.0), (ACC, 120, 0.91), (REWARD, 7, -1234567.0), (LOSS, 120, 0.123449), texts=("hello",))
    )
    assert capsys.readouterr().out == (
        "[agent.critic] step 120 | loss 0.1234 | acc 0.91\n"
        "[main] step 7 | train/reward -1.235e+06\n"
        "[root] step 1 | note: hello\n"
    )


def test_a_step_is_shown_with_the_keys_where_it_differs(writer: ConsoleWriter, capsys: Capture) -> None:
    names = [Series(index, "root.main", key) for index, key in enumerate("abc")]
    writer.write(batch_of((0, 5, 1.0), (1, 3, 2.0), (2, 5, 3.0), names=[*names, names[0]]))
    assert capsys.readouterr().out == "[main] step 5 | a 1 | b 2 (step 3) | c 3\n"


def test_of_two_equally_frequent_steps_the_later_one_leads(writer: ConsoleWriter, capsys: Capture) -> None:
    writer.write(batch_of((LOSS, 2, 1.0), (ACC, 7, 2.0)))
    assert capsys.readouterr().out == "[agent.critic] step 7 | loss 1 (step 2) | acc 2\n"


def test_numbers_of_every_sort_are_short(writer: ConsoleWriter, capsys: Capture) -> None:
    names = [Series(index, "root.main", key) for index, key in enumerate("abcdefg")]
    batch = Batch(
        names,
        np.array([0, 1, 2, 3], np.uint32),
        np.array([INT, BOOL, 0, 0], np.uint8),
        np.ones(4, np.int64),
        np.zeros(4),
        np.array([2**62 + 1, 1, *np.array([np.nan, -np.inf]).view(np.int64)]),
        (
            Record(names[4], "scalar", 1, 0.0, np.array(1 / 3 + 2j)),
            Record(names[5], "scalar", 1, 0.0, np.array(1 / 3, np.longdouble)),
            Record(names[6], "scalar", 1, 0.0, 0.1),
        ),
    )
    writer.write(batch)
    assert capsys.readouterr().out == (
        "[main] step 1 | a 4611686018427387905 | b True | c nan | d -inf | e 0.3333+2j | f 0.3333 | g 0.1\n"
    )


def test_what_is_no_number_and_no_text_is_rejected_alone(writer: ConsoleWriter, capsys: Capture) -> None:
    wrong = (
        Record(NAMES[ACC], "scalar", 1, 0.0, np.zeros(2)),
        Record(NAMES[REWARD], "scalar", 1, 0.0, np.array("x")),
        Record(NAMES[LOSS], "scalar", 2, 0.0, 3.5),
    )
    batch = batch_of((LOSS, 1, 1.0))
    writer.write(Batch(batch.names, batch.series, batch.code, batch.step, batch.time, batch.bits, wrong))
    assert capsys.readouterr().out == "[agent.critic] step 2 | loss 3.5\n"
    assert {key: count for key, (count, _) in writer.rejected.items()} == {
        "agent.critic/acc": 1,
        "main/train/reward": 1,
    }


def test_there_is_one_update_per_interval(writer: ConsoleWriter, clock: Clock, capsys: Capture) -> None:
    for step in range(10):
        clock.now = 100 + step * 0.25
        writer.write(batch_of((LOSS, step, 1.0)))
        writer.flush()
    assert capsys.readouterr().out.count("\n") == 3
    writer.close()
    assert capsys.readouterr().out == "[agent.critic] step 9 | loss 1\n"
    writer.close()
    assert capsys.readouterr().out == ""


def test_flush_shows_what_waited_when_its_time_has_come(
    quiet_writer: ConsoleWriter, clock: Clock, capsys: Capture
) -> None:
    quiet_writer.write(batch_of((LOSS, 2, 1.0)))
    quiet_writer.flush()
    assert capsys.readouterr().out == ""
    clock.now += 1
    quiet_writer.flush()
    assert capsys.readouterr().out == "[agent.critic] step 2 | loss 1\n"
    clock.now += 1
    quiet_writer.flush()
    assert capsys.readouterr().out == ""


def test_without_an_interval_every_batch_is_shown(shard: Shard, clock: Clock, capsys: Capture) -> None:
    writer = ConsoleWriter(shard, interval_seconds=0, clock=clock)
    for step in range(5):
        writer.write(batch_of((LOSS, step, 1.0)))
    assert capsys.readouterr().out.count("\n") == 5


def test_of_many_texts_the_last_are_shown_and_the_others_counted(
    quiet_writer: ConsoleWriter, clock: Clock, capsys: Capture
) -> None:
    for start in range(0, 1000, 100):
        quiet_writer.write(batch_of(texts=tuple(f"text {start + n}" for n in range(100))))
    clock.now += 1
    quiet_writer.write(batch_of())
    assert capsys.readouterr().out.splitlines() == [
        "... and 995 earlier texts",
        *(f"[root] step 1 | note: text {n}" for n in range(995, 1000)),
    ]
    clock.now += 1
    quiet_writer.write(batch_of(texts=("one more",)))
    assert capsys.readouterr().out == "[root] step 1 | note: one more\n"


def test_of_many_keys_some_are_shown_and_the_others_counted(writer: ConsoleWriter, capsys: Capture) -> None:
    writer.write(batch_of(*((index, 1, 0.5) for index in range(4, 100))))
    line = capsys.readouterr().out
    assert line.startswith("[many] step 1 | key4 0.5 | key5 0.5 | ")
    assert line.endswith(" | key23 0.5 | ... and 76 more\n")


def test_a_child_process_says_who_it_is(tmp_path: Path, capsys: Capture) -> None:
    ConsoleWriter(new_shard(tmp_path, "Process-1")).write(batch_of((LOSS, 1, 1.0)))
    assert capsys.readouterr().out == "[agent.critic@Process-1] step 1 | loss 1\n"


def test_an_abandoned_writer_shows_nothing_of_the_parents(
    quiet_writer: ConsoleWriter, clock: Clock, capsys: Capture
) -> None:
    quiet_writer.write(batch_of((LOSS, 2, 1.0), texts=("x",)))
    quiet_writer.abandon()
    quiet_writer.close()
    assert capsys.readouterr().out == ""


HOSTILE = "a\x1b[2J\r\n\0\x07\x9b\u202eb\u2028\ud800ü"
HARMLESS = "a\\x1b[2J\\r\\n\\x00\\x07\\x9b\\u202eb\\u2028\\ud800ü"


def test_control_characters_are_shown_and_not_obeyed(writer: ConsoleWriter, capsys: Capture) -> None:
    writer.write(batch_of((0, 1, 1.0), texts=(HOSTILE,), names=[Series(n, HOSTILE, HOSTILE) for n in range(4)]))
    assert capsys.readouterr().out == (
        f"[{HARMLESS}] step 1 | {HARMLESS} 1\n[{HARMLESS}] step 1 | {HARMLESS}: {HARMLESS}\n"
    )


def test_a_long_text_is_cut_with_the_number_of_its_other_characters(writer: ConsoleWriter, capsys: Capture) -> None:
    writer.write(batch_of(texts=("x" * 1_000_000,)))
    assert capsys.readouterr().out == f"[root] step 1 | note: {'x' * 500}... and 999500 more characters\n"


# ---------------------------------------------------------------------------------------------- what sys.stdout may be


def test_stdout_is_looked_up_when_something_is_printed(
    writer: ConsoleWriter, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    for _ in range(2):
        stream = io.StringIO()
        monkeypatch.setattr(sys, "stdout", stream)
        writer.write(batch_of((LOSS, 1, 1.0)))
        assert stream.getvalue() == "[agent.critic] step 1 | loss 1\n"
        clock.now += 1


def test_a_program_without_a_stdout_is_fine(writer: ConsoleWriter, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", None)
    writer.write(batch_of((LOSS, 1, 1.0)))
    writer.close()


def test_a_stdout_that_can_only_write_is_enough(writer: ConsoleWriter, monkeypatch: pytest.MonkeyPatch) -> None:
    class Simple:
        text = ""

        def write(self, text: str) -> None:
            self.text += text

    simple = Simple()
    monkeypatch.setattr(sys, "stdout", simple)
    writer.write(batch_of((LOSS, 1, 1.0)))
    assert simple.text == "[agent.critic] step 1 | loss 1\n"


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp1252", "utf-8", "utf-16"])
def test_characters_that_the_encoding_lacks_are_escaped(
    writer: ConsoleWriter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, encoding: str
) -> None:
    path = tmp_path / "out.txt"
    with path.open("w", encoding=encoding) as stream:
        monkeypatch.setattr(sys, "stdout", stream)
        writer.write(batch_of(texts=("ü 漢",)))
    text = path.read_bytes().decode(encoding)
    shown = {"ascii": "\\xfc \\u6f22", "latin-1": "ü \\u6f22", "cp1252": "ü \\u6f22"}.get(encoding, "ü 漢")
    assert text.lstrip("\ufeff") == f"[root] step 1 | note: {shown}\n"


def test_lines_come_behind_what_the_program_printed_before(
    writer: ConsoleWriter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "out.txt"
    with path.open("w") as stream:
        monkeypatch.setattr(sys, "stdout", stream)
        print("first")
        writer.write(batch_of((LOSS, 1, 1.0)))
        print("last")
        assert path.read_text() == "first\n[agent.critic] step 1 | loss 1\n"
    assert path.read_text() == "first\n[agent.critic] step 1 | loss 1\nlast\n"


class Broken(io.StringIO):
    def write(self, text: str) -> int:
        raise RuntimeError("no")


def closed_file() -> io.TextIOBase:
    stream = io.StringIO()
    stream.close()
    return stream


def broken_pipe() -> io.TextIOBase:
    reading, writing = os.pipe()
    os.close(reading)
    return os.fdopen(writing, "w")


def full_disk() -> io.TextIOBase:
    return os.fdopen(os.open("/dev/full", os.O_WRONLY), "w")


@pytest.mark.parametrize("make", [closed_file, broken_pipe, full_disk, Broken])
def test_a_stdout_that_fails_is_reported_once_and_a_new_one_is_used(
    shard: Shard, clock: Clock, monkeypatch: pytest.MonkeyPatch, make: Any
) -> None:
    writer = ConsoleWriter(shard, interval_seconds=0, clock=clock)
    stream = make()
    monkeypatch.setattr(sys, "stdout", stream)
    with pytest.raises(OSError, match="cannot print to stdout"):
        writer.write(batch_of((LOSS, 1, 1.0)))
    for step in range(3):
        writer.write(batch_of((LOSS, step, 1.0)))
    working = io.StringIO()
    monkeypatch.setattr(sys, "stdout", working)
    writer.write(batch_of((LOSS, 4, 1.0)))
    assert working.getvalue() == "[agent.critic] step 4 | loss 1\n"
    # Nothing of ours was left in its buffer.
    stream.close()


def test_close_never_raises(quiet_writer: ConsoleWriter, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", closed_file())
    quiet_writer.write(batch_of((LOSS, 1, 1.0)))
    quiet_writer.close()


# ------------------------------------------------------------------------------------------------- programs, terminals


PRELUDE = """
import sys
from pathlib import Path
from test_console_writer import *
writer = ConsoleWriter(new_shard(Path.cwd()), interval_seconds=0)
"""


def program(script: str) -> dict[str, Any]:
    """Return the arguments of `subprocess` for a program that uses this module's names."""
    paths = os.pathsep.join([str(Path(__file__).parent), *filter(None, sys.path)])
    env = {name: value for name, value in os.environ.items() if name not in ("NO_COLOR", "COLUMNS", "FORCE_COLOR")}
    env.update(PYTHONPATH=paths, PYTHONIOENCODING="utf-8", TERM="xterm")
    return {"args": [sys.executable, "-c", PRELUDE + script], "env": env}


def in_terminal(script: str, columns: int = 60, **env: str) -> str:
    """Return what the program shows in a terminal of that width."""
    ours, its = pty.openpty()
    fcntl.ioctl(its, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    settings = program(script)
    settings["env"].update(env)
    with subprocess.Popen(**settings, stdin=its, stdout=its, stderr=its) as child:
        os.close(its)
        shown = b"".join(_until_the_end(ours))
        assert child.wait(60) == 0, shown.decode()
    os.close(ours)
    # The terminal itself turns line feeds into these.
    return shown.decode().replace("\r\n", "\n")


def _until_the_end(fd: int) -> Iterator[bytes]:
    try:
        while data := os.read(fd, 65536):
            yield data
    except OSError:
        # Linux says EIO when the other side has closed.
        return


def in_pipe(script: str) -> str:
    ended = subprocess.run(**program(script), capture_output=True, timeout=60)
    assert ended.returncode == 0, ended.stderr.decode()
    assert ended.stderr == b""
    shown: bytes = ended.stdout
    return shown.decode()


FEW = 'writer.write(batch_of((LOSS, 1, 0.5), (ACC, 1, 0.25), texts=("ü",)))\n'
MANY = "writer.write(batch_of(*((index, 1, 0.5) for index in range(4, 100))))\n"


def test_a_pipe_gets_plain_whole_lines() -> None:
    assert in_pipe(FEW) == "[agent.critic] step 1 | loss 0.5 | acc 0.25\n[root] step 1 | note: ü\n"


def test_a_terminal_gets_a_dim_scope_unless_colour_is_unwanted() -> None:
    shown = in_terminal(FEW)
    assert shown == (
        "\x1b[2m[agent.critic]\x1b[0m step 1 | loss 0.5 | acc 0.25\n\x1b[2m[root]\x1b[0m step 1 | note: ü\n"
    )
    plain = "[agent.critic] step 1 | loss 0.5 | acc 0.25\n[root] step 1 | note: ü\n"
    assert in_terminal(FEW, NO_COLOR="1") == plain
    assert in_terminal(FEW, TERM="dumb") == plain


def test_a_line_ends_at_the_width_of_the_terminal() -> None:
    widths = (60, 59, 48, 30, 10, 1)
    script = "import fcntl, struct, termios\n" + "".join(
        f'fcntl.ioctl(1, termios.TIOCSWINSZ, struct.pack("HHHH", 24, {width}, 0, 0))\n{MANY}' for width in widths
    )
    lines = in_terminal(script, NO_COLOR="1").splitlines()
    assert len(lines) == len(widths)
    for width, line in zip(widths, lines, strict=True):
        assert len(line) <= width
    assert lines[0] == "[many] step 1 | key4 0.5 | key5 0.5 | ... and 94 more"
    assert lines[2] == "[many] step 1 | key4 0.5 | ... and 95 more"
    assert lines[3] == "[many] step 1 | ... and 96 mor"


def test_wide_characters_count_twice() -> None:
    script = 'names = [Series(n, "root.main", "漢字" * 5) for n in range(4)]\n'
    script += "writer.write(batch_of((0, 1, 0.5), (1, 1, 0.5), names=names))\n"
    assert in_terminal(script, 67, NO_COLOR="1").count("漢字漢字") == 4
    assert in_terminal(script, 66, NO_COLOR="1") == "[main] step 1 | 漢字漢字漢字漢字漢字 0.5 | ... and 1 more\n"


def test_a_terminal_that_does_not_know_its_width_gets_eighty_columns() -> None:
    (line,) = in_terminal(MANY, 0, NO_COLOR="1").splitlines()
    assert 60 < len(line) <= 80


def test_a_pipe_whose_reader_has_gone_does_not_end_the_program_nor_change_its_status() -> None:
    script = """
failures = 0
for step in range(1000):
    try:
        writer.write(batch_of((LOSS, step, 0.5)))
    except OSError:
        failures += 1
writer.close()
assert failures == 1, failures
"""
    reading, writing = os.pipe()
    os.close(reading)
    ended = subprocess.run(**program(script), stdout=writing, stderr=subprocess.PIPE, timeout=60)
    os.close(writing)
    assert (ended.returncode, ended.stderr) == (0, b"")


def test_neither_tqdm_nor_rich_is_imported() -> None:
    assert in_pipe(FEW + 'assert not {"tqdm", "rich"} & set(sys.modules)').count("\n") == 2


BARS = """
import tqdm
for step in tqdm.tqdm(range(3), file=sys.stdout, mininterval=0, ncols=40):
    writer.write(batch_of((LOSS, step, 0.5)))
"""


def test_lines_stand_above_the_progress_bars_of_tqdm() -> None:
    shown = screen(in_terminal(BARS, NO_COLOR="1"))
    assert shown[:3] == [f"[agent.critic] step {step} | loss 0.5" for step in range(3)]
    assert shown[3].startswith("100%|")
    assert shown[4:] == []


def test_without_bars_tqdm_has_no_part_in_it() -> None:
    assert in_pipe("import tqdm\n" + FEW).count("\n") == 2


LIVE = """
import rich.live, rich.console
with rich.live.Live("THE STATUS", console=rich.console.Console(force_terminal=True), auto_refresh=False) as live:
    for step in range(3):
        writer.write(batch_of((LOSS, step, 0.5), texts=("[bold]not markup[/bold]",)))
        live.refresh()
"""


def test_lines_stand_above_a_live_display_of_rich() -> None:
    shown = screen(in_terminal(LIVE))
    assert shown == [
        *(
            line
            for step in range(3)
            for line in (
                f"[agent.critic] step {step} | loss 0.5",
                "[root] step 1 | note: [bold]not markup[/bold]",
            )
        ),
        "THE STATUS",
    ]


def screen(shown: str) -> list[str]:
    """Return the lines that a terminal holds after it has obeyed what we and the two libraries send."""
    lines = [""]
    row = column = 0
    for found in re.finditer(r"\x1b\[(\??\d*)([A-Za-z])|(\r)|(\n)|([^\x1b\r\n]+)", shown):
        argument, command, carriage_return, line_feed, text = found.groups()
        if text:
            lines[row] = lines[row][:column].ljust(column) + text + lines[row][column + len(text) :]
            column += len(text)
        elif line_feed:
            row, column = row + 1, 0
            lines += [""] * (row + 1 - len(lines))
        elif carriage_return:
            column = 0
        elif command == "A":
            row -= int(argument or 1)
        elif command == "K":
            lines[row] = "" if argument == "2" else lines[row][:column]
        else:
            assert command in "mhl", found[0]
    return [line.rstrip() for line in lines if line.strip()]
