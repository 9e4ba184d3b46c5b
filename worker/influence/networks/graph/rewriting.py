"""What all rewriting of a draft needs: who makes a value, who asks for it, and how one is put for another."""

from __future__ import annotations

from collections import Counter

from worker.influence.networks.graph.moves import Move
from worker.influence.networks.graph.planning import Draft, Step
from worker.influence.networks.graph.registry import Tensor, positive

Makers = dict[str, Step]


def makers_of(draft: Draft) -> Makers:
    return {name: step for step in draft.steps for name in step.outputs if name}


def uses_of(draft: Draft) -> Counter[str]:
    return Counter([*(name for step in draft.steps for name in step.args), *draft.outputs])


def drop_unused(draft: Draft) -> None:
    """Leaves out the steps of which nothing is asked."""
    needed = set(draft.outputs)
    kept = []
    for step in reversed(draft.steps):
        if needed.intersection(step.outputs):
            needed.update(step.args)
            kept.append(step)
    draft.steps[:] = reversed(kept)


def move_of(draft: Draft, step: Step | None) -> Move | None:
    """The step as a move, where it is one."""
    if step is None:
        return None
    if isinstance(step.function, Move):
        return step.function
    x = draft.forms.get(step.args[0]) if step.args else None
    if not isinstance(x, Tensor) or not x.numel():
        return None
    if step.op in ("Reshape", "Flatten", "Squeeze", "Unsqueeze"):
        return Move.reshape(x.shape, draft.forms[step.outputs[0]].shape)
    if step.op == "Transpose":
        order = step.attributes.get("perm") or range(x.dim())[::-1]
        return Move.transpose(x.shape, [positive(axis, x.dim()) for axis in order])
    return None


def add_move(draft: Draft, source: str, move: Move, name: str) -> Step:
    """A step, not in the draft yet, that makes `name`."""
    draft.forms[name] = move(draft.forms[source])
    return Step("Move", move, [source], (name,))
