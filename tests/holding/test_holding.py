"""Does what is held come back once, bit for bit and in its order, whatever it is and whenever it is posted?"""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

import allogger
from allogger.holding import HoldingLogger
from allogger.holding.windows import windows
from allogger.testing import capture, strategies
from allogger.testing.rows import ODD_VALUES


def observations(run: allogger.Run, key: str) -> list[NDArray[Any]]:
    """Return what was held under a key of the root, one array each."""
    if f"root/{key}" not in run:
        return []
    return [row for window in run[f"root/{key}"].value for row in (window[at, ...] for at in range(len(window)))]


def is_same(one: NDArray[Any], other: NDArray[Any]) -> bool:
    return one.shape == other.shape and one.dtype == other.dtype and one.tobytes() == other.tobytes()


@pytest.fixture
def root(tmp_path: Path) -> allogger.Logger:
    return allogger.basic_configure(tmp_path)


def read(logdir: Path) -> allogger.Run:
    allogger.flush()
    return allogger.open_run(logdir)


# ------------------------------------------------------------------------------------------------------------- windows

_ODD = [array for kind, array in ODD_VALUES if kind == "array"]
_ARRAYS = strategies.values("array") | st.sampled_from([np.arange(3), np.arange(3.0), *_ODD])
_CALLS = st.lists(
    st.tuples(st.just("hold"), st.sampled_from(["a", "b", "a/b"]), _ARRAYS)
    | st.tuples(st.sampled_from(["post", "epoch", "step", "emit"]), st.none(), st.none()),
    max_size=30,
)


@settings(max_examples=40)
@given(
    calls=_CALLS,
    max_hold_bytes=st.sampled_from([1, 600, 2**20]),
    is_raising=st.booleans(),
    lists=st.sampled_from([{}, {"collect_blacklist": ["b"]}, {"write_whitelist": ["a", "a/b"]}]),
)
def test_whatever_is_held_reads_back_once_and_bit_for_bit(
    tmp_path_factory: pytest.TempPathFactory,
    calls: list[tuple[str, str, Any]],
    max_hold_bytes: int,
    is_raising: bool,
    lists: Mapping[str, Any],
) -> None:
    logdir = tmp_path_factory.mktemp("run")
    expected: dict[str, list[NDArray[Any]]] = {"a": [], "b": [], "a/b": []}
    try:
        with allogger.run(logdir) as root:
            holder = HoldingLogger(max_hold_bytes=max_hold_bytes, **lists)
            for call, key, value in calls:
                if call == "hold":
                    array = np.array(value)
                    holder.hold(array, key)
                    expected[key].append(array.copy())
                    array.fill(0)
                elif call == "step":
                    holder.on_step_begin()
                else:
                    {"post": holder.post, "epoch": holder.on_epoch_begin, "emit": root.emit}[call]()
            if is_raising:
                raise KeyError
    except KeyError:
        pass

    run = allogger.open_run(logdir)
    for key, values in expected.items():
        found = observations(run, key)
        wanted = [] if lists and key == "b" else values
        assert len(found) == len(wanted)
        assert all(map(is_same, found, wanted))
    assert not [key for key in run if lists and key.startswith("root/b")]


@given(shapes=st.lists(st.sampled_from([(), (1,), (2,), (2, 1)]), max_size=12))
def test_windows_are_as_few_as_can_be_without_changing_anything(shapes: list[tuple[int, ...]]) -> None:
    from allogger.holding.windows import Observation

    held = [Observation(np.full(shape, place), place) for place, shape in enumerate(shapes)]

    found = list(windows(held))

    assert [place for _, places in found for place in places.tolist()] == list(range(len(shapes)))
    assert [window.shape[1:] for window, _ in found for _ in window] == shapes
    changes = sum(one != other for one, other in itertools.pairwise(shapes))
    assert len(found) == (changes + 1 if shapes else 0)


def test_a_window_is_an_array_of_its_epoch_with_the_meta_data_of_its_key(root: allogger.Logger, tmp_path: Path) -> None:
    holder = HoldingLogger(post_every=2)
    for _ in holder.epochs(4):
        for _ in holder.steps(range(3)):
            holder.hold([holder.step, 0.5], "output", description="of the last layer", shape_key=("units",))
        holder.hold(holder.epoch, "scale", stride="epoch")

    run = read(tmp_path)
    series = run["root/output"]
    assert series.kind == "array"
    assert series.value.shape == (2, 6, 2)
    assert series.step.tolist() == [2, 4]
    assert series.meta == {"stride": "step", "description": "of the last layer", "shape_key": ["units"]}
    assert run["root/scale"].value.tolist() == [[1, 2], [3, 4]]
    assert run["root/step"].value.tolist() == [[1, 2, 3, 4, 5, 6], [7, 8, 9, 10, 11, 12]]
    assert run["root/sw_epoch"].value.tolist() == [[1, 1, 1, 2, 2, 2], [3, 3, 3, 4, 4, 4]]
    assert run["root/ew_epoch"].value.tolist() == [[1, 2], [3, 4]]
    assert "root/output/step" not in run


def test_a_key_that_misses_steps_says_where_its_values_belong(root: allogger.Logger, tmp_path: Path) -> None:
    holder = HoldingLogger()
    for _ in holder.epochs(1):
        for _ in holder.steps(range(6)):
            if holder.step % 3 == 0:
                holder.hold(0.5, "rare")

    assert read(tmp_path)["root/rare/step"].value.tolist() == [[3, 6]]


@pytest.mark.parametrize("value", [1e6, -1, np.float16(6e4), 2**62 + 1, True])
def test_no_number_is_cast(root: allogger.Logger, tmp_path: Path, value: Any) -> None:
    holder = HoldingLogger()
    holder.hold(value, "x")
    holder.post()

    [window] = read(tmp_path)["root/x"].value
    assert is_same(window, np.array([value]))


def test_no_value_is_changed_by_its_neighbours(root: allogger.Logger, tmp_path: Path) -> None:
    values = [np.array(value) for value in (1, 2**62 + 1, 0.5, True, np.float32(0.1), [1], [0.5], [1, 2], "a", "bc")]
    holder = HoldingLogger()
    for value in values:
        holder.hold(value, "x")
    holder.post()

    found = observations(read(tmp_path), "x")
    assert len(found) == len(values)
    assert all(map(is_same, found, values))


def test_posting_again_adds_nothing(root: allogger.Logger, tmp_path: Path) -> None:
    holder = HoldingLogger()
    holder.on_epoch_begin()
    holder.hold(1, "x")
    for _ in range(3):
        holder.post()
    holder.hold(2, "x")
    holder.post()

    series = read(tmp_path)["root/x"]
    assert (series.step.tolist(), series.value.tolist()) == ([1, 1], [[1], [2]])


def test_without_epochs_windows_are_counted(root: allogger.Logger, tmp_path: Path) -> None:
    holder = HoldingLogger()
    for number in range(3):
        holder.hold(number, "x")
        holder.post()

    assert read(tmp_path)["root/x"].step.tolist() == [1, 2, 3]


def test_memory_is_bounded_and_what_is_too_much_makes_windows_before_the_post(
    root: allogger.Logger, tmp_path: Path
) -> None:
    holder = HoldingLogger(max_hold_bytes=100_000, write_blacklist=["shown"])
    for number in range(100):
        holder.hold(np.full(1000, number), "x")
        holder.hold(np.zeros(1000), "shown")
        buffer = holder._buffer()
        assert buffer is not None
        assert sum(held.nbytes for held in buffer.held.values()) < 120_000

    assert len(observations(read(tmp_path), "x")) > 50
    holder.post()
    assert [row[0] for row in observations(read(tmp_path), "x")] == list(range(100))


def test_a_label_first_call_holds_the_same(root: allogger.Logger, tmp_path: Path) -> None:
    holder = HoldingLogger()
    meta = {"stride": "epoch", "description": "a mean"}
    holder.log("mean", 0.5, meta)
    holder.log("mean", 1.5, meta)
    holder.post()

    series = read(tmp_path)["root/mean"]
    assert series.value.tolist() == [[0.5, 1.5]]
    assert series.meta == meta == {"stride": "epoch", "description": "a mean"}


# -------------------------------------------------------------------------------------------------------------- static


def test_a_static_value_is_stored_once_however_often_it_is_held(tmp_path: Path) -> None:
    for _ in range(2):
        with allogger.run(tmp_path):
            holder = HoldingLogger()
            for _ in holder.epochs(3):
                holder.hold(np.array([np.nan, 1]), "labels", stride="static", description="of the columns")

    series = allogger.open_run(tmp_path)["root/labels"]
    assert series.step.tolist() == [0]
    np.testing.assert_array_equal(series.value, [[np.nan, 1]])
    assert series.meta == {"stride": "static", "description": "of the columns"}


def test_a_static_value_is_stored_again_where_the_run_was_cleared(tmp_path: Path) -> None:
    holder = HoldingLogger()
    for _ in range(2):
        with allogger.run(tmp_path, default_path_exists="clear"):
            holder.hold([1, 2], "labels", stride="static")

        assert allogger.open_run(tmp_path)["root/labels"].value.tolist() == [[1, 2]]


def test_another_value_of_a_static_key_is_stored_and_told(
    root: allogger.Logger, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    holder = HoldingLogger()
    holder.hold(1, "seed", stride="static")
    holder.hold(2, "seed", stride="static")

    assert read(tmp_path)["root/seed"].value.tolist() == [1, 2]
    assert "has another value now" in caplog.text


# --------------------------------------------------------------------------------------------------------------- lists


@pytest.mark.parametrize(
    ("lists", "kept"),
    [
        ({}, ["a", "b"]),
        ({"collect_whitelist": []}, []),
        ({"collect_blacklist": []}, ["a", "b"]),
        ({"collect_whitelist": ["a"]}, ["a"]),
        ({"collect_whitelist": ["a", "b"], "collect_blacklist": ["a"]}, ["b"]),
        ({"write_whitelist": ["b"]}, ["b"]),
        ({"write_whitelist": ["a", "b"], "write_blacklist": ["b"]}, ["a"]),
    ],
)
def test_lists_decide_what_is_collected_and_written(
    root: allogger.Logger, tmp_path: Path, lists: dict[str, Any], kept: list[str]
) -> None:
    holder = HoldingLogger(**lists)
    for key in ("a", "b"):
        holder.hold(1, key, description="nothing of it stays")
        holder.hold(1, f"{key}/static", stride="static")
    holder.post()

    found = [key.removeprefix("root/") for key in read(tmp_path)]
    assert [key for key in found if not key.endswith("static")] == kept


def test_what_no_output_keeps_is_never_touched(tmp_path: Path) -> None:
    class Untouchable:
        def __array__(self, *_: Any) -> Any:
            raise AssertionError

    allogger.basic_configure(tmp_path, hdf_writer_params={"exclude": "debug"})

    HoldingLogger(collect_blacklist=["b"]).hold(Untouchable(), "b")
    HoldingLogger().hold(Untouchable(), "debug/x")

    allogger.close()
    assert "were not stored" not in "".join(path.read_text() for path in tmp_path.glob("*.log"))


def test_nothing_is_held_where_everything_is_disabled(tmp_path: Path) -> None:
    allogger.basic_configure(tmp_path, enable=False)
    holder = HoldingLogger(plots={"loss_curve": ["train/loss"]})
    with holder.training():
        for _ in holder.epochs(2):
            holder.hold(1, "x")
            holder.summarize(1, [("loss", 0.5)])

    assert not list(tmp_path.iterdir())


def test_values_held_before_the_configuration_are_counted(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    holder = HoldingLogger("early")
    holder.hold(1, "x")
    allogger.basic_configure(tmp_path)
    holder.hold(2, "x")
    allogger.close()

    assert allogger.open_run(tmp_path)["early/x"].value.tolist() == [[2]]
    assert "1 values were not stored: 'early/x' 1" in caplog.text


def test_a_rank_that_logs_nothing_holds_and_draws_nothing(tmp_path: Path) -> None:
    with allogger.run(tmp_path, log_on_workers=1, rank=0):
        holder = HoldingLogger(plots={"panels": ["x"]}, write_blacklist=["x"])
        holder.hold(1, "x")
        holder.post()

    assert not (tmp_path / "plots").exists()


def test_what_is_held_within_a_capture_and_around_it_stays_apart(root: allogger.Logger, tmp_path: Path) -> None:
    holder = HoldingLogger()
    holder.hold(1, "x")
    with capture() as captured:
        holder.hold(2, "x")
        holder.post()
    holder.hold(3, "x")
    allogger.close()

    assert captured["root/x"].value[0].tolist() == [2]
    assert allogger.open_run(tmp_path)["root/x"].value.tolist() == [[1, 3]]


# ----------------------------------------------------------------------------------------------------------- bad input


def test_bad_values_are_counted_and_the_others_kept(
    root: allogger.Logger, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    class Hostile:
        def __str__(self) -> str:
            raise RuntimeError("do not look")

    holder = HoldingLogger()
    for value in (1, None, [1, [2, 3]], object(), 2):
        holder.hold(value, "x")
    holder.hold(3, "x", stride="setp")
    holder.hold(4, "x", stride=Hostile())  # type: ignore[arg-type]
    holder.hold(0, "step")
    holder.hold("x", np.arange(3))  # type: ignore[arg-type]
    holder.log("y", 0, "static")  # type: ignore[arg-type]
    holder.log("y", 1, {"value": 3, 4: 5})  # type: ignore[dict-item]
    holder.summarize(7, [("loss", 0.5), "nonsense", ("text", "x"), 3, ("n", 2), (None, 1.0)], writer="test")
    holder.summarize(8, None)  # type: ignore[arg-type]
    holder.summarize(9, {"loss": 0.25}, writer="test")
    allogger.close()

    run = allogger.open_run(tmp_path)
    assert run.keys() == ["root/test/None", "root/test/loss", "root/test/n", "root/x", "root/y"]
    assert run["root/x"].value.tolist() == [[1, 2, 3]]
    assert run["root/test/loss"].step.tolist() == [7, 9]
    assert run["root/test/n"].kind == "scalar"
    told = caplog.text
    assert "'root/?' 4" in told
    assert "'root/x' 4" in told
    assert "'root/test/text' 1" in told


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"post_evry": 1}, "did you mean 'post_every'"),
        ({"post_every": 0}, "whole number"),
        ({"post_every": True}, "whole number"),
        ({"checkpoint_every": 1.5}, "whole number"),
        ({"collect_whitelist": "loss"}, "list of labels"),
        ({"write_blacklist": [1]}, "list of labels"),
        ({"mode": "mni", "checkpoint_every": 1}, "did you mean 'min'"),
        ({"keep_last": 0, "checkpoint_every": 1}, "keep_last"),
        ({"max_hold_bytes": None}, "max_hold_bytes is a whole number"),
        ({"state": dict}, "checkpoint_every"),
        ({"metric": "test/loss"}, "checkpoint_every"),
        ({"plots": {"los_curve": ["loss"]}}, "did you mean 'loss_curve'"),
        ({"plots": {"loss_curve": "loss"}}, "list of keys"),
    ],
)
def test_impossible_options_are_errors(options: dict[str, Any], message: str) -> None:
    with pytest.raises(allogger.ConfigError, match=message):
        HoldingLogger(**options)


# ------------------------------------------------------------------------------------------------------------- threads


def test_threads_that_hold_and_post_together_lose_and_double_nothing(root: allogger.Logger, tmp_path: Path) -> None:
    holder = HoldingLogger(max_hold_bytes=50_000)
    start = threading.Barrier(4)

    def hold(number: int, end: Callable[[], None]) -> None:
        start.wait()
        for value in range(500):
            holder.hold((number, value), "x")
            if value % 50 == 0:
                end()

    ends = (holder.post, root.emit, holder.post, lambda: None)
    threads = [threading.Thread(target=hold, args=(number, end)) for number, end in enumerate(ends)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    allogger.close()

    found = [tuple(row) for row in observations(allogger.open_run(tmp_path), "x")]
    assert sorted(found) == [(number, value) for number in range(4) for value in range(500)]
    for number in range(4):
        assert [value for who, value in found if who == number] == list(range(500))
