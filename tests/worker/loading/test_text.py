"""Text becomes token ids by the tokenizer that comes with it, and stays text to look at."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, pre_tokenizers, processors

from tests.worker.loading.archives import colour, picture, tarred
from tests.worker.loading.files import Load, Refuse, canonical, survives
from tests.worker.loading.tables import csv, jsonl, parquet, shown
from worker.loading.errors import LoadError

WORDS = ["[PAD]", "[UNK]", "[CLS]", "a", "good", "bad", "film", "very"]
TEXTS = ["a good film", "bad", "a very, very bad film"]
IDS = [[2, 3, 4, 6], [2, 5], [2, 3, 7, 1, 7, 5, 6]]
LABELS = ["pos", "neg", "neg"]


def tokenizer(*, padding: bool = True) -> Tokenizer:
    words = {word: i for i, word in enumerate(WORDS) if padding or word != "[PAD]"}
    made = Tokenizer(models.WordLevel(words, unk_token="[UNK]"))  # noqa: S106  (no password)
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    made.post_processor = processors.TemplateProcessing(single="[CLS] $A", special_tokens=[("[CLS]", 2)])
    return made


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "tokenizer.json"
    tokenizer().save(str(path))
    return path


def rows(texts: list[str] = TEXTS) -> dict[str, bytes]:
    labels = LABELS * (len(texts) // len(LABELS))
    pairs = [{"text": text, "label": label} for text, label in zip(texts, labels, strict=True)]
    columns = {"text": texts, "label": labels}
    return {"jsonl": jsonl(pairs), "parquet": parquet(columns), "csv": csv(columns)}


@pytest.mark.parametrize("kind", ["jsonl", "parquet", "csv"])
def test_text_is_cut_and_padded(load: Load, out: Path, file: Path, kind: str) -> None:
    info = load(rows()[kind], kind, tokenizer=file, max_length=5)
    assert canonical(out).tolist() == [[*IDS[0], 0], [*IDS[1], 0, 0, 0], IDS[2][:5]]
    assert canonical(out, "targets").tolist() == [1, 0, 0]
    assert shown(out, 3) == TEXTS
    assert info.encoding is not None
    assert info.encoding["inputs"] == {
        "kind": "text", "max_length": 5, "padding_id": 0, "vocab_size": 8, "truncated": 1
    }  # fmt: skip
    assert (info.encoding["classes"], info.encoding["shown"]) == (["neg", "pos"], "text")


def test_special_tokens_want_their_room(load: Load, tmp_path: Path) -> None:
    own, path = tokenizer(), tmp_path / "own.json"
    own.post_processor = processors.BertProcessing(("film", 6), ("very", 7))
    own.save(str(path))
    with pytest.raises(LoadError, match="cannot be cut to max_length 1"):
        load(rows()["jsonl"], "jsonl", tokenizer=path, padding_id=1, max_length=1)


def test_a_small_file_does_not_fill_the_disk(load: Load, file: Path) -> None:
    with pytest.raises(LoadError, match="1,000 times those of the file") as refused:
        load(rows(TEXTS * 100)["jsonl"], "jsonl", tokenizer=file, max_length=1_000_000)
    assert refused.value.code == "dataset_too_large"


def test_the_length_is_the_tokenizers_own_unless_given(load: Load, out: Path, tmp_path: Path) -> None:
    own, path = tokenizer(), tmp_path / "own.json"
    own.enable_truncation(6)
    own.enable_padding(pad_id=7, pad_token="very")  # noqa: S106  (no password)
    own.save(str(path))
    load(rows()["jsonl"], "jsonl", tokenizer=path)
    assert canonical(out)[1].tolist() == [2, 5, 7, 7, 7, 7]
    info = load(rows()["jsonl"], "jsonl", tokenizer=path, padding_id=1, max_length=3)
    assert canonical(out)[1].tolist() == [2, 5, 1]
    load(jsonl([{"text": "film", "label": "pos"}]), "jsonl", tokenizer=path, like=info.encoding)
    assert canonical(out).tolist() == [[2, 6, 1]]


def test_without_a_padding_token_one_has_to_be_given(load: Load, refuse: Refuse, tmp_path: Path) -> None:
    path = tmp_path / "plain.json"
    tokenizer(padding=False).save(str(path))
    assert "padding_id" in refuse(rows()["jsonl"], "padding_required", "jsonl", tokenizer=path).detail
    load(rows()["jsonl"], "jsonl", tokenizer=path, padding_id=1)


def test_a_language_model_is_told_the_text_itself(load: Load, out: Path, file: Path) -> None:
    data = jsonl([{"text": text} for text in TEXTS])
    info = load(data, "jsonl", tokenizer=file, max_length=5)
    targets = canonical(out, "targets")
    assert targets.tolist() == [[*IDS[0], -100], [*IDS[1], -100, -100, -100], IDS[2][:5]]
    assert info.encoding is not None and info.encoding["columns"]["targets"] is None
    labelled = load(rows()["jsonl"], "jsonl", tokenizer=file, columns={"inputs": "text", "targets": "text"})
    assert labelled.target.shape == labelled.input.shape == [128]


def test_captions_of_images(load: Load, out: Path, file: Path) -> None:
    pixels = [colour(), colour(), colour()]
    members: dict[str, bytes] = {}
    for i, (image, text) in enumerate(zip(pixels, TEXTS, strict=True)):
        members |= {f"{i}.png": picture(image), f"{i}.txt": text.encode()}
    info = load(tarred(members), "webdataset", tokenizer=file, max_length=4)
    np.testing.assert_array_equal(canonical(out), np.stack(pixels))
    assert canonical(out, "targets").tolist() == [IDS[0], [*IDS[1], 0, 0], IDS[2][:4]]
    assert shown(out, 3) == TEXTS and info.input.kind == "image"


def test_text_without_a_tokenizer_is_refused(refuse: Refuse) -> None:
    for kind, data in rows().items():
        words = refuse(data, "tokenizer_required", kind, columns={"inputs": "text"}).detail
        assert "tokenizer_file" in words


def test_what_was_sent_and_is_not_used_is_refused(refuse: Refuse, file: Path) -> None:
    data = jsonl([{"x": [1.5, 2], "label": 0}])
    for option, value in (("tokenizer", file), ("image_size", (3, 3)), ("image_mode", "L")):
        assert "was sent" in refuse(data, "option_not_used", "jsonl", **{option: value}).detail
    table = jsonl([{"x": 1, "y": 2, "label": 0}])
    for option in ("max_length", "padding_id"):
        refuse(table, "option_not_used", "jsonl", **{option: 3})


@pytest.mark.parametrize(
    "content",
    [
        b"", b"[]", b"{}", b'{"model": 3}', b"\x80\x04pickled", b"\xff", b"[" * 100_000,
        b'{"version": "1.0", "model": {"type": "WordLevel", "vocab": {"a": -1}, "unk_token": "a"}}',
        b'{"version": "1.0", "model": {"type": "BPE", "vocab": {"a": 0}, "merges": ["a b"]}}',
    ],
)  # fmt: skip
def test_what_is_no_tokenizer(refuse: Refuse, tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "tokenizer.json"
    path.write_bytes(content)
    assert "tokenizer" in refuse(rows()["jsonl"], "invalid_tokenizer", "jsonl", tokenizer=path).detail


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_a_damaged_tokenizer_is_refused_or_works(
    load: Load, tmp_path: Path, file: Path, data: st.DataObject
) -> None:
    told: dict[str, Any] = json.loads(file.read_text())
    part = data.draw(st.sampled_from(sorted(told)))
    told[part] = data.draw(st.sampled_from([None, 3, "x", [], {}, {"type": "Sequence"}, told["model"]]))
    path = tmp_path / "damaged.json"
    path.write_text(json.dumps(told))
    survives(load, rows()["jsonl"], "jsonl", tokenizer=path)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.text(st.characters(codec="utf-8"), max_size=30), min_size=1, max_size=8))
def test_whatever_the_texts_they_are_shown_as_they_were(
    load: Load, out: Path, file: Path, texts: list[str]
) -> None:
    load(parquet({"text": texts, "label": [0] * len(texts)}), tokenizer=file, max_length=4)
    assert shown(out, len(texts)) == texts
    made = tokenizer()
    made.enable_truncation(4)
    for row, text in zip(canonical(out), texts, strict=True):
        ids = made.encode(text).ids
        assert row.tolist() == ids + [0] * (4 - len(ids))
