"""Safetensors with headers that lie: data sets, checkpoints and optimizers' states."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from typing import Any

import numpy as np
from safetensors.numpy import save

from tests.hostile import good
from tests.hostile.case import READY, Case

X, Y, STATE = good.X, good.Y, good.STATE
DATA = 96 + 48  # bytes of the two arrays


def raw(header: bytes | str, data: bytes = bytes(DATA), length: int | None = None) -> bytes:
    text = header.encode() if isinstance(header, str) else header
    return struct.pack("<Q", len(text) if length is None else length) + text + data


def entry(shape: Any = (6, 4), begin: Any = 0, end: Any = 96, dtype: Any = "F32") -> dict[str, Any]:
    return {
        "dtype": dtype,
        "shape": list(shape) if isinstance(shape, tuple) else shape,
        "data_offsets": [begin, end],
    }


TARGETS = entry((6,), 96, DATA, "I64")


def _inputs(*given: Any, **told: Any) -> Callable[[], bytes]:
    """Inputs of which the header says this; good targets behind them."""
    return lambda: raw(json.dumps({"inputs": entry(*given, **told), "targets": TARGETS}))


def _entries(*, data: int = DATA, **entries: Any) -> Callable[[], bytes]:
    return lambda: raw(json.dumps(entries), bytes(data))


def _state(**changed: Any) -> Callable[[], bytes]:
    return lambda: save({name: value for name, value in {**STATE, **changed}.items() if value is not None})


def _filled(value: float) -> dict[str, Any]:
    return {"layers.0.weight": np.full((3, 4), value, np.float32)}


BROKEN = "corrupt_file"
HEADERS = [
    Case("a header of 2**63 bytes", "safetensors", lambda: raw("{}", length=2**63), "corrupt_file|unknown_format|unsafe_file"),
    Case("a header of 2**64 - 1 bytes", "safetensors", lambda: raw("{}", length=2**64 - 1), "corrupt_file"),
    Case("a header of no bytes", "safetensors", lambda: raw("", length=0), "corrupt_file"),
    Case("a header one byte longer than the file", "safetensors", lambda: raw("{}", b"", length=3), "corrupt_file"),
    Case("a header of 5 MiB", "safetensors", lambda: raw("{" + " " * (5 * 1024**2) + "}"), "unsafe_file", "header", seed=False),
    Case("50,000 tensors of nothing", "safetensors", lambda: raw(json.dumps({str(i): entry((0,), 0, 0) for i in range(50_000)}), b""), "missing_array", heavy=True, seed=False),
    Case("JSON a hundred thousand deep", "safetensors", lambda: raw('{"a":' * 100_000), BROKEN, seed=False),
    Case("lists a hundred thousand deep", "safetensors", lambda: raw('{"a":' + "[" * 100_000), BROKEN, seed=False),
    Case("JSON that is a list", "safetensors", lambda: raw("{[]}"), BROKEN),
    Case("JSON with NaN", "safetensors", lambda: raw('{"inputs": NaN, "targets": Infinity}'), BROKEN),
    Case("JSON that is no UTF-8", "safetensors", lambda: raw(b'{"\xff\xfe": 1}'), BROKEN),
    Case("a lone surrogate for a name", "safetensors", lambda: raw(json.dumps({"\ud800": entry((0,), 0, 0), "inputs": entry(), "targets": TARGETS})), "unknown_array|corrupt_file"),
    Case("a name twice", "safetensors", lambda: raw(f'{{"inputs": {json.dumps(entry())}, "inputs": {json.dumps(entry())}, "targets": {json.dumps(TARGETS)}}}'), BROKEN, "distinct"),
    Case("a key twice", "safetensors", lambda: raw('{"inputs": {"dtype": "F32", "dtype": "F64", "shape": [6, 4], "data_offsets": [0, 96]}}'), BROKEN),
    Case("a name of 100,000 characters", "safetensors", lambda: raw(json.dumps({"x" * 100_000: entry((0,), 0, 0), "inputs": entry(), "targets": TARGETS})), "unknown_array", seed=False),
    Case("a name with an escape", "safetensors", lambda: raw(json.dumps({"inputs": entry(), "targets": TARGETS, "\x1b[2J": entry((0,), 0, 0)})), "unknown_array"),
    Case("metadata that are a list", "safetensors", lambda: raw(json.dumps({"__metadata__": [1, 2], "inputs": entry(), "targets": TARGETS})), READY),
    Case("metadata a thousand deep", "safetensors", lambda: raw('{"__metadata__":' + '{"a":' * 500 + "1" + "}" * 500 + "}", b""), "missing_array"),
    Case("a number of 10,000 digits", "safetensors", lambda: raw('{"inputs": ' + "9" * 10_000 + "}"), BROKEN),
]  # fmt: skip
PLACES = [
    Case("tensors that overlap", "safetensors", _entries(inputs=entry(), targets=entry((6,), 48, 96, "I64"), data=96), BROKEN, "overlap"),
    Case("tensors in one place", "safetensors", _entries(inputs=entry((6, 2), 0, 48), targets=entry((6,), 0, 48, "I64"), data=48), BROKEN, "overlap"),
    Case("a gap", "safetensors", _entries(inputs=entry(), targets=entry((6,), 104, 152, "I64"), data=152), BROKEN, "gap"),
    Case("a gap at the start", "safetensors", _entries(inputs=entry((6, 4), 8, 104), targets=entry((6,), 104, 152, "I64"), data=152), BROKEN, "gap"),
    Case("bytes behind the tensors", "safetensors", lambda: good.GOOD["safetensors"] + bytes(100), BROKEN),
    Case("bytes that lack", "safetensors", lambda: good.GOOD["safetensors"][:-8], BROKEN),
    Case("a place beyond the file", "safetensors", _inputs(begin=2**40, end=2**40 + 96), BROKEN),
    Case("a place that ends before it begins", "safetensors", _inputs(begin=96, end=0), BROKEN, "inputs"),
    Case("a negative place", "safetensors", _inputs(begin=-96, end=0), BROKEN, "inputs"),
    Case("a place of one number", "safetensors", lambda: raw('{"inputs": {"dtype": "F32", "shape": [6, 4], "data_offsets": [0]}}'), BROKEN, "inputs"),
    Case("a place of fractions", "safetensors", _inputs(begin=0.0, end=96.0), BROKEN, "inputs"),
    Case("a place beyond 64 bits", "safetensors", _inputs(begin=0, end=2**64), BROKEN, "inputs"),
    Case("a shape that is too small", "safetensors", _inputs((6, 3)), BROKEN, "inputs"),
    Case("a shape whose product is 0 mod 2**64", "safetensors", _inputs((2**32, 2**32, 4), 0, 0), BROKEN, "inputs"),
    Case("a shape whose product is 96 mod 2**64", "safetensors", _inputs((2**61 + 3, 8)), BROKEN, "inputs"),
    Case("a negative shape", "safetensors", _inputs((-6, -4)), BROKEN, "inputs"),
    Case("a shape of flags", "safetensors", _inputs([True, True], 0, 4), BROKEN, "inputs"),
    Case("a shape of text", "safetensors", _inputs(["6", "4"]), BROKEN, "inputs"),
    Case("a shape that is a number", "safetensors", _inputs(24), BROKEN, "inputs"),
    Case("a shape of 5,000 axes", "safetensors", _inputs((1,) * 5000, 0, 4), BROKEN, "inputs", seed=False),
    Case("a shape of 32 axes", "safetensors", _entries(inputs=entry((1,) * 32, 0, 4), targets=entry((1,), 4, 12, "I64"), data=12), "ready|shape_mismatch"),
    Case("a billion samples of nothing", "safetensors", _entries(inputs=entry((10**9, 0), 0, 0), targets=entry((10**9, 0), 0, 0), data=0), "shape_mismatch", "no values"),
    Case("a single value", "safetensors", _entries(inputs=entry((), 0, 4), targets=entry((), 4, 8), data=8), "shape_mismatch", "inputs"),
    Case("a type of none", "safetensors", _inputs(dtype="F8_E4M3"), "unsupported_dtype", "inputs"),
    Case("a type that is a number", "safetensors", _inputs(dtype=7), "unsupported_dtype", "inputs"),
    Case("a type that is a list", "safetensors", _inputs(dtype=["F32"]), "unsupported_dtype", "inputs"),
    Case("a type of twice the bytes", "safetensors", _inputs(dtype="F64"), BROKEN, "inputs"),
    Case("one entry too many", "safetensors", lambda: raw(json.dumps({"inputs": {**entry(), "path": "/etc/passwd"}})), BROKEN, "inputs"),
    Case("an entry that is null", "safetensors", lambda: raw('{"inputs": null}'), BROKEN, "inputs"),
    Case("NaN", "safetensors", lambda: save({"inputs": X * np.nan, "targets": Y}), "non_finite", "/inputs/0"),
    Case("integers beyond 63 bits", "safetensors", lambda: save({"inputs": np.full((6, 4), 2**64 - 1, np.uint64), "targets": Y}), "out_of_range", "inputs"),
    Case("half precision beyond any", "safetensors", lambda: save({"inputs": np.full((6, 4), np.inf, np.float16), "targets": Y}), "non_finite", "inputs"),
    Case("flags that are neither", "safetensors", lambda: raw(json.dumps({"inputs": entry((6, 16), dtype="BOOL"), "targets": TARGETS}), b"\x7f" * DATA), READY),
]  # fmt: skip
RUNS = [
    Case("a header of 2**40 bytes", "checkpoint", lambda: raw("{}", length=2**40), "corrupt_file"),
    Case("tensors that overlap", "checkpoint", lambda: raw(json.dumps({"a": entry(), "b": entry()}), bytes(96)), BROKEN, "overlap"),
    Case("NaN", "checkpoint", _state(**_filled(np.nan)), "non_finite", "layers.0.weight"),
    Case("infinity", "checkpoint", _state(**_filled(np.inf)), "non_finite", "layers.0.weight"),
    Case("a tensor too many", "checkpoint", _state(evil=np.zeros(3, np.float32)), "invalid_checkpoint", "evil"),
    Case("a tensor that lacks", "checkpoint", _state(**{"layers.1.bias": None}), "invalid_checkpoint", "layers.1.bias"),
    Case("a tensor of another shape", "checkpoint", _state(**{"layers.1.bias": np.zeros((3, 1), np.float32)}), "invalid_checkpoint", "layers.1.bias"),
    Case("a tensor of integers", "checkpoint", _state(**{"layers.1.bias": np.zeros(3, np.int64)}), "invalid_checkpoint", "layers.1.bias"),
    Case("numbers beyond float32", "checkpoint", _state(**{"layers.1.bias": np.full(3, 1e300)}), "out_of_range", "layers.1.bias"),
    Case("names that are methods", "checkpoint", _state(__class__=np.zeros(3, np.float32), forward=np.zeros(3, np.float32)), "invalid_checkpoint", "__class__"),
    Case("50,000 tensors too many", "checkpoint", lambda: raw(json.dumps({str(i): entry((0,), 0, 0) for i in range(50_000)}), b""), "invalid_checkpoint", "more", heavy=True, seed=False),
    Case("a name that is a path", "checkpoint", _state(**{"../../etc/passwd": np.zeros(3, np.float32)}), "invalid_checkpoint", "passwd"),
    Case("no tensors", "checkpoint", lambda: raw("{}", b""), "invalid_checkpoint|corrupt_file"),
    Case("an index of many files", "checkpoint", lambda: json.dumps({"metadata": {}, "weight_map": {"a": "../x.safetensors"}}).encode(), "corrupt_file"),
    Case("negative squares", "optimizer_state", lambda: save({f"exp_avg_sq.{name}": -value for name, value in STATE.items()}), "out_of_range", "exp_avg_sq"),
    Case("no state", "optimizer_state", lambda: save({"x": X}), "missing_array"),
    Case("a state of some parameters", "optimizer_state", lambda: save({"exp_avg.layers.0.weight": STATE["layers.0.weight"]}), "invalid_checkpoint", "layers.1.bias"),
    Case("NaN", "optimizer_state", lambda: save({f"exp_avg.{name}": value * np.nan for name, value in STATE.items()}), "non_finite", "exp_avg"),
    Case("numbers beyond float32", "optimizer_state", lambda: save({f"exp_avg_sq.{name}": np.full(value.shape, 1e300) for name, value in STATE.items()}), "out_of_range", "exp_avg_sq"),
    Case("a header of 2**40 bytes", "optimizer_state", lambda: raw("{}", length=2**40), "corrupt_file"),
]  # fmt: skip
CASES = [*HEADERS, *PLACES, *RUNS]
