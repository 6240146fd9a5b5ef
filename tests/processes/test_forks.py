"""Forks: what does a child inherit, what must it not, and can it be stopped like any other?"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

import allogger
from tests.conftest import Result
from tests.processes.outputs import ALL, values


def test_hundreds_of_forks_while_threads_log_lose_and_double_nothing(
    tmp_path: Path, run_python: Callable[..., Result]
) -> None:
    result = run_python(
        """
        import os, threading, time
        import allogger

        allogger.basic_configure("run", ["hdf", "csv", "tensorboard"], flush_seconds=0.5)
        done, counts = threading.Event(), {}

        def log(key):
            logger, count = allogger.get_logger("thread"), 0
            while not done.is_set():
                for _ in range(100):
                    logger.log(float(count), key)
                    count += 1
                time.sleep(0.001)
            counts[key] = count

        threads = [threading.Thread(target=log, args=(key,)) for key in ("a", "b")]
        for thread in threads:
            thread.start()
        logger, children = allogger.get_logger("main"), []
        for fork in range(200):
            for i in range(20):
                logger.log(20.0 * fork + i, "parent")  # mostly still in the buffer when the child begins
            pid = os.fork()
            if not pid:
                for i in range(10):
                    logger.log(10.0 * fork + i, "child")
                allogger.close()
                os._exit(0)
            children.append(pid)
        assert {os.waitpid(pid, 0)[1] for pid in children} == {0}
        done.set()
        for thread in threads:
            thread.join()
        print(counts["a"], counts["b"])
        """,
        timeout=100,
    )

    assert result.returncode == 0, result.stderr
    assert not result.stderr
    run = tmp_path / "run"
    assert values(run, "main/parent") == dict.fromkeys(ALL, [float(i) for i in range(4000)])
    # TensorBoard would take a second for each of the two hundred folders.
    children = allogger.open_run(run)["main/child"]
    assert sorted(children.value) == list(range(2000))
    for key, count in zip("ab", result.stdout.split(), strict=True):
        series = allogger.open_run(run)[f"thread/{key}"]
        assert np.array_equal(series.value, np.arange(int(count)))
        assert np.array_equal(series.step, np.arange(1, int(count) + 1))


def test_a_forked_child_that_exits_stores_its_own_values_and_none_of_its_parent(
    tmp_path: Path, run_python: Callable[..., Result]
) -> None:
    result = run_python(
        """
        import os, sys
        import allogger

        logger = allogger.basic_configure("run", ["hdf", "csv", "tensorboard"], flush_seconds=30)
        for i in range(1000):
            logger.log(float(i), "x")
        child = os.fork()
        logger.log(2000.0 if child else 3000.0, "x")
        if not child:
            sys.exit(0)
        os.waitpid(child, 0)
        print(child)
        """
    )

    assert not result.stderr
    assert values(tmp_path / "run", "root/x") == dict.fromkeys(ALL, [*map(float, range(1000)), 2000.0, 3000.0])
    series = allogger.open_run(tmp_path / "run")["root/x"]
    assert set(series.process) == {"MainProcess", f"fork-{result.stdout.strip()}"}


def test_a_child_that_ends_at_once_leaves_the_files_of_its_parent_alone(
    tmp_path: Path, run_python: Callable[..., Result]
) -> None:
    result = run_python(
        """
        import os, sys
        import allogger

        logger = allogger.basic_configure("run", ["hdf", "csv", "tensorboard"], flush_seconds=0.05)
        for i in range(50):
            logger.log(float(i), "x")
            allogger.flush()
            child = os.fork()
            if not child:
                (sys.exit if i % 2 else os._exit)(0)
            os.waitpid(child, 0)
        """
    )

    assert not result.stderr
    assert values(tmp_path / "run", "root/x") == dict.fromkeys(ALL, [float(i) for i in range(50)])


def test_the_lane_imports_nothing(run_python: Callable[..., Result]) -> None:
    # A child forked in the middle of an import could never import that module.
    result = run_python(
        """
        import sys, threading
        import numpy as np
        import allogger

        class Witness:
            @staticmethod
            def find_spec(name, path=None, target=None):
                if threading.current_thread() is not threading.main_thread():
                    print(name)

        sys.meta_path.insert(0, Witness)
        logger = allogger.basic_configure("run", ["hdf", "csv", "tensorboard", "console"], flush_seconds=0.01)
        for value in (1, 0.5, True, 2**80, 1j, None, "text", "\\ud800\\0", np.zeros((3, 8, 8)), np.arange(5.0),
                      np.array([np.nan, np.inf]), np.zeros((2, 2), "M8[s]"), np.array(["a", "b"]), {"a": 1, "b": "c"}):
            logger.log(value, "mixed")
            logger.log(value, f"key{type(value).__name__}", to_csv=False)
            logger.log(value, f"step{type(value).__name__}", 7)
        allogger.flush()
        allogger.close()
        """
    )

    assert result.returncode == 0
    names = {line for line in result.stdout.splitlines() if line.replace(".", "").replace("_", "").isidentifier()}
    assert names == set()


def test_a_child_can_be_terminated_as_soon_as_it_is_forked(run_python: Callable[..., Result]) -> None:
    result = run_python(
        """
        import multiprocessing, time
        import allogger

        allogger.basic_configure("run").log(1.0, "x")
        for _ in range(50):
            child = multiprocessing.get_context("fork").Process(target=time.sleep, args=(60,))
            child.start()
            child.terminate()
            child.join()
            assert child.exitcode == -15
        """,
        timeout=40,
    )

    assert result.returncode == 0, result.stderr


def test_pools_can_be_left_again_and_again(tmp_path: Path, run_python: Callable[..., Result]) -> None:
    # With a handler of SIGTERM that is only Python, one of twenty hung: see `allogger.sigterm`.
    result = run_python(
        """
        import multiprocessing
        import allogger

        def log(i):
            allogger.get_logger("w").log(float(i), "x")

        allogger.basic_configure("run", ["csv"], flush_seconds=30).log(1.0, "x")
        for begin in range(0, 200, 2):
            with multiprocessing.get_context("fork").Pool(2) as pool:
                pool.map(log, range(begin, begin + 2), chunksize=1)
        """,
        timeout=100,
    )

    assert result.returncode == 0, result.stderr
    assert values(tmp_path / "run", "w/x")["csv"] == [float(i) for i in range(200)]


def test_what_runs_in_a_lane_uses_no_property_with_a_lock() -> None:
    # Before Python 3.12 functools.cached_property has one lock for all objects of a class. A child forked while a lane
    # has it would wait for ever; that takes bad luck, so the test above may not see it.
    package = Path(allogger.__file__).parent
    files = [
        package / f"{name}.py" for name in ("record", "intake", "dispatch", "lane", "accounts", "manager", "plain")
    ]
    for folder in ("writers", "kinds", "formats"):
        files += sorted((package / folder).rglob("*.py"))

    assert [str(file) for file in files if "import cached_property" in file.read_text(encoding="utf-8")] == []
