"""The audit log: which key wrote what, and how it was answered; nothing of what was written."""

from __future__ import annotations

import httpx

from app.store import audit
from app.store.tables import AuditEvent
from tests.api.front_end import RUN, Service, bearer, pages, problem

LOG = "/v1/audit-events"


def test_every_write_with_a_key_is_written_down_and_nothing_of_its_body(service: Service) -> None:
    run = service.http.post("/v1/trajectories", json=RUN | {"name": "a secret name"}).json()["id"]
    service.http.patch(f"/v1/trajectories/{run}", json={"notes": "a secret note"}).raise_for_status()
    service.http.get(f"/v1/trajectories/{run}").raise_for_status()
    named = {"X-Request-ID": f"mine-{run}"}
    service.http.delete(f"/v1/trajectories/{run}", headers=named).raise_for_status()
    service.http.delete(f"/v1/trajectories/{run}")
    rows = pages(service.http, LOG, limit=2)
    told = [(row["method"], row["route"], row["subject_id"], row["status"]) for row in reversed(rows)]
    one = "/v1/trajectories/{trajectory_id}"
    assert told == [
        ("POST", "/v1/trajectories", run, 201),
        ("PATCH", one, run, 200),
        ("DELETE", one, run, 204),
        ("DELETE", one, run, 404),
    ]
    assert rows[1]["request_id"] == named["X-Request-ID"]
    assert len({row["key_id"] for row in rows}) == 1
    assert "secret" not in str(rows)


def test_refused_writes_are_there_with_the_key_that_tried(service: Service) -> None:
    reader = service.make_key(f"reads {service.project_id}", "read")
    service.http.post("/v1/trajectories", json=RUN, headers=reader)
    httpx.post(f"{service.url}/v1/trajectories", json=RUN)  # nobody's: 401, and no line
    service.http.post("/v1/trajectories", json={})
    refused, invalid = (service.http.get(LOG).json()["data"][at] for at in (1, 0))
    assert (refused["status"], invalid["status"]) == (403, 422)
    assert refused["key_id"] != invalid["key_id"]
    found = service.http.get(LOG, params={"key_id": refused["key_id"]}).json()["data"]
    assert found == [refused]


def test_no_line_holds_an_id_that_we_did_not_give(service: Service) -> None:
    service.http.delete("/v1/jobs/me@example.com")
    assert service.http.get(LOG).json()["data"][0]["subject_id"] is None


def test_the_log_is_for_the_projects_admins(service: Service) -> None:
    service.http.post("/v1/trajectories", json=RUN).raise_for_status()
    worker = service.make_key(f"works {service.project_id}", "read", "write")
    problem(service.http.get(LOG, headers=worker), 403, "forbidden")
    service.make_key(f"stranger {service.project_id}", "admin", project_id=f"not {service.project_id}")
    assert service.http.get(LOG, headers=bearer(f"stranger {service.project_id}")).json()["data"] == []


def test_old_lines_are_forgotten(service: Service) -> None:
    service.http.post("/v1/trajectories", json=RUN).raise_for_status()
    with service.database.transaction() as session:
        audit.purge(session, days=1)
        mine = session.query(AuditEvent).filter_by(project_id=service.project_id)
        assert mine.count() == 1
        audit.purge(session, days=0)
        assert mine.count() == 0
        session.rollback()
