"""Tracker: does it keep what its settings keep, have a context when it should, and never raise while it logs?"""

from __future__ import annotations

import logging
import multiprocessing
import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import allogger
from allogger import ConfigError, Tracker, UnknownName
from allogger.manager import manager


@pytest.fixture(autouse=True)
def _reset(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name in ("RANK", "SLURM_PROCID", "OMPI_COMM_WORLD_RANK", "PMI_RANK", "ALLOGGER_LOGDIR"):
        monkeypatch.delenv(name, raising=False)
    manager.reset()
    yield
    manager.reset()


def said(caplog: pytest.LogCaptureFixture, text: str) -> int:
    return sum(text in record.getMessage() for record in caplog.records)


# -------------------------------------------------------------------------------------------------------------- context


def test_a_block_logs_and_finishes_the_run(tmp_path: Path) -> None:
    tracker = Tracker(tmp_path / "run")

    with tracker.start_logging() as inside:
        assert inside is tracker
        assert tracker.is_initialized
        assert tracker.experiment_id == str(tmp_path / "run")
        run_id = tracker.run_id
        tracker.log(0.5, "loss")

    run = allogger.open_run(tmp_path / "run")
    assert run["root/loss"].value.tolist() == [0.5]
    assert run.starts[0]["attempt"] == run_id
    assert [path.suffix for path in (tmp_path / "run/events").glob("*.h5")] == [".h5"]
    assert (tracker.is_initialized, tracker.experiment_id, tracker.run_id) == (False, None, None)


def test_what_comes_before_and_after_the_context_is_counted_and_told_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    tracker = Tracker(tmp_path)
    tracker.log(1, "early")
    tracker.log([1, 2], ["early", "other"])
    with tracker.start_logging():
        tracker.log(2, "x")
    tracker.log(3, "late")
    tracker.destroy_logger_context()

    allogger.close()

    assert said(caplog, "a tracker without a context") == 1
    assert said(caplog, "4 values were not stored: 'root/early' 2, 'root/other' 1, 'root/late' 1") == 1
    assert allogger.open_run(tmp_path).keys() == ["root/x"]


def test_a_second_create_is_told_once_and_changes_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    tracker = Tracker(tmp_path / "one")
    with tracker.start_logging():
        for _ in range(2):
            tracker.create_logger_context(logdir=tmp_path / "two")
        with tracker.start_logging():
            pass
        tracker.log(1, "x")

    assert said(caplog, "keeps it") == 1
    assert allogger.open_run(tmp_path / "one")["root/x"].value.tolist() == [1]
    assert not (tmp_path / "two").exists()


def test_a_context_can_be_made_again_and_continues_the_run(tmp_path: Path) -> None:
    tracker = Tracker(tmp_path)
    for value in range(3):
        with tracker.start_logging():
            tracker.log(value, "x")

    series = allogger.open_run(tmp_path)["root/x"]
    assert (series.value.tolist(), series.step.tolist()) == ([0, 1, 2], [1, 2, 3])


def test_the_error_of_a_create_that_fails_is_the_one_that_is_raised(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    tracker = Tracker(tmp_path / "file")

    with pytest.raises(ConfigError, match="is not a folder"), tracker.start_logging():
        raise AssertionError("the block must not run")

    assert not tracker.is_initialized


def test_an_error_in_the_block_is_raised_and_what_was_logged_is_there(tmp_path: Path) -> None:
    def train(tracker: Tracker) -> None:
        with tracker.start_logging():
            tracker.log(1, "x")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        train(Tracker(tmp_path))

    assert allogger.open_run(tmp_path)["root/x"].value.tolist() == [1]
    assert allogger.open_run(tmp_path).state == "finished"


def test_two_trackers_of_one_scope_cannot_have_a_context_at_the_same_time(tmp_path: Path) -> None:
    with Tracker(tmp_path / "a").start_logging():
        with pytest.raises(ConfigError, match="give this one scope="):
            Tracker(tmp_path / "b").create_logger_context()
        with Tracker(tmp_path / "c", scope="agent").start_logging() as other:
            other.log(1, "x")

    assert allogger.open_run(tmp_path / "c").keys() == ["agent/x"]


def test_closing_everything_ends_the_context_which_can_be_made_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    tracker = Tracker(tmp_path)
    with tracker.start_logging():
        tracker.log(1, "x")
        allogger.close()
        assert not tracker.is_initialized
        tracker.log(2, "x")
    with tracker.start_logging():
        tracker.log(3, "x")
    allogger.close()
    with Tracker(tmp_path).start_logging() as other:
        other.log(4, "x")

    assert allogger.open_run(tmp_path)["root/x"].value.tolist() == [1, 3, 4]
    assert said(caplog, "1 values were not stored: 'root/x' 1") == 1


def test_what_one_tracker_was_given_is_not_left_to_the_next(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALLOGGER_OUTPUTS", "hdf,csv")
    with Tracker(tmp_path / "a", ["csv"], csv_writer_params={"filter": "x"}).start_logging(0) as first:
        first.log(1, "x")
    for number in range(2):
        with Tracker(tmp_path / f"b{number}").start_logging() as other:
            assert other.logger.default_outputs == ["hdf", "csv"]
            assert other.logger.settings.rank is None
            other.log(2, "y")

        assert allogger.open_run(tmp_path / f"b{number}").keys() == ["root/y"]


@pytest.mark.parametrize("policy", ["clear", "unique", "abort"])
def test_a_run_that_was_left_for_that_of_a_tracker_stays_as_it_is(tmp_path: Path, policy: str) -> None:
    root = allogger.basic_configure(tmp_path / "own", ["csv"], default_path_exists=policy)
    root.log(1, "x")
    with Tracker(tmp_path / "other", ["hdf"], scope="root").start_logging() as tracker:
        tracker.log(2, "x")
    root.log(3, "x")

    assert root.default_outputs == ["csv"]
    allogger.close()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["other", "own"]
    assert allogger.open_run(tmp_path / "own")["root/x"].value.tolist() == [1]


def test_a_context_that_was_closed_does_not_go_on_in_another_run(tmp_path: Path) -> None:
    tracker = Tracker(tmp_path / "a")
    tracker.create_logger_context()
    tracker.save_hyperparameters({"a": 1})
    allogger.close()
    allogger.basic_configure(tmp_path / "b")
    tracker.log(2, "x")
    assert not tracker.is_initialized
    with tracker.start_logging():
        tracker.log(3, "x")
        tracker.save_hyperparameters({"b": 1})
    allogger.close()

    run = allogger.open_run(tmp_path / "a")
    assert (run["root/x"].value.tolist(), run.params) == ([3], {"b": 1})
    assert not allogger.open_run(tmp_path / "b").keys()


def test_without_a_logdir_it_joins_the_run_that_is_configured_and_leaves_it_open(tmp_path: Path) -> None:
    root = allogger.basic_configure(tmp_path)
    tracker = Tracker(log_freq=2)
    with tracker.start_logging():
        tracker.log(1, "x")
    tracker.log(2, "x")
    root.log(3, "y", batch_idx=1)
    allogger.flush()

    run = allogger.open_run(tmp_path)
    assert (run["root/x"].value.tolist(), run["root/y"].value.tolist()) == ([1], [3])


def test_without_a_logdir_the_environment_names_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALLOGGER_LOGDIR", str(tmp_path))
    with Tracker(scope="agent").start_logging() as tracker:
        tracker.log(1, "x")

    assert allogger.open_run(tmp_path).keys() == ["agent/x"]


def test_nothing_is_written_where_everything_is_switched_off(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALLOGGER_ENABLE", "0")
    with Tracker(tmp_path / "run").start_logging() as tracker:
        tracker.log(1, "x")
        tracker.log({"a": 1}, "params", kind="param")

    assert not (tmp_path / "run").exists()


# ------------------------------------------------------------------------------------------------------ which are kept


@settings(max_examples=60, deadline=None)
@given(
    st.one_of(st.integers(1, 12), st.sampled_from(["epoch", "batch"])),
    st.lists(st.one_of(st.none(), st.integers(-5, 60)), max_size=12),
)
def test_log_freq_keeps_multiples_everything_or_epochs(freq: int | str, batches: list[int | None]) -> None:
    tracker = Tracker(log_freq=freq)
    keeps = {"batch": lambda batch: True, "epoch": lambda batch: batch is None}
    rule = keeps.get(freq, lambda batch: batch is None or batch % freq == 0)  # type: ignore[call-overload]

    assert [tracker.should_log(batch) for batch in batches] == [rule(batch) for batch in batches]


def test_log_freq_of_5_keeps_0_5_10_and_so_does_the_setting_of_that_name(tmp_path: Path) -> None:
    with Tracker(tmp_path, log_freq=5).start_logging() as tracker:
        for epoch in range(2):
            for batch in range(12):
                tracker.log(100 * epoch + batch, "loss", batch_idx=batch)
                allogger.get_logger("plain", log_freq=5).log(100 * epoch + batch, "loss", batch_idx=batch)
            tracker.log(epoch, "epoch")
        tracker.log_freq = "epoch"
        tracker.log(-1, "loss", batch_idx=0)

    run = allogger.open_run(tmp_path)
    assert run["root/loss"].value.tolist() == run["plain/loss"].value.tolist() == [0, 5, 10, 100, 105, 110]
    assert run["root/epoch"].value.tolist() == [0, 1]


@pytest.mark.parametrize("freq", [0, -1, 5.0, "step", True, None, [1]])
def test_an_impossible_log_freq_is_refused_and_the_old_one_holds(freq: Any) -> None:
    tracker = Tracker(log_freq=3)
    with pytest.raises(ConfigError, match="log_freq"):
        tracker.log_freq = freq
    with pytest.raises(ConfigError, match="log_freq"):
        Tracker(log_freq=freq)

    assert tracker.log_freq == 3
    assert not tracker.should_log(4)


@pytest.mark.parametrize("workers", [None, "0", 1.5, True, -2, [0, "1"], {0: 1}])
def test_impossible_workers_are_refused(workers: Any) -> None:
    with pytest.raises(ConfigError, match="log_on_workers"):
        Tracker(log_on_workers=workers)


@pytest.mark.parametrize(
    ("workers", "ranks"), [(0, [0]), (2, [2]), (-1, [0, 1, 2]), ((0, 2), [0, 2]), (range(1, 3), [1, 2]), ([], [])]
)
def test_the_ranks_that_log_are_those_that_were_given(tmp_path: Path, workers: Any, ranks: list[int]) -> None:
    for rank in range(3):
        with Tracker(tmp_path, log_on_workers=workers).start_logging(rank) as tracker:
            assert tracker.is_initialized
            tracker.log(rank, "rank")
            tracker.save_hyperparameters({"rank": rank})
            allogger.get_logger("agent").log(rank, "rank")
        manager.reset()

    run = allogger.open_run(tmp_path)
    assert sorted(run["root/rank"].value.tolist() if "root/rank" in run else []) == ranks
    assert sorted(run["agent/rank"].value.tolist() if "agent/rank" in run else []) == ranks


def test_a_rank_may_be_an_integer_of_numpy(tmp_path: Path) -> None:
    with Tracker(tmp_path, log_on_workers=2).start_logging(np.int64(2)) as tracker:  # type: ignore[arg-type]
        tracker.log(1, "x")

    assert allogger.open_run(tmp_path)["root/x"].process.tolist() == ["rank2"]


def test_the_rank_comes_from_the_launcher(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANK", "3")
    with Tracker(tmp_path, log_on_workers=3).start_logging() as tracker:
        tracker.log(1, "x")

    assert allogger.open_run(tmp_path)["root/x"].process.tolist() == ["rank3"]


# ------------------------------------------------------------------------------------------------------------ bad input


def test_an_unknown_kind_is_an_error_with_a_suggestion_in_every_call(tmp_path: Path) -> None:
    tracker = Tracker(tmp_path, log_on_workers=1, log_freq="epoch")

    with pytest.raises(UnknownName, match="did you mean 'metric'"):
        tracker.log(1, "x", kind="metrik", batch_idx=1)
    for kind in (None, 3, ["metric"], ""):
        with pytest.raises(UnknownName, match="there is no kind"):
            tracker.log(1, "x", kind=kind)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "given",
    [
        {"default_outputs": ["hfd"]},
        {"log_frq": 1},
        {"csv_writer_params": {"fliter": "x"}},
        {"grams_co2_per_kwh": -1},
        {"cpu_watts": True},
        {"cpu_watts": "10"},
        {"flush_seconds": -1},
    ],
)
def test_an_impossible_setting_is_refused_when_the_tracker_is_made(given: Any) -> None:
    with pytest.raises(ConfigError):
        Tracker("run", **given)


def test_settings_of_the_tracker_are_refused_by_its_context(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="log_freq"):
        Tracker(tmp_path / "run").create_logger_context(log_freq=2)

    assert not (tmp_path / "run").exists()


def test_a_log_call_never_raises_and_what_it_cannot_store_is_counted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    class Hostile:
        def __getattribute__(self, name: str) -> Any:
            raise RuntimeError("do not look at me")

        def __str__(self) -> str:
            raise RuntimeError("do not show me")

    Tracker(tmp_path).log(Hostile(), Hostile())  # type: ignore[arg-type]
    with Tracker(tmp_path).start_logging() as tracker:
        for kind in sorted(tracker.supported_kinds - {"system", "carbon", "prov_documents"}):
            for item in (object(), Hostile(), (1,), None):
                tracker.log(item, f"{kind}", kind=kind, batch_idx=1)
        tracker.log_freq = 2
        tracker.log(1, "x", batch_idx="one")  # type: ignore[arg-type]
        tracker.log([1], ["a", "b"])
        tracker.log(1, ["a", "b"])
        tracker.log("ab", ["a", "b"])
        tracker.log({"u": 1, "v": 2}, ["a", "b"])
        tracker.log(1, "y", bogus=True)
        tracker.log(1, 7)  # type: ignore[arg-type]
        tracker.log(Hostile(), Hostile(), kind="flops_pb")  # type: ignore[arg-type]
        tracker.log([1, 2], [Hostile(), "a"], batch_idx=Hostile())  # type: ignore[list-item, arg-type]
        tracker.log(1, "z", step="never")  # type: ignore[arg-type]

    run = allogger.open_run(tmp_path)
    assert {"root/y", "root/7", "root/z"} <= set(run)
    assert not {"root/x", "root/a", "root/b"} & set(run)
    assert said(caplog, "'root/a' is not stored: there are 1 items and 2 identifiers") == 1
    assert said(caplog, "there is no argument of log 'bogus'") == 1


# ---------------------------------------------------------------------------------------------------------------- calls


def test_lists_of_items_are_logged_under_their_identifiers(tmp_path: Path) -> None:
    with Tracker(tmp_path).start_logging() as tracker:
        tracker.log([0.5, 0.9], ["loss", "accuracy"], step=7, context="val")
        tracker.log(["adam", 0.1], ["optimizer", "rate"], kind="param")
        tracker.log([1, 2], "vector")

    run = allogger.open_run(tmp_path)
    assert {key: run[key].value.tolist() for key in run.keys("^root/val/")} == {
        "root/val/loss": [0.5],
        "root/val/accuracy": [0.9],
    }
    assert run["root/val/loss"].step.tolist() == [7]
    assert run.params == {"optimizer": "adam", "rate": 0.1}
    assert run["root/vector"].value.tolist() == [[1, 2]]


def test_an_item_that_cannot_be_stored_does_not_keep_those_behind_it(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    itself: dict[str, Any] = {}
    itself["me"] = itself
    with Tracker(tmp_path).start_logging() as tracker:
        tracker.log([itself, 1], ["bad", "good"], kind="param")
    allogger.close()

    assert allogger.open_run(tmp_path).params == {"good": 1}
    assert said(caplog, "1 values were not stored: 'root/bad' 1") == 1


def test_parameters_add_up_and_keep_what_they_were(tmp_path: Path) -> None:
    layers = [64, 64]
    with Tracker(tmp_path).start_logging() as tracker:
        tracker.save_hyperparameters({"net": {"layers": layers}, "rate": 0.1})
        layers.append(10)
        tracker.log(0.2, "rate", kind="param")
        tracker.log({"a": (1, 2)}, "optim", kind="param")

    run = allogger.open_run(tmp_path)
    assert run.params == {"net": {"layers": [64, 64]}, "rate": 0.2, "optim": {"a": [1, 2]}}


def test_one_call_can_choose_its_outputs(tmp_path: Path) -> None:
    with Tracker(tmp_path, ["csv"]).start_logging() as tracker:
        tracker.log(1, "x", to_csv=False, to_hdf=True)
        tracker.log(2, "y")

    rows = "".join(path.read_text() for path in (tmp_path / "events").glob("*.csv"))
    assert "y" in rows
    assert "root/x" not in rows
    assert allogger.open_run(tmp_path)["root/x"].value.tolist() == [1]


def _log_in_child(tracker: Tracker) -> None:
    tracker.log(1, "x")
    tracker.log(None, "seconds", kind="execution_time")


def test_a_tracker_logs_in_children_of_every_start_method(tmp_path: Path, start_method: str) -> None:
    context = multiprocessing.get_context(start_method)
    with Tracker(tmp_path, cpu_watts=10).start_logging() as tracker:
        child: Any = context.Process(target=_log_in_child, args=(tracker,), name="child")
        child.start()
        child.join(60)

    assert child.exitcode == 0
    series = allogger.open_run(tmp_path)["root/x"]
    assert (series.value.tolist(), series.process.tolist()) == ([1], ["child"])


def test_a_pickled_tracker_is_one_of_the_same_logger(tmp_path: Path) -> None:
    with Tracker(tmp_path, log_freq=3, cpu_watts=1).start_logging() as tracker:
        copy = pickle.loads(pickle.dumps(tracker))

        assert copy.logger is tracker.logger
        assert (copy.log_freq, copy.is_initialized) == (3, True)


def test_the_time_of_a_block_is_logged_also_if_it_raises(tmp_path: Path) -> None:
    with Tracker(tmp_path).start_logging() as tracker:
        with tracker.timing("epoch", step=3):
            pass
        with pytest.raises(ZeroDivisionError), tracker.timing("epoch"):
            raise ZeroDivisionError

    series = allogger.open_run(tmp_path)["root/epoch"]
    assert series.step.tolist() == [3, 4]
    assert (series.value >= 0).all()
    assert (series.value < 5).all()


def test_values_under_strict_that_were_lost_are_raised_at_the_end_of_the_block(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    class Broken(allogger.Writer):
        needs_logdir = False

        def write(self, batch: Any) -> None:
            raise RuntimeError("the service is down")

    allogger.register_writer("broken_service", Broken)
    caplog.set_level(logging.CRITICAL)
    with (
        pytest.raises(allogger.WriteFailed, match="broken_service"),
        Tracker(tmp_path, ["hdf", "broken_service"], strict=True).start_logging() as tracker,
    ):
        tracker.log(1, "x")

    assert not tracker.is_initialized
    assert allogger.open_run(tmp_path)["root/x"].value.tolist() == [1]
