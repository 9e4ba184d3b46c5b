"""Deciding about samples, and making selections: by plain forms, and in a real browser by keys."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from playwright.sync_api import Page, expect

from tests.ui.explored import Explored, finished
from tests.ui.test_pages import Seen, seen


@pytest.fixture(scope="module")
def http(explored: Explored) -> Iterator[httpx.Client]:
    with explored.signed_in() as http:
        yield http


@pytest.fixture(autouse=True)
def undecided(explored: Explored) -> Iterator[None]:
    """Takes back what a test decided."""
    yield
    with explored.service.client() as api:
        path = f"/v1/jobs/{explored.job}/decisions"
        told = [{"sample_index": row["sample_index"], "action": None} for row in api.get(path).json()["data"]]
        if told:
            assert api.put(path, json={"decisions": told}).status_code == 200


def token(http: httpx.Client) -> str:
    return http.get("/").text.split('name="csrf-token" content="')[1].split('"')[0]


def post(http: httpx.Client, explored: Explored, address: str, **fields: Any) -> httpx.Response:
    data = {"csrf_token": token(http), **fields}
    return http.post(address, data=data, headers={"Origin": explored.url})


def made(http: httpx.Client, explored: Explored, **fields: Any) -> dict[str, Any]:
    """A selection asked for by the form, done."""
    answer = post(http, explored, f"/jobs/{explored.job}/selections", **fields)
    assert answer.status_code == 303, Seen(answer.text).words
    assert answer.headers["Location"].startswith("/selections/sel_")
    assert seen(http, answer.headers["Location"])
    with explored.service.client() as api:
        found = finished(api, f"/v1{answer.headers['Location']}")
    assert found["status"] == "succeeded", found
    return found


def test_a_form_decides_and_goes_back_to_where_it_was(http: httpx.Client, explored: Explored) -> None:
    address, job = f"/jobs/{explored.job}/decisions", f"/jobs/{explored.job}"
    assert "Nothing decided yet" in seen(http, address).words
    first, second, third = seen(http, job).samples[:3]
    back = f"{job}?order=harmful"
    answer = post(http, explored, address, sample_index=[first, second], action="remove", next=back)
    assert answer.headers["Location"] == back
    answer = post(http, explored, address, sample_index=[third], action="relabel", label="predicted")
    assert answer.headers["Location"] == address
    post(http, explored, address, sample_index=[second], action="undo", next="https://e.x/")
    page = http.get(job).text
    assert "✕ remove" in page
    assert "⇄ " in page
    assert "✕ remove" in http.get(f"{job}/samples/{first}").text
    assert seen(http, address).words.count("✕ remove") == 1
    assert f"{job}/samples/{third}" in seen(http, f"{address}?action=relabel").links
    with explored.service.client() as api:
        rows = {row["sample_index"]: row for row in api.get(f"/v1{address}").json()["data"]}
        predicted = api.get(f"/v1{job}/scores/{third}").json()["predicted_label"]
    assert {index: row["action"] for index, row in rows.items()} == {first: "remove", third: "relabel"}
    assert rows[third]["label"] == predicted


def test_what_makes_no_sense_is_told_in_words(http: httpx.Client, explored: Explored) -> None:
    address = f"/jobs/{explored.job}/decisions"
    nothing = post(http, explored, address, action="remove")
    assert nothing.status_code == 422
    assert "Tick some samples first" in nothing.text
    unknown = post(http, explored, address, sample_index=[1], action="relabel", label="77")
    assert unknown.status_code == 422
    assert "classes 0 to 9" in unknown.text
    forged = http.post(address, data={"sample_index": 1, "action": "keep"}, headers={"Origin": explored.url})
    assert forged.status_code == 403
    assert "Nothing decided yet" in seen(http, address).words


@pytest.mark.parametrize(
    ("fields", "words", "typed"),
    [
        ({"type": "clean", "amount": "size", "size": "many"}, "is not a whole number", "many"),
        ({"type": "clean", "amount": "size", "size": "601"}, "scored 600 samples", "601"),
        ({"type": "clean", "amount": "fraction", "fraction": "150%"}, "less than or equal to 1", "150%"),
        (
            {"type": "coreset", "kept": "size", "kept_size": ""},
            "Give a whole number",
            'value="coreset" checked',
        ),
        ({"type": "deletion", "indices": "3, x"}, "is no index", "3, x"),
        ({"type": "deletion", "indices": "0-599"}, "nothing would be left", "0-599"),
        ({"type": "deletion", "indices": "7, 700"}, "[700] are beyond", "7, 700"),
        ({"type": "decided", "name": "mine"}, "decide first", "mine"),
        ({"type": "clean", "verify": "1", "seeds": "1"}, "greater than or equal to 2", 'value="1"'),
    ],
)
def test_a_form_that_is_wrong_says_where_and_loses_nothing(
    http: httpx.Client, explored: Explored, fields: dict[str, str], words: str, typed: str
) -> None:
    answer = post(http, explored, f"/jobs/{explored.job}/selections", **fields)
    assert answer.status_code in (409, 422)
    assert words in Seen(answer.text).words
    assert typed in answer.text
    assert 'role="alert"' in answer.text


def test_a_threshold_of_the_gallery_becomes_a_selection(http: httpx.Client, explored: Explored) -> None:
    with explored.service.client() as api:
        rows = api.get(f"/v1/jobs/{explored.job}/scores", params={"limit": 70}).json()["data"]
    least = rows[-1]["score"]
    found = made(http, explored, type="clean", amount="threshold", threshold=repr(least), by="score")
    assert (found["size"], found["request"]["relabel"]) == (70, True)
    page, second = (seen(http, f"/selections/{found['id']}?page={at}") for at in (1, 2))
    shown = [link for link in page.links + second.links if f"/jobs/{explored.job}/samples/" in link]
    assert {int(link.rsplit("/", 1)[1]) for link in shown} >= {row["sample_index"] for row in rows}
    assert "Expected change of the query loss" in page.words
    assert f"/selections/{found['id']}" in seen(http, f"/jobs/{explored.job}/selections").links
    deleted = post(http, explored, f"/selections/{found['id']}/delete")
    assert deleted.headers["Location"] == f"/jobs/{explored.job}/selections"
    assert http.get(f"/selections/{found['id']}").status_code == 404


def test_a_coreset_says_how_many_it_keeps(http: httpx.Client, explored: Explored) -> None:
    found = made(http, explored, type="coreset", kept="fraction", kept_fraction="30%", name="a third")
    page = seen(http, f"/selections/{found['id']}")
    assert "180" in page.words
    assert "a third" in page.words


def test_a_deletion_shows_what_networks_know_and_is_verified(http: httpx.Client, explored: Explored) -> None:
    found = made(http, explored, type="deletion", indices="3, 17, 20-22", verify="1", seeds="2")
    assert found["size"] == 5
    page = seen(http, f"/selections/{found['id']}")
    for words in ("original", "updated", "trained without them", "membership AUC", "Before and after"):
        assert words in page.words
    text = found["result"]["verification"]["text"]
    assert text in page.words
    if not found["result"]["verification"]["changed"]:
        assert text.startswith("Nothing changed")
    assert f"/v1/selections/{found['id']}/checkpoint" in page.links
    taken = http.get(f"/v1/selections/{found['id']}/checkpoint")
    assert taken.status_code == 200
    assert len(taken.content) > 1000


def test_decisions_are_made_a_selection_and_downloaded(http: httpx.Client, explored: Explored) -> None:
    address = f"/jobs/{explored.job}/decisions"
    post(http, explored, address, sample_index=[5, 6], action="remove")
    post(http, explored, address, sample_index=[7], action="relabel", label="3")
    post(http, explored, address, sample_index=[8], action="keep")
    table = http.get(f"/v1{address}/content?format=csv")
    rows = list(csv.DictReader(io.StringIO(table.text)))
    assert [row["action"] for row in rows] == ["remove", "remove", "relabel", "keep"]
    found = made(http, explored, type="decided", verify="1", seeds="2")
    assert found["result"]["verification"]["seeds"] == 2
    manifest = http.get(f"/v1/selections/{found['id']}/manifest").json()
    assert (manifest["remove"], manifest["relabel"]) == (
        [5, 6],
        [{"sample_index": 7, "sample_id": None, "label": 3}],
    )
    for form, words in (("csv", "7,relabel,3"), ("dvc", "hash: md5")):
        assert words in http.get(f"/v1/selections/{found['id']}/manifest?format={form}").text


def test_a_sample_without_classes_is_not_offered_another_label(
    http: httpx.Client, explored: Explored
) -> None:
    page = http.get(f"/jobs/{explored.table}/selections")
    assert page.status_code == 200
    assert "can't be verified" not in page.text or "recipe" in page.text


def test_from_the_gallery_to_the_manifest_by_keys(page: Page, explored: Explored, tmp_path: Path) -> None:
    page.goto(f"/jobs/{explored.job}")
    cards = page.locator("[data-index]")
    wanted = [int(cards.nth(at).get_attribute("data-index") or -1) for at in range(3)]
    cards.first.locator(".media").focus()
    page.keyboard.press("Space")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Space")
    expect(page.locator("[data-ticked]")).to_have_text("2 ticked")
    page.keyboard.press("x")
    expect(page.locator("[data-ticked]")).to_have_text("2 to remove")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("r")
    expect(cards.nth(2).locator("[data-verdict]")).to_contain_text("⇄")
    page.get_by_role("link", name="My decisions").press("Enter")
    expect(page.get_by_role("link", name="to remove (2)")).to_be_visible()
    expect(page.locator(".sample.remove")).to_have_count(2)
    page.get_by_role("button", name="Make a selection of it").press("Enter")
    page.wait_for_url("**/selections/sel_*")
    expect(page.get_by_role("link", name="Manifest as CSV")).to_be_visible(timeout=20_000)
    with page.expect_download() as told:
        page.get_by_role("link", name="JSON").press("Enter")
    told.value.save_as(tmp_path / "manifest.json")
    manifest = json.loads((tmp_path / "manifest.json").read_text())
    assert manifest["remove"] == sorted(wanted[:2])
    assert [one["sample_index"] for one in manifest["relabel"]] == wanted[2:]


def test_a_selection_in_the_making_shows_itself_when_done(page: Page, explored: Explored) -> None:
    page.goto(f"/jobs/{explored.job}/selections")
    page.get_by_role("radio", name="Coreset").check()
    expect(page.get_by_role("textbox", name="Share to keep")).to_be_visible()
    expect(page.get_by_label("Indices")).to_be_hidden()
    page.get_by_role("textbox", name="Number to keep").fill("100")
    expect(page.get_by_role("radio", name="A number to keep")).to_be_checked()
    page.get_by_role("textbox", name="Share to keep").fill("50%")
    expect(page.get_by_role("radio", name="A share to keep")).to_be_checked()
    page.get_by_role("button", name="Make the selection").click()
    page.wait_for_url("**/selections/sel_*")
    expect(page.get_by_role("link", name="Manifest as CSV")).to_be_visible(timeout=20_000)
    expect(page.get_by_role("heading", name="Its samples")).to_be_visible()
    expect(page.get_by_text("300", exact=True).first).to_be_visible()
