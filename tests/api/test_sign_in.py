"""Signing in to the page: sessions, what a write by cookie has to prove, links that work once."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from sqlalchemy import update

from app.store import keys, sessions
from app.store.db import Database, utcnow
from app.store.tables import ApiKey, WebSession
from app.ui import sign_in
from app.ui.visitors import PageCaller, PageWriter, safe
from tests.api.front_end import RUN, Service, problem


@pytest.fixture
def browser(service: Service) -> Iterator[httpx.Client]:
    """Sends what browsers send of a form on our own page; nobody is signed in."""
    service.app.state.sign_in_attempts = sign_in.attempts()  # each test has its own
    headers = {"Origin": service.url.rstrip("/"), "Sec-Fetch-Site": "same-origin"}
    with httpx.Client(base_url=service.url, headers=headers) as http:
        yield http


def enter(browser: httpx.Client, key: str, **form: str) -> httpx.Response:
    return browser.post("/sign-in", data={"key": key, **form})


def token_of(service: Service, browser: httpx.Client) -> str:
    return sessions.csrf_token(service.settings.secret, browser.cookies["diffin_session"])


def test_a_key_signs_in_and_the_session_reads(service: Service, browser: httpx.Client) -> None:
    answer = enter(browser, service.project_id, next="/jobs?status=failed")
    assert (answer.status_code, answer.headers["location"]) == (303, "/jobs?status=failed")
    told = answer.headers["set-cookie"].lower()
    assert told.startswith("diffin_session=") and "; path=/" in told
    assert "httponly" in told and "samesite=lax" in told and "secure" not in told
    trajectory_id = service.trajectory()["id"]
    assert browser.get(f"/v1/trajectories/{trajectory_id}").status_code == 200


def test_behind_https_the_cookie_is_secure(service: Service, browser: httpx.Client) -> None:
    browser.headers["X-Forwarded-Proto"] = "https"  # of a proxy on the same machine
    assert "; secure" in enter(browser, service.project_id).headers["set-cookie"].lower()


def test_the_token_is_nowhere_in_the_database(service: Service, browser: httpx.Client) -> None:
    enter(browser, service.project_id)
    token = browser.cookies["diffin_session"]
    with service.database.snapshot() as session:
        assert session.get(WebSession, token) is None
        assert session.get(WebSession, keys.digest(service.settings.secret, token)) is not None


def test_a_wrong_key_is_told_so_in_the_form(browser: httpx.Client) -> None:
    answer = enter(browser, "<script>")
    assert answer.status_code == 401 and "set-cookie" not in answer.headers
    assert 'role="alert"' in answer.text and "<script>" not in answer.text


def test_a_write_by_cookie_needs_the_token(service: Service, browser: httpx.Client) -> None:
    enter(browser, service.project_id)
    problem(browser.post("/v1/trajectories", json=RUN), 403, "csrf_failed")
    wrong = {"X-CSRF-Token": token_of(service, browser)[:-1] + "x"}
    problem(browser.post("/v1/trajectories", json=RUN, headers=wrong), 403, "csrf_failed")
    right = {"X-CSRF-Token": token_of(service, browser)}
    assert browser.post("/v1/trajectories", json=RUN, headers=right).status_code == 201


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Sec-Fetch-Site": "none", "Origin": "http://127.0.0.1:1"},
    ],
)
def test_a_write_by_cookie_from_elsewhere_is_refused(
    service: Service, browser: httpx.Client, headers: dict[str, str]
) -> None:
    enter(browser, service.project_id)
    sent = {"X-CSRF-Token": token_of(service, browser)} | headers
    problem(browser.post("/v1/trajectories", json=RUN, headers=sent), 403, "csrf_failed")
    problem(browser.post("/sign-in", data={"key": service.project_id}, headers=headers), 403, "csrf_failed")


def test_a_write_by_cookie_must_say_where_it_comes_from(service: Service, browser: httpx.Client) -> None:
    enter(browser, service.project_id)
    sent = {"X-CSRF-Token": token_of(service, browser)}
    for name in ("Origin", "Sec-Fetch-Site"):
        del browser.headers[name]
    problem(browser.post("/v1/trajectories", json=RUN, headers=sent), 403, "csrf_failed")


def test_one_sessions_token_is_no_good_for_another(service: Service, browser: httpx.Client) -> None:
    enter(browser, service.project_id)
    first = token_of(service, browser)
    enter(browser, service.project_id)
    answer = browser.post("/v1/trajectories", json=RUN, headers={"X-CSRF-Token": first})
    problem(answer, 403, "csrf_failed")


def test_a_link_that_was_used_leads_on_who_is_signed_in(service: Service, browser: httpx.Client) -> None:
    enter(browser, service.project_id)
    for _ in range(2 * sign_in.FAILURES_A_MINUTE):  # it counts as no failure
        answer = browser.get("/sign-in", params={"link": "used before", "next": "/jobs?page=2"})
        assert (answer.status_code, answer.headers["location"]) == (303, "/jobs?page=2")
    browser.cookies.clear()
    assert browser.get("/sign-in", params={"link": "used before"}).status_code == 401


def test_revoking_the_key_ends_its_sessions_at_once(service: Service, browser: httpx.Client) -> None:
    enter(browser, service.project_id)
    assert browser.get("/v1/jobs").status_code == 200
    with service.database.transaction() as session:
        mine = ApiKey.project_id == service.project_id
        session.execute(update(ApiKey).where(mine).values(revoked_at=utcnow()))
    problem(browser.get("/v1/jobs"), 401, "unauthorized")


def test_a_session_has_its_keys_scopes(service: Service, browser: httpx.Client) -> None:
    service.make_key(f"reads {service.project_id}", "read")
    enter(browser, f"reads {service.project_id}")
    answer = browser.post("/v1/trajectories", json=RUN, headers={"X-CSRF-Token": token_of(service, browser)})
    problem(answer, 403, "forbidden")


def test_an_expired_session_is_over(service: Service, browser: httpx.Client) -> None:
    enter(browser, service.project_id)
    digest = keys.digest(service.settings.secret, browser.cookies["diffin_session"])
    with service.database.transaction() as session:
        session.get_one(WebSession, digest).expires_at = 1.0
    problem(browser.get("/v1/jobs"), 401, "unauthorized")
    with service.database.transaction() as session:
        sessions.purge(session)
        assert session.get(WebSession, digest) is None


def test_signing_out_ends_the_session_and_not_only_the_cookie(
    service: Service, browser: httpx.Client
) -> None:
    enter(browser, service.project_id)
    kept = browser.cookies["diffin_session"]
    problem(browser.post("/sign-out"), 403, "csrf_failed")
    answer = browser.post("/sign-out", data={"csrf_token": token_of(service, browser)})
    assert (answer.status_code, answer.headers["location"]) == (303, "/sign-in")
    assert "diffin_session" not in browser.cookies
    browser.cookies["diffin_session"] = kept
    problem(browser.get("/v1/jobs"), 401, "unauthorized")


def test_signing_in_again_ends_the_session_before(service: Service, browser: httpx.Client) -> None:
    enter(browser, service.project_id)
    before = browser.cookies["diffin_session"]
    enter(browser, service.project_id)
    browser.cookies.clear()
    browser.cookies["diffin_session"] = before
    problem(browser.get("/v1/jobs"), 401, "unauthorized")


def test_after_ten_failures_an_address_has_to_wait(service: Service, browser: httpx.Client) -> None:
    statuses = [enter(browser, f"guess {n}").status_code for n in range(11)]
    assert statuses == [401] * 10 + [429]
    answer = enter(browser, service.project_id)  # the right one, too late
    assert answer.status_code == 429 and 1 <= int(answer.headers["retry-after"]) <= 6


def test_signing_in_is_no_failure(service: Service, browser: httpx.Client) -> None:
    assert {enter(browser, service.project_id).status_code for _ in range(15)} == {303}


@pytest.mark.parametrize("path", ["/", "/jobs", "/jobs?status=failed&limit=5", "/jobs/a#b"])
def test_a_page_of_ours_is_led_back_to(path: str) -> None:
    assert safe(path) == path


@pytest.mark.parametrize(
    "path",
    [
        *("", "jobs", "//evil.example", "/\\evil.example", "\\\\evil.example", " //evil.example", "/a\\b"),
        *("https://evil.example", "/\t/evil.example", "javascript:alert(1)", "/a\r\nSet-Cookie: x=y", "/ü"),
    ],
)
def test_nobody_is_led_elsewhere(path: str, service: Service, browser: httpx.Client) -> None:
    assert safe(path) == "/"
    assert enter(browser, service.project_id, next=path).headers["location"] == "/"


# ---------------------------------------------------------------- links
def test_a_link_signs_in_once(service: Service, browser: httpx.Client) -> None:
    link = invitation(service)

    def follow(_: int) -> int:
        return httpx.get(f"{service.url}/sign-in", params={"link": link}).status_code

    with ThreadPoolExecutor(4) as pool:
        assert sorted(pool.map(follow, range(4))) == [303, 401, 401, 401]


def test_a_link_is_no_session_and_too_old_it_is_nothing(service: Service, browser: httpx.Client) -> None:
    browser.cookies["diffin_session"] = invitation(service)
    problem(browser.get("/v1/jobs"), 401, "unauthorized")
    old = invitation(service, seconds=-1)
    assert browser.get("/sign-in", params={"link": old}).status_code == 401
    assert browser.get("/sign-in", params={"link": invitation(service)}).status_code == 303
    assert browser.get("/v1/jobs").status_code == 200


def invitation(service: Service, seconds: float = 60) -> str:
    with service.database.transaction() as session:
        key = keys.find(session, service.settings.secret, service.project_id)
        assert key is not None
        return sessions.invite(session, service.settings.secret, key.id, seconds)


# ---------------------------------------------------------------- pages
@pytest.fixture(scope="module")
def pages(front_end: tuple[FastAPI, str]) -> None:
    """Two pages of the tests."""
    app, _ = front_end

    @app.get("/_test/page", include_in_schema=False)
    def page(visitor: PageCaller) -> dict[str, Any]:
        return {"project": visitor.project_id, "key": visitor.key_name, "token": visitor.csrf_token}

    @app.post("/_test/page", include_in_schema=False)
    def write(visitor: PageWriter) -> dict[str, Any]:
        return {"project": visitor.project_id}


@pytest.mark.usefixtures("pages")
def test_a_page_sends_strangers_to_the_sign_in_and_back(service: Service, browser: httpx.Client) -> None:
    answer = browser.get("/_test/page?a=1&b=2")
    assert (answer.status_code, answer.headers["location"]) == (
        303,
        "/sign-in?next=/_test/page%3Fa%3D1%26b%3D2",
    )
    form = browser.get(answer.headers["location"]).text
    assert '<input type="hidden" name="next" value="/_test/page?a=1&amp;b=2">' in form
    assert browser.post("/_test/page").headers["location"] == "/sign-in?next=/"


@pytest.mark.usefixtures("pages")
def test_a_page_knows_who_looks_and_takes_their_forms(service: Service, browser: httpx.Client) -> None:
    enter(browser, service.project_id)
    told = browser.get("/_test/page").json()
    assert told["project"] == told["key"] == service.project_id
    assert told["token"] == token_of(service, browser)
    problem(browser.post("/_test/page", data={"csrf_token": "x"}), 403, "csrf_failed")
    ours = {"project": service.project_id}
    assert browser.post("/_test/page", data={"csrf_token": told["token"]}).json() == ours
    assert browser.post("/_test/page", headers={"X-CSRF-Token": told["token"]}).json() == ours


def test_answers_let_browsers_run_nothing_of_others(browser: httpx.Client) -> None:
    for path in ("/sign-in", "/v1/jobs", "/livez", "/nothing"):
        headers = browser.get(path).headers
        assert "script-src 'self';" in headers["content-security-policy"]
        assert "frame-ancestors 'none'" in headers["content-security-policy"]
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["referrer-policy"] == "same-origin"
    assert browser.get("/sign-in").headers["cache-control"] == "no-store"


# ---------------------------------------------------------------- both databases
def test_sessions_are_kept_alike_on_both_databases(database: Database) -> None:
    secret = b"secret"
    with database.transaction() as session:
        keys.ensure_first(session, secret, "the first key")
        key = keys.find(session, secret, "the first key")
        assert key is not None
        token, link = (make(session, secret, key.id, 60) for make in (sessions.start, sessions.invite))
        old = sessions.start(session, secret, key.id, -1)
    with database.transaction() as session:
        found = sessions.find(session, secret, token)
        assert found is not None and found.id == key.id
        assert sessions.find(session, secret, link) is sessions.find(session, secret, old) is None
        redeemed = sessions.redeem(session, secret, link)
        assert redeemed is not None and redeemed.id == key.id
        assert sessions.redeem(session, secret, link) is None
        sessions.end(session, secret, token)
        assert sessions.find(session, secret, token) is None
