"""Steps of training against torch's own loop; the rates of each schedule; batch norm without its batch."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy
from torch.optim import lr_scheduler

from app.catalog import Recipe
from worker.influence.errors import DivergedError
from worker.influence.networks import build
from worker.influence.order import loader_order
from worker.influence.task import Task
from worker.influence.training import State, batch_norms, ensure_trained, settle_batch_norms, steps
from worker.influence.trajectory import Arrays, Schedule

N, BATCH, TOTAL = 23, 5, 12
OPTIMIZERS: dict[str, tuple[dict[str, Any], type[torch.optim.Optimizer], dict[str, Any]]] = {
    "sgd": ({}, torch.optim.SGD, {}),
    "momentum": (
        {"momentum": 0.9, "weight_decay": 0.01},
        torch.optim.SGD,
        {"momentum": 0.9, "weight_decay": 0.01},
    ),
    "adam": ({"optimizer": "adam", "weight_decay": 0.01}, torch.optim.Adam, {"weight_decay": 0.01}),
    "adamw": (
        {"optimizer": "adamw", "weight_decay": 0.1, "decoupled": True},
        torch.optim.AdamW,
        {"weight_decay": 0.1},
    ),
}


def task_and_data(dtype: torch.dtype = torch.float32) -> tuple[Task, Arrays]:
    torch.manual_seed(0)
    task = Task(nn.Sequential(nn.Linear(6, 8), nn.GELU(), nn.Linear(8, 3)).to(dtype), "cross_entropy")
    return task, Arrays(torch.randn(N, 6, dtype=dtype), torch.randint(0, 3, (N,)))


def schedule_of(rates: tuple[float, ...], **how: Any) -> Schedule:
    return Schedule((len(rates),), (rates,), len(rates), N, **how)


@pytest.mark.parametrize(("how", "kind", "given"), OPTIMIZERS.values(), ids=OPTIMIZERS)
def test_steps_are_those_of_torchs_own_loop_bit_for_bit(
    how: dict[str, Any], kind: type[torch.optim.Optimizer], given: dict[str, Any]
) -> None:
    task, data = task_and_data()
    rates = tuple(0.05 / (1 + t) for t in range(TOTAL))
    order = loader_order(N, BATCH, TOTAL, seed=3)
    start = {name: p.detach().clone() for name, p in task.network.named_parameters()}
    state, losses = State(start, {}), []
    for begin, end in ((0, 5), (5, TOTAL)):  # as two units of work do
        for done in steps(task, schedule_of(rates, **how), order, data, state, {}, begin, end):
            state = done.state
            losses.append(done.loss)
    optimizer = kind(task.network.parameters(), lr=1.0, **given)  # type: ignore[call-arg]
    for t, rate in enumerate(rates):
        rows = order[t][order[t] >= 0]
        optimizer.param_groups[0]["lr"] = rate
        optimizer.zero_grad()
        loss = cross_entropy(task.network(data.inputs[rows]), data.targets[rows])
        torch.autograd.backward(loss)
        optimizer.step()
        torch.testing.assert_close(losses[t], loss.detach())
    for name, p in task.network.named_parameters():
        assert torch.equal(state.params[name], p)
        assert not torch.equal(start[name], p)


def test_training_that_diverges_names_its_step() -> None:
    task, data = task_and_data()
    schedule = schedule_of((1e30,) * TOTAL)
    start = State({name: p.detach() for name, p in task.network.named_parameters()}, {})
    done = list(steps(task, schedule, loader_order(N, BATCH, TOTAL, seed=3), data, start, {}, 0, TOTAL))
    losses = torch.stack([one.loss for one in done])
    first = int((~torch.isfinite(losses)).nonzero()[0, 0])
    with pytest.raises(DivergedError) as found:
        ensure_trained(losses[1:], done[-1].state, 1)
    assert found.value.step == first > 0
    with pytest.raises(
        DivergedError
    ) as found:  # a last step whose loss was finite, and whose weights are not
        ensure_trained(torch.zeros(2), done[-1].state, 7)
    assert found.value.step == 9
    ensure_trained(losses[:1], done[0].state, 0)


@pytest.mark.parametrize(
    ("schedule", "reference"),
    [
        ({"name": "constant", "learning_rate": 0.3}, lambda o: lr_scheduler.ConstantLR(o, factor=1)),
        (
            {"name": "cosine", "learning_rate": 0.3, "min_learning_rate": 0.1},
            lambda o: lr_scheduler.CosineAnnealingLR(o, TOTAL, 0.1),
        ),
        (
            {"name": "linear", "learning_rate": 0.3, "min_learning_rate": 0.15},
            lambda o: lr_scheduler.LinearLR(o, 1, 0.5, TOTAL),
        ),
        (
            {"name": "step", "learning_rate": 0.3, "step_size": 5, "gamma": 0.5},
            lambda o: lr_scheduler.StepLR(o, 5, 0.5),
        ),
    ],
    ids=["constant", "cosine", "linear", "step"],
)
def test_rates_are_those_of_torchs_schedulers(schedule: dict[str, Any], reference: Any) -> None:
    recipe = Recipe.model_validate({"schedule": schedule, "batch_size": BATCH, "total_steps": TOTAL})
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.3)
    scheduler, wanted = reference(optimizer), []
    for _ in range(TOTAL):
        wanted.append(scheduler.get_last_lr()[0])
        optimizer.step()
        scheduler.step()
    assert recipe.rates(TOTAL) == pytest.approx(wanted, rel=1e-12)


def test_a_warm_up_rises_to_the_rate_and_the_rest_falls_from_it() -> None:
    schedule = {"name": "linear", "learning_rate": 0.4, "warmup_steps": 4}
    recipe = Recipe.model_validate({"schedule": schedule, "batch_size": BATCH, "epochs": 1})
    assert recipe.rates(8) == pytest.approx([0.1, 0.2, 0.3, 0.4, 0.4, 0.3, 0.2, 0.1])
    assert recipe.rates(3) == pytest.approx([0.1, 0.2, 0.3])  # all of it warm-up


def test_a_recipe_counts_its_steps() -> None:
    def counted(**how: Any) -> int:
        return Recipe.model_validate({"batch_size": 5, **how}).steps(N)

    assert (counted(epochs=2), counted(epochs=2, drop_last=True), counted(total_steps=7)) == (10, 8, 7)
    assert Recipe(batch_size=24, epochs=3, drop_last=True).steps(N) == 0
    assert Recipe(batch_size=24, total_steps=3, drop_last=True).steps(N) == 0


def test_batch_norm_is_settled_once_and_a_sample_no_longer_depends_on_its_batch() -> None:
    torch.manual_seed(0)
    network = build("cnn", {"in_channels": 2, "num_classes": 3, "channels": [4, 6], "norm": "batch"})
    inputs = torch.randn(32, 2, 8, 8) * 3 + 1
    momenta = [layer.momentum for layer in batch_norms(network)]
    settle_batch_norms(network, inputs)
    first = batch_norms(network)[0]
    seen = network.get_submodule("convs.0")(inputs)
    assert first.running_mean is not None and first.running_var is not None
    torch.testing.assert_close(first.running_mean, seen.mean((0, 2, 3)))
    torch.testing.assert_close(first.running_var, seen.var((0, 2, 3)))
    assert not any(module.training for module in network.modules())
    assert [layer.momentum for layer in batch_norms(network)] == momenta
    torch.testing.assert_close(network(inputs)[:4], network(inputs[:4]))
