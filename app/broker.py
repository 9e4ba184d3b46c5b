"""The embedded queue: kombu's folder of files, with messages that are there whole or not at all.

kombu writes a message under its final name, so that a worker may take it before it is written; its consumer
then ends on what is no JSON. `register()` puts a transport in its place that writes beside and renames.
"""

from __future__ import annotations

import uuid
from pathlib import Path
from time import monotonic
from typing import Any

from kombu.exceptions import ChannelError
from kombu.transport import TRANSPORT_ALIASES, filesystem, virtual
from kombu.utils.json import dumps


class Channel(filesystem.Channel):
    def _put(self, queue: str, payload: Any, **_: Any) -> None:
        folder = Path(self.data_folder_out)
        name = f"{round(monotonic() * 1000)}_{uuid.uuid4()}"
        partial = folder / f"{name}.part"  # no queue is called so
        try:
            partial.write_text(dumps(payload))
            partial.replace(folder / f"{name}.{queue}.msg")
        except OSError as problem:
            partial.unlink(missing_ok=True)
            raise ChannelError(f"cannot add a message to {folder}") from problem


class Transport(filesystem.Transport):
    Channel = Channel

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        # kombu remembers for the whole process which queues are bound, whatever the folder: a second folder
        # would get no table of them, and what is sent there would reach nobody
        self.state = virtual.BrokerState()


def register() -> None:
    """Makes `filesystem://` mean this transport, in this process."""
    TRANSPORT_ALIASES["filesystem"] = f"{__name__}:Transport"
