"""Image: how does a journal become a finished HDF5 file?"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any

from allogger.errors import DamagedFile, WriteFailed
from allogger.formats import journal
from allogger.formats.hdf import ImageBuilder, SeriesPlan, converters
from allogger.record import full_key
from allogger.rundir import IMAGE, INDEX, atomic_write

__all__ = ["build_image"]

# So many of the series that HDF5 cannot hold are named in a message.
_MAX_NAMED = 20


def build_image(source: Path, *, tolerate_damage: bool = False) -> dict[str, Any]:
    """Build, beside the journal *source*, the HDF5 file and the index that hold the same values; return the index.

    Memory stays bounded. The journal is left as it is; what is appended to it meanwhile is not looked at. Raises
    `OSError` if the disk does not take the file, and, unless *tolerate_damage*, `DamagedFile` if the journal is
    damaged: then it is worth more than an image of what is left. Raises `WriteFailed` when the file is there, but
    without some series, which HDF5 cannot hold: then the journal must be kept, too.
    """
    with open(source, "rb", buffering=1 << 20) as file:
        found, contents = _first_pass(file, source.stem)
        series, trouble = contents.named(found)
        damage = [*found.damage, *trouble]
        if damage and not tolerate_damage:
            raise DamagedFile(f"{source}: {damage[0]}")
        about = dict(found.about)
        if found.closed is not None:
            about["end"] = found.closed["time"]
        if damage:
            about["damage"] = damage
        plan = {name: SeriesPlan(contents.count(which), contents.layout_count(which)) for name, which in series.items()}
        names = {which: name for name, which in series.items()}
        with converters(), ImageBuilder(source.with_name(source.stem + IMAGE), about, plan) as builder:
            for which, columns in journal.portions(file, found, contents):
                if which in names:
                    builder.append(names[which], columns)
            index = builder.finish()
    atomic_write(source.with_name(source.stem + INDEX), json.dumps(index).encode())
    _check_complete(index["series"], source)
    return index


def _check_complete(series: Sequence[Mapping[str, Any]], source: Path) -> None:
    left_out = [one for one in series if one["left_out"]]
    if left_out:
        named = [f"{one['count']} values of {full_key(one['scope'], one['key'])!r}" for one in left_out[:_MAX_NAMED]]
        more = [f"{len(left_out) - _MAX_NAMED} more keys"] if len(left_out) > _MAX_NAMED else []
        raise WriteFailed(
            f"HDF5 cannot hold {', '.join(named + more)} ({left_out[0]['left_out']}); {source} holds them and is kept"
        )


def _first_pass(file: IO[bytes], name: str) -> tuple[journal.Scan, journal.Contents]:
    found, contents = journal.Scan(name), journal.Contents(keep=False)
    for frame in journal.scan(file, found):
        try:
            contents.add(frame)
        except DamagedFile as error:
            found.damage.append(str(error))
    return found, contents


if __name__ == "__main__":
    # A snapshot of a live journal, made beside the program that writes it and never in its way.
    os.nice(10)
    build_image(Path(sys.argv[1]), tolerate_damage=True)
