"""What jobs took, and what the next one like them will take."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from app.store.tables import Job

LAST = 10  # jobs of a kind that are looked at


class Timing(NamedTuple):
    """What one job took: forward passes, seconds of work, and seconds from its start to its end."""

    passes: int
    busy: float
    seconds: float
    device: str


def of(jobs: Sequence[Job]) -> list[Timing]:
    """Of those of the jobs that tell, in their order."""
    told = [(job.result or {}).get("timing") or {} for job in jobs]
    return [_timing(one) for one in told if one.get("forward_passes") and one.get("seconds") is not None]


def _timing(told: dict[str, Any]) -> Timing:
    seconds = float(told["seconds"])
    return Timing(told["forward_passes"], float(told.get("busy_seconds", seconds)), seconds, told["device"])


def seconds(timings: Sequence[Timing], passes: int) -> float:
    """What so many forward passes will take: w + a + b·passes.

    w ≥ 0 is what a job waits besides working, of the job that waited least: others waited for each other. a
    and b, both ≥ 0, minimize Σ ((a + b·p - s)/s)² over the jobs' passes p and seconds of work s, or those
    from start to end where they are less: several workers had a part. Where all were of one size a is 0.
    """
    waited = max(0.0, min(one.seconds - one.busy for one in timings))
    p = np.array([one.passes for one in timings], dtype=np.float64)
    s = np.array([max(min(one.busy, one.seconds), 1e-6) for one in timings])
    slope = _slope(p / s)
    if len(set(p)) > 1:
        design = np.stack([1 / s, p / s], axis=1)
        fixed, rate = np.linalg.lstsq(design, np.ones(len(s)), rcond=None)[0]
        if rate >= 0 and fixed >= 0:
            return float(waited + fixed + rate * passes)
        if rate < 0:
            return float(waited + s.mean())
    return float(waited + slope * passes)


def _slope(ratios: np.ndarray[Any, np.dtype[np.float64]]) -> float:
    """b of least relative squares where a is 0."""
    return float(ratios.sum() / (ratios**2).sum())
