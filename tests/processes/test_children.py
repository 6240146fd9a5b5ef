"""Children of multiprocessing: they call `allogger.get_logger` and `log`, nothing else, and everything is stored."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import allogger
from tests.conftest import Result
from tests.processes.outputs import ALL, values

# 30 s pass before anything is written, so what is found was written because of the end of its process.
PRELUDE = """
import concurrent.futures, multiprocessing, os, signal, sys, threading, time
import allogger

N = 100

def work(tag):
    logger = allogger.get_logger("w")
    for i in range(N):
        logger.log(1000.0 * tag + i, "x")
    return tag

def configure():
    allogger.basic_configure("run", ["hdf", "csv", "tensorboard"], flush_seconds=30)
    # The parent has threads, open files and values of its own when it starts its children.
    allogger.get_logger("w").log(-1.0, "parent")
    return multiprocessing.get_context(os.environ["METHOD"])
"""


def run(run_python: Callable[..., Result], method: str, code: str, status: int = 0) -> Result:
    result = run_python(PRELUDE + code, env={"METHOD": method}, timeout=60)
    assert result.returncode == status, result.stderr
    return result


def of_tags(*tags: int) -> dict[str, list[float]]:
    expected = sorted(1000.0 * tag + i for tag in tags for i in range(100))
    return dict.fromkeys(ALL, expected)


@pytest.mark.parametrize("daemon", [False, True])
def test_what_a_process_logged_is_stored_when_it_returns(
    tmp_path: Path, run_python: Callable[..., Result], start_method: str, daemon: bool
) -> None:
    result = run(
        run_python,
        start_method,
        f"""
if __name__ == "__main__":
    context = configure()
    children = [context.Process(target=work, args=(tag,), name=f"child{{tag}}", daemon={daemon}) for tag in range(3)]
    for child in children:
        child.start()
    for child in children:
        child.join()
""",
    )

    assert not result.stderr
    assert values(tmp_path / "run", "w/x") == of_tags(0, 1, 2)
    assert values(tmp_path / "run", "w/parent") == {output: [-1.0] for output in ALL}
    assert set(allogger.open_run(tmp_path / "run")["w/x"].process) == {"child0", "child1", "child2"}


def test_what_a_process_logged_is_stored_when_it_is_terminated(
    tmp_path: Path, run_python: Callable[..., Result], start_method: str
) -> None:
    result = run(
        run_python,
        start_method,
        """
def work_and_wait(tag, done):
    work(tag)
    done.set()
    time.sleep(60)

if __name__ == "__main__":
    context = configure()
    done = [context.Event() for _ in range(3)]
    children = [context.Process(target=work_and_wait, args=(tag, done[tag])) for tag in range(3)]
    for child in children:
        child.start()
    for event in done:
        event.wait()
    for child in children:
        child.terminate()
    for child in children:
        child.join()
    print([child.exitcode for child in children])
""",
    )

    assert result.stdout == "[-15, -15, -15]\n"
    assert values(tmp_path / "run", "w/x") == of_tags(0, 1, 2)


def test_a_daemon_that_the_end_of_its_parent_ends_has_stored_everything(
    tmp_path: Path, run_python: Callable[..., Result], start_method: str
) -> None:
    run(
        run_python,
        start_method,
        """
def work_and_wait(tag, done):
    work(tag)
    done.set()
    time.sleep(60)

if __name__ == "__main__":
    context = configure()
    done = context.Event()
    context.Process(target=work_and_wait, args=(7, done), daemon=True).start()
    done.wait()
""",
    )

    assert values(tmp_path / "run", "w/x") == of_tags(7)


@pytest.mark.parametrize("end", ["raise ValueError('on purpose')", "sys.exit(3)", "sys.exit('a message')"])
def test_what_a_process_logged_is_stored_however_it_ends(
    tmp_path: Path, run_python: Callable[..., Result], start_method: str, end: str
) -> None:
    run(
        run_python,
        start_method,
        f"""
def work_and_end(tag):
    work(tag)
    {end}

if __name__ == "__main__":
    child = configure().Process(target=work_and_end, args=(1,))
    child.start()
    child.join()
    assert child.exitcode
""",
    )

    assert values(tmp_path / "run", "w/x") == of_tags(1)


def test_what_a_thread_logs_while_its_process_ends_is_stored(
    tmp_path: Path, run_python: Callable[..., Result], start_method: str
) -> None:
    run(
        run_python,
        start_method,
        """
def begin_to_work(tag):
    work(tag)
    # One that begins when multiprocessing has begun to end the process, and one that only its end lets go.
    threading.Thread(target=lambda: (time.sleep(0.3), work(tag + 1))).start()
    concurrent.futures.ThreadPoolExecutor(1).submit(work, tag + 2)

if __name__ == "__main__":
    child = configure().Process(target=begin_to_work, args=(1,))
    child.start()
    child.join()
""",
    )

    assert values(tmp_path / "run", "w/x") == of_tags(1, 2, 3)


def test_a_pool_that_is_left_has_stored_everything(
    tmp_path: Path, run_python: Callable[..., Result], start_method: str
) -> None:
    result = run(
        run_python,
        start_method,
        """
if __name__ == "__main__":
    with configure().Pool(2, maxtasksperchild=2) as pool:
        pool.map(work, range(7), chunksize=1)
""",
    )

    assert not result.stderr
    assert values(tmp_path / "run", "w/x") == of_tags(*range(7))


def test_a_pool_that_is_joined_has_stored_everything(
    tmp_path: Path, run_python: Callable[..., Result], start_method: str
) -> None:
    result = run(
        run_python,
        start_method,
        """
if __name__ == "__main__":
    pool = configure().Pool(2, maxtasksperchild=2)
    pool.map(work, range(7), chunksize=1)
    pool.close()
    pool.join()
""",
    )

    assert not result.stderr
    assert values(tmp_path / "run", "w/x") == of_tags(*range(7))


def test_an_executor_has_stored_everything(
    tmp_path: Path, run_python: Callable[..., Result], start_method: str
) -> None:
    result = run(
        run_python,
        start_method,
        """
if __name__ == "__main__":
    with concurrent.futures.ProcessPoolExecutor(2, mp_context=configure()) as executor:
        assert list(executor.map(work, range(5))) == list(range(5))
""",
    )

    assert not result.stderr
    assert values(tmp_path / "run", "w/x") == of_tags(*range(5))


def test_the_workers_of_a_data_loader_have_stored_everything(
    tmp_path: Path, run_python: Callable[..., Result], start_method: str
) -> None:
    pytest.importorskip("torch")
    result = run(
        run_python,
        start_method,
        """
import torch.utils.data

class Numbers(torch.utils.data.Dataset):
    def __len__(self):
        return N
    def __getitem__(self, i):
        allogger.get_logger("w").log(float(i), "x")
        return i

if __name__ == "__main__":
    context = configure()
    for batch in torch.utils.data.DataLoader(Numbers(), 10, num_workers=2, multiprocessing_context=context):
        pass
""",
    )

    assert not result.stderr
    assert values(tmp_path / "run", "w/x") == of_tags(0)


def test_a_logger_may_be_an_argument(tmp_path: Path, run_python: Callable[..., Result], start_method: str) -> None:
    run(
        run_python,
        start_method,
        """
def work_with(logger, tag):
    assert logger is allogger.get_logger("w")
    work(tag)

if __name__ == "__main__":
    child = configure().Process(target=work_with, args=(allogger.get_logger("w"), 1))
    child.start()
    child.join()
""",
    )

    assert values(tmp_path / "run", "w/x") == of_tags(1)


def test_children_of_children_store_everything(
    tmp_path: Path, run_python: Callable[..., Result], start_method: str
) -> None:
    run(
        run_python,
        start_method,
        """
def work_with_a_child(tag):
    work(tag)
    child = multiprocessing.get_context(os.environ["METHOD"]).Process(target=work, args=(tag + 1,))
    child.start()
    child.join()

if __name__ == "__main__":
    child = configure().Process(target=work_with_a_child, args=(1,))
    child.start()
    child.join()
""",
    )

    assert values(tmp_path / "run", "w/x") == of_tags(1, 2)


def test_a_child_that_is_killed_costs_the_others_nothing(
    tmp_path: Path, run_python: Callable[..., Result], start_method: str
) -> None:
    run(
        run_python,
        start_method,
        """
import random

def work_on(tag, begun):
    logger = allogger.get_logger("w")
    while True:
        logger.log(1000.0 * tag, "victim")
        allogger.flush()
        begun.set()

if __name__ == "__main__":
    context = configure()
    for tag in range(5):
        begun = context.Event()
        victim, other = context.Process(target=work_on, args=(tag, begun)), context.Process(target=work, args=(tag,))
        victim.start()
        other.start()
        begun.wait()
        time.sleep(random.random() * 0.05)
        victim.kill()
        victim.join()
        other.join()
    work(5)
""",
    )

    assert values(tmp_path / "run", "w/x") == of_tags(*range(6))
    killed = allogger.open_run(tmp_path / "run")["w/victim"]
    assert len(set(killed.process)) == 5
    for process in set(killed.process):
        mine = killed.process == process
        assert len(set(killed.value[mine])) == 1
        assert np.array_equal(killed.step[mine], np.arange(1, mine.sum() + 1))


def test_a_child_that_logs_nothing_leaves_nothing(
    tmp_path: Path, run_python: Callable[..., Result], start_method: str
) -> None:
    run(
        run_python,
        start_method,
        """
def idle():
    allogger.get_logger("w")

if __name__ == "__main__":
    child = configure().Process(target=idle)
    child.start()
    child.join()
""",
    )

    assert len(list((tmp_path / "run/events").glob("*.h5"))) == 1


@pytest.mark.parametrize("policy", ["continue", "clear", "abort", "ask"])
def test_a_script_without_a_guard_around_its_configuration_keeps_the_values_of_both(
    tmp_path: Path, run_python: Callable[..., Result], start_method: str, policy: str
) -> None:
    result = run(
        run_python,
        start_method,
        f"""
# Spawned children do this again.
allogger.basic_configure("run", ["hdf", "csv", "tensorboard"], flush_seconds=30, default_path_exists="{policy}")
allogger.get_logger("w").log(-1.0, "module")

if __name__ == "__main__":
    work(0)
    child = multiprocessing.get_context(os.environ["METHOD"]).Process(target=work, args=(1,))
    child.start()
    child.join()
    assert not child.exitcode
""",
    )

    assert not result.stderr
    assert values(tmp_path / "run", "w/x") == of_tags(0, 1)
    assert len(allogger.open_run(tmp_path / "run")["w/x"]) == 200
