"""Hostile requests: names, JSON and configs made to do harm are refused with a 4xx, or taken for what they are."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import httpx
import pytest

from tests import walk
from tests.hostile import good, readers
from tests.hostile.pickles import trap
from tests.services import Service

DEEP = 100_000
HUGE = "9" * 10_000
RUN: dict[str, Any] = {
    "name": "run",
    "architecture": {"name": "mlp", "config": readers.MLP},
    "task": {"type": "classification", "loss": "cross_entropy"},
}
BERT: dict[str, Any] = {
    "vocab_size": 100, "hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1,
    "intermediate_size": 8, "max_position_embeddings": 16, "pad_token_id": 0,
}  # fmt: skip


@dataclass(frozen=True)
class Sent:
    """A request; "{run}" in its path is a trajectory's id. `code` is what the answer must name, if one."""

    name: str
    path: str
    statuses: tuple[int, ...]
    code: str = ""
    method: str = "POST"
    options: Mapping[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        return self.name


def body(
    name: str,
    text: str | bytes,
    *statuses: int,
    path: str = "/v1/trajectories",
    code: str = "",
    **headers: str,
) -> Sent:
    """JSON, byte for byte."""
    return Sent(
        name,
        path,
        statuses,
        code,
        options={"content": text, "headers": {"content-type": "application/json", **headers}},
    )


def run(name: str, *statuses: int, code: str = "", **changed: Any) -> Sent:
    return Sent(name, "/v1/trajectories", statuses, code, options={"json": RUN | changed})


def network(name: str, kind: str, config: Any, *statuses: int) -> Sent:
    return run(f"a network: {name}", *statuses, architecture={"name": kind, "config": config})


def bert(name: str, *statuses: int, **config: Any) -> Sent:
    return network(name, "hf/bert", BERT | config, *statuses)


def dataset(
    name: str,
    *statuses: int,
    filename: str = "d.npz",
    content: bytes = good.GOOD["npz"],
    code: str = "",
    **fields: str,
) -> Sent:
    options = {"files": {"file": (filename, content)}, "data": {"name": "d"} | fields}
    return Sent(f"a data set: {name}", "/v1/datasets", statuses, code, options=options)


def checkpoint(
    name: str, *statuses: int, code: str = "", files: Mapping[str, Any] | None = None, **fields: str
) -> Sent:
    given = files or {"file": ("c.safetensors", good.GOOD["checkpoint"])}
    options = {"files": given, "data": {"step": "1", "learning_rate": "0.1"} | fields}
    return Sent(
        f"a checkpoint: {name}", "/v1/trajectories/{run}/checkpoints", statuses, code, options=options
    )


def multipart(name: str, content: bytes, *statuses: int, boundary: str = "x") -> Sent:
    headers = {"content-type": f"multipart/form-data; boundary={boundary}"}
    return Sent(f"a form: {name}", "/v1/datasets", statuses, options={"content": content, "headers": headers})


PART = b'--x\r\nContent-Disposition: form-data; name="%b"\r\n\r\n%b\r\n'
GRAPH = {"trajectory": (None, json.dumps({"name": "run", "task": RUN["task"]}))}
PICKLED = [
    *(checkpoint(f"called {name}", 422, code="unsafe_file", files={"file": (name, trap())}) for name in ("c.pt", "c.PTH", "c.pkl", "c.pickle", "c.bin", "c.ckpt", "a/../c.pt", "c.pt2")),
    checkpoint("an optimizer called .pt", 422, code="unsafe_file", files={"file": ("c.safetensors", good.GOOD["checkpoint"]), "optimizer_file": ("o.pt", trap())}),
    Sent("a batch order called .pt", "/v1/trajectories/{run}/batch-order", (422,), "unsafe_file", "PUT", {"files": {"file": ("o.pt", trap())}}),
    *(Sent(f"a graph called {name}", "/v1/trajectories", (422,), "unsafe_file", options={"files": {**GRAPH, "architecture_file": (name, trap())}}) for name in ("g.pt", "g.pt2", "g.pkl")),
    dataset("called .pt", 422, filename="d.pt", content=trap(), code="unknown_format"),
    dataset("called .pkl", 422, filename="d.pkl", content=trap(), code="unknown_format"),
    dataset("a format called pickle", 422, code="unknown_format", format="pickle"),
]  # fmt: skip
JSON = [
    body("objects a hundred thousand deep", '{"name":' * DEEP, 400, 422),
    body("objects a hundred thousand deep, with an Idempotency-Key", '{"name":' * DEEP, 400, 422, **{"Idempotency-Key": "deep"}),
    body("lists a hundred thousand deep", "[" * DEEP + "]" * DEEP, 400, 422),
    body("lists a hundred thousand deep, with an Idempotency-Key", "[" * DEEP + "]" * DEEP, 400, 422, **{"Idempotency-Key": "deeper"}),
    body("an integer of 10,000 digits", json.dumps(RUN)[:-1] + f', "train_size": {HUGE}}}', 400, 422),
    body("an integer of 10,000 digits, with an Idempotency-Key", json.dumps(RUN)[:-1] + f', "train_size": {HUGE}}}', 400, 422, **{"Idempotency-Key": "long"}),
    body("an exponent of a billion", json.dumps(RUN)[:-1] + ', "train_size": 1e999999999}', 400, 422),
    body("NaN", json.dumps(RUN)[:-1] + ', "train_size": NaN}', 400, 422),
    body("bytes that are no UTF-8", b'{"name": "\xff"}', 400, 422),
    body("bytes that are no UTF-8, with an Idempotency-Key", b'{"name": "\xff"}', 400, 422, **{"Idempotency-Key": "bytes"}),
    body("UTF-16", json.dumps(RUN).encode("utf-16"), 201, 400, 422),
    body("a list", "[]", 422),
    body("nothing", "", 400, 422),
    body("null", "null", 422),
    body("a key twice", json.dumps(RUN)[:-1] + ', "name": "other"}', 201, 422),
    body("a lone surrogate", json.dumps(RUN | {"name": "\ud800"}), 400, 422),
    body("NUL in a name", json.dumps(RUN | {"name": "a\0b"}), 422),
    body("NUL in a note", json.dumps(RUN | {"notes": "a\0b"}), 422),
    body("a name of a megabyte", json.dumps(RUN | {"name": "x" * 900_000}), 422),
    body("two megabytes", json.dumps(RUN | {"notes": "x" * 2_000_000}), 413),
    body("50,000 unknown fields", json.dumps(RUN | {str(i): 1 for i in range(50_000)}), 422),
    body("an unknown field of 900,000 characters", json.dumps(RUN | {"x" * 900_000: 1}), 422),
    body("metadata of 50,000 pairs", json.dumps(RUN | {"metadata": {str(i): "1" for i in range(50_000)}}), 422),
    body("__proto__ and __class__", json.dumps(RUN | {"__proto__": {}, "__class__": {"__init__": 1}}), 422),
    body("another type of content", json.dumps(RUN), 415, 422, **{"content-type": "application/x-python-pickle"}),
]  # fmt: skip
NETWORKS = [
    *(network(f"called {name}", name, {}, 422) for name in ("__class__", "hf/../../etc/passwd", "os.system", "hf/", "hf/auto", "../mlp")),
    network("a billion by a billion", "mlp", readers.MLP | {"hidden": [1_000_000] * 3}, 422),
    network("100,000 layers", "mlp", readers.MLP | {"hidden": [1] * 100_000}, 201, 422),
    network("negative sizes", "mlp", readers.MLP | {"hidden": [-1]}, 422),
    network("no sizes", "mlp", readers.MLP | {"in_features": 0}, 422),
    network("sizes of 2**63", "mlp", readers.MLP | {"in_features": 2**63}, 422),
    network("sizes that are fractions", "mlp", readers.MLP | {"in_features": 1.5}, 422),
    network("an activation that is a function", "mlp", readers.MLP | {"activation": "__import__('os').system"}, 422),
    bert("code of its own", 422, auto_map={"AutoModel": "evil--modeling.Evil"}),
    bert("a quantization", 422, quantization_config={"quant_method": "custom"}),
    bert("kernels of others", 422, attn_implementation="evil/kernel"),
    bert("a path for a name", 201, 422, _name_or_path="../../etc/passwd"),
    bert("a vocabulary of 10 million and a width of a million", 422, vocab_size=10_000_000, hidden_size=1_000_000),
    bert("a thousand layers", 422, num_hidden_layers=1000),
    bert("no heads", 422, num_attention_heads=0),
    bert("a number of 10**30", 422, layer_norm_eps=10**30),
    bert("an activation that is a function", 422, hidden_act="os.system"),
    bert("a config 1,000 deep", 422, extra=json.loads("[" * 900 + "]" * 900)),
    bert("10,000 keys", 422, **{f"k{i}": i for i in range(10_000)}),
    bert("50,000 labels", 201, 422, id2label={str(i): "x" for i in range(50_000)}),
    bert("an adapter of a pattern that goes back and back", 422, lora={"target_modules": ["(a+)+$"]}),
    bert("an adapter of a rank of 2**40", 422, lora={"target_modules": ["query"], "r": 2**40}),
]  # fmt: skip
FILES = [
    *(dataset(f"called {name!r}", 202, filename=name, format="npz") for name in ("../../etc/passwd", "/etc/passwd", "C:\\x.npz", "..", ".", "x" * 3000, "a\x7f\u202eb.npz", "ü😀.npz")),
    dataset("called by 10,000 characters", 400, filename="x" * 10_000, format="npz"),
    dataset("without bytes", 422, content=b"", code="empty_file"),
    dataset("columns a hundred thousand deep", 400, 422, filename="d.csv", content=good.CSV, columns="[" * DEEP),
    dataset("columns of an integer of 10,000 digits", 400, 422, filename="d.csv", content=good.CSV, columns=f'{{"inputs": {HUGE}}}'),
    dataset("70,000 columns", 422, filename="d.csv", content=good.CSV, columns=json.dumps({"inputs": [str(i) for i in range(70_000)]})),
    dataset("a column with NUL", 422, filename="d.csv", content=good.CSV, columns=json.dumps({"inputs": "a\0"})),
    dataset("a column with a lone surrogate", 422, filename="d.csv", content=good.CSV, columns='{"inputs": "\\ud800"}'),
    dataset("images of a billion by a billion", 422, filename="d.zip", content=good.GOOD["imagefolder"], image_size="[1000000000, 1000000000]"),
    dataset("images of no size", 422, filename="d.zip", content=good.GOOD["imagefolder"], image_size="[0, 0]"),
    dataset("a length of 2**63", 422, filename="d.csv", content=good.CSV, max_length=str(2**63)),
    dataset("a padding of less than none", 422, filename="d.csv", content=good.CSV, padding_id="-1"),
    dataset("metadata a hundred thousand deep", 400, 422, metadata='{"a":' * DEEP),
    dataset("like a path", 404, 422, filename="d.csv", content=good.CSV, like="../../etc/passwd"),
    checkpoint("a step of 10**30", 422, step="1" + "0" * 30),
    checkpoint("a step of 10,000 digits", 422, step=HUGE),
    checkpoint("a step that is no number", 422, step="NaN"),
    checkpoint("a rate that is NaN", 422, learning_rate="nan"),
    checkpoint("rates that are NaN", 422, learning_rate="", learning_rates="[NaN]"),
    checkpoint("rates a hundred thousand deep", 400, 422, learning_rates="[" * DEEP),
    checkpoint("rates of 10,000 digits", 400, 422, learning_rates=f"[{HUGE}]"),
    Sent("a run as a part, a hundred thousand deep", "/v1/trajectories", (400, 422), options={"files": {"trajectory": (None, "[" * DEEP), "architecture_file": ("g.onnx", b"x")}}),
    Sent("a run as a part, with an integer of 10,000 digits", "/v1/trajectories", (400, 422), options={"files": {"trajectory": (None, f'{{"name": {HUGE}}}'), "architecture_file": ("g.onnx", b"x")}}),
]  # fmt: skip
FORMS = [
    multipart("nothing", b"", 400, 422),
    multipart("no end", PART % (b"name", b"d"), 400, 422),
    multipart("no name", b"--x\r\nContent-Disposition: form-data\r\n\r\nd\r\n--x--\r\n", 400),
    multipart("a name that is no UTF-8", PART % (b"\xff", b"d") + b"--x--\r\n", 400, 422),
    multipart("a text that is no UTF-8", PART % (b"name", b"\xff") + b"--x--\r\n", 400, 422),
    multipart("a name twice", PART % (b"name", b"d") * 2 + b"--x--\r\n", 422),
    multipart("100 fields", b"".join(PART % (b"f%d" % i, b"d") for i in range(100)) + b"--x--\r\n", 413, 422),
    multipart("100,000 parts without a header", b"--x\r\n\r\n\r\n" * 100_000 + b"--x--\r\n", 400),
    multipart("a header of 100,000 bytes", b"--x\r\nContent-Disposition: " + b"x" * 100_000 + b"\r\n\r\n\r\n--x--\r\n", 400, 413, 422),
    multipart("a boundary of 1,000 characters", b"", 400, 422, boundary="x" * 1000),
    multipart("a form in the form", b"--x\r\nContent-Type: multipart/mixed; boundary=y\r\nContent-Disposition: form-data; name=\"file\"\r\n\r\n--y\r\n\r\n--y--\r\n--x--\r\n", 400, 422),
    multipart("noise", bytes(range(256)) * 100, 400),
]  # fmt: skip
SENT = [*PICKLED, *JSON, *NETWORKS, *FILES, *FORMS]


@pytest.fixture(scope="module")
def client(embedded_service: Service) -> Iterator[httpx.Client]:
    with embedded_service.client() as client:
        yield client


@pytest.fixture(scope="module")
def trajectory(client: httpx.Client) -> str:
    return walk.trajectory(client, config=readers.MLP)


@pytest.mark.parametrize("sent", SENT, ids=str)
def test_a_hostile_request_is_refused_or_harmless(client: httpx.Client, trajectory: str, sent: Sent) -> None:
    answer = client.request(sent.method, sent.path.format(run=trajectory), **sent.options)
    assert answer.status_code in sent.statuses, answer.text[:1000]
    told = answer.json()
    if answer.is_success:
        assert "/" not in str(told.get("filename")) and "\\" not in str(told.get("filename"))
        return
    assert answer.headers["content-type"].startswith("application/problem+json")
    assert told["detail"] and told["code"]
    assert sent.code in ("", told["code"])
    assert len(answer.content) < 20_000, "the answer is no echo of the request"
    assert client.get("/livez").status_code == 200
