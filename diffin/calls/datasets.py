"""Data sets: sent, read again, looked at."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from diffin.calls import uploads
from diffin.calls.uploads import UploadCalls
from diffin.http import Sent, Upload
from diffin.models import Dataset, Json, id_of


class DatasetCalls(UploadCalls):
    def upload_dataset(
        self,
        path: str | Path | None = None,
        *,
        uri: str | None = None,
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
        """Sends a file, streamed, or the arrays `inputs` [N, …], `targets` [N] or [N, …] and `ids` [N]; the
        token ids of a causal language model, `inputs` [N, L], need no targets. Or has the service fetch a
        file by its `uri`, below one of `capabilities()["uri_prefixes"]`.

        The answer is still `validating`; `ready()` waits for the verdict, and `submit()` does so by itself.
        A large file goes in parts, so that what is broken off goes on where it was when called again.

        Args:
            columns: {inputs, targets, id} of a table, e.g. `{"inputs": "text", "targets": "label"}`.
            tokenizer: the network's `tokenizer.json`, for text, cut and padded to `max_length` tokens.
            image_size: (height, width) that images are brought to.
            image_mode: "L", "RGB" or "RGBA".
            like: the training set, for a query set that is to be read in the same way; waited for first.
            progress: called with the bytes sent and the bytes in all as they go out.
        """
        if path is not None or uri is not None:
            size = list(image_size) if image_size else None
            told: Json = {"format": format or None, "columns": dict(columns) if columns else None}
            told |= {"max_length": max_length, "padding_id": padding_id}
            told |= {"image_size": size, "image_mode": image_mode, "uri": uri}
            told |= {"like": self.ready(self.dataset(like)).id} if like is not None else {}
            told = {field: value for field, value in told.items() if value is not None}
            told |= {"name": name or Path(path or uri or "").stem}
            return self._send_dataset(Path(path) if path is not None else None, told, tokenizer, progress)
        import numpy as np  # only arrays need it

        values = np.asarray(inputs)
        tokens = values.dtype.kind in "iu" and values.ndim == 2  # [N, L]
        if inputs is None or (targets is None and not tokens):
            raise ValueError(
                "give the path of a file or its uri=, or the arrays inputs= and targets= (token ids need no "
                "targets)"
            )
        arrays: Json = {"inputs": inputs, "targets": targets, "ids": ids}
        arrays = {name: values for name, values in arrays.items() if values is not None}
        with tempfile.TemporaryDirectory(prefix="diffin-") as folder:
            file = Path(folder) / f"{name or 'dataset'}.npz".replace(os.sep, "-")
            np.savez(file, **arrays)
            return self.upload_dataset(file, name=name or "dataset", format="npz", progress=progress)

    def _send_dataset(
        self, path: Path | None, told: Json, tokenizer: str | Path | None, progress: Sent | None
    ) -> Dataset:
        """In one request, or a large one in parts; without a path it is named in what is told."""
        if path is not None and path.stat().st_size <= uploads.PARTS_ABOVE:
            form = {field: one if isinstance(one, str) else json.dumps(one) for field, one in told.items()}
            upload = Upload(path, progress, {"tokenizer_file": Path(tokenizer)} if tokenizer else {})
            return self._read(Dataset, self._transport.send("POST", "/v1/datasets", form=form, upload=upload))
        sent = {"upload_id": self.upload_file(path, progress=progress)} if path is not None else {}
        if tokenizer:
            sent["tokenizer_upload_id"] = self.upload_file(tokenizer)
        body = told | {field: one.id for field, one in sent.items()}
        made = self._read(Dataset, self._transport.send("POST", "/v1/datasets", json=body))
        for one in sent.values():
            self._used(one)
        return made

    def dataset(self, dataset: str | Dataset) -> Dataset:
        return self._get(Dataset, f"/v1/datasets/{id_of(dataset)}")

    def datasets(self, *, limit: int | None = None) -> Iterator[Dataset]:
        return self._pages(Dataset, "/v1/datasets", {}, limit)

    def sample(self, dataset: str | Dataset, index: int) -> Json:
        return self._json(f"/v1/datasets/{id_of(dataset)}/samples/{index}")

    def sample_content(self, dataset: str | Dataset, index: int) -> bytes:
        """One sample as people look at it: a PNG for an image, text, or a row."""
        return self._transport.send("GET", f"/v1/datasets/{id_of(dataset)}/samples/{index}/content").content
