"""The gallery of a job whose classes are more than a list can offer."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import numpy as np
import pytest

from app.ui import sign_in
from app.ui.gallery import MOST_LABELS
from tests.api.front_end import RUN, Service, request_of, scored

CLASSES = MOST_LABELS + 200


@pytest.fixture
def page(service: Service) -> Iterator[httpx.Client]:
    """A browser that is signed in."""
    service.app.state.sign_in_attempts = sign_in.attempts()
    with httpx.Client(base_url=service.url, headers={"Accept": "text/html"}) as http:
        http.post("/sign-in", data={"key": service.project_id}, headers={"Origin": service.url.rstrip("/")})
        yield http


@pytest.fixture
def crowded(service: Service) -> str:
    """The id of a job with a sample of each class."""
    inputs, targets = np.zeros((CLASSES, 4), np.float32), np.arange(CLASSES)
    ids = {}
    for role in ("train", "query"):
        ids[f"{role}_dataset_id"] = service.upload(inputs, targets, name=role)["id"]
        service.validate(ids[f"{role}_dataset_id"], inputs, targets)
    network = {"name": "linear", "config": {"in_features": 4, "num_classes": CLASSES}}
    ids["trajectory_id"] = service.trajectory(**RUN | {"architecture": network})["id"]
    service.accept(service.checkpoint(ids["trajectory_id"], 10)["id"])
    job_id: str = service.http.post("/v1/jobs", json=request_of(ids)).raise_for_status().json()["id"]
    service.succeed(job_id, scored(n=CLASSES) | {"label": np.arange(CLASSES) * 1.0})
    return job_id


def test_of_many_classes_one_is_given_by_number(page: httpx.Client, crowded: str) -> None:
    gallery = page.get(f"/jobs/{crowded}")
    assert gallery.status_code == 200, gallery.text
    assert "more classes than a list can offer" in gallery.text
    assert '<input id="label" name="label" inputmode="numeric"' in gallery.text
    assert 'name="differing"' in gallery.text
    one = page.get(f"/jobs/{crowded}", params={"label": CLASSES - 1})
    assert f'data-index="{CLASSES - 1}"' in one.text and one.text.count("data-index=") == 1
    assert page.get(f"/jobs/{crowded}", params={"predicted": "7"}).text.count("data-index=") == 0
