"""The disk of the files is full while uploads come in and are read: nothing half-written is named, and what
was sent is read once there is room.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterator
from pathlib import Path

import httpx
import numpy as np
import pyarrow as pa  # type: ignore[import-untyped]
import pyarrow.parquet as pq  # type: ignore[import-untyped]
import pytest

from tests import services, walk
from tests.chaos import rows
from tests.chaos.disks import fill, small_disk
from tests.services import Service

MIB = 1024**2
DISK, PART = 24, MIB


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Service, Path]]:
    """A service whose files lie on a small disk; its database does not."""
    folder = tmp_path_factory.mktemp("full")
    with (
        small_disk(folder / "disk", DISK) as disk,
        services.embedded(folder / "data", BLOB_URL=disk.as_uri(), LEASE_SECONDS="1") as running,
    ):
        yield running, disk


def refused(answer: httpx.Response) -> None:
    assert answer.status_code == 507, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    problem = answer.json()
    assert problem["code"] == "insufficient_storage"
    assert "no room" in problem["detail"] and "send the request again" in problem["detail"]


def named(client: httpx.Client) -> int:
    return len(walk.ok(client.get("/v1/datasets"), 200)["data"])


def test_an_upload_goes_on_after_the_parts_that_are_there(service: tuple[Service, Path]) -> None:
    running, disk = service
    content = np.random.default_rng(0).bytes(5 * PART + 10)
    with running.client() as client:
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


def test_a_file_that_finds_no_room_is_not_named_and_leaves_nothing(service: tuple[Service, Path]) -> None:
    running, disk = service
    inputs = np.random.default_rng(1).random((4000, 100), np.float32)
    content = walk.npz(inputs=inputs, targets=np.arange(4000) % 3)
    with running.client() as client:
        before = named(client)
        filler = fill(disk, leave=len(content) // 2)
        files = sorted(disk.glob("*/*"))
        refused(walk.post_dataset(client, content))
        assert named(client) == before and sorted(disk.glob("*/*")) == files
        filler.unlink()
        assert walk.dataset(client, content)["status"] == "ready"


def small_files_of_large_arrays() -> dict[str, bytes]:
    """Files that fit where the arrays in them do not."""
    inputs, targets = np.zeros((3000, 400), np.float32), np.arange(3000) % 2
    packed = io.BytesIO()
    np.savez_compressed(packed, inputs=inputs, targets=targets)
    header = ",".join([f"x{i}" for i in range(400)] + ["label"])
    lines = "\n".join([header, *(",".join(["0"] * 400 + [str(label)]) for label in targets)]) + "\n"
    table = io.BytesIO()
    columns = {f"x{i}": inputs[:, i] for i in range(400)} | {"label": targets}
    pq.write_table(pa.table(columns), table)
    return {"npz": packed.getvalue(), "csv": lines.encode(), "parquet": table.getvalue()}


@pytest.mark.parametrize("kind", ["npz", "csv", "parquet"])
def test_a_file_that_cannot_be_read_for_want_of_room_is_read_later_and_not_refused(
    service: tuple[Service, Path], kind: str
) -> None:
    running, disk = service
    content = small_files_of_large_arrays()[kind]
    with running.client() as client:
        filler = fill(disk, leave=len(content) + MIB)
        posted = walk.ok(walk.post_dataset(client, content, f"d.{kind}"), 202)
        path = f"/v1/datasets/{posted['id']}"
        rows.wait_until(lambda: rows.failures(running, posted["id"]), "tried in vain")
        assert walk.ok(client.get(path), 200)["status"] == "validating"
        filler.unlink()
        ready = walk.until(client, path, {"ready", "invalid"}, seconds=60)
        assert ready["status"] == "ready", ready
        assert client.delete(path).status_code == 204
