"""What the next job will take, from those before it."""

from __future__ import annotations

import pytest

from app.store import timings
from app.store.timings import Timing


def test_one_job_tells_by_the_passes_and_what_it_waited() -> None:
    assert timings.seconds([Timing(1000, 4.0, 5.0, "cpu")], 500) == pytest.approx(1 + 2)


def test_jobs_of_several_sizes_tell_what_none_is_without() -> None:
    found = [Timing(p, 2 + p / 1000, 2.5 + p / 1000, "cpu") for p in (100, 5000, 40_000)]
    for passes in (50, 10_000, 1_000_000):
        assert timings.seconds(found, passes) == pytest.approx(2.5 + passes / 1000)


def test_who_waited_for_others_does_not_make_the_next_one_wait() -> None:
    found = [Timing(1000, 4.0, 60.0, "cpu"), Timing(1000, 4.0, 4.5, "cpu")]
    assert timings.seconds(found, 1000) == pytest.approx(4.5)


def test_several_workers_are_as_fast_again() -> None:
    assert timings.seconds([Timing(1000, 40.0, 10.0, "cpu")], 2000) == pytest.approx(20)


@pytest.mark.parametrize("sizes", [(1000, 1000), (1000, 2000), (2000, 1000)])
def test_chance_makes_no_estimate_negative(sizes: tuple[int, int]) -> None:
    found = [Timing(size, busy, busy, "cpu") for size, busy in zip(sizes, (3.0, 1.0), strict=True)]
    for passes in (1, 1500, 10**9):
        assert timings.seconds(found, passes) > 0
