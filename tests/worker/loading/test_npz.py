"""Archives and headers that are not to be trusted."""

from __future__ import annotations

import io
import os
import stat
import struct
import zipfile

import numpy as np
import pytest

from tests.worker.loading.files import (
    Load,
    Refuse,
    X,
    Y,
    allocating_at_most,
    header,
    npy,
    npz,
    zipped,
)
from worker.loading import LoadError


def test_a_header_asking_for_more_than_the_file_holds(refuse: Refuse) -> None:
    text = "{'descr': '<f8', 'fortran_order': False, 'shape': (150000000, 1), }\n"
    data = zipped({"inputs.npy": header(text) + bytes(64), "targets.npy": npy(Y)})
    with allocating_at_most(2**21):
        words = refuse(data, "corrupt_file").detail
    assert "asks for 1200000000 bytes" in words and "holds 64" in words


def test_a_header_asking_for_less_than_the_file_holds(refuse: Refuse) -> None:
    refuse(zipped({"inputs.npy": npy(X) + b"more", "targets.npy": npy(Y)}), "corrupt_file")


@pytest.mark.parametrize(
    "text",
    [
        "{'descr': '<f4', 'fortran_order': False, 'shape': (-6, 4), }",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (6, 4.0), }",
        "{'descr': '<f4', 'fortran_order': False}",
        "{'descr': 'nonsense', 'fortran_order': False, 'shape': (6, 4), }",
        "{'descr': '<f4', 'fortran_order': 1, 'shape': (6, 4), }",
        "{'descr': __import__('os'), 'fortran_order': False, 'shape': (6, 4), }",
        "(" * 9000,
        "-" * 9000 + "1",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (" + "9" * 5000 + ",), }",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (6L, 4L), }",
        "\x00\xff",
        "",
    ],
)
@pytest.mark.parametrize("version", [1, 2, 3, 9])
def test_headers_that_make_no_sense(load: Load, text: str, version: int) -> None:
    members = {"inputs.npy": header(text, version) + X.tobytes(), "targets.npy": npy(Y)}
    if "6L" in text and version < 9:  # Python 2 wrote these
        assert load(zipped(members)).num_samples == 6
        return
    with pytest.raises(LoadError) as refused:
        load(zipped(members))
    assert refused.value.code in ("corrupt_file", "shape_mismatch")


def test_a_header_too_long(refuse: Refuse) -> None:
    text = "{'descr': '<f4', 'fortran_order': False, 'shape': (6, 4), }" + " " * 20_000
    members = {"inputs.npy": header(text) + X.tobytes(), "targets.npy": npy(Y)}
    assert "10000 at most" in refuse(zipped(members), "unsafe_file").detail
    members["inputs.npy"] = b"\x93NUMPY\x02\x00\xff\xff\xff\xff" + X.tobytes()
    refuse(zipped(members), "unsafe_file")


def test_an_archive_bomb(refuse: Refuse) -> None:
    buffer = io.BytesIO()
    np.savez_compressed(buffer, inputs=np.zeros((70, 2**20), np.uint8), targets=np.zeros(70))
    data = buffer.getvalue()
    with allocating_at_most(2**21):
        assert "bomb" in refuse(data, "unsafe_file").detail


def test_packed_data_below_the_limit_of_bombs(load: Load) -> None:
    buffer = io.BytesIO()
    np.savez_compressed(buffer, inputs=np.zeros((16, 2**20), np.uint8), targets=np.zeros(16))
    assert load(buffer.getvalue()).num_samples == 16


def test_a_zip_that_lies_about_its_sizes(refuse: Refuse) -> None:
    """The directory says 2 GiB, so that the header may ask for them; 1 KiB is there."""
    text = "{'descr': '|u1', 'fortran_order': False, 'shape': (1, 2147483000), }\n"
    member = header(text) + bytes(1000)
    data = zipped({"inputs.npy": member, "targets.npy": npy(Y[:1])})
    told = len(member) - 1000 + 2147483000
    at = data.index(b"PK\x01\x02")
    lying = data[: at + 20] + struct.pack("<II", told, told) + data[at + 28 :]
    with allocating_at_most(2**21):
        refuse(lying, "unsafe_file")


def test_deflated_data_shorter_than_told(refuse: Refuse) -> None:
    text = "{'descr': '|u1', 'fortran_order': False, 'shape': (1000, 1000), }\n"
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("inputs.npy", header(text) + os.urandom(5000))
        archive.writestr("targets.npy", npy(np.zeros(1000, int)))
    data = packed.getvalue()
    at = data.index(b"PK\x01\x02")
    lying = data[: at + 24] + struct.pack("<I", 10 + len(text) + 10**6) + data[at + 28 :]
    refuse(lying, "corrupt_file")


def test_a_directory_of_very_many_members(refuse: Refuse) -> None:
    refuse(zipped({f"{i}.npy": b"" for i in range(17)}), "unknown_array")
    refuse(zipped({f"{i}-{'x' * 300}.npy": b"" for i in range(4000)}), "unsafe_file")


@pytest.mark.parametrize("name", ["../inputs.npy", "/etc/inputs.npy", "a/../../inputs.npy", "a\\inputs.npy"])
def test_a_path_that_leads_outside(refuse: Refuse, name: str) -> None:
    assert "outside" in refuse(zipped({name: npy(X), "targets.npy": npy(Y)}), "unsafe_file").detail


def test_a_link(refuse: Refuse) -> None:
    def link(info: zipfile.ZipInfo) -> None:
        info.external_attr = (stat.S_IFLNK | 0o777) << 16

    assert "link" in refuse(zipped({"inputs.npy": b"/etc/passwd"}, link), "unsafe_file").detail


def test_an_encrypted_member(refuse: Refuse) -> None:
    data = bytearray(npz(inputs=X, targets=Y))
    for signature, flags in ((b"PK\x01\x02", 8), (b"PK\x03\x04", 6)):
        data[data.index(signature) + flags] |= 1
    assert "password" in refuse(bytes(data), "unsafe_file").detail


def test_a_method_of_packing_numpy_does_not_use(refuse: Refuse) -> None:
    def lzma(info: zipfile.ZipInfo) -> None:
        info.compress_type = zipfile.ZIP_LZMA

    refuse(zipped({"inputs.npy": npy(X), "targets.npy": npy(Y)}, lzma), "unsafe_file")


def test_a_damaged_byte_is_noticed_by_its_checksum(refuse: Refuse) -> None:
    data = bytearray(npz(inputs=X, targets=Y))
    data[data.index(X.tobytes()) + 5] ^= 1
    assert "CRC" in refuse(bytes(data), "corrupt_file").detail
