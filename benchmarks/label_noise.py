"""Which score finds wrong labels: every method, cleanlab, and the suspicion score.

    python benchmarks/label_noise.py [--quick]

MNIST, CIFAR-10 and TREC, 2,000 samples each, 400 clean queries, 5 checkpoints. 5 to 40% of the labels are
wrong, "uniform": any other class, or "class": each class becomes the next one. 3 seeds. Figures are areas
under the ROC curve and average precision against what was flipped.

cleanlab is run in a virtual environment of its own (DIFFIN_PEERS_VENV, by default .venv-peers), on
probabilities of the same network trained 5 times on four fifths of the samples; without it its rows are left
out. Curvature is averaged over 256 samples, and what costs by far the most (COSTLY) sees the first seed only.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score
from torch import nn

sys.path.insert(0, str(Path(__file__).parents[1]))
from benchmarks.lab.bars import bar, bootstrap, parser, table
from benchmarks.lab.data import MissingData, Noise, Problem, load, skip
from benchmarks.lab.training import Recipe, Run, evenly, initial, train
from benchmarks.rivals.environment import interpreter
from worker.influence.evaluate import roc_auc
from worker.influence.networks import build
from worker.influence.score import Result, score
from worker.influence.suspicion import suspicion
from worker.influence.task import Task
from worker.influence.trajectory import Arrays

SAMPLES, QUERIES, CHECKPOINTS, FOLDS = 2000, 400, 5, 5
RATES = (0.05, 0.1, 0.2, 0.4)
SEEDS = (10, 11, 12)  # not those that the suspicion score was designed on

RECIPES = {
    "mnist": Recipe(epochs=15, batch_size=50, learning_rate=0.05, momentum=0.9, schedule="cosine"),
    "cifar10": Recipe(epochs=15, batch_size=50, learning_rate=0.02, momentum=0.9, schedule="cosine"),
    "trec": Recipe(epochs=20, batch_size=50, learning_rate=0.2, momentum=0.9, schedule="cosine"),
}
FEW = {"hessian_samples": 256}
METHODS: dict[str, tuple[str, dict[str, Any]]] = {
    "`loss`, mean": ("loss", {}),
    "`loss`, last": ("loss", {"which": "last"}),
    "`el2n`": ("el2n", {}),
    "`grad_norm`": ("grad_norm", {}),
    "`self_influence`": ("self_influence", {}),
    "`tracin`": ("tracin", {}),
    "`influence_function`": ("influence_function", {**FEW, "cg_steps": 30}),
    "`diff_in_eq9`": ("diff_in_eq9", {}),
}
COSTLY: dict[str, tuple[str, dict[str, Any]]] = {
    "`diff_in_eq9`, self, sign turned": ("diff_in_eq9", {"target": "self", "batch_size": 4}),
}
MEAN, SUSPICION = "`loss`, mean", "**suspicion**"
CLEANLAB = """
import sys, numpy as np
from cleanlab.filter import find_label_issues
from cleanlab.rank import get_label_quality_scores
with np.load(sys.argv[1]) as cases:
    found = {}
    for name in {key.split("/")[0] for key in cases}:
        labels, probabilities = cases[name + "/labels"], cases[name + "/probabilities"]
        quality = get_label_quality_scores(labels, probabilities)
        issues = find_label_issues(labels, probabilities, n_jobs=1)
        found[name + "/quality"], found[name + "/issues"] = quality, issues
np.savez(sys.argv[2], **found)
"""


class Setting(NamedTuple):
    """A kind of label noise on a data set."""

    data: str
    noise: Noise
    rate: float


@dataclass(frozen=True)
class Case:
    """One trained run: what is wrong, what each method says of it, and probabilities for cleanlab."""

    setting: Setting
    flipped: torch.Tensor
    scores: dict[str, torch.Tensor]
    labels: NDArray[np.int64]
    probabilities: NDArray[np.float64] | None

    def judged(self) -> dict[str, tuple[float, float]]:
        """(AUC, average precision) of each method."""
        return {
            name: (roc_auc(found, self.flipped), float(average_precision_score(self.flipped, found)))
            for name, found in self.scores.items()
        }


def network(problem: Problem) -> nn.Module:
    """Convolutions for images, a transformer for questions."""
    if problem.vocabulary:
        return build(
            "transformer",
            {
                "vocab_size": problem.vocabulary,
                "max_length": problem.inputs.shape[1],
                "num_classes": problem.num_classes,
                "d_model": 32,
                "num_heads": 2,
                "num_layers": 1,
                "dim_feedforward": 64,
            },
        )
    _, channels, *size = problem.inputs.shape
    widths = [8, 16] if channels == 1 else [8, 16, 32]
    return build(
        "cnn",
        {
            "in_channels": channels,
            "num_classes": problem.num_classes,
            "channels": widths,
            "image_size": size,
        },
    )


def trained(problem: Problem, seed: int) -> Run:
    """In float32, CHECKPOINTS of its states kept at even distances."""
    start, recipe = initial(lambda: network(problem), seed, torch.float32), RECIPES[problem.name]
    keep = evenly(recipe.steps(len(problem.inputs)), CHECKPOINTS)
    task = Task(start.network, "cross_entropy")
    return train(task, start.params, start.buffers, problem, recipe, seed, keep)


def case_of(setting: Setting, seed: int, peers: bool) -> Case:
    """Trains on the noisy labels, and lets every method have its say."""
    problem = load(
        setting.data, n=SAMPLES, queries=QUERIES, flips=setting.rate, seed=seed, noise=setting.noise
    )
    run = trained(problem, seed)

    def of(method: str, queries: Arrays, **options: Any) -> Result:
        return score(method, run.task, run.trajectory, problem.train, queries, seed=seed, options=options)

    found = {name: of(method, problem.query, **options).scores for name, (method, options) in METHODS.items()}
    if seed == SEEDS[0]:  # published as the most negative being the worst
        for name, (method, options) in COSTLY.items():
            found[name] = -of(method, problem.query, **options).scores
    diff_in = of("diff_in", problem.query, **FEW)
    on_noisy = of("diff_in", noisy_queries(problem, setting, seed), **FEW)
    found["`diff_in`"] = diff_in.scores
    found["`diff_in`, last checkpoint's part"] = diff_in.contributions[-1]
    found[SUSPICION] = suspicion(diff_in.losses, diff_in.contributions[-1])
    found["suspicion, queries as noisy"] = suspicion(on_noisy.losses, on_noisy.contributions[-1])
    probabilities = out_of_fold(problem, seed) if peers else None
    return Case(setting, problem.flipped, found, problem.targets.numpy(), probabilities)


def noisy_queries(problem: Problem, setting: Setting, seed: int) -> Arrays:
    """The queries with as many wrong labels, of the same kind, as the training set."""
    generator = torch.Generator().manual_seed(seed)
    wrong = torch.rand(QUERIES, generator=generator) < setting.rate
    moves = torch.randint(1, problem.num_classes, (QUERIES,), generator=generator)
    moves = moves if setting.noise == "uniform" else torch.ones_like(moves)
    labels = torch.where(wrong, (problem.query_targets + moves) % problem.num_classes, problem.query_targets)
    return Arrays(problem.query_inputs, labels)


def out_of_fold(problem: Problem, seed: int) -> NDArray[np.float64]:
    """Probabilities [N, classes] by networks that did not see the sample."""
    probabilities = torch.zeros(SAMPLES, problem.num_classes)
    parts = torch.randperm(SAMPLES, generator=torch.Generator().manual_seed(seed)).chunk(FOLDS)
    for number, held_out in enumerate(parts):
        rows = torch.ones(SAMPLES, dtype=torch.bool)
        rows[held_out] = False
        seen = replace(problem, inputs=problem.inputs[rows], targets=problem.targets[rows])
        run = trained(seen, seed + 1000 * (number + 1))
        last = run.trajectory.checkpoints[-1]
        with torch.no_grad():
            logits = run.task.outputs(last.params, last.buffers, problem.inputs[held_out])
        probabilities[held_out] = logits.softmax(1)
    found: NDArray[np.float64] = (
        probabilities.double() / probabilities.double().sum(1, keepdim=True)
    ).numpy()
    return found


def cleanlab(cases: list[Case], python: Path) -> None:
    """Adds cleanlab's scores to every case: low label quality, and the issues it finds before all others."""
    with tempfile.TemporaryDirectory() as folder:
        given, found = Path(folder, "given.npz"), Path(folder, "found.npz")
        arrays: dict[str, NDArray[Any]] = {}
        for i, case in enumerate(cases):
            assert case.probabilities is not None
            arrays |= {f"{i}/labels": case.labels, f"{i}/probabilities": case.probabilities}
        np.savez(given, **arrays)  # type: ignore[arg-type]  # a name is no `allow_pickle`
        subprocess.run([python, "-c", CLEANLAB, given, found], check=True)
        with np.load(found) as answers:
            for i, case in enumerate(cases):
                doubt = 1 - torch.from_numpy(answers[f"{i}/quality"])
                case.scores["cleanlab, label quality"] = doubt
                case.scores["cleanlab, label issues first"] = doubt + torch.from_numpy(answers[f"{i}/issues"])


def report(cases: list[Case]) -> None:
    """The table of one data set and kind of noise: AUC ± standard deviation over the seeds / precision."""
    rates = sorted({case.setting.rate for case in cases})
    judged = {rate: [case.judged() for case in cases if case.setting.rate == rate] for rate in rates}
    data, noise, _ = cases[0].setting
    rows: list[list[str]] = [[f"{data}, {noise} flips", *(f"{rate:.0%}" for rate in rates)]]
    for name in cases[0].scores:
        cells = []
        for rate in rates:
            areas, precisions = np.array([figures[name] for figures in judged[rate] if name in figures]).T
            spread = f" ± {areas.std(ddof=1):.3f}" if len(areas) > 1 else ""
            cells.append(f"{areas.mean():.3f}{spread} / {precisions.mean():.3f}")
        rows.append([name, *cells])
    print(f"{table(rows)}\n", flush=True)


def gains(cases: list[Case]) -> dict[Setting, list[float]]:
    """AUC of the suspicion score minus that of the mean loss, run by run."""
    found: dict[Setting, list[float]] = {}
    for case in cases:
        suspected, loss = (roc_auc(case.scores[name], case.flipped) for name in (SUSPICION, MEAN))
        found.setdefault(case.setting, []).append(suspected - loss)
    return found


def conclude(cases: list[Case]) -> None:
    """The gains with their intervals, and the bars."""
    found = gains(cases)
    rows: list[list[str]] = [
        ["suspicion over mean loss, AUC", "mean", "95% interval over runs", "worst rate"]
    ]
    for data, noise in dict.fromkeys((s.data, s.noise) for s in found):
        by_rate = {s.rate: g for s, g in found.items() if (s.data, s.noise) == (data, noise)}
        every = [gain for g in by_rate.values() for gain in g]
        low, high = bootstrap(every)
        worst = min(by_rate, key=lambda rate: float(np.mean(by_rate[rate])))
        rows.append(
            [
                f"{data}, {noise} flips",
                f"{np.mean(every):+.4f}",
                f"{low:+.4f} … {high:+.4f}",
                f"{np.mean(by_rate[worst]):+.4f} at {worst:.0%}",
            ]
        )
    print(f"{table(rows)}\n")
    by_class = [gain for setting, g in found.items() if setting.noise == "class" for gain in g]
    bar("label_noise.suspicion.over_mean_loss", min(float(np.mean(g)) for g in found.values()), -0.002)
    bar("label_noise.suspicion.class_dependent", bootstrap(by_class)[0], 0)


def main() -> None:
    quick = parser(__doc__).parse_args().quick
    torch.set_num_threads(1)
    python = interpreter()
    peers = python.exists()
    if not peers:
        print(f"without cleanlab: there is no {python}; DIFFIN_PEERS_VENV names its virtual environment")
    noises: tuple[Noise, ...] = ("uniform", "class")
    rates, seeds = ((0.2,), SEEDS[:1]) if quick else (RATES, SEEDS)
    cases: list[Case] = []
    for data in RECIPES:
        for noise in noises:
            settings = [Setting(data, noise, rate) for rate in rates]
            try:
                found = [case_of(setting, seed, peers) for setting in settings for seed in seeds]
            except MissingData as reason:
                skip(reason)
            if peers:
                cleanlab(found, python)
            report(found)
            cases += found
    conclude(cases)


if __name__ == "__main__":
    main()
