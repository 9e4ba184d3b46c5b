"""Which failures say that a disk is full: that of the files, or that of the database."""

from __future__ import annotations

import errno
import re
import sqlite3
from collections.abc import Iterator

from sqlalchemy.exc import DBAPIError

ERRNO = (errno.ENOSPC, errno.EDQUOT)
SQLITE = (
    sqlite3.SQLITE_FULL,
    sqlite3.SQLITE_IOERR_WRITE,
    sqlite3.SQLITE_IOERR_FSYNC,
    sqlite3.SQLITE_IOERR_SHMSIZE,  # the file beside the database that its readers share
)
POSTGRESQL = "53100"  # disk_full
# Libraries that lose the number: Rust's and C++'s, numpy, and a trace that came out of another process.
WORDS = re.compile(r"No space left on device|Disk quota exceeded|\d+ requested and \d+ written")


def disk_full(failure: BaseException) -> bool:
    """Whether the failure, or what caused it, is that there was no room left to write."""
    return any(_says_so(one) for one in _chain(failure))


def _says_so(failure: BaseException) -> bool:
    if isinstance(failure, DBAPIError) and failure.orig is not None:
        return _says_so(failure.orig)
    if isinstance(failure, sqlite3.Error):
        return getattr(failure, "sqlite_errorcode", None) in SQLITE
    if getattr(failure, "sqlstate", None) == POSTGRESQL:
        return True
    if isinstance(failure, OSError) and failure.errno is not None:
        return failure.errno in ERRNO
    return WORDS.search(str(failure)) is not None


def _chain(failure: BaseException | None) -> Iterator[BaseException]:
    while failure is not None:
        yield failure
        failure = failure.__cause__ or failure.__context__
