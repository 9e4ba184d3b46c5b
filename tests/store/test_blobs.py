"""Blobs, on a disk and in a bucket: kept once, protected while named, gone with the last row naming them."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest

from app.store import datasets
from app.store.blobs import BlobStore, digest, opened
from app.store.db import Database
from app.store.tables import Dataset
from tests import buckets


@pytest.fixture(params=["disk", "s3"])
def blobs(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> BlobStore:
    """A store of the test's own: each test runs once on a folder, and once on a bucket."""
    if request.param == "disk":
        return BlobStore(tmp_path / "blobs")
    bucket = buckets.reached(request.getfixturevalue("s3_server"), monkeypatch)
    return opened(f"s3://{bucket}/a/prefix", tmp_path / "blobs", 10**9)


def keep(database: Database, blobs: BlobStore, content: bytes) -> str:
    with blobs.stage() as staged, database.transaction() as session:
        staged.write_bytes(content)
        return blobs.keep(session, staged)


def kept(blobs: BlobStore) -> list[str]:
    """What lies in the place, named or not."""
    return list(blobs.place.old(-60))


def left(blobs: BlobStore) -> list[Path]:
    """What lies on this machine on its way there."""
    return [path for inside in (blobs.staging, blobs.incoming) for path in inside.rglob("*")]


def dataset(database: Database, blob: str) -> str:
    with database.transaction() as session:
        return datasets.create(
            session, blob, project_id="p", name="d", format="npz", filename="d.npz", bytes=3
        ).id


def test_the_same_content_is_kept_once(database: Database, blobs: BlobStore) -> None:
    first, again = keep(database, blobs, b"abc"), keep(database, blobs, b"abc")
    assert first == again
    assert len(kept(blobs)) == 1
    with database.snapshot() as session:
        path = blobs.path(session, first)
    assert path.read_bytes() == b"abc"
    assert digest(path) == first
    assert left(blobs) == []


def test_a_file_larger_than_what_is_sent_at_once_comes_back_whole_and_in_parts(
    database: Database, blobs: BlobStore, tmp_path: Path
) -> None:
    content = np.random.default_rng(0).bytes(20_000_000)
    blob = keep(database, blobs, content)
    assert blob == hashlib.sha256(content).hexdigest()
    for cached in (tmp_path / "blobs" / "cache").glob("*/*"):
        cached.unlink()  # as on another machine
    with database.snapshot() as session:
        assert blobs.path(session, blob).read_bytes() == content
        size, read = blobs.reader(session, blob)
    assert size == len(content)
    assert b"".join(read(9_999_999, 15_000_001)) == content[9_999_999:15_000_001]
    assert b"".join(read(0, size)) == content


def test_what_is_not_there_is_told_at_once(blobs: BlobStore, database: Database) -> None:
    with database.snapshot() as session, pytest.raises(FileNotFoundError):
        blobs.path(session, "0" * 64)
    with pytest.raises(FileNotFoundError):
        blobs.place.read("00/nothing", 0, 1)


def test_a_named_blob_stays_until_the_last_row_goes(database: Database, blobs: BlobStore) -> None:
    blob = keep(database, blobs, b"abc")
    one, two = dataset(database, blob), dataset(database, blob)
    for name, remaining in ((one, 1), (two, 0)):
        with database.transaction() as session:
            datasets.delete(session, blobs, session.get_one(Dataset, name))
        assert len(kept(blobs)) == remaining
    assert not list((blobs.folder / "cache").glob("*/*"))


def test_a_rolled_back_deletion_loses_no_bytes(database: Database, blobs: BlobStore) -> None:
    blob = keep(database, blobs, b"abc")
    with pytest.raises(ZeroDivisionError), database.transaction() as session:
        blobs.forget(session, blob)
        raise ZeroDivisionError
    assert len(kept(blobs)) == 1
    with database.snapshot() as session:
        assert blobs.path(session, blob).read_bytes() == b"abc"


def test_what_was_sent_ahead_is_kept_by_the_transaction_or_removed(
    database: Database, blobs: BlobStore
) -> None:
    with blobs.stage() as one, blobs.stage() as two:
        one.write_bytes(b"one")
        two.write_bytes(b"two")
        with blobs.ahead(one, two), database.transaction() as session:
            if blobs.place.remote:
                assert len(kept(blobs)) == 2
            blob = blobs.keep(session, one)
        with pytest.raises(ZeroDivisionError), blobs.ahead(two):
            raise ZeroDivisionError
        with blobs.ahead(one), database.transaction() as session:  # the same again
            if one.exists():
                assert blobs.keep(session, one) == blob
    assert len(kept(blobs)) == 1
    with database.snapshot() as session:
        assert blobs.path(session, blob).read_bytes() == b"one"


def test_what_nobody_names_is_collected_after_a_while(database: Database, blobs: BlobStore) -> None:
    blob = keep(database, blobs, b"abc")
    with blobs.stage() as staged:
        staged.write_bytes(b"lost by a crash before the commit")
        blobs.place.put(staged, f"ab/{'ab' * 32}-orphan")
    (blobs.staging / "tmp").mkdir()
    (blobs.staging / "tmp" / "inputs.npy").write_bytes(b"lost by a crash of a validation")
    with database.snapshot() as session:
        assert blobs.collect(session) == 0
        assert len(kept(blobs)) == 2
        assert blobs.collect(session, older_than=-60) == 2
        assert blobs.path(session, blob).exists()
    assert len(kept(blobs)) == 1


def test_what_was_staged_and_not_kept_is_removed(blobs: BlobStore) -> None:
    with pytest.raises(ZeroDivisionError), blobs.stage() as staged:
        staged.write_bytes(b"half an upload")
        raise ZeroDivisionError
    assert not left(blobs) and not kept(blobs)


def test_checking_leaves_nothing_behind(blobs: BlobStore) -> None:
    blobs.check()
    assert not left(blobs) and not kept(blobs)
