"""What a file of 5 GB in parts costs: throughput against copying to the same disk, the API's memory.

The client of the library sends to an API process on SQLite; copying reads the same file, writes it beside and
waits until it is on the disk, as completing an upload does. They take turns, each on a disk that has nothing
else left to write, and the medians are compared. Copying whose bytes go to the disk from the first one on, as
an upload's do, is measured beside them; the bar is that of plain copying. Memory is the API's peak (VmHWM).
Processor time is that of all turns; others on the machine lengthen it less than the clock's. With --quick
0.5 GB.

    python benchmarks/uploads.py [--quick] [--folder DISK]
"""

from __future__ import annotations

import hashlib
import os
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
if __package__ in (None, ""):
    sys.path.insert(0, str(ROOT))

import numpy as np  # noqa: E402

from app.store.places import sync_ahead  # noqa: E402
from benchmarks.lab.bars import bar, parser, table  # noqa: E402
from diffin import Diffin  # noqa: E402
from tests import services  # noqa: E402
from tests.services import Service  # noqa: E402

LARGE, QUICK = 5_000_000_000, 500_000_000
MIB = 1024**2
BLOCK = 8 * MIB
MOST_MIB, LEAST_SHARE = 200, 0.6
SIDE_BY_SIDE = 3


def write(path: Path, size: int) -> None:
    """Bytes that no disk shrinks, each block another one."""
    block = np.random.default_rng(0).bytes(BLOCK)
    with path.open("wb") as file:
        for number in range(-(-size // BLOCK)):
            file.write(number.to_bytes(8, "little") + block[8 : min(BLOCK, size - number * BLOCK)])


def processor(pid: int) -> float:
    """Seconds that a process has had a processor for."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def timed(pids: Sequence[int], act: Callable[[], float]) -> list[float]:
    """The seconds that `act` returns, and those of processor that it took each of the processes."""
    os.sync()
    before = [processor(pid) for pid in pids]
    return [act(), *(processor(pid) - had for pid, had in zip(pids, before, strict=True))]


def copied(source: Path, to: Path, *, ahead: bool) -> float:
    """Seconds of copying until it is on the disk; `ahead`: its bytes go there from the first one on."""
    started = time.perf_counter()
    with source.open("rb") as file, to.open("wb", buffering=0) as copy:
        while piece := file.read(MIB):
            copy.write(piece)
            if ahead:
                sync_ahead(copy.fileno(), copy.tell() - len(piece), len(piece))
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


def per_gb(size: int, turns: Sequence[Sequence[float]]) -> list[str]:
    """The processor time of each process for a gigabyte, over all turns."""
    return [f"{statistics.fmean(one) / size * 1e9:.2f} s/GB" for one in list(zip(*turns, strict=True))[1:]]


def peak_mib(service: Service) -> float:
    status = Path(f"/proc/{service.process.pid}/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) / 1024


def main() -> None:
    cli = parser(__doc__)
    cli.add_argument("--folder", type=Path, help="on the disk to measure; else the system's for such files")
    asked = cli.parse_args()
    size, turns = (QUICK, 3) if asked.quick else (LARGE, 3)
    copying, ahead, sending = [], [], []
    with tempfile.TemporaryDirectory(dir=asked.folder) as inside:
        folder = Path(inside)
        source = folder / "source.bin"
        write(source, size)
        service = services.prepared(folder / "service")
        service.migrate()
        with service.running("api", "api"), Diffin(service.url, service.key) as client:
            services.wait_for_http(service)
            ours, api = os.getpid(), service.process.pid
            for _ in range(turns):
                copying.append(timed([ours], partial(copied, source, folder / "copy.bin", ahead=False)))
                ahead.append(timed([ours], partial(copied, source, folder / "copy.bin", ahead=True)))
                sending.append(timed([ours, api], partial(uploaded, client, source)))
                last = [f"{one[-1][0]:.1f} s" for one in (copying, ahead, sending)]
                print("copied in {}, put on the disk from the start {}, sent in {}".format(*last), flush=True)
            source.unlink()
            kept = together(service, folder, min(size, QUICK) // 5)
            peak = peak_mib(service)
    rates = [size / 1e6 / statistics.median(one[0] for one in some) for some in (copying, ahead, sending)]
    print(
        table(
            [
                ["", "MB/s", "client's processor", "API's processor"],
                ["copying", f"{rates[0]:.0f}", *per_gb(size, copying), ""],
                ["copying, put on the disk from the start", f"{rates[1]:.0f}", *per_gb(size, ahead), ""],
                ["in parts", f"{rates[2]:.0f}", *per_gb(size, sending)],
            ]
        )
    )
    bar("uploads.memory_mib", peak, MOST_MIB, at_least=False)
    bar("uploads.share_of_copying", rates[2] / rates[0], LEAST_SHARE)
    bar("uploads.kept_of_one_content", kept, 1, at_least=False)


if __name__ == "__main__":
    main()
