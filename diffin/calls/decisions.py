"""What people decide about samples: keep, remove, relabel; each key its own."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Literal

from diffin.calls.base import Calls
from diffin.models import Job, Json, id_of
from diffin.selecting import Decision

Verdict = Literal["keep", "remove"] | tuple[Literal["relabel"], int | str] | None
AT_ONCE = 1000  # decisions a call


class DecisionCalls(Calls):
    def decide(self, job: str | Job, decisions: Mapping[int, Verdict]) -> Json:
        """Writes what is to be done with samples, by their index: `"keep"`, `"remove"`, `("relabel", label)`
        with a label's number or name, or None, which takes the decision back. Returns how many samples this
        key decided on in all, by action.

        Raises:
            DiffinError: a sample or label is not there. They are sent 1000 a call; that call wrote nothing.
        """
        told = [_told(int(index), verdict) for index, verdict in decisions.items()]
        path = f"/v1/jobs/{id_of(job)}/decisions"
        counts: Json = {"keep": 0, "remove": 0, "relabel": 0}
        for start in range(0, len(told), AT_ONCE):
            body = {"decisions": told[start : start + AT_ONCE]}
            counts = dict(self._transport.send("PUT", path, json=body).json())
        return counts

    def decisions(
        self,
        job: str | Job,
        *,
        action: str | None = None,
        everyone: bool = False,
        limit: int | None = None,
    ) -> Iterator[Decision]:
        """This key's decisions about a job's samples, by index; with `everyone` those of all keys of the
        project.
        """
        params = {"action": action, "everyone": "true" if everyone else None}
        return self._pages(Decision, f"/v1/jobs/{id_of(job)}/decisions", params, limit)

    def download_decisions(self, job: str | Job, path: str | Path) -> Path:
        """Writes this key's decisions to `path`, as CSV where it ends so, else as JSON."""
        form = "csv" if Path(path).suffix == ".csv" else "json"
        self._transport.download(f"/v1/jobs/{id_of(job)}/decisions/content?format={form}", Path(path))
        return Path(path)


def _told(index: int, verdict: Verdict) -> Json:
    if not isinstance(verdict, tuple):
        return {"sample_index": index, "action": verdict}
    action, label = verdict
    field = "label_name" if isinstance(label, str) else "label"
    return {"sample_index": index, "action": action, field: label}
