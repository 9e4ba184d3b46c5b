"""What a file is by its first bytes, whatever its name says."""

from __future__ import annotations

from pathlib import Path

from worker.loading.errors import LoadError

MAGIC = {
    b"PK\x03\x04": "a zip archive",
    b"PK\x05\x06": "a zip archive",  # an empty one
    b"\x93NUMPY": "a single .npy array",
    b"\x89HDF": "an HDF5 file",
    b"\x1f\x8b": "a gzip file",
    b"PAR1": "a parquet file",
    b"BZh": "a bzip2 file",
    b"\xfd7zXZ": "an xz file",
}


def kind_of(path: Path) -> str:
    """The file's kind in words.

    Raises:
        LoadError: the file is empty.
    """
    with path.open("rb") as file:
        head = file.read(512)
    if not head:
        raise LoadError(
            "empty_file", "The file is empty: 0 bytes arrived. Write it again and upload it once more."
        )
    if head[0] == 0x80 and head[1:2] in (b"\x02", b"\x03", b"\x04", b"\x05"):
        return "a pickle"
    if head[8:9] == b"{":
        return "a safetensors file"
    if head[257:262] == b"ustar":
        return "a tar archive"
    return next((kind for magic, kind in MAGIC.items() if head.startswith(magic)), "of no kind we know")
