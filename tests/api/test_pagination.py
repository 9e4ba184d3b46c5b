"""Pages by keyset: every row once, whatever comes in between."""

from __future__ import annotations

import base64

import pytest

from app.api.pagination import MOST, Paging
from app.api.problems import ApiProblem
from tests.api.front_end import Service, pages, problem


def test_pages_hold_every_row_once_newest_first(service: Service) -> None:
    made = [service.trajectory(name=f"run {i}")["id"] for i in range(7)]
    assert [row["id"] for row in pages(service.http, "/v1/trajectories", limit=3)] == made[::-1]


def test_a_full_last_page_has_no_next(service: Service) -> None:
    for _ in range(2):
        service.trajectory()
    assert service.http.get("/v1/trajectories?limit=2").json()["next_cursor"] is None


def test_rows_made_in_between_do_not_shift_the_pages(service: Service) -> None:
    first, second = (service.trajectory()["id"] for _ in range(2))
    page = service.http.get("/v1/trajectories?limit=1").json()
    service.trajectory()
    rest = service.http.get("/v1/trajectories", params={"cursor": page["next_cursor"]}).json()
    assert [row["id"] for row in (*page["data"], *rest["data"])] == [second, first]


def test_a_cursor_of_other_filters_is_refused(service: Service) -> None:
    for _ in range(2):
        service.upload()
    cursor = service.http.get("/v1/datasets?limit=1").json()["next_cursor"]
    for path in ("/v1/datasets?status=ready&", "/v1/trajectories?", "/v1/jobs?"):
        answer = service.http.get(f"{path}cursor={cursor}")
        body = problem(answer, 400, "invalid_cursor")
        assert body["errors"][0]["pointer"] == "query:cursor"


def test_a_cursor_of_another_project_is_refused(service: Service) -> None:
    for _ in range(2):
        service.trajectory()
    cursor = service.http.get("/v1/trajectories?limit=1").json()["next_cursor"]
    stranger = service.make_key("a stranger", "read", project_id="elsewhere")
    answer = service.http.get("/v1/trajectories", params={"cursor": cursor}, headers=stranger)
    problem(answer, 400, "invalid_cursor")


@pytest.mark.parametrize("cursor", ["", "x", "%%%", "é", base64.b64encode(b"x" * 40 + b"[1]").decode()])
def test_a_cursor_of_ones_own_making_is_refused(service: Service, cursor: str) -> None:
    problem(service.http.get("/v1/jobs", params={"cursor": cursor}), 400, "invalid_cursor")


def test_an_over_large_limit_is_lowered(service: Service) -> None:
    assert service.http.get("/v1/jobs", params={"limit": MOST * 100}).status_code == 200


@pytest.mark.parametrize("limit", ["0", "-1", "many"])
def test_a_limit_below_one_is_refused(service: Service, limit: str) -> None:
    problem(service.http.get("/v1/jobs", params={"limit": limit}), 422, "validation_error")


def test_a_cursor_carries_floats_exactly() -> None:
    paging = Paging(1, None, b"secret")
    position = [0.1 + 0.2, 1e-310, 12]
    _, cursor = paging.cut([position, position], lambda row: row, "list")
    assert Paging(1, cursor, b"secret").after("list") == position
    with pytest.raises(ApiProblem):
        Paging(1, cursor, b"another secret").after("list")
