"""Which of a graph's tensors were trained, which are buffers, and which are constants."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import prod
from typing import Any

from onnx import ModelProto, TensorProto

from worker.influence.networks.graph import Node
from worker.loading.errors import LoadError, quoted
from worker.loading.onnx_tensors import DTYPES, Form, form_of

METADATA = "diffin"
STATE_NAME = re.compile(r"\w+(\.\w+)*")
EXPORTERS_OWN = re.compile(r"val_\d+|(c_)?_?(lifted_)?_?tensor_(constant_?)?\d*|_?lifted_tensor_\w*")
COUNTER = "num_batches_tracked"
MOST_ABSENT = 1 << 28


@dataclass(frozen=True)
class Roles:
    """Names of parameters and buffers in the order of the state_dict, where it is known.

    Attributes:
        tied: names that are another parameter.
        absent: those of them that the graph does not hold: no output depends on them.
    """

    parameters: Sequence[str]
    buffers: Sequence[str]
    tied: Mapping[str, str] = field(default_factory=dict)
    absent: Mapping[str, Form] = field(default_factory=dict)


def roles_of(model: ModelProto, nodes: Sequence[Node], initializers: Mapping[str, TensorProto]) -> Roles:
    """By what the recorder wrote into the model's metadata under "diffin", else by names and uses.

    The recorder's is JSON:

        {"parameters": [name], "buffers": [name], "tied": {name: parameter},
         "unused": {name: {"dtype", "shape"}}}   of those that the graph does not hold

    Without, floating initializers with names as in a state_dict are parameters, but for the running
    statistics of BatchNormalization, which are buffers.
    """
    told = next((entry.value for entry in model.metadata_props if entry.key == METADATA), None)
    return _guessed(nodes, initializers) if told is None else _told(told, initializers)


def renamed(
    nodes: tuple[Node, ...], initializers: Mapping[str, TensorProto], roles: Roles
) -> tuple[tuple[Node, ...], dict[str, TensorProto]]:
    """Both with the parameters' names in place of those tied to them: an exporter keeps any one of them."""
    tensors = dict(initializers)
    for name, parameter in roles.tied.items():
        if name in tensors:
            tensors.setdefault(parameter, tensors.pop(name))
    return tuple(
        replace(node, inputs=tuple(roles.tied.get(name, name) for name in node.inputs)) for node in nodes
    ), tensors


def _guessed(nodes: Sequence[Node], initializers: Mapping[str, TensorProto]) -> Roles:
    statistics = dict.fromkeys(
        name for node in nodes if node.op == "BatchNormalization" for name in node.inputs[3:5]
        if name in initializers and STATE_NAME.fullmatch(name)
    )  # fmt: skip
    trained = [
        name
        for name, tensor in initializers.items()
        if name not in statistics
        and form_of(name, tensor).floating
        and STATE_NAME.fullmatch(name)
        and not EXPORTERS_OWN.fullmatch(name)
    ]
    counters = {
        name.removesuffix("running_mean") + COUNTER: Form("int64", ())
        for name in statistics
        if name.endswith("running_mean")
    }
    return Roles(trained, [*statistics, *counters], absent=counters)


def _told(text: str, initializers: Mapping[str, TensorProto]) -> Roles:
    try:
        told = json.loads(text)
        parameters, buffers = _names(told.get("parameters", [])), _names(told.get("buffers", []))
        tied = {str(name): str(other) for name, other in told.get("tied", {}).items()}
        unused = {str(name): _form(entry) for name, entry in told.get("unused", {}).items()}
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as broken:
        raise _unfit(f"it can't be read ({quoted(repr(broken))})") from broken
    if not set(tied.values()) <= set(parameters) - set(tied):
        raise _unfit("tied names must be tied to parameters that are not tied themselves")
    parameters, buffers = [n for n in parameters if n not in tied], [n for n in buffers if n not in tied]
    there = {*initializers, *(tied[name] for name in tied if name in initializers)}
    absent = {}
    for name in (*parameters, *buffers):
        if name not in there:
            absent[name] = Form("int64", ()) if name.endswith(COUNTER) else unused.get(name)
    lacking = [name for name, form in absent.items() if form is None]
    if lacking or (twice := set(parameters) & set(buffers)):
        raise _unfit(
            f"{', '.join(map(quoted, (lacking or sorted(twice))[:5]))} must be in the graph, or in 'unused' "
            "with dtype and shape, and be a parameter or a buffer"
        )
    found = {name: form for name, form in absent.items() if form is not None}
    if sum(prod(form.shape) for form in found.values()) > MOST_ABSENT:
        raise _unfit(f"what the graph does not hold may have {MOST_ABSENT} values at most")
    return Roles(parameters, buffers, tied, found)


def _names(listed: Any) -> list[str]:
    if not isinstance(listed, list) or not all(isinstance(name, str) for name in listed):
        raise TypeError("names must be a list of texts")
    return list(dict.fromkeys(listed))


def _form(entry: Any) -> Form:
    dtype, shape = entry["dtype"], entry["shape"]
    if dtype not in DTYPES.values() or not all(type(n) is int and 0 <= n < 2**31 for n in shape):
        raise ValueError("a dtype or shape of no tensor")
    return Form(dtype, tuple(shape))


def _unfit(why: str) -> LoadError:
    return LoadError(
        "corrupt_file", f"The graph's metadata entry {METADATA!r} does not tell its tensors' roles: {why}."
    )
