"""Do the pages of docs/ run, do their links lead somewhere, and does the README name every setting?"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from allogger.registry import parameters, writers
from allogger.settings import _CHECKS, COMMON_PARAMS
from allogger.sources import _VARIABLES

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
PAGES = sorted([README, ROOT / "CHANGELOG.md", *ROOT.glob("docs/**/*.md")])
BLOCK = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def named(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize(
    "page", [page for page in ROOT.glob("docs/**/*.md") if BLOCK.search(page.read_text())], ids=named
)
def test_the_python_blocks_of_a_page_make_a_program(page: Path, tmp_path: Path, run_python: Callable[..., Any]) -> None:
    result = run_python("\n".join(BLOCK.findall(page.read_text(encoding="utf-8"))))

    assert result.returncode == 0, result.stderr
    assert "Traceback" not in result.stderr, result.stderr


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_every_link_leads_to_a_file(page: Path) -> None:
    targets = re.findall(r"\]\(([^)#]+)\)", page.read_text(encoding="utf-8"))
    files = [target for target in targets if "://" not in target]

    assert [target for target in files if not (page.parent / target).exists()] == []


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_every_test_that_a_page_names_exists(page: Path) -> None:
    tests = re.findall(r"`(tests/[\w/.]+)`", page.read_text(encoding="utf-8"))

    assert [path for path in tests if not (ROOT / path).exists()] == []


def test_the_readme_lists_every_setting_parameter_and_variable() -> None:
    text = README.read_text(encoding="utf-8")
    rows = set(re.findall(r"^\| `(\w+)` \|", text, re.MULTILINE))
    own = {name for output in writers.builtin for name in parameters(writers[output])} - {"clock"}

    assert set(_CHECKS) | set(_VARIABLES) | {f"{output}_writer_params" for output in writers.builtin} <= rows
    assert [name for name in own | COMMON_PARAMS if f"`{name}`" not in text] == []
