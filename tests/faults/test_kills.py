"""Kill -9 of the whole service at any moment, again and again, while a shop writes: nothing lost, no lie told."""

import json
import random
import time
from collections import Counter

from cdc.clock import wall_clock
from tests.fixtures.service import Service, restored, windows, writing

KILLS = 4
MOMENTS = 3


def told_twice(service: Service) -> dict[str, int]:
    """Versions that a reader of the changes got more than once."""
    told = (json.loads(line) for line in service.operator.good("consume").out.splitlines())
    versions = Counter(json.dumps({**c, "observed_at": 0}, sort_keys=True) for c in told)
    return {version: count for version, count in versions.items() if count > 1}


def test_killed_again_and_again_it_loses_nothing_and_calls_nothing_exact_that_is_wrong(service: Service) -> None:
    dice = random.Random(31)
    shop = service.operator.shop()
    shop.place(300)
    moments = []
    with writing(shop):
        for number in range(KILLS):
            service.start()
            if number:  # the first is killed while it starts, perhaps within the base snapshot
                service.until(lambda: service.health()[0] == 200, "it never worked")
            end = time.monotonic() + dice.uniform(0.2, 2.5)
            while time.monotonic() < end:
                moments.append(wall_clock())
                time.sleep(0.01)
            service.kill()
        service.start()
        service.archived_past(wall_clock())
    end = service.settled()
    assert not [line for line in service.said() if "Error" in line]

    [window] = windows(service.settings)
    assert restored(service, shop, end).different == []
    for at in dice.sample([moment for moment in moments if moment in window], MOMENTS):
        found = restored(service, shop, at)
        assert found.lies == []
        assert found.unsure < len(shop)
    assert told_twice(service) == {}
