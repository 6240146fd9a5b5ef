from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from allogger.formats.protobuf import BYTES, Field, double, fields, integer, signed, text, varints
from allogger.formats.tfevents import bytes_field, double_field, int_field


def varint(number: int) -> bytes:
    return int_field(0, number)[1:]


def test_the_fields_of_a_message_come_in_their_order() -> None:
    message = int_field(1, -5) + bytes_field(300, "ä".encode()) + double_field(2, 0.5) + b"\x25\x00\x00\x80\x3f"
    found = list(fields(message))
    assert [field.number for field in found] == [1, 300, 2, 4]
    assert signed(message, found[0]) == -5
    assert integer(message, found[0]) == 2**64 - 5
    assert text(message, found[1]) == "ä"
    assert double(message, found[2]) == 0.5
    assert double(message, found[3]) == 1.0


@given(st.lists(st.integers(-(2**63), 2**63 - 1)))
def test_packed_integers_come_back(numbers: list[int]) -> None:
    data = b"".join(map(varint, numbers))
    assert varints(b"xx" + data + b"x", Field(1, BYTES, 2, 2 + len(data))).tolist() == numbers


@pytest.mark.parametrize(
    "message", [b"\x08", b"\x0a\x05abc", b"\x0b", b"\x09" + bytes(7), b"\x80" * 11, b"\x0a" + b"\xff" * 9 + b"\x01"]
)
def test_what_is_no_message_is_refused(message: bytes) -> None:
    with pytest.raises(ValueError, match=r"a (field|number)"):
        list(fields(message))


@pytest.mark.parametrize("data", [b"\x80", b"\x80" * 11 + b"\x01"])
def test_packed_integers_without_an_end_are_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match="without an end"):
        varints(data, Field(1, BYTES, 0, len(data)))


@given(st.binary(max_size=40))
def test_noise_ends_in_fields_or_in_an_error(data: bytes) -> None:
    try:
        found = list(fields(data))
    except ValueError:
        return
    assert all(0 <= field.start <= field.stop <= len(data) for field in found)
