"""What a file of 5 GB in parts costs: throughput against copying to the same disk, the API's memory.

The client of the library sends to an API process on SQLite; copying reads the same file, writes it beside and
waits until it is on the disk, as completing an upload does. The two take turns, and the medians are compared.
Memory is the API's peak (VmHWM). With --quick 0.5 GB.

    python benchmarks/uploads.py [--quick] [--folder DISK]
"""

from __future__ import annotations

import hashlib
import os
import shutil
import statistics
import sys
import tempfile
import threading
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
if __package__ in (None, ""):
    sys.path.insert(0, str(ROOT))

import numpy as np  # noqa: E402

from benchmarks.lab.bars import bar, parser, table  # noqa: E402
from diffin import Diffin  # noqa: E402
from tests import services  # noqa: E402
from tests.services import Service  # noqa: E402

LARGE, QUICK = 5_000_000_000, 500_000_000
BLOCK = 8 * 1024**2
MOST_MIB, LEAST_SHARE = 200, 0.6
SIDE_BY_SIDE = 3


def write(path: Path, size: int) -> None:
    """Bytes that no disk shrinks, each block another one."""
    block = np.random.default_rng(0).bytes(BLOCK)
    with path.open("wb") as file:
        for number in range(-(-size // BLOCK)):
            file.write(number.to_bytes(8, "little") + block[8 : min(BLOCK, size - number * BLOCK)])


def copied(source: Path, to: Path) -> float:
    """Seconds of copying until it is on the disk."""
    started = time.perf_counter()
    with source.open("rb") as file, to.open("wb") as copy:
        shutil.copyfileobj(file, copy, 1024**2)
        copy.flush()
        os.fsync(copy.fileno())
    seconds = time.perf_counter() - started
    to.unlink()
    return seconds


def uploaded(client: Diffin, source: Path) -> float:
    """Seconds until the service has the file, complete; it is gone afterwards."""
    started = time.perf_counter()
    upload = client.upload_file(source)
    seconds = time.perf_counter() - started
    client.delete_upload(upload)
    return seconds


def together(service: Service, folder: Path, size: int) -> int:
    """How many files the service keeps of one content that several send at the same time."""
    files = [folder / f"{number}.bin" for number in range(SIDE_BY_SIDE)]
    for file in files:
        write(file, size)

    def send(file: Path) -> None:
        with Diffin(service.url, service.key) as client:
            client.upload_file(file)

    threads = [threading.Thread(target=send, args=(file,)) for file in files]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with files[0].open("rb") as content:
        sha256 = hashlib.file_digest(content, "sha256").hexdigest()
    return len(list((service.data_dir / "blobs").glob(f"*/{sha256}-*")))


def peak_mib(service: Service) -> float:
    status = Path(f"/proc/{service.process.pid}/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) / 1024


def main() -> None:
    cli = parser(__doc__)
    cli.add_argument("--folder", type=Path, help="on the disk to measure; else the system's for such files")
    asked = cli.parse_args()
    size, turns = (QUICK, 3) if asked.quick else (LARGE, 3)
    copying, sending = [], []
    with tempfile.TemporaryDirectory(dir=asked.folder) as inside:
        folder = Path(inside)
        source = folder / "source.bin"
        write(source, size)
        service = services.prepared(folder / "service")
        service.migrate()
        with service.running("api", "api"), Diffin(service.url, service.key) as client:
            services.wait_for_http(service)
            for _ in range(turns):
                copying.append(copied(source, folder / "copy.bin"))
                sending.append(uploaded(client, source))
                print(f"copied in {copying[-1]:.1f} s, sent in {sending[-1]:.1f} s", flush=True)
            source.unlink()
            kept = together(service, folder, min(size, QUICK) // 5)
            peak = peak_mib(service)
    rates = [size / 1e6 / statistics.median(times) for times in (copying, sending)]
    print(table([["", "MB/s"], ["copying", f"{rates[0]:.0f}"], ["in parts", f"{rates[1]:.0f}"]]))
    bar("uploads.memory_mib", peak, MOST_MIB, at_least=False)
    bar("uploads.share_of_copying", rates[1] / rates[0], LEAST_SHARE)
    bar("uploads.kept_of_one_content", kept, 1, at_least=False)


if __name__ == "__main__":
    main()
