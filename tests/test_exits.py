"""Exits: is everything stored, without any cooperation, whatever ends the program?"""

from __future__ import annotations

import signal
from collections.abc import Callable
from pathlib import Path

import pytest

import allogger
from tests.conftest import Result
from tests.processes.outputs import ALL, values

# 30 s pass before anything is written, so what is found was written because of the end.
PRELUDE = """
import atexit, os, signal, sys, threading, time
import allogger

N = 1000
root = allogger.basic_configure("run", ["hdf", "csv", "tensorboard"], flush_seconds=30)

def work(logger=allogger.get_logger("w")):
    for i in range(N):
        logger.log(float(i), "x")
"""
ALL_OF_THEM = dict.fromkeys(ALL, [float(i) for i in range(1000)])


@pytest.mark.parametrize(
    ("end", "status"),
    [
        ("", 0),
        ("raise ValueError('on purpose')", 1),
        ("sys.exit(3)", 3),
        ("signal.raise_signal(signal.SIGINT)", -signal.SIGINT),
        ("os.kill(os.getpid(), signal.SIGTERM); time.sleep(60)", -signal.SIGTERM),
        ("allogger.close()", 0),
        ("allogger.close(); allogger.close()", 0),
        ("allogger.flush(); os._exit(4)", 4),
        ("allogger.flush(); os.kill(os.getpid(), signal.SIGKILL)", -signal.SIGKILL),
        ("os.execv(sys.executable, [sys.executable, '-c', ''])", 0),
        ("os.execlp('true', 'true')", 0),
    ],
)
def test_everything_is_stored_when_the_program_ends_by(
    tmp_path: Path, run_python: Callable[..., Result], end: str, status: int
) -> None:
    result = run_python(PRELUDE + f"\nwork()\n{end}\n")

    assert result.returncode == status, result.stderr
    assert "allogger:" not in result.stderr
    assert values(tmp_path / "run", "w/x") == ALL_OF_THEM


def test_everything_is_stored_when_all_values_came_from_a_thread_and_sigterm_ends_the_program(
    tmp_path: Path, run_python: Callable[..., Result]
) -> None:
    result = run_python(
        PRELUDE
        + """
thread = threading.Thread(target=work)
thread.start()
thread.join()
os.kill(os.getpid(), signal.SIGTERM)
time.sleep(60)
"""
    )

    assert result.returncode == -signal.SIGTERM
    assert values(tmp_path / "run", "w/x") == ALL_OF_THEM


def test_sigterm_ends_a_program_in_the_middle_of_a_computation_that_does_not_hear_it(
    tmp_path: Path, run_python: Callable[..., Result]
) -> None:
    result = run_python(
        PRELUDE
        + """
import hashlib
work()
threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGTERM)).start()
hashlib.pbkdf2_hmac("sha256", b"", b"", 1_000_000_000)
""",
        timeout=30,
    )

    assert result.returncode == -signal.SIGTERM
    assert values(tmp_path / "run", "w/x") == ALL_OF_THEM


def test_sigterm_ends_a_program_that_logs_new_keys_all_the_time(
    tmp_path: Path, run_python: Callable[..., Result]
) -> None:
    result = run_python(
        PRELUDE
        + """
work()
threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGTERM)).start()
i = 0
while True:
    root.log(float(i), f"key{i % 3000}")
    i += 1
""",
        timeout=30,
    )

    assert result.returncode == -signal.SIGTERM
    assert values(tmp_path / "run", "w/x") == ALL_OF_THEM


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_handler_of_sigterm_that_the_program_has_is_left_alone(
    tmp_path: Path, run_python: Callable[..., Result], when: str
) -> None:
    own = "signal.signal(signal.SIGTERM, lambda *_: (print('mine'), sys.exit(5)))\n"
    before, after = (own, "") if when == "before" else ("", own)

    result = run_python(
        "import signal, sys\n"
        + before
        + PRELUDE
        + "work()\n"
        + after
        + "os.kill(os.getpid(), signal.SIGTERM)\ntime.sleep(60)\n"
    )

    assert (result.returncode, result.stdout) == (5, "mine\n")
    assert values(tmp_path / "run", "w/x") == ALL_OF_THEM


def test_a_handler_of_sigterm_may_call_ours(tmp_path: Path, run_python: Callable[..., Result]) -> None:
    result = run_python(
        PRELUDE
        + """
ours = signal.getsignal(signal.SIGTERM)
signal.signal(signal.SIGTERM, lambda *args: (work(), ours(*args)))
os.kill(os.getpid(), signal.SIGTERM)
time.sleep(60)
""",
        timeout=10,
    )

    assert result.returncode == -signal.SIGTERM
    assert values(tmp_path / "run", "w/x") == ALL_OF_THEM


def test_sigterm_is_heard_beside_an_event_loop_with_handlers_of_its_own(
    tmp_path: Path, run_python: Callable[..., Result]
) -> None:
    result = run_python(
        PRELUDE
        + """
import asyncio

async def main():
    asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, print)
    work()
    os.kill(os.getpid(), signal.SIGTERM)
    await asyncio.sleep(60)

asyncio.run(main())
""",
        timeout=30,
    )

    assert result.returncode == -signal.SIGTERM
    assert values(tmp_path / "run", "w/x") == ALL_OF_THEM


def test_exit_handlers_may_log(tmp_path: Path, run_python: Callable[..., Result]) -> None:
    run_python(PRELUDE + "\natexit.register(work)\n")

    assert values(tmp_path / "run", "w/x") == ALL_OF_THEM


def test_the_user_hears_of_values_logged_when_everything_is_over(
    tmp_path: Path, run_python: Callable[..., Result]
) -> None:
    # Exit handlers run in reverse order, so ours is over before one that was registered before the import.
    result = run_python("import atexit\natexit.register(lambda: work())\n" + PRELUDE)

    assert "logged after allogger was closed" in result.stderr


def test_threads_that_the_interpreter_waits_for_may_log(tmp_path: Path, run_python: Callable[..., Result]) -> None:
    run_python(
        PRELUDE
        + """
main = threading.main_thread()
threading.Thread(target=lambda: (main.join(), work())).start()
"""
    )

    assert values(tmp_path / "run", "w/x") == ALL_OF_THEM


def test_daemons_that_log_while_the_interpreter_shuts_down_do_no_harm(
    tmp_path: Path, run_python: Callable[..., Result]
) -> None:
    result = run_python(
        PRELUDE
        + """
import numpy as np
begun = threading.Event()

def log():
    logger, array = allogger.get_logger("daemon"), np.zeros(10)
    while True:
        logger.log(1.0, "x")
        logger.log(array, "array")
        begun.set()

for _ in range(3):
    threading.Thread(target=log, daemon=True).start()
begun.wait()
work()
"""
    )

    assert result.returncode == 0, result.stderr
    assert "Traceback" not in result.stderr
    assert values(tmp_path / "run", "w/x") == ALL_OF_THEM


@pytest.mark.parametrize("streams", ["1", "2", "1, 2", "0, 1, 2"])
def test_closed_standard_streams_are_no_obstacle(
    tmp_path: Path, run_python: Callable[..., Result], streams: str
) -> None:
    result = run_python(
        f"import os\nfor stream in ({streams},):\n    os.close(stream)\n"
        + PRELUDE.replace('"hdf"', '"console", "hdf"')
        + "\nroot.info('said', to_stdout=True)\nroot.log(object(), 'impossible')\nwork()\n"
    )

    assert result.returncode in (0, 120)  # 120: the interpreter could not flush stdout
    assert values(tmp_path / "run", "w/x") == ALL_OF_THEM


def test_a_reader_of_the_output_that_has_gone_is_no_obstacle(tmp_path: Path, run_python: Callable[..., Result]) -> None:
    run_python(
        """
        import os
        read_end, write_end = os.pipe()
        os.dup2(write_end, 1)
        os.close(write_end)
        os.close(read_end)
        """
        + "".join(f"        {line}\n" for line in PRELUDE.replace('"hdf"', '"console", "hdf"').splitlines())
        + "        work()\n"
    )

    assert values(tmp_path / "run", "w/x") == ALL_OF_THEM


HANGING = """
class Hanging(allogger.Writer):
    def write(self, batch):
        time.sleep(30)

allogger.register_writer("hanging", Hanging)
root = allogger.basic_configure("run", ["hdf", "csv", "tensorboard", "hanging"], flush_seconds=0.05)
work()
"""


def test_close_returns_in_time_although_an_output_hangs(tmp_path: Path, run_python: Callable[..., Result]) -> None:
    result = run_python(
        PRELUDE
        + HANGING
        + """
begin = time.monotonic()
allogger.close(timeout=2)
print(time.monotonic() - begin)
os._exit(0)
"""
    )

    assert 1.9 < float(result.stdout) < 6
    assert "hanging" in result.stderr
    assert values(tmp_path / "run", "w/x") == ALL_OF_THEM
    assert not list((tmp_path / "run/events").glob("*.journal"))


def test_sigterm_ends_the_program_in_time_although_an_output_hangs(
    tmp_path: Path, run_python: Callable[..., Result]
) -> None:
    result = run_python(
        PRELUDE
        + HANGING
        + """
print(time.monotonic(), flush=True)
os.kill(os.getpid(), signal.SIGTERM)
time.sleep(60)
""",
        timeout=25,
    )

    assert result.returncode == -signal.SIGTERM
    assert values(tmp_path / "run", "w/x") == ALL_OF_THEM


def test_values_reach_the_disk_in_time_while_threads_log_without_a_pause(
    tmp_path: Path, run_python: Callable[..., Result]
) -> None:
    result = run_python(
        PRELUDE
        + """
allogger.basic_configure("run", ["hdf"], flush_seconds=0.1)
logged = [0, 0]

def log(which):
    logger = allogger.get_logger(f"thread{which}")
    while True:
        logger.log(float(logged[which]), "x")
        logged[which] += 1

for which in range(2):
    threading.Thread(target=log, args=(which,), daemon=True).start()
time.sleep(2)
print(*logged, flush=True)
time.sleep(2)
os.kill(os.getpid(), signal.SIGKILL)
"""
    )

    run = allogger.open_run(tmp_path / "run")
    for which, logged in enumerate(result.stdout.split()):
        assert len(run[f"thread{which}/x"]) >= int(logged)
