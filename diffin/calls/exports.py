"""Exports: all rows of a job's scores, or of a selection, in one file."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Literal, get_args

from diffin.calls.base import Calls
from diffin.calls.jobs import Order
from diffin.errors import ExportFailed
from diffin.models import Job, Json, from_json, id_of
from diffin.selecting import Selection
from diffin.transfers import Export

Format = Literal["parquet", "csv", "jsonl", "npz"]
FORMATS: tuple[Format, ...] = get_args(Format)


class ExportCalls(Calls):
    def download_scores(
        self,
        job: str | Job,
        path: str | Path,
        *,
        format: Format | None = None,  # noqa: A002  (the API's word)
        order: Order = "index",
        timeout: float | None = None,
    ) -> Path:
        """Has all rows of a job's scores written to a file, waits for it, and saves it as `path`.

        The format goes by the path's ending unless given. See docs/exports.md for what each holds.

        Raises:
            ExportFailed: the service could not write it.
            TimeoutError: `timeout` seconds went by first.
        """
        export = self.create_export(job, format or format_of(path), order=order)
        return self.download_export(export, path, timeout=timeout)

    def download_selection(
        self,
        selection: str | Selection,
        path: str | Path,
        *,
        format: Format | None = None,  # noqa: A002
        timeout: float | None = None,
    ) -> Path:
        """The same for the rows of a selection, as they were chosen."""
        export = self.create_export(selection, format or format_of(path))
        return self.download_export(export, path, timeout=timeout)

    def create_export(
        self,
        of: str | Job | Selection,
        format: Format = "parquet",  # noqa: A002
        *,
        order: Order | None = None,
        name: str = "",
    ) -> Export:
        """Asks for a file of a job's scores, by index unless `order` says otherwise, or of a selection;
        `download_export` waits for it.
        """
        given = id_of(of)
        body: Json = {"selection_id" if given.startswith("sel_") else "job_id": given}
        body |= {"format": format, "name": name} | ({"order": order} if order else {})
        return self._read(Export, self._transport.send("POST", "/v1/exports", json=body))

    def download_export(
        self, export: str | Export, path: str | Path, *, timeout: float | None = None
    ) -> Path:
        """Waits until the export is written, and saves it as `path`. Raises as `download_scores` does."""
        where = f"/v1/exports/{id_of(export)}"
        for body in self._transport.poll(where, timeout):
            now = from_json(Export, body)
            if now.finished:
                break
        if now.status == "failed":
            raise ExportFailed(now)
        self._transport.download(f"{where}/content", Path(path))
        return Path(path)

    def export(self, export: str | Export) -> Export:
        return self._get(Export, f"/v1/exports/{id_of(export)}")

    def exports(self, job: str | Job | None = None, *, limit: int | None = None) -> Iterator[Export]:
        """Newest first; only those of a job, if one is given."""
        return self._pages(Export, "/v1/exports", {"job_id": id_of(job) if job else None}, limit)


def format_of(path: str | Path) -> Format:
    """The format that a file's ending names. Raises ValueError where it names none."""
    for name in FORMATS:
        if Path(path).suffix.lower() == f".{name}":
            return name
    endings = ", ".join(f".{name}" for name in FORMATS)
    raise ValueError(f"{path}: no format by this ending; give format=, or one of {endings}")
