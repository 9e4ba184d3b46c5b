"""Of several API processes one dies or hangs, their parent dies, or all are told to stop."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from app import front_end
from app.front_end import ApiProcess
from diffin import Diffin
from tests import front_ends, servers, services, walk
from tests.api.front_end import RUN
from tests.chaos.processes import children, kill
from tests.services import Service

PART = 64 * 1024
CLIENTS = 8


def prepared(folder: Path, **settings: str) -> Service:
    """A service whose tables are there."""
    service = services.prepared(folder, REQUESTS_PER_SECOND="10000", REQUEST_BURST="10000", **settings)
    service.migrate()
    return service


def gone(pids: list[int], seconds: float = 20) -> bool:
    """Whether these processes end within so many seconds."""
    end = time.monotonic() + seconds
    while any(Path(f"/proc/{pid}").exists() for pid in pids):
        if time.monotonic() > end:
            return False
        time.sleep(0.05)
    return True


def shared_folder(service: Service) -> Path:
    """What the processes of this service share."""
    (pid, *_) = children(service.process.pid)
    environment = Path(f"/proc/{pid}/environ").read_text().split("\0")
    (named,) = [one.partition("=")[2] for one in environment if one.startswith("DIFFIN_API_SHARED=")]
    return Path(named)


# ---------------------------------------------------------------- one dies
def test_a_killed_process_is_back_and_the_others_go_on_meanwhile(tmp_path: Path) -> None:
    over, keys = threading.Event(), iter(range(10**6))

    def ask(service: Service) -> tuple[list[int], int, set[str]]:
        """(statuses, broken connections, what was made) of one client that reads and writes in turns."""
        statuses, broken, made = [], 0, set()

        def send(method: str, path: str, **more: Any) -> httpx.Response:
            nonlocal broken
            while broken < 10:
                try:
                    answer = client.request(method, path, **more)
                except httpx.TransportError:
                    broken += 1
                    continue
                if answer.status_code != 409:  # its first try was in the hands of the process that died
                    return answer
                time.sleep(0.5)
            raise AssertionError("nobody answers")

        with service.client() as client:
            while not over.is_set():
                statuses += [send("GET", path).status_code for path in ("/v1/jobs", "/v1/uploads", "/livez")]
                once = {"Idempotency-Key": f"trajectory-{next(keys)}"}
                answer = send("POST", "/v1/trajectories", json=RUN, headers=once)
                statuses.append(answer.status_code)
                made.add(answer.json()["id"])
        return statuses, broken, made

    with front_ends.running(prepared(tmp_path)) as service, ThreadPoolExecutor(CLIENTS) as pool:
        asking = [pool.submit(ask, service) for _ in range(CLIENTS)]
        try:
            time.sleep(1)
            victim, survivor = front_ends.wait_for_all(service)
            there = front_ends.replaced(service, victim)
            assert survivor in there
            with front_ends.clients(service) as found:  # it answers as well
                assert set(found) == set(there)
        finally:
            over.set()
        found_by_each = [one.result() for one in asking]
        with service.client() as client:
            listed = list(pages(client, "/v1/trajectories"))
    assert {status for statuses, _, _ in found_by_each for status in statuses} == {200, 201}
    assert sum(broken for _, broken, _ in found_by_each) <= 2 * CLIENTS
    made = [one for _, _, made in found_by_each for one in made]
    assert len(made) == len(set(made)) and set(listed) == set(made)  # nothing twice, nothing lost


def pages(client: httpx.Client, path: str) -> Iterator[str]:
    cursor: str | None = ""
    while cursor is not None:
        page = walk.ok(client.get(path, params={"limit": 100} | ({"cursor": cursor} if cursor else {})), 200)
        yield from (one["id"] for one in page["data"])
        cursor = page["next_cursor"]


@pytest.mark.slow
def test_a_file_in_parts_outlives_each_of_the_processes_that_took_it(tmp_path: Path) -> None:
    content = np.random.default_rng(0).bytes(8 * PART + 7)
    (file := tmp_path / "d.bin").write_bytes(content)
    with front_ends.running(prepared(tmp_path / "service")) as service:
        first, second = front_ends.wait_for_all(service)
        victims = {2 * PART: first, 5 * PART: second}

        def kill_one(sent: int, total: int) -> None:
            for at in [at for at in victims if sent > at]:
                front_ends.replaced(service, victims.pop(at))

        with Diffin(service.url, service.key) as client:
            done = client.upload_file(file, part_bytes=PART, progress=kill_one)
    assert not victims
    assert (done.status, done.sha256) == ("complete", hashlib.sha256(content).hexdigest())


@pytest.mark.slow
def test_a_process_that_is_killed_while_the_database_is_away_is_back_before_it(tmp_path: Path) -> None:
    with servers.postgres() as server:
        service = prepared(tmp_path, DATABASE_URL=server.create("service"), SECRET_KEY="s" * 40)
        with front_ends.running(service):
            server.control("stop", "--mode", "immediate")
            front_ends.replaced(service, front_ends.wait_for_all(service)[0])
            with front_ends.clients(service) as found:
                answers = [client.get("/v1/jobs") for client in found.values()]
                assert [one.status_code for one in answers] == [503, 503]
                assert {one.json()["code"] for one in answers} == {"database_away"}
                server.control("start")
                assert [client.get("/v1/jobs").status_code for client in found.values()] == [200, 200]


# ---------------------------------------------------------------- one hangs
class Silent(ApiProcess):
    """Says that it lives, twice, and falls silent."""

    def start(self) -> subprocess.Popen[bytes]:
        script = "import time\nfor _ in 'ab': print('.', flush=True); time.sleep(0.3)\ntime.sleep(600)"
        return subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE)


@pytest.mark.slow
def test_a_process_that_gives_no_sign_of_life_is_killed_and_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(front_end, "SILENT_SECONDS", 0.8)
    answered, hopeless = threading.Event(), threading.Event()
    silent = Silent(0, tmp_path, answered, hopeless)
    first = silent._process
    assert first.wait(20) == -signal.SIGKILL
    assert answered.is_set() and not hopeless.is_set()
    end = time.monotonic() + 20
    while silent._process is first:
        assert time.monotonic() < end
        time.sleep(0.05)
    silent.ask_to_stop()
    silent.wait(10)
    assert silent._process.returncode == -signal.SIGTERM


@pytest.mark.slow
def test_a_process_that_is_stopped_is_replaced_and_the_others_go_on(tmp_path: Path) -> None:
    with front_ends.running(prepared(tmp_path)) as service, front_ends.clients(service) as found:
        victim, survivor = found
        os.kill(victim, signal.SIGSTOP)
        end = time.monotonic() + 3 * front_end.SILENT_SECONDS
        while Path(f"/proc/{victim}").exists():
            assert found[survivor].get("/v1/jobs").status_code == 200
            assert time.monotonic() < end
            time.sleep(0.2)
        front_ends.wait_for_all(service)


# ---------------------------------------------------------------- all stop
def test_processes_that_are_to_stop_answer_the_requests_they_have(tmp_path: Path) -> None:
    content = b"x" * PART
    halves = threading.Barrier(3)

    def slowly() -> Iterator[bytes]:
        yield content[: PART // 2]
        halves.wait(30)
        time.sleep(1.5)
        yield content[PART // 2 :]

    with front_ends.running(prepared(tmp_path)) as service, ThreadPoolExecutor(2) as pool:
        with front_ends.clients(service) as found:
            pids, folder = list(found), shared_folder(service)
            assert folder.is_dir()
            body = {"filename": "a.bin", "bytes": 2 * PART, "part_bytes": PART}
            upload = walk.ok(found[pids[0]].post("/v1/uploads", json=body), 201)["id"]

            def put(number: int) -> int:
                path, length = f"/v1/uploads/{upload}/parts/{number + 1}", {"Content-Length": str(PART)}
                return found[pids[number]].put(path, content=slowly(), headers=length).status_code

            putting = [pool.submit(put, number) for number in range(2)]
            halves.wait(30)
            service.process.send_signal(signal.SIGTERM)
            assert [one.result() for one in putting] == [204, 204]
        assert service.process.wait(20) == 0
    assert gone(pids, 0)
    assert not folder.exists()


@pytest.mark.slow
def test_processes_whose_parent_is_killed_end_and_make_room_for_others(tmp_path: Path) -> None:
    service = prepared(tmp_path)
    with front_ends.running(service):
        pids, folder = front_ends.wait_for_all(service), shared_folder(service)
        with service.client() as client:
            assert client.get("/v1/jobs").status_code == 200
        kill(service.process.pid)
        service.process.wait()
        assert gone(pids)
        assert not folder.exists()
    with front_ends.running(service), service.client() as client:
        assert client.get("/v1/jobs").status_code == 200


# ---------------------------------------------------------------- none starts
def ended(service: Service, **settings: str) -> subprocess.CompletedProcess[str]:
    """`diffin api` in two processes, which is to end by itself."""
    environment = service.environment | {f"DIFFIN_{name}": value for name, value in settings.items()}
    command = [sys.executable, "-m", "diffin.cli", "api"]
    ours = {"DIFFIN_API_PROCESSES": "2"}
    return subprocess.run(command, env=environment | ours, capture_output=True, text=True, timeout=120)


def test_processes_that_cannot_start_end_in_words(tmp_path: Path) -> None:
    service = prepared(tmp_path)
    (in_the_way := tmp_path / "file").write_text("")
    cannot = ended(service, BLOB_URL=f"file://{in_the_way}/blobs")
    assert cannot.returncode == 1
    assert cannot.stderr.endswith("diffin  the API cannot start: see above\n")
    assert "NotADirectoryError" in cannot.stderr


def test_a_port_that_somebody_has_is_told_of(tmp_path: Path) -> None:
    service = prepared(tmp_path)
    with front_ends.running(service):
        taken = ended(service)
        assert taken.returncode == 1
        assert "(Address already in use): give another DIFFIN_PORT" in taken.stderr
        with service.client() as client:  # it took no connection of theirs
            assert all(client.get("/livez").is_success for _ in range(20))
