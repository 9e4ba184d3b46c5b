"""What a job of type `evaluate` is asked, and how it is shown."""

from __future__ import annotations

from collections import Counter
from typing import Annotated, Any, Literal, Self

from pydantic import ConfigDict, Field, model_validator

from app.api.jobs.influence import QueryPart
from app.api.jobs.resource import RUNNING, JobFields, JobIn
from app.api.resources import INT64, Id
from app.catalog import DiffIn, Method, TracIn
from app.catalog.base import refusal

MOST_METHODS, MOST_RUNS, MOST_ORDERS, FEWEST_RUNS = 8, 2000, 16, 10
Runs = Annotated[int, Field(ge=0, le=MOST_RUNS)]

EXAMPLE: dict[str, Any] = {
    "type": "evaluate",
    "trajectory_id": "tr_0197f4e6-0d3b-7c5e-9c4f-3f1f2d1f6a52",
    "train_dataset_id": "ds_0197f4e6-0d3b-7c5e-9c4f-3f1f2d1f6a52",
    "query_dataset_id": "ds_0197f4e7-1a2b-7c5e-9c4f-3f1f2d1f6a52",
    "methods": [{"name": "diff_in"}, {"name": "diff_in", "resolution": "steps"}, {"name": "tracin"}],
    "leave_one_out": 60,
    "subsets": 40,
    "orders": 1,
    "seed": 0,
    "name": "is run 7 to be trusted?",
}
FIGURES: dict[str, Any] = {
    "n": 60,
    "spearman": 0.93,
    "spearman_interval": [0.88, 0.96],
    "pearson": 0.95,
    "pearson_interval": [0.9, 0.97],
    "slope": 1.1,
    "relative_error": 0.3,
}
RESULT: dict[str, Any] = {
    "num_samples": 60000,
    "answers": "this_run",
    "orders": 1,
    "reliability": None,
    "methods": {
        "diff_in": {
            "method": {"name": "diff_in"},
            "level": "trustworthy",
            "answers": "expected",
            "rank_only": None,
            "leave_one_out": FIGURES,
            "lds": FIGURES | {"n": 40},
        }
    },
    "exact": {"leave_one_out": FIGURES | {"spearman": 0.97}, "lds": None},
    "verdict": {
        "level": "trustworthy",
        "text": "Trust the scores of diff_in, ranking and size: Spearman 0.93 (0.88 to 0.96) against 60 "
        "leave-one-out retrainings of this run.",
        "best_method": "diff_in",
    },
    "reproduces": True,
    "difference": 0.0,
    "drift": 0.0,
    "noise": {"dtype": "float64", "floor": 2e-15, "spread": 0.004},
    "steepest": {"eta_lambda_max": 0.4, "checkpoint": 3},
    "retrainings": 103,
    "diverged": 0,
    "warnings": [],
}


class EvaluateJobIn(JobIn):
    """Which methods to hold against retraining, and how much of it."""

    model_config = ConfigDict(json_schema_extra={"examples": [EXAMPLE]})

    type: Literal["evaluate"]
    trajectory_id: Id = Field(
        description="A run with a `recipe`, its initial state (a checkpoint at step 0) and its batches "
        "(`recipe.seed` or a batch order)."
    )
    train_dataset_id: Id
    query_dataset_id: Id
    query: QueryPart | None = Field(None, description="Part of the query data set; all of it if null.")
    methods: list[Method] = Field(
        [DiffIn(name="diff_in"), TracIn(name="tracin")], min_length=1, max_length=MOST_METHODS
    )
    leave_one_out: Runs = Field(
        60, description="Retrainings that leave out one sample each; 0, or 10 and more."
    )
    subsets: Runs = Field(
        0,
        description="Retrainings on random halves (linear datamodelling score); 0, or 10 and more. A batch's "
        "loss is the mean over those of its samples that are in the half.",
    )
    orders: int = Field(
        1,
        ge=1,
        le=MOST_ORDERS,
        description="1: the truth is about this run, in its own batch order. More: the mean over so many "
        "other orders, drawn by the seed: what a sample does on average. It multiplies the retrainings.",
    )
    sampling: Literal["random", "mixed"] = Field(
        "random",
        description="Which samples are left out. `mixed`: half of them the most harmful and the most helpful "
        "by the first method, weighted in all figures by how many samples each stands for: extremes alone "
        "flatter every method.",
    )
    seed: int = Field(0, ge=0, le=INT64)

    @model_validator(mode="after")
    def _enough(self) -> Self:
        if not self.leave_one_out and not self.subsets:
            raise refusal("give leave_one_out or subsets: without retraining there is nothing to compare.")
        for name, runs in (("leave_one_out", self.leave_one_out), ("subsets", self.subsets)):
            if 0 < runs < FEWEST_RUNS:
                raise refusal(f"{name} is {runs}: fewer than {FEWEST_RUNS} tell nothing.")
        if self.sampling == "mixed" and not self.leave_one_out:
            raise refusal("sampling 'mixed' is about leave_one_out, which is 0.")
        for method in self.methods:
            if method.by_query or method.repeats > 1:
                raise refusal("leave out per_query and uncertainty: one score a sample is evaluated.")
        return self

    @property
    def labels(self) -> list[str]:
        """What each method is called in the result: its name, and `name:2` … where it stands more often."""
        counts: Counter[str] = Counter()
        found = []
        for method in self.methods:
            counts[method.name] += 1
            found.append(method.name if counts[method.name] == 1 else f"{method.name}:{counts[method.name]}")
        return found


class EvaluateJobOut(JobFields):
    """A job that evaluates. Figures come with 95% bootstrap intervals; `verdict` says in words what to make
    of them; `GET /v1/jobs/{id}/evaluation` has what they follow from.
    """

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    **EXAMPLE,
                    "query": None,
                    "metadata": {},
                    "sampling": "random",
                    "checkpoint_ids": ["ck_0197f4e6-0d3b-7c5e-9c4f-3f1f2d1f6a52"],
                    **RUNNING,
                    "progress": {
                        "completed": 104,
                        "total": 104,
                        "unit": "retrainings",
                        "message": "succeeded",
                    },
                    "status": "succeeded",
                    "result": RESULT,
                }
            ]
        }
    )

    type: Literal["evaluate"]
    query: dict[str, Any] | None
    methods: list[dict[str, Any]] = Field(description="With every option, defaults filled in.")
    leave_one_out: int
    subsets: int
    orders: int
    sampling: Literal["random", "mixed"]
    checkpoint_ids: list[str]
