"""Is every command in docs/command-line.md, with what it takes, and is that what it shows?"""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from allogger.cli import parser_of
from allogger.cli.commands import COMMANDS, command
from tests.cli.conftest import ROOT, TIMEOUT, environment

PAGE = (ROOT / "docs" / "command-line.md").read_text(encoding="utf-8")
SECTIONS = dict(re.findall(r"^## (.*?)$\n(.*?)(?=^## |\Z)", PAGE, re.MULTILINE | re.DOTALL))
# What is explained once for all commands.
COMMON = {"--help", "--json", "--keys", "--attempts", "--output"}
BLOCK = re.compile(r"^```console\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def masked(line: str) -> str:
    """Return a line without what differs each time: numbers, and how wide they make a column."""
    return " ".join(re.sub(r"\d+(,\d+)*(\.\d+)?", "0", line).split())


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_a_section_with_an_example_and_all_options(name: str) -> None:
    section = SECTIONS[name]
    parser = parser_of(name, command(name, lambda _: None))

    assert f"allogger {name}" in section
    missing = [
        action.option_strings
        for action in parser._actions
        if action.option_strings
        and not COMMON & set(action.option_strings)
        and not any(re.search(rf"(?<![\w-]){option}(?![\w-])", section) for option in action.option_strings)
    ]
    assert missing == []


def test_the_examples_show_what_the_page_says(tmp_path: Path, terminal: Callable[..., tuple[int, str]]) -> None:
    pytest.importorskip("rich")
    pytest.importorskip("matplotlib")
    program = re.findall(r"^```python\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)[0]
    subprocess.run([sys.executable, "-c", program], cwd=tmp_path, env=environment(), check=True, timeout=TIMEOUT)

    for block in BLOCK.findall(PAGE):
        for example in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
            line, *shown = example.splitlines()
            code, screen = terminal(*shlex.split(line)[1:], cwd=tmp_path, env={"NO_COLOR": "1", "COLUMNS": "110"})
            seen = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", screen).replace("\r", "").splitlines()
            assert code == 0, screen
            assert masked(seen[0]) == masked(shown[0]), line
            assert len(seen) == len(shown), (line, screen)
