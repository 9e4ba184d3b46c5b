"""The disk of the files is full while uploads are read: they are read once there is room, and not refused.

Uploads that find it full on their way in: tests/api/test_full_disk.py.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa  # type: ignore[import-untyped]
import pyarrow.parquet as pq  # type: ignore[import-untyped]
import pytest

from tests import services, walk
from tests.chaos import rows
from tests.chaos.disks import fill, small_disk
from tests.services import Service

MIB = 1024**2
DISK = 24


pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Service, Path]]:
    """A service whose files lie on a small disk; its database does not."""
    folder = tmp_path_factory.mktemp("full")
    with (
        small_disk(folder / "disk", DISK) as disk,
        services.embedded(folder / "data", BLOB_URL=disk.as_uri(), LEASE_SECONDS="1") as running,
    ):
        yield running, disk


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
