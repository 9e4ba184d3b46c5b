"""Every hostile file, out of the tables of the formats."""

from __future__ import annotations

from tests.hostile import arrays, columns, graphs, images, lines, pickles, tars, tensors, zips
from tests.hostile.case import Case

CASES: list[Case] = [
    case
    for table in (pickles, zips, tars, arrays, tensors, images, columns, lines, graphs)
    for case in table.CASES
]
