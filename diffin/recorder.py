"""Keeps what the service needs of a plain PyTorch training loop.

recorder = Recorder(name="run 7", architecture={"name": "cnn", "config": {…}}, every=100, directory="run7")
for step, (x, y) in enumerate(batches, start=1):
    …
    optimizer.step()
    recorder.step(model, step, lr=optimizer.param_groups[0]["lr"])
recorder.finish(model)
trajectory = recorder.upload(Diffin())
"""

from __future__ import annotations

import math
import tempfile
import warnings
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from diffin.client import CLASSIFICATION, Diffin
from diffin.errors import DiffinError
from diffin.models import Json, Trajectory
from diffin.recording import MANIFEST, Kept, Recording

SGD = {"name": "sgd", "momentum": 0.0, "weight_decay": 0.0}
WRAPPERS = ("_orig_mod.", "module.")  # torch.compile's and DistributedDataParallel's


class Recorder:
    """Notes every step's learning rate and keeps the model's state at the steps asked for.

    Args:
        client: where to send each checkpoint as soon as it is kept; without one, `upload` sends them later.
        name: of the trajectory.
        architecture: a registered network, `{"name": …, "config": {…}}`, whose tensor names the model's
            `state_dict` must have (`diffin network NAME --config …` prints them).
        task: what the outputs mean and the loss trained with.
        optimizer: `{"name": "sgd" | "adam" | "adamw", "momentum": …, "weight_decay": …}`.
        preprocessing: `{"scale": …, "mean": […], "std": […]}` done to the inputs before the network.
        batch_size: samples a step.
        train_size: N, the samples trained on.
        directory: where to write; else a temporary folder. It must not hold another recording.
        every: keep a checkpoint each so many steps, or
        save_at: at these steps. The last step is kept by `finish` in any case.

    Raises:
        ValueError: neither or both of `every` and `save_at`, or steps below 1.
        FileExistsError: `directory` holds a recording already.
    """

    def __init__(
        self,
        client: Diffin | None = None,
        *,
        name: str,
        architecture: Mapping[str, Any],
        task: Mapping[str, Any] = CLASSIFICATION,
        optimizer: Mapping[str, Any] = SGD,
        preprocessing: Mapping[str, Any] | None = None,
        batch_size: int | None = None,
        train_size: int | None = None,
        directory: str | Path | None = None,
        every: int | None = None,
        save_at: Collection[int] | None = None,
    ) -> None:
        if (every is None) == (save_at is None):
            raise ValueError("give either every=k or save_at=[steps]")
        if min([every] if every is not None else save_at or [1]) < 1:
            raise ValueError("every and save_at count optimizer steps from 1")
        self._due: Callable[[int], bool] = (
            (lambda step: step % every == 0) if every is not None else frozenset(save_at or ()).__contains__
        )
        self.directory = Path(directory or tempfile.mkdtemp(prefix="diffin-"))
        self.directory.mkdir(parents=True, exist_ok=True)
        if (self.directory / MANIFEST).exists():
            raise FileExistsError(f"{self.directory} holds a recording already: give another directory")
        run: Json = {"name": name, "architecture": dict(architecture), "task": dict(task)}
        run |= {"preprocessing": dict(preprocessing) if preprocessing else None, "optimizer": dict(optimizer)}
        run |= {"batch_size": batch_size, "train_size": train_size}
        self.recording = Recording(self.directory, {field: v for field, v in run.items() if v is not None})
        self.recording.save()
        self._client = client
        self._rates: list[float] = []  # of the steps since the last checkpoint
        self._step = 0
        self._finished = False

    def step(self, model: torch.nn.Module, step: int, lr: float) -> None:
        """To be called after every optimizer step, with the steps done (from 1) and the rate this one had.

        Raises:
            ValueError: a step that is not the next one, or a rate that is negative or not finite.
        """
        if self._finished:
            raise ValueError("the recording was finished; record another run with another Recorder")
        if step != self._step + 1:
            raise ValueError(_out_of_order(step, self._step))
        if not (math.isfinite(lr) and lr >= 0):
            raise ValueError(f"learning rate {lr} of step {step}: must be finite and not negative")
        self._step = step
        self._rates.append(float(lr))
        if self._due(step):
            self._keep(model)

    def finish(self, model: torch.nn.Module, step: int | None = None) -> None:
        """Keeps the last state, θ_T, if that of the last step is not kept yet.

        Raises:
            ValueError: no step was recorded, or `step` is not the last one recorded.
        """
        if not self._step:
            raise ValueError("nothing to finish: call step(model, step, lr) after every optimizer step")
        if step not in (None, self._step):
            raise ValueError(f"finish at step {step}, but the last step recorded is {self._step}")
        if self._rates:
            self._keep(model)
        self._finished = True

    def upload(
        self, client: Diffin | None = None, *, progress: Callable[[int, int], None] | None = None
    ) -> Trajectory:
        """Sends the run, or what is not there yet of it, and waits until every checkpoint is validated.

        `progress(sent, total)` counts checkpoints.

        Raises:
            InputInvalid: the service refused a checkpoint: its tensors are not those of the network, say.
            ValueError: there is no client, here or from the constructor.
            DiffinError: the service refused, or could not be reached.
        """
        client = client or self._client
        if client is None:
            raise ValueError("no client: upload(Diffin(url, key))")
        return client.ready(self.recording.upload(client, progress=progress))

    def _keep(self, model: torch.nn.Module) -> None:
        name = f"step-{self._step:08d}.safetensors"
        fresh = self.directory / f"{name}.part"
        save_file(state(model), fresh)
        fresh.replace(self.directory / name)
        self.recording.checkpoints.append(Kept(self._step, name, tuple(self._rates)))
        self.recording.save()
        self._rates = []
        if self._client:
            try:
                self.recording.upload(self._client)
            except DiffinError as error:  # training matters more: upload() sends what is missing
                warnings.warn(f"checkpoint {self._step} kept, not sent: {error}", stacklevel=3)


def state(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    """The model's tensors by name, on the CPU and contiguous; tied weights no longer share memory."""
    tensors = {name: value for name, value in model.state_dict().items() if isinstance(value, torch.Tensor)}
    for prefix in WRAPPERS:
        if tensors and all(name.startswith(prefix) for name in tensors):
            tensors = {name.removeprefix(prefix): value for name, value in tensors.items()}
    return {
        name: value.detach().to("cpu", copy=True, memory_format=torch.contiguous_format)
        for name, value in tensors.items()
    }


def _out_of_order(step: int, last: int) -> str:
    if step < 1:
        return f"step {step}: give the optimizer steps done, the first being 1 (enumerate(…, start=1))"
    if step <= last:
        return f"step {step} after step {last}: steps must go forwards"
    if last == 0:
        return f"recording starts at step {step}: the learning rates of the steps before it are missing"
    return f"step {step} after step {last}: call step() after every optimizer step, for its learning rate"
