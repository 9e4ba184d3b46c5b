"""API keys: made and shown once, listed, rotated, revoked at once; who may do that to whose."""

from __future__ import annotations

from typing import Any

import httpx
import pytest
from sqlalchemy import select, update

from app.store import keys, sessions
from app.store.db import utcnow
from app.store.tables import ApiKey, IdempotencyKey
from tests.api.front_end import KEY, Service, bearer, pages, problem, wait_for

KEYS = "/v1/api-keys"


def made(service: Service, **fields: Any) -> dict[str, Any]:
    answer = service.http.post(KEYS, json={"name": "a key", "scopes": ["read"]} | fields)
    assert answer.status_code == 201, answer.text
    assert answer.headers["location"] == f"{KEYS}/{answer.json()['id']}"
    assert answer.headers["cache-control"] == "no-store"
    body: dict[str, Any] = answer.json()
    return body


def status_of(service: Service, text: str) -> int:
    return httpx.get(f"{service.url}/v1/jobs", headers=bearer(text)).status_code


def test_a_key_opens_what_its_scopes_say_and_is_shown_once(service: Service) -> None:
    key = made(service, metadata={"team": "a"})
    assert key["key"].startswith("diffin_")
    assert len(key["key"]) > 40
    assert (key["project_id"], key["status"], key["expires_at"]) == (service.project_id, "live", None)
    headers = bearer(key["key"])
    assert service.http.get("/v1/jobs", headers=headers).status_code == 200
    problem(service.http.post("/v1/trajectories", json={}, headers=headers), 403, "forbidden")
    told = service.http.get(f"{KEYS}/{key['id']}").json()
    assert told == {name: value for name, value in key.items() if name != "key"} | {
        "last_used_at": told["last_used_at"]
    }
    wait_for(lambda: service.http.get(f"{KEYS}/{key['id']}").json()["last_used_at"] is not None)
    with service.database.snapshot() as session:
        row = session.get_one(ApiKey, key["id"])
        assert key["key"] not in str(vars(row))


def test_a_replayed_answer_shows_no_key_and_keeps_none(service: Service) -> None:
    body, once = {"name": "a", "scopes": ["read"]}, {"Idempotency-Key": "the-same"}
    first, again = (service.http.post(KEYS, json=body, headers=once) for _ in range(2))
    assert again.headers["idempotency-replayed"] == "true"
    assert again.json() == first.json() | {"key": None}
    with service.database.snapshot() as session:
        kept = session.scalars(select(IdempotencyKey.body)).all()
    assert not any(first.json()["key"] in (text or "") for text in kept)


def test_keys_are_managed_by_admins_only(service: Service) -> None:
    key = made(service, scopes=["read", "write"])
    headers = bearer(key["key"])
    for method, path in (
        ("GET", KEYS),
        ("GET", f"{KEYS}/{key['id']}"),
        ("POST", KEYS),
        ("PATCH", f"{KEYS}/{key['id']}"),
        ("DELETE", f"{KEYS}/{key['id']}"),
        ("POST", f"{KEYS}/{key['id']}/rotate"),
    ):
        body = {"name": "n", "scopes": ["admin"]} if method in ("POST", "PATCH") else None
        problem(service.http.request(method, path, json=body, headers=headers), 403, "forbidden")


def test_a_revoked_key_and_its_sessions_are_refused_at_once(service: Service) -> None:
    key = made(service)
    with service.database.transaction() as session:
        secret = service.settings.secret
        token = sessions.start(session, secret, key["id"], 60)
        link = sessions.invite(session, secret, key["id"], 60)
    with httpx.Client(base_url=service.url, cookies={"diffin_session": token}) as page:
        assert page.get("/v1/jobs").status_code == 200
        assert service.http.delete(f"{KEYS}/{key['id']}").status_code == 204
        problem(page.get("/v1/jobs"), 401, "unauthorized")
        assert page.get("/sign-in", params={"link": link}).status_code == 401
    assert status_of(service, key["key"]) == 401
    told = service.http.get(f"{KEYS}/{key['id']}").json()
    assert (told["status"], told["revoked_at"] is None) == ("revoked", False)
    assert service.http.delete(f"{KEYS}/{key['id']}").status_code == 204
    problem(service.http.post(f"{KEYS}/{key['id']}/rotate", json={}), 409, "key_not_live")


def test_an_event_stream_ends_with_its_key(service: Service, job: dict[str, Any]) -> None:
    key = made(service)
    headers = bearer(key["key"]) | {"Accept": "text/event-stream"}
    with httpx.stream(
        "GET", f"{service.url}/v1/jobs/{job['id']}/events", headers=headers, timeout=10
    ) as stream:
        lines = stream.iter_lines()
        assert next(lines).startswith("id:")
        service.http.delete(f"{KEYS}/{key['id']}").raise_for_status()
        assert len(list(lines)) < 20  # it ends, though the job does not


def test_a_key_is_good_until_it_expires(service: Service) -> None:
    key = made(service, expires_in_seconds=3600)
    assert status_of(service, key["key"]) == 200
    with service.database.transaction() as session:
        session.execute(update(ApiKey).where(ApiKey.id == key["id"]).values(expires_at=utcnow()))
    assert status_of(service, key["key"]) == 401
    assert service.http.get(f"{KEYS}/{key['id']}").json()["status"] == "expired"


def test_rotation_leaves_the_old_key_good_for_a_while(service: Service) -> None:
    old = made(service, scopes=["read", "write"], name="nightly", metadata={"team": "a"})
    answer = service.http.post(f"{KEYS}/{old['id']}/rotate", json={"overlap_seconds": 3600})
    assert answer.status_code == 201, answer.text
    new = answer.json()
    assert new["key"] != old["key"]
    for field in ("name", "metadata", "scopes", "project_id", "expires_at"):
        assert new[field] == old[field]
    assert status_of(service, old["key"]) == status_of(service, new["key"]) == 200
    told = service.http.get(f"{KEYS}/{old['id']}").json()
    assert (told["replaced_by"], told["expires_at"] is None) == (new["id"], False)
    service.http.post(f"{KEYS}/{new['id']}/rotate", json={"overlap_seconds": 0}).raise_for_status()
    assert status_of(service, new["key"]) == 401


def test_lists_tell_the_keys_of_a_status(service: Service) -> None:
    live, revoked = made(service, name="live"), made(service, name="revoked")
    service.http.delete(f"{KEYS}/{revoked['id']}").raise_for_status()
    names = [row["name"] for row in pages(service.http, KEYS, limit=1)]
    assert names == ["revoked", "live", service.project_id]
    listed = service.http.get(KEYS, params={"status": "revoked"}).json()["data"]
    assert [row["id"] for row in listed] == [revoked["id"]]
    renamed = service.http.patch(f"{KEYS}/{live['id']}", json={"name": "other"}).json()
    assert renamed["name"] == "other"


def test_a_projects_admin_rules_its_keys_and_no_others(service: Service) -> None:
    stranger = service.make_key(f"of {service.project_id}", "admin", project_id=f"not {service.project_id}")
    key = made(service)
    for method, path, body in (
        ("GET", f"{KEYS}/{key['id']}", None),
        ("PATCH", f"{KEYS}/{key['id']}", {"name": "mine"}),
        ("DELETE", f"{KEYS}/{key['id']}", None),
        ("POST", f"{KEYS}/{key['id']}/rotate", {}),
    ):
        problem(service.http.request(method, path, json=body, headers=stranger), 404, "not_found")
    asked = {"name": "n", "scopes": ["read"], "project_id": "default"}
    problem(service.http.post(KEYS, json=asked), 403, "forbidden")
    problem(service.http.get(KEYS, params={"project_id": "default"}), 403, "forbidden")


def test_an_admin_of_the_default_project_rules_all_projects(service: Service) -> None:
    operator, project = bearer(KEY), f"team-{service.project_id[-12:]}"
    asked = {"name": "first of the team", "scopes": ["admin"], "project_id": project}
    key = service.http.post(KEYS, json=asked, headers=operator).json()
    assert service.http.get(KEYS, headers=bearer(key["key"])).json()["data"][0]["id"] == key["id"]
    listed = service.http.get(KEYS, params={"project_id": project}, headers=operator).json()["data"]
    assert [row["id"] for row in listed] == [key["id"]]
    assert service.http.delete(f"{KEYS}/{key['id']}", headers=operator).status_code == 204


def test_the_last_way_in_is_not_closed(service: Service) -> None:
    operator = bearer(KEY)
    with service.database.snapshot() as session:
        lasting = keys.lasting_admins(session, "default")
    assert len(lasting) == 1
    problem(service.http.delete(f"{KEYS}/{lasting[0]}", headers=operator), 409, "last_admin_key")
    assert service.http.get("/v1/jobs", headers=operator).status_code == 200


@pytest.mark.parametrize(
    "change",
    [
        {"scopes": []},
        {"scopes": ["root"]},
        {"expires_in_seconds": 0},
        {"project_id": "../default"},
        {"project_id": ""},
        {"name": ""},
        {"key": "my own"},
    ],
)
def test_what_makes_no_sense_is_refused(service: Service, change: dict[str, Any]) -> None:
    asked = {"name": "n", "scopes": ["read"]} | change
    problem(service.http.post(KEYS, json=asked), 422, "validation_error")
