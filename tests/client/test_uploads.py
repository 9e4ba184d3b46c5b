"""Large files sent in parts by the client, which goes on where it was broken off."""

from __future__ import annotations

from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from diffin import Diffin, DiffinError
from diffin.calls import uploads
from diffin.models import Trajectory
from diffin.transfers import Upload
from tests.client.conftest import CLASSES, FEATURES

PART = 64 * 1024


class BrokenOffError(Exception):
    """What the tests stop an upload with."""


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Files of these sizes are large, and read in small pieces."""
    monkeypatch.setattr(uploads, "PARTS_ABOVE", 1000)
    monkeypatch.setattr(uploads, "PIECE", PART // 4)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A data set of more than three parts."""
    draw = np.random.default_rng(hash(tmp_path) % 2**32)
    path = tmp_path / "large.npz"
    np.savez(path, inputs=draw.normal(size=(4000, 8)).astype(np.float32), targets=np.arange(4000) % 3)
    assert path.stat().st_size > 2 * PART
    return path


def breaking_off_at(share: float) -> Any:
    def progress(sent: int, total: int) -> None:
        if sent >= share * total:
            raise BrokenOffError

    return progress


def test_a_large_data_set_goes_in_parts_and_is_the_same(client: Diffin, file: Path) -> None:
    told: list[tuple[int, int]] = []
    dataset = client.ready(client.upload_dataset(file, name="large", progress=lambda *one: told.append(one)))
    assert (dataset.name, dataset.num_samples, dataset.num_classes) == ("large", 4000, 3)
    size = file.stat().st_size
    assert told == sorted(told) and told[-1] == (size, size)
    assert all(one.metadata != {uploads.RESUME: uploads._mark(file)} for one in client.uploads())


def test_a_table_in_parts_is_told_of_like_any_other(client: Diffin, tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("a,b,kind\n" + "1,2,x\n3,4,y\n" * 200)
    told = {"inputs": ["a", "b"], "targets": "kind"}
    table = client.ready(client.upload_dataset(path, columns=told))
    assert (table.classes, table.format) == (("x", "y"), "csv")
    again = client.ready(client.upload_dataset(path, like=table))
    assert again.classes == table.classes


def test_large_checkpoints_and_what_the_optimizer_carried_go_in_parts(
    client: Diffin, trajectory: Trajectory, tmp_path: Path
) -> None:
    shapes: dict[str, Any] = {"layers.0.weight": (CLASSES, FEATURES), "layers.0.bias": CLASSES}
    tensors = {name: np.ones(shape, np.float32) for name, shape in shapes.items()}
    state = {f"momentum_buffer.{name}": value for name, value in tensors.items()}
    note = {"note": "x" * 2000}  # above what counts as large here
    save_file(tensors, tmp_path / "c.safetensors", note)
    save_file(state, tmp_path / "o.safetensors", note)
    run = client.create_trajectory(name="run", architecture=trajectory.architecture)
    client.upload_checkpoint(
        run,
        tmp_path / "c.safetensors",
        step=2,
        learning_rate=[0.1, 0.2],
        optimizer_file=tmp_path / "o.safetensors",
    )
    (checkpoint,) = client.ready(run).checkpoints
    assert checkpoint.learning_rates == (0.1, 0.2)
    assert sorted((checkpoint.optimizer_file or {})["state"]) == ["momentum_buffer"]


def test_what_was_broken_off_goes_on_where_it_was(
    client: Diffin, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(BrokenOffError):
        client.upload_file(file, part_bytes=PART, progress=breaking_off_at(0.9))
    begun = client._begun(file)
    assert begun is not None and begun.status == "receiving"
    there = [part["number"] for part in begun.parts]
    assert there and len(there) < begun.num_parts
    sent: list[int] = []
    original = client._put

    def counted(upload: Upload, number: int, *rest: Any) -> None:
        sent.append(number)
        original(upload, number, *rest)

    monkeypatch.setattr(client, "_put", counted)
    done = client.upload_file(file)
    assert done.id == begun.id
    assert sorted(there + sent) == list(range(1, begun.num_parts + 1))
    assert done.sha256 == sha256(file.read_bytes()).hexdigest()
    client.delete(done)


def test_a_file_that_is_another_by_now_is_sent_anew(client: Diffin, file: Path) -> None:
    with pytest.raises(BrokenOffError):
        client.upload_file(file, part_bytes=PART, progress=breaking_off_at(0.5))
    begun = client._begun(file)
    assert begun is not None
    content = bytearray(file.read_bytes())
    content[10] ^= 1
    file.write_bytes(content)
    done = client.upload_file(file, part_bytes=PART)
    assert done.id != begun.id
    assert done.sha256 == sha256(content).hexdigest()
    client.delete(done)
    client.delete(begun)


def test_a_file_that_shrinks_while_it_is_sent_is_told_of(client: Diffin, file: Path) -> None:
    def shrink(sent: int, total: int) -> None:
        with file.open("r+b") as handle:
            handle.truncate(sent)

    with pytest.raises(ValueError, match="shorter"):
        client.upload_file(file, part_bytes=PART, progress=shrink)


def test_bytes_that_somebody_else_wrote_in_between_are_found_out(client: Diffin, file: Path) -> None:
    def meddle(sent: int, total: int) -> None:
        begun = client._begun(file)
        if sent > 2 * PART and begun is not None and begun.parts:
            where = f"/v1/uploads/{begun.id}/parts/1"
            client._transport.send("PUT", where, content=lambda: iter([bytes(PART)]))

    with pytest.raises(DiffinError, match="other bytes"):
        client.upload_file(file, part_bytes=PART, progress=meddle)
    assert client._begun(file) is None
