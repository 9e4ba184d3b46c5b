"""Runs: described, and their checkpoints and batch orders sent."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from diffin.calls import uploads
from diffin.calls.base import CLASSIFICATION
from diffin.calls.uploads import UploadCalls
from diffin.http import Sent, Upload
from diffin.models import BatchOrder, Checkpoint, Json, Trajectory, id_of


class TrajectoryCalls(UploadCalls):
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
        file, part = architecture_file, "architecture"
        if file is None:
            file, part = base_file, "base"
        if file is None:
            return self._read(Trajectory, self._transport.send("POST", "/v1/trajectories", json=given))
        if Path(file).stat().st_size > uploads.PARTS_ABOVE:
            sent = self.upload_file(file)
            given[f"{part}_upload_id"] = sent.id
            made = self._read(Trajectory, self._transport.send("POST", "/v1/trajectories", json=given))
            self._used(sent)
            return made
        upload = Upload(Path(file), part=f"{part}_file")
        form = {"trajectory": json.dumps(given)}
        return self._read(
            Trajectory, self._transport.send("POST", "/v1/trajectories", form=form, upload=upload)
        )

    def upload_checkpoint(
        self,
        trajectory: str | Trajectory,
        path: str | Path | None = None,
        *,
        step: int,
        uri: str | None = None,
        learning_rate: float | Sequence[float] | None = None,
        optimizer_file: str | Path | None = None,
        optimizer_uri: str | None = None,
        progress: Sent | None = None,
    ) -> Checkpoint:
        """Sends the state after `step` optimizer steps (safetensors) and what the optimizer carried there, or
        has the service fetch them by their uri, as data sets are.

        `learning_rate` is that of the steps since the checkpoint before: one number, or a list, one a step;
        None for the initial state, step 0. Large files go in parts, as those of data sets do.
        """
        told: Json = {"step": step}
        if isinstance(learning_rate, Sequence):
            told["learning_rates"] = [float(one) for one in learning_rate]
        elif learning_rate is not None:
            told["learning_rate"] = float(learning_rate)
        told |= {"uri": uri} if uri else {}
        told |= {"optimizer_uri": optimizer_uri} if optimizer_uri else {}
        where = f"/v1/trajectories/{id_of(trajectory)}/checkpoints"
        given = {"file": path, "optimizer_file": optimizer_file}
        files = {part: Path(one) for part, one in given.items() if one is not None}
        if path is not None and all(one.stat().st_size <= uploads.PARTS_ABOVE for one in files.values()):
            form = {field: json.dumps(one) for field, one in told.items()}
            upload = Upload(files.pop("file"), progress, files)
            return self._read(Checkpoint, self._transport.send("POST", where, form=form, upload=upload))
        sent = {"upload_id": self.upload_file(path, progress=progress)} if path is not None else {}
        if optimizer_file:
            sent["optimizer_upload_id"] = self.upload_file(optimizer_file)
        body = told | {field: one.id for field, one in sent.items()}
        made = self._read(Checkpoint, self._transport.send("POST", where, json=body))
        for one in sent.values():
            self._used(one)
        return made

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
