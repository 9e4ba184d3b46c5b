"""Stores that a `uri` may name a file of: buckets, folders, and places on the web.

Each gives a file to a sink: how large it is, then its bytes, piece by piece. All of them are of one version
of it, or the file is refused.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import socket
import ssl
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Protocol
from urllib.parse import urlsplit

import httpx
import obstore
from obstore.exceptions import BaseError, PermissionDeniedError, PreconditionError, UnauthenticatedError

from app import addresses
from app.addresses import AddressRefusedError, Lookup, UnresolvedError
from app.settings import MIB, Settings
from app.store.places import s3
from app.uris import WEB, Named
from worker import pinned
from worker.problems import StoreAwayError, UserError

if TYPE_CHECKING:
    from obstore import GetOptions

PART = 8 * MIB  # of an object, asked for at once
PART_TIME, PATIENCE = timedelta(minutes=5), timedelta(seconds=10)  # the unit is tried again after a while
HEAD_SECONDS, SILENT_SECONDS = 30.0, 20.0  # of an answer's head in all, of its body between two bytes
PIECE = MIB
FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW
PLAIN_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK  # a pipe would wait for who writes to it
ELSEWHERE = "It is a link or leads through one, or is no file: name the file itself."
AWAY = (408, 425, 429)  # and 5xx
log = logging.getLogger(__name__)


class Sink(Protocol):
    """Where a file goes."""

    def announce(self, size: int) -> None:
        """How many bytes are to come; to be called first."""

    def take(self, piece: bytes) -> None:
        """The next of them."""


def bring(settings: Settings, file: Named, sink: Sink, lookup: Lookup = socket.getaddrinfo) -> None:
    """Gives a file to the sink.

    Raises:
        UserError: it is not there, not to be had, or changed meanwhile.
        StoreAwayError: the store does not answer as it should.
    """
    if file.scheme == "s3":
        from_bucket(file, sink)
    elif file.scheme in WEB:
        from_web(file, sink, settings, lookup)
    else:
        from_folder(file, sink)


def changed() -> UserError:
    """Why what came cannot be kept."""
    return UserError(
        "source_changed", "The file changed while it was fetched: name it again once it is done."
    )


# ---------------------------------------------------------------- buckets
def from_bucket(file: Named, sink: Sink) -> None:
    """An object, part by part, each asked for under the version of the first answer."""
    _, bucket, prefix, *_ = urlsplit(file.prefix)
    with _told_of_bucket(file):
        store = s3(bucket, prefix, PART_TIME, PATIENCE)
        head = obstore.head(store, file.path)
    sink.announce(head["size"])
    for start in range(0, head["size"], PART):
        stop = min(start + PART, head["size"])
        options: GetOptions = {"range": (start, stop)}
        if head["e_tag"] is not None:
            options["if_match"] = head["e_tag"]
        with _told_of_bucket(file):
            got = obstore.get(store, file.path, options=options)
            part = bytes(got.bytes())
        if any(got.meta[name] != head[name] for name in ("size", "e_tag", "last_modified")):
            raise changed()  # not every store heeds If-Match
        sink.take(part)


@contextmanager
def _told_of_bucket(file: Named) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError as missing:
        raise _missing(file) from missing
    except (PermissionDeniedError, UnauthenticatedError) as denied:
        raise _denied(file) from denied
    except PreconditionError as other:
        raise changed() from other
    except BaseError as problem:
        raise StoreAwayError(f"{file.prefix} does not answer as it should") from problem  # which names more


# ---------------------------------------------------------------- folders
def from_folder(file: Named, sink: Sink) -> None:
    """A file below a folder, which no link leads out of: the path is gone down name by name."""
    root, names = file.prefix.removeprefix("file://"), file.path.split("/")
    with _told_of_folder(file):
        opened = open(file.path, "rb", opener=lambda *_: _opened(root, names))  # noqa: SIM115
    with opened:
        before = os.fstat(opened.fileno())
        if not stat.S_ISREG(before.st_mode):
            raise UserError("source_refused", ELSEWHERE)
        sink.announce(before.st_size)
        while True:
            with _told_of_folder(file):
                piece = opened.read(PIECE)
            if not piece:
                break
            sink.take(piece)
        after = os.fstat(opened.fileno())
    if (before.st_size, before.st_mtime_ns) != (after.st_size, after.st_mtime_ns):
        raise changed()


def _opened(root: str, names: list[str]) -> int:
    """The descriptor of the file that is there by these names, none of which is a link."""
    try:
        folder = os.open(root, os.O_RDONLY | os.O_DIRECTORY)
    except OSError as problem:  # not mounted, say
        raise StoreAwayError(f"{root}: {problem.strerror}") from problem
    for name in names[:-1]:
        try:
            below = os.open(name, FOLDER, dir_fd=folder)
        finally:
            os.close(folder)
        folder = below
    try:
        return os.open(names[-1], PLAIN_FILE, dir_fd=folder)
    finally:
        os.close(folder)


@contextmanager
def _told_of_folder(file: Named) -> Iterator[None]:
    try:
        yield
    except OSError as problem:
        if problem.errno in (errno.ENOENT, errno.ENAMETOOLONG):
            raise _missing(file) from problem
        if problem.errno in (errno.ELOOP, errno.ENOTDIR, errno.EISDIR, errno.ENXIO):
            raise UserError("source_refused", ELSEWHERE) from problem
        if problem.errno in (errno.EACCES, errno.EPERM):
            raise _denied(file) from problem
        raise StoreAwayError(f"{file.prefix}: {problem.strerror}") from problem


# ---------------------------------------------------------------- the web
def from_web(
    file: Named,
    sink: Sink,
    settings: Settings,
    lookup: Lookup = socket.getaddrinfo,
    trust: ssl.SSLContext | None = None,
) -> None:
    """What one GET answers, of the host that the name leads to now, if that may be."""
    try:
        parts = addresses.parsed(file.uri, plain=True)
        address = addresses.resolved(parts, settings.uri_networks, lookup)[0]
        asyncio.run(_downloaded(file, address, sink, trust))
    except UnresolvedError as unknown:
        raise StoreAwayError(f"{file.prefix}: {unknown}") from unknown
    except AddressRefusedError as refused:
        log.warning("%s: %s", file.prefix, refused)
        detail = (
            f"It is not fetched: {file.prefix} leads to no address that this service fetches from. Its "
            "operator can tell where to."
        )
        raise UserError("source_refused", detail) from refused
    except (httpx.HTTPError, TimeoutError) as problem:
        words = str(problem) or f"it says nothing ({type(problem).__name__})"
        raise StoreAwayError(f"{file.prefix}: {words}") from problem


async def _downloaded(
    file: Named, address: addresses.Address, sink: Sink, trust: ssl.SSLContext | None
) -> None:
    headers = {"Accept-Encoding": "identity", "User-Agent": "diffin"}
    asked = pinned.answered("GET", file.uri, address, headers, trust=trust, silence=SILENT_SECONDS)
    async with asyncio.timeout(HEAD_SECONDS) as limit, asked as answer:
        limit.reschedule(None)
        _refuse_answer(file, answer)
        sink.announce(_length(answer))
        async for piece in answer.aiter_raw():
            sink.take(piece)


def _refuse_answer(file: Named, answer: httpx.Response) -> None:
    status = answer.status_code
    if status in (404, 410):
        raise _missing(file)
    if status in (401, 403):
        raise _denied(file)
    if status in AWAY or status >= 500:
        raise StoreAwayError(f"{file.prefix}: it answers {status}")
    if 300 <= status < 400:
        detail = (
            f"Its address answers {status}: no redirect is followed. Name where it leads, if that is allowed."
        )
        raise UserError("source_refused", detail)
    if status != 200:
        raise UserError("source_refused", f"Its address answers {status}, and not 200.")
    if answer.headers.get("content-encoding", "identity") != "identity":
        raise UserError(
            "source_refused", "Its address packs it on the way (Content-Encoding), though asked not to."
        )


def _length(answer: httpx.Response) -> int:
    told = answer.headers.get("content-length", "")
    if not told.isdecimal() or len(told) > 18:
        raise UserError("source_refused", "Its address does not tell how large it is (Content-Length).")
    return int(told)


def _missing(file: Named) -> UserError:
    return UserError("source_not_found", f"{file.uri} is not there.")


def _denied(file: Named) -> UserError:
    detail = (
        f"The store does not give {file.uri} to this service, if it is there at all: its operator can tell."
    )
    return UserError("source_forbidden", detail)
