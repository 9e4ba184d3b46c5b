"""A new job without a script: what is here is chosen and started, and errors stand where they belong."""

from __future__ import annotations

import re
from collections.abc import Iterator

import httpx
import pytest

from app.catalog import METHODS
from app.ui.new import IN_WORDS
from tests.ui.explored import Explored, finished
from tests.ui.forms import post
from tests.ui.test_pages import seen


@pytest.fixture(scope="module")
def http(explored: Explored) -> Iterator[httpx.Client]:
    with explored.signed_in() as http:
        yield http


def chosen(html: str) -> set[str]:
    return set(re.findall(r'<option value="([^"]+)"[^>]*? selected', html))


def test_the_address_fills_the_form_in(http: httpx.Client, explored: Explored) -> None:
    ids = {
        "trajectory_id": explored.trajectory,
        "train_dataset_id": explored.train,
        "query_dataset_id": explored.query,
    }
    html = http.get("/jobs/new", params=ids).text
    assert set(ids.values()) <= chosen(html)
    assert "diff_in" in chosen(html)
    seen(http, "/jobs/new?way=train")
    assert explored.train not in chosen(http.get("/jobs/new").text)


def test_without_stores_nothing_is_named_where_it_lies(http: httpx.Client) -> None:
    assert "where it lies" not in http.get("/jobs/new").text


def test_every_method_is_told_in_words(http: httpx.Client) -> None:
    assert IN_WORDS.keys() == METHODS.keys()
    words = seen(http, "/jobs/new").words
    assert all(one.title in words for one in METHODS.values())


def test_a_plain_form_starts_an_influence_job(http: httpx.Client, explored: Explored) -> None:
    fields = {
        "way": "checkpoints",
        "trajectory_id": explored.trajectory,
        "train_dataset_id": explored.train,
        "query_dataset_id": explored.query,
        "method": "tracin",
        "per_query": "1",
        "name": "by a plain form",
    }
    answer = post(http, "/jobs/new", "/jobs/new", **fields)
    assert answer.status_code == 303, answer.text
    with explored.service.client() as api:
        job = finished(api, f"/v1{answer.headers['Location']}")
        assert job["status"] == "succeeded"
        assert job["name"] == "by a plain form"
        assert job["method"] == {"name": "tracin", "per_query": True} | {
            name: job["method"][name] for name in job["method"].keys() - {"name", "per_query"}
        }
        assert api.delete(f"/v1/jobs/{job['id']}").status_code == 204


def test_a_plain_form_starts_a_training_of_what_is_proposed(http: httpx.Client, explored: Explored) -> None:
    fields = {"way": "train", "train_dataset_id": explored.query, "epochs": "2", "architecture": "linear"}
    answer = post(http, "/jobs/new", "/jobs/new?way=train", **fields)
    assert answer.status_code == 303, answer.text
    with explored.service.client() as api:
        job = finished(api, f"/v1{answer.headers['Location']}")
        assert job["status"] == "succeeded"
        assert job["recipe"]["epochs"] == 2
        assert job["architecture"]["config"]["in_features"] == 64
        assert api.delete(f"/v1/jobs/{job['id']}").status_code == 204
        run = job["result"]["trajectory_id"]
    assert post(http, f"/trajectories/{run}/delete").status_code == 303


@pytest.mark.parametrize(
    ("fields", "pointer", "words"),
    [
        ({"train_dataset_id": ""}, "/train_dataset_id", "is required"),
        ({"trajectory_id": ""}, "/trajectory_id", "Choose a run"),
        ({"query_dataset_id": ""}, "/query_dataset_id", "query"),
        ({"query_dataset_id": "ds_gone"}, "/query_dataset_id", "There is no data set"),
        ({"method": "magic"}, "/method/name", "known:"),
    ],
)
def test_errors_stand_at_their_field_and_nothing_typed_is_lost(
    http: httpx.Client, explored: Explored, fields: dict[str, str], pointer: str, words: str
) -> None:
    asked = {
        "trajectory_id": explored.trajectory,
        "train_dataset_id": explored.train,
        "query_dataset_id": explored.query,
        "method": "diff_in",
        "name": "kept as it is",
    } | fields
    answer = post(http, "/jobs/new", "/jobs/new", **asked)
    assert answer.status_code in (404, 422), answer.text
    _, _, place = answer.text.partition(f'data-pointer="{pointer.removesuffix("/name")}"')
    told = re.findall(r'<p class="error" data-error\s*>([^<]+)', place.partition("</fieldset>")[0])
    assert any(words in one for one in told), told
    assert 'value="kept as it is"' in answer.text
    kept = {asked[name] for name in ("trajectory_id", "train_dataset_id") if asked[name]}
    assert kept <= chosen(answer.text)


def test_numbers_of_a_training_are_refused_where_they_stand(http: httpx.Client, explored: Explored) -> None:
    fields = {"way": "train", "train_dataset_id": explored.train, "epochs": "many", "batch_size": "-1"}
    answer = post(http, "/jobs/new", "/jobs/new?way=train", **fields)
    assert answer.status_code == 422
    for field, typed in (("epochs", "many"), ("batch_size", "-1")):
        place = re.search(rf'<input id="{field}"[^>]*>', answer.text)
        assert place is not None
        assert 'aria-invalid="true"' in place[0]
        assert f'value="{typed}"' in place[0]


def test_a_proposal_is_made_from_what_the_data_are(http: httpx.Client, explored: Explored) -> None:
    told = http.get(f"/datasets/{explored.train}/proposal").json()
    assert list(told["networks"]) == ["cnn", "mlp", "linear"]
    assert told["networks"]["cnn"]["in_channels"] == 1
    assert told["task"] == {"type": "classification", "loss": "cross_entropy"}
