"""The Python API over an archive of what a server really holds."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from threading import Event
from typing import Any

import pytest

from cdc import Part, Replayer, Settings, Wanted, Watch, digest_of
from cdc.archive import keeps
from cdc.archive.keeps import Keep
from cdc.clock import rfc3339
from cdc.config import AerospikeSettings, DestinationSettings, ReplayerSettings
from cdc.errors import ConfigError, NotRecoverable, ObjectMissing, RestoreError, TargetNotEmpty, UsageError
from cdc.replayer.target import Target
from cdc.replayer.turns import turn
from cdc.source import Source
from cdc.wire import Cluster
from tests.fixtures.restores import History, tick

RECORDS = 200


@pytest.fixture
def settings(aerospike_hosts: list[tuple[str, int]], namespace: str, history: History, tmp_path: Path) -> Settings:
    hosts = tuple(f"{host}:{port}" for host, port in aerospike_hosts)
    return Settings(
        aerospike=AerospikeSettings(hosts=hosts, namespaces=(namespace,)),
        archive=history.settings,
        replayer=ReplayerSettings(batch_records=50, journal=tmp_path / "restores"),
    )


@pytest.fixture
def replayer(settings: Settings) -> Iterator[Replayer]:
    with Replayer(settings) as made:
        yield made


@pytest.fixture
def before(client: Any, namespace: str, set_name: str, history: History) -> int:
    """The moment before half of the records were changed."""
    for key in range(RECORDS):
        client.put((namespace, set_name, key), {"n": key})
    history.look()
    moment = tick(history.now)
    tick(history.now)
    for key in range(0, RECORDS, 2):
        client.put((namespace, set_name, key), {"n": -1})
    history.look()
    return moment


def test_no_namespace_that_is_backed_up_is_a_scratch(settings: Settings, before: int) -> None:
    both = settings.aerospike.model_copy(update={"namespaces": (*settings.aerospike.namespaces, "orders")})
    with Replayer(settings.model_copy(update={"aerospike": both}), namespace=both.namespaces[0]) as replayer:
        for into in both.namespaces:
            with pytest.raises(ConfigError, match=f"{into} is backed up itself"):
                replayer.rehearsal("latest", into=into)
        assert replayer.rehearsal("latest", into="other").into == "other"


def test_a_moment_may_be_said_in_every_way(replayer: Replayer, history: History, before: int) -> None:
    with pytest.raises(NotRecoverable):
        replayer.resolve(before - 3_600_000)
    zoned = datetime.fromtimestamp(before // 1000, timezone(timedelta(hours=2))) + timedelta(milliseconds=before % 1000)
    keeps.add(history.archive.store, replayer.namespace, "deploy", Keep(before, before))
    for said in (before, rfc3339(before), f" {rfc3339(before)}", zoned, zoned.astimezone(UTC), "deploy"):
        assert replayer.resolve(said) == before
    assert replayer.resolve("latest") == replayer.windows()[-1].end
    assert replayer.marks() == {"deploy": Keep(before, before)}
    assert replayer.holes() == history.archive.holes()
    for wrong in ("yesterday", zoned.replace(tzinfo=None), "2026-01-01T00:00:00"):
        with pytest.raises(UsageError):
            replayer.resolve(wrong)


def test_a_clone_is_planned_followed_ended_early_and_done(
    replayer: Replayer, before: int, empty: Target, tmp_path: Path
) -> None:
    wanted = Wanted(existing="replace")
    told: list[tuple[int, int, str]] = []
    named = tmp_path / "named.jsonl"
    plan = replayer.plan(before, empty.namespace, wanted, watch=Watch(progress=lambda *step: told.append(step)))
    assert plan.counts is not None
    assert plan.counts.write == RECORDS
    assert plan.wanted == wanted
    assert told[-1][2] == "count"
    assert not replayer.place(plan).in_place

    stop = Event()
    stop.set()
    ended = replayer.restore(plan, named_file=named, watch=Watch(cancel=stop))
    assert not ended.report.complete
    assert ended.report.written == 0

    done = replayer.restore(plan, named_file=named, watch=Watch(progress=lambda *step: told.append(step)))
    assert done.report.complete
    assert done.report.written == RECORDS
    assert {phase for _, _, phase in told} >= {"count", "write"}
    assert len(empty.source.digests(range(4096))) == RECORDS
    with pytest.raises(TargetNotEmpty):
        replayer.restore(replace(plan, wanted=Wanted()))


def test_a_rewind_of_a_part_leaves_the_rest(
    replayer: Replayer, client: Any, namespace: str, set_name: str, before: int
) -> None:
    one = digest_of(set_name, 2)
    plan = replayer.plan(before, wanted=Wanted(Part(digests=(one,))))
    assert replayer.place(plan).in_place
    assert replayer.restore(plan).report.written == 1
    assert [client.get((namespace, set_name, key))[2]["n"] for key in (2, 4)] == [2, -1]
    assert replayer.show(one, before).held is not None
    assert [version.change["bins"] for version in replayer.history(one).versions] == [{"n": 2}, {"n": -1}]


def test_what_another_machine_restores_in_place_is_not_restored_here_too(
    replayer: Replayer, history: History, client: Any, namespace: str, set_name: str, before: int
) -> None:
    plan = replayer.plan(before, wanted=Wanted(Part(digests=(digest_of(set_name, 2),))))
    with turn(history.archive.store, namespace, "in-place", "elsewhere", pytest.fail):
        with pytest.raises(RestoreError, match=f"{namespace} is being restored in place by elsewhere") as refused:
            replayer.restore(plan)
        assert "if it was killed" in refused.value.hint
        assert replayer.restores() == []
    assert client.get((namespace, set_name, 2))[2] == {"n": -1}
    with turn(history.archive.store, namespace, "drill", "elsewhere", pytest.fail):
        assert replayer.restore(plan).report.written == 1
        with pytest.raises(RestoreError, match=f"{namespace} is being drilled by elsewhere"):
            replayer.drill(replayer.rehearsal(before, into="restore"))


def test_a_namespace_and_a_destination_are_chosen_by_name(settings: Settings, before: int, tmp_path: Path) -> None:
    aerospike = settings.aerospike.model_copy(update={"namespaces": (settings.aerospike.namespace, "other")})
    several = settings.model_copy(update={"aerospike": aerospike})
    with pytest.raises(ConfigError, match="several namespaces"):
        Replayer(several)
    with pytest.raises(ConfigError, match="there is no destination third"):
        Replayer(several, namespace="other", destination="third")
    with pytest.raises(ObjectMissing):
        Replayer(several, namespace="other").windows()
    away = DestinationSettings(path=tmp_path / "away").called("main")
    both = settings.model_copy(
        update={"archive": away, "destinations": {"second": DestinationSettings(path=settings.archive.path)}}
    )
    with pytest.raises(ObjectMissing) as refused:
        Replayer(both).plan(before)
    assert "second can restore this moment: --destination second." in refused.value.hint
    second = Replayer(both, destination="second")
    assert second.destination == "second"
    assert second.plan(before, count=False).at == before


def test_its_clock_is_the_callers(settings: Settings, before: int) -> None:
    replayer = Replayer(settings, clock=lambda: before + 60_000)
    assert replayer.resolve("1m") == before


def test_the_cluster_that_is_meant_is_the_one_that_is_written(replayer: Replayer, cluster: Cluster) -> None:
    hosts = ",".join(replayer.settings.aerospike.hosts)
    place = replayer.place(f"restore@{hosts}")
    assert (place.namespace, place.aerospike.hosts) == ("restore", replayer.settings.aerospike.hosts)
    with Cluster(place.aerospike) as there:
        assert Source(there, place.namespace).namespace == "restore"
    for wrong in ("", "@", "restore@", "@host:1", "restore@host", "re store"):
        if wrong:
            with pytest.raises(UsageError):
                replayer.place(wrong)
    with pytest.raises(UsageError, match="is the namespace itself"):
        replayer.place(replayer.namespace)
