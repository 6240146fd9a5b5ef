from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from allogger.formats.crc32c import masked_crc, masked_crcs


@given(st.lists(st.tuples(st.integers(0, 9000), st.integers(0, 9000)), max_size=30), st.integers(0, 9))
def test_the_checksums_of_many_pieces_are_those_of_each(pieces: list[tuple[int, int]], seed: int) -> None:
    data = np.random.default_rng(seed).integers(0, 256, 10_000, np.uint8)
    start = np.array([min(piece[0], 9000) for piece in pieces], np.int64)
    length = np.array([min(piece[1], 10_000 - piece[0]) for piece in pieces], np.int64)
    expected = [masked_crc(data[s : s + n].tobytes()) for s, n in zip(start, length, strict=True)]
    assert masked_crcs(data, start, length).tolist() == expected


def test_the_data_stays_as_it_is() -> None:
    data = np.arange(200, dtype=np.uint8)
    masked_crcs(data, np.array([0, 100, 150]), np.array([50, 50, 50]))
    assert data.tolist() == list(range(200))
