"""Files of rows, made by the libraries people make them with."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa  # type: ignore[import-untyped]
import pyarrow.parquet as pq  # type: ignore[import-untyped]

from app.store.shown import Shown

CENSUS = """age,job,hours,income
39,State-gov, 40,<=50K
50,Private,13,>50K
?,Private,40,<=50K
52,,45,>50K
"""


def parquet(columns: Mapping[str, Any], **options: Any) -> bytes:
    buffer = io.BytesIO()
    pq.write_table(columns if isinstance(columns, pa.Table) else pa.table(dict(columns)), buffer, **options)
    return buffer.getvalue()


def jsonl(rows: Sequence[Any]) -> bytes:
    return b"".join(json.dumps(row).encode() + b"\n" for row in rows)


def csv(columns: Mapping[str, Sequence[Any]]) -> bytes:
    rows = zip(*columns.values(), strict=True)
    lines = [",".join(columns), *(",".join(map(_field, row)) for row in rows)]
    return "\n".join(lines).encode()


def _field(value: Any) -> str:
    text = "" if value is None else str(value)
    return '"' + text.replace('"', '""') + '"' if set(text) & set(',"\n\r') else text


def shown(out: Path, count: int) -> list[str]:
    texts = Shown(out / "shown.bin", count)
    return [texts[i] for i in range(count)]
