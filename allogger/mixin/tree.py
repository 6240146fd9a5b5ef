"""Tree: which objects are below another one, what are their values called, and which of them are muted?"""

from __future__ import annotations

import contextlib
import weakref
from collections import Counter
from collections.abc import Iterator
from functools import cached_property
from typing import Any, NamedTuple

from allogger.manager import manager
from allogger.mixin.values import LoggedValue

__all__ = ["Node", "Place", "is_muted", "label", "muted", "places", "tree"]


class Node:
    """An object in a tree: what it has registered, and its children."""

    #: The part of the name of this object in the names of its values and of those below; ``""`` adds none.
    log_key: str = ""
    #: Set it to leave out what this object logs from now on.
    skip_logging: bool = False

    # Made when first used, for a class that does not call our __init__. Plain dicts and lists, so that torch does not
    # take children for modules of this one, and no value for a part of its state.
    @cached_property
    def logging_buffer(self) -> dict[str, LoggedValue]:
        """The registered values by their keys."""
        return {}

    @cached_property
    def logging_children(self) -> list[Any]:
        """The objects below, which are logging mixins, too."""
        return []

    @cached_property
    def _unread(self) -> Counter[str]:
        """How many calls of each key nobody has read yet."""
        return Unread()


class Unread(Counter[str]):
    """Counts calls; those that a copied object has taken along are counted by the original."""

    def __reduce__(self) -> tuple[type[Unread], tuple[()]]:
        return Unread, ()


class Place(NamedTuple):
    """A registered value in a tree. It does not keep its object alive, which may be a large network."""

    name: str
    node: weakref.ref[Node]
    label: str
    key: str
    value: LoggedValue
    unread: Counter[str]


def label(node: Node) -> str:
    """Return what messages call the object."""
    return str(node.log_key) or type(node).__name__


def tree(head: Node) -> Iterator[tuple[tuple[str, ...], Node]]:
    """Yield each object in the tree once, before those below it, with the parts of its name."""
    waiting: list[tuple[tuple[str, ...], Node]] = [((), head)]
    seen: set[int] = set()
    while waiting:
        above, node = waiting.pop()
        if id(node) in seen:
            continue
        seen.add(id(node))
        path = (*above, str(node.log_key))
        yield path, node
        children = [_unwrapped(child) for child in reversed(list(node.logging_children))]
        waiting.extend((path, child) for child in children if child is not None)


def _unwrapped(child: Any) -> Node | None:
    """Return the object that `torch.compile` or a data-parallel module has wrapped; None if there is none."""
    inner = child
    for _ in range(4):
        if isinstance(inner, Node):
            return inner
        inner = getattr(inner, "_orig_mod", getattr(inner, "module", None))
    what = f"a value of type {type(child).__name__} is among logging_children, but is no LoggingMixin; it is left out"
    manager.accounts.tell_once(what)
    return None


def places(head: Node, separator: str) -> list[Place]:
    """Return all registered values of the tree under names of which none is used twice.

    The first one has the name that it should have, and those that come later in the tree a number behind it. Values for
    which nothing was logged have names, too, so that a name does not go from one to another.
    """
    found = [
        (separator.join(part for part in (*path, str(key)) if part), node, key, value)
        for path, node in tree(head)
        for key, value in list(node.logging_buffer.items())
    ]
    names = _unique([name for name, *_ in found])
    return [
        Place(name, weakref.ref(node), label(node), key, value, node._unread)
        for name, (_, node, key, value) in zip(names, found, strict=True)
    ]


def _unique(wanted_names: list[str]) -> list[str]:
    all_wanted = set(wanted_names)
    used: set[str] = set()
    numbers: Counter[str] = Counter()
    unique = []
    for wanted in wanted_names:
        name = wanted
        while name in used or (name != wanted and name in all_wanted):
            numbers[wanted] += 1
            name = f"{wanted}_{numbers[wanted] + 1}"
        if name != wanted:
            what = (
                f"{wanted!r} is what several registered values would be called; give their objects different log_keys"
            )
            manager.accounts.tell_once(f"{what}. The second one is", repr(name))
        used.add(name)
        unique.append(name)
    return unique


# ---------------------------------------------------------------------------------------------------------------- mute


class _Block:
    """A ``with`` block that mutes *head* and what is below."""

    def __init__(self, head: Node) -> None:
        self._head = head
        # Kept, so that no other object gets the id of one of them.
        self._nodes: dict[int, Node] = {}

    def covers(self, node: Node) -> bool:
        """Return whether *node* is, or has been, part of the tree."""
        if id(node) not in self._nodes:
            self._nodes.update((id(each), each) for _, each in tree(self._head))
        return id(node) in self._nodes


_blocks: list[_Block] = []


@contextlib.contextmanager
def muted(head: Node) -> Iterator[None]:
    """Mute *head* and what is below for the length of a ``with`` block, in all threads."""
    block = _Block(head)
    _blocks.append(block)
    try:
        yield
    finally:
        _blocks.remove(block)


def is_muted(node: Node) -> bool:
    """Return whether a block that is open mutes *node*."""
    return bool(_blocks) and any(block.covers(node) for block in list(_blocks))
