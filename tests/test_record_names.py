"""Do two scopes ever meet under one name, and is every scope found again by its names?"""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from allogger.record import full_key, hdf_path, normal_scope, split_full_key, split_hdf_path

# Made of the parts that have a meaning, so that they often come together.
SCOPES = st.lists(st.sampled_from(["root", "", ".", "a", "/", "%", "@", "..", "%2E"]) | st.text(max_size=3), max_size=6)


@pytest.mark.parametrize(
    ("scope", "normal"),
    [
        ("root.root", "root"),
        ("root.root.root", "root"),
        ("root.", "root"),
        ("root.root.", "root"),
        ("root.root.x", "root.x"),
        ("rooted", "root.rooted"),
        ("a.root", "root.a.root"),
        ("root.rooted", "root.rooted"),
        (".", "root.."),
    ],
)
def test_the_prefix_may_be_given_any_number_of_times(scope: str, normal: str) -> None:
    assert normal_scope(scope) == normal


@given(SCOPES.map("".join) | SCOPES.map(".".join))
@example("root.root")
@example("root.")
@example("root.root.x")
def test_a_scope_is_found_again_by_its_names(scope: str) -> None:
    normal = normal_scope(scope)

    assert normal_scope(normal) == normal
    assert normal_scope(f"root.{scope}") == normal
    assert split_full_key(full_key(scope, "k/x")) == (normal, "k/x")
    assert split_hdf_path(hdf_path("scalar", scope, "k/x")) == ("scalar", normal, "k/x", "MainProcess")


@given(SCOPES.map(".".join), SCOPES.map(".".join))
@example("root.root", "root")
@example("root.root.x", "x")
@example("a/b", "a%2Fb")
def test_two_scopes_have_the_same_names_only_if_they_are_the_same(one: str, other: str) -> None:
    is_same = normal_scope(one) == normal_scope(other)

    assert (full_key(one, "k") == full_key(other, "k")) == is_same
    assert (hdf_path("scalar", one, "k") == hdf_path("scalar", other, "k")) == is_same
