"""Uploads that find no room: 507 in words, nothing half-written is named, parts go on."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

import httpx
import numpy as np
import pytest

from app.main import create_app
from app.settings import Settings
from tests import walk
from tests.api.front_end import KEY, bearer, listening
from tests.chaos.disks import fill, refused, small_disk

PART = 1024**2


@pytest.fixture
def small(settings: Settings, sqlite_url: str, tmp_path: Path) -> Iterator[tuple[httpx.Client, Path]]:
    """A front end whose files lie on a small disk; its database does not."""
    with small_disk(tmp_path / "disk", 24) as disk:
        changes = {"database_url": sqlite_url, "blob_url": disk.as_uri(), "max_upload_bytes": 8 * PART}
        app = create_app(settings.model_copy(update=changes))
        with listening(app) as url, httpx.Client(base_url=url, headers=bearer(KEY), timeout=30) as client:
            yield client, disk


def test_an_upload_goes_on_after_the_parts_that_are_there(small: tuple[httpx.Client, Path]) -> None:
    client, disk = small
    content = np.random.default_rng(0).bytes(5 * PART + 10)
    body = {"filename": "a.npz", "bytes": len(content), "part_bytes": PART}
    asked = client.post("/v1/uploads", json=body)
    path = f"/v1/uploads/{walk.ok(asked, 201)['id']}"

    def send(number: int) -> httpx.Response:
        return client.put(f"{path}/parts/{number}", content=content[(number - 1) * PART : number * PART])

    for number in (1, 2):
        assert send(number).status_code == 204
    filler = fill(disk, leave=PART // 2)
    refused(send(3))
    assert [part["number"] for part in walk.ok(client.get(path), 200)["parts"]] == [1, 2]
    filler.unlink()
    for number in (3, 4, 5, 6):
        assert send(number).status_code == 204
    done = walk.ok(client.post(f"{path}/complete"), 200)
    assert done["sha256"] == hashlib.sha256(content).hexdigest()
    assert client.delete(path).status_code == 204


def test_a_file_that_finds_no_room_is_not_named_and_leaves_nothing(small: tuple[httpx.Client, Path]) -> None:
    client, disk = small
    inputs = np.random.default_rng(1).random((4000, 100), np.float32)
    content = walk.npz(inputs=inputs, targets=np.arange(4000) % 3)
    filler = fill(disk, leave=len(content) // 2)
    files = sorted(disk.glob("*/*"))
    refused(walk.post_dataset(client, content))
    assert walk.ok(client.get("/v1/datasets"), 200)["data"] == []
    assert sorted(disk.glob("*/*")) == files
    filler.unlink()
    posted = walk.ok(walk.post_dataset(client, content), 202)
    assert posted["sha256"] == hashlib.sha256(content).hexdigest()
