"""Command: let atheris change files, guided by the lines that the readers run; it needs ``pip install atheris``.

python -m tests.fuzz.guided journal -max_total_time=600     # or hdf; the options are those of libFuzzer
"""

from __future__ import annotations

import random
import sys
import tempfile
import zlib
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["allogger"]):
    import allogger.readers.hdf
    import allogger.readers.journal
    import allogger.store  # noqa: F401
    from tests.fuzz.targets import TARGETS, Target, framed, frames_of, look

from allogger.formats import journal


def main() -> None:
    name, *options = sys.argv[1:]
    with tempfile.TemporaryDirectory() as folder:
        target = TARGETS[name](Path(folder), 0)
        seeds = Path(folder, "seeds")
        seeds.mkdir()
        (seeds / "whole").write_bytes(b"\0" + target.raw)
        if name == "journal":
            for number, (_, _, payload) in enumerate(frames_of(target.raw)):
                (seeds / str(number)).write_bytes(bytes([1, number % 256]) + payload)

        def read(data: bytes) -> None:
            target.path.write_bytes(_file_of(target, data) if name == "journal" else data[1:])
            look(target.logdir)

        atheris.Setup([sys.argv[0], str(seeds), *options], read)
        atheris.Fuzz()


def _file_of(target: Target, data: bytes) -> bytes:
    """Return *data* as a journal, or as one frame of it, which gets the right checksums."""
    if data[:1] != b"\1":
        return data[1:]
    salt, frames = journal.salt_of(target.path.stem), list(frames_of(target.raw))
    at = data[1] % len(frames) if len(data) > 1 else 0
    frames[at] = *frames[at][:2], data[2:]
    rng = random.Random(zlib.crc32(data))
    return b"".join(framed(*frame, salt, rng) for frame in frames)


if __name__ == "__main__":
    main()
