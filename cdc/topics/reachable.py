"""Whether anybody is there, told at once: librdkafka waits its whole time-out even where connections are refused."""

import re
import socket
import time
from typing import Final

from cdc.config import KafkaSettings
from cdc.errors import BrokerUnreachable
from cdc.topics.client import own

PORT: Final = 9092
"""Of a broker whose port is not named, as librdkafka has it."""

_BROKER: Final = re.compile(r"(?:\w+://)?(?:\[([^\]]+)\]|([^:\[\]]+))(?::(\d+))?")


def require_reachable(settings: KafkaSettings) -> None:
    """Raise BrokerUnreachable where none of the named brokers takes a connection in time. What is not HOST:PORT is left
    to librdkafka."""
    named = str(own(settings).get("bootstrap.servers", settings.bootstrap))
    found = [_BROKER.fullmatch(name.strip()) for name in named.split(",") if name.strip()]
    deadline = time.monotonic() + settings.timeout_s
    said = "no broker is named"
    for i, broker in enumerate(found):
        if broker is None:
            return
        host, port = broker[1] or broker[2], int(broker[3] or PORT)
        left = max(0.1, (deadline - time.monotonic()) / (len(found) - i))
        try:
            socket.create_connection((host, port), left).close()
        except OSError as error:
            said = f"{host}:{port}: {error.strerror or error}"
        else:
            return
    raise BrokerUnreachable(f"no broker of {named} answers: {said}")
