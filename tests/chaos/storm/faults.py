"""What may happen to a service. Each fault happens at once, and tells which units of work it hit."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from random import Random
from signal import SIGCONT, SIGKILL, SIGSTOP, SIGTERM
from typing import Any, Protocol

from sqlalchemy import text

from app.store.db import Message
from app.store.work import TASKS
from tests.chaos.processes import children
from tests.chaos.storm.house import LEASE, House, owner, send_signal
from tests.chaos.storm.watch import Hit, Unit, Watch


class Storm(Protocol):
    """What a fault may take hold of."""

    house: House
    watch: Watch
    draw: Random

    def submit_aside(self, asks: str | None = None, how: str = "whole") -> threading.Thread:
        """Has another order sent by a thread of its own, which is returned."""

    def cancel_aside(self, pause: float) -> threading.Thread:
        """Has an order beside the others submitted, and cancelled after a pause."""


@dataclass(frozen=True)
class Fault:
    """A fault by what it does; `shapes` are the deployments that it can happen to."""

    act: Callable[[Storm], Hit]
    shapes: Collection[str]
    weight: int = 1
    needs_work: bool = True


FAULTS: dict[str, Fault] = {}
BOTH = ("production", "embedded")


def fault(name: str, shapes: Collection[str] = BOTH, **how: Any) -> Callable[[Callable[[Storm], Hit]], Any]:
    def kept(act: Callable[[Storm], Hit]) -> Callable[[Storm], Hit]:
        FAULTS[name] = Fault(act, shapes, **how)
        return act

    return kept


def deck(shape: str, draw: Random, count: int) -> Iterator[str]:
    """So many faults that can happen to this shape, shuffled: each as often as its weight says."""
    all_of_it = [name for name, one in FAULTS.items() if shape in one.shapes for _ in range(one.weight)]
    dealt: list[str] = []
    while len(dealt) < count:
        draw.shuffle(all_of_it)
        dealt += all_of_it
    yield from dealt[:count]


# ---------------------------------------------------------------- workers
def _one(storm: Storm) -> int:
    """A worker, rather one that is at something."""
    workers = storm.house.workers()
    busy = {unit.owner for unit in storm.watch.running().values()}
    at_work = [pid for pid in workers if owner(pid) in busy]
    return storm.draw.choice(at_work or workers)


@fault("a worker killed", weight=3)
def _(storm: Storm) -> Hit:
    pid = _one(storm)
    storm.house.kill(pid)
    hit = storm.watch.hit(storm.watch.running({owner(pid)}))
    storm.house.start_workers()
    return hit


@fault("a worker's child killed", weight=2)
def _(storm: Storm) -> Hit:
    """The process that reads files for it: the worker ends, having nobody to read with, and gives its file to
    others.
    """
    storm.submit_aside("dataset")
    end = time.monotonic() + storm.draw.uniform(0, 3)
    reading: dict[str, Unit] = {}
    while not reading and time.monotonic() < end:
        reading = {name: unit for name, unit in storm.watch.running().items() if unit.kind == "validate"}
    owners = {owner(pid): pid for pid in storm.house.workers()}
    at_it = [owners[unit.owner] for unit in reading.values() if unit.owner in owners]
    pid = at_it[0] if at_it else _one(storm)
    units = {name: unit for name, unit in reading.items() if unit.owner == owner(pid)}
    for child in children(pid)[:1]:
        for grandchild in children(child):
            send_signal(grandchild, SIGKILL)
        send_signal(child, SIGKILL)
    return storm.watch.hit(units)


@fault("all workers killed")
def _(storm: Storm) -> Hit:
    before, pids = storm.house.heard_of(), storm.house.workers()
    storm.house.kill(*pids)
    units = storm.watch.running()
    storm.house.start_workers()
    storm.house.wait_for_others(before)
    return storm.watch.hit(units)


@fault("a worker stopped beyond its lease, then let go on", weight=2)
def _(storm: Storm) -> Hit:
    pid = _one(storm)
    send_signal(pid, SIGSTOP)
    pause = LEASE * storm.draw.uniform(1.2, 2.5)
    if storm.house.writable():
        hit = storm.watch.hit(storm.watch.running({owner(pid)}))
        threading.Timer(pause, send_signal, (pid, SIGCONT)).start()
        return hit
    time.sleep(pause)  # it holds SQLite's only lock: until it goes on nobody can
    send_signal(pid, SIGCONT)
    return storm.watch.hit(storm.watch.running({owner(pid)}))


@fault("a worker told to end, another started", weight=2)
def _(storm: Storm) -> Hit:
    """As when a new version is deployed."""
    pid = _one(storm)
    send_signal(pid, SIGTERM)
    hit = storm.watch.hit(storm.watch.running({owner(pid)}))
    storm.house.wait_for_end(pid)
    storm.house.start_workers()
    return hit


# ---------------------------------------------------------------- the API
def _killed_api(storm: Storm, asks: str | None, how: str, within: float) -> Hit:
    storm.submit_aside(asks, how)
    time.sleep(storm.draw.uniform(0, within))
    storm.house.api.kill()
    storm.house.api.wait()
    storm.house.start_api()
    return storm.watch.hit({})  # workers finish what they have in hand, also those that end with it


@fault("the API killed in a POST", weight=2, needs_work=False)
def _(storm: Storm) -> Hit:
    return _killed_api(storm, None, "whole", 0.05)


@fault("the API killed in an upload", weight=2, needs_work=False)
def _(storm: Storm) -> Hit:
    return _killed_api(storm, "dataset", storm.draw.choice(("slowly", "in parts")), 0.6)


# ---------------------------------------------------------------- the broker
def _redis_away(storm: Storm, pause: float) -> Hit:
    redis = storm.house.redis
    assert redis is not None
    redis.stop()
    time.sleep(pause)
    redis.start()
    return storm.watch.hit(storm.watch.stranded())  # what runs does not notice


@fault("Redis away for a while", ("production",), weight=2)
def _(storm: Storm) -> Hit:
    return _redis_away(storm, storm.draw.uniform(0.5, 5))


@fault("Redis restarted", ("production",))
def _(storm: Storm) -> Hit:
    return _redis_away(storm, 0)


@fault("all messages lost", weight=2)
def _(storm: Storm) -> Hit:
    storm.house.lose_messages()
    return storm.watch.hit(storm.watch.stranded())


@fault("messages doubled, of old attempts, in any order", weight=2)
def _(storm: Storm) -> Hit:
    there = storm.watch.units()
    messages = []
    for work_id, unit in there.items():
        attempts = range(max(1, unit.attempt - 1), unit.attempt + 2)
        for attempt in storm.draw.choices(list(attempts), k=storm.draw.randint(1, 3)):
            kind = TASKS[unit.kind]
            queue = "cpu" if unit.kind in ("validate", "export") else "gpu"
            messages.append(Message(kind, work_id, attempt, queue))
    storm.house.send(storm.draw.sample(messages, min(len(messages), 60)), storm.draw)
    return storm.watch.hit(storm.watch.running())


# ---------------------------------------------------------------- the database
def _restarted(storm: Storm, mode: str) -> Hit:
    postgres = storm.house.postgres
    assert postgres is not None
    postgres.control("restart", "--mode", mode)
    return storm.watch.hit(storm.watch.running())


@fault("PostgreSQL crashed and started", ("production",), weight=2)
def _(storm: Storm) -> Hit:
    return _restarted(storm, "immediate")


@fault("PostgreSQL restarted", ("production",))
def _(storm: Storm) -> Hit:
    return _restarted(storm, "fast")


CUT = (
    "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE pid <> pg_backend_pid() "
    "AND backend_type = 'client backend' AND application_name <> 'storm'"
)


@fault("all connections to PostgreSQL cut", ("production",), weight=2)
def _(storm: Storm) -> Hit:
    storm.watch.look(lambda session: session.execute(text(CUT)).all())
    return storm.watch.hit(storm.watch.running())


@fault("the connection of a final reduction cut", ("production",), weight=2)
def _(storm: Storm) -> Hit:
    """Its transaction writes to a partition of scores: whichever is seen at that first is cut."""
    storm.submit_aside("tracin")
    aimed = f"{CUT} AND state <> 'idle' AND query ~ 'scores_(small|job)'"
    end = time.monotonic() + 20
    while time.monotonic() < end:
        reducing = {name: unit for name, unit in storm.watch.running().items() if unit.kind == "reduce"}
        while reducing and time.monotonic() < end:
            if storm.watch.look(lambda session: session.execute(text(aimed)).scalar_one()):
                return storm.watch.hit(reducing)
            if not any(name in reducing for name in storm.watch.running()):
                break
        time.sleep(0.005)
    return storm.watch.hit({})


# ---------------------------------------------------------------- people
@fault("a job cancelled", weight=2, needs_work=False)
def _(storm: Storm) -> Hit:
    storm.cancel_aside(storm.draw.uniform(0, 1.5))
    return storm.watch.hit({})
