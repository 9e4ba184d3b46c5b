"""Rewrites how values are laid out: chains of moves as one, slices that are all asked for at once, moves
behind the products that they need not come before."""

from __future__ import annotations

from collections import defaultdict

import torch

from worker.influence.networks.graph.indexing import select
from worker.influence.networks.graph.moves import Move
from worker.influence.networks.graph.planning import Draft, Step
from worker.influence.networks.graph.registry import Tensor, positive
from worker.influence.networks.graph.rewriting import (
    add_move,
    drop_unused,
    makers_of,
    move_of,
    uses_of,
)


def join_moves(draft: Draft) -> None:
    """Each move from as far back as it can be told as one; those that do nothing are left out."""
    makers = makers_of(draft)
    same: dict[str, str] = {}
    for step in draft.steps:
        step.args = [same.get(name, name) for name in step.args]
        move = move_of(draft, step)
        if move is None:
            continue
        source = step.args[0]
        before = move_of(draft, makers.get(source))
        joined = before.then(move) if before is not None else None
        if joined is not None:
            move, source = joined, makers[source].args[0]
        step.op, step.function, step.args, step.attributes = "Move", move, [source], {}
        if move.nothing:
            same[step.outputs[0]] = source
    draft.outputs = tuple(same.get(name, name) for name in draft.outputs)
    drop_unused(draft)


def unbind(draft: Draft) -> None:
    """Pieces of equal size, and slices that together are the whole, by one call."""
    _pieces(draft)
    _single_slices(draft)
    groups: dict[tuple[str, int], dict[int, Step]] = defaultdict(dict)
    for step in draft.steps:
        if step.op == "Select":
            groups[step.args[0], step.attributes["axis"]][step.attributes["index"]] = step
    for (source, axis), slices in groups.items():
        form = draft.forms[source]
        if len(slices) == form.shape[axis] > 1 and form.numel():
            outputs = tuple(slices[i].outputs[0] for i in sorted(slices))
            at = next(i for i, step in enumerate(draft.steps) if step in slices.values())
            steps = _unbound(draft, source, axis, outputs)
            draft.steps[at:at] = steps
            gone = {id(step) for step in slices.values()}
            draft.steps[:] = [step for step in draft.steps if id(step) not in gone]


def _pieces(draft: Draft) -> None:
    """Split, and a sequence of pieces of which each is asked for by its number."""
    askers: dict[str, list[Step]] = defaultdict(list)
    for step in draft.steps:
        for name in step.args:
            askers[name].append(step)
    for i, step in reversed(list(enumerate(draft.steps))):
        if step.op == "Split":
            outputs, gone = step.outputs, {id(step)}
        elif step.op == "SplitToSequence" and step.attributes.get("keepdims", 1):
            asking = askers[step.outputs[0]]
            if step.outputs[0] in draft.outputs or any(a.op != "SequenceAt" for a in asking):
                continue
            by_number = {draft.known[a.args[1]]: a.outputs[0] for a in asking}
            count = len(draft.forms[step.outputs[0]])
            if len(by_number) != len(asking) or any(not 0 <= n < count for n in by_number):
                continue
            outputs = tuple(by_number.get(n, "") for n in range(count))
            gone = {id(a) for a in (step, *asking)}
        else:
            continue
        x = draft.forms.get(step.args[0])
        if not isinstance(x, Tensor) or not x.numel():
            continue
        axis, count = positive(step.attributes.get("axis", 0), x.dim()), len(outputs)
        pieces = [draft.forms.get(name) for name in outputs if name]  # None beyond those that there are
        sizes = {piece.shape[axis] if isinstance(piece, Tensor) else None for piece in pieces}
        if count < 2 or sizes != {x.shape[axis] / count}:
            continue
        apart = (*x.shape[:axis], count, x.shape[axis] // count, *x.shape[axis + 1 :])
        cut = add_move(
            draft, step.args[0], Move.reshape(x.shape, apart), f"{step.args[0]}\ncut for {step.outputs[0]}"
        )
        draft.steps[i:i] = [cut, *_unbound(draft, cut.outputs[0], axis, outputs)]
        draft.steps[:] = [other for other in draft.steps if id(other) not in gone]


def _single_slices(draft: Draft) -> None:
    """x[i : i + 1] along one axis is x[i] with that axis put back."""
    for at, step in reversed(list(enumerate(draft.steps))):
        if step.op != "Slice" or step.args[0] in draft.known or len(draft.known[step.args[1]]) != 1:
            continue
        x, made = draft.forms[step.args[0]], draft.forms[step.outputs[0]]
        told: list[list[int] | None] = [draft.known[name] for name in step.args[1:]]
        start, end, axes, steps = (
            found or [default] for found, default in zip([*told, None, None][:4], (0, 0, 0, 1), strict=True)
        )
        axis = positive(axes[0], x.dim())
        taken = range(x.shape[axis])[start[0] : end[0] : steps[0]]
        if len(taken) != 1 or x.shape[axis] == 1 or not x.numel():
            continue
        name = f"{step.outputs[0]}\nalone"
        draft.forms[name] = made.select(axis, 0)
        one = Step("Select", select, step.args[:1], (name,), {"index": taken[0], "axis": axis})
        back = Move.reshape(draft.forms[name].shape, made.shape)
        draft.steps[at : at + 1] = [one, Step("Move", back, [name], step.outputs)]


def _unbound(draft: Draft, source: str, axis: int, outputs: tuple[str, ...]) -> list[Step]:
    """`axis` put first, and then each slice along it."""
    shape = draft.forms[source].shape
    name = f"{source}\nmoved for {next(filter(None, outputs))}"
    order = [axis, *(k for k in range(len(shape)) if k != axis)]
    first = add_move(draft, source, Move.transpose(shape, order), name)
    return [first, Step("Unbind", torch.unbind, [name], outputs, many=True)]


def moves_before_unbinding(draft: Draft) -> None:
    """Slices that are all moved alike are moved before they are taken apart."""
    makers, uses = makers_of(draft), uses_of(draft)
    movers = {step.args[0]: step for step in draft.steps if step.op == "Move"}
    for i, step in reversed(list(enumerate(draft.steps))):
        if step.op != "Unbind" or any(uses[name] != 1 or name not in movers for name in step.outputs):
            continue
        after = [movers[name] for name in step.outputs]
        moves = {mover.function for mover in after if isinstance(mover.function, Move)}
        if len(moves) > 1:
            continue
        [alike] = moves
        before = makers[step.args[0]]
        lifted = alike.below(len(after))
        name = f"{step.args[0]}\nlifted"
        moved = add_move(draft, before.outputs[0], lifted, name)
        step.args, step.outputs = [name], tuple(mover.outputs[0] for mover in after)
        draft.steps.insert(i, moved)
        gone = {id(mover) for mover in after}
        draft.steps[:] = [other for other in draft.steps if id(other) not in gone]


def moves_behind_products(draft: Draft) -> None:
    """linear(move(x)) = move(linear(x)), where the rows alone are moved and what follows moves them, too."""
    makers, uses = makers_of(draft), uses_of(draft)
    moved_on = {step.args[0] for step in draft.steps if step.op == "Move"}
    for i, step in reversed(list(enumerate(draft.steps))):
        if step.op != "Linear" or uses[step.outputs[0]] != 1 or step.outputs[0] not in moved_on:
            continue
        before = makers.get(step.args[0])
        if before is None or not isinstance(before.function, Move):
            continue
        width = draft.forms[step.outputs[0]].shape[-1]
        halves = before.function.around_the_last(width)
        if halves is None:
            continue
        first, later = halves
        name, product = f"{step.outputs[0]}\nin rows", f"{step.outputs[0]}\nof rows"
        early = add_move(draft, before.args[0], first, name)
        draft.forms[product] = torch.empty(
            (*first.shape[:-1], width), dtype=draft.forms[name].dtype, device="meta"
        )
        late = Step("Move", later, [product], step.outputs)
        step.args[0], step.outputs = name, (product,)
        draft.steps[i : i + 1] = [early, step, late]
    drop_unused(draft)
