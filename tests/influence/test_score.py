"""A job in one process, in blocks, and with numbers that are none."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from tests.influence.conftest import Run
from worker.influence.errors import NonFiniteError
from worker.influence.methods import METHODS
from worker.influence.score import score, score_rows
from worker.influence.task import Task, Tensors
from worker.influence.trajectory import Arrays


@pytest.mark.parametrize("name", METHODS)
def test_blocks_on_any_machine_give_the_bits_of_one_pass(run: Run, name: str) -> None:
    method, carry = METHODS[name], None
    whole = run.score(name, chunk=3)
    for k in (2, 1, 0):
        vectors: dict[str, Tensors] = {}
        at = (run.task, run.trajectory, k)
        if method.sweep is not None:
            swept = method.sweep(*at, run.train, run.query, carry, seed=0, chunk=3, options={})
            vectors, carry = swept.vectors, swept.carry
        assert (carry is not None) == method.chained
        for rows in (range(6, 13), range(6)):
            block = score_rows(method, *at, vectors, run.train, rows, chunk=3, options={})
            assert torch.equal(block.contribution, whole.contributions[k, rows.start : rows.stop])
            assert torch.equal(block.loss, whole.losses[k, rows.start : rows.stop])


def test_a_chained_sweep_wants_its_carry(one_run: Run) -> None:
    sweep = METHODS["diff_in"].sweep
    assert sweep is not None
    at = (one_run.task, one_run.trajectory, 0, one_run.train, one_run.query)
    with pytest.raises(ValueError, match="carry of the one at checkpoint 1"):
        sweep(*at, None, seed=0, chunk=4, options={})


def spoilt(run: Run, row: int) -> Run:
    inputs = run.train.inputs.clone()
    inputs[row, 0] = float("nan")
    return replace(run, train=Arrays(inputs, run.train.targets))


@pytest.mark.parametrize("method", ["tracin", "loss"])
def test_a_nan_names_its_sample_and_checkpoint(one_run: Run, method: str) -> None:
    with pytest.raises(NonFiniteError, match="step 10, sample 11") as caught:
        spoilt(one_run, 11).score(method, chunk=4)
    assert (caught.value.step, caught.value.row) == (10, 11)


@pytest.mark.parametrize("method", ["diff_in", "diff_in_eq9"])
def test_a_nan_in_what_all_samples_share_names_the_checkpoint(one_run: Run, method: str) -> None:
    with pytest.raises(NonFiniteError, match="step 10") as caught:
        spoilt(one_run, 11).score(method, batch_size=13)
    assert caught.value.row is None


def test_weights_that_are_infinite_are_told(one_run: Run) -> None:
    last = one_run.checkpoints[-1]
    params = {name: torch.full_like(tensor, float("inf")) for name, tensor in last.params.items()}
    broken = replace(one_run, checkpoints=[*one_run.checkpoints[:-1], replace(last, params=params)])
    for method in METHODS:
        with pytest.raises(NonFiniteError, match="step 10"):
            broken.score(method)


@pytest.mark.parametrize("method", ["diff_in", "diff_in_eq9", "tracin"])
def test_a_method_that_needs_a_query_set_says_so(one_run: Run, method: str) -> None:
    assert METHODS[method].needs_query
    for query in (None, Arrays(one_run.query.inputs[:0], one_run.query.targets[:0])):
        with pytest.raises(ValueError, match="query set"):
            score(method, one_run.task, one_run.trajectory, one_run.train, query)


def test_self_influence_and_loss_need_no_query_set(one_run: Run) -> None:
    at = (one_run.task, one_run.trajectory, one_run.train)
    assert len(score("diff_in_eq9", *at, options={"target": "self"}).scores) == 13
    assert len(score("loss", *at).scores) == 13


def test_an_unknown_method_is_refused(one_run: Run) -> None:
    with pytest.raises(ValueError, match="astrology"):
        one_run.score("astrology")


def test_nothing_to_score_is_refused(one_run: Run) -> None:
    empty = Arrays(one_run.train.inputs[:0], one_run.train.targets[:0])
    with pytest.raises(ValueError, match="at least one"):
        replace(one_run, train=empty).score("loss")


def test_a_checkpoint_before_the_first_step_counts_for_nothing(one_run: Run) -> None:
    start = replace(one_run.checkpoints[0], step=0, learning_rates=())
    known = one_run.schedule
    schedule = replace(known, steps=(0, *known.steps), learning_rates=((), *known.learning_rates))
    longer = replace(one_run, checkpoints=[start, *one_run.checkpoints], schedule=schedule)
    end: dict[str, Any] = {"checkpoint_position": "end"}  # in the middle it would share the first steps
    for method, options in (("diff_in", end), ("diff_in_eq9", dict[str, Any]()), ("tracin", {})):
        assert longer.score(method, **options).contributions[0].abs().max() == 0
    for method, options in (("diff_in", end), ("tracin", dict[str, Any]())):
        scores = longer.score(method, **options).scores
        assert torch.allclose(scores, one_run.score(method, **options).scores)


def test_dropout_is_off(one_run: Run) -> None:
    network = torch.nn.Sequential(*one_run.task.network.children(), torch.nn.Dropout(0.9)).train()
    noisy = replace(one_run, task=Task(network, "cross_entropy"))
    assert torch.equal(noisy.score("tracin").scores, one_run.score("tracin").scores)
