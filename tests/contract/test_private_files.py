"""What the service keeps is its account's alone, whatever the account's umask is."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import services, walk
from tests.services import Service

OTHERS = stat.S_IRWXG | stat.S_IRWXO


def used(service: Service) -> None:
    """Every kind of file has come to be: uploads in one piece and in parts, results, an export."""
    x, y = walk.digits(30)
    with service.client() as client:
        run = walk.run(client, (5,))
        content = walk.npz(inputs=x, targets=y)
        data = walk.dataset(client, content)["id"]
        job = walk.finished(client, walk.ok(walk.post_job(client, run, data, data), 202)["id"])
        assert job["status"] == "succeeded", job["error"]
        export = walk.ok(client.post("/v1/exports", json={"job_id": job["id"], "format": "csv"}), 202)
        walk.until(client, f"/v1/exports/{export['id']}", {"succeeded", "failed"})
        asked = {"filename": "d.npz", "bytes": len(content)}
        upload = walk.ok(client.post("/v1/uploads", json=asked), 201)["id"]
        assert client.put(f"/v1/uploads/{upload}/parts/1", content=content).status_code == 204


def readable(folder: Path) -> list[str]:
    """What other accounts could read, were they let into the folder."""
    found = [folder, *folder.rglob("*")]
    assert len(found) > 10
    return [str(one) for one in found if one.exists() and stat.S_IMODE(one.lstat().st_mode) & OTHERS]


@pytest.fixture
def open_handed() -> Iterator[None]:
    """The umask that most accounts have."""
    before = os.umask(0o022)
    yield
    os.umask(before)


@pytest.mark.usefixtures("open_handed")
def test_nobody_else_reads_the_embedded_data(tmp_path: Path) -> None:
    with services.embedded(tmp_path, DATA_DIR=str(tmp_path / "kept")) as service:
        used(service)
        assert all((tmp_path / "kept" / name).exists() for name in ("diffin.db", "diffin.db-wal", "secret"))
        assert readable(tmp_path / "kept") == []


@pytest.mark.slow
@pytest.mark.usefixtures("open_handed")
def test_nobody_else_reads_the_blobs_beside_postgresql(
    tmp_path: Path, postgres_url: str, redis_url: str
) -> None:
    kept = {"DATA_DIR": str(tmp_path / "kept")}
    with services.production(tmp_path, postgres_url, redis_url, workers=1, **kept) as service:
        used(service)
        assert readable(tmp_path / "kept") == []
