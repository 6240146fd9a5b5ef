"""Journal: how do values lie in the live file of one process, and how are they found again after anything?

A journal is a sequence of frames, appended and never changed::

    header, 28 bytes little-endian: magic "\\xabALJ", type u8, version u8, 0 u16, number u32, length u64,
                                    CRC-32 of the payload u32, CRC-32 of the 24 bytes before u32
    payload, *length* bytes:
      HEAD    JSON: the shard's name, process, attempt, start, host, pid; the file begins with it, twice
      NAMES   JSON: [[index, scope, key], ...]; the whole table comes again every few megabytes
      ROWS    u32 n, then columns: series u32[n], code u8[n], step i64[n], time f64[n], bits i64[n]
      OBJECT  u32 m, JSON of m bytes {"series", "kind", "step", "time", "dtype", "shape", "attrs", "at"}, raw bytes
      END     JSON {"values", "time"}: how many frames with values there are, and when the process closed the file

Frames with values are numbered, so a deleted, repeated or foreign block is noticed; the checksum of a header is salted
with the name of the shard, so a frame of another journal, or one that somebody logged as an array, is not taken for one
of this: the file must have the shard's name. A row names its series by an index that NAMES frames spell out as explicit
pairs: damage can cost values, never move them to another key.
"""

from __future__ import annotations

from allogger.formats.journal.contents import Contents, Mixed, Which, in_series, numbers, object_columns
from allogger.formats.journal.frames import (
    END,
    HEAD,
    HEADER_BYTES,
    MAGIC,
    NAMES,
    OBJECT,
    ROWS,
    Frame,
    Meta,
    RowBuffer,
    Rows,
    decode_meta,
    decode_object,
    decode_rows,
    encode_batch,
    encode_end,
    encode_head,
    encode_names,
    read_object,
    salt_of,
)
from allogger.formats.journal.portions import portions
from allogger.formats.journal.scanning import Scan, scan

__all__ = [
    "END",
    "HEAD",
    "HEADER_BYTES",
    "MAGIC",
    "NAMES",
    "OBJECT",
    "ROWS",
    "Contents",
    "Frame",
    "Meta",
    "Mixed",
    "RowBuffer",
    "Rows",
    "Scan",
    "Which",
    "decode_meta",
    "decode_object",
    "decode_rows",
    "encode_batch",
    "encode_end",
    "encode_head",
    "encode_names",
    "in_series",
    "numbers",
    "object_columns",
    "portions",
    "read_object",
    "salt_of",
    "scan",
]
