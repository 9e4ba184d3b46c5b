"""A training run kept in a folder: `trajectory.json` and a safetensors file a checkpoint. Needs no torch."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from diffin.client import Diffin
from diffin.errors import DiffinError
from diffin.models import Json, Trajectory, from_json

MANIFEST = "trajectory.json"


@dataclass(frozen=True)
class Kept:
    """A checkpoint on disk: its files, and the learning rate of each step since the one before."""

    step: int
    file: str
    learning_rates: tuple[float, ...]
    optimizer_file: str | None = None

    @property
    def learning_rate(self) -> float | Sequence[float] | None:
        """One number where all steps had the same; None where there was no step."""
        if not self.learning_rates:
            return None
        return self.learning_rates[0] if len(set(self.learning_rates)) == 1 else self.learning_rates


@dataclass
class Recording:
    """The folder, read. `run` is the body of `POST /v1/trajectories`; `uploaded` says where it was sent;
    `batch_order` names the file of which samples each step saw, `architecture_file` that of the network.
    """

    directory: Path
    run: Json
    checkpoints: list[Kept] = field(default_factory=list)
    uploaded: Json | None = None
    batch_order: str | None = None
    architecture_file: str | None = None

    @classmethod
    def open(cls, directory: str | Path) -> Recording:
        """Reads a folder that the recorder wrote.

        Raises:
            FileNotFoundError: it holds no `trajectory.json`.
        """
        directory = Path(directory)
        manifest = directory / MANIFEST
        if not manifest.is_file():
            raise FileNotFoundError(f"{directory} holds no {MANIFEST}: give a folder written by Recorder")
        body = json.loads(manifest.read_text())
        kept = [from_json(Kept, item) for item in body["checkpoints"]]
        files = body.get("batch_order"), body.get("architecture_file")
        return cls(directory, body["run"], kept, body.get("uploaded"), *files)

    def save(self) -> None:
        """Writes the manifest in one go, so that a crash leaves the old one whole."""
        kept = [{k: v for k, v in asdict(one).items() if v is not None} for one in self.checkpoints]
        body: Json = {"run": self.run, "checkpoints": kept, "uploaded": self.uploaded}
        for name in ("batch_order", "architecture_file"):
            body |= {name: getattr(self, name)} if getattr(self, name) else {}
        fresh = self.directory / f"{MANIFEST}.part"
        fresh.write_text(json.dumps(body, indent=1) + "\n")
        fresh.replace(self.directory / MANIFEST)

    def upload(self, client: Diffin, *, progress: Callable[[int, int], None] | None = None) -> Trajectory:
        """Sends what the service lacks, and only that: safe to repeat, during training and after it.

        `progress(sent, total)` counts checkpoints.

        Raises:
            DiffinError: the service refused, or could not be reached.
        """
        trajectory = self._there(client)
        if trajectory is None:
            graph = self.directory / self.architecture_file if self.architecture_file else None
            trajectory = client.create_trajectory(**self.run, architecture_file=graph)
            self.uploaded = {"url": client.url, "trajectory_id": trajectory.id}
            self.save()
        sent = {checkpoint.step for checkpoint in trajectory.checkpoints}
        for done, kept in enumerate(self.checkpoints, start=1):
            if kept.step not in sent:
                client.upload_checkpoint(
                    trajectory,
                    self.directory / kept.file,
                    step=kept.step,
                    learning_rate=kept.learning_rate,
                    optimizer_file=self.directory / kept.optimizer_file if kept.optimizer_file else None,
                )
            if progress:
                progress(done, len(self.checkpoints))
        if self.batch_order and trajectory.batch_order is None:
            client.upload_batch_order(trajectory, self.directory / self.batch_order)
        return client.trajectory(trajectory)

    def _there(self, client: Diffin) -> Trajectory | None:
        if self.uploaded is None or self.uploaded["url"] != client.url:
            return None
        try:
            return client.trajectory(self.uploaded["trajectory_id"])
        except DiffinError as error:
            if error.status == 404:  # another project's, or a service whose data was thrown away
                return None
            raise
