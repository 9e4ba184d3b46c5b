"""The canonical form of what is accepted, and what a data set says of itself."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from safetensors.numpy import save as save_safetensors
from safetensors.torch import save as save_torch

from tests.worker.loading.files import (
    Array,
    Load,
    Refuse,
    X,
    Y,
    allocating_at_most,
    canonical,
    npy,
    npz,
    zipped,
)
from worker.loading import load_dataset


def test_a_plain_npz(load: Load, out: Path) -> None:
    info = load(npz(inputs=X, targets=Y))
    assert info.as_dict() == {
        "num_samples": 6,
        "num_classes": 3,
        "class_counts": [1, 2, 3],
        "has_ids": False,
        "input": {"shape": [4], "dtype": "float32", "min": 0.0, "max": 23.0, "kind": "array"},
        "target": {"shape": [], "dtype": "int64", "min": 0, "max": 2, "kind": "array"},
    }
    np.testing.assert_array_equal(canonical(out), X)
    np.testing.assert_array_equal(canonical(out, "targets"), Y)
    assert sorted(p.name for p in out.iterdir()) == ["inputs.npy", "targets.npy"]


def test_token_ids_alone_are_their_own_targets(load: Load, refuse: Refuse, out: Path) -> None:
    tokens = np.array([[5, 6, 1], [7, 1, 1]], np.int32)
    for values in (tokens, tokens.astype(np.uint8), tokens[:, :1].copy()):
        for file in (npz(inputs=values, ids=["a", "b"]), save_safetensors({"inputs": values})):
            info = load(file)
            np.testing.assert_array_equal(canonical(out), values)
            np.testing.assert_array_equal(canonical(out, "targets"), values)
            assert info.target.taken_from == "inputs" and info.target.dtype == "int64"
            assert info.target.shape == info.input.shape == [values.shape[1]] and info.num_classes is None
    for no_tokens in (X, Y, tokens[..., None]):
        assert "lacks targets" in refuse(npz(inputs=no_tokens), "missing_array").detail


def test_a_packed_npz(load: Load, out: Path) -> None:
    buffer = io.BytesIO()
    np.savez_compressed(buffer, inputs=X, targets=Y)
    load(buffer.getvalue(), "npz")
    np.testing.assert_array_equal(canonical(out), X)


def test_a_safetensors_file(load: Load, out: Path) -> None:
    info = load(save_safetensors({"inputs": X, "targets": Y, "ids": np.arange(6)}, {"made": "here"}))
    assert info.has_ids and info.num_classes == 3
    np.testing.assert_array_equal(canonical(out), X)
    assert canonical(out, "ids").tolist() == ["0", "1", "2", "3", "4", "5"]


def test_bfloat16_in_safetensors(load: Load, out: Path) -> None:
    import torch

    x = torch.randn(6, 4).bfloat16()
    load(save_torch({"inputs": x, "targets": torch.tensor(Y)}))
    np.testing.assert_array_equal(canonical(out), x.float().numpy())


@pytest.mark.parametrize(
    ("shape", "kept", "kind"),
    [
        ((6, 8, 9), (8, 9, 1), "image"),
        ((6, 8, 9, 1), (8, 9, 1), "image"),
        ((6, 8, 9, 3), (8, 9, 3), "image"),
        ((6, 8, 9, 4), (8, 9, 4), "image"),
        ((6, 3, 8, 9), (8, 9, 3), "image"),
        ((6, 1, 8, 9), (8, 9, 1), "image"),
        ((6, 5, 8, 9), (5, 8, 9), "array"),
        ((6, 8), (8,), "array"),
        ((6,), (1,), "array"),
    ],
)
def test_uint8_images_end_in_their_channels(
    load: Load,
    out: Path,
    shape: tuple[int, ...],
    kept: tuple[int, ...],
    kind: str,
) -> None:
    x = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    info = load(npz(inputs=x, targets=Y))
    assert (tuple(info.input.shape), info.input.dtype, info.input.kind) == (kept, "uint8", kind)
    channels_first = len(shape) == 4 and shape[3] not in (1, 3, 4) and shape[1] in (1, 3, 4)
    want = np.moveaxis(x, 1, -1) if channels_first else x.reshape(6, *kept)
    np.testing.assert_array_equal(canonical(out), want)


def test_float_images_begin_with_their_channels(load: Load) -> None:
    assert load(npz(inputs=np.zeros((6, 3, 8, 9)), targets=Y)).input.kind == "image"
    assert load(npz(inputs=np.zeros((6, 8, 9)), targets=Y)).input.kind == "array"


@pytest.mark.parametrize(
    ("given_dtype", "kept"),
    [
        ("float16", "float32"),
        ("float64", "float32"),
        (">f8", "float32"),
        ("int8", "int64"),
        ("uint16", "int64"),
        (">i4", "int64"),
        ("uint64", "int64"),
        ("uint8", "uint8"),
        ("bool", "float32"),
    ],
)
def test_dtypes_are_converted(load: Load, out: Path, given_dtype: str, kept: str) -> None:
    x = np.array([[0, 1], [1, 5], [3, 120]]).astype(given_dtype)
    info = load(npz(inputs=x, targets=[0, 1, 0]))
    assert info.input.dtype == kept == canonical(out).dtype
    np.testing.assert_array_equal(canonical(out), x)
    assert (info.input.min, info.input.max) == (x.min(), x.max())


@pytest.mark.parametrize(
    ("targets", "kept", "num_classes"),
    [
        (Y.astype(np.uint8), "int64", 3),
        (Y.astype(bool), "int64", 2),
        (Y[:, None], "int64", 3),
        (Y - 1, "int64", None),
        (Y.astype(float), "float32", None),
        (Y[:, None].astype(float), "float32", None),
        (np.stack([Y, Y], 1), "int64", None),
        (Y * 10**12, "int64", None),
    ],
)
def test_targets_are_labels_where_they_can_be(
    load: Load, out: Path, targets: Array, kept: str, num_classes: int | None
) -> None:
    info = load(npz(inputs=X, targets=targets))
    assert (info.target.dtype, info.num_classes) == (kept, num_classes)
    want = targets[:, 0] if targets.shape == (6, 1) and kept == "int64" else targets
    np.testing.assert_array_equal(canonical(out, "targets"), want)
    assert info.target.shape == list(want.shape[1:])


def test_classes_are_counted_up_to_ten_thousand(load: Load) -> None:
    many = load(npz(inputs=X, targets=Y * 5000))
    assert (many.num_classes, many.class_counts) == (10_001, None)


def test_fortran_order_is_turned_around(load: Load, out: Path) -> None:
    x = np.random.default_rng(0).random((7, 5, 3))
    load(npz(inputs=np.asfortranarray(x), targets=np.arange(7)))
    np.testing.assert_array_equal(canonical(out), x.astype(np.float32))
    assert sorted(p.name for p in out.iterdir()) == ["inputs.npy", "targets.npy"]


@pytest.mark.parametrize("version", [(1, 0), (2, 0), (3, 0)])
def test_every_version_of_npy(load: Load, out: Path, version: tuple[int, int]) -> None:
    load(zipped({"inputs.npy": npy(X, version), "targets.npy": npy(Y, version)}))
    np.testing.assert_array_equal(canonical(out), X)


@pytest.mark.parametrize("ids", [np.array(["a", "ß", "日本"]), np.array([b"a", b"b", b"cd"]), [5, -7, 2**62]])
def test_ids_become_strings(load: Load, out: Path, ids: Any) -> None:
    assert load(npz(inputs=X[:3], targets=Y[:3], ids=ids)).has_ids
    want = [i.decode() if isinstance(i, bytes) else str(i) for i in np.asarray(ids).tolist()]
    assert canonical(out, "ids").tolist() == want


def test_arrays_larger_than_a_block_come_whole(load: Load, out: Path) -> None:
    x = np.random.default_rng(0).random((50_000, 50), dtype=np.float32)
    info = load(npz(inputs=x, targets=np.arange(50_000) % 7))
    np.testing.assert_array_equal(canonical(out), x)
    assert info.class_counts == np.bincount(np.arange(50_000) % 7).tolist()
    assert (info.input.min, info.input.max) == (x.min(), x.max())


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_whatever_the_arrays_their_values_come_through(load: Load, out: Path, data: st.DataObject) -> None:
    shape = data.draw(arrays.array_shapes(min_dims=1, max_dims=4, max_side=5))
    kind = data.draw(st.sampled_from(["float32", "float16", "int64", "int16", "bool", ">f4"]))
    elements: dict[str, Any] = {"allow_nan": False, "allow_infinity": False} if "f" in kind else {}
    x = data.draw(arrays.arrays(kind, shape, elements=elements or None))
    fortran = data.draw(st.booleans())
    writer = npz if data.draw(st.booleans()) or x.dtype.byteorder == ">" else None
    named = {"inputs": np.asfortranarray(x) if fortran and writer else x, "targets": np.arange(len(x))}
    info = load(npz(**named) if writer else save_safetensors(named))
    assert info.num_samples == info.num_classes == len(x)
    np.testing.assert_array_equal(canonical(out), x.reshape(len(x), *info.input.shape))


def test_memory_stays_small_whatever_the_file(tmp_path: Path, out: Path) -> None:
    rng = np.random.default_rng(0)
    cases: list[tuple[Any, Any]] = [
        (np.ascontiguousarray, np.savez),
        (np.asfortranarray, np.savez),
        (np.ascontiguousarray, np.savez_compressed),
    ]
    for turned, writer in cases:
        x = turned(rng.integers(0, 256, (2**14, 2**12), dtype=np.uint8))
        writer(tmp_path / "big.npz", inputs=x, targets=np.zeros(len(x), int))
        del x
        with allocating_at_most(16 * 2**20):
            load_dataset(tmp_path / "big.npz", "npz", out)
