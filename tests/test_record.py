"""Record: no two series ever meet under one name, no name leads out of its folder, and batches keep their order."""

from __future__ import annotations

import os
import re
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from allogger.record import (
    MAIN_PROCESS,
    Batch,
    file_name,
    full_key,
    hdf_path,
    normal_scope,
    split_full_key,
    split_hdf_path,
)
from allogger.testing import Row, batch_of
from allogger.testing.rows import ODD_NAMES
from allogger.testing.strategies import batches

# What has a meaning in one of the names is tried often; surrogates and NUL are characters like others.
TEXT = (
    st.text(st.characters(codec=None), max_size=12)
    | st.text("%/.@~_vh02rot\0\ud800\n", max_size=8)
    | st.sampled_from([*ODD_NAMES, "%_", "%v", "%v2", "a%v2", "root.root", "root.", "root.a", "%2F", "\udcff" * 3])
)
KINDS = st.sampled_from(["scalar", "text", "my_kind"]) | TEXT
LONG = ["x" * 10_000, "%" * 10_000, "/" * 10_000, "../" * 3_000, "é" * 10_000, "\ud800" * 10_000]


# --------------------------------------------------------------------------------------------------------------- scopes


@given(TEXT)
def test_a_scope_has_one_normal_form(scope: str) -> None:
    normal = normal_scope(scope)

    assert normal == "root" or normal.startswith("root.")
    assert normal_scope(normal) == normal
    assert normal_scope(f"root.{scope}") == normal


@pytest.mark.parametrize("scope", ["", "root", "root.", "root.root", "root.root."])
def test_what_is_nothing_but_root_is_the_root(scope: str) -> None:
    assert normal_scope(scope) == "root"


# ------------------------------------------------------------------------------------------------------------ full keys


@given(TEXT, TEXT)
def test_a_full_key_gives_its_scope_and_key_back(scope: str, key: str) -> None:
    assert split_full_key(full_key(scope, key)) == (normal_scope(scope), key)


@pytest.mark.parametrize("long", LONG)
def test_long_names_have_full_keys_and_paths_that_go_back(long: str) -> None:
    assert split_full_key(full_key(long, long)) == (normal_scope(long), long)
    assert split_hdf_path(hdf_path("scalar", long, long, long)) == ("scalar", normal_scope(long), long, long)


def test_a_child_of_the_root_that_is_called_root_does_not_get_the_keys_of_another() -> None:
    names = [full_key(scope, "loss") for scope in ("root", "root.root.x", "x")]

    assert names == ["root/loss", "x/loss", "x/loss"]
    assert normal_scope("root.root.x") == normal_scope("x")


# ----------------------------------------------------------------------------------------------------------- HDF5 paths


@given(KINDS, TEXT, TEXT, TEXT, st.none() | st.integers(-1, 99))
def test_an_hdf_path_gives_its_names_back(kind: str, scope: str, key: str, process: str, variant: int | None) -> None:
    path = hdf_path(kind, scope, key, process, variant)

    assert split_hdf_path(path) == (kind, normal_scope(scope), key, process)


@given(KINDS, TEXT, TEXT, TEXT)
def test_every_part_of_an_hdf_path_is_a_name_of_its_own_group(kind: str, scope: str, key: str, process: str) -> None:
    parts = hdf_path(kind, scope, key, process).split("/")

    assert len(parts) == 2 + len(key.split("/"))
    assert not {"", ".", ".."}.intersection(parts)
    # HDF5 ends a name at NUL and takes UTF-8 only.
    assert not re.search("[\x00-\x1f\x7f]", "".join(parts))
    "".join(parts).encode()


@given(st.tuples(KINDS, TEXT, TEXT, TEXT), st.tuples(KINDS, TEXT, TEXT, TEXT))
def test_two_series_never_have_one_hdf_path(one: tuple[str, ...], other: tuple[str, ...]) -> None:
    def named(kind: str, scope: str, key: str, process: str) -> tuple[str, ...]:
        return kind, normal_scope(scope), key, process

    assert (hdf_path(*one) == hdf_path(*other)) == (named(*one) == named(*other))  # type: ignore[arg-type,call-arg]


@given(TEXT, TEXT)
def test_variants_of_a_path_are_the_path_of_no_other_key(key: str, other: str) -> None:
    variants = {hdf_path("scalar", "main", key, variant=variant) for variant in (-1, 0, 2, 10)}

    assert len(variants) == 4
    assert hdf_path("scalar", "main", other) not in variants


def test_the_main_process_is_not_named_in_a_path() -> None:
    assert hdf_path("scalar", "main", "loss", MAIN_PROCESS) == "scalar/main/loss"
    assert split_hdf_path("scalar/main/loss")[3] == MAIN_PROCESS


@pytest.mark.parametrize(
    "path", ["", "/", "a", "scalar/main", "scalar/%FF/x", "scalar/a@/x", "%/%/%", "//", "scalar/x/%v"]
)
def test_a_path_that_we_did_not_make_gives_names_or_a_value_error(path: str) -> None:
    try:
        names = split_hdf_path(path)
    except ValueError:
        return
    assert all(isinstance(name, str) for name in names)


# ----------------------------------------------------------------------------------------------------------- file names


@given(TEXT | st.sampled_from(LONG), st.integers(20, 200))
def test_a_file_name_is_one_short_part_of_a_path_that_every_file_system_takes(name: str, limit: int) -> None:
    file = file_name(name, limit)

    assert re.fullmatch(r"[A-Za-z0-9._@+=%~-]+", file)
    assert not file.startswith(".")
    assert len(file) <= limit
    assert os.path.normpath(os.path.join("/folder", file)) == f"/folder/{file}"


@given(TEXT)
def test_a_file_name_that_is_not_cut_gives_its_name_back(name: str) -> None:
    file = file_name(name, 10**6)

    raw = re.sub(rb"%([0-9A-F]{2})", lambda m: bytes.fromhex(m[1].decode()), file.encode())
    assert name == ("" if file == "%_" else raw.decode("utf-8", "surrogatepass"))


@given(TEXT, TEXT, st.integers(20, 60))
def test_two_names_never_have_one_file_name(one: str, other: str, limit: int) -> None:
    assert (file_name(one, limit) == file_name(other, limit)) == (one == other)


def test_long_names_that_differ_at_the_end_only_have_different_file_names() -> None:
    names = {file_name("x" * 10_000 + str(n)) for n in range(1000)}

    assert len(names) == 1000


# -------------------------------------------------------------------------------------------------------------- batches


def _as_rows(batch: Batch) -> list[tuple[Any, ...]]:
    return [(r.full_key, r.step, r.time, r.kind, repr(r.payload)) for r in batch]


@given(st.lists(batches(max_size=10), min_size=1, max_size=4))
def test_joined_batches_have_the_values_of_all_in_their_order(parts: list[Batch]) -> None:
    # The batches of one process share a table of names.
    names = [series for batch in parts for series in batch.names]
    offsets = np.cumsum([0, *(len(batch.names) for batch in parts)])
    shared = [
        Batch(names, b.series + np.uint32(at), b.code, b.step, b.time, b.bits, b.objects, b.at)
        for b, at in zip(parts, offsets, strict=False)
    ]

    assert _as_rows(Batch.join(shared)) == [row for batch in parts for row in _as_rows(batch)]
    assert len(Batch.join(shared)) == sum(map(len, parts))


@given(batches(), st.data())
def test_a_selection_keeps_the_order_of_what_it_keeps(batch: Batch, data: st.DataObject) -> None:
    rows = np.array(data.draw(st.lists(st.booleans(), min_size=len(batch.series), max_size=len(batch.series))), bool)
    objects = data.draw(st.lists(st.booleans(), min_size=len(batch.objects), max_size=len(batch.objects)))

    chosen = batch.select(rows, objects)

    keep_rows, keep_objects = iter(rows.tolist()), iter(objects)
    mine = {id(record) for record in batch.objects}
    kept = [r for r in batch if (next(keep_objects) if id(r) in mine else next(keep_rows))]
    assert _as_rows(chosen) == [(r.full_key, r.step, r.time, r.kind, repr(r.payload)) for r in kept]


@given(batches())
def test_the_halves_of_a_batch_are_the_batch(batch: Batch) -> None:
    first, second = batch.halves()

    assert _as_rows(first) + _as_rows(second) == _as_rows(batch)
    if len(batch) > 1:
        assert len(first)
        assert len(second)


def test_a_batch_of_numbers_shows_floats_ints_and_bools_as_they_are() -> None:
    batch = batch_of([Row("main", "x", 1, 0.5), Row("main", "x", 2, 2**63 - 1), Row("main", "x", 3, True)])

    assert [(type(r.payload), r.payload) for r in batch] == [(float, 0.5), (int, 2**63 - 1), (bool, True)]
    assert batch.floats.tolist() == [0.5, 2.0**63, 1.0]
