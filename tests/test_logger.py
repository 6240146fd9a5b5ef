"""Does a logger behave as promised: who it is, what it takes, what it leaves alone, and when values are on disk?"""

from __future__ import annotations

import copy
import csv
import inspect
import pickle
import subprocess
import sys
import threading
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import allogger
from allogger.errors import ConfigError
from allogger.testing import capture


def values(logdir: Path, key: str) -> list[Any]:
    """Return what a reader finds under *key* right now."""
    allogger.flush()
    run = allogger.open_run(logdir)
    found: list[Any] = run[key].value.tolist() if key in run else []
    return found


def steps(logdir: Path, key: str) -> list[int]:
    allogger.flush()
    found: list[int] = allogger.open_run(logdir)[key].step.tolist()
    return found


# ---------------------------------------------------------------------------------------------------------------- names


def test_a_scope_is_the_same_with_and_without_root_in_front() -> None:
    assert allogger.get_logger("main") is allogger.get_logger("root.main")
    assert allogger.get_logger("main").scope == "root.main"


def test_the_root_is_one_object_however_it_is_asked_for() -> None:
    root = allogger.basic_configure()

    assert allogger.get_root() is allogger.get_logger() is allogger.get_logger("root") is root
    assert root.scope == "root"


def test_the_same_scope_is_the_same_object_before_and_after_configuration_and_close(tmp_path: Path) -> None:
    logger = allogger.get_logger("agent.critic")
    allogger.basic_configure(tmp_path / "run")
    assert allogger.get_logger("agent.critic") is logger

    allogger.close()

    assert allogger.get_logger("agent.critic") is logger


def test_threads_that_ask_at_the_same_time_get_the_same_object() -> None:
    start = threading.Barrier(8)
    found: list[allogger.Logger] = []

    def ask() -> None:
        start.wait()
        found.extend(allogger.get_logger(f"scope{n}") for n in range(200))

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(set(map(id, found))) == 200


@pytest.mark.parametrize("scope", [None, 3, b"main", ["main"]], ids=repr)
def test_a_scope_that_is_no_text_is_refused(scope: Any) -> None:
    with pytest.raises(ConfigError, match=r"a scope is a str such as 'agent\.critic', not "):
        allogger.get_logger(scope)


def test_a_full_key_is_the_scope_without_root_and_the_key(tmp_path: Path) -> None:
    root = allogger.basic_configure(tmp_path / "run")
    root.log(1.0, "loss")
    allogger.get_logger("agent.critic").log(2.0, "train/loss")

    allogger.flush()

    assert allogger.open_run(tmp_path / "run").keys() == ["agent.critic/train/loss", "root/loss"]


def test_a_logger_pickles_and_copies_as_its_name() -> None:
    logger = allogger.get_logger("agent")

    assert pickle.loads(pickle.dumps(logger)) is logger
    assert copy.copy(logger) is logger
    assert copy.deepcopy([logger])[0] is logger


def test_a_pickled_logger_finds_its_scope_in_another_process() -> None:
    code = "import pickle, sys; print(pickle.loads(sys.stdin.buffer.read()).scope)"

    found = subprocess.run(
        [sys.executable, "-c", code], input=pickle.dumps(allogger.get_logger("a.b")), capture_output=True, check=True
    )

    assert found.stdout.decode().strip() == "root.a.b"


def test_an_object_that_holds_a_logger_can_be_pickled() -> None:
    held = {"logger": allogger.get_logger("agent"), "lr": 0.1}

    assert pickle.loads(pickle.dumps(held))["logger"] is held["logger"]


# -------------------------------------------------------------------------------------------------------------- parents


def test_the_parent_is_the_nearest_logger_above_that_exists() -> None:
    leaf = allogger.get_logger("a.b.c")
    assert leaf.parent is allogger.get_root()

    top = allogger.get_logger("a")
    assert leaf.parent is top

    middle = allogger.get_logger("a.b")
    assert leaf.parent is middle
    assert middle.parent is top
    assert top.parent is allogger.get_root()
    assert allogger.get_root().parent is None


def test_a_scope_whose_name_only_begins_alike_is_no_parent() -> None:
    allogger.get_logger("ab")

    assert allogger.get_logger("abc.d").parent is allogger.get_root()


# ----------------------------------------------------------------------------------- before configuration, after close


def test_a_logger_and_a_log_method_from_before_the_configuration_use_it(tmp_path: Path) -> None:
    logger = allogger.get_logger("agent")
    log = logger.log
    log(0.0, "early")
    allogger.basic_configure(tmp_path / "run")

    log(1.0, "loss")
    logger.log(2.0, "loss")

    assert values(tmp_path / "run", "agent/loss") == [1.0, 2.0]


def test_a_log_method_that_was_kept_follows_into_the_next_run(tmp_path: Path) -> None:
    log = allogger.get_logger("agent").log
    for name in ("one", "two"):
        allogger.basic_configure(tmp_path / name)
        log(1.0, "loss")
        log(2.0, "loss")
        assert values(tmp_path / name, "agent/loss") == [1.0, 2.0]
        allogger.close()


def test_log_works_as_a_function_of_the_class_too(tmp_path: Path) -> None:
    logger = allogger.basic_configure(tmp_path / "run")

    allogger.Logger.log(logger, 1.0, "loss", 7)

    assert steps(tmp_path / "run", "root/loss") == [7]


def test_values_from_before_the_configuration_are_counted_in_one_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    logger = allogger.get_logger("agent")
    for value in range(5):
        logger.log(value, "loss")
    logger.log("text", "note")
    allogger.basic_configure(tmp_path / "run")
    logger.log(9.0, "loss")

    allogger.close()

    assert allogger.open_run(tmp_path / "run")["agent/loss"].value.tolist() == [9.0]
    assert len([text for text in caplog.messages if "before allogger.basic_configure" in text]) == 1
    counts = [text for text in caplog.messages if "values were not stored" in text]
    assert len(counts) == 1
    assert "6 values were not stored: 'agent/loss' 5, 'agent/note' 1" in counts[0]


def test_a_logger_that_was_given_settings_but_no_logdir_counts_its_values_in_one_warning(
    caplog: pytest.LogCaptureFixture,
) -> None:
    logger = allogger.get_logger("agent", log_freq=10)
    for key in ("a", "b", "c"):
        logger.log(1.0, key)
        logger.log(2.0, key)
    assert len(caplog.messages) == 1

    allogger.close()

    assert "6 values were not stored" in caplog.text


def test_values_after_the_close_are_counted_in_one_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    logger = allogger.basic_configure(tmp_path / "run")
    logger.log(1.0, "loss")
    allogger.close()
    for _ in range(4):
        logger.log(2.0, "loss")
    logger.log(np.zeros(3), "weights")

    allogger.close()

    assert allogger.open_run(tmp_path / "run").keys() == ["root/loss"]
    assert allogger.open_run(tmp_path / "run")["root/loss"].value.tolist() == [1.0]
    assert len([text for text in caplog.messages if "after allogger was closed" in text]) == 1
    assert len([text for text in caplog.messages if "5 values were not stored: 'root/loss' 4" in text]) == 1


def test_a_program_that_never_configures_hears_of_its_values_on_stderr(run_python: Callable[..., Any]) -> None:
    result = run_python(
        """
        import allogger
        for step in range(7):
            allogger.get_logger("agent").log(0.5, "loss")
        """
    )

    assert result.returncode == 0
    assert result.stdout == ""
    assert "before allogger.basic_configure was called" in result.stderr
    assert "7 values were not stored: 'agent/loss' 7" in result.stderr


def test_values_that_many_threads_log_too_early_are_all_counted(caplog: pytest.LogCaptureFixture) -> None:
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    log = allogger.get_logger("agent").log

    def work() -> None:
        for _ in range(2000):
            log(0.5, "loss")

    try:
        threads = [threading.Thread(target=work) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(interval)
    allogger.close()

    assert "8000 values were not stored" in caplog.text
    assert len(caplog.messages) == 2


# ---------------------------------------------------------------------------------------------------------------- kinds


@pytest.mark.parametrize(
    ("value", "kind", "dtype"),
    [
        (0.1, "scalar", "float64"),
        (3, "scalar", "int64"),
        (True, "scalar", "bool"),
        (2**63 - 1, "scalar", "int64"),
        (-(2**63), "scalar", "int64"),
        (1 + 2j, "scalar", "complex128"),
        (np.float32(0.1), "scalar", "float64"),
        (np.uint8(200), "scalar", "int64"),
        (np.bool_(False), "scalar", "bool"),
        (np.array(0.5), "scalar", "float64"),
        (np.array([[7]]), "scalar", "int64"),
        ([2.5], "scalar", "float64"),
        ("text", "text", "object"),
        (np.arange(4, dtype=np.int16), "histogram", "int16"),
        ([1.0, 2.0], "histogram", "float64"),
        (np.zeros((2, 5)), "array", "float64"),
        (np.zeros((2, 2, 2, 2), np.float16), "array", "float16"),
        (np.zeros((3, 8, 8), np.uint8), "image", "uint8"),
        (np.zeros((8, 8, 4), np.float32), "image", "float32"),
        (np.zeros((1, 8, 8), np.float32), "image", "float32"),
        (np.zeros((5, 6, 7)), "array", "float64"),
        (np.array(["a", "b"]), "array", "<U1"),
    ],
    ids=lambda value: repr(value)[:30] if not isinstance(value, np.ndarray) else f"{value.shape}{value.dtype}",
)
def test_the_kind_follows_from_the_value(tmp_path: Path, value: Any, kind: str, dtype: str) -> None:
    allogger.basic_configure(tmp_path / "run").log(value, "key")
    allogger.flush()

    live = allogger.open_run(tmp_path / "run")["root/key"]
    allogger.close()
    finished = allogger.open_run(tmp_path / "run")["root/key"]

    for series in (live, finished):
        assert series.kind == kind
        assert series.value.dtype == dtype
        assert np.array_equal(np.squeeze(series.value[0]), np.squeeze(value))


def test_a_dict_is_one_series_per_leaf_under_the_key(tmp_path: Path) -> None:
    logger = allogger.basic_configure(tmp_path / "run")

    logger.log({"loss": 0.5, "norm": {"first": 1, 2: True}, "note": "text"}, "train", 4)

    allogger.flush()
    run = allogger.open_run(tmp_path / "run")
    assert run.keys() == ["root/train/loss", "root/train/norm/2", "root/train/norm/first", "root/train/note"]
    assert [run[key].value.tolist() for key in run.keys()] == [[0.5], [True], [1], ["text"]]  # noqa: SIM118
    assert all(run[key].step.tolist() == [4] for key in run)


@pytest.mark.parametrize(
    ("data_type", "value", "kind"),
    [
        ("array", 1.5, "array"),
        ("array", np.arange(3), "array"),
        ("histogram", np.zeros((4, 4)), "histogram"),
        ("histogram", 2.0, "histogram"),
        ("image", np.zeros((4, 4)), "image"),
        ("text", 3.5, "text"),
        ("scalar", np.array([2.5]), "scalar"),
        ("text", {"a": 1}, "text"),
    ],
    ids=repr,
)
def test_the_kind_can_be_said(tmp_path: Path, data_type: str, value: Any, kind: str) -> None:
    allogger.basic_configure(tmp_path / "run").log(value, "key", data_type=data_type)

    allogger.flush()

    run = allogger.open_run(tmp_path / "run")
    assert run.keys() == ["root/key"]
    assert run["root/key"].kind == kind


def test_a_kind_that_does_not_exist_is_reported_with_a_suggestion(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    logger = allogger.basic_configure(tmp_path / "run")

    logger.log(np.arange(3), "key", data_type="histgram")
    logger.log(np.arange(3), "key", data_type="histgram")
    allogger.close()

    assert len([text for text in caplog.messages if "did you mean 'histogram'" in text]) == 1
    assert "2 values were not stored: 'root/key' 2" in caplog.text


# ----------------------------------------------------------------------------------------------------------- the values


@pytest.mark.parametrize("shape", [(3,), (2, 3), (3, 4, 4)])
def test_a_value_is_copied_when_it_is_logged(tmp_path: Path, shape: tuple[int, ...]) -> None:
    logger = allogger.basic_configure(tmp_path / "run", flush_seconds=60)
    array = np.arange(np.prod(shape), dtype=np.float64).reshape(shape)
    expected = array.copy()

    logger.log(array, "array")
    array[:] = -1

    assert np.array_equal(np.array(values(tmp_path / "run", "root/array"))[0], expected)


def test_mutable_scalars_lists_and_buffers_are_copied_too(tmp_path: Path) -> None:
    logger = allogger.basic_configure(tmp_path / "run", flush_seconds=60)
    scalar, items, raw, tree = np.array(1.0), [1, 2, 3], bytearray(b"abc"), {"x": np.zeros(2)}

    for value, key in ((scalar, "scalar"), (items, "list"), (raw, "raw"), (tree, "tree")):
        logger.log(value, key)
    scalar[...] = 2.0
    items[0] = 9
    raw[0] = 0
    tree["x"][:] = 5

    assert values(tmp_path / "run", "root/scalar") == [1.0]
    assert values(tmp_path / "run", "root/list") == [[1, 2, 3]]
    assert values(tmp_path / "run", "root/raw") == [[97, 98, 99]]
    assert values(tmp_path / "run", "root/tree/x") == [[0.0, 0.0]]


def test_held_back_values_are_copies_as_well(tmp_path: Path) -> None:
    logger = allogger.basic_configure(tmp_path / "run", manual_flush=True)
    array = np.zeros(3)

    logger.log(array, "array")
    array[:] = 7
    logger.flush()

    assert values(tmp_path / "run", "root/array") == [[0.0, 0.0, 0.0]]


def test_the_time_of_a_value_is_that_of_its_log_call(tmp_path: Path) -> None:
    logger = allogger.basic_configure(tmp_path / "run", flush_seconds=60)
    before = datetime.now().timestamp()
    for value in (1.0, 2, np.zeros(3), "text"):
        logger.log(value, f"a {type(value).__name__}")
        logger.log(value, f"a {type(value).__name__}")
    after = datetime.now().timestamp()

    allogger.flush()

    run = allogger.open_run(tmp_path / "run")
    for key in run:
        assert before <= run[key].time[0] <= run[key].time[1] <= after


# ------------------------------------------------------------------------------------------- calls that are left out


class Untouchable:
    """Raises, and remembers it, whenever anybody looks at it."""

    touched: ClassVar[list[str]] = []


def _touch(name: str) -> Callable[..., Any]:
    def method(self: object, *args: object, **kwargs: object) -> Any:
        Untouchable.touched.append(name)
        raise AssertionError(f"{name} was called")

    return method


_METHODS = """
    getattribute len iter getitem contains bool int float complex index str repr bytes format hash eq ne lt le gt ge
    array call reduce reduce_ex copy deepcopy add radd sub mul truediv abs neg round trunc dir sizeof getstate enter
    exit next reversed array_interface array_struct dlpack buffer fspath instancecheck
"""
for _name in _METHODS.split():
    setattr(Untouchable, f"__{_name}__", _touch(_name))


@pytest.mark.parametrize(
    ("settings", "call"),
    [
        ({"hdf_writer_params": {"filter": "^kept"}}, {}),
        ({"hdf_writer_params": {"exclude": "key"}}, {}),
        ({"hdf_writer_params": {"scope": "elsewhere"}}, {}),
        ({"default_outputs": []}, {}),
        ({}, {"to_hdf": False}),
        ({"log_on_workers": 3}, {}),
        ({"log_on_workers": []}, {}),
        ({"log_freq": 2}, {"batch_idx": 1}),
        ({"log_freq": "epoch"}, {"batch_idx": 0}),
        ({"enable": False}, {}),
        ({"hdf_writer_params": {"filter": "^kept"}}, {"data_type": "array"}),
        ({"hdf_writer_params": {"filter": "^kept"}}, {"step": 3}),
    ],
    ids=str,
)
def test_a_dropped_call_never_touches_the_value_and_writes_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, settings: dict[str, Any], call: dict[str, Any]
) -> None:
    logger = allogger.basic_configure(tmp_path / "run", **settings)
    Untouchable.touched.clear()
    value = Untouchable()

    for _ in range(3):
        logger.log(value, "key", **call)
    allogger.flush()

    assert Untouchable.touched == []
    assert caplog.messages == []
    assert not list(tmp_path.rglob("*.journal"))


def test_a_dropped_call_of_a_key_that_others_keep_does_not_advance_its_counter(tmp_path: Path) -> None:
    logger = allogger.basic_configure(tmp_path / "run", log_freq=3)
    for batch_idx in range(9):
        logger.log(float(batch_idx), "loss", batch_idx=batch_idx)
        logger.log(-1.0, "loss", to_hdf=False)

    assert values(tmp_path / "run", "root/loss") == [0.0, 3.0, 6.0]
    assert steps(tmp_path / "run", "root/loss") == [1, 2, 3]


def test_whether_a_key_is_kept_can_be_asked_before_a_costly_value_is_made(tmp_path: Path) -> None:
    logger = allogger.get_logger("agent")
    assert not logger.isEnabledFor("loss")
    allogger.basic_configure(tmp_path / "run", ["hdf", "csv"], hdf_writer_params={"filter": "loss"})

    assert logger.isEnabledFor("weights")
    allogger.get_logger("agent", csv_writer_params={"exclude": "weights"})
    assert not logger.isEnabledFor("weights")
    assert logger.isEnabledFor("loss")
    allogger.close()
    assert not logger.isEnabledFor("loss")


def test_asking_before_the_configuration_does_not_hide_values_that_are_lost(
    caplog: pytest.LogCaptureFixture,
) -> None:
    logger = allogger.get_logger("agent")
    assert not logger.isEnabledFor("loss")

    logger.log(1.0, "loss")
    allogger.close()

    assert "1 values were not stored" in caplog.text


@pytest.mark.parametrize(
    ("log_freq", "kept"),
    [
        (1, [0, 1, 2, 3, 4, 5, 6]),
        (3, [0, 3, 6]),
        (100, [0]),
        (np.int64(2), [0, 2, 4, 6]),
        ("batch", [0, 1, 2, 3, 4, 5, 6]),
        ("epoch", []),
    ],
    ids=str,
)
def test_log_freq_chooses_among_calls_with_a_batch_index_and_keeps_all_others(
    tmp_path: Path, log_freq: Any, kept: list[int]
) -> None:
    logger = allogger.basic_configure(tmp_path / "run", log_freq=log_freq)
    for batch_idx in range(7):
        logger.log(float(batch_idx), "python", batch_idx=batch_idx)
        logger.log(float(batch_idx), "numpy", batch_idx=np.int32(batch_idx))
        logger.log(np.full(2, batch_idx), "array", batch_idx=batch_idx)
        logger.log(float(batch_idx), "without")

    assert values(tmp_path / "run", "root/python") == kept
    assert values(tmp_path / "run", "root/numpy") == kept
    assert [array[0] for array in values(tmp_path / "run", "root/array")] == kept
    assert values(tmp_path / "run", "root/without") == list(range(7))


def test_log_freq_can_be_changed_for_a_logger_in_use(tmp_path: Path) -> None:
    allogger.basic_configure(tmp_path / "run")
    logger = allogger.get_logger("agent")
    for frequency in (1, 2, "epoch"):
        allogger.get_logger("agent", log_freq=frequency)
        for batch_idx in range(4):
            logger.log(batch_idx, str(frequency), batch_idx=batch_idx)

    assert [values(tmp_path / "run", f"agent/{frequency}") for frequency in (1, 2, "epoch")] == [
        [0, 1, 2, 3],
        [0, 2],
        [],
    ]


# ------------------------------------------------------------------------------------------------------- flush, outputs


def test_after_a_flush_another_process_reads_everything(tmp_path: Path) -> None:
    logger = allogger.basic_configure(tmp_path / "run", flush_seconds=600)
    for value in range(100):
        logger.log(value, "loss")
    logger.log("a text", "note")
    logger.log(np.eye(3), "matrix")

    allogger.flush()

    code = """
import sys, allogger
run = allogger.open_run(sys.argv[1])
print(run.keys(), run["root/loss"].value.sum(), run["root/note"].value[0], run["root/matrix"].value.sum())
"""
    found = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "run")], capture_output=True, check=True, text=True
    )
    assert found.stdout.strip() == "['root/loss', 'root/matrix', 'root/note'] 4950 a text 3.0"


def test_values_reach_the_disk_without_a_flush_within_flush_seconds(tmp_path: Path) -> None:
    logger = allogger.basic_configure(tmp_path / "run", flush_seconds=0.05)
    logger.log(1.0, "loss")
    deadline = datetime.now().timestamp() + 10

    def is_there() -> bool:
        return "root/loss" in allogger.open_run(tmp_path / "run")

    # What is awaited is what a reader sees; there is no event for that.
    while not is_there() and datetime.now().timestamp() < deadline:
        threading.Event().wait(0.01)

    assert is_there()


def test_with_manual_flush_nothing_is_handed_on_until_the_logger_is_flushed(tmp_path: Path) -> None:
    allogger.basic_configure(tmp_path / "run", manual_flush=True)
    parent, child = allogger.get_logger("agent"), allogger.get_logger("agent.critic")
    other = allogger.get_logger("other")
    for value in (1.0, 2.0):
        parent.log(value, "loss")
        child.log(value, "loss")
        other.log(value, "loss")
    assert values(tmp_path / "run", "agent/loss") == []

    parent.flush()
    assert allogger.open_run(tmp_path / "run").keys() == ["agent/loss"]
    parent.log(3.0, "loss")

    parent.flush(children=True)
    assert allogger.open_run(tmp_path / "run").keys() == ["agent.critic/loss", "agent/loss"]
    assert values(tmp_path / "run", "agent/loss") == [1.0, 2.0, 3.0]
    assert values(tmp_path / "run", "agent.critic/loss") == [1.0, 2.0]

    allogger.get_root().flush(children=True)
    assert values(tmp_path / "run", "other/loss") == [1.0, 2.0]


def test_with_manual_flush_the_close_hands_on_what_is_left(tmp_path: Path) -> None:
    logger = allogger.basic_configure(tmp_path / "run", manual_flush=True)
    logger.log(1.0, "loss")
    logger.log("text", "note")

    allogger.close()

    run = allogger.open_run(tmp_path / "run")
    assert run["root/loss"].value.tolist() == [1.0]
    assert run["root/note"].value.tolist() == ["text"]


@pytest.mark.timeout(30)
@pytest.mark.parametrize(("value", "count"), [(1.0, 30_000), (np.zeros((2, 500)), 1000)], ids=["numbers", "arrays"])
def test_what_manual_flush_holds_back_is_bounded_and_nobody_waits_for_it(
    tmp_path: Path, value: Any, count: int, caplog: pytest.LogCaptureFixture
) -> None:
    logger = allogger.basic_configure(tmp_path / "run", manual_flush=True, max_buffer_bytes=1 << 20)
    other = allogger.get_logger("other")

    for _ in range(count):
        logger.log(value, "value")
        other.log(value, "value")
        assert len(logger._held) + len(other._held) < 2 << 20

    allogger.close()
    run = allogger.open_run(tmp_path / "run")
    assert len(run["root/value"]) == len(run["other/value"]) == count
    assert caplog.text.count("what is held back is handed on") == 1


def test_switching_manual_flush_off_hands_on_what_was_held_back(tmp_path: Path) -> None:
    allogger.basic_configure(tmp_path / "run")
    logger = allogger.get_logger("agent", manual_flush=True)
    logger.log(1.0, "loss")

    allogger.get_logger("agent", manual_flush=False).log(2.0, "loss")

    assert values(tmp_path / "run", "agent/loss") == [1.0, 2.0]
    assert steps(tmp_path / "run", "agent/loss") == [1, 2]


def test_a_logger_tells_what_holds_for_it(tmp_path: Path) -> None:
    logger = allogger.get_logger("agent.critic")
    assert logger.logdir is None
    allogger.basic_configure(tmp_path / "run", ["csv", "stdout"])

    assert logger.logdir == tmp_path / "run"
    assert logger.default_outputs == ["csv", "console"]
    assert logger.scope == "root.agent.critic"
    assert "root.agent.critic" in repr(logger)


def test_an_unknown_argument_of_log_is_reported_once_and_the_value_is_kept(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    logger = allogger.basic_configure(tmp_path / "run")

    for _ in range(3):
        logger.log(1.0, "loss", to_tensorbord=True)

    assert values(tmp_path / "run", "root/loss") == [1.0, 1.0, 1.0]
    assert len([text for text in caplog.messages if "did you mean 'to_tensorboard'" in text]) == 1


def test_all_outputs_get_the_same_steps(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    logger = allogger.basic_configure(tmp_path / "run", ["hdf", "csv", "tensorboard", "console"])
    for step in (None, None, 10, None, -5, None, 3):
        logger.log(0.5, "loss", step)

    allogger.close()

    expected = [1, 2, 10, 11, -5, 12, 3]
    assert allogger.open_run(tmp_path / "run")["root/loss"].step.tolist() == expected
    (file,) = tmp_path.rglob("*.csv")
    assert [int(row["step"]) for row in csv.DictReader(file.read_text().splitlines())] == expected
    events = EventAccumulator(str(tmp_path / "run/events/MainProcess"), size_guidance={"scalars": 0}).Reload()
    assert [event.step for event in events.Scalars("root/loss")] == expected
    assert "[root] step 3 | loss 0.5" in capsys.readouterr().out


@pytest.mark.parametrize("tensor", [np.array(2.5), np.array([7]), np.array([[True]])], ids=str)
def test_an_array_of_one_element_is_the_same_number_by_the_quick_way_as_by_the_slow(
    tmp_path: Path, tensor: Any
) -> None:
    with allogger.run(tmp_path / "run") as logger:
        for _ in range(3):
            logger.log(tensor, "key")

    assert allogger.open_run(tmp_path / "run")["root/key"].value.tolist() == [tensor.item()] * 3


def test_a_time_after_numbers_under_one_key_stays_a_time(tmp_path: Path) -> None:
    moment = np.array("2020-01-01", "M8[ns]")
    with allogger.run(tmp_path / "run") as logger:
        logger.log(np.array(1), "key")
        logger.log(moment, "key")

    run = allogger.open_run(tmp_path / "run")
    assert [v.item() for v in run["root/key"].value] == [1, moment.item()]
    assert run["root/key"].value[1].dtype == moment.dtype


def test_tensors_of_torch_are_numbers_by_the_quick_way_too(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch", reason="torch is not installed")
    with allogger.run(tmp_path / "run") as logger:
        for value in (torch.tensor(0.5), torch.tensor(0.25, requires_grad=True), torch.tensor([3]), torch.zeros(2)):
            logger.log(value, "key")

    values = allogger.open_run(tmp_path / "run")["root/key"].value
    assert [np.asarray(v).tolist() for v in values] == [0.5, 0.25, 3, [0.0, 0.0]]


ARRAYS = [
    np.arange(3, dtype="f4"),
    np.array([[1, 2], [3, 4]], "f4"),
    np.array([[1, 2], [3, 4]], "f8"),
    np.array([[1, 2], [3, 4]], ">i2"),
    np.arange(48, dtype="u1").reshape(4, 4, 3),
    np.empty(0, "f4"),
    np.array([1j, 2]),
    np.array(["2020-01-01", "2021-01-01"], "M8[s]"),
]
KINDS = "histogram array array array image histogram histogram array".split()


@given(st.lists(st.tuples(st.sampled_from(range(len(ARRAYS))), st.none() | st.integers(-(2**70), 2**70)), max_size=12))
def test_arrays_read_back_whatever_came_before_them_under_the_key(logged: list[tuple[int, int | None]]) -> None:
    with capture() as captured:
        for which, step in logged:
            value = ARRAYS[which].copy()
            allogger.get_root().log(value, "key", step)
            value[...] = np.ones((), value.dtype)

    found = [record.payload for record in captured.records]
    assert [(a.dtype, a.tolist()) for a in map(np.asarray, found)] == [
        (ARRAYS[which].dtype, ARRAYS[which].tolist()) for which, _ in logged
    ]
    given = [(record.step, step) for record, (_, step) in zip(captured.records, logged, strict=True)]
    assert all(found == step for found, step in given if step is not None and abs(step) < 2**63)
    assert [record.kind for record in captured.records] == [KINDS[which] for which, _ in logged]


def test_a_setting_that_changes_holds_for_the_next_of_many_arrays_alike(tmp_path: Path) -> None:
    with allogger.run(tmp_path / "run") as logger:
        for n in range(3):
            logger.log(np.full(2, n), "key")
        allogger.get_logger(hdf_writer_params={"exclude": "key"})
        logger.log(np.full(2, 3), "key")
        allogger.get_logger(hdf_writer_params={"exclude": "other"}, manual_flush=True)
        logger.log(np.full(2, 4), "key")
        assert values(tmp_path / "run", "root/key") == [[0, 0], [1, 1], [2, 2]]
        logger.flush()
        assert values(tmp_path / "run", "root/key") == [[0, 0], [1, 1], [2, 2], [4, 4]]


@pytest.mark.parametrize("key", [["a list"], {}, None, 3, "text"], ids=repr)
def test_any_key_of_an_array_is_one_every_time(key: Any) -> None:
    with capture() as captured:
        for _ in range(3):
            allogger.get_root().log(np.zeros(2), key)

    assert [record.key for record in captured.records] == [str(key)] * 3


def test_a_call_that_was_kept_while_all_was_switched_off_logs_when_it_is_on_again(tmp_path: Path) -> None:
    logger = allogger.get_logger("agent")
    before = logger.log
    allogger.basic_configure(tmp_path / "run", enable=False)
    during = logger.log
    for log in (before, during, allogger.get_logger("made").log):
        log(1, "key")
        log([1, 2], "key", step=3, data_type="array", unknown=5)
    assert not (tmp_path / "run").exists()

    allogger.basic_configure(tmp_path / "run")
    for log in (before, during, logger.log):
        log(2, "key", 7, to_csv=True)

    assert steps(tmp_path / "run", "agent/key") == [7, 7, 7]
    assert inspect.signature(during) == inspect.signature(logger.log)
    assert logger.log is before
