"""Does the package keep its manners: in what it exports, what its import does, and how its modules are laid out?"""

from __future__ import annotations

import ast
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import allogger
from allogger import errors

PACKAGE = Path(allogger.__file__).parent
MODULES = sorted(PACKAGE.rglob("*.py"))

# Everything that users may rely on; a name that comes or goes is a line in the changelog.
PUBLIC_NAMES = {
    *errors.__all__,
    "Kind",
    "Logger",
    "Run",
    "Runs",
    "Series",
    "Unstorable",
    "Writer",
    "__version__",
    "basic_configure",
    "close",
    "flush",
    "get_logger",
    "get_root",
    "open_run",
    "open_runs",
    "register_kind",
    "register_writer",
    "run",
    "valid_outputs",
}

# Run in a fresh interpreter. What is compared is the state that a program would notice.
IMPORT = """
import atexit, logging, os, signal, sys, threading, warnings

def state():
    loggers = [logging.root, *(x for x in logging.Logger.manager.loggerDict.values() if isinstance(x, logging.Logger))]
    return {
        "threads": threading.enumerate(),
        "handlers of loggers": [handler for logger in loggers for handler in logger.handlers],
        "the root's level": logging.root.level,
        "the class of loggers": logging.getLoggerClass(),
        "the record factory": logging.getLogRecordFactory(),
        "handlers of signals": {name: signal.getsignal(name) for name in signal.valid_signals()},
        "hooks": [sys.excepthook, sys.unraisablehook, sys.displayhook, threading.excepthook],
        "streams": [sys.stdin, sys.stdout, sys.stderr],
        "the environment": dict(os.environ),
        "the folder": (os.getcwd(), os.listdir()),
    }

import numpy  # our one dependency at import; what it does is not ours
before = state()
import allogger
after = state()

for name in before:
    assert before[name] == after[name], f"import changed {name}: {before[name]} -> {after[name]}"
for library in ("h5py", "pandas", "tensorboardX", "google.protobuf", "tensorboard", "torch", "matplotlib", "yaml"):
    assert library not in sys.modules, f"import loads {library}"
try:
    os.waitpid(-1, os.WNOHANG)
except ChildProcessError:
    pass
else:
    raise AssertionError("import started a process")
"""


def test_importing_allogger_changes_nothing_and_loads_nothing_heavy(
    tmp_path: Path, run_python: Callable[..., Any]
) -> None:
    folder = tmp_path / "empty"
    folder.mkdir()

    result = run_python(IMPORT, cwd=folder)

    assert result.returncode == 0, result.stderr
    assert result.stdout + result.stderr == ""
    assert not list(folder.iterdir())


def test_the_public_names_are_exactly_these() -> None:
    assert set(allogger.__all__) == PUBLIC_NAMES


@pytest.mark.parametrize("name", sorted(PUBLIC_NAMES))
def test_a_public_name_is_there_and_has_a_docstring(name: str) -> None:
    value = getattr(allogger, name)

    assert not callable(value) or value.__doc__


@pytest.mark.parametrize("module", MODULES, ids=lambda path: path.relative_to(PACKAGE).as_posix())
def test_a_module_says_which_question_it_answers(module: Path) -> None:
    docstring = ast.get_docstring(ast.parse(module.read_text(encoding="utf-8"))) or ""
    first = docstring.partition("\n")[0]

    assert "?" in first or re.match(r"[A-Z]\w*(, \w+)*( and \w+)?: \w", first), f"{module.name} begins with {first!r}"


def test_every_folder_with_modules_is_a_package() -> None:
    assert [folder for module in MODULES if not (folder := module.parent / "__init__.py").exists()] == []
