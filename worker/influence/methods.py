"""The registry of methods: a method is a file of pure functions and an entry here."""

from __future__ import annotations

from worker.influence import baselines, diff_in, eq9, influence_function, suspects
from worker.influence.pieces import Chunk, Method, Sweep, add_up

__all__ = ["METHODS", "Chunk", "Method", "Sweep"]

METHODS: dict[str, Method] = {
    method.name: method
    for method in (
        Method(
            name="diff_in",
            needs_query=True,
            chained=True,
            options=diff_in.DiffInOptions,
            sweep=diff_in.sweep,
            score_chunk=diff_in.score_chunk,
            reduce=add_up,
        ),
        Method(
            name="diff_in_eq9",
            needs_query=True,
            chained=False,
            options=eq9.Eq9Options,
            sweep=eq9.sweep,
            score_chunk=eq9.score_chunk,
            reduce=add_up,
        ),
        Method(
            name="tracin",
            needs_query=True,
            chained=False,
            options=baselines.TracInOptions,
            sweep=baselines.tracin_sweep,
            score_chunk=baselines.tracin_chunk,
            reduce=add_up,
        ),
        Method(
            name="influence_function",
            needs_query=True,
            chained=False,
            options=influence_function.InfluenceFunctionOptions,
            sweep=influence_function.sweep,
            score_chunk=influence_function.score_chunk,
            reduce=add_up,
        ),
        *(
            Method(
                name=name,
                needs_query=False,
                chained=False,
                options=suspects.NoOptions,
                sweep=None,
                score_chunk=score_chunk,
                reduce=add_up,
            )
            for name, score_chunk in (
                ("self_influence", suspects.self_influence_chunk),
                ("grad_norm", suspects.grad_norm_chunk),
                ("el2n", suspects.el2n_chunk),
            )
        ),
        Method(
            name="loss",
            needs_query=False,
            chained=False,
            options=baselines.LossOptions,
            sweep=None,
            score_chunk=baselines.loss_chunk,
            reduce=add_up,
        ),
    )
}
