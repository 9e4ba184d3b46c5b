"""A model's graph (ONNX), exported without disturbing its training: data for the service, no code."""

from __future__ import annotations

import contextlib
import io
import json
import logging
import warnings
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from diffin.models import Json

METADATA = "diffin"
MOST_BYTES = 2**31 - 1  # of a protobuf message
NOISY = ("torch", "torch.onnx", "torch.onnx._internal.exporter._registration", "torch.export", "torch.fx",
         "torch.fx.experimental.symbolic_shapes", "torch._dynamo", "onnxscript", "onnx_ir")  # fmt: skip
ADVICE = {
    "data-dependent": "its forward pass decides by the values of tensors (an `if` or a loop over them, "
    ".item(), boolean indexing): compute both sides and choose with torch.where",
    "static shape": "its forward pass fixes the number of samples: write x.shape[0] or -1 in reshape and "
    "expand, not the batch size of the loop",
    "No ONNX function found": "the exporter knows no ONNX operator for it: write it with simpler functions "
    "of torch",
}


class ExportError(ValueError):
    """The model's graph can't be exported; the message says why, and how to mend it."""


def unwrapped_module(model: nn.Module) -> nn.Module:
    """The network inside DataParallel, DistributedDataParallel and torch.compile."""
    while True:
        inner = getattr(model, "_orig_mod", None)
        if inner is None and isinstance(model, nn.DataParallel | nn.parallel.DistributedDataParallel):
            inner = model.module
        if not isinstance(inner, nn.Module):
            return model
        model = inner


def trained_names(model: nn.Module, optimizer: torch.optim.Optimizer | None) -> list[str]:
    """The parameters that training changes: those of the optimizer, where it is known, with a gradient."""
    ours = None if optimizer is None else {id(p) for g in optimizer.param_groups for p in g["params"]}
    return [
        name
        for name, parameter in unwrapped_module(model).named_parameters()
        if parameter.requires_grad and (ours is None or id(parameter) in ours)
    ]


def export_graph(
    model: nn.Module, example_inputs: Tensor | Collection[Tensor], path: Path, trained: Collection[str]
) -> None:
    """Writes the graph of the model in evaluation mode, for batches of any size, to `path`.

    Modes, buffers and the state of the random number generators are afterwards as they were.

    Args:
        example_inputs: what the model is called with, a few samples of it.
        trained: names of its parameters that training changes; the others are told as buffers.

    Raises:
        ExportError: the model has no graph, or one that the service can't score by.
    """
    inner = unwrapped_module(model)
    inputs = _inputs(example_inputs)
    with _undisturbed(inner, inputs), _silent():
        try:
            program = torch.onnx.export(
                inner,
                inputs,
                dynamo=True,
                optimize=False,
                verbose=False,
                dynamic_shapes=tuple({0: torch.export.Dim.DYNAMIC} for _ in inputs),
            )
            proto: Any = None if program is None else program.model_proto
        except ImportError as missing:
            raise ExportError(f"{missing}: exporting needs `pip install 'diffin[recorder]'`") from missing
        except Exception as failed:
            raise ExportError(_words(inner, failed)) from failed
    if proto is None or not proto.graph.node:
        raise ExportError(f"{type(inner).__name__} computes nothing that torch.onnx.export sees")
    if len(inputs) == 1 and len(proto.graph.output) > 1:
        raise ExportError(
            f"{type(inner).__name__} returns {len(proto.graph.output)} tensors: give the Recorder a module "
            "that returns the outputs alone (the logits, say)"
        )
    roles = _roles(inner, trained, {tensor.name for tensor in proto.graph.initializer})
    if not set(roles["parameters"]) - roles["unused"].keys():
        raise ExportError(f"no output of {type(inner).__name__} depends on a parameter that is trained")
    told = proto.metadata_props.add()
    told.key, told.value = METADATA, json.dumps(roles)
    if proto.ByteSize() > MOST_BYTES:
        raise ExportError(
            f"the graph of {type(inner).__name__} has {proto.ByteSize():,} bytes; {MOST_BYTES:,} at most"
        )
    fresh = path.with_name(f"{path.name}.part")
    fresh.write_bytes(proto.SerializeToString())
    fresh.replace(path)


def _inputs(example_inputs: Tensor | Collection[Tensor]) -> tuple[Tensor, ...]:
    """Two samples or more: of one the exporter would take it that there is never another number."""
    given = (example_inputs,) if isinstance(example_inputs, Tensor) else tuple(example_inputs)
    if not given or not all(isinstance(one, Tensor) and one.dim() and len(one) for one in given):
        raise ExportError(
            "example_inputs must be a tensor of some samples, or a tuple of them as the model takes them, "
            "each with the batch as its first axis: x[:2]"
        )
    return tuple((one if len(one) > 1 else torch.cat([one, one])).detach() for one in given)


def _roles(model: nn.Module, trained: Collection[str], held: Collection[str]) -> Json:
    """What the graph alone does not tell: {parameters, buffers, tied, unused}, names as in the state_dict."""
    first = {id(parameter): name for name, parameter in model.named_parameters()}
    every = dict(model.named_parameters(remove_duplicate=False))
    tied = {
        name: first[id(p)] for name, p in every.items() if first[id(p)] != name and first[id(p)] in trained
    }
    state = {name: value for name, value in model.state_dict().items() if isinstance(value, Tensor)}
    names = [name for name in state if name not in tied]
    there = {*held, *(tied[name] for name in held if name in tied)}
    return {
        "parameters": [name for name in names if name in trained],
        "buffers": [name for name in names if name not in trained],
        "tied": tied,
        "unused": {name: _form(state[name]) for name in names if name not in there},
    }


def _form(value: Tensor) -> Json:
    return {"dtype": str(value.dtype).removeprefix("torch."), "shape": list(value.shape)}


@contextlib.contextmanager
def _undisturbed(model: nn.Module, inputs: tuple[Tensor, ...]) -> Iterator[None]:
    """Evaluation mode, without a gradient, until the end of the block; then everything is as it was."""
    modes = {module: module.training for module in model.modules()}
    buffers = [(buffer, buffer.detach().clone()) for buffer in model.buffers()]
    devices = sorted({one.device.index or 0 for one in inputs if one.is_cuda})
    try:
        with torch.random.fork_rng(devices), torch.no_grad():
            for module in modes:
                module.training = False
            yield
    finally:
        for module, mode in modes.items():
            module.training = mode
        with torch.no_grad():
            for buffer, value in buffers:
                if not torch.equal(buffer, value):
                    buffer.copy_(value)


@contextlib.contextmanager
def _silent() -> Iterator[None]:
    """Without what the exporter logs, prints and warns of."""
    levels = {name: logging.getLogger(name).level for name in NOISY}
    try:
        for name in levels:
            logging.getLogger(name).setLevel(logging.CRITICAL + 1)
        with (
            warnings.catch_warnings(),
            contextlib.redirect_stdout(io.StringIO()),
            contextlib.redirect_stderr(io.StringIO()),
        ):
            warnings.simplefilter("ignore")
            yield
    finally:
        for name, level in levels.items():
            logging.getLogger(name).setLevel(level)


def _words(model: nn.Module, failed: Exception) -> str:
    """What kept the exporter, in the words of its first cause, and what to do about it."""
    cause: BaseException = failed
    while cause.__cause__ is not None:
        cause = cause.__cause__
    text = str(cause)
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    where = [line for line in lines if line.startswith("File ")][-1:]
    advice = next((words for sign, words in ADVICE.items() if sign in text), None)
    told = " ".join([*lines[:2], *where])[:600] or type(cause).__name__
    return (
        f"the graph of {type(model).__name__} can't be exported: {told}. "
        + (f"Most likely {advice}. " if advice else "")
        + "Try it alone with torch.onnx.export(model.eval(), (example_inputs,), dynamo=True, "
        "optimize=False), or give the architecture= of a registered network with the same tensors."
    )
