"""Pickles in every disguise. Each makes `CANARY` when it is loaded, by one way or another."""

from __future__ import annotations

import base64
import gzip
import io
import json
import os
import pickle
import struct
import zlib
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa  # type: ignore[import-untyped]
from safetensors.numpy import save

from tests.hostile import good
from tests.hostile.case import CANARY, READY, Case
from tests.worker.loading.archives import tarred
from tests.worker.loading.files import header, npy, npz, zipped
from tests.worker.loading.tables import parquet

COMMAND = f"mkdir {CANARY}"


class Trap:
    """Makes the canary when it is unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(CANARY),)


def trap(protocol: int = 4) -> bytes:
    return pickle.dumps(Trap(), protocol)


SYSTEM = f"cos\nsystem\n(S'{COMMAND}'\ntR.".encode()  # protocol 0, by hand
SCRIPT = f"import os; os.system({COMMAND!r})".encode()
EXEC = b"\x80\x02c__builtin__\nexec\nX" + struct.pack("<I", len(SCRIPT)) + SCRIPT + b"\x85R."
INSTANCE = f"(S'{COMMAND}'\nios\nsystem\n.".encode()


def _object_array() -> bytes:
    array = np.array([Trap(), Trap()], dtype=object)
    buffer = io.BytesIO()
    np.lib.format.write_array(buffer, array, allow_pickle=True)
    return buffer.getvalue()


def _header(descr: str, shape: str = "(6,)") -> bytes:
    return header(f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}, }}\n")


def _torch_zip(**more: bytes) -> bytes:
    """As torch.save writes one."""
    return zipped(
        {"archive/data.pkl": trap(2), "archive/version": b"3\n", "archive/data/0": bytes(48), **more}
    )


def _torch_tar() -> bytes:
    """As torch.save wrote one before 0.1.10."""
    return tarred({"sys_info": trap(2), "pickle": trap(2), "tensors": trap(2), "storages": trap(2)})


def _torch_legacy() -> bytes:
    magic = 0x1950A86A20F9469CFC6C
    return b"".join(pickle.dumps(part, 2) for part in (magic, 1001, {"little_endian": True}, Trap()))


def _pandas() -> bytes:
    told = json.dumps({"pandas_version": "1", "columns": [], "pickled": base64.b64encode(trap()).decode()})
    return parquet(pa.table(good.TABLE).replace_schema_metadata({"pandas": told, "pickle": trap()}))


def _extension(name: bytes = b"arrow.py_extension_type") -> bytes:
    """Older pyarrow unpickled what stands here (CVE-2023-47248)."""
    told = {b"ARROW:extension:name": name, b"ARROW:extension:metadata": trap()}
    fields = [pa.field("a", pa.float32(), metadata=told), pa.field("label", pa.int64())]
    return parquet(pa.table([pa.array([1.0, 2.0], pa.float32()), pa.array([0, 1])], schema=pa.schema(fields)))


def _binary_column() -> bytes:
    return parquet({"inputs": pa.array([trap(), trap()]), "label": [0, 1]})


def _safetensors_with_metadata() -> bytes:
    return save({"inputs": good.X, "targets": good.Y}, {"__reduce__": SYSTEM.decode(), "format": "pickle"})


def _png_with_chunk() -> bytes:
    chunk = b"piCK" + trap()
    whole = struct.pack(">I", len(chunk) - 4) + chunk + struct.pack(">I", zlib.crc32(chunk))
    return good.PNG[:33] + whole + good.PNG[33:]


def _graph_with_metadata() -> bytes:
    made = good.linear()
    entry = made.metadata_props.add()
    entry.key, entry.value = "pickle", SYSTEM.decode()
    return bytes(made.SerializeToString())


def _graph_of_python() -> bytes:
    made = good.linear()
    made.graph.node[0].op_type, made.graph.node[0].domain = "PyOp", "ai.onnx.contrib"
    opset = made.opset_import.add()
    opset.domain, opset.version = "ai.onnx.contrib", 1
    return bytes(made.SerializeToString())


def _bytes_in_zip(name: str) -> bytes:
    return zipped({"inputs.npy": npy(good.X), "targets.npy": npy(good.Y), name: trap()})


def _among_images(name: str) -> bytes:
    return zipped({**good.IMAGES, name: trap()})


def _joblib(pack: Any) -> bytes:
    """joblib's: a pickle, packed whole."""
    return bytes(pack(trap(3)))


def _numpy_in_tar(data: bytes) -> bytes:
    return tarred({"0.npy": data, "0.cls": b"1", "1.npy": data, "1.cls": b"0"})


def _polyglot() -> bytes:
    """A pickle for who reads from the start, a zip for who reads from the end."""
    return trap(2) + good.GOOD["npz"]


def _zip_first() -> bytes:
    return good.GOOD["npz"] + trap()


DATA = [
    *(
        Case(f"a pickle of protocol {protocol}", reader, partial(trap, protocol), "unsafe_file|corrupt_file")
        for protocol in range(6) for reader in ("npz", "parquet")
    ),
    Case("a pickle by hand", "npz", lambda: SYSTEM, "corrupt_file"),
    Case("a pickle that calls exec", "npz", lambda: EXEC, "unsafe_file", "pickle"),
    Case("a pickle of an instance", "npz", lambda: INSTANCE, "corrupt_file"),
    Case("an object array", "npz", lambda: zipped({"inputs.npy": _object_array(), "targets.npy": npy(good.Y)}), "unsafe_file", "inputs"),
    Case("ids that are objects", "npz", lambda: npz(inputs=good.X, targets=good.Y, ids=np.array([Trap()] * 6, dtype=object)), "unsafe_file", "ids"),
    Case("a record with an object", "npz", lambda: zipped({"inputs.npy": _header("[('a', '<f4'), ('b', '|O')]") + trap(), "targets.npy": npy(good.Y)}), "unsafe_file|corrupt_file", "inputs"),
    Case("an object array of version 3", "npz", lambda: zipped({"inputs.npy": header("{'descr': '|O', 'fortran_order': False, 'shape': (1,), }\n", 3) + trap(), "targets.npy": npy(good.Y)}), "unsafe_file|corrupt_file", "inputs"),
    Case("an array that is a pickle", "npz", lambda: zipped({"inputs.npy": trap(), "targets.npy": npy(good.Y)}), "corrupt_file", "inputs"),
    Case("a pickle beside the arrays", "npz", lambda: _bytes_in_zip("x.pkl"), "unknown_array|unsafe_file", "x.pkl"),
    Case("torch's file of a network", "npz", _torch_zip, "unsafe_file", "torch.save"),
    Case("torch's file with arrays in it", "npz", lambda: _torch_zip(**{"inputs.npy": npy(good.X)}), "unsafe_file", "torch.save"),
    Case("a zip behind a pickle", "npz", _polyglot, "unsafe_file", "pickle"),
    Case("a pickle behind a zip", "npz", _zip_first, "corrupt_file|ready"),
    Case("joblib's file", "npz", lambda: trap(3), "unsafe_file", "pickle"),
    Case("joblib's file, packed by zlib", "npz", lambda: _joblib(zlib.compress), "corrupt_file"),
    Case("joblib's file, packed by gzip", "npz", lambda: _joblib(gzip.compress), "corrupt_file"),
    Case("a pickle", "csv", lambda: trap(), "unsafe_file", "pickle"),
    Case("a pickle of protocol 0", "csv", lambda: trap(0), "corrupt_file|missing_array|shape_mismatch"),
    Case("a pickle", "jsonl", lambda: trap(), "unsafe_file", "pickle"),
    Case("a pickle of protocol 0", "jsonl", lambda: trap(0), "corrupt_file"),
    Case("jsonpickle's words", "jsonl", lambda: json.dumps({"x": 1.0, "label": 0, "py/reduce": None} | {"py/object": "os.system"}).encode() + b"\n", "unsupported_dtype|missing_array|ready"),
    Case("a pickle", "safetensors", lambda: trap(), "unsafe_file", "pickle"),
    Case("a pickle in the metadata", "safetensors", _safetensors_with_metadata, READY),
    Case("a pickle behind the tensors", "safetensors", lambda: good.GOOD["safetensors"] + trap(), "corrupt_file"),
    Case("pandas' metadata with a pickle", "parquet", _pandas, READY),
    Case("pyarrow's pickled extension type", "parquet", _extension, READY),
    Case("an extension type nobody knows", "parquet", lambda: _extension(b"evil.type"), READY),
    Case("a column of pickles", "parquet", _binary_column, "corrupt_file", "inputs", {"columns": {"inputs": "inputs"}}),
    Case("a pickle", "tokenizer", lambda: trap(), "invalid_tokenizer"),
]  # fmt: skip
ARCHIVES = [
    *(
        Case(f"a file {ending}", "imagefolder", partial(_among_images, f"cat/x{ending}"), "unsafe_file|unknown_array", f"cat/x{ending}")
        for ending in (".pkl", ".pickle", ".pt", ".pth", ".joblib", ".pyd", ".PKL", ".pt2", ".bin", ".npy")
    ),
    Case("a pickle called .png", "imagefolder", lambda: zipped({**good.IMAGES, "cat/x.png": trap()}), "corrupt_file", "image"),
    Case("a pickle in a chunk of a PNG", "imagefolder", lambda: zipped({**good.IMAGES, "cat/x.png": _png_with_chunk()}), READY),
    Case("a pickle behind a PNG's start", "imagefolder", lambda: zipped({**good.IMAGES, "cat/x.png": good.PNG[:33] + trap()}), "corrupt_file", "image"),
    Case("torch's file from before 2017", "tar", _torch_tar, "unknown_array|unsafe_file"),
    Case("a pickled part of a sample", "webdataset", lambda: tarred({"0.png": good.PNG, "0.pkl": trap()}), "unsafe_file", "0.pkl"),
    Case("a pickled part by another name", "webdataset", lambda: tarred({"0.png": good.PNG, "0.pyc": trap()}), "unknown_array", "pyc"),
    Case("arrays of objects", "webdataset", lambda: _numpy_in_tar(_object_array()), "unsafe_file", "npy"),
    Case("arrays that are pickles", "webdataset", lambda: _numpy_in_tar(trap()), "corrupt_file", "npy"),
    Case("JSON that is a pickle", "webdataset", lambda: tarred({"0.png": good.PNG, "0.json": trap()}), "corrupt_file", "0.json"),
    Case("a pickle packed as a tar.gz", "tar", lambda: gzip.compress(trap()), "corrupt_file"),
]  # fmt: skip
RUNS = [
    *(Case(f"a pickle of protocol {protocol}", "checkpoint", partial(trap, protocol), "unsafe_file|corrupt_file") for protocol in range(6)),
    Case("torch's file", "checkpoint", _torch_zip, "unsafe_file", "torch.save"),
    Case("torch's file that weights_only let pass", "checkpoint", lambda: _torch_zip(**{"archive/.format_version": b"1", "archive/byteorder": b"little"}), "unsafe_file", "torch.save"),
    Case("torch's file of old", "checkpoint", _torch_legacy, "unsafe_file", "torch.save"),
    Case("torch's file from before 2017", "checkpoint", _torch_tar, "corrupt_file"),
    Case("torch's file, in a zip once more", "checkpoint", lambda: zipped({"c.pt": _torch_zip()}), "unsafe_file"),
    Case("torch's file", "optimizer_state", _torch_zip, "unsafe_file", "torch.save"),
    Case("a pickle", "optimizer_state", trap, "unsafe_file"),
    Case("a pickle", "batch_order", trap, "unsafe_file", "pickle"),
    Case("an object array", "batch_order", _object_array, "unsafe_file", "object array"),
    Case("an object array in a zip", "batch_order", lambda: zipped({"batch_order.npy": _object_array()}), "unsafe_file", "batch_order"),
    Case("torch's file", "batch_order", _torch_zip, "unsafe_file", "torch.save"),
    Case("a pickle", "graph", trap, "unsafe_file", "run code"),
    Case("a pickle of protocol 0", "graph", lambda: trap(0), "corrupt_file"),
    Case("TorchScript", "graph", lambda: _torch_zip(**{"archive/code/__torch__.py": COMMAND.encode(), "archive/constants.pkl": trap(2)}), "unsafe_file", "run code"),
    Case("torch.export's file", "graph", lambda: zipped({"archive_format": b"pt2", "models/model.json": b"{}", "data/weights/weight_0": trap()}), "unsafe_file", "run code"),
    Case("a pickle in the metadata", "graph", _graph_with_metadata, READY),
    Case("an operator of Python's", "graph", _graph_of_python, "unsupported_operator|invalid_graph", "PyOp"),
    Case("Keras' file (HDF5)", "graph", lambda: b"\x89HDF\r\n\x1a\n" + SYSTEM, "unknown_format"),
]  # fmt: skip
CASES = [*DATA, *ARCHIVES, *RUNS]
