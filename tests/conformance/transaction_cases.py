"""Random single-record transactions through the official client, the same for the same seed, and what they give.

`python -m tests.conformance.transaction_cases HOST:PORT` runs them on a server and prints the answers as JSON; those of
Community Edition 8.1.2 are in `transaction_answers.json`. The namespace must have no secondary index: a replacement
that leaves no bin is answered otherwise where one holds the record.
"""

import json
import random
import re
import sys
from typing import Any

import aerospike
from aerospike import exception
from aerospike_helpers import expressions as exp
from aerospike_helpers.batch import records as batch
from aerospike_helpers.operations import expression_operations, list_operations, map_operations, operations

SEEDS = range(8)
STEPS = 80
BINS = ("a", "b", "c")
TOO_LONG = "abcdefghijklmnop"
EXISTS = (
    aerospike.POLICY_EXISTS_CREATE, aerospike.POLICY_EXISTS_UPDATE, aerospike.POLICY_EXISTS_REPLACE,
    aerospike.POLICY_EXISTS_CREATE_OR_REPLACE,
)  # fmt: skip
TTLS = (0, 1000, aerospike.TTL_NEVER_EXPIRE, aerospike.TTL_DONT_UPDATE, 315_360_001)
ACTIONS = ("put", "put", "operate", "operate", "ordered", "get", "exists", "select", "remove", "batch")
Step = dict[str, Any]


def _value(chance: random.Random) -> Any:
    return chance.choice([1, -5, 2**62, 2.5, "x", "", bytearray(b"\0y"), True, [1, "q", [2]], {"k": 1, "z": [1]}])


def _filter(chance: random.Random) -> Any:
    return chance.choice(
        [exp.GT(exp.IntBin("a"), 0), exp.BinExists("b"), exp.LT(exp.TTL(), 5000), exp.KeyExists(), exp.IntBin("a")]
    ).compile()


def _operation(chance: random.Random) -> Any:
    name = chance.choice(BINS)
    read = chance.choice([exp.IntBin(name), exp.KeyExists(), exp.BinExists(name), exp.BinType(name)]).compile()
    return chance.choice(
        [
            operations.write(name, _value(chance)),
            operations.write(name, aerospike.null()),
            operations.read(name),
            operations.increment(name, chance.choice([1, -3, 1.5])),
            operations.append(name, chance.choice(["s", b"q"])),
            operations.prepend(name, "p"),
            operations.touch(),
            operations.delete(),
            list_operations.list_append(name, 7),
            list_operations.list_size(name),
            map_operations.map_put(name, "k", 3),
            expression_operations.expression_read("v", read, chance.choice([0, 16])),
            expression_operations.expression_write(
                name, exp.IntBin(chance.choice("ab")).compile(), chance.choice([0, 1, 2, 4, 8, 16, 20])
            ),
        ]
    )


def steps(seed: int) -> list[Step]:
    """The transactions of a seed."""
    chance = random.Random(seed)
    made: list[Step] = []
    for _ in range(STEPS):
        policy: dict[str, Any] = {}
        meta: dict[str, int] = {}
        if chance.random() < 0.3:
            policy["exists"] = chance.choice(EXISTS)
        if chance.random() < 0.3:
            policy["key"] = aerospike.POLICY_KEY_SEND
        if chance.random() < 0.3:
            policy["gen"] = chance.choice([aerospike.POLICY_GEN_EQ, aerospike.POLICY_GEN_GT])
            meta["gen"] = chance.randint(0, 4)
        if chance.random() < 0.3:
            policy["ttl"] = chance.choice(TTLS)
        if chance.random() < 0.15:
            policy["expressions"] = _filter(chance)
        names = (*BINS, TOO_LONG) if chance.random() < 0.1 else BINS
        made.append(
            {
                "do": chance.choice(ACTIONS),
                "key": chance.randint(0, 4),
                "bins": {chance.choice(names): _value(chance) for _ in range(chance.randint(1, 3))},
                "operations": [_operation(chance) for _ in range(chance.randint(1, 4))],
                "meta": meta,
                "policy": policy,
                "removes": chance.random() < 0.5,
            }
        )
    return made


def answers(client: Any, namespace: str, set_name: str, seed: int) -> list[str]:
    """What each transaction of a seed gives, then what is left of each record, as text. The set must be empty."""
    given = [_answer(client, (namespace, set_name, step["key"]), step) for step in steps(seed)]
    return given + [_answer(client, (namespace, set_name, key), {"do": "get", "policy": {}}) for key in range(5)]


def _answer(client: Any, key: tuple[str, str, Any], step: Step) -> str:
    try:
        given = _do(client, key, step)
    except exception.AerospikeError as error:
        return f"error {error.code}"
    return re.sub(r"'ttl': (99\d|1000)\b", "'ttl': 1000", repr(given))


def _do(client: Any, key: tuple[str, str, Any], step: Step) -> Any:
    policy = step["policy"]
    reading = {name: policy[name] for name in ("expressions", "key") if name in policy}
    match step["do"]:
        case "put":
            return client.put(key, step["bins"], step["meta"], policy)
        case "operate":
            return client.operate(key, step["operations"], step["meta"], policy)[1:]
        case "ordered":
            return client.operate_ordered(key, step["operations"], step["meta"], policy)[1:]
        case "get":
            return client.get(key, reading)[1:]
        case "exists":
            return client.exists(key, reading)[1]
        case "select":
            return client.select(key, list(step["bins"]), reading)[1:]
        case "remove":
            return client.remove(key, step["meta"], {n: v for n, v in policy.items() if n not in ("exists", "ttl")})
    second = batch.Remove(key) if step["removes"] else batch.Read(key, None, read_all_bins=True)
    records = batch.BatchRecords([batch.Write(key, step["operations"], meta=step["meta"], policy=policy), second])
    client.batch_write(records)
    return [(one.result, one.record and one.record[1:]) for one in records.batch_records]


def main() -> None:
    """Record."""
    host, _, port = sys.argv[1].rpartition(":")
    client = aerospike.client({"hosts": [(host, int(port))], "send_bool_as": aerospike.AS_BOOL}).connect()
    recorded = [answers(client, "test", f"cdct-recorded-{seed}", seed) for seed in SEEDS]
    client.close()
    json.dump(recorded, sys.stdout, indent=0)
    sys.stdout.write("\n")


if __name__ == "__main__":
    main()
