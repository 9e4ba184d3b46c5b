"""The service from Python: `Diffin(url, key)`, with plain methods and typed results."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self, TypeVar

import httpx

from diffin.errors import InputInvalid, JobFailed
from diffin.http import Sent, Transport, Upload
from diffin.models import (
    BatchOrder,
    Checkpoint,
    Dataset,
    Estimate,
    Event,
    Influence,
    Job,
    Json,
    Score,
    Summary,
    Trajectory,
    doubt,
    from_json,
    id_of,
    question,
    training,
)

T = TypeVar("T")
Input = TypeVar("Input", Dataset, Trajectory)
Runs = str | Trajectory | Sequence[str | Trajectory]
Order = Literal["harmful", "helpful", "self_influence", "suspicion", "index"]
Side = Literal["opponents", "proponents"]

LOCAL = "http://127.0.0.1:8000"
CLASSIFICATION = {"type": "classification", "loss": "cross_entropy"}


class Diffin:
    """A connection to the service, safe to share between threads.

    Args:
        url: where it listens; else `DIFFIN_URL`, else this machine's port 8000.
        key: the API key; else `DIFFIN_API_KEY`.
        timeout: seconds to wait for any one answer.
        retries: how often a request that met a broken connection, 429 or 503 is sent again.

    Every method raises `DiffinError` where the service refuses or can't be reached. A resource may be given
    as its id or as the object that the client returned.
    """

    def __init__(
        self, url: str | None = None, key: str | None = None, *, timeout: float = 60.0, retries: int = 5
    ) -> None:
        key = key or os.environ.get("DIFFIN_API_KEY")
        if not key:
            raise ValueError("no API key: pass key=… or set DIFFIN_API_KEY (`diffin serve` prints its key)")
        url = url or os.environ.get("DIFFIN_URL") or LOCAL
        self._transport = Transport(url, key, timeout=timeout, retries=retries)

    @property
    def url(self) -> str:
        return self._transport.url

    def close(self) -> None:
        self._transport.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # ---- data sets

    def upload_dataset(
        self,
        path: str | Path | None = None,
        *,
        inputs: Any = None,
        targets: Any = None,
        ids: Any = None,
        name: str | None = None,
        format: str | None = None,  # noqa: A002  (the API's word)
        columns: Mapping[str, Any] | None = None,
        tokenizer: str | Path | None = None,
        max_length: int | None = None,
        padding_id: int | None = None,
        image_size: tuple[int, int] | None = None,
        image_mode: str | None = None,
        like: str | Dataset | None = None,
        progress: Sent | None = None,
    ) -> Dataset:
        """Sends a file, streamed, or the arrays `inputs` [N, …], `targets` [N] or [N, …] and `ids` [N].

        The answer is still `validating`; `ready()` waits for the verdict, and `submit()` does so by itself.

        Args:
            columns: {inputs, targets, id} of a table, e.g. `{"inputs": "text", "targets": "label"}`.
            tokenizer: the network's `tokenizer.json`, for text, cut and padded to `max_length` tokens.
            image_size: (height, width) that images are brought to.
            image_mode: "L", "RGB" or "RGBA".
            like: the training set, for a query set that is to be read in the same way; waited for first.
            progress: called with the bytes sent and the bytes in all as they go out.
        """
        if path is not None:
            path = Path(path)
            form = {"name": name or path.stem} | ({"format": format} if format else {})
            form |= {"columns": json.dumps(dict(columns))} if columns else {}
            size = list(image_size) if image_size else None
            given: Json = {"max_length": max_length, "padding_id": padding_id}
            given |= {"image_size": size, "image_mode": image_mode}
            form |= {field: str(value) for field, value in given.items() if value is not None}
            if like is not None:
                form["like"] = self.ready(self.dataset(like)).id
            upload = Upload(path, progress, {"tokenizer_file": Path(tokenizer)} if tokenizer else {})
            return self._read(Dataset, self._transport.send("POST", "/v1/datasets", form=form, upload=upload))
        if inputs is None or targets is None:
            raise ValueError("give the path of a file, or the arrays inputs= and targets=")
        import numpy as np  # only arrays need it

        arrays: Json = {"inputs": inputs, "targets": targets} | ({} if ids is None else {"ids": ids})
        with tempfile.TemporaryDirectory(prefix="diffin-") as folder:
            file = Path(folder) / f"{name or 'dataset'}.npz".replace(os.sep, "-")
            np.savez(file, **arrays)
            return self.upload_dataset(file, name=name or "dataset", format="npz", progress=progress)

    def dataset(self, dataset: str | Dataset) -> Dataset:
        return self._get(Dataset, f"/v1/datasets/{id_of(dataset)}")

    def datasets(self, *, limit: int | None = None) -> Iterator[Dataset]:
        return self._pages(Dataset, "/v1/datasets", {}, limit)

    def sample(self, dataset: str | Dataset, index: int) -> Json:
        return self._json(f"/v1/datasets/{id_of(dataset)}/samples/{index}")

    def sample_content(self, dataset: str | Dataset, index: int) -> bytes:
        """One sample as people look at it: a PNG for an image, text, or a row."""
        return self._transport.send("GET", f"/v1/datasets/{id_of(dataset)}/samples/{index}/content").content

    # ---- trajectories and checkpoints

    def create_trajectory(
        self,
        *,
        name: str,
        architecture: Mapping[str, Any] | None = None,
        architecture_file: str | Path | None = None,
        base_file: str | Path | None = None,
        task: Mapping[str, Any] = CLASSIFICATION,
        preprocessing: Mapping[str, Any] | None = None,
        optimizer: Mapping[str, Any] | None = None,
        batch_size: int | None = None,
        train_size: int | None = None,
        total_steps: int | None = None,
        recipe: Mapping[str, Any] | None = None,
    ) -> Trajectory:
        """Describes one training run. `train_size` is the N of the formulas (default: the job's data).

        The network is a registered `architecture`, or any whose graph (ONNX) is in `architecture_file`; that
        is still `validating` then: checkpoints may be sent, and `ready()` waits for all of it.
        `base_file` has the weights (safetensors) below an adapter, if the config says `lora`. The seed of a
        `recipe` tells the batch order of a loader that was given it.
        """
        if architecture is None and architecture_file is not None:
            architecture = {"name": "onnx"}
        body: Json = {"name": name, "architecture": architecture, "task": task}
        body |= {"preprocessing": preprocessing, "optimizer": optimizer}
        body |= {"batch_size": batch_size, "train_size": train_size, "total_steps": total_steps}
        body |= {"recipe": recipe}
        given = {field: value for field, value in body.items() if value is not None}
        file, part = architecture_file, "architecture_file"
        if file is None:
            file, part = base_file, "base_file"
        if file is None:
            return self._read(Trajectory, self._transport.send("POST", "/v1/trajectories", json=given))
        upload = Upload(Path(file), part=part)
        form = {"trajectory": json.dumps(given)}
        return self._read(
            Trajectory, self._transport.send("POST", "/v1/trajectories", form=form, upload=upload)
        )

    def upload_checkpoint(
        self,
        trajectory: str | Trajectory,
        path: str | Path,
        *,
        step: int,
        learning_rate: float | Sequence[float] | None = None,
        optimizer_file: str | Path | None = None,
        progress: Sent | None = None,
    ) -> Checkpoint:
        """Sends the state after `step` optimizer steps (safetensors), and what the optimizer carried there.

        `learning_rate` is that of the steps since the checkpoint before: one number, or a list, one a step;
        None for the initial state, step 0.
        """
        form = {"step": str(step)}
        if isinstance(learning_rate, Sequence):
            form["learning_rates"] = f"[{', '.join(map(repr, map(float, learning_rate)))}]"
        elif learning_rate is not None:
            form["learning_rate"] = repr(float(learning_rate))
        where = f"/v1/trajectories/{id_of(trajectory)}/checkpoints"
        others = {} if optimizer_file is None else {"optimizer_file": Path(optimizer_file)}
        upload = Upload(Path(path), progress, others)
        return self._read(Checkpoint, self._transport.send("POST", where, form=form, upload=upload))

    def upload_batch_order(
        self, trajectory: str | Trajectory, path: str | Path, *, progress: Sent | None = None
    ) -> BatchOrder:
        """Sends which samples each step's batch held: `batch_order` [steps, batch] as npy or safetensors."""
        where = f"/v1/trajectories/{id_of(trajectory)}/batch-order"
        upload = Upload(Path(path), progress)
        return self._read(BatchOrder, self._transport.send("PUT", where, upload=upload))

    def delete_batch_order(self, trajectory: str | Trajectory) -> None:
        self._transport.send("DELETE", f"/v1/trajectories/{id_of(trajectory)}/batch-order")

    def trajectory(self, trajectory: str | Trajectory) -> Trajectory:
        return self._get(Trajectory, f"/v1/trajectories/{id_of(trajectory)}")

    def trajectories(self, *, limit: int | None = None) -> Iterator[Trajectory]:
        return self._pages(Trajectory, "/v1/trajectories", {}, limit)

    def ready(self, resource: Input, *, timeout: float | None = None) -> Input:
        """Waits until the service has read a data set, or every file of a run.

        Raises:
            InputInvalid: it found one of them invalid: that of the network before the checkpoints.
            TimeoutError: `timeout` seconds went by first.
        """
        kind = "datasets" if isinstance(resource, Dataset) else "trajectories"
        for body in self._transport.poll(f"/v1/{kind}/{resource.id}", timeout):
            resource = from_json(type(resource), body)
            parts = [resource] if isinstance(resource, Dataset) else resource.parts
            for part in parts:
                if part.status == "invalid":
                    raise InputInvalid(part)
            if all(part.status == "ready" for part in parts):
                break
        return resource

    # ---- jobs

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

    def trained(
        self,
        job: str | Job,
        *,
        timeout: float | None = None,
        progress: Callable[[Job], None] | None = None,
    ) -> Trajectory:
        """The run that a job of `train()` recorded, once it is there.

        Raises:
            JobFailed, TimeoutError: as `wait`.
        """
        done = self.wait(job, timeout=timeout, progress=progress)
        return self.trajectory(str((done.result or {})["trajectory_id"]))

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

    def evaluation(self, job: str | Job) -> Json:
        """Each retraining of a job of `evaluate()`: what it showed, and what each method had said of it."""
        return self._json(f"/v1/jobs/{id_of(job)}/evaluation")

    def job(self, job: str | Job) -> Job:
        return self._get(Job, f"/v1/jobs/{id_of(job)}")

    def jobs(
        self,
        *,
        status: str | None = None,
        type: str | None = None,  # noqa: A002  (the API's word)
        limit: int | None = None,
    ) -> Iterator[Job]:
        """Newest first."""
        return self._pages(Job, "/v1/jobs", {"status": status, "type": type}, limit)

    def wait(
        self,
        job: str | Job,
        *,
        timeout: float | None = None,
        progress: Callable[[Job], None] | None = None,
    ) -> Job:
        """Waits until the job has succeeded, asking as often as the service suggests.

        Raises:
            JobFailed: it failed or was cancelled; `.job.error` says why.
            TimeoutError: `timeout` seconds went by; the job goes on.
        """
        for body in self._transport.poll(f"/v1/jobs/{id_of(job)}", timeout):
            now = from_json(Job, body)
            if progress:
                progress(now)
            if now.finished:
                break
        if now.status != "succeeded":
            raise JobFailed(now)
        return now

    def cancel(self, job: str | Job) -> Job:
        return self._read(Job, self._transport.send("POST", f"/v1/jobs/{id_of(job)}/cancel"))

    def delete(self, resource: str | Dataset | Trajectory | Job) -> None:
        """Deletes a data set, trajectory or job; refused while it is in use or running."""
        kinds = {"ds": "datasets", "tr": "trajectories", "job": "jobs"}
        kind = id_of(resource).partition("_")[0]
        if kind not in kinds:
            raise ValueError(f"{id_of(resource)!r} is the id of no data set, trajectory or job")
        self._transport.send("DELETE", f"/v1/{kinds[kind]}/{id_of(resource)}")

    def events(self, job: str | Job) -> list[Event]:
        body = self._transport.send("GET", f"/v1/jobs/{id_of(job)}/events").json()
        return [from_json(Event, event) for event in (body["data"] if isinstance(body, dict) else body)]

    # ---- answers

    def scores(
        self,
        job: str | Job,
        *,
        order: Order = "harmful",
        limit: int | None = None,
        label: int | None = None,
        label_name: str | None = None,
        min: float | None = None,  # noqa: A002  (the API's word)
        max: float | None = None,  # noqa: A002
    ) -> Iterator[Score]:
        """The samples' rows in this order, fetched page by page; `limit` rows at most, all without it."""
        filters = {"order": order, "label": label, "label_name": label_name, "min": min, "max": max}
        return self._pages(Score, f"/v1/jobs/{id_of(job)}/scores", filters, limit)

    def score(self, job: str | Job, sample_index: int) -> Score:
        """One sample's row with its contribution from each checkpoint, which add up to its score."""
        return self._get(Score, f"/v1/jobs/{id_of(job)}/scores/{sample_index}")

    def influences(
        self,
        job: str | Job,
        query_index: int,
        *,
        order: Side = "opponents",
        limit: int | None = None,
    ) -> Iterator[Influence]:
        """The training samples behind one query sample, strongest first (jobs with `per_query: true`)."""
        path = f"/v1/jobs/{id_of(job)}/queries/{query_index}/influences"
        return self._pages(Influence, path, {"order": order}, limit)

    def download_influences(self, job: str | Job, path: str | Path) -> Path:
        """Writes all influences [N, K] as a `.npy` to `path` (jobs with `per_query: true`)."""
        self._transport.download(f"/v1/jobs/{id_of(job)}/influences/content", Path(path))
        return Path(path)

    def summary(self, job: str | Job) -> Summary:
        """Count, mean, quantiles and histogram of the scores, and the same by class."""
        return self._get(Summary, f"/v1/jobs/{id_of(job)}/summary")

    # ---- the service

    def methods(self) -> list[Json]:
        """The methods with their cost, needs, and the JSON schema of their options."""
        return list(self._transport.pages("/v1/methods"))

    def architectures(self) -> list[Json]:
        """The registered networks with the JSON schema of their config."""
        return list(self._transport.pages("/v1/architectures"))

    def capabilities(self) -> Json:
        return self._json("/v1/capabilities")

    # ---- how

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

    def _json(self, path: str) -> Json:
        return dict(self._transport.send("GET", path).json())

    def _get(self, cls: type[T], path: str) -> T:
        return from_json(cls, self._json(path))

    def _read(self, cls: type[T], response: httpx.Response) -> T:
        return from_json(cls, response.json())

    def _pages(self, cls: type[T], path: str, params: Json, limit: int | None) -> Iterator[T]:
        return (from_json(cls, row) for row in self._transport.pages(path, params, limit))
