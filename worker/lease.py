"""Renewal of a lease while its unit of work goes on, with progress, at least once a second."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import copy_context

from sqlalchemy import select
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from app.store import work
from app.store.db import Database
from app.store.tables import Job, Work
from app.store.work import Lease, LeaseLostError

log = logging.getLogger(__name__)


GRACE_SECONDS = 5.0  # to end the unit in hand, once the worker is to stop


class CancelledError(Exception):
    """The job is being cancelled: stop, and give up the unit."""


class StoppingError(Exception):
    """The worker is to stop, and has tried for long enough to end the unit: give it back."""


class Renewal:
    """The lease of the unit in hand. `tick` is called between chunks; it raises when the work must stop."""

    def __init__(
        self,
        database: Database,
        row: Work,
        lease: Lease,
        seconds: float,
        stopping: threading.Event | None = None,
    ) -> None:
        self.lease, self._stopping = lease, stopping or threading.Event()
        self._database, self._subject, self._seconds, self._total = database, row.subject, seconds, row.total
        self._completed = 0.0
        self._stop = threading.Event()
        self._verdict: Exception | None = None

    def tick(self, done: float = 0.0) -> None:
        """Reports `done` more forward passes.

        Raises:
            LeaseLostError: somebody else owns the unit now.
            CancelledError: the job is being cancelled.
            StoppingError: the worker is to stop, and the unit is not done within `GRACE_SECONDS`.
        """
        self._completed += done
        if self._verdict:
            raise self._verdict

    @contextmanager
    def kept(self) -> Iterator[None]:
        """Renews in a thread of its own until the block ends."""
        thread = threading.Thread(target=copy_context().run, args=(self._run,), name="lease", daemon=True)
        thread.start()
        try:
            yield
        finally:
            self._stop.set()
            thread.join()

    def _run(self) -> None:
        asked: float | None = None
        while not self._stop.wait(min(0.5, self._seconds / 4)):
            if self._stopping.is_set():
                asked = asked or time.monotonic()
                if time.monotonic() - asked > GRACE_SECONDS:
                    self._verdict = StoppingError(self.lease.work_id)
            try:
                with self._database.transaction() as session:
                    work.renew(session, self.lease, self._seconds, min(int(self._completed), self._total))
                    cancelling = self._cancelling(session)
            except LeaseLostError as lost:
                self._verdict = lost
                return
            except SQLAlchemyError as problem:  # the database is away: the lease may still hold
                log.warning("lease of %s not renewed: %s", self.lease.work_id, problem)
                continue
            if cancelling:
                self._verdict = CancelledError(self._subject)
                return

    def _cancelling(self, session: Session) -> bool:
        return session.scalar(select(Job.status).where(Job.id == self._subject)) == "cancelling"
