"""Puts together what an exporter took apart, so that a network costs what it costs as PyTorch: products with
transposed weights, biases, SiLU, group norm; attention and layouts in files of their own."""

from __future__ import annotations

from collections import Counter
from functools import partial

import torch
from torch.nn import functional as nnf

from worker.influence.networks.graph.fused_attention import fuse_attention
from worker.influence.networks.graph.indexing import select
from worker.influence.networks.graph.layout import (
    join_moves,
    moves_before_unbinding,
    moves_behind_products,
    unbind,
)
from worker.influence.networks.graph.planning import Draft, Step
from worker.influence.networks.graph.products import linear
from worker.influence.networks.graph.registry import positive
from worker.influence.networks.graph.rewriting import Makers, drop_unused, makers_of, uses_of


def fuse(draft: Draft) -> None:
    """Rewrites the draft's steps, in their order."""
    for step in draft.steps:
        _leave_out(draft, step)
        _special_case(draft, step)
    for rewrite in (_linear, _bias, _silu, _group_norm):
        makers, uses = makers_of(draft), uses_of(draft)
        for step in draft.steps:
            rewrite(draft, step, makers, uses)
        drop_unused(draft)
    fuse_attention(draft)
    unbind(draft)
    for change in (moves_before_unbinding, moves_behind_products):
        join_moves(draft)
        change(draft)
    join_moves(draft)


def _leave_out(draft: Draft, step: Step) -> None:
    """Biases of nothing but 0, and weights of nothing but 1."""
    if step.op in ("Conv", "ConvTranspose", "Gemm") and len(step.args) > 2:
        if draft.filled_with(step.args[2], 0.0):
            del step.args[2:]
    elif step.op == "InstanceNormalization":
        _, weight, bias = step.args
        if draft.filled_with(weight, 1.0) and draft.filled_with(bias, 0.0):
            step.args[1:] = ["", ""]


def _special_case(draft: Draft, step: Step) -> None:
    """Powers and indices that are known."""
    if step.op == "Pow" and step.args[1] in draft.known:
        for exponent, function in ((2.0, torch.square), (0.5, torch.sqrt)):
            if draft.known[step.args[1]].numel() == 1 and bool(draft.known[step.args[1]] == exponent):
                step.function, step.args = function, step.args[:1]
                return
    elif step.op == "Gather" and step.args[0] in draft.forms and step.args[1] in draft.known:
        if draft.known[step.args[1]].dim():
            return
        form = draft.forms[step.args[0]]
        axis = positive(step.attributes.get("axis", 0), form.dim())
        index = positive(int(draft.known[step.args[1]]), form.shape[axis])
        step.op, step.function, step.args = "Select", select, step.args[:1]
        step.attributes = {"index": index, "axis": axis}


def _linear(draft: Draft, step: Step, makers: Makers, uses: Counter[str]) -> None:
    """x Wᵀ, the transpose a step of its own, or said by an attribute."""
    if step.op == "Gemm" and _plain(draft, step):
        step.op, step.function, step.attributes = "Linear", linear, {}
    if step.op != "MatMul":
        return
    x, right = step.args
    maker = makers.get(right)
    if (
        maker is not None and maker.op == "Transpose" and draft.forms[right].dim() == 2
        and list(maker.attributes.get("perm", (1, 0))) == [1, 0]
    ):  # fmt: skip
        step.op, step.function, step.args = "Linear", linear, [x, maker.args[0]]


def _plain(draft: Draft, step: Step) -> bool:
    """Whether a Gemm is x Wᵀ + b with a vector b."""
    told = {"alpha": 1.0, "beta": 1.0, "transA": 0, "transB": 0} | step.attributes
    bias = step.args[2] if len(step.args) > 2 else ""
    form = draft.known.get(bias, draft.forms.get(bias))
    return told == {"alpha": 1.0, "beta": 1.0, "transA": 0, "transB": 1} and (form is None or form.dim() == 1)


def _bias(draft: Draft, step: Step, makers: Makers, uses: Counter[str]) -> None:
    """The sum of a product and a vector of its width."""
    if step.op != "Add":
        return
    for product, bias in (step.args, reversed(step.args)):
        maker = makers.get(product)
        form = draft.forms.get(bias)
        if (
            maker is not None and maker.op == "Linear" and len(maker.args) == 2 and uses[product] == 1
            and form is not None and form.shape == draft.forms[product].shape[-1:]
        ):  # fmt: skip
            step.op, step.function, step.args = "Linear", linear, [*maker.args, bias]
            return


def _silu(draft: Draft, step: Step, makers: Makers, uses: Counter[str]) -> None:
    """x σ(x)."""
    if step.op != "Mul":
        return
    for x, gate in (step.args, reversed(step.args)):
        maker = makers.get(gate)
        if maker is not None and maker.op == "Sigmoid" and maker.args == [x] and uses[gate] == 1:
            step.op, step.function, step.args = "Silu", nnf.silu, [x]
            return


def _group_norm(draft: Draft, step: Step, makers: Makers, uses: Counter[str]) -> None:
    """Groups put into a shape of their own, normalised, put back, scaled and shifted."""
    if step.op != "Add":
        return
    scaled = makers.get(step.args[0])
    if scaled is None or scaled.op != "Mul" or uses[step.args[0]] != 1:
        return
    back = makers.get(scaled.args[0])
    normed = makers.get(back.args[0]) if back is not None and back.op == "Reshape" else None
    apart = (
        makers.get(normed.args[0]) if normed is not None and normed.op == "InstanceNormalization" else None
    )
    if back is None or normed is None or apart is None or apart.op != "Reshape" or normed.args[1]:
        return
    x = draft.forms[apart.args[0]]
    weight, bias = (_per_channel(draft, makers, name) for name in (scaled.args[1], step.args[1]))
    if weight is None or bias is None or draft.forms[scaled.outputs[0]].shape != x.shape:
        return
    groups = draft.forms[apart.outputs[0]].shape[1]
    if any(uses[inner.outputs[0]] != 1 for inner in (back, normed, apart)) or x.shape[1] % groups:
        return
    step.op, step.args = "GroupNorm", [apart.args[0], weight, bias]
    step.function = partial(_grouped, groups=groups, epsilon=normed.attributes.get("epsilon", 1e-5))


def _per_channel(draft: Draft, makers: Makers, name: str) -> str | None:
    """The vector [C] that was made [C, 1, …]."""
    maker = makers.get(name)
    if maker is None or maker.op not in ("Unsqueeze", "Reshape"):
        return None
    before, after = draft.forms.get(maker.args[0]), draft.forms[name]
    if (
        before is None
        or before.dim() != 1
        or after.shape[0] != before.shape[0]
        or after.numel() != after.shape[0]
    ):
        return None
    return maker.args[0]


def _grouped(
    x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor, *, groups: int, epsilon: float
) -> torch.Tensor:
    return nnf.group_norm(x, groups, weight, bias, epsilon)
