"""Which steps a checkpoint stands for, and with which learning rates."""

from __future__ import annotations

import pytest
import torch

from worker.influence.trajectory import Arrays, Schedule, draw_rows

STEPS, RATES = (2, 6), ((0.1, 0.2), (0.3, 0.4, 0.5, 0.6))


def test_at_the_end_a_checkpoint_stands_for_the_steps_since_the_one_before() -> None:
    schedule = Schedule(STEPS, RATES, total_steps=9, train_size=10)
    assert [schedule.rates(k, "end") for k in (0, 1)] == list(RATES)


def test_in_the_middle_it_stands_for_the_steps_nearer_to_it() -> None:
    schedule = Schedule(STEPS, RATES, total_steps=9, train_size=10)
    assert schedule.rates(0, "middle") == (0.1, 0.2, 0.3, 0.4)
    assert schedule.rates(1, "middle") == (0.5, 0.6, 0.6, 0.6, 0.6)  # to step 9, at the last known rate


def test_in_the_middle_no_step_is_lost_or_counted_twice() -> None:
    schedule = Schedule((1, 4, 5, 6), ((0.1,), (0.2, 0.3, 0.4), (0.5,), (0.6,)), None, train_size=10)
    every = [rate for k in range(4) for rate in schedule.rates(k, "middle")]
    assert every == [0.1, 0.2, 0.3, 0.4, 0.5, 0.6]


def test_momentum_divides_by_what_it_forgets() -> None:
    schedule = Schedule(STEPS, RATES, None, 10, momentum=0.75)
    assert schedule.rates(0) == pytest.approx((0.4, 0.8))


def test_decays_are_those_of_decoupled_weight_decay_and_take_no_momentum() -> None:
    assert Schedule(STEPS, RATES, None, 10, weight_decay=0.5).decays(0) == (0, 0)
    decoupled = Schedule(STEPS, RATES, None, 10, momentum=0.9, weight_decay=0.5, decoupled=True)
    assert decoupled.decays(0) == pytest.approx((0.05, 0.1))


def test_rates_that_do_not_fit_their_segment_are_refused() -> None:
    with pytest.raises(ValueError, match="step 6: 3 learning rates for 4 steps"):
        Schedule(STEPS, ((0.1, 0.2), (0.3, 0.4, 0.5)), None, 10)
    with pytest.raises(ValueError, match="2 checkpoints, 1 lists"):
        Schedule(STEPS, RATES[:1], None, 10)


def test_momentum_of_one_is_refused() -> None:
    with pytest.raises(ValueError, match="momentum"):
        Schedule(STEPS, RATES, None, 10, momentum=1.0)


def test_arrays_come_in_chunks_in_the_order_asked_for() -> None:
    data = Arrays(torch.arange(5), torch.arange(5) * 10)
    assert [x.tolist() for x, _ in data.chunks(2)] == [[0, 1], [2, 3], [4]]
    assert [y.tolist() for _, y in data.chunks(2, rows=[4, 4, 1])] == [[40, 40], [10]]


def test_rows_are_drawn_by_seed_and_stream_without_repeats() -> None:
    rows = draw_rows(1000, 50, seed=1)
    assert rows == draw_rows(1000, 50, seed=1) == sorted(set(rows))
    assert rows != draw_rows(1000, 50, seed=2) and rows != draw_rows(1000, 50, seed=1, stream=1)
    assert draw_rows(3, 50, seed=1) == [0, 1, 2]
