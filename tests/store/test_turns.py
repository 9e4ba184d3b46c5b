"""Whose turn it is: between projects, and between what each of them asked for."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import insert, update

from app.store import jobs, turns, work
from app.store.blobs import BlobStore
from app.store.db import Database
from app.store.tables import Turn, Work

BOTH = ("cpu", "gpu")
JOB: dict[str, Any] = {"type": "influence", "method": {"name": "loss"}, "seed": 0, "checkpoint_ids": []}


def queue(database: Database, project_id: str, subject: str, kind: str = "block") -> str:
    with database.transaction() as session:
        return work.add(session, kind, subject, project_id).id


def take(database: Database, queues: tuple[str, ...] = BOTH, *, full: tuple[str, ...] = ()) -> str | None:
    """Claims the unit whose turn it is, as a worker does; returns the subject."""
    with database.transaction() as session:
        row = turns.next_unit(session, queues, lambda project_id: project_id not in full)
        if row is None:
            return None
        claimed = work.claim(session, row.id, row.attempt, "a", 60)
        assert claimed is not None
        turns.served(session, claimed)
        return claimed.subject


def end(database: Database, subject: str) -> None:
    with database.transaction() as session:
        session.execute(update(Work).where(Work.subject == subject).values(status="done"))


def test_a_project_that_comes_late_waits_for_no_hundred_of_another(database: Database) -> None:
    for number in range(100):
        queue(database, "many", f"job_{number:03d}")
    assert take(database) == "job_000"
    queue(database, "one", "job_late")
    assert take(database) == "job_late"
    assert take(database) == "job_001"


def test_projects_take_turns_also_when_what_they_asked_for_is_done(
    database: Database, blobs: BlobStore
) -> None:
    for number in range(4):
        queue(database, "a", f"job_a{number}")
        queue(database, "b", f"job_b{number}")
    seen = []
    for _ in range(8):
        subject = take(database)
        assert subject is not None
        seen.append(subject)
        with database.transaction() as session:
            work.drop(session, subject)  # as the end of a job does
    assert seen in (
        [f"job_{project}{number}" for number in range(4) for project in order] for order in ("ab", "ba")
    )
    with database.snapshot() as session:
        assert {row.whose for row in session.query(Turn)} == {"a", "b"}, "what ended keeps no turn"


def test_the_project_with_the_least_running_comes_first(database: Database) -> None:
    for number in range(3):
        queue(database, "a", f"job_a{number}")
    assert [take(database), take(database)] == ["job_a0", "job_a1"]
    for number in range(3):
        queue(database, "b", f"job_b{number}")
    assert [take(database), take(database)] == ["job_b0", "job_b1"]
    end(database, "job_b0")
    end(database, "job_b1")
    assert take(database) == "job_b2", "b was served last, but nothing of it runs"


def test_jobs_of_one_project_take_turns_the_new_ones_first(database: Database) -> None:
    for _ in range(3):
        queue(database, "p", "job_long")
    assert take(database) == "job_long"
    end(database, "job_long")
    for _ in range(3):
        queue(database, "p", "job_long")
    queue(database, "p", "job_1")
    queue(database, "p", "job_2")
    assert [take(database) for _ in range(4)] == ["job_1", "job_2", "job_long", "job_long"]


def test_an_upload_comes_before_what_computes_but_not_before_another_projects_turn(
    database: Database,
) -> None:
    queue(database, "a", "job_a")
    for number in range(3):
        queue(database, "a", f"ds_{number}", "validate")
    queue(database, "b", "job_b")
    assert sorted(str(take(database)) for _ in range(2)) == ["ds_0", "job_b"]
    with database.snapshot() as session:
        assert turns.something_presses(session, BOTH)
        assert not turns.something_presses(session, ["gpu"])
    assert take(database, ("gpu",)) == "job_a"
    assert [take(database, ("cpu",)) for _ in range(3)] == ["ds_1", "ds_2", None]


def test_what_was_interrupted_goes_on_first_but_not_again_and_again(database: Database) -> None:
    for subject in ("job_1", "job_2"):
        queue(database, "p", subject)
    first = queue(database, "p", "job_long")
    for attempt, presses in ((1, False), (2, True), (3, False)):
        with database.transaction() as session:
            session.execute(update(Work).where(Work.id == first).values(attempt=attempt))
        with database.snapshot() as session:
            assert turns.something_presses(session, BOTH) == presses
            unit = turns.next_unit(session, BOTH, lambda _: True)
            assert unit is not None and (unit.subject == "job_long") == presses


def test_a_job_waits_while_its_project_may_begin_none_and_what_began_goes_on(database: Database) -> None:
    with database.transaction() as session:
        first, second = (jobs.create(session, project_id="small", **JOB) for _ in range(2))
    assert take(database, full=("small",)) is None
    with database.transaction() as session:
        job = jobs.locked(session, first.id)
        assert job is not None and jobs.start(session, job, 1)
        work.add(session, "block", first.id, "small")
    assert [take(database, full=("small",)) for _ in range(3)] == [first.id, first.id, None]
    queue(database, "small", "ds_1", "validate")
    queue(database, "large", "job_other")
    assert {take(database, full=("small",)) for _ in range(2)} == {"ds_1", "job_other"}
    assert take(database) == second.id


@pytest.mark.parametrize("subjects", [100, 10_000])
def test_ten_thousand_queued_units_are_chosen_from_in_a_moment(database: Database, subjects: int) -> None:
    from time import perf_counter

    common = {"kind": "block", "stage": "block", "queue": "gpu", "payload": {}, "status": "queued"}
    with database.transaction() as session:
        rows = [
            common | {"id": f"{at:08d}", "subject": f"job_{at % subjects:05d}", "project_id": f"p{at % 3}"}
            for at in range(10_000)
        ]
        session.execute(insert(Work), rows)
        served = [{"whose": f"job_{at:05d}", "served_at": float(at)} for at in range(subjects)]
        session.execute(insert(Turn), served)
    taken = []
    for _ in range(9):
        with database.snapshot() as session:
            began = perf_counter()
            assert turns.next_unit(session, BOTH, lambda _: True) is not None
            taken.append(perf_counter() - began)
    print(f"{database.engine.dialect.name}: {sorted(taken)[4] * 1e3:.1f} ms")  # -s shows it
    assert sorted(taken)[4] < 0.1
