"""Influences on single query samples: pages of the strongest, and the whole array to download."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest

from app.store.influences import strongest
from app.store.tables import Job
from tests.api.front_end import N, Service, pages, problem

QUERIES = np.array([2, 0, 7])
MATRIX = np.sin(np.arange(N * 3, dtype=np.float32)).reshape(N, 3).round(1)


@pytest.fixture
def path(service: Service, job: dict[str, Any]) -> str:
    """The path of a succeeded job that was asked about three query samples."""
    with service.database.transaction() as session, service.blobs.stage() as a, service.blobs.stage() as b:
        for staged, array in ((a, MATRIX), (b, strongest(MATRIX, QUERIES, 5))):
            with staged.open("wb") as file:
                np.save(file, array)
        record = session.get_one(Job, job["id"])
        record.influences_blob = service.blobs.keep(session, a)
        record.ranked_blob = service.blobs.keep(session, b)
    service.succeed(job["id"])
    return f"/v1/jobs/{job['id']}"


def test_opponents_raised_the_loss_most_and_proponents_least(service: Service, path: str) -> None:
    column = MATRIX[:, 2].astype(float)
    opponents = pages(service.http, f"{path}/queries/7/influences")
    proponents = pages(service.http, f"{path}/queries/7/influences", order="proponents")
    ranked = sorted(range(N), key=lambda at: (-column[at], at))
    assert [row["sample_index"] for row in opponents] == ranked[:5]
    assert [row["sample_index"] for row in proponents] == sorted(range(N), key=lambda at: (column[at], at))[
        :5
    ]
    assert [row["rank"] for row in opponents] == [1, 2, 3, 4, 5]
    assert opponents[0] == {
        "rank": 1,
        "sample_index": ranked[0],
        "sample_id": None,
        "score": pytest.approx(column[ranked[0]]),
        "label": ranked[0] % 3,
        "label_name": None,
    }


def test_pages_join_without_gap_or_overlap(service: Service, path: str) -> None:
    whole = pages(service.http, f"{path}/queries/2/influences")
    assert pages(service.http, f"{path}/queries/2/influences", limit=2) == whole
    assert len(whole) == 5


def test_a_cursor_belongs_to_its_query_and_order(service: Service, path: str) -> None:
    cursor = service.http.get(f"{path}/queries/2/influences", params={"limit": 1}).json()["next_cursor"]
    for query, order in ((0, "opponents"), (2, "proponents")):
        asked = {"order": order, "cursor": cursor}
        problem(service.http.get(f"{path}/queries/{query}/influences", params=asked), 400, "invalid_cursor")


def test_a_query_that_was_not_asked_is_not_found(service: Service, path: str) -> None:
    problem(service.http.get(f"{path}/queries/1/influences"), 404, "not_found")


def test_the_whole_array_can_be_downloaded_in_ranges(service: Service, path: str) -> None:
    answer = service.http.get(f"{path}/influences/content")
    np.testing.assert_array_equal(np.load(io.BytesIO(answer.content)), MATRIX)
    assert answer.headers["accept-ranges"] == "bytes"
    part = service.http.get(f"{path}/influences/content", headers={"Range": "bytes=10-19"})
    assert (part.status_code, part.content) == (206, answer.content[10:20])
    assert part.headers["etag"] == answer.headers["etag"]
    again = service.http.get(f"{path}/influences/content", headers={"If-None-Match": answer.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")


def test_a_job_without_them_says_so(service: Service, job: dict[str, Any]) -> None:
    for path in ("queries/0/influences", "influences/content"):
        problem(service.http.get(f"/v1/jobs/{job['id']}/{path}"), 409, "job_not_finished")
    service.succeed(job["id"])
    for path in ("queries/0/influences", "influences/content"):
        problem(service.http.get(f"/v1/jobs/{job['id']}/{path}"), 409, "not_computed")
