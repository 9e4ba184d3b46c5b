"""Blobs: kept once, protected while named, gone with the last row that names them."""

from __future__ import annotations

from pathlib import Path

import pytest

from app.store import datasets
from app.store.blobs import BlobStore, digest
from app.store.db import Database
from app.store.tables import Dataset


def keep(database: Database, blobs: BlobStore, content: bytes) -> str:
    with blobs.stage() as staged, database.transaction() as session:
        staged.write_bytes(content)
        return blobs.keep(session, staged)


def files(blobs: BlobStore) -> list[Path]:
    return [path for path in blobs.folder.rglob("*") if path.is_file()]


def dataset(database: Database, blob: str) -> str:
    with database.transaction() as session:
        return datasets.create(
            session, blob, project_id="p", name="d", format="npz", filename="d.npz", bytes=3
        ).id


def test_the_same_content_is_kept_once(database: Database, blobs: BlobStore) -> None:
    first, again = keep(database, blobs, b"abc"), keep(database, blobs, b"abc")
    assert first == again
    assert len(files(blobs)) == 1
    with database.snapshot() as session:
        path = blobs.path(session, first)
    assert path.read_bytes() == b"abc"
    assert digest(path) == first


def test_a_named_blob_stays_until_the_last_row_goes(database: Database, blobs: BlobStore) -> None:
    blob = keep(database, blobs, b"abc")
    one, two = dataset(database, blob), dataset(database, blob)
    for name, left in ((one, 1), (two, 0)):
        with database.transaction() as session:
            datasets.delete(session, blobs, session.get_one(Dataset, name))
        assert len(files(blobs)) == left


def test_a_rolled_back_deletion_loses_no_bytes(database: Database, blobs: BlobStore) -> None:
    blob = keep(database, blobs, b"abc")
    with pytest.raises(ZeroDivisionError), database.transaction() as session:
        blobs.forget(session, blob)
        raise ZeroDivisionError
    with database.snapshot() as session:
        assert blobs.path(session, blob).read_bytes() == b"abc"


def test_what_nobody_names_is_collected(database: Database, blobs: BlobStore) -> None:
    kept = keep(database, blobs, b"abc")
    (blobs.folder / "ab").mkdir(exist_ok=True)
    (blobs.folder / "ab" / "orphan").write_bytes(b"lost by a crash before the commit")
    (blobs.staging / "tmp").mkdir()
    (blobs.staging / "tmp" / "inputs.npy").write_bytes(b"lost by a crash of a validation")
    with database.snapshot() as session:
        assert blobs.collect(session) == 0
        assert blobs.collect(session, older_than=-1) == 2
        assert blobs.path(session, kept).exists()


def test_what_was_staged_and_not_kept_is_removed(blobs: BlobStore) -> None:
    with pytest.raises(ZeroDivisionError), blobs.stage() as staged:
        staged.write_bytes(b"half an upload")
        raise ZeroDivisionError
    assert files(blobs) == []
