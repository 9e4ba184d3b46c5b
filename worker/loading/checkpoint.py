"""Accepts a checkpoint: every tensor the network expects, by name, shape and dtype, and no other."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from math import prod
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np

from worker.influence.networks import ExpectedTensors, TensorSpec
from worker.loading.errors import LoadError, at, pointer, quoted
from worker.loading.kinds import kind_of
from worker.loading.source import BLOCK_BYTES, Block, ranges
from worker.loading.tensors import Tensor, read_tensors, values, write_tensors

PREFIXES = ("module.", "_orig_mod.", "model.", "network.", "net.")
SHOWN_NAMES = 5
MOST = float(np.finfo(np.float32).max)


@dataclass(frozen=True)
class CheckpointInfo:
    """`dtype` is that of all floating tensors: float64 where the file has any, else float32; `parameters` are
    the names of those that were trained, `shapes` their shapes."""

    num_tensors: int
    num_parameters: int
    dtype: str
    parameters: list[str]
    shapes: list[list[int]]

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def load_checkpoint(path: Path, expected: ExpectedTensors, out_path: Path) -> CheckpointInfo:
    """Accepts the safetensors file in `path` and writes it to `out_path` in canonical form.

    Canonical tensors are float32 or float64 (half precision becomes float32) or int64, parameters first, then
    buffers; a `num_batches_tracked` the file lacks is 0. Of a tied tensor the file may hold any of the names.

    Args:
        path: a stranger's file.
        expected: the network's tensors, from `worker.influence.networks.expected_tensors`.
        out_path: where to write; nothing is left there if the file is refused.

    Raises:
        LoadError: the file is refused; `errors` names every missing, extra and misshapen tensor, and every
            one with values that are not finite, or would not be in float32.
    """
    specs = {**expected.parameters, **expected.buffers}
    kept = accept(path, lambda tensors: specs, out_path, CHECKPOINT, tied=expected.tied)
    trained = expected.parameters
    return CheckpointInfo(
        num_tensors=len(specs),
        num_parameters=sum(prod(spec.shape) for spec in trained.values()),
        dtype=kept,
        parameters=list(trained),
        shapes=[list(spec.shape) for spec in trained.values()],
    )


class Kind(NamedTuple):
    """What a file of tensors is, and how one is written."""

    noun: str
    written: str
    hint: str
    diverged: str


CHECKPOINT = Kind(
    "checkpoint",
    "safetensors.torch.save_file(model.state_dict(), 'checkpoint.safetensors')",
    "Save the whole model.state_dict() of a network of this config, under its own names.",
    "training had diverged by then. Use a checkpoint from before.",
)


def accept(
    path: Path,
    expected: Callable[[Mapping[str, Tensor]], Mapping[str, TensorSpec]],
    out_path: Path,
    kind: Kind,
    check: Callable[[str, Block], None] = lambda name, block: None,
    tied: Mapping[str, str] = MappingProxyType({}),
) -> str:
    """Accepts the safetensors file in `path` and writes it to `out_path` in canonical form.

    Args:
        expected: the tensors that a file which holds these ones must hold.
        check: raises LoadError for values that a tensor may not have, infinite ones apart.
        tied: further names of tensors, each with the one that is expected.

    Returns:
        The dtype of all floating tensors.

    Raises:
        LoadError: the file is refused; nothing is left at `out_path`.
    """
    found = kind_of(path)
    if found in ("a zip archive", "a pickle"):
        raise LoadError(
            "unsafe_file",
            f"The {kind.noun} is {found}, as torch.save writes it, and loading one can run code. Convert it: "
            f"{kind.written}.",
        )
    if found != "a safetensors file":
        raise LoadError(
            "corrupt_file",
            f"The {kind.noun} is {found}, no safetensors file, or damaged. Write it with {kind.written}.",
        )
    tensors = _untied(path, read_tensors(path), tied, kind)
    specs = expected(tensors)
    tensors = {name: tensor for name, tensor in tensors.items() if not _useless(name, specs)}
    _check(tensors, specs, kind)
    kept = "float64" if any(tensor.dtype == "F64" for tensor in tensors.values()) else "float32"
    target = {
        name: (kept if spec.dtype.startswith("float") else "int64", spec.shape)
        for name, spec in specs.items()
    }
    try:
        write_tensors(out_path, target, _blocks(path, tensors, specs, kind, check))
    except BaseException:
        out_path.unlink(missing_ok=True)
        raise
    return kept


def _untied(
    path: Path, tensors: Mapping[str, Tensor], tied: Mapping[str, str], kind: Kind
) -> dict[str, Tensor]:
    """The tensors with those that are tied under the name that is expected, once."""
    kept = {name: tensor for name, tensor in tensors.items() if name not in tied}
    for name, expected in tied.items():
        if name in tensors and not _same(path, tensors[name], kept.setdefault(expected, tensors[name])):
            raise LoadError(
                "invalid_checkpoint",
                f"The {kind.noun} has other values in {quoted(name)} than in {quoted(expected)}; the network "
                "has one tensor in both places (they are tied).",
                [at(pointer(name), f"differs from {quoted(expected)}")],
            )
    return kept


def _same(path: Path, one: Tensor, other: Tensor) -> bool:
    """Whether both hold the same values; bits are compared, NaN is refused elsewhere."""
    if (one.dtype, one.shape) != (other.dtype, other.shape):
        return False
    return one.start == other.start or all(
        np.array_equal(values(path, one, *part), values(path, other, *part), equal_nan=True)
        for part in ranges(prod(one.shape), BLOCK_BYTES // 8)
    )


def _useless(name: str, specs: Mapping[str, TensorSpec]) -> bool:
    """Whether it is BatchNorm's count of batches, which an exported graph has lost: nothing reads it."""
    norm, _, leaf = name.rpartition(".")
    return leaf == "num_batches_tracked" and name not in specs and f"{norm}.running_mean" in specs


def _check(tensors: Mapping[str, Tensor], specs: Mapping[str, TensorSpec], kind: Kind) -> None:
    missing = [name for name, spec in specs.items() if name not in tensors and not spec.optional]
    extra = [name for name in tensors if name not in specs]
    misfits = {
        name: why for name in specs if name in tensors and (why := _misfit(tensors[name], specs[name]))
    }
    if not (missing or extra or misfits):
        return
    told = [
        _told(what, list(names))
        for what, names in (
            ("missing", missing),
            ("not expected", extra),
            ("misfitting", [f"{name} {why}" for name, why in misfits.items()]),
        )
        if names
    ]
    raise LoadError(
        "invalid_checkpoint",
        f"The {kind.noun}'s tensors do not fit the network: {'; '.join(told)}. {_hint(missing, extra, kind)}",
        [
            *(at(pointer(name), f"is missing: expected {_shown(specs[name])}") for name in missing),
            *(at(pointer(name), "is not a tensor of this network") for name in extra),
            *(at(pointer(name), why) for name, why in misfits.items()),
        ],
    )


def _told(what: str, names: list[str]) -> str:
    more = ", …" if len(names) > SHOWN_NAMES else ""
    return f"{len(names)} {what} ({', '.join(map(quoted, names[:SHOWN_NAMES]))}{more})"


def _misfit(tensor: Tensor, spec: TensorSpec) -> str | None:
    if tensor.shape != spec.shape:
        return f"has shape {list(tensor.shape)}: expected {list(spec.shape)}"
    if tensor.floating != spec.dtype.startswith("float"):
        return f"is of dtype {tensor.dtype}: expected {spec.dtype}"
    return None


def _shown(spec: TensorSpec) -> str:
    return f"{spec.dtype} {list(spec.shape)}"


def _hint(missing: list[str], extra: list[str], kind: Kind) -> str:
    for prefix in PREFIXES:
        if extra and missing and {prefix + name for name in missing} <= set(extra):
            return f"Its names begin with '{prefix}': save the state_dict of the network inside the wrapper."
    return kind.hint


def _blocks(
    path: Path,
    tensors: Mapping[str, Tensor],
    specs: Mapping[str, TensorSpec],
    kind: Kind,
    check: Callable[[str, Block], None],
) -> Iterator[tuple[str, Block]]:
    """Each tensor's values, a few mebibytes at a time; ends with an error if any were not finite, or are not
    once they are brought to float32, which all is computed in."""
    broken: dict[str, int] = {}
    beyond: dict[str, int] = {}
    for name, spec in specs.items():
        if name not in tensors:
            yield name, np.zeros(spec.shape, np.int64)
            continue
        for start, count in ranges(prod(spec.shape), BLOCK_BYTES // 8):
            block = values(path, tensors[name], start, count)
            wrong = block.size - int(np.isfinite(block).sum())
            if wrong:
                broken[name] = broken.get(name, 0) + wrong
            elif tensors[name].dtype == "F64" and (large := int((np.abs(block) > MOST).sum())):
                beyond[name] = beyond.get(name, 0) + large
            check(name, block)
            yield name, block
    if broken:
        names = ", ".join(list(broken)[:SHOWN_NAMES])
        raise LoadError(
            "non_finite",
            f"The {kind.noun} has NaN or infinite values in {names}: {kind.diverged}",
            [at(pointer(name), f"has {count} NaN or infinite values") for name, count in broken.items()],
        )
    if beyond:
        names = ", ".join(list(beyond)[:SHOWN_NAMES])
        raise LoadError(
            "out_of_range",
            f"The {kind.noun} has values beyond float32 ({MOST:.2g}) in {names}, and all is computed in "
            f"float32: {kind.diverged}",
            [at(pointer(name), f"has {count} values beyond float32") for name, count in beyond.items()],
        )
