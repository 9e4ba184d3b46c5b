"""Whose scores tell best what leaving samples out does: captum, dattri, kronfluence and ours.

    make peers && python benchmarks/peers.py [--quick] [--only digits] [--seed 7]

4,000 shifted digits of which 409 are labelled wrongly, 2,000 of MNIST and 2,000 of TREC's questions with a
tenth labelled wrongly; networks of 10,000 to 40,000 parameters, SGD with momentum, 5 checkpoints that all
tools are given alike, one thread. Each scores every training sample for every query. The truth is what 80
networks give that were trained on random halves, two runs a half, each with a start and an order of its own:
the linear datamodelling score (LDS) of a query is the rank correlation, over the halves, of its loss with the
sum of the half's scores. Intervals are over queries.

The others run in an environment of their own (DIFFIN_PEERS_VENV, by default .venv-peers), their memory
capped. Ours is what did best on another seed of the set's data (`TUNED`, by `--seed 7`), theirs take their
best of the variants that are run.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).parents[1]))
from benchmarks.lab.bars import bar, bootstrap, parser, table
from benchmarks.lab.data import MissingData
from benchmarks.lab.training import Run, evenly, initial, train
from benchmarks.rivals import job, truth
from benchmarks.rivals.environment import interpreter
from benchmarks.rivals.sets import SETS, Setting
from worker.influence.evaluate import roc_auc
from worker.influence.retraining import halves
from worker.influence.score import score_queries
from worker.influence.task import Task

CHECKPOINTS, SUBSETS, REPEATS = 5, 80, 2
MEMORY = 8 << 30  # bytes of address space that another tool may take
RUNNERS = {
    "run_captum.py": ["captum.tracincp", "captum.arnoldi"],
    "run_dattri.py": ["dattri.trak-512", "dattri.trak-512-last"],
    "run_kronfluence.py": ["kronfluence.ekfac", "kronfluence.ekfac-damped"],
}
KRONECKER: dict[str, Any] = {"curvature": "kronecker", "hessian_samples": None}
EVERYWHERE, SEGMENTS = "influence_function, all checkpoints", "diff_in, Kronecker"
TUNED = {"digits": EVERYWHERE, "mnist": EVERYWHERE, "trec": SEGMENTS}
OURS: dict[str, tuple[str, dict[str, Any]]] = {
    EVERYWHERE: ("influence_function", {"checkpoints": "all", **KRONECKER}),
    "influence_function, last checkpoint": ("influence_function", KRONECKER),
    "influence_function as it is by default": ("influence_function", {}),
    SEGMENTS: ("diff_in", KRONECKER),
    "tracin, ours": ("tracin", {}),
}


class Found(NamedTuple):
    """Scores [N, Q], positive = harmful, and what they cost."""

    scores: NDArray[Any]
    cost: job.Cost


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument("--only", choices=SETS, help="one of the sets")
    arguments.add_argument("--seed", type=int, default=0, help="of the data, the run and the halves")
    asked = arguments.parse_args()
    torch.set_num_threads(1)
    python = interpreter()
    if not python.exists():
        print(f"skipped: there is no {python}; `make peers` installs the other tools")
        return
    for name in [asked.only] if asked.only else SETS:
        try:
            compare(name, SETS[name](asked.seed, asked.quick), python, asked.quick, asked.seed)
        except MissingData as missing:
            print(f"skipped: {missing}")


def compare(name: str, setting: Setting, python: Path, quick: bool, seed: int) -> None:
    """The table of one set, and its bar: the low end of the lead over the best of the others."""
    run = trained(setting, seed)
    found = ours(setting, run, seed) | others(setting, run, python)
    masks = halves(len(setting.problem.inputs), SUBSETS, seed)
    losses = truth.query_losses(setting, masks, 1 if quick else REPEATS)
    lds = {which: truth.lds(each.scores, masks, losses) for which, each in found.items()}
    rows: list[list[object]] = [["scores", "LDS", "95% interval", "AUC of wrong labels", "CPU s", "peak MiB"]]
    for which, each in found.items():
        low, high = bootstrap(list(lds[which]))
        area = roc_auc(torch.from_numpy(each.scores).double().sum(1), setting.problem.flipped)
        peak = f"{each.cost.peak_mib:.0f}" if each.cost.peak_mib else ""
        rows.append([
            f"**{which}**" if which == TUNED[name] else which,
            f"{lds[which].mean():.3f}", f"{low:.3f} … {high:.3f}", f"{area:.3f}",
            f"{each.cost.cpu_s:.1f}", peak,
        ])  # fmt: skip
    print(f"{name}: {len(setting.problem.inputs)} samples, {len(setting.problem.query_inputs)} queries\n")
    print(table(rows) + "\n")
    best = max((which for which in lds if which not in OURS), key=lambda which: float(lds[which].mean()))
    low, high = bootstrap(list(lds[TUNED[name]] - lds[best]))
    print(f"{TUNED[name]} over {best}, paired over queries: {low:+.3f} … {high:+.3f}")
    bar(f"peers.{name}.lds", low, 0)
    print(flush=True)


def trained(setting: Setting, seed: int) -> Run:
    """The run whose checkpoints all tools are given."""
    start, problem = initial(setting.make, seed, torch.float32), setting.problem
    keep = evenly(setting.recipe.steps(len(problem.inputs)), CHECKPOINTS)
    task = Task(start.network, "cross_entropy")
    return train(task, start.params, start.buffers, problem, setting.recipe, seed, keep)


def ours(setting: Setting, run: Run, seed: int) -> dict[str, Found]:
    found = {}
    for name, (method, options) in OURS.items():
        begun = time.process_time()
        at = (method, run.task, run.trajectory, setting.problem.train, setting.problem.query)
        scores = score_queries(*at, seed=seed, options=options).numpy()
        found[name] = Found(scores, job.Cost(time.process_time() - begun, 0.0))
    return found


def others(setting: Setting, run: Run, python: Path) -> dict[str, Found]:
    """Each in a process of its own; one that fails, for want of memory say, is told and left out."""
    problem, checkpoints = setting.problem, run.trajectory.checkpoints
    described = {
        "network": setting.network,
        "config": dict(setting.config),
        "rates": [list(checkpoint.learning_rates) for checkpoint in checkpoints],
    }
    found = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        job.write(job.Job(problem.train, problem.query, [c.params for c in checkpoints], described), folder)
        for script, methods in RUNNERS.items():
            for method in methods:
                command = [
                    str(python),
                    "-W",
                    "ignore",
                    str(Path(job.__file__).with_name(script)),
                    name,
                    method,
                ]
                done = subprocess.run(command, capture_output=True, text=True, preexec_fn=_capped)
                if done.returncode:
                    print(f"{method} failed: {done.stderr.strip().splitlines()[-1:]}")
                    continue
                cost = job.Cost(**json.loads((folder / f"{method}.json").read_text()))
                found[method] = Found(np.load(folder / f"{method}.npy"), cost)
    return found


def _capped() -> None:
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))


if __name__ == "__main__":
    main()
