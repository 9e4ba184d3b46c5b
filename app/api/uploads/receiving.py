"""A part on its way into its place in the file, and the digest of the whole on the side."""

from __future__ import annotations

import asyncio
import hashlib
import os
import threading
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fastapi import Request

from app.api.problems import ApiProblem
from app.api.resources import RETRY_AFTER
from app.store.locks import WRITE, lock
from app.store.places import sync_ahead
from app.store.tables import UploadPart
from app.store.uploads import Span

BATCH = 1024**2  # what stays in a core's cache from one digest to the next, and on to the disk
Hash = Any


@contextmanager
def held(path: Path, span: Span) -> Iterator[int]:
    """A descriptor of the file, these bytes of it locked against every other writer; 409 if one has them."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        if not lock(descriptor, WRITE, *span):
            detail = "Another request is writing there just now; ask again in a moment."
            raise ApiProblem(409, "part_in_flight", detail, headers=RETRY_AFTER)
        yield descriptor
    finally:
        os.close(descriptor)


class Sink:
    """Takes a part's bytes to their place, adding them to digests on the way.

    They are gathered in batches: a thread that hashes piece by piece would have to win back the interpreter's
    lock from the one that receives after each of them.
    """

    def __init__(self, descriptor: int, span: Span, *digests: Hash) -> None:
        self.size = 0
        self._descriptor, self._span, self._digests = descriptor, span, digests

    async def take(self, request: Request) -> None:
        """Writes the body, one batch while the next one comes."""
        size = min(BATCH, self._span.length)
        batch, other = memoryview(bytearray(size)), memoryview(bytearray(size))
        filled, writing = 0, None
        try:
            async for piece in request.stream():
                rest = memoryview(piece)
                while rest:
                    taken = min(len(rest), size - filled)
                    batch[filled : filled + taken] = rest[:taken]
                    filled, rest = filled + taken, rest[taken:]
                    if filled == size:
                        if writing is not None:
                            await writing
                        writing = asyncio.ensure_future(asyncio.to_thread(self._write, batch))
                        batch, other, filled = other, batch, 0
        finally:
            if writing is not None:  # never leave while a thread writes: the lock would be gone
                await writing
        await asyncio.to_thread(self._write, batch[:filled])

    def _write(self, batch: memoryview) -> None:
        if self.size + len(batch) > self._span.length:
            detail = f"The part has more than {self._span.length:,} bytes: see part_bytes of the upload."
            raise ApiProblem(422, "part_size_mismatch", detail)
        for digest in self._digests:
            digest.update(batch)
        start, length = self._span.start + self.size, len(batch)
        while batch:
            written = os.pwrite(self._descriptor, batch, self._span.start + self.size)
            self.size, batch = self.size + written, batch[written:]
        sync_ahead(self._descriptor, start, length)


@dataclass
class Running:
    """The digest of a file's first parts, which this process saw come in, one after the other."""

    digest: Hash = field(default_factory=hashlib.sha256)
    parts: tuple[str, ...] = ()


class Digests:
    """Digests of files that are still coming in, so that few have to be read again at their end.

    What is missing here costs time and nothing else.
    """

    MOST = 256

    def __init__(self) -> None:
        self._running: OrderedDict[str, Running] = OrderedDict()
        self._lock = threading.Lock()

    def following(self, upload_id: str, number: int) -> Hash | None:
        """A copy of the digest of all parts before `number`, to go on with; None where it is not known."""
        with self._lock:
            known = self._running.get(upload_id, Running())
            return known.digest.copy() if len(known.parts) == number - 1 else None

    def extend(self, upload_id: str, number: int, sha256: str, digest: Hash | None) -> None:
        """Part `number` came in; `digest` is that of all up to it, if `following` knew of those before."""
        with self._lock:
            known = self._running.get(upload_id, Running())
            if len(known.parts) >= number:
                self._running.pop(upload_id, None)  # a part that was counted has been replaced
            elif digest is not None and len(known.parts) == number - 1:
                self._running[upload_id] = Running(digest, (*known.parts, sha256))
                self._running.move_to_end(upload_id)
                while len(self._running) > self.MOST:
                    self._running.popitem(last=False)

    def known(self, upload_id: str, parts: Sequence[UploadPart]) -> Running:
        """The digest of the first of these parts, as many as this process saw come in just so."""
        with self._lock:
            running = self._running.get(upload_id, Running())
            same = running.parts == tuple(part.sha256 for part in parts[: len(running.parts)])
            return Running(running.digest.copy(), running.parts) if same else Running()

    def forget(self, upload_id: str) -> None:
        with self._lock:
            self._running.pop(upload_id, None)


def whole(descriptor: int, parts: Sequence[UploadPart], known: Running) -> tuple[str, list[int]]:
    """(the digest of the file, the numbers of parts that are no longer what came in).

    Parts beyond those `known` are read again, and held against their own digests: a machine that lost its
    power may have lost them.
    """
    digest, broken = known.digest, []
    at = sum(part.bytes for part in parts[: len(known.parts)])
    for part in parts[len(known.parts) :]:
        own = hashlib.sha256()
        for start in range(at, at + part.bytes, BATCH):
            piece = os.pread(descriptor, min(BATCH, at + part.bytes - start), start)
            own.update(piece)
            digest.update(piece)
        if own.hexdigest() != part.sha256:
            broken.append(part.number)
        at += part.bytes
    return digest.hexdigest(), broken
