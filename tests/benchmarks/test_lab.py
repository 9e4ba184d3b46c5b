"""The benchmarks' ground truth is what an ordinary training loop gives."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from benchmarks.lab.bars import bar, bootstrap, table
from benchmarks.lab.data import MissingData, Problem, load
from benchmarks.lab.training import Recipe, Run, evenly, initial, leave_one_out, retrain, train
from worker.influence.task import Task

RECIPES = {
    "momentum, cosine, decay": Recipe(3, 7, 0.3, momentum=0.9, weight_decay=0.01, schedule="cosine"),
    "adam": Recipe(2, 8, 0.05, optimizer="adam", weight_decay=0.01),
    "adamw": Recipe(2, 8, 0.05, optimizer="adamw", weight_decay=0.1),
}
N, QUERIES = 30, 20


@pytest.fixture(autouse=True)
def empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield tmp_path
    torch.set_num_threads(threads)


@pytest.fixture
def problem() -> Problem:
    return load("digits", n=N, queries=QUERIES).to(torch.float64)


def network() -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 5), nn.Tanh(), nn.Linear(5, 10))


def run_of(problem: Problem, recipe: Recipe) -> Run:
    start = initial(network, 0)
    return train(Task(start.network, "cross_entropy"), start.params, start.buffers, problem, recipe, seed=3)


def by_hand(
    problem: Problem, recipe: Recipe, order: torch.Tensor, seed: int, without: int = -1
) -> torch.Tensor:
    """Query losses [Q] after an ordinary loop over torch's optimizer and scheduler."""
    torch.manual_seed(seed)
    model = network().double()
    params, rate, decay = list(model.parameters()), recipe.learning_rate, recipe.weight_decay
    optimizer: torch.optim.Optimizer
    if recipe.optimizer == "sgd":
        optimizer = torch.optim.SGD(params, rate, momentum=recipe.momentum, weight_decay=decay)
    elif recipe.optimizer == "adam":
        optimizer = torch.optim.Adam(params, rate, weight_decay=decay)
    else:
        optimizer = torch.optim.AdamW(params, rate, weight_decay=decay)
    cosine = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, len(order))
    for rows in order:
        batch = [row for row in rows.tolist() if row != -1]
        losses = nn.functional.cross_entropy(
            model(problem.inputs[batch]), problem.targets[batch], reduction="none"
        )
        kept = torch.tensor([row != without for row in batch])
        optimizer.zero_grad()
        torch.autograd.backward((losses * kept).sum() / len(batch))
        optimizer.step()
        if recipe.schedule == "cosine":
            cosine.step()
    return nn.functional.cross_entropy(
        model(problem.query_inputs), problem.query_targets, reduction="none"
    ).detach()


@pytest.mark.parametrize("recipe", RECIPES.values(), ids=RECIPES.keys())
def test_leave_one_out_is_an_ordinary_loop_without_the_sample(problem: Problem, recipe: Recipe) -> None:
    run = run_of(problem, recipe)
    truth = leave_one_out(run, [0, 11, 29], at_once=2)
    whole = by_hand(problem, recipe, run.order, seed=0).mean()
    expected = [whole - by_hand(problem, recipe, run.order, 0, without).mean() for without in (0, 11, 29)]
    assert truth.tolist() == pytest.approx([float(e) for e in expected], rel=1e-6)


@pytest.mark.parametrize("recipe", RECIPES.values(), ids=RECIPES.keys())
def test_subsets_are_trained_on_as_if_they_were_all_there_is(problem: Problem, recipe: Recipe) -> None:
    masks = torch.zeros(3, N, dtype=torch.bool)
    masks[0, :15] = masks[1, 15:] = masks[2, ::2] = True
    task = Task(initial(network, 0).network, "cross_entropy")
    losses = retrain(task, network, problem, recipe, masks, seeds=[4, 5, 6], at_once=2)
    for mask, seed, found in zip(masks, (4, 5, 6), losses, strict=True):
        rows = mask.nonzero().squeeze(1)
        order = recipe.order(15, seed)
        order = torch.where(order == -1, -1, rows[order])
        torch.testing.assert_close(found, by_hand(problem, recipe, order, seed), rtol=1e-9, atol=0)


def test_a_run_keeps_its_states_and_can_forget_some(problem: Problem) -> None:
    run = run_of(problem, RECIPES["momentum, cosine, decay"])
    every, few = run.trajectory, run.kept([0, 4, 15])
    assert every.schedule.steps == tuple(range(16))
    assert few.schedule.steps == (0, 4, 15)
    assert sum(few.schedule.learning_rates, ()) == sum(every.schedule.learning_rates, ()) == run.rates
    assert few.checkpoints[1].learning_rates == run.rates[:4]
    # with momentum the change of a step is -η times the buffer after it
    for (before, after), rate in zip(pairwise(every.checkpoints), run.rates, strict=True):
        moved = before.params["1.weight"] - rate * after.state["momentum_buffer"]["1.weight"]
        torch.testing.assert_close(after.params["1.weight"], moved)
    with pytest.raises(ValueError, match="Not all states"):
        run_of(problem, RECIPES["adam"]).kept([99])


def test_batches_are_those_of_torchs_loader() -> None:
    recipe = RECIPES["momentum, cosine, decay"]
    loader = DataLoader(
        TensorDataset(torch.arange(N)), 7, shuffle=True, generator=torch.Generator().manual_seed(5)
    )
    drawn = [batch.tolist() for _ in range(3) for [batch] in loader]
    assert [[row for row in rows if row != -1] for rows in recipe.order(N, 5).tolist()] == drawn


def test_ground_truth_is_kept_and_found_again_only_for_the_same_run(
    problem: Problem, empty_cache: Path
) -> None:
    run = run_of(problem, RECIPES["adam"])
    first = leave_one_out(run, [1, 2])
    files = list(empty_cache.rglob("*.pt"))
    assert torch.equal(first, leave_one_out(run, [1, 2]))
    assert list(empty_cache.rglob("*.pt")) == files
    leave_one_out(run_of(problem, RECIPES["adamw"]), [1, 2])
    assert len(list(empty_cache.rglob("*.pt"))) == len(files) + 1


@pytest.mark.parametrize("name", ["digits", "breast_cancer", "mnist", "adult", "trec", "cifar10"])
def test_data_sets_are_the_same_for_the_same_seed(name: str) -> None:
    def draw(seed: int) -> Problem:
        try:
            return load(name, n=40, queries=10, flips=0.2, seed=seed, noise="class")
        except MissingData as reason:
            pytest.skip(str(reason))

    one, again, other = draw(1), draw(1), draw(2)
    assert torch.equal(one.inputs, again.inputs) and torch.equal(one.targets, again.targets)
    assert not torch.equal(one.inputs, other.inputs)
    assert int(one.flipped.sum()) == 8
    assert torch.equal(one.targets[one.flipped], (one.clean[one.flipped] + 1) % one.num_classes)
    assert len(one.query_inputs) == len(one.query_targets) == 10
    if name == "trec":
        assert int(one.query_inputs.max()) < one.vocabulary and int(one.inputs.max()) == one.vocabulary - 1


def test_bars_and_tables_print_as_their_readers_expect(capsys: pytest.CaptureFixture[str]) -> None:
    assert bar("some.figure", 0.51234, 0.5) and not bar("some.time", 3, 2, at_least=False)
    assert not bar("some.nan", float("nan"), 0)
    lines = capsys.readouterr().out.splitlines()
    assert lines == [
        "bar: some.figure 0.5123 0.5 ok",
        "bar: some.time 3 2 short",
        "bar: some.nan nan 0 short",
    ]
    assert table([["a", "b"], [1, 2]]) == "| a | b |\n|---|---|\n| 1 | 2 |"
    low, high = bootstrap([0.0, 1.0, 2.0, 3.0])
    assert 0 < low < 1.5 < high < 3
    assert evenly(100, 4) == [25, 50, 75, 100]
