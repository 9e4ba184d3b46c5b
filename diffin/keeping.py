"""What the recorder writes, file by file, and sends at once where it was given a client."""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors.torch import save_file

from diffin.client import Diffin
from diffin.errors import DiffinError
from diffin.models import Json
from diffin.optimizers import on_cpu, unwrapped
from diffin.recording import MANIFEST, Kept, Recording

UNUSED = -1  # fills a batch that is short
ORDER = "batch_order.safetensors"
GRAPH = "network.onnx"


class Keeper:
    """The folder of a recording in the making."""

    def __init__(self, directory: str | Path | None, run: Json, client: Diffin | None) -> None:
        """
        Raises:
            FileExistsError: `directory` holds a recording already.
        """
        self.directory = Path(directory or tempfile.mkdtemp(prefix="diffin-"))
        self.directory.mkdir(parents=True, exist_ok=True)
        if (self.directory / MANIFEST).exists():
            raise FileExistsError(f"{self.directory} holds a recording already: give another directory")
        given = {field: value for field, value in run.items() if value is not None}
        self.recording = Recording(self.directory, given)
        self._client = client

    def checkpoint(
        self,
        step: int,
        rates: Sequence[float],
        tensors: dict[str, torch.Tensor],
        memory: dict[str, torch.Tensor],
    ) -> None:
        """Keeps the state after `step` steps, and what the optimizer carries there, if anything."""
        name = f"step-{step:08d}"
        self._write(tensors, f"{name}.safetensors")
        state = f"{name}.optimizer.safetensors" if memory else None
        if state:
            self._write(memory, state)
        self.recording.checkpoints.append(Kept(step, f"{name}.safetensors", tuple(rates), state))
        self.recording.save()
        self.send(f"checkpoint {step}")

    def order(self, batches: Sequence[Sequence[int]]) -> None:
        """Keeps which samples each step's batch held."""
        batch = max(map(len, batches))
        rows = torch.tensor([[*one, *[UNUSED] * (batch - len(one))] for one in batches])
        self._write({"batch_order": rows}, ORDER)
        self.recording.batch_order = ORDER
        self.recording.save()

    def send(self, what: str) -> None:
        """Sends what is not there yet. Training matters more: where that fails, `upload` is left to do it."""
        if self._client:
            try:
                self.recording.upload(self._client)
            except DiffinError as error:
                warnings.warn(f"{what} kept, not sent: {error}", stacklevel=5)

    def _write(self, tensors: dict[str, torch.Tensor], name: str) -> None:
        fresh = self.directory / f"{name}.part"
        save_file(tensors, fresh)
        fresh.replace(self.directory / name)


def state(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    """The model's tensors by name, on the CPU and contiguous; tied weights no longer share memory."""
    tensors = {name: value for name, value in model.state_dict().items() if isinstance(value, torch.Tensor)}
    return {name: on_cpu(value) for name, value in unwrapped(tensors).items()}
