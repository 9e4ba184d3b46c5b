"""What the work table shows: which units a fault hit, and when each of them got on."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import NamedTuple, TypeVar

from sqlalchemy import select
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from app.store.db import Database, away
from app.store.tables import Work
from app.store.work import SENT

T = TypeVar("T")
PATIENCE = 60.0  # seconds until a unit counts as stuck


class Unit(NamedTuple):
    """How a unit of work stands."""

    kind: str
    subject: str
    status: str
    attempt: int
    owner: str | None
    expires: float | None


class Recovery(NamedTuple):
    """Seconds until the last unit was queued again or further, and until somebody was at it again."""

    back: float
    on: float


@dataclass(frozen=True)
class Hit:
    """The units that a fault hit, by id, and how they got on (None: it hit none)."""

    units: dict[str, Unit]
    recovery: Future[Recovery | None]


class Watch:
    """Looks at the work of one database, and waits while that is away."""

    def __init__(self, database: Database) -> None:
        self.database, self._pool = database, ThreadPoolExecutor()

    def look(self, read: Callable[[Session], T]) -> T:
        while True:
            try:
                with self.database.snapshot() as session:
                    return read(session)
            except SQLAlchemyError as problem:
                if not away(problem):
                    raise
                time.sleep(0.02)

    def units(self) -> dict[str, Unit]:
        """All there are, but messages to webhooks."""
        told = select(Work.id, Work.kind, Work.subject, Work.status, Work.attempt)
        query = told.add_columns(Work.lease_owner, Work.lease_expires_at).where(Work.kind != SENT)
        return {row[0]: Unit(*row[1:]) for row in self.look(lambda session: session.execute(query).all())}

    def running(self, owners: Collection[str] | None = None) -> dict[str, Unit]:
        """Those that are being done; only by these owners, if given."""
        return {
            name: unit
            for name, unit in self.units().items()
            if unit.status == "running" and (owners is None or unit.owner in owners)
        }

    def stranded(self) -> dict[str, Unit]:
        """Queued units of what nobody is at: only a message leads to them."""
        units = self.units()
        busy = {unit.subject for unit in units.values() if unit.status == "running"}
        return {
            name: unit for name, unit in units.items() if unit.status == "queued" and unit.subject not in busy
        }

    def hit(self, units: dict[str, Unit]) -> Hit:
        """To be called at the fault, or, where it took all of something, when there is one again: the time
        runs from now.
        """
        return Hit(units, self._pool.submit(self._recovery, units, time.monotonic()))

    def _recovery(self, units: dict[str, Unit], since: float) -> Recovery | None:
        away, left = dict(units), dict(units)  # not queued again; nobody at it
        back = on = since
        while left:
            there = self.units()
            moment = time.monotonic()
            if gone := [name for name, unit in away.items() if is_back(unit, there.get(name))]:
                back = moment
            if further := [name for name, unit in left.items() if got_on(unit, there.get(name))]:
                on = moment
            away = {name: unit for name, unit in away.items() if name not in gone}
            left = {name: unit for name, unit in left.items() if name not in further}
            if left and moment > since + PATIENCE:
                print(f"after {PATIENCE:.0f} s these did not get on: {left}; now {there}", flush=True)
                return Recovery(PATIENCE, PATIENCE)
            time.sleep(0.02)
        return Recovery(back - since, on - since) if units else None


def is_back(before: Unit, now: Unit | None) -> bool:
    """Whether the unit is there for whoever is free, or further."""
    return got_on(before, now) or (now is not None and now.status == "queued")


def got_on(before: Unit, now: Unit | None) -> bool:
    """Whether somebody is at the unit again, or it is further, done, or not wanted any more."""
    if now is None or now.status == "done":
        return True
    if now.status == "running" and before.status == "queued":
        return True
    if now.status == "running" and now.attempt > before.attempt:
        return True
    return now.status == "running" and (now.expires or 0) > (before.expires or 0)  # its owner is at it
