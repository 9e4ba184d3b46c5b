"""A worker's fence in a process without threads, watched for what a reader should not do.

As a program, `python -m tests.hostile.fenced FOLDER LOG`: reads lines of JSON, each of some files, and answers each.
What is opened outside FOLDER, or run, is noted in LOG (`tests.hostile.watch`).
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.hostile import readers
from tests.hostile.case import Case
from tests.hostile.watch import watch

MEMORY, SECONDS = 512 * 1024**2, 120.0
BATCH = 20
BEYOND = "beyond the fence"


# ---------------------------------------------------------------- for the tests
@dataclass(frozen=True)
class Told:
    """What came of a file: `code` and the words of its refusal, or "ready"."""

    code: str
    words: str


class Fenced:
    """The process, asked for files one after the other."""

    def __init__(self, process: subprocess.Popen[str], folder: Path, log: Path) -> None:
        self._process, self._folder, self._log, self._count = process, folder, log, 0

    def read(self, case: Case) -> Told:
        """Raises AssertionError for whatever is neither a refusal nor a success."""
        folder, request = self._prepared(case)
        told = self._ask([request])
        assert "trace" not in told, told["trace"][-1500:]
        if "why" in told:
            return Told("unsafe_file", f"{told['why']}: {BEYOND}")
        return _told(folder, told["found"]["all"][0])

    def read_all(self, cases: Sequence[Case]) -> Iterator[tuple[Case, Told | AssertionError]]:
        """Each with what came of it; many at a time, for making a process takes longer than most of them."""
        for batch in (cases[start : start + BATCH] for start in range(0, len(cases), BATCH)):
            prepared = [self._prepared(case) for case in batch]
            told = self._ask([request for _, request in prepared])
            found = told["found"]["all"] if "found" in told else [None] * len(batch)
            for case, (folder, _), one in zip(batch, prepared, found, strict=True):
                try:
                    yield case, _told(folder, one) if one else self.read(case)
                except AssertionError as wrong:
                    yield case, wrong
                shutil.rmtree(folder)

    def noted(self) -> list[str]:
        """What readers did that they should not have."""
        return self._log.read_text().splitlines()

    def _prepared(self, case: Case) -> tuple[Path, Any]:
        self._count += 1
        folder = self._folder / str(self._count)
        folder.mkdir()
        path = folder / "upload"
        path.write_bytes(case.build())
        return folder, readers.request(case.reader, path, folder, case.asked)

    def _ask(self, requests: Sequence[Any]) -> dict[str, Any]:
        assert self._process.stdin and self._process.stdout
        self._process.stdin.write(json.dumps(requests) + "\n")
        self._process.stdin.flush()
        told: dict[str, Any] = json.loads(self._process.stdout.readline() or '{"trace": "the fence is gone"}')
        return told


def _told(folder: Path, found: dict[str, Any]) -> Told:
    _check_texts(found)
    if "refused" not in found:
        return Told("ready", "")
    left = {one.name for one in folder.rglob("*") if one.is_file()} - {"upload", "texts.jsonl"}
    assert not left, "what a refused file leaves behind"
    refused = found["refused"]
    words = json.dumps([refused["detail"], refused["errors"]], ensure_ascii=False).replace('\\"', '"')
    assert len(refused["detail"]) > 20 and len(words) < 20_000, words
    return Told(refused["code"], words)


def _check_texts(found: Any) -> None:
    """What goes into the database can be kept there: no NUL, no half of a surrogate pair."""
    text = json.dumps(found, ensure_ascii=False)
    assert "\\u0000" not in text
    text.encode()


@contextlib.contextmanager
def started(folder: Path) -> Iterator[Fenced]:
    """The process, with everything it may write below `folder`."""
    work, log = folder / "work", folder / "log"
    work.mkdir()
    log.touch()
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join(sys.path), "TMPDIR": str(work), "OMP_NUM_THREADS": "1"
    }  # fmt: skip
    command = [sys.executable, "-m", "tests.hostile.fenced", str(work), str(log)]
    with subprocess.Popen(command, stdin=-1, stdout=-1, text=True, env=environment) as process:
        yield Fenced(process, work, log)
        assert process.stdin
        process.stdin.close()


# ---------------------------------------------------------------- in the process
def _serve() -> None:
    from worker import reading
    from worker.fence import Bounds, BoundsError, Fence

    def read_all(given: dict[str, Any]) -> dict[str, Any]:
        return {"all": [reading.CALLS[call](argument) for call, argument in given["requests"]]}

    fence = Fence({"all": read_all}, reading.prepare)
    for line in sys.stdin:
        asked = {"requests": json.loads(line)}
        try:
            told: dict[str, Any] = {"found": fence.call("all", asked, Bounds(MEMORY, SECONDS), lambda: None)}
        except BoundsError as broken:
            told = {"why": broken.why}
        except RuntimeError as crash:
            told = {"trace": str(crash)}
        print(json.dumps(told), flush=True)


if __name__ == "__main__":
    watch(*sys.argv[1:])
    _serve()
