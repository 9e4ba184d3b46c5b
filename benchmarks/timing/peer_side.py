"""captum's part, run by the interpreter of the peers' environment (torch, captum): see `peer.py`.

    python peer_side.py FOLDER

FOLDER holds setting.pt and the checkpoints. A line of JSON on the input asks for one job,
{"samples", "batch", "sample_wise", "threads"}; a line on the output answers {"seconds", "wall", "scores"} or
{"error"}.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import TensorDataset

sys.path.insert(0, str(Path(__file__).parents[2]))
from benchmarks.timing.cases import RATE, STEPS
from worker.influence.networks import build


def main() -> None:
    from captum.influence import TracInCP  # the peers' environment has it

    folder = Path(sys.argv[1])
    setting: dict[str, Any] = torch.load(folder / "setting.pt")
    network = build(setting["network"], setting["config"])

    def load(model: torch.nn.Module, path: str) -> float:
        model.load_state_dict(torch.load(path))
        return RATE * STEPS  # what a checkpoint's gradients weigh, as in TracIn's own segments

    def job(samples: int, batch: int, sample_wise: bool, threads: int) -> dict[str, Any]:
        torch.set_num_threads(threads)
        influence = TracInCP(
            network,
            TensorDataset(setting["inputs"][:samples], setting["targets"][:samples]),
            sorted(map(str, folder.glob("checkpoint*.pt"))),
            load,
            loss_fn=torch.nn.CrossEntropyLoss(reduction="sum" if sample_wise else "none"),
            batch_size=batch,
            sample_wise_grads_per_batch=sample_wise,
        )
        begun, wall = time.process_time(), time.perf_counter()
        scores = influence.influence((setting["query_inputs"], setting["query_targets"]), aggregate=True)
        seconds, wall = time.process_time() - begun, time.perf_counter() - wall
        return {"seconds": seconds, "wall": wall, "scores": scores.flatten().tolist()}

    for line in sys.stdin:
        try:
            answer = job(**json.loads(line))
        except (RuntimeError, AssertionError, NotImplementedError, ValueError, TypeError) as error:
            answer = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
