"""Do writers and kinds of other packages work, and what happens to a program when they do not?"""

from __future__ import annotations

import importlib.util
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar

import numpy as np
import pytest

import allogger
from allogger.manager import manager
from allogger.record import Batch
from allogger.registry import register_writer, writers
from allogger.rundir import Shard
from allogger.testing import MemoryWriter, Stored, WriterContract

ROOT = Path(__file__).parents[1]


def _load(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


jsonl = _load(ROOT / "examples" / "jsonl_writer.py")


# --------------------------------------------------------------------------------------------------------- the example


class TestJsonlWriter(WriterContract):
    bad_params = ({"digits": -1}, {"digits": 2.5}, {"digits": "3"})

    def make_writer(self, shard: Shard, **params: Any) -> allogger.Writer:
        writer: allogger.Writer = jsonl.JsonlWriter(shard, **params)
        return writer

    def read_back(self, shard: Shard) -> list[Stored]:
        path = shard.path(".jsonl")
        lines = jsonl.read_lines(path) if path.exists() else []
        return [(line["key"], line["step"], line["value"]) for line in lines]


# ------------------------------------------------------------------------------------------ packages that are installed

GOOD = """
import numpy as np
import allogger
from allogger.testing import MemoryWriter

print("imported")

class Good(MemoryWriter):
    def __init__(self, shard, *, color="red"):
        super().__init__(shard)
        self.color = color

    def write(self, batch):
        super().write(batch)
        print(self.color)

class Version:
    def __init__(self, *parts):
        self.parts = parts

    def __eq__(self, other):
        return self.parts == other.parts

class VersionKind(allogger.Kind):
    name = "version"

    def accepts(self, value):
        return isinstance(value, Version)

    def encode(self, value):
        return np.array(value.parts), {"unit": "release"}

    def decode(self, payload, attrs):
        return Version(*payload.tolist())
"""
BROKEN = """
import allogger

class NoWriter:
    pass

class Abstract(allogger.Writer):
    pass

class NoKind:
    pass

class RaisesWhenMade(allogger.Kind):
    name = "raises"

    def __init__(self):
        raise RuntimeError("no kind today")

    def accepts(self, value):
        return True

    def encode(self, value):
        raise RuntimeError

class AcceptsNothing(allogger.Kind):
    name = "accepts_nothing"

    def accepts(self, value):
        raise RuntimeError

    def encode(self, value):
        raise RuntimeError
"""


@pytest.fixture
def install(tmp_path: Path) -> Callable[..., None]:
    """Install a package into ``site``: ``install(name, {group: {entry point: object}}, **{module: code})``."""
    site = tmp_path / "site"
    site.mkdir()

    def install(name: str, points: dict[str, dict[str, str]], **modules: str) -> None:
        about = site / f"{name}-1.0.dist-info"
        about.mkdir()
        (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        lines = [f"[{group}]\n" + "".join(f"{k} = {v}\n" for k, v in names.items()) for group, names in points.items()]
        (about / "entry_points.txt").write_text("\n".join(lines))
        for module, code in modules.items():
            (site / f"{module}.py").write_text(code)

    return install


@pytest.fixture
def run_with_site(tmp_path: Path, run_python: Callable[..., Any]) -> Callable[[str], Any]:
    """Run code where the packages are installed, in a fresh interpreter; it must end well."""

    def run(code: str) -> Any:
        result = run_python(code, env={"PYTHONPATH": f"{tmp_path / 'site'}:{ROOT}"})
        assert result.returncode == 0, result.stderr
        assert "Traceback" not in result.stderr, result.stderr
        return result

    return run


def _install_good(install: Callable[..., None]) -> None:
    points = {"allogger.writers": {"good": "good:Good"}, "allogger.kinds": {"version": "good:VersionKind"}}
    install("good-package", points, good=GOOD)


def _install_broken(install: Callable[..., None]) -> None:
    points = {
        "allogger.writers": {
            "no_writer": "broken:NoWriter",
            "abstract": "broken:Abstract",
            "no_such": "broken:NoSuchClass",
            "crashes": "crashes:Writer",
            "needs": "needs:Writer",
            "gone": "gone:Writer",
        },
        "allogger.kinds": {
            "no_kind": "broken:NoKind",
            "raises": "broken:RaisesWhenMade",
            "accepts_nothing": "broken:AcceptsNothing",
            "needs": "needs:Kind",
            "crashes": "crashes:Kind",
        },
        "allogger.readers": {"gone": "gone:Reader"},
    }
    needs = "import a_library_that_is_missing.part"
    install("broken-package", points, broken=BROKEN, needs=needs, crashes="raise OSError('no import today')")


def test_the_output_of_an_installed_package_works_like_ours(
    install: Callable[..., None], run_with_site: Callable[[str], Any]
) -> None:
    _install_good(install)

    result = run_with_site("""
        import allogger
        assert allogger.valid_outputs == ["hdf", "tensorboard", "csv", "console", "good"]
        root = allogger.basic_configure("run", ["hdf", "good"], good_writer_params={"color": "blue", "filter": "loss"})
        root.log(1.0, "loss")
        root.log(2.0, "loss", to_good=False)
        root.log(3.0, "other")
        allogger.get_logger("agent", default_outputs=["hdf"]).log(4.0, "loss", to_good=True)
        allogger.close()

        from good import Good
        assert [(r.full_key, r.payload) for r in Good.records] == [("root/loss", 1.0), ("agent/loss", 4.0)]
        run = allogger.open_run("run")
        assert run.keys() == ["agent/loss", "root/loss", "root/other"]
        assert run["root/loss"].value.tolist() == [1.0, 2.0]
        try:
            allogger.basic_configure("run", ["good"], good_writer_params={"colour": "blue"})
        except allogger.UnknownName as error:
            print(error)
    """)

    assert "blue" in result.stdout
    assert "red" not in result.stdout
    assert "did you mean 'color'" in result.stdout


def test_an_installed_package_is_not_imported_before_it_is_used(
    install: Callable[..., None], run_with_site: Callable[[str], Any]
) -> None:
    _install_good(install)

    result = run_with_site("""
        import allogger
        print(allogger.valid_outputs)
        allogger.basic_configure("run", ["hdf"]).log(1.0, "loss")
        allogger.close()
    """)

    assert "good" in result.stdout
    assert "imported" not in result.stdout


def test_the_kind_of_an_installed_package_comes_back_as_it_was(
    install: Callable[..., None], run_with_site: Callable[[str], Any]
) -> None:
    _install_good(install)

    run_with_site("""
        import allogger
        from good import Version
        root = allogger.basic_configure("run")
        root.log(Version(1, 2), "inferred")
        root.log(Version(3, 4), "said", data_type="version")
        allogger.flush()

        def check():
            run = allogger.open_run("run")
            assert run["root/inferred"].value.tolist() == [Version(1, 2)]
            assert run["root/said"].value.tolist() == [Version(3, 4)]
            assert run["root/said"].kind == "version"
            assert run["root/said"].meta == {"unit": "release"}
            assert allogger.api.hdf.read_from_key("run", "version/root/said")["value"].tolist() == [Version(3, 4)]

        check()
        allogger.close()
        check()
    """)


def test_values_of_a_kind_that_is_not_installed_any_more_are_shown_as_they_are_stored(
    install: Callable[..., None], run_with_site: Callable[[str], Any], tmp_path: Path
) -> None:
    _install_good(install)
    run_with_site("""
        import allogger
        from good import Version
        allogger.basic_configure("run").log(Version(1, 2), "version")
        allogger.close()
    """)

    series = allogger.open_run(tmp_path / "run")["root/version"]

    assert series.kind == "version"
    assert series.value.tolist() == [[1, 2]]


def test_installed_packages_that_are_broken_cost_nothing(
    install: Callable[..., None], run_with_site: Callable[[str], Any]
) -> None:
    _install_good(install)
    _install_broken(install)

    result = run_with_site("""
        import allogger
        from good import Good, Version
        assert set(allogger.valid_outputs) >= {"hdf", "good"}
        root = allogger.basic_configure("run", ["hdf", "good"])
        for _ in range(3):
            root.log(1.0, "loss")
            root.log([1.0, 2.0], "weights")
            root.log("text", "note")
            root.log(Version(1, 2), "version")
        allogger.close()
        run = allogger.open_run("run")
        assert {key: len(run[key]) for key in run} == dict.fromkeys(
            ["root/loss", "root/note", "root/version", "root/weights"], 3
        )
        assert len(Good.records) == 12
    """)

    for name in ("no_kind", "raises", "needs", "crashes"):
        assert result.stderr.count(f"skips the kind plug-in {name!r}") == 1
    assert "not stored" not in result.stderr


def test_a_broken_output_for_one_call_is_reported_once_and_takes_no_other_along(
    install: Callable[..., None], run_with_site: Callable[[str], Any]
) -> None:
    _install_broken(install)

    result = run_with_site("""
        import allogger
        root = allogger.basic_configure("run", ["hdf"])
        for _ in range(3):
            for name in ("no_writer", "abstract", "no_such", "crashes", "needs", "gone"):
                root.log(1.0, name, **{f"to_{name}": True})
        allogger.close()
        run = allogger.open_run("run")
        assert sum(len(run[key]) for key in run) == 18
    """)

    for name in ("no_writer", "abstract", "no_such", "crashes", "needs", "gone"):
        assert result.stderr.count(f"output {name!r} loses values") == 1
        assert f"output {name!r} lost 3 values: 'root/{name}' 3" in result.stderr
    assert "pip install a_library_that_is_missing" in result.stderr


@pytest.mark.parametrize(
    ("name", "error", "why"),
    [
        ("needs", "MissingDependency", "needs a_library_that_is_missing; install it with: pip install a_library_that"),
        ("gone", "MissingDependency", "needs gone; install it with: pip install gone"),
        ("no_writer", "ConfigError", "must be a subclass of allogger.Writer"),
        ("abstract", "ConfigError", "lacks write"),
        ("no_such", "ConfigError", "no attribute 'NoSuchClass'"),
        ("crashes", "ConfigError", "OSError: no import today"),
    ],
)
def test_basic_configure_says_at_once_what_is_wrong_with_an_output(
    name: str, error: str, why: str, install: Callable[..., None], run_with_site: Callable[[str], Any]
) -> None:
    _install_broken(install)

    result = run_with_site(f"""
        import allogger
        try:
            allogger.basic_configure("run", ["hdf", {name!r}])
        except allogger.{error} as error:
            print(error)
        allogger.basic_configure("run", ["hdf"]).log(1.0, "loss")
        allogger.close()
        assert len(allogger.open_run("run")["root/loss"]) == 1
    """)

    assert why in result.stdout


def test_plugins_with_names_that_cannot_be_used_are_named_once_and_skipped(
    install: Callable[..., None], run_with_site: Callable[[str], Any]
) -> None:
    points = {
        "allogger.writers": {"my-writer": "good:Good", "hdf": "good:Good", "stdout": "good:Good", "ok": "good:Good"}
    }
    install("odd-names", points, good=GOOD)

    result = run_with_site("""
        import allogger
        for _ in range(2):
            assert allogger.valid_outputs == ["hdf", "tensorboard", "csv", "console", "ok"]
        allogger.basic_configure("run", ["hdf", "ok"]).log(1.0, "loss")
        allogger.close()
        assert len(allogger.open_run("run")["root/loss"]) == 1
    """)

    for name in ("my-writer", "hdf", "stdout"):
        assert result.stderr.count(f"skips a plug-in of odd-names: {name!r}") == 1


# -------------------------------------------------------------------------------------------- writers that fail at work


@pytest.fixture
def configure(tmp_path: Path) -> Iterator[Callable[..., allogger.Logger]]:
    """Configure HDF5 and a plug-in: ``configure(cls, **settings)``; values are due after 10 ms."""

    def configure(cls: type[allogger.Writer], **settings: Any) -> allogger.Logger:
        register_writer("plugin", cls)
        return allogger.basic_configure(tmp_path, ["hdf", "plugin"], flush_seconds=0.01, **settings)

    yield configure
    manager.reset()
    writers.remove("plugin")


def _log(logger: allogger.Logger, count: int) -> None:
    for n in range(count):
        logger.log(n / 2, "half")
        logger.log(n, "whole")
        if n % 10 == 0:
            logger.log([n, n], "pair")


def _flush_files() -> None:
    disk = manager.dispatch.lanes["disk"]
    disk.call(disk.flush)


def _check_hdf(tmp_path: Path, count: int) -> None:
    run = allogger.open_run(tmp_path)
    assert run["root/half"].value.tolist() == [n / 2 for n in range(count)]
    assert run["root/whole"].value.tolist() == [*range(count)]
    assert run["root/pair"].value.tolist() == [[n, n] for n in range(0, count, 10)]


def test_a_writer_that_raises_at_every_write_loses_its_own_values_only(
    tmp_path: Path, configure: Callable[..., allogger.Logger], caplog: pytest.LogCaptureFixture
) -> None:
    class Raises(MemoryWriter):
        def write(self, batch: Batch) -> None:
            raise RuntimeError("not today")

    _log(configure(Raises), 1000)
    allogger.close()

    _check_hdf(tmp_path, 1000)
    assert caplog.text.count("not today") == 1
    assert "output 'plugin' lost 2100 values: 'root/half' 1000, 'root/whole' 1000, 'root/pair' 100" in caplog.text


def test_a_writer_that_raises_at_some_values_loses_those_only(
    tmp_path: Path, configure: Callable[..., allogger.Logger], caplog: pytest.LogCaptureFixture
) -> None:
    class Picky(MemoryWriter):
        def write(self, batch: Batch) -> None:
            if any(record.step % 10 == 0 for record in batch):
                raise ValueError("not the tenth")
            super().write(batch)

    _log(configure(Picky), 1000)
    allogger.close()

    _check_hdf(tmp_path, 1000)
    kept = [(record.key, record.step) for record in Picky.records]
    assert sorted(kept) == sorted(
        (key, step)
        for key, count in {"half": 1000, "whole": 1000, "pair": 100}.items()
        for step in range(1, count + 1)
        if step % 10
    )
    for name in ("half", "whole", "pair"):
        steps = [step for key, step in kept if key == name]
        assert steps == sorted(steps)
    assert caplog.text.count("not the tenth") == 1
    assert "output 'plugin' lost 210 values: 'root/half' 100, 'root/whole' 100, 'root/pair' 10" in caplog.text


def test_a_writer_that_cannot_write_for_a_while_gets_everything_later(
    tmp_path: Path, configure: Callable[..., allogger.Logger], caplog: pytest.LogCaptureFixture
) -> None:
    class Offline(MemoryWriter):
        is_online: ClassVar[bool] = False

        def write(self, batch: Batch) -> None:
            if not self.is_online:
                raise ConnectionError("no network")
            super().write(batch)

    logger = configure(Offline)
    _log(logger, 500)
    allogger.flush()
    _check_hdf(tmp_path, 500)
    assert Offline.records == []
    Offline.is_online = True
    allogger.close()

    assert [record.payload for record in Offline.records if record.key == "whole"] == [*range(500)]
    assert caplog.text.count("no network") == 1
    assert "writes again" in caplog.text
    assert "lost" not in caplog.text


def test_a_writer_that_never_can_write_is_told_at_close_what_it_has_lost(
    tmp_path: Path, configure: Callable[..., allogger.Logger], caplog: pytest.LogCaptureFixture
) -> None:
    class Offline(MemoryWriter):
        def write(self, batch: Batch) -> None:
            raise ConnectionError("no network")

    logger = configure(Offline, strict=True)
    _log(logger, 10)
    with pytest.raises(allogger.WriteFailed, match="plugin"):
        allogger.flush()
    with pytest.raises(allogger.WriteFailed):
        allogger.close()

    _check_hdf(tmp_path, 10)
    assert "output 'plugin' lost 21 values: 'root/half' 10, 'root/whole' 10, 'root/pair' 1" in caplog.text


def test_a_writer_that_rejects_values_has_them_named_at_close(
    tmp_path: Path, configure: Callable[..., allogger.Logger], caplog: pytest.LogCaptureFixture
) -> None:
    class NoArrays(MemoryWriter):
        def write(self, batch: Batch) -> None:
            super().write(batch)
            for record in batch.objects:
                self.reject(record.series, 1, "arrays are too wide")

    _log(configure(NoArrays), 100)
    allogger.close()

    _check_hdf(tmp_path, 100)
    assert caplog.text.count("arrays are too wide") == 1
    assert "output 'plugin' cannot represent 10 values: 'root/pair' 10" in caplog.text


class Hangs(MemoryWriter):
    """Waits in its first write until it is released."""

    is_stuck: ClassVar[threading.Event] = threading.Event()
    release: ClassVar[threading.Event] = threading.Event()

    def write(self, batch: Batch) -> None:
        self.is_stuck.set()
        self.release.wait(60)
        super().write(batch)


@pytest.fixture
def _free() -> Iterator[None]:
    Hangs.is_stuck.clear()
    Hangs.release.clear()
    Hangs.records.clear()
    yield
    Hangs.release.set()


@pytest.mark.usefixtures("_free")
def test_a_writer_that_hangs_for_a_while_delays_nobody_and_loses_nothing(
    tmp_path: Path, configure: Callable[..., allogger.Logger]
) -> None:
    logger = configure(Hangs)
    _log(logger, 100)
    assert Hangs.is_stuck.wait(30)

    begin = time.monotonic()
    for n in range(100_000):
        logger.log(n, "more")
    seconds = time.monotonic() - begin
    _flush_files()
    assert len(allogger.open_run(tmp_path)["root/more"]) == 100_000
    assert seconds < 5
    assert Hangs.records == []
    Hangs.release.set()
    allogger.close()

    _check_hdf(tmp_path, 100)
    assert [record.payload for record in Hangs.records if record.key == "more"] == [*range(100_000)]


@pytest.mark.usefixtures("_free")
def test_close_does_not_wait_longer_than_it_may_for_a_writer_that_hangs(
    tmp_path: Path, configure: Callable[..., allogger.Logger], caplog: pytest.LogCaptureFixture
) -> None:
    _log(configure(Hangs), 100)
    assert Hangs.is_stuck.wait(30)

    begin = time.monotonic()
    allogger.close(timeout=0.5)
    seconds = time.monotonic() - begin

    assert seconds < 5
    _check_hdf(tmp_path, 100)
    assert "output 'plugin' was not finished in time" in caplog.text


@pytest.mark.usefixtures("_free")
def test_a_writer_that_hangs_costs_no_more_memory_than_it_may(
    tmp_path: Path, configure: Callable[..., allogger.Logger], caplog: pytest.LogCaptureFixture
) -> None:
    logger = configure(Hangs, max_buffer_bytes=2**20)
    logger.log(0.0, "first")
    assert Hangs.is_stuck.wait(30)

    for _ in range(100):
        logger.log(np.zeros(10_000), "large")
    _flush_files()
    Hangs.release.set()
    allogger.close()

    assert len(allogger.open_run(tmp_path)["root/large"]) == 100
    kept = sum(record.key == "large" for record in Hangs.records)
    assert 0 < kept < 30
    assert f"output 'plugin' lost {100 - kept} values: 'root/large' {100 - kept}" in caplog.text


def test_plugins_on_one_lane_share_a_thread_and_others_do_not(configure: Callable[..., allogger.Logger]) -> None:
    seen: dict[str, set[str]] = {}

    def writer(lane_name: str, name: str) -> type[MemoryWriter]:
        class Named(MemoryWriter):
            lane: ClassVar[str] = lane_name

            def write(self, batch: Batch) -> None:
                seen.setdefault(name, set()).add(threading.current_thread().name)

        return Named

    for name, lane in {"one": "net", "two": "net", "three": ""}.items():
        register_writer(name, writer(lane, name))
    logger = configure(writer("disk", "plugin"))
    try:
        for name in ("one", "two", "three"):
            logger.log(1.0, "loss", **{f"to_{name}": True})  # type: ignore[arg-type]
        allogger.flush()
    finally:
        for name in ("one", "two", "three"):
            writers.remove(name)

    assert seen["one"] == seen["two"] == {"allogger-net"}
    assert seen["three"] == {"allogger-three"}
    assert seen["plugin"] == {"allogger-disk"}


def test_the_example_is_what_this_file_tests() -> None:
    assert "jsonl" not in allogger.valid_outputs, "importing it registers nothing"
    assert jsonl.JsonlWriter.__module__ not in sys.modules
