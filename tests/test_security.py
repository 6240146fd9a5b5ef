"""Security of files: no name and no content leads out of the logdir, runs anything or takes the machine down."""

from __future__ import annotations

import ast
import multiprocessing
import os
import stat
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import allogger
from allogger import rundir
from allogger.errors import ConfigError
from allogger.record import file_name
from allogger.registry import writers
from allogger.rundir import EVENTS, RUN_FILE, new_shard
from allogger.testing.rows import ODD_NAMES, PLAIN_ROWS, batch_of
from allogger.utils import repair
from tests.killed import PLAIN, a_shard, files, in_a_child, write

PACKAGE = Path(allogger.__file__).parent
ALL = ("hdf", "csv", "tensorboard", "console")
ON_DISK = ("hdf", "csv", "tensorboard")
PATHS = (
    "../../../evil", "/tmp/evil", "..", ".", "a/../../b", "~/evil", "C:\\evil", "..\\evil", "evil\0.h5", "-rf",
    "$(touch evil)", "`touch evil`", "evil\n", "%2e%2e%2fevil", "\u2215evil", "x" * 5000, "events", "run.json",
)  # fmt: skip


@pytest.fixture
def world(tmp_path: Path) -> Iterator[Path]:
    """A folder with a file that nobody may touch and the folder ``home`` to log in; nothing else may be there after."""
    (tmp_path / "precious").mkdir()
    (tmp_path / "precious" / "file").write_text('precious, "and not complete')
    (tmp_path / "precious" / "file.json").write_text('{"secret": "precious"}')
    # As old as what nobody writes any more.
    os.utime(tmp_path / "precious" / "file", (0, 0))
    (tmp_path / "home").mkdir()
    before = outside(tmp_path)
    yield tmp_path
    allogger.close()
    assert outside(tmp_path) == before


def outside(world: Path) -> dict[str, bytes]:
    names = {str(path.relative_to(world)) for path in world.rglob("*")}
    content = files(world)
    return {name: content.get(name, b"") for name in sorted(names) if not name.startswith("home")}


# ------------------------------------------------------------------------------------- names, when something is written


@pytest.mark.parametrize("output", ALL)
def test_no_scope_and_no_key_leads_out_of_the_logdir(
    world: Path, output: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(world / "home")
    allogger.basic_configure("run", [output])

    for name in (*PATHS, *ODD_NAMES):
        logger = allogger.get_logger(name)
        logger.log(1.0, name)
        logger.log(name, name)
        logger.log({name: {name: 1.0}}, name)
        logger.info(name)
    allogger.close()

    assert {path.name for path in (world / "home").iterdir()} == {"run"}
    assert {path.name for path in (world / "home" / "run").iterdir() if path.suffix != ".log"} == {EVENTS, RUN_FILE}
    capsys.readouterr()


@pytest.mark.parametrize("output", ON_DISK)
@pytest.mark.parametrize("name", PATHS, ids=range(len(PATHS)))
def test_no_name_of_a_process_or_host_leads_out_of_the_logdir(
    world: Path, output: str, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rundir, "host_name", lambda: name)
    logdir = world / "home" / "run"
    (logdir / EVENTS).mkdir(parents=True)

    writer = writers[output](new_shard(logdir, name))
    writer.write(batch_of(PLAIN_ROWS))
    writer.close()

    assert {path.name for path in (world / "home").iterdir()} == {"run"}
    assert {path.name for path in logdir.iterdir()} == {EVENTS}
    made = [path for path in (logdir / EVENTS).rglob("*") if path.is_file()]
    assert made
    # Folders of processes lie in the folder of events, and nothing lies deeper.
    assert all(len(path.relative_to(logdir / EVENTS).parts) <= 2 for path in made)


def work() -> None:
    """Log something in a child."""
    allogger.get_logger("child").log(1.0, "loss")
    allogger.get_logger("child").info("done")


def test_the_name_of_a_real_process_leads_nowhere(world: Path, start_method: str) -> None:
    allogger.basic_configure(world / "home" / "run", ON_DISK)
    context = multiprocessing.get_context(start_method)
    child = context.Process(target=work, name="../../../precious/evil")  # type: ignore[attr-defined]

    child.start()
    child.join()
    allogger.close()

    series = allogger.open_run(world / "home" / "run")["child/loss"]
    assert series.process.tolist() == ["../../../precious/evil"]
    assert (world / "home" / "run" / EVENTS / file_name("../../../precious/evil")).is_dir()


@pytest.mark.parametrize("name", [*PATHS, *ODD_NAMES], ids=range(len(PATHS) + len(ODD_NAMES)))
def test_a_name_of_a_file_is_one_part_of_a_path_and_short(name: str) -> None:
    safe = file_name(name)

    assert safe not in ("", ".", "..")
    assert not safe.startswith((".", "-") if name != "-rf" else ".")
    assert not {"/", "\0", "\\", "\n"} & set(safe)
    assert len(safe.encode()) <= 120


def test_files_have_the_permissions_of_the_umask(tmp_path: Path) -> None:
    def log_and_repair() -> None:
        os.umask(0o027)
        write(a_shard(tmp_path / "killed"), outputs=ON_DISK)
        repair(tmp_path / "killed")
        allogger.basic_configure(tmp_path / "run", ON_DISK)
        allogger.get_logger().log(1.0, "loss")
        allogger.get_logger().info("a message")
        allogger.close()

    assert in_a_child(log_and_repair) == 0

    found = {
        (path.is_dir(), stat.S_IMODE(path.stat().st_mode))
        for name in ("run", "killed")
        for path in (tmp_path / name).rglob("*")
    }
    assert found == {(True, 0o750), (False, 0o640)}


# ------------------------------------------------------------------------------------------------------- symbolic links


def test_events_that_lead_elsewhere_are_refused(world: Path) -> None:
    run = world / "home" / "run"
    with allogger.run(run) as logger:
        logger.log(1.0, "loss")
    os.rename(run / EVENTS, world / "home" / "aside")
    (run / EVENTS).symlink_to(world / "precious")
    before = files(run)

    for policy in ("continue", "clear"):
        with pytest.raises(ConfigError, match="symbolic link, which is not followed"):
            allogger.basic_configure(run, default_path_exists=policy)

    assert files(run) == before
    assert "symbolic link" in repair(run).skipped[0]


@pytest.mark.parametrize("policy", ["continue", "clear"])
def test_nothing_is_written_through_links_that_lie_in_a_logdir(world: Path, policy: str) -> None:
    run, precious = world / "home" / "run", world / "precious"
    old = write(a_shard(run), outputs=ON_DISK)
    with allogger.run(run, ON_DISK) as logger:
        logger.log(1.0, "loss")
    for path in (old.path(".journal"), old.path(".csv")):
        path.unlink()
        path.symlink_to(precious / "file")
    for number, name in enumerate(("h5", "index.json", "journal", "csv", "log")):
        folder = run if name == "log" else run / EVENTS
        (folder / f"20200101T00000{number}.000000-elsewhere-1-1.{name}").symlink_to(precious / "file")
    (run / EVENTS / "link").symlink_to(precious)
    for inner in (run / EVENTS / "MainProcess").iterdir():
        inner.unlink()
    (run / EVENTS / "MainProcess").rmdir()
    (run / EVENTS / "MainProcess").symlink_to(precious)

    root = allogger.basic_configure(run, ON_DISK, default_path_exists=policy)
    root.log(2.0, "loss")
    root.info("a message")
    allogger.close()
    repair(run)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert allogger.open_run(run, attempts="all")["root/loss"].value.tolist()[-1] == 2.0
    events = [path for path in (run / EVENTS).rglob("events.out*") if not path.is_symlink()]
    assert events


def test_a_run_json_that_leads_elsewhere_is_replaced_and_its_content_is_not_taken_up(world: Path) -> None:
    run = world / "home" / "run"
    run.mkdir()
    (run / RUN_FILE).symlink_to(world / "precious" / "file.json")

    with pytest.raises(ConfigError, match="not made by allogger"):
        allogger.basic_configure(run, default_path_exists="clear")
    allogger.basic_configure(run).log(1.0, "loss")
    allogger.close()

    assert not (run / RUN_FILE).is_symlink()
    assert "precious" not in (run / RUN_FILE).read_text()


@pytest.mark.parametrize("suffix", [".journal", ".csv", ".log", "events.out"])
def test_a_link_in_the_place_of_an_open_file_is_not_followed(world: Path, suffix: str, capfd: Any, caplog: Any) -> None:
    run = world / "home" / "run"
    root = allogger.basic_configure(run, ON_DISK)
    root.log(1.0, "loss")
    root.info("a message")
    allogger.flush()
    (path,) = (path for path in run.rglob("*") if path.is_file() and suffix in path.name)
    path.unlink()
    path.symlink_to(world / "precious" / "file")

    root.log(2.0, "loss")
    root.info("another message")
    allogger.close(timeout=5)

    assert "symbolic link" in capfd.readouterr().err + caplog.text


def test_a_torn_table_behind_a_link_is_not_mended(world: Path) -> None:
    run = world / "home" / "run"
    shard = a_shard(run)
    shard.path(".csv").symlink_to(world / "precious" / "file")

    repair(run)
    with allogger.run(run, ["csv"]) as logger:
        logger.log(1.0, "loss")

    assert shard.path(".csv").is_symlink()


def test_repair_leaves_links_alone(world: Path) -> None:
    run = world / "home" / "run"
    elsewhere = write(a_shard(world / "home" / "other"), outputs=["hdf", "csv"])
    (run / EVENTS).mkdir(parents=True)
    for suffix in (".journal", ".csv"):
        (run / EVENTS / f"{elsewhere.name}{suffix}").symlink_to(elsewhere.path(suffix))
    image = write(a_shard(run), PLAIN[:5], is_closed=True)
    write(image)
    image.path(".h5").unlink()
    image.path(".h5").symlink_to(world / "precious" / "file")
    (run / f".{RUN_FILE}.4194305-1.tmp").symlink_to(world / "precious" / "file")
    os.utime(run / f".{RUN_FILE}.4194305-1.tmp", (0, 0), follow_symlinks=False)
    before = files(world / "home" / "other")

    found = repair(run)

    assert files(world / "home" / "other") == before
    assert len(found.skipped) == 2
    # What replaces the link is a file of our own.
    assert image.path(".h5").is_file()
    assert not image.path(".h5").is_symlink()
    assert (run / f".{RUN_FILE}.4194305-1.tmp").is_symlink()


# -------------------------------------------------------------------------------------------------- nothing is executed


def calls_and_imports(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield str(node.module)
        elif isinstance(node, ast.Call):
            yield ast.unparse(node.func)
            yield from (keyword.arg for keyword in node.keywords if keyword.arg in ("shell", "allow_pickle"))


def test_the_package_has_no_way_to_execute_what_is_in_a_file() -> None:
    # `processes` carries settings to children through multiprocessing, which pickles the process itself; no file.
    allowed = {"processes.py": {"pickle", "pickle.loads", "pickle.dumps"}}
    suspects = set(
        "pickle pickle.loads marshal shelve dill joblib cloudpickle runpy code shell allow_pickle np.load yaml.load "
        "eval exec compile __import__ os.system os.popen".split()
    )

    found = {
        path.name: bad - allowed.get(path.name, set())
        for path in PACKAGE.rglob("*.py")
        if (bad := suspects & set(calls_and_imports(path)))
    }

    assert not any(found.values()), found


READ = """
import os, sys
import numpy as np
import allogger
from allogger.api.hdf import list_keys, read_from_key
from allogger.utils import repair, verify

LOGDIR = os.path.realpath(os.environ["LOGDIR"])

def read_all(logdir):
    run = allogger.open_run(logdir, attempts="all")
    for key in run:
        run[key].value
    run.frame()
    for key in list_keys(logdir):
        read_from_key(logdir, key)
    verify(logdir)
    repair(logdir, dry_run=True)

read_all(LOGDIR)  # everything is imported now
events = []
is_watching = True
sys.addaudithook(lambda event, args: events.append((event, args)) if is_watching else None)
read_all(LOGDIR)
is_watching = False
harmful = tuple(
    "pickle. marshal. ctypes. subprocess. socket. shutil. sqlite3. urllib. http. webbrowser. os.exec os.fork os.spawn "
    "os.posix_spawn os.system os.rename os.remove os.rmdir os.mkdir os.link os.symlink os.truncate os.chmod os.chown "
    "os.utime os.setxattr".split()
)
for event, args in events:
    if event == "open":
        path, _, flags = args
        where = os.path.realpath(os.fspath(path)) if not isinstance(path, int) else LOGDIR
        assert where.startswith((LOGDIR, "/proc/")), f"opens {where}"
        assert not flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT), f"writes {args}"
    assert not event.startswith(harmful), (event, args)
    # numpy and pandas compile code of their own; none may come out of the run.
    assert event not in ("import", "compile", "exec") or LOGDIR not in repr(args), (event, args)
assert events
print("read")
"""


def test_reading_opens_no_other_file_writes_none_starts_nothing_and_unpickles_nothing(
    tmp_path: Path, run_python: Callable[..., Any]
) -> None:
    run = tmp_path / "run"
    write(a_shard(run), PLAIN_ROWS, ON_DISK)
    write(a_shard(run, "Process-1"), PLAIN_ROWS, ON_DISK, is_closed=True)

    result = run_python(READ, env={"LOGDIR": str(run)})

    assert result.returncode == 0, result.stderr
    assert "read" in result.stdout
