"""What a request may ask for, and the words it gets when it may not."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from app.catalog import (
    ARCHITECTURES,
    METHODS,
    ONNX,
    Architecture,
    DiffIn,
    Extent,
    Method,
    Optimizer,
    Parameters,
    Preprocessing,
    Recipe,
    Task,
    list_architectures,
    list_methods,
)
from worker.influence.methods import METHODS as ENGINE

method: TypeAdapter[Any] = TypeAdapter(Method)
architecture: TypeAdapter[Any] = TypeAdapter(Architecture)

SMALLEST = {
    "linear": {"in_features": 4, "num_classes": 3},
    "mlp": {"in_features": 4, "num_classes": 3},
    "cnn": {"in_channels": 1, "num_classes": 3},
    "resnet": {"num_classes": 3},
    "transformer": {"vocab_size": 9, "max_length": 5, "num_classes": 3},
}


def config(name: str, **options: Any) -> Any:
    return architecture.validate_python({"name": name, "config": SMALLEST[name] | options}).config


def refusal(adapter: TypeAdapter[Any], value: Any) -> dict[str, Any]:
    with pytest.raises(ValidationError) as refused:
        adapter.validate_python(value)
    error: Any = refused.value.errors()[0]
    return dict(error)


def extent(num_train: int, steps: tuple[int, ...] = (10, 20), *, ordered: bool = False) -> Extent:
    return Extent(num_train, num_query=10, steps=steps, batch_size=8, ordered=ordered)


def test_a_method_named_alone_has_the_defaults_that_the_benchmarks_chose() -> None:
    assert method.validate_python({"name": "diff_in"}).options() == {
        "resolution": "segments",
        "tail": 0.25,
        "checkpoint_position": "middle",
        "curvature": "hessian",
        "hessian_samples": 1000,
        "lanczos_steps": 10,
        "clamp": True,
        "hvp": "exact",
        "epsilon": 1e-3,
    }
    assert method.validate_python({"name": "diff_in_eq9"}).options() == {
        "batch": "random",
        "batches_per_checkpoint": 1,
        "hvp": "exact",
        "epsilon": 1e-3,
        "target": "query",
    }
    assert method.validate_python({"name": "loss"}).options() == {"which": "mean"}
    assert method.validate_python({"name": "tracin"}).options() == {}


def test_the_engine_takes_the_options_by_the_same_names_and_defaults() -> None:
    assert set(ENGINE) == set(METHODS)
    for name in METHODS:
        options = method.validate_python({"name": name}).options()
        assert ENGINE[name].options(**options) == ENGINE[name].options()


def test_all_samples_may_be_asked_for() -> None:
    assert method.validate_python({"name": "diff_in", "hessian_samples": None}).hessian_samples is None


@pytest.mark.parametrize(
    "options",
    [
        {"colour": 1},
        {"tail": 0},
        {"hessian_samples": 0},
        {"lanczos_steps": 0},
        {"lanczos_steps": True},
        {"clamp": "yes"},
        {"epsilon": float("nan")},
        {"curvature": "fisher"},
    ],
)
def test_an_unknown_option_or_value_is_refused_by_name(options: dict[str, Any]) -> None:
    assert refusal(method, {"name": "diff_in"} | options)["loc"] == ("diff_in", *options)


def test_an_unknown_method_is_told_the_known_ones() -> None:
    assert "'tracin'" in refusal(method, {"name": "astrology"})["msg"]


def test_only_methods_that_compare_with_a_query_need_one() -> None:
    needing = {name: method.validate_python({"name": name}).needs_query for name in METHODS}
    assert {name for name, needed in needing.items() if needed} == {
        "diff_in",
        "diff_in_eq9",
        "tracin",
        "influence_function",
    }
    assert not method.validate_python({"name": "diff_in_eq9", "target": "self"}).needs_query


def test_the_cost_grows_with_the_data_and_the_checkpoints() -> None:
    for name in METHODS:
        asked = method.validate_python({"name": name})
        assert 0 < asked.cost(extent(100)) < asked.cost(extent(1000))
        assert asked.cost(extent(100)) < asked.cost(extent(100, steps=(10, 20, 30, 40)))


def test_more_curvature_costs_more() -> None:
    few = DiffIn(name="diff_in", lanczos_steps=5)
    assert few.cost(extent(1000)) < DiffIn(name="diff_in", lanczos_steps=50).cost(extent(1000))


def test_steps_taken_one_by_one_cost_by_their_batches() -> None:
    steps = DiffIn(name="diff_in", resolution="steps")
    run = extent(100, steps=(0, 10, 20), ordered=True)
    # 20 steps of 8 samples: a replayed gradient and a Hessian-vector product; the query's gradient; losses
    assert steps.cost(run) == 20 * 8 * (3 + 9) + 3 * 10 + 3 * 100
    assert steps.cost(extent(100, steps=(0, 10, 20))) == DiffIn(name="diff_in").cost(
        extent(100, steps=(0, 10, 20))
    )
    tail = DiffIn(name="diff_in", resolution="tail", tail=0.25)
    curvature = 10 * 9 * 100
    # in the middle: those at 0 and 10 stand for the steps before 5 and 15, the last for none before 15
    assert [tail.shared(run, k) for k in range(3)] == [curvature, curvature, 5 * 8 * 12 + 3 * 10]
    assert [tail.per_sample(run, k) for k in range(3)] == [3, 3, 1]
    ends = DiffIn(name="diff_in", resolution="tail", tail=0.25, checkpoint_position="end")
    assert [ends.per_sample(run, k) for k in range(3)] == [1, 3, 3]


def test_a_query_each_costs_a_query_each() -> None:
    for name in ("diff_in", "tracin", "influence_function"):
        together = method.validate_python({"name": name})
        each = method.validate_python({"name": name, "per_query": True})
        assert together.cost(extent(1000)) < each.cost(extent(1000)) <= 10 * together.cost(extent(1000))


def test_an_influence_function_costs_by_the_checkpoints_that_take_part() -> None:
    run = extent(100, steps=(0, 10, 20))
    asked = {"name": "influence_function", "curvature": "kronecker"}
    kronecker, query = 2 * (1 + 3) * 100, 3 * 10
    last = method.validate_python(asked)
    assert [last.shared(run, k) for k in range(3)] == [0, 0, query + kronecker]
    everyone = method.validate_python(asked | {"checkpoints": "all"})
    assert [everyone.shared(run, k) for k in range(3)] == [0, query + kronecker, query + kronecker]
    assert [everyone.per_sample(run, k) for k in range(3)] == [1, 3, 3]


def test_only_what_is_drawn_can_be_repeated() -> None:
    assert DiffIn(name="diff_in", curvature="kronecker").draws(
        extent(50)
    )  # along what is drawn of each sample
    few = DiffIn(name="diff_in", hessian_samples=50)
    assert few.draws(extent(100)) and not few.draws(extent(50))
    steps = DiffIn(name="diff_in", hessian_samples=50, resolution="steps")
    assert steps.draws(extent(100, steps=(0, 10)))
    assert not steps.draws(extent(100, steps=(0, 10), ordered=True))
    assert steps.draws(extent(100, steps=(5, 10), ordered=True))  # what comes before step 5 is a segment


def test_tensors_are_picked_by_patterns() -> None:
    names = ["layers.0.weight", "layers.0.bias", "head.weight"]
    assert Parameters().of(names) == names
    assert Parameters(include=["layers.*"], exclude=["*.bias"]).of(names) == ["layers.0.weight"]
    assert Parameters(include=["Layers.*"]).of(names) == []


def test_the_listings_are_json_with_a_schema_each() -> None:
    methods, architectures = json.loads(json.dumps([list_methods(), list_architectures()]))
    assert [entry["name"] for entry in methods] == list(METHODS)
    assert [entry["name"] for entry in architectures] == [*ARCHITECTURES, ONNX]
    ours = [entry for entry in methods + architectures if not entry["name"].startswith("hf/")]
    assert all(entry["schema"]["additionalProperties"] is False for entry in ours)
    described = [
        field
        for entry in methods + architectures
        for name, field in entry["schema"]["properties"].items()
        if name != "name"
    ]
    assert all("description" in field for field in described)


@pytest.mark.parametrize("name", SMALLEST)
def test_an_unknown_config_key_is_refused_by_name(name: str) -> None:
    wrong = {"name": name, "config": SMALLEST[name] | {"dropout": 0.5}}
    assert refusal(architecture, wrong)["loc"] == (name, "config", "dropout")


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("mlp", {"in_features": 1_000_000, "hidden": [1_000_000]}),
        ("linear", {"hidden": [3]}),
        ("cnn", {"norm": "group", "channels": [12]}),
        ("cnn", {"image_size": [3, 8]}),
        ("cnn", {"kernel_size": 4}),
        ("resnet", {"depth": 11}),
        ("resnet", {"norm": "group", "width": 12}),
        ("transformer", {"d_model": 10, "num_heads": 3}),
        ("transformer", {"pad_id": 9}),
        ("transformer", {"vocab_size": 10_000_000, "d_model": 1024}),
    ],
)
def test_a_network_that_cannot_or_should_not_be_built_is_refused(name: str, options: dict[str, Any]) -> None:
    refusal(architecture, {"name": name, "config": SMALLEST[name] | options})


@pytest.mark.parametrize(
    ("name", "options", "shape", "dtype", "fault"),
    [
        ("mlp", {}, (4,), "float32", None),
        ("mlp", {}, (2, 2, 1), "uint8", None),
        ("mlp", {}, (5,), "float32", "in_features"),
        ("cnn", {}, (28, 28, 1), "uint8", None),
        ("cnn", {}, (1, 28, 28), "float32", None),
        ("cnn", {}, (28, 28), "float32", None),
        ("cnn", {}, (28, 28, 3), "uint8", "in_channels"),
        ("cnn", {}, (64,), "float32", "no images"),
        ("cnn", {}, (1, 3, 8), "float32", "halves"),
        ("cnn", {"image_size": [8, 8]}, (1, 9, 8), "float32", "image_size"),
        ("cnn", {"in_channels": 3}, (32, 32, 3), "float32", "not [N, H, W, C]"),
        ("resnet", {}, (32, 32, 3), "uint8", None),
        ("resnet", {}, (3, 32, 32), "float32", None),
        ("resnet", {}, (1, 32, 32), "float32", "in_channels"),
        ("transformer", {}, (5,), "int64", None),
        ("transformer", {}, (5,), "float32", "token ids"),
        ("transformer", {}, (5, 2), "int64", "token ids"),
        ("transformer", {}, (6,), "int64", "max_length"),
    ],
)
def test_samples_that_do_not_fit_a_network_are_told_why(
    name: str, options: dict[str, Any], shape: tuple[int, ...], dtype: str, fault: str | None
) -> None:
    words = config(name, **options).check_input(shape, dtype, 1, 0)
    assert words is None if fault is None else fault in words


def test_tokens_outside_the_vocabulary_are_refused() -> None:
    transformer = config("transformer")
    assert transformer.check_input((5,), "int64", 8, 0) is None
    assert "vocab_size" in transformer.check_input((5,), "int64", 9, 0)
    assert "-1" in transformer.check_input((5,), "int64", 3, -1)


def test_a_task_has_the_loss_of_its_kind() -> None:
    assert Task(type="binary", loss="bce_with_logits").loss == "bce_with_logits"
    with pytest.raises(ValidationError, match="the loss of task 'binary' is 'bce_with_logits', not 'mse'"):
        Task(type="binary", loss="mse")


@pytest.mark.parametrize(
    ("kind", "loss", "targets", "outputs", "fault"),
    [
        ("classification", "cross_entropy", ((), "int64", 0, 9), 10, None),
        ("classification", "cross_entropy", ((), "int64", 0, 10), 10, "num_classes"),
        ("classification", "cross_entropy", ((), "int64", -1, 9), 10, "-1"),
        ("classification", "cross_entropy", ((), "float32", 0, 9), 10, "integer label"),
        ("classification", "cross_entropy", ((3,), "int64", 0, 1), 3, "integer label"),
        ("binary", "bce_with_logits", ((), "int64", 0, 1), 1, None),
        ("binary", "bce_with_logits", ((4,), "float32", 0, 1), 4, None),
        ("binary", "bce_with_logits", ((), "int64", 0, 2), 1, "0 and 1"),
        ("binary", "bce_with_logits", ((), "int64", 0, 1), 2, "outputs"),
        ("regression", "mse", ((), "float32", -7.5, 9e9), 1, None),
        ("regression", "mse", ((1,), "float32", -7.5, 9e9), 1, None),
        ("regression", "mse", ((3,), "float32", 0, 1), 2, "outputs"),
    ],
)
def test_targets_that_do_not_fit_a_task_are_told_why(
    kind: Any, loss: Any, targets: tuple[tuple[int, ...], str, float, float], outputs: int, fault: str | None
) -> None:
    words = Task(type=kind, loss=loss).check_targets(*targets, outputs)
    assert words is None if fault is None else words is not None and fault in words


@given(st.floats(max_value=0) | st.sampled_from([float("nan"), float("inf")]))
def test_a_standard_deviation_is_a_positive_number(std: float) -> None:
    with pytest.raises(ValidationError):
        Preprocessing(std=[std])


def test_preprocessing_has_a_value_a_channel_or_one_for_all() -> None:
    for values in ([0.5], [0.5, 0.5, 0.5]):
        assert Preprocessing(mean=values).check_input("image", (32, 32, 3), "uint8") is None
    assert "3 channel" in str(Preprocessing(mean=[0.5, 0.5]).check_input("image", (3, 32, 32), "float32"))
    assert "token ids" in str(Preprocessing(scale=2.0).check_input("tokens", (5,), "int64"))


def test_an_optimizer_has_the_options_of_its_own() -> None:
    assert Optimizer(name="adamw", weight_decay=0.1).decoupled
    assert not Optimizer(name="sgd", momentum=0.9).decoupled
    for wrong in (
        {"name": "adam", "momentum": 0.9},
        {"name": "sgd", "betas": [0.9, 0.999]},
        {"momentum": 1.0},
    ):
        with pytest.raises(ValidationError):
            Optimizer.model_validate(wrong)


def test_learning_rates_beyond_float32_are_refused() -> None:
    with pytest.raises(ValidationError, match=r"less than or equal to 10{30}"):
        Recipe.model_validate(
            {"schedule": {"name": "constant", "learning_rate": 1e308}, "batch_size": 8, "epochs": 1}
        )
