"""Do files and the environment give the settings that they name, and is everything else an error that helps?"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from allogger.errors import ConfigError, UnknownName
from allogger.sources import environment, is_enabled, parse_file, split

CONTENT = {"default_outputs": ["csv"], "log_freq": 3, "csv_writer_params": {"filter": "loss"}, "scopes": {"a.b": {}}}
TOML = """
default_outputs = ["csv"]
log_freq = 3
[csv_writer_params]
filter = "loss"
[scopes."a.b"]
"""
YAML = """
default_outputs: [csv]
log_freq: 3
csv_writer_params: {filter: loss}
scopes: {a.b: {}}
"""


# ---------------------------------------------------------------------------------------------------------------- files


@pytest.mark.parametrize(
    ("name", "text"),
    [("c.toml", TOML), ("c.json", json.dumps(CONTENT)), ("c.yaml", YAML), ("c.yml", YAML), ("C.TOML", TOML)],
)
def test_toml_json_and_yaml_say_the_same(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).write_text(text)

    assert parse_file(tmp_path / name) == parse_file(str(tmp_path / name)) == CONTENT


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("c.ini", "", "ends in .toml, .yaml or .json"),
        ("c", "", "ends in .toml, .yaml or .json"),
        ("c.toml", "log_freq = ", "c.toml' cannot be read"),
        ("c.json", "{", "c.json' cannot be read"),
        ("c.json", "[" * 100_000, "c.json' cannot be read"),
        ("c.yaml", "a: [", "c.yaml' cannot be read"),
        ("c.json", "[1]", "c.json' must be a mapping, not list"),
        ("c.yaml", "", "c.yaml' must be a mapping, not NoneType"),
        ("c.yaml", "!!python/object/apply:os.getcwd []", "c.yaml' cannot be read"),
    ],
    ids=repr,
)
def test_a_file_that_cannot_be_used_is_named(tmp_path: Path, name: str, text: str, words: str) -> None:
    (tmp_path / name).write_text(text)

    with pytest.raises(ConfigError, match=words):
        parse_file(tmp_path / name)


def test_a_missing_file_and_one_that_is_no_text_are_named(tmp_path: Path) -> None:
    (tmp_path / "binary.json").write_bytes(b"\xff\xfe\x00")

    for name in ("missing.toml", "binary.json"):
        with pytest.raises(ConfigError, match=f"{name}' cannot be read"):
            parse_file(tmp_path / name)


def test_the_root_and_the_other_scopes_are_told_apart_and_the_mapping_stays_as_it_is() -> None:
    config = {"log_freq": 2, "scopes": {"a": {"debug": True}}}

    assert split(config) == ({"log_freq": 2}, {"a": {"debug": True}})
    assert config == {"log_freq": 2, "scopes": {"a": {"debug": True}}}
    assert split({}) == ({}, {})
    assert split({"scopes": None}) == ({}, {})


@pytest.mark.parametrize("config", [None, [], "x", {"scopes": ["a"]}, {"scopes": {"a": 3}}, {"scopes": "a"}], ids=repr)
def test_a_configuration_that_is_no_mapping_is_refused(config: Any) -> None:
    with pytest.raises(ConfigError, match=r"mapping|must map"):
        split(config)


# ---------------------------------------------------------------------------------------------------------- environment


def test_the_variables_give_logdir_outputs_and_filter(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALLOGGER_LOGDIR", "runs/a")
    monkeypatch.setenv("ALLOGGER_OUTPUTS", "hdf, csv,")
    monkeypatch.setenv("ALLOGGER_FILTER", "loss")

    assert environment(["hdf", "csv"]) == {
        "logdir": "runs/a",
        "default_outputs": ["hdf", "csv"],
        "hdf_writer_params": {"filter": "loss"},
        "csv_writer_params": {"filter": "loss"},
    }


def test_empty_variables_give_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("LOGDIR", "OUTPUTS", "FILTER", "ENABLE", "CONFIG"):
        monkeypatch.setenv(f"ALLOGGER_{name}", "")

    assert environment(["hdf"]) == {}
    assert is_enabled(True)


def test_a_misspelt_variable_is_an_error_with_a_suggestion(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALLOGGER_LOG_DIR", "x")

    with pytest.raises(UnknownName, match="did you mean 'ALLOGGER_LOGDIR'"):
        environment([])


@pytest.mark.parametrize(
    ("word", "is_on"),
    [("1", True), ("true", True), ("YES", True), (" on ", True), ("0", False), ("False", False), ("no", False)],
)
def test_a_word_switches_everything_on_or_off(monkeypatch: pytest.MonkeyPatch, word: str, is_on: bool) -> None:
    monkeypatch.setenv("ALLOGGER_ENABLE", word)

    assert is_enabled(True) is is_on
    assert is_enabled(True, not is_on) is is_on
    assert is_enabled(False) is False


def test_without_the_variable_call_and_configuration_decide() -> None:
    assert [is_enabled(call, config) for call in (True, False) for config in (True, False)] == [
        True,
        False,
        False,
        False,
    ]


def test_another_word_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALLOGGER_ENABLE", "maybe")

    with pytest.raises(ConfigError, match="ALLOGGER_ENABLE must be 1 or 0, not 'maybe'"):
        is_enabled(True)
