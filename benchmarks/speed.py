"""What scores cost: against captum, against plain forward passes, and as the samples grow many.

    python benchmarks/speed.py [--quick] [--part growth] [--device cuda]

Random data and weights, float32, whole network, aggregated query set. captum runs in an environment of its
own (DIFFIN_PEERS_VENV, by default .venv-peers) on the same arrays and checkpoints, and is asked for the same
scores, which are compared. Figures are CPU time of the process, medians of what is run in turns.

With --device cuda only the figures of that device are taken, which needs torch and numpy alone; --device cpu
tries that path on tiny networks.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from statistics import median

import torch

sys.path.insert(0, str(Path(__file__).parents[1]))
from benchmarks.lab.bars import bar, parser, table
from benchmarks.rivals.environment import interpreter
from benchmarks.timing import device, growth, peer
from benchmarks.timing.cases import CASES, Case, Made, make
from benchmarks.timing.clock import cpu_seconds, in_turns
from worker.influence.memory import by_pixel, chunk_size
from worker.influence.methods import METHODS
from worker.influence.score import CHUNK_BYTES, score, score_rows
from worker.influence.trajectory import Arrays, Trajectory

OVER_CAPTUM = {"mlp": 10.0, "cnn": 2.5, "resnet18": 2.0}
FORWARDS, EQ9, GROWTH = 2.8, 3.5, 0.1
SIZES, QUICK_SIZES = (10_000, 100_000, 1_000_000), (10_000, 100_000)


def main() -> None:
    made = parser(__doc__)
    made.add_argument("--device", choices=("cuda", "cpu"), help="take the figures of this device only")
    made.add_argument("--part", choices=("forwards", "captum", "growth"), help="one of the tables")
    asked = made.parse_args()
    wanted = [asked.part] if asked.part else ["forwards", "captum", "growth"]
    if asked.device:
        on_device(torch.device(asked.device))
        return
    cores = torch.get_num_threads()
    cases = {name: case.quick() if asked.quick else case for name, case in CASES.items()}
    rounds = 3 if asked.quick else 7
    torch.set_num_threads(1)
    if "forwards" in wanted:
        forwards(cases, rounds)
    if "captum" in wanted:
        against_captum(cases, rounds=1 if asked.quick else 3, threads=sorted({1, cores}))
    torch.set_num_threads(1)
    if "growth" in wanted:
        growing(QUICK_SIZES if asked.quick else SIZES)


# ---------------------------------------------------------------- plain forward passes
def forwards(cases: dict[str, Case], rounds: int) -> None:
    """What a pass over the data costs, in plain forward passes; what the samples share is told apart."""
    rows: list[list[object]] = [
        ["network", "parameters", "chunk", "forward, µs", "by pixel", "score", "score / forward",
         "score / by pixel", "eq9 / score", "query gradient", "curvature, s"]
    ]  # fmt: skip
    figures: dict[str, float] = {}
    eq9: dict[str, float] = {}
    for name, case in cases.items():
        made = make(case)
        seconds = in_turns(passes(made), rounds)
        plain = min(taken for way, taken in seconds.items() if way.startswith("forward"))
        by_pixels = min(taken for way, taken in seconds.items() if way.startswith("by pixel"))
        figures[name], eq9[name] = seconds["score"] / plain, seconds["eq9"] / seconds["score"]
        each = 1e6 / case.samples
        parameters = sum(t.numel() for t in made.trajectory.checkpoints[0].params.values())
        rows.append([
            name, f"{parameters:,}", chunk_of(made),
            *(f"{taken * each:.1f}" for taken in (plain, by_pixels, seconds["score"])),
            f"{figures[name]:.2f}", f"{seconds['score'] / by_pixels:.2f}", f"{eq9[name]:.2f}",
            *(f"{taken:.3f}" for taken in shared(made)),
        ])  # fmt: skip
    print("A pass over the data at one checkpoint, CPU µs a sample, one thread\n")
    print(table(rows) + "\n")
    for name, figure in figures.items():
        bar(f"speed.{name}.forwards", figure, FORWARDS, at_least=False)
    bar("speed.eq9.over_first_order", max(eq9.values()), EQ9, at_least=False)
    print()


def passes(made: Made) -> dict[str, Callable[[], object]]:
    """The passes over the training set that are compared, all at the last checkpoint."""
    k, chunk = len(made.trajectory.checkpoints) - 1, chunk_of(made)
    checkpoint = made.trajectory.checkpoints[k]

    def forward(size: int, data: Arrays) -> None:
        with torch.inference_mode():
            for x, y in data.chunks(size):
                made.task.losses(checkpoint.params, checkpoint.buffers, x, y)

    def scoring(name: str) -> Callable[[], object]:
        method, rows = METHODS[name], range(len(made.train))
        assert method.sweep is not None
        at = (made.task, made.trajectory, k)
        vectors = method.sweep(*at, made.train, made.query, None, seed=0, chunk=chunk, options={}).vectors
        return lambda: score_rows(method, *at, vectors, made.train, rows, chunk=chunk, options={})

    laid_out = Arrays(by_pixel(made.train.inputs), made.train.targets)
    sizes = sorted({64, 256, chunk})
    return {
        **{f"forward {size}": partial(forward, size, made.train) for size in sizes},
        **{f"by pixel {size}": partial(forward, size, laid_out) for size in sizes},
        "score": scoring("tracin"),
        "eq9": scoring("diff_in_eq9"),
    }


def chunk_of(made: Made) -> int:
    """The engine's own choice."""
    example = made.train.inputs[:1], made.train.targets[:1]
    return chunk_size(made.task, made.trajectory.checkpoints[-1], *example, budget_bytes=CHUNK_BYTES)


def shared(made: Made) -> tuple[float, float]:
    """CPU seconds a checkpoint for what all samples share: the query gradient, and Diff-In's curvature."""
    last = Trajectory(
        made.trajectory.checkpoints[-1:],
        replace(
            made.trajectory.schedule,
            steps=made.trajectory.schedule.steps[:1],
            learning_rates=made.trajectory.schedule.learning_rates[:1],
        ),
    )

    def sweep(name: str) -> float:
        shared_of = METHODS[name].sweep
        assert shared_of is not None
        at = (made.task, last, 0, made.train, made.query, None)
        return cpu_seconds(partial(shared_of, *at, seed=0, chunk=chunk_of(made), options={}))

    gradient = sweep("tracin")
    return gradient, sweep("diff_in") - gradient


# ---------------------------------------------------------------- captum
def against_captum(cases: dict[str, Case], rounds: int, threads: Sequence[int]) -> None:
    """The same scores from both, in turns; the bar takes captum's fastest way on one thread and on all."""
    python = interpreter()
    if not python.exists():
        print("skipped: captum's environment is not there (DIFFIN_PEERS_VENV, or .venv-peers)\n")
        return
    rows: list[list[object]] = [
        ["network", "threads", "ours, s", "captum, s", "ratio", "ratio of wall", "captum's way", "difference"]
    ]
    ratios: dict[str, list[float]] = {name: [] for name in OVER_CAPTUM}
    for name in OVER_CAPTUM:
        case = cases[name]
        made = make(case)
        with peer.started(python, case, made) as captum:
            for count in threads:
                torch.set_num_threads(count)
                ours = [timed(made) for _ in range(2)][-1]
                for way in captum.fastest(max(16, case.samples // 4), count):
                    pairs = [(timed(made), captum.run(way, case.samples, count)) for _ in range(rounds)]
                    found = [theirs for _, theirs in pairs if isinstance(theirs, peer.Answer)]
                    cpu = median(o.seconds for o, _ in pairs), median(t.seconds for t in found)
                    wall = median(o.wall for o, _ in pairs), median(t.wall for t in found)
                    ratios[name].append(cpu[1] / cpu[0])
                    alike = -found[0].scores / (case.samples * case.queries)
                    difference = float((alike - ours.scores).norm() / ours.scores.norm())
                    rows.append([
                        name, count, f"{cpu[0]:.3f}", f"{cpu[1]:.3f}", f"{ratios[name][-1]:.1f}",
                        f"{wall[1] / wall[0]:.1f}", way, f"{difference:.0e}",
                    ])  # fmt: skip
    print("The same scores (TracIn) from both, CPU seconds for all checkpoints, query gradients included;")
    print("difference: of captum's scores from ours, relative\n")
    print(table(rows) + "\n")
    for name, asked in OVER_CAPTUM.items():
        bar(f"speed.{name}.over_captum", min(ratios[name]), asked)
    print()


def timed(made: Made) -> peer.Answer:
    begun, wall = time.process_time(), time.perf_counter()
    scores = score("tracin", made.task, made.trajectory, made.train, made.query).scores
    return peer.Answer(time.process_time() - begun, time.perf_counter() - wall, scores)


# ---------------------------------------------------------------- growth
def growing(sizes: Sequence[int]) -> None:
    """The same work a sample, and the same memory, whatever their number."""
    repeats = {size: max(1, min(5, 200_000 // size)) for size in sizes}
    found = {size: [growth.measure(size) for _ in range(repeats[size])] for size in sizes}
    seconds = {size: median(one.seconds_per_sample for one in each) for size, each in found.items()}
    peaks = {size: max(one.peak_mib for one in each) for size, each in found.items()}
    print("mlp, scored in blocks into a file, one thread\n")
    print(table([
        ["samples", "µs a sample", "peak MiB"],
        *([f"{size:,}", f"{1e6 * seconds[size]:.2f}", f"{peaks[size]:.0f}"] for size in sizes),
    ]) + "\n")  # fmt: skip
    for name, figures in (("linear", seconds), ("memory", peaks)):
        spread = max(figures.values()) / min(figures.values()) - 1
        bar(f"speed.{name}", spread, GROWTH, at_least=False)


# ---------------------------------------------------------------- a GPU
def on_device(where: torch.device) -> None:
    rows: list[list[object]] = [
        ["network", "parameters", "precision", "chunk", "samples / s", "forward's share", "eq9 / score",
         "peak MiB", "error"]
    ]  # fmt: skip
    print(torch.cuda.get_device_name(where) if where.type == "cuda" else "CPU, tiny networks", end="\n\n")
    for name, case in (device.LARGE if where.type == "cuda" else device.TINY).items():
        reference = None
        for precision in device.PRECISIONS:
            found, derivatives = device.measure(case, precision, where, reference)
            reference = derivatives if reference is None else reference
            rows.append([
                name, f"{found.parameters:,}", precision, found.chunk, f"{found.samples:,.0f}",
                f"{found.samples / found.forward:.0%}", f"{found.samples / found.eq9:.2f}",
                f"{found.peak_mib:,.0f}", f"{found.error:.0e}",
            ])  # fmt: skip
    print(table(rows))


if __name__ == "__main__":
    main()
