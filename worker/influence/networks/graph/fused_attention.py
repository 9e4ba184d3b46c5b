"""Finds attention that an exporter took apart: softmax(c · q kᵀ + mask) v, back as torch's one function."""

from __future__ import annotations

from collections import Counter

import torch
from torch.nn import functional as nnf

from worker.influence.networks.graph.moves import Move
from worker.influence.networks.graph.planning import Draft, Step
from worker.influence.networks.graph.registry import Tensor
from worker.influence.networks.graph.rewriting import Makers, add_move, drop_unused, makers_of, uses_of


def fuse_attention(draft: Draft) -> None:
    makers, uses = makers_of(draft), uses_of(draft)
    for i, step in reversed(list(enumerate(draft.steps))):
        found = _parts(draft, step, makers, uses)
        if found is None:
            continue
        q, turned, v, mask, scale = found
        shape = draft.forms[turned].shape
        last = len(shape) - 1
        back = Move.transpose(shape, [*range(last - 1), last, last - 1])
        k = add_move(draft, turned, back, f"{step.outputs[0]}\nkeys")
        step.op, step.function, step.attributes = "Attention", attend, {"scale": scale}
        step.args = [q, k.outputs[0], v, *([mask] if mask else [])]
        draft.steps.insert(i, k)
    drop_unused(draft)


def attend(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None, *, scale: float) -> Tensor:
    """[B, …, L, d] of q [B, …, L, d], k and v [B, …, S, d]; `mask` is added to the products [B, …, L, S]."""
    return nnf.scaled_dot_product_attention(q, k, v, mask, scale=scale)


def _parts(
    draft: Draft, step: Step, makers: Makers, uses: Counter[str]
) -> tuple[str, str, str, str, float] | None:
    """(q, kᵀ, v, mask or "", c) where the step is the last product of attention."""

    def inner(name: str, op: str) -> Step | None:
        """The step that makes `name` for this alone, by `op`."""
        maker = makers.get(name)
        return maker if maker is not None and maker.op == op and uses[name] == 1 else None

    def unscaled(name: str) -> tuple[str, float]:
        """(x, c) of c · x."""
        for op in ("Mul", "Div"):
            maker = inner(name, op)
            factor = None if maker is None else _number(draft, maker.args[1])
            if maker is not None and factor and maker.args[0] in draft.forms:
                return maker.args[0], factor if op == "Mul" else 1 / factor
        return name, 1.0

    if step.op != "MatMul":
        return None
    chances = inner(step.args[0], "Softmax")
    if chances is None or chances.attributes.get("axis", -1) not in (
        -1,
        _dimensions(draft, step.args[0]) - 1,
    ):
        return None
    masking = inner(chances.args[0], "Add")
    sums = [chances.args[0]] if masking is None else [*masking.args]
    if len(sums) > 1 and inner(unscaled(sums[0])[0], "MatMul") is None:
        sums.reverse()
    mask = sums[1] if len(sums) > 1 else ""
    scaled, outer = unscaled(sums[0])
    product = inner(scaled, "MatMul")
    if product is None:
        return None
    (q, first), (turned, second) = map(unscaled, product.args)
    v = step.args[1]
    if any(name not in draft.forms for name in (q, turned, v)):
        return None
    shapes = [draft.forms[name].shape for name in (q, turned, v)]
    if len(shapes[0]) < 3 or len({shape[:-2] for shape in shapes}) > 1 or not draft.forms[turned].numel():
        return None
    if mask and (mask in draft.known) == (mask in draft.forms):
        return None
    return q, turned, v, mask, outer * first * second


def _number(draft: Draft, name: str) -> float | None:
    value = draft.known.get(name)
    if isinstance(value, torch.Tensor) and value.numel() == 1 and value.dim() <= 1:
        return float(value)
    return None


def _dimensions(draft: Draft, name: str) -> int:
    return draft.forms[name].dim() if name in draft.forms else 0
