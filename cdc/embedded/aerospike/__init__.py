"""An Aerospike emulator: speaks the wire protocol to the official client and to our own bulk reader.

It has what the product and ordinary writers need of Community Edition 8.1.2, keeps time and failures injectable, and
is held to the truth by `tests/conformance/`. `record.py` says what the modules share.

    with Emulator(nodes=2, namespaces=("test",)) as emulator:
        client = aerospike.client({"hosts": [...emulator.hosts]})
"""

from cdc.embedded.aerospike.cluster import Emulator, Node
from cdc.embedded.aerospike.faults import Faults

__all__ = ["Emulator", "Faults", "Node"]
