"""Datasets: how is a dataset described, so that another run can tell whether it had the same?"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from allogger.plain import Unstorable, copied, description
from allogger.registry import kinds

__all__ = ["described"]

#: A log call must not take long: of more bytes than these no fingerprint is taken.
MOST_BYTES = 256 * 2**20


def described(dataset: Any) -> dict[str, Any]:
    """Return ``name``, ``type``, ``length`` and ``fingerprint`` of a dataset, and what else is known of its kind.

    A dataset is the path of a file or folder, a DataFrame, an array, a dict of these, a dataset or loader of torch, or
    anything with a length. The fingerprint is a SHA-256 of ``fingerprint_of``: its ``"contents"`` or, of files with
    more than 256 MiB, the ``"names and sizes"``. It is None where neither can be had without running foreign code.
    Raises `Unstorable` for what has none of this.
    """
    if isinstance(dataset, str | os.PathLike):
        return _of_path(Path(dataset))
    inner, batch_size = _attribute(dataset, "dataset"), _attribute(dataset, "batch_size")
    if inner is not None and batch_size is not None:
        return {**described(inner), "batch_size": batch_size, "batches": _length(dataset)}
    name = _attribute(dataset, "name")
    about: dict[str, Any] = {
        "name": name if isinstance(name, str) else type(dataset).__name__,
        "type": f"{type(dataset).__module__}.{type(dataset).__qualname__}",
        **_size(dataset),
        **_fingerprint(dataset),
    }
    if about["length"] is None and about["fingerprint"] is None:
        raise Unstorable(f"a dataset is a path, a table, an array or has a length, unlike {description(dataset)}")
    return about


def _attribute(dataset: Any, name: str) -> Any:
    """Return an attribute, None if there is none; those of tables and dicts may be their columns."""
    return None if _is_table(dataset) or isinstance(dataset, Mapping) else getattr(dataset, name, None)


def _is_table(dataset: Any) -> bool:
    return hasattr(type(dataset), "iloc") or hasattr(type(dataset), "get_columns")


def _size(dataset: Any) -> dict[str, Any]:
    if _is_table(dataset):
        return {"length": len(dataset), "columns": [str(name) for name in dataset.columns]}
    if not isinstance(dataset, Mapping):
        return {"length": _length(dataset)}
    lengths = {str(name): _length(part) for name, part in dataset.items()}
    common = set(lengths.values())
    return {"length": common.pop() if len(common) == 1 else None, "lengths": lengths}


def _length(dataset: Any) -> int | None:
    try:
        return len(dataset)
    except TypeError:  # some are endless streams
        return None


# ---------------------------------------------------------------------------------------------------------------- files


def _of_path(path: Path) -> dict[str, Any]:
    if not path.exists():
        raise Unstorable(f"there is no file or folder {str(path)!r}")
    files = sorted(file for file in path.rglob("*") if file.is_file()) if path.is_dir() else [path]
    sizes = [file.stat().st_size for file in files]
    is_small = sum(sizes) <= MOST_BYTES
    digest = hashlib.sha256()
    for file, size in zip(files, sizes, strict=True):
        name = file.relative_to(path).as_posix() if path.is_dir() else ""
        digest.update(f"{name}\0{size}\0".encode("utf-8", "surrogateescape"))
        if is_small:
            digest.update(file.read_bytes())
    return {
        "name": path.name,
        "type": "folder" if path.is_dir() else "file",
        "path": str(path.absolute()),
        "length": len(files),
        "bytes": sum(sizes),
        "fingerprint": digest.hexdigest(),
        "fingerprint_of": "contents" if is_small else "names and sizes",
    }


# ------------------------------------------------------------------------------------------------------------ in memory


def _fingerprint(dataset: Any) -> dict[str, Any]:
    given = _attribute(dataset, "_fingerprint")  # datasets of Hugging Face
    if isinstance(given, str):
        return {"fingerprint": given, "fingerprint_of": "what it says itself"}
    digest = hashlib.sha256()
    try:
        for part in _contents(dataset):
            digest.update(part)
    except Unstorable:
        return {"fingerprint": None}
    return {"fingerprint": digest.hexdigest(), "fingerprint_of": "contents"}


def _contents(dataset: Any) -> Iterator[bytes]:
    """Yield the bytes of a dataset in memory; raises `Unstorable` if it is none, or too large."""
    if isinstance(tensors := _attribute(dataset, "tensors"), tuple):  # TensorDataset of torch
        dataset = dict(enumerate(tensors))
    if isinstance(dataset, Mapping):
        for name, part in dataset.items():
            yield f"{name!r}\0".encode("utf-8", "backslashreplace")
            yield from _contents(part)
    elif _is_table(dataset):
        if dataset.shape[0] * dataset.shape[1] * 8 > MOST_BYTES:
            raise Unstorable("too large")
        payload, attrs = kinds["table"]().encode(dataset)
        yield repr(attrs).encode("utf-8", "backslashreplace")
        yield from [payload.encode("utf-8", "backslashreplace")] if isinstance(payload, str) else _of_array(payload)
    else:
        if getattr(dataset, "nbytes", 0) > MOST_BYTES:
            raise Unstorable("too large")
        yield from _of_array(copied(dataset))


def _of_array(array: np.ndarray[Any, Any]) -> Iterator[bytes]:
    yield f"{array.dtype!r} {array.shape}\0".encode()
    yield array.tobytes()
