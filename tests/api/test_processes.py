"""Several processes of one `diffin api`: what one of them keeps to itself is right for all of them."""

from __future__ import annotations

import hashlib
import itertools
import json
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import numpy as np
import pytest
from prometheus_client.parser import text_string_to_metric_families

from app.ui.sign_in import FAILURES_A_MINUTE
from tests import front_ends, services, walk
from tests.api.front_end import RUN, problem
from tests.chaos.processes import children
from tests.services import Service

PART = 256 * 1024
BURST = 200


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """Two processes; nobody works."""
    service = services.prepared(
        tmp_path_factory.mktemp("processes"), LOG_FORMAT="json", REQUESTS_PER_SECOND="10000"
    )
    service.migrate()
    with front_ends.running(service):
        yield service


@pytest.fixture
def both(service: Service) -> Iterator[tuple[httpx.Client, httpx.Client]]:
    """A client of each process."""
    with front_ends.clients(service) as found:
        first, second = found.values()
        yield first, second


def requests(client: httpx.Client, route: str) -> float:
    """How many have been answered on this route, as `/metrics` has it."""
    text = client.get("/metrics").raise_for_status().text
    samples = [one for family in text_string_to_metric_families(text) for one in family.samples]
    named = [one for one in samples if one.name == "diffin_requests_total" and one.labels["route"] == route]
    timed = [one for one in samples if one.name == "diffin_request_seconds_count"]
    assert sum(one.value for one in named) == sum(one.value for one in timed if one.labels["route"] == route)
    return sum(one.value for one in named)


# ---------------------------------------------------------------- seen from outside
def test_a_scrape_of_either_tells_of_both(both: tuple[httpx.Client, httpx.Client]) -> None:
    first, second = both
    before = requests(first, "/v1/capabilities")
    for client, times in ((first, 3), (second, 4)):
        for _ in range(times):
            client.get("/v1/capabilities").raise_for_status()
    assert requests(first, "/v1/capabilities") == requests(second, "/v1/capabilities") == before + 7


def test_a_line_of_the_log_says_which_process_wrote_it(service: Service) -> None:
    with front_ends.clients(service) as found:
        for pid, client in found.items():
            client.get("/v1/capabilities", headers={"X-Request-ID": f"to-{pid}"}).raise_for_status()
    lines = [json.loads(line) for line in service.log.read_text().splitlines() if line.startswith("{")]
    told = {line["request_id"]: line["process"] for line in lines if "request_id" in line}
    assert {pid: told[f"to-{pid}"] for pid in found} == {pid: pid for pid in found}


def test_each_is_ready_and_has_room_for_connections(
    service: Service, both: tuple[httpx.Client, httpx.Client]
) -> None:
    for client in both:
        checks = client.get("/readyz").json()["checks"]
        assert {name for name, words in checks.items() if words == "ok"} == {"database", "storage", "queue"}
    for pid in children(service.process.pid):
        limits = Path(f"/proc/{pid}/limits").read_text()
        (files,) = [line.split() for line in limits.splitlines() if line.startswith("Max open files")]
        assert files[3] == files[4] or int(files[3]) >= 65_536


# ---------------------------------------------------------------- limits
@pytest.mark.slow
def test_a_keys_requests_are_counted_together(tmp_path: Path) -> None:
    limited = services.prepared(tmp_path, REQUESTS_PER_SECOND="0.01", REQUEST_BURST=str(BURST))
    limited.migrate()
    with front_ends.running(limited), front_ends.clients(limited) as found, ThreadPoolExecutor(2) as pool:

        def ask(client: httpx.Client) -> list[int]:
            return [client.get("/v1/uploads").status_code for _ in range(BURST)]

        answers = list(itertools.chain(*pool.map(ask, found.values())))
        assert set(answers) == {200, 429}
        assert BURST <= answers.count(200) <= BURST + 2  # two at the same microsecond may count as one
        front_ends.replaced(limited, next(iter(found)))
        with front_ends.clients(limited) as others:  # what was taken stays taken
            assert {one.get("/v1/uploads").status_code for one in others.values()} == {429}


def test_who_signed_in_through_one_is_known_to_the_other(
    service: Service, both: tuple[httpx.Client, httpx.Client]
) -> None:
    first, second = both
    del first.headers["Authorization"], second.headers["Authorization"]
    signed = first.post("/sign-in", data={"key": service.key}, headers={"Origin": service.url})
    assert signed.status_code == 303
    second.cookies = first.cookies
    assert second.get("/").status_code == 200
    assert second.get("/v1/jobs").status_code == 200


def test_attempts_to_sign_in_are_counted_together(
    service: Service, both: tuple[httpx.Client, httpx.Client]
) -> None:
    attempts = [
        client.post("/sign-in", data={"key": "no such key"}, headers={"Origin": service.url})
        for client, _ in itertools.product(both, range(FAILURES_A_MINUTE))
    ]
    told = [one.status_code for one in attempts]
    assert told[:FAILURES_A_MINUTE] == [401] * FAILURES_A_MINUTE
    assert 429 in told[FAILURES_A_MINUTE : FAILURES_A_MINUTE + 3]


# ---------------------------------------------------------------- uploads
def begun(client: httpx.Client, content: bytes) -> str:
    body = {"filename": "a.bin", "bytes": len(content), "part_bytes": PART}
    upload_id: str = walk.ok(client.post("/v1/uploads", json=body), 201)["id"]
    return upload_id


def put(client: httpx.Client, upload_id: str, content: bytes, number: int) -> httpx.Response:
    piece = content[(number - 1) * PART : number * PART]
    return client.put(f"/v1/uploads/{upload_id}/parts/{number}", content=piece)


def completed(client: httpx.Client, upload_id: str) -> str:
    sha256: str = walk.ok(client.post(f"/v1/uploads/{upload_id}/complete"), 200)["sha256"]
    return sha256


def test_parts_of_a_file_may_reach_either_one_after_the_other(
    both: tuple[httpx.Client, httpx.Client],
) -> None:
    content = np.random.default_rng(0).bytes(6 * PART + 5)
    upload_id = begun(both[0], content)
    for number in range(1, 8):
        assert put(both[number % 2], upload_id, content, number).status_code == 204
    assert completed(both[0], upload_id) == hashlib.sha256(content).hexdigest()


def test_parts_of_a_file_may_reach_both_at_once(both: tuple[httpx.Client, httpx.Client]) -> None:
    content = np.random.default_rng(1).bytes(8 * PART)
    upload_id = begun(both[0], content)

    def send(client: httpx.Client, numbers: range) -> list[int]:
        return [put(client, upload_id, content, number).status_code for number in numbers]

    with ThreadPoolExecutor(2) as pool:
        sent = list(pool.map(send, both, (range(1, 9, 2), range(2, 9, 2))))
    assert sent == [[204] * 4, [204] * 4]
    assert completed(both[1], upload_id) == hashlib.sha256(content).hexdigest()


def test_a_part_that_is_replaced_through_the_other_process_counts(
    both: tuple[httpx.Client, httpx.Client],
) -> None:
    """The first one has the digest of the file as it was at hand."""
    first, second = both
    old, new = (np.random.default_rng(seed).bytes(3 * PART) for seed in (2, 3))
    upload_id = begun(first, old)
    for number in (1, 2, 3):
        assert put(first, upload_id, old, number).status_code == 204
    assert put(second, upload_id, new, 2).status_code == 204
    mixed = old[:PART] + new[PART : 2 * PART] + old[2 * PART :]
    assert completed(first, upload_id) == hashlib.sha256(mixed).hexdigest()


def test_of_two_who_complete_a_file_at_once_through_both_one_does(
    both: tuple[httpx.Client, httpx.Client],
) -> None:
    content = np.random.default_rng(4).bytes(4 * PART)
    upload_id = begun(both[0], content)
    for number in range(1, 5):
        put(both[0], upload_id, content, number)
    with ThreadPoolExecutor(2) as pool:
        answers = list(pool.map(lambda one: one.post(f"/v1/uploads/{upload_id}/complete"), both))
    for answer in answers:
        if answer.status_code == 409:
            problem(answer, 409, "part_in_flight")
        else:
            assert walk.ok(answer, 200)["sha256"] == hashlib.sha256(content).hexdigest()
    assert 200 in [answer.status_code for answer in answers]


# ---------------------------------------------------------------- what lies in the database
def test_a_post_that_is_sent_to_both_at_once_is_done_once(both: tuple[httpx.Client, httpx.Client]) -> None:
    for turn in range(5):

        def post(client: httpx.Client, key: str = f"to-both-{turn}") -> httpx.Response:
            return client.post("/v1/trajectories", json=RUN, headers={"Idempotency-Key": key})

        with ThreadPoolExecutor(2) as pool:
            answers = list(pool.map(post, both))
        assert {answer.status_code for answer in answers} <= {201, 409}
        made = {answer.json()["id"] for answer in [*answers, *map(post, both)] if answer.status_code == 201}
        assert len(made) == 1


@pytest.mark.slow
def test_a_stream_follows_what_happens_through_the_other(
    service: Service, both: tuple[httpx.Client, httpx.Client]
) -> None:
    first, second = both
    with service.running("worker", "worker"):
        x, y = walk.digits(20)
        data = walk.dataset(first, walk.npz(inputs=x, targets=y))["id"]
        run = walk.run(first, (10,))
    job = walk.ok(walk.post_job(first, run, data, data, method={"name": "loss"}), 202)["id"]
    seen: list[str] = []
    began = threading.Event()

    def follow() -> None:
        with first.stream("GET", f"/v1/jobs/{job}/events", headers={"Accept": "text/event-stream"}) as answer:
            for line in answer.iter_lines():
                seen.extend(line.removeprefix("event: ") for _ in range(line.startswith("event: ")))
                began.set()

    following = threading.Thread(target=follow)
    following.start()
    assert began.wait(30)
    assert second.post(f"/v1/jobs/{job}/cancel").is_success
    following.join(30)
    assert [event for event in seen if event != "job.progress"] == ["job.queued", "job.cancelled"]


# ---------------------------------------------------------------- memory between processes
def test_a_dead_process_leaves_its_counts(service: Service) -> None:
    """The last test: it leaves other processes than it found."""
    with front_ends.clients(service) as found:
        before = requests(next(iter(found.values())), "/v1/uploads")
        for client in found.values():
            for _ in range(3):
                client.get("/v1/uploads").raise_for_status()
        victim, survivor = found
        front_ends.replaced(service, victim)
        assert requests(found[survivor], "/v1/uploads") == before + 6
    with front_ends.clients(service) as found:
        assert victim not in found and survivor in found
        assert {requests(client, "/v1/uploads") for client in found.values()} == {before + 6}
