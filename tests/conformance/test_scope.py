"""Which records a source shows under a scope, by every way of asking for it."""

import base64
from collections.abc import Callable, Iterator
from typing import Any

import aerospike
import pytest
from aerospike_helpers import expressions as exp

from cdc.model import PARTITIONS
from cdc.source import Scope, Source
from cdc.wire import Cluster

EVERYTHING = range(PARTITIONS)
PLACES = ("one", "two", "three", None)
"""Four records in each of three sets and in none."""


@pytest.fixture
def digests(client: Any, namespace: str, set_name: str) -> Iterator[dict[tuple[str | None, int], bytes]]:
    keys = {
        (place, i): (namespace, f"{set_name}-{place}" if place else None, f"{set_name}-{i}")
        for place in PLACES
        for i in range(4)
    }
    for (_, i), key in keys.items():
        client.put(key, {"v": i})
    yield {name: bytes(aerospike.calc_digest(key[0], key[1] or "", key[2])) for name, key in keys.items()}
    for key in keys.values():
        client.remove(key)


def shown(source: Source, digests: dict[tuple[str | None, int], bytes]) -> set[tuple[str | None, int]]:
    """Which of the test's records a source shows, the same in a look at contents and in one at digests."""
    names = {digest: name for name, digest in digests.items()}
    seen = source.observe(EVERYTHING).records.digest
    found = [d.tobytes() for d in seen]
    assert sorted(found) == sorted({d.tobytes() for d in source.digests(EVERYTHING).digest})
    assert len(found) == len(set(found))
    return {names[d] for d in found if d in names}


@pytest.fixture
def index(info: Callable[[str], str], namespace: str, set_name: str) -> Iterator[Callable[[str, bool], None]]:
    """Switches a set's index on or off."""
    switched = []

    def switch(place: str, on: bool) -> None:
        switched.append(place)
        said = f"namespace={namespace};set={set_name}-{place};enable-index={str(on).lower()}"
        assert info(f"set-config:context=namespace;{said}") == "ok"

    yield switch
    for place in set(switched):
        switch(place, False)


def test_included_and_excluded_sets(
    cluster: Cluster, namespace: str, set_name: str, digests: dict[tuple[str | None, int], bytes]
) -> None:
    def of(**scope: Any) -> set[str | None]:
        named = {k: tuple(f"{set_name}-{p}" if p else "" for p in v) for k, v in scope.items()}
        found = shown(Source(cluster, namespace, scope=Scope(**named)), digests)
        places = {place for place, _ in found}
        assert len(found) == 4 * len(places)
        return places

    assert of() == set(PLACES)
    assert of(include=["one"]) == {"one"}
    assert of(include=["one", ""]) == {"one", None}
    assert of(include=[""]) == {None}
    assert of(exclude=["one"]) == {"two", "three", None}
    assert of(exclude=["one", ""]) == {"two", "three"}
    assert of(exclude=[""]) == {"one", "two", "three"}


def test_a_filter_looks_at_bins_of_the_sets_in_scope(
    client: Any, cluster: Cluster, namespace: str, set_name: str, digests: dict[tuple[str | None, int], bytes]
) -> None:
    packed = base64.b64decode(client.get_expression_base64(exp.GE(exp.IntBin("v"), 2).compile()))
    some = Source(cluster, namespace, scope=Scope((f"{set_name}-one", ""), filter=packed))
    assert shown(some, digests) == {(place, i) for place in ("one", None) for i in (2, 3)}
    rest = Source(cluster, namespace, scope=Scope(exclude=(f"{set_name}-one", ""), filter=packed))
    assert shown(rest, digests) == {(place, i) for place in ("two", "three") for i in (2, 3)}


def test_sets_are_shown_the_same_through_their_indexes(
    cluster: Cluster,
    namespace: str,
    set_name: str,
    digests: dict[tuple[str | None, int], bytes],
    index: Callable[[str, bool], None],
    until: Callable[..., Any],
) -> None:
    one = Source(cluster, namespace, scope=Scope((f"{set_name}-one",)))
    two = Source(cluster, namespace, scope=Scope((f"{set_name}-one", f"{set_name}-two")))
    several = [part.set_name for part in two.parts]
    one.learn_sets()
    two.learn_sets()
    assert ([part.set_name for part in one.parts], several) == ([f"{set_name}-one"], [None])
    assert [part.set_name for part in two.parts] == [None]
    assert shown(one, digests) == {("one", i) for i in range(4)}

    index("one", True)
    index("two", True)

    def used() -> bool:
        two.learn_sets()
        return len(two.parts) == 2

    until(used)
    one.learn_sets()
    assert shown(one, digests) == {("one", i) for i in range(4)}
    assert shown(two, digests) == {(place, i) for place in ("one", "two") for i in range(4)}
    index("two", False)
    until(lambda: not used())
    assert shown(two, digests) == {(place, i) for place in ("one", "two") for i in range(4)}


def test_a_set_that_nobody_knows_is_asked_for_without_its_name(cluster: Cluster, namespace: str, set_name: str) -> None:
    source = Source(cluster, namespace, scope=Scope((f"{set_name}-never-written",)))
    source.learn_sets()
    assert [part.set_name for part in source.parts] == [None]
    assert len(source.observe(EVERYTHING)) == 0
