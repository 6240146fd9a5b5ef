"""What tests share: the start methods of processes, and programs that run in a real interpreter of their own."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest

from allogger.record import full_key
from allogger.registry import kinds, writers
from allogger.rundir import EVENTS
from allogger.shards import list_shards, open_shard
from tests.kill import shim

ROOT = Path(__file__).parents[1]

# It needs atheris, which only those install who hunt with it.
collect_ignore = ["fuzz/guided.py"]

Result = subprocess.CompletedProcess[str]


@pytest.fixture(autouse=True)
def _forget_plugins() -> Iterator[None]:
    known = set(writers.names()), set(kinds.names())
    yield
    for registry, names in zip((writers, kinds), known, strict=True):
        for name in set(registry.names()) - names:
            registry.remove(name)


@pytest.fixture(params=["fork", "spawn", "forkserver"])
def start_method(request: pytest.FixtureRequest) -> str:
    """Each way in which multiprocessing starts a process, as `multiprocessing.get_context` takes it."""
    method: str = request.param
    return method


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The library that kills a program, or makes its calls fail, inside of a call of the file system."""
    try:
        return shim.build(tmp_path_factory.mktemp("shim"))
    except shim.NoCompiler as missing:
        pytest.skip(str(missing))


@pytest.fixture
def run_script() -> Callable[..., Result]:
    """Run a script: ``run_script(path, *args, timeout=60, env=None, cwd=None)``, see `_run_script`."""
    return _run_script


@pytest.fixture
def run_python(tmp_path: Path) -> Callable[..., Result]:
    """Run source code: ``run_python(code, *, timeout=60, env=None, cwd=None)``, see `_run_script`.

    The code goes into a file, which spawned children need to import it, in *tmp_path*, where it also runs by default.
    """

    def run(code: str, *, timeout: float = 60, env: Mapping[str, str] | None = None, cwd: Path | None = None) -> Result:
        script = tmp_path / "script.py"
        script.write_text(textwrap.dedent(code), encoding="utf-8")
        return _run_script(script, timeout=timeout, env=env, cwd=cwd)

    return run


def _run_script(
    script: Path, *args: str, timeout: float = 60, env: Mapping[str, str] | None = None, cwd: Path | None = None
) -> Result:
    """Run *script* by a fresh interpreter, *env* laid over the environment, by default in the folder of the script.

    It has ended when the last process that it started has closed stdout and stderr. If that takes longer than *timeout*
    seconds, all of them are killed and the test fails with their output and with what each of their threads was at.
    """
    process = subprocess.Popen(
        [sys.executable, script, *args],
        cwd=cwd or script.parent,
        env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONFAULTHANDLER": "1", **(env or {})},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # A group of their own, so that a hanging grandchild can be found and killed.
        start_new_session=True,
    )
    try:
        stdout, stderr = process.communicate(timeout=timeout)
    except BaseException as stop:
        stdout, stderr = _abort(process)
        if not isinstance(stop, subprocess.TimeoutExpired):
            raise
        hung = f"{script.name} hung: not over after {timeout:g} s"
        pytest.fail(f"{hung}\n--- stdout\n{stdout}\n--- stderr\n{stderr}", pytrace=False)
    return subprocess.CompletedProcess(process.args, process.returncode, stdout, stderr)


def _abort(process: subprocess.Popen[str]) -> tuple[str, str]:
    """Kill the group of *process* and return its output; faulthandler adds the stacks to stderr."""
    os.killpg(process.pid, signal.SIGABRT)
    try:
        return process.communicate(timeout=5)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        return process.communicate()


def keys_in_hdf(logdir: Path) -> list[str]:
    """Return the full keys of what the output ``hdf`` has written; `open_run` shows those of other outputs too."""
    events = logdir / EVENTS
    found = set()
    for file in list_shards(events):
        with contextlib.closing(open_shard(events, file.name)) as reader:
            found |= {full_key(series.scope, series.key) for series in reader.keys()}  # noqa: SIM118  # no mapping
    return sorted(found)
