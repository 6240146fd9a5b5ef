"""Is a class found by its name when it is needed, and is a plug-in that cannot work told apart from one that can?"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest

import allogger
from allogger.errors import ConfigError, MissingDependency, UnknownName
from allogger.kind import Kind
from allogger.record import Batch, Payload
from allogger.registry import (
    Registry,
    exporters,
    kinds,
    parameters,
    readers,
    register_kind,
    register_writer,
    writers,
)
from allogger.rundir import Shard
from allogger.testing import MemoryWriter, capture
from allogger.writer import Writer


class Kept(MemoryWriter):
    pass


class Other(MemoryWriter):
    pass


@pytest.fixture
def registry() -> Registry[Writer]:
    builtin = {"ours": "allogger.testing:MemoryWriter", "lost": "not_installed.sub:Class", "old": "allogger:NoSuch"}
    return Registry("output", "allogger.no_such_group", "allogger.writer:Writer", builtin)


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (writers.builtin, ["hdf", "tensorboard", "csv", "console"]),
        (
            kinds.builtin,
            "text scalar image histogram array params figure table confusion pr_curve video "
            "audio mesh point_cloud artifact model checkpoint".split(),
        ),
        (readers.builtin, ["hdf", "journal"]),
    ],
)
def test_these_are_our_own(names: Mapping[str, str], expected: list[str]) -> None:
    assert list(names) == expected


@pytest.mark.parametrize("registry", [writers, kinds, readers], ids=["writers", "kinds", "readers"])
def test_every_name_of_ours_leads_to_a_class_that_can_be_used(registry: Registry[Any]) -> None:
    for name in registry.builtin:
        assert registry[name].__module__.startswith("allogger.")


def test_a_kind_is_registered_under_its_own_name() -> None:
    assert {name: kinds[name].name for name in kinds.builtin} == {name: name for name in kinds.builtin}


def test_a_class_is_imported_when_it_is_asked_for_and_not_before() -> None:
    code = (
        "import sys; from allogger.registry import writers\n"
        "writers.names(), 'tensorboard' in writers\n"
        "assert 'allogger.writers.tensorboard' not in sys.modules\n"
        "writers['tensorboard']\n"
        "assert 'allogger.writers.tensorboard' in sys.modules"
    )

    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_plugins_are_listed_behind_our_own_in_alphabetical_order() -> None:
    register_writer("kept_b", Kept)
    register_writer("kept_a", Kept)

    assert allogger.valid_outputs[:4] == list(writers.builtin)
    plugins = allogger.valid_outputs[4:]
    assert plugins == sorted(plugins)
    assert {"kept_a", "kept_b"} <= set(plugins)
    assert writers["kept_a"] is Kept
    assert "kept_a" in writers


def test_an_unknown_name_is_answered_with_a_suggestion() -> None:
    with pytest.raises(UnknownName, match=r"no output 'tensorbord'; did you mean 'tensorboard'\?"):
        writers["tensorbord"]
    assert "tensorbord" not in writers


def test_a_plugin_may_be_registered_anew_and_removed(tmp_path: Any) -> None:
    register_writer("kept", Kept)
    register_writer("kept", Other)
    assert writers["kept"] is Other

    writers.remove("kept")
    writers.remove("kept")
    writers.remove("hdf")

    assert "kept" not in writers
    assert "hdf" in writers


@pytest.mark.parametrize(
    ("name", "cls", "why"),
    [
        ("hdf", Kept, "one of allogger's own outputs"),
        ("my-writer", Kept, "identifiers"),
        ("", Kept, "identifiers"),
        ("stdout", Kept, "identifiers"),
        ("kept", object, "subclass of allogger.Writer"),
        ("kept", Kept.write, "subclass of allogger.Writer"),
        ("kept", "allogger.testing:MemoryWriter", "subclass of allogger.Writer"),
        ("kept", Writer, "lacks write"),
    ],
)
def test_a_writer_that_cannot_work_is_refused_when_it_is_registered(name: str, cls: Any, why: str) -> None:
    with pytest.raises(ConfigError, match=why):
        register_writer(name, cls)

    assert "kept" not in writers


def test_a_kind_that_cannot_work_is_refused_when_it_is_registered() -> None:
    with pytest.raises(ConfigError, match="lacks accepts, encode"):
        register_kind("kept", Kind)  # type: ignore[type-abstract]
    with pytest.raises(ConfigError, match="one of allogger's own kinds"):
        register_kind("scalar", kinds["scalar"])


def test_a_missing_library_of_ours_is_named_with_the_way_to_get_it(registry: Registry[Writer]) -> None:
    with pytest.raises(MissingDependency, match=r"needs not_installed; install it with: pip install not_installed"):
        registry["lost"]


def test_a_missing_library_that_an_extra_brings_is_named_with_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    monkeypatch.delitem(sys.modules, "allogger.exporters.parquet", raising=False)
    monkeypatch.setattr(exporters, "_classes", {})

    with pytest.raises(MissingDependency, match=r"needs pyarrow; install it with: pip install 'allogger\[parquet\]'"):
        exporters["parquet"]


def test_a_class_that_is_not_where_it_should_be_is_a_config_error(registry: Registry[Writer]) -> None:
    with pytest.raises(ConfigError, match="output 'old' is broken: AttributeError"):
        registry["old"]


@pytest.mark.parametrize("name", ["tensorboard", "hdf"])
def test_basic_configure_says_what_to_install(name: str, run_python: Callable[..., Any]) -> None:
    library = {"tensorboard": "allogger.writers.tensorboard", "hdf": "allogger.writers.hdf"}[name]
    result = run_python(f"""
        import sys
        sys.modules[{library!r}] = None
        import allogger
        try:
            allogger.basic_configure("run", [{name!r}])
        except allogger.MissingDependency as error:
            print(error)
    """)

    assert f"output {name!r} needs allogger" in result.stdout
    assert "pip install" in result.stdout


def test_parameters_are_the_keyword_only_ones() -> None:
    class Many(MemoryWriter):
        def __init__(self, shard: Shard, *, color: str = "red", size: int = 1) -> None:
            super().__init__(shard)

    assert parameters(Many) == ("color", "size")
    assert parameters(Kept) == ()


# --------------------------------------------------------------------------------------------------------------- in use


class Interval:
    """A value that only a plug-in knows."""

    def __init__(self, low: int, high: int) -> None:
        self.low, self.high = low, high


class IntervalKind(Kind):
    name = "interval"

    def accepts(self, value: Any) -> bool:
        return isinstance(value, Interval)

    def encode(self, value: Any) -> tuple[Payload, Mapping[str, Any]]:
        return np.array([value.low, value.high]), {}


class OtherIntervalKind(IntervalKind):
    def encode(self, value: Any) -> tuple[Payload, Mapping[str, Any]]:
        return f"{value.low}..{value.high}", {}


def test_a_kind_that_is_registered_late_or_anew_is_used_from_then_on() -> None:
    root = allogger.get_root()

    with capture() as captured:
        root.log([1, 2], "before")
        register_kind("interval", IntervalKind)
        root.log(Interval(1, 2), "first")
        root.log(Interval(1, 2), "said", data_type="interval")
        register_kind("interval", OtherIntervalKind)
        root.log(Interval(1, 2), "second")
        root.log(Interval(1, 2), "said again", data_type="interval")

    payloads: dict[str, Any] = {record.key: record.payload for record in captured.records}
    assert payloads["first"].tolist() == payloads["said"].tolist() == [1, 2]
    assert payloads["second"] == payloads["said again"] == "1..2"


class AnyArrayKind(IntervalKind):
    def accepts(self, value: Any) -> bool:
        return isinstance(value, np.ndarray)

    def encode(self, value: Any) -> tuple[Payload, Mapping[str, Any]]:
        return np.asarray(value.sum()), {}


def test_a_kind_that_is_registered_late_gets_the_next_of_many_arrays_alike() -> None:
    with capture() as captured:
        for _ in range(2):
            allogger.get_root().log(np.ones(2), "key")
        register_kind("interval", AnyArrayKind)
        allogger.get_root().log(np.ones(2), "key")

    assert [record.kind for record in captured.records] == ["histogram", "histogram", "interval"]


class LargeArrayKind(AnyArrayKind):
    def accepts(self, value: Any) -> bool:
        return isinstance(value, np.ndarray) and bool((value > 1).any())


def test_a_kind_is_asked_about_each_of_many_arrays_alike() -> None:
    register_kind("interval", LargeArrayKind)
    with capture() as captured:
        for number in (0, 1, 2, 0):
            allogger.get_root().log(np.full(2, number), "key")

    assert [record.kind for record in captured.records] == ["histogram", "histogram", "interval", "histogram"]


class RaisesWhenMade(IntervalKind):
    def __init__(self) -> None:
        raise RuntimeError("no kind today")


def test_a_kind_that_cannot_be_made_is_reported_once_and_costs_no_value(caplog: pytest.LogCaptureFixture) -> None:
    register_kind("interval", RaisesWhenMade)

    with capture() as captured:
        for _ in range(3):
            allogger.get_root().log([1, 2], "weights")

    assert len(captured["root/weights"]) == 3
    assert "interval" not in kinds, "it is tried once, not at every value"
    assert caplog.text.count("no kind today") == 1


class Fails(MemoryWriter):
    def __init__(self, shard: Shard) -> None:
        raise RuntimeError("no writer today")


def test_a_writer_that_cannot_be_made_is_a_config_error_where_it_is_configured(tmp_path: Any) -> None:
    register_writer("fails", Fails)

    with pytest.raises(ConfigError, match="output 'fails' cannot be made: RuntimeError: no writer today"):
        allogger.basic_configure(tmp_path, ["hdf", "fails"])


def test_a_writer_that_cannot_be_made_for_one_call_takes_no_other_output_along(
    tmp_path: Any, caplog: pytest.LogCaptureFixture
) -> None:
    register_writer("fails", Fails)
    root = allogger.basic_configure(tmp_path)

    for value in (1.0, 2.0, 3.0):
        root.log(value, "loss", to_fails=True)
        root.log([value, value], "weights", to_fails=True)
    allogger.close()

    run = allogger.open_run(tmp_path)
    assert run["root/loss"].value.tolist() == [1.0, 2.0, 3.0]
    assert len(run["root/weights"]) == 3
    said = caplog.text
    assert said.count("no writer today") == 1
    assert "output 'fails' lost 6 values: 'root/loss' 3, 'root/weights' 3" in said


def test_a_filter_for_all_outputs_imports_none_of_them(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(writers._known, "broken", lambda: 1 / 0)
    monkeypatch.setenv("ALLOGGER_FILTER", "loss")

    root = allogger.basic_configure(tmp_path)

    assert root.isEnabledFor("loss")
    assert not root.isEnabledFor("other")


def test_a_writer_gets_what_it_accepts(tmp_path: Any) -> None:
    class TextsOnly(MemoryWriter):
        def accepts(self, kind: str) -> bool:
            return kind == "text"

        def write(self, batch: Batch) -> None:
            assert len(batch) == len(batch.objects)
            super().write(batch)

    register_writer("texts", TextsOnly)
    root = allogger.basic_configure(tmp_path, ["hdf", "texts"])
    for value in (1.0, "a text", [1, 2]):
        root.log(value, "all")
    allogger.close()

    assert [record.payload for record in TextsOnly.records] == ["a text"]
    assert allogger.open_run(tmp_path).keys() == ["root/all"]
