"""The base snapshot into Kafka beside a full backup to disk, round by round."""

from tests.bench import peers
from tests.bench.bench import Bench, ratio
from tests.bench.measure import Cost, Role, run_role

PART = "base snapshot"


def measure(bench: Bench) -> str:
    """Returns the run whose topics and catalog the other measurements go on with."""
    beside = peers.there(bench.place)
    ours: list[Role] = []
    broker: list[float] = []
    theirs: dict[str, list[Cost]] = {"ZSTD": [], "NONE": []}
    run = ""
    for number in range(bench.rounds):
        run = f"bench-{number}"
        with bench.broker_cpu() as spent:
            ours.append(run_role("base", settings=bench.settings(run).model_dump(mode="json")))
        broker += spent
        if beside:
            for compress, costs in theirs.items():
                costs.append(peers.backup(bench.place, bench.fresh(f"backup-{compress}"), compress))
    captured = {role.extra["captured"] for role in ours}
    bench.check("the base snapshot has every record", captured == {bench.records}, str(sorted(captured)))
    base = bench.add(PART, "collector, into Kafka", [role.work for role in ours], bench.records)
    looks = [Cost(role.extra["look_s"]["BASE"], role.work.cpu_s) for role in ours]
    bench.add(PART, "  of it from its first request on", looks, bench.records, "the rest is connecting and joining")
    whole = [Cost(**role.extra["run_once"]) for role in ours]
    bench.add(PART, "  with the first sweep and reconciling", whole, bench.records)
    bench.add(PART, "  before it: interpreter and imports", [role.ready for role in ours], 0)
    if broker:
        costs = [Cost(role.work.wall_s, spent) for role, spent in zip(ours, broker, strict=True)]
        bench.add(PART, "  beside it: the broker", costs, 0)
    if beside:
        packed = bench.add(PART, "asbackup, to disk, ZSTD", theirs["ZSTD"], bench.records)
        plain = bench.add(PART, "asbackup, to disk", theirs["NONE"], bench.records)
        quickest = min(packed.cost.wall_s, plain.cost.wall_s)
        bench.check(
            "a base snapshot is no slower than asbackup", base.cost.wall_s <= quickest,
            f"{ratio(packed.cost.wall_s, base.cost.wall_s)} the speed with ZSTD, "
            f"{ratio(plain.cost.wall_s, base.cost.wall_s)} without",
        )  # fmt: skip
        bench.check(
            "at half its CPU or less", base.cost.cpu_s <= packed.cost.cpu_s / 2,
            f"{ratio(base.cost.cpu_s, packed.cost.cpu_s)} its CPU with ZSTD, "
            f"{ratio(base.cost.cpu_s, plain.cost.cpu_s)} without",
        )  # fmt: skip
    bench.within_memory("collector", Cost.median(whole))
    return run
