"""Arrays of numpy whose headers ask for too much, make no sense, or are programs; batch orders among them."""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any

import numpy as np

from tests.hostile import good
from tests.hostile.case import CANARY, READY, Case
from tests.worker.loading.files import header, npy, npz, zipped

X, Y, ORDER = good.X, good.Y, good.ORDER
CODE = f"__import__('os').mkdir('{CANARY}')"


def _with(inputs: bytes) -> bytes:
    return zipped({"inputs.npy": inputs, "targets.npy": npy(Y)})


def _told(
    shape: str = "(6, 4)", descr: str = "'<f4'", fortran: str = "False", version: int = 1
) -> Callable[[], bytes]:
    """Inputs of 96 bytes whose header tells this."""
    text = f"{{'descr': {descr}, 'fortran_order': {fortran}, 'shape': {shape}, }}\n"
    return lambda: _with(header(text, version) + bytes(96))


def _text(text: str, version: int = 1) -> Callable[[], bytes]:
    return lambda: _with(header(text, version) + bytes(96))


def _order(shape: str = "(2, 3)", descr: str = "'<i8'", fortran: str = "False") -> Callable[[], bytes]:
    text = f"{{'descr': {descr}, 'fortran_order': {fortran}, 'shape': {shape}, }}\n"
    return lambda: header(text) + bytes(48)


def _of(value: Any, kind: Any = np.float32) -> Callable[[], bytes]:
    return lambda: npz(inputs=np.full((6, 4), value, kind), targets=Y)


def _length(length: int, version: int = 2) -> Callable[[], bytes]:
    """A header that says it has so many bytes."""
    packed = struct.pack("<H" if version == 1 else "<I", length)
    return lambda: _with(b"\x93NUMPY" + bytes([version, 0]) + packed + b"{'descr': '<f4'}")


NONE = "corrupt_file"
SHAPES = [
    Case("a shape of 2**62", "npz", _told("(2**62,)"), NONE, "inputs"),
    Case("a shape of 4611686018427387904", "npz", _told("(4611686018427387904,)"), NONE, "inputs"),
    Case("a shape whose product is 0 mod 2**64", "npz", _told("(4294967296, 4294967296, 4)"), NONE, "inputs"),
    Case("a shape of 300 GB", "npz", _told("(300000000, 256)"), NONE, "asks for"),
    Case("a negative shape", "npz", _told("(-6, -4)"), f"{NONE}|shape_mismatch", "inputs"),
    Case("a negative shape of two axes", "npz", _told("(-1, 3)"), f"{NONE}|shape_mismatch", "negative axis"),
    Case("a shape of one negative", "npz", _told("(-1,)"), f"{NONE}|shape_mismatch", "inputs"),
    Case("a shape with a fraction", "npz", _told("(6.0, 4)"), NONE, "inputs"),
    Case("a shape of flags", "npz", _told("(True, True)"), f"{NONE}|shape_mismatch", "inputs"),
    Case("a shape that is text", "npz", _told("'64'"), NONE, "inputs"),
    Case("a shape of 1,000 axes", "npz", _told(f"({'1, ' * 1000})"), f"{NONE}|shape_mismatch", "inputs"),
    Case("a shape of 33 axes of 1", "npz", lambda: _with(header(f"{{'descr': '<f4', 'fortran_order': False, 'shape': ({'1, ' * 33}), }}\n") + bytes(4)), f"{NONE}|shape_mismatch", "inputs"),
    Case("an integer of 5,000 digits", "npz", _told(f"({'9' * 5000},)"), NONE, "inputs"),
    Case("Fortran's order, of too much", "npz", _told("(6000000, 400)", fortran="True"), NONE, "asks for"),
    Case("Fortran's order, of a million rows of nothing", "npz", _told("(1000000, 0)", fortran="True"), NONE, "inputs"),
    Case("a billion samples of nothing", "npz", lambda: zipped({f"{name}.npy": header("{'descr': '<f4', 'fortran_order': False, 'shape': (1000000000, 0), }\n") for name in ("inputs", "targets")}), "shape_mismatch", "no values"),
    Case("one sample of 2**25 + 1 values", "npz", lambda: npz(inputs=np.zeros((1, 2**25 + 1), np.uint8), targets=[0]), "sample_too_large", "inputs", seed=False),
    Case("a single value", "npz", lambda: npz(inputs=np.float32(1), targets=Y), "shape_mismatch", "inputs"),
    Case("no samples", "npz", lambda: npz(inputs=X[:0], targets=Y[:0]), "shape_mismatch"),
    Case("samples that differ in number", "npz", lambda: npz(inputs=X, targets=Y[:5]), "shape_mismatch", "inputs 6, targets 5"),
]  # fmt: skip
DTYPES = [
    Case("records", "npz", _told("(6,)", "[('a', '<f4', (4,))]"), f"unsupported_dtype|{NONE}", "inputs"),
    Case("records a hundred deep", "npz", _told("(6,)", "[('a', " * 100 + "'<f4'" + ")]" * 100), f"unsupported_dtype|{NONE}", "inputs"),
    Case("records with names that clash", "npz", _told("(6,)", "[('a', '<f4'), ('a', '<f4')]"), f"unsupported_dtype|{NONE}", "inputs"),
    Case("a type with a shape of its own", "npz", _told("(6,)", "('<f4', (4,))"), f"unsupported_dtype|{NONE}", "inputs"),
    Case("records of no bytes", "npz", _told("(6,)", "[]"), f"unsupported_dtype|{NONE}", "inputs"),
    Case("text of no characters", "npz", _told("(6,)", "'<U0'"), f"unsupported_dtype|{NONE}", "inputs"),
    Case("text of 2**29 characters", "npz", _told("(1,)", "'<U536870911'"), f"unsupported_dtype|{NONE}", "inputs"),
    Case("bytes of no kind", "npz", _told("(6,)", "'|V16'"), f"unsupported_dtype|{NONE}", "inputs"),
    Case("complex numbers", "npz", _told("(6, 2)", "'<c8'"), "unsupported_dtype", "inputs"),
    Case("times", "npz", _told("(6, 2)", "'<M8[s]'"), "unsupported_dtype", "inputs"),
    Case("times of a unit of 2**63 seconds", "npz", _told("(3, 4)", "'<M8[9223372036854775808s]'"), f"unsupported_dtype|{NONE}", "inputs"),
    Case("numbers of 128 bits", "npz", _told("(6,)", "'<f16'"), f"unsupported_dtype|{NONE}", "inputs"),
    Case("a type by name", "npz", _told("(6, 4)", "'float32, float32'"), f"unsupported_dtype|{NONE}", "inputs"),
    Case("a type that is a dictionary", "npz", _told("(6,)", "{'names': ['a'], 'formats': ['O']}"), f"unsafe_file|unsupported_dtype|{NONE}", "inputs"),
    Case("a type that is a class", "npz", _told("(6,)", "object"), NONE, "inputs"),
    Case("strings of numpy 2", "npz", _told("(6,)", "'|T16'"), f"unsafe_file|unsupported_dtype|{NONE}", "inputs"),
]  # fmt: skip
HEADERS = [
    Case("a header that is a call", "npz", _text(f"{{'descr': {CODE}, 'fortran_order': False, 'shape': (6, 4)}}\n"), NONE, "inputs"),
    Case("a header that is a program", "npz", _text(f"{CODE}\n"), NONE, "inputs"),
    Case("a header with a lambda", "npz", _text(f"{{'descr': (lambda: {CODE})(), 'fortran_order': False, 'shape': (6, 4)}}\n"), NONE, "inputs"),
    Case("a header with a comprehension", "npz", _told("tuple(9 for _ in range(10**9))"), NONE, "inputs"),
    Case("a header with a power", "npz", _told("(9**9**9,)"), NONE, "inputs"),
    Case("a header with a product of text", "npz", _told("('9' * 10**10,)"), NONE, "inputs"),
    Case("a header of 4,000 parentheses", "npz", _told("(" * 4000 + ")" * 4000), NONE, "inputs"),
    Case("a header of 4,000 minus signs", "npz", _told("(" + "-" * 4000 + "6,)"), NONE, "inputs"),
    Case("a header with an f-string", "npz", _told(f"(f\"{{{CODE}}}\",)"), NONE, "inputs"),
    Case("a header that is a list", "npz", _text("['descr', '<f4']\n"), NONE, "inputs"),
    Case("a header with one key more", "npz", _text("{'descr': '<f4', 'fortran_order': False, 'shape': (6, 4), 'x': 1}\n"), NONE, "inputs"),
    Case("a header without a shape", "npz", _text("{'descr': '<f4', 'fortran_order': False}\n"), NONE, "inputs"),
    Case("a header with a shape twice", "npz", _text("{'descr': '<f4', 'fortran_order': False, 'shape': (6, 4), 'shape': (6000, 4)}\n"), NONE, "inputs"),
    Case("a header with NUL", "npz", _text("{'descr': '<f4',\0 'fortran_order': False, 'shape': (6, 4)}\n"), NONE, "inputs"),
    Case("a header in another script", "npz", _text("{'descr': '<f4', 'fortran_order': False, 'shape': (٦, 4), 'é': 1}\n", 3), NONE, "inputs"),
    Case("a header of Python 2", "npz", _told("(6L, 4L)"), READY),
    Case("a header of 60,000 bytes", "npz", _text("{'descr': '<f4', 'fortran_order': False, 'shape': (6, 4), }" + " " * 60_000 + "\n"), "unsafe_file", "inputs"),
    Case("a header of 4 GiB", "npz", _length(2**32 - 1), "unsafe_file", "inputs"),
    Case("a header that is cut", "npz", _length(9000), NONE, "inputs"),
    Case("a header of no bytes", "npz", _length(0, 1), NONE, "inputs"),
    Case("version 9", "npz", _told(version=9), NONE, "inputs"),
    Case("version 0", "npz", _told(version=0), NONE, "inputs"),
    Case("an order that is text", "npz", _told(fortran="'maybe'"), NONE, "inputs"),
    Case("bytes behind the array", "npz", lambda: _with(npy(X) + b"more"), NONE, "inputs"),
    Case("an array that is cut", "npz", lambda: _with(npy(X)[:-4]), NONE, "inputs"),
    Case("an empty array file", "npz", lambda: _with(b""), NONE, "inputs"),
]  # fmt: skip
VALUES = [
    Case("NaN", "npz", _of(np.nan), "non_finite", "/inputs/0"),
    Case("infinity", "npz", _of(-np.inf), "non_finite", "/inputs/0"),
    Case("numbers beyond float32", "npz", _of(1e300, np.float64), "out_of_range", "inputs"),
    Case("integers beyond 63 bits", "npz", _of(2**63, np.uint64), "out_of_range", "inputs"),
    Case("ids twice", "npz", lambda: npz(inputs=X, targets=Y, ids=np.array(list("abcdea"))), "invalid_ids", "samples 0 and 5"),
    Case("ids of 10,000 characters", "npz", lambda: npz(inputs=X, targets=Y, ids=np.array(["x" * 10_000] * 6)), "invalid_ids", "256", seed=False),
    Case("ids with a line break", "npz", lambda: npz(inputs=X, targets=Y, ids=np.array([f"{i}\n" for i in range(6)])), "invalid_ids", "ids"),
    Case("ids beyond Unicode", "npz", lambda: zipped({"inputs.npy": npy(X), "targets.npy": npy(Y), "ids.npy": header("{'descr': '<U1', 'fortran_order': False, 'shape': (6,), }\n") + b"\xff" * 24}), "invalid_ids", "ids"),
    Case("no targets", "npz", lambda: npz(inputs=X), "missing_array", "targets"),
    Case("an array called with an escape", "npz", lambda: npz(inputs=X, targets=Y, **{"\x1b[31m" + "x" * 5000: Y}), "unknown_array"),
]  # fmt: skip
ORDERS = [
    Case("a shape of 2**62", "batch_order", _order("(4611686018427387904, 1)"), NONE, "batch_order"),
    Case("a shape whose product is 0 mod 2**64", "batch_order", _order("(4294967296, 4294967296)"), NONE, "batch_order"),
    Case("a million steps of nothing", "batch_order", lambda: _order("(1000000, 0)")()[:-48], "shape_mismatch"),
    Case("three axes", "batch_order", lambda: npy(ORDER[None]), "shape_mismatch"),
    Case("fractions", "batch_order", lambda: npy(ORDER / 2), "unsupported_dtype"),
    Case("text", "batch_order", lambda: npy(ORDER.astype("U3")), "unsupported_dtype"),
    Case("rows before the first", "batch_order", lambda: npy(ORDER - 2), "out_of_range"),
    Case("rows beyond 63 bits", "batch_order", lambda: npy(np.full((2, 2), 2**63, np.uint64)), "out_of_range"),
    Case("a step without samples", "batch_order", lambda: npy(np.array([[1, 2], [-1, -1]])), "out_of_range", "step 1"),
    Case("a header that is a call", "batch_order", lambda: header(f"{{'descr': {CODE}, 'fortran_order': False, 'shape': (2, 3)}}\n") + bytes(48), NONE),
    Case("another array", "batch_order", lambda: npz(order=ORDER), "missing_array", "batch_order"),
    Case("an array that is cut", "batch_order", lambda: npy(ORDER)[:-1], NONE, "batch_order"),
    Case("a table", "batch_order", lambda: good.GOOD["parquet"], "unknown_format"),
    Case("a path up", "batch_order", lambda: zipped({"../batch_order.npy": npy(ORDER)}), "unsafe_file", "outside"),
]  # fmt: skip
CASES = [*SHAPES, *DTYPES, *HEADERS, *VALUES, *ORDERS]
