"""A good file for every reader: what hostile ones are made of, and what must still be read after them."""

from __future__ import annotations

import io
import json
from typing import Any

import numpy as np
from onnx import ModelProto, TensorProto, helper, numpy_helper
from safetensors.numpy import save
from tokenizers import Tokenizer, models, pre_tokenizers

from tests.hostile.readers import SHAPES
from tests.worker.loading.archives import colour, picture, tarred
from tests.worker.loading.files import npy, npz, zipped
from tests.worker.loading.tables import parquet

Array = np.ndarray[Any, Any]

X = np.arange(24, dtype=np.float32).reshape(6, 4)
Y = np.array([0, 1, 2, 2, 1, 2])
ORDER = np.array([[3, 1, 2], [0, 4, -1]])
PNG = picture(colour(4, 4))
STATE = {name: np.full(shape, 0.5, np.float32) for name, shape in SHAPES.items()}


def linear() -> ModelProto:
    """A graph of one layer, of batches of any size."""
    graph = helper.make_graph(
        [helper.make_node("Gemm", ["x", "fc.weight", "fc.bias"], ["y"], transB=1)],
        "graph",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 3])],
        [
            numpy_helper.from_array(value, name)
            for name, value in {"fc.weight": X[:3], "fc.bias": X[0, :3]}.items()
        ],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


def tokenizer() -> Tokenizer:
    words = {word: i for i, word in enumerate(["[PAD]", "[UNK]", "a", "good", "bad", "film"])}
    made = Tokenizer(models.WordLevel(words, unk_token="[UNK]"))  # noqa: S106  (no password)
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    return made


def _deflated(**arrays: Array) -> bytes:
    buffer = io.BytesIO()
    np.savez_compressed(buffer, allow_pickle=False, **arrays)
    return buffer.getvalue()


def _jsonl() -> bytes:
    rows = [
        {"x": x.tolist(), "label": int(y), "id": f"s{i}"} for i, (x, y) in enumerate(zip(X, Y, strict=True))
    ]
    return b"".join(json.dumps(row).encode() + b"\n" for row in rows)


IMAGES = {f"{label}/{i}.png": picture(colour(4, 4)) for i in range(3) for label in ("cat", "dog")}
SAMPLES = {
    name: data for i in range(3) for name, data in
    {f"{i:04}.png": picture(colour(4, 4)), f"{i:04}.cls": b"1", f"{i:04}.json": b'{"a": 1}'}.items()
}  # fmt: skip
TABLE = {"a": X[:, 0].tolist(), "b": ["u", "v", "u", "v", "u", "v"], "label": Y.tolist()}
CSV = b"a,b,label\n1.5,u,0\n2.5,v,1\n,u,1\n"

GOOD: dict[str, bytes] = {
    "npz": npz(inputs=X, targets=Y),
    "safetensors": save({"inputs": X, "targets": Y}),
    "parquet": parquet(TABLE),
    "csv": CSV,
    "jsonl": _jsonl(),
    "imagefolder": zipped(IMAGES),
    "webdataset": tarred(SAMPLES),
    "tar": tarred(IMAGES),
    "tokenizer": tokenizer().to_str().encode(),
    "checkpoint": save(STATE),
    "optimizer_state": save({f"exp_avg_sq.{name}": value for name, value in STATE.items()}),
    "batch_order": npy(ORDER),
    "graph": linear().SerializeToString(),
}
"""One a reader."""

MORE: dict[str, list[bytes]] = {
    "npz": [_deflated(inputs=X, targets=Y), npz(inputs=np.asfortranarray(X), targets=Y, ids=list("abcdef"))],
    "parquet": [
        parquet({"image": [PNG, PNG], "label": [0, 1]}, compression="zstd"),
        parquet({"x": X.tolist(), "label": Y.tolist()}, use_dictionary=False, data_page_version="2.0"),
        parquet(TABLE, use_dictionary=False, column_encoding={"b": "DELTA_BYTE_ARRAY"}),
        parquet(TABLE, use_dictionary=False, column_encoding={"b": "DELTA_LENGTH_BYTE_ARRAY"}),
    ],
    "csv": [b'"a";"b ""c""";label\n1;"x\ny";0\n2;z;1\n', b"\xef\xbb\xbfa\tb\tlabel\n1\t2\tcat\n"],
    "jsonl": [b'{"x": 1.5, "y": [1, 2]}\n{"x": null, "y": [3, 4]}\n'],
    "tar": [tarred(IMAGES, "w:gz"), tarred(SAMPLES)],
    "imagefolder": [tarred(IMAGES)],
    "batch_order": [npz(batch_order=ORDER), save({"batch_order": ORDER}), npy(np.asfortranarray(ORDER))],
}
"""Further ones, where a format has several forms."""
