"""A shop that writes orders through the official client and remembers the truth: the demo's application.

Every write asks the server for the last-update-time that it got, in the same transaction, so that the shop knows what
any order was like at any moment, whatever the backup says.
"""

import random
from bisect import bisect_right
from dataclasses import dataclass, field
from typing import Any

import aerospike
from aerospike import exception
from aerospike_helpers.expressions import LastUpdateTime
from aerospike_helpers.operations import expression_operations, operations

from cdc.clock import Clock, wall_clock

SET = "orders"
_LUT_BIN = "~lut"
_STATES = ("placed", "paid", "packed", "shipped", "delivered")
_GOODS = ("kettle", "lamp", "teapot", "chair", "clock", "mirror", "basket", "ladder")

Bins = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Difference:
    """An order that is not what it should be; None stands for "there is none"."""

    order: str
    expected: Bins | None
    found: Bins | None


@dataclass(slots=True)
class Shop:
    """Orders in one set of one namespace. `seed` decides everything but the time."""

    client: aerospike.Client
    namespace: str
    seed: int = 7
    clock: Clock = wall_clock
    _random: random.Random = field(init=False)
    _truth: dict[str, list[tuple[int, Bins | None]]] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        self._random = random.Random(self.seed)

    def place(self, count: int) -> None:
        """New orders."""
        for _ in range(count):
            self._write(f"order-{len(self._truth) + 1:06d}", self._new_order())

    def trade(self, count: int) -> None:
        """Day-to-day changes: most move an order on, some are new, a few delete one."""
        for _ in range(count):
            dice = self._random.random()
            order = self._pick()
            if dice < 0.1 or order is None:
                self.place(1)
            elif dice < 0.13:
                self._remove(order)
            else:
                bins = dict(self.now(order) or {})
                state = _STATES.index(bins["state"])
                bins["state"] = _STATES[min(state + 1, len(_STATES) - 1)]
                bins["log"] = [*bins["log"], bins["state"]]
                self._write(order, bins)

    def bad_deploy(self, corrupt: int, delete: int) -> tuple[list[str], list[str]]:
        """What should not have happened: totals become negative and items vanish; other orders are deleted."""
        victims = self._random.sample([order for order in self._truth if self.now(order) is not None], corrupt + delete)
        for order in victims[:corrupt]:
            self._write(order, {**(self.now(order) or {}), "total": -1.0, "items": []})
        for order in victims[corrupt:]:
            self._remove(order)
        return victims[:corrupt], victims[corrupt:]

    def now(self, order: str) -> Bins | None:
        """The order as it should be now."""
        return self._truth[order][-1][1]

    def at(self, moment: int) -> dict[str, Bins | None]:
        """Every order as it was at `moment` (milliseconds), None where there was none."""
        state: dict[str, Bins | None] = {}
        for order, versions in self._truth.items():
            last = bisect_right(versions, moment, key=lambda version: version[0])
            state[order] = versions[last - 1][1] if last else None
        return state

    def differences(self, expected: dict[str, Bins | None], namespace: str = "") -> list[Difference]:
        """Every order of the database compared with `expected`, read through the official client."""
        found: list[Difference] = []
        for order, bins in expected.items():
            try:
                _, _, read = self.client.get((namespace or self.namespace, SET, order))
            except exception.RecordNotFound:
                read = None
            if read != bins:
                found.append(Difference(order, bins, read))
        return found

    def changed_since(self, moment: int) -> set[str]:
        """The orders that were written or deleted after `moment`."""
        return {order for order, versions in self._truth.items() if versions[-1][0] > moment}

    def generations(self) -> dict[str, int]:
        """How often the server says that each order has been written."""
        keys = [(self.namespace, SET, order) for order in self._truth]
        found: dict[str, int] = {}
        for start in range(0, len(keys), 1000):
            records = self.client.batch_read(keys[start : start + 1000], []).batch_records
            found |= {row.key[2]: row.record[1]["gen"] for row in records if row.result == 0}
        return found

    def __len__(self) -> int:
        return sum(versions[-1][1] is not None for versions in self._truth.values())

    def _new_order(self) -> Bins:
        items = [
            {"article": self._random.choice(_GOODS), "count": self._random.randint(1, 5)}
            for _ in range(self._random.randint(1, 3))
        ]
        return {
            "customer": self._random.randint(1, 5000),
            "total": round(self._random.uniform(5, 500), 2),
            "state": _STATES[0],
            "items": items,
            "log": [_STATES[0]],
            "token": bytearray(self._random.randbytes(16)),
        }

    def _pick(self) -> str | None:
        """One of the live orders, the recent ones more often."""
        names = list(self._truth)
        for _ in range(20):
            order = names[min(int(self._random.paretovariate(1.2)), len(names)) * -1] if names else None
            if order is not None and self.now(order) is not None:
                return order
        return None

    def _write(self, order: str, bins: Bins) -> None:
        steps = [operations.write(name, value) for name, value in bins.items()]
        steps.append(expression_operations.expression_read(_LUT_BIN, LastUpdateTime().compile()))
        policy = {"key": aerospike.POLICY_KEY_SEND, "exists": aerospike.POLICY_EXISTS_IGNORE}
        _, _, answer = self.client.operate((self.namespace, SET, order), steps, policy=policy)
        self._truth.setdefault(order, []).append((answer[_LUT_BIN] // 1_000_000, bins))

    def _remove(self, order: str) -> None:
        self.client.remove((self.namespace, SET, order))
        self._truth[order].append((self.clock(), None))
