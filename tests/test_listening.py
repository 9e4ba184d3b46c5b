"""What is refused before anything listens: keys that can be guessed, where strangers could try."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from app.settings import Settings

ROOT = Path(__file__).parents[1]
STRONG = "5e8c0b1f7a3d9264e1c7"


def settings(folder: Path, **given: object) -> Settings:
    return Settings(data_dir=folder, **given)  # type: ignore[arg-type]


@pytest.mark.parametrize("key", ["short", "a" * 40, "change-me-too-0123456789", "abcabcabcabcabcabcabcabc"])
def test_a_key_that_can_be_guessed_is_known_as_one(tmp_path: Path, key: str) -> None:
    why = settings(tmp_path, api_key=key, secret_key=STRONG).guessable()
    assert why is not None
    assert "DIFFIN_API_KEY" in why
    assert key not in why
    why = settings(tmp_path, api_key=STRONG, secret_key=key).guessable()
    assert why is not None
    assert "DIFFIN_SECRET_KEY" in why


def test_keys_made_by_the_service_cannot_be_guessed(tmp_path: Path) -> None:
    assert settings(tmp_path).guessable() is None
    assert settings(tmp_path, api_key=STRONG, secret_key=STRONG).guessable() is None


@pytest.mark.parametrize(
    ("host", "public"),
    [
        ("127.0.0.1", False),
        ("::1", False),
        ("localhost", False),
        ("0.0.0.0", True),  # noqa: S104
        ("::", True),
        ("h", True),
    ],
)
def test_only_loopback_is_out_of_strangers_reach(tmp_path: Path, host: str, public: bool) -> None:
    assert settings(tmp_path, host=host).public is public


def test_the_first_key_may_stand_in_a_file(tmp_path: Path) -> None:
    file = tmp_path / "key"
    file.write_text(f"{STRONG}\n")
    assert settings(tmp_path, api_key_file=file).first_key == STRONG
    with pytest.raises(ValueError, match="not both"):
        settings(tmp_path, api_key_file=file, api_key=STRONG)


AT_ONCE = """
import os, pathlib, sys
from app.settings import Settings
for turn in range(100):
    folder = pathlib.Path(sys.argv[1], str(turn))
    mine, (wait, go) = Settings(data_dir=folder), os.pipe()
    started = [pid for pid in (os.fork() for _ in range(3)) if pid]
    os.close(go)  # the last one to close it lets all go
    os.read(wait, 1)
    os.write(1, f"{turn} {mine.first_key}\\n".encode())
    os.close(wait)
    if len(started) < 3:
        os._exit(0)
    for pid in started:
        os.waitpid(pid, 0)
"""


def test_processes_that_make_a_key_at_once_make_one(tmp_path: Path) -> None:
    """Eight of them: who comes second must find all of it."""
    command = [sys.executable, "-c", AT_ONCE, str(tmp_path)]
    told = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    lines = [line.partition(" ") for line in told.splitlines()]
    for turn in {turn for turn, _, _ in lines}:
        keys = {key for of, _, key in lines if of == turn}
        assert len(keys) == 1 and len(keys.pop()) > 40
        (kept,) = (tmp_path / turn).iterdir()
        assert kept.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("command", ["api", "serve"])
def test_the_service_says_so_and_ends(tmp_path: Path, command: str) -> None:
    ours = {"DIFFIN_DATA_DIR": str(tmp_path), "DIFFIN_HOST": "::", "DIFFIN_API_KEY": "secret"}
    ended = subprocess.run(
        [sys.executable, "-m", "diffin.cli", command],
        env=os.environ | ours,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert ended.returncode == 1
    assert "DIFFIN_API_KEY can be guessed" in ended.stderr
    assert "Traceback" not in ended.stderr
    assert not (tmp_path / "diffin.db").exists()
