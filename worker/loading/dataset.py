"""Accepts a data set and writes it in canonical form: `inputs.npy`, `targets.npy` and, where given,
`ids.npy`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from worker.loading.canonical import Layout, Range, write_canonical
from worker.loading.errors import LoadError, at, pointer, quoted
from worker.loading.ids import write_ids
from worker.loading.kinds import kind_of
from worker.loading.npz import open_npz
from worker.loading.source import MOST_SAMPLE_BYTES, Source
from worker.loading.tensors import sources

REQUIRED, ALLOWED = ("inputs", "targets"), ("inputs", "targets", "ids")
CHANNELS = (1, 3, 4)
MOST_CLASSES, MOST_COUNTED = 1_000_000, 10_000
DTYPES = "bool, int8 to int64, uint8 to uint64, float16, float32, float64 (and bfloat16 in safetensors)"


@dataclass(frozen=True)
class ArrayInfo:
    """One canonical array: `shape` is a sample's, [min, max] the range of all its values."""

    shape: list[int]
    dtype: str
    min: float
    max: float
    kind: str = "array"


@dataclass(frozen=True)
class DatasetInfo:
    """What a data set says of itself. `num_classes` is the largest label + 1 where targets are labels [N] ≥
    0, `class_counts` the samples of each class where there are at most 10,000."""

    num_samples: int
    num_classes: int | None
    class_counts: list[int] | None
    has_ids: bool
    input: ArrayInfo
    target: ArrayInfo

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def load_dataset(path: Path, announced: str | None, out_dir: Path) -> DatasetInfo:
    """Accepts the data set in `path` and writes it to `out_dir`, a few mebibytes at a time.

    Canonical arrays are C-ordered and little-endian: inputs uint8 (images [N, H, W, C]), int64 or float32
    (images [N, C, H, W]), always [N, …] with at least one axis more; targets int64 or float32; ids strings.

    Args:
        path: a stranger's file.
        announced: "npz" or "safetensors"; None: by the file's first bytes.
        out_dir: an empty folder; nothing is left in it if the file is refused.

    Raises:
        LoadError: the file is refused.
    """
    try:
        with _opened(path, announced, out_dir) as arrays:
            return _load(arrays, out_dir)
    except BaseException:
        for name in ALLOWED:
            (out_dir / f"{name}.npy").unlink(missing_ok=True)
        raise


@contextmanager
def _opened(path: Path, announced: str | None, out_dir: Path) -> Iterator[Mapping[str, Source]]:
    kind = kind_of(path)
    formats = {"a zip archive": "npz", "a safetensors file": "safetensors"}
    wanted = announced or formats.get(kind)
    if kind == "a pickle":
        raise LoadError(
            "unsafe_file", "The file is a pickle, which can run code. Write it with np.savez instead."
        )
    if wanted not in formats.values():
        raise LoadError("unknown_format", f"The file is {kind}; data sets are npz or safetensors for now.")
    if formats.get(kind) != wanted:
        raise LoadError(
            "corrupt_file",
            f"The file was announced as {wanted}, but is {kind}. Write npz with np.savez(path, inputs=…, "
            "targets=…), safetensors with safetensors.numpy.save_file.",
        )
    if wanted == "npz":
        with open_npz(path, out_dir) as arrays:
            yield arrays
    else:
        yield sources(path)


def _load(arrays: Mapping[str, Source], out_dir: Path) -> DatasetInfo:
    _check_names(arrays)
    _check_shapes(arrays)
    inputs, targets = arrays["inputs"], arrays["targets"]
    layout, labels = input_layout(inputs), target_layout(targets)
    if "ids" in arrays:
        write_ids(arrays["ids"], out_dir / "ids.npy")
    input_range = write_canonical(inputs, layout, out_dir / "inputs.npy")
    target_range = write_canonical(targets, labels, out_dir / "targets.npy")
    num_classes, counts = _classes(labels, target_range, out_dir / "targets.npy")
    return DatasetInfo(
        num_samples=inputs.shape[0],
        num_classes=num_classes,
        class_counts=counts,
        has_ids="ids" in arrays,
        input=_info(layout, input_range),
        target=_info(labels, target_range),
    )


def _info(layout: Layout, values: Range) -> ArrayInfo:
    return ArrayInfo(list(layout.shape), layout.dtype, values.minimum, values.maximum, layout.kind)


def _check_names(arrays: Mapping[str, Source]) -> None:
    names = ", ".join(quoted(name) for name in list(arrays)[:20]) or "nothing"
    missing = [name for name in REQUIRED if name not in arrays]
    if missing:
        raise LoadError(
            "missing_array",
            f"The file lacks {' and '.join(missing)} (it holds {names}). Name the arrays inputs [N, …], "
            "targets [N] or [N, …] and, if you like, ids [N].",
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


def input_layout(source: Source) -> Layout:
    """Canonical inputs: uint8 images end in their channels, other images begin with them."""
    shape, kind = source.shape[1:], source.dtype.kind
    if kind not in "biuf" or source.dtype.itemsize > 8:
        raise _unsupported(source)
    if source.dtype == np.uint8:
        if len(shape) == 2:
            return Layout((*shape, 1), "uint8", "image")
        if len(shape) == 3 and shape[2] in CHANNELS:
            return Layout(shape, "uint8", "image")
        if len(shape) == 3 and shape[0] in CHANNELS:
            return Layout((*shape[1:], shape[0]), "uint8", "image", channels_first=True)
        return Layout(shape or (1,), "uint8")
    dtype = "int64" if kind in "iu" else "float32"
    image = dtype == "float32" and len(shape) == 3 and shape[0] in CHANNELS
    return Layout(shape or (1,), dtype, "image" if image else "array")


def target_layout(source: Source) -> Layout:
    """Canonical targets: integers and booleans are int64, a column of them [N, 1] a list of labels [N]."""
    shape, kind = source.shape[1:], source.dtype.kind
    if kind not in "biuf" or source.dtype.itemsize > 8:
        raise _unsupported(source)
    if kind == "f":
        return Layout(shape, "float32")
    return Layout(() if shape == (1,) else shape, "int64")


def _unsupported(source: Source) -> LoadError:
    return LoadError(
        "unsupported_dtype",
        f"{source.name} is of dtype {source.dtype}; allowed: {DTYPES}. Convert it, e.g. with "
        ".astype(np.float32).",
        [at(pointer(source.name), f"is of dtype {source.dtype}")],
    )


def _classes(labels: Layout, values: Range, path: Path) -> tuple[int | None, list[int] | None]:
    """(num_classes, class_counts) of canonical targets, each None where it makes no sense."""
    if labels.dtype != "int64" or labels.shape or values.minimum < 0 or values.maximum >= MOST_CLASSES:
        return None, None
    num_classes = int(values.maximum) + 1
    if num_classes > MOST_COUNTED:
        return num_classes, None
    counts = np.bincount(np.load(path, mmap_mode="r"), minlength=num_classes)
    return num_classes, counts.tolist()
