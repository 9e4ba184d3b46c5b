"""One storm over one house: orders come and go, faults strike, and at the end it is seen what is left."""

from __future__ import annotations

import io
import queue
import tempfile
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

from app.store.blobs import BlobStore
from diffin import Diffin
from tests.chaos.storm import oracle, questions
from tests.chaos.storm.faults import FAULTS, deck
from tests.chaos.storm.house import House
from tests.chaos.storm.questions import QUESTIONS, WEIGHTS, Client, Inputs, Order
from tests.chaos.storm.watch import Recovery, Watch

RESTED = 0.7  # of the faults wait until the workers that were killed before are replaced
AT_ONCE = 3  # orders on their way, beside those that faults bring with them
AHEAD = 2  # orders that are taken before it is their turn by the faults
PART = 64 * 1024
COUNTED = ("lost", "doubled", "differing", "orphans", "unexpected")  # what is to be none


@dataclass
class Struck:
    """A fault that happened, how many units it hit, and how they got on (None: it hit none); whether all
    workers were there when it struck.
    """

    name: str
    hit: int
    recovery: Recovery | None
    complete: bool


@dataclass
class Found:
    """What came of a storm, in words where something is wrong."""

    struck: list[Struck] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)
    doubled: list[str] = field(default_factory=list)
    differing: list[str] = field(default_factory=list)
    orphans: list[str] = field(default_factory=list)
    unexpected: list[str] = field(default_factory=list)
    orders: int = 0
    cancelled: int = 0

    @property
    def wrong(self) -> bool:
        return any(getattr(self, name) for name in COUNTED)


class Run:
    """The storm while it goes on."""

    def __init__(
        self, house: House, client: Client, have: Inputs, seed: int, orders: int, faults: int
    ) -> None:
        self.house, self.client, self.have = house, client, have
        self.watch, self.draw = Watch(house.database), Random(seed)
        asked = self.draw.choices(list(QUESTIONS), [WEIGHTS.get(name, 1) for name in QUESTIONS], k=orders)
        self.orders = [Order(f"{seed}-{number}-{asks}", asks) for number, asks in enumerate(asked)]
        self.cancelled: list[Order] = []
        self.struck: list[Struck] = []
        self.faults = list(deck(house.shape, self.draw, faults))
        self._waiting: queue.SimpleQueue[Order] = queue.SimpleQueue()
        for order in self.orders:
            self._waiting.put(order)
        self._lock = threading.Lock()
        self._taken, self._asked = 0, orders
        self._over = False
        self._threads: list[threading.Thread] = []

    def go(self) -> None:
        """All faults, one after another, while orders are on their way; returns when all have ended."""
        clerks = [threading.Thread(target=self._serve, daemon=True) for _ in range(AT_ONCE)]
        for clerk in clerks:
            clerk.start()
        for name in self.faults:
            self._strike(name)
        self._over = True
        for thread in [*clerks, *self._threads]:
            thread.join(questions.PATIENCE)

    def _strike(self, name: str) -> None:
        fault = FAULTS[name]
        self.house.start_workers()
        if self.draw.random() < RESTED:
            self.house.wait_until_complete()
        if fault.needs_work and not self.watch.running():
            self.submit_aside()
        end = time.monotonic() + 30
        while fault.needs_work and not self.watch.running() and time.monotonic() < end:
            time.sleep(0.01)
        time.sleep(self.draw.uniform(0, 0.3))
        complete = self.house.complete()
        hit = fault.act(self)
        recovery = hit.recovery.result()
        self.struck.append(Struck(name, len(hit.units), recovery, complete))
        took = "hit nothing"
        if recovery is not None:
            took = f"back after {recovery.back:.2f} s, on after {recovery.on:.2f} s"
            took += "" if complete else ", short of workers"
        print(f"  {len(self.struck):3d} {name}: {took}", flush=True)

    # ---------------------------------------------------------------- orders
    def _next(self) -> Order | None:
        """An order, no faster than the faults come; None when there is none left."""
        while True:
            with self._lock:
                share = self._asked * (len(self.struck) + 1) / max(len(self.faults), 1)
                if self._over or self._taken < AHEAD + share:
                    try:
                        order = self._waiting.get_nowait()
                    except queue.Empty:
                        return None
                    self._taken += 1
                    return order
            time.sleep(0.05)

    def _serve(self) -> None:
        while (order := self._next()) is not None:
            questions.post(self.client, self.have, order)
            questions.follow(self.client, order)

    def submit_aside(self, asks: str | None = None, how: str = "whole") -> threading.Thread:
        """As `faults.Storm` has it."""
        number = len(self.orders)
        asks = asks or self.draw.choice(list(QUESTIONS))
        order = Order(f"aside-{number}-{asks}", asks)
        self.orders.append(order)
        send = {"whole": self._whole, "slowly": self._slowly, "in parts": self._in_parts}[how]
        return self._start(send, order)

    def cancel_aside(self, pause: float) -> threading.Thread:
        """As `faults.Storm` has it."""
        order = Order(f"cancelled-{len(self.cancelled)}", self.draw.choice(("tracin", "diff_in", "train")))
        self.cancelled.append(order)

        def cancel(order: Order) -> None:
            questions.post(self.client, self.have, order)
            time.sleep(pause)
            self.client.send("POST", f"{order.path}/cancel", key=f"cancel {order.name}".replace(" ", "-"))
            questions.follow(self.client, order)

        return self._start(cancel, order)

    def _start(self, act: Any, order: Order) -> threading.Thread:
        thread = threading.Thread(target=act, args=(order,), daemon=True)
        thread.start()
        self._threads.append(thread)
        return thread

    def _whole(self, order: Order) -> None:
        questions.post(self.client, self.have, order)
        questions.follow(self.client, order)

    def _slowly(self, order: Order) -> None:
        questions.post(self.client, self.have, order, Slow(self.have.file))
        questions.follow(self.client, order)

    def _in_parts(self, order: Order) -> None:
        with (
            tempfile.TemporaryDirectory() as folder,
            Diffin(self.client.service.url, self.client.service.key, retries=20) as diffin,
        ):
            file = Path(folder) / "d.npz"
            file.write_bytes(self.have.file)
            sent = diffin.upload_file(file, part_bytes=PART, progress=lambda *_: time.sleep(0.05))
            body = {"upload_id": sent.id, "name": order.name}
            answer = self.client.send("POST", "/v1/datasets", key=order.name, json=body)
            order.path = f"/v1/datasets/{answer.json()['id']}"
            questions.follow(self.client, order)


class Slow(io.BytesIO):
    """Bytes that take their time."""

    def read(self, size: int | None = -1, /) -> bytes:
        time.sleep(0.05)
        return super().read(min(size or PART, PART) if size and size > 0 else size)


def undisturbed(client: Client, have: Inputs) -> dict[str, Any]:
    """The answer to each question when nothing happens."""
    found = {}
    for asks, question in QUESTIONS.items():
        order = Order(f"undisturbed-{asks}", asks)
        questions.post(client, have, order)
        questions.follow(client, order)
        assert order.path is not None and order.ended in ("succeeded", "ready"), order
        found[asks] = question.answer(client, order.path)
    return found


def storm(house: House, seed: int, orders: int, faults: int) -> Found:
    """Runs it, and looks at what is left; the house's service is stopped at the end."""
    client = Client(house.service)
    have = questions.prepare(client)
    expected = undisturbed(client, have)
    run = Run(house, client, have, seed, orders, faults)
    run.go()
    house.start_workers()
    _settle(run)
    names = [order.name for order in run.cancelled]
    found = Found(run.struck, orders=len(run.orders), cancelled=len(run.cancelled))
    found.lost = oracle.lost(run.orders) + _not_ended(run.cancelled)
    found.doubled = oracle.doubled(client, run.orders, names)
    found.differing = oracle.differing(client, run.orders, expected)
    blobs = BlobStore(house.service.data_dir / "blobs")
    found.orphans = oracle.orphans(house.database, blobs.folder)
    found.orphans += oracle.delete_all(client)
    found.orphans += oracle.rows_left(house.database)
    house.stack.close()
    found.orphans += oracle.left_over(house.database, blobs)
    found.unexpected = client.unexpected
    return found


def _settle(run: Run, seconds: float = 60) -> None:
    """Returns when no work is left, or that long is waited."""
    end = time.monotonic() + seconds
    while run.watch.units() and time.monotonic() < end:
        time.sleep(0.1)


def _not_ended(cancelled: Sequence[Order]) -> list[str]:
    return [f"{one.name}: {one.ended}" for one in cancelled if one.ended not in ("cancelled", "succeeded")]
