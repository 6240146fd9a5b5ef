"""Does every example run as it stands?"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

EXAMPLES = sorted((Path(__file__).parents[1] / "examples").glob("*.py"))


def test_there_are_examples() -> None:
    assert EXAMPLES


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.name)
def test_the_example_runs(example: Path, tmp_path: Path, run_script: Callable[..., Any]) -> None:
    result = run_script(example, timeout=100, env={"MPLBACKEND": "agg"}, cwd=tmp_path)

    assert result.returncode == 0, result.stderr
    # What fails in a thread or at exit does not change the exit code.
    assert "Traceback" not in result.stderr, result.stderr
