"""Folders of images and WebDatasets: read in order, with names of classes and ids."""

from __future__ import annotations

import io
import json
import os
import pickle
import tarfile
import tracemalloc
import warnings
import zipfile
import zlib
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import pyarrow as pa  # type: ignore[import-untyped]
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from tests.worker.loading.archives import colour, link, packed, picture, tarred
from tests.worker.loading.files import Load, Refuse, canonical, npy, survives, zipped
from tests.worker.loading.tables import parquet
from worker.loading import LoadError
from worker.loading.archive import open_archive
from worker.loading.imagefolder import open_imagefolder

PIXELS = {"dog/b.png": colour(), "cat/2.png": colour(), "cat/10.png": colour(), "cat/more/1.png": colour()}
FOLDER = {name: picture(pixels) for name, pixels in PIXELS.items()}
ORDER = ["cat/10.png", "cat/2.png", "cat/more/1.png", "dog/b.png"]  # torchvision's: by class, folder, name


@pytest.mark.parametrize("how", ["zip", "tar", "tar.gz"])
@pytest.mark.parametrize("root", ["", "pets/train/"])
def test_a_folder_of_images(load: Load, out: Path, how: str, root: str) -> None:
    extra = {"__MACOSX/dog/._b.png": b"litter", f"{root}cat/.DS_Store": b"litter"}
    members = {f"{root}{name}": data for name, data in FOLDER.items()} | extra
    info = load(packed(members, how), "imagefolder" if how == "zip" else "tar")
    assert (info.format, info.num_samples, info.class_counts) == ("imagefolder", 4, [3, 1])
    assert info.encoding is not None and info.encoding["classes"] == ["cat", "dog"]
    assert (info.input.shape, info.input.kind) == ([5, 4, 3], "image")
    np.testing.assert_array_equal(canonical(out), np.stack([PIXELS[name] for name in ORDER]))
    assert canonical(out, "targets").tolist() == [0, 0, 0, 1]
    assert canonical(out, "ids").tolist() == ORDER
    assert sorted(path.name for path in out.iterdir()) == ["ids.npy", "inputs.npy", "targets.npy"]


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "BMP", "PPM"])
def test_kinds_of_images(load: Load, out: Path, kind: str) -> None:
    pixels = np.full((8, 8, 3), 90, np.uint8)
    load(zipped({"a/x.png": picture(pixels, kind)}), "imagefolder")
    np.testing.assert_allclose(canonical(out)[0].astype(int), pixels, atol=3)


def test_grey_stays_grey_where_all_are(load: Load, refuse: Refuse, out: Path) -> None:
    grey = colour()[..., 0]
    info = load(zipped({"a/1.png": picture(grey)}), "imagefolder")
    assert info.input.shape == [5, 4, 1]
    np.testing.assert_array_equal(canonical(out)[0, ..., 0], grey)
    mixed = zipped({"a/1.png": picture(grey), "a/2.png": picture(colour())})
    assert load(mixed, "imagefolder", image_mode="RGB").input.shape == [5, 4, 3]
    for file in out.iterdir():
        file.unlink()
    assert "image_mode" in refuse(mixed, "shape_mismatch", "imagefolder").detail


def test_images_are_brought_to_one_size_when_asked(load: Load, refuse: Refuse, out: Path) -> None:
    data = zipped({"a/1.png": picture(colour(6, 8)), "a/2.png": picture(colour(4, 4))})
    assert "image_size" in refuse(data, "shape_mismatch", "imagefolder").detail
    info = load(data, "imagefolder", image_size=(3, 2))
    assert info.input.shape == [3, 2, 3]
    assert info.encoding is not None
    assert info.encoding["inputs"] == {"kind": "image", "size": [3, 2], "mode": "RGB", "resized": True}
    again = load(zipped({"a/1.png": picture(colour(9, 9))}), "imagefolder", like=info.encoding)
    assert again.input.shape == [3, 2, 3]


def test_a_query_folder_counts_classes_as_its_training_folder(load: Load, refuse: Refuse, out: Path) -> None:
    train = load(zipped(FOLDER), "imagefolder")
    info = load(zipped({"dog/1.png": picture(colour())}), "imagefolder", like=train.encoding)
    assert canonical(out, "targets").tolist() == [1] and info.num_classes == 2
    for file in out.iterdir():
        file.unlink()
    cow = zipped({"cow/1.png": picture(colour())})
    assert "'cow'" in refuse(cow, "unknown_label", "imagefolder", like=train.encoding).detail


def chunk(kind: bytes, data: bytes) -> bytes:
    return len(data).to_bytes(4, "big") + kind + data + zlib.crc32(kind + data).to_bytes(4, "big")


def png(width: int, height: int, *more: bytes) -> bytes:
    """A PNG by its header, without pixels."""
    sides = width.to_bytes(4, "big") + height.to_bytes(4, "big")
    return b"".join(
        (b"\x89PNG\r\n\x1a\n", chunk(b"IHDR", sides + b"\x08\x02\0\0\0"), *more, chunk(b"IDAT", b""))
    )


EMPTY = zlib.compress(bytes(100_000_000))


@pytest.mark.parametrize(
    ("image", "code", "words"),
    [
        (png(60_000, 60_000), "sample_too_large", "67108864 pixels at most"),
        (png(2**31 - 1, 2**31 - 1), "sample_too_large", "67108864 pixels at most"),
        (png(9_000, 9_000), "sample_too_large", "9000 x 9000"),
        (png(0, 5), "corrupt_file", "a PNG of 5 x 0 pixels"),
        (png(2, 2)[:30], "corrupt_file", "begins as a PNG, but is damaged"),
        (png(2, 2, chunk(b"zTXt", b"k\0\0" + EMPTY)), "unsafe_file", "bomb"),
        (png(2, 2, chunk(b"iCCP", b"k\0\0" + EMPTY)), "unsafe_file", "bomb"),
        (
            png(2, 2, *[chunk(b"zTXt", b"k\0\0" + zlib.compress(bytes(1_000_000)))] * 80),
            "unsafe_file",
            "bomb",
        ),
        (b"GIF89a" + bytes(40), "corrupt_file", "no PNG, JPEG"),
    ],
)
def test_images_that_are_refused_by_their_header(refuse: Refuse, image: bytes, code: str, words: str) -> None:
    refused = refuse(zipped({"a/1.png": image}), code, "imagefolder")
    assert words in refused.detail and refused.errors[0]["pointer"] == "/image/0"


@pytest.mark.parametrize("how", ["tar", "tar.gz"])
def test_a_webdataset(load: Load, out: Path, how: str) -> None:
    pixels = [colour(), colour()]
    members: dict[str, bytes] = {}
    for i, one in enumerate(pixels):
        members |= {f"s{i}.png": picture(one), f"s{i}.cls": f"{1 - i}\n".encode()}
        members |= {f"s{i}.json": json.dumps({"where": ["sea", "hill"][i], "width": 4}).encode()}
    info = load(packed(members, how), "tar")
    assert info.format == "webdataset"
    np.testing.assert_array_equal(canonical(out), np.stack(pixels))
    assert canonical(out, "targets").tolist() == [1, 0]
    assert canonical(out, "ids").tolist() == ["s0", "s1"]
    named = load(packed(members, how), "webdataset", columns={"targets": "where"})
    assert named.encoding is not None and named.encoding["classes"] == ["hill", "sea"]


def test_keys_that_not_every_sample_of_a_webdataset_has(load: Load, out: Path) -> None:
    rows: list[dict[str, Any]] = [{"a": 1, "label": 0}, {"a": 2, "label": 1, "b": 5}, {"c": 3, "label": 1}]
    info = load(tarred({f"{i}.json": json.dumps(row).encode() for i, row in enumerate(rows)}), "webdataset")
    assert info.encoding is not None and info.encoding["columns"]["inputs"] == ["a", "b", "c"]
    assert canonical(out).tolist() == [[1, 0, 5, 1, 3, 1], [2, 0, 5, 0, 3, 1], [1.5, 1, 5, 1, 3, 0]]


def test_arrays_in_a_webdataset(load: Load, refuse: Refuse, out: Path) -> None:
    arrays = [np.asfortranarray(np.random.default_rng(i).normal(size=(3, 2)).astype("f4")) for i in range(2)]
    members: dict[str, bytes] = {}
    for i, array in enumerate(arrays):
        members |= {f"{i}.npy": npy(array), f"{i}.cls": b"cat" if i else b"ant"}
    info = load(tarred(members), "webdataset")
    assert info.encoding is not None and info.encoding["classes"] == ["ant", "cat"]
    np.testing.assert_array_equal(canonical(out), np.stack(arrays))
    for file in out.iterdir():
        file.unlink()
    odd = members | {"1.npy": npy(np.zeros(4, "f4"))}
    assert "the first one" in refuse(tarred(odd), "shape_mismatch", "webdataset").detail
    huge = b"\x93NUMPY\x01\x00" + (67).to_bytes(2, "little")
    huge += b"{'descr': '<f8', 'fortran_order': False, 'shape': (1000000000,)}"
    refuse(tarred(members | {"0.npy": huge}), "corrupt_file", "webdataset")
    pickled = io.BytesIO()
    np.save(pickled, np.array([{"a": 1}], dtype=object), allow_pickle=True)
    refuse(tarred(members | {"0.npy": pickled.getvalue()}), "unsafe_file", "webdataset")


def test_images_embedded_in_parquet(load: Load, out: Path) -> None:
    """As the `datasets` library writes them: a struct of bytes and path."""
    pixels = [colour(), colour()]
    images = pa.array([{"bytes": picture(one), "path": None} for one in pixels])
    info = load(parquet({"image": images, "label": ["b", "a"]}))
    np.testing.assert_array_equal(canonical(out), np.stack(pixels))
    assert info.encoding is not None and info.encoding["classes"] == ["a", "b"]


@pytest.mark.parametrize(
    ("name", "words"),
    [("../cat/1.png", "outside"), ("/cat/1.png", "outside"), ("cat\\1.png", "outside"),
     ("c:/cat/1.png", "outside"), ("cat/1.zip", "archive in the archive"),
     ("cat/model.pkl", "pickle"), ("cat/\x07.png", "unprintable")],
)  # fmt: skip
@pytest.mark.parametrize("how", ["zip", "tar"])
def test_names_that_have_no_place_in_a_data_set(refuse: Refuse, name: str, words: str, how: str) -> None:
    assert words in refuse(packed(FOLDER | {name: b"x"}, how), "unsafe_file", "imagefolder").detail


@pytest.mark.parametrize("how", ["zip", "tar"])
def test_an_archives_files_are_listed_on_the_disk(tmp_path: Path, how: str) -> None:
    """Python's own lists take 1.2 kB of memory for each file."""
    path, scratch = tmp_path / "archive", tmp_path / "scratch"
    names = [f"c{i % 7}/{i:06d}.png" for i in range(20_000)]
    path.write_bytes(packed(dict.fromkeys(names, b"x"), how))
    scratch.mkdir()
    kept = [PurePosixPath(name).parts for name in names]  # pathlib keeps a table of them by itself
    tracemalloc.start()
    with open_archive(path, "a zip archive" if how == "zip" else "a tar archive", scratch) as archive:
        assert [member.name for member in archive.members] == names
        table = open_imagefolder(archive)
        del names[:]
        tracemalloc.reset_peak()
        before, _ = tracemalloc.get_traced_memory()
        rows = sum(batch.num_rows for batch in table.batches(["label", "id"]))
        _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert rows == 20_000 and list(scratch.iterdir()) == []
    assert before < 2 << 20 and peak - before < 12 << 20, len(kept)


def test_a_zip_of_the_64_bit_kind_behind_other_bytes(load: Load, out: Path) -> None:
    """As a writer that does not know a file's size beforehand leaves it; and a self-extracting one."""
    buffer = io.BytesIO(b"#!/bin/sh\n")
    buffer.seek(0, os.SEEK_END)
    with zipfile.ZipFile(buffer, "a", zipfile.ZIP_DEFLATED) as archive:
        for name, data in FOLDER.items():
            with archive.open(name, "w", force_zip64=True) as file:
                file.write(data)
        archive.comment = b"PK\x05\x06 is no directory"
    with pytest.raises(LoadError):  # what begins as text is announced as none
        load(buffer.getvalue(), "imagefolder")
    shifted = b"PK\x03\x04" + buffer.getvalue()[4:]
    info = load(shifted, "imagefolder")
    assert info.num_samples == 4
    assert canonical(out, "ids").tolist() == ORDER


def test_a_zip_with_a_directory_of_64_bits(load: Load, out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As of 65,536 files and more."""
    monkeypatch.setattr(zipfile, "ZIP_FILECOUNT_LIMIT", 2)
    data = zipped(FOLDER)
    assert b"PK\x06\x07" in data
    assert load(data, "imagefolder").num_samples == 4
    assert canonical(out, "ids").tolist() == ORDER


def test_a_file_whose_checksum_is_wrong(refuse: Refuse) -> None:
    whole = zipped(FOLDER)
    place = whole.index(FOLDER["dog/b.png"]) + 50
    damaged = whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :]
    assert "checksum" in refuse(damaged, "corrupt_file", "imagefolder").detail


def test_two_files_of_one_name(refuse: Refuse) -> None:
    for twice in ("cat/1.png", "./cat/1.png"):
        names = [("cat/1.png", b"x"), (twice, b"x")]
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w") as archive, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            for name, data in names:
                archive.writestr(name, data)
        assert "one name" in refuse(buffer.getvalue(), "unsafe_file", "imagefolder").detail


def test_links_and_devices(refuse: Refuse) -> None:
    for kind in (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE):
        data = tarred({"cat/0.png": link("cat/0.png", "/etc/passwd", kind)})
        assert "link or a device" in refuse(data, "unsafe_file", "imagefolder").detail

    def symbolic(info: zipfile.ZipInfo) -> None:
        info.external_attr = 0o120777 << 16

    assert (
        "link" in refuse(zipped({"cat/0.png": b"/etc/passwd"}, symbolic), "unsafe_file", "imagefolder").detail
    )


def test_bombs(refuse: Refuse) -> None:
    def deflated(info: zipfile.ZipInfo) -> None:
        info.compress_type = zipfile.ZIP_DEFLATED

    zeros = bytes(70 * 2**20)
    assert "bomb" in refuse(zipped({"a/1.png": zeros}, deflated), "unsafe_file", "imagefolder").detail
    assert "bomb" in refuse(tarred({"a/1.png": zeros}, "w:gz"), "unsafe_file", "tar").detail


def test_an_image_of_too_many_pixels(refuse: Refuse) -> None:
    data = picture(np.zeros((9000, 9000), np.uint8))
    assert "pixels at most" in refuse(zipped({"a/1.png": data}), "sample_too_large", "imagefolder").detail


@pytest.mark.parametrize(
    ("members", "code", "words"),
    [
        ({"1.png": picture(colour())}, "unknown_array", "in no folder"),
        ({"a/1.txt": b"hello"}, "unknown_array", "is no image"),
        ({"a/1.png": b"no image"}, "corrupt_file", "sample 0"),
        ({"a/1.png": picture(colour())[:60]}, "corrupt_file", "sample 0"),
        ({"a/1.png": picture(np.zeros((4, 4), np.uint16))}, "unsupported_dtype", "8 bits"),
        ({}, "shape_mismatch", "no images"),
    ],
)
def test_what_is_no_folder_of_images(refuse: Refuse, members: Any, code: str, words: str) -> None:
    assert words in refuse(zipped(members), code, "imagefolder").detail


def test_an_animation(refuse: Refuse) -> None:
    buffer = io.BytesIO()
    frames = [Image.fromarray(colour()) for _ in range(2)]
    frames[0].save(buffer, "PNG", save_all=True, append_images=frames[1:])
    assert (
        "animation"
        in refuse(zipped({"a/1.png": buffer.getvalue()}), "unsupported_dtype", "imagefolder").detail
    )


@pytest.mark.parametrize(
    ("members", "code", "words"),
    [
        (
            {"0.png": picture(colour()), "0.cls": b"1", "1.png": picture(colour())},
            "missing_value",
            "Sample 1",
        ),
        ({"0.exe": b"1", "0.cls": b"1"}, "unknown_array", ".exe"),
        ({"readme": b"hello"}, "unknown_array", "no sample"),
        ({"0.png": picture(colour()), "0.json": b"[1]"}, "corrupt_file", "no JSON object"),
        ({"0.png": picture(colour()), "0.cls": b"\xff"}, "corrupt_file", "UTF-8"),
        ({"0.txt": b"some words", "0.cls": b"1"}, "tokenizer_required", "tokenizer_file"),
    ],
)
def test_what_is_no_webdataset(refuse: Refuse, members: Any, code: str, words: str) -> None:
    assert words in refuse(tarred(members), code, "webdataset").detail


def test_a_pickle_in_an_archive_does_not_run(refuse: Refuse, tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self) -> tuple[Any, ...]:
            return os.mkdir, (str(tmp_path / "sprung"),)

    trap = pickle.dumps(Trap())
    refuse(zipped({"a/1.png": trap}), "corrupt_file", "imagefolder")
    refuse(tarred({"0.npy": trap, "0.cls": b"1"}), "corrupt_file", "webdataset")
    refuse(tarred({"0.pyd": trap, "0.cls": b"1"}), "unsafe_file", "webdataset")
    assert not (tmp_path / "sprung").exists()


WHOLE = {
    "imagefolder": zipped(FOLDER),
    "tar": tarred(FOLDER),
    "webdataset": tarred({"0.png": FOLDER["cat/2.png"], "0.cls": b"1"}, "w:gz"),
}


@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.sampled_from(sorted(WHOLE)), st.data())
def test_with_bytes_changed(load: Load, kind: str, data: st.DataObject) -> None:
    whole = bytearray(WHOLE[kind])
    place = st.integers(0, len(whole) - 1)
    for where, value in data.draw(st.lists(st.tuples(place, st.integers(0, 255)), min_size=1, max_size=6)):
        whole[where] = value
    survives(load, bytes(whole), kind)


@pytest.mark.parametrize("kind", WHOLE)
def test_cut_anywhere(load: Load, kind: str) -> None:
    for end in range(0, len(WHOLE[kind]), 97):
        survives(load, WHOLE[kind][:end], kind)
