"""docs/selections.md, its examples run as they are written where their libraries are."""

from __future__ import annotations

import hashlib
import json
import re
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch

from diffin import Diffin
from diffin.models import Job
from tests.client.conftest import SAMPLES, Arrays

PAGE = Path(__file__).parents[2] / "docs" / "selections.md"
OPTIONAL = ("datasets", "pandas")  # none of ours: what a reader may have


def test_every_example_of_the_page(
    client: Diffin, job: Job, arrays: Arrays, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    targets = torch.from_numpy(arrays.targets)
    names: dict[str, Any] = {"client": client, "job": job, "inputs": torch.from_numpy(arrays.inputs)}
    names["targets"] = targets
    left = {}
    for block in blocks:
        if any(f"import {name}" in block and find_spec(name) is None for name in OPTIONAL):
            continue
        exec(compile(block, str(PAGE), "exec"), names)  # noqa: S102  (our own page)
        if "Subset(" in block:
            left = {"torch": len(names["train"])}
    cleaned = names["cleaned"]
    manifest = client.manifest(cleaned)
    assert left["torch"] == len(manifest["keep"]) == SAMPLES - cleaned.size
    table = (tmp_path / f"{cleaned.id}.csv").read_bytes()
    lines = table.decode().splitlines()
    assert lines[0] == "sample_index,action,label" and len(lines) == SAMPLES + 1
    rows = [line.split(",") for line in lines[1:]]
    assert [int(index) for index, action, _ in rows if action == "keep"] == manifest["keep"]
    relabelled = [
        {"sample_index": int(index), "sample_id": None, "label": int(label)}
        for index, action, label in rows
        if action == "relabel"
    ]
    assert relabelled == manifest["relabel"]
    tracked = (tmp_path / f"{cleaned.id}.csv.dvc").read_text()
    digest = hashlib.md5(table, usedforsecurity=False).hexdigest()
    assert tracked.splitlines() == [
        "outs:", f"- md5: {digest}", f"  size: {len(table)}", "  hash: md5", f"  path: {cleaned.id}.csv"
    ]  # fmt: skip
    assert (tmp_path / "updated.safetensors").stat().st_size > 0
    assert json.loads(client.download_manifest(cleaned, "m.json", format="json").read_text()) == manifest
