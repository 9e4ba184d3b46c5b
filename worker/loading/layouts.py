"""The canonical form of an array, by its shape and type as they were sent."""

from __future__ import annotations

import numpy as np

from worker.loading.canonical import Layout
from worker.loading.errors import LoadError, at, pointer, quoted
from worker.loading.source import Source

CHANNELS = (1, 3, 4)
DTYPES = "bool, int8 to int64, uint8 to uint64, float16, float32, float64 (and bfloat16 in safetensors)"


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


def token_layout(source: Source) -> Layout:
    """Token ids [L] as the targets of a causal language model: they stay a list, one token long as well."""
    shape, kind = source.shape[1:], source.dtype.kind
    if kind not in "iu" or len(shape) != 1:
        raise LoadError(
            "missing_array",
            f"{quoted(source.name)!r} holds no lists of token ids, which alone need no targets: name the "
            'column of the targets, e.g. columns: {"targets": "label"}.',
            [at("/columns/targets", "is missing")],
        )
    return Layout(shape, "int64")


def _unsupported(source: Source) -> LoadError:
    return LoadError(
        "unsupported_dtype",
        f"{source.name} is of dtype {source.dtype}; allowed: {DTYPES}. Convert it, e.g. with "
        ".astype(np.float32).",
        [at(pointer(source.name), f"is of dtype {source.dtype}")],
    )
