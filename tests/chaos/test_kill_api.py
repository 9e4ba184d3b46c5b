"""The API killed while a file comes in parts: what is there stays there, and the rest follows."""

from __future__ import annotations

import hashlib
import threading
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest

from diffin import Diffin
from diffin.calls import uploads
from tests import services, walk
from tests.chaos.processes import kill
from tests.services import Service

PART = 64 * 1024


class BrokenOffError(Exception):
    """The client goes away as well."""


@pytest.fixture(params=["sqlite", "postgresql"])
def service(request: pytest.FixtureRequest, tmp_path: Path) -> Service:
    """An API that is yet to start, on a database of its own; nobody works for it."""
    name = {"sqlite": "sqlite_url", "postgresql": "postgres_url"}[request.param]
    return services.prepared(tmp_path, DATABASE_URL=request.getfixturevalue(name))


def test_an_upload_survives_kills_between_its_parts_and_in_them(
    service: Service, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(uploads, "PIECE", PART // 4)
    file = tmp_path / "d.npz"
    file.write_bytes(np.random.default_rng(0).bytes(5 * PART + 100))
    api, killed = ExitStack(), threading.Event()

    def start() -> None:
        api.enter_context(service.running("api", "api"))
        services.wait_for_http(service)

    def stop_after_two_parts(sent: int, total: int) -> None:
        if sent > 2 * PART:
            raise BrokenOffError

    def kill_in_the_fourth(sent: int, total: int) -> None:
        if sent > 3.5 * PART and not killed.is_set():
            kill(service.process.pid)
            service.process.wait()
            killed.set()

    with api, Diffin(service.url, service.key, retries=0) as client:
        start()
        with pytest.raises(BrokenOffError):
            client.upload_file(file, part_bytes=PART, progress=stop_after_two_parts)
        kill(service.process.pid)  # between two parts
        service.process.wait()
        start()
        begun = client._begun(file)
        assert begun is not None
        assert [part["number"] for part in begun.parts] == [1, 2]
        assert [part["sha256"] for part in begun.parts] == [
            hashlib.sha256(file.read_bytes()[at : at + PART]).hexdigest() for at in (0, PART)
        ]

        def restart() -> None:
            killed.wait(60)
            start()

        restarting = threading.Thread(target=restart)
        restarting.start()
        done = client.upload_file(file, progress=kill_in_the_fourth)
        restarting.join()
        assert killed.is_set() and done.id == begun.id
        sha256 = hashlib.sha256(file.read_bytes()).hexdigest()
        assert (done.status, done.sha256) == ("complete", sha256)
        with service.client() as http:
            body = {"upload_id": done.id, "name": "d"}
            made = walk.ok(http.post("/v1/datasets", json=body), 202)
        assert (made["sha256"], made["bytes"]) == (sha256, file.stat().st_size)
        (kept,) = (service.data_dir / "blobs").glob(f"*/{sha256}-*")
        assert kept.read_bytes() == file.read_bytes()
