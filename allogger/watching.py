"""Watching: how are the gradients and parameters of a torch module logged while it is trained?"""

from __future__ import annotations

import contextlib
import operator
import sys
import weakref
from collections.abc import Callable, Collection, Iterator
from typing import Any

from allogger.errors import ConfigError, UnknownName, words_of
from allogger.logger import Logger, get_root
from allogger.manager import manager
from allogger.plain import Unstorable

__all__ = ["Watch", "watch"]

_WHAT = ("gradients", "parameters")
_begun: weakref.WeakSet[Watch] = weakref.WeakSet()


def watch(
    model: Any,
    logger: Logger | None = None,
    *,
    every_n: int = 100,
    what: Collection[str] = _WHAT,
    prefix: str = "",
    norms: bool = False,
    optimizer: Any = None,
) -> Watch:
    """Log gradients and parameters of a torch module as histograms, at every n-th step of its training.

    The keys are ``gradients/0/weight`` and ``parameters/0/weight`` for the parameter ``0.weight``, behind *prefix* and
    a ``/`` if it is given; with *norms* also ``gradients/0/weight/norm``, ... *logger* is by default the root. What no
    output keeps is not touched.

    A step is a backward pass. With *optimizer* it is a step of that: then gradients are those that it was given, after
    accumulation, unscaling and clipping, and parameters those that it made. Steps count from 1; set `Watch.step` to go
    on behind a checkpoint.

    The watching ends by `Watch.remove`, at the end of a ``with`` block that this is used in, or with the model. Raises
    `ConfigError` for what is no module, or has no parameter that gets gradients.
    """
    torch = sys.modules.get("torch")
    if torch is None or not isinstance(model, torch.nn.Module):
        raise ConfigError(f"watch takes a torch.nn.Module, not {type(model).__name__}")
    if not hasattr(torch.Tensor, "register_post_accumulate_grad_hook"):
        raise ConfigError(f"watch needs torch 2.1 or later, not {torch.__version__}")
    if not isinstance(logger, Logger | None):
        raise ConfigError(f"watch takes a logger as allogger.get_logger gives it, not {logger!r:.100}")
    if isinstance(every_n, bool) or not hasattr(every_n, "__index__") or operator.index(every_n) < 1:
        raise ConfigError(f"every_n must be an int of 1 or more, not {every_n!r}")
    if isinstance(what, str) or not isinstance(what, Collection):
        raise ConfigError(f"what must be several of {', '.join(_WHAT)}, such as ('gradients',), not {what!r}")
    for name in what:
        if name not in _WHAT:
            raise UnknownName.of("thing to watch", name, _WHAT)
    if optimizer is not None and not hasattr(optimizer, "register_step_post_hook"):
        raise ConfigError(f"optimizer must be a torch.optim.Optimizer, not {type(optimizer).__name__}")
    start = f"{prefix.rstrip('/')}/" if prefix else ""
    return Watch(model, logger or get_root(), operator.index(every_n), frozenset(what), start, norms, optimizer)


class Watch:
    """The watching of one model, which `watch` has begun."""

    def __init__(
        self,
        model: Any,
        logger: Logger,
        every_n: int,
        what: frozenset[str],
        prefix: str,
        norms: bool,
        optimizer: Any,
    ) -> None:
        #: The number of steps that have begun.
        self.step = 0
        # Nothing here holds the model: its parameters hold the hooks, and those hold this.
        self._model = weakref.ref(model)
        self._logger, self._every_n, self._what, self._prefix, self._norms = logger, every_n, what, prefix, norms
        self._pass = -1
        self._is_due = False
        self._hooked: dict[str, weakref.ref[Any]] = {}
        self._handles: list[Any] = []
        if optimizer is not None:
            self._handles.append(optimizer.register_step_post_hook(self._has_stepped))
        else:
            self._hook_new()
        if not self._handles:
            raise ConfigError("no parameter of this module gets gradients yet; if that will change, give its optimizer")
        self._tell_of_others()
        _begun.add(self)

    def _tell_of_others(self) -> None:
        """Tell the user if values of two watchings would come under the same keys."""
        for other in list(_begun):
            for scope, key in sorted(self._keys() & other._keys())[:1]:
                manager.accounts.note(scope, key, "is logged by two watchings; remove() one, or give it a prefix")

    def _keys(self) -> set[tuple[str, str]]:
        """Return scope and key of what is logged; nothing is after the end."""
        names = [name for name, _ in self._parameters()] if self._handles else []
        return {(self._logger.scope, self._prefix + _key(what, name)) for what in self._what for name in names}

    def remove(self) -> None:
        """End the watching; may be called twice."""
        handles, self._handles = self._handles, []
        for handle in handles:
            handle.remove()

    def __enter__(self) -> Watch:
        return self

    def __exit__(self, *_: object) -> None:
        self.remove()

    # -------------------------------------------------------------------------------------------------- in the training

    def _hook_new(self) -> None:
        """Hook the parameters that are new or get gradients only now."""
        for name, parameter in self._parameters():
            hooked = self._hooked.get(name)
            if parameter.requires_grad and (hooked is None or hooked() is not parameter):
                # One of a lazy module is none before its first batch, and says so by an error.
                with contextlib.suppress(ValueError, RuntimeError):
                    self._handles.append(parameter.register_post_accumulate_grad_hook(self._hook(name)))
                    self._hooked[name] = weakref.ref(parameter)

    def _hook(self, name: str) -> Callable[[Any], None]:
        # Private, but how torch's own hooks for several tensors tell passes apart; there is no other way.
        number_of_pass = sys.modules["torch"]._C._current_graph_task_id

        # Called with every gradient of one parameter: all that it does between two steps that are logged is here.
        def has_arrived(parameter: Any) -> None:
            number = number_of_pass()
            if number != self._pass:
                self._pass = number
                self._begin()
            if self._is_due:
                self._log("gradients", name, parameter.grad)

        return has_arrived

    def _begin(self) -> None:
        """Begin a step, with the first gradient of a backward pass; parameters may live longer than the model."""
        if self._model() is None:
            self._is_due = False
            self.remove()
            gone = "the model is gone, so its parameters are not watched any more; keep what you give to watch"
            manager.accounts.note(self._logger.scope, f"{self._prefix}gradients", gone)
            return
        self.step += 1
        self._is_due = self.step % self._every_n == 0
        if self._is_due:
            self._guarded("parameters", self._hook_new)
            self._guarded("parameters", self._log_parameters)

    def _has_stepped(self, *_: object) -> None:
        """Log what is due after a step of the optimizer, which may live longer than the model."""
        if self._model() is None:
            self.remove()
            return
        self.step += 1
        if self.step % self._every_n == 0:
            self._guarded("gradients", self._log_gradients)
            self._guarded("parameters", self._log_parameters)

    def _log_gradients(self) -> None:
        for name, parameter in self._parameters():
            if parameter.grad is not None:
                self._log("gradients", name, parameter.grad)

    def _log_parameters(self) -> None:
        for name, parameter in self._parameters():
            self._log("parameters", name, parameter)

    def _parameters(self) -> Iterator[tuple[str, Any]]:
        """Yield each parameter once, with its name, which is the same if torch.compile wraps a module."""
        if (model := self._model()) is not None:
            for name, parameter in model.named_parameters():
                yield name.replace("_orig_mod.", ""), parameter

    # ----------------------------------------------------------------------------------------------------------- values

    def _log(self, what: str, name: str, tensor: Any) -> None:
        if what in self._what:
            key = _key(what, name)
            self._guarded(key, self._log_tensor, f"{self._prefix}{key}", tensor)

    def _guarded(self, what: str, step: Callable[..., None], *args: Any) -> None:
        """Do something that must not end a backward pass, whatever is wrong with a model or tensor."""
        try:
            step(*args)
        except Exception as error:
            why = f"{type(error).__name__}: {words_of(error)}"
            manager.accounts.not_stored(self._logger.scope, f"{self._prefix}{what}", why)

    def _log_tensor(self, key: str, tensor: Any) -> None:
        if tensor is None:
            raise Unstorable("a hook that was there before has taken the gradient; watch the model before you add it")
        torch, values = sys.modules["torch"], tensor.detach()
        if values.is_cuda and torch.cuda.is_current_stream_capturing():
            raise Unstorable("a CUDA graph is being recorded, so there are no values yet")
        logger, norm_key = self._logger, f"{key}/norm"
        has_norm = self._norms and logger.isEnabledFor(norm_key)
        if values.is_sparse and (has_norm or logger.isEnabledFor(key)):
            manager.accounts.note(logger.scope, key, "the tensor is sparse; only the elements that it has are logged")
            values = values.coalesce().values()
        logger.log(values, key, self.step, data_type="histogram")
        if has_norm:
            # The squares of half precision overflow early.
            wider = torch.float32 if values.dtype in (torch.float16, torch.bfloat16) else None
            logger.log(torch.linalg.vector_norm(values, dtype=wider), norm_key, self.step)


def _key(what: str, name: str) -> str:
    return f"{what}/{name.replace('.', '/')}"
