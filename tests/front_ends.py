"""The processes of one `diffin api`, and clients of which each is answered by one of them."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import httpx

from tests import services
from tests.chaos.processes import children, kill
from tests.services import START_SECONDS, Service

TRIES = 200  # connections, until each process has got one


@contextmanager
def running(service: Service, processes: int = 2) -> Iterator[Service]:
    """`diffin api` of a service that is prepared, once that many processes answer."""
    service.environment["DIFFIN_API_PROCESSES"] = str(processes)
    with service.running("api", "api"):
        services.wait_for_http(service)
        wait_for_all(service, processes)
        yield service


def replaced(service: Service, pid: int) -> list[int]:
    """The processes, once there is another one in place of this, which is killed."""
    kill(pid)
    return wait_for_all(service, but=pid)


def wait_for_all(service: Service, processes: int = 2, but: int | None = None) -> list[int]:
    """The processes, once so many listen, `but` this one."""
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        listen = _sockets(service, state="0A")
        all_of_it = [service.process.pid, *children(service.process.pid)]
        found = [pid for pid in all_of_it if pid != but and listen & _held(pid)]
        if len(found) == processes:
            return found
        time.sleep(0.05)
    raise RuntimeError(f"not {processes} processes listen\n{service.log_tail()}")


@contextmanager
def clients(service: Service) -> Iterator[dict[int, httpx.Client]]:
    """A client of each process, by its pid; each keeps its one connection."""
    wanted = set(wait_for_all(service, int(service.environment["DIFFIN_API_PROCESSES"])))
    found: dict[int, httpx.Client] = {}
    with ExitStack() as stack:
        for _ in range(TRIES):
            client = stack.enter_context(service.client())
            answer = client.get("/livez").raise_for_status()
            port = answer.extensions["network_stream"].get_extra_info("socket").getsockname()[1]
            connection = _sockets(service, state="01", of=port)
            found |= {pid: client for pid in wanted - set(found) if connection & _held(pid)}
            if set(found) == wanted:
                yield found
                return
    raise RuntimeError(f"of {TRIES} connections {sorted(found)} of {sorted(wanted)} got one")


def _sockets(service: Service, state: str, of: int | None = None) -> set[str]:
    """Inodes of the service's sockets in this state, of proc(5); `of`: the client's port."""
    ours = int(service.url.rpartition(":")[2])
    lines = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    ports = [(int(line[1].rpartition(":")[2], 16), int(line[2].rpartition(":")[2], 16)) for line in lines]
    return {
        line[9]
        for line, (local, remote) in zip(lines, ports, strict=True)
        if local == ours and line[3] == state and of in (None, remote)
    }


def _held(pid: int) -> set[str]:
    """Inodes of the sockets that a process has open."""
    found = set()
    with suppress(FileNotFoundError):  # it ended meanwhile
        for descriptor in Path(f"/proc/{pid}/fd").iterdir():
            with suppress(FileNotFoundError):
                found.add(str(descriptor.readlink()).removeprefix("socket:[").removesuffix("]"))
    return found
