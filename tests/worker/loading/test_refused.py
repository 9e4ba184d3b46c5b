"""Data sets that are refused: each with a code for machines and words for people."""

from __future__ import annotations

import io
import os
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save as save_safetensors

from tests.worker.loading.files import (
    Refuse,
    X,
    Y,
    header,
    npy,
    npz,
    zipped,
)


def test_an_empty_file(refuse: Refuse) -> None:
    assert "0 bytes" in refuse(b"", "empty_file").detail


@pytest.mark.parametrize(
    ("data", "code", "words"),
    [
        (b"hello, world", "unknown_format", "no kind we know"),
        (pickle.dumps({"inputs": [1]}), "unsafe_file", "pickle"),
        (npy(X), "unknown_format", "single .npy"),
        (b"\x1f\x8b" + bytes(30), "corrupt_file", "tar.gz"),
        (b"PK\x03\x04 nothing", "corrupt_file", "truncated or damaged"),
    ],
)
def test_what_is_no_data_set(refuse: Refuse, data: bytes, code: str, words: str) -> None:
    assert words in refuse(data, code).detail


def test_what_is_not_what_it_was_announced_as(refuse: Refuse) -> None:
    assert "a zip archive" in refuse(npz(inputs=X, targets=Y), "corrupt_file", "safetensors").detail
    assert "parquet" in refuse(npz(inputs=X, targets=Y) and b"PAR1" + bytes(20), "corrupt_file", "npz").detail


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9, 0.999])
def test_truncated_files(refuse: Refuse, share: float) -> None:
    for data in (npz(inputs=X, targets=Y), save_safetensors({"inputs": X, "targets": Y})):
        assert "truncated" in refuse(data[: int(len(data) * share)], "corrupt_file").detail


def test_an_object_array(refuse: Refuse) -> None:
    words = refuse(npz(inputs=np.array([{"a": 1}], dtype=object), targets=[0]), "unsafe_file").detail
    assert "pickle" in words and "np.stack" in words


def test_a_pickle_that_would_run_code_does_not(refuse: Refuse, tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self) -> tuple[Any, ...]:
            return os.mkdir, (str(tmp_path / "sprung"),)

    refuse(npz(inputs=np.array([Trap()], dtype=object), targets=[0]), "unsafe_file")
    refuse(pickle.dumps(Trap()), "unsafe_file", "npz")
    refuse(zipped({"archive/data.pkl": pickle.dumps(Trap())}), "unsafe_file")
    refuse(zipped({"inputs.npy": pickle.dumps(Trap()), "targets.npy": npy(Y)}), "corrupt_file")
    assert not (tmp_path / "sprung").exists()


def test_missing_arrays_are_named(refuse: Refuse) -> None:
    refused = refuse(npz(x=X, targets=Y), "missing_array")
    assert "lacks inputs" in refused.detail and "x, targets" in refused.detail
    assert refused.errors == [{"pointer": "/inputs", "detail": "is missing"}]
    assert len(refuse(zipped({}), "missing_array").errors) == 2


def test_extra_arrays_are_named(refuse: Refuse) -> None:
    refused = refuse(npz(inputs=X, targets=Y, weights=Y, **{"a/b~": Y}), "unknown_array")
    assert "weights" in refused.detail
    assert [error["pointer"] for error in refused.errors] == ["/weights", "/a~1b~0"]


def test_names_out_of_the_file_are_shown_in_short(refuse: Refuse) -> None:
    refused = refuse(npz(inputs=X, targets=Y, **{"\x1b[31m" + "x" * 5000: Y}), "unknown_array")
    assert len(refused.detail) < 400 and "\x1b" not in refused.detail


def test_different_numbers_of_samples(refuse: Refuse) -> None:
    assert "inputs 6, targets 5" in refuse(npz(inputs=X, targets=Y[:5]), "shape_mismatch").detail
    assert "ids 4" in refuse(npz(inputs=X, targets=Y, ids=Y[:4]), "shape_mismatch").detail


def test_no_samples_or_no_values(refuse: Refuse) -> None:
    assert "N is 0" in refuse(npz(inputs=X[:0], targets=Y[:0]), "shape_mismatch").detail
    assert "no values" in refuse(npz(inputs=X[:, :0], targets=Y), "shape_mismatch").detail
    assert "single value" in refuse(npz(inputs=np.float32(1), targets=Y), "shape_mismatch").detail


def test_very_many_samples_of_nothing(refuse: Refuse) -> None:
    text = "{'descr': '<f4', 'fortran_order': False, 'shape': (900000000000, 0), }\n"
    targets = header(text)
    refuse(zipped({"inputs.npy": targets, "targets.npy": targets}), "shape_mismatch")


def test_a_single_sample_too_large(refuse: Refuse, tmp_path: Path) -> None:
    buffer = io.BytesIO()
    np.savez(buffer, inputs=np.zeros((1, 2**25 + 1), np.uint8), targets=[0])
    refuse(buffer.getvalue(), "sample_too_large")


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("name", ["inputs", "targets"])
def test_values_that_are_not_finite_are_named_by_their_sample(
    refuse: Refuse, value: float, name: str
) -> None:
    named = {"inputs": X.copy(), "targets": Y.astype(float)}
    named[name][[3, 5]] = value
    refused = refuse(npz(**named), "non_finite")
    assert name in refused.detail and "3, 5" in refused.detail
    assert [error["pointer"] for error in refused.errors] == [f"/{name}/3", f"/{name}/5"]


def test_a_sample_beyond_the_first_block_is_named(refuse: Refuse) -> None:
    x = np.zeros((300_000, 10), np.float64)
    x[299_999, 3] = np.nan
    assert "299999" in refuse(npz(inputs=x, targets=np.zeros(300_000)), "non_finite").detail


def test_values_that_do_not_fit(refuse: Refuse) -> None:
    assert "float32" in refuse(npz(inputs=X.astype(float) * 1e300, targets=Y), "out_of_range").detail
    assert "int64" in refuse(npz(inputs=np.array([[2**63]]), targets=[0]), "out_of_range").detail


@pytest.mark.parametrize("dtype", ["complex64", "datetime64[s]", "timedelta64[s]", "S4", "<U4", "V8"])
@pytest.mark.parametrize("name", ["inputs", "targets"])
def test_other_dtypes_are_told_those_allowed(refuse: Refuse, dtype: str, name: str) -> None:
    named: dict[str, Any] = {"inputs": X, "targets": Y} | {name: np.zeros(6, dtype)}
    refused = refuse(npz(**named), "unsupported_dtype")
    assert name in refused.detail and "float32" in refused.detail


def test_records_are_refused(refuse: Refuse) -> None:
    refuse(npz(inputs=np.zeros(6, [("a", "<f4")]), targets=Y), "unsupported_dtype")


@pytest.mark.parametrize(
    ("ids", "words"),
    [
        (["a", "b", "a"], "samples 0 and 2"),
        (["a", "", "c"], "not empty"),
        (["a", "b\n", "c"], "printable"),
        ([1.5, 2.5, 3.5], "string or integer"),
        ([[1], [2], [3]], "string or integer"),
        ([b"\xff", b"a", b"b"], "Unicode"),
        (["x" * 257, "b", "c"], "256"),
    ],
)
def test_ids_that_name_no_sample(refuse: Refuse, ids: Any, words: str) -> None:
    assert words in refuse(npz(inputs=X[:3], targets=Y[:3], ids=ids), "invalid_ids").detail
