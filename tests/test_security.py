"""Security of files: no name and no content leads out of the logdir, runs anything or takes the machine down."""

from __future__ import annotations

import ast
import json
import math
import multiprocessing
import os
import resource
import signal
import stat
import struct
import warnings
import zlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

import allogger
from allogger import rundir
from allogger.errors import AlloggerError, ConfigError
from allogger.formats import journal
from allogger.record import file_name
from allogger.registry import writers
from allogger.rundir import EVENTS, RUN_FILE, Shard, new_shard
from allogger.testing.rows import ODD_NAMES, PLAIN_ROWS, Row, batch_of
from allogger.utils import repair, verify
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
    suspects = {
        "pickle",
        "marshal",
        "shelve",
        "dill",
        "joblib",
        "cloudpickle",
        "runpy",
        "code",
        "shell",
        "allow_pickle",
    }
    suspects |= {
        "eval",
        "exec",
        "compile",
        "__import__",
        "np.load",
        "yaml.load",
        "os.system",
        "os.popen",
        "pickle.loads",
    }

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

def read_all(logdir):
    run = allogger.open_run(logdir, attempts="all")
    for key in run:
        run[key].value
    run.frame()
    for key in list_keys(logdir):
        read_from_key(logdir, key)
    verify(logdir)
    repair(logdir, dry_run=True)

read_all(sys.argv[1])  # everything is imported now
events = []
is_watching = True
sys.addaudithook(lambda event, args: events.append((event, args)) if is_watching else None)
read_all(sys.argv[1])
is_watching = False
harmless = "object. array. sys._getframe os.listdir os.scandir import gc. os.kill compile exec".split()
for event, args in events:
    if event == "open":
        path, _, flags = args
        assert isinstance(path, (str, os.PathLike, bytes, int)), args
        if not isinstance(path, int):
            where = os.path.realpath(os.fspath(path))
            ok = where.startswith((os.path.realpath(sys.argv[1]), "/proc/"))
            assert ok, f"opens {where}"
        assert not flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT), f"writes {args}"
    else:
        assert event.startswith(harmless), (event, args)
        if event in ("compile", "exec", "import"):
            # Named tuples of pandas and the like; never anything out of the run.
            assert sys.argv[1] not in repr(args), (event, args)
print("read")
"""


def test_reading_opens_no_other_file_writes_none_starts_nothing_and_unpickles_nothing(
    tmp_path: Path, run_python: Callable[..., Any]
) -> None:
    run = tmp_path / "run"
    write(a_shard(run), PLAIN_ROWS, ON_DISK)
    write(a_shard(run, "Process-1"), PLAIN_ROWS, ON_DISK, is_closed=True)
    script = READ.replace("sys.argv[1]", repr(str(run)))

    result = run_python(script)

    assert result.returncode == 0, result.stderr
    assert "read" in result.stdout


# -------------------------------------------------------------------------------------------------------- hostile files


class Journal:
    """A journal of sound frames with any content."""

    def __init__(self, shard: Shard, about: Mapping[str, Any] | None = None) -> None:
        self.path = shard.path(".journal")
        self.salt = journal.salt_of(shard.name)
        self.number = 0
        self.data = journal.encode_head({**shard.about(), **(about or {})})
        self.data += journal.encode_names([(0, "root", "good")], self.salt)
        self.rows([0], [1.5])

    def frame(self, type_: int, payload: bytes, *, crc: int | None = None, length: int | None = None) -> Journal:
        crc = zlib.crc32(payload) if crc is None else crc
        length = len(payload) if length is None else length
        number = self.number if type_ in (journal.ROWS, journal.OBJECT) else 0
        head = struct.pack("<4sBBHIQI", journal.MAGIC, type_, 1, 0, number, length, crc)
        self.data += head + struct.pack("<I", zlib.crc32(head, self.salt)) + payload
        self.number += type_ in (journal.ROWS, journal.OBJECT)
        return self

    def rows(self, series: list[int], values: list[float]) -> Journal:
        n = len(series)
        columns = np.array(series, "<u4"), np.zeros(n, "u1"), np.arange(n, dtype="<i8"), np.zeros(n), np.array(values)
        return self.frame(journal.ROWS, struct.pack("<I", n) + b"".join(column.tobytes() for column in columns))

    def object(self, raw: bytes = b"", **meta: Any) -> Journal:
        told = {"series": 0, "kind": "array", "step": 1, "time": 0.0, "at": [0, 0], **meta}
        text = json.dumps(told).encode() if "text" not in meta else meta["text"]
        return self.frame(journal.OBJECT, struct.pack("<I", len(text)) + text + raw)

    def save(self) -> None:
        self.path.write_bytes(self.data)


def nested(depth: int, inner: str = "1") -> bytes:
    return ("[" * depth + inner + "]" * depth).encode()


def nested_dicts(depth: int) -> bytes:
    return ('{"a":' * depth + "1" + "}" * depth).encode()


NUMBERS: tuple[Any, ...] = (-1, 2**32, 2**63, 10**4000, 1e999, -1e999, math.nan, 0.5, None, True, "1", [], {}, [[]])


def journals(logdir: Path) -> Iterator[Journal]:
    """Yield journals that a writer never makes."""
    good = lambda **about: Journal(a_shard(logdir), about)  # noqa: E731
    for value in NUMBERS:
        yield good(start=value, pid=value)
        yield good(process=value, attempt=value)
        yield good().frame(journal.NAMES, json.dumps([[value, "root", "key"]]).encode())
        yield good().frame(journal.NAMES, json.dumps([[1, value, value]]).encode()).rows([1], [1.0])
        yield good().frame(journal.NAMES, json.dumps(value).encode())
        yield good().frame(journal.END, json.dumps({"values": value, "time": value}).encode())
        yield good().frame(journal.END, json.dumps(value).encode())
        for name in ("series", "kind", "step", "time", "at", "dtype", "shape", "attrs"):
            yield good().object(bytes(8), **{"dtype": "<f8", "shape": [1], name: value})
    for depth in (100, 800, 990, 100_000):
        for deep in (nested(depth), nested_dicts(depth)):
            for type_ in (journal.HEAD, journal.NAMES, journal.END):
                yield good().frame(type_, deep)
            yield good().object(
                text=b'{"series":0,"kind":"array","step":1,"time":0.0,"at":[0,0],"attrs":' + deep + b"}"
            )
            yield good().object(
                text=b'{"series":0,"kind":"array","step":1,"time":0.0,"at":[0,0],"dtype":' + deep + b"}"
            )
    for dtype in ("O", "|O", "<f8,O", "U0", "V0", "S0", "(99999,99999)f8", "V2147483647", [["a", "O"]], "x" * 9999):
        for shape in ([], [0], [2**62], [2**40, 2**40], [0, 2**62], [-1], [1] * 40, [2**20]):
            yield good().object(b"cos\nsystem\n(S'touch evil'\ntR.", dtype=dtype, shape=shape)
    for series in ([2**32 - 1], [2**31], list(range(0, 2**32, 2**18))):
        yield good().rows(series, [0.5] * len(series))
    for payload in (b"", b"\1", b"\xff\xff\xff\xff", bytes(4), b"\1\0\0\0"):
        yield good().frame(journal.ROWS, payload)
        yield good().frame(journal.OBJECT, payload)
    for length in (2**64 - 1, 2**63, 2**40, 10**9):
        yield good().frame(journal.ROWS, b"x", length=length)
    # A name that is repeated for each value.
    yield good(process="x" * 2**20).rows([0] * 20_000, [0.5] * 20_000)
    yield good().frame(journal.NAMES, b"[" + b"[]," * 2**22 + b"[]]")
    yield good().frame(journal.NAMES, json.dumps([[1, "root", "x" * 2**24]]).encode()).rows([1], [1.0])
    yield good().object(b"x" * 2**24, kind="text")
    # Headers inside of what other headers claim, each with a checksum that is found wrong only when all is read.
    many = good()
    for left in range(20_000, 0, -1):
        many.frame(journal.ROWS, b"", crc=1, length=(left - 1) * journal.HEADER_BYTES)
    yield many
    yield good().frame(99, b"{}")


def json_files() -> Iterator[bytes]:
    """Yield JSON that allogger never writes."""
    yield from (json.dumps(value).encode() for value in NUMBERS)
    for depth in (100, 800, 990, 100_000):
        yield nested(depth)
        yield nested_dicts(depth)
        yield (
            b'{"attempts":' + nested(depth) + b',"series":' + nested(depth) + b',"about":' + nested_dicts(depth) + b"}"
        )
    for value in NUMBERS:
        told = json.dumps(value).encode()
        entry = b'{"kind":%b,"scope":%b,"key":%b,"last_step":%b}' % (told, told, told, told)
        yield b'{"allogger_format":%b,"created":%b,"attempts":%b}' % (told, told, told)
        yield b'{"attempts":[%b,{"attempt":%b}]}' % (told, told)
        yield b'{"about":%b,"series":%b}' % (told, told)
        yield b'{"about":{"process":"MainProcess","attempt":%b},"series":[%b]}' % (told, entry)
        yield b'{"about":{"process":%b,"start":%b},"series":[%b]}' % (told, told, told)
    yield b'{"a":' + b"1" * 2**20 + b"}"
    yield b'{"a":"' + b"x" * 2**26 + b'"}'
    yield b"[" * 2**20
    yield b"\xff\xfe" * 99
    yield b""


def hdf_files() -> Iterator[Callable[[h5py.File], None]]:
    """Yield what makes an HDF5 file hostile."""
    row = [("step", "i8"), ("time", "f8"), ("walltime", "f8"), ("value", "f8")]

    def external_link(file: h5py.File) -> None:
        file["scalar/main/bad"] = h5py.ExternalLink("../../../precious/secret.h5", "/scalar/main/secret")
        file["scalar/other"] = h5py.ExternalLink("/dev/zero", "/")

    def soft_link(file: h5py.File) -> None:
        file["scalar/main/bad"] = h5py.SoftLink("/scalar/main/good")
        file["scalar/main/loop"] = h5py.SoftLink("/scalar/main/loop")

    def virtual(file: h5py.File) -> None:
        layout = h5py.VirtualLayout((2,), np.dtype(row))
        layout[:] = h5py.VirtualSource("../../../precious/secret.h5", "scalar/main/secret", (2,))
        file.create_virtual_dataset("scalar/main/bad", layout)

    def external_storage(file: h5py.File) -> None:
        file.create_dataset("scalar/main/bad", (1,), row, external=[("../../../precious/file", 0, 32)])

    def huge(file: h5py.File) -> None:
        file.create_dataset("scalar/main/bad", (2**60,), row, chunks=(2**10,))
        file.create_dataset("scalar/main/wide", (2,), [*row[:3], ("value", "f8", (2**26,))], chunks=(1,))

    def bomb(file: h5py.File) -> None:
        file.create_dataset("scalar/main/bad", data=np.zeros(2**22, row), chunks=(2**17,), compression=9)
        file.create_dataset("scalar/main/worse", (2**40,), row, chunks=(2**17,), compression=9)

    def circle(file: h5py.File) -> None:
        file["scalar/main/self"] = file["scalar"]
        deep = file
        for _ in range(500):
            deep = deep.create_group("deep")

    def strings(file: h5py.File) -> None:
        file.attrs["process"] = "x" * 60_000
        file.attrs["start"] = "no number"
        file.attrs["pid"] = np.arange(5000)
        file.create_dataset("text/main/bad", data=np.zeros(3, [*row[:3], ("value", h5py.string_dtype())]))
        file.create_dataset("scalar/main/ref", (1,), [*row[:3], ("value", h5py.ref_dtype)])

    yield from (external_link, soft_link, virtual, external_storage, huge, bomb, circle, strings)


def within_limits(step: Callable[[], object], seconds: int = 20, memory: int = 1500 * 2**20) -> int:
    """Do *step* in a child with so much time and memory, more than now; return its exit status."""
    with open("/proc/self/statm") as file:
        pages = int(file.read().split()[0])

    def limited() -> None:
        limit = pages * resource.getpagesize() + memory
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
        resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds))
        # For what waits and does nothing; the machine may be busy.
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.alarm(5 * seconds)
        step()

    return in_a_child(limited)


def use(logdir: Path, *, is_good: bool = True) -> None:
    """Do with a run whatever can be done; raises nothing, and what is good in it is read."""
    run = allogger.open_run(logdir, attempts="all")
    for key in run:
        try:
            series = run[key]
            assert len(series.step) == len(series.time) == len(series.process)
        except AlloggerError:
            pass
    values = run["root/good"].value.tolist() if is_good else []
    for attempts in ("last", "all"):
        run.frame("good", attempts=attempts)
    json.dumps(verify(logdir).as_dict())
    str(verify(logdir))
    # What goes on there must count from where it ended, or from the beginning.
    root = allogger.basic_configure(logdir)
    root.log(7.5, "new")
    root.log(8.5, "good")
    allogger.close()
    after = allogger.open_run(logdir, attempts="all")
    assert after["root/new"].value.tolist() == [7.5]
    assert sorted(after["root/good"].value.tolist()) == [*values, 8.5]
    repair(logdir)
    again = allogger.open_run(logdir, attempts="all")["root/good"]
    assert sorted(again.value.tolist()) == [*values, 8.5]


@pytest.mark.filterwarnings("ignore")
def test_hostile_journals_take_little_time_and_memory_and_hide_no_good_values(tmp_path: Path) -> None:
    failed = []
    cases = len(list(journals(tmp_path / "count")))
    for number in range(cases):
        logdir = tmp_path / "run"

        def step(number: int = number, logdir: Path = logdir) -> None:
            (found,) = (one for n, one in enumerate(journals(logdir)) if n == number)
            found.save()
            use(logdir)

        if within_limits(step):
            failed.append(number)

    assert failed == []


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", [RUN_FILE, "index"])
def test_hostile_json_takes_little_time_and_memory_and_is_not_believed(tmp_path: Path, name: str) -> None:
    failed = []
    for number, content in enumerate(json_files()):
        logdir = tmp_path / str(number)

        def step(content: bytes = content, logdir: Path = logdir) -> None:
            # As allogger calls a forked process.
            shard = a_shard(logdir, f"fork-{os.getpid()}")
            write(shard, [Row("root", "good", step, 0.5) for step in (1, 2)], is_closed=True)
            (logdir / RUN_FILE if name == RUN_FILE else shard.path(".index.json")).write_bytes(content)
            use(logdir)
            # It goes on where it ended, according to the file of the values.
            assert allogger.open_run(logdir, attempts="all")["root/good"].step.tolist() == [1, 2, 3]

        if within_limits(step):
            failed.append((number, content[:80]))

    assert failed == []


@pytest.mark.parametrize("content", ["pipe", "device", "folder"])
def test_what_is_no_regular_file_keeps_nobody_waiting(tmp_path: Path, content: str) -> None:
    logdir = tmp_path / "run"
    write(a_shard(logdir), [Row("root", "good", step, 0.5) for step in (1, 2)])
    place = {"pipe": os.mkfifo, "folder": os.mkdir, "device": lambda path: os.symlink("/dev/zero", path)}[content]
    place(logdir / RUN_FILE)
    for suffix in (".journal", ".h5", ".csv", ".index.json"):
        place(a_shard(logdir).path(suffix))

    assert within_limits(lambda: use(logdir)) == 0


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("make", list(hdf_files()), ids=lambda make: make.__name__)
def test_hostile_hdf5_files_take_little_time_and_memory_and_hide_no_good_values(
    world: Path, make: Callable[[h5py.File], None]
) -> None:
    logdir = world / "home" / "a" / "b"
    row = [("step", "i8"), ("time", "f8"), ("walltime", "f8"), ("value", "f8")]
    with h5py.File(world / "home" / "secret.h5", "w") as file:
        file.create_dataset("scalar/main/secret", data=np.full(2, 666.0, row))
    write(a_shard(logdir), [Row("root", "good", step, 0.5) for step in (1, 2)], is_closed=True)
    with h5py.File(a_shard(logdir).path(".h5"), "w") as file:
        file.create_dataset("scalar/main/good", data=np.ones(2, row))
        make(file)

    def read() -> None:
        use(logdir)
        run = allogger.open_run(logdir, attempts="all")
        assert run["main/good"].value.tolist() == [1.0, 1.0]
        assert "666.0" not in repr([run[key].value.tolist() for key in run if "bad" not in key])

    assert within_limits(read) == 0
