"""Is a text stored character by character?"""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from allogger.kinds.text import TextKind
from allogger.plain import Unstorable


@given(st.text(st.characters()))
def test_every_character_is_kept(text: str) -> None:
    assert TextKind().encode(text) == (text, {})


@pytest.mark.parametrize("value", [1.5, None, [1, "a"], {"a": 1}, object], ids=repr)
def test_any_object_can_be_told_as_text(value: Any) -> None:
    assert TextKind().encode(value) == (str(value), {})


def test_the_payload_is_no_object_of_somebody_elses_class() -> None:
    class Name(str):
        def __str__(self) -> str:
            return self

    payload, _ = TextKind().encode(Name("x"))

    assert type(payload) is str


def test_an_object_without_a_text_is_refused() -> None:
    class Mute:
        def __str__(self) -> str:
            raise RuntimeError

    with pytest.raises(Unstorable, match="RuntimeError"):
        TextKind().encode(Mute())
