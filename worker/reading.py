"""What was uploaded is opened behind a fence: `worker.loading`, one process a file, within bounds."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from app.settings import Settings
from app.store.full import disk_full
from worker import loading
from worker.fence import Bounds, BoundsError, Fence, Json
from worker.influence.networks import ExpectedTensors, TensorSpec
from worker.lease import Renewal
from worker.loading import Asked, GraphInfo, LoadError

MIB = 1024**2
MIB_A_TURN = 100  # of a file, for each of which a reader has `reader_seconds` once more
_fences: list[Fence] = []  # one, once the worker has begun


def begin() -> None:
    """Forks the fence off. To be called once, before the process has threads."""
    _fences.append(Fence(CALLS, prepare))


def dataset(
    settings: Settings, renewal: Renewal, path: Path, announced: str | None, out_dir: Path, asked: Asked
) -> Json:
    """`loading.load_dataset`, as a dictionary."""
    tokenizer = str(asked.tokenizer) if asked.tokenizer else None
    options = asdict(asked) | {"tokenizer": tokenizer}
    argument = {"announced": announced, "out": str(out_dir), "asked": options}
    return _read(settings, renewal, "dataset", path, argument)


def checkpoint(
    settings: Settings, renewal: Renewal, path: Path, expected: ExpectedTensors, out_path: Path
) -> Json:
    """`loading.load_checkpoint`, as a dictionary."""
    argument = {"expected": _as_json(expected), "out": str(out_path)}
    return _read(settings, renewal, "checkpoint", path, argument)


def optimizer_state(
    settings: Settings, renewal: Renewal, path: Path, expected: ExpectedTensors, out_path: Path
) -> list[str]:
    """`loading.load_optimizer_state`."""
    argument = {"expected": _as_json(expected), "out": str(out_path)}
    held: list[str] = _read(settings, renewal, "optimizer_state", path, argument)["held"]
    return held


def batch_order(settings: Settings, renewal: Renewal, path: Path, out_path: Path, scratch: Path) -> Json:
    """`loading.load_batch_order`, as a dictionary."""
    argument = {"out": str(out_path), "scratch": str(scratch)}
    return _read(settings, renewal, "batch_order", path, argument)


def graph(settings: Settings, renewal: Renewal, path: Path, out_path: Path) -> GraphInfo:
    """`loading.load_onnx`."""
    return GraphInfo(**_read(settings, renewal, "graph", path, {"out": str(out_path)}))


def bounds_of(settings: Settings, size: int) -> Bounds:
    """What reading a file of `size` bytes may take."""
    turns = 1 + size / MIB / MIB_A_TURN
    return Bounds(settings.reader_memory_bytes, settings.reader_seconds * turns)


def _read(settings: Settings, renewal: Renewal, call: str, path: Path, argument: Json) -> Json:
    bounds = bounds_of(settings, path.stat().st_size)
    try:
        found = _fences[0].call(call, {"path": str(path)} | argument, bounds, renewal.tick)
    except BoundsError as broken:
        raise LoadError("unsafe_file", _told(broken.why, bounds)) from broken
    except EOFError:
        os.kill(os.getpid(), signal.SIGTERM)  # another worker, with a fence of its own, takes over
        raise
    if "refused" in found:
        raise LoadError(**found["refused"])
    return found


def _told(why: str, bounds: Bounds) -> str:
    if why == "memory":
        return (
            f"Reading the file takes more than {bounds.memory // MIB:,} MiB of memory: make it smaller, or "
            "write it in smaller pieces (row groups, samples). DIFFIN_READER_MEMORY_BYTES is the bound."
        )
    if why == "time":
        return (
            f"Reading the file took more than {bounds.seconds:,.0f} s: make it smaller, or write it in "
            "another format. DIFFIN_READER_SECONDS is the bound, and again for each 100 MiB."
        )
    return (
        f"The file crashed its reader ({why}): it is damaged, or made to do harm. Write it again, with "
        "another library or in another format."
    )


# ---------------------------------------------------------------- behind the fence
def _refusing(load: Callable[[Json], Json]) -> Callable[[Json], Json]:
    def call(argument: Json) -> Json:
        try:
            return load(argument)
        except LoadError as refused:
            if disk_full(refused):
                raise  # it is not the file's fault
            told = {"code": refused.code, "detail": refused.detail, "errors": refused.errors}
            return {"refused": told}

    return call


def _dataset(given: Json) -> Json:
    asked = dict(given["asked"])
    asked["tokenizer"] = Path(asked["tokenizer"]) if asked["tokenizer"] else None
    asked["image_size"] = tuple(asked["image_size"]) if asked["image_size"] else None
    place = Path(given["path"]), given["announced"], Path(given["out"])
    return loading.load_dataset(*place, Asked(**asked)).as_dict()


def _checkpoint(given: Json) -> Json:
    place = Path(given["path"]), _expected(given["expected"]), Path(given["out"])
    return loading.load_checkpoint(*place).as_dict()


def _optimizer_state(given: Json) -> Json:
    place = Path(given["path"]), _expected(given["expected"]), Path(given["out"])
    return {"held": loading.load_optimizer_state(*place)}


def _batch_order(given: Json) -> Json:
    return loading.load_batch_order(Path(given["path"]), Path(given["out"]), Path(given["scratch"])).as_dict()


def _graph(given: Json) -> Json:
    return loading.load_onnx(Path(given["path"]), Path(given["out"])).as_dict()


def prepare() -> None:
    """Loads what torch loads for its first tensor without memory: a second, that each graph would take."""
    torch.relu(torch.empty(1, device="meta"))


CALLS: Mapping[str, Callable[[Json], Json]] = {
    "dataset": _refusing(_dataset),
    "checkpoint": _refusing(_checkpoint),
    "optimizer_state": _refusing(_optimizer_state),
    "batch_order": _refusing(_batch_order),
    "graph": _refusing(_graph),
}


def _as_json(expected: ExpectedTensors) -> Json:
    return expected._asdict() | {"tied": dict(expected.tied)}


def _expected(given: Json) -> ExpectedTensors:
    def specs(part: dict[str, Any]) -> dict[str, TensorSpec]:
        return {name: TensorSpec(tuple(shape), *rest) for name, (shape, *rest) in part.items()}

    return ExpectedTensors(specs(given["parameters"]), specs(given["buffers"]), given["tied"])
