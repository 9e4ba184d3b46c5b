"""Coverage-guided fuzzing of every reader: it refuses what it is given, or reads it; nothing else happens.

    make fuzz            60 s a reader (QUICK=1: 10 s; ARGS="--seconds 180 npz graph")

Begins with the good files and small hostile ones, and prints for each reader how many files it was given and
what came of it that should not have: an exception that is no refusal, a crash, 10 s of a processor, 4 GiB. That is kept
in `.fuzz/findings`, to be mended, and to become a case in the tables of this folder.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.hostile import good, readers
from tests.hostile.tables import CASES
from tests.worker.loading.archives import colour, picture
from tests.worker.loading.files import npy

KEPT, MEMORY = Path(".fuzz"), Path("/dev/shm")
MOST_BYTES = 1 << 16
PARTS = {
    "npy": [npy(good.X), npy(good.Y, (2, 0))],
    "image": [picture(colour(4, 4), kind) for kind in ("PNG", "JPEG", "BMP", "PPM", "WEBP")],
}
TARGETS = (*readers.READERS, *PARTS)
EXECUTED = re.compile(r"stat::number_of_executed_units: +(\d+)|^#(\d+)", re.MULTILINE)


def main() -> None:
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    asked.add_argument("--seconds", type=int, default=60, help="for each reader")
    asked.add_argument("readers", nargs="*", metavar="reader", help=f"{', '.join(TARGETS)}; all unless named")
    told = asked.parse_args()
    found = [_fuzz(reader, told.seconds) for reader in told.readers or TARGETS]
    sys.exit(1 if any(found) else 0)


def _fuzz(reader: str, seconds: int) -> int:
    """Runs a reader in a process of its own, in another where one crashes; how many findings there are."""
    corpus, findings = (KEPT / folder / reader for folder in ("corpus", "findings"))
    corpus.mkdir(parents=True, exist_ok=True)
    for number, data in enumerate(_seeds(reader)):
        (corpus / f"seed-{number}").write_bytes(data)
    shutil.rmtree(findings, ignore_errors=True)
    end, runs = time.monotonic() + seconds, 0
    while (left := end - time.monotonic()) > 1:
        command = [sys.executable, "-m", "tests.hostile.fuzz_one", reader, str(int(left))]
        with tempfile.TemporaryDirectory(dir=MEMORY if MEMORY.is_dir() else None) as scratch:
            environment = os.environ | {"TMPDIR": scratch}
            ran = subprocess.run(command, env=environment, capture_output=True, text=True, errors="replace")
        counts = [int(a or b) for a, b in EXECUTED.findall(ran.stderr)]
        if not counts:
            raise RuntimeError(ran.stderr[-4000:])
        runs += counts[-1]
        if ran.returncode:
            (findings / "crash.log").write_text(ran.stderr)
    found = sorted(one.name for one in findings.glob("*") if one.suffix not in (".txt", ".log"))
    print(f"fuzz: {reader}: {runs:,} files, {len(found)} findings", *found, flush=True)
    return len(found)


def _seeds(reader: str) -> list[bytes]:
    if reader in PARTS:
        return PARTS[reader]
    hostile = [case.build() for case in CASES if case.reader == reader and case.seed]
    files = [good.GOOD[reader], *good.MORE.get(reader, []), *hostile]
    return [data for data in files if 0 < len(data) <= MOST_BYTES]


if __name__ == "__main__":
    main()
