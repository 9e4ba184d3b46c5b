"""The files in an archive, listed on the disk: there may be millions, and memory holds those at hand."""

from __future__ import annotations

import sqlite3
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from worker.loading.errors import LoadError

# what is lost in a crash is made again, and nobody else reads it
SETUP = """
PRAGMA journal_mode = OFF;
PRAGMA synchronous = OFF;
PRAGMA locking_mode = EXCLUSIVE;
PRAGMA cache_size = -4096;
CREATE TABLE members (
    number INTEGER PRIMARY KEY, name TEXT UNIQUE, size INTEGER, place INTEGER,
    packed INTEGER, method INTEGER, crc INTEGER
);
CREATE TABLE ordered (key BLOB PRIMARY KEY, number INTEGER) WITHOUT ROWID;
"""
COLUMNS = "name, size, place, packed, method, crc"


class Member(NamedTuple):
    """A file in an archive: `place` is where to find it; in a zip its header, which must agree."""

    name: str
    size: int
    place: int
    packed: int = 0
    method: int = 0
    crc: int = 0


class Members:
    """In the archive's order, again each time they are asked for; `sorted` in the order of `sort`."""

    def __init__(self, path: Path) -> None:
        self._database = sqlite3.connect(path, isolation_level=None)
        self._database.executescript(SETUP)

    def close(self) -> None:
        self._database.close()

    def add(self, members: Iterable[Member]) -> None:
        """Raises LoadError where two have one name."""
        self._insert("INSERT INTO members VALUES (NULL, ?, ?, ?, ?, ?, ?)", members)

    def sort(self, key: Callable[[Member], bytes]) -> None:
        """Raises LoadError where two have one key."""
        every = f"SELECT {COLUMNS}, number FROM members ORDER BY number"  # noqa: S608  (our own names)
        rows = self._database.execute(every)
        keyed = ((key(Member._make(row[:-1])), row[-1]) for row in rows)
        self._insert("INSERT INTO ordered VALUES (?, ?)", keyed)

    def _insert(self, statement: str, rows: Iterable[tuple[object, ...]]) -> None:
        self._database.execute("BEGIN")
        try:
            self._database.executemany(statement, rows)
        except sqlite3.IntegrityError as twice:
            raise LoadError(
                "unsafe_file", "The archive has two files of one name: write it again."
            ) from twice
        self._database.execute("COMMIT")

    def __iter__(self) -> Iterator[Member]:
        return self._read("FROM members ORDER BY number")

    def sorted(self) -> Iterator[Member]:
        return self._read("FROM ordered JOIN members USING (number) ORDER BY key")

    def _read(self, which: str) -> Iterator[Member]:
        return map(Member._make, self._database.execute(f"SELECT {COLUMNS} {which}"))

    def __len__(self) -> int:
        [count] = self._database.execute("SELECT count(*) FROM members").fetchone()
        return int(count)


@contextmanager
def listed(scratch: Path) -> Iterator[Members]:
    """An empty list in a file below `scratch`, which is gone afterwards."""
    with tempfile.NamedTemporaryFile(dir=scratch, suffix=".members") as file:
        members = Members(Path(file.name))
        try:
            yield members
        finally:
            members.close()
