"""Who may ask: keys, scopes, projects."""

from __future__ import annotations

import httpx
import pytest

from app.store import keys
from tests.api.front_end import KEY, RUN, Service, bearer, problem, wait_for


@pytest.mark.parametrize("headers", [{}, {"Authorization": "Bearer wrong"}, {"Authorization": "Basic eDp5"}])
def test_no_or_a_wrong_key_is_refused(service: Service, headers: dict[str, str]) -> None:
    answer = httpx.get(f"{service.url}/v1/jobs", headers=headers)
    problem(answer, 401, "unauthorized")
    assert answer.headers["www-authenticate"] == "Bearer"


def test_a_key_is_asked_for_before_an_upload_is_read(service: Service) -> None:
    answer = httpx.post(f"{service.url}/v1/datasets", files={"file": ("a.npz", b"x")}, data={"name": "a"})
    problem(answer, 401, "unauthorized")


def test_reading_wants_the_scope_read_and_writing_write(service: Service) -> None:
    reader = service.make_key("reads", "read")
    assert service.http.get("/v1/jobs", headers=reader).status_code == 200
    problem(service.http.post("/v1/jobs", json={}, headers=reader), 403, "forbidden")
    writer = service.make_key("writes", "write")
    problem(service.http.get("/v1/jobs", headers=writer), 403, "forbidden")


def test_admin_may_do_both(service: Service) -> None:
    admin = service.make_key("rules", "admin")
    assert service.http.get("/v1/jobs", headers=admin).status_code == 200
    assert service.http.post("/v1/jobs", json={}, headers=admin).status_code == 422


def test_a_key_beyond_ascii_works(service: Service) -> None:
    headers = service.make_key("schlüssel", "read")
    assert service.http.get("/v1/jobs", headers=headers).status_code == 200


def test_another_projects_id_is_not_found(service: Service) -> None:
    stranger = service.make_key("stranger", "admin", project_id="elsewhere")
    trajectory_id = service.trajectory()["id"]
    problem(service.http.get(f"/v1/trajectories/{trajectory_id}", headers=stranger), 404, "not_found")
    assert service.http.get("/v1/trajectories", headers=stranger).json()["data"] == []


def test_using_a_key_is_noted(service: Service) -> None:
    def fresh() -> bool:
        with service.database.snapshot() as session:
            key = keys.find(session, service.settings.secret, service.project_id)
        return key is not None and not keys.stale(key)

    service.http.get("/v1/jobs")
    wait_for(fresh)


def test_the_key_of_the_settings_is_the_first_admin_key(service: Service) -> None:
    assert service.http.get("/v1/jobs", headers=bearer(KEY)).status_code == 200
    answer = service.http.post("/v1/trajectories", json=RUN, headers=bearer(KEY))
    assert answer.status_code == 201
