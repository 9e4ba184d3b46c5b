"""The contract check of the design, run as a plain client against the service in both its shapes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.services import Service

CHECK = Path(__file__).parents[3] / "shared" / "checks" / "contract.py"

pytestmark = pytest.mark.skipif(
    not CHECK.exists(), reason="the design's contract check is not beside the checkout"
)

SLOWLY = [pytest.param(seed, marks=pytest.mark.slow) for seed in (1, 2)]


def passes(service: Service, seed: int) -> None:
    command = [sys.executable, str(CHECK), "--url", service.url, "--key", service.key, "--seed", str(seed)]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=900)
    print(ran.stdout)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert ran.stdout.strip().endswith(" 0 failed")


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_the_embedded_service_keeps_the_contract(embedded_service: Service, seed: int) -> None:
    passes(embedded_service, seed)


@pytest.mark.parametrize("seed", [0, *SLOWLY])
def test_the_production_service_keeps_the_contract(production_service: Service, seed: int) -> None:
    passes(production_service, seed)
