from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable
from subprocess import CompletedProcess
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from allogger.formats.picture import pixels_of

Image = pytest.importorskip("PIL.Image", reason="needs Pillow")


def encoded(pixels: NDArray[Any], mode: str, form: str = "PNG") -> bytes:
    out = io.BytesIO()
    Image.fromarray(pixels, mode).save(out, form)
    return out.getvalue()


def chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def png(width: int, height: int, rows: bytes) -> bytes:
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize(("mode", "channels"), [("L", 1), ("RGB", 3), ("RGBA", 4)])
def test_the_pixels_of_a_png_come_back(mode: str, channels: int) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (6, 9, channels), np.uint8)
    shown = pixels[:, :, 0] if channels == 1 else pixels
    np.testing.assert_array_equal(pixels_of(encoded(shown, mode)), pixels)


def test_a_png_whose_rows_are_not_filtered_needs_no_pillow(run_python: Callable[..., CompletedProcess[str]]) -> None:
    rows = b"".join(b"\0" + bytes(range(6)) for _ in range(3))
    result = run_python(f"""
        import sys
        sys.modules["PIL"] = None
        from allogger.errors import MissingDependency
        from allogger.formats.picture import pixels_of

        assert pixels_of({png(2, 3, rows)!r}).tolist() == [[[0, 1, 2], [3, 4, 5]]] * 3
        try:
            pixels_of({png(2, 3, rows.replace(bytes([0, 0, 1]), bytes([1, 0, 1])))!r})
        except MissingDependency as error:
            assert "pip install" in str(error)
        else:
            raise AssertionError
    """)
    assert result.returncode == 0, result.stderr


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"no picture",
        png(2, 3, b"\0" * 5),
        png(2**31 - 1, 2**31 - 1, b"\0" * 5),
        png(60_000, 60_000, bytes(10**6)),
        png(2, 3, bytes(21))[:-30],
    ],
)
def test_what_is_no_picture_or_too_large_is_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match="picture"):
        pixels_of(data)


def test_a_png_that_swells_claims_no_more_than_its_pixels() -> None:
    assert pixels_of(png(2, 3, bytes(21) + bytes(10**8))).shape == (3, 2, 3)
