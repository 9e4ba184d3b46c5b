"""Whose fault a failure is: the user's, who can mend what was sent, or the service's, whose operator can."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from app.store import sweeper
from app.store.tables import Work
from worker import problems
from worker.problems import StoreAwayError, UserError

ROOT = Path(__file__).parents[2]
RAISED = {"UserError", "LoadError"}  # both say that the input is at fault
SERVICE: dict[str, dict[str, Any]] = {
    "internal_error": problems.failed("block", ZeroDivisionError("…")),
    "insufficient_storage": problems.no_room("block"),
    "store_away": problems.store_away("fetch", StoreAwayError("…")),
    "worker_out_of_memory": problems.no_memory("block"),
    "worker_lost": sweeper._lost(Work(kind="block", failures=2)),
}
USER = [
    "base_required",
    "batch_too_large",
    "corrupt_file",
    "dataset_too_large",
    "diverged",
    "empty_file",
    "external_data",
    "fixed_batch",
    "graph_too_large",
    "invalid_architecture",
    "invalid_checkpoint",
    "invalid_graph",
    "invalid_ids",
    "invalid_name",
    "invalid_tokenizer",
    "label_out_of_range",
    "missing_array",
    "missing_value",
    "mixed_samples",
    "no_classes",
    "no_parameters",
    "non_finite",
    "not_trainable",
    "nothing_left",
    "option_not_used",
    "out_of_memory",
    "out_of_range",
    "padding_required",
    "payload_too_large",
    "quota_exceeded",
    "sample_too_large",
    "shape_mismatch",
    "source_changed",
    "source_forbidden",
    "source_not_found",
    "source_refused",
    "tokenizer_required",
    "too_many_values",
    "too_much_memory",
    "unknown_array",
    "unknown_format",
    "unlike",
    "unsafe_file",
    "unsupported_attribute",
    "unsupported_dtype",
    "unsupported_graph",
    "unsupported_operator",
    "unsupported_opset",
    "uri_not_allowed",
]


def codes() -> Iterator[tuple[str, str]]:
    """(who raises or makes it, the code) of every failure whose code stands in the source."""
    for file in (*ROOT.glob("worker/**/*.py"), *ROOT.glob("app/store/*.py")):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.args:
                first = node.args[0]
                if isinstance(first, ast.Constant) and isinstance(first.value, str):
                    yield node.func.id, first.value


def test_every_failure_that_exists_is_on_one_side() -> None:
    found = set(codes())
    assert sorted({code for name, code in found if name in RAISED}) == sorted(USER)
    service = {code for name, code in found if name == "problem"} | {"worker_lost"}
    assert service == set(SERVICE), "a failure that is not the user's has its own words"
    assert not set(USER) & set(SERVICE)


@pytest.mark.parametrize("code", USER)
def test_what_was_sent_is_the_users(code: str) -> None:
    problem = UserError(code, "why, and how to mend it").problem
    assert (problem["code"], problem["fault"], problem["status"]) == (code, "user", 422)


@pytest.mark.parametrize("code", SERVICE)
def test_what_broke_is_the_services_and_says_what_to_do(code: str) -> None:
    problem = SERVICE[code]
    assert (problem["code"], problem["fault"], problem["status"]) == (code, "service", 500)
    assert problem["title"] and problem["type"].endswith(f"/{code}")
    assert any(words in problem["detail"] for words in ("operator", "logs"))


def test_no_trace_leaves_the_logs() -> None:
    trace = 'Traceback (most recent call last):\n  File "/srv/worker/fence.py", line 9, in call\nKeyError: 4'
    told = problems.failed("validate", RuntimeError(trace))["detail"]
    assert "KeyError: 4" in told and "/srv" not in told and "Traceback" not in told
