"""Does every Python block of the README run?

The blocks of one section (``##``) make one program, in a folder of its own. Each keeps the line that it has in the
README, so the line in a traceback is the line to mend.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

README = Path(__file__).parents[1] / "README.md"


def programs(text: str) -> dict[str, str]:
    """Return, by the heading of the section, the text with all but the section's Python blocks made empty lines."""
    sections: dict[str, list[str]] = {}
    heading, fence = "README", None
    for number, line in enumerate(text.splitlines()):
        if line.startswith("```"):
            fence = line.removeprefix("```").strip() if fence is None else None
        elif fence is None and line.startswith("## "):
            heading = line.removeprefix("## ").strip()
        elif fence == "python":
            program = sections.setdefault(heading, [])
            program += [""] * (number - len(program)) + [line]
    return {heading: "\n".join(program) + "\n" for heading, program in sections.items()}


PROGRAMS = programs(README.read_text(encoding="utf-8"))


@pytest.mark.parametrize("heading", PROGRAMS)
def test_the_python_blocks_of_a_section_run(heading: str, tmp_path: Path, run_script: Callable[..., Any]) -> None:
    program = PROGRAMS[heading]
    prompts = [f"README.md:{n}" for n, line in enumerate(program.splitlines(), 1) if line.startswith(">>>")]
    assert not prompts, f"write it without prompts, so that it runs: {', '.join(prompts)}"
    script = tmp_path / "README.md"
    script.write_text(program, encoding="utf-8")

    result = run_script(script)

    assert result.returncode == 0, f"section {heading!r}\n{result.stderr}"
    # What fails in a thread or at exit does not change the exit code.
    assert "Traceback" not in result.stderr, f"section {heading!r}\n{result.stderr}"


def test_the_readme_names_the_command_that_checks_everything() -> None:
    assert "./check" in README.read_text(encoding="utf-8")


def test_blocks_keep_their_lines_and_sections_their_blocks() -> None:
    text = "```python\na = 1\n```\n## Use\n```sh\n## no heading\n```\n```python\nb = 2\n```\n```python\nc = 3\n```\n"

    assert programs(text) == {"README": "\na = 1\n", "Use": "\n" * 8 + "b = 2\n\n\nc = 3\n"}
