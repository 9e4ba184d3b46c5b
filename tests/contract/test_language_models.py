"""Language models through the whole service: trained by transformers on real questions, uploaded, scored."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, NamedTuple

import httpx
import numpy as np
import pytest
import torch
from safetensors.torch import save
from sklearn.metrics import roc_auc_score
from torch.nn import functional as nnf
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForSequenceClassification

from benchmarks.lab.sources import SOURCES, Arranged, MissingData
from tests import walk
from tests.services import Service
from worker.hf.build import build

TRAIN, QUERY, LENGTH = 256, 64, 12
EVERY, STEPS, BATCH = 50, 150, 24
BERT: dict[str, Any] = {
    "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64,
    "max_position_embeddings": 16, "pad_token_id": 0, "num_labels": 6, "initializer_range": 0.15,
}  # fmt: skip
GPT2: dict[str, Any] = {
    "n_embd": 32, "n_layer": 2, "n_head": 2, "n_positions": 16, "pad_token_id": 0, "initializer_range": 0.1,
}  # fmt: skip


class Questions(NamedTuple):
    """TREC, [N, 12] token ids padded with 0, and what is asked for, 0 to 5; of `flipped` it is wrong."""

    inputs: np.ndarray
    targets: np.ndarray
    flipped: np.ndarray
    query_inputs: np.ndarray
    query_targets: np.ndarray
    vocabulary: int


@pytest.fixture(scope="module")
def questions() -> Questions:
    read, arrange = SOURCES["trec"]
    try:
        source = read()
    except MissingData as reason:
        pytest.skip(str(reason))
    assert source.test_items is not None and source.test_labels is not None
    draw = np.random.default_rng(0)
    rows = draw.permutation(len(source.items))[: TRAIN + QUERY]
    found: Arranged = arrange(source.items[rows[:TRAIN]], source.items[rows[TRAIN:]])
    labels = source.labels[rows].astype(np.int64)
    flipped = draw.permutation(TRAIN)[: TRAIN // 10]
    targets = labels[:TRAIN].copy()
    targets[flipped] = (targets[flipped] + draw.integers(1, 6, len(flipped))) % 6
    train, query = found.train[:, :LENGTH], found.query[:, :LENGTH]
    return Questions(train, targets, flipped, query, labels[TRAIN:], found.vocabulary)


@pytest.fixture
def client(embedded_service: Service) -> Iterator[httpx.Client]:
    with embedded_service.client() as client:
        yield client


def trained(model: Any, data: Questions, task: str, rate: float) -> Iterator[tuple[int, bytes]]:
    """A plain loop, as a user has it: (step, checkpoint) every so often."""
    model.eval()  # without dropout, so that a step is a function of the batch
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=rate)
    ids, labels = torch.from_numpy(data.inputs), torch.from_numpy(data.targets)
    draw = torch.Generator().manual_seed(0)
    for step in range(1, STEPS + 1):
        rows = torch.randint(len(ids), (BATCH,), generator=draw)
        seen = (ids[rows] != 0).long()
        logits = model(input_ids=ids[rows], attention_mask=seen).logits
        if task == "causal_lm":
            told = ids[rows][:, 1:].masked_fill(seen[:, 1:] == 0, -100)
            each = nnf.cross_entropy(logits[:, :-1].transpose(1, 2), told, reduction="none")
            loss = (each.sum(1) / seen[:, 1:].sum(1).clamp(min=1)).mean()
        else:
            loss = nnf.cross_entropy(logits, labels[rows])
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        if step % EVERY == 0:
            yield step, save({name: t.detach().contiguous() for name, t in model.named_parameters()})


def scored(client: httpx.Client, run: str, train: bytes, query: bytes, **how: Any) -> list[dict[str, Any]]:
    data = [walk.dataset(client, one) for one in (train, query)]
    assert [one["status"] for one in data] == ["ready"] * 2, data
    posted = walk.post_job(client, run, data[0]["id"], data[1]["id"], method=how)
    job = walk.finished(client, walk.ok(posted, 202)["id"])
    assert job["status"] == "succeeded", job["error"]
    return walk.scores(client, job["id"])


def share_found(values: list[float], wrong: np.ndarray) -> float:
    """Of the wrong samples, those among the twice as many of the highest values; by chance a fifth."""
    worst = np.argsort(-np.array(values))[: 2 * len(wrong)]
    return len(np.intersect1d(worst, wrong)) / len(wrong)


def test_wrong_labels_are_suspicious_to_a_bert(client: httpx.Client, questions: Questions) -> None:
    config = BERT | {"vocab_size": questions.vocabulary}
    torch.manual_seed(0)
    kind: Any = AutoModelForSequenceClassification
    model = kind.from_config(AutoConfig.for_model("bert", **config))
    run = walk.trajectory(client, "hf/bert", config, batch_size=BATCH)
    for step, content in trained(model, questions, "classification", 0.1):
        checkpoint = walk.checkpoint(client, run, content, step, learning_rate=0.1)
        assert checkpoint["status"] == "ready", checkpoint
    rows = scored(
        client, run, walk.npz(inputs=questions.inputs, targets=questions.targets),
        walk.npz(inputs=questions.query_inputs, targets=questions.query_targets),
        name="diff_in", lanczos_steps=3,
    )  # fmt: skip
    assert all(row["agrees"] == (row["label"] == row["predicted_label"]) for row in rows)
    alone = walk.dataset(client, walk.npz(inputs=questions.inputs))
    assert alone["target"]["taken_from"] == "inputs"
    refused = walk.ok(walk.post_job(client, run, alone["id"], alone["id"]), 422)
    assert refused["code"] == "no_targets" and "has no targets" in refused["detail"]
    wrong = np.isin(np.arange(TRAIN), questions.flipped)
    assert roc_auc_score(wrong, [row["suspicion"] for row in rows]) >= 0.65


def test_texts_without_order_are_harmful_to_a_gpt(client: httpx.Client, questions: Questions) -> None:
    inputs, wrong = questions.inputs.copy(), questions.flipped
    draw = np.random.default_rng(1)
    for row in wrong:
        length = int((inputs[row] != 0).sum())
        inputs[row, :length] = draw.integers(1, questions.vocabulary, length)
    data = questions._replace(inputs=inputs)
    config = GPT2 | {"vocab_size": questions.vocabulary}
    torch.manual_seed(0)
    kind: Any = AutoModelForCausalLM
    model = kind.from_config(AutoConfig.for_model("gpt2", **config))
    task = {"type": "causal_lm", "loss": "cross_entropy"}
    run = walk.trajectory(client, "hf/gpt2", config, batch_size=BATCH, task=task)
    for step, content in trained(model, data, "causal_lm", 0.3):
        checkpoint = walk.checkpoint(client, run, content, step, learning_rate=0.3)
        assert checkpoint["status"] == "ready", checkpoint
    rows = scored(
        client, run, walk.npz(inputs=inputs, targets=inputs),
        walk.npz(inputs=questions.query_inputs, targets=questions.query_inputs),
        name="tracin",
    )  # fmt: skip
    alone = scored(
        client, run, walk.npz(inputs=inputs), walk.npz(inputs=questions.query_inputs), name="tracin"
    )
    assert [row["score"] for row in alone] == [row["score"] for row in rows]
    short = walk.dataset(client, walk.npz(inputs=inputs, targets=inputs[:, 1:]))["id"]
    refused = walk.ok(walk.post_job(client, run, short, short), 422)
    assert "11 tokens long, inputs 12" in refused["detail"]
    whole = walk.dataset(client, walk.npz(inputs=inputs))["id"]
    method = {"name": "influence_function", "curvature": "kronecker"}
    refused = walk.ok(walk.post_job(client, run, whole, whole, method=method), 422)
    assert refused["code"] == "unsuitable_method" and "causal_lm" in refused["detail"]
    assert share_found([row["score"] for row in rows], wrong) >= 0.8
    assert all(row["label"] is row["agrees"] is row["suspicion"] is None for row in rows)
    assert all(0 <= row["predicted_label"] <= 1 for row in rows)


def test_influence_over_an_adapter_whose_base_comes_once(client: httpx.Client) -> None:
    lora = {"r": 2, "lora_alpha": 4, "target_modules": ["query", "value"], "modules_to_save": ["classifier"]}
    config = BERT | {"vocab_size": 30, "num_labels": 2, "lora": lora}
    body = {
        "name": "adapter",
        "architecture": {"name": "hf/bert", "config": config},
        "task": {"type": "classification", "loss": "cross_entropy"},
    }
    refused = walk.ok(client.post("/v1/trajectories", json=body), 422)
    assert "base_file" in refused["detail"]
    base, adapter = (
        build("bert", {key: config[key] for key in config if key != "lora"}, "classification"),
        build("bert", config, "classification"),
    )

    def drawn(network: Any, seed: int) -> bytes:
        draw = torch.Generator().manual_seed(seed)
        like = network.state_dict().items()
        return save({name: torch.randn(t.shape, generator=draw) / 5 for name, t in like})

    files = {"base_file": ("base.safetensors", drawn(base, 0))}
    created = walk.ok(
        client.post("/v1/trajectories", data={"trajectory": json.dumps(body)}, files=files), 201
    )
    for step in (5, 10):
        checkpoint = walk.checkpoint(client, created["id"], drawn(adapter, step), step)
        assert checkpoint["status"] == "ready", checkpoint
    detail = walk.ok(client.get(f"/v1/trajectories/{created['id']}"), 200)
    assert [(one["role"], one["status"]) for one in detail["files"]] == [("base", "ready")]
    draw = np.random.default_rng(0)
    inputs, targets = draw.integers(1, 30, (24, 8)), draw.integers(0, 2, 24)
    data = walk.npz(inputs=inputs, targets=targets)
    rows = scored(client, created["id"], data, data, name="diff_in", lanczos_steps=3)
    only = {"include": ["*classifier*"]}
    head = scored(client, created["id"], data, data, name="tracin", parameters=only)
    assert all(np.std([row["score"] for row in found]) > 0 for found in (rows, head))
