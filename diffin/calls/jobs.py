"""Jobs followed to their end, and their answers."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Literal

from diffin.calls.trajectories import TrajectoryCalls
from diffin.errors import JobFailed
from diffin.models import (
    Comparison,
    Event,
    Identified,
    Influence,
    Job,
    Json,
    Score,
    Summary,
    Trajectory,
    from_json,
    id_of,
)

Order = Literal["harmful", "helpful", "self_influence", "suspicion", "index"]
Side = Literal["opponents", "proponents"]
KINDS = {"ds": "datasets", "tr": "trajectories", "job": "jobs"}
KINDS |= {"sel": "selections", "exp": "exports", "up": "uploads"}


class JobCalls(TrajectoryCalls):
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

    def delete(self, resource: str | Identified) -> None:
        """Deletes a data set, trajectory, job, selection or export; refused while it is in use or running."""
        kind = id_of(resource).partition("_")[0]
        if kind not in KINDS:
            raise ValueError(f"{id_of(resource)!r} is the id of nothing that can be deleted")
        self._transport.send("DELETE", f"/v1/{KINDS[kind]}/{id_of(resource)}")

    def events(self, job: str | Job) -> list[Event]:
        body = self._transport.send("GET", f"/v1/jobs/{id_of(job)}/events").json()
        return [from_json(Event, event) for event in (body["data"] if isinstance(body, dict) else body)]

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

    def compare(self, job: str | Job, other: str | Job, *, tops: Sequence[int] = ()) -> Comparison:
        """How far two jobs over the same samples agree: rank correlations, and the overlap of the top k.

        `tops` are the sizes k; 10, 100 and 1000 unless given.
        """
        params = {"with": id_of(other)} | ({"k": list(tops)} if tops else {})
        answer = self._transport.send("GET", f"/v1/jobs/{id_of(job)}/compare", params=params)
        return self._read(Comparison, answer)
