"""Large files: sent in parts, and gone on with whatever broke, a connection, the service or this process."""

from __future__ import annotations

import hashlib
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

from diffin.calls.base import Calls
from diffin.errors import DiffinError
from diffin.http import Sent
from diffin.models import Json, Problem, from_json, id_of
from diffin.transfers import Upload

PARTS_ABOVE = 64 * 1024**2
"""Bytes above which a file is sent in parts."""

PATIENCE = 300.0
"""Seconds after which a service that stayed away counts as gone."""

PIECE = 1024**2
PASSING = ("unreachable", "part_in_flight", "request_in_flight")
RESUME = "diffin-file"  # of an upload's metadata: the file that it goes on with
T = TypeVar("T")
Hash = Any


class UploadCalls(Calls):
    def upload_file(
        self, path: str | Path, *, part_bytes: int | None = None, progress: Sent | None = None
    ) -> Upload:
        """Sends a file in parts, and returns the complete upload, whose id says what a resource is made of.

        Parts that the service has from a call that was broken off are not sent again. While the service is
        away it is waited for, some minutes. At the end both sides must have the same SHA-256.

        Raises:
            DiffinError: the service refused or stayed away, or has other bytes in the end.
        """
        path = Path(path)
        upload = self._begun(path) or self._begin(path, part_bytes)
        there = {part["number"]: part["sha256"] for part in upload.parts}
        whole = hashlib.sha256()
        with path.open("rb") as file:
            for number in range(1, upload.num_parts + 1):
                part = _Part(file, (number - 1) * upload.part_bytes, upload, progress)
                if number not in there or part.digests(whole) != there[number]:
                    self._put(upload, number, part, whole)
                whole = part.whole
        done = self._patiently(lambda: self._complete(upload))
        if done.sha256 != whole.hexdigest():
            self.delete_upload(done)
            detail = f"the service has other bytes than {path}: somebody else wrote there; send it again"
            raise DiffinError(Problem(detail, code="digest_mismatch"))
        return done

    def upload(self, upload: str | Upload) -> Upload:
        return self._get(Upload, f"/v1/uploads/{id_of(upload)}")

    def uploads(self, *, status: str | None = None, limit: int | None = None) -> Iterator[Upload]:
        """Newest first, without their parts."""
        return self._pages(Upload, "/v1/uploads", {"status": status}, limit)

    def delete_upload(self, upload: str | Upload) -> None:
        """With its bytes; what was made of them stays."""
        self._transport.send("DELETE", f"/v1/uploads/{id_of(upload)}")

    def _used(self, upload: Upload) -> None:
        """Something was made of the upload: nothing else is waiting for it."""
        with suppress(DiffinError):  # it goes by itself as well
            self.delete_upload(upload)

    def _begun(self, path: Path) -> Upload | None:
        """An upload of this very file that was broken off."""
        mark = _mark(path)
        for upload in self.uploads(status="receiving"):
            if (upload.metadata or {}).get(RESUME) == mark:
                return self.upload(upload)
        return None

    def _begin(self, path: Path, part_bytes: int | None) -> Upload:
        body: Json = {"filename": path.name, "bytes": path.stat().st_size, "metadata": {RESUME: _mark(path)}}
        body |= {"part_bytes": part_bytes} if part_bytes else {}
        return self._read(Upload, self._transport.send("POST", "/v1/uploads", json=body))

    def _put(self, upload: Upload, number: int, part: _Part, whole: Hash) -> None:
        where = f"/v1/uploads/{upload.id}/parts/{number}"
        headers = {"Content-Length": str(part.length)}
        self._patiently(
            lambda: self._transport.send("PUT", where, content=lambda: part.pieces(whole), headers=headers)
        )

    def _complete(self, upload: Upload) -> Upload:
        answer = self._transport.send("POST", f"/v1/uploads/{upload.id}/complete")
        return from_json(Upload, answer.json())

    def _patiently(self, act: Callable[[], T]) -> T:
        """What `act` returns, once the service is there and no other request stands in its way."""
        end = time.monotonic() + PATIENCE
        while True:
            try:
                return act()
            except DiffinError as error:
                if error.code not in PASSING or time.monotonic() > end:
                    raise
            time.sleep(1)


class _Part:
    """A part of a file, read in pieces; `whole` is then the digest of the file up to its end."""

    whole: Hash

    def __init__(self, file: BinaryIO, start: int, upload: Upload, progress: Sent | None) -> None:
        self.length = min(upload.part_bytes, upload.bytes - start)
        self._file, self._start, self._total, self._progress = file, start, upload.bytes, progress

    def pieces(self, before: Hash) -> Iterator[bytes]:
        """The bytes, added to the digest of what comes before them.

        Raises:
            ValueError: the file has become shorter.
        """
        whole, left = before.copy(), self.length
        self._file.seek(self._start)
        while left:
            piece = self._file.read(min(PIECE, left))
            if not piece:
                raise ValueError(f"{self._file.name} has become shorter while it was sent")
            whole.update(piece)
            left -= len(piece)
            yield piece
            if self._progress:
                self._progress(self._start + self.length - left, self._total)
        self.whole = whole

    def digests(self, before: Hash) -> str:
        """The part's own digest."""
        own = hashlib.sha256()
        for piece in self.pieces(before):
            own.update(piece)
        return own.hexdigest()


def _mark(path: Path) -> str:
    """Tells this file, as it is now, from all others."""
    state = path.stat()
    told = (socket.gethostname(), str(path.resolve()), state.st_size, state.st_mtime_ns)
    return hashlib.sha256(repr(told).encode()).hexdigest()
