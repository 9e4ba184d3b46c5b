"""The disk of the files is full while a job computes and an export is written: both end as if nothing had
been once there is room; where it stays full, they fail by the service's fault, in words for its operator.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests import services, walk
from tests.chaos import rows
from tests.chaos.disks import fill, small_disk
from tests.chaos.processes import worker_of
from tests.chaos.test_kill import Rows, ask, ends_as, submitted, undisturbed, wait_for_the_middle
from tests.chaos.test_kill_export import asked, job_of_many, written
from tests.services import Service
from worker.sums import mapped

pytestmark = pytest.mark.slow
SETTINGS = {"BLOCK_SECONDS": "0.001", "LEASE_SECONDS": "1", "MAX_ATTEMPTS": "4"}


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Service, Path]]:
    """A service whose files lie on a small disk; its database does not."""
    folder = tmp_path_factory.mktemp("full")
    with (
        small_disk(folder / "disk", 32) as disk,
        services.embedded(folder / "data", BLOB_URL=disk.as_uri(), **SETTINGS) as running,
    ):
        yield running, disk


@pytest.fixture(scope="module")
def question(service: tuple[Service, Path]) -> tuple[dict[str, str], Rows]:
    """What is asked, and its answer when nothing happens."""
    with service[0].client() as client:
        wanted = ask(client)
        return wanted, undisturbed(client, wanted)


def told_to_the_operator(error: dict[str, Any]) -> None:
    assert (error["code"], error["fault"], error["status"]) == ("insufficient_storage", "service", 500)
    assert "no room left" in error["detail"] and "docs/operations.md" in error["detail"]


@pytest.mark.parametrize("moment", range(3))
def test_a_job_goes_on_when_there_is_room_again(
    service: tuple[Service, Path], question: tuple[dict[str, str], Rows], moment: int
) -> None:
    running, disk = service
    wanted, expected = question
    with running.client() as client:
        worker = worker_of(running.process.pid)
        job_id = submitted(client, wanted)
        wait_for_the_middle(client, job_id, moment)
        filler = fill(disk)
        rows.wait_until(lambda: rows.failures(running, job_id) > 1, "tried in vain")
        filler.unlink()
        ends_as(client, job_id, expected)
        assert worker_of(running.process.pid) == worker, "the worker went on"


def test_a_job_fails_by_the_services_fault_when_the_disk_stays_full(
    service: tuple[Service, Path], question: tuple[dict[str, str], Rows]
) -> None:
    running, disk = service
    wanted, expected = question
    with running.client() as client:
        job_id = submitted(client, wanted)
        wait_for_the_middle(client, job_id, 0)
        filler = fill(disk)
        job = walk.finished(client, job_id)
        assert job["status"] == "failed"
        told_to_the_operator(job["error"])
        assert walk.events(client, job_id)[-1] == "job.failed"
        assert not rows.units(running, job_id)
        filler.unlink()
        ends_as(client, submitted(client, wanted), expected)


def test_an_export_is_written_when_there_is_room_again_and_fails_when_there_is_none(
    service: tuple[Service, Path],
) -> None:
    running, disk = service
    with running.client() as client:
        job_id = job_of_many(running, client)
        for kind in ("npz", "csv", "parquet", "jsonl"):
            undisturbed_path = asked(client, job_id, kind)
            expected = written(client, undisturbed_path)
            assert client.delete(undisturbed_path).status_code == 204
            filler = fill(disk, leave=100_000)
            path = asked(client, job_id, kind)
            rows.wait_until(partial(rows.failures, running, path.rpartition("/")[2]), "tried in vain")
            filler.unlink()
            assert written(client, path) == expected
            assert client.delete(path).status_code == 204
        filler = fill(disk, leave=100_000)
        path = asked(client, job_id, "csv")
        export = walk.until(client, path, {"succeeded", "failed"})
        assert export["status"] == "failed"
        told_to_the_operator(export["error"])
        filler.unlink()
        assert list((disk / "staging").iterdir()) == []


def test_a_matrix_that_finds_no_room_is_an_error_and_not_the_end_of_its_process(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", 1) as disk, pytest.raises(OSError, match="No space left"):
        mapped(disk / "matrix.npy", (1024, 512))
