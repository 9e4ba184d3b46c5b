"""Damage of any kind ends in a `LoadError`, or in a data set; never in another exception."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.numpy import save as save_safetensors

from tests.worker.loading.files import (
    Load,
    X,
    Y,
    npz,
)
from worker.loading import LoadError

WHOLE = (
    npz(inputs=X, targets=Y, ids=np.array(list("abcdef"))),
    save_safetensors({"inputs": X, "targets": Y}),
)


def survives(load: Load, data: bytes) -> None:
    for announced in ("npz", "safetensors", None):
        try:
            info = load(data, announced)
        except LoadError:
            continue
        assert info.num_samples > 0


def test_cut_at_any_byte(load: Load) -> None:
    for whole in WHOLE:
        for end in range(0, len(whole), 3):
            with pytest.raises(LoadError):
                load(whole[:end])


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.sampled_from([0, 1]), st.data())
def test_with_bytes_changed(load: Load, which: int, data: st.DataObject) -> None:
    whole = bytearray(WHOLE[which])
    place = st.integers(0, len(whole) - 1)
    for where, value in data.draw(st.lists(st.tuples(place, st.integers(0, 255)), min_size=1, max_size=6)):
        whole[where] = value
    survives(load, bytes(whole))


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.sampled_from([b"", b"PK\x03\x04", b"PK\x05\x06", b"\x93NUMPY\x01\x00", b"\x10" + bytes(7) + b"{"]),
    st.binary(),
)
def test_made_of_noise(load: Load, start: bytes, noise: bytes) -> None:
    with pytest.raises(LoadError):
        load(start + noise)
