"""The whole API against its own description: schemathesis makes requests up, good and bad, and reads answers.

All of its checks hold: no 5xx, no status, header, type or body that the description does not have, nothing
taken that is wrong, nobody let in without a key. `schemathesis.toml` says what else is allowed, and why.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import services
from tests.services import Service

SETTINGS = Path(__file__).with_name("schemathesis.toml")


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A service of its own: what is made up is no neighbour for others' tests."""
    folder = tmp_path_factory.mktemp("schemathesis")
    unlimited = {"REQUESTS_PER_SECOND": "100000", "REQUEST_BURST": "100000"}
    small = {"MAX_RESUMABLE_BYTES": str(2**30)}  # or else a full disk would answer 507, which is a 5xx
    with services.embedded(folder, **unlimited, **small) as service:
        yield service


def check(service: Service, folder: Path, *, phases: str, seconds: int, examples: int) -> None:
    """Runs schemathesis; its own report is the message where a check fails."""
    command = [sys.executable, "-m", "schemathesis.cli", "--config-file", str(SETTINGS), "run"]
    command += [f"{service.url}/v1/openapi.json", "--header", f"Authorization: Bearer {service.key}"]
    command += ["--phases", phases, "--max-examples", str(examples), "--seed", "1"]
    command += ["--max-time", str(seconds), "--continue-on-failure", "--warnings", "off", "--no-color"]
    run = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=seconds + 120)
    assert run.returncode == 0, f"{run.stdout[-12_000:]}\n{run.stderr[-2000:]}"
    assert "generated" in run.stdout, run.stdout[-2000:]


def test_every_answer_is_as_described(service: Service, tmp_path: Path) -> None:
    check(service, tmp_path, phases="examples,coverage", seconds=30, examples=3)


@pytest.mark.slow
def test_every_answer_is_as_described_whatever_is_asked(service: Service, tmp_path: Path) -> None:
    check(service, tmp_path, phases="examples,coverage,fuzzing", seconds=600, examples=50)


@pytest.mark.slow
def test_every_answer_is_as_described_wherever_the_links_lead(service: Service, tmp_path: Path) -> None:
    """What was made is asked for, changed, used and deleted, and asked for again."""
    check(service, tmp_path, phases="stateful", seconds=600, examples=200)
