"""The audit log: which key wrote what, and how it was answered; nothing of what was written."""

from __future__ import annotations

import signal
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
from sqlalchemy import select, text

from app.store import audit, sessions
from app.store.db import Database
from app.store.tables import ApiKey, AuditEvent, Trajectory
from app.ui import sign_in
from tests import services
from tests.api.front_end import RUN, Service, bearer, pages, problem, wait_for

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


def test_a_killed_api_leaves_no_write_without_a_line(postgres_url: str, tmp_path: Path) -> None:
    """Killed after the write is committed, and before its line has a status."""
    given = {"DATABASE_URL": postgres_url, "SECRET_KEY": "secret-of-the-tests"}
    api = services.prepared(tmp_path, **given)
    api.migrate()
    database = Database(postgres_url)
    with database.transaction() as session:
        for statement in (
            "CREATE FUNCTION wait() RETURNS trigger LANGUAGE plpgsql AS "
            "'BEGIN PERFORM pg_sleep(600); RETURN NEW; END'",
            "CREATE TRIGGER wait BEFORE UPDATE ON audit_events FOR EACH ROW EXECUTE FUNCTION wait()",
        ):
            session.execute(text(statement))

    def there(table: Any) -> list[Any]:
        with database.snapshot() as session:
            return list(session.scalars(select(table)))

    with api.running("api", "api") as process, api.client() as http, ThreadPoolExecutor(1) as pool:
        services.wait_for_http(api)
        asked = pool.submit(http.post, "/v1/trajectories", json=RUN)
        wait_for(lambda: bool(there(Trajectory)))
        process.send_signal(signal.SIGKILL)
        assert isinstance(asked.exception(), httpx.TransportError)
    assert len(there(Trajectory)) == 1
    [line] = there(AuditEvent)
    assert (line.method, line.route, line.status) == ("POST", "/v1/trajectories", None)
    database.engine.dispose()


def test_sign_ins_are_there_with_their_addresses(service: Service) -> None:
    service.app.state.sign_in_attempts = sign_in.attempts()
    with service.database.transaction() as session:
        key = session.scalars(select(ApiKey).where(ApiKey.project_id == service.project_id)).one()
        link = sessions.invite(session, service.settings.secret, key.id, 60)
    ours = {"Origin": service.url.rstrip("/")}
    with httpx.Client(base_url=service.url, headers=ours) as browser:
        assert browser.post("/sign-in", data={"key": "a secret that is wrong"}).status_code == 401
        assert browser.post("/sign-in", data={"key": service.project_id}).status_code == 303
        browser.cookies.clear()
        assert browser.get("/sign-in", params={"link": link}).status_code == 303
        browser.cookies.clear()
        assert browser.get("/sign-in", params={"link": link}).status_code == 401
    by_link, by_key = service.http.get(LOG).json()["data"]
    assert (by_key["method"], by_link["method"]) == ("POST", "GET")
    for row in (by_link, by_key):
        told = (row["key_id"], row["route"], row["status"], row["address"])
        assert told == (key.id, "/sign-in", 303, "127.0.0.1")
    with service.database.snapshot() as session:
        refused = select(AuditEvent).where(AuditEvent.key_id.is_(None), AuditEvent.project_id == "default")
        failed = session.scalars(refused.order_by(AuditEvent.id.desc()).limit(2)).all()
    assert [(row.method, row.status, row.address) for row in failed] == [
        ("GET", 401, "127.0.0.1"),
        ("POST", 401, "127.0.0.1"),
    ]


def test_old_lines_are_forgotten(service: Service) -> None:
    service.http.post("/v1/trajectories", json=RUN).raise_for_status()
    with service.database.transaction() as session:
        audit.purge(session, days=1)
        mine = session.query(AuditEvent).filter_by(project_id=service.project_id)
        assert mine.count() == 1
        audit.purge(session, days=0)
        assert mine.count() == 0
        session.rollback()
