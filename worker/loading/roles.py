"""Which columns of a table are a sample's inputs, its target and its id."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from worker.loading.asked import Asked
from worker.loading.errors import LoadError, at, quoted
from worker.loading.table import Table

TARGETS = ("targets", "target", "labels", "label", "class", "y")
IDS = ("ids", "id", "sample_id")
TEXTS = ("text", "sentence", "content")
INDEX = "__index_level_"  # of a pandas frame, written along
SHOWN = 20


class Roles(NamedTuple):
    """`together`: the inputs were named as a list, and make a table whatever their number."""

    inputs: tuple[str, ...]
    together: bool
    targets: str | None
    id: str | None


def roles(table: Table, asked: Asked) -> Roles:
    """As asked; else as in the data set that this one is like; else as the format or the names have it.

    Without a word: `targets`, `target`, `labels`, `label`, `class` or `y` holds the targets, `ids`, `id` or
    `sample_id` the ids, and all other columns are the inputs; with a tokenizer, the column `text`.

    Raises:
        LoadError: a column that is named is not there, or there is nothing to take for the inputs.
    """
    like = (asked.like or {}).get("columns") or {}
    told: dict[str, Any] = {**table.roles, **like, **_given(asked.columns)}
    targets = told["targets"] if "targets" in told else _first(table.names, TARGETS)
    sample_id = (
        told["id"] if asked.columns.get("id") else _kept(told.get("id"), table) or _first(table.names, IDS)
    )
    inputs = told.get("inputs")
    if inputs is None:
        inputs = _other(table, (targets, sample_id), text=asked.tokenizer is not None)
    together = not isinstance(inputs, str)
    chosen = Roles((inputs,) if isinstance(inputs, str) else tuple(inputs), together, targets, sample_id)
    _check(table.names, chosen)
    return chosen


def _given(columns: Mapping[str, Any]) -> dict[str, Any]:
    return {role: name for role, name in columns.items() if role in ("inputs", "targets", "id")}


def _kept(name: Any, table: Table) -> str | None:
    """A column that another data set has for its ids; this one may have none."""
    return name if name in table.names else None


def _first(names: Sequence[str], wanted: Sequence[str]) -> str | None:
    by_case = {name.lower(): name for name in reversed(names)}
    return next((by_case[name] for name in wanted if name in by_case), None)


def _other(table: Table, taken: Sequence[str | None], *, text: bool) -> str | list[str]:
    left = [name for name in table.names if name not in taken and not name.startswith(INDEX)]
    if text and (name := _first(left, TEXTS)):
        return name
    if len(left) == 1:
        return left[0]
    return left


def _check(names: Sequence[str], chosen: Roles) -> None:
    there, known = _list(names), set(names)
    named = {"inputs": chosen.inputs, "targets": (chosen.targets,), "id": (chosen.id,)}
    errors = [
        at(f"/columns/{role}", f"there is no column {quoted(name)!r}")
        for role, wanted in named.items()
        for name in wanted
        if name is not None and name not in known
    ]
    if errors:
        missing = errors[0]["detail"].removeprefix("there is no column ")
        raise LoadError(
            "missing_array", f"The file has no column {missing}; its columns are {there}.", errors
        )
    if not chosen.inputs:
        raise LoadError(
            "missing_array",
            f"Beside targets and id the file has no columns to be the inputs; its columns are {there}.",
            [at("/columns/inputs", "is missing")],
        )
    every = [name for name in (*chosen.inputs, chosen.targets, chosen.id) if name is not None]
    if not chosen.together and chosen.targets == chosen.inputs[0]:
        every.remove(chosen.inputs[0])  # a text may be what a language model is to tell
    if len(set(every)) < len(every):
        raise LoadError(
            "unknown_array", "columns names a column twice: a column is an input, the target, or the id."
        )


def no_targets(table: Table) -> LoadError:
    return LoadError(
        "missing_array",
        'No column is named as the targets: send columns, e.g. {"targets": "label"}. The file has '
        f"{_list(table.names)}.",
        [at("/columns/targets", "is missing")],
    )


def _list(names: Sequence[str]) -> str:
    return ", ".join(quoted(name) for name in names[:SHOWN]) + (", …" if len(names) > SHOWN else "")
