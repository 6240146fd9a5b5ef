"""Do the benchmarks work, and does the page about them have a place for each of their tables?

Nothing here looks at a time: the machines that run tests are slow and shared.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.catalog import OPTIONAL, WORKS
from benchmarks.report import as_markdown, medians, verdicts, write_into
from benchmarks.work import Goal, Size, Work

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "performance.md"


def test_every_kind_of_work_can_be_measured(tmp_path: Path) -> None:
    page, out = tmp_path / "performance.md", tmp_path / "out"
    page.write_text(PAGE.read_text(encoding="utf-8"), encoding="utf-8")
    command = [sys.executable, "-m", "benchmarks", "--quick", "--out", out, "--scratch", tmp_path, "--docs", page]

    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=110, check=False)

    assert done.returncode == 0, done.stderr
    results = json.loads((out / "results.json").read_text(encoding="utf-8"))
    assert list(results["works"]) == [name for name in WORKS if name not in OPTIONAL]
    for name, work in results["works"].items():
        assert work["failed"] == {}, done.stderr
        assert work["rounds"][0], f"nobody did {name}"
        assert f"## {name}" in done.stdout
    assert results["about"]["versions"]["numpy"] in page.read_text(encoding="utf-8")
    left = {path.name for path in tmp_path.iterdir()}
    assert left == {"images", "out", "performance.md"}, "something was left behind"
    pictures = set(re.findall(r"images/(benchmark-.+?\.png)", PAGE.read_text(encoding="utf-8")))
    assert {path.name for path in (tmp_path / "images").iterdir()} == pictures


def test_the_page_has_a_place_for_every_table() -> None:
    marks = re.findall(r"<!-- benchmarks: (.+) -->", PAGE.read_text(encoding="utf-8"))

    assert sorted(marks) == sorted([*(name for name in WORKS if name not in OPTIONAL), "goals", "machine"])


def test_an_unknown_kind_of_work_is_refused_with_the_names_that_there_are() -> None:
    command = [sys.executable, "-m", "benchmarks", "--only", "cals"]

    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False, env=os.environ)

    assert done.returncode == 2
    assert "calls" in done.stderr


def test_ratios_are_taken_within_a_round_before_their_median() -> None:
    rounds = [{"a": {"t": 2.0}, "b": {"t": 1.0}}, {"a": {"t": 30.0}, "b": {"t": 10.0}}, {"a": {"t": 8.0}}]
    goal = Goal("a, times b", lambda rows: rows["a"]["t"] / rows["b"]["t"], 2.5)
    work = Work("w", "?", lambda subject, folder, size: {}, ("a", "b"), (goal,))

    assert verdicts(work, rounds) == [(goal, 2.5, 2.0, 3.0)]
    assert medians(rounds)["a"]["t"] == 8.0


def test_a_goal_about_somebody_who_did_not_take_part_is_left_out() -> None:
    goal = Goal("times b", lambda rows: rows["b"]["t"], 1)
    work = Work("w", "?", lambda subject, folder, size: {}, ("b",), (goal,))

    assert verdicts(work, [{"a": {"t": 1.0}}]) == []


@pytest.mark.parametrize(("at_least", "met"), [(False, [True, True, False]), (True, [False, True, True])])
def test_a_goal_is_a_most_or_a_least(at_least: bool, met: list[bool]) -> None:
    goal = Goal("x", lambda rows: 0.0, 2, at_least)

    assert [goal.is_met(value) for value in (1, 2, 3)] == met


def test_only_the_tables_that_were_measured_are_replaced(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("<!-- benchmarks: calls -->\nold\n<!-- end -->\n<!-- benchmarks: steps -->\nold\n<!-- end -->\n")
    work = {"rounds": [{"allogger": {"p50_ns": 123.0}}], "failed": {}}
    about = {"processor": "p", "cores": 1, "memory_GB": 1.0, "system": "s", "python": "3", "file system": "f"}
    about |= {"rounds": 1, "date": "d", "load": [0.0, 0.0], "versions": {}}

    write_into(page, {"about": about, "works": {"calls": work}})

    calls, steps = page.read_text().split("<!-- benchmarks: steps -->")
    assert "123" in calls
    assert "old" not in calls
    assert "old" in steps


def test_the_columns_of_a_table_line_up() -> None:
    assert as_markdown([["", "x"], ["long", "1"]]) == "|      | x |\n| ---- | - |\n| long | 1 |"


def test_the_slow_do_less_and_quick_is_tiny() -> None:
    assert [Size().of(100_000), Size().of(100_000, 10), Size(True).of(100_000)] == [100_000, 10_000, 500]
