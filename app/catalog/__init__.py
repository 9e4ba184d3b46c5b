"""Which methods and networks exist and what they take. The engine's functions take the same names."""

from app.catalog.architectures import (
    ARCHITECTURES,
    Architecture,
    ArchitectureEntry,
    check_task,
    config_of,
    list_architectures,
    task_of,
)
from app.catalog.configs import (
    CnnConfig,
    Config,
    LinearConfig,
    MlpConfig,
    ResnetConfig,
    TransformerConfig,
)
from app.catalog.graph import ONNX, Onnx, OnnxConfig, Port
from app.catalog.listing import METHODS, MethodEntry, list_methods
from app.catalog.methods import (
    DiffIn,
    DiffInEq9,
    El2n,
    GradNorm,
    InfluenceFunction,
    Loss,
    Method,
    SelfInfluence,
    TracIn,
)
from app.catalog.options import Extent, Options, Parameters
from app.catalog.shapes import image_shape
from app.catalog.training import Optimizer, Preprocessing, Recipe, Task

__all__ = [
    "ARCHITECTURES",
    "METHODS",
    "ONNX",
    "Architecture",
    "ArchitectureEntry",
    "CnnConfig",
    "Config",
    "DiffIn",
    "DiffInEq9",
    "El2n",
    "Extent",
    "GradNorm",
    "InfluenceFunction",
    "LinearConfig",
    "Loss",
    "Method",
    "MethodEntry",
    "MlpConfig",
    "Onnx",
    "OnnxConfig",
    "Optimizer",
    "Options",
    "Parameters",
    "Port",
    "Preprocessing",
    "Recipe",
    "ResnetConfig",
    "SelfInfluence",
    "Task",
    "TracIn",
    "TransformerConfig",
    "check_task",
    "config_of",
    "image_shape",
    "list_architectures",
    "list_methods",
    "task_of",
]
