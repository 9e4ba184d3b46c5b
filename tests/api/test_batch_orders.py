"""The batch order of a trajectory: sent, replaced, deleted, and held against the jobs that go by it."""

from __future__ import annotations

from typing import Any

import pytest

from app.store import work
from app.store.tables import BatchOrder, Blob
from tests.api.front_end import N, Service, pointers, problem, request_of

STEPWISE = {"name": "diff_in", "resolution": "steps"}


def order_of(service: Service, trajectory_id: str) -> Any:
    return service.http.get(f"/v1/trajectories/{trajectory_id}").json()["batch_order"]


def test_an_order_is_stored_and_told_with_its_trajectory(service: Service) -> None:
    trajectory_id = service.trajectory()["id"]
    assert order_of(service, trajectory_id) is None
    answer = service.put_order(trajectory_id)
    assert answer.status_code == 200, answer.text
    assert answer.headers["retry-after"] == "1"
    body = answer.json()
    assert (body["status"], body["filename"], body["bytes"]) == ("validating", "order.npy", 8)
    assert (body["steps"], body["batch"], body["error"]) == (None, None, None)
    polled = service.http.get(f"/v1/trajectories/{trajectory_id}")
    assert polled.json()["batch_order"] == body
    assert polled.headers["retry-after"] == "1"
    service.accept_order(trajectory_id, steps=20, batch=4, largest=11)
    assert order_of(service, trajectory_id) | {"status": "ready", "steps": 20, "batch": 4} == order_of(
        service, trajectory_id
    )
    assert "retry-after" not in service.http.get(f"/v1/trajectories/{trajectory_id}").headers


def test_a_worker_is_asked_to_validate_it(service: Service) -> None:
    trajectory_id = service.trajectory()["id"]
    service.put_order(trajectory_id)
    with service.database.snapshot() as session:
        [order] = session.query(BatchOrder).filter_by(trajectory_id=trajectory_id)
        assert [unit.kind for unit in work.of(session, order.id, "validate")] == ["validate"]


def test_another_order_takes_its_place_and_forgets_its_bytes(service: Service) -> None:
    trajectory_id = service.trajectory()["id"]
    first = service.put_order(trajectory_id, b"the first of all").json()
    second = service.put_order(trajectory_id, b"the second").json()
    assert order_of(service, trajectory_id)["sha256"] == second["sha256"] != first["sha256"]
    with service.database.snapshot() as session:
        assert session.get(Blob, first["sha256"]) is None
        assert session.get(Blob, second["sha256"]) is not None


def test_it_can_be_deleted_once(service: Service) -> None:
    trajectory_id = service.trajectory()["id"]
    service.put_order(trajectory_id)
    path = f"/v1/trajectories/{trajectory_id}/batch-order"
    assert service.http.delete(path).status_code == 204
    assert order_of(service, trajectory_id) is None
    problem(service.http.delete(path), 404, "not_found")


def test_the_same_file_may_be_sent_again(service: Service) -> None:
    trajectory_id = service.trajectory()["id"]
    first, again = (service.put_order(trajectory_id, b"the same again") for _ in range(2))
    assert (first.status_code, again.status_code) == (200, 200), again.text
    assert first.json()["sha256"] == again.json()["sha256"]
    with service.database.snapshot() as session:
        assert service.blobs.path(session, again.json()["sha256"]).read_bytes() == b"the same again"


def test_it_goes_with_its_trajectory(service: Service) -> None:
    trajectory_id = service.trajectory()["id"]
    sha256 = service.put_order(trajectory_id, b"only here").json()["sha256"]
    assert service.http.delete(f"/v1/trajectories/{trajectory_id}").status_code == 204
    with service.database.snapshot() as session:
        assert session.get(Blob, sha256) is None


def test_an_unknown_trajectory_has_none(service: Service) -> None:
    problem(service.put_order("tr_of_nobody"), 404, "not_found")


def test_a_pickle_and_a_field_are_refused(service: Service) -> None:
    trajectory_id = service.trajectory()["id"]
    path = f"/v1/trajectories/{trajectory_id}/batch-order"
    problem(service.http.put(path, files={"file": ("order.pkl", b"x")}), 422, "unsafe_file")
    answer = service.http.put(path, files={"file": ("o.npy", b"x")}, data={"seed": "1"})
    assert pointers(problem(answer, 422, "validation_error")) == ["/seed"]
    problem(service.http.put(path, json={}), 415, "unsupported_media_type")


def test_an_unfinished_job_keeps_it_as_it_is(service: Service, inputs: dict[str, str], job: Any) -> None:
    run = inputs["trajectory_id"]
    body = problem(service.put_order(run), 409, "in_use")
    assert body["jobs"] == [job["id"]]
    service.succeed(job["id"])
    assert service.put_order(run).status_code == 200


def test_a_job_waits_for_the_order_it_goes_by(service: Service, inputs: dict[str, str]) -> None:
    service.put_order(inputs["trajectory_id"])
    answer = service.http.post("/v1/jobs", json=request_of(inputs, method=STEPWISE))
    problem(answer, 409, "input_not_ready")
    service.accept_order(inputs["trajectory_id"], steps=20, batch=4, largest=N - 1)
    assert service.http.post("/v1/jobs", json=request_of(inputs, method=STEPWISE)).status_code == 202


def test_a_method_without_use_for_it_does_not_wait(service: Service, inputs: dict[str, str]) -> None:
    service.put_order(inputs["trajectory_id"])
    assert service.http.post("/v1/jobs", json=request_of(inputs)).status_code == 202


@pytest.mark.parametrize(
    ("info", "pointer", "words"),
    [
        ({"steps": 19, "batch": 4, "largest": 3}, "/trajectory_id", "step 20"),
        ({"steps": 20, "batch": 4, "largest": N}, "/train_dataset_id", f"row {N}"),
    ],
)
def test_an_order_that_does_not_fit_the_run_is_told(
    service: Service, inputs: dict[str, str], info: dict[str, int], pointer: str, words: str
) -> None:
    service.put_order(inputs["trajectory_id"])
    service.accept_order(inputs["trajectory_id"], **info)
    answer = service.http.post("/v1/jobs", json=request_of(inputs, method=STEPWISE))
    body = problem(answer, 422, "batch_order_mismatch")
    assert pointers(body) == [pointer] and words in body["detail"]


def test_a_refused_order_is_named_with_its_reason(service: Service, inputs: dict[str, str]) -> None:
    service.put_order(inputs["trajectory_id"])
    service.refuse_order(inputs["trajectory_id"], "It holds no integers.")
    assert order_of(service, inputs["trajectory_id"])["error"]["detail"] == "It holds no integers."
    answer = service.http.post("/v1/jobs", json=request_of(inputs, method=STEPWISE))
    assert "no integers" in problem(answer, 422, "invalid_batch_order")["detail"]


def test_an_exact_job_costs_by_its_steps(service: Service, inputs: dict[str, str]) -> None:
    def passes(method: dict[str, Any]) -> int:
        answer = service.http.post("/v1/jobs/estimate", json=request_of(inputs, method=method))
        cost: int = answer.json()["forward_passes"]
        return cost

    averaged = passes(STEPWISE)
    assert averaged == passes({"name": "diff_in"})
    service.put_order(inputs["trajectory_id"])
    service.accept_order(inputs["trajectory_id"], steps=20, batch=4, largest=N - 1)
    assert passes(STEPWISE) != averaged
