"""Keeps what the service needs of a plain PyTorch training loop, in two lines: before it and after it.

recorder = Recorder(model, x[:2], optimizer=optimizer, every=100)
for x, y in batches:
    …
    optimizer.step()
trajectory = recorder.upload(Diffin())

The network may be any that torch exports (its graph is sent, none of its code), or a registered one
(`architecture={"name": "cnn", "config": {…}}` instead of the example inputs). Steps and learning rates are
learnt from torch's optimizer; where there is none, `recorder.step(lr=…)` after each step tells of them.

For scores of this very run, batch by batch (`resolution: "steps"`), the service needs to know more: the
initial state (`recorder.start()` before the first step), which samples each batch held
(`recorder.batch(rows)` before each step), and what the optimizer carries (`optimizer_state=True`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import torch

from diffin.calls.base import CLASSIFICATION
from diffin.client import Diffin
from diffin.graph import export_graph, trained_names, unwrapped_module
from diffin.keeping import GRAPH, Keeper, state
from diffin.models import Json, Trajectory
from diffin.optimizers import carried, described
from diffin.recording import Recording

__all__ = ["Recorder", "state"]

SGD = {"name": "sgd", "momentum": 0.0, "weight_decay": 0.0}
ADAPTIVE = ("adam", "adamw")
Rows = Iterable[int] | torch.Tensor


class Recorder:
    """Notes every step's learning rate and keeps the model's state at the steps asked for.

    Args:
        model: what is trained, also inside DataParallel or torch.compile; left out, each call gives it. (A
            client may stand here too.)
        example_inputs: some samples as the model takes them, `x[:2]`: a tensor, or a tuple of several. The
            model's graph is exported of them, in evaluation mode, without disturbing the training.
        client: where to send each checkpoint as soon as it is kept; without one, `upload` sends them later.
        name: of the trajectory; else that of the model's class.
        architecture: a registered network, `{"name": …, "config": {…}}`, whose tensor names the model's
            `state_dict` must have (`diffin network NAME --config …` prints them); nothing is exported then.
        task: what the outputs mean and the loss trained with.
        optimizer: torch's own SGD, Adam or AdamW, or
            `{"name": "sgd" | "adam" | "adamw", "momentum": …, "weight_decay": …}`. With the model, each
            `step()` of torch's own is recorded by itself.
        optimizer_state: keep what the optimizer carries with each checkpoint, as scores of a run with Adam,
            and exact ones of a run with momentum need it; only with torch's own optimizer. None: with Adam,
            where the model is given.
        preprocessing: `{"scale": …, "mean": […], "std": […]}` done to the inputs before the network.
        batch_size: samples a step.
        train_size: N, the samples trained on.
        directory: where to write; else a temporary folder. It must not hold another recording.
        every: keep a checkpoint each so many steps, or
        save_at: at these steps. The last step is kept by `finish` in any case.

    Raises:
        ValueError: neither or both of `every` and `save_at`, or steps below 1; an optimizer that the service
            does not know or that trains another model, or its state without it; nothing that tells the
            network. `diffin.graph.ExportError`: the model can't be exported, with what to do about it.
        FileExistsError: `directory` holds a recording already.
    """

    def __init__(
        self,
        model: torch.nn.Module | Diffin | None = None,
        example_inputs: torch.Tensor | Collection[torch.Tensor] | None = None,
        *,
        client: Diffin | None = None,
        name: str | None = None,
        architecture: Mapping[str, Any] | None = None,
        task: Mapping[str, Any] = CLASSIFICATION,
        optimizer: Mapping[str, Any] | torch.optim.Optimizer = SGD,
        optimizer_state: bool | None = None,
        preprocessing: Mapping[str, Any] | None = None,
        batch_size: int | None = None,
        train_size: int | None = None,
        directory: str | Path | None = None,
        every: int | None = None,
        save_at: Collection[int] | None = None,
    ) -> None:
        if isinstance(model, Diffin):
            model, client = None, model
        self._due = _due(every, save_at)
        own = optimizer if isinstance(optimizer, torch.optim.Optimizer) else None
        if optimizer_state and own is None:
            raise ValueError("optimizer_state=True wants torch's optimizer itself: optimizer=optimizer")
        told = dict(optimizer) if isinstance(optimizer, Mapping) else described(optimizer)
        trained = None if model is None else trained_names(model, own)
        if trained == []:
            raise ValueError("the optimizer trains no parameter of this model: give both of one run")
        graph = architecture is None
        if graph and (model is None or example_inputs is None):
            raise ValueError(
                "give the model and example_inputs (two samples as it takes them), or the architecture= of a "
                "registered network"
            )
        name = name or (type(unwrapped_module(model)).__name__ if model is not None else None)
        if name is None:
            raise ValueError("give the run a name=")
        run: Json = {"name": name, "architecture": dict(architecture or {"name": "onnx"}), "task": dict(task)}
        run |= {"preprocessing": dict(preprocessing) if preprocessing else None, "optimizer": told}
        self._keeper = Keeper(directory, run | {"batch_size": batch_size, "train_size": train_size}, client)
        if graph and model is not None and example_inputs is not None:
            export_graph(model, example_inputs, self.directory / GRAPH, trained or ())
            self.recording.architecture_file = GRAPH
        self.recording.save()
        self._model, self._client = model, client
        self._trained = trained if graph else None  # a graph's other parameters are constants of it
        adaptive = model is not None and told["name"] in ADAPTIVE
        self._memory = own if (adaptive if optimizer_state is None else optimizer_state) else None
        self._order: list[list[int]] = []  # the samples of each step
        self._rows: list[int] = []  # of the step to come
        self._rates: list[float] = []  # of the steps since the last checkpoint
        self._step = 0
        self._finished = False
        self._hook = None
        if own is not None and model is not None:
            self._hook = own.register_step_post_hook(self._after_step)

    @property
    def directory(self) -> Path:
        return self._keeper.directory

    @property
    def recording(self) -> Recording:
        return self._keeper.recording

    def start(self, model: torch.nn.Module | None = None) -> None:
        """Keeps the initial state, before the first step: exact scores of the first steps begin there.

        Raises:
            ValueError: a step was recorded already, or the initial state is kept.
        """
        if self._step or self.recording.checkpoints:
            raise ValueError("start(model) comes once, before the first step")
        self._keep(self._of(model))

    def batch(self, rows: Rows) -> None:
        """The samples that the step to come trains on, by their rows in the training set: before every step,
        or of none. Batches whose gradients are added up for one step come one after the other.

        Raises:
            ValueError: none, or one below 0.
        """
        self._rows += _checked(rows, self._step + 1)

    def step(
        self,
        model: torch.nn.Module | None = None,
        step: int | None = None,
        lr: float | None = None,
        *,
        indices: Rows | None = None,
    ) -> None:
        """To be called after every optimizer step, unless the model and torch's optimizer were given.

        Args:
            step: steps done, from 1; counted where it is left out.
            lr: the rate that this step had.
            indices: the batch's samples, as `batch` takes them.

        Raises:
            ValueError: a step that is not the next one, a rate that is negative or not finite, or indices of
                some steps only, or none in a batch, or below 0.
        """
        if self._hook is not None:
            raise ValueError("the optimizer's steps are recorded by themselves: leave out step()")
        if lr is None:
            raise ValueError("step(lr=…): the learning rate that this step had")
        if indices is not None:
            self.batch(indices)
        self._note(self._of(model), self._step + 1 if step is None else step, lr)

    def finish(self, model: torch.nn.Module | None = None, step: int | None = None) -> None:
        """Keeps the last state, θ_T, if that of the last step is not kept yet.

        Raises:
            ValueError: no step was recorded, or `step` is not the last one recorded.
        """
        if not self._step:
            raise ValueError("nothing to finish: call step(model, step, lr) after every optimizer step")
        if step not in (None, self._step):
            raise ValueError(f"finish at step {step}, but the last step recorded is {self._step}")
        self._unhook()
        if self._order:
            self._keeper.order(self._order)
        if self._rates:
            self._keep(self._of(model))
        elif self._order:
            self._keeper.send(f"the batch order of {self._step} steps")
        self._finished = True

    def upload(
        self, client: Diffin | None = None, *, progress: Callable[[int, int], None] | None = None
    ) -> Trajectory:
        """Sends the run, or what is not there yet of it, and waits until every file of it is validated. Where
        the model was given, the run is finished first.

        `progress(sent, total)` counts checkpoints.

        Raises:
            InputInvalid: the service refused a file: the graph has an operator that it does not know, say.
            ValueError: there is no client, here or from the constructor.
            DiffinError: the service refused, or could not be reached.
        """
        client = client or self._client
        if client is None:
            raise ValueError("no client: upload(Diffin(url, key))")
        if self._model is not None and not self._finished:
            self.finish()
        return client.ready(self.recording.upload(client, progress=progress))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Finishes the run, unless the loop was left by an error: then what was kept stays as it is."""
        self._unhook()
        if kind is None and not self._finished:
            self.finish()

    def _after_step(self, optimizer: torch.optim.Optimizer, _args: Any, _kwargs: Any) -> None:
        rates = {float(group["lr"]) for group in optimizer.param_groups}
        if len(rates) > 1:
            raise ValueError(f"the optimizer's groups of parameters differ in their learning rates: {rates}")
        self._note(self._of(None), self._step + 1, rates.pop())

    def _note(self, model: torch.nn.Module, step: int, lr: float) -> None:
        if self._finished:
            raise ValueError("the recording was finished; record another run with another Recorder")
        if step != self._step + 1:
            raise ValueError(_out_of_order(step, self._step))
        if not (math.isfinite(lr) and lr >= 0):
            raise ValueError(f"learning rate {lr} of step {step}: must be finite and not negative")
        if bool(self._rows) != bool(self._order) and step > 1:
            raise ValueError(f"step {step}: give the indices of every step, or of none")
        if self._rows:
            self._order.append(self._rows)
            self._rows = []
        self._step = step
        self._rates.append(float(lr))
        if self._due(step):
            self._keep(model)

    def _keep(self, model: torch.nn.Module) -> None:
        memory = carried(self._memory, model) if self._memory and self._step else {}
        if self._trained is not None:
            memory = {key: v for key, v in memory.items() if key.partition(".")[2] in self._trained}
        rates, self._rates = self._rates, []
        self._keeper.checkpoint(self._step, rates, state(model), memory)

    def _of(self, model: torch.nn.Module | None) -> torch.nn.Module:
        model = self._model if model is None else model
        if model is None:
            raise ValueError("give the model, here or to Recorder(model, …)")
        return model

    def _unhook(self) -> None:
        if self._hook is not None:
            self._hook.remove()


def _due(every: int | None, save_at: Collection[int] | None) -> Callable[[int], bool]:
    if (every is None) == (save_at is None):
        raise ValueError("give either every=k or save_at=[steps]")
    if min([every] if every is not None else save_at or [1]) < 1:
        raise ValueError("every and save_at count optimizer steps from 1")
    if every is not None:
        return lambda step: step % every == 0
    return frozenset(save_at or ()).__contains__


def _checked(rows: Rows, step: int) -> list[int]:
    found = [int(row) for row in (rows.tolist() if isinstance(rows, torch.Tensor) else rows)]
    if not found or min(found) < 0:
        raise ValueError(f"indices of step {step}: rows of the training set, at least one, from 0")
    return found


def _out_of_order(step: int, last: int) -> str:
    if step < 1:
        return f"step {step}: give the optimizer steps done, the first being 1 (enumerate(…, start=1))"
    if step <= last:
        return f"step {step} after step {last}: steps must go forwards"
    if last == 0:
        return f"recording starts at step {step}: the learning rates of the steps before it are missing"
    return f"step {step} after step {last}: call step() after every optimizer step, for its learning rate"
