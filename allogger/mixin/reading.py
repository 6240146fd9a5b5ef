"""Reading: what do the registered values of a tree hold, and how is it logged?"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

from allogger import ranks
from allogger.aggregates import Part, Window, log_state, reduced
from allogger.errors import UnknownName, words_of
from allogger.logger import Logger, get_logger
from allogger.manager import manager
from allogger.mixin.tree import Place
from allogger.mixin.values import Folded, LoggedValue, numbers_in

__all__ = ["Result", "Types", "chosen", "results", "send"]

Types = type | tuple[type, ...] | None


class Result(NamedTuple):
    """What was read of a registered value; *window* is what a number was made of."""

    name: str
    value: LoggedValue
    result: Any = None
    data_type: str | None = None
    window: Window = Window()


def chosen(places: Iterable[Place], type_: Types, subclasses: bool) -> list[Place]:
    """Return the places with values of these types, exactly, or also of their subclasses."""
    if type_ is None:
        return list(places)
    types = type_ if isinstance(type_, tuple) else (type_,)
    return [place for place in places if type(place.value) in types or (subclasses and isinstance(place.value, types))]


def results(places: Iterable[Place], reset: bool) -> Iterator[Result]:
    """Yield what there is; a value that is in two places is read once, and has both names."""
    read: dict[int, Result] = {}
    for place in places:
        place.unread.pop(place.key, None)
        if (found := read.get(id(place.value))) is None:
            found = read[id(place.value)] = _result(place, reset)
        if found.result is not None:
            yield found._replace(name=place.name)


def _result(place: Place, reset: bool) -> Result:
    value = place.value
    try:
        if not isinstance(value, Folded):
            return Result(place.name, value, value.get(reset=reset), value.data_type)
        window = value.window(reset)
        if reset and (missing := window.calls - numbers_in(window)):
            manager.accounts.count(place.label, place.key, missing)
        return Result(place.name, value, value.result(window), value.data_type, window)
    except Exception as error:  # of a class of the user's
        manager.accounts.not_stored(place.label, place.key, f"{type(error).__name__}: {words_of(error)}")
        return Result(place.name, value)


def send(found: Iterable[Result], logger: Logger, step: int | None = None, reduce: str | None = None) -> None:
    """Log what was found; with *reduce* the numbers of all ranks as one."""
    if reduce not in (None, "ranks"):
        manager.accounts.tell_once(f"{UnknownName.of('reduction', reduce, ['ranks'])}; ignored")
    if reduce == "ranks" and ranks.is_several():
        found = _send_reduced(found, logger.scope, step)
    for each in found:
        if each.data_type is None:
            logger.log(each.result, each.name, step)
        else:
            logger.log(each.result, each.name, step, data_type=each.data_type)


def _send_reduced(found: Iterable[Result], scope: str, step: int | None) -> list[Result]:
    """Log what can be folded over all ranks, and return the rest."""
    rest, parts = [], []
    for each in found:
        if isinstance(each.value, Folded):
            parts.append(Part(scope, each.name, each.value.how, None, each.value.state(each.window)))
        else:
            rest.append(each)
    for part in reduced(parts):
        log_state(get_logger(part.scope), part.how, part.state, part.name, step)
    return rest
