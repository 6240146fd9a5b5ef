from __future__ import annotations

import logging
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from allogger import messages
from allogger.errors import ConfigError, UnknownName
from allogger.messages import check_params, emit

Result = subprocess.CompletedProcess[str]
RunPython = Callable[..., Result]

# A logger as small as can be: like the real one it has methods that call `emit`.
PRELUDE = """
import logging, os, signal, sys, threading
from pathlib import Path
from allogger import messages

LOG = Path("text.log")

class Logger:
    def __init__(self, scope="root.agent.critic", **params):
        self.scope, self.params = scope, params
    def log(self, level, message, *args, **kwargs):
        messages.emit(self.scope, level, message, args, path=LOG, params=self.params, stacklevel=2, **kwargs)

logger = Logger()
"""


@pytest.fixture
def run(run_python: RunPython, tmp_path: Path) -> Callable[[str], tuple[str, str, str]]:
    """Run code after the prelude in a program of its own; gives its stdout, stderr and text log."""

    def run_code(code: str) -> tuple[str, str, str]:
        done = run_python(PRELUDE + code)
        assert done.returncode == 0, done.stderr
        log = tmp_path / "text.log"
        return done.stdout, done.stderr, log.read_text("utf-8") if log.exists() else ""

    return run_code


Run = Callable[[str], tuple[str, str, str]]


@pytest.fixture
def log(tmp_path: Path) -> Iterator[Path]:
    """The path of a text log that is released after the test."""
    path = tmp_path / "made" / "text.log"
    yield path
    messages.close(path)


def say(path: Path | None, message: object, *args: object, level: int = logging.INFO, **options: Any) -> None:
    options = {"params": {}, "stacklevel": 1, **options}
    emit("root.agent", level, message, args, path=path, **options)


def is_open(path: Path) -> bool:
    """Whether this process has a descriptor of the file at *path*."""
    return os.fspath(path) in {os.path.realpath(f"/proc/self/fd/{fd}") for fd in os.listdir("/proc/self/fd")}


# ------------------------------------------------------------------------------------------- console, exactly once

BASIC = "logging.basicConfig(level=logging.{}, format='%(levelname)s:%(name)s:%(message)s')\n"
TO_FILE = "logging.basicConfig(level=logging.DEBUG, filename='theirs.log')\n"
ON_STDOUT = "logging.basicConfig(level=logging.INFO, stream=sys.stdout)\n"


@pytest.mark.parametrize(
    ("setup", "level", "to_stdout", "on_stdout", "on_stderr"),
    [
        ("", "DEBUG", False, 0, 0),
        ("", "INFO", False, 0, 0),
        ("", "WARNING", False, 0, 1),
        ("", "DEBUG", True, 1, 0),
        ("", "ERROR", True, 1, 0),
        ("logger = Logger(level='INFO')", "INFO", False, 0, 1),
        ("logger = Logger(level='info')", "INFO", False, 0, 1),
        ("logger = Logger(level='ERROR')", "WARNING", False, 0, 0),
        ("logger = Logger(level=logging.DEBUG)", "DEBUG", True, 1, 0),
        (BASIC.format("WARNING"), "INFO", False, 0, 0),
        (BASIC.format("WARNING"), "INFO", True, 1, 0),
        (BASIC.format("WARNING"), "ERROR", False, 0, 1),
        (BASIC.format("WARNING"), "ERROR", True, 0, 1),
        (BASIC.format("INFO"), "INFO", False, 0, 1),
        (BASIC.format("INFO"), "INFO", True, 0, 1),
        (BASIC.format("INFO"), "DEBUG", True, 1, 0),
        (BASIC.format("INFO") + "logging.root.handlers[0].setLevel('ERROR')", "INFO", True, 1, 0),
        (BASIC.format("INFO") + "logging.root.handlers[0].addFilter(lambda record: False)", "INFO", True, 1, 0),
        (BASIC.format("INFO") + "logging.getLogger('allogger').propagate = False", "ERROR", False, 0, 1),
        (BASIC.format("INFO") + "logging.getLogger('allogger').propagate = False", "ERROR", True, 1, 0),
        (
            BASIC.format("INFO")
            + "it = logging.getLogger('allogger'); it.propagate = False; it.addHandler(logging.NullHandler())",
            "ERROR",
            True,
            1,
            0,
        ),
        (ON_STDOUT, "INFO", False, 1, 0),
        (ON_STDOUT, "INFO", True, 1, 0),
        (TO_FILE, "ERROR", False, 0, 0),
        (TO_FILE, "ERROR", True, 1, 0),
        ("logging.getLogger('allogger').addHandler(logging.NullHandler())", "ERROR", False, 0, 0),
        ("logging.getLogger('allogger').setLevel('ERROR')", "WARNING", False, 0, 0),
        ("logging.getLogger('allogger').setLevel('DEBUG')", "INFO", False, 0, 0),
        ("logging.disable(logging.CRITICAL)", "ERROR", False, 0, 0),
        ("logging.getLogger('allogger.agent.critic').addFilter(lambda record: False)", "ERROR", False, 0, 0),
        ("logging.getLogger('allogger.agent.critic').disabled = True", "ERROR", False, 0, 0),
        ("sys.stderr = None", "ERROR", False, 0, 0),
    ],
)
def test_a_message_is_on_the_console_once_or_not_at_all(
    run: Run, setup: str, level: str, to_stdout: bool, on_stdout: int, on_stderr: int
) -> None:
    stdout, stderr, stored = run(f"{setup}\nlogger.log(logging.{level}, 'it is %d', 7, to_stdout={to_stdout})")

    assert (stdout.count("it is 7"), stderr.count("it is 7")) == (on_stdout, on_stderr)
    assert stored.count("it is 7") == 1
    assert len(stdout.splitlines()) == on_stdout
    assert len(stderr.splitlines()) == on_stderr


def test_a_handler_of_rich_that_printed_a_message_is_seen(run: Run) -> None:
    pytest.importorskip("rich")

    stdout, stderr, _ = run(
        "from rich.logging import RichHandler\n"
        "logging.basicConfig(level=logging.INFO, handlers=[RichHandler()])\n"
        "logger.log(logging.INFO, 'once', to_stdout=True)"
    )

    assert (stdout + stderr).count("once") == 1


def test_a_handler_of_the_user_gets_the_record_under_the_name_of_the_scope(run: Run, tmp_path: Path) -> None:
    run(
        "logging.basicConfig(level=logging.DEBUG, filename='theirs.log', format='%(name)s|%(message)s')\n"
        "for scope in ('root', 'root.a', 'root.a.b.c'):\n"
        "    Logger(scope).log(logging.DEBUG, 'hello')"
    )

    assert (tmp_path / "theirs.log").read_text() == "allogger|hello\nallogger.a|hello\nallogger.a.b.c|hello\n"


def test_the_global_configuration_of_logging_is_left_alone(run: Run) -> None:
    stdout, _, _ = run(
        "for scope in ('root', 'root.a', 'root.a.b'):\n"
        "    Logger(scope).log(logging.INFO, 'hello')\n"
        "for name in ('', 'allogger', 'allogger.a', 'allogger.a.b'):\n"
        "    it = logging.getLogger(name)\n"
        "    print(it.handlers, it.level, it.filters, it.propagate, it.disabled)"
    )

    assert stdout == "[] 30 [] True False\n" + "[] 0 [] True False\n" * 3


def test_a_record_names_the_line_that_called_the_method_of_the_logger(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)

    def info() -> None:
        emit("root.agent", logging.INFO, "two up", (), path=None, params={}, stacklevel=2)

    emit("root.agent", logging.INFO, "one up", (), path=None, params={}, stacklevel=1)
    info()
    line = sys._getframe().f_lineno

    assert [(r.filename, r.lineno, r.funcName) for r in caplog.records] == [
        ("test_messages.py", line - 2, "test_a_record_names_the_line_that_called_the_method_of_the_logger"),
        ("test_messages.py", line - 1, "test_a_record_names_the_line_that_called_the_method_of_the_logger"),
    ]


def test_caplog_sees_messages_as_those_of_any_other_logger(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, logger="allogger.agent"):
        say(None, "loud %s", 1)
        say(None, "quiet", level=logging.DEBUG)

    assert caplog.record_tuples == [("allogger.agent", logging.INFO, "loud 1")]


def test_a_handler_that_raises_is_reported_once_and_stops_nothing(run: Run) -> None:
    stdout, stderr, stored = run(
        "class Broken(logging.Handler):\n"
        "    def handle(self, record): raise OSError('broken handler')\n"
        "logging.root.addHandler(Broken())\n"
        "for i in range(3): logger.log(logging.ERROR, 'message', to_stdout=True)"
    )

    assert stdout.count("message") == 3
    assert stored.count("message") == 3
    assert stderr.count("broken handler") == 1


def test_arguments_that_do_not_fit_are_stored_with_a_note_and_stop_nothing(run: Run) -> None:
    _, stderr, stored = run("logger.log(logging.ERROR, '%d apples', 'x')\nlogger.log(logging.ERROR, '%s', 1, 2)")

    assert "%d apples [does not fit its arguments ('x',): TypeError" in stored
    assert "%s [does not fit its arguments (1, 2): TypeError" in stored
    assert stderr.count("does not fit") == 2


def test_an_object_that_cannot_be_printed_stops_nothing(log: Path) -> None:
    class Odd:
        def __str__(self) -> str:
            raise RecursionError

    say(log, Odd())
    say(log, "%s", Odd())

    assert "> <Odd that cannot be printed> [" in log.read_text()
    assert "> %s [" in log.read_text()


def test_percent_signs_without_arguments_and_a_dict_as_argument_mean_what_they_mean_in_logging(log: Path) -> None:
    say(log, "100% %d")
    say(log, "%(a)d", {"a": 5})
    say(log, ["any", "object"])

    assert [line.split(" > ")[1] for line in log.read_text().splitlines()] == ["100% %d", "5", "['any', 'object']"]


# -------------------------------------------------------------------------------------------------------------- format


def test_the_default_format_shows_time_level_and_the_scope_as_the_user_writes_it(run: Run) -> None:
    _, _, stored = run("logger.log(logging.INFO, 'a')\nLogger('root').log(logging.DEBUG, 'b')")

    first, second = stored.splitlines()
    assert first.endswith(" (INFO) [agent.critic] > a")
    assert second.endswith(" (DEBUG) [root] > b")
    assert first[:4].isdigit()


def test_a_formatter_given_changes_both_the_file_and_the_console(run: Run) -> None:
    stdout, _, stored = run(
        "options = {'fmt': '%(asctime)s/%(lineno)d/%(name)s/%(message)s', 'datefmt': 'T'}\n"
        "Logger(formatter=options).log(logging.INFO, 'a', to_stdout=True)"
    )

    assert stored == stdout
    assert stdout.startswith("T/")
    assert stdout.endswith("/agent.critic/a\n")


def test_a_traceback_is_stored_and_the_formatter_of_the_user_makes_its_own(run: Run, tmp_path: Path) -> None:
    _, _, stored = run(
        "class Short(logging.Formatter):\n"
        "    def formatException(self, info): return f'short {info[1]}'\n"
        "handler = logging.FileHandler('theirs.log')\n"
        "handler.setFormatter(Short())\n"
        "logging.root.addHandler(handler)\n"
        "try:\n"
        "    1 / 0\n"
        "except ZeroDivisionError as error:\n"
        "    logger.log(logging.ERROR, 'first', exc_info=True)\n"
        "    caught = error\n"
        "logger.log(logging.ERROR, 'second', exc_info=caught)\n"
    )

    assert stored.count("ZeroDivisionError: division by zero") == 2
    assert stored.count("Traceback (most recent call last)") == 2
    assert (tmp_path / "theirs.log").read_text() == "".join(
        f"{n}\nshort division by zero\n" for n in ("first", "second")
    )


def test_odd_characters_are_stored_and_printed_with_escapes_where_necessary(
    run_python: RunPython, tmp_path: Path
) -> None:
    code = "logger.log(logging.ERROR, 'é \\ud800 \\x00')\nlogger.log(logging.ERROR, '✓ \\udcff', to_stdout=True)"

    done = run_python(PRELUDE + code, env={"PYTHONIOENCODING": "ascii:strict", "PYTHONUTF8": "0"})

    assert (tmp_path / "text.log").read_text("utf-8").splitlines()[0].endswith("> é \\ud800 \x00")
    assert done.stderr.splitlines()[0].endswith("> \\xe9 \\ud800 \x00")
    assert done.stdout.splitlines()[0].endswith("> \\u2713 \\udcff")
    assert (len(done.stdout.splitlines()), len(done.stderr.splitlines())) == (1, 1)


# ---------------------------------------------------------------------------------------------------------- parameters


@pytest.mark.parametrize(
    "params",
    [
        {},
        {"level": 5},
        {"level": "warning"},
        {"level": None, "formatter": None},
        {"formatter": {"fmt": None, "datefmt": None}},
        {"formatter": {"fmt": "%(message)s", "datefmt": "%H"}},
    ],
)
def test_parameters_that_work_are_accepted(params: dict[str, Any]) -> None:
    check_params(params)


@pytest.mark.parametrize(
    ("params", "error", "hint"),
    [
        ({"levle": 5}, UnknownName, "did you mean 'level'"),
        ({"level": "WARNIGN"}, UnknownName, "did you mean 'WARNING'"),
        ({"level": 1.5}, ConfigError, "1.5"),
        ({"level": True}, ConfigError, "True"),
        ({"formatter": "%(message)s"}, ConfigError, "dict"),
        ({"formatter": {"format": "%(message)s"}}, UnknownName, "fmt"),
        ({"formatter": {"fmt": 5}}, ConfigError, "5"),
        ({"formatter": {"fmt": "{message}"}}, ConfigError, "message"),
        ({"formatter": {"fmt": "%(mesage)s"}}, ConfigError, "mesage"),
        ({"formatter": {"fmt": "%(message)d"}}, ConfigError, "does not work"),
        ("INFO", ConfigError, "dict"),
    ],
)
def test_parameters_that_cannot_work_are_refused_with_a_hint(params: Any, error: type[ConfigError], hint: str) -> None:
    with pytest.raises(error, match=hint):
        check_params(params)


# ---------------------------------------------------------------------------------------------------------------- file


def test_a_message_outlives_kill_9(run_python: RunPython, tmp_path: Path) -> None:
    done = run_python(PRELUDE + "logger.log(logging.DEBUG, 'last words')\nos.kill(os.getpid(), signal.SIGKILL)")

    assert done.returncode == -signal.SIGKILL
    assert (tmp_path / "text.log").read_text().endswith("> last words\n")


def test_messages_of_several_threads_come_whole_and_each_once(log: Path) -> None:
    def work(name: int) -> None:
        for i in range(200):
            say(log, f"<{name}.{i} {'x' * 500}>")

    threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    stored = [line.split(" > ")[1] for line in log.read_text().splitlines()]
    assert sorted(stored) == sorted(f"<{n}.{i} {'x' * 500}>" for n in range(4) for i in range(200))


def test_a_file_that_vanished_or_was_moved_is_made_again(log: Path) -> None:
    say(log, "first")
    log.unlink()
    say(log, "second")
    log.rename(log.with_name("moved.log"))
    say(log, "third")
    assert sum(os.path.realpath(f"/proc/self/fd/{fd}").startswith(f"{log.parent}/") for fd in range(100)) == 1
    log.unlink()
    log.with_name("moved.log").unlink()
    log.parent.rmdir()
    say(log, "fourth")

    assert log.read_text().endswith("> fourth\n")
    assert len(log.read_text().splitlines()) == 1


def test_a_log_that_is_closed_opens_again_and_keeps_what_it_has(log: Path) -> None:
    say(log, "first")
    assert is_open(log)
    messages.close(log)
    assert not is_open(log)

    say(log, "second")
    messages.close_all()

    assert not is_open(log)
    assert [line.split(" > ")[1] for line in log.read_text().splitlines()] == ["first", "second"]


def test_a_full_disk_is_reported_once_and_counted(capsys: pytest.CaptureFixture[str]) -> None:
    full = Path("/dev/full")

    for _ in range(3):
        say(full, "hello")
    reports = capsys.readouterr().err.splitlines()
    count = messages.lost(full)
    messages.close(full)

    assert reports == ["allogger: cannot write text messages to /dev/full: No space left on device"]
    assert count == 3
    assert capsys.readouterr().err == "allogger: 3 text messages are missing in /dev/full: No space left on device\n"
    assert messages.lost(full) == 0


def test_a_disk_that_fills_in_the_middle_of_a_message_and_recovers_leaves_a_note_between_whole_lines(run: Run) -> None:
    _, stderr, stored = run(
        "import resource\n"
        "limit = lambda size: resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))\n"
        "logger.log(logging.INFO, 'before')\n"
        "limit(160)\n"
        "logger.log(logging.INFO, 'torn ' + 'x' * 100)\n"
        "logger.log(logging.INFO, 'missing')\n"
        "limit(resource.RLIM_INFINITY)\n"
        "logger.log(logging.INFO, 'after')\n"
        "logger.log(logging.INFO, 'last')\n"
    )

    lines = stored.splitlines()
    assert [line.split(" > ")[-1][:6] for line in lines] == ["before", "torn x", "-- 2 m", "after", "last"]
    assert lines[2] == "-- 2 messages are missing here: File too large"
    assert stderr.count("File too large") == 1


def test_a_folder_in_which_nothing_can_be_made_stops_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    path = tmp_path / "file" / "text.log"

    say(path, "hello")
    messages.close(path)

    assert f"cannot write text messages to {path}" in capsys.readouterr().err


# ---------------------------------------------------------------------------------------------- threads, signals, forks


def test_a_signal_handler_may_log_at_any_instant(run: Run) -> None:
    stdout, stderr, stored = run(
        "count = 0\n"
        "def tick(number, frame):\n"
        "    global count\n"
        "    count += 1\n"
        "    logger.log(logging.ERROR, 'tick')\n"
        "    logger.log(logging.INFO, 'tock', to_stdout=True)\n"
        "signal.signal(signal.SIGALRM, tick)\n"
        "signal.setitimer(signal.ITIMER_REAL, 0.0005, 0.0005)\n"
        "for i in range(2000):\n"
        "    logger.log(logging.ERROR, 'main %d', i)\n"
        "    print(f'user {i}')\n"
        "signal.setitimer(signal.ITIMER_REAL, 0)\n"
        "logger.log(logging.INFO, 'ticks=%d', count)\n"
    )

    ticks = int(stored.rpartition("ticks=")[2])
    assert ticks > 0
    assert [text.count("> tick\n") for text in (stored, stderr)] == [ticks, ticks]
    assert [text.count("> tock\n") for text in (stored, stdout)] == [ticks, ticks]
    assert [text.count("> main ") for text in (stored, stderr)] == [2000, 2000]
    assert stdout.count("user ") == 2000


def test_a_signal_handler_may_print_while_its_thread_is_inside_a_print(run: Run) -> None:
    stdout, _, _ = run(
        "read, write = os.pipe()\n"
        "in_handler = threading.Event()\n"
        "got = bytearray()\n"
        "def drain():\n"
        "    in_handler.wait(30)\n"
        "    while part := os.read(read, 65536): got.extend(part)\n"
        "reader = threading.Thread(target=drain)\n"
        "reader.start()\n"
        "def tick(number, frame):\n"
        "    in_handler.set()\n"
        "    logger.log(logging.INFO, 'tick', to_stdout=True)\n"
        "signal.signal(signal.SIGALRM, tick)\n"
        "sys.stdout = os.fdopen(write, 'w')\n"
        "signal.setitimer(signal.ITIMER_REAL, 0.2)\n"
        "print('x' * 1_000_000, flush=True)\n"  # Blocks: the pipe is full until the handler has run.
        "sys.stdout.close()\n"
        "sys.stdout = sys.__stdout__\n"
        "reader.join()\n"
        "print(got.count(b'> tick\\n'), got.count(b'x'))\n"
    )

    assert stdout == "1 1000000\n"


def test_a_thread_inside_the_file_holds_up_a_message_only_for_a_while(
    log: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(messages, "LOCK_SECONDS", 0.05)
    say(log, "first")
    is_held, is_over = threading.Event(), threading.Event()

    def hold() -> None:
        with messages._file(log)._lock:
            is_held.set()
            is_over.wait(30)

    holder = threading.Thread(target=hold)
    holder.start()
    is_held.wait(30)
    say(log, "second")
    messages.close(log)
    is_still_held = holder.is_alive()
    is_over.set()
    holder.join()

    assert is_still_held
    assert log.read_text().endswith("> second\n")


def test_a_forked_child_drops_the_descriptors_and_locks_of_its_parent(log: Path) -> None:
    say(log, "parent")
    file = messages._file(log)
    is_held, is_over = threading.Event(), threading.Event()

    def hold() -> None:
        with file._lock:
            is_held.set()
            is_over.wait(60)

    def child() -> None:
        messages.LOCK_SECONDS = 60.0
        messages.reset_after_fork()
        assert not is_open(log)
        say(log.with_name("child.log"), "child")
        say(log, "child")

    holder = threading.Thread(target=hold)
    holder.start()
    is_held.wait(30)
    process = multiprocessing.get_context("fork").Process(target=child)
    process.start()
    process.join(30)
    is_over.set()
    holder.join()
    say(log, "parent again")

    assert process.exitcode == 0
    assert log.with_name("child.log").read_text().endswith("> child\n")
    assert [line.split(" > ")[1] for line in log.read_text().splitlines()] == ["parent", "child", "parent again"]


def test_a_stderr_that_logs_what_it_gets_does_not_run_in_circles(run: Run) -> None:
    _, stderr, stored = run(
        "class ToLog:\n"
        "    def write(self, text):\n"
        "        if text.strip(): logger.log(logging.ERROR, 'caught ' + text.strip())\n"
        "    def flush(self): pass\n"
        "sys.stderr = ToLog()\n"
        "logger.log(logging.ERROR, 'hello')\n"
    )

    assert stderr.count("hello") == 1
    assert stored.count("> hello") == 2
    assert len(stored.splitlines()) == 2


def test_a_console_that_went_away_stops_nothing(run: Run) -> None:
    stdout, _, stored = run(
        "read, write = os.pipe()\n"
        "os.close(read)\n"
        "sys.stdout = os.fdopen(write, 'w')\n"
        "logger.log(logging.INFO, 'to a broken pipe', to_stdout=True)\n"
        "sys.stderr.close()\n"
        "logger.log(logging.ERROR, 'to a closed file')\n"
        "os._exit(0)\n"
    )

    assert stdout == ""
    assert len(stored.splitlines()) == 2


def test_a_message_at_the_limit_of_recursion_stops_nothing(run: Run) -> None:
    stdout, _, _ = run(
        "def dive():\n"
        "    logger.log(logging.ERROR, 'deep')\n"
        "    dive()\n"
        "sys.setrecursionlimit(300)\n"
        "try:\n"
        "    dive()\n"
        "except RecursionError as error:\n"
        "    while error.__traceback__.tb_next: error.__traceback__ = error.__traceback__.tb_next\n"
        "    print('raised in', error.__traceback__.tb_frame.f_code.co_name)\n"
    )

    assert stdout in ("raised in dive\n", "raised in log\n", "raised in emit\n")


def test_a_message_does_not_tear_a_progress_bar(run: Run) -> None:
    pytest.importorskip("tqdm")

    _, stderr, _ = run(
        "from tqdm import tqdm\n"
        "for i in tqdm(range(3), mininterval=0, ncols=60):\n"
        "    logger.log(logging.ERROR, 'message %d', i)\n"
    )

    # The bar is cleared by blanks before the message; what stands before the last "\r" is overwritten.
    lines = [line.rpartition("\r")[2] for line in stderr.replace("\r\n", "\n").split("\n")]
    assert [line.partition(" > ")[2] for line in lines if " > " in line] == ["message 0", "message 1", "message 2"]
    assert not any("%|" in line for line in lines if " > " in line)


# -------------------------------------------------------------------------------------------------------------- import


def test_importing_the_module_makes_no_logger_no_handler_and_no_thread(run_python: RunPython) -> None:
    done = run_python(
        "import logging, sys, threading\n"
        "import numpy\n"
        "before = set(logging.root.manager.loggerDict)\n"
        "import allogger.messages\n"
        "print(set(logging.root.manager.loggerDict) - before, logging.root.handlers, threading.active_count())"
    )

    assert done.stdout == "set() [] 1\n"
