"""Accepts a data set and writes it in canonical form: `inputs.npy`, `targets.npy` and, where given,
`ids.npy`; `shown.bin` beside them where people look at something else than the arrays.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from math import prod
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from app.store.rows import Rows
from worker.loading.archive import Archive, open_archive
from worker.loading.asked import Asked
from worker.loading.canonical import Layout, Range, write_canonical
from worker.loading.csv_rows import open_csv
from worker.loading.errors import LoadError, at, pointer, quoted
from worker.loading.ids import write_ids
from worker.loading.imagefolder import ENDINGS, open_imagefolder
from worker.loading.jsonl import open_jsonl
from worker.loading.kinds import kind_of
from worker.loading.layouts import input_layout, target_layout, token_layout
from worker.loading.npz import open_npz
from worker.loading.parquet import open_parquet
from worker.loading.room import check_room
from worker.loading.rows import load_table
from worker.loading.source import MOST_SAMPLE_BYTES, Source, ranges
from worker.loading.table import Table
from worker.loading.tensors import sources
from worker.loading.webdataset import open_webdataset

REQUIRED, ALLOWED = ("inputs", "targets"), ("inputs", "targets", "ids")
TOKENS = 2  # axes of token ids: [N, L]
FILES = {"inputs": "inputs.npy", "targets": "targets.npy", "ids": "ids.npy", "shown": "shown.bin"}
MOST_CLASSES, MOST_COUNTED = 1_000_000, 10_000
COUNTED_AT_ONCE = 1_000_000
OPTIONAL = ("encoding", "format")
TEXT = "of no kind we know"  # csv and jsonl begin as they like
TABLES: dict[str, Callable[[Path, Asked], Table]] = {
    "parquet": lambda path, asked: open_parquet(path),
    "csv": lambda path, asked: open_csv(path, asked.columns.get("names")),
    "jsonl": lambda path, asked: open_jsonl(path),
}
TARS = ("a tar archive", "a gzip file")
ARCHIVES = ("imagefolder", "webdataset", "tar")
KINDS: dict[str, tuple[str, ...]] = {
    "npz": ("a zip archive",),
    "safetensors": ("a safetensors file",),
    "parquet": ("a parquet file",),
    "csv": (TEXT,),
    "jsonl": (TEXT,),
    "tar": TARS,  # one of the two below
    "imagefolder": ("a zip archive", *TARS),
    "webdataset": TARS,
}
HOW = {
    "npz": "np.savez(path, inputs=…, targets=…)",
    "safetensors": "safetensors.numpy.save_file",
    "parquet": "DataFrame.to_parquet(path)",
    "csv": "DataFrame.to_csv(path, index=False)",
    "jsonl": "DataFrame.to_json(path, orient='records', lines=True)",
    "imagefolder": "zip -r or tar, a folder a class",
    "webdataset": "tar, the files of a sample one after the other",
}


@dataclass(frozen=True)
class ArrayInfo:
    """One canonical array: `shape` is a sample's, [min, max] the range of all its values.

    `taken_from` is "inputs" of targets that the file does not hold: its token ids stand for them.
    """

    shape: list[int]
    dtype: str
    min: float
    max: float
    kind: str = "array"
    taken_from: str | None = None


@dataclass(frozen=True)
class DatasetInfo:
    """What a data set says of itself. `num_classes` is the number of named classes, or the largest label + 1
    where targets are labels [N] ≥ 0, `class_counts` the samples of each class where there are at most 10,000.
    `encoding` is how columns became arrays: {columns, inputs, classes, shown}; `format` what the file was.
    """

    num_samples: int
    num_classes: int | None
    class_counts: list[int] | None
    has_ids: bool
    input: ArrayInfo
    target: ArrayInfo
    encoding: dict[str, Any] | None = None
    format: str | None = None

    def as_dict(self) -> dict[str, Any]:
        told = asdict(self)
        for array in (told["input"], told["target"]):
            if array["taken_from"] is None:
                del array["taken_from"]
        return {name: value for name, value in told.items() if value is not None or name not in OPTIONAL}


def load_dataset(path: Path, announced: str | None, out_dir: Path, asked: Asked | None = None) -> DatasetInfo:
    """Accepts the data set in `path` and writes it to `out_dir`, a few mebibytes at a time.

    Canonical arrays are C-ordered and little-endian: inputs uint8 (images [N, H, W, C]), int64 or float32
    (images [N, C, H, W]), always [N, …] with at least one axis more; targets int64 or float32; ids strings.

    Args:
        path: a stranger's file.
        announced: a format; None: by the file's first bytes; tar: imagefolder or webdataset, as it is found.
        out_dir: an empty folder; nothing is left in it if the file is refused.
        asked: what its owner said about it.

    Raises:
        LoadError: the file is refused.
    """
    asked, sent = asked or Asked(), path.stat().st_size
    try:
        kind = kind_of(path)
        wanted = announced or _guessed(kind, path)
        _check_kind(kind, wanted)
        if wanted in TABLES:
            return _of_table(load_table(TABLES[wanted](path, asked), asked, out_dir, sent), out_dir, wanted)
        if wanted in ARCHIVES:
            with open_archive(path, kind, out_dir) as archive:
                wanted = _layout_of(archive) if wanted == "tar" else wanted
                table = open_imagefolder(archive) if wanted == "imagefolder" else open_webdataset(archive)
                return _of_table(load_table(table, asked, out_dir, sent), out_dir, wanted)
        if wanted == "npz":
            with open_npz(path, out_dir) as arrays:
                return _load(arrays, out_dir, sent)
        return _load(sources(path), out_dir, sent)
    except BaseException:
        for name in FILES.values():
            (out_dir / name).unlink(missing_ok=True)
        raise


def _guessed(kind: str, path: Path) -> str | None:
    """The format by the file's first bytes; text is jsonl where its first line is an object."""
    if kind == TEXT:
        with path.open("rb") as file:
            start = file.read(4096).lstrip()
        return "jsonl" if start.startswith(b"{") else None
    return next((name for name, kinds in KINDS.items() if kind in kinds), None)


def _check_kind(kind: str, wanted: str | None) -> None:
    if kind == "a pickle":
        raise LoadError(
            "unsafe_file", "The file is a pickle, which can run code. Write it with np.savez instead."
        )
    if wanted not in KINDS:
        raise LoadError(
            "unknown_format",
            f"The file is {kind}, and no format was given; formats are {', '.join(HOW)}.",
        )
    if kind not in KINDS[wanted]:
        how = f" Write {wanted} with {HOW[wanted]}." if wanted in HOW else ""
        raise LoadError("corrupt_file", f"The file was announced as {wanted}, but is {kind}.{how}")


def _layout_of(archive: Archive) -> str:
    """What an archive that was not announced holds: folders of images, or samples of a file for each part."""
    images = all(PurePosixPath(member.name).suffix.lower() in ENDINGS for member in archive.members)
    return "imagefolder" if images else "webdataset"


def _of_table(found: dict[str, Any], out_dir: Path, kind: str) -> DatasetInfo:
    (inputs, targets), (input_range, target_range) = found["layouts"], found["ranges"]
    num_classes, counts = _classes(targets, target_range, out_dir / FILES["targets"])
    classes = found["encoding"]["classes"]
    if classes is not None:
        num_classes = len(classes)
        counts = counts and counts + [0] * (num_classes - len(counts))
    return DatasetInfo(
        num_samples=found["rows"],
        num_classes=num_classes,
        class_counts=counts,
        has_ids=found["has_ids"],
        input=_info(inputs, input_range),
        target=_info(targets, target_range, found["taken_from"]),
        encoding=found["encoding"],
        format=kind,
    )


def _load(arrays: Mapping[str, Source], out_dir: Path, sent: int) -> DatasetInfo:
    _check_names(arrays)
    _check_shapes(arrays)
    inputs, targets = arrays["inputs"], arrays.get("targets")
    layout = input_layout(inputs)
    labels = token_layout(inputs) if targets is None else target_layout(targets)
    check_room(inputs.shape[0], (layout, labels), out_dir, sent)
    if "ids" in arrays:
        write_ids(arrays["ids"], out_dir / "ids.npy")
    input_range = write_canonical(inputs, layout, out_dir / "inputs.npy")
    if targets is None and labels == layout:
        target_range = input_range
        shutil.copyfile(out_dir / "inputs.npy", out_dir / "targets.npy")
    else:
        target_range = write_canonical(targets or inputs, labels, out_dir / "targets.npy")
    num_classes, counts = _classes(labels, target_range, out_dir / "targets.npy")
    return DatasetInfo(
        num_samples=inputs.shape[0],
        num_classes=num_classes,
        class_counts=counts,
        has_ids="ids" in arrays,
        input=_info(layout, input_range),
        target=_info(labels, target_range, "inputs" if targets is None else None),
    )


def _info(layout: Layout, values: Range, taken_from: str | None = None) -> ArrayInfo:
    return ArrayInfo(
        list(layout.shape), layout.dtype, values.minimum, values.maximum, layout.kind, taken_from
    )


def _check_names(arrays: Mapping[str, Source]) -> None:
    names = ", ".join(quoted(name) for name in list(arrays)[:20]) or "nothing"
    missing = [name for name in REQUIRED if name not in arrays]
    if missing == ["targets"] and _are_tokens(arrays["inputs"]):
        missing = []
    if missing:
        raise LoadError(
            "missing_array",
            f"The file lacks {' and '.join(missing)} (it holds {names}). Name the arrays inputs [N, …], "
            "targets [N] or [N, …] (token ids, integers [N, L], of a causal language model need none) "
            "and, if you like, ids [N].",
            [at(pointer(name), "is missing") for name in missing],
        )
    unknown = [name for name in arrays if name not in ALLOWED]
    if unknown:
        raise LoadError(
            "unknown_array",
            f"The file holds more than a data set has: {', '.join(map(quoted, unknown[:20]))}. Allowed are "
            "inputs, targets and ids; leave the rest out.",
            [at(pointer(name), "is not known") for name in unknown],
        )


def _are_tokens(inputs: Source) -> bool:
    return inputs.dtype.kind in "iu" and len(inputs.shape) == TOKENS


def _check_shapes(arrays: Mapping[str, Source]) -> None:
    for source in arrays.values():
        if not source.shape:
            raise LoadError(
                "shape_mismatch",
                f"{source.name} is a single value; it must be an array with one entry a sample, [N, …].",
                [at(pointer(source.name), "has no axes")],
            )
    lengths = {name: source.shape[0] for name, source in arrays.items()}
    if len(set(lengths.values())) > 1:
        told = ", ".join(f"{name} {length}" for name, length in lengths.items())
        raise LoadError(
            "shape_mismatch",
            f"The arrays differ in their number of samples: {told}. The first axis of each must be "
            "the same N.",
            [at(pointer(name), f"has {length} entries") for name, length in lengths.items()],
        )
    if not lengths["inputs"]:
        raise LoadError("shape_mismatch", "The data set has no samples: N is 0.", [at("/inputs", "is empty")])
    for source in arrays.values():
        bytes_each = prod(source.shape[1:]) * max(source.dtype.itemsize, 8)
        if not bytes_each:
            raise LoadError(
                "shape_mismatch", f"A sample of {source.name} holds no values: {list(source.shape)}."
            )
        if bytes_each > MOST_SAMPLE_BYTES:
            raise LoadError(
                "sample_too_large",
                f"One sample of {source.name} has {bytes_each // 8} values or more; "
                f"{MOST_SAMPLE_BYTES // 8} at most.",
                [at(pointer(source.name), "has samples that large")],
            )


def _classes(labels: Layout, values: Range, path: Path) -> tuple[int | None, list[int] | None]:
    """(num_classes, class_counts) of canonical targets, each None where it makes no sense."""
    if labels.dtype != "int64" or labels.shape or values.minimum < 0 or values.maximum >= MOST_CLASSES:
        return None, None
    num_classes = int(values.maximum) + 1
    if num_classes > MOST_COUNTED:
        return num_classes, None
    stored, counts = Rows(path), np.zeros(num_classes, np.int64)
    for start, count in ranges(len(stored), COUNTED_AT_ONCE):
        counts += np.bincount(stored[start : start + count], minlength=num_classes)
    return num_classes, counts.tolist()
