"""Every model type that is listed: the losses of transformers' own model, and derivatives in all modes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn import functional as nnf

from app.catalog.language_models import FAMILIES
from tests.worker.hf.models import PAD, config, original, saved, sentences
from worker.hf.build import build
from worker.influence.directional import directional_derivative, hvp, mixed
from worker.influence.gradients import rows_of, sample_gradients
from worker.influence.networks import expected_tensors
from worker.influence.next_token import left_out
from worker.influence.task import Task, Tensors
from worker.influence.trajectory import Arrays, Checkpoint

LABELS = torch.tensor([0, 2, 1])
CPU = torch.device("cpu")
EVERYDAY = {("bert", "classification"), ("llama", "classification"), ("gpt2", "causal_lm")}
CASES = [
    pytest.param(name, task, marks=[] if (name, task) in EVERYDAY else pytest.mark.slow)
    for task in ("classification", "causal_lm")
    for name, family in FAMILIES.items()
    if family.causal or task == "classification"
]


def losses_of(model: Any, ids: torch.Tensor, task: str) -> torch.Tensor:
    """Of each sample by itself, cut to its length: without padding, masks or batches."""
    rows = [row[row != PAD][None] for row in ids]
    if task == "causal_lm":
        told = [(model(input_ids=row).logits[0, :-1], row[0, 1:]) for row in rows]
        return torch.stack([nnf.cross_entropy(logits, following) for logits, following in told])
    logits = torch.cat([model(input_ids=row).logits for row in rows])
    return nnf.cross_entropy(logits, LABELS, reduction="none")


def flat(vector: Tensors) -> torch.Tensor:
    return torch.cat([part.flatten() for part in vector.values()])


def directions(like: Tensors, seed: int) -> Tensors:
    """At random; 0 for the embedding of padding, which torch gives no gradient."""
    torch.manual_seed(seed)
    found = {name: torch.randn_like(part) for name, part in like.items()}
    for name, part in found.items():
        if "embed" in name or "wte" in name:
            part[PAD] = 0
    return found


def gradients(values: torch.Tensor, parameters: list[torch.Tensor], **how: Any) -> torch.Tensor:
    """[B, P] of each of `values` [B], by reverse mode."""
    return torch.stack(
        [
            torch.cat([part.flatten() for part in found])
            for value in values
            for found in [torch.autograd.grad(value, parameters, materialize_grads=True, **how)]
        ]
    )


def close(found: torch.Tensor, expected: torch.Tensor) -> bool:
    """To 1e-5 of the largest, since models take the softmax of attention in float32."""
    return bool((found - expected).abs().max() <= 1e-5 * expected.abs().max())


@pytest.mark.parametrize(("model_type", "task_type"), CASES)
def test_a_model_has_the_losses_and_all_derivatives_of_its_original(
    model_type: str, task_type: str, tmp_path: Path
) -> None:
    model, ids = original(model_type, task_type), sentences(count=3)
    network = build(model_type, config(model_type), task_type, CPU)
    held = saved(model, tmp_path)
    assert held.keys() == expected_tensors(network).parameters.keys()
    params = {name: held[name] for name, _ in network.named_parameters()}
    u, v = directions(params, 1), directions(params, 2)
    causal = task_type == "causal_lm"
    task, point = Task(network, "next_token" if causal else "cross_entropy"), Checkpoint(1, (), params, {})
    targets = left_out(ids, ids, PAD) if causal else LABELS

    own = dict(model.named_parameters())
    inner = [own[name if name in own else "lm_head.weight"] for name in params]  # gpt_neox renames that
    truth = losses_of(model, ids, task_type)
    of_each = gradients(truth, inner, create_graph=True)
    along = of_each @ flat(u)
    curved = gradients(along, inner, retain_graph=True)  # H_z u of each sample
    truth, of_each, along = truth.detach(), of_each.detach(), along.detach()

    found = directional_derivative(task, point, ids, targets, u)
    assert close(found.losses, truth) and close(found.derivatives, along)
    assert close(sample_gradients(task, point, ids, targets, rows_of), of_each)
    assert close(flat(hvp(task, point, Arrays(ids, targets), u, chunk=2)), curved.mean(0))
    assert close(mixed(task, point, ids, targets, u, v).derivatives, curved @ flat(v))
