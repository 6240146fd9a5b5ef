"""ParamsKind: how are the parameters of a program stored, such as those of its command line or configuration?"""

from __future__ import annotations

import argparse
import dataclasses
import enum
import json
import sys
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from allogger.kind import Kind
from allogger.plain import Unstorable, description, is_config
from allogger.record import Payload

__all__ = ["ParamsKind"]

# Deeper than any configuration, and far from what Python's own recursion allows.
_MAX_DEPTH = 100


class ParamsKind(Kind):
    """A nested mapping, or an object with named fields: a dataclass, an `argparse.Namespace`, a model of pydantic.

    It reads back as dicts, lists, texts, numbers, booleans and None. Tuples and sets become lists, enums their values,
    numpy's numbers and arrays Python's own, and everything else, such as a path or a dtype, its ``str()``.

    Interpolations of OmegaConf become what they stand for; what is missing is ``???``, and what cannot be resolved
    stays as it is written. What pydantic leaves out of its own dumps, ``Field(exclude=True)``, is left out.
    """

    name = "params"

    def accepts(self, value: Any) -> bool:
        """Return whether *value* is made for parameters: a Namespace, a model of pydantic, a config of OmegaConf.

        A dict or a dataclass of which nobody says so may hold anything.
        """
        return isinstance(value, argparse.Namespace) or _is_model(value) or is_config(type(value))

    def encode(self, value: Any) -> tuple[Payload, Mapping[str, Any]]:
        """Return JSON; raises `Unstorable` for what has no names, and for names that become the same text."""
        fields = _fields(value)
        if fields is None:
            raise Unstorable(f"parameters have names; {description(value)} has none")
        try:
            return json.dumps(_mapping(fields, 0), ensure_ascii=False), {}
        except Unstorable:
            raise
        except Exception as error:
            raise Unstorable(f"its parameters cannot be read: {type(error).__name__}") from error

    def decode(self, payload: Payload, attrs: Mapping[str, Any]) -> Any:
        """Return the parameters as a dict."""
        return json.loads(str(payload))


def _fields(value: Any) -> Mapping[Any, Any] | None:
    """Return what is named in *value*, None if nothing is."""
    if isinstance(value, Mapping):
        return _of_config(value) if is_config(type(value)) else value
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        # A field without a default need not be there.
        names = [field.name for field in dataclasses.fields(value)]
        return {name: getattr(value, name) for name in names if hasattr(value, name)}
    if _is_model(value):
        names = [name for name, field in type(value).model_fields.items() if not field.exclude]
        return {**{name: getattr(value, name) for name in names}, **(value.model_extra or {})}
    if isinstance(value, argparse.Namespace) or type(value).__name__ in ("Namespace", "SimpleNamespace"):
        return dict(vars(value))
    return None


def _is_model(value: Any) -> bool:
    return _is_a(value, "pydantic", "BaseModel")


def _is_a(value: Any, module: str, name: str) -> bool:
    """Return whether *value* is of a class of a library, which need not be installed."""
    cls = getattr(sys.modules.get(module), name, None)
    return isinstance(cls, type) and issubclass(type(value), cls)


def _of_config(config: Any) -> dict[Any, Any]:
    """Return a config of OmegaConf, or by its places a list in one, with what its interpolations stand for."""
    written = sys.modules["omegaconf"].OmegaConf.to_container(config, resolve=False)
    places: Iterable[Any] = written if isinstance(written, dict) else range(len(written or ()))
    return {place: _resolved(config, place, written) for place in places}


def _resolved(config: Any, place: Any, written: Any) -> Any:
    try:
        return config[place]
    except Exception:  # it is missing, or an interpolation that leads nowhere
        return written[place]


def _mapping(fields: Mapping[Any, Any], depth: int) -> dict[str, Any]:
    if depth > _MAX_DEPTH:
        raise Unstorable("it is nested too deep, or holds itself")
    out: dict[str, Any] = {}
    for key, value in fields.items():
        name = str(key.value if isinstance(key, enum.Enum) else key)
        if name in out:
            raise Unstorable(f"two of its names become {name!r}")
        out[name] = _value(value, depth + 1)
    return out


def _value(value: Any, depth: int) -> Any:
    if isinstance(value, enum.Enum):
        value = value.value
    if _is_model(value) and type(value).__pydantic_root_model__:
        value = value.root
    # A subclass of str or int may show itself as anything.
    for plain in (bool, int, float, str):
        if isinstance(value, plain):
            return plain(value) if plain is not str else str.__str__(value)
    if value is None:
        return None
    if isinstance(value, np.generic | np.ndarray) and value.dtype.kind in "biufU":
        return value.tolist()
    fields = _fields(value)
    if fields is not None:
        return _mapping(fields, depth)
    if _is_a(value, "omegaconf", "ListConfig"):
        return _list(_of_config(value).values(), depth)
    if isinstance(value, list | tuple | set | frozenset):
        return _list(value, depth)
    return str(value)


def _list(values: Iterable[Any], depth: int) -> list[Any]:
    if depth > _MAX_DEPTH:
        raise Unstorable("it is nested too deep, or holds itself")
    if isinstance(values, set | frozenset):
        # The order of a set is another one in each process.
        values = sorted(values, key=lambda item: (type(item).__name__, str(item)))
    return [_value(value, depth + 1) for value in values]
