"""Adapters by peft: their own losses and gradients, those of the merged model, and a base that stays out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch.nn import functional as nnf

from tests.worker.hf.models import PAD, config, original, sentences
from worker.hf.build import META, BuildError, build
from worker.influence.directional import directional_derivative, hvp
from worker.influence.gradients import rows_of, sample_gradients
from worker.influence.task import Task
from worker.influence.trajectory import Arrays, Checkpoint

LABELS = torch.tensor([0, 2, 1])
CPU = torch.device("cpu")
BERT: dict[str, Any] = {
    "r": 3, "lora_alpha": 6, "target_modules": ["query", "value"], "modules_to_save": ["classifier"],
}  # fmt: skip
CASES = {
    "bert": BERT,
    "biases": {"target_modules": ["query"], "bias": "all", "use_rslora": True, "layers_to_transform": [1]},
    "gpt2": {"r": 2, "lora_alpha": 4, "target_modules": ["c_attn", "c_fc"], "fan_in_fan_out": True},
}


@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning", "ignore::UserWarning")
@pytest.mark.parametrize("case", CASES)
def test_an_adapter_has_the_losses_and_derivatives_of_pefts_own(case: str, tmp_path: Path) -> None:
    from peft import LoraConfig, get_peft_model

    model_type, lora = case if case == "gpt2" else "bert", CASES[case]
    model = original(model_type).float()
    base = tmp_path / "base.safetensors"
    save_file({name: t.detach().clone() for name, t in model.named_parameters()}, base)
    peft: Any = get_peft_model(model, LoraConfig(**lora)).eval()
    torch.manual_seed(3)
    with torch.no_grad():
        for parameter in peft.parameters():
            if parameter.requires_grad:
                parameter += 0.2 * torch.randn_like(parameter)
    peft.save_pretrained(tmp_path)
    held = load_file(tmp_path / "adapter_model.safetensors")

    network = build(model_type, config(model_type, lora=lora), "classification", CPU, base=base)
    bare = build(model_type, config(model_type, lora=lora), "classification", META)
    names = [name for name, _ in network.named_parameters()]
    assert set(held) == set(names) == set(bare.state_dict())
    trained = {name: p for name, p in peft.named_parameters() if p.requires_grad}
    inner = {name: trained[network._names[name]] for name in names}
    assert len(inner) == len(trained)  # all that is trained, and nothing else

    ids, params = sentences(count=3), {name: held[name] for name in names}
    task, point = Task(network, "cross_entropy"), Checkpoint(1, (), params, {})
    logits = torch.cat([peft(input_ids=row[row != PAD][None]).logits for row in ids])
    truth = nnf.cross_entropy(logits, LABELS, reduction="none")
    gradients = torch.stack(
        [
            torch.cat(
                [g.flatten() for g in torch.autograd.grad(one, list(inner.values()), create_graph=True)]
            )
            for one in truth
        ]
    )
    torch.manual_seed(4)
    u = {name: torch.randn_like(part) for name, part in params.items()}
    flat = torch.cat([part.flatten() for part in u.values()])
    along = gradients @ flat
    second = torch.autograd.grad(along.mean(), list(inner.values()), materialize_grads=True)
    curved = torch.cat([part.flatten() for part in second])

    def close(found: torch.Tensor, expected: torch.Tensor) -> bool:
        expected = expected.detach()
        return bool((found - expected).abs().max() <= 2e-4 * expected.abs().max())

    found = directional_derivative(task, point, ids, LABELS, u)
    assert torch.allclose(found.losses, truth.detach(), rtol=1e-5, atol=1e-6)
    assert close(found.derivatives, along)
    assert close(sample_gradients(task, point, ids, LABELS, rows_of), gradients)
    product = hvp(task, point, Arrays(ids, LABELS), u, chunk=2)
    assert product.keys() == params.keys()  # vectors are of the adapter's size, never of the base's
    assert close(torch.cat([part.flatten() for part in product.values()]), curved)

    merged = peft.merge_and_unload()
    dense = build(model_type, config(model_type), "classification", CPU)
    whole = {name: t.detach() for name, t in merged.named_parameters()}
    assert torch.allclose(
        task.outputs(params, {}, ids), Task(dense, "mse").outputs(whole, {}, ids), rtol=1e-5, atol=1e-5
    )


def test_modules_that_are_not_there_are_named() -> None:
    wrong = config("bert", lora={"target_modules": ["no_such_module"]})
    with pytest.raises(BuildError, match="no_such_module"):
        build("bert", wrong, "classification")
