"""The loss of a causal language model, against its definition token by token."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.func import jvp

from worker.influence.directional import directional_derivative
from worker.influence.methods import METHODS
from worker.influence.next_token import LEFT_OUT, left_out
from worker.influence.per_query import PER_QUERY
from worker.influence.score import score, score_queries
from worker.influence.task import Task, Tensors
from worker.influence.trajectory import Arrays, Checkpoint, Schedule, Trajectory

VOCABULARY, PAD = 40, 0


class Bigrams(nn.Module):
    """The next token told from the last one and the mean of those so far."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding, self.head = nn.Embedding(VOCABULARY, 6), nn.Linear(6, VOCABULARY)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        x = self.embedding(tokens)
        so_far = torch.ones(tokens.shape[1], tokens.shape[1], dtype=x.dtype).tril()
        mean = so_far / so_far.sum(1, keepdim=True)
        logits: torch.Tensor = self.head(torch.tanh(x + mean @ x))
        return logits


def texts(seed: int, count: int = 9) -> Arrays:
    generator = torch.Generator().manual_seed(seed)
    inputs = torch.randint(1, VOCABULARY, (count, 30), generator=generator)
    for row in range(count):
        inputs[row, 30 - 3 * row :] = PAD
    return Arrays(inputs, left_out(inputs, inputs, PAD))


@pytest.fixture
def task() -> Task:
    return Task(Bigrams(), "next_token")


def state(seed: int) -> Tensors:
    torch.manual_seed(seed)
    return {name: t.detach() for name, t in Bigrams().double().named_parameters()}


def by_hand(logits: torch.Tensor, tokens: torch.Tensor) -> tuple[float, float, float]:
    """(mean loss, share told right, mean error) over one text's tokens [L], PAD left out; logits [L, V]."""
    length = int((tokens != PAD).sum())
    losses, right, errors = [], [], []
    for t in range(length - 1):
        chances, following = logits[t].softmax(0), tokens[t + 1]
        losses.append(-chances[following].log())
        right.append(float(chances.argmax() == following))
        errors.append((chances - nn.functional.one_hot(following, VOCABULARY)).norm())
    n = max(1, length - 1)
    return float(sum(losses)) / n, sum(right) / n, float(sum(errors)) / n


def test_a_samples_loss_is_the_mean_over_its_own_tokens(task: Task) -> None:
    data, params = texts(0), state(0)
    outputs = task.outputs(params, {}, data.inputs)
    outputs[0].scatter_(1, data.inputs[0].roll(-1)[:, None], 9.0)  # so that this one is told right
    expected = [by_hand(*one) for one in zip(outputs, data.inputs, strict=True)]
    losses, right, _ = (list(column) for column in zip(*expected, strict=True))
    assert task.losses_of(outputs, data.targets).tolist() == pytest.approx(losses, rel=1e-12)
    assert task.predictions(outputs, data.targets).tolist() == pytest.approx(right)
    found = METHODS["el2n"].score_chunk(
        task, Trajectory([Checkpoint(1, (0.1,), params, {})], Schedule((1,), ((0.1,),), None, 9)), 0, {},
        data.inputs, data.targets, range(9), options={},
    )  # fmt: skip
    plain = [by_hand(*one)[2] for one in zip(task.outputs(params, {}, data.inputs), data.inputs, strict=True)]
    assert found.contribution.tolist() == pytest.approx(plain, rel=1e-9) and max(right) == 1


def test_a_text_without_a_token_to_tell_has_no_loss_and_no_influence(task: Task) -> None:
    inputs = torch.tensor([[7, PAD, PAD], [PAD, PAD, PAD], [7, 8, PAD]])
    targets = left_out(inputs, inputs, PAD)
    point = Checkpoint(1, (), state(0), {})
    found = directional_derivative(task, point, inputs, targets, state(1))
    assert found.losses[:2].tolist() == found.derivatives[:2].tolist() == [0, 0]
    assert found.losses[2] != 0 != found.derivatives[2]


def test_targets_that_say_so_are_left_out(task: Task) -> None:
    data, params = texts(0), state(0)
    prompt = data.targets.clone()
    prompt[:, :3] = -1  # whatever is negative
    targets = left_out(data.inputs, prompt, PAD)
    assert (targets[:, :3] == LEFT_OUT).all()
    answers = torch.stack(
        [
            torch.nn.functional.cross_entropy(out[2:-1], told[3:], ignore_index=LEFT_OUT)
            for out, told in zip(task.outputs(params, {}, data.inputs[:8]), targets, strict=False)
        ]
    )
    assert torch.allclose(task.losses(params, {}, data.inputs, targets)[:8], answers)


def test_dual_numbers_go_through_it(task: Task) -> None:
    data, params, along = texts(0), state(0), state(1)
    found = directional_derivative(task, Checkpoint(1, (), params, {}), data.inputs, data.targets, along)
    plain = jvp(lambda p: task.losses(p, {}, data.inputs, data.targets), (params,), (along,))[1]
    assert torch.allclose(found.derivatives, plain, rtol=1e-10)


@pytest.mark.parametrize("name", METHODS)
def test_every_method_takes_it_and_padding_changes_nothing(task: Task, name: str) -> None:
    checkpoints = [Checkpoint(step, (0.1,) * 2, state(step), {}) for step in (2, 4)]
    trajectory = Trajectory(checkpoints, Schedule((2, 4), ((0.1,) * 2,) * 2, None, 9))
    train, query = texts(0), texts(1, 4)

    def padded(data: Arrays) -> Arrays:
        inputs = torch.cat([data.inputs, torch.full((len(data), 11), PAD)], 1)
        return Arrays(inputs, left_out(inputs, inputs, PAD))

    found = score(name, task, trajectory, train, query, chunk=4)
    longer = score(name, task, trajectory, padded(train), padded(query), chunk=4)
    assert found.scores.isfinite().all() and found.scores.abs().max() > 0
    assert torch.allclose(longer.scores, found.scores, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("name", PER_QUERY)
def test_a_query_has_the_scores_that_it_has_alone(task: Task, name: str) -> None:
    """Also with Gauss-Newton curvature, whose factor is not made of so many outputs a sample."""
    checkpoints = [Checkpoint(step, (0.1,) * 2, state(step), {}) for step in (2, 4)]
    trajectory = Trajectory(checkpoints, Schedule((2, 4), ((0.1,) * 2,) * 2, None, 9))
    options = {"curvature": "ggn"} if name == "diff_in" else {}
    train, query = texts(0), texts(1, 2)
    each = score_queries(name, task, trajectory, train, query, chunk=9, options=options)
    for q in range(2):
        one = Arrays(query.inputs[q : q + 1], query.targets[q : q + 1])
        alone = score(name, task, trajectory, train, one, chunk=9, options=options).scores
        assert torch.allclose(each[:, q], alone, rtol=1e-6, atol=1e-12)
