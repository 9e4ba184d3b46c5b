"""A worker whose clock is off by minutes beside one whose is right: leases go by the database's clock."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from tests import services
from tests.chaos import rows
from tests.chaos.test_kill import ask, ends_as, submitted, undisturbed
from tests.services import Service

LEASE = {"BLOCK_SECONDS": "0.001", "LEASE_SECONDS": "15"}  # far less than the minutes
ROUNDS = 2


def off_by(service: Service, minutes: int) -> Service:
    """The service as processes see it whose clock is shifted; what passes of time passes as it does."""
    if shutil.which("faketime") is None:
        pytest.skip("faketime is missing: apt-get install faketime")
    [library] = Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1")
    shifted = {"LD_PRELOAD": str(library), "FAKETIME": f"{minutes:+d}m", "FAKETIME_DONT_FAKE_MONOTONIC": "1"}
    return replace(service, environment=service.environment | shifted)


@pytest.mark.slow
@pytest.mark.parametrize("minutes", [5, -5])
def test_a_job_of_two_workers_ends_once_and_no_lease_is_stolen(
    tmp_path: Path, postgres_url: str, redis_url: str, minutes: int
) -> None:
    with (
        services.production(tmp_path, postgres_url, redis_url, workers=1, **LEASE) as service,
        service.client() as client,
    ):
        question = ask(client)
        expected = undisturbed(client, question)
        with off_by(service, minutes).running("shifted worker", "worker") as process:
            rows.wait_until(lambda: len(rows.alive(service)) == 2, "two workers")
            seen: set[str] = set()
            for _ in range(ROUNDS):
                job_id = submitted(client, question)
                while units := list(rows.units(service, job_id)):
                    assert all(unit.failures == 0 for unit in units), "a lease was taken from who lives"
                    seen |= {unit.lease_owner for unit in units if unit.lease_owner is not None}
                ends_as(client, job_id, expected)
            shifted = f":{process.pid}"
            assert any(owner.endswith(shifted) for owner in seen), "the shifted worker did nothing"
            assert any(not owner.endswith(shifted) for owner in seen), "it did everything"
