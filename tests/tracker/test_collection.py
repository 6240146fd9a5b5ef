"""TrackerCollection: does each call reach every tracker, whatever becomes of the others?"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import allogger
from allogger import ConfigError, Tracker, TrackerCollection, UnknownName
from allogger.manager import manager


@pytest.fixture(autouse=True)
def _reset() -> Iterator[None]:
    manager.reset()
    yield
    manager.reset()


def values(logdir: Path, key: str) -> list[Any]:
    found: list[Any] = allogger.open_run(logdir)[key].value.tolist()
    return found


def test_several_of_one_type_get_everything_each_by_its_own_settings(tmp_path: Path) -> None:
    trackers = TrackerCollection(
        [
            Tracker(tmp_path / "all", ["hdf", "csv"], csv_writer_params={"filter": "loss"}),
            Tracker(tmp_path / "some", ["csv"], log_freq=5),
            Tracker(tmp_path / "epochs", scope="epochs", log_freq="epoch", log_on_workers=-1),
            Tracker(tmp_path / "other_rank", log_on_workers=1),
        ]
    )
    assert not trackers.is_initialized

    with trackers.start_logging() as inside:
        assert inside is trackers
        assert trackers.is_initialized
        trackers.save_hyperparameters({"seed": 1})
        for batch in range(11):
            trackers.log(batch, "batch", batch_idx=batch)
        trackers.log(0.5, "loss")
        assert trackers.should_log(3)

    assert values(tmp_path / "all", "tracker1/batch") == list(range(11))
    # Each has its own parameters of writers, too.
    assert values(tmp_path / "some", "tracker2/batch") == [0, 5, 10]
    assert allogger.open_run(tmp_path / "epochs").keys() == ["epochs/loss", "epochs/params"]
    assert allogger.open_run(tmp_path / "other_rank").keys() == []
    assert trackers.failures == [0, 0, 0, 0]


def test_one_tracker_alone_keeps_the_root(tmp_path: Path) -> None:
    with TrackerCollection([Tracker(tmp_path)]).start_logging() as trackers:
        trackers.log(1, "x")

    assert allogger.open_run(tmp_path).keys() == ["root/x"]


def test_an_empty_collection_does_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with TrackerCollection().start_logging() as trackers:
        trackers.log(1, "x")
        trackers.log(1, "x", kind="whatever")
        trackers.save_hyperparameters({})

    assert not list(tmp_path.iterdir())
    assert not trackers.is_initialized


def test_an_unknown_kind_is_an_error_before_any_tracker_has_logged(tmp_path: Path) -> None:
    trackers = TrackerCollection([Tracker(tmp_path / "a"), Tracker(tmp_path / "b")])

    with pytest.raises(UnknownName, match="did you mean 'figure'"):
        trackers.log(1, "x", kind="figur")
    assert trackers.failures == [0, 0]


class Failing(Tracker):
    """A tracker that somebody wrote and that does not work."""

    def log(self, *args: Any, **kwargs: Any) -> None:
        raise RuntimeError("the service is down")

    def destroy_logger_context(self) -> None:
        raise RuntimeError("the service is still down")


def test_a_tracker_that_fails_is_counted_and_told_once_and_the_others_go_on(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    trackers = TrackerCollection([Failing(tmp_path / "a"), Tracker(tmp_path / "b")])
    with trackers.start_logging():
        for value in range(3):
            trackers.log(value, "x")

    assert values(tmp_path / "b", "tracker2/x") == [0, 1, 2]
    assert allogger.open_run(tmp_path / "b").state == "finished"
    assert trackers.failures == [4, 0]
    told = [record.getMessage() for record in caplog.records if "failed" in record.getMessage()]
    assert told == ["allogger: tracker 1 of 2 failed, and the others go on: RuntimeError: the service is down"]


def test_a_logdir_that_cannot_be_made_does_not_keep_the_others_from_logging(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    trackers = TrackerCollection([Tracker(tmp_path / "file/run"), Tracker(tmp_path / "run")])
    with trackers.start_logging():
        trackers.log(1, "x")

    assert values(tmp_path / "run", "tracker2/x") == [1]
    assert trackers.failures == [1, 0]


def test_if_no_tracker_can_log_the_first_error_is_raised(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    trackers = TrackerCollection([Tracker(tmp_path / "file/run"), Tracker(tmp_path / "file")])

    with pytest.raises(ConfigError, match="file/run"), trackers.start_logging():
        raise AssertionError("the block must not run")


def test_a_logdir_that_vanishes_costs_the_others_nothing(tmp_path: Path) -> None:
    trackers = TrackerCollection(
        [Tracker(tmp_path / name, ["hdf", "csv"], flush_seconds=0.0) for name in ("gone", "here")]
    )
    with trackers.start_logging():
        for value in range(50):
            trackers.log(value, "x")
            if value == 20:
                # In one step, or the writers would make new files while the old ones are removed.
                (tmp_path / "gone").rename(tmp_path / "moved")

    assert values(tmp_path / "here", "tracker2/x") == list(range(50))


def test_an_output_that_is_broken_costs_the_others_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    class Broken(allogger.Writer):
        needs_logdir = False

        def write(self, batch: Any) -> None:
            raise RuntimeError("the service is down")

    allogger.register_writer("broken_tracker", Broken)
    trackers = TrackerCollection([Tracker(tmp_path / "a", ["hdf", "broken_tracker"]), Tracker(tmp_path / "b")])
    with trackers.start_logging():
        for value in range(3):
            trackers.log(value, "x")

    assert values(tmp_path / "a", "tracker1/x") == values(tmp_path / "b", "tracker2/x") == [0, 1, 2]
    assert sum("'broken_tracker' lost 3 values" in record.getMessage() for record in caplog.records) == 1


def test_a_block_leaves_contexts_that_it_has_not_made(tmp_path: Path) -> None:
    first, second = Tracker(tmp_path / "a", scope="a"), Tracker(tmp_path / "b", scope="b")
    with first.start_logging():
        with TrackerCollection([first, second]).start_logging() as trackers:
            trackers.log(1, "x")
        assert (first.is_initialized, second.is_initialized) == (True, False)
        first.log(2, "x")

    assert values(tmp_path / "a", "a/x") == [1, 2]
