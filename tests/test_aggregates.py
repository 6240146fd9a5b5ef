"""Is what a logger gathers emitted once, under the right name and step, and lost by no end of the program?"""

from __future__ import annotations

import math
import os
import signal
import threading
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import allogger
from allogger import aggregates
from allogger.device import Promise
from tests.conftest import Result
from tests.naming import shown

KINDS = ("mean", "std", "sum", "min", "max", "last", "ema", "histogram_of")


def read(logdir: Path, key: str = "loss") -> tuple[list[int], list[Any]]:
    """Return the steps and values that a reader finds under a key of the root right now."""
    allogger.flush()
    run = allogger.open_run(logdir)
    if f"root/{key}" not in run:
        return [], []
    series = run[f"root/{key}"]
    return series.step.tolist(), [np.asarray(value).tolist() for value in series.value]


def keys(logdir: Path) -> list[str]:
    allogger.flush()
    return [key.removeprefix("root/") for key in allogger.open_run(logdir).keys()]  # noqa: SIM118  # a method of Run


@pytest.fixture
def root(tmp_path: Path) -> allogger.Logger:
    return allogger.basic_configure(tmp_path)


# --------------------------------------------------------------------------------------------------- values and names


def test_each_aggregate_has_a_name_of_its_own(root: allogger.Logger, tmp_path: Path) -> None:
    for kind in KINDS:
        for value in (1.0, 2.0, 6.0):
            getattr(root, kind)(value, "loss")

    root.emit(7)

    assert read(tmp_path) == ([7], [3.0])
    assert read(tmp_path, "loss/std") == ([7], [pytest.approx(np.std([1, 2, 6]))])
    assert read(tmp_path, "loss/sum") == ([7], [9.0])
    assert read(tmp_path, "loss/min") == ([7], [1.0])
    assert read(tmp_path, "loss/max") == ([7], [6.0])
    assert read(tmp_path, "loss/last") == ([7], [6.0])
    assert read(tmp_path, "loss/ema0.99")[1] == [pytest.approx(3.0167, abs=1e-4)]
    assert read(tmp_path, "loss/histogram")[1][0] == [1.0, 2.0, 6.0]


@settings(max_examples=25)
@given(numbers=st.lists(st.tuples(st.floats(-1e6, 1e6), st.integers(1, 100)), min_size=1, max_size=2000))
def test_what_is_emitted_is_what_numpy_finds(
    tmp_path_factory: pytest.TempPathFactory, numbers: list[tuple[float, int]]
) -> None:
    logdir = tmp_path_factory.mktemp("run")
    values, weights = np.array(numbers, float).T
    mean = np.average(values, weights=weights)
    deviation = math.sqrt(np.average((values - mean) ** 2, weights=weights))
    with allogger.run(logdir) as root:
        for value, weight in numbers:
            root.mean(value, "loss", weight)
            root.std(value, "loss", weight=weight)
            root.min(value, "loss")
            root.sum(weight, "weight")
            root.histogram_of(value, "loss")

    scale = np.abs(values).max() + 1e-150
    assert read(logdir)[1] == [pytest.approx(mean, rel=1e-12, abs=1e-12 * scale)]
    assert read(logdir, "loss/std")[1] == [pytest.approx(deviation, rel=1e-9, abs=1e-11 * scale)]
    assert read(logdir, "loss/min")[1] == [values.min()]
    assert read(logdir, "weight/sum")[1] == [int(weights.sum())]
    assert read(logdir, "loss/histogram")[1][0] == values.tolist()


def torch_number() -> Any:
    torch = pytest.importorskip("torch")
    return torch.tensor(2.5, requires_grad=True)


@pytest.mark.parametrize(
    ("value", "number"),
    [
        (2, 2),
        (True, 1),
        (np.float32(2.5), 2.5),
        (np.int8(3), 3),
        (np.uint64(2**64 - 1), 2.0**64),
        (np.array(2.5), 2.5),
        (np.array([[2.5]]), 2.5),
        (10**30, 1e30),
        (Fraction(1, 2), 0.5),
        (torch_number, 2.5),
    ],
    ids=shown,
)
def test_any_single_number_can_be_gathered(root: allogger.Logger, tmp_path: Path, value: Any, number: float) -> None:
    value = value() if callable(value) else value
    for kind in ("mean", "sum", "max"):
        getattr(root, kind)(value, "x")

    root.emit()

    assert [read(tmp_path, key)[1] for key in ("x", "x/sum", "x/max")] == [[number]] * 3


def test_promised_numbers_count_in_their_order_and_a_failing_device_is_counted(
    root: allogger.Logger, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    torch = pytest.importorskip("torch")

    def fail() -> None:
        raise RuntimeError

    root.mean(1.0, "loss")
    (found,) = root._aggregates.gatherings.values()
    found.has_promises = True
    for wait in (lambda: None, fail):
        found.pending.extend((Promise(torch.tensor(4.0), wait), 2.0))
    allogger.close()

    assert read(tmp_path) == ([1], [3.0])
    assert "1 values were not stored: 'root/loss' 1" in caplog.text


def test_numbers_of_a_cuda_device_are_gathered(root: allogger.Logger, tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    if not torch.cuda.is_available():
        pytest.skip("this machine has no CUDA device")
    number = torch.zeros((), device="cuda")
    for _ in range(2000):
        root.mean(number, "loss")
        root.sum(number, "loss")
        number += 1
    root.emit()

    assert read(tmp_path) == ([1], [999.5])
    assert read(tmp_path, "loss/sum") == ([1], [1999.0 * 1000])


def test_a_value_is_taken_when_it_is_gathered(root: allogger.Logger, tmp_path: Path) -> None:
    value = np.array(1.0)
    root.mean(value, "loss")
    value[()] = 99.0

    root.emit()

    assert read(tmp_path) == ([1], [1.0])


@pytest.mark.parametrize("value", ["0.5", None, [1.0, 2.0], np.zeros(3), 1j, {"a": 1.0}, object()], ids=shown)
def test_what_is_no_number_is_counted_and_told_once(
    root: allogger.Logger, tmp_path: Path, caplog: pytest.LogCaptureFixture, value: Any
) -> None:
    for _ in range(3):
        root.mean(value, "loss")
    root.mean(1.0, "loss")
    allogger.close()

    assert read(tmp_path) == ([1], [1.0])
    told = caplog.text
    assert told.count("'root/loss' is not stored") == 1
    assert "3 values were not stored: 'root/loss' 3" in told


def test_a_weight_that_is_none_is_counted(
    root: allogger.Logger, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for weight in (-1.0, math.nan, math.inf, "1", None, 10**400):
        root.mean(5.0, "loss", weight=weight)  # type: ignore[arg-type]
    root.mean(1.0, "loss", weight=0.5)
    allogger.close()

    assert read(tmp_path) == ([1], [1.0])
    assert "'root/loss' 6" in caplog.text


def test_a_nan_makes_the_result_nan_or_is_skipped_and_counted(
    root: allogger.Logger, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for value in (1.0, math.nan, 3.0):
        for kind in ("mean", "max"):
            getattr(root, kind)(value, "kept")
            getattr(root, kind)(value, "skipped", nan="skip")
    root.mean(math.nan, "nothing", nan="skip")
    allogger.close()

    np.testing.assert_equal(
        [read(tmp_path, key)[1] for key in ("kept", "kept/max", "skipped", "skipped/max", "nothing")],
        [[math.nan], [math.nan], [2.0], [3.0], []],
    )
    assert "3 values were not stored" in caplog.text


def test_a_moving_average_goes_on_and_begins_anew_after_a_nan(root: allogger.Logger, tmp_path: Path) -> None:
    for value in (1.0, 2.0, math.nan, 5.0):
        root.ema(value, "loss", decay=0.5)
        root.emit()
    root.emit()

    np.testing.assert_equal(read(tmp_path, "loss/ema0.5"), ([1, 2, 3, 4], [1.0, 5 / 3, math.nan, 5.0]))


def test_two_decays_are_two_averages_and_an_impossible_one_is_told(
    root: allogger.Logger, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for decay in (0.9, 0.5, 1.5):
        root.ema(1.0, "loss", decay)
    root.emit()

    assert keys(tmp_path) == ["loss/ema0.5", "loss/ema0.9", "loss/ema0.99"]
    assert "a decay is at least 0 and below 1, not 1.5" in caplog.text


def test_names_that_would_be_the_same_are_told_and_kept_apart(
    root: allogger.Logger, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    root.max(1.0, "loss")
    root.mean(2.0, "loss/max")
    root.emit()

    assert read(tmp_path, "loss/max") == ([1], [1.0])
    assert read(tmp_path, "loss/max/mean") == ([1], [2.0])
    assert "the second one is 'loss/max/mean'" in caplog.text


def test_that_a_key_is_logged_by_itself_too_is_told(root: allogger.Logger, caplog: pytest.LogCaptureFixture) -> None:
    root.log(1.0, "loss")
    root.mean(1.0, "loss")

    assert "'root/loss': is logged by itself too; both are one series" in caplog.text


def test_a_histogram_takes_arrays_and_is_bounded(
    root: allogger.Logger, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    numbers = np.arange(250_000.0)
    for part in np.split(numbers, 250):
        root.histogram_of(part.reshape(10, 100), "x")
        assert all(len(found.pending) <= aggregates.MAX_VALUES for found in root._aggregates.gatherings.values())
    allogger.close()

    parts = read(tmp_path, "x/histogram")[1]
    assert [len(part) for part in parts] == [100_000, 100_000, 50_000]
    assert np.concatenate(parts).tolist() == numbers.tolist()
    assert "100000 numbers make one histogram at most" in caplog.text


def test_memory_does_not_grow_with_the_number_of_calls(root: allogger.Logger) -> None:
    for i in range(10_000):
        for kind in KINDS[:-1]:
            getattr(root, kind)(float(i), "x")

    assert all(len(found.pending) <= 1024 for found in root._aggregates.gatherings.values())


# ---------------------------------------------------------------------------------------------------- when it is logged


def test_after_every_n_calls_the_result_is_logged(root: allogger.Logger, tmp_path: Path) -> None:
    for i in range(2500):
        root.mean(float(i), "loss", every_n=1000)
        root.max(i, "loss", every_n=1)
    allogger.close()

    assert read(tmp_path) == ([1, 2, 3], [499.5, 1499.5, 2249.5])
    assert read(tmp_path, "loss/max") == (list(range(1, 2501)), list(range(2500)))


def test_after_some_seconds_the_next_call_logs_the_result(root: allogger.Logger, tmp_path: Path) -> None:
    calls = 0
    while not read(tmp_path)[1]:
        for _ in range(1000):
            root.mean(1.0, "loss", every_seconds=0.1)
            calls += 1

    assert calls >= 1000
    assert read(tmp_path)[1][0] == 1.0


def test_options_hold_from_the_first_call_that_gives_them_and_mistakes_are_told(
    root: allogger.Logger, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    root.mean(1.0, "loss")
    root.mean(1.0, "loss", every_n=2)
    root.mean(1.0, "loss", every_n=5)
    root.mean(1.0, "loss", evry_n=5)  # type: ignore[call-arg]
    root.mean(1.0, "loss", every_seconds=-1)
    root.mean(1.0, "loss", nan="drop")  # type: ignore[arg-type]

    assert read(tmp_path) == ([1, 2, 3], [1.0] * 3)
    told = caplog.text
    assert "every_n was given with different values; the first one holds" in told
    assert "there is no argument of mean 'evry_n'; did you mean 'every_n'?" in told
    assert "every_seconds=-1 cannot be; ignored" in told
    assert "nan='drop' cannot be; ignored" in told


def test_emit_takes_the_scopes_below_only_if_asked(root: allogger.Logger, tmp_path: Path) -> None:
    below = allogger.get_logger("a.b")
    below.mean(1.0, "loss")
    root.mean(2.0, "loss")

    root.emit(5)
    allogger.flush()
    assert allogger.open_run(tmp_path).keys() == ["root/loss"]
    root.emit(6, children=True)
    root.emit(7, children=True)

    assert read(tmp_path) == ([5], [2.0])
    assert allogger.open_run(tmp_path)["a.b/loss"].step.tolist() == [6]


# --------------------------------------------------------------------------------------------------------------- epochs


def test_an_epoch_logs_under_its_phase_at_its_step(root: allogger.Logger, tmp_path: Path) -> None:
    for epoch in (3, 4):
        with root.epoch(epoch, phase="train") as same:
            assert same is root
            for i in range(10):
                allogger.get_logger("model").mean(float(i + epoch), "loss")
            with root.epoch(epoch, phase="val"):
                allogger.get_logger("model").mean(float(epoch), "loss")
            allogger.get_logger("model").mean(100.0, "loss")

    allogger.flush()
    run = allogger.open_run(tmp_path)
    assert run.keys() == ["model/train/loss", "model/val/loss"]
    assert run["model/train/loss"].step.tolist() == run["model/val/loss"].step.tolist() == [3, 4]
    assert run["model/train/loss"].value.tolist() == pytest.approx([175 / 11, 185 / 11], rel=1e-15)
    assert run["model/val/loss"].value.tolist() == [3.0, 4.0]


def test_an_epoch_logs_also_when_its_block_raises(root: allogger.Logger, tmp_path: Path) -> None:
    def fail() -> None:
        with root.epoch(3, "train"):
            root.mean(1.0, "loss")
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    root.mean(2.0, "loss")
    root.emit()

    assert read(tmp_path, "train/loss") == ([3], [1.0])
    assert read(tmp_path, "loss") == ([1], [2.0])


def test_what_was_gathered_before_an_epoch_is_no_part_of_it(root: allogger.Logger, tmp_path: Path) -> None:
    root.mean(1.0, "loss")
    with root.epoch(5):
        root.mean(2.0, "loss")

    assert read(tmp_path) == ([1, 5], [1.0, 2.0])


def test_in_an_epoch_emit_has_its_step_and_every_n_its_own_pace(root: allogger.Logger, tmp_path: Path) -> None:
    with root.epoch(5):
        for _ in range(5):
            root.mean(1.0, "own", every_n=2)
        root.mean(1.0, "loss")
        root.emit()
        root.mean(2.0, "loss")
        root.emit(6)
        root.mean(3.0, "loss")

    assert read(tmp_path) == ([5, 6, 5], [1.0, 2.0, 3.0])
    assert read(tmp_path, "own")[0] == [1, 2, 3]


def test_a_moving_average_goes_on_from_epoch_to_epoch(root: allogger.Logger, tmp_path: Path) -> None:
    for epoch in (1, 2):
        with root.epoch(epoch, "train"):
            root.ema(float(epoch), "loss", decay=0.5)

    assert read(tmp_path, "train/loss/ema0.5") == ([1, 2], [1.0, 5 / 3])


def test_a_phase_is_part_of_what_filters_see(tmp_path: Path) -> None:
    root = allogger.basic_configure(tmp_path, hdf_writer_params={"filter": "^train/"})
    root.mean(1.0, "loss")
    with root.epoch(1, "train"):
        root.mean(2.0, "loss")
    with root.epoch(1, "val"):
        root.mean(3.0, "loss")
    allogger.close()

    assert keys(tmp_path) == ["train/loss"]


# ------------------------------------------------------------------------------------------ what is not kept, and ends


class Untouchable:
    """A value that nobody may look at."""

    def __getattribute__(self, name: str) -> Any:
        raise AssertionError(name)


def test_a_dropped_call_does_not_touch_the_value(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    root = allogger.basic_configure(tmp_path, hdf_writer_params={"exclude": "loss"})
    for kind in KINDS:
        getattr(root, kind)(Untouchable(), "loss")
        getattr(root, kind)(Untouchable(), "loss")
    assert not root._aggregates.gatherings

    allogger.get_logger("root", hdf_writer_params={"exclude": "other"})
    root.mean(1.0, "loss")
    allogger.close()

    assert read(tmp_path) == ([1], [1.0])
    assert "not stored" not in caplog.text


def test_before_configuration_and_after_close_values_are_counted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    root = allogger.get_root()
    root.mean(1.0, "loss")
    allogger.basic_configure(tmp_path)
    root.mean(2.0, "loss")
    allogger.close()
    root.mean(3.0, "loss")
    allogger.close()

    assert read(tmp_path) == ([1], [2.0])
    told = caplog.text
    assert told.count("1 values were not stored: 'root/loss' 1") == 2


def test_while_disabled_nothing_happens(tmp_path: Path) -> None:
    root = allogger.basic_configure(tmp_path / "run", enable=False)
    with root.epoch(1, "train"):
        root.mean(Untouchable(), "loss")
    root.emit()

    assert not (tmp_path / "run").exists()


def test_a_new_logdir_leaves_what_was_gathered_to_the_old_run(tmp_path: Path) -> None:
    root = allogger.basic_configure(tmp_path / "one")
    root.mean(1.0, "loss")
    allogger.basic_configure(tmp_path / "two")
    root.mean(2.0, "loss")
    allogger.close()

    assert read(tmp_path / "one") == ([1], [1.0])
    assert read(tmp_path / "two") == ([1], [2.0])


def test_what_a_capture_gathers_is_its_own(root: allogger.Logger, tmp_path: Path) -> None:
    from allogger.testing import capture

    root.mean(1.0, "loss")
    with capture() as captured:
        root.mean(5.0, "loss")
        root.emit()
    root.mean(2.0, "loss")
    allogger.close()

    assert list(captured["root/loss"].value) == [5.0]
    assert read(tmp_path) == ([1], [1.5])


PRELUDE = """
import multiprocessing, os, signal, sys, threading, time
import allogger

def work(logger=allogger.get_logger("w")):
    for i in range(1000):
        logger.mean(float(i), "x")
        logger.sum(1, "calls")

if __name__ == "__main__":
    root = allogger.basic_configure("run", flush_seconds=30)
"""


@pytest.mark.parametrize(
    ("end", "status"),
    [
        ("", 0),
        ("raise ValueError('on purpose')", 1),
        ("sys.exit(3)", 3),
        ("signal.raise_signal(signal.SIGINT)", -signal.SIGINT),
        ("os.kill(os.getpid(), signal.SIGTERM); time.sleep(60)", -signal.SIGTERM),
        ("allogger.close()", 0),
        ("os.execlp('true', 'true')", 0),
    ],
)
@pytest.mark.parametrize("step", [None, 7])
def test_nothing_gathered_is_lost_when_the_program_ends_by(
    tmp_path: Path, run_python: Callable[..., Result], end: str, status: int, step: int | None
) -> None:
    block = "with root.epoch(7, 'train'):" if step else "if True:"
    result = run_python(PRELUDE + f"    {block}\n        work()\n        {end}\n")

    assert result.returncode == status, result.stderr
    assert "allogger:" not in result.stderr
    run = allogger.open_run(tmp_path / "run")
    prefix = "w/train/" if step else "w/"
    assert run.keys() == [f"{prefix}calls/sum", f"{prefix}x"]
    assert run[f"{prefix}x"].value.tolist() == [499.5]
    assert run[f"{prefix}x"].step.tolist() == [step or 1]
    assert run[f"{prefix}calls/sum"].value.tolist() == [1000]


def test_what_was_emitted_before_a_kill_is_read_back_and_nothing_else(
    tmp_path: Path, run_python: Callable[..., Result]
) -> None:
    result = run_python(
        PRELUDE
        + """
    for aggregate in (root.mean, root.std, root.sum, root.min, root.max, root.last, root.ema, root.histogram_of):
        for epoch in range(3):
            with root.epoch(epoch):
                [aggregate(value, "x") for value in (1, 2, epoch)]
    with root.epoch(3):
        work(root)
        root.flush()
        os.kill(os.getpid(), signal.SIGKILL)
"""
    )

    assert result.returncode == -signal.SIGKILL, result.stderr
    run = allogger.open_run(tmp_path / "run")
    names = ["x", *(f"x/{name}" for name in "std sum min max last ema0.99 histogram".split())]
    assert run.keys() == sorted(f"root/{name}" for name in names)
    assert all(run[key].step.tolist() == [0, 1, 2] for key in run)
    assert run["root/x"].value.tolist() == [1, 4 / 3, 5 / 3]
    assert run["root/x/sum"].value.tolist() == [3, 4, 5]
    assert run["root/x/histogram"].value.tolist() == [[1, 2, 0], [1, 2, 1], [1, 2, 2]]


def test_sigterm_in_the_midst_of_gathering_saves_what_was_gathered(
    tmp_path: Path, run_python: Callable[..., Result]
) -> None:
    result = run_python(
        PRELUDE
        + """
    threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGTERM)).start()
    while True:
        root.sum(1, "calls")
        root.last(1, "calls")
"""
    )

    assert result.returncode == -signal.SIGTERM, result.stderr
    assert allogger.open_run(tmp_path / "run")["root/calls/sum"].value.tolist()[0] > 1000


def test_children_emit_their_own_and_not_their_parents(
    tmp_path: Path, run_python: Callable[..., Result], start_method: str
) -> None:
    result = run_python(
        PRELUDE
        + f"""
    root.mean(-1.0, "parent")
    work()
    context = multiprocessing.get_context({start_method!r})
    children = [context.Process(target=work) for _ in range(2)]
    [child.start() for child in children]
    [child.join() for child in children]
    with context.Pool(2) as pool:
        pool.apply(work)
        pool.close()
        pool.join()
"""
    )

    assert result.returncode == 0, result.stderr
    assert "allogger:" not in result.stderr
    run = allogger.open_run(tmp_path / "run")
    assert run["root/parent"].value.tolist() == [-1.0]
    assert run["w/x"].value.tolist() == [499.5] * 4
    assert run["w/calls/sum"].value.tolist() == [1000] * 4


def test_a_fork_while_other_threads_gather_neither_hangs_nor_doubles(root: allogger.Logger, tmp_path: Path) -> None:
    stop = threading.Event()
    calls = [0] * 4

    def gather(number: int) -> None:
        while not stop.is_set():
            root.sum(1, "calls", every_n=100)
            calls[number] += 1

    threads = [threading.Thread(target=gather, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    try:
        for _ in range(20):
            child = os.fork()
            if not child:
                signal.alarm(20)
                root.sum(1000, "child")
                root.emit()
                allogger.close()
                os._exit(0)
            assert os.waitpid(child, 0)[1] == 0
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    allogger.close()

    assert sum(read(tmp_path, "calls/sum")[1]) == sum(calls)
    assert read(tmp_path, "child/sum")[1] == [1000] * 20


# ------------------------------------------------------------------------------------------ threads and signal handlers


def test_threads_that_gather_and_emit_together_lose_and_double_nothing(root: allogger.Logger, tmp_path: Path) -> None:
    start = threading.Barrier(4)

    def gather(number: int) -> None:
        start.wait()
        for i in range(20_000):
            root.sum(1, "plain")
            root.sum(1, "timed", every_n=100)
            root.histogram_of(i, "all")
            if i % 1000 == number:
                root.emit()

    threads = [threading.Thread(target=gather, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    allogger.close()

    assert sum(read(tmp_path, "plain/sum")[1]) == 80_000
    assert sum(read(tmp_path, "timed/sum")[1]) == 80_000
    assert sum(len(part) for part in read(tmp_path, "all/histogram")[1]) == 80_000


def test_every_n_is_exact_among_threads(root: allogger.Logger, tmp_path: Path) -> None:
    def gather() -> None:
        for _ in range(10_000):
            root.sum(1, "calls", every_n=7)

    threads = [threading.Thread(target=gather) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    allogger.close()

    found = read(tmp_path, "calls/sum")[1]
    assert set(found[:-1]) == {7}
    assert sum(found) == 40_000


def test_a_signal_handler_may_gather_and_emit_at_any_moment(root: allogger.Logger, tmp_path: Path) -> None:
    handled = 0

    def handle(number: int, frame: object) -> None:
        nonlocal handled
        handled += 1
        root.sum(1, "calls")
        root.sum(1, f"new{handled % 10}")
        if handled % 3 == 0:
            root.emit()

    before = signal.signal(signal.SIGALRM, handle)
    signal.setitimer(signal.ITIMER_REAL, 0.0005, 0.0005)
    try:
        calls = 0
        while handled < 1000:
            root.sum(1, "calls")
            calls += 1
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    allogger.close()

    assert sum(read(tmp_path, "calls/sum")[1]) == calls + handled


@pytest.mark.parametrize("every_n", [2, 5])
def test_a_handler_that_interrupts_an_exchange_leaves_it_alone(
    root: allogger.Logger, tmp_path: Path, every_n: int
) -> None:
    root.sum(1, "calls", every_n=every_n)
    (found,) = root._aggregates.gatherings.values()

    with found.guard:
        root.sum(1, "calls", every_n=every_n)
        root.emit()
        assert read(tmp_path, "calls/sum") == ([], [])

    assert read(tmp_path, "calls/sum") == ([1], [2])


# ---------------------------------------------------------------------------------------------------------------- ranks

RANKS = """
import os, sys
import torch.distributed as dist
import torch.multiprocessing as mp
import allogger

def work(rank, muted, fails):
    os.environ["RANK"] = str(rank)
    dist.init_process_group("gloo", init_method="file://" + os.path.abspath("meeting"), rank=rank, world_size=2)
    root = allogger.basic_configure("run", log_on_workers=0 if muted else -1)
    try:
        with root.epoch(3, "train", reduce="ranks"):
            for i in range(1000):
                root.mean(float(rank), "loss", weight=1 + 2 * rank)
                root.std(float(rank), "loss")
                root.sum(1, "calls")
                root.min(rank, "x"), root.max(rank, "x"), root.last(rank, "x"), root.ema(rank, "x")
                root.histogram_of(rank, "x")
            allogger.get_logger(f"only{rank}").mean(0.5 + rank, "loss")
            if fails and rank:
                raise ValueError
    except ValueError:
        pass
    if not fails:
        root.mean(0.5, "rest")
        root.emit(4, reduce="ranks")
    root.mean(float(rank), "end")
    allogger.close()
    dist.destroy_process_group()

if __name__ == "__main__":
    mp.spawn(work, args=(MUTED, FAILS), nprocs=2)
"""


@pytest.mark.parametrize("muted", [False, True])
def test_with_reduce_rank_0_logs_what_all_ranks_have_gathered(
    tmp_path: Path, run_python: Callable[..., Result], muted: bool
) -> None:
    pytest.importorskip("torch")
    result = run_python(RANKS.replace("MUTED, FAILS", f"{muted}, False"), env={"OMP_NUM_THREADS": "1"})

    assert result.returncode == 0, result.stderr
    run = allogger.open_run(tmp_path / "run")
    found = {key: run[key].value.tolist() for key in run.keys()}  # noqa: SIM118  # a method of Run
    assert sorted(found.pop("root/train/x/histogram")[0]) == [0] * 1000 + [1] * 1000
    assert sorted(found.pop("root/end")) == ([0.0] if muted else [0.0, 1.0])
    assert found == {
        "only0/train/loss": [0.5],
        "only1/train/loss": [1.5],
        "root/rest": [0.5],
        "root/train/calls/sum": [2000],
        "root/train/loss": [0.75],
        "root/train/loss/std": [0.5],
        "root/train/x/ema0.99": [pytest.approx(0.5)],
        "root/train/x/last": [0],
        "root/train/x/max": [1],
        "root/train/x/min": [0],
    }
    assert run["only1/train/loss"].step.tolist() == [3]
    assert run["root/rest"].step.tolist() == [4]


def test_when_another_rank_fails_each_logs_its_own(tmp_path: Path, run_python: Callable[..., Result]) -> None:
    pytest.importorskip("torch")
    result = run_python(RANKS.replace("MUTED, FAILS", "False, True"), env={"OMP_NUM_THREADS": "1"})

    assert result.returncode == 0, result.stderr
    assert "no reduction over ranks, each logs its own" in result.stderr
    run = allogger.open_run(tmp_path / "run")
    assert sorted(run["root/train/loss"].value.tolist()) == [0.0, 1.0]
    assert run["root/train/loss"].step.tolist() == [3, 3]


def test_without_other_ranks_reduce_changes_nothing(
    root: allogger.Logger, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    root.mean(1.0, "loss")
    root.emit(3, reduce="ranks")
    root.mean(2.0, "loss")
    root.emit(4, reduce="rank")

    assert read(tmp_path) == ([3, 4], [1.0, 2.0])
    assert "there is no reduction 'rank'; did you mean 'ranks'?" in caplog.text
