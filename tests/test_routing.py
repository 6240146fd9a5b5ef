"""Does each key go to the outputs that keep it, and nowhere else, and is that decided once?"""

from __future__ import annotations

import csv
import multiprocessing
import re
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import allogger
from allogger.settings import Filter
from tests.conftest import keys_in_hdf
from tests.naming import shown

HDF, CSV, TENSORBOARD, CONSOLE = "hdf", "csv", "tensorboard", "console"


@pytest.fixture
def found_in(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Any:
    """Return a function that closes everything and tells which keys of the root are in which output."""

    def look() -> dict[str, set[str]]:
        allogger.close()
        from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

        run = tmp_path / "run"
        lines = [row for path in run.rglob("*.csv") for row in csv.DictReader(path.read_text().splitlines())]
        events = [EventAccumulator(str(path)).Reload().Tags()["scalars"] for path in run.rglob("events.out.tfevents.*")]
        shown = re.findall(r"(?:\| )(\S+) [0-9]", capsys.readouterr().out)
        return {
            HDF: {key.partition("/")[2] for key in keys_in_hdf(run)},
            CSV: {row["key"].partition("/")[2] for row in lines},
            TENSORBOARD: {key.partition("/")[2] for keys in events for key in keys},
            CONSOLE: set(shown),
        }

    return look


def hdf_keys(logdir: Path) -> list[str]:
    allogger.flush()
    return keys_in_hdf(logdir)


# -------------------------------------------------------------------------------------------------------------- filters


def test_each_output_has_its_own_filter(tmp_path: Path, found_in: Any) -> None:
    root = allogger.basic_configure(
        tmp_path / "run",
        [HDF, CSV, TENSORBOARD, CONSOLE],
        hdf_writer_params={"filter": "loss"},
        csv_writer_params={"exclude": "^train"},
        tensorboard_writer_params={"filter": "acc", "exclude": "eval"},
        console_writer_params={"scope": "elsewhere"},
    )
    for key in ("train/loss", "eval/loss", "train/acc", "eval/acc"):
        root.log(0.5, key)

    assert found_in() == {
        HDF: {"train/loss", "eval/loss"},
        CSV: {"eval/loss", "eval/acc"},
        TENSORBOARD: {"train/acc"},
        CONSOLE: set(),
    }


def test_the_regex_of_a_scope_chooses_scopes(tmp_path: Path) -> None:
    allogger.basic_configure(tmp_path / "run", hdf_writer_params={"scope": r"critic|^root$"})
    for scope in ("root", "agent", "agent.critic", "agent.critic.head", "other"):
        allogger.get_logger(scope).log(1.0, "loss")

    assert hdf_keys(tmp_path / "run") == ["agent.critic.head/loss", "agent.critic/loss", "root/loss"]


def test_a_filter_of_one_scope_does_not_hold_for_its_neighbours(tmp_path: Path) -> None:
    allogger.basic_configure(tmp_path / "run")
    allogger.get_logger("a", hdf_writer_params={"filter": "loss"})
    for scope in ("a", "a.b", "c", "root"):
        allogger.get_logger(scope).log(1.0, "acc")

    assert hdf_keys(tmp_path / "run") == ["c/acc", "root/acc"]


@pytest.fixture
def questions(monkeypatch: pytest.MonkeyPatch) -> Counter[tuple[str, str, str]]:
    """Count how often a filter is asked for an output, a scope and a key."""
    asked: Counter[tuple[str, str, str]] = Counter()
    keeps = Filter.keeps

    def counting(self: Filter, scope: str, key: str) -> bool:
        asked[self.output, scope, key] += 1
        return keeps(self, scope, key)

    monkeypatch.setattr(Filter, "keeps", counting)
    return asked


def test_filters_are_asked_once_per_key_and_output(tmp_path: Path, questions: Counter[tuple[str, str, str]]) -> None:
    root = allogger.basic_configure(tmp_path / "run", [HDF, CSV], hdf_writer_params={"exclude": "no"})
    agent = allogger.get_logger("agent")
    for step in range(50):
        for logger in (root, agent):
            logger.log(0.5, "loss")
            logger.log(step, "no/count")
            logger.log(0.5, "loss", step)
            logger.log(np.zeros(3), "array")
            logger.log("text", "no/text")
            logger.log({"a": 1, "no": np.zeros(2)}, "tree")
            assert logger.isEnabledFor("loss")

    keys = {"loss", "no/count", "array", "no/text", "tree/a", "tree/no"}
    expected = {(output, scope, key) for output in (HDF, CSV) for scope in ("root", "root.agent") for key in keys}
    assert set(questions) == expected
    assert set(questions.values()) == {1}


def test_filters_are_asked_again_after_a_change_of_settings(
    tmp_path: Path, questions: Counter[tuple[str, str, str]]
) -> None:
    root = allogger.basic_configure(tmp_path / "run")
    for number in range(4):
        allogger.get_logger("root", hdf_writer_params={"exclude": "loss" if number % 2 else None})
        root.log(float(number), "loss")
        root.log(float(number), "loss")

    allogger.flush()
    assert allogger.open_run(tmp_path / "run")["root/loss"].value.tolist() == [0.0, 0.0, 2.0, 2.0]
    assert questions[HDF, "root", "loss"] == 4


def test_patterns_that_matched_nothing_in_the_whole_run_are_reported_at_the_close(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    root = allogger.basic_configure(
        tmp_path / "run",
        [HDF, CSV],
        hdf_writer_params={"filter": "los", "exclude": "nothing"},
        csv_writer_params={"filter": "lsos"},
    )
    allogger.get_logger("agent", csv_writer_params={"scope": "agnet"}).log(1.0, "loss")
    root.log(1.0, "loss")
    root.log(1.0, "train/loss")
    assert caplog.messages == []

    allogger.close()

    reported = sorted(text for text in caplog.messages if "matched nothing" in text)
    assert len(reported) == 3
    assert "exclude='nothing' of output 'hdf'" in reported[0]
    assert "filter='lsos' of output 'csv'" in reported[1]
    assert "scope='agnet' of output 'csv'" in reported[2]


def test_a_pattern_that_matched_before_a_change_of_settings_is_not_reported(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    root = allogger.basic_configure(tmp_path / "run", hdf_writer_params={"filter": "^loss$"})
    root.log(1.0, "loss")
    allogger.get_logger("agent", log_freq=2).log(1.0, "other")

    allogger.close()

    assert "matched nothing" not in caplog.text


def test_what_matched_is_counted_anew_in_each_run(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with allogger.run(tmp_path / "one", hdf_writer_params={"filter": "loss"}) as logger:
        logger.log(1.0, "loss")
    assert "matched nothing" not in caplog.text

    with allogger.run(tmp_path / "two", hdf_writer_params={"filter": "loss"}) as logger:
        logger.log(1.0, "acc")

    assert "filter='loss' of output 'hdf' matched nothing" in caplog.text


# ------------------------------------------------------------------------------------------------------------- one call


@pytest.mark.parametrize(
    ("defaults", "call", "expected"),
    [
        ([HDF], {}, {HDF}),
        ([HDF], {"to_csv": True}, {HDF, CSV}),
        ([HDF], {"to_csv": True, "to_hdf": False}, {CSV}),
        ([HDF, CSV], {"to_csv": False}, {HDF}),
        ([HDF, CSV], {"to_csv": None}, {HDF, CSV}),
        ([HDF, CSV], {"to_hdf": False, "to_csv": False}, set()),
        ([HDF], {"to_stdout": True}, {HDF, CONSOLE}),
        ([HDF], {"to_console": True}, {HDF, CONSOLE}),
        ([HDF, CONSOLE], {"to_stdout": False}, {HDF}),
        ([], {"to_hdf": True}, {HDF}),
        ([HDF], {"to_tensorboard": True}, {HDF, TENSORBOARD}),
        ([CSV], {"to_tensorboard": True}, {CSV, TENSORBOARD, HDF}),
        ([CSV], {"to_tensorboard": True, "to_hdf": False}, {CSV, TENSORBOARD}),
        ([TENSORBOARD], {}, {TENSORBOARD, HDF}),
        ([TENSORBOARD], {"to_tensorboard": False}, set()),
        ([TENSORBOARD], {"to_hdf": False}, {TENSORBOARD}),
        ([TENSORBOARD], {"to_tensorboard": False, "to_hdf": True}, {HDF}),
    ],
    ids=shown,
)
def test_a_call_can_switch_outputs_on_and_off(
    tmp_path: Path, found_in: Any, defaults: list[str], call: dict[str, Any], expected: set[str]
) -> None:
    root = allogger.basic_configure(tmp_path / "run", defaults)

    root.log(0.5, "loss", **call)

    assert {output for output, keys in found_in().items() if keys} == expected


def test_switching_an_output_for_one_call_changes_no_other_call(tmp_path: Path, found_in: Any) -> None:
    root = allogger.basic_configure(tmp_path / "run", [HDF])
    for _ in range(3):
        root.log(0.5, "both", to_csv=True)
        root.log(0.5, "plain")
        root.log(0.5, "none", to_hdf=False)
        root.log(np.zeros(3), "array", to_csv=True)

    found = found_in()

    assert found[CSV] == {"both"}
    assert found[HDF] == {"both", "plain", "array"}


def test_calls_of_one_key_with_and_without_a_switch_share_one_counter(tmp_path: Path) -> None:
    root = allogger.basic_configure(tmp_path / "run", [HDF])
    for number in range(6):
        root.log(number, "loss", to_csv=number % 2 == 0)
    allogger.close()

    series = allogger.open_run(tmp_path / "run")["root/loss"]
    (file,) = tmp_path.rglob("*.csv")
    rows = list(csv.DictReader(file.read_text().splitlines()))
    assert series.step.tolist() == [1, 2, 3, 4, 5, 6]
    assert [(row["step"], row["value"]) for row in rows] == [("1", "0"), ("3", "2"), ("5", "4")]


def test_an_output_that_a_call_switches_on_still_has_its_filter(tmp_path: Path, found_in: Any) -> None:
    root = allogger.basic_configure(tmp_path / "run", [HDF], csv_writer_params={"exclude": "big"})

    root.log(0.5, "big", to_csv=True)
    root.log(0.5, "small", to_csv=True)

    assert found_in()[CSV] == {"small"}


def test_a_switch_holds_for_all_values_of_a_dict(tmp_path: Path, found_in: Any) -> None:
    root = allogger.basic_configure(tmp_path / "run", [HDF])

    root.log({"a": 1, "b": {"c": 2}}, "tree", to_csv=True, to_hdf=False)

    assert found_in() == {HDF: set(), CSV: {"tree/a", "tree/b/c"}, TENSORBOARD: set(), CONSOLE: set()}


# ------------------------------------------------------------------------------------------------------------- the hook


@pytest.mark.parametrize(
    ("settings", "in_hdf"),
    [
        ({}, {"loss", "acc"}),
        ({"tensorboard_writer_params": {"use_hdf_hook": True}}, {"loss", "acc"}),
        ({"tensorboard_writer_params": {"use_hdf_hook": False}}, set()),
        ({"tensorboard_writer_params": {"filter": "loss"}}, {"loss"}),
        ({"hdf_writer_params": {"filter": "acc"}}, {"acc"}),
        ({"hdf_writer_params": {"filter": "acc"}, "tensorboard_writer_params": {"exclude": "acc"}}, set()),
    ],
    ids=shown,
)
def test_tensorboard_alone_also_writes_hdf5_unless_told_otherwise(
    tmp_path: Path, found_in: Any, settings: dict[str, Any], in_hdf: set[str]
) -> None:
    root = allogger.basic_configure(tmp_path / "run", [TENSORBOARD], **settings)
    root.log(0.5, "loss")
    root.log(0.5, "acc")

    assert found_in()[HDF] == in_hdf


def test_with_hdf_as_an_output_of_its_own_the_hook_writes_nothing_twice(tmp_path: Path) -> None:
    root = allogger.basic_configure(
        tmp_path / "run", [TENSORBOARD, HDF], tensorboard_writer_params={"exclude": "loss", "use_hdf_hook": True}
    )
    root.log(0.5, "loss")
    root.log(0.5, "acc")
    allogger.close()

    run = allogger.open_run(tmp_path / "run")
    assert {key: len(run[key]) for key in run} == {"root/acc": 1, "root/loss": 1}


def test_what_tensorboard_cannot_show_is_in_hdf5_all_the_same(tmp_path: Path) -> None:
    root = allogger.basic_configure(tmp_path / "run", [TENSORBOARD])

    root.log(np.zeros((2, 2, 2, 2)), "array")

    assert hdf_keys(tmp_path / "run") == ["root/array"]


def test_a_kind_that_no_output_takes_is_counted_and_said_once_per_key(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    root = allogger.basic_configure(tmp_path / "run", [CSV])
    for _ in range(3):
        root.log(np.zeros((2, 2)), "matrix")
        root.log(0.5, "matrix")

    allogger.close()

    assert len([text for text in caplog.messages if "none of its outputs (csv) takes values of the kind" in text]) == 1
    assert "3 values were not stored: 'root/matrix' 3" in caplog.text
    (file,) = tmp_path.rglob("*.csv")
    assert [line.split(",")[1] for line in file.read_text().splitlines()[1:]] == ["1", "2", "3"]


# ---------------------------------------------------------------------------------------------- ranks and processes


@pytest.mark.parametrize("variable", ["RANK", "SLURM_PROCID", "OMPI_COMM_WORLD_RANK", "PMI_RANK"])
@pytest.mark.parametrize(
    ("log_on_workers", "rank", "is_kept"),
    [(-1, 3, True), (0, 0, True), (0, 3, False), (3, 3, True), ([1, 3], 3, True), ((1, 2), 3, False), ([], 0, False)],
)
def test_the_ranks_that_log_can_be_chosen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variable: str, log_on_workers: Any, rank: int, is_kept: bool
) -> None:
    monkeypatch.setenv(variable, str(rank))
    root = allogger.basic_configure(tmp_path / "run", log_on_workers=log_on_workers)

    root.log(1.0, "loss")

    assert root.isEnabledFor("loss") is is_kept
    assert hdf_keys(tmp_path / "run") == (["root/loss"] if is_kept else [])


def test_without_a_launcher_this_is_rank_zero(tmp_path: Path) -> None:
    allogger.basic_configure(tmp_path / "run", log_on_workers=[0])
    allogger.get_logger("a").log(1.0, "loss")
    allogger.get_logger("b", log_on_workers=1).log(1.0, "loss")

    assert hdf_keys(tmp_path / "run") == ["a/loss"]


def test_a_given_rank_goes_before_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANK", "0")
    root = allogger.basic_configure(tmp_path / "run", log_on_workers=2, rank=2)

    root.log(1.0, "loss")

    allogger.flush()
    assert allogger.open_run(tmp_path / "run")["root/loss"].process.tolist() == ["rank2"]


def test_a_variable_that_holds_no_number_is_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANK", "none")
    monkeypatch.setenv("PMI_RANK", "1")
    root = allogger.basic_configure(tmp_path / "run", log_on_workers=1)

    assert root.isEnabledFor("loss")


def test_scopes_may_log_on_different_ranks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANK", "1")
    allogger.basic_configure(tmp_path / "run", log_on_workers=0)
    allogger.get_logger("all", log_on_workers=-1).log(1.0, "loss")
    allogger.get_logger("none").log(1.0, "loss")

    assert hdf_keys(tmp_path / "run") == ["all/loss"]


def log_in_child(value: float) -> None:
    allogger.get_logger("agent").log(value, "loss")
    allogger.get_logger("chatty").log(value, "loss")


def test_with_log_only_main_process_a_child_drops_its_values(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    allogger.basic_configure(tmp_path / "run", log_only_main_process=True)
    allogger.get_logger("chatty", log_only_main_process=False)
    log_in_child(1.0)
    child = multiprocessing.get_context("fork").Process(target=log_in_child, args=(2.0,), name="Worker-1")
    child.start()
    child.join(30)
    assert child.exitcode == 0
    allogger.close()

    run = allogger.open_run(tmp_path / "run")
    assert run["agent/loss"].value.tolist() == [1.0]
    assert sorted(run["chatty/loss"].value.tolist()) == [1.0, 2.0]
    assert sorted(run["chatty/loss"].process.tolist()) == ["MainProcess", "Worker-1"]
    assert caplog.messages == []
