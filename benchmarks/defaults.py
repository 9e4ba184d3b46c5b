"""Which options of `diff_in` rank best against leave-one-out retraining: the table its defaults come from.

    python benchmarks/defaults.py [--quick]

The digits MLP of tests/influence/test_fidelity.py (400 samples, 10% of the labels flipped, 160 steps of 40,
5 checkpoints), 8 seeds, 60 retrainings each. Closes with its bar line: the defaults' mean Spearman.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).parents[1]))
from tests.influence.test_fidelity import Run

ASKED = 0.7
CANDIDATES: dict[str, tuple[str, dict[str, Any]]] = {
    "diff_in at its defaults": ("diff_in", {}),
    **{
        f"{position}, {curvature}, {samples or 'all'}": (
            "diff_in",
            {"checkpoint_position": position, "curvature": curvature, "hessian_samples": samples},
        )
        for position in ("end", "middle")
        for curvature in ("hessian", "ggn")
        for samples in (256, None)
    },
    "defaults, 25 Lanczos steps": ("diff_in", {"lanczos_steps": 25}),
    "defaults, not clamped": ("diff_in", {"clamp": False}),
    "tracin": ("tracin", {}),
    "diff_in_eq9, full batch": ("diff_in_eq9", {"batch": "full"}),
    "mean loss": ("loss", {}),
}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="2 seeds")
    seeds = range(2 if parser.parse_args().quick else 8)
    torch.set_num_threads(1)  # the products are small: threads would only wait for each other
    runs = [Run.of(seed) for seed in seeds]
    print(f"| {len(runs)} seeds | Spearman, mean [worst] | precision, mean [worst] |\n|---|---|---|")
    for name, (method, options) in CANDIDATES.items():
        rho, precision = np.array([run.judged(method, **options) for run in runs]).T
        columns = [f"{figures.mean():.3f} [{figures.min():.3f}]" for figures in (rho, precision)]
        print("|", " | ".join([name, *columns]), "|")
    figure = np.mean([run.judged("diff_in")[0] for run in runs])
    print(f"bar: defaults.spearman {figure:.3f} {ASKED} {'ok' if figure >= ASKED else 'short'}")


if __name__ == "__main__":
    main()
