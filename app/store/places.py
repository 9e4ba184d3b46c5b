"""Where the bytes of blobs lie: in a folder, or in a bucket of S3-compatible storage.

A place knows nothing of records. What lies in it is written once under a location of its own, `aa/digest-id`,
and never changed; who may still need it is `blobs`' affair.
"""

from __future__ import annotations

import ctypes
import errno
import os
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import urlsplit

import obstore
import uuid_utils
from obstore.exceptions import BaseError
from obstore.store import S3Store

from app.store.cache import Cache

if TYPE_CHECKING:
    from obstore.store import ClientConfig, RetryConfig

LIBC = ctypes.CDLL(None)
SYNC_FILE_RANGE_WRITE = 2  # of sync_file_range(2)
MIB = 1024**2
CHUNK = MIB
LEAST_PART, MOST_PARTS, SIDE_BY_SIDE = (
    8 * MIB,
    9_000,
    4,
)  # of an object that is sent in parts: S3 takes 10,000


class Place(Protocol):
    """What a place does; it raises OSError where it can't."""

    remote: bool
    """Whether writing takes a network's time: not to be done while others wait for a transaction."""

    def put(self, staged: Path, location: str) -> None:
        """Takes the file's bytes; the file itself may be gone afterwards."""

    def path(self, location: str) -> Path:
        """A file of this machine with the bytes, there as long as the path is held."""

    def read(self, location: str, start: int, stop: int) -> Iterator[bytes]:
        """The bytes [start, stop) in pieces. Raises at once where there is nothing."""

    def remove(self, *locations: str) -> None:
        """Removes what is there of these."""

    def old(self, seconds: float) -> Iterable[str]:
        """Locations written to longer ago than that."""

    def check(self) -> None:
        """Raises unless bytes can be written and read back."""


def synced(path: Path) -> None:
    """Returns once the file's bytes are on the disk."""
    with path.open("rb") as file:
        os.fsync(file.fileno())


def sync_ahead(descriptor: int, start: int, length: int) -> bool:
    """Has the system begin to put these bytes of a file on the disk without waiting for it; whether it did.

    Left alone it may begin only once gigabytes have come together, and whoever syncs the file waits for them.
    """
    span = ctypes.c_int64(start), ctypes.c_int64(length)
    return bool(LIBC.sync_file_range(descriptor, *span, SYNC_FILE_RANGE_WRITE) == 0)


class Folder:
    """A local or shared disk."""

    remote = False

    def __init__(self, folder: Path, *apart: Path) -> None:
        self.folder, self._apart = folder, {path.name for path in apart}

    def put(self, staged: Path, location: str) -> None:
        target = self.folder / location
        target.parent.mkdir(exist_ok=True)
        synced(staged)
        os.utime(staged)  # however long it took to come: `old` must not take it for a leftover
        staged.rename(target)

    def path(self, location: str) -> Path:
        return self.folder / location

    def read(self, location: str, start: int, stop: int) -> Iterator[bytes]:
        file = (self.folder / location).open("rb")

        def pieces() -> Iterator[bytes]:
            with file:
                file.seek(start)
                left = stop - start
                while left and (piece := file.read(min(CHUNK, left))):
                    left -= len(piece)
                    yield piece

        return pieces()

    def remove(self, *locations: str) -> None:
        for location in locations:
            (self.folder / location).unlink(missing_ok=True)

    def old(self, seconds: float) -> Iterator[str]:
        for path in self.folder.glob("*/*"):
            if path.parent.name not in self._apart and age(path) > seconds:
                yield str(path.relative_to(self.folder))

    def check(self) -> None:
        """Nothing more than what is staged needs: it is the same disk."""


def s3(bucket: str, prefix: str, timeout: timedelta, patience: timedelta) -> S3Store:
    """The part of a bucket below a prefix. Endpoint, region and credentials come from the AWS_… variables, or
    from where AWS keeps them.

    Args:
        timeout: of one request, with its body.
        patience: for which a request that fails is made again.
    """
    plain = os.environ.get("AWS_ENDPOINT_URL", os.environ.get("AWS_ENDPOINT", "")).startswith("http://")
    options: ClientConfig = {"connect_timeout": "5s", "read_timeout": "60s", "timeout": timeout}
    options["allow_http"] = plain
    retries: RetryConfig = {"max_retries": 5, "retry_timeout": patience}
    below = prefix.strip("/") or None
    return S3Store(bucket, prefix=below, client_options=options, retry_config=retries)


class Bucket:
    """A bucket, or a part of one below a prefix. Files of this machine are copies, kept in a cache."""

    remote = True

    def __init__(self, url: str, folder: Path, cache_bytes: int) -> None:
        _, bucket, prefix, *_ = urlsplit(url)
        self.url, self._cache = url, Cache(folder / "cache", folder / "staging", cache_bytes)
        with _told(url):
            self._store = s3(bucket, prefix, timedelta(hours=1), timedelta(seconds=30))

    def put(self, staged: Path, location: str) -> None:
        part = max(LEAST_PART, -(-staged.stat().st_size // MOST_PARTS))
        with _told(self.url):
            obstore.put(self._store, location, staged, chunk_size=part, max_concurrency=SIDE_BY_SIDE)
        self._cache.add(digest_in(location), staged)

    def path(self, location: str) -> Path:
        return self._cache.path(digest_in(location), lambda: self._pieces(location))

    def read(self, location: str, start: int, stop: int) -> Iterator[bytes]:
        if start >= stop:
            return iter(())
        return self._pieces(location, {"range": (start, stop)})

    def remove(self, *locations: str) -> None:
        with _told(self.url):
            obstore.delete(self._store, list(locations))
        for location in locations:
            self._cache.drop(digest_in(location))

    def old(self, seconds: float) -> Iterator[str]:
        before = datetime.now(UTC) - timedelta(seconds=seconds)
        with _told(self.url):
            for some in obstore.list(self._store):
                yield from (one["path"] for one in some if one["last_modified"] < before)

    def check(self) -> None:
        location = f"checks/{uuid_utils.uuid7()}"
        with _told(self.url):
            obstore.put(self._store, location, b"ok", use_multipart=False)
            if bytes(obstore.get(self._store, location).bytes()) != b"ok":
                raise OSError(f"{self.url} does not give back what is written to it")
            obstore.delete(self._store, location)

    def _pieces(self, location: str, options: Any = None) -> Iterator[bytes]:
        with _told(self.url, location):
            found = obstore.get(self._store, location, options=options)

        def pieces() -> Iterator[bytes]:
            with _told(self.url):
                yield from map(bytes, found.stream(min_chunk_size=CHUNK))

        return pieces()


@contextmanager
def _told(url: str, location: str | None = None) -> Iterator[None]:
    """Problems of the storage as OSError, in one line that names it; of what is not there the location is
    the `filename`, as of a file on a disk.
    """
    try:
        yield
    except (BaseError, FileNotFoundError, PermissionError) as problem:
        words = str(problem).partition("\n")[0]
        if location is not None and isinstance(problem, FileNotFoundError):
            raise FileNotFoundError(errno.ENOENT, f"{url}: {words}", location) from problem
        kind = FileNotFoundError if isinstance(problem, FileNotFoundError) else OSError
        raise kind(f"{url}: {words}") from problem


def age(path: Path) -> float:
    """Seconds since the path was written to; 0 when it is gone."""
    try:
        return time.time() - path.stat().st_mtime
    except FileNotFoundError:
        return 0.0


def digest_in(location: str) -> str:
    """The SHA-256 that a location tells of."""
    return location.partition("/")[2][:64]
