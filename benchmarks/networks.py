"""Networks of any kind, and runs of the service's own.

    python benchmarks/networks.py [--quick] [--part networks|replay|verdicts] [--networks vit gpt …]

Each part is a file of benchmarks/generality with `measure(quick)`, which prints its tables and bars.
"""

from __future__ import annotations

import sys
from importlib import import_module
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))
from benchmarks.generality import networks
from benchmarks.lab.bars import parser

PARTS = ("networks", "replay", "verdicts")


def main() -> None:
    made = parser(__doc__)
    made.add_argument("--part", choices=PARTS, help="this part only")
    made.add_argument("--networks", nargs="+", metavar="NAME", help="these only, of the part networks")
    asked = made.parse_args()
    if asked.networks:
        networks.measure(asked.quick, asked.networks)
        return
    for part in [asked.part] if asked.part else PARTS:
        import_module(f"benchmarks.generality.{part}").measure(asked.quick)


if __name__ == "__main__":
    main()
