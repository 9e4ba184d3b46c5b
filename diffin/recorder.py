"""Keeps what the service needs of a plain PyTorch training loop.

recorder = Recorder(name="run 7", architecture={"name": "cnn", "config": {…}}, every=100, directory="run7")
for step, (x, y) in enumerate(batches, start=1):
    …
    optimizer.step()
    recorder.step(model, step, lr=optimizer.param_groups[0]["lr"])
recorder.finish(model)
trajectory = recorder.upload(Diffin())

For scores of this very run, batch by batch (`resolution: "steps"`), the service needs to know more: the
initial state (`recorder.start(model)` before the first step), which samples each batch held (`indices=` of
each step), and what the optimizer carries (`optimizer=optimizer, optimizer_state=True`).
"""

from __future__ import annotations

import math
import tempfile
import warnings
from collections.abc import Callable, Collection, Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from diffin.client import CLASSIFICATION, Diffin
from diffin.errors import DiffinError
from diffin.models import Json, Trajectory
from diffin.optimizers import carried, described, on_cpu, unwrapped
from diffin.recording import MANIFEST, Kept, Recording

UNUSED = -1  # fills a batch that is short
SGD = {"name": "sgd", "momentum": 0.0, "weight_decay": 0.0}


class Recorder:
    """Notes every step's learning rate and keeps the model's state at the steps asked for.

    Args:
        client: where to send each checkpoint as soon as it is kept; without one, `upload` sends them later.
        name: of the trajectory.
        architecture: a registered network, `{"name": …, "config": {…}}`, whose tensor names the model's
            `state_dict` must have (`diffin network NAME --config …` prints them).
        task: what the outputs mean and the loss trained with.
        optimizer: torch's own SGD, Adam or AdamW, or
            `{"name": "sgd" | "adam" | "adamw", "momentum": …, "weight_decay": …}`.
        optimizer_state: keep what the optimizer carries with each checkpoint, as exact scores of a run with
            momentum or Adam need it; only with torch's own optimizer.
        preprocessing: `{"scale": …, "mean": […], "std": […]}` done to the inputs before the network.
        batch_size: samples a step.
        train_size: N, the samples trained on.
        directory: where to write; else a temporary folder. It must not hold another recording.
        every: keep a checkpoint each so many steps, or
        save_at: at these steps. The last step is kept by `finish` in any case.

    Raises:
        ValueError: neither or both of `every` and `save_at`, or steps below 1; an optimizer that the service
            does not know, or its state without it.
        FileExistsError: `directory` holds a recording already.
    """

    def __init__(
        self,
        client: Diffin | None = None,
        *,
        name: str,
        architecture: Mapping[str, Any],
        task: Mapping[str, Any] = CLASSIFICATION,
        optimizer: Mapping[str, Any] | torch.optim.Optimizer = SGD,
        optimizer_state: bool = False,
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
        own = optimizer if isinstance(optimizer, torch.optim.Optimizer) else None
        if optimizer_state and own is None:
            raise ValueError("optimizer_state=True wants torch's optimizer itself: optimizer=optimizer")
        told = dict(optimizer) if isinstance(optimizer, Mapping) else described(optimizer)
        run |= {"preprocessing": dict(preprocessing) if preprocessing else None, "optimizer": told}
        run |= {"batch_size": batch_size, "train_size": train_size}
        self.recording = Recording(self.directory, {field: v for field, v in run.items() if v is not None})
        self.recording.save()
        self._client = client
        self._optimizer = own if optimizer_state else None
        self._order: list[list[int]] = []  # the samples of each step
        self._rates: list[float] = []  # of the steps since the last checkpoint
        self._step = 0
        self._finished = False

    def start(self, model: torch.nn.Module) -> None:
        """Keeps the initial state, before the first step: exact scores of the first steps begin there.

        Raises:
            ValueError: a step was recorded already, or the initial state is kept.
        """
        if self._step or self.recording.checkpoints:
            raise ValueError("start(model) comes once, before the first step")
        self._keep(model)

    def step(
        self,
        model: torch.nn.Module,
        step: int,
        lr: float,
        *,
        indices: Iterable[int] | torch.Tensor | None = None,
    ) -> None:
        """To be called after every optimizer step, with the steps done (from 1) and the rate this one had.

        `indices` are the batch's samples, by their rows in the training set: of every step, or of none.

        Raises:
            ValueError: a step that is not the next one, a rate that is negative or not finite, or indices of
                some steps only, or none in a batch, or below 0.
        """
        if self._finished:
            raise ValueError("the recording was finished; record another run with another Recorder")
        if step != self._step + 1:
            raise ValueError(_out_of_order(step, self._step))
        if not (math.isfinite(lr) and lr >= 0):
            raise ValueError(f"learning rate {lr} of step {step}: must be finite and not negative")
        self._note(step, indices)
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
        if self._order:
            self._keep_order()
        if self._rates:
            self._keep(model)
        elif self._order:
            self._send(f"the batch order of {self._step} steps")
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

    def _note(self, step: int, indices: Iterable[int] | torch.Tensor | None) -> None:
        if (indices is None) == bool(self._order) and step > 1:
            raise ValueError(f"step {step}: give the indices of every step, or of none")
        if indices is None:
            return
        rows = [int(row) for row in (indices.tolist() if isinstance(indices, torch.Tensor) else indices)]
        if not rows or min(rows) < 0:
            raise ValueError(f"indices of step {step}: rows of the training set, at least one, from 0")
        self._order.append(rows)

    def _keep_order(self) -> None:
        batch = max(map(len, self._order))
        order = torch.tensor([rows + [UNUSED] * (batch - len(rows)) for rows in self._order])
        self._write({"batch_order": order}, "batch_order.safetensors")
        self.recording.batch_order = "batch_order.safetensors"
        self.recording.save()

    def _keep(self, model: torch.nn.Module) -> None:
        name = f"step-{self._step:08d}"
        self._write(state(model), f"{name}.safetensors")
        memory = carried(self._optimizer, model) if self._optimizer and self._step else {}
        if memory:
            self._write(memory, f"{name}.optimizer.safetensors")
        self.recording.checkpoints.append(
            Kept(
                self._step,
                f"{name}.safetensors",
                tuple(self._rates),
                f"{name}.optimizer.safetensors" if memory else None,
            )
        )
        self.recording.save()
        self._rates = []
        self._send(f"checkpoint {self._step}")

    def _write(self, tensors: dict[str, torch.Tensor], name: str) -> None:
        fresh = self.directory / f"{name}.part"
        save_file(tensors, fresh)
        fresh.replace(self.directory / name)

    def _send(self, what: str) -> None:
        if self._client:
            try:
                self.recording.upload(self._client)
            except DiffinError as error:  # training matters more: upload() sends what is missing
                warnings.warn(f"{what} kept, not sent: {error}", stacklevel=4)


def state(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    """The model's tensors by name, on the CPU and contiguous; tied weights no longer share memory."""
    tensors = {name: value for name, value in model.state_dict().items() if isinstance(value, torch.Tensor)}
    return {name: on_cpu(value) for name, value in unwrapped(tensors).items()}


def _out_of_order(step: int, last: int) -> str:
    if step < 1:
        return f"step {step}: give the optimizer steps done, the first being 1 (enumerate(…, start=1))"
    if step <= last:
        return f"step {step} after step {last}: steps must go forwards"
    if last == 0:
        return f"recording starts at step {step}: the learning rates of the steps before it are missing"
    return f"step {step} after step {last}: call step() after every optimizer step, for its learning rate"
