"""What to do about scores, on the real service over HTTP: choices are held against the scores."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import httpx
import numpy as np
import pytest
from safetensors.torch import load

from tests import walk
from tests.services import Service
from tests.shapes import BOTH
from worker.influence.selection.second import CERTAIN

SAMPLES, FLIPPED = 400, 40
RECIPE = {
    "schedule": {"name": "constant", "learning_rate": 0.3},
    "batch_size": 20,
    "epochs": 20,
    "seed": 5,
}


@pytest.fixture(scope="module", params=BOTH)
def client(request: pytest.FixtureRequest) -> Iterator[httpx.Client]:
    service: Service = request.getfixturevalue(request.param)
    with service.client() as client:
        yield client


@pytest.fixture(scope="module")
def job(client: httpx.Client) -> dict[str, Any]:
    """Scores of digits of which the first FLIPPED have a wrong label."""
    x, y = walk.digits(SAMPLES + 100)
    return scored(client, x, y, {"name": "mlp", "config": walk.MLP | {"hidden": [16]}})


def scored(
    client: httpx.Client, x: np.ndarray, y: np.ndarray, architecture: dict[str, Any]
) -> dict[str, Any]:
    """The job over a run of this network, with FLIPPED wrong labels."""
    y[:FLIPPED] = (y[:FLIPPED] + 1 + np.arange(FLIPPED) % 9) % 10
    ids = np.array([f"digit-{row}" for row in range(SAMPLES)])
    train = walk.dataset(client, walk.npz(inputs=x[:SAMPLES], targets=y[:SAMPLES], ids=ids))["id"]
    query = walk.dataset(client, walk.npz(inputs=x[SAMPLES:], targets=y[SAMPLES:]))["id"]
    body = {"type": "train", "architecture": architecture, "recipe": RECIPE, "train_dataset_id": train}
    body |= {"task": {"type": "classification", "loss": "cross_entropy"}, "checkpoints": {"count": 8}}
    trained = walk.finished(client, walk.ok(client.post("/v1/jobs", json=body), 202)["id"])
    posted = walk.post_job(client, trained["result"]["trajectory_id"], train, query)
    return walk.finished(client, walk.ok(posted, 202)["id"])


@pytest.fixture(scope="module")
def rows(client: httpx.Client, job: dict[str, Any]) -> list[dict[str, Any]]:
    return walk.scores(client, job["id"])


def selected(client: httpx.Client, job: dict[str, Any], **body: Any) -> dict[str, Any]:
    """A selection that succeeded."""
    posted = walk.ok(client.post(f"/v1/jobs/{job['id']}/selections", json=body), 201)
    done = walk.until(client, f"/v1/selections/{posted['id']}", {"succeeded", "failed"})
    assert done["status"] == "succeeded", done
    assert posted["size"] in (done["size"], None)
    return done


def samples(client: httpx.Client, selection: dict[str, Any], limit: int = 7) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    params: dict[str, Any] = {"limit": limit}
    while True:
        page = walk.ok(client.get(f"/v1/selections/{selection['id']}/samples", params=params), 200)
        found += page["data"]
        if page["next_cursor"] is None:
            return found
        params["cursor"] = page["next_cursor"]


def manifest(client: httpx.Client, selection: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = walk.ok(client.get(f"/v1/selections/{selection['id']}/manifest"), 200)
    parts = [*found["keep"], *found["remove"], *(one["sample_index"] for one in found["relabel"])]
    assert sorted(parts) == list(range(SAMPLES))  # each sample in one list
    counts = {name: len(found[name]) for name in ("keep", "remove", "relabel")}
    assert counts == {name: selection["result"][name] for name in counts}
    return found


def test_cleaning_finds_the_wrong_labels_and_what_they_should_be(
    client: httpx.Client, job: dict[str, Any], rows: list[dict[str, Any]]
) -> None:
    selection = selected(client, job, type="clean", size=FLIPPED)
    found = samples(client, selection)
    worst = sorted(rows, key=lambda row: (-row["suspicion"], row["sample_index"]))[:FLIPPED]
    same = ("sample_index", "sample_id", "score", "suspicion", "label", "loss")
    assert [{k: one[k] for k in same} for one in found] == [{k: one[k] for k in same} for one in worst]
    hits = [one for one in found if one["sample_index"] < FLIPPED]
    assert len(hits) > 0.8 * FLIPPED
    _, truth = walk.digits(SAMPLES)
    relabelled = [one for one in found if one["action"] == "relabel"]
    right = [one for one in relabelled if one["suggested_label"] == truth[one["sample_index"]]]
    assert len(relabelled) > 0.3 * FLIPPED and len(right) > 0.9 * len(relabelled)
    for one in found:
        assert (one["suggested_label"] is None) == (one["confidence"] is None)
        assert (one["action"] == "relabel") == ((one["confidence"] or 0) >= 0.5)
        assert one["suggested_label"] != one["label"]
    change = -sum(one["score"] for one in found)
    assert selection["result"]["predicted_change"] == pytest.approx(change) and change < 0
    assert selection["result"]["cut"] == found[-1]["suspicion"]
    by_class = selection["result"]["by_class"]
    assert sum(one["selected"] for one in by_class) == FLIPPED
    assert sum(one["count"] for one in by_class) == SAMPLES
    listed = manifest(client, selection)
    assert {one["sample_index"]: one["label"] for one in listed["relabel"]} == {
        one["sample_index"]: one["suggested_label"] for one in relabelled
    }
    assert listed["train_dataset_id"] == job["train_dataset_id"]


def test_duplicates_that_are_left_behind_are_told(client: httpx.Client) -> None:
    x, y = walk.digits(60)
    x[50] = x[7]
    train = walk.dataset(client, walk.npz(inputs=x, targets=y))["id"]
    posted = walk.post_job(client, walk.run(client), train, None, method={"name": "loss"})
    scored = walk.finished(client, walk.ok(posted, 202)["id"])
    first = next(
        one for one in walk.scores(client, scored["id"], "harmful") if one["sample_index"] in (7, 50)
    )
    asked = {"type": "clean", "threshold": first["score"]}  # takes the better ranked of the two or both
    found = selected(client, scored, **asked)["result"]["duplicates"]
    inside = {
        one["sample_index"] for one in walk.scores(client, scored["id"]) if one["score"] >= first["score"]
    }
    left = {7, 50} - inside
    assert found["count"] == len(left)
    assert [(one["duplicate_index"], one["similarity"]) for one in found["pairs"]] == [(i, 1.0) for i in left]


def test_a_coreset_is_not_crowded_by_copies(client: httpx.Client) -> None:
    x, y = walk.digits(60)
    x[30:], y[30:] = x[:30], y[:30]  # every sample twice
    train = walk.dataset(client, walk.npz(inputs=x, targets=y))["id"]
    posted = walk.post_job(client, walk.run(client), train, None, method={"name": "loss"})
    scored = walk.finished(client, walk.ok(posted, 202)["id"])
    asked = {"type": "coreset", "size": 30, "by": "random", "stratify": False}
    alike, diverse = (
        [one["sample_index"] % 30 for one in samples(client, selected(client, scored, **asked, diversity=on))]
        for on in (False, True)
    )
    assert len(set(alike)) < 30 and sorted(diverse) == list(range(30))
    covered = selected(client, scored, type="coreset", size=30, drop_suspects=False)
    assert covered["request"]["by"] == "coverage"
    assert sorted(one["sample_index"] % 30 for one in samples(client, covered)) == list(range(30))


def test_one_that_is_being_verified_can_be_deleted(client: httpx.Client, job: dict[str, Any]) -> None:
    body = {"type": "clean", "size": 5, "verify": True, "seeds": 15}
    posted = walk.ok(client.post(f"/v1/jobs/{job['id']}/selections", json=body), 201)
    walk.until(client, f"/v1/selections/{posted['id']}", {"running"})
    walk.ok(client.delete(f"/v1/selections/{posted['id']}"), 204)
    assert selected(client, job, type="clean", size=1)["size"] == 1  # the workers are free again


def test_cleaning_finds_out_by_itself_how_many_labels_are_wrong(
    client: httpx.Client, job: dict[str, Any]
) -> None:
    selection = selected(client, job, type="clean", auto=True, rounds=1)
    estimate = selection["result"]["estimate"]
    assert estimate["wrong"] == selection["size"] == round(estimate["share"] * SAMPLES)
    assert 0.4 * FLIPPED <= estimate["wrong"] <= 1.2 * FLIPPED
    found = samples(client, selection)
    assert sum(one["sample_index"] < FLIPPED for one in found) >= 0.8 * len(found)


def test_a_second_run_decides_about_the_suspects(client: httpx.Client, job: dict[str, Any]) -> None:
    once = selected(client, job, type="clean", auto=True, rounds=1)
    twice = selected(client, job, type="clean", auto=True)
    assert (once["request"]["rounds"], twice["request"]["rounds"]) == (1, 2)
    assert {**once["result"]["estimate"], "rounds": 2} == twice["result"]["estimate"]
    found = samples(client, twice)
    caught = [sum(one["sample_index"] < FLIPPED for one in rows) for rows in (samples(client, once), found)]
    assert caught[1] > caught[0] and caught[1] >= 0.8 * FLIPPED  # it suspects more of them,
    assert sum(one["sample_index"] >= FLIPPED for one in found) <= 0.25 * FLIPPED
    for one in found:
        assert one["suggested_label"] != one["label"]
        assert (one["action"] == "relabel") == ((one["confidence"] or 0) >= CERTAIN)
    assert samples(client, selected(client, job, type="clean", auto=True)) == found  # to the bit


def test_a_second_run_is_asked_about_images_too(client: httpx.Client) -> None:
    x, y = walk.digits(SAMPLES + 100)
    config = {"in_channels": 1, "num_classes": 10, "channels": [8], "image_size": [8, 8]}
    images = (255 * x.reshape(-1, 8, 8)).astype(np.uint8)
    job = scored(client, images, y, {"name": "cnn", "config": config})
    found = samples(client, selected(client, job, type="clean", auto=True, rounds=2))
    assert sum(one["sample_index"] < FLIPPED for one in found) >= 0.7 * FLIPPED
    assert sum(one["sample_index"] >= FLIPPED for one in found) <= 0.25 * FLIPPED
    assert samples(client, selected(client, job, type="clean", auto=True)) == found  # moved alike


def test_cleaning_by_score_takes_all_above_the_threshold(
    client: httpx.Client, job: dict[str, Any], rows: list[dict[str, Any]]
) -> None:
    threshold = sorted(row["score"] for row in rows)[-10]
    selection = selected(client, job, type="clean", threshold=threshold, relabel=False)
    harmful = {row["sample_index"] for row in rows if row["score"] >= threshold}
    assert set(manifest(client, selection)["remove"]) == harmful and len(harmful) == 10
    assert selection["result"]["relabel"] == 0
    nothing = selected(client, job, type="clean", threshold=1e9)
    assert (nothing["size"], samples(client, nothing)) == (0, [])
    assert manifest(client, nothing)["keep"] == list(range(SAMPLES))


def test_what_was_decided_by_hand_is_done(
    client: httpx.Client, job: dict[str, Any], rows: list[dict[str, Any]]
) -> None:
    told = [{"sample_index": 8, "action": "remove"}, {"sample_index": 3, "action": "remove"}]
    told += [{"sample_index": 1, "action": "relabel", "label": 5}, {"sample_index": 2, "action": "keep"}]
    walk.ok(client.put(f"/v1/jobs/{job['id']}/decisions", json={"decisions": told}), 200)
    selection = selected(client, job, type="decided", verify=True, seeds=2)
    listed = manifest(client, selection)
    relabelled = {"sample_index": 1, "sample_id": "digit-1", "label": 5}
    assert (listed["remove"], listed["relabel"]) == ([3, 8], [relabelled])
    assert listed["remove_ids"] == ["digit-3", "digit-8"]
    assert listed["keep_ids"] == [f"digit-{index}" for index in listed["keep"]]
    table = client.get(f"/v1/selections/{selection['id']}/manifest", params={"format": "csv"}).text
    assert table.splitlines()[:3] == [
        "sample_index,action,label,sample_id",
        "0,keep,,digit-0",
        "1,relabel,5,digit-1",
    ]
    found = samples(client, selection)
    assert [(one["sample_index"], one["action"]) for one in found] == [
        (3, "remove"),
        (8, "remove"),
        (1, "relabel"),
    ]
    score = {row["sample_index"]: row["score"] for row in rows}
    change = selection["result"]["predicted_change"]
    assert change == pytest.approx(-sum(score[index] for index in (1, 3, 8)))
    assert selection["result"]["verification"]["seeds"] == 2
    assert selection["result"]["duplicates"] is not None


def test_a_coreset_keeps_the_least_harmful_of_each_class(
    client: httpx.Client, job: dict[str, Any], rows: list[dict[str, Any]]
) -> None:
    plain = selected(client, job, type="coreset", size=50, by="harm", stratify=False)
    best = sorted(rows, key=lambda row: (row["score"], row["sample_index"]))[:50]
    assert [one["sample_index"] for one in samples(client, plain)] == [one["sample_index"] for one in best]
    fair = selected(client, job, type="coreset", fraction=0.5, by="harm")
    assert fair["request"]["stratify"] is True and fair["size"] == SAMPLES // 2
    kept = manifest(client, fair)["keep"]
    for one in fair["result"]["by_class"]:
        assert abs(one["selected"] - one["count"] / 2) <= 1
        mine = sorted((row["score"], row["sample_index"]) for row in rows if row["label"] == one["label"])
        assert {index for _, index in mine[: one["selected"]]} <= set(kept)


def test_a_coreset_is_drawn_by_what_matters(
    client: httpx.Client, job: dict[str, Any], rows: list[dict[str, Any]]
) -> None:
    body = {"type": "coreset", "fraction": 0.3, "drop_suspects": False, "stratify": False}
    first, again = (selected(client, job, **body, by="influence") for _ in range(2))
    kept = samples(client, first)
    assert kept == samples(client, again)
    mattering = np.mean([abs(row["score"]) for row in kept])
    at_random = samples(client, selected(client, job, **body, by="random"))
    assert mattering > 1.1 * np.mean([abs(row["score"]) for row in rows])
    assert mattering > np.mean([abs(row["score"]) for row in at_random])


def test_a_coreset_keeps_labels_that_look_wrong_last(client: httpx.Client, job: dict[str, Any]) -> None:
    kept = selected(client, job, type="coreset", fraction=0.5)
    assert kept["request"]["drop_suspects"] is True
    wrong = kept["result"]["estimate"]["wrong"]
    of_clean = samples(client, selected(client, job, type="clean", auto=True, rounds=1))
    suspected = {one["sample_index"] for one in of_clean}
    assert len(suspected) == wrong > 0 and not suspected & {
        one["sample_index"] for one in samples(client, kept)
    }
    everything = selected(client, job, type="coreset", size=SAMPLES)
    assert {one["sample_index"] for one in samples(client, everything)[-wrong:]} == suspected


def test_a_deletion_tells_what_it_would_do(
    client: httpx.Client, job: dict[str, Any], rows: list[dict[str, Any]]
) -> None:
    selection = selected(client, job, type="deletion", sample_ids=["digit-9", "digit-2"])
    assert manifest(client, selection)["remove"] == [2, 9]
    assert [one["sample_id"] for one in samples(client, selection)] == ["digit-2", "digit-9"]
    change = -(rows[2]["score"] + rows[9]["score"])
    assert selection["result"]["predicted_change"] == pytest.approx(change)


@pytest.fixture(scope="module")
def deletion(client: httpx.Client, job: dict[str, Any]) -> dict[str, Any]:
    """Half of the wrong labels taken out, and the run trained again without them."""
    body = {"sample_indices": list(range(FLIPPED // 2)), "resolution": "steps", "verify": True, "seeds": 2}
    return selected(client, job, type="deletion", **body)


def test_a_deletion_updates_the_checkpoint_towards_retraining(
    client: httpx.Client, job: dict[str, Any], deletion: dict[str, Any], rows: list[dict[str, Any]]
) -> None:
    update, verification = deletion["result"]["update"], deletion["result"]["verification"]
    original, updated = (update["effects"][name] for name in ("original", "updated"))
    retrained = {
        part: {name: figure["mean"] for name, figure in verification["retrained"][part].items()}
        for part in ("forget", "retain", "test")
    }
    assert update["exact_steps"] == 400 and update["moved"] > 0
    for part, figure in (("forget", "loss"), ("forget", "accuracy")):
        off = abs(original[part][figure] - retrained[part][figure])
        assert abs(updated[part][figure] - retrained[part][figure]) < off
    auc = verification["retrained"]["membership_auc"]["mean"]
    assert abs(updated["membership_auc"] - auc) < abs(original["membership_auc"] - auc)
    assert update["predicted_change"] == pytest.approx(updated["test"]["loss"] - original["test"]["loss"])
    summed = deletion["result"]["predicted_change"]
    codes = [one["code"] for one in deletion["result"]["warnings"]]
    far = abs(update["predicted_change"] - summed) > abs(summed)
    assert codes == (["beyond_linear"] if far else [])
    losses = [row["loss"] for row in rows[: FLIPPED // 2]]
    assert original["forget"]["loss"] == pytest.approx(np.mean(losses), rel=1e-4)


def test_an_updated_checkpoint_is_downloaded_whole_or_in_part(
    client: httpx.Client, job: dict[str, Any], deletion: dict[str, Any]
) -> None:
    path = f"/v1/selections/{deletion['id']}/checkpoint"
    whole = client.get(path)
    tensors = load(whole.content)
    assert {name: tuple(t.shape) for name, t in tensors.items()} == {
        "layers.0.weight": (16, 64),
        "layers.0.bias": (16,),
        "layers.1.weight": (10, 16),
        "layers.1.bias": (10,),
    }
    part = client.get(path, headers={"Range": "bytes=8-15"})
    assert part.status_code == 206 and part.content == whole.content[8:16]
    assert client.get(path, headers={"If-None-Match": whole.headers["etag"]}).status_code == 304
    run = walk.ok(client.get(f"/v1/jobs/{job['id']}"), 200)["trajectory_id"]
    sent = walk.checkpoint(client, run, whole.content, 100_000, learning_rates=json.dumps([0.0] * 99_600))
    assert sent["status"] == "ready", sent  # it is a checkpoint like any other


def test_a_deletion_without_a_checkpoint_has_none(client: httpx.Client, job: dict[str, Any]) -> None:
    selection = selected(client, job, type="deletion", sample_indices=[1], checkpoint=False)
    assert "update" not in selection["result"]
    answer = walk.ok(client.get(f"/v1/selections/{selection['id']}/checkpoint"), 409)
    assert answer["code"] == "not_computed"


def test_cleaning_is_verified_by_training_again(client: httpx.Client, job: dict[str, Any]) -> None:
    selection = selected(client, job, type="clean", size=FLIPPED, verify=True, seeds=2)
    assert selection["progress"] == {"completed": 4, "total": 4, "unit": "parts", "message": "succeeded"}
    found = selection["result"]["verification"]
    assert (found["seeds"], found["diverged"]) == (2, 0)
    for name in ("loss", "accuracy"):
        each = [found[name][side]["each"] for side in ("before", "after", "difference")]
        assert [b - a for a, b in zip(*each[:2], strict=True)] == pytest.approx(each[2])
        assert found[name]["difference"]["mean"] == pytest.approx(np.mean(each[2]))
    assert found["loss"]["difference"]["mean"] < 0
    assert found["changed"] == any(
        low > 0 or high < 0
        for low, high in (found[n]["difference"]["interval"] for n in ("loss", "accuracy"))
    )
    assert found["text"].startswith("It changed" if found["changed"] else "Nothing changed")


def test_nothing_changes_where_nothing_is_taken_out(client: httpx.Client, job: dict[str, Any]) -> None:
    selection = selected(client, job, type="clean", threshold=1e9, verify=True, seeds=2)
    found = selection["result"]["verification"]
    assert found["loss"]["difference"]["each"] == [0, 0] and found["changed"] is False
    assert found["text"].startswith("Nothing changed that 2 seeds could tell of the query loss (+0 to +0)")


def test_a_manifest_is_read_again_only_when_changed(client: httpx.Client, job: dict[str, Any]) -> None:
    selection = selected(client, job, type="clean", size=3)
    path = f"/v1/selections/{selection['id']}/manifest"
    tag = client.get(path).headers["etag"]
    assert client.get(path, headers={"If-None-Match": tag}).status_code == 304
    listed = walk.ok(client.get("/v1/selections", params={"job_id": job["id"], "type": "clean"}), 200)
    assert listed["data"][0]["id"] == selection["id"]
    walk.ok(client.delete(f"/v1/selections/{selection['id']}"), 204)
    walk.ok(client.get(path), 404)
