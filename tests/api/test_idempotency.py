"""The same POST twice is done once."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import numpy as np
import pytest
from sqlalchemy import update

from app.store import idempotency
from app.store.tables import IdempotencyKey
from tests.api.front_end import RUN, Service, arrays, npz, problem, request_of

KEYED = {"Idempotency-Key": "build-7"}


def test_the_same_key_and_body_replay_the_first_answer(service: Service, inputs: dict[str, str]) -> None:
    first, again = (service.http.post("/v1/jobs", json=request_of(inputs), headers=KEYED) for _ in range(2))
    assert again.status_code == first.status_code == 202
    assert again.content == first.content
    for header in ("location", "retry-after", "content-type"):
        assert again.headers[header] == first.headers[header]
    assert again.headers["idempotency-replayed"] == "true"
    assert "idempotency-replayed" not in first.headers
    assert len(service.http.get("/v1/jobs").json()["data"]) == 1


def test_the_order_of_members_and_spaces_make_no_other_body(service: Service) -> None:
    headers = KEYED | {"Content-Type": "application/json"}
    turned = dict(reversed(RUN.items()))
    first = service.http.post("/v1/trajectories", json=RUN, headers=KEYED)
    again = service.http.post("/v1/trajectories", json=turned, headers=headers)
    assert again.json()["id"] == first.json()["id"]


def test_another_body_with_the_same_key_is_refused(service: Service) -> None:
    service.http.post("/v1/trajectories", json=RUN, headers=KEYED)
    answer = service.http.post("/v1/trajectories", json=RUN | {"name": "run 8"}, headers=KEYED)
    problem(answer, 422, "idempotency_key_reused")


def test_another_path_with_the_same_key_is_refused(service: Service, job: dict[str, Any]) -> None:
    service.http.post("/v1/trajectories", json=RUN, headers=KEYED)
    problem(service.http.post(f"/v1/jobs/{job['id']}/cancel", headers=KEYED), 422, "idempotency_key_reused")


def test_a_refused_request_frees_its_key(service: Service, inputs: dict[str, str]) -> None:
    unknown = inputs | {"train_dataset_id": "ds_of_nobody"}
    problem(service.http.post("/v1/jobs", json=request_of(unknown), headers=KEYED), 404, "not_found")
    assert service.http.post("/v1/jobs", json=request_of(inputs), headers=KEYED).status_code == 202


def test_a_request_in_flight_is_told_so(service: Service) -> None:
    with service.database.transaction() as session:
        idempotency.reserve(session, service.project_id, "build-7", _fingerprint(service), 60)
    answer = service.http.post("/v1/trajectories", json=RUN, headers=KEYED)
    problem(answer, 409, "request_in_flight")
    assert answer.headers["retry-after"] == "1"


def test_a_request_that_died_in_flight_can_be_sent_again(service: Service) -> None:
    with service.database.transaction() as session:
        idempotency.reserve(session, service.project_id, "build-7", "another", -1)
    assert service.http.post("/v1/trajectories", json=RUN, headers=KEYED).status_code == 201


def test_an_answer_is_forgotten_after_its_time(service: Service) -> None:
    first = service.http.post("/v1/trajectories", json=RUN, headers=KEYED)
    with service.database.transaction() as session:
        session.execute(update(IdempotencyKey).values(expires_at=0.0))
    again = service.http.post("/v1/trajectories", json=RUN, headers=KEYED)
    assert again.json()["id"] != first.json()["id"]


def test_many_at_once_make_one_resource(service: Service) -> None:
    def post(_: int) -> httpx.Response:
        return service.http.post("/v1/trajectories", json=RUN, headers=KEYED)

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(post, range(8)))
    assert {answer.status_code for answer in answers} <= {201, 409}
    assert len({answer.json()["id"] for answer in answers if answer.status_code == 201}) == 1
    assert len(service.http.get("/v1/trajectories").json()["data"]) == 1


def upload(service: Service, content: bytes, name: str = "digits") -> httpx.Response:
    files, data = {"file": ("digits.npz", content)}, {"name": name}
    return service.http.post("/v1/datasets", files=files, data=data, headers=KEYED)


def test_an_upload_is_known_by_its_parts_and_not_by_its_boundary(service: Service) -> None:
    first, again = (upload(service, npz(*arrays())) for _ in range(2))
    assert first.request.headers["content-type"] != again.request.headers["content-type"]
    assert again.json()["id"] == first.json()["id"]


def test_an_upload_of_other_content_or_fields_with_the_same_key_is_refused(service: Service) -> None:
    upload(service, npz(*arrays()))
    other = npz(*arrays(np.ones((12, 4), np.float32)))
    problem(upload(service, other), 422, "idempotency_key_reused")
    problem(upload(service, npz(*arrays()), name="other"), 422, "idempotency_key_reused")


@pytest.mark.parametrize("key", ["x" * 256, "with space"])
def test_an_unfit_key_is_refused(service: Service, key: str) -> None:
    answer = service.http.post("/v1/trajectories", json=RUN, headers={"Idempotency-Key": key})
    problem(answer, 422, "validation_error")


def _fingerprint(service: Service) -> str:
    """What the service made of the request: sent once, read back, and taken away again."""
    service.http.post("/v1/trajectories", json=RUN, headers=KEYED)
    with service.database.transaction() as session:
        row = session.get_one(IdempotencyKey, (service.project_id, "build-7"))
        session.delete(row)
        return row.fingerprint
