"""The embedded queue: no message can be seen before it is whole."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from kombu import Connection

from app import broker

# Serialising it takes long enough for anybody to look into the folder meanwhile.
SEND = """
import sys
from kombu import Connection
from app import broker
broker.register()
folder = sys.argv[1]
options = {"data_folder_in": folder, "data_folder_out": folder, "control_folder": folder + "/control"}
with Connection("filesystem://", transport_options=options) as connection:
    connection.SimpleQueue("cpu").put(list(range(300_000)))
"""


def test_a_message_is_seen_whole_or_not_at_all(tmp_path: Path) -> None:
    sender = subprocess.Popen([sys.executable, "-c", SEND, str(tmp_path)])
    while not (messages := list(tmp_path.glob("*.cpu.msg"))):
        assert sender.poll() in (None, 0)
    assert json.loads(messages[0].read_text())["body"]
    assert sender.wait() == 0
    assert list(tmp_path.glob("*.part")) == []


@pytest.mark.parametrize("folder", ["first", "second"])  # of one process, which must not mix them up
def test_what_was_sent_is_received(tmp_path: Path, folder: str) -> None:
    broker.register()
    (place := tmp_path / folder).mkdir()
    folders = dict.fromkeys(("data_folder_in", "data_folder_out"), str(place))
    options = folders | {"control_folder": str(place / "control")}
    with Connection("filesystem://", transport_options=options) as connection:
        assert type(connection.transport).__module__ == broker.__name__
        queue = connection.SimpleQueue("cpu")
        for number in range(20):
            queue.put({"number": number})
        assert sorted(queue.get(timeout=5).payload["number"] for _ in range(20)) == list(range(20))
