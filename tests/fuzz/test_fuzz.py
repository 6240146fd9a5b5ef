"""Fuzz: a short hunt in each target finds nothing, and one that is sure to fail is found and can be repeated."""

from __future__ import annotations

import random

import pytest

from tests.fuzz.__main__ import TARGETS, hunt, main
from tests.fuzz.mutations import mutated, mutated_json


@pytest.mark.parametrize("target", TARGETS)
def test_a_short_hunt_finds_nothing(target: str) -> None:
    rounds = list(hunt([target], seconds=60, seed=1000, count=40))

    assert [one.failure for one in rounds if one.failure] == []
    assert sum(one.tried for one in rounds) == 40


def test_a_target_that_does_not_exist_is_an_error(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["jornal"])

    assert "known: journal, hdf, run_json" in capsys.readouterr().err


def test_the_same_number_makes_the_same_change() -> None:
    raw = bytes(range(256)) * 10
    text = b'{"a": [1, {"b": null}], "c": "d"}'

    for number in range(200):
        assert mutated(raw, random.Random(number)) == mutated(raw, random.Random(number))
        assert mutated_json(text, random.Random(number)) == mutated_json(text, random.Random(number))
    assert len({mutated(raw, random.Random(number)) for number in range(200)}) > 150
