"""Stores that a `uri` names files of: what comes is one version, whole, and from nowhere else."""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import obstore
import pytest
from obstore.store import S3Store

from app.settings import Settings
from app.uris import Named
from tests import buckets, servers
from tests.receivers import certified
from tests.web_store import WebStore, serving
from worker import stores
from worker.problems import StoreAwayError, UserError

CONTENT = np.random.default_rng(0).bytes(300_000)


@dataclass
class Taken:
    """A sink that keeps what comes; `after(n)` is called once n bytes have."""

    after: Callable[[int], object] = lambda _size: None
    size: int = -1
    pieces: list[bytes] = field(default_factory=list)

    def announce(self, size: int) -> None:
        self.size = size

    def take(self, piece: bytes) -> None:
        self.pieces.append(piece)
        self.after(len(self.content))

    @property
    def content(self) -> bytes:
        return b"".join(self.pieces)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(data_dir=tmp_path / "own", uri_allow="127.0.0.0/8")


def once(act: Callable[[], object]) -> Callable[[int], None]:
    """Does it after the first piece."""
    done: list[int] = []

    def after(size: int) -> None:
        if not done:
            done.append(size)
            act()

    return after


def refused(code: str, get: Callable[[], object]) -> str:
    """The words of the refusal."""
    with pytest.raises(UserError) as error:
        get()
    assert error.value.problem["code"] == code, error.value
    words: str = error.value.problem["detail"]
    return words


# ---------------------------------------------------------------- buckets
@pytest.fixture
def bucket(s3_server: str, monkeypatch: pytest.MonkeyPatch) -> S3Store:
    """An empty bucket, for the whole of it."""
    return S3Store(buckets.reached(s3_server, monkeypatch), client_options={"allow_http": True})


def below(bucket: S3Store, path: str, prefix: str = "sets/") -> Named:
    return Named(f"s3://{bucket.config['bucket']}/{prefix}", path)


@pytest.mark.parametrize("path", ["a.npz", "2026/my data é+=&@.npz", "a:b,c.npz"])
def test_an_object_comes_in_parts(bucket: S3Store, path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stores, "PART", 100_001)
    obstore.put(bucket, f"sets/{path}", CONTENT)
    stores.from_bucket(below(bucket, path), sink := Taken())
    assert (sink.content, sink.size) == (CONTENT, len(CONTENT))
    assert [len(piece) for piece in sink.pieces] == [100_001, 100_001, 99_998]


def test_an_object_that_changes_meanwhile_is_refused(
    bucket: S3Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stores, "PART", 100_000)
    for other in (CONTENT[::-1], CONTENT[:10], CONTENT * 2):
        obstore.put(bucket, "sets/a.npz", CONTENT)
        sink = Taken(once(partial(obstore.put, bucket, "sets/a.npz", other)))
        refused("source_changed", partial(stores.from_bucket, below(bucket, "a.npz"), sink))
        assert sink.content == CONTENT[:100_000]


@pytest.mark.parametrize("tag", ['"one"', None], ids=["ETag", "none"])
def test_a_bucket_that_heeds_no_condition_is_held_to_its_first_answer(
    bucket: S3Store, monkeypatch: pytest.MonkeyPatch, tag: str | None
) -> None:
    monkeypatch.setattr(stores, "PART", 100_000)
    monday, tuesday = (f"{day} Jan 2024 00:00:00 GMT" for day in ("Mon, 01", "Tue, 02"))
    with serving(WebStore(CONTENT, headers={"ETag": tag, "Last-Modified": monday})) as web:
        monkeypatch.setenv("AWS_ENDPOINT_URL", web.url)
        stores.from_bucket(below(bucket, "a.npz"), sink := Taken())
        assert sink.content == CONTENT
        changes = {"ETag": tag and '"two"', "Last-Modified": monday if tag else tuesday}
        sink = Taken(once(partial(setattr, web, "headers", changes)))
        refused("source_changed", partial(stores.from_bucket, below(bucket, "a.npz"), sink))
        assert sink.content == CONTENT[:100_000]


def test_an_object_that_is_not_there_or_not_given_is_told(
    bucket: S3Store, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    obstore.put(bucket, "a.npz", CONTENT)
    words = refused("source_not_found", lambda: stores.from_bucket(below(bucket, "a.npz"), Taken()))
    assert below(bucket, "a.npz").uri in words
    absent = Named("s3://no-such-bucket/", "a.npz")
    refused("source_not_found", lambda: stores.from_bucket(absent, Taken()))
    with serving(WebStore(status=403)) as denying:
        monkeypatch.setenv("AWS_ENDPOINT_URL", denying.url)
        refused("source_forbidden", lambda: stores.from_bucket(below(bucket, "a.npz"), Taken()))


def test_a_bucket_that_does_not_answer_is_away(bucket: S3Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stores, "PATIENCE", timedelta(seconds=0.2))
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{servers.free_port()}")
    with pytest.raises(StoreAwayError, match="s3://"):
        stores.from_bucket(below(bucket, "a.npz"), Taken())


# ---------------------------------------------------------------- folders
@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "sets" / "inner").mkdir(parents=True)
    (tmp_path / "secret").write_bytes(b"secret")
    (tmp_path / "sets" / "inner" / "a b.npz").write_bytes(CONTENT)
    return tmp_path / "sets"


def within(folder: Path, path: str) -> Named:
    return Named(f"file://{folder}/", path)


def test_a_file_comes_in_pieces(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stores, "PIECE", 100_001)
    stores.from_folder(within(folder, "inner/a b.npz"), sink := Taken())
    assert (sink.content, sink.size) == (CONTENT, len(CONTENT))
    assert max(map(len, sink.pieces)) == 100_001


def test_no_link_leads_out_of_a_folder(folder: Path) -> None:
    (folder / "link").symlink_to("../secret")
    (folder / "absolute").symlink_to(folder.parent / "secret")
    (folder / "up").symlink_to("..")
    (folder / "inner" / "loop").symlink_to("loop")
    (folder / "kind").symlink_to("inner")  # within, and none the less a link
    for path in ("link", "absolute", "up/secret", "inner/loop", "kind/a b.npz", "up/sets/inner/a b.npz"):
        sink = Taken()
        refused("source_refused", partial(stores.from_folder, within(folder, path), sink))
        assert sink.size == -1, path


def test_a_folder_that_becomes_a_link_meanwhile_leads_nowhere_else(folder: Path) -> None:
    """Whichever of the two is there when it is asked for, the secret never is."""
    (folder / "real").mkdir()
    (folder / "real" / "secret").write_bytes(b"public")
    (folder / "bent").symlink_to("..")
    halt = threading.Event()

    def swap() -> None:
        while not halt.is_set():
            for one, other in (("real", "there"), ("there", "real"), ("bent", "there"), ("there", "bent")):
                with suppress(OSError):
                    (folder / one).rename(folder / other)

    thread = threading.Thread(target=swap)
    thread.start()
    try:
        ways = {"source_refused": 0, "source_not_found": 0, "": 0}
        end = time.monotonic() + 30
        while min(ways.values()) < 20:
            assert time.monotonic() < end, ways
            sink, code = Taken(), ""
            try:
                stores.from_folder(within(folder, "there/secret"), sink)
            except UserError as error:
                code = error.problem["code"]
            assert sink.content == (b"" if code else b"public")
            ways[code] += 1
    finally:
        halt.set()
        thread.join()


def test_only_plain_files_are_read(folder: Path) -> None:
    os.mkfifo(folder / "pipe")
    with socket.socket(socket.AF_UNIX) as listener:
        here = Path.cwd()
        os.chdir(folder)  # the path of a socket is short
        listener.bind("socket")
        os.chdir(here)
        for path in ("pipe", "socket", "inner", "inner/a b.npz/c"):
            words = refused("source_refused", partial(stores.from_folder, within(folder, path), Taken()))
            assert "link" in words
    for path in ("nothing", "inner/nothing", "n" * 300):
        refused("source_not_found", partial(stores.from_folder, within(folder, path), Taken()))


def test_a_file_that_changes_meanwhile_is_refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stores, "PIECE", 100_000)
    file = folder / "inner" / "a b.npz"
    acts: list[Callable[[], object]] = [partial(file.write_bytes, one) for one in (CONTENT[:10], CONTENT * 2)]
    acts.append(partial(os.utime, file))
    for act in acts:
        file.write_bytes(CONTENT)
        sink = Taken(once(act))
        refused("source_changed", partial(stores.from_folder, within(folder, "inner/a b.npz"), sink))


def test_a_folder_that_is_not_mounted_is_away(tmp_path: Path) -> None:
    with pytest.raises(StoreAwayError, match="No such file"):
        stores.from_folder(within(tmp_path / "mount", "a.npz"), Taken())


# ---------------------------------------------------------------- the web
@pytest.fixture
def web() -> Iterator[WebStore]:
    with serving(WebStore(CONTENT)) as store:
        yield store


def at(web: WebStore, path: str = "pub/my%20data.npz") -> Named:
    return Named(web.url, path)


def answering(*addresses: str) -> Any:
    """A resolver that gives one after the other, the last one for ever."""
    left = list(addresses)

    def lookup(_host: str, port: int, **_: Any) -> list[Any]:
        address = left.pop(0) if len(left) > 1 else left[0]
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port))]

    return lookup


def test_a_file_of_the_web_comes_as_it_is(web: WebStore, settings: Settings) -> None:
    stores.bring(settings, at(web), sink := Taken())
    assert (sink.content, sink.size) == (CONTENT, len(CONTENT))
    ((path, headers),) = web.asked
    assert path == "/pub/my%20data.npz"
    assert headers["accept-encoding"] == "identity"
    assert not headers.keys() & {"authorization", "cookie"}


def test_a_resolver_that_changes_its_answer_changes_nothing(
    web: WebStore, settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    named = Named(web.url.replace("127.0.0.1", "files.example"), "a.npz")
    lookup = answering("127.0.0.1", "169.254.169.254")
    stores.from_web(named, sink := Taken(), settings, lookup)
    assert sink.content == CONTENT  # from the address that was judged
    assert web.asked[0][1]["host"].startswith("files.example:")
    words = refused("source_refused", lambda: stores.from_web(named, Taken(), settings, lookup))
    assert "169.254.169.254" in caplog.text and "169.254.169.254" not in words  # the operator's alone
    assert len(web.asked) == 1


def test_without_leave_nothing_is_fetched_from_within(web: WebStore, settings: Settings) -> None:
    settings.uri_allow = ""
    words = refused("source_refused", lambda: stores.bring(settings, at(web), Taken()))
    assert "no address that this service fetches from" in words
    assert web.asked == []


def test_a_name_that_nobody_knows_is_away(settings: Settings) -> None:
    def unknown(*_: Any, **__: Any) -> Any:
        raise socket.gaierror("temporary failure in name resolution")

    with pytest.raises(StoreAwayError, match="temporary failure"):
        stores.from_web(Named("https://files.example/", "a.npz"), Taken(), settings, unknown)


def test_the_certificate_must_be_the_names(settings: Settings, tmp_path: Path) -> None:
    served, trust = certified(tmp_path, "files.example")
    lookup = answering("127.0.0.1")
    with serving(WebStore(CONTENT), trust=served) as web:
        good = Named(web.url.replace("127.0.0.1", "files.example"), "a.npz")
        stores.from_web(good, sink := Taken(), settings, lookup, trust)
        assert sink.content == CONTENT
        other = Named(web.url.replace("127.0.0.1", "other.example"), "a.npz")
        with pytest.raises(StoreAwayError, match="CERTIFICATE_VERIFY_FAILED"):
            stores.from_web(other, Taken(), settings, lookup, trust)
        assert len(web.asked) == 1


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308, 300, 304])
def test_redirects_are_not_followed(web: WebStore, settings: Settings, status: int) -> None:
    with serving() as inner:
        web.status, web.headers = status, {"Location": f"{inner.url}secret", "Content-Length": "0"}
        assert str(status) in refused("source_refused", lambda: stores.bring(settings, at(web), Taken()))
        assert inner.asked == []


@pytest.mark.parametrize(
    ("status", "headers", "code"),
    [
        (404, {}, "source_not_found"),
        (410, {}, "source_not_found"),
        (401, {}, "source_forbidden"),
        (403, {}, "source_forbidden"),
        (206, {}, "source_refused"),
        (418, {}, "source_refused"),
        (200, {"Content-Length": None}, "source_refused"),
        (200, {"Content-Length": None, "Transfer-Encoding": "chunked"}, "source_refused"),
        (200, {"Content-Encoding": "gzip"}, "source_refused"),
    ],
)
def test_other_answers_are_refused(
    web: WebStore, settings: Settings, status: int, headers: dict[str, str | None], code: str
) -> None:
    web.status, web.headers = status, headers
    sink = Taken()
    refused(code, lambda: stores.bring(settings, at(web), sink))
    assert sink.size == -1


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503])
def test_answers_of_a_moment_may_be_others_in_a_while(web: WebStore, settings: Settings, status: int) -> None:
    web.status = status
    with pytest.raises(StoreAwayError, match=str(status)):
        stores.bring(settings, at(web), Taken())


def test_a_body_that_breaks_off_is_tried_again(web: WebStore, settings: Settings) -> None:
    web.headers = {"Content-Length": str(len(CONTENT) + 1)}
    with pytest.raises(StoreAwayError):
        stores.bring(settings, at(web), Taken())


def test_a_host_that_says_nothing_or_drips_is_not_waited_for(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stores, "HEAD_SECONDS", 0.5)
    with socket.create_server(("127.0.0.1", 0)) as server:

        def drip() -> None:
            connection, _ = server.accept()
            with connection, suppress(OSError):
                for _ in range(100):
                    connection.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
                    time.sleep(0.05)

        thread = threading.Thread(target=drip)
        thread.start()
        began = time.monotonic()
        with pytest.raises(StoreAwayError, match="says nothing"):
            stores.bring(settings, Named(f"http://127.0.0.1:{server.getsockname()[1]}/", "a.npz"), Taken())
        assert time.monotonic() - began < 3
        thread.join()
    monkeypatch.setattr(stores, "SILENT_SECONDS", 0.3)
    with serving(WebStore(CONTENT, before=lambda sent: time.sleep(1.5 if sent else 0))) as web:
        with pytest.raises(StoreAwayError):
            stores.bring(settings, at(web), sink := Taken())
        assert 0 < len(sink.content) < len(CONTENT)
