"""The whole of it in real time, a server over the wire, Kafka, all roles: see `live_claims` for what is asserted.

With AEROSPIKE_HOSTS the server is that one; it has one node, a namespace to clone into (AEROSPIKE_TARGET, `restore`
unless given), and nobody else writes there.
"""

import os
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import aerospike
import pytest
from hypothesis import HealthCheck, Phase, example, given, settings

from cdc.embedded.kafka import EmbeddedKafka
from cdc.source import Source
from cdc.wire import Cluster
from tests.model import live_claims
from tests.model.live import PATIENT, SETS, Delete, Program, Put, Stretch, Touch, Truncate, Truth, Wait, programs
from tests.model.live_drive import LiveDrive, settings_for

EXAMPLES = max(3, int(os.environ.get("CDC_MODEL_EXAMPLES", "0")) // 100)
"""Each takes seconds of real time: one for every hundred of the model in memory."""

EVERYTHING = Program(
    (Put(0), Put(1), Put(8), Put(2, 2)),
    (
        Stretch("round", (Put(3), Put(0), Delete(1))),
        Stretch("serve", (Put(1), Wait(250), Delete(0), Put(4, 1), Wait(300), Delete(1, again=True), Wait(300))),
        Stretch("serve", (Put(11), Wait(200), Truncate(SETS[0]), Put(6), Wait(300)), dies=1, compacts=True),
        Stretch("away", (Delete(11), Put(5), Put(5), Delete(6), Put(0), Put(7), Delete(7))),
        Stretch("round", (Touch(8, 1), Wait(50), Touch(0))),
        Stretch("round", (Put(0), Wait(50), Delete(0, again=True)), loses=True),
        Stretch("audit", (Put(3), Wait(50), Delete(3), Put(10, 1), Touch(10))),
        Stretch("serve", (Delete(5), Wait(300), Wait(300), Put(5), Wait(300), Truncate(SETS[1]), Wait(300))),
    ),
    0.7,
)  # fmt: skip


class Place:
    """Where programs run, one after the other."""

    def __init__(self, hosts: list[tuple[str, int]], namespace: str, kafka: EmbeddedKafka, target: Source) -> None:
        self.hosts, self.namespace, self.kafka, self.target = hosts, namespace, kafka, target
        policies = dict.fromkeys(("read", "write", "operate", "remove", "info"), PATIENT)
        policies["info"] = {"timeout": 20_000}
        self.client = aerospike.client({"hosts": hosts, "policies": policies}).connect()

    def check(self, program: Program, directory: Path) -> None:
        """Run a program and hold what is claimed afterwards against what happened."""
        truth = Truth(self.client, self.namespace)
        try:
            drive = LiveDrive(program, truth, settings_for(self.hosts, self.namespace, self.kafka.bootstrap, directory))
            live_claims.check(drive, drive.run(), self.target)
        finally:
            truth.clean()


@pytest.fixture(scope="module")
def place(
    aerospike_hosts: list[tuple[str, int]], namespace: str, kafka: EmbeddedKafka, cluster: Cluster
) -> Iterator[Place]:
    made = Place(aerospike_hosts, namespace, kafka, Source(cluster, os.environ.get("AEROSPIKE_TARGET", "restore")))
    yield made
    made.client.close()


@settings(
    max_examples=EXAMPLES, deadline=None, derandomize="CDC_MODEL_EXAMPLES" not in os.environ, print_blob=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
    phases=[Phase.explicit, Phase.reuse, Phase.generate, Phase.shrink],
)  # fmt: skip
@given(program=programs)
@example(EVERYTHING)
def test_what_is_called_exact_is_so_and_a_record_at_rest_is_exact_on_a_server_in_real_time(
    tmp_path_factory: pytest.TempPathFactory, place: Place, program: Program
) -> None:
    with TemporaryDirectory(dir=tmp_path_factory.getbasetemp()) as directory:
        place.check(program, Path(directory))
