"""What must hold when the storm is over: nothing lost, doubled, changed or left lying about."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from sqlalchemy import func, inspect, select, text
from sqlalchemy.orm import Session

from app.store import partitions, sweeper
from app.store.blobs import BlobStore, digest
from app.store.db import Database
from app.store.tables import Base, Blob, Event, Job, Score, ScoreColumns, TrainingState, Turn, Work
from app.store.work import SENT
from tests.chaos.storm.questions import Client, Order, same

DELETED = ("exports", "selections", "jobs", "trajectories", "datasets", "uploads")
# what stays when everything that was sent or asked is deleted
STAYS = {"api_keys", "audit_events", "figures", "idempotency_keys", "workers", "sessions", "turns"}


def lost(orders: Sequence[Order]) -> list[str]:
    """Orders that were not accepted, or did not succeed."""
    return [
        f"{order.name}: {order.path or order.refused or 'never accepted'}, {order.ended or 'not ended'}"
        for order in orders
        if order.ended not in ("succeeded", "ready")
    ]


def doubled(client: Client, orders: Sequence[Order], cancelled: Sequence[str]) -> list[str]:
    """Names that several resources have, and jobs without exactly one end."""
    names = {order.name for order in orders} | set(cancelled)
    found = []
    for noun in ("jobs", "selections", "exports", "datasets", "trajectories"):
        had = Counter(row["name"] for row in client.rows(f"/v1/{noun}") if row["name"] in names)
        found += [f"{name}: {count} {noun}" for name, count in had.items() if count > 1]
    for job in client.rows("/v1/jobs"):
        ends = [
            event["type"]
            for event in client.rows(f"/v1/jobs/{job['id']}/events")
            if event["type"] in ("job.succeeded", "job.failed", "job.cancelled")
        ]
        if ends != [f"job.{job['status']}"]:
            found.append(f"{job['name']} is {job['status']}, ended as {ends}")
    return found


def differing(client: Client, orders: Sequence[Order], expected: Mapping[str, Any]) -> list[str]:
    """Orders that succeeded with another answer than the undisturbed one."""
    found = []
    for order in orders:
        if order.path is not None and order.ended in ("succeeded", "ready"):
            answer = order.question.answer(client, order.path)
            if not same(answer, expected[order.asks]):
                found.append(f"{order.name} in {_where(answer, expected[order.asks])}")
    return found


def _where(one: Any, other: Any) -> str:
    """The first place where two answers differ."""
    if isinstance(one, dict) and isinstance(other, dict) and one.keys() == other.keys():
        name = next(name for name in one if not same(one[name], other[name]))
        return f"{name}: {_where(one[name], other[name])}"
    if isinstance(one, list) and isinstance(other, list) and len(one) == len(other):
        at = next(at for at in range(len(one)) if not same(one[at], other[at]))
        return f"{at}: {_where(one[at], other[at])}"
    return f"{str(one)[:100]} for {str(other)[:100]}"


# ---------------------------------------------------------------- orphans
def orphans(database: Database, folder: Path) -> list[str]:
    """Rows that belong to nothing, and blobs in `folder` that nothing names, or that are not as named."""
    with database.snapshot() as session:
        return [*_rows(session), *_blobs(session, folder)]


def _rows(session: Session) -> list[str]:
    ours = {row.id: row for row in session.scalars(select(Job))}
    left = session.scalars(select(Work).where(Work.kind != SENT)).all()
    found = [f"work {row.kind} of {row.subject}: {row.status}" for row in left]
    found += [f"training state of {row.job_id}" for row in session.scalars(select(TrainingState))]
    scored = {name for name, job in ours.items() if job.status == "succeeded" and job.type == "influence"}
    for table in (Score, ScoreColumns):
        have = set(session.scalars(select(table.job_id).distinct()))
        found += [f"{table.__tablename__} of {name}" for name in have ^ scored]
    if session.get_bind().dialect.name == "postgresql":
        tables = set(session.scalars(text("SELECT tablename FROM pg_tables WHERE tablename ~ '^scores_job'")))
        found += [f"partition {name}" for name in tables - {partitions.table(name) for name in scored}]
    turns = session.scalars(select(Turn.whose).where(Turn.whose.regexp_match("^(job|sel)_"))).all()
    found += [f"turn of {name}" for name in turns]
    told = set(session.scalars(select(Event.subject).distinct()))
    return found + [f"events of {name}" for name in told ^ set(ours)]


def _blobs(session: Session, folder: Path) -> list[str]:
    named = set()
    for table in Base.metadata.tables.values():
        for column in table.columns:
            if any(key.column.table.name == Blob.__tablename__ for key in column.foreign_keys):
                named |= set(session.scalars(select(column).where(column.is_not(None)).distinct()))
    found = []
    for blob in session.scalars(select(Blob)):
        file = folder / blob.location
        if blob.sha256 not in named:
            found.append(f"blob {blob.sha256}: no row names it")
        if not file.exists() or file.stat().st_size != blob.bytes or digest(file) != blob.sha256:
            found.append(f"blob {blob.sha256}: its file is not as it says")
    return found


def left_over(database: Database, blobs: BlobStore) -> list[str]:
    """Once the service is stopped: files that stay though, after garbage collection, no row names them."""
    sweeper.tidy(database, blobs)
    with database.snapshot() as session:
        blobs.collect(session, older_than=0)
        named = {blobs.folder / location for location in session.scalars(select(Blob.location))}
    there = {path for path in blobs.folder.rglob("*") if path.is_file()}
    return [f"file {path.relative_to(blobs.folder)}" for path in there ^ named]


def delete_all(client: Client) -> list[str]:
    """Deletes everything that was sent or asked; what can't be deleted is returned."""
    found = []
    for noun in DELETED:
        for row in client.rows(f"/v1/{noun}"):
            answer = client.send("DELETE", f"/v1/{noun}/{row['id']}")
            if answer.status_code not in (204, 404):
                found.append(f"{noun} {row['id']} can't be deleted: {answer.status_code} {answer.text[:200]}")
    return found


def rows_left(database: Database) -> list[str]:
    """Tables that are not empty although everything is deleted."""
    with database.snapshot() as session:
        counts = {
            name: session.execute(select(func.count()).select_from(table)).scalar_one()
            for name, table in Base.metadata.tables.items()
            if name not in STAYS
        }
        partitions = [
            name for name in inspect(session.get_bind()).get_table_names() if name.startswith("scores_job")
        ]
    rows = [f"{count} rows of {name}" for name, count in counts.items() if count]
    left = [*rows, *(f"table {name}" for name in partitions)]
    return [f"{one} after everything was deleted" for one in left]
