"""Files that a worker fetches by their `uri`: kept and counted as uploads are, or refused in words."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session

from app.settings import MIB, Quota, Settings
from app.store import datasets, fetching, sweeper, trajectories, usage, work
from app.store.blobs import BlobStore
from app.store.db import Database
from app.store.fetching import Wanted
from app.store.tables import Checkpoint, Dataset, Trajectory, TrajectoryFile, Work
from tests.chaos.rows import wait_until
from tests.web_store import WebStore, serving
from worker import fetch, lease, run
from worker.process import Process

NETWORK = {"architecture": {}, "task": {"type": "classification"}, "preprocessing": {}, "optimizer": {}}
MOST = 10 * MIB


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "sets").mkdir()
    return tmp_path / "sets"


@pytest.fixture
def mine(database: Database, blobs: BlobStore, folder: Path) -> Process:
    settings = Settings(
        data_dir=folder.parent / "own",
        uri_prefixes=f"file://{folder}/,http://127.0.0.1:1/",
        uri_allow="127.0.0.0/8",
        project_quotas={"small": Quota(bytes=1000)},
        lease_seconds=1,
        max_attempts=2,
    )
    return Process(settings, database, blobs, "a worker")


@pytest.fixture
def web(mine: Process) -> Iterator[WebStore]:
    with serving(WebStore(b"of the web")) as store:
        mine.settings.uri_prefixes = store.url
        yield store


def wanted(*uris: str, most: int = MOST) -> dict[str, Wanted]:
    """A data set's file, and its tokenizer if there is another."""
    roles = (fetching.FILE, fetching.TOKENIZER)
    return {role: Wanted(uri=uri, most=most) for role, uri in zip(roles, uris, strict=False)}


def named(mine: Process, *uris: str, project_id: str = "p", most: int = MOST) -> str:
    about: dict[str, Any] = {"project_id": project_id, "format": "npz", "filename": "a.npz", "options": {}}
    with mine.database.transaction() as session:
        given = wanted(*uris, most=most)
        return datasets.create(session, "", wanted=given, uri=uris[0], bytes=0, **about).id


def unit(mine: Process, subject: str, kind: str = work.FETCHED) -> Work | None:
    with mine.database.snapshot() as session:
        return next(iter(work.of(session, subject, kind)), None)


def do(mine: Process, subject: str) -> None:
    """The fetching of what `subject` is made of."""
    row = unit(mine, subject)
    assert row is not None and row.status == "queued"
    claimed = run._claim(mine, row)
    assert claimed is not None
    run._attempt(mine, claimed)


def found(mine: Process, dataset_id: str) -> Dataset:
    with mine.database.snapshot() as session:
        return session.get_one(Dataset, dataset_id)


def error_of(mine: Process, dataset_id: str) -> tuple[str, str]:
    """(code, words) of why it is invalid; nothing else is left of it."""
    dataset = found(mine, dataset_id)
    assert (dataset.status, dataset.source_blob, dataset.sha256) == ("invalid", None, "")
    assert dataset.error is not None
    with mine.database.snapshot() as session:
        assert session.scalars(select(Work).where(Work.subject == dataset_id)).all() == []
    assert list(mine.blobs.staging.iterdir()) == []
    return dataset.error["code"], dataset.error["detail"]


def path_of(mine: Process, sha256: str) -> Path:
    with mine.database.snapshot() as session:
        return mine.blobs.path(session, sha256)


# ---------------------------------------------------------------- what comes
def test_what_was_fetched_is_kept_as_an_upload_is_and_validated_next(mine: Process, folder: Path) -> None:
    (folder / "a.npz").write_bytes(b"arrays" * 1000)
    dataset_id = named(mine, f"file://{folder}/a.npz")
    before = unit(mine, dataset_id, "validate")
    assert before is not None and before.status == "waiting"
    do(mine, dataset_id)
    dataset, sha256 = found(mine, dataset_id), hashlib.sha256(b"arrays" * 1000).hexdigest()
    assert (dataset.status, dataset.bytes, dataset.sha256) == ("validating", 6000, sha256)
    assert dataset.source_blob == sha256
    assert path_of(mine, sha256).read_bytes() == b"arrays" * 1000
    after = unit(mine, dataset_id, "validate")
    assert after is not None and after.status == "queued"


def test_the_same_content_is_kept_once(mine: Process, folder: Path) -> None:
    for name in ("a", "b"):
        (folder / f"{name}.npz").write_bytes(b"arrays")
        do(mine, named(mine, f"file://{folder}/{name}.npz"))
    assert len(list(mine.blobs.place.old(-60))) == 1
    assert list(mine.blobs.staging.iterdir()) == []


def test_a_tokenizer_comes_along(mine: Process, folder: Path) -> None:
    for name in ("a.csv", "tokenizer.json"):
        (folder / name).write_bytes(name.encode())
    do(mine, dataset_id := named(mine, *(f"file://{folder}/{name}" for name in ("a.csv", "tokenizer.json"))))
    dataset = found(mine, dataset_id)
    assert dataset.tokenizer_blob == hashlib.sha256(b"tokenizer.json").hexdigest()
    assert (dataset.bytes, dataset.sha256) == (5, hashlib.sha256(b"a.csv").hexdigest())


def of_a_graph(mine: Process, session: Session) -> tuple[Trajectory, TrajectoryFile]:
    """A run, and the file of its network, which is yet to be read."""
    row = trajectories.create(session, project_id="p", **NETWORK)
    session.flush()
    with mine.blobs.stage() as staged:
        staged.write_bytes(b"a graph")
        graph = mine.blobs.keep(session, staged)
    return row, trajectories.add_file(session, row, "architecture", graph, filename="n.onnx", bytes=7)


def test_a_checkpoint_is_fetched_once_its_network_is_known(mine: Process, folder: Path) -> None:
    for name in ("10.safetensors", "state.safetensors"):
        (folder / name).write_bytes(name.encode())
    files = {fetching.FILE: "10", fetching.OPTIMIZER: "state"}
    given = {r: Wanted(uri=f"file://{folder}/{n}.safetensors", most=MOST) for r, n in files.items()}
    with mine.database.transaction() as session:
        row, file = of_a_graph(mine, session)
        about: dict[str, Any] = {"filename": "10.safetensors", "bytes": 0, "step": 10, "learning_rate": 0.1}
        told = {"filename": "state.safetensors", "uri": "…", "bytes": None, "sha256": None}
        made = trajectories.add_checkpoint(session, row, "", wanted=given, optimizer_file=told, **about)
    units = [unit(mine, made.id, kind) for kind in (work.FETCHED, "validate")]
    assert [one.status for one in units if one] == ["waiting", "waiting"]
    with mine.blobs.stage() as staged, mine.database.transaction() as session:
        staged.write_bytes(b"canonical")
        session.get_one(Trajectory, row.id, with_for_update=True)
        trajectories.ready(session, mine.blobs, session.merge(file), {}, staged)
    do(mine, made.id)
    with mine.database.snapshot() as session:
        checkpoint = session.get_one(Checkpoint, made.id)
    assert checkpoint.blob == checkpoint.sha256 == hashlib.sha256(b"10.safetensors").hexdigest()
    state = hashlib.sha256(b"state.safetensors").hexdigest()
    assert checkpoint.optimizer_blob == state
    assert checkpoint.optimizer_file == told | {"bytes": 17, "sha256": state}
    validation = unit(mine, made.id, "validate")
    assert validation is not None and validation.status == "queued"


def test_a_refused_network_refuses_what_would_have_been_fetched(mine: Process, folder: Path) -> None:
    with mine.database.transaction() as session:
        row, file = of_a_graph(mine, session)
        about: dict[str, Any] = {"filename": "c", "bytes": 0, "step": 10, "learning_rate": 0.1}
        given = wanted(f"file://{folder}/c")
        made = trajectories.add_checkpoint(session, row, "", wanted=given, **about)
        trajectories.invalid(session, mine.blobs, file, {"detail": "no"})
    assert unit(mine, made.id) is None
    with mine.database.snapshot() as session:
        assert session.get_one(Checkpoint, made.id).status == "invalid"


# ---------------------------------------------------------------- what does not
@pytest.mark.parametrize(
    ("act", "code", "words"),
    [
        (lambda _file: None, "source_not_found", "a.npz"),
        (lambda file: file.write_bytes(b""), "empty_file", "no bytes"),
        (lambda file: file.write_bytes(bytes(101)), "payload_too_large", "101 bytes; 100 at most"),
        (lambda file: file.symlink_to("/etc/passwd"), "source_refused", "link"),
    ],
)
def test_what_is_not_to_be_had_ends_as_invalid_in_words(
    mine: Process, folder: Path, act: Callable[[Path], object], code: str, words: str
) -> None:
    act(folder / "a.npz")
    do(mine, dataset_id := named(mine, f"file://{folder}/a.npz", most=100))
    assert error_of(mine, dataset_id)[0] == code
    assert words in error_of(mine, dataset_id)[1]
    error = found(mine, dataset_id).error
    assert error is not None and error["fault"] == "user"


def test_the_worker_judges_the_uri_again(mine: Process, folder: Path) -> None:
    secret = folder.parent / "secret"
    secret.write_bytes(b"secret")
    do(mine, one := named(mine, f"file://{secret}"))
    assert error_of(mine, one)[0] == "uri_not_allowed"
    do(mine, two := named(mine, f"file://{folder}/../secret"))
    assert error_of(mine, two)[0] == "uri_not_allowed"


def test_a_prefix_with_the_project_is_that_projects_alone(mine: Process, folder: Path) -> None:
    mine.settings.uri_prefixes = f"file://{folder}/{{project}}/"
    (folder / "theirs").mkdir()
    (folder / "theirs" / "a.npz").write_bytes(b"arrays")
    uri = f"file://{folder}/theirs/a.npz"
    do(mine, ours := named(mine, uri, project_id="ours"))
    assert error_of(mine, ours)[0] == "uri_not_allowed"
    do(mine, theirs := named(mine, uri, project_id="theirs"))
    assert found(mine, theirs).bytes == 6


@pytest.fixture
def nothing_comes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetch._Arriving, "take", lambda *_: pytest.fail("it was fetched"))


@pytest.mark.usefixtures("nothing_comes")
def test_a_file_that_does_not_fit_into_the_quota_is_refused_before_it_comes(
    mine: Process, web: WebStore
) -> None:
    web.content = bytes(1001)
    do(mine, dataset_id := named(mine, f"{web.url}a.npz", project_id="small"))
    code, words = error_of(mine, dataset_id)
    assert code == "quota_exceeded" and "1,001" in words


def stored(mine: Process, **without: str) -> int:
    with mine.database.snapshot() as session:
        return usage.stored(session, "small", **without)


def test_files_on_their_way_count_to_the_quota(mine: Process, web: WebStore) -> None:
    """Of two files that would fit one by one, the one that is announced second is refused."""
    web.content = bytes(600)
    go_on = threading.Event()
    web.before = lambda _sent: go_on.wait(30)
    one, two = (named(mine, f"{web.url}{name}.npz", project_id="small") for name in ("a", "b"))
    thread = threading.Thread(target=do, args=(mine, one))
    thread.start()
    try:
        wait_until(lambda: stored(mine) == 600, "announced", seconds=15)
        assert stored(mine, without=one) == 0
        do(mine, two)
        error = found(mine, two).error
        assert error is not None and error["code"] == "quota_exceeded"
    finally:
        go_on.set()
        thread.join()
    assert found(mine, one).bytes == 600
    assert stored(mine) == 600


def test_what_the_project_has_already_takes_no_more(mine: Process, web: WebStore) -> None:
    web.content = bytes(400)
    for name in ("a", "b"):
        do(mine, named(mine, f"{web.url}{name}.npz", project_id="small"))
    assert stored(mine) == 400


# ---------------------------------------------------------------- what goes wrong on the way
def test_a_store_that_is_away_is_asked_again_after_a_while(mine: Process, web: WebStore) -> None:
    web.status = 503
    do(mine, dataset_id := named(mine, f"{web.url}a.npz"))
    row = unit(mine, dataset_id)
    assert row is not None and (row.status, row.failures) == ("queued", 1)
    assert row.due_at is not None and row.rung_at is None
    assert found(mine, dataset_id).status == "validating"
    web.status = 200
    do(mine, dataset_id)
    assert found(mine, dataset_id).bytes == len(web.content)


def test_one_that_stays_away_is_the_services_fault(mine: Process, web: WebStore) -> None:
    web.status = 503
    dataset_id = named(mine, f"{web.url}a.npz")
    for _ in range(mine.settings.max_attempts):
        do(mine, dataset_id)
    code, words = error_of(mine, dataset_id)
    assert code == "store_away" and "503" in words
    error = found(mine, dataset_id).error
    assert error is not None and error["fault"] == "service"


def test_one_that_gives_too_slowly_is_given_up(mine: Process, web: WebStore) -> None:
    web.content, mine.settings.uri_seconds = bytes(4 * MIB), 0.3
    web.before = lambda sent: sent and threading.Event().wait(0.05)
    do(mine, dataset_id := named(mine, f"{web.url}a.npz"))
    row = unit(mine, dataset_id)
    assert row is not None and (row.status, row.failures) == ("queued", 1)
    assert list(mine.blobs.staging.iterdir()) == []


def test_a_disk_without_room_for_it_is_not_filled(
    mine: Process, web: WebStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(BlobStore, "free", lambda _self: len(web.content) - 1)
    do(mine, dataset_id := named(mine, f"{web.url}a.npz"))
    row = unit(mine, dataset_id)
    assert row is not None and (row.status, row.failures, row.total) == ("queued", 1, 0)
    monkeypatch.undo()
    do(mine, dataset_id)
    assert found(mine, dataset_id).bytes == len(web.content)


def test_a_file_that_is_deleted_on_its_way_is_dropped(mine: Process, web: WebStore) -> None:
    web.content = bytes(4 * MIB)
    dataset_id = named(mine, f"{web.url}a.npz")

    gone: list[int] = []

    def delete(sent: int) -> None:
        gone.append(sent)
        if sent == MIB:
            with mine.database.transaction() as session:
                datasets.delete(session, mine.blobs, session.get_one(Dataset, dataset_id))
        if sent > MIB:
            threading.Event().wait(0.1)  # the lease is looked at every quarter of a second

    web.before = delete
    do(mine, dataset_id)
    assert max(gone) < 3 * MIB, "it was fetched to its end"
    assert list(mine.blobs.staging.iterdir()) == []
    assert list(mine.blobs.place.old(-60)) == []
    with mine.database.snapshot() as session:
        assert session.scalars(select(Work)).all() == []
        assert usage.stored(session, "p") == 0


def test_what_a_dead_worker_held_is_fetched_from_the_start(mine: Process, web: WebStore) -> None:
    dataset_id = named(mine, f"{web.url}a.npz")
    row = unit(mine, dataset_id)
    assert row is not None
    with mine.database.transaction() as session:
        claimed = work.claim(session, row.id, row.attempt, "a worker that dies", -1)
    assert claimed is not None
    sweeper.sweep(mine.database, mine.blobs, max_attempts=5, lease_seconds=1)
    again = unit(mine, dataset_id)
    assert again is not None and (again.status, again.attempt) == ("queued", 2)
    do(mine, dataset_id)
    assert found(mine, dataset_id).bytes == len(web.content)


def test_a_worker_that_is_to_stop_gives_it_back_and_counts_no_failure(
    mine: Process, web: WebStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lease, "GRACE_SECONDS", 0.2)
    monkeypatch.setattr(run, "stopping", told := threading.Event())
    web.content, gone = bytes(4 * MIB), []

    def before(sent: int) -> None:
        gone.append(sent)
        if sent > MIB:
            told.set()
            threading.Event().wait(0.1)

    web.before = before
    do(mine, dataset_id := named(mine, f"{web.url}a.npz"))
    row = unit(mine, dataset_id)
    assert row is not None and (row.status, row.attempt, row.failures) == ("queued", 2, 0)
    assert max(gone) < 3 * MIB
    assert list(mine.blobs.staging.iterdir()) == []


def test_a_fetch_that_fails_takes_nothing_from_what_the_worker_has_at_hand(
    mine: Process, web: WebStore
) -> None:
    mine.at_hand["job_id"] = "job_1"
    web.status = 503
    dataset_id = named(mine, f"{web.url}a.npz")
    assert run.Fetchers(mine)._once()
    row = unit(mine, dataset_id)
    assert row is not None and row.failures == 1
    assert mine.at_hand == {"job_id": "job_1"}


def test_threads_fetch_beside_what_the_worker_computes(mine: Process, web: WebStore) -> None:
    """Nothing rings for them, and a file that takes its time holds up no other."""
    rung: list[Any] = []
    mine.database.ring = rung.extend
    slow, go_on = threading.Event(), threading.Event()

    def before(_sent: int) -> None:
        if len(web.asked) == 1:
            slow.set()
            go_on.wait(30)

    web.before = before
    fetchers = run.Fetchers(mine)
    fetchers.start()
    try:
        one = named(mine, f"{web.url}a.npz")
        assert slow.wait(30)
        two = named(mine, f"{web.url}b.npz", project_id="q")
        wait_until(lambda: found(mine, two).bytes, "fetched")
        assert found(mine, one).bytes == 0
        go_on.set()
        wait_until(lambda: found(mine, one).bytes, "fetched")
    finally:
        go_on.set()
        fetchers.stop()
    assert {message.task for message in rung} == {"diffin.validate"}
