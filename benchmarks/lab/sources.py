"""The data sets themselves: how their files are read, and what a network takes of them.

digits and breast cancer come with scikit-learn. MNIST, Adult, TREC and CIFAR-10 are read from
`../shared/data` beside the repository, or from where DIFFIN_DATA_SETS says; each folder's SOURCE.txt names
their origin and licence.
"""

from __future__ import annotations

import csv
import gzip
import io
import os
from collections import Counter
from collections.abc import Callable
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from sklearn.datasets import load_breast_cancer, load_digits

Items = NDArray[Any]
Ints = NDArray[np.int64]

MAX_TOKENS, PAD, UNKNOWN = 32, 0, 1
SEEN_AT_LEAST = 2  # times, for a word to have a token id of its own
# Adult's columns
NUMBERS = (0, 4, 10, 11, 12)  # age, education-num, capital-gain, capital-loss, hours-per-week
HEAVY_TAILED = (10, 11)
CATEGORIES = (1, 5, 6, 7, 8, 9, 13)  # workclass, marital status, occupation, relationship, race, sex, country


class MissingData(Exception):  # noqa: N818  (a circumstance to report, not an error)
    """A data set's file is not there."""


class Source(NamedTuple):
    """All of a data set, as read; without a test part its queries are taken from the training part."""

    items: Items
    labels: Ints
    test_items: Items | None = None
    test_labels: Ints | None = None


class Arranged(NamedTuple):
    """Training and query inputs as a network takes them, scaled or indexed by the training part alone."""

    train: Items
    query: Items
    vocabulary: int = 0


def _digits() -> Source:
    x, y = load_digits(return_X_y=True)
    return Source(_single(x / 16).reshape(-1, 1, 8, 8), y.astype(np.int64))


def _breast_cancer() -> Source:
    x, y = load_breast_cancer(return_X_y=True)
    return Source(x, y.astype(np.int64))


@cache
def _mnist() -> Source:
    def images(part: str) -> Items:
        packed = gzip.decompress(_file("mnist", f"{part}-images-idx3-ubyte.gz").read_bytes())
        return np.frombuffer(packed, np.uint8, offset=16).reshape(-1, 1, 28, 28)  # after the IDX header

    def labels(part: str) -> Ints:
        packed = gzip.decompress(_file("mnist", f"{part}-labels-idx1-ubyte.gz").read_bytes())
        return np.frombuffer(packed, np.uint8, offset=8).astype(np.int64)

    return Source(images("train"), labels("train"), images("t10k"), labels("t10k"))


@cache
def _cifar10() -> Source:
    def part(name: str) -> tuple[Items, Ints]:
        with np.load(_file("cifar10", name)) as archive:
            blob, offsets, labels = (archive[key] for key in ("blob", "offsets", "labels"))
        jpegs = [blob[a:b].tobytes() for a, b in pairwise(offsets)]
        return np.array(jpegs, dtype=object), labels.astype(np.int64)

    return Source(*part("train20k_jpeg.npz"), *part("test5k_jpeg.npz"))


def _adult() -> Source:
    with _file("adult", "adult.data").open(newline="") as file:
        rows = [row for row in csv.reader(file, skipinitialspace=True) if row]
    return Source(np.array(rows), np.array([row[-1] == ">50K" for row in rows], dtype=np.int64))


def _trec() -> Source:
    def part(name: str) -> tuple[Items, list[str]]:
        lines = _file("sent", name).read_text(encoding="latin-1").splitlines()
        kinds, questions = zip(*(line.split(" ", 1) for line in lines), strict=True)
        return np.array(questions, dtype=object), [kind.split(":")[0] for kind in kinds]

    (train, kinds), (test, test_kinds) = part("TREC.train"), part("TREC.test")
    classes = sorted(set(kinds))
    return Source(
        train,
        np.array([classes.index(k) for k in kinds]),
        test,
        np.array([classes.index(k) for k in test_kinds]),
    )


def _as_they_are(train: Items, query: Items) -> Arranged:
    return Arranged(train, query)


def _standardised(train: Items, query: Items) -> Arranged:
    mean, scale = train.mean(0), train.std(0) + 1e-8
    return Arranged(_single((train - mean) / scale), _single((query - mean) / scale))


def _pixels(train: Items, query: Items) -> Arranged:
    return Arranged(_single(train / 255), _single(query / 255))


def _jpegs(train: Items, query: Items) -> Arranged:
    """Each channel with mean 0 and standard deviation 1 over the training part."""

    def decode(jpegs: Items) -> Items:
        images = [np.asarray(Image.open(io.BytesIO(jpeg)).convert("RGB")) for jpeg in jpegs]
        return np.ascontiguousarray(np.stack(images).transpose(0, 3, 1, 2))

    a, b = decode(train), decode(query)
    mean, scale = a.mean((0, 2, 3), keepdims=True), a.std((0, 2, 3), keepdims=True)
    return Arranged(_single((a - mean) / scale), _single((b - mean) / scale))


def _census(train: Items, query: Items) -> Arranged:
    """Numbers standardised, the two heavy-tailed ones as log(1 + x); categories one-hot.

    The sampling weight is no property of a person, and education says nothing that education-num does not.
    """

    def numbers(part: Items) -> Items:
        columns = {i: part[:, i].astype(np.float64) for i in NUMBERS}
        return np.stack([np.log1p(c) if i in HEAVY_TAILED else c for i, c in columns.items()], 1)

    known = [sorted(set(train[:, i])) for i in CATEGORIES]

    def one_hot(part: Items) -> Items:
        columns = [part[:, i, None] == np.array(values) for i, values in zip(CATEGORIES, known, strict=True)]
        return _single(np.concatenate(columns, 1))

    scaled = _standardised(numbers(train), numbers(query))
    return Arranged(
        np.concatenate([scaled.train, one_hot(train)], 1), np.concatenate([scaled.query, one_hot(query)], 1)
    )


def _tokens(train: Items, query: Items) -> Arranged:
    """Token ids [N, 32]: words in lower case that training has at least twice; the rest share one id."""
    counts = Counter(word for text in train for word in text.lower().split())
    words = sorted(word for word, count in counts.items() if count >= SEEN_AT_LEAST)
    ids = {word: i for i, word in enumerate(words, start=UNKNOWN + 1)}

    def encode(texts: Items) -> Items:
        tokens = np.full((len(texts), MAX_TOKENS), PAD, dtype=np.int64)
        for row, text in zip(tokens, texts, strict=True):
            known = [ids.get(word, UNKNOWN) for word in text.lower().split()[:MAX_TOKENS]]
            row[: len(known)] = known
        return tokens

    return Arranged(encode(train), encode(query), len(ids) + UNKNOWN + 1)


def _single(values: Items) -> Items:
    return values.astype(np.float32)


def _file(folder: str, name: str) -> Path:
    root = os.environ.get("DIFFIN_DATA_SETS") or Path(__file__).parents[3] / "shared" / "data"
    path = Path(root) / folder / name
    if not path.exists():
        raise MissingData(f"{path} is not there; DIFFIN_DATA_SETS names the folder of data sets")
    return path


SOURCES: dict[str, tuple[Callable[[], Source], Callable[[Items, Items], Arranged]]] = {
    "digits": (_digits, _as_they_are),
    "breast_cancer": (_breast_cancer, _standardised),
    "mnist": (_mnist, _pixels),
    "adult": (_adult, _census),
    "trec": (_trec, _tokens),
    "cifar10": (_cifar10, _jpegs),
}
