"""A bucket that is away, wrong or damaged says so in words, and loses nothing that was promised."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from app.settings import Settings
from app.store.blobs import BlobStore, opened
from app.store.db import Database
from app.store.places import sync_ahead
from tests import buckets, servers


@pytest.fixture
def bucket(s3_server: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """The URL of a bucket of the test's own."""
    return f"s3://{buckets.reached(s3_server, monkeypatch)}"


def keep(database: Database, blobs: BlobStore, content: bytes) -> str:
    with blobs.stage() as staged, database.transaction() as session:
        staged.write_bytes(content)
        return blobs.keep(session, staged)


def test_the_system_begins_to_put_bytes_on_the_disk_before_it_must(tmp_path: Path) -> None:
    with (tmp_path / "file").open("wb", buffering=0) as file:
        file.write(bytes(1000))
        assert sync_ahead(file.fileno(), 0, 1000)
    reading, writing = os.pipe()
    assert not sync_ahead(writing, 0, 1000)  # it says so where it can't
    os.close(reading)
    os.close(writing)


@pytest.mark.parametrize("url", ["http://somewhere/blobs", "s3:///no-bucket", "blobs"])
def test_what_is_no_place_is_refused_at_the_start(url: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="DIFFIN_BLOB_URL must be"):
        Settings(data_dir=tmp_path, blob_url=url)


@pytest.mark.parametrize(("mistake", "words"), [("bucket", "NoSuchBucket|404"), ("server", "error sending")])
def test_a_bucket_out_of_reach_is_told_by_its_url(
    bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mistake: str, words: str
) -> None:
    if mistake == "server":
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{servers.free_port()}")
    else:
        bucket = "s3://there-is-none"
    with pytest.raises(OSError, match=rf"^{bucket}: .*({words})") as told:
        opened(bucket, tmp_path, 10**9).check()
    assert "\n" not in str(told.value)


def test_other_bytes_than_were_kept_are_refused(database: Database, bucket: str, tmp_path: Path) -> None:
    here, elsewhere = (opened(bucket, tmp_path / name, 10**9) for name in ("here", "elsewhere"))
    blob = keep(database, here, b"abc")
    [location] = here.place.old(-60)
    (staged := tmp_path / "abd").write_bytes(b"abd")
    opened(bucket, tmp_path / "intruder", 10**9).place.put(staged, location)
    with database.snapshot() as session:
        with pytest.raises(OSError, match="other bytes"):
            elsewhere.path(session, blob)
        assert here.path(session, blob).read_bytes() == b"abc"
    assert not [
        path for path in (tmp_path / "elsewhere").rglob("*") if path.is_file() and path.name != "locks"
    ]


def test_a_bucket_that_is_away_keeps_no_deletion_from_happening(
    database: Database, bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = opened(bucket, tmp_path, 10**9)
    blob = keep(database, here, b"abc")
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{servers.free_port()}")
    away = opened(bucket, tmp_path, 10**9)
    with database.transaction() as session:
        away.forget(session, blob)
    assert len(list(here.place.old(-60))) == 1
    with database.snapshot() as session:
        assert here.collect(session, older_than=-60) == 1
    assert list(here.place.old(-60)) == []
