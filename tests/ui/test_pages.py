"""Pages as a browser without scripts gets them."""

from __future__ import annotations

from collections.abc import Iterator
from html import unescape
from html.parser import HTMLParser

import httpx
import pytest

from tests.ui.explored import Explored, done


class Seen(HTMLParser):
    """The words of a page, its links and the samples of its gallery."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.words, self.links, self.samples, self.scripts = "", [""], [-1], 0
        self.links.clear()
        self.samples.clear()
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        told = dict(attrs)
        if tag == "a":
            self.links.append(told.get("href") or "")
        if tag == "li" and "data-index" in told:
            self.samples.append(int(told["data-index"] or -1))
        assert "style" not in told and not any(name.startswith("on") for name in told), attrs

    def handle_data(self, data: str) -> None:
        self.words += " " + " ".join(data.split())


@pytest.fixture(scope="module")
def http(explored: Explored) -> Iterator[httpx.Client]:
    with explored.signed_in() as http:
        yield http


def seen(http: httpx.Client, address: str) -> Seen:
    answer = http.get(address)
    assert answer.status_code == 200, answer.text
    assert "script-src 'self'" in answer.headers["Content-Security-Policy"]
    return Seen(answer.text)


def test_the_overview_tells_what_failed_and_why(http: httpx.Client, explored: Explored) -> None:
    page = seen(http, "/")
    assert f"/jobs/{explored.job}" in page.links
    assert "training diverged" in page.words


def test_jobs_of_one_method_are_told_apart_by_what_they_are_over(
    http: httpx.Client, explored: Explored
) -> None:
    with explored.service.client() as api:
        run = api.get(f"/v1/trajectories/{explored.trajectory}").json()["name"] or explored.trajectory[-6:]
    for address in ("/", f"/datasets/{explored.train}", f"/trajectories/{explored.trajectory}"):
        row = seen(http, address).words.split("what hurts?")[-1].split("succeeded")[0]
        assert "data digits · query queries · run" in row
        assert run in row
        assert f"…{explored.job[-6:]}" in row


def test_rank_and_index_are_told_by_their_names(http: httpx.Client, explored: Explored) -> None:
    page = seen(http, f"/jobs/{explored.job}")
    worst = page.samples[0]
    assert f"rank 1 index {worst} " in " ".join(page.words.split())
    closely = seen(http, f"/jobs/{explored.job}/samples/{worst}")
    assert f"Sample {worst} " in closely.words
    assert f"rank 1 of 600, index {worst} " in closely.words
    for words in (page.words, closely.words, seen(http, f"/datasets/{explored.train}").words):
        assert "#" not in words


def test_the_first_warning_about_scores_is_not_folded_away(http: httpx.Client, explored: Explored) -> None:
    with explored.service.client() as api:
        warned = [
            (one["id"], [warning["detail"] for warning in one["result"]["warnings"]])
            for one in api.get("/v1/jobs", params={"type": "influence"}).json()["data"]
            if one["status"] == "succeeded" and one["result"]["warnings"]
        ]
    assert warned
    for job, (first, *others) in warned:
        note = http.get(f"/jobs/{job}").text.split('aria-label="Warnings about these scores"')[1]
        note = note.split("</section>")[0]
        opened, *folded = note.split("<details>")
        assert first in unescape(opened)
        assert bool(folded) == bool(others)
        assert all(one in unescape(folded[0]) for one in others)


def test_the_gallery_has_the_order_of_the_api(http: httpx.Client, explored: Explored) -> None:
    with explored.service.client() as api:
        for order in ("harmful", "helpful", "suspicion", "index"):
            rows = api.get(f"/v1/jobs/{explored.job}/scores", params={"order": order, "limit": 120}).json()
            expected = [row["sample_index"] for row in rows["data"]]
            first = seen(http, f"/jobs/{explored.job}?order={order}")
            second = seen(http, f"/jobs/{explored.job}?order={order}&page=2")
            assert first.samples + second.samples == expected
    worst = seen(http, f"/jobs/{explored.job}").samples
    assert len(set(worst[:40]) & explored.flipped) >= 30


def test_filters_show_what_they_name_and_nothing_else(http: httpx.Client, explored: Explored) -> None:
    with explored.service.client() as api:
        rows = api.get(f"/v1/jobs/{explored.job}/scores", params={"limit": 600}).json()["data"]
    least = rows[49]["score"]
    wanted = {
        "label=3": {row["sample_index"] for row in rows if row["label"] == 3},
        "predicted=3&differing=1": {
            row["sample_index"] for row in rows if row["predicted_label"] == 3 and row["label"] != 3
        },
        f"min={least!r}": {row["sample_index"] for row in rows if row["score"] >= least},
    }
    for query, expected in wanted.items():
        counted = http.get(f"/jobs/{explored.job}/count?{query}").json()
        assert counted == {"count": len(expected), "of": 600}
        found = seen(http, f"/jobs/{explored.job}?{query}").samples
        assert set(found) <= expected
        assert len(found) == min(60, len(expected))
    assert "No sample passes" in seen(http, f"/jobs/{explored.job}?min=1e9").words


def test_a_sample_tells_when_it_helped_and_when_it_hurt(http: httpx.Client, explored: Explored) -> None:
    [worst, second] = seen(http, f"/jobs/{explored.job}").samples[:2]
    page = seen(http, f"/jobs/{explored.job}/samples/{worst}?order=harmful")
    assert "1 of 600" in page.words
    assert f"/jobs/{explored.job}/samples/{second}?order=harmful" in page.links
    picture = http.get(f"/datasets/{explored.train}/pictures/{worst}")
    assert picture.headers["Content-Type"] == "image/png"
    assert "immutable" in picture.headers["Cache-Control"]
    again = http.get(picture.url.path, headers={"If-None-Match": picture.headers["ETag"]})
    assert again.status_code == 304


def test_charts_lead_to_the_samples_they_count(http: httpx.Client, explored: Explored) -> None:
    page = seen(http, f"/jobs/{explored.job}/charts")
    cell = next(link for link in page.links if "label=" in link and "predicted=" in link)
    assert seen(http, cell).samples


def test_a_query_shows_its_opponents_and_proponents(http: httpx.Client, explored: Explored) -> None:
    assert f"/jobs/{explored.by_query}/queries/5" in seen(http, f"/jobs/{explored.by_query}/queries").links
    page = seen(http, f"/jobs/{explored.by_query}/queries/5")
    with explored.service.client() as api:
        for side in ("opponents", "proponents"):
            first = api.get(
                f"/v1/jobs/{explored.by_query}/queries/5/influences", params={"order": side, "limit": 1}
            ).json()["data"][0]["sample_index"]
            assert f"/jobs/{explored.by_query}/samples/{first}" in page.links


def test_rows_of_a_table_are_shown_as_such(http: httpx.Client, explored: Explored) -> None:
    page = seen(http, f"/jobs/{explored.table}")
    assert "Oslo" in page.words
    assert "city" in page.words


def test_a_failed_job_says_why_in_words(http: httpx.Client, explored: Explored) -> None:
    assert "Change what the line above names" in seen(http, f"/jobs/{explored.failed}").words


@pytest.mark.parametrize("address", ["/jobs/job_nothing", "/nowhere", "/jobs/job_x?order=upwards"])
def test_what_is_not_there_is_told_on_a_page(http: httpx.Client, address: str) -> None:
    answer = http.get(address)
    assert answer.status_code in (404, 422)
    assert answer.headers["Content-Type"].startswith("text/html")
    assert "To the jobs" in answer.text
    plain = http.get(address, headers={"Accept": "application/json"})
    assert plain.headers["Content-Type"] == "application/problem+json"


def test_a_job_is_deleted_by_a_form_of_ours_alone(http: httpx.Client, explored: Explored) -> None:
    address = f"/jobs/{explored.failed}/delete"
    forged = http.post(address, headers={"Origin": explored.url})
    assert forged.status_code == 403
    assert seen(http, f"/jobs/{explored.failed}")
    token = http.get("/").text.split('name="csrf-token" content="')[1].split('"')[0]
    elsewhere = http.post(
        address, data={"csrf_token": token}, headers={"Origin": "https://elsewhere.example"}
    )
    assert elsewhere.status_code == 403
    running = http.post(
        f"/jobs/{explored.job}/cancel", data={"csrf_token": token}, headers={"Origin": explored.url}
    )
    assert running.headers["Location"] == f"/jobs/{explored.job}"  # it has ended: nothing happens
    assert http.post(address, data={"csrf_token": token}, headers={"Origin": explored.url}).status_code == 303
    assert http.get(f"/jobs/{explored.failed}").status_code == 404


def test_scripts_are_never_older_than_the_page(http: httpx.Client) -> None:
    plain = http.get("/ui/static/decide.js")
    assert plain.headers["Cache-Control"] == "no-cache"
    again = http.get("/ui/static/decide.js", headers={"If-None-Match": plain.headers["ETag"]})
    assert again.status_code == 304
    named = http.get("/").text.split('src="/ui/static/theme.js')[1].split('"')[0]
    assert "immutable" in http.get(f"/ui/static/theme.js{named}").headers["Cache-Control"]


def test_scores_that_are_no_harm_are_not_called_so(http: httpx.Client, explored: Explored) -> None:
    asked = {"type": "influence", "trajectory_id": explored.trajectory, "train_dataset_id": explored.train}
    with explored.service.client() as api:
        job = done(api, **asked, method={"name": "loss"}, name="by its own loss")
    for address in ("", "/charts", "/samples/3"):
        words = seen(http, f"/jobs/{job['id']}{address}").words
        assert "not a change of the query loss" in words.replace("Not", "not")
        assert "raised the query loss" not in words
        assert "hurt" not in words


def test_a_trained_network_says_how_well_it_does(http: httpx.Client, explored: Explored) -> None:
    with explored.service.client() as api:
        [job] = [
            one
            for one in api.get("/v1/jobs", params={"type": "train"}).json()["data"]
            if one["name"] == "digits, from nothing"
        ]
    words = seen(http, f"/jobs/{job['id']}").words
    assert "training data" in words
    assert f"{100 * job['result']['train']['accuracy']:.1f}%" in words
