"""Samples as a person looks at them."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.api.front_end import Service, pages, problem

RNG = np.random.default_rng(7)


def ready(service: Service, inputs: Any = None, targets: Any = None, ids: Any = None) -> str:
    dataset_id: str = service.upload()["id"]
    service.validate(dataset_id, inputs, targets, ids)
    return f"/v1/datasets/{dataset_id}/samples"


def shown(service: Service, path: str) -> np.ndarray:
    answer = service.http.get(path)
    assert answer.headers["content-type"] == "image/png"
    return np.asarray(Image.open(io.BytesIO(answer.content)))


def test_samples_come_by_index_with_target_id_and_values(service: Service) -> None:
    path = ready(service, ids=np.array([f"row-{i}" for i in range(12)]))
    rows = pages(service.http, path, limit=5)
    assert [row["index"] for row in rows] == list(range(12))
    assert rows[3] == {
        "index": 3,
        "sample_id": "row-3",
        "target": 0,
        "label_name": None,
        "values": [12.0, 13.0, 14.0, 15.0],
        "text": None,
        "row": None,
        "content_url": f"{path}/3/content",
    }
    assert service.http.get(f"{path}/3").json() == rows[3]


def test_samples_of_one_label(service: Service) -> None:
    path = ready(service)
    assert [row["index"] for row in pages(service.http, path, label=1, limit=3)] == [1, 4, 7, 10]
    assert pages(service.http, path, label=9) == []


def test_targets_may_be_vectors(service: Service) -> None:
    path = ready(service, targets=np.ones((12, 2), np.float32))
    assert service.http.get(f"{path}/0").json()["target"] == [1.0, 1.0]
    assert pages(service.http, path, label=1) == []


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_a_uint8_image_is_a_png_of_the_same_pixels(service: Service, channels: int) -> None:
    images = RNG.integers(0, 256, (12, 5, 7, channels), dtype=np.uint8)
    path = ready(service, images)
    assert np.array_equal(shown(service, f"{path}/4/content"), images[4].squeeze())


def test_a_float_image_within_zero_and_one_keeps_its_brightness(service: Service) -> None:
    images = np.full((12, 3, 5, 7), 0.5, np.float32)
    pixels = shown(service, f"{ready(service, images)}/0/content")
    assert pixels.shape == (5, 7, 3)
    assert set(pixels.flat) == {128}


def test_a_float_image_beyond_is_stretched_over_its_own_range(service: Service) -> None:
    images = RNG.normal(0, 9, (12, 1, 5, 7)).astype(np.float32)
    pixels = shown(service, f"{ready(service, images)}/2/content")
    assert (pixels.min(), pixels.max()) == (0, 255)
    assert np.unravel_index(pixels.argmax(), (5, 7)) == np.unravel_index(images[2, 0].argmax(), (5, 7))


def test_an_image_of_one_colour_beyond_the_range_is_a_picture_too(service: Service) -> None:
    images = np.full((12, 1, 5, 7), -3, np.float32)
    assert set(shown(service, f"{ready(service, images)}/0/content").flat) == {0}


def test_anything_else_is_its_numbers(service: Service) -> None:
    answer = service.http.get(f"{ready(service)}/1/content")
    assert answer.headers["content-type"] == "application/json"
    assert answer.json() == [4.0, 5.0, 6.0, 7.0]


def test_content_never_changes_and_says_so(service: Service) -> None:
    path = f"{ready(service)}/1/content"
    first = service.http.get(path)
    assert "immutable" in first.headers["cache-control"]
    again = service.http.get(path, headers={"If-None-Match": first.headers["etag"]})
    assert again.status_code == 304
    assert service.http.get(path.replace("/1/", "/2/")).headers["etag"] != first.headers["etag"]


def test_a_sample_beyond_the_end_is_not_found(service: Service) -> None:
    path = ready(service)
    for sample in (f"{path}/12", f"{path}/12/content"):
        assert "0 to 11" in problem(service.http.get(sample), 404, "not_found")["detail"]
    for odd in (f"{path}/-1", f"{path}/{2**63}", f"{path}/first"):
        problem(service.http.get(odd), 422, "validation_error")


def test_samples_wait_for_the_validation(service: Service) -> None:
    dataset_id = service.upload()["id"]
    answer = service.http.get(f"/v1/datasets/{dataset_id}/samples")
    problem(answer, 409, "input_not_ready")
    assert answer.headers["retry-after"] == "1"
    service.refuse(dataset_id)
    problem(service.http.get(f"/v1/datasets/{dataset_id}/samples/0/content"), 409, "invalid_dataset")
