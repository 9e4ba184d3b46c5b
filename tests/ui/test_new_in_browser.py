"""A new job from a browser: from an empty service to the gallery, and from checkpoints that somebody has."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from playwright.sync_api import Browser, Page, expect
from safetensors.numpy import save

from tests import services
from tests.services import Service
from tests.ui.explored import Explored, finished, npz, wrongly_labelled

Payload = dict[str, Any]
TIMES = "\N{MULTIPLICATION SIGN}"
expect.set_options(timeout=60_000)  # with another test's service on the same cores


def file(name: str, content: bytes) -> Payload:
    """What a file field takes."""
    return {"name": name, "mimeType": "application/octet-stream", "buffer": content}


def linear(seed: int, features: int = 64, classes: int = 10) -> bytes:
    """A checkpoint of the network `linear`."""
    rng = np.random.default_rng(seed)
    weight = rng.normal(0, 0.01, (classes, features)).astype(np.float32)
    return save({"layers.0.weight": weight, "layers.0.bias": np.zeros(classes, np.float32)})


@contextmanager
def signed_in(browser: Browser, service: Service, *, refusals: bool = False) -> Iterator[Page]:
    """A browser at the first page; whatever it complains of fails the test, but for refusals if told so."""
    with browser.new_context(base_url=service.url, viewport={"width": 1280, "height": 900}) as context:
        context.set_default_timeout(60_000)
        page = context.new_page()
        complaints: list[str] = []
        page.on("console", lambda said: complaints.append(said.text) if said.type == "error" else None)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.goto("/sign-in")
        page.get_by_label("API key").fill(service.key)
        page.get_by_role("button", name="Sign in").click()
        page.wait_for_url("**/")
        yield page
        kept = [one for one in complaints if not (refusals and "Failed to load resource" in one)]
        assert not kept, json.dumps(kept, indent=1)


def part(page: Page, name: str) -> Any:
    return page.get_by_role("group", name=name, exact=True)


def test_from_an_empty_service_to_a_clean_manifest(browser: Browser, tmp_path: Path) -> None:
    """Without a pointer: links, buttons and boxes by their keys, files as a file dialog gives them."""
    inputs, targets, query_inputs, query_targets, flipped = wrongly_labelled()
    with services.embedded(tmp_path / "empty") as service, signed_in(browser, service) as page:
        page.get_by_role("link", name="Start a job").press("Enter")
        page.get_by_role("link", name="I have data only").press("Enter")
        page.wait_for_url(lambda url: "way=train" in url)  # both ways ask for training data

        train = part(page, "Training data")
        train.get_by_label("Upload a file").set_input_files(
            file("digits.npz", npz(inputs=inputs[:300], targets=targets[:300]))
        )
        expect(train.get_by_text(f"300 samples of 8 {TIMES} 8")).to_be_visible()
        query = part(page, "Query data (may come later)")
        query.get_by_label("Upload a file").set_input_files(
            file("clean.npz", npz(inputs=query_inputs[:100], targets=query_targets[:100]))
        )
        expect(query.get_by_text("100 samples of")).to_be_visible()
        expect(page.get_by_text("Proposed for 300 samples")).to_be_visible()
        expect(page.get_by_label("Network", exact=True)).to_have_value("cnn")

        page.get_by_label("Network", exact=True).select_option("mlp")
        page.get_by_text("Its sizes").press("Enter")
        page.get_by_label("hidden", exact=True).fill("24")
        page.get_by_label("Epochs").fill("12")
        page.get_by_label("Name of the job").fill("a first network")
        expect(page.get_by_text("forward passes, up to")).to_be_visible()
        page.get_by_role("button", name="Start training").press("Enter")

        page.wait_for_url("**/jobs/job_*")
        page.get_by_role("link", name="Score its training samples", exact=True).press("Enter", timeout=60_000)
        expect(part(page, "Training data").get_by_text(f"300 samples of 8 {TIMES} 8")).to_be_visible()
        expect(page.get_by_text("forward passes, up to")).to_be_visible()
        page.get_by_role("button", name="Start scoring").press("Enter")
        page.wait_for_url("**/jobs/job_*")
        expect(page.locator("[data-index]").first).to_be_visible(timeout=60_000)
        shown = page.locator("[data-index]").evaluate_all("all => all.map(one => Number(one.dataset.index))")
        assert len(set(shown[:20]) & flipped) >= 12

        page.get_by_role("link", name="Selections").press("Enter")
        page.get_by_label("Verify: train again with and without").press("Space")
        page.get_by_label("seeds").fill("2")
        page.get_by_role("button", name="Make the selection").press("Enter")
        page.wait_for_url("**/selections/sel_*")
        expect(page.get_by_role("heading", name="Before and after")).to_be_visible(timeout=60_000)
        with page.expect_download() as download:
            page.get_by_role("link", name="JSON").press("Enter")
        manifest = json.loads(Path(download.value.path()).read_text())
        named = {*manifest["remove"], *(one["sample_index"] for one in manifest["relabel"])}
        assert sorted([*manifest["keep"], *named]) == list(range(300))
        assert len(named & flipped) >= 0.7 * len(named)


def test_checkpoints_are_sent_with_their_steps_and_what_is_wrong_is_told_in_their_row(
    browser: Browser, explored: Explored
) -> None:
    service = explored.service
    with signed_in(browser, service, refusals=True) as page:
        page.goto(f"/jobs/new?train_dataset_id={explored.train}&query_dataset_id={explored.query}")
        run = part(page, "The run and its checkpoints")
        expect(run.get_by_label("Network", exact=True)).to_have_value(
            "cnn"
        )  # what is proposed for such images
        run.get_by_label("Network", exact=True).select_option("linear")
        expect(run.get_by_label("in features")).to_have_value("64")
        expect(run.get_by_label("num classes")).to_have_value("10")
        expect(run.get_by_label("activation")).to_have_count(0)  # of one layer there is none
        run.get_by_label("Name of the run").fill("from the browser")
        run.get_by_label("Checkpoints (.safetensors").set_input_files(
            [
                file("step_20.safetensors", linear(2)),
                file("step_0.safetensors", linear(0)),
                file("model-epoch2.safetensors", linear(1, features=9)),
            ]
        )
        run.get_by_label("Batch size").fill("60")
        expect(run.get_by_label("Step of step_20.safetensors")).to_have_value("20")
        expect(run.get_by_label("Learning rate up to step_0.safetensors")).to_be_disabled()
        run.get_by_label("Step of model-epoch2.safetensors").fill("10")
        page.get_by_label("Name of the job").fill("kept as it is")

        page.get_by_role("button", name="Start scoring").click()
        bad = run.get_by_role("rowgroup", name="model-epoch2.safetensors")
        expect(bad.get_by_text("refused")).to_be_visible()
        expect(bad).to_contain_text("layers.0.weight")
        expect(run.get_by_text("1 of 3 checkpoints were refused")).to_be_visible()
        expect(page.get_by_label("Name of the job")).to_have_value("kept as it is")
        expect(page.get_by_role("button", name="Leave out model-epoch2.safetensors")).to_be_focused()

        page.keyboard.press("Enter")
        page.get_by_role("button", name="Start scoring").click()
        page.wait_for_url("**/jobs/job_*")
        expect(page.locator("[data-index]").first).to_be_visible(timeout=60_000)
        with service.client() as api:
            job = api.get(f"/v1/jobs/{page.url.rsplit('/', 1)[1]}").json()
            told = api.get(f"/v1/trajectories/{job['trajectory_id']}").json()
            steps = [(one["step"], one["learning_rate"]) for one in told["checkpoints"]]
            assert steps == [(0, None), (20, 0.1)]
            assert told["name"] == "from the browser"
            assert told["batch_size"] == 60
            assert api.delete(f"/v1/jobs/{job['id']}").status_code == 204
            assert api.delete(f"/v1/trajectories/{told['id']}").status_code == 204


def test_errors_come_to_their_field_with_the_focus(browser: Browser, explored: Explored) -> None:
    with signed_in(browser, explored.service, refusals=True) as page:
        page.goto(f"/jobs/new?trajectory_id={explored.trajectory}")
        look = page.get_by_role("link", name="Look at this run")
        expect(look).to_have_attribute("href", f"/trajectories/{explored.trajectory}")
        page.get_by_label("Name of the job").fill("kept")
        page.get_by_role("button", name="Start scoring").click()
        train = part(page, "Training data")
        expect(train.get_by_text("is required")).to_be_visible()
        choice = train.get_by_label("Or choose one that is here")
        expect(choice).to_be_focused()
        expect(choice).to_have_attribute("aria-invalid", "true")

        train.get_by_label("Upload a file").set_input_files(file("broken.npz", b"no zip at all"))
        expect(train.get_by_text("is of no kind we know")).to_be_visible()
        choice.select_option(explored.train)
        expect(train.get_by_text("is of no kind we know")).to_be_hidden()
        page.get_by_text("All options").click()
        page.get_by_label("lanczos steps").fill("many")
        part(page, "Query data").get_by_label("Or choose one that is here").select_option(explored.query)
        expect(page.get_by_text("It can't start like this")).to_be_visible()
        page.get_by_role("button", name="Start scoring").click()
        steps = page.get_by_label("lanczos steps")
        expect(steps).to_be_focused()
        expect(steps).to_have_attribute("aria-invalid", "true")
        expect(steps).to_have_value("many")
        expect(page.get_by_label("Name of the job")).to_have_value("kept")


def test_a_table_is_sent_by_its_columns_and_its_query_is_read_like_it(
    browser: Browser, explored: Explored
) -> None:
    rows = "".join(
        f"{20 + at},{'Oslo' if at % 3 else 'Rome'},{'rich' if at % 2 else 'poor'}\n" for at in range(40)
    )
    with signed_in(browser, explored.service, refusals=True) as page:
        page.goto("/jobs/new?way=train")
        train = part(page, "Training data")
        train.get_by_label("Upload a file").set_input_files(
            file("p.csv", f"age,city,wealth\n{rows}".encode())
        )
        train.get_by_role("button", name="Upload", exact=True).click()
        expect(train.get_by_text("No column is named as the targets")).to_be_visible()
        train.get_by_label("Column of the labels").fill("wealth")
        train.get_by_role("button", name="Upload", exact=True).click()
        expect(train.get_by_text("40 samples of")).to_be_visible()
        query = part(page, "Query data (may come later)")
        query.get_by_label("Upload a file").set_input_files(
            file("q.csv", b"age,city,wealth\n33,Oslo,poor\n34,Rome,rich\n")
        )
        expect(query.get_by_text("2 samples of")).to_be_visible()
        expect(page.get_by_label("Network", exact=True)).to_have_value("mlp")
        fields = ("train_dataset_id", "query_dataset_id")
        ids = {name: page.locator(f"[name={name}]").input_value() for name in fields}
    with explored.service.client() as api:
        asked = api.get(f"/v1/datasets/{ids['query_dataset_id']}").json()
        assert asked["like"] == ids["train_dataset_id"]
        assert asked["classes"] == ["poor", "rich"]
        for one in reversed(ids.values()):
            assert api.delete(f"/v1/datasets/{one}").status_code == 204


@pytest.mark.slow
def test_what_lies_in_a_store_is_named_and_fetched(browser: Browser, tmp_path: Path) -> None:
    (folder := tmp_path / "sets").mkdir()
    inputs, targets, query_inputs, query_targets, _ = wrongly_labelled()
    (folder / "train.npz").write_bytes(npz(inputs=inputs[:60], targets=targets[:60]))
    rows = "".join(f"{at},{'a' if at % 2 else 'b'}\n" for at in range(20))
    (folder / "table.csv").write_text(f"x,kind\n{rows}")
    (folder / "clean.npz").write_bytes(npz(inputs=query_inputs[:20], targets=query_targets[:20]))
    for step in (10, 20):
        (folder / f"step_{step}").mkdir()
        (folder / f"step_{step}" / "model.safetensors").write_bytes(linear(step))
    prefix = f"file://{folder}/"
    service = services.embedded(tmp_path / "own", URI_PREFIXES=prefix)
    with service as running, signed_in(browser, running, refusals=True) as page:
        page.goto("/jobs/new")
        train = part(page, "Training data")
        where = train.get_by_label("Or name it where it lies")
        where.fill(f"file://{tmp_path}/own/diffin.db.npz")
        where.press("Tab")
        expect(train.get_by_text("in no store that the operator allowed")).to_be_visible()
        expect(where).to_have_attribute("aria-invalid", "true")
        where.fill(f"{prefix}table.csv")
        where.press("Tab")
        train.get_by_label("Column of the labels").fill("kind")
        train.get_by_role("button", name="Fetch", exact=True).click()
        expect(train.get_by_text("20 samples of")).to_be_visible()
        where.fill(f"{prefix}absent.npz")
        where.press("Tab")
        expect(train.get_by_text("absent.npz is not there")).to_be_visible()
        where.fill(f"{prefix}train.npz")
        where.press("Tab")
        expect(train.get_by_text(f"60 samples of 8 {TIMES} 8")).to_be_visible()
        query = part(page, "Query data")
        query.get_by_label("Or name it where it lies").fill(f"{prefix}clean.npz")
        query.get_by_label("Or name it where it lies").press("Tab")
        expect(query.get_by_text("20 samples of")).to_be_visible()

        run = part(page, "The run and its checkpoints")
        run.get_by_label("Network", exact=True).select_option("linear")
        lines = run.get_by_label("Or name them where they lie")
        uris = [f"{prefix}step_{step}/model.safetensors" for step in (20, 10)]
        lines.fill("\n".join([*uris, "", uris[0]]))
        lines.press("Tab")
        for uri, guessed in zip(uris, ("20", "10"), strict=True):
            expect(run.get_by_label(f"Step of {uri}")).to_have_value(guessed)
        page.get_by_role("button", name="Start scoring").click()
        page.wait_for_url("**/jobs/job_*")
        expect(page.locator("[data-index]").first).to_be_visible(timeout=60_000)
        with running.client() as api:
            job = api.get(f"/v1/jobs/{page.url.rsplit('/', 1)[1]}").json()
            told = api.get(f"/v1/trajectories/{job['trajectory_id']}").json()["checkpoints"]
            assert [one["uri"] for one in told] == uris[::-1]
            assert api.get(f"/v1/datasets/{job['train_dataset_id']}").json()["uri"] == f"{prefix}train.npz"
        page.goto(f"/datasets/{job['train_dataset_id']}")
        expect(page.get_by_text(f"{prefix}train.npz")).to_be_visible()
        with running.client() as api:
            lost = api.post("/v1/datasets", json={"name": "absent.npz", "uri": f"{prefix}absent.npz"})
            assert lost.status_code == 202, lost.text
            assert finished(api, lost.headers["Location"])["bytes"] is None
        page.goto("/inputs")
        absent = page.get_by_role("row").filter(has_text="absent.npz").get_by_role("cell")
        expect(absent.nth(3)).to_have_text("\N{EN DASH}")  # its size: it never came


def test_an_upload_is_followed_and_cancelled(browser: Browser, explored: Explored) -> None:
    with signed_in(browser, explored.service) as page, explored.service.client() as api:
        before = api.get("/v1/datasets").json()["data"][0]["id"]
        page.goto("/jobs/new")
        page.route("**/v1/datasets", lambda _route: None)  # a connection that stands still
        train = part(page, "Training data")
        field = train.get_by_label("Upload a file")
        field.set_input_files(file("slow.npz", npz(inputs=np.zeros((4, 2)), targets=np.arange(4))))
        expect(train.get_by_role("progressbar")).to_be_visible()
        expect(train.get_by_text("slow.npz")).to_be_visible()
        train.get_by_role("button", name="Cancel").click()
        expect(train.get_by_role("progressbar")).to_be_hidden()
        expect(field).to_have_value("")
        page.unroute("**/v1/datasets")
        assert api.get("/v1/datasets").json()["data"][0]["id"] == before


IN_PARTS = """async ([size, part]) => {
  const { inParts } = await import("/ui/static/new/transfer.js");
  const bytes = new Uint8Array(size).map((_, at) => at % 251);
  const shares = [];
  const id = await inParts(new File([bytes], "large.npz"), { onProgress: (one) => shares.push(one), part });
  return [id, shares.at(-1)];
}"""
GIVEN_UP = """async (size) => {
  const { inParts } = await import("/ui/static/new/transfer.js");
  const controller = new AbortController();
  setTimeout(() => controller.abort(), 0);
  const file = new File([new Uint8Array(size)], "given-up.npz");
  try { await inParts(file, { signal: controller.signal, part: 65536 }); }
  catch (error) { return error.name; }
}"""


def test_a_large_file_goes_in_parts_and_a_cancelled_one_leaves_nothing(
    browser: Browser, explored: Explored
) -> None:
    with signed_in(browser, explored.service) as page, explored.service.client() as api:
        page.goto("/jobs/new")
        upload, share = page.evaluate(IN_PARTS, [200_000, 65_536])
        assert share == 1
        found = api.get(f"/v1/uploads/{upload}").json()
        assert (found["status"], found["bytes"], len(found["parts"])) == ("complete", 200_000, 4)
        assert found["sha256"] == hashlib.sha256(bytes(at % 251 for at in range(200_000))).hexdigest()
        assert api.delete(f"/v1/uploads/{upload}").status_code == 204
        assert page.evaluate(GIVEN_UP, 5_000_000) == "AbortError"
        assert "given-up.npz" not in {one["filename"] for one in api.get("/v1/uploads").json()["data"]}


STEPS = """async (names) => {
  const { guess } = await import("/ui/static/new/steps.js");
  return names.map(([name, perEpoch]) => guess(name, perEpoch));
}"""


def test_steps_are_guessed_from_the_names_of_files(browser: Browser, explored: Explored) -> None:
    names = {
        ("938.safetensors", None): 938,
        ("step_0020.safetensors", None): 20,
        ("resnet18-step-400.safetensors", 7): 400,
        ("epoch=3-step=150.safetensors", 7): 150,
        ("epoch_3.safetensors", 20): 60,
        ("epoch_3.safetensors", None): None,
        ("v2_checkpoint-500.safetensors", None): 500,
        ("final.safetensors", 20): None,
    }
    with signed_in(browser, explored.service) as page:
        page.goto("/jobs/new")
        found = page.evaluate(STEPS, [list(name) for name in names])
    assert dict(zip(names, found, strict=True)) == names
