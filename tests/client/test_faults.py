"""Lost answers and a busy gateway: the client asks again, and nothing is done twice."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from diffin import Diffin, DiffinError, Recorder
from diffin.models import Job
from tests.client.conftest import CONFIG, Arrays, train
from tests.servers import free_port
from tests.services import Service

CUT = 4000  # bytes
BUSY = b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 1\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"


class Gateway(threading.Thread):
    """A TCP relay before the service. Each fault spoils one connection, in turn:

    `lost`: the request arrives, its answer does not; `cut`: nothing of the answer after CUT bytes; `busy`:
    503 with Retry-After, nothing arrives.
    """

    def __init__(self, url: str) -> None:
        super().__init__(daemon=True)
        target = httpx.URL(url)
        self._target = (target.host, target.port or 80)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self.faults: list[str] = []
        self.passed = 0  # bytes of answers

    def run(self) -> None:
        while True:
            try:
                arrived, _ = self._listener.accept()
            except OSError:
                return
            fault = self.faults.pop(0) if self.faults else ""
            threading.Thread(target=self._serve, args=(arrived, fault), daemon=True).start()

    def stop(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.join()

    def _serve(self, arrived: socket.socket, fault: str) -> None:
        with arrived:
            if fault == "busy":
                arrived.recv(65536)
                arrived.sendall(BUSY)
                return
            with socket.create_connection(self._target) as service:
                most = {"lost": 0, "cut": CUT}.get(fault)
                back = threading.Thread(target=self._answer, args=(service, arrived, most), daemon=True)
                back.start()
                _relay(arrived, service)
                back.join()

    def _answer(self, service: socket.socket, arrived: socket.socket, most: int | None) -> None:
        self.passed += _relay(service, arrived, most)


def _relay(source: socket.socket, sink: socket.socket, most: int | None = None) -> int:
    """Passes bytes on until either side ends, or there are more than `most`; returns how many."""
    passed = 0
    try:
        while chunk := source.recv(65536):
            allowed = len(chunk) if most is None else most - passed
            sink.sendall(chunk[:allowed])
            passed += min(allowed, len(chunk))
            if allowed < len(chunk):
                break
        for end in (source, sink):
            end.shutdown(socket.SHUT_RDWR)
    except OSError:
        pass
    return passed


@pytest.fixture
def gateway(embedded_service: Service) -> Iterator[Gateway]:
    gateway = Gateway(embedded_service.url)
    gateway.start()
    yield gateway
    gateway.stop()


@pytest.fixture
def behind(gateway: Gateway, embedded_service: Service) -> Iterator[Diffin]:
    """A client that reaches the service through the gateway."""
    with Diffin(gateway.url, embedded_service.key) as client:
        yield client


def test_a_post_whose_answer_is_lost_is_done_once(gateway: Gateway, behind: Diffin) -> None:
    gateway.faults = ["lost"]
    made = behind.create_trajectory(name="once only", architecture={"name": "linear", "config": CONFIG})
    assert not gateway.faults
    assert [one.id for one in behind.trajectories() if one.name == "once only"] == [made.id]


def test_an_upload_whose_answer_is_lost_is_done_once(
    gateway: Gateway, behind: Diffin, arrays: Arrays
) -> None:
    gateway.faults = ["lost", "lost"]
    made = behind.upload_dataset(inputs=arrays.inputs, targets=arrays.targets, name="sent thrice")
    assert not gateway.faults
    assert [one.id for one in behind.datasets() if one.name == "sent thrice"] == [made.id]


def test_a_download_goes_on_where_its_connection_broke(
    gateway: Gateway, embedded_service: Service, client: Diffin, job: Job, tmp_path: Path
) -> None:
    export = client.create_export(job, "jsonl")
    whole = client.download_export(export, tmp_path / "whole.jsonl").read_bytes()
    assert len(whole) > 2 * CUT
    with Diffin(gateway.url, embedded_service.key) as behind:
        gateway.faults = ["cut"]
        behind._transport.download(f"/v1/exports/{export.id}/content", to := tmp_path / "again.jsonl")
    assert not gateway.faults
    assert to.read_bytes() == whole
    until = time.monotonic() + 5
    while gateway.passed <= CUT and time.monotonic() < until:
        time.sleep(0.01)
    assert CUT < gateway.passed < len(whole) + CUT  # the second connection brought the rest alone


def test_a_busy_gateway_is_asked_again_when_it_said(gateway: Gateway, behind: Diffin) -> None:
    gateway.faults = ["busy"]
    start = time.monotonic()
    assert behind.capabilities()["version"]
    assert 1.0 <= time.monotonic() - start < 5.0


def test_a_service_that_is_not_there_is_said_not_to_be() -> None:
    url = f"http://127.0.0.1:{free_port()}"
    with (
        Diffin(url, "key", retries=1) as client,
        pytest.raises(DiffinError, match="no answer from") as missing,
    ):
        client.capabilities()
    assert (missing.value.status, missing.value.code) == (0, "unreachable")


def test_training_goes_on_without_the_service_and_is_sent_later(
    client: Diffin, arrays: Arrays, tmp_path: Path
) -> None:
    with Diffin(f"http://127.0.0.1:{free_port()}", "key", retries=0) as nowhere:
        recorder = Recorder(
            nowhere,
            name="cut off",
            architecture={"name": "linear", "config": CONFIG},
            directory=tmp_path / "run",
            every=3,
        )
        with pytest.warns(UserWarning, match="kept, not sent"):
            train(recorder, arrays)
    sent = recorder.upload(client)
    assert [one.step for one in sent.checkpoints] == [3, 6]


def test_a_recorder_with_a_client_sends_while_training(
    client: Diffin, arrays: Arrays, tmp_path: Path
) -> None:
    recorder = Recorder(
        client,
        name="live",
        architecture={"name": "linear", "config": CONFIG},
        directory=tmp_path / "run",
        save_at=[1, 4],
    )
    train(recorder, arrays, steps=5)
    (live,) = (one for one in client.trajectories() if one.name == "live")
    assert [one.step for one in client.trajectory(live).checkpoints] == [1, 4]
    again = recorder.upload()
    assert (again.id, [one.step for one in again.checkpoints]) == (live.id, [1, 4])
