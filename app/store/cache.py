"""Copies of blobs on this machine's disk, the ones used last, for storage that is across a network.

Shared by all processes that name the same folder. A copy stays while any of them holds the path that it was
given: each such path is a shared lock on one byte of a lock file, which goes with the path or its process.
"""

from __future__ import annotations

import hashlib
import os
import threading
import weakref
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path, PosixPath

import uuid_utils

from app.store.locks import READ, UNLOCK, WRITE, lock

STEP = 20  # the folder is looked through once more than a STEP-th of what it may hold has been added
SPARE = 0.9  # of what it may hold is left then


class Held(PosixPath):
    """A path whose file is there as long as somebody holds this very object."""


class Cache:
    """Files by their SHA-256: `most` bytes of them, but for those in use and a twentieth more a process."""

    def __init__(self, folder: Path, staging: Path, most: int) -> None:
        self.folder, self._staging, self._most = folder, staging, most
        for inside in (folder, staging):
            inside.mkdir(parents=True, exist_ok=True)
        self._locks = os.open(folder / "locks", os.O_RDWR | os.O_CREAT, 0o600)
        weakref.finalize(self, os.close, self._locks)
        self._holds: dict[int, int] = {}
        self._guard = threading.RLock()  # a path may be let go in the middle of holding another
        self._fetching = [threading.Lock() for _ in range(16)]
        self._added = most  # look through it at first use

    def path(self, sha256: str, fetch: Callable[[], Iterator[bytes]]) -> Path:
        """The copy, made of what `fetch` gives if there is none. Raises OSError where that is other bytes."""
        held = self._held(sha256)
        if _used(held):
            return held
        with self._fetching[_byte(sha256) % len(self._fetching)]:
            if _used(held):  # another thread has just done it
                return held
            staged = self._staging / str(uuid_utils.uuid7())
            try:
                _write(staged, sha256, fetch())
                self._take(staged, held)
            finally:
                staged.unlink(missing_ok=True)
        return held

    def add(self, sha256: str, file: Path) -> None:
        """Keeps a file that is at hand anyway, by another name of it."""
        held = self._held(sha256)
        if not _used(held):
            self._take(file, held)

    def drop(self, sha256: str) -> None:
        """Removes the copy, unless somebody uses it."""
        self._evict(self._file(sha256))

    def _take(self, file: Path, held: Path) -> None:
        held.parent.mkdir(exist_ok=True)
        with suppress(FileExistsError):
            os.link(file, held)
        os.utime(held)
        self._added += held.stat().st_size
        if self._added * STEP > self._most:
            self._added = 0
            self._shrink()

    def _shrink(self) -> None:
        found = [(path, path.stat()) for path in self.folder.glob("*/*")]
        total = sum(stat.st_size for _, stat in found)
        if total <= self._most:
            return
        for path, stat in sorted(found, key=lambda one: one[1].st_mtime_ns):
            if total <= SPARE * self._most:
                break
            if self._evict(path):
                total -= stat.st_size

    def _evict(self, path: Path) -> bool:
        """Whether the file is gone: not if a path to it is held, here or in another process."""
        descriptor = os.open(self.folder / "locks", os.O_RDWR)  # one of its own: locks belong to descriptors
        try:
            if not lock(descriptor, WRITE, _byte(path.name), 1):
                return False
            path.unlink(missing_ok=True)
            return True
        finally:
            os.close(descriptor)

    def _file(self, sha256: str) -> Path:
        return self.folder / sha256[:2] / sha256

    def _held(self, sha256: str) -> Held:
        held, byte = Held(self._file(sha256)), _byte(sha256)
        with self._guard:
            self._holds[byte] = self._holds.get(byte, 0) + 1
            lock(self._locks, READ, byte, 1, wait=True)
        weakref.finalize(held, self._let_go, byte)
        return held

    def _let_go(self, byte: int) -> None:
        with self._guard:
            self._holds[byte] -= 1
            if not self._holds[byte]:
                del self._holds[byte]
                with suppress(OSError):  # closed already, at the end of the process
                    lock(self._locks, UNLOCK, byte, 1)


def _byte(sha256: str) -> int:
    """Which byte of the lock file stands for it."""
    return int(sha256[:15], 16)


def _used(path: Path) -> bool:
    """Whether it is there, noted as used just now."""
    try:
        os.utime(path)
    except FileNotFoundError:
        return False
    return True


def _write(path: Path, sha256: str, pieces: Iterator[bytes]) -> None:
    digest = hashlib.sha256()
    with path.open("wb") as file:
        for piece in pieces:
            digest.update(piece)
            file.write(piece)
    if digest.hexdigest() != sha256:
        raise OSError(
            f"the storage gave other bytes for the blob {sha256}: they hash to {digest.hexdigest()}"
        )
