"""What to do about scores: clean, delete, keep, or what was decided by hand."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from diffin.calls.decisions import DecisionCalls
from diffin.errors import SelectionFailed
from diffin.models import Job, Json, from_json, id_of
from diffin.selecting import Selected, Selection

By = Literal["suspicion", "score"]
KeptBy = Literal["coverage", "influence", "harm", "random"]
ManifestFormat = Literal["json", "csv", "dvc"]


class SelectionCalls(DecisionCalls):
    def clean(
        self,
        job: str | Job,
        *,
        auto: bool = False,
        rounds: int | None = None,
        size: int | None = None,
        fraction: float | None = None,
        threshold: float | None = None,
        by: By | None = None,
        relabel: bool = True,
        verify: bool = False,
        seeds: int | None = None,
        name: str | None = None,
        metadata: Mapping[str, str] | None = None,
    ) -> Selection:
        """Proposes samples to remove or relabel: so many, this share, all with at least `threshold`, or with
        `auto` as many as there are wrong labels by the service's estimate; of two `rounds` (the default
        where the run has a recipe) the second trains again without the suspects, and decides about each.

        `by`: `suspicion` finds wrong labels, `score` what harms the query loss. `verify` trains again with
        and without, over `seeds`, and tells what really changed (`result["verification"]`).
        """
        asked = {"size": size, "fraction": fraction, "threshold": threshold, "by": by, "relabel": relabel}
        asked |= {"auto": True, "rounds": rounds} if auto else {"rounds": rounds}
        asked |= {"verify": verify, "seeds": seeds}
        return self._select(job, "clean", asked, name, metadata)

    def coreset(
        self,
        job: str | Job,
        *,
        size: int | None = None,
        fraction: float | None = None,
        by: KeptBy | None = None,
        stratify: bool | None = None,
        drop_suspects: bool | None = None,
        diversity: bool = False,
        verify: bool = False,
        seeds: int | None = None,
        name: str | None = None,
        metadata: Mapping[str, str] | None = None,
    ) -> Selection:
        """Proposes samples to keep: so many, or this share; with `stratify` of each class a fair part, with
        `drop_suspects` labels that look wrong last, with `diversity` few that are all but the same.

        `by`: `coverage`, what stands for the others of its class, the default where there are classes;
        `influence`, drawn the likelier the more it matters to the query loss; `harm`, what harms it least;
        `random`.
        """
        asked = {"size": size, "fraction": fraction, "by": by, "stratify": stratify}
        asked |= {"drop_suspects": drop_suspects, "diversity": diversity or None}
        asked |= {"verify": verify, "seeds": seeds}
        return self._select(job, "coreset", asked, name, metadata)

    def deletion(
        self,
        job: str | Job,
        *,
        sample_indices: Sequence[int] | None = None,
        sample_ids: Sequence[str] | None = None,
        checkpoint: bool | None = None,
        resolution: str | None = None,
        verify: bool = False,
        seeds: int | None = None,
        name: str | None = None,
        metadata: Mapping[str, str] | None = None,
    ) -> Selection:
        """Asks what removing these samples would do to the query loss, and for the run's last checkpoint as
        it would be without them (`download_updated`), unless `checkpoint` is False.
        """
        asked: Json = {
            "sample_indices": None if sample_indices is None else [int(one) for one in sample_indices],
            "sample_ids": None if sample_ids is None else list(sample_ids),
        }
        asked |= {"checkpoint": checkpoint, "resolution": resolution, "verify": verify, "seeds": seeds}
        return self._select(job, "deletion", asked, name, metadata)

    def decided(
        self,
        job: str | Job,
        *,
        verify: bool = False,
        seeds: int | None = None,
        name: str | None = None,
        metadata: Mapping[str, str] | None = None,
    ) -> Selection:
        """Makes a selection of what this key decided (`decide`, or on the page), as it stands now."""
        return self._select(job, "decided", {"verify": verify, "seeds": seeds}, name, metadata)

    def selection(self, selection: str | Selection) -> Selection:
        return self._get(Selection, f"/v1/selections/{id_of(selection)}")

    def selections(
        self,
        *,
        job: str | Job | None = None,
        type: str | None = None,  # noqa: A002  (the API's word)
        status: str | None = None,
        limit: int | None = None,
    ) -> Iterator[Selection]:
        """Newest first."""
        filters = {"job_id": id_of(job) if job is not None else None, "type": type, "status": status}
        return self._pages(Selection, "/v1/selections", filters, limit)

    def selected(
        self,
        selection: str | Selection,
        *,
        timeout: float | None = None,
        progress: Callable[[Selection], None] | None = None,
    ) -> Selection:
        """Waits until the selection has succeeded.

        Raises:
            SelectionFailed: it failed; `.selection.error` says why.
            TimeoutError: `timeout` seconds went by; the service goes on.
        """
        for body in self._transport.poll(f"/v1/selections/{id_of(selection)}", timeout):
            now = from_json(Selection, body)
            if progress:
                progress(now)
            if now.finished:
                break
        if now.status != "succeeded":
            raise SelectionFailed(now)
        return now

    def samples(self, selection: str | Selection, *, limit: int | None = None) -> Iterator[Selected]:
        """The selection's samples, fetched page by page; `limit` rows at most, all without it."""
        return self._pages(Selected, f"/v1/selections/{id_of(selection)}/samples", {}, limit)

    def manifest(self, selection: str | Selection) -> Json:
        """Indices into the training set: `keep`, `remove`, and `relabel` with the labels to give."""
        return self._json(f"/v1/selections/{id_of(selection)}/manifest")

    def download_manifest(
        self,
        selection: str | Selection,
        path: str | Path,
        *,
        format: ManifestFormat = "csv",  # noqa: A002  (the API's word)
    ) -> Path:
        """Writes the manifest to `path`: as JSON, as a CSV with a row a sample, or as the `.dvc` file that
        makes DVC track that CSV.
        """
        self._transport.download(f"/v1/selections/{id_of(selection)}/manifest?format={format}", Path(path))
        return Path(path)

    def download_updated(self, selection: str | Selection, path: str | Path) -> Path:
        """Writes a deletion's updated checkpoint, a `.safetensors`, to `path`."""
        self._transport.download(f"/v1/selections/{id_of(selection)}/checkpoint", Path(path))
        return Path(path)

    def _select(
        self,
        job: str | Job,
        type: str,  # noqa: A002  (the API's word)
        asked: Mapping[str, Any],
        name: str | None,
        metadata: Mapping[str, str] | None,
    ) -> Selection:
        told = {**asked, "name": name, "metadata": dict(metadata) if metadata else None}
        body = {"type": type} | {key: value for key, value in told.items() if value is not None}
        path = f"/v1/jobs/{id_of(job)}/selections"
        return self._read(Selection, self._transport.send("POST", path, json=body))
