"""Every hostile file at its reader, behind a worker's fence: refused as its table says, or read as if nothing
were in it; nothing is run, written elsewhere, or taken beyond the bounds.
"""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path

import pytest

from tests.hostile import fenced, good, pickles, readers
from tests.hostile.case import CANARY, Case
from tests.hostile.fenced import Fenced, Told
from tests.hostile.tables import CASES

Results = Mapping[str, Told | AssertionError]


@pytest.fixture(scope="module")
def reader(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fenced]:
    with fenced.started(tmp_path_factory.mktemp("fenced")) as started:
        yield started


@pytest.fixture(scope="module")
def told(reader: Fenced, request: pytest.FixtureRequest) -> Results:
    """What came of each file of the tests that are run."""
    asked = {
        item.callspec.params["case"]
        for item in request.session.items
        if isinstance(item, pytest.Function) and item.module is request.module and hasattr(item, "callspec")
        if "case" in item.callspec.params
    }
    found = reader.read_all([case for case in CASES if case in asked])
    return {str(case): one for case, one in found}


@pytest.mark.parametrize(
    "case", [pytest.param(case, marks=[pytest.mark.slow] * case.heavy, id=str(case)) for case in CASES]
)
def test_a_hostile_file_is_refused_and_nothing_else_happens(told: Results, case: Case) -> None:
    one = told[str(case)]
    if isinstance(one, AssertionError):
        raise one
    assert one.code in case.codes.split("|"), one.words
    assert (fenced.BEYOND in one.words) == (case.says in ("memory", fenced.BEYOND)), one.words
    assert case.says in one.words


def test_no_reader_ran_code_or_opened_what_is_not_its_file(told: Results, reader: Fenced) -> None:
    assert told
    assert not CANARY.exists()
    assert not reader.noted()


@pytest.mark.parametrize("name", readers.READERS)
def test_good_files_are_read_after_all_that(reader: Fenced, name: str) -> None:
    for number, data in enumerate((good.GOOD[name], *good.MORE.get(name, []))):
        assert reader.read(Case(f"good {number}", name, partial(bytes, data), "ready")).code == "ready"


def test_there_are_at_least_200_files_and_none_is_there_twice() -> None:
    assert len(CASES) == len({str(case) for case in CASES}) > 200
    assert {case.reader for case in CASES} == set(readers.READERS)


PAYLOADS = {f"protocol {number}": pickles.trap(number) for number in range(6)}
PAYLOADS |= {"by hand": pickles.SYSTEM, "exec": pickles.EXEC, "an instance": pickles.INSTANCE}


@pytest.mark.parametrize("payload", PAYLOADS.values(), ids=PAYLOADS)
def test_a_payload_that_is_loaded_makes_the_canary(payload: bytes) -> None:
    pickle.loads(payload)  # noqa: S301  (our own)
    assert CANARY.is_dir()
    CANARY.rmdir()


def test_the_watch_notes_a_reader_that_runs_code(tmp_path: Path) -> None:
    payload, log = tmp_path / "payload", tmp_path / "log"
    payload.write_bytes(pickles.trap())
    log.touch()
    program = f"""
import os, pickle
from tests.hostile.watch import watch
watch({str(tmp_path)!r}, {str(log)!r})
open({str(tmp_path / "fine")!r}, "w").close()
open("/etc/passwd").close()
pickle.loads(open({str(payload)!r}, "rb").read())
os.system("true")
"""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    subprocess.run([sys.executable, "-c", program], env=environment, check=True)
    CANARY.rmdir()
    noted = [line.split()[0] for line in log.read_text().splitlines()]
    assert noted == ["open", "pickle.find_class", "os.mkdir", "os.system"]
