"""The only place that opens untrusted bytes: checks them, and writes what it accepts in canonical form."""

from worker.loading.checkpoint import CheckpointInfo, load_checkpoint
from worker.loading.dataset import ArrayInfo, DatasetInfo, load_dataset
from worker.loading.errors import LoadError

__all__ = ["ArrayInfo", "CheckpointInfo", "DatasetInfo", "LoadError", "load_checkpoint", "load_dataset"]
