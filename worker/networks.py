"""The network of a trajectory, whichever way the trajectory tells of it. Nothing else builds networks."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from sqlalchemy.orm import Session
from torch import nn

from app import catalog
from app.catalog import ONNX, config_of
from app.catalog.language_models import PREFIX
from app.store import trajectories
from app.store.blobs import BlobStore
from app.store.tables import Trajectory
from worker.influence.networks import ExpectedTensors, build, expected_tensors
from worker.influence.networks.graph import GraphNetwork
from worker.influence.preprocessing import Preprocessing
from worker.influence.task import Loss, Task
from worker.problems import UserError

META = torch.device("meta")


def network_of(
    session: Session,
    blobs: BlobStore,
    trajectory: Trajectory,
    device: torch.device,
    *,
    initial: bool = False,
) -> nn.Module:
    """The network in evaluation mode. Its tensors' values mean nothing, and they may have none at all: a
    checkpoint's take their place in `torch.func.functional_call`. On the device "meta" it takes no memory.

    Args:
        initial: whether the tensors are to have the values that training starts from: those of a graph, or
            else drawn by torch's generator.

    Raises:
        UserError: transformers builds no language model of the config.
    """
    architecture = trajectory.architecture
    if architecture["name"] == ONNX:
        file = trajectories.file(session, trajectory.id, "architecture")
        assert file and file.blob  # noqa: S101  (nothing asks before it is ready)
        with device:
            return GraphNetwork.read(blobs.path(session, file.blob)).to(device).eval()
    base = trajectories.file(session, trajectory.id, "base") if trajectory.id else None
    path = blobs.path(session, base.blob) if base and base.blob and device != META else None
    name, config = architecture["name"], architecture["config"]
    if config.get("lora") and path is None and device != META:
        raise UserError(
            "base_required",
            "An adapter wants the weights below it, which only a trajectory's base_file holds.",
        )
    return _network(name, config, trajectory.task["type"], device, initial, path)


def expected_of(name: str, config: Mapping[str, Any], task: str) -> ExpectedTensors:
    """The tensors that a checkpoint of the network `name` with this config holds."""
    return expected_tensors(_network(name, config, task, META))


def tensors_below(trajectory: Trajectory) -> ExpectedTensors:
    """The tensors that the file of the role `base` holds: of the model that the trajectory's adapts."""
    architecture = trajectory.architecture
    plain = {key: value for key, value in architecture["config"].items() if key != "lora"}
    return expected_of(architecture["name"], plain, trajectory.task["type"])


def tensors_of(session: Session, blobs: BlobStore, trajectory: Trajectory) -> ExpectedTensors:
    """The tensors that a checkpoint of the trajectory holds."""
    return expected_tensors(network_of(session, blobs, trajectory, META))


def task_of(trajectory: Trajectory, network: nn.Module) -> Task:
    """What the trajectory's network was trained to do."""
    told = trajectory.task
    loss: Loss = "next_token" if told["type"] == "causal_lm" else told["loss"]
    return Task(network, loss, told.get("group_size", 1))


def preprocessing_of(trajectory: Trajectory) -> Preprocessing:
    """How the run's samples are prepared.

    PostgreSQL hands 1e38 back as an integer, which no tensor takes: numbers are read as they were sent.
    """
    sent = catalog.Preprocessing.model_validate(trajectory.preprocessing)
    kind = config_of(trajectory.architecture).inputs
    return Preprocessing(inputs=kind, scale=sent.scale, mean=tuple(sent.mean), std=tuple(sent.std))


def _network(
    name: str,
    config: Mapping[str, Any],
    task: str,
    device: torch.device,
    initial: bool = False,
    base: Path | None = None,
) -> nn.Module:
    if not name.startswith(PREFIX):
        with device:
            return build(name, config).to(device)
    from worker.hf import build as hf  # transformers takes seconds to load

    try:
        return hf.build(name.removeprefix(PREFIX), config, task, device, initial=initial, base=base)
    except hf.BuildError as refused:
        raise UserError("invalid_architecture", str(refused)) from refused
