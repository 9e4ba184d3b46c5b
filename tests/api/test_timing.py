"""How long an answer takes tells nobody whether another project has something."""

from __future__ import annotations

import time
from statistics import median, quantiles
from typing import Any

import httpx
import pytest

from app.store.db import new_id
from tests.api.front_end import Service, bearer

ROUNDS, ASKED = 3, 200  # requests of each kind in a round
MOST = 0.03  # of an answer's time


def seconds(http: httpx.Client, path: str) -> float:
    started = time.perf_counter()
    answer = http.get(path)
    elapsed = time.perf_counter() - started
    assert answer.status_code == 404
    return elapsed


def difference(known: list[float], unknown: list[float]) -> float:
    """By how much answers to the one take longer, as a part of their time: of the fastest tenth, which has
    least of what else goes on in the machine.
    """
    fast, other = (quantiles(times, n=10)[0] for times in (known, unknown))
    return (fast - other) / other


@pytest.mark.slow
@pytest.mark.parametrize("collection", ["datasets", "trajectories", "jobs"])
def test_another_projects_id_takes_as_long_as_one_of_nothing(
    service: Service, job: dict[str, Any], inputs: dict[str, str], collection: str
) -> None:
    ids = {"datasets": inputs["train_dataset_id"], "trajectories": inputs["trajectory_id"], "jobs": job["id"]}
    prefix, there = ids[collection].partition("_")[0], f"/v1/{collection}/{ids[collection]}"
    found = []
    for turn in range(ROUNDS):  # each with a key of its own, whose burst it stays within
        key = f"stranger {turn} {service.project_id}"
        service.make_key(key, "read", project_id=f"not {service.project_id}")
        times: tuple[list[float], list[float]] = [], []
        with httpx.Client(base_url=service.url, headers=bearer(key)) as http:
            for number in range(ASKED):
                paths = there, f"/v1/{collection}/{new_id(prefix)}"
                for which in (0, 1) if number % 2 else (1, 0):
                    times[which].append(seconds(http, paths[which]))
        found.append(difference(*times))
    assert abs(median(found)) < MOST, [f"{one:+.1%}" for one in found]
