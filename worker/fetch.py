"""The unit that fetches files by their `uri`: streamed to this machine's disk, then kept as blobs."""

from __future__ import annotations

import errno
import hashlib
import os
import time
from contextlib import ExitStack
from pathlib import Path
from typing import BinaryIO

from app import uris
from app.settings import MIB
from app.store import fetching, work
from app.store.fetching import Came
from app.store.tables import Work
from worker import stores
from worker.lease import Renewal
from worker.problems import StoreAwayError, UserError
from worker.process import Process
from worker.quotas import refuse_announced

MIB_A_TURN = 100  # of a file, for each of which its store has `uri_seconds` once more


def fetch(mine: Process, row: Work, renewal: Renewal) -> None:
    """Brings the files that a data set or checkpoint is made of, and has them validated.

    Raises:
        UserError: a file is not to be had; the problem becomes the resource's `error`.
        StoreAwayError: its store does not answer: another attempt may help.
    """
    came: dict[str, Came] = {}
    with ExitStack() as staged:
        for role, wanted in row.payload.items():
            path = staged.enter_context(mine.blobs.stage())
            before = sum(file.bytes for file in came.values())
            with path.open("wb") as file:
                arriving = _Arriving(mine, row, renewal, file, wanted["most"], before)
                stores.bring(mine.settings, _named(mine, row, wanted["uri"]), arriving)
            came[role] = arriving.came(path)
        renewal.tick()
        known = {file.path: file.sha256 for file in came.values()}
        with mine.blobs.ahead(*known, known=known), mine.database.transaction() as session:
            fetching.finish(session, mine.blobs, renewal.lease, row.subject, came)


def _named(mine: Process, row: Work, uri: str) -> uris.Named:
    """What the front end allowed, judged again by this worker's settings."""
    try:
        return uris.named(uri, mine.settings.uri_prefixes_of(row.project_id))
    except uris.UriRefusedError as refused:
        raise UserError("uri_not_allowed", str(refused)) from refused


class _Arriving:
    """A file on its way to the disk.

    Args:
        most: bytes that it may have.
        before: bytes of the unit's files that came before it.
    """

    def __init__(
        self, mine: Process, row: Work, renewal: Renewal, file: BinaryIO, most: int, before: int
    ) -> None:
        self._mine, self._row, self._renewal, self._file = mine, row, renewal, file
        self._most, self._before = most, before
        self._digest, self._size, self._announced, self._end = hashlib.sha256(), 0, 0, 0.0

    def announce(self, size: int) -> None:
        """From here on its bytes count to the project's.

        Raises:
            UserError: it has none, or more than the service or the project takes.
        """
        if not size:
            raise UserError("empty_file", "The file holds no bytes.")
        if size > self._most:
            detail = f"The file has {size:,} bytes; {self._most:,} at most are taken."
            raise UserError("payload_too_large", detail)
        mine, row = self._mine, self._row
        if size > mine.blobs.free():
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), self._file.name)
        with mine.database.transaction() as session:
            total = self._before + size
            refuse_announced(session, mine.settings, row.project_id, total, in_place_of=row.subject)
            work.expect(session, self._renewal.lease, total)
        seconds = mine.settings.uri_seconds * (1 + size / MIB / MIB_A_TURN)
        self._announced, self._end = size, time.monotonic() + seconds

    def take(self, piece: bytes) -> None:
        """Writes what came."""
        self._renewal.tick()
        if time.monotonic() > self._end:
            words = f"after {self._size:,} of {self._announced:,} bytes its time was up (DIFFIN_URI_SECONDS)"
            raise StoreAwayError(words)
        self._size += len(piece)
        if self._size > self._announced:
            raise stores.changed()
        self._digest.update(piece)
        self._file.write(piece)

    def came(self, path: Path) -> Came:
        """What has come, whole."""
        if self._size != self._announced:
            raise stores.changed()
        return Came(path, self._size, self._digest.hexdigest())
