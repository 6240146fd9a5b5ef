"""Does a tree of objects keep what each of them logs, under names that never meet, and lose none of it at the end?"""

from __future__ import annotations

import copy
import os
import pickle
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import allogger
from allogger import testing
from allogger.mixin import LoggingMixin
from allogger.mixin.ending import _ending
from allogger.mixin.values import Latest, LatestArray, LoggedValue, Mean, Sum
from tests.conftest import Result


def node(log_key: str = "", *keys: str, children: tuple[LoggingMixin, ...] = ()) -> LoggingMixin:
    """Return an object that has registered means of these keys."""
    made = LoggingMixin(log_key)
    made.logging_buffer.update((key, Mean()) for key in keys)
    made.logging_children.extend(children)
    return made


class Sampler(LoggingMixin):
    """Can be pickled, as it is defined in a module."""

    def __init__(self) -> None:
        super().__init__(log_key="sampler")
        self.logging_buffer["loss"] = Mean()


@pytest.fixture
def caught() -> Iterator[testing.Captured]:
    with testing.capture() as captured:
        yield captured


# ------------------------------------------------------------------------------------------------------ log and get


def test_get_keeps_and_get_all_resets_unless_they_are_told() -> None:
    one = node("", "loss")
    one.log("loss", 1.0)
    one.log("loss", 4.0, weight=2)

    assert one.get("loss") == one.get("loss") == 3.0
    assert one.get_all(reset=False) == {"loss": 3.0}
    assert one.get_all() == {"loss": 3.0}
    assert one.get_all() == {}
    one.log("loss", 5.0)
    assert one.get("loss", reset=True) == 5.0
    assert one.get("loss") is None


def test_names_are_joined_from_those_above_and_empty_parts_are_left_out() -> None:
    loss = node("loss", "")
    tree = node("model", "acc", children=(node("sampler", children=(node("", "x", children=(loss,)),)),))
    for each, key in ((tree, "acc"), (loss, ""), (tree.logging_children[0].logging_children[0], "x")):
        each.log(key, 1.0)

    assert tree.get_all(reset=False) == {"model.acc": 1.0, "model.sampler.x": 1.0, "model.sampler.loss": 1.0}
    assert loss.get_all() == {"loss": 1.0}


def test_types_are_matched_exactly_unless_subclasses_are_asked_for() -> None:
    class OwnMean(Mean):
        pass

    one = node("", "mean")
    one.logging_buffer.update(own=OwnMean(), latest=Latest())
    for key in one.logging_buffer:
        one.log(key, 2.0)

    assert one.get_all(False, Mean) == {"mean": 2.0}
    assert one.get_all(False, (Mean, Latest)) == {"mean": 2.0, "latest": 2.0}
    assert one.get_all(False, Mean, subclasses=True) == {"mean": 2.0, "own": 2.0}
    assert one.get_all(True, Mean) == {"mean": 2.0}
    assert one.get_all() == {"own": 2.0, "latest": 2.0}


def test_what_cannot_be_taken_is_counted_and_told_once(
    caught: testing.Captured, caplog: pytest.LogCaptureFixture
) -> None:
    one = node("model", "loss")
    for _ in range(3):
        one.log("lss", 1.0)
    one.log("loss", "text")
    one.log("loss", 1.0, wieght=3)
    one.log(1.0, "loss")  # type: ignore[arg-type]
    one.log([], 1.0)  # type: ignore[arg-type]
    with pytest.raises(allogger.NoSuchKey, match="did you mean 'loss'"):
        one.get("lss")
    allogger.close()

    assert one.get_all() == {}
    text = caplog.text
    assert text.count("'model/lss' is not stored") == 1
    assert "did you mean 'loss'" in text
    assert "a key is a str, and here it comes before the value, but a float was given" in text
    assert "7 values were not stored: 'model/lss' 3, 'model/loss' 2, 'model/?' 2" in text


def test_a_value_of_ones_own_is_registered_and_its_mistakes_stay_with_it(
    caught: testing.Captured, caplog: pytest.LogCaptureFixture
) -> None:
    class Texts(LoggedValue):
        data_type = "text"

        def __init__(self) -> None:
            self.texts: list[str] = []

        def log(self, value: str) -> None:
            self.texts.append(value)

        def get(self, reset: bool = False) -> str | None:
            found = " ".join(self.texts) or None
            if reset:
                self.reset()
            return found

        def reset(self) -> None:
            self.texts = []

    one = node("", "loss")
    one.logging_buffer["note"] = Texts()
    one.logging_buffer["none"] = 3  # type: ignore[assignment]
    for word in ("it", "works"):
        one.log("note", word)
    one.log("loss", 1.0)
    one.collect()
    assert caught["root/note"].value == ["it works"]

    one.log("note", 3)
    one.log("loss", 2.0)
    assert one.get_all() == {"loss": 2.0}
    assert "'LoggingMixin/note' is not stored: TypeError" in caplog.text


def test_registered_values_and_children_can_be_taken_out() -> None:
    one = node("", "a", "b", children=(node("child", "c"),))
    one.remove_key_from_logging_buffer("a")
    with pytest.raises(KeyError, match="known: b"):
        one.remove_key_from_logging_buffer("a")
    one.clear_logging_children()
    assert (list(one.logging_buffer), one.logging_children) == (["b"], [])
    one.clear_logging_buffer()
    assert one.logging_buffer == {}


# ------------------------------------------------------------------------------------------------------------- classes


def test_it_works_in_any_class_in_either_order_and_without_its_init() -> None:
    class Other:
        def __init__(self, size: int, **kwargs: Any) -> None:
            super().__init__(**kwargs)
            self.size = size

    class First(LoggingMixin, Other):
        pass

    class Last(Other, LoggingMixin):
        pass

    class Forgetful(LoggingMixin):
        log_key = "forgetful"

        def __init__(self) -> None:
            pass

    first, last, forgetful = First("first", size=3), Last(3, log_key="last"), Forgetful()

    assert (first.size, last.size) == (3, 3)
    for each in (first, last, forgetful):
        each.logging_buffer["x"] = Mean()
        each.log("x", 1.0)
    assert [list(each.get_all()) for each in (first, last, forgetful)] == [["first.x"], ["last.x"], ["forgetful.x"]]
    with pytest.raises(allogger.ConfigError, match="a log_key is a str"):
        LoggingMixin(3)  # type: ignore[arg-type]


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda value: pickle.loads(pickle.dumps(value))])
def test_a_copied_tree_has_the_same_values_and_its_own_children(copied: Callable[[Any], Any]) -> None:
    tree = node("model", "acc", children=(Sampler(),))
    tree.log("acc", 1.0)
    tree.logging_children[0].log("loss", 2.0)

    twin = copied(tree)
    twin.log("acc", 3.0)

    assert twin.get_all() == {"model.acc": 2.0, "model.sampler.loss": 2.0}
    assert tree.get_all() == {"model.acc": 1.0, "model.sampler.loss": 2.0}


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda value: pickle.loads(pickle.dumps(value))])
def test_what_is_logged_to_a_copy_and_not_read_is_counted(
    copied: Callable[[Any], Any], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with allogger.run(tmp_path):
        sampler = Sampler()
        sampler.log("loss", 1.0)
        twin = copied(sampler)
        sampler.get_all()
        twin.log("loss", 2.0)

    assert "1 values were not stored: 'sampler/loss' 1" in caplog.text


# --------------------------------------------------------------------------------------------------------------- names

PARTS = st.sampled_from(["", "a", "b", "a.b", "a_2", "a_3"])


@st.composite
def graphs(draw: st.DrawFn) -> list[LoggingMixin]:
    """Objects with values and any children, the first being the head: with diamonds, cycles and equal names."""
    made = [node(draw(PARTS), *draw(st.lists(PARTS, unique=True, max_size=4))) for _ in range(draw(st.integers(1, 6)))]
    for each in made:
        each.logging_children.extend(draw(st.lists(st.sampled_from(made), max_size=4)))
    return made


def reached(head: LoggingMixin) -> list[LoggingMixin]:
    """Return what is in the tree of *head*, each once."""
    found = [head]
    for each in found:
        found += [child for child in each.logging_children if not any(child is other for other in found)]
    return [each for at, each in enumerate(found) if not any(each is other for other in found[:at])]


@given(made=graphs(), is_logged=st.lists(st.booleans(), min_size=24, max_size=24))
def test_names_are_unique_and_stay_and_nothing_is_lost(made: list[LoggingMixin], is_logged: list[bool]) -> None:
    places = [(each, key) for each in reached(made[0]) for key in each.logging_buffer]
    for number, (each, key) in enumerate(places):
        each.log(key, number)
    every = made[0].get_all()
    assert sorted(every.values()) == list(range(len(places)))

    chosen = [number for number in range(len(places)) if is_logged[number % 24]]
    for number in chosen:
        places[number][0].log(places[number][1], number)
    assert made[0].get_all() == {name: number for name, number in every.items() if number in chosen}


@settings(max_examples=20)
@given(made=graphs())
def test_what_is_collected_is_read_back(tmp_path_factory: pytest.TempPathFactory, made: list[LoggingMixin]) -> None:
    logdir = tmp_path_factory.mktemp("run")
    places = [(each, key) for each in reached(made[0]) for key in each.logging_buffer]
    with allogger.run(logdir, flush_seconds=100):
        for number, (each, key) in enumerate(places):
            each.log(key, number + 0.5)
        made[0].collect(allogger.get_logger("main"), 7)

    run = allogger.open_run(logdir)
    found = [run[key] for key in run.keys()]  # noqa: SIM118  # a method of Run
    assert sorted(series.value.item() for series in found) == [number + 0.5 for number in range(len(places))]
    assert all(series.step.tolist() == [7] for series in found)


def test_equal_names_get_numbers_in_the_order_of_the_tree_and_that_is_told(
    caught: testing.Captured, caplog: pytest.LogCaptureFixture
) -> None:
    layers = [node("layer", "x"), node("layer", "x"), node("layer", "x", "x_2")]
    for number, layer in enumerate(layers):
        for key in layer.logging_buffer:
            layer.log(key, number)
    head = node("", children=tuple(layers))

    assert head.get_all() == {"layer.x": 0, "layer.x_3": 1, "layer.x_4": 2, "layer.x_2": 2}
    assert "'layer.x' is what several registered values would be called" in caplog.text


def test_a_value_that_two_objects_share_has_both_names() -> None:
    one, other = node("one", "x"), node("other")
    other.logging_buffer["y"] = one.logging_buffer["x"]
    one.log("x", 1.0)
    other.log("y", 3.0)

    assert node("", children=(one, other)).get_all() == {"one.x": 2.0, "other.y": 2.0}


def test_a_child_that_is_none_is_left_out_and_told(caught: testing.Captured, caplog: pytest.LogCaptureFixture) -> None:
    tree = node("", "x")
    tree.logging_children.append(3)
    tree.log("x", 1.0)

    assert tree.get_all() == {"x": 1.0}
    assert "a value of type int is among logging_children" in caplog.text


# ---------------------------------------------------------------------------------------------------------------- mute


def test_blocks_without_logging_nest_overlap_and_end_when_they_raise() -> None:
    shared = node("shared", "x")
    tree = node("", "y", children=(node("a", children=(shared,)), node("b", children=(shared,))))
    tree.logging_children[0].logging_children.append(tree)
    late, other = node("late", "x"), node("other", "x")

    def log_all(value: float = 1.0) -> None:
        for each in (shared, late, other):
            each.log("x", value)
        tree.log("y", value)

    with tree.no_logging():
        with tree.no_logging(), shared.no_logging():
            log_all()
        log_all()
        tree.logging_children.append(late)
        log_all(4.0)
    assert other.get_all() == {"other.x": 2.0}
    assert tree.get_all() == {"late.x": 1.0}  # before it was a child

    with pytest.raises(ZeroDivisionError), tree.no_logging():
        1 / 0  # noqa: B018
    log_all()
    assert tree.get_all() == {"y": 1.0, "a.shared.x": 1.0, "late.x": 1.0}


def test_a_block_mutes_all_threads() -> None:
    tree = node("", "x")
    with tree.no_logging():
        thread = threading.Thread(target=tree.log, args=("x", 1.0))
        thread.start()
        thread.join()

    assert tree.get("x") is None


def test_flags_mute_a_value_an_object_or_all_below_and_can_be_restored() -> None:
    child = node("child", "x")
    tree = node("", "x", "y", children=(child,))
    child.skip_logging = True
    tree.logging_buffer["y"].skip_logging = True

    def names() -> list[str]:
        for each, key in ((tree, "x"), (tree, "y"), (child, "x")):
            each.log(key, 1.0)
        return list(tree.get_all())

    assert names() == ["x"]
    tree.cache_logging_state_recursively()
    child.skip_logging = False
    assert names() == ["x", "child.x"]
    tree.skip_logging_recursively()
    assert names() == []
    tree.restore_logging_state_recursively()
    assert names() == ["x"]


# ------------------------------------------------------------------------------------------------------------- collect


def test_collect_logs_each_kind_as_what_it_is_under_keys_with_slashes(tmp_path: Path) -> None:
    sampler = node("sampler", "loss")
    sampler.logging_buffer.update(samples=LatestArray(), count=Sum())
    tree = node("model", children=(sampler,))
    with allogger.run(tmp_path):
        for epoch in range(2):
            sampler.log("loss", 1.0 + epoch)
            sampler.log("count", 2)
            sampler.log("samples", [0.0, epoch])
            tree.collect(allogger.get_logger("train"), epoch, True)

    run = allogger.open_run(tmp_path)
    assert run.kinds == {
        "train/model/sampler/count": "scalar",
        "train/model/sampler/loss": "scalar",
        "train/model/sampler/samples": "array",
    }
    assert run["train/model/sampler/loss"].value.tolist() == [1.0, 2.0]
    assert run["train/model/sampler/loss"].step.tolist() == [0, 1]
    assert run["train/model/sampler/count"].value.dtype == np.int64
    assert np.array_equal(run["train/model/sampler/samples"].value, [[0, 0], [0, 1]])


def test_collect_never_raises(caught: testing.Captured, caplog: pytest.LogCaptureFixture) -> None:
    tree = node("", "x")
    tree.log("x", 1.0)
    tree.collect(step="seven", reduce="rank")  # type: ignore[arg-type]
    tree.log("x", 1.0)
    tree.collect("train")  # type: ignore[arg-type]
    assert tree.get("x") == 1.0
    tree.logging_children = None  # type: ignore[assignment]
    tree.collect()
    allogger.close()

    assert caught["root/x"].step == [1]
    assert "did you mean 'ranks'" in caplog.text
    assert "'LoggingMixin' is not collected: ConfigError: it takes a logger as allogger.get_logger" in caplog.text
    assert "'LoggingMixin' is not collected: TypeError: 'NoneType'" in caplog.text
    assert "the rest of a tree of objects is not collected" in caplog.text


END = """
    import gc, os, signal, sys
    import allogger
    from allogger.mixin import Latest, LoggingMixin, Mean

    def make():
        child = LoggingMixin("child")
        child.logging_buffer.update(loss=Mean(), other=Latest())
        tree = LoggingMixin("model")
        tree.logging_children.append(child)
        return tree

    def train(tree):
        for step in range(3):
            tree.logging_children[0].log("loss", float(step))
            tree.logging_children[0].log("other", step)
            if step < 2:
                tree.collect(step=10 * step, type_=Mean)

    allogger.basic_configure("run", flush_seconds=100)
"""


@pytest.mark.parametrize(
    "end",
    [
        "tree = make(); train(tree)",
        "tree = make(); train(tree); allogger.close()",
        "tree = make(); train(tree); os.kill(os.getpid(), signal.SIGTERM); signal.pause()",
        "train(make()); sys.exit(0)",
        "train(make()); tree = make(); tree.collect(step=30); allogger.close()",
    ],
)
def test_what_is_logged_after_the_last_collect_is_stored_at_the_end(
    tmp_path: Path, run_python: Callable[..., Result], end: str
) -> None:
    result = run_python(END + "    " + end)

    series = allogger.open_run(tmp_path / "run")["root/model/child/loss"]
    assert (series.step.tolist(), series.value.tolist()) == ([0, 10, 11], [0.0, 1.0, 2.0])
    # What nobody has asked for is not stored, but said.
    assert "values of a LoggingMixin that nobody has collected or read are not stored" in result.stderr
    assert "3 values were not stored: 'child/other' 3" in result.stderr


def test_the_rest_of_deleted_trees_is_logged_but_not_that_of_objects_that_live_on(caught: testing.Captured) -> None:
    shared, unrelated = node("shared", "x"), node("unrelated", "z")
    for number in range(3):
        tree = node("model", "y", children=(shared,))
        tree.log("y", number)
        tree.collect()
        tree.log("y", number + 0.5)
        shared.log("x", number)
        del tree  # the next one may have its place in memory
    unrelated.collect()
    node("other", children=(shared,)).collect()

    assert sorted(caught["root/model/y"].value) == [0, 0.5, 1, 1.5, 2, 2.5]
    assert caught["root/model/shared/x"].value == [0, 1]
    assert caught["root/other/shared/x"].value == [2]


def test_what_was_left_out_or_not_read_is_counted_in_each_run(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    one, other = node("model", "x"), node("other", "y")
    one.logging_buffer["mean"] = Mean(nan="skip")
    for _ in range(2):
        with allogger.run(tmp_path):
            one.log("x", 1.0)
            other.log("y", 1.0)
            for number in (1.0, float("nan")):
                one.log("mean", number)
            one.collect(type_=Latest)
            assert one.get("mean", reset=False) == 1.0
            node("", children=(one,)).collect()
            one.log("x", 1.0)

    assert caplog.text.count("3 values were not stored: 'model/mean' 1, 'model/x' 1, 'other/y' 1") == 2


def test_objects_that_come_and_go_are_counted_and_not_kept(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with allogger.run(tmp_path):
        for number in range(5000):
            lost = node("lost", "x")
            lost.log("x", 1.0)
            if number % 10 == 0:
                model = node("model", "x", children=(node("part", "x"),))
                model.collect()
                model.logging_children[0].log("x", number)
                model.logging_children.clear()  # but it was there when it was collected
        assert len(_ending().known) < 2500
        del lost, model

    assert "5000 values were not stored: 'lost/x' 5000" in caplog.text
    assert len(allogger.open_run(tmp_path)["root/model/part/x"].value) == 500


def test_a_forked_child_begins_with_nothing(tmp_path: Path) -> None:
    tree = node("model", "loss")
    with allogger.run(tmp_path):
        tree.log("loss", 1.0)
        tree.collect(step=0)
        tree.log("loss", 5.0)
        pid = os.fork()
        if not pid:
            found = tree.get("loss")
            tree.log("loss", 7.0)
            allogger.close()
            os._exit(0 if (found, tree.get("loss")) == (None, 7.0) else 1)
        assert os.waitpid(pid, 0)[1] == 0

    assert allogger.open_run(tmp_path)["root/model/loss"].value.tolist() == [1.0, 5.0]


def test_a_test_that_captures_leaves_a_tree_outside_alone(tmp_path: Path) -> None:
    tree = node("model", "loss")
    with allogger.run(tmp_path):
        tree.log("loss", 1.0)
        tree.collect(step=0)
        tree.log("loss", 5.0)
        with testing.capture() as captured:
            allogger.get_root().log(1, "x")
        assert captured.keys() == ["root/x"]

    assert allogger.open_run(tmp_path)["root/model/loss"].value.tolist() == [1.0, 5.0]


def test_ranks_are_reduced_by_the_weights_of_what_each_has_logged(
    tmp_path: Path, run_python: Callable[..., Result]
) -> None:
    pytest.importorskip("torch")
    result = run_python(
        """
        import os
        import torch.distributed as dist
        import torch.multiprocessing as mp
        import allogger
        from allogger.mixin import Count, Latest, LatestArray, LoggingMixin, Max, Mean

        def work(rank):
            os.environ["RANK"] = str(rank)
            meeting = "file://" + os.path.abspath("meeting")
            dist.init_process_group("gloo", init_method=meeting, rank=rank, world_size=2)
            allogger.basic_configure("run")
            tree = LoggingMixin("model")
            tree.logging_buffer.update(loss=Mean(), most=Max(), calls=Count(), latest=Latest(), array=LatestArray())
            for i in range(1000):
                tree.log("loss", float(rank), weight=1 + 2 * rank)
                tree.log("most", i + rank)
                tree.log("calls", rank)
            tree.log("latest", rank)
            tree.log("array", [rank, rank])
            if rank:
                tree.logging_buffer["own"] = Mean()
                tree.log("own", 0.5)
            tree.collect(step=3, reduce="ranks")
            allogger.close()
            dist.destroy_process_group()

        if __name__ == "__main__":
            # Not spawned: to import torch takes longer than all of this.
            mp.start_processes(work, nprocs=2, start_method="fork")
        """,
        env={"OMP_NUM_THREADS": "1"},
    )

    assert result.returncode == 0, result.stderr
    run = allogger.open_run(tmp_path / "run")
    found = {key: run[key].value.tolist() for key in run.keys()}  # noqa: SIM118  # a method of Run
    assert sorted(found.pop("root/model/array")) == [[0, 0], [1, 1]]
    assert found == {
        "root/model/calls": [2000],
        "root/model/latest": [0],
        "root/model/loss": [0.75],
        "root/model/most": [1000],
        "root/model/own": [0.5],
    }
