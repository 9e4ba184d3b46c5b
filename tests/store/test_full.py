"""What says that a disk is full, said by full disks."""

from __future__ import annotations

import os
import pwd
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import psycopg
import pytest
import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from app.store.blobs import BlobStore
from app.store.db import Database
from app.store.full import disk_full
from tests.chaos.disks import small_disk
from tests.servers import PostgresServer

MIB = 1024**2


@pytest.mark.parametrize(
    "write",
    [
        lambda path: path.write_bytes(b"\0" * 2 * MIB),
        lambda path: np.save(path, np.zeros(2 * MIB, np.uint8)),
        lambda path: save_file({"a": torch.zeros(MIB)}, path),
    ],
    ids=["bytes", "npy", "safetensors"],
)
def test_a_disk_of_files(tmp_path: Path, write: Callable[[Path], None]) -> None:
    with small_disk(tmp_path / "disk", 1) as disk:
        with pytest.raises((OSError, SafetensorError)) as failed:
            write(disk / "file.npy")
        assert disk_full(failed.value), repr(failed.value)


def test_the_disk_of_an_embedded_database(tmp_path: Path, sqlite_template: Path) -> None:
    with small_disk(tmp_path / "disk", 4) as disk:
        database = Database(f"sqlite:///{shutil.copy(sqlite_template, disk / 'diffin.db')}")
        with database.transaction() as session:
            session.execute(text("CREATE TABLE bulk (bytes BLOB)"))
        with pytest.raises(DBAPIError) as failed, database.transaction() as session:
            session.execute(text("INSERT INTO bulk VALUES (zeroblob(8000000))"))
        assert disk_full(failed.value)
        with database.transaction() as session:
            assert session.scalar(text("SELECT count(*) FROM bulk")) == 0
        database.engine.dispose()


def test_the_disk_of_a_server(tmp_path: Path, postgres: PostgresServer, postgres_url: str) -> None:
    with small_disk(Path("/tmp") / f"diffin-full-{os.getpid()}", 4) as disk:  # noqa: S108
        inside = disk / "space"
        inside.mkdir()
        if os.geteuid() == 0:
            os.chown(inside, *pwd.getpwnam("postgres")[2:4])
        name = f"full_{os.getpid()}"
        conninfo = postgres_url.replace("+psycopg", "")
        with psycopg.connect(conninfo, autocommit=True) as connection:
            connection.execute(f"CREATE TABLESPACE {name} LOCATION '{inside}'")
            connection.execute(f"CREATE TABLE bulk (bytes bytea) TABLESPACE {name}")
        database = Database(postgres_url)
        rows = "SELECT convert_to(repeat(md5(i::text), 40), 'UTF8') FROM generate_series(1, 9000) i"
        fill = text(f"INSERT INTO bulk {rows}")
        with pytest.raises(DBAPIError) as failed, database.transaction() as session:
            session.execute(fill)
        assert disk_full(failed.value), repr(failed.value)
        with database.transaction() as session:
            assert session.scalar(text("SELECT count(*) FROM bulk")) == 0
        database.engine.dispose()
        with psycopg.connect(conninfo, autocommit=True) as connection:
            connection.execute("DROP TABLE bulk")
            connection.execute(f"DROP TABLESPACE {name}")
    Path(f"/tmp/diffin-full-{os.getpid()}").rmdir()  # noqa: S108


@pytest.mark.parametrize(
    "failure", [OSError(2, "No such file"), ValueError("too large"), RuntimeError("can't allocate memory")]
)
def test_other_failures(failure: Exception) -> None:
    assert not disk_full(failure)


def test_what_a_transaction_kept_goes_with_it(database: Database, blobs: BlobStore) -> None:
    with blobs.stage() as staged, pytest.raises(ZeroDivisionError), database.transaction() as session:
        staged.write_bytes(b"kept")
        blobs.keep(session, staged)
        raise ZeroDivisionError
    assert [path for path in blobs.folder.glob("*/*") if path.is_file()] == []
