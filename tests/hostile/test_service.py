"""Hostile files through the service: `invalid`, in words, with the worker alive and good files read after them."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests import services, walk
from tests.chaos.processes import worker_of
from tests.contract import test_graphs as graphs
from tests.hostile import good, readers
from tests.hostile.case import CANARY, READY, SLIPPED, Case
from tests.hostile.tables import CASES
from tests.services import Service

MIB = 1024**2
ENDS = {"ready", "invalid"}
# a few of each kind: what runs code, leads outside, lies about its size, grows, nests, or is asked of a library in C
DANGEROUS = {
    "npz: a pickle of protocol 4", "npz: an object array", "npz: torch's file of a network",
    "npz: a header that is a call", "npz: a shape whose product is 0 mod 2**64", "parquet: pyarrow's pickled extension type",
    "checkpoint: torch's file that weights_only let pass", "graph: torch.export's file",
    "imagefolder: a path up", "imagefolder: a link", "imagefolder: 2,000 names of one entry",
    "imagefolder: a PNG of 100,000 pixels a side", "imagefolder: a PNG with a text that unpacks to 100 MiB",
    "tar: a link to a folder, then a file in it", "tar: 20,000 long names, one after the other",
    "webdataset: arrays of objects", "safetensors: tensors that overlap", "safetensors: JSON a hundred thousand deep",
    "parquet: a chunk with a billion rows, in 20 bytes", "parquet: a text of 1 MiB in 3,000 rows, in a dictionary",
    "jsonl: lists a hundred thousand deep", "csv: a million commas", "batch_order: a shape of 2**62",
    "optimizer_state: negative squares", "tokenizer: a model of no kind",
    "graph: data in a file absolute", "graph: functions: a billion nodes", "graph: an operator that is no UTF-8",
}  # fmt: skip


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    bounds = {
        "READER_MEMORY_BYTES": str(512 * MIB),
        "REQUESTS_PER_SECOND": "100000", "REQUEST_BURST": "100000",
    }  # fmt: skip
    with services.embedded(tmp_path_factory.mktemp("hostile"), **bounds) as service:
        yield service


class Sender:
    """Sends files to whichever resource reads them."""

    def __init__(self, client: httpx.Client) -> None:
        self._client, self._step = client, 0
        self._run = walk.trajectory(client, config=readers.MLP)

    def send(self, case: Case) -> tuple[str, str]:
        """(path of what is to be polled, where in it the file is told of: "" at its top)."""
        content = case.build()
        if case.reader in readers.FORMATS or case.reader == "tokenizer":
            return self._dataset(case, content), ""
        if case.reader == "batch_order":
            run = walk.trajectory(self._client, config=readers.MLP)
            put = self._client.put(
                f"/v1/trajectories/{run}/batch-order", files={"file": ("order.npy", content)}
            )
            walk.ok(put, 200)
            return f"/v1/trajectories/{run}", "batch_order"
        if case.reader == "graph":
            made = walk.ok(graphs.post(self._client, content), 201)
            return f"/v1/trajectories/{made['id']}", "files"
        self._step += 1
        files = {"file": ("c.safetensors", content)}
        if case.reader == "optimizer_state":
            files = {
                "file": ("c.safetensors", good.GOOD["checkpoint"]),
                "optimizer_file": ("o.safetensors", content),
            }
        fields = {"step": str(self._step), "learning_rate": "0.1"}
        path = f"/v1/trajectories/{self._run}/checkpoints"
        return f"{path}/{walk.ok(self._client.post(path, files=files, data=fields), 202)['id']}", ""

    def _dataset(self, case: Case, content: bytes) -> str:
        files = {"file": ("d.tar" if case.reader == "tar" else "d", content)}
        fields = {
            name: json.dumps(value) if not isinstance(value, str) else value
            for name, value in case.asked.items()
        }
        if case.reader == "tokenizer":
            files = {"file": ("d.jsonl", readers.TEXTS), "tokenizer_file": ("tokenizer.json", content)}
        elif case.reader != "tar":
            fields["format"] = case.reader
        posted = self._client.post("/v1/datasets", files=files, data={"name": "hostile"} | fields)
        return f"/v1/datasets/{walk.ok(posted, 202)['id']}"

    def settled(self, path: str, where: str) -> dict[str, Any]:
        """What is told of the file once it is read."""
        if not where:
            return walk.until(self._client, path, ENDS, 600)
        while (told := self._told(path, where))["status"] not in ENDS:
            pass
        return told

    def _told(self, path: str, where: str) -> dict[str, Any]:
        body: dict[str, Any] = walk.ok(self._client.get(path), 200)
        told: dict[str, Any] = body["files"][0] if where == "files" else body[where]
        return told


def refused(client: httpx.Client, cases: Sequence[Case]) -> None:
    """Sends them all, then looks at what came of each."""
    sender = Sender(client)
    sent = [(case, *sender.send(case)) for case in cases]
    for case, path, where in sent:
        told = sender.settled(path, where)
        codes = case.codes.split("|")
        if case.reader == "graph" and READY in codes:
            codes.append("shape_mismatch")  # it can be computed, but is no classifier, as the run says it is
        if told["status"] == "ready":
            assert READY in codes, case
            continue
        error = told["error"]
        assert error["code"] in codes, (str(case), error)
        assert (error["fault"], error["status"]) == ("user", 422)
        assert error["type"].endswith(error["code"])
        assert error["title"] and len(error["detail"]) > 20


def lives_on(service: Service, client: httpx.Client, worker: int) -> None:
    """The worker is the one it was, nothing was run or written elsewhere, and every kind of file is read."""
    assert worker_of(service.process.pid) == worker
    assert client.get("/readyz").status_code == 200
    assert not CANARY.exists()
    places = [service.data_dir, Path(tempfile.gettempdir()), Path.cwd(), Path.home(), Path("/")]
    assert not [place for place in places if os.path.lexists(place / SLIPPED)]
    assert not list(service.data_dir.rglob(f"*{SLIPPED}*"))
    assert not list((service.data_dir / "blobs" / "staging").iterdir())
    kinds = [Case("good", name, partial(good.GOOD.__getitem__, name), READY) for name in readers.READERS]
    refused(client, kinds)


@pytest.mark.slow
def test_the_most_dangerous_end_as_invalid_and_the_worker_goes_on(service: Service) -> None:
    cases = [case for case in CASES if str(case) in DANGEROUS]
    assert len(cases) == len(DANGEROUS)
    with service.client() as client:
        worker = worker_of(service.process.pid)
        refused(client, cases)
        lives_on(service, client, worker)


@pytest.mark.slow
def test_every_hostile_file_ends_as_invalid_and_the_worker_goes_on(service: Service) -> None:
    with service.client() as client:
        worker = worker_of(service.process.pid)
        for start in range(0, len(CASES), 50):  # their files lie on the disk until they are read
            refused(client, CASES[start : start + 50])
        lives_on(service, client, worker)
