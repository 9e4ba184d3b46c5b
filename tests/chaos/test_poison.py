"""A job that gets its worker killed in every attempt: it is given up, and others end meanwhile.

The input is real: the network takes more memory than the worker may have. What kills is what kills in
production, a watcher that ends the process which takes too much (as earlyoom, systemd-oomd or a container's
limit do), here in the test.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import httpx
import pytest
from safetensors.torch import save

from tests import services, walk
from tests.chaos.processes import kill, worker_of
from tests.services import Service

MIB = 1024**2
WIDE = (64, 3000, 3000, 10)  # 9 million parameters, several copies of which a Hessian-vector product takes
ROOM = 120 * MIB
ATTEMPTS = 3


def memory(pid: int) -> int:
    """Bytes that a process holds; 0 when it is gone."""
    with suppress(OSError):
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("RssAnon:"):
                return int(line.split()[1]) * 1024
    return 0


@contextmanager
def killing_above(service: Service, most: int) -> Iterator[list[int]]:
    """Kills the worker whenever it holds more than `most` bytes; yields the pids of those killed."""
    killed: list[int] = []
    over = threading.Event()

    def watch() -> None:
        while not over.wait(0.01):
            with suppress(LookupError, OSError):
                pid = worker_of(service.process.pid)
                if pid not in killed and memory(pid) > most:
                    kill(pid)
                    killed.append(pid)

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield killed
    finally:
        over.set()
        thread.join()


def wide_run(client: httpx.Client) -> str:
    run = walk.trajectory(client, config=walk.MLP | {"hidden": list(WIDE[1:-1])})
    assert walk.checkpoint(client, run, save(walk.mlp_state(0, WIDE)))["status"] == "ready"
    return run


@pytest.mark.slow
def test_a_poison_job_is_given_up_and_takes_no_other_with_it(tmp_path: Path) -> None:
    with (
        services.embedded(tmp_path, LEASE_SECONDS="3", MAX_ATTEMPTS=str(ATTEMPTS)) as service,
        service.client() as client,
    ):
        x, y = walk.digits(300)
        data = walk.dataset(client, walk.npz(inputs=x, targets=y))["id"]
        run, wide = walk.run(client), wide_run(client)
        harmless = walk.ok(walk.post_job(client, run, data, data), 202)["id"]
        assert walk.finished(client, harmless)["status"] == "succeeded"
        held = memory(worker_of(service.process.pid))
        with killing_above(service, held + ROOM) as killed:
            poison = walk.ok(walk.post_job(client, wide, data, data), 202)["id"]
            others = [walk.ok(walk.post_job(client, run, data, data), 202)["id"] for _ in range(3)]
            ended = [walk.finished(client, job) for job in others]
            job = walk.finished(client, poison)
        assert [one["status"] for one in ended] == ["succeeded"] * 3
        assert all(one["finished_at"] < job["finished_at"] for one in ended), "they waited for its end"
        # Attempts are a unit's: planning takes nearly as much, may be killed as well, and succeed in the end.
        assert job["status"] == "failed"
        assert ATTEMPTS <= len(killed) < 2 * ATTEMPTS
        error = job["error"]
        assert (error["code"], error["fault"]) == ("worker_lost", "service")
        assert f"each of {ATTEMPTS} attempts" in error["detail"] and "memory" in error["detail"]
        assert walk.events(client, poison)[-1] == "job.failed"
        time.sleep(2)
        again = walk.ok(walk.post_job(client, run, data, data), 202)["id"]
        assert walk.finished(client, again)["status"] == "succeeded", "the service goes on"
