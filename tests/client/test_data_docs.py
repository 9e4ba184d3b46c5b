"""docs/data.md, its examples run as they are written."""

from __future__ import annotations

import io
import re
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa  # type: ignore[import-untyped]
import pyarrow.parquet as pq  # type: ignore[import-untyped]
import pytest
from safetensors.numpy import save_file

from app.api.dataset_forms import FORMATS
from diffin.client import Diffin
from tests.services import Service
from tests.worker.loading.archives import colour, picture
from tests.worker.loading.test_text import tokenizer

PAGE = Path(__file__).parents[2] / "docs" / "data.md"


def add(archive: tarfile.TarFile, name: str, data: bytes) -> None:
    info = tarfile.TarInfo(name)
    info.size = len(data)
    archive.addfile(info, io.BytesIO(data))


def test_every_example_of_the_page(
    embedded_service: Service, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    tokenizer().save("tokenizer.json")
    (embedded_service.sets / "train.csv").write_text("age,job,income\n39,clerk,low\n50,baker,high\n")
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    assert len(blocks) >= len(FORMATS)
    with Diffin(embedded_service.url, embedded_service.key) as client:
        names: dict[str, Any] = {
            "Path": Path, "add": add, "client": client, "np": np, "pa": pa, "picture": picture(colour()),
            "pq": pq, "save_file": save_file, "tarfile": tarfile, "zipfile": zipfile,
        }  # fmt: skip
        for block in blocks:
            exec(compile(block, str(PAGE), "exec"), names)  # noqa: S102  (our own page)


def test_every_format_is_on_the_page() -> None:
    text = PAGE.read_text()
    assert all(f"`{name}`" in text for name in FORMATS)
