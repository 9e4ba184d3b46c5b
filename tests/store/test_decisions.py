"""Decisions in the store: the last word of each key, and what goes with their job."""

from __future__ import annotations

import pytest

from app.store import decisions, jobs
from app.store.blobs import BlobStore
from app.store.db import Database, new_id
from app.store.decisions import Word
from app.store.tables import ApiKey, Decision, Job
from tests.store.test_selections import job_of


@pytest.fixture
def job_id(database: Database) -> str:
    return job_of(database)


@pytest.fixture
def mine(database: Database) -> str:
    return key_of(database)


def key_of(database: Database, name: str = "mine") -> str:
    with database.transaction() as session:
        key = ApiKey(id=new_id("key"), project_id="p", name=name, digest=new_id("d"), scopes=["read"])
        session.add(key)
        return key.id


def say(database: Database, job_id: str, key_id: str, *words: Word) -> None:
    with database.transaction() as session:
        decisions.decide(session, job_id, key_id, words)


def test_the_last_word_counts(database: Database, job_id: str, mine: str) -> None:
    say(database, job_id, mine, Word(3, "remove"), Word(1, "relabel", 7.0), Word(2, "keep"))
    say(database, job_id, mine, Word(3, "keep"), Word(1, "relabel", 5.0), Word(2, None), Word(4, None))
    with database.snapshot() as session:
        assert decisions.counts(session, job_id, mine) == {"keep": 1, "remove": 0, "relabel": 1}
        assert decisions.to_act_on(session, job_id, mine) == ([], [(1, 5.0)])
        found = decisions.some(session, job_id, mine, [0, 2, 3])
        assert {index: one.action for index, one in found.items()} == {3: "keep"}
    say(database, job_id, mine, Word(1, "remove"))
    with database.snapshot() as session:
        assert decisions.to_act_on(session, job_id, mine) == ([1], [])  # and its label is gone
        assert session.get_one(Decision, (job_id, 1, mine)).label is None


def test_each_key_decides_for_itself_and_all_can_be_read(database: Database, job_id: str, mine: str) -> None:
    other = key_of(database, "other")
    say(database, job_id, mine, *(Word(index, "remove") for index in range(1200)))
    say(database, job_id, other, Word(5, "keep"))
    with database.snapshot() as session:
        assert decisions.counts(session, job_id, other) == {"keep": 1, "remove": 0, "relabel": 0}
        seen, after = [], None
        while found := decisions.page(session, job_id, 500, after=after):
            seen += [(one.decision.sample_index, one.key_name) for one in found]
            after = decisions.position(found[-1])
        assert sorted(seen) == sorted([(index, "mine") for index in range(1200)] + [(5, "other")])
        assert [index for index, _ in seen] == sorted(index for index, _ in seen)
        every = [one for some in decisions.every(session, job_id, key_id=mine) for one in some]
        assert [one.decision.sample_index for one in every] == list(range(1200))
        kept = decisions.page(session, job_id, 9, action="keep")
        assert [one.key_name for one in kept] == ["other"]


def test_their_job_takes_them_along(database: Database, blobs: BlobStore, job_id: str, mine: str) -> None:
    say(database, job_id, mine, Word(0, "remove"))
    with database.transaction() as session:
        jobs.delete(session, blobs, session.get_one(Job, job_id))
    with database.snapshot() as session:
        assert session.query(Decision).count() == 0
