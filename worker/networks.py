"""The network of a trajectory, whichever way the trajectory tells of it. Nothing else builds networks."""

from __future__ import annotations

from typing import Literal

import torch
from sqlalchemy.orm import Session
from torch import nn

from app.catalog import ARCHITECTURES
from app.store.blobs import BlobStore
from app.store.tables import Trajectory
from worker.influence.networks import ExpectedTensors, build, expected_tensors

META = torch.device("meta")


def network_of(session: Session, blobs: BlobStore, trajectory: Trajectory, device: torch.device) -> nn.Module:
    """The network in evaluation mode, its tensors on `device` with values that mean nothing: a checkpoint's
    take their place in `torch.func.functional_call`. On the device "meta" it takes no memory.
    """
    name, config = trajectory.architecture["name"], trajectory.architecture["config"]
    with device:
        return build(name, config).to(device)


def tensors_of(session: Session, blobs: BlobStore, trajectory: Trajectory) -> ExpectedTensors:
    """The tensors that a checkpoint of the trajectory holds."""
    return expected_tensors(network_of(session, blobs, trajectory, META))


def inputs_of(trajectory: Trajectory) -> Literal["features", "image", "tokens"]:
    """What a sample is to the network."""
    return ARCHITECTURES[trajectory.architecture["name"]].config.inputs
