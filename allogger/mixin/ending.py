"""Ending: what was logged in trees and not collected when everything is closed?

Neither the objects nor their trees are kept alive, only the small registered values of those that were collected, and
the counts of what nobody has read. So the rest is found also if a function that has trained a network is left before.
"""

from __future__ import annotations

import contextlib
import os
import weakref
from collections import Counter
from typing import NamedTuple

from allogger.errors import words_of
from allogger.logger import Logger
from allogger.manager import manager
from allogger.mixin.reading import Types, chosen, results, send
from allogger.mixin.tree import Node, Place, label, places

__all__ = ["expect_no_more", "expect_rest", "know"]

# So many objects are known before those are sought that are gone.
_MANY = 1000


class _Head(NamedTuple):
    """A tree that was collected, and how."""

    node: weakref.ref[Node]
    places: list[Place]
    logger: Logger
    type_: Types
    subclasses: bool


class _Known(NamedTuple):
    """An object that has logged something."""

    node: weakref.ref[Node]
    label: str
    unread: Counter[str]


class _Ending:
    """What has to be done about trees before everything is closed."""

    def __init__(self) -> None:
        # By the ids of the heads and the types that are wanted of their trees.
        self.heads: dict[tuple[int, Types, bool], _Head] = {}
        # By the ids of the counters, which we keep.
        self.known: dict[int, _Known] = {}
        self._many = _MANY

    def __call__(self) -> None:
        """Collect the rest of those trees that were collected before, and count what nobody has read."""
        for head in list(self.heads.values()):
            try:
                if (node := head.node()) is not None:
                    found = chosen(places(node, "/"), head.type_, head.subclasses)
                    send(results(found, reset=True), head.logger)
            except Exception as error:  # an attribute of the user's objects is not what it has been, say
                what = f"{type(error).__name__}: {words_of(error)}"
                manager.accounts.tell_once(f"the rest of a tree of objects is not collected: {what}")
        self.collect_deleted()
        for known in list(self.known.values()):
            _count_unread(known)

    def collect_deleted(self) -> None:
        """Log what is left in the values of objects that were deleted with the head of their tree."""
        for which, head in list(self.heads.items()):
            if head.node() is None and self.heads.pop(which, None) is not None:
                send(results([place for place in head.places if place.node() is None], reset=True), head.logger)

    def know(self, node: Node) -> None:
        """Remember that *node* has logged something."""
        if len(self.known) >= self._many:
            awaited = {id(place.unread) for head in list(self.heads.values()) for place in head.places}
            for at, known in list(self.known.items()):
                if known.node() is None and at not in awaited:
                    self.known.pop(at, None)
                    _count_unread(known)
            self._many = 2 * len(self.known) + _MANY
        self.known[id(node._unread)] = _Known(weakref.ref(node), label(node), node._unread)


def _count_unread(known: _Known) -> None:
    calls = {key: count for key, count in list(known.unread.items()) if count}
    known.unread.clear()
    for key, count in calls.items():
        manager.accounts.count(known.label, key, count)
    if calls:
        manager.accounts.tell_once("values of a LoggingMixin that nobody has collected or read are not stored")


def know(node: Node) -> None:
    """Remember that *node* has logged something since it was read."""
    _ending().know(node)


def expect_rest(head: Node, found: list[Place], logger: Logger, type_: Types, subclasses: bool) -> None:
    """Have what is logged from now on in the tree of *head*, now *found*, logged by *logger* in the end."""
    ending, which = _ending(), (id(head), type_, subclasses)
    before = ending.heads.get(which)
    if before is None or before.node() is not head:
        ending.collect_deleted()
    ending.heads[which] = _Head(weakref.ref(head), found, logger, type_, subclasses)


def expect_no_more(head: Node, type_: Types, subclasses: bool) -> None:
    """Leave to others what is logged from now on."""
    _ending().heads.pop((id(head), type_, subclasses), None)


def _ending() -> _Ending:
    # The manager's, so that what a test sets aside is set aside with it, and closing begins anew.
    found = manager.collectors.get(__name__)
    if not isinstance(found, _Ending):
        found = manager.collectors[__name__] = _Ending()
    return found


def _begin_with_nothing() -> None:
    """In a forked child: what was logged before belongs to the parent."""
    found = manager.collectors.pop(__name__, None)
    for known in list(found.known.values()) if isinstance(found, _Ending) else ():
        known.unread.clear()
        node = known.node()
        for value in list(node.logging_buffer.values()) if node is not None else ():
            with contextlib.suppress(Exception):
                value.reset()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_begin_with_nothing)
