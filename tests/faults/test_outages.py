"""What the service stands on goes away for a while: it says so once, is not healthy, tries again, and loses nothing."""

import itertools
from collections.abc import Iterator
from pathlib import Path

import aerospike
import pytest

from cdc.clock import wall_clock
from cdc.embedded.aerospike import Emulator
from cdc.embedded.kafka import EmbeddedKafka
from cdc.embedded.shop import SET, Shop
from tests.fixtures.commands import TARGET, Operator
from tests.fixtures.service import Service, restored, states, windows, writing


def complaints(service: Service, role: str) -> list[str]:
    """What a role said of the trouble it was in and out of, without the details."""
    said = [line for line in service.said() if line.startswith(f"{role} {service.operator.namespace}: ")]
    return [line.split(": ")[1] for line in said if line.endswith(("; trying again", ": goes on"))]


def assert_told(said: list[str], first: str) -> None:
    """An outage is told by its name and so is its end. What returns may go once more, and is then told once more; but
    nothing is told twice in a row."""
    assert (said[0], said[-1]) == (first, "goes on")
    assert all(a != b for a, b in itertools.pairwise(said))


def running(service: Service, orders: int) -> Shop:
    """A shop whose orders are all in the archive of a service that goes on."""
    shop = service.operator.shop()
    shop.place(orders)
    service.start()
    service.archived_past(wall_clock())
    return shop


def test_kafka_is_killed_in_the_middle_of_its_work(service: Service, kafka: EmbeddedKafka) -> None:
    shop = running(service, 300)
    with writing(shop):
        service.archived_past(wall_clock())
        kafka.stop(kill=True)
        try:
            during = wall_clock()
            service.until(lambda: service.health()[0] == 503, "it calls itself healthy")
            service.until(lambda: all(complaints(service, r) for r in ("collector", "compactor")), "it says nothing")
        finally:
            kafka.start()
        service.until(lambda: service.health()[0] == 200, "it does not get well")
    end = service.settled()
    for role in ("collector", "compactor"):
        assert_told(complaints(service, role), "BrokerUnreachable")
    assert restored(service, shop, end).different == []
    assert restored(service, shop, during).lies == []


@pytest.mark.parametrize(
    ("instead", "errors"),
    [("a file", {"StoreForbidden"}), ("an empty directory", {"StoreUnreachable", "ObjectMissing", "CommitLost"})],
    ids=["a file in its place", "an empty directory in its place"],
)
def test_the_archive_cannot_be_written_for_a_while(
    service: Service, tmp_path: Path, instead: str, errors: set[str]
) -> None:
    shop = running(service, 300)
    archive, away = tmp_path / "archive", tmp_path / "away"
    with writing(shop):
        archive.rename(away)
        if instead == "a file":
            archive.write_text("where a directory is wanted")
        elif instead == "an empty directory":  # as below a disk that was unmounted
            archive.mkdir()
        try:
            during = wall_clock()
            service.until(lambda: service.health()[0] == 503, "it calls itself healthy")
            service.until(lambda: complaints(service, "compactor"), "it says nothing")
        finally:
            assert not list(archive.rglob("manifests")), "it began another archive"
            if archive.exists():
                archive.rename(tmp_path / "instead")
            away.rename(archive)
        service.until(lambda: service.health()[0] == 200, "it does not get well")
    end = service.settled()
    assert complaints(service, "collector") == []
    told = complaints(service, "compactor")
    assert told[0] in errors
    assert_told(told, told[0])
    assert restored(service, shop, end).different == []
    assert restored(service, shop, during).lies == []


@pytest.fixture
def emulator(operator: Operator) -> Iterator[Emulator]:
    """The operator's cluster, in this process and as on a device, so that a test can stop and start it."""
    with Emulator(namespaces=(operator.namespace, TARGET), persisted=True) as emulator:
        host, _, port = emulator.hosts[0].rpartition(":")
        client = aerospike.client({"hosts": [(host, int(port))]}).connect()
        before = operator.client
        operator.hosts, operator.client = emulator.hosts[0], client
        yield emulator
        operator.client = before
        client.close()


@pytest.mark.emulator_only
def test_the_cluster_goes_away_and_returns_with_records_that_were_deleted(service: Service, emulator: Emulator) -> None:
    service.configure(sweep_every_s=0.5)  # a sweep takes an emulator in the test's own process long enough
    shop = running(service, 200)
    shop.trade(100)
    before = shop.at(wall_clock())
    removed = [order for order, bins in before.items() if bins is None]
    assert removed
    service.archived_past(wall_clock())
    quiet = wall_clock()
    emulator.kill(0)
    service.until(lambda: service.health()[0] == 503, "it calls itself healthy")
    emulator.restart(0)
    service.until(lambda: service.health()[0] == 200, "it does not get well")
    # Community Edition has no tombstones: what was deleted comes back from the device, older than any sweep asks for.
    place = service.operator.namespace, SET
    returned = {order: service.operator.client.get((*place, order))[2] for order in removed}
    between = wall_clock()
    shop.trade(50)
    digests = {bytes(aerospike.calc_digest(*place, order)) for order in removed}

    def captured() -> bool:
        there = states(service.settings, windows(service.settings)[-1].end)
        return all(there.get(digest, (False, None))[0] for digest in digests)

    service.until(captured, "what came back is not captured")
    end = service.settled()
    assert_told(complaints(service, "collector"), "ClusterUnreachable")
    assert complaints(service, "compactor") == []
    assert restored(service, shop, end, shop.at(end) | returned).different == []
    assert restored(service, shop, between, shop.at(between) | returned).lies == []
    assert restored(service, shop, quiet).different == []
