"""Converters: how does h5py stay usable until the very end of the interpreter?"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import h5py
from h5py import h5t

__all__ = ["converters"]

_TEXT = h5py.string_dtype()


@contextmanager
def converters() -> Iterator[None]:
    """Have h5py convert texts within the block, also at the end of the interpreter, when it no longer does.

    h5py takes its conversions away in an exit handler; those that HDF5 still has when the interpreter is gone crash it.
    """
    if h5t.find(h5t.py_create(_TEXT), h5t.py_create(_TEXT, logical=True)) is not None:
        yield
        return
    h5py._register_converters()
    try:
        yield
    finally:
        h5py._unregister_converters()
