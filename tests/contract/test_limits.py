"""Uploads over the limit are refused before they fill the disk."""

from __future__ import annotations

import http.client
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import services, walk


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Iterator[services.Service]:
    with services.embedded(tmp_path_factory.mktemp("small"), MAX_UPLOAD_BYTES="100000") as service:
        yield service


def left_behind(service: services.Service) -> list[Path]:
    return [path for path in (service.data_dir / "blobs").rglob("*") if path.is_file()]


def test_an_upload_over_the_limit_is_refused(small: services.Service) -> None:
    with small.client() as client:
        body = walk.ok(walk.post_dataset(client, bytes(300_000)), 413)
    assert body["code"] == "payload_too_large"
    assert "100" in body["detail"]
    assert left_behind(small) == []


def test_an_upload_that_does_not_say_its_size_is_stopped_on_the_way(small: services.Service) -> None:
    host = small.url.removeprefix("http://")
    head = b'--b\r\nContent-Disposition: form-data; name="file"; filename="d.npz"\r\n\r\n'

    def endless() -> Iterator[bytes]:
        yield head
        for _ in range(100_000):  # 6.5 GB, if nobody stops it
            yield bytes(65_536)

    connection = http.client.HTTPConnection(host, timeout=30)
    headers = {"Authorization": f"Bearer {small.key}", "Content-Type": "multipart/form-data; boundary=b"}
    try:
        connection.request("POST", "/v1/datasets", body=endless(), headers=headers, encode_chunked=True)
        status = connection.getresponse().status
    except (BrokenPipeError, ConnectionResetError):  # it hung up on us, as it should
        status = 413
    finally:
        connection.close()
    assert status == 413
    assert left_behind(small) == []


def test_a_port_that_is_taken_is_said_before_anything_is_started(
    small: services.Service, tmp_path: Path
) -> None:
    taken = {**small.environment, "DIFFIN_DATA_DIR": str(tmp_path / "other")}
    command = [sys.executable, "-m", "diffin.cli", "serve"]
    ended = subprocess.run(command, env=taken, capture_output=True, text=True, timeout=60)
    assert ended.returncode != 0
    assert "cannot listen" in ended.stderr and "DIFFIN_PORT" in ended.stderr
    assert not (tmp_path / "other").exists()
