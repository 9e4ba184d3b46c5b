"""Content-addressed bytes in a place of their own, named by rows that foreign keys protect.

A file is written under a fresh name, then named by a row in the transaction that needs it. Bytes go only
when no row names them, which is looked for at the end of the transaction that let go of them.

Blobs are locked after all else that a transaction locks: shared, by whoever keeps one; at the end and all at
once, by whoever lets go of them. Of two that let go of the same content the later one finds it unnamed.
"""

from __future__ import annotations

import errno
import hashlib
import logging
import random
import re
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

import uuid_utils
from sqlalchemy import delete, func, select, union
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session

from app.store.db import after_commit, after_rollback, at_end, inserting
from app.store.places import Bucket, Folder, Place, age, synced
from app.store.tables import Base, Blob, Upload

LET_GO = "let_go"  # of a transaction: digests
LOCK_NOT_AVAILABLE = "55P03"
PATIENCE = 10.0  # seconds until one waits for the locks of others as they come
DIGITS = 64  # of a SHA-256
OF_A_BLOB = re.compile(rf"[0-9a-f]{{{DIGITS}}}(-[0-9a-f-]{{36}})?")  # a digest, or the last of a location
BATCH = 500  # digests in one question; one is asked of each table that names blobs
log = logging.getLogger(__name__)


class Sent(NamedTuple):
    """A staged file whose bytes are in their place already, not named by a row yet."""

    sha256: str
    location: str


class BlobStore:
    """Blobs in one place that API and workers share.

    Args:
        folder: on a disk of this machine, where what comes in lies until it is kept.
        place: where blobs are kept; `folder` too, unless given.
    """

    def __init__(self, folder: Path, place: Place | None = None) -> None:
        self.folder = folder
        self.staging, self.incoming = folder / "staging", folder / "incoming"
        for inside in (self.staging, self.incoming):
            inside.mkdir(parents=True, exist_ok=True)
        self.place = place or Folder(folder, self.staging, self.incoming)
        self._sent: dict[Path, Sent] = {}
        self._digests: dict[Path, str] = {}

    def path(self, session: Session, sha256: str) -> Path:
        """A file with the bytes, there as long as this path is held. Raises FileNotFoundError when no such
        blob is kept.
        """
        _, location = self._found(session, sha256)
        return self.place.path(location)

    def reader(self, session: Session, sha256: str) -> tuple[int, Callable[[int, int], Iterator[bytes]]]:
        """(how many bytes there are, what gives those from a start to a stop); else as `path`."""
        size, location = self._found(session, sha256)
        return size, partial(self.place.read, location)

    def deleted(self, session: Session, missing: FileNotFoundError) -> bool:
        """Whether the file was a blob's that is deleted since its row was read: nothing was lost. `session`
        must have begun after the failure.
        """
        name = Path(str(missing.filename)).name
        if not OF_A_BLOB.fullmatch(name):
            return False
        location = session.scalar(select(Blob.location).where(Blob.sha256 == name[:DIGITS]))
        return location is None or not location.endswith(f"/{name}")  # the same content may have come anew

    @contextmanager
    def stage(self) -> Iterator[Path]:
        """A fresh path to write to; whatever is left there at the end is removed."""
        path = self.staging / str(uuid_utils.uuid7())
        try:
            yield path
        finally:
            path.unlink(missing_ok=True)

    @contextmanager
    def ahead(self, *staged: Path, known: Mapping[Path, str] | None = None) -> Iterator[None]:
        """Does what takes time before the transaction that keeps files, which others wait for: their digests,
        and their way across the network or to the disk. What was not kept is removed at the end.

        Args:
            known: digests of the files, where they are known.
        """
        try:
            for path in filter(Path.exists, staged):
                sha256 = (known or {}).get(path) or digest(path)
                if self.place.remote:
                    self.place.put(path, location := _fresh(sha256))
                    self._sent[path] = Sent(sha256, location)
                else:
                    synced(path)
                    self._digests[path] = sha256
            yield
        finally:
            for path in staged:
                self._digests.pop(path, None)
            left = [self._sent.pop(path).location for path in staged if path in self._sent]
            self._remove(*left)

    def keep(self, session: Session, staged: Path, sha256: str | None = None) -> str:
        """Names the staged file by its digest, which is returned; the same content is not kept twice."""
        sent = self._sent.get(staged)
        sha256 = sha256 or (sent.sha256 if sent else self._digests.get(staged) or digest(staged))
        if session.scalar(select(Blob.sha256).where(Blob.sha256 == sha256).with_for_update(read=True)):
            return sha256
        size = staged.stat().st_size
        if sent:
            location = self._sent.pop(staged).location
        else:
            self.place.put(staged, location := _fresh(sha256))
        after_rollback(session, partial(self._remove, location))
        row = inserting(session)(Blob).values(sha256=sha256, bytes=size, location=location)
        session.execute(row.on_conflict_do_nothing())
        kept = session.scalar(select(Blob.location).where(Blob.sha256 == sha256).with_for_update(read=True))
        if kept != location:  # somebody kept the same content first
            self._remove(location)
        return sha256

    def forget(self, session: Session, *digests: str | None) -> None:
        """Lets go of the blobs: those that nothing names at the end of the transaction are deleted then, and
        their files after the commit.
        """
        if LET_GO not in session.info:
            session.info[LET_GO] = set()
            at_end(session, partial(self._delete_unnamed, session))
        session.info[LET_GO].update(filter(None, digests))

    def _delete_unnamed(self, session: Session) -> None:
        digests = sorted(session.info.pop(LET_GO))
        session.flush()
        location = _held(session, digests)
        named = _named(session, digests)
        gone = [sha256 for sha256 in location if sha256 not in named]
        for some in _batches(gone):
            session.execute(delete(Blob).where(Blob.sha256.in_(some)))
        if gone:
            after_commit(session, partial(self._remove, *(location[sha256] for sha256 in gone)))

    def collect(self, session: Session, older_than: float = 24 * 3600) -> int:
        """Removes files that no row names and that are older than `older_than` seconds; returns how many."""
        came = [path for inside in (self.staging, self.incoming) for path in inside.iterdir()]
        came, old = [path for path in came if age(path) > older_than], list(self.place.old(older_than))
        kept = set(session.scalars(select(Blob.location)))
        coming = session.scalars(select(Upload.id).where(Upload.blob.is_(None)))
        kept |= {f"{self.incoming.name}/{upload_id}" for upload_id in coming}
        came = [path for path in came if str(path.relative_to(self.folder)) not in kept]
        for path in came:
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)
        orphans = [location for location in old if location not in kept]
        self._remove(*orphans)
        return len(came) + len(orphans)

    def usage(self, session: Session) -> tuple[int, int, int]:
        """(how many blobs there are, their bytes, bytes that are free on the disk that they come in on)."""
        count, size = session.execute(select(func.count(), func.sum(Blob.bytes))).one()
        return count, int(size or 0), self.free()

    def free(self) -> int:
        """Bytes that are free on the disk that files come in on."""
        return shutil.disk_usage(self.folder).free

    def room(self) -> int:
        """Bytes of that disk, free or not."""
        return shutil.disk_usage(self.folder).total

    def check(self) -> None:
        """Raises OSError unless bytes can be written and read back."""
        with self.stage() as path:
            path.write_bytes(b"ok")
            if path.read_bytes() != b"ok":
                raise OSError(f"{self.folder} does not give back what is written to it")
        self.place.check()

    def _found(self, session: Session, sha256: str) -> tuple[int, str]:
        """(the bytes it has, its location)."""
        found = session.execute(select(Blob.bytes, Blob.location).where(Blob.sha256 == sha256)).first()
        if found is None:
            raise FileNotFoundError(errno.ENOENT, "no such blob", sha256)
        return found.bytes, found.location

    def _remove(self, *locations: str) -> None:
        """Removes bytes that no row names; what storage that is away keeps of them, `collect` finds later."""
        if not locations:
            return
        try:
            self.place.remove(*locations)
        except OSError as problem:
            log.warning("%d blobs are not removed yet: %s", len(locations), problem)


def opened(url: str, folder: Path, cache_bytes: int) -> BlobStore:
    """The blobs that a `file://` or `s3://` URL tells of; `folder` is where they come in on this machine."""
    if urlsplit(url).scheme == "file":
        return BlobStore(folder)
    return BlobStore(folder, Bucket(url, folder, cache_bytes))


def _fresh(sha256: str) -> str:
    return f"{sha256[:2]}/{sha256}-{uuid_utils.uuid7()}"


def _held(session: Session, digests: Sequence[str]) -> dict[str, str]:
    """The locations of the blobs, locked, so that nobody names one or deletes it meanwhile.

    Whoever keeps a blob holds it until his transaction ends, and may let go of another one then. So nobody
    waits here with some of the locks in his hand: he has all of them at once, or tries again.
    """
    query = select(Blob.sha256, Blob.location).order_by(Blob.sha256)
    wanted = [query.where(Blob.sha256.in_(some)) for some in _batches(digests)]
    end = time.monotonic() + PATIENCE
    while session.get_bind().dialect.name == "postgresql" and time.monotonic() < end:
        try:
            with session.begin_nested():
                return {
                    sha256: location
                    for one in wanted
                    for sha256, location in session.execute(one.with_for_update(nowait=True))
                }
        except OperationalError as busy:
            if getattr(busy.orig, "sqlstate", None) != LOCK_NOT_AVAILABLE:
                raise
        time.sleep(random.uniform(0.005, 0.025))  # noqa: S311  (hides nothing)
    return {sha256: location for one in wanted for sha256, location in session.execute(one.with_for_update())}


def _named(session: Session, digests: Sequence[str]) -> set[str]:
    """Which of the blobs a row names, of whatever table. What others have not committed counts as it was:
    they look in their turn.

    Asked before any is deleted: the database's own check of the foreign keys would wait for those others.
    """
    columns = [
        column
        for table in Base.metadata.sorted_tables
        for column in table.columns
        if any(key.target_fullname == "blobs.sha256" for key in column.foreign_keys)
    ]
    found = (
        session.scalars(union(*(select(column).where(column.in_(some)) for column in columns)))
        for some in _batches(digests)
    )
    return {sha256 for some in found for sha256 in some}


def _batches(digests: Sequence[str]) -> Iterator[Sequence[str]]:
    return (digests[start : start + BATCH] for start in range(0, len(digests), BATCH))


def digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
