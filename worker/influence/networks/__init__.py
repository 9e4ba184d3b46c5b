"""The registered networks, one file each; `app/catalog` says which configs they take."""

from worker.influence.networks.build import (
    NETWORKS,
    ExpectedTensors,
    TensorSpec,
    build,
    expected_tensors,
)

__all__ = ["NETWORKS", "ExpectedTensors", "TensorSpec", "build", "expected_tensors"]
