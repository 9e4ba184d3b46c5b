"""What workers count: kept in memory, added to the database's rows once a second, shown by `/metrics`.

A worker has no port to be asked on; through the database one scrape of the API tells of all of them, the dead
ones too. A killed worker loses what it counted in its last second.
"""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Mapping, Sequence
from functools import partial
from typing import NamedTuple

from sqlalchemy import select
from sqlalchemy.orm import Session

from app.store.db import after_rollback, inserting
from app.store.tables import Figure

BUCKETS = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 120.0, 600.0)  # seconds that a unit may take


class Key(NamedTuple):
    """A counter: its name, the kind of work it is of, and the bucket, where it counts one."""

    name: str
    kind: str = ""
    le: str = ""


class Figures:
    """Counters of one process, since they were last written. Threads may share it."""

    def __init__(self) -> None:
        self._counted: defaultdict[Key, float] = defaultdict(float)
        self._lock = threading.Lock()

    def add(self, name: str, kind: str = "", value: float = 1.0) -> None:
        with self._lock:
            self._counted[Key(name, kind)] += value

    def took(self, kind: str, seconds: float) -> None:
        """Counts a unit of work and its seconds."""
        self.add("unit_seconds_sum", kind, seconds)
        self.add("unit_seconds_count", kind)
        bucket = next((most for most in BUCKETS if seconds <= most), None)
        if bucket is not None:
            with self._lock:
                self._counted[Key("unit_seconds_bucket", kind, str(bucket))] += 1

    def write(self, session: Session) -> None:
        """Adds what was counted to the rows; should the transaction fail, it is added the next time."""
        with self._lock:
            counted, self._counted = self._counted, defaultdict(float)
        after_rollback(session, partial(self._again, counted))
        add(session, counted)

    def _again(self, counted: Mapping[Key, float]) -> None:
        with self._lock:
            for key, value in counted.items():
                self._counted[key] += value


def add(session: Session, counted: Mapping[Key, float]) -> None:
    """Adds to the rows, in the keys' order: two who do so at once do not wait for each other in a circle."""
    for key, value in sorted(counted.items()):
        row = inserting(session)(Figure).values(**key._asdict(), value=float(value))
        more = {"value": Figure.value + row.excluded.value}
        session.execute(row.on_conflict_do_update(index_elements=list(Key._fields), set_=more))


def read(session: Session) -> Sequence[Figure]:
    return session.scalars(select(Figure).order_by(Figure.name, Figure.kind)).all()
