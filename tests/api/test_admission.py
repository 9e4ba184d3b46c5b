"""A job whose inputs do not fit each other is refused before it starts."""

from __future__ import annotations

from typing import Any

import httpx
import numpy as np
import pytest

from tests.api.front_end import RUN, Service, pointers, problem, request_of


def ask(service: Service, inputs: dict[str, str], **changes: Any) -> httpx.Response:
    return service.http.post("/v1/jobs", json=request_of(inputs, **changes))


def dataset(service: Service, inputs: Any = None, targets: Any = None) -> str:
    """The id of a ready data set."""
    dataset_id: str = service.upload()["id"]
    service.validate(dataset_id, inputs, targets)
    return dataset_id


def run(service: Service, *checkpoints: int, **changes: Any) -> str:
    """The id of a trajectory with ready checkpoints at these steps."""
    trajectory_id: str = service.trajectory(**changes)["id"]
    for step in checkpoints:
        service.accept(service.checkpoint(trajectory_id, step)["id"])
    return trajectory_id


@pytest.mark.parametrize("name", ["trajectory_id", "train_dataset_id", "query_dataset_id"])
@pytest.mark.parametrize("unknown", ["", "ds_of_nobody", "job_00000000-0000-7000-8000-000000000000"])
def test_an_unknown_input_is_not_found(
    service: Service, inputs: dict[str, str], name: str, unknown: str
) -> None:
    answer = ask(service, inputs | {name: unknown})
    assert pointers(problem(answer, 404, "not_found")) == [f"/{name}"]


def test_a_data_set_still_validating_is_not_ready(service: Service, inputs: dict[str, str]) -> None:
    waiting = service.upload()["id"]
    answer = ask(service, inputs | {"query_dataset_id": waiting})
    assert pointers(problem(answer, 409, "input_not_ready")) == ["/query_dataset_id"]
    assert answer.headers["retry-after"] == "1"


def test_a_checkpoint_still_validating_is_not_ready(service: Service, inputs: dict[str, str]) -> None:
    checkpoint_id = service.checkpoint(inputs["trajectory_id"], 30)["id"]
    assert checkpoint_id in problem(ask(service, inputs), 409, "input_not_ready")["detail"]


def test_a_refused_data_set_is_named_with_its_reason(service: Service, inputs: dict[str, str]) -> None:
    refused = service.upload()["id"]
    service.refuse(refused, "It holds NaN in row 7.")
    body = problem(ask(service, inputs | {"train_dataset_id": refused}), 422, "invalid_dataset")
    assert refused in body["detail"] and "NaN in row 7" in body["detail"]


def test_a_refused_checkpoint_is_named_until_another_takes_its_step(
    service: Service, inputs: dict[str, str]
) -> None:
    refused = service.checkpoint(inputs["trajectory_id"], 30)["id"]
    service.refuse(refused)
    assert refused in problem(ask(service, inputs), 422, "invalid_checkpoint")["detail"]
    replacement = service.checkpoint(inputs["trajectory_id"], 30)["id"]
    service.accept(replacement)
    job = ask(service, inputs).json()
    assert replacement in job["checkpoint_ids"] and refused not in job["checkpoint_ids"]


def test_a_run_without_checkpoints_is_refused(service: Service, inputs: dict[str, str]) -> None:
    problem(ask(service, inputs | {"trajectory_id": run(service)}), 422, "no_checkpoints")


def test_learning_rates_must_fill_their_segment(service: Service, inputs: dict[str, str]) -> None:
    trajectory_id = run(service, 10)
    checkpoint = service.checkpoint(trajectory_id, 15, learning_rates="[0.1, 0.1, 0.1, 0.1]")
    service.accept(checkpoint["id"])
    answer = ask(service, inputs | {"trajectory_id": trajectory_id})
    detail = problem(answer, 422, "learning_rates_mismatch")["detail"]
    assert checkpoint["id"] in detail and "4 learning_rates" in detail and "5 steps" in detail
    service.accept(service.checkpoint(trajectory_id, 11)["id"])
    assert ask(service, inputs | {"trajectory_id": trajectory_id}).status_code == 202


def test_a_run_cannot_end_before_its_last_checkpoint(service: Service, inputs: dict[str, str]) -> None:
    trajectory_id = run(service, 10, 20, total_steps=19)
    problem(ask(service, inputs | {"trajectory_id": trajectory_id}), 422, "total_steps_too_small")


def test_train_size_may_exceed_the_training_set_but_not_fall_short(
    service: Service, inputs: dict[str, str]
) -> None:
    short, long = (run(service, 10, train_size=size) for size in (11, 5000))
    answer = ask(service, inputs | {"trajectory_id": short})
    assert pointers(problem(answer, 422, "train_size_too_small")) == ["/train_dataset_id"]
    assert ask(service, inputs | {"trajectory_id": long}).status_code == 202


@pytest.mark.parametrize("role", ["train", "query"])
@pytest.mark.parametrize(
    "targets",
    [np.full(12, 3), np.array([-1, *[0] * 11]), np.zeros(12, np.float32), np.zeros((12, 1), np.int64)],
    ids=["beyond the classes", "negative", "no integers", "no single label"],
)
def test_targets_that_are_no_classes_of_the_network_are_refused(
    service: Service, inputs: dict[str, str], role: str, targets: Any
) -> None:
    name = f"{role}_dataset_id"
    answer = ask(service, inputs | {name: dataset(service, targets=targets)})
    assert pointers(problem(answer, 422, "label_out_of_range")) == [f"/{name}"]


def test_inputs_of_another_shape_than_the_networks_are_refused(
    service: Service, inputs: dict[str, str]
) -> None:
    narrow = dataset(service, np.zeros((12, 3), np.float32))
    for name in ("train_dataset_id", "query_dataset_id"):
        answer = ask(service, inputs | {name: narrow})
        assert pointers(problem(answer, 422, "shape_mismatch")) == [f"/{name}"]


def test_query_samples_must_be_of_the_training_samples_shape(
    service: Service, inputs: dict[str, str]
) -> None:
    cnn = {"name": "cnn", "config": {"in_channels": 1, "num_classes": 3, "channels": [2]}}
    trajectory_id = run(service, 10, architecture=cnn)
    small, large, large_too = (
        dataset(service, np.zeros(shape, dtype))
        for shape, dtype in (
            ((12, 8, 8, 1), np.uint8),
            ((12, 16, 16, 1), np.uint8),
            ((12, 1, 16, 16), np.float32),
        )
    )
    images = inputs | {"trajectory_id": trajectory_id, "train_dataset_id": large}
    answer = ask(service, images | {"query_dataset_id": small})
    assert pointers(problem(answer, 422, "shape_mismatch")) == ["/query_dataset_id"]
    assert ask(service, images | {"query_dataset_id": large_too}).status_code == 202


def test_preprocessing_must_have_the_channels_of_the_data(service: Service, inputs: dict[str, str]) -> None:
    cnn = {"name": "cnn", "config": {"in_channels": 1, "num_classes": 3, "channels": [2]}}
    trajectory_id = run(service, 10, architecture=cnn, preprocessing={"mean": [0.1, 0.2, 0.3]})
    grey = dataset(service, np.zeros((12, 8, 8, 1), np.uint8))
    given = {"trajectory_id": trajectory_id, "train_dataset_id": grey, "query_dataset_id": grey}
    assert "preprocessing.mean" in problem(ask(service, given), 422, "shape_mismatch")["detail"]


def test_a_regression_takes_numbers_of_its_outputs_shape(service: Service, inputs: dict[str, str]) -> None:
    linear = {"name": "linear", "config": {"in_features": 4, "num_classes": 2}}
    task = {"type": "regression", "loss": "mse"}
    trajectory_id = run(service, 10, architecture=linear, task=task)
    pairs, single = (dataset(service, targets=np.zeros(shape, np.float32)) for shape in ((12, 2), 12))
    given = {"trajectory_id": trajectory_id, "train_dataset_id": pairs, "query_dataset_id": pairs}
    assert ask(service, given).status_code == 202
    problem(ask(service, given | {"train_dataset_id": single}), 422, "shape_mismatch")


def test_a_method_that_needs_a_query_says_so(service: Service, inputs: dict[str, str]) -> None:
    given = {name: value for name, value in inputs.items() if name != "query_dataset_id"}
    assert pointers(problem(ask(service, given), 422, "query_required")) == ["/query_dataset_id"]
    assert ask(service, given, method={"name": "loss"}).status_code == 202
    answer = ask(service, given, method={"name": "loss"}, query={"indices": [0]})
    problem(answer, 422, "query_required")


def test_a_part_of_the_query_may_be_taken(service: Service, inputs: dict[str, str]) -> None:
    for query in ({"labels": [2, 7]}, {"indices": [0, 11]}):
        answer = ask(service, inputs, query=query)
        assert answer.status_code == 202
        assert answer.json()["query"] == query


def test_a_part_of_the_query_that_is_not_there_is_refused(service: Service, inputs: dict[str, str]) -> None:
    answer = ask(service, inputs, query={"labels": [7]})
    assert pointers(problem(answer, 422, "empty_query")) == ["/query/labels"]
    answer = ask(service, inputs, query={"labels": [1, "horse"]})
    unnamed = problem(answer, 422, "unknown_label")
    assert pointers(unnamed) == ["/query/labels"] and "have no names" in unnamed["detail"]
    answer = ask(service, inputs, query={"indices": [0, 12]})
    assert pointers(problem(answer, 422, "index_out_of_range")) == ["/query/indices"]
    problem(ask(service, inputs, query={"labels": [1], "indices": [1]}), 422, "validation_error")


def test_a_refused_job_leaves_nothing(service: Service, inputs: dict[str, str]) -> None:
    ask(service, inputs, query={"labels": [7]})
    assert service.http.get("/v1/jobs").json()["data"] == []


# ---- what it would cost
def estimate(service: Service, inputs: dict[str, str], **changes: Any) -> dict[str, Any]:
    answer = service.http.post("/v1/jobs/estimate", json=request_of(inputs, **changes))
    assert answer.status_code == 200, answer.text
    body: dict[str, Any] = answer.json()
    return body


def test_an_estimate_counts_forward_passes_and_starts_nothing(
    service: Service, inputs: dict[str, str]
) -> None:
    body = estimate(service, inputs)
    assert body["forward_passes"] == 2 * 3 * (12 + 12)  # 2 checkpoints, a derivative of 12 + 12 samples
    assert (body["seconds"], body["device"], body["basis"]) == (None, None, None)
    assert body["memory_bytes"] > service.settings.memory_bytes
    assert service.http.get("/v1/jobs").json()["data"] == []


def test_a_part_of_the_query_costs_less(service: Service, inputs: dict[str, str]) -> None:
    part = estimate(service, inputs, query={"labels": [1]})
    assert part["forward_passes"] == 2 * 3 * (12 + 4)


def test_seconds_follow_from_the_last_job_like_it(
    service: Service, inputs: dict[str, str], job: dict[str, Any]
) -> None:
    passes = estimate(service, inputs)["forward_passes"]
    timing = {"device": "cpu", "seconds": 10.0, "forward_passes": passes * 2}
    service.succeed(job["id"], timing=timing)
    same = estimate(service, inputs)
    assert (same["seconds"], same["device"], same["basis"]) == (5.0, "cpu", "trajectory")
    like = estimate(service, inputs | {"trajectory_id": run(service, 10, 20)})
    assert (like["seconds"], like["basis"]) == (5.0, "architecture")
    by_another = estimate(service, inputs, method={"name": "loss"})
    assert (by_another["basis"], by_another["device"]) == ("other_method", "cpu")
    config = {"in_features": 4, "num_classes": 3}
    wider = {"name": "mlp", "config": config | {"hidden": [999]}}
    for other in ({"name": "linear", "config": config}, wider):
        told = estimate(service, inputs | {"trajectory_id": run(service, 10, 20, architecture=other)})
        assert told["seconds"] is None


def test_an_estimate_makes_the_same_checks(service: Service, inputs: dict[str, str]) -> None:
    given = request_of(inputs) | {"trajectory_id": service.trajectory(**RUN)["id"]}
    problem(service.http.post("/v1/jobs/estimate", json=given), 422, "no_checkpoints")


def test_several_runs_of_one_kind_make_one_job(service: Service, inputs: dict[str, str]) -> None:
    other = run(service, 10)
    several = {key: value for key, value in inputs.items() if key != "trajectory_id"}
    runs = [inputs["trajectory_id"], other]
    body = ask(service, several, trajectory_ids=runs).json()
    assert (body["trajectory_id"], body["trajectory_ids"]) == (None, runs)
    assert len(body["checkpoint_ids"]) == 3
    for one in runs:
        listed = service.http.get("/v1/jobs", params={"trajectory_id": one}).json()["data"]
        assert [job["id"] for job in listed] == [body["id"]]
        problem(service.http.delete(f"/v1/trajectories/{one}"), 409, "in_use")
    kept = service.http.get(f"/v1/trajectories/{other}").json()["checkpoints"][0]["id"]
    problem(service.http.delete(f"/v1/trajectories/{other}/checkpoints/{kept}"), 409, "in_use")


def test_runs_are_named_in_one_way_and_once(service: Service, inputs: dict[str, str]) -> None:
    one = inputs["trajectory_id"]
    several = {key: value for key, value in inputs.items() if key != "trajectory_id"}
    problem(ask(service, several), 422, "validation_error")
    problem(ask(service, inputs, trajectory_ids=[one]), 422, "validation_error")
    for wrong in ([one, one], [], [f"tr_{i}" for i in range(33)]):
        problem(ask(service, several, trajectory_ids=wrong), 422, "validation_error")
    answer = ask(service, several, trajectory_ids=[one, "tr_of_nobody"])
    assert pointers(problem(answer, 404, "not_found")) == ["/trajectory_ids/1"]


@pytest.mark.parametrize(
    "changes",
    [
        {"architecture": {"name": "mlp", "config": {"in_features": 4, "hidden": [9], "num_classes": 3}}},
        {"preprocessing": {"scale": 2.0}},
    ],
)
def test_runs_of_two_kinds_are_not_averaged(
    service: Service, inputs: dict[str, str], changes: dict[str, Any]
) -> None:
    several = {key: value for key, value in inputs.items() if key != "trajectory_id"}
    answer = ask(service, several, trajectory_ids=[inputs["trajectory_id"], run(service, 10, **changes)])
    assert pointers(problem(answer, 422, "trajectories_differ")) == ["/trajectory_ids/1"]


def test_a_pattern_that_means_no_tensor_is_told_the_tensors(service: Service, inputs: dict[str, str]) -> None:
    names = ["layers.0.weight", "layers.0.bias"]
    trajectory_id = service.trajectory()["id"]
    service.accept(service.checkpoint(trajectory_id, 10)["id"], parameters=names)
    given = inputs | {"trajectory_id": trajectory_id}

    def restricted(**parameters: list[str]) -> httpx.Response:
        return ask(service, given, method={"name": "tracin", "parameters": parameters})

    for wrong in ({"include": ["head.*"]}, {"include": ["*.bias"], "exclude": ["layers.?.*"]}):
        body = problem(restricted(**wrong), 422, "no_parameters")
        assert pointers(body) == ["/method/parameters"]
        assert all(name in body["detail"] for name in names)
    assert restricted(exclude=["*.bias"]).status_code == 202


def test_a_repeat_wants_something_drawn(service: Service, inputs: dict[str, str]) -> None:
    repeated = {"name": "diff_in", "uncertainty": 4}
    answer = ask(service, inputs, method=repeated)  # the curvature takes all 12 samples
    assert pointers(problem(answer, 422, "nothing_drawn")) == ["/method/uncertainty"]
    fewer = repeated | {"hessian_samples": 5}
    assert ask(service, inputs, method=fewer).status_code == 202
    once = estimate(service, inputs, method={"name": "diff_in", "hessian_samples": 5})["forward_passes"]
    assert estimate(service, inputs, method=fewer)["forward_passes"] == 4 * once


def test_options_that_exclude_each_other_are_refused(service: Service, inputs: dict[str, str]) -> None:
    both = {"name": "diff_in", "hessian_samples": 5, "uncertainty": 2, "per_query": True}
    body = problem(ask(service, inputs, method=both), 422, "validation_error")
    assert "per_query and uncertainty" in body["errors"][0]["detail"]
    problem(ask(service, inputs, method={"name": "tracin", "uncertainty": 2}), 422, "validation_error")


def test_more_influences_than_can_be_kept_are_refused(
    service: Service, inputs: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = {"name": "tracin", "per_query": True}
    assert ask(service, inputs, method=asked).status_code == 202
    monkeypatch.setattr("app.api.suitability.MOST_INFLUENCES", 12 * 12 - 1)
    body = problem(ask(service, inputs, method=asked), 422, "too_many_influences")
    assert pointers(body) == ["/method/per_query"] and "144" in body["detail"]
    assert ask(service, inputs, method=asked, query={"indices": [3]}).status_code == 202


# ---- memory
def heavy(service: Service, *steps: int, **changes: Any) -> str:
    """The id of a trajectory of a network of a million parameters, and a few."""
    trajectory_id: str = service.trajectory(**changes)["id"]
    told = {"parameters": ["large", "small"], "shapes": [[1000, 1000], [50]], "num_parameters": 1_000_050}
    for step in steps:
        service.accept(service.checkpoint(trajectory_id, step)["id"], **told)
    return trajectory_id


def test_more_than_a_worker_may_hold_is_refused_with_what_to_ask_instead(
    service: Service, inputs: dict[str, str]
) -> None:
    given = inputs | {"trajectory_id": heavy(service, 10)}
    many = {"name": "diff_in", "lanczos_steps": 1000}
    for path in ("/v1/jobs", "/v1/jobs/estimate"):
        answer = service.http.post(path, json=request_of(given, method=many))
        body = problem(answer, 422, "too_much_memory")
        assert pointers(body) == ["/method"]
        assert "4,000.2 MB" in body["detail"] and "lower lanczos_steps (4.0 MB each)" in body["detail"]
    assert service.http.get("/v1/jobs").json()["data"] == []
    for fits in (
        {"lanczos_steps": 200},
        {"parameters": {"include": ["small"]}},
        {"curvature": "kronecker"},
    ):
        assert ask(service, given, method=many | fits).status_code == 202, fits


def test_the_bases_of_a_kronecker_product_have_to_fit(service: Service, inputs: dict[str, str]) -> None:
    trajectory_id = service.trajectory()["id"]
    vectors = {"parameters": [f"{i}.bias" for i in range(40)], "shapes": [[2048]] * 40}  # 34 MB each
    service.accept(service.checkpoint(trajectory_id, 10)["id"], **vectors)
    given = inputs | {"trajectory_id": trajectory_id}
    for name, others in (("diff_in", "hessian or ggn"), ("influence_function", "ggn")):
        body = problem(
            ask(service, given, method={"name": name, "curvature": "kronecker"}), 422, "too_much_memory"
        )
        assert f"ask for curvature {others}" in body["detail"] and "1,342.8 MB" in body["detail"]
        assert ask(service, given, method={"name": name}).status_code == 202


def test_what_an_evaluation_judges_has_to_fit_as_well(service: Service, inputs: dict[str, str]) -> None:
    recipe = {"batch_size": 4, "epochs": 1, "seed": 0, "optimizer": {"name": "sgd"}}
    given = {"type": "evaluate", "trajectory_id": heavy(service, 0, 3, recipe=recipe), "leave_one_out": 10}
    given |= {name: inputs[name] for name in ("train_dataset_id", "query_dataset_id")}
    for steps, status in ((1000, 422), (100, 202)):
        methods = [{"name": "tracin"}, {"name": "diff_in", "lanczos_steps": steps}]
        answer = service.http.post("/v1/jobs", json=given | {"methods": methods})
        assert answer.status_code == status, answer.text
        assert status == 202 or problem(answer, 422, "too_much_memory")


def test_an_estimate_tells_of_all_vectors_in_float32(service: Service, inputs: dict[str, str]) -> None:
    given, vector = inputs | {"trajectory_id": heavy(service, 10)}, 4 * 1_000_050
    least = service.settings.memory_bytes + 10 * vector
    for method in ({"name": "diff_in"}, {"name": "diff_in", "lanczos_steps": 200}):
        assert least < estimate(service, given, method=method)["memory_bytes"] < least + 10 * vector
    by_query = estimate(service, given, method={"name": "tracin", "per_query": True})["memory_bytes"]
    assert by_query == estimate(service, given, method={"name": "tracin"})["memory_bytes"]
    alone = estimate(service, given, method={"name": "grad_norm"})["memory_bytes"]
    assert alone > estimate(service, given, method={"name": "loss"})["memory_bytes"] + 2**28
