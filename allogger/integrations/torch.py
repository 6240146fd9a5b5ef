"""torch: what do the layers of a network put out, and which gradients come back to them?

Of each layer a few statistics are taken, by hooks of torch, and are kept as registered values of `LoggingMixin`. For
parameters and their gradients see `allogger.watch`.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from allogger.errors import ConfigError, UnknownName, words_of
from allogger.logger import Logger
from allogger.manager import manager
from allogger.mixin import LoggedValue, LoggingMixin, Max, Mean, Min

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Module

__all__ = ["STATISTICS", "Hooks", "log_output_gradients", "log_outputs"]

#: What there is, and how values of several calls become one. Means weigh the numbers of all calls alike.
STATISTICS: Final[Mapping[str, tuple[Callable[[Tensor], Tensor], Callable[[], LoggedValue]]]] = {
    "mean": (lambda numbers: numbers.mean(), Mean),
    "std": (lambda numbers: numbers.std(correction=0), Mean),
    "min": (lambda numbers: numbers.min(), Min),
    "max": (lambda numbers: numbers.max(), Max),
    "zeros": (lambda numbers: (numbers == 0).float().mean(), Mean),
}


def log_outputs(
    module: Module,
    into: LoggingMixin | Logger | None = None,
    *,
    key: str = "outputs",
    every_n: int = 1,
    only: str | None = None,
    statistics: Iterable[str] = ("mean", "std"),
) -> Hooks:
    """Take statistics of what the layers of *module* put out, and return the hooks, which can be removed.

    *into* is a `LoggingMixin` that gets them as children, by default the module itself; there ``get_all`` and
    ``collect`` find them as ``outputs.<layer>.mean``. With a `Logger` they are logged at once, as
    ``outputs/<layer>/mean``, the step being the number of the call. The first call of *module* and then each
    *every_n*-th counts. Layers are modules without children; or with *only*, a regular expression, all those in whose
    names it is found. *statistics* are names from `STATISTICS`: ``zeros`` is the share of zeros.

    Only floating-point tensors are looked at. They are not changed, not kept, and no graph is kept alive. Within a
    module that `torch.compile` has compiled each hook ends a graph, which ``fullgraph=True`` refuses.
    """
    return Hooks(module, into, key, every_n, only, statistics, of_gradients=False)


def log_output_gradients(
    module: Module,
    into: LoggingMixin | Logger | None = None,
    *,
    key: str = "output_gradients",
    every_n: int = 1,
    only: str | None = None,
    statistics: Iterable[str] = ("mean", "std"),
) -> Hooks:
    """Take statistics of the gradients that come back to what the layers of *module* put out, see `log_outputs`."""
    return Hooks(module, into, key, every_n, only, statistics, of_gradients=True)


class Hooks:
    """The hooks in a module; a context manager that removes them at its end."""

    def __init__(
        self,
        module: Module,
        into: LoggingMixin | Logger | None,
        key: str,
        every_n: int,
        only: str | None,
        statistics: Iterable[str],
        *,
        of_gradients: bool,
    ) -> None:
        self._into = _target(module, into)
        self._every_n = _checked_count(every_n)
        self._statistics = _checked_names(statistics)
        self._of_gradients = of_gradients
        self._calls = 0
        self._is_due = False
        self._key = key
        self._tree = LoggingMixin(log_key=key)
        layers = dict(_layers(module, only))
        if not layers:
            names = [name for name, _ in module.named_modules()]
            raise UnknownName.of("layer in which is found", only, names)
        self._handles = [module.register_forward_pre_hook(self._begin)]
        for name, layer in layers.items():
            node = LoggingMixin(log_key=name)
            node.logging_buffer.update((each, STATISTICS[each][1]()) for each in self._statistics)
            self._tree.logging_children.append(node)
            self._handles.append(layer.register_forward_hook(partial(self._after_layer, node)))
        if isinstance(self._into, LoggingMixin):
            self._into.logging_children.append(self._tree)

    def remove(self) -> None:
        """Take the hooks out of the module, and what they have registered out of the tree; may be called twice."""
        for handle in self._handles:
            handle.remove()
        self._handles = []
        if isinstance(self._into, LoggingMixin):
            others = [child for child in self._into.logging_children if child is not self._tree]
            self._into.logging_children[:] = others

    def __enter__(self) -> Hooks:
        return self

    def __exit__(self, *_: object) -> None:
        self.remove()

    # ------------------------------------------------------------------------------------------------------- for torch

    def _begin(self, module: Module, args: object) -> None:
        self._is_due = self._calls % self._every_n == 0
        self._calls += 1

    def _after_layer(self, node: LoggingMixin, layer: Module, args: object, output: object) -> None:
        if not self._is_due:
            return
        try:
            for tensor in _tensors(output):
                if not self._of_gradients:
                    self._take(node, self._calls, tensor)
                elif tensor.requires_grad:
                    # Hooks of a module would put a view around its output, which then cannot be changed in place.
                    tensor.register_hook(partial(self._take, node, self._calls))  # type: ignore[no-untyped-call]
        except Exception as error:
            self._tell(error)

    def _take(self, node: LoggingMixin, call: int, tensor: Tensor) -> None:
        try:
            numbers = tensor.detach()
            if numbers.is_sparse or numbers.element_size() < 4:
                numbers = numbers.to_dense().float()
            for name in self._statistics:
                number = STATISTICS[name][0](numbers)
                if isinstance(self._into, Logger):
                    self._into.log(number, "/".join(part for part in (self._key, node.log_key, name) if part), call)
                else:
                    node.log(name, number, weight=numbers.numel())
        except Exception as error:
            self._tell(error)

    def _tell(self, error: Exception) -> None:
        what = f"{self._key} of a layer cannot be looked at"
        manager.accounts.tell_once(f"{what}: {type(error).__name__}: {words_of(error)}")


def _layers(module: Module, only: str | None) -> Iterator[tuple[str, Module]]:
    for name, layer in module.named_modules():
        is_chosen = not any(layer.children()) if only is None else re.search(only, name) is not None
        if is_chosen:
            yield name, layer


def _tensors(output: object) -> Iterator[Tensor]:
    """Yield the floating-point tensors in what a module returns."""
    torch = sys.modules["torch"]
    if isinstance(output, torch.Tensor):
        if output.is_floating_point() and output.numel():
            yield output
    elif isinstance(output, Mapping):
        yield from (tensor for each in output.values() for tensor in _tensors(each))
    elif isinstance(output, tuple | list):
        yield from (tensor for each in output for tensor in _tensors(each))


def _target(module: Any, into: object) -> LoggingMixin | Logger:
    if not hasattr(module, "register_forward_hook"):
        raise ConfigError(f"hooks are for a torch.nn.Module, not for a value of type {type(module).__name__}")
    target = module if into is None else into
    if not isinstance(target, LoggingMixin | Logger):
        raise ConfigError("into= must be a Logger or a LoggingMixin, unless the module is a LoggingMixin itself")
    return target


def _checked_count(every_n: object) -> int:
    if type(every_n) is not int or every_n < 1:
        raise ConfigError(f"every_n is an int of 1 or more, not {every_n!r:.80}")
    return every_n


def _checked_names(statistics: Iterable[str]) -> tuple[str, ...]:
    names = (statistics,) if isinstance(statistics, str) else tuple(statistics)
    for name in names:
        if name not in STATISTICS:
            raise UnknownName.of("statistic", name, STATISTICS)
    return names
