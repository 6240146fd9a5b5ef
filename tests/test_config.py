"""Does a configuration from a file, a mapping or the environment hold as one from a call does, in the right order?"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import allogger
from allogger import config
from allogger.errors import ConfigError, UnknownName


def test_a_mapping_configures_the_root_and_other_scopes(tmp_path: Path) -> None:
    root = config.from_dict(
        {
            "logdir": str(tmp_path / "run"),
            "default_outputs": ["hdf", "csv"],
            "csv_writer_params": {"exclude": "debug"},
            "scopes": {"agent": {"log_freq": 10}, "agent.critic": {"logdir": str(tmp_path / "critic")}},
        }
    )

    assert root is allogger.get_root()
    assert root.logdir == tmp_path / "run"
    assert root.settings.writer_params["csv"] == {"exclude": "debug"}
    assert allogger.get_logger("agent").settings.log_freq == 10
    assert allogger.get_logger("agent.critic.head").logdir == tmp_path / "critic"


@pytest.mark.parametrize("suffix", [".toml", ".json", ".yaml"])
def test_a_file_configures_as_a_mapping_does(tmp_path: Path, suffix: str) -> None:
    run = str(tmp_path / "run")
    file = tmp_path / f"config{suffix}"
    file.write_text(
        f'logdir = "{run}"\nlog_freq = 3\n[scopes.agent]\nstrict = true\n'
        if suffix == ".toml"
        else json.dumps({"logdir": run, "log_freq": 3, "scopes": {"agent": {"strict": True}}})
    )

    root = config.from_file(file)

    assert root.logdir == tmp_path / "run"
    assert root.settings.log_freq == 3
    assert allogger.get_logger("agent").settings.strict is True


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"log_frq": 1}, "did you mean 'log_freq'"),
        ({"default_outputs": ["hfd"]}, "did you mean 'hdf'"),
        ({"scopes": {"a": {"log_dir": "x"}}}, "did you mean 'logdir'"),
        ({"scope": {"a": {}}}, "no setting 'scope'"),
        ({"csv_writer_params": {"fliter": "x"}}, "did you mean 'filter'"),
    ],
    ids=str,
)
def test_an_unknown_name_is_an_error_with_a_suggestion(given: dict[str, Any], words: str) -> None:
    with pytest.raises(UnknownName, match=words):
        config.from_dict(given)


def test_a_wrong_setting_of_one_scope_leaves_all_others_as_they_were(tmp_path: Path) -> None:
    root = allogger.basic_configure(tmp_path / "run", log_freq=5)

    with pytest.raises(ConfigError, match="did you mean 'filter'"):
        config.from_dict({"log_freq": 3, "scopes": {"a": {"debug": True}, "b": {"csv_writer_params": {"fliter": "x"}}}})

    assert root.settings.log_freq == 5
    assert allogger.get_logger("a").settings.debug is False


@pytest.mark.parametrize("value", ["no", 0, None], ids=repr)
def test_enable_in_a_mapping_must_be_true_or_false(value: Any) -> None:
    with pytest.raises(ConfigError, match=f"enable must be True or False, not {value!r}"):
        config.from_dict({"enable": value})


def test_a_mapping_can_switch_everything_off(tmp_path: Path) -> None:
    root = config.from_dict({"logdir": str(tmp_path / "run"), "enable": False, "scopes": {"a": {"log_freq": 2}}})

    root.log(1.0, "loss")
    allogger.get_logger("a").log(1.0, "loss")

    assert not (tmp_path / "run").exists()


def test_the_mapping_that_was_given_stays_as_it_is() -> None:
    given = {"log_freq": 2, "enable": True, "scopes": {"a": {"debug": True}}}

    config.from_dict(given)

    assert given == {"log_freq": 2, "enable": True, "scopes": {"a": {"debug": True}}}


# ----------------------------------------------------------------------------------------------------------- precedence


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A configuration that the environment names."""
    path = tmp_path / "config.json"
    content = {
        "logdir": str(tmp_path / "from file"),
        "default_outputs": ["csv"],
        "log_freq": 7,
        "csv_writer_params": {"filter": "file", "exclude": "file"},
        "scopes": {"agent": {"log_freq": 9}},
    }
    path.write_text(json.dumps(content))
    monkeypatch.setenv("ALLOGGER_CONFIG", str(path))
    return path


def test_the_file_goes_before_the_defaults(tmp_path: Path, file: Path) -> None:
    root = allogger.basic_configure()

    assert root.logdir == tmp_path / "from file"
    assert root.default_outputs == ["csv"]
    assert root.settings.log_freq == 7
    assert root.settings.writer_params["csv"] == {"filter": "file", "exclude": "file"}
    assert allogger.get_logger("agent.x").settings.log_freq == 9


def test_the_environment_goes_before_the_file(tmp_path: Path, file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALLOGGER_LOGDIR", str(tmp_path / "from environment"))
    monkeypatch.setenv("ALLOGGER_OUTPUTS", "hdf,console")
    monkeypatch.setenv("ALLOGGER_FILTER", "environment")

    root = allogger.basic_configure()

    assert root.logdir == tmp_path / "from environment"
    assert root.default_outputs == ["hdf", "console"]
    assert root.settings.log_freq == 7
    assert root.settings.writer_params["csv"] == {"filter": "environment", "exclude": "file"}
    assert root.settings.writer_params["hdf"] == {"filter": "environment"}


def test_the_call_goes_before_the_environment(tmp_path: Path, file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALLOGGER_LOGDIR", str(tmp_path / "from environment"))
    monkeypatch.setenv("ALLOGGER_OUTPUTS", "hdf")
    monkeypatch.setenv("ALLOGGER_FILTER", "environment")

    root = allogger.basic_configure(tmp_path / "from call", [], log_freq=1, csv_writer_params={"filter": "call"})

    assert root.logdir == tmp_path / "from call"
    assert root.default_outputs == []
    assert root.settings.log_freq == 1
    assert root.settings.writer_params["csv"] == {"filter": "call", "exclude": "file"}


def test_the_environment_goes_before_a_mapping(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALLOGGER_LOGDIR", str(tmp_path / "from environment"))

    root = config.from_dict({"logdir": str(tmp_path / "from mapping"), "log_freq": 4})

    assert root.logdir == tmp_path / "from environment"
    assert root.settings.log_freq == 4


def test_the_environment_can_switch_everything_off_and_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALLOGGER_ENABLE", "0")
    allogger.basic_configure(tmp_path / "run").log(1.0, "loss")
    assert not (tmp_path / "run").exists()

    monkeypatch.setenv("ALLOGGER_ENABLE", "1")
    config.from_dict({"logdir": str(tmp_path / "run"), "enable": False}).log(1.0, "loss")
    assert (tmp_path / "run").exists()

    allogger.basic_configure(tmp_path / "other", enable=False).log(1.0, "loss")
    assert not (tmp_path / "other").exists()


def test_the_filter_of_the_environment_filters(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALLOGGER_FILTER", "^train/")
    root = allogger.basic_configure(tmp_path / "run", ["hdf"])
    root.log(1.0, "train/loss")
    root.log(1.0, "eval/loss")

    allogger.flush()

    assert allogger.open_run(tmp_path / "run").keys() == ["root/train/loss"]


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("ALLOGGER_OUTPUTS", "hdf,tensorbord", "did you mean 'tensorboard'"),
        ("ALLOGGER_FILTER", "(", "filter of .* is no regular expression"),
        ("ALLOGGER_ENABLE", "perhaps", "must be 1 or 0, not 'perhaps'"),
        ("ALLOGGER_CONFIG", "nowhere.toml", "nowhere.toml' cannot be read"),
        ("ALLOGGER_OUTPUT", "hdf", "did you mean 'ALLOGGER_OUTPUTS'"),
    ],
)
def test_a_wrong_variable_raises_at_the_configuration(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, value: str, words: str
) -> None:
    monkeypatch.setenv(name, value)

    with pytest.raises(ConfigError, match=words):
        allogger.basic_configure(tmp_path / "run")

    assert not (tmp_path / "run").exists()


def test_after_a_configuration_that_failed_everything_is_still_off(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    root = allogger.basic_configure(enable=False)
    (tmp_path / "file").write_text("")

    with pytest.raises(ConfigError):
        allogger.basic_configure(tmp_path / "file")
    root.log(1.0, "loss")
    allogger.close()

    assert caplog.messages == []
