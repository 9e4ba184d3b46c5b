"""The rows of a whole job's scores on their way into the embedded database.

SQLite has one writer at a time, and the rows of a million samples take it minutes: in one transaction they
would keep requests and the leases of other workers waiting. They are written batch by batch instead, before
the transaction that ends the job. Nobody reads them until then, and who starts again removes them first.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

from app.store import scores, work
from app.store.db import Database
from app.store.work import Lease

ROWS = 2_000  # a batch: what others wait for
TURN = 0.5  # of the time a batch took, that others have before the next


def ahead(
    database: Database, lease: Lease, job_id: str, columns: Mapping[str, Any], tick: Callable[[], None]
) -> bool:
    """Writes the scores as `scores.write` does, whose `columns` they are; False where it need not be ahead.

    Args:
        tick: called between batches; what it raises ends the writing.

    Raises:
        LeaseLostError: the unit is somebody else's, or the job has ended.
    """
    if database.engine.dialect.name != "sqlite":
        return False
    with database.transaction() as session:
        work.ensure_held(session, lease)
        scores.drop(session, job_id)
    for rows in scores.batches(job_id, columns, ROWS):
        tick()
        began = time.monotonic()
        with database.transaction() as session:
            work.ensure_held(session, lease)
            with scores.roomy(session) as connection:
                connection.exec_driver_sql(scores.INSERT, rows)
        time.sleep(TURN * (time.monotonic() - began))
    return True
