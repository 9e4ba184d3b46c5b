"""Signing in: by key or by a link that works once; what a session may do, and when it ends."""

from __future__ import annotations

import httpx

from tests.ui.explored import Explored


def test_nobody_sees_a_page_without_signing_in(explored: Explored) -> None:
    with httpx.Client(base_url=explored.url) as http:
        for address in ("/", f"/jobs/{explored.job}", f"/jobs/{explored.job}/charts?x=1"):
            answer = http.get(address)
            assert answer.status_code == 303
            assert answer.headers["Location"].startswith("/sign-in?next=/")
        assert http.get(f"/datasets/{explored.train}/pictures/0").status_code == 303
        assert http.get("/live").status_code == 303


def test_a_wrong_key_is_told_in_place(explored: Explored) -> None:
    with httpx.Client(base_url=explored.url) as http:
        answer = http.post("/sign-in", data={"key": "no such key"}, headers={"Origin": explored.url})
        assert answer.status_code == 401
        assert 'role="alert"' in answer.text
        assert "diffin_session" not in http.cookies


def test_a_session_leads_where_one_wanted_but_never_elsewhere(explored: Explored) -> None:
    for wanted, leads in (
        (f"/jobs/{explored.job}?page=2", None),
        ("//evil.example", "/"),
        ("https://e.x/", "/"),
    ):
        with httpx.Client(base_url=explored.url) as http:
            form = {"key": explored.service.key, "next": wanted}
            answer = http.post("/sign-in", data=form, headers={"Origin": explored.url})
            assert answer.headers["Location"] == (leads or wanted)
            cookie = answer.headers["Set-Cookie"].lower()
            assert "httponly" in cookie
            assert "samesite=" in cookie


def test_the_api_takes_the_cookie_but_writes_need_the_token(explored: Explored) -> None:
    with explored.signed_in() as http:
        assert http.get(f"/v1/jobs/{explored.job}").status_code == 200
        token = http.get("/").text.split('name="csrf-token" content="')[1].split('"')[0]
        address, body = f"/v1/datasets/{explored.query}", {"notes": "seen"}
        assert http.patch(address, json=body).status_code == 403
        assert http.patch(address, json=body, headers={"X-CSRF-Token": "guessed"}).status_code == 403
        ours = {"X-CSRF-Token": token, "Origin": explored.url}
        assert http.patch(address, json=body, headers=ours).status_code == 200
        foreign = ours | {"Origin": "https://elsewhere.example"}
        assert http.patch(address, json=body, headers=foreign).status_code == 403


def test_signing_out_ends_the_session(explored: Explored) -> None:
    with explored.signed_in() as http:
        token = http.get("/").text.split('name="csrf-token" content="')[1].split('"')[0]
        cookie = dict(http.cookies)
        out = http.post("/sign-out", data={"csrf_token": token}, headers={"Origin": explored.url})
        assert out.headers["Location"] == "/sign-in"
        with httpx.Client(base_url=explored.url, cookies=cookie) as stolen:
            assert stolen.get("/").status_code == 303
            assert stolen.get(f"/v1/jobs/{explored.job}").status_code == 401
