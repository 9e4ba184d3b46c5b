"""docs/language-models.md, its examples run as they are written."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from diffin.client import Diffin
from tests.services import Service

PAGE = Path(__file__).parents[2] / "docs" / "language-models.md"


@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning", "ignore::UserWarning")
def test_every_example_of_the_page(
    embedded_service: Service, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with Diffin(embedded_service.url, embedded_service.key) as client:
        names: dict[str, Any] = {"client": client}
        for block in re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL):
            exec(compile(block, str(PAGE), "exec"), names)  # noqa: S102  (our own page)
        assert client.trajectory(names["run"]).checkpoints[0].status == "ready"
        assert names["harmful"].score > 0
