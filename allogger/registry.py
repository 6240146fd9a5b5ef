"""Registry: which class does a name stand for, and when is it imported?

Our own implementations are named by ``module:Class`` strings, so that the core imports none of them and a heavy library
is imported only when an output that needs it is configured. Plug-ins come by ``register_writer`` and ``register_kind``
or by entry points in the groups ``allogger.writers``, ``allogger.kinds``, ``allogger.readers``,
``allogger.checkers`` and ``allogger.exporters``.
"""

from __future__ import annotations

import importlib
import inspect
import warnings
from collections.abc import Callable, Iterator
from functools import lru_cache, partial
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from allogger.errors import AlloggerError, ConfigError, MissingDependency, UnknownName

if TYPE_CHECKING:
    from allogger.checker import Checker
    from allogger.exporter import Exporter
    from allogger.kind import Kind
    from allogger.reader import Reader
    from allogger.writer import Writer

__all__ = ["checkers", "exporters", "kinds", "readers", "register_kind", "register_writer", "writers"]

T = TypeVar("T")


class Registry(Generic[T]):
    """Names and the classes behind them, imported at the first use; so is *parent*, of which all are subclasses."""

    def __init__(self, what: str, group: str, parent: str, builtin: dict[str, str]) -> None:
        self._what, self._group, self._parent = what, group, parent
        self.builtin = dict(builtin)
        self._known: dict[str, Callable[[], type[T]]] = {name: partial(_import, at) for name, at in builtin.items()}
        self._classes: dict[str, type[T]] = {}
        self._searched = False
        #: Grows with every change of what is known.
        self.changes = 0

    def add(self, name: str, cls: type[T]) -> None:
        """Make *cls* known under *name*; raises `ConfigError` for a bad name or class."""
        self._check_name(name)
        self._check(name, cls)
        self._known[name] = lambda: cls
        self._classes.pop(name, None)
        self.changes += 1

    def _check_name(self, name: str) -> None:
        if not str(name).isidentifier() or name == "stdout":
            raise ConfigError(f"{name!r} cannot name a plug-in: {self._what}s are called by identifiers")
        if name in self.builtin:
            raise ConfigError(f"{name!r} is one of allogger's own {self._what}s; choose another name")

    def _check(self, name: str, cls: object) -> None:
        parent = _import(self._parent)
        if not (isinstance(cls, type) and issubclass(cls, parent)):
            raise ConfigError(f"{self._what} {name!r} must be a subclass of allogger.{parent.__name__}, not {cls!r}")
        if inspect.isabstract(cls):
            missing = ", ".join(sorted(getattr(cls, "__abstractmethods__", ())))
            raise ConfigError(f"{self._what} {name!r} ({cls.__name__}) lacks {missing}")

    def remove(self, name: str) -> None:
        """Forget a plug-in; does nothing if there is none."""
        if name not in self.builtin:
            self._known.pop(name, None)
            self._classes.pop(name, None)
            self.changes += 1

    def names(self) -> list[str]:
        """Return all names: ours, then the plug-ins' in alphabetical order."""
        self._search()
        return [*self.builtin, *sorted(self._known.keys() - self.builtin.keys())]

    def plugins(self, report: Callable[[str], None]) -> Iterator[tuple[str, T]]:
        """Yield the name and an object of each plug-in that works; a broken one is reported, once, and forgotten."""
        for name in self.names()[len(self.builtin) :]:
            try:
                made = self[name]()
            except Exception as error:
                self.remove(name)
                why = str(error) if isinstance(error, AlloggerError) else f"{type(error).__name__}: {error}"
                report(f"skips the {self._what} plug-in {name!r}: {why}")
            else:
                yield name, made

    def __contains__(self, name: str) -> bool:
        return name in self._known or (not self._searched and name in self.names())

    def __getitem__(self, name: str) -> type[T]:
        """Return the class; raises `UnknownName`, `MissingDependency` when its library is not installed, or
        `ConfigError` for a plug-in that is broken."""
        if name not in self:
            raise UnknownName.of(self._what, name, self.names())
        if name not in self._classes:
            try:
                found = self._known[name]()
                self._check(name, found)
            except AlloggerError:
                raise
            except ModuleNotFoundError as error:
                needed = str(error.name or "a library").partition(".")[0]
                package = f"'allogger[{name}]'" if name in self.builtin and name in _extras() else needed
                raise MissingDependency(
                    f"{self._what} {name!r} needs {needed}; install it with: pip install {package} ({error})"
                ) from error
            except ImportError as error:
                raise MissingDependency(f"{self._what} {name!r} cannot be imported: {error}") from error
            except Exception as error:
                raise ConfigError(f"{self._what} {name!r} is broken: {type(error).__name__}: {error}") from error
            self._classes[name] = found
        return self._classes[name]

    def _search(self) -> None:
        if self._searched:
            return
        self._searched = True
        from importlib.metadata import entry_points

        refused = []
        for point in entry_points(group=self._group):
            try:
                self._check_name(point.name)
            except ConfigError as error:
                refused.append(f"allogger skips a plug-in of {point.dist.name if point.dist else point.value}: {error}")
            else:
                # What the program itself has registered goes before.
                self._known.setdefault(point.name, point.load)
        self.changes += 1
        for why in refused:
            warnings.warn(why, RuntimeWarning, stacklevel=3)


def _extras() -> list[str]:
    from importlib.metadata import PackageNotFoundError, metadata

    try:
        return metadata("allogger").get_all("Provides-Extra") or []
    except PackageNotFoundError:  # a checkout that is not installed
        return []


def _import(path: str) -> Any:
    module, _, name = path.partition(":")
    return getattr(importlib.import_module(module), name)


writers: Registry[Writer] = Registry(
    "output",
    "allogger.writers",
    "allogger.writer:Writer",
    {
        "hdf": "allogger.writers.hdf:HdfWriter",
        "tensorboard": "allogger.writers.tensorboard:TensorboardWriter",
        "csv": "allogger.writers.csv:CsvWriter",
        "console": "allogger.writers.console:ConsoleWriter",
    },
)
kinds: Registry[Kind] = Registry(
    "kind",
    "allogger.kinds",
    "allogger.kind:Kind",
    {
        "text": "allogger.kinds.text:TextKind",
        "scalar": "allogger.kinds.scalar:ScalarKind",
        "image": "allogger.kinds.image:ImageKind",
        "histogram": "allogger.kinds.histogram:HistogramKind",
        "array": "allogger.kinds.array:ArrayKind",
        "params": "allogger.kinds.params:ParamsKind",
        "figure": "allogger.kinds.figure:FigureKind",
        "table": "allogger.kinds.table:TableKind",
        "confusion": "allogger.kinds.confusion:ConfusionKind",
        "pr_curve": "allogger.kinds.pr_curve:PrCurveKind",
        "video": "allogger.kinds.video:VideoKind",
        "audio": "allogger.kinds.audio:AudioKind",
        "mesh": "allogger.kinds.mesh:MeshKind",
        "point_cloud": "allogger.kinds.point_cloud:PointCloudKind",
        "artifact": "allogger.kinds.artifact:ArtifactKind",
        "model": "allogger.kinds.model:ModelKind",
        "checkpoint": "allogger.kinds.checkpoint:CheckpointKind",
    },
)
readers: Registry[Reader] = Registry(
    "reader",
    "allogger.readers",
    "allogger.reader:Reader",
    {
        "hdf": "allogger.readers.hdf:HdfReader",
        "journal": "allogger.readers.journal:JournalReader",
    },
)
checkers: Registry[Checker] = Registry(
    "checker",
    "allogger.checkers",
    "allogger.checker:Checker",
    {
        "journal": "allogger.checkers.journal:JournalChecker",
        "hdf": "allogger.checkers.hdf:HdfChecker",
        "csv": "allogger.checkers.csv:CsvChecker",
        "tensorboard": "allogger.checkers.tensorboard:TensorboardChecker",
    },
)

exporters: Registry[Exporter] = Registry(
    "export format",
    "allogger.exporters",
    "allogger.exporter:Exporter",
    {
        "csv": "allogger.exporters.csv:CsvExporter",
        "csv-wide": "allogger.exporters.wide:WideExporter",
        "parquet": "allogger.exporters.parquet:ParquetExporter",
        "jsonl": "allogger.exporters.jsonl:JsonlExporter",
        "npz": "allogger.exporters.npz:NpzExporter",
        "hdf": "allogger.exporters.hdf:HdfExporter",
        "tensorboard": "allogger.exporters.tensorboard:TensorboardExporter",
    },
)


def register_writer(name: str, cls: type[Writer]) -> None:
    """Make a writer usable as the output *name*: in ``default_outputs``, as ``to_<name>`` and ``<name>_writer_params``.

    Raises `ConfigError` when *name* is taken or no identifier, or *cls* no concrete `Writer`.
    """
    writers.add(name, cls)


def register_kind(name: str, cls: type[Kind]) -> None:
    """Make a kind usable as ``data_type=name``, and ask it first when the kind of a value is inferred.

    Raises `ConfigError` when *name* is taken or no identifier, or *cls* no concrete `Kind`.
    """
    kinds.add(name, cls)


@lru_cache(64)
def parameters(cls: type[Writer]) -> tuple[str, ...]:
    """Return the names of the parameters that a writer takes besides the common ones."""
    found = inspect.signature(cls.__init__).parameters.values()
    return tuple(p.name for p in found if p.kind is p.KEYWORD_ONLY)
