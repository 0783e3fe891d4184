"""`run` where Kafka is not there (yet): it waits and says so, and ends when it is told to."""

import time

import pytest

from cdc.clock import wall_clock
from cdc.embedded.kafka import EmbeddedKafka
from tests.fixtures.service import Service, restored

PATIENT = {"timeout_s": 60}
"""For a broker: so that whoever waits for one is seen to."""
SOON_S = 15.0
"""A machine that is busy with other tests takes its time; to wait for the broker would take four times as long."""


def said(service: Service, role: str) -> list[str]:
    """The names of what a role was troubled by, and that it went on."""
    head = f"{role} {service.operator.namespace}: "
    lines = [line.removeprefix(head) for line in service.said() if line.startswith(head)]
    return [line.split(":")[0] for line in lines if line.endswith(("; trying again", "goes on"))]


def test_a_broker_that_is_started_later_is_waited_for(service: Service, kafka: EmbeddedKafka) -> None:
    shop = service.operator.shop()
    shop.place(50)
    kafka.stop()
    try:
        service.start()
        service.until(lambda: said(service, "collector") and said(service, "compactor"), "it says nothing")
        assert service.health()[0] == 503
    finally:
        kafka.start()
    service.until(lambda: service.health()[0] == 200, "it does not get well")
    end = service.settled()
    assert said(service, "collector") == said(service, "compactor") == ["BrokerUnreachable", "goes on"]
    assert restored(service, shop, end).different == []


@pytest.mark.parametrize("told", [True, False])
def test_it_ends_soon_where_the_broker_is_away_and_nothing_is_lost(
    service: Service, kafka: EmbeddedKafka, told: bool
) -> None:
    """Whether it has noticed already or not."""
    service.configure(kafka={"timeout_s": 3} if told else PATIENT)
    shop = service.operator.shop()
    shop.place(50)
    service.start()
    service.archived_past(wall_clock())
    shop.place(50)
    kafka.stop(kill=True)
    try:
        if told:
            service.until(lambda: "BrokerUnreachable" in said(service, "collector"), "it says nothing")
            service.stop()
            service.configure(kafka=PATIENT)
            service.start()
            service.until(lambda: service.health()[0] == 503, "it does not listen")
        began = time.monotonic()
        service.stop()
        assert time.monotonic() - began < SOON_S
        assert any(line.startswith("stopped") for line in service.said())
    finally:
        kafka.start()
    service.start()
    assert restored(service, shop, service.settled()).different == []
