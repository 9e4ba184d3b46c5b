"""A batch order is integers [steps, batch] in any of three formats, or is refused with a reason."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save

from tests.worker.loading.files import Array, allocating_at_most, header, npy, npz
from worker.loading import LoadError, OrderInfo, load_batch_order

ORDER = np.array([[3, 1, 2], [0, 4, -1]], dtype=np.int64)
Accept = Callable[[bytes], OrderInfo]
Refuse = Callable[[bytes, str], LoadError]


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "canonical.npy"


@pytest.fixture
def accept(tmp_path: Path, out: Path) -> Accept:
    def accept_bytes(data: bytes) -> OrderInfo:
        path = tmp_path / "upload"
        path.write_bytes(data)
        return load_batch_order(path, out, tmp_path)

    return accept_bytes


@pytest.fixture
def refuse(accept: Accept, out: Path) -> Refuse:
    """Loads an order, which must be refused with nothing left behind."""

    def refuse_bytes(data: bytes, code: str) -> LoadError:
        with pytest.raises(LoadError) as refused:
            accept(data)
        assert refused.value.code == code, refused.value.detail
        assert not out.exists()
        return refused.value

    return refuse_bytes


@pytest.mark.parametrize(
    "data",
    [
        npy(ORDER),
        npy(np.asfortranarray(ORDER)),
        npy(ORDER.astype(">i4")),
        npy(ORDER.astype(np.int16), (2, 0)),
        npz(batch_order=ORDER),
        npz(batch_order=np.asfortranarray(ORDER), other=np.zeros(3)),
        save({"batch_order": ORDER.astype(np.int32)}),
    ],
    ids=["npy", "fortran", "big endian", "npy 2.0", "npz", "fortran npz", "safetensors"],
)
def test_an_order_comes_through_in_any_format(accept: Accept, out: Path, data: bytes) -> None:
    assert accept(data) == OrderInfo(steps=2, batch=3, largest=4)
    kept: Array = np.load(out, allow_pickle=False)
    assert kept.dtype == np.int64
    np.testing.assert_array_equal(kept, ORDER)


def test_unsigned_rows_have_no_need_of_fillers(accept: Accept) -> None:
    assert accept(npy(np.array([[0, 1]], dtype=np.uint8))).largest == 1


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (npy(ORDER.astype(np.float64)), "unsupported_dtype"),
        (npy(ORDER.ravel()), "shape_mismatch"),
        (npy(np.zeros((0, 3), dtype=int)), "shape_mismatch"),
        (npy(np.zeros((2, 0), dtype=int)), "shape_mismatch"),
        (npy(ORDER - 1), "out_of_range"),
        (npy(np.array([[2**63]], dtype=np.uint64)), "out_of_range"),
        (npy(ORDER)[:-1], "corrupt_file"),
        (npy(ORDER) + b"\0", "corrupt_file"),
        (header("{'descr': '<i8', 'fortran_order': False, 'shape': (1000000, 1000000), }\n"), "corrupt_file"),
        (npy(np.array([[1, "x"]], dtype=object)), "unsafe_file"),
        (npz(order=ORDER), "missing_array"),
        (save({"order": ORDER}), "missing_array"),
        (pickle.dumps(ORDER), "unsafe_file"),
        (b"step,rows\n0,1\n", "unknown_format"),
        (b"", "empty_file"),
    ],
)
def test_what_is_no_order_is_refused(refuse: Refuse, data: bytes, code: str) -> None:
    refuse(data, code)


def test_a_step_without_a_sample_is_named(refuse: Refuse) -> None:
    empty = np.array([[0, 1], [-1, -1]])
    error = refuse(npy(empty), "out_of_range")
    assert "step 1" in error.detail
    assert error.errors == [{"pointer": "/batch_order/1", "detail": "names no sample"}]


def test_a_long_order_is_read_in_pieces(accept: Accept) -> None:
    order = np.zeros((200_000, 64), dtype=np.int64)  # 102 MB
    order[-1, -1] = 7
    data = npy(order)
    with allocating_at_most(50 * 1024**2):
        assert accept(data) == OrderInfo(steps=200_000, batch=64, largest=7)
