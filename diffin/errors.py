"""What can go wrong, one type for each way of handling it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from diffin.models import BatchOrder, Checkpoint, Dataset, Job, Problem, TrajectoryFile, from_json
from diffin.transfers import Export

if TYPE_CHECKING:
    import httpx

    from diffin.selecting import Selection


class DiffinError(Exception):
    """The service refused, failed or could not be reached (`status` 0); its words are `detail`."""

    def __init__(self, problem: Problem) -> None:
        self.problem = problem
        self.status = problem.status
        self.code = problem.code
        self.detail = problem.detail
        self.errors = problem.errors
        self.request_id = problem.request_id
        super().__init__(self._words())

    def _words(self) -> str:
        head = self.detail or self.problem.title or f"the service answered {self.status}"
        parts = [f"{error.get('pointer', '')}: {error.get('detail', '')}" for error in self.errors]
        return "\n  ".join([head, *(part for part in parts if part.split(": ", 1)[1] not in head)])


class JobFailed(DiffinError):  # noqa: N818  (says what happened)
    """The job ended as `failed` (`error` says why) or `cancelled`."""

    def __init__(self, job: Job) -> None:
        self.job = job
        super().__init__(job.error or Problem(f"job {job.id} ended as {job.status}", code=job.status))


class SelectionFailed(DiffinError):  # noqa: N818
    """The selection ended as `failed`; `error` says why."""

    def __init__(self, selection: Selection) -> None:
        self.selection = selection
        super().__init__(selection.error or Problem(f"{selection.id} failed", code=selection.status))


class ExportFailed(DiffinError):  # noqa: N818
    """The service could not write an export; `.export.error` says why."""

    def __init__(self, export: Export) -> None:
        self.export = export
        super().__init__(export.error or Problem(f"export {export.id} failed", code="failed"))


class InputInvalid(DiffinError):  # noqa: N818
    """A data set or a run's file was read by the service and found `invalid`."""

    def __init__(self, resource: Dataset | Checkpoint | BatchOrder | TrajectoryFile) -> None:
        self.resource = resource
        if isinstance(resource, TrajectoryFile):
            name = f"the {resource.role} file"
        else:
            name = "the batch order" if isinstance(resource, BatchOrder) else resource.id
        super().__init__(resource.error or Problem(f"{name} is invalid", code="invalid"))


def refusal(response: httpx.Response) -> DiffinError:
    """The error that an answer of 4xx or 5xx stands for, whether or not it is problem+json."""
    body: Any = None
    if response.headers.get("content-type", "").split(";")[0].endswith("json"):
        body = response.json()
    if not isinstance(body, dict):
        body = {"detail": f"{response.request.url} answered {response.status_code}: {response.text[:200]}"}
    return DiffinError(from_json(Problem, {"status": response.status_code, **body}))
