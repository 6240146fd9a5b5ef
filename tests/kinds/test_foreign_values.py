"""Do the values of torch, pandas, jax, polars and Pillow arrive exactly?"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from allogger.kinds.array import ArrayKind
from allogger.plain import Approximate, Unstorable, plain

INSTALL = "not installed here, and no dependency of allogger"


def same(found: Any, expected: Any) -> bool:
    return (
        type(found) is np.ndarray
        and found.dtype == expected.dtype
        and found.shape == expected.shape
        and np.array_equal(found, expected)
    )


class TestTorch:
    @pytest.fixture(autouse=True)
    def _torch(self) -> None:
        self.torch = pytest.importorskip("torch", reason=INSTALL)

    @pytest.mark.parametrize(
        "name",
        [
            *("bool", "uint8", "uint16", "uint32", "uint64", "int8", "int16", "int32", "int64"),
            *("float16", "float32", "float64", "complex64", "complex128"),
        ],
    )
    def test_dtypes_that_numpy_knows_are_kept(self, name: str) -> None:
        tensor = self.torch.tensor([[0, 1, 1], [1, 0, 1]]).to(getattr(self.torch, name))

        assert same(plain(tensor), np.array([[0, 1, 1], [1, 0, 1]], name))

    @pytest.mark.parametrize(
        ("name", "dtype"),
        [("bfloat16", "f4"), ("float8_e4m3fn", "f4"), ("float8_e5m2", "f4"), ("complex32", "c8")],
    )
    @pytest.mark.filterwarnings("ignore:ComplexHalf:UserWarning")
    def test_dtypes_that_numpy_lacks_are_widened_exactly(self, name: str, dtype: str) -> None:
        tensor = self.torch.tensor([0.5, -1.75, 448.0]).to(getattr(self.torch, name))

        found = plain(tensor)

        assert isinstance(found, np.ndarray)
        assert found.dtype == dtype
        assert found.tolist() == tensor.to(self.torch.complex128 if dtype == "c8" else self.torch.float64).tolist()

    @pytest.mark.parametrize(
        ("value", "expected"),
        [(1.5, 1.5), (3, 3), (True, True), (1j, 1j), ([[2.0]], 2.0)],
    )
    def test_one_element_becomes_pythons_own(self, value: Any, expected: Any) -> None:
        found = plain(self.torch.tensor(value))

        assert type(found) is type(expected)
        assert found == expected

    def test_uint64_beyond_int64_says_that_it_is_rounded(self) -> None:
        assert isinstance(plain(self.torch.tensor(2**64 - 1, dtype=self.torch.uint64)), Approximate)

    def test_a_bfloat16_number_is_exact(self) -> None:
        assert plain(self.torch.tensor(0.15625, dtype=self.torch.bfloat16)) == 0.15625

    def test_as_array_keeps_a_0d_tensor_in_its_dtype(self) -> None:
        assert same(plain(self.torch.tensor(0.5), as_array=True), np.array(0.5, np.float32))

    def test_a_tensor_with_a_gradient_is_taken_without_it(self) -> None:
        weights = self.torch.nn.Parameter(self.torch.ones(2, 3))

        assert same(plain(weights), np.ones((2, 3), np.float32))
        assert plain((weights * 2).sum()) == 12.0

    def test_a_tensor_is_seen_without_a_copy_and_stored_in_one(self) -> None:
        tensor = self.torch.zeros(4)

        found = plain(tensor)
        payload, _ = ArrayKind().encode(tensor)
        tensor += 1

        assert isinstance(found, np.ndarray)
        assert isinstance(payload, np.ndarray)
        assert found.tolist() == [1.0] * 4
        assert payload.tolist() == [0.0] * 4

    def test_views_that_only_mark_conjugation_or_sign_are_resolved(self) -> None:
        tensor = self.torch.tensor([1 + 2j, 3 - 4j])

        assert same(plain(tensor.conj()), np.array([1 - 2j, 3 + 4j], np.complex64))
        assert same(plain(tensor.conj().imag), np.array([-2, 4], np.float32))

    def test_strided_views_are_kept(self) -> None:
        tensor = self.torch.arange(6).reshape(2, 3).T[::2]

        assert same(plain(tensor), np.array([[0, 3], [2, 5]]))

    @pytest.mark.filterwarnings("ignore:Sparse:UserWarning")
    def test_sparse_tensors_become_dense(self) -> None:
        dense = self.torch.tensor([[0.0, 2.0], [0.0, 0.0]])

        for sparse in (dense.to_sparse(), dense.to_sparse_csr(), dense.to(self.torch.bfloat16).to_sparse()):
            assert same(plain(sparse), np.array([[0, 2], [0, 0]], np.float32))

    @pytest.mark.parametrize("shape", [(0,), (2, 0, 3)])
    def test_empty_tensors_keep_their_shape(self, shape: tuple[int, ...]) -> None:
        assert same(plain(self.torch.zeros(shape)), np.zeros(shape, np.float32))

    def test_lists_of_tensors_are_stacked(self) -> None:
        ones = self.torch.ones(2, requires_grad=True)

        assert same(plain([ones.sum(), ones.sum()]), np.array([2, 2], np.float32))
        assert same(plain([ones, ones]), np.ones((2, 2), np.float32))

    @pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")
    @pytest.mark.parametrize("size", [1, 3])
    def test_quantized_and_meta_tensors_are_refused(self, size: int) -> None:
        quantized = self.torch.quantize_per_tensor(self.torch.ones(size), 0.1, 0, self.torch.qint8)

        for tensor in (quantized, self.torch.ones(size, device="meta")):
            with pytest.raises(Unstorable, match=r"quantized|meta"):
                plain(tensor)


class TestPandas:
    @pytest.fixture(autouse=True)
    def _pandas(self) -> None:
        self.pd = pytest.importorskip("pandas", reason=INSTALL)

    def test_series_and_index_keep_their_dtype(self) -> None:
        assert same(plain(self.pd.Series([1, 2], dtype="int16")), np.array([1, 2], np.int16))
        assert same(plain(self.pd.Index([0.5, 1.5])), np.array([0.5, 1.5]))
        assert same(plain(self.pd.Series(["a", "bc"])), np.array(["a", "bc"]))
        assert same(plain(self.pd.Series([1, 2], dtype="Int64")), np.array([1, 2]))

    def test_a_frame_is_an_array_with_one_column_each(self) -> None:
        frame = self.pd.DataFrame([[1, 0.5], [2, 1.5]], columns=["same", "same"])

        assert same(plain(frame), np.array([[1, 0.5], [2, 1.5]]))
        assert same(plain(self.pd.DataFrame(index=[1, 2])), np.zeros((2, 0)))

    def test_a_frame_that_floats_would_round_is_refused(self) -> None:
        with pytest.raises(Unstorable, match="float64"):
            plain(self.pd.DataFrame({"a": [2**53 + 1], "b": [0.5]}))

    def test_integers_are_not_rounded_because_others_are_missing(self) -> None:
        with pytest.raises(Unstorable):
            plain(self.pd.Series([2**53 + 1, None], dtype="Int64"))

    def test_a_missing_value_is_no_number(self) -> None:
        with pytest.raises(Unstorable):
            plain(self.pd.NA)

    def test_times_keep_their_nanoseconds(self) -> None:
        moment = self.pd.Timestamp("2024-01-01T00:00:00.123456789")

        assert same(plain(moment), np.array("2024-01-01T00:00:00.123456789", "M8[ns]"))
        assert same(plain(self.pd.Timedelta(1, "ns")), np.array(1, "m8[ns]"))
        assert plain(moment.tz_localize("UTC")) == "2024-01-01T00:00:00.123456789+00:00"
        assert np.isnat(plain(self.pd.NaT))


class TestJax:
    @pytest.fixture(autouse=True)
    def _jax(self) -> None:
        self.jax = pytest.importorskip("jax", reason=INSTALL)

    def test_arrays_and_numbers_arrive(self) -> None:
        jnp = self.jax.numpy

        assert plain(jnp.float32(0.5)) == 0.5
        assert same(plain(jnp.arange(4.0).reshape(2, 2)), np.array([[0, 1], [2, 3]], np.float32))
        assert same(plain(jnp.array([0.5, 3], jnp.bfloat16)), np.array([0.5, 3], np.float32))
        assert same(plain(jnp.array([1, -8], jnp.int4)), np.array([1, -8], np.int8))
        assert same(plain([jnp.float32(1), jnp.float32(2)]), np.array([1, 2], np.float32))

    def test_a_value_that_is_being_traced_is_refused(self) -> None:
        seen: list[Exception] = []

        def step(x: Any) -> Any:
            with pytest.raises(Unstorable, match="Tracer") as caught:
                plain(x)
            seen.append(caught.value)
            return x

        self.jax.jit(step)(1.0)

        assert seen


class TestOthers:
    def test_a_polars_frame_is_not_rounded(self) -> None:
        pl = pytest.importorskip("polars", reason=INSTALL)

        assert same(plain(pl.DataFrame({"a": [1, 2], "b": [0.5, 1.5]})), np.array([[1, 0.5], [2, 1.5]]))
        with pytest.raises(Unstorable, match="float64"):
            plain(pl.DataFrame({"a": [2**53 + 1], "b": [0.5]}))
        with pytest.raises(Unstorable, match="float64"):
            plain(pl.Series([2**53 + 1, None]))

    def test_a_pillow_picture_is_its_pixels(self) -> None:
        image = pytest.importorskip("PIL.Image", reason=INSTALL)
        pixels = np.arange(24, dtype=np.uint8).reshape(2, 4, 3)

        assert same(plain(image.fromarray(pixels)), pixels)
