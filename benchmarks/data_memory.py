"""What a data set's size costs a worker in memory: validating it, and reading it as scoring does.

Each figure is the peak of a process of its own (VmHWM) over that of the small set of the same kind:
1.1 asked at most; anonymous pages and those of files are shown apart. Rows are made as they are written, so
that only the disk holds a large set: 5 GB of each format in turn, 0.12 GB with --quick.

    python benchmarks/data_memory.py [--quick] [--formats csv,npz]
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
if __package__ in (None, ""):
    sys.path.insert(0, str(ROOT))

import numpy as np  # noqa: E402
import pyarrow as pa  # type: ignore[import-untyped]  # noqa: E402
import pyarrow.parquet as pq  # type: ignore[import-untyped]  # noqa: E402

from benchmarks.lab.bars import bar, parser, table  # noqa: E402

LARGE, QUICK, SMALL = 5_000_000_000, 120_000_000, 40_000_000
ASKED = 1.1
PIXELS, NUMBERS = 3072, 16
BLOCK = 4096
Measured = dict[str, float]


def write_npz(path: Path, size: int) -> None:
    rows = size // PIXELS
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for name, shape, dtype in (("inputs", (rows, PIXELS), "uint8"), ("targets", (rows,), "int64")):
            with archive.open(f"{name}.npy", "w", force_zip64=True) as file:
                np.lib.format.write_array_header_1_0(
                    file, {"descr": np.dtype(dtype).str, "fortran_order": False, "shape": shape}
                )
                for start in range(0, rows, BLOCK):
                    count = min(BLOCK, rows - start)
                    draw = np.random.default_rng(start)
                    values = (count, PIXELS) if name == "inputs" else (count,)
                    file.write(draw.integers(0, 10, values, dtype).tobytes())


def write_parquet(path: Path, size: int) -> None:
    columns = {"image": pa.binary(), "label": pa.string()}
    with pq.ParquetWriter(path, pa.schema(columns), compression="none", use_dictionary=["label"]) as writer:
        for start in range(0, size // 3200, BLOCK):
            draw = np.random.default_rng(start)
            images = [_bmp(draw.bytes(PIXELS)) for _ in range(BLOCK)]
            labels = [f"class {one}" for one in draw.integers(0, 10, BLOCK)]
            writer.write_table(pa.table({"image": images, "label": labels}, schema=pa.schema(columns)))


def _bmp(pixels: bytes) -> bytes:
    """32 x 32 pixels as a file that costs nothing to make."""
    head = b"BM" + (54 + PIXELS).to_bytes(4, "little") + bytes(4) + (54).to_bytes(4, "little")
    head += (40).to_bytes(4, "little") + (32).to_bytes(4, "little") * 2 + b"\x01\x00\x18\x00" + bytes(24)
    return head + pixels


def write_csv(path: Path, size: int) -> None:
    """A block of rows over and over: writing that many numbers as text would take too long."""
    draw = np.random.default_rng(0)
    rows = [
        ",".join(
            [
                *(f"{one:.5f}" for one in draw.normal(size=NUMBERS)),
                f"city {draw.integers(40)}",
                f"class {i % 7}",
            ]
        )
        for i in range(BLOCK)
    ]
    block = ("\n".join(rows) + "\n").encode()
    with path.open("wb") as file:
        file.write((",".join(f"x{i}" for i in range(NUMBERS)) + ",city,label\n").encode())
        for _ in range(size // len(block)):
            file.write(block)


def write_jsonl(path: Path, size: int) -> None:
    draw = np.random.default_rng(0)
    rows = [
        json.dumps({"x": draw.normal(size=32).round(5).tolist(), "label": f"class {i % 7}"})
        for i in range(BLOCK)
    ]
    block = ("\n".join(rows) + "\n").encode()
    with path.open("wb") as file:
        for _ in range(size // len(block)):
            file.write(block)


def write_zip(path: Path, size: int) -> None:
    """Folders of small images, stored as `zip -0` does."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for name, image in _images(size):
            archive.writestr(zipfile.ZipInfo(f"class {name % 10}/{name:08d}.bmp"), image)


def write_tar(path: Path, size: int) -> None:
    with path.open("wb") as file:
        for name, image in _images(size):
            file.write(_tarred(f"class {name % 10}/{name:08d}.bmp", image))
        file.write(bytes(1024))


def write_webdataset(path: Path, size: int) -> None:
    with path.open("wb") as file:
        for name, image in _images(size):
            file.write(_tarred(f"{name:08d}.bmp", image) + _tarred(f"{name:08d}.cls", b"%d" % (name % 10)))
        file.write(bytes(1024))


def _images(size: int) -> Iterator[tuple[int, bytes]]:
    """Numbered, as many as fill `size` bytes."""
    for start in range(0, size // len(_bmp(bytes(PIXELS))), BLOCK):
        pixels = np.random.default_rng(start).bytes(BLOCK * PIXELS)
        for i in range(BLOCK):
            yield start + i, _bmp(pixels[i * PIXELS : (i + 1) * PIXELS])


def _tarred(name: str, data: bytes) -> bytes:
    """A file as it stands in a tar: tarfile's own writer would keep a list of them."""
    info = tarfile.TarInfo(name)
    info.size = len(data)
    return info.tobuf() + data + bytes(-len(data) % 512)


FORMATS: dict[str, Callable[[Path, int], None]] = {
    "npz": write_npz,
    "parquet": write_parquet,
    "csv": write_csv,
    "jsonl": write_jsonl,
    "imagefolder.zip": write_zip,
    "imagefolder.tar": write_tar,
    "webdataset": write_webdataset,
}

VALIDATE = """
from pathlib import Path
from worker.loading import load_dataset
kind, source, out = sys.argv[1:4]
load_dataset(Path(source), kind, Path(out))
"""
SCORE = """
from pathlib import Path
import numpy as np, torch
from app.store.rows import Rows
from worker.data import StoredData
from worker.influence.preprocessing import Preprocessing
class Arrays:
    inputs, targets = (Rows(Path(sys.argv[3]) / f"{name}.npy") for name in ("inputs", "targets"))
    def __len__(self): return len(self.inputs)
data = StoredData(Arrays(), Preprocessing("features"), torch.int64, torch.device("cpu"))
for inputs, targets in data.chunks(4096): pass
draw = np.random.default_rng(0)
for _ in range(20):  # batches of any rows: what exact steps and drawn curvature ask for
    for inputs, targets in data.chunks(1024, draw.integers(0, len(data), 1024).tolist()): pass
"""
MEASURE = """
import json, sys
{body}
told = dict(line.split(":", 1) for line in open("/proc/self/status"))
names = {{"peak": "VmHWM", "anonymous": "RssAnon", "files": "RssFile"}}
print(json.dumps({{name: int(told[key].split()[0]) / 1024 for name, key in names.items()}}))
"""


def measured(body: str, *arguments: object) -> Measured:
    """MiB of a fresh process that does this, and of its last moment's anonymous and file pages."""
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "MALLOC_ARENA_MAX": "1"}
    done = subprocess.run(
        [sys.executable, "-c", MEASURE.format(body=body), *map(str, arguments)],
        env=environment,
        check=True,
        capture_output=True,
        text=True,
    )
    found: Measured = json.loads(done.stdout.splitlines()[-1])
    return found


def of_size(kind: str, size: int, folder: Path) -> dict[str, Measured]:
    """What validating and scoring a set of this size took; its files are gone afterwards."""
    with tempfile.TemporaryDirectory(dir=folder) as inside:
        source, out = Path(inside) / f"data.{kind}", Path(inside) / "out"
        out.mkdir()
        FORMATS[kind](source, size)
        validate = measured(VALIDATE, kind.partition(".")[0], source, out)
        source.unlink()
        return {"validate": validate, "score": measured(SCORE, kind, "-", out)}


def main() -> None:
    cli = parser(__doc__)
    cli.add_argument("--formats", default=",".join(FORMATS), help="some of them, by commas")
    cli.add_argument("--folder", type=Path, help="where the large files go; else the system's")
    asked = cli.parse_args()
    size = QUICK if asked.quick else LARGE
    rows: list[list[Any]] = [["format", "what", "small set", f"{size / 1e9:g} GB", "anonymous", "files"]]
    worst = {"validate": 0.0, "score": 0.0}
    for kind in asked.formats.split(","):
        small, large = (of_size(kind, one, asked.folder) for one in (SMALL, size))
        for what in worst:
            before, after = small[what], large[what]
            worst[what] = max(worst[what], after["peak"] / before["peak"])
            shown = [
                f"{one:.0f} MiB"
                for one in (before["peak"], after["peak"], after["anonymous"], after["files"])
            ]
            rows.append([kind, what, *shown])
            print(kind, what, *shown, flush=True)
    print(table(rows))
    for what, factor in worst.items():
        bar(f"data.memory.{what}", factor, ASKED, at_least=False)


if __name__ == "__main__":
    main()
