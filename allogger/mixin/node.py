"""LoggingMixin: how does an object register what it logs, and log it?"""

from __future__ import annotations

import contextlib
from typing import Any

from allogger.errors import ConfigError, NoSuchKey, UnknownName, words_of
from allogger.logger import Logger, get_root
from allogger.manager import manager
from allogger.mixin.ending import expect_no_more, expect_rest, know
from allogger.mixin.reading import Types, chosen, results, send
from allogger.mixin.tree import Node, is_muted, label, muted, places, tree
from allogger.plain import Unstorable

__all__ = ["LoggingMixin"]


class LoggingMixin(Node):
    """An object that registers values in its ``logging_buffer`` and has ``logging_children``.

    It needs no ``__init__``: what a class that does not call it lacks is its *log_key*, which is ``""`` then and may be
    set later. Other arguments are passed on to the next class.

    >>> from allogger.mixin import LoggingMixin, Mean
    >>> class Sampler(LoggingMixin):
    ...     def __init__(self) -> None:
    ...         super().__init__(log_key="sampler")
    ...         self.logging_buffer["loss"] = Mean()
    >>> sampler = Sampler()
    >>> sampler.log("loss", 1.0)
    >>> sampler.log("loss", 3.0)
    >>> sampler.get_all()
    {'sampler.loss': 2.0}
    """

    def __init__(self, log_key: str = "", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if not isinstance(log_key, str):
            raise ConfigError(f"a log_key is a str, not {log_key!r:.80}")
        if log_key:
            self.log_key = log_key

    # ----------------------------------------------------------------------------------------------------------- values

    def log(self, key: str, value: Any, **options: Any) -> None:
        """Log *value* for the registered *key*. Never raises; what cannot be taken is counted and told once per key.

        First the key, then the value, unlike in `Logger.log`. *options* go to the registered value: ``weight=``.
        """
        try:
            registered = self.logging_buffer[key]
            if self.skip_logging or registered.skip_logging or is_muted(self):
                return
            registered.log(value, **options)
            if not self._unread[key]:
                know(self)
            self._unread[key] += 1
        except Unstorable as error:
            self._refuse(key, str(error))
        except Exception as error:
            self._refuse(key, self._unknown(key) or f"{type(error).__name__}: {words_of(error)}")

    # What `torch.compiler.disable` sets, for which torch would have to be imported: a number that is logged within a
    # compiled module is not known before the graph up to there has run.
    log._torchdynamo_disable = True  # type: ignore[attr-defined]

    def get(self, key: str, reset: bool = False) -> Any:
        """Return what was logged for *key*, None for nothing; *reset* as in `get_all`. Raises `NoSuchKey`."""
        if unknown := self._unknown(key):
            raise NoSuchKey(unknown)
        self._unread.pop(key, None)
        return self.logging_buffer[key].get(reset=reset)

    def get_all(self, reset: bool = True, type_: Types = None, *, subclasses: bool = False) -> dict[str, Any]:
        """Return what this object and those below have logged, by names such as ``"model.sampler.loss"``.

        What nothing was logged for is left out. Unlike in `get`, all values begin anew unless *reset* is false. *type_*
        is the class of the values that are wanted, or a tuple of classes; with *subclasses* theirs, too.
        """
        found = chosen(places(self, "."), type_, subclasses)
        return {each.name: each.result for each in results(found, reset)}

    def collect(
        self,
        logger: Logger | None = None,
        step: int | None = None,
        reset: bool = True,
        type_: Types = None,
        *,
        subclasses: bool = False,
        reduce: str | None = None,
    ) -> None:
        """Log what `get_all` returns by *logger*, the root if none is given, under keys like ``model/sampler/loss``.

        Never raises. With ``reduce="ranks"`` numbers of all ranks become one, which rank 0 logs, as `Logger.emit` does;
        every rank has to make this call, and logs arrays and kinds of your own itself. What is logged after the last
        call with *reset* is collected when everything is closed.
        """
        try:
            target = get_root() if logger is None else logger
            if not isinstance(target, Logger):
                raise ConfigError(f"it takes a logger as allogger.get_logger gives it, not {logger!r:.80}")
            found = chosen(places(self, "/"), type_, subclasses)
            send(results(found, reset), target, step, reduce)
            if reset:
                expect_rest(self, found, target, type_, subclasses)
            else:
                expect_no_more(self, type_, subclasses)
        except Exception as error:
            manager.accounts.tell_once(f"{label(self)!r} is not collected: {type(error).__name__}: {words_of(error)}")

    # ---------------------------------------------------------------------------------------------------- configuration

    def remove_key_from_logging_buffer(self, key: str) -> None:
        """Forget the registered *key* and what was logged for it; raises `NoSuchKey`."""
        if unknown := self._unknown(key):
            raise NoSuchKey(unknown)
        self._unread.pop(key, None)
        del self.logging_buffer[key]

    def clear_logging_buffer(self) -> None:
        """Forget all registered values of this object."""
        self.logging_buffer.clear()
        self._unread.clear()

    def clear_logging_children(self) -> None:
        """Have no children any more."""
        self.logging_children.clear()

    # ------------------------------------------------------------------------------------------------------------- mute

    def no_logging(self) -> contextlib.AbstractContextManager[None]:
        """Leave out what is logged here and below for the length of a ``with`` block, by whichever thread.

        Blocks may be nested, and overlap. An object that becomes a child within the block is muted, too.
        """
        return muted(self)

    def skip_logging_recursively(self) -> None:
        """Set ``skip_logging`` here and below."""
        for _, node in tree(self):
            node.skip_logging = True

    def cache_logging_state_recursively(self) -> None:
        """Keep ``skip_logging`` of this object and those below for `restore_logging_state_recursively`."""
        for _, node in tree(self):
            node.__dict__.setdefault("_logging_states", []).append(node.skip_logging)

    def restore_logging_state_recursively(self) -> None:
        """Set ``skip_logging`` to what was kept last; an object for which nothing was kept stays as it is."""
        for _, node in tree(self):
            if states := node.__dict__.get("_logging_states"):
                node.skip_logging = states.pop()

    def _unknown(self, key: Any) -> str:
        """Return what is wrong with *key*; nothing if it is registered."""
        if not isinstance(key, str):
            return f"a key is a str, and here it comes before the value, but a {type(key).__name__} was given"
        return "" if key in self.logging_buffer else str(UnknownName.of("registered value", key, self.logging_buffer))

    def _refuse(self, key: Any, why: str) -> None:
        manager.accounts.not_stored(label(self), key if isinstance(key, str) else "?", why)
