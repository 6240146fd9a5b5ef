"""CRC-32C: what is the checksum of bytes, computed for many messages at a time?"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "LANE",
    "columns_register",
    "crc32c",
    "masked",
    "masked_crc",
    "masked_crcs",
    "register",
    "shift_by",
    "shifted",
]

# A CRC whose register starts with zeros is linear: the register of a message is the XOR of what each of its bytes does
# alone, and zeros in front do nothing. So many messages of one length are summed up column by column, and a long one is
# cut into lanes of `LANE` bytes that are summed up side by side. CRC-32C starts with ones, which is the same as the
# first four bytes inverted.
LANE = 256
_POLYNOMIAL = 0x82F63B78
_ALL_ONES = 0xFFFFFFFF


def _distance_tables(count: int) -> NDArray[np.uint32]:
    """Return the table ``[distance, byte]``: the register that a byte leaves with *distance* zero bytes behind it."""
    tables = np.empty((count, 256), np.uint32)
    row = np.arange(256, dtype=np.uint32)
    for _ in range(8):
        row = np.where(row & 1, (row >> 1) ^ np.uint32(_POLYNOMIAL), row >> 1)
    tables[0] = row
    for distance in range(1, count):
        row = tables[0][row & 0xFF] ^ (row >> 8)
        tables[distance] = row
    return tables


_AT_DISTANCE = _distance_tables(LANE)
_STEP = tuple(_AT_DISTANCE[0].tolist())


def columns_register(columns: Iterable[NDArray[np.uint8]], length: int, count: int) -> NDArray[np.uint32]:
    """Return the registers of *count* messages of *length* bytes whose first, second, ... bytes are the *columns*."""
    registers = np.zeros(count, np.uint32)
    for table, column in zip(_AT_DISTANCE[:length][::-1], columns, strict=True):
        registers ^= table.take(column)
    return registers


def shifted(register: NDArray[np.uint32], shift: NDArray[np.uint32]) -> NDArray[np.uint32]:
    """Return what becomes of *register* when zero bytes follow; *shift* is that map as four tables, one per byte."""
    moved: NDArray[np.uint32] = shift[0].take(register & 0xFF)
    for place in (1, 2, 3):
        moved ^= shift[place].take((register >> (8 * place)) & 0xFF)
    return moved


def shift_by(zeros: int) -> NDArray[np.uint32]:
    """Return the map of `shifted` for 4 to `LANE` zero bytes."""
    return _AT_DISTANCE[[zeros - 1, zeros - 2, zeros - 3, zeros - 4]]


def _short_register(message: bytes) -> int:
    found = _ALL_ONES
    for byte in message:
        found = _STEP[(found ^ byte) & 0xFF] ^ (found >> 8)
    return found


def _long_register(message: bytes) -> int:
    lanes = -(-len(message) // LANE)
    padded = np.zeros(lanes * LANE, np.uint8)
    start = len(padded) - len(message)
    padded[start:] = np.frombuffer(message, np.uint8)
    padded[start : start + 4] ^= 0xFF
    registers = columns_register(np.ascontiguousarray(padded.reshape(lanes, LANE).T), LANE, lanes)
    shift = shift_by(LANE)
    while len(registers) > 1:
        if len(registers) % 2:
            registers = np.concatenate([np.zeros(1, np.uint32), registers])
        registers = shifted(registers[0::2], shift) ^ registers[1::2]
        shift = shifted(shift, shift)
    return int(registers[0])


def register(message: bytes) -> int:
    """Return the register that *message* leaves, which is its CRC inverted."""
    return _short_register(message) if len(message) < LANE else _long_register(message)


def crc32c(message: bytes) -> int:
    """Return the CRC-32C (Castagnoli) of *message*.

    >>> hex(crc32c(b"123456789"))
    '0xe3069283'
    """
    return register(message) ^ _ALL_ONES


def masked_crc(message: bytes) -> int:
    """Return the CRC-32C of *message* in the form that frames hold."""
    crc = crc32c(message)
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & _ALL_ONES


def masked(registers: NDArray[np.uint32]) -> NDArray[np.uint32]:
    """Return what `masked_crc` does of the messages that leave these registers."""
    crc = ~registers
    return (crc >> np.uint32(15) | crc << np.uint32(17)) + np.uint32(0xA282EAD8)


# Messages of about one length are summed up side by side; of longer ones there are too few for that to pay.
_GRAIN, _LONGEST = 16, 16 * LANE


def masked_crcs(data: NDArray[np.uint8], start: NDArray[np.int64], length: NDArray[np.int64]) -> NDArray[np.uint32]:
    """Return `masked_crc` of many pieces of *data*, given by their places and lengths."""
    crcs = np.empty(len(start), np.uint32)
    grain = np.where(length <= LANE, _GRAIN, LANE)
    width = -(-length // grain) * grain
    end = start + length
    # The zeros in front of a piece take the place of what lies before it.
    alone = (width > _LONGEST) | (width > end) | (length < 4)
    for row in np.flatnonzero(alone).tolist():
        crcs[row] = masked_crc(data[start[row] : end[row]].tobytes())
    for size in np.unique(width[~alone]).tolist():
        rows = np.flatnonzero((width == size) & ~alone)
        pieces = np.lib.stride_tricks.sliding_window_view(data, size)[end[rows] - size]
        crcs[rows] = masked(_registers_of(pieces, size - length[rows]))
    return crcs


def _registers_of(pieces: NDArray[np.uint8], before: NDArray[np.int64]) -> NDArray[np.uint32]:
    """Return the registers of messages of one length, of which the first bytes (*before*) do not count."""
    count, size = pieces.shape
    if before.any():
        pieces[np.arange(size) < before[:, None]] = 0
    pieces[np.arange(count)[:, None], before[:, None] + np.arange(4)] ^= 0xFF
    columns = np.ascontiguousarray(pieces.T)
    if size <= LANE:
        return columns_register(columns, size, count)
    registers, shift = np.zeros(count, np.uint32), shift_by(LANE)
    for at in range(0, size, LANE):
        registers = shifted(registers, shift) ^ columns_register(columns[at : at + LANE], LANE, count)
    return registers
