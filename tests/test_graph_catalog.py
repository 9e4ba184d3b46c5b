"""What was read of a graph, held against tasks."""

from __future__ import annotations

from typing import Any

import pytest

from app.catalog import OnnxConfig, Task

CLASSES = Task(type="classification", loss="cross_entropy")
TOKENS = Task(type="causal_lm", loss="cross_entropy")
NUMBERS = Task(type="regression", loss="mse")
PAIRS = Task(type="contrastive", loss="clip", group_size=4)


def config(outputs: list[list[int | None]], inputs: int = 1, second: str = "float32") -> OnnxConfig:
    def ports(shapes: list[list[int | None]], second: str = "float32") -> list[dict[str, Any]]:
        dtypes = ["float32", second, *["float32"] * len(shapes)]
        return [{"name": f"t{at}", "shape": shape, "dtype": dtypes[at]} for at, shape in enumerate(shapes)]

    told = {"operators": ["Gemm"], "opset": 20, "num_parameters": 1, "structure": "0"}
    return OnnxConfig.model_validate(
        told | {"inputs": ports([[None, 4]] * inputs, second), "outputs": ports(outputs)}
    )


@pytest.mark.parametrize(
    ("graph", "task", "words"),
    [
        (config([[None, 3]]), CLASSES, None),
        (config([[None]]), CLASSES, "num_classes"),
        (config([[None, 3]]), TOKENS, "vocabulary"),
        (config([[None, 8, 50]]), TOKENS, None),
        (config([[None]]), NUMBERS, None),
        (config([[None, 3], [None, 3]]), CLASSES, "one output"),
        (config([[None, 3]], inputs=2), CLASSES, "takes 2"),
        (config([[None, 3], [None, 3], []], 2, "int64"), PAIRS, None),
        (config([[None, 3], [None, 3], []], 2, "int64"), CLASSES, "one input"),
        (config([[None, 3], [None, 3], []], 2), PAIRS, "second input 't1' is float32"),
        (config([[None, 3], [None, 3], []]), PAIRS, "takes 1"),
        (config([[None, 3], [None, 3]], 2, "int64"), PAIRS, "gives 2"),
        (config([[None, 3], [None, 2], []], 2, "int64"), PAIRS, "gives any x 3, any x 2"),
        (config([[None, 3], [None, 3], [None]], 2, "int64"), PAIRS, "gives any x 3"),
    ],
)
def test_outputs_fit_the_task_or_it_is_said(graph: OnnxConfig, task: Task, words: str | None) -> None:
    wrong = graph.check_task(task)
    assert wrong is None if words is None else wrong is not None and words in wrong
