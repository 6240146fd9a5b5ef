"""Names: what are series, datasets and files called?

Three kinds of names leave the process: full keys, paths inside an HDF5 file and names of files and folders. Each
mapping is injective and has an inverse, so no two series ever meet under one name. Nothing here needs more than the
standard library, because what lists runs must not wait for numpy.
"""

from __future__ import annotations

import re
from typing import Final

__all__ = [
    "MAIN_PROCESS",
    "file_name",
    "full_key",
    "hdf_path",
    "normal_scope",
    "printable",
    "split_full_key",
    "split_hdf_path",
]

MAIN_PROCESS = "MainProcess"


def normal_scope(scope: str) -> str:
    """Return *scope* with its leading ``root.``: ``"main"`` and ``"root.main"`` are the same scope.

    >>> normal_scope("main"), normal_scope("root.main"), normal_scope("root"), normal_scope("")
    ('root.main', 'root.main', 'root', 'root')
    """
    # All of them, or a scope "root.root" would have the full keys of the root.
    while scope.startswith("root."):
        scope = scope[len("root.") :]
    return f"root.{scope}" if scope not in ("", "root") else "root"


def _hex(text: str) -> str:
    return "".join(f"%{byte:02X}" for byte in text.encode("utf-8", "surrogatepass"))


def _unhex(text: str) -> str:
    raw = re.sub(rb"%([0-9A-F]{2})", lambda m: bytes.fromhex(m[1].decode()), text.encode("utf-8", "surrogatepass"))
    return raw.decode("utf-8", "surrogatepass")


def full_key(scope: str, key: str) -> str:
    """Return the one name of a series: ``<scope without "root.">/<key>``, the root's own under ``root/``.

    A ``/`` or ``%`` inside a scope is percent-encoded, because there it would be taken for the end of the scope.

    >>> full_key("root.agent.critic", "train/loss"), full_key("root", "loss")
    ('agent.critic/train/loss', 'root/loss')
    """
    return f"{re.sub('[/%]', lambda m: _hex(m[0]), normal_scope(scope).removeprefix('root.'))}/{key}"


def split_full_key(name: str) -> tuple[str, str]:
    """Return ``(scope, key)`` of a full key; the scope starts with ``root``.

    >>> split_full_key("agent.critic/train/loss")
    ('root.agent.critic', 'train/loss')
    """
    scope, _, key = name.partition("/")
    return normal_scope(_unhex(scope)), key


# Characters with a meaning in paths, and those that HDF5 or a terminal cannot take. Patterns are compiled, and cached,
# by the calls that need them: that is not for the start of a program.
_HDF_UNSAFE: Final = "[%\x00-\x1f\x7f\ud800-\udfff]"
_HDF_SCOPE_UNSAFE: Final = "[%@/\x00-\x1f\x7f\ud800-\udfff]"
_VARIANT: Final = r"%v(\d*)$"
_EMPTY = "%_"


def _hdf_part(part: str, unsafe: str) -> str:
    if part.isascii() and part.isidentifier():
        return part
    if not part:
        return _EMPTY
    if part in (".", ".."):
        return _hex(part)
    return re.sub(unsafe, lambda m: _hex(m[0]), part)


def _hdf_unpart(part: str) -> str:
    return "" if part == _EMPTY else _unhex(part)


def hdf_path(kind: str, scope: str, key: str, process: str = MAIN_PROCESS, variant: int | None = None) -> str:
    """Return the path of a dataset inside a finished file: ``<kind>/<scope>[@<process>]/<key>``.

    Parts of the key become HDF5 groups. ``%`` starts an escape (``%2E`` is a dot), an empty part is ``%_``. *variant*
    appends ``%v<n>`` for a series that needs a second dataset; ``%v`` alone (variant -1) marks a key such as ``a`` that
    cannot have the plain name because ``a/b`` exists.

    >>> hdf_path("scalar", "root.agent.critic", "train/loss")
    'scalar/agent.critic/train/loss'
    >>> hdf_path("scalar", "root.main", "../a", process="Process-1")
    'scalar/main@Process-1/%2E%2E/a'
    """
    place = _hdf_part(normal_scope(scope).removeprefix("root."), _HDF_SCOPE_UNSAFE)
    if process != MAIN_PROCESS:
        place += "@" + _hdf_part(process, _HDF_SCOPE_UNSAFE)
    parts = [_hdf_part(part, _HDF_UNSAFE) for part in key.split("/")]
    tail = "" if variant is None else "%v" if variant < 0 else f"%v{variant}"
    return "/".join([_hdf_part(kind, _HDF_SCOPE_UNSAFE), place, *parts]) + tail


def split_hdf_path(path: str) -> tuple[str, str, str, str]:
    """Return ``(kind, scope, key, process)`` of a dataset's path; the inverse of `hdf_path`.

    >>> split_hdf_path("scalar/main@Process-1/%2E%2E/a")
    ('scalar', 'root.main', '../a', 'Process-1')
    """
    kind, place, *parts = path.strip("/").split("/")
    if parts:
        parts[-1] = re.sub(_VARIANT, "", parts[-1])
    scope, at, process = place.partition("@")
    key = "/".join(map(_hdf_unpart, parts))
    return _hdf_unpart(kind), normal_scope(_hdf_unpart(scope)), key, _hdf_unpart(process) if at else MAIN_PROCESS


def file_name(name: str, limit: int = 120) -> str:
    """Return *name* as one part of a file path that every file system takes and that leads nowhere else.

    Letters, digits and ``._-@+=`` stay, everything else is percent-encoded. Too long a name ends in a checksum.

    >>> file_name("Process-1"), file_name("../x"), file_name("")
    ('Process-1', '%2E%2E%2Fx', '%_')
    """
    if not name:
        return _EMPTY
    safe = re.sub(r"[^A-Za-z0-9._@+=-]", lambda m: _hex(m[0]), name)
    safe = re.sub(r"^\.+", lambda m: _hex(m[0]), safe)
    if len(safe) > limit:
        import hashlib

        safe = f"{safe[: limit - 17]}~{hashlib.sha256(safe.encode()).hexdigest()[:16]}"
    return safe


def printable(text: str) -> str:
    r"""Return *text* with escapes for what a terminal would obey: names come out of files that anybody may write.

    >>> printable("a\x1b[31mb")
    'a\\x1b[31mb'
    """
    return text if text.isprintable() else "".join(c if c.isprintable() else _escaped(c) for c in text)


def _escaped(character: str) -> str:
    return character.encode("unicode_escape").decode()
