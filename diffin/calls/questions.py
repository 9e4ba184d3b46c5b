"""What a client may ask for: scores, what they would cost, a run, and how far to trust scores."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from diffin.calls.base import CLASSIFICATION
from diffin.calls.datasets import DatasetCalls
from diffin.calls.trajectories import TrajectoryCalls
from diffin.models import Dataset, Estimate, Job, Json, Trajectory, doubt, question, training

Runs = str | Trajectory | Sequence[str | Trajectory]


class QuestionCalls(DatasetCalls, TrajectoryCalls):
    def submit(
        self,
        trajectory: Runs,
        train: str | Dataset,
        query: str | Dataset | None = None,
        *,
        method: str | Mapping[str, Any] = "diff_in",
        seed: int = 0,
        name: str | None = None,
        metadata: Mapping[str, str] | None = None,
        timeout: float | None = None,
    ) -> Job:
        """Asks which samples of `train` raised or lowered the loss on `query`, in one run or in the mean of
        several.

        Waits first until the inputs are validated. `method` is a name, or a name with its options:
        `{"name": "diff_in", "lanczos_steps": 20}`.

        Raises:
            InputInvalid: an input is invalid.
            DiffinError: the service refuses the question.
            TimeoutError: the inputs were still validating after `timeout` seconds.
        """
        self._inputs_ready(trajectory, train, query, timeout)
        body = question(trajectory, train, query, method, seed)
        body |= {"name": name} if name else {}
        body |= {"metadata": dict(metadata)} if metadata else {}
        return self._read(Job, self._transport.send("POST", "/v1/jobs", json=body))

    def estimate(
        self,
        trajectory: Runs,
        train: str | Dataset,
        query: str | Dataset | None = None,
        *,
        method: str | Mapping[str, Any] = "diff_in",
        seed: int = 0,
    ) -> Estimate:
        """What `submit` with the same arguments would cost: forward passes, seconds, memory."""
        self._inputs_ready(trajectory, train, query, None)
        body = question(trajectory, train, query, method, seed)
        return self._read(Estimate, self._transport.send("POST", "/v1/jobs/estimate", json=body))

    def train(
        self,
        train: str | Dataset,
        *,
        architecture: Mapping[str, Any] | None = None,
        recipe: Mapping[str, Any] | None = None,
        trajectory: str | Trajectory | None = None,
        query: str | Dataset | None = None,
        task: Mapping[str, Any] | None = None,
        preprocessing: Mapping[str, Any] | None = None,
        checkpoints: int | Mapping[str, Any] = 10,
        seed: int | None = None,
        name: str | None = None,
        metadata: Mapping[str, str] | None = None,
        timeout: float | None = None,
    ) -> Job:
        """Lets the service train, and record the run: give an `architecture` and a `recipe`, or a
        `trajectory` whose network and recipe they are.

        Waits first until the data are validated. `trained()` waits for the run. `checkpoints` is how many
        states to keep at even distances, or `{"every": 1}` for each single one; `task` is classification
        unless given; `seed` draws the initial weights.

        Raises:
            InputInvalid: a data set is invalid.
            DiffinError: the service refuses the recipe.
            TimeoutError: the data were still validating after `timeout` seconds.
        """
        for one in (train, query):
            if one is not None:
                self.ready(self.dataset(one), timeout=timeout)
        task = CLASSIFICATION if task is None and trajectory is None else task
        told: Json = {"architecture": architecture, "task": task, "preprocessing": preprocessing}
        told |= {"recipe": recipe, "seed": seed, "name": name, "metadata": metadata}
        body = training(train, query, trajectory, checkpoints, **told)
        return self._read(Job, self._transport.send("POST", "/v1/jobs", json=body))

    def evaluate(
        self,
        trajectory: str | Trajectory,
        train: str | Dataset,
        query: str | Dataset,
        *,
        methods: Sequence[str | Mapping[str, Any]] = ("diff_in", "tracin"),
        leave_one_out: int = 60,
        subsets: int = 0,
        orders: int = 1,
        sampling: Literal["random", "mixed"] = "random",
        seed: int = 0,
        name: str | None = None,
        metadata: Mapping[str, str] | None = None,
        timeout: float | None = None,
    ) -> Job:
        """Asks how far to trust the scores of `methods` on a run, by training it again without some samples.

        The run needs a recipe, its initial state (step 0) and its batches. `orders`: 1, what samples did in
        this run; more, what they do on average. At the end `result["verdict"]` says in words what to make of
        it, and `evaluation()` has the pairs behind it.

        Raises:
            InputInvalid, DiffinError, TimeoutError: as `submit`.
        """
        self._inputs_ready(trajectory, train, query, timeout)
        told: Json = {"leave_one_out": leave_one_out, "subsets": subsets, "orders": orders}
        told |= {"sampling": sampling, "seed": seed, "name": name, "metadata": metadata}
        body = doubt(trajectory, train, query, methods, **told)
        return self._read(Job, self._transport.send("POST", "/v1/jobs", json=body))

    def _inputs_ready(
        self,
        trajectory: Runs,
        train: str | Dataset,
        query: str | Dataset | None,
        timeout: float | None,
    ) -> None:
        for one in [trajectory] if isinstance(trajectory, str | Trajectory) else trajectory:
            self.ready(self.trajectory(one), timeout=timeout)
        for dataset in (train, query):
            if dataset is not None:
                self.ready(self.dataset(dataset), timeout=timeout)
