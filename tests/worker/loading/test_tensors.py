"""The header of a safetensors file is a stranger's too."""

from __future__ import annotations

import json
import struct
from typing import Any

import pytest

from tests.worker.loading.files import (
    Load,
    Refuse,
)


def file(entries: Any, data: bytes = b"", length: int | None = None) -> bytes:
    text = entries if isinstance(entries, bytes) else json.dumps(entries).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + data


@pytest.mark.parametrize(
    "offsets",
    [
        {"inputs": [0, 8], "targets": [4, 12]},
        {"inputs": [0, 8], "targets": [12, 20]},
        {"inputs": [4, 12], "targets": [12, 20]},
        {"inputs": [0, 8], "targets": [8, 2**62]},
        {"inputs": [0, 8], "targets": [8, 4]},
        {"inputs": [0, 8], "targets": [-8, 0]},
        {"inputs": [0, 8], "targets": [8, 16.0]},
        {"inputs": [0, 8], "targets": [8]},
        {"inputs": [0, 8], "targets": [True, 9]},
    ],
)
def test_offsets_that_overlap_or_leave_the_file(refuse: Refuse, offsets: dict[str, Any]) -> None:
    entries = {name: {"dtype": "F32", "shape": [2], "data_offsets": place} for name, place in offsets.items()}
    refuse(file(entries, bytes(20)), "corrupt_file")


def test_the_same_file_with_honest_offsets_is_read(load: Load) -> None:
    entries = {
        "targets": {"dtype": "F32", "shape": [2], "data_offsets": [8, 16]},
        "inputs": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]},
    }
    assert load(file(entries, bytes(16))).num_samples == 2


@pytest.mark.parametrize(
    "entries",
    [
        b"{not json",
        b'{"inputs": ' * 30_000,
        b"[[1]]",
        b'{"a": 1, "a": 1}',
        b'{"\xff": 1}',
        {"inputs": 7},
        {"inputs": {"dtype": "F32", "shape": [1]}},
        {"inputs": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4], "more": 1}},
        {"inputs": {"dtype": "F32", "shape": ["1"], "data_offsets": [0, 4]}},
        {"inputs": {"dtype": "F32", "shape": [2**62, 2**62], "data_offsets": [0, 4]}},
        {"inputs": {"dtype": "F32", "shape": [1] * 40, "data_offsets": [0, 4]}},
    ],
)
def test_headers_that_make_no_sense(refuse: Refuse, entries: Any) -> None:
    refuse(
        file(entries, bytes(4)),
        "corrupt_file",
        "safetensors",
    )


def test_a_header_too_long(refuse: Refuse) -> None:
    refuse(file(b"{}" + b" " * 5 * 2**20), "unsafe_file")
    refuse(file({}, length=2**63), "corrupt_file")


def test_an_unknown_dtype_is_told_those_known(refuse: Refuse) -> None:
    entries = {"inputs": {"dtype": "F8_E4M3", "shape": [4], "data_offsets": [0, 4]}}
    refused = refuse(file(entries, bytes(4)), "unsupported_dtype")
    assert "F8_E4M3" in refused.detail and "BF16" in refused.detail
