"""Uploads in the store: a completion that did not come about leaves the parts, and nothing is swept away."""

from __future__ import annotations

import hashlib
import os
import time

import pytest

from app.store import uploads
from app.store.blobs import BlobStore
from app.store.db import Database
from app.store.tables import Blob, Upload

CONTENT = b"a file in two parts"
DIGEST = hashlib.sha256(CONTENT).hexdigest()


def begun(database: Database, blobs: BlobStore) -> str:
    """An upload whose parts are all there."""
    with database.transaction() as session:
        upload = uploads.create(
            session, 1, project_id="p", filename="f", bytes=len(CONTENT), part_bytes=10, sha256=None
        )
        session.flush()
        for number in (1, 2):
            span = uploads.span(upload, number)
            assert span is not None
            part = CONTENT[span.start : span.start + span.length]
            sha256 = hashlib.sha256(part).hexdigest()
            uploads.record_part(session, upload, number, len(part), sha256, 1)
    uploads.path(blobs, upload.id).write_bytes(CONTENT)
    return upload.id


def complete(database: Database, blobs: BlobStore, upload_id: str) -> None:
    with uploads.whole(blobs, upload_id, DIGEST) as staged, database.transaction() as session:
        upload = uploads.get(session, "p", upload_id, lock=True)
        assert upload is not None
        uploads.complete(session, blobs, upload, staged, DIGEST, 1)


def test_the_spans_are_the_file(database: Database, blobs: BlobStore) -> None:
    with database.snapshot() as session:
        upload = session.get_one(Upload, begun(database, blobs))
    assert [uploads.span(upload, number) for number in range(4)] == [None, (0, 10), (10, 9), None]


def test_a_completion_that_was_cut_off_can_be_done_again(database: Database, blobs: BlobStore) -> None:
    upload_id = begun(database, blobs)
    whole = uploads.whole(blobs, upload_id, DIGEST)
    with pytest.raises(ZeroDivisionError), whole as staged, database.transaction() as session:
        upload = uploads.get(session, "p", upload_id, lock=True)
        assert upload is not None
        uploads.complete(session, blobs, upload, staged, DIGEST, 1)
        raise ZeroDivisionError
    assert uploads.path(blobs, upload_id).read_bytes() == CONTENT
    with database.snapshot() as session:
        assert session.get_one(Upload, upload_id).status == "receiving"
    complete(database, blobs, upload_id)
    assert not uploads.path(blobs, upload_id).exists()
    with database.snapshot() as session:
        assert blobs.path(session, DIGEST).read_bytes() == CONTENT
        blobs.collect(session, older_than=-1)  # the file that nobody named, of the first try
        assert blobs.path(session, DIGEST).read_bytes() == CONTENT


def test_what_took_days_to_come_is_not_taken_for_a_leftover(database: Database, blobs: BlobStore) -> None:
    upload_id = begun(database, blobs)
    long_ago = time.time() - 10 * 24 * 3600
    os.utime(uploads.path(blobs, upload_id), (long_ago, long_ago))
    with database.snapshot() as session:
        assert blobs.collect(session) == 0
    complete(database, blobs, upload_id)
    with database.snapshot() as session:
        assert time.time() - blobs.path(session, DIGEST).stat().st_mtime < 3600


def test_the_parts_of_an_upload_that_is_gone_are_collected(database: Database, blobs: BlobStore) -> None:
    upload_id = begun(database, blobs)
    with database.transaction() as session:
        upload = uploads.get(session, "p", upload_id, lock=True)
        assert upload is not None
        uploads.delete(session, blobs, upload)
    assert not uploads.path(blobs, upload_id).exists()
    uploads.path(blobs, upload_id).write_bytes(b"of a request that was still writing")
    with database.snapshot() as session:
        assert blobs.collect(session, older_than=-1) == 1
        assert session.get(Blob, DIGEST) is None
