"""A collector captures what is in scope, finds its deletes, and begins anew when the scope is another."""

import base64
from dataclasses import replace
from typing import Any

import aerospike
import pytest
from aerospike_helpers import expressions as exp

from cdc.config import ScopeSettings
from cdc.model import Op
from cdc.source import Scope
from tests.fixtures.collecting import Scene

PLACES = ("mine", "yours", "")


def under(scene: Scene, **scope: Any) -> Scene:
    """The same scene, with this scope for its namespace; `mine` and `yours` stand for sets of the test's own."""
    named = {k: tuple(in_test(scene, n) for n in v) if k != "filter" else v for k, v in scope.items()}
    settings = scene.settings.model_copy(
        update={"scope": {scene.settings.aerospike.namespace: ScopeSettings.model_validate(named)}}
    )
    return replace(scene, settings=settings)


def in_test(scene: Scene, place: str) -> str:
    return f"{scene.set_name}-{place}" if place else ""


class Records:
    """Ten records in each place, every one known by place and number."""

    def __init__(self, scene: Scene) -> None:
        self.scene = scene
        self.names = {self.digest(place, i): (place, i) for place in PLACES for i in range(20)}
        for place in PLACES:
            for i in range(10):
                self.put(place, i, i)

    def key(self, place: str, i: int) -> tuple[str, str | None, str]:
        return self.scene.settings.aerospike.namespace, in_test(self.scene, place) or None, f"{self.scene.set_name}-{i}"

    def digest(self, place: str, i: int) -> bytes:
        namespace, set_name, key = self.key(place, i)
        return bytes(aerospike.calc_digest(namespace, set_name or "", key))

    def put(self, place: str, i: int, value: int) -> None:
        self.scene.client.put(self.key(place, i), {"v": value})

    def remove(self, place: str, i: int) -> None:
        self.scene.client.remove(self.key(place, i))

    def captured(self, scene: Scene) -> set[tuple[str, int]]:
        """The live records as Kafka tells them, of those that this test wrote."""
        return {self.names[digest] for digest in scene.captured() if digest in self.names}

    def ended(self, scene: Scene) -> set[tuple[str, int]]:
        changes = scene.changes()
        digests = [d.tobytes() for d in changes.digest[changes.op == Op.DELETE]]
        return {self.names[d] for d in digests if d in self.names}

    def clear(self) -> None:
        for place, i in self.names.values():
            if self.scene.client.exists(self.key(place, i))[1] is not None:
                self.remove(place, i)


@pytest.fixture
def records(scene: Scene) -> Any:
    made = Records(scene)
    yield made
    made.clear()


def ten(*places: str) -> set[tuple[str, int]]:
    return {(place, i) for place in places for i in range(10)}


@pytest.mark.parametrize(
    ("scope", "places"),
    [
        ({"include": ["mine"]}, ["mine"]),
        ({"include": ["mine", ""]}, ["mine", ""]),
        ({"exclude": ["yours"]}, ["mine", ""]),
        ({"exclude": [""]}, ["mine", "yours"]),
    ],
)
def test_changes_and_deletes_in_scope_are_captured_and_no_others(
    scene: Scene, records: Records, scope: dict[str, list[str]], places: list[str]
) -> None:
    limited = under(scene, **scope)
    limited.once()
    assert records.captured(limited) == ten(*places)
    for place in PLACES:
        records.put(place, 0, 100)
        records.put(place, 10, 10)
        records.remove(place, 1)
    limited.once()
    assert records.captured(limited) == (ten(*places) | {(p, 10) for p in places}) - {(p, 1) for p in places}
    assert records.ended(limited) == {(p, 1) for p in places}
    said = {p.scope for p in limited.all_progress()}
    assert said == {Scope.of(limited.settings.scope[limited.settings.aerospike.namespace]).text()} != {""}


def test_a_collector_names_its_only_set_once_the_nodes_know_it(scene: Scene, records: Records) -> None:
    limited = under(scene, include=["mine"])
    with limited.collector() as collector:
        collector.run_once()
        assert [part.set_name for part in collector._session.source.parts] == [in_test(scene, "mine")]
        assert records.captured(limited) == ten("mine")


def test_a_delete_behind_an_insert_out_of_scope_is_found(scene: Scene, records: Records) -> None:
    limited = under(scene, include=["mine"])
    limited.once()
    for i in range(5):  # no partition's count need be lower than before
        records.remove("mine", i)
        records.put("yours", 10 + i, 0)
    limited.once()
    assert records.captured(limited) == ten("mine") - {("mine", i) for i in range(5)}


def test_a_record_that_begins_or_ceases_to_match_a_filter_comes_and_goes(scene: Scene, records: Records) -> None:
    expression = exp.LT(exp.IntBin("v"), 5).compile()
    limited = under(scene, exclude=["yours"], filter=scene.client.get_expression_base64(expression))
    limited.once()
    matching = {(p, i) for p in ("mine", "") for i in range(5)}
    assert records.captured(limited) == matching
    records.put("mine", 0, 50)
    records.put("mine", 9, 1)
    records.put("yours", 0, 1)
    limited.once()
    assert records.captured(limited) == (matching - {("mine", 0)}) | {("mine", 9)}
    assert records.ended(limited) == {("mine", 0)}


def test_another_scope_begins_a_new_history_and_what_left_it_is_not_told_as_deleted(
    scene: Scene, records: Records
) -> None:
    both, one = under(scene, include=["mine", "yours"]), under(scene, include=["mine"])
    both.once()
    same = both.once()
    assert not same.notes
    epochs = {p.epoch for p in both.all_progress()}
    assert len(epochs) == 2  # one a shard
    notes = one.once().notes
    assert any("the scope was sets" in note and "is sets" in note for note in notes), notes
    assert not records.ended(one)
    later = {p.epoch: p.scope for p in one.all_progress()}
    assert {later[e] for e in later.keys() - epochs} == {Scope((in_test(one, "mine"),)).text()}
    records.remove("yours", 0)
    records.remove("mine", 0)
    one.once()
    assert records.ended(one) == {("mine", 0)}
    everything = scene.once()
    assert any("is everything now" in note for note in everything.notes)
    assert records.captured(scene) >= ten("mine", "yours", "") - {("mine", 0), ("yours", 0)}


def test_a_filter_that_the_settings_name_is_the_clients(scene: Scene) -> None:
    text = scene.client.get_expression_base64(exp.GT(exp.TTL(), 60).compile())
    assert Scope.of(ScopeSettings(filter=text)).filter == base64.b64decode(text)
