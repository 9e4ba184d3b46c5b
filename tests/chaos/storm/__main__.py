"""Random faults against jobs of a real service, on PostgreSQL and Redis and on the embedded default.

A share of the faults and jobs goes to each shape of the service. What must hold, and how recovery is
measured: docs/decisions/0027-storms.md.
"""

from __future__ import annotations

import random
import shutil
import statistics
import sys
import tempfile
import time
from collections import defaultdict
from pathlib import Path

from benchmarks.lab import bars
from tests.chaos.storm import house
from tests.chaos.storm.house import LEASE
from tests.chaos.storm.run import COUNTED, Found, Struck, storm

EMBEDDED_SHARE = 0.3


def main() -> int:
    parser = bars.parser(__doc__)
    parser.add_argument("--faults", type=int, help="how many (100; quick: 10)")
    parser.add_argument("--jobs", type=int, help="how many (50; quick: 10)")
    parser.add_argument("--seed", type=int, help="of all that is drawn; printed, so that it can be given")
    asked = parser.parse_args()
    faults = asked.faults or (10 if asked.quick else 100)
    jobs = asked.jobs or (10 if asked.quick else 50)
    seed = random.SystemRandom().randrange(10**6) if asked.seed is None else asked.seed
    print(f"seed {seed}: {faults} faults, {jobs} jobs, leases of {LEASE:g} s", flush=True)
    found = []
    for shape in (house.production, house.embedded):
        share = EMBEDDED_SHARE if shape is house.embedded else 1 - EMBEDDED_SHARE
        began = time.monotonic()
        with tempfile.TemporaryDirectory(prefix="diffin-storm-") as folder, shape(Path(folder)) as there:
            print(f"{there.shape}: {round(faults * share)} faults, {round(jobs * share)} jobs", flush=True)
            found.append(storm(there, seed, round(jobs * share), round(faults * share)))
            if found[-1].wrong:
                log = Path(tempfile.gettempdir()) / f"diffin-storm-{seed}-{there.shape}.log"
                print(f"the log of the service is kept: {shutil.copy(there.service.log, log)}")
        print(f"{there.shape} took {time.monotonic() - began:.0f} s", flush=True)
    return 0 if _told(found) else 1


def _told(found: list[Found]) -> bool:
    struck = [one for each in found for one in each.struck]
    print("\n" + bars.table([("fault", "times", "units hit", "recovery, median", "most"), *_tally(struck)]))
    orders, cancelled = sum(one.orders for one in found), sum(one.cancelled for one in found)
    print(f"\n{len(struck)} faults, {orders} jobs to be done, {cancelled} cancelled")
    ok = True
    for name in COUNTED:
        wrong = [words for one in found for words in getattr(one, name)]
        for words in wrong:
            print(f"{name}: {words}")
        ok &= bars.bar(f"chaos.{name}", len(wrong), 0, at_least=False)
    hit = [(one.recovery, one.complete) for one in struck if one.recovery is not None]
    for what, only in (("all workers were there", True), ("some were still starting", False)):
        some = [recovery for recovery, complete in hit if complete == only]
        if some:
            back, on = ([figure / LEASE for figure in figures] for figures in zip(*some, strict=True))
            times = f"queued again after {_middle(back)}, on after {_middle(on)}"
            print(f"{len(some)} faults that hit work when {what}: {times}")
    there = [recovery for recovery, complete in hit if complete]
    for name, seconds in (
        ("requeued_leases", [recovery.back for recovery in there]),
        ("recovery_leases", [recovery.on for recovery in there]),
    ):
        ok &= bars.bar(f"chaos.{name}", max(seconds, default=float("nan")) / LEASE, 2, at_least=False)
    return ok


def _middle(figures: list[float]) -> str:
    return f"{statistics.median(figures):.2f} leases in the median, {max(figures):.2f} at most"


def _tally(struck: list[Struck]) -> list[tuple[str, ...]]:
    of: dict[str, list[Struck]] = defaultdict(list)
    for one in struck:
        of[one.name].append(one)
    rows = []
    for name, times in sorted(of.items()):
        took = [one.recovery.on / LEASE for one in times if one.recovery is not None]
        figures = [f"{statistics.median(took):.2f} leases", f"{max(took):.2f}"] if took else ["", ""]
        rows.append((name, str(len(times)), str(sum(one.hit for one in times)), *figures))
    return rows


if __name__ == "__main__":
    sys.exit(main())
