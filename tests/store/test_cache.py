"""Copies of remote blobs: bounded, the ones used last, never taken from under whoever holds one."""

from __future__ import annotations

import gc
import hashlib
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from app.store.cache import Cache

HOLD = """
import sys
from pathlib import Path
from app.store.cache import Cache
folder, sha256 = Path(sys.argv[1]), sys.argv[2]
held = Cache(folder / "cache", folder / "staging", 10).path(sha256, lambda: iter([b"x" * 10]))
print("held", flush=True)
sys.stdin.read()
"""


def content(number: int) -> bytes:
    return b"%010d" % number


def name(number: int) -> str:
    return hashlib.sha256(content(number)).hexdigest()


def fetch(number: int) -> Callable[[], Iterator[bytes]]:
    return lambda: iter([content(number)[:4], content(number)[4:]])


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    """Room for five files."""
    return Cache(tmp_path / "cache", tmp_path / "staging", 50)


def here(cache: Cache) -> set[str]:
    return {path.name for path in cache.folder.glob("*/*")}


def never() -> Iterator[bytes]:
    raise AssertionError("it is there")


def test_what_was_used_last_stays(cache: Cache) -> None:
    for number in range(5):
        assert cache.path(name(number), fetch(number)).read_bytes() == content(number)
        time.sleep(0.01)
    cache.path(name(0), never)
    time.sleep(0.01)
    cache.path(name(5), fetch(5))
    assert here(cache) == {name(number) for number in (0, 3, 4, 5)}  # a tenth is to spare


def test_a_path_that_is_held_keeps_its_file(cache: Cache) -> None:
    held = [cache.path(name(number), fetch(number)) for number in range(8)]
    assert [path.read_bytes() for path in held] == [content(number) for number in range(8)]
    del held
    gc.collect()
    cache.path(name(8), fetch(8))
    assert len(here(cache)) <= 5


def test_another_process_holds_as_well_until_it_is_gone(cache: Cache, tmp_path: Path) -> None:
    sha256 = hashlib.sha256(b"x" * 10).hexdigest()
    command = [sys.executable, "-c", HOLD, str(tmp_path), sha256]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout
        assert other.stdout.readline() == b"held\n"
        for number in range(10):
            cache.path(name(number), fetch(number))
        assert sha256 in here(cache)
        cache.drop(sha256)
        assert sha256 in here(cache)
        other.kill()
    cache.drop(sha256)
    assert sha256 not in here(cache)


def test_threads_that_want_the_same_fetch_it_once(cache: Cache) -> None:
    fetched: list[int] = []

    def slowly() -> Iterator[bytes]:
        fetched.append(1)
        time.sleep(0.2)
        yield content(1)

    threads = [threading.Thread(target=cache.path, args=(name(1), slowly)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert fetched == [1]
    assert here(cache) == {name(1)}


def test_other_bytes_are_refused_and_not_kept(cache: Cache, tmp_path: Path) -> None:
    with pytest.raises(OSError, match="other bytes"):
        cache.path(name(1), fetch(2))
    assert here(cache) == set()
    assert list((tmp_path / "staging").iterdir()) == []
    assert cache.path(name(1), fetch(1)).read_bytes() == content(1)
