"""The only place that opens untrusted bytes: checks them, and writes what it accepts in canonical form."""

from worker.loading.asked import Asked
from worker.loading.checkpoint import CheckpointInfo, load_checkpoint
from worker.loading.dataset import FILES, ArrayInfo, DatasetInfo, load_dataset
from worker.loading.errors import LoadError
from worker.loading.onnx import GraphInfo, load_onnx
from worker.loading.optimizer import load_optimizer_state
from worker.loading.order import OrderInfo, load_batch_order

__all__ = [
    "FILES",
    "ArrayInfo",
    "Asked",
    "CheckpointInfo",
    "DatasetInfo",
    "GraphInfo",
    "LoadError",
    "OrderInfo",
    "load_batch_order",
    "load_checkpoint",
    "load_dataset",
    "load_onnx",
    "load_optimizer_state",
]
