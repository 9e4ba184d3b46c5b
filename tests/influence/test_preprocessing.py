"""From canonical arrays to network inputs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from worker.influence.preprocessing import Preprocessing

RNG = np.random.default_rng(0)


def test_uint8_images_get_channels_first_and_are_divided_by_255() -> None:
    batch = RNG.integers(0, 256, (5, 4, 6, 3), dtype=np.uint8)
    x = Preprocessing("image")(batch)
    assert x.shape == (5, 3, 4, 6) and x.dtype == torch.float32
    assert x[2, 1, 3, 5].item() == pytest.approx(batch[2, 3, 5, 1] / 255)


def test_a_scale_replaces_the_division() -> None:
    batch = RNG.integers(0, 256, (5, 4, 6, 1), dtype=np.uint8)
    assert torch.equal(
        Preprocessing("image", scale=1.0)(batch)[:, 0], torch.from_numpy(batch[..., 0]).float()
    )


def test_mean_and_std_are_applied_after_the_scale_by_channel() -> None:
    batch = RNG.integers(0, 256, (5, 4, 6, 3), dtype=np.uint8)
    x = Preprocessing("image", 1 / 255, (0.1, 0.2, 0.3), (0.5, 0.6, 0.7))(batch, dtype=torch.float64)
    for channel, (mean, std) in enumerate(zip((0.1, 0.2, 0.3), (0.5, 0.6, 0.7), strict=True)):
        want = (batch[..., channel] / 255 - mean) / std
        np.testing.assert_allclose(x[:, channel].numpy(), want, rtol=1e-12)


def test_one_mean_serves_all_channels() -> None:
    batch = RNG.random((5, 3, 4, 6), dtype=np.float32)
    np.testing.assert_allclose(Preprocessing("image", mean=(0.5,))(batch).numpy(), batch - 0.5, rtol=1e-6)


def test_float_images_are_left_as_they_are() -> None:
    batch = RNG.random((5, 3, 4, 6), dtype=np.float32)
    np.testing.assert_array_equal(Preprocessing("image")(batch).numpy(), batch)


def test_float_images_without_channels_get_one() -> None:
    batch = RNG.random((5, 4, 6), dtype=np.float32)
    assert Preprocessing("image")(batch).shape == (5, 1, 4, 6)
    assert Preprocessing("features")(batch).shape == (5, 4, 6)


def test_uint8_features_are_divided_by_255_too() -> None:
    batch = np.array([[0, 255]], dtype=np.uint8)
    assert Preprocessing("features")(batch).tolist() == [[0.0, 1.0]]


def test_integers_become_floats_for_features_and_stay_whole_for_tokens() -> None:
    batch = np.array([[3, -4]], dtype=np.int64)
    assert Preprocessing("features")(batch).tolist() == [[3.0, -4.0]]
    tokens = Preprocessing("tokens")(batch, dtype=torch.float64)
    assert tokens.dtype == torch.int64 and tokens.tolist() == [[3, -4]]


def test_uint8_tokens_are_not_taken_for_brightness() -> None:
    assert Preprocessing("tokens")(np.array([[7, 255]], dtype=np.uint8)).tolist() == [[7, 255]]


def test_features_have_a_mean_each() -> None:
    batch = RNG.random((5, 2), dtype=np.float32)
    x = Preprocessing("features", mean=(1.0, 2.0), std=(3.0, 4.0))(batch)
    np.testing.assert_allclose(x.numpy(), (batch - [1, 2]) / [3, 4], rtol=1e-6)


def test_a_read_only_memory_map_is_read(tmp_path: Path) -> None:
    path = tmp_path / "inputs.npy"
    np.save(path, np.arange(12, dtype=np.float32).reshape(4, 3))
    rows = np.load(path, mmap_mode="r")[1:3]
    assert Preprocessing("features")(rows).tolist() == [[3, 4, 5], [6, 7, 8]]


@given(
    arrays.arrays(np.uint8, st.tuples(*[st.integers(1, 5)] * 3, st.sampled_from([1, 3, 4]))),
    st.floats(1e-3, 1e3),
    st.floats(-10, 10),
    st.floats(0.1, 10),
)
def test_whatever_the_image_the_formula_holds(
    batch: np.ndarray[Any, Any], scale: float, mean: float, std: float
) -> None:
    x = Preprocessing("image", scale, (mean,), (std,))(batch, dtype=torch.float64)
    np.testing.assert_allclose(
        x.numpy(), (np.moveaxis(batch, -1, 1) * scale - mean) / std, atol=1e-9, rtol=1e-9
    )
