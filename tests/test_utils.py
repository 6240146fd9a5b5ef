"""Utilities: report_env, and the names that a user finds here."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from allogger import utils

REPORT = """
import json, sys
import allogger
from allogger.utils import report_env
if {logdir!r}:
    allogger.basic_configure({logdir!r})
found = report_env(to_stdout=True)
allogger.close()
print(json.dumps(found), file=sys.stderr)
"""


def report(run_python: Callable[..., Any], logdir: str) -> tuple[str, dict[str, Any]]:
    done = run_python(REPORT.format(logdir=logdir))
    assert done.returncode == 0, done.stderr
    return done.stdout, json.loads(done.stderr.splitlines()[-1])


def test_report_env_stores_the_environment_in_run_json_and_its_summary_in_the_text_log(
    tmp_path: Path, run_python: Callable[..., Any]
) -> None:
    logdir = tmp_path / "run"

    stdout, found = report(run_python, str(logdir))

    assert stdout.count(f"  host      {found['host']}") == 1
    assert sum(log.read_text().count(f"  host      {found['host']}") for log in logdir.glob("*.log")) == 1
    assert json.dumps(found["platform"]) in (logdir / "run.json").read_text()


def test_report_env_without_configuration_returns_and_prints_the_same(run_python: Callable[..., Any]) -> None:
    stdout, found = report(run_python, "")

    assert stdout.count(f"  host      {found['host']}") == 1


def test_the_utilities_are_exactly_these() -> None:
    assert utils.__all__ == ["Repair", "Verification", "environment", "repair", "report_env", "verify"]
    assert all(getattr(utils, name).__doc__ for name in utils.__all__)
