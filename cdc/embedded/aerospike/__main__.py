"""`python -m cdc.embedded.aerospike`: an emulator on loopback until it is interrupted or its standard input closes.

Prints a line with the hosts, separated by commas, once it serves.
"""

import argparse
import signal
import sys
import threading
from contextlib import closing

from cdc.embedded.aerospike.cluster import Emulator


def main() -> None:
    """Run until told to stop."""
    parser = argparse.ArgumentParser(prog="python -m cdc.embedded.aerospike", description=__doc__)
    parser.add_argument("--port", type=int, default=3000, help="of the first node; the others follow it; 0: free ones")
    parser.add_argument("--nodes", type=int, default=1)
    parser.add_argument("--replication", type=int, default=1)
    parser.add_argument("--namespace", action="append", metavar="NAME[:DEFAULT_TTL]", help="may be given repeatedly")
    parser.add_argument("--persisted", action="store_true", help="namespaces as on a device")
    parser.add_argument("--until-eof", action="store_true", help="stop when standard input closes")
    given = parser.parse_args()
    ttls = [name.partition(":") for name in given.namespace or ["test"]]
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    emulator = Emulator(
        given.nodes,
        {name: int(ttl or 0) for name, _, ttl in ttls},
        replication=given.replication,
        persisted=given.persisted,
        ports=[given.port + i if given.port else 0 for i in range(given.nodes)],
    )
    try:
        emulator.start()
    except OSError as error:
        sys.exit(f"cannot listen on port {given.port}: {error}")
    with closing(emulator):
        sys.stdout.write(",".join(emulator.hosts) + "\n")
        sys.stdout.flush()
        if given.until_eof:
            threading.Thread(target=_stop_at_eof, args=(stop,), daemon=True).start()
        stop.wait()


def _stop_at_eof(stop: threading.Event) -> None:
    sys.stdin.read()
    stop.set()


if __name__ == "__main__":
    main()
