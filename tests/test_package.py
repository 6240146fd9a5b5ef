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
    "Artifact",
    "FileKind",
    "HoldingLogger",
    "Kind",
    "Logger",
    "LoggingMixin",
    "MemoryLogger",
    "Run",
    "Runs",
    "Series",
    "Tracker",
    "TrackerCollection",
    "TrainerLogger",
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
    "watch",
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

before = state()
import allogger
after = state()

for name in before:
    assert before[name] == after[name], f"import changed {name}: {before[name]} -> {after[name]}"
heavy = ("numpy", "h5py", "pandas", "tensorboardX", "google.protobuf", "tensorboard", "torch", "matplotlib", "yaml")
for library in heavy:
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


def test_a_star_import_gives_every_public_name(run_python: Callable[..., Any]) -> None:
    result = run_python("from allogger import *; import allogger; assert set(allogger.__all__) <= set(dir())")

    assert result.returncode == 0, result.stderr


def test_dir_shows_what_is_not_loaded_yet(run_python: Callable[..., Any]) -> None:
    result = run_python(
        "import allogger, sys; shown = dir(allogger); assert 'numpy' not in sys.modules;"
        "assert {'utils', 'errors', *allogger.__all__} <= set(shown), shown"
    )

    assert result.returncode == 0, result.stderr


def test_a_misspelt_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="'get_loger'"):
        allogger.get_loger  # type: ignore[attr-defined]  # noqa: B018


def test_children_forked_while_a_thread_imports_can_use_the_library(run_python: Callable[..., Any]) -> None:
    result = run_python(
        """
        import os, threading
        import allogger

        thread = threading.Thread(target=lambda: allogger.get_logger)
        thread.start()
        children = []
        while thread.is_alive() or not children:
            pid = os.fork()
            if not pid:
                allogger.get_logger("child")
                os._exit(0)
            children.append(pid)
        assert {os.waitpid(pid, 0)[1] for pid in children} == {0}
        """,
        timeout=30,
    )

    assert result.returncode == 0, result.stderr


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
