"""Which methods and networks exist and what they take. The engine's functions take the same names."""

from app.catalog.architectures import (
    ARCHITECTURES,
    Architecture,
    ArchitectureEntry,
    list_architectures,
)
from app.catalog.configs import (
    CnnConfig,
    Config,
    LinearConfig,
    MlpConfig,
    ResnetConfig,
    TransformerConfig,
)
from app.catalog.methods import (
    METHODS,
    DiffIn,
    DiffInEq9,
    Loss,
    Method,
    MethodEntry,
    TracIn,
    list_methods,
)
from app.catalog.shapes import image_shape
from app.catalog.training import Optimizer, Preprocessing, Recipe, Task

__all__ = [
    "ARCHITECTURES",
    "METHODS",
    "Architecture",
    "ArchitectureEntry",
    "CnnConfig",
    "Config",
    "DiffIn",
    "DiffInEq9",
    "LinearConfig",
    "Loss",
    "Method",
    "MethodEntry",
    "MlpConfig",
    "Optimizer",
    "Preprocessing",
    "Recipe",
    "ResnetConfig",
    "Task",
    "TracIn",
    "TransformerConfig",
    "image_shape",
    "list_architectures",
    "list_methods",
]
