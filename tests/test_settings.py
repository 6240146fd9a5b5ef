"""Do settings inherit as promised, and is a wrong one refused with its name, its value and the way out?"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from allogger.errors import ConfigError, UnknownName
from allogger.settings import DEFAULTS, UNSET, Filter, Settings, flush_seconds_of, output_of, scopes_above
from tests.naming import shown

OUTPUTS = ("hdf", "tensorboard", "csv", "console", "mine")


def settings(**given: Any) -> Settings:
    return Settings.of(given, lambda: OUTPUTS)


# --------------------------------------------------------------------------------------------------------- inheritance

# Each name with two different values, the second of them false or empty where there is such a value.
VALUES = [
    ("default_outputs", ["csv"], []),
    ("log_only_main_process", True, False),
    ("log_on_workers", [1, 2], []),
    ("rank", 3, 0),
    ("log_freq", "epoch", 1),
    ("default_path_exists", "clear", "continue"),
    ("manual_flush", True, False),
    ("flush_seconds", 5.0, 0),
    ("basic_logging_params", {"level": "INFO"}, {}),
    ("strict", True, False),
    ("debug", True, False),
    ("system_metrics_seconds", 5.0, None),
    ("logdir", "/tmp/somewhere", None),
]


@pytest.mark.parametrize(("name", "above", "below"), VALUES, ids=[value[0] for value in VALUES])
def test_a_setting_below_wins_also_when_it_is_false_empty_or_none(name: str, above: Any, below: Any) -> None:
    whole = settings(**{name: below}).over(settings(**{name: above}).over(DEFAULTS))

    assert getattr(whole, name) == getattr(settings(**{name: below}), name)
    assert getattr(whole, name) != getattr(settings(**{name: above}), name)


@pytest.mark.parametrize(("name", "above", "below"), VALUES, ids=[value[0] for value in VALUES])
def test_a_setting_that_is_not_given_comes_from_above(name: str, above: Any, below: Any) -> None:
    for given in (above, below):
        whole = settings().over(settings(**{name: given}).over(DEFAULTS))

        assert getattr(whole, name) == getattr(settings(**{name: given}), name)


def test_laying_settings_over_others_changes_neither() -> None:
    above, below = settings(csv_writer_params={"filter": "a"}), settings(csv_writer_params={"exclude": "b"})

    below.over(above)

    assert above.writer_params == {"csv": {"filter": "a"}}
    assert below.writer_params == {"csv": {"exclude": "b"}}


def test_parameters_of_writers_are_merged_key_by_key_and_output_by_output() -> None:
    root = settings(hdf_writer_params={"filter": "a", "exclude": "b"}, csv_writer_params={"filter": "c"})
    middle = settings(hdf_writer_params={"exclude": None}, console_writer_params={"scope": "d"})
    leaf = settings(hdf_writer_params={"filter": "e"})

    assert leaf.over(middle.over(root)).writer_params == {
        "hdf": {"filter": "e", "exclude": None},
        "csv": {"filter": "c"},
        "console": {"scope": "d"},
    }


def test_none_and_an_empty_dict_of_parameters_leave_those_from_above() -> None:
    root = settings(csv_writer_params={"filter": "a"})

    assert settings(csv_writer_params=None).over(root).writer_params == {"csv": {"filter": "a"}}
    assert settings(csv_writer_params={}).over(root).writer_params == {"csv": {"filter": "a"}}


def test_the_dict_that_was_given_may_be_changed_afterwards() -> None:
    params = {"filter": "a"}
    made = settings(csv_writer_params=params)

    params["filter"] = "b"

    assert made.writer_params == {"csv": {"filter": "a"}}


def test_settings_that_nobody_gave_have_the_documented_defaults() -> None:
    assert DEFAULTS.logdir is None
    assert DEFAULTS.default_outputs == ("hdf",)
    assert DEFAULTS.writer_params == {}
    assert DEFAULTS.log_only_main_process is False
    assert DEFAULTS.log_on_workers is None
    assert DEFAULTS.log_freq == 1
    assert DEFAULTS.default_path_exists == "continue"
    assert DEFAULTS.manual_flush is False
    assert DEFAULTS.flush_seconds == 1.0
    assert DEFAULTS.basic_logging_params == {}
    assert DEFAULTS.strict is False
    assert DEFAULTS.debug is False
    assert DEFAULTS.system_metrics_seconds is None


def test_the_scopes_above_are_listed_from_the_root_down() -> None:
    assert scopes_above("a.b") == ["root", "root.a", "root.a.b"]
    assert scopes_above("root") == ["root"]


# -------------------------------------------------------------------------------------------------------- unknown names


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ({"log_frequency": 1}, "log_freq"),
        ({"log_dir": "x"}, "logdir"),
        ({"csv_writer_param": {}}, "csv_writer_params"),
        ({"tensorbord_writer_params": {}}, "tensorboard_writer_params"),
        ({"mine_writer_parms": {}}, "mine_writer_params"),
        ({"default_outputs": ["tensorbord"]}, "tensorboard"),
        ({"default_outputs": ["hdf", "CSV"]}, "csv"),
        ({"default_path_exists": "clera"}, "clear"),
        ({"default_path_exists": "uniq"}, "unique"),
    ],
    ids=str,
)
def test_an_unknown_name_is_refused_with_the_one_that_was_meant(given: dict[str, Any], meant: str) -> None:
    with pytest.raises(UnknownName, match=f"did you mean '{meant}'"):
        settings(**given)


def test_stdout_is_another_name_of_the_console() -> None:
    assert output_of("stdout") == "console"
    assert settings(default_outputs=["stdout", "console"]).default_outputs == ("console",)
    assert settings(stdout_writer_params={"filter": "a"}).writer_params == {"console": {"filter": "a"}}


def test_parameters_under_both_names_of_the_console_are_both_used() -> None:
    both = settings(stdout_writer_params={"filter": "a"}, console_writer_params={"exclude": "b"})

    assert both.writer_params == {"console": {"filter": "a", "exclude": "b"}}


# --------------------------------------------------------------------------------------------------------- wrong values


class Odd:
    """Not what any setting wants."""

    def __repr__(self) -> str:
        return "<odd>"


@pytest.mark.parametrize(
    ("name", "value", "shown", "fix"),
    [
        ("logdir", 7, "7", "path"),
        ("logdir", "", "''", "folder"),
        ("logdir", "a\0b", r"'a\x00b'", "folder"),
        ("default_outputs", "hdf", "'hdf'", r"\['hdf'\] instead of"),
        ("default_outputs", 3, "3", "list of names"),
        ("default_outputs", [1], r"\[1\]", "list of names"),
        ("csv_writer_params", "filter", "'filter'", "dict"),
        ("csv_writer_params", [("filter", "a")], "filter", "dict"),
        ("csv_writer_params", {"filter": 3}, "3", "regular expression"),
        ("csv_writer_params", {"exclude": Odd()}, "<odd>", "regular expression"),
        ("csv_writer_params", {"scope": re.compile(b"a")}, "b'a'", "regular expression"),
        ("csv_writer_params", {"flush_seconds": "1"}, "'1'", "seconds"),
        ("csv_writer_params", {"min_time_diff_btw_disc_writes": -1}, "-1", "0 or more"),
        ("log_only_main_process", 1, "1", "True or False"),
        ("log_only_main_process", "no", "'no'", "True or False"),
        ("log_only_main_process", None, "None", "True or False"),
        ("log_on_workers", "0", "'0'", "-1 for all"),
        ("log_on_workers", 1.5, "1.5", "rank"),
        ("log_on_workers", [0, "1"], r"\[0, '1'\]", "ranks"),
        ("log_on_workers", [-2], "-2", "0 or more"),
        ("log_on_workers", True, "True", "rank"),
        ("log_on_workers", None, "None", "rank"),
        ("rank", -1, "-1", "0 or more"),
        ("rank", "1", "'1'", "int"),
        ("rank", True, "True", "int"),
        ("log_freq", 0, "0", "1 or more"),
        ("log_freq", -3, "-3", "1 or more"),
        ("log_freq", 1.5, "1.5", "int"),
        ("log_freq", "batches", "'batches'", "'batch' or 'epoch'"),
        ("log_freq", True, "True", "int"),
        ("log_freq", None, "None", "int"),
        ("default_path_exists", None, "None", "continue"),
        ("default_path_exists", 1, "1", "continue"),
        ("manual_flush", "yes", "'yes'", "True or False"),
        ("flush_seconds", "1", "'1'", "seconds"),
        ("flush_seconds", -0.1, "-0.1", "0 or more"),
        ("flush_seconds", float("nan"), "nan", "seconds"),
        ("flush_seconds", float("inf"), "inf", "seconds"),
        ("flush_seconds", True, "True", "seconds"),
        ("flush_seconds", None, "None", "seconds"),
        ("basic_logging_params", "INFO", "'INFO'", "dict"),
        ("strict", "", "''", "True or False"),
        ("debug", 0, "0", "True or False"),
        ("system_metrics_seconds", 0, "0", "above 0, or None"),
        ("system_metrics_seconds", -1, "-1", "above 0"),
        ("system_metrics_seconds", "1", "'1'", "seconds"),
        ("system_metrics_seconds", True, "True", "seconds"),
        ("system_metrics_seconds", float("inf"), "inf", "seconds"),
        ("system_metrics_seconds", float("nan"), "nan", "seconds"),
    ],
    ids=lambda value: value if isinstance(value, str) else repr(value),
)
def test_a_wrong_value_is_named_and_the_fix_is_said(name: str, value: Any, shown: str, fix: str) -> None:
    with pytest.raises(ConfigError) as caught:
        settings(**{name: value})

    message = str(caught.value)
    what = name.removesuffix("_writer_params")
    assert what in message
    assert re.search(shown if "\\" in shown and "x00" not in shown else re.escape(shown), message), message
    assert re.search(fix, message), message


@pytest.mark.parametrize("value", [0, 1, 2.5, np.float32(0.5), np.int64(3)], ids=repr)
def test_seconds_may_be_any_real_number(value: Any) -> None:
    assert settings(flush_seconds=value).flush_seconds == float(value)


@pytest.mark.parametrize(
    ("value", "ranks"),
    [
        (-1, None),
        (0, {0}),
        (np.int64(2), {2}),
        ([0, 2], {0, 2}),
        ((1,), {1}),
        ({3, 4}, {3, 4}),
        (range(2), {0, 1}),
        ((rank for rank in (0, 5)), {0, 5}),
        (np.array([1, 2]), {1, 2}),
        ([], set()),
        ([0, -1], None),
    ],
    ids=shown,
)
def test_ranks_may_be_one_all_or_any_iterable(value: Any, ranks: set[int] | None) -> None:
    assert settings(log_on_workers=value).log_on_workers == ranks


@pytest.mark.parametrize(
    ("spelling", "policy"),
    [
        ("continue", "continue"),
        ("c", "continue"),
        ("clear", "clear"),
        ("cl", "clear"),
        ("abort", "abort"),
        ("a", "abort"),
        ("ask", "ask"),
        ("unique", "unique"),
        ("Continue", "continue"),
        ("CL", "clear"),
    ],
)
def test_what_to_do_with_an_existing_logdir_has_long_and_short_names(spelling: str, policy: str) -> None:
    assert settings(default_path_exists=spelling).default_path_exists == policy


def test_a_logdir_is_absolute_and_knows_the_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)

    assert settings(logdir="~/runs").logdir == tmp_path / "runs"
    assert settings(logdir="runs/a").logdir == tmp_path / "runs" / "a"
    assert settings(logdir=Path("runs")).logdir == tmp_path / "runs"


# ---------------------------------------------------------------------------------------------------------- flush times


def test_a_writer_may_have_its_own_flush_time_under_either_name() -> None:
    whole = settings(flush_seconds=2, csv_writer_params={"min_time_diff_btw_disc_writes": 7}).over(DEFAULTS)

    assert flush_seconds_of("csv", whole) == 7.0
    assert flush_seconds_of("hdf", whole) == 2.0
    assert flush_seconds_of("hdf", DEFAULTS) == 1.0
    assert flush_seconds_of("csv", settings(csv_writer_params={"flush_seconds": 0}).over(whole)) == 0.0


def test_the_old_name_of_the_flush_time_lies_over_the_new_one_from_above() -> None:
    root = settings(csv_writer_params={"flush_seconds": 2})
    leaf = settings(csv_writer_params={"min_time_diff_btw_disc_writes": 7})

    assert flush_seconds_of("csv", leaf.over(root)) == 7.0


# -------------------------------------------------------------------------------------------------------------- filters


@pytest.mark.parametrize(
    ("params", "scope", "key", "is_kept"),
    [
        ({}, "root.a", "anything", True),
        ({"filter": "loss"}, "root.a", "train/loss", True),
        ({"filter": "^loss"}, "root.a", "train/loss", False),
        ({"filter": "a"}, "root.a", "b", False),
        ({"filter": ""}, "root", "", True),
        ({"exclude": "loss"}, "root.a", "train/loss", False),
        ({"exclude": "loss"}, "root.a", "accuracy", True),
        ({"filter": "loss", "exclude": "train"}, "root.a", "train/loss", False),
        ({"filter": "loss", "exclude": "train"}, "root.a", "eval/loss", True),
        ({"scope": r"^agent\.critic$"}, "root.agent.critic", "x", True),
        ({"scope": "critic"}, "root.agent.critic.head", "x", True),
        ({"scope": "^critic"}, "root.agent.critic", "x", False),
        ({"scope": "^root$"}, "root", "x", True),
        ({"scope": "agent", "filter": "loss"}, "root.agent", "x", False),
        ({"filter": None, "exclude": None, "scope": None}, "root.a", "x", True),
        ({"filter": re.compile("LOSS", re.IGNORECASE)}, "root.a", "loss", True),
        ({"filter": r"\n"}, "root.a", "two\nlines", True),
    ],
    ids=str,
)
def test_a_filter_searches_keys_and_scopes_and_exclude_wins(
    params: dict[str, Any], scope: str, key: str, is_kept: bool
) -> None:
    assert Filter("csv", params).keeps(scope, key) is is_kept


@pytest.mark.parametrize(
    ("pattern", "position"), [("loss(", 4), ("*", 0), ("[a", 0), ("a(?P<n>b)(?P<n>c)", 13), ("(?<=a+)b", None)]
)
@pytest.mark.parametrize("name", ["filter", "exclude", "scope"])
def test_a_bad_regex_is_refused_and_shows_where(name: str, pattern: str, position: int | None) -> None:
    with pytest.raises(ConfigError) as caught:
        settings(hdf_writer_params={name: pattern})

    first, *lines = str(caught.value).split("\n")
    assert name in first
    assert "hdf" in first
    assert pattern in str(caught.value)
    if position is not None:
        assert lines[-2].endswith(pattern)
        assert lines[-1].index("^") - lines[-2].index(pattern) == position


def test_a_filter_knows_which_of_its_patterns_ever_matched() -> None:
    made = Filter("csv", {"filter": "loss", "exclude": "never", "scope": "agent"})

    made.keeps("root.agent", "loss")

    assert made.hits == {"filter='loss'": True, "exclude='never'": False, "scope='agent'": True}


def test_unset_is_no_value() -> None:
    assert settings().logdir is UNSET
    assert settings(logdir=None).logdir is None
